//! What a stage moves: a network, its parameters and how certain each task is, from the weights that it begins with.

use std::collections::HashMap;

use candle_core::{DType, Tensor};
use candle_nn::VarBuilder;

use super::Trainer;
use crate::model::alone::{self, Alone};
use crate::model::config::{CoreConfig, NetworkConfig};
use crate::model::parameters::Parameters;
use crate::model::tasks::Task;
use crate::model::{Network, Purpose, build, seeded};
use crate::train::TrainError;
use crate::train::optimiser::{self, AdamW, AdamWConfig};
use crate::train::recipe::{See, Stage};
use crate::train::simple::{error_of_mean_pose, mean_pose};
use crate::train::uncertainty::{self, Uncertainty};

/// Weights that a stage begins with.
pub(super) struct Beginning {
    pub(super) tensors: HashMap<String, Tensor>,
    /// Whether they are another network's, which may have others.
    pub(super) is_of_another: bool,
}

impl Beginning {
    /// Whether it has a tensor of this name and shape.
    pub(super) fn has(&self, name: &str, own: &Tensor) -> bool {
        self.tensors.get(name).is_some_and(|tensor| tensor.shape() == own.shape())
    }
}

/// Leaves out the heads of single inputs, and how certain they were, which says nothing of those that come.
pub(super) fn throw_away(weights: &mut HashMap<String, Tensor>) {
    if weights.keys().any(|name| alone::is_of(name)) {
        weights.retain(|name, _| !alone::is_of(name) && !uncertainty::is_of(name));
    }
}

/// What moves.
pub(super) struct Moving {
    pub(super) network: Network,
    pub(super) parameters: Parameters,
    pub(super) uncertainty: Uncertainty,
    pub(super) optimiser: AdamW,
    /// Running mean of the weights.
    pub(super) mean: Option<HashMap<String, Tensor>>,
}

impl Moving {
    /// All weights as they are.
    pub(super) fn weights(&self) -> HashMap<String, Tensor> {
        let detached = |(name, tensor): (String, Tensor)| (name, tensor.detach());
        self.parameters.all().into_iter().map(detached).collect()
    }

    /// The weights that are judged: their running mean, where there is one.
    pub(super) fn deployed(&self) -> HashMap<String, Tensor> {
        let mut weights = self.weights();
        if let Some(mean) = &self.mean {
            weights.extend(mean.iter().map(|(name, tensor)| (name.clone(), tensor.clone())));
        }
        // A copy: the next step moves the weights in place.
        weights.values_mut().for_each(|tensor| {
            if let Ok(copy) = tensor.copy() {
                *tensor = copy;
            }
        });
        weights
    }

