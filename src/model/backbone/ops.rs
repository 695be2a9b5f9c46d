//! What the backbone computes between its matrix products, each with its gradient.
//!
//! On the CPU in f32 every function here is one fused operation with a backward pass of its own: candle's fused ones cut
//! the gradient, and its composed ones keep five to ten intermediate tensors each. Elsewhere they are composed of
//! candle's operations, or are candle's fused ones where nothing that may be trained is involved.
//!
//! [`Frozen`] is the product with a weight that is not trained: its backward pass computes no gradient of the weight.
//! candle's own product computes and keeps one for every weight, variable or not.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, DType, Layout, Result, Shape, Tensor};

use crate::model::ops::{slice_of, wide};

mod frozen;
mod kernels;

pub use frozen::Frozen;

/// Whether the fused operations of this module take a tensor.
fn is_fused(x: &Tensor) -> bool {
    x.device().is_cpu() && x.dtype() == DType::F32
}

/// The last dimension of a shape.
fn width(layout: &Layout) -> usize {
    layout.dims().last().copied().unwrap_or(1)
}

/// softmax(scale · scores + mask) over the last dimension: scores `[B, H, T, N]`; mask, additive, `[B or 1, T or 1, N]`,
/// 0 or −1e9. On the CPU in f32 the weights are 0 where all is masked, elsewhere they are not defined.
pub(in crate::model) fn softmax(scores: &Tensor, scale: f64, mask: Option<&Tensor>) -> Result<Tensor> {
    let (batch, _, length, keys) = scores.dims4()?;
    if let Some(mask) = mask {
        let (rows, queries, wanted) = mask.dims3()?;
        if wanted != keys || ![1, batch].contains(&rows) || ![1, length].contains(&queries) {
            candle_core::bail!("scores {:?} do not go with a mask {:?}", scores.dims(), mask.dims());
        }
    }
    if is_fused(scores) && mask.is_none_or(|mask| mask.dtype() == DType::F32) {
        let op = Softmax { scale: scale as f32, mask: mask.map(Tensor::contiguous).transpose()? };
        return scores.contiguous()?.apply_op1(op);
    }
    let dtype = wide(scores.dtype());
    let mut wide = (scores.to_dtype(dtype)? * scale)?;
    if let Some(mask) = mask {
        wide = wide.broadcast_add(&mask.unsqueeze(1)?.to_dtype(dtype)?)?;
    }
    let weights = if wide.track_op() {
        candle_nn::ops::softmax(&wide, D::Minus1)?
    } else {
        candle_nn::ops::softmax_last_dim(&wide)?
    };
    weights.to_dtype(scores.dtype())
}

struct Softmax {
    scale: f32,
    mask: Option<Tensor>,
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "backbone-softmax"
    }

    fn cpu_fwd(&self, scores: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, heads, length, keys) = layout.shape().dims4()?;
        let scores = slice_of(scores, layout)?;
        let mut of_row: Box<dyn Fn(usize) -> usize + Sync> = Box::new(|_| 0);
        let held = self.mask.as_ref().map(Tensor::storage_and_layout);
        let mask = match &held {
            Some((storage, layout)) => {
                let candle_core::Storage::Cpu(storage) = &**storage else {
                    candle_core::bail!("a mask on another device than its scores");
                };
                let (rows, queries, _) = layout.shape().dims3()?;
                // Row (b, h, t) of the scores goes with row (b or 0, t or 0) of the mask.
                of_row = Box::new(move |row| {
                    let (b, t) = (row / (heads * length), row % length);
                    (if rows == 1 { 0 } else { b }) * queries + if queries == 1 { 0 } else { t }
                });
                Some(slice_of(storage, layout)?)
            }
            None => None,
        };
        let weights = kernels::softmax(scores, keys, self.scale, mask, &*of_row);
        Ok((CpuStorage::F32(weights), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, weights: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let op = SoftmaxBackward { scale: self.scale };
        weights.detach().apply_op2_no_bwd(&grad.contiguous()?, &op).map(Some)
    }
}

struct SoftmaxBackward {
    scale: f32,
}

impl CustomOp2 for SoftmaxBackward {
    fn name(&self) -> &'static str {
        "backbone-softmax-backward"
    }

    fn cpu_fwd(
        &self,
        y: &CpuStorage,
        ly: &Layout,
        g: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let of_scores = kernels::softmax_backward(slice_of(y, ly)?, slice_of(g, lg)?, width(ly), self.scale);
        Ok((CpuStorage::F32(of_scores), ly.shape().clone()))
    }
}

/// silu(gate) · up of `[.., 2n]`, gate before up: `[.., n]`.
pub(super) fn swiglu(x: &Tensor) -> Result<Tensor> {
    if is_fused(x) {
        return x.contiguous()?.apply_op1(SwiGlu);
    }
    let n = x.dim(D::Minus1)? / 2;
    let gate = x.narrow(D::Minus1, 0, n)?.contiguous()?;
    gate.silu()? * x.narrow(D::Minus1, n, n)?.contiguous()?
}

struct SwiGlu;

