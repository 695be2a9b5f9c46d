//! Event files of TensorBoard: records of TFRecord (length, its checksum, data, its checksum) of the protocol buffer `Event`
//! (tensorflow/core/util/event.proto), of which only scalars and the start of a session are written.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::TrainError;

/// Wire types of protocol buffers.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED_32: u64 = 5;

/// A file that TensorBoard reads.
pub(super) struct Events {
    path: PathBuf,
    file: fs::File,
}

impl Events {
    /// Begins a file in a folder. What files of earlier runs say of `step` and later ones is no longer shown.
    pub(super) fn create(folder: &Path, step: u64) -> Result<Self, TrainError> {
        let seconds = now();
        let path = folder.join(format!("events.out.tfevents.{:.0}.{}", seconds.floor(), std::process::id()));
        let file = fs::File::create(&path).map_err(|source| TrainError::Io { file: path.clone(), source })?;
        let mut events = Self { path, file };
        let mut version = Message::event(seconds, 0);
        version.bytes(3, b"brain.Event:2");
        events.record(&version.0)?;
        let mut session = Message::default();
        // SessionLog.status = START
        session.varint(1, 1);
        let mut start = Message::event(seconds, step);
        start.bytes(7, &session.0);
        events.record(&start.0)?;
        Ok(events)
    }

    /// Numbers of one step, by name.
    pub(super) fn scalars(&mut self, step: u64, scalars: &[(String, f64)]) -> Result<(), TrainError> {
        let mut summary = Message::default();
        for (name, number) in scalars {
            let mut value = Message::default();
            value.bytes(1, name.as_bytes());
            value.key(2, FIXED_32);
            value.0.extend((*number as f32).to_le_bytes());
            summary.bytes(1, &value.0);
        }
        let mut event = Message::event(now(), step);
        event.bytes(5, &summary.0);
        self.record(&event.0)
    }

    fn record(&mut self, data: &[u8]) -> Result<(), TrainError> {
        self.file
            .write_all(&record(data))
            .map_err(|source| TrainError::Io { file: self.path.clone(), source })
    }
}

/// Seconds since the Unix epoch: when a step was, on the axis of wall time.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |passed| passed.as_secs_f64())
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(checksum(&length).to_le_bytes());
    record.extend(data);
    record.extend(checksum(data).to_le_bytes());
    record
}

/// CRC-32C, turned and shifted as TFRecord wants it: a checksum of data that hold checksums stays one.
fn checksum(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// A protocol buffer.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// `Event` with wall time and step.
    fn event(seconds: f64, step: u64) -> Self {
        let mut event = Self::default();
        event.key(1, FIXED_64);
        event.0.extend(seconds.to_le_bytes());
        event.varint(2, step);
        event
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn key(&mut self, field: u64, wire: u64) {
        self.number(field << 3 | wire);
    }

    fn varint(&mut self, field: u64, value: u64) {
        self.key(field, VARINT);
        self.number(value);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.key(field, LENGTH);
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_tensorflow() {
        // RFC 3720, B.4: CRC-32C of 32 zeros is 8a9136aa; turned right by 15 bits, plus 0xa282ead8.
        assert_eq!(checksum(&[0; 32]), 0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8));
        // The event of version 2 as TensorFlow writes it, but for its time.
        let mut event = Message::event(1.0, 300);
        event.bytes(3, b"brain.Event:2");
        let expected = b"\x09\0\0\0\0\0\0\xf0\x3f\x10\xac\x02\x1a\x0dbrain.Event:2";
        assert_eq!(event.0, expected);
        let record = record(&event.0);
        assert_eq!(record.len(), 8 + 4 + expected.len() + 4);
        assert_eq!(record[..8], [expected.len() as u8, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_file_of_events_is_a_row_of_whole_records() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = Events::create(folder.path(), 7).unwrap();
        events.scalars(8, &[("loss/beam".to_owned(), 1.5), ("gradient".to_owned(), 0.25)]).unwrap();
        let bytes = fs::read(&events.path).unwrap();
        let (mut at, mut records) = (0, 0);
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            let data = &bytes[at + 12..at + 12 + length];
            assert_eq!(bytes[at..at + 16 + length], record(data)[..]);
            if records == 2 {
                assert!(data.windows(9).any(|part| part == b"loss/beam"));
                assert!(data.windows(4).any(|part| part == 1.5f32.to_le_bytes()));
            }
            (at, records) = (at + 16 + length, records + 1);
        }
        assert_eq!(records, 3);
    }
}
