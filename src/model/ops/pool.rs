//! Max pooling with its gradient: candle's fails where kernel and stride differ.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::blocked::{BLOCK, Blocked};
use super::conv::phase;
use super::vector::Arch;
use super::{on_cpu_f32, slice_of, with_slice};

/// The largest number under each window of `size` × `size`, every `stride` pixels, of maps `[B, C, H, W]`; outside of
/// them is −∞, `padding` (less than `size`) wide. The gradient goes to the first of equals.
///
/// # Errors
/// When the shapes do not fit.
pub fn max_pool(x: &Tensor, size: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    if stride == 0 || padding >= size || height.min(width) + 2 * padding < size {
        candle_core::bail!(
            "max pooling: found maps of {height} x {width}, stride {stride}, padding {padding}, allowed are those that \
             hold {size} x {size} and less padding than that"
        );
    }
    let pool = MaxPool { size, stride, padding };
    if on_cpu_f32(x) { x.contiguous()?.apply_op1(pool) } else { pool.composed(x) }
}

#[derive(Clone, Copy)]
struct MaxPool {
    size: usize,
    stride: usize,
    padding: usize,
}

impl MaxPool {
    const fn out(self, size: usize) -> usize {
        (size + 2 * self.padding - self.size) / self.stride + 1
    }

    /// The maximum of the maps shifted by each place of the window. Where there are equals they share the gradient.
    fn composed(self, x: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let (out_y, out_x) = (self.out(height), self.out(width));
        let needed = |out: usize| (out - 1 + self.size.div_ceil(self.stride)) * self.stride;
        let x = self.fit(&self.fit(x, 2, needed(out_y))?, 3, needed(out_x))?;
        let mut most: Option<Tensor> = None;
        for row in 0..self.size {
            for column in 0..self.size {
                let part = phase(&x, (row % self.stride, column % self.stride), self.stride)?
                    .narrow(2, row / self.stride, out_y)?
                    .narrow(3, column / self.stride, out_x)?;
                most = Some(match most {
                    Some(most) => most.maximum(&part)?,
                    None => part,
                });
            }
        }
        most.ok_or_else(|| {
            candle_core::Error::Msg("max pooling: found an empty window, allowed is 1 and more".into())
        })
    }

    /// −∞ before a dimension, and −∞ after it or a cut, to `size`.
    fn fit(self, x: &Tensor, dim: usize, size: usize) -> Result<Tensor> {
        let nothing = |count: usize| {
            let mut shape = x.dims().to_vec();
            if let Some(dim) = shape.get_mut(dim) {
                *dim = count;
            }
            Tensor::full(f32::NEG_INFINITY, shape, x.device())?.to_dtype(x.dtype())
        };
        let after = size.saturating_sub(self.padding + x.dim(dim)?);
        let mut parts = vec![x.clone()];
        if self.padding > 0 {
            parts.insert(0, nothing(self.padding)?);
        }
        if after > 0 {
            parts.push(nothing(after)?);
        }
        Tensor::cat(&parts, dim)?.narrow(dim, 0, size)
    }

    /// The pixels of a window that lie within `size`.
    fn window(self, at: usize, size: usize) -> std::ops::Range<usize> {
        let first = at * self.stride;
        first.saturating_sub(self.padding)..(first + self.size - self.padding).min(size)
    }

    /// Where the largest number of a window stands in a map, and which it is.
    fn largest(self, map: &[f32], (height, width): (usize, usize), (y, x): (usize, usize)) -> (usize, f32) {
        let mut found = (usize::MAX, f32::NEG_INFINITY);
        let columns = self.window(x, width);
        for row in self.window(y, height) {
            for column in columns.clone() {
                let place = row * width + column;
                let value = map[place];
                // NaN wins, as in torch.
                if value > found.1 || found.0 == usize::MAX || value.is_nan() {
                    found = (place, value);
                }
            }
        }
        found
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, height, width) = layout.shape().dims4()?;
        let x = slice_of(x, layout)?;
        let (out_y, out_x) = (self.out(height), self.out(width));
        let mut values = vec![0.0; batch * channels * out_y * out_x];
        values.par_chunks_mut(out_y * out_x).zip(x.par_chunks(height * width)).for_each(|(out, map)| {
            for (place, value) in out.iter_mut().enumerate() {
                *value = self.largest(map, (height, width), (place / out_x, place % out_x)).1;
            }
        });
        Ok((CpuStorage::F32(values), (batch, channels, out_y, out_x).into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, _, height, width) = x.dims4()?;
        let (out_y, out_x) = (self.out(height), self.out(width));
        let mut values = vec![0.0; x.elem_count()];
        with_slice(x, |x| {
            with_slice(&grad.contiguous()?, |grad| {
                let maps = values.par_chunks_mut(height * width).zip(x.par_chunks(height * width));
                maps.zip(grad.par_chunks(out_y * out_x)).for_each(|((values, map), grad)| {
                    for (place, grad) in grad.iter().enumerate() {
                        let at = (place / out_x, place % out_x);
                        values[self.largest(map, (height, width), at).0] += grad;
                    }
                });
            })
        })??;
        Tensor::from_vec(values, x.shape(), x.device()).map(Some)
    }
}

