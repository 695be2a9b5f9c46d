//! The folder of a run: what stands in it, and how it comes there whole.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::moving::Moving;
use crate::model::checkpoint::{self, Checkpoint};
use crate::train::TrainError;

/// What simple predictors know of the training part, beside a checkpoint.
pub const SIMPLE: &str = "simple.json";
/// The log of a run, JSON lines.
pub const LOG: &str = "log.jsonl";
/// The recipe, beside a checkpoint.
pub const RECIPE: &str = "recipe.toml";
/// What a unit runs, in the folder of a run.
pub const MODEL: &str = "model.safetensors";

/// Where a run stands.
pub(super) const LAST: &str = "last";
/// What validation has found the best of a stage.
pub(super) const BEST: &str = "best";

const WEIGHTS: &str = "weights.safetensors";
const MEAN: &str = "mean.safetensors";
const OPTIMISER: &str = "optimiser.safetensors";
const STATE: &str = "state.json";

/// The weights of a run as they stand, beside what they were trained with.
#[must_use]
pub fn weights(run: &Path) -> PathBuf {
    run.join(LAST).join(WEIGHTS)
}

/// The best weights of a run's last stage.
pub(super) fn best_weights(run: &Path) -> PathBuf {
    run.join(BEST).join(WEIGHTS)
}

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Of the recipe.
    recipe: String,
    /// Of what it learns from; runs of older versions did not say.
    data: Option<String>,
    pub(super) stage: usize,
    pub(super) step: u64,
    /// Least sum of the logarithms of validation losses of the stage.
    pub(super) best: Option<f64>,
    /// Validations since then.
    pub(super) since_best: usize,
    pub(super) done: bool,
}

impl State {
    /// Where a run of a recipe on these data begins; both by their hashes.
    const fn beginning(recipe: String, data: String) -> Self {
        Self { recipe, data: Some(data), stage: 0, step: 0, best: None, since_best: 0, done: false }
    }

    /// Where the stage after this one begins.
    pub(super) fn next_stage(self) -> Self {
        Self { stage: self.stage + 1, step: 0, best: None, since_best: 0, ..self }
    }
}

/// The folder of a run.
pub(super) struct Folder<'a> {
    /// Where it is.
    pub(super) path: &'a Path,
    /// Where its tensors are read to.
    pub(super) device: &'a Device,
}

impl Folder<'_> {
    /// Where an earlier run in the folder stands, or the beginning; of the recipe and the data with these hashes.
    ///
    /// # Errors
    /// [`TrainError::State`] when the run is of another recipe or of other data; [`TrainError::Io`].
    pub(super) fn resume(&self, recipe: &str, data: &str) -> Result<State, TrainError> {
        let (last, partial) = (self.path.join(LAST), self.partial(LAST));
        // Stopped between taking the old one away and putting the new one there; its state is written last.
        if !last.exists() && partial.join(STATE).is_file() {
            fs::rename(&partial, &last).map_err(|source| TrainError::Io { file: partial, source })?;
        }
        let file = last.join(STATE);
        if !file.is_file() {
            return Ok(State::beginning(recipe.to_owned(), data.to_owned()));
        }
        let text = fs::read(&file).map_err(|source| TrainError::Io { file: file.clone(), source })?;
        let state: State = serde_json::from_slice(&text)
            .map_err(|error| TrainError::State { file: Some(file.clone()), reason: error.to_string() })?;
        if state.recipe != recipe {
            let reason = format!(
                "found a run of recipe {}, allowed is one of this recipe, {recipe}: name another `output`, or remove the folder",
                state.recipe
            );
            return Err(TrainError::State { file: Some(file), reason });
        }
        if state.data.as_deref() != Some(data) {
            let reason = format!(
                "found a run on data {}, allowed are its own: {data} is another split or other rows, of which some that were \
                 learned from may be the test now. Name another `output`, or remove the folder",
                state.data.as_deref().unwrap_or("that it does not name"),
            );
            return Err(TrainError::State { file: Some(file), reason });
        }
        Ok(state)
    }

    /// Writes a checkpoint beside the old one, which it then takes the place of; with what moves, it can be gone on from
    /// within a stage.
    ///
    /// # Errors
    /// [`TrainError`] when the disk refuses.
    pub(super) fn save(
        &self,
        name: &str,
        state: &State,
        weights: &HashMap<String, Tensor>,
        moving: Option<&Moving>,
    ) -> Result<(), TrainError> {
        let io = |path: &Path| {
            let file = path.to_owned();
            move |source| TrainError::Io { file, source }
        };
        let folder = self.path.join(name);
        let partial = self.partial(name);
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir_all(&partial).map_err(io(&partial))?;
        save_tensors(&partial.join(WEIGHTS), weights)?;
        if let Some(moving) = moving {
            moving.optimiser.save(&partial.join(OPTIMISER))?;
            if let Some(mean) = &moving.mean {
                save_tensors(&partial.join(MEAN), mean)?;
            }
        }
        let text = serde_json::to_vec_pretty(state).unwrap_or_default();
        let file = partial.join(STATE);
        fs::write(&file, text).map_err(io(&file))?;
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(io(&folder))?;
        }
        fs::rename(&partial, &folder).map_err(io(&folder))
    }

    /// The weights of a checkpoint; none where it has not been saved.
    ///
    /// # Errors
    /// [`TrainError`] when the file is broken.
    pub(super) fn weights(&self, name: &str) -> Result<Option<HashMap<String, Tensor>>, TrainError> {
        let file = self.path.join(name).join(WEIGHTS);
        file.is_file().then(|| self.load(&file)).transpose()
    }

    /// Gives what moves the optimiser's state of the last checkpoint, and the running mean of the weights, where there is one.
    ///
    /// # Errors
    /// [`TrainError`] when a file is missing or broken.
    pub(super) fn go_on(&self, moving: &mut Moving, has_mean: bool) -> Result<(), TrainError> {
        let last = self.path.join(LAST);
        moving.optimiser.load(&last.join(OPTIMISER))?;
        if has_mean {
            moving.mean = Some(self.load(&last.join(MEAN))?);
        }
        Ok(())
    }

    /// Where a checkpoint stands until it is whole.
    fn partial(&self, name: &str) -> PathBuf {
        self.path.join(format!(".{name}.partial"))
    }

    fn load(&self, file: &Path) -> Result<HashMap<String, Tensor>, TrainError> {
        let checkpoint = Checkpoint::open(file)?;
        Ok(checkpoint.load_all(self.device)?.into_iter().collect())
    }
}

fn save_tensors(file: &Path, tensors: &HashMap<String, Tensor>) -> Result<(), TrainError> {
    let named: BTreeMap<&str, &Tensor> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    checkpoint::save(file, named, &BTreeMap::new())?;
    Ok(())
}
