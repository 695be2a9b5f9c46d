//! The encoder of [`Form::Postech`](super::Form) for inference on a CPU: batch norms are folded into the layers
//! before or after them, and a few points at a time go through all of a block while they lie in the cache.
//!
//! With scale s and shift t of a batch norm, and a row of channels per point:
//!
//! * `linear1`, `linear3` and transitions down take their norms in: W s, t.
//! * logits: relu(s (k_j − q_i + δ) + t) = relu(k'_j − q'_i + h_j W'), where h_j is the 3-vector inside θ, δ = h_j W + b,
//!   and k', q', W' carry s, t and b.
//! * values: Σ_j w_j (v_j + δ_j) = Σ_j w_j v_j + (Σ_j w_j h_j) W + b, for weights sum to 1; the norm after it is taken
//!   into v, W and b.
//! * a transition down multiplies each point's features once, not once per neighbour: [d, x_j] W = d W_d + x_j W_x.
//!
//! Work is cut into the same pieces whatever the number of threads: so are the results.

use candle_core::{DType, Result, Storage, Tensor, WithDType, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::Projection;
use super::block::{Attention, Block, NormedBlock};
use super::hierarchy::{Hierarchy, Level};
use super::postech::PostechAttention;
use crate::model::input::InputError;
use crate::model::layers::{BatchNorm, Dense};
use crate::model::simd::dispatch;

mod attention;
mod matrix;
mod places;
mod softmax;

use attention::{Positions, Scratch, VectorAttention};
use matrix::{Matrix, Then, padded};
use places::Places;

/// Rows that a task multiplies at a time.
const ROWS: usize = 64;

/// A transition down, but for the product with the features, which the level before it has done.
#[derive(Clone, Debug)]
struct Down {
    /// W_d, `[3][columns]`
    offset: Vec<f32>,
    /// `[columns]`
    shift: Vec<f32>,
}

/// One level.
#[derive(Clone, Debug)]
struct FusedLevel {
    /// Of the first level, on the features; of the others, what comes of the neighbours.
    enter: Enter,
    /// `linear1` and `bn1`
    before: Matrix,
    /// [q', k', v'], from the same row
    projections: Matrix,
    attention: VectorAttention,
    /// `linear3` and `bn3`
    after: Matrix,
    /// W_x of the next level's transition down.
    next: Option<Matrix>,
    columns: usize,
}

#[derive(Clone, Debug)]
enum Enter {
    First(Matrix),
    Down(Down),
}

/// A whole encoder.
#[derive(Clone, Debug)]
pub(super) struct Fused {
    levels: Vec<FusedLevel>,
    inputs: usize,
    width: usize,
}

/// Weights `[inputs, outputs]` and bias `[outputs]` as plain numbers.
struct Plain {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Plain {
    /// `None` where the layer is trained.
    fn of(dense: &Dense) -> Result<Option<Self>> {
        let Some((weight, bias)) = dense.fixed() else { return Ok(None) };
        let outputs = weight.dim(1)?;
        let bias = bias.map_or_else(|| Ok(vec![0.0; outputs]), Tensor::to_vec1)?;
        Ok(Some(Self { weight: weight.flatten_all()?.to_vec1()?, bias }))
    }

    /// y · scale + shift of its output y.
    fn then(mut self, norm: &Affine) -> Self {
        for row in self.weight.chunks_exact_mut(self.bias.len()) {
            row.iter_mut().zip(&norm.scale).for_each(|(weight, scale)| *weight *= scale);
        }
        for ((bias, scale), shift) in self.bias.iter_mut().zip(&norm.scale).zip(&norm.shift) {
            *bias = *bias * scale + shift;
        }
        self
    }

    fn matrix(&self) -> Matrix {
        Matrix::new(&self.weight, &self.bias)
    }
}

/// A batch norm with running statistics.
struct Affine {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Affine {
    /// `None` where the norm is trained.
    fn of(norm: &BatchNorm) -> Result<Option<Self>> {
        let Some((scale, shift)) = norm.fixed() else { return Ok(None) };
        Ok(Some(Self { scale: scale.to_vec1()?, shift: shift.to_vec1()? }))
    }

    fn scale_only(&self) -> Self {
        Self { scale: self.scale.clone(), shift: vec![0.0; self.shift.len()] }
    }
}

/// All of them, or `None` where one is missing.
fn all<T, const N: usize>(parts: [Result<Option<T>>; N]) -> Result<Option<[T; N]>> {
    let mut found = Vec::with_capacity(N);
    for part in parts {
        let Some(part) = part? else { return Ok(None) };
        found.push(part);
    }
    Ok(found.try_into().ok())
}

/// A projection as plain numbers; `None` where it is trained.
fn folded(projection: &Projection) -> Result<Option<Plain>> {
    let (dense, norm) = (Plain::of(&projection.dense)?, Affine::of(&projection.norm)?);
    Ok(dense.zip(norm).map(|(dense, norm)| dense.then(&norm)))
}

/// A row filled up with zeros.
fn row(numbers: &[f32], columns: usize) -> Vec<f32> {
    let mut row = numbers.to_vec();
    row.resize(columns, 0.0);
    row
}

/// Rows of `width` numbers, each filled up with zeros.
fn rows(numbers: &[f32], width: usize, columns: usize) -> Vec<f32> {
    numbers.chunks_exact(width).flat_map(|numbers| row(numbers, columns)).collect()
}

/// The attention with the norm after it: products of a row to [q', k', v'], and the rest.
fn fold_attention(
    attention: &PostechAttention,
    norm: &BatchNorm,
) -> Result<Option<(Matrix, VectorAttention)>> {
    let parts =
        [&attention.query, &attention.key, &attention.value, &attention.position_0, &attention.position_3];
    let Some([query, key, value, first, last]) = all(parts.map(Plain::of))? else { return Ok(None) };
    let norms = [&attention.position_1, &attention.weight_0, &attention.weight_3, norm];
    let Some([of_first, of_scores, of_hidden, of_values]) = all(norms.map(Affine::of))? else {
        return Ok(None);
    };
    let Some([hidden, logits]) = all([&attention.weight_2, &attention.weight_5].map(Plain::of))? else {
        return Ok(None);
    };
    let (width, share) = (attention.width, attention.share);
    let columns = padded(width);
    let first = first.then(&of_first);
    // δ for the logits, its constant part in q'
    let to_scores = Plain { weight: last.weight.clone(), bias: last.bias.clone() }.then(&of_scores);
    let mut query = query.then(&of_scores.scale_only());
    query.bias.iter_mut().zip(&to_scores.bias).for_each(|(query, constant)| *query -= constant);
    let key = key.then(&of_scores.scale_only());
    // δ for the values, its constant part in v'
    let mut value = value;
    value.bias.iter_mut().zip(&last.bias).for_each(|(value, constant)| *value += constant);
    let value = value.then(&of_values);
    let to_values = Plain { weight: last.weight, bias: vec![0.0; width] }.then(&of_values.scale_only());

    let inputs = query.weight.len() / width;
    let mut weight = Vec::with_capacity(inputs * 3 * columns);
    let of = |plain: &Plain| plain.weight.chunks_exact(width).map(|r| row(r, columns)).collect::<Vec<_>>();
    for ((query, key), value) in of(&query).iter().zip(of(&key)).zip(of(&value)) {
        weight.extend(query.iter().chain(&key).chain(&value));
    }
    let bias = [&query, &key, &value].map(|plain| row(&plain.bias, columns)).concat();
    let rest = VectorAttention {
        columns,
        groups: width / share,
        share,
        position_weight: std::array::from_fn(|axis| std::array::from_fn(|out| first.weight[3 * axis + out])),
        position_bias: std::array::from_fn(|out| first.bias[out]),
        to_scores: rows(&to_scores.weight, width, columns),
        to_values: rows(&to_values.weight, width, columns),
        hidden: hidden.then(&of_hidden).matrix(),
        logits: logits.matrix(),
    };
    Ok(Some((Matrix::new(&weight, &bias), rest)))
}

fn fold_block(block: &Block) -> Result<Option<(Matrix, Matrix, VectorAttention, Matrix)>> {
    let Block::Normed(block) = block else { return Ok(None) };
    let NormedBlock { before, attention, norm, after } = &**block;
    let Attention::Postech(attention) = attention else { return Ok(None) };
    let (Some(before), Some(after)) = (folded(before)?, folded(after)?) else { return Ok(None) };
    let Some((projections, attention)) = fold_attention(attention, norm)? else { return Ok(None) };
    Ok(Some((before.matrix(), projections, attention, after.matrix())))
}

/// Numbers of a contiguous tensor on the CPU.
fn with_numbers<T: WithDType, R>(tensor: &Tensor, read: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(storage), Some((from, to))) = (&*storage, layout.contiguous_offsets()) else {
        bail!("the fused encoder takes contiguous tensors on the CPU")
    };
    read(&T::cpu_storage_as_slice(storage)?[from..to])
}

impl Fused {
    /// `None` where something is trained, is not f32 on the CPU, or is another attention.
    pub(super) fn new(levels: &[(Projection, Block)]) -> Result<Option<Self>> {
        let plain = |tensor: &Tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32;
        let mut built: Vec<FusedLevel> = Vec::with_capacity(levels.len());
        let (mut inputs, mut width) = (0, 0);
        for (down, block) in levels {
            if !down.dense.fixed().is_some_and(|(weight, _)| plain(weight)) {
                return Ok(None);
            }
            let Some(down) = folded(down)? else { return Ok(None) };
            let Some((before, projections, attention, after)) = fold_block(block)? else { return Ok(None) };
            width = down.bias.len();
            let columns = padded(width);
            let enter = match built.last_mut() {
                None => {
                    inputs = down.weight.len() / width;
                    Enter::First(down.matrix())
                }
                Some(above) => {
                    let (offset, features) = down.weight.split_at(3 * width);
                    above.next = Some(Matrix::new(features, &vec![0.0; width]));
                    Enter::Down(Down {
                        offset: rows(offset, width, columns),
                        shift: row(&down.bias, columns),
                    })
                }
            };
            built.push(FusedLevel { enter, before, projections, attention, after, next: None, columns });
        }
        Ok((!built.is_empty()).then_some(Self { levels: built, inputs, width }))
    }

    /// Whether it can take them: features of f32 on the CPU that no gradient is wanted of.
    pub(super) fn takes(&self, hierarchy: &Hierarchy, features: &Tensor) -> bool {
        let plain = |tensor: &Tensor| tensor.device().is_cpu() && !tensor.track_op();
        let positions = |level: &Level| plain(level.positions()) && level.positions().dtype() == DType::F32;
        plain(features) && features.dtype() == DType::F32 && hierarchy.levels().iter().all(positions)
    }

    pub(super) fn forward(&self, hierarchy: &Hierarchy, features: &Tensor) -> Result<Tensor> {
        super::check_depth(self.levels.len(), hierarchy)?;
        let (n, inputs) = features.dims2()?;
        let allowed = (hierarchy.levels().first().map_or(0, Level::len), self.inputs);
        if (n, inputs) != allowed {
            bail!("features: found [{n}, {inputs}], allowed are {allowed:?}");
        }
        let features = features.contiguous()?;
        with_numbers(&features, |x: &[f32]| match x.iter().position(|x| !x.is_finite()) {
            // A rectifier made of a maximum would turn NaN into 0 and hide it.
            Some(place) => {
                let found = x.get(place).map(f32::to_string).unwrap_or_default();
                Err(InputError::Feature { point: place / inputs.max(1), found }.into())
            }
            None => Ok(()),
        })?;
        // What the level above hands down: z = x W_x of each of its points.
        let mut above = Above { z: Vec::new(), positions: Vec::new(), places: Places::AsTheyCome(0) };
        for (fused, level) in self.levels.iter().zip(hierarchy.levels()) {
            let places = Places::of(level);
            let positions = with_numbers(&level.positions().contiguous()?, |x: &[f32]| {
                Ok(places.rows(x, 3).into_owned())
            })?;
            let entered = match &fused.enter {
                Enter::First(matrix) => with_numbers(&features, |x: &[f32]| {
                    Ok(fused.enter(matrix, &places.rows(x, inputs), inputs))
                })?,
                Enter::Down(down) => {
                    let Some(before) = level.before() else {
                        bail!("the first level has no level before it")
                    };
                    let k = before.dim(1)?;
                    let before = with_numbers(&before.contiguous()?, |before: &[u32]| {
                        above.places.renumber("before", places.rows(before, k).into_owned())
                    })?;
                    fused.descend(
                        down,
                        &above.z,
                        &before,
                        k,
                        Positions { here: &positions, there: &above.positions },
                    )
                }
            };
            let k = level.within().dim(1)?;
            let within = with_numbers(&level.within().contiguous()?, |within: &[u32]| {
                places.renumber("within", places.rows(within, k).into_owned())
            })?;
            above = Above { z: fused.attend(entered, &within, k, &positions), positions, places };
        }
        // [n, columns] → [n, width]
        let columns = padded(self.width);
        let out = above.places.back(above.z, columns);
        let n = out.len() / columns;
        Tensor::from_vec(out, (n, columns), features.device())?.narrow(1, 0, self.width)?.contiguous()
    }
}

/// A level that is done with.
struct Above {
    z: Vec<f32>,
    positions: Vec<f32>,
    places: Places,
}

/// A level's points on their way: x after the transition down, and [q', k', v'] of each.
struct Entered {
    /// `[n, columns]`
    x: Vec<f32>,
    /// `[n, 3 · columns]`
    projected: Vec<f32>,
}

impl FusedLevel {
    /// The first level: features `[n, inputs]`.
    fn enter(&self, matrix: &Matrix, features: &[f32], inputs: usize) -> Entered {
        self.pieces(features.len() / inputs.max(1), |first, x, projected| {
            dispatch(EnterRows {
                level: self,
                matrix,
                features: &features[first * inputs..],
                inputs,
                x,
                projected,
            });
        })
    }

    /// The others: z of the level above by neighbours `before` `[n, k]`.
    fn descend(&self, down: &Down, z: &[f32], before: &[u32], k: usize, positions: Positions<'_>) -> Entered {
        self.pieces(before.len() / k, |first, x, projected| {
            let before = &before[first * k..];
            dispatch(DescendRows { level: self, down, z, before, k, positions, first, x, projected });
        })
    }

    fn pieces(&self, n: usize, piece: impl Fn(usize, &mut [f32], &mut [f32]) + Sync) -> Entered {
        let (columns, wide) = (self.columns, 3 * self.columns);
        let mut entered = Entered { x: vec![0.0; n * columns], projected: vec![0.0; n * wide] };
        let pieces =
            entered.x.par_chunks_mut(ROWS * columns).zip(entered.projected.par_chunks_mut(ROWS * wide));
        pieces.enumerate().for_each(|(place, (x, projected))| piece(place * ROWS, x, projected));
        entered
    }

    /// The block's attention and what follows it, and the product that the next level gathers, if there is one.
    fn attend(&self, entered: Entered, within: &[u32], k: usize, positions: &[f32]) -> Vec<f32> {
        let n = within.len() / k;
        let columns = self.next.as_ref().map_or(self.columns, |next| next.columns);
        let points = self.attention.points(k);
        let mut out = vec![0.0; n * columns];
        out.par_chunks_mut(points * columns).enumerate().for_each_init(
            || self.attention.scratch(k),
            |scratch, (place, out)| {
                let first = place * points;
                let positions = Positions { here: positions, there: positions };
                dispatch(AttendRows {
                    level: self,
                    entered: &entered,
                    within,
                    k,
                    positions,
                    first,
                    scratch,
                    out,
                });
            },
        );
        out
    }
}

struct EnterRows<'a> {
    level: &'a FusedLevel,
    matrix: &'a Matrix,
    features: &'a [f32],
    inputs: usize,
    x: &'a mut [f32],
    projected: &'a mut [f32],
}

impl WithSimd for EnterRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.matrix.multiply(simd, self.features, self.inputs, self.x, Then::Relu);
        project(simd, self.level, self.x, self.projected);
    }
}

