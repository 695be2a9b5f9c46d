//! Runtime: threads, queues, supervision and shutdown. The only place that knows them.
//!
//! ```text
//!  mailboxes ──▶ decode × n, align ──▶ infer, decide ──▶ publish
//!               timers ──┘                                 ▲
//!                                  monitor: health, 1 Hz ──┘
//!
//!  a recording's feed ──▶ decode × n ──▶ align ──▶ infer, decide ──▶ publish
//! ```
//!
//! One thread per box and a bounded queue on every arrow; decide, and live align too, have no thread of their own,
//! because waking one takes longer than what they do. Live, a full queue drops its oldest item and counts it; in a
//! replay it makes the sender wait, so that nothing is lost. Shutdown runs down the same road: the input closes, each
//! stage finishes what waits for it and closes the next one, the last one writes what it has.

mod aligning;
mod deciding;
mod decoding;
mod feeding;
mod inferring;
mod monitor;
mod publishing;
pub mod queue;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use zenoh::Session;

use crate::config;
use crate::decode::Decoder;
use crate::frame::{Frame, Window};
use crate::infer::{ModelInfo, Predictor};
use crate::ingest::clock::Clock;
use crate::ingest::mailbox::{Capacity, Mailboxes};
use crate::ingest::network::{SessionError, subscribe};
use crate::ingest::{Gate, network::Subscriptions};
use crate::message::Message;
use crate::observe::Metrics;
use crate::observe::event::{ModeLog, PublishFailed};
use crate::publish::{DecisionLog, Publisher};
use crate::sample::{RawSample, Sample, UnitId};
use crate::time::Moment;

pub use monitor::Snapshot;
pub use status::{Fallback, Summary, UeStatus, UnitStatus, UnitSummary};

use feeding::{Feed, Pace};
use queue::{WhenFull, queue};

/// A pipeline could not start, or broke.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// zenoh refused.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A thread could not be made.
    #[error("cannot start thread `{name}`: {source}")]
    Thread {
        /// Its name.
        name: String,
        /// Why.
        source: std::io::Error,
    },
    /// A stage panicked: a defect of this program.
    #[error("stage `{stage}` broke: a defect of mmsense; what it printed above belongs in a report")]
    StageBroke {
        /// The stage.
        stage: String,
    },
    /// The decision log could not be written.
    #[error("decision log: {0}")]
    Log(#[from] std::io::Error),
}

/// Where samples come from.
pub enum Source {
    /// Sensors as they speak: zenoh subscribers on the session; without one, what is pushed through
    /// [`Running::gate`]. The clock is real.
    Live(Option<Session>),
    /// An iterator of samples in the order of their (virtual) arrival, e.g. a recording. The clock is virtual: it
    /// stands at the arrival of the sample that is being taken in.
    Feed {
        /// The samples.
        samples: Box<dyn Iterator<Item = RawSample> + Send>,
        /// Speed at which they are taken in: 1 as they arrived, 0 as fast as possible. It changes no decision.
        rate: f64,
    },
}

/// Everything a pipeline is started with.
pub struct Parts {
    /// The pipeline file.
    pub pipeline: config::Pipeline,
    /// What decides.
    pub predictor: Box<dyn Predictor>,
    /// A second opinion, scored on the same frames and never published.
    pub fallback: Option<Box<dyn Predictor>>,
    /// Where samples come from.
    pub source: Source,
    /// Where messages go; `None`: not to zenoh.
    pub session: Option<Session>,
    /// Where decisions are logged; `None`: nowhere.
    pub log: Option<DecisionLog>,
    /// Shared counters; a source may count into them too.
    pub metrics: Arc<Metrics>,
    /// Called about once a second, and at every change of mode, from the monitor's thread.
    pub on_snapshot: Box<dyn FnMut(&Snapshot) + Send>,
    /// Called with each frame and what was decided of it, from the infer thread; `None`: nobody listens.
    pub on_decided: Option<OnDecided>,
}

