//! One network, as closely as it was looked at.

use super::ReportError;
use super::comparison::{cell, heading, main_measure, main_question, mark_best, measure_axis};
use super::evaluation::{Evaluation, Measured};
use super::page::{Block, Cell, Table};
use super::plot::{self, Plot};
use crate::model::Input;
use crate::model::tasks::Task;
use crate::train::score::{Figure, Question};

/// Everything of an evaluation.
pub(super) fn blocks(name: &str, evaluation: &Evaluation) -> Result<Vec<Block>, ReportError> {
    let mut blocks = vec![
        Block::Heading(2, format!("{name}, closely")),
        Block::Text(format!("Checkpoint `{}`.", evaluation.checkpoint.display())),
    ];
    let mut rest = evaluation.results.as_slice();
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|measured| measured.data == first.data).count();
        let (own, after) = rest.split_at(same);
        rest = after;
        blocks.extend(of_data(first, own)?);
    }
    Ok(blocks)
}

/// One data set: all rows, and what was told apart of them.
fn of_data(whole: &Measured, all: &[Measured]) -> Result<Vec<Block>, ReportError> {
    let hidden = if whole.hidden.is_empty() { String::new() } else { format!(", {}", seen(&whole.hidden)) };
    let learned = if whole.learned.is_some_and(|share| share > 0.0) { ", not held out" } else { "" };
    let data = format!("{}{hidden}{learned}", whole.data);
    let mut blocks = vec![Block::Heading(3, data.clone())];
    let conditions: Vec<(String, &Measured)> = std::iter::once(("all rows".to_owned(), whole))
        .chain(all.iter().filter_map(|measured| Some((measured.condition.clone()?, measured))))
        .collect();
    let mut plots = Vec::new();
    let mut tables = Vec::new();
    if !whole.gate.is_empty() {
        plots.push(gate(&data, &conditions)?);
    }
    if conditions.len() > 1 {
        tell_apart(&data, "condition", &conditions, &mut plots, &mut tables)?;
    }
    let modalities: Vec<(String, &Measured)> = all
        .iter()
        .filter(|measured| measured.condition.is_none())
        .map(|measured| (seen(&measured.hidden), measured))
        .collect();
    if modalities.len() > 1 {
        tell_apart(&data, "modality", &modalities, &mut plots, &mut tables)?;
    }
    if !plots.is_empty() {
        blocks.push(Block::Plots(plots));
    }
    blocks.extend(tables.into_iter().map(Block::Table));
    for task in Task::ALL {
        let of_task: Vec<&Question> =
            whole.questions.iter().filter(|question| question.task == task).collect();
        if of_task.is_empty() {
            continue;
        }
        blocks.push(Block::Table(figures(&format!("{}, {data}", heading(task)), &of_task)));
        if let Some(main) = main_question(whole, task) {
            let plots = plots_of(&data, main)?;
            if !plots.is_empty() {
                blocks.push(Block::Plots(plots));
            }
            if task == Task::Activity {
                blocks.push(Block::Table(per_class(main)));
            }
        }
    }
    Ok(blocks)
}

/// What a network was shown.
fn seen(hidden: &[String]) -> String {
    let shown: Vec<&str> = Input::ALL
        .into_iter()
        .map(Input::name)
        .filter(|name| !hidden.iter().any(|own| own == name))
        .collect();
    match (hidden, shown.as_slice()) {
        ([], _) => "all modalities".to_owned(),
        (_, [only]) => format!("{only} alone"),
        (hidden, _) => format!("without {}", hidden.join(", ")),
    }
}

/// How the gate weighs the modalities in each condition.
fn gate(data: &str, conditions: &[(String, &Measured)]) -> Result<Plot, ReportError> {
    let inputs = Input::ALL.map(|input| input.name().to_owned());
    let rows: Vec<(String, Vec<Option<Figure>>)> = conditions
        .iter()
        .map(|(name, measured)| {
            (name.clone(), inputs.iter().map(|input| measured.gate.get(input).copied()).collect())
        })
        .collect();
    plot::dots(&format!("Gate weights on {data}"), "mean weight of the gate", &inputs, &rows, true)
}

