//! `mllama`: the backbone against Hugging Face's `MllamaForConditionalGeneration`.
//!
//! The folder is a checkpoint (`config.json`, weights in one file or in shards) with `config.legacy.json`, the same model in
//! the layout of the published ones, `inputs`, and cases. A case has inputs of its own (`input_ids`, `attention_mask`,
//! `sensor_keep`, `position_ids`) where they differ from `inputs`.

use std::path::Path;

use candle_core::{DType, Tensor, Var};

use super::case::{Case, CaseError};
use super::golden::Golden;
use super::{Context, FORWARD, Files, Row, Tolerance};
use crate::model::backbone::{
    Backbone, BackboneConfig, Inputs, Outputs, RopeConfig, RopeScaling, Rotation, SPELLINGS,
    inverse_frequencies, is_foreign,
};
use crate::model::checkpoint::Checkpoint;
use crate::model::layers::{Mode, Statistics};
use crate::model::parameters::Parameters;

const CONFIG: &str = "config.json";
const LEGACY: &str = "config.legacy.json";
/// How a published checkpoint's `layers.0` and the rest of the text stack are called in memory.
const IN_MEMORY: &str = "model.language_model.";
/// Gradients; nothing is dropped and no norm has statistics.
pub(super) const TRAIN: Mode = Mode::Train { seed: 0, statistics: Statistics::Running };

