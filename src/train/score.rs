//! Figures: what a network and the simple predictors are worth on held-out examples, each with an interval.
//!
//! Intervals are of 95 %, by resampling groups (sequences, subjects) with replacement (Efron's bootstrap): the rows of one
//! group are no independent draws.

use std::collections::BTreeMap;

use ndarray::{Array2, Array3, ArrayView2};
use serde::{Deserialize, Serialize};

use super::data::{DataSet, Example, Report};
use super::evaluate::{Answers, Row};
use super::measures::{self, beam, binary, calibration, classes, pose};
use super::simple::{self, Simple};
use crate::model::heads::{softmax, within_horizons};
use crate::model::seeded;
use crate::model::tasks::Task;
use crate::time::Span;

/// Times that groups are drawn.
const DRAWS: usize = 200;
/// Bins of the calibration error.
const BINS: usize = 10;

/// A figure and its interval of 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Over all rows.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What one predictor is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worth {
    /// Its name.
    pub predictor: String,
    /// By the name of the measure.
    pub figures: BTreeMap<String, Figure>,
}

/// One question, and how well it is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Its task.
    pub task: Task,
    /// What is asked: `now`, `in 100 ms`, `within 500 ms`.
    pub what: String,
    /// Rows that have an answer.
    pub rows: usize,
    /// Groups that they are of.
    pub groups: usize,
    /// The network first, then the simple predictors.
    pub worth: Vec<Worth>,
    /// Of a task that chooses: `[true class][chosen class]`, of the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confusion: Vec<Vec<u64>>,
    /// (mean probability, share that was right, rows) per bin, of the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reliability: Vec<(f64, f64, u64)>,
}

/// A measure: over positions of rows, drawn or all; `None` where it has no value.
type Measure<'a> = (&'a str, Box<dyn Fn(&[usize]) -> Option<f64> + 'a>);

/// A measure of one row: its scores `[1, beams]`, the true beam, what was measured.
type OfRow<'a> = dyn Fn(ArrayView2<'_, f64>, usize, &Report) -> Option<f64> + 'a;

/// Rows by group.
struct Grouped {
    rows: usize,
    groups: Vec<Vec<usize>>,
}

impl Grouped {
    fn new(groups: impl Iterator<Item = u32>) -> Self {
        let mut by_group: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        let mut rows = 0;
        for (row, group) in groups.enumerate() {
            by_group.entry(group).or_default().push(row);
            rows = row + 1;
        }
        Self { rows, groups: by_group.into_values().collect() }
    }

    /// A measure with its interval.
    fn figure(&self, measure: &dyn Fn(&[usize]) -> Option<f64>) -> Option<Figure> {
        let all: Vec<usize> = (0..self.rows).collect();
        let value = measure(&all)?;
        let mut random = seeded::stream(1, "bootstrap");
        let mut drawn: Vec<f64> = (0..DRAWS)
            .filter_map(|_| {
                let mut rows = Vec::with_capacity(self.rows);
                for _ in 0..self.groups.len() {
                    let at = (seeded::uniform(&mut random) * self.groups.len() as f64) as usize;
                    rows.extend(self.groups.get(at).into_iter().flatten());
                }
                measure(&rows)
            })
            .collect();
        drawn.sort_by(f64::total_cmp);
        let quantile = |share: f64| {
            let at = (share * drawn.len().saturating_sub(1) as f64).round() as usize;
            drawn.get(at).copied().unwrap_or(value)
        };
        Some(Figure { value, low: quantile(0.025), high: quantile(0.975) })
    }

    fn worth(&self, predictor: &str, measures: Vec<Measure<'_>>) -> Worth {
        let figures = measures
            .into_iter()
            .filter_map(|(name, measure)| Some((name.to_owned(), self.figure(measure.as_ref())?)));
        Worth { predictor: predictor.to_owned(), figures: figures.collect() }
    }
}

/// The mean of a value per row, where it has one.
fn mean_of(values: &[Option<f64>], rows: &[usize]) -> Option<f64> {
    let values: Vec<f64> = rows.iter().filter_map(|&row| values.get(row).copied().flatten()).collect();
    measures::mean(&values).ok()
}

