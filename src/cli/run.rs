//! `run PIPELINE`: the main job.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::Receiver;
use serde_json::{Value, json};
use zenoh::Session;

use super::{Failure, Format, Outcome, eval, made, models, shutdown, text};
use crate::config::{self, Pipeline};
use crate::ingest::network;
use crate::message::Message;
use crate::model::{Sizes, Task};
use crate::observe::Metrics;
use crate::publish::DecisionLog;
use crate::recording::{Absent, Feed, Options, Recording, fill_in};
use crate::runtime::{self, Parts, Snapshot, Source, StopHandle, UnitStatus};
use crate::train::live::Witness;

mod demo;
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
    /// Say what the decisions were worth, with the measures of `eval`, and write all figures as JSON to this file, for
    /// `report`
    #[arg(long, value_name = "FILE", requires = "recording")]
    evaluation: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<Outcome, Failure> {
    let mut pipeline = config::load(&arguments.pipeline).map_err(Failure::usage)?;
    let recording = recording(arguments, &pipeline)?;
    let told = Told::listen()?;
    let mut session = None;
    if pipeline.demo.is_some() {
        // What is wrong is told before half a minute goes into a recording.
        models::open(&pipeline)?;
        session = open(&pipeline)?;
    }
    let demo = match (&pipeline.demo, &arguments.recording) {
        (Some(_), Some(recording)) => Some(recording.clone()),
        (Some(demo), None) => {
            Some(made::recording(&demo.scene, &made::Variation::default(), &demo.folder, &told.stopped)?)
        }
        (None, _) => None,
    };
    if let Some(file) = &arguments.evaluation {
        eval::can_be_written(file)?;
    }
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
    let mut absent = Absent::new();
    if let Some(recording) = &recording {
        absent = fill_in(&mut pipeline, recording);
        if recording.samples().len() as u64 == absent.values().sum::<u64>() {
            let message = format!("{}: none of the files that it names is there", recording.path().display());
            return Err(Failure::Usage(message));
        }
    }
    let (predictor, fallback, device) = models::open(&pipeline)?;
    if let Some(device) = device {
        tracing::info!("{device}");
    }
    if session.is_none() {
        session = open(&pipeline)?;
    }
    let source = match (recording, &session) {
        (Some(recording), _) => {
            let latency = config::millis(pipeline.input.recording.latency_ms);
            let feed = Feed::new(recording, latency, Arc::clone(&metrics));
            Source::Feed { samples: Box::new(feed), rate: arguments.rate }
        }
        (None, Some(session)) => Source::Live(Some(session.clone())),
        (None, None) => unreachable!("config::load asks for a zenoh configuration"),
    };
    let judged = arguments.evaluation.as_ref().map(|file| {
        let beams = pipeline.codebook.beams.unwrap_or_default();
        let tasks = match &pipeline.model.network {
            Some(_) => pipeline.model.tasks.clone(),
            None => vec![Task::Beam, Task::Blockage],
        };
        Judged {
            file,
            model: predictor.info().id,
            checkpoint: pipeline.model.network.clone().filter(|file| models::is_stored(file)),
            tasks,
            witness: Witness::new(beams, Sizes::ACTIVITIES),
        }
    });
    let (snapshots_in, snapshots) = crossbeam_channel::bounded::<Snapshot>(4);
    let sensors = demo.map(|path| (path, pipeline.demo.as_ref().map_or(1.0, |demo| demo.rate)));
    let (unit, zenoh_config) = (pipeline.input.recording.unit.clone(), pipeline.output.zenoh_config.clone());
    let parts = Parts {
        pipeline,
        predictor,
        fallback,
        source,
        session: session.clone(),
        log,
        metrics,
        on_snapshot: Box::new(move |snapshot| {
            // A terminal that does not keep up misses lines; the pipeline does not wait for it.
            let _ = snapshots_in.try_send(snapshot.clone());
        }),
        on_decided: judged.as_ref().map(|judged| judged.witness.listener()),
    };
    let live = std::thread::Builder::new()
        .name("live".to_owned())
        .spawn(move || snapshots.iter().for_each(|snapshot| live_line(&snapshot, format)))
        .map_err(Failure::failed)?;
    let running = runtime::start(parts).map_err(Failure::failed)?;
    let stop = running.stop_handle();
    told.passes_on_to(stop.clone());
    let sensors = match (sensors, zenoh_config) {
        (Some((path, rate)), Some(config)) => {
            let started = demo::publish(&path, unit, rate, &config, told.told.clone(), stop.clone());
            // Without its sensors the unit would wait for ever.
            Some(started.inspect_err(|_| stop.stop())?)
        }
        _ => None,
    };
    let summary = running.join().map_err(Failure::failed)?;
    // The monitor has ended, so there are no more snapshots; what was said last comes before the summary.
    let _ = live.join();
    let mut unreadable = 0;
    if let Some(sensors) = sensors {
        let sent = sensors.join().map_err(|_| Failure::Failed("the demo's sensors broke".to_owned()))??;
        unreadable = sent.unreadable.values().sum::<u64>();
        absent = sent.absent;
    }
    if let Some(session) = session {
        use zenoh::Wait;
        session.close().wait().map_err(|error| Failure::Failed(format!("zenoh: {error}")))?;
    }
    match format {
        Format::Json => text::json(&json!({ "type": "summary", "summary": summary, "absent": absent }))?,
        Format::Text => text::result(show::Summary(&summary, &absent).to_string().trim_end()),
    }
    if let (Some(judged), Some(recording)) = (judged, &arguments.recording) {
        judged.tell(&arguments.pipeline, recording, format)?;
    }
    Ok(if summary.data_lost || unreadable > 0 { Outcome::DoneWithLoss } else { Outcome::Done })
}

