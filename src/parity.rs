//! Proof against numbers that others computed: every case of a folder of goldens, compared.
//!
//! A folder holds one sub-folder per family, each with safetensors files (weights, inputs, what a reference
//! implementation made of them) and the configuration that goes with them. Nothing is known here of sizes, seeds or
//! counts: they are read from the files. Who made the numbers, and how, stands in the folder's README.
//!
//! | folder | cases | reference |
//! |---|---|---|
//! | `blocks` | attention (Eq. 11), layer norm, losses, Eq. 14, AdamW, clipping | PyTorch |
//! | `metrics` | the measures of beams, blockage, activities, poses | scikit-learn, SciPy |
//! | `radar` | range-angle and range-Doppler maps of a cube | NumPy |
//! | `resnet` | image encoders, with gradients | torchvision, timm |
//! | `point` | neighbours, sampling, Point Transformers, with gradients | PyTorch, two public codes |
//! | `mllama` | the Llama-3.2-Vision text stack, with gradients | transformers |
//! | `peft_lora` | adapters on it, with gradients | PEFT |
//! | `tokenizer` | byte-level BPE | tokenizers |
//!
//! A number that is compared with nothing proves nothing: a tensor of a golden file that was neither an input nor
//! compared is a miss, and so is a file or a folder that no case here knows.

mod blocks;
mod case;
mod golden;
mod lora;
mod metrics;
mod mllama;
mod point;
mod radar;
mod resnet;
mod tokenizer;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use candle_core::Device;
use serde::Serialize;

use case::{Case, CaseError};

/// Largest error of what a network puts out.
const FORWARD: Tolerance = Tolerance::Absolute(5e-5);
/// Largest error of a gradient, as a share of the golden's largest number.
const GRADIENT: Tolerance = Tolerance::Relative(1e-4);
/// The same of a scalar gate.
const GATE_GRADIENT: Tolerance = Tolerance::Relative(1e-3);
/// Indices, token ids, and numbers that are taken as they are.
const EXACT: Tolerance = Tolerance::Absolute(0.0);

/// How far a number may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Tolerance {
    Absolute(f64),
    /// Share of the largest magnitude in the golden tensor.
    Relative(f64),
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Family and file, `blocks/adamw`.
    pub case: String,
    /// What was compared: the golden's name of it.
    pub tensor: String,
    /// Largest difference of any number; none where nothing could be compared, or where a number is not finite.
    pub error: Option<f64>,
    /// Largest difference allowed.
    pub tolerance: Option<f64>,
    /// Whether it is within.
    pub pass: bool,
    /// Why nothing could be compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// All comparisons of a folder.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The folder.
    pub folder: PathBuf,
    /// Where our side was computed: `cpu`, `cuda:N`.
    pub device: String,
    /// Comparisons in the order of folders and files.
    pub rows: Vec<Row>,
}

/// A folder that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ParityError {
    /// It is not there, or no folder.
    #[error("{}: {reason}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// A case panicked: an error of this program.
    #[error("a case panicked")]
    Panic,
}

impl Report {
    /// Comparisons that were not within their tolerance, and what could not be compared.
    pub fn misses(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.pass)
    }
}

/// What every case is given.
#[derive(Clone, Copy, Debug)]
struct Context<'a> {
    /// The folder of all families: some cases need another family's files.
    root: &'a Path,
    device: &'a Device,
}

/// The cases of one folder; the file names are those in it, sorted.
type Family = fn(&mut Files<'_>, Context<'_>) -> Vec<Row>;

const FAMILIES: [(&str, Family); 8] = [
    ("blocks", blocks::run),
    ("metrics", metrics::run),
    ("mllama", mllama::run),
    ("peft_lora", lora::run),
    ("point", point::run),
    ("radar", radar::run),
    ("resnet", resnet::run),
    ("tokenizer", tokenizer::run),
];

/// Files beside the families that hold no case: prose, and the noise of the references themselves.
fn is_known_file(name: &str) -> bool {
    matches!(name, "README.md" | "TENSORS.md")
        || name
            .strip_suffix("_noise.json")
            .is_some_and(|family| FAMILIES.iter().any(|known| known.0 == family))
}

/// The files of a family's folder, of which each case takes its own; what is left over is unknown.
struct Files<'a> {
    family: &'a str,
    folder: PathBuf,
    left: BTreeSet<String>,
}

