//! A recipe: what is trained, on what, how long. A TOML file; a recipe may extend another one, of which it states only what
//! differs.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::data::Ahead;
use super::data::archive::{Layout, Windowing};
use super::data::mmfi::MmFi;
use super::data::split::Shares;
use super::optimiser::Rates;
use crate::config::load::{parse_checked, place, read_extending, within};
use crate::config::{ConfigError, Problem};
use crate::infer::device::DeviceChoice;
use crate::model::baselines::Stage as Llm4WmStage;
use crate::model::config::NetworkConfig;
use crate::model::{Input, MODALITIES, Task};

/// A recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Its name.
    pub name: String,
    /// Of everything that is drawn: splits, order, augmentation, dropout.
    #[serde(default = "seed")]
    pub seed: u64,
    /// The network's configuration, beside the recipe.
    pub network: PathBuf,
    /// What it learns; left out, all that the network was configured for.
    #[serde(default)]
    pub tasks: Vec<Task>,
    /// Folder of a run whose best weights it begins with, beside the recipe, or the run's recipe, which is then trained first
    /// where that has not been done; left out, weights are drawn. What the other network has not is drawn.
    pub from: Option<PathBuf>,
    /// Where it is trained.
    #[serde(default)]
    pub device: DeviceChoice,
    /// Folder of its results, beside the recipe.
    pub output: PathBuf,
    /// Folder in which recordings are made and what is decoded is kept, beside the recipe.
    pub cache: PathBuf,
    /// Instants for which a beam is chosen, ms after the frame's; the first is 0.
    #[serde(default = "now")]
    pub instants_ms: Vec<u32>,
    /// What these instants count.
    #[serde(default)]
    pub ahead: Ahead,
    /// Inputs that it never sees: not in training, not when it is measured.
    #[serde(default)]
    pub without: Vec<Input>,
    /// What it learns from.
    pub data: Vec<DataEntry>,
    /// One after the other.
    pub stage: Vec<Stage>,
    /// How batches are made.
    #[serde(default)]
    pub batch: Batching,
    /// How losses are made.
    #[serde(default)]
    pub loss: Losses,
    /// What is changed at random.
    #[serde(default)]
    pub augment: Augment,
    /// How weights move.
    #[serde(default)]
    pub optimiser: Optimiser,
}

const fn once() -> usize {
    1
}

const fn seed() -> u64 {
    1
}

fn now() -> Vec<u32> {
    vec![0]
}

/// What a data set is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// Split by groups.
    #[default]
    Split,
    /// All of it is learned from.
    Train,
    /// All of it chooses.
    Validation,
    /// All of it is the test.
    Test,
}

/// What a data set is split by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Whole sequences and subjects.
    #[default]
    Sequence,
    /// Single instants, whatever stands beside them: as some published tables have it. A neighbour of what is asked has mostly
    /// been learned from, so that nothing is said about a street that was not seen.
    Random,
}

/// `[[data]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataEntry {
    /// Its name in reports. Entries of one name are parts of one data set: the command line names its place once.
    pub name: String,
    /// A recording, or a folder of archives, beside the recipe; or `scene`. Where neither is stated, the command line names
    /// it.
    pub recording: Option<PathBuf>,
    /// What the archives hold; left out, it is a recording.
    pub layout: Option<Layout>,
    /// Of archives, the names of those that are taken; of a recording, that of its index file. `*` stands for anything.
    #[serde(default)]
    pub files: Vec<String>,
    /// Readings and windows of an archive's radar frames.
    #[serde(default)]
    pub windowing: Windowing,
    /// A scene that a recording is made of on first use, beside the recipe.
    pub scene: Option<PathBuf>,
    /// Seed in place of the scene's.
    pub seed: Option<u64>,
    /// How many times over each sequence of the scene is made, each time with other traffic.
    #[serde(default = "once")]
    pub repeat: usize,
    /// Inputs of the scene that are not made: reports and positions of an hour are made in the time of a minute of images.
    #[serde(default)]
    pub without: Vec<Input>,
    /// The pipeline file whose road a recording's samples take, beside the recipe.
    pub pipeline: Option<PathBuf>,
    /// Tasks that are learned from it; left out, all of the recipe's.
    #[serde(default)]
    pub tasks: Vec<Task>,
    /// What it is for.
    #[serde(default, rename = "use")]
    pub used: Use,
    /// What it is split by, where it is split.
    #[serde(default)]
    pub split: By,
    /// Shares of its groups, where it is split.
    #[serde(default)]
    pub shares: Shares,
    /// Of a recording in MM-Fi's layout, the protocol and the split of its authors; of `shares` counts that of validation.
    pub mmfi: Option<MmFi>,
    /// Share of each sequence of the test that is learned from, in place of what would be: few labels of those who were
    /// never seen.
    pub few_shot: Option<f64>,
}

