//! Traffic: lanes to drive on, drivers who follow and change lanes, lights, crossings, arrivals.
//!
//! Drivers follow the intelligent driver model ([`idm`]) and change lanes by MOBIL ([`mobil`]). [`Run`] simulates one
//! sequence in fixed steps, from a seed, and keeps what everyone did in a form that can be asked at any instant.

use super::scene::{LaneKind, Scene};
use path::Path;

pub(super) mod idm;
pub(super) mod mobil;
pub(super) mod path;
mod run;
mod start;

pub(super) use run::{Run, Sample};
pub(super) use start::{Who, body};

/// A lane that is driven.
#[derive(Clone, Debug)]
pub(super) struct Track {
    pub path: Path,
    /// Metres.
    pub width: f64,
    /// m/s.
    pub limit: f64,
    pub kind: LaneKind,
    pub signal: Option<Signal>,
    /// The lane of the same direction beside it, to the left and to the right.
    pub beside: [Option<usize>; 2],
    /// Where crossings cross it; on a crossing, the lanes that it crosses, in the order of its way.
    pub conflicts: Vec<Conflict>,
    /// Arc length from which a scene counts: abreast of the unit, or the beginning of a lane with bends, metres.
    zero: f64,
    /// −1 when it is straight and goes to the left.
    pub sign: f64,
}

/// A traffic light over a lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Signal {
    /// Arc length of the stop line, metres.
    pub at: f64,
    pub green: f64,
    pub red: f64,
    /// Seconds into the cycle when the sequence begins.
    pub offset: Option<f64>,
}

impl Signal {
    pub fn is_red(&self, seconds: f64, drawn: f64) -> bool {
        let cycle = self.green + self.red;
        (seconds + self.offset.unwrap_or(drawn * cycle)).rem_euclid(cycle) >= self.green
    }
}

/// Where a crossing crosses a lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Conflict {
    /// The other one: the crossing of a lane, the lane of a crossing.
    pub other: usize,
    /// Arc length here, metres.
    pub here: f64,
    /// Arc length on the other one, metres.
    pub there: f64,
}

impl Track {
    /// Arc length of a place that a scene states, as [`Vehicle::at_m`](super::scene::Vehicle::at_m) has it.
    pub fn along(&self, stated: f64) -> f64 {
        self.zero + self.sign * stated
    }

    /// The inverse of [`Track::along`].
    pub fn stated(&self, along: f64) -> f64 {
        (along - self.zero) * self.sign
    }

    /// Fastest at which the bends within 64 m can be taken at 2 m/s² sideways, braking with 1.5 m/s² before them, m/s.
    fn bend_limit(&self, along: f64) -> f64 {
        if self.path.is_straight() {
            return f64::MAX;
        }
        let limit = |ahead: f64| {
            let curvature = self.path.place(along + ahead).curvature.abs();
            (2.0 / curvature.max(1e-6) + 2.0 * 1.5 * ahead).sqrt()
        };
        (0..=16).map(|step| limit(f64::from(step) * 4.0)).fold(f64::MAX, f64::min)
    }
}

/// Most that two lanes of one direction lie apart beyond the sum of their half widths, metres.
const SIDE_BY_SIDE_M: f64 = 0.8;

/// The lanes of a scene.
pub(super) fn tracks(scene: &Scene) -> Vec<Track> {
    let mut tracks: Vec<Track> = scene
        .lanes()
        .iter()
        .map(|lane| {
            let path = Path::new(&lane.points_m, lane.corner_radius_m);
            let is_straight = path.is_straight();
            let zero = if is_straight { path.project([0.0, 0.0])[0].clamp(0.0, path.length()) } else { 0.0 };
            // A lane straight away from the unit counts along its way, as one with bends does.
            let is_leftwards = is_straight && path.place(zero).heading.cos() < -1e-6;
            let sign = if is_leftwards { -1.0 } else { 1.0 };
            Track {
                path,
                width: lane.width_m,
                limit: lane.speed_limit_mps,
                kind: lane.kind,
                signal: None,
                beside: [None; 2],
                conflicts: Vec::new(),
                zero,
                sign,
            }
        })
        .collect();
    let sides: Vec<[Option<usize>; 2]> = (0..tracks.len()).map(|number| beside(&tracks, number)).collect();
    let conflicts: Vec<Vec<Conflict>> = (0..tracks.len()).map(|number| conflicts(&tracks, number)).collect();
    for ((track, beside), conflicts) in tracks.iter_mut().zip(sides).zip(conflicts) {
        track.beside = beside;
        track.conflicts = conflicts;
    }
    for light in &scene.light {
        for &lane in &light.lanes {
            if let Some(track) = tracks.get_mut(lane) {
                let at = track.along(light.at_m);
                let (green, red) = (light.green_s, light.red_s);
                track.signal = Some(Signal { at, green, red, offset: light.offset_s });
            }
        }
    }
    tracks
}

