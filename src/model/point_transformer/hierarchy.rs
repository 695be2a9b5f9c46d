//! Who is near whom, level by level: found on the CPU before the network runs.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

use crate::model::input::InputError;
use crate::model::neighbours::KdTree;
use crate::model::ops::gather;

/// One level of a packed batch: n points of all clouds, one cloud after the other.
#[derive(Clone, Debug)]
pub struct Level {
    positions: Tensor,
    within: Tensor,
    before: Option<Tensor>,
    order: Option<Arc<[u32]>>,
}

impl Level {
    /// A level of positions `[n, 3]`, of which each point's neighbours are known: `within` `[n, k]` u32, rows of this
    /// level; `before` `[n, k']` u32, rows of the level before it, which the first level does not have. k may differ
    /// from level to level.
    ///
    /// # Errors
    /// When shapes disagree or an index is no u32.
    pub fn new(positions: Tensor, within: Tensor, before: Option<Tensor>) -> Result<Self> {
        let (n, axes) = positions.dims2()?;
        if axes != 3 {
            bail!("positions: found {axes} coordinates a point, allowed are 3");
        }
        for (name, indices) in
            std::iter::once(("within", &within)).chain(before.iter().map(|b| ("before", b)))
        {
            let (rows, k) = indices.dims2()?;
            if rows != n || k == 0 || indices.dtype() != DType::U32 {
                let dtype = indices.dtype();
                bail!(
                    "neighbours `{name}`: found [{rows}, {k}] of {dtype:?}, allowed are [{n}, 1 and more] of U32"
                );
            }
        }
        Ok(Self { positions, within, before, order: None })
    }

