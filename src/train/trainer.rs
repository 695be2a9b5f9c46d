//! The trainer: stages of a recipe one after the other, each from where the last one ended.
//!
//! ```text
//!  OUTPUT/recipe.toml            the recipe as it was read
//!  OUTPUT/data.json              what it learns from
//!  OUTPUT/log.jsonl              a line every few steps and at each validation
//!  OUTPUT/events.out.tfevents.*  the same for TensorBoard
//!  OUTPUT/last/, OUTPUT/best/    weights, running mean of weights, optimiser, where it stands
//!  OUTPUT/model.safetensors      what a unit runs: the best weights, calibrated on validation
//! ```
//!
//! A run that was stopped goes on from `last`, and what comes of it is the same to the last bit: batches and dropout follow
//! from seed and step, weights, moments and running statistics are kept as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Var};
use sha2::{Digest, Sha256};

use super::batch::Batch;
use super::data::Part;
use super::learned::{self, Learned};
use super::log::{At, Log};
use super::optimiser::Factors;
use super::recipe::{Recipe, Stage};
use super::schedule::WarmupCosine;
use super::workers::Workers;
use super::{TrainError, clip, step, uncertainty};
use crate::model::Input;
use crate::model::alone;
use crate::model::config::NetworkConfig;
use crate::model::layers::{Mode, Statistics, statistics};
use crate::model::tasks::{Sizes, Task};

mod batches;
mod deploy;
mod folder;
mod moving;
mod standing;
mod validate;

pub use folder::{LOG, MODEL, RECIPE, SIMPLE, weights};
pub use standing::{Began, Ended, Event, Standing, Validated};

use folder::{BEST, Folder, LAST, State, best_weights};
use moving::{Beginning, Moving, throw_away};
use standing::{Since, Took};

/// Batches that are ready before they are wanted.
const AHEAD: usize = 2;
/// Time between two lines of progress, and between two savings.
const TELL_EVERY: Duration = Duration::from_secs(5);
const SAVE_EVERY: Duration = Duration::from_secs(120);

/// The trainer.
pub struct Trainer<'a> {
    recipe: &'a Recipe,
    config: &'a NetworkConfig,
    parts: &'a [Part],
    sizes: Sizes,
    tasks: Vec<Task>,
    device: Device,
    recipe_hash: String,
    data_hash: String,
    /// What the run that it begins with has learned from.
    before: Vec<Learned>,
    /// Of the batches of a step.
    workers: Workers,
}

impl<'a> Trainer<'a> {
    /// A trainer of a recipe's network on these data sets.
    ///
    /// # Errors
    /// [`TrainError::Data`] when the data sets do not fit each other, or there is nothing to learn from.
    pub fn new(
        recipe: &'a Recipe,
        config: &'a NetworkConfig,
        parts: &'a [Part],
        device: Device,
    ) -> Result<Self, TrainError> {
        let first = check(recipe, config, parts)?;
        let before = match &recipe.from {
            Some(run) => {
                let before = learned::read(run)?;
                learned::check(run, &before, parts)?;
                before
            }
            None => Vec::new(),
        };
        let text = toml::to_string(recipe).unwrap_or_default();
        let hash = Sha256::digest(format!("{text}{config:?}").as_bytes());
        Ok(Self {
            recipe,
            config,
            parts,
            sizes: first.data.shape.sizes,
            tasks: recipe.tasks(config),
            recipe_hash: hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect(),
            data_hash: learned::hash(parts),
            before,
            workers: if device.is_cpu() { Workers::of_machine() } else { Workers::new(0) },
            device,
        })
    }

