//! The colour and depth camera of a room.
//!
//! What stands looks the same in every frame: a [`View`] casts its rays once per room, and a frame casts only where the
//! person can be. Light comes from the lamps (Lambert's cosine, the inverse square) and from everywhere; a person takes
//! light from what is near to it by the share of the half space that its parts cover.
//!
//! Depth is that of a stereo camera: disparity f·b/z has an error of [`disparity_noise`](super::Camera::disparity_noise)
//! that changes over patches of 16 pixels, and steps of 1/32 pixel; so at 3 m depth is good to about 3 cm in steps of
//! 1.4 cm. Pixels at the left of a near edge, which one eye does not see, have no depth.

use std::io::Cursor;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageError};
use nalgebra::{Isometry3, Point3, Vector3};
use parry3d::math::Vector;
use rayon::prelude::*;

use super::{Camera, Room, RoomScene};
use crate::simulate::caster::{Caster, Hit, Solids};
use crate::simulate::place;
use crate::simulate::random::{Purpose, Random, mix};
use crate::simulate::solid::Solid;
use crate::space;

/// How far a ray is followed, metres.
const FAR_M: f32 = 60.0;
/// Steps of a disparity per pixel.
const DISPARITY_STEPS: f64 = 32.0;

/// A pinhole camera in the unit frame.
#[derive(Clone, Debug)]
pub struct Lens {
    camera: Camera,
    mount: Isometry3<f64>,
    origin: Vector,
    focal_px: f64,
}

impl Lens {
    /// The camera of a scene.
    #[must_use]
    pub fn new(scene: &RoomScene) -> Self {
        let mount = space::mount_to_unit(&scene.pose.camera);
        let focal_px = f64::from(scene.camera.width) / 2.0 / (scene.camera.fov_deg / 2.0).to_radians().tan();
        let origin = place(&mount.translation.vector.into());
        Self { camera: scene.camera, mount, origin, focal_px }
    }

    fn ray(&self, column: f64, row: f64) -> Vector {
        let (width, height) = (f64::from(self.camera.width), f64::from(self.camera.height));
        let seen = Vector3::new(column - width / 2.0, self.focal_px, height / 2.0 - row);
        let turned = (self.mount.rotation * seen).normalize();
        Vector::new(turned.x as f32, turned.y as f32, turned.z as f32)
    }

    /// A place of the unit frame in the camera's: x right, y down, z forward, metres.
    #[must_use]
    pub fn seen(&self, point: Vector) -> [f64; 3] {
        let point = Point3::new(f64::from(point.x), f64::from(point.y), f64::from(point.z));
        let seen = self.mount.inverse_transform_point(&point);
        [seen.x, -seen.z, seen.y]
    }

    /// Where a place of the unit frame is in the image, pixels from the upper left corner; behind the camera it is at
    /// the edge.
    #[must_use]
    pub fn pixel(&self, point: Vector) -> [f64; 2] {
        let [x, y, z] = self.seen(point);
        let scale = self.focal_px / z.max(1e-3);
        [f64::from(self.camera.width) / 2.0 + x * scale, f64::from(self.camera.height) / 2.0 + y * scale]
    }

    /// Metres of depth per metre along a ray.
    fn depth_share(&self, ray: Vector) -> f32 {
        let forward = self.mount.rotation * Vector3::y();
        ray.x * forward.x as f32 + ray.y * forward.y as f32 + ray.z * forward.z as f32
    }
}

/// What a pixel sees of the empty room.
#[derive(Clone, Copy, Debug)]
struct Still {
    /// Linear light, red, green, blue.
    light: [f32; 3],
    /// Along the ray, metres.
    distance: f32,
    point: Vector,
    normal: Vector,
    /// Metres of depth per metre along the ray.
    depth_share: f32,
}

/// The empty room as the camera sees it.
#[derive(Debug)]
pub struct View {
    lens: Lens,
    room: Room,
    still: Vec<Still>,
    tones: Tones,
}

/// A frame: colours and depths of the pixels, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// 8 bits each of red, green, blue (sRGB).
    pub rgb: Vec<u8>,
    /// Millimetres; 0 where there is no depth.
    pub depth: Vec<u16>,
    width: u32,
    height: u32,
}

