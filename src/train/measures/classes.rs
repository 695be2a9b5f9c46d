//! One of several classes.

use ndarray::{Array2, ArrayView2};

use super::{MeasureError, argmax, same_length};

/// How often each class was taken for each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    /// `[true class, predicted class]`
    counts: Array2<u64>,
}

impl Confusion {
    /// Of true classes and predicted ones, each below `classes`.
    ///
    /// # Errors
    /// [`MeasureError`] when lengths differ, there is no row, or a class is not below `classes`.
    pub fn new(truth: &[usize], predicted: &[usize], classes: usize) -> Result<Self, MeasureError> {
        const MEASURE: &str = "confusion";
        same_length(MEASURE, "predictions", predicted.len(), truth.len())?;
        if truth.is_empty() {
            return Err(MeasureError::Empty { measure: MEASURE });
        }
        let mut counts = Array2::zeros((classes, classes));
        for (row, (&truth, &predicted)) in truth.iter().zip(predicted).enumerate() {
            match counts.get_mut((truth, predicted)) {
                Some(count) => *count += 1,
                None => {
                    let label = truth.max(predicted);
                    return Err(MeasureError::Label { measure: MEASURE, label, row, classes });
                }
            }
        }
        Ok(Self { counts })
    }

    /// Of true classes and scores `[rows, classes]`, whose largest (the lowest of equals) is the prediction.
    ///
    /// # Errors
    /// As [`Confusion::new`]; a row of scores that are all NaN.
    pub fn of_scores(truth: &[usize], scores: ArrayView2<'_, f64>) -> Result<Self, MeasureError> {
        let mut predicted = Vec::with_capacity(scores.nrows());
        for (row, scores) in scores.rows().into_iter().enumerate() {
            predicted.push(argmax(scores).ok_or(MeasureError::Number {
                measure: "confusion",
                number: "nothing but NaN".to_owned(),
                row,
                allowed: "scores, one of them a number",
            })?);
        }
        Self::new(truth, &predicted, scores.ncols())
    }

    /// `[true class, predicted class]`
    #[must_use]
    pub const fn counts(&self) -> &Array2<u64> {
        &self.counts
    }

    /// `[true class][predicted class]`, as a table.
    #[must_use]
    pub fn nested(&self) -> Vec<Vec<u64>> {
        self.counts.rows().into_iter().map(|row| row.to_vec()).collect()
    }

    /// Rows.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.sum()
    }

    /// Rows whose class was found.
    #[must_use]
    pub fn right(&self) -> u64 {
        self.counts.diag().sum()
    }

    /// Share of rows whose class was found.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.right() as f64 / self.total() as f64
    }

    /// The most frequent class, the first of several.
    #[must_use]
    pub fn commonest(&self) -> usize {
        let counts: Vec<u64> = self.counts.rows().into_iter().map(|row| row.sum()).collect();
        let most = counts.iter().max();
        counts.iter().position(|count| Some(count) == most).unwrap_or(0)
    }

    /// Accuracy of always saying one class: of the most frequent one, what an accuracy stands beside.
    #[must_use]
    pub fn rate_of(&self, class: usize) -> f64 {
        let count = self.counts.rows().into_iter().nth(class).map_or(0, |row| row.sum());
        count as f64 / self.total() as f64
    }

    /// Accuracy of always saying the most frequent class.
    #[must_use]
    pub fn majority_rate(&self) -> f64 {
        self.rate_of(self.commonest())
    }

    /// F1 of each class, 2·TP / (2·TP + FP + FN), 0 for one that neither occurs nor is predicted.
    #[must_use]
    pub fn f1(&self) -> Vec<f64> {
        let of = |class: usize| {
            let right = self.counts.get((class, class)).copied().unwrap_or(0);
            let both = self.counts.row(class).sum() + self.counts.column(class).sum();
            if both == 0 { 0.0 } else { 2.0 * right as f64 / both as f64 }
        };
        (0..self.counts.nrows()).map(of).collect()
    }

    /// Mean of F1 over the classes that occur or are predicted.
    #[must_use]
    pub fn macro_f1(&self) -> f64 {
        let is_there = |class: &usize| self.counts.row(*class).sum() + self.counts.column(*class).sum() > 0;
        let there = (0..self.counts.nrows()).filter(is_there).count();
        self.f1().iter().sum::<f64>() / there as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_hand() {
        let confusion = Confusion::new(&[0, 0, 1, 1, 1], &[0, 1, 1, 1, 0], 3).unwrap();
        assert_eq!((confusion.right(), confusion.total()), (3, 5));
        assert_eq!((confusion.commonest(), confusion.rate_of(0), confusion.majority_rate()), (1, 0.4, 0.6));
        // Class 0: TP 1, FP 1, FN 1 → ½; class 1: TP 2, FP 1, FN 1 → ⅔; class 2 does not occur.
        let f1 = confusion.f1();
        assert!((f1[0] - 0.5).abs() < 1e-12 && (f1[1] - 2.0 / 3.0).abs() < 1e-12 && f1[2] == 0.0);
        assert!((confusion.macro_f1() - f64::midpoint(0.5, 2.0 / 3.0)).abs() < 1e-12);
        // Class 2 is taken for another once: it counts.
        let confusion = Confusion::new(&[0, 0], &[0, 2], 4).unwrap();
        assert!((confusion.macro_f1() - (2.0 / 3.0) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn a_class_that_is_not_there_is_named() {
        let error = Confusion::new(&[0, 5], &[0, 0], 3).unwrap_err();
        assert_eq!(error.to_string(), "confusion: found label 5 in row 1, allowed are 0 to 2");
        assert!(Confusion::new(&[], &[], 3).is_err());
        assert!(Confusion::new(&[0], &[], 3).is_err());
        let nan = ndarray::array![[f64::NAN, f64::NAN]];
        assert!(Confusion::of_scores(&[0], nan.view()).is_err());
    }
}
