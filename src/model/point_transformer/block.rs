//! The block around an attention.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::hierarchy::Level;
use super::paper::PaperAttention;
use super::postech::PostechAttention;
use super::qq456cvb::ResidualBlock;
use super::{Form, Projection};
use crate::model::layers::{BatchNorm, Mode};
use crate::model::ops;

/// The attention of a [`NormedBlock`].
#[derive(Clone, Debug)]
pub(super) enum Attention {
    Postech(PostechAttention),
    Paper(PaperAttention),
}

/// relu(x + BN(Linear(relu(BN(attention(relu(BN(Linear(x)))))))))
#[derive(Clone, Debug)]
pub struct NormedBlock {
    pub(super) before: Projection,
    pub(super) attention: Attention,
    pub(super) norm: BatchNorm,
    pub(super) after: Projection,
}

/// One block of an encoder.
#[derive(Clone, Debug)]
pub enum Block {
    /// With batch norms: [`Form::Postech`] and [`Form::Paper`].
    Normed(Box<NormedBlock>),
    /// Without: [`Form::Qq456cvb`].
    Residual(Box<ResidualBlock>),
}

/// What a block gives.
#[derive(Clone, Debug)]
pub struct BlockOutput {
    /// What goes into the attention, `[n, c]`.
    pub entered: Tensor,
    /// What comes out of it, `[n, c]`.
    pub attended: Tensor,
    /// The block's output, `[n, c]`.
    pub out: Tensor,
}

impl Block {
    /// Loads a block of `width` channels: `linear1`, `bn1`, `transformer2`, `bn2`, `linear3`, `bn3`, or those of
    /// [`ResidualBlock::load`].
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, or `share` does not divide `width`.
    pub fn load(width: usize, share: usize, form: Form, vb: &VarBuilder<'_>) -> Result<Self> {
        let attention = vb.pp("transformer2");
        let attention = match form {
            Form::Postech => Attention::Postech(PostechAttention::load(width, share, &attention)?),
            Form::Paper => Attention::Paper(PaperAttention::load(width, width, &attention)?),
            Form::Qq456cvb => return Ok(Self::Residual(Box::new(ResidualBlock::load(width, width, vb)?))),
        };
        Ok(Self::Normed(Box::new(NormedBlock {
            before: Projection::load(width, width, &vb.pp("linear1"), &vb.pp("bn1"))?,
            attention,
            norm: BatchNorm::load(width, &vb.pp("bn2"))?,
            after: Projection::load(width, width, &vb.pp("linear3"), &vb.pp("bn3"))?,
        })))
    }

    /// Features `[n, width]` of a level's points to the same.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn forward(&self, x: &Tensor, level: &Level, mode: Mode) -> Result<BlockOutput> {
        match self {
            Self::Normed(block) => block.forward(x, level, mode),
            Self::Residual(block) => block.forward(x, level),
        }
    }
}

impl NormedBlock {
    fn forward(&self, x: &Tensor, level: &Level, mode: Mode) -> Result<BlockOutput> {
        let entered = self.before.rectified(x, mode)?;
        let attended = match &self.attention {
            Attention::Postech(attention) => attention.forward(&entered, level, mode)?,
            Attention::Paper(attention) => attention.forward(&entered, level)?,
        };
        let y = self.norm.rectified(&attended, mode)?;
        let out = ops::add_rectify(&self.after.forward(&y, mode)?, x)?;
        Ok(BlockOutput { entered, attended, out })
    }
}
