//! The network as a [`Predictor`]: encodes each new sample once, keeps the tokens of the last window per unit on the
//! device, and takes the frames of all units and UEs through one forward pass.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{Device, Tensor};
use sha2::{Digest, Sha256};

use super::device::{DeviceChoice, DeviceError, Opened, open};
use super::{ModelError, ModelInfo, Prediction, Predictor, UePrediction};
use crate::config::Codebook;
use crate::frame::{Frame, LinkReport, Placed, Window};
use crate::model::deployed::{self, DeployError, FitError};
use crate::model::encoders::EncodedBatch;
use crate::model::fusion::Tokens;
use crate::model::heads::{softmax, within_horizons};
use crate::model::input::InputError;
use crate::model::layers::Mode;
use crate::model::tasks::Asked;
use crate::model::ue::LINK_FEATURES;
use crate::model::{BuildError, Encoded, Input, MODALITIES, Network, NetworkConfig, Output, Sizes, Task};
use crate::sample::{Data, Modality, Sample, UeId, UnitId};
use crate::time::CaptureTime;

pub mod features;

use features::BeamGrid;

/// What the network's tokens were made from; it is kept with them, so that its address stays its own.
#[derive(Clone, Debug)]
enum Origin {
    /// A reading.
    Sample(Arc<Sample>),
    /// The reports of a UE as a frame saw them.
    Link(Arc<Frame>, UeId),
}

/// The identity of an [`Origin`]: its address, and the UE of a link.
type Key = (usize, Option<UeId>);

impl Origin {
    fn key(&self) -> Key {
        match self {
            Self::Sample(sample) => (Arc::as_ptr(sample) as usize, None),
            Self::Link(frame, ue) => (Arc::as_ptr(frame) as usize, Some(ue.clone())),
        }
    }

    /// Whether somebody else still holds it: where frames come faster than the stride, one that is in no slot now will
    /// be in one again.
    fn is_alive(&self) -> bool {
        match self {
            Self::Sample(sample) => Arc::strong_count(sample) > 1,
            Self::Link(frame, _) => Arc::strong_count(frame) > 1,
        }
    }
}

#[derive(Debug)]
struct Kept {
    encoded: Encoded,
    /// Holds the address that the key is.
    origin: Origin,
}

/// What stands in each slot for some tasks.
struct Row {
    window: usize,
    /// Whom its tasks are about; `None`: the unit.
    ue: Option<UeId>,
    tasks: Vec<Task>,
    /// `[W · D]`: key and capture of what is there.
    places: Vec<Option<(Key, CaptureTime)>>,
    now: CaptureTime,
}

/// How much a predictor has computed since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Samples (for links: frames of a UE) that went through an encoder.
    pub encoded: BTreeMap<Modality, u64>,
    /// Forward passes.
    pub passes: u64,
    /// Rows that went through them: one per frame and UE, and one per frame for each task about the unit itself.
    pub rows: u64,
}

/// Attention scores of one forward pass: 128 MiB of them.
const MOST_SCORES: usize = 1 << 25;
/// Tokens of one row: heads × tokens² scores are in memory at a time.
const MOST_TOKENS: usize = 4096;

/// Tokens of one row: slots × modalities × tokens per modality.
const fn length(config: &NetworkConfig, sizes: Sizes) -> usize {
    sizes.slots * MODALITIES * config.tokens()
}

/// Where the weights come from, should they be needed again.
#[derive(Debug)]
enum Weights {
    Fresh,
    File(PathBuf),
}

/// The network, its device and the tokens that it keeps.
#[derive(Debug)]
pub struct NetworkPredictor {
    network: Network,
    info: ModelInfo,
    weights: Weights,
    opened: Opened,
    choice: DeviceChoice,
    tasks: Vec<Task>,
    /// What it has never seen and is not shown.
    without: Vec<Input>,
    rebuilt: bool,
    grid: BeamGrid,
    units: BTreeMap<UnitId, BTreeMap<Key, Kept>>,
    work: Work,
}