impl View {
    /// Looks at a room without people.
    #[must_use]
    pub fn new(scene: &RoomScene, room: &Room) -> Self {
        let (lens, room) = (Lens::new(scene), room.clone());
        let empty = Caster::new(room.solids(), Solids::default());
        let (width, height) = (scene.camera.width as usize, scene.camera.height as usize);
        let pixel = |at: usize| {
            let middle = lens.ray((at % width) as f64 + 0.5, (at / width) as f64 + 0.5);
            let mut still = Still {
                light: [0.0; 3],
                distance: FAR_M,
                point: lens.origin + middle * FAR_M,
                normal: Vector::Z,
                depth_share: lens.depth_share(middle),
            };
            for (sub, [right, down]) in
                [[0.5, 0.5], [0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]].into_iter().enumerate()
            {
                let ray = lens.ray((at % width) as f64 + right, (at / width) as f64 + down);
                let Some(hit) = empty.cast_still(lens.origin, ray, FAR_M) else { continue };
                if sub == 0 {
                    (still.distance, still.point, still.normal) = (hit.distance, hit.point, hit.normal);
                    continue;
                }
                let light = shade(&room, &empty, &hit, true);
                for (sum, light) in still.light.iter_mut().zip(light) {
                    *sum += light / 4.0;
                }
            }
            still
        };
        let still = (0..width * height).into_par_iter().map(pixel).collect();
        Self { lens, room, still, tones: Tones::new() }
    }

    /// The camera.
    #[must_use]
    pub const fn lens(&self) -> &Lens {
        &self.lens
    }

