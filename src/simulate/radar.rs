//! The radar: an FMCW cube, complex64 (rx, samples, chirps), from scatterers that rays find.
//!
//! The beat signal of a scatterer, transmitted times conjugate received, is a product of three ramps,
//!
//! x(rx, n, c) = a · e^{j·4πR/λ} · e^{j2π·(R/ΔR)·n/N} · e^{j2π·d·sin α·rx/λ} · e^{j4π·v·T·c/λ},
//!
//! with ΔR, λ, d, T of `[radar]`, N samples, sin α the direction's component along the array and v the radial speed,
//! positive away: what [`crate::decode::radar::CubeProcessor`] takes apart. R moves on with v from block to block of 64
//! chirps, and within a chirp the phase turns with the speed (range-Doppler coupling).
//!
//! | what | where |
//! |---|---|
//! | amplitude a by the radar equation, antenna pattern, thermal noise kT₀·B·F, high-pass filters | [`budget`] |
//! | targets: visible patches whose sum is the cross section of their class, each with its own speed | [`look`] |
//! | clutter: ground, buildings, trees in the wind, rain | [`clutter`], [`rain`] |
//! | ways over the ground (lobes) and over walls (ghosts) | [`paths`] |
//! | bursts of another radar | [`interference`] |
//! | detections of people in a room, without a cube | [`rooms`] |
//!
//! Phase noise: with transmitter and receiver on one oscillator, that of an echo of delay τ is 4·sin²(πfτ) of the chirp's
//! own (range correlation, Budge and Burt 1993). For noise that falls with f² this is a floor of (2πτ·1 MHz)² times its
//! value at 1 MHz, over all ranges and speeds, at the angle of the echo. Left out: movement of angle within a frame, more
//! than one wall, and saturation.

mod budget;
mod clutter;
mod interference;
mod look;
mod normal;
mod paths;
mod rain;
mod rooms;
mod synthesis;

use std::collections::BTreeMap;
use std::f64::consts::{PI, SQRT_2};

use num_complex::Complex32;
use parry3d::math::Vector;

use super::caster::Caster;
use super::random::{Purpose, Random};
use super::scene::Scene;
use super::solid::Solid;
use crate::space::{self, LIGHT_MPS};
use budget::{Budget, pattern};
use look::{Class, Patch, Viewpoint};
use normal::Normals;
use paths::Wall;
pub(super) use rooms::{RoomRadar, points};
use synthesis::{Column, Planes, Synthesis};

/// A point that reflects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scatterer {
    /// Distance from the radar, metres.
    pub range: f64,
    /// Component of its direction along the array, −1…1.
    pub sine: f64,
    /// Radial speed, m/s, positive away.
    pub speed: f64,
    /// Amplitude, in the cube's unit.
    pub amplitude: f64,
    /// Phase besides that of its range, radians.
    pub phase: f64,
}

/// Patches of an object further apart than this many range bins, this step of sin α or this speed are different
/// scatterers.
const CELL_BINS: f64 = 1.0;
const CELL_SINE: f64 = 0.04;
const CELL_MPS: f64 = 0.4;
/// Scatterers of an object that are looked for in mirrors, the strongest first.
const MIRRORED: usize = 4;
/// Where the transmitter's leakage seems to lie, metres.
const LEAKAGE_M: f64 = 0.1;
/// What stays so far below the noise after all processing is left out: power ratio.
const FAINT: f64 = 0.03;

/// Everything that reflects.
#[derive(Debug, Default)]
struct Echoes {
    still: Vec<Scatterer>,
    moving: Vec<Scatterer>,
}

/// Looks for scatterers.
fn echoes(scene: &Scene, caster: &Caster, sequence: usize, budget: &Budget, random: &mut Random) -> Echoes {
    let radar = &scene.radar;
    let view = Viewpoint::new(&space::mount_to_unit(&scene.pose.radar));
    let reach = radar.range_bin_m * scene.cube.samples as f64;
    let clutter = clutter::look(caster, &view, budget, radar.range_bin_m, reach, random);
    let mut echoes = Echoes { still: clutter.still, moving: clutter.moving };
    let leak = budget.leakage(scene.cube.isolation_db, LEAKAGE_M);
    echoes.still.push(Scatterer { range: LEAKAGE_M, sine: 0.0, speed: 0.0, amplitude: leak, phase: 0.0 });
    echoes.moving.extend(clutter::rain(budget, radar.wavelength_m, scene.weather(sequence), random));
    for (solids, patches, share) in look::movers(caster, &view, reach, look::STREET) {
        target(scene, caster, &view, budget, &clutter.walls, &solids, &patches, share, &mut echoes);
    }
    let cells = (scene.cube.receivers * scene.cube.samples * scene.cube.chirps) as f64;
    let faint = (2.0 * FAINT * budget.noise.powi(2) / cells).sqrt();
    echoes.still.retain(|one| one.amplitude > faint && one.range < reach);
    echoes.moving.retain(|one| one.amplitude > faint && one.range < reach);
    echoes
}

