//! `eval CHECKPOINT [RECORDING]`: what a trained network is worth on data that it has not seen.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::{Failure, Format, Outcome, shutdown, text, train};
use crate::infer::device::{self, DeviceChoice};
use crate::model::deployed;
use crate::model::{Input, MODALITIES, Network};
use crate::train::data::DataSet;
use crate::train::evaluate::{self, Asking};
use crate::train::recipe::{self, Recipe};
use crate::train::score::{self, Question};
use crate::train::simple::Simple;
use crate::train::trainer::{RECIPE, SIMPLE};

/// Arguments of `eval`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A trained network (`model.safetensors`), with `recipe.toml` and `simple.json` of its training beside it
    checkpoint: PathBuf,
    /// A recording that training has never seen; left out, the test part of the recipe's data
    recording: Option<PathBuf>,
    /// Pipeline file whose road the recording's samples take [default: that of the recipe's first data set]
    #[arg(long, value_name = "FILE")]
    pipeline: Option<PathBuf>,
    /// Recording that takes the place of the recipe's data set NAME
    #[arg(long, value_name = "NAME=PATH", value_parser = train::named_path)]
    data: Vec<(String, PathBuf)>,
    /// Hide a modality from the network; may be given several times
    #[arg(long, value_name = "MODALITY", value_parser = modality)]
    without: Vec<Input>,
    /// Write all figures as JSON to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn modality(name: &str) -> Result<Input, String> {
    let named = Input::ALL.into_iter().find(|input| input.name() == name);
    named.ok_or_else(|| format!("allowed are {}", Input::ALL.map(Input::name).join(", ")))
}

/// What was measured on one data set.
#[derive(Debug, Serialize)]
struct Measured {
    checkpoint: PathBuf,
    data: String,
    without: Vec<&'static str>,
    parameters: usize,
    questions: Vec<Question>,
    /// Mean gate weight of each modality over all rows.
    gate: Vec<(&'static str, f64)>,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<Outcome, Failure> {
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopped);
    shutdown::on_signal(move || stop.store(true, Ordering::Relaxed)).map_err(Failure::failed)?;
    let folder = arguments.checkpoint.parent().unwrap_or(Path::new(""));
    let opened = device::open(DeviceChoice::default()).map_err(Failure::usage)?;
    let (network, fit) = deployed::load(&arguments.checkpoint, &opened.device).map_err(Failure::usage)?;
    let mut recipe = recipe::load(&folder.join(RECIPE)).map_err(Failure::usage)?;
    let simple = simple(&folder.join(SIMPLE))?;
    let mut without = recipe.hidden();
    for input in &arguments.without {
        if let Some(hidden) = without.get_mut(input.place()) {
            *hidden = true;
        }
    }
    recipe.instants_ms.clone_from(&fit.instants_ms);
    let mut all = Vec::new();
    match &arguments.recording {
        Some(path) => {
            let data = foreign(&recipe, &network, path, arguments.pipeline.as_deref())?;
            if data.shape.sizes != fit.sizes || data.shape.horizons_ms != fit.horizons_ms {
                return Err(Failure::Usage(format!(
                    "{}: has {:?} and horizons {:?} ms, the network was built for {:?} and {:?} ms",
                    path.display(),
                    data.shape.sizes,
                    data.shape.horizons_ms,
                    fit.sizes,
                    fit.horizons_ms
                )));
            }
            let examples: Vec<u32> = (0..data.examples.len() as u32).collect();
            all.push(measure(arguments, &recipe, &network, &data, &examples, simple.as_ref(), without)?);
        }
        None => {
            train::replace(&mut recipe, &arguments.data)?;
            for part in train::parts(&recipe, network.config(), &stopped)? {
                if !part.split.test.is_empty() {
                    let test = &part.split.test;
                    all.push(measure(
                        arguments,
                        &recipe,
                        &network,
                        &part.data,
                        test,
                        simple.as_ref(),
                        without,
                    )?);
                }
            }
            if all.is_empty() {
                return Err(Failure::Usage("the recipe has no test part: name a recording".to_owned()));
            }
        }
    }
    if let Some(file) = &arguments.output {
        let text = serde_json::to_vec_pretty(&all).map_err(Failure::failed)?;
        std::fs::write(file, text)
            .map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
    }
    match format {
        Format::Json => all.iter().try_for_each(text::json)?,
        Format::Text => all.iter().for_each(|measured| text::result(show(measured).trim_end())),
    }
    Ok(Outcome::Done)
}

