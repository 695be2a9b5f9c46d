//! The demo's sensors: a recording of a simulated street, published over zenoh by a session of
//! its own, as drivers in another process would.

use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Receiver;
use zenoh::Wait;

use super::super::Failure;
use super::super::sender::{Sender, Sent};
use crate::config::RecordingInput;
use crate::ingest::network;
use crate::recording::{Options, Recording};
use crate::runtime::StopHandle;
use crate::sample::UnitId;

/// Time for the last samples to be decided, before the input ends.
const SETTLE: Duration = Duration::from_millis(500);

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
