//! `eval CHECKPOINT [RECORDING]`: what a trained network is worth on data that it has not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Failure, Format, Outcome, shutdown, text, train};
use crate::infer::device::{self, DeviceChoice};
use crate::model::deployed::{self, Scaling};
use crate::model::{Input, MODALITIES, Network, Task};
use crate::recording as recordings;
use crate::train::data::recording::{self, Resolution};
use crate::train::data::{Ahead, DataSet, Shape};
use crate::train::evaluate::{self, Answers, Asking};
use crate::train::learned::{self, Learned};
use crate::train::live::Witness;
use crate::train::recipe::{self, DataEntry, Recipe};
use crate::train::report::{Evaluation, Measured, VERSION};
use crate::train::score::{self, Asked, Figure, Question};
use crate::train::simple::Simple;
use crate::train::trainer::{MODEL, RECIPE, SIMPLE};

/// Arguments of `eval`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A trained network (`model.safetensors`), with `recipe.toml` and `simple.json` of its training beside it, or their folder
    checkpoint: PathBuf,
    /// A recording that training has never seen; left out, the test part of the recipe's data
    recording: Option<PathBuf>,
    /// Pipeline file whose road the recording's samples take [default: that of the recipe's first data set]
    #[arg(long, value_name = "FILE", requires = "recording")]
    pipeline: Option<PathBuf>,
    /// Recording that takes the place of the recipe's data set NAME
    #[arg(long, value_name = "NAME=PATH", value_parser = train::named_path, conflicts_with = "recording")]
    data: Vec<(String, PathBuf)>,
    /// Hide a modality from the network; may be given several times
    #[arg(long, value_name = "MODALITY", value_parser = modality)]
    without: Vec<Input>,
    /// Repeat all figures with each modality hidden in turn, and with each alone
    #[arg(long)]
    each_modality: bool,
    /// Write all figures as JSON to this file, for `report`
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn modality(name: &str) -> Result<Input, String> {
    let named = Input::ALL.into_iter().find(|input| input.name() == name);
    named.ok_or_else(|| format!("allowed are {}", Input::ALL.map(Input::name).join(", ")))
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<Outcome, Failure> {
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopped);
    shutdown::on_signal(move || stop.store(true, Ordering::Relaxed)).map_err(Failure::failed)?;
    let checkpoint = if arguments.checkpoint.is_dir() {
        network_of(&arguments.checkpoint)?
    } else {
        arguments.checkpoint.clone()
    };
    if let Some(file) = &arguments.output {
        can_be_written(file)?;
    }
    let folder = checkpoint.parent().unwrap_or(Path::new(""));
    let opened = device::open(DeviceChoice::default()).map_err(Failure::usage)?;
    let (network, fit) = deployed::load(&checkpoint, &opened.device).map_err(Failure::usage)?;
    let mut recipe = recipe::load(&folder.join(RECIPE)).map_err(Failure::usage)?;
    let simple = simple(&folder.join(SIMPLE))?;
    if simple.is_none() {
        let file = folder.join(SIMPLE);
        text::progress(format!(
            "{}: not there: what was learned of it by simple predictors does not stand beside the network",
            file.display()
        ));
    }
    recipe.instants_ms.clone_from(&fit.instants_ms);
    // What training never saw, it is not asked with.
    let mut without = Input::ALL.map(|input| fit.without.contains(&input));
    for input in &arguments.without {
        if let Some(hidden) = without.get_mut(input.place()) {
            *hidden = true;
        }
    }
    let judge = Judge {
        recipe: &recipe,
        network: &network,
        simple: simple.as_ref(),
        scaling: &fit.scaling,
        learned: &learned::read(folder).map_err(Failure::usage)?,
        without,
        each_modality: arguments.each_modality,
    };
    let fits = |data: &DataSet, what: &dyn std::fmt::Display| {
        let shape = &data.shape;
        let window = (shape.sizes.slots, shape.stride_ms);
        fit.check(&data.tasks, window, &shape.horizons_ms, &shape.codebook)
            .map_err(|error| Failure::Usage(format!("{what}: {error}")))?;
        if shape.sizes == fit.sizes {
            return Ok(());
        }
        let built = Shape { sizes: fit.sizes, ..shape.clone() };
        let unlike = shape.unlike(&built).join("; ");
        Err(Failure::Usage(format!("{what}: {unlike}: what the network was built for")))
    };
    let mut results = Vec::new();
    let outcome;
    match &arguments.recording {
        Some(path) => {
            let mut data = foreign(&recipe, &network, path, arguments.pipeline.as_deref(), &stopped)?;
            data.take_beams(fit.sizes.beams, &fit.codebook);
            train::tell_of(&data);
            fits(&data, &path.display())?;
            let examples: Vec<u32> = (0..data.examples.len() as u32).collect();
            judge.measure(&data, &examples, &stopped, &mut results)?;
            outcome = train::outcome([&data].into_iter());
        }
        None => {
            let mut named = recipe.clone();
            train::replace(&mut named, &arguments.data)?;
            // What is only learned from is neither made nor opened.
            named.data.retain(DataEntry::may_test);
            train::check_places(&named)?;
            let parts = train::parts(&named, network.config(), &stopped)?;
            outcome = train::outcome(parts.iter().map(|part| &part.data));
            for mut part in parts {
                part.data.take_beams(fit.sizes.beams, &fit.codebook);
                fits(&part.data, &part.data.name)?;
                if !part.split.test.is_empty() {
                    judge.measure(&part.data, &part.split.test, &stopped, &mut results)?;
                }
            }
            if results.is_empty() {
                return Err(Failure::Usage("the recipe has no test part: name a recording".to_owned()));
            }
        }
    }
    let evaluation = Evaluation {
        version: VERSION,
        network: network.config().name.clone(),
        parameters: deployed::parameters(&checkpoint).map_err(Failure::usage)?,
        checkpoint,
        results,
    };
    match format {
        Format::Json => text::json(&evaluation)?,
        Format::Text => text::result(show(&evaluation).trim_end()),
    }
    if let Some(file) = &arguments.output {
        write(&evaluation, file)?;
    }
    Ok(outcome)
}

