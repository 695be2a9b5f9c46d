//! `blocks`: attention, layer norm, losses, Eq. 14, AdamW and clipping, against PyTorch.

use std::collections::BTreeSet;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};
use candle_nn::VarBuilder;

use super::case::{Case, CaseError};
use super::golden::Golden;
use super::{Context, FORWARD, Files, Row};
use crate::model::attention::Attention;
use crate::model::layers::{Dense, LayerNorm};
use crate::train::clip::clip_grad_norm;
use crate::train::losses;
use crate::train::optimiser::{AdamW, AdamWConfig, Factors, Group};
use crate::train::uncertainty::weighted_sum;

type Run = fn(&mut Case<'_>, &Golden) -> Result<(), CaseError>;

pub(super) fn run(files: &mut Files<'_>, context: Context<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for stem in files.stems(".safetensors") {
        let run: Run = match stem.as_str() {
            "adamw" => adamw,
            "clip" => clip,
            "layernorm" => layer_norm,
            "losses" => all_losses,
            "uncertainty" => uncertainty,
            name if name.starts_with("mha") => attention,
            _ => continue,
        };
        let name = format!("{stem}.safetensors");
        files.take(&name);
        rows.extend(files.case(&stem, context).on(&files.path(&name), run));
    }
    rows
}

/// A variable with the numbers of a tensor.
fn variable(tensor: &Tensor) -> Result<Var, CaseError> {
    Ok(Var::from_tensor(tensor)?)
}

fn gradient(gradients: &GradStore, of: &Var) -> Result<Tensor, CaseError> {
    gradients.get(of).cloned().ok_or_else(|| CaseError::Other("a gradient is missing".to_owned()))
}

/// Gradient of a scalar with respect to one variable.
fn slope(loss: &Tensor, of: &Var) -> Result<Tensor, CaseError> {
    gradient(&loss.backward()?, of)
}

/// `P.0`, `P.1`, …: parameter P after each step; `grad.P.n`: its gradient in step n, which it was not given in the steps of
/// metadata `P_missing`.
fn adamw(case: &mut Case<'_>, golden: &Golden) -> Result<(), CaseError> {
    let parameters: BTreeSet<&str> = golden
        .names()
        .filter(|name| !name.starts_with("grad."))
        .filter_map(|name| name.rsplit_once('.'))
        .map(|(parameter, _)| parameter)
        .collect();
    let mut named = Vec::new();
    for parameter in parameters {
        named.push((parameter.to_owned(), variable(golden.get(&format!("{parameter}.0"))?)?));
    }
    let group = Group { rate: golden.parsed("lr")?, weight_decay: golden.parsed("wd")? };
    let config =
        AdamWConfig { beta1: golden.parsed("b1")?, beta2: golden.parsed("b2")?, eps: golden.parsed("eps")? };
    let mut optimiser = AdamW::new(named.clone(), config, |_, _| group);
    for step in 0.. {
        let mut gradients = GradStore::default();
        let mut is_over = true;
        for (name, var) in &named {
            is_over &= !golden.has(&format!("{name}.{}", step + 1));
            let missing = golden.list(&format!("{name}_missing")).unwrap_or_default();
            // Looked at in any case: where it is not given, it is what the optimiser must not see.
            if let Some(gradient) = golden.find(&format!("grad.{name}.{step}"))
                && !missing.contains(&step)
            {
                gradients.insert(var, gradient.clone());
            }
        }
        if is_over {
            break;
        }
        optimiser.step(&gradients, Factors::default())?;
        for (name, var) in &named {
            case.compare(golden, &format!("{name}.{}", step + 1), var, FORWARD)?;
        }
    }
    Ok(())
}

/// `P`: gradient of a parameter, `P.clipped`, and the `norm` before.
fn clip(case: &mut Case<'_>, golden: &Golden) -> Result<(), CaseError> {
    let mut parameters = Vec::new();
    let mut gradients = GradStore::default();
    for name in golden.names().filter_map(|name| name.strip_suffix(".clipped")) {
        let gradient = golden.get(name)?;
        let var = variable(&gradient.zeros_like()?)?;
        gradients.insert(&var, gradient.clone());
        parameters.push((name.to_owned(), var));
    }
    let norm = clip_grad_norm(&parameters, &mut gradients, golden.parsed("max_norm")?)?;
    case.numbers("norm", &golden.floats("norm")?, &[norm], FORWARD);
    for (name, var) in &parameters {
        case.compare(golden, &format!("{name}.clipped"), &gradient(&gradients, var)?, FORWARD)?;
    }
    Ok(())
}

