//! What a run writes down: a log of JSON lines, and the same for TensorBoard.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::json;

use super::TrainError;
use super::tensorboard::Events;
use super::trainer::{LOG, Standing, Validated};

/// A point of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    /// The stage, from 0.
    pub(super) stage: usize,
    /// Steps done in the stage.
    pub(super) step: u64,
    /// Steps done in all stages.
    pub(super) total: u64,
}

/// The log of a run.
pub(super) struct Log {
    path: PathBuf,
    file: fs::File,
    events: Events,
}

impl Log {
    /// Opens the log of a run in its folder; what it says from behind where the run stands is dropped: it comes again.
    pub(super) fn open(folder: &Path, at: At) -> Result<Self, TrainError> {
        let path = folder.join(LOG);
        let io = |source| TrainError::Io { file: path.clone(), source };
        let before = fs::read_to_string(&path).unwrap_or_default();
        let is_before = |line: &&str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            let number = |key: &str| line.get(key).and_then(serde_json::Value::as_u64);
            let told = (number("stage_number"), number("step"));
            matches!(told, (Some(stage), Some(step)) if (stage, step) <= (at.stage as u64, at.step))
        };
        let kept: Vec<&str> = before.lines().filter(is_before).collect();
        let mut file = fs::File::create(&path).map_err(io)?;
        for line in kept {
            writeln!(file, "{line}").map_err(io)?;
        }
        let events = Events::create(folder, at.total)?;
        Ok(Self { path, file, events })
    }

    /// How it stands.
    pub(super) fn standing(&mut self, at: At, standing: &Standing) -> Result<(), TrainError> {
        self.write(at, "train", standing)?;
        let mut scalars = vec![
            ("gradient".to_owned(), standing.gradient),
            ("rows per second".to_owned(), standing.rows_per_s),
            ("waiting for batches".to_owned(), standing.waiting),
        ];
        scalars.extend(standing.losses.iter().map(|(task, loss)| (format!("loss/{task}"), *loss)));
        scalars.extend(standing.sigma.iter().map(|(task, sigma)| (format!("sigma/{task}"), *sigma)));
        self.events.scalars(at.total, &scalars)
    }

    /// What a validation found.
    pub(super) fn validated(&mut self, at: At, validated: &Validated) -> Result<(), TrainError> {
        self.write(at, "validation", validated)?;
        let losses = validated.losses.iter().map(|(task, loss)| (format!("validation loss/{task}"), *loss));
        let top1 = validated.top1.iter().map(|(task, top1)| (format!("validation top-1/{task}"), *top1));
        self.events.scalars(at.total, &losses.chain(top1).collect::<Vec<_>>())
    }

    fn write(&mut self, at: At, kind: &str, what: &impl Serialize) -> Result<(), TrainError> {
        let mut line = json!({ "type": kind, "stage_number": at.stage, "step": at.step });
        if let (Some(line), Ok(serde_json::Value::Object(what))) =
            (line.as_object_mut(), serde_json::to_value(what))
        {
            line.extend(what);
        }
        writeln!(self.file, "{line}").map_err(|source| TrainError::Io { file: self.path.clone(), source })
    }
}
