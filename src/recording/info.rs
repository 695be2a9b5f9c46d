//! What is in a recording: counts, rates, labels measured against powers, and every file that is not whole.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use super::arrays::{ArrayFile, ArrayInfo, WindowInfo};
pub use super::labels::{BeamLabelFit, BlockageShift};
pub use super::mmfi::PeopleInfo;
use super::{
    LoadError, MalformedRow, Options, RecordedSample, Recording, RecordingError, Stamps, arrays, deepsense,
    labels, mmfi, slot,
};
use crate::sample::{BeamPower, CaptureSource, Format, Modality};
use crate::time::Span;

mod render;

/// Bad files, rows and the like that are listed one by one; the others are counted.
pub const LISTED: usize = 5;
/// A gap in capture time longer than this clears a window.
const GAP: Span = Span::from_millis(500);

/// What a path holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum InfoReport {
    /// A recording.
    Recording(Box<Info>),
    /// NumPy arrays: no recording.
    Arrays {
        /// The folder or file.
        path: PathBuf,
        /// Its files.
        files: Vec<ArrayFile>,
    },
}

/// A file that is there but not whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// What was found and what was allowed.
    pub reason: String,
}

/// The files of one modality.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModalityInfo {
    /// Which.
    pub modality: Modality,
    /// Readings that the index names.
    pub named: usize,
    /// Readings that are there and whole.
    pub present: usize,
    /// Readings whose file is not there.
    pub absent: usize,
    /// Readings whose file is not whole or not what it should be.
    pub unreadable: usize,
    /// The first of the unreadable ones.
    pub problems: Vec<Problem>,
}

/// Where rows stand in time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeInfo {
    /// From the first to the last capture, s.
    pub duration_s: f64,
    /// The same within sequences, summed, s.
    pub recorded_s: f64,
    /// Rows per second: the median within sequences; null where no sequence has two rows.
    pub rate_hz: Option<f64>,
    /// Rows whose time was made up.
    pub synthetic_rows: usize,
    /// Steps of more than 500 ms within a sequence.
    pub gaps: usize,
    /// The longest step within a sequence, s.
    pub longest_step_s: f64,
    /// The clock.
    #[serde(flatten)]
    pub stamps: Stamps,
}

/// What the powers say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PowerInfo {
    /// Rows with powers.
    pub rows: usize,
    /// Beams.
    pub beams: usize,
    /// Rows in which a beam was not measured (NaN).
    pub rows_with_nan: usize,
    /// Beams that were not measured, over all rows.
    pub nan_cells: usize,
    /// Median distance of the best beam from the worst, dB; null with one beam.
    pub spread_db: Option<f64>,
    /// Median distance of the best beam from the second best, dB; null with one beam.
    pub gap_db: Option<f64>,
    /// The beam that is best most often: what a rule without any input would say.
    pub majority_beam: Option<usize>,
    /// Share of rows in which it is best.
    pub majority_share: Option<f64>,
}

/// What the blockage labels say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockageInfo {
    /// Rows with a readable label.
    pub rows: usize,
    /// Share of them that is blocked. "Never blocked" is right in the rest.
    pub blocked_share: f64,
    /// How well labels tell low power, per shift by rows.
    pub shift: BlockageShift,
    /// The shift that is taken when labels are read.
    pub applied_shift: i8,
}

/// What is in a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// Where it lies.
    pub path: PathBuf,
    /// Its index files.
    pub index: Vec<String>,
    /// Rows.
    pub rows: usize,
    /// Rows that could not be read, and the first of them.
    pub malformed_rows: usize,
    /// The first of them.
    pub malformed: Vec<MalformedRow>,
    /// Sequences.
    pub sequences: usize,
    /// Rows of the shortest and of the longest one.
    pub sequence_rows: (usize, usize),
    /// Where rows stand in time.
    pub time: TimeInfo,
    /// Latitude and longitude of the unit, degrees.
    pub site: Option<(f64, f64)>,
    /// Per modality that the index names.
    pub modalities: Vec<ModalityInfo>,
    /// The powers, where there are some.
    pub power: Option<PowerInfo>,
    /// Name of the column with beam labels.
    pub label_column: Option<String>,
    /// How they relate to the powers, where both are there.
    pub labels: Option<BeamLabelFit>,
    /// The blockage labels, where there are some.
    pub blockage: Option<BlockageInfo>,
    /// Who is in it, where it is a recording of people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub people: Option<PeopleInfo>,
    /// What else a reader should know.
    pub notes: Vec<String>,
    /// Named columns that nothing is read from.
    pub unread_columns: Vec<String>,
}

