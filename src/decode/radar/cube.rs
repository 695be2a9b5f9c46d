//! An FMCW cube to maps and points.

use std::sync::Arc;

use nalgebra::Isometry3;
use ndarray::{Array2, ArrayView3};
use num_complex::{Complex32, Complex64};
use rustfft::{Fft, FftPlanner};

use super::{PeakRule, RangeAngleAxes, decibel, find_peaks};
use crate::config::{AngleAxis, Radar};
use crate::sample::RadarPoint;

/// Slow-time rows that one angle FFT call transforms: 16 rows of 64 bins are 8 kB and stay in the first cache.
const BLOCK: usize = 16;
/// The first side lobe of an array without window has 1/3 of its main lobe's magnitude with 3 antennas, 0.27 with 4 and
/// less with more; weaker cells of a row are taken for side lobes of its strongest one.
const SIDE_LOBE: f32 = 0.35;

/// Range-angle maps of a cube, `[range, angle]`, linear magnitude summed over chirps.
#[derive(Clone, Debug, PartialEq)]
pub struct CubeMaps {
    /// With the mean over chirps subtracted: what moves.
    pub moving: Array2<f32>,
    /// With the mean kept: what stands, and what moves.
    pub fixed: Array2<f32>,
}

/// Turns cubes into maps and points; keeps FFT plans and buffers for cubes of the same shape.
///
/// With x the cube (rx, samples, chirps), no windows:
///
/// 1. mean over chirps m = ⟨x⟩, taken before the FFTs (which are linear) in 64 bits, so that a strong standing target
///    leaves no rounding noise in the moving map;
/// 2. range FFT over samples of x − m and of m: X, M;
/// 3. angle FFT over rx, zero-padded to `angle_bins`: A(X), A(M); moving map Σ_chirps |A(X)|, static map
///    Σ_chirps |A(X) + A(M)|; columns shifted so that sin α = 0 is column `angle_bins / 2`;
/// 4. peaks of each map ([`find_peaks`]); per peak, the slow-time series of its cell and its FFT over chirps, whose
///    strongest bin b is the Doppler: v = b·λ/(2·chirps·T) in m/s.
///
/// Sign: the phase of the beat signal (transmitted times conjugate received) grows with range as 4πR/λ, so a positive
/// bin moves away. A peak of the static map counts as static when its strongest bin is 0; else it is a mover, which
/// the moving set holds already.
pub struct CubeProcessor {
    config: Radar,
    shape: Shape,
    range_fft: Arc<dyn Fft<f32>>,
    angle_fft: Arc<dyn Fft<f32>>,
    doppler_fft: Arc<dyn Fft<f32>>,
    /// [chirps + 1, rx, samples], after the range FFT; the last "chirp" is the mean.
    profiles: Vec<Complex32>,
    scratch: Vec<Complex32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Shape {
    receivers: usize,
    samples: usize,
    chirps: usize,
}

impl CubeProcessor {
    /// A processor for a radar.
    #[must_use]
    pub fn new(config: Radar) -> Self {
        let mut planner = FftPlanner::new();
        let empty = planner.plan_fft_forward(0);
        Self {
            config,
            shape: Shape::default(),
            range_fft: empty.clone(),
            angle_fft: planner.plan_fft_forward(config.angle_bins),
            doppler_fft: empty,
            profiles: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Both range-angle maps of a cube (rx, samples, chirps) with rx ≤ `angle_bins`.
    #[must_use]
    pub fn maps(&mut self, cube: ArrayView3<'_, Complex32>) -> CubeMaps {
        self.range_transform(cube);
        let Shape { receivers, samples, chirps } = self.shape;
        let bins = self.config.angle_bins;
        let mut maps =
            CubeMaps { moving: Array2::zeros((samples, bins)), fixed: Array2::zeros((samples, bins)) };
        let mut block = vec![Complex32::default(); BLOCK * bins];
        let mut mean = vec![Complex32::default(); bins];
        let (mut moving, mut fixed) = (vec![0.0f32; bins], vec![0.0f32; bins]);
        for range in 0..samples {
            moving.fill(0.0);
            fixed.fill(0.0);
            self.fill_angle_row(&mut mean, chirps, range);
            self.angle_fft.process_with_scratch(&mut mean, &mut self.scratch);
            for first in (0..chirps).step_by(BLOCK) {
                let count = BLOCK.min(chirps - first);
                let rows = block.get_mut(..count * bins).unwrap_or_default();
                for (chirp, row) in (first..).zip(rows.chunks_exact_mut(bins)) {
                    self.fill_angle_row(row, chirp, range);
                }
                self.angle_fft.process_with_scratch(rows, &mut self.scratch);
                for row in rows.chunks_exact(bins) {
                    for (((value, mean), moving), fixed) in
                        row.iter().zip(&mean).zip(&mut moving).zip(&mut fixed)
                    {
                        *moving += magnitude(*value);
                        *fixed += magnitude(*value + *mean);
                    }
                }
            }
            for (map, sums) in [(&mut maps.moving, &moving), (&mut maps.fixed, &fixed)] {
                for (cell, sum) in map.row_mut(range).iter_mut().zip(shifted(sums)) {
                    *cell = *sum;
                }
            }
        }
        debug_assert!(receivers <= bins);
        maps
    }

    /// Range-Doppler map `[range, Doppler]` of a cube: mean over chirps subtracted, magnitude of the FFT over chirps
    /// summed over rx, speed 0 in column `chirps / 2`.
    #[must_use]
    pub fn range_doppler(&mut self, cube: ArrayView3<'_, Complex32>) -> Array2<f32> {
        self.range_transform(cube);
        let Shape { receivers, samples, chirps } = self.shape;
        let mut map = Array2::zeros((samples, chirps));
        let mut series = vec![Complex32::default(); chirps];
        let mut sums = vec![0.0f32; chirps];
        for range in 0..samples {
            sums.fill(0.0);
            for receiver in 0..receivers {
                for (chirp, value) in series.iter_mut().enumerate() {
                    *value = self.profile(chirp, receiver, range);
                }
                self.doppler_fft.process_with_scratch(&mut series, &mut self.scratch);
                for (sum, value) in sums.iter_mut().zip(&series) {
                    *sum += magnitude(*value);
                }
            }
            for (cell, sum) in map.row_mut(range).iter_mut().zip(shifted(&sums)) {
                *cell = *sum;
            }
        }
        map
    }

    /// Points of the cube whose maps were made last, moving ones first, strongest first within each set.
    #[must_use]
    pub fn points(&mut self, maps: &CubeMaps, mount: &Isometry3<f64>) -> Vec<RadarPoint> {
        let (rows, columns) = maps.moving.dim();
        let axes = RangeAngleAxes::new(&self.config, AngleAxis::SinFft, rows, columns);
        let rule = PeakRule { wrap_columns: true, row_floor: SIDE_LOBE, most: self.config.max_peaks };
        let chirps = self.shape.chirps;
        let bin_mps = self.config.wavelength_m / (2.0 * chirps as f64 * self.config.chirp_period_s);
        let mut series = vec![Complex32::default(); chirps];
        let mut points = Vec::new();
        for (map, is_static) in [(&maps.moving, false), (&maps.fixed, true)] {
            for (row, column) in find_peaks(map.view(), &rule) {
                let (Some(place), Some(&magnitude)) = (axes.point(row, column), map.get((row, column)))
                else {
                    continue;
                };
                let bin = self.strongest_doppler(&mut series, row, column, is_static);
                if is_static && bin != 0 {
                    continue;
                }
                let place = mount * place;
                points.push(RadarPoint {
                    position: [place.x as f32, place.y as f32, place.z as f32],
                    doppler_mps: (bin as f64 * bin_mps) as f32,
                    power_db: decibel(magnitude),
                    has_doppler: chirps > 1,
                    is_static,
                });
            }
        }
        points
    }

    /// Signed bin of the strongest component of a cell's slow-time series; the lower |bin| wins a tie.
    fn strongest_doppler(
        &mut self,
        series: &mut [Complex32],
        range: usize,
        column: usize,
        with_mean: bool,
    ) -> i64 {
        let Shape { receivers, chirps, .. } = self.shape;
        let bins = self.config.angle_bins as f64;
        let bin = column as f64 - (self.config.angle_bins / 2) as f64;
        let steering: Vec<Complex32> = (0..receivers)
            .map(|receiver| {
                let (sin, cos) = (-std::f64::consts::TAU * bin * receiver as f64 / bins).sin_cos();
                Complex32::new(cos as f32, sin as f32)
            })
            .collect();
        let beam = |chirp: usize| -> Complex32 {
            steering
                .iter()
                .enumerate()
                .map(|(receiver, weight)| self.profile(chirp, receiver, range) * weight)
                .sum()
        };
        let mean = if with_mean { beam(chirps) } else { Complex32::default() };
        for (chirp, value) in series.iter_mut().enumerate() {
            *value = beam(chirp) + mean;
        }
        self.doppler_fft.process_with_scratch(series, &mut self.scratch);
        let mut strongest = (f32::NEG_INFINITY, 0i64);
        for (bin, value) in (0i64..).zip(series.iter()) {
            let signed = if bin >= (chirps as i64 + 1) / 2 { bin - chirps as i64 } else { bin };
            let power = value.norm_sqr();
            if power > strongest.0 || (power == strongest.0 && signed.abs() < strongest.1.abs()) {
                strongest = (power, signed);
            }
        }
        strongest.1
    }

    /// Fills `profiles` with the range FFT of every chirp and of their mean.
    fn range_transform(&mut self, cube: ArrayView3<'_, Complex32>) {
        let (receivers, samples, chirps) = cube.dim();
        self.plan(Shape { receivers, samples, chirps });
        for receiver in 0..receivers {
            for sample in 0..samples {
                let series = cube.slice(ndarray::s![receiver, sample, ..]);
                let sum: Complex64 =
                    series.iter().map(|value| Complex64::new(f64::from(value.re), f64::from(value.im))).sum();
                let mean = sum / chirps as f64;
                let start = receiver * samples + sample;
                let column = self.profiles.iter_mut().skip(start).step_by(receivers * samples);
                let last = Complex32::new(mean.re as f32, mean.im as f32);
                let differences = series.iter().map(|value| {
                    Complex32::new(
                        (f64::from(value.re) - mean.re) as f32,
                        (f64::from(value.im) - mean.im) as f32,
                    )
                });
                for (place, value) in column.zip(differences.chain([last])) {
                    *place = value;
                }
            }
        }
        self.range_fft.process_with_scratch(&mut self.profiles, &mut self.scratch);
    }

    /// Plans the FFTs of a shape; plans of the last shape are kept, older ones are not, so that a sender that changes
    /// its shape all the time takes no memory.
    fn plan(&mut self, shape: Shape) {
        if shape == self.shape {
            return;
        }
        let mut planner = FftPlanner::new();
        self.range_fft = planner.plan_fft_forward(shape.samples);
        self.doppler_fft = planner.plan_fft_forward(shape.chirps);
        let scratch = [&self.range_fft, &self.angle_fft, &self.doppler_fft]
            .map(|fft| fft.get_inplace_scratch_len())
            .into_iter()
            .max();
        self.scratch = vec![Complex32::default(); scratch.unwrap_or(0)];
        self.profiles = vec![Complex32::default(); shape.receivers * shape.samples * (shape.chirps + 1)];
        self.shape = shape;
    }

    /// Range bin of one chirp (`chirps` is the mean) and receiver.
    #[inline]
    fn profile(&self, chirp: usize, receiver: usize, range: usize) -> Complex32 {
        let Shape { receivers, samples, .. } = self.shape;
        self.profiles.get((chirp * receivers + receiver) * samples + range).copied().unwrap_or_default()
    }

    #[inline]
    fn fill_angle_row(&self, row: &mut [Complex32], chirp: usize, range: usize) {
        row.fill(Complex32::default());
        for (receiver, place) in row.iter_mut().take(self.shape.receivers).enumerate() {
            *place = self.profile(chirp, receiver, range);
        }
    }
}

/// Without the care for overflow of `hypot`, which is ten times slower: the caller checks the sums.
#[inline]
fn magnitude(value: Complex32) -> f32 {
    value.norm_sqr().sqrt()
}

/// Elements in the order of numpy's fftshift: negative bins first, bin 0 at index n / 2.
fn shifted<T>(values: &[T]) -> impl Iterator<Item = &T> {
    let (positive, negative) = values.split_at(values.len().div_ceil(2));
    negative.iter().chain(positive)
}
