//! A matrix that rows are multiplied by, laid out for vector registers.

use pulp::Simd;

/// Every row of channels is filled up with zeros to a multiple of this many: an AVX-512 register.
pub(super) const LANES: usize = 16;

/// Columns of a panel: two AVX-512 registers.
const PANEL: usize = 2 * LANES;

/// Rows of `LANES` to hold `channels` numbers.
pub(super) const fn padded(channels: usize) -> usize {
    channels.div_ceil(LANES) * LANES
}

/// y = x W + b: W `[inputs, outputs]` in panels of [`PANEL`] columns, each panel row by row; the last one may be half as
/// wide. Columns past `outputs` are 0.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    inputs: usize,
    outputs: usize,
    /// Outputs, filled up to a multiple of `LANES`.
    pub(super) columns: usize,
    panels: Vec<f32>,
    bias: Vec<f32>,
}

/// What becomes of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing.
    Keep,
    /// Numbers below 0 become 0.
    Relu,
    /// It is added to what lies there; numbers below 0 become 0.
    AddRelu,
}

impl Matrix {
    /// Of `weight` `[inputs, outputs]`, row by row, and `bias` `[outputs]`.
    pub(super) fn new(weight: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        let inputs = weight.len() / outputs.max(1);
        let columns = padded(outputs);
        let mut panels = Vec::with_capacity(inputs * columns);
        for first in (0..columns).step_by(PANEL) {
            let wide = PANEL.min(columns - first);
            for row in weight.chunks_exact(outputs) {
                panels.extend((first..first + wide).map(|column| row.get(column).copied().unwrap_or(0.0)));
            }
        }
        let mut bias = bias.to_vec();
        bias.resize(columns, 0.0);
        Self { inputs, outputs, columns, panels, bias }
    }

    /// Rows of `x`, the first `inputs` numbers of every `stride`, to rows of `y`, `columns` each, as many as there are.
    /// Registers past the last output are left as they are.
    #[inline(always)]
    pub(super) fn multiply<S: Simd>(&self, simd: S, x: &[f32], stride: usize, y: &mut [f32], then: Then) {
        // Sums fill the registers (32 of them, or 16 with AVX2): rows × vectors, with room for a row of the panel.
        match S::F32_LANES {
            16 => self.cells::<S, 8, 2>(simd, x, stride, y, then),
            8 => self.cells::<S, 6, 2>(simd, x, stride, y, then),
            4 => self.cells::<S, 6, 4>(simd, x, stride, y, then),
            _ => self.cells::<S, 1, 16>(simd, x, stride, y, then),
        }
    }

    /// `ROWS` rows by `WIDE` vectors at a time, what is left of them by one.
    #[inline(always)]
    fn cells<S: Simd, const ROWS: usize, const WIDE: usize>(
        &self,
        simd: S,
        x: &[f32],
        stride: usize,
        y: &mut [f32],
        then: Then,
    ) {
        let rows = y.len() / self.columns;
        let vectors = self.outputs.div_ceil(S::F32_LANES);
        let mut vector = 0;
        while vector < vectors {
            let whole = vectors - vector >= WIDE;
            let first = vector * S::F32_LANES;
            if whole {
                for row in (0..rows).step_by(ROWS) {
                    self.cell::<S, ROWS, WIDE>(simd, x, stride, y, row, first, then);
                }
            } else {
                for row in (0..rows).step_by(8) {
                    self.cell::<S, 8, 1>(simd, x, stride, y, row, first, then);
                }
            }
            vector += if whole { WIDE } else { 1 };
        }
    }

