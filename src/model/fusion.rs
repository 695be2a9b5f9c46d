//! Cross-modal attention (Eq. 9–11 of the paper): the gated tokens of all modalities and slots look at each other.

use candle_core::{DType, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::attention::Attention;
use super::layers::Dense;
use super::tasks::TokenShape;

/// The tokens of a batch of rows, one row per (frame, UE).
#[derive(Clone, Debug)]
pub struct Tokens {
    /// `[R, W, D, n_f, d]`, normalised by modality.
    pub values: Tensor,
    /// `[R, W, D, n_f]`, 1 where a token stands for something.
    pub mask: Tensor,
    /// `[R, W, D]`, age of the sample at the present instant, seconds.
    pub ages: Tensor,
    /// `[R, LINK_FEATURES]`, what the last reports of the present slot are made of, 0 where there are none; `None`: no row
    /// has any, or nobody asks.
    pub reports: Option<Tensor>,
}

/// Softmax(Q Kᵀ / √(d/h)) V over all tokens of a row, projected and added to them.
///
/// Embeddings of modality, slot, age and, where a modality's tokens are in an order, place among them are added after the
/// gate, and nothing is normalised in between: a norm would cancel the gate's weight. Attention sees a set: without its place a
/// token of an image would not say from which part of the image it is.
#[derive(Clone, Debug)]
pub struct Fusion {
    /// `[D, d]`
    modality: Tensor,
    /// `[W, d]`
    slot: Tensor,
    /// `[D, n_f, d]`
    place: Tensor,
    /// `[D, 1, 1]`, 1 where a modality's tokens are in an order.
    ordered: Tensor,
    age: Dense,
    attention: Attention,
}

/// Of a fresh embedding of places, which begins about as large as a token that one of five modalities' gates lets through.
const PLACE_DEVIATION: f64 = 0.2;
/// Frequencies of the age embedding.
pub(super) const FREQUENCIES: usize = 8;
/// Longest period of the age embedding, seconds; each next one is half as long.
const LONGEST_PERIOD_S: f64 = 4.0;

/// `[.., 2 · FREQUENCIES]`: sine and cosine of ages `[..]` in seconds.
pub(super) fn age_features(ages: &Tensor) -> Result<Tensor> {
    let turns =
        (0..FREQUENCIES).map(|octave| std::f64::consts::TAU * f64::from(1u32 << octave) / LONGEST_PERIOD_S);
    let turns: Vec<f32> = turns.map(|turn| turn as f32).collect();
    let turns = Tensor::new(turns, ages.device())?.to_dtype(ages.dtype())?;
    let phase = ages.unsqueeze(ages.rank())?.broadcast_mul(&turns)?;
    Tensor::cat(&[phase.sin()?, phase.cos()?], ages.rank())
}

impl Tokens {
    /// The newest slots, from the first one in which any row has a token that counts; all but the last may be left out.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn without_empty_slots(&self) -> Result<Self> {
        let slots = self.mask.dim(1)?;
        let counts: Vec<f32> = self.mask.max(3)?.max(2)?.max(0)?.to_dtype(DType::F32)?.to_vec1()?;
        let empty = counts.iter().take_while(|count| **count <= 0.0).count().min(slots.saturating_sub(1));
        let newest = |x: &Tensor| x.narrow(1, empty, slots - empty)?.contiguous();
        if empty == 0 {
            return Ok(self.clone());
        }
        Ok(Self {
            values: newest(&self.values)?,
            mask: newest(&self.mask)?,
            ages: newest(&self.ages)?,
            reports: self.reports.clone(),
        })
    }
}

impl Tokens {
    /// The same with `slots` slots: older ones, which are empty, stand before those that there are.
    ///
    /// # Errors
    /// When the device fails.
    pub(super) fn with_slots(&self, slots: usize) -> Result<Self> {
        let missing = slots.saturating_sub(self.mask.dim(1)?);
        let padded = |x: &Tensor| x.pad_with_zeros(1, missing, 0);
        Ok(match missing {
            0 => self.clone(),
            _ => Self {
                values: padded(&self.values)?,
                mask: padded(&self.mask)?,
                ages: padded(&self.ages)?,
                reports: self.reports.clone(),
            },
        })
    }
}

impl Fusion {
    /// Loads attention of `heads` heads over tokens of such a shape; `ordered` says of each modality whether its tokens are in
    /// an order, as the parts of an image are and points are not.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(shape: TokenShape, ordered: &[bool], heads: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let TokenShape { slots, modalities, tokens, width } = shape;
        let ordered: Vec<f32> = ordered.iter().map(|&ordered| f32::from(u8::from(ordered))).collect();
        let of_place = Init::Randn { mean: 0.0, stdev: PLACE_DEVIATION };
        let hint = Init::Randn { mean: 0.0, stdev: 0.02 };
        Ok(Self {
            modality: vb.get_with_hints((modalities, width), "modality", hint)?,
            slot: vb.get_with_hints((slots, width), "slot", hint)?,
            place: vb.get_with_hints((modalities, tokens, width), "place", of_place)?,
            ordered: Tensor::from_vec(ordered, (modalities, 1, 1), vb.device())?.to_dtype(vb.dtype())?,
            age: Dense::load(2 * FREQUENCIES, width, true, &vb.pp("age"))?,
            attention: Attention::load(width, heads, vb)?,
        })
    }

    /// Fused tokens b_mm `[R, T, d]` and their mask `[R, T]`, of tokens and gate weights `[R, W, D]` of the newest W slots;
    /// T is W·D·n_f less the tokens that count in no row.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn forward(&self, tokens: &Tokens, weights: &Tensor) -> Result<(Tensor, Tensor)> {
        let (rows, slots, modalities, count, width) = tokens.values.dims5()?;
        let length = slots * modalities * count;
        // f_m = w_m z_m
        let gated = tokens.values.broadcast_mul(&weights.unsqueeze(3)?.unsqueeze(4)?)?;
        let place = self.slot.narrow(0, self.slot.dim(0)? - slots, slots)?;
        let place = place.unsqueeze(1)?.broadcast_add(&self.modality.unsqueeze(0)?)?; // [W, D, d]
        let place = self.age.forward(&age_features(&tokens.ages)?)?.broadcast_add(&place)?; // [R, W, D, d]
        let x = gated.broadcast_add(&place.unsqueeze(3)?)?;
        let x = x.broadcast_add(&self.place.broadcast_mul(&self.ordered)?)?.reshape((rows, length, width))?;
        let (x, mask) = without_absent(x, tokens.mask.reshape((rows, length))?)?;
        let seen = self.attention.forward(&x, &x, &mask)?;
        Ok(((x + seen)?, mask))
    }
}

/// Leaves out the tokens `[R, T, d]` that count in no row: nobody looks at them, and a product with them costs as much as
/// with the others.
fn without_absent(x: Tensor, mask: Tensor) -> Result<(Tensor, Tensor)> {
    let counts: Vec<f32> = mask.max(0)?.to_dtype(DType::F32)?.to_vec1()?;
    let kept: Vec<u32> =
        (0u32..).zip(&counts).filter(|(_, count)| **count > 0.0).map(|(index, _)| index).collect();
    if kept.len() == counts.len() || kept.is_empty() {
        return Ok((x, mask));
    }
    let kept = Tensor::new(kept, x.device())?;
    Ok((x.index_select(&kept, 1)?, mask.index_select(&kept, 1)?))
}
