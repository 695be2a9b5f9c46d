//! MM-Fi: a person in a room, `E01/S01/A01/{rgb_img,lidar,mmwave}/frame001.{png,bin}` and `ground_truth.npy`.
//!
//! Every (environment, subject, action) is a sequence, whose rows are the frame numbers that any modality has; any part
//! of the data set is read: some modalities, some frames, one environment, one subject, one sequence. A doubled level
//! (`E01/E01/S01`) occurs in the release and is read, and so is `filtered_mmwave`, whose frames lie in the action's
//! folder itself.
//!
//! There are no time stamps: a frame's capture is its number times 0.1 s ([`Options::rate_hz`]), from the sequence's
//! first frame on. Radar frames without a detection are empty files; they are left out and counted.
//!
//! | folder | sample |
//! |---|---|
//! | `rgb_img/*.png`, `.jpg` | camera |
//! | `lidar/*.bin`, f64 (N, 3) | lidar |
//! | `mmwave/*.bin`, f64 (N, 5) | radar: x, y, z, Doppler, intensity |
//! | `rgb`, `infra1`, `infra2` | nothing: keypoints in images, from which the truth was made |
//! | `depth`, `wifi-csi` | nothing |
//!
//! Points keep the file's axes: x forward, y to the left, z up. `pose.radar.axes` and `pose.lidar.axes` of the pipeline
//! turn them: `"forward-left-up"`.
//!
//! What is known of the person is no sample: [`labels`] gives it to training and scoring.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::arrays::{self, Numbers};
use super::payload::{self, LoadError};
use super::timeline::SEQUENCE_GAP;
use super::{
    Options, RecordedSample, Recording, RecordingError, Row, Sequence, StampSource, Stamps, deepsense, order,
    slot, stream,
};
use crate::sample::{CaptureSource, Modality, UeId};
use crate::time::Span;

/// Environments, subjects and actions of the data set.
const LEVELS: [(char, usize); 3] = [('E', 4), ('S', 40), ('A', 27)];
/// Joints of a pose.
pub const JOINTS: usize = 17;

/// Who does what in a sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Performance {
    /// 1…4.
    pub environment: usize,
    /// 1…40.
    pub subject: usize,
    /// 1…27.
    pub action: usize,
    /// Its ground truth, there or not.
    truth: PathBuf,
}

impl Performance {
    /// The file of the true joints.
    #[must_use]
    pub fn truth(&self) -> &Path {
        &self.truth
    }

    /// The class of the activity, from 0.
    #[must_use]
    pub const fn activity(&self) -> usize {
        self.action - 1
    }

    fn name(&self) -> String {
        format!("E{:02}/S{:02}/A{:02}", self.environment, self.subject, self.action)
    }
}

/// The places of the joints in Human3.6M's order: metres, camera frame (x right, y down, z forward).
pub type Pose = [[f32; 3]; JOINTS];

/// What is known of the person of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    /// Who does what.
    pub performance: Performance,
    /// Per row of the sequence; `None` where the truth has no such frame, or not a number for every joint.
    pub poses: Vec<Option<Pose>>,
    /// Rows that have not a number for every joint.
    pub broken: usize,
}

