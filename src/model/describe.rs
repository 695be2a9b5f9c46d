//! What a network is made of: shapes, parameters, arithmetic, bytes and memory, part by part, without building it.
//!
//! Parameters are counted on the tensors that the parts ask for when they are loaded; those of a backbone, which may be
//! larger than this machine's memory, follow from its configuration. Arithmetic counts 2 FLOP per multiply-add of
//! products and convolutions, not what is spent on norms and activations.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use serde::Serialize;

use super::backbone::{BackboneConfig, Taps};
use super::baselines::TransformerConfig;
use super::baselines::encoders::MapConfig;
use super::build::{BuildError, core_of, prior_of};
use super::config::{BackboneChoice, CoreConfig, EncodersConfig, ImageConfig, NetworkConfig, Precision};
use super::encoders::Encoders;
use super::layers::{RUNNING_MEAN, RUNNING_VARIANCE};
use super::lora::{LoraConfig, modules};
use super::mmsense::{HiddenShape, MmsenseConfig, PROJECTOR};
use super::point_transformer::PointTransformerConfig;
use super::resnet::ResNetConfig;
use super::tasks::{Sizes, Task, TokenShape};
use super::ue::{LINK_BINS, LINK_FEATURES, LINK_HIDDEN, LINK_SHARE, POSITION_FEATURES};
use super::{LIDAR_FEATURES, MODALITIES, RADAR_FEATURES, grid, prior};

/// Beginning of the names of LLM4WM's GPT-2, which is never trained.
const GPT2: &str = "core.gpt2.";
/// Tokens of a prompt, about.
const PROMPT: usize = 12;

/// One part of a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Its name, the beginning of its tensors' names.
    pub name: &'static str,
    /// What goes in and comes out.
    pub shape: String,
    /// Numbers that training moves.
    pub trained: u64,
    /// Numbers that it does not.
    pub frozen: u64,
    /// Bytes of its weights, as they are kept for inference.
    pub bytes: u64,
    /// Floating-point operations for one frame.
    pub flops: u64,
    /// Numbers kept per frame for the way back, about.
    pub activations: u64,
}

/// A network, part by part. One frame: one new sample of each modality, the tokens of the other slots kept, one UE, all
/// tasks that the network is built for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its parts, in the order of the data.
    pub parts: Vec<Part>,
    /// Bytes of the tokens that are kept of a unit with one UE.
    pub kept_bytes: u64,
    /// Rows that one frame asks of the core.
    pub rows: usize,
}

impl Description {
    fn sum(&self, of: impl Fn(&Part) -> u64) -> u64 {
        self.parts.iter().map(of).sum()
    }

    /// All parameters, trained and frozen.
    #[must_use]
    pub fn parameters(&self) -> (u64, u64) {
        (self.sum(|part| part.trained), self.sum(|part| part.frozen))
    }

    /// Floating-point operations for one frame.
    #[must_use]
    pub fn flops(&self) -> u64 {
        self.sum(|part| part.flops)
    }

    /// Bytes that one frame reads and writes at the least: every weight once, and the kept tokens.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        self.sum(|part| part.bytes) + self.kept_bytes
    }

    /// Bytes that inference holds: weights, kept tokens, and a part's numbers at a time.
    #[must_use]
    pub fn inference_bytes(&self) -> u64 {
        let widest = self.parts.iter().map(|part| part.activations).max().unwrap_or_default();
        self.frame_bytes() + 4 * widest
    }

    /// Bytes that training holds at `batch` frames per step: weights, and of each trained number, which is kept in f32, its
    /// gradient and two moments of AdamW; the activations of the batch.
    #[must_use]
    pub fn training_bytes(&self, batch: u64) -> u64 {
        let (trained, _) = self.parameters();
        self.sum(|part| part.bytes) + 12 * trained + 4 * batch * self.sum(|part| part.activations)
    }
}

/// Hands out zeros that take no memory, and remembers what was asked for.
struct Counting(Arc<Mutex<BTreeMap<String, Vec<usize>>>>);

