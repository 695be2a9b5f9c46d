//! Dot-product attention of several heads, of what is already projected.

use candle_core::{Result, Tensor};

use crate::model::layers::masked_softmax;

/// softmax(Q Kᵀ / √(d/h)) V per head, of queries, keys and values `[R, T, d]`, to `[R, T, d]`. `mask` is 1
/// where a key may be looked at and broadcasts to `[R, h, T, T]` (queries before keys).
///
/// # Errors
/// When shapes disagree.
pub(super) fn attend(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    heads: usize,
    mask: &Tensor,
) -> Result<Tensor> {
    let (rows, length, width) = query.dims3()?;
    let split = |x: &Tensor| -> Result<Tensor> {
        // [R, T, d] → [R, h, T, d/h]
        x.reshape((rows, length, heads, width / heads))?.transpose(1, 2)?.contiguous()
    };
    let scale = 1.0 / ((width / heads) as f64).sqrt();
    let scores = split(&(query * scale)?)?.matmul(&split(key)?.transpose(2, 3)?.contiguous()?)?;
    let weights = masked_softmax(&scores, mask, 3)?;
    // [R, h, T, d/h] → [R, T, d]
    weights.matmul(&split(value)?)?.transpose(1, 2)?.contiguous()?.reshape((rows, length, width))
}

/// `[1, 1, T, T]`, 1 where a token may look: at itself and at those before it.
///
/// # Errors
/// When the device refuses memory.
pub(super) fn causal(length: usize, like: &Tensor) -> Result<Tensor> {
    let places = (0..length).flat_map(|query| (0..length).map(move |key| f32::from(u8::from(key <= query))));
    let mask = Tensor::from_vec(places.collect::<Vec<f32>>(), (1, 1, length, length), like.device())?;
    mask.to_dtype(like.dtype())
}
