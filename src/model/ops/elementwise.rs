//! GELU (Hendrycks and Gimpel, 2016), exact and with tanh.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::vector::{Arch, erf, exp, map, tanh};
use super::{on_cpu_f32, slice_of, with_slice};

/// x Φ(x), Φ the normal distribution: x (1 + erf(x/√2)) / 2, elementwise.
///
/// # Errors
/// When the device refuses memory.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if on_cpu_f32(x) { x.contiguous()?.apply_op1(Gelu::Exact) } else { x.gelu_erf() }
}

/// x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2, elementwise.
///
/// # Errors
/// When the device refuses memory.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    if on_cpu_f32(x) { x.contiguous()?.apply_op1(Gelu::Tanh) } else { x.gelu() }
}

#[derive(Clone, Copy, Debug)]
enum Gelu {
    Exact,
    Tanh,
}

/// √(2/π)
const SLOPE: f32 = 0.797_884_6;
const CUBIC: f32 = 0.044_715;

impl Gelu {
    #[inline(always)]
    fn value<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let half = simd.mul_f32s(x, simd.splat_f32s(0.5));
        let part = match self {
            Self::Exact => erf(simd, simd.mul_f32s(x, simd.splat_f32s(std::f32::consts::FRAC_1_SQRT_2))),
            Self::Tanh => tanh(simd, Self::inner(simd, x)),
        };
        simd.mul_add_e_f32s(half, part, half)
    }

    /// √(2/π) (x + 0.044715 x³)
    #[inline(always)]
    fn inner<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
        let square = simd.mul_f32s(x, x);
        let factor = simd.mul_add_e_f32s(square, simd.splat_f32s(SLOPE * CUBIC), simd.splat_f32s(SLOPE));
        simd.mul_f32s(x, factor)
    }

    #[inline(always)]
    fn slope<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let constant = |value: f32| simd.splat_f32s(value);
        let half = constant(0.5);
        match self {
            // Φ(x) + x φ(x)
            Self::Exact => {
                let part = erf(simd, simd.mul_f32s(x, constant(std::f32::consts::FRAC_1_SQRT_2)));
                let density = exp(simd, simd.mul_f32s(simd.mul_f32s(x, x), constant(-0.5)));
                // 1/√(2π)
                let density = simd.mul_f32s(density, constant(0.398_942_3));
                simd.mul_add_e_f32s(x, density, simd.mul_add_e_f32s(half, part, half))
            }
            // (1 + t)/2 + x (1 − t²)/2 · d inner/dx
            Self::Tanh => {
                let t = tanh(simd, Self::inner(simd, x));
                let square = simd.mul_f32s(x, x);
                let inner = simd.mul_add_e_f32s(square, constant(3.0 * SLOPE * CUBIC), constant(SLOPE));
                let rest = simd.sub_f32s(half, simd.mul_f32s(half, simd.mul_f32s(t, t)));
                let left = simd.mul_add_e_f32s(half, t, half);
                simd.mul_add_e_f32s(simd.mul_f32s(x, rest), inner, left)
            }
        }
    }
}

/// Numbers that a task takes at a time.
const CHUNK: usize = 256;

/// f over chunks of rows of one length; the chunks are collected as they are, so that nothing is zeroed first.
fn over_chunks<const N: usize, F>(inputs: [&[f32]; N], f: F) -> Vec<f32>
where
    F: Fn([&[f32]; N], &mut [f32]) + Sync,
{
    let chunks = inputs.map(|values| values.as_chunks::<CHUNK>());
    let count = chunks.first().map_or(0, |(whole, _)| whole.len());
    let whole: Vec<[f32; CHUNK]> = (0..count)
        .into_par_iter()
        .with_min_len(32)
        .map(|index| {
            let mut out = [0.0; CHUNK];
            f(std::array::from_fn(|n| chunks[n].0[index].as_slice()), &mut out);
            out
        })
        .collect();
    let mut values = whole.into_flattened();
    let rest = chunks.map(|(_, rest)| rest);
    let mut out = [0.0; CHUNK];
    let out = &mut out[..rest.first().map_or(0, |rest| rest.len())];
    f(rest, out);
    values.extend_from_slice(out);
    values
}

struct Values<'a> {
    gelu: Gelu,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Values<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        map(
            simd,
            [self.x],
            self.out,
            #[inline(always)]
            |[x]| self.gelu.value(simd, x),
        );
    }
}

struct Gradients<'a> {
    gelu: Gelu,
    x: &'a [f32],
    grad: &'a [f32],
    out: &'a mut [f32],
}

impl WithSimd for Gradients<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { gelu, x, grad, out } = self;
        map(
            simd,
            [x, grad],
            out,
            #[inline(always)]
            |[x, grad]| simd.mul_f32s(grad, gelu.slope(simd, x)),
        );
    }
}

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        match self {
            Self::Exact => "gelu",
            Self::Tanh => "gelu-tanh",
        }
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (gelu, arch) = (*self, Arch::new());
        let values = over_chunks([slice_of(x, layout)?], |[x], out| arch.dispatch(Values { gelu, x, out }));
        Ok((CpuStorage::F32(values), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (gelu, arch) = (*self, Arch::new());
        let values = with_slice(x, |x| {
            with_slice(&grad.contiguous()?, |grad| {
                over_chunks([x, grad], |[x, grad], out| arch.dispatch(Gradients { gelu, x, grad, out }))
            })
        })??;
        Tensor::from_vec(values, x.shape(), x.device()).map(Some)
    }
}