impl SimpleBackend for Counting {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.insert(name.to_owned(), shape.dims().to_vec());
        Tensor::zeros(1, dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        Err(Error::Msg(format!("a count needs a shape, and `{name}` was asked for without one")))
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

/// The tensors of a network without those of its backbone.
fn tensors(
    config: &NetworkConfig,
    sizes: Sizes,
    hidden: Option<HiddenShape>,
) -> Result<BTreeMap<String, Vec<usize>>> {
    let asked = Arc::default();
    let vb = VarBuilder::from_backend(Box::new(Counting(Arc::clone(&asked))), DType::F32, Device::Cpu);
    Encoders::load(config, None, &vb)?;
    let mut config = config.clone();
    if let CoreConfig::Llm4wm(core) = &mut config.core {
        // What a file brings is counted without it.
        core.gpt2 = None;
    }
    core_of(&config, sizes, hidden, &vb)?;
    prior_of(&config, sizes, &vb)?;
    drop(vb);
    Ok(Arc::try_unwrap(asked)
        .map_or_else(|_| BTreeMap::new(), |asked| asked.into_inner().unwrap_or_default()))
}

/// Names and shapes of a backbone's tensors, of its layers up to `last`; linear layers are `[outputs, inputs]`.
#[must_use]
pub fn backbone_tensors(config: &BackboneConfig, last: usize) -> Vec<(String, Vec<usize>)> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let narrow = config.kv_heads * config.head_dim();
    let mut tensors = vec![("embed_tokens.weight".to_owned(), vec![config.embeddings, hidden])];
    for layer in 0..=last.min(config.layers - 1) {
        let cross = config.cross_layers.contains(&layer);
        let mut add =
            |name: &str, shape: &[usize]| tensors.push((format!("layers.{layer}.{name}"), shape.to_vec()));
        add("input_layernorm.weight", &[hidden]);
        add("post_attention_layernorm.weight", &[hidden]);
        let attention = if cross { "cross_attn" } else { "self_attn" };
        for (name, outputs, inputs) in [
            ("q_proj", hidden, hidden),
            ("k_proj", narrow, hidden),
            ("v_proj", narrow, hidden),
            ("o_proj", hidden, hidden),
        ] {
            add(&format!("{attention}.{name}.weight"), &[outputs, inputs]);
        }
        if cross {
            add("cross_attn.q_norm.weight", &[config.head_dim()]);
            add("cross_attn.k_norm.weight", &[config.head_dim()]);
            add("cross_attn_attn_gate", &[1]);
            add("cross_attn_mlp_gate", &[1]);
        }
        for (name, outputs, inputs) in
            [("gate_proj", inner, hidden), ("up_proj", inner, hidden), ("down_proj", hidden, inner)]
        {
            add(&format!("mlp.{name}.weight"), &[outputs, inputs]);
        }
    }
    if last + 1 == config.layers {
        tensors.push(("norm.weight".to_owned(), vec![hidden]));
    }
    tensors
}

fn count<'a>(shapes: impl Iterator<Item = &'a Vec<usize>>) -> u64 {
    shapes.map(|shape| shape.iter().product::<usize>() as u64).sum()
}

/// Numbers of the adapters on a backbone's layers up to `last`.
fn adapter_numbers(lora: &LoraConfig, config: &BackboneConfig, last: usize) -> u64 {
    let adapted: Vec<String> = modules(config).into_iter().filter(|module| lora.adapts(module)).collect();
    let of = |shape: &[usize]| lora.rank as u64 * shape.iter().sum::<usize>() as u64;
    let tensors = backbone_tensors(config, last);
    let adapted = tensors.iter().filter(|(name, _)| {
        adapted.iter().any(|module| name.strip_suffix(".weight") == Some(module.as_str()))
    });
    adapted.map(|(_, shape)| of(shape)).sum()
}

/// Multiply-adds, and the numbers that they make.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    products: usize,
    made: usize,
}

impl Work {
    /// `rows` rows through a linear layer.
    const fn dense(rows: usize, inputs: usize, outputs: usize) -> Self {
        Self { products: rows * inputs * outputs, made: rows * outputs }
    }
}

impl std::iter::Sum for Work {
    fn sum<I: Iterator<Item = Self>>(works: I) -> Self {
        works.fold(Self::default(), |a, b| Self { products: a.products + b.products, made: a.made + b.made })
    }
}

fn prior(sizes: Sizes) -> Work {
    let inputs = [prior::CHANNELS, prior::WIDTH, prior::WIDTH];
    let layers = inputs.map(|inputs| Work::dense(LINK_BINS, prior::TAPS * inputs, prior::WIDTH));
    let others =
        [Work::dense(1, prior::WHOLE, prior::WIDTH), Work::dense(LINK_BINS, prior::WIDTH, sizes.instants)];
    layers.into_iter().chain(others).sum()
}

