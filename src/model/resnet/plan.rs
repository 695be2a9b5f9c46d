//! Inference with fixed weights on the CPU: batch norms folded, weights laid out once, maps in blocks of channels from
//! the first convolution to the last, buffers kept from call to call.

use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Result, Tensor};

use super::{Block, ConvNorm};
use crate::model::ops::blocked::{BLOCK, Blocked, Border, IMAGE_BLOCK, MapShape};
use crate::model::ops::conv::kernel::{Epilogue, Packed, Walk, convolve};
use crate::model::ops::{pool, with_slice};

/// A convolution with the batch norm after it in its weights and bias.
#[derive(Debug)]
struct Layer {
    weights: Packed,
    /// Padded to whole blocks.
    bias: Vec<f32>,
    stride: usize,
    padding: usize,
}

impl Layer {
    fn new(conv: &ConvNorm) -> Result<Option<Self>> {
        let Some((weight, bias)) = &conv.folded else { return Ok(None) };
        if weight.dtype() != DType::F32 || !weight.device().is_cpu() {
            return Ok(None);
        }
        let (outputs, inputs, height, width) = weight.dims4()?;
        let weights = with_slice(&weight.contiguous()?, |weight| {
            Packed::from_rows(weight, (inputs, outputs), (height, width))
        })?;
        let mut bias = bias.flatten_all()?.to_vec1()?;
        bias.resize(outputs.next_multiple_of(BLOCK), 0.0);
        Ok(Some(Self { weights, bias, stride: conv.stride, padding: conv.padding }))
    }

    fn run(&self, x: &Blocked, residual: Option<&Blocked>, rectify: bool, scratch: &Scratch) -> Blocked {
        let out = |size: usize, taps: usize| (size + 2 * self.padding - taps) / self.stride + 1;
        let shape = MapShape {
            batch: x.shape.batch,
            channels: self.weights.outputs,
            height: out(x.shape.height, self.weights.size.0),
            width: out(x.shape.width, self.weights.size.1),
        };
        let mut y = scratch.take(shape, BLOCK, Border::even(1));
        let origin = (x.border.top - self.padding, x.border.left - self.padding);
        let epilogue = Epilogue { bias: Some(&self.bias), residual, rectify };
        convolve(x, &self.weights, Walk { origin, stride: self.stride }, epilogue, &mut y);
        y
    }
}

#[derive(Debug)]
struct Residual {
    layers: Vec<Layer>,
    shortcut: Option<Layer>,
}

impl Residual {
    fn new(block: &Block) -> Result<Option<Self>> {
        let layers = block.convs.iter().map(Layer::new).collect::<Result<Option<Vec<_>>>>()?;
        let shortcut = block.shortcut.as_ref().map(Layer::new).transpose()?;
        Ok(match (layers, shortcut) {
            (Some(layers), None) => Some(Self { layers, shortcut: None }),
            (Some(layers), Some(Some(shortcut))) => Some(Self { layers, shortcut: Some(shortcut) }),
            _ => None,
        })
    }

    fn run(&self, x: Blocked, scratch: &Scratch) -> Blocked {
        let shortcut = self.shortcut.as_ref().map(|layer| layer.run(&x, None, false, scratch));
        let mut y: Option<Blocked> = None;
        for (index, layer) in self.layers.iter().enumerate() {
            let last = index + 1 == self.layers.len();
            let residual = last.then(|| shortcut.as_ref().unwrap_or(&x));
            let next = layer.run(y.as_ref().unwrap_or(&x), residual, true, scratch);
            scratch.give(y.replace(next));
        }
        scratch.give(shortcut);
        match y {
            Some(y) => {
                scratch.give(Some(x));
                y
            }
            None => x,
        }
    }
}

/// Buffers between calls, for images of one shape.
#[derive(Debug, Default)]
struct Scratch {
    kept: Mutex<(Option<MapShape>, Vec<Blocked>)>,
}

impl Scratch {
    /// Drops what was kept for images of another shape.
    fn fit(&self, images: MapShape) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 != Some(images) {
            *kept = (Some(images), Vec::new());
        }
    }

    /// Maps whose border is zero, and whose other numbers are left over.
    fn take(&self, shape: MapShape, block: usize, border: Border) -> Blocked {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found =
            kept.1.iter().position(|maps| (maps.shape, maps.block, maps.border) == (shape, block, border));
        match found {
            Some(index) => kept.1.swap_remove(index),
            None => Blocked::zeros(shape, block, border),
        }
    }

    fn give(&self, maps: Option<Blocked>) {
        // As many as one call needs at once, and as a few calls beside each other do.
        const MOST: usize = 64;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.1.len() < MOST {
            kept.1.extend(maps);
        }
    }
}

/// The whole network, laid out.
#[derive(Debug)]
pub(super) struct Plan {
    stem: Layer,
    blocks: Vec<Residual>,
    scratch: Scratch,
}

impl Plan {
    /// None where a weight is a variable, or not in f32 on the CPU.
    pub(super) fn new(stem: &ConvNorm, stages: &[Vec<Block>]) -> Result<Option<Self>> {
        let blocks = stages.iter().flatten().map(Residual::new).collect::<Result<Option<Vec<_>>>>()?;
        Ok(match (Layer::new(stem)?, blocks) {
            (Some(stem), Some(blocks)) => Some(Self { stem, blocks, scratch: Scratch::default() }),
            _ => None,
        })
    }

    /// Images `[B, 3, H, W]` to the last feature map `[B, C, h, w]`.
    pub(super) fn run(&self, images: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = images.dims4()?;
        if channels != self.stem.weights.inputs || batch * height * width == 0 {
            candle_core::bail!(
                "ResNet: found images {:?}, allowed is [B, 3, H, W], not empty",
                images.dims()
            );
        }
        let shape = MapShape { batch, channels, height, width };
        let scratch = &self.scratch;
        scratch.fit(shape);
        let mut input = scratch.take(shape, IMAGE_BLOCK, Border::even(self.stem.padding));
        with_slice(&images.contiguous()?, |values| input.fill(values))?;
        let stem = self.stem.run(&input, None, true, scratch);
        scratch.give(Some(input));
        let half = |size: usize| (size - 1) / 2 + 1;
        let shape = MapShape { height: half(stem.shape.height), width: half(stem.shape.width), ..stem.shape };
        let mut x = scratch.take(shape, BLOCK, Border::even(1));
        pool::max_pool_rectified(&stem, &mut x);
        scratch.give(Some(stem));
        let y = self.blocks.iter().fold(x, |x, block| block.run(x, scratch));
        let MapShape { batch, channels, height, width } = y.shape;
        let values = y.unpack();
        scratch.give(Some(y));
        Tensor::from_vec(values, (batch, channels, height, width), images.device())
    }
}
