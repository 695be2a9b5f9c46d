//! `run PIPELINE`: the main job.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Failure, Format, Outcome, shutdown, text};
use crate::config;
use crate::infer::Baseline;
use crate::ingest::network;
use crate::message::Message;
use crate::observe::Metrics;
use crate::publish::DecisionLog;
use crate::recording::{Absent, Feed, Options, Recording, fill_in};
use crate::runtime::{self, Parts, Snapshot, Source, UnitStatus};

mod show;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Pipeline file (TOML)
    pipeline: PathBuf,
    /// Recording to take samples from instead of zenoh (a folder in DeepSense 6G layout, or its CSV)
    #[arg(long, value_name = "PATH")]
    recording: Option<PathBuf>,
    /// Speed of the recording: 1 as it was, 0 as fast as possible; the decisions are the same
    #[arg(long, value_name = "RATE", default_value_t = 0.0, value_parser = super::replay::rate)]
    rate: f64,
    /// Write the decisions as JSON lines to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<Outcome, Failure> {
    let mut pipeline = config::load(&arguments.pipeline).map_err(Failure::usage)?;
    let file = arguments.pipeline.display();
    let recording = match (&arguments.recording, pipeline.input.zenoh) {
        (Some(path), false) => {
            let options = Options::of(&pipeline.input.recording);
            Some(Recording::open(path, &options).map_err(Failure::usage)?)
        }
        (None, true) => None,
        (Some(_), true) => {
            let message = format!(
                "{file}: input.zenoh is true, so samples come from zenoh: publish the recording with `mmsense replay`, \
                 or run a pipeline with `zenoh = false` such as pipelines/replay.toml"
            );
            return Err(Failure::Usage(message));
        }
        (None, false) => {
            let message = format!(
                "{file}: input.zenoh is false, so samples come from a recording: name it with --recording"
            );
            return Err(Failure::Usage(message));
        }
    };
    let metrics = Arc::new(Metrics::default());
    let log = arguments.log.as_ref().or(pipeline.output.decision_log.as_ref());
    let log = match log {
        Some(path) => {
            let created = DecisionLog::create(path);
            Some(created.map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?)
        }
        // What a replay decided is known by its hash; live, no two runs are alike.
        None => recording.is_some().then(DecisionLog::hash_only),
    };
    let session = match &pipeline.output.zenoh_config {
        None => None,
        Some(file) => Some(network::open(file).map_err(Failure::usage)?),
    };
    let mut absent = Absent::new();
    let source = match (recording, &session) {
        (Some(recording), _) => {
            absent = fill_in(&mut pipeline, &recording);
            if recording.samples().len() as u64 == absent.values().sum::<u64>() {
                let message =
                    format!("{}: none of the files that it names is there", recording.path().display());
                return Err(Failure::Usage(message));
            }
            let latency = config::millis(pipeline.input.recording.latency_ms);
            let feed = Feed::new(recording, latency, Arc::clone(&metrics));
            Source::Feed { samples: Box::new(feed), rate: arguments.rate }
        }
        (None, Some(session)) => Source::Live(Some(session.clone())),
        (None, None) => unreachable!("config::load asks for a zenoh configuration"),
    };
    let (snapshots_in, snapshots) = crossbeam_channel::bounded::<Snapshot>(4);
    let predictor = Baseline::new(&pipeline.model, &pipeline.codebook, &pipeline.decide);
    let parts = Parts {
        pipeline,
        predictor: Box::new(predictor),
        fallback: None,
        source,
        session: session.clone(),
        log,
        metrics,
        on_snapshot: Box::new(move |snapshot| {
            // A terminal that does not keep up misses lines; the pipeline does not wait for it.
            let _ = snapshots_in.try_send(snapshot.clone());
        }),
    };
    let live = std::thread::Builder::new()
        .name("live".to_owned())
        .spawn(move || snapshots.iter().for_each(|snapshot| live_line(&snapshot, format)))
        .map_err(Failure::failed)?;
    let running = runtime::start(parts).map_err(Failure::failed)?;
    let stop = running.stop_handle();
    shutdown::on_signal(move || stop.stop()).map_err(Failure::failed)?;
    let summary = running.join().map_err(Failure::failed)?;
    // The monitor has ended, so there are no more snapshots; what was said last comes before the summary.
    let _ = live.join();
    if let Some(session) = session {
        use zenoh::Wait;
        session.close().wait().map_err(|error| Failure::Failed(format!("zenoh: {error}")))?;
    }
    match format {
        Format::Json => text::json(&json!({ "type": "summary", "summary": summary, "absent": absent }))?,
        Format::Text => text::result(show::Summary(&summary, &absent).to_string().trim_end()),
    }
    Ok(if summary.data_lost { Outcome::DoneWithLoss } else { Outcome::Done })
}

/// The last beam and blockage message of each UE.
fn decisions(status: &UnitStatus) -> Vec<Value> {
    let beams = status.ues.values().filter_map(|ue| ue.beam.clone().map(Message::Beam));
    let blockages = status.ues.values().filter_map(|ue| ue.blockage.clone().map(Message::Blockage));
    beams.chain(blockages).filter_map(|message| message.to_log().ok()).collect()
}

fn live_line(snapshot: &Snapshot, format: Format) {
    if !snapshot.regular {
        return;
    }
    match format {
        Format::Text => text::progress(show::Live(snapshot)),
        Format::Json => {
            for (unit, status) in &snapshot.units {
                let line = json!({
                    "type": "live",
                    "unit": unit,
                    "mode": status.mode,
                    "decisions": decisions(status),
                    "stages": snapshot.stages,
                    "drops": snapshot.drops,
                });
                text::result(line);
            }
        }
    }
}
