//! How near told joints are to true ones.

use ndarray::Array3;

use super::{Asked, Asking, Grouped, PoseSample, Question, mean_of};
use crate::model::tasks::Task;
use crate::train::measures::pose;
use crate::train::simple::Simple;

/// Poses that are kept to be looked at.
const SAMPLES: usize = 6;
/// What is measured of each frame.
const NAMES: [&str; 4] = ["MPJPE, mm", "PA-MPJPE, mm", "MSE, m²", "mean absolute error, mm"];

/// The pose now.
pub(super) fn question(asked: &Asked<'_>, rows: &[Asking<'_>]) -> Option<Question> {
    let labelled: Vec<(Asking<'_>, &Vec<[f32; 3]>)> = rows
        .iter()
        .filter_map(|&(row, example)| Some(((row, example), example.truth.pose.as_ref()?)))
        .collect();
    let joints = labelled.first()?.1.len();
    let grouped = Grouped::new(labelled.iter().map(|((_, example), _)| example.group));
    let one = |numbers: Vec<f64>| Array3::from_shape_vec((1, joints, 3), numbers).ok();
    let wide =
        |pose: &[[f32; 3]]| pose.iter().flatten().map(|&number| f64::from(number)).collect::<Vec<f64>>();
    let worth = |name: &str, poses: Vec<Vec<f64>>| {
        let frames: Vec<Option<[f64; NAMES.len()]>> = poses
            .into_iter()
            .zip(&labelled)
            .map(|(predicted, (_, truth))| {
                let (truth, predicted) = (one(wide(truth))?, one(predicted)?);
                let absolute = truth.iter().zip(&predicted).map(|(a, b)| (a - b).abs()).sum::<f64>()
                    / truth.len() as f64;
                Some([
                    1e3 * pose::mpjpe(truth.view(), predicted.view()).ok()?,
                    1e3 * pose::pa_mpjpe(truth.view(), predicted.view()).ok()?,
                    pose::mean_squared_error(truth.view(), predicted.view()).ok()?,
                    1e3 * absolute,
                ])
            })
            .collect();
        let of = |at: usize| -> Vec<Option<f64>> {
            frames.iter().map(|frame| frame.and_then(|frame| frame.get(at).copied())).collect()
        };
        let measured: [Vec<Option<f64>>; NAMES.len()] = std::array::from_fn(of);
        grouped.worth(name, &|rows| {
            NAMES.into_iter().zip(&measured).map(|(name, values)| (name, mean_of(values, rows))).collect()
        })
    };
    let own = labelled.iter().map(|((row, _), _)| row.scores.iter().map(|&score| f64::from(score)).collect());
    let mut all = vec![worth(asked.network, own.collect())];
    if let Some(mean) = asked.simple.and_then(Simple::pose) {
        all.push(worth("mean pose", vec![wide(mean); labelled.len()]));
    }
    let sample = |((row, example), truth): &(Asking<'_>, &Vec<[f32; 3]>)| PoseSample {
        group: asked.data.groups.get(example.group as usize).cloned().unwrap_or_default(),
        time_ns: example.time.as_nanos(),
        truth: (*truth).clone(),
        predicted: row.scores.as_chunks().0.to_vec(),
    };
    // The middle ones of as many equal parts.
    let kept = SAMPLES.min(labelled.len());
    let places = (0..kept).map(|part| (2 * part + 1) * labelled.len() / (2 * kept));
    Some(Question {
        task: Task::Pose,
        what: "now".to_owned(),
        ahead_ms: 0,
        clear_now: false,
        rows: labelled.len(),
        groups: grouped.groups.len(),
        worth: all,
        confusion: Vec::new(),
        reliability: Vec::new(),
        reliability_before: Vec::new(),
        poses: places.filter_map(|place| labelled.get(place)).map(sample).collect(),
    })
}
