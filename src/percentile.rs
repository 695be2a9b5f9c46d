//! A running percentile over the last readings.

use std::collections::VecDeque;

use crate::time::{CaptureTime, Span};

/// Percentile of the last `capacity` values by nearest rank: the `⌈q·n⌉`-th smallest of n.
///
/// The window is what makes it *running*: the best power of a link falls with distance too, and a percentile over
/// every report ever seen would call a far user blocked.
#[derive(Clone, Debug)]
pub struct RunningPercentile {
    quantile: f64,
    capacity: usize,
    recent: VecDeque<f64>,
    sorted: Vec<f64>,
}

impl RunningPercentile {
    /// Values that [`RunningPercentile::p90`] looks back on: ten seconds of reports at 10 Hz.
    pub const REPORTS: usize = 100;

    /// The percentile `quantile` (0…1, clamped; NaN counts as 0) of the last `capacity` (at least one) values.
    #[must_use]
    pub fn new(quantile: f64, capacity: usize) -> Self {
        let quantile = if quantile.is_nan() { 0.0 } else { quantile.clamp(0.0, 1.0) };
        Self { quantile, capacity: capacity.max(1), recent: VecDeque::new(), sorted: Vec::new() }
    }

    /// The 90th percentile of the last [`RunningPercentile::REPORTS`] values: the reference against which a link
    /// counts as blocked.
    #[must_use]
    pub fn p90() -> Self {
        Self::new(0.9, Self::REPORTS)
    }

    /// Takes a value in and returns the percentile with it; NaN is left out. `None` while there is no value.
    pub fn push(&mut self, value: f64) -> Option<f64> {
        if !value.is_nan() {
            if self.recent.len() == self.capacity
                && let Some(oldest) = self.recent.pop_front()
            {
                let at = self.sorted.partition_point(|&x| x.total_cmp(&oldest).is_lt());
                self.sorted.remove(at);
            }
            self.recent.push_back(value);
            let at = self.sorted.partition_point(|&x| x.total_cmp(&value).is_le());
            self.sorted.insert(at, value);
        }
        self.value()
    }

    /// The percentile of what is there; `None` while nothing is.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        // A product such as 0.9 · 70 may come out a hair above the whole number that it is.
        let rank = (self.quantile * self.sorted.len() as f64 - 1e-9).ceil() as usize;
        self.sorted.get(rank.saturating_sub(1)).copied()
    }

    /// Forgets every value, as after a gap.
    pub fn clear(&mut self) {
        self.recent.clear();
        self.sorted.clear();
    }
}

/// What a link reaches when nothing stands in its way: the running 90th percentile of its best power, in dB.
///
/// Decisions and the truth they are scored against share this rule: a link counts as blocked when its best measured
/// power lies far below it.
#[derive(Clone, Debug)]
pub struct LinkReference {
    percentile: RunningPercentile,
    last: Option<CaptureTime>,
}

impl Default for LinkReference {
    fn default() -> Self {
        Self { percentile: RunningPercentile::p90(), last: None }
    }
}

impl LinkReference {
    /// After so long a silence the percentile starts anew: the user has moved on, or it is another one (sequences of a
    /// recording stand at least this far apart).
    pub const GAP: Span = Span::from_secs(2);

    /// Takes the best power of a report captured at `capture`, finite, in dB; returns the reference with it.
    pub fn push(&mut self, capture: CaptureTime, best_db: f64) -> f64 {
        if self.last.is_some_and(|last| capture - last >= Self::GAP) {
            self.percentile.clear();
        }
        self.last = self.last.max(Some(capture));
        self.percentile.push(best_db).unwrap_or(best_db)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nearest_rank_by_hand() {
        let mut percentile = RunningPercentile::new(0.9, 10);
        assert_eq!(percentile.value(), None);
        assert_eq!(percentile.push(f64::NAN), None);
        assert_eq!(percentile.push(5.0), Some(5.0));
        for value in [1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0] {
            percentile.push(value);
        }
        // ⌈0.9 · 9⌉ = 9th of 1…9, then the 9th of 1…10.
        assert_eq!(percentile.value(), Some(9.0));
        assert_eq!(percentile.push(10.0), Some(9.0));
        // The 5 that came first leaves: 1 2 3 4 6 7 8 9 10 0.
        assert_eq!(percentile.push(0.0), Some(9.0));
        percentile.clear();
        assert_eq!(percentile.value(), None);
    }

    proptest! {
        #[test]
        fn equals_a_sort_of_the_last_values(values in prop::collection::vec(-200.0..50.0f64, 1..150),
                                            capacity in 1..120usize) {
            let mut percentile = RunningPercentile::new(0.9, capacity);
            for end in 1..=values.len() {
                let found = percentile.push(values[end - 1]);
                let mut window = values[end.saturating_sub(capacity)..end].to_vec();
                window.sort_by(f64::total_cmp);
                prop_assert_eq!(found, Some(window[(9 * window.len()).div_ceil(10) - 1]));
            }
        }
    }

    #[test]
    fn a_link_reference_starts_anew_after_a_silence() {
        let at = |millis| CaptureTime::from_nanos(0) + Span::from_millis(millis);
        let mut reference = LinkReference::default();
        assert_eq!(reference.push(at(0), 10.0), 10.0);
        assert_eq!(reference.push(at(100), 0.0), 10.0);
        assert_eq!(reference.push(at(2099), 0.0), 10.0);
        assert_eq!(reference.push(at(4099), 0.0), 0.0);
    }
}
