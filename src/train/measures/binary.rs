//! Yes or no: blockage within a horizon. Tied scores count as scikit-learn counts them.

use super::{MeasureError, same_length};

/// Labels and scores, checked.
#[derive(Clone, Debug)]
pub struct Scored<'a> {
    labels: &'a [bool],
    scores: &'a [f64],
}

/// How decisions at one threshold compare with the labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Said yes, was yes.
    pub true_positive: u64,
    /// Said yes, was no: a false alarm.
    pub false_positive: u64,
    /// Said no, was no.
    pub true_negative: u64,
    /// Said no, was yes: a miss.
    pub false_negative: u64,
}

impl Decisions {
    fn share(part: u64, of: u64) -> f64 {
        if of == 0 { 0.0 } else { part as f64 / of as f64 }
    }

    /// Share that is right.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        let right = self.true_positive + self.true_negative;
        Self::share(right, right + self.false_positive + self.false_negative)
    }

    /// Share of the yes that were right; 0 where none was said.
    #[must_use]
    pub fn precision(&self) -> f64 {
        Self::share(self.true_positive, self.true_positive + self.false_positive)
    }

    /// Share of the positives that were found; 0 where there is none.
    #[must_use]
    pub fn recall(&self) -> f64 {
        Self::share(self.true_positive, self.true_positive + self.false_negative)
    }

    /// 2·TP / (2·TP + FP + FN); 0 where nothing is positive nor said to be.
    #[must_use]
    pub fn f1(&self) -> f64 {
        let both = 2 * self.true_positive + self.false_positive + self.false_negative;
        Self::share(2 * self.true_positive, both)
    }
}

impl<'a> Scored<'a> {
    /// Labels with their scores, the higher the likelier yes.
    ///
    /// # Errors
    /// [`MeasureError`] when there is no row, lengths differ, or a score is NaN.
    pub fn new(labels: &'a [bool], scores: &'a [f64]) -> Result<Self, MeasureError> {
        const MEASURE: &str = "binary measures";
        same_length(MEASURE, "scores", scores.len(), labels.len())?;
        if labels.is_empty() {
            return Err(MeasureError::Empty { measure: MEASURE });
        }
        if let Some(row) = scores.iter().position(|score| score.is_nan()) {
            let number = "NaN".to_owned();
            return Err(MeasureError::Number { measure: MEASURE, number, row, allowed: "numbers" });
        }
        Ok(Self { labels, scores })
    }

    fn positives(&self) -> usize {
        self.labels.iter().filter(|label| **label).count()
    }

    /// Accuracy of always giving one answer: of the more frequent one, what an accuracy stands beside.
    #[must_use]
    pub fn rate_of(&self, answer: bool) -> f64 {
        let share = self.positives() as f64 / self.labels.len() as f64;
        if answer { share } else { 1.0 - share }
    }

    /// Accuracy of always giving the more frequent answer.
    #[must_use]
    pub fn majority_rate(&self) -> f64 {
        self.rate_of(true).max(self.rate_of(false))
    }

    /// Yes where a score is above the threshold (strictly).
    #[must_use]
    pub fn decide(&self, threshold: f64) -> Decisions {
        let mut decisions = Decisions::default();
        for (&label, &score) in self.labels.iter().zip(self.scores) {
            *match (label, score > threshold) {
                (true, true) => &mut decisions.true_positive,
                (false, true) => &mut decisions.false_positive,
                (false, false) => &mut decisions.true_negative,
                (true, false) => &mut decisions.false_negative,
            } += 1;
        }
        decisions
    }

    /// (positives, negatives) at each distinct score, highest first.
    fn steps(&self) -> Vec<(u64, u64)> {
        let mut order: Vec<(f64, bool)> =
            self.scores.iter().copied().zip(self.labels.iter().copied()).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut steps: Vec<(u64, u64)> = Vec::new();
        let mut last = f64::NAN;
        for (score, label) in order {
            if score != last {
                steps.push((0, 0));
                last = score;
            }
            if let Some(step) = steps.last_mut() {
                let side = if label { &mut step.0 } else { &mut step.1 };
                *side += 1;
            }
        }
        steps
    }

