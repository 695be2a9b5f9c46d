//! Two-dimensional convolution with its gradients.
//!
//! On the CPU in f32, with strides 1 and 2, by the tiles of [`kernel`] and [`gradient`]: candle's own spends its time
//! copying (im2col), and its gradient with stride 2 fails on many maps that are not square. Elsewhere the convolution is
//! composed of candle's with stride 1, whose gradient is right.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};

use super::blocked::{BLOCK, Blocked, Border, MapShape};
use super::{on_cpu_f32, slice_of, with_slice};

pub mod gradient;
pub mod kernel;

use kernel::{Epilogue, Packed, Walk, convolve, input_block};

/// y[b, o, i, j] = Σ x[b, c, i · stride + u − padding, j · stride + v − padding] · w[o, c, u, v]: maps `[B, C, H, W]`
/// with weights `[O, C, h, w]` to `[B, O, ⌊(H + 2 padding − h)/stride⌋ + 1, …]`.
///
/// # Errors
/// When the shapes do not fit.
pub fn conv2d(x: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    let (_, channels, height, width) = x.dims4()?;
    let (_, inputs, taps_y, taps_x) = weight.dims4()?;
    if channels != inputs {
        candle_core::bail!(
            "convolution: found maps of {channels} channels, allowed by the weights are {inputs}"
        );
    }
    if stride == 0 || height + 2 * padding < taps_y || width + 2 * padding < taps_x {
        candle_core::bail!(
            "convolution: found maps of {height} x {width}, stride {stride}, padding {padding}, allowed are those \
             that hold {taps_y} x {taps_x} taps"
        );
    }
    if on_cpu_f32(x) && weight.dtype() == DType::F32 && (stride == 1 || stride == 2) {
        return x.contiguous()?.apply_op2(&weight.contiguous()?, Conv { stride, padding });
    }
    if x.track_op() || weight.track_op() {
        return composed(x, weight, stride, padding);
    }
    x.conv2d(weight, padding, stride, 1, 1)
}

