//! Encoders of image-like inputs for the baselines: an image, or points as a range–angle map
//! ([`crate::model::grid`]), to n_f tokens of width d. Link reports and positions have the encoders of
//! [`crate::model::ue`] in every model.
//!
//! An input `[B, C, H, W]` of any size is brought to a square first ([`shrink`]).

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::Problems;
use crate::model::layers::{BatchNorm, Dense, Mode, NormedMlp};
use crate::model::resnet::{ConvNorm, Kernel};

/// `[to, from]`: row i is the mean over places ⌊i·from/to⌋ to ⌈(i+1)·from/to⌉.
fn means(from: usize, to: usize, like: &Tensor) -> Result<Tensor> {
    let mut numbers = vec![0f32; from * to];
    for (cell, row) in numbers.chunks_exact_mut(from.max(1)).enumerate() {
        let (first, end) = (cell * from / to, ((cell + 1) * from).div_ceil(to));
        for number in row.iter_mut().take(end).skip(first) {
            *number = 1.0 / (end - first) as f32;
        }
    }
    Tensor::from_vec(numbers, (to, from), like.device())?.to_dtype(like.dtype())
}

/// Means over the cells of a square of `side × side`, `[B, C, H, W]` to `[B, C, side, side]`, as torch's
/// adaptive average pooling does it. Rows and columns one after the other: the weights of both together would
/// be side² × H·W.
///
/// # Errors
/// When the input has another rank.
pub fn shrink(map: &Tensor, side: usize) -> Result<Tensor> {
    let (batch, channels, height, width) = map.dims4()?;
    if (height, width) == (side, side) {
        return Ok(map.clone());
    }
    // [B·C·H, W] × [W, side] → [B, C, H, side] → [B, C, side, H]
    let columns = means(width, side, map)?.t()?.contiguous()?;
    let x = map.reshape((batch * channels * height, width))?.matmul(&columns)?;
    let x = x.reshape((batch, channels, height, side))?.transpose(2, 3)?.contiguous()?;
    // [B·C·side, H] × [H, side] → [B, C, side (column), side (row)] → rows first
    let rows = means(height, side, map)?.t()?.contiguous()?;
    let x = x.reshape((batch * channels * side, height))?.matmul(&rows)?;
    x.reshape((batch, channels, side, side))?.transpose(2, 3)?.contiguous()
}

/// The side of a square of n_f cells.
fn square(problems: &mut Problems, tokens: usize) -> usize {
    let side = tokens.isqrt();
    if side * side != tokens || side == 0 {
        let message = format!("found {tokens}, allowed are squares: they lie on a grid");
        problems.0.push(("tokens".to_owned(), message));
    }
    side.max(1)
}

/// Size of a [`FlatEncoder`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlatConfig {
    /// Side of the square that is flattened.
    pub side: usize,
    /// Width of the layer between the square and the tokens.
    pub hidden: usize,
}

impl Default for FlatConfig {
    fn default() -> Self {
        Self { side: 32, hidden: 256 }
    }
}

impl FlatConfig {
    fn check(&self) -> Problems {
        let mut problems = Problems::default();
        problems.within("side", self.side, 1, 1024);
        problems.within("hidden", self.hidden, 1, 65_536);
        problems
    }

    /// What is wrong with it: key and what was found and allowed.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        self.check().0
    }
}

/// The MLP's encoder: a small square, flattened, through two layers to all tokens at once.
#[derive(Clone, Debug)]
pub struct FlatEncoder {
    side: usize,
    mlp: NormedMlp,
    tokens: usize,
}

impl FlatEncoder {
    /// Loads an encoder of inputs of so many channels to `tokens` of that width (`0`, `1`, `3`).
    ///
    /// # Errors
    /// When the configuration has a problem, or a tensor is missing or has another shape.
    pub fn load(
        config: &FlatConfig,
        channels: usize,
        tokens: usize,
        width: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        config.check().refuse("a flat encoder")?;
        let inputs = channels * config.side * config.side;
        Ok(Self {
            side: config.side,
            mlp: NormedMlp::load(inputs, config.hidden, tokens * width, vb)?,
            tokens,
        })
    }