    /// Average precision: Σ over distinct thresholds, falling, of (recall − recall before)·precision.
    ///
    /// # Errors
    /// [`MeasureError::OneSided`] without a positive.
    pub fn average_precision(&self) -> Result<f64, MeasureError> {
        let positives = self.positives();
        if positives == 0 {
            return Err(self.one_sided("average precision"));
        }
        let (mut found, mut said, mut sum) = (0u64, 0u64, 0.0);
        for (yes, no) in self.steps() {
            found += yes;
            said += yes + no;
            sum += yes as f64 / positives as f64 * (found as f64 / said as f64);
        }
        Ok(sum)
    }

    /// Area under the ROC curve: the chance that a positive scores above a negative, a tie counting ½.
    ///
    /// # Errors
    /// [`MeasureError::OneSided`] unless there are positives and negatives.
    pub fn auroc(&self) -> Result<f64, MeasureError> {
        let positives = self.positives();
        let negatives = self.labels.len() - positives;
        if positives == 0 || negatives == 0 {
            return Err(self.one_sided("AUROC"));
        }
        let (mut above, mut area) = (0u64, 0.0);
        for (yes, no) in self.steps() {
            area += no as f64 * (above as f64 + yes as f64 / 2.0);
            above += yes;
        }
        Ok(area / (positives as f64 * negatives as f64))
    }

    fn one_sided(&self, measure: &'static str) -> MeasureError {
        MeasureError::OneSided { measure, positives: self.positives(), rows: self.labels.len() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tied_scores_are_one_threshold() {
        // At 0.5: one of two right; at 0.1: two of three.
        let scored = Scored::new(&[true, false, true], &[0.5, 0.5, 0.1]).unwrap();
        assert!((scored.average_precision().unwrap() - (0.5 * 0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-12);
        assert!((scored.auroc().unwrap() - 0.25).abs() < 1e-12);
        // −0 and 0 are the same score.
        assert_eq!(Scored::new(&[true, false], &[-0.0, 0.0]).unwrap().auroc(), Ok(0.5));
    }

    #[test]
    fn the_threshold_is_strict() {
        let scored = Scored::new(&[true, true, false, false], &[0.5, 0.6, 0.7, 0.1]).unwrap();
        let decisions = scored.decide(0.5);
        let expected = Decisions { true_positive: 1, false_positive: 1, true_negative: 1, false_negative: 1 };
        assert_eq!(decisions, expected);
        assert_eq!(decisions.f1(), 0.5);
    }

    #[test]
    fn one_sided_labels_have_no_rank_measures() {
        let error = Scored::new(&[false, false], &[0.1, 0.2]).unwrap().auroc().unwrap_err();
        assert_eq!(error.to_string(), "AUROC: found 0 positives among 2 rows, allowed are 1 to 1");
        assert!(Scored::new(&[true], &[f64::NAN]).is_err());
        assert!(Scored::new(&[], &[]).is_err());
    }

    proptest! {
        #[test]
        fn auroc_is_the_chance_of_the_right_order(
            rows in proptest::collection::vec((any::<bool>(), 0u8..6), 2..40),
        ) {
            let labels: Vec<bool> = rows.iter().map(|row| row.0).collect();
            let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.1)).collect();
            let scored = Scored::new(&labels, &scores).unwrap();
            let (mut sum, mut pairs) = (0.0, 0.0);
            for (_, positive) in rows.iter().filter(|row| row.0) {
                for (_, negative) in rows.iter().filter(|row| !row.0) {
                    pairs += 1.0;
                    sum += match positive.cmp(negative) {
                        std::cmp::Ordering::Greater => 1.0,
                        std::cmp::Ordering::Equal => 0.5,
                        std::cmp::Ordering::Less => 0.0,
                    };
                }
            }
            match scored.auroc() {
                Ok(found) => prop_assert!((found - sum / pairs).abs() < 1e-12),
                Err(_) => prop_assert_eq!(pairs, 0.0),
            }
        }

        #[test]
        fn average_precision_does_not_depend_on_the_order_of_rows(
            rows in proptest::collection::vec((any::<bool>(), 0u8..6), 1..40),
        ) {
            let measure = |rows: &[(bool, u8)]| {
                let labels: Vec<bool> = rows.iter().map(|row| row.0).collect();
                let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.1)).collect();
                Scored::new(&labels, &scores).unwrap().average_precision().ok()
            };
            let mut reversed = rows.clone();
            reversed.reverse();
            let found = measure(&rows);
            prop_assert_eq!(found, measure(&reversed));
            if let Some(found) = found {
                prop_assert!((0.0..=1.0 + 1e-12).contains(&found));
            }
        }
    }
}
