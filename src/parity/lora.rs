//! `peft_lora`: adapters that PEFT wrote, on the model of `mllama`: beside the weights, merged into them, and their
//! gradients.

use std::path::PathBuf;

use candle_core::{DType, Tensor, Var};

use super::case::{Case, CaseError};
use super::golden::Golden;
use super::mllama::{self, TRAIN, other};
use super::{Context, FORWARD, Files, Row};
use crate::model::backbone::{Backbone, BackboneConfig, Inputs, Outputs, SPELLINGS};
use crate::model::checkpoint::Checkpoint;
use crate::model::layers::Mode;
use crate::model::lora::{Adapters, PeftAdapter};
use crate::model::parameters::Parameters;

/// Names of PEFT's tensors begin so.
const PEFT: &str = "base_model.model.model.language_model.";

pub(super) fn run(files: &mut Files<'_>, context: Context<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        files.take(name);
    }
    let folders = Folders { model: context.root.join("mllama"), adapter: files.folder.clone() };
    for (stem, run) in [
        ("golden", outputs as fn(&mut Case<'_>, &Golden, &Folders) -> Result<(), CaseError>),
        ("grads", gradients),
    ] {
        let name = format!("{stem}.safetensors");
        if files.take(&name) {
            let case = files.case(stem, context);
            rows.extend(case.on(&files.path(&name), |case, golden| run(case, golden, &folders)));
        }
    }
    rows
}

struct Folders {
    model: PathBuf,
    adapter: PathBuf,
}

/// What all of it runs on.
struct Model {
    config: BackboneConfig,
    checkpoint: Checkpoint,
    adapter: PeftAdapter,
    inputs: Golden,
}

impl Model {
    fn open(folders: &Folders, case: &Case<'_>) -> Result<Self, CaseError> {
        let config = mllama::config(&folders.model)?;
        let adapter = PeftAdapter::open(&folders.adapter, &config).map_err(other)?;
        let checkpoint = mllama::checkpoint(&folders.model)?;
        Ok(Self { config, checkpoint, adapter, inputs: mllama::inputs(&folders.model, case)? })
    }

    fn run(
        &self,
        case: &Case<'_>,
        adapters: Option<&Adapters>,
        tokens: &Tensor,
        mode: Mode,
    ) -> Result<Outputs, CaseError> {
        let vb = self.checkpoint.builder_spelled(DType::F32, case.device, &SPELLINGS);
        let backbone = Backbone::load(&self.config, &vb, adapters)?;
        let states = backbone.states(tokens, None, mode)?;
        let embeddings = backbone.embed(self.inputs.get("input_ids")?)?;
        let inputs = Inputs { embeddings: &embeddings, mask: None, positions: None, states: Some(&states) };
        Ok(backbone.forward(&inputs, mode)?)
    }
}

fn outputs(case: &mut Case<'_>, golden: &Golden, folders: &Folders) -> Result<(), CaseError> {
    let model = Model::open(folders, case)?;
    let tokens = model.inputs.get("cross_attention_states")?;
    let beside = model.adapter.beside(DType::F32, case.device);
    let found = model.run(case, Some(&beside), tokens, Mode::Infer)?;
    mllama::compare_outputs(case, golden, &found)?;
    let merged = model.adapter.merged(DType::F32, case.device);
    for (name, adapters) in [("base.last_hidden_state", None), ("merged.last_hidden_state", Some(&merged))] {
        if golden.has(name) {
            case.compare(golden, name, &model.run(case, adapters, tokens, Mode::Infer)?.last, FORWARD)?;
        }
    }
    for name in golden.after("merged.weight.") {
        let found = merged_weight(case, &model, &merged, &name)?;
        case.compare(golden, &format!("merged.weight.{name}"), &found, FORWARD)?;
    }
    Ok(())
}

/// A weight after merging, by its name in memory: that of the file where nothing adapts it.
fn merged_weight(
    case: &Case<'_>,
    model: &Model,
    adapters: &Adapters,
    name: &str,
) -> Result<Tensor, CaseError> {
    let own = name.strip_prefix("model.").unwrap_or(name);
    let Some(text) = own.strip_prefix("language_model.") else {
        return mllama::tensor(&model.checkpoint, &[own.to_owned(), name.to_owned()], case.device);
    };
    let spellings = SPELLINGS.map(|prefix| format!("{prefix}{text}"));
    let weight = mllama::tensor(&model.checkpoint, &spellings, case.device)?;
    let module = text.strip_suffix(".weight").unwrap_or(text);
    let (outputs, inputs) = weight.dims2()?;
    match adapters.load(module, inputs, outputs)? {
        Some(lora) => Ok(lora.merge(&weight)?),
        None => Ok(weight),
    }
}

fn gradients(case: &mut Case<'_>, golden: &Golden, folders: &Folders) -> Result<(), CaseError> {
    let model = Model::open(folders, case)?;
    let (vb, parameters) = Parameters::watch(model.adapter.builder(DType::F32, case.device), |_| true);
    let adapters = Adapters::beside(model.adapter.config.clone(), vb);
    let tokens = Var::from_tensor(model.inputs.get("cross_attention_states")?)?;
    let found = model.run(case, Some(&adapters), &tokens, TRAIN)?;
    let probe = model.inputs.get("probe")?;
    let loss = mllama::loss(&found.last, probe)?;
    case.compare(golden, "loss", &loss, mllama::loss_tolerance(probe)?)?;
    let gradients = loss.backward()?;
    let mut variables = vec![("cross_attention_states".to_owned(), tokens)];
    variables.extend(parameters.trained().into_iter().map(|(name, var)| (format!("{PEFT}{name}"), var)));
    case.compare_gradients(golden, &gradients, &variables)
}
