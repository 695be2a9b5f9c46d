//! The infer thread: owns the model, and decides on what it says.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::Aligned;
use super::deciding::Deciding;
use super::queue::Receiver;
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
    mut deciding: Deciding,
    newest_only: bool,
    metrics: &Metrics,
) {
    while take(predictor.as_mut(), aligned, &mut deciding, newest_only, metrics) {}
    deciding.finish();
}

/// Takes what waits through model and decisions; false at the end of either side.
fn take(
    predictor: &mut dyn Predictor,
    aligned: &Receiver<Aligned>,
    deciding: &mut Deciding,
    newest_only: bool,
    metrics: &Metrics,
) -> bool {
    let Ok(first) = aligned.recv() else { return false };
    let mut batch = Batch::default();
    batch.add(first, metrics);
    if newest_only {
        for item in aligned.try_iter() {
            batch.add(item, metrics);
        }
    }
    if !batch.truth.iter().all(|truth| deciding.truth(truth)) {
        return false;
    }
    let (windows, born): (Vec<Window>, Vec<Instant>) = batch.newest.into_values().unzip();
    if windows.is_empty() {
        return true;
    }
    let begun = Instant::now();
    let outcome = predict(predictor, &windows);
    metrics.took(Stage::Infer, begun.elapsed());
    deciding.status.runs_on(predictor.device());
    if let Err(error) = &outcome {
        ModelFailed { detail: error }.emit(metrics);
    }
    let outcomes: Vec<Result<&Prediction, &ModelError>> = match &outcome {
        Ok(predictions) => predictions.iter().map(Ok).collect(),
        Err(error) => vec![Err(error); windows.len()],
    };
    let decided = windows.iter().zip(born).zip(outcomes);
    decided.into_iter().all(|((window, born), outcome)| deciding.frame(window, outcome, born, begun))
}

/// A panic or a wrong number of answers is a model failure like any other: decide holds the last good beam.
pub(super) fn predict(
    predictor: &mut dyn Predictor,
    windows: &[Window],
) -> Result<Vec<Prediction>, ModelError> {
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
