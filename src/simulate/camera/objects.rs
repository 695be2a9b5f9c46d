//! What moves: which part each pixel sees, its light, its shadow, its lamps and its blur.
//!
//! Rays are cast only where the box around a part lands in the image, and only against that part; the nearest wins. So a
//! frame costs what its moving parts cover, and no tree is walked.

use parry3d::math::{Pose, Vector};

use super::super::caster::Caster;
use super::super::solid::{ObjectId, Shape, Solid, Surface};
use super::super::texture::Spot;
use super::background::{Incidence, Plate, Shader};
use super::lens::{Rect, View};
use super::light::{Beam, Rgb, hidden_by_wall};
use super::shadow::{Bounds, SunMap};

/// A solid, ready to be hit by many rays.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    shape: Shape,
    surface: Surface,
    middle: Vector,
    /// Its axes in the unit frame.
    axes: [Vector; 3],
    /// What it is an axis of, of the solid: a wheel's box is seen as a disc, whose axis is the box's y axis.
    is_turned: bool,
}

impl Part {
    pub fn new(solid: &Solid) -> Self {
        let [x, y, z] = [Vector::X, Vector::Y, Vector::Z].map(|axis| solid.pose.rotation * axis);
        let (shape, axes, is_turned) = match (solid.surface, solid.shape) {
            (Surface::Wheel, Shape::Cuboid(half)) => {
                (Shape::Cylinder { half_length: half.y, radius: half.z }, [z, x, y], true)
            }
            (_, shape) => (shape, [x, y, z], false),
        };
        Self { shape, surface: solid.surface, middle: solid.pose.translation, axes, is_turned }
    }

    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    pub const fn middle(&self) -> Vector {
        self.middle
    }

    /// How far it reaches from its middle along an axis of the unit frame.
    pub fn reach(&self, axis: Vector) -> f32 {
        let turned = self.turned(axis).abs();
        turned.dot(self.shape.half())
    }

    /// A direction of the unit frame in its axes.
    pub fn turned(&self, direction: Vector) -> Vector {
        Vector::new(self.axes[0].dot(direction), self.axes[1].dot(direction), self.axes[2].dot(direction))
    }

    /// A place of the unit frame in its axes.
    pub fn local(&self, point: Vector) -> Vector {
        self.turned(point - self.middle)
    }

    fn unturned(&self, direction: Vector) -> Vector {
        self.axes[0] * direction.x + self.axes[1] * direction.y + self.axes[2] * direction.z
    }
}

/// What a pixel sees of what moves: nothing.
const NONE: u16 = u16::MAX;
/// The sun's shadows of things reach this far, metres.
const SHADOW_M: f32 = 60.0;
/// Moving things further away throw no shadows, metres.
const SHADED_M: f32 = 70.0;

/// All parts of one object.
#[derive(Debug)]
struct Mover {
    /// The box around it, in axes that it stands in.
    pose: Pose,
    half: Vector,
    rect: Option<Rect>,
    distance: f32,
    beam: Option<Beam>,
    /// Sum of its velocity in the image and number of its pixels.
    velocity: [f32; 3],
}

struct Body {
    part: Part,
    object: ObjectId,
    mover: u16,
    rect: Option<Rect>,
    velocity: Vector,
    spin: Vector,
    /// The camera in its axes.
    origin: Vector,
}

/// A frame's moving things, seen by a camera.
pub(super) struct Movers<'a> {
    view: &'a View,
    shader: &'a Shader,
    plate: &'a Plate,
    bodies: Vec<Body>,
    movers: Vec<Mover>,
    /// Nearest first.
    order: Vec<u16>,
    shadows: Option<SunMap>,
    depth: Vec<f32>,
    part: Vec<u16>,
}

