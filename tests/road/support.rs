//! A unit under test, a client in another zenoh session, and payloads.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use mmsense::config::{self, Pipeline};
use mmsense::infer::{Baseline, Predictor};
use mmsense::ingest::Attachment;
use mmsense::ingest::clock::system_time;
use mmsense::observe::Metrics;
use mmsense::publish::DecisionLog;
use mmsense::recording::{Feed, Options, Recording, fill_in};
use mmsense::runtime::{self, Parts, Running, Source, Summary};
use mmsense::sample::Format;
use mmsense::time::CaptureTime;
use serde_json::Value;
use zenoh::bytes::Encoding;
use zenoh::pubsub::Subscriber;
use zenoh::{Session, Wait};

/// `../shared`, where it stands beside the project; says so where it does not.
pub fn shared(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not there", path.display());
    None
}

/// A pipeline from TOML text.
pub fn pipeline(text: &str) -> Pipeline {
    config::parse(Path::new("test.toml"), text).unwrap_or_else(|error| panic!("{error}"))
}

/// A live pipeline for one unit `u` of `beams` beams.
pub fn live(more: &str) -> Pipeline {
    let mut pipeline = pipeline(&format!(
        "[input]\nunits = \"u\"\n[codebook]\nid = \"test\"\nbeams = 8\n[output]\nzenoh_config = \"none\"\n{more}"
    ));
    // Sessions are opened here, not from a file.
    pipeline.output.zenoh_config = None;
    pipeline
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn zenoh_config(more: &str) -> zenoh::Config {
    let text = format!(
        "{{ scouting: {{ multicast: {{ enabled: false }}, gossip: {{ enabled: false }} }}, {more} }}"
    );
    zenoh::Config::from_json5(&text).unwrap()
}

/// A unit in this process, reachable over TCP.
pub struct Unit {
    pub port: u16,
    session: Session,
    running: Running,
}

impl Unit {
    pub fn start(pipeline: Pipeline) -> Self {
        let predictor = Baseline::new(&pipeline.model, &pipeline.codebook, &pipeline.decide);
        Self::start_with(pipeline, Box::new(predictor))
    }

    pub fn start_with(pipeline: Pipeline, predictor: Box<dyn Predictor>) -> Self {
        let port = free_port();
        let listen = format!("mode: \"peer\", listen: {{ endpoints: [\"tcp/127.0.0.1:{port}\"] }}");
        let session = zenoh::open(zenoh_config(&listen)).wait().unwrap();
        Self { port, ..Self::run(pipeline, predictor, session) }
    }

    /// A unit on a session of its own, not reachable at a port.
    pub fn start_on(pipeline: Pipeline, session: Session) -> Self {
        let predictor = Baseline::new(&pipeline.model, &pipeline.codebook, &pipeline.decide);
        Self::run(pipeline, Box::new(predictor), session)
    }

    fn run(pipeline: Pipeline, predictor: Box<dyn Predictor>, session: Session) -> Self {
        let running = runtime::start(Parts {
            fallback: None,
            pipeline,
            predictor,
            source: Source::Live(Some(session.clone())),
            session: Some(session.clone()),
            log: None,
            metrics: Arc::default(),
            on_snapshot: Box::new(|_| {}),
            on_decided: None,
        })
        .unwrap();
        Self { port: 0, session, running }
    }

    /// Ends the input, waits until everything is out, and gives the summary.
    pub fn finish(self) -> Summary {
        self.running.stop_handle().stop();
        let summary = self.running.join().unwrap();
        self.session.close().wait().unwrap();
        summary
    }
}

/// Runs the recording in `folder` through `pipelines/replay.toml`, as fast as possible, not onto zenoh.
pub fn run_recording(folder: &Path, decode_threads: usize, log: Option<&Path>) -> Summary {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/replay.toml");
    let mut pipeline = config::load(&file).unwrap();
    pipeline.output.zenoh_config = None;
    pipeline.input.decode_threads = decode_threads;
    let recording = Recording::open(folder, &Options::of(&pipeline.input.recording)).unwrap();
    fill_in(&mut pipeline, &recording);
    let metrics = Arc::new(Metrics::default());
    let feed = Feed::new(recording, mmsense::time::Span::ZERO, Arc::clone(&metrics));
    run_with(pipeline, feed, metrics, log)
}

/// Runs a feed through a pipeline on the virtual clock.
pub fn run_feed(
    pipeline: Pipeline,
    feed: impl Iterator<Item = mmsense::sample::RawSample> + Send + 'static,
    log: Option<&Path>,
) -> Summary {
    run_with(pipeline, feed, Arc::default(), log)
}

fn run_with(
    pipeline: Pipeline,
    feed: impl Iterator<Item = mmsense::sample::RawSample> + Send + 'static,
    metrics: Arc<Metrics>,
    log: Option<&Path>,
) -> Summary {
    let predictor = Baseline::new(&pipeline.model, &pipeline.codebook, &pipeline.decide);
    let running = runtime::start(Parts {
        pipeline,
        predictor: Box::new(predictor),
        fallback: None,
        source: Source::Feed { samples: Box::new(feed), rate: 0.0 },
        session: None,
        log: Some(log.map_or_else(DecisionLog::hash_only, |path| DecisionLog::create(path).unwrap())),
        metrics,
        on_snapshot: Box::new(|_| {}),
        on_decided: None,
    })
    .unwrap();
    running.join().unwrap()
}

/// Another process, as far as zenoh can tell: its own session over TCP.
pub struct Client {
    pub session: Session,
    sequence: AtomicU64,
}

/// Messages of one key expression, as they arrive.
pub struct Messages {
    received: Receiver<(String, Value)>,
    _subscriber: Subscriber<()>,
}

impl Messages {
    /// The next message for which `wanted` is true, within 20 s.
    pub fn wait_for(&self, what: &str, mut wanted: impl FnMut(&str, &Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut last = None;
        while let Ok((key, value)) = self.received.recv_deadline(deadline) {
            if wanted(&key, &value) {
                return value;
            }
            last = Some(value);
        }
        panic!("no message within 20 s: {what}; the last one was {last:?}");
    }

    /// The next message on a key that ends with `suffix`.
    pub fn next(&self, suffix: &str) -> Value {
        self.wait_for(suffix, |key, _| key.ends_with(suffix))
    }

    /// Everything that has arrived so far.
    pub fn drain(&self) -> Vec<(String, Value)> {
        self.received.try_iter().collect()
    }
}

impl Client {
    pub fn connect(port: u16) -> Self {
        let connect = format!(
            "mode: \"client\", connect: {{ endpoints: [\"tcp/127.0.0.1:{port}\"], timeout_ms: 10000, \
             exit_on_failure: true }}"
        );
        Self::of(zenoh::open(zenoh_config(&connect)).wait().unwrap())
    }

    /// A client on a session of its own.
    pub fn of(session: Session) -> Self {
        Self { session, sequence: AtomicU64::new(0) }
    }

    /// Subscribes and waits until the unit knows of it.
    pub fn subscribe(&self, key: &str) -> Messages {
        let (sender, received) = crossbeam_channel::bounded(100_000);
        let subscriber = self
            .session
            .declare_subscriber(key)
            .callback(move |sample| {
                // Inputs match `**` too; only messages are JSON.
                if let Ok(value) = serde_json::from_slice(&sample.payload().to_bytes()) {
                    let _ = sender.try_send((sample.key_expr().to_string(), value));
                }
            })
            .wait()
            .unwrap();
        std::thread::sleep(Duration::from_millis(300));
        Messages { received, _subscriber: subscriber }
    }

    /// Publishes on `mmsense/u/v1/<key>` with an attachment.
    pub fn put_at(&self, key: &str, format: Format, payload: &[u8], capture: CaptureTime) {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let attachment = Attachment { capture, sequence }.to_bytes();
        self.session
            .put(format!("mmsense/u/v1/{key}"), payload)
            .encoding(Encoding::from(format.media_type()))
            .attachment(attachment.as_slice())
            .wait()
            .unwrap();
    }

    /// Publishes as captured now.
    pub fn put(&self, key: &str, format: Format, payload: &[u8]) {
        self.put_at(key, format, payload, system_time());
    }

    /// What a late subscriber gets on `key`.
    pub fn get(&self, key: &str) -> BTreeMap<String, Value> {
        let replies = self.session.get(key).wait().unwrap();
        let mut found = BTreeMap::new();
        while let Ok(reply) = replies.recv() {
            let sample = reply.result().unwrap();
            let value = serde_json::from_slice(&sample.payload().to_bytes()).unwrap();
            found.insert(sample.key_expr().to_string(), value);
        }
        found
    }
}

/// A JPEG of `width` × `height` pixels.
pub fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let image = image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 128]));
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

