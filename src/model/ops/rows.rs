//! Softmax and norms over the last dimension.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::vector::{Arch, each, each_pair, exp, map};
use super::{on_cpu_f32, slice_of, wide, with_slice};

/// exp(x) / Σ exp(x) over the last dimension.
///
/// # Errors
/// When there is no dimension.
pub fn softmax_last(x: &Tensor) -> Result<Tensor> {
    if on_cpu_f32(x) && width(x)? > 0 {
        x.contiguous()?.apply_op1(Softmax)
    } else {
        candle_nn::ops::softmax(x, D::Minus1)
    }
}

/// (x − μ)/√(σ² + ε) · weight + bias over the last dimension (Ba et al., 2016); weight and bias `[width]`.
///
/// # Errors
/// When the last dimension is not as wide as the weight.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    check("layer norm", x, weight)?;
    if on_cpu_f32(x) && on_cpu_f32(weight) && on_cpu_f32(bias) {
        let op = Norm { eps: eps as f32, centred: true };
        return x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op);
    }
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    let normal = centred.broadcast_div(&(variance + eps)?.sqrt()?)?;
    normal.broadcast_mul(weight)?.broadcast_add(bias)
}

/// x/√(mean x² + ε) · weight over the last dimension (Zhang and Sennrich, 2019); weight `[width]`.
///
/// # Errors
/// When the last dimension is not as wide as the weight.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    check("RMS norm", x, weight)?;
    if on_cpu_f32(x) && on_cpu_f32(weight) {
        let op = Norm { eps: eps as f32, centred: false };
        return x.contiguous()?.apply_op2(&weight.contiguous()?, op);
    }
    if !x.track_op() && !weight.track_op() && !x.device().is_cpu() && x.dtype() == weight.dtype() {
        return candle_nn::ops::rms_norm(&x.contiguous()?, &weight.contiguous()?, eps as f32);
    }
    let wide = x.to_dtype(wide(x.dtype()))?;
    let square = wide.sqr()?.mean_keepdim(D::Minus1)?;
    let normal = wide.broadcast_div(&(square + eps)?.sqrt()?)?;
    // As Llama's: narrowed before it is scaled.
    normal.to_dtype(x.dtype())?.broadcast_mul(weight)
}

fn width(x: &Tensor) -> Result<usize> {
    x.dim(D::Minus1)
}

fn check(what: &str, x: &Tensor, weight: &Tensor) -> Result<()> {
    let (found, allowed) = (width(x)?, weight.dims1()?);
    if found != allowed || found == 0 {
        candle_core::bail!(
            "{what}: found rows of {found} numbers, allowed by the weight are {allowed} and not 0"
        );
    }
    Ok(())
}

/// Rows that a task takes at a time: about 4,096 numbers.
fn rows_at_a_time(width: usize) -> usize {
    4096_usize.div_ceil(width)
}

/// A function of a row, and of `N` more rows beside it, that fills a row.
trait OfRows<const N: usize>: Copy + Sync {
    fn row<S: Simd>(self, simd: S, inputs: [&[f32]; N], out: &mut [f32]);
}

/// Applies it to all rows.
fn over_rows<const N: usize, F: OfRows<N>>(inputs: [&[f32]; N], width: usize, f: F) -> Vec<f32> {
    struct Rows<'a, const N: usize, F> {
        inputs: [&'a [f32]; N],
        out: &'a mut [f32],
        width: usize,
        f: F,
    }
    impl<const N: usize, F: OfRows<N>> WithSimd for Rows<'_, N, F> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for (index, out) in self.out.chunks_exact_mut(self.width).enumerate() {
                let inputs = self.inputs.map(|all| &all[index * self.width..][..self.width]);
                self.f.row(simd, inputs, out);
            }
        }
    }
    let arch = Arch::new();
    let mut values = vec![0.0; inputs.first().map_or(0, |all| all.len())];
    let chunk = rows_at_a_time(width) * width;
    values.par_chunks_mut(chunk).enumerate().for_each(|(index, out)| {
        let inputs = inputs.map(|all| &all[index * chunk..][..out.len()]);
        arch.dispatch(Rows { inputs, out, width, f });
    });
    values
}

