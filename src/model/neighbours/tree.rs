//! A balanced k-d tree with a bounding box per node.

/// Points of a leaf at most: two AVX-512 registers.
pub(super) const LEAF: usize = 32;

/// A box around points.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    low: [f32; 3],
    high: [f32; 3],
}

impl Bounds {
    const NOTHING: Self = Self { low: [f32::INFINITY; 3], high: [f32::NEG_INFINITY; 3] };

    fn around(points: &[[f32; 3]], members: &[u32]) -> Self {
        let mut bounds = Self::NOTHING;
        for point in members.iter().filter_map(|&index| points.get(index as usize)) {
            for (axis, &at) in point.iter().enumerate() {
                bounds.low[axis] = bounds.low[axis].min(at);
                bounds.high[axis] = bounds.high[axis].max(at);
            }
        }
        bounds
    }

    fn widest(&self) -> usize {
        let wide = |axis: usize| self.high[axis] - self.low[axis];
        (1..3).fold(0, |widest, axis| if wide(axis) > wide(widest) { axis } else { widest })
    }

    /// At most the squared distance from `point` to anything inside.
    #[inline(always)]
    pub(super) fn bound(&self, point: [f32; 3]) -> f32 {
        let apart = |axis: usize| (self.low[axis] - point[axis]).max(point[axis] - self.high[axis]).max(0.0);
        let (x, y, z) = (apart(0), apart(1), apart(2));
        x * x + y * y + z * z
    }
}

/// Points of a leaf, axis by axis.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) x: [f32; LEAF],
    pub(super) y: [f32; LEAF],
    pub(super) z: [f32; LEAF],
    /// Their place in the cloud.
    pub(super) index: [u32; LEAF],
    /// The first so many of them are there.
    pub(super) len: usize,
}

impl Leaf {
    fn of(points: &[[f32; 3]], members: &[u32]) -> Self {
        let mut leaf =
            Self { x: [0.0; LEAF], y: [0.0; LEAF], z: [0.0; LEAF], index: [0; LEAF], len: members.len() };
        for (slot, &index) in members.iter().enumerate() {
            if let Some(&[x, y, z]) = points.get(index as usize) {
                (leaf.x[slot], leaf.y[slot], leaf.z[slot], leaf.index[slot]) = (x, y, z, index);
            }
        }
        leaf
    }

    /// Squared distances to `point`; those past `len` mean nothing.
    #[inline(always)]
    pub(super) fn distances(&self, point: [f32; 3]) -> [f32; LEAF] {
        let mut distances = [0.0; LEAF];
        for (slot, distance) in distances.iter_mut().enumerate() {
            *distance = super::distance([self.x[slot], self.y[slot], self.z[slot]], point);
        }
        distances
    }
}

/// A cloud, ordered in space. 20 bytes a point and more while it stands; built in O(n log n).
#[derive(Clone, Debug)]
pub struct KdTree {
    /// In the order of a heap: the children of node i are 2i + 1 and 2i + 2, and the last half of them are leaves.
    pub(super) bounds: Vec<Bounds>,
    /// From left to right.
    pub(super) leaves: Vec<Leaf>,
    /// Points of the cloud.
    pub(super) len: usize,
}

impl KdTree {
    /// Orders a cloud. Coordinates should be finite: a point that is not is found last by [`KdTree::nearest`] and
    /// early by [`KdTree::farthest`].
    #[must_use]
    pub fn new(points: &[[f32; 3]]) -> Self {
        let leaves = points.len().div_ceil(LEAF).next_power_of_two();
        let mut tree = Self {
            bounds: vec![Bounds::NOTHING; 2 * leaves - 1],
            leaves: Vec::with_capacity(leaves),
            len: points.len(),
        };
        let mut order: Vec<u32> = (0..points.len() as u32).collect();
        tree.split(0, leaves, points, &mut order);
        tree
    }

    /// Points of the cloud.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every point of the cloud once, so that those near each other in space are near each other in the order.
    pub fn order(&self) -> impl Iterator<Item = u32> {
        self.leaves.iter().flat_map(|leaf| leaf.index.iter().copied().take(leaf.len))
    }

    /// Fills the node and all below it with `members`, on `leaves` leaves.
    fn split(&mut self, node: usize, leaves: usize, points: &[[f32; 3]], members: &mut [u32]) {
        let bounds = Bounds::around(points, members);
        if let Some(slot) = self.bounds.get_mut(node) {
            *slot = bounds;
        }
        if leaves == 1 {
            self.leaves.push(Leaf::of(points, members));
            return;
        }
        // Halves rounded up: no leaf gets more than `LEAF`.
        let middle = members.len().div_ceil(2);
        if middle < members.len() {
            let axis = bounds.widest();
            let at = |index: &u32| points.get(*index as usize).map_or(0.0, |point| point[axis]);
            members.select_nth_unstable_by(middle, |a, b| at(a).total_cmp(&at(b)));
        }
        let (left, right) = members.split_at_mut(middle);
        self.split(2 * node + 1, leaves / 2, points, left);
        self.split(2 * node + 2, leaves / 2, points, right);
    }
}