impl Info {
    /// Files that are not whole, over all modalities.
    #[must_use]
    pub fn unreadable(&self) -> usize {
        self.modalities.iter().map(|modality| modality.unreadable).sum()
    }
}

/// A second look at a payload that is structurally whole, e.g. by the real decoder; an error makes it unreadable.
pub type Check<'a> = &'a dyn Fn(&RecordedSample, Format, &[u8]) -> Result<(), String>;

/// The check of a reader without decoders: structure is all that counts.
///
/// # Errors
/// Never.
pub fn structure_only(_: &RecordedSample, _: Format, _: &[u8]) -> Result<(), String> {
    Ok(())
}

/// Looks into a folder or file: a recording, or NumPy arrays beside one (a codebook, labelled windows).
///
/// # Errors
/// [`RecordingError`] when it is neither.
pub fn info_path(path: &Path, options: &Options, check: Check<'_>) -> Result<InfoReport, RecordingError> {
    let is_array = |path: &Path| {
        path.extension()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("npy") || kind.eq_ignore_ascii_case("npz"))
    };
    if path.is_file() && is_array(path) {
        let files = arrays::describe(&[path.to_owned()]);
        return Ok(InfoReport::Arrays { path: path.to_owned(), files });
    }
    match Recording::open(path, options) {
        Ok(recording) => Ok(InfoReport::Recording(Box::new(info(&recording, check)))),
        Err(error @ RecordingError::NoIndex { .. }) => {
            let mut files: Vec<PathBuf> =
                deepsense::list(path)?.into_iter().filter(|file| is_array(file)).collect();
            // Tp2 before Tp10.
            files.sort_by_key(|file| natural_key(&file.to_string_lossy()));
            if files.is_empty() {
                return Err(error);
            }
            Ok(InfoReport::Arrays { path: path.to_owned(), files: arrays::describe(&files) })
        }
        Err(error) => Err(error),
    }
}

/// Orders names with numbers in them by the numbers.
fn natural_key(name: &str) -> Vec<(u64, String)> {
    let mut key = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (before, after) = rest.split_at(text);
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (number, remaining) = after.split_at(digits);
        key.push((0, before.to_owned()));
        key.push((number.parse().unwrap_or(u64::MAX), String::new()));
        rest = remaining;
    }
    key
}

