//! The size of a network, as a file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::backbone::{BackboneConfig, Taps};
use super::lora::LoraConfig;
use super::mmsense::MmsenseConfig;
use super::point_transformer::PointTransformerConfig;
use super::resnet::ResNetConfig;
use super::tasks::Task;

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
    /// What it is built for.
    #[serde(default = "all_tasks")]
    pub tasks: Vec<Task>,
    /// Encoder of images.
    pub image: ImageConfig,
    /// Encoder of radar points.
    pub radar: PointTransformerConfig,
    /// Encoder of LiDAR points.
    pub lidar: PointTransformerConfig,
    /// What stands behind the encoders.
    pub core: CoreConfig,
    /// The backbone of an `mmsense` core; without one the mean fused token stands for its hidden state.
    pub backbone: Option<BackboneChoice>,
}

fn all_tasks() -> Vec<Task> {
    Task::ALL.to_vec()
}

/// Encoder of images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// Images are resized to a square of this side, pixels.
    pub side: usize,
    /// The feature map is pooled to grid × grid tokens.
    pub grid: usize,
    /// The ResNet.
    pub network: ResNetConfig,
    /// Its weights: a safetensors file with torchvision's or timm's names; left out, they are fresh.
    pub weights: Option<PathBuf>,
}

/// What stands behind the encoders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum CoreConfig {
    /// The paper's.
    Mmsense(MmsenseConfig),
}

impl CoreConfig {
    /// Whether a backbone stands in it, where the configuration names one.
    #[must_use]
    pub const fn has_backbone(&self) -> bool {
        matches!(self, Self::Mmsense(_))
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
    /// One for each task.
    pub prompts: BTreeMap<Task, String>,
}

impl BackboneChoice {
    fn check(&self, tasks: &[Task], problems: &mut Problems) {
        if self.checkpoint.is_none() && self.size.is_none() {
            problems.add("backbone", "found neither checkpoint nor size, allowed is either or both".to_owned());
        }
        if self.tokenizer.is_none() && self.checkpoint.is_none() {
            problems.add("backbone.tokenizer", "found none, allowed is a file: fresh weights have none".to_owned());
        }
        for task in tasks.iter().filter(|task| self.prompts.get(task).is_none_or(|prompt| prompt.trim().is_empty())) {
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
        self.image.grid * self.image.grid
    }

    /// What is wrong with it: key and what was found and allowed.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Problems::default();
        problems.within("width", self.width, 8, 8192);
        problems.within("tasks", self.tasks.len(), 1, Task::ALL.len());
        if (1..self.tasks.len()).any(|i| self.tasks[i..].contains(&self.tasks[i - 1])) {
            problems.add("tasks", format!("found {:?}, allowed is each once", self.tasks));
        }
        self.image.check(&mut problems);
        for (name, points) in [("radar", &self.radar), ("lidar", &self.lidar)] {
            self.check_points(name, points, &mut problems);
        }
        match &self.core {
            CoreConfig::Mmsense(core) => core.check(self.width, &mut problems),
        }
        if let Some(backbone) = &self.backbone {
            backbone.check(&self.tasks, &mut problems);
        }
        problems.into_vec()
    }

    fn check_points(&self, name: &str, points: &PointTransformerConfig, problems: &mut Problems) {
        let key = |key: &str| format!("{name}.{key}");
        problems.within(key("neighbours"), points.neighbours, 1, 128);
        problems.within(key("points"), points.points.len(), 1, 8);
        problems.within(key("widths"), points.widths.len(), points.points.len(), points.points.len());
        for &count in &points.points {
            problems.within(key("points"), count, 1, 1 << 16);
        }
        for &width in &points.widths {
            problems.within(key("widths"), width, 8, 4096);
        }
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
        problems.within("image.side", self.side, 32, 1024);
        problems.within("image.grid", self.grid, 1, 16);
        problems.within("image.network.stem", self.network.stem, 1, 1024);
        for channels in self.network.channels {
            problems.within("image.network.channels", channels, 1, 4096);
        }
        for layers in self.network.layers {
            problems.within("image.network.layers", layers, 1, 64);
        }
    }
}
