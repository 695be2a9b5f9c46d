//! A *recording*: what the sensors of one unit and the radio of one UE wrote down, row by row.
//!
//! [`Recording::open`] reads the index only; [`Recording::load`] turns the files of one [`RecordedSample`] into the
//! bytes that a sensor driver would have put on the wire. A file that is not there is the normal case: users download
//! modality by modality. [`info`] looks at every file and tells what is there.
//!
//! Layouts that are read: DeepSense 6G (scenarios 1–9, 16–24, 31–39, development and challenge sets), MM-Fi (see
//! [`mmfi`]), and a bare folder of camera frames.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::config::RecordingInput;
use crate::sample::{BeamPower, CaptureSource, Format, Modality, Stream, UeId, UnitId};
use crate::time::{CaptureTime, Span};

pub(crate) mod arrays;
mod columns;
mod deepsense;
mod feed;
pub mod info;
mod labels;
mod mat;
pub mod mmfi;
mod payload;
mod stamp;
pub mod structure;
mod timeline;

pub use feed::{Absent, Feed, fill_in};
pub use payload::LoadError;

/// How a recording is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Rows per second where the recording has no time stamps, Hz.
    pub rate_hz: f64,
    /// The unit that the samples are of.
    pub unit: UnitId,
    /// Midnight of the recording's first day (stamps are times of day), or its start where there are no stamps.
    pub base: CaptureTime,
}

impl Options {
    /// What a pipeline file says.
    #[must_use]
    pub fn of(input: &RecordingInput) -> Self {
        Self { rate_hz: input.rate_hz, ..Self::new(input.unit.clone()) }
    }

    /// 10 rows per second from the Unix epoch on.
    #[must_use]
    pub const fn new(unit: UnitId) -> Self {
        Self { rate_hz: 10.0, unit, base: CaptureTime::from_nanos(0) }
    }
}

/// Why a recording cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// There is nothing at this path.
    #[error("{}: no such recording", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The folder has neither an index, nor camera frames, nor frames of MM-Fi.
    #[error("{}: no recording: no .csv index and no camera frames (.jpg, .png), and no frame of MM-Fi; found {found}", path.display())]
    NoIndex {
        /// The folder.
        path: PathBuf,
        /// Kinds of files in it.
        found: String,
    },
    /// No index has a column that we know.
    #[error("{}: none of its columns is known ({}); known are {}", path.display(), found.join(", "), columns::KNOWN)]
    NoKnownColumn {
        /// The index.
        path: PathBuf,
        /// Its columns.
        found: Vec<String>,
    },
    /// Not a single row could be read.
    #[error("{}: no rows ({malformed} malformed{})", path.display(), first.as_ref().map(|row| format!(", the first: {row}")).unwrap_or_default())]
    NoRows {
        /// The recording.
        path: PathBuf,
        /// Rows that could not be read.
        malformed: usize,
        /// The first of them.
        first: Option<MalformedRow>,
    },
    /// The recording is known to be unusable.
    #[error("{}: refused: {reason}", path.display())]
    Refused {
        /// The index.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A rate that is no rate.
    #[error("a rate of {found} Hz; more than 0 and at most 100000 is allowed")]
    Rate {
        /// The rate.
        found: f64,
    },
    /// The index could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The index is no CSV.
    #[error("{}: {source}", path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// Why.
        source: csv::Error,
    },
    /// The index is too large.
    #[error("{}: {found} bytes; at most {allowed} are allowed", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The limit.
        allowed: u64,
    },
}

/// One instant of a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The recording's own number of this instant, where it gives one. It may jump.
    pub index: Option<u64>,
    /// Position of its sequence in [`Recording::sequences`].
    pub sequence: usize,
    /// When it was.
    pub capture: CaptureTime,
    /// How that is known.
    pub capture_source: CaptureSource,
    /// The beam label as the recording writes it; [`info`] says what its numbers mean.
    pub label: Option<i64>,
}

