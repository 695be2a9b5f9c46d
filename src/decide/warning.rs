//! The life cycle of a blockage warning.
//!
//! A warning goes one way only, and each state stands in at least one message:
//!
//! ```text
//! none ──▶ raised ──▶ active ──▶ cleared ──▶ none
//!   └───────────────────▲           ▲
//!            └ raised ──────────────┘
//! ```
//!
//! With p₀ the probability of "blocked now" (horizon 0) and p the one within the longest horizon:
//!
//! | from | to | when |
//! |---|---|---|
//! | none | raised | p ≥ `raise_at` in `raise_frames` known forecasts in a row, p₀ below it; a new id |
//! | none | active | the same with p₀ ≥ `raise_at`; a new id |
//! | raised | active | p₀ ≥ `raise_at` |
//! | raised | cleared | p < `clear_at` in `clear_frames` known forecasts in a row |
//! | active | cleared | p₀ < `clear_at` in `clear_frames` known forecasts in a row, whatever is expected later |
//! | raised, active | cleared | no forecast was known for longer than `hold_ttl_ms` |
//! | cleared | none | with the next frame, always |
//!
//! Between `clear_at` and `raise_at` nothing changes and both rows of counting start over. A frame without a forecast
//! neither counts nor breaks a row; more than `hold_ttl_ms` without one does. Without horizon 0 among the horizons a
//! warning is never active.

use crate::message::{Nanos, Warning, WarningState};
use crate::time::{CaptureTime, Span};

/// When a warning is raised and cleared.
#[derive(Clone, Copy, Debug)]
pub struct WarningRules {
    /// Probability from which a warning is raised, and active.
    pub raise_at: f64,
    /// Probability below which it is cleared.
    pub clear_at: f64,
    /// Known forecasts in a row that raise it; 0 counts as 1.
    pub raise_frames: usize,
    /// Known forecasts in a row that clear it; 0 counts as 1.
    pub clear_frames: usize,
    /// How long it stands without a forecast.
    pub hold_ttl: Span,
}

/// A known forecast, as far as a warning looks at it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlook {
    /// Probability that the link is blocked now; `None` when 0 is not among the horizons.
    pub now: Option<f64>,
    /// Probability that it is blocked within the longest horizon.
    pub within: f64,
    /// When the probability crosses `raise_at`, ms ahead; `None` when it does not within the longest horizon.
    pub crossing_ms: Option<f64>,
}

impl Outlook {
    /// Reads a forecast: horizons (ms, ascending) with their probabilities (non-decreasing). `None` of no horizons.
    ///
    /// The crossing is interpolated linearly between horizons, and from probability 0 at 0 ms before the first one.
    #[must_use]
    pub fn new(forecast: &[(u32, f64)], raise_at: f64) -> Option<Self> {
        let within = forecast.last()?.1;
        let now = forecast.first().filter(|first| first.0 == 0).map(|first| first.1);
        let mut before = (0.0, 0.0);
        let mut crossing_ms = None;
        for &(horizon, probability) in forecast {
            let here = (f64::from(horizon), probability);
            if probability >= raise_at {
                let rise = here.1 - before.1;
                let share = if rise > 0.0 { ((raise_at - before.1) / rise).clamp(0.0, 1.0) } else { 0.0 };
                crossing_ms = Some((here.0 - before.0).mul_add(share, before.0));
                break;
            }
            before = here;
        }
        Some(Self { now, within, crossing_ms })
    }
}

/// The warning of one UE as it goes through its life.
#[derive(Clone, Debug)]
pub struct LifeCycle {
    state: WarningState,
    /// Of the present warning or, in state none, of the last one.
    id: u64,
    since: Option<CaptureTime>,
    last_known: Option<CaptureTime>,
    raise_row: usize,
    clear_row: usize,
}

impl Default for LifeCycle {
    fn default() -> Self {
        Self { state: WarningState::None, id: 0, since: None, last_known: None, raise_row: 0, clear_row: 0 }
    }
}

