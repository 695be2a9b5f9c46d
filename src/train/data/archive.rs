//! Data sets that lie in NumPy archives (`.npz`), one per part: radar points of people, and windows of beam powers before
//! a blockage. No road leads through them: what is one reading is said by [`Windowing`].
//!
//! | layout | arrays | tasks |
//! |---|---|---|
//! | MARS (An and Ogras, 2021) | `points` (P, 5) = x right, y ahead, z up in m, Doppler in m/s, intensity; `frame_start` (F); `abs_time` (F) in s; `joints` (F, 25, 3) in m; `movement` (F), from 1 | pose, activity |
//! | RadHAR (Singh et al., 2019) | `points` (P, 8) = x ahead, y left, z up, range in m, speed in m/s, Doppler bin, bearing, intensity in dB; `frame_start` (F); `stamp` (F) in s; `file_index` (F); the activity is the file's name | activity |
//! | blockage windows (DeepSense 6G S17–21) | `features` (N, frames, 54) linear power of the 64 beams without 27…36; `labels` (N); the file's name says how many frames ahead | blockage |

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::shared::Shared;
use super::{DataSet, Example, Place, Report, Shape, Source, Truth, lose};
use crate::config::Codebook;
use crate::infer::network::features;
use crate::model::tasks::{Sizes, Task};
use crate::model::ue::LINK_SLOTS;
use crate::model::{Input, MODALITIES};
use crate::percentile::LinkReference;
use crate::recording::arrays::{self, Npz, Numbers};
use crate::sample::{RadarPoint, RadarReading};
use crate::time::{CaptureTime, Span};

/// Frames that are further apart do not belong to one reading, seconds.
const GAP_S: f64 = 0.35;
/// Between the last frame of a file and the first of the next one, seconds.
const BETWEEN_FILES_S: f64 = 10.0;
/// Farthest along any axis that something stands, metres: these radars see people within a room.
const FARTHEST_M: f64 = 100.0;
/// Activities of RadHAR, in the order of their names.
const RADHAR: [&str; 5] = ["boxing", "jack", "jump", "squats", "walk"];
/// Beams of the windows' codebook, and those of them that the windows leave out: the line of sight.
const BEAMS: usize = 64;
const LEFT_OUT: std::ops::Range<usize> = 27..37;
/// Time between the frames of a blockage window, ms: nominal, the recordings have 5 to 12 frames per second.
const FRAME_MS: i64 = 100;
/// Frames ahead at most that a blockage window's label speaks of.
const AHEAD: u32 = 10;

/// What an archive holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Radar points with joints and movements.
    Mars,
    /// Radar points of activities.
    Radhar,
    /// Beam powers before a blockage.
    BlockageWindows,
}

impl Layout {
    /// What can be learned from it.
    #[must_use]
    pub const fn tasks(self) -> &'static [Task] {
        match self {
            Self::Mars => &[Task::Activity, Task::Pose],
            Self::Radhar => &[Task::Activity],
            Self::BlockageWindows => &[Task::Blockage],
        }
    }
}

/// How the frames of a radar become readings and windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Windowing {
    /// Slots of a window.
    pub slots: usize,
    /// Frames whose points are one reading, in each slot.
    pub frames: usize,
    /// An example ends at every so-manyth frame.
    pub every: usize,
}

impl Default for Windowing {
    fn default() -> Self {
        Self { slots: 1, frames: 1, every: 1 }
    }
}

/// An archive that no examples can be made of.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The folder cannot be listed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No file of the layout.
    #[error("{}: found no .npz file whose name fits {wanted}", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
        /// What was looked for.
        wanted: String,
    },
    /// The file cannot be read, or is not of the layout.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was found, and what is allowed.
        reason: String,
    },
    /// A task that the layout has no labels for.
    #[error("`{name}`: found task {task}, {layout:?} has labels for {:?}", layout.tasks())]
    Task {
        /// The data set.
        name: String,
        /// The task.
        task: Task,
        /// Its layout.
        layout: Layout,
    },
}

/// How archives become a data set.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Its name in reports.
    pub name: &'a str,
    /// A folder of archives, or one.
    pub path: &'a Path,
    /// Names of the archives, in which `*` stands for anything; none: all of them.
    pub files: &'a [String],
    /// What they hold.
    pub layout: Layout,
    /// What is asked for.
    pub tasks: &'a [Task],
    /// Readings and windows of radar frames.
    pub windowing: Windowing,
    /// Points of a reading at most.
    pub points: usize,
}

