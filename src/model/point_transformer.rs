//! Point Transformer (Zhao et al., ICCV 2021): vector attention among near points, level by level.
//!
//! Clouds of a batch lie packed one after the other, `[Σ points, channels]`: no padding, no mask. Which point is near
//! which ([`Hierarchy`]) is found on the CPU beforehand; the network only gathers.
//!
//! Public codes and the paper disagree on the attention; [`Form`] names each. On a CPU, in `f32` and when nothing is
//! trained, the default one runs fused ([`fused`]): the same numbers up to rounding, without a tensor per step.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::layers::{BatchNorm, Dense, Mode};
use super::ops;

mod block;
pub mod fused;
mod hierarchy;
mod paper;
mod postech;
pub mod qq456cvb;

pub use block::{Block, BlockOutput};
pub use hierarchy::{Hierarchy, Level, packed};
pub use paper::PaperAttention;
pub use postech::PostechAttention;

use fused::Fused;

/// Which attention: N(i) are the k nearest points of i, i among them; p positions, x features; linear φ, ψ, α; small
/// networks γ, θ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// The authors' lab, POSTECH-CVLab: Σ_j softmax_j(γ(ψ(x_j) − φ(x_i) + δ)) ⊙ (α(x_j) + δ), δ = θ(p_j − p_i), batch
    /// norms in γ and θ, and attention weights shared by groups of channels.
    #[default]
    Postech,
    /// The paper's Eq. 2–3: Σ_j softmax_j(γ(φ(x_i) − ψ(x_j) + δ)) ⊙ (α(x_j) + δ), δ = θ(p_i − p_j), in the same block.
    Paper,
    /// The public code of qq456cvb: the paper's with logits divided by √d, in a block without batch norms.
    Qq456cvb,
}

/// The size of a Point Transformer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointTransformerConfig {
    /// Points of each level at most, falling; the first is what a cloud is thinned to.
    pub points: Vec<usize>,
    /// Channels of each level.
    pub widths: Vec<usize>,
    /// Neighbours that a point looks at, itself included.
    pub neighbours: usize,
    /// Channels that share an attention weight ([`Form::Postech`]).
    pub share: usize,
    /// Factor of the places of points, which come in units of 50 m: those of a body or a room are too small for batch norms
    /// (of distances between neighbours, ε = 10⁻⁵ would be most of the variance). 25 makes them units of 2 m.
    #[serde(default = "one")]
    pub magnify: usize,
    /// Which attention.
    #[serde(default)]
    pub attention: Form,
}

const fn one() -> usize {
    1
}

/// Linear without bias, batch norm.
#[derive(Clone, Debug)]
struct Projection {
    dense: Dense,
    norm: BatchNorm,
}

impl Projection {
    fn load(inputs: usize, outputs: usize, dense: &VarBuilder<'_>, norm: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self { dense: Dense::load(inputs, outputs, false, dense)?, norm: BatchNorm::load(outputs, norm)? })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.norm.forward(&self.dense.forward(x)?, mode)
    }

    /// The same, and negative numbers become 0.
    fn rectified(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.norm.rectified(&self.dense.forward(x)?, mode)
    }
}

/// What one level gives.
#[derive(Clone, Debug)]
pub struct Stage {
    /// After the transition down, `[n, c]`.
    pub down: Tensor,
    /// Of the block.
    pub block: BlockOutput,
}

/// The encoder: a transition down and a block per level.
#[derive(Clone, Debug)]
pub struct PointTransformer {
    /// First on features that begin with the position, then on [p_j − p_i, x_j] of the neighbours, of which the largest
    /// counts.
    levels: Vec<(Projection, Block)>,
    /// The same, laid out for inference, where nothing is trained.
    fused: Option<Fused>,
}

impl PointTransformer {
    /// Loads a network on `inputs` features, the first three of which are the position, under the names `td1`, `b1`,
    /// `td2`, … Of `config`, the widths, the attention and `share` count.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, or `share` does not divide a width.
    pub fn load(inputs: usize, config: &PointTransformerConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let mut levels = Vec::with_capacity(config.widths.len());
        let mut before = None;
        for (&width, number) in config.widths.iter().zip(1..) {
            let inputs = before.map_or(inputs, |before| before + 3);
            let (down, block) = (vb.pp(format!("td{number}")), vb.pp(format!("b{number}")));
            levels.push((
                Projection::load(inputs, width, &down.pp("linear"), &down.pp("bn"))?,
                Block::load(width, config.share, config.attention, &block)?,
            ));
            before = Some(width);
        }
        let fused = Fused::new(&levels)?;
        Ok(Self { levels, fused })
    }

    /// Features `[Σ points, inputs]` of the hierarchy's first level to features `[Σ points, width]` of its last one.
    ///
    /// # Errors
    /// When shapes disagree, or an index of the hierarchy is out of range.
    pub fn forward(&self, hierarchy: &Hierarchy, features: &Tensor, mode: Mode) -> Result<Tensor> {
        if let Some(fused) = &self.fused
            && mode == Mode::Infer
            && fused.takes(hierarchy, features)
        {
            return fused.forward(hierarchy, features);
        }
        match self.stages(hierarchy, features, mode)?.pop() {
            Some(stage) => Ok(stage.block.out),
            None => Ok(features.clone()),
        }
    }

    /// [`PointTransformer::forward`] step by step, never fused: what each level gives.
    ///
    /// # Errors
    /// When shapes disagree, or an index of the hierarchy is out of range.
    pub fn stages(&self, hierarchy: &Hierarchy, features: &Tensor, mode: Mode) -> Result<Vec<Stage>> {
        check_depth(self.levels.len(), hierarchy)?;
        let mut stages: Vec<Stage> = Vec::with_capacity(self.levels.len());
        let mut above: Option<&Level> = None;
        for ((down, block), level) in self.levels.iter().zip(hierarchy.levels()) {
            let x = stages.last().map_or(features, |stage| &stage.block.out);
            let down = match above {
                // [n, k, 3 + c] → [n, c']; the rectifier keeps order, so that it may come after the maximum
                Some(above) => ops::max_rows(&down.forward(&level.grouped(above, x)?, mode)?)?.relu()?,
                None => down.rectified(x, mode)?,
            };
            let block = block.forward(&down, level, mode)?;
            stages.push(Stage { down, block });
            above = Some(level);
        }
        Ok(stages)
    }
}

fn check_depth(levels: usize, hierarchy: &Hierarchy) -> Result<()> {
    let found = hierarchy.levels().len();
    if found != levels {
        candle_core::bail!("hierarchy: found {found} levels, allowed are the network's {levels}");
    }
    Ok(())
}