struct Softmax;

#[derive(Clone, Copy)]
struct SoftmaxRow;

impl OfRows<1> for SoftmaxRow {
    #[inline(always)]
    fn row<S: Simd>(self, simd: S, [x]: [&[f32]; 1], out: &mut [f32]) {
        let mut most = simd.splat_f32s(f32::NEG_INFINITY);
        each(
            simd,
            x,
            f32::NEG_INFINITY,
            #[inline(always)]
            |x| most = simd.max_f32s(most, x),
        );
        let most = simd.reduce_max_f32s(most);
        if most.is_finite() {
            let most = simd.splat_f32s(most);
            map(
                simd,
                [x],
                out,
                #[inline(always)]
                |[x]| exp_or_zero(simd, simd.sub_f32s(x, most)),
            );
        } else {
            // ±∞ − ±∞ is NaN, as in candle and torch.
            out.fill(f32::NAN);
        }
        let mut sum = simd.splat_f32s(0.0);
        each(
            simd,
            out,
            0.0,
            #[inline(always)]
            |value| sum = simd.add_f32s(sum, value),
        );
        let scale = 1.0 / simd.reduce_sum_f32s(sum);
        // In place: a second pass over what is in the cache.
        let (vectors, rest) = S::as_mut_simd_f32s(out);
        for value in vectors {
            *value = simd.mul_f32s(*value, simd.splat_f32s(scale));
        }
        rest.iter_mut().for_each(|value| *value *= scale);
    }
}

/// eˣ for x ≤ 0; 0 where it is below the smallest normal number.
#[inline(always)]
fn exp_or_zero<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let small = simd.less_than_f32s(x, simd.splat_f32s(-87.3));
    simd.select_f32s(small, simd.splat_f32s(0.0), exp(simd, x))
}

#[derive(Clone, Copy)]
struct SoftmaxGradient;

impl OfRows<2> for SoftmaxGradient {
    /// y (g − Σ y g)
    #[inline(always)]
    fn row<S: Simd>(self, simd: S, [y, grad]: [&[f32]; 2], out: &mut [f32]) {
        let mut sum = simd.splat_f32s(0.0);
        each_pair(
            simd,
            y,
            grad,
            #[inline(always)]
            |y, grad| sum = simd.mul_add_e_f32s(y, grad, sum),
        );
        let sum = simd.splat_f32s(simd.reduce_sum_f32s(sum));
        map(
            simd,
            [y, grad],
            out,
            #[inline(always)]
            |[y, grad]| simd.mul_f32s(y, simd.sub_f32s(grad, sum)),
        );
    }
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax-last"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let width = layout.dims().last().copied().unwrap_or(1);
        let values = over_rows([slice_of(x, layout)?], width, SoftmaxRow);
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let width = width(y)?;
        let values = with_slice(y, |y| {
            with_slice(&grad.contiguous()?, |grad| over_rows([y, grad], width, SoftmaxGradient))
        })??;
        Tensor::from_vec(values, y.shape(), y.device()).map(Some)
    }
}

/// Layer norm, or RMS norm, which is not centred and has no bias.
#[derive(Clone, Copy)]
struct Norm {
    eps: f32,
    centred: bool,
}

impl Norm {
    /// (μ, 1/√(σ² + ε)) of a row.
    #[inline(always)]
    fn moments<S: Simd>(self, simd: S, x: &[f32]) -> (f32, f32) {
        let count = x.len() as f32;
        let mut mean = 0.0;
        if self.centred {
            let mut sum = simd.splat_f32s(0.0);
            each(
                simd,
                x,
                0.0,
                #[inline(always)]
                |x| sum = simd.add_f32s(sum, x),
            );
            mean = simd.reduce_sum_f32s(sum) / count;
        }
        let centre = simd.splat_f32s(mean);
        let mut square = simd.splat_f32s(0.0);
        each(
            simd,
            x,
            mean,
            #[inline(always)]
            |x| {
                let x = simd.sub_f32s(x, centre);
                square = simd.mul_add_e_f32s(x, x, square);
            },
        );
        (mean, 1.0 / (simd.reduce_sum_f32s(square) / count + self.eps).sqrt())
    }