/// A run of rows that follow each other without a break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The recording's name for it; `None` when the recording has none and every row is its own sequence.
    pub id: Option<String>,
    /// Its rows.
    pub rows: Range<usize>,
}

/// One reading of a recording; its payload is read by [`Recording::load`].
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedSample {
    /// The row that names it.
    pub row: usize,
    /// Its stream.
    pub stream: Stream,
    /// When it was captured: usually its row's instant.
    pub capture: CaptureTime,
    /// How that is known.
    pub capture_source: CaptureSource,
    /// Its files: one, or one per antenna array.
    paths: Vec<PathBuf>,
}

impl RecordedSample {
    /// Its files: one, or one per antenna array.
    #[must_use]
    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// Its file, the first one if there are several.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.paths.first().map_or(Path::new(""), PathBuf::as_path)
    }
}

/// Where the capture times of a recording come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StampSource {
    /// A column of the index.
    Column(String),
    /// The names of the camera files.
    CameraNames,
    /// Nowhere: row number and rate.
    Synthetic,
}

/// What is known of a recording's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamps {
    /// Where capture times come from.
    pub source: StampSource,
    /// Rows whose stamp is not after that of the row before it in their sequence; they were put in between.
    pub backward: Vec<usize>,
    /// Rows without a readable stamp in a recording that has some.
    pub unstamped: usize,
    /// Sequences that were moved to stand 2 s after the one before.
    pub moved_sequences: usize,
    /// Whole hours by which the radar files' names are ahead of the stamps: the stamps are local time.
    pub hours_behind_radar_names: Option<i64>,
}

/// A row of the index that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MalformedRow {
    /// The index file's name.
    pub file: String,
    /// Its line, from 1.
    pub line: u64,
    /// What is wrong.
    pub reason: String,
}

impl std::fmt::Display for MalformedRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, line {}: {}", self.file, self.line, self.reason)
    }
}

/// An open recording: its rows and samples in capture order.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    files: Vec<PathBuf>,
    unit: UnitId,
    rows: Vec<Row>,
    sequences: Vec<Sequence>,
    samples: Vec<RecordedSample>,
    /// Per row and modality the sample at the row's own instant, as a position in `samples`.
    at_row: Vec<[Option<usize>; Modality::ALL.len()]>,
    period: Span,
    stamps: Stamps,
    malformed: Vec<MalformedRow>,
    notes: Vec<String>,
    unread_columns: Vec<String>,
    label_column: Option<String>,
    site_paths: Vec<PathBuf>,
    /// Whether blockage labels may stand one row away from what they describe.
    labels_may_be_shifted: bool,
    blockage_shift: OnceLock<i8>,
    beams: OnceLock<Option<usize>>,
    /// Per sequence of a recording of people, who does what.
    people: Vec<mmfi::Performance>,
}

/// Whether a folder is a recording of people, in MM-Fi's layout; else it is one of links, in DeepSense 6G's.
#[must_use]
pub fn is_of_people(path: &Path) -> bool {
    mmfi::is_layout(path)
}

impl Recording {
    /// Opens a folder or an index file. Reads the index, not the files that it names.
    ///
    /// # Errors
    /// [`RecordingError`] when there is nothing to read.
    pub fn open(path: &Path, options: &Options) -> Result<Self, RecordingError> {
        if is_of_people(path) { mmfi::open(path, options) } else { deepsense::open(path, options) }
    }

    /// What was found in its index, and what was made of it.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Where it lies, as it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The index files; empty for a bare folder of frames.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The unit that its samples are of.
    #[must_use]
    pub const fn unit(&self) -> &UnitId {
        &self.unit
    }

    /// Its instants, in the order of the index. Captures grow strictly within a sequence.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Its sequences, in order, at least 2 s apart.
    #[must_use]
    pub fn sequences(&self) -> &[Sequence] {
        &self.sequences
    }

    /// Every reading that the recording names, there or not, in capture order; at one instant lidar, radar, camera,
    /// position, link, blocked.
    #[must_use]
    pub fn samples(&self) -> &[RecordedSample] {
        &self.samples
    }

