//! What a unit runs: the best weights, calibrated on what validates.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;

use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;

use super::{LAST, MODEL, SIMPLE, Trainer};
use crate::model::deployed::{self, Fit, Scaling};
use crate::model::tasks::Task;
use crate::model::{Input, MODALITIES, Network, Purpose};
use crate::train::TrainError;
use crate::train::losses::{Interval, intervals};
use crate::train::measures::calibration::{scaling_of_binary, temperature_of_classes};
use crate::train::simple::Simple;

impl Trainer<'_> {
    /// Writes the best weights as a unit runs them: the file.
    ///
    /// # Errors
    /// [`TrainError`] when nothing has been trained yet, or the disk refuses.
    pub fn deploy(&self) -> Result<PathBuf, TrainError> {
        let folder = self.folder();
        let Some(mut weights) = folder.weights(LAST)? else {
            let file = super::weights(folder.path);
            return Err(TrainError::Io { file, source: std::io::ErrorKind::NotFound.into() });
        };
        let scaling = self.calibrate(&mut weights)?;
        let Some(part) = self.parts.first() else { unreachable!("a trainer has data") };
        let fit = Fit {
            sizes: self.sizes,
            codebook: part.data.shape.codebook.clone(),
            horizons_ms: part.data.shape.horizons_ms.clone(),
            instants_ms: part.data.shape.instants_ms.clone(),
            stride_ms: part.data.shape.stride_ms,
            without: self.unseen(),
            scaling,
            trained: true,
        };
        let file = folder.path.join(MODEL);
        let vb = VarBuilder::from_tensors(weights, DType::F32, &self.device);
        deployed::save(&file, self.config, &fit, &vb)?;
        let simple = folder.path.join(SIMPLE);
        let text = serde_json::to_vec(&Simple::learn(self.parts)).unwrap_or_default();
        fs::write(&simple, text).map_err(|source| TrainError::Io { file: simple, source })?;
        Ok(file)
    }

    /// The inputs that no stage has learned from, nor the run that this one begins with: their encoders are as they were drawn,
    /// and what they say is noise.
    fn unseen(&self) -> Vec<Input> {
        let mut seen = [false; MODALITIES];
        if let Some(run) = &self.recipe.from {
            // Of a run that was never deployed nothing is known.
            let before = deployed::describe(&run.join(MODEL)).map(|(_, fit)| fit.without).unwrap_or_default();
            seen = Input::ALL.map(|input| !before.contains(&input));
        }
        for part in self.parts.iter().filter(|part| !part.split.train.is_empty()) {
            let holds = part.data.holds();
            for stage in self.recipe.stage.iter().filter(|stage| super::is_of(self.recipe, stage, part)) {
                let hidden = self.recipe.hidden_in(stage);
                let shown = holds.iter().zip(hidden).map(|(&holds, hidden)| holds && !hidden);
                seen.iter_mut().zip(shown).for_each(|(seen, shown)| *seen |= shown);
            }
        }
        let hidden = self.recipe.hidden();
        Input::ALL
            .into_iter()
            .zip(seen)
            .zip(hidden)
            .filter(|((_, seen), hidden)| !seen || *hidden)
            .map(|((input, _), _)| input)
            .collect()
    }

    /// Makes the scores of beams, activities and blockages believable on validation, by a temperature (Guo et al., On
    /// calibration of modern neural networks, ICML 2017) and, of blockages, which count more in the loss than they come, a
    /// shift: the last layer of the head takes it in.
    fn calibrate(
        &self,
        weights: &mut HashMap<String, Tensor>,
    ) -> Result<BTreeMap<Task, Scaling>, TrainError> {
        let vb = VarBuilder::from_tensors(weights.clone(), DType::F32, &self.device);
        let network = Network::build(self.config, self.sizes, Purpose::Inference, &vb)?;
        // Scores and true classes, by task and instant.
        let mut classes: BTreeMap<(Task, usize), (Vec<f64>, Vec<usize>)> = BTreeMap::new();
        let mut hazards: (Vec<f64>, Vec<bool>) = Default::default();
        for part in self.parts.iter().filter(|part| !part.split.validation.is_empty()) {
            let answers = self.ask(&network, part, self.recipe.hidden(), usize::MAX)?;
            for (&task, rows) in &answers.tasks {
                let (count, instants) = match task {
                    Task::Beam => (self.sizes.beams, self.sizes.instants),
                    Task::Activity => (self.sizes.activities, 1),
                    Task::Blockage => (self.sizes.horizons, 1),
                    Task::Pose => continue,
                };
                for row in rows {
                    let Some(example) = part.data.examples.get(row.example as usize) else { continue };
                    for (instant, scores) in row.scores.chunks_exact(count).take(instants).enumerate() {
                        let scores = scores.iter().map(|&score| f64::from(score));
                        if task == Task::Blockage {
                            let intervals = intervals(&example.truth.blocked).unwrap_or_default();
                            for (score, interval) in scores.zip(intervals) {
                                if matches!(interval, Interval::Blocked | Interval::Clear) {
                                    hazards.0.push(score);
                                    hazards.1.push(interval == Interval::Blocked);
                                }
                            }
                        } else if let Some(truth) = part.data.class(example, task, instant) {
                            let (all, labels) = classes.entry((task, instant)).or_default();
                            all.extend(scores);
                            labels.push(truth);
                        }
                    }
                }
            }
        }
        let mut scalings: BTreeMap<Task, Scaling> = BTreeMap::new();
        for ((task, instant), (scores, labels)) in classes {
            let shape = (labels.len(), scores.len() / labels.len());
            let Ok(scores) = ndarray::Array2::from_shape_vec(shape, scores) else { continue };
            let Ok(temperature) = temperature_of_classes(scores.view(), &labels) else { continue };
            let first = Scaling { temperature, shift: 0.0, later: Vec::new() };
            let own = scalings.entry(task).or_insert(first);
            if instant > 0 {
                own.later.resize(instant - 1, own.temperature);
                own.later.push(temperature);
            }
        }
        // One for each instant: those without labels at the end as the first.
        if let Some(own) = scalings.get_mut(&Task::Beam) {
            own.later.resize(self.sizes.instants.saturating_sub(1), own.temperature);
        }
        if let Ok(scaling) = scaling_of_binary(&hazards.0, &hazards.1) {
            scalings.insert(Task::Blockage, scaling);
        }
        let mut taken_in = BTreeMap::new();
        for (task, scaling) in scalings {
            let last = self.config.core.last_layer(task);
            let own = weights.iter_mut().filter(|(name, _)| name.starts_with(&last));
            for (name, tensor) in own {
                let shift = if name.ends_with("bias") { scaling.shift } else { 0.0 };
                // Instants one after the other.
                let parts = 1 + scaling.later.len();
                let scaled = tensor.chunk(parts, 0)?.into_iter().enumerate();
                let scaled =
                    scaled.map(|(instant, part)| part.affine(1.0 / scaling.temperature_at(instant), shift));
                *tensor = Tensor::cat(&scaled.collect::<candle_core::Result<Vec<_>>>()?, 0)?;
                taken_in.insert(task, scaling.clone());
            }
        }
        Ok(taken_in)
    }
}
