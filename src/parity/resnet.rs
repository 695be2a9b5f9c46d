//! `resnet`: the image encoder against torchvision and timm.
//!
//! `NAME.golden` goes with the weights of `NAME.model`; `resnet18_full`, whose weights are too large to ship, with weights
//! made by a formula that torch's side used too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Error, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use super::case::{Case, CaseError};
use super::golden::Golden;
use super::{Context, FORWARD, Files, Row, Tolerance};
use crate::model::layers::{Mode, Statistics};
use crate::model::parameters::Parameters;
use crate::model::resnet::{Classifier, ResNet, ResNetConfig};

pub(super) fn run(files: &mut Files<'_>, context: Context<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for stem in files.stems("_full.safetensors") {
        let Some(config) = published(&stem) else { continue };
        let name = format!("{stem}_full.safetensors");
        files.take(&name);
        let case = files.case(&format!("{stem}_full"), context);
        rows.extend(case.on(&files.path(&name), |case, golden| full(case, golden, &config)));
    }
    let mut stems = files.stems(".golden.safetensors");
    stems.extend(files.stems(".model.safetensors"));
    stems.sort();
    stems.dedup();
    for stem in stems {
        let (golden, model) = (format!("{stem}.golden.safetensors"), format!("{stem}.model.safetensors"));
        files.take(&golden);
        files.take(&model);
        let model = files.path(&model);
        rows.extend(files.case(&stem, context).on(&files.path(&golden), |case, golden| {
            let weights = Golden::open(&model, case.device)?;
            narrow(case, golden, &weights)
        }));
    }
    rows
}

/// A published size by its name.
fn published(name: &str) -> Option<ResNetConfig> {
    let (layers, bottleneck) = match name {
        "resnet18" => ([2, 2, 2, 2], false),
        "resnet34" => ([3, 4, 6, 3], false),
        "resnet50" => ([3, 4, 6, 3], true),
        _ => return None,
    };
    Some(ResNetConfig { layers, bottleneck, ..ResNetConfig::RESNET_18 })
}

/// Gradients, with batch norms as in inference.
const EVAL: Mode = Mode::Train { seed: 0, statistics: Statistics::Running };
/// Gradients, with the statistics of the batch.
const BATCH: Mode = Mode::Train { seed: 0, statistics: Statistics::Batch };

/// What the first stages make of images: the network of these weights whose later stages have no blocks. No stage at all
/// leaves the pool behind the stem.
fn after_stage(
    stages: usize,
    config: &ResNetConfig,
    vb: &VarBuilder<'_>,
    images: &Tensor,
) -> Result<Tensor, CaseError> {
    let mut cut = config.clone();
    cut.layers.iter_mut().skip(stages).for_each(|blocks| *blocks = 0);
    Ok(ResNet::load(&cut, vb)?.forward(images, Mode::Infer)?)
}

/// How many stages stand before what the golden calls so: `layer2` → 2, `maxpool` → 0.
fn stage(name: &str) -> Option<usize> {
    match name {
        "maxpool" => Some(0),
        _ => name.strip_prefix("layer").and_then(|number| number.parse().ok()).filter(|&number| number <= 4),
    }
}

/// Compares every intermediate that the golden has: `STAGE` as it is, `STAGE_mean_hw` its mean over the map,
/// `STAGE.sampleN` the first channels of image N, as many as the golden has.
fn compare_stages(
    case: &mut Case<'_>,
    golden: &Golden,
    config: &ResNetConfig,
    vb: &VarBuilder<'_>,
    tolerance: Tolerance,
) -> Result<(), CaseError> {
    let names: Vec<String> = golden.names().map(str::to_owned).collect();
    for name in names {
        let of = |stage_name: &str| -> Option<Result<Tensor, CaseError>> {
            let stages = stage(stage_name)?;
            Some(golden.get("input").and_then(|input| after_stage(stages, config, vb, input)))
        };
        let found = if let Some(map) = of(&name) {
            map?
        } else if let Some(map) = name.strip_suffix("_mean_hw").and_then(of) {
            map?.mean((2, 3))?
        } else if let Some((stage_name, image)) = name.split_once(".sample")
            && let Ok(image) = image.parse::<usize>()
            && let Some(map) = of(stage_name)
        {
            let channels = golden.get(&name)?.dim(0)?;
            map?.get(image)?.narrow(0, 0, channels)?
        } else {
            continue;
        };
        case.compare(golden, &name, &found, tolerance)?;
    }
    Ok(())
}