/// Opens archives as a data set.
///
/// # Errors
/// [`ArchiveError`] when there is none, one cannot be read, or it has no labels for a task.
pub fn open(request: &Request<'_>) -> Result<DataSet, ArchiveError> {
    if let Some(&task) = request.tasks.iter().find(|task| !request.layout.tasks().contains(task)) {
        return Err(ArchiveError::Task { name: request.name.to_owned(), task, layout: request.layout });
    }
    let files = files(request)?;
    match request.layout {
        Layout::Mars | Layout::Radhar => people(request, &files),
        Layout::BlockageWindows => blockages(request, &files),
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether a name fits a pattern in which `*` stands for anything.
#[must_use]
pub fn fits(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| fits(rest, after)))
        }),
    }
}

fn files(request: &Request<'_>) -> Result<Vec<PathBuf>, ArchiveError> {
    if request.path.is_file() {
        return Ok(vec![request.path.to_owned()]);
    }
    let io = |source| ArchiveError::Io { path: request.path.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(request.path).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let wanted = request.files.is_empty() || request.files.iter().any(|pattern| fits(&name, pattern));
        if wanted && name.ends_with(".npz") {
            files.push(entry.path());
        }
    }
    files.sort();
    if files.is_empty() {
        let wanted = if request.files.is_empty() { "*".to_owned() } else { request.files.join(", ") };
        return Err(ArchiveError::Empty { path: request.path.to_owned(), wanted });
    }
    Ok(files)
}

/// One archive.
struct Archive<'a> {
    path: &'a Path,
    npz: Npz,
}

impl<'a> Archive<'a> {
    fn open(path: &'a Path) -> Result<Self, ArchiveError> {
        let npz = Npz::open(path).map_err(|reason| ArchiveError::File { path: path.to_owned(), reason })?;
        Ok(Self { path, npz })
    }

    fn fail(&self, reason: String) -> ArchiveError {
        ArchiveError::File { path: self.path.to_owned(), reason }
    }

    /// An array of so many rows (any number where `None`) of `row` numbers each (any number where `None`).
    fn get(
        &mut self,
        name: &str,
        rows: Option<usize>,
        row: &[Option<usize>],
    ) -> Result<Numbers, ArchiveError> {
        let array = match self.npz.array(name) {
            Ok(Some(bytes)) => arrays::numbers(&bytes),
            Ok(None) => {
                let known = self.npz.names();
                let (count, first) = (known.len(), known.get(..known.len().min(10)).unwrap_or_default());
                let first = first.join(", ");
                return Err(self.fail(format!("found {count} arrays ({first}), wanted is `{name}`")));
            }
            Err(reason) => Err(reason),
        };
        let array = array.map_err(|reason| self.fail(format!("`{name}`: {reason}")))?;
        let allowed = || std::iter::once(&rows).chain(row);
        let fits = |(side, allowed): (&usize, &Option<usize>)| allowed.is_none_or(|allowed| allowed == *side);
        if array.shape.len() == 1 + row.len() && array.shape.iter().zip(allowed()).all(fits) {
            return Ok(array);
        }
        let side = |side: &Option<usize>| side.map_or_else(|| "any".to_owned(), |side| side.to_string());
        let allowed: Vec<String> = allowed().map(side).collect();
        Err(self.fail(format!(
            "`{name}`: found shape {:?}, allowed is [{}]",
            array.shape,
            allowed.join(", ")
        )))
    }

    /// One number per frame, each of which has to be as `allowed` says.
    fn per_frame(
        &mut self,
        name: &str,
        frames: Option<usize>,
        is_allowed: impl Fn(f64) -> bool,
        allowed: &str,
    ) -> Result<Vec<f64>, ArchiveError> {
        let values = self.get(name, frames, &[])?.values;
        match values.iter().enumerate().find(|(_, value)| !is_allowed(**value)) {
            Some((frame, found)) => {
                Err(self.fail(format!("`{name}`: found {found} in frame {frame}, allowed are {allowed}")))
            }
            None => Ok(values),
        }
    }

