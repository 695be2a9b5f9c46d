//! What stands still: looked at once per light, with what a frame needs to put shadows and lamps on it.

use std::sync::Arc;

use parry3d::math::Vector;
use rayon::prelude::*;

use super::super::caster::{Caster, Hit};
use super::super::texture::{Finish, Spot, Texture};
use super::lens::View;
use super::light::{Light, Rgb, bounce, schlick};
use super::objects::Part;
use super::shadow::{Bounds, SunMap};
use super::tone::Small;
use super::weather;
use crate::simulate::solid::Surface;

/// How far a ray is followed, metres.
pub(super) const FAR_M: f32 = 400.0;
/// The disc of the sun: cosine of its radius of 0.266°, and its solid angle, sr.
const SUN_COSINE: f32 = 0.999_989_2;
const SUN_SR: f32 = 6.77e-5;

/// Light, and what surfaces make of it.
#[derive(Debug)]
pub(super) struct Shader {
    pub light: Light,
    pub texture: Texture,
    bounce: Rgb,
}

/// What falls on a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incidence {
    /// Share of the sun's light on a plane across its rays.
    pub sun: f32,
    /// Share of the sky that is not hidden by things close by.
    pub open: f32,
    /// Of lamps, lux.
    pub lamps: Rgb,
}

impl Shader {
    pub fn new(light: Light, texture: Texture) -> Self {
        let bounce = bounce(&light);
        Self { light, texture, bounce }
    }

    /// Share of the sky's light that gets to a surface which looks this way.
    pub fn sky_share(normal: Vector) -> f32 {
        0.5 + 0.5 * normal.z
    }

    /// Luminance of a place, cd/m², before the air; `mirrored` is what a smooth surface shows of the world.
    pub fn luminance(
        &self,
        finish: &Finish,
        normal: Vector,
        ray: Vector,
        falls: &Incidence,
        mirrored: Option<Rgb>,
    ) -> Rgb {
        let up = Self::sky_share(normal);
        let around = (self.light.sky * up + self.bounce * (1.0 - up)) * falls.open;
        let falling = around + self.light.sun * falls.sun + falls.lamps;
        let mut seen = finish.colour * falling * std::f32::consts::FRAC_1_PI;
        if finish.gloss > 0.0 {
            let share = schlick(finish.gloss, -ray.dot(normal));
            let mirror = ray - normal * (2.0 * ray.dot(normal));
            let mut shown = mirrored.unwrap_or_else(|| self.light.around(mirror));
            if falls.sun > 0.0 {
                // The sun's disc, widened to some degrees by an uneven surface.
                let near = mirror.dot(self.light.to_sun).max(0.0);
                shown += self.light.sun * (40.0 * near.powi(250));
            }
            seen += (shown * (0.35 + 0.65 * falls.open) - seen) * share;
        }
        seen + finish.glow
    }
}

/// What one pixel of the still world is, beside its light.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Still {
    /// Diffuse reflectance / π, behind the air: what light on it adds to the image, per lux.
    pub share: Rgb,
    /// Share of the sun's light on it.
    pub sun: f32,
    /// Share of the sky's light on it.
    pub sky: f32,
    /// Normal, steps of 1/127.
    normal: [i8; 3],
}

impl Still {
    pub fn normal(&self) -> Vector {
        Vector::from(self.normal.map(|part| f32::from(part) * (1.0 / 127.0)))
    }
}

/// The still world in one light.
#[derive(Debug)]
pub(super) struct Plate {
    /// Luminance, cd/m², behind the air.
    pub light: Vec<Rgb>,
    /// Metres; infinite for the sky.
    pub depth: Vec<f32>,
    pub still: Vec<Still>,
    /// Shadows that still things throw on what moves.
    pub shadows: Option<Arc<SunMap>>,
    /// What a sun before the lens lays over the image, cd/m².
    pub veil: Option<Small>,
    /// Mean of the logarithm of luminance, the veil included, as a luminance, cd/m².
    pub mean: f32,
}

/// One ray's part of a plate.
struct Sample {
    light: Rgb,
    depth: f32,
    still: Still,
    object: u32,
}

