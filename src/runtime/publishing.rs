//! The publish thread.

use std::time::Instant;

use super::Outgoing;
use super::queue::Receiver;
use crate::observe::event::PublishFailed;
use crate::observe::{Metrics, Stage};
use crate::publish::Publisher;

/// Publishes what arrives until the queue closes; returns the hash of the decision log, where there is one.
pub(super) fn run(
    mut publisher: Publisher,
    outgoing: &Receiver<Outgoing>,
    metrics: &Metrics,
) -> std::io::Result<Option<String>> {
    for item in outgoing.iter() {
        if let Some(message) = item.messages.first()
            && let Err(error) = publisher.declare_unit(&message.header().unit)
        {
            PublishFailed { key: "declarations", reason: "declare", detail: &error }.emit(metrics);
        }
        let mut messages = item.messages;
        messages.iter_mut().for_each(|message| publisher.publish(message));
        let done = Instant::now();
        if let Some(born) = item.born {
            metrics.took(Stage::Publish, done - item.queued);
            metrics.took(Stage::Total, done.saturating_duration_since(born));
        }
        publisher.log(&messages);
    }
    publisher.finish()
}
