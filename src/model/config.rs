//! The size of a network, as a file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::backbone::{BackboneConfig, Taps};
use super::baselines::encoders::MapConfig;
use super::baselines::{CnnConfig, Llm4WmConfig, MlpConfig, TransformerConfig};
use super::grid::GridConfig;
use super::lora::LoraConfig;
use super::mmsense::MmsenseConfig;
use super::point_transformer::PointTransformerConfig;
use super::resnet::ResNetConfig;
use super::tasks::{Task, TokenShape};
use super::{Input, MODALITIES};

/// What is wrong with a configuration: key, and what was found and allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<(String, String)>);

impl Problems {
    /// One more.
    pub fn add(&mut self, key: impl Into<String>, message: String) {
        self.0.push((key.into(), message));
    }

    /// One more if `value` is not in `low..=high`.
    pub fn within(&mut self, key: impl Into<String>, value: usize, low: usize, high: usize) {
        if !(low..=high).contains(&value) {
            self.add(key, format!("found {value}, allowed is {low} to {high}"));
        }
    }

    /// Those of a part, whose keys lie under `key`.
    pub fn under(&mut self, key: &str, problems: Vec<(String, String)>) {
        self.0.extend(problems.into_iter().map(|(part, message)| (format!("{key}.{part}"), message)));
    }

    /// All of them.
    #[must_use]
    pub fn into_vec(self) -> Vec<(String, String)> {
        self.0
    }
}

/// A network: everything that its weights' shapes follow from, beside the unit's window, beams and horizons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Its name on the wire, before the hash.
    pub name: String,
    /// Seed of fresh weights.
    pub seed: u64,
    /// d, width of a token.
    pub width: usize,
    /// Side of the grid of an image's tokens: each modality has n_f = grid² of them.
    pub grid: usize,
    /// What it is built for.
    #[serde(default = "all_tasks")]
    pub tasks: Vec<Task>,
    /// Newest slots of the window that a task looks at, 1 and more; a task that is left out looks at all, but a pose, which
    /// is that of the instant, at one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slots: BTreeMap<Task, usize>,
    /// Whether what the last reports say of each beam is added to the scores of beams ([`ReportPrior`](super::prior::ReportPrior)).
    #[serde(default, skip_serializing_if = "is_not")]
    pub report_prior: bool,
    /// From samples to tokens.
    pub encoders: EncodersConfig,
    /// From the tokens of a window to the tasks.
    pub core: CoreConfig,
    /// The backbone of an `mmsense` core; without one the mean fused token stands for its hidden state.
    pub backbone: Option<BackboneChoice>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_not(asked: &bool) -> bool {
    !*asked
}

fn all_tasks() -> Vec<Task> {
    Task::ALL.to_vec()
}

/// From camera, radar and LiDAR samples to tokens; link and position have the same encoders in every network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EncodersConfig {
    /// The paper's: a ResNet and two Point Transformers.
    Points(PointsConfig),
    /// The baselines': one kind of encoder for the image and for radar and LiDAR as range–angle maps.
    Maps(MapsConfig),
}

/// A ResNet for images, Point Transformers for radar and LiDAR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointsConfig {
    /// Encoder of images.
    pub image: ImageConfig,
    /// Encoder of radar points.
    pub radar: PointTransformerConfig,
    /// Encoder of LiDAR points.
    pub lidar: PointTransformerConfig,
}

/// Encoder of images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// Images are resized to a square of this side, pixels.
    pub side: usize,
    /// The ResNet, whose feature map is pooled to grid × grid tokens.
    pub network: ResNetConfig,
    /// Its weights: a safetensors file with torchvision's or timm's names; left out, they are fresh.
    pub weights: Option<PathBuf>,
}

/// One kind of encoder of square maps for every sensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapsConfig {
    /// Images are resized to a square of this side, pixels.
    pub image_side: usize,
    /// Points of a cloud at most.
    pub points: usize,
    /// The ground that radar and LiDAR are seen on.
    #[serde(default)]
    pub ground: GridConfig,
    /// The encoder; each sensor has one with weights of its own.
    pub map: MapConfig,
}

/// What stands behind the encoders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum CoreConfig {
    /// The paper's.
    Mmsense(MmsenseConfig),
    /// Its baseline of flattened features.
    Mlp(MlpConfig),
    /// Its baseline of convolutions.
    Cnn(CnnConfig),
    /// Its baseline of self-attention.
    Transformer(TransformerConfig),
    /// Its baseline with a language model.
    Llm4wm(Llm4WmConfig),
}

impl CoreConfig {
    /// Whether a backbone stands in it, where the configuration names one.
    #[must_use]
    pub const fn has_backbone(&self) -> bool {
        matches!(self, Self::Mmsense(_))
    }