impl LifeCycle {
    /// Takes in the forecast of the frame at `t` (`None`: unknown) and says the warning after it.
    pub fn step(&mut self, t: CaptureTime, outlook: Option<Outlook>, rules: &WarningRules) -> Warning {
        let expired = self.last_known.is_some_and(|known| t - known > rules.hold_ttl);
        if expired {
            self.raise_row = 0;
            self.clear_row = 0;
        }
        if let Some(outlook) = outlook {
            self.last_known = Some(t);
            self.count(outlook, rules);
        }
        let now = outlook.and_then(|outlook| outlook.now).is_some_and(|now| now >= rules.raise_at);
        let over = expired || self.clear_row >= rules.clear_frames.max(1);
        let next = match self.state {
            WarningState::Cleared => WarningState::None,
            WarningState::None if self.raise_row < rules.raise_frames.max(1) || outlook.is_none() => {
                WarningState::None
            }
            WarningState::None if now => WarningState::Active,
            WarningState::None => WarningState::Raised,
            WarningState::Raised | WarningState::Active if over => WarningState::Cleared,
            WarningState::Raised if now => WarningState::Active,
            WarningState::Raised | WarningState::Active => self.state,
        };
        if next != self.state {
            self.enter(next, t);
        }
        let standing = self.state != WarningState::None;
        Warning {
            state: self.state,
            id: standing.then_some(self.id),
            since_ns: self.since.filter(|_| standing).map(|since| Nanos(since.as_nanos())),
            expected_in_ms: match self.state {
                WarningState::Active => Some(0.0),
                WarningState::Raised => outlook.and_then(|outlook| outlook.crossing_ms),
                WarningState::None | WarningState::Cleared => None,
            },
        }
    }

    fn count(&mut self, outlook: Outlook, rules: &WarningRules) {
        let raises = outlook.within >= rules.raise_at;
        self.raise_row = if raises { self.raise_row.saturating_add(1) } else { 0 };
        let judged = match self.state {
            WarningState::Active => outlook.now.unwrap_or(outlook.within),
            WarningState::None | WarningState::Raised | WarningState::Cleared => outlook.within,
        };
        self.clear_row = if judged < rules.clear_at { self.clear_row.saturating_add(1) } else { 0 };
    }

