//! Figures: what a network and the simple predictors are worth on held-out examples, each with an interval.
//!
//! Intervals are of 95 %, by resampling groups (sequences, subjects) with replacement: the rows of one group are no independent
//! draws. Percentiles are those of Hesterberg's expanded interval, which is as wide as Student's would be: plain ones are too
//! narrow where there are few groups (Hesterberg, What teachers should know about the bootstrap, Am. Stat. 69, 2015). Of less
//! than five groups there is no interval.
//!
//! | task | figures |
//! |---|---|
//! | beam | `top-1`, `top-3`, `top-5`, `DBA`, `mean power loss, dB`, `median power loss, dB` ([`measures::beam`]) |
//! | blockage | `AP`, `AUROC`, `accuracy`, `majority rate`, `F1`, `recall`, `precision` ([`measures::binary`]), decided at one half; within the longest horizon, of those clear now, also `lead time, ms` (median), `onsets warned`, `false alarms per minute`, `clear time warned` ([`measures::warnings`]) |
//! | activity | `top-1`, `majority rate`, `macro F1` ([`measures::classes`]) |
//! | pose | `MPJPE, mm`, `PA-MPJPE, mm`, `MSE, m²`, `mean absolute error, mm` over coordinates ([`measures::pose`]) |
//!
//! Of a simulated recording stands beside the predictors of beams what [`ORACLE`] would be worth.
//!
//! A network has a `calibration error` besides ([`measures::calibration`], ten bins), of its first choice or of "blocked";
//! where its scores were scaled to be believed, also `calibration error before scaling`.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::data::{DataSet, Example};
use super::evaluate::{Answers, Row};
use super::measures::{self, calibration};
use super::simple::Simple;
use crate::model::deployed::Scaling;
use crate::model::seeded;
use crate::model::tasks::Task;

mod activity;
mod beam;
mod blockage;
mod pose;

/// Times that groups are drawn.
const DRAWS: usize = 1000;
/// Groups that an interval takes: of four, the percentiles of [`tail`] lie beyond the outermost draws.
const LEAST_GROUPS: usize = 5;
/// Bins of the calibration error.
const BINS: usize = 10;

/// Who names the beam that would be best if nothing were measured with noise: no predictor, but the ceiling of all.
pub const ORACLE: &str = "oracle: noise-free best beam";
/// Share of the rows in which the first choice is right.
pub const TOP_1: &str = "top-1";
/// Average precision.
pub const AP: &str = "AP";
/// Share of the rows that are decided rightly.
pub const ACCURACY: &str = "accuracy";
/// What always giving the commonest answer would be worth.
pub const MAJORITY: &str = "majority rate";
/// Median time from the first warning to the onset.
pub const LEAD_TIME: &str = "lead time, ms";
/// Share of the onsets that were warned of.
pub const ONSETS_WARNED: &str = "onsets warned";
/// Runs of warnings after which nothing came.
pub const FALSE_ALARMS: &str = "false alarms per minute";
/// Share of the instants at which a link is clear that are warnings.
pub const CLEAR_WARNED: &str = "clear time warned";
/// Expected calibration error.
pub const CALIBRATION: &str = "calibration error";
/// Expected calibration error of the scores before they were scaled.
pub const CALIBRATION_BEFORE: &str = "calibration error before scaling";

/// Where a measure is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// The larger the better.
    Higher,
    /// The smaller the better.
    Lower,
    /// It says nothing of a predictor, or has no best by itself.
    Neither,
}

/// Where a measure of this name is best.
#[must_use]
pub fn better(measure: &str) -> Better {
    match measure {
        MAJORITY | LEAD_TIME | CLEAR_WARNED => Better::Neither,
        FALSE_ALARMS | CALIBRATION | CALIBRATION_BEFORE => Better::Lower,
        name if [", dB", ", mm", ", m²"].iter().any(|unit| name.ends_with(unit)) => Better::Lower,
        _ => Better::Higher,
    }
}

