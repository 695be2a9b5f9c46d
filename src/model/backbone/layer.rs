//! The layers: self-attention over the text, or gated cross-attention to the sensors, each with its MLP.

use candle_core::{DType, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::config::BackboneConfig;
use super::norm::RmsNorm;
use super::ops::{self, Split};
use super::projection::Projection;
use super::rope::Rotation;
use crate::model::layers::Mode;
use crate::model::lora::Adapters;

/// Gates of fresh cross layers: at this family's 0 a backbone without pretrained weights would ignore the sensors.
const FRESH_GATE: f64 = 0.5;

/// Sizes of the heads.
#[derive(Clone, Copy, Debug)]
struct Heads {
    queries: usize,
    keys: usize,
    dim: usize,
}

impl Heads {
    const fn of(config: &BackboneConfig) -> Self {
        Self { queries: config.heads, keys: config.kv_heads, dim: config.head_dim() }
    }

    fn scale(self) -> f64 {
        1.0 / (self.dim as f64).sqrt()
    }
}

/// Where text stands and what it may look at.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) rotation: Rotation,
    /// Additive, `[B or 1, T, T]`.
    pub(super) mask: Tensor,
}

/// The one token of each row that is wanted of the last layer.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    /// Its place among the tokens of all rows, `[R]`.
    pub(super) places: Tensor,
    /// The rotation of its position and what it may look at, `[R, 1, ..]`.
    pub(super) text: Text,
}

impl Tail {
    /// `[R, T, width]` to `[R, 1, width]`.
    pub(super) fn of(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, length, width) = x.dims3()?;
        x.reshape((rows * length, width))?.index_select(&self.places, 0)?.reshape((rows, 1, width))
    }
}

/// What one cross layer sees of the sensors.
#[derive(Clone, Debug)]
pub(super) struct KeysValues {
    /// `[S, kv_heads, head_dim, N]`
    pub(super) keys: Tensor,
    /// `[S, kv_heads, N, head_dim]`
    pub(super) values: Tensor,
}

/// What the rows of a pass see of the sensors in all cross layers.
#[derive(Clone, Debug)]
pub(super) struct Sensors {
    /// Rows per sample: the rows of a pass are sorted by sample.
    pub(super) per_sample: usize,
    /// Additive, `[S, 1, N]`.
    pub(super) mask: Option<Tensor>,
    /// `[R, 1, 1]`: 0 where no token of a row's sample counts, else 1.
    pub(super) rows: Option<Tensor>,
}

/// down(silu(gate) · up).
#[derive(Clone, Debug)]
struct Mlp {
    gate_up: Projection,
    down: Projection,
}

impl Mlp {
    fn load(
        config: &BackboneConfig,
        module: &str,
        vb: &VarBuilder<'_>,
        adapters: Option<&Adapters>,
    ) -> Result<Self> {
        let (hidden, inside) = (config.hidden_size, config.intermediate_size);
        let (module, vb) = (format!("{module}.mlp"), vb.pp("mlp"));
        let parts = [("gate_proj", inside), ("up_proj", inside)];
        Ok(Self {
            gate_up: Projection::load(&parts, hidden, &module, &vb, adapters)?,
            down: Projection::load(&[("down_proj", hidden)], inside, &module, &vb, adapters)?,
        })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.down.forward(&ops::swiglu(&self.gate_up.forward(x, mode)?)?, mode)
    }

    fn is_trained(&self) -> bool {
        self.gate_up.is_trained() || self.down.is_trained()
    }
}

/// Scaled dot-product attention: queries `[B, KV, M, D]`, keys `[B, KV, D, N]`, values `[B, KV, N, D]` to `[B, KV, M, D]`.
/// The M queries of a group are runs of `length` tokens; `mask` is `[B or 1, length or 1, N]`.
fn attend(
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    length: usize,
    mask: Option<&Tensor>,
    scale: f64,
) -> Result<Tensor> {
    let scores = queries.matmul(keys)?;
    let (batch, groups, rows, count) = scores.dims4()?;
    let weights = scores.reshape((batch, groups * rows / length, length, count))?;
    let weights = ops::softmax(&weights, scale, mask)?.reshape((batch, groups, rows, count))?;
    weights.matmul(values)
}

/// `[R, H, T, D]` to `[R, T, H·D]`.
fn merge_heads(x: &Tensor) -> Result<Tensor> {
    let (rows, heads, length, dim) = x.dims4()?;
    x.transpose(1, 2)?.contiguous()?.reshape((rows, length, heads * dim))
}

/// A layer over the text.
#[derive(Clone, Debug)]
pub(super) struct SelfLayer {
    heads: Heads,
    input_norm: RmsNorm,
    /// Queries, keys, values.
    projection: Projection,
    output: Projection,
    post_norm: RmsNorm,
    mlp: Mlp,
}

