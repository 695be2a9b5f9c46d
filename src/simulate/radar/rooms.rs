//! What a small radar on a wall tells of the people in a room: a list of points, as TI's demonstrations send them.
//!
//! Every visible patch of what moves puts its wave into the range-Doppler map, (range bins, speed bins), through the
//! response of a Hann window along both; the map is normalised so that thermal noise is 1 per cell. Cells that stand out of
//! their neighbours in range (cell-averaging CFAR, smaller side) and in speed (both sides) are points. Each point has the range and the speed of its
//! cell, and the direction of the waves in it with an error by its signal-to-noise ratio.

use std::f64::consts::{PI, TAU};

use nalgebra::Isometry3;
use num_complex::Complex64;

use super::super::caster::Caster;
use super::super::random::Random;
use super::look::{self, Class, Viewpoint};
use crate::space::LIGHT_MPS;

/// Numbers of a radar in a room. The defaults are those of TI's people counting with an IWR6843 (TIDEP-01000, table 2, 6 m).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoomRadar {
    /// Carrier wavelength, metres.
    pub wavelength_m: f64,
    /// Metres.
    pub range_bin_m: f64,
    /// m/s.
    pub speed_bin_mps: f64,
    /// Samples per chirp: as many range bins.
    pub samples: usize,
    /// Chirps per transmitter and frame: as many speed bins; speeds beyond half of them fold.
    pub chirps: usize,
    /// Virtual antennas along x and along z, half a wavelength apart.
    pub antennas: [usize; 2],
    /// Sampling rate, Hz.
    pub sample_hz: f64,
    /// dBm.
    pub transmit_dbm: f64,
    /// Of each antenna, dBi.
    pub gain_dbi: f64,
    /// dB.
    pub noise_figure_db: f64,
    /// A cell is a point when it stands out of its neighbours in range by so much, dB,
    pub threshold_db: f64,
    /// and of its neighbours in speed by so much, dB.
    pub speed_threshold_db: f64,
    /// Whether the mean over chirps is taken away, and with it everything whose speed is in bin 0.
    pub removes_still: bool,
}

impl Default for RoomRadar {
    fn default() -> Self {
        Self {
            wavelength_m: LIGHT_MPS / 61.6e9,
            range_bin_m: 0.084,
            speed_bin_mps: 0.09,
            samples: 96,
            chirps: 96,
            antennas: [8, 2],
            sample_hz: 2.95e6,
            transmit_dbm: 12.0,
            gain_dbi: 7.0,
            noise_figure_db: 14.0,
            threshold_db: 15.0,
            speed_threshold_db: 6.0,
            removes_still: true,
        }
    }
}

/// One point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RadarReturn {
    /// In the mount (x right, y along boresight, z up), metres.
    pub position: [f64; 3],
    /// Radial speed, m/s, positive away.
    pub doppler: f64,
    /// Signal-to-noise ratio, dB.
    pub intensity: f64,
}

/// Cells beside the tested one that are not asked, and the number of those that are, to each side in range.
const GUARD: usize = 2;
const WINDOW: usize = 4;
/// What a Hann window lets into a cell from a distance of bins: amplitude, up to here.
const REACH: i64 = 2;

#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    wave: Complex64,
    power: f64,
    sine: f64,
    rise: f64,
}

