//! One batch through a network: what it says, and how wrong that is.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};

use super::batch::{Batch, BeamTarget, Targets};
use super::losses;
use super::recipe::Losses;
use crate::model::Network;
use crate::model::layers::Mode;
use crate::model::tasks::{Said, Sizes, Task};

/// What a network says of a batch.
///
/// # Errors
/// When the device fails.
pub fn forward(network: &Network, batch: &Batch, mode: Mode) -> Result<Said> {
    network.scores(&batch.encode(network, mode)?, &batch.asked, mode)
}

/// The loss of each task that has a label in the batch.
///
/// # Errors
/// When shapes disagree.
pub fn losses(
    said: &Said,
    targets: &Targets,
    sizes: Sizes,
    weights: &Losses,
) -> Result<BTreeMap<Task, Tensor>> {
    let mut found = BTreeMap::new();
    for (&task, scores) in &said.tasks {
        let loss = match task {
            Task::Beam => beam_loss(scores, &targets.beam, sizes)?,
            Task::Blockage => {
                let rows = targets.blockage.iter().map(|within| losses::intervals(within));
                let rows = rows.collect::<std::result::Result<Vec<_>, _>>();
                let rows = rows.map_err(candle_core::Error::wrap)?;
                losses::hazard_loss(scores, &rows, weights.blockage_weight)?
            }
            Task::Activity => losses::cross_entropy(scores, &targets.activity)?,
            Task::Pose => pose_loss(scores, &targets.pose)?,
        };
        if let Some(loss) = loss {
            found.insert(task, loss);
        }
    }
    Ok(found)
}

fn beam_loss(scores: &Tensor, targets: &[Vec<Option<BeamTarget>>], sizes: Sizes) -> Result<Option<Tensor>> {
    let scores = scores.reshape((targets.len() * sizes.instants, sizes.beams))?;
    let targets: Vec<Option<&BeamTarget>> = targets.iter().flatten().map(Option::as_ref).collect();
    if targets.iter().flatten().all(|target| target.shares.is_empty()) {
        let best: Vec<Option<u32>> = targets.iter().map(|target| target.map(|target| target.best)).collect();
        return losses::cross_entropy(&scores, &best);
    }
    let labelled = (0u32..).zip(&targets).filter_map(|(row, target)| target.map(|target| (row, target)));
    let (rows, targets): (Vec<u32>, Vec<&BeamTarget>) = labelled.unzip();
    if rows.is_empty() {
        return Ok(None);
    }
    let count = rows.len();
    let scores = scores.index_select(&Tensor::from_vec(rows, count, scores.device())?, 0)?;
    let shares: Vec<f32> = targets.iter().flat_map(|target| target.shares.iter().copied()).collect();
    let shares = Tensor::from_vec(shares, (count, sizes.beams), scores.device())?;
    losses::soft_cross_entropy(&scores, &shares).map(Some)
}

fn pose_loss(scores: &Tensor, targets: &[Option<Vec<[f32; 3]>>]) -> Result<Option<Tensor>> {
    let labelled = (0u32..).zip(targets).filter_map(|(row, pose)| pose.as_ref().map(|pose| (row, pose)));
    let (rows, poses): (Vec<u32>, Vec<&Vec<[f32; 3]>>) = labelled.unzip();
    if rows.is_empty() {
        return Ok(None);
    }
    let count = rows.len();
    let scores = scores.index_select(&Tensor::from_vec(rows, count, scores.device())?, 0)?;
    let truth: Vec<f32> = poses.iter().flat_map(|pose| pose.iter().flatten().copied()).collect();
    let truth = Tensor::from_vec(truth, scores.shape(), scores.device())?;
    losses::mean_squared_error(&scores, &truth).map(Some)
}