    /// Refuses places that are further away than people are, as those in millimetres would be.
    fn check_places(&self, name: &str, places: &[f64], columns: usize) -> Result<(), ArchiveError> {
        let far = places.chunks(columns).enumerate().find_map(|(row, place)| {
            let axes = place.iter().take(3);
            axes.copied().find(|axis| axis.is_finite() && axis.abs() > FARTHEST_M).map(|axis| (row, axis))
        });
        match far {
            Some((row, found)) => Err(self.fail(format!(
                "`{name}`: found {found} in row {row}, allowed are places of people in metres, -{FARTHEST_M} to {FARTHEST_M}"
            ))),
            None => Ok(()),
        }
    }
}

/// One frame of a radar that looks at people.
struct Frame {
    /// When, seconds.
    time: f64,
    points: Vec<RadarPoint>,
    truth: Truth,
    /// The run of frames that it belongs to.
    run: String,
    /// The group.
    group: String,
}

/// Of one person, metres, in the unit frame.
type Joints = Vec<[f32; 3]>;

/// Frames of one archive, in its order.
fn frames(layout: Layout, path: &Path) -> Result<Vec<Frame>, ArchiveError> {
    let mut archive = Archive::open(path)?;
    let stem = stem(path);
    let (columns, clock) = match layout {
        Layout::Mars => (5, "abs_time"),
        _ => (8, "stamp"),
    };
    let points = archive.get("points", None, &[Some(columns)])?.values;
    archive.check_places("points", &points, columns)?;
    let total = points.len() / columns;
    let is_point = |start: f64| start.fract() == 0.0 && (0.0..=total as f64).contains(&start);
    let starts =
        archive.per_frame("frame_start", None, is_point, &format!("numbers of points, 0 to {total}"))?;
    let count = starts.len();
    let times = archive.per_frame(clock, Some(count), f64::is_finite, "seconds")?;
    let point = |row: &[f64]| {
        let number = |column: usize| row.get(column).copied().unwrap_or_default() as f32;
        let (position, doppler_mps, power_db) = match layout {
            // Its intensity is a ratio.
            Layout::Mars => {
                ([number(0), number(1), number(2)], number(3), 10.0 * number(4).max(1e-3).log10())
            }
            _ => ([-number(1), number(0), number(2)], number(4), number(7)),
        };
        RadarPoint { position, doppler_mps, power_db, has_doppler: true, is_static: false }
    };
    let (joints, classes, runs): (Vec<Option<Joints>>, Vec<u32>, Vec<String>) = match layout {
        Layout::Mars => {
            let shape = [Some(Sizes::KINECT_JOINTS), Some(3)];
            let joints = archive.get("joints", Some(count), &shape)?.values;
            archive.check_places("joints", &joints, 3)?;
            let joints = joints.chunks_exact(3 * Sizes::KINECT_JOINTS).map(|pose| {
                let (joints, _) = pose.as_chunks::<3>();
                let joints = joints.iter().map(|joint| joint.map(|metres| metres as f32));
                Some(joints.collect())
                    .filter(|joints: &Joints| joints.iter().flatten().all(|axis| axis.is_finite()))
            });
            let most = Sizes::MOVEMENTS;
            let is_one = |movement: f64| movement.fract() == 0.0 && (1.0..=most as f64).contains(&movement);
            let movements = archive.per_frame("movement", Some(count), is_one, &format!("1 to {most}"))?;
            let runs = movements.iter().map(|movement| format!("movement {movement}"));
            let runs = runs.collect();
            let classes = movements.iter().map(|movement| (movement - 1.0) as u32).collect();
            (joints.collect(), classes, runs)
        }
        _ => {
            let lower = stem.to_ascii_lowercase();
            let Some(class) = RADHAR.iter().position(|name| lower.contains(name)) else {
                return Err(archive.fail(format!(
                    "found the name `{stem}`, allowed is one that holds an activity: {}",
                    RADHAR.join(", ")
                )));
            };
            let files = archive.get("file_index", Some(count), &[])?.values;
            let runs = files.iter().map(|file| format!("file {file}")).collect();
            (vec![None; count], vec![class as u32; count], runs)
        }
    };
    let ends = starts.iter().skip(1).copied().chain([total as f64]);
    let mut frames = Vec::with_capacity(count);
    let labels = joints.into_iter().zip(classes).zip(runs);
    for ((((start, end), time), ((pose, class), run)), number) in
        starts.iter().zip(ends).zip(&times).zip(labels).zip(0..)
    {
        let (from, to) = (*start as usize, end as usize);
        let Some(rows) = points.get(from * columns..to * columns) else {
            return Err(archive.fail(format!(
                "`frame_start`: found frame {number} from point {from} to {to}, allowed is an order that goes up"
            )));
        };
        let subject = stem.split('_').next().unwrap_or_default();
        let group = match layout {
            Layout::Mars => format!("{subject}/{run}"),
            _ => format!("{stem}/{run}"),
        };
        let points: Vec<RadarPoint> = rows.chunks_exact(columns).map(point).collect();
        let finite = |point: &RadarPoint| {
            point.position.iter().chain([&point.doppler_mps, &point.power_db]).all(|value| value.is_finite())
        };
        frames.push(Frame {
            time: *time,
            points: points.into_iter().filter(finite).collect(),
            truth: Truth { activity: Some(class), pose, ..Truth::default() },
            run,
            group,
        });
    }
    Ok(frames)
}

