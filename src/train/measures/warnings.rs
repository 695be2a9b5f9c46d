//! Warnings of blockages: how early they come, how many blockages they miss, how often nothing follows.
//!
//! A link is looked at instant by instant. Its instants fall into *stretches*: where two that follow each other lie farther
//! apart than a gap, nothing is concluded from one to the other.
//!
//! * An *onset* is a blocked instant that follows a clear one of the same stretch.
//! * A *warning* is a clear instant at which the probability of a blockage within the horizon is at least one half: whoever
//!   calls a link blocked that is blocked warns of nothing.
//! * A *run* is as many warnings in a row as there are in a stretch.
//!
//! An onset is *warned of* when a run leads up to it, that is, when the instant right before it is a warning; its *lead time*
//! is from when the first instant of that run was spoken of to the onset, however long that is (of a live unit, from the issue
//!   of the message; a lead that would be negative is 0). A run that leads up to no onset and after whose
//! last instant no blockage comes within the horizon is a *false alarm*. One after which a blockage does come, though the
//! warning had been taken back by then, is neither; so is one of which nobody knows what follows, because the recording ends.
//!
//! A run is a false alarm once, however long it is, and whoever always warns has none: the share of the clear instants that
//! are warnings stands beside them.
//!
//! The time observed is that between the instants of each stretch, blocked or not, and one period for the last of each.
//!
//! The running score of live decisions ([`crate::decide`]) counts otherwise: its warnings are held by a life cycle of several
//! frames, may begin after the onset (a lead of 0), and its mean lead is over blockages, not their median.

use super::MeasureError;
use crate::time::{CaptureTime, Span};

/// Probability from which a link is warned of.
pub const WARN_AT: f64 = 0.5;
/// Periods between two instants beyond which nothing is concluded from one to the other: two that are missing.
const GAP_PERIODS: f64 = 2.5;

/// What is known of a link at an instant, and what was said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Instant {
    /// When.
    pub time: CaptureTime,
    /// When it was said what is said of it: from then on a lead counts.
    pub said: CaptureTime,
    /// Whether the link is blocked at it.
    pub blocked: bool,
    /// Whether it is blocked then or at any time until the horizon; `None` where nobody knows.
    pub within: Option<bool>,
    /// Probability that was given to that.
    pub probability: f64,
}

/// The median time between instants of a link that follow each other, over all links; `None` where none follows another.
#[must_use]
pub fn period(links: &[Vec<Instant>]) -> Option<Span> {
    let pairs = links.iter().flat_map(|link| link.iter().zip(link.iter().skip(1)));
    let mut intervals: Vec<Span> =
        pairs.map(|(a, b)| b.time - a.time).filter(|interval| *interval > Span::ZERO).collect();
    intervals.sort_unstable();
    intervals.get(intervals.len().checked_sub(1)? / 2).copied()
}

/// How warnings met blockages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Warnings {
    /// Onsets.
    pub onsets: usize,
    /// Lead time of each onset that was warned of, ms.
    pub leads_ms: Vec<f64>,
    /// Runs that led nowhere.
    pub false_alarms: usize,
    /// Clear instants.
    pub clear: usize,
    /// Those of them that are warnings.
    pub warned: usize,
    /// Time that the links were looked at.
    pub observed: Span,
}

impl Warnings {
    /// Those of one link; `instants` in the order of time, `period` apart as a rule.
    #[must_use]
    pub fn of_link(instants: &[Instant], period: Span) -> Self {
        let gap = Span::from_millis_f64(GAP_PERIODS * period.as_millis_f64());
        let mut all = Self::default();
        let mut rest = instants;
        while !rest.is_empty() {
            let breaks = rest.iter().zip(rest.iter().skip(1)).position(|(a, b)| b.time - a.time > gap);
            let (stretch, after) = rest.split_at(breaks.map_or(rest.len(), |last| last + 1));
            all.add_stretch(stretch);
            all.observed += period;
            rest = after;
        }
        all
    }

