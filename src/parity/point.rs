//! `point`: kNN, farthest point sampling and Point Transformers, against the paper's equations in plain PyTorch and
//! against two public codes.
//!
//! Clouds of one size lie in the goldens as `[B, n, c]`, here packed as `[B·n, c]`.

use std::collections::HashMap;

use candle_core::{DType, Tensor, Var};
use candle_nn::VarBuilder;

use super::case::{Case, CaseError};
use super::golden::Golden;
use super::{Context, FORWARD, Files, Row};
use crate::model::layers::{Mode, Statistics};
use crate::model::neighbours::{farthest, nearest};
use crate::model::parameters::Parameters;
use crate::model::point_transformer::qq456cvb::{Classifier, ClassifierConfig, ResidualBlock};
use crate::model::point_transformer::{
    Form, Hierarchy, Level, PaperAttention, PointTransformer, PointTransformerConfig, packed,
};

/// Gradients with batch norms as in inference.
const EVAL: Mode = Mode::Train { seed: 0, statistics: Statistics::Running };

type Positions = Vec<[f32; 3]>;

pub(super) fn run(files: &mut Files<'_>, context: Context<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (stem, run) in [
        ("paper_eq", paper as fn(&mut Case<'_>, &Golden) -> Result<(), CaseError>),
        ("qq456cvb_block", block),
    ] {
        let name = format!("{stem}.safetensors");
        if files.take(&name) {
            rows.extend(files.case(stem, context).on(&files.path(&name), run));
        }
    }
    for (stem, run) in [
        ("postech_enc", encoder as fn(&mut Case<'_>, &Golden, &Golden) -> Result<(), CaseError>),
        ("qq456cvb_cls", classifier),
    ] {
        let names = [format!("{stem}.golden.safetensors"), format!("{stem}.model.safetensors")];
        let there = [files.take(&names[0]), files.take(&names[1])];
        if there.contains(&true) {
            let [golden, model] = names.map(|name| files.path(&name));
            rows.extend(files.case(stem, context).on(&golden, |case, golden| {
                let weights = Golden::open(&model, case.device)?;
                run(case, golden, &weights)
            }));
        }
    }
    rows
}

/// The points of positions `[n, 3]`.
fn points(positions: &Tensor) -> Result<Positions, CaseError> {
    let rows = positions.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let point = |row: Vec<f32>| {
        let found = row.len();
        row.try_into()
            .map_err(|_| CaseError::Other(format!("found {found} coordinates a point, allowed are 3")))
    };
    rows.into_iter().map(point).collect()
}

/// The clouds of positions `[B, n, 3]`.
fn clouds(positions: &Tensor) -> Result<Vec<Positions>, CaseError> {
    (0..positions.dim(0)?).map(|cloud| points(&positions.get(cloud)?)).collect()
}

fn at(points: &[[f32; 3]], indices: &[u32]) -> Positions {
    indices.iter().filter_map(|&index| points.get(index as usize).copied()).collect()
}

fn signed(indices: &[u32]) -> Vec<i64> {
    indices.iter().map(|&index| i64::from(index)).collect()
}

/// k nearest neighbours within each cloud.
fn within(clouds: &[Positions], k: usize) -> Vec<u32> {
    let mut found = Vec::new();
    for cloud in clouds {
        nearest(cloud, cloud, k, 0, &mut found);
    }
    found
}

/// Tensors as variables, and a builder that hands them out.
fn variables(tensors: HashMap<String, Tensor>, case: &Case<'_>) -> (VarBuilder<'static>, Parameters) {
    let floats = tensors.into_iter().filter(|(_, tensor)| tensor.dtype() == DType::F32).collect();
    Parameters::watch(VarBuilder::from_tensors(floats, DType::F32, case.device), |_| true)
}

/// Compares what is not shaped as the golden, packed clouds, with it.
fn compare_packed(
    case: &mut Case<'_>,
    golden: &Golden,
    name: &str,
    found: &Tensor,
    tolerance: super::Tolerance,
) -> Result<(), CaseError> {
    let expected = golden.get(name)?;
    let found = if found.elem_count() == expected.elem_count() {
        found.reshape(expected.shape())?
    } else {
        found.clone()
    };
    case.compare(golden, name, &found, tolerance)
}

fn named(parameters: &Parameters, prefix: &str) -> Vec<(String, Var)> {
    parameters.trained().into_iter().map(|(name, var)| (format!("{prefix}{name}"), var)).collect()
}

/// Attention as the paper writes it, its neighbours, and the neighbours of sampled points.
fn paper(case: &mut Case<'_>, golden: &Golden) -> Result<(), CaseError> {
    let (_, n, inputs) = golden.get("features")?.dims3()?;
    let width = golden.get("out")?.dim(2)?;
    let k = golden.get("knn_idx")?.dim(2)?;
    let clouds = clouds(golden.get("xyz")?)?;
    case.integers("knn_idx", &golden.integers("knn_idx")?, &signed(&within(&clouds, k)));
    let count = golden.get("fps_idx")?.dim(1)?;
    let k_sampled = golden.get("fps_knn_idx")?.dim(2)?;
    let (mut sampled, mut near_sampled) = (Vec::new(), Vec::new());
    for cloud in &clouds {
        let chosen = farthest(cloud, count);
        nearest(&at(cloud, &chosen), cloud, k_sampled, 0, &mut near_sampled);
        sampled.extend(chosen);
    }
    case.integers("fps_idx", &golden.integers("fps_idx")?, &signed(&sampled));
    case.integers("fps_knn_idx", &golden.integers("fps_knn_idx")?, &signed(&near_sampled));

    let (vb, parameters) = variables(golden.take_after("w."), case);
    let attention = PaperAttention::load(inputs, width, &vb)?;
    let features = Var::from_tensor(&golden.get("features")?.flatten_to(1)?)?;
    let positions = Var::from_tensor(&golden.get("xyz")?.flatten_to(1)?)?;
    let level = Level::new(positions.as_tensor().clone(), packed(golden.get("knn_idx")?, n)?, None)?;
    let out = attention.forward(&features, &level)?;
    compare_packed(case, golden, "out", &out, FORWARD)?;
    let gradients = (out * golden.get("probe")?.flatten_to(1)?)?.sum_all()?.backward()?;
    let mut variables = named(&parameters, "w.");
    variables.extend([("features".to_owned(), features), ("xyz".to_owned(), positions)]);
    case.compare_gradients(golden, &gradients, &variables)
}

/// A block of qq456cvb/Point-Transformers.
fn block(case: &mut Case<'_>, golden: &Golden) -> Result<(), CaseError> {
    let (batch, n, inputs) = golden.get("features")?.dims3()?;
    let width = golden.get("w.fc1.weight")?.dim(0)?;
    let k = golden.get("knn_idx")?.dim(2)?;
    let clouds = clouds(golden.get("xyz")?)?;
    case.integers("knn_idx", &golden.integers("knn_idx")?, &signed(&within(&clouds, k)));
    let (vb, parameters) = variables(golden.take_after("w."), case);
    let block = ResidualBlock::load(inputs, width, &vb)?;
    let features = Var::from_tensor(&golden.get("features")?.flatten_to(1)?)?;
    let positions = golden.get("xyz")?.flatten_to(1)?;
    let level = Level::new(positions, packed(golden.get("knn_idx")?, n)?, None)?;
    let (output, weights) = block.attend(&features, &level)?;
    compare_packed(case, golden, "out", &output.out, FORWARD)?;
    let first = (0..batch).map(|cloud| weights.get(cloud * n)).collect::<Result<Vec<_>, _>>()?;
    case.compare(golden, "attn.point0", &Tensor::stack(&first, 0)?, FORWARD)?;
    let gradients = (output.out * golden.get("probe")?.flatten_to(1)?)?.sum_all()?.backward()?;
    let mut variables = named(&parameters, "w.");
    variables.push(("features".to_owned(), features));
    case.compare_gradients(golden, &gradients, &variables)
}

/// The classifier of qq456cvb/Point-Transformers, whose sampling starts where the golden's did.
fn classifier(case: &mut Case<'_>, golden: &Golden, weights: &Golden) -> Result<(), CaseError> {
    let rows = |name: &str| -> Result<usize, CaseError> { Ok(weights.get(name)?.dim(0)?) };
    let config = ClassifierConfig {
        points: golden.parsed("num_point")?,
        inputs: golden.parsed("input_dim")?,
        width: golden.parsed("transformer_dim")?,
        neighbours: golden.parsed("nneighbor")?,
        blocks: golden.parsed("nblocks")?,
        classes: golden.parsed("num_class")?,
        stem: rows("backbone.fc1.0.weight")?,
        head: [rows("fc2.0.weight")?, rows("fc2.2.weight")?],
    };
    let floats = weights.take_after("").into_iter().filter(|(_, tensor)| tensor.dtype() == DType::F32);
    let vb = VarBuilder::from_tensors(floats.collect(), DType::F32, case.device);
    let network = Classifier::load(&config, &vb)?;
    let mut starts = Vec::with_capacity(config.blocks);
    for stage in 0..config.blocks {
        let name = format!("stage{stage}.fps_idx");
        let count = golden.get(&name)?.dim(1)?.max(1);
        let first = golden.integers(&name)?.into_iter().step_by(count);
        starts.push(first.map(|index| u32::try_from(index).unwrap_or(0)).collect::<Vec<u32>>());
    }
    let start = |stage: usize, cloud: usize| {
        starts.get(stage).and_then(|starts| starts.get(cloud)).copied().unwrap_or(0)
    };
    let input = golden.get("input")?;
    let positions = input.narrow(2, 0, 3)?.contiguous()?;
    let (hierarchy, chosen) = network.hierarchy(&positions, start)?;
    for (stage, (chosen, level)) in chosen.iter().zip(hierarchy.levels().iter().skip(1)).enumerate() {
        let name = format!("stage{stage}.fps_idx");
        let found: Vec<u32> = chosen.to_dtype(DType::U32)?.flatten_all()?.to_vec1()?;
        case.integers(&name, &golden.integers(&name)?, &signed(&found));
        compare_packed(case, golden, &format!("stage{stage}.xyz"), level.positions(), super::EXACT)?;
    }
    let found = network.forward(&hierarchy, &input.flatten_to(1)?, Mode::Infer)?;
    for (stage, (down, out)) in found.stages.iter().enumerate() {
        compare_packed(case, golden, &format!("stage{stage}.td_out"), down, FORWARD)?;
        compare_packed(case, golden, &format!("stage{stage}.out"), out, FORWARD)?;
    }
    case.compare(golden, "pooled", &found.pooled, FORWARD)?;
    case.compare(golden, "logits", &found.logits, FORWARD)
}

/// The encoder of POSTECH-CVLab: clouds of unequal sizes, ending at `offset`; levels `td1`, `b1`, `td2`, …
fn encoder(case: &mut Case<'_>, golden: &Golden, weights: &Golden) -> Result<(), CaseError> {
    let (stride, k): (usize, usize) = (golden.parsed("stride")?, golden.parsed("nsample")?);
    let mut widths = Vec::new();
    while weights.has(&format!("td{}.linear.weight", widths.len() + 1)) {
        widths.push(weights.get(&format!("td{}.linear.weight", widths.len() + 1))?.dim(0)?);
    }
    let levels = widths.len();
    let config = PointTransformerConfig {
        magnify: 1,
        points: Vec::new(),
        widths,
        neighbours: k,
        share: golden.parsed("share_planes")?,
        attention: Form::Postech,
    };
    let all = points(golden.get("xyz")?)?;
    let (mut clouds, mut from): (Vec<Positions>, usize) = (Vec::new(), 0);
    for end in golden.integers("offset")? {
        let wrong = || CaseError::Other(format!("`offset`: found {end}, allowed is {from} to {}", all.len()));
        let end = usize::try_from(end).map_err(|_| wrong())?;
        clouds.push(all.get(from..end).ok_or_else(wrong)?.to_vec());
        from = end;
    }
    let slices: Vec<&[[f32; 3]]> = clouds.iter().map(Vec::as_slice).collect();
    let hierarchy = Hierarchy::new(&slices, levels, |_, before| before / stride, k, case.device)?;
    compare_hierarchy(case, golden, &hierarchy, clouds, stride)?;

    // As it runs in a unit, and step by step with gradients.
    let features = Var::from_tensor(golden.get("feat")?)?;
    let input = Tensor::cat(&[golden.get("xyz")?, features.as_tensor()], 1)?;
    let inputs = input.dim(1)?;
    let floats = weights.take_after("").into_iter().filter(|(_, tensor)| tensor.dtype() == DType::F32);
    let floats: HashMap<String, Tensor> = floats.collect();
    let last = format!("b{levels}.out");
    let fixed = VarBuilder::from_tensors(floats.clone(), DType::F32, case.device);
    let network = PointTransformer::load(inputs, &config, &fixed)?;
    let found = network.forward(&hierarchy, &input.detach(), Mode::Infer)?;
    case.compare_with(&format!("{last} (inference)"), golden.get(&last)?, &found, FORWARD)?;
    let (vb, parameters) = variables(floats, case);
    let network = PointTransformer::load(inputs, &config, &vb)?;
    let stages = network.stages(&hierarchy, &input, EVAL)?;
    for (number, stage) in (1..).zip(&stages) {
        for (name, found) in [
            (format!("td{number}.out"), &stage.down),
            (format!("b{number}.layer_in"), &stage.block.entered),
            (format!("b{number}.layer_out"), &stage.block.attended),
            (format!("b{number}.out"), &stage.block.out),
        ] {
            case.compare_if_there(golden, &name, FORWARD, || Ok(found.clone()))?;
        }
    }
    let out = stages.last().map(|stage| &stage.block.out);
    let out = out.ok_or_else(|| CaseError::Missing("td1.linear.weight".to_owned()))?;
    let gradients = (out * golden.get("probe")?)?.sum_all()?.backward()?;
    let mut variables = named(&parameters, "");
    variables.push(("feat".to_owned(), features));
    case.compare_gradients(golden, &gradients, &variables)
}

/// Who is near whom and who is sampled, level by level, where the golden says it.
fn compare_hierarchy(
    case: &mut Case<'_>,
    golden: &Golden,
    hierarchy: &Hierarchy,
    mut clouds: Vec<Positions>,
    stride: usize,
) -> Result<(), CaseError> {
    let flat = |indices: &Tensor| -> Result<Vec<i64>, CaseError> {
        Ok(signed(&indices.to_dtype(DType::U32)?.flatten_all()?.to_vec1()?))
    };
    for (number, level) in (1..).zip(hierarchy.levels()) {
        let mut integers = |name: String, found: &[i64]| -> Result<(), CaseError> {
            if golden.has(&name) {
                case.integers(&name, &golden.integers(&name)?, found);
            }
            Ok(())
        };
        integers(format!("b{number}.knn_idx"), &flat(level.within())?)?;
        if let Some(before) = level.before() {
            integers(format!("td{number}.knn_idx"), &flat(before)?)?;
            let (mut sampled, mut from, mut ends, mut end) = (Vec::new(), 0, Vec::new(), 0);
            for cloud in &mut clouds {
                let chosen = farthest(cloud, (cloud.len() / stride).max(1));
                sampled.extend(chosen.iter().map(|&index| i64::from(index + from)));
                from += cloud.len() as u32;
                *cloud = at(cloud, &chosen);
                end += cloud.len() as i64;
                ends.push(end);
            }
            integers(format!("td{number}.fps_idx"), &sampled)?;
            integers(format!("td{number}.offset"), &ends)?;
        }
        let positions = || Ok(level.positions().clone());
        case.compare_if_there(golden, &format!("td{number}.xyz"), super::EXACT, positions)?;
    }
    Ok(())
}
