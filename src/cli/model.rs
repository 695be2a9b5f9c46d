//! `model describe CONFIG`: what a network is made of; `model export RUN`: its adapters for others.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use serde_json::json;

use super::models::is_stored;
use super::{Failure, Format, Outcome, text};
use crate::config::load_network;
use crate::model::build::LORA_PREFIX;
use crate::model::checkpoint::Checkpoint;
use crate::model::describe::Description;
use crate::model::{Sizes, deployed, lora};
use crate::train::{recipe, trainer};

/// Arguments of `model`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say what a network is made of: shapes, parameters, arithmetic, bytes, memory
    Describe(Describe),
    /// Write the low-rank adapters that a training run has learned as a folder that PEFT reads
    Export(Export),
}

#[derive(Debug, clap::Args)]
struct Export {
    /// Folder of a training run
    run: PathBuf,
    /// Folder to write
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Describe {
    /// Network file, e.g. config/models/edge.toml, or a stored network, which states the sizes itself
    network: PathBuf,
    /// Beams of the codebook
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    beams: u16,
    /// Slots of a window
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=64))]
    window: u16,
    /// Blockage horizons
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    horizons: u16,
    /// Frames per step of training
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<Outcome, Failure> {
    match &arguments.command {
        Command::Describe(asked) => describe(asked, format),
        Command::Export(asked) => export(asked, format),
    }
}

fn export(asked: &Export, format: Format) -> Result<Outcome, Failure> {
    let recipe = recipe::load(&asked.run.join(trainer::RECIPE)).map_err(Failure::usage)?;
    let network = load_network(&recipe.network).map_err(Failure::usage)?;
    let without = || {
        let file = recipe.network.display();
        Failure::Usage(format!("{file}: backbone.lora: found none, allowed is a network with adapters"))
    };
    let choice = network.backbone.as_ref().ok_or_else(without)?;
    let lora = choice.lora.as_ref().ok_or_else(without)?;
    let backbone = choice.config().map_err(Failure::usage)?;
    let checkpoint = Checkpoint::open(&trainer::weights(&asked.run)).map_err(Failure::usage)?;
    let all = checkpoint.load_all(&Device::Cpu).map_err(Failure::failed)?;
    let own = all
        .into_iter()
        .filter_map(|(name, tensor)| Some((name.strip_prefix(LORA_PREFIX)?.to_owned(), tensor)));
    let mut tensors: BTreeMap<String, Tensor> = own.collect();
    let learned = tensors.len();
    lora::complete(&mut tensors, lora, &backbone).map_err(Failure::failed)?;
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    lora::save_peft(&asked.output, lora, &backbone, named).map_err(Failure::failed)?;
    let (folder, whole) = (asked.output.display(), tensors.len());
    match format {
        Format::Json => text::json(
            &json!({ "type": "adapter", "folder": asked.output, "learned": learned, "tensors": whole }),
        )?,
        Format::Text => text::result(format!("{folder}: {learned} tensors that were learned, of {whole}")),
    }
    Ok(Outcome::Done)
}

fn describe(asked: &Describe, format: Format) -> Result<Outcome, Failure> {
    let (network, sizes, never_seen) = if is_stored(&asked.network) {
        let (network, fit) = deployed::describe(&asked.network).map_err(Failure::usage)?;
        (network, fit.sizes, fit.without)
    } else {
        let sizes = Sizes::new(asked.window.into(), asked.beams.into(), asked.horizons.into());
        (load_network(&asked.network).map_err(Failure::usage)?, sizes, Vec::new())
    };
    let description = network.describe(sizes).map_err(Failure::usage)?;
    let batch = u64::from(asked.batch);
    match format {
        Format::Json => text::json(&json!({
            "type": "network",
            "description": description,
            "flops": description.flops(),
            "frame_bytes": description.frame_bytes(),
            "inference_bytes": description.inference_bytes(),
            "training_bytes": description.training_bytes(batch),
            "batch": batch,
            "never_seen": never_seen,
        }))?,
        Format::Text => {
            text::result(Shown(&description, batch).to_string().trim_end());
            if !never_seen.is_empty() {
                let names: Vec<&str> = never_seen.iter().map(|input| input.name()).collect();
                text::result(format!("never saw, and is not shown: {}", names.join(", ")));
            }
        }
    }
    Ok(Outcome::Done)
}

/// A description for a person.
struct Shown<'a>(&'a Description, u64);

/// A number with a unit prefix: 1234567 → `1.23 M`.
fn short(number: u64) -> String {
    let units = [(1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")];
    match units.iter().find(|(size, _)| number >= *size) {
        Some((size, unit)) => format!("{:.2} {unit}", number as f64 / *size as f64),
        None => format!("{number}  "),
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(network, batch) = self;
        writeln!(f, "{}: one frame with one UE, {} rows through the core", network.name, network.rows)?;
        writeln!(f, "{:<10} {:>9} {:>9} {:>9} {:>9}   shape", "part", "trained", "frozen", "bytes", "FLOP")?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, numbers: [u64; 4], shape: &str| {
            let [trained, frozen, bytes, flops] = numbers.map(short);
            writeln!(f, "{name:<10} {trained:>9} {frozen:>9} {bytes:>9} {flops:>9}   {shape}")
        };
        for part in &network.parts {
            row(f, part.name, [part.trained, part.frozen, part.bytes, part.flops], &part.shape)?;
        }
        let (trained, frozen) = network.parameters();
        let bytes = network.parts.iter().map(|part| part.bytes).sum();
        row(f, "all", [trained, frozen, bytes, network.flops()], "")?;
        writeln!(f, "bytes per frame   {}B (each weight once, kept tokens)", short(network.frame_bytes()))?;
        writeln!(
            f,
            "inference memory  {}B (weights, kept tokens, one part's numbers)",
            short(network.inference_bytes())
        )?;
        writeln!(
            f,
            "training memory   {}B (weights, gradients, AdamW, activations of {batch} frames; an estimate)",
            short(network.training_bytes(*batch))
        )
    }
}
