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

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::batch::{Batch, Making, Order, Shown};
use super::data::DataSet;
use super::data::split::Split;
use super::evaluate::{self, Answers, Asking};
use super::learned::{self, Learned};
use super::log::{At, Log};
use super::losses::{Interval, intervals};
use super::measures::argmax;
use super::measures::calibration::{scaling_of_binary, temperature_of_classes};
use super::optimiser::{AdamW, AdamWConfig, Factors};
use super::recipe::{Recipe, See, Stage};
use super::schedule::WarmupCosine;
use super::simple::{Simple, error_of_mean_pose, mean_pose};
use super::uncertainty::{self, Uncertainty};
use super::workers::Workers;
use super::{TrainError, clip, step};
use crate::model::alone::{self, Alone};
use crate::model::build;
use crate::model::checkpoint::{self, Checkpoint};
use crate::model::config::{CoreConfig, NetworkConfig};
use crate::model::deployed::{self, Fit, Scaling};
use crate::model::layers::statistics::{self, Moves};
use crate::model::layers::{Mode, Statistics};
use crate::model::parameters::Parameters;
use crate::model::tasks::{Sizes, Task};
use crate::model::{Input, MODALITIES, Network, Purpose, seeded};

/// Batches that are ready before they are wanted.
const AHEAD: usize = 2;
/// Losses below this are as good as none.
const LEAST_LOSS: f64 = 1e-12;
/// Steps whose batches tell a running mean of weights its running statistics.
const SETTLE: u64 = 32;
/// Time between two lines of progress, and between two savings.
const TELL_EVERY: Duration = Duration::from_secs(5);
const SAVE_EVERY: Duration = Duration::from_secs(120);

/// A data set and what its examples are for.
#[derive(Debug)]
pub struct Part {
    /// Its examples.
    pub data: DataSet,
    /// What they are for.
    pub split: Split,
    /// What is learned from it.
    pub tasks: Vec<Task>,
}

/// How it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// Name of the stage.
    pub stage: String,
    /// Steps done in the stage, and of how many.
    pub step: u64,
    /// Steps of the stage.
    pub steps: u64,
    /// Mean loss of each task since the last time that was told.
    pub losses: BTreeMap<Task, f64>,
    /// σ of each task (Eq. 14).
    pub sigma: BTreeMap<Task, f64>,
    /// Norm of the last gradient.
    pub gradient: f64,
    /// Rows learned from per second.
    pub rows_per_s: f64,
    /// Share of the time in which the network waited for a batch.
    pub waiting: f64,
    /// Seconds that are left of the stage.
    pub left_s: f64,
}

/// What a validation found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Validated {
    /// Name of the stage.
    pub stage: String,
    /// Steps done.
    pub step: u64,
    /// Mean loss of each task.
    pub losses: BTreeMap<Task, f64>,
    /// Share of the rows in which the first choice is right, of tasks that choose.
    pub top1: BTreeMap<Task, f64>,
    /// The same of whoever always names the class that is the commonest among those rows.
    #[serde(default)]
    pub commonest: BTreeMap<Task, f64>,
    /// Whether it is the best one so far.
    pub best: bool,
}

/// What of another run it begins with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Began {
    /// The run's folder.
    pub from: PathBuf,
    /// Tensors that are taken from it.
    pub taken: usize,
    /// Tensors that it has not: they are drawn.
    pub drawn: usize,
}

/// What is told while it goes on.
#[derive(Clone, Debug)]
pub enum Event {
    /// It begins with the weights of another run.
    Began(Began),
    /// It goes on.
    Standing(Standing),
    /// It was validated.
    Validated(Validated),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All stages are done.
    Done,
    /// It was stopped, and goes on from there.
    Stopped,
}

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// Of the recipe.
    recipe: String,
    /// Of what it learns from; runs of older versions did not say.
    data: Option<String>,
    stage: usize,
    step: u64,
    /// Least sum of the logarithms of validation losses of the stage.
    best: Option<f64>,
    /// Validations since then.
    since_best: usize,
    done: bool,
}

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

/// Weights that a stage begins with.
struct Beginning {
    tensors: HashMap<String, Tensor>,
    /// Whether they are another network's, which may have others.
    is_of_another: bool,
}

/// Leaves out the heads of single inputs, and how certain they were, which says nothing of those that come.
fn throw_away(weights: &mut HashMap<String, Tensor>) {
    if weights.keys().any(|name| alone::is_of(name)) {
        weights.retain(|name, _| !alone::is_of(name) && !uncertainty::is_of(name));
    }
}