fn resnet(image: &ImageConfig, tokens: usize, width: usize) -> Work {
    let ResNetConfig { stem, channels, layers, bottleneck } = &image.network;
    let conv = |side: usize, inputs: usize, outputs: usize, kernel: usize| Work {
        products: side * side * inputs * outputs * kernel * kernel,
        // The convolution, its norm, its rectifier.
        made: 3 * side * side * outputs,
    };
    let mut side = image.side.div_ceil(2);
    let mut works = vec![conv(side, 3, *stem, 7)];
    side = side.div_ceil(2);
    let mut inputs = *stem;
    for (stage, (&channels, &layers)) in channels.iter().zip(layers).enumerate() {
        let outputs = if *bottleneck { 4 * channels } else { channels };
        for layer in 0..layers {
            let before = side;
            if layer == 0 && stage > 0 {
                side = side.div_ceil(2);
            }
            if *bottleneck {
                works.push(conv(before, inputs, channels, 1));
                works.push(conv(side, channels, channels, 3));
                works.push(conv(side, channels, outputs, 1));
            } else {
                works.push(conv(side, inputs, outputs, 3));
                works.push(conv(side, outputs, outputs, 3));
            }
            if inputs != outputs || before != side {
                works.push(conv(side, inputs, outputs, 1));
            }
            inputs = outputs;
        }
    }
    works.push(Work::dense(tokens, inputs, width));
    works.into_iter().sum()
}

fn points(config: &PointTransformerConfig, features: usize, width: usize) -> Work {
    let k = config.neighbours;
    let mut works = Vec::new();
    let mut before = None;
    for (&n, &c) in config.points.iter().zip(&config.widths) {
        works.push(match before {
            Some(before) => Work::dense(n * k, 3 + before, c),
            None => Work::dense(n, features, c),
        });
        let groups = c / config.share.max(1);
        // Into the block and out of it, query, key, value.
        works.extend([Work::dense(5 * n, c, c)]);
        // Positions and weights of the neighbours, and the weighted sum.
        works.extend([Work::dense(n * k, 3, 3), Work::dense(n * k, 3, c), Work::dense(n * k, c, groups)]);
        works.extend([Work::dense(n * k, groups, groups), Work { products: n * k * c, made: 3 * n * k * c }]);
        before = Some(c);
    }
    works.push(Work::dense(
        config.points.last().copied().unwrap_or_default(),
        before.unwrap_or(features),
        width,
    ));
    works.into_iter().sum()
}

/// Gate and cross-modal attention of `rows` rows.
fn fusion(config: &NetworkConfig, core: &MmsenseConfig, sizes: Sizes, rows: usize) -> (Work, Work) {
    let d = config.width;
    let tokens = sizes.slots * MODALITIES * config.tokens();
    let inputs = MODALITIES * (d + 2);
    let gate = [Work::dense(rows * sizes.slots, inputs, d), Work::dense(rows * sizes.slots, d, MODALITIES)];
    let gate = if core.gate { gate.into_iter().sum() } else { Work::default() };
    let scores = rows * tokens * tokens;
    let attention = Work { products: 2 * scores * d, made: 3 * scores * core.heads };
    (gate, [Work::dense(4 * rows * tokens, d, d), attention].into_iter().sum())
}

/// The backbone over `rows` samples of `states` tokens and `asked` (sample, task) pairs.
fn backbone(config: &BackboneConfig, last: usize, rows: usize, states: usize, asked: usize) -> Work {
    let (h, inner) = (config.hidden_size, config.intermediate_size);
    let narrow = config.kv_heads * config.head_dim();
    let mut works = Vec::new();
    for layer in config.prefix()..=last {
        // Behind the last tap only the last token of a prompt is wanted.
        let text = asked * if layer == last { 1 } else { PROMPT };
        works.extend([
            Work::dense(2 * text, h, h),
            Work::dense(2 * text, h, inner),
            Work::dense(text, inner, h),
        ]);
        let seen = if config.cross_layers.contains(&layer) {
            works.push(Work::dense(2 * rows * states, h, narrow));
            states
        } else {
            works.push(Work::dense(2 * asked * PROMPT, h, narrow));
            PROMPT
        };
        works.push(Work { products: 2 * text * seen * h, made: 3 * text * seen * config.heads });
    }
    works.into_iter().sum()
}