/// Which modalities are hidden, in the order of [`Input::ALL`], one set after the other: `without`; then, where each is to be
/// hidden, of those that a data set has, each besides, and all but each.
fn hidden(
    without: [bool; MODALITIES],
    each: bool,
    data: &DataSet,
    examples: &[u32],
) -> Vec<[bool; MODALITIES]> {
    let mut all = vec![without];
    let is_there = |place: usize| {
        let of = examples.iter().filter_map(|&example| data.examples.get(example as usize));
        of.flat_map(|example| example.places.iter().skip(place).step_by(MODALITIES)).any(Option::is_some)
    };
    let places = without.into_iter().enumerate();
    let seen: Vec<usize> = places
        .filter(|(place, hidden)| each && !hidden && is_there(*place))
        .map(|(place, _)| place)
        .collect();
    let places = || Input::ALL.map(Input::place);
    // Of two, to hide one is to show the other alone.
    if seen.len() > 2 {
        let besides = |own: &usize| places().map(|other| other == *own || without.get(other) == Some(&true));
        all.extend(seen.iter().map(besides));
    }
    if seen.len() > 1 {
        all.extend(seen.iter().map(|own| places().map(|other| other != *own)));
    }
    all
}

/// What is the same for all that is measured.
struct Judge<'a> {
    recipe: &'a Recipe,
    network: &'a Network,
    simple: Option<&'a Simple>,
    scaling: &'a BTreeMap<Task, Scaling>,
    /// What it has learned from.
    learned: &'a [Learned],
    /// What is never shown, in the order of [`Input::ALL`].
    without: [bool; MODALITIES],
    each_modality: bool,
}

