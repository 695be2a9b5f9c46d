//! The infer thread: owns the model.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crossbeam_channel::Receiver;

use super::queue::{Sender, Sent};
use super::{Aligned, Inferred};
use crate::frame::Window;
use crate::infer::{ModelError, Prediction, Predictor};
use crate::observe::event::{FrameOverrun, ModelFailed};
use crate::observe::{Metrics, Stage};
use crate::sample::{Sample, UnitId};

/// Runs the model over what arrives. With `newest_only`, everything that waits is taken at once and of each unit only
/// the newest frame goes through the model; else every frame does, one at a time.
pub(super) fn run(
    mut predictor: Box<dyn Predictor>,
    aligned: &Receiver<Aligned>,
    inferred: &Sender<Inferred>,
    newest_only: bool,
    metrics: &Metrics,
) {
    while let Ok(first) = aligned.recv() {
        let mut batch = Batch::default();
        batch.add(first, metrics);
        if newest_only {
            for item in aligned.try_iter() {
                batch.add(item, metrics);
            }
        }
        for truth in batch.truth {
            if let Sent::Closed = inferred.send(Inferred::Truth(truth)) {
                return;
            }
        }
        let (windows, born): (Vec<Window>, Vec<Instant>) = batch.newest.into_values().unzip();
        if windows.is_empty() {
            continue;
        }
        let begun = Instant::now();
        let outcome = predict(predictor.as_mut(), &windows);
        metrics.took(Stage::Infer, begun.elapsed());
        if let Err(error) = &outcome {
            ModelFailed { detail: error }.emit(metrics);
        }
        let outcomes: Vec<Result<Prediction, ModelError>> = match outcome {
            Ok(predictions) => predictions.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); windows.len()],
        };
        for ((window, born), outcome) in windows.into_iter().zip(born).zip(outcomes) {
            let item = Inferred::Frame { frame: window.frame, outcome, born };
            if let Sent::Closed = inferred.send(item) {
                return;
            }
        }
    }
}

/// A panic or a wrong number of answers is a model failure like any other: decide holds the last good beam.
fn predict(predictor: &mut dyn Predictor, windows: &[Window]) -> Result<Vec<Prediction>, ModelError> {
    let predictions = catch_unwind(AssertUnwindSafe(|| predictor.predict(windows)))
        .unwrap_or_else(|_| Err(ModelError::Failed("it panicked".to_owned())))?;
    if predictions.len() != windows.len() {
        let message = format!("{} predictions for {} windows", predictions.len(), windows.len());
        return Err(ModelError::Failed(message));
    }
    Ok(predictions)
}

#[derive(Default)]
struct Batch {
    newest: BTreeMap<UnitId, (Window, Instant)>,
    truth: Vec<Sample>,
}

impl Batch {
    fn add(&mut self, item: Aligned, metrics: &Metrics) {
        match item {
            Aligned::Truth(sample) => self.truth.push(sample),
            Aligned::Window { window, born } => {
                let unit = window.frame.unit.clone();
                if self.newest.insert(unit.clone(), (window, born)).is_some() {
                    FrameOverrun { unit: &unit }.emit(metrics);
                }
            }
        }
    }
}
