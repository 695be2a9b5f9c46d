//! The digital twin: a scene goes in, a recording comes out.
//!
//! There is one [`world`]: a street, and vehicles that drive along it. There is one ray [`caster`], which says what lies
//! in a direction and what stands between two places. And there is one observer per file of the recording, each of
//! which asks the caster: the [`camera`] for what its pixels see, the LiDAR for ranges, the radar for what throws its
//! chirps back, the [`channel`] for what stands in the line of sight of the 60 GHz link. So the same truck is in the
//! image, in the cloud, in the range-angle map and in the received power.
//!
//! [`make`] writes the recording, in the layout of DeepSense 6G's scenario 33; [`preview`] draws one picture of it. The
//! same [`scene`] gives the same bytes, whatever the number of threads: every random number belongs to (seed,
//! sequence, frame, sensor).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use nalgebra::{Isometry3, Point3, Vector3};
use parry3d::math::Vector;
use rayon::prelude::*;
use serde::Serialize;

use crate::space::LocalFrame;

pub mod camera;
pub mod caster;
pub mod channel;
mod gps;
pub mod ground;
mod lidar;
pub mod preview;
mod radar;
mod random;
pub mod scene;
pub mod solid;
mod texture;
pub mod world;
mod writer;

use camera::Background;
use caster::Caster;
use channel::LinkState;
use random::{Purpose, Random};
pub use scene::Scene;
use world::World;
use writer::{Files, IndexRow, Writer};

/// Counts up when the same scene gives other bytes than before.
pub const VERSION: u32 = 1;

/// Why a recording could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// Something is there already.
    #[error("{}: exists and is not empty; a new or an empty folder is allowed", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A path like `..`, beside which nothing can be written.
    #[error("{}: has no name; the path of a new folder is allowed", path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An image could not be encoded.
    #[error("image: {0}")]
    Image(#[from] image::ImageError),
    /// A picture could not be drawn.
    #[error("preview: {0}")]
    Draw(String),
    /// There are no threads to be had.
    #[error("threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The caller did not want to go on; nothing was left behind.
    #[error("stopped; nothing was written")]
    Stopped,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Rows.
    pub rows: usize,
    /// Files, the index and the scene included.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
    /// Share of rows whose line of sight is cut.
    pub blocked_share: f64,
    /// Per sequence, how many times the line of sight goes from free to cut.
    pub blockages: Vec<usize>,
    /// Lowest and highest best beam, from 0, of the rows with a free line of sight.
    pub beams: [usize; 2],
    /// Wall-clock time.
    pub seconds: f64,
}

/// Everything that the files of one row say, before it is written.
#[derive(Debug)]
pub struct Twin<'a> {
    scene: &'a Scene,
    world: World,
    frame: LocalFrame,
}

/// One row: its place in the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    /// From 0.
    pub sequence: usize,
    /// Within its sequence, from 0.
    pub frame: usize,
}

impl<'a> Twin<'a> {
    /// Builds the street.
    #[must_use]
    pub fn new(scene: &'a Scene) -> Self {
        Self { scene, world: World::new(scene), frame: LocalFrame::new(&scene.site) }
    }

    /// The rows of the scene, in order.
    #[must_use]
    pub fn rows(&self) -> Vec<Instance> {
        let sequences = self.scene.sequence.iter().enumerate();
        sequences
            .flat_map(|(sequence, traffic)| {
                (0..self.scene.rows(traffic)).map(move |frame| Instance { sequence, frame })
            })
            .collect()
    }

    fn seconds(&self, at: Instance) -> f64 {
        at.frame as f64 / self.scene.rate_hz
    }

    /// The world at a row.
    #[must_use]
    pub fn caster(&self, at: Instance) -> Caster {
        self.world.at(self.scene, at.sequence, self.seconds(at))
    }

    /// Where the UE's antenna is, in the unit frame, metres.
    #[must_use]
    pub fn antenna(&self, at: Instance) -> Vector {
        let traffic = self.scene.sequence.get(at.sequence);
        traffic.map_or(Vector::ZERO, |traffic| world::antenna(self.scene, traffic, self.seconds(at)))
    }

    /// The camera's view of the empty street, from which [`Twin::camera`] starts.
    #[must_use]
    pub fn background(&self) -> Background {
        Background::new(self.scene, &self.world.empty())
    }

    /// The camera's file: JPEG.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn camera(
        &self,
        at: Instance,
        caster: &Caster,
        background: &Background,
    ) -> Result<Vec<u8>, SimulateError> {
        let image = background.observe(self.scene, caster, at.sequence, at.frame);
        Ok(camera::jpeg(self.scene, &image)?)
    }

    /// The LiDAR's file: ASCII PLY.
    #[must_use]
    pub fn lidar(&self, at: Instance, caster: &Caster) -> Vec<u8> {
        lidar::ply(&lidar::observe(self.scene, caster, at.sequence, at.frame))
    }

    /// The radar's file: `.npy`, complex64 (rx, samples, chirps).
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn radar(&self, at: Instance, caster: &Caster) -> Result<Vec<u8>, SimulateError> {
        let cube = radar::observe(self.scene, caster, at.sequence, at.frame);
        radar::npy(self.scene, &cube).map_err(|source| SimulateError::Io { path: "cube".into(), source })
    }

    /// The link: powers and whether it is blocked.
    #[must_use]
    pub fn link(&self, at: Instance, caster: &Caster) -> LinkState {
        let mut noise = channel::noise(self.scene, at.sequence, at.frame);
        channel::measure(self.scene, caster, self.world.facades(), self.antenna(at), &mut noise)
    }

    /// Latitude and longitude that the UE reports, degrees.
    #[must_use]
    pub fn position(&self, at: Instance) -> [f64; 2] {
        let mut random = Random::new(self.scene.seed, at.sequence, at.frame, Purpose::Position);
        gps::observe(self.scene, &self.frame, self.antenna(at), &mut random)
    }
}

