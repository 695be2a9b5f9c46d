//! Batch norm of rows `[.., C]` over the rows, with the rectifier after it.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::columns::{self, ROWS};
use super::vector::Arch;
use super::{on_cpu_f32, slice_of, with_slice};

/// Mean and (biased) variance of each column.
#[derive(Clone, Debug)]
pub struct ColumnMoments {
    /// μ, `[C]`
    pub mean: Tensor,
    /// σ², `[C]`
    pub variance: Tensor,
}

/// (x − μ)/√(σ² + ε) · weight + bias of rows `[.., C]` (Ioffe and Szegedy, 2015), μ and σ² over the rows, negative numbers
/// replaced by 0 where it is to `rectify`; weight and bias `[C]`. The gradient goes through μ and σ² too; those that are
/// given back have none.
///
/// # Errors
/// When the shapes do not fit, or there are no rows.
pub fn norm_rows(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
    rectify: bool,
) -> Result<(Tensor, ColumnMoments)> {
    let channels = weight.dims1()?;
    if x.elem_count() == 0 || x.dims().last() != Some(&channels) || bias.dims1()? != channels {
        candle_core::bail!(
            "batch norm: found rows {:?}, allowed are 1 and more of {channels} numbers",
            x.dims()
        );
    }
    if on_cpu_f32(x) && on_cpu_f32(weight) {
        let x = x.contiguous()?;
        let (mean, variance) = with_slice(&x, |x| moments(x, channels))?;
        let scale = variance.iter().map(|variance| 1.0 / (variance + eps as f32).sqrt()).collect();
        let told = ColumnMoments {
            mean: Tensor::from_slice(&mean, channels, x.device())?,
            variance: Tensor::from_vec(variance, channels, x.device())?,
        };
        let op = NormRows { mean, scale, rectify };
        return Ok((x.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)?, told));
    }
    let rows = x.reshape(((), channels))?;
    let mean = rows.mean(0)?;
    let centred = rows.broadcast_sub(&mean)?;
    let variance = centred.sqr()?.mean(0)?;
    let told = ColumnMoments { mean: mean.detach(), variance: variance.detach() };
    let scale = (weight / (variance + eps)?.sqrt()?)?;
    let y = centred.broadcast_mul(&scale)?.broadcast_add(bias)?.reshape(x.shape())?;
    Ok((if rectify { y.relu()? } else { y }, told))
}

fn moments(x: &[f32], channels: usize) -> (Vec<f32>, Vec<f32>) {
    let (arch, rows) = (Arch::new(), x.len() / channels);
    let mean_of = |sums: Vec<f64>| sums.into_iter().map(|sum| (sum / rows as f64) as f32).collect();
    let mean: Vec<f32> = mean_of(columns::sums(x, channels));
    let [squares] = columns::sums_of(rows, channels, |from, to| {
        let mut sum = vec![0.0; channels];
        arch.dispatch(Squares { x: &x[from..to], mean: &mean, sum: &mut sum });
        [sum]
    });
    (mean, mean_of(squares))
}

/// Σ (x − μ)² per column.
struct Squares<'a> {
    x: &'a [f32],
    mean: &'a [f32],
    sum: &'a mut [f32],
}

impl WithSimd for Squares<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in self.x.chunks_exact(self.mean.len()) {
            for ((sum, x), mean) in self.sum.iter_mut().zip(row).zip(self.mean) {
                *sum += (x - mean) * (x - mean);
            }
        }
    }
}

/// y = x · scale + shift per column, not below 0 where it is to rectify.
struct Affine<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    rectify: bool,
}

impl WithSimd for Affine<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let channels = self.scale.len();
        for (out, x) in self.out.chunks_exact_mut(channels).zip(self.x.chunks_exact(channels)) {
            for (((out, x), scale), shift) in out.iter_mut().zip(x).zip(self.scale).zip(self.shift) {
                *out = x * scale + shift;
            }
        }
        if self.rectify {
            self.out.iter_mut().for_each(|out| *out = out.max(0.0));
        }
    }
}

/// (Σ g, Σ g (x − μ)) per column, g as the rectifier of y lets it pass; g is left in `passed`.
struct Sums<'a> {
    x: &'a [f32],
    grad: &'a [f32],
    y: Option<&'a [f32]>,
    mean: &'a [f32],
    passed: &'a mut [f32],
    plain: &'a mut [f32],
    along: &'a mut [f32],
}