    /// A frame of the room with a person in it; `sequence` and `frame` name its noise.
    #[must_use]
    pub fn picture(&self, scene: &RoomScene, caster: &Caster, sequence: usize, frame: usize) -> Picture {
        let (width, height) = (self.lens.camera.width as usize, self.lens.camera.height as usize);
        let person = Person::new(caster.moving());
        let [left, top, right, bottom] = self.frame_of(caster.moving());
        let mut distances: Vec<f32> = self.still.iter().map(|still| still.distance).collect();
        let mut lights: Vec<[f32; 3]> = Vec::with_capacity(self.still.len());
        for still in &self.still {
            let open = person.open(still.point, still.normal);
            lights.push(still.light.map(|light| light * open));
        }
        // The person, one ray per pixel, and four more where the outline or a part's edge is.
        let columns = right - left;
        let cast = |column: f64, row: f64, max: f32| {
            let ray = self.lens.ray(column, row);
            caster.cast_moving(self.lens.origin, ray, max)
        };
        let mut parts: Vec<Option<Hit>> = Vec::with_capacity(columns * (bottom - top));
        for row in top..bottom {
            for column in left..right {
                let max = distances.get(row * width + column).copied().unwrap_or(FAR_M);
                parts.push(cast(column as f64 + 0.5, row as f64 + 0.5, max));
            }
        }
        let part =
            |row: usize, column: usize| -> Option<&Hit> { parts.get(row * columns + column)?.as_ref() };
        for row in 0..bottom - top {
            for column in 0..columns {
                let at = (row + top) * width + column + left;
                let (Some(light), Some(distance)) = (lights.get_mut(at), distances.get_mut(at)) else {
                    continue;
                };
                let here = part(row, column);
                let is_same = |other: Option<&Hit>| match (here, other) {
                    (None, None) => true,
                    (Some(a), Some(b)) => a.half == b.half && a.surface == b.surface,
                    _ => false,
                };
                let neighbours = [
                    part(row, column + 1).filter(|_| column + 1 < columns),
                    column.checked_sub(1).and_then(|column| part(row, column)),
                    part(row + 1, column),
                    row.checked_sub(1).and_then(|row| part(row, column)),
                ];
                let behind = *light;
                let far = *distance;
                if neighbours.iter().all(|neighbour| is_same(*neighbour)) {
                    if let Some(hit) = here {
                        *light = shade(&self.room, caster, hit, false);
                    }
                } else {
                    let mut sum = [0.0; 3];
                    for [dx, dy] in [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]] {
                        let seen = cast((column + left) as f64 + dx, (row + top) as f64 + dy, far);
                        let seen = seen.map_or(behind, |hit| shade(&self.room, caster, &hit, false));
                        for (sum, seen) in sum.iter_mut().zip(seen) {
                            *sum += seen / 4.0;
                        }
                    }
                    *light = sum;
                }
                if let Some(hit) = here {
                    *distance = hit.distance;
                }
            }
        }
        let mut random = Random::new(scene.seed, sequence, frame, Purpose::Camera);
        let noise = scene.camera.noise as f32;
        let mut rgb = Vec::with_capacity(lights.len() * 3);
        for light in &lights {
            let grain = if noise > 0.0 { noise * random.normal() } else { 0.0 };
            rgb.extend(light.map(|light| (self.tones.of(light) + grain).clamp(0.0, 255.0) as u8));
        }
        let depth = self.depth(&distances, mix(scene.seed ^ ((sequence as u64) << 20) ^ frame as u64));
        Picture { rgb, depth, width: width as u32, height: height as u32 }
    }

    /// The part of the image in which moving things are: left, top, right, bottom.
    #[must_use]
    pub fn frame_of(&self, solids: &[Solid]) -> [usize; 4] {
        let (width, height) = (self.lens.camera.width as usize, self.lens.camera.height as usize);
        let (mut low, mut high) = ([f64::MAX; 2], [f64::MIN; 2]);
        for solid in solids {
            let bounds = solid.bounds();
            for corner in 0..8 {
                let pick = |bit: usize, low: f32, high: f32| if corner >> bit & 1 == 0 { low } else { high };
                let (mins, maxs) = (bounds.mins, bounds.maxs);
                let corner =
                    Vector::new(pick(0, mins.x, maxs.x), pick(1, mins.y, maxs.y), pick(2, mins.z, maxs.z));
                for ((low, high), at) in low.iter_mut().zip(&mut high).zip(self.lens.pixel(corner)) {
                    (*low, *high) = (low.min(at), high.max(at));
                }
            }
        }
        let clamp = |value: f64, most: usize| (value.max(0.0) as usize).min(most);
        let (left, top) = (clamp(low[0] - 1.0, width), clamp(low[1] - 1.0, height));
        let (right, bottom) = (clamp(high[0] + 2.0, width), clamp(high[1] + 2.0, height));
        [left, top, right.max(left), bottom.max(top)]
    }

    /// What the depth camera makes of distances along rays.
    fn depth(&self, distances: &[f32], salt: u64) -> Vec<u16> {
        const PATCH: usize = 16;
        let camera = &self.lens.camera;
        let (width, height) = (camera.width as usize, camera.height as usize);
        let scale = self.lens.focal_px * camera.baseline_m;
        // Noise at the corners of patches; the sum of four uniform numbers is nearly normal, of variance 1/3.
        let across = width / PATCH + 2;
        let corner = |x: usize, y: usize| {
            let sum: f64 = (0..4u64)
                .map(|part| {
                    (mix(salt ^ ((y * across + x) as u64 * 4 + part) << 8) >> 40) as f64 / (1u64 << 24) as f64
                })
                .sum();
            (sum - 2.0) * 3f64.sqrt() * camera.disparity_noise
        };
        let corners: Vec<f64> =
            (0..across * (height / PATCH + 2)).map(|at| corner(at % across, at / across)).collect();
        let noise = |column: usize, row: usize| {
            let (x, y) = (column / PATCH, row / PATCH);
            let (right, down) = ((column % PATCH) as f64 / PATCH as f64, (row % PATCH) as f64 / PATCH as f64);
            let at = |x: usize, y: usize| corners.get(y * across + x).copied().unwrap_or(0.0);
            let above = at(x, y) * (1.0 - right) + at(x + 1, y) * right;
            let below = at(x, y + 1) * (1.0 - right) + at(x + 1, y + 1) * right;
            above * (1.0 - down) + below * down
        };
        let mut depths = Vec::with_capacity(distances.len());
        for row in 0..height {
            // The disparity of the nearest thing so far tells how far its shadow reaches to the left of it; going
            // from right to left, what lies in the shadow has no depth.
            let mut line = vec![0u16; width];
            let mut hidden_from = f64::MAX;
            for column in (0..width).rev() {
                let at = row * width + column;
                let (Some(&distance), Some(still)) = (distances.get(at), self.still.get(at)) else {
                    continue;
                };
                let depth = f64::from(distance * still.depth_share);
                let disparity = scale / depth;
                let seen_at = column as f64 - disparity;
                let is_hidden = seen_at > hidden_from + 0.5;
                hidden_from = hidden_from.min(seen_at);
                if is_hidden || depth > camera.max_depth_m {
                    continue;
                }
                let measured = ((disparity + noise(column, row)) * DISPARITY_STEPS).round() / DISPARITY_STEPS;
                if let Some(cell) = line.get_mut(column)
                    && measured > 0.0
                {
                    *cell = (scale / measured * 1000.0).round().min(65_535.0) as u16;
                }
            }
            depths.extend(line);
        }
        depths
    }
}