/// Who listens to decisions.
pub type OnDecided = Box<dyn FnMut(&Decided<'_>) + Send>;

/// A frame and what was decided of it.
#[derive(Clone, Copy, Debug)]
pub struct Decided<'a> {
    /// The frame.
    pub frame: &'a Frame,
    /// What was decided, in the order in which it is published.
    pub messages: &'a [Message],
    /// Time from when the model took the frame up until then, on the real clock.
    pub took: Duration,
}

/// A decoded sample, or the news that one could not be decoded.
struct Decoded {
    /// Running number in order of arrival: a replay takes samples in exactly this order.
    ticket: u64,
    unit: UnitId,
    arrival: Moment,
    /// When it reached us on the real clock.
    received: Instant,
    sample: Option<Sample>,
}

/// From align to infer.
enum Aligned {
    Window {
        window: Window,
        /// When the newest sample of the frame reached us on the real clock.
        born: Instant,
    },
    /// What decisions are scored against.
    Truth(Sample),
}

/// From decide (and the monitor) to publish.
struct Outgoing {
    messages: Vec<Message>,
    queued: Instant,
    /// Set when these are the decisions of a frame.
    born: Option<Instant>,
}

impl Outgoing {
    /// Counts it as lost: newer messages made room.
    fn overrun(&self, metrics: &Metrics) {
        let key = self.messages.first().map(Message::key).unwrap_or_default();
        PublishFailed { key: &key, reason: "overrun", detail: &"newer messages made room" }.emit(metrics);
    }
}

/// How a stage is told the time.
#[derive(Clone)]
enum Timing {
    Real(Arc<Clock>),
    /// The clock stands at the arrival of the sample that is being taken in.
    Virtual,
}

impl Timing {
    const fn when_full(&self) -> WhenFull {
        match self {
            Self::Real(_) => WhenFull::DropOldest,
            Self::Virtual => WhenFull::Wait,
        }
    }
}

/// A running pipeline.
pub struct Running {
    stop: StopHandle,
    threads: Vec<(String, JoinHandle<()>)>,
    monitor: (String, JoinHandle<()>),
    publish: (String, JoinHandle<std::io::Result<Option<String>>>),
    monitor_stop: crossbeam_channel::Sender<()>,
    status: Arc<status::Board>,
    model: ModelInfo,
    metrics: Arc<Metrics>,
    live: Option<(Arc<Gate>, Option<Subscriptions>)>,
    started: Instant,
}

/// Ends a running pipeline's input; everything that is under way is finished.
#[derive(Clone)]
pub struct StopHandle {
    stopping: Arc<AtomicBool>,
    mailboxes: Option<Arc<Mailboxes>>,
}

impl StopHandle {
    /// Ends the input.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(mailboxes) = &self.mailboxes {
            mailboxes.close();
        }
    }
}

fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<(String, JoinHandle<T>), RuntimeError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map(|handle| (name.to_owned(), handle))
        .map_err(|source| RuntimeError::Thread { name: name.to_owned(), source })
}

/// Samples that may wait between decode and align: decoders wait beyond it.
const DECODED_QUEUE: usize = 64;
/// Frames that may wait for the model; it takes the newest of each unit.
const FRAME_QUEUE: usize = 64;

