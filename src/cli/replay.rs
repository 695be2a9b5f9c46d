//! `replay RECORDING`: publishes a recording on the input keys, for a unit in another process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use zenoh::{Session, Wait};

use super::progress::Progress;
use super::sender::{Sender, Sent};
use super::{Failure, Format, Outcome, shutdown, text};
use crate::config::RecordingInput;
use crate::ingest::network;
use crate::recording::{Options, RecordedSample, Recording};
use crate::sample::{Modality, UnitId};
use crate::time::Span;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Recording (a folder in DeepSense 6G layout, or its CSV)
    recording: PathBuf,
    /// Speed: 1 as it was, 0 as fast as possible. At a rate other than 1 the pipeline needs clock = "recorded"
    #[arg(long, value_name = "RATE", default_value_t = 1.0, value_parser = rate)]
    rate: f64,
    /// Start again at the end, until Ctrl-C
    #[arg(long = "loop")]
    repeat: bool,
    /// Skip this much of the recording, seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    start: f64,
    /// Publish only so much of the recording, seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<f64>,
    /// Publish only these
    #[arg(long, value_name = "TOPIC,...", value_delimiter = ',', value_parser = topic)]
    topics: Vec<Modality>,
    /// Unit that the samples are published for
    #[arg(long, value_name = "NAME", default_value = "unit1", value_parser = UnitId::new)]
    unit: UnitId,
    /// Rows per second of a recording without time stamps, Hz
    #[arg(long, value_name = "HZ", default_value_t = 10.0, value_parser = row_rate)]
    row_rate: f64,
    /// zenoh configuration file [default: a client of tcp/127.0.0.1:7447]
    #[arg(long, value_name = "FILE")]
    zenoh: Option<PathBuf>,
}

/// A replay speed: 0 or more.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    number(text, 0.0, 1e6)
}

fn seconds(text: &str) -> Result<f64, String> {
    number(text, 0.0, 1e9)
}

fn row_rate(text: &str) -> Result<f64, String> {
    number(text, 0.01, 1000.0)
}

fn number(text: &str, low: f64, high: f64) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (low..=high).contains(&value) { Ok(value) } else { Err(format!("allowed is {low} to {high}")) }
}

fn topic(text: &str) -> Result<Modality, String> {
    Modality::ALL.into_iter().find(|modality| modality.name() == text).ok_or_else(|| {
        let names: Vec<&str> = Modality::ALL.into_iter().map(Modality::name).collect();
        format!("allowed are {}", names.join(", "))
    })
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<Outcome, Failure> {
    let input = RecordingInput {
        unit: arguments.unit.clone(),
        rate_hz: arguments.row_rate,
        ..RecordingInput::default()
    };
    let recording = Recording::open(&arguments.recording, &Options::of(&input)).map_err(Failure::usage)?;
    let samples = select(&recording, arguments)?;

    // From here on Ctrl-C ends the replay, also while it waits for a unit to connect to.
    let (stop_now, stop) = crossbeam_channel::bounded::<()>(1);
    shutdown::on_signal(move || {
        let _ = stop_now.try_send(());
    })
    .map_err(Failure::failed)?;
    let Some(session) = connect(arguments, &stop)? else { return Ok(Outcome::DoneWithLoss) };
    let mut sender = Sender::new(&recording, &session, &arguments.unit);
    let started = Instant::now();
    if sender.wait_for_subscriber(&samples, &stop)? {
        let progress = Progress::new();
        let all = samples.len() as u64;
        sender.publish_all(&samples, arguments.rate, arguments.repeat, &stop, |sent| {
            let published: u64 = sent.published.values().sum();
            let line = || format!("published {published} samples, {} loops", sent.loops);
            progress.show(published, all, line);
        })?;
    }
    let summary = sender.finish(started);
    session.close().wait().map_err(|error| Failure::Failed(format!("zenoh: {error}")))?;
    match format {
        Format::Json => text::json(&summary)?,
        Format::Text => show(&summary),
    }
    Ok(if summary.unreadable.is_empty() { Outcome::Done } else { Outcome::DoneWithLoss })
}

/// The samples that the arguments ask for, in capture order.
fn select(recording: &Recording, arguments: &Arguments) -> Result<Vec<RecordedSample>, Failure> {
    let wanted = |modality| arguments.topics.is_empty() || arguments.topics.contains(&modality);
    let all = recording.samples();
    let Some(first) = all.first().map(|sample| sample.capture) else {
        return Err(Failure::Usage(format!("{}: the recording is empty", arguments.recording.display())));
    };
    let from = first + Span::from_secs_f64(arguments.start);
    let until = arguments.duration.map(|seconds| from + Span::from_secs_f64(seconds));
    let selected: Vec<RecordedSample> = all
        .iter()
        .filter(|sample| wanted(sample.stream.modality()))
        .filter(|sample| sample.capture >= from && until.is_none_or(|until| sample.capture < until))
        .cloned()
        .collect();
    if selected.is_empty() {
        let message = format!(
            "{}: nothing to publish: no sample has the given --topics between --start and --duration",
            arguments.recording.display()
        );
        return Err(Failure::Usage(message));
    }
    Ok(selected)
}

/// Opens the session; `None` when Ctrl-C came first.
fn connect(arguments: &Arguments, stop: &Receiver<()>) -> Result<Option<Session>, Failure> {
    let (config, origin) = match &arguments.zenoh {
        Some(file) => (network::read_config(file).map_err(Failure::usage)?, file.display().to_string()),
        None => {
            let config = network::built_in_client().map_err(Failure::failed)?;
            (config, "built-in client configuration".to_owned())
        }
    };
    let endpoints = config.get_json("connect/endpoints").unwrap_or_default();
    let (opened_in, opened) = crossbeam_channel::bounded(1);
    std::thread::Builder::new()
        .name("connect".to_owned())
        .spawn(move || {
            let _ = opened_in.send(network::open_config(config, &origin));
        })
        .map_err(Failure::failed)?;
    let mut said = false;
    loop {
        crossbeam_channel::select! {
            recv(opened) -> session => {
                let session = session.map_err(Failure::failed)?;
                return session.map(Some).map_err(Failure::usage);
            }
            recv(stop) -> _ => return Ok(None),
            default(Duration::from_secs(1)) => if !said {
                text::progress(format!("waiting for a unit or a router at {endpoints}"));
                said = true;
            }
        }
    }
}

fn show(summary: &Sent) {
    let list = |counts: &BTreeMap<Modality, u64>| {
        let parts: Vec<String> =
            counts.iter().map(|(modality, count)| format!("{modality} {count}")).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    };
    text::result(format!("published     {} in {:.1} s", list(&summary.published), summary.seconds));
    if !summary.absent.is_empty() {
        text::result(format!("absent        {}", list(&summary.absent)));
    }
    if !summary.unreadable.is_empty() {
        text::result(format!("unreadable    {}", list(&summary.unreadable)));
    }
}