/// The main measure of each task, by condition or by what was hidden.
fn tell_apart(
    data: &str,
    what: &str,
    parts: &[(String, &Measured)],
    plots: &mut Vec<Plot>,
    tables: &mut Vec<Table>,
) -> Result<(), ReportError> {
    for task in Task::ALL {
        let Some((_, whole)) = parts.first() else { continue };
        let Some(main) = main_question(whole, task) else { continue };
        let Some(measure) = main_measure(main) else { continue };
        let predictors: Vec<String> = main.worth.iter().map(|worth| worth.predictor.clone()).collect();
        let figure = |question: Option<&Question>, at: usize| {
            let worth = question?.worth.iter().find(|worth| Some(&worth.predictor) == predictors.get(at));
            worth?.figures.get(measure).copied()
        };
        let mut head = vec![what.to_owned(), "rows / groups".to_owned()];
        head.extend(predictors.iter().cloned());
        let title = format!("{measure} of {task}, {}, by {what} on {data}", main.what);
        let mut table = Table::new(&title, &head);
        let mut rows = Vec::new();
        for (name, measured) in parts {
            let question = measured.questions.iter().find(|own| own.task == task && own.what == main.what);
            let figures: Vec<Option<Figure>> = (0..predictors.len()).map(|at| figure(question, at)).collect();
            let mut cells: Vec<Cell> = figures.iter().map(|figure| cell(measure, figure.as_ref())).collect();
            mark_best(measure, &predictors, &figures, &mut cells);
            let counted = question.map_or("–".to_owned(), |own| format!("{} / {}", own.rows, own.groups));
            let mut row = vec![Cell::text(name), Cell::number(counted)];
            row.extend(cells);
            table.rows.push(row);
            rows.push((name.clone(), figures));
        }
        let title = format!("{task}, {}, by {what}", main.what);
        plots.push(plot::dots(&title, measure_axis(measure), &predictors, &rows, false)?);
        tables.push(table);
    }
    Ok(())
}

/// All measures of all questions of a task, of everyone.
fn figures(caption: &str, questions: &[&Question]) -> Table {
    let mut measures: Vec<&str> = Vec::new();
    for worth in questions.iter().flat_map(|question| &question.worth) {
        for name in worth.figures.keys() {
            if !measures.contains(&name.as_str()) {
                measures.push(name);
            }
        }
    }
    // Those that count first, then the rest by name.
    let first =
        questions.first().map_or(&[][..], |question| crate::train::score::main_measures(question.task));
    measures.sort_by_key(|name| (first.iter().position(|main| main == name).unwrap_or(usize::MAX), *name));
    let mut head = vec!["question".to_owned(), "rows / groups".to_owned(), "predictor".to_owned()];
    head.extend(measures.iter().map(|name| (*name).to_owned()));
    let mut table = Table::new(caption, &head);
    for question in questions {
        let begin = table.rows.len();
        for (at, worth) in question.worth.iter().enumerate() {
            let (what, counted) = if at == 0 {
                (question.what.clone(), format!("{} / {}", question.rows, question.groups))
            } else {
                Default::default()
            };
            let mut row = vec![Cell::text(what), Cell::number(counted), Cell::text(&worth.predictor)];
            row.extend(measures.iter().map(|measure| cell(measure, worth.figures.get(*measure))));
            table.rows.push(row);
        }
        let names: Vec<&str> = question.worth.iter().map(|worth| worth.predictor.as_str()).collect();
        for (at, measure) in measures.iter().enumerate() {
            let figures: Vec<Option<Figure>> =
                question.worth.iter().map(|worth| worth.figures.get(*measure).copied()).collect();
            let mut cells = vec![Cell::default(); figures.len()];
            mark_best(measure, &names, &figures, &mut cells);
            for (row, marked) in table.rows.iter_mut().skip(begin).zip(cells) {
                if let Some(cell) = row.get_mut(3 + at) {
                    cell.best = marked.best;
                }
            }
        }
    }
    table
}

/// Confusion, reliability and poses of a question.
fn plots_of(data: &str, question: &Question) -> Result<Vec<Plot>, ReportError> {
    let mut plots = Vec::new();
    let of = format!("{}, {}, on {data}", question.task, question.what);
    if !question.reliability.is_empty() {
        let title = format!("Reliability: {}", question.task);
        plots.push(plot::reliability(&title, &question.reliability, &question.reliability_before)?);
    }
    if !question.confusion.is_empty() {
        plots.push(plot::confusion(&format!("Confusion: {of}"), question.task.name(), &question.confusion)?);
    }
    if !question.poses.is_empty() {
        plots.push(plot::poses(&format!("Poses on {data}: from the front, from the side"), &question.poses)?);
    }
    Ok(plots)
}

/// How well each class is found, of the confusion.
fn per_class(question: &Question) -> Table {
    let counts = &question.confusion;
    let mut table =
        Table::new("Each activity, by number from 0", &["activity", "rows", "recall", "precision", "F1"]);
    for (class, row) in counts.iter().enumerate() {
        let occurs: u64 = row.iter().sum();
        let chosen: u64 = counts.iter().filter_map(|row| row.get(class)).sum();
        if occurs + chosen == 0 {
            continue;
        }
        let right = row.get(class).copied().unwrap_or_default() as f64;
        let share =
            |of: u64| if of == 0 { "–".to_owned() } else { format!("{:.1} %", 100.0 * right / of as f64) };
        table.rows.push(vec![
            Cell::number(class.to_string()),
            Cell::number(occurs.to_string()),
            Cell::number(share(occurs)),
            Cell::number(share(chosen)),
            Cell::number(format!("{:.1} %", 200.0 * right / (occurs + chosen) as f64)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_seen_has_a_name() {
        let names = |names: &[&str]| seen(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&[]), "all modalities");
        assert_eq!(names(&["camera"]), "without camera");
        let [only, others @ ..] = Input::ALL.map(Input::name);
        assert_eq!(names(&others), format!("{only} alone"));
    }
}