impl CustomOp1 for SwiGlu {
    fn name(&self) -> &'static str {
        "backbone-swiglu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let n = width(layout) / 2;
        let mut dims = layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = n;
        }
        Ok((CpuStorage::F32(kernels::swiglu(slice_of(x, layout)?, n)), dims.into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        x.detach().apply_op2_no_bwd(&grad.contiguous()?, &SwiGluBackward).map(Some)
    }
}

struct SwiGluBackward;

impl CustomOp2 for SwiGluBackward {
    fn name(&self) -> &'static str {
        "backbone-swiglu-backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        g: &CpuStorage,
        lg: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let of_x = kernels::swiglu_backward(slice_of(x, lx)?, slice_of(g, lg)?, width(lx) / 2);
        Ok((CpuStorage::F32(of_x), lx.shape().clone()))
    }
}

/// Some of the heads of a projection, laid out for a product.
#[derive(Clone, Debug)]
pub(super) struct Split {
    /// The first of them.
    pub(super) from: usize,
    /// How many.
    pub(super) count: usize,
    /// Whether each is transposed.
    pub(super) transposed: bool,
}

/// Heads of x `[R, T, A, D]`: `[R, count, T, D]`, or `[R, count, D, T]` where they are to be transposed; turned by
/// `rotation`, whose tables are `[R or 1, T, D/2]`, where there is one.
pub(super) fn split_heads(
    x: &Tensor,
    split: &Split,
    rotation: Option<&super::rope::Rotation>,
) -> Result<Tensor> {
    let (_, _, all, _) = x.dims4()?;
    if split.from + split.count > all {
        candle_core::bail!("heads {} to {} of {all}", split.from, split.from + split.count);
    }
    if is_fused(x) {
        let turn = rotation.map(|rotation| {
            Ok::<_, candle_core::Error>((
                rotation.cos.to_dtype(DType::F32)?.contiguous()?,
                rotation.sin.to_dtype(DType::F32)?.contiguous()?,
            ))
        });
        let op = SplitHeads { split: split.clone(), turn: turn.transpose()?, heads: all };
        return x.contiguous()?.apply_op1(op);
    }
    let x = x.narrow(2, split.from, split.count)?.transpose(1, 2)?.contiguous()?;
    let x = match rotation {
        Some(rotation) => {
            let (cos, sin) = (rotation.cos.to_dtype(x.dtype())?, rotation.sin.to_dtype(x.dtype())?);
            let pairs = cos.dim(2)?;
            let (a, b) = (x.narrow(3, 0, pairs)?, x.narrow(3, pairs, pairs)?);
            let (cos, sin) = (cos.unsqueeze(1)?, sin.unsqueeze(1)?);
            let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
            let second = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
            Tensor::cat(&[first, second], 3)?
        }
        None => x,
    };
    if split.transposed { x.transpose(2, 3)?.contiguous() } else { Ok(x) }
}

struct SplitHeads {
    split: Split,
    turn: Option<(Tensor, Tensor)>,
    /// Heads of the input.
    heads: usize,
}

impl SplitHeads {
    fn run<T>(
        &self,
        shape: kernels::Heads,
        run: impl FnOnce(&kernels::Heads, Option<kernels::Turn<'_>>) -> T,
    ) -> Result<T> {
        let Some((cos, sin)) = &self.turn else { return Ok(run(&shape, None)) };
        let ((cos, lc), (sin, ls)) = (cos.storage_and_layout(), sin.storage_and_layout());
        let (candle_core::Storage::Cpu(cos), candle_core::Storage::Cpu(sin)) = (&*cos, &*sin) else {
            candle_core::bail!("a rotation on another device than its heads");
        };
        let (batch, length, pairs) = lc.shape().dims3()?;
        if ![1, shape.batch].contains(&batch) || length != shape.length || 2 * pairs != shape.dim {
            candle_core::bail!("a rotation {:?} does not go with heads {shape:?}", lc.dims());
        }
        let turn = kernels::Turn { cos: slice_of(cos, lc)?, sin: slice_of(sin, ls)?, shared: batch == 1 };
        Ok(run(&shape, Some(turn)))
    }

    fn heads(&self, batch: usize, length: usize, dim: usize) -> kernels::Heads {
        let Split { from, count, transposed } = self.split;
        kernels::Heads { batch, length, heads: self.heads, dim, from, count, transposed }
    }
}

impl CustomOp1 for SplitHeads {
    fn name(&self) -> &'static str {
        "backbone-split-heads"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, length, _, dim) = layout.shape().dims4()?;
        let x = slice_of(x, layout)?;
        let y =
            self.run(self.heads(batch, length, dim), |heads, turn| kernels::split_heads(x, heads, turn))?;
        let (rows, columns) = if self.split.transposed { (dim, length) } else { (length, dim) };
        Ok((CpuStorage::F32(y), (batch, self.split.count, rows, columns).into()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let back = Self { split: self.split.clone(), turn: self.turn.clone(), heads: self.heads };
        grad.contiguous()?.apply_op1_no_bwd(&JoinHeads(back)).map(Some)
    }
}

/// The gradient of [`SplitHeads`]: the other heads' is 0.
struct JoinHeads(SplitHeads);

impl CustomOp1 for JoinHeads {
    fn name(&self) -> &'static str {
        "backbone-join-heads"
    }

