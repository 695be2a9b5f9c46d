//! `simulate --layout mmfi`: people in rooms, written as the data set MM-Fi has them.
//!
//! ```text
//! scene.toml                                   what it was made from
//! E01/S01/A01/ground_truth.npy                 f64 (297, 17, 3): every frame, metres, camera frame (x right, y down, z forward)
//!             rgb_img/frame001.png             640×480, 8 bits
//!             rgb/frame001.npy                 f64 (17, 2): COCO's keypoints in the image, pixels; made from the truth, never an input
//!             depth/frame001.png               640×480, 16 bits, millimetres
//!             lidar/frame001.bin               f64 little-endian (N, 3): x forward, y left, z up, metres
//!             mmwave/frame001.bin              f64 little-endian (N, 5): the same, Doppler m/s (away positive), intensity dB
//! E01/…/E04                                    S01–S10 in E01, S11–S20 in E02, S21–S30 in E03, S31–S40 in E04
//! ```
//!
//! Frames keep the numbers that they have among the 297 of a sequence (1 + k·stride, ten per second), so row n − 1 of
//! the ground truth is that of frame n, as in the data set. A radar frame without a detection is an empty file.
//! MM-Fi's infrared keypoints and WiFi channels are not made.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use npyz::WriterBuilder;
use rayon::prelude::*;
use serde::Serialize;

use super::motion::{Activity, FRAMES, RATE_HZ};
use super::room::view::{Lens, View};
use super::room::{Environment, Performer, Room, RoomScene, cloud, points};
use super::staging::{IDENTITY, Staging};
use super::{Progress, SimulateError, hex, identity, pool};

/// What was made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Subjects.
    pub subjects: usize,
    /// Sequences: a subject that does an activity.
    pub sequences: usize,
    /// Frames, over all sequences.
    pub frames: usize,
    /// Of them, how many an earlier run had made.
    pub found: usize,
    /// Files, the scene included.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
    /// SHA-256 of what it was made from, hexadecimal: the same scene by the same version gives the same bytes.
    pub scene: String,
    /// Radar points of a frame, on average.
    pub radar_points: f64,
    /// Radar frames without a point.
    pub empty_radar_frames: usize,
    /// LiDAR points of a frame, on average.
    pub lidar_points: f64,
    /// Wall-clock time.
    pub seconds: f64,
}

/// A subject that does an activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// 1…40.
    pub subject: usize,
    /// What it does.
    pub activity: Activity,
}

impl Sequence {
    /// Its folder below the root.
    #[must_use]
    pub fn folder(&self) -> String {
        let Self { subject, activity } = self;
        format!("E{:02}/S{subject:02}/A{:02}", Environment::of(*subject).number(), activity.number())
    }

    /// What its noise goes by.
    pub(super) const fn number(&self) -> usize {
        self.subject * 100 + self.activity.number()
    }
}

/// The sequences of a scene, in order of subject and activity.
#[must_use]
pub fn sequences(scene: &RoomScene) -> Vec<Sequence> {
    let actions = scene.mmfi.actions();
    let of = |subject: usize| actions.iter().map(move |&activity| Sequence { subject, activity });
    scene.mmfi.subjects().into_iter().flat_map(of).collect()
}

/// Counts of what one sequence has.
#[derive(Clone, Copy, Default)]
struct Counts {
    /// Frames that were there.
    found: usize,
    files: usize,
    bytes: u64,
    radar_points: usize,
    empty_radar_frames: usize,
    lidar_points: usize,
}

impl Counts {
    /// Those of one file.
    fn of(modality: &str, bytes: u64) -> Self {
        let points = |width: u64| (bytes / (8 * width)) as usize;
        let is_radar = modality == "mmwave";
        Self {
            found: 0,
            files: 1,
            bytes,
            radar_points: if is_radar { points(5) } else { 0 },
            empty_radar_frames: usize::from(is_radar && bytes == 0),
            lidar_points: if modality == "lidar" { points(3) } else { 0 },
        }
    }

    const fn and(self, other: Self) -> Self {
        Self {
            found: self.found + other.found,
            files: self.files + other.files,
            bytes: self.bytes + other.bytes,
            radar_points: self.radar_points + other.radar_points,
            empty_radar_frames: self.empty_radar_frames + other.empty_radar_frames,
            lidar_points: self.lidar_points + other.lidar_points,
        }
    }
}

