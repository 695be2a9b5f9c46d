//! ResNet (He et al., CVPR 2016) as torchvision and timm build it; its last feature map is the image's tokens.

use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};
use serde::{Deserialize, Serialize};

use super::layers::BatchNorm;

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

    /// Channels of the last feature map.
    #[must_use]
    pub const fn outputs(&self) -> usize {
        self.channels[3] * self.expansion()
    }

    const fn expansion(&self) -> usize {
        if self.bottleneck { 4 } else { 1 }
    }
}

/// A convolution with the batch norm after it folded into weights and bias.
#[derive(Clone, Debug)]
struct Conv {
    weight: Tensor,
    /// `[1, out, 1, 1]`
    bias: Tensor,
    stride: usize,
    padding: usize,
}

/// A square kernel.
#[derive(Clone, Copy)]
struct Kernel {
    size: usize,
    stride: usize,
}

impl Conv {
    fn load(
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
        let (scale, shift) = BatchNorm::load(outputs, norm)?.affine()?;
        Ok(Self {
            weight: weight.broadcast_mul(&scale.reshape((outputs, 1, 1, 1))?)?,
            bias: shift.reshape((1, outputs, 1, 1))?,
            stride,
            padding: size / 2,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.conv2d(&self.weight, self.padding, self.stride, 1, 1)?.broadcast_add(&self.bias)
    }
}

/// y = relu(F(x) + shortcut(x))
#[derive(Clone, Debug)]
struct Block {
    convs: Vec<Conv>,
    shortcut: Option<Conv>,
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
            Conv::load(inputs, outputs, Kernel { size, stride }, &names.0, &names.1)
        });
        let convs = convs.collect::<Result<Vec<Conv>>>()?;
        let shortcut = (stride != 1 || inputs != outputs).then(|| {
            let vb = vb.pp("downsample");
            Conv::load(inputs, outputs, Kernel { size: 1, stride }, &vb.pp("0"), &vb.pp("1"))
        });
        Ok(Self { convs, shortcut: shortcut.transpose()? })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut y = x.clone();
        for (index, conv) in self.convs.iter().enumerate() {
            y = conv.forward(&y)?;
            if index + 1 < self.convs.len() {
                y = y.relu()?;
            }
        }
        match &self.shortcut {
            Some(shortcut) => (y + shortcut.forward(x)?)?.relu(),
            None => (y + x)?.relu(),
        }
    }
}

/// The network without its classifier.
#[derive(Clone, Debug)]
pub struct ResNet {
    stem: Conv,
    stages: Vec<Vec<Block>>,
}

impl ResNet {
    /// Loads weights under torchvision's and timm's names (`conv1`, `bn1`, `layer1.0.conv1`, …).
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(config: &ResNetConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let stem = Conv::load(3, config.stem, Kernel { size: 7, stride: 2 }, &vb.pp("conv1"), &vb.pp("bn1"))?;
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
        Ok(Self { stem, stages })
    }

    /// Images `[B, 3, H, W]`, normalised, to the last feature map `[B, C, ⌈H/32⌉, ⌈W/32⌉]`.
    ///
    /// # Errors
    /// When the input is not `[B, 3, H, W]`.
    pub fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let x = self.stem.forward(images)?.relu()?;
        // Rectified, so a border of zeros never wins.
        let x = x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?.max_pool2d_with_stride(3, 2)?;
        self.stages.iter().flatten().try_fold(x, |x, block| block.forward(&x))
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
