//! A dense layer's product with its bias, whose gradient is computed only where it is wanted.

use candle_core::backend::BackendStorage;
use candle_core::op::Add;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};

use super::{columns, on_cpu_f32, slice_of, wide, with_slice};

/// x Wᵀ + b: x `[.., in]`, and W as `[out, in]`, or as `[in, out]` where it is `turned`; b `[out]`.
///
/// A product with candle's `w.t()` and `broadcast_add` costs two more passes, and its gradient is computed for weights and
/// biases that are frozen, too, the bias's as large as the output. Here it is one step of the backward pass: candle begins the
/// gradient of each with zeros to which it adds.
///
/// # Errors
/// When the shapes do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, turned: bool) -> Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let (inputs, outputs) = if turned { (outputs, inputs) } else { (inputs, outputs) };
    if inputs == 0 || x.dims().last() != Some(&inputs) {
        candle_core::bail!("dense layer: found {:?}, allowed is a last dimension of {inputs}", x.dims());
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) if bias.dims() != [outputs] => {
            candle_core::bail!("dense layer: found a bias {:?}, allowed is [{outputs}]", bias.dims())
        }
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, Product { turned }),
        None => x.apply_op2(&weight, Product { turned }),
    }
}

struct Product {
    turned: bool,
}

impl Product {
    /// x Wᵀ of a contiguous x.
    fn run<S: BackendStorage>(
        &self,
        (x, x_layout): (&S, &Layout),
        weight: (&S, &Layout),
    ) -> Result<(S, Shape)> {
        let (weight, weight_layout) = weight;
        let turned = if self.turned { weight_layout.clone() } else { weight_layout.transpose(0, 1)? };
        let (inputs, outputs) = turned.shape().dims2()?;
        let rows = x_layout.shape().elem_count() / inputs;
        let flat = Layout::contiguous_with_offset((rows, inputs), x_layout.start_offset());
        let y = x.matmul(weight, (1, rows, outputs, inputs), &flat, &turned)?;
        let mut dims = x_layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = outputs;
        }
        Ok((y, dims.into()))
    }

    /// y + b
    fn biased<S: BackendStorage>(y: &S, shape: &Shape, (bias, layout): (&S, &Layout)) -> Result<S> {
        y.binary_impl::<Add>(bias, &Layout::contiguous(shape), &layout.broadcast_as(shape)?)
    }

    /// Gradients of x and of W, where they are wanted.
    fn gradients(
        &self,
        x: &Tensor,
        weight: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let grad = grad.flatten_to(grad.rank().saturating_sub(2))?.contiguous()?;
        let of_x = x.track_op().then(|| {
            let of_x =
                if self.turned { grad.matmul(&weight.detach().t()?) } else { grad.matmul(&weight.detach()) };
            of_x?.reshape(x.shape())
        });
        let of_weight = weight.track_op().then(|| {
            let x = x.detach();
            let x = x.flatten_to(x.rank().saturating_sub(2))?;
            if self.turned { x.t()?.matmul(&grad) } else { grad.t()?.matmul(&x) }
        });
        Ok((of_x.transpose()?, of_weight.transpose()?))
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
        self.run((x, x_layout), (weight, weight_layout))
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        weight: &CudaStorage,
        weight_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.run((x, x_layout), (weight, weight_layout))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(x, weight, grad)
    }
}

impl CustomOp3 for Product {
    fn name(&self) -> &'static str {
        "linear"
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
        let (mut y, shape) = self.run((x, x_layout), (weight, weight_layout))?;
        let CpuStorage::F32(numbers) = &mut y else {
            return Ok((Self::biased(&y, &shape, (bias, bias_layout))?, shape));
        };
        let bias = slice_of(bias, bias_layout)?;
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
        bias: &CudaStorage,
        bias_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (y, shape) = self.run((x, x_layout), (weight, weight_layout))?;
        Ok((Self::biased(&y, &shape, (bias, bias_layout))?, shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (of_x, of_weight) = self.gradients(x, weight, grad)?;
        let of_bias = bias.track_op().then(|| column_sums(grad, bias.elem_count())).transpose()?;
        Ok((of_x, of_weight, of_bias))
    }
}

/// Σ over all rows `[.., C]`, `[C]`.
fn column_sums(x: &Tensor, channels: usize) -> Result<Tensor> {
    if !on_cpu_f32(x) {
        return x.reshape(((), channels))?.to_dtype(wide(x.dtype()))?.sum(0)?.to_dtype(x.dtype());
    }
    let sums = with_slice(&x.contiguous()?, |x| columns::sums(x, channels))?;
    Tensor::from_vec(sums.into_iter().map(|sum| sum as f32).collect(), channels, x.device())
}
