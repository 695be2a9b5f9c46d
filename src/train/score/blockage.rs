//! How well blockages are foreseen, and how early.

use std::collections::BTreeMap;

use super::{
    ACCURACY, AP, Asked, Asking, CLEAR_WARNED, Confidence, FALSE_ALARMS, Grouped, LEAD_TIME, MAJORITY,
    ONSETS_WARNED, Question, calibrate, figures,
};
use crate::model::deployed::Scaling;
use crate::model::heads::within_horizons;
use crate::model::tasks::Task;
use crate::time::Span;
use crate::train::data::Example;
use crate::train::measures::binary::Scored;
use crate::train::measures::warnings::{self, Instant, WARN_AT, Warnings};

/// A predictor: its name, and the probability that it gives to a blockage within a horizon (by number).
type Predictor<'a> = (&'a str, Box<dyn Fn(&Asking<'_>, usize) -> f64 + 'a>);

/// Every horizon, of all links and of those that are clear now.
pub(super) fn questions(asked: &Asked<'_>, rows: &[Asking<'_>]) -> Vec<Question> {
    let predictors = predictors(asked, rows);
    let horizons = &asked.data.shape.horizons_ms;
    let longest = horizons.iter().max().copied();
    // Without a horizon of 0 ms nobody says what is blocked now.
    let knows_now = horizons.first() == Some(&0);
    let scaling = asked.scaling.get(&Task::Blockage);
    let mut questions = Vec::new();
    for (horizon, &ms) in horizons.iter().enumerate() {
        questions.extend(question(rows, &predictors, scaling, (horizon, ms, false)));
        // Whether a blockage comes, asked where there is none yet.
        if ms > 0
            && knows_now
            && let Some(mut question) = question(rows, &predictors, scaling, (horizon, ms, true))
        {
            if Some(ms) == longest {
                warn(&mut question, rows, &predictors, horizon);
            }
            questions.push(question);
        }
    }
    questions
}

/// Where the first horizon is 0 ms.
fn blocked_now(example: &Example) -> Option<bool> {
    example.truth.blocked.first().copied().flatten()
}

/// The network first.
fn predictors<'a>(asked: &Asked<'a>, rows: &[Asking<'_>]) -> Vec<Predictor<'a>> {
    let data = asked.data;
    let own = |(row, _): &Asking<'_>, horizon: usize| {
        within_horizons(&row.scores).get(horizon).map_or(0.0, |&p| f64::from(p))
    };
    let was = |(_, example): &Asking<'_>, _| f64::from(u8::from(example.was_blocked == Some(true)));
    let mut all: Vec<Predictor<'a>> = vec![(asked.network, Box::new(own))];
    // Of windows that were cut out, nobody says what was before.
    if rows.iter().any(|(_, example)| example.was_blocked.is_some()) {
        all.push(("persistence", Box::new(was)));
    }
    if let Some(simple) = asked.simple {
        let prevalence = move |horizon| simple.prevalence(horizon).unwrap_or(0.0);
        all.push(("always the commonest", Box::new(move |_, horizon| prevalence(horizon))));
        let near = move |(_, example): &Asking<'_>, horizon| simple.blocked_by_place(data, example, horizon);
        let horizons = data.shape.horizons_ms.len();
        if rows.iter().any(|asking| (0..horizons).any(|horizon| near(asking, horizon).is_some())) {
            let or_else = move |asking: &Asking<'_>, horizon| {
                near(asking, horizon).unwrap_or_else(|| prevalence(horizon))
            };
            all.push(("15 nearest positions", Box::new(or_else)));
        }
    }
    all
}