/// Each row's stretches of pixels that lie in any of the rectangles.
fn rows(rects: impl Iterator<Item = Rect>, height: usize) -> Vec<Vec<(usize, usize)>> {
    let mut rows: Vec<Vec<(usize, usize)>> = vec![Vec::new(); height];
    for rect in rects {
        for row in rows.iter_mut().take(rect.bottom).skip(rect.top) {
            row.push((rect.left, rect.right));
        }
    }
    for row in &mut rows {
        row.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::new();
        for &(from, to) in row.iter() {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        *row = merged;
    }
    rows
}

/// The box around an object's solids, along the axes of its largest one as it stands.
fn stand(solids: &[&Solid]) -> (Pose, Vector) {
    let volume = |solid: &Solid| solid.shape.half().element_product();
    let largest = solids.iter().max_by(|a, b| volume(a).total_cmp(&volume(b)));
    let ahead = largest.map_or(Vector::X, |solid| solid.pose.rotation * Vector::X);
    let yaw = if ahead.x.hypot(ahead.y) > 0.5 { ahead.y.atan2(ahead.x) } else { 0.0 };
    let turn = Pose::new(Vector::ZERO, Vector::Z * yaw);
    let (mut low, mut high) = (Vector::MAX, Vector::MIN);
    for solid in solids {
        let part = Part::new(solid);
        let middle = turn.inverse_transform_point(solid.pose.translation);
        let reach = [Vector::X, Vector::Y, Vector::Z].map(|axis| part.reach(turn.rotation * axis));
        let reach = Vector::from(reach);
        (low, high) = (low.min(middle - reach), high.max(middle + reach));
    }
    let middle = turn.transform_point((low + high) / 2.0);
    (Pose::from_parts(middle, turn.rotation), (high - low) / 2.0)
}

/// Head lamps, from the parts that are some.
fn beam(caster: &Caster, solids: &[&Solid], pose: &Pose) -> Option<Beam> {
    let lamps = solids.iter().filter(|solid| solid.surface == Surface::Lamp);
    let (sum, count) =
        lamps.fold((Vector::ZERO, 0.0), |(sum, count), lamp| (sum + lamp.pose.translation, count + 1.0));
    if count == 0.0 {
        return None;
    }
    let from = sum / count;
    // They shine along that axis of the vehicle, away from its middle, on which they lie furthest out.
    let out = pose.inverse_transform_vector(from - pose.translation);
    let axis =
        if out.x.abs() >= out.y.abs() { Vector::X * out.x.signum() } else { Vector::Y * out.y.signum() };
    let forward = pose.rotation * axis;
    let start = from + forward * 0.3;
    let reach = caster.cast(start, forward, Beam::REACH_M).map_or(Beam::REACH_M, |hit| hit.distance + 0.9);
    Some(Beam { from, forward, reach })
}

impl<'a> Movers<'a> {
    /// Looks for what moves; its shadows have cells of `cell` metres.
    pub fn new(view: &'a View, shader: &'a Shader, plate: &'a Plate, caster: &Caster, cell: f32) -> Self {
        let mut objects: Vec<ObjectId> = Vec::new();
        let mut groups: Vec<Vec<&Solid>> = Vec::new();
        let mut bodies = Vec::new();
        for solid in caster.moving().iter().take(usize::from(NONE)) {
            let at = objects.iter().rposition(|object| *object == solid.object).unwrap_or_else(|| {
                objects.push(solid.object);
                groups.push(Vec::new());
                objects.len() - 1
            });
            groups[at].push(solid);
            let part = Part::new(solid);
            let rect = view.seen_box(&solid.pose, solid.shape.half(), 1.0);
            let origin = part.local(view.origin());
            // What the camera itself is in is not seen.
            let rect = rect.filter(|_| part.shape.cast(origin, Vector::X, f32::MAX) != Some(0.0));
            let (velocity, spin) = (solid.velocity, solid.spin);
            let object = solid.object;
            bodies.push(Body { part, object, mover: at as u16, rect, velocity, spin, origin });
        }
        let movers: Vec<Mover> = groups
            .iter()
            .map(|solids| {
                let (pose, half) = stand(solids);
                Mover {
                    pose,
                    half,
                    rect: view.seen_box(&pose, half, 2.0),
                    distance: (pose.translation - view.origin()).length(),
                    beam: if shader.light.is_dark { beam(caster, solids, &pose) } else { None },
                    velocity: [0.0; 3],
                }
            })
            .collect();
        let mut order: Vec<u16> = (0..movers.len() as u16).collect();
        order.sort_by(|a, b| movers[usize::from(*a)].distance.total_cmp(&movers[usize::from(*b)].distance));
        let pixels = plate.depth.len();
        let mut all = Self {
            view,
            shader,
            plate,
            bodies,
            movers,
            order,
            shadows: None,
            depth: plate.depth.clone(),
            part: vec![NONE; pixels],
        };
        all.shadows = all.shadow_map(cell);
        all.trace();
        all
    }

    fn shadow_map(&self, cell: f32) -> Option<SunMap> {
        if !self.shader.light.has_sun() {
            return None;
        }
        let to_sun = self.shader.light.to_sun;
        let near = |body: &&Body| self.movers[usize::from(body.mover)].distance < SHADED_M;
        let corners = self.bodies.iter().filter(near).flat_map(|body| {
            let [x, y, z] = [Vector::X, Vector::Y, Vector::Z].map(|axis| axis * body.part.reach(axis));
            let middle = body.part.middle;
            [x + y + z, x + y - z, x - y + z, x - y - z]
                .into_iter()
                .flat_map(move |by| [middle + by, middle - by])
        });
        let bounds = Bounds::around(to_sun, corners)?;
        Some(SunMap::new(to_sun, bounds, cell, self.bodies.iter().filter(near).map(|body| &body.part)))
    }

    /// Finds what each pixel sees.
    fn trace(&mut self) {
        let width = self.view.width();
        for (at, body) in self.bodies.iter().enumerate() {
            let Some(rect) = body.rect else { continue };
            let (part, origin) = (&body.part, body.origin);
            for row in rect.top..rect.bottom {
                let range = row * width + rect.left..row * width + rect.right;
                let rays = &self.view.rays()[range.clone()];
                let (depths, seen) = (&mut self.depth[range.clone()], &mut self.part[range]);
                for ((ray, depth), seen) in rays.iter().zip(depths).zip(seen) {
                    if let Some(distance) = part.shape.cast(origin, part.turned(*ray), *depth) {
                        (*depth, *seen) = (distance, at as u16);
                    }
                }
            }
        }
    }

    /// Whether a pixel sees a part of an object.
    pub fn shows(&self, pixel: usize, object: ObjectId) -> bool {
        self.part
            .get(pixel)
            .and_then(|&part| self.bodies.get(usize::from(part)))
            .is_some_and(|body| body.object == object)
    }

    /// Metres to what each pixel sees, what stands still included.
    pub fn depth(&self) -> &[f32] {
        &self.depth
    }

    /// Puts shadows and lights of what moves on what stands.
    pub fn touch_background(&self, image: &mut [Rgb]) {
        self.shade_background(image);
        self.darken_below(image);
        self.light_road(image);
    }

    fn shade_background(&self, image: &mut [Rgb]) {
        let Some(map) = &self.shadows else { return };
        let light = &self.shader.light;
        let rects = self.movers.iter().filter(|mover| mover.distance < SHADED_M).filter_map(|mover| {
            let corner = |at: usize| {
                let sign = |bit: usize| if at >> bit & 1 == 0 { -1.0 } else { 1.0 };
                mover.pose.transform_point(Vector::new(sign(0), sign(1), sign(2)) * mover.half)
            };
            let corners: [Vector; 8] = std::array::from_fn(corner);
            let thrown = corners.map(|corner| {
                let length = (corner.z.max(0.0) / light.to_sun.z.max(1e-3)).min(SHADOW_M);
                corner - light.to_sun * length
            });
            let sides = (0..8).map(|at| (corners[at], thrown[at]));
            let across = (0..8usize).flat_map(|from| (0..3).map(move |bit| (from, from | 1 << bit)));
            let ground = across.filter(|(a, b)| a != b).map(|(a, b)| (thrown[a], thrown[b]));
            self.view.seen_edges(sides.chain(ground), 2.0)
        });
        let width = self.view.width();
        for (row, stretches) in rows(rects, self.view.height()).iter().enumerate() {
            for pixel in stretches.iter().flat_map(|&(from, to)| row * width + from..row * width + to) {
                let still = &self.plate.still[pixel];
                if still.sun > 0.0 && self.part[pixel] == NONE {
                    let point = self.view.origin() + self.view.rays()[pixel] * self.plate.depth[pixel];
                    let lost = 1.0 - map.lit(point);
                    if lost > 0.0 {
                        image[pixel] -= still.share * light.sun * (still.sun * lost);
                    }
                }
            }
        }
    }

    /// Takes the light of the sky from the ground under and beside things.
    fn darken_below(&self, image: &mut [Rgb]) {
        let (width, light) = (self.view.width(), &self.shader.light);
        for mover in self.movers.iter().filter(|mover| mover.distance < 60.0) {
            let foot = mover.pose.translation.z - mover.half.z;
            let height = 2.0 * mover.half.z;
            let reach = height.min(2.0);
            let wide = Vector::new(mover.half.x + reach, mover.half.y + reach, 0.02);
            let ground = Vector::new(mover.pose.translation.x, mover.pose.translation.y, foot);
            let pose = Pose::from_parts(ground, mover.pose.rotation);
            let Some(rect) = self.view.seen_box(&pose, wide, 1.0) else { continue };
            for pixel in rect.pixels(width) {
                let still = &self.plate.still[pixel];
                if self.part[pixel] != NONE || still.sky <= 0.0 {
                    continue;
                }
                let point = self.view.origin() + self.view.rays()[pixel] * self.plate.depth[pixel];
                if (point.z - foot).abs() > 0.3 {
                    continue;
                }
                let hidden = hidden(pose.inverse_transform_point(point), mover.half, height);
                image[pixel] -= still.share * light.sky * (still.sky * hidden);
            }
        }
    }

    /// Lights what stands by head lamps.
    fn light_road(&self, image: &mut [Rgb]) {
        let width = self.view.width();
        for beam in self.movers.iter().filter_map(|mover| mover.beam) {
            let reach = beam.reach.min(Beam::REACH_M) / 2.0;
            let middle = beam.from + beam.forward * reach;
            let pose = Pose::new(
                Vector::new(middle.x, middle.y, 0.7),
                Vector::Z * beam.forward.y.atan2(beam.forward.x),
            );
            let aside = Beam::ASIDE_M.min(reach * 1.4);
            let Some(rect) = self.view.seen_box(&pose, Vector::new(reach, aside, 0.8), 1.0) else { continue };
            for pixel in rect.pixels(width) {
                let still = &self.plate.still[pixel];
                if self.part[pixel] != NONE || still.sky <= 0.0 {
                    continue;
                }
                let point = self.view.origin() + self.view.rays()[pixel] * self.plate.depth[pixel];
                image[pixel] += still.share * beam.light(point, still.normal());
            }
        }
    }

    /// Paints what moves over what stands, its edges averaged over `rays` squared rays.
    pub fn paint(&mut self, image: &mut [Rgb], background: &[Rgb], rays: u32) {
        let width = self.view.width();
        let rects: Vec<Rect> = self.bodies.iter().filter_map(|body| body.rect).collect();
        let rows = rows(rects.into_iter(), self.view.height());
        let lit: Vec<Lit> = (0..self.movers.len()).map(|at| self.lit(at)).collect();
        for (row, stretches) in rows.iter().enumerate() {
            for pixel in stretches.iter().flat_map(|&(from, to)| row * width + from..row * width + to) {
                if self.part[pixel] != NONE {
                    image[pixel] = self.shade(pixel, &lit);
                }
            }
        }
        if rays > 1 {
            self.soften(image, background, &rows, rays);
        }
    }

    /// The lamps that can light an object.
    fn lit(&self, mover: usize) -> Lit {
        let light = &self.shader.light;
        let place = self.movers[mover].pose.translation;
        if !light.is_dark && light.is_outdoors {
            return Lit { lamps: Vec::new(), beams: Vec::new() };
        }
        let near = |lamp: &&Vector| (**lamp - place).length_squared() < 25.0 * 25.0;
        let others = self.movers.iter().enumerate().filter(|(at, _)| *at != mover);
        let beams = others.filter_map(|(_, other)| other.beam).filter(|beam| {
            let to = place - beam.from;
            let ahead = to.dot(beam.forward);
            ahead > -2.0 && ahead < beam.reach + 8.0 && (to - beam.forward * ahead).length() < 12.0
        });
        Lit { lamps: light.lamps.iter().filter(near).copied().collect(), beams: beams.collect() }
    }

    fn shade(&mut self, pixel: usize, lit: &[Lit]) -> Rgb {
        let body = &self.bodies[usize::from(self.part[pixel])];
        let (part, ray, distance) = (&body.part, self.view.rays()[pixel], self.depth[pixel]);
        let light = &self.shader.light;
        let local = body.origin + part.turned(ray) * distance;
        let local_normal = part.shape.normal(local);
        let normal = part.unturned(local_normal);
        let point = self.view.origin() + ray * distance;
        let (local, local_normal, half) = if part.is_turned {
            // Back from [z, x, y] to the axes of the solid.
            let back = |v: Vector| Vector::new(v.y, v.z, v.x);
            (back(local), back(local_normal), back(part.shape.half()))
        } else {
            (local, local_normal, part.shape.half())
        };
        let facing = -ray.dot(normal);
        let width = distance * self.view.pixel();
        let spot = Spot { surface: part.surface, point, local, local_normal, half, facing, width };
        let finish = self.shader.texture.finish(&spot);
        let mut sun = if light.has_sun() { normal.dot(light.to_sun).max(0.0) } else { 0.0 };
        if sun > 0.0 {
            let off = point + normal * 0.05;
            let share = |map: Option<&SunMap>| map.map_or(1.0, |map| map.lit(off));
            sun *= share(self.shadows.as_ref());
            if sun > 0.0 {
                sun *= share(self.plate.shadows.as_deref());
            }
        }
        let mover = usize::from(body.mover);
        let Lit { lamps, beams } = &lit[mover];
        let mut falling = Rgb::ZERO;
        if !lamps.is_empty() {
            falling += light.lamps_of(lamps, point, normal, |_| true);
        }
        for beam in beams {
            falling += beam.light(point, normal);
        }
        // Near the ground less of the sky is seen.
        let open = 0.6 + 0.4 * (point.z * (1.0 / 1.2)).clamp(0.0, 1.0);
        let falls = Incidence { sun, open, lamps: falling };
        let seen = self.shader.luminance(&finish, normal, ray, &falls, None);
        let clear = light.clear(distance);
        let velocity = body.velocity + body.spin.cross(point - part.middle);
        let motion = self.view.motion(point, velocity);
        let sum = &mut self.movers[mover].velocity;
        *sum = [sum[0] + motion[0], sum[1] + motion[1], sum[2] + 1.0];
        seen * clear + light.air * (1.0 - clear)
    }

    /// Averages the edges of parts: which part each of several rays sees is asked again, what that part looks like is
    /// taken from a neighbour.
    fn soften(&self, image: &mut [Rgb], background: &[Rgb], rows: &[Vec<(usize, usize)>], rays: u32) {
        let (width, height) = (self.view.width(), self.view.height());
        let mut changed: Vec<(usize, Rgb)> = Vec::new();
        let share = 1.0 / (rays * rays) as f32;
        let place = |at: u32| (at as f32 + 0.5) / rays as f32 - 0.5;
        for (row, stretches) in rows.iter().enumerate().skip(1).take(height.saturating_sub(2)) {
            let inner =
                |&(from, to): &(usize, usize)| row * width + from.max(1)..row * width + to.min(width - 1);
            for pixel in stretches.iter().flat_map(inner) {
                let here = self.part[pixel];
                let (left, right) = (self.part[pixel - 1], self.part[pixel + 1]);
                let (above, below) = (self.part[pixel - width], self.part[pixel + width]);
                if here == left && here == right && here == above && here == below {
                    continue;
                }
                let candidates = [here, left, right, above, below];
                let sources = [pixel, pixel - 1, pixel + 1, pixel - width, pixel + width];
                let mut sum = Rgb::ZERO;
                for (down, across) in (0..rays * rays).map(|at| (at / rays, at % rays)) {
                    let ray = self.view.ray_near(pixel, place(across), place(down));
                    let mut nearest = (self.plate.depth[pixel], usize::MAX);
                    for (at, &part) in candidates.iter().enumerate() {
                        if part == NONE || candidates[..at].contains(&part) {
                            continue;
                        }
                        let body = &self.bodies[usize::from(part)];
                        let turned = body.part.turned(ray);
                        if let Some(distance) = body.part.shape.cast(body.origin, turned, nearest.0) {
                            nearest = (distance, at);
                        }
                    }
                    sum += match sources.get(nearest.1) {
                        Some(&source) => image[source],
                        None => background[pixel],
                    };
                }
                changed.push((pixel, sum * share));
            }
        }
        for (pixel, colour) in changed {
            image[pixel] = colour;
        }
    }

    /// Whether anything moves by more than a pixel in an exposure.
    pub fn is_blurred(&self, seconds: f32) -> bool {
        self.movers.iter().any(|mover| mover.blur(seconds).is_some())
    }

    /// Smears what moves over the time of an exposure, the furthest first.
    pub fn blur(&self, image: &mut [Rgb], background: &[Rgb], seconds: f32) {
        let (width, height) = (self.view.width() as i32, self.view.height() as i32);
        let mut rank = vec![0u16; self.movers.len()];
        for (at, mover) in self.order.iter().enumerate() {
            rank[usize::from(*mover)] = at as u16;
        }
        for &at in self.order.iter().rev() {
            let mover = &self.movers[usize::from(at)];
            let (Some([x, y]), Some(rect)) = (mover.blur(seconds), mover.rect) else { continue };
            let taps = (x.hypot(y).ceil() as i32).clamp(2, TAPS);
            let step = |tap: i32| (tap as f32 + 0.5) / taps as f32 - 0.5;
            let offsets: Vec<(i32, i32)> = (0..taps)
                .map(|tap| ((x * step(tap)).round() as i32, (y * step(tap)).round() as i32))
                .collect();
            let (wide, tall) = ((x.abs() / 2.0) as i32 + 1, (y.abs() / 2.0) as i32 + 1);
            let columns = (rect.left as i32 - wide).max(0)..(rect.right as i32 + wide).min(width);
            let rows = (rect.top as i32 - tall).max(0)..(rect.bottom as i32 + tall).min(height);
            let sharp = Sharp::new(image, columns.clone(), rows.clone(), width);
            for row in rows {
                for column in columns.clone() {
                    let pixel = (row * width + column) as usize;
                    let here = self.part[pixel];
                    let owner = if here == NONE { None } else { Some(self.bodies[usize::from(here)].mover) };
                    if owner.is_some_and(|owner| rank[usize::from(owner)] < rank[usize::from(at)]) {
                        continue; // hidden by something nearer
                    }
                    let (mut sum, mut count, mut all) = (Rgb::ZERO, 0, 0);
                    for &(dx, dy) in &offsets {
                        let (x, y) = (column + dx, row + dy);
                        if x < 0 || y < 0 || x >= width || y >= height {
                            continue;
                        }
                        all += 1;
                        let part = self.part[(y * width + x) as usize];
                        if part != NONE && self.bodies[usize::from(part)].mover == at {
                            sum += sharp.at(x, y);
                            count += 1;
                        }
                    }
                    if count > 0 {
                        let behind = if owner == Some(at) { background[pixel] } else { image[pixel] };
                        let rest = (all - count) as f32;
                        image[pixel] = (sum + behind * rest) / all as f32;
                    }
                }
            }
        }
    }
}

/// Most places along a smear that are looked at.
const TAPS: i32 = 12;

/// A part of the image as it was, with room around it.
struct Sharp {
    left: i32,
    top: i32,
    width: i32,
    pixels: Vec<Rgb>,
}

impl Sharp {
    fn new(image: &[Rgb], columns: std::ops::Range<i32>, rows: std::ops::Range<i32>, width: i32) -> Self {
        let (left, top) = (columns.start, rows.start);
        let line =
            |row: i32| &image[(row * width + columns.start) as usize..(row * width + columns.end) as usize];
        let pixels = rows.flat_map(|row| line(row).iter().copied()).collect();
        Self { left, top, width: columns.end - columns.start, pixels }
    }

    fn at(&self, x: i32, y: i32) -> Rgb {
        let inside = (0..self.width).contains(&(x - self.left));
        let at = (y - self.top) * self.width + x - self.left;
        self.pixels.get(at as usize).filter(|_| inside).copied().unwrap_or(Rgb::ZERO)
    }
}

/// Lamps and beams near an object.
struct Lit {
    lamps: Vec<Vector>,
    beams: Vec<Beam>,
}

impl Mover {
    /// How far it moves in the image while the shutter is open, pixels; `None` when that is not seen.
    fn blur(&self, seconds: f32) -> Option<[f32; 2]> {
        let [x, y, count] = self.velocity;
        let [x, y] = [x * seconds / count.max(1.0), y * seconds / count.max(1.0)];
        (x.hypot(y) > 1.0).then_some([x, y])
    }
}

/// The share of the sky that a box over the ground hides from a place, in the axes of the box's foot.
///
/// Outside, its side is a wall; under it, light comes in below its edge alone, over a clearance of a third of a metre
/// for things that are long, and not at all for others. A wall of finite length hides less: by the part of a half circle
/// that it takes.
fn hidden(point: Vector, half: Vector, height: f32) -> f32 {
    let (x, y) = (point.x.abs() - half.x, point.y.abs() - half.y);
    if x <= 0.0 && y <= 0.0 {
        let clearance = if half.x > 1.2 { 0.3 } else { 0.02 };
        let inwards = (-x).min(-y);
        return 1.0 - hidden_by_wall(clearance, inwards).min(0.5);
    }
    let distance = x.max(0.0).hypot(y.max(0.0));
    let side = if y > x { half.x } else { half.y };
    // atan(a) · 2/π to within 5 %.
    let span = side / (side + std::f32::consts::FRAC_2_PI * distance);
    hidden_by_wall(height, distance) * span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_of_rectangles_are_joined() {
        let rect = |left, right, top, bottom| Rect { left, right, top, bottom };
        let rows = rows([rect(2, 5, 0, 2), rect(4, 9, 1, 3), rect(11, 12, 1, 2)].into_iter(), 4);
        assert_eq!(rows, [vec![(2, 5)], vec![(2, 9), (11, 12)], vec![(4, 9)], vec![]]);
    }

    #[test]
    fn a_wheel_is_a_disc_and_others_are_what_they_are() {
        let pose = Pose::from_translation(Vector::new(0.0, 5.0, 0.3));
        let half = Vector::new(0.3, 0.9, 0.3);
        let hit = |surface, x: f32, z: f32| {
            let part = Part::new(&Solid::still(Shape::Cuboid(half), pose, ObjectId(1), surface));
            part.shape.cast(part.local(Vector::new(x, 0.0, z)), part.turned(Vector::Y), 100.0)
        };
        assert_eq!(hit(Surface::Wheel, 0.28, 0.58), None, "a corner of its box");
        let [disc, corner] = [hit(Surface::Wheel, 0.2, 0.4), hit(Surface::Chassis, 0.28, 0.58)];
        assert!((disc.unwrap() - 4.1).abs() < 1e-5 && (corner.unwrap() - 4.1).abs() < 1e-5);
    }

    #[test]
    fn the_ground_is_dark_under_a_vehicle_and_less_beside_it() {
        let half = Vector::new(2.2, 0.9, 0.7);
        let at = |x: f32, y: f32| hidden(Vector::new(x, y, 0.0), half, 1.4);
        assert!(at(0.0, 0.0) > 0.95 && at(0.0, 0.95) < 0.5 && at(0.0, 0.95) > 0.35);
        assert!(at(0.0, 1.5) > at(0.0, 2.5) && at(0.0, 2.5) > 0.0);
    }
}