impl SelfLayer {
    pub(super) fn load(
        config: &BackboneConfig,
        module: &str,
        vb: &VarBuilder<'_>,
        adapters: Option<&Adapters>,
    ) -> Result<Self> {
        let (heads, hidden) = (Heads::of(config), config.hidden_size);
        let (attention, own) = (vb.pp("self_attn"), format!("{module}.self_attn"));
        let keys = heads.keys * heads.dim;
        let parts = [("q_proj", hidden), ("k_proj", keys), ("v_proj", keys)];
        Ok(Self {
            heads,
            input_norm: RmsNorm::load(hidden, config.rms_norm_eps, &vb.pp("input_layernorm"))?,
            projection: Projection::load(&parts, hidden, &own, &attention, adapters)?,
            output: Projection::load(&[("o_proj", hidden)], hidden, &own, &attention, adapters)?,
            post_norm: RmsNorm::load(hidden, config.rms_norm_eps, &vb.pp("post_attention_layernorm"))?,
            mlp: Mlp::load(config, module, vb, adapters)?,
        })
    }

    /// `[R, T, hidden]` to the same; to `[R, 1, hidden]` where only a tail is wanted.
    pub(super) fn forward(&self, x: &Tensor, text: &Text, tail: Option<&Tail>, mode: Mode) -> Result<Tensor> {
        let (rows, length, _) = x.dims3()?;
        let Heads { queries, keys, dim } = self.heads;
        let all = queries + 2 * keys;
        let projected = self.projection.forward(&self.input_norm.forward(x)?, mode)?;
        let split = |projected: &Tensor, from, count, transposed, rotation| {
            let (rows, length, _) = projected.dims3()?;
            let heads = projected.reshape((rows, length, all, dim))?;
            ops::split_heads(&heads, &Split { from, count, transposed }, rotation)
        };
        let k = split(&projected, queries, keys, true, Some(&text.rotation))?; // [R, KV, D, T]
        let v = split(&projected, queries + keys, keys, false, None)?; // [R, KV, T, D]
        let (x, asked, wanted, length) = match tail {
            Some(tail) => (tail.of(x)?, tail.of(&projected)?, &tail.text, 1),
            None => (x.clone(), projected, text, length),
        };
        let q = split(&asked, 0, queries, false, Some(&wanted.rotation))?; // [R, H, T, D]
        // Heads of queries that share keys stand beside each other: each group is one run of rows.
        let q = q.reshape((rows, keys, queries / keys * length, dim))?;
        let mixed = attend(&q, &k, &v, length, Some(&wanted.mask), self.heads.scale())?;
        let mixed = merge_heads(&mixed.reshape((rows, queries, length, dim))?)?;
        let x = (x + self.output.forward(&mixed, mode)?)?;
        &x + self.mlp.forward(&self.post_norm.forward(&x)?, mode)?
    }

    pub(super) fn is_trained(&self) -> bool {
        [&self.projection, &self.output].into_iter().any(Projection::is_trained)
            || [&self.input_norm, &self.post_norm].into_iter().any(RmsNorm::is_trained)
            || self.mlp.is_trained()
    }
}

/// A layer that looks at the sensors.
#[derive(Clone, Debug)]
pub(super) struct CrossLayer {
    heads: Heads,
    input_norm: RmsNorm,
    query: Projection,
    query_norm: RmsNorm,
    /// Keys, values.
    projection: Projection,
    key_norm: RmsNorm,
    output: Projection,
    attention_gate: Gate,
    post_norm: RmsNorm,
    mlp: Mlp,
    mlp_gate: Gate,
}

impl CrossLayer {
    pub(super) fn load(
        config: &BackboneConfig,
        module: &str,
        vb: &VarBuilder<'_>,
        adapters: Option<&Adapters>,
    ) -> Result<Self> {
        let (heads, hidden, eps) = (Heads::of(config), config.hidden_size, config.rms_norm_eps);
        let (attention, own) = (vb.pp("cross_attn"), format!("{module}.cross_attn"));
        let keys = heads.keys * heads.dim;
        let load = |parts: &[(&str, usize)]| Projection::load(parts, hidden, &own, &attention, adapters);
        Ok(Self {
            heads,
            input_norm: RmsNorm::load(hidden, eps, &vb.pp("input_layernorm"))?,
            query: load(&[("q_proj", hidden)])?,
            query_norm: RmsNorm::load(heads.dim, eps, &attention.pp("q_norm"))?,
            projection: load(&[("k_proj", keys), ("v_proj", keys)])?,
            key_norm: RmsNorm::load(heads.dim, eps, &attention.pp("k_norm"))?,
            output: load(&[("o_proj", hidden)])?,
            attention_gate: Gate::load("cross_attn_attn_gate", vb)?,
            post_norm: RmsNorm::load(hidden, eps, &vb.pp("post_attention_layernorm"))?,
            mlp: Mlp::load(config, module, vb, adapters)?,
            mlp_gate: Gate::load("cross_attn_mlp_gate", vb)?,
        })
    }

