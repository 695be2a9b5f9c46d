//! Batch norm of maps `[B, C, H, W]`, with the rectifier after it, and the sum that ends a residual block.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::vector::{Arch, each, each_pair, map};
use super::{on_cpu_f32, slice_of, with_slice};

/// Mean and (biased) variance per channel of maps `[B, C, H, W]`, both `[C]`; without a gradient.
///
/// # Errors
/// When there are no numbers.
pub fn moments(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let (batch, channels, height, width) = x.dims4()?;
    if batch * height * width == 0 {
        candle_core::bail!("batch statistics: found {:?}, allowed are maps that are not empty", x.dims());
    }
    let x = x.detach();
    if !on_cpu_f32(&x) {
        // [C, B · H · W]
        let rows = x.transpose(0, 1)?.contiguous()?.reshape((channels, ()))?;
        let mean = rows.mean(1)?;
        let variance = rows.broadcast_sub(&mean.unsqueeze(1)?)?.sqr()?.mean(1)?;
        return Ok((mean, variance));
    }
    let arch = Arch::new();
    let area = height * width;
    let found: Vec<(f32, f32)> = with_slice(&x.contiguous()?, |x| {
        let of_channel = |channel: usize| {
            let planes = || (0..batch).map(move |sample| &x[(sample * channels + channel) * area..][..area]);
            let count = (batch * area) as f64;
            let sum: f64 = planes().map(|x| f64::from(arch.dispatch(Deviation { x, mean: None }))).sum();
            let mean = sum / count;
            let square = |x| f64::from(arch.dispatch(Deviation { x, mean: Some(mean as f32) }));
            (mean as f32, (planes().map(square).sum::<f64>() / count) as f32)
        };
        (0..channels).into_par_iter().map(of_channel).collect()
    })?;
    let (means, variances): (Vec<f32>, Vec<f32>) = found.into_iter().unzip();
    Ok((Tensor::new(means, x.device())?, Tensor::new(variances, x.device())?))
}

/// Σ x, or Σ (x − mean)²
struct Deviation<'a> {
    x: &'a [f32],
    mean: Option<f32>,
}

impl WithSimd for Deviation<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let mut sum = simd.splat_f32s(0.0);
        match self.mean {
            None => each(
                simd,
                self.x,
                0.0,
                #[inline(always)]
                |x| sum = simd.add_f32s(sum, x),
            ),
            Some(mean) => {
                let centre = simd.splat_f32s(mean);
                each(
                    simd,
                    self.x,
                    mean,
                    #[inline(always)]
                    |x| {
                        let x = simd.sub_f32s(x, centre);
                        sum = simd.mul_add_e_f32s(x, x, sum);
                    },
                );
            }
        }
        simd.reduce_sum_f32s(sum)
    }
}

/// What a batch norm of maps goes by.
#[derive(Clone, Copy, Debug)]
pub struct Moments<'a> {
    /// μ, `[C]`
    pub mean: &'a Tensor,
    /// σ², `[C]`
    pub variance: &'a Tensor,
    /// They are those of the maps themselves, and the gradient knows it.
    pub of_batch: bool,
}

/// (x − μ)/√(σ² + ε) · weight + bias per channel of maps `[B, C, H, W]` (Ioffe and Szegedy, 2015), negative numbers
/// replaced by 0 where it is to `rectify`; weight and bias `[C]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn norm_maps(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    moments: Moments<'_>,
    eps: f64,
    rectify: bool,
) -> Result<Tensor> {
    let (_, channels, _, _) = x.dims4()?;
    if weight.dims1()? != channels {
        candle_core::bail!("batch norm: found {channels} channels, allowed are {}", weight.dims1()?);
    }
    if on_cpu_f32(x) && on_cpu_f32(weight) {
        let mean: Vec<f32> = moments.mean.to_vec1()?;
        let variance: Vec<f32> = moments.variance.to_vec1()?;
        let scale = variance.into_iter().map(|variance| 1.0 / (variance + eps as f32).sqrt()).collect();
        let op = NormMaps { mean, scale, of_batch: moments.of_batch, rectify };
        return x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op);
    }
    let column = |x: &Tensor| x.reshape((1, channels, 1, 1));
    let (mean, variance) = if moments.of_batch {
        let mean = x.mean_keepdim((0, 2, 3))?;
        let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim((0, 2, 3))?;
        (mean, variance)
    } else {
        (column(&moments.mean.detach())?, column(&moments.variance.detach())?)
    };
    let scale = (column(weight)? / (variance + eps)?.sqrt()?)?;
    let y = x.broadcast_sub(&mean)?.broadcast_mul(&scale)?.broadcast_add(&column(bias)?)?;
    if rectify { y.relu() } else { Ok(y) }
}

