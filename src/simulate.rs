//! The digital twin: a scene goes in, a recording comes out.
//!
//! There is one [`world`]: a street, and the traffic that drives, walks and stands on it. There is one ray [`caster`], which says what lies
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
use sha2::Digest as _;

use crate::space::LocalFrame;

pub mod body;
pub mod camera;
pub mod caster;
pub mod channel;
mod gps;

pub mod ground;
mod lidar;
pub mod mmfi;
pub mod motion;
pub mod plan;
pub mod preview;
mod radar;
mod rain;
mod random;
pub mod room;
pub mod scene;
mod soiling;
pub mod solid;
mod staging;
mod texture;
mod traffic;
pub mod truth;
pub mod world;
mod writer;

use camera::Background;
use caster::Caster;
use channel::LinkState;
use plan::Captures;
pub use plan::Instance;
use random::{Purpose, Random};
use scene::Clock;
pub use scene::Scene;
use world::World;
use writer::{Files, IndexRow, Layout, Names, Stamps, UeFiles, Writer};

/// Counts up when the same scene gives other bytes than before.
pub const VERSION: u32 = 5;

const VERSION_LINE: &str = "# version ";

/// The version of the simulator that wrote a `scene.toml`.
#[must_use]
pub fn version_of(identity: &str) -> Option<u32> {
    identity.strip_prefix(VERSION_LINE)?.split(' ').next()?.parse().ok()
}