/// Reads the labels of a sequence: never an input of a model.
///
/// The truth of the data set has all 297 frames, and frame n is its row n − 1. A truth that has as many rows as the
/// sequence has frames, and ends before the last frame's number, goes with the frames in order.
///
/// # Errors
/// [`LoadError::Absent`] when the recording has no such sequence or no people, or the truth is not there;
/// [`LoadError::Unreadable`] when it is not a whole array (F, 17, 3) of float32 or float64.
pub fn labels(recording: &Recording, sequence: usize) -> Result<Labels, LoadError> {
    let absent = || LoadError::Absent { path: recording.path().to_owned() };
    let performance = recording.people().get(sequence).ok_or_else(absent)?;
    let rows = recording.sequences().get(sequence).ok_or_else(absent)?.rows.clone();
    let poses = truth(&payload::read_file(&performance.truth)?)
        .map_err(|reason| LoadError::Unreadable { path: performance.truth.clone(), reason })?;
    let numbers: Vec<usize> = recording
        .rows()
        .get(rows)
        .unwrap_or_default()
        .iter()
        .map(|row| row.index.and_then(|number| usize::try_from(number).ok()).unwrap_or(0))
        .collect();
    let last = numbers.last().copied().unwrap_or(0);
    let in_order = poses.len() == numbers.len() && poses.len() < last;
    let pose = |(at, number): (usize, &usize)| {
        let row = if in_order { Some(at) } else { number.checked_sub(1) };
        poses.get(row?).copied()
    };
    let is_whole = |pose: &Pose| pose.iter().flatten().all(|metres| metres.is_finite());
    let found: Vec<Option<Pose>> = numbers.iter().enumerate().map(pose).collect();
    let broken = found.iter().flatten().filter(|pose| !is_whole(pose)).count();
    let poses = found.into_iter().map(|pose| pose.filter(is_whole)).collect();
    Ok(Labels { performance: performance.clone(), poses, broken })
}

/// Poses of a ground truth, (F, 17, 3).
fn truth(bytes: &[u8]) -> Result<Vec<Pose>, String> {
    let Numbers { shape, values } = arrays::numbers(bytes)?;
    let &[_, JOINTS, 3] = shape.as_slice() else {
        return Err(format!("shape {shape:?}; (frames, 17, 3) is allowed"));
    };
    let pose = |values: &[f64]| {
        let mut pose = Pose::default();
        for (joint, at) in pose.iter_mut().zip(values.as_chunks::<3>().0) {
            *joint = at.map(|metres| metres as f32);
        }
        pose
    };
    Ok(values.chunks_exact(JOINTS * 3).map(pose).collect())
}

/// Who is in a recording of people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeopleInfo {
    /// Different environments.
    pub environments: usize,
    /// Different subjects.
    pub subjects: usize,
    /// Different actions.
    pub actions: usize,
    /// Sequences whose ground truth is there and whole.
    pub with_truth: usize,
    /// Rows that have a pose.
    pub poses: usize,
}

/// Looks at the labels of a recording; `None` when it is not one of people.
pub(super) fn info(recording: &Recording) -> Option<PeopleInfo> {
    let people = recording.people();
    if people.is_empty() {
        return None;
    }
    let different = |of: fn(&Performance) -> usize| people.iter().map(of).collect::<BTreeSet<_>>().len();
    let mut info = PeopleInfo {
        environments: different(|one| one.environment),
        subjects: different(|one| one.subject),
        actions: different(|one| one.action),
        ..PeopleInfo::default()
    };
    for sequence in 0..people.len() {
        if let Ok(labels) = labels(recording, sequence) {
            info.with_truth += 1;
            info.poses += labels.poses.iter().flatten().count();
        }
    }
    Some(info)
}

/// The level of a folder: `E01` is (0, 1), `S40` (1, 40), `A27` (2, 27).
fn level(path: &Path) -> Option<(usize, usize)> {
    let name = path.file_name()?.to_str()?;
    let mut characters = name.chars();
    let letter = characters.next()?.to_ascii_uppercase();
    let digits = characters.as_str();
    if !(2..=3).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    let position = LEVELS.iter().position(|(of, most)| *of == letter && (1..=*most).contains(&number))?;
    Some((position, number))
}

/// The levels that a folder's own path names, by its last components.
fn own_levels(path: &Path) -> [Option<usize>; 3] {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut levels = [None; 3];
    for ancestor in path.ancestors().take(5) {
        let Some((position, number)) = level(ancestor) else { break };
        if let Some(cell) = levels.get_mut(position) {
            *cell = cell.or(Some(number));
        }
    }
    levels
}

/// Whether a folder looks like a part of the data set: one of its levels, or a folder of them. Where an index lies it does not,
/// whatever the folder is called: `S31` is a scenario's name, too.
pub(super) fn is_layout(path: &Path) -> bool {
    let Ok(entries) = fs::read_dir(path) else { return false };
    let entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let is_index =
        |path: &PathBuf| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let is_level = |path: &PathBuf| path.is_dir() && level(path).is_some();
    !entries.iter().any(is_index) && (own_levels(path) != [None; 3] || entries.iter().any(is_level))
}