    fn cpu_fwd(&self, grad: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, _, rows, columns) = layout.shape().dims4()?;
        let (length, dim) = if self.0.split.transposed { (columns, rows) } else { (rows, columns) };
        let grad = slice_of(grad, layout)?;
        let heads = self.0.heads(batch, length, dim);
        let of_x = self.0.run(heads, |heads, turn| kernels::join_heads(grad, heads, turn))?;
        Ok((CpuStorage::F32(of_x), (batch, length, self.0.heads, dim).into()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::super::rope::Rotation;
    use super::*;
    use crate::model::seeded::fresh_weights;

    fn noise(name: &str, shape: impl Into<Shape>) -> Tensor {
        let init = candle_nn::Init::Randn { mean: 0.0, stdev: 1.5 };
        fresh_weights(5, &Device::Cpu).get_with_hints(shape.into(), name, init).unwrap()
    }

    /// The fused operation in f32 against the composed one in f64: values and gradients of everything given.
    fn agree(inputs: &[Tensor], run: impl Fn(&[Tensor]) -> Result<Tensor>) {
        let side = |dtype| {
            let vars: Vec<Var> =
                inputs.iter().map(|x| Var::from_tensor(&x.to_dtype(dtype).unwrap()).unwrap()).collect();
            let given: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
            let y = run(&given).unwrap();
            let probe = noise("probe", y.shape().clone()).to_dtype(dtype).unwrap();
            let grads = (&y * probe).unwrap().sum_all().unwrap().backward().unwrap();
            let mut all = vec![y];
            all.extend(vars.iter().map(|var| grads.get(var).unwrap().clone()));
            all
        };
        for (place, (fused, exact)) in side(DType::F32).into_iter().zip(side(DType::F64)).enumerate() {
            let apart = (fused.to_dtype(DType::F64).unwrap() - &exact).unwrap().abs().unwrap();
            let apart = apart.flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap();
            let size =
                exact.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap();
            assert!(size > 0.0 && apart <= 2e-6 * size.max(1.0), "{place}: {apart} of {size}");
        }
    }

    #[test]
    fn the_fused_softmax_is_the_composed_one() {
        let scores = noise("s", (2, 3, 4, 11));
        let masks = [(2, 4, 11), (1, 4, 11), (2, 1, 11)].map(|shape| {
            let noise = noise("m", shape);
            // A third is masked.
            let keep = noise.ge(-0.6f64).unwrap().to_dtype(DType::F32).unwrap();
            ((keep - 1.0).unwrap() * 1e9).unwrap()
        });
        for mask in &masks {
            agree(std::slice::from_ref(&scores), |x| {
                softmax(&x[0], 0.7, Some(&mask.to_dtype(x[0].dtype())?))
            });
        }
        agree(&[scores], |x| softmax(&x[0], 0.7, None));
    }

    #[test]
    fn masked_scores_weigh_nothing() {
        let scores = Tensor::new(&[[[[50f32, 1.0, 2.0]]]], &Device::Cpu).unwrap();
        let mask = Tensor::new(&[[[-1e9f32, 0.0, 0.0]]], &Device::Cpu).unwrap();
        let weights =
            softmax(&scores, 1.0, Some(&mask)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(weights[0], 0.0);
        assert!((weights[1] + weights[2] - 1.0).abs() < 1e-6, "{weights:?}");
    }

    #[test]
    fn the_fused_gated_unit_is_the_composed_one() {
        agree(&[noise("x", (2, 7, 26))], |x| swiglu(&x[0]));
        // Far from 0, where an exponential overflows.
        let far = (noise("x", (1, 3, 10)) * 80.0).unwrap();
        agree(&[far], |x| swiglu(&x[0]));
    }

    #[test]
    fn fused_heads_are_the_composed_ones() {
        let x = noise("x", (2, 5, 4, 6));
        let turn = |batch: usize, dtype| {
            let positions: Vec<u32> = (0..5 * batch as u32).map(|place| place * 3).collect();
            Rotation::new(&[1.0, 0.3, 0.01], &positions, (batch, 5), dtype, &Device::Cpu).unwrap()
        };
        for transposed in [false, true] {
            let split = Split { from: 1, count: 2, transposed };
            agree(std::slice::from_ref(&x), |x| split_heads(&x[0], &split, None));
            for batch in [1, 2] {
                agree(std::slice::from_ref(&x), |x| {
                    split_heads(&x[0], &split, Some(&turn(batch, x[0].dtype())))
                });
            }
        }
    }

    #[test]
    fn a_frozen_product_gives_the_gradient_of_its_input_alone() {
        let weight = noise("w", (9, 6));
        agree(&[noise("x", (4, 6))], |x| Frozen::new(&weight.to_dtype(x[0].dtype())?)?.forward(&x[0]));
    }
}
