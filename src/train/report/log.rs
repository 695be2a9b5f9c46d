//! The log of a run: what `train` wrote into `log.jsonl`, line by line.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::ReportError;
use crate::train::trainer::{Standing, Validated};

/// A line: its stage by number, and what it tells.
#[derive(Debug, Deserialize)]
struct Line {
    stage_number: usize,
    #[serde(flatten)]
    told: Told,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Told {
    Train(Standing),
    Validation(Validated),
}

/// What happened in a run. Steps are counted through over its stages.
#[derive(Clone, Debug, Default)]
pub struct Training {
    /// Name of each stage that has begun, and the step at which it did.
    pub stages: Vec<(String, u64)>,
    /// How it stood, by step.
    pub trained: Vec<(u64, Standing)>,
    /// What validations found, by step.
    pub validated: Vec<(u64, Validated)>,
}

/// Reads a log. A last line without its end is left out: it is being written.
///
/// # Errors
/// [`ReportError`] when there is none, a line cannot be read, or nothing stands in it.
pub fn load(path: &Path) -> Result<Training, ReportError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| ReportError::Io { file: path.to_owned(), source })?;
    let wrong = |line: usize, reason: String| ReportError::Log { file: path.to_owned(), line, reason };
    let mut lines: Vec<Line> = Vec::new();
    let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
    for (number, line) in (1..).zip(whole.lines()) {
        lines.push(serde_json::from_str(line).map_err(|error| wrong(number, error.to_string()))?);
    }
    if lines.is_empty() {
        return Err(wrong(1, "found no line, allowed are 1 and more: has the run begun?".to_owned()));
    }
    // How far each stage went, whoever told it.
    let mut reached: BTreeMap<usize, (String, u64)> = BTreeMap::new();
    for line in &lines {
        let (stage, step) = match &line.told {
            Told::Train(standing) => (&standing.stage, standing.step),
            Told::Validation(validated) => (&validated.stage, validated.step),
        };
        let known = reached.entry(line.stage_number).or_insert_with(|| (stage.clone(), 0));
        known.1 = known.1.max(step);
    }
    let mut begun = BTreeMap::new();
    let mut training = Training::default();
    let mut sum = 0;
    for (number, (name, steps)) in reached {
        begun.insert(number, sum);
        training.stages.push((name, sum));
        sum += steps;
    }
    for line in lines {
        let before = begun.get(&line.stage_number).copied().unwrap_or_default();
        match line.told {
            Told::Train(standing) => training.trained.push((before + standing.step, standing)),
            Told::Validation(validated) => training.validated.push((before + validated.step, validated)),
        }
    }
    Ok(training)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAIN: &str = r#"{"type":"train","stage_number":0,"step":5,"stage":"alone","steps":10,"losses":{"beam":3.0},"sigma":{"beam":1.0},"gradient":1.0,"rows_per_s":9.0,"waiting":0.0,"left_s":1.0}"#;
    const VALIDATION: &str = r#"{"type":"validation","stage_number":1,"step":4,"stage":"joint","losses":{"beam":2.0},"top1":{"beam":0.4},"best":true}"#;

    fn read(text: &str) -> Result<Training, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log.jsonl");
        std::fs::write(&file, text).unwrap();
        load(&file)
            .map_err(|error| error.to_string().rsplit("log.jsonl").next().unwrap_or_default().to_owned())
    }

    #[test]
    fn steps_are_counted_through() {
        let training = read(&format!("{TRAIN}\n{VALIDATION}\n{{\"type\":\"tra")).unwrap();
        assert_eq!(training.stages, [("alone".to_owned(), 0), ("joint".to_owned(), 5)]);
        assert_eq!((training.trained[0].0, training.validated[0].0), (5, 9));
    }

    #[test]
    fn a_log_that_cannot_be_read_says_where() {
        assert!(read("").unwrap_err().contains("found no line"));
        let error = read(&format!("{TRAIN}\nnonsense\n")).unwrap_err();
        assert!(error.starts_with(":2: "), "{error}");
        let error = read(&format!("{}\n", TRAIN.replace("\"train\"", "\"tested\""))).unwrap_err();
        assert!(error.contains("`tested`") && error.contains("`train` or `validation`"), "{error}");
    }
}