/// A sequence as it lies on the disk.
struct Found {
    performance: Performance,
    /// Per frame number its files.
    frames: BTreeMap<u64, Vec<(Modality, PathBuf)>>,
}

/// What a walk over the folders finds.
#[derive(Default)]
struct Walk {
    found: Vec<Found>,
    /// Radar files without a byte.
    empty: usize,
    /// Files and folders that are of no sequence, or whose names have no number.
    strange: usize,
    /// Folders of modalities that nothing is read from.
    unread: BTreeSet<String>,
    /// Folders that were gone into, by the paths that no link is in: none is read twice, whatever leads to it.
    known: HashSet<PathBuf>,
}

impl Walk {
    fn folder(&mut self, path: &Path, levels: [Option<usize>; 3]) -> Result<(), RecordingError> {
        let real = fs::canonicalize(path);
        if !self.known.insert(real.map_err(|source| RecordingError::Io { path: path.to_owned(), source })?) {
            self.strange += 1;
            return Ok(());
        }
        if let [environment, Some(subject), Some(action)] = levels {
            // S01–S10 are in E01, S11–S20 in E02, …
            let environment = environment.unwrap_or((subject - 1) / 10 + 1);
            return self.sequence(path, environment, subject, action);
        }
        for entry in deepsense::list(path)? {
            match level(&entry) {
                Some((position, number)) if entry.is_dir() => {
                    let mut levels = levels;
                    if let Some(cell) = levels.get_mut(position) {
                        *cell = Some(number);
                    }
                    self.folder(&entry, levels)?;
                }
                _ => self.strange += usize::from(entry.is_dir()),
            }
        }
        Ok(())
    }

    fn sequence(
        &mut self,
        path: &Path,
        environment: usize,
        subject: usize,
        action: usize,
    ) -> Result<(), RecordingError> {
        let truth = path.join("ground_truth.npy");
        let mut found = Found {
            performance: Performance { environment, subject, action, truth },
            frames: BTreeMap::new(),
        };
        for entry in deepsense::list(path)? {
            let name = entry.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let modality = match name.as_str() {
                "rgb_img" => Some(Modality::Camera),
                "lidar" => Some(Modality::Lidar),
                "mmwave" | "filtered_mmwave" => Some(Modality::Radar),
                _ => None,
            };
            match modality {
                Some(modality) if entry.is_dir() => {
                    for file in deepsense::list(&entry)? {
                        self.file(&mut found, modality, file);
                    }
                }
                None if entry.is_dir() => {
                    self.unread.insert(name);
                }
                // The release of filtered radar points has no folder for the one modality that it has.
                _ if extension(&entry) == "bin" => self.file(&mut found, Modality::Radar, entry),
                _ => {}
            }
        }
        self.found.push(found);
        Ok(())
    }

    fn file(&mut self, found: &mut Found, modality: Modality, path: PathBuf) {
        let is_of_kind = match modality {
            Modality::Camera => ["png", "jpg", "jpeg"].contains(&extension(&path).as_str()),
            _ => extension(&path) == "bin",
        };
        let Some(number) = frame_number(&path).filter(|_| is_of_kind) else {
            self.strange += 1;
            return;
        };
        if modality == Modality::Radar && fs::metadata(&path).is_ok_and(|file| file.len() == 0) {
            self.empty += 1;
            return;
        }
        let files = found.frames.entry(number).or_default();
        // Of raw and filtered radar points in one folder, the first by name: the filtered ones.
        if files.iter().all(|(other, _)| *other != modality) {
            files.push((modality, path));
        }
    }
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

/// `frame012.bin` is 12; numbers begin at 1.
fn frame_number(path: &Path) -> Option<u64> {
    let stem = path.file_stem()?.to_str()?;
    let digits = stem.strip_prefix("frame")?;
    let all_digits =
        !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|&number| all_digits && number > 0)
}

