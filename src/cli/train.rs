//! `train RECIPE`: from recordings to a checkpoint.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::progress::Progress;
use super::{Failure, Format, Outcome, made, shutdown, text};
use crate::config;
use crate::infer::device;
use crate::model::Task;
use crate::model::config::NetworkConfig;
use crate::train::batch::Mirror;
use crate::train::data::recording::{self, CollectError, Resolution};
use crate::train::data::split::Split;
use crate::train::data::twins::{self, Divided};
use crate::train::data::{DataSet, Part, archive};
use crate::train::recipe::{self, By, DataEntry, Recipe, Use};
use crate::train::trainer::{Ended, Event, Standing, Trainer};
use crate::train::workers::STACK;

/// Arguments of `train`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Recipe file (TOML)
    recipe: PathBuf,
    /// Folder of the results in place of the recipe's; runs that it begins with get folders of their own in it
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Seed in place of the recipe's
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,
    /// Task that is learned alone (more than one: those alone), of data that has labels for it, in a folder of its own
    #[arg(long, value_name = "TASK", value_parser = named_task)]
    task: Vec<Task>,
    /// Recording that takes the place of the recipe's data set NAME
    #[arg(long, value_name = "NAME=PATH", value_parser = named_path)]
    data: Vec<(String, PathBuf)>,
}

/// `NAME=PATH`
pub(super) fn named_path(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("NAME=PATH is wanted")?;
    Ok((name.to_owned(), PathBuf::from(path)))
}

fn named_task(name: &str) -> Result<Task, String> {
    let allowed = || Task::ALL.map(Task::name).join(", ");
    Task::of_name(name).ok_or_else(|| format!("allowed are {}", allowed()))
}

/// Puts the recordings of the command line in the place of the recipe's.
pub(super) fn replace(recipe: &mut Recipe, data: &[(String, PathBuf)]) -> Result<(), Failure> {
    for (name, path) in data {
        let known: Vec<String> = recipe.data.iter().map(|entry| format!("`{}`", entry.name)).collect();
        let whole = std::path::absolute(path).map_err(Failure::usage)?;
        let mut found = false;
        for entry in recipe.data.iter_mut().filter(|entry| entry.name == *name) {
            entry.recording = Some(whole.clone());
            // How the scene would have been made.
            (entry.scene, entry.seed, entry.repeat) = (None, None, 1);
            entry.without.clear();
            found = true;
        }
        if !found {
            let known = known.join(", ");
            return Err(Failure::Usage(format!(
                "--data: found `{name}`, the recipe's data sets are {known}"
            )));
        }
    }
    Ok(())
}