/// Starts a pipeline.
///
/// # Errors
/// [`RuntimeError`] when zenoh or the operating system refuses something.
pub fn start(parts: Parts) -> Result<Running, RuntimeError> {
    let Parts { pipeline, predictor, fallback, source, session, log, metrics, on_snapshot, on_decided } =
        parts;
    let started = Instant::now();
    let decoder = Arc::new(Decoder::new(&pipeline));
    let model = predictor.info();
    let known_unit = match &source {
        Source::Live(_) => UnitId::new(&pipeline.input.units).ok(),
        Source::Feed { .. } => Some(pipeline.input.recording.unit.clone()),
    };
    let mut publisher = Publisher::new(session, log, Arc::clone(&metrics));
    if let Some(unit) = &known_unit {
        publisher.declare_unit(unit)?;
    }

    let timing = match &source {
        Source::Live(_) => Timing::Real(Arc::new(Clock::new(pipeline.input.clock))),
        Source::Feed { .. } => Timing::Virtual,
    };
    let (aligned_in, aligned) = queue(FRAME_QUEUE, timing.when_full());
    let (outgoing_in, outgoing) = queue(pipeline.output.queue, timing.when_full());
    let status = Arc::new(status::Board::default());
    status.runs_on(predictor.device());
    let (news, mode_news) = crossbeam_channel::bounded(1);
    let (monitor_stop, monitor_stopped) = crossbeam_channel::bounded(1);

    let publish = spawn("publish", {
        let metrics = Arc::clone(&metrics);
        move || publishing::run(publisher, &outgoing, &metrics)
    })?;
    let monitor = spawn("monitor", {
        let monitor = monitor::Monitor {
            status: Arc::clone(&status),
            metrics: Arc::clone(&metrics),
            outgoing: outgoing_in.clone(),
            model: model.clone(),
            started,
            on_snapshot,
        };
        move || monitor.run(&mode_news, &monitor_stopped)
    })?;

    let mut threads = Vec::new();
    threads.push(spawn("infer", {
        let deciding = deciding::Deciding {
            decide: pipeline.decide.clone(),
            codebook: pipeline.codebook.clone(),
            model: model.clone(),
            // Rules know beams and blockages only.
            tasks: if pipeline.model.network.is_some() { pipeline.model.tasks.clone() } else { Vec::new() },
            outgoing: outgoing_in,
            status: Arc::clone(&status),
            metrics: Arc::clone(&metrics),
            news,
            deciders: BTreeMap::new(),
            mode_log: ModeLog::default(),
            on_decided,
            fallback: fallback.map(|predictor| deciding::Fallback { predictor, deciders: BTreeMap::new() }),
        };
        let metrics = Arc::clone(&metrics);
        let newest_only = matches!(timing, Timing::Real(_));
        move || inferring::run(predictor, &aligned, deciding, newest_only, &metrics)
    })?);
    let align = aligning::Aligning::new(&pipeline, known_unit, aligned_in, Arc::clone(&metrics));

    let stopping = Arc::new(AtomicBool::new(false));
    let mut input = Input { decoder, metrics: Arc::clone(&metrics), threads };
    let (mailboxes, live) = match (source, timing) {
        (Source::Live(session), Timing::Real(clock)) => {
            let (mailboxes, gate) = input.take_live(&pipeline, &clock, align)?;
            let units = &pipeline.input.units;
            let subscriptions = session.map(|session| subscribe(&session, units, &gate)).transpose()?;
            (Some(mailboxes), Some((gate, subscriptions)))
        }
        (Source::Feed { samples, rate }, _) => {
            let feed = Feed { samples, pace: Pace::new(rate), stopping: Arc::clone(&stopping) };
            input.take_feed(feed, pipeline.input.decode_threads, align)?;
            (None, None)
        }
        (Source::Live(_), Timing::Virtual) => unreachable!("live input runs on the real clock"),
    };
    let Input { threads, .. } = input;
    Ok(Running {
        stop: StopHandle { stopping, mailboxes },
        threads,
        monitor,
        publish,
        monitor_stop,
        status,
        model,
        metrics,
        live,
        started,
    })
}

/// The road as far as align.
struct Input {
    decoder: Arc<Decoder>,
    metrics: Arc<Metrics>,
    threads: Vec<(String, JoinHandle<()>)>,
}

