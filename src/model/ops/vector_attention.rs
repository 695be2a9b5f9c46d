//! The end of vector attention: a softmax over the neighbours, and the weighed sum of what they say.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::vector::Arch;
use super::{on_cpu_f32, slice_of, with_slice};

/// Points that a task takes at a time.
const POINTS: usize = 64;

/// Σ_j softmax_j(scores) ⊙ values: values `[n, k, c]`, scores `[n, k, c/s]`, of which each counts for the s channels that
/// are c/s apart; `[n, c]`. (Zhao et al., Point Transformer, ICCV 2021, equation 3, with shared weights.)
///
/// # Errors
/// When the shapes do not fit.
pub fn vector_attention(values: &Tensor, scores: &Tensor) -> Result<Tensor> {
    let (n, k, width) = values.dims3()?;
    let (rows, neighbours, groups) = scores.dims3()?;
    if (rows, neighbours) != (n, k) || k == 0 || groups == 0 || !width.is_multiple_of(groups) {
        candle_core::bail!(
            "vector attention: found scores {:?}, allowed are [{n}, {k}, a divisor of {width}]",
            scores.dims()
        );
    }
    if on_cpu_f32(values) && on_cpu_f32(scores) {
        return values.contiguous()?.apply_op2(&scores.contiguous()?, Attend);
    }
    let weights = candle_nn::ops::softmax(scores, 1)?;
    let values = values.reshape((n, k, width / groups, groups))?;
    values.broadcast_mul(&weights.unsqueeze(2)?)?.sum(1)?.reshape((n, width))
}

struct Attend;

/// Groups whose softmax is taken at a time.
const LANES: usize = 8;

/// The sizes of one point.
#[derive(Clone, Copy)]
struct Size {
    neighbours: usize,
    width: usize,
    groups: usize,
}

/// softmax of `[k, groups]` over k.
#[inline(always)]
fn softmax(scores: &[f32], weights: &mut [f32], groups: usize) {
    for from in (0..groups).step_by(LANES) {
        let to = (from + LANES).min(groups);
        let mut most = [f32::NEG_INFINITY; LANES];
        for row in scores.chunks_exact(groups) {
            most.iter_mut().zip(&row[from..to]).for_each(|(most, score)| *most = most.max(*score));
        }
        let mut sums = [0f32; LANES];
        for (row, scores) in weights.chunks_exact_mut(groups).zip(scores.chunks_exact(groups)) {
            let row = row[from..to].iter_mut().zip(&scores[from..to]);
            for ((weight, score), (most, sum)) in row.zip(most.iter().zip(&mut sums)) {
                *weight = (score - most).exp();
                *sum += *weight;
            }
        }
        for row in weights.chunks_exact_mut(groups) {
            row[from..to].iter_mut().zip(&sums).for_each(|(weight, sum)| *weight /= sum);
        }
    }
}

struct Forward<'a> {
    size: Size,
    values: &'a [f32],
    scores: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Size { neighbours, width, groups } = self.size;
        let mut weights = vec![0.0; neighbours * groups];
        let points =
            self.values.chunks_exact(neighbours * width).zip(self.scores.chunks_exact(neighbours * groups));
        for (out, (values, scores)) in self.out.chunks_exact_mut(width).zip(points) {
            softmax(scores, &mut weights, groups);
            for (row, weights) in values.chunks_exact(width).zip(weights.chunks_exact(groups)) {
                for (out, row) in out.chunks_exact_mut(groups).zip(row.chunks_exact(groups)) {
                    for ((out, value), weight) in out.iter_mut().zip(row).zip(weights) {
                        *out += value * weight;
                    }
                }
            }
        }
    }
}

