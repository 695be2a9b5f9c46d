//! What stands at the neighbours of points: rows by indices, with what depends on both added on the way.
//!
//! The same of candle's parts makes three to five tensors of all neighbours and, going back, a gradient for each of them.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor,
};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::vector::Arch;
use super::{on_cpu_f32, slice_of, with_slice};

/// Points that a task takes at a time.
const POINTS: usize = 64;

/// x_j: rows `[m, c]` by indices `[n, k]` u32, `[n, k, c]`.
///
/// # Errors
/// When the shapes do not fit or an index is out of range.
pub fn rows(x: &Tensor, indices: &Tensor) -> Result<Tensor> {
    let (n, k) = indices.dims2()?;
    let (x, indices) = (x.contiguous()?, indices.flatten_all()?);
    let near = if x.track_op() && x.rank() == 2 && !on_cpu_f32(&x) {
        x.apply_op1(Rows { indices })?
    } else {
        x.index_select(&indices, 0)?
    };
    near.reshape((n, k, ()))
}

/// Rows of `[m, c]`. A GPU adds the rows of candle's own gradient one after the other, in a thread for each of the c columns:
/// here each of the m rows takes what it gave, all at the same time, and always in the same order.
struct Rows {
    /// u32 `[n · k]`
    indices: Tensor,
}

impl Rows {
    /// Places that this many times the gradient's rows hold are no gain.
    const MOST: usize = 16;

    /// For each row the places that it went to, as many as the most, the others `n · k`, which is none: u32 `[rows, most]`.
    /// `None` where a few rows went to so many places that this would take much more memory than the gradient.
    fn places(&self, rows: usize) -> Result<Option<Tensor>> {
        let indices = self.indices.to_vec1::<u32>()?;
        let mut counts = vec![0; rows];
        for &index in &indices {
            let Some(count) = counts.get_mut(index as usize) else {
                candle_core::bail!("neighbours: found row {index}, allowed are those below {rows}")
            };
            *count += 1;
        }
        let most: usize = counts.iter().copied().max().unwrap_or_default();
        if most == 0 || rows * most > Self::MOST * indices.len() {
            return Ok(None);
        }
        let mut places = vec![indices.len() as u32; rows * most];
        counts.fill(0);
        for (place, &index) in (0..).zip(&indices) {
            let row = index as usize;
            if let (Some(count), Some(places)) = (counts.get_mut(row), places.chunks_exact_mut(most).nth(row))
            {
                if let Some(own) = places.get_mut(*count) {
                    *own = place;
                }
                *count += 1;
            }
        }
        Tensor::from_vec(places, (rows, most), self.indices.device()).map(Some)
    }

    fn shape(&self, layout: &Layout) -> Result<Shape> {
        let (_, width) = layout.shape().dims2()?;
        Ok((self.indices.elem_count(), width).into())
    }
}

impl CustomOp1 for Rows {
    fn name(&self) -> &'static str {
        "neighbours-rows"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (indices, of_indices) = self.indices.storage_and_layout();
        let Storage::Cpu(indices) = &*indices else {
            candle_core::bail!("neighbours on another device than their rows");
        };
        Ok((x.index_select(indices, layout, of_indices, 0)?, self.shape(layout)?))
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (indices, of_indices) = self.indices.storage_and_layout();
        let Storage::Cuda(indices) = &*indices else {
            candle_core::bail!("neighbours on another device than their rows");
        };
        Ok((x.index_select(indices, layout, of_indices, 0)?, self.shape(layout)?))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (rows, width) = x.dims2()?;
        let grad = grad.contiguous()?;
        let Some(places) = self.places(rows)? else {
            return x.detach().zeros_like()?.index_add(&self.indices, &grad, 0).map(Some);
        };
        let none = Tensor::zeros((1, width), grad.dtype(), grad.device())?;
        let taken = Tensor::cat(&[&grad, &none], 0)?.index_select(&places.flatten_all()?, 0)?;
        taken.reshape((rows, (), width))?.sum(1).map(Some)
    }
}

