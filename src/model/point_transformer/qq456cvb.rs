//! The block and the classifier of the public code qq456cvb/Point-Transformers (its `Hengshuang` model).
//!
//! It differs from the authors' in that logits are divided by √d, blocks have no batch norms, transitions down are two
//! layers deep, and a cloud of fewer points than neighbours is not filled up: each point looks at all of them.

use candle_core::{DType, Device, Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};

use super::block::BlockOutput;
use super::hierarchy::{Hierarchy, Level, packed};
use super::paper::{Names, PaperAttention};
use crate::model::layers::{BatchNorm, Dense, Mlp, Mode};
use crate::model::neighbours::KdTree;
use crate::model::ops;

/// x + fc2(attention(fc1(x)))
#[derive(Clone, Debug)]
pub struct ResidualBlock {
    enter: Dense,
    attention: PaperAttention,
    leave: Dense,
}

impl ResidualBlock {
    const NAMES: Names = ["w_qs", "w_ks", "w_vs", "fc_gamma", "fc_delta"];

    /// Loads `fc1`, `fc2`, `w_qs`, `w_ks`, `w_vs`, `fc_gamma` and `fc_delta`, for features of `inputs` channels and an
    /// attention of `width`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(inputs: usize, width: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let scale = 1.0 / (width as f64).sqrt();
        Ok(Self {
            enter: Dense::load(inputs, width, true, &vb.pp("fc1"))?,
            attention: PaperAttention::load_named(width, width, &Self::NAMES, scale, vb)?,
            leave: Dense::load(width, inputs, true, &vb.pp("fc2"))?,
        })
    }

    /// Features `[n, inputs]` of a level's points to the same.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn forward(&self, x: &Tensor, level: &Level) -> Result<BlockOutput> {
        Ok(self.attend(x, level)?.0)
    }

    /// [`ResidualBlock::forward`] with the attention weights `[n, k, width]`.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn attend(&self, x: &Tensor, level: &Level) -> Result<(BlockOutput, Tensor)> {
        let entered = self.enter.forward(x)?;
        let (attended, weights) = self.attention.attend(&entered, level)?;
        let out = (self.leave.forward(&attended)? + x)?;
        Ok((BlockOutput { entered, attended, out }, weights))
    }
}

/// The size of a [`Classifier`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassifierConfig {
    /// `num_point`: points of every cloud.
    pub points: usize,
    /// `input_dim`: features of a point, the first three its position.
    pub inputs: usize,
    /// `transformer_dim`: channels of every attention.
    pub width: usize,
    /// `nneighbor`
    pub neighbours: usize,
    /// `nblocks`: each has a quarter of the points and twice the channels of the one before it.
    pub blocks: usize,
    /// `num_class`
    pub classes: usize,
    /// Channels before the first block; the public code has 32.
    pub stem: usize,
    /// Hidden channels of the head; the public code has 256 and 64.
    pub head: [usize; 2],
}

/// A 1 × 1 convolution, kept in the layout of its file `[out, in, 1, 1]`, and a batch norm.
#[derive(Clone, Debug)]
struct Convolution {
    weight: Tensor,
    bias: Tensor,
    norm: BatchNorm,
}

impl Convolution {
    fn load(inputs: usize, outputs: usize, conv: &VarBuilder<'_>, norm: &VarBuilder<'_>) -> Result<Self> {
        let bound = 1.0 / (inputs as f64).sqrt();
        let hint = Init::Uniform { lo: -bound, up: bound };
        Ok(Self {
            weight: conv.get_with_hints((outputs, inputs, 1, 1), "weight", hint)?,
            bias: conv.get_with_hints(outputs, "bias", hint)?,
            norm: BatchNorm::load(outputs, norm)?,
        })
    }

    /// `[n, k, in]` to `[n, k, out]`.
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let (n, k, inputs) = x.dims3()?;
        let weight = self.weight.reshape(((), inputs))?;
        let y = x.reshape((n * k, inputs))?.matmul(&weight.t()?)?.broadcast_add(&self.bias)?;
        self.norm.rectified(&y.reshape((n, k, ()))?, mode)
    }
}

/// What a [`Classifier`] gives.
#[derive(Clone, Debug)]
pub struct Classified {
    /// Of each transition down, (its output, the output of the block after it), `[B · points, channels]` both.
    pub stages: Vec<(Tensor, Tensor)>,
    /// Mean over the points of the last stage, `[B, channels]`.
    pub pooled: Tensor,
    /// `[B, classes]`
    pub logits: Tensor,
}

/// The public code's classifier of point clouds.
#[derive(Clone, Debug)]
pub struct Classifier {
    config: ClassifierConfig,
    stem: Mlp,
    block: ResidualBlock,
    stages: Vec<([Convolution; 2], ResidualBlock)>,
    head: [Dense; 3],
}