    /// `[B, C, H, W]` to tokens `[B, n_f, d]`.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn forward(&self, map: &Tensor, mode: Mode) -> Result<Tensor> {
        let batch = map.dim(0)?;
        self.mlp.forward(&shrink(map, self.side)?.flatten_from(1)?, mode)?.reshape((batch, self.tokens, ()))
    }
}

/// Size of a [`GridCnn`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GridCnnConfig {
    /// Side of the square that the first convolution sees.
    pub side: usize,
    /// Channels of the convolutions; each halves the side.
    pub channels: Vec<usize>,
}

impl Default for GridCnnConfig {
    fn default() -> Self {
        Self { side: 64, channels: vec![32, 64, 128] }
    }
}

impl GridCnnConfig {
    fn check(&self, tokens: usize) -> Problems {
        let mut problems = Problems::default();
        problems.within("side", self.side, 1, 1024);
        problems.within("channels", self.channels.len(), 1, 10);
        for &channels in &self.channels {
            problems.within("channels", channels, 1, 4096);
        }
        let grid = square(&mut problems, tokens);
        let halved = 1usize << self.channels.len().min(10);
        if !self.side.is_multiple_of(halved) || self.side / halved < grid {
            let message = format!(
                "found {}, allowed are multiples of {halved} from {}: {} convolutions halve it, to {grid} or more",
                self.side,
                halved * grid,
                self.channels.len()
            );
            problems.0.push(("side".to_owned(), message));
        }
        problems
    }

    /// What is wrong with it, for so many tokens: key and what was found and allowed.
    #[must_use]
    pub fn problems(&self, tokens: usize) -> Vec<(String, String)> {
        self.check(tokens).0
    }
}

/// The CNN's encoder: convolutions of 3 × 3 in strides of 2, each with a batch norm and a rectifier, pooled to √n_f × √n_f
/// tokens and projected.
#[derive(Clone, Debug)]
pub struct GridCnn {
    side: usize,
    convs: Vec<ConvNorm>,
    grid: usize,
    projection: Dense,
}

impl GridCnn {
    /// Loads an encoder of inputs of so many channels to `tokens` of that width (`conv0`, `norm0`, …, `projection`).
    ///
    /// # Errors
    /// When the configuration has a problem, or a tensor is missing or has another shape.
    pub fn load(
        config: &GridCnnConfig,
        channels: usize,
        tokens: usize,
        width: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        config.check(tokens).refuse("a CNN encoder")?;
        let mut inputs = channels;
        let mut convs = Vec::with_capacity(config.channels.len());
        for (number, &outputs) in config.channels.iter().enumerate() {
            let names = ["conv", "norm"].map(|part| vb.pp(format!("{part}{number}")));
            convs.push(ConvNorm::load(inputs, outputs, Kernel { size: 3, stride: 2 }, &names[0], &names[1])?);
            inputs = outputs;
        }
        let projection = Dense::load(inputs, width, true, &vb.pp("projection"))?;
        Ok(Self { side: config.side, convs, grid: tokens.isqrt(), projection })
    }

    /// `[B, C, H, W]` to tokens `[B, n_f, d]`, row after row of the map.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn forward(&self, map: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut x = shrink(map, self.side)?;
        for conv in &self.convs {
            x = conv.forward(&x, mode, true)?;
        }
        // [B, C', g, g] → [B, g², C']
        let tokens = shrink(&x, self.grid)?.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        self.projection.forward(&tokens)
    }
}

/// Size of a [`PatchEncoder`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PatchConfig {
    /// Side of the square that is cut into √n_f × √n_f patches.
    pub side: usize,
}

impl Default for PatchConfig {
    fn default() -> Self {
        Self { side: 64 }
    }
}