/// Examples of radar frames: the points of `frames` frames in a row in each slot.
fn people(request: &Request<'_>, files: &[PathBuf]) -> Result<DataSet, ArchiveError> {
    let Windowing { slots, frames: merged, every } = request.windowing;
    let mut sizes = Sizes::new(slots, 1, 1);
    (sizes.activities, sizes.joints) = match request.layout {
        Layout::Mars => (Sizes::MOVEMENTS, Sizes::KINECT_JOINTS),
        _ => (RADHAR.len(), sizes.joints),
    };
    let mut data = empty(request, sizes, Vec::new());
    let mut groups: HashMap<String, u32> = HashMap::new();
    // Files one after the other in time.
    let mut offset = 0.0;
    let (mut runs, mut seen) = (0, 0);
    for path in files {
        let frames = frames(request.layout, path)?;
        let first_s = frames.iter().map(|frame| frame.time).fold(f64::INFINITY, f64::min);
        let last_s = frames.iter().map(|frame| frame.time).fold(first_s, f64::max);
        // Windows share readings.
        let mut readings: HashMap<(usize, usize), Option<u32>> = HashMap::new();
        let mut begin = 0;
        for at in 0..frames.len() {
            let Some(frame) = frames.get(at) else { continue };
            if request.layout == Layout::Mars && frame.truth.pose.is_none() {
                let first = || format!("{}: frame {at}", path.display());
                lose(&mut data.lost, "frames have joints that are no numbers", true, first);
            }
            let before = at.checked_sub(1).and_then(|before| frames.get(before));
            if before.is_none_or(|before| {
                let passed = frame.time - before.time;
                before.run != frame.run || !(0.0..=GAP_S).contains(&passed)
            }) {
                begin = at;
                runs += 1;
            }
            // A window that would reach back behind the run's beginning: MARS, whose parts take turns in each other's
            // gaps, has many short runs, and a shorter reading is one too; of RadHAR, whole windows are classified.
            let length = at + 1 - begin;
            let whole = length >= slots * merged;
            if (request.layout == Layout::Radhar && !whole) || !(at - begin).is_multiple_of(every) {
                continue;
            }
            let next = groups.len() as u32;
            let group = *groups.entry(frame.group.clone()).or_insert(next);
            let mut places = vec![None; slots * MODALITIES];
            for slot in 0..slots {
                let Some(last) = at.checked_sub((slots - 1 - slot) * merged).filter(|&last| last >= begin)
                else {
                    continue;
                };
                let first = (last + 1).saturating_sub(merged).max(begin);
                let reading = *readings.entry((first, last)).or_insert_with(|| {
                    let of_slot = frames.get(first..=last).unwrap_or_default();
                    let points = of_slot.iter().flat_map(|frame| frame.points.iter().copied()).collect();
                    let cloud = features::radar(&RadarReading { points, map: None }, request.points);
                    (!cloud.positions.is_empty()).then(|| {
                        data.sources.push(Source::Cloud(Arc::new(cloud)));
                        data.sources.len() as u32 - 1
                    })
                });
                let age_s = frames.get(last).map_or(0.0, |then| (frame.time - then.time) as f32);
                if let Some(place) = places.get_mut(slot * MODALITIES + Input::Radar.place()) {
                    *place = reading.map(|reading| Place { reading, age_s });
                }
            }
            if places.iter().rev().take(MODALITIES).all(Option::is_none) {
                let first = || format!("{}: frame {at}", path.display());
                lose(&mut data.lost, "frames have no points", false, first);
                continue;
            }
            let truth = Truth {
                activity: frame.truth.activity.filter(|_| request.tasks.contains(&Task::Activity)),
                pose: frame.truth.pose.clone().filter(|_| request.tasks.contains(&Task::Pose)),
                ..Truth::default()
            };
            let time = CaptureTime::from_nanos(((offset + frame.time - first_s) * 1e9) as i64);
            data.examples.push(Example {
                group,
                link: 0,
                time,
                places,
                past: Vec::new(),
                was_blocked: None,
                truth,
            });
        }
        seen += frames.len();
        if !frames.is_empty() {
            offset += last_s - first_s + BETWEEN_FILES_S;
        }
    }
    if 2 * runs > seen {
        data.notes.push(format!(
            "{runs} runs in {seen} frames: most frames stand alone, with none within {GAP_S} s before them; times are taken for \
             seconds"
        ));
    }
    finish(request, data, groups)
}