fn layer_norm(case: &mut Case<'_>, golden: &Golden) -> Result<(), CaseError> {
    let named = |name: &str| Ok::<_, CaseError>((name.to_owned(), variable(golden.get(name)?)?));
    let (x, weight, bias) = (named("x")?, named("weight")?, named("bias")?);
    let tensors =
        [&weight, &bias].into_iter().map(|(name, var)| (name.clone(), var.as_tensor().clone())).collect();
    let norm =
        LayerNorm::load(weight.1.elem_count(), &VarBuilder::from_tensors(tensors, DType::F32, case.device))?;
    let out = norm.forward(&x.1)?;
    case.compare(golden, "out", &out, FORWARD)?;
    let gradients = (out * golden.get("probe")?)?.sum_all()?.backward()?;
    for (name, var) in [x, weight, bias] {
        case.compare_gradient(golden, &format!("grad.{name}"), &gradient(&gradients, &var)?)?;
    }
    Ok(())
}

/// `w.in_proj_weight` holds Q, K and V one above the other; `key_padding_mask` is 1 where a token does not count.
fn attention(case: &mut Case<'_>, golden: &Golden) -> Result<(), CaseError> {
    let x = variable(golden.get("x")?)?;
    let (rows, length, width) = x.dims3()?;
    let heads = golden.get("attn")?.dim(1)?;
    let mut weights = Vec::new();
    for name in golden.after("w.") {
        weights.push((name.clone(), variable(golden.get(&format!("w.{name}"))?)?));
    }
    let weight = |wanted: &str| {
        let found = weights.iter().find(|(name, _)| name == wanted);
        found.map(|(_, var)| var.as_tensor()).ok_or_else(|| CaseError::Missing(format!("w.{wanted}")))
    };
    let (projections, biases) = (weight("in_proj_weight")?, weight("in_proj_bias")?);
    let projection = |index: usize| -> Result<Dense, CaseError> {
        let bias = biases.narrow(0, index * width, width)?;
        Ok(Dense::new(projections.narrow(0, index * width, width)?, Some(bias))?)
    };
    let output = Dense::new(weight("out_proj.weight")?.clone(), Some(weight("out_proj.bias")?.clone()))?;
    let attention = Attention::new(projection(0)?, projection(1)?, projection(2)?, output, heads);
    let all = Tensor::ones((rows, length), DType::F32, case.device)?;
    let (out, looked) = attention.forward_with_weights(&x, &x, &all)?;
    case.compare(golden, "out", &out, FORWARD)?;
    case.compare(golden, "attn", &looked, FORWARD)?;
    let keep = (1.0 - golden.get("key_padding_mask")?.to_dtype(DType::F32)?)?;
    case.compare(golden, "out.masked", &attention.forward(&x, &x, &keep)?, FORWARD)?;
    let gradients = (out * golden.get("probe")?)?.sum_all()?.backward()?;
    case.compare_gradient(golden, "grad.x", &gradient(&gradients, &x)?)?;
    for (name, var) in &weights {
        case.compare_gradient(golden, &format!("grad.w.{name}"), &gradient(&gradients, var)?)?;
    }
    Ok(())
}