/// Points that a task takes at a time.
const POINTS: usize = 64;

/// The largest of k rows, `[n, k, c]` to `[n, c]`, k from 1. The gradient goes to the first of equals: candle's goes to all of
/// them, so that a point that stands there twice would count twice.
///
/// # Errors
/// When the shapes do not fit.
pub fn max_rows(x: &Tensor) -> Result<Tensor> {
    let (_, k, _) = x.dims3()?;
    if k == 0 {
        candle_core::bail!("maximum of rows: found {:?}, allowed are 1 row and more", x.dims());
    }
    match x.track_op() {
        _ if on_cpu_f32(x) && x.elem_count() > 0 => x.contiguous()?.apply_op1(MaxRows),
        true => x.contiguous()?.gather(&x.detach().argmax_keepdim(1)?, 1)?.squeeze(1),
        false => x.max(1),
    }
}

struct MaxRows;

/// The largest of k rows, and which row has it.
struct Largest<'a> {
    /// `[k, c]`
    rows: &'a [f32],
    most: &'a mut [f32],
    place: &'a mut [u32],
}

impl WithSimd for Largest<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (first, others) = self.rows.split_at(self.most.len());
        self.most.copy_from_slice(first);
        self.place.fill(0);
        for (number, row) in (1..).zip(others.chunks_exact(self.most.len())) {
            for ((most, place), x) in self.most.iter_mut().zip(self.place.iter_mut()).zip(row) {
                // NaN wins, as in torch.
                let wins = *x > *most || x.is_nan();
                *most = if wins { *x } else { *most };
                *place = if wins { number } else { *place };
            }
        }
    }
}

impl CustomOp1 for MaxRows {
    fn name(&self) -> &'static str {
        "max-rows"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, k, width) = layout.shape().dims3()?;
        let (x, arch) = (slice_of(x, layout)?, Arch::new());
        let mut values = vec![0.0; n * width];
        let tasks = values.par_chunks_mut(POINTS * width).zip(x.par_chunks(POINTS * k * width));
        tasks.for_each(|(values, x)| {
            let mut place = vec![0; width];
            for (most, rows) in values.chunks_exact_mut(width).zip(x.chunks_exact(k * width)) {
                arch.dispatch(Largest { rows, most, place: &mut place });
            }
        });
        Ok((CpuStorage::F32(values), (n, width).into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let ((_, k, width), arch) = (x.dims3()?, Arch::new());
        let mut values = vec![0.0; x.elem_count()];
        with_slice(x, |x| {
            with_slice(&grad.contiguous()?, |grad| {
                let inputs = x.par_chunks(POINTS * k * width).zip(grad.par_chunks(POINTS * width));
                values.par_chunks_mut(POINTS * k * width).zip(inputs).for_each(|(values, (x, grad))| {
                    let (mut most, mut place) = (vec![0.0; width], vec![0; width]);
                    let points = x.chunks_exact(k * width).zip(grad.chunks_exact(width));
                    for (values, (rows, grad)) in values.chunks_exact_mut(k * width).zip(points) {
                        arch.dispatch(Largest { rows, most: &mut most, place: &mut place });
                        for (channel, (&place, grad)) in place.iter().zip(grad).enumerate() {
                            values[place as usize * width + channel] = *grad;
                        }
                    }
                });
            })
        })??;
        Tensor::from_vec(values, x.shape(), x.device()).map(Some)
    }
}

/// The largest number under each window of 3 × 3, every 2 pixels, of maps whose border of 1 (of zeros) counts: for maps
/// without negative numbers, the same as −∞ outside of them.
pub fn max_pool_rectified(maps: &Blocked, output: &mut Blocked) {
    let arch = Arch::new();
    let (plane, top, row) = (output.plane().max(1), output.border.top, output.row());
    let (height, left, width) = (output.shape.height, output.border.left, output.shape.width);
    let planes = output.data.par_chunks_mut(plane).zip(maps.data.par_chunks(maps.plane().max(1)));
    planes.for_each(|(out, map)| {
        for y in 0..height {
            let out = &mut out[(top + y) * row + left * BLOCK..][..width * BLOCK];
            let rows = std::array::from_fn(|down| &map[(2 * y + down) * maps.row()..][..maps.row()]);
            arch.dispatch(Windows { rows, out });
        }
    });
}

struct Windows<'a> {
    rows: [&'a [f32]; 3],
    out: &'a mut [f32],
}

impl WithSimd for Windows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let out = S::as_mut_simd_f32s(self.out).0;
        let rows = self.rows.map(|row| S::as_simd_f32s(row).0);
        // Vectors of a pixel.
        let pixel = BLOCK / S::F32_LANES;
        for (x, out) in out.chunks_exact_mut(pixel).enumerate() {
            let windows = rows.map(|row| &row[2 * x * pixel..][..3 * pixel]);
            for (part, out) in out.iter_mut().enumerate() {
                let mut most = simd.splat_f32s(f32::NEG_INFINITY);
                for window in windows {
                    for at in [part, part + pixel, part + 2 * pixel] {
                        most = simd.max_f32s(most, window[at]);
                    }
                }
                *out = most;
            }
        }
    }
}
