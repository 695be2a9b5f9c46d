//! Beams: how often the right one is among the first few, how far off, and what a wrong one costs.

use ndarray::ArrayView2;

use super::{MeasureError, argmax, same_length, top_k};

/// How beams lie beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codebook {
    /// Beam 0 and the last one point to opposite sides.
    Linear,
    /// The last beam stands beside beam 0, as that of an array all around.
    Circular {
        /// Beams of the whole circle.
        beams: usize,
    },
}

impl Codebook {
    /// Steps from one beam to another.
    #[must_use]
    pub fn distance(self, a: usize, b: usize) -> usize {
        let straight = a.abs_diff(b);
        match self {
            Self::Linear => straight,
            Self::Circular { beams } => straight.min(beams.saturating_sub(straight)),
        }
    }
}

/// Steps at which a beam is as wrong as any other, for DBA.
const FARTHEST: f64 = 5.0;
/// No row loses more, dB: a beam that nothing was measured on at all would cost without end, and no mean would be left.
const MOST_LOSS_DB: f64 = 200.0;

/// The strongest beam of each row of linear powers `[rows, beams]`; `None` where nothing was measured (all NaN).
#[must_use]
pub fn strongest(power: ArrayView2<'_, f64>) -> Vec<Option<usize>> {
    power.rows().into_iter().map(argmax).collect()
}

/// Share of the rows with a true beam in which it is among the `k` of the largest scores `[rows, beams]`.
///
/// # Errors
/// [`MeasureError`] when lengths differ or no row has a true beam.
pub fn top_k_accuracy(
    scores: ArrayView2<'_, f64>,
    truth: &[Option<usize>],
    k: usize,
) -> Result<f64, MeasureError> {
    let hits = over_rows("top-k accuracy", scores, truth, |row, beam| {
        f64::from(u8::from(top_k(row, k).contains(&beam)))
    })?;
    super::mean(&hits)
}

/// Distance-based accuracy of the DeepSense 6G challenge: mean over K = 1, 2, 3 of
/// 1 − ⟨min over the first K beams of min(distance/5, 1)⟩. 1 is right always; 0 is 5 beams or more off.
///
/// # Errors
/// [`MeasureError`] when lengths differ or no row has a true beam.
pub fn distance_based_accuracy(
    scores: ArrayView2<'_, f64>,
    truth: &[Option<usize>],
    codebook: Codebook,
) -> Result<f64, MeasureError> {
    let rows = over_rows("DBA", scores, truth, |row, beam| {
        let mut nearest = 1.0f64;
        let costs = top_k(row, 3).into_iter().map(|guess| codebook.distance(guess, beam) as f64 / FARTHEST);
        let mut costs: Vec<f64> = costs
            .map(|cost| {
                nearest = nearest.min(cost);
                nearest
            })
            .collect();
        // Fewer than three beams: the best of them all.
        costs.resize(3, nearest);
        1.0 - costs.iter().sum::<f64>() / 3.0
    })?;
    super::mean(&rows)
}

/// What each row loses, dB, when the best of the `k` beams of the largest scores is taken and not the best of all:
/// 10 log₁₀(largest power / largest power among the k), 0 to 200. Left out are rows in which none of the k was measured.
/// [`super::mean`] and [`super::median`] sum it up.
///
/// # Errors
/// [`MeasureError`] when shapes differ, a power is negative, or no row is left.
pub fn power_loss_db(
    scores: ArrayView2<'_, f64>,
    power: ArrayView2<'_, f64>,
    k: usize,
) -> Result<Vec<f64>, MeasureError> {
    const MEASURE: &str = "power loss";
    same_length(MEASURE, "rows of powers", power.nrows(), scores.nrows())?;
    same_length(MEASURE, "beams of powers", power.ncols(), scores.ncols())?;
    let mut losses = Vec::with_capacity(power.nrows());
    for (index, (scores, power)) in scores.rows().into_iter().zip(power.rows()).enumerate() {
        if let Some(negative) = power.iter().find(|power| **power < 0.0) {
            return Err(MeasureError::Number {
                measure: MEASURE,
                number: negative.to_string(),
                row: index,
                allowed: "linear powers, 0 and more",
            });
        }
        let chosen = top_k(scores, k).into_iter().filter_map(|beam| power.get(beam).copied());
        // f64::max passes over NaN.
        let chosen = chosen.fold(f64::NAN, f64::max);
        let best = power.iter().copied().fold(f64::NAN, f64::max);
        if chosen.is_nan() {
            continue;
        }
        losses.push(if chosen == best { 0.0 } else { (10.0 * (best / chosen).log10()).min(MOST_LOSS_DB) });
    }
    if losses.is_empty() {
        return Err(MeasureError::Empty { measure: MEASURE });
    }
    Ok(losses)
}

