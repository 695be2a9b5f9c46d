//! What lies on the ground: lanes and their markings, crossings, kerbs, parking bays, pavement and grass.

use super::scene::{Area, Bays, Cover, LaneKind, Scene};
use super::traffic::{Track, tracks};

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

/// Width of the kerb, metres.
const KERB_M: f64 = 0.25;
/// Side of the cells by which what lies near is found, metres.
const CELL_M: f64 = 4.0;

/// What runs along one side of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    /// The carriageway ends: a line inside it, the kerb outside.
    Kerb,
    /// A lane of the same direction: a dashed line.
    Dashed,
    /// A lane of the other direction: a line of each lane's own.
    Double,
    /// A lane of another kind: a line.
    Line,
}

/// A lane, with what runs along its left and its right side.
#[derive(Clone, Debug)]
struct Strip {
    track: Track,
    edges: [Edge; 2],
}

/// The map of the ground.
#[derive(Clone, Debug)]
pub struct Ground {
    strips: Vec<Strip>,
    areas: Vec<Area>,
    bays: Vec<Bays>,
    /// Lower corner of the cells, metres.
    corner: [f64; 2],
    /// Columns of cells.
    columns: usize,
    /// Per cell the strips that come near, as bits.
    cells: Vec<u64>,
}

impl Ground {
    /// The ground of a scene.
    #[must_use]
    pub fn new(scene: &Scene) -> Self {
        let tracks = tracks(scene);
        let strips: Vec<Strip> = (0..tracks.len())
            .filter_map(|number| {
                let track = tracks.get(number)?.clone();
                Some(Strip { edges: [1.0, -1.0].map(|side| edge(&tracks, number, side)), track })
            })
            .collect();
        let mut ground = Self {
            strips,
            areas: scene.area.clone(),
            bays: scene.bays.clone(),
            corner: [0.0; 2],
            columns: 0,
            cells: Vec::new(),
        };
        ground.sort();
        ground
    }

    /// Notes in each cell which strips come near.
    fn sort(&mut self) {
        let reach = |strip: &Strip| strip.track.width / 2.0 + KERB_M + 0.1;
        let all = || {
            self.strips.iter().enumerate().flat_map(move |(number, strip)| {
                let step = strip.track.path.walk(CELL_M / 2.0);
                step.map(move |(_, place)| (number, place.at, reach(strip) + CELL_M / 2.0))
            })
        };
        let mut low = [f64::MAX; 2];
        let mut high = [f64::MIN; 2];
        for (_, at, reach) in all() {
            for axis in 0..2 {
                low[axis] = low[axis].min(at[axis] - reach);
                high[axis] = high[axis].max(at[axis] + reach);
            }
        }
        if low[0] > high[0] {
            return;
        }
        let [columns, rows] = [0, 1].map(|axis| ((high[axis] - low[axis]) / CELL_M) as usize + 1);
        let mut cells = vec![0u64; columns * rows];
        for (number, at, reach) in all() {
            let span = |axis: usize| {
                let cell = |metres: f64| ((metres - low[axis]) / CELL_M).max(0.0) as usize;
                cell(at[axis] - reach)..=cell(at[axis] + reach)
            };
            for row in span(1) {
                for column in span(0) {
                    if let Some(cell) = cells.get_mut(row * columns + column).filter(|_| column < columns) {
                        *cell |= 1 << number;
                    }
                }
            }
        }
        self.corner = low;
        self.columns = columns;
        self.cells = cells;
    }

    /// What lies at a place of the unit frame, metres.
    #[must_use]
    pub fn at(&self, x: f32, y: f32) -> Patch {
        let point = [f64::from(x), f64::from(y)];
        let [column, row] = [0, 1].map(|axis| ((point[axis] - self.corner[axis]) / CELL_M).floor());
        let is_inside = column >= 0.0 && row >= 0.0 && (column as usize) < self.columns;
        let cell =
            if is_inside { self.cells.get(row as usize * self.columns + column as usize) } else { None };
        self.on_lanes(point, cell.copied().unwrap_or(0)).unwrap_or_else(|| self.beside_lanes(point))
    }