/// Points of what moves in a room, in order of range; `mount` has x right, y along boresight and z up.
///
/// A person gives some 5 to 40 points per frame, of which those at rest come and go.
pub fn points(
    caster: &Caster,
    mount: &Isometry3<f64>,
    radar: &RoomRadar,
    random: &mut Random,
) -> Vec<RadarReturn> {
    let view = Viewpoint::new(mount);
    let (ranges, speeds) = (radar.samples, radar.chirps);
    let mut map = vec![Cell::default(); ranges * speeds];
    let reach = radar.range_bin_m * ranges as f64;
    for (solids, patches, share) in look::movers(caster, &view, reach, look::ROOM) {
        let Some(first) = patches.first() else { continue };
        let raw: f64 = patches.iter().map(|patch| patch.section).sum();
        let scale = Class::of(&solids).section(&solids, first.ray) * share / raw;
        for patch in &patches {
            let seen = view.seen(patch.ray);
            let power = radar.snr(patch.section * scale, patch.range);
            // Patches are larger than a wavelength and rough: the phase of each is its own.
            let phase = 4.0 * PI * patch.range / radar.wavelength_m + TAU * f64::from(random.uniform());
            let wave = Complex64::from_polar(power.sqrt(), phase % TAU);
            let speed = f64::from(patch.velocity.dot(patch.ray));
            add(radar, &mut map, patch.range, speed, wave, [seen.x, seen.z]);
        }
    }
    for cell in &mut map {
        let [re, im] = random.normals().map(|value| f64::from(value) * std::f64::consts::FRAC_1_SQRT_2);
        cell.wave += Complex64::new(re, im);
    }
    detect(radar, &map, random)
}

impl RoomRadar {
    /// Signal-to-noise ratio after range and Doppler FFT and over all antennas, linear (the radar equation; a Hann window
    /// loses 1.76 dB along each of both).
    fn snr(&self, section: f64, range: f64) -> f64 {
        const BOLTZMANN_290: f64 = 1.380_649e-23 * 290.0;
        const HANN: f64 = 1.5;
        let linear = |db: f64| 10f64.powf(db / 10.0);
        let gain = linear(self.transmit_dbm - 30.0 + 2.0 * self.gain_dbi - self.noise_figure_db);
        let [across, up] = self.antennas;
        let seconds = (self.samples * self.chirps * across * up) as f64 / self.sample_hz;
        gain * self.wavelength_m.powi(2) * section * seconds
            / ((4.0 * PI).powi(3) * range.powi(4) * BOLTZMANN_290 * HANN * HANN)
    }
}

/// Puts a wave into the cells around its own.
fn add(radar: &RoomRadar, map: &mut [Cell], range: f64, speed: f64, wave: Complex64, [sine, rise]: [f64; 2]) {
    let (row, column) = (range / radar.range_bin_m, speed / radar.speed_bin_mps);
    for at in row.round() as i64 - REACH..=row.round() as i64 + REACH {
        let Some(begin) = usize::try_from(at).ok().filter(|at| *at < radar.samples) else { continue };
        let along_range = hann(at as f64 - row);
        for bin in column.round() as i64 - REACH..=column.round() as i64 + REACH {
            let part = wave * (along_range * hann(bin as f64 - column));
            let place = begin * radar.chirps + bin.rem_euclid(radar.chirps as i64) as usize;
            let Some(cell) = map.get_mut(place) else { continue };
            let power = part.norm_sqr();
            cell.wave += part;
            cell.power += power;
            cell.sine += power * sine;
            cell.rise += power * rise;
        }
    }
}

/// Response of a Hann window at a distance of bins, 1 at 0: sinc(x)/(1 − x²).
fn hann(bins: f64) -> f64 {
    if bins.abs() < 1e-9 {
        return 1.0;
    }
    let across = 1.0 - bins * bins;
    if across.abs() < 1e-9 { 0.5 } else { (PI * bins).sin() / (PI * bins) / across }
}

