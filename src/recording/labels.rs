//! What the labels of a recording mean, measured against its powers.

use serde::{Deserialize, Serialize};

use super::Sequence;

/// How the beam labels of an index relate to the best measured beams.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BeamLabelFit {
    /// The number of the first beam in the labels: 0 or 1.
    pub first_beam: i64,
    /// Whether the labels count from the other end of the codebook.
    pub reversed: bool,
    /// The label of row i belongs to row i + this.
    pub row_shift: i8,
    /// Rows that were compared.
    pub compared: usize,
    /// Share of them in which the label, read like this, is the best measured beam.
    pub share: f64,
    /// The same share when labels are taken as 0-based beams of their own row.
    pub share_as_is: f64,
    /// Rows in which it is not, the first few.
    pub mismatches: Vec<usize>,
}

/// Most mismatching rows that are listed.
const LISTED: usize = 10;

/// The row `shift` rows further on, within the same sequence.
fn neighbour(sequence: &Sequence, row: usize, shift: i8) -> Option<usize> {
    row.checked_add_signed(isize::from(shift)).filter(|other| sequence.rows.contains(other))
}

/// Reads the labels in every way that is known to occur and keeps the one that agrees most; on a tie the simplest.
/// `best` is the NaN-aware argmax of the powers per row. `None` without a row that has both.
pub(super) fn fit_beam_labels(
    labels: &[Option<i64>],
    best: &[Option<i64>],
    sequences: &[Sequence],
    beams: usize,
) -> Option<BeamLabelFit> {
    let last = i64::try_from(beams).ok()? - 1;
    let try_fit = |first_beam: i64, reversed: bool, row_shift: i8| {
        let (mut compared, mut equal, mut mismatches) = (0usize, 0usize, Vec::new());
        for sequence in sequences {
            for row in sequence.rows.clone() {
                let Some(other) = neighbour(sequence, row, row_shift) else { continue };
                let label = labels.get(row).copied().flatten();
                let Some((label, best)) = label.zip(best.get(other).copied().flatten()) else { continue };
                let beam = label - first_beam;
                compared += 1;
                if (if reversed { last - beam } else { beam }) == best {
                    equal += 1;
                } else if mismatches.len() < LISTED {
                    mismatches.push(row);
                }
            }
        }
        let share = if compared == 0 { 0.0 } else { equal as f64 / compared as f64 };
        BeamLabelFit { first_beam, reversed, row_shift, compared, share, share_as_is: 0.0, mismatches }
    };
    let as_is = try_fit(0, false, 0);
    if as_is.compared == 0 {
        return None;
    }
    let mut chosen = as_is.clone();
    for row_shift in [0, 1, -1] {
        for reversed in [false, true] {
            for first_beam in [0, 1] {
                let fit = try_fit(first_beam, reversed, row_shift);
                // A shift says nothing about sequences of one row.
                if fit.share > chosen.share && fit.compared * 2 >= as_is.compared {
                    chosen = fit;
                }
            }
        }
    }
    chosen.share_as_is = as_is.share;
    Some(chosen)
}

/// How well blockage labels tell low received power, for each shift by rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockageShift {
    /// Area under the ROC curve when the label of row i is taken from row i − 1.
    pub before: Option<f64>,
    /// … from row i.
    pub same: Option<f64>,
    /// … from row i + 1.
    pub after: Option<f64>,
}

impl BlockageShift {
    /// The shift under which labels tell low power best; 0 unless another one is better.
    #[must_use]
    pub fn best(&self) -> i8 {
        let mut best = (0, self.same.unwrap_or(0.0));
        for (shift, area) in [(1, self.after), (-1, self.before)] {
            if let Some(area) = area.filter(|&area| area > best.1) {
                best = (shift, area);
            }
        }
        best.0
    }
}

/// Compares blockage labels with the best power (dB) of each row, shifted by −1, 0 and +1 rows.
pub(super) fn blockage_shift(truth: &[(Option<bool>, Option<f64>)], sequences: &[Sequence]) -> BlockageShift {
    let area = |shift: i8| {
        // Only rows that have both neighbours, so that every shift is judged on the same powers.
        let pairs = sequences.iter().flat_map(|sequence| {
            sequence.rows.clone().filter_map(move |row| {
                neighbour(sequence, row, 1).zip(neighbour(sequence, row, -1))?;
                let label = truth.get(neighbour(sequence, row, shift)?)?.0?;
                Some((label, -truth.get(row)?.1?))
            })
        });
        auroc(pairs.collect())
    };
    BlockageShift { before: area(-1), same: area(0), after: area(1) }
}