    /// Its points.
    #[must_use]
    pub fn len(&self) -> usize {
        self.positions.dims().first().copied().unwrap_or(0)
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[n, 3]`
    #[must_use]
    pub const fn positions(&self) -> &Tensor {
        &self.positions
    }

    /// `[n, k]`, neighbours within the level.
    #[must_use]
    pub const fn within(&self) -> &Tensor {
        &self.within
    }

    /// `[n, k]`, neighbours in the level before it.
    #[must_use]
    pub const fn before(&self) -> Option<&Tensor> {
        self.before.as_ref()
    }

    /// Its rows so that those of near points follow each other, where that is known.
    pub(super) fn order(&self) -> Option<&[u32]> {
        self.order.as_deref()
    }

    /// What each neighbour within the level has: rows `[n, c]` to `[n, k, c]`.
    pub(super) fn gather(&self, x: &Tensor) -> Result<Tensor> {
        gather::rows(x, &self.within)
    }

    /// x_j − c_i + δ_ij of the neighbours within the level: x and the points' centres `[n, c]`, offsets `[n, k, c]`.
    pub(super) fn shifted(&self, x: &Tensor, centre: Option<&Tensor>, offset: &Tensor) -> Result<Tensor> {
        gather::shifted(x, centre, &self.within, offset)
    }

    /// p_j − p_i of the neighbours within the level, `[n, k, 3]`.
    pub(super) fn offsets(&self, dtype: DType) -> Result<Tensor> {
        let positions = self.positions.to_dtype(dtype)?;
        self.gather(&positions)?.broadcast_sub(&positions.unsqueeze(1)?)
    }

    /// [p_j − p_i, x_j] of the neighbours in the level `above`, whose features are `x` `[n', c]`: `[n, k, 3 + c]`.
    pub(super) fn grouped(&self, above: &Self, x: &Tensor) -> Result<Tensor> {
        let Some(before) = &self.before else { bail!("the first level has no level before it") };
        let offset = gather::rows(&above.positions, before)?
            .broadcast_sub(&self.positions.unsqueeze(1)?)?
            .to_dtype(x.dtype())?;
        gather::beside(&offset, x, before)
    }
}

/// Indices `[B, m, k]` of any integer type into clouds of `points` points each, as indices `[B · m, k]` u32 into the
/// packed batch.
///
/// # Errors
/// When the device refuses memory.
pub fn packed(indices: &Tensor, points: usize) -> Result<Tensor> {
    let (batch, m, k) = indices.dims3()?;
    let first = Tensor::arange_step(0, (batch * points) as u32, points.max(1) as u32, indices.device())?;
    indices.to_dtype(DType::U32)?.broadcast_add(&first.reshape((batch, 1, 1))?)?.reshape((batch * m, k))
}

/// The positions of packed clouds, level by level, and who is near whom.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    levels: Vec<Level>,
    counts: Vec<usize>,
}

/// What one cloud brings to one level.
struct Part {
    positions: Vec<[f32; 3]>,
    /// Neighbours, as indices into the cloud alone.
    within: Vec<u32>,
    before: Vec<u32>,
    /// The cloud's points, near ones after each other.
    order: Vec<u32>,
}

impl Hierarchy {
    /// Thins each cloud, level by level, to what `size(level, points before)` says by farthest point sampling (the
    /// first level is the cloud itself) and finds `neighbours` nearest points on `levels` levels; where a cloud has
    /// fewer, its first point fills up.
    ///
    /// # Errors
    /// When a cloud is empty or a coordinate is not finite, or the device refuses memory.
    pub fn new(
        clouds: &[&[[f32; 3]]],
        levels: usize,
        size: impl Fn(usize, usize) -> usize + Sync,
        neighbours: usize,
        device: &Device,
    ) -> Result<Self> {
        for (number, cloud) in clouds.iter().enumerate() {
            if cloud.is_empty() {
                bail!("cloud {number}: found no point, allowed are 1 and more");
            }
            if let Some((point, at)) =
                cloud.iter().enumerate().find(|(_, p)| p.iter().any(|x| !x.is_finite()))
            {
                return Err(InputError::Point { cloud: number, point, found: format!("{at:?}") }.into());
            }
        }
        let descend = |cloud: &&[[f32; 3]]| {
            let mut parts: Vec<Part> = Vec::with_capacity(levels);
            let mut tree = KdTree::new(cloud);
            let mut positions = cloud.to_vec();
            for level in 0..levels {
                let mut before = Vec::new();
                if level > 0 {
                    let count = size(level, positions.len()).clamp(1, positions.len());
                    let chosen = tree.farthest(0, count);
                    let kept: Vec<[f32; 3]> =
                        chosen.iter().filter_map(|&index| positions.get(index as usize).copied()).collect();
                    tree.nearest(&kept, neighbours, 0, &mut before);
                    tree = KdTree::new(&kept);
                    positions = kept;
                }
                let mut within = Vec::new();
                tree.nearest(&positions, neighbours, 0, &mut within);
                let order = tree.order().collect();
                parts.push(Part { positions: positions.clone(), within, before, order });
            }
            parts
        };
        let clouds: Vec<Vec<Part>> = clouds.par_iter().map(descend).collect();
        let mut built = Vec::with_capacity(levels);
        for level in 0..levels {
            let (mut positions, mut within, mut before) = (Vec::new(), Vec::new(), Vec::new());
            let mut order = Vec::new();
            let (mut here, mut above) = (0, 0);
            for cloud in &clouds {
                let Some(part) = cloud.get(level) else { continue };
                within.extend(part.within.iter().map(|index| index + here));
                before.extend(part.before.iter().map(|index| index + above));
                order.extend(part.order.iter().map(|index| index + here));
                positions.extend(part.positions.iter().flatten().copied());
                here += part.positions.len() as u32;
                above += level.checked_sub(1).and_then(|up| cloud.get(up)).map_or(0, |up| up.positions.len())
                    as u32;
            }
            let shape = (here as usize, neighbours);
            let before = (level > 0).then(|| Tensor::from_vec(before, shape, device)).transpose()?;
            let positions = Tensor::from_vec(positions, (here as usize, 3), device)?;
            let level = Level::new(positions, Tensor::from_vec(within, shape, device)?, before)?;
            built.push(Level { order: Some(order.into()), ..level });
        }
        let counts = clouds.iter().map(|parts| parts.last().map_or(0, |part| part.positions.len())).collect();
        Ok(Self { levels: built, counts })
    }

    /// A hierarchy whose neighbours are known; `counts` are the points of each cloud on the last level.
    ///
    /// # Errors
    /// When there is no level, one but the first has no level before it, or the counts are not those of the last.
    pub fn from_levels(levels: Vec<Level>, counts: Vec<usize>) -> Result<Self> {
        let Some(last) = levels.last() else { bail!("hierarchy: found no level, allowed are 1 and more") };
        if let Some(place) = levels.iter().skip(1).position(|level| level.before.is_none()) {
            bail!("hierarchy: level {} does not say its neighbours in the level before it", place + 1);
        }
        let (found, allowed) = (counts.iter().sum::<usize>(), last.positions.dim(0)?);
        if found != allowed {
            bail!("hierarchy: found {found} points in the counts, allowed are the last level's {allowed}");
        }
        Ok(Self { levels, counts })
    }

    /// Its levels, the first one the clouds themselves.
    #[must_use]
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// Points of each cloud on the last level.
    #[must_use]
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }
}