/// Whether each data set lies somewhere.
pub(super) fn check_places(recipe: &Recipe) -> Result<(), Failure> {
    match recipe.data.iter().find(|entry| entry.recording.is_none() && entry.scene.is_none()) {
        Some(entry) => Err(Failure::Usage(format!(
            "data set `{0}` has no recording: name it with --data {0}=PATH",
            entry.name
        ))),
        None => Ok(()),
    }
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<Outcome, Failure> {
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stopped);
    shutdown::on_signal(move || stop.store(true, Ordering::Relaxed)).map_err(Failure::failed)?;
    let mut outcome = Outcome::Done;
    for (file, recipe) in chain(arguments)? {
        let (ended, of_recipe) = learn(&file, &recipe, &stopped, format)?;
        if of_recipe != Outcome::Done {
            outcome = of_recipe;
        }
        if ended == Ended::Stopped || stopped.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(outcome)
}

/// Recipes that may begin with one another.
const LONGEST_CHAIN: usize = 8;

/// The recipe, after those that it begins with: the first one begins with nothing, or with a run.
fn chain(arguments: &Arguments) -> Result<Vec<(PathBuf, Recipe)>, Failure> {
    let mut chain: Vec<(PathBuf, Recipe)> = Vec::new();
    let mut next = Some(arguments.recipe.clone());
    while let Some(file) = next.take() {
        let mut recipe = recipe::load(&file).map_err(Failure::usage)?;
        recipe.seed = arguments.seed.unwrap_or(recipe.seed);
        replace(&mut recipe, &arguments.data)?;
        if !arguments.task.is_empty() {
            let wrong = |error| Failure::Usage(format!("{}: --task: {error}", file.display()));
            recipe.learn_only(&arguments.task).map_err(wrong)?;
        }
        check_places(&recipe)?;
        if let Some(output) = &arguments.output {
            recipe.output = if chain.is_empty() { output.clone() } else { output.join(&recipe.name) };
        }
        if let Some((_, before)) = chain.last_mut() {
            before.from = Some(recipe.output.clone());
        }
        next = recipe.from.clone().filter(|from| from.extension().is_some_and(|kind| kind == "toml"));
        chain.push((file, recipe));
        if chain.len() > LONGEST_CHAIN {
            let file = arguments.recipe.display();
            return Err(Failure::Usage(format!(
                "{file}: from: found more than {LONGEST_CHAIN} recipes that begin with one another"
            )));
        }
    }
    if let Some((file, Recipe { from: Some(from), .. })) = chain.last()
        && !from.is_dir()
    {
        let (file, from) = (file.display(), from.display());
        return Err(Failure::Usage(format!(
            "{file}: from: found no folder {from}, allowed is a run or a recipe"
        )));
    }
    chain.reverse();
    Ok(chain)
}

/// Trains by one recipe; says also whether all of its data could be read.
fn learn(
    file: &Path,
    recipe: &Recipe,
    stopped: &AtomicBool,
    format: Format,
) -> Result<(Ended, Outcome), Failure> {
    let mut config = config::load_network(&recipe.network).map_err(Failure::usage)?;
    if let Some(task) = recipe.tasks.iter().find(|task| !config.tasks.contains(task)) {
        let (file, allowed) = (recipe.network.display(), &config.tasks);
        return Err(Failure::Usage(format!(
            "tasks: found `{task}`, allowed are those of {file}: {allowed:?}"
        )));
    }
    // A unit must not ask for what was not learned.
    config.tasks = recipe.tasks(&config);
    config.slots.retain(|task, _| config.tasks.contains(task));
    let opened = device::open(recipe.device).map_err(Failure::usage)?;
    let (file, name) = (file.display(), &config.name);
    text::progress(format!("{file}: {name} on {}: {}", opened.name, opened.reason));
    let mut parts = parts(recipe, &config, stopped)?;
    let mut recipe = recipe.clone();
    leave_out_untold(&mut recipe, &mut config, &mut parts);
    let body = || train(&recipe, &config, &parts, &opened, stopped, format);
    let ended = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("train".to_owned()).stack_size(STACK);
        let thread = thread.spawn_scoped(scope, body).map_err(Failure::failed)?;
        thread.join().map_err(|_| Failure::Failed("training broke: a defect of mmsense".to_owned()))?
    })?;
    Ok((ended, outcome(parts.iter().map(|part| &part.data))))
}

/// Leaves out the tasks of which nothing that is learned from tells, where it tells others, and says so: of a data set that has
/// part of the labels that a recipe is for, that part is learned.
fn leave_out_untold(recipe: &mut Recipe, config: &mut NetworkConfig, parts: &mut [Part]) {
    let is_told = |task: &Task| {
        parts
            .iter()
            .any(|part| part.tasks.contains(task) && part.examples_to_learn().any(|of| of.truth.tells(*task)))
    };
    let (told, untold): (Vec<Task>, Vec<Task>) = config.tasks.iter().copied().partition(is_told);
    if told.is_empty() || untold.is_empty() {
        return;
    }
    let names = |tasks: &[Task]| tasks.iter().map(|task| task.name()).collect::<Vec<_>>().join(", ");
    text::progress(format!(
        "no example that is learned from has a label for {}: the network is made for {} alone",
        names(&untold),
        names(&told)
    ));
    for entry in recipe.data.iter_mut().filter(|entry| entry.tasks.iter().any(|task| told.contains(task))) {
        entry.tasks.retain(|task| told.contains(task));
    }
    for part in parts {
        part.tasks.retain(|task| told.contains(task));
    }
    config.slots.retain(|task, _| told.contains(task));
    (recipe.tasks, config.tasks) = (told.clone(), told);
}