fn over_rows(
    measure: &'static str,
    scores: ArrayView2<'_, f64>,
    truth: &[Option<usize>],
    of: impl Fn(ndarray::ArrayView1<'_, f64>, usize) -> f64,
) -> Result<Vec<f64>, MeasureError> {
    same_length(measure, "true beams", truth.len(), scores.nrows())?;
    let mut values = Vec::with_capacity(truth.len());
    for (index, (row, beam)) in scores.rows().into_iter().zip(truth).enumerate() {
        let Some(beam) = *beam else { continue };
        if beam >= scores.ncols() {
            return Err(MeasureError::Label { measure, label: beam, row: index, classes: scores.ncols() });
        }
        values.push(of(row, beam));
    }
    if values.is_empty() {
        return Err(MeasureError::Empty { measure });
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn dba_by_hand() {
        // First three guesses 9, 0, 1 for a true 0: distances 9, 0, 1 → costs 1, 0, 0.
        let mut scores = ndarray::Array2::zeros((1, 10));
        for (beam, score) in [(9, 3.0), (0, 2.0), (1, 1.0)] {
            scores[[0, beam]] = score;
        }
        let dba = |codebook| distance_based_accuracy(scores.view(), &[Some(0)], codebook).unwrap();
        assert!((dba(Codebook::Linear) - (1.0 - 1.0 / 3.0)).abs() < 1e-12);
        // On a circle of ten, 9 is one step from 0.
        assert!((dba(Codebook::Circular { beams: 10 }) - (1.0 - 0.2 / 3.0)).abs() < 1e-12);
    }

    #[test]
    fn power_loss_leaves_out_rows_without_a_measured_choice() {
        let nan = f64::NAN;
        let scores = array![[0.0, 1.0, 2.0], [0.0, 1.0, 2.0], [2.0, 1.0, 0.0]];
        let power = array![[10.0, 1.0, nan], [10.0, 5.0, 1.0], [7.0, nan, 1.0]];
        let loss = power_loss_db(scores.view(), power.view(), 1).unwrap();
        assert_eq!(loss.len(), 2);
        assert!((loss[0] - 10.0).abs() < 1e-12 && loss[1] == 0.0);
        assert!((power_loss_db(scores.view(), power.view(), 2).unwrap()[0] - 10.0).abs() < 1e-12);
        assert_eq!(strongest(power.view()), [Some(0), Some(0), Some(0)]);
    }

    #[test]
    fn what_has_no_value_is_an_error() {
        let scores = array![[0.0, 1.0]];
        assert_eq!(
            top_k_accuracy(scores.view(), &[None], 1),
            Err(MeasureError::Empty { measure: "top-k accuracy" })
        );
        let error = top_k_accuracy(scores.view(), &[Some(0), Some(1)], 1).unwrap_err();
        assert_eq!(error.to_string(), "top-k accuracy: found 2 true beams, allowed are 1");
        let error = top_k_accuracy(scores.view(), &[Some(2)], 1).unwrap_err();
        assert_eq!(error.to_string(), "top-k accuracy: found label 2 in row 0, allowed are 0 to 1");
        assert!(power_loss_db(scores.view(), array![[-1.0, 1.0]].view(), 1).is_err());
    }
}