fn simple(file: &Path) -> Result<Option<Simple>, Failure> {
    if !file.is_file() {
        return Ok(None);
    }
    let wrong = |error: &dyn std::fmt::Display| Failure::Usage(format!("{}: {error}", file.display()));
    let text = std::fs::read(file).map_err(|error| wrong(&error))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| wrong(&error))
}

/// A recording that the recipe does not know.
fn foreign(
    recipe: &Recipe,
    network: &Network,
    path: &Path,
    pipeline: Option<&Path>,
) -> Result<DataSet, Failure> {
    let Some(entry) = recipe.data.first() else { unreachable!("a recipe has data") };
    let mut entry = entry.clone();
    entry.name = path.file_name().map_or_else(|| "recording".into(), |name| name.to_string_lossy().into());
    if let Some(pipeline) = pipeline {
        entry.pipeline = Some(pipeline.to_owned());
    }
    // It is another one, all of which is asked.
    entry.files.clear();
    let tasks = recipe.tasks(network.config());
    train::open(recipe, network.config(), &entry, path, &tasks)
}

fn measure(
    arguments: &Arguments,
    recipe: &Recipe,
    network: &Network,
    data: &DataSet,
    examples: &[u32],
    simple: Option<&Simple>,
    without: [bool; MODALITIES],
) -> Result<Measured, Failure> {
    let asking = Asking { tasks: &data.tasks, batch: recipe.batch, losses: &recipe.loss, without };
    let answers = evaluate::ask(network, data, examples, &asking).map_err(Failure::failed)?;
    let name = &network.config().name;
    let rows = answers.tasks.values().next().map(Vec::as_slice).unwrap_or_default();
    let gate = Input::ALL.into_iter().filter_map(|input| {
        let weights: Vec<f64> =
            rows.iter().filter_map(|row| row.gate.get(input.place()).map(|&w| f64::from(w))).collect();
        crate::train::measures::mean(&weights).ok().map(|mean| (input.name(), mean))
    });
    Ok(Measured {
        checkpoint: arguments.checkpoint.clone(),
        data: data.name.clone(),
        without: arguments.without.iter().map(|input| input.name()).collect(),
        parameters: deployed::parameters(&arguments.checkpoint).map_err(Failure::usage)?,
        gate: gate.collect(),
        questions: score::score(data, &answers, simple, name),
    })
}

/// A table per question.
fn show(measured: &Measured) -> String {
    let mut text = format!("{}: {} parameters\n", measured.checkpoint.display(), measured.parameters);
    if !measured.without.is_empty() {
        let _ = writeln!(text, "without {}", measured.without.join(", "));
    }
    if !measured.gate.is_empty() {
        let weights: Vec<String> =
            measured.gate.iter().map(|(name, weight)| format!("{name} {weight:.2}")).collect();
        let _ = writeln!(text, "gate: {}", weights.join(", "));
    }
    for question in &measured.questions {
        let _ = writeln!(
            text,
            "\n{} of {}, {}: {} rows of {} groups",
            question.task, measured.data, question.what, question.rows, question.groups
        );
        for worth in &question.worth {
            let _ = writeln!(text, "  {}", worth.predictor);
            for (name, figure) in &worth.figures {
                let _ = writeln!(
                    text,
                    "    {name:<26} {:>9.4}   ({:.4} to {:.4})",
                    figure.value, figure.low, figure.high
                );
            }
        }
    }
    text
}