/// A network that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Its window is too long for it.
    #[error(
        "align.window × {MODALITIES} modalities × grid² tokens: found {found}, allowed is at most {MOST_TOKENS}"
    )]
    TooLong {
        /// Tokens of one row.
        found: usize,
    },
    /// It was built for other tasks.
    #[error("model.tasks: found `{task}`, allowed are those that `{network}` was built for: {built:?}")]
    Task {
        /// The task that it was asked for.
        task: Task,
        /// Its name.
        network: String,
        /// What it was built for.
        built: Vec<Task>,
    },
    /// It cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// It cannot be read.
    #[error(transparent)]
    Stored(#[from] Box<DeployError>),
    /// It was built to fit another unit.
    #[error("{}: {source}", file.display())]
    Fit {
        /// Its file.
        file: PathBuf,
        /// What does not fit.
        source: FitError,
    },
}

/// Checks that a network can be asked for `tasks` and that its window is not too long.
fn fits(config: &NetworkConfig, sizes: Sizes, tasks: &[Task]) -> Result<(), NetworkError> {
    let found = length(config, sizes);
    if found > MOST_TOKENS {
        return Err(NetworkError::TooLong { found });
    }
    match tasks.iter().find(|task| !config.tasks.contains(task)) {
        Some(&task) => {
            let (network, built) = (config.name.clone(), config.tasks.clone());
            Err(NetworkError::Task { task, network, built })
        }
        None => Ok(()),
    }
}

impl NetworkPredictor {
    /// Builds a network with fresh weights for `codebook.beams` (`sizes.beams`) beams on the chosen device, to be asked
    /// for `tasks`.
    ///
    /// # Errors
    /// [`NetworkError`] when it was not built for a task, a file of its backbone is wrong, or a GPU was asked for and
    /// is not there or refuses memory.
    pub fn fresh(
        config: &NetworkConfig,
        sizes: Sizes,
        tasks: &[Task],
        codebook: &Codebook,
        choice: DeviceChoice,
    ) -> Result<Self, NetworkError> {
        let opened = open(choice)?;
        fits(config, sizes, tasks)?;
        let network = Network::fresh(config, sizes, &opened.device)?;
        let info = ModelInfo { id: identity(config, sizes), trained: false };
        Ok(Self::of(network, info, Weights::Fresh, tasks, codebook, (opened, choice)))
    }

    /// Reads a network from a file, to be asked for `tasks` of a unit with this window (slots, stride in ms), these
    /// horizons and this codebook.
    ///
    /// # Errors
    /// [`NetworkError`] when the file is not one of a network, does not fit the unit, or a GPU was asked for and is not
    /// there or refuses memory.
    pub fn stored(
        file: &Path,
        tasks: &[Task],
        window: (usize, f64),
        horizons_ms: &[u32],
        codebook: &Codebook,
        choice: DeviceChoice,
    ) -> Result<Self, NetworkError> {
        let opened = open(choice)?;
        let (network, fit) = deployed::load(file, &opened.device).map_err(Box::new)?;
        let misfit = |source| NetworkError::Fit { file: file.to_owned(), source };
        fit.check(tasks, window, horizons_ms, codebook).map_err(misfit)?;
        fits(network.config(), network.sizes(), tasks)?;
        let bytes = std::fs::read(file).map_err(|error| BuildError::Candle(error.into()))?;
        let id = format!("{}@{}", network.config().name, short_hash(&bytes));
        let info = ModelInfo { id, trained: fit.trained };
        let stored =
            Self::of(network, info, Weights::File(file.to_owned()), tasks, codebook, (opened, choice));
        Ok(Self { without: fit.without, ..stored })
    }