impl Plate {
    /// Looks at what stands still; edges are looked at by `rays` + 1 squared rays. `is_parallel` takes all threads.
    pub fn new(view: &View, shader: &Shader, caster: &Caster, rays: u32, is_parallel: bool) -> Self {
        let pixels = view.width() * view.height();
        let one = |pixel: usize| sample(view, shader, caster, view.rays()[pixel]);
        let mut samples: Vec<Sample> = if is_parallel {
            (0..pixels).into_par_iter().map(one).collect()
        } else {
            (0..pixels).map(one).collect()
        };
        let edges: Vec<usize> = (0..pixels).filter(|&pixel| is_edge(&samples, view.width(), pixel)).collect();
        let fine = |&pixel: &usize| (pixel, average(view, shader, caster, rays + 1, pixel));
        let fine: Vec<(usize, Average)> =
            if is_parallel { edges.par_iter().map(fine).collect() } else { edges.iter().map(fine).collect() };
        for (pixel, average) in fine {
            let sample = &mut samples[pixel];
            sample.light = average.light;
            sample.still.share = average.share;
            sample.still.sun = average.sun;
        }
        let shadows = shader.light.has_sun().then(|| still_shadows(view, shader, caster, &samples)).flatten();
        let sees_sun =
            shader.light.has_sun() && caster.cast_still(view.origin(), shader.light.to_sun, FAR_M).is_none();
        let veil = sees_sun.then(|| {
            Small::of(view.width(), view.height(), |x, y| weather::veil(&shader.light, view.ray(x, y)))
        });
        let light = |(pixel, sample): (usize, &Sample)| {
            let veil =
                veil.as_ref().map_or(Rgb::ZERO, |veil| veil.at(pixel % view.width(), pixel / view.width()));
            (sample.light + veil).dot(LUMA).max(1e-4).ln()
        };
        let logs: f32 = samples.iter().enumerate().map(light).sum();
        Self {
            light: samples.iter().map(|sample| sample.light).collect(),
            depth: samples.iter().map(|sample| sample.depth).collect(),
            still: samples.iter().map(|sample| sample.still).collect(),
            shadows: shadows.map(Arc::new),
            veil,
            mean: (logs / pixels as f32).exp(),
        }
    }
}

/// Weights of luminance (ITU-R BT.709).
pub(super) const LUMA: Rgb = Rgb::new(0.2126, 0.7152, 0.0722);

impl Plate {
    /// Some of its pixels, of which a part of the image is made.
    pub fn part(&self, kept: &[usize]) -> Self {
        Self {
            light: kept.iter().map(|&pixel| self.light[pixel]).collect(),
            depth: kept.iter().map(|&pixel| self.depth[pixel]).collect(),
            still: kept.iter().map(|&pixel| self.still[pixel]).collect(),
            shadows: self.shadows.clone(),
            veil: None,
            mean: self.mean,
        }
    }
}

struct Average {
    light: Rgb,
    share: Rgb,
    sun: f32,
}

fn average(view: &View, shader: &Shader, caster: &Caster, side: u32, pixel: usize) -> Average {
    let mut sum = Average { light: Rgb::ZERO, share: Rgb::ZERO, sun: 0.0 };
    let part = 1.0 / (side * side) as f32;
    let place = |at: u32| (at as f32 + 0.5) / side as f32 - 0.5;
    for (down, across) in (0..side * side).map(|at| (at / side, at % side)) {
        let ray = view.ray_near(pixel, place(across), place(down));
        let one = sample(view, shader, caster, ray);
        sum.light += one.light * part;
        sum.share += one.still.share * part;
        sum.sun += one.still.sun * part;
    }
    sum
}

/// Whether a pixel differs from its right or lower neighbours, or they from it, by more than the grain of a surface.
fn is_edge(samples: &[Sample], width: usize, pixel: usize) -> bool {
    let here = &samples[pixel];
    let differs = |other: &Sample| {
        let (a, b) = (here.light.dot(LUMA), other.light.dot(LUMA));
        here.object != other.object || (a - b).abs() > 0.22 * a.max(b)
    };
    let column = pixel % width;
    let mut near = [
        (column > 0).then(|| pixel - 1),
        (column + 1 < width).then_some(pixel + 1),
        pixel.checked_sub(width),
        Some(pixel + width),
    ]
    .into_iter()
    .flatten();
    near.any(|at| samples.get(at).is_some_and(differs))
}

fn sample(view: &View, shader: &Shader, caster: &Caster, ray: Vector) -> Sample {
    let Some(hit) = caster.cast_still(view.origin(), ray, FAR_M) else {
        let light = sky(&shader.light, ray);
        return Sample { light, depth: f32::INFINITY, still: Still::default(), object: u32::MAX };
    };
    let light = &shader.light;
    let (finish, falls) = incidence(view, shader, caster, &hit, ray);
    // A wet road mirrors the street behind it, dimmed by its grain.
    let is_wet = hit.surface == Surface::Ground && finish.gloss > 0.0;
    let mirrored = is_wet.then(|| {
        let mirror = ray - hit.normal * (2.0 * ray.dot(hit.normal));
        let from = hit.point + hit.normal * 0.02;
        let shown = caster.cast_still(from, mirror, FAR_M).map_or_else(
            || light.sky(mirror),
            |hit| {
                let (finish, falls) = incidence(view, shader, caster, &hit, mirror);
                shader.luminance(&finish, hit.normal, mirror, &falls, None)
            },
        );
        shown * 0.7
    });
    let clear = light.clear(hit.distance);
    let seen = shader.luminance(&finish, hit.normal, ray, &falls, mirrored);
    Sample {
        light: seen * clear + light.air * (1.0 - clear),
        depth: hit.distance,
        still: Still {
            share: finish.colour * (clear * std::f32::consts::FRAC_1_PI),
            sun: falls.sun,
            sky: Shader::sky_share(hit.normal) * falls.open,
            normal: (hit.normal * 127.0).to_array().map(|part| part as i8),
        },
        object: hit.object.0,
    }
}

