//! Networks side by side, with the simple predictors beside them.

use std::collections::BTreeSet;
use std::path::Path;

use super::ReportError;
use super::evaluation::{Evaluation, Measured};
use super::page::{Block, Cell, Table};
use super::plot::{self, Axes, Look, Plot, Series};
use crate::model::tasks::Task;
use crate::train::score::{self, ACCURACY, AP, Better, Figure, Question, TOP_1, better};

/// What stands in one column: a network, or a network for each task.
#[derive(Clone, Debug)]
pub(super) struct Column {
    /// A name that no other has.
    pub(super) name: String,
    /// Numbers in each network.
    pub(super) parameters: Vec<usize>,
    /// What was measured.
    pub(super) results: Vec<Measured>,
}

impl Column {
    fn of(name: String, evaluation: &Evaluation) -> Self {
        Self { name, parameters: vec![evaluation.parameters], results: evaluation.results.clone() }
    }
}

/// The tasks that were asked.
fn tasks(results: &[Measured]) -> BTreeSet<Task> {
    results.iter().flat_map(|measured| measured.questions.iter().map(|question| question.task)).collect()
}

/// A column for each evaluation, by their names; one for those of networks of one configuration that have no task in common.
pub(super) fn columns(named: &[(String, Evaluation)]) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    let mut done: Vec<&str> = Vec::new();
    for (name, evaluation) in named {
        let network = evaluation.network.as_str();
        if done.contains(&network) {
            continue;
        }
        let same: Vec<&(String, Evaluation)> =
            named.iter().filter(|(_, other)| other.network == network).collect();
        let each: Vec<BTreeSet<Task>> = same.iter().map(|(_, other)| tasks(&other.results)).collect();
        let all: BTreeSet<Task> = each.iter().flatten().copied().collect();
        if same.len() < 2 || all.len() < each.iter().map(BTreeSet::len).sum() {
            columns.push(Column::of(name.clone(), evaluation));
            continue;
        }
        done.push(network);
        let mut checkpoints: Vec<&Path> = Vec::new();
        let mut column = Column { name: network.to_owned(), parameters: Vec::new(), results: Vec::new() };
        for (_, other) in same {
            column.results.extend(other.results.iter().cloned());
            if !checkpoints.contains(&other.checkpoint.as_path()) {
                checkpoints.push(&other.checkpoint);
                column.parameters.push(other.parameters);
            }
        }
        if column.parameters.len() > 1 {
            column.name.push_str(", one for each task");
        }
        columns.push(column);
    }
    columns
}

/// A figure as it is told: shares in percent.
pub(super) fn told(measure: &str, value: f64) -> String {
    match measure {
        AP | "AUROC" | "DBA" => format!("{value:.3}"),
        measure if measure.starts_with(score::CALIBRATION) => format!("{value:.3}"),
        measure if measure.ends_with(", dB") || measure == score::FALSE_ALARMS => format!("{value:.2}"),
        measure if measure.ends_with(", mm") => format!("{value:.1}"),
        measure if measure.ends_with(", ms") => format!("{value:.0}"),
        measure if measure.ends_with(", m²") => format!("{value:.4}"),
        _ => format!("{:.1} %", 100.0 * value),
    }
}

/// A cell of a figure with its interval; a dash where there is none.
pub(super) fn cell(measure: &str, figure: Option<&Figure>) -> Cell {
    let Some(figure) = figure else { return Cell::number("–") };
    let note = figure.interval.map_or(String::new(), |[low, high]| {
        let ends = [told(measure, low), told(measure, high)];
        format!("({}–{})", ends[0].trim_end_matches(" %"), ends[1].trim_end_matches(" %"))
    });
    Cell { note, ..Cell::number(told(measure, figure.value)) }
}

/// Marks the best of the figures of `names` that stand for one measure, all of the best where several are; none where only one stands. The
/// oracle is out of competition.
pub(super) fn mark_best<T: AsRef<str>>(
    measure: &str,
    names: &[T],
    figures: &[Option<Figure>],
    cells: &mut [Cell],
) {
    let is_oracle = |at: usize| names.get(at).is_some_and(|name| name.as_ref() == score::ORACLE);
    let figures: Vec<Option<Figure>> =
        figures.iter().enumerate().map(|(at, figure)| figure.filter(|_| !is_oracle(at))).collect();
    let known = figures.iter().flatten().map(|figure| figure.value);
    let best = match better(measure) {
        Better::Higher => known.reduce(f64::max),
        Better::Lower => known.reduce(f64::min),
        Better::Neither => None,
    };
    if figures.iter().flatten().count() < 2 {
        return;
    }
    for (cell, figure) in cells.iter_mut().zip(figures) {
        cell.best = best.is_some() && figure.map(|figure| figure.value) == best;
    }
}

