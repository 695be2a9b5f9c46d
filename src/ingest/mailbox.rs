//! Mailboxes: one bounded queue per stream, newest kept, drained in turn.
//!
//! Several workers take samples out, but only one at a time those of one stream: a stream's samples leave in the order
//! in which they came, however long each takes to decode.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, PoisonError};

use crate::observe::lock;
use crate::sample::{RawSample, Stream, UnitId};

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Samples of one stream.
    pub items: usize,
    /// Payload bytes of one stream; a single larger sample still fits when it is alone.
    pub bytes: usize,
    /// Streams that have waiting samples.
    pub streams: usize,
}

/// Why a sample was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Too many streams have waiting samples.
    Streams {
        /// How many are allowed.
        limit: usize,
    },
    /// The pipeline is shutting down.
    Closed,
}

#[derive(Default)]
struct Waiting {
    samples: VecDeque<RawSample>,
    bytes: usize,
    /// Whether a worker has a sample of this stream in its hands.
    taken: bool,
}

#[derive(Default)]
struct State {
    // A stream is here only while something waits or is taken, so that streams that end leave nothing behind.
    streams: BTreeMap<(UnitId, Stream), Waiting>,
    turn: VecDeque<(UnitId, Stream)>,
    closed: bool,
}

/// The mailboxes of all streams.
pub struct Mailboxes {
    capacity: Capacity,
    state: Mutex<State>,
    arrived: Condvar,
}