impl DataEntry {
    /// Whether any example of it can be a test.
    #[must_use]
    pub fn may_test(&self) -> bool {
        match self.used {
            Use::Test => true,
            Use::Split => self.mmfi.is_some() || self.shares.test > 0.0,
            Use::Train | Use::Validation => false,
        }
    }
}

/// What a row sees of what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum See {
    /// Everything, but for what is dropped at random.
    #[default]
    All,
    /// One modality, drawn at random, read by heads of its own in place of the core: each encoder learns to stand alone.
    One,
}

/// `[[stage]]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Passes over the largest data set.
    pub epochs: f64,
    /// What a row sees.
    #[serde(default)]
    pub see: See,
    /// Slots of the window that are looked at, the newest ones; left out, all.
    pub slots: Option<usize>,
    /// Inputs that it does not see.
    #[serde(default)]
    pub without: Vec<Input>,
    /// Names of the data sets that it goes through; left out, all that hold anything of what it sees.
    #[serde(default)]
    pub data: Vec<String>,
    /// Examples of a batch, in place of the recipe's.
    pub rows: Option<usize>,
    /// Examples that follow each other, in place of the recipe's.
    pub run: Option<usize>,
    /// Factor of the learning rates.
    #[serde(default = "whole")]
    pub rate: f64,
    /// Prefixes of the parameters that are left alone.
    #[serde(default)]
    pub freeze: Vec<String>,
    /// Of LLM4WM, what is trained.
    pub llm4wm: Option<Llm4WmStage>,
    /// Validations without improvement after which the stage ends; left out, it never ends early.
    pub patience: Option<usize>,
}

const fn whole() -> f64 {
    1.0
}

/// `[batch]`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Batching {
    /// Examples of a batch.
    pub rows: usize,
    /// Examples that follow each other: they share the readings of their windows, which saves time. But they are alike, and
    /// examples far from each other teach more: batch norms go by as many different ones as a batch has runs.
    pub run: usize,
    /// Examples of a batch when nothing is learned.
    pub evaluate_rows: usize,
    /// Passes over the largest data set between validations.
    pub validate_every: u32,
}

/// Latest instant for which a beam is chosen, ms.
const LATEST_MS: u32 = 60_000;
/// Examples that a batch may have.
const ROWS: RangeInclusive<usize> = 1..=4096;

impl Default for Batching {
    fn default() -> Self {
        Self { rows: 32, run: 1, evaluate_rows: 32, validate_every: 1 }
    }
}

/// `[loss]`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Losses {
    /// Softness of the target of beams, dB: the share of beam b is ∝ exp(−loss of b / softness); 0: the best beam alone.
    pub beam_softness_db: f64,
    /// How much more a blockage counts than none.
    pub blockage_weight: f64,
}

impl Default for Losses {
    fn default() -> Self {
        Self { beam_softness_db: 0.0, blockage_weight: 1.0 }
    }
}

/// `[augment]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Probability that a modality is dropped from a row.
    pub drop: Drops,
    /// Probability that a past slot is dropped from all rows of a batch: what is learned of fewer slots costs less, and
    /// nothing is learned that needs them all.
    pub slot_drop: f64,
    /// Share of the runs that are mirrored, where the beams' angles are known, or what is left and right of people.
    pub mirror: f64,
    /// Largest change of an image's brightness and contrast, of 1.
    pub colour: f64,
    /// Standard deviation that points are moved by, metres.
    pub point_jitter_m: f64,
    /// Largest change of a body's size, of 1, with its points: about the ground that it stands on, where poses are known and
    /// no image shows the body.
    pub body_size: f64,
    /// Farthest that such a body and its points are moved to the right and ahead, metres.
    pub body_shift_m: f64,
    /// Largest change of a reading's age, ms.
    pub time_jitter_ms: f64,
    /// Share of the beams of past reports that are taken for not measured.
    pub beam_drop: f64,
    /// Share of the past reports, but for the newest, that are lost.
    pub report_drop: f64,
    /// Other courses of UEs.
    // A recipe without them is the recipe that it was before there were any: its runs go on.
    #[serde(skip_serializing_if = "Courses::are_none")]
    pub course: Courses,
}

