//! What lies on the ground: lanes and their markings, kerbs, pavement.

use super::scene::Scene;

/// What a place of the ground is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    /// Carriageway.
    Asphalt,
    /// A white marking on it.
    Marking,
    /// The stone between carriageway and pavement.
    Kerb,
    /// Pavement of slabs.
    Slab,
    /// Grass.
    Grass,
}

/// The map of the ground.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Edges of the carriageway, metres along y.
    edges: [f32; 2],
    /// Lines between lanes of one direction, dashed.
    dashed: Vec<f32>,
    /// The line between the directions.
    middle: Option<f32>,
}

impl Ground {
    /// The ground of a scene.
    #[must_use]
    pub fn new(scene: &Scene) -> Self {
        let lanes: Vec<f32> = scene.street.lanes_y_m.iter().map(|&y| y as f32).collect();
        let half = scene.street.lane_width_m as f32 / 2.0;
        let edge = |y: Option<&f32>, out: f32| y.map_or(0.0, |y| y + out);
        let between: Vec<f32> = lanes.windows(2).map(|pair| pair.iter().sum::<f32>() / 2.0).collect();
        let middle = (lanes.len() > 1).then(|| lanes.len().div_ceil(2) - 1);
        Self {
            edges: [edge(lanes.first(), -half), edge(lanes.last(), half)],
            middle: middle.and_then(|at| between.get(at).copied()),
            dashed: (0..).zip(between).filter(|(at, _)| Some(*at) != middle).map(|(_, y)| y).collect(),
        }
    }

    /// What lies at a place of the unit frame, metres.
    #[must_use]
    pub fn at(&self, x: f32, y: f32) -> Patch {
        let [near, far] = self.edges;
        let is_line = |at: f32, width: f32| (y - at).abs() < width / 2.0;
        if y < near - 0.25 || y > far + 0.25 {
            return Patch::Slab;
        }
        if y < near || y > far {
            return Patch::Kerb;
        }
        let is_edge = is_line(near + 0.35, 0.14) || is_line(far - 0.35, 0.14);
        let is_middle = self.middle.is_some_and(|at| is_line(at - 0.14, 0.13) || is_line(at + 0.14, 0.13));
        let is_dash = x.rem_euclid(6.0) < 3.0 && self.dashed.iter().any(|&at| is_line(at, 0.15));
        if is_edge || is_middle || is_dash { Patch::Marking } else { Patch::Asphalt }
    }
}