impl Mailboxes {
    /// Empty mailboxes.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        Self { capacity, state: Mutex::default(), arrived: Condvar::new() }
    }

    /// Puts a sample into its stream's mailbox, never waiting. Returns how many older samples of that stream it
    /// displaced.
    ///
    /// # Errors
    /// [`Full`] when the sample was not taken.
    pub fn push(&self, sample: RawSample) -> Result<u64, Full> {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        if state.closed {
            return Err(Full::Closed);
        }
        let key = (sample.unit.clone(), sample.stream.clone());
        if !state.streams.contains_key(&key) {
            if state.streams.len() >= self.capacity.streams {
                return Err(Full::Streams { limit: self.capacity.streams });
            }
            state.turn.push_back(key.clone());
        }
        let waiting = state.streams.entry(key).or_default();
        waiting.bytes += sample.payload.len();
        waiting.samples.push_back(sample);
        let mut dropped = 0;
        while waiting.samples.len() > self.capacity.items
            || (waiting.bytes > self.capacity.bytes && waiting.samples.len() > 1)
        {
            if let Some(oldest) = waiting.samples.pop_front() {
                waiting.bytes -= oldest.payload.len();
                dropped += 1;
            }
        }
        drop(guard);
        self.arrived.notify_one();
        Ok(dropped)
    }

    /// Takes the oldest sample of the stream whose turn it is, waiting for one; `None` once closed and empty. The
    /// stream's next sample is handed out only after [`Mailboxes::release`].
    pub fn pop(&self) -> Option<RawSample> {
        let mut state = lock(&self.state);
        loop {
            if let Some(key) = state.turn.pop_front() {
                let Some(waiting) = state.streams.get_mut(&key) else { continue };
                let Some(sample) = waiting.samples.pop_front() else { continue };
                waiting.bytes -= sample.payload.len();
                waiting.taken = true;
                return Some(sample);
            }
            if state.closed && state.streams.values().all(|waiting| waiting.samples.is_empty()) {
                return None;
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says that the sample of this stream that was taken is where it belongs.
    pub fn release(&self, stream: (UnitId, Stream)) {
        let mut guard = lock(&self.state);
        let state = &mut *guard;
        let Some(waiting) = state.streams.get_mut(&stream) else { return };
        waiting.taken = false;
        let more = !waiting.samples.is_empty();
        if more {
            state.turn.push_back(stream);
        } else {
            state.streams.remove(&stream);
        }
        let closed = state.closed;
        drop(guard);
        if closed {
            // Whoever waits may have nothing to wait for any more.
            self.arrived.notify_all();
        } else if more {
            self.arrived.notify_one();
        }
    }

    /// Takes nothing more; what waits is still handed out.
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.arrived.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sample::{CaptureSource, Stamps, UeId};
    use crate::time::{CaptureTime, Moment};

    fn sample(stream: Stream, size: usize) -> RawSample {
        let time = CaptureTime::from_nanos(0);
        RawSample {
            unit: UnitId::new("u").unwrap(),
            stream,
            stamps: Stamps {
                capture: time,
                capture_source: CaptureSource::Arrival,
                sequence: None,
                arrival: Moment::at(time),
                transport_ns: None,
            },
            format: None,
            payload: Arc::new(vec![0u8; size]),
        }
    }

    fn mailboxes(items: usize, bytes: usize, streams: usize) -> Mailboxes {
        Mailboxes::new(Capacity { items, bytes, streams })
    }

    /// Takes a sample and puts it where it belongs at once.
    fn take(boxes: &Mailboxes) -> Option<RawSample> {
        let sample = boxes.pop()?;
        boxes.release((sample.unit.clone(), sample.stream.clone()));
        Some(sample)
    }

    #[test]
    fn a_stream_leaves_in_order_whatever_the_workers() {
        let boxes = mailboxes(4, 1000, 4);
        for size in 1..=3 {
            boxes.push(sample(Stream::Camera, size)).unwrap();
        }
        boxes.push(sample(Stream::Radar, 9)).unwrap();
        let camera = boxes.pop().unwrap();
        let radar = boxes.pop().unwrap();
        assert_eq!(
            (camera.payload.len(), radar.payload.len()),
            (1, 9),
            "the next image waits for the first one"
        );
        boxes.close();
        boxes.release((camera.unit, camera.stream));
        let left: Vec<usize> =
            std::iter::from_fn(|| take(&boxes)).map(|sample| sample.payload.len()).collect();
        assert_eq!(left, [2, 3]);
    }

    #[test]
    fn a_flooded_stream_costs_another_nothing() {
        let boxes = mailboxes(2, 1000, 4);
        for _ in 0..100 {
            boxes.push(sample(Stream::Camera, 1)).unwrap();
        }
        assert_eq!(boxes.push(sample(Stream::Radar, 1)), Ok(0));
        boxes.close();
        let order: Vec<Stream> = std::iter::from_fn(|| take(&boxes)).map(|sample| sample.stream).collect();
        assert_eq!(order, [Stream::Camera, Stream::Radar, Stream::Camera]);
    }

    #[test]
    fn bytes_are_bounded_but_one_sample_always_fits() {
        let boxes = mailboxes(10, 100, 4);
        assert_eq!(boxes.push(sample(Stream::Lidar, 60)), Ok(0));
        assert_eq!(boxes.push(sample(Stream::Lidar, 60)), Ok(1));
        assert_eq!(boxes.push(sample(Stream::Lidar, 500)), Ok(1));
        assert_eq!(boxes.pop().unwrap().payload.len(), 500);
    }

    #[test]
    fn streams_are_bounded_and_forgotten_when_empty() {
        let boxes = mailboxes(2, 100, 2);
        let ue = |name: &str| Stream::Link(UeId::new(name).unwrap());
        boxes.push(sample(ue("a"), 1)).unwrap();
        boxes.push(sample(ue("b"), 1)).unwrap();
        assert_eq!(boxes.push(sample(ue("c"), 1)), Err(Full::Streams { limit: 2 }));
        take(&boxes).unwrap();
        assert_eq!(boxes.push(sample(ue("c"), 1)), Ok(0));
    }

    #[test]
    fn closing_wakes_a_waiting_reader() {
        let boxes = Arc::new(mailboxes(2, 100, 2));
        let reader = std::thread::spawn({
            let boxes = boxes.clone();
            move || boxes.pop().is_none()
        });
        boxes.close();
        assert!(reader.join().unwrap());
        assert_eq!(boxes.push(sample(Stream::Camera, 1)), Err(Full::Closed));
    }
}
