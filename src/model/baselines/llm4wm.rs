//! LLM4WM (Liu et al., "LLM4WM: Adapting LLM for Wireless Multi-Tasking", arXiv 2501.12983) on the tokens of
//! MMSense's encoders: adapters of each task around a frozen GPT-2 whose dense layers have a mixture of LoRA
//! experts.
//!
//! ```text
//! tokens ─▶ input adapter of the task ─▶ GPT-2, experts mixed for the task ─▶ output adapter ─▶ Linear
//! ```
//!
//! Its own tokens have neither gaps nor ages; here both stand beside each token's numbers before the first
//! Linear. The dropouts inside GPT-2 are left out: it is frozen.

use std::path::PathBuf;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::conv::Conv3;
use super::gpt2::{Gpt2, Gpt2Config, Route};
use super::moe_lora::{LayerExperts, MoeLoraConfig};
use super::{Parts, Problems, Window, ask, parts};
use crate::model::fusion::Tokens;
use crate::model::layers::{Dense, LayerNorm, Mode};
use crate::model::tasks::{Asked, Core, Said, Task, TokenShape};

/// Size of the LLM4WM baseline; by default that of its published code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Llm4WmConfig {
    /// GPT-2.
    pub backbone: Gpt2Config,
    /// A safetensors file with GPT-2's weights; without one they are those of the checkpoint, or fresh.
    pub gpt2: Option<PathBuf>,
    /// Experts beside its dense layers.
    pub lora: MoeLoraConfig,
    /// Residual blocks in each of the two stacks of an adapter.
    pub blocks: usize,
    /// Tokens of each reading that it sees, each the mean of as many that follow each other; left out, all. What its adapters
    /// cost goes by the square of the tokens of a window.
    pub tokens: Option<usize>,
}

impl Default for Llm4WmConfig {
    fn default() -> Self {
        Self {
            backbone: Gpt2Config::default(),
            gpt2: None,
            lora: MoeLoraConfig::default(),
            blocks: 2,
            tokens: None,
        }
    }
}

impl Llm4WmConfig {
    /// The tokens that it sees, of such tokens.
    #[must_use]
    pub fn seen(&self, shape: TokenShape) -> TokenShape {
        TokenShape { tokens: self.tokens.unwrap_or(shape.tokens), ..shape }
    }

    fn check(&self, shape: &TokenShape) -> Problems {
        let mut problems = Problems::default();
        if let Some(tokens) = self.tokens {
            problems.divides("tokens", tokens, "tokens of a reading", shape.tokens);
        }
        let shape = self.seen(*shape);
        self.backbone.check(&mut problems);
        self.lora.check(&mut problems);
        problems.within("blocks", self.blocks, 1, 16);
        if shape.length() > self.backbone.positions {
            let (found, positions) = (shape.length(), self.backbone.positions);
            let message = format!("found {positions}, allowed is at least the {found} tokens of a window");
            problems.0.push(("backbone.positions".to_owned(), message));
        }
        problems
    }

    /// What is wrong with it, for tokens of that shape: key and what was found and allowed.
    #[must_use]
    pub fn problems(&self, shape: &TokenShape) -> Vec<(String, String)> {
        self.check(shape).0
    }
}

/// The two stages of LLM4WM's training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Adapters and heads, around a GPT-2 to which fresh experts add nothing.
    Adapters,
    /// The experts too.
    Experts,
}

/// Prefix of the backbone's tensors.
const BACKBONE: &str = "gpt2";
/// Prefix of the experts' tensors.
const EXPERTS: &str = "lora";
/// Prefix of the adapters' tensors.
const ADAPTERS: &str = "adapter";
/// Prefix of the heads' tensors.
const HEADS: &str = "head";

impl Stage {
    /// Whether a tensor of the core, by its name within it, is trained from this stage on; the backbone's are
    /// frozen and are never.
    ///
    /// # Errors
    /// When no tensor of this core is called so.
    pub fn of(name: &str) -> Result<Option<Self>> {
        match name.split('.').next() {
            Some(BACKBONE) => Ok(None),
            Some(ADAPTERS | HEADS) => Ok(Some(Self::Adapters)),
            Some(EXPERTS) => Ok(Some(Self::Experts)),
            _ => candle_core::bail!(
                "tensor of LLM4WM: found `{name}`, allowed are those of {BACKBONE}, {ADAPTERS}, {HEADS}, {EXPERTS}"
            ),
        }
    }

    /// Whether this stage trains a tensor of the core, by its name within it. A name that is none of the
    /// core's is not trained.
    #[must_use]
    pub fn trains(self, name: &str) -> bool {
        matches!(Self::of(name), Ok(Some(first)) if first <= self)
    }
}

/// y = x + W₂ ∗ relu(W₁ ∗ x), convolutions of three taps along the width whose channels are the tokens.
#[derive(Clone, Debug)]
struct Residual {
    first: Conv3,
    second: Conv3,
}

