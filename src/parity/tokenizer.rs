//! `tokenizer`: a byte-level BPE against the tokenizers library of Python.

use super::case::{Case, CaseError};
use super::{Context, Files, Row};
use crate::model::tokenizer::Tokenizer;

const TOKENIZER: &str = "tokenizer.json";
const ENCODINGS: &str = "encodings.json";

/// One text and what it becomes.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoding {
    text: String,
    /// With the begin-of-text token.
    ids: Vec<i64>,
    ids_no_special: Vec<i64>,
}

pub(super) fn run(files: &mut Files<'_>, context: Context<'_>) -> Vec<Row> {
    let there = [TOKENIZER, ENCODINGS].map(|name| files.take(name));
    if !there.contains(&true) {
        return Vec::new();
    }
    let mut case = files.case("encodings", context);
    let done = compare(&mut case, files);
    case.finish(done, &[])
}

fn compare(case: &mut Case<'_>, files: &Files<'_>) -> Result<(), CaseError> {
    let path = files.path(ENCODINGS);
    let unreadable =
        |error: &dyn std::fmt::Display| CaseError::File { file: path.clone(), reason: error.to_string() };
    let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&error))?;
    let encodings: Vec<Encoding> = serde_json::from_str(&text).map_err(|error| unreadable(&error))?;
    let other = |error: crate::model::tokenizer::TokenizerError| CaseError::Other(error.to_string());
    let tokenizer = Tokenizer::load(&files.path(TOKENIZER)).map_err(other)?;
    for (index, Encoding { text, ids, ids_no_special }) in encodings.iter().enumerate() {
        for (name, special, expected) in [("ids", true, ids), ("ids_no_special", false, ids_no_special)] {
            let found = tokenizer.encode(text, special).map_err(other)?;
            let found: Vec<i64> = found.into_iter().map(i64::from).collect();
            // Of no ids, none is right.
            if !(found.is_empty() && expected.is_empty()) {
                case.integers(&format!("{index}.{name}"), expected, &found);
            }
        }
    }
    Ok(())
}