/// What moves.
struct Moving {
    network: Network,
    parameters: Parameters,
    uncertainty: Uncertainty,
    optimiser: AdamW,
    /// Running mean of the weights.
    mean: Option<HashMap<String, Tensor>>,
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
        let Some(first) = parts.first() else {
            return Err(TrainError::Data("there is no data set".to_owned()));
        };
        for part in parts {
            if part.data.shape != first.data.shape {
                return Err(TrainError::Data(format!(
                    "`{}` has {:?}, `{}` has {:?}: allowed is the same window, beams and horizons for all",
                    first.data.name, first.data.shape, part.data.name, part.data.shape
                )));
            }
            let shared = part.split.shared_groups(&part.data);
            if let Some(group) = shared.first().and_then(|&group| part.data.groups.get(group as usize)) {
                return Err(TrainError::Data(format!("`{group}` stands on two sides of the split")));
            }
        }
        if parts.iter().all(|part| part.split.train.is_empty()) {
            return Err(TrainError::Data("no example is left to learn from".to_owned()));
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
            parts.iter().filter(of_part).any(|part| {
                let mut examples =
                    part.split.train.iter().filter_map(|&at| part.data.examples.get(at as usize));
                examples.any(|example| example.truth.tells(task))
            })
        };
        if let Some(task) = recipe.tasks(config).into_iter().find(|&task| !is_told(task)) {
            return Err(TrainError::Data(format!(
                "no example that is learned from has a label for {task}: name the `tasks` that the data has labels for"
            )));
        }
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

    fn output(&self, name: &str) -> PathBuf {
        self.recipe.output.join(name)
    }

    /// Whether a parameter is left alone in a stage.
    fn is_frozen(config: &NetworkConfig, stage: &Stage, name: &str) -> bool {
        let with_adapters = config.backbone.as_ref().is_some_and(|backbone| backbone.lora.is_some());
        let of_llm4wm = match (&config.core, stage.llm4wm, name.strip_prefix("core.")) {
            (CoreConfig::Llm4wm(_), Some(stage), Some(name)) => !stage.trains(name),
            (CoreConfig::Llm4wm(_), None, Some(name)) => name.starts_with("gpt2."),
            _ => false,
        };
        of_llm4wm
            || (with_adapters && name.starts_with("backbone."))
            || stage.freeze.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }

    /// Builds what a stage moves; of fresh weights where it begins with none.
    fn build(&self, stage: &Stage, beginning: Option<&Beginning>) -> Result<Moving, TrainError> {
        let fresh = build::fresh_source(self.config, &self.device)?;
        let source = match beginning {
            Some(Beginning { tensors, is_of_another }) => {
                let known = VarBuilder::from_tensors(tensors.clone(), DType::F32, &self.device);
                let of_stage = |name: &str| alone::is_of(name) || uncertainty::is_of(name);
                seeded::completed(known, if *is_of_another { |_| true } else { of_stage }, fresh)
            }
            None => fresh,
        };
        let (config, of_stage) = (self.config.clone(), stage.clone());
        let (vb, parameters) =
            Parameters::watch(source, move |name| !Self::is_frozen(&config, &of_stage, name));
        let network = self.network(stage.see, Purpose::Training, &vb)?;
        self.begin_at_the_mean_pose(&parameters, beginning)?;
        let all = parameters.all();
        let of_none = |prefix: &&String| !all.iter().any(|(name, _)| name.starts_with(prefix.as_str()));
        if let Some(prefix) = stage.freeze.iter().find(of_none) {
            let mut known: Vec<&str> = all.iter().filter_map(|(name, _)| name.split('.').next()).collect();
            known.sort_unstable();
            known.dedup();
            return Err(TrainError::Data(format!(
                "freeze: found `{prefix}`, no parameter begins like that; they begin with {}",
                known.join(", ")
            )));
        }
        let uncertainty = Uncertainty::load(&self.tasks, &vb.pp(uncertainty::PREFIX))?;
        self.begin_as_uncertain_as_the_mean_pose(&parameters, beginning)?;
        let rates = self.recipe.optimiser.rates();
        let optimiser =
            AdamW::new(parameters.trained(), AdamWConfig::default(), |name, var| rates.group(name, var));
        Ok(Moving { network, parameters, uncertainty, optimiser, mean: None })
    }

    /// Poses of fresh heads begin at the mean pose: a person stands metres away, of which a step takes a millimetre.
    fn begin_at_the_mean_pose(
        &self,
        parameters: &Parameters,
        beginning: Option<&Beginning>,
    ) -> Result<(), TrainError> {
        let Some(mean) = mean_pose(self.parts) else { return Ok(()) };
        let mean = Tensor::new(mean.concat(), &self.device)?;
        let own = format!("{}bias", self.config.core.last_layer(Task::Pose));
        for (name, var) in parameters.trained() {
            let is_known = beginning.is_some_and(|beginning| beginning.tensors.contains_key(&name));
            let is_bias = name == own || alone::is_last_bias(&name, Task::Pose);
            if is_bias && !is_known && var.shape() == mean.shape() {
                var.set(&mean.to_dtype(var.dtype())?)?;
            }
        }
        Ok(())
    }

