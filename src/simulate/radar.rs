//! The radar: an FMCW cube, complex64 (rx, samples, chirps), from scatterers that the ray caster finds.
//!
//! Rays sample the solid angle in front of the radar. Hits on the same object in the same cell of range and angle make
//! one scatterer with the sum of their cross-sections σ. Its beat signal, transmitted times conjugate received, is a
//! product of three ramps,
//!
//! x(rx, n, c) = a · e^{j·4πR/λ} · e^{j2π·(R/ΔR)·n/N} · e^{j2π·d·sin α·rx/λ} · e^{j4π·v·T·c/λ},  a = √σ·(10 m/R)²,
//!
//! with ΔR, λ, d, T of `[radar]`, N samples, sin α the direction's component along the array and v the radial speed,
//! positive away: what [`crate::decode::radar::CubeProcessor`] takes apart. Left out: movement of range within a frame,
//! multiple bounces, and leakage from transmitter to receiver.

use std::collections::BTreeMap;
use std::f64::consts::{PI, TAU};

use nalgebra::Vector3;
use npyz::WriterBuilder;
use num_complex::Complex32;

use super::caster::{Caster, Hit};
use super::random::{Purpose, Random};
use super::scene::Scene;
use super::solid::{ObjectId, Surface};
use super::{direction, place};
use crate::space;

/// Azimuths of the rays: this many over −60…+60°, one per half degree.
const COLUMNS: usize = 240;
/// Half of the field that is looked at, degrees.
const HALF_FIELD_DEG: f64 = 60.0;
/// Elevations of the rays, degrees: the beam of a radar's patch antennas is narrow.
const ELEVATIONS_DEG: [f64; 16] =
    [-22.0, -18.0, -15.0, -12.0, -10.0, -8.0, -6.5, -5.0, -3.5, -2.0, -0.5, 1.0, 3.0, 5.0, 8.0, 12.0];
/// Half-power half width of the antenna in elevation, degrees.
const ELEVATION_WIDTH_DEG: f64 = 14.0;
/// Hits of an object further apart than this many range bins or this step of sin α are different scatterers.
const CELL_BINS: f64 = 2.0;
const CELL_SINE: f64 = 0.04;

/// A point that reflects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scatterer {
    /// Distance from the radar, metres.
    pub range: f64,
    /// Component of its direction along the array, −1…1.
    pub sine: f64,
    /// Radial speed, m/s, positive away.
    pub speed: f64,
    /// Amplitude: 1 for 1 m² at 10 m.
    pub amplitude: f64,
}

/// Looks for scatterers.
pub(super) fn scatterers(scene: &Scene, caster: &Caster) -> Vec<Scatterer> {
    /// Sums over the hits of one cell, weighted by σ.
    #[derive(Default)]
    struct Sum {
        section: f64,
        range: f64,
        sine: f64,
        speed: f64,
    }
    let radar = &scene.radar;
    let mount = space::mount_to_unit(&scene.pose.radar);
    let origin = place(&mount.translation.vector.into());
    let reach = radar.range_bin_m * scene.cube.samples as f64;
    let step = (2.0 * HALF_FIELD_DEG / COLUMNS as f64).to_radians();
    let mut cells: BTreeMap<(ObjectId, i64, i64), Sum> = BTreeMap::new();
    for (row, elevation) in ELEVATIONS_DEG.into_iter().enumerate() {
        let neighbour = |at: usize| ELEVATIONS_DEG.get(at).copied().unwrap_or(elevation);
        let rise = ((neighbour(row + 1) - neighbour(row.saturating_sub(1))) / 2.0).to_radians();
        // −3 dB one way at the half width, so −6 dB there and back.
        let pattern = 10f64.powf(-0.6 * (elevation / ELEVATION_WIDTH_DEG).powi(2));
        for column in 0..COLUMNS {
            let azimuth = (column as f64 + 0.5) * step - HALF_FIELD_DEG.to_radians();
            let ray = direction(&mount, azimuth, elevation.to_radians());
            let Some(hit) = caster.cast(origin, ray, reach as f32) else { continue };
            let range = f64::from(hit.distance);
            let along = Vector3::new(f64::from(ray.x), f64::from(ray.y), f64::from(ray.z));
            let sine = (mount.rotation.inverse() * along).x;
            let speed = f64::from(hit.velocity.dot(ray));
            // The patch of the surface that this ray stands for, seen at its incidence.
            let patch = range * range * step * rise * elevation.to_radians().cos();
            let section = patch * backscatter(&hit, -ray.dot(hit.normal)) * pattern * azimuth.cos().powi(2);
            let cell =
                (hit.object, (range / radar.range_bin_m / CELL_BINS) as i64, (sine / CELL_SINE) as i64);
            let sum = cells.entry(cell).or_default();
            sum.section += section;
            sum.range += section * range;
            sum.sine += section * sine;
            sum.speed += section * speed;
        }
    }
    let scatterer = |sum: &Sum| {
        let range = sum.range / sum.section;
        let amplitude = sum.section.sqrt() * (10.0 / range).powi(2);
        Scatterer { range, sine: sum.sine / sum.section, speed: sum.speed / sum.section, amplitude }
    };
    cells.values().filter(|sum| sum.section > 0.0).map(scatterer).collect()
}