    fn on_lanes(&self, point: [f64; 2], near: u64) -> Option<Patch> {
        let mut found = None;
        let mut stripe = false;
        let mut left_over = near;
        while left_over != 0 {
            let number = left_over.trailing_zeros() as usize;
            left_over &= left_over - 1;
            let Some(Strip { track, edges }) = self.strips.get(number) else { continue };
            if track.kind == LaneKind::Walk {
                continue;
            }
            let [along, left] = track.path.project(point);
            if !(0.0..=track.path.length()).contains(&along) {
                continue;
            }
            let half = track.width / 2.0;
            if track.kind == LaneKind::Crossing {
                // Stripes lie along the carriageway, half a metre wide.
                stripe |= left.abs() <= half && along.rem_euclid(1.0) < 0.5;
            } else if left.abs() <= half {
                let edge = edges[usize::from(left < 0.0)];
                if track.is_stop_line(along) || is_marking(edge, half - left.abs(), along) {
                    return Some(Patch::Marking);
                }
                found = Some(Patch::Asphalt);
            } else if left.abs() <= half + KERB_M && found.is_none() {
                let edge = edges[usize::from(left < 0.0)];
                if edge == Edge::Kerb && self.cover(point) != Some(Cover::Asphalt) {
                    found = Some(Patch::Kerb);
                }
            }
        }
        if stripe && found == Some(Patch::Asphalt) { Some(Patch::Marking) } else { found }
    }

    fn cover(&self, [x, y]: [f64; 2]) -> Option<Cover> {
        let is_in = |[from, to]: [f64; 2], at: f64| (from..=to).contains(&at);
        let over = |area: &&Area| is_in(area.x_m, x) && is_in(area.y_m, y);
        self.areas.iter().rev().find(over).map(|area| area.cover)
    }

    fn beside_lanes(&self, point: [f64; 2]) -> Patch {
        if let Some(patch) = self.bays.iter().find_map(|bays| in_bays(bays, point)) {
            return patch;
        }
        match self.cover(point) {
            Some(Cover::Asphalt) => Patch::Asphalt,
            Some(Cover::Grass) => Patch::Grass,
            Some(Cover::Pavement) | None => Patch::Slab,
        }
    }
}

/// What runs along a side of a lane (1 left, −1 right), by what lies beside its middle.
fn edge(tracks: &[Track], number: usize, side: f64) -> Edge {
    let Some(track) = tracks.get(number) else { return Edge::Kerb };
    let here = track.path.place(track.path.length() / 2.0);
    let out = here.beside(side * (track.width / 2.0 + 0.3));
    for (other_number, other) in tracks.iter().enumerate() {
        let [along, left] = other.path.project(out);
        let is_in = other_number != number
            && !other.kind.is_walked()
            && left.abs() <= other.width / 2.0
            && (0.0..=other.path.length()).contains(&along);
        if is_in {
            let is_same_way = (other.path.place(along).heading - here.heading).cos() > 0.0;
            return match (other.kind == track.kind, is_same_way) {
                (false, _) => Edge::Line,
                (true, true) => Edge::Dashed,
                (true, false) => Edge::Double,
            };
        }
    }
    Edge::Kerb
}

/// Whether a line of a lane is there: `inwards` from its edge, `along` it, metres.
fn is_marking(edge: Edge, inwards: f64, along: f64) -> bool {
    match edge {
        Edge::Kerb => (inwards - 0.35).abs() < 0.07,
        Edge::Dashed => inwards < 0.075 && along.rem_euclid(6.0) < 3.0,
        Edge::Double => (inwards - 0.14).abs() < 0.065,
        Edge::Line => inwards < 0.06,
    }
}

impl Track {
    fn is_stop_line(&self, along: f64) -> bool {
        self.signal.is_some_and(|signal| (0.0..0.4).contains(&(along - signal.at)))
    }
}

