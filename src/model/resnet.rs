//! ResNet (He et al., CVPR 2016) as torchvision and timm build it; its last feature map is the image's tokens.

use candle_core::{DType, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};

use super::layers::{BatchNorm, Dense, Mode};
use super::ops;

mod plan;

use plan::Plan;

/// The size of a ResNet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Channels of the stem.
    pub stem: usize,
    /// Channels of the four stages, before a bottleneck's expansion.
    pub channels: [usize; 4],
    /// Blocks of the four stages.
    pub layers: [usize; 4],
    /// Three convolutions per block (1×1, 3×3, 1×1 with four times the channels), as in ResNet-50; else two of 3×3.
    #[serde(default)]
    pub bottleneck: bool,
}

impl ResNetConfig {
    /// ResNet-18 with its published widths.
    pub const RESNET_18: Self =
        Self { stem: 64, channels: [64, 128, 256, 512], layers: [2, 2, 2, 2], bottleneck: false };

    /// ResNet-34.
    pub const RESNET_34: Self = Self { layers: [3, 4, 6, 3], ..Self::RESNET_18 };

    /// ResNet-50.
    pub const RESNET_50: Self = Self { layers: [3, 4, 6, 3], bottleneck: true, ..Self::RESNET_18 };

    /// ResNet-18 of half the width.
    pub const HALF_RESNET_18: Self = Self { stem: 32, channels: [32, 64, 128, 256], ..Self::RESNET_18 };

    /// Channels of the last feature map.
    #[must_use]
    pub const fn outputs(&self) -> usize {
        self.channels[3] * self.expansion()
    }

    const fn expansion(&self) -> usize {
        if self.bottleneck { 4 } else { 1 }
    }
}

/// A convolution and the batch norm after it.
#[derive(Clone, Debug)]
pub(super) struct ConvNorm {
    /// `[out, in, size, size]`
    weight: Tensor,
    norm: BatchNorm,
    /// Weight `[out, in, size, size]` and bias `[1, out, 1, 1]` of both in one, where they do not change.
    folded: Option<(Tensor, Tensor)>,
    stride: usize,
    padding: usize,
}

/// A square kernel.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    /// Its side.
    pub(super) size: usize,
    /// From one place to the next.
    pub(super) stride: usize,
}

impl ConvNorm {
    /// Loads the convolution's `weight` below `conv`, and what [`BatchNorm`] has below `norm`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub(super) fn load(
        inputs: usize,
        outputs: usize,
        kernel: Kernel,
        conv: &VarBuilder<'_>,
        norm: &VarBuilder<'_>,
    ) -> Result<Self> {
        let Kernel { size, stride } = kernel;
        // Kaiming, fan out, as torchvision draws them.
        let stdev = (2.0 / (outputs * size * size) as f64).sqrt();
        let weight =
            conv.get_with_hints((outputs, inputs, size, size), "weight", Init::Randn { mean: 0.0, stdev })?;
        let norm = BatchNorm::load(outputs, norm)?;
        let folded = (!weight.is_variable() && norm.is_fixed()).then(|| {
            let (scale, shift) = norm.affine()?;
            let weight = weight.broadcast_mul(&scale.reshape((outputs, 1, 1, 1))?)?;
            Ok::<_, candle_core::Error>((weight, shift.reshape((1, outputs, 1, 1))?))
        });
        Ok(Self { weight, norm, folded: folded.transpose()?, stride, padding: size / 2 })
    }

    /// `[B, in, H, W]` to `[B, out, ⌈H/stride⌉, ⌈W/stride⌉]`; negative numbers become 0 where it is to `rectify`.
    ///
    /// # Errors
    /// When there are other channels.
    pub(super) fn forward(&self, x: &Tensor, mode: Mode, rectify: bool) -> Result<Tensor> {
        if let Some((weight, bias)) = &self.folded {
            let y = ops::conv2d(x, weight, self.stride, self.padding)?.broadcast_add(bias)?;
            return if rectify { y.relu() } else { Ok(y) };
        }
        let y = ops::conv2d(x, &self.weight, self.stride, self.padding)?;
        self.norm.forward_maps(&y, mode, rectify)
    }
}

/// y = relu(F(x) + shortcut(x))
#[derive(Clone, Debug)]
struct Block {
    convs: Vec<ConvNorm>,
    shortcut: Option<ConvNorm>,
}

impl Block {
    fn load(
        inputs: usize,
        channels: usize,
        stride: usize,
        bottleneck: bool,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let outputs = if bottleneck { 4 * channels } else { channels };
        // (inputs, outputs, kernel size, stride)
        let shapes: &[(usize, usize, usize, usize)] = if bottleneck {
            &[(inputs, channels, 1, 1), (channels, channels, 3, stride), (channels, outputs, 1, 1)]
        } else {
            &[(inputs, channels, 3, stride), (channels, outputs, 3, 1)]
        };
        let convs = shapes.iter().zip(1..).map(|(&(inputs, outputs, size, stride), number)| {
            let names = (vb.pp(format!("conv{number}")), vb.pp(format!("bn{number}")));
            ConvNorm::load(inputs, outputs, Kernel { size, stride }, &names.0, &names.1)
        });
        let convs = convs.collect::<Result<Vec<ConvNorm>>>()?;
        let shortcut = (stride != 1 || inputs != outputs).then(|| {
            let vb = vb.pp("downsample");
            ConvNorm::load(inputs, outputs, Kernel { size: 1, stride }, &vb.pp("0"), &vb.pp("1"))
        });
        Ok(Self { convs, shortcut: shortcut.transpose()? })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut y = x.clone();
        for (index, conv) in self.convs.iter().enumerate() {
            y = conv.forward(&y, mode, index + 1 < self.convs.len())?;
        }
        match &self.shortcut {
            Some(shortcut) => ops::add_rectify(&y, &shortcut.forward(x, mode, false)?),
            None => ops::add_rectify(&y, x),
        }
    }
}

