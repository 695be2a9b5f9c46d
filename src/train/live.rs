//! What a unit decided live, asked by the same measures as held-out examples ([`super::score`]).
//!
//! A decision answers the example of the same instant and link. It differs from what [`super::evaluate`] gives for the same
//! network on the same recording where the unit did:
//!
//! * it answers with what it published, which may be a choice that it held while the model said nothing;
//! * it names the beams that are worth a sweep: what it named is taken for all there is;
//! * what it heard of the sequence before counts, where its pipeline looks further back than the two seconds between them;
//! * a frame that it dropped, or for which it knew nothing, is no answer, for nobody;
//! * it says what is now and, of blockages, within horizons: beams of later instants are never published, and not asked;
//! * its probabilities are those that were scaled: there are none from before, and no weights of a gate;
//! * its leads count from the issue of the message: the frame's close in the recording's time, and what the model and the
//!   decision took on the real clock.
//!
//! `rows` of each question says how many were answered; [`super::evaluate`] answers all that the recording has.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use super::data::DataSet;
use super::evaluate::{Answers, Row};
use crate::message::Message;
use crate::model::tasks::Task;
use crate::runtime::{Decided, OnDecided};
use crate::sample::UeId;
use crate::time::{CaptureTime, Span};

/// Score of what was not named.
const UNNAMED: f32 = -1e9;
/// Least and most probability of a hazard: beyond, its score has no finite value.
const HAZARDS: [f64; 2] = [1e-9, 1.0 - 1e-9];

/// What was said at an instant of a link (none: of the unit) about a task.
type Said = HashMap<(CaptureTime, Option<UeId>, Task), (Vec<f32>, Span)>;

/// Listens to what a unit decides.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    said: Arc<Mutex<Said>>,
    beams: usize,
    activities: usize,
}

impl Witness {
    /// One of a unit whose codebook has `beams` beams, and whose model knows `activities`.
    #[must_use]
    pub fn new(beams: usize, activities: usize) -> Self {
        Self { said: Arc::default(), beams, activities }
    }

    /// What is to be called with each frame.
    #[must_use]
    pub fn listener(&self) -> OnDecided {
        let witness = self.clone();
        Box::new(move |decided| witness.hear(decided))
    }

    fn hear(&self, decided: &Decided<'_>) {
        let time = decided.frame.time;
        let delay = decided.frame.closed.unix - time + Span::from(decided.took);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for message in decided.messages {
            let (ue, task, scores) = match message {
                Message::Beam(beam) => {
                    let named =
                        beam.sweep.iter().map(|named| (usize::from(named.index.0), named.probability));
                    (Some(beam.ue.clone()), Task::Beam, named_scores(self.beams, named))
                }
                Message::Blockage(blockage) => {
                    let within = blockage.horizons.iter().map(|horizon| horizon.probability);
                    (Some(blockage.ue.clone()), Task::Blockage, hazard_scores(within))
                }
                Message::Activity(activity) => {
                    let named = activity.ranked.iter().map(|named| (named.index as usize, named.probability));
                    (None, Task::Activity, named_scores(self.activities, named))
                }
                Message::Pose(pose) => {
                    // The camera's axes to the unit's.
                    let joints =
                        pose.joints_m.iter().flat_map(|[x, y, z]| [*x as f32, *z as f32, -*y as f32]);
                    (None, Task::Pose, joints.collect())
                }
                Message::Score(_) | Message::Health(_) | Message::Frame(_) => continue,
            };
            if !scores.is_empty() {
                said.insert((time, ue, task), (scores, delay));
            }
        }
    }

    /// The answers to the examples of the recording that the unit ran on.
    #[must_use]
    pub fn answers(&self, data: &DataSet) -> Answers {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tasks: BTreeMap<Task, Vec<Row>> = BTreeMap::new();
        for (number, example) in (0u32..).zip(&data.examples) {
            for &task in &data.tasks {
                let ue = data.links.get(example.link as usize).filter(|_| !task.is_of_unit()).cloned();
                if let Some((scores, delay)) = said.get(&(example.time, ue, task)) {
                    let (scores, delay) = (scores.clone(), *delay);
                    tasks.entry(task).or_default().push(Row {
                        example: number,
                        scores,
                        gate: Vec::new(),
                        delay,
                    });
                }
            }
        }
        Answers { tasks, losses: BTreeMap::new() }
    }
}

/// Scores whose softmax are the probabilities of what was named, of 1 in all; none, where nothing was.
fn named_scores(classes: usize, named: impl Iterator<Item = (usize, f64)>) -> Vec<f32> {
    let mut scores = vec![UNNAMED; classes];
    let mut any = false;
    for (class, probability) in named {
        if let Some(score) = scores.get_mut(class) {
            *score = (probability.ln() as f32).max(UNNAMED);
            any = true;
        }
    }
    if any { scores } else { Vec::new() }
}

/// Scores of the hazards of probabilities within horizons: the inverse of [`crate::model::heads::within_horizons`].
fn hazard_scores(within: impl Iterator<Item = f64>) -> Vec<f32> {
    let mut clear = 1.0;
    let hazard = |within: f64| {
        let left = (1.0 - within).clamp(0.0, clear);
        let hazard = if clear > 0.0 { 1.0 - left / clear } else { 0.0 };
        clear = left;
        let hazard = hazard.clamp(HAZARDS[0], HAZARDS[1]);
        (hazard / (1.0 - hazard)).ln() as f32
    };
    within.map(hazard).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::heads::{softmax, within_horizons};

    #[test]
    fn what_was_said_comes_back() {
        let within = [0.1, 0.1, 0.4, 0.95];
        let back = within_horizons(&hazard_scores(within.into_iter()));
        for (back, said) in back.iter().zip(within) {
            assert!((f64::from(*back) - said).abs() < 1e-6, "{back} of {said}");
        }
        // Certain from the first horizon on.
        let certain = within_horizons(&hazard_scores([1.0, 1.0].into_iter()));
        assert!(certain.iter().all(|p| *p > 0.999_999));
        let scores = named_scores(4, [(2, 0.5), (0, 0.25), (9, 0.1)].into_iter());
        let shares = softmax(&scores);
        assert!(
            (shares[2] - 2.0 / 3.0).abs() < 1e-6 && (shares[0] - 1.0 / 3.0).abs() < 1e-6 && shares[1] == 0.0
        );
        assert!(named_scores(4, std::iter::empty()).is_empty());
    }
}