    fn enter(&mut self, next: WarningState, t: CaptureTime) {
        if self.state == WarningState::None {
            self.id += 1;
        }
        if next == WarningState::Cleared {
            self.raise_row = 0;
        }
        self.clear_row = 0;
        self.state = next;
        self.since = Some(t);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use WarningState::{Active, Cleared, None as Nothing, Raised};

    const RULES: WarningRules = WarningRules {
        raise_at: 0.5,
        clear_at: 0.3,
        raise_frames: 2,
        clear_frames: 3,
        hold_ttl: Span::from_millis(1000),
    };

    fn at(ms: i64) -> CaptureTime {
        CaptureTime::from_nanos(0) + Span::from_millis(ms)
    }

    /// Probability now and within 500 ms, one frame per 100 ms; `None` is an unknown forecast.
    fn states(rules: &WarningRules, frames: &[Option<(f64, f64)>]) -> Vec<WarningState> {
        let mut life = LifeCycle::default();
        let steps = (0..).step_by(100).zip(frames).map(|(ms, frame)| {
            let outlook =
                frame.and_then(|(now, later)| Outlook::new(&[(0, now), (500, later)], rules.raise_at));
            life.step(at(ms), outlook, rules).state
        });
        steps.collect()
    }

    const CALM: Option<(f64, f64)> = Some((0.0, 0.1));
    const EXPECTED: Option<(f64, f64)> = Some((0.1, 0.6));
    const BETWEEN: Option<(f64, f64)> = Some((0.1, 0.4));
    const BLOCKED: Option<(f64, f64)> = Some((0.9, 0.9));

    #[test]
    fn one_life() {
        let frames = [CALM, EXPECTED, EXPECTED, EXPECTED, BLOCKED, BLOCKED, CALM, CALM, CALM, CALM, CALM];
        let expected =
            [Nothing, Nothing, Raised, Raised, Active, Active, Active, Active, Cleared, Nothing, Nothing];
        assert_eq!(states(&RULES, &frames), expected);
    }

    #[test]
    fn a_sudden_blockage_is_active_at_once_and_a_warning_without_one_is_cleared() {
        assert_eq!(states(&RULES, &[BLOCKED, BLOCKED]), [Nothing, Active]);
        let frames = [EXPECTED, EXPECTED, CALM, CALM, CALM, CALM];
        assert_eq!(states(&RULES, &frames), [Nothing, Raised, Raised, Raised, Cleared, Nothing]);
    }

    #[test]
    fn between_the_thresholds_nothing_changes() {
        let frames = [EXPECTED, BETWEEN, EXPECTED, EXPECTED, BETWEEN, CALM, CALM, BETWEEN, CALM, CALM, CALM];
        let expected =
            [Nothing, Nothing, Nothing, Raised, Raised, Raised, Raised, Raised, Raised, Raised, Cleared];
        assert_eq!(states(&RULES, &frames), expected);
    }

    #[test]
    fn an_active_warning_ends_with_the_blockage_even_if_another_is_expected() {
        let frames = [BLOCKED, BLOCKED, EXPECTED, EXPECTED, EXPECTED, EXPECTED, EXPECTED];
        let expected = [Nothing, Active, Active, Active, Cleared, Nothing, Raised];
        assert_eq!(states(&RULES, &frames), expected);
    }

    #[test]
    fn a_cleared_warning_is_gone_before_the_next_is_raised() {
        let rules = WarningRules { raise_frames: 0, clear_frames: 0, ..RULES };
        let frames = [BLOCKED, CALM, BLOCKED, BLOCKED];
        assert_eq!(states(&rules, &frames), [Active, Cleared, Nothing, Active]);
    }

    #[test]
    fn an_unknown_forecast_keeps_a_warning_for_the_time_to_live() {
        let mut frames = vec![EXPECTED, EXPECTED];
        frames.extend([None; 12]);
        let mut expected = vec![Nothing];
        // Known last at 100 ms: stands until 1100 ms.
        expected.extend([Raised; 11]);
        expected.extend([Cleared, Nothing]);
        assert_eq!(states(&RULES, &frames), expected);
        // In between, it neither counts nor breaks a row.
        let frames = [EXPECTED, None, EXPECTED, CALM, None, CALM, None, CALM];
        assert_eq!(
            states(&RULES, &frames),
            [Nothing, Nothing, Raised, Raised, Raised, Raised, Raised, Cleared]
        );
    }

    #[test]
    fn a_gap_ends_a_warning_and_every_row() {
        let mut life = LifeCycle::default();
        let outlook = Outlook::new(&[(0, 0.1), (500, 0.6)], 0.5);
        life.step(at(0), outlook, &RULES);
        assert_eq!(life.step(at(5000), outlook, &RULES).state, Nothing, "two rows, not one of two");
        assert_eq!(life.step(at(5100), outlook, &RULES).state, Raised);
        let ended = life.step(at(9000), outlook, &RULES);
        assert_eq!((ended.state, ended.id), (Cleared, Some(1)));
    }

    #[test]
    fn ids_and_since_follow_the_states() {
        let mut life = LifeCycle::default();
        let mut told = Vec::new();
        let frames = [EXPECTED, EXPECTED, BLOCKED, CALM, CALM, CALM, CALM, BLOCKED, BLOCKED];
        for (ms, frame) in (0..).step_by(100).zip(frames) {
            let outlook = frame.and_then(|(now, later)| Outlook::new(&[(0, now), (500, later)], 0.5));
            let warning = life.step(at(ms), outlook, &RULES);
            told.push((
                warning.id,
                warning.since_ns.map(|since| since.0 / 1_000_000),
                warning.expected_in_ms,
            ));
        }
        assert_eq!(told[0], (None, None, None));
        // 0.1 now, 0.6 in 500 ms: 0.5 is crossed at 400 ms.
        let (id, since, expected) = told[1];
        assert_eq!((id, since), (Some(1), Some(100)));
        assert!((expected.unwrap() - 400.0).abs() < 1e-6);
        assert_eq!(told[2], (Some(1), Some(200), Some(0.0)));
        assert_eq!(told[5], (Some(1), Some(500), None));
        assert_eq!(told[6], (None, None, None));
        assert_eq!(told[8], (Some(2), Some(800), Some(0.0)));
    }

    #[test]
    fn the_crossing_is_interpolated() {
        let crossing = |forecast: &[(u32, f64)]| Outlook::new(forecast, 0.5).unwrap().crossing_ms;
        assert_eq!(crossing(&[(0, 0.7)]), Some(0.0));
        assert_eq!(crossing(&[(200, 1.0)]), Some(100.0));
        assert_eq!(crossing(&[(0, 0.0), (100, 0.25), (300, 0.75)]), Some(200.0));
        assert_eq!(crossing(&[(0, 0.0), (100, 0.49)]), None);
        assert_eq!(Outlook::new(&[], 0.5), None);
    }

    #[test]
    fn without_horizon_zero_nothing_is_active() {
        let mut life = LifeCycle::default();
        for ms in [0, 100, 200] {
            let warning = life.step(at(ms), Outlook::new(&[(100, 1.0)], 0.5), &RULES);
            assert_ne!(warning.state, Active);
        }
        assert_eq!(life.state, Raised);
    }
}