/// `NAME.loss`, `NAME.grad` of `ce…`, `bce…` and `mse…`; what NAME has not of its own (`NAME.logits`, `NAME.target`) it
/// shares with the part of its name before the first `_`.
fn all_losses(case: &mut Case<'_>, golden: &Golden) -> Result<(), CaseError> {
    let names: Vec<&str> = golden.names().filter_map(|name| name.strip_suffix(".loss")).collect();
    for name in names {
        let family = name.split('_').next().unwrap_or(name);
        let own = |part: &str| {
            let own = format!("{name}.{part}");
            if golden.has(&own) { golden.get(&own) } else { golden.get(&format!("{family}.{part}")) }
        };
        let (input, loss) = match family {
            "ce" => {
                let scores = variable(own("logits")?)?;
                // torch ignores targets of −100.
                let labels: Vec<i64> = own("target")?.to_dtype(DType::I64)?.to_vec1()?;
                let labels: Vec<Option<u32>> =
                    labels.iter().map(|&label| u32::try_from(label).ok()).collect();
                let loss = losses::cross_entropy(&scores, &labels)?
                    .ok_or_else(|| CaseError::Other(format!("`{name}` has no label")))?;
                (scores, loss)
            }
            "bce" => {
                let scores = variable(own("logits")?)?;
                let weight = match name.strip_prefix("bce_pos_weight") {
                    None => 1.0,
                    Some(weight) => weight
                        .parse()
                        .map_err(|_| CaseError::Other(format!("`{name}` does not end in a weight")))?,
                };
                let loss = losses::binary_cross_entropy(&scores, own("target")?, weight)?;
                (scores, loss)
            }
            "mse" => {
                let predicted = variable(own("pred")?)?;
                let loss = losses::mean_squared_error(&predicted, own("target")?)?;
                (predicted, loss)
            }
            _ => continue,
        };
        case.compare(golden, &format!("{name}.loss"), &loss, FORWARD)?;
        case.compare_gradient(golden, &format!("{name}.grad"), &slope(&loss, &input)?)?;
    }
    if golden.has("mpjpe") {
        let distance = losses::joint_distance(golden.get("mse.pred")?, golden.get("mse.target")?)?;
        case.compare(golden, "mpjpe", &distance, FORWARD)?;
    }
    Ok(())
}

/// Eq. 14 over tasks in a row: over all, over those with `present` = 1, and where its slope in v is 0.
fn uncertainty(case: &mut Case<'_>, golden: &Golden) -> Result<(), CaseError> {
    let elements = |name: &str| -> Result<Vec<Var>, CaseError> {
        let tensor = golden.get(name)?;
        (0..tensor.elem_count()).map(|task| variable(&tensor.narrow(0, task, 1)?.copy()?)).collect()
    };
    let (losses, log_vars) = (elements("losses")?, elements("log_var")?);
    let present = golden.floats("present")?;
    let of = |log_vars: &[Var], counts: &dyn Fn(usize) -> bool| -> Result<(Tensor, GradStore), CaseError> {
        let pairs = losses.iter().zip(log_vars).enumerate().filter(|(task, _)| counts(*task));
        let pairs = pairs.map(|(_, (loss, v))| (loss.as_tensor(), v.as_tensor()));
        let total = weighted_sum(pairs)?.ok_or_else(|| CaseError::Other("no task is present".to_owned()))?;
        let gradients = total.backward()?;
        Ok((total, gradients))
    };
    // A task that is not in the sum has no gradient, which torch writes as 0.
    let gathered = |gradients: &GradStore, vars: &[Var]| -> Result<Tensor, CaseError> {
        let all =
            vars.iter().map(|var| gradients.get(var).map_or_else(|| var.zeros_like(), |x| Ok(x.clone())));
        Ok(Tensor::cat(&all.collect::<Result<Vec<_>, _>>()?, 0)?)
    };
    let (total, gradients) = of(&log_vars, &|_| true)?;
    case.compare(golden, "total", &total, FORWARD)?;
    case.compare_gradient(golden, "grad.log_var", &gathered(&gradients, &log_vars)?)?;
    case.compare_gradient(golden, "grad.losses", &gathered(&gradients, &losses)?)?;
    let (total, gradients) = of(&log_vars, &|task| present.get(task).is_some_and(|&is| is != 0.0))?;
    case.compare(golden, "present.total", &total, FORWARD)?;
    case.compare_gradient(golden, "present.grad.log_var", &gathered(&gradients, &log_vars)?)?;
    let stationary = elements("stationary_log_var")?;
    let (_, gradients) = of(&stationary, &|_| true)?;
    let slopes = gathered(&gradients, &stationary)?;
    case.compare_with("stationary_log_var", &slopes.zeros_like()?, &slopes, FORWARD)?;
    Ok(())
}