    /// `R` rows from `row` by `V` vectors from column `first`. Where there are fewer rows, the last one is computed
    /// again, which costs no more than a shorter loop would.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "the inside of a loop, written once for all sizes")]
    fn cell<S: Simd, const R: usize, const V: usize>(
        &self,
        simd: S,
        x: &[f32],
        stride: usize,
        y: &mut [f32],
        row: usize,
        first: usize,
        then: Then,
    ) {
        let inputs = self.inputs;
        // The panel that the columns are in, and where in it they begin.
        let panel = first / PANEL * PANEL;
        let wide = PANEL.min(self.columns - panel);
        let from = (first - panel) / S::F32_LANES;
        let panel = S::as_simd_f32s(&self.panels[panel * inputs..(panel + wide) * inputs]).0;
        let bias = S::as_simd_f32s(&self.bias[first..][..V * S::F32_LANES]).0;
        let count = y.len() / self.columns - row;
        let rows: [&[f32]; R] = std::array::from_fn(|r| &x[(row + r.min(count - 1)) * stride..][..inputs]);
        let start: [S::f32s; V] = std::array::from_fn(|v| bias[v]);
        let mut sums = [start; R];
        for (input, weights) in (0..inputs).zip(panel.chunks_exact(wide / S::F32_LANES)) {
            let weights: &[S::f32s] = &weights[from..from + V];
            for r in 0..R {
                let factor = simd.splat_f32s(rows[r][input]);
                for v in 0..V {
                    sums[r][v] = simd.mul_add_e_f32s(factor, weights[v], sums[r][v]);
                }
            }
        }
        let zero = simd.splat_f32s(0.0);
        for (r, sums) in sums.into_iter().enumerate().take(count) {
            let y = &mut y[(row + r) * self.columns + first..][..V * S::F32_LANES];
            let y = S::as_mut_simd_f32s(y).0;
            for (y, sum) in y.iter_mut().zip(sums) {
                *y = match then {
                    Then::Keep => sum,
                    Then::Relu => simd.max_f32s(sum, zero),
                    Then::AddRelu => simd.max_f32s(simd.add_f32s(sum, *y), zero),
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pulp::{Scalar, WithSimd};

    use super::*;
    use crate::model::simd::dispatch;

    struct Product<'a>(&'a Matrix, &'a [f32], usize, &'a mut [f32], Then);

    impl WithSimd for Product<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            self.0.multiply(simd, self.1, self.2, self.3, self.4);
        }
    }

    #[test]
    fn products_are_those_of_the_definition() {
        let number = |index: usize| ((index * 7919 % 101) as f32 - 50.0) / 50.0;
        for (rows, inputs, outputs) in [(1, 3, 1), (7, 5, 16), (9, 32, 4), (8, 16, 48), (13, 33, 70)] {
            let weight: Vec<f32> = (0..inputs * outputs).map(number).collect();
            let bias: Vec<f32> = (0..outputs).map(|index| number(index + 17)).collect();
            let matrix = Matrix::new(&weight, &bias);
            let stride = inputs + 2;
            let x: Vec<f32> = (0..rows * stride).map(|index| number(index + 3)).collect();
            for then in [Then::Keep, Then::Relu, Then::AddRelu] {
                let mut found = vec![0.25; rows * matrix.columns];
                let mut scalar = found.clone();
                dispatch(Product(&matrix, &x, stride, &mut found, then));
                Product(&matrix, &x, stride, &mut scalar, then).with_simd(Scalar);
                for (place, (&found, &scalar)) in found.iter().zip(&scalar).enumerate() {
                    let (row, column) = (place / matrix.columns, place % matrix.columns);
                    let term = |input: usize| {
                        f64::from(x[row * stride + input]) * f64::from(weight[input * outputs + column])
                    };
                    if column >= outputs {
                        continue;
                    }
                    let sum = (0..inputs).map(term).sum::<f64>() + f64::from(bias[column]);
                    let wanted = match then {
                        Then::Keep => sum,
                        Then::Relu => sum.max(0.0),
                        Then::AddRelu => (sum + 0.25).max(0.0),
                    };
                    assert!((f64::from(found) - wanted).abs() < 1e-5, "{found} {wanted}");
                    assert!((f64::from(scalar) - wanted).abs() < 1e-5, "{scalar} {wanted}");
                }
            }
        }
    }
}
