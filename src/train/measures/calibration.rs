//! How far a probability can be believed, and the numbers that make it more believable.

use ndarray::ArrayView2;

use super::{MeasureError, same_length};
use crate::model::deployed::Scaling;

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

/// The scaling of scores of "yes", σ(score / T + b), that makes the labels most likely (Platt, Probabilistic outputs for
/// support vector machines, 1999, with his smoothed targets, which keep it finite; Newton steps as Lin, Lin and Weng give
/// them, Machine Learning 68, 2007). The shift takes back what a loss that counts one label more has added.
///
/// # Errors
/// [`MeasureError`] when there is no row, lengths differ, a score is not finite, or the likeliest scaling turns scores round.
pub fn scaling_of_binary(scores: &[f64], labels: &[bool]) -> Result<Scaling, MeasureError> {
    const STEPS: usize = 100;
    /// Added to the curvature, so that equal scores leave it regular.
    const RIDGE: f64 = 1e-9;
    same_length("scaling", "labels", labels.len(), scores.len())?;
    if labels.is_empty() {
        return Err(MeasureError::Empty { measure: "scaling" });
    }
    for (row, score) in scores.iter().enumerate() {
        finite(std::iter::once(score), row)?;
    }
    let yes = labels.iter().filter(|&&label| label).count() as f64;
    let no = labels.len() as f64 - yes;
    let targets = [1.0 / (no + 2.0), (yes + 1.0) / (yes + 2.0)];
    let target = |label: bool| targets[usize::from(label)];
    // Mean of ln(1 + e^z) − t z over the rows.
    let cost = |a: f64, b: f64| -> f64 {
        let row = |(&score, &label): (&f64, &bool)| {
            let z = a * score + b;
            z.max(0.0) + (-z.abs()).exp().ln_1p() - target(label) * z
        };
        scores.iter().zip(labels).map(row).sum::<f64>()
    };
    let (mut a, mut b) = (1.0, 0.0);
    let mut now = cost(a, b);
    for _ in 0..STEPS {
        let (mut of_a, mut of_b, mut aa, mut ab, mut bb) = (0.0, 0.0, RIDGE, 0.0, RIDGE);
        for (&score, &label) in scores.iter().zip(labels) {
            let p = 1.0 / (1.0 + (-(a * score + b)).exp());
            let (slope, curve) = (p - target(label), p * (1.0 - p));
            of_a += slope * score;
            of_b += slope;
            aa += curve * score * score;
            ab += curve * score;
            bb += curve;
        }
        let determinant = aa * bb - ab * ab;
        let step = [(bb * of_a - ab * of_b) / determinant, (aa * of_b - ab * of_a) / determinant];
        // Half as far until it is lower.
        let mut factor = 1.0;
        let mut lower = None;
        while factor > 1e-10 && lower.is_none() {
            let (next_a, next_b) = (a - factor * step[0], b - factor * step[1]);
            let next = cost(next_a, next_b);
            lower = (next < now).then_some((next_a, next_b, next));
            factor *= 0.5;
        }
        let Some((next_a, next_b, next)) = lower else { break };
        (a, b, now) = (next_a, next_b, next);
    }
    if a > 0.0 && a.is_finite() && b.is_finite() {
        return Ok(Scaling { temperature: 1.0 / a, shift: b, later: Vec::new() });
    }
    let number = a.to_string();
    Err(MeasureError::Number { measure: "scaling", number, row: 0, allowed: "a factor above 0" })
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
    fn a_temperature_has_a_closed_form() {
        // Scores (±s, 0), right three times of four: σ(s/T) = ¾, so T = s / ln 3.
        let scores = Array2::from_shape_fn(
            (4, 2),
            |(row, class)| {
                if class == 0 { [2.0, 2.0, -2.0, 2.0][row] } else { 0.0 }
            },
        );
        let found = temperature_of_classes(scores.view(), &[0, 0, 1, 1]).unwrap();
        assert!((found - 2.0 / 3f64.ln()).abs() < 1e-9, "{found}");
    }

    #[test]
    fn a_scaling_makes_shares_of_scores() {
        // At each of two scores 1000 rows, of which 100 and 700 are yes: σ(s / T + b) is those shares (the smoothing of the
        // targets aside), so (s₂ − s₁) / T = ln(7/3) + ln 9.
        let rows = [(-1.0, 100), (3.0, 700)]
            .into_iter()
            .flat_map(|(score, yes)| (0..1000).map(move |row| (score, row < yes)));
        let (scores, labels): (Vec<f64>, Vec<bool>) = rows.unzip();
        let found = scaling_of_binary(&scores, &labels).unwrap();
        let factor = ((7.0 / 3.0f64).ln() + 9f64.ln()) / 4.0;
        assert!((1.0 / found.temperature - factor).abs() < 0.01 * factor, "{found:?}");
        let share = 1.0 / (1.0 + (-(-1.0 / found.temperature + found.shift)).exp());
        assert!((share - 0.1).abs() < 0.002, "{share}");
        assert!((found.undo(3.0 / found.temperature + found.shift) - 3.0).abs() < 1e-12);
        // Always right: finite. The wrong way round: refused.
        let sure = scaling_of_binary(&[1.0, -1.0], &[true, false]).unwrap();
        assert!(sure.temperature.is_finite() && sure.temperature > 0.0, "{sure:?}");
        assert!(scaling_of_binary(&[-1.0, -2.0, 1.0, 2.0], &[true, true, false, false]).is_err());
        // One score for all says nothing but the shift.
        let flat = scaling_of_binary(&[0.0; 4], &[true, false, false, false]).unwrap();
        assert!(flat.shift < 0.0, "{flat:?}");
    }

    #[test]
    fn always_right_ends_at_the_bound() {
        let scores = Array2::from_shape_vec((2, 2), vec![1.0, 0.0, 0.0, 1.0]).unwrap();
        let found = temperature_of_classes(scores.view(), &[0, 1]).unwrap();
        assert!((found - 1e-3).abs() < 1e-6, "{found}");
        assert!(scaling_of_binary(&[], &[]).is_err());
        assert!(scaling_of_binary(&[f64::INFINITY], &[true]).is_err());
    }
}
