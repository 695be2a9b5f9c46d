//! `info RECORDING`: what a recording holds.

use std::path::PathBuf;

use super::{Failure, Format, Outcome, text};
use crate::config::RecordingInput;
use crate::recording::{Options, info_path};

/// Arguments of `info`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Recording (a folder in DeepSense 6G layout, its CSV, or a folder of window or codebook files)
    recording: PathBuf,
    /// Rows per second where there are no time stamps, Hz
    #[arg(long, value_name = "HZ", default_value_t = 10.0)]
    row_rate: f64,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<Outcome, Failure> {
    let input = RecordingInput { rate_hz: arguments.row_rate, ..RecordingInput::default() };
    let report = info_path(&arguments.recording, &Options::of(&input)).map_err(Failure::usage)?;
    match format {
        Format::Json => text::json(&report)?,
        Format::Text => text::result(&report),
    }
    Ok(Outcome::Done)
}