impl NetworkConfig {
    /// What a network of this configuration is made of, for a unit of `sizes`.
    ///
    /// # Errors
    /// [`BuildError`] when its backbone's size is stated in a checkpoint alone, which cannot be read.
    pub fn describe(&self, sizes: Sizes) -> std::result::Result<Description, BuildError> {
        let chosen = self.backbone.as_ref().filter(|_| self.core.has_backbone());
        // A size that is stated needs no checkpoint to be looked at.
        let size = |choice: &BackboneChoice| choice.size.clone().map_or_else(|| choice.config(), Ok);
        let backbone_config = chosen.map(size).transpose()?;
        let taps = match (chosen.and_then(|choice| choice.taps.clone()), &backbone_config) {
            (Some(layers), Some(config)) => Some(Taps::new(config, layers)?),
            (None, Some(config)) => Some(Taps::spread(config, Taps::DEFAULT)),
            (_, None) => None,
        };
        let hidden = backbone_config
            .as_ref()
            .zip(taps.as_ref())
            .map(|(config, taps)| HiddenShape { taps: taps.layers().len(), width: config.hidden_size });
        let tensors = tensors(self, sizes, hidden)?;
        let (d, n_f) = (self.width, self.tokens());
        let of_unit = self.tasks.iter().filter(|task| task.is_of_unit()).count();
        let of_ue = self.tasks.len() - of_unit;
        let rows = usize::from(of_ue > 0) + of_unit;
        let sizes = Sizes { slots: self.slots_of(&self.tasks, sizes.slots), ..sizes };
        let states = sizes.slots * MODALITIES * n_f;
        let mut parts = Vec::new();
        let mut add = |name: &'static str, shape: String, work: Work| {
            let own = |tensor: &str| tensor.split('.').next() == Some(name);
            let is_frozen = |tensor: &str| {
                [RUNNING_MEAN, RUNNING_VARIANCE].iter().any(|end| tensor.ends_with(end))
                    || (matches!(self.core, CoreConfig::Llm4wm(_)) && tensor.starts_with(GPT2))
            };
            let (frozen, weights): (Vec<_>, Vec<_>) =
                tensors.iter().filter(|(tensor, _)| own(tensor)).partition(|(tensor, _)| is_frozen(tensor));
            let trained = count(weights.iter().map(|(_, shape)| *shape));
            let frozen = count(frozen.iter().map(|(_, shape)| *shape));
            parts.push(Part {
                name,
                shape,
                trained,
                frozen,
                bytes: 4 * (trained + frozen),
                flops: 2 * work.products as u64,
                activations: work.made as u64,
            });
        };
        let side = self.image_side();
        let image = format!("[3, {side}, {side}] → [{n_f}, {d}]");
        match &self.encoders {
            EncodersConfig::Points(encoders) => {
                add("image", image, resnet(&encoders.image, n_f, d));
                for (name, config, features) in
                    [("radar", &encoders.radar, RADAR_FEATURES), ("lidar", &encoders.lidar, LIDAR_FEATURES)]
                {
                    let first = config.points.first().copied().unwrap_or_default();
                    let last = config.points.last().copied().unwrap_or_default();
                    add(name, format!("[{first}, {features}] → [{last}, {d}]"), points(config, features, d));
                }
            }
            EncodersConfig::Maps(maps) => {
                add("image", image, map(&maps.map, 3, n_f, d));
                let side = maps.ground.side;
                for (name, features) in [("radar", RADAR_FEATURES), ("lidar", LIDAR_FEATURES)] {
                    let channels = grid::channels(features)?;
                    let shape = format!("[{channels}, {side}, {side}] → [{n_f}, {d}]");
                    add(name, shape, map(&maps.map, channels, n_f, d));
                }
            }
        }
        let link = [
            Work::dense(1, LINK_FEATURES, LINK_HIDDEN),
            Work::dense(1, LINK_HIDDEN, n_f * LINK_SHARE),
            Work::dense(n_f, LINK_SHARE, d),
        ];
        add("link", format!("[{LINK_FEATURES}] → [{n_f}, {d}]"), link.into_iter().sum());
        let position = [Work::dense(1, POSITION_FEATURES, d), Work::dense(1, d, n_f * d)].into_iter().sum();
        add("position", format!("[{POSITION_FEATURES}] → [{n_f}, {d}]"), position);
        add("norm", format!("[{n_f}, {d}] per modality"), Work::default());
        if self.report_prior && self.tasks.contains(&Task::Beam) {
            let shape = format!("[{LINK_FEATURES}] → beam {}", sizes.outputs(Task::Beam));
            add("prior", shape, prior(sizes));
        }
        match &self.core {
            CoreConfig::Mmsense(core) => {
                let (gate, attention) = fusion(self, core, sizes, rows);
                let modalities = format!("[{rows}, {}, {MODALITIES}]", sizes.slots);
                add("gate", format!("{modalities} weights"), gate);
                add("fusion", format!("[{rows}, {states}, {d}]"), attention);
                if let Some(config) = &backbone_config {
                    let h = config.hidden_size;
                    let inner = PROJECTOR * d;
                    let work = [Work::dense(rows * states, d, inner), Work::dense(rows * states, inner, h)]
                        .into_iter()
                        .sum();
                    add("projector", format!("[{rows}, {states}, {d}] → [{rows}, {states}, {h}]"), work);
                }
                let HiddenShape { taps: k, width: h } = hidden.unwrap_or(HiddenShape { taps: 1, width: d });
                let work = self.tasks.iter().map(|&task| reading(core, task, sizes, k, h)).sum();
                let outputs: Vec<String> =
                    self.tasks.iter().map(|&task| format!("{task} {}", sizes.outputs(task))).collect();
                add("tasks", format!("{k} × [{h}] → {}", outputs.join(", ")), work);
            }
            core => {
                let work = baseline(core, self.shape(sizes.slots), &self.tasks, sizes, rows);
                let outputs: Vec<String> =
                    self.tasks.iter().map(|&task| format!("{task} {}", sizes.outputs(task))).collect();
                add("core", format!("[{rows}, {states}, {d}] → {}", outputs.join(", ")), work);
            }
        }
        if let (Some(config), Some(taps), Some(choice)) = (&backbone_config, &taps, chosen) {
            let place = parts.len().saturating_sub(1);
            let asked = self.tasks.len();
            let work = backbone(config, taps.last(), rows, states, asked);
            let all = count(backbone_tensors(config, taps.last()).iter().map(|(_, shape)| shape));
            // What a checkpoint brings is adapted, if at all, by low rank; what is fresh is trained.
            let adapters = choice.lora.as_ref().map_or(0, |lora| adapter_numbers(lora, config, taps.last()));
            let frozen = choice.checkpoint.is_some() || choice.lora.is_some();
            let width = match choice.precision {
                Precision::F32 => 4,
                Precision::Bf16 => 2,
            };
            let shape = format!(
                "{asked} prompts, [{states}, {h}] → {k} × [{h}]",
                h = config.hidden_size,
                k = taps.layers().len()
            );
            parts.insert(
                place,
                Part {
                    name: "backbone",
                    shape,
                    trained: if frozen { adapters } else { all },
                    frozen: if frozen { all } else { 0 },
                    bytes: width * streamed(config, taps.last()),
                    flops: 2 * work.products as u64,
                    activations: work.made as u64,
                },
            );
        }
        let kept_bytes = 4 * (states * d) as u64;
        Ok(Description { name: self.name.clone(), parts, kept_bytes, rows })
    }
}

