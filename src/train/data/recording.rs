//! Examples of a recording, taken off the road of a unit: its samples are decoded and aligned as a pipeline file says,
//! and where the network would stand, a collector writes down what each window holds. What is true comes from the
//! recording itself.
//!
//! Decoding is done once. What came of it (small images, thinned clouds, and which of them stand in which frame) is kept
//! in a folder whose name is a hash of all that it depends on.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::once;
use super::store::{Store, StoreError};
use super::{Ahead, DataSet, Lost, Source, lose};
use crate::config::{self, ConfigError, Pipeline};
use crate::model::tasks::Task;
use crate::model::{Input, NetworkConfig};
use crate::recording::{LoadError, Options, Recording, RecordingError, fill_in};
use crate::runtime::RuntimeError;
use crate::sample::Stream;

mod collector;
mod labelled;

use collector::{Index, collect};
use labelled::Labelled;

/// What a reading is made small to: what the network takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resolution {
    /// Side of an image, pixels.
    pub side: usize,
    /// Points of a radar cloud at most.
    pub radar: usize,
    /// Points of a LiDAR cloud at most.
    pub lidar: usize,
}

impl Resolution {
    /// That of a network.
    #[must_use]
    pub fn of(network: &NetworkConfig) -> Self {
        Self {
            side: network.image_side(),
            radar: network.most_points(Input::Radar),
            lidar: network.most_points(Input::Lidar),
        }
    }
}

/// A recording that no examples can be made of.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// Its pipeline.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It cannot be read.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The road broke.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// What is kept of it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A label that is there and cannot be read.
    #[error(transparent)]
    Label(#[from] LoadError),
    /// The folder of what is kept.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What is kept is not what was written.
    #[error("{}: {source}; remove the folder, and it is made anew", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The scene beside a simulated recording.
    #[error("{}: {reason}", path.display())]
    Scene {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It was told to stop before all was decoded.
    #[error("{}: stopped before all of it was decoded", path.display())]
    Stopped {
        /// The recording.
        path: PathBuf,
    },
    /// There is nothing to learn.
    #[error("{}: no frame has a label for {}{}", path.display(), either(tasks), in_brackets(lost))]
    NoLabels {
        /// The recording.
        path: PathBuf,
        /// What was asked for.
        tasks: Vec<Task>,
        /// What could not be had.
        lost: Vec<Lost>,
    },
}

/// `beam or blockage`
fn either(tasks: &[Task]) -> String {
    tasks.iter().map(|task| task.name()).collect::<Vec<_>>().join(" or ")
}

fn in_brackets(lost: &[Lost]) -> String {
    let told: Vec<String> = lost.iter().map(Lost::to_string).collect();
    if told.is_empty() { String::new() } else { format!(" ({})", told.join("; ")) }
}

/// What a scene beside a simulated recording says of the unit.
#[derive(Deserialize)]
struct Standing {
    /// Left out in rooms, in which nothing is placed on a map.
    site: Option<config::Site>,
    #[serde(default)]
    pose: config::Poses,
    /// Of a street, how its radar's cubes are read; of a room, how its radar measures, which points do not need.
    radar: Option<toml::Value>,
}

/// A simulated recording has its scene beside it, and the scene knows where the sensors stood: not the pipeline file, which
/// many scenes share.
fn stand_as_in_scene(pipeline: &mut Pipeline, recording: &Path) -> Result<(), CollectError> {
    let path = recording.join(SCENE);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(()) };
    let wrong = |error: toml::de::Error| CollectError::Scene {
        path: path.clone(),
        reason: error.message().to_owned(),
    };
    let Standing { site, pose, radar } = toml::from_str(&text).map_err(wrong)?;
    pipeline.pose = pose;
    if let Some(site) = site {
        pipeline.site = Some(site);
        pipeline.radar = match radar {
            Some(radar) => radar.try_into().map_err(wrong)?,
            None => config::Radar::default(),
        };
    }
    Ok(())
}

