//! The beat signals of many scatterers, added up as a product of matrices.
//!
//! A scatterer's signal is an outer product: antennas and samples against chirps. So the sum over scatterers is a complex
//! product [rx·samples, K]·[K, chirps]. Real and imaginary parts lie apart, tiles stay in registers, and every element is
//! summed over K in the same order whatever the width of the machine's vectors (and without fused multiply-add, which
//! only some machines have), so that all give the same bytes. What stands still needs one column.

use std::f64::consts::{PI, TAU};

use num_complex::Complex64;
use pulp::{Simd, WithSimd};

use super::super::scene::Scene;
use super::Scatterer;

/// Rows (antenna and sample) and chirps of a tile: its 2 × 2 × 16 sums fill half of AVX2's registers.
const ROWS: usize = 2;
const LANES: usize = 16;
/// Over so many chirps a scatterer's range counts as constant.
const BLOCK: usize = 64;

/// A cube with real and imaginary parts apart, (rx, samples, chirps) in C order.
#[derive(Clone, Debug)]
pub struct Planes {
    /// Chirps.
    pub chirps: usize,
    /// Real parts.
    pub real: Vec<f32>,
    /// Imaginary parts.
    pub imaginary: Vec<f32>,
}

/// One complex column: a value per antenna and sample, real and imaginary parts apart.
#[derive(Clone, Debug)]
pub struct Column {
    /// Real parts.
    pub real: Vec<f32>,
    /// Imaginary parts.
    pub imaginary: Vec<f32>,
}

impl Column {
    /// All 0.
    pub fn zeros(rows: usize) -> Self {
        Self { real: vec![0.0; rows], imaginary: vec![0.0; rows] }
    }
}

/// The signals of scatterers in the numbers of a radar.
#[derive(Clone, Copy, Debug)]
pub struct Synthesis {
    receivers: usize,
    samples: usize,
    chirps: usize,
    range_bin: f64,
    wavelength: f64,
    chirp_period: f64,
    /// Turns of the phase per antenna and sin α.
    spacing: f64,
    /// Time of one sample, seconds.
    sample_period: f64,
}

impl Synthesis {
    /// For a scene's radar.
    pub fn new(scene: &Scene) -> Self {
        let (radar, cube) = (&scene.radar, &scene.cube);
        let right = if radar.phase_grows_right { 1.0 } else { -1.0 };
        Self {
            receivers: cube.receivers,
            samples: cube.samples,
            chirps: cube.chirps,
            range_bin: radar.range_bin_m,
            wavelength: radar.wavelength_m,
            chirp_period: radar.chirp_period_s,
            spacing: right * radar.rx_spacing_m / radar.wavelength_m,
            sample_period: 1.0 / cube.sample_hz,
        }
    }

    /// Antennas times samples.
    pub const fn rows(&self) -> usize {
        self.receivers * self.samples
    }

    /// Adds a scatterer's signal of one chirp to a column, times `weight`: that of chirp 0, with the range it has at `chirp`.
    pub fn add_column(&self, column: &mut Column, scatterer: &Scatterer, chirp: f64, weight: f64) {
        let range = scatterer.range + scatterer.speed * self.chirp_period * chirp;
        // Within a chirp the phase goes on turning with the speed: a mover seems a little further away.
        let drift = 2.0 * scatterer.speed * self.sample_period / self.wavelength;
        let turns = range / self.range_bin / self.samples as f64 + drift;
        let phase = 4.0 * PI * (scatterer.range / self.wavelength).fract() + scatterer.phase;
        let start = Complex64::from_polar(scatterer.amplitude * weight, phase);
        // e^{jω(16·i + l)} = e^{jω16i}·e^{jωl}: few sines, and no long chain of products.
        let tone = |step: usize| Complex64::from_polar(1.0, TAU * (turns * step as f64).fract());
        let fine: [Complex64; LANES] = std::array::from_fn(tone);
        let (fine_re, fine_im) = (fine.map(|one| one.re as f32), fine.map(|one| one.im as f32));
        let rows =
            column.real.chunks_exact_mut(self.samples).zip(column.imaginary.chunks_exact_mut(self.samples));
        for (receiver, (real, imaginary)) in rows.enumerate() {
            let angle = Complex64::from_polar(1.0, TAU * self.spacing * scatterer.sine * receiver as f64);
            let blocks = real.chunks_mut(LANES).zip(imaginary.chunks_mut(LANES));
            for (block, (real, imaginary)) in blocks.enumerate() {
                let coarse = start * angle * tone(block * LANES);
                let (re, im) = (coarse.re as f32, coarse.im as f32);
                for (((real, imaginary), fine_re), fine_im) in
                    real.iter_mut().zip(imaginary).zip(&fine_re).zip(&fine_im)
                {
                    *real += re * fine_re - im * fine_im;
                    *imaginary += re * fine_im + im * fine_re;
                }
            }
        }
    }