/// Why a recording could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// Something is there already.
    #[error("{}: exists and is not an empty folder; a new or an empty folder is allowed", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A folder whose place nothing can take, a mount point.
    #[error("{}: cannot be replaced ({source}); a new folder is allowed, in a mount point say", path.display())]
    Stays {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
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
    /// Another process is at it.
    #[error("{}: another process is making this recording", path.display())]
    Busy {
        /// Where it writes.
        path: PathBuf,
    },
    /// The caller did not want to go on; the same command goes on later.
    #[error("stopped; the same command goes on where this one was")]
    Stopped,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Rows.
    pub rows: usize,
    /// Of them, how many an earlier run had made.
    pub found: usize,
    /// Files, the index, the scene and the truth included.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
    /// SHA-256 of what it was made from, hexadecimal: the same scene by the same version gives the same bytes.
    pub scene: String,
    /// Share of the rows and UEs whose line of sight is blocked.
    pub blocked_share: f64,
    /// Per sequence, how many times the line of sight to a UE goes from free to blocked.
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

impl<'a> Twin<'a> {
    /// Builds the street.
    #[must_use]
    pub fn new(scene: &'a Scene) -> Self {
        Self { scene, world: World::new(scene), frame: LocalFrame::new(&scene.site) }
    }

    /// What stands and moves.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// Seconds from the beginning of its sequence to a row.
    #[must_use]
    pub fn seconds(&self, at: Instance) -> f64 {
        at.frame as f64 / self.scene.rate_hz
    }

    /// The world at a row.
    #[must_use]
    pub fn caster(&self, at: Instance) -> Caster {
        self.world.at(self.scene, at.sequence, self.seconds(at))
    }

    /// The camera's view of the empty street, from which [`Twin::camera`] starts.
    #[must_use]
    pub fn background(&self) -> Background {
        Background::new(self.scene, &self.world.empty(), self.world.lamps())
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

    /// The LiDAR's file: ASCII PLY or binary PCD.
    #[must_use]
    pub fn lidar(&self, at: Instance, caster: &Caster) -> Vec<u8> {
        lidar::file(self.scene.lidar.format, &lidar::observe(self.scene, caster, at.sequence, at.frame))
    }

    /// The radar's file: `.npy`, complex64 (rx, samples, chirps).
    #[must_use]
    pub fn radar(&self, at: Instance, caster: &Caster) -> Vec<u8> {
        let interference = self.scene.interference(at.sequence);
        radar::npy(self.scene, &radar::observe(self.scene, caster, at.sequence, at.frame, interference))
    }

    /// The links of the served users, in their order, `seconds` after the beginning of a row's sequence; `None` for one
    /// who is not there.
    #[must_use]
    pub fn links(&self, at: Instance, seconds: f64) -> Vec<Option<LinkState>> {
        let caster = self.world.at(self.scene, at.sequence, seconds);
        let reflectors = self.world.reflectors(&caster);
        let mut links = vec![None; self.scene.served()];
        for antenna in self.world.antennas(at.sequence, seconds) {
            let mut noise = channel::noise(self.scene, at.sequence, at.frame, antenna.ue);
            if let Some(link) = links.get_mut(antenna.ue) {
                *link = Some(channel::measure(
                    self.scene,
                    &caster,
                    &reflectors,
                    antenna.position,
                    antenna.object,
                    at.sequence,
                    &mut noise,
                ));
            }
        }
        links
    }

    /// Latitude and longitude that a served user reports, degrees; `None` for one who is not there.
    #[must_use]
    pub fn position(&self, at: Instance, seconds: f64, ue: usize) -> Option<[f64; 2]> {
        let antenna =
            self.world.antennas(at.sequence, seconds).into_iter().find(|antenna| antenna.ue == ue)?;
        let mut random = Random::of_ue(self.scene.seed, at.sequence, at.frame, Purpose::Position, ue);
        Some(gps::observe(self.scene, &self.frame, antenna.position, &mut random))
    }

    fn layout(&self) -> Layout {
        Layout { ues: self.scene.served(), clouds: self.scene.lidar.format }
    }
}

/// Whether to go on, from (rows done, rows in all); called from several threads.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) -> bool + Sync);

/// Time of day at which a recording begins, µs: 09:00.
const BEGIN_US: u64 = 9 * 3_600_000_000;
/// Pause between sequences, µs.
const PAUSE_US: u64 = 3_000_000;
/// Rows that are made before their truth is written.
const ROWS: usize = 1024;

/// What a recording is made from, as it stands in its `scene.toml`: the same text gives the same bytes.
///
/// # Errors
/// When the scene cannot be written as TOML, which does not happen for one that was read.
pub fn identity(scene: &impl Serialize) -> Result<String, SimulateError> {
    identity_in(VERSION, scene)
}

/// The same as another version of the simulator would have written it, where the scene has no key that this one did not know.
///
/// # Errors
/// As [`identity`].
pub fn identity_in(version: u32, scene: &impl Serialize) -> Result<String, SimulateError> {
    let text = toml::to_string(scene).map_err(|error| SimulateError::Io {
        path: "scene.toml".into(),
        source: std::io::Error::other(error),
    })?;
    Ok(format!("{VERSION_LINE}{version} of the simulator\n{text}"))
}

/// Makes the recording of a scene in a new or empty folder; `threads` = `None` takes as many as there are cores.
///
/// What a run that was stopped has made is kept beside the folder, and the next run of the same scene goes on from there.
///
/// # Errors
/// [`SimulateError`].
pub fn make(
    scene: &Scene,
    folder: &Path,
    progress: Progress<'_>,
    threads: Option<usize>,
) -> Result<Report, SimulateError> {
    let begun = Instant::now();
    let twin = Twin::new(scene);
    let identity = identity(&scene.recorded())?;
    let writer = Writer::new(folder, &identity, twin.layout())?;
    let mut bytes = identity.len() as u64;
    if let Some(codebook) = &scene.link.codebook {
        bytes += writer.put_codebook(codebook.text())?;
    }
    bytes += writer.put_site(&gps::text([scene.site.latitude, scene.site.longitude]))?;
    let made = pool(threads)?.install(|| Making::new(&twin, &writer, progress).run())?;
    let rows: Vec<IndexRow> = made.plan.iter().map(Planned::index_row).collect();
    bytes += made.bytes + writer.finish("recording", &rows)?;
    let report =
        Report { bytes, scene: hex(&identity), seconds: begun.elapsed().as_secs_f64(), ..made.report(scene) };
    Ok(report)
}

/// SHA-256, hexadecimal.
fn hex(text: &str) -> String {
    sha2::Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As many threads as asked for, for this work alone.
pub(crate) fn pool(threads: Option<usize>) -> Result<rayon::ThreadPool, SimulateError> {
    Ok(rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0)).build()?)
}

/// A row, before its files are made.
#[derive(Debug)]
struct Planned {
    at: Instance,
    captures: Captures,
    links: Vec<Option<LinkState>>,
    time_us: u64,
    names: Names,
}

impl Planned {
    fn index_row(&self) -> IndexRow {
        let first = self.links.first().and_then(Option::as_ref).filter(|_| self.captures.link.is_some());
        IndexRow {
            sequence: self.at.sequence,
            time_us: self.time_us,
            best: first.map(LinkState::best),
            names: self.names.clone(),
        }
    }

    fn is_blocked(&self, ue: usize) -> bool {
        self.links.get(ue).and_then(Option::as_ref).is_some_and(|link| link.is_blocked)
    }
}

/// A recording that is being made.
struct Making<'a> {
    twin: &'a Twin<'a>,
    writer: &'a Writer,
    progress: Progress<'a>,
    done: AtomicUsize,
}