    /// The weight of a pose in Eq. 14, where it is fresh, begins at its optimum, v = ln L, for the loss L of the mean pose:
    /// squared metres are a hundredth of what classes lose (of the order of one, for which v = 0), and v, which moves by a
    /// thousandth a step, would not get there. Of one task alone the weight is none.
    fn begin_as_uncertain_as_the_mean_pose(
        &self,
        parameters: &Parameters,
        beginning: Option<&Beginning>,
    ) -> Result<(), TrainError> {
        let Some(loss) = error_of_mean_pose(self.parts).filter(|_| self.tasks.len() > 1) else {
            return Ok(());
        };
        let own = uncertainty::name(Task::Pose);
        if beginning.is_some_and(|beginning| beginning.tensors.contains_key(&own)) {
            return Ok(());
        }
        let (low, high) = uncertainty::LIMITS;
        for (_, var) in parameters.trained().iter().filter(|(name, _)| *name == own) {
            var.set(&Tensor::new(&[loss.ln().clamp(low, high)], &self.device)?.to_dtype(var.dtype())?)?;
        }
        Ok(())
    }

    /// The network as a stage asks it.
    fn network(&self, see: See, purpose: Purpose, vb: &VarBuilder<'static>) -> Result<Network, TrainError> {
        let network = Network::build(self.config, self.sizes, purpose, vb)?;
        Ok(match see {
            See::All => network,
            See::One => {
                let heads = Alone::load(self.config, self.sizes, &vb.pp(alone::PREFIX))?;
                network.with_core(Box::new(heads))
            }
        })
    }

    /// Steps of a stage.
    fn steps(&self, stage: &Stage, orders: &[Order]) -> u64 {
        let runs = self.runs_per_batch(stage);
        let longest = orders.iter().map(|order| order.runs().div_ceil(runs)).max().unwrap_or(0);
        (stage.epochs * longest as f64).ceil() as u64
    }

    /// Steps done in all stages.
    fn total(&self, state: &State) -> u64 {
        let before = self.recipe.stage.iter().enumerate().take(state.stage);
        before.map(|(number, stage)| self.steps(stage, &self.orders(number))).sum::<u64>() + state.step
    }

    /// Examples that follow each other in a stage.
    fn run_of(&self, stage: &Stage) -> usize {
        stage.run.unwrap_or(self.recipe.batch.run)
    }

    fn runs_per_batch(&self, stage: &Stage) -> usize {
        (stage.rows.unwrap_or(self.recipe.batch.rows) / self.run_of(stage)).max(1)
    }

    /// One for each data set; empty where the stage does not go through it.
    fn orders(&self, stage: usize) -> Vec<Order> {
        let of_stage = self.recipe.stage.get(stage);
        let order = |part: &Part| {
            let is_of = of_stage.is_some_and(|of_stage| is_of(self.recipe, of_stage, part));
            let examples = if is_of { part.split.train.as_slice() } else { &[] };
            let run = of_stage.map_or(1, |of_stage| self.run_of(of_stage));
            Order::new(&part.data, examples, run, self.recipe.seed, stage)
        };
        self.parts.iter().map(order).collect()
    }

    /// The batches of a step, as many as there are data sets that have examples; their runs are dealt out, so that each
    /// batch has some of every one.
    fn batches(&self, stage: usize, step: u64, orders: &mut [Order]) -> Result<Vec<Batch>, TrainError> {
        let Some(of_stage) = self.recipe.stage.get(stage) else { return Ok(Vec::new()) };
        let parts = self.parts.iter().zip(orders).filter(|(_, order)| order.runs() > 0);
        let mut parts: Vec<(&Part, &mut Order)> = parts.collect();
        let names: Vec<&str> = parts.iter().map(|(part, _)| part.data.name.as_str()).collect();
        let mut shown: Vec<Vec<Shown<'_>>> = names.iter().map(|_| Vec::new()).collect();
        for (first, (part, order)) in parts.iter_mut().enumerate() {
            let runs = self.runs_per_batch(of_stage).min(order.runs()) as u64;
            // Sets of few runs begin with different batches.
            let hands = deal((0..runs).map(|run| order.run(step * runs + run)), first, names.len());
            let making = Making {
                see: of_stage.see,
                slots: of_stage.slots.unwrap_or(usize::MAX),
                augment: Some(&self.recipe.augment),
                without: self.recipe.hidden_in(of_stage),
                losses: &self.recipe.loss,
                tasks: &part.tasks,
                network: self.config,
            };
            let hands = hands.into_iter().map(|runs| Shown { data: &part.data, runs, making });
            shown.iter_mut().zip(hands).for_each(|(batch, hand)| batch.push(hand));
        }
        let batches = names.iter().zip(&shown).map(|(name, shown)| {
            let name = format!("batch {stage} {step} {name}");
            Batch::make(shown, &mut seeded::stream(self.recipe.seed, &name))
        });
        let batches: Vec<Batch> = batches.collect::<Result<_, _>>()?;
        Ok(batches.into_iter().filter(|batch| batch.rows() > 0).collect())
    }