/// Everything that is asked of a network on `answers`' examples.
#[must_use]
pub fn score(data: &DataSet, answers: &Answers, simple: Option<&Simple>, network: &str) -> Vec<Question> {
    let mut questions = Vec::new();
    for (&task, rows) in &answers.tasks {
        let rows: Vec<(&Row, &Example)> =
            rows.iter().filter_map(|row| Some((row, data.examples.get(row.example as usize)?))).collect();
        match task {
            Task::Beam => {
                for (instant, &ms) in data.shape.instants_ms.iter().enumerate() {
                    questions.extend(beam_question(data, &rows, instant, ms, simple, network));
                }
            }
            Task::Blockage => {
                for (horizon, &ms) in data.shape.horizons_ms.iter().enumerate() {
                    for clear_now in [false, true] {
                        // Whether a blockage comes, asked where there is none yet.
                        if clear_now && ms == 0 {
                            continue;
                        }
                        questions.extend(blockage_question(
                            data,
                            &rows,
                            (horizon, ms, clear_now),
                            simple,
                            network,
                        ));
                    }
                }
            }
            Task::Activity => questions.extend(activity_question(&rows, data, simple, network)),
            Task::Pose => questions.extend(pose_question(&rows, simple, network)),
        }
    }
    questions
}

fn beam_question(
    data: &DataSet,
    rows: &[(&Row, &Example)],
    instant: usize,
    ms: u32,
    simple: Option<&Simple>,
    network: &str,
) -> Option<Question> {
    let beams = data.shape.sizes.beams;
    let labelled: Vec<(&Row, &Example, &Report)> = rows
        .iter()
        .filter_map(|&(row, example)| Some((row, example, data.measured(example, instant)?)))
        .collect();
    if labelled.is_empty() {
        return None;
    }
    let grouped = Grouped::new(labelled.iter().map(|(_, example, _)| example.group));
    let truth: Vec<usize> = labelled.iter().map(|(.., report)| report.best as usize).collect();
    let codebook = if data.shape.codebook.circular {
        beam::Codebook::Circular { beams }
    } else {
        beam::Codebook::Linear
    };
    let worth = |name: &str, scores: &[Option<Vec<f64>>]| {
        let one = |scores: &Vec<f64>, what: &dyn Fn(ArrayView2<'_, f64>) -> Option<f64>| {
            Array2::from_shape_vec((1, scores.len()), scores.clone())
                .ok()
                .and_then(|scores| what(scores.view()))
        };
        let per_row = |what: &OfRow<'_>| {
            let rows = scores.iter().zip(&truth).zip(&labelled);
            rows.map(|((scores, &truth), (.., report))| {
                // No guess is a wrong one; of what it costs nothing is known.
                scores.as_ref().and_then(|scores| one(scores, &|scores| what(scores, truth, report)))
            })
            .collect::<Vec<Option<f64>>>()
        };
        let zero = |values: Vec<Option<f64>>| -> Vec<Option<f64>> {
            values.into_iter().map(|value| Some(value.unwrap_or(0.0))).collect()
        };
        let top = |k: usize| {
            zero(per_row(&|scores, truth, _| beam::top_k_accuracy(scores, &[Some(truth)], k).ok()))
        };
        let dba = zero(per_row(&|scores, truth, _| {
            beam::distance_based_accuracy(scores, &[Some(truth)], codebook).ok()
        }));
        let loss = per_row(&|scores, _, report| {
            let power = Array2::from_shape_vec((1, report.linear.len()), report.linear.clone()).ok()?;
            beam::power_loss_db(scores, power.view(), 1).ok()?.first().copied()
        });
        let mut measures: Vec<(&str, Vec<Option<f64>>)> =
            vec![("top-1", top(1)), ("mean power loss, dB", loss.clone())];
        // A predictor of one beam has no second choice.
        if scores.iter().flatten().any(|scores| scores.iter().filter(|score| **score > 0.0).count() > 1) {
            measures.extend([("top-3", top(3)), ("top-5", top(5)), ("DBA", dba)]);
        }
        let mut all: Vec<Measure<'_>> = Vec::new();
        for (name, values) in measures {
            all.push((name, Box::new(move |rows: &[usize]| mean_of(&values, rows))));
        }
        all.push((
            "median power loss, dB",
            Box::new(move |rows: &[usize]| {
                let values: Vec<f64> =
                    rows.iter().filter_map(|&row| loss.get(row).copied().flatten()).collect();
                measures::median(&values).ok()
            }),
        ));
        grouped.worth(name, all)
    };
    let own: Vec<Vec<f64>> = labelled
        .iter()
        .map(|(row, ..)| {
            let scores = row.scores.get(instant * beams..(instant + 1) * beams).unwrap_or_default();
            softmax(scores).into_iter().map(f64::from).collect()
        })
        .collect();
    let mut all = vec![worth(network, &own.iter().cloned().map(Some).collect::<Vec<_>>())];
    let one_hot = |beam: Option<u32>| {
        let mut scores = vec![0.0; beams];
        *scores.get_mut(beam? as usize)? = 1.0;
        Some(scores)
    };
    let mut add = |name: &str, guess: &dyn Fn(&Example) -> Option<u32>| {
        let guesses: Vec<Option<Vec<f64>>> =
            labelled.iter().map(|(_, example, _)| one_hot(guess(example))).collect();
        if guesses.iter().any(Option::is_some) {
            all.push(worth(name, &guesses));
        }
    };
    let ahead = Span::from_millis(i64::from(ms));
    add("persistence", &|example| simple::persistence(data, example));
    add("extrapolation", &|example| simple::extrapolation(data, example, ahead));
    if let Some(simple) = simple {
        add("15 nearest of two past beams", &|example| simple.by_past(data, example, instant));
        add("15 nearest positions", &|example| simple.by_place(data, example, instant));
        add("commonest beam", &|_| simple.commonest_beam(instant));
    }
    let scores = Array2::from_shape_vec((own.len(), beams), own.concat()).ok()?;
    let confusion = classes::Confusion::of_scores(&truth, scores.view()).ok();
    let confidence: Vec<(f64, bool)> = own
        .iter()
        .zip(&truth)
        .filter_map(|(scores, &truth)| {
            let best = measures::argmax(scores)?;
            Some((*scores.get(best)?, best == truth))
        })
        .collect();
    calibrate(&mut all, &grouped, &confidence);
    Some(Question {
        task: Task::Beam,
        what: if ms == 0 { "now".to_owned() } else { format!("in {ms} ms") },
        rows: labelled.len(),
        groups: grouped.groups.len(),
        worth: all,
        confusion: confusion.map(|confusion| nested(&confusion)).unwrap_or_default(),
        reliability: reliability(&confidence),
    })
}

