//! Point Transformer (Zhao et al., ICCV 2021) in the form of the authors' lab, POSTECH-CVLab.
//!
//! Clouds of a batch lie packed one after the other, `[Σ points, channels]`: no padding, no mask. Which point is near
//! which ([`Hierarchy`]) is found on the CPU beforehand; the network only gathers.
//!
//! With p the positions, x the features and N(i) the k nearest points of i, i among them, one layer is
//!
//! y_i = Σ_{j ∈ N(i)} softmax_j(ω(ψ(x_j) − φ(x_i) + δ_ij)) ⊙ (α(x_j) + δ_ij),   δ_ij = θ(p_j − p_i)
//!
//! with φ, ψ, α linear, θ and ω small networks, and the attention weights shared by groups of channels.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::layers::{BatchNorm, Dense, Mode};
use super::neighbours::{farthest, nearest};

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
    /// Channels that share an attention weight.
    pub share: usize,
}

/// One level of a packed batch.
struct Level {
    /// `[n, 3]`
    positions: Tensor,
    /// `[n · k]`, neighbours within the level
    within: Tensor,
    /// `[n · k]`, neighbours in the level before it; `None` for the first one
    before: Option<Tensor>,
}

/// The positions of packed clouds, level by level, and who is near whom.
pub struct Hierarchy {
    levels: Vec<Level>,
    /// Points of each cloud on the last level.
    counts: Vec<usize>,
    neighbours: usize,
}

impl Hierarchy {
    /// Thins each cloud, level by level, to what `size(level, points before)` says by farthest point sampling (the
    /// first level is the cloud itself) and finds `neighbours` nearest points on `levels` levels. Clouds must not be
    /// empty.
    ///
    /// # Errors
    /// When the device refuses memory.
    pub fn new(
        clouds: &[&[[f32; 3]]],
        levels: usize,
        size: impl Fn(usize, usize) -> usize,
        neighbours: usize,
        device: &Device,
    ) -> Result<Self> {
        let mut clouds: Vec<Vec<[f32; 3]>> = clouds.iter().map(|cloud| cloud.to_vec()).collect();
        let mut built = Vec::with_capacity(levels);
        for level in 0..levels {
            let (mut within, mut before) = (Vec::new(), Vec::new());
            let (mut here, mut above) = (0u32, 0u32);
            for cloud in &mut clouds {
                if level > 0 {
                    let count = size(level, cloud.len()).clamp(1, cloud.len().max(1));
                    let chosen = farthest(cloud, count);
                    let kept: Vec<[f32; 3]> =
                        chosen.iter().filter_map(|&index| cloud.get(index as usize).copied()).collect();
                    nearest(&kept, cloud, neighbours, above, &mut before);
                    above += cloud.len() as u32;
                    *cloud = kept;
                }
                nearest(cloud, cloud, neighbours, here, &mut within);
                here += cloud.len() as u32;
            }
            let positions: Vec<f32> = clouds.iter().flatten().flatten().copied().collect();
            let count = before.len();
            built.push(Level {
                positions: Tensor::from_vec(positions, (here as usize, 3), device)?,
                within: Tensor::from_vec(within, here as usize * neighbours, device)?,
                before: (level > 0).then(|| Tensor::from_vec(before, count, device)).transpose()?,
            });
        }
        Ok(Self { levels: built, counts: clouds.iter().map(Vec::len).collect(), neighbours })
    }

    /// Points of each cloud on the last level.
    #[must_use]
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }
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
}

/// Vector attention among neighbours.
#[derive(Clone, Debug)]
struct Attention {
    query: Dense,
    key: Dense,
    value: Dense,
    // θ
    position_0: Dense,
    position_1: BatchNorm,
    position_3: Dense,
    // ω
    weight_0: BatchNorm,
    weight_2: Dense,
    weight_3: BatchNorm,
    weight_5: Dense,
    share: usize,
}

impl Attention {
    fn load(width: usize, share: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let dense = |inputs, outputs, name: &str| Dense::load(inputs, outputs, true, &vb.pp(name));
        Ok(Self {
            query: dense(width, width, "linear_q")?,
            key: dense(width, width, "linear_k")?,
            value: dense(width, width, "linear_v")?,
            position_0: dense(3, 3, "linear_p.0")?,
            position_1: BatchNorm::load(3, &vb.pp("linear_p.1"))?,
            position_3: dense(3, width, "linear_p.3")?,
            weight_0: BatchNorm::load(width, &vb.pp("linear_w.0"))?,
            weight_2: dense(width, width / share, "linear_w.2")?,
            weight_3: BatchNorm::load(width / share, &vb.pp("linear_w.3"))?,
            weight_5: dense(width / share, width / share, "linear_w.5")?,
            share,
        })
    }