/// Opens the data set, or a part of it.
pub(super) fn open(path: &Path, options: &Options) -> Result<Recording, RecordingError> {
    if !(options.rate_hz > 0.0 && options.rate_hz <= 1e5) {
        return Err(RecordingError::Rate { found: options.rate_hz });
    }
    let mut walk = Walk::default();
    walk.folder(path, own_levels(path))?;
    let Walk { mut found, empty, strange, unread, known: _ } = walk;
    found.retain(|sequence| !sequence.frames.is_empty());
    if found.is_empty() {
        let found = deepsense::kinds(&deepsense::list(path)?);
        return Err(RecordingError::NoIndex { path: path.to_owned(), found });
    }
    found.sort_by_key(|one| (one.performance.environment, one.performance.subject, one.performance.action));

    let step = Span::from_secs_f64(1.0 / options.rate_hz);
    let (mut rows, mut sequences, mut samples) = (Vec::new(), Vec::new(), Vec::new());
    let mut steps = Vec::new();
    let mut begin = options.base;
    for (position, sequence) in found.iter().enumerate() {
        let first_row = rows.len();
        let first = sequence.frames.keys().next().copied().unwrap_or(1);
        let mut before = None;
        for (&number, files) in &sequence.frames {
            let capture = begin + step * i64::try_from(number - first).unwrap_or(0);
            steps.extend(before.map(|before| capture - before));
            before = Some(capture);
            for (modality, path) in files {
                samples.push(RecordedSample {
                    row: rows.len(),
                    stream: stream(*modality, &UeId::implied()),
                    capture,
                    capture_source: CaptureSource::Synthetic,
                    paths: vec![path.clone()],
                });
            }
            rows.push(Row {
                index: Some(number),
                sequence: position,
                capture,
                capture_source: CaptureSource::Synthetic,
                label: None,
            });
        }
        sequences.push(Sequence { id: Some(sequence.performance.name()), rows: first_row..rows.len() });
        begin = before.unwrap_or(begin) + SEQUENCE_GAP;
    }
    samples.sort_by_key(|sample| (sample.capture, order(sample.stream.modality()), sample.row));
    let mut at_row = vec![[None; Modality::ALL.len()]; rows.len()];
    for (position, sample) in samples.iter().enumerate() {
        let cells = at_row.get_mut(sample.row);
        if let Some(cell) = cells.and_then(|cells| cells.get_mut(slot(sample.stream.modality()))) {
            *cell = Some(position);
        }
    }
    steps.sort_unstable();
    let period = steps.get(steps.len() / 2).copied().unwrap_or(step);
    Ok(Recording {
        path: path.to_owned(),
        files: Vec::new(),
        unit: options.unit.clone(),
        rows,
        sequences,
        samples,
        at_row,
        period,
        stamps: Stamps {
            source: StampSource::Synthetic,
            backward: Vec::new(),
            unstamped: 0,
            moved_sequences: 0,
            hours_behind_radar_names: None,
        },
        malformed: Vec::new(),
        notes: notes(empty, strange, &unread),
        unread_columns: Vec::new(),
        label_column: None,
        site_paths: Vec::new(),
        labels_may_be_shifted: false,
        blockage_shift: OnceLock::new(),
        beams: OnceLock::new(),
        people: found.into_iter().map(|sequence| sequence.performance).collect(),
    })
}

fn notes(empty: usize, strange: usize, unread: &BTreeSet<String>) -> Vec<String> {
    let mut notes = Vec::new();
    if empty > 0 {
        notes.push(format!("{empty} radar files are empty (nothing was detected): left out"));
    }
    if strange > 0 {
        notes.push(format!("{strange} files and folders are of no frame: left out"));
    }
    if !unread.is_empty() {
        let names: Vec<&str> = unread.iter().map(String::as_str).collect();
        notes.push(format!("folders that nothing is read from: {}", names.join(", ")));
    }
    notes
}

#[cfg(test)]
mod tests;
