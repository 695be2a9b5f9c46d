//! A dense layer's product with its bias, whose gradient is computed only where it is wanted.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape, Tensor};

/// x Wᵀ + b: x `[.., in]`, and W as `[out, in]`, or as `[in, out]` where it is `turned`; b `[out]`.
///
/// A product with candle's `w.t()` and `broadcast_add` costs two more passes, and its gradient is computed for weights that
/// are frozen, too.
///
/// # Errors
/// When the shapes do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, turned: bool) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let (inputs, outputs) = if turned { (outputs, inputs) } else { (inputs, outputs) };
    let mut shape = x.dims().to_vec();
    match shape.last_mut() {
        Some(last) if *last == inputs => *last = outputs,
        _ => candle_core::bail!("dense layer: found {shape:?}, allowed is a last dimension of {inputs}"),
    }
    // [rows, in]
    let x = x.reshape(((), inputs))?.contiguous()?;
    let y = x.apply_op2(&weight.contiguous()?, Product { turned })?;
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    y.reshape(shape)
}

struct Product {
    turned: bool,
}

impl Product {
    fn run<S: BackendStorage>(
        &self,
        x: &S,
        x_layout: &Layout,
        weight: &S,
        weight_layout: &Layout,
    ) -> Result<(S, Shape)> {
        let (rows, inputs) = x_layout.shape().dims2()?;
        let turned = if self.turned { weight_layout.clone() } else { weight_layout.transpose(0, 1)? };
        let (_, outputs) = turned.shape().dims2()?;
        let y = x.matmul(weight, (1, rows, outputs, inputs), x_layout, &turned)?;
        Ok((y, (rows, outputs).into()))
    }
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.run(x, x_layout, weight, weight_layout)
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.run(x, x_layout, weight, weight_layout)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let of_x = x.track_op().then(|| match self.turned {
            true => grad.matmul(&weight.t()?),
            false => grad.matmul(weight),
        });
        let of_weight = weight.track_op().then(|| match self.turned {
            true => x.t()?.matmul(grad),
            false => grad.t()?.matmul(x),
        });
        Ok((of_x.transpose()?, of_weight.transpose()?))
    }
}