/// Whether to go on, from (rows done, rows in all); called from several threads.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) -> bool + Sync);

/// Time of day at which a recording begins, µs: 09:00.
const BEGIN_US: u64 = 9 * 3_600_000_000;
/// Pause between sequences, µs.
const PAUSE_US: u64 = 3_000_000;

/// Makes the recording of a scene in a new or empty folder; `threads` = `None` takes as many as there are cores.
///
/// # Errors
/// [`SimulateError`]; nothing is left behind then.
pub fn make(
    scene: &Scene,
    folder: &Path,
    progress: Progress<'_>,
    threads: Option<usize>,
) -> Result<Report, SimulateError> {
    let begun = Instant::now();
    let writer = Writer::new(folder)?;
    let twin = Twin::new(scene);
    let rows = twin.rows();
    let scene_text = toml::to_string(scene).map_err(|error| SimulateError::Io {
        path: folder.join("scene.toml"),
        source: std::io::Error::other(error),
    })?;
    let mut bytes = writer.put("scene.toml", scene_text.as_bytes())?;
    bytes += writer.put_site(&gps::text([scene.site.latitude, scene.site.longitude]))?;
    let done = AtomicUsize::new(0);
    let made: Result<Vec<(u64, LinkState)>, SimulateError> = pool(threads)?.install(|| {
        let background = twin.background();
        let one = |(row, &at): (usize, &Instance)| {
            if !progress(done.load(Ordering::Relaxed), rows.len()) {
                return Err(SimulateError::Stopped);
            }
            let (files, link) = observe(&twin, at, &background)?;
            let bytes = writer.put_row(row, &files)?;
            done.fetch_add(1, Ordering::Relaxed);
            Ok((bytes, link))
        };
        rows.par_iter().enumerate().map(|(row, at)| one((row, at))).collect()
    });
    let made = made?;
    let index: Vec<IndexRow> =
        rows.iter().zip(&made).map(|(&at, (_, link))| index_row(&twin, at, link)).collect();
    bytes += made.iter().map(|(bytes, _)| bytes).sum::<u64>();
    bytes += writer.finish("street", &index)?;
    let links: Vec<(Instance, &LinkState)> =
        rows.iter().copied().zip(made.iter().map(|(_, link)| link)).collect();
    Ok(report(scene, &links, bytes, begun.elapsed().as_secs_f64()))
}

/// As many threads as asked for, for this work alone.
pub(crate) fn pool(threads: Option<usize>) -> Result<rayon::ThreadPool, SimulateError> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build()?)
}

fn observe(
    twin: &Twin<'_>,
    at: Instance,
    background: &Background,
) -> Result<(Files, LinkState), SimulateError> {
    let caster = twin.caster(at);
    let link = twin.link(at, &caster);
    let files = Files {
        camera: twin.camera(at, &caster, background)?,
        lidar: twin.lidar(at, &caster),
        radar: twin.radar(at, &caster)?,
        power: link.power.iter().map(|power| format!("{power:.9e}\n")).collect(),
        position: gps::text(twin.position(at)),
        is_blocked: link.is_blocked,
    };
    Ok((files, link))
}

fn index_row(twin: &Twin<'_>, at: Instance, link: &LinkState) -> IndexRow {
    let before = twin.scene.sequence.iter().take(at.sequence);
    let before: u64 = before.map(|traffic| (traffic.seconds * 1e6) as u64 + PAUSE_US).sum();
    let time_us = BEGIN_US + before + (twin.seconds(at) * 1e6).round() as u64;
    let (beam, max_power) = link.best();
    IndexRow { sequence: at.sequence, time_us, beam, max_power }
}

fn report(scene: &Scene, links: &[(Instance, &LinkState)], bytes: u64, seconds: f64) -> Report {
    let blocked = links.iter().filter(|(_, link)| link.is_blocked).count();
    let of =
        |sequence: usize| links.iter().filter(move |(at, _)| at.sequence == sequence).map(|(_, link)| link);
    let begins = |sequence: usize| {
        let before = std::iter::once(false).chain(of(sequence).map(|link| link.is_blocked));
        before.zip(of(sequence)).filter(|(before, link)| link.is_blocked && !before).count()
    };
    let free = links.iter().filter(|(_, link)| !link.is_blocked).map(|(_, link)| link.best().0);
    Report {
        rows: links.len(),
        files: links.len() * 6 + 3,
        bytes,
        blocked_share: blocked as f64 / links.len().max(1) as f64,
        blockages: (0..scene.sequence.len()).map(begins).collect(),
        beams: [free.clone().min().unwrap_or(0), free.max().unwrap_or(0)],
        seconds,
    }
}

/// A place as the ray caster has it.
fn place(point: &Point3<f64>) -> Vector {
    Vector::new(point.x as f32, point.y as f32, point.z as f32)
}

/// A direction of the unit frame, from azimuth (to the right positive) and elevation in a sensor's mount, radians.
fn direction(mount: &Isometry3<f64>, azimuth: f64, elevation: f64) -> Vector {
    let level = elevation.cos();
    let turned = mount.rotation * Vector3::new(level * azimuth.sin(), level * azimuth.cos(), elevation.sin());
    Vector::new(turned.x as f32, turned.y as f32, turned.z as f32)
}