    fn add_stretch(&mut self, stretch: &[Instant]) {
        if let (Some(first), Some(last)) = (stretch.first(), stretch.last()) {
            self.observed += last.time - first.time;
        }
        let mut run: Option<(&Instant, &Instant)> = None;
        let mut was_clear = false;
        for instant in stretch {
            self.clear += usize::from(!instant.blocked);
            self.warned += usize::from(!instant.blocked && instant.probability >= WARN_AT);
            if instant.blocked {
                if was_clear {
                    self.onsets += 1;
                    let lead =
                        run.map(|(first, _)| (instant.time - first.said).max(Span::ZERO).as_millis_f64());
                    self.leads_ms.extend(lead);
                }
                // It led up to the onset.
                run = None;
            } else if instant.probability >= WARN_AT {
                run = Some((run.map_or(instant, |(first, _)| first), instant));
            } else {
                self.end(run.take());
            }
            was_clear = !instant.blocked;
        }
        self.end(run);
    }

    /// Judges a run after which no onset was seen.
    fn end(&mut self, run: Option<(&Instant, &Instant)>) {
        self.false_alarms += usize::from(run.is_some_and(|(_, last)| last.within == Some(false)));
    }

    /// Adds those of another link.
    pub fn add(&mut self, other: &Self) {
        self.onsets += other.onsets;
        self.leads_ms.extend(&other.leads_ms);
        self.false_alarms += other.false_alarms;
        self.clear += other.clear;
        self.warned += other.warned;
        self.observed += other.observed;
    }

    /// Median lead time over the onsets that were warned of, ms.
    ///
    /// # Errors
    /// [`MeasureError::Empty`] where none was.
    pub fn lead_time_ms(&self) -> Result<f64, MeasureError> {
        super::median(&self.leads_ms).map_err(|_| MeasureError::Empty { measure: "lead time" })
    }

    /// Share of the onsets that were warned of, 0 to 1.
    ///
    /// # Errors
    /// [`MeasureError::Empty`] where there is no onset.
    pub fn onsets_warned(&self) -> Result<f64, MeasureError> {
        if self.onsets == 0 {
            return Err(MeasureError::Empty { measure: "onsets warned" });
        }
        Ok(self.leads_ms.len() as f64 / self.onsets as f64)
    }

    /// Share of the clear instants that are warnings, 0 to 1.
    ///
    /// # Errors
    /// [`MeasureError::Empty`] where none is clear.
    pub fn clear_warned(&self) -> Result<f64, MeasureError> {
        if self.clear == 0 {
            return Err(MeasureError::Empty { measure: "clear time warned" });
        }
        Ok(self.warned as f64 / self.clear as f64)
    }