/// `linear1`, then q', k' and v'.
#[inline(always)]
fn project<S: Simd>(simd: S, level: &FusedLevel, x: &[f32], projected: &mut [f32]) {
    let mut y = vec![0.0; x.len()];
    level.before.multiply(simd, x, level.columns, &mut y, Then::Relu);
    level.projections.multiply(simd, &y, level.columns, projected, Then::Keep);
}

struct DescendRows<'a> {
    level: &'a FusedLevel,
    down: &'a Down,
    z: &'a [f32],
    before: &'a [u32],
    k: usize,
    positions: Positions<'a>,
    first: usize,
    x: &'a mut [f32],
    projected: &'a mut [f32],
}

impl WithSimd for DescendRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let columns = self.level.columns;
        let vectors = columns / S::F32_LANES;
        let [wx, wy, wz] = attention::three::<S>(&self.down.offset, columns);
        let shift = S::as_simd_f32s(&self.down.shift).0;
        let zero = simd.splat_f32s(0.0);
        let rows = self.x.chunks_exact_mut(columns).zip(self.before.chunks_exact(self.k));
        for (row, (x, neighbours)) in rows.enumerate() {
            let x = S::as_mut_simd_f32s(x).0;
            x.fill(simd.splat_f32s(f32::NEG_INFINITY));
            for &neighbour in neighbours {
                let offset = self.positions.offset(self.first + row, neighbour as usize);
                let [dx, dy, dz] = offset.map(|axis| simd.splat_f32s(axis));
                let z = S::as_simd_f32s(&self.z[neighbour as usize * columns..][..columns]).0;
                for v in 0..vectors {
                    let sum = simd.mul_add_e_f32s(dx, wx[v], z[v]);
                    let sum = simd.mul_add_e_f32s(dy, wy[v], sum);
                    let sum = simd.mul_add_e_f32s(dz, wz[v], sum);
                    x[v] = simd.max_f32s(x[v], sum);
                }
            }
            for (x, &shift) in x.iter_mut().zip(shift) {
                *x = simd.max_f32s(simd.add_f32s(*x, shift), zero);
            }
        }
        project(simd, self.level, self.x, self.projected);
    }
}

struct AttendRows<'a> {
    level: &'a FusedLevel,
    entered: &'a Entered,
    within: &'a [u32],
    k: usize,
    positions: Positions<'a>,
    first: usize,
    scratch: &'a mut Scratch,
    out: &'a mut [f32],
}

impl WithSimd for AttendRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { level, entered, k, first, scratch, out, .. } = self;
        let columns = level.columns;
        let wide = level.next.as_ref().map_or(columns, |next| next.columns);
        let n = out.len() / wide;
        let within = &self.within[first * k..(first + n) * k];
        level.attention.run(simd, &entered.projected, within, k, self.positions, first, scratch);
        let attended = &scratch.attended[..n * columns];
        let x = &entered.x[first * columns..(first + n) * columns];
        match &level.next {
            None => {
                out.copy_from_slice(x);
                level.after.multiply(simd, attended, columns, out, Then::AddRelu);
            }
            Some(next) => {
                let y = &mut scratch.left[..n * columns];
                y.copy_from_slice(x);
                level.after.multiply(simd, attended, columns, y, Then::AddRelu);
                next.multiply(simd, y, columns, out, Then::Keep);
            }
        }
    }
}