    /// Moves the running mean of the weights: m ← k·m + (1 − k)·w.
    pub(super) fn follow(&mut self, keep: f64) -> Result<(), TrainError> {
        if keep <= 0.0 {
            return Ok(());
        }
        let now = self.parameters.trained();
        match &mut self.mean {
            None => {
                let copies = now.into_iter().map(|(name, var)| Ok((name, var.as_detached_tensor().copy()?)));
                self.mean = Some(copies.collect::<candle_core::Result<_>>()?);
            }
            Some(mean) => {
                for (name, var) in now {
                    if let Some(mean) = mean.get_mut(&name) {
                        optimiser::follow(mean, &var, keep)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Trainer<'_> {
    /// Whether a parameter is left alone in a stage.
    pub(super) fn is_frozen(config: &NetworkConfig, stage: &Stage, name: &str) -> bool {
        let with_adapters = config.backbone.as_ref().is_some_and(|backbone| backbone.lora.is_some());
        let of_llm4wm = match (&config.core, stage.llm4wm, name.strip_prefix("core.")) {
            (CoreConfig::Llm4wm(_), Some(stage), Some(name)) => !stage.trains(name),
            (CoreConfig::Llm4wm(_), None, Some(name)) => name.starts_with("gpt2."),
            _ => false,
        };
        of_llm4wm
            || (with_adapters && name.starts_with("backbone."))
            || stage.freeze.iter().any(|prefix| name.starts_with(prefix.as_str()))
    }

    /// Builds what a stage moves; of fresh weights where it begins with none.
    pub(super) fn build(&self, stage: &Stage, beginning: Option<&Beginning>) -> Result<Moving, TrainError> {
        let fresh = build::fresh_source(self.config, &self.device)?;
        let source = match beginning {
            Some(Beginning { tensors, is_of_another }) => {
                let known = VarBuilder::from_tensors(tensors.clone(), DType::F32, &self.device);
                let of_stage = |name: &str| alone::is_of(name) || uncertainty::is_of(name);
                seeded::completed(known, if *is_of_another { |_| true } else { of_stage }, fresh)
            }
            None => fresh,
        };
        let (config, of_stage) = (self.config.clone(), stage.clone());
        let (vb, parameters) =
            Parameters::watch(source, move |name| !Self::is_frozen(&config, &of_stage, name));
        let network = self.network(stage.see, Purpose::Training, &vb)?;
        self.begin_at_the_mean_pose(&parameters, beginning)?;
        let all = parameters.all();
        let of_none = |prefix: &&String| !all.iter().any(|(name, _)| name.starts_with(prefix.as_str()));
        if let Some(prefix) = stage.freeze.iter().find(of_none) {
            let mut known: Vec<&str> = all.iter().filter_map(|(name, _)| name.split('.').next()).collect();
            known.sort_unstable();
            known.dedup();
            return Err(TrainError::Data(format!(
                "freeze: found `{prefix}`, no parameter begins like that; they begin with {}",
                known.join(", ")
            )));
        }
        let uncertainty = Uncertainty::load(&self.tasks, &vb.pp(uncertainty::PREFIX))?;
        self.begin_as_uncertain_as_the_mean_pose(&parameters, beginning)?;
        let rates = self.recipe.optimiser.rates();
        let optimiser =
            AdamW::new(parameters.trained(), AdamWConfig::default(), |name, var| rates.group(name, var));
        Ok(Moving { network, parameters, uncertainty, optimiser, mean: None })
    }

    /// Poses of fresh heads begin at the mean pose: a person stands metres away, of which a step takes a millimetre.
    fn begin_at_the_mean_pose(
        &self,
        parameters: &Parameters,
        beginning: Option<&Beginning>,
    ) -> Result<(), TrainError> {
        let Some(mean) = mean_pose(self.parts) else { return Ok(()) };
        let mean = Tensor::new(mean.concat(), &self.device)?;
        let own = format!("{}bias", self.config.core.last_layer(Task::Pose));
        for (name, var) in parameters.trained() {
            let is_known = beginning.is_some_and(|beginning| beginning.has(&name, &var));
            let is_bias = name == own || alone::is_last_bias(&name, Task::Pose);
            if is_bias && !is_known && var.shape() == mean.shape() {
                var.set(&mean.to_dtype(var.dtype())?)?;
            }
        }
        Ok(())
    }

    /// The weight of a pose in Eq. 14, where it is fresh, begins at its optimum, v = ln L, for the loss L of the mean pose:
    /// squared metres are a hundredth of what classes lose (of the order of one, for which v = 0), and v, which moves by a
    /// thousandth a step, would not get there. Of one task alone the weight is none.
    fn begin_as_uncertain_as_the_mean_pose(
        &self,
        parameters: &Parameters,
        beginning: Option<&Beginning>,
    ) -> Result<(), TrainError> {
        let Some(loss) = error_of_mean_pose(self.parts).filter(|_| self.tasks.len() > 1) else {
            return Ok(());
        };
        let own = uncertainty::name(Task::Pose);
        if beginning.is_some_and(|beginning| beginning.tensors.contains_key(&own)) {
            return Ok(());
        }
        let (low, high) = uncertainty::LIMITS;
        for (_, var) in parameters.trained().iter().filter(|(name, _)| *name == own) {
            var.set(&Tensor::new(&[loss.ln().clamp(low, high)], &self.device)?.to_dtype(var.dtype())?)?;
        }
        Ok(())
    }

    /// The network as a stage asks it.
    pub(super) fn network(
        &self,
        see: See,
        purpose: Purpose,
        vb: &VarBuilder<'static>,
    ) -> Result<Network, TrainError> {
        let network = Network::build(self.config, self.sizes, purpose, vb)?;
        Ok(match see {
            See::All => network,
            See::One => {
                let heads = Alone::load(self.config, self.sizes, &vb.pp(alone::PREFIX))?;
                network.with_core(Box::new(heads))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn heads_that_are_thrown_away_take_along_how_certain_they_were() {
        let kept = |names: &[&str]| {
            let zero = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
            let mut weights: HashMap<String, Tensor> =
                names.iter().map(|&name| (name.to_owned(), zero.clone())).collect();
            throw_away(&mut weights);
            let mut names: Vec<String> = weights.into_keys().collect();
            names.sort();
            names
        };
        assert_eq!(kept(&["alone.beam.camera.first.bias", "image.bias", "uncertainty.beam"]), ["image.bias"]);
        assert_eq!(kept(&["image.bias", "uncertainty.beam"]), ["image.bias", "uncertainty.beam"]);
    }
}
