//! The demo's sensors: a recording of a simulated street, made on first use and published over zenoh by a session of
//! its own, as drivers in another process would.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Receiver;
use sha2::{Digest, Sha256};
use zenoh::Wait;

use super::super::sender::{Sender, Sent};
use super::super::{Failure, simulate, text};
use crate::config::{self, RecordingInput};
use crate::ingest::network;
use crate::recording::{Options, Recording};
use crate::runtime::StopHandle;
use crate::sample::UnitId;
use crate::simulate::{VERSION, scene};

/// Time for the last samples to be decided, before the input ends.
const SETTLE: Duration = Duration::from_millis(500);

/// The recording of the demo's scene: made when it is not there yet. Its folder carries a hash of the scene, so that a
/// changed scene is made anew.
pub(super) fn recording(demo: &config::Demo, stopped: &AtomicBool) -> Result<PathBuf, Failure> {
    let scene = scene::load(&demo.scene).map_err(Failure::usage)?;
    let text = std::fs::read(&demo.scene).map_err(Failure::usage)?;
    let hash = Sha256::new().chain_update(VERSION.to_le_bytes()).chain_update(&text).finalize();
    let hash: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let name = demo.scene.file_stem().map_or_else(|| "scene".into(), |stem| stem.to_string_lossy());
    let folder = demo.folder.join(format!("{name}-{hash}"));
    if !folder.is_dir() {
        std::fs::create_dir_all(&demo.folder)
            .map_err(|error| Failure::Failed(format!("{}: {error}", demo.folder.display())))?;
        text::progress(format!("making the recording {} (once)", folder.display()));
        let report = simulate::make(&scene, &folder, None, stopped)?;
        text::progress(format!("made {} rows in {:.0} s", report.rows, report.seconds));
    }
    Ok(folder)
}

/// Publishes the recording at `path` to the unit that listens where `zenoh_config` says, then ends the unit's input.
pub(super) fn publish(
    path: &Path,
    unit: UnitId,
    rate: f64,
    zenoh_config: &Path,
    told: Receiver<()>,
    stop: StopHandle,
) -> Result<JoinHandle<Result<Sent, Failure>>, Failure> {
    let options = Options::of(&RecordingInput { unit: unit.clone(), ..RecordingInput::default() });
    let recording = Recording::open(path, &options).map_err(Failure::usage)?;
    if !recording.samples().iter().any(|sample| sample.path().exists()) {
        return Err(Failure::Usage(format!("{}: none of the files that it names is there", path.display())));
    }
    let session =
        network::open_config(client_of(zenoh_config)?, "the demo's sensors").map_err(Failure::failed)?;
    let body = move || {
        // However this thread ends, the unit does not wait for its sensors for ever.
        let _end = EndOfInput(stop);
        let mut sender = Sender::new(&recording, &session, &unit);
        let started = std::time::Instant::now();
        let samples = recording.samples();
        let sent = match sender.wait_for_subscriber(samples, &told) {
            Ok(true) => sender.publish_all(samples, rate, false, &told, |_| {}),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        let _ = told.recv_timeout(SETTLE);
        let summary = sender.finish(started);
        sent?;
        session.close().wait().map_err(|error| Failure::Failed(format!("zenoh: {error}")))?;
        Ok(summary)
    };
    std::thread::Builder::new().name("sensors".to_owned()).spawn(body).map_err(Failure::failed)
}

/// Ends the unit's input when it goes.
struct EndOfInput(StopHandle);

impl Drop for EndOfInput {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A client of the session that `file` opens: it connects to where that one listens.
fn client_of(file: &Path) -> Result<zenoh::Config, Failure> {
    let listening = network::read_config(file).map_err(Failure::usage)?;
    let endpoints = listening.get_json("listen/endpoints").unwrap_or_default();
    let mut client = network::built_in_client().map_err(Failure::failed)?;
    // A configuration may list endpoints by mode.
    let list: serde_json::Value = serde_json::from_str(&endpoints).map_err(Failure::failed)?;
    let list = list.get("peer").or(list.get("router")).unwrap_or(&list);
    client.insert_json5("connect/endpoints", &list.to_string()).map_err(|error| {
        Failure::Failed(format!("{}: listen.endpoints {endpoints}: {error}", file.display()))
    })?;
    Ok(client)
}
