//! Which points lie near which: farthest point sampling and nearest neighbours, on the CPU.

/// Squared distance.
fn distance(a: &[f32; 3], b: &[f32; 3]) -> f32 {
    let (x, y, z) = (a[0] - b[0], a[1] - b[1], a[2] - b[2]);
    x * x + y * y + z * z
}

/// Farthest point sampling: `count` indices into `points`, the first 0 and each next one the point farthest from all
/// before it; ties go to the lower index. All points, in this order, when there are no more than `count`.
#[must_use]
pub fn farthest(points: &[[f32; 3]], count: usize) -> Vec<u32> {
    let mut nearest = vec![f32::INFINITY; points.len()];
    let mut chosen = Vec::with_capacity(count.min(points.len()));
    let mut next = 0;
    while chosen.len() < count.min(points.len()) {
        chosen.push(next as u32);
        let Some(last) = points.get(next) else { break };
        let mut far = (f32::NEG_INFINITY, 0);
        for (index, (point, nearest)) in points.iter().zip(&mut nearest).enumerate() {
            *nearest = nearest.min(distance(point, last));
            if *nearest > far.0 {
                far = (*nearest, index);
            }
        }
        // A chosen point is never chosen again, though others may lie on it.
        if far.0 <= 0.0 {
            let taken: std::collections::BTreeSet<u32> = chosen.iter().copied().collect();
            let rest = (0..points.len() as u32).filter(|index| !taken.contains(index));
            chosen.extend(rest.take(count.min(points.len()) - taken.len()));
            break;
        }
        next = far.1;
    }
    chosen
}

/// Appends for each query its `k` nearest of `points`, nearest first, ties to the lower index; where there are fewer,
/// the first point fills up. `first` is added to every index.
pub fn nearest(queries: &[[f32; 3]], points: &[[f32; 3]], k: usize, first: u32, out: &mut Vec<u32>) {
    let mut best: Vec<(f32, u32)> = Vec::with_capacity(k + 1);
    for query in queries {
        best.clear();
        for (index, point) in (0u32..).zip(points) {
            let found = distance(query, point);
            if best.len() == k && best.last().is_some_and(|worst| found >= worst.0) {
                continue;
            }
            let place = best.partition_point(|other| other.0 <= found);
            best.insert(place, (found, index));
            best.truncate(k);
        }
        out.extend(best.iter().map(|(_, index)| first + index));
        out.extend(std::iter::repeat_n(first, k - best.len()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cloud() -> impl Strategy<Value = Vec<[f32; 3]>> {
        // A coarse grid, so that there are ties and doubles.
        proptest::collection::vec(proptest::array::uniform3((0i8..4).prop_map(f32::from)), 1..40)
    }

    proptest! {
        #[test]
        fn neighbours_are_those_of_a_full_sort(points in cloud(), k in 1usize..20) {
            let mut found = Vec::new();
            nearest(&points, &points, k, 100, &mut found);
            for (query, found) in points.iter().zip(found.chunks(k)) {
                let mut all: Vec<u32> = (0..points.len() as u32).collect();
                all.sort_by(|&a, &b| {
                    let to = |index: u32| distance(query, &points[index as usize]);
                    to(a).total_cmp(&to(b)).then(a.cmp(&b))
                });
                all.truncate(k);
                all.resize(k, 0);
                let all: Vec<u32> = all.into_iter().map(|index| index + 100).collect();
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
    }

    #[test]
    fn sampling_goes_to_the_far_ends_first() {
        let line: Vec<[f32; 3]> = [0.0, 1.0, 9.0, 10.0, 5.0].map(|x| [x, 0.0, 0.0]).to_vec();
        assert_eq!(farthest(&line, 3), [0, 3, 4]);
    }
}