fn empty(request: &Request<'_>, sizes: Sizes, horizons_ms: Vec<u32>) -> DataSet {
    let id = match request.layout {
        Layout::BlockageWindows => "deepsense-64",
        Layout::Mars | Layout::Radhar => "none",
    };
    let codebook = Codebook { id: id.to_owned(), beams: Some(sizes.beams), ..Codebook::default() };
    let shape = Shape {
        sizes,
        stride_ms: (FRAME_MS * LINK_SLOTS as i64) as f64,
        codebook,
        horizons_ms,
        instants_ms: vec![0],
    };
    DataSet::of_shape(request.name, request.tasks, shape)
}

fn finish(
    request: &Request<'_>,
    mut data: DataSet,
    groups: HashMap<String, u32>,
) -> Result<DataSet, ArchiveError> {
    if data.examples.is_empty() {
        return Err(ArchiveError::File {
            path: request.path.to_owned(),
            reason: match (request.layout, request.windowing) {
                (Layout::BlockageWindows, _) => {
                    "found no window in whose newest frames any beam has a power above 0".to_owned()
                }
                (_, Windowing { slots, frames, .. }) => {
                    format!("found no window of {slots} × {frames} frames with points in the newest")
                }
            },
        });
    }
    let mut names: Vec<(u32, String)> = groups.into_iter().map(|(name, number)| (number, name)).collect();
    names.sort_unstable();
    data.groups = names.into_iter().map(|(_, name)| format!("{}/{name}", request.name)).collect();
    // Runs that follow each other in a group stand together.
    data.examples.sort_by_key(|example| (example.group, example.time));
    Ok(data)
}

