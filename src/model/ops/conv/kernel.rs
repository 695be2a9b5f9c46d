//! The loops of a convolution over blocked maps ([`Blocked`]).
//!
//! A tile of P neighbouring pixels of a row × N blocks of 16 output channels is kept in registers while all taps and
//! input channels go by: per input channel one vector of weights per block, and one number per pixel, broadcast.
//! Each output is one chain of fused multiply-adds in a fixed order: the result does not depend on tiles or threads.
// Tiles are indexed by numbers that the compiler knows, so that they stay in registers.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::model::ops::blocked::{BLOCK, Blocked, IMAGE_BLOCK};
use crate::model::ops::vector::Arch;

/// Weights of a convolution, laid out for the tiles; outputs are padded to a multiple of [`BLOCK`] with 0.
#[derive(Clone, Debug)]
pub struct Packed {
    /// Channels in and out.
    pub inputs: usize,
    /// Channels out.
    pub outputs: usize,
    /// Height and width.
    pub size: (usize, usize),
    /// Channels of a block of the input.
    pub block: usize,
    /// `[⌈outputs/16⌉, ⌈inputs/block⌉, height, width, block, 16]`
    data: Vec<f32>,
}

impl Packed {
    /// Weights of `size` taps for maps in blocks of `block` channels, `weight(output, input, y, x)` each.
    pub fn new(
        (inputs, outputs): (usize, usize),
        size: (usize, usize),
        block: usize,
        weight: impl Fn(usize, usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let blocks = inputs.div_ceil(block);
        let per_block = blocks * size.0 * size.1 * block * BLOCK;
        let mut data = vec![0.0; outputs.div_ceil(BLOCK) * per_block];
        data.par_chunks_mut(per_block.max(1)).enumerate().for_each(|(out_block, data)| {
            let mut rows = data.chunks_exact_mut(BLOCK);
            for in_block in 0..blocks {
                for y in 0..size.0 {
                    for x in 0..size.1 {
                        for (input, row) in (in_block * block..).zip(rows.by_ref().take(block)) {
                            for (output, value) in (out_block * BLOCK..outputs).zip(row) {
                                *value = if input < inputs { weight(output, input, y, x) } else { 0.0 };
                            }
                        }
                    }
                }
            }
        });
        Self { inputs, outputs, size, block, data }
    }

    /// From `[outputs, inputs, height, width]`, contiguous.
    #[must_use]
    pub fn from_rows(values: &[f32], (inputs, outputs): (usize, usize), size: (usize, usize)) -> Self {
        Self::new((inputs, outputs), size, input_block(inputs), |output, input, y, x| {
            values[((output * inputs + input) * size.0 + y) * size.1 + x]
        })
    }
}

/// Channels of a block in which maps of so many channels are convolved.
#[must_use]
pub const fn input_block(channels: usize) -> usize {
    if channels <= IMAGE_BLOCK { IMAGE_BLOCK } else { BLOCK }
}

/// What follows the sums of products.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// Added per output channel; as long as the outputs padded to blocks.
    pub bias: Option<&'a [f32]>,
    /// Added per output; of the output's shape and border.
    pub residual: Option<&'a Blocked>,
    /// Negative numbers become 0.
    pub rectify: bool,
}

/// Where the taps of the first output pixel begin, in pixels of the input with its border, and how far the next is.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    /// Row and column.
    pub origin: (usize, usize),
    /// 1 or 2.
    pub stride: usize,
}