/// Scatterers of one object, and of its images in walls.
#[allow(clippy::too_many_arguments, reason = "of one place, taken out for its length")]
fn target(
    scene: &Scene,
    caster: &Caster,
    view: &Viewpoint,
    budget: &Budget,
    walls: &[Wall],
    solids: &[Solid],
    patches: &[Patch],
    share: f64,
    echoes: &mut Echoes,
) {
    /// Means over the patches of a cell, weighted by cross section.
    #[derive(Clone, Copy)]
    struct Part {
        section: f64,
        range: f64,
        point: Vector,
        velocity: Vector,
        ray: Vector,
    }
    let radar = &scene.radar;
    let Some(first) = patches.first() else { return };
    let raw: f64 = patches.iter().map(|patch| patch.section).sum();
    let whole = Class::of(solids).section(solids, first.ray) * share;
    let mut cells: BTreeMap<[i64; 3], Vec<&Patch>> = BTreeMap::new();
    for patch in patches {
        let speed = f64::from(patch.velocity.dot(patch.ray));
        let cell = [
            (patch.range / radar.range_bin_m / CELL_BINS) as i64,
            (view.seen(patch.ray).x / CELL_SINE).floor() as i64,
            (speed / CELL_MPS).floor() as i64,
        ];
        cells.entry(cell).or_default().push(patch);
    }
    let merge = |patches: &Vec<&Patch>| {
        let sum: f64 = patches.iter().map(|patch| patch.section).sum();
        let weigh = |value: fn(&Patch) -> Vector| -> Vector {
            patches.iter().map(|patch| value(patch) * (patch.section / sum) as f32).sum()
        };
        let point = weigh(|patch| patch.point);
        let away = point - view.origin;
        Part {
            section: whole * sum / raw,
            range: f64::from(away.length()),
            point,
            velocity: weigh(|patch| patch.velocity),
            ray: away.normalize_or(Vector::Y),
        }
    };
    let mut parts: Vec<Part> = cells.values().map(merge).filter(|part| part.section > 0.0).collect();
    parts.sort_by(|a, b| b.section.total_cmp(&a.section));
    let gain = |ray: Vector| {
        let [azimuth, elevation] = view.angles(ray);
        pattern(azimuth, elevation)
    };
    for part in &parts {
        let level = f64::from((part.point - view.origin).truncate().length());
        let (mast, height) = (f64::from(view.origin.z), f64::from(part.point.z));
        let lobes = paths::ground(mast, height, level, radar.wavelength_m);
        echoes.moving.push(Scatterer {
            range: part.range,
            sine: view.seen(part.ray).x,
            speed: f64::from(part.velocity.dot(part.ray)),
            amplitude: budget.echo(part.section, gain(part.ray).powi(2), part.range, part.range)
                * lobes.norm(),
            phase: lobes.arg(),
        });
    }
    for wall in walls {
        for part in parts.iter().take(MIRRORED) {
            let (origin, wavelength) = (view.origin, radar.wavelength_m);
            let Some(bounce) = wall.bounce(caster, origin, part.point, part.velocity, wavelength) else {
                continue;
            };
            let (near, far) = (gain(part.ray), gain(bounce.ray));
            let speed = f64::from(part.velocity.dot(part.ray));
            // Straight there and back over the wall, and the other way round: at the same range and speed, at two angles.
            let once = Scatterer {
                range: (part.range + bounce.length) / 2.0,
                sine: 0.0,
                speed: (speed + bounce.speed) / 2.0,
                amplitude: budget.echo(part.section, near * far, part.range, bounce.length)
                    * bounce.reflection,
                phase: 0.0,
            };
            echoes.moving.push(Scatterer { sine: view.seen(bounce.ray).x, ..once });
            echoes.moving.push(Scatterer { sine: view.seen(part.ray).x, ..once });
            // Over the wall both ways: the image itself.
            echoes.moving.push(Scatterer {
                range: bounce.length,
                sine: view.seen(bounce.ray).x,
                speed: bounce.speed,
                amplitude: budget.echo(part.section, far.powi(2), bounce.length, bounce.length)
                    * bounce.reflection.powi(2),
                phase: 0.0,
            });
        }
    }
}

/// The cube of a frame, in C order (rx, samples, chirps); `interference` is the probability that another radar disturbs it.
pub(super) fn observe(
    scene: &Scene,
    caster: &Caster,
    sequence: usize,
    frame: usize,
    interference: f64,
) -> Vec<Complex32> {
    let mut random = Random::new(scene.seed, sequence, frame, Purpose::Radar);
    let budget = Budget::new(scene, scene.weather(sequence));
    // Drawn first, so that they do not depend on what is in the scene.
    let mut normals = Normals::new(seed(&mut random));
    let mut strange = Random::new(scene.seed, sequence, frame, Purpose::Interference);
    let is_disturbed = f64::from(strange.uniform()) < interference;
    let echoes = echoes(scene, caster, sequence, &budget, &mut random);
    let mut planes = signal(scene, &echoes, &budget, &mut normals);
    if is_disturbed {
        interference::add(scene, &budget, &mut planes, &mut strange);
    }
    planes.real.into_iter().zip(planes.imaginary).map(|(re, im)| Complex32::new(re, im)).collect()
}

