//! The camera: a pinhole, a sun with shadows, light from the sky, haze with distance, and textures by procedure.
//!
//! What stands still looks the same in every frame: [`Background`] casts its rays once per scene, and a frame casts only
//! towards what moves, for what hides the background and for what shades it.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{ImageError, RgbImage};
use nalgebra::{Isometry3, Vector3};
use parry3d::math::Vector;
use rayon::prelude::*;

use super::caster::{Caster, Hit};
use super::place;
use super::random::{Purpose, Random};
use super::scene::{Camera, Scene};
use super::texture::Texture;
use crate::space;

/// Linear light: of the sun straight on, and of the whole sky.
const SUN: [f32; 3] = [1.25, 1.15, 0.98];
const SKY: [f32; 3] = [0.42, 0.50, 0.62];
/// What distance fades to.
const HAZE: [f32; 3] = [0.62, 0.70, 0.80];
/// Distance after which 1/e of the contrast is left, metres.
const CLEAR_M: f32 = 260.0;
/// How far a ray is followed, metres.
const FAR_M: f32 = 400.0;

/// Towards the sun: high, behind the camera to the right.
fn to_sun() -> Vector {
    Vector::new(0.50, -0.52, 0.69).normalize()
}

/// The camera's rays, and what they meet when there is no traffic.
#[derive(Debug)]
pub struct Background {
    lens: Lens,
    texture: Texture,
    /// One per ray: pixel by pixel, row by row, n × n rays each.
    samples: Vec<Sample>,
}

/// What one ray sees.
#[derive(Clone, Copy, Debug)]
struct Sample {
    colour: [f32; 3],
    /// Metres; infinite for the sky.
    distance: f32,
    /// Share of the sun's light: cosine of the incidence, 0 in the shadow of what stands.
    sun: f32,
    /// Share of the sky's light.
    sky: f32,
}

#[derive(Clone, Debug)]
struct Lens {
    camera: Camera,
    mount: Isometry3<f64>,
    origin: Vector,
    /// Half the field's width at distance 1.
    half_width: f64,
}

impl Lens {
    fn new(scene: &Scene) -> Self {
        let mount = space::mount_to_unit(&scene.pose.camera);
        let half_width = (scene.camera.fov_deg / 2.0).to_radians().tan();
        Self { camera: scene.camera, origin: place(&mount.translation.vector.into()), mount, half_width }
    }

    /// Direction through a place of the image, in pixels from the upper left corner.
    fn ray(&self, column: f64, row: f64) -> Vector {
        let (width, height) = (f64::from(self.camera.width), f64::from(self.camera.height));
        let step = 2.0 * self.half_width / width;
        let seen = Vector3::new((column - width / 2.0) * step, 1.0, (height / 2.0 - row) * step);
        let turned = (self.mount.rotation * seen).normalize();
        Vector::new(turned.x as f32, turned.y as f32, turned.z as f32)
    }

    /// Direction of a sub-ray.
    fn sub_ray(&self, pixel: usize, sub: usize) -> Vector {
        let (width, n) = (self.camera.width as usize, self.camera.rays as usize);
        let at = |cell: usize, sub: usize| cell as f64 + (sub as f64 + 0.5) / n as f64;
        self.ray(at(pixel % width, sub % n), at(pixel / width, sub / n))
    }
}

/// Where a place of the unit frame is in the image, in pixels from the upper left corner; `None` behind the camera.
#[must_use]
pub fn project(scene: &Scene, point: [f64; 3]) -> Option<[f64; 2]> {
    let lens = Lens::new(scene);
    let seen = lens.mount.inverse_transform_point(&point.into());
    let (width, height) = (f64::from(scene.camera.width), f64::from(scene.camera.height));
    let scale = width / (2.0 * lens.half_width) / seen.y;
    (seen.y > 0.0).then(|| [width / 2.0 + seen.x * scale, height / 2.0 - seen.z * scale])
}

impl Background {
    /// Looks at the street without traffic.
    #[must_use]
    pub fn new(scene: &Scene, empty: &Caster) -> Self {
        let (lens, texture) = (Lens::new(scene), Texture::new(scene));
        let pixels = scene.camera.width as usize * scene.camera.height as usize;
        let rays = (scene.camera.rays * scene.camera.rays) as usize;
        let samples = (0..pixels * rays)
            .into_par_iter()
            .map(|at| {
                let ray = lens.sub_ray(at / rays, at % rays);
                match empty.cast_still(lens.origin, ray, FAR_M) {
                    Some(hit) => sample(&texture, empty, &hit, ray),
                    None => Sample { colour: sky(ray), distance: f32::INFINITY, sun: 0.0, sky: 0.0 },
                }
            })
            .collect();
        Self { lens, texture, samples }
    }

