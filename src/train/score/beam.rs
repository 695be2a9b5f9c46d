//! How well beams are chosen.

use ndarray::{Array2, ArrayView2};

use super::{Asked, Asking, Grouped, ORACLE, Question, TOP_1, Values, calibrate, confidence, mean_of};
use crate::model::heads::softmax;
use crate::model::tasks::Task;
use crate::time::Span;
use crate::train::data::{Example, Report};
use crate::train::measures::{self, beam, classes};
use crate::train::simple;

/// A measure of one row: its scores `[1, beams]`, the true beam, what was measured.
type OfRow<'a> = dyn Fn(ArrayView2<'_, f64>, usize, &Report) -> Option<f64> + 'a;

/// The scores of beams of an example; `None` where there is nothing to go by.
type Guess<'a> = dyn Fn(&Example) -> Option<Vec<f64>> + 'a;

/// The beam at one instant, `ms` ahead.
pub(super) fn question(asked: &Asked<'_>, rows: &[Asking<'_>], instant: usize, ms: u32) -> Option<Question> {
    let data = asked.data;
    let beams = data.shape.sizes.beams;
    let labelled: Vec<(Asking<'_>, &Report)> = rows
        .iter()
        .filter_map(|&(row, example)| Some(((row, example), data.measured(example, instant)?)))
        .collect();
    if labelled.is_empty() {
        return None;
    }
    let grouped = Grouped::new(labelled.iter().map(|((_, example), _)| example.group));
    let truth: Vec<usize> = labelled.iter().map(|(_, report)| report.best as usize).collect();
    let codebook = if data.shape.codebook.circular {
        beam::Codebook::Circular { beams }
    } else {
        beam::Codebook::Linear
    };
    let worth = |name: &str, scores: &[Option<Vec<f64>>]| {
        let per_row = |what: &OfRow<'_>| {
            let rows = scores.iter().zip(&truth).zip(&labelled);
            rows.map(|((scores, &truth), (_, report))| {
                // No guess is a wrong one; of what it costs nothing is known.
                let scores = scores.as_ref()?;
                what(ArrayView2::from_shape((1, scores.len()), scores).ok()?, truth, report)
            })
            .collect::<Vec<Option<f64>>>()
        };
        let zero = |values: Vec<Option<f64>>| -> Vec<Option<f64>> {
            values.into_iter().map(|value| Some(value.unwrap_or(0.0))).collect()
        };
        let top = |k: usize| {
            zero(per_row(&|scores, truth, _| beam::top_k_accuracy(scores, &[Some(truth)], k).ok()))
        };
        let loss = per_row(&|scores, _, report| {
            // Where one beam alone is known, nothing is of what another one loses.
            report.linear.iter().filter(|power| !power.is_nan()).nth(1)?;
            let power = ArrayView2::from_shape((1, report.linear.len()), &report.linear).ok()?;
            beam::power_loss_db(scores, power, 1).ok()?.first().copied()
        });
        let mut means = vec![(TOP_1, top(1)), ("mean power loss, dB", loss.clone())];
        // A predictor of one beam has no second choice.
        if scores.iter().flatten().any(|scores| scores.iter().filter(|score| **score > 0.0).count() > 1) {
            let dba = zero(per_row(&|scores, truth, _| {
                beam::distance_based_accuracy(scores, &[Some(truth)], codebook).ok()
            }));
            means.extend([("top-3", top(3)), ("top-5", top(5)), ("DBA", dba)]);
        }
        let measure = |rows: &[usize]| {
            let mut values: Values =
                means.iter().map(|(name, values)| (*name, mean_of(values, rows))).collect();
            let losses: Vec<f64> = rows.iter().filter_map(|&row| loss.get(row).copied().flatten()).collect();
            values.push(("median power loss, dB", measures::median(&losses).ok()));
            values
        };
        grouped.worth(name, &measure)
    };
    // Scores were divided by `factor`: undone, they are as they were.
    let probabilities = |factor: f64| -> Vec<Vec<f64>> {
        let of = |((row, _), _): &(Asking<'_>, &Report)| {
            let scores = row.scores.get(instant * beams..(instant + 1) * beams).unwrap_or_default();
            let scores: Vec<f32> = scores.iter().map(|score| score * factor as f32).collect();
            softmax(&scores).into_iter().map(f64::from).collect()
        };
        labelled.iter().map(of).collect()
    };
    let own = probabilities(1.0);
    let mut all = vec![worth(asked.network, &own.iter().cloned().map(Some).collect::<Vec<_>>())];
    let one_hot = |beam: Option<u32>| {
        let mut scores = vec![0.0; beams];
        *scores.get_mut(beam? as usize)? = 1.0;
        Some(scores)
    };
    let common = asked.simple.and_then(|simple| simple.common_beams(beams, instant));
    let mut add = |name: &str, guess: &Guess<'_>, instead: &Guess<'_>| {
        let guesses: Vec<Option<Vec<f64>>> =
            labelled.iter().map(|((_, example), _)| guess(example)).collect();
        if guesses.iter().any(Option::is_some) {
            let rows = guesses.into_iter().zip(&labelled);
            let guesses = rows.map(|(guess, ((_, example), _))| guess.or_else(|| instead(example)));
            all.push(worth(name, &guesses.collect::<Vec<_>>()));
        }
    };
    let in_rows = data.rows_ahead.as_ref().and_then(|ahead| Some((*ahead.rows.get(instant)?, ahead.period)));
    let ahead = in_rows.map_or(Span::from_millis(i64::from(ms)), |(rows, period)| period * rows as i64);
    let what = match in_rows {
        _ if ms == 0 => "now".to_owned(),
        None => format!("in {ms} ms"),
        Some((1, _)) => "in 1 row".to_owned(),
        Some((rows, _)) => format!("in {rows} rows"),
    };
    // Who has nothing to go by says what the next simpler one would say.
    let commonest = |_: &Example| common.clone();
    let last = |example: &Example| simple::persistence(data, example);
    let last_or_commonest = |example: &Example| last(example).or_else(|| common.clone());
    add("persistence", &last, &commonest);
    add("extrapolation", &|example| simple::extrapolation(data, example, ahead), &commonest);
    if let Some(simple) = asked.simple {
        add(
            "15 nearest of two past beams",
            &|example| simple.by_past(data, example, instant),
            &last_or_commonest,
        );
        add("15 nearest positions", &|example| simple.by_place(data, example, instant), &commonest);
        add("commonest beam", &commonest, &|_| None);
    }
    add(ORACLE, &|example| one_hot(data.known_best(example, instant)), &|_| None);
    let scores = Array2::from_shape_vec((own.len(), beams), own.concat()).ok()?;
    let confusion = classes::Confusion::of_scores(&truth, scores.view()).ok();
    let mut question = Question {
        task: Task::Beam,
        what,
        ahead_ms: ms,
        clear_now: false,
        rows: labelled.len(),
        groups: grouped.groups.len(),
        worth: all,
        confusion: confusion.map(|confusion| confusion.nested()).unwrap_or_default(),
        reliability: Vec::new(),
        reliability_before: Vec::new(),
        poses: Vec::new(),
    };
    let before = asked
        .scaling
        .get(&Task::Beam)
        .map(|of| confidence(&probabilities(of.temperature_at(instant)), &truth));
    calibrate(&mut question, &grouped, &confidence(&own, &truth), before.as_ref());
    Some(question)
}