/// Whether another radar disturbs a frame: what [`observe`] draws.
pub(super) fn is_disturbed(scene: &Scene, sequence: usize, frame: usize, interference: f64) -> bool {
    f64::from(Random::new(scene.seed, sequence, frame, Purpose::Interference).uniform()) < interference
}

/// Whether a place of the unit frame is in front of the radar and within its longest range.
pub(super) fn covers(scene: &Scene, point: Vector) -> bool {
    let mount = space::mount_to_unit(&scene.pose.radar);
    let point = [point.x, point.y, point.z].map(f64::from);
    let seen = mount.inverse_transform_point(&point.into());
    seen.y > 0.0 && seen.coords.norm() < scene.radar.range_bin_m * scene.cube.samples as f64
}

fn seed(random: &mut Random) -> u128 {
    (0..6).fold(0, |seed, _| (seed << 24) | u128::from((random.uniform() * 16_777_216.0) as u32))
}

/// The echoes' signals, with the noise of the receiver and of the chirps.
fn signal(scene: &Scene, echoes: &Echoes, budget: &Budget, normals: &mut Normals) -> Planes {
    let synthesis = Synthesis::new(scene);
    let chirps = scene.cube.chirps;
    let cells = synthesis.rows() * chirps;
    let mut noise = || (0..cells).map(|_| normals.next() * budget.noise as f32).collect::<Vec<f32>>();
    let mut planes = Planes { chirps, real: noise(), imaginary: noise() };
    let mut still = Column::zeros(synthesis.rows());
    for scatterer in &echoes.still {
        synthesis.add_column(&mut still, scatterer, 0.0, 1.0);
    }
    synthesis.add_still(&mut planes, &still);
    synthesis.add_moving(&mut planes, &echoes.moving);
    // Every echo, as strong as its phase noise is by its delay.
    let mut jitter = Column::zeros(synthesis.rows());
    for scatterer in echoes.still.iter().chain(&echoes.moving) {
        let correlation = (2.0 * PI * 1e6 * 2.0 * scatterer.range / LIGHT_MPS).min(SQRT_2);
        synthesis.add_column(&mut jitter, scatterer, 0.0, correlation);
    }
    let deviation = (10f64.powf(scene.cube.phase_noise_dbc_hz / 10.0) * scene.cube.sample_hz).sqrt() as f32;
    add_phase_noise(scene, &mut planes, &jitter, deviation, normals);
    planes
}

/// Adds j·φ(n, c)·x(rx, n): all antennas share the oscillator.
fn add_phase_noise(
    scene: &Scene,
    planes: &mut Planes,
    column: &Column,
    deviation: f32,
    normals: &mut Normals,
) {
    let (samples, chirps) = (scene.cube.samples, scene.cube.chirps);
    let mut phases = vec![0.0f32; chirps];
    for sample in 0..samples {
        phases.iter_mut().for_each(|phase| *phase = normals.next() * deviation);
        for receiver in 0..scene.cube.receivers {
            let row = receiver * samples + sample;
            let (Some(&re), Some(&im)) = (column.real.get(row), column.imaginary.get(row)) else { continue };
            let cells = row * chirps..(row + 1) * chirps;
            let real = planes.real.get_mut(cells.clone()).unwrap_or_default();
            let imaginary = planes.imaginary.get_mut(cells).unwrap_or_default();
            for ((real, imaginary), phase) in real.iter_mut().zip(imaginary).zip(&phases) {
                *real -= im * phase;
                *imaginary += re * phase;
            }
        }
    }
}

/// The `.npy` file of a cube (format version 1.0).
pub(super) fn npy(scene: &Scene, cube: &[Complex32]) -> Vec<u8> {
    let [receivers, samples, chirps] = [scene.cube.receivers, scene.cube.samples, scene.cube.chirps];
    let mut header =
        format!("{{'descr': '<c8', 'fortran_order': False, 'shape': ({receivers}, {samples}, {chirps}), }}");
    // With its 10 bytes before it and the line's end it fills blocks of 64 bytes.
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = Vec::with_capacity(cube.len() * 8 + header.len() + 10);
    file.extend_from_slice(b"\x93NUMPY\x01\x00");
    file.extend_from_slice(&(header.len() as u16).to_le_bytes());
    file.extend_from_slice(header.as_bytes());
    for value in cube {
        let [a, b, c, d] = value.re.to_le_bytes();
        let [e, f, g, h] = value.im.to_le_bytes();
        file.extend_from_slice(&[a, b, c, d, e, f, g, h]);
    }
    file
}

#[cfg(test)]
mod tests;