/// x_j − c_i + δ_ij: rows x `[m, c]` by indices `[n, k]` u32, less the point's own centre `[n, c]`, where there is one, and
/// an offset `[n, k, c]`.
///
/// # Errors
/// When the shapes do not fit or an index is out of range.
pub fn shifted(x: &Tensor, centre: Option<&Tensor>, indices: &Tensor, offset: &Tensor) -> Result<Tensor> {
    let ((_, width), (n, k)) = (x.dims2()?, indices.dims2()?);
    if offset.dims() != [n, k, width] || centre.is_some_and(|centre| centre.dims() != [n, width]) {
        candle_core::bail!(
            "neighbours: found offsets {:?} and centres {:?}, allowed are [{n}, {k}, {width}] and [{n}, {width}]",
            offset.dims(),
            centre.map(Tensor::dims)
        );
    }
    let on_cpu = [Some(x), Some(offset), centre].into_iter().flatten().all(on_cpu_f32);
    if !on_cpu || n * k * width == 0 {
        let near = rows(x, indices)?;
        return match centre {
            Some(centre) => near.broadcast_sub(&centre.unsqueeze(1)?)? + offset,
            None => near + offset,
        };
    }
    let (near, x, offset) = (Near::of(indices, x)?, x.contiguous()?, offset.contiguous()?);
    match centre {
        Some(centre) => x.apply_op3(&centre.contiguous()?, &offset, near),
        None => x.apply_op2(&offset, near),
    }
}

/// [δ_ij, x_j]: rows x `[m, c]` by indices `[n, k]` u32 behind offsets `[n, k, d]`, which have no gradient; `[n, k, d + c]`.
///
/// # Errors
/// When the shapes do not fit or an index is out of range.
pub fn beside(offset: &Tensor, x: &Tensor, indices: &Tensor) -> Result<Tensor> {
    let ((_, width), (n, k)) = (x.dims2()?, indices.dims2()?);
    let (rows_of_offset, neighbours, before) = offset.dims3()?;
    if (rows_of_offset, neighbours) != (n, k) {
        candle_core::bail!("neighbours: found offsets {:?}, allowed are [{n}, {k}, ..]", offset.dims());
    }
    let offset = offset.detach();
    if !(on_cpu_f32(x) && on_cpu_f32(&offset)) || n * k * width * before == 0 {
        return Tensor::cat(&[&offset, &rows(x, indices)?], 2);
    }
    let near = Near::of(indices, x)?;
    x.contiguous()?.apply_op1(Beside { near, offset: offset.contiguous()? })
}

/// Who is near whom.
struct Near {
    /// `[n · k]`, each a row.
    indices: Vec<u32>,
    neighbours: usize,
}

impl Near {
    /// Indices `[n, k]` that are all rows of x.
    fn of(indices: &Tensor, x: &Tensor) -> Result<Self> {
        let (rows, (_, neighbours)) = (x.dim(0)?, indices.dims2()?);
        let indices = indices.flatten_all()?.to_vec1::<u32>()?;
        match indices.iter().max() {
            Some(&most) if most as usize >= rows => {
                candle_core::bail!("neighbours: found row {most}, allowed are those below {rows}")
            }
            _ => Ok(Self { indices, neighbours }),
        }
    }

    /// x_j − c_i + δ
    fn shifted(&self, x: &[f32], centre: Option<&[f32]>, offset: &[f32], width: usize) -> Vec<f32> {
        let arch = Arch::new();
        let mut out = offset.to_vec();
        let tasks = out
            .par_chunks_mut(POINTS * self.neighbours * width)
            .zip(self.indices.par_chunks(POINTS * self.neighbours));
        tasks.enumerate().for_each(|(number, (out, indices))| {
            let centre = centre.map(|centre| &centre[number * POINTS * width..]);
            arch.dispatch(Shift { x, centre, indices, neighbours: self.neighbours, width, out });
        });
        out
    }

    /// Σ of the gradients `[n · k, skip + width]`, behind `skip` numbers of each, at the rows that they came from: like x.
    fn scattered(&self, grad: &Tensor, x: &Tensor, skip: usize) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        let mut out = vec![0.0; rows * width];
        with_slice(&grad.contiguous()?, |grad| {
            Arch::new().dispatch(Scatter { grad, indices: &self.indices, skip, width, out: &mut out });
        })?;
        Tensor::from_vec(out, (rows, width), x.device())
    }

    /// −Σ_j of the gradients of each point: like the centre.
    fn centred(&self, grad: &Tensor, centre: &Tensor) -> Result<Tensor> {
        let (n, width) = centre.dims2()?;
        let arch = Arch::new();
        let mut out = vec![0.0; n * width];
        with_slice(&grad.contiguous()?, |grad| {
            let size = POINTS * self.neighbours * width;
            out.par_chunks_mut(POINTS * width).zip(grad.par_chunks(size)).for_each(|(out, grad)| {
                arch.dispatch(Take { grad, width, neighbours: self.neighbours, out });
            });
        })?;
        Tensor::from_vec(out, (n, width), centre.device())
    }
}

