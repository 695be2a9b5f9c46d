//! Simple predictors, which every figure stands beside: persistence, extrapolation, nearest neighbours of the last two beams,
//! of the position, and the commonest answer. What they have to know of the training part is kept beside a checkpoint.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::data::{DataSet, Example, Part};
use crate::infer::spread::{settle, steps};
use crate::model::{Input, MODALITIES};
use crate::time::Span;

/// Neighbours that are asked.
const NEIGHBOURS: usize = 15;
/// Training examples that are kept at most, evenly taken.
const KEPT: usize = 4000;

/// What is known of one training example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    /// The best beams of the last two reports, the older one first.
    past: Option<[u32; 2]>,
    /// x, y of its position, in the network's unit.
    place: Option<[f32; 2]>,
    /// The best beam at each instant.
    beams: Vec<Option<u32>>,
    /// Whether the link is blocked within each horizon.
    blocked: Vec<Option<bool>>,
}

/// What simple predictors know of the training part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Simple {
    known: Vec<Known>,
    /// The commonest beam at each instant.
    beams: Vec<Option<u32>>,
    /// Share of the examples that are blocked within each horizon.
    blocked: Vec<Option<f64>>,
    /// The commonest activity.
    activity: Option<u32>,
    /// The mean pose.
    pose: Option<Vec<[f32; 3]>>,
}

fn counts(labels: impl Iterator<Item = u32>) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    labels.for_each(|label| *counts.entry(label).or_default() += 1);
    counts
}

fn commonest(labels: impl Iterator<Item = u32>) -> Option<u32> {
    let counts = counts(labels);
    let most = *counts.values().max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(label, _)| label)
}

/// A score per beam: how often it is among `labels`; none where there are no labels.
fn votes(beams: usize, labels: impl Iterator<Item = u32>) -> Option<Vec<f64>> {
    let counts = counts(labels);
    let mut scores = vec![0.0; beams];
    for (&beam, &count) in &counts {
        *scores.get_mut(beam as usize)? = count as f64;
    }
    (!counts.is_empty()).then_some(scores)
}

fn share(labels: impl Iterator<Item = bool>) -> Option<f64> {
    let (mut yes, mut all) = (0usize, 0usize);
    for label in labels {
        yes += usize::from(label);
        all += 1;
    }
    (all > 0).then(|| yes as f64 / all as f64)
}

/// Whether the one `at` a place among `all` is kept: those at which the count of what is kept grows.
const fn is_kept(at: usize, all: usize) -> bool {
    all <= KEPT || (at + 1) * KEPT / all > at * KEPT / all
}

/// The best beams of the last two reports before an example.
fn past(data: &DataSet, example: &Example) -> Option<[u32; 2]> {
    match example.past.as_slice() {
        [.., a, b] => Some([data.reports.get(*a as usize)?.best, data.reports.get(*b as usize)?.best]),
        _ => None,
    }
}

/// Where its user says it is: x, y in the network's unit.
fn place(data: &DataSet, example: &Example) -> Option<[f32; 2]> {
    let last = example.places.len().checked_sub(MODALITIES)? + Input::Position.place();
    let place = (*example.places.get(last)?)?;
    match data.sources.get(place.reading as usize)? {
        super::data::Source::Position([x, y, ..]) => Some([*x, *y]),
        _ => None,
    }
}

