//! A dense layer's product with its bias, whose gradient is computed only where it is wanted.

use candle_core::backend::BackendStorage;
use candle_core::op::Add;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape, Storage, Tensor};

/// x Wᵀ + b: x `[.., in]`, and W as `[out, in]`, or as `[in, out]` where it is `turned`; b `[out]`.
///
/// A product with candle's `w.t()` and `broadcast_add` costs two more passes, and its gradient is computed for weights and
/// biases that are frozen, too, the bias's as large as the output.
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
    let weight = weight.contiguous()?;
    let y = match bias {
        Some(bias) if bias.dims() != [outputs] => {
            candle_core::bail!("dense layer: found a bias {:?}, allowed is [{outputs}]", bias.dims())
        }
        Some(bias) if bias.track_op() => {
            x.apply_op2(&weight, Product { turned, bias: None })?.broadcast_add(bias)?
        }
        bias => x.apply_op2(&weight, Product { turned, bias: bias.map(Tensor::contiguous).transpose()? })?,
    };
    y.reshape(shape)
}

struct Product {
    turned: bool,
    /// `[out]`, where it is not trained.
    bias: Option<Tensor>,
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
        let (mut y, shape) = self.run(x, x_layout, weight, weight_layout)?;
        let Some(bias) = &self.bias else { return Ok((y, shape)) };
        let (bias, bias_layout) = bias.storage_and_layout();
        let Storage::Cpu(bias) = &*bias else {
            candle_core::bail!("a bias on another device than its product");
        };
        let CpuStorage::F32(numbers) = &mut y else {
            let y =
                y.binary_impl::<Add>(bias, &Layout::contiguous(&shape), &bias_layout.broadcast_as(&shape)?)?;
            return Ok((y, shape));
        };
        let bias = super::slice_of(bias, bias_layout)?;
        for row in numbers.chunks_exact_mut(bias.len()) {
            for (y, bias) in row.iter_mut().zip(bias) {
                *y += bias;
            }
        }
        Ok((y, shape))
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (y, shape) = self.run(x, x_layout, weight, weight_layout)?;
        let Some(bias) = &self.bias else { return Ok((y, shape)) };
        let (bias, bias_layout) = bias.storage_and_layout();
        let Storage::Cuda(bias) = &*bias else {
            candle_core::bail!("a bias on another device than its product");
        };
        let y =
            y.binary_impl::<Add>(bias, &Layout::contiguous(&shape), &bias_layout.broadcast_as(&shape)?)?;
        Ok((y, shape))
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
