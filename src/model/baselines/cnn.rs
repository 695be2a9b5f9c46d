//! The CNN baseline: convolutions along the slots of a window.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use serde::{Deserialize, Serialize};

use super::conv::Conv3;
use super::{Parts, Problems, Window, ask, parts};
use crate::model::fusion::Tokens;
use crate::model::heads::Head;
use crate::model::layers::{BatchNorm, Mode};
use crate::model::tasks::{Asked, Core, Said, Task, TokenShape};

/// Size of the CNN baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CnnConfig {
    /// Channels of each convolution along the slots, one after the other.
    pub channels: Vec<usize>,
}

impl Default for CnnConfig {
    fn default() -> Self {
        Self { channels: vec![256, 256] }
    }
}

impl CnnConfig {
    fn check(&self) -> Problems {
        let mut problems = Problems::default();
        problems.within("channels", self.channels.len(), 1, 16);
        for &channels in &self.channels {
            problems.within("channels", channels, 1, 8192);
        }
        problems
    }

    /// What is wrong with it: key and what was found and allowed.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        self.check().0
    }
}

/// The tokens of every sample, its presence and its age are the channels of a slot: where a token stands on the map is
/// which channel it is. Convolutions of three slots, each with a batch norm and a rectifier, and a [`Head`] per task over
/// all slots.
#[derive(Clone, Debug)]
pub struct Cnn {
    shape: TokenShape,
    convs: Vec<(Conv3, BatchNorm)>,
    heads: Parts<Head>,
}

impl Cnn {
    /// Loads a core for `tasks` with their numbers of outputs (`conv0`, without a bias, `norm0`, …, `head.task`).
    ///
    /// # Errors
    /// When the configuration has a problem, or a tensor is missing or has another shape.
    pub fn load(
        config: &CnnConfig,
        shape: TokenShape,
        tasks: &[(Task, usize)],
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        config.check().refuse("the CNN")?;
        let mut inputs = shape.modalities * (shape.tokens * shape.width + 2);
        let mut convs = Vec::with_capacity(config.channels.len());
        for (number, &channels) in config.channels.iter().enumerate() {
            let conv = Conv3::load(inputs, channels, false, &vb.pp(format!("conv{number}")))?;
            convs.push((conv, BatchNorm::load(channels, &vb.pp(format!("norm{number}")))?));
            inputs = channels;
        }
        let heads =
            parts(tasks, |task, outputs| Head::load(shape.slots * inputs, outputs, &vb.pp("head").pp(task)))?;
        Ok(Self { shape, convs, heads })
    }
}

impl Core for Cnn {
    fn forward(&self, tokens: &Tokens, asked: &Asked, mode: Mode) -> Result<Said> {
        let window = Window::new(tokens, &self.shape)?;
        let TokenShape { slots, modalities, tokens: count, width } = self.shape;
        let flat = window.values.reshape(((), slots, modalities, count * width))?;
        let channels = [&flat, &window.present.unsqueeze(3)?, &window.ages.unsqueeze(3)?];
        // [R, W, D·(n_f·d + 2)]
        let mut x = Tensor::cat(&channels, 3)?.flatten_from(2)?;
        for (conv, norm) in &self.convs {
            x = norm.rectified(&conv.forward(&x)?, mode)?;
        }
        let state = x.flatten_from(1)?; // [R, W·channels]
        let say = |_, head: &Head, rows: &Tensor| head.forward(&state.index_select(rows, 0)?, mode);
        ask("CNN", &self.heads, asked, &state, say)
    }
}