struct Backward<'a> {
    size: Size,
    values: &'a [f32],
    scores: &'a [f32],
    grad: &'a [f32],
    of_values: &'a mut [f32],
    of_scores: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Size { neighbours, width, groups } = self.size;
        let mut weights = vec![0.0; neighbours * groups];
        let mut means = vec![0.0; groups];
        let points = self
            .values
            .chunks_exact(neighbours * width)
            .zip(self.scores.chunks_exact(neighbours * groups))
            .zip(self.grad.chunks_exact(width));
        let gradients = self
            .of_values
            .chunks_exact_mut(neighbours * width)
            .zip(self.of_scores.chunks_exact_mut(neighbours * groups));
        for (((values, scores), grad), (of_values, of_scores)) in points.zip(gradients) {
            softmax(scores, &mut weights, groups);
            means.fill(0.0);
            let rows = values.chunks_exact(width).zip(weights.chunks_exact(groups));
            let gradients = of_values.chunks_exact_mut(width).zip(of_scores.chunks_exact_mut(groups));
            for ((values, weights), (of_values, of_weights)) in rows.zip(gradients) {
                of_weights.fill(0.0);
                let parts = grad.chunks_exact(groups).zip(values.chunks_exact(groups));
                for ((grad, values), of_values) in parts.zip(of_values.chunks_exact_mut(groups)) {
                    for (at, weight) in weights.iter().enumerate() {
                        of_values[at] = grad[at] * weight;
                        of_weights[at] += grad[at] * values[at];
                    }
                }
                for ((mean, weight), of_weight) in means.iter_mut().zip(weights).zip(of_weights.iter()) {
                    *mean += weight * of_weight;
                }
            }
            for (of_scores, weights) in of_scores.chunks_exact_mut(groups).zip(weights.chunks_exact(groups)) {
                for ((of_score, weight), mean) in of_scores.iter_mut().zip(weights).zip(&means) {
                    *of_score = weight * (*of_score - mean);
                }
            }
        }
    }
}

impl CustomOp2 for Attend {
    fn name(&self) -> &'static str {
        "vector-attention"
    }

    fn cpu_fwd(
        &self,
        values: &CpuStorage,
        values_layout: &Layout,
        scores: &CpuStorage,
        scores_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, neighbours, width) = values_layout.shape().dims3()?;
        let (_, _, groups) = scores_layout.shape().dims3()?;
        let size = Size { neighbours, width, groups };
        let (values, scores) = (slice_of(values, values_layout)?, slice_of(scores, scores_layout)?);
        let arch = Arch::new();
        let mut out = vec![0.0; n * width];
        out.par_chunks_mut(POINTS * width)
            .zip(values.par_chunks(POINTS * neighbours * width))
            .zip(scores.par_chunks(POINTS * neighbours * groups))
            .for_each(|((out, values), scores)| arch.dispatch(Forward { size, values, scores, out }));
        Ok((CpuStorage::F32(out), (n, width).into()))
    }

    fn bwd(
        &self,
        values: &Tensor,
        scores: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (_, neighbours, width) = values.dims3()?;
        let (_, _, groups) = scores.dims3()?;
        let size = Size { neighbours, width, groups };
        let grad = grad.contiguous()?;
        let (of_values, of_scores) = with_slice(values, |values| {
            with_slice(scores, |scores| {
                with_slice(&grad, |grad| {
                    let arch = Arch::new();
                    let (mut of_values, mut of_scores) = (vec![0.0; values.len()], vec![0.0; scores.len()]);
                    let inputs = values
                        .par_chunks(POINTS * neighbours * width)
                        .zip(scores.par_chunks(POINTS * neighbours * groups))
                        .zip(grad.par_chunks(POINTS * width));
                    of_values
                        .par_chunks_mut(POINTS * neighbours * width)
                        .zip(of_scores.par_chunks_mut(POINTS * neighbours * groups))
                        .zip(inputs)
                        .for_each(|((of_values, of_scores), ((values, scores), grad))| {
                            arch.dispatch(Backward { size, values, scores, grad, of_values, of_scores });
                        });
                    (of_values, of_scores)
                })
            })
        })???;
        let tensor =
            |numbers: Vec<f32>, like: &Tensor| Tensor::from_vec(numbers, like.shape(), like.device());
        Ok((Some(tensor(of_values, values)?), Some(tensor(of_scores, scores)?)))
    }
}