    fn of(
        network: Network,
        info: ModelInfo,
        weights: Weights,
        tasks: &[Task],
        codebook: &Codebook,
        (opened, choice): (Opened, DeviceChoice),
    ) -> Self {
        Self {
            info,
            grid: BeamGrid::new(&features::beam_directions(codebook, network.sizes().beams)),
            network,
            weights,
            opened,
            choice,
            tasks: tasks.to_vec(),
            without: Vec::new(),
            rebuilt: false,
            units: BTreeMap::new(),
            work: Work::default(),
        }
    }

    /// The device that it runs on, and why that one.
    #[must_use]
    pub const fn opened(&self) -> &Opened {
        &self.opened
    }

    /// What it has computed so far.
    #[must_use]
    pub const fn work(&self) -> &Work {
        &self.work
    }

    /// Samples whose tokens are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.units.values().map(BTreeMap::len).sum()
    }

    /// After a device error: the same device once more, then the CPU.
    fn recover(&mut self, error: &candle_core::Error) -> candle_core::Result<()> {
        self.units.clear();
        let again = if self.rebuilt { None } else { open(self.choice).ok() };
        self.rebuilt = true;
        let cpu = || Opened::cpu(format!("{} failed: {error}", self.opened.name));
        // A device may open and yet have no memory for the weights.
        let again = again.and_then(|opened| Some((self.built(&opened.device).ok()?, opened)));
        let (network, opened) = match again {
            Some(again) => again,
            None => {
                let opened = cpu();
                (self.built(&opened.device)?, opened)
            }
        };
        (self.network, self.opened) = (network, opened);
        Ok(())
    }

    /// The same network on a device.
    fn built(&self, device: &Device) -> candle_core::Result<Network> {
        match &self.weights {
            Weights::Fresh => Network::fresh(self.network.config(), self.network.sizes(), device)
                .map_err(candle_core::Error::wrap),
            Weights::File(file) => {
                deployed::load(file, device).map(|(network, _)| network).map_err(candle_core::Error::wrap)
            }
        }
    }

    fn forward(&mut self, windows: &[Window]) -> candle_core::Result<Vec<Prediction>> {
        let mut rows = Vec::new();
        let mut wanted: BTreeMap<(UnitId, Key), (Input, Origin)> = BTreeMap::new();
        let mut needed: BTreeMap<&UnitId, BTreeSet<Key>> = BTreeMap::new();
        for (index, window) in windows.iter().enumerate() {
            let unit = &window.frame.unit;
            let needed = needed.entry(unit).or_default();
            for (ue, tasks) in self.subjects(&window.frame) {
                let found = self.places(window, ue.as_ref());
                let window_slots = found.len() / MODALITIES;
                let looked_at = self.network.config().slots_of(&tasks, window_slots);
                let past = (window_slots - looked_at) * MODALITIES;
                let mut places = Vec::with_capacity(found.len());
                for (place, found) in found.into_iter().enumerate() {
                    places.push(found.filter(|_| place >= past).map(|(origin, capture)| {
                        let key = origin.key();
                        needed.insert(key.clone());
                        let kept = self.units.get(unit).is_some_and(|kept| kept.contains_key(&key));
                        if !kept && let Some(&input) = Input::ALL.get(place % MODALITIES) {
                            wanted.insert((unit.clone(), key.clone()), (input, origin));
                        }
                        (key, capture)
                    }));
                }
                // Without anything in the present slot there is nothing to conclude from.
                if places.iter().rev().take(MODALITIES).any(Option::is_some) {
                    rows.push(Row { window: index, ue, tasks, places, now: window.frame.time });
                }
            }
        }
        // Before anything can fail: a model that fails for days must not fill the memory.
        for (unit, needed) in needed {
            if let Some(kept) = self.units.get_mut(unit) {
                // Links first: they hold a frame, and with it its samples.
                for links in [true, false] {
                    kept.retain(|key, kept| {
                        key.1.is_some() != links || needed.contains(key) || kept.origin.is_alive()
                    });
                }
            }
        }
        self.encode(wanted)?;
        let mut predictions = vec![Prediction::default(); windows.len()];
        for rows in rows.chunks(self.rows_per_pass()) {
            let mut asked = Asked::new();
            for (number, row) in (0u32..).zip(rows) {
                row.tasks.iter().for_each(|task| asked.entry(*task).or_default().push(number));
            }
            let output = self.network.forward(&self.gather(windows, rows)?, &asked)?;
            self.work.passes += 1;
            self.work.rows += rows.len() as u64;
            read(&output, &asked, rows, self.network.sizes().beams, &mut predictions);
        }
        Ok(predictions)
    }

    /// Whom the tasks are about: every UE of the frame, and the unit itself. A pose looks at another window than an
    /// activity, so each has a row of its own.
    fn subjects(&self, frame: &Frame) -> Vec<(Option<UeId>, Vec<Task>)> {
        let (of_unit, of_ue): (Vec<Task>, Vec<Task>) = self.tasks.iter().partition(|task| task.is_of_unit());
        let ues = frame.ues.keys().filter(|_| !of_ue.is_empty()).map(|ue| (Some(ue.clone()), of_ue.clone()));
        ues.chain(of_unit.into_iter().map(|task| (None, vec![task]))).collect()
    }

    /// Rows of one forward pass: all that there usually are, and no more attention scores than [`MOST_SCORES`].
    fn rows_per_pass(&self) -> usize {
        let length = length(self.network.config(), self.network.sizes());
        (MOST_SCORES / (self.network.config().heads() * length * length)).max(1)
    }

    /// `[W · D]`: what stands in each slot of a window for one UE, or for the unit, oldest slot first.
    fn places(&self, window: &Window, ue: Option<&UeId>) -> Vec<Option<(Origin, CaptureTime)>> {
        let of_sample = |placed: Option<&Placed>| {
            placed.map(|placed| (Origin::Sample(Arc::clone(&placed.sample)), placed.capture))
        };
        let mut places = Vec::with_capacity(window.slots.len() * MODALITIES);
        for slot in &window.slots {
            let Some(frame) = slot else {
                places.resize(places.len() + MODALITIES, None);
                continue;
            };
            for sensor in [Modality::Camera, Modality::Radar, Modality::Lidar] {
                places.push(of_sample(frame.sensors.get(&sensor)));
            }
            let of_ue = ue.and_then(|ue| Some((ue, frame.ues.get(ue)?)));
            places.push(of_ue.and_then(|(ue, view)| {
                let last = self.ours(&view.link).last()?;
                Some((Origin::Link(Arc::clone(frame), ue.clone()), last.capture))
            }));
            let located = |placed: &&Placed| matches!(&placed.sample.data, Data::Position(position) if position.local.is_some());
            let position = of_ue.and_then(|(_, view)| view.position.as_ref());
            places.push(of_sample(position.filter(located)));
        }
        let is_hidden = |place: usize| self.without.iter().any(|input| input.place() == place % MODALITIES);
        places.into_iter().enumerate().map(|(place, found)| found.filter(|_| !is_hidden(place))).collect()
    }

    /// The reports that are about our beams.
    fn ours<'a>(&self, reports: &'a [Arc<LinkReport>]) -> impl DoubleEndedIterator<Item = &'a LinkReport> {
        let beams = self.grid.beams();
        reports.iter().map(Arc::as_ref).filter(move |report| report.power.linear.len() == beams)
    }

    /// Takes what is new through its encoder, all of one kind in one batch, and keeps the tokens.
    fn encode(&mut self, wanted: BTreeMap<(UnitId, Key), (Input, Origin)>) -> candle_core::Result<()> {
        let mut by_input: BTreeMap<Input, Vec<(UnitId, Key, Origin)>> = BTreeMap::new();
        for ((unit, key), (input, origin)) in wanted {
            by_input.entry(input).or_default().push((unit, key, origin));
        }
        for (input, items) in by_input {
            let origins: Vec<&Origin> = items.iter().map(|(_, _, origin)| origin).collect();
            let encoded = self.encode_batch(input, &origins)?.samples()?;
            *self.work.encoded.entry(input.modality()).or_default() += items.len() as u64;
            for ((unit, key, origin), encoded) in items.into_iter().zip(encoded) {
                self.units.entry(unit).or_default().insert(key, Kept { encoded, origin });
            }
        }
        Ok(())
    }

    fn encode_batch(&self, input: Input, origins: &[&Origin]) -> candle_core::Result<EncodedBatch> {
        let (device, encoders) = (self.network.device(), self.network.encoders());
        let data = origins.iter().filter_map(|origin| match origin {
            Origin::Sample(sample) => Some(&sample.data),
            Origin::Link(..) => None,
        });
        match input {
            Input::Camera => {
                let images: Vec<&image::RgbImage> = data
                    .filter_map(
                        |data| if let Data::Image(image) = data { Some(image.as_ref()) } else { None },
                    )
                    .collect();
                let side = self.network.config().image_side();
                let squares: Vec<_> =
                    images.into_iter().map(|image| features::thumbnail(image, side)).collect();
                encoders.images(&features::images(&squares, side, device)?, Mode::Infer)
            }
            Input::Radar | Input::Lidar => {
                let most = self.network.config().most_points(input);
                let clouds: Vec<_> = data
                    .filter_map(|data| match data {
                        Data::Radar(reading) => Some(features::radar(reading, most)),
                        Data::Cloud(scan) => Some(features::lidar(scan, most)),
                        _ => None,
                    })
                    .collect();
                encoders.clouds(input, &clouds, Mode::Infer)
            }
            Input::Position => {
                let positions: Vec<_> = data
                    .filter_map(|data| match data {
                        Data::Position(position) => {
                            position.local.map(|local| features::position(position, local))
                        }
                        _ => None,
                    })
                    .collect();
                encoders.positions(&features::positions(&positions, device)?)
            }
            Input::Link => {
                let heard: Vec<Vec<f32>> =
                    origins.iter().filter_map(|origin| self.reports_of(origin)).collect();
                encoders.links(&features::links(&heard, device)?, Mode::Infer)
            }
        }
    }

    /// The last reports of a link, as numbers.
    fn reports_of(&self, origin: &Origin) -> Option<Vec<f32>> {
        let Origin::Link(frame, ue) = origin else { return None };
        let reports: Vec<&LinkReport> = self.ours(&frame.ues.get(ue)?.link).collect();
        Some(features::link(&reports, frame.time, &self.grid))
    }

    /// The tokens of all rows: every kept one that is needed once, then picked by index.
    fn gather(&self, windows: &[Window], rows: &[Row]) -> candle_core::Result<Tokens> {
        let device = self.network.device();
        let Sizes { slots, .. } = self.network.sizes();
        let (count, width) = (self.network.config().tokens(), self.network.config().width);
        // Place 0 is what is missing.
        let mut bank = vec![Tensor::zeros((count, width), candle_core::DType::F32, device)?];
        let mut numbers: BTreeMap<(&UnitId, &Key), (u32, usize)> = BTreeMap::new();
        let (mut picks, mut mask, mut ages) = (Vec::new(), Vec::new(), Vec::new());
        let asks_reports = self.network.config().report_prior;
        let mut reports: Vec<Vec<f32>> = Vec::new();
        for row in rows {
            let Some(unit) = windows.get(row.window).map(|window| &window.frame.unit) else { continue };
            let kept = self.units.get(unit);
            let present = row
                .places
                .len()
                .checked_sub(MODALITIES)
                .and_then(|at| row.places.get(at + Input::Link.place()));
            let origin = present.and_then(|place| Some(&kept?.get(&place.as_ref()?.0)?.origin));
            if asks_reports {
                let heard = origin.and_then(|origin| self.reports_of(origin));
                reports.push(heard.unwrap_or_else(|| vec![0.0; LINK_FEATURES]));
            }
            for place in &row.places {
                let found = place.as_ref().and_then(|(key, capture)| {
                    let encoded = &kept?.get(key)?.encoded;
                    let number = *numbers.entry((unit, key)).or_insert_with(|| {
                        bank.push(encoded.tokens.clone());
                        (bank.len() as u32 - 1, encoded.valid)
                    });
                    Some((number, (row.now - *capture).as_secs_f64() as f32))
                });
                let ((number, valid), age) = found.unwrap_or_default();
                picks.push(number);
                mask.extend((0..count).map(|token| f32::from(u8::from(token < valid))));
                ages.push(age);
            }
        }
        let shape = (rows.len(), slots, MODALITIES);
        let picks = Tensor::from_vec(picks, rows.len() * slots * MODALITIES, device)?;
        let values = Tensor::stack(&bank, 0)?.index_select(&picks, 0)?;
        Ok(Tokens {
            values: values.reshape((rows.len(), slots, MODALITIES, count, width))?,
            mask: Tensor::from_vec(mask, (rows.len(), slots, MODALITIES, count), device)?,
            ages: Tensor::from_vec(ages, shape, device)?,
            reports: asks_reports.then(|| features::links(&reports, device)).transpose()?,
        })
    }
}