impl Input {
    /// Gate, mailboxes, decoders that align what they have decoded, timers.
    fn take_live(
        &mut self,
        pipeline: &config::Pipeline,
        clock: &Arc<Clock>,
        align: aligning::Aligning,
    ) -> Result<(Arc<Mailboxes>, Arc<Gate>), RuntimeError> {
        let input = &pipeline.input;
        let mailboxes = Arc::new(Mailboxes::new(Capacity {
            items: input.mailbox_items,
            bytes: input.mailbox_bytes,
            // Camera, radar, LiDAR, and link, position and truth of each UE.
            streams: input.max_units.saturating_mul(3 + 3 * pipeline.align.max_ues),
        }));
        let align = aligning::Shared::new(align, Arc::clone(clock));
        for worker in 0..input.decode_threads {
            let (mailboxes, clock) = (Arc::clone(&mailboxes), Arc::clone(clock));
            let mut taken = None;
            let samples = std::iter::from_fn(move || {
                // Asking for the next sample means that the last one has been passed on.
                if let Some(stream) = taken.take() {
                    mailboxes.release(stream);
                }
                let raw = mailboxes.pop()?;
                taken = Some((raw.unit.clone(), raw.stream.clone()));
                Some((0, clock.instant(raw.stamps.arrival.monotonic), raw))
            });
            let feeder = align.feeder();
            self.decode(worker, samples, move |decoded| feeder.take(decoded))?;
        }
        self.threads.push(spawn("timers", move || align.keep_time())?);
        let gate =
            Gate::new(pipeline.limits, Arc::clone(clock), Arc::clone(&mailboxes), Arc::clone(&self.metrics));
        Ok((mailboxes, Arc::new(gate)))
    }

    /// A feed, a waiting queue, decoders, align.
    fn take_feed(
        &mut self,
        feed: Feed,
        workers: usize,
        align: aligning::Aligning,
    ) -> Result<(), RuntimeError> {
        let (decoded_in, decoded) = queue(DECODED_QUEUE, WhenFull::Wait);
        self.threads.push(spawn("align", move || align.replay(&decoded))?);
        let (raw_in, raw) = queue(2 * workers, WhenFull::Wait);
        for worker in 0..workers {
            let decoded_in = decoded_in.clone();
            let pass_on = move |decoded| !matches!(decoded_in.send(decoded), queue::Sent::Closed);
            let raw = raw.clone();
            self.decode(worker, std::iter::from_fn(move || raw.recv().ok()), pass_on)?;
        }
        let metrics = Arc::clone(&self.metrics);
        self.threads.push(spawn("feed", move || feed.run(&raw_in, &metrics))?);
        Ok(())
    }

    fn decode(
        &mut self,
        worker: usize,
        samples: impl Iterator<Item = (u64, Instant, RawSample)> + Send + 'static,
        pass_on: impl Fn(Decoded) -> bool + Send + 'static,
    ) -> Result<(), RuntimeError> {
        let (decoder, metrics) = (Arc::clone(&self.decoder), Arc::clone(&self.metrics));
        let body = move || decoding::run(samples, &decoder, pass_on, &metrics);
        self.threads.push(spawn(&format!("decode-{worker}"), body)?);
        Ok(())
    }
}

impl Running {
    /// Where a driver in this process hands its samples in; `None` in a replay.
    #[must_use]
    pub fn gate(&self) -> Option<Arc<Gate>> {
        self.live.as_ref().map(|(gate, _)| Arc::clone(gate))
    }

    /// Whether everything that goes down its road has come to the end.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.threads.iter().all(|(_, thread)| thread.is_finished())
    }

    /// A handle that ends the input.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Waits until the input has ended, by itself or by [`StopHandle::stop`], and everything that was under way is on
    /// the wire.
    ///
    /// # Errors
    /// [`RuntimeError`] when a stage broke or the decision log could not be written.
    pub fn join(self) -> Result<Summary, RuntimeError> {
        let mut broken = None;
        for (stage, thread) in self.threads {
            if thread.join().is_err() {
                // The stages after it end by themselves; the input has to be told.
                self.stop.stop();
                broken.get_or_insert(stage);
            }
        }
        drop(self.live);
        let _ = self.monitor_stop.send(());
        if self.monitor.1.join().is_err() {
            broken.get_or_insert(self.monitor.0);
        }
        let log = self.publish.1.join();
        if let Some(stage) = broken {
            return Err(RuntimeError::StageBroke { stage });
        }
        let hash = log.map_err(|_| RuntimeError::StageBroke { stage: self.publish.0 })??;
        Ok(self.status.summary(&self.metrics, &self.model, hash, self.started.elapsed()))
    }
}