/// A run whose decisions are judged when it ends.
struct Judged<'a> {
    /// Where figures are written.
    file: &'a Path,
    model: String,
    checkpoint: Option<PathBuf>,
    tasks: Vec<Task>,
    witness: Witness,
}

impl Judged<'_> {
    fn tell(&self, pipeline: &Path, recording: &Path, format: Format) -> Result<(), Failure> {
        let live = eval::Live {
            pipeline,
            checkpoint: self.checkpoint.as_deref(),
            model: &self.model,
            recording,
            tasks: &self.tasks,
            witness: &self.witness,
        };
        let evaluation = live.evaluate()?;
        match format {
            Format::Json => text::json(&json!({ "type": "evaluation", "evaluation": evaluation }))?,
            Format::Text => text::result(eval::show(&evaluation).trim_end()),
        }
        eval::write(&evaluation, self.file)
    }
}

/// The pipeline's zenoh session, where it has one.
fn open(pipeline: &Pipeline) -> Result<Option<Session>, Failure> {
    let file = pipeline.output.zenoh_config.as_ref();
    file.map(|file| network::open(file)).transpose().map_err(Failure::usage)
}

/// The recording that takes the place of zenoh, where the pipeline wants one.
fn recording(arguments: &Arguments, pipeline: &Pipeline) -> Result<Option<Recording>, Failure> {
    let file = arguments.pipeline.display();
    match (&arguments.recording, pipeline.input.zenoh) {
        (Some(path), false) => {
            let options = Options::of(&pipeline.input.recording);
            Ok(Some(Recording::open(path, &options).map_err(Failure::usage)?))
        }
        (None, true) => Ok(None),
        (Some(_), true) if pipeline.demo.is_some() => Ok(None),
        (Some(_), true) => {
            let message = format!(
                "{file}: input.zenoh is true, so samples come from zenoh: publish the recording with `mmsense replay`, \
                 or run a pipeline with `zenoh = false` such as pipelines/replay.toml"
            );
            Err(Failure::Usage(message))
        }
        (None, false) => {
            let message = format!(
                "{file}: input.zenoh is false, so samples come from a recording: name it with --recording"
            );
            Err(Failure::Usage(message))
        }
    }
}

/// Ctrl-C, told to whatever goes on at the time.
struct Told {
    stopped: Arc<AtomicBool>,
    told: Receiver<()>,
    running: Arc<OnceLock<StopHandle>>,
}

impl Told {
    /// From here on the first Ctrl-C stops what goes on.
    fn listen() -> Result<Self, Failure> {
        let (tell, told) = crossbeam_channel::bounded(1);
        let listening = Self { stopped: Arc::default(), told, running: Arc::default() };
        let (stopped, running) = (Arc::clone(&listening.stopped), Arc::clone(&listening.running));
        shutdown::on_signal(move || {
            stopped.store(true, Ordering::SeqCst);
            let _ = tell.try_send(());
            if let Some(running) = running.get() {
                running.stop();
            }
        })
        .map_err(Failure::failed)?;
        Ok(listening)
    }

    /// The pipeline runs, and is stopped at once if Ctrl-C came before.
    fn passes_on_to(&self, running: StopHandle) {
        let stop = running.clone();
        let _ = self.running.set(running);
        if self.stopped.load(Ordering::SeqCst) {
            stop.stop();
        }
    }
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