impl Residual {
    fn load(tokens: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            first: Conv3::load(tokens, tokens, true, &vb.pp("linear1"))?,
            second: Conv3::load(tokens, tokens, true, &vb.pp("linear2"))?,
        })
    }

    /// `[R, w, T]` to the same.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x + self.second.forward(&self.first.forward(x)?.relu()?)?
    }
}

/// A Linear to the backbone's width, two stacks of [`Residual`] blocks with a rectifier between, and a norm.
#[derive(Clone, Debug)]
struct Adapter {
    projection: Dense,
    stacks: [Vec<Residual>; 2],
    norm: LayerNorm,
}

impl Adapter {
    fn load(inputs: usize, width: usize, tokens: usize, blocks: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let stack = |name: &str| -> Result<Vec<Residual>> {
            (0..blocks).map(|block| Residual::load(tokens, &vb.pp(name).pp(block))).collect()
        };
        Ok(Self {
            projection: Dense::load(inputs, width, true, &vb.pp("projection"))?,
            stacks: [stack("stack1")?, stack("stack2")?],
            norm: LayerNorm::load(width, &vb.pp("norm"))?,
        })
    }

    /// `[R, T, inputs]` to `[R, T, w]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [first, second] = &self.stacks;
        // [R, T, w] → [R, w, T]: the tokens are the channels.
        let x = self.projection.forward(x)?.transpose(1, 2)?.contiguous()?;
        let x = first.iter().try_fold(x, |x, block| block.forward(&x))?.relu()?;
        let x = second.iter().try_fold(x, |x, block| block.forward(&x))?;
        self.norm.forward(&x.transpose(1, 2)?.contiguous()?)
    }
}

/// What belongs to one task.
#[derive(Clone, Debug)]
struct OfTask {
    input: Adapter,
    output: Adapter,
    head: Dense,
}

/// The LLM4WM baseline.
#[derive(Clone, Debug)]
pub struct Llm4Wm {
    /// Of the tokens that it is given, and of those that it sees.
    shape: TokenShape,
    seen: TokenShape,
    backbone: Gpt2,
    experts: Vec<LayerExperts>,
    parts: Parts<OfTask>,
}

impl Llm4Wm {
    /// Loads a core for `tasks` with their numbers of outputs: `gpt2` (unless the configuration names a
    /// file), `lora.h.N`, `adapter.task.input`, `adapter.task.output` and `head.task`.
    ///
    /// # Errors
    /// When the configuration has a problem, GPT-2's file cannot be read, or a tensor is missing or has
    /// another shape.
    pub fn load(
        config: &Llm4WmConfig,
        shape: TokenShape,
        tasks: &[(Task, usize)],
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        config.check(&shape).refuse("LLM4WM")?;
        let seen = config.seen(shape);
        let (width, length, blocks) = (config.backbone.width, seen.length(), config.blocks);
        let backbone = match &config.gpt2 {
            Some(path) => Gpt2::load_file(&config.backbone, path, vb)?,
            None => Gpt2::load(&config.backbone, &vb.pp(BACKBONE))?,
        };
        let names = tasks.iter().map(|&(task, _)| task);
        let experts = (0..config.backbone.layers).map(|layer| {
            let vb = vb.pp(EXPERTS).pp("h").pp(layer);
            LayerExperts::load(&config.lora, width, names.clone(), &vb)
        });
        let parts = parts(tasks, |task, outputs| {
            let adapter = |inputs: usize, name: &str| {
                Adapter::load(inputs, width, length, blocks, &vb.pp(ADAPTERS).pp(task).pp(name))
            };
            Ok(OfTask {
                // A token, whether it is there, and its age.
                input: adapter(shape.width + 2, "input")?,
                output: adapter(width, "output")?,
                head: Dense::load(length * width, outputs, true, &vb.pp(HEADS).pp(task))?,
            })
        })?;
        Ok(Self { shape, seen, backbone, experts: experts.collect::<Result<_>>()?, parts })
    }
}

impl Core for Llm4Wm {
    fn forward(&self, tokens: &Tokens, asked: &Asked, mode: Mode) -> Result<Said> {
        let window = Window::new(tokens, &self.shape)?.thinned(self.seen.tokens)?;
        let mask = window.mask.unsqueeze(4)?; // [R, W, D, n_f, 1]
        let ages = window.ages.unsqueeze(3)?.unsqueeze(4)?.broadcast_mul(&mask)?;
        // [R, W, D, n_f, d + 2] → [R, T, d + 2]
        let inputs = Tensor::cat(&[&window.values, &mask, &ages], 4)?;
        let inputs = inputs.reshape(((), self.seen.length(), self.seen.width + 2))?;
        ask("LLM4WM", &self.parts, asked, &inputs, |task, part, rows| {
            let x = part.input.forward(&inputs.index_select(rows, 0)?)?;
            let x = self.backbone.forward(&x, Some(Route { experts: &self.experts, task, mode }))?;
            part.head.forward(&part.output.forward(&x)?.flatten_from(1)?)
        })
    }
}
