//! The core of MMSense: gate, cross-modal attention, backbone, task-specific attention, heads (Eq. 8–13).

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::backbone::{Backbone, Prepared};
use super::config::Problems;
use super::fusion::{Fusion, Tokens};
use super::gate::Gate;
use super::heads::{Head, mean_token};
use super::layers::{Mlp, Mode, check_finite};
use super::task_attention::TaskAttention;
use super::tasks::{Asked, Core, Said, Task, TokenShape};

/// Width of the projector's inner layer, in widths of a token.
pub(super) const PROJECTOR: usize = 2;

/// The size of the core, beside its backbone's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MmsenseConfig {
    /// Heads of the cross-modal attention.
    pub heads: usize,
    /// Whether modalities are weighed (Eq. 8); if not, w_m = 1/D: the paper's "w/o gating".
    #[serde(default = "yes")]
    pub gate: bool,
    /// Width of a task's vector z_k (Eq. 12–13); 0: its head reads the backbone's last tap, the paper's "w/o task
    /// attention".
    pub task_width: usize,
}

const fn yes() -> bool {
    true
}

impl MmsenseConfig {
    /// Adds what is wrong with it, for tokens of `width`.
    pub fn check(&self, width: usize, problems: &mut Problems) {
        problems.within("core.heads", self.heads, 1, 256);
        problems.within("core.task_width", self.task_width, 0, 8192);
        if !width.is_multiple_of(self.heads.max(1)) {
            problems
                .add("core.heads", format!("found {}, allowed are divisors of width = {width}", self.heads));
        }
    }
}

/// The hidden states that tasks read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HiddenShape {
    /// K, layers that are tapped.
    pub taps: usize,
    /// Width of a hidden state.
    pub width: usize,
}

/// What reads the hidden states of one task.
#[derive(Clone, Debug)]
struct Reader {
    attention: Option<TaskAttention>,
    head: Head,
    /// Its prompt among those of the backbone.
    prompt: u32,
}

/// The core on a device.
#[derive(Clone, Debug)]
pub struct Mmsense {
    gate: Option<Gate>,
    fusion: Fusion,
    /// From the tokens' width to the backbone's, two layers as in LLaVA-1.5 (Liu et al., CVPR 2024): attention is linear in
    /// what it looks at. `None`: the mean fused token stands for a hidden state.
    projector: Option<Mlp>,
    backbone: Option<(Backbone, Prepared)>,
    readers: BTreeMap<Task, Reader>,
}

impl Mmsense {
    /// Loads the core for the hidden states of a backbone, which [`Self::with_backbone`] puts in its place; without
    /// one the mean fused token stands for a hidden state (the ablation "w/o backbone"). `ordered` says of each modality
    /// whether its tokens are in an order ([`Fusion::load`]).
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(
        config: &MmsenseConfig,
        shape: TokenShape,
        ordered: &[bool],
        tasks: &[(Task, usize)],
        hidden: Option<HiddenShape>,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let TokenShape { modalities, width, .. } = shape;
        let projector = hidden
            .map(|hidden| Mlp::load(width, PROJECTOR * width, hidden.width, &vb.pp("projector")))
            .transpose()?;
        let HiddenShape { taps, width: hidden } = hidden.unwrap_or(HiddenShape { taps: 1, width });
        let readers = tasks.iter().zip(0u32..).map(|(&(task, outputs), prompt)| {
            let vb = vb.pp("tasks").pp(task.name());
            let attention = (config.task_width > 0)
                .then(|| TaskAttention::load(taps, hidden, config.task_width, &vb.pp("attention")))
                .transpose()?;
            let width = if attention.is_some() { config.task_width } else { hidden };
            Ok((task, Reader { attention, head: Head::load(width, outputs, &vb.pp("head"))?, prompt }))
        });
        Ok(Self {
            gate: config.gate.then(|| Gate::load(modalities, width, &vb.pp("gate"))).transpose()?,
            fusion: Fusion::load(shape, ordered, config.heads, &vb.pp("fusion"))?,
            projector,
            backbone: None,
            readers: readers.collect::<Result<_>>()?,
        })
    }

