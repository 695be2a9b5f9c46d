//! What is not a target: ground, buildings, trees, poles, and the rain.

use std::collections::BTreeMap;

use super::super::caster::Caster;
use super::super::random::Random;
use super::super::scene::Weather;
use super::super::solid::{ObjectId, Surface};
use super::budget::{Budget, pattern};
use super::look::{Viewpoint, backscatter};
use super::paths::Wall;
use super::{Scatterer, rain};

/// Azimuths and elevations that are looked at, degrees, and steps between rays.
const HALF_FIELD_DEG: f64 = 62.0;
const COLUMNS: usize = 124;
const ELEVATIONS_DEG: [f64; 14] =
    [-30.0, -24.0, -19.0, -15.0, -12.0, -9.5, -7.5, -5.5, -3.5, -1.5, 0.5, 3.5, 8.0, 14.0];
/// Hits of an object further apart than this many range bins or this step of sin α are different scatterers.
const CELL_BINS: f64 = 1.0;
const CELL_SINE: f64 = 0.03;
/// Leaves move in the wind: standard deviation of their radial speed, m/s (Billingsley 2002: some 0.1 to 0.3).
const LEAVES_MPS: f32 = 0.15;

/// Clutter.
#[derive(Debug, Default)]
pub struct Clutter {
    /// What stands still.
    pub still: Vec<Scatterer>,
    /// Leaves, and rain.
    pub moving: Vec<Scatterer>,
    /// Flat walls that were seen, which mirror.
    pub walls: Vec<Wall>,
}

/// Looks around; what moves only hides what is behind it.
pub fn look(
    caster: &Caster,
    view: &Viewpoint,
    budget: &Budget,
    range_bin: f64,
    reach: f64,
    random: &mut Random,
) -> Clutter {
    /// Sums over the hits of one cell, weighted by power.
    #[derive(Default)]
    struct Sum {
        section: f64,
        weight: f64,
        range: f64,
        sine: f64,
        is_leaves: bool,
    }
    let step = (2.0 * HALF_FIELD_DEG / COLUMNS as f64).to_radians();
    let mut cells: BTreeMap<(ObjectId, i64, i64), Sum> = BTreeMap::new();
    let mut walls: Vec<Wall> = Vec::new();
    for (row, degrees) in ELEVATIONS_DEG.into_iter().enumerate() {
        let neighbour = |at: usize| ELEVATIONS_DEG.get(at).copied().unwrap_or(degrees);
        let rise = ((neighbour(row + 1) - neighbour(row.saturating_sub(1))) / 2.0).to_radians();
        let elevation = degrees.to_radians();
        for column in 0..COLUMNS {
            let azimuth = (column as f64 + 0.5) * step - HALF_FIELD_DEG.to_radians();
            let ray = view.ray([azimuth, elevation]);
            let Some(hit) = caster.cast_still(view.origin, ray, reach as f32) else { continue };
            if caster.is_shaded_by_moving(view.origin, ray, hit.distance) {
                continue;
            }
            if matches!(hit.surface, Surface::Facade { .. }) {
                Wall::note(&mut walls, &hit);
            }
            let range = f64::from(hit.distance);
            let patch = range * range * step * rise * elevation.cos();
            let section = patch * backscatter(hit.surface, -ray.dot(hit.normal));
            let weight = section * pattern(azimuth, elevation).powi(2);
            let sine = view.seen(ray).x;
            let cell =
                (hit.object, (range / range_bin / CELL_BINS) as i64, (sine / CELL_SINE).floor() as i64);
            let sum = cells.entry(cell).or_default();
            sum.section += section;
            sum.weight += weight;
            sum.range += weight * range;
            sum.sine += weight * sine;
            sum.is_leaves = matches!(hit.surface, Surface::Leaves);
        }
    }
    let mut clutter = Clutter { walls, ..Clutter::default() };
    for sum in cells.values().filter(|sum| sum.weight > 0.0) {
        let range = sum.range / sum.weight;
        let scatterer = Scatterer {
            range,
            sine: sum.sine / sum.weight,
            speed: 0.0,
            amplitude: budget.echo(sum.section, sum.weight / sum.section, range, range),
            phase: 0.0,
        };
        if sum.is_leaves {
            let speed = f64::from(random.normal() * LEAVES_MPS);
            clutter.moving.push(Scatterer { speed, ..scatterer });
        } else {
            clutter.still.push(scatterer);
        }
    }
    clutter
}

/// Shells of rain, and drops that stand for a shell.
const SHELLS: usize = 8;
const DROPS: usize = 4;
/// Furthest rain that is seen, metres.
const RAIN_M: f64 = 16.0;
/// Solid angle of the antennas there and back, sr: the square of [`pattern`] summed over all directions.
const BEAM_SR: f64 = 0.254;
/// Radial speed of rain: it falls across the beam; wind and turbulence, m/s.
const RAIN_MPS: f32 = 0.8;

/// Rain: shells around the radar, each with the reflectivity of its volume in a few scatterers.
pub fn rain(budget: &Budget, wavelength: f64, weather: &Weather, random: &mut Random) -> Vec<Scatterer> {
    let reflectivity = rain::reflectivity(wavelength, weather.rain_mm_h, weather.temperature_c);
    if reflectivity <= 0.0 {
        return Vec::new();
    }
    let mut scatterers = Vec::with_capacity(SHELLS * DROPS);
    for shell in 0..SHELLS {
        // Shells of equal ratio of ranges: near ones are thin.
        let edge = |at: usize| 0.6 * (RAIN_M / 0.6).powf(at as f64 / SHELLS as f64);
        let (near, far) = (edge(shell), edge(shell + 1));
        let volume = BEAM_SR * (far.powi(3) - near.powi(3)) / 3.0;
        for _ in 0..DROPS {
            let range = near + (far - near) * f64::from(random.uniform());
            let section = reflectivity * volume / DROPS as f64;
            let azimuth = f64::from(random.normal()) * 17f64.to_radians();
            scatterers.push(Scatterer {
                range,
                sine: azimuth.sin(),
                speed: f64::from(random.normal() * RAIN_MPS),
                amplitude: budget.echo(section, 1.0, range, range),
                phase: std::f64::consts::TAU * f64::from(random.uniform()),
            });
        }
    }
    scatterers
}