impl Files<'_> {
    /// Whether the file is there; it is then no longer left over.
    fn take(&mut self, name: &str) -> bool {
        self.left.remove(name)
    }

    /// Names of the files left that end so, without the ending.
    fn stems(&self, ending: &str) -> Vec<String> {
        self.left.iter().filter_map(|name| name.strip_suffix(ending)).map(str::to_owned).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn case<'c>(&self, stem: &str, context: Context<'c>) -> Case<'c> {
        Case::new(format!("{}/{stem}", self.family), context.device)
    }
}

/// Runs every case of a folder.
///
/// # Errors
/// [`ParityError`] when the folder cannot be read. What is wrong within it is a row of the report.
pub fn run(folder: &Path, device: &Device, device_name: &str) -> Result<Report, ParityError> {
    let unreadable = |error: &dyn fmt::Display| ParityError::Folder {
        folder: folder.to_owned(),
        reason: error.to_string(),
    };
    let entries = entries(folder).map_err(|error| unreadable(&error))?;
    // candle's backward pass calls itself once per operation.
    const STACK: usize = 256 << 20;
    let rows = std::thread::scope(|scope| {
        let all = || run_all(folder, &entries, device);
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, all);
        let thread = thread.map_err(|error| unreadable(&error))?;
        thread.join().map_err(|_| ParityError::Panic)
    })?;
    Ok(Report { folder: folder.to_owned(), device: device_name.to_owned(), rows })
}

fn run_all(folder: &Path, entries: &[(String, bool)], device: &Device) -> Vec<Row> {
    let context = Context { root: folder, device };
    let mut rows = Vec::new();
    for (name, is_folder) in entries {
        let family = FAMILIES.iter().find(|(known, _)| *is_folder && known == name);
        match family {
            Some((family, run)) => rows.extend(run_family(family, *run, context)),
            None if !is_folder && is_known_file(name) => {}
            None => rows.push(Row::unknown(name)),
        }
    }
    if rows.is_empty() {
        rows.push(Row::failed("-", "-", "found no case".to_owned()));
    }
    rows
}

fn run_family(family: &str, run: Family, context: Context<'_>) -> Vec<Row> {
    let folder = context.root.join(family);
    let entries = match entries(&folder) {
        Ok(entries) => entries,
        Err(error) => return vec![Row::failed(family, "-", error.to_string())],
    };
    let (folders, files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(_, is_folder)| *is_folder);
    let left = files.into_iter().map(|(name, _)| name).collect();
    let mut files = Files { family, folder, left };
    let mut rows = run(&mut files, context);
    let unknown = files.left.iter().chain(folders.iter().map(|(name, _)| name));
    let unknown: Vec<Row> = unknown.map(|name| Row::unknown(&format!("{family}/{name}"))).collect();
    rows.extend(unknown);
    if rows.is_empty() {
        rows.push(Row::failed(family, "-", "found no case".to_owned()));
    }
    rows
}

/// Names in a folder and whether each is a folder, sorted.
fn entries(folder: &Path) -> std::io::Result<Vec<(String, bool)>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // A link counts as what it leads to.
        entries.push((entry.file_name().to_string_lossy().into_owned(), entry.path().is_dir()));
    }
    entries.sort();
    Ok(entries)
}

impl Row {
    fn failed(case: &str, tensor: &str, reason: String) -> Self {
        let (case, tensor) = (case.to_owned(), tensor.to_owned());
        Self { case, tensor, error: None, tolerance: None, pass: false, reason: Some(reason) }
    }

    fn unknown(case: &str) -> Self {
        Self::failed(case, "-", "no case is known by this name".to_owned())
    }
}

impl fmt::Display for Report {
    /// A table, and a line that sums it up.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Row) -> &str, title: &str| {
            self.rows.iter().map(|row| of(row).chars().count()).chain([title.len()]).max().unwrap_or(0)
        };
        let (case, tensor) = (width(|row| &row.case, "case"), width(|row| &row.tensor, "tensor"));
        writeln!(f, "{:case$}  {:tensor$}  max error  tolerance  pass", "case", "tensor")?;
        for row in &self.rows {
            let number = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |x| format!("{x:.1e}"));
            let (error, tolerance) = (number(row.error), number(row.tolerance));
            let pass = if row.pass { "yes" } else { "NO" };
            write!(f, "{:case$}  {:tensor$}  {error:>9}  {tolerance:>9}  {pass}", row.case, row.tensor)?;
            match &row.reason {
                Some(reason) => writeln!(f, ": {reason}")?,
                None => writeln!(f)?,
            }
        }
        let cases: BTreeSet<&str> = self.rows.iter().map(|row| row.case.as_str()).collect();
        let (compared, missed) = (self.rows.len(), self.misses().count());
        write!(f, "{} cases, {compared} comparisons on {}, {missed} missed", cases.len(), self.device)
    }
}
