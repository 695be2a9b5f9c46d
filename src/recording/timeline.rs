//! From the stamps of rows to capture times: strictly growing within a sequence, sequences apart.

use super::stamp::{DayTime, SECOND};
use crate::sample::CaptureSource;
use crate::time::{CaptureTime, Span};

const DAY: i64 = 86_400 * SECOND;
/// Sequences stand at least this far apart, so that no window spans two of them.
pub(super) const SEQUENCE_GAP: Span = Span::from_secs(2);

/// How to place rows in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Midnight of the recording's first day.
    pub base: CaptureTime,
    /// Time from row to row where nothing else is known.
    pub period: Span,
    /// How many periods before its row the oldest file of a row was captured.
    pub lead: i64,
}

/// Rows placed in time, and what had to be mended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Placed {
    /// Per row, in order.
    pub captures: Vec<(CaptureTime, CaptureSource)>,
    /// Time from row to row: the median within sequences, or the one of [`Rules`].
    pub period: Span,
    /// Rows whose stamp was not after that of the row before.
    pub backward: Vec<usize>,
    /// Rows without a stamp in a recording that has some.
    pub unstamped: usize,
    /// Sequences that were moved later to stand apart from the one before.
    pub moved: usize,
}

/// Places the rows of `sequences` (each a run of rows, with the stamp of each) in time.
pub(super) fn place(sequences: &[&[Option<DayTime>]], rules: Rules) -> Placed {
    let mut unwrap = Unwrap::default();
    let days: Vec<Vec<Option<i64>>> = sequences
        .iter()
        .map(|stamps| {
            let coarse: Vec<bool> = stamps.iter().map(|stamp| stamp.is_some_and(|s| s.coarse)).collect();
            let mut times: Vec<Option<i64>> =
                stamps.iter().map(|stamp| stamp.map(|stamp| unwrap.next(stamp.nanos))).collect();
            spread_seconds(&mut times, &coarse);
            times
        })
        .collect();
    let any_stamp = days.iter().flatten().any(Option::is_some);
    let period = median_interval(&days).unwrap_or(rules.period.as_nanos()).max(1);

    let mut placed = Placed { period: Span::from_nanos(period), ..Placed::default() };
    let mut end: Option<CaptureTime> = None;
    let mut first_row = 0;
    for times in &days {
        let (relative, sources) = mend(times, period, first_row, &mut placed);
        let lead = placed.period * rules.lead;
        let earliest = end.map_or(rules.base, |end| end + SEQUENCE_GAP) + lead;
        let stamped = times.first().copied().flatten();
        let start = stamped.map_or(earliest, |nanos| rules.base + Span::from_nanos(nanos));
        let moved = start < earliest;
        placed.moved += usize::from(moved);
        let start = start.max(earliest);
        for (offset, source) in relative.iter().zip(sources) {
            // A lone row that was moved keeps nothing of its stamp.
            let lost = moved && times.len() == 1;
            placed.captures.push((
                start + Span::from_nanos(*offset),
                if lost { CaptureSource::Synthetic } else { source },
            ));
        }
        end = placed.captures.last().map(|(capture, _)| *capture);
        first_row += times.len();
    }
    if !any_stamp {
        placed.unstamped = 0;
    }
    placed
}

/// Counts the days: a stamp half a day before the last one is of the next day.
#[derive(Default)]
struct Unwrap {
    last: Option<i64>,
    day: i64,
}

impl Unwrap {
    fn next(&mut self, nanos: i64) -> i64 {
        let mut time = nanos + self.day * DAY;
        if let Some(last) = self.last {
            if time < last - DAY / 2 {
                self.day += 1;
                time += DAY;
            } else if time > last + DAY / 2 && self.day > 0 {
                // One stamp of before midnight came after one of after it.
                self.day -= 1;
                time -= DAY;
            }
        }
        self.last = Some(time);
        time
    }
}

