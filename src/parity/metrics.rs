//! `metrics`: the measures, against scikit-learn, SciPy and NumPy.
//!
//! `expected.json` has a section per file (`beam` for `beam.safetensors`) with a number per measure. The numbers in the
//! names (`top3`, `ece_15_equal_width_bins`) are read, not known.

use std::collections::BTreeMap;

use ndarray::{Array2, Array3};
use serde_json::{Map, Value};

use super::case::{Case, CaseError};
use super::golden::Golden;
use super::{Context, Files, Row, Tolerance};
use crate::train::measures::beam::{
    Codebook, distance_based_accuracy, power_loss_db, strongest, top_k_accuracy,
};
use crate::train::measures::binary::Scored;
use crate::train::measures::calibration::expected_calibration_error;
use crate::train::measures::classes::Confusion;
use crate::train::measures::{mean, median, pose};

const MEASURE: Tolerance = Tolerance::Absolute(1e-6);
const EXPECTED: &str = "expected.json";
/// Above it, a link is said to be blocked.
const THRESHOLD: f64 = 0.5;

/// Measures by name.
type Section = Map<String, Value>;
/// What a measure is by its name; `None` where none is known by it.
type Measured = Result<Option<f64>, CaseError>;

pub(super) fn run(files: &mut Files<'_>, context: Context<'_>) -> Vec<Row> {
    let failed = |reason: String| vec![Row::failed("metrics/expected", "-", reason)];
    if !files.take(EXPECTED) {
        return failed(format!("{EXPECTED} is missing"));
    }
    let expected = match sections(files) {
        Ok(expected) => expected,
        Err(reason) => return failed(reason),
    };
    let mut rows = Vec::new();
    for (section, expected) in &expected {
        let name = format!("{section}.safetensors");
        files.take(&name);
        let (case, path) = (files.case(section, context), files.path(&name));
        rows.extend(match section.as_str() {
            "beam" => case.on(&path, |case, golden| beam(case, golden, expected)),
            "blockage" => case.on(&path, |case, golden| blockage(case, golden, expected)),
            "activity" => case.on(&path, |case, golden| activity(case, golden, expected)),
            "pose" => case.on(&path, |case, golden| poses(case, golden, expected)),
            _ => vec![Row::unknown(&format!("metrics/{section}"))],
        });
    }
    rows
}

fn sections(files: &Files<'_>) -> Result<BTreeMap<String, Section>, String> {
    let path = files.path(EXPECTED);
    let in_file = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(&path).map_err(|error| in_file(&error))?;
    serde_json::from_str(&text).map_err(|error| in_file(&error))
}

/// Compares every number of a section with what `measure` makes of its name.
fn compare_all(
    case: &mut Case<'_>,
    expected: &Section,
    measure: impl Fn(&str) -> Measured,
) -> Result<(), CaseError> {
    for (name, expected) in expected {
        let Some(expected) = expected.as_f64() else {
            case.miss(name, &format!("found {expected}, allowed is a number"));
            continue;
        };
        match measure(name)? {
            Some(found) => case.numbers(name, &[expected], &[found], MEASURE),
            None => case.miss(name, "no measure is known by this name"),
        }
    }
    Ok(())
}

fn matrix(golden: &Golden, name: &str) -> Result<Array2<f64>, CaseError> {
    let shape = golden.get(name)?.dims2()?;
    Array2::from_shape_vec(shape, golden.floats(name)?).map_err(|error| CaseError::Other(error.to_string()))
}

fn classes(golden: &Golden, name: &str) -> Result<Vec<usize>, CaseError> {
    let class = |label: i64| {
        usize::try_from(label)
            .map_err(|_| CaseError::Other(format!("`{name}`: found {label}, allowed are 0 and more")))
    };
    golden.integers(name)?.into_iter().map(class).collect()
}

/// The number at the end of a name that starts so.
fn number_after(name: &str, start: &str) -> Option<usize> {
    name.strip_prefix(start)?.parse().ok()
}