/// Backscatter per projected area at 77 GHz, from cos of the incidence: metal throws back much, straight on most of all.
fn backscatter(hit: &Hit, cosine: f32) -> f64 {
    let (rough, mirror) = match hit.surface {
        Surface::Ground => (0.02, 0.0),
        Surface::Facade { .. } => (0.12, 0.4),
        Surface::Paint(_) | Surface::Windows { .. } => (0.8, 3.0),
        Surface::Glass => (0.15, 0.5),
        Surface::Lamp | Surface::TailLamp | Surface::Wheel | Surface::Chassis => (0.8, 0.5),
        Surface::Bark | Surface::Leaves => (0.08, 0.0),
        Surface::Pole => (1.0, 3.0),
        Surface::Cloth(_) | Surface::Skin(_) | Surface::Hair(_) => (0.3, 0.3),
    };
    let cosine = f64::from(cosine.clamp(0.0, 1.0));
    rough * cosine + mirror * cosine.powi(40)
}

/// The cube of a frame, in C order (rx, samples, chirps).
pub(super) fn observe(scene: &Scene, caster: &Caster, sequence: usize, frame: usize) -> Vec<Complex32> {
    let mut random = Random::new(scene.seed, sequence, frame, Purpose::Radar);
    let cube = &scene.cube;
    let cells = cube.receivers * cube.samples * cube.chirps;
    let scale = (cube.noise * std::f64::consts::FRAC_1_SQRT_2) as f32;
    let mut real = Vec::with_capacity(cells);
    let mut imaginary = Vec::with_capacity(cells);
    for _ in 0..cells {
        let [re, im] = random.normals();
        real.push(re * scale);
        imaginary.push(im * scale);
    }
    for scatterer in scatterers(scene, caster) {
        add(scene, &scatterer, &mut real, &mut imaginary);
    }
    real.into_iter().zip(imaginary).map(|(re, im)| Complex32::new(re, im)).collect()
}

/// Adds the beat signal of one scatterer. Real and imaginary parts lie apart, so that the inner loop runs in vectors.
fn add(scene: &Scene, scatterer: &Scatterer, real: &mut [f32], imaginary: &mut [f32]) {
    let (radar, cube) = (&scene.radar, &scene.cube);
    let ramp = |turns: f64, count: usize| -> Vec<Complex32> {
        (0..count)
            .map(|at| {
                let (sin, cos) = (TAU * (turns * at as f64).fract()).sin_cos();
                Complex32::new(cos as f32, sin as f32)
            })
            .collect()
    };
    let right = if radar.phase_grows_right { 1.0 } else { -1.0 };
    let ranges = ramp(scatterer.range / radar.range_bin_m / cube.samples as f64, cube.samples);
    let angles = ramp(right * scatterer.sine * radar.rx_spacing_m / radar.wavelength_m, cube.receivers);
    let speeds = ramp(2.0 * scatterer.speed * radar.chirp_period_s / radar.wavelength_m, cube.chirps);
    let (slow_re, slow_im): (Vec<f32>, Vec<f32>) = speeds.iter().map(|value| (value.re, value.im)).unzip();
    let phase = 4.0 * PI * scatterer.range / radar.wavelength_m;
    let start = Complex32::from_polar(scatterer.amplitude as f32, (phase % TAU) as f32);
    let rows = real.chunks_exact_mut(cube.chirps).zip(imaginary.chunks_exact_mut(cube.chirps));
    let weights = angles.iter().flat_map(|angle| ranges.iter().map(move |range| start * angle * range));
    for ((real, imaginary), weight) in rows.zip(weights) {
        for (((re, im), slow_re), slow_im) in real.iter_mut().zip(imaginary).zip(&slow_re).zip(&slow_im) {
            *re += weight.re * slow_re - weight.im * slow_im;
            *im += weight.re * slow_im + weight.im * slow_re;
        }
    }
}

/// The `.npy` file of a cube.
pub(super) fn npy(scene: &Scene, cube: &[Complex32]) -> std::io::Result<Vec<u8>> {
    let shape = [scene.cube.receivers, scene.cube.samples, scene.cube.chirps].map(|side| side as u64);
    let mut file = Vec::with_capacity(cube.len() * 8 + 128);
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut file).begin_nd()?;
    writer.extend(cube.iter().copied())?;
    writer.finish()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::radar::CubeProcessor;
    use ndarray::ArrayView3;

    #[test]
    fn a_scatterer_lands_in_the_cells_of_its_numbers() {
        let mut scene = Scene::default();
        scene.radar.angle_bins = 64;
        let [receivers, samples, chirps] = [4, 256, 64];
        let mut real = vec![0.0; receivers * samples * chirps];
        let mut imaginary = real.clone();
        // Bin 60, sin α = 0.25 (8 bins of 64 to the right), 5 Doppler bins away.
        let bin = scene.radar.wavelength_m / (2.0 * 64.0 * scene.radar.chirp_period_s);
        let scatterer = Scatterer { range: 60.0 * 0.195, sine: 0.25, speed: 5.0 * bin, amplitude: 1.0 };
        add(&scene, &scatterer, &mut real, &mut imaginary);
        let cube: Vec<Complex32> =
            real.iter().zip(&imaginary).map(|(&re, &im)| Complex32::new(re, im)).collect();
        let view = ArrayView3::from_shape((receivers, samples, chirps), &cube).unwrap();
        let mut processor = CubeProcessor::new(scene.radar);
        let strongest = |map: &ndarray::Array2<f32>| {
            map.indexed_iter().max_by(|a, b| a.1.total_cmp(b.1)).map(|(at, _)| at).unwrap()
        };
        assert_eq!(strongest(&processor.maps(view).moving), (60, 40));
        assert_eq!(strongest(&processor.range_doppler(view)), (60, 37));
    }
}