    /// What the names of the parameters that make a task's scores begin with: its last layer.
    #[must_use]
    pub fn last_layer(&self, task: Task) -> String {
        match self {
            Self::Mmsense(_) => format!("tasks.{task}.head.mlp.2."),
            Self::Mlp(_) => format!("core.{task}.3."),
            Self::Cnn(_) | Self::Transformer(_) => format!("core.head.{task}.mlp.2."),
            Self::Llm4wm(_) => format!("core.head.{task}."),
        }
    }
}

/// The numbers that weights are kept and multiplied in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16: half the memory, for GPUs.
    Bf16,
}

/// Which backbone, and what it is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackboneChoice {
    /// A folder with `config.json` and safetensors of a Llama-3.2-Vision model; left out, its weights are fresh.
    pub checkpoint: Option<PathBuf>,
    /// Its size; left out, `config.json` says it. Where both do, they have to agree.
    pub size: Option<BackboneConfig>,
    /// Its `tokenizer.json`; by default the one in `checkpoint`.
    pub tokenizer: Option<PathBuf>,
    /// What its weights are kept in.
    #[serde(default)]
    pub precision: Precision,
    /// The layers whose hidden states the tasks read; by default four, spread over the cross layers, the last one last.
    pub taps: Option<Vec<usize>>,
    /// Low-rank adapters on its linear layers.
    pub lora: Option<LoraConfig>,
    /// A folder that PEFT wrote, whose adapters those of `lora` begin as; left out, they are fresh.
    pub adapter: Option<PathBuf>,
    /// One for each task.
    pub prompts: BTreeMap<Task, String>,
}

impl BackboneChoice {
    fn check(&self, tasks: &[Task], problems: &mut Problems) {
        if self.checkpoint.is_none() && self.size.is_none() {
            problems
                .add("backbone", "found neither checkpoint nor size, allowed is either or both".to_owned());
        }
        if self.tokenizer.is_none() && self.checkpoint.is_none() {
            problems.add(
                "backbone.tokenizer",
                "found none, allowed is a file: fresh weights have none".to_owned(),
            );
        }
        if self.adapter.is_some() && self.lora.is_none() {
            let message = "found one without `lora`, allowed is one with what it is: rank, alpha, targets";
            problems.add("backbone.adapter", message.to_owned());
        }
        for task in
            tasks.iter().filter(|task| self.prompts.get(task).is_none_or(|prompt| prompt.trim().is_empty()))
        {
            problems.add(format!("backbone.prompts.{task}"), "found none, allowed is a sentence".to_owned());
        }
        let Some(config) = &self.size else { return };
        for (key, message) in config.problems() {
            problems.add(format!("backbone.size.{key}"), message);
        }
        if let Some(lora) = &self.lora {
            for (key, message) in lora.problems(config) {
                problems.add(format!("backbone.lora.{key}"), message);
            }
        }
        if let Some(Err(error)) = self.taps.clone().map(|taps| Taps::new(config, taps)) {
            problems.add("backbone.taps", error.to_string());
        }
    }
}

impl NetworkConfig {
    /// n_f, tokens of each modality.
    #[must_use]
    pub const fn tokens(&self) -> usize {
        self.grid * self.grid
    }

    /// The square that images are resized to, pixels.
    #[must_use]
    pub const fn image_side(&self) -> usize {
        match &self.encoders {
            EncodersConfig::Points(points) => points.image.side,
            EncodersConfig::Maps(maps) => maps.image_side,
        }
    }

    /// Points of a cloud of radar or LiDAR at most.
    #[must_use]
    pub fn most_points(&self, input: Input) -> usize {
        match &self.encoders {
            EncodersConfig::Points(points) => {
                let encoder = if input == Input::Radar { &points.radar } else { &points.lidar };
                encoder.points.first().copied().unwrap_or(1)
            }
            EncodersConfig::Maps(maps) => maps.points,
        }
    }

    /// Heads of the widest attention over all tokens of a row.
    #[must_use]
    pub const fn heads(&self) -> usize {
        match &self.core {
            CoreConfig::Mmsense(core) => core.heads,
            CoreConfig::Transformer(core) => core.heads,
            CoreConfig::Llm4wm(core) => core.backbone.heads,
            CoreConfig::Mlp(_) | CoreConfig::Cnn(_) => 1,
        }
    }

    /// The tokens of a window of `slots`.
    #[must_use]
    pub const fn shape(&self, slots: usize) -> TokenShape {
        TokenShape { slots, modalities: MODALITIES, tokens: self.tokens(), width: self.width }
    }