/// Probability that a positive has the higher score (ties count half); `None` without both kinds.
fn auroc(mut pairs: Vec<(bool, f64)>) -> Option<f64> {
    pairs.sort_by(|a, b| a.1.total_cmp(&b.1));
    let positives = pairs.iter().filter(|(label, _)| *label).count() as f64;
    let negatives = pairs.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let (mut below, mut area) = (0.0, 0.0);
    for tie in pairs.chunk_by(|a, b| a.1 == b.1) {
        let up = tie.iter().filter(|(label, _)| *label).count() as f64;
        let down = tie.len() as f64 - up;
        area += up * (below + down / 2.0);
        below += down;
    }
    Some(area / (positives * negatives))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_sequence(rows: usize) -> Vec<Sequence> {
        vec![Sequence { id: None, rows: 0..rows }]
    }

    fn best() -> Vec<i64> {
        vec![3, 5, 9, 9, 12, 20, 31, 40, 63, 0]
    }

    fn fit(labels: &[i64]) -> BeamLabelFit {
        let labels: Vec<Option<i64>> = labels.iter().copied().map(Some).collect();
        let best: Vec<Option<i64>> = best().into_iter().map(Some).collect();
        fit_beam_labels(&labels, &best, &one_sequence(best.len()), 64).unwrap()
    }

    #[test]
    fn offset_and_reversal_are_told_apart() {
        let says = |fit: BeamLabelFit| (fit.first_beam, fit.reversed, fit.row_shift, fit.share);
        assert_eq!(says(fit(&best())), (0, false, 0, 1.0));
        assert_eq!(says(fit(&best().iter().map(|b| b + 1).collect::<Vec<_>>())), (1, false, 0, 1.0));
        assert_eq!(says(fit(&best().iter().map(|b| 63 - b).collect::<Vec<_>>())), (0, true, 0, 1.0));
        assert_eq!(says(fit(&best().iter().map(|b| 64 - b).collect::<Vec<_>>())), (1, true, 0, 1.0));
    }

    #[test]
    fn a_shift_by_one_row_is_found() {
        let mut labels: Vec<i64> = best()[1..].iter().map(|b| b + 1).collect();
        labels.push(1);
        let found = fit(&labels);
        assert_eq!((found.first_beam, found.reversed, found.row_shift, found.share), (1, false, 1, 1.0));
        assert_eq!(found.compared, 9);
        assert!(found.share_as_is < 0.2);
    }

    #[test]
    fn mismatches_are_named() {
        let mut labels = best();
        labels[4] = 1;
        let found = fit(&labels);
        assert_eq!((found.share, found.mismatches), (0.9, vec![4]));
    }

    #[test]
    fn blockage_labels_are_placed_by_power() {
        let blocked = [false, false, false, true, true, true, false, false, false, false];
        let power = |row: usize| if blocked[row] { -20.0 } else { 0.0 };
        let truth = |shift: isize| -> Vec<(Option<bool>, Option<f64>)> {
            (0..10usize)
                .map(|row| {
                    (row.checked_add_signed(shift).and_then(|r| blocked.get(r)).copied(), Some(power(row)))
                })
                .collect()
        };
        assert_eq!(blockage_shift(&truth(0), &one_sequence(10)).best(), 0);
        // Row i carries the label of row i + 1: its own stands one row before.
        assert_eq!(blockage_shift(&truth(1), &one_sequence(10)).best(), -1);
        assert_eq!(blockage_shift(&truth(-1), &one_sequence(10)).best(), 1);
    }

    #[test]
    fn auroc_by_hand() {
        assert_eq!(auroc(vec![(true, 3.0), (false, 1.0), (false, 2.0)]), Some(1.0));
        assert_eq!(auroc(vec![(true, 1.0), (false, 1.0)]), Some(0.5));
        assert_eq!(auroc(vec![(true, 1.0), (true, 4.0), (false, 2.0), (false, 3.0)]), Some(0.5));
        assert_eq!(auroc(vec![(true, 1.0)]), None);
    }
}