/// A recording that was made.
struct Made {
    plan: Vec<Planned>,
    found: usize,
    files: usize,
    bytes: u64,
}

impl<'a> Making<'a> {
    const fn new(twin: &'a Twin<'a>, writer: &'a Writer, progress: Progress<'a>) -> Self {
        Self { twin, writer, progress, done: AtomicUsize::new(0) }
    }

    fn run(&self) -> Result<Made, SimulateError> {
        let plan = self.plan()?;
        let (mut bytes, mut found) = (0, 0);
        let background = self.twin.background();
        let next = next_blockages(self.twin.scene, &plan);
        let numbered: Vec<(usize, &Planned)> = plan.iter().enumerate().collect();
        let mut truth = self.writer.stream("truth.jsonl")?;
        // The truth of a row is a part of its work; some rows at a time, for there can be many.
        for rows in numbered.chunks(ROWS) {
            let one = |&(number, planned): &(usize, &Planned)| {
                let next = next.get(number).map_or(&[][..], Vec::as_slice);
                self.row(number, planned, next, &background, plan.len())
            };
            let made: Result<Vec<(u64, bool, String)>, SimulateError> = rows.par_iter().map(one).collect();
            for (size, was_there, line) in made? {
                bytes += size;
                found += usize::from(was_there);
                truth.put(line.as_bytes())?;
            }
        }
        bytes += truth.finish()?;
        let copies = usize::from(self.twin.scene.link.codebook.is_some());
        let files = plan.iter().map(|planned| planned.names.count()).sum::<usize>() + 4 + copies;
        Ok(Made { plan, found, files, bytes })
    }

    /// Rows with their links: what is known before anything is drawn.
    fn plan(&self) -> Result<Vec<Planned>, SimulateError> {
        let twin = self.twin;
        let one = |(row, &at): (usize, &Instance)| {
            if !(self.progress)(0, 0) {
                return Err(SimulateError::Stopped);
            }
            let captures = plan::captures(twin.scene, at);
            let time_us = time_us(twin.scene, at);
            let stamp = |clock: &Clock, capture: Option<f64>| {
                let base = twin.seconds(at);
                let own =
                    |seconds: f64| time_us.saturating_add_signed(((seconds - base) * 1e6).round() as i64);
                capture.map(|seconds| (!clock.is_exact()).then(|| own(seconds)))
            };
            let timing = &twin.scene.timing;
            let stamps = Stamps {
                camera: stamp(&timing.camera, captures.camera),
                lidar: stamp(&timing.lidar, captures.lidar),
                radar: stamp(&timing.radar, captures.radar),
                link: stamp(&timing.link, captures.link),
                position: stamp(&timing.position, captures.position),
            };
            let links = twin.links(at, captures.link.unwrap_or_else(|| twin.seconds(at)));
            let present: Vec<bool> = links.iter().map(Option::is_some).collect();
            let names = Names::new(row, &stamps, &present, twin.layout());
            Ok(Planned { at, captures, links, time_us, names })
        };
        plan::rows(twin.scene).par_iter().enumerate().map(one).collect()
    }

    /// Makes the files of a row, unless they are there; returns their size, whether they were, and the line of its truth.
    fn row(
        &self,
        number: usize,
        planned: &Planned,
        next: &[Option<f64>],
        background: &Background,
        all: usize,
    ) -> Result<(u64, bool, String), SimulateError> {
        if !(self.progress)(self.done.load(Ordering::Relaxed), all) {
            return Err(SimulateError::Stopped);
        }
        let found = self.writer.found(&planned.names);
        let size = match found {
            Some(size) => size,
            None => self.writer.put_row(&planned.names, &self.files(planned, background)?)?,
        };
        let line = self.truth(number, planned, next, background);
        self.done.fetch_add(1, Ordering::Relaxed);
        Ok((size, found.is_some(), line))
    }

    fn files(&self, planned: &Planned, background: &Background) -> Result<Files, SimulateError> {
        let (twin, at, captures) = (self.twin, planned.at, &planned.captures);
        let caster = |seconds: f64| twin.world.at(twin.scene, at.sequence, seconds);
        let of_ue = |(ue, link): (usize, &Option<LinkState>)| {
            let power = link.as_ref().filter(|_| captures.link.is_some());
            let text = |link: &LinkState| {
                link.power.iter().map(|power| format!("{power:.18e}\n")).collect::<String>()
            };
            let position = captures.position.and_then(|seconds| twin.position(at, seconds, ue));
            UeFiles {
                power: power.map(|link| text(link).into_bytes()),
                position: position.map(|position| gps::text(position).into_bytes()),
                is_blocked: planned.is_blocked(ue),
            }
        };
        Ok(Files {
            camera: captures.camera.map(|at_s| twin.camera(at, &caster(at_s), background)).transpose()?,
            lidar: captures.lidar.map(|at_s| twin.lidar(at, &caster(at_s))),
            radar: captures.radar.map(|at_s| twin.radar(at, &caster(at_s))),
            ues: planned.links.iter().enumerate().map(of_ue).collect(),
        })
    }