impl WithSimd for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        match self.y {
            Some(y) => {
                for ((passed, grad), y) in self.passed.iter_mut().zip(self.grad).zip(y) {
                    *passed = if *y > 0.0 { *grad } else { 0.0 };
                }
            }
            None => self.passed.copy_from_slice(self.grad),
        }
        let channels = self.mean.len();
        for (x, grad) in self.x.chunks_exact(channels).zip(self.passed.chunks_exact(channels)) {
            let sums = self.plain.iter_mut().zip(self.along.iter_mut());
            for (((plain, along), mean), (x, grad)) in sums.zip(self.mean).zip(x.iter().zip(grad)) {
                *plain += grad;
                *along += grad * (x - mean);
            }
        }
    }
}

/// out = out · scale + x · slope + shift per column.
struct Combine<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
    scale: &'a [f32],
    slope: &'a [f32],
    shift: &'a [f32],
}

impl WithSimd for Combine<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let channels = self.scale.len();
        for (out, x) in self.out.chunks_exact_mut(channels).zip(self.x.chunks_exact(channels)) {
            let columns = self.scale.iter().zip(self.slope).zip(self.shift);
            for ((out, x), ((scale, slope), shift)) in out.iter_mut().zip(x).zip(columns) {
                *out = *out * scale + x * slope + shift;
            }
        }
    }
}

struct NormRows {
    mean: Vec<f32>,
    /// 1/√(σ² + ε)
    scale: Vec<f32>,
    rectify: bool,
}

impl NormRows {
    /// (gradient of x, of the weight, of the bias)
    fn gradients(
        &self,
        (x, y, grad, weight): (&[f32], &[f32], &[f32], &[f32]),
    ) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let channels = weight.len();
        let (arch, rows) = (Arch::new(), x.len() / channels);
        let mut of_x = vec![0.0; x.len()];
        let size = ROWS * channels;
        let parts: Vec<[Vec<f32>; 2]> = of_x
            .par_chunks_mut(size)
            .enumerate()
            .map(|(chunk, passed)| {
                let range = chunk * size..chunk * size + passed.len();
                let (mut plain, mut along) = (vec![0.0; channels], vec![0.0; channels]);
                arch.dispatch(Sums {
                    x: &x[range.clone()],
                    grad: &grad[range.clone()],
                    y: self.rectify.then(|| &y[range]),
                    mean: &self.mean,
                    passed,
                    plain: &mut plain,
                    along: &mut along,
                });
                [plain, along]
            })
            .collect();
        let total = |part: usize| -> Vec<f64> {
            let mut sums = vec![0.0; channels];
            for parts in &parts {
                sums.iter_mut().zip(&parts[part]).for_each(|(sum, part)| *sum += f64::from(*part));
            }
            sums
        };
        let (plain, along) = (total(0), total(1));
        let (mut scales, mut slopes, mut shifts) = (Vec::new(), Vec::new(), Vec::new());
        for (channel, &weight) in weight.iter().enumerate() {
            let own = f64::from(self.scale[channel]);
            let scale = f64::from(weight) * own;
            // The share that goes through the rows' own mean and variance.
            let slope = -scale * along[channel] / rows as f64 * own * own;
            let shift = -scale * plain[channel] / rows as f64 - slope * f64::from(self.mean[channel]);
            scales.push(scale as f32);
            slopes.push(slope as f32);
            shifts.push(shift as f32);
        }
        of_x.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(out, x)| {
            arch.dispatch(Combine { x, out, scale: &scales, slope: &slopes, shift: &shifts });
        });
        let of_weight =
            along.iter().zip(&self.scale).map(|(sum, &scale)| (sum * f64::from(scale)) as f32).collect();
        (of_x, of_weight, plain.iter().map(|&sum| sum as f32).collect())
    }
}

impl CustomOp3 for NormRows {
    fn name(&self) -> &'static str {
        "norm-rows"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = slice_of(x, x_layout)?;
        let (weight, bias) = (slice_of(weight, weight_layout)?, slice_of(bias, bias_layout)?);
        let scale: Vec<f32> = weight.iter().zip(&self.scale).map(|(weight, scale)| weight * scale).collect();
        let columns = bias.iter().zip(&self.mean).zip(&scale);
        let shift: Vec<f32> = columns.map(|((bias, mean), scale)| bias - mean * scale).collect();
        let (arch, size) = (Arch::new(), ROWS * weight.len());
        let mut values = vec![0.0; x.len()];
        values.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(out, x)| {
            arch.dispatch(Affine { x, out, scale: &scale, shift: &shift, rectify: self.rectify });
        });
        Ok((CpuStorage::F32(values), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let (of_x, of_weight, of_bias) = with_slice(x, |x| {
            with_slice(y, |y| {
                with_slice(&grad, |grad| with_slice(weight, |weight| self.gradients((x, y, grad, weight))))
            })
        })????;
        let tensor = |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device());
        Ok((Some(tensor(of_x, x)?), Some(tensor(of_weight, weight)?), Some(tensor(of_bias, weight)?)))
    }
}