fn question(
    rows: &[Asking<'_>],
    predictors: &[Predictor<'_>],
    scaling: Option<&Scaling>,
    (horizon, ms, clear_now): (usize, u32, bool),
) -> Option<Question> {
    let labelled: Vec<(Asking<'_>, bool)> = rows
        .iter()
        .filter(|(_, example)| !clear_now || blocked_now(example) == Some(false))
        // Of a horizon beyond the end it is known only where there is a blockage.
        .filter(|(_, example)| horizon < example.truth.watched)
        .filter_map(|&(row, example)| {
            Some(((row, example), example.truth.blocked.get(horizon).copied().flatten()?))
        })
        .collect();
    if labelled.is_empty() {
        return None;
    }
    let grouped = Grouped::new(labelled.iter().map(|((_, example), _)| example.group));
    let answers = |probability: &dyn Fn(&Asking<'_>, usize) -> f64| -> Confidence {
        labelled.iter().map(|(asking, blocked)| (probability(asking, horizon), *blocked)).collect()
    };
    // The commoner answer of all rows, whatever is drawn of them.
    let commoner = 2 * labelled.iter().filter(|(_, blocked)| *blocked).count() > labelled.len();
    let worth = predictors.iter().map(|(name, probability)| {
        let answers = answers(probability);
        grouped.worth(name, &|rows| {
            let drawn = rows.iter().filter_map(|&row| answers.get(row).copied());
            let (scores, labels): (Vec<f64>, Vec<bool>) = drawn.unzip();
            let Ok(scored) = Scored::new(&labels, &scores) else { return Vec::new() };
            let decided = scored.decide(WARN_AT);
            vec![
                (AP, scored.average_precision().ok()),
                ("AUROC", scored.auroc().ok()),
                (ACCURACY, Some(decided.accuracy())),
                (MAJORITY, Some(scored.rate_of(commoner))),
                ("F1", Some(decided.f1())),
                ("recall", Some(decided.recall())),
                ("precision", Some(decided.precision())),
            ]
        })
    });
    let when = if ms == 0 { "now".to_owned() } else { format!("within {ms} ms") };
    let mut question = Question {
        task: Task::Blockage,
        what: if clear_now { format!("{when}, of those clear now") } else { when },
        ahead_ms: ms,
        clear_now,
        rows: labelled.len(),
        groups: grouped.groups.len(),
        worth: worth.collect(),
        confusion: Vec::new(),
        reliability: Vec::new(),
        reliability_before: Vec::new(),
        poses: Vec::new(),
    };
    let own = predictors.first().map(|(_, probability)| answers(probability)).unwrap_or_default();
    let before = scaling.map(|scaling| {
        let before = |(row, _): &Asking<'_>, horizon: usize| {
            let scores: Vec<f32> =
                row.scores.iter().map(|&score| scaling.undo(f64::from(score)) as f32).collect();
            within_horizons(&scores).get(horizon).map_or(0.0, |&p| f64::from(p))
        };
        answers(&before)
    });
    calibrate(&mut question, &grouped, &own, before.as_ref());
    Some(question)
}

/// Adds lead time, onsets and false alarms, wherever it is known whether a link is blocked now.
fn warn(question: &mut Question, rows: &[Asking<'_>], predictors: &[Predictor<'_>], horizon: usize) {
    for (worth, (_, probability)) in question.worth.iter_mut().zip(predictors) {
        let mut links: BTreeMap<(u32, u32), Vec<Instant>> = BTreeMap::new();
        for asking in rows {
            let example = asking.1;
            let Some(blocked) = blocked_now(example) else { continue };
            links.entry((example.group, example.link)).or_default().push(Instant {
                time: example.time,
                said: example.time + asking.0.delay,
                blocked,
                within: example.truth.blocked.get(horizon).copied().flatten(),
                probability: probability(asking, horizon),
            });
        }
        links.values_mut().for_each(|link| link.sort_by_key(|instant| instant.time));
        let all: Vec<Vec<Instant>> = links.values().cloned().collect();
        // Instants that stand alone: nothing follows from one to another.
        let period = warnings::period(&all).unwrap_or(Span::ZERO);
        let mut groups: BTreeMap<u32, Warnings> = BTreeMap::new();
        for ((group, _), link) in &links {
            groups.entry(*group).or_default().add(&Warnings::of_link(link, period));
        }
        let groups: Vec<Warnings> = groups.into_values().collect();
        worth.figures.extend(figures(groups.len(), &|drawn| {
            let mut sum = Warnings::default();
            drawn.iter().filter_map(|&group| groups.get(group)).for_each(|group| sum.add(group));
            vec![
                (LEAD_TIME, sum.lead_time_ms().ok()),
                (ONSETS_WARNED, sum.onsets_warned().ok()),
                (FALSE_ALARMS, sum.false_alarms_per_minute().ok()),
                (CLEAR_WARNED, sum.clear_warned().ok()),
            ]
        }));
    }
}