/// Spreads runs of equal whole-second stamps over their second.
///
/// The first and the last second of a sequence are usually cut: their rows take the spacing of a full second, the
/// first ones at its end, the last ones at its start.
fn spread_seconds(times: &mut [Option<i64>], coarse: &[bool]) {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    let mut start = 0;
    for end in 1..=times.len() {
        if end == times.len() || times.get(end) != times.get(start) {
            let is_coarse = coarse.get(start).copied().unwrap_or(false);
            if is_coarse {
                runs.push((start, end - start));
            }
            start = end;
        }
    }
    let mut inner: Vec<usize> =
        runs.get(1..runs.len().saturating_sub(1)).unwrap_or_default().iter().map(|&(_, n)| n).collect();
    inner.sort_unstable();
    let full = inner.get(inner.len() / 2).copied();
    let last_run = runs.len().saturating_sub(1);
    for (position, &(start, count)) in runs.iter().enumerate() {
        let edge = runs.len() > 1 && (position == 0 || position == last_run);
        let slots = full.filter(|&full| edge && full > count).unwrap_or(count);
        let skip = if position == 0 { slots - count } else { 0 };
        for (k, time) in times.iter_mut().skip(start).take(count).enumerate() {
            let share =
                i64::try_from(skip + k).unwrap_or(0) * SECOND / i64::try_from(slots).unwrap_or(1).max(1);
            *time = time.map(|time| time + share);
        }
    }
}

fn median_interval(sequences: &[Vec<Option<i64>>]) -> Option<i64> {
    let mut intervals: Vec<i64> = sequences
        .iter()
        .flat_map(|times| times.windows(2))
        .filter_map(|pair| match pair {
            [Some(a), Some(b)] if b > a => Some(b - a),
            _ => None,
        })
        .collect();
    intervals.sort_unstable();
    intervals.get(intervals.len() / 2).copied()
}