    /// The reading of `modality` at a row's own instant, of the first UE where it is of a UE.
    #[must_use]
    pub fn sample(&self, row: usize, modality: Modality) -> Option<&RecordedSample> {
        let position = (*self.at_row.get(row)?.get(slot(modality))?)?;
        self.samples.get(position)
    }

    /// From the first to the last capture.
    #[must_use]
    pub fn duration(&self) -> Span {
        match (self.rows.iter().map(|row| row.capture).min(), self.rows.iter().map(|row| row.capture).max()) {
            (Some(first), Some(last)) => last - first,
            _ => Span::ZERO,
        }
    }

    /// Median time from row to row within sequences; where there is no such pair, that of [`Options::rate_hz`].
    #[must_use]
    pub const fn period(&self) -> Span {
        self.period
    }

    /// Rows per second, from [`Recording::period`].
    #[must_use]
    pub fn rate_hz(&self) -> f64 {
        1.0 / self.period.as_secs_f64()
    }

    /// Where capture times come from and what had to be mended.
    #[must_use]
    pub const fn stamps(&self) -> &Stamps {
        &self.stamps
    }

    /// Rows of the index that were left out.
    #[must_use]
    pub fn malformed(&self) -> &[MalformedRow] {
        &self.malformed
    }

    /// Who does what, per sequence of a recording of people (MM-Fi); empty for others. A label, never an input.
    #[must_use]
    pub fn people(&self) -> &[mmfi::Performance] {
        &self.people
    }

    /// Name of the column with beam labels.
    #[must_use]
    pub fn label_column(&self) -> Option<&str> {
        self.label_column.as_deref()
    }

    /// Reads the payload of a sample, in wire format.
    ///
    /// # Errors
    /// [`LoadError::Absent`] when its file is not there, [`LoadError::Unreadable`] when it is not whole.
    pub fn load(&self, sample: &RecordedSample) -> Result<(Format, Vec<u8>), LoadError> {
        let modality = sample.stream.modality();
        if modality == Modality::Blocked {
            return payload::load(modality, self.label_paths(sample));
        }
        if modality == Modality::Link {
            return payload::power_payload(sample.path(), &self.powers(sample)?);
        }
        payload::load(modality, &sample.paths)
    }

    /// Powers of a link sample, as many as the recording has beams.
    ///
    /// # Errors
    /// [`LoadError`] when they are not there, or not whole.
    pub(crate) fn powers(&self, sample: &RecordedSample) -> Result<Vec<f64>, LoadError> {
        let powers = payload::power(&sample.paths)?;
        match self.beams() {
            Some(beams) if beams != powers.len() => {
                let reason = format!("{} powers where the recording has {beams} beams", powers.len());
                Err(LoadError::Unreadable { path: sample.path().to_owned(), reason })
            }
            _ => Ok(powers),
        }
    }

    /// Measured powers at a row.
    ///
    /// # Errors
    /// [`LoadError`] when they are not there, or not whole.
    pub fn power(&self, row: usize) -> Result<BeamPower, LoadError> {
        let sample = self.sample(row, Modality::Link);
        let sample = sample.ok_or_else(|| LoadError::Absent { path: PathBuf::new() })?;
        Ok(BeamPower { linear: self.powers(sample)? })
    }

    /// Antenna arrays that a power report joins; the arrays of a vehicle (V2V) look all around.
    #[must_use]
    pub fn power_arrays(&self) -> usize {
        let links = self.samples.iter().filter(|sample| sample.stream.modality() == Modality::Link);
        links.map(|sample| sample.paths.len()).max().unwrap_or(0)
    }

    /// Number of beams: what most of the first readable power files have.
    #[must_use]
    pub fn beams(&self) -> Option<usize> {
        const LOOK_AT: usize = 9;
        *self.beams.get_or_init(|| {
            let links = self.samples.iter().filter(|sample| sample.stream.modality() == Modality::Link);
            let mut counts: Vec<usize> = links
                .filter_map(|sample| payload::power(&sample.paths).ok())
                .map(|powers| powers.len())
                .take(LOOK_AT)
                .collect();
            counts.sort_unstable();
            let runs = counts.chunk_by(|a, b| a == b);
            runs.max_by_key(|run| run.len()).and_then(|run| run.first().copied())
        })
    }