    /// Trains to the end, or until `tell` says no; goes on where a run in the same folder was stopped.
    ///
    /// # Errors
    /// [`TrainError`] when the folder belongs to another recipe, a file cannot be written, the device fails or a gradient
    /// is not finite.
    pub fn run(&self, tell: &mut dyn FnMut(&Event) -> bool) -> Result<Ended, TrainError> {
        let io = |path: &Path| {
            let file = path.to_owned();
            move |source| TrainError::Io { file, source }
        };
        fs::create_dir_all(&self.recipe.output).map_err(io(&self.recipe.output))?;
        // Another run's folder stays as it is.
        let mut state = self.resume()?;
        let text = toml::to_string(self.recipe).unwrap_or_default();
        let file = self.output(RECIPE);
        fs::write(&file, text).map_err(io(&file))?;
        learned::write(&self.recipe.output, self.parts, &self.before)?;
        let at = At { stage: state.stage, step: state.step, total: self.total(&state) };
        let mut log = Log::open(&self.recipe.output, at)?;
        let mut beginning = match &self.recipe.from {
            Some(run) => {
                let mut tensors = load(&run.join("best").join(WEIGHTS), &self.device)?;
                throw_away(&mut tensors);
                Some(Beginning { tensors, is_of_another: true })
            }
            None => None,
        };
        while let Some(stage) = self.recipe.stage.get(state.stage).filter(|_| !state.done) {
            let last = self.output("last");
            let saved = last.join(WEIGHTS).is_file();
            if saved {
                let tensors = load(&last.join(WEIGHTS), &self.device)?;
                beginning = Some(Beginning { tensors, is_of_another: false });
            }
            let mut moving = self.build(stage, beginning.as_ref())?;
            if let (Some(Beginning { tensors, is_of_another: true }), Some(run)) =
                (&beginning, &self.recipe.from)
            {
                let began = Self::began(run, tensors, &moving)?;
                if !tell(&Event::Began(began)) {
                    return Ok(Ended::Stopped);
                }
            }
            if saved && state.step > 0 {
                moving.optimiser.load(&last.join(OPTIMISER))?;
                if self.recipe.optimiser.ema > 0.0 {
                    moving.mean = Some(load(&last.join(MEAN), &self.device)?);
                }
            }
            let going = match self.stage(stage, &mut state, &mut moving, &mut log, tell)? {
                Ran::Stopped => return Ok(Ended::Stopped),
                Ran::Ended { going } => going,
            };
            // The next stage begins with the best weights of this one.
            let best = self.output("best").join(WEIGHTS);
            let mut weights = if best.is_file() { load(&best, &self.device)? } else { moving.weights() };
            throw_away(&mut weights);
            state = State { stage: state.stage + 1, step: 0, best: None, since_best: 0, ..state };
            state.done = state.stage == self.recipe.stage.len();
            self.save("last", &state, &weights, None)?;
            if !going && !state.done {
                return Ok(Ended::Stopped);
            }
            beginning = Some(Beginning { tensors: weights, is_of_another: false });
        }
        Ok(Ended::Done)
    }

