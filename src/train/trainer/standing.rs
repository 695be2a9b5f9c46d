//! What a trainer tells while it goes on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::moving::Moving;
use crate::model::tasks::Task;
use crate::train::TrainError;
use crate::train::recipe::Stage;

/// How it stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// Name of the stage.
    pub stage: String,
    /// Steps done in the stage, and of how many.
    pub step: u64,
    /// Steps of the stage.
    pub steps: u64,
    /// Mean loss of each task since the last time that was told.
    pub losses: BTreeMap<Task, f64>,
    /// σ of each task (Eq. 14).
    pub sigma: BTreeMap<Task, f64>,
    /// Norm of the last gradient.
    pub gradient: f64,
    /// Rows learned from per second.
    pub rows_per_s: f64,
    /// Share of the time in which the network waited for a batch.
    pub waiting: f64,
    /// Seconds that are left of the stage.
    pub left_s: f64,
}

/// What a validation found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Validated {
    /// Name of the stage.
    pub stage: String,
    /// Steps done.
    pub step: u64,
    /// Mean loss of each task.
    pub losses: BTreeMap<Task, f64>,
    /// Share of the rows in which the first choice is right, of tasks that choose.
    pub top1: BTreeMap<Task, f64>,
    /// The same of whoever always names the class that is the commonest among those rows.
    #[serde(default)]
    pub commonest: BTreeMap<Task, f64>,
    /// Whether it is the best one so far.
    pub best: bool,
}

/// What of another run it begins with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Began {
    /// The run's folder.
    pub from: PathBuf,
    /// Tensors that are taken from it.
    pub taken: usize,
    /// Tensors that it has not: they are drawn.
    pub drawn: usize,
}

/// What is told while it goes on.
#[derive(Clone, Debug)]
pub enum Event {
    /// It begins with the weights of another run.
    Began(Began),
    /// It goes on.
    Standing(Standing),
    /// It was validated.
    Validated(Validated),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All stages are done.
    Done,
    /// It was stopped, and goes on from there.
    Stopped,
}

/// What a step found.
pub(super) struct Took {
    pub(super) losses: BTreeMap<Task, f64>,
    pub(super) norm: f64,
}

/// What has happened since it was told last.
pub(super) struct Since {
    pub(super) begun: Instant,
    pub(super) waited: Duration,
    rows: usize,
    steps: u64,
    losses: BTreeMap<Task, (f64, usize)>,
    norm: f64,
}

impl Since {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            waited: Duration::ZERO,
            rows: 0,
            steps: 0,
            losses: BTreeMap::new(),
            norm: 0.0,
        }
    }

    pub(super) fn add(&mut self, took: &Took, rows: usize) {
        self.rows += rows;
        self.steps += 1;
        self.norm = took.norm;
        for (&task, loss) in &took.losses {
            let sum = self.losses.entry(task).or_default();
            sum.0 += loss;
            sum.1 += 1;
        }
    }

    pub(super) fn standing(
        &self,
        stage: &Stage,
        step: u64,
        steps: u64,
        moving: &Moving,
    ) -> Result<Standing, TrainError> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let mean = |(&task, &(sum, count)): (&Task, &(f64, usize))| (task, sum / count as f64);
        let v = moving.uncertainty.log_variances()?;
        Ok(Standing {
            stage: stage.name.clone(),
            step,
            steps,
            losses: self.losses.iter().map(mean).collect(),
            sigma: v.into_iter().map(|(task, v)| (task, (0.5 * v).exp())).collect(),
            gradient: self.norm,
            rows_per_s: self.rows as f64 / seconds,
            waiting: self.waited.as_secs_f64() / seconds,
            left_s: (steps - step) as f64 * seconds / self.steps.max(1) as f64,
        })
    }
}