fn train(
    recipe: &Recipe,
    config: &NetworkConfig,
    parts: &[Part],
    opened: &device::Opened,
    stopped: &AtomicBool,
    format: Format,
) -> Result<Ended, Failure> {
    let trainer = Trainer::new(recipe, config, parts, opened.device.clone()).map_err(Failure::usage)?;
    let progress = Progress::with_text();
    let mut tell = |event: &Event| {
        match (event, format) {
            (Event::Began(began), Format::Text) => {
                let (taken, drawn) = (began.taken, began.drawn);
                let from = began.from.display();
                progress.say(format!(
                    "begins with {taken} tensors of {from}, and {drawn} that it has not in this shape"
                ));
            }
            (Event::Began(began), Format::Json) => text::result(json!({ "type": "began", "began": began })),
            (Event::Standing(standing), Format::Text) => {
                let Standing { stage, step, steps, .. } = standing;
                let how = show_standing(standing);
                progress.tell(*step, *steps, &how, format!("{stage} {step}/{steps}: {how}"));
            }
            (Event::Standing(standing), Format::Json) => {
                text::result(json!({ "type": "train", "standing": standing }));
            }
            (Event::Validated(validated), Format::Text) => {
                let marks: Vec<String> = validated
                    .losses
                    .iter()
                    .map(|(task, loss)| match (validated.top1.get(task), validated.commonest.get(task)) {
                        (Some(top1), Some(commonest)) => {
                            let [top1, commonest] = [top1, commonest].map(|share| 100.0 * share);
                            format!("{task} {loss:.4} (top-1 {top1:.1} %, commonest {commonest:.1} %)")
                        }
                        _ => format!("{task} {loss:.4}"),
                    })
                    .collect();
                let best = if validated.best { "  best so far" } else { "" };
                progress.say(format!(
                    "{} step {}: validation {}{best}",
                    validated.stage,
                    validated.step,
                    marks.join(", ")
                ));
            }
            (Event::Validated(validated), Format::Json) => {
                text::result(json!({ "type": "validation", "validated": validated }));
            }
        }
        !stopped.load(Ordering::Relaxed)
    };
    let ended = trainer.run(&mut tell).map_err(Failure::failed)?;
    drop(progress);
    match ended {
        Ended::Stopped => text::progress("stopped; the same command goes on from here"),
        Ended::Done => {
            let file = trainer.deploy().map_err(Failure::failed)?;
            match format {
                Format::Text => text::result(format!("checkpoint    {}", file.display())),
                Format::Json => text::result(json!({ "type": "checkpoint", "file": file })),
            }
        }
    }
    Ok(ended)
}

fn show_standing(standing: &Standing) -> String {
    let losses: Vec<String> = standing
        .losses
        .iter()
        .map(|(task, loss)| {
            let sigma = standing.sigma.get(task).copied().unwrap_or(1.0);
            format!("{task} {loss:.4} (σ {sigma:.2})")
        })
        .collect();
    let minutes = standing.left_s / 60.0;
    format!(
        "{}, {:.1} rows/s, waited {:.0} %, {minutes:.0} min left",
        losses.join(", "),
        standing.rows_per_s,
        100.0 * standing.waiting
    )
}

/// The data sets of a recipe, with what their examples are for.
pub(super) fn parts(
    recipe: &Recipe,
    config: &NetworkConfig,
    stopped: &AtomicBool,
) -> Result<Vec<Part>, Failure> {
    let mut parts: Vec<Part> = Vec::with_capacity(recipe.data.len());
    for entry in &recipe.data {
        let tasks = if entry.tasks.is_empty() { recipe.tasks(config) } else { entry.tasks.clone() };
        let path = path(recipe, entry, stopped)?;
        let mut data = open(recipe, config, entry, &path, &tasks, stopped)?;
        tell_of(&data);
        let count = data.examples.len() as u32;
        let all = || (0..count).collect();
        let mut split = match (entry.used, entry.mmfi) {
            (Use::Split, Some(mmfi)) => {
                mmfi.split(&mut data, entry.shares.validation, recipe.seed).map_err(Failure::Usage)?
            }
            (Use::Split, None) => match entry.split {
                By::Sequence => Split::by_group(&data, entry.shares, recipe.seed),
                By::Random => Split::at_random(&mut data, entry.shares, recipe.seed),
            },
            (Use::Train, _) => Split { train: all(), ..Split::default() },
            (Use::Validation, _) => Split { validation: all(), ..Split::default() },
            (Use::Test, _) => Split { test: all(), ..Split::default() },
        };
        if let Some(share) = entry.few_shot {
            split = split.few_shot(&mut data, share);
        }
        let tasks = data.tasks.clone();
        parts.push(Part { data, split, tasks });
    }
    let of_beams = parts.iter().map(|part| &part.data.shape).find(|shape| shape.codebook.beams.is_some());
    if let Some((beams, codebook)) = of_beams.map(|shape| (shape.sizes.beams, shape.codebook.clone())) {
        parts.iter_mut().for_each(|part| part.data.take_beams(beams, &codebook));
    }
    let sides = parts.iter_mut().zip(&recipe.data);
    let mut sides: Vec<Divided<'_>> = sides
        .map(|(Part { data, split, .. }, entry)| Divided { data, split, by_rows: entry.split == By::Random })
        .collect();
    let twins = twins::leave_out(&mut sides).map_err(Failure::failed)?;
    for (Part { data, split, .. }, twins) in parts.iter().zip(twins) {
        if twins > 0 {
            let name = &data.name;
            text::progress(format!(
                "{name}: {twins} examples are left out: they stand on two sides of a split"
            ));
        }
        text::progress(format!(
            "{}: {} examples of {} groups; {} to learn from, {} to validate, {} to test",
            data.name,
            data.examples.len(),
            data.groups.len(),
            split.train.len(),
            split.validation.len(),
            split.test.len()
        ));
        if recipe.augment.mirror > 0.0 && !split.train.is_empty() && Mirror::of(data).is_none() {
            text::progress(format!(
                "{}: nothing of it is mirrored: nobody says where its beams look ([codebook] peaks_deg of its \
                 pipeline), or which joints are left ones",
                data.name
            ));
        }
    }
    Ok(parts)
}

