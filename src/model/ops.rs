//! Arithmetic that candle does slowly, or whose gradient it gets wrong: convolution, pooling, norms, softmax, GELU.
//!
//! Each has kernels of its own for f32 on the CPU (vectors by [`pulp`], the instruction set chosen at run time; threads by
//! rayon) and a gradient; other types and devices get the same from candle's differentiable parts. The same input gives
//! the same bytes on one kind of machine, however many threads there are: sums run in a fixed order.

use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor};

pub mod blocked;
pub mod channels;
mod columns;
pub mod conv;
pub mod elementwise;
pub mod gather;
pub mod linear;
pub mod norm_rows;
pub mod pool;
pub mod rows;
mod vector;
pub mod vector_attention;

pub use channels::{add_rectify, norm_maps};
pub use conv::conv2d;
pub use elementwise::{gelu, gelu_tanh};
pub use linear::linear;
pub use norm_rows::norm_rows;
pub use pool::{max_pool, max_rows};
pub use rows::{layer_norm, rms_norm, softmax_last};
pub use vector_attention::vector_attention;

/// Whether the kernels here take it.
fn on_cpu_f32(x: &Tensor) -> bool {
    x.dtype() == DType::F32 && x.device().is_cpu()
}

/// The numbers of a contiguous tensor.
pub(super) fn slice_of<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let values = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets().and_then(|(from, to)| values.get(from..to)) {
        Some(values) => Ok(values),
        None => {
            candle_core::bail!("found a tensor with gaps {:?}, allowed are contiguous ones", layout.stride())
        }
    }
}

/// f32 for narrower floats, else the tensor's own type.
pub(super) fn wide(dtype: DType) -> DType {
    if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype }
}

/// Shows the numbers of a contiguous f32 tensor on the CPU.
pub(super) fn with_slice<T>(x: &Tensor, see: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => Ok(see(slice_of(storage, layout)?)),
        _ => candle_core::bail!("found a tensor on {:?}, allowed is the CPU", x.device().location()),
    }
}
