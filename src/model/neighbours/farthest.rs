//! Farthest point sampling.

use pulp::{Simd, WithSimd};

use super::tree::{KdTree, LEAF};
use crate::model::simd::dispatch;

impl KdTree {
    /// `count` indices into the cloud, the first `start` and each next one the point farthest from all before it; ties
    /// go to the lower index. No point is chosen twice; all are there when there are no more than `count`. A `start`
    /// that is not in the cloud counts as its last point.
    #[must_use]
    pub fn farthest(&self, start: u32, count: usize) -> Vec<u32> {
        let count = count.min(self.len);
        if count == 0 {
            return Vec::new();
        }
        dispatch(Farthest { tree: self, start: start.min(self.len as u32 - 1), count })
    }
}

/// What is known of a leaf's points.
#[derive(Clone)]
struct Reach {
    /// Squared distance to the nearest chosen point; below 0 for a chosen one.
    near: [f32; LEAF],
    /// The largest of them.
    most: f32,
    /// Its slot: of several, that of the lowest index.
    slot: usize,
}

struct Farthest<'a> {
    tree: &'a KdTree,
    start: u32,
    count: usize,
}

/// A chosen point: nearer than anything can come.
const CHOSEN: f32 = -1.0;

impl WithSimd for Farthest<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<u32> {
        let leaves = &self.tree.leaves;
        let boxes = &self.tree.bounds[leaves.len() - 1..];
        let (mut at, mut slot) = (0, 0);
        let mut reaches: Vec<Reach> = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            let mut near = [CHOSEN; LEAF];
            near[..leaf.len].fill(f32::INFINITY);
            if let Some(found) = leaf.index[..leaf.len].iter().position(|&index| index == self.start) {
                (at, slot) = (reaches.len(), found);
            }
            let most = if leaf.len == 0 { CHOSEN } else { f32::INFINITY };
            reaches.push(Reach { near, most, slot: 0 });
        }
        let mut chosen = Vec::with_capacity(self.count);
        loop {
            let leaf = &leaves[at];
            chosen.push(leaf.index[slot]);
            if chosen.len() == self.count {
                return chosen;
            }
            let point = [leaf.x[slot], leaf.y[slot], leaf.z[slot]];
            reaches[at].near[slot] = CHOSEN;
            let own = at;
            let (mut most, mut lowest) = (f32::NEG_INFINITY, u32::MAX);
            for (place, ((reach, bounds), leaf)) in reaches.iter_mut().zip(boxes).zip(leaves).enumerate() {
                // A leaf that is no nearer to the new point than to an old one stays as it is.
                if bounds.bound(point) < reach.most || place == own {
                    let distances = leaf.distances(point);
                    for (near, distance) in reach.near.iter_mut().zip(&distances) {
                        *near = near.min(*distance);
                    }
                    reach.most = reach.near.iter().copied().fold(CHOSEN, f32::max);
                    let mut lowest = u32::MAX;
                    for slot in 0..leaf.len {
                        if reach.near[slot] == reach.most && leaf.index[slot] < lowest {
                            (lowest, reach.slot) = (leaf.index[slot], slot);
                        }
                    }
                }
                let index = leaf.index[reach.slot];
                if reach.most > most || (reach.most == most && index < lowest) {
                    (most, lowest, at, slot) = (reach.most, index, place, reach.slot);
                }
            }
        }
    }
}