/// `[augment.course]`: other courses of UEs, where reports and a position are all that is seen. A network that learned from a
/// site where everyone drives one way at one pace is of no use where they do not. The position is not shown then.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Courses {
    /// Share of the runs whose UE takes another course.
    pub share: f64,
    /// The slowest that it goes, of its own pace.
    pub slowest: f64,
    /// Share of these that go back the way that they came.
    pub back: f64,
    /// The most beams by which all powers are moved, to either side.
    pub beams: u32,
}

impl Courses {
    /// Whether none is ever taken.
    #[must_use]
    pub fn are_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Courses {
    fn default() -> Self {
        Self { share: 0.0, slowest: 1.0, back: 0.0, beams: 0 }
    }
}

/// Probability that each modality is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drops {
    /// Camera.
    pub camera: f64,
    /// Radar.
    pub radar: f64,
    /// LiDAR.
    pub lidar: f64,
    /// Past beam powers.
    pub link: f64,
    /// Position.
    pub position: f64,
}

impl Drops {
    /// In the order of [`crate::model::Input::ALL`].
    #[must_use]
    pub const fn all(&self) -> [f64; MODALITIES] {
        [self.camera, self.radar, self.lidar, self.link, self.position]
    }
}

/// `[optimiser]`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optimiser {
    /// Learning rate of LoRA.
    pub lora_rate: f64,
    /// Learning rate of the rest.
    pub rate: f64,
    /// Weight decay of what decays.
    pub weight_decay: f64,
    /// Longest gradient.
    pub clip: f64,
    /// Share of a stage's steps in which the rate climbs.
    pub warmup: f64,
    /// Share of the rate that is left at a stage's end.
    pub floor: f64,
    /// Share of the running mean of the weights that is kept in each step; 0: there is none.
    pub ema: f64,
}

impl Default for Optimiser {
    fn default() -> Self {
        let Rates { lora, rest, weight_decay } = Rates::default();
        Self { lora_rate: lora, rate: rest, weight_decay, clip: 1.0, warmup: 0.05, floor: 0.01, ema: 0.0 }
    }
}

impl Optimiser {
    /// The groups of parameters.
    #[must_use]
    pub const fn rates(&self) -> Rates {
        Rates { lora: self.lora_rate, rest: self.rate, weight_decay: self.weight_decay }
    }
}

/// Reads a recipe with all that it extends. Paths in it are taken relative to the file that states them, and are whole
/// paths then: the recipe that a run writes beside its results reads the same from there.
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn load(path: &Path) -> Result<Recipe, ConfigError> {
    let whole = std::path::absolute(path).map_err(|error| ConfigError {
        file: path.to_owned(),
        problems: vec![Problem { key: String::new(), message: error.to_string() }],
    })?;
    let text = read_extending(&whole, "the recipe", &|folder, table| {
        for key in ["network", "from", "output", "cache"] {
            place(folder, table.get_mut(key));
        }
        for entry in table.get_mut("data").and_then(toml::Value::as_array_mut).into_iter().flatten() {
            for key in ["recording", "scene", "pipeline"] {
                place(folder, entry.get_mut(key));
            }
        }
    })?;
    parse_checked(path, &text, check)
}