/// Light of a hit: reflectance times what reaches it.
fn shade(room: &Room, caster: &Caster, hit: &Hit, with_shadows: bool) -> [f32; 3] {
    let colour = room.colour(hit);
    let start = hit.point + hit.normal * 0.01;
    let mut lamps = 0.0;
    for &lamp in room.lamps() {
        let to = lamp - hit.point;
        let squared = to.length_squared();
        let facing = hit.normal.dot(to) / squared.sqrt();
        if facing <= 0.0
            || (with_shadows && caster.is_shaded_by_still(start, to / squared.sqrt(), squared.sqrt() - 0.3))
        {
            continue;
        }
        // A lamp shines downwards.
        lamps += 2.4 * facing / (squared + 1.0) * (0.3 + 0.7 * to.z.max(0.0) / squared.sqrt());
    }
    // From everywhere, more from above; and some along the view, as from a window behind the camera.
    let around = 0.30 + 0.14 * hit.normal.z - 0.16 * hit.normal.y;
    let light = [1.0, 0.97, 0.92].map(|tint| lamps * tint + around * (2.0 - tint));
    std::array::from_fn(|at| colour[at] * light[at])
}

/// Balls around the parts of a person, that take light.
struct Person {
    balls: Vec<(Vector, f32)>,
    middle: Vector,
}

/// Beyond this distance a person takes no light, metres.
const DIM_M: f32 = 1.2;

impl Person {
    fn new(solids: &[Solid]) -> Self {
        let mut balls = Vec::new();
        for solid in solids {
            let half = solid.shape.half();
            let radius = half.x.min(half.y).max(0.03);
            // Long parts have three balls along them.
            let reach = (half.z - radius).max(0.0);
            for share in if reach > radius { &[-1.0f32, 0.0, 1.0][..] } else { &[0.0][..] } {
                balls.push((solid.pose.transform_point(Vector::Z * (reach * share)), radius));
            }
        }
        let count = balls.len().max(1) as f32;
        let middle = balls.iter().fold(Vector::ZERO, |sum, (at, _)| sum + *at) / count;
        Self { balls, middle }
    }

    /// Share of the light that is left at a point of the room: a ball of radius r at distance d covers
    /// (r/d)²·cos θ of the half space over it.
    fn open(&self, point: Vector, normal: Vector) -> f32 {
        let level = Vector::new(point.x - self.middle.x, point.y - self.middle.y, 0.0);
        if level.length_squared() > DIM_M * DIM_M {
            return 1.0;
        }
        let mut covered = 0.0;
        for (at, radius) in &self.balls {
            let to = *at - point;
            let squared = to.length_squared().max(radius * radius);
            covered += radius * radius / squared * (normal.dot(to) / squared.sqrt()).max(0.0);
        }
        let fade = 1.0 - level.length() / DIM_M;
        1.0 - 0.85 * (1.0 - (-covered).exp()) * fade.min(0.4) / 0.4
    }
}

/// [`tone`] by a table over the root of the light, which is even finer than its own steps in the dark.
#[derive(Debug)]
struct Tones(Vec<f32>);

impl Tones {
    const STEPS: f32 = 8191.0;
    /// Light beyond this is white.
    const MOST: f32 = 4.0;

    fn new() -> Self {
        let light = |step: usize| (step as f32 / Self::STEPS).powi(2) * Self::MOST;
        Self((0..=Self::STEPS as usize).map(|step| tone(light(step))).collect())
    }

    fn of(&self, light: f32) -> f32 {
        let step = ((light / Self::MOST).min(1.0).sqrt() * Self::STEPS + 0.5) as usize;
        self.0.get(step).copied().unwrap_or(255.0)
    }
}

/// Linear light to a step of an sRGB image.
fn tone(light: f32) -> f32 {
    let exposed = light * 1.35;
    let soft = exposed * (1.0 + exposed / 6.0) / (1.0 + exposed) * 1.25;
    255.0 * soft.clamp(0.0, 1.0).powf(1.0 / 2.2)
}