fn npy_header(descr: &str, shape: &str) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes
}

/// A float32 `.npy` of any shape.
pub fn npy_f32(shape: &str, values: &[f32]) -> Vec<u8> {
    let mut bytes = npy_header("<f4", shape);
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// A float64 `.npy` vector.
pub fn npy_f64(values: &[f64]) -> Vec<u8> {
    let mut bytes = npy_header("<f8", &format!("({},)", values.len()));
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// An int32 `.npy` vector: no input has that type.
pub fn npy_i32(values: &[i32]) -> Vec<u8> {
    let mut bytes = npy_header("<i4", &format!("({},)", values.len()));
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// A radar point list.
pub fn radar_points() -> Vec<u8> {
    npy_f32("(2, 5)", &[0.0, 10.0, 0.0, 1.0, 20.0, 1.0, 20.0, 0.0, -1.0, 10.0])
}

/// A binary PCD of three points.
pub fn pcd() -> Vec<u8> {
    let mut bytes = b"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 3\nHEIGHT 1\n\
        VIEWPOINT 0 0 0 1 0 0 0\nPOINTS 3\nDATA binary\n"
        .to_vec();
    bytes.extend(
        [1f32, 10.0, 0.0, -2.0, 20.0, 1.0, 3.0, 30.0, 2.0].iter().flat_map(|value| value.to_le_bytes()),
    );
    bytes
}

/// Powers of 8 beams with `best` the strongest, scaled by `gain`.
pub fn power(best: usize, gain: f64) -> Vec<u8> {
    let values: Vec<f64> =
        (0..8).map(|beam: usize| gain / (1.0 + (beam.abs_diff(best) as f64).powi(2))).collect();
    npy_f64(&values)
}