    fn forward(self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        over_rows([x], weight.len(), NormRow { norm: self, weight, bias })
    }

    /// (Σ g · normalised x, Σ g) per column, added up in parts of fixed size, in order.
    fn columns(self, x: &[f32], width: usize, grad: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let chunk = rows_at_a_time(width).max(64) * width;
        let arch = Arch::new();
        let parts: Vec<(Vec<f32>, Vec<f32>)> = x
            .par_chunks(chunk)
            .zip(grad.par_chunks(chunk))
            .map(|(x, grad)| {
                let (mut scaled, mut plain) = (vec![0.0; width], vec![0.0; width]);
                arch.dispatch(ColumnSums { norm: self, x, grad, scaled: &mut scaled, plain: &mut plain });
                (scaled, plain)
            })
            .collect();
        let (mut scaled, mut plain) = (vec![0.0; width], vec![0.0; width]);
        for (part_scaled, part_plain) in &parts {
            scaled.iter_mut().zip(part_scaled).for_each(|(sum, part)| *sum += part);
            plain.iter_mut().zip(part_plain).for_each(|(sum, part)| *sum += part);
        }
        (scaled, plain)
    }

    /// The gradient of x, and those of weight and bias where one of them is trained.
    fn gradients(
        self,
        x: &Tensor,
        weight: &Tensor,
        is_trained: bool,
        grad: &Tensor,
    ) -> Result<(Tensor, Option<Tensor>, Option<Tensor>)> {
        let (grad, width) = (grad.contiguous()?, width(weight)?);
        let (of_x, of_columns) = with_slice(x, |x| {
            with_slice(weight, |weight| {
                with_slice(&grad, |grad| {
                    let of_x = over_rows([x, grad], width, NormGradient { norm: self, weight });
                    (of_x, is_trained.then(|| self.columns(x, width, grad)))
                })
            })
        })???;
        let tensor = |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.shape(), like.device());
        let (scaled, plain) = of_columns.unzip();
        let of_column = |values: Option<Vec<f32>>| values.map(|values| tensor(values, weight)).transpose();
        Ok((tensor(of_x, x)?, of_column(scaled)?, of_column(plain)?))
    }
}

/// (x − mean) · scale
#[inline(always)]
fn normal<S: Simd>(simd: S, x: S::f32s, mean: S::f32s, scale: S::f32s) -> S::f32s {
    simd.mul_f32s(simd.sub_f32s(x, mean), scale)
}

#[derive(Clone, Copy)]
struct NormRow<'a> {
    norm: Norm,
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
}

impl OfRows<1> for NormRow<'_> {
    #[inline(always)]
    fn row<S: Simd>(self, simd: S, [x]: [&[f32]; 1], out: &mut [f32]) {
        let (mean, scale) = self.norm.moments(simd, x);
        let (mean, scale) = (simd.splat_f32s(mean), simd.splat_f32s(scale));
        match self.bias {
            Some(bias) => map(
                simd,
                [x, self.weight, bias],
                out,
                #[inline(always)]
                |[x, weight, bias]| simd.mul_add_e_f32s(normal(simd, x, mean, scale), weight, bias),
            ),
            None => map(
                simd,
                [x, self.weight],
                out,
                #[inline(always)]
                |[x, weight]| simd.mul_f32s(normal(simd, x, mean, scale), weight),
            ),
        }
    }
}

#[derive(Clone, Copy)]
struct NormGradient<'a> {
    norm: Norm,
    weight: &'a [f32],
}

