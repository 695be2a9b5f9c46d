//! Which points lie near which: farthest point sampling and nearest neighbours, on the CPU.
//!
//! Both look at a [`KdTree`] whose leaves hold a handful of points each, and skip the leaves whose bounding box shows
//! that nothing in them can change the answer. Rounding is monotone, so a bound computed from the box is never above a
//! distance computed from a point in it: what is found, ties included, is exactly what looking at every pair finds.

mod farthest;
mod nearest;
mod tree;

pub use tree::KdTree;

/// Squared distance.
#[inline(always)]
fn distance(a: [f32; 3], b: [f32; 3]) -> f32 {
    let (x, y, z) = (a[0] - b[0], a[1] - b[1], a[2] - b[2]);
    x * x + y * y + z * z
}

/// Farthest point sampling: `count` indices into `points`, the first 0 and each next one the point farthest from all
/// before it; ties go to the lower index. All points are there, in the order in which they are found, when there are
/// no more than `count`.
#[must_use]
pub fn farthest(points: &[[f32; 3]], count: usize) -> Vec<u32> {
    KdTree::new(points).farthest(0, count)
}

/// Appends for each query its `k` nearest of `points`, nearest first, ties to the lower index; where there are fewer,
/// the first point fills up. `first` is added to every index.
pub fn nearest(queries: &[[f32; 3]], points: &[[f32; 3]], k: usize, first: u32, out: &mut Vec<u32>) {
    KdTree::new(points).nearest(queries, k, first, out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cloud() -> impl Strategy<Value = Vec<[f32; 3]>> {
        // A coarse grid, so that there are ties and doubles.
        proptest::collection::vec(proptest::array::uniform3((0i8..4).prop_map(f32::from)), 1..40)
    }

    /// Clouds of several leaves, with ties or without.
    fn large() -> impl Strategy<Value = Vec<[f32; 3]>> {
        let coarse = proptest::array::uniform3((0i8..6).prop_map(f32::from));
        let fine = proptest::array::uniform3(-40f32..40.0);
        prop_oneof![proptest::collection::vec(coarse, 33..600), proptest::collection::vec(fine, 33..600),]
    }

    fn sorted(query: [f32; 3], points: &[[f32; 3]], k: usize) -> Vec<u32> {
        let mut all: Vec<u32> = (0..points.len() as u32).collect();
        all.sort_by(|&a, &b| {
            let to = |index: u32| distance(query, points[index as usize]);
            to(a).total_cmp(&to(b)).then(a.cmp(&b))
        });
        all.truncate(k);
        all.resize(k, 0);
        all
    }

    /// Looks at every point for every sample.
    fn plain(points: &[[f32; 3]], start: usize, count: usize) -> Vec<u32> {
        let mut near = vec![f32::INFINITY; points.len()];
        let mut chosen = Vec::new();
        let mut next = start;
        for _ in 0..count.min(points.len()) {
            chosen.push(next as u32);
            for (point, near) in points.iter().zip(&mut near) {
                *near = near.min(distance(*point, points[next]));
            }
            near[next] = -1.0;
            next = (0..points.len()).rev().max_by(|&a, &b| near[a].total_cmp(&near[b])).unwrap();
        }
        chosen
    }

    proptest! {
        #[test]
        fn neighbours_are_those_of_a_full_sort(points in cloud(), k in 1usize..20) {
            let mut found = Vec::new();
            nearest(&points, &points, k, 100, &mut found);
            for (query, found) in points.iter().zip(found.chunks(k)) {
                let all: Vec<u32> = sorted(*query, &points, k).into_iter().map(|index| index + 100).collect();
                prop_assert_eq!(found, &all);
            }
        }

        #[test]
        fn the_farthest_points_are_all_different(points in cloud(), count in 1usize..50) {
            let mut chosen = farthest(&points, count);
            prop_assert_eq!(chosen.len(), count.min(points.len()));
            prop_assert_eq!(chosen[0], 0);
            chosen.sort_unstable();
            chosen.dedup();
            prop_assert_eq!(chosen.len(), count.min(points.len()));
        }

        #[test]
        fn skipping_leaves_changes_no_neighbour(
            points in large(), queries in large(), k in prop_oneof![Just(1usize), Just(16), 1usize..70]
        ) {
            let mut found = Vec::new();
            nearest(&queries, &points, k, 0, &mut found);
            for (query, found) in queries.iter().zip(found.chunks(k)) {
                prop_assert_eq!(found, &sorted(*query, &points, k));
            }
        }

        #[test]
        fn skipping_leaves_changes_no_sample(points in large(), start in 0usize..33, share in 1usize..9) {
            let count = points.len().div_ceil(share);
            prop_assert_eq!(KdTree::new(&points).farthest(start as u32, count), plain(&points, start, count));
        }
    }

    #[test]
    fn sampling_goes_to_the_far_ends_first() {
        let line: Vec<[f32; 3]> = [0.0, 1.0, 9.0, 10.0, 5.0].map(|x| [x, 0.0, 0.0]).to_vec();
        assert_eq!(farthest(&line, 3), [0, 3, 4]);
    }

    #[test]
    fn nothing_is_found_among_nothing() {
        assert_eq!(farthest(&[], 4), [0u32; 0]);
        let mut out = Vec::new();
        nearest(&[[0.0; 3]], &[], 2, 7, &mut out);
        assert_eq!(out, [7, 7]);
        nearest(&[], &[[0.0; 3]], 2, 7, &mut out);
        assert_eq!(out, [7, 7]);
    }

    #[test]
    fn huge_and_undefined_coordinates_are_survived() {
        let mut points = vec![[1e30f32, -1e30, 0.0], [f32::NAN, 0.0, 0.0], [f32::INFINITY, 0.0, 1.0]];
        points.extend((0..80).map(|index| [index as f32, 0.0, 0.0]));
        let mut out = Vec::new();
        nearest(&points, &points, 8, 0, &mut out);
        assert_eq!(out[3 * 8..4 * 8], [3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(farthest(&points, 83).len(), 83);
    }
}