fn check(recipe: &Recipe, problems: &mut Vec<Problem>) {
    let mut add = |key: &str, message: String| problems.push(Problem { key: key.to_owned(), message });
    let rises = recipe.instants_ms.first() == Some(&0) && recipe.instants_ms.is_sorted_by(|a, b| a < b);
    if !rises || recipe.instants_ms.last().is_some_and(|&last| last > LATEST_MS) {
        let found = &recipe.instants_ms;
        add("instants_ms", format!("found {found:?}, allowed are rising numbers from 0 to {LATEST_MS}"));
    }
    if i64::try_from(recipe.seed).is_err() {
        add("seed", format!("found {}, allowed is 0 to {}", recipe.seed, i64::MAX));
    }
    if recipe.data.is_empty() {
        add("data", "found none, allowed is one or more".to_owned());
    }
    if recipe.stage.is_empty() {
        add("stage", "found none, allowed is one or more".to_owned());
    }
    for (number, entry) in recipe.data.iter().enumerate() {
        if entry.recording.is_some() && entry.scene.is_some() {
            add(&format!("data[{number}]"), "allowed is either `recording` or `scene`".to_owned());
        }
        if entry.scene.is_none() && (entry.repeat != 1 || !entry.without.is_empty()) {
            let message = "`repeat` and `without` are allowed beside `scene`: they say how it is made";
            add(&format!("data[{number}]"), message.to_owned());
        }
        if !(1..=1000).contains(&entry.repeat) {
            add(&format!("data[{number}].repeat"), format!("found {}, allowed is 1 to 1000", entry.repeat));
        }
        let (archive, with_pipeline) = (entry.layout.is_some(), entry.pipeline.is_some());
        if archive == with_pipeline || (archive && entry.scene.is_some()) {
            add(
                &format!("data[{number}]"),
                "allowed is either `pipeline`, of a recording or scene, or `layout`, of archives".to_owned(),
            );
        }
        if !archive && entry.files.len() > 1 {
            let found = entry.files.len();
            add(
                &format!("data[{number}].files"),
                format!("found {found}, allowed is one index of a recording"),
            );
        }
        if let Some(mmfi) = entry.mmfi {
            if !MmFi::PROTOCOLS.contains(&mmfi.protocol) {
                let message = format!("found {}, allowed is 1, 2 or 3", mmfi.protocol);
                add(&format!("data[{number}].mmfi.protocol"), message);
            }
            if entry.used != Use::Split {
                add(&format!("data[{number}].mmfi"), "allowed without `use`: it is a split".to_owned());
            }
        }
        if entry.split != By::default()
            && (entry.used != Use::Split || entry.mmfi.is_some() || entry.few_shot.is_some())
        {
            let message = "allowed without `use`, `mmfi` and `few_shot`, which are splits of their own";
            add(&format!("data[{number}].split"), message.to_owned());
        }
        if entry.few_shot.is_some_and(|share| !(0.0..1.0).contains(&share)) {
            let message = format!("found {:?}, allowed is a share from 0 to less than 1", entry.few_shot);
            add(&format!("data[{number}].few_shot"), message);
        }
        let Windowing { slots, frames, every } = entry.windowing;
        for (key, value) in [("slots", slots), ("frames", frames), ("every", every)] {
            if !(1..=1000).contains(&value) {
                add(
                    &format!("data[{number}].windowing.{key}"),
                    format!("found {value}, allowed is 1 to 1000"),
                );
            }
        }
        if !(0.0..=1.0).contains(&(entry.shares.validation + entry.shares.test))
            || entry.shares.validation < 0.0
            || entry.shares.test < 0.0
        {
            add(
                &format!("data[{number}].shares"),
                format!("found {:?}, allowed are shares of 1 at most together", entry.shares),
            );
        }
    }
    let Batching { rows, run, evaluate_rows, validate_every } = recipe.batch;
    for (key, value) in [
        ("batch.rows", rows),
        ("batch.run", run),
        ("batch.evaluate_rows", evaluate_rows),
        ("batch.validate_every", validate_every as usize),
    ] {
        if !ROWS.contains(&value) {
            add(key, format!("found {value}, allowed is {} to {}", ROWS.start(), ROWS.end()));
        }
    }
    for (number, stage) in recipe.stage.iter().enumerate() {
        within(problems, &format!("stage[{number}].epochs"), stage.epochs, 1e-3, 1e6);
        if stage.slots == Some(0) {
            let message = "found 0, allowed is 1 and more; left out, all slots of the window".to_owned();
            problems.push(Problem { key: format!("stage[{number}].slots"), message });
        }
        if stage.patience == Some(0) {
            let message = "found 0, allowed is 1 and more; left out, the stage never ends early".to_owned();
            problems.push(Problem { key: format!("stage[{number}].patience"), message });
        }
        if stage.freeze.iter().any(String::is_empty) {
            let message =
                "found an empty prefix, which freezes all: allowed are prefixes of names".to_owned();
            problems.push(Problem { key: format!("stage[{number}].freeze"), message });
        }
        within(problems, &format!("stage[{number}].rate"), stage.rate, 0.0, 1e3);
        for name in stage.data.iter().filter(|name| !recipe.data.iter().any(|entry| entry.name == **name)) {
            let names: Vec<&str> = recipe.data.iter().map(|entry| entry.name.as_str()).collect();
            let message = format!("found `{name}`, allowed are {}", names.join(", "));
            problems.push(Problem { key: format!("stage[{number}].data"), message });
        }
        for (key, value) in [("rows", stage.rows), ("run", stage.run)] {
            if let Some(value) = value.filter(|value| !ROWS.contains(value)) {
                let message = format!("found {value}, allowed is {} to {}", ROWS.start(), ROWS.end());
                problems.push(Problem { key: format!("stage[{number}].{key}"), message });
            }
        }
    }
    let Augment {
        drop,
        slot_drop,
        mirror,
        colour,
        point_jitter_m,
        body_size,
        body_shift_m,
        time_jitter_ms,
        beam_drop,
        report_drop,
        course,
    } = recipe.augment;
    if !(course.slowest > 0.0 && course.slowest <= 1.0) {
        let message = format!("found {}, allowed is more than 0, and 1 at most", course.slowest);
        problems.push(Problem { key: "augment.course.slowest".to_owned(), message });
    }
    for (key, value, most) in [
        ("augment.slot_drop", slot_drop, 1.0),
        ("augment.mirror", mirror, 1.0),
        ("augment.colour", colour, 1.0),
        ("augment.point_jitter_m", point_jitter_m, 10.0),
        ("augment.body_size", body_size, 0.5),
        ("augment.body_shift_m", body_shift_m, 10.0),
        ("augment.time_jitter_ms", time_jitter_ms, 1e3),
        ("augment.beam_drop", beam_drop, 1.0),
        ("augment.report_drop", report_drop, 1.0),
        ("augment.course.share", course.share, 1.0),
        ("augment.course.back", course.back, 1.0),
        ("augment.course.beams", f64::from(course.beams), 4096.0),
        ("loss.beam_softness_db", recipe.loss.beam_softness_db, 100.0),
        ("loss.blockage_weight", recipe.loss.blockage_weight, 1e4),
        ("optimiser.rate", recipe.optimiser.rate, 1.0),
        ("optimiser.lora_rate", recipe.optimiser.lora_rate, 1.0),
        ("optimiser.weight_decay", recipe.optimiser.weight_decay, 10.0),
        ("optimiser.clip", recipe.optimiser.clip, 1e6),
        ("optimiser.warmup", recipe.optimiser.warmup, 1.0),
        ("optimiser.floor", recipe.optimiser.floor, 1.0),
        ("optimiser.ema", recipe.optimiser.ema, 0.999_999),
    ] {
        within(problems, key, value, 0.0, most);
    }
    for (name, share) in ["camera", "radar", "lidar", "link", "position"].iter().zip(drop.all()) {
        within(problems, &format!("augment.drop.{name}"), share, 0.0, 1.0);
    }
}