struct NormMaps {
    mean: Vec<f32>,
    /// 1/√(σ² + ε)
    scale: Vec<f32>,
    of_batch: bool,
    rectify: bool,
}

/// y = max(0, x · scale + shift), or without the maximum.
struct Affine<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
    scale: f32,
    shift: f32,
    rectify: bool,
}

impl WithSimd for Affine<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (scale, shift) = (simd.splat_f32s(self.scale), simd.splat_f32s(self.shift));
        let zero = simd.splat_f32s(0.0);
        map(
            simd,
            [self.x],
            self.out,
            #[inline(always)]
            |[x]| {
                let y = simd.mul_add_e_f32s(x, scale, shift);
                if self.rectify { simd.max_f32s(zero, y) } else { y }
            },
        );
    }
}

/// g where y > 0, else 0.
#[inline(always)]
fn passed<S: Simd>(simd: S, grad: S::f32s, y: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    simd.select_f32s(simd.less_than_f32s(zero, y), grad, zero)
}

/// (Σ g, Σ g (x − mean)) of a plane, g as the rectifier of `y` lets it pass; g is left in `passed`.
struct Sums<'a> {
    x: &'a [f32],
    grad: &'a [f32],
    y: Option<&'a [f32]>,
    mean: f32,
    passed: &'a mut [f32],
}

impl WithSimd for Sums<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f32, f32) {
        match self.y {
            Some(y) => map(
                simd,
                [self.grad, y],
                self.passed,
                #[inline(always)]
                |[grad, y]| passed(simd, grad, y),
            ),
            None => self.passed.copy_from_slice(self.grad),
        }
        let (mut plain, mut along) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
        let mean = simd.splat_f32s(self.mean);
        each_pair(
            simd,
            self.x,
            self.passed,
            #[inline(always)]
            |x, grad| {
                plain = simd.add_f32s(plain, grad);
                along = simd.mul_add_e_f32s(simd.sub_f32s(x, mean), grad, along);
            },
        );
        (simd.reduce_sum_f32s(plain), simd.reduce_sum_f32s(along))
    }
}

/// out = out · scale + x · slope + shift
struct Combine<'a> {
    x: &'a [f32],
    grad: &'a [f32],
    out: &'a mut [f32],
    scale: f32,
    slope: f32,
    shift: f32,
}

impl WithSimd for Combine<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (scale, slope) = (simd.splat_f32s(self.scale), simd.splat_f32s(self.slope));
        let shift = simd.splat_f32s(self.shift);
        map(
            simd,
            [self.x, self.grad],
            self.out,
            #[inline(always)]
            |[x, grad]| simd.mul_add_e_f32s(grad, scale, simd.mul_add_e_f32s(x, slope, shift)),
        );
    }
}

impl NormMaps {
    /// (gradient of x, of the weight, of the bias)
    fn gradients(
        &self,
        (x, y, grad, weight): (&[f32], &[f32], &[f32], &[f32]),
        batch: usize,
        area: usize,
    ) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let channels = weight.len();
        let arch = Arch::new();
        let mut passed = vec![0.0; x.len()];
        let planes: Vec<(f32, f32)> = passed
            .par_chunks_mut(area)
            .enumerate()
            .map(|(plane, passed)| {
                let range = plane * area..(plane + 1) * area;
                let (x, grad) = (&x[range.clone()], &grad[range.clone()]);
                let y = self.rectify.then(|| &y[range]);
                arch.dispatch(Sums { x, grad, y, mean: self.mean[plane % channels], passed })
            })
            .collect();
        let sum = |channel: usize, part: fn(&(f32, f32)) -> f32| -> f64 {
            planes.iter().skip(channel).step_by(channels).map(|plane| f64::from(part(plane))).sum()
        };
        let plain: Vec<f64> = (0..channels).map(|channel| sum(channel, |plane| plane.0)).collect();
        let along: Vec<f64> = (0..channels).map(|channel| sum(channel, |plane| plane.1)).collect();
        let count = (batch * area) as f64;
        let mut of_x = vec![0.0; x.len()];
        of_x.par_chunks_mut(area).enumerate().for_each(|(plane, out)| {
            let channel = plane % channels;
            let range = plane * area..(plane + 1) * area;
            let (x, grad) = (&x[range.clone()], &passed[range]);
            let scale = f64::from(weight[channel]) * f64::from(self.scale[channel]);
            // The share that goes through the batch's own mean and variance.
            let (slope, shift) = if self.of_batch {
                let slope = -scale * along[channel] / count * f64::from(self.scale[channel]).powi(2);
                let mean = f64::from(self.mean[channel]);
                (slope, -scale * plain[channel] / count - slope * mean)
            } else {
                (0.0, 0.0)
            };
            let (scale, slope, shift) = (scale as f32, slope as f32, shift as f32);
            arch.dispatch(Combine { x, grad, out, scale, slope, shift });
        });
        let of_weight =
            along.iter().zip(&self.scale).map(|(sum, &scale)| (sum * f64::from(scale)) as f32).collect();
        (of_x, of_weight, plain.iter().map(|&sum| sum as f32).collect())
    }
}