    /// False alarms per minute that a link was looked at.
    ///
    /// # Errors
    /// [`MeasureError::Empty`] where none was looked at.
    pub fn false_alarms_per_minute(&self) -> Result<f64, MeasureError> {
        if self.observed <= Span::ZERO {
            return Err(MeasureError::Empty { measure: "false alarms per minute" });
        }
        Ok(60.0 * self.false_alarms as f64 / self.observed.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Span = Span::from_millis(100);

    fn at(ms: i64) -> CaptureTime {
        CaptureTime::from_nanos(0) + Span::from_millis(ms)
    }

    /// One instant per letter, 100 ms apart, of which a space leaves one out: `.` clear, `w` clear and warned, `#` blocked,
    /// `!` blocked and said to be. Blocked within 300 ms is what the letters say, unknown behind the last of them.
    fn link(letters: &str) -> Vec<Instant> {
        let letters: Vec<char> = letters.chars().collect();
        let blocked = |letter: char| matches!(letter, '#' | '!');
        (0..letters.len())
            .filter(|&place| letters[place] != ' ')
            .map(|place| {
                let ahead: Vec<char> = letters[place..].iter().copied().take(4).collect();
                let any = ahead.iter().any(|&letter| blocked(letter));
                Instant {
                    time: at(100 * place as i64),
                    said: at(100 * place as i64),
                    blocked: blocked(letters[place]),
                    within: if any || ahead.len() == 4 { Some(any) } else { None },
                    probability: if matches!(letters[place], 'w' | '!') { WARN_AT } else { 0.49 },
                }
            })
            .collect()
    }

    /// Onsets, lead times, false alarms.
    fn count(letters: &str) -> (usize, Vec<f64>, usize) {
        let found = Warnings::of_link(&link(letters), PERIOD);
        (found.onsets, found.leads_ms, found.false_alarms)
    }

    #[test]
    fn lead_counts_from_the_first_warning_of_the_run_that_leads_up_to_the_onset() {
        assert_eq!(count("..ww##.."), (1, vec![200.0], 0));
        // No cap: the run is longer than the horizon.
        assert_eq!(count(".wwwwwww#"), (1, vec![700.0], 0));
        // Two blockages with a run each; one without.
        assert_eq!(count("..w#.ww##...#"), (3, vec![100.0, 200.0], 0));
        // Right after a blockage the run begins anew.
        assert_eq!(count(".w##ww#"), (2, vec![100.0, 200.0], 0));
    }

    #[test]
    fn saying_blocked_while_it_is_warns_of_nothing() {
        assert_eq!(count("..!!!....."), (1, vec![], 0));
        assert_eq!(count("!!!!"), (0, vec![], 0));
        // Blocked from the beginning: nobody saw it come.
        assert_eq!(count("##..."), (0, vec![], 0));
    }

    #[test]
    fn a_run_after_which_nothing_comes_is_one_false_alarm() {
        assert_eq!(count("..www......"), (0, vec![], 1));
        assert_eq!(count(".w..w......"), (0, vec![], 2));
        assert_eq!(count("#w......"), (0, vec![], 1));
        // Taken back before the blockage came, within the horizon: not warned of, and no false alarm.
        assert_eq!(count("..w.#..."), (1, vec![], 0));
        assert_eq!(count("..w..#.."), (1, vec![], 0));
        // Beyond the horizon it is one.
        assert_eq!(count("..w...#."), (1, vec![], 1));
    }

    #[test]
    fn what_follows_the_last_instant_nobody_knows() {
        assert_eq!(count("......ww"), (0, vec![], 0));
        assert_eq!(count("....w..."), (0, vec![], 1), "three more are the whole horizon");
        assert_eq!(count(".....w.."), (0, vec![], 0));
    }

    #[test]
    fn two_missing_instants_are_a_gap_and_one_is_none() {
        assert_eq!(count("..w w#"), (1, vec![300.0], 0));
        // Behind the gap the run begins anew, and the run before it is judged by what is known.
        assert_eq!(count("..ww  w#"), (1, vec![100.0], 1));
        // A blocked instant behind a gap is no onset.
        assert_eq!(count("..ww   ##"), (0, vec![], 1));
        assert_eq!(count("...w  #"), (0, vec![], 0), "blocked 300 ms later: no false alarm");
    }

    #[test]
    fn time_is_what_was_looked_at() {
        let observed = |letters: &str| Warnings::of_link(&link(letters), PERIOD).observed.as_millis_f64();
        assert_eq!(observed("...##"), 500.0);
        assert_eq!(observed(". ."), 300.0);
        assert_eq!(observed("..   .."), 400.0);
        assert_eq!(observed("."), 100.0);
        assert_eq!(observed(""), 0.0);
    }

    #[test]
    fn links_add_up() {
        let mut all = Warnings::of_link(&link("..ww#w....."), PERIOD);
        all.add(&Warnings::of_link(&link(".w#"), PERIOD));
        all.add(&Warnings::of_link(&link("....#"), PERIOD));
        assert_eq!((all.onsets, all.false_alarms), (3, 1));
        assert_eq!(all.lead_time_ms(), Ok(150.0));
        assert_eq!(all.onsets_warned(), Ok(2.0 / 3.0));
        // Of 10, 2 and 4 clear instants 3, 1 and none.
        assert_eq!(all.clear_warned(), Ok(4.0 / 16.0));
        // 1100 + 300 + 500 ms.
        assert!((all.false_alarms_per_minute().unwrap() - 60.0 / 1.9).abs() < 1e-9);
    }

    #[test]
    fn what_has_no_value_is_an_error() {
        let none = Warnings::default();
        assert_eq!(none.lead_time_ms(), Err(MeasureError::Empty { measure: "lead time" }));
        assert!(none.onsets_warned().is_err() && none.false_alarms_per_minute().is_err());
        assert!(Warnings::of_link(&link("#!"), PERIOD).clear_warned().is_err());
        let calm = Warnings::of_link(&link("....."), PERIOD);
        assert!(calm.onsets_warned().is_err());
        assert_eq!(calm.false_alarms_per_minute(), Ok(0.0));
    }

    #[test]
    fn the_period_is_the_median_over_links() {
        let links = [link("...."), link(". . ."), link("."), Vec::new()];
        assert_eq!(period(&links), Some(PERIOD));
        assert_eq!(period(&[link(".")]), None);
    }
}