    /// The image of a frame.
    #[must_use]
    pub fn observe(&self, scene: &Scene, caster: &Caster, sequence: usize, frame: usize) -> RgbImage {
        let camera = &self.lens.camera;
        let rays = (camera.rays * camera.rays) as usize;
        let mut random = Random::new(scene.seed, sequence, frame, Purpose::Camera);
        let mut image = RgbImage::new(camera.width, camera.height);
        for (pixel, (samples, target)) in self.samples.chunks_exact(rays).zip(image.pixels_mut()).enumerate()
        {
            let mut sum = [0.0f32; 3];
            for (sub, still) in samples.iter().enumerate() {
                let light = self.light(caster, self.lens.sub_ray(pixel, sub), still);
                for (sum, light) in sum.iter_mut().zip(light) {
                    *sum += light;
                }
            }
            let grain = random.normals()[0] * camera.noise as f32;
            target.0 = sum.map(|light| (tone(light / rays as f32) + grain).clamp(0.0, 255.0) as u8);
        }
        image
    }

    fn light(&self, caster: &Caster, ray: Vector, still: &Sample) -> [f32; 3] {
        let origin = self.lens.origin;
        let reach = still.distance.min(FAR_M);
        let (seen, point) = match caster.cast_moving(origin, ray, reach) {
            Some(hit) => (sample(&self.texture, caster, &hit, ray), hit.point + hit.normal * 0.01),
            None if still.distance.is_infinite() => return still.colour,
            None => (*still, origin + ray * (still.distance - 0.01)),
        };
        let is_shaded = seen.sun > 0.0 && caster.is_shaded_by_moving(point, to_sun(), 60.0);
        let sun = if is_shaded { 0.0 } else { seen.sun };
        let clear = (-seen.distance / CLEAR_M).exp();
        std::array::from_fn(|at| {
            let lit = seen.colour[at] * (SUN[at] * sun + SKY[at] * seen.sky);
            lit * clear + HAZE[at] * (1.0 - clear)
        })
    }
}

/// Colour and light of a hit; the shadows of what moves come later.
fn sample(texture: &Texture, caster: &Caster, hit: &Hit, ray: Vector) -> Sample {
    let facing = hit.normal.dot(to_sun()).max(0.0);
    let start = hit.point + hit.normal * 0.02;
    let is_shaded = facing > 0.0 && caster.is_shaded_by_still(start, to_sun(), FAR_M);
    // Half of the sky is seen from an upright wall, all of it from the ground, little from below.
    let sky_share = 0.65 + 0.35 * hit.normal.z;
    // Next to the ground, walls and wheels get less of it.
    let nook = if hit.normal.z.abs() < 0.5 { 0.6 + 0.4 * (hit.point.z / 1.2).clamp(0.0, 1.0) } else { 1.0 };
    Sample {
        colour: texture.colour(hit, ray),
        distance: hit.distance,
        sun: if is_shaded { 0.0 } else { facing },
        sky: sky_share * nook,
    }
}

/// Blue above, pale at the horizon.
pub(super) fn sky(ray: Vector) -> [f32; 3] {
    let up = ray.z.max(0.0).sqrt();
    let (low, high) = ([0.72f32, 0.80, 0.88], [0.20f32, 0.40, 0.75]);
    std::array::from_fn(|at| low[at] + (high[at] - low[at]) * up)
}

/// Linear light to a step of an sRGB image: exposure, a soft shoulder, gamma.
fn tone(light: f32) -> f32 {
    let exposed = light * 1.15;
    let soft = exposed * (1.0 + exposed / 4.0) / (1.0 + exposed);
    255.0 * (soft * 1.35).min(1.0).powf(1.0 / 2.2)
}

/// The JPEG file of an image.
pub(super) fn jpeg(scene: &Scene, image: &RgbImage) -> Result<Vec<u8>, ImageError> {
    let mut file = Cursor::new(Vec::with_capacity(1 << 16));
    JpegEncoder::new_with_quality(&mut file, scene.camera.quality).encode_image(image)?;
    Ok(file.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rays_and_projection_agree() {
        let mut scene = Scene::default();
        scene.pose.camera.yaw_deg = 10.0;
        let lens = Lens::new(&scene);
        for (column, row) in [(10.0, 20.0), (320.0, 180.0), (600.5, 300.25)] {
            let seen = lens.origin + lens.ray(column, row) * 20.0;
            let [x, y] = project(&scene, [seen.x, seen.y, seen.z].map(f64::from)).unwrap();
            assert!((x - column).abs() < 0.01 && (y - row).abs() < 0.01, "{x} {y} instead of {column} {row}");
        }
        assert_eq!(project(&scene, [0.0, -5.0, 1.0]), None);
    }
}