impl Simple {
    /// Learns from the training part of data sets.
    #[must_use]
    pub fn learn(parts: &[Part]) -> Self {
        let examples: Vec<(&DataSet, &Example)> = parts
            .iter()
            .flat_map(|part| {
                let train = part.split.train.iter();
                train.filter_map(|&number| Some((&part.data, part.data.examples.get(number as usize)?)))
            })
            .collect();
        let best = |data: &DataSet, example: &Example| -> Vec<Option<u32>> {
            let instants = 0..data.shape.sizes.instants;
            instants.map(|instant| data.measured(example, instant).map(|report| report.best)).collect()
        };
        let of_ue: Vec<Known> = examples
            .iter()
            .filter(|(_, example)| !example.truth.beams.is_empty() || !example.truth.blocked.is_empty())
            .map(|(data, example)| Known {
                past: past(data, example),
                place: place(data, example),
                beams: best(data, example),
                blocked: example.truth.blocked.clone(),
            })
            .collect();
        let instants = of_ue.iter().map(|known| known.beams.len()).max().unwrap_or(0);
        let horizons = of_ue.iter().map(|known| known.blocked.len()).max().unwrap_or(0);
        let beams = (0..instants)
            .map(|at| commonest(of_ue.iter().filter_map(|known| known.beams.get(at).copied().flatten())));
        let blocked = (0..horizons)
            .map(|at| share(of_ue.iter().filter_map(|known| known.blocked.get(at).copied().flatten())));
        let (beams, blocked) = (beams.collect(), blocked.collect());
        let all = of_ue.len();
        let known = of_ue.into_iter().enumerate().filter(|(at, _)| is_kept(*at, all));
        Self {
            known: known.map(|(_, known)| known).collect(),
            beams,
            blocked,
            activity: commonest(examples.iter().filter_map(|(_, example)| example.truth.activity)),
            pose: mean_pose(parts),
        }
    }

    /// A score per beam: how common it is at an instant.
    #[must_use]
    pub fn common_beams(&self, beams: usize, instant: usize) -> Option<Vec<f64>> {
        let first = self.beams.get(instant).copied().flatten()?;
        let known = self.known.iter().filter_map(|known| known.beams.get(instant).copied().flatten());
        let mut scores = votes(beams, known)?;
        // Of those that are not kept, too.
        let most = scores.iter().copied().fold(0.0, f64::max);
        *scores.get_mut(first as usize)? = most + 1.0;
        Some(scores)
    }

    /// Share of the training examples that are blocked within a horizon.
    #[must_use]
    pub fn prevalence(&self, horizon: usize) -> Option<f64> {
        self.blocked.get(horizon).copied().flatten()
    }

    /// The commonest activity.
    #[must_use]
    pub const fn activity(&self) -> Option<u32> {
        self.activity
    }

    /// The mean pose.
    #[must_use]
    pub fn pose(&self) -> Option<&[[f32; 3]]> {
        self.pose.as_deref()
    }

    /// A score per beam: how common it is among the training examples whose last two beams are nearest (sum of the steps
    /// between them, around the codebook where it is a circle).
    #[must_use]
    pub fn by_past(&self, data: &DataSet, example: &Example, instant: usize) -> Option<Vec<f64>> {
        let [a, b] = past(data, example)?;
        let (beams, circular) = (data.shape.sizes.beams, data.shape.codebook.circular);
        let off = |a: u32, b: u32| steps(a as usize, b as usize, beams, circular).unsigned_abs() as f64;
        let distance = |known: &Known| known.past.map(|[x, y]| off(a, x) + off(b, y));
        let near = self.nearest(distance);
        votes(data.shape.sizes.beams, near.filter_map(|known| known.beams.get(instant).copied().flatten()))
    }

    /// A score per beam: how common it is among the training examples whose positions are nearest.
    #[must_use]
    pub fn by_place(&self, data: &DataSet, example: &Example, instant: usize) -> Option<Vec<f64>> {
        let near = self.near(place(data, example)?);
        votes(data.shape.sizes.beams, near.filter_map(|known| known.beams.get(instant).copied().flatten()))
    }

    /// Share of the training examples whose positions are nearest that are blocked within a horizon.
    #[must_use]
    pub fn blocked_by_place(&self, data: &DataSet, example: &Example, horizon: usize) -> Option<f64> {
        let near = self.near(place(data, example)?);
        share(near.filter_map(|known| known.blocked.get(horizon).copied().flatten()))
    }

    fn near(&self, [x, y]: [f32; 2]) -> impl Iterator<Item = &Known> {
        self.nearest(move |known: &Known| known.place.map(|[a, b]| f64::from((a - x).hypot(b - y))))
    }