fn full(case: &mut Case<'_>, golden: &Golden, config: &ResNetConfig) -> Result<(), CaseError> {
    const FULL: Tolerance = Tolerance::Relative(1e-5);
    let key = golden.metadata("key")?;
    let digits = key.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16));
    let key = digits
        .unwrap_or_else(|| key.parse())
        .map_err(|error| CaseError::Other(format!("metadata `key`: {error}")))?;
    let shapes = Arc::new(Mutex::new(BTreeMap::new()));
    let source = Made { key, shapes: Arc::clone(&shapes) };
    let vb = VarBuilder::from_backend(Box::new(source), DType::F32, case.device.clone());
    let network = Classifier::load(config, golden.parsed("num_classes")?, &vb)?;
    compare_features(case, golden, &network, FULL)?;
    compare_stages(case, golden, config, &vb, FULL)?;
    for name in golden.after("sample.") {
        let expected = golden.floats(&format!("sample.{name}"))?;
        let tensor = name.rsplit_once(".first").map_or(name.as_str(), |(tensor, _)| tensor);
        let shape = shapes.lock().unwrap_or_else(PoisonError::into_inner).get(tensor).cloned();
        let shape =
            shape.ok_or_else(|| CaseError::Other(format!("`{tensor}` is no tensor of the network")))?;
        let made: Vec<f64> =
            (0..expected.len() as u64).map(|index| f64::from(made(tensor, &shape, index, key))).collect();
        case.numbers(&format!("sample.{name}"), &expected, &made, super::EXACT);
    }
    Ok(())
}

fn compare_features(
    case: &mut Case<'_>,
    golden: &Golden,
    network: &Classifier,
    tolerance: Tolerance,
) -> Result<(), CaseError> {
    let input = golden.get("input")?;
    let features = network.network().forward(input, Mode::Infer)?.mean((2, 3))?;
    case.compare(golden, "features", &features, tolerance)?;
    case.compare(golden, "logits", &network.logits(input, Mode::Infer)?, tolerance)
}

fn narrow(case: &mut Case<'_>, golden: &Golden, weights: &Golden) -> Result<(), CaseError> {
    let four = |key: &str| -> Result<[usize; 4], CaseError> {
        let list = weights.list(key)?;
        let wrong = |found: Vec<usize>| {
            CaseError::Other(format!("metadata `{key}`: found {found:?}, allowed are four"))
        };
        list.try_into().map_err(wrong)
    };
    let config = ResNetConfig {
        stem: weights.get("conv1.weight")?.dim(0)?,
        channels: four("channels")?,
        layers: four("layers")?,
        bottleneck: weights.has("layer1.0.conv3.weight"),
    };
    let classes = weights.get("fc.weight")?.dim(0)?;
    let floats = weights.take_after("").into_iter().filter(|(_, tensor)| tensor.dtype() == DType::F32);
    let vb = VarBuilder::from_tensors(floats.collect(), DType::F32, case.device);
    compare_features(case, golden, &Classifier::load(&config, classes, &vb)?, FORWARD)?;
    compare_stages(case, golden, &config, &vb, FORWARD)?;
    for (prefix, mode) in [("evalbn", EVAL), ("square", EVAL), ("trainbn", BATCH)] {
        if !golden.after(&format!("{prefix}.")).is_empty() {
            // Each from the weights of the file: batch statistics move the running ones.
            let (vb, parameters) = Parameters::watch(vb.clone(), |_| true);
            let network = Classifier::load(&config, classes, &vb)?;
            trained(case, golden, prefix, mode, &network, &parameters)?;
        }
    }
    Ok(())
}

