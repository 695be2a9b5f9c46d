//! Sums of the columns of rows `[R, C]`, in a fixed order.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::vector::Arch;

/// Rows that a task takes at a time: sums of so many in f32, and of all of those in f64.
pub const ROWS: usize = 512;

/// Sums of columns over all rows: those of `ROWS` rows at a time by `part`, which is told where they begin and end.
pub fn sums_of<const N: usize>(
    rows: usize,
    channels: usize,
    part: impl Fn(usize, usize) -> [Vec<f32>; N] + Sync,
) -> [Vec<f64>; N] {
    let parts: Vec<[Vec<f32>; N]> = (0..rows.div_ceil(ROWS))
        .into_par_iter()
        .map(|chunk| part(chunk * ROWS * channels, ((chunk + 1) * ROWS).min(rows) * channels))
        .collect();
    let mut sums: [Vec<f64>; N] = std::array::from_fn(|_| vec![0.0; channels]);
    for part in parts {
        for (sums, part) in sums.iter_mut().zip(part) {
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += f64::from(part));
        }
    }
    sums
}

/// Σ x of each of so many columns, 1 and more.
pub fn sums(x: &[f32], channels: usize) -> Vec<f64> {
    let arch = Arch::new();
    let [sums] = sums_of(x.len() / channels, channels, |from, to| {
        let mut sum = vec![0.0; channels];
        arch.dispatch(Total { x: &x[from..to], sum: &mut sum });
        [sum]
    });
    sums
}

/// Σ x per column.
struct Total<'a> {
    x: &'a [f32],
    sum: &'a mut [f32],
}

impl WithSimd for Total<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in self.x.chunks_exact(self.sum.len()) {
            for (sum, x) in self.sum.iter_mut().zip(row) {
                *sum += x;
            }
        }
    }
}
