//! The zenoh side of ingest: a session from a configuration file, and subscribers that feed the [`Gate`].

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use zenoh::bytes::ZBytes;
use zenoh::pubsub::Subscriber;
use zenoh::sample::SampleKind;
use zenoh::{Config, Session, Wait};

use super::{Gate, Incoming};
use crate::observe::event::MessageRefused;
use crate::sample::Bytes;

/// A zenoh session could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The configuration file cannot be read.
    #[error("{file}: {reason}")]
    Config {
        /// The file.
        file: String,
        /// What zenoh says.
        reason: String,
    },
    /// The session cannot be opened, e.g. because the port is in use.
    #[error("{file}: cannot open the zenoh session ({endpoints}): {reason}")]
    Open {
        /// The file.
        file: String,
        /// What the file says to listen on and connect to.
        endpoints: String,
        /// What zenoh says.
        reason: String,
    },
    /// A declaration was refused.
    #[error("zenoh: cannot declare {what}: {reason}")]
    Declare {
        /// What.
        what: String,
        /// What zenoh says.
        reason: String,
    },
}

/// Reads a zenoh configuration (JSON5).
///
/// # Errors
/// [`SessionError::Config`].
pub fn read_config(file: &Path) -> Result<Config, SessionError> {
    Config::from_file(file)
        .map_err(|error| SessionError::Config { file: file.display().to_string(), reason: one_line(&error) })
}

/// The client configuration that this program carries.
///
/// # Errors
/// When zenoh refuses it.
pub(crate) fn built_in_client() -> zenoh::Result<Config> {
    Config::from_json5(include_str!("../../config/zenoh-client.json5"))
}

/// Opens a session with the configuration in `file`.
///
/// # Errors
/// [`SessionError`].
pub fn open(file: &Path) -> Result<Session, SessionError> {
    open_config(read_config(file)?, &file.display().to_string())
}

/// Opens a session; `origin` names the configuration in errors.
///
/// # Errors
/// [`SessionError::Open`].
pub fn open_config(config: Config, origin: &str) -> Result<Session, SessionError> {
    let endpoint = |key: &str| config.get_json(key).unwrap_or_default();
    let endpoints =
        format!("listen {}, connect {}", endpoint("listen/endpoints"), endpoint("connect/endpoints"));
    zenoh::open(config).wait().map_err(|error| SessionError::Open {
        file: origin.to_owned(),
        endpoints,
        reason: one_line(&error),
    })
}

/// zenoh's errors span lines and name its source files: only what was said helps.
pub(crate) fn one_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let mut kept: Vec<&str> = Vec::new();
    for word in text.split_whitespace() {
        if word.starts_with('/') && word.contains(".rs:") {
            if kept.last() == Some(&"at") {
                kept.pop();
            }
        } else {
            kept.push(word);
        }
    }
    let said = kept.join(" ");
    // What stood after the file's name may have been a closing bracket.
    if said.matches('[').count() > said.matches(']').count() { said + "]" } else { said }
}

/// Payload bytes as zenoh holds them: put together only when a decoder wants them.
struct ZenohBytes(ZBytes);

impl Bytes for ZenohBytes {
    fn bytes(&self) -> Cow<'_, [u8]> {
        self.0.to_bytes()
    }
    fn len(&self) -> usize {
        self.0.len()
    }
}

/// The input subscribers of one process; dropping them ends the input.
pub struct Subscriptions(#[allow(dead_code, reason = "held so that they stay declared")] Vec<Subscriber<()>>);

/// Subscribes to the inputs of the units that `units` matches (one name, or `*`).
///
/// # Errors
/// [`SessionError::Declare`].
pub fn subscribe(session: &Session, units: &str, gate: &Arc<Gate>) -> Result<Subscriptions, SessionError> {
    let mut subscribers = Vec::new();
    for inputs in ["sensor/**", "ue/*/link/**", "ue/*/position"] {
        let key = format!("mmsense/{units}/v1/{inputs}");
        let gate = Arc::clone(gate);
        let subscriber = session
            .declare_subscriber(&key)
            .callback(move |sample| take(&gate, &sample))
            .wait()
            .map_err(|error| SessionError::Declare { what: key, reason: one_line(&error) })?;
        subscribers.push(subscriber);
    }
    Ok(Subscriptions(subscribers))
}

fn take(gate: &Gate, sample: &zenoh::sample::Sample) {
    let key = sample.key_expr().as_str();
    if sample.kind() == SampleKind::Delete {
        let detail = "a sensor reading cannot be deleted";
        MessageRefused { key, modality: None, reason: "delete", detail: &detail }.emit(&gate.metrics);
        return;
    }
    let encoding = sample.encoding().to_string();
    let transport_ns = sample.timestamp().and_then(|stamp| {
        let since_epoch = stamp.get_time().to_system_time().duration_since(UNIX_EPOCH).ok()?;
        i64::try_from(since_epoch.as_nanos()).ok()
    });
    gate.take(Incoming {
        key,
        // zenoh's own encodings (`zenoh/bytes` is the default) say nothing about the content.
        media_type: (!encoding.starts_with("zenoh/")).then_some(Cow::Owned(encoding)),
        payload: Arc::new(ZenohBytes(sample.payload().clone())),
        attachment: sample.attachment().map(ZBytes::to_bytes),
        transport_ns,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_configuration_is_one_that_zenoh_reads() {
        for name in ["peer", "client", "router", "replay"] {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("config/zenoh-{name}.json5"));
            let config = read_config(&file).unwrap();
            let get = |key: &str| config.get_json(key).unwrap();
            assert_eq!(get("scouting/multicast/enabled"), "false", "{name}");
            assert_eq!(get("scouting/gossip/enabled"), "false", "{name}");
            assert_eq!(get("transport/link/rx/max_message_size"), "33554432", "{name}");
            assert_eq!(get("plugins_loading/enabled"), "false", "{name}");
        }
    }

    #[test]
    fn a_configuration_that_is_not_there_is_named() {
        let error = open(Path::new("nowhere.json5")).unwrap_err();
        assert!(error.to_string().starts_with("nowhere.json5: "), "{error}");
    }
}