/// out += x_j − c_i
struct Shift<'a> {
    x: &'a [f32],
    centre: Option<&'a [f32]>,
    indices: &'a [u32],
    neighbours: usize,
    width: usize,
    out: &'a mut [f32],
}

impl WithSimd for Shift<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { x, centre, indices, neighbours, width, out } = self;
        let points = out.chunks_exact_mut(neighbours * width).zip(indices.chunks_exact(neighbours));
        for (point, (out, indices)) in points.enumerate() {
            for (out, &index) in out.chunks_exact_mut(width).zip(indices) {
                let row = &x[index as usize * width..][..width];
                match centre {
                    Some(centre) => {
                        let centre = &centre[point * width..][..width];
                        for ((out, x), centre) in out.iter_mut().zip(row).zip(centre) {
                            *out += x - centre;
                        }
                    }
                    None => out.iter_mut().zip(row).for_each(|(out, x)| *out += x),
                }
            }
        }
    }
}

/// out_j += gradient, in the order of neighbours.
struct Scatter<'a> {
    grad: &'a [f32],
    indices: &'a [u32],
    skip: usize,
    width: usize,
    out: &'a mut [f32],
}

impl WithSimd for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (grad, &index) in self.grad.chunks_exact(self.skip + self.width).zip(self.indices) {
            let out = &mut self.out[index as usize * self.width..][..self.width];
            for (out, grad) in out.iter_mut().zip(&grad[self.skip..]) {
                *out += grad;
            }
        }
    }
}

/// out −= Σ_j gradient
struct Take<'a> {
    grad: &'a [f32],
    width: usize,
    neighbours: usize,
    out: &'a mut [f32],
}

impl WithSimd for Take<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let points = self.grad.chunks_exact(self.neighbours * self.width);
        for (out, grad) in self.out.chunks_exact_mut(self.width).zip(points) {
            for grad in grad.chunks_exact(self.width) {
                for (out, grad) in out.iter_mut().zip(grad) {
                    *out -= grad;
                }
            }
        }
    }
}

impl CustomOp2 for Near {
    fn name(&self) -> &'static str {
        "neighbours"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        offset: &CpuStorage,
        offset_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, width) = x_layout.shape().dims2()?;
        let out = self.shifted(slice_of(x, x_layout)?, None, slice_of(offset, offset_layout)?, width);
        Ok((CpuStorage::F32(out), offset_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        offset: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let of_x = x.track_op().then(|| self.scattered(grad, x, 0)).transpose()?;
        Ok((of_x, offset.track_op().then(|| grad.clone())))
    }
}

impl CustomOp3 for Near {
    fn name(&self) -> &'static str {
        "neighbours"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        centre: &CpuStorage,
        centre_layout: &Layout,
        offset: &CpuStorage,
        offset_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, width) = x_layout.shape().dims2()?;
        let (centre, offset) = (slice_of(centre, centre_layout)?, slice_of(offset, offset_layout)?);
        let out = self.shifted(slice_of(x, x_layout)?, Some(centre), offset, width);
        Ok((CpuStorage::F32(out), offset_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        centre: &Tensor,
        offset: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let of_x = x.track_op().then(|| self.scattered(grad, x, 0)).transpose()?;
        let of_centre = centre.track_op().then(|| self.centred(grad, centre)).transpose()?;
        Ok((of_x, of_centre, offset.track_op().then(|| grad.clone())))
    }
}

struct Beside {
    near: Near,
    /// `[n, k, d]`
    offset: Tensor,
}

impl CustomOp1 for Beside {
    fn name(&self) -> &'static str {
        "neighbours-beside"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = layout.shape().dims2()?;
        let (n, k, before) = self.offset.dims3()?;
        let x = slice_of(x, layout)?;
        let out = with_slice(&self.offset, |offset| {
            let mut out = Vec::with_capacity(n * k * (before + width));
            for (offset, &index) in offset.chunks_exact(before).zip(&self.near.indices) {
                out.extend_from_slice(offset);
                out.extend_from_slice(&x[index as usize * width..][..width]);
            }
            out
        })?;
        Ok((CpuStorage::F32(out), (n, k, before + width).into()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        self.near.scattered(grad, x, self.offset.dim(2)?).map(Some)
    }
}