    fn nearest(&self, distance: impl Fn(&Known) -> Option<f64>) -> impl Iterator<Item = &Known> {
        let mut all: Vec<(f64, usize)> =
            self.known.iter().enumerate().filter_map(|(at, known)| Some((distance(known)?, at))).collect();
        let count = NEIGHBOURS.min(all.len());
        if count > 0 {
            all.select_nth_unstable_by(count - 1, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        }
        all.truncate(count);
        all.into_iter().filter_map(|(_, at)| self.known.get(at))
    }
}

/// A score per beam: its power in the last report, of the strongest one.
#[must_use]
pub fn persistence(data: &DataSet, example: &Example) -> Option<Vec<f64>> {
    let report = data.reports.get(*example.past.last()? as usize)?;
    let strongest = *report.linear.get(report.best as usize)?;
    let mut scores: Vec<f64> = report.linear.iter().map(|power| (power / strongest).max(0.0)).collect();
    scores.resize(data.shape.sizes.beams, 0.0);
    Some(scores)
}

/// A score per beam: how near it is to the line through the best beams of the last two reports, at an instant `ahead` of the
/// example's.
#[must_use]
pub fn extrapolation(data: &DataSet, example: &Example, ahead: Span) -> Option<Vec<f64>> {
    let [.., a, b] = example.past.as_slice() else { return persistence(data, example) };
    let (a, b) = (data.reports.get(*a as usize)?, data.reports.get(*b as usize)?);
    let seconds = (b.capture - a.capture).as_secs_f64();
    let (beams, circular) = (data.shape.sizes.beams, data.shape.codebook.circular);
    let steps = steps(a.best as usize, b.best as usize, beams, circular) as f64;
    let wait = (example.time + ahead - b.capture).as_secs_f64();
    let moved = if seconds > 0.0 { steps * wait / seconds } else { 0.0 };
    let reached = f64::from(b.best) + moved;
    // Half a beam between two goes to the higher one.
    let first = settle(reached, beams, circular);
    let round = beams as f64;
    let reached =
        if circular { reached.rem_euclid(round) } else { reached.clamp(0.0, (round - 1.0).max(0.0)) };
    let score = |beam: usize| {
        let straight = (beam as f64 - reached).abs();
        let off = if circular { straight.min(round - straight) } else { straight };
        1.0 / (1.0 + off + f64::from(u8::from(beam != first)))
    };
    Some((0..beams).map(score).collect())
}

/// The poses that are learned from.
fn poses(parts: &[Part]) -> impl Iterator<Item = &Vec<[f32; 3]>> {
    parts.iter().flat_map(|part| {
        let of = |&number: &u32| part.data.examples.get(number as usize)?.truth.pose.as_ref();
        part.split.train.iter().filter_map(of)
    })
}

/// The mean of the poses that are learned from; none where there are none.
pub(super) fn mean_pose(parts: &[Part]) -> Option<Vec<[f32; 3]>> {
    let joints = poses(parts).next()?.len();
    let (mut sums, mut count) = (vec![[0f64; 3]; joints], 0.0);
    for pose in poses(parts) {
        count += 1.0;
        for (sum, place) in sums.iter_mut().flatten().zip(pose.iter().flatten()) {
            *sum += f64::from(*place);
        }
    }
    (joints > 0).then(|| sums.into_iter().map(|sum| sum.map(|sum| (sum / count) as f32)).collect())
}

/// Mean squared error of the mean pose, m²; none where there are no poses.
pub(super) fn error_of_mean_pose(parts: &[Part]) -> Option<f64> {
    let mean = mean_pose(parts)?;
    let (mut sum, mut count) = (0.0, 0.0);
    for pose in poses(parts) {
        for (mean, place) in mean.iter().flatten().zip(pose.iter().flatten()) {
            sum += f64::from(mean - place).powi(2);
            count += 1.0;
        }
    }
    Some(sum / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_may_be_are_kept_and_evenly() {
        let kept = |all: usize| (0..all).filter(|&at| is_kept(at, all)).count();
        assert_eq!([0, 1, KEPT, KEPT + 1, 3 * KEPT - 1].map(kept), [0, 1, KEPT, KEPT, KEPT]);
        let places: Vec<usize> = (0..2 * KEPT + 1).filter(|&at| is_kept(at, 2 * KEPT + 1)).collect();
        assert!(places.windows(2).all(|two| (2..=3).contains(&(two[1] - two[0]))));
    }
}
