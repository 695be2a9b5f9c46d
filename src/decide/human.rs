//! What the model says of the person in front of the unit, as messages.

use crate::infer::{ModelInfo, Prediction};
use crate::message::{ActivityCandidate, ActivityMessage, Header, Message, PoseMessage};
use crate::model::Task;

/// Activities that a message names.
const RANKED: usize = 5;

/// The message of a task about the unit; `None` for a task about a UE. `actionable` is what it would be if the model
/// said something.
pub(super) fn say(
    task: Task,
    prediction: Option<&Prediction>,
    header: Header,
    model: &ModelInfo,
    actionable: bool,
) -> Option<Message> {
    let model = model.clone();
    match task {
        Task::Activity => {
            let law = prediction.and_then(|prediction| prediction.activity.as_deref());
            let (known, ranked) = (law.is_some(), law.map(rank).unwrap_or_default());
            let actionable = actionable && known;
            Some(Message::Activity(ActivityMessage { header, known, ranked, model, actionable }))
        }
        Task::Pose => {
            let joints = prediction.and_then(|prediction| prediction.pose.as_deref());
            let known = joints.is_some();
            let joints_m = joints.unwrap_or_default().iter().map(|joint| joint.map(f64::from)).collect();
            let actionable = actionable && known;
            Some(Message::Pose(PoseMessage { header, known, joints_m, model, actionable }))
        }
        Task::Beam | Task::Blockage => None,
    }
}

/// The most probable activities, the lower index first where two are alike.
fn rank(law: &[f32]) -> Vec<ActivityCandidate> {
    let mut all: Vec<(u32, f32)> = (0u32..).zip(law.iter().copied()).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let best = all.into_iter().take(RANKED);
    best.map(|(index, probability)| ActivityCandidate { index, probability: f64::from(probability) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_probable_come_first_and_ties_by_index() {
        let ranked = rank(&[0.1, 0.3, 0.1, 0.3, 0.05, 0.15]);
        let order: Vec<u32> = ranked.iter().map(|candidate| candidate.index).collect();
        assert_eq!(order, [1, 3, 5, 0, 2]);
    }
}