/// Writes what the network says of `rows` into the predictions of their windows.
fn read(output: &Output, asked: &Asked, rows: &[Row], beams: usize, predictions: &mut [Prediction]) {
    for (task, numbers) in asked {
        let said = output.tasks.get(task).map(Vec::as_slice).unwrap_or_default();
        for (&number, scores) in numbers.iter().zip(said) {
            let Some(row) = rows.get(number as usize) else { continue };
            let Some(prediction) = predictions.get_mut(row.window) else { continue };
            let Some(ue) = &row.ue else {
                match task {
                    Task::Activity => prediction.activity = Some(softmax(scores)),
                    Task::Pose => {
                        let (joints, _) = scores.as_chunks();
                        prediction.pose = Some(joints.to_vec());
                    }
                    Task::Beam | Task::Blockage => {}
                }
                continue;
            };
            let of_ue = prediction.ues.entry(ue.clone()).or_insert_with(|| {
                let gate = output.gate.get(number as usize).into_iter().flatten().copied();
                let gate = Input::ALL.iter().map(|&input| input.modality()).zip(gate).collect();
                UePrediction { gate, ..UePrediction::default() }
            });
            match task {
                // Of the frame's own instant.
                Task::Beam => of_ue.beam = scores.get(..beams).map(softmax),
                Task::Blockage => of_ue.blockage = Some(within_horizons(scores)),
                Task::Activity | Task::Pose => {}
            }
        }
    }
}

/// The name of a network and a hash of all that its weights follow from.
fn identity(config: &NetworkConfig, sizes: Sizes) -> String {
    format!("{}@{}", config.name, short_hash(format!("{config:?} {sizes:?}").as_bytes()))
}

/// The first 8 hexadecimal digits of the SHA-256.
fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

impl Predictor for NetworkPredictor {
    fn info(&self) -> ModelInfo {
        self.info.clone()
    }

    fn device(&self) -> &str {
        &self.opened.name
    }

    fn predict(&mut self, windows: &[Window]) -> Result<Vec<Prediction>, ModelError> {
        let outcome = match self.forward(windows) {
            // What is wrong with the input is no fault of the device.
            Err(error) if !self.opened.device.is_cpu() && InputError::of(&error).is_none() => {
                self.recover(&error).and_then(|()| self.forward(windows))
            }
            outcome => outcome,
        };
        outcome.map_err(|error| failed(&error))
    }
}

/// What was wrong with the input, or what candle says, without the backtrace that it may append.
fn failed(error: &candle_core::Error) -> ModelError {
    if let Some(error) = InputError::of(error) {
        return ModelError::Input(error.clone());
    }
    ModelError::Failed(error.to_string().lines().next().unwrap_or_default().to_owned())
}