/// Numbers of a backbone that a frame needs: not the embedding, nor what depends on prompts alone.
fn streamed(config: &BackboneConfig, last: usize) -> u64 {
    let before =
        count(backbone_tensors(config, config.prefix().saturating_sub(1)).iter().map(|(_, shape)| shape));
    let all = count(backbone_tensors(config, last).iter().map(|(_, shape)| shape));
    all - before
}

/// An encoder of maps of so many channels.
fn map(config: &MapConfig, channels: usize, tokens: usize, width: usize) -> Work {
    match config {
        MapConfig::Flat(flat) => {
            let inputs = channels * flat.side * flat.side;
            [Work::dense(1, inputs, flat.hidden), Work::dense(1, flat.hidden, tokens * width)]
                .into_iter()
                .sum()
        }
        MapConfig::Cnn(cnn) => {
            let (mut side, mut inputs) = (cnn.side, channels);
            let mut works = Vec::new();
            for &outputs in &cnn.channels {
                side = side.div_ceil(2);
                works.push(Work::dense(side * side, 9 * inputs, outputs));
                inputs = outputs;
            }
            works.push(Work::dense(tokens, inputs, width));
            works.into_iter().sum()
        }
        MapConfig::Patches(patches) => {
            Work::dense(tokens, channels * patches.side * patches.side / tokens.max(1), width)
        }
    }
}

