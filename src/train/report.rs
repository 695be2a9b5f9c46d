//! Reports: a run's training curves and what its network, and others beside it, are worth, as a page to look at.
//!
//! ```text
//!  RUN/recipe.toml ──▶ what was trained ┐
//!  RUN/log.jsonl   ──▶ training curves  ├─▶ page ──▶ one HTML file, and Markdown with its plots in a folder
//!  EVAL.json …     ──▶ figures          ┘
//! ```
//!
//! The HTML file stands alone: plots are inside, nothing is fetched, no script runs. An accuracy never stands alone: the
//! simple predictors that were scored on the same rows are beside it.

use std::path::{Path, PathBuf};

use crate::config::ConfigError;
use crate::train::TrainError;
use crate::train::data::mmfi::{Held, MmFi};
use crate::train::learned::{self, Learned};
use crate::train::recipe::{self, By, DataEntry, Recipe, Use};
use crate::train::trainer::{LOG, MODEL, RECIPE};

mod comparison;
mod detail;
pub mod evaluation;
pub mod log;
mod page;
mod plot;
mod training;

pub use evaluation::{Evaluation, Measured, VERSION};
use page::{Block, Page, Table};

/// A report that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file that cannot be read or written.
    #[error("{}: {source}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The folder is not that of a run.
    #[error("{}: found no {missing}, allowed is the folder of a run, with recipe.toml in it", folder.display())]
    NoRun {
        /// The folder.
        folder: PathBuf,
        /// What is not there.
        missing: &'static str,
    },
    /// The recipe of the run.
    #[error(transparent)]
    Recipe(#[from] ConfigError),
    /// What the run has learned from.
    #[error(transparent)]
    Learned(#[from] TrainError),
    /// A line of the log.
    #[error("{}:{line}: {reason}", file.display())]
    Log {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was found and what is allowed.
        reason: String,
    },
    /// A file that is no evaluation, or one of another version.
    #[error("{}: {reason}", file.display())]
    Evaluation {
        /// The file.
        file: PathBuf,
        /// What was found and what is allowed.
        reason: String,
    },
    /// A plot that cannot be drawn.
    #[error("plot `{title}`: {reason}")]
    Plot {
        /// Its title.
        title: String,
        /// Why.
        reason: String,
    },
}

/// A report, not written yet.
#[derive(Debug)]
pub struct Report {
    page: Page,
}

impl Report {
    /// Reads a run's folder and evaluations, and draws what they say.
    ///
    /// # Errors
    /// [`ReportError`] when a file is missing, broken or of another version, or a plot cannot be drawn.
    pub fn of(run: &Path, evaluations: &[PathBuf]) -> Result<Self, ReportError> {
        if !run.join(RECIPE).is_file() {
            return Err(ReportError::NoRun { folder: run.to_owned(), missing: RECIPE });
        }
        let recipe = recipe::load(&run.join(RECIPE))?;
        // A network may be shipped without it.
        let log = run.join(LOG);
        let training = if log.is_file() { Some(log::load(&log)?) } else { None };
        let learned = learned::read(run)?;
        let mut read = Vec::with_capacity(evaluations.len());
        for file in evaluations {
            read.push((file.as_path(), evaluation::load(file)?));
        }
        let named = named(&read);
        let mut blocks = vec![Block::Table(summary(&recipe, &learned))];
        match training {
            Some(training) => blocks.extend(training::blocks(&training)?),
            None => blocks.push(Block::Text(format!("No {LOG} lies here: how it was trained is not shown."))),
        }
        if named.is_empty() {
            blocks.push(Block::Text(format!(
                "No evaluation was named. `mmsense eval {} -o FILE` writes one.",
                run.join(MODEL).display()
            )));
        } else {
            blocks.extend(comparison::blocks(&comparison::columns(&named))?);
            for (name, evaluation) in &named {
                blocks.extend(detail::blocks(name, evaluation)?);
            }
        }
        Ok(Self { page: Page { title: format!("MMSense: {}", recipe.name), blocks } })
    }

    /// Writes the HTML file, and beside it Markdown of the same name with its plots in a folder of that name. Gives the
    /// Markdown file.
    ///
    /// # Errors
    /// [`ReportError`] when one cannot be written.
    pub fn write(&self, html: &Path) -> Result<PathBuf, ReportError> {
        let put = |file: &Path, text: &str| {
            std::fs::write(file, text).map_err(|source| ReportError::Io { file: file.to_owned(), source })
        };
        put(html, &self.page.html())?;
        let folder = html.with_extension("");
        std::fs::create_dir_all(&folder)
            .map_err(|source| ReportError::Io { file: folder.clone(), source })?;
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (markdown, plots) = self.page.markdown(&name);
        for (name, svg) in plots {
            put(&folder.join(name), &svg)?;
        }
        let file = html.with_extension("md");
        put(&file, &markdown)?;
        Ok(file)
    }
}

/// Evaluations by the name of their network; of equal names, with that of their file, or its whole path where those are
/// equal, too.
fn named(read: &[(&Path, Evaluation)]) -> Vec<(String, Evaluation)> {
    let name = |(file, evaluation): &(&Path, Evaluation)| {
        let same = || read.iter().filter(|(_, other)| other.network == evaluation.network);
        let of_stem = same().filter(|(other, _)| other.file_stem() == file.file_stem()).count();
        match file.file_stem() {
            _ if same().count() < 2 => evaluation.network.clone(),
            Some(stem) if of_stem < 2 => format!("{} ({})", evaluation.network, stem.to_string_lossy()),
            _ => format!("{} ({})", evaluation.network, file.display()),
        }
    };
    read.iter().map(|own| (name(own), own.1.clone())).collect()
}

/// What was trained on what.
fn summary(recipe: &Recipe, learned: &[Learned]) -> Table {
    let mut table = Table::new("Recipe", &["what", "value"]);
    let mut add = |what: &str, value: String| table.push_text(&[what.to_owned(), value]);
    add("recipe", recipe.name.clone());
    let network = recipe.network.file_name().map(|name| name.to_string_lossy().into_owned());
    add("network", network.unwrap_or_default());
    let tasks: Vec<&str> = recipe.tasks.iter().map(|task| task.name()).collect();
    add("tasks", if tasks.is_empty() { "all of the network".to_owned() } else { tasks.join(", ") });
    add("seed", recipe.seed.to_string());
    for stage in &recipe.stage {
        let slots = stage.slots.map_or(String::new(), |slots| format!(", window of {slots}"));
        let what = format!("stage `{}`", stage.name);
        add(&what, format!("{} epochs at {} × the learning rate{slots}", stage.epochs, stage.rate));
    }
    add("learning rate", recipe.optimiser.rate.to_string());
    add("rows per batch", recipe.batch.rows.to_string());
    for entry in &recipe.data {
        let source = entry.scene.as_ref().or(entry.recording.as_ref());
        let source = source.and_then(|path| path.file_name()).map(|name| name.to_string_lossy());
        let source = source.map_or(String::new(), |name| format!(" ({name})"));
        add(&format!("data `{}`", entry.name), format!("{}{source}", told(entry)));
    }
    // Those of a run that it began with, too.
    for Learned { name, scene_sha256, simulator, .. } in learned {
        if let Some(hash) = scene_sha256 {
            let version =
                simulator.map_or(String::new(), |version| format!(" (version {version} of the simulator)"));
            add(&format!("scene of `{name}`, SHA-256"), format!("{hash}{version}"));
        }
    }
    table
}

/// What a data set is for, and how it is split.
fn told(entry: &DataEntry) -> String {
    let split = match (entry.used, entry.mmfi, entry.split) {
        (Use::Train, ..) => return "training".to_owned(),
        (Use::Validation, ..) => return "validation".to_owned(),
        (Use::Test, ..) => return "test".to_owned(),
        (Use::Split, Some(MmFi { protocol, split }), _) => {
            let held = match split {
                Held::Random => "of each activity eight subjects",
                Held::CrossSubject => "every fifth subject",
                Held::CrossScene => "the fourth environment",
            };
            format!("protocol {protocol} of MM-Fi, the test is {held}")
        }
        (Use::Split, None, By::Sequence) => "split by groups".to_owned(),
        (Use::Split, None, By::Random) => "split by single rows, at random".to_owned(),
    };
    let few = entry.few_shot.map(|share| format!(", of which {share} of each sequence is learned from"));
    split + &few.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_is_told_as_it_is() {
        let entry = |more: &str| toml::from_str::<DataEntry>(&format!("name = \"a\"\n{more}")).unwrap();
        assert_eq!(told(&entry("")), "split by groups");
        assert_eq!(told(&entry("use = \"test\"")), "test");
        assert_eq!(told(&entry("split = \"random\"")), "split by single rows, at random");
        let few = entry("mmfi = { split = \"cross-subject\" }\nfew_shot = 0.1");
        let said = "protocol 3 of MM-Fi, the test is every fifth subject, of which 0.1 of each sequence is learned from";
        assert_eq!(told(&few), said);
    }

    #[test]
    fn networks_of_one_name_are_told_apart_by_their_files() {
        let evaluation = |network: &str| Evaluation {
            version: VERSION,
            network: network.to_owned(),
            checkpoint: PathBuf::new(),
            parameters: 1,
            results: Vec::new(),
        };
        let read = [
            (Path::new("runs/a.json"), evaluation("edge")),
            (Path::new("b.json"), evaluation("edge")),
            (Path::new("c.json"), evaluation("mlp")),
        ];
        let names: Vec<String> = named(&read).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["edge (a)", "edge (b)", "mlp"]);
    }
}