/// Convolves `input` with `weights` into all of `output` but its border.
///
/// The input's border must hold all taps: `origin + (size − 1) · stride + taps` ≤ its rows and columns.
pub fn convolve<'a>(
    input: &Blocked,
    weights: &Packed,
    walk: Walk,
    epilogue: Epilogue<'a>,
    output: &mut Blocked,
) {
    debug_assert_eq!((input.block, input.shape.channels), (weights.block, weights.inputs));
    debug_assert_eq!((output.block, output.shape.channels), (BLOCK, weights.outputs));
    let arch = Arch::new();
    let (blocks, plane, row) = (output.blocks(), output.plane(), output.row());
    let (top, height) = (output.border.top, output.shape.height);
    let per_block = weights.data.len() / blocks.max(1);
    // Bands of rows small enough to share among threads, large enough to pay for the task.
    let band = height.div_ceil(8).max(7).min(height.max(1));
    let geometry = Geometry {
        channels: (input.plane(), input.block),
        row: input.row() / input.block,
        size: weights.size,
        walk,
        width: output.shape.width,
        out_row: row,
        out_left: output.border.left * BLOCK,
    };
    // An odd number of blocks would pair the last of one sample with the first of the next.
    let group = if blocks.is_multiple_of(2) { blocks_per_tile(arch) } else { 1 };
    let mut tasks = Vec::new();
    for (index, planes) in output.data.chunks_mut((group * plane).max(1)).enumerate() {
        let mut bands =
            planes.chunks_mut(plane).map(|plane| plane[top * row..][..height * row].chunks_mut(band * row));
        let (Some(first), mut second) = (bands.next(), bands.next()) else { continue };
        for (part, first) in first.enumerate() {
            let second = second.as_mut().and_then(Iterator::next);
            tasks.push(Task { index: group * index, y: part * band, first, second });
        }
    }
    let residuals = epilogue.residual.map(|maps| maps.data.as_slice());
    tasks.into_par_iter().for_each(|task| {
        let Task { index, y, first, second } = task;
        let (sample, block) = (index / blocks, index % blocks);
        let x = input.sample(sample);
        let weights = |offset: usize| &weights.data[(block + offset) * per_block..][..per_block];
        let bias = |offset: usize| match epilogue.bias {
            Some(bias) => &bias[(block + offset) * BLOCK..][..BLOCK],
            None => &[0.0; BLOCK],
        };
        let residual = |data: &'a [f32], offset: usize, len: usize| {
            &data[(index + offset) * plane + (top + y) * row..][..len]
        };
        let len = first.len();
        // No number is below −∞: then nothing is rectified.
        let floor = if epilogue.rectify { 0.0 } else { f32::NEG_INFINITY };
        match second {
            Some(second) => arch.dispatch(Rows {
                geometry,
                x,
                y,
                weights: [weights(0), weights(1)],
                bias: [bias(0), bias(1)],
                residual: residuals.map(|data| [residual(data, 0, len), residual(data, 1, len)]),
                out: [first, second],
                floor,
            }),
            None => arch.dispatch(Rows {
                geometry,
                x,
                y,
                weights: [weights(0)],
                bias: [bias(0)],
                residual: residuals.map(|data| [residual(data, 0, len)]),
                out: [first],
                floor,
            }),
        }
    });
}

/// A band of rows of one or two blocks of output channels.
struct Task<'a> {
    /// sample · blocks + block
    index: usize,
    /// First row of the band.
    y: usize,
    first: &'a mut [f32],
    second: Option<&'a mut [f32]>,
}

/// How many blocks of output channels a tile spans: with 32 registers of 16 numbers, two.
fn blocks_per_tile(arch: Arch) -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    if arch.dispatch(Lanes) == BLOCK { 2 } else { 1 }
}

/// Distances of a convolution; of the input in pixels, of the output in numbers.
#[derive(Clone, Copy)]
struct Geometry {
    /// Numbers of an input block of a sample, channels of a block.
    channels: (usize, usize),
    row: usize,
    size: (usize, usize),
    walk: Walk,
    width: usize,
    out_row: usize,
    out_left: usize,
}

struct Rows<'a, const N: usize> {
    geometry: Geometry,
    x: &'a [f32],
    /// First row.
    y: usize,
    weights: [&'a [f32]; N],
    bias: [&'a [f32]; N],
    residual: Option<[&'a [f32]; N]>,
    out: [&'a mut [f32]; N],
    /// Smaller numbers become this.
    floor: f32,
}

impl<const N: usize> WithSimd for Rows<'_, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.stride::<S, 1>(simd),
            // Two blocks fill the registers only there (`blocks_per_tile`).
            _ if N > 1 => {}
            8 => self.stride::<S, 2>(simd),
            4 => self.stride::<S, 4>(simd),
            _ => self.stride::<S, 16>(simd),
        }
    }
}