impl PatchConfig {
    fn check(&self, tokens: usize) -> Problems {
        let mut problems = Problems::default();
        problems.within("side", self.side, 1, 1024);
        let grid = square(&mut problems, tokens);
        if !self.side.is_multiple_of(grid) {
            let message = format!("found {}, allowed are multiples of {grid} = √(tokens)", self.side);
            problems.0.push(("side".to_owned(), message));
        }
        problems
    }

    /// What is wrong with it, for so many tokens: key and what was found and allowed.
    #[must_use]
    pub fn problems(&self, tokens: usize) -> Vec<(String, String)> {
        self.check(tokens).0
    }
}

/// The Transformer's encoder: patches, each through one linear layer, and a batch norm for every place. Which place it is
/// is the core's to tell.
#[derive(Clone, Debug)]
pub struct PatchEncoder {
    side: usize,
    grid: usize,
    embedding: Dense,
    /// Of all tokens of a map as one vector.
    norm: BatchNorm,
}

impl PatchEncoder {
    /// Loads an encoder of inputs of so many channels to `tokens` of that width (`embedding`, `norm`).
    ///
    /// # Errors
    /// When the configuration has a problem, or a tensor is missing or has another shape.
    pub fn load(
        config: &PatchConfig,
        channels: usize,
        tokens: usize,
        width: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        config.check(tokens).refuse("a patch encoder")?;
        let grid = tokens.isqrt();
        let inputs = channels * (config.side / grid).pow(2);
        Ok(Self {
            side: config.side,
            grid,
            embedding: Dense::load(inputs, width, false, &vb.pp("embedding"))?,
            norm: BatchNorm::load(tokens * width, &vb.pp("norm"))?,
        })
    }

    /// `[B, C, H, W]` to tokens `[B, n_f, d]`, row after row of patches.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn forward(&self, map: &Tensor, mode: Mode) -> Result<Tensor> {
        let (batch, channels, _, _) = map.dims4()?;
        let (grid, patch) = (self.grid, self.side / self.grid);
        // [B, C, g, p, g, p] → [B, g, g, C, p, p] → [B, g², C·p²]
        let x = shrink(map, self.side)?.reshape(&[batch, channels, grid, patch, grid, patch][..])?;
        let x = x.permute(&[0, 2, 4, 1, 3, 5][..])?.contiguous()?;
        let x = self.embedding.forward(&x.reshape((batch, grid * grid, channels * patch * patch))?)?;
        self.norm.forward(&x.flatten_from(1)?, mode)?.reshape((batch, grid * grid, ()))
    }
}

/// Which encoder takes an image-like input, and its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MapConfig {
    /// [`FlatEncoder`]
    Flat(FlatConfig),
    /// [`GridCnn`]
    Cnn(GridCnnConfig),
    /// [`PatchEncoder`]
    Patches(PatchConfig),
}

impl MapConfig {
    /// What is wrong with it, for so many tokens: key and what was found and allowed.
    #[must_use]
    pub fn problems(&self, tokens: usize) -> Vec<(String, String)> {
        match self {
            Self::Flat(config) => config.problems(),
            Self::Cnn(config) => config.problems(tokens),
            Self::Patches(config) => config.problems(tokens),
        }
    }
}

/// One of the three encoders of image-like inputs.
#[derive(Clone, Debug)]
pub enum MapEncoder {
    /// [`FlatEncoder`]
    Flat(FlatEncoder),
    /// [`GridCnn`]
    Cnn(GridCnn),
    /// [`PatchEncoder`]
    Patches(PatchEncoder),
}

impl MapEncoder {
    /// Loads the encoder that the configuration names.
    ///
    /// # Errors
    /// When the configuration has a problem, or a tensor is missing or has another shape.
    pub fn load(
        config: &MapConfig,
        channels: usize,
        tokens: usize,
        width: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        Ok(match config {
            MapConfig::Flat(config) => Self::Flat(FlatEncoder::load(config, channels, tokens, width, vb)?),
            MapConfig::Cnn(config) => Self::Cnn(GridCnn::load(config, channels, tokens, width, vb)?),
            MapConfig::Patches(config) => {
                Self::Patches(PatchEncoder::load(config, channels, tokens, width, vb)?)
            }
        })
    }