/// Asphalt, and lines between the bays and at their heads.
fn in_bays(bays: &Bays, [x, y]: [f64; 2]) -> Option<Patch> {
    let (sin, cos) = bays.yaw_deg.to_radians().sin_cos();
    let (dx, dy) = (x - bays.at_m[0], y - bays.at_m[1]);
    let (along, across) = (dx * cos + dy * sin + bays.width_m / 2.0, dy * cos - dx * sin);
    let length = bays.width_m * bays.count as f64;
    if !(-0.05..=length + 0.05).contains(&along) || across.abs() > bays.depth_m / 2.0 {
        return None;
    }
    let from_line = (along / bays.width_m - (along / bays.width_m).round()).abs() * bays.width_m;
    Some(if from_line < 0.05 { Patch::Marking } else { Patch::Asphalt })
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Lane, Light};
    use super::*;

    #[test]
    fn a_street_has_edges_dashes_a_middle_and_kerbs() {
        let ground = Ground::new(&Scene::default());
        // Lanes at 6.5, 10, 13.5 and 17, 3.5 m wide: the carriageway goes from 4.75 to 18.75.
        let column = |x: f32| -> Vec<(f32, Patch)> {
            [4.4, 4.6, 5.1, 6.5, 8.25, 11.6, 11.75, 11.9, 15.25, 18.4, 18.9, 19.2]
                .map(|y| (y, ground.at(x, y)))
                .to_vec()
        };
        let kinds: Vec<Patch> = column(-149.0).into_iter().map(|(_, patch)| patch).collect();
        use Patch::{Asphalt, Kerb, Marking, Slab};
        assert_eq!(
            kinds,
            [Slab, Kerb, Marking, Asphalt, Marking, Marking, Asphalt, Marking, Asphalt, Marking, Kerb, Slab]
        );
        let dashes = (0..60).filter(|step| ground.at(*step as f32 * 0.1, 8.25) == Marking).count();
        assert_eq!(dashes, 30);
    }

    #[test]
    fn crossings_stop_lines_bays_and_grass_lie_where_they_are_put() {
        let crossing = Lane {
            kind: LaneKind::Crossing,
            points_m: vec![[0.0, 0.0], [0.0, 24.0]],
            width_m: 3.0,
            ..Lane::default()
        };
        let scene = Scene {
            lane: vec![crossing],
            light: vec![Light { lanes: vec![0], at_m: -4.0, ..Light::default() }],
            area: vec![Area { cover: Cover::Grass, x_m: [-50.0, 50.0], y_m: [30.0, 40.0] }],
            bays: vec![Bays { at_m: [20.0, 45.0], count: 3, ..Bays::default() }],
            ..Scene::default()
        };
        let ground = Ground::new(&scene);
        assert_eq!((ground.at(0.0, 6.2), ground.at(0.0, 6.7)), (Patch::Marking, Patch::Asphalt));
        assert_eq!(ground.at(0.0, 2.2), Patch::Slab, "no stripes on the pavement");
        assert_eq!((ground.at(-3.8, 6.5), ground.at(-4.2, 6.5)), (Patch::Marking, Patch::Asphalt));
        assert_eq!((ground.at(3.0, 35.0), ground.at(3.0, 29.0)), (Patch::Grass, Patch::Slab));
        assert_eq!((ground.at(20.0, 45.0), ground.at(21.3, 45.0)), (Patch::Asphalt, Patch::Marking));
        assert_eq!(ground.at(20.0, 48.0), Patch::Slab);
    }

    #[test]
    fn a_bend_has_its_kerbs_too() {
        let lane = Lane { points_m: vec![[-30.0, 10.0], [0.0, 10.0], [0.0, 40.0]], ..Lane::default() };
        let mut scene = Scene { lane: vec![lane], ..Scene::default() };
        scene.street.lanes_y_m.clear();
        let ground = Ground::new(&scene);
        // The middle of the arc of radius 8 about (-8, 18) lies at 45°.
        let at = |radius: f32| ground.at(-8.0 + radius * 0.5f32.sqrt(), 18.0 - radius * 0.5f32.sqrt());
        assert_eq!((at(8.0), at(9.85), at(10.5)), (Patch::Asphalt, Patch::Kerb, Patch::Slab));
        assert_eq!((at(9.4), at(6.15)), (Patch::Marking, Patch::Kerb));
    }
}