/// The convolution as Σ over the stride² phases of maps and taps of convolutions with stride 1.
fn composed(x: &Tensor, weight: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    if stride == 1 {
        return x.conv2d(weight, padding, 1, 1, 1);
    }
    let (_, _, height, width) = x.dims4()?;
    let (_, _, taps_y, taps_x) = weight.dims4()?;
    let out = ((height + 2 * padding - taps_y) / stride + 1, (width + 2 * padding - taps_x) / stride + 1);
    // Every phase of the maps holds out − 1 + ⌈taps/stride⌉ rows.
    let rows = |out: usize, taps: usize| (out - 1 + taps.div_ceil(stride)) * stride;
    let (rows, columns) = (rows(out.0, taps_y), rows(out.1, taps_x));
    let x = fit(&fit(x, 2, padding, rows)?, 3, padding, columns)?;
    let (taps_rows, taps_columns) = (taps_y.next_multiple_of(stride), taps_x.next_multiple_of(stride));
    let weight = fit(&fit(weight, 2, 0, taps_rows)?, 3, 0, taps_columns)?;
    let mut sum: Option<Tensor> = None;
    for row in 0..stride.min(taps_y) {
        for column in 0..stride.min(taps_x) {
            let part = phase(&x, (row, column), stride)?.conv2d(
                &phase(&weight, (row, column), stride)?,
                0,
                1,
                1,
                1,
            )?;
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
    }
    sum.ok_or_else(|| candle_core::Error::Msg("convolution: found no taps, allowed are 1 and more".into()))
}

/// Zeros before a dimension, and zeros after it or a cut, to `size`.
fn fit(x: &Tensor, dim: usize, before: usize, size: usize) -> Result<Tensor> {
    let x = x.pad_with_zeros(dim, before, size.saturating_sub(before + x.dim(dim)?))?;
    x.narrow(dim, 0, size)
}

/// Every `stride`th row and column from (row, column) of `[A, B, H, W]`, H and W multiples of `stride`.
pub(super) fn phase(x: &Tensor, (row, column): (usize, usize), stride: usize) -> Result<Tensor> {
    let (a, b, height, width) = x.dims4()?;
    // [A · B, H/s, s, W/s, s]
    let x = x.reshape((a * b, height / stride, stride, width / stride, stride))?;
    let x = x.narrow(2, row, 1)?.narrow(4, column, 1)?.contiguous()?;
    x.reshape((a, b, height / stride, width / stride))
}

struct Conv {
    stride: usize,
    padding: usize,
}

impl Conv {
    fn sizes(&self, x: &Shape, weight: &Shape) -> Result<Sizes> {
        let (batch, inputs, height, width) = x.dims4()?;
        let (outputs, _, taps_y, taps_x) = weight.dims4()?;
        let out = |size: usize, taps: usize| (size + 2 * self.padding - taps) / self.stride + 1;
        Ok(Sizes {
            input: MapShape { batch, channels: inputs, height, width },
            output: MapShape {
                batch,
                channels: outputs,
                height: out(height, taps_y),
                width: out(width, taps_x),
            },
            taps: (taps_y, taps_x),
        })
    }

    fn walk(&self) -> Walk {
        Walk { origin: (0, 0), stride: self.stride }
    }

    fn packed_input(&self, x: &[f32], sizes: &Sizes) -> Blocked {
        Blocked::pack(x, sizes.input, input_block(sizes.input.channels), Border::even(self.padding))
    }

    /// The convolution's transpose: per phase of the input's pixels, the taps that reach it, as a convolution of the
    /// gradient with stride 1.
    fn gradient_of_input(&self, weight: &[f32], grad: &[f32], sizes: &Sizes) -> Vec<f32> {
        let (input, output, taps) = (sizes.input, sizes.output, sizes.taps);
        let phases = |size: usize, taps: usize| -> Vec<Phase> {
            (0..self.stride.min(size)).map(|first| Phase::new(first, size, taps, self)).collect()
        };
        let (rows, columns) = (phases(input.height, taps.0), phases(input.width, taps.1));
        let before = |phases: &[Phase]| phases.iter().map(Phase::before).max().unwrap_or(0);
        let after =
            |phases: &[Phase], size: usize| phases.iter().map(|phase| phase.after(size)).max().unwrap_or(0);
        let border = Border {
            top: before(&rows),
            left: before(&columns),
            bottom: after(&rows, output.height),
            right: after(&columns, output.width),
        };
        let maps = Blocked::pack(grad, output, BLOCK, border);
        let mut values = vec![0.0; input.batch * input.channels * input.area()];
        for row in &rows {
            for column in &columns {
                if row.taps == 0 || column.taps == 0 {
                    continue;
                }
                let weights = Packed::new(
                    (output.channels, input.channels),
                    (row.taps, column.taps),
                    BLOCK,
                    |channel, of, y, x| {
                        let tap = row.tap(y, self.stride) * taps.1 + column.tap(x, self.stride);
                        weight[(of * input.channels + channel) * taps.0 * taps.1 + tap]
                    },
                );
                let shape = MapShape { height: row.count, width: column.count, ..input };
                let mut part = Blocked::zeros(shape, BLOCK, Border::default());
                let origin = (row.origin(border.top), column.origin(border.left));
                convolve(&maps, &weights, Walk { origin, stride: 1 }, Epilogue::default(), &mut part);
                let size = (input.height, input.width);
                part.scatter(&mut values, size, (row.first, column.first), self.stride);
            }
        }
        values
    }
}

struct Sizes {
    input: MapShape,
    output: MapShape,
    taps: (usize, usize),
}

/// Along one axis, the pixels `first` + stride · i of the input, i < `count`: the output's pixel i + `shift` − j reaches
/// them through tap `offset` + stride · j, j < `taps`.
#[derive(Clone, Copy, Debug)]
struct Phase {
    first: usize,
    count: usize,
    offset: usize,
    shift: usize,
    taps: usize,
}

impl Phase {
    fn new(first: usize, size: usize, taps: usize, conv: &Conv) -> Self {
        let offset = (first + conv.padding) % conv.stride;
        Self {
            first,
            count: (size - first).div_ceil(conv.stride),
            offset,
            shift: (first + conv.padding) / conv.stride,
            taps: taps.saturating_sub(offset).div_ceil(conv.stride),
        }
    }

    /// Pixels before the output's first that the taps of i = 0 reach.
    fn before(&self) -> usize {
        self.taps.saturating_sub(self.shift + 1)
    }

    /// Pixels after the output's last, of `size`, that the taps of the last i reach.
    fn after(&self, size: usize) -> usize {
        (self.count + self.shift).saturating_sub(size)
    }

    /// Where the taps of i = 0 begin, `before` pixels before the output's first.
    fn origin(&self, before: usize) -> usize {
        before + self.shift + 1 - self.taps
    }

    /// The tap of the whole kernel that stands at `index` of the turned one.
    fn tap(&self, index: usize, stride: usize) -> usize {
        self.offset + stride * (self.taps - 1 - index)
    }
}

impl CustomOp2 for Conv {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = self.sizes(x_layout.shape(), weight_layout.shape())?;
        let input = self.packed_input(slice_of(x, x_layout)?, &sizes);
        let channels = (sizes.input.channels, sizes.output.channels);
        let weights = Packed::from_rows(slice_of(weight, weight_layout)?, channels, sizes.taps);
        let mut output = Blocked::zeros(sizes.output, BLOCK, Border::default());
        convolve(&input, &weights, self.walk(), Epilogue::default(), &mut output);
        let MapShape { batch, channels, height, width } = sizes.output;
        Ok((CpuStorage::F32(output.unpack()), (batch, channels, height, width).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let sizes = self.sizes(x.shape(), weight.shape())?;
        let grad = grad.contiguous()?;
        let of_input = x.track_op().then(|| {
            let values = with_slice(weight, |weight| {
                with_slice(&grad, |grad| self.gradient_of_input(weight, grad, &sizes))
            })??;
            Tensor::from_vec(values, x.shape(), x.device())
        });
        let of_weight = weight.track_op().then(|| {
            let input = with_slice(x, |x| self.packed_input(x, &sizes))?;
            let maps = with_slice(&grad, |grad| Blocked::pack(grad, sizes.output, BLOCK, Border::default()))?;
            let values = gradient::of_weights(&input, &maps, sizes.taps, self.walk());
            Tensor::from_vec(values, weight.shape(), weight.device())
        });
        Ok((of_input.transpose()?, of_weight.transpose()?))
    }
}
