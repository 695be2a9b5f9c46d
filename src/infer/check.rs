//! The one place where a model's output is judged before anything rests on it.

use super::{ModelError, Prediction};
use crate::frame::{Frame, UeView};
use crate::sample::UeId;

/// How far the sum of beam probabilities may lie from 1.
const SUM_TOLERANCE: f64 = 1e-3;
/// Most beams that an index can name.
const MOST_BEAMS: usize = 1 << 16;

/// Judges what a model says of a frame: every vector finite, in 0…1, of the right length; beams sum to 1, and so do gate weights; blockage is
/// non-decreasing over the horizons. What it says of a UE that is not in the frame is not looked at.
///
/// `beams` is the length of the codebook; where it is not known, the UE's link reports in the frame say it (one of them
/// has to have that length), and without one any length from 1 to 65,536 will do.
///
/// # Errors
/// [`ModelError`] for the first UE (by name) of which something wrong is said.
pub fn check(
    prediction: &Prediction,
    frame: &Frame,
    beams: Option<usize>,
    horizons: usize,
) -> Result<(), ModelError> {
    for (ue, said) in &prediction.ues {
        let Some(view) = frame.ues.get(ue) else { continue };
        if let Some(beam) = &said.beam {
            let expected = beams.unwrap_or_else(|| reported(view, beam.len()));
            probabilities("beam", ue, beam, expected)?;
            sum_to_one("beam", ue, beam)?;
        }
        if !said.gate.is_empty() {
            let weights: Vec<f32> = said.gate.values().copied().collect();
            probabilities("gate", ue, &weights, weights.len())?;
            sum_to_one("gate", ue, &weights)?;
        }
        if let Some(blockage) = &said.blockage {
            probabilities("blockage", ue, blockage, horizons)?;
            if let Some((earlier, later)) = blockage.iter().zip(blockage.iter().skip(1)).find(|(a, b)| a > b)
            {
                let found = format!("probability {later} after {earlier}");
                return Err(improbable("blockage", ue, found, "it cannot fall with the horizon"));
            }
        }
    }
    if let Some(activity) = &prediction.activity {
        of_unit("activity", probabilities_of(activity))?;
    }
    if let Some(pose) = &prediction.pose {
        let finite = pose.iter().flatten().all(|number| number.is_finite());
        of_unit("pose", if finite { Ok(()) } else { Err("a joint that is nowhere".to_owned()) })?;
    }
    Ok(())
}

/// What is wrong with a law over the activities.
fn probabilities_of(law: &[f32]) -> Result<(), String> {
    let sum: f64 = law.iter().map(|&p| f64::from(p)).sum();
    match law.iter().find(|value| !(0.0..=1.0).contains(*value)) {
        Some(value) => Err(format!("probability {value}")),
        None if (sum - 1.0).abs() > SUM_TOLERANCE => Err(format!("probabilities of sum {sum}")),
        None => Ok(()),
    }
}

fn of_unit(what: &'static str, judged: Result<(), String>) -> Result<(), ModelError> {
    judged.map_err(|found| ModelError::ImprobableOfUnit { what, found })
}

/// The number of beams that the UE's reports allow: `found` itself if one of them has it, else that of the newest.
fn reported(view: &UeView, found: usize) -> usize {
    let lengths = || view.link.iter().rev().map(|report| report.power.linear.len());
    let any = found.clamp(1, MOST_BEAMS);
    lengths().find(|&length| length == found).or_else(|| lengths().next()).unwrap_or(any)
}

fn sum_to_one(what: &'static str, ue: &UeId, values: &[f32]) -> Result<(), ModelError> {
    let sum: f64 = values.iter().map(|&p| f64::from(p)).sum();
    if (sum - 1.0).abs() > SUM_TOLERANCE {
        return Err(improbable(what, ue, format!("probabilities of sum {sum}"), "they must sum to 1"));
    }
    Ok(())
}

fn improbable(what: &'static str, ue: &UeId, found: String, allowed: &'static str) -> ModelError {
    ModelError::Improbable { what, ue: ue.clone(), found, allowed }
}

fn probabilities(what: &'static str, ue: &UeId, values: &[f32], expected: usize) -> Result<(), ModelError> {
    if values.len() != expected {
        return Err(ModelError::Length { what, ue: ue.clone(), found: values.len(), expected });
    }
    if values.iter().any(|value| !value.is_finite()) {
        return Err(ModelError::NonFinite { what, ue: ue.clone() });
    }
    match values.iter().find(|value| !(0.0..=1.0).contains(*value)) {
        Some(value) => Err(improbable(what, ue, format!("probability {value}"), "0 to 1 is allowed")),
        None => Ok(()),
    }
}