pub(super) fn run(files: &mut Files<'_>, context: Context<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    files.take(CONFIG);
    for name in ["model.safetensors", "model.safetensors.index.json", "inputs.safetensors"] {
        files.take(name);
    }
    for stem in files.stems(".safetensors") {
        if is_shard(&stem) {
            files.take(&format!("{stem}.safetensors"));
        }
    }
    if files.take(LEGACY) {
        let mut case = files.case("config.legacy", context);
        let done = legacy(&mut case, &files.path(CONFIG), &files.path(LEGACY));
        rows.extend(case.finish(done, &[]));
    }
    let folder = files.folder.clone();
    for stem in files.stems(".safetensors") {
        let name = format!("{stem}.safetensors");
        let run = match stem.as_str() {
            "grads" => gradients as fn(&mut Case<'_>, &Golden, &Path) -> Result<(), CaseError>,
            "rope" => rope,
            "rope_11b" => rope_11b,
            name if name.starts_with("case") => forward,
            _ => continue,
        };
        files.take(&name);
        let case = files.case(&stem, context);
        rows.extend(case.on(&files.path(&name), |case, golden| run(case, golden, &folder)));
    }
    rows
}

/// `model-00001-of-00005`
fn is_shard(stem: &str) -> bool {
    let numbers = stem.strip_prefix("model-").and_then(|rest| rest.split_once("-of-"));
    numbers.is_some_and(|(number, count)| [number, count].iter().all(|part| part.parse::<u32>().is_ok()))
}

pub(super) fn other(error: impl std::fmt::Display) -> CaseError {
    CaseError::Other(error.to_string())
}

pub(super) fn config(folder: &Path) -> Result<BackboneConfig, CaseError> {
    BackboneConfig::load(&folder.join(CONFIG)).map_err(other)
}

pub(super) fn checkpoint(folder: &Path) -> Result<Checkpoint, CaseError> {
    Checkpoint::open(folder).map_err(other)
}

/// `inputs` of a folder, for whoever runs the model on them.
pub(super) fn inputs(folder: &Path, case: &Case<'_>) -> Result<Golden, CaseError> {
    Golden::open(&folder.join("inputs.safetensors"), case.device)
}

/// Both layouts say the same.
fn legacy(case: &mut Case<'_>, newer: &Path, older: &Path) -> Result<(), CaseError> {
    let [newer, older] = [newer, older].map(|file| BackboneConfig::load(file).map_err(other));
    let (newer, older) = (newer?, older?);
    if newer == older {
        case.numbers("configuration", &[0.0], &[0.0], super::EXACT);
    } else {
        case.miss("configuration", &format!("found {older:?}, {CONFIG} has {newer:?}"));
    }
    Ok(())
}

/// `layer_out.N` of the layers that ran, and the last of them after the final norm.
pub(super) fn compare_outputs(
    case: &mut Case<'_>,
    golden: &Golden,
    outputs: &Outputs,
) -> Result<(), CaseError> {
    for (number, found) in &outputs.layers {
        case.compare_if_there(golden, &format!("layer_out.{number}"), FORWARD, || Ok(found.clone()))?;
    }
    case.compare(golden, "last_hidden_state", &outputs.last, FORWARD)
}

fn forward(case: &mut Case<'_>, golden: &Golden, folder: &Path) -> Result<(), CaseError> {
    let (config, checkpoint, inputs) = (config(folder)?, checkpoint(folder)?, inputs(folder, case)?);
    let vb = checkpoint.builder_spelled(DType::F32, case.device, &SPELLINGS);
    let backbone = Backbone::load(&config, &vb, None)?;
    checkpoint.finish(is_foreign).map_err(other)?;
    let ids = if golden.has("input_ids") { golden.get("input_ids")? } else { inputs.get("input_ids")? };
    // Without sensors, cross layers do not run, and have nothing in the file.
    let ran: Vec<usize> =
        golden.after("layer_out.").iter().filter_map(|number| number.parse().ok()).collect();
    let without_sensors = if ran.is_empty() {
        case.name.contains("textonly")
    } else {
        !config.cross_layers.iter().any(|layer| ran.contains(layer))
    };
    let states = if without_sensors {
        None
    } else {
        let tokens = inputs.get("cross_attention_states")?;
        Some(backbone.states(tokens, golden.find("sensor_keep"), Mode::Infer)?)
    };
    let embeddings = backbone.embed(ids)?;
    let outputs = backbone.forward(
        &Inputs {
            embeddings: &embeddings,
            mask: golden.find("attention_mask"),
            positions: golden.find("position_ids"),
            states: states.as_ref(),
        },
        Mode::Infer,
    )?;
    compare_outputs(case, golden, &outputs)?;
    case.compare_if_there(golden, "hf_hidden_states.0", FORWARD, || Ok(embeddings.clone()))?;
    case.compare_if_there(golden, "logits", FORWARD, || {
        let spellings = ["language_model.lm_head.weight", "lm_head.weight"].map(str::to_owned);
        let head = tensor(&checkpoint, &spellings, embeddings.device())?;
        let (rows, length, width) = outputs.last.dims3()?;
        let flat = outputs.last.reshape((rows * length, width))?.matmul(&head.t()?)?;
        Ok(flat.reshape((rows, length, ()))?)
    })
}

/// A tensor of a checkpoint by one of its names there.
pub(super) fn tensor(
    checkpoint: &Checkpoint,
    spellings: &[String],
    device: &candle_core::Device,
) -> Result<Tensor, CaseError> {
    let mut all = checkpoint.tensors();
    let found = all.find(|(own, _, _)| spellings.iter().any(|name| name == own));
    let (name, shape, _) = found.ok_or_else(|| {
        CaseError::Missing(format!("`{}` of {}", spellings.join("` or `"), checkpoint.path().display()))
    })?;
    Ok(checkpoint.builder(DType::F32, device).get(shape, name)?)
}

/// Σ last ⊙ probe / B, as the reference's loss is.
pub(super) fn loss(last: &Tensor, probe: &Tensor) -> Result<Tensor, CaseError> {
    Ok(((last * probe)?.sum_all()? / last.dim(0)? as f64)?)
}

/// How far the loss may be off when each number of the last state is off by its tolerance, each to its own side.
pub(super) fn loss_tolerance(probe: &Tensor) -> Result<Tolerance, CaseError> {
    let squares: f32 = probe.sqr()?.sum_all()?.to_scalar()?;
    let length = f64::from(squares).sqrt() / probe.dim(0)? as f64;
    Ok(Tolerance::Absolute((5e-5 * length.max(1.0)).min(1e-3)))
}

fn gradients(case: &mut Case<'_>, golden: &Golden, folder: &Path) -> Result<(), CaseError> {
    let (config, checkpoint, inputs) = (config(folder)?, checkpoint(folder)?, inputs(folder, case)?);
    let source = checkpoint.builder_spelled(DType::F32, case.device, &SPELLINGS);
    let (vb, parameters) = Parameters::watch(source, |_| true);
    let backbone = Backbone::load(&config, &vb, None)?;
    let tokens = Var::from_tensor(inputs.get("cross_attention_states")?)?;
    let states = backbone.states(&tokens, None, TRAIN)?;
    let embeddings = backbone.embed(inputs.get("input_ids")?)?;
    let run = Inputs { embeddings: &embeddings, mask: None, positions: None, states: Some(&states) };
    let outputs = backbone.forward(&run, TRAIN)?;
    let probe = inputs.get("probe")?;
    let loss = loss(&outputs.last, probe)?;
    case.compare(golden, "loss", &loss, loss_tolerance(probe)?)?;
    let gradients = loss.backward()?;
    let mut variables: Vec<(String, Var)> = vec![("cross_attention_states".to_owned(), tokens)];
    variables.extend(parameters.trained().into_iter().map(|(name, var)| (format!("{IN_MEMORY}{name}"), var)));
    case.compare_gradients(golden, &gradients, &variables)
}

/// Numbers over their golden ones: long wavelengths turn by 1e-6, which would hide within an absolute tolerance.
fn compare_ratio(case: &mut Case<'_>, golden: &Golden, name: &str, found: &[f32]) -> Result<(), CaseError> {
    let expected = golden.floats(name)?;
    let ratios: Vec<f64> =
        found.iter().zip(&expected).map(|(&found, expected)| f64::from(found) / expected).collect();
    if found.len() != expected.len() {
        case.miss(name, &format!("found {} numbers, expected {}", found.len(), expected.len()));
        return Ok(());
    }
    case.numbers(name, &vec![1.0; expected.len()], &ratios, FORWARD);
    Ok(())
}

fn rope(case: &mut Case<'_>, golden: &Golden, folder: &Path) -> Result<(), CaseError> {
    let config = config(folder)?;
    let turns = inverse_frequencies(&config.rope, config.head_dim());
    compare_ratio(case, golden, "inv_freq", &turns)?;
    let length = golden.get("cos")?.dim(0)?;
    let positions: Vec<u32> = (0..length as u32).collect();
    let rotation = Rotation::new(&turns, &positions, (1, length), DType::F32, case.device)?;
    for (name, table) in [("cos", &rotation.cos), ("sin", &rotation.sin)] {
        // The reference has each number twice, for both halves of a head.
        let table = table.squeeze(0)?;
        case.compare(golden, name, &Tensor::cat(&[&table, &table], 1)?, FORWARD)?;
    }
    Ok(())
}

/// Llama-3.2-11B-Vision, as published.
fn rope_11b(case: &mut Case<'_>, golden: &Golden, _: &Path) -> Result<(), CaseError> {
    let published = RopeConfig {
        theta: 500_000.0,
        scaling: Some(RopeScaling {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192.0,
        }),
    };
    const HEAD_DIM: usize = 128;
    compare_ratio(case, golden, "inv_freq", &inverse_frequencies(&published, HEAD_DIM))
}