fn detect(radar: &RoomRadar, map: &[Cell], random: &mut Random) -> Vec<RadarReturn> {
    let linear = |db: f64| 10f64.powf(db / 10.0);
    let (threshold, speed_threshold) = (linear(radar.threshold_db), linear(radar.speed_threshold_db));
    let speeds = radar.chirps;
    let mut points = Vec::new();
    for (row, cells) in map.chunks_exact(speeds).enumerate() {
        for (column, cell) in cells.iter().enumerate() {
            if radar.removes_still && column == 0 {
                continue;
            }
            let power = cell.wave.norm_sqr();
            if row == 0
                || power < threshold * beside(map, speeds, row, column)
                || power < speed_threshold * around(cells, column)
            {
                continue;
            }
            let bin = if column > speeds / 2 { column as f64 - speeds as f64 } else { column as f64 };
            let range = row as f64 * radar.range_bin_m;
            // Skolnik: error of an angle = beam width/(1.6·√(2·SNR)), the width of n antennas λ/2 apart being 2/n in sin α.
            let deviation = |antennas: usize| 2.0 / antennas as f64 / (1.6 * (2.0 * power).sqrt());
            let [a, b] = random.normals().map(f64::from);
            let [across, up] = radar.antennas;
            let x = cell.sine / cell.power.max(1e-12) + a * deviation(across);
            let z = cell.rise / cell.power.max(1e-12) + b * deviation(up);
            let forward = 1.0 - x * x - z * z;
            if forward <= 0.0 {
                continue;
            }
            points.push(RadarReturn {
                position: [range * x, range * forward.sqrt(), range * z],
                doppler: bin * radar.speed_bin_mps,
                intensity: 10.0 * power.log10(),
            });
        }
    }
    points
}

/// Mean power of the cells before or behind a cell in range, whichever is smaller; at least that of the noise.
fn beside(map: &[Cell], speeds: usize, row: usize, column: usize) -> f64 {
    let side = |rows: &mut dyn Iterator<Item = usize>| {
        let found: Vec<f64> =
            rows.filter_map(|row| map.get(row * speeds + column)).map(|cell| cell.wave.norm_sqr()).collect();
        (!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64)
    };
    let behind = side(&mut (row + GUARD + 1..row + GUARD + 1 + WINDOW));
    let before = side(&mut (row.saturating_sub(GUARD + WINDOW)..row.saturating_sub(GUARD)));
    [behind, before].into_iter().flatten().fold(f64::MAX, f64::min).max(1.0)
}