impl Classifier {
    /// Loads `backbone.fc1`, `backbone.transformer1`, `backbone.transition_downs.N.sa`, `backbone.transformers.N` and
    /// `fc2`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(config: &ClassifierConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let backbone = vb.pp("backbone");
        let mut stages = Vec::with_capacity(config.blocks);
        let mut channels = config.stem;
        for stage in 0..config.blocks {
            let sa = backbone.pp(format!("transition_downs.{stage}.sa"));
            let conv = |inputs, place| {
                let (conv, norm) = (format!("mlp_convs.{place}"), format!("mlp_bns.{place}"));
                Convolution::load(inputs, 2 * channels, &sa.pp(conv), &sa.pp(norm))
            };
            let convolutions = [conv(channels + 3, 0)?, conv(2 * channels, 1)?];
            channels *= 2;
            let block = backbone.pp(format!("transformers.{stage}"));
            stages.push((convolutions, ResidualBlock::load(channels, config.width, &block)?));
        }
        let [first, second] = config.head;
        let head = |inputs, outputs, place: &str| Dense::load(inputs, outputs, true, &vb.pp("fc2").pp(place));
        Ok(Self {
            config: *config,
            stem: Mlp::load(config.inputs, config.stem, config.stem, &backbone.pp("fc1"))?,
            block: ResidualBlock::load(config.stem, config.width, &backbone.pp("transformer1"))?,
            stages,
            head: [
                head(channels, first, "0")?,
                head(first, second, "2")?,
                head(second, config.classes, "4")?,
            ],
        })
    }

    /// The hierarchy of clouds whose positions are `[B, points, 3]`, and the rows of the level before that each stage
    /// keeps, `[B, points / 4^stage]`. Sampling of cloud b starts at `start(stage, b)`, which is random in the public
    /// code.
    ///
    /// # Errors
    /// When the shape is not that of the configuration.
    pub fn hierarchy(
        &self,
        positions: &Tensor,
        start: impl Fn(usize, usize) -> u32,
    ) -> Result<(Hierarchy, Vec<Tensor>)> {
        let (batch, points, _) = positions.dims3()?;
        if points != self.config.points {
            bail!("cloud: found {points} points, allowed are {}", self.config.points);
        }
        let device = positions.device();
        let mut positions = positions.clone();
        let first = neighbours(&positions, &trees(&positions)?, self.config.neighbours)?;
        let mut levels = vec![Level::new(positions.flatten_to(1)?, packed(&first, points)?, None)?];
        let mut kept = Vec::with_capacity(self.config.blocks);
        let mut points = points;
        for stage in 0..self.config.blocks {
            let count = (points / 4).max(1);
            let above = trees(&positions)?;
            let chosen =
                above.iter().enumerate().map(|(cloud, tree)| tree.farthest(start(stage, cloud), count));
            let chosen: Vec<u32> = chosen.flatten().collect();
            let chosen = Tensor::from_vec(chosen, (batch, count, 1), &Device::Cpu)?.to_device(device)?;
            let here = positions.flatten_to(1)?.index_select(&packed(&chosen, points)?.flatten_all()?, 0)?;
            positions = here.reshape((batch, count, 3))?;
            let before = packed(&neighbours(&positions, &above, self.config.neighbours)?, points)?;
            let within = neighbours(&positions, &trees(&positions)?, self.config.neighbours)?;
            levels.push(Level::new(here, packed(&within, count)?, Some(before))?);
            kept.push(chosen.squeeze(2)?);
            points = count;
        }
        Ok((Hierarchy::from_levels(levels, vec![points; batch])?, kept))
    }

    /// Features `[B · points, inputs]` of the hierarchy's first level.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn forward(&self, hierarchy: &Hierarchy, features: &Tensor, mode: Mode) -> Result<Classified> {
        super::check_depth(1 + self.stages.len(), hierarchy)?;
        let mut levels = hierarchy.levels().iter();
        let Some(mut above) = levels.next() else { bail!("hierarchy: found no level") };
        let mut x = self.block.forward(&self.stem.forward(features)?, above)?.out;
        let mut stages = Vec::with_capacity(self.stages.len());
        for (([first, second], block), level) in self.stages.iter().zip(levels) {
            let near = second.forward(&first.forward(&level.grouped(above, &x)?, mode)?, mode)?;
            let down = ops::max_rows(&near)?;
            x = block.forward(&down, level)?.out;
            stages.push((down, x.clone()));
            above = level;
        }
        let batch = hierarchy.counts().len();
        let pooled = x.reshape((batch, (), x.dim(1)?))?.mean(1)?;
        let [first, second, last] = &self.head;
        let y = second.forward(&first.forward(&pooled)?.relu()?)?;
        // The public code's head: Linear, ReLU, Linear, ReLU, Linear.
        let logits = last.forward(&y.relu()?)?;
        Ok(Classified { stages, pooled, logits })
    }
}

/// The points of each cloud of `[B, n, 3]`.
fn clouds(positions: &Tensor) -> Result<Vec<Vec<[f32; 3]>>> {
    let rows = positions.to_dtype(DType::F32)?.to_vec3::<f32>()?;
    let points =
        |cloud: Vec<Vec<f32>>| cloud.iter().filter_map(|row| row.as_slice().try_into().ok()).collect();
    Ok(rows.into_iter().map(points).collect())
}

/// A tree for each cloud of `[B, n, 3]`.
fn trees(positions: &Tensor) -> Result<Vec<KdTree>> {
    Ok(clouds(positions)?.iter().map(|points| KdTree::new(points)).collect())
}

/// For each of `queries` `[B, m, 3]` its nearest in the tree of its cloud: `[B, m, k]`, k the number of the cloud's
/// points if there are fewer.
fn neighbours(queries: &Tensor, trees: &[KdTree], k: usize) -> Result<Tensor> {
    let (batch, m, _) = queries.dims3()?;
    let k = trees.iter().map(KdTree::len).fold(k, usize::min);
    let mut found = Vec::with_capacity(batch * m * k);
    for (tree, queries) in trees.iter().zip(clouds(queries)?) {
        tree.nearest(&queries, k, 0, &mut found);
    }
    Tensor::from_vec(found, (batch, m, k), queries.device())
}
