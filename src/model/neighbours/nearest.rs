//! Nearest neighbours.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::tree::KdTree;
use crate::model::simd::dispatch;

/// Queries that one task answers.
const QUERIES: usize = 256;
/// A leaf is 2⁵ points and indices are 32 bits, so that no path is longer.
const DEEPEST: usize = 32;

/// Squared distance and index as one number: numbers compare as (distance, index) do, for a distance is never below 0.
#[inline(always)]
fn key(distance: f32, index: u32) -> u64 {
    (u64::from(distance.to_bits()) << 32) | u64::from(index)
}

/// The distance of a key.
#[inline(always)]
fn far(key: u64) -> f32 {
    f32::from_bits((key >> 32) as u32)
}

impl KdTree {
    /// Appends for each query its `k` nearest points, nearest first, ties to the lower index; where there are fewer,
    /// the cloud's first point fills up. `first` is added to every index. Many queries are spread over threads.
    pub fn nearest(&self, queries: &[[f32; 3]], k: usize, first: u32, out: &mut Vec<u32>) {
        let from = out.len();
        out.resize(from + queries.len() * k, first);
        let Some(found) = out.get_mut(from..) else { return };
        if k == 0 || self.len == 0 {
            return;
        }
        let answer = |(queries, found)| dispatch(Nearest { tree: self, queries, k, first, found });
        if queries.len() <= QUERIES {
            answer((queries, found));
        } else {
            queries.par_chunks(QUERIES).zip(found.par_chunks_mut(QUERIES * k)).for_each(answer);
        }
    }
}

struct Nearest<'a> {
    tree: &'a KdTree,
    queries: &'a [[f32; 3]],
    k: usize,
    first: u32,
    found: &'a mut [u32],
}

impl WithSimd for Nearest<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        // Fewer points than k leave the rest as it is: filled up.
        let k = self.k.min(self.tree.len);
        let mut best = vec![u64::MAX; k];
        for (&query, found) in self.queries.iter().zip(self.found.chunks_exact_mut(self.k)) {
            best.fill(u64::MAX);
            search(self.tree, query, &mut best);
            for (found, key) in found.iter_mut().zip(&best) {
                *found = self.first + *key as u32;
            }
        }
    }
}

/// Whether something at that distance may be among the nearest: always as long as there is no worst one of them, which
/// is NaN then; and on a tie, for its index may be lower.
#[inline(always)]
fn is_open(distance: f32, worst: f32) -> bool {
    distance.partial_cmp(&worst) != Some(std::cmp::Ordering::Greater)
}

/// Puts the keys of the nearest points into `best`, in order; it comes filled with the largest key.
#[inline(always)]
fn search(tree: &KdTree, query: [f32; 3], best: &mut [u64]) {
    let first_leaf = tree.leaves.len() - 1;
    // Nodes still to look at, with their bounds. Each level leaves one behind.
    let mut waiting = [(0.0f32, 0usize); DEEPEST + 1];
    let mut count = 1;
    let mut worst = f32::NAN;
    while count > 0 {
        count -= 1;
        let (bound, mut node) = waiting[count];
        if !is_open(bound, worst) {
            continue;
        }
        while node < first_leaf {
            let (left, right) = (2 * node + 1, 2 * node + 2);
            let bounds = [left, right].map(|node| tree.bounds[node].bound(query));
            let (near, aside) =
                if bounds[1] < bounds[0] { (right, (bounds[0], left)) } else { (left, (bounds[1], right)) };
            if is_open(aside.0, worst) {
                waiting[count] = aside;
                count += 1;
            }
            node = near;
        }
        let leaf = &tree.leaves[node - first_leaf];
        let distances = leaf.distances(query);
        let mut close = 0u32;
        for (slot, &distance) in distances.iter().enumerate() {
            close |= u32::from(is_open(distance, worst)) << slot;
        }
        close &= ((1u64 << leaf.len) - 1) as u32;
        while close != 0 {
            let slot = close.trailing_zeros() as usize & 31;
            close &= close - 1;
            insert(best, key(distances[slot], leaf.index[slot]));
        }
        if let Some(&last) = best.last() {
            // The largest key reads as NaN: there is no worst one yet.
            worst = far(last);
        }
    }
}

/// Puts a key in its place and drops the largest.
#[inline(always)]
fn insert(best: &mut [u64], key: u64) {
    let Some((last, _)) = best.split_last_mut() else { return };
    if key >= *last {
        return;
    }
    let mut place = best.len() - 1;
    while place > 0 && best[place - 1] > key {
        best[place] = best[place - 1];
        place -= 1;
    }
    best[place] = key;
}