impl OfRows<2> for NormGradient<'_> {
    /// With h = g · weight and n the normalised row: (h − mean h − n · mean(h n)) / √(σ² + ε), without mean h where the
    /// norm is not centred.
    #[inline(always)]
    fn row<S: Simd>(self, simd: S, [x, grad]: [&[f32]; 2], out: &mut [f32]) {
        let (mean, scale) = self.norm.moments(simd, x);
        let count = x.len() as f32;
        map(
            simd,
            [grad, self.weight],
            out,
            #[inline(always)]
            |[grad, weight]| simd.mul_f32s(grad, weight),
        );
        let (centre, scales) = (simd.splat_f32s(mean), simd.splat_f32s(scale));
        let (mut plain, mut along) = (simd.splat_f32s(0.0), simd.splat_f32s(0.0));
        each_pair(
            simd,
            x,
            out,
            #[inline(always)]
            |x, h| {
                plain = simd.add_f32s(plain, h);
                along = simd.mul_add_e_f32s(normal(simd, x, centre, scales), h, along);
            },
        );
        let plain = if self.norm.centred { simd.reduce_sum_f32s(plain) / count } else { 0.0 };
        let plain = simd.splat_f32s(plain);
        let along = simd.splat_f32s(simd.reduce_sum_f32s(along) / count);
        map(
            simd,
            [x, grad, self.weight],
            out,
            #[inline(always)]
            |[x, grad, weight]| {
                let h = simd.sub_f32s(simd.mul_f32s(grad, weight), plain);
                simd.mul_f32s(simd.sub_f32s(h, simd.mul_f32s(normal(simd, x, centre, scales), along)), scales)
            },
        );
    }
}

struct ColumnSums<'a> {
    norm: Norm,
    x: &'a [f32],
    grad: &'a [f32],
    scaled: &'a mut [f32],
    plain: &'a mut [f32],
}

impl WithSimd for ColumnSums<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { norm, x, grad, scaled, plain } = self;
        let width = scaled.len();
        // What is added to is also read: a copy of the sums so far, which stays in the cache.
        let mut before = vec![0.0; width];
        for (x, grad) in x.chunks_exact(width).zip(grad.chunks_exact(width)) {
            let (mean, scale) = norm.moments(simd, x);
            let (mean, scale) = (simd.splat_f32s(mean), simd.splat_f32s(scale));
            before.copy_from_slice(scaled);
            map(
                simd,
                [x, grad, &before],
                scaled,
                #[inline(always)]
                |[x, grad, before]| {
                    let normal = simd.mul_f32s(simd.sub_f32s(x, mean), scale);
                    simd.mul_add_e_f32s(normal, grad, before)
                },
            );
            before.copy_from_slice(plain);
            map(
                simd,
                [grad, &before],
                plain,
                #[inline(always)]
                |[grad, before]| simd.add_f32s(grad, before),
            );
        }
    }
}

/// The numbers of the outputs' shape.
fn like(values: Vec<f32>, layout: &Layout) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), layout.shape().clone())
}

impl CustomOp3 for Norm {
    fn name(&self) -> &'static str {
        "layer-norm"
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
        let (weight, bias) = (slice_of(weight, weight_layout)?, slice_of(bias, bias_layout)?);
        Ok(like(self.forward(slice_of(x, x_layout)?, weight, Some(bias)), x_layout))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let is_trained = weight.track_op() || bias.track_op();
        let (of_x, of_weight, of_bias) = self.gradients(x, weight, is_trained, grad)?;
        Ok((Some(of_x), of_weight, of_bias))
    }
}

impl CustomOp2 for Norm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let weight = slice_of(weight, weight_layout)?;
        Ok(like(self.forward(slice_of(x, x_layout)?, weight, None), x_layout))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (of_x, of_weight, _) = self.gradients(x, weight, weight.track_op(), grad)?;
        Ok((Some(of_x), of_weight))
    }
}