/// `PREFIX.logits`, `PREFIX.grad.NAME` of the loss Σ logits ⊙ probe, `PREFIX.running_….NORM`; on `PREFIX.input` where there
/// is one.
fn trained(
    case: &mut Case<'_>,
    golden: &Golden,
    prefix: &str,
    mode: Mode,
    network: &Classifier,
    parameters: &Parameters,
) -> Result<(), CaseError> {
    let own = format!("{prefix}.input");
    let input = Var::from_tensor(golden.get(if golden.has(&own) { &own } else { "input" })?)?;
    let logits = network.logits(&input, mode)?;
    case.compare_if_there(golden, &format!("{prefix}.logits"), FORWARD, || Ok(logits.clone()))?;
    let gradients = (logits * golden.get("probe")?)?.sum_all()?.backward()?;
    let variables = parameters.trained();
    for name in golden.after(&format!("{prefix}.grad.")) {
        let variable = variables.iter().find(|(own, _)| *own == name).map(|(_, variable)| variable);
        let found = match (name.as_str(), variable) {
            ("input", _) => gradients.get(&input).cloned(),
            // Mean over the channels.
            ("input.mean_c", _) => gradients.get(&input).map(|gradient| gradient.mean(1)).transpose()?,
            (_, Some(variable)) => gradients.get(variable).cloned(),
            (_, None) => None,
        };
        let full = format!("{prefix}.grad.{name}");
        let found = found.ok_or_else(|| CaseError::Other(format!("`{full}` has no gradient here")))?;
        case.compare_gradient(golden, &full, &found)?;
    }
    let statistics = parameters.statistics();
    for statistic in ["running_mean", "running_var"] {
        for norm in golden.after(&format!("{prefix}.{statistic}.")) {
            // A stage stands for the second norm of its last block.
            let is_of_stage = |name: &str| {
                name.starts_with(&format!("{norm}.")) && name.ends_with(&format!(".bn2.{statistic}"))
            };
            let found = statistics.iter().find(|(name, _)| *name == format!("{norm}.{statistic}"));
            let found = found.or_else(|| statistics.iter().rfind(|(name, _)| is_of_stage(name)));
            let (_, found) =
                found.ok_or_else(|| CaseError::Other(format!("`{norm}` is no batch norm here")))?;
            case.compare(golden, &format!("{prefix}.{statistic}.{norm}"), found, FORWARD)?;
        }
    }
    Ok(())
}

/// A source of weights that are a hash of their name and place.
struct Made {
    key: u64,
    /// Shapes of the tensors that were asked for.
    shapes: Arc<Mutex<BTreeMap<String, Vec<usize>>>>,
}

/// Number `index` of the tensor of this name.
fn made(name: &str, shape: &[usize], index: u64, key: u64) -> f32 {
    // FNV-1a, then the finaliser of SplitMix64.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mut x = (hash ^ key).wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^= x >> 31;
    let u = (x >> 40) as f64 / f64::from(1u32 << 24) - 0.5;
    let number = match shape {
        [_] if name.ends_with("running_var") || name.ends_with("weight") => 1.0 + 0.5 * u,
        [_] => 0.25 * u,
        _ => {
            let fan_in: usize = shape.iter().skip(1).product();
            u * 2.0 * 3f64.sqrt() * (2.0 / fan_in as f64).sqrt()
        }
    };
    number as f32
}

impl SimpleBackend for Made {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let mut shapes = self.shapes.lock().unwrap_or_else(PoisonError::into_inner);
        shapes.insert(name.to_owned(), shape.dims().to_vec());
        let numbers = (0..shape.elem_count() as u64).map(|index| made(name, shape.dims(), index, self.key));
        let numbers: Vec<f32> = numbers.collect();
        Tensor::from_vec(numbers, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        Err(Error::Msg(format!("made weights need a shape, and `{name}` was asked for without one")))
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}