    /// `[B, C, H, W]` to tokens `[B, n_f, d]`.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn forward(&self, map: &Tensor, mode: Mode) -> Result<Tensor> {
        match self {
            Self::Flat(encoder) => encoder.forward(map, mode),
            Self::Cnn(encoder) => encoder.forward(map, mode),
            Self::Patches(encoder) => encoder.forward(map, mode),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use candle_nn::Init;

    use super::*;
    use crate::model::resnet::pool_to_tokens;
    use crate::model::seeded::fresh_weights;

    #[test]
    fn rows_and_columns_one_after_the_other_are_the_means_of_cells() {
        let vb = fresh_weights(1, &Device::Cpu);
        for (height, width, side) in [(7, 10, 3), (4, 4, 2), (2, 3, 5), (6, 6, 6)] {
            let hint = Init::Randn { mean: 0.0, stdev: 1.0 };
            let map = vb.get_with_hints((2, 3, height, width), "map", hint).unwrap();
            // [B, side², C] → [B, C, side, side]
            let cells = pool_to_tokens(&map, side).unwrap().transpose(1, 2).unwrap().contiguous().unwrap();
            let cells = cells.reshape((2, 3, side, side)).unwrap();
            let apart = (shrink(&map, side).unwrap() - cells).unwrap().abs().unwrap().max_all().unwrap();
            assert!(apart.to_scalar::<f32>().unwrap() < 1e-6, "{height} × {width} to {side}");
        }
    }

    #[test]
    fn a_patch_is_a_piece_of_the_picture() {
        // 4 × 4 pixels numbered row by row, two channels, the second a hundred more; four patches.
        let first = Tensor::arange(0f32, 16.0, &Device::Cpu).unwrap().reshape((1, 1, 4, 4)).unwrap();
        let map = Tensor::cat(&[&first, &(&first + 100.0).unwrap()], 1).unwrap();
        let all = |value: f64| (Tensor::ones(32, DType::F32, &Device::Cpu).unwrap() * value).unwrap();
        let identity = std::collections::HashMap::from([
            ("embedding.weight".to_owned(), Tensor::eye(8, DType::F32, &Device::Cpu).unwrap()),
            ("norm.weight".to_owned(), all(1.0)),
            ("norm.bias".to_owned(), all(0.0)),
            ("norm.running_mean".to_owned(), all(2.0)),
            ("norm.running_var".to_owned(), all(4.0)),
        ]);
        let vb = VarBuilder::from_tensors(identity, DType::F32, &Device::Cpu);
        let encoder = PatchEncoder::load(&PatchConfig { side: 4 }, 2, 4, 8, &vb).unwrap();
        let tokens = encoder.forward(&map, Mode::Infer).unwrap().squeeze(0).unwrap();
        // The norm takes away the mean of 2 and halves.
        let pixels = ((tokens * 2.0).unwrap() + 2.0).unwrap().round().unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(pixels[1], [2.0, 3.0, 6.0, 7.0, 102.0, 103.0, 106.0, 107.0]);
        assert_eq!(pixels[2], [8.0, 9.0, 12.0, 13.0, 108.0, 109.0, 112.0, 113.0]);
    }

    #[test]
    fn sizes_that_do_not_fit_are_problems() {
        assert!(FlatConfig::default().problems().is_empty());
        assert!(GridCnnConfig::default().problems(16).is_empty());
        assert!(PatchConfig::default().problems(16).is_empty());
        for (problems, key) in [
            (PatchConfig { side: 10 }.problems(16), "side"),
            (PatchConfig { side: 12 }.problems(12), "tokens"),
            (GridCnnConfig { side: 36, channels: vec![4, 4, 4] }.problems(4), "side"),
            (GridCnnConfig { side: 16, channels: vec![4, 4, 4] }.problems(16), "side"),
            (FlatConfig { side: 0, hidden: 4 }.problems(), "side"),
        ] {
            assert!(problems.iter().any(|(found, _)| found == key), "{key}: {problems:?}");
        }
    }
}