    /// Whether the tokens of each modality are in an order: parts of an image or of a map, or what one layer makes; those of a
    /// Point Transformer are points, the first of which is no other than the last.
    #[must_use]
    pub fn ordered(&self) -> [bool; MODALITIES] {
        let of_points = matches!(self.encoders, EncodersConfig::Points(_));
        Input::ALL.map(|input| !(of_points && matches!(input, Input::Radar | Input::Lidar)))
    }

    /// Newest slots of a window of `window` that a row of these tasks looks at.
    #[must_use]
    pub fn slots_of(&self, tasks: &[Task], window: usize) -> usize {
        let of = |task: &Task| {
            let usual = if *task == Task::Pose { 1 } else { window };
            self.slots.get(task).copied().unwrap_or(usual)
        };
        tasks.iter().map(of).max().unwrap_or(window).min(window)
    }

    /// What is wrong with it: key and what was found and allowed. What depends on the unit's window is looked at when the
    /// network is built.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Problems::default();
        problems.within("width", self.width, 8, 8192);
        problems.within("grid", self.grid, 1, 16);
        problems.within("tasks", self.tasks.len(), 1, Task::ALL.len());
        for (task, &slots) in &self.slots {
            problems.within(format!("slots.{task}"), slots, 1, 1000);
            if !self.tasks.contains(task) {
                problems.add(
                    format!("slots.{task}"),
                    format!("found a task that is not one of {:?}", self.tasks),
                );
            }
        }
        let mut seen = BTreeSet::new();
        if !self.tasks.iter().all(|task| seen.insert(task)) {
            problems.add("tasks", format!("found {:?}, allowed is each once", self.tasks));
        }
        match &self.encoders {
            EncodersConfig::Points(points) => {
                points.image.check(&mut problems);
                for (name, points) in [("radar", &points.radar), ("lidar", &points.lidar)] {
                    self.check_points(name, points, &mut problems);
                }
            }
            EncodersConfig::Maps(maps) => {
                problems.within("encoders.image_side", maps.image_side, 8, 1024);
                problems.within("encoders.points", maps.points, 1, 1 << 17);
                problems.under("encoders.ground", maps.ground.problems());
                problems.under("encoders.map", maps.map.problems(self.tokens()));
            }
        }
        let window = self.shape(1);
        match &self.core {
            CoreConfig::Mmsense(core) => core.check(self.width, &mut problems),
            CoreConfig::Mlp(core) => problems.under("core", core.problems()),
            CoreConfig::Cnn(core) => problems.under("core", core.problems()),
            CoreConfig::Transformer(core) => problems.under("core", core.problems(&window)),
            CoreConfig::Llm4wm(core) => problems.under("core", core.problems(&window)),
        }
        match &self.backbone {
            Some(backbone) if self.core.has_backbone() => backbone.check(&self.tasks, &mut problems),
            Some(_) => problems
                .add("backbone", "found one, allowed is none: the core has no place for it".to_owned()),
            None => {}
        }
        problems.into_vec()
    }

    fn check_points(&self, name: &str, points: &PointTransformerConfig, problems: &mut Problems) {
        let key = |key: &str| format!("encoders.{name}.{key}");
        problems.within(key("neighbours"), points.neighbours, 1, 128);
        problems.within(key("points"), points.points.len(), 1, 8);
        problems.within(key("widths"), points.widths.len(), points.points.len(), points.points.len());
        for &count in &points.points {
            problems.within(key("points"), count, 1, 1 << 16);
        }
        for &width in &points.widths {
            problems.within(key("widths"), width, 8, 4096);
        }
        problems.within(key("magnify"), points.magnify, 1, 1000);
        if points.share == 0 || points.widths.iter().any(|width| !width.is_multiple_of(points.share.max(1))) {
            let message =
                format!("found {}, allowed are divisors of widths = {:?}", points.share, points.widths);
            problems.add(key("share"), message);
        }
        if !points.points.is_sorted_by(|a, b| a > b) {
            problems.add(key("points"), format!("found {:?}, allowed are falling numbers", points.points));
        }
        if points.points.last().is_some_and(|&last| last > self.tokens()) {
            let message =
                format!("ends in {:?}, allowed is at most grid² = {} tokens", points.points, self.tokens());
            problems.add(key("points"), message);
        }
    }
}

impl ImageConfig {
    fn check(&self, problems: &mut Problems) {
        problems.within("encoders.image.side", self.side, 32, 1024);
        problems.within("encoders.image.network.stem", self.network.stem, 1, 1024);
        for channels in self.network.channels {
            problems.within("encoders.image.network.channels", channels, 1, 4096);
        }
        for layers in self.network.layers {
            problems.within("encoders.image.network.layers", layers, 1, 64);
        }
    }
}