/// The network without its classifier.
#[derive(Debug)]
pub struct ResNet {
    stem: ConvNorm,
    stages: Vec<Vec<Block>>,
    /// For inference in f32 on the CPU, where nothing of it is trained.
    plan: Option<Plan>,
}

impl ResNet {
    /// Loads weights under torchvision's and timm's names (`conv1`, `bn1`, `layer1.0.conv1`, …).
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(config: &ResNetConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let kernel = Kernel { size: 7, stride: 2 };
        let stem = ConvNorm::load(3, config.stem, kernel, &vb.pp("conv1"), &vb.pp("bn1"))?;
        let mut inputs = config.stem;
        let mut stages = Vec::with_capacity(4);
        for (stage, (&channels, &layers)) in config.channels.iter().zip(&config.layers).enumerate() {
            let vb = vb.pp(format!("layer{}", stage + 1));
            let mut blocks = Vec::with_capacity(layers);
            for layer in 0..layers {
                let stride = if layer == 0 && stage > 0 { 2 } else { 1 };
                blocks.push(Block::load(inputs, channels, stride, config.bottleneck, &vb.pp(layer))?);
                inputs = channels * config.expansion();
            }
            stages.push(blocks);
        }
        let plan = Plan::new(&stem, &stages)?;
        Ok(Self { stem, stages, plan })
    }

    /// Images `[B, 3, H, W]`, normalised, to the last feature map `[B, C, ⌈H/32⌉, ⌈W/32⌉]`.
    ///
    /// # Errors
    /// When the input is not `[B, 3, H, W]`.
    pub fn forward(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        if let Some(plan) = &self.plan
            && !images.track_op()
            && images.dtype() == DType::F32
            && images.device().is_cpu()
        {
            return plan.run(images);
        }
        let x = self.stem.forward(images, mode, true)?;
        let x = ops::max_pool(&x, 3, 2, 1)?;
        self.stages.iter().flatten().try_fold(x, |x, block| block.forward(&x, mode))
    }
}

/// A ResNet with its classifier `fc`, as published: for parity, and for pre-training.
#[derive(Debug)]
pub struct Classifier {
    network: ResNet,
    fc: Dense,
}

impl Classifier {
    /// Loads a ResNet and `fc`, `[classes, channels]` with a bias.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(config: &ResNetConfig, classes: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            network: ResNet::load(config, vb)?,
            fc: Dense::load(config.outputs(), classes, true, &vb.pp("fc"))?,
        })
    }

    /// The network without `fc`.
    #[must_use]
    pub const fn network(&self) -> &ResNet {
        &self.network
    }

    /// Images `[B, 3, H, W]` to scores `[B, classes]`: `fc` of the mean over the last feature map.
    ///
    /// # Errors
    /// When the input is not `[B, 3, H, W]`.
    pub fn logits(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        self.fc.forward(&self.network.forward(images, mode)?.mean((2, 3))?)
    }
}

/// Mean of a feature map `[B, C, h, w]` over a grid of `side × side` cells, to tokens `[B, side², C]`. Cell i spans rows
/// ⌊i·h/side⌋ to ⌈(i+1)·h/side⌉, as torch's adaptive average pooling does; columns alike.
///
/// # Errors
/// When the input has another rank.
pub fn pool_to_tokens(map: &Tensor, side: usize) -> Result<Tensor> {
    let (batch, channels, height, width) = map.dims4()?;
    let span = |cell: usize, length: usize| (cell * length / side, ((cell + 1) * length).div_ceil(side));
    let mut means = vec![0f32; side * side * height * width];
    let cells = (0..side).flat_map(|row| (0..side).map(move |column| (row, column)));
    for ((row, column), mean) in cells.zip(means.chunks_exact_mut(height * width)) {
        let ((top, bottom), (left, right)) = (span(row, height), span(column, width));
        let share = 1.0 / ((bottom - top) * (right - left)) as f32;
        for y in top..bottom {
            for weight in mean.iter_mut().skip(y * width + left).take(right - left) {
                *weight = share;
            }
        }
    }
    // [side², h·w] × [B, h·w, C]
    let means = Tensor::from_vec(means, (side * side, height * width), map.device())?;
    let flat = map.reshape((batch, channels, height * width))?.transpose(1, 2)?.contiguous()?;
    means.broadcast_left(batch)?.contiguous()?.matmul(&flat)
}

/// Mean and standard deviation of ImageNet's pixels (0…1), for which published weights were trained.
pub const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn pooling_takes_the_mean_of_each_cell() {
        let map = Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap().reshape((1, 1, 3, 4)).unwrap();
        let tokens = pool_to_tokens(&map, 2).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        // Rows 0–1 and 1–2, columns 0–1 and 2–3.
        assert_eq!(tokens, [2.5, 4.5, 6.5, 8.5]);
    }
}