    /// What beam labels that nothing can be compared with are taken to count from: 1, as those of all published recordings do,
    /// unless one of them is 0.
    #[must_use]
    pub fn first_label(&self) -> i64 {
        if self.rows.iter().any(|row| row.label == Some(0)) { 0 } else { 1 }
    }

    /// Per row the best beam as its label names it, from 0; nothing of a recording that measures powers, which say it better.
    #[must_use]
    pub fn labelled_beams(&self) -> Vec<Option<u32>> {
        if self.beams().is_some() || self.rows.iter().all(|row| row.label.is_none()) {
            return Vec::new();
        }
        let first = self.first_label();
        let beam = |label: i64| u32::try_from(label - first).ok();
        self.rows.iter().map(|row| row.label.and_then(beam)).collect()
    }

    /// Latitude and longitude of the unit in degrees, where the recording knows.
    #[must_use]
    pub fn site(&self) -> Option<(f64, f64)> {
        self.site_paths.iter().find_map(|path| payload::degrees(&payload::read_file(path).ok()?).ok())
    }

    /// By how many rows blockage labels stand too late: the label of row i is taken from row i + this.
    fn blockage_shift(&self) -> i8 {
        if !self.labels_may_be_shifted {
            return 0;
        }
        *self
            .blockage_shift
            .get_or_init(|| labels::blockage_shift(&self.blockage_truth(), &self.sequences).best())
    }

    /// Per row the blockage label as it is named there, and the best power in dB.
    fn blockage_truth(&self) -> Vec<(Option<bool>, Option<f64>)> {
        (0..self.rows.len())
            .map(|row| {
                let label = self.sample(row, Modality::Blocked);
                let label = label.and_then(|sample| payload::read_file(sample.path()).ok());
                let label = label.and_then(|bytes| payload::is_blocked(&bytes).ok());
                let best = self.power(row).ok().and_then(|power| power.best());
                (label, best.map(|(_, power)| 10.0 * power.log10()))
            })
            .collect()
    }

    /// The file that holds the blockage label of a sample's row.
    fn label_paths<'a>(&'a self, sample: &'a RecordedSample) -> &'a [PathBuf] {
        let shift = self.blockage_shift();
        if shift == 0 {
            return &sample.paths;
        }
        let sequence = |row: usize| self.rows.get(row).map(|row| row.sequence);
        sample
            .row
            .checked_add_signed(isize::from(shift))
            .filter(|&row| sequence(row) == sequence(sample.row))
            .and_then(|row| self.sample(row, Modality::Blocked))
            .map_or(&[], |sample| &sample.paths)
    }
}

/// Position of a modality in [`Modality::ALL`].
const fn slot(modality: Modality) -> usize {
    match modality {
        Modality::Camera => 0,
        Modality::Radar => 1,
        Modality::Lidar => 2,
        Modality::Link => 3,
        Modality::Position => 4,
        Modality::Blocked => 5,
    }
}

/// The stream of a modality, of a UE where it is of one.
fn stream(modality: Modality, ue: &UeId) -> Stream {
    match modality {
        Modality::Camera => Stream::Camera,
        Modality::Radar => Stream::Radar,
        Modality::Lidar => Stream::Lidar,
        Modality::Link => Stream::Link(ue.clone()),
        Modality::Position => Stream::Position(ue.clone()),
        Modality::Blocked => Stream::Blocked(ue.clone()),
    }
}

/// Order of readings at one instant: slow sensors first, truth last.
const fn order(modality: Modality) -> u8 {
    match modality {
        Modality::Lidar => 0,
        Modality::Radar => 1,
        Modality::Camera => 2,
        Modality::Position => 3,
        Modality::Link => 4,
        Modality::Blocked => 5,
    }
}