    /// Keys and values of states `[S, N, hidden]`.
    pub(super) fn look(&self, states: &Tensor, mode: Mode) -> Result<KeysValues> {
        let (samples, count, _) = states.dims3()?;
        let Heads { keys, dim, .. } = self.heads;
        let projected = self.projection.forward(states, mode)?.reshape((samples, count, 2 * keys, dim))?;
        let split = |from, transposed| Split { from, count: keys, transposed };
        // The norm is over head_dim, which stands last before the transpose.
        let k = self.key_norm.forward(&ops::split_heads(&projected, &split(0, false), None)?)?;
        Ok(KeysValues {
            keys: k.transpose(2, 3)?.contiguous()?,
            values: ops::split_heads(&projected, &split(keys, false), None)?,
        })
    }

    /// `[R, T, hidden]` to the same; to `[R, 1, hidden]` where only a tail is wanted. Rows are sorted by sample, each
    /// sample has as many, and `seen` has the samples in that order.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        seen: &KeysValues,
        sensors: &Sensors,
        tail: Option<&Tail>,
        mode: Mode,
    ) -> Result<Tensor> {
        // A token's output here depends on no other token.
        let x = tail.map_or_else(|| Ok(x.clone()), |tail| tail.of(x))?;
        let (rows, length, _) = x.dims3()?;
        let Heads { queries, keys, dim } = self.heads;
        let (per_sample, group) = (sensors.per_sample, queries / keys * length);
        let samples = rows / per_sample;

        let q = self.query.forward(&self.input_norm.forward(&x)?, mode)?;
        let q = q.reshape((rows, length, queries, dim))?;
        let q = ops::split_heads(&q, &Split { from: 0, count: queries, transposed: false }, None)?;
        let q = self.query_norm.forward(&q)?;
        // All rows of a sample in one product: [S, P, KV, G·T, D] → [S, KV, P·G·T, D].
        let q = q.reshape((samples, per_sample, keys, group, dim))?.transpose(1, 2)?.contiguous()?;
        let q = q.reshape((samples, keys, per_sample * group, dim))?;
        let mask = sensors.mask.as_ref();
        let mixed = attend(&q, &seen.keys, &seen.values, length, mask, self.heads.scale())?;
        let mixed = mixed.reshape((samples, keys, per_sample, group, dim))?.transpose(1, 2)?.contiguous()?;
        let mixed = merge_heads(&mixed.reshape((rows, queries, length, dim))?)?;
        let x = (&x + self.attention_gate.apply(&self.output.forward(&mixed, mode)?)?)?;
        let mut y = self.mlp.forward(&self.post_norm.forward(&x)?, mode)?;
        if let Some(rows) = &sensors.rows {
            y = y.broadcast_mul(rows)?;
        }
        x + self.mlp_gate.apply(&y)?
    }

    pub(super) fn is_trained(&self) -> bool {
        [&self.query, &self.projection, &self.output].into_iter().any(Projection::is_trained)
            || [&self.input_norm, &self.query_norm, &self.key_norm, &self.post_norm]
                .into_iter()
                .any(RmsNorm::is_trained)
            || self.mlp.is_trained()
            || self.attention_gate.is_trained()
            || self.mlp_gate.is_trained()
    }
}

/// How much of a branch of a cross layer is taken, tanh(g).
#[derive(Clone, Debug)]
enum Gate {
    /// tanh(g)
    Frozen(f64),
    /// g `[1]`, a variable.
    Trained(Tensor),
}

impl Gate {
    fn load(name: &str, vb: &VarBuilder<'_>) -> Result<Self> {
        let gate = vb.get_with_hints(1, name, Init::Const(FRESH_GATE))?;
        if gate.is_variable() {
            return Ok(Self::Trained(gate));
        }
        let value = gate.to_dtype(DType::F64)?.reshape(())?.to_scalar::<f64>()?;
        Ok(Self::Frozen(value.tanh()))
    }

    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Frozen(share) => x * *share,
            Self::Trained(gate) => x.broadcast_mul(&gate.tanh()?.to_dtype(x.dtype())?),
        }
    }

    const fn is_trained(&self) -> bool {
        matches!(self, Self::Trained(_))
    }
}