    /// The same column in every chirp.
    pub fn add_still(&self, planes: &mut Planes, column: &Column) {
        for (plane, column) in [(&mut planes.real, &column.real), (&mut planes.imaginary, &column.imaginary)]
        {
            for (row, value) in plane.chunks_exact_mut(self.chirps).zip(column) {
                row.iter_mut().for_each(|cell| *cell += value);
            }
        }
    }

    /// Scatterers that move: block by block of chirps, with the range that each has in the middle of it.
    pub fn add_moving(&self, planes: &mut Planes, scatterers: &[Scatterer]) {
        if scatterers.is_empty() {
            return;
        }
        let vectors = Vectors::new();
        for first in (0..self.chirps).step_by(BLOCK) {
            let chirps = BLOCK.min(self.chirps - first);
            let left = self.left(scatterers, first as f64 + (chirps - 1) as f64 / 2.0);
            let right = self.right(scatterers, first, chirps);
            vectors.run(Product {
                count: scatterers.len(),
                left: &left,
                right: &right,
                planes: &mut *planes,
                first,
                chirps,
            });
        }
    }

    /// `[rows / ROWS][K][real × ROWS, imaginary × ROWS]`
    fn left(&self, scatterers: &[Scatterer], chirp: f64) -> Vec<f32> {
        let (rows, count) = (self.rows().next_multiple_of(ROWS), scatterers.len());
        let mut left = vec![0.0; rows * count * 2];
        let mut column = Column::zeros(self.rows());
        for (at, scatterer) in scatterers.iter().enumerate() {
            column.real.fill(0.0);
            column.imaginary.fill(0.0);
            self.add_column(&mut column, scatterer, chirp, 1.0);
            let tiles = left.chunks_exact_mut(count * 2 * ROWS);
            for ((tile, real), imaginary) in
                tiles.zip(column.real.chunks(ROWS)).zip(column.imaginary.chunks(ROWS))
            {
                let parts = real.iter().zip(imaginary).enumerate();
                let Some(out) = tile.get_mut(at * 2 * ROWS..(at + 1) * 2 * ROWS) else { continue };
                let (out_re, out_im) = out.split_at_mut(ROWS);
                for ((_, (re, im)), (out_re, out_im)) in parts.zip(out_re.iter_mut().zip(out_im)) {
                    *out_re = *re;
                    *out_im = *im;
                }
            }
        }
        left
    }

    /// `[chirps / LANES][K][real × LANES, imaginary × LANES]`: e^{j4πvTc/λ}.
    fn right(&self, scatterers: &[Scatterer], first: usize, chirps: usize) -> Vec<f32> {
        let blocks = chirps.div_ceil(LANES);
        let mut right = vec![0.0; blocks * scatterers.len() * 2 * LANES];
        for (block, out) in right.chunks_exact_mut(scatterers.len() * 2 * LANES).enumerate() {
            for (out, scatterer) in out.chunks_exact_mut(2 * LANES).zip(scatterers) {
                let turns = 2.0 * scatterer.speed * self.chirp_period / self.wavelength;
                let begin =
                    Complex64::from_polar(1.0, TAU * (turns * (first + block * LANES) as f64).fract());
                let step = Complex64::from_polar(1.0, TAU * turns.fract());
                let (re, im) = out.split_at_mut(LANES);
                let mut value = begin;
                for (re, im) in re.iter_mut().zip(im) {
                    (*re, *im) = (value.re as f32, value.im as f32);
                    value *= step;
                }
            }
        }
        right
    }
}

/// planes[:, first..first + chirps] += left · right.
struct Product<'a> {
    count: usize,
    left: &'a [f32],
    right: &'a [f32],
    planes: &'a mut Planes,
    first: usize,
    chirps: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    /// Plain loops: what they are compiled for depends on where this is called from.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Product { count, left, right, planes, first, chirps } = self;
        let stride = planes.chirps;
        let rows = planes
            .real
            .chunks_mut(stride * ROWS)
            .zip(planes.imaginary.chunks_mut(stride * ROWS))
            .zip(left.chunks_exact(count * 2 * ROWS));
        for ((real, imaginary), left) in rows {
            for (block, right) in right.chunks_exact(count * 2 * LANES).enumerate() {
                let sums = tile(left, right);
                let begin = first + block * LANES;
                let width = LANES.min(first + chirps - begin);
                let planes = real.chunks_mut(stride).zip(imaginary.chunks_mut(stride));
                for ((real, imaginary), [re, im]) in planes.zip(&sums) {
                    let cells = begin..begin + width;
                    for (plane, sums) in [(real, re), (imaginary, im)] {
                        let plane = plane.get_mut(cells.clone()).unwrap_or_default();
                        plane.iter_mut().zip(sums).for_each(|(cell, sum)| *cell += sum);
                    }
                }
            }
        }
    }
}

