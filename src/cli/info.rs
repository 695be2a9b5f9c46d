//! `info RECORDING`: what a recording holds.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Failure, Format, Outcome, text};
use crate::config::Pipeline;
use crate::config::RecordingInput;
use crate::decode::Decoder;
use crate::recording::info::info_path;
use crate::recording::{Options, RecordedSample};
use crate::sample::{RawSample, Stamps};
use crate::time::Moment;

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
    let options = Options::of(&input);
    // What the pipeline would reject is unreadable.
    let decoder = Decoder::new(&Pipeline::default());
    let check = |sample: &RecordedSample, format, bytes: &[u8]| {
        let raw = RawSample {
            unit: options.unit.clone(),
            stream: sample.stream.clone(),
            stamps: Stamps {
                capture: sample.capture,
                capture_source: sample.capture_source,
                sequence: None,
                arrival: Moment::at(sample.capture),
                transport_ns: None,
            },
            format: Some(format),
            payload: Arc::new(bytes.to_vec()),
        };
        decoder.decode(&raw).map(drop).map_err(|error| error.to_string())
    };
    let report = info_path(&arguments.recording, &options, &check).map_err(Failure::usage)?;
    match format {
        Format::Json => text::json(&report)?,
        Format::Text => text::result(report.to_string().trim_end()),
    }
    Ok(Outcome::Done)
}
