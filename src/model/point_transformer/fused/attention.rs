//! Vector attention of a few points at a time.

use pulp::Simd;

use super::matrix::{Matrix, Then};
use super::softmax;

/// Numbers of a piece's logits before the last product: half of a small L2 cache, with room for what is gathered.
const PIECE: usize = 16 * 1024;

/// Positions of two levels, three numbers a point.
#[derive(Clone, Copy, Debug)]
pub(super) struct Positions<'a> {
    /// Of the points that look.
    pub(super) here: &'a [f32],
    /// Of their neighbours.
    pub(super) there: &'a [f32],
}

impl Positions<'_> {
    /// p_j − p_i
    #[inline(always)]
    pub(super) fn offset(&self, here: usize, there: usize) -> [f32; 3] {
        let (from, to) = (&self.here[3 * here..][..3], &self.there[3 * there..][..3]);
        [to[0] - from[0], to[1] - from[1], to[2] - from[2]]
    }
}

/// Three rows as vectors.
#[inline(always)]
pub(super) fn three<S: Simd>(rows: &[f32], columns: usize) -> [&[S::f32s]; 3] {
    std::array::from_fn(|row| S::as_simd_f32s(&rows[row * columns..][..columns]).0)
}

/// What follows the projections, up to the norm after the attention.
#[derive(Clone, Debug)]
pub(super) struct VectorAttention {
    pub(super) columns: usize,
    /// Attention weights of a point.
    pub(super) groups: usize,
    /// Channels that share one.
    pub(super) share: usize,
    /// `linear_p.0` and its norm, `[in][out]`
    pub(super) position_weight: [[f32; 3]; 3],
    pub(super) position_bias: [f32; 3],
    /// W', `[3][columns]`
    pub(super) to_scores: Vec<f32>,
    /// W, `[3][columns]`
    pub(super) to_values: Vec<f32>,
    /// `linear_w.2` and its norm
    pub(super) hidden: Matrix,
    /// `linear_w.5`
    pub(super) logits: Matrix,
}

/// What a piece needs on its way.
pub(super) struct Scratch {
    /// h_j, `[points · k]`
    inside: Vec<[f32; 3]>,
    /// `[points · k, columns]`
    scores: Vec<f32>,
    /// `[points · k, groups filled up]`
    hidden: Vec<f32>,
    /// The same
    weights: Vec<f32>,
    /// A row of weights repeated over the channels that share them, `[columns]`
    spread: Vec<f32>,
    /// Σ_j w_j h_j, `[3][groups filled up]`
    mean: Vec<f32>,
    /// `[points, columns]`
    pub(super) attended: Vec<f32>,
    /// `[points, columns]`
    pub(super) left: Vec<f32>,
}

impl VectorAttention {
    /// Points of a piece.
    pub(super) fn points(&self, k: usize) -> usize {
        (PIECE / (k * self.columns)).clamp(4, 64)
    }

    pub(super) fn scratch(&self, k: usize) -> Scratch {
        let points = self.points(k);
        let groups = self.logits.columns;
        Scratch {
            inside: vec![[0.0; 3]; points * k],
            scores: vec![0.0; points * k * self.columns],
            hidden: vec![0.0; points * k * groups],
            weights: vec![0.0; points * k * groups],
            spread: vec![0.0; self.columns],
            mean: vec![0.0; 3 * groups],
            attended: vec![0.0; points * self.columns],
            left: vec![0.0; points * self.columns],
        }
    }

