//! In which order a level's points lie in memory.

use std::borrow::Cow;

use candle_core::{Result, bail};

use crate::model::point_transformer::hierarchy::Level;

/// Levels of fewer points lie in the cache in any order.
const MANY: usize = 1024;

/// Where each point of a level lies.
pub(super) enum Places {
    /// So many points, in the order of the level.
    AsTheyCome(usize),
    /// Near points near each other: neighbours are then gathered from the cache.
    InSpace {
        /// The point at each place.
        order: Vec<u32>,
        /// The place of each point.
        place: Vec<u32>,
    },
}

impl Places {
    pub(super) fn of(level: &Level) -> Self {
        match level.order() {
            Some(order) if order.len() >= MANY => {
                let mut place = vec![0; order.len()];
                for (at, &point) in (0..).zip(order) {
                    place[point as usize] = at;
                }
                Self::InSpace { order: order.to_vec(), place }
            }
            _ => Self::AsTheyCome(level.len()),
        }
    }

    /// Rows of `wide` numbers, from the order of the level to that of memory.
    pub(super) fn rows<'a, T: Copy>(&self, rows: &'a [T], wide: usize) -> Cow<'a, [T]> {
        match self {
            Self::AsTheyCome(_) => Cow::Borrowed(rows),
            Self::InSpace { order, .. } => Cow::Owned(gather(rows, order, wide)),
        }
    }

    /// Rows of `wide` numbers, from the order of memory to that of the level.
    pub(super) fn back(self, rows: Vec<f32>, wide: usize) -> Vec<f32> {
        match self {
            Self::AsTheyCome(_) => rows,
            Self::InSpace { place, .. } => gather(&rows, &place, wide),
        }
    }

    /// Points to the places where they lie; refuses those that are not there.
    pub(super) fn renumber(&self, name: &str, mut points: Vec<u32>) -> Result<Vec<u32>> {
        let count = match self {
            Self::AsTheyCome(count) => *count,
            Self::InSpace { place, .. } => place.len(),
        };
        if let Some(most) = points.iter().copied().max().filter(|&most| most as usize >= count) {
            bail!("neighbours `{name}`: found index {most}, allowed are those below {count}");
        }
        if let Self::InSpace { place, .. } = self {
            points.iter_mut().for_each(|point| *point = place[*point as usize]);
        }
        Ok(points)
    }
}

fn gather<T: Copy>(rows: &[T], indices: &[u32], wide: usize) -> Vec<T> {
    let mut gathered = Vec::with_capacity(indices.len() * wide);
    for &index in indices {
        gathered.extend_from_slice(&rows[index as usize * wide..][..wide]);
    }
    gathered
}