fn beam(case: &mut Case<'_>, golden: &Golden, expected: &Section) -> Result<(), CaseError> {
    let (power, scores) = (matrix(golden, "power")?, matrix(golden, "logits")?);
    let truth = strongest(power.view());
    let mut numbers = expected.clone();
    for (name, value) in expected {
        let Some(count) = number_after(name, "true_first") else { continue };
        numbers.remove(name);
        let list: Option<Vec<i64>> =
            value.as_array().and_then(|list| list.iter().map(Value::as_i64).collect());
        match list {
            Some(list) => {
                // −1 stands for a row in which nothing was measured; no beam has this number.
                let found = truth.iter().take(count).map(|beam| beam.map_or(-1, |beam| beam as i64));
                case.integers(name, &list, &found.collect::<Vec<i64>>());
            }
            None => case.miss(name, &format!("found {value}, allowed is a list of beams")),
        }
    }
    compare_all(case, &numbers, |name| {
        if let Some(k) = number_after(name, "top") {
            return Ok(Some(top_k_accuracy(scores.view(), &truth, k)?));
        }
        let loss = |k: usize| power_loss_db(scores.view(), power.view(), k);
        if let Some(k) = number_after(name, "power_loss_db_top") {
            return Ok(Some(mean(&loss(k)?)?));
        }
        if let Some(k) = number_after(name, "median_power_loss_db_top") {
            return Ok(Some(median(&loss(k)?)?));
        }
        match name {
            "dba" => Ok(Some(distance_based_accuracy(scores.view(), &truth, Codebook::Linear)?)),
            _ => Ok(None),
        }
    })
}

fn blockage(case: &mut Case<'_>, golden: &Golden, expected: &Section) -> Result<(), CaseError> {
    let labels: Vec<bool> = golden.integers("label")?.iter().map(|&label| label != 0).collect();
    let probabilities = golden.floats("probability")?;
    let scored = Scored::new(&labels, &probabilities)?;
    let decisions = scored.decide(THRESHOLD);
    compare_all(case, expected, |name| {
        let bins = name.strip_prefix("ece_").and_then(|rest| rest.strip_suffix("_equal_width_bins"));
        if let Some(bins) = bins.and_then(|bins| bins.parse().ok()) {
            return Ok(Some(expected_calibration_error(&labels, &probabilities, bins)?));
        }
        Ok(Some(match name {
            "accuracy" => decisions.accuracy(),
            "majority_rate" => scored.majority_rate(),
            "average_precision" => scored.average_precision()?,
            "auroc" => scored.auroc()?,
            "f1" => decisions.f1(),
            "precision" => decisions.precision(),
            "recall" => decisions.recall(),
            _ => return Ok(None),
        }))
    })
}

fn activity(case: &mut Case<'_>, golden: &Golden, expected: &Section) -> Result<(), CaseError> {
    let (labels, scores) = (classes(golden, "label")?, matrix(golden, "logits")?);
    let truth: Vec<Option<usize>> = labels.iter().copied().map(Some).collect();
    let confusion = Confusion::of_scores(&labels, scores.view())?;
    compare_all(case, expected, |name| {
        if let Some(k) = number_after(name, "top") {
            return Ok(Some(top_k_accuracy(scores.view(), &truth, k)?));
        }
        Ok(Some(match name {
            "macro_f1" => confusion.macro_f1(),
            "accuracy" => confusion.accuracy(),
            "majority_rate" => confusion.majority_rate(),
            "confusion_trace" => confusion.right() as f64,
            _ => return Ok(None),
        }))
    })
}

fn poses(case: &mut Case<'_>, golden: &Golden, expected: &Section) -> Result<(), CaseError> {
    let positions = |name: &str| -> Result<Array3<f64>, CaseError> {
        let shape = golden.get(name)?.dims3()?;
        Array3::from_shape_vec(shape, golden.floats(name)?)
            .map_err(|error| CaseError::Other(error.to_string()))
    };
    let (truth, predicted) = (positions("truth")?, positions("prediction")?);
    compare_all(case, expected, |name| {
        let (truth, predicted) = (truth.view(), predicted.view());
        Ok(Some(match name {
            "mse" => pose::mean_squared_error(truth, predicted)?,
            "mpjpe" => pose::mpjpe(truth, predicted)?,
            "pa_mpjpe" => pose::pa_mpjpe(truth, predicted)?,
            _ => return Ok(None),
        }))
    })
}
