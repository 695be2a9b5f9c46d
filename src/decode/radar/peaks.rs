//! Detections: the strongest local maxima of a map above their surroundings.

use std::cmp::Ordering;

use ndarray::ArrayView2;

/// Cells on each side of a cell that its own target may spill into.
const GUARD: usize = 2;
/// Cells beyond the guard on each side that show the level around it.
const TRAINING: usize = 8;
/// A detection stands this far above the mean of its training cells (3.5 dB).
const FACTOR: f32 = 1.5;
/// Share of the strongest cell below which a 32-bit FFT only shows its own rounding (−100 dB).
const ROUNDING: f32 = 1e-5;

/// What counts as a peak.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakRule {
    /// Whether the last column is next to the first, as in an FFT or a full turn.
    pub wrap_columns: bool,
    /// Smallest share of the strongest cell in the same row, 0…1: keeps out the side lobes of an array.
    pub row_floor: f32,
    /// Most peaks.
    pub most: usize,
}

/// Finds peaks as (row, column), strongest first; equal ones in the order of the map.
///
/// A peak is a cell that no neighbour (of eight) exceeds, and that stands 1.5 times above the mean of the cells 3 to 10
/// rows away in its column (cell-averaging CFAR along range). Row 0 is left out: range 0 has no direction, and there
/// lies what leaks from transmitter to receiver.
#[must_use]
pub fn find_peaks(map: ArrayView2<'_, f32>, rule: &PeakRule) -> Vec<(usize, usize)> {
    let (rows, columns) = map.dim();
    let at = |row: usize, column: usize| map.get((row, column)).copied().unwrap_or(0.0);
    let mut peaks: Vec<(f32, usize, usize)> = Vec::new();
    let rounding = ROUNDING * map.iter().fold(0.0, |most: f32, &value| most.max(value));
    for row in 1..rows {
        let floor = rule.row_floor * (0..columns).fold(0.0, |most: f32, column| most.max(at(row, column)));
        for column in 0..columns {
            let value = at(row, column);
            if value > rounding
                && value >= floor
                && is_local_maximum(&at, (row, column), (rows, columns), rule.wrap_columns)
                && value > FACTOR * level_around(&at, row, column, rows)
            {
                peaks.push((value, row, column));
            }
        }
    }
    let stronger = |a: &(f32, usize, usize), b: &(f32, usize, usize)| {
        b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal).then((a.1, a.2).cmp(&(b.1, b.2)))
    };
    peaks.sort_unstable_by(stronger);
    peaks.truncate(rule.most);
    peaks.into_iter().map(|(_, row, column)| (row, column)).collect()
}

/// No neighbour is larger, and none before it (in the order of the map) is equal, so that a plateau has one peak.
fn is_local_maximum(
    at: &impl Fn(usize, usize) -> f32,
    (row, column): (usize, usize),
    (rows, columns): (usize, usize),
    wrap: bool,
) -> bool {
    let value = at(row, column);
    let left = column.checked_sub(1).or(wrap.then_some(columns - 1));
    let right = Some(column + 1).filter(|&right| right < columns).or(wrap.then_some(0));
    for near in row.saturating_sub(1)..(row + 2).min(rows) {
        for beside in [left, Some(column), right].into_iter().flatten() {
            let other = at(near, beside);
            if other > value || (other == value && (near, beside) < (row, column)) {
                return false;
            }
        }
    }
    true
}

/// Mean of the training cells along range.
fn level_around(at: &impl Fn(usize, usize) -> f32, row: usize, column: usize, rows: usize) -> f32 {
    let before = row.saturating_sub(GUARD + TRAINING)..row.saturating_sub(GUARD);
    let after = (row + GUARD + 1).min(rows)..(row + GUARD + TRAINING + 1).min(rows);
    let count = before.len() + after.len();
    let sum: f32 = before.chain(after).map(|near| at(near, column)).sum();
    if count == 0 { 0.0 } else { sum / count as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    fn rule() -> PeakRule {
        PeakRule { wrap_columns: true, row_floor: 0.0, most: 10 }
    }

    #[test]
    fn peaks_come_strongest_first_and_plateaus_once() {
        let mut map = Array2::from_elem((40, 8), 1.0);
        map[[20, 3]] = 5.0;
        map[[30, 6]] = 7.0;
        map[[30, 7]] = 7.0;
        map[[10, 0]] = 1.4; // below the threshold
        assert_eq!(find_peaks(map.view(), &rule()), [(30, 6), (20, 3)]);
        assert_eq!(find_peaks(map.view(), &PeakRule { most: 1, ..rule() }), [(30, 6)]);
    }

    #[test]
    fn columns_wrap_only_where_they_do() {
        let mut map = Array2::from_elem((40, 8), 1.0);
        map[[20, 0]] = 5.0;
        map[[20, 7]] = 4.0;
        assert_eq!(find_peaks(map.view(), &rule()), [(20, 0)]);
        assert_eq!(find_peaks(map.view(), &PeakRule { wrap_columns: false, ..rule() }), [(20, 0), (20, 7)]);
        let floor = PeakRule { wrap_columns: false, row_floor: 0.9, ..rule() };
        assert_eq!(find_peaks(map.view(), &floor), [(20, 0)]);
    }

    #[test]
    fn flat_and_tiny_maps_have_none() {
        assert!(find_peaks(Array2::from_elem((40, 8), 3.0).view(), &rule()).is_empty());
        assert!(find_peaks(Array2::zeros((40, 8)).view(), &rule()).is_empty());
        assert!(find_peaks(Array2::from_elem((1, 1), 3.0).view(), &rule()).is_empty());
        assert_eq!(
            find_peaks(Array2::from_shape_vec((2, 1), vec![0.0, 2.0]).unwrap().view(), &rule()),
            [(1, 0)]
        );
    }
}