/// Makes the recording of a scene in a new or empty folder; `progress` counts frames, `threads` = `None` takes as many
/// as there are cores. The same scene gives the same bytes, whatever the number of threads.
///
/// What a run that was stopped has made is kept beside the folder, and the next run of the same scene goes on from there.
///
/// # Errors
/// [`SimulateError`].
pub fn make(
    scene: &RoomScene,
    folder: &Path,
    progress: Progress<'_>,
    threads: Option<usize>,
) -> Result<Report, SimulateError> {
    let begun = Instant::now();
    let identity = identity(scene)?;
    let staging = Staging::new(folder, &identity)?;
    let mut counts = Counts::of(IDENTITY, identity.len() as u64);
    let (sequences, numbers) = (sequences(scene), scene.mmfi.frames());
    let (done, all) = (AtomicUsize::new(0), sequences.len() * numbers.len());
    let made: Result<Vec<Counts>, SimulateError> = pool(threads)?.install(|| {
        let stages: Vec<Stage> = Environment::ALL
            .into_iter()
            .filter(|&environment| sequences.iter().any(|one| Environment::of(one.subject) == environment))
            .map(|environment| Stage::new(scene, environment))
            .collect();
        let one = |sequence: &Sequence| {
            let environment = Environment::of(sequence.subject);
            let stage = stages.iter().find(|stage| stage.environment == environment);
            let stage = stage.ok_or_else(|| SimulateError::Draw(format!("no room {environment:?}")))?;
            let performer = Performer::new(scene, sequence.subject, sequence.activity);
            let folder = sequence.folder();
            let mut counts = write_truth(&staging, &folder, &stage.lens, &performer)?;
            let frames: Result<Vec<Counts>, SimulateError> = numbers
                .par_iter()
                .map(|&number| {
                    if !progress(done.load(Ordering::Relaxed), all) {
                        return Err(SimulateError::Stopped);
                    }
                    let frame = Frame { scene, stage, performer: &performer, sequence, number };
                    let counts = match frame.found(&staging, &folder) {
                        Some(counts) => counts,
                        None => frame.write(&staging, &folder)?,
                    };
                    done.fetch_add(1, Ordering::Relaxed);
                    Ok(counts)
                })
                .collect();
            for frame in frames? {
                counts = counts.and(frame);
            }
            Ok(counts)
        };
        sequences.par_iter().map(one).collect()
    });
    for sequence in made? {
        counts = counts.and(sequence);
    }
    staging.finish()?;
    Ok(Report {
        subjects: scene.mmfi.subjects().len(),
        sequences: sequences.len(),
        frames: all,
        found: counts.found,
        files: counts.files,
        bytes: counts.bytes,
        scene: hex(&identity),
        radar_points: counts.radar_points as f64 / all.max(1) as f64,
        empty_radar_frames: counts.empty_radar_frames,
        lidar_points: counts.lidar_points as f64 / all.max(1) as f64,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

/// A room, and what its camera sees of it when nobody is there.
struct Stage {
    environment: Environment,
    room: Room,
    lens: Lens,
    /// `None` when neither images nor depth are written.
    view: Option<View>,
}

impl Stage {
    fn new(scene: &RoomScene, environment: Environment) -> Self {
        let room = Room::new(scene.seed, environment);
        let is_seen = scene.mmfi.image.0 || scene.mmfi.depth.0;
        let view = is_seen.then(|| View::new(scene, &room));
        Self { environment, room, lens: Lens::new(scene), view }
    }
}

/// Writes `ground_truth.npy`.
fn write_truth(
    staging: &Staging,
    folder: &str,
    lens: &Lens,
    performer: &Performer,
) -> Result<Counts, SimulateError> {
    let mut truth = Vec::with_capacity(FRAMES * 51);
    for frame in 0..FRAMES {
        let skeleton = performer.skeleton(frame as f32 / RATE_HZ);
        for joint in skeleton.joints() {
            truth.extend(lens.seen(performer.place().transform_point(*joint)));
        }
    }
    let bytes = staging.put(&format!("{folder}/ground_truth.npy"), &npy(&[FRAMES, 17, 3], &truth)?)?;
    Ok(Counts::of("ground_truth", bytes))
}

/// One instant of a sequence.
struct Frame<'a> {
    scene: &'a RoomScene,
    stage: &'a Stage,
    performer: &'a Performer,
    sequence: &'a Sequence,
    /// 1…297.
    number: usize,
}

impl Frame<'_> {
    fn file(&self, folder: &str, modality: &str, kind: &str) -> String {
        format!("{folder}/{modality}/frame{:03}.{kind}", self.number)
    }

    /// Counts of its files, where they are all there already.
    fn found(&self, staging: &Staging, folder: &str) -> Option<Counts> {
        let wanted = &self.scene.mmfi;
        let files = [
            ("rgb_img", "png", wanted.image.0),
            ("depth", "png", wanted.depth.0),
            ("rgb", "npy", true),
            ("lidar", "bin", wanted.lidar.0),
            ("mmwave", "bin", wanted.mmwave.0),
        ];
        let mut counts = Counts { found: 1, ..Counts::default() };
        for (modality, kind, _) in files.into_iter().filter(|(.., is_wanted)| *is_wanted) {
            let bytes = staging.size(&self.file(folder, modality, kind))?;
            counts = counts.and(Counts::of(modality, bytes));
        }
        Some(counts)
    }

    fn write(&self, staging: &Staging, folder: &str) -> Result<Counts, SimulateError> {
        let Self { scene, stage, performer, number, .. } = self;
        let (sequence, wanted) = (self.sequence.number(), &scene.mmfi);
        let seconds = (number - 1) as f32 / RATE_HZ;
        let caster = performer.caster(&stage.room, seconds);
        let mut counts = Counts::default();
        let put = |counts: &mut Counts, modality: &str, kind: &str, bytes: &[u8]| {
            let bytes = staging.put(&self.file(folder, modality, kind), bytes)?;
            *counts = counts.and(Counts::of(modality, bytes));
            Ok::<(), SimulateError>(())
        };
        if let Some(view) = &stage.view {
            let picture = view.picture(scene, &caster, sequence, *number);
            if wanted.image.0 {
                put(&mut counts, "rgb_img", "png", &picture.rgb_png()?)?;
            }
            if wanted.depth.0 {
                put(&mut counts, "depth", "png", &picture.depth_png()?)?;
            }
        }
        let skeleton = performer.skeleton(seconds);
        let keypoints = skeleton.keypoints().iter();
        let keypoints: Vec<f64> =
            keypoints.flat_map(|&at| stage.lens.pixel(performer.place().transform_point(at))).collect();
        put(&mut counts, "rgb", "npy", &npy(&[17, 2], &keypoints)?)?;
        if wanted.lidar.0 {
            let points = cloud::observe(scene, &caster, sequence, *number);
            put(&mut counts, "lidar", "bin", &doubles(points.iter().flatten()))?;
        }
        if wanted.mmwave.0 {
            let points = points::observe(scene, &caster, sequence, *number);
            let rows: Vec<f64> = points
                .iter()
                .flat_map(|point| {
                    let [x, y, z] = point.position;
                    [x, y, z, point.doppler_mps, point.snr_db]
                })
                .collect();
            put(&mut counts, "mmwave", "bin", &doubles(&rows))?;
        }
        Ok(counts)
    }
}

/// Numbers as they lie in a `.bin` file: f64, little-endian.
fn doubles<'a>(numbers: impl IntoIterator<Item = &'a f64>) -> Vec<u8> {
    numbers.into_iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn npy(shape: &[usize], values: &[f64]) -> Result<Vec<u8>, SimulateError> {
    let shape: Vec<u64> = shape.iter().map(|&side| side as u64).collect();
    let mut file = Vec::with_capacity(values.len() * 8 + 128);
    let mut write = || -> std::io::Result<()> {
        let options = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut file);
        let mut writer = options.begin_nd()?;
        writer.extend(values.iter().copied())?;
        writer.finish()
    };
    write().map_err(|source| SimulateError::Io { path: "npy".into(), source })?;
    Ok(file)
}

#[cfg(test)]
mod tests;
