//! How far a probability can be believed, and the one number that makes it more believable.

use ndarray::ArrayView2;

use super::{MeasureError, same_length};

/// Expected calibration error of the probabilities of "yes": over `bins` bins of equal width on [0, 1] (the right end
/// belongs to a bin, 0 to the first), the mean of |share that was yes − mean probability|, weighted by rows.
///
/// # Errors
/// [`MeasureError`] when there is no row or bin, lengths differ, or a probability is not in [0, 1].
pub fn expected_calibration_error(
    labels: &[bool],
    probabilities: &[f64],
    bins: usize,
) -> Result<f64, MeasureError> {
    const MEASURE: &str = "expected calibration error";
    same_length(MEASURE, "probabilities", probabilities.len(), labels.len())?;
    if labels.is_empty() || bins == 0 {
        return Err(MeasureError::Empty { measure: MEASURE });
    }
    // Positives minus probabilities, per bin.
    let mut gaps = vec![0.0f64; bins];
    for (row, (&label, &probability)) in labels.iter().zip(probabilities).enumerate() {
        if !(0.0..=1.0).contains(&probability) {
            let number = probability.to_string();
            return Err(MeasureError::Number { measure: MEASURE, number, row, allowed: "0 to 1" });
        }
        let bin = ((probability * bins as f64).ceil() as usize).clamp(1, bins) - 1;
        if let Some(gap) = gaps.get_mut(bin) {
            *gap += f64::from(u8::from(label)) - probability;
        }
    }
    Ok(gaps.iter().map(|gap| gap.abs()).sum::<f64>() / labels.len() as f64)
}

/// The temperature T > 0 that makes softmax(scores / T) of scores `[rows, classes]` most likely (Guo et al., ICML 2017),
/// within 1/1000 and 1000: scores that are always right have no finite optimum.
///
/// # Errors
/// [`MeasureError`] when there is no row, lengths differ, or a score is not finite.
pub fn temperature_of_classes(scores: ArrayView2<'_, f64>, labels: &[usize]) -> Result<f64, MeasureError> {
    const MEASURE: &str = "temperature";
    same_length(MEASURE, "labels", labels.len(), scores.nrows())?;
    let classes = scores.ncols();
    for (row, (scores, &label)) in scores.rows().into_iter().zip(labels).enumerate() {
        finite(scores.iter(), row)?;
        if label >= classes {
            return Err(MeasureError::Label { measure: MEASURE, label, row, classes });
        }
    }
    // d/dβ of ln Σ exp(β s) − β s_label, with β = 1/T, is the mean score under softmax(β s) minus s_label.
    let slope = |beta: f64| -> f64 {
        let rows = scores.rows().into_iter().zip(labels);
        rows.map(|(row, &label)| {
            let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let (mut sum, mut weighted) = (0.0, 0.0);
            for &score in row {
                let weight = (beta * (score - top)).exp();
                sum += weight;
                weighted += weight * score;
            }
            weighted / sum - row.get(label).copied().unwrap_or(top)
        })
        .sum()
    };
    solve(labels.len(), slope)
}

/// The temperature of scores of "yes", σ(score / T), as [`temperature_of_classes`].
///
/// # Errors
/// [`MeasureError`] when there is no row, lengths differ, or a score is not finite.
pub fn temperature_of_binary(scores: &[f64], labels: &[bool]) -> Result<f64, MeasureError> {
    same_length("temperature", "labels", labels.len(), scores.len())?;
    for (row, score) in scores.iter().enumerate() {
        finite(std::iter::once(score), row)?;
    }
    let slope = |beta: f64| -> f64 {
        let rows = scores.iter().zip(labels);
        rows.map(|(&score, &label)| {
            score * (1.0 / (1.0 + (-beta * score).exp()) - f64::from(u8::from(label)))
        })
        .sum()
    };
    solve(labels.len(), slope)
}

fn finite<'a>(scores: impl Iterator<Item = &'a f64>, row: usize) -> Result<(), MeasureError> {
    for score in scores {
        if !score.is_finite() {
            let number = score.to_string();
            return Err(MeasureError::Number {
                measure: "temperature",
                number,
                row,
                allowed: "finite scores",
            });
        }
    }
    Ok(())
}

/// 1/β at which the slope of the negative log-likelihood, which never falls with β, is 0; halving in ln β.
fn solve(rows: usize, slope: impl Fn(f64) -> f64) -> Result<f64, MeasureError> {
    if rows == 0 {
        return Err(MeasureError::Empty { measure: "temperature" });
    }
    let (mut low, mut high) = (1e-3f64.ln(), 1e3f64.ln());
    // 2⁻⁶⁰ of the span is below the last bit.
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if slope(middle.exp()) > 0.0 {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok((-f64::midpoint(low, high)).exp())
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[test]
    fn calibration_error_by_hand() {
        // First bin: one of two is yes at mean 0.1; last bin: none of one at 1.
        let error = expected_calibration_error(&[true, false, false], &[0.0, 0.2, 1.0], 2).unwrap();
        assert!((error - (0.8 + 1.0) / 3.0).abs() < 1e-12, "{error}");
        assert!(expected_calibration_error(&[true], &[1.5], 2).is_err());
        assert!(expected_calibration_error(&[true], &[f64::NAN], 2).is_err());
        assert!(expected_calibration_error(&[], &[], 2).is_err());
    }

    #[test]
    fn a_binary_temperature_has_a_closed_form() {
        // Scores ±s, right three times of four: σ(s/T) = ¾, so T = s / ln 3.
        let found = temperature_of_binary(&[2.0, 2.0, -2.0, 2.0], &[true, true, false, false]).unwrap();
        assert!((found - 2.0 / 3f64.ln()).abs() < 1e-9, "{found}");
        // Two classes with scores (s, 0) are the same.
        let scores = Array2::from_shape_fn(
            (4, 2),
            |(row, class)| {
                if class == 0 { [2.0, 2.0, -2.0, 2.0][row] } else { 0.0 }
            },
        );
        let of_classes = temperature_of_classes(scores.view(), &[0, 0, 1, 1]).unwrap();
        assert!((found - of_classes).abs() < 1e-9, "{found} {of_classes}");
    }

    #[test]
    fn always_right_ends_at_the_bound() {
        let found = temperature_of_binary(&[1.0, -1.0], &[true, false]).unwrap();
        assert!((found - 1e-3).abs() < 1e-6, "{found}");
        assert!(temperature_of_binary(&[], &[]).is_err());
        assert!(temperature_of_binary(&[f64::INFINITY], &[true]).is_err());
    }
}
