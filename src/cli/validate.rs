//! `validate PIPELINE`: everything that is wrong with a pipeline file, at once.

use std::path::PathBuf;

use super::{Failure, Format, Outcome, models, text};
use crate::config;
use crate::ingest::network;
use crate::simulate::scene;

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Pipeline file (TOML)
    pipeline: PathBuf,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<Outcome, Failure> {
    let pipeline = config::load(&arguments.pipeline).map_err(Failure::usage)?;
    if let Some(file) = &pipeline.output.zenoh_config {
        network::read_config(file).map_err(Failure::usage)?;
    }
    if let Some(file) = &pipeline.model.network {
        // A recording can still say how many beams there are: until then only the file itself can be looked at.
        if pipeline.codebook.beams.is_some() || models::is_stored(file) {
            models::open(&pipeline)?;
        } else {
            config::load_network(file).map_err(Failure::usage)?;
        }
    }
    if let Some(demo) = &pipeline.demo {
        scene::load(&demo.scene).map_err(Failure::usage)?;
    }
    match format {
        Format::Json => text::json(&pipeline)?,
        Format::Text => text::result(format!("{}: ok", arguments.pipeline.display())),
    }
    Ok(Outcome::Done)
}
