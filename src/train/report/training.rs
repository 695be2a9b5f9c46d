//! How a run went.

use std::collections::BTreeSet;

use super::ReportError;
use super::log::Training;
use super::page::{Block, Cell, Table};
use super::plot::{self, Axes, Look, Plot, Series};
use crate::model::tasks::Task;
use crate::train::trainer::{Standing, Validated};

/// Curves, and the best validation of each stage.
pub(super) fn blocks(training: &Training) -> Result<Vec<Block>, ReportError> {
    let mut blocks = vec![Block::Heading(2, "Training".to_owned())];
    let stages = training.stages.iter().map(|(name, begun)| format!("`{name}` from step {begun}"));
    blocks.push(Block::Text(format!(
        "Stages: {}; an upright line stands where one begins.",
        stages.collect::<Vec<_>>().join(", ")
    )));
    blocks.push(Block::Plots(plots(training)?));
    blocks.push(Block::Table(best(training)));
    Ok(blocks)
}

fn plots(training: &Training) -> Result<Vec<Plot>, ReportError> {
    let marks: Vec<f64> = training.stages.iter().skip(1).map(|(_, begun)| *begun as f64).collect();
    let of_training = |name: &str, look, value: &dyn Fn(&Standing) -> Option<f64>| {
        let points = training.trained.iter();
        Series::of(name, look, points.filter_map(|(step, standing)| Some((*step as f64, value(standing)?))))
    };
    let of_validation = |name: &str, look, value: &dyn Fn(&Validated) -> Option<f64>| {
        let points = training.validated.iter();
        Series::of(name, look, points.filter_map(|(step, found)| Some((*step as f64, value(found)?))))
    };
    let draw = |title: &str, y: &str, series: Vec<Series>, from_zero: bool| {
        let series: Vec<Series> = series.into_iter().filter(|series| !series.points.is_empty()).collect();
        if series.is_empty() {
            return Ok(None);
        }
        plot::lines(title, Axes { x: "step", y }, &series, &marks, from_zero).map(Some)
    };
    let tasks: BTreeSet<Task> = training
        .trained
        .iter()
        .flat_map(|(_, standing)| standing.losses.keys())
        .chain(training.validated.iter().flat_map(|(_, validated)| validated.losses.keys()))
        .copied()
        .collect();
    let mut plots = Vec::new();
    for task in &tasks {
        plots.extend(draw(
            &format!("Loss of {task}"),
            loss_unit(*task),
            vec![
                of_training("training", Look::Line, &|standing| standing.losses.get(task).copied()),
                of_validation("validation", Look::Dotted, &|found| found.losses.get(task).copied()),
            ],
            false,
        )?);
    }
    let of_tasks = |value: &dyn Fn(Task) -> Series| tasks.iter().map(|task| value(*task)).collect();
    plots.extend(draw(
        "First choice right, on validation",
        "share of rows",
        tasks
            .iter()
            .flat_map(|task| {
                let commonest = format!("{task}, commonest answer");
                [
                    of_validation(task.name(), Look::Dotted, &|found| found.top1.get(task).copied()),
                    of_validation(&commonest, Look::Line, &|found| found.commonest.get(task).copied()),
                ]
            })
            .collect(),
        true,
    )?);
    plots.extend(draw(
        "Uncertainty of each task (Eq. 14)",
        "σ",
        of_tasks(&|task| {
            of_training(task.name(), Look::Line, &|standing| standing.sigma.get(&task).copied())
        }),
        true,
    )?);
    plots.extend(draw(
        "Throughput",
        "rows per second",
        vec![of_training("training", Look::Line, &|standing| Some(standing.rows_per_s))],
        true,
    )?);
    plots.extend(draw(
        "Time in which the network waited for a batch",
        "share of time",
        vec![of_training("waiting", Look::Line, &|standing| Some(standing.waiting))],
        true,
    )?);
    plots.extend(draw(
        "Norm of the gradient, before clipping",
        "norm",
        vec![of_training("gradient", Look::Line, &|standing| Some(standing.gradient))],
        true,
    )?);
    Ok(plots)
}

const fn loss_unit(task: Task) -> &'static str {
    match task {
        Task::Pose => "squared error, m²",
        Task::Beam | Task::Blockage | Task::Activity => "negative log-likelihood",
    }
}

/// The last validation of each stage that was the best so far: its weights went on.
fn best(training: &Training) -> Table {
    let mut table = Table::new(
        "Best validation of each stage",
        &["stage", "step", "losses", "first choice right (commonest)"],
    );
    for (name, _) in &training.stages {
        let mut of_stage = training.validated.iter().filter(|(_, found)| found.stage == *name && found.best);
        let Some((step, found)) = of_stage.next_back() else { continue };
        let losses = found.losses.iter().map(|(task, loss)| format!("{task} {loss:.4}"));
        let right = found.top1.iter().map(|(task, share)| {
            let commonest = found.commonest.get(task).map(|share| format!(" ({:.1} %)", 100.0 * share));
            format!("{task} {:.1} %{}", 100.0 * share, commonest.unwrap_or_default())
        });
        table.rows.push(vec![
            Cell::text(name),
            Cell::number(step.to_string()),
            Cell::text(losses.collect::<Vec<_>>().join(", ")),
            Cell::text(right.collect::<Vec<_>>().join(", ")),
        ]);
    }
    table
}
