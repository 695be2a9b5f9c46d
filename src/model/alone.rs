//! Heads that read one input each, to train its encoder before anything is fused.
//!
//! Beside a position, an encoder whose reading says the same in a harder way is let go of by the gate before it says
//! anything; heads of its own give it a gradient, whatever the others tell. They are cheap, and thrown away afterwards.

use std::collections::BTreeMap;

use candle_core::{DType, Result, Tensor};
use candle_nn::VarBuilder;

use super::Input;
use super::config::NetworkConfig;
use super::fusion::Tokens;
use super::heads::mean_token;
use super::layers::{Dense, Mode};
use super::tasks::{Asked, Core, Said, Sizes, Task, TokenShape};

/// Prefix of its parameters.
pub const PREFIX: &str = "alone";

/// Whether a parameter is one of its.
#[must_use]
pub fn is_of(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether a parameter is the bias of a task's scores.
#[must_use]
pub fn is_last_bias(name: &str, task: Task) -> bool {
    let of_task =
        name.strip_prefix(PREFIX).and_then(|name| name.strip_prefix('.')?.strip_prefix(task.name()));
    of_task.is_some_and(|name| name.starts_with('.') && name.ends_with(".second.bias"))
}

/// Width of the layer between the tokens of an input and its scores.
const HIDDEN: usize = 256;

/// For each input and task, two dense layers over the tokens of the present slot. A row's scores are the mean of those of
/// the inputs that it sees: of a row that sees one, the scores of that one alone.
#[derive(Clone, Debug)]
pub struct Alone {
    shape: TokenShape,
    heads: BTreeMap<Task, Vec<Head>>,
}

/// What one task reads off one input.
#[derive(Clone, Debug)]
struct Head {
    first: Dense,
    second: Dense,
    /// Whether its tokens are points in no order, which the first layer takes one by one: their mean goes on (Zaheer et
    /// al., Deep Sets, NeurIPS 2017).
    is_set: bool,
}

impl Head {
    /// Tokens `[R, n_f, d]`, zero where `mask` `[R, n_f]` is, to scores `[R, outputs]`.
    fn forward(&self, tokens: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let hidden = if self.is_set {
            mean_token(&self.first.forward(tokens)?.relu()?, mask)?
        } else {
            self.first.forward(&tokens.flatten_from(1)?)?.relu()?
        };
        self.second.forward(&hidden)
    }
}

impl Alone {
    /// Loads heads for a network's tasks, with fresh parameters `task.input.first` and `task.input.second`.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(config: &NetworkConfig, sizes: Sizes, vb: &VarBuilder<'_>) -> Result<Self> {
        let shape = config.shape(sizes.slots);
        let ordered = config.ordered();
        let head = |task: Task, input: Input| {
            let is_set = ordered.get(input.place()) == Some(&false);
            let inputs = if is_set { shape.width } else { shape.tokens * shape.width };
            let vb = vb.pp(task.name()).pp(input.name());
            let first = Dense::load(inputs, HIDDEN, true, &vb.pp("first"))?;
            let second = Dense::load(HIDDEN, sizes.outputs(task), true, &vb.pp("second"))?;
            Ok(Head { first, second, is_set })
        };
        let of_task = |&task: &Task| {
            Ok((task, Input::ALL.iter().map(|&input| head(task, input)).collect::<Result<_>>()?))
        };
        Ok(Self { shape, heads: config.tasks.iter().map(of_task).collect::<Result<_>>()? })
    }
}

impl Core for Alone {
    fn forward(&self, tokens: &Tokens, asked: &Asked, _: Mode) -> Result<Said> {
        let slots = tokens.mask.dim(1)?;
        TokenShape { slots, ..self.shape }.rows(tokens)?;
        let last = |x: &Tensor| x.narrow(1, slots - 1, 1)?.squeeze(1);
        let (values, mask) = (last(&tokens.values)?, last(&tokens.mask)?);
        let values = values.broadcast_mul(&mask.unsqueeze(3)?)?;
        // [R, D]
        let present = mask.max(2)?;
        let weights = present.broadcast_div(&present.sum_keepdim(1)?.maximum(1.0)?)?;
        let there: Vec<f32> = present.max(0)?.to_dtype(DType::F32)?.to_vec1()?;
        let mut said = BTreeMap::new();
        for (&task, wanted) in asked.iter().filter(|(_, rows)| !rows.is_empty()) {
            let Some(heads) = self.heads.get(&task) else {
                candle_core::bail!("the heads were built without the task `{task}`");
            };
            let wanted = Tensor::new(wanted.as_slice(), values.device())?;
            let mut scores: Option<Tensor> = None;
            for (input, head) in heads.iter().enumerate().filter(|(input, _)| there.get(*input) > Some(&0.0))
            {
                let of_input =
                    |x: &Tensor| x.narrow(1, input, 1)?.squeeze(1)?.contiguous()?.index_select(&wanted, 0);
                let own = head.forward(&of_input(&values)?, &of_input(&mask)?)?;
                let own = own.broadcast_mul(&of_input(&weights)?.unsqueeze(1)?)?;
                scores = Some(match scores {
                    None => own,
                    Some(scores) => (scores + own)?,
                });
            }
            let Some(scores) = scores else { candle_core::bail!("no row sees anything") };
            said.insert(task, scores);
        }
        Ok(Said { tasks: said, gate: None })
    }
}
