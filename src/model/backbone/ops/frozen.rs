//! The product with a weight that is not trained.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Storage, Tensor};

/// A weight that is not trained, laid out once: y = x Wᵀ.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// Wᵀ `[in, out]`, contiguous: a product with `w.t()` is three times slower on the CPU.
    transposed: Tensor,
}

impl Frozen {
    /// Of a weight `[out, in]`.
    ///
    /// # Errors
    /// When the device refuses memory.
    pub fn new(weight: &Tensor) -> Result<Self> {
        Ok(Self { transposed: weight.detach().t()?.contiguous()? })
    }

    /// Width of the input and of the output.
    ///
    /// # Errors
    /// Never for one that was made.
    pub fn widths(&self) -> Result<(usize, usize)> {
        self.transposed.dims2()
    }

    /// `[M, in]` to `[M, out]`.
    ///
    /// # Errors
    /// When the last dimension is not `in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if !x.track_op() {
            return x.matmul(&self.transposed);
        }
        let (inputs, _) = self.widths()?;
        if x.dims2()?.1 != inputs {
            candle_core::bail!("a weight for {inputs} inputs found {:?}", x.dims());
        }
        x.apply_op1(Product { transposed: self.transposed.clone() })
    }
}

/// Of candle's own product, the backward pass computes the gradient of the weight as well and keeps it.
struct Product {
    transposed: Tensor,
}

impl Product {
    /// (batch, m, n, k) of the product, and the shape of the result.
    fn sizes(&self, layout: &Layout) -> Result<((usize, usize, usize, usize), Shape)> {
        let ((rows, inputs), (_, outputs)) = (layout.shape().dims2()?, self.transposed.dims2()?);
        Ok(((1, rows, outputs, inputs), (rows, outputs).into()))
    }
}

impl CustomOp1 for Product {
    fn name(&self) -> &'static str {
        "backbone-frozen-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (sizes, shape) = self.sizes(layout)?;
        let (weight, weight_layout) = self.transposed.storage_and_layout();
        let Storage::Cpu(weight) = &*weight else {
            candle_core::bail!("a weight on another device than its input");
        };
        Ok((x.matmul(weight, sizes, layout, weight_layout)?, shape))
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (sizes, shape) = self.sizes(layout)?;
        let (weight, weight_layout) = self.transposed.storage_and_layout();
        let Storage::Cuda(weight) = &*weight else {
            candle_core::bail!("a weight on another device than its input");
        };
        Ok((x.matmul(weight, sizes, layout, weight_layout)?, shape))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        // [M, out] × [out, in]
        grad.matmul(&self.transposed.t()?).map(Some)
    }
}