impl CustomOp3 for NormMaps {
    fn name(&self) -> &'static str {
        "norm-maps"
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
        let (_, channels, height, width) = x_layout.shape().dims4()?;
        let (weight, bias) = (slice_of(weight, weight_layout)?, slice_of(bias, bias_layout)?);
        let x = slice_of(x, x_layout)?;
        let (arch, area, rectify) = (Arch::new(), (height * width).max(1), self.rectify);
        let mut values = vec![0.0; x.len()];
        values.par_chunks_mut(area).zip(x.par_chunks(area)).enumerate().for_each(|(plane, (out, x))| {
            let channel = plane % channels;
            let scale = weight[channel] * self.scale[channel];
            let shift = bias[channel] - self.mean[channel] * scale;
            arch.dispatch(Affine { x, out, scale, shift, rectify });
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
        let (batch, _, height, width) = x.dims4()?;
        let grad = grad.contiguous()?;
        let (of_x, of_weight, of_bias) = with_slice(x, |x| {
            with_slice(y, |y| {
                with_slice(&grad, |grad| {
                    with_slice(weight, |weight| self.gradients((x, y, grad, weight), batch, height * width))
                })
            })
        })????;
        let tensor = |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device());
        Ok((Some(tensor(of_x, x)?), Some(tensor(of_weight, weight)?), Some(tensor(of_bias, weight)?)))
    }
}

/// max(0, x + y), both of one shape; its gradient at 0 is 0, as in torch.
///
/// # Errors
/// When the shapes differ.
pub fn add_rectify(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if on_cpu_f32(x) && on_cpu_f32(y) && x.dims() == y.dims() {
        return x.contiguous()?.apply_op2(&y.contiguous()?, AddRectify);
    }
    (x + y)?.relu()
}

struct AddRectify;

/// Numbers that a task takes at a time.
const CHUNK: usize = 16_384;

struct Pairs<'a> {
    left: &'a [f32],
    right: &'a [f32],
    out: &'a mut [f32],
    /// left where right > 0; else max(0, left + right).
    gate: bool,
}

impl WithSimd for Pairs<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let zero = simd.splat_f32s(0.0);
        map(
            simd,
            [self.left, self.right],
            self.out,
            #[inline(always)]
            |[left, right]| {
                if self.gate {
                    passed(simd, left, right)
                } else {
                    simd.max_f32s(zero, simd.add_f32s(left, right))
                }
            },
        );
    }
}

fn over_pairs(left: &[f32], right: &[f32], gate: bool) -> Vec<f32> {
    let arch = Arch::new();
    let mut values = vec![0.0; left.len()];
    let chunks = values.par_chunks_mut(CHUNK).zip(left.par_chunks(CHUNK)).zip(right.par_chunks(CHUNK));
    chunks.for_each(|((out, left), right)| arch.dispatch(Pairs { left, right, out, gate }));
    values
}

impl CustomOp2 for AddRectify {
    fn name(&self) -> &'static str {
        "add-rectify"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let values = over_pairs(slice_of(x, x_layout)?, slice_of(y, y_layout)?, false);
        Ok((CpuStorage::F32(values), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        sum: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.contiguous()?;
        let values = with_slice(sum, |sum| with_slice(&grad, |grad| over_pairs(grad, sum, true)))??;
        let grad = Tensor::from_vec(values, sum.shape(), sum.device())?;
        Ok((Some(grad.clone()), Some(grad)))
    }
}