/// ROWS × LANES sums over K, real and imaginary.
#[inline(always)]
fn tile(left: &[f32], right: &[f32]) -> [[[f32; LANES]; 2]; ROWS] {
    let mut sums = [[[0.0f32; LANES]; 2]; ROWS];
    let (left, _) = left.as_chunks::<{ 2 * ROWS }>();
    let (right, _) = right.as_chunks::<{ 2 * LANES }>();
    for (left, right) in left.iter().zip(right) {
        for row in 0..ROWS {
            let (re, im) = (left[row], left[ROWS + row]);
            for lane in 0..LANES {
                let (right_re, right_im) = (right[lane], right[LANES + lane]);
                sums[row][0][lane] += re * right_re - im * right_im;
                sums[row][1][lane] += re * right_im + im * right_re;
            }
        }
    }
    sums
}

/// The widest vectors of this machine.
#[derive(Clone, Copy)]
enum Vectors {
    #[cfg(target_arch = "x86_64")]
    V4(pulp::x86::V4),
    #[cfg(target_arch = "x86_64")]
    V3(pulp::x86::V3),
    Base(pulp::Arch),
}

impl Vectors {
    fn new() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(simd) = pulp::x86::V4::try_new() {
                return Self::V4(simd);
            }
            if let Some(simd) = pulp::x86::V3::try_new() {
                return Self::V3(simd);
            }
        }
        Self::Base(pulp::Arch::new())
    }

    fn run<Op: WithSimd>(self, op: Op) -> Op::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::V4(simd) => Simd::vectorize(simd, op),
            #[cfg(target_arch = "x86_64")]
            Self::V3(simd) => Simd::vectorize(simd, op),
            Self::Base(arch) => arch.dispatch(op),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::radar::Scatterer;

    #[test]
    fn the_product_is_the_sum_of_the_signals() {
        let mut scene = Scene::default();
        (scene.cube.receivers, scene.cube.samples, scene.cube.chirps) = (3, 37, 70);
        let synthesis = Synthesis::new(&scene);
        let scatterers: Vec<Scatterer> = (0..5)
            .map(|at| {
                let at = f64::from(at);
                Scatterer {
                    range: 3.0 + 1.7 * at,
                    sine: 0.2 * at - 0.4,
                    speed: 2.0 - at,
                    amplitude: 1.0 + at,
                    phase: at,
                }
            })
            .collect();
        let cells = 3 * 37 * 70;
        let mut planes = Planes { chirps: 70, real: vec![0.0; cells], imaginary: vec![0.0; cells] };
        synthesis.add_moving(&mut planes, &scatterers);
        // By the formula, sample by sample; in the second block of chirps, which has its middle at 66.5.
        let (receiver, sample, chirp) = (2usize, 30usize, 68usize);
        let expected: Complex64 = scatterers
            .iter()
            .map(|one| {
                let radar = &scene.radar;
                let range = one.range + one.speed * radar.chirp_period_s * 66.5;
                let turns = 2.0 * one.range / radar.wavelength_m
                    + (range / radar.range_bin_m / 37.0 + 2.0 * one.speed / 5e6 / radar.wavelength_m)
                        * sample as f64
                    + 0.5 * one.sine * receiver as f64
                    + 2.0 * one.speed * radar.chirp_period_s / radar.wavelength_m * chirp as f64;
                Complex64::from_polar(one.amplitude, TAU * turns + one.phase)
            })
            .sum();
        let at = (receiver * 37 + sample) * 70 + chirp;
        let found = Complex64::new(f64::from(planes.real[at]), f64::from(planes.imaginary[at]));
        assert!((found - expected).norm() < 1e-3, "{found} instead of {expected}");
    }

    #[test]
    fn every_machine_gives_the_same_bytes() {
        let scene = Scene::default();
        let synthesis = Synthesis::new(&scene);
        let one = Scatterer { range: 12.3, sine: 0.1, speed: 3.0, amplitude: 2.0, phase: 0.5 };
        let many = [one, Scatterer { range: 31.0, speed: -7.0, ..one }, Scatterer { sine: -0.6, ..one }];
        let (left, right) = (synthesis.left(&many, 31.5), synthesis.right(&many, 0, 64));
        let run = |vectors: Vectors| {
            let cells = synthesis.rows() * 250;
            let mut planes = Planes { chirps: 250, real: vec![0.0; cells], imaginary: vec![0.0; cells] };
            let (left, right) = (&left, &right);
            vectors.run(Product { count: 3, left, right, planes: &mut planes, first: 0, chirps: 64 });
            planes.real
        };
        struct Narrow<'a>(Product<'a>);
        impl Narrow<'_> {
            #[inline(never)]
            fn run(self) {
                self.0.with_simd(pulp::Scalar::new());
            }
        }
        let cells = synthesis.rows() * 250;
        let mut planes = Planes { chirps: 250, real: vec![0.0; cells], imaginary: vec![0.0; cells] };
        Narrow(Product { count: 3, left: &left, right: &right, planes: &mut planes, first: 0, chirps: 64 })
            .run();
        assert!(run(Vectors::new()) == planes.real);
    }
}