/// The question of a task that stands for it: the present; of blockages the longest horizon, of links that are clear now
/// where that is known.
pub(super) fn main_question(measured: &Measured, task: Task) -> Option<&Question> {
    let of_task = measured.questions.iter().filter(|question| question.task == task);
    if task == Task::Blockage {
        of_task.max_by_key(|question| (question.clear_now, question.ahead_ms))
    } else {
        of_task.min_by_key(|question| question.ahead_ms)
    }
}

/// The measure of a question that stands for it: the first of its task's that the network has.
pub(super) fn main_measure(question: &Question) -> Option<&'static str> {
    let own = question.worth.first()?;
    score::main_measures(question.task).iter().copied().find(|measure| own.figures.contains_key(*measure))
}

/// A figure of the network (the first), or of a simple predictor.
fn figure(question: &Question, predictor: Option<&str>, measure: &str) -> Option<Figure> {
    let worth = match predictor {
        None => question.worth.first(),
        Some(name) => question.worth.iter().skip(1).find(|worth| worth.predictor == name),
    };
    worth?.figures.get(measure).copied()
}

/// The results of all rows with nothing hidden but what was asked for, of each data set and task of a column.
fn whole(column: &Column) -> Vec<&Measured> {
    let mut all: Vec<&Measured> = Vec::new();
    for measured in &column.results {
        let own = tasks(std::slice::from_ref(measured));
        let is_known = |known: &&Measured| {
            known.data == measured.data && !own.is_disjoint(&tasks(std::slice::from_ref(*known)))
        };
        if !all.iter().any(is_known) {
            all.push(measured);
        }
    }
    all
}

/// One question on one data set, as every evaluation answers it.
struct Asked<'a> {
    data: &'a str,
    question: &'a Question,
    /// By evaluation.
    answers: Vec<Option<&'a Question>>,
}

fn asked<'a>(
    columns: &'a [Column],
    task: Task,
    is_asked: impl Fn(&Measured, &Question) -> bool,
) -> Vec<Asked<'a>> {
    let mut all: Vec<Asked<'a>> = Vec::new();
    for (at, column) in columns.iter().enumerate() {
        for measured in whole(column) {
            let of_task = measured.questions.iter().filter(|question| question.task == task);
            for question in of_task.filter(|question| is_asked(measured, question)) {
                let same = |asked: &&mut Asked<'_>| {
                    asked.data == measured.data && asked.question.what == question.what
                };
                let known = match all.iter_mut().find(same) {
                    Some(known) => known,
                    None => {
                        all.push(Asked {
                            data: &measured.data,
                            question,
                            answers: vec![None; columns.len()],
                        });
                        let Some(new) = all.last_mut() else { unreachable!("it was put there") };
                        new
                    }
                };
                if let Some(answer) = known.answers.get_mut(at) {
                    *answer = Some(question);
                }
            }
        }
    }
    all
}