/// A baseline's core over `rows` rows.
fn baseline(core: &CoreConfig, shape: TokenShape, tasks: &[Task], sizes: Sizes, rows: usize) -> Work {
    let outputs = |hidden: usize| tasks.iter().map(move |&task| Work::dense(1, hidden, sizes.outputs(task)));
    let (length, d) = (shape.length(), shape.width);
    match core {
        CoreConfig::Mmsense(_) => Work::default(),
        CoreConfig::Mlp(mlp) => {
            let window = Work::dense(tasks.len(), length * d + 2 * shape.samples(), mlp.hidden);
            outputs(mlp.hidden).chain([window]).sum()
        }
        CoreConfig::Cnn(cnn) => {
            let mut inputs = shape.modalities * (d + 2);
            let mut works = Vec::new();
            for &channels in &cnn.channels {
                works.push(Work::dense(rows * shape.slots, 3 * inputs, channels));
                inputs = channels;
            }
            works.into_iter().chain([Work::dense(tasks.len(), inputs, inputs)]).chain(outputs(inputs)).sum()
        }
        CoreConfig::Transformer(transformer) => {
            let TransformerConfig { layers, heads, hidden } = transformer;
            let scores = rows * length * length;
            let layer = [
                Work::dense(4 * rows * length, d, d),
                Work { products: 2 * scores * d, made: 3 * scores * heads },
                Work::dense(rows * length, d, *hidden),
                Work::dense(rows * length, *hidden, d),
            ];
            let layers = std::iter::repeat_n(layer, *layers).flatten();
            layers.chain([Work::dense(tasks.len(), d, d)]).chain(outputs(d)).sum()
        }
        CoreConfig::Llm4wm(llm) => {
            // One pass per task: each has its own adapters and its own mixture of experts.
            let (wide, rows, length) = (llm.backbone.width, tasks.len(), llm.seen(shape).length());
            let scores = rows * length * length;
            let (experts, rank) = (llm.lora.experts, llm.lora.rank);
            let lora =
                |inputs: usize, outputs: usize| Work::dense(rows * length, inputs + outputs, experts * rank);
            let layer = [
                Work::dense(4 * rows * length, wide, wide),
                Work { products: 2 * scores * wide, made: 3 * scores * llm.backbone.heads },
                Work::dense(8 * rows * length, wide, wide),
                lora(wide, wide),
                lora(wide, 4 * wide),
                lora(4 * wide, wide),
            ];
            let layers = std::iter::repeat_n(layer, llm.backbone.layers).flatten();
            // Two adapters of two stacks of residual blocks of two convolutions, tokens as channels.
            let convs = 2 * 2 * llm.blocks * 2;
            let adapters = Work::dense(rows * convs * wide, 3 * length, length);
            layers.chain([adapters, Work::dense(rows * length, d, wide)]).chain(outputs(length * wide)).sum()
        }
    }
}

/// The chain and the head of one task.
fn reading(core: &MmsenseConfig, task: Task, sizes: Sizes, taps: usize, hidden: usize) -> Work {
    let w = core.task_width;
    let mut works = Vec::new();
    if w > 0 {
        for tap in 0..taps {
            let inputs = if tap == 0 { hidden } else { w + hidden };
            works.extend([Work::dense(1, inputs, w), Work::dense(1, w, inputs), Work::dense(1, inputs, w)]);
        }
    }
    let width = if w > 0 { w } else { hidden };
    works.extend([Work::dense(1, width, width), Work::dense(1, width, sizes.outputs(task))]);
    works.into_iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::backbone::{Backbone, Held, RopeConfig};

    #[test]
    fn a_backbone_has_the_tensors_that_it_asks_for() {
        let config = BackboneConfig {
            embeddings: 24,
            hidden_size: 16,
            intermediate_size: 20,
            layers: 5,
            cross_layers: vec![1, 3],
            heads: 4,
            kv_heads: 2,
            rms_norm_eps: 1e-5,
            rope: RopeConfig { theta: 1e4, scaling: None },
        };
        for (taps, held) in [(vec![4], Held::ToLastTap), (vec![1, 2], Held::ToLastTap)] {
            let asked: Arc<Mutex<BTreeMap<String, Vec<usize>>>> = Arc::default();
            let vb =
                VarBuilder::from_backend(Box::new(Counting(Arc::clone(&asked))), DType::F32, Device::Cpu);
            let taps = Taps::new(&config, taps).unwrap();
            Backbone::load_part(&config, &taps, held, &vb, None).unwrap();
            let told: BTreeMap<String, Vec<usize>> =
                backbone_tensors(&config, taps.last()).into_iter().collect();
            assert_eq!(told, *asked.lock().unwrap());
        }
    }
}