    /// The core with its backbone, prepared for the prompts of its tasks in their order.
    #[must_use]
    pub fn with_backbone(self, backbone: Backbone, prepared: Prepared) -> Self {
        Self { backbone: Some((backbone, prepared)), ..self }
    }

    /// Eq. 8: weights `[R, W, D]`.
    fn weigh(&self, tokens: &Tokens) -> Result<Tensor> {
        let (rows, slots, modalities, count, width) = tokens.values.dims5()?;
        let Some(gate) = &self.gate else {
            return tokens.ages.ones_like()? / modalities as f64;
        };
        // The gate works per frame: [R·W, D, …]
        let mask = tokens.mask.reshape((rows * slots * modalities, count))?;
        let flat = tokens.values.reshape((rows * slots * modalities, count, width))?;
        let means = mean_token(&flat, &mask)?.reshape((rows * slots, modalities, width))?;
        let present = mask.max(1)?.reshape((rows * slots, modalities))?;
        let ages = tokens.ages.reshape((rows * slots, modalities))?;
        gate.forward(&means, &ages, &present)?.reshape((rows, slots, modalities))
    }

    /// The hidden states of every row that is asked for, task after task: `[Σ rows, hidden]` per tap.
    fn hidden(&self, fused: &Tensor, mask: &Tensor, asked: &[(u32, u32)], mode: Mode) -> Result<Vec<Tensor>> {
        if let Some(projector) = &self.projector {
            let Some((backbone, prepared)) = &self.backbone else {
                candle_core::bail!("the core was loaded for a backbone and has none");
            };
            let states = backbone.states(&projector.forward(fused)?, Some(mask), mode)?;
            return backbone.taps(prepared, &states, asked, mode);
        }
        let rows: Vec<u32> = asked.iter().map(|(row, _)| *row).collect();
        let rows = Tensor::from_vec(rows, asked.len(), fused.device())?;
        Ok(vec![mean_token(fused, mask)?.index_select(&rows, 0)?])
    }
}

impl Core for Mmsense {
    fn forward(&self, tokens: &Tokens, asked: &Asked, mode: Mode) -> Result<Said> {
        let slots = tokens.mask.dim(1)?;
        let tokens = tokens.without_empty_slots()?;
        let weights = self.weigh(&tokens)?;
        let (fused, mask) = self.fusion.forward(&tokens, &weights)?;
        let mut pairs = Vec::new();
        let mut readers = Vec::new();
        for (task, rows) in asked.iter().filter(|(_, rows)| !rows.is_empty()) {
            let Some(reader) = self.readers.get(task) else {
                candle_core::bail!("the network was built without the task `{task}`");
            };
            pairs.extend(rows.iter().map(|row| (*row, reader.prompt)));
            readers.push((*task, reader, rows.len()));
        }
        let mut tasks = BTreeMap::new();
        if !pairs.is_empty() {
            let hidden = self.hidden(&fused, &mask, &pairs, mode)?;
            if mode == Mode::Infer {
                hidden.iter().try_for_each(|hidden| check_finite(hidden, "hidden states"))?;
            }
            let mut from = 0;
            for (task, reader, count) in readers {
                let own = hidden.iter().map(|hidden| hidden.narrow(0, from, count));
                let own = own.collect::<Result<Vec<Tensor>>>()?;
                from += count;
                let state = match (&reader.attention, own.last()) {
                    (Some(attention), _) => attention.forward(&own, mode)?,
                    (None, Some(last)) => last.clone(),
                    (None, None) => candle_core::bail!("the backbone has no tap"),
                };
                tasks.insert(task, reader.head.forward(&state, mode)?);
            }
        }
        let gate = self.gate.as_ref().map(|_| {
            let empty = slots - weights.dim(1)?;
            weights.pad_with_zeros(1, empty, 0)
        });
        Ok(Said { tasks, gate: gate.transpose()? })
    }
}