impl<const N: usize> Rows<'_, N> {
    /// U: vectors of a block.
    #[inline(always)]
    fn stride<S: Simd, const U: usize>(self, simd: S) {
        match (self.geometry.walk.stride, self.geometry.channels.1) {
            (1, BLOCK) => self.rows::<S, U, 1, BLOCK>(simd),
            (2, BLOCK) => self.rows::<S, U, 2, BLOCK>(simd),
            (1, _) => self.rows::<S, U, 1, IMAGE_BLOCK>(simd),
            _ => self.rows::<S, U, 2, IMAGE_BLOCK>(simd),
        }
    }

    #[inline(always)]
    fn rows<S: Simd, const U: usize, const STRIDE: usize, const C: usize>(mut self, simd: S) {
        let Geometry { row, walk, width, out_row, out_left, .. } = self.geometry;
        // Tiles that fill the registers: 14 · 2 of 32, or 6 · 2 of 16; without vectors, as few as pay for the loop.
        let most = match U {
            1 => 14,
            2 => 6,
            4 => 4,
            _ => 1,
        };
        let count = self.out.first().map_or(0, |out| out.len()) / out_row;
        for line in 0..count {
            let first = ((walk.origin.0 + (self.y + line) * STRIDE) * row + walk.origin.1) * C;
            let mut done = 0;
            for left in (1..=width.div_ceil(most)).rev() {
                // The rest in equal parts.
                let pixels = (width - done).div_ceil(left);
                let from = first + done * STRIDE * C;
                let to = line * out_row + out_left + done * BLOCK;
                macro_rules! tile {
                    ($($pixels:literal)*) => {
                        match pixels {
                            $($pixels => {
                                let sums = self.sums::<S, $pixels, U, STRIDE, C>(simd, from, to);
                                self.store::<S, $pixels, U>(simd, sums, to);
                            })*
                            _ => {}
                        }
                    };
                }
                match U {
                    1 => tile!(1 2 3 4 5 6 7 8 9 10 11 12 13 14),
                    2 => tile!(1 2 3 4 5 6),
                    4 => tile!(1 2 3 4),
                    _ => tile!(1),
                }
                done += pixels;
            }
        }
    }

    /// P pixels whose taps begin at `from`, and which go to `to`.
    ///
    /// Its loops are short and without branches, so that all are unrolled and the sums never leave the registers.
    #[inline(always)]
    fn sums<S: Simd, const P: usize, const U: usize, const STRIDE: usize, const C: usize>(
        &self,
        simd: S,
        from: usize,
        to: usize,
    ) -> [[[S::f32s; U]; N]; P] {
        let Geometry { channels: (plane, _), row, size, .. } = self.geometry;
        let bias: [[S::f32s; U]; N] = std::array::from_fn(|n| {
            let bias = &S::as_simd_f32s(self.bias[n]).0[..U];
            std::array::from_fn(|u| bias[u])
        });
        let mut sums = [bias; P];
        if let Some(residual) = self.residual {
            let residual = residual.map(|all| &S::as_simd_f32s(&all[to..][..P * BLOCK]).0[..P * U]);
            for p in 0..P {
                for n in 0..N {
                    for u in 0..U {
                        sums[p][n][u] = simd.add_f32s(sums[p][n][u], residual[n][p * U + u]);
                    }
                }
            }
        }
        let mut at = 0;
        for x in self.x.chunks_exact(plane) {
            for ky in 0..size.0 {
                for kx in 0..size.1 {
                    let x = &x[from + (ky * row + kx) * C..][..(P - 1) * STRIDE * C + C];
                    let weights: [&[S::f32s]; N] = std::array::from_fn(|n| {
                        &S::as_simd_f32s(&self.weights[n][at..][..C * BLOCK]).0[..C * U]
                    });
                    for c in 0..C {
                        let column: [[S::f32s; U]; N] =
                            std::array::from_fn(|n| std::array::from_fn(|u| weights[n][c * U + u]));
                        for p in 0..P {
                            let value = simd.splat_f32s(x[p * STRIDE * C + c]);
                            for n in 0..N {
                                for u in 0..U {
                                    sums[p][n][u] = simd.mul_add_e_f32s(value, column[n][u], sums[p][n][u]);
                                }
                            }
                        }
                    }
                    at += C * BLOCK;
                }
            }
        }
        sums
    }

    #[inline(always)]
    fn store<S: Simd, const P: usize, const U: usize>(
        &mut self,
        simd: S,
        sums: [[[S::f32s; U]; N]; P],
        to: usize,
    ) {
        let floor = simd.splat_f32s(self.floor);
        let out =
            self.out.each_mut().map(|all| &mut S::as_mut_simd_f32s(&mut all[to..][..P * BLOCK]).0[..P * U]);
        for p in 0..P {
            for n in 0..N {
                for u in 0..U {
                    // In this order, NaN stays NaN.
                    out[n][p * U + u] = simd.max_f32s(floor, sums[p][n][u]);
                }
            }
        }
    }
}
