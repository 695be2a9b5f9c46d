//! The median period of a stream, robust to dropped samples and sequence gaps.

use std::collections::VecDeque;

use crate::time::{CaptureTime, Span};

/// Intervals that the median is taken over.
const INTERVALS: usize = 16;

/// Median of the last 16 capture intervals.
///
/// Captures are kept sorted, so that the order in which they arrived does not matter.
#[derive(Clone, Debug)]
pub(super) struct Period {
    captures: VecDeque<CaptureTime>,
    median: Option<Span>,
    shortest: Span,
    longest: Span,
}

impl Period {
    /// `shortest` and `longest` bound what is believed: a forged stamp must not make the tick race or stand still.
    pub(super) fn new(shortest: Span, longest: Span) -> Self {
        Self { captures: VecDeque::with_capacity(INTERVALS + 2), median: None, shortest, longest }
    }

    pub(super) fn observe(&mut self, capture: CaptureTime) {
        let index = self.captures.partition_point(|&known| known < capture);
        if self.captures.get(index) == Some(&capture) {
            return;
        }
        self.captures.insert(index, capture);
        if self.captures.len() > INTERVALS + 1 {
            self.captures.pop_front();
        }
        self.median = self.compute();
    }

    /// The median, once two captures are known.
    pub(super) const fn median(&self) -> Option<Span> {
        self.median
    }

    pub(super) fn reset(&mut self) {
        self.captures.clear();
        self.median = None;
    }

    fn compute(&self) -> Option<Span> {
        let mut intervals = [Span::ZERO; INTERVALS];
        let mut count = 0;
        let later = self.captures.iter().skip(1);
        for ((slot, &earlier), &later) in intervals.iter_mut().zip(&self.captures).zip(later) {
            *slot = later - earlier;
            count += 1;
        }
        let known = intervals.get_mut(..count)?;
        known.sort_unstable();
        // The lower median: with few intervals one gap must not stretch the period.
        let median = *known.get(count.checked_sub(1)? / 2)?;
        Some(median.clamp(self.shortest, self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period_of(captures: &[i64]) -> Option<i64> {
        let mut period = Period::new(Span::from_millis(10), Span::from_millis(1000));
        for &capture in captures {
            period.observe(CaptureTime::from_nanos(capture * 1_000_000));
        }
        period.median().map(|span| span.as_nanos() / 1_000_000)
    }

    #[test]
    fn needs_two_captures() {
        assert_eq!(period_of(&[]), None);
        assert_eq!(period_of(&[5]), None);
        assert_eq!(period_of(&[5, 105]), Some(100));
    }

    #[test]
    fn a_gap_and_a_drop_do_not_move_it() {
        assert_eq!(period_of(&[0, 100, 200, 400, 500, 5000, 5100]), Some(100));
        assert_eq!(period_of(&[0, 2000, 2100]), Some(100));
    }

    #[test]
    fn the_order_of_arrival_does_not_matter() {
        assert_eq!(period_of(&[300, 100, 0, 200]), period_of(&[0, 100, 200, 300]));
        assert_eq!(period_of(&[0, 0, 100, 100]), Some(100));
    }

    #[test]
    fn follows_a_change_of_rate_and_forgets_the_rest() {
        let captures: Vec<i64> = (0..20).map(|i| i * 100).chain((0..20).map(|i| 2000 + i * 50)).collect();
        assert_eq!(period_of(&captures), Some(50));
    }

    #[test]
    fn is_bounded() {
        assert_eq!(period_of(&[0, 1, 2, 3]), Some(10));
        assert_eq!(period_of(&[0, 9000]), Some(1000));
    }
}
