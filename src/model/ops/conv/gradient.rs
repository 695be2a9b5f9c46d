//! The gradient of a convolution with respect to its weights, over blocked maps.
//!
//! For a row of taps, the numbers of its taps and of a block's channels lie side by side in the input: a run of
//! `kernel width · block` numbers per output pixel. A tile of M of a run × 16 output channels stays in registers while
//! the pixels of a sample go by; the samples' sums are added in order, so the result does not depend on threads.
// Tiles are indexed by numbers that the compiler knows, so that they stay in registers.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::kernel::Walk;
use crate::model::ops::blocked::{BLOCK, Blocked};
use crate::model::ops::vector::Arch;

/// Σ over samples and pixels of grad · input, as `[outputs, inputs, height, width]` of the weights of `size`.
#[must_use]
pub fn of_weights(input: &Blocked, grad: &Blocked, size: (usize, usize), walk: Walk) -> Vec<f32> {
    let (inputs, outputs) = (input.shape.channels, grad.shape.channels);
    let taps = size.0 * size.1;
    let mut values = vec![0.0; outputs * inputs * taps];
    let arch = Arch::new();
    values.par_chunks_mut((BLOCK * inputs * taps).max(1)).enumerate().for_each(|(out_block, values)| {
        // [inputs / block][taps · block, 16]
        let sums: Vec<Vec<f32>> = (0..input.blocks())
            .into_par_iter()
            .map(|in_block| {
                let mut sums = vec![0.0; taps * input.block * BLOCK];
                arch.dispatch(Sums { input, grad, size, walk, in_block, out_block, sums: &mut sums });
                sums
            })
            .collect();
        for (output, values) in values.chunks_exact_mut(inputs * taps).enumerate() {
            for (channel, values) in values.chunks_exact_mut(taps).enumerate() {
                let Some(sums) = sums.get(channel / input.block) else { continue };
                for (tap, value) in values.iter_mut().enumerate() {
                    *value = sums[(tap * input.block + channel % input.block) * BLOCK + output];
                }
            }
        }
    });
    values
}

struct Sums<'a> {
    input: &'a Blocked,
    grad: &'a Blocked,
    size: (usize, usize),
    walk: Walk,
    in_block: usize,
    out_block: usize,
    /// `[height, width, block, 16]`
    sums: &'a mut [f32],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.runs::<S, 1>(simd, 16),
            8 => self.runs::<S, 2>(simd, 6),
            4 => self.runs::<S, 4>(simd, 4),
            _ => self.runs::<S, 16>(simd, 1),
        }
    }
}

impl Sums<'_> {
    /// U: vectors of a block; `most`: numbers of a run in a tile.
    #[inline(always)]
    fn runs<S: Simd, const U: usize>(mut self, simd: S, most: usize) {
        let run = self.size.1 * self.input.block;
        for ky in 0..self.size.0 {
            let mut done = 0;
            for left in (1..=run.div_ceil(most)).rev() {
                let count = (run - done).div_ceil(left);
                let at = (ky * run + done) * BLOCK;
                macro_rules! tile {
                    ($($count:literal)*) => {
                        match count {
                            $($count => self.tile::<S, U, $count>(simd, ky, done, at),)*
                            _ => {}
                        }
                    };
                }
                match U {
                    1 => tile!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
                    2 => tile!(1 2 3 4 5 6),
                    4 => tile!(1 2 3 4),
                    _ => tile!(1),
                }
                done += count;
            }
        }
    }

    /// M numbers of the run of taps `ky`, from the `skip`th.
    #[inline(always)]
    fn tile<S: Simd, const U: usize, const M: usize>(&mut self, simd: S, ky: usize, skip: usize, at: usize) {
        let Self { input, grad, walk, in_block, out_block, .. } = *self;
        let into = &mut S::as_mut_simd_f32s(&mut self.sums[at..][..M * BLOCK]).0[..M * U];
        let step = walk.stride * input.block;
        for sample in 0..input.shape.batch {
            let x = &input.sample(sample)[in_block * input.plane()..][..input.plane()];
            let g = &grad.sample(sample)[out_block * grad.plane()..][..grad.plane()];
            let mut sums = [[simd.splat_f32s(0.0); U]; M];
            for y in 0..grad.shape.height {
                let x = &x[(walk.origin.0 + y * walk.stride + ky) * input.row()
                    + walk.origin.1 * input.block
                    + skip..];
                let g = &g[(grad.border.top + y) * grad.row() + grad.border.left * BLOCK..]
                    [..grad.shape.width * BLOCK];
                let g = S::as_simd_f32s(g).0;
                for (pixel, g) in g.chunks_exact(U).enumerate() {
                    let x = &x[pixel * step..][..M];
                    for m in 0..M {
                        let value = simd.splat_f32s(x[m]);
                        for u in 0..U {
                            sums[m][u] = simd.mul_add_e_f32s(value, g[u], sums[m][u]);
                        }
                    }
                }
            }
            for m in 0..M {
                for u in 0..U {
                    into[m * U + u] = simd.add_f32s(into[m * U + u], sums[m][u]);
                }
            }
        }
    }
}
