//! The models that a pipeline names.

use std::path::Path;

use super::Failure;
use crate::config::{self, Pipeline};
use crate::infer::network::NetworkError;
use crate::infer::{Baseline, NetworkPredictor, Predictor};
use crate::model::{BuildError, Sizes};

/// What decides, what is scored beside it, and where it runs and why.
pub(super) type Models = (Box<dyn Predictor>, Option<Box<dyn Predictor>>, Option<String>);

/// Whether a file of a pipeline is a stored network, and not a configuration.
pub(super) fn is_stored(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "safetensors")
}

/// The network where the pipeline names one, with the rules beside it; else the rules.
pub(super) fn open(pipeline: &Pipeline) -> Result<Models, Failure> {
    let rules = Box::new(Baseline::new(&pipeline.model, &pipeline.codebook, &pipeline.decide));
    let Some(file) = &pipeline.model.network else { return Ok((rules, None, None)) };
    let (model, codebook) = (&pipeline.model, &pipeline.codebook);
    let network = if is_stored(file) {
        let window = (pipeline.align.window, pipeline.align.stride_ms);
        let horizons = &pipeline.decide.horizons_ms;
        NetworkPredictor::stored(file, &model.tasks, window, horizons, codebook, model.device)
    } else {
        let config = config::load_network(file).map_err(Failure::usage)?;
        let Some(beams) = codebook.beams else {
            let message =
                "codebook.beams is not given and the recording has no powers: the network needs their number";
            return Err(Failure::Usage(message.to_owned()));
        };
        let sizes = Sizes::new(pipeline.align.window, beams, pipeline.decide.horizons_ms.len());
        NetworkPredictor::fresh(&config, sizes, &model.tasks, codebook, model.device)
    };
    let network = network.map_err(|error| match error {
        NetworkError::Build(BuildError::Candle(_)) => Failure::failed(error),
        _ => Failure::usage(error),
    })?;
    let opened = network.opened();
    let device = format!("{} on {}: {}", network.info().id, opened.name, opened.reason);
    Ok((Box::new(network), Some(rules), Some(device)))
}