/// Examples of windows of beam powers. Windows that share any frame, of whatever horizon, are one group: some of them have
/// opposite labels.
fn blockages(request: &Request<'_>, files: &[PathBuf]) -> Result<DataSet, ArchiveError> {
    let mut known = Vec::new();
    for path in files {
        let mut archive = Archive::open(path)?;
        let name = stem(path);
        let before = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        let digits = name.strip_prefix(before).unwrap_or_default();
        let Some(ahead) = digits.parse::<u32>().ok().filter(|ahead| (1..=AHEAD).contains(ahead)) else {
            return Err(archive.fail(format!(
                "found the name `{name}`, allowed is one that ends with the number of frames ahead, 1 to {AHEAD}"
            )));
        };
        let beams = BEAMS - LEFT_OUT.len();
        let labels = archive.get("labels", None, &[])?.values;
        let array = archive.get("features", Some(labels.len()), &[None, Some(beams)])?;
        let frames = array.shape.get(1).copied().unwrap_or_default();
        if frames == 0 {
            let shape = array.shape;
            return Err(archive.fail(format!(
                "`features`: found shape {shape:?}, allowed are windows of 1 frame and more"
            )));
        }
        let features = array.values;
        if let Some((row, label)) = labels.iter().enumerate().find(|(_, label)| ![0.0, 1.0].contains(*label))
        {
            return Err(archive.fail(format!("`labels`: found {label} in row {row}, allowed are 0 and 1")));
        }
        known.push((path, ahead, frames, labels, features));
    }
    let frames = known.iter().map(|(_, _, frames, ..)| *frames).max().unwrap_or_default();
    let slots = frames.div_ceil(LINK_SLOTS).max(1);
    let sizes = Sizes::new(slots, BEAMS, AHEAD as usize);
    let horizons_ms = (1..=AHEAD).map(|ahead| ahead * FRAME_MS as u32).collect();
    let mut data = empty(request, sizes, horizons_ms);
    // Frames are known by their bytes.
    let mut shared: Shared<Vec<u64>> = Shared::new();
    let beams = BEAMS - LEFT_OUT.len();
    // Windows one after the other in time, far enough apart.
    let apart = Span::from_millis(FRAME_MS * (frames as i64 + 200));
    let mut begin = CaptureTime::from_nanos(0);
    let mut windows = Vec::new();
    for (path, ahead, frames, labels, features) in &known {
        for (row, (label, window)) in labels.iter().zip(features.chunks_exact(frames * beams)).enumerate() {
            begin = begin + apart;
            let mut reports = Vec::with_capacity(*frames);
            let mut captured = begin;
            let mut reference = LinkReference::default();
            let member = shared.add();
            for frame in window.chunks_exact(beams) {
                captured = captured + Span::from_millis(FRAME_MS);
                shared.join(member, frame.iter().map(|power| power.to_bits()).collect());
                let mut linear = vec![f64::NAN; BEAMS];
                let seen = linear.iter_mut().enumerate().filter(|(beam, _)| !LEFT_OUT.contains(beam));
                // What noise and the zero of the receiver leave below nothing is nothing; what is no number was not measured.
                let power = |power: f64| if power.is_nan() { power } else { power.max(0.0) };
                seen.zip(frame).for_each(|((_, own), &measured)| *own = power(measured));
                if let Some(mut report) = Report::new(captured, linear) {
                    report.reference_db = reference.push(captured, report.best_db);
                    reports.push(data.reports.len() as u32);
                    data.reports.push(report);
                }
            }
            let mut blocked = vec![None; AHEAD as usize];
            if let Some(own) = blocked.get_mut(*ahead as usize - 1) {
                *own = Some(*label != 0.0);
            }
            let places = link_places(&mut data, &reports, captured, slots);
            if places.iter().rev().take(MODALITIES).all(Option::is_none) {
                let first = || format!("{}: row {row}", path.display());
                lose(&mut data.lost, "windows have no power above 0 in their newest frames", false, first);
                continue;
            }
            windows.push((
                member,
                Example {
                    group: 0,
                    link: 0,
                    time: captured,
                    places,
                    past: reports,
                    // Between its frames, nobody says.
                    was_blocked: None,
                    truth: Truth { watched: blocked.len(), blocked, ..Truth::default() },
                },
            ));
        }
    }
    let mut groups: HashMap<String, u32> = HashMap::new();
    for (member, mut example) in windows {
        let next = groups.len() as u32;
        let name = format!("run {}", shared.root(member));
        example.group = *groups.entry(name).or_insert(next);
        data.examples.push(example);
    }
    finish(request, data, groups)
}

/// The reports of a window, [`LINK_SLOTS`] of them in each slot; the newest slot ends with the newest report.
fn link_places(data: &mut DataSet, reports: &[u32], time: CaptureTime, slots: usize) -> Vec<Option<Place>> {
    let mut places = vec![None; slots * MODALITIES];
    for slot in 0..slots {
        let back = (slots - 1 - slot) * LINK_SLOTS;
        let Some(end) = reports.len().checked_sub(back) else { continue };
        let own = reports.get(end.saturating_sub(LINK_SLOTS)..end).unwrap_or_default();
        let Some(last) = own.last().and_then(|&last| data.reports.get(last as usize)) else { continue };
        let capture = last.capture;
        if let Some(place) = places.get_mut(slot * MODALITIES + Input::Link.place()) {
            let reading = data.sources.len() as u32;
            *place = Some(Place { reading, age_s: (time - capture).as_secs_f64() as f32 });
            // As a unit sees them: one frame after the newest.
            let seen = capture + Span::from_millis(FRAME_MS);
            data.sources.push(Source::Link { reports: own.to_vec(), seen });
        }
    }
    places
}