    /// The line of a row in `truth.jsonl`.
    fn truth(
        &self,
        number: usize,
        planned: &Planned,
        next: &[Option<f64>],
        background: &Background,
    ) -> String {
        let row = truth::Row {
            number,
            at: planned.at,
            captures: planned.captures,
            links: &planned.links,
            next_blockage_s: next,
        };
        let line = truth::line(self.twin.scene, &self.twin.world, background, &row);
        // Numbers and names: there is nothing that JSON cannot say.
        serde_json::to_string(&line).unwrap_or_default() + "\n"
    }
}

/// Per row and UE the time to the next blocked row of the sequence, seconds, 0 while it is blocked.
fn next_blockages(scene: &Scene, plan: &[Planned]) -> Vec<Vec<Option<f64>>> {
    let ues = scene.served();
    let mut next: Vec<Vec<Option<f64>>> = vec![vec![None; ues]; plan.len()];
    let mut coming: Vec<Option<f64>> = vec![None; ues];
    let mut sequence = usize::MAX;
    for (planned, out) in plan.iter().zip(&mut next).rev() {
        if planned.at.sequence != sequence {
            sequence = planned.at.sequence;
            coming.fill(None);
        }
        let now = planned.at.frame as f64 / scene.rate_hz;
        for (ue, (coming, out)) in coming.iter_mut().zip(out).enumerate() {
            if planned.is_blocked(ue) {
                *coming = Some(now);
            }
            *out = coming.map(|at| ((at - now) * 1e6).round() / 1e6);
        }
    }
    next
}

/// Microseconds since midnight of a row.
fn time_us(scene: &Scene, at: Instance) -> u64 {
    let before: u64 = (0..at.sequence)
        .filter_map(|sequence| scene.traffic(sequence))
        .map(|traffic| (traffic.seconds * 1e6) as u64 + PAUSE_US)
        .sum();
    BEGIN_US + before + (at.frame as f64 / scene.rate_hz * 1e6).round() as u64
}

impl Made {
    fn report(&self, scene: &Scene) -> Report {
        let ues = scene.served();
        let cells = || self.plan.iter().flat_map(|planned| (0..ues).map(move |ue| (planned, ue)));
        let blocked = cells().filter(|(planned, ue)| planned.is_blocked(*ue)).count();
        let begins = |sequence: usize, ue: usize| {
            let rows = self.plan.iter().filter(|planned| planned.at.sequence == sequence);
            let now = rows.map(|planned| planned.is_blocked(ue));
            let before = std::iter::once(false).chain(now.clone());
            before.zip(now).filter(|(before, now)| *now && !before).count()
        };
        let free = self.plan.iter().flat_map(|planned| planned.links.iter().flatten());
        let free = free.filter(|link| !link.is_blocked).map(|link| link.best().0);
        Report {
            rows: self.plan.len(),
            found: self.found,
            files: self.files,
            bytes: self.bytes,
            scene: String::new(),
            blocked_share: blocked as f64 / cells().count().max(1) as f64,
            blockages: (0..scene.sequences())
                .map(|sequence| (0..ues).map(|ue| begins(sequence, ue)).sum())
                .collect(),
            beams: [free.clone().min().unwrap_or(0), free.max().unwrap_or(0)],
            seconds: 0.0,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_has_one_name() {
        let name = |text: &str| {
            let scene = scene::parse(Path::new("scene.toml"), text).unwrap();
            hex(&identity(&scene).unwrap())
        };
        let one = name("seed = 3\nrate_hz = 5.0\n[[sequence]]\nseconds = 1.0\n");
        assert_eq!((one.len(), one.bytes().all(|byte| byte.is_ascii_hexdigit())), (64, true));
        assert_eq!(one, name("# the same\nrate_hz = 5.0\nseed = 3\n[camera]\n[[sequence]]\nseconds = 1.0\n"));
        assert_ne!(one, name("seed = 4\nrate_hz = 5.0\n[[sequence]]\nseconds = 1.0\n"));
        assert_ne!(one, name("seed = 3\nrate_hz = 5.0\n[[sequence]]\nseconds = 1.5\n"));
        // SHA-256 of "abc" (FIPS 180-2, appendix B.1).
        assert_eq!(hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