/// Says what of a data set could not be had, and what is not known of it.
pub(super) fn tell_of(data: &DataSet) {
    let name = &data.name;
    for lost in &data.lost {
        text::progress(format!("{name}: {lost}"));
    }
    for note in &data.notes {
        text::progress(format!("{name}: {note}"));
    }
}

/// How a command ended that went through these data sets.
pub(super) fn outcome<'a>(mut data: impl Iterator<Item = &'a DataSet>) -> Outcome {
    let is_broken = data.any(|data| data.lost.iter().any(|lost| lost.is_broken));
    if is_broken { Outcome::DoneWithLoss } else { Outcome::Done }
}

/// Opens what lies at `path` as a data set of a recipe.
pub(super) fn open(
    recipe: &Recipe,
    config: &NetworkConfig,
    entry: &DataEntry,
    path: &Path,
    tasks: &[Task],
    stopped: &AtomicBool,
) -> Result<DataSet, Failure> {
    let resolution = Resolution::of(config);
    match (entry.layout, &entry.pipeline) {
        (Some(layout), _) => archive::open(&archive::Request {
            name: &entry.name,
            path,
            files: &entry.files,
            layout,
            tasks,
            windowing: entry.windowing,
            points: resolution.radar,
        })
        .map_err(Failure::usage),
        (None, Some(pipeline)) => decode(
            &recording::Request {
                name: &entry.name,
                path: &index(path, entry)?,
                pipeline,
                tasks,
                resolution,
                instants_ms: &recipe.instants_ms,
                ahead: recipe.ahead,
                cache: &recipe.cache,
            },
            stopped,
        ),
        (None, None) => unreachable!("a recipe states either"),
    }
}

/// The recording that an entry names, or the index of it: the one file that is named as the entry's `files` says.
fn index(path: &Path, entry: &DataEntry) -> Result<PathBuf, Failure> {
    let Some(pattern) = entry.files.first() else { return Ok(path.to_owned()) };
    if !pattern.contains('*') {
        return Ok(path.join(pattern));
    }
    let unread = |error| Failure::Usage(format!("{}: {error}", path.display()));
    let mut found = Vec::new();
    for file in std::fs::read_dir(path).map_err(unread)? {
        let name = file.map_err(unread)?.file_name().to_string_lossy().into_owned();
        if archive::fits(&name, pattern) {
            found.push(name);
        }
    }
    found.sort();
    match found.as_slice() {
        [index] => Ok(path.join(index)),
        _ => {
            let (path, name) = (path.display(), &entry.name);
            let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
            Err(Failure::Usage(format!(
                "{path}: data `{name}`: files: `{pattern}`: found {found}, allowed is one file that is named so"
            )))
        }
    }
}

/// Opens a recording as a data set, with a progress bar where it has to be decoded first, until `stopped`.
fn decode(request: &recording::Request<'_>, stopped: &AtomicBool) -> Result<DataSet, Failure> {
    let progress = Progress::new();
    let opened = recording::open(request, &|done, all| {
        let name = request.name;
        progress.show(done as u64, all as u64, || format!("{name}: {done} of {all} samples decoded"));
        !stopped.load(Ordering::Relaxed)
    });
    drop(progress);
    opened.map_err(|error| match error {
        CollectError::Stopped { .. } => Failure::failed(error),
        _ => Failure::usage(error),
    })
}

fn path(recipe: &Recipe, entry: &DataEntry, stopped: &AtomicBool) -> Result<PathBuf, Failure> {
    match (&entry.recording, &entry.scene) {
        (Some(path), _) => Ok(path.clone()),
        (None, Some(scene)) => {
            let DataEntry { seed, repeat, without, .. } = entry;
            let variation = made::Variation { seed: *seed, repeat: *repeat, without: without.clone() };
            made::recording(scene, &variation, &recipe.cache, stopped)
        }
        (None, None) => unreachable!("a recipe names either"),
    }
}
