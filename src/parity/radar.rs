//! `radar`: range-angle and range-Doppler maps of a cube, through the decoder that a pipeline uses, against NumPy's FFTs
//! in 64 bits.

use ndarray::{Array2, Ix3};
use serde_json::{Map, Value};

use super::case::{Case, CaseError};
use super::golden::Golden;
use super::{Context, Files, Row, Tolerance};
use crate::config::Radar;
use crate::decode::npy::{self, NpyArray};
use crate::decode::radar::CubeProcessor;

const CUBE: &str = "cube.npy";
const EXPECTED: &str = "expected.json";
const MAPS: &str = "maps.safetensors";

pub(super) fn run(files: &mut Files<'_>, context: Context<'_>) -> Vec<Row> {
    // All three belong to the one case: a folder that lacks one of them misses in it.
    let there = [CUBE, EXPECTED, MAPS].map(|name| files.take(name));
    if !there.contains(&true) {
        return Vec::new();
    }
    let case = files.case("maps", context);
    let (cube, expected) = (files.path(CUBE), files.path(EXPECTED));
    case.on(&files.path(MAPS), |case, golden| {
        let unreadable = |file: &std::path::Path, reason: &dyn std::fmt::Display| CaseError::File {
            file: file.to_owned(),
            reason: reason.to_string(),
        };
        let text = std::fs::read_to_string(&expected).map_err(|error| unreadable(&expected, &error))?;
        let facts: Map<String, Value> =
            serde_json::from_str(&text).map_err(|error| unreadable(&expected, &error))?;
        let bytes = std::fs::read(&cube).map_err(|error| unreadable(&cube, &error))?;
        let array = npy::read("radar cube", &bytes).map_err(|error| unreadable(&cube, &error))?;
        maps(case, golden, facts, array)
    })
}

fn maps(
    case: &mut Case<'_>,
    golden: &Golden,
    mut facts: Map<String, Value>,
    cube: NpyArray,
) -> Result<(), CaseError> {
    let wrong = |key: &str| CaseError::Other(format!("`{key}` of {EXPECTED} is missing or no number"));
    let mut take = |key: &str| facts.remove(key).ok_or_else(|| wrong(key));
    let tolerance = take("tolerance_relative")?.as_f64().ok_or_else(|| wrong("tolerance_relative"))?;
    let bins = take("angle_bins")?.as_u64().ok_or_else(|| wrong("angle_bins"))?;
    let (shape, strongest) = (take("shape")?, take("strongest_cell_range_angle")?);
    for name in facts.keys() {
        case.miss(name, "nothing is known by this name");
    }
    let NpyArray::Complex(cube) = cube else {
        return Err(CaseError::Other(format!("{CUBE}: found real numbers, allowed are complex ones")));
    };
    let cube =
        cube.into_dimensionality::<Ix3>().map_err(|error| CaseError::Other(format!("{CUBE}: {error}")))?;
    let integers = |value: &Value| -> Result<Vec<i64>, CaseError> {
        let list = value.as_array().and_then(|list| list.iter().map(Value::as_i64).collect());
        list.ok_or_else(|| {
            CaseError::Other(format!("{EXPECTED}: found {value}, allowed is a list of integers"))
        })
    };
    let found: Vec<i64> = cube.shape().iter().map(|&length| length as i64).collect();
    case.integers("shape", &integers(&shape)?, &found);
    let angle_bins = usize::try_from(bins).unwrap_or(usize::MAX);
    // What the decoder refuses before it comes to the maps.
    if !(cube.dim().0..=4096).contains(&angle_bins) || cube.is_empty() {
        let reason = format!("found a cube {found:?} and {bins} angle bins, allowed are rx to 4096 bins");
        return Err(CaseError::Other(reason));
    }
    let mut processor = CubeProcessor::new(Radar { angle_bins, ..Radar::default() });
    let tolerance = Tolerance::Relative(tolerance);
    let range_angle = processor.maps(cube.view()).moving;
    let range_doppler = processor.range_doppler(cube.view());
    let top = range_angle.indexed_iter().max_by(|a, b| a.1.total_cmp(b.1)).map_or((0, 0), |(cell, _)| cell);
    let top = [top.0, top.1].map(|index| index as i64);
    case.integers("strongest_cell_range_angle", &integers(&strongest)?, &top);
    for (name, found) in [("range_angle", range_angle), ("range_doppler", range_doppler)] {
        compare_map(case, golden, name, &found, tolerance)?;
    }
    Ok(())
}

fn compare_map(
    case: &mut Case<'_>,
    golden: &Golden,
    name: &str,
    found: &Array2<f32>,
    tolerance: Tolerance,
) -> Result<(), CaseError> {
    let (rows, columns) = golden.get(name)?.dims2()?;
    if (rows, columns) != found.dim() {
        case.miss(name, &format!("found shape {:?}, expected {:?}", found.dim(), (rows, columns)));
        return Ok(());
    }
    let found: Vec<f64> = found.iter().map(|&x| f64::from(x)).collect();
    case.numbers(name, &golden.floats(name)?, &found, tolerance);
    Ok(())
}