/// Makes the times of one sequence strictly grow; returns offsets from its first row.
///
/// A stamp that is not after the one before is either a slip (one of the next two rows is again later than the last
/// good one: the row is put in between) or a step of the clock (they are not: what follows keeps its intervals).
fn mend(
    times: &[Option<i64>],
    period: i64,
    first_row: usize,
    placed: &mut Placed,
) -> (Vec<i64>, Vec<CaptureSource>) {
    let mut offsets = Vec::with_capacity(times.len());
    let mut sources = Vec::with_capacity(times.len());
    let mut step: i64 = 0;
    let mut last: Option<i64> = None;
    for (row, time) in times.iter().enumerate() {
        let corrected = time.map(|time| time + step);
        let (value, source) = match (corrected, last) {
            (Some(time), None) => (time, CaptureSource::Recording),
            (Some(time), Some(last)) if time > last => (time, CaptureSource::Recording),
            (Some(time), Some(last)) => {
                placed.backward.push(first_row + row);
                let later =
                    times.iter().skip(row + 1).take(2).flatten().map(|t| t + step).find(|t| *t > last);
                let value = match later {
                    Some(later) => last + period.min((later - last) / 2).max(1),
                    None => {
                        step += last + period - time;
                        last + period
                    }
                };
                (value, CaptureSource::Synthetic)
            }
            (None, last) => {
                placed.unstamped += 1;
                let next = times.get(row + 1).copied().flatten().map(|t| t + step);
                let value = match (last, next) {
                    (Some(last), Some(next)) if next > last => last + period.min((next - last) / 2).max(1),
                    (Some(last), _) => last + period,
                    // A sequence that begins without a stamp counts back from its first one.
                    (None, _) => times
                        .iter()
                        .enumerate()
                        .find_map(|(n, t)| t.map(|t| t - period * i64::try_from(n).unwrap_or(0)))
                        .unwrap_or(0),
                };
                (value, CaptureSource::Synthetic)
            }
        };
        last = Some(value);
        offsets.push(value);
        sources.push(source);
    }
    let start = offsets.first().copied().unwrap_or(0);
    for offset in &mut offsets {
        *offset -= start;
    }
    (offsets, sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine(seconds: f64) -> Option<DayTime> {
        Some(DayTime { nanos: (seconds * 1e9).round() as i64, coarse: false })
    }

    fn whole(seconds: i64) -> Option<DayTime> {
        Some(DayTime { nanos: seconds * SECOND, coarse: true })
    }

    fn rules() -> Rules {
        Rules { base: CaptureTime::from_nanos(0), period: Span::from_millis(100), lead: 0 }
    }

    fn seconds(placed: &Placed) -> Vec<f64> {
        placed.captures.iter().map(|(capture, _)| capture.as_nanos() as f64 / 1e9).collect()
    }

    fn synthetic(placed: &Placed) -> Vec<bool> {
        placed.captures.iter().map(|(_, source)| *source == CaptureSource::Synthetic).collect()
    }

    #[test]
    fn no_stamps_count_rows_from_the_epoch() {
        let placed = place(&[&[None, None, None], &[None, None]], rules());
        assert_eq!(seconds(&placed), [0.0, 0.1, 0.2, 2.2, 2.3]);
        assert!(synthetic(&placed).iter().all(|&made_up| made_up));
        assert_eq!((placed.backward.len(), placed.unstamped, placed.moved), (0, 0, 0));
    }

    #[test]
    fn whole_seconds_are_spread() {
        let stamps = [5, 5, 6, 6, 6, 6, 7, 7, 7, 7, 8].map(whole);
        let placed = place(&[&stamps], rules());
        assert_eq!(seconds(&placed), [5.5, 5.75, 6.0, 6.25, 6.5, 6.75, 7.0, 7.25, 7.5, 7.75, 8.0]);
        assert!(synthetic(&placed).iter().all(|&made_up| !made_up));
        let alone = place(&[&[3, 3].map(whole)], rules());
        assert_eq!(seconds(&alone), [3.0, 3.5]);
    }

    #[test]
    fn midnight_is_the_next_day() {
        let stamps = [fine(86_399.9), fine(0.0), fine(0.1)];
        let placed = place(&[&stamps], rules());
        assert_eq!(seconds(&placed), [86_399.9, 86_400.0, 86_400.1]);
        assert!(placed.backward.is_empty());
    }

    #[test]
    fn a_slip_stays_between_its_neighbours() {
        let stamps = [10.0, 10.1, 9.5, 10.3, 10.4].map(fine);
        let placed = place(&[&stamps], rules());
        assert_eq!(seconds(&placed), [10.0, 10.1, 10.2, 10.3, 10.4]);
        assert_eq!(placed.backward, [2]);
        assert_eq!(synthetic(&placed), [false, false, true, false, false]);
    }

    #[test]
    fn a_clock_step_keeps_what_follows() {
        let stamps = [100.0, 100.1, 40.0, 40.1, 40.2, 40.3].map(fine);
        let placed = place(&[&stamps], rules());
        let expected = [100.0, 100.1, 100.2, 100.3, 100.4, 100.5];
        for (found, expected) in seconds(&placed).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
        assert_eq!(placed.backward, [2]);
    }

    #[test]
    fn sequences_stand_apart_and_missing_stamps_are_filled() {
        let first = [fine(1.0), None, fine(1.2)];
        let second = [fine(1.3), fine(1.4)];
        let third = [fine(60.0)];
        let placed = place(&[&first, &second, &third], rules());
        assert_eq!(seconds(&placed), [1.0, 1.1, 1.2, 3.2, 3.3, 60.0]);
        assert_eq!((placed.moved, placed.unstamped), (1, 1));
        assert_eq!(synthetic(&placed), [false, true, false, false, false, false]);
    }

    #[test]
    fn lead_keeps_the_oldest_file_out_of_the_sequence_before() {
        let placed = place(&[&[None], &[None]], Rules { lead: 4, ..rules() });
        assert_eq!(seconds(&placed), [0.4, 2.8]);
    }
}