/// Simple predictors of questions, in their order.
fn simple(asked: &[Asked<'_>]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let all = asked.iter().flat_map(|asked| asked.answers.iter().flatten());
    for worth in all.flat_map(|question| question.worth.iter().skip(1)) {
        if !names.contains(&worth.predictor) {
            names.push(worth.predictor.clone());
        }
    }
    names
}

/// The figure of a simple predictor: that of the first evaluation that has one.
fn of_simple(asked: &Asked<'_>, name: &str, measure: &str) -> Option<Figure> {
    asked.answers.iter().flatten().find_map(|question| figure(question, Some(name), measure))
}

/// Whether evaluations disagree on a simple predictor: they know different training data, or were asked on different rows.
fn differ(asked: &[Asked<'_>]) -> bool {
    asked.iter().any(|asked| {
        let answers = || asked.answers.iter().flatten();
        let rows = answers().map(|question| (question.rows, question.groups));
        let first = asked.answers.iter().flatten().next();
        rows.clone().any(|own| Some(own) != rows.clone().next())
            || answers().any(|question| {
                question.worth.iter().skip(1).any(|worth| {
                    let other = first.and_then(|first| {
                        first.worth.iter().skip(1).find(|other| other.predictor == worth.predictor)
                    });
                    other.is_some_and(|other| other.figures != worth.figures)
                })
            })
    })
}

/// Whether what was asked is held out.
fn held_out(columns: &[Column]) -> String {
    let results = || columns.iter().flat_map(|column| &column.results);
    let learned = results().filter_map(|measured| measured.learned).fold(0.0, f64::max);
    if learned > 0.0 {
        return format!("Not held out: of some rows up to {:.1} % were learned from.", 100.0 * learned);
    }
    let known = results().all(|measured| measured.learned.is_some());
    if known { "Held-out rows." } else { "Whether all rows are held out is not known of every network." }
        .to_owned()
}

/// Everything side by side.
pub(super) fn blocks(columns: &[Column]) -> Result<Vec<Block>, ReportError> {
    let mut blocks = vec![
        Block::Heading(2, "Side by side".to_owned()),
        Block::Text(format!(
            "{} Behind a figure stands its interval of 95 %, by resampling sequences or subjects; the best of each row is \
                 marked, networks and simple predictors alike.",
            held_out(columns)
        )),
        Block::Table(overview(columns)),
    ];
    for task in Task::ALL {
        let all = asked(columns, task, |measured, question| {
            // Where links that are clear now are asked, they are the question.
            question.clear_now
                || !measured.questions.iter().any(|other| other.task == task && other.clear_now)
        });
        if all.is_empty() {
            continue;
        }
        blocks.push(Block::Heading(3, heading(task).to_owned()));
        let plots = against_horizon(columns, task, &all)?;
        if !plots.is_empty() {
            blocks.push(Block::Plots(plots));
        }
        blocks.push(Block::Table(table(columns, task, &all)));
        if differ(&all) {
            blocks.push(Block::Text(
                "The evaluations differ in their rows, or in what the simple predictors know of their training part; these \
                 columns are those of the first evaluation that has them."
                    .to_owned(),
            ));
        }
    }
    Ok(blocks)
}

/// What a task is called, and its place in the paper.
pub(super) const fn heading(task: Task) -> &'static str {
    match task {
        Task::Beam => "Beam prediction (BP)",
        Task::Blockage => "Future blockage prediction (FBP)",
        Task::Activity => "Human activity recognition (HAR)",
        Task::Pose => "Human pose estimation (HPE)",
    }
}

/// A row per task, a column per network, and the best simple predictor: the paper's Table I.
fn overview(columns: &[Column]) -> Table {
    let mut head = ["task", "data", "rows / groups", "measure"].map(str::to_owned).to_vec();
    head.extend(columns.iter().map(|column| column.name.clone()));
    head.push("best simple predictor".to_owned());
    let mut table = Table::new("Networks, one row per task and data set", &head);
    for task in Task::ALL {
        let all = asked(columns, task, |measured, question| {
            main_question(measured, task).is_some_and(|main| main.what == question.what)
        });
        for asked in &all {
            let Some(measure) = main_measure(asked.question) else { continue };
            let mut figures: Vec<Option<Figure>> = asked
                .answers
                .iter()
                .map(|question| question.and_then(|question| figure(question, None, measure)))
                .collect();
            let simple = simple(std::slice::from_ref(asked));
            let simple = simple.iter().filter(|name| *name != score::ORACLE);
            let simple = simple.filter_map(|name| Some((name, of_simple(asked, name, measure)?)));
            let best = simple.reduce(|a, b| {
                let is_better = match better(measure) {
                    Better::Lower => b.1.value < a.1.value,
                    Better::Higher | Better::Neither => b.1.value > a.1.value,
                };
                if is_better { b } else { a }
            });
            figures.push(best.map(|(_, figure)| figure));
            let mut cells: Vec<Cell> = figures.iter().map(|figure| cell(measure, figure.as_ref())).collect();
            mark_best::<&str>(measure, &[], &figures, &mut cells);
            if let (Some(cell), Some((name, _))) = (cells.last_mut(), best) {
                cell.note = format!("{} {name}", cell.note).trim().to_owned();
            }
            let mut row = vec![
                Cell::text(format!("{}, {}", heading(task), asked.question.what)),
                Cell::text(asked.data),
                Cell::number(format!("{} / {}", asked.question.rows, asked.question.groups)),
                Cell::text(measure),
            ];
            row.extend(cells);
            table.rows.push(row);
        }
    }
    let mut row = vec![Cell::text("parameters"), Cell::default(), Cell::default(), Cell::default()];
    row.extend(columns.iter().map(|column| {
        let cell = Cell::number(grouped(column.parameters.iter().sum()));
        let count = column.parameters.len();
        let note = if count > 1 { format!("in {count}") } else { String::new() };
        Cell { note, ..cell }
    }));
    row.push(Cell::default());
    table.rows.push(row);
    table
}

/// A number with its thousands apart.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Every main measure of every question of a task.
fn table(columns: &[Column], task: Task, all: &[Asked<'_>]) -> Table {
    let simple = simple(all);
    let mut head = ["question", "data", "rows / groups", "measure"].map(str::to_owned).to_vec();
    head.extend(columns.iter().map(|column| column.name.clone()));
    head.extend(simple.iter().cloned());
    let mut table = Table::new("Networks, and simple predictors on the same rows", &head);
    for asked in all {
        let mut is_first = true;
        for measure in score::main_measures(task) {
            let own = asked.answers.iter();
            let own = own.map(|question| question.and_then(|question| figure(question, None, measure)));
            let figures: Vec<Option<Figure>> =
                own.chain(simple.iter().map(|name| of_simple(asked, name, measure))).collect();
            if figures.iter().all(Option::is_none) {
                continue;
            }
            let mut cells: Vec<Cell> = figures.iter().map(|figure| cell(measure, figure.as_ref())).collect();
            mark_best(measure, table.head.get(4..).unwrap_or_default(), &figures, &mut cells);
            // What is the same as above is not said again.
            let mut row = if is_first {
                let counted = format!("{} / {}", asked.question.rows, asked.question.groups);
                vec![Cell::text(&asked.question.what), Cell::text(asked.data), Cell::number(counted)]
            } else {
                vec![Cell::default(); 3]
            };
            is_first = false;
            row.push(Cell::text(*measure));
            row.extend(cells);
            table.rows.push(row);
        }
    }
    table
}

/// How well a task is done the farther ahead is asked.
fn against_horizon(columns: &[Column], task: Task, all: &[Asked<'_>]) -> Result<Vec<Plot>, ReportError> {
    let measures: &[&str] = match task {
        Task::Beam => &[TOP_1, "mean power loss, dB"],
        Task::Blockage => &[AP, ACCURACY],
        Task::Activity | Task::Pose => return Ok(Vec::new()),
    };
    let mut data: Vec<&str> = all.iter().map(|asked| asked.data).collect();
    data.dedup();
    let mut plots = Vec::new();
    for data in data {
        let own: Vec<&Asked<'_>> = all.iter().filter(|asked| asked.data == data).collect();
        if own.len() < 2 {
            continue;
        }
        for measure in measures {
            let along = |value: &dyn Fn(&Asked<'_>) -> Option<Figure>| -> Vec<(f64, Figure)> {
                let points = own.iter();
                points.filter_map(|asked| Some((f64::from(asked.question.ahead_ms), value(asked)?))).collect()
            };
            let networks = columns.iter().enumerate().map(|(at, column)| Series {
                name: column.name.clone(),
                look: Look::Dotted,
                points: along(&|asked| {
                    asked
                        .answers
                        .get(at)
                        .copied()
                        .flatten()
                        .and_then(|question| figure(question, None, measure))
                }),
            });
            let simple = simple(all).into_iter().map(|name| Series {
                points: along(&|asked| of_simple(asked, &name, measure)),
                look: Look::Dashed,
                name,
            });
            let mut series: Vec<Series> =
                networks.chain(simple).filter(|series| !series.points.is_empty()).collect();
            if *measure == ACCURACY {
                let majority = along(&|asked| figure(asked.question, None, score::MAJORITY));
                series.push(Series {
                    name: score::MAJORITY.to_owned(),
                    look: Look::Dashed,
                    points: majority,
                });
            }
            let x = if task == Task::Blockage { "horizon, ms" } else { "time ahead, ms" };
            let title = format!("{} of {task} on {data}", measure.split(',').next().unwrap_or(measure));
            let y = measure_axis(measure);
            plots.push(plot::lines(&title, Axes { x, y }, &series, &[], false)?);
        }
    }
    Ok(plots)
}

/// A measure as the name of an axis.
pub(super) fn measure_axis(measure: &str) -> &str {
    match measure {
        TOP_1 => "top-1 accuracy",
        AP => "average precision",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn known(value: f64) -> Option<Figure> {
        Some(Figure { value, interval: Some([value - 0.01, value + 0.01]) })
    }

    fn evaluation(network: &str, checkpoint: &str, asked: &[(&str, Task)]) -> Evaluation {
        let question = |task| Question {
            task,
            what: "now".to_owned(),
            ahead_ms: 0,
            clear_now: false,
            rows: 1,
            groups: 1,
            worth: Vec::new(),
            confusion: Vec::new(),
            reliability: Vec::new(),
            reliability_before: Vec::new(),
            poses: Vec::new(),
        };
        let measured = |&(data, task): &(&str, Task)| Measured {
            data: data.to_owned(),
            hidden: Vec::new(),
            learned: None,
            condition: None,
            gate: BTreeMap::new(),
            questions: vec![question(task)],
        };
        Evaluation {
            version: super::super::evaluation::VERSION,
            network: network.to_owned(),
            checkpoint: checkpoint.into(),
            parameters: 10,
            results: asked.iter().map(measured).collect(),
        }
    }

    #[test]
    fn networks_of_one_task_each_stand_in_one_column() {
        let (beam, pose) = (("street", Task::Beam), ("rooms", Task::Pose));
        let blockage = ("street", Task::Blockage);
        let column = |all: &[(&str, Evaluation)]| {
            let named: Vec<(String, Evaluation)> =
                all.iter().map(|(name, own)| ((*name).to_owned(), own.clone())).collect();
            columns(&named)
        };
        let alone = [
            ("mlp (a)", evaluation("mlp", "a", &[beam, beam])),
            ("whole", evaluation("whole", "w", &[beam, pose])),
            ("mlp (b)", evaluation("mlp", "b", &[blockage])),
            ("mlp (c)", evaluation("mlp", "c", &[pose])),
        ];
        let found = column(&alone);
        let names: Vec<&str> = found.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["mlp, one for each task", "whole"]);
        assert_eq!(found[0].parameters, [10, 10, 10]);
        // Both tasks on the street, each once.
        let told: Vec<Task> = whole(&found[0]).iter().map(|measured| measured.questions[0].task).collect();
        assert_eq!(told, [Task::Beam, Task::Blockage, Task::Pose]);
        // One network that was asked twice is one, and networks that do the same task are several.
        let twice = [("a", evaluation("mlp", "a", &[beam])), ("b", evaluation("mlp", "a", &[pose]))];
        assert_eq!((column(&twice)[0].name.as_str(), column(&twice)[0].parameters.len()), ("mlp", 1));
        let rivals = [("a", evaluation("mlp", "a", &[beam])), ("b", evaluation("mlp", "b", &[beam, pose]))];
        assert_eq!(column(&rivals).len(), 2);
    }

    #[test]
    fn figures_are_told_in_their_unit() {
        let cell = |measure, value| cell(measure, known(value).as_ref());
        assert_eq!(
            (cell(TOP_1, 0.689).text, cell(TOP_1, 0.689).note),
            ("68.9 %".into(), "(67.9–69.9)".into())
        );
        assert_eq!(cell(AP, 0.5).text, "0.500");
        assert_eq!(cell("mean power loss, dB", 0.214).text, "0.21");
        assert_eq!(cell("MPJPE, mm", 76.71).text, "76.7");
        assert_eq!(cell(score::LEAD_TIME, 312.4).text, "312");
        assert_eq!(cell("MSE, m²", 0.00581).text, "0.0058");
        assert_eq!(cell(score::CALIBRATION_BEFORE, 0.0312).text, "0.031");
        assert_eq!(super::cell(TOP_1, None).text, "–");
        assert_eq!((grouped(8_012_345).as_str(), grouped(12).as_str()), ("8,012,345", "12"));
    }

    #[test]
    fn the_best_is_marked_by_the_direction_of_its_measure() {
        let marked = |measure, values: &[Option<f64>]| {
            let figures: Vec<Option<Figure>> = values.iter().map(|value| value.and_then(known)).collect();
            let mut cells = vec![Cell::default(); values.len()];
            let names = ["a", "b", "c", "d", score::ORACLE];
            mark_best(measure, &names, &figures, &mut cells);
            cells.iter().map(|cell| cell.best).collect::<Vec<_>>()
        };
        assert_eq!(marked(TOP_1, &[Some(0.1), None, Some(0.2), Some(0.2)]), [false, false, true, true]);
        assert_eq!(marked("MPJPE, mm", &[Some(80.0), Some(70.0)]), [false, true]);
        assert_eq!(marked(score::LEAD_TIME, &[Some(80.0), Some(70.0)]), [false, false]);
        assert_eq!(marked(TOP_1, &[Some(0.1), None]), [false, false], "alone, nothing is best");
        let with_oracle = [Some(0.1), Some(0.2), None, None, Some(0.9)];
        assert_eq!(marked(TOP_1, &with_oracle), [false, true, false, false, false]);
    }
}