    /// Attention of the points from `first` on whose neighbours are `within` `[points, k]`, into `scratch.attended`.
    /// `projected` are [q', k', v'] of all points.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "the inside of a loop")]
    pub(super) fn run<S: Simd>(
        &self,
        simd: S,
        projected: &[f32],
        within: &[u32],
        k: usize,
        positions: Positions<'_>,
        first: usize,
        scratch: &mut Scratch,
    ) {
        let columns = self.columns;
        let vectors = columns / S::F32_LANES;
        let zero = simd.splat_f32s(0.0);
        let [wx, wy, wz] = three::<S>(&self.to_scores, columns);
        for (row, neighbours) in within.chunks_exact(k).enumerate() {
            let point = first + row;
            let query = S::as_simd_f32s(&projected[point * 3 * columns..][..columns]).0;
            let scores = &mut scratch.scores[row * k * columns..][..k * columns];
            let inside = &mut scratch.inside[row * k..][..k];
            for ((scores, inside), &neighbour) in scores.chunks_exact_mut(columns).zip(inside).zip(neighbours)
            {
                let neighbour = neighbour as usize;
                *inside = self.inside(positions.offset(point, neighbour));
                let [hx, hy, hz] = inside.map(|h| simd.splat_f32s(h));
                let key = S::as_simd_f32s(&projected[(3 * neighbour + 1) * columns..][..columns]).0;
                let scores = S::as_mut_simd_f32s(scores).0;
                for v in 0..vectors {
                    let sum = simd.sub_f32s(key[v], query[v]);
                    let sum = simd.mul_add_e_f32s(hx, wx[v], sum);
                    let sum = simd.mul_add_e_f32s(hy, wy[v], sum);
                    let sum = simd.mul_add_e_f32s(hz, wz[v], sum);
                    scores[v] = simd.max_f32s(sum, zero);
                }
            }
        }
        let groups = self.logits.columns;
        let rows = within.len();
        let hidden = &mut scratch.hidden[..rows * groups];
        let weights = &mut scratch.weights[..rows * groups];
        self.hidden.multiply(simd, &scratch.scores, columns, hidden, Then::Relu);
        self.logits.multiply(simd, hidden, groups, weights, Then::Keep);
        for (row, neighbours) in within.chunks_exact(k).enumerate() {
            let weights = &mut weights[row * k * groups..][..k * groups];
            softmax::over_rows(simd, weights, groups, self.groups);
            let attended = S::as_mut_simd_f32s(&mut scratch.attended[row * columns..][..columns]).0;
            attended.fill(zero);
            scratch.mean.fill(0.0);
            let inside = &scratch.inside[row * k..][..k];
            for ((weights, inside), &neighbour) in weights.chunks_exact(groups).zip(inside).zip(neighbours) {
                self.spread(weights, &mut scratch.spread);
                let spread = S::as_simd_f32s(&scratch.spread).0;
                let value =
                    S::as_simd_f32s(&projected[(3 * neighbour as usize + 2) * columns..][..columns]).0;
                for v in 0..vectors {
                    attended[v] = simd.mul_add_e_f32s(spread[v], value[v], attended[v]);
                }
                let weights = S::as_simd_f32s(weights).0;
                for (mean, &h) in scratch.mean.chunks_exact_mut(groups).zip(inside) {
                    let h = simd.splat_f32s(h);
                    for (mean, &weight) in S::as_mut_simd_f32s(mean).0.iter_mut().zip(weights) {
                        *mean = simd.mul_add_e_f32s(h, weight, *mean);
                    }
                }
            }
            for (mean, values) in scratch.mean.chunks_exact(groups).zip(three::<S>(&self.to_values, columns))
            {
                self.spread(mean, &mut scratch.spread);
                let spread = S::as_simd_f32s(&scratch.spread).0;
                for v in 0..vectors {
                    attended[v] = simd.mul_add_e_f32s(spread[v], values[v], attended[v]);
                }
            }
            for attended in attended {
                *attended = simd.max_f32s(*attended, zero);
            }
        }
    }

    /// h = relu(d A + a)
    #[inline(always)]
    fn inside(&self, offset: [f32; 3]) -> [f32; 3] {
        let [x, y, z] = &self.position_weight;
        std::array::from_fn(|out| {
            let sum = offset[0] * x[out] + offset[1] * y[out] + offset[2] * z[out] + self.position_bias[out];
            sum.max(0.0)
        })
    }

    /// Repeats a row of weights: channel c has weight c mod groups.
    #[inline(always)]
    fn spread(&self, weights: &[f32], out: &mut [f32]) {
        // Copies of a known length are single instructions.
        match self.groups {
            4 => repeat::<4>(weights, out, self.share),
            8 => repeat::<8>(weights, out, self.share),
            16 => repeat::<16>(weights, out, self.share),
            32 => repeat::<32>(weights, out, self.share),
            64 => repeat::<64>(weights, out, self.share),
            groups => {
                for out in out[..groups * self.share].chunks_exact_mut(groups) {
                    out.copy_from_slice(&weights[..groups]);
                }
            }
        }
    }
}

#[inline(always)]
fn repeat<const N: usize>(weights: &[f32], out: &mut [f32], times: usize) {
    let weights: [f32; N] = std::array::from_fn(|place| weights[place]);
    for out in out.chunks_exact_mut(N).take(times) {
        out.copy_from_slice(&weights);
    }
}
