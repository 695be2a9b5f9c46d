//! The bounded queue between two stages.

use std::ops::Deref;
use std::sync::{Arc, Weak};

use crossbeam_channel::{TrySendError, bounded};

/// What a full queue does with one more item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The sender waits: nothing is lost. For replays, and for stages that must not lose.
    Wait,
    /// The oldest waiting item makes room: the newest always gets through. For live input.
    DropOldest,
}

/// What became of a sent item.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent<T> {
    /// It waits in the queue.
    Queued,
    /// It waits in the queue; these older ones made room for it (one, unless several senders met).
    Displaced(Vec<T>),
    /// Nobody receives any more.
    Closed,
}

/// The sending end of a bounded queue.
pub struct Sender<T> {
    items: crossbeam_channel::Sender<T>,
    // Held only to take the oldest item out of a full queue.
    oldest: Option<crossbeam_channel::Receiver<T>>,
    // With a receiver of our own the channel never counts as closed: this tells whether anybody else has one.
    receivers: Weak<()>,
}

/// The receiving end of a bounded queue.
#[derive(Clone)]
pub struct Receiver<T> {
    items: crossbeam_channel::Receiver<T>,
    _alive: Arc<()>,
}

impl<T> Deref for Receiver<T> {
    type Target = crossbeam_channel::Receiver<T>;
    fn deref(&self) -> &Self::Target {
        &self.items
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), oldest: self.oldest.clone(), receivers: self.receivers.clone() }
    }
}

/// A queue of at most `capacity` items.
#[must_use]
pub fn queue<T>(capacity: usize, when_full: WhenFull) -> (Sender<T>, Receiver<T>) {
    let (items, receiver) = bounded(capacity.max(1));
    let oldest = (when_full == WhenFull::DropOldest).then(|| receiver.clone());
    let alive = Arc::new(());
    (Sender { items, oldest, receivers: Arc::downgrade(&alive) }, Receiver { items: receiver, _alive: alive })
}

impl<T> Sender<T> {
    /// Sends an item as the queue's [`WhenFull`] says.
    pub fn send(&self, mut item: T) -> Sent<T> {
        let Some(oldest) = &self.oldest else {
            return match self.items.send(item) {
                Ok(()) => Sent::Queued,
                Err(_) => Sent::Closed,
            };
        };
        let mut displaced = Vec::new();
        if self.receivers.strong_count() == 0 {
            return Sent::Closed;
        }
        loop {
            match self.items.try_send(item) {
                Ok(()) if displaced.is_empty() => return Sent::Queued,
                Ok(()) => return Sent::Displaced(displaced),
                Err(TrySendError::Disconnected(_)) => return Sent::Closed,
                Err(TrySendError::Full(returned)) => {
                    item = returned;
                    displaced.extend(oldest.try_recv());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_live_queue_keeps_the_newest() {
        let (sender, receiver) = queue(2, WhenFull::DropOldest);
        assert_eq!(sender.send(1), Sent::Queued);
        assert_eq!(sender.send(2), Sent::Queued);
        assert_eq!(sender.send(3), Sent::Displaced(vec![1]));
        assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn a_queue_closes_with_its_last_receiver() {
        for when_full in [WhenFull::DropOldest, WhenFull::Wait] {
            let (sender, receiver) = queue(2, when_full);
            let other = receiver.clone();
            drop(receiver);
            assert_eq!(sender.send(1), Sent::Queued);
            drop(other);
            assert_eq!(sender.send(2), Sent::Closed);
        }
    }

    #[test]
    fn a_full_waiting_queue_loses_nothing() {
        let (sender, receiver) = queue(1, WhenFull::Wait);
        let writer = std::thread::spawn(move || (0..100).all(|item| sender.send(item) == Sent::Queued));
        assert_eq!(receiver.iter().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        assert!(writer.join().unwrap());
    }
}
