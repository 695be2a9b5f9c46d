//! Publish: messages on the wire, from a thread of their own.
//!
//! A [`Publisher`] stamps each message with its time of issue, puts it on zenoh, keeps the last value of every key for
//! late subscribers (they ask, a queryable on the same keys answers), and writes the decision log.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use zenoh::bytes::{Encoding, ZBytes};
use zenoh::liveliness::LivelinessToken;
use zenoh::qos::CongestionControl;
use zenoh::query::Queryable;
use zenoh::{Session, Wait};

use crate::ingest::clock::system_time;
use crate::ingest::network::{SessionError, one_line};
use crate::message::{FrameMessage, Message, Nanos};
use crate::observe::event::PublishFailed;
use crate::observe::{Metrics, lock};
use crate::sample::UnitId;

/// The last JSON of every output key.
type LastValues = Arc<Mutex<BTreeMap<String, ZBytes>>>;

/// The zenoh side of publishing.
struct Wire {
    session: Session,
    last: LastValues,
    // A map of what is declared per unit; dropped tokens and queryables go off the network.
    units: BTreeMap<UnitId, DeclaredUnit>,
}

struct DeclaredUnit {
    _alive: LivelinessToken,
    _last_values: Queryable<()>,
}

/// Puts messages where they are wanted.
pub struct Publisher {
    wire: Option<Wire>,
    log: Option<DecisionLog>,
    metrics: Arc<Metrics>,
}

impl Publisher {
    /// A publisher to `session` (none: nothing goes to zenoh) and to `log` (none: nothing is logged).
    #[must_use]
    pub fn new(session: Option<Session>, log: Option<DecisionLog>, metrics: Arc<Metrics>) -> Self {
        let wire =
            session.map(|session| Wire { session, last: LastValues::default(), units: BTreeMap::new() });
        Self { wire, log, metrics }
    }

    /// Declares a unit's liveliness token and the queryable that answers late subscribers.
    ///
    /// # Errors
    /// [`SessionError::Declare`].
    pub fn declare_unit(&mut self, unit: &UnitId) -> Result<(), SessionError> {
        let Some(wire) = &mut self.wire else { return Ok(()) };
        if wire.units.contains_key(unit) {
            return Ok(());
        }
        let refused = |what: &str, error: zenoh::Error| SessionError::Declare {
            what: what.to_owned(),
            reason: one_line(&error),
        };
        let keys = format!("mmsense/{unit}/v1/**");
        let last = Arc::clone(&wire.last);
        let last_values = wire
            .session
            .declare_queryable(&keys)
            .callback(move |query| answer(&query, &last))
            .wait()
            .map_err(|error| refused(&keys, error))?;
        let alive = format!("mmsense/{unit}/v1/alive");
        let alive =
            wire.session.liveliness().declare_token(&alive).wait().map_err(|error| refused(&alive, error))?;
        let declared = DeclaredUnit { _alive: alive, _last_values: last_values };
        wire.units.insert(unit.clone(), declared);
        Ok(())
    }

    /// Publishes one message.
    pub fn publish(&mut self, message: &mut Message) {
        let Some(wire) = &mut self.wire else { return };
        let unit = message.header().unit.clone();
        message.header_mut().issued_ns = Nanos(system_time().as_nanos());
        let key = format!("mmsense/{unit}/v1/{}", message.key());
        let fail = |reason, detail: &dyn std::fmt::Display| {
            PublishFailed { key: &key, reason, detail }.emit(&self.metrics);
        };
        let json = match message.to_json() {
            Ok(json) => json,
            Err(error) => return fail("serialise", &error),
        };
        if let Message::Frame(frame) = message {
            wire.forget_absent_ues(frame);
        }
        // One buffer: zenoh and the last value share it.
        let json = ZBytes::from(json);
        let put = wire
            .session
            .put(&key, json.clone())
            .encoding(Encoding::APPLICATION_JSON)
            .congestion_control(CongestionControl::Drop)
            .express(true)
            .wait();
        lock(&wire.last).insert(key.clone(), json);
        if let Err(error) = put {
            fail("transport", &one_line(&error));
        }
    }

    /// Writes messages to the decision log, where there is one.
    pub fn log(&mut self, messages: &[Message]) {
        if let Some(log) = &mut self.log {
            messages.iter().for_each(|message| log.write(message, &self.metrics));
        }
    }

    /// Ends publishing; returns the hash of the decision log, where there is one.
    ///
    /// # Errors
    /// When the log cannot be written to its end.
    pub fn finish(self) -> std::io::Result<Option<String>> {
        self.log.map(DecisionLog::finish).transpose()
    }
}

impl Wire {
    /// What was said of a UE that the unit does not serve (any more) is no news for late subscribers.
    fn forget_absent_ues(&self, frame: &FrameMessage) {
        let prefix = format!("mmsense/{}/v1/ue/", frame.header.unit);
        lock(&self.last).retain(|key, _| {
            let ue = key.strip_prefix(&prefix).and_then(|rest| rest.split('/').next());
            ue.is_none_or(|ue| frame.ues.contains_key(ue))
        });
    }
}

/// Answers a late subscriber with the last value of every key that it asks for.
fn answer(query: &zenoh::query::Query, last: &LastValues) {
    let asked = query.key_expr();
    let matching: Vec<(String, ZBytes)> = lock(last)
        .iter()
        .filter(|(key, _)| zenoh::key_expr::keyexpr::new(key.as_str()).is_ok_and(|key| asked.intersects(key)))
        .map(|(key, json)| (key.clone(), json.clone()))
        .collect();
    for (key, json) in matching {
        if let Err(error) = query.reply(&key, json).encoding(Encoding::APPLICATION_JSON).wait() {
            tracing::debug!(key, "a late subscriber could not be answered: {error}");
        }
    }
}

/// Decisions as JSON lines, and their SHA-256, without what changes from run to run: `issued_ns`, latencies, `health`.
pub struct DecisionLog {
    file: Option<BufWriter<std::fs::File>>,
    hash: Sha256,
    failed: Option<std::io::Error>,
}

impl DecisionLog {
    /// A log that is only hashed.
    #[must_use]
    pub fn hash_only() -> Self {
        Self { file: None, hash: Sha256::new(), failed: None }
    }

    /// A log in a new file at `path`.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        Ok(Self { file: Some(BufWriter::new(std::fs::File::create(path)?)), ..Self::hash_only() })
    }

    fn write(&mut self, message: &Message, metrics: &Metrics) {
        // Health is all about the run.
        if self.failed.is_some() || matches!(message, Message::Health(_)) {
            return;
        }
        let result = message.to_log().map_err(std::io::Error::from).and_then(|value| {
            let line = format!("{value}\n");
            self.hash.update(line.as_bytes());
            self.file.as_mut().map_or(Ok(()), |file| file.write_all(line.as_bytes()))
        });
        if let Err(error) = result {
            PublishFailed { key: "decision log", reason: "log_write", detail: &error }.emit(metrics);
            self.failed = Some(error);
        }
    }

    fn finish(mut self) -> std::io::Result<String> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if let Some(file) = &mut self.file {
            file.flush()?;
        }
        Ok(self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}