/// The measures of a task that come first, in this order.
#[must_use]
pub const fn main_measures(task: Task) -> &'static [&'static str] {
    match task {
        Task::Beam => &[TOP_1, "top-3", "DBA", "mean power loss, dB"],
        Task::Blockage => {
            &[AP, "AUROC", "F1", ACCURACY, MAJORITY, LEAD_TIME, ONSETS_WARNED, FALSE_ALARMS, CLEAR_WARNED]
        }
        Task::Activity => &[TOP_1, "macro F1", MAJORITY],
        Task::Pose => &["MPJPE, mm", "PA-MPJPE, mm", "mean absolute error, mm"],
    }
}

/// A figure and its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Over all rows.
    pub value: f64,
    /// Lower and upper end of the interval of 95 %; `None` of less than five groups.
    pub interval: Option<[f64; 2]>,
}

/// What one predictor is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worth {
    /// Its name.
    pub predictor: String,
    /// By the name of the measure.
    pub figures: BTreeMap<String, Figure>,
}

/// One bin of a reliability diagram: mean probability, share that was right, rows.
pub type Bin = (f64, f64, u64);

/// A pose that was told, beside the true one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoseSample {
    /// The sequence or subject.
    pub group: String,
    /// Capture time of its instant, ns since the Unix epoch.
    pub time_ns: i64,
    /// True joints, metres, unit frame: x right, y ahead, z up.
    pub truth: Vec<[f32; 3]>,
    /// Joints that the network told.
    pub predicted: Vec<[f32; 3]>,
}

/// One question, and how well it is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Its task.
    pub task: Task,
    /// What is asked: `now`, `in 100 ms`, `within 500 ms`, `within 500 ms, of those clear now`.
    pub what: String,
    /// How far ahead is asked, ms.
    pub ahead_ms: u32,
    /// Whether only links that are clear now are asked.
    pub clear_now: bool,
    /// Rows that have an answer.
    pub rows: usize,
    /// Groups that they are of.
    pub groups: usize,
    /// The network first, then the simple predictors.
    pub worth: Vec<Worth>,
    /// Of a task that chooses: `[true class][chosen class]`, of the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confusion: Vec<Vec<u64>>,
    /// Bins that have rows, of the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reliability: Vec<Bin>,
    /// The same before its scores were scaled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reliability_before: Vec<Bin>,
    /// Some poses, evenly taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poses: Vec<PoseSample>,
}

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The examples.
    pub data: &'a DataSet,
    /// What the network said of them.
    pub answers: &'a Answers,
    /// The network's name.
    pub network: &'a str,
    /// What stands beside it.
    pub simple: Option<&'a Simple>,
    /// How the network's scores were scaled when it was stored.
    pub scaling: &'a BTreeMap<Task, Scaling>,
}

/// An answer and what it is about.
type Asking<'a> = (&'a Row, &'a Example);

