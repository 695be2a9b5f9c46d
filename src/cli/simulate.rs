//! `simulate SCENE -o DIR`: makes a recording of a street, or of people in rooms, that do not exist.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::progress::Progress;
use super::{Failure, Format, Outcome, shutdown, text};
use crate::model::Input;
use crate::simulate::room::{self, RoomScene};
use crate::simulate::{self, Report, Scene, SimulateError, mmfi, preview, scene};

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Scene file (TOML)
    scene: PathBuf,
    /// Folder of the recording, new or empty
    #[arg(short, long, value_name = "DIR", required_unless_present = "preview")]
    output: Option<PathBuf>,
    /// Layout of the recording: a street as DeepSense 6G has it, or people in rooms as MM-Fi has them
    #[arg(long, value_enum, default_value_t = Layout::Deepsense)]
    layout: Layout,
    /// Draw what camera, radar, LiDAR and link see: one picture (.png), or a film of a sequence (.gif)
    #[arg(long, value_name = "FILE", value_parser = picture)]
    preview: Option<PathBuf>,
    /// Sequence that is drawn, from 0
    #[arg(long, value_name = "N", default_value_t = 0, requires = "preview")]
    sequence: usize,
    /// Threads; the result does not depend on them [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Seed in place of the scene's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Make each sequence of a street so many times over, each time with other traffic
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: u16,
    /// Inputs of a street that are left out: camera, radar, lidar, link, position, comma by comma
    #[arg(long, value_name = "INPUTS", value_delimiter = ',', value_parser = input)]
    without: Vec<Input>,
}

/// An input by its name.
fn input(name: &str) -> Result<Input, String> {
    let found = Input::ALL.into_iter().find(|input| input.name() == name);
    found.ok_or_else(|| {
        let names = Input::ALL.map(Input::name);
        format!("found `{name}`, allowed are {}", names.join(", "))
    })
}

/// A file that can be drawn.
fn picture(file: &str) -> Result<PathBuf, String> {
    let extension =
        Path::new(file).extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    match extension.as_deref() {
        Some("png" | "gif") => Ok(file.into()),
        found => {
            Err(format!("found the extension `{}`, allowed are `png` and `gif`", found.unwrap_or_default()))
        }
    }
}

/// How a recording lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Layout {
    /// Street scenes.
    Deepsense,
    /// Room scenes.
    Mmfi,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<Outcome, Failure> {
    let stopped = Arc::new(AtomicBool::new(false));
    let stop = stopped.clone();
    shutdown::on_signal(move || stop.store(true, Ordering::Relaxed)).map_err(Failure::failed)?;
    match arguments.layout {
        Layout::Deepsense => street(arguments, format, &stopped),
        Layout::Mmfi => rooms(arguments, format, &stopped),
    }
}

fn street(arguments: &Arguments, format: Format, stopped: &AtomicBool) -> Result<Outcome, Failure> {
    let is_of_rooms = || std::fs::read_to_string(&arguments.scene).is_ok_and(|text| room::is_one(&text));
    let mut scene = scene::load(&arguments.scene).map_err(|error| {
        if !is_of_rooms() {
            return Failure::usage(error);
        }
        let file = arguments.scene.display();
        Failure::Usage(format!("{file}: people in rooms: found --layout deepsense, allowed is mmfi"))
    })?;
    scene.seed = arguments.seed.unwrap_or(scene.seed);
    scene
        .repeat(arguments.repeat.into())
        .map_err(|problem| Failure::Usage(format!("{}: {problem}", arguments.scene.display())))?;
    scene.leave_out(&arguments.without);
    check_preview(arguments, scene.sequences())?;
    let threads = arguments.threads.map(usize::from);
    if let Some(folder) = &arguments.output {
        let report = make(&scene, folder, threads, stopped)?;
        match format {
            Format::Json => text::json(&report)?,
            Format::Text => show(&report, folder),
        }
    }
    if let Some(file) = &arguments.preview {
        let sequence = arguments.sequence;
        watched("pictures", stopped, |going| preview::draw(&scene, sequence, file, threads, going))?;
        text::progress(format!("drew {}", file.display()));
    }
    Ok(Outcome::Done)
}