/// Everything that decides what is kept of a recording.
fn identity(recording: &Recording, pipeline: &Pipeline, resolution: Resolution) -> String {
    let mut hash = Sha256::new();
    let relevant = (&pipeline.input.recording, &pipeline.limits, &pipeline.site, &pipeline.pose);
    hash.update(format!("1 {relevant:?} {:?} {:?} {resolution:?}", pipeline.radar, pipeline.align));
    let path = fs::canonicalize(recording.path()).unwrap_or_else(|_| recording.path().to_owned());
    hash.update(path.to_string_lossy().as_bytes());
    for file in recording.files() {
        hash.update(fs::read(file).unwrap_or_default());
        let changed = fs::metadata(file).and_then(|file| file.modified()).ok();
        hash.update(format!("{changed:?}"));
    }
    // Of the files themselves, how large they are and when they were changed: to read them all is what is spared.
    for path in recording.samples().iter().flat_map(|sample| sample.paths()) {
        let file = fs::metadata(path).ok();
        let changed = file.as_ref().and_then(|file| file.modified().ok());
        hash.update(format!("{:?} {changed:?}", file.map(|file| file.len())));
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Is told how many of how many samples are decoded; says whether to go on.
pub type Watch<'a> = &'a dyn Fn(usize, usize) -> bool;

const INDEX: &str = "frames.json";
/// Beams at least of a codebook of which only labels are known: that of the published recordings.
const BEAMS: usize = 64;
/// Beside a simulated recording, what it was made of.
const SCENE: &str = "scene.toml";

/// How a recording becomes a data set.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Its name in reports.
    pub name: &'a str,
    /// The recording.
    pub path: &'a Path,
    /// The pipeline file whose road it takes.
    pub pipeline: &'a Path,
    /// What is asked for.
    pub tasks: &'a [Task],
    /// What readings are made small to.
    pub resolution: Resolution,
    /// Instants for which a beam is chosen, ms after a frame's, the first 0.
    pub instants_ms: &'a [u32],
    /// What they count.
    pub ahead: Ahead,
    /// Where what is decoded is kept.
    pub cache: &'a Path,
}

/// Opens a recording as a data set; decodes it, under `watch`, when that has not been done before.
///
/// # Errors
/// [`CollectError`] when it cannot be read, or nothing in it can be learned.
pub fn open(request: &Request<'_>, watch: Watch<'_>) -> Result<DataSet, CollectError> {
    let mut pipeline = config::load(request.pipeline)?;
    stand_as_in_scene(&mut pipeline, request.path)?;
    let options = Options::of(&pipeline.input.recording);
    let recording = Recording::open(request.path, &options)?;
    let knows_heading = pipeline.site.is_some();
    fill_in(&mut pipeline, &recording);
    let labelled_beams = recording.labelled_beams();
    if let Some(last) = labelled_beams.iter().flatten().max()
        && pipeline.codebook.beams.is_none()
    {
        pipeline.codebook.beams = Some((*last as usize + 1).max(BEAMS));
    }
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| CollectError::Io { path, source }
    };
    let decoded = request.cache.join("decoded");
    let folder = decoded.join(identity(&recording, &pipeline, request.resolution));
    if !folder.is_dir() {
        fs::create_dir_all(&decoded).map_err(io(&decoded))?;
        // Of two who want the same, one decodes it and the other waits.
        let guard = folder.with_extension("lock");
        let samples = recording.samples().len();
        let held = once::hold(&guard, || watch(0, samples)).map_err(io(&guard))?;
        if held.is_none() {
            return Err(CollectError::Stopped { path: request.path.to_owned() });
        }
        if !folder.is_dir() {
            let partial = folder.with_extension("partial");
            let _ = fs::remove_dir_all(&partial);
            fs::create_dir_all(&partial).map_err(io(&partial))?;
            let recording = Recording::open(request.path, &options)?;
            collect(recording, &pipeline, request.resolution, &partial, watch).inspect_err(|_| {
                let _ = fs::remove_dir_all(&partial);
            })?;
            fs::rename(&partial, &folder).map_err(io(&folder))?;
        }
    }
    let path = folder.join(INDEX);
    let text = fs::read(&path).map_err(|source| CollectError::Io { path: path.clone(), source })?;
    let index: Index =
        serde_json::from_slice(&text).map_err(|source| CollectError::Index { path, source })?;
    let store = Store::open(&folder, index.parts)?;
    let mut labelled = Labelled::new(request, &pipeline, &recording, index.frames, &labelled_beams)?;
    labelled.examples()?;
    labelled.data.store = Some(store);
    for (modality, reason, count) in index.lost {
        let what = format!("samples of {modality} cannot be read ({reason})").into();
        labelled.data.lost.push(Lost { what, count: count as usize, first: None, is_broken: true });
    }
    let positions = recording.samples().iter().filter(|sample| matches!(sample.stream, Stream::Position(_)));
    if pipeline.site.is_none() {
        for sample in positions {
            let what = "positions are not shown: where the unit stands is not known, neither by the recording nor by [site] of \
                        the pipeline";
            lose(&mut labelled.data.lost, what, false, || sample.path().display().to_string());
        }
    }
    labelled.data.notes.extend(recording.notes().iter().cloned());
    if let (Some(column), false) = (recording.label_column(), labelled_beams.is_empty()) {
        labelled.data.notes.push(format!(
            "no powers: beams are those of the labels (`{column}`), taken to count from {}; what a wrong choice loses, nobody \
             knows",
            recording.first_label()
        ));
    }
    let is_position = |source: &Source| matches!(source, Source::Position(_));
    if !knows_heading && labelled.data.sources.iter().any(is_position) {
        labelled.data.notes.push(
            "nobody says where the unit looks ([site] heading_deg of the pipeline): positions are taken as if it looked \
             north, which is of use only to a network that learned from this unit"
                .to_owned(),
        );
    }
    let DataSet { examples, tasks, notes, .. } = &mut labelled.data;
    tasks.retain(|&task| examples.iter().any(|example| example.truth.tells(task)));
    let sequences = recording.sequences();
    if sequences.len() > 1 && recording.people().is_empty() && sequences.iter().all(|own| own.id.is_none()) {
        notes.push(
            "its rows name no sequences: each is taken for one of its own, and knows nothing of the others"
                .to_owned(),
        );
    }
    if examples.is_empty() {
        let (path, tasks) = (request.path.to_owned(), request.tasks.to_vec());
        return Err(CollectError::NoLabels { path, tasks, lost: labelled.data.lost });
    }
    Ok(labelled.data)
}