/// A value of each measure over positions of rows, drawn or all; `None` where it has none.
type Values = Vec<(&'static str, Option<f64>)>;

/// Everything that is asked of a network on the examples that it answered.
#[must_use]
pub fn score(asked: &Asked<'_>) -> Vec<Question> {
    let data = asked.data;
    let mut questions = Vec::new();
    for (&task, rows) in &asked.answers.tasks {
        let rows: Vec<Asking<'_>> =
            rows.iter().filter_map(|row| Some((row, data.examples.get(row.example as usize)?))).collect();
        match task {
            Task::Beam => {
                let instants = data.shape.instants_ms.iter().enumerate();
                questions
                    .extend(instants.filter_map(|(instant, &ms)| beam::question(asked, &rows, instant, ms)));
            }
            Task::Blockage => questions.extend(blockage::questions(asked, &rows)),
            Task::Activity => questions.extend(activity::question(asked, &rows)),
            Task::Pose => questions.extend(pose::question(asked, &rows)),
        }
    }
    questions
}

/// The mean weight that the gate gave each modality, in the order of [`crate::model::Input::ALL`], over all examples that were
/// answered; none of a network without a gate.
#[must_use]
pub fn gate(data: &DataSet, answers: &Answers) -> Vec<Figure> {
    // One example, several tasks: the same row.
    let rows: BTreeMap<u32, &[f32]> =
        answers.tasks.values().flatten().map(|row| (row.example, row.gate.as_slice())).collect();
    let rows: Vec<(u32, &[f32])> = rows
        .into_iter()
        .filter_map(|(example, gate)| Some((data.examples.get(example as usize)?.group, gate)))
        .collect();
    let grouped = Grouped::new(rows.iter().map(|(group, _)| *group));
    let inputs = rows.iter().map(|(_, gate)| gate.len()).min().unwrap_or(0);
    let of = |input: usize| {
        let weights: Vec<Option<f64>> =
            rows.iter().map(|(_, gate)| gate.get(input).map(|&weight| f64::from(weight))).collect();
        grouped.figures(&|rows| vec![("weight", mean_of(&weights, rows))]).remove("weight")
    };
    (0..inputs).filter_map(of).collect()
}

/// The answers on examples of a condition.
#[must_use]
pub fn of_condition(data: &DataSet, answers: &Answers, condition: &str) -> Answers {
    let is_of = |row: &&Row| {
        let example = data.examples.get(row.example as usize);
        example.and_then(|example| data.condition(example)) == Some(condition)
    };
    let tasks =
        answers.tasks.iter().map(|(task, rows)| (*task, rows.iter().filter(is_of).cloned().collect()));
    Answers { tasks: tasks.collect(), losses: BTreeMap::new() }
}

/// Figures of things that are drawn with replacement: positions of `count` groups, drawn or all, to values.
fn figures(count: usize, measure: &(dyn Fn(&[usize]) -> Values + Sync)) -> BTreeMap<String, Figure> {
    let mut random = seeded::stream(1, "bootstrap");
    let mut draw =
        || (0..count).map(|_| (seeded::uniform(&mut random) * count as f64) as usize).collect::<Vec<usize>>();
    let draws: Vec<Vec<usize>> =
        if count >= LEAST_GROUPS { (0..DRAWS).map(|_| draw()).collect() } else { Vec::new() };
    let tail = tail(count);
    let drawn: Vec<BTreeMap<&str, f64>> = draws
        .par_iter()
        .map(|groups| measure(groups).into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
        .collect();
    let all: Vec<usize> = (0..count).collect();
    let figure = |(name, value): (&str, Option<f64>)| {
        let mut values: Vec<f64> = drawn.iter().filter_map(|drawn| drawn.get(name).copied()).collect();
        values.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            values.get((share * values.len().saturating_sub(1) as f64).round() as usize).copied()
        };
        let interval = quantile(tail).zip(quantile(1.0 - tail)).map(|(low, high)| [low, high]);
        Some((name.to_owned(), Figure { value: value?, interval }))
    };
    measure(&all).into_iter().filter_map(figure).collect()
}

/// The share of draws below an interval of 95 % of a statistic of `count` groups: Φ(−√(n/(n − 1)) t), with Student's t for
/// n − 1 degrees of freedom.
fn tail(count: usize) -> f64 {
    let freedom = count.saturating_sub(1).max(1) as f64;
    let (Ok(student), Ok(normal)) = (StudentsT::new(0.0, 1.0, freedom), Normal::new(0.0, 1.0)) else {
        unreachable!("their scale is 1, and the freedom above 0")
    };
    normal.cdf(-(count as f64 / freedom).sqrt() * student.inverse_cdf(0.975))
}

/// Rows by group.
struct Grouped {
    groups: Vec<Vec<usize>>,
}

impl Grouped {
    fn new(groups: impl Iterator<Item = u32>) -> Self {
        let mut by_group: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (row, group) in groups.enumerate() {
            by_group.entry(group).or_default().push(row);
        }
        Self { groups: by_group.into_values().collect() }
    }

    /// Measures over positions of rows, with their intervals.
    fn figures(&self, measure: &(dyn Fn(&[usize]) -> Values + Sync)) -> BTreeMap<String, Figure> {
        figures(self.groups.len(), &|groups| {
            let rows: Vec<usize> =
                groups.iter().filter_map(|&group| self.groups.get(group)).flatten().copied().collect();
            measure(&rows)
        })
    }

    fn worth(&self, predictor: &str, measure: &(dyn Fn(&[usize]) -> Values + Sync)) -> Worth {
        Worth { predictor: predictor.to_owned(), figures: self.figures(measure) }
    }
}

/// The mean of a value per row, where it has one.
fn mean_of(values: &[Option<f64>], rows: &[usize]) -> Option<f64> {
    let values: Vec<f64> = rows.iter().filter_map(|&row| values.get(row).copied().flatten()).collect();
    measures::mean(&values).ok()
}

/// Probabilities, and whether what was given that probability was right.
type Confidence = Vec<(f64, bool)>;

/// The probability of the first choice of each row of probabilities, and whether it is the true class.
fn confidence(rows: &[Vec<f64>], truth: &[usize]) -> Confidence {
    let of = |(row, &truth): (&Vec<f64>, &usize)| {
        let best = measures::argmax(row)?;
        Some((*row.get(best)?, best == truth))
    };
    rows.iter().zip(truth).filter_map(of).collect()
}

/// The calibration error of the network, its first worth, as it is stored and as it was before its scores were divided.
fn calibrate(question: &mut Question, grouped: &Grouped, after: &Confidence, before: Option<&Confidence>) {
    let error = |confidence: &Confidence, rows: &[usize]| {
        let drawn = rows.iter().filter_map(|&row| confidence.get(row).copied());
        let (probabilities, labels): (Vec<f64>, Vec<bool>) = drawn.unzip();
        calibration::expected_calibration_error(&labels, &probabilities, BINS).ok()
    };
    let figures = grouped.figures(&|rows| {
        let before = before.and_then(|before| error(before, rows));
        vec![(CALIBRATION, error(after, rows)), (CALIBRATION_BEFORE, before)]
    });
    if let Some(own) = question.worth.first_mut() {
        own.figures.extend(figures);
    }
    question.reliability = reliability(after);
    question.reliability_before = before.map(reliability).unwrap_or_default();
}

/// Bins as those of the calibration error.
fn reliability(confidence: &Confidence) -> Vec<Bin> {
    let mut bins = vec![(0.0, 0.0, 0u64); BINS];
    for &(probability, right) in confidence {
        let bin = ((probability * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
        if let Some((sum, hits, count)) = bins.get_mut(bin) {
            *sum += probability;
            *hits += f64::from(u8::from(right));
            *count += 1;
        }
    }
    bins.into_iter()
        .filter(|(.., count)| *count > 0)
        .map(|(sum, hits, count)| (sum / count as f64, hits / count as f64, count))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_group_has_no_interval_and_equal_groups_one_of_no_width() {
        let mean = |rows: &[usize]| vec![("mean", mean_of(&[Some(1.0), Some(2.0), None, Some(6.0)], rows))];
        let alone = Grouped::new([7, 7, 7, 7].into_iter()).figures(&mean);
        assert_eq!(alone["mean"], Figure { value: 3.0, interval: None });
        let same = |rows: &[usize]| vec![("share", mean_of(&[Some(0.5); 5], rows)), ("none", None)];
        let figures = Grouped::new([1, 2, 3, 4, 5].into_iter()).figures(&same);
        assert_eq!(figures.len(), 1);
        assert_eq!(figures["share"], Figure { value: 0.5, interval: Some([0.5, 0.5]) });
    }

    #[test]
    fn intervals_are_of_groups_and_not_of_rows() {
        // Six groups of 50 rows that agree within: what is drawn is a sixth of a whole number.
        let values: Vec<Option<f64>> = (0..300).map(|row| Some(f64::from(u8::from(row >= 150)))).collect();
        let grouped = Grouped::new((0..300).map(|row| row / 50));
        let figures = grouped.figures(&|rows| vec![("mean", mean_of(&values, rows))]);
        assert_eq!(figures["mean"], Figure { value: 0.5, interval: Some([0.0, 1.0]) });
    }

    #[test]
    fn measures_know_where_they_are_best() {
        for task in Task::ALL {
            for measure in main_measures(task) {
                let expected = match *measure {
                    MAJORITY | LEAD_TIME | CLEAR_WARNED => Better::Neither,
                    "mean power loss, dB" | FALSE_ALARMS => Better::Lower,
                    _ if task == Task::Pose => Better::Lower,
                    _ => Better::Higher,
                };
                assert_eq!(better(measure), expected, "{measure}");
            }
        }
    }

    #[test]
    fn the_bins_of_a_reliability_diagram_add_up_to_the_calibration_error() {
        let confidence: Confidence =
            vec![(0.1, false), (0.1, true), (0.2, false), (1.0, true), (0.95, false), (0.0, false)];
        let bins = reliability(&confidence);
        let error: f64 = bins.iter().map(|(p, share, rows)| (p - share).abs() * *rows as f64).sum();
        let (probabilities, labels): (Vec<f64>, Vec<bool>) = confidence.iter().copied().unzip();
        let whole = calibration::expected_calibration_error(&labels, &probabilities, BINS).unwrap();
        assert!((error / 6.0 - whole).abs() < 1e-12, "{bins:?}");
        // Two rows of 0.1 and one of 0 stand in the first bin.
        assert_eq!(bins.iter().map(|bin| bin.2).collect::<Vec<_>>(), [3, 1, 2]);
    }

    #[test]
    fn an_interval_is_as_wide_as_students() {
        // Φ(−√(8/7) · 2.3646)
        assert!((tail(8) - 0.005_74).abs() < 1e-4, "{}", tail(8));
        assert!((tail(1000) - 0.025).abs() < 2e-4, "{}", tail(1000));
        assert!(tail(LEAST_GROUPS) * DRAWS as f64 > 0.5 && tail(LEAST_GROUPS - 1) * DRAWS as f64 <= 0.5);
    }

    #[test]
    fn intervals_of_few_groups_hold_the_truth_as_often_as_they_say() {
        let mut random = seeded::stream(1, "groups");
        for (count, least) in [(5, 0.9), (8, 0.91), (22, 0.92)] {
            let rounds = 400;
            let mut held = 0;
            for _ in 0..rounds {
                // Of each group the mean of twelve uniform numbers less 6: all but normal, around 0.
                let groups: Vec<f64> = (0..count)
                    .map(|_| (0..12).map(|_| seeded::uniform(&mut random)).sum::<f64>() - 6.0)
                    .collect();
                let mean = |drawn: &[usize]| {
                    drawn.iter().map(|&group| groups[group]).sum::<f64>() / drawn.len() as f64
                };
                let found = figures(count, &|drawn| vec![("mean", Some(mean(drawn)))])["mean"];
                let [low, high] = found.interval.unwrap();
                assert!(low <= found.value && found.value <= high);
                held += u32::from(low <= 0.0 && 0.0 <= high);
            }
            let share = f64::from(held) / f64::from(rounds);
            assert!(share >= least && share <= 0.98, "{count} groups: {share}");
        }
        assert_eq!(figures(4, &|drawn| vec![("mean", Some(drawn.len() as f64))])["mean"].interval, None);
    }
}