impl Judge<'_> {
    /// Measures on examples of a data set: with the modalities that were asked for, together and per condition; then with
    /// others hidden, together.
    fn measure(
        &self,
        data: &DataSet,
        examples: &[u32],
        stopped: &AtomicBool,
        results: &mut Vec<Measured>,
    ) -> Result<(), Failure> {
        let conditions = conditions(data, examples);
        let learned = learned_of(self.learned, data, examples, false)?;
        let hidden = hidden(self.without, self.each_modality, data, examples);
        for (turn, without) in hidden.into_iter().enumerate() {
            if stopped.load(Ordering::Relaxed) {
                return Err(Failure::Failed("stopped before all was measured".to_owned()));
            }
            let asking = Asking {
                tasks: &data.tasks,
                batch: self.recipe.batch,
                losses: &self.recipe.loss,
                without,
                slots: data.slots(),
            };
            let answers = evaluate::ask(self.network, data, examples, &asking).map_err(Failure::failed)?;
            if answers.tasks.values().all(Vec::is_empty) {
                if turn > 0 {
                    // It was all that there is.
                    continue;
                }
                let (data, hidden) = (&data.name, names(without).collect::<Vec<_>>().join(", "));
                return Err(Failure::Usage(format!(
                    "{data}: no row is left that shows anything, without {hidden}"
                )));
            }
            results.push(Measured { learned, ..self.judge(data, &answers, without, None) });
            for condition in conditions.iter().copied().filter(|_| turn == 0) {
                let own = score::of_condition(data, &answers, condition);
                results.push(Measured { learned, ..self.judge(data, &own, without, Some(condition)) });
            }
        }
        Ok(())
    }

    fn judge(
        &self,
        data: &DataSet,
        answers: &Answers,
        without: [bool; MODALITIES],
        condition: Option<&str>,
    ) -> Measured {
        let network = &self.network.config().name;
        let asked = Asked { data, answers, network, simple: self.simple, scaling: self.scaling };
        measured(&asked, without, condition)
    }
}

fn measured(asked: &Asked<'_>, without: [bool; MODALITIES], condition: Option<&str>) -> Measured {
    let gate = Input::ALL.into_iter().zip(score::gate(asked.data, asked.answers));
    Measured {
        data: asked.data.name.clone(),
        hidden: names(without).map(str::to_owned).collect(),
        learned: None,
        condition: condition.map(str::to_owned),
        gate: gate.map(|(input, weight)| (input.name().to_owned(), weight)).collect(),
        questions: score::score(asked),
    }
}

/// The names of what is hidden.
fn names(without: [bool; MODALITIES]) -> impl Iterator<Item = &'static str> {
    Input::ALL.into_iter().zip(without).filter(|(_, hidden)| *hidden).map(|(input, _)| input.name())
}

/// How much of what is asked the network has learned from; says so where it is any.
fn learned_of(
    learned: &[Learned],
    data: &DataSet,
    examples: &[u32],
    by_truth: bool,
) -> Result<Option<f64>, Failure> {
    let share = learned::repeated(learned, data, examples, by_truth).map_err(Failure::failed)?;
    if let Some(told) = not_held_out(share) {
        text::progress(format!("{}: {told}", data.name));
    }
    Ok(share)
}

/// What is to be said of rows of which the network has learned from such a share.
fn not_held_out(share: Option<f64>) -> Option<String> {
    let percent = 100.0 * share.filter(|share| *share > 0.0)?;
    Some(format!(
        "not held out: the network has learned from {percent:.1} % of these rows, as its marks tell"
    ))
}

/// What was like what, in the order of names; none where all was the same.
fn conditions<'a>(data: &'a DataSet, examples: &[u32]) -> BTreeSet<&'a str> {
    let of = examples.iter().filter_map(|&example| data.condition(data.examples.get(example as usize)?));
    let all: BTreeSet<&str> = of.collect();
    if all.len() > 1 { all } else { BTreeSet::new() }
}

/// What a unit decided on a recording, by the measures of held-out examples.
pub(super) struct Live<'a> {
    /// The pipeline file that it ran.
    pub pipeline: &'a Path,
    /// The network that it ran, where it ran one.
    pub checkpoint: Option<&'a Path>,
    /// The name of what decided.
    pub model: &'a str,
    /// The recording.
    pub recording: &'a Path,
    /// What it was asked for.
    pub tasks: &'a [Task],
    /// What it said.
    pub witness: &'a Witness,
}

