//! Evaluations as files: what `eval -o` writes and `report` reads.
//!
//! A JSON object: `version`, of which only [`VERSION`] is read; `network`, `checkpoint`, `parameters`; and `results`, one per
//! data set, condition and set of hidden modalities. Keys that it does not know are refused: a newer format has another
//! version.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ReportError;
use crate::train::score::{Figure, Question};

/// Largest figure: what is beyond was never measured.
const LARGEST: f64 = 1e12;
/// The version that is written and read.
pub const VERSION: u32 = 2;

/// What a network is worth.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// [`VERSION`].
    pub version: u32,
    /// Name of the network's configuration.
    pub network: String,
    /// Its file, as it was named.
    pub checkpoint: PathBuf,
    /// Numbers in it.
    pub parameters: usize,
    /// What was measured.
    pub results: Vec<Measured>,
}

/// What was measured on one data set, or on the part of it that is of one condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Name of the data set.
    pub data: String,
    /// Modalities that were hidden from the network, by name.
    pub hidden: Vec<String>,
    /// The share of these rows that the network has learned from, as the marks beside it tell: 0 of what is held out; `None` where
    /// they do not tell.
    pub learned: Option<f64>,
    /// The condition; `None` for all rows together.
    pub condition: Option<String>,
    /// Mean weight that the gate gave each modality, by name; empty of a network without a gate.
    pub gate: BTreeMap<String, Figure>,
    /// What was asked.
    pub questions: Vec<Question>,
}

/// Reads a file that `eval -o` wrote.
///
/// # Errors
/// [`ReportError`] when it cannot be read, is no JSON, or is of another version.
pub fn load(path: &Path) -> Result<Evaluation, ReportError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: Option<u32>,
    }
    let wrong = |reason: String| ReportError::Evaluation { file: path.to_owned(), reason };
    let text = std::fs::read(path).map_err(|source| ReportError::Io { file: path.to_owned(), source })?;
    let versioned: Versioned = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    match versioned.version {
        Some(VERSION) => {}
        found => {
            let found = found.map_or_else(|| "none".to_owned(), |found| found.to_string());
            return Err(wrong(format!("version: found {found}, allowed is {VERSION}")));
        }
    }
    let mut source = serde_json::Deserializer::from_slice(&text);
    let evaluation: Evaluation =
        serde_path_to_error::deserialize(&mut source).map_err(|error| wrong(error.to_string()))?;
    if evaluation.results.is_empty() {
        return Err(wrong("results: found none, allowed are 1 and more".to_owned()));
    }
    for result in &evaluation.results {
        let questions = result.questions.iter().flat_map(|question| &question.worth);
        let figures = questions.flat_map(|worth| &worth.figures).chain(&result.gate);
        for (name, Figure { value, interval }) in figures {
            let [low, high] = interval.unwrap_or([*value; 2]);
            if !(low <= high && [low, high, *value].iter().all(|number| number.abs() <= LARGEST)) {
                let found = format!("`{name}` of {value}, {low} to {high}");
                let data = &result.data;
                return Err(wrong(format!(
                    "results of `{data}`: found {found}, allowed are -{LARGEST:e} to {LARGEST:e}, the lower end first"
                )));
            }
        }
    }
    Ok(evaluation)
}