    /// What of another run's weights was taken.
    fn began(run: &Path, tensors: &HashMap<String, Tensor>, moving: &Moving) -> Result<Began, TrainError> {
        let all = moving.parameters.all();
        let own = || all.iter().filter(|(name, _)| !alone::is_of(name));
        let taken = own().filter(|(name, _)| tensors.contains_key(name)).count();
        if own().all(|(name, _)| !tensors.contains_key(name) || name.starts_with(uncertainty::PREFIX)) {
            let reason = format!("{} has no tensor of this network", run.display());
            return Err(TrainError::State { file: Some(run.join("best").join(WEIGHTS)), reason });
        }
        Ok(Began { from: run.to_owned(), taken, drawn: own().count() - taken })
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
                    let at = At { stage: number, step: state.step, total: self.total(state) };
                    log.standing(at, &standing)?;
                    going = tell(&Event::Standing(standing));
                    since = Since::new();
                }
                // Also of a run that is stopped here: whoever goes on from this step does not come by it again.
                if state.step.is_multiple_of(every) || state.step == steps {
                    let validated = self.validate(stage, state, moving)?;
                    let at = At { stage: number, step: state.step, total: self.total(state) };
                    log.validated(at, &validated)?;
                    going &= tell(&Event::Validated(validated));
                    since = Since::new();
                    if stage.patience.is_some_and(|patience| state.since_best >= patience) {
                        return Ok(Ran::Ended { going });
                    }
                }
                if !going || saved.elapsed() >= SAVE_EVERY {
                    self.save("last", state, &moving.weights(), Some(moving))?;
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

    /// The weights that are judged. Running statistics of batch norms are of the weights as they moved, which are not those
    /// of the running mean: they are measured again over the last steps' batches (Izmailov et al., Averaging weights leads
    /// to wider optima and better generalization, UAI 2018).
    fn settled(
        &self,
        stage: &Stage,
        state: &State,
        moving: &Moving,
    ) -> Result<HashMap<String, Tensor>, TrainError> {
        let weights = moving.deployed();
        if moving.mean.is_none() || moving.parameters.statistics().is_empty() {
            return Ok(weights);
        }
        let (config, of_stage) = (self.config.clone(), stage.clone());
        let source = VarBuilder::from_tensors(weights.clone(), DType::F32, &self.device);
        let (vb, parameters) =
            Parameters::watch(source, move |name| !Self::is_frozen(&config, &of_stage, name));
        let network = self.network(stage.see, Purpose::Training, &vb)?;
        let mut orders = self.orders(state.stage);
        let mut all = Moves::default();
        for step in state.step.saturating_sub(SETTLE)..state.step {
            let mode = training(self.seed(state.stage, step));
            let batches = self.batches(state.stage, step, &mut orders)?;
            let of_batches = self.workers.map(&batches, |batch| {
                let (said, moves) = statistics::held_back(|| step::forward(&network, batch, mode));
                said.map(|_| moves)
            });
            for moves in of_batches {
                all.extend(moves?);
            }
        }
        all.settle()?;
        let settled = parameters.statistics().into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
        Ok(weights.into_iter().chain(settled).collect())
    }

    /// Asks all validation examples, of whom it sees what the stage sees; keeps the weights when they are the best so far.
    fn validate(&self, stage: &Stage, state: &mut State, moving: &Moving) -> Result<Validated, TrainError> {
        let weights = self.settled(stage, state, moving)?;
        let vb = VarBuilder::from_tensors(weights.clone(), DType::F32, &self.device);
        let network = self.network(stage.see, Purpose::Inference, &vb)?;
        let mut losses: BTreeMap<Task, Vec<f64>> = BTreeMap::new();
        // Of each task how many first choices are right, and how often each class is true.
        let mut right: BTreeMap<Task, (usize, BTreeMap<usize, usize>)> = BTreeMap::new();
        for part in self
            .parts
            .iter()
            .filter(|part| is_of(self.recipe, stage, part) && !part.split.validation.is_empty())
        {
            let (without, slots) = (self.recipe.hidden_in(stage), stage.slots.unwrap_or(usize::MAX));
            let answers = self.ask(&network, part, without, slots)?;
            for (&task, &loss) in &answers.losses {
                losses.entry(task).or_default().push(loss);
            }
            for (&task, rows) in &answers.tasks {
                for row in rows {
                    let Some(example) = part.data.examples.get(row.example as usize) else { continue };
                    let classes = if task == Task::Beam { self.sizes.beams } else { row.scores.len() };
                    let (Some(truth), Some(scores)) =
                        (part.data.class(example, task, 0), row.scores.get(..classes))
                    else {
                        continue;
                    };
                    let scores: Vec<f64> = scores.iter().map(|&score| f64::from(score)).collect();
                    let (right, counts) = right.entry(task).or_default();
                    *right += usize::from(argmax(&scores) == Some(truth));
                    *counts.entry(truth).or_default() += 1;
                }
            }
        }
        let losses: BTreeMap<Task, f64> = losses
            .into_iter()
            .map(|(task, all)| (task, all.iter().sum::<f64>() / all.len() as f64))
            .collect();
        if let Some((&task, &loss)) = losses.iter().find(|(_, loss)| !loss.is_finite()) {
            return Err(TrainError::Validation { task, step: state.step, loss });
        }
        // Logarithms: a pose's hundredths of a square metre count as a class's nats do.
        let total: f64 = losses.values().map(|loss| loss.max(LEAST_LOSS).ln()).sum();
        let best = losses.is_empty() || state.best.is_none_or(|best| total < best);
        if best {
            state.best = Some(total);
            state.since_best = 0;
            self.save("best", state, &weights, None)?;
        } else {
            state.since_best += 1;
        }
        let (mut top1, mut commonest) = (BTreeMap::new(), BTreeMap::new());
        for (task, (right, counts)) in right {
            let all = counts.values().sum::<usize>() as f64;
            top1.insert(task, right as f64 / all);
            commonest.insert(task, counts.into_values().max().unwrap_or(0) as f64 / all);
        }
        Ok(Validated { stage: stage.name.clone(), step: state.step, losses, top1, commonest, best })
    }

    /// Writes the best weights as a unit runs them: the file.
    ///
    /// # Errors
    /// [`TrainError`] when nothing has been trained yet, or the disk refuses.
    pub fn deploy(&self) -> Result<PathBuf, TrainError> {
        let mut weights = load(&self.output("last").join(WEIGHTS), &self.device)?;
        let scaling = self.calibrate(&mut weights)?;
        let Some(part) = self.parts.first() else { unreachable!("a trainer has data") };
        let fit = Fit {
            sizes: self.sizes,
            codebook: part.data.shape.codebook.clone(),
            horizons_ms: part.data.shape.horizons_ms.clone(),
            instants_ms: part.data.shape.instants_ms.clone(),
            stride_ms: part.data.shape.stride_ms,
            without: self.recipe.without.clone(),
            scaling,
            trained: true,
        };
        let file = self.output(MODEL);
        let vb = VarBuilder::from_tensors(weights, DType::F32, &self.device);
        deployed::save(&file, self.config, &fit, &vb)?;
        let simple = self.output(SIMPLE);
        let text = serde_json::to_vec(&Simple::learn(self.parts)).unwrap_or_default();
        fs::write(&simple, text).map_err(|source| TrainError::Io { file: simple, source })?;
        Ok(file)
    }

    /// Makes the scores of beams, activities and blockages believable on validation, by a temperature (Guo et al., On
    /// calibration of modern neural networks, ICML 2017) and, of blockages, which count more in the loss than they come, a
    /// shift: the last layer of the head takes it in.
    fn calibrate(
        &self,
        weights: &mut HashMap<String, Tensor>,
    ) -> Result<BTreeMap<Task, Scaling>, TrainError> {
        let vb = VarBuilder::from_tensors(weights.clone(), DType::F32, &self.device);
        let network = Network::build(self.config, self.sizes, Purpose::Inference, &vb)?;
        // Scores and true classes, by task and instant.
        let mut classes: BTreeMap<(Task, usize), (Vec<f64>, Vec<usize>)> = BTreeMap::new();
        let mut hazards: (Vec<f64>, Vec<bool>) = Default::default();
        for part in self.parts.iter().filter(|part| !part.split.validation.is_empty()) {
            let answers = self.ask(&network, part, self.recipe.hidden(), usize::MAX)?;
            for (&task, rows) in &answers.tasks {
                let (count, instants) = match task {
                    Task::Beam => (self.sizes.beams, self.sizes.instants),
                    Task::Activity => (self.sizes.activities, 1),
                    Task::Blockage => (self.sizes.horizons, 1),
                    Task::Pose => continue,
                };
                for row in rows {
                    let Some(example) = part.data.examples.get(row.example as usize) else { continue };
                    for (instant, scores) in row.scores.chunks_exact(count).take(instants).enumerate() {
                        let scores = scores.iter().map(|&score| f64::from(score));
                        if task == Task::Blockage {
                            let intervals = intervals(&example.truth.blocked).unwrap_or_default();
                            for (score, interval) in scores.zip(intervals) {
                                if matches!(interval, Interval::Blocked | Interval::Clear) {
                                    hazards.0.push(score);
                                    hazards.1.push(interval == Interval::Blocked);
                                }
                            }
                        } else if let Some(truth) = part.data.class(example, task, instant) {
                            let (all, labels) = classes.entry((task, instant)).or_default();
                            all.extend(scores);
                            labels.push(truth);
                        }
                    }
                }
            }
        }
        let mut scalings: BTreeMap<Task, Scaling> = BTreeMap::new();
        for ((task, instant), (scores, labels)) in classes {
            let shape = (labels.len(), scores.len() / labels.len());
            let Ok(scores) = ndarray::Array2::from_shape_vec(shape, scores) else { continue };
            let Ok(temperature) = temperature_of_classes(scores.view(), &labels) else { continue };
            let first = Scaling { temperature, shift: 0.0, later: Vec::new() };
            let own = scalings.entry(task).or_insert(first);
            if instant > 0 {
                own.later.resize(instant - 1, own.temperature);
                own.later.push(temperature);
            }
        }
        // One for each instant: those without labels at the end as the first.
        if let Some(own) = scalings.get_mut(&Task::Beam) {
            own.later.resize(self.sizes.instants.saturating_sub(1), own.temperature);
        }
        if let Ok(scaling) = scaling_of_binary(&hazards.0, &hazards.1) {
            scalings.insert(Task::Blockage, scaling);
        }
        let mut taken_in = BTreeMap::new();
        for (task, scaling) in scalings {
            let last = self.config.core.last_layer(task);
            let own = weights.iter_mut().filter(|(name, _)| name.starts_with(&last));
            for (name, tensor) in own {
                let shift = if name.ends_with("bias") { scaling.shift } else { 0.0 };
                // Instants one after the other.
                let parts = 1 + scaling.later.len();
                let scaled = tensor.chunk(parts, 0)?.into_iter().enumerate();
                let scaled =
                    scaled.map(|(instant, part)| part.affine(1.0 / scaling.temperature_at(instant), shift));
                *tensor = Tensor::cat(&scaled.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
                taken_in.insert(task, scaling.clone());
            }
        }
        Ok(taken_in)
    }

    /// Asks the examples that validate.
    fn ask(
        &self,
        network: &Network,
        part: &Part,
        without: [bool; MODALITIES],
        slots: usize,
    ) -> Result<Answers, TrainError> {
        let (batch, losses) = (self.recipe.batch, &self.recipe.loss);
        let asking = Asking { tasks: &part.tasks, batch, losses, without, slots };
        evaluate::ask(network, &part.data, &part.split.validation, &asking)
    }

    /// Where an earlier run in the folder stands, or the beginning.
    fn resume(&self) -> Result<State, TrainError> {
        let (last, partial) = (self.output("last"), self.output(".last.partial"));
        // Stopped between taking the old one away and putting the new one there; its state is written last.
        if !last.exists() && partial.join(STATE).is_file() {
            fs::rename(&partial, &last).map_err(|source| TrainError::Io { file: partial, source })?;
        }
        let file = last.join(STATE);
        let (recipe, data) = (self.recipe_hash.clone(), Some(self.data_hash.clone()));
        if !file.is_file() {
            return Ok(State { recipe, data, stage: 0, step: 0, best: None, since_best: 0, done: false });
        }
        let text = fs::read(&file).map_err(|source| TrainError::Io { file: file.clone(), source })?;
        let state: State = serde_json::from_slice(&text)
            .map_err(|error| TrainError::State { file: Some(file.clone()), reason: error.to_string() })?;
        if state.recipe != self.recipe_hash {
            let reason = format!(
                "found a run of recipe {}, allowed is one of this recipe, {}: name another `output`, or remove the folder",
                state.recipe, self.recipe_hash
            );
            return Err(TrainError::State { file: Some(file), reason });
        }
        if state.data != data {
            let reason = format!(
                "found a run on data {}, allowed are its own: {} is another split or other rows, of which some that were \
                 learned from may be the test now. Name another `output`, or remove the folder",
                state.data.as_deref().unwrap_or("that it does not name"),
                self.data_hash
            );
            return Err(TrainError::State { file: Some(file), reason });
        }
        Ok(state)
    }

    /// Writes a folder beside the old one, which it then takes the place of.
    fn save(
        &self,
        name: &str,
        state: &State,
        weights: &HashMap<String, Tensor>,
        moving: Option<&Moving>,
    ) -> Result<(), TrainError> {
        let io = |path: &Path| {
            let file = path.to_owned();
            move |source| TrainError::Io { file, source }
        };
        let folder = self.output(name);
        let partial = self.output(&format!(".{name}.partial"));
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial).map_err(io(&partial))?;
        save_tensors(&partial.join(WEIGHTS), weights)?;
        if let Some(moving) = moving {
            moving.optimiser.save(&partial.join(OPTIMISER))?;
            if let Some(mean) = &moving.mean {
                save_tensors(&partial.join(MEAN), mean)?;
            }
        }
        let text = serde_json::to_vec_pretty(state).unwrap_or_default();
        let file = partial.join(STATE);
        fs::write(&file, text).map_err(io(&file))?;
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(io(&folder))?;
        }
        fs::rename(&partial, &folder).map_err(io(&folder))
    }
}