impl Live<'_> {
    /// Measures.
    pub(super) fn evaluate(&self) -> Result<Evaluation, Failure> {
        // Readings are looked at for when they stood in which frame, not for what is in them.
        let resolution = Resolution { side: 1, radar: 1, lidar: 1 };
        let cache = std::env::temp_dir().join(format!("mmsense-run-{}", std::process::id()));
        let name = self.recording.file_name().map(|name| name.to_string_lossy().into_owned());
        let request = recording::Request {
            name: name.as_deref().unwrap_or("recording"),
            path: self.recording,
            pipeline: self.pipeline,
            tasks: self.tasks,
            resolution,
            instants_ms: &[0],
            ahead: Ahead::Time,
            cache: &cache,
        };
        let opened = recording::open(&request, &|_, _| true);
        // What is mapped stays until it is let go of.
        let _ = std::fs::remove_dir_all(&cache);
        let data = opened.map_err(Failure::usage)?;
        let beside = self.checkpoint.and_then(Path::parent).map(|folder| folder.join(SIMPLE));
        let simple = beside.map(|file| simple(&file)).transpose()?.flatten();
        let answers = self.witness.answers(&data);
        let examples: Vec<u32> = (0..data.examples.len() as u32).collect();
        let fit = self.checkpoint.map(deployed::describe).transpose().map_err(Failure::usage)?;
        let never_seen = fit.map(|(_, fit)| fit.without).unwrap_or_default();
        let hidden = Input::ALL.map(|input| never_seen.contains(&input));
        let judge = |answers: &Answers, condition: Option<&str>| {
            let scaling = &BTreeMap::new();
            let asked = Asked { data: &data, answers, network: self.model, simple: simple.as_ref(), scaling };
            measured(&asked, hidden, condition)
        };
        let folder = self.checkpoint.and_then(Path::parent);
        let learned = folder.map(learned::read).transpose().map_err(Failure::usage)?.unwrap_or_default();
        // Of readings only what is true beside them is known here.
        let learned = learned_of(&learned, &data, &examples, true)?;
        let mut results = vec![Measured { learned, ..judge(&answers, None) }];
        for condition in conditions(&data, &examples) {
            let own = score::of_condition(&data, &answers, condition);
            results.push(Measured { learned, ..judge(&own, Some(condition)) });
        }
        let parameters = self.checkpoint.map(deployed::parameters).transpose().map_err(Failure::usage)?;
        Ok(Evaluation {
            version: VERSION,
            network: self.model.to_owned(),
            checkpoint: self.checkpoint.unwrap_or(self.pipeline).to_owned(),
            parameters: parameters.unwrap_or(0),
            results,
        })
    }
}

/// The trained network in the folder of a run.
fn network_of(folder: &Path) -> Result<PathBuf, Failure> {
    let file = folder.join(MODEL);
    if file.exists() {
        return Ok(file);
    }
    let allowed = if folder.join(RECIPE).is_file() {
        "training writes it when it ends; the same `mmsense train` goes on from what was learned"
    } else {
        "allowed is the folder of a run, or a network's file"
    };
    Err(Failure::Usage(format!("{}: found no {MODEL}: {allowed}", folder.display())))
}

/// Refuses a file that figures cannot be written to, before they are measured.
pub(super) fn can_be_written(file: &Path) -> Result<(), Failure> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() || file.is_dir() {
        let (file, folder) = (file.display(), folder.display());
        return Err(Failure::Usage(format!(
            "{file}: cannot be written: allowed is a file in a folder that is there, found {folder}"
        )));
    }
    Ok(())
}

/// Writes figures down, for `report`.
pub(super) fn write(evaluation: &Evaluation, file: &Path) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(evaluation).map_err(Failure::failed)?;
    std::fs::write(file, text).map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))
}

fn simple(file: &Path) -> Result<Option<Simple>, Failure> {
    if !file.is_file() {
        return Ok(None);
    }
    let wrong = |error: &dyn std::fmt::Display| Failure::Usage(format!("{}: {error}", file.display()));
    let text = std::fs::read(file).map_err(|error| wrong(&error))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| wrong(&error))
}