    fn forward(&self, x: &Tensor, level: &Level, k: usize, mode: Mode) -> Result<Tensor> {
        let (n, width) = x.dims2()?;
        // [n·k, c] → [n, k, c]
        let gather = |x: &Tensor| x.index_select(&level.within, 0)?.reshape((n, k, ()));
        let offset = gather(&level.positions)?.broadcast_sub(&level.positions.unsqueeze(1)?)?;
        let offset = self.position_1.forward(&self.position_0.forward(&offset)?, mode)?.relu()?;
        let offset = self.position_3.forward(&offset)?;
        let scores = gather(&self.key.forward(x)?)?.broadcast_sub(&self.query.forward(x)?.unsqueeze(1)?)?;
        let scores = self.weight_0.forward(&(scores + &offset)?, mode)?.relu()?;
        let scores = self.weight_3.forward(&self.weight_2.forward(&scores)?, mode)?.relu()?;
        let weights = candle_nn::ops::softmax(&self.weight_5.forward(&scores)?, 1)?;
        let groups = width / self.share;
        // [n, k, share, c/share] ⊙ [n, k, 1, c/share], summed over k
        let values = (gather(&self.value.forward(x)?)? + offset)?.reshape((n, k, self.share, groups))?;
        values.broadcast_mul(&weights.unsqueeze(2)?)?.sum(1)?.reshape((n, width))
    }
}

/// x + Linear(Attention(Linear(x))), normalised.
#[derive(Clone, Debug)]
pub struct PointBlock {
    before: Projection,
    attention: Attention,
    norm: BatchNorm,
    after: Projection,
}

impl PointBlock {
    fn load(width: usize, share: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            before: Projection::load(width, width, &vb.pp("linear1"), &vb.pp("bn1"))?,
            attention: Attention::load(width, share, &vb.pp("transformer2"))?,
            norm: BatchNorm::load(width, &vb.pp("bn2"))?,
            after: Projection::load(width, width, &vb.pp("linear3"), &vb.pp("bn3"))?,
        })
    }

    fn forward(&self, x: &Tensor, level: &Level, k: usize, mode: Mode) -> Result<Tensor> {
        let y = self.before.forward(x, mode)?.relu()?;
        let y = self.norm.forward(&self.attention.forward(&y, level, k, mode)?, mode)?.relu()?;
        (self.after.forward(&y, mode)? + x)?.relu()
    }
}

/// The encoder: a transition down and a block per level.
#[derive(Clone, Debug)]
pub struct PointTransformer {
    /// First on features that begin with the position, then on [p_j − p_i, x_j] of the neighbours, of which the largest
    /// counts.
    levels: Vec<(Projection, PointBlock)>,
}

impl PointTransformer {
    /// Loads a network on `inputs` features, the first three of which are the position, under the names `td1`, `b1`,
    /// `td2`, …
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(inputs: usize, widths: &[usize], share: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let mut levels = Vec::with_capacity(widths.len());
        let mut before = None;
        for (&width, number) in widths.iter().zip(1..) {
            let inputs = before.map_or(inputs, |before| before + 3);
            let (down, block) = (vb.pp(format!("td{number}")), vb.pp(format!("b{number}")));
            levels.push((
                Projection::load(inputs, width, &down.pp("linear"), &down.pp("bn"))?,
                PointBlock::load(width, share, &block)?,
            ));
            before = Some(width);
        }
        Ok(Self { levels })
    }

    /// Features `[Σ points, inputs]` of the hierarchy's first level to features `[Σ points, width]` of its last one.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn forward(&self, hierarchy: &Hierarchy, features: &Tensor, mode: Mode) -> Result<Tensor> {
        let k = hierarchy.neighbours;
        let mut x = features.clone();
        let mut above: Option<&Level> = None;
        for ((down, block), level) in self.levels.iter().zip(&hierarchy.levels) {
            x = match (above, &level.before) {
                (Some(above), Some(before)) => {
                    let n = level.positions.dim(0)?;
                    let gather = |x: &Tensor| x.index_select(before, 0)?.reshape((n, k, ()));
                    let offset = gather(&above.positions)?.broadcast_sub(&level.positions.unsqueeze(1)?)?;
                    // [n, k, 3 + c] → [n, c']
                    let near = Tensor::cat(&[&offset, &gather(&x)?], D::Minus1)?;
                    down.forward(&near, mode)?.relu()?.max(1)?
                }
                _ => down.forward(&x, mode)?.relu()?,
            };
            x = block.forward(&x, level, k, mode)?;
            above = Some(level);
        }
        Ok(x)
    }
}
