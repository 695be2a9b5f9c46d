//! How well activities are told apart.

use ndarray::Array2;

use super::{Asked, Asking, Grouped, MAJORITY, Question, TOP_1, calibrate, confidence};
use crate::model::heads::softmax;
use crate::model::tasks::Task;
use crate::train::measures::{self, classes};
use crate::train::simple::Simple;

/// The activity now.
pub(super) fn question(asked: &Asked<'_>, rows: &[Asking<'_>]) -> Option<Question> {
    let labelled: Vec<(Asking<'_>, usize)> = rows
        .iter()
        .filter_map(|&(row, example)| Some(((row, example), example.truth.activity? as usize)))
        .collect();
    let classes = asked.data.shape.sizes.activities;
    let grouped = Grouped::new(labelled.iter().map(|((_, example), _)| example.group));
    let truth: Vec<usize> = labelled.iter().map(|(_, class)| *class).collect();
    // Scores were divided by `factor`: undone, they are as they were.
    let probabilities = |factor: f64| -> Vec<Vec<f64>> {
        let of = |((row, _), _): &(Asking<'_>, usize)| {
            let scores: Vec<f32> = row.scores.iter().map(|score| score * factor as f32).collect();
            softmax(&scores).into_iter().map(f64::from).collect()
        };
        labelled.iter().map(of).collect()
    };
    let own = probabilities(1.0);
    // The commonest of all rows, whatever is drawn of them.
    let commonest = classes::Confusion::new(&truth, &truth, classes).ok()?.commonest();
    let worth = |name: &str, chosen: &[Option<usize>]| {
        grouped.worth(name, &|rows| {
            let drawn = rows.iter().filter_map(|&row| Some((*truth.get(row)?, (*chosen.get(row)?)?)));
            let (truth, chosen): (Vec<usize>, Vec<usize>) = drawn.unzip();
            let Ok(confusion) = classes::Confusion::new(&truth, &chosen, classes) else { return Vec::new() };
            vec![
                (TOP_1, Some(confusion.accuracy())),
                (MAJORITY, Some(confusion.rate_of(commonest))),
                ("macro F1", Some(confusion.macro_f1())),
            ]
        })
    };
    let mut all = vec![worth(asked.network, &own.iter().map(measures::argmax).collect::<Vec<_>>())];
    if let Some(class) = asked.simple.and_then(Simple::activity) {
        all.push(worth("commonest activity", &vec![Some(class as usize); labelled.len()]));
    }
    let scores = Array2::from_shape_vec((own.len(), classes), own.concat()).ok()?;
    let confusion = classes::Confusion::of_scores(&truth, scores.view()).ok()?;
    let mut question = Question {
        task: Task::Activity,
        what: "now".to_owned(),
        ahead_ms: 0,
        clear_now: false,
        rows: labelled.len(),
        groups: grouped.groups.len(),
        worth: all,
        confusion: confusion.nested(),
        reliability: Vec::new(),
        reliability_before: Vec::new(),
        poses: Vec::new(),
    };
    let before =
        asked.scaling.get(&Task::Activity).map(|of| confidence(&probabilities(of.temperature), &truth));
    calibrate(&mut question, &grouped, &confidence(&own, &truth), before.as_ref());
    Some(question)
}