/// A recording that the recipe does not know. It takes the road of the first data set that is like it: with people, or with
/// links; and is asked what it can answer.
fn foreign(
    recipe: &Recipe,
    network: &Network,
    path: &Path,
    pipeline: Option<&Path>,
    stopped: &AtomicBool,
) -> Result<DataSet, Failure> {
    let tasks = recipe.tasks(network.config());
    let is_of_people = recordings::is_of_people(path);
    let is_like = |entry: &&DataEntry| {
        let of_entry = if entry.tasks.is_empty() { &tasks } else { &entry.tasks };
        entry.layout.is_none() && of_entry.iter().any(|task| task.is_of_unit() == is_of_people)
    };
    let Some(entry) = recipe.data.iter().find(is_like).or(recipe.data.first()) else {
        unreachable!("a recipe has data")
    };
    let mut entry = entry.clone();
    entry.name = path.file_name().map_or_else(|| "recording".into(), |name| name.to_string_lossy().into());
    if let Some(pipeline) = pipeline {
        entry.pipeline = Some(pipeline.to_owned());
    }
    // It is another one, all of which is asked.
    entry.files.clear();
    train::open(recipe, network.config(), &entry, path, &tasks, stopped)
}

/// A table per question of all rows; of each condition and each set of hidden modalities a line per question.
pub(super) fn show(evaluation: &Evaluation) -> String {
    let mut text = format!("{}: {} parameters\n", evaluation.checkpoint.display(), evaluation.parameters);
    let mut first: Option<&str> = None;
    for measured in &evaluation.results {
        let is_first = first != Some(&measured.data);
        first = Some(&measured.data);
        let what = match (&measured.condition, measured.hidden.as_slice()) {
            (Some(condition), _) => format!("\n{}, {condition}", measured.data),
            (None, []) => format!("\n{}", measured.data),
            (None, hidden) => format!("\n{}, without {}", measured.data, hidden.join(", ")),
        };
        let _ = writeln!(text, "{what}");
        if let Some(told) = not_held_out(measured.learned).filter(|_| measured.condition.is_none()) {
            let _ = writeln!(text, "{told}");
        }
        if !measured.gate.is_empty() {
            let weights = measured.gate.iter().map(|(name, weight)| format!("{name} {:.2}", weight.value));
            let _ = writeln!(text, "gate: {}", weights.collect::<Vec<_>>().join(", "));
        }
        for question in &measured.questions {
            if is_first {
                show_whole(&mut text, question);
            } else {
                show_short(&mut text, question);
            }
        }
    }
    text
}

fn show_whole(text: &mut String, question: &Question) {
    let Question { task, what, rows, groups, .. } = question;
    let _ = writeln!(text, "\n{task}, {what}: {rows} rows of {groups} groups");
    for worth in &question.worth {
        let _ = writeln!(text, "  {}", worth.predictor);
        for (name, figure) in &worth.figures {
            let _ = writeln!(text, "    {name:<32} {}", show_figure(figure));
        }
    }
}

/// The first of a question's main measures that it has, of everyone.
fn show_short(text: &mut String, question: &Question) {
    let Some(own) = question.worth.first() else { return };
    let measures = score::main_measures(question.task);
    let Some(measure) = measures.iter().find(|measure| own.figures.contains_key(**measure)) else { return };
    let figures = question
        .worth
        .iter()
        .filter_map(|worth| Some(format!("{} {:.4}", worth.predictor, worth.figures.get(*measure)?.value)));
    let figures = figures.collect::<Vec<_>>().join(", ");
    let Question { task, what, rows, .. } = question;
    let _ = writeln!(text, "  {task}, {what}, {rows} rows: {measure} of {figures}");
}

fn show_figure(figure: &Figure) -> String {
    match figure.interval {
        Some([low, high]) => format!("{:>9.4}   ({low:.4} to {high:.4})", figure.value),
        None => format!("{:>9.4}   (too few groups for an interval)", figure.value),
    }
}
