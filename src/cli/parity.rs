//! `parity --golden DIR`: the network and its training against numbers that others computed.

use std::path::PathBuf;

use super::{Failure, Format, Outcome, text};
use crate::infer::device::{self, DeviceChoice};
use crate::parity;

/// Arguments of `parity`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Folder of goldens: blocks, metrics, radar, resnet, point, mllama, peft_lora, tokenizer
    #[arg(long, value_name = "DIR")]
    golden: PathBuf,
    /// Where our side is computed: auto, cpu or cuda:N
    #[arg(long, default_value_t = DeviceChoice::Cpu)]
    device: DeviceChoice,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<Outcome, Failure> {
    let opened = device::open(arguments.device).map_err(Failure::usage)?;
    let report =
        parity::run(&arguments.golden, &opened.device, &opened.name).map_err(|error| match error {
            parity::ParityError::Folder { .. } => Failure::usage(error),
            parity::ParityError::Panic => Failure::failed(error),
        })?;
    match format {
        Format::Json => text::json(&report)?,
        Format::Text => text::result(&report),
    }
    match report.misses().count() {
        0 => Ok(Outcome::Done),
        missed => Err(Failure::Failed(format!(
            "{}: {missed} of {} comparisons missed",
            arguments.golden.display(),
            report.rows.len()
        ))),
    }
}