fn rooms(arguments: &Arguments, format: Format, stopped: &AtomicBool) -> Result<Outcome, Failure> {
    let file = arguments.scene.display();
    let mut scene = room::load(&arguments.scene).map_err(|error| match scene::load(&arguments.scene) {
        Ok(_) => Failure::Usage(format!("{file}: a street: found --layout mmfi, allowed is deepsense")),
        Err(_) => Failure::usage(error),
    })?;
    if arguments.repeat != 1 || !arguments.without.is_empty() {
        return Err(Failure::Usage(format!(
            "{file}: people in rooms: found --repeat or --without, allowed for streets alone"
        )));
    }
    scene.seed = arguments.seed.unwrap_or(scene.seed);
    let sequences = mmfi::sequences(&scene);
    check_preview(arguments, sequences.len())?;
    let threads = arguments.threads.map(usize::from);
    if let Some(folder) = &arguments.output {
        let report = make_rooms(&scene, folder, threads, stopped)?;
        show_rooms(&report, folder, format)?;
    }
    if let Some(file) = &arguments.preview {
        let Some(&sequence) = sequences.get(arguments.sequence) else { return Ok(Outcome::Done) };
        watched("pictures", stopped, |going| preview::draw_rooms(&scene, sequence, file, threads, going))?;
        text::progress(format!("drew {}", file.display()));
    }
    Ok(Outcome::Done)
}

/// Whether pictures can be drawn, before a recording is made first.
fn check_preview(arguments: &Arguments, sequences: usize) -> Result<(), Failure> {
    let Some(file) = &arguments.preview else { return Ok(()) };
    let (found, most) = (arguments.sequence, sequences.saturating_sub(1));
    if found > most {
        return Err(Failure::Usage(format!("--sequence: found {found}, allowed is 0 to {most}")));
    }
    let folder = file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Failure::Usage(format!("--preview: {}: its folder is not there", file.display())));
    }
    Ok(())
}

fn show_rooms(report: &mmfi::Report, folder: &Path, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => text::json(report)?,
        Format::Text => {
            let megabytes = report.bytes as f64 / 1e6;
            text::result(format!("recording     {}", folder.display()));
            text::result(format!(
                "frames        {} of {} sequences and {} subjects, {} files, {megabytes:.0} MB",
                report.frames, report.sequences, report.subjects, report.files
            ));
            if report.found > 0 {
                text::result(format!("made before   {} of them", report.found));
            }
            text::result(format!("scene         {}", report.scene));
            text::result(format!(
                "points        radar {:.1} per frame ({} frames without any), LiDAR {:.0}",
                report.radar_points, report.empty_radar_frames, report.lidar_points
            ));
            text::result(took(report.seconds, report.frames - report.found));
        }
    }
    Ok(())
}

/// Does work with a progress bar, until `stopped`.
fn watched<T>(
    what: &'static str,
    stopped: &AtomicBool,
    work: impl FnOnce(simulate::Progress<'_>) -> Result<T, SimulateError>,
) -> Result<T, Failure> {
    let progress = Progress::new();
    let going = |done, all| {
        // 0 of 0: it is not known yet how many.
        if all > 0 {
            progress.show(done as u64, all as u64, || format!("made {done} of {all} {what}"));
        }
        !stopped.load(Ordering::Relaxed)
    };
    let made = work(&going);
    drop(progress);
    made.map_err(|error| match error {
        SimulateError::NotEmpty { .. } | SimulateError::NoName { .. } | SimulateError::Stays { .. } => {
            Failure::usage(error)
        }
        _ => Failure::failed(error),
    })
}

/// Makes a recording, with a progress bar, until `stopped`.
pub(super) fn make(
    scene: &Scene,
    folder: &Path,
    threads: Option<usize>,
    stopped: &AtomicBool,
) -> Result<Report, Failure> {
    watched("rows", stopped, |going| simulate::make(scene, folder, going, threads))
}

/// Makes a recording of people in rooms, with a progress bar, until `stopped`.
pub(super) fn make_rooms(
    scene: &RoomScene,
    folder: &Path,
    threads: Option<usize>,
    stopped: &AtomicBool,
) -> Result<mmfi::Report, Failure> {
    watched("frames", stopped, |going| mmfi::make(scene, folder, going, threads))
}

fn show(report: &Report, folder: &Path) {
    let blockages: Vec<String> = report.blockages.iter().map(usize::to_string).collect();
    let megabytes = report.bytes as f64 / 1e6;
    text::result(format!("recording     {}", folder.display()));
    text::result(format!("rows          {} in {} files, {megabytes:.0} MB", report.rows, report.files));
    if report.found > 0 {
        text::result(format!("made before   {} of them", report.found));
    }
    text::result(format!("scene         {}", report.scene));
    text::result(format!(
        "blocked       {:.1} % of the rows; blockages per sequence: {}",
        100.0 * report.blocked_share,
        blockages.join(", ")
    ));
    text::result(format!("best beams    {} to {}", report.beams[0], report.beams[1]));
    text::result(took(report.seconds, report.rows - report.found));
}

/// What was made in which time.
fn took(seconds: f64, made: usize) -> String {
    format!("took          {seconds:.1} s, {:.1} frames/s", made as f64 / seconds)
}