    fn folder(&self) -> Folder<'_> {
        self.folder_of(&self.recipe.output)
    }

    const fn folder_of<'b>(&'b self, path: &'b Path) -> Folder<'b> {
        Folder { path, device: &self.device }
    }

    /// Trains to the end, or until `tell` says no; goes on where a run in the same folder was stopped.
    ///
    /// # Errors
    /// [`TrainError`] when the folder belongs to another recipe, a file cannot be written, the device fails or a gradient
    /// is not finite.
    pub fn run(&self, tell: &mut dyn FnMut(&Event) -> bool) -> Result<Ended, TrainError> {
        let folder = self.folder();
        let io = |path: &Path| {
            let file = path.to_owned();
            move |source| TrainError::Io { file, source }
        };
        fs::create_dir_all(folder.path).map_err(io(folder.path))?;
        // Another run's folder stays as it is.
        let mut state = folder.resume(&self.recipe_hash, &self.data_hash)?;
        let text = toml::to_string(self.recipe).unwrap_or_default();
        let file = folder.path.join(RECIPE);
        fs::write(&file, text).map_err(io(&file))?;
        learned::write(folder.path, self.parts, &self.before)?;
        let mut log = Log::open(folder.path, self.at(&state))?;
        let mut beginning = self.recipe.from.as_deref().map(|run| self.beginning_of(run)).transpose()?;
        while let Some(stage) = self.recipe.stage.get(state.stage).filter(|_| !state.done) {
            let saved = folder.weights(LAST)?;
            let goes_on = saved.is_some() && state.step > 0;
            if let Some(tensors) = saved {
                beginning = Some(Beginning { tensors, is_of_another: false });
            }
            let mut moving = self.build(stage, beginning.as_ref())?;
            if let (Some(beginning @ Beginning { is_of_another: true, .. }), Some(run)) =
                (&beginning, &self.recipe.from)
            {
                let began = Self::began(run, beginning, &moving)?;
                if !tell(&Event::Began(began)) {
                    return Ok(Ended::Stopped);
                }
            }
            if goes_on {
                folder.go_on(&mut moving, self.recipe.optimiser.ema > 0.0)?;
            }
            let going = match self.stage(stage, &mut state, &mut moving, &mut log, tell)? {
                Ran::Stopped => return Ok(Ended::Stopped),
                Ran::Ended { going } => going,
            };
            // The next stage begins with the best weights of this one.
            let mut weights = folder.weights(BEST)?.unwrap_or_else(|| moving.weights());
            throw_away(&mut weights);
            state = state.next_stage();
            state.done = state.stage == self.recipe.stage.len();
            folder.save(LAST, &state, &weights, None)?;
            if !going && !state.done {
                return Ok(Ended::Stopped);
            }
            beginning = Some(Beginning { tensors: weights, is_of_another: false });
        }
        Ok(Ended::Done)
    }

    /// Another run's best weights.
    fn beginning_of(&self, run: &Path) -> Result<Beginning, TrainError> {
        let Some(mut tensors) = self.folder_of(run).weights(BEST)? else {
            let file = best_weights(run);
            return Err(TrainError::Io { file, source: std::io::ErrorKind::NotFound.into() });
        };
        throw_away(&mut tensors);
        Ok(Beginning { tensors, is_of_another: true })
    }

    /// What of another run's weights was taken.
    fn began(run: &Path, beginning: &Beginning, moving: &Moving) -> Result<Began, TrainError> {
        let all = moving.parameters.all();
        let own = || all.iter().filter(|(name, _)| !alone::is_of(name));
        let taken = own().filter(|(name, var)| beginning.has(name, var)).count();
        if own().all(|(name, var)| !beginning.has(name, var) || name.starts_with(uncertainty::PREFIX)) {
            let reason = format!("{} has no tensor of this network", run.display());
            return Err(TrainError::State { file: Some(best_weights(run)), reason });
        }
        Ok(Began { from: run.to_owned(), taken, drawn: own().count() - taken })
    }

    /// Where it stands, for the log.
    fn at(&self, state: &State) -> At {
        At { stage: state.stage, step: state.step, total: self.total(state) }
    }

    /// Goes through a stage.
    fn stage(
        &self,
        stage: &Stage,
        state: &mut State,
        moving: &mut Moving,
        log: &mut Log,
        tell: &mut dyn FnMut(&Event) -> bool,
    ) -> Result<Ran, TrainError> {
        let number = state.stage;
        let first = state.step;
        let mut orders = self.orders(number);
        let steps = self.steps(stage, &orders);
        let longest = orders.iter().map(|order| order.runs().div_ceil(self.runs_per_batch(stage))).max();
        let every = (longest.unwrap_or(1) as u64 * u64::from(self.recipe.batch.validate_every)).max(1);
        let warmup = (self.recipe.optimiser.warmup * steps as f64).round() as u64;
        let schedule = WarmupCosine { warmup, total: steps, floor: self.recipe.optimiser.floor };
        std::thread::scope(|scope| {
            let (ready, batches) = crossbeam_channel::bounded(AHEAD);
            scope.spawn(move || {
                for step in first..steps {
                    let made = self.batches(number, step, &mut orders);
                    let failed = made.is_err();
                    if ready.send(made).is_err() || failed {
                        return;
                    }
                }
            });
            let mut since = Since::new();
            let mut saved = Instant::now();
            let mut going = true;
            while going && state.step < steps {
                let waited = Instant::now();
                let Ok(made) = batches.recv() else {
                    return Err(TrainError::Data("the thread that makes batches broke".to_owned()));
                };
                since.waited += waited.elapsed();
                let made = made?;
                let factor = stage.rate * schedule.factor(state.step);
                let took = self.step(moving, &made, factor, self.seed(number, state.step))?;
                state.step += 1;
                since.add(&took, made.iter().map(Batch::rows).sum());
                if since.begun.elapsed() >= TELL_EVERY || state.step == steps {
                    let standing = since.standing(stage, state.step, steps, moving)?;
                    log.standing(self.at(state), &standing)?;
                    going = tell(&Event::Standing(standing));
                    since = Since::new();
                }
                // Also of a run that is stopped here: whoever goes on from this step does not come by it again.
                if state.step.is_multiple_of(every) || state.step == steps {
                    let validated = self.validate(stage, state, moving)?;
                    log.validated(self.at(state), &validated)?;
                    going &= tell(&Event::Validated(validated));
                    since = Since::new();
                    if stage.patience.is_some_and(|patience| state.since_best >= patience) {
                        return Ok(Ran::Ended { going });
                    }
                }
                if !going || saved.elapsed() >= SAVE_EVERY {
                    self.folder().save(LAST, state, &moving.weights(), Some(moving))?;
                    saved = Instant::now();
                }
            }
            Ok(if state.step < steps { Ran::Stopped } else { Ran::Ended { going } })
        })
    }

    /// One step of the optimiser: the mean of the gradients of its batches.
    fn step(&self, moving: &mut Moving, batches: &[Batch], rate: f64, seed: u64) -> Result<Took, TrainError> {
        let mode = training(seed);
        let of_batches = self.workers.map(batches, |batch| {
            let (gradients, moves) = statistics::held_back(|| self.gradients(moving, batch, mode));
            gradients.map(|(losses, gradients)| (losses, gradients, moves))
        });
        let mut total: Option<GradStore> = None;
        let mut losses: BTreeMap<Task, (f64, usize)> = BTreeMap::new();
        let parameters = moving.optimiser.parameters();
        for of_batch in of_batches {
            let (of_tasks, gradients, moves) = of_batch?;
            moves.make()?;
            for (task, loss) in of_tasks {
                let sum = losses.entry(task).or_default();
                sum.0 += loss;
                sum.1 += 1;
            }
            total = match (total, gradients) {
                (Some(total), Some(gradients)) => Some(sum(total, gradients, &parameters)?),
                (total, gradients) => total.or(gradients),
            };
        }
        let mut norm = 0.0;
        if let Some(gradients) = total {
            let share = 1.0 / batches.len() as f64;
            norm = share * clip::grad_norm(&parameters, &gradients)?;
            let gradient = share * clip::factor(norm, self.recipe.optimiser.clip);
            moving.optimiser.step(&gradients, Factors { rate, gradient })?;
            moving.uncertainty.limit()?;
            moving.follow(self.recipe.optimiser.ema)?;
        }
        let losses = losses.into_iter().map(|(task, (sum, count))| (task, sum / count as f64)).collect();
        Ok(Took { losses, norm })
    }

    /// The loss of each task in a batch, and the gradients of all together; none where it has no label.
    fn gradients(
        &self,
        moving: &Moving,
        batch: &Batch,
        mode: Mode,
    ) -> Result<(BTreeMap<Task, f64>, Option<GradStore>), TrainError> {
        let said = step::forward(&moving.network, batch, mode)?;
        let of_tasks = step::losses(&said, &batch.targets, self.sizes, &self.recipe.loss)?;
        let mut losses = BTreeMap::new();
        for (&task, loss) in &of_tasks {
            losses.insert(task, f64::from(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?));
        }
        let joint = moving.uncertainty.joint_loss(&of_tasks)?;
        let gradients = joint.map(|joint| joint.backward()).transpose()?;
        Ok((losses, gradients))
    }

    /// What dropout of a step draws from.
    fn seed(&self, stage: usize, step: u64) -> u64 {
        self.recipe.seed ^ (stage as u64) << 48 ^ step
    }
}

