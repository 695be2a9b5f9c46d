//! What is reported of a model, in 64 bits and away from the code that was trained.
//!
//! Rows are samples. Beams: [`beam`]. One of several classes: [`classes`]. Yes or no: [`binary`], and how early it was
//! said: [`warnings`]. Joints: [`pose`]. How far a probability can be believed: [`calibration`]. Where a measure has no
//! value, because nothing was given or nothing counts, it is an error and not a number.

pub mod beam;
pub mod binary;
pub mod calibration;
pub mod classes;
pub mod pose;
pub mod warnings;

/// A measure that has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeasureError {
    /// Nothing to measure.
    #[error("{measure}: found no row that counts, allowed are 1 and more")]
    Empty {
        /// The measure.
        measure: &'static str,
    },
    /// Two inputs of different lengths.
    #[error("{measure}: found {found} {what}, allowed are {allowed}")]
    Length {
        /// The measure.
        measure: &'static str,
        /// What there is too much or too little of.
        what: &'static str,
        /// How many.
        found: usize,
        /// How many there should be.
        allowed: usize,
    },
    /// A label that is not below the number of classes.
    #[error("{measure}: found label {label} in row {row}, allowed are 0 to {}", .classes.saturating_sub(1))]
    Label {
        /// The measure.
        measure: &'static str,
        /// The label.
        label: usize,
        /// Its row.
        row: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A number that is NaN or infinite where none may be.
    #[error("{measure}: found {number} in row {row}, allowed are {allowed}")]
    Number {
        /// The measure.
        measure: &'static str,
        /// The number, as text: NaN is not equal to itself.
        number: String,
        /// Its row.
        row: usize,
        /// What is allowed.
        allowed: &'static str,
    },
    /// Labels of one kind only, where two are compared.
    #[error("{measure}: found {positives} positives among {rows} rows, allowed are 1 to {}", .rows.saturating_sub(1))]
    OneSided {
        /// The measure.
        measure: &'static str,
        /// Positive labels.
        positives: usize,
        /// All labels.
        rows: usize,
    },
}

pub(crate) fn same_length(
    measure: &'static str,
    what: &'static str,
    found: usize,
    allowed: usize,
) -> Result<(), MeasureError> {
    if found == allowed { Ok(()) } else { Err(MeasureError::Length { measure, what, found, allowed }) }
}

/// Mean of values, an error of none.
///
/// # Errors
/// [`MeasureError::Empty`].
pub fn mean(values: &[f64]) -> Result<f64, MeasureError> {
    if values.is_empty() {
        return Err(MeasureError::Empty { measure: "mean" });
    }
    Ok(values.iter().sum::<f64>() / values.len() as f64)
}

/// Median of values (of an even number, the mean of the two in the middle), an error of none.
///
/// # Errors
/// [`MeasureError::Empty`].
pub fn median(values: &[f64]) -> Result<f64, MeasureError> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), middle.checked_sub(1).and_then(|before| sorted.get(before))) {
        (Some(upper), Some(lower)) if sorted.len().is_multiple_of(2) => Ok(f64::midpoint(*lower, *upper)),
        (Some(upper), _) => Ok(*upper),
        (None, _) => Err(MeasureError::Empty { measure: "median" }),
    }
}

/// Index of the largest number that is not NaN, the lowest of equals; `None` where all are NaN.
#[must_use]
pub fn argmax<'a>(numbers: impl IntoIterator<Item = &'a f64>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, &number) in numbers.into_iter().enumerate() {
        if !number.is_nan() && best.is_none_or(|(_, most)| number > most) {
            best = Some((index, number));
        }
    }
    best.map(|(index, _)| index)
}

/// Indices of the `k` largest numbers, largest first, ties to the lower index, NaN last.
#[must_use]
pub fn top_k<'a>(numbers: impl IntoIterator<Item = &'a f64>, k: usize) -> Vec<usize> {
    let mut order: Vec<(usize, f64)> = numbers.into_iter().copied().enumerate().collect();
    order.sort_by(|(a, x), (b, y)| {
        x.is_nan().cmp(&y.is_nan()).then(y.partial_cmp(x).unwrap_or(std::cmp::Ordering::Equal)).then(a.cmp(b))
    });
    order.truncate(k);
    order.into_iter().map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_never_the_largest_and_ties_go_to_the_lower_index() {
        let numbers = [f64::NAN, 1.0, 3.0, 3.0, f64::NEG_INFINITY];
        assert_eq!(argmax(&numbers), Some(2));
        assert_eq!(argmax(&[f64::NAN; 3]), None);
        assert_eq!(argmax(&[]), None);
        assert_eq!(top_k(&numbers, 9), [2, 3, 1, 4, 0]);
        assert_eq!(top_k(&numbers, 2), [2, 3]);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Ok(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Ok(2.5));
        assert!(median(&[]).is_err());
        assert!(mean(&[]).is_err());
    }
}