/// Reads every file that the recording names, and sums up.
#[must_use]
pub fn info(recording: &Recording, check: Check<'_>) -> Info {
    let mut modalities: Vec<ModalityInfo> = Modality::ALL
        .into_iter()
        .map(|modality| ModalityInfo {
            modality,
            named: 0,
            present: 0,
            absent: 0,
            unreadable: 0,
            problems: vec![],
        })
        .collect();
    let mut powers: Vec<Option<BeamPower>> = vec![None; recording.rows().len()];
    let mut blocked: Vec<Option<bool>> = vec![None; recording.rows().len()];
    for sample in recording.samples() {
        let modality = sample.stream.modality();
        let Some(counts) = modalities.get_mut(slot(modality)) else { continue };
        counts.named += 1;
        let checked =
            recording.load(sample).and_then(|(format, bytes)| match check(sample, format, &bytes) {
                Ok(()) => Ok(bytes),
                Err(reason) => Err(LoadError::Unreadable { path: sample.path().to_owned(), reason }),
            });
        match checked {
            Ok(bytes) => {
                counts.present += 1;
                let is_rows_own = recording.sample(sample.row, modality) == Some(sample);
                if modality == Modality::Link && is_rows_own {
                    // Read again from its text: quicker than the header of what `load` wrote.
                    set(&mut powers, sample.row, recording.power(sample.row).ok());
                } else if modality == Modality::Blocked && is_rows_own {
                    set(&mut blocked, sample.row, Some(bytes == br#"{"blocked":true}"#));
                }
            }
            Err(LoadError::Absent { .. }) => counts.absent += 1,
            Err(LoadError::Unreadable { path, reason }) => {
                counts.unreadable += 1;
                if counts.problems.len() < LISTED {
                    counts.problems.push(Problem { path, reason });
                }
            }
        }
    }
    modalities.retain(|modality| modality.named > 0);

    let sizes = recording.sequences().iter().map(|sequence| sequence.rows.len());
    Info {
        path: recording.path().to_owned(),
        index: recording.files().iter().map(|file| file_name(file)).collect(),
        rows: recording.rows().len(),
        malformed_rows: recording.malformed().len(),
        malformed: recording.malformed().iter().take(LISTED).cloned().collect(),
        sequences: recording.sequences().len(),
        sequence_rows: (sizes.clone().min().unwrap_or(0), sizes.max().unwrap_or(0)),
        time: time_info(recording),
        site: recording.site(),
        modalities,
        power: power_info(&powers),
        label_column: recording.label_column().map(str::to_owned),
        labels: label_info(recording, &powers),
        blockage: blockage_info(recording, &blocked),
        people: mmfi::info(recording),
        notes: recording.notes.clone(),
        unread_columns: recording.unread_columns.clone(),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn set<T>(values: &mut [Option<T>], row: usize, value: Option<T>) {
    if let Some(cell) = values.get_mut(row) {
        *cell = value;
    }
}

fn time_info(recording: &Recording) -> TimeInfo {
    let rows = recording.rows();
    let mut recorded = Span::ZERO;
    let mut steps = Vec::new();
    for sequence in recording.sequences() {
        let captures = rows.get(sequence.rows.clone()).unwrap_or_default();
        if let (Some(first), Some(last)) = (captures.first(), captures.last()) {
            recorded += last.capture - first.capture;
        }
        steps.extend(captures.windows(2).filter_map(|pair| match pair {
            [a, b] => Some(b.capture - a.capture),
            _ => None,
        }));
    }
    TimeInfo {
        duration_s: recording.duration().as_secs_f64(),
        recorded_s: recorded.as_secs_f64(),
        rate_hz: (!steps.is_empty()).then(|| recording.rate_hz()),
        synthetic_rows: rows.iter().filter(|row| row.capture_source == CaptureSource::Synthetic).count(),
        gaps: steps.iter().filter(|&&step| step > GAP).count(),
        longest_step_s: steps.iter().max().map_or(0.0, |step| step.as_secs_f64()),
        stamps: recording.stamps().clone(),
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied()?;
    let lower = values.get(values.len().checked_sub(1)? / 2).copied()?;
    Some((lower + upper) / 2.0)
}

fn power_info(powers: &[Option<BeamPower>]) -> Option<PowerInfo> {
    let rows = powers.iter().flatten().count();
    let beams = powers.iter().flatten().next()?.linear.len();
    let (mut rows_with_nan, mut nan_cells) = (0, 0);
    let (mut spreads, mut gaps) = (Vec::new(), Vec::new());
    let mut wins = vec![0usize; beams];
    for power in powers.iter().flatten() {
        let missing = power.linear.len() - power.measured();
        rows_with_nan += usize::from(missing > 0);
        nan_cells += missing;
        if let Some(win) = power.best().and_then(|(best, _)| wins.get_mut(best.position())) {
            *win += 1;
        }
        let mut sorted: Vec<f64> = power.linear.iter().copied().filter(|power| *power > 0.0).collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        if let (&[best, second, ..], Some(worst)) = (sorted.as_slice(), sorted.last()) {
            spreads.push(10.0 * (best / worst).log10());
            gaps.push(10.0 * (best / second).log10());
        }
    }
    let decided: usize = wins.iter().sum();
    // The lower index wins a tie.
    let majority =
        wins.iter().enumerate().rev().max_by_key(|(_, wins)| **wins).filter(|(_, wins)| **wins > 0);
    Some(PowerInfo {
        rows,
        beams,
        rows_with_nan,
        nan_cells,
        spread_db: median(spreads),
        gap_db: median(gaps),
        majority_beam: majority.map(|(beam, _)| beam),
        majority_share: majority.map(|(_, &wins)| wins as f64 / decided as f64),
    })
}

fn label_info(recording: &Recording, powers: &[Option<BeamPower>]) -> Option<BeamLabelFit> {
    let labels: Vec<Option<i64>> = recording.rows().iter().map(|row| row.label).collect();
    let best: Vec<Option<i64>> = powers
        .iter()
        .map(|power| power.as_ref().and_then(BeamPower::best).map(|(beam, _)| i64::from(beam.0)))
        .collect();
    labels::fit_beam_labels(&labels, &best, recording.sequences(), recording.beams()?)
}

fn blockage_info(recording: &Recording, blocked: &[Option<bool>]) -> Option<BlockageInfo> {
    let rows = blocked.iter().flatten().count();
    if rows == 0 {
        return None;
    }
    let positive = blocked.iter().flatten().filter(|&&blocked| blocked).count();
    Some(BlockageInfo {
        rows,
        blocked_share: positive as f64 / rows as f64,
        shift: labels::blockage_shift(&recording.blockage_truth(), recording.sequences()),
        applied_shift: recording.blockage_shift(),
    })
}