impl Recipe {
    /// The inputs that are never seen, in the order of [`Input::ALL`].
    #[must_use]
    pub fn hidden(&self) -> [bool; MODALITIES] {
        Input::ALL.map(|input| self.without.contains(&input))
    }

    /// The inputs that are not seen in a stage.
    #[must_use]
    pub fn hidden_in(&self, stage: &Stage) -> [bool; MODALITIES] {
        Input::ALL.map(|input| self.without.contains(&input) || stage.without.contains(&input))
    }

    /// The tasks that are learned.
    #[must_use]
    pub fn tasks(&self, network: &NetworkConfig) -> Vec<Task> {
        if self.tasks.is_empty() { network.tasks.clone() } else { self.tasks.clone() }
    }

    /// Leaves some of its tasks alone to be learned, and with them the data that has labels for none of them, and the stages
    /// that learn from such data only. Name and folder say so.
    ///
    /// # Errors
    /// What was found and what is allowed, when it does not learn one of them.
    pub fn learn_only(&mut self, tasks: &[Task]) -> Result<(), String> {
        let told: Vec<Task> = self.data.iter().flat_map(|entry| entry.tasks.iter().copied()).collect();
        let of_all = self.data.iter().any(|entry| entry.tasks.is_empty());
        let learns = |task: &Task| {
            (self.tasks.is_empty() || self.tasks.contains(task)) && (of_all || told.contains(task))
        };
        if let Some(task) = tasks.iter().find(|task| !learns(task)) {
            let allowed: Vec<&str> =
                Task::ALL.iter().filter(|task| learns(task)).map(|task| task.name()).collect();
            return Err(format!("found `{task}`, `{}` learns {}", self.name, allowed.join(", ")));
        }
        // In one order, however they were named.
        self.tasks = Task::ALL.into_iter().filter(|task| tasks.contains(task)).collect();
        let is_of =
            |entry: &DataEntry| entry.tasks.is_empty() || entry.tasks.iter().any(|task| tasks.contains(task));
        self.data.retain(is_of);
        for entry in &mut self.data {
            entry.tasks.retain(|task| tasks.contains(task));
        }
        let names: Vec<&str> = self.data.iter().map(|entry| entry.name.as_str()).collect();
        self.stage.retain(|stage| {
            stage.data.is_empty() || stage.data.iter().any(|name| names.contains(&name.as_str()))
        });
        for stage in &mut self.stage {
            stage.data.retain(|name| names.contains(&name.as_str()));
        }
        let mut name = std::mem::take(&mut self.name);
        let mut folder = std::mem::take(&mut self.output).into_os_string();
        for task in &self.tasks {
            name = format!("{name}-{task}");
            folder.push(format!("-{task}"));
        }
        (self.name, self.output) = (name, folder.into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_learned_from_is_no_test() {
        let may_test = |text: &str| toml::from_str::<DataEntry>(text).unwrap().may_test();
        assert!(may_test("name = 'a'\nshares = { validation = 0.1, test = 0.2 }"));
        assert!(may_test("name = 'a'\nuse = 'test'"));
        assert!(may_test(
            "name = 'a'\nmmfi = { protocol = 3, split = 'random' }\nshares = { validation = 0.1, test = 0.0 }"
        ));
        assert!(!may_test("name = 'a'\nshares = { validation = 0.1, test = 0.0 }"));
        assert!(!may_test("name = 'a'\nuse = 'train'") && !may_test("name = 'a'\nuse = 'validation'"));
    }

    #[test]
    fn a_recipe_states_only_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        write(
            "base.toml",
            r#"
            name = "base"
            network = "net.toml"
            output = "out"
            cache = "cache"
            [[data]]
            name = "a"
            recording = "rec"
            pipeline = "p.toml"
            [[stage]]
            name = "joint"
            epochs = 3
            [optimiser]
            rate = 0.001
            "#,
        );
        let own = write("own.toml", "extends = \"base.toml\"\nname = \"own\"\n[optimiser]\nclip = 2.0\n");
        let recipe = load(&own).unwrap();
        assert_eq!(recipe.name, "own");
        assert_eq!(recipe.network, folder.path().join("net.toml"));
        assert_eq!((recipe.optimiser.rate, recipe.optimiser.clip), (0.001, 2.0));
        let wrong =
            write("wrong.toml", "extends = \"base.toml\"\n[augment]\nmirror = 2.0\n[batch]\nrows = 0\n");
        let error = load(&wrong).unwrap_err().to_string();
        let text = "extends = \"base.toml\"\n[[data]]\nname = \"b\"\nrecording = \"rec\"\npipeline = \"p.toml\"\n\
                    repeat = 2\n[[stage]]\nname = \"joint\"\nepochs = 1\ndata = [\"a\"]\n";
        let other = load(&write("other.toml", text)).unwrap_err().to_string();
        assert!(other.contains("data[0]: `repeat` and `without`"), "{other}");
        assert!(other.contains("stage[0].data: found `a`, allowed are b"), "{other}");
        assert!(error.contains("augment.mirror") && error.contains("batch.rows"), "{error}");
        // A network of another kind has none of the first one's keys, and what is laid aside is gone.
        let nets = write(
            "net.toml",
            "name = \"net\"\n[core]\nkind = \"mmsense\"\nheads = 2\n[backbone]\nlayers = 2\n",
        );
        let text = "extends = \"net.toml\"\nbackbone = false\n[core]\nkind = \"mlp\"\n";
        let other = write("mlp.toml", text);
        let read = |path: &Path| read_extending(path, "it", &|_, _| ()).unwrap();
        assert_eq!(read(&other), "name = \"net\"\n\n[core]\nkind = \"mlp\"\n");
        assert!(read(&nets).contains("layers = 2"));
        let round = write("round.toml", "extends = \"round.toml\"\n");
        assert!(load(&round).unwrap_err().to_string().contains("extend one another"));
    }
}
