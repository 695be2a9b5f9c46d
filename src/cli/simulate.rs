//! `simulate SCENE -o DIR`: makes a recording of a street that does not exist.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Failure, Format, Outcome, shutdown, text};
use crate::simulate::{self, Report, Scene, SimulateError, preview, scene};

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Scene file (TOML)
    scene: PathBuf,
    /// Folder of the recording, new or empty
    #[arg(short, long, value_name = "DIR", required_unless_present = "preview")]
    output: Option<PathBuf>,
    /// Draw one picture of what camera, radar, LiDAR and link see (PNG)
    #[arg(long, value_name = "FILE")]
    preview: Option<PathBuf>,
    /// Threads; the result does not depend on them [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Seed in place of the scene's
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

pub(super) fn run(arguments: &Arguments, format: Format) -> Result<Outcome, Failure> {
    let mut scene = scene::load(&arguments.scene).map_err(Failure::usage)?;
    scene.seed = arguments.seed.unwrap_or(scene.seed);
    let threads = arguments.threads.map(usize::from);
    if let Some(folder) = &arguments.output {
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = stopped.clone();
        shutdown::on_signal(move || stop.store(true, Ordering::Relaxed)).map_err(Failure::failed)?;
        let report = make(&scene, folder, threads, &stopped)?;
        match format {
            Format::Json => text::json(&report)?,
            Format::Text => show(&report, folder),
        }
    }
    if let Some(file) = &arguments.preview {
        preview::draw(&scene, file, threads).map_err(Failure::failed)?;
        text::progress(format!("drew {}", file.display()));
    }
    Ok(Outcome::Done)
}

/// Makes a recording, with a progress bar, until `stopped`.
pub(super) fn make(
    scene: &Scene,
    folder: &Path,
    threads: Option<usize>,
    stopped: &AtomicBool,
) -> Result<Report, Failure> {
    let progress = Progress::new();
    let going = |done, all| {
        progress.show(done, all);
        !stopped.load(Ordering::Relaxed)
    };
    let made = simulate::make(scene, folder, &going, threads);
    drop(progress);
    made.map_err(|error| match error {
        SimulateError::NotEmpty { .. } | SimulateError::NoName { .. } => Failure::usage(error),
        _ => Failure::failed(error),
    })
}

fn show(report: &Report, folder: &Path) {
    let blockages: Vec<String> = report.blockages.iter().map(usize::to_string).collect();
    let megabytes = report.bytes as f64 / 1e6;
    let rate = report.rows as f64 / report.seconds;
    text::result(format!("recording     {}", folder.display()));
    text::result(format!("rows          {} in {} files, {megabytes:.0} MB", report.rows, report.files));
    text::result(format!(
        "blocked       {:.1} % of the rows; blockages per sequence: {}",
        100.0 * report.blocked_share,
        blockages.join(", ")
    ));
    text::result(format!("best beams    {} to {}", report.beams[0], report.beams[1]));
    text::result(format!("took          {:.1} s, {rate:.1} frames/s", report.seconds));
}

/// A bar on a terminal, a line every five seconds elsewhere.
struct Progress {
    bar: indicatif::ProgressBar,
    last_line: Mutex<Instant>,
}

impl Progress {
    fn new() -> Self {
        Self { bar: indicatif::ProgressBar::new(0), last_line: Mutex::new(Instant::now()) }
    }

    fn show(&self, done: usize, all: usize) {
        if !self.bar.is_hidden() {
            self.bar.set_length(all as u64);
            self.bar.set_position(done as u64);
            return;
        }
        let mut last_line = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if last_line.elapsed() >= Duration::from_secs(5) {
            *last_line = Instant::now();
            text::progress(format!("made {done} of {all} rows"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