/// Mean power of the cells on both sides of a cell in speed, which come round; at least that of the noise.
fn around(cells: &[Cell], column: usize) -> f64 {
    let count = cells.len();
    let offsets = GUARD + 1..GUARD + 1 + WINDOW;
    let both = offsets.flat_map(|off| [(column + off) % count, (column + count - off % count) % count]);
    let power: f64 = both.filter_map(|at| cells.get(at)).map(|cell| cell.wave.norm_sqr()).sum();
    (power / (2 * WINDOW) as f64).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use super::super::super::caster::Solids;
    use super::super::super::random::Purpose;
    use super::super::super::solid::{ObjectId, Solid, Surface};
    use parry3d::math::Vector;

    const PERSON: ObjectId = ObjectId(5);
    /// Of the arms, radians and per second: hands at up to 1.2 m/s, as in the exercises of MARS.
    const SWING: f64 = 0.55;
    const SWINGS_HZ: f64 = 0.6;

    /// Someone 2 m in front of the radar who swings both arms and nods, at a phase of the swing.
    fn person(phase: f64, y: f32) -> Caster {
        let swing = SWING * phase.cos();
        let rate = (-SWING * phase.sin() * TAU * SWINGS_HZ) as f32;
        let mut solids = Vec::new();
        let mut limb = |from: [f32; 3], to: [f32; 3], radius: f32, pivot: Option<f32>| {
            let place = |[x, dy, z]: [f32; 3]| Vector::new(x, y + dy, z);
            let mut solid = Solid::between(place(from), place(to), radius, PERSON, Surface::Cloth([0.5; 3]));
            if let Some(rate) = pivot {
                solid.spin = Vector::X * rate;
                solid.velocity = solid.spin.cross(solid.pose.translation - place(from));
            }
            solids.push(solid);
        };
        limb([0.0, 0.0, 0.9], [0.0, 0.0, 1.4], 0.16, Some(rate * 0.15));
        limb([0.0, 0.0, 1.55], [0.0, 0.0, 1.65], 0.1, Some(rate * 0.2));
        for side in [-1.0, 1.0] {
            limb([0.1 * side, 0.0, 0.1], [0.1 * side, 0.0, 0.8], 0.08, None);
            let (sin, cos) = (swing as f32).sin_cos();
            let shoulder = [0.24 * side, 0.0, 1.4];
            limb(shoulder, [0.24 * side, 0.6 * sin, 1.4 - 0.6 * cos], 0.05, Some(rate));
        }
        Caster::new(Arc::new(Solids::new(Vec::new())), Solids::new(solids))
    }

    fn frames(radar: &RoomRadar, y: f32) -> Vec<Vec<RadarReturn>> {
        let mount = Isometry3::translation(0.0, 0.0, 1.0);
        let frame = |at: usize| {
            let mut random = Random::new(1, 0, at, Purpose::Radar);
            points(&person(TAU * SWINGS_HZ * at as f64 / 10.0, y), &mount, radar, &mut random)
        };
        (0..60).map(frame).collect()
    }

    fn spread(values: &[f64]) -> f64 {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    }

    #[test]
    fn a_person_gives_as_many_points_as_real_radars_do() {
        // Of an IWR1443 as MARS has it: steps of 0.356 m/s; there 9 to 14, 30 to 38 and 50 to 57 points (10th, 50th, 90th
        // percentile, three subjects), Doppler 0.47 to 0.51 m/s.
        let mars = RoomRadar {
            range_bin_m: 0.044,
            speed_bin_mps: 0.356,
            samples: 240,
            chirps: 16,
            removes_still: false,
            ..RoomRadar::default()
        };
        for (name, radar, counts, doppler) in
            [("MARS", mars, 25.0..45.0, 0.3..0.6), ("IWR6843", RoomRadar::default(), 5.0..40.0, 0.3..0.6)]
        {
            let frames = frames(&radar, 2.0);
            let mut sizes: Vec<usize> = frames.iter().map(Vec::len).collect();
            sizes.sort_unstable();
            let speeds: Vec<f64> = frames.iter().flatten().map(|point| point.doppler).collect();
            let median = sizes[sizes.len() / 2] as f64;
            assert!(counts.contains(&median), "{name}: median {median} points");
            assert!(doppler.contains(&spread(&speeds)), "{name}: Doppler {} m/s", spread(&speeds));
        }
    }

    #[test]
    fn points_lie_on_the_person_and_fewer_far_away() {
        let near = frames(&RoomRadar::default(), 2.0);
        let points: Vec<&RadarReturn> = near.iter().flatten().collect();
        let mean = |axis: usize| points.iter().map(|p| p.position[axis]).sum::<f64>() / points.len() as f64;
        assert!(mean(0).abs() < 0.1 && (mean(1) - 1.9).abs() < 0.2, "{} {}", mean(0), mean(1));
        let inside = |p: &&&RadarReturn| p.position[0].abs() < 0.7 && (1.2..2.8).contains(&p.position[1]);
        assert!(points.iter().filter(inside).count() as f64 > 0.9 * points.len() as f64);
        let far: usize = frames(&RoomRadar::default(), 6.5).iter().map(Vec::len).sum();
        assert!(far < points.len(), "{far} of {}", points.len());
        // 50 dB less power finds less.
        let weak = RoomRadar { transmit_dbm: -38.0, ..RoomRadar::default() };
        let weak: usize = frames(&weak, 2.0).iter().map(Vec::len).sum();
        assert!(weak < points.len() / 2, "{weak} of {}", points.len());
    }

    #[test]
    fn an_empty_room_has_few_false_points() {
        let caster = Caster::new(Arc::default(), Solids::default());
        let count: usize = (0..20)
            .map(|at| {
                let mut random = Random::new(1, 0, at, Purpose::Radar);
                points(&caster, &Isometry3::identity(), &RoomRadar::default(), &mut random).len()
            })
            .sum();
        assert!(count < 20, "{count} in 20 frames");
    }
}