/// The lanes of the same direction to the left and right of one: beside it at its quarters and its middle.
fn beside(tracks: &[Track], number: usize) -> [Option<usize>; 2] {
    let mut sides = [None; 2];
    let Some(track) = tracks.get(number).filter(|track| track.kind == LaneKind::Road) else { return sides };
    for (other_number, other) in tracks.iter().enumerate() {
        if other_number == number || other.kind != LaneKind::Road {
            continue;
        }
        let at = |share: f64| {
            let here = track.path.place(track.path.length() * share);
            let [along, left] = other.path.project(here.at);
            let is_along = (0.0..=other.path.length()).contains(&along)
                && (other.path.place(along).heading - here.heading).cos() > 0.97;
            let reach = (track.width + other.width) / 2.0 + SIDE_BY_SIDE_M;
            (is_along && left.abs() < reach).then_some(left)
        };
        if let [Some(a), Some(b), Some(c)] = [0.25, 0.5, 0.75].map(at) {
            // The other one lies to the left when this one is to its right.
            if a < 0.0 && b < 0.0 && c < 0.0 {
                sides[0] = Some(other_number);
            } else if a > 0.0 && b > 0.0 && c > 0.0 {
                sides[1] = Some(other_number);
            }
        }
    }
    sides
}

fn conflicts(tracks: &[Track], number: usize) -> Vec<Conflict> {
    let Some(track) = tracks.get(number) else { return Vec::new() };
    let is_crossing = track.kind == LaneKind::Crossing;
    let mut found = Vec::new();
    for (other, crossed) in tracks.iter().enumerate() {
        let is_met = if is_crossing { !crossed.kind.is_walked() } else { crossed.kind == LaneKind::Crossing };
        if !is_met || (track.kind.is_walked() && !is_crossing) {
            continue;
        }
        // A lane with bends may cross twice: wherever the side changes.
        let places: Vec<[f64; 3]> = (track.path.walk(0.2))
            .map(|(here, place)| {
                let [there, left] = crossed.path.project(place.at);
                [here, there, left]
            })
            .collect();
        for pair in places.windows(2) {
            if let &[[here, there, left], [next, _, next_left]] = pair {
                let is_on = (0.0..=crossed.path.length()).contains(&there);
                if is_on && (left < 0.0) != (next_left < 0.0) && left.abs() < 0.5 {
                    found.push(Conflict { other, here: f64::midpoint(here, next), there });
                }
            }
        }
    }
    found.sort_by(|a, b| a.here.total_cmp(&b.here));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::scene::{Lane, Light};

    #[test]
    fn lanes_know_their_neighbours_and_the_way_they_are_counted() {
        let tracks = tracks(&Scene::default());
        let sides: Vec<_> = tracks.iter().map(|track| track.beside).collect();
        // Lanes 0 and 1 drive to the right: of lane 0, lane 1 lies to the left; of lane 3, lane 2.
        assert_eq!(sides, [[Some(1), None], [None, Some(0)], [None, Some(3)], [Some(2), None]]);
        assert_eq!((tracks[0].sign, tracks[3].sign), (1.0, -1.0));
        let place = tracks[3].path.place(tracks[3].along(12.0));
        assert!((place.at[0] - 12.0).abs() < 1e-9 && (place.at[1] - 17.0).abs() < 1e-9);
        assert!((tracks[3].stated(tracks[3].along(-7.0)) + 7.0).abs() < 1e-9);
    }

    #[test]
    fn a_crossing_meets_every_lane_and_the_other_way_round() {
        let crossing = Lane {
            kind: LaneKind::Crossing,
            points_m: vec![[5.0, 2.0], [5.0, 21.0]],
            width_m: 3.0,
            ..Lane::default()
        };
        let light = Light { lanes: vec![0], at_m: -3.0, green_s: 10.0, red_s: 5.0, offset_s: Some(0.0) };
        let scene = Scene { lane: vec![crossing], light: vec![light], ..Scene::default() };
        let tracks = tracks(&scene);
        let crossed: Vec<usize> = tracks[4].conflicts.iter().map(|conflict| conflict.other).collect();
        assert_eq!(crossed, [0, 1, 2, 3]);
        assert_eq!(tracks[2].conflicts.len(), 1);
        assert!((tracks[2].stated(tracks[2].conflicts[0].here) - 5.0).abs() < 0.2);
        let there = tracks[4].conflicts[2].here;
        assert!((tracks[2].conflicts[0].there - there).abs() < 0.3, "both know the same place");
        let signal = tracks[0].signal.unwrap();
        assert!((tracks[0].stated(signal.at) + 3.0).abs() < 1e-9);
        assert_eq!(
            [0.0, 9.9, 10.0, 14.9, 15.0].map(|s| signal.is_red(s, 0.7)),
            [false, false, true, true, false]
        );
    }

    #[test]
    fn a_lane_that_comes_back_is_crossed_twice() {
        let lane = Lane {
            points_m: vec![[-30.0, 10.0], [30.0, 10.0], [30.0, 30.0], [-30.0, 30.0]],
            ..Lane::default()
        };
        let crossing =
            Lane { kind: LaneKind::Crossing, points_m: vec![[0.0, 2.0], [0.0, 40.0]], ..Lane::default() };
        let mut scene = Scene { lane: vec![lane, crossing], ..Scene::default() };
        scene.street.lanes_y_m.clear();
        let tracks = tracks(&scene);
        let places: Vec<f64> = tracks[1].conflicts.iter().map(|conflict| conflict.here).collect();
        assert!(
            matches!(places[..], [a, b] if (a - 8.0).abs() < 0.2 && (b - 28.0).abs() < 0.2),
            "{places:?}"
        );
        assert_eq!(tracks[0].conflicts.len(), 2);
    }
}
