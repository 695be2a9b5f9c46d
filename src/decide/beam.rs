//! From probabilities to a beam and the set of beams to sweep.

use std::cmp::Ordering;

use crate::message::BeamCandidate;
use crate::sample::BeamIndex;
use crate::time::{CaptureTime, Span};

/// A beam choice: the best one and those that come next.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The most probable beam.
    pub best: BeamCandidate,
    /// The most probable beams, most probable first; ties go to the lower index.
    pub ranked: Vec<BeamCandidate>,
}

impl Choice {
    /// Ranks the `most` (at least one) most probable beams, given one finite probability per beam. `None` of no beams.
    #[must_use]
    pub fn from_probabilities(probabilities: &[f32], most: usize) -> Option<Self> {
        let mut ranked: Vec<(u16, f32)> = (0u16..=u16::MAX).zip(probabilities.iter().copied()).collect();
        let likelier =
            |a: &(u16, f32), b: &(u16, f32)| -> Ordering { b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)) };
        let wanted = most.max(1);
        if wanted < ranked.len() {
            ranked.select_nth_unstable_by(wanted, likelier);
            ranked.truncate(wanted);
        }
        ranked.sort_unstable_by(likelier);
        let candidate =
            |(index, p): (u16, f32)| BeamCandidate { index: BeamIndex(index), probability: f64::from(p) };
        let ranked: Vec<BeamCandidate> = ranked.into_iter().map(candidate).collect();
        ranked.first().copied().map(|best| Self { best, ranked })
    }

    /// The indices of the first `most` beams, best first.
    #[must_use]
    pub fn first(&self, most: usize) -> Vec<BeamIndex> {
        self.ranked.iter().take(most).map(|candidate| candidate.index).collect()
    }
}

/// The last choice that rested on a frame.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub choice: Choice,
    pub at: CaptureTime,
}

impl Held {
    /// How old the choice is at `t`; `None` past its time to live, or when it lies ahead of `t` (the clock was set
    /// back).
    pub fn age(&self, t: CaptureTime, time_to_live: Span) -> Option<Span> {
        Some(t - self.at).filter(|&age| age >= Span::ZERO && age <= time_to_live)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(choice: &Choice) -> Vec<u16> {
        choice.ranked.iter().map(|candidate| candidate.index.0).collect()
    }

    #[test]
    fn ties_go_to_the_lower_index() {
        let choice = Choice::from_probabilities(&[0.1, 0.3, 0.1, 0.3, 0.2], 4).unwrap();
        assert_eq!(indices(&choice), [1, 3, 4, 0]);
        assert_eq!(choice.best.index, BeamIndex(1));
        assert!((choice.best.probability - 0.3).abs() < 1e-6);
    }

    #[test]
    fn it_ranks_as_many_as_asked_for_and_the_codebook_allows() {
        assert_eq!(indices(&Choice::from_probabilities(&[0.4, 0.6], 5).unwrap()), [1, 0]);
        assert_eq!(indices(&Choice::from_probabilities(&[0.4, 0.6], 0).unwrap()), [1]);
        assert_eq!(indices(&Choice::from_probabilities(&[0.4, 0.6], 2).unwrap()), [1, 0]);
        assert_eq!(Choice::from_probabilities(&[], 3), None);
    }
}