/// Adds the calibration error to the network's worth, the first one.
fn calibrate(all: &mut [Worth], grouped: &Grouped, confidence: &[(f64, bool)]) {
    let figure = grouped.figure(&|rows: &[usize]| {
        let drawn = rows.iter().filter_map(|&row| confidence.get(row).copied());
        let (probabilities, labels): (Vec<f64>, Vec<bool>) = drawn.unzip();
        calibration::expected_calibration_error(&labels, &probabilities, BINS).ok()
    });
    if let (Some(first), Some(figure)) = (all.first_mut(), figure) {
        first.figures.insert("calibration error".to_owned(), figure);
    }
}

fn reliability(confidence: &[(f64, bool)]) -> Vec<(f64, f64, u64)> {
    let mut bins = vec![(0.0, 0.0, 0u64); BINS];
    for &(probability, right) in confidence {
        let bin = ((probability * BINS as f64) as usize).min(BINS - 1);
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

fn nested(confusion: &classes::Confusion) -> Vec<Vec<u64>> {
    confusion.counts().rows().into_iter().map(|row| row.to_vec()).collect()
}

fn blockage_question(
    data: &DataSet,
    rows: &[(&Row, &Example)],
    (horizon, ms, clear_now): (usize, u32, bool),
    simple: Option<&Simple>,
    network: &str,
) -> Option<Question> {
    let labelled: Vec<(&Row, &Example, bool)> = rows
        .iter()
        .filter_map(|&(row, example)| {
            let clear = example.truth.blocked.first().copied().flatten() == Some(false);
            Some((row, example, example.truth.blocked.get(horizon).copied().flatten()?))
                .filter(|_| clear || !clear_now)
        })
        .collect();
    if labelled.is_empty() {
        return None;
    }
    let grouped = Grouped::new(labelled.iter().map(|(_, example, _)| example.group));
    let truth: Vec<bool> = labelled.iter().map(|(.., blocked)| *blocked).collect();
    let worth = |name: &str, scores: Vec<f64>, threshold: f64| {
        let truth = &truth;
        let drawn = move |rows: &[usize]| -> (Vec<bool>, Vec<f64>) {
            rows.iter().filter_map(|&row| Some((*truth.get(row)?, *scores.get(row)?))).unzip()
        };
        let drawn = std::rc::Rc::new(drawn);
        let with = |what: fn(&binary::Scored<'_>, f64) -> Option<f64>| {
            let drawn = std::rc::Rc::clone(&drawn);
            Box::new(move |rows: &[usize]| {
                let (labels, scores) = drawn(rows);
                what(&binary::Scored::new(&labels, &scores).ok()?, threshold)
            }) as Box<dyn Fn(&[usize]) -> Option<f64>>
        };
        grouped.worth(
            name,
            vec![
                ("AP", with(|scored, _| scored.average_precision().ok())),
                ("AUROC", with(|scored, _| scored.auroc().ok())),
                ("accuracy", with(|scored, at| Some(scored.decide(at).accuracy()))),
                ("majority rate", with(|scored, _| Some(scored.majority_rate()))),
                ("F1", with(|scored, at| Some(scored.decide(at).f1()))),
                ("recall", with(|scored, at| Some(scored.decide(at).recall()))),
                ("precision", with(|scored, at| Some(scored.decide(at).precision()))),
            ],
        )
    };
    let own: Vec<f64> = labelled
        .iter()
        .map(|(row, ..)| within_horizons(&row.scores).get(horizon).map_or(0.0, |&p| f64::from(p)))
        .collect();
    let mut all = vec![worth(network, own.clone(), 0.5)];
    let was =
        |(_, example, _): &(&Row, &Example, bool)| f64::from(u8::from(example.was_blocked == Some(true)));
    all.push(worth("persistence", labelled.iter().map(was).collect(), 0.5));
    if let Some(simple) = simple {
        let prevalence = simple.prevalence(horizon).unwrap_or(0.0);
        all.push(worth("always the commonest", vec![prevalence; labelled.len()], 0.5));
        let near = labelled.iter().map(|(_, example, _)| simple.blocked_by_place(data, example, horizon));
        let near: Vec<Option<f64>> = near.collect();
        if near.iter().any(Option::is_some) {
            let near = near.into_iter().map(|near| near.unwrap_or(prevalence)).collect();
            all.push(worth("15 nearest positions", near, 0.5));
        }
    }
    let confidence: Vec<(f64, bool)> = own.iter().copied().zip(truth.iter().copied()).collect();
    calibrate(&mut all, &grouped, &confidence);
    let when = if ms == 0 { "now".to_owned() } else { format!("within {ms} ms") };
    Some(Question {
        task: Task::Blockage,
        what: if clear_now { format!("{when}, of those clear now") } else { when },
        rows: labelled.len(),
        groups: grouped.groups.len(),
        worth: all,
        confusion: Vec::new(),
        reliability: reliability(&confidence),
    })
}

fn activity_question(
    rows: &[(&Row, &Example)],
    data: &DataSet,
    simple: Option<&Simple>,
    network: &str,
) -> Option<Question> {
    let labelled: Vec<(&Row, &Example, usize)> = rows
        .iter()
        .filter_map(|&(row, example)| Some((row, example, example.truth.activity? as usize)))
        .collect();
    let classes = data.shape.sizes.activities;
    let grouped = Grouped::new(labelled.iter().map(|(_, example, _)| example.group));
    let truth: Vec<usize> = labelled.iter().map(|(.., class)| *class).collect();
    let own: Vec<Vec<f64>> =
        labelled.iter().map(|(row, ..)| softmax(&row.scores).into_iter().map(f64::from).collect()).collect();
    let chosen: Vec<Option<usize>> = own.iter().map(measures::argmax).collect();
    let worth = |name: &str, chosen: Vec<Option<usize>>| {
        let truth = &truth;
        let chosen = std::rc::Rc::new(chosen);
        let with = |what: fn(&classes::Confusion) -> f64| {
            let chosen = std::rc::Rc::clone(&chosen);
            Box::new(move |rows: &[usize]| {
                let drawn = rows.iter().filter_map(|&row| Some((*truth.get(row)?, (*chosen.get(row)?)?)));
                let (truth, chosen): (Vec<usize>, Vec<usize>) = drawn.unzip();
                Some(what(&classes::Confusion::new(&truth, &chosen, classes).ok()?))
            }) as Box<dyn Fn(&[usize]) -> Option<f64>>
        };
        grouped.worth(
            name,
            vec![
                ("top-1", with(classes::Confusion::accuracy)),
                ("majority rate", with(classes::Confusion::majority_rate)),
                ("macro F1", with(classes::Confusion::macro_f1)),
            ],
        )
    };
    let mut all = vec![worth(network, chosen.clone())];
    if let Some(class) = simple.and_then(Simple::activity) {
        all.push(worth("commonest activity", vec![Some(class as usize); labelled.len()]));
    }
    let scores = Array2::from_shape_vec((own.len(), classes), own.concat()).ok()?;
    let confusion = classes::Confusion::of_scores(&truth, scores.view()).ok()?;
    let confidence: Vec<(f64, bool)> = own
        .iter()
        .zip(&chosen)
        .zip(&truth)
        .filter_map(|((scores, chosen), truth)| Some((*scores.get((*chosen)?)?, *chosen == Some(*truth))))
        .collect();
    calibrate(&mut all, &grouped, &confidence);
    Some(Question {
        task: Task::Activity,
        what: "now".to_owned(),
        rows: labelled.len(),
        groups: grouped.groups.len(),
        worth: all,
        confusion: nested(&confusion),
        reliability: reliability(&confidence),
    })
}

fn pose_question(rows: &[(&Row, &Example)], simple: Option<&Simple>, network: &str) -> Option<Question> {
    let labelled: Vec<(&Row, &Example, &Vec<[f32; 3]>)> = rows
        .iter()
        .filter_map(|&(row, example)| Some((row, example, example.truth.pose.as_ref()?)))
        .collect();
    let joints = labelled.first()?.2.len();
    let grouped = Grouped::new(labelled.iter().map(|(_, example, _)| example.group));
    let one = |numbers: Vec<f64>| Array3::from_shape_vec((1, joints, 3), numbers).ok();
    let wide =
        |pose: &[[f32; 3]]| pose.iter().flatten().map(|&number| f64::from(number)).collect::<Vec<f64>>();
    let worth = |name: &str, poses: Vec<Vec<f64>>| {
        let frames: Vec<Option<[f64; 4]>> = poses
            .into_iter()
            .zip(&labelled)
            .map(|(predicted, (.., truth))| {
                let (truth, predicted) = (one(wide(truth))?, one(predicted)?);
                let absolute = truth.iter().zip(&predicted).map(|(a, b)| (a - b).abs()).sum::<f64>()
                    / truth.len() as f64;
                Some([
                    1e3 * pose::mpjpe(truth.view(), predicted.view()).ok()?,
                    1e3 * pose::pa_mpjpe(truth.view(), predicted.view()).ok()?,
                    pose::mean_squared_error(truth.view(), predicted.view()).ok()?,
                    1e3 * absolute,
                ])
            })
            .collect();
        let mut measures: Vec<Measure<'_>> = Vec::new();
        let names = ["MPJPE, mm", "PA-MPJPE, mm", "MSE, m²", "mean absolute error, mm"];
        for (at, name) in names.into_iter().enumerate() {
            let values: Vec<Option<f64>> =
                frames.iter().map(|frame| frame.and_then(|frame| frame.get(at).copied())).collect();
            measures.push((name, Box::new(move |rows: &[usize]| mean_of(&values, rows))));
        }
        grouped.worth(name, measures)
    };
    let own = labelled.iter().map(|(row, ..)| row.scores.iter().map(|&score| f64::from(score)).collect());
    let mut all = vec![worth(network, own.collect())];
    if let Some(mean) = simple.and_then(Simple::pose) {
        all.push(worth("mean pose", vec![wide(mean); labelled.len()]));
    }
    Some(Question {
        task: Task::Pose,
        what: "now".to_owned(),
        rows: labelled.len(),
        groups: grouped.groups.len(),
        worth: all,
        confusion: Vec::new(),
        reliability: Vec::new(),
    })
}