/// Whether the data sets fit each other, and there is something to learn from in each: the first of them.
fn check<'a>(recipe: &Recipe, config: &NetworkConfig, parts: &'a [Part]) -> Result<&'a Part, TrainError> {
    let Some(first) = parts.first() else {
        return Err(TrainError::Data("there is no data set".to_owned()));
    };
    for part in parts {
        if part.data.shape != first.data.shape {
            return Err(TrainError::Data(format!(
                "`{}` differs from `{}`: {}: the same window, beams and horizons are allowed for all",
                part.data.name,
                first.data.name,
                part.data.shape.unlike(&first.data.shape).join("; ")
            )));
        }
        let shared = part.split.shared_groups(&part.data);
        if let Some(group) = shared.first().and_then(|&group| part.data.groups.get(group as usize)) {
            return Err(TrainError::Data(format!("`{group}` stands on two sides of the split")));
        }
    }
    if parts.iter().all(|part| part.split.train.is_empty()) {
        let left = parts.iter().map(|Part { data, split, .. }| {
            let (validation, test) = (split.validation.len(), split.test.len());
            format!("`{}` has {validation} to validate and {test} to test", data.name)
        });
        let left: Vec<String> = left.collect();
        return Err(TrainError::Data(format!("no example is left to learn from: {}", left.join(", "))));
    }
    let slots = first.data.slots();
    let mut asked = recipe.stage.iter().filter_map(|stage| Some((&stage.name, stage.slots?)));
    if let Some((stage, found)) = asked.find(|(_, found)| *found > slots) {
        return Err(TrainError::Data(format!(
            "stage `{stage}`: found slots = {found}, allowed are 1 to {slots}, those of the window"
        )));
    }
    for part in parts.iter().filter(|part| !part.split.train.is_empty()) {
        if !recipe.stage.iter().any(|stage| is_of(recipe, stage, part)) {
            let holds = Input::ALL.into_iter().zip(part.data.holds()).filter(|(_, holds)| *holds);
            let holds: Vec<&str> = holds.map(|(input, _)| input.name()).collect();
            return Err(TrainError::Data(format!(
                "no stage learns from `{}`, which has readings of {} alone: allowed is data with something that a \
                 stage sees",
                part.data.name,
                holds.join(", ")
            )));
        }
    }
    let is_told = |task: Task| {
        let of_part = |part: &&Part| part.tasks.contains(&task);
        parts.iter().filter(of_part).any(|part| part.examples_to_learn().any(|of| of.truth.tells(task)))
    };
    if let Some(task) = recipe.tasks(config).into_iter().find(|&task| !is_told(task)) {
        return Err(TrainError::Data(format!(
            "no example that is learned from has a label for {task}: name the `tasks` that the data has labels for"
        )));
    }
    Ok(first)
}

/// Whether a stage of a recipe goes through a data set.
fn is_of(recipe: &Recipe, stage: &Stage, part: &Part) -> bool {
    let hidden = recipe.hidden_in(stage);
    let is_seen = || part.data.holds().iter().zip(hidden).any(|(&holds, hidden)| holds && !hidden);
    (stage.data.is_empty() || stage.data.contains(&part.data.name)) && is_seen()
}

/// How a step asks the network.
const fn training(seed: u64) -> Mode {
    Mode::Train { seed, statistics: Statistics::Batch }
}

/// The gradients of two batches.
fn sum(
    mut total: GradStore,
    other: GradStore,
    parameters: &[(String, Var)],
) -> candle_core::Result<GradStore> {
    for (_, var) in parameters {
        let both = match (total.get(var), other.get(var)) {
            (Some(a), Some(b)) => (a + b)?,
            (None, Some(b)) => b.clone(),
            (_, None) => continue,
        };
        total.insert(var, both);
    }
    Ok(total)
}

/// How a stage ended.
enum Ran {
    /// It was stopped, and goes on from there.
    Stopped,
    /// It is done; whether what comes after it is wanted.
    Ended { going: bool },
}