fn incidence(view: &View, shader: &Shader, caster: &Caster, hit: &Hit, ray: Vector) -> (Finish, Incidence) {
    let light = &shader.light;
    let facing = -ray.dot(hit.normal);
    let spot = Spot {
        surface: hit.surface,
        point: hit.point,
        local: hit.local,
        local_normal: hit.local_normal,
        half: hit.half,
        facing,
        width: hit.distance * view.pixel(),
    };
    let start = hit.point + hit.normal * 0.02;
    let towards = if light.has_sun() { hit.normal.dot(light.to_sun).max(0.0) } else { 0.0 };
    let is_shaded = towards > 0.0 && caster.is_shaded_by_still(start, light.to_sun, FAR_M);
    // At the foot of a wall there is less sky.
    let is_wall = hit.normal.z.abs() < 0.5 && hit.surface != Surface::Ground;
    let open = if is_wall { 0.65 + 0.35 * (hit.point.z / 1.5).clamp(0.0, 1.0) } else { 1.0 };
    let lamps = light.lamps(hit.point, hit.normal, |lamp| {
        let to = lamp - start;
        let distance = to.length();
        // The lamp's own head is around it.
        !caster.is_shaded_by_still(start, to / distance, (distance - 0.6).max(0.0))
    });
    let falls = Incidence { sun: if is_shaded { 0.0 } else { towards }, open, lamps };
    let mut finish = shader.texture.finish(&spot);
    if hit.surface == Surface::Pole
        && light.lamps.iter().any(|lamp| (*lamp - hit.point).length_squared() < 0.5)
    {
        finish.glow = light.lamp_cd * 4.0;
    }
    (finish, falls)
}

/// The sky with clouds, the sun's disc, and the air before it.
fn sky(light: &Light, ray: Vector) -> Rgb {
    let mut seen = light.sky(ray);
    if !light.is_outdoors {
        return seen;
    }
    if light.cloud > 0.0 && light.cloud < 1.0 && ray.z > 0.01 {
        let at = Vector::new(ray.x, ray.y, 0.0) * (3.0 / (ray.z + 0.15));
        let value = clouds(at.x, at.y);
        let cover = ((value - (1.0 - light.cloud)) * 5.0 + 0.5).clamp(0.0, 1.0);
        let bright = (light.sky * 1.6 + light.sun * 0.12) / std::f32::consts::PI;
        seen = seen.lerp(bright, cover * (ray.z * 12.0).min(1.0) * 0.85);
    }
    if light.has_sun() && ray.dot(light.to_sun) > SUN_COSINE {
        seen += light.sun / SUN_SR;
    }
    // Ten kilometres of air up to the top of a fog, less at a slant upwards.
    let clear = light.clear((60.0 / ray.z.max(0.003)).min(20_000.0));
    seen * clear + light.air * (1.0 - clear)
}

/// Noise of four octaves, 0…1.
fn clouds(x: f32, y: f32) -> f32 {
    use crate::simulate::random::grain;
    let octave = |scale: f32| {
        let (x, y) = (x * scale, y * scale);
        let (column, row) = (x.floor(), y.floor());
        let smooth = |share: f32| share * share * (3.0 - 2.0 * share);
        let (right, down) = (smooth(x - column), smooth(y - row));
        let at = |dx: i32, dy: i32| grain(column as i32 + dx, row as i32 + dy, scale as u32 + 40);
        let top = at(0, 0) + (at(1, 0) - at(0, 0)) * right;
        let bottom = at(0, 1) + (at(1, 1) - at(0, 1)) * right;
        top + (bottom - top) * down
    };
    0.5 * octave(1.0) + 0.25 * octave(2.0) + 0.15 * octave(4.0) + 0.1 * octave(8.0)
}

/// The shadows of still things where moving ones can be seen: near the ground, within 90 m.
fn still_shadows(view: &View, shader: &Shader, caster: &Caster, samples: &[Sample]) -> Option<SunMap> {
    const REACH_M: f32 = 90.0;
    const HEIGHT_M: f32 = 4.5;
    let to_sun = shader.light.to_sun;
    let seen = samples.iter().zip(view.rays()).step_by(7).filter(|(sample, _)| sample.depth < REACH_M);
    let points =
        seen.map(|(sample, ray)| view.origin() + *ray * sample.depth).filter(|point| point.z < HEIGHT_M);
    let points = points.flat_map(|point| [0.0, HEIGHT_M].map(|z| Vector::new(point.x, point.y, z)));
    let bounds = Bounds::around(to_sun, points)?;
    let parts: Vec<Part> = caster.still().iter().map(Part::new).collect();
    Some(SunMap::new(to_sun, bounds, 0.12, parts.iter()))
}