impl Picture {
    /// The colour image as a PNG file, 8 bits.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn rgb_png(&self) -> Result<Vec<u8>, ImageError> {
        png(&self.rgb, self.width, self.height, ExtendedColorType::Rgb8, CompressionType::Fast)
    }

    /// The depth map as a PNG file, 16 bits, millimetres.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn depth_png(&self) -> Result<Vec<u8>, ImageError> {
        let bytes: Vec<u8> = self.depth.iter().flat_map(|depth| depth.to_ne_bytes()).collect();
        // Depth comes in steps, which compress well when looked at closely: half the bytes for 10 ms more.
        png(&bytes, self.width, self.height, ExtendedColorType::L16, CompressionType::Default)
    }
}

fn png(
    pixels: &[u8],
    width: u32,
    height: u32,
    kind: ExtendedColorType,
    compression: CompressionType,
) -> Result<Vec<u8>, ImageError> {
    let mut file = Cursor::new(Vec::with_capacity(1 << 17));
    let encoder = PngEncoder::new_with_quality(&mut file, compression, FilterType::Sub);
    encoder.write_image(pixels, width, height, kind)?;
    Ok(file.into_inner())
}

#[cfg(test)]
mod tests {
    use super::super::{Environment, Performer};
    use super::*;
    use crate::simulate::body::Joint;
    use crate::simulate::motion::Activity;

    fn scene() -> RoomScene {
        let mut scene = RoomScene::default();
        (scene.camera.width, scene.camera.height) = (160, 120);
        scene
    }

    #[test]
    fn joints_lie_where_the_person_is_seen_and_depth_is_theirs() {
        let scene = scene();
        let view = View::new(&scene, &Room::new(1, Environment::of(1)));
        let performer = Performer::new(&scene, 1, Activity::new(13).unwrap());
        let caster = performer.caster(&view.room, 1.0);
        let picture = view.picture(&scene, &caster, 1, 1);
        let skeleton = performer.skeleton(1.0);
        for joint in [Joint::Thorax, Joint::RightKnee, Joint::LeftKnee, Joint::Spine] {
            let at = performer.place().transform_point(skeleton.joint(joint));
            let [x, y] = view.lens.pixel(at);
            let depth = f64::from(picture.depth[y as usize * 160 + x as usize]) / 1000.0;
            let [.., z] = view.lens.seen(at);
            // The flesh lies before the joint; the depth camera errs by some centimetres.
            assert!(depth < z + 0.08 && depth > z - 0.35, "{joint:?}: {depth} m, the joint {z} m");
        }
        // The wall ahead is where it is: 5.2 m, less what the whiteboard takes.
        let wall = f64::from(picture.depth[20 * 160 + 30]) / 1000.0;
        assert!((wall - 5.2).abs() < 0.35, "{wall}");
    }

    #[test]
    fn the_table_of_tones_is_the_tone() {
        let tones = Tones::new();
        for step in 0..4000 {
            let light = step as f32 * 1e-3;
            assert!((tones.of(light) - tone(light)).abs() < 0.5, "{light}");
        }
        assert_eq!(tones.of(100.0), 255.0);
    }

    #[test]
    fn a_point_projects_to_the_pixel_whose_ray_passes_it() {
        let lens = Lens::new(&scene());
        for (column, row) in [(10.0, 20.0), (80.0, 60.0), (150.5, 100.25)] {
            let point = lens.origin + lens.ray(column, row) * 4.0;
            let [x, y] = lens.pixel(point);
            assert!((x - column).abs() < 0.01 && (y - row).abs() < 0.01, "{x} {y}");
        }
        // One metre to the right of, below, and in front of the camera.
        let [x, y, z] = lens.seen(lens.origin + Vector::new(1.0, 2.0, -0.5));
        assert!((x - 1.0).abs() < 1e-6 && (y - 0.5).abs() < 1e-6 && (z - 2.0).abs() < 1e-6);
    }

    #[test]
    fn both_files_are_pngs_of_their_size() {
        let scene = scene();
        let room = Room::new(1, Environment::of(40));
        let view = View::new(&scene, &room);
        let empty = Caster::new(room.solids(), Solids::default());
        let picture = view.picture(&scene, &empty, 0, 0);
        let rgb = image::load_from_memory(&picture.rgb_png().unwrap()).unwrap();
        let depth = image::load_from_memory(&picture.depth_png().unwrap()).unwrap();
        assert_eq!((rgb.width(), rgb.height(), rgb.color()), (160, 120, image::ColorType::Rgb8));
        assert_eq!(depth.color(), image::ColorType::L16);
        assert_eq!(depth.to_luma16().as_raw(), &picture.depth);
    }
}