/// What simple predictors know of the training part, beside a checkpoint.
pub const SIMPLE: &str = "simple.json";
/// The log of a run, JSON lines.
pub const LOG: &str = "log.jsonl";
/// The recipe, beside a checkpoint.
pub const RECIPE: &str = "recipe.toml";
/// What a unit runs, in the folder of a run.
pub const MODEL: &str = "model.safetensors";
const WEIGHTS: &str = "weights.safetensors";
const MEAN: &str = "mean.safetensors";
const OPTIMISER: &str = "optimiser.safetensors";
const STATE: &str = "state.json";

/// The weights of a run as they stand, beside what they were trained with.
#[must_use]
pub fn weights(run: &Path) -> PathBuf {
    run.join("last").join(WEIGHTS)
}

fn save_tensors(file: &Path, tensors: &HashMap<String, Tensor>) -> Result<(), TrainError> {
    let named: BTreeMap<&str, &Tensor> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    checkpoint::save(file, named, &BTreeMap::new())?;
    Ok(())
}

fn load(file: &Path, device: &Device) -> Result<HashMap<String, Tensor>, TrainError> {
    let checkpoint = Checkpoint::open(file)?;
    Ok(checkpoint.load_all(device)?.into_iter().collect())
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

/// Gives each of `hands` one after the other, beginning with hand `first`.
fn deal<T>(items: impl Iterator<Item = T>, first: usize, hands: usize) -> Vec<Vec<T>> {
    let mut dealt: Vec<Vec<T>> = (0..hands).map(|_| Vec::new()).collect();
    for (at, item) in items.enumerate() {
        if let Some(hand) = dealt.get_mut((first + at) % hands) {
            hand.push(item);
        }
    }
    dealt
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

impl Moving {
    /// All weights as they are.
    fn weights(&self) -> HashMap<String, Tensor> {
        let detached = |(name, tensor): (String, Tensor)| (name, tensor.detach());
        self.parameters.all().into_iter().map(detached).collect()
    }

    /// The weights that are judged: their running mean, where there is one.
    fn deployed(&self) -> HashMap<String, Tensor> {
        let mut weights = self.weights();
        if let Some(mean) = &self.mean {
            weights.extend(mean.iter().map(|(name, tensor)| (name.clone(), tensor.clone())));
        }
        // A copy: the next step moves the weights in place.
        weights.values_mut().for_each(|tensor| {
            if let Ok(copy) = tensor.copy() {
                *tensor = copy;
            }
        });
        weights
    }

    /// Moves the running mean of the weights: m ← k·m + (1 − k)·w.
    fn follow(&mut self, keep: f64) -> Result<(), TrainError> {
        if keep <= 0.0 {
            return Ok(());
        }
        let now = self.parameters.trained();
        match &mut self.mean {
            None => {
                let copies = now.into_iter().map(|(name, var)| Ok((name, var.as_detached_tensor().copy()?)));
                self.mean = Some(copies.collect::<candle_core::Result<_>>()?);
            }
            Some(mean) => {
                for (name, var) in now {
                    if let Some(mean) = mean.get_mut(&name) {
                        *mean = ((&*mean * keep)? + (var.as_detached_tensor() * (1.0 - keep))?)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// How a stage ended.
enum Ran {
    /// It was stopped, and goes on from there.
    Stopped,
    /// It is done; whether what comes after it is wanted.
    Ended { going: bool },
}

/// What a step found.
struct Took {
    losses: BTreeMap<Task, f64>,
    norm: f64,
}

/// What has happened since it was told last.
struct Since {
    begun: Instant,
    waited: Duration,
    rows: usize,
    steps: u64,
    losses: BTreeMap<Task, (f64, usize)>,
    norm: f64,
}

impl Since {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            waited: Duration::ZERO,
            rows: 0,
            steps: 0,
            losses: BTreeMap::new(),
            norm: 0.0,
        }
    }

    fn add(&mut self, took: &Took, rows: usize) {
        self.rows += rows;
        self.steps += 1;
        self.norm = took.norm;
        for (&task, loss) in &took.losses {
            let sum = self.losses.entry(task).or_default();
            sum.0 += loss;
            sum.1 += 1;
        }
    }

    fn standing(
        &self,
        stage: &Stage,
        step: u64,
        steps: u64,
        moving: &Moving,
    ) -> Result<Standing, TrainError> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let mean = |(&task, &(sum, count)): (&Task, &(f64, usize))| (task, sum / count as f64);
        let v = moving.uncertainty.log_variances()?;
        Ok(Standing {
            stage: stage.name.clone(),
            step,
            steps,
            losses: self.losses.iter().map(mean).collect(),
            sigma: v.into_iter().map(|(task, v)| (task, (0.5 * v).exp())).collect(),
            gradient: self.norm,
            rows_per_s: self.rows as f64 / seconds,
            waiting: self.waited.as_secs_f64() / seconds,
            left_s: (steps - step) as f64 * seconds / self.steps.max(1) as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dealt_out_is_one_of_each_for_everybody() {
        assert_eq!(deal(0..5, 0, 2), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(deal(0..2, 2, 3), [vec![1], vec![], vec![0]]);
        assert_eq!(deal(0..3, 0, 1), [[0, 1, 2]]);
    }

    #[test]
    fn heads_that_are_thrown_away_take_along_how_certain_they_were() {
        let kept = |names: &[&str]| {
            let zero = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
            let mut weights: HashMap<String, Tensor> =
                names.iter().map(|&name| (name.to_owned(), zero.clone())).collect();
            throw_away(&mut weights);
            let mut names: Vec<String> = weights.into_keys().collect();
            names.sort();
            names
        };
        assert_eq!(kept(&["alone.beam.camera.first.bias", "image.bias", "uncertainty.beam"]), ["image.bias"]);
        assert_eq!(kept(&["image.bias", "uncertainty.beam"]), ["image.bias", "uncertainty.beam"]);
    }
}
