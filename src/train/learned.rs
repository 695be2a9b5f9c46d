//! What a run has learned from, beside its checkpoint: how many examples of which scene, and the groups whose rows it has
//! seen, its own and those of the runs that it began with. A group that was seen is never a test again.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use sha2::{Digest, Sha256};

use super::TrainError;
use super::data::DataSet;
use super::data::twins;
use super::trainer::Part;

/// The file's name.
pub const FILE: &str = "data.json";

/// What was learned from one data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// Its name.
    pub name: String,
    /// Of a simulated recording, the SHA-256 of the scene that it was made of.
    pub scene_sha256: Option<String>,
    /// The version of the simulator that made it.
    #[serde(default)]
    pub simulator: Option<u32>,
    /// How many groups it has.
    pub groups: usize,
    /// What its examples are for.
    pub examples: Counts,
    /// Names of the groups that were learned from, or chose.
    #[serde(default)]
    pub seen: BTreeSet<String>,
    /// Marks ([`twins::mark`]) of some of those examples, hexadecimal: by them whoever asks the network about another
    /// recording is told that it has learned from it. The smallest of them all are a fair sample.
    #[serde(default)]
    pub marks: BTreeSet<String>,
}

/// Marks that are kept of a data set.
const MARKS: usize = 256;

/// How many examples are for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Learned from.
    pub train: usize,
    /// Chose.
    pub validation: usize,
    /// Held out.
    pub test: usize,
}

impl Learned {
    fn of(part: &Part) -> Result<Self, TrainError> {
        let Part { data, split, .. } = part;
        let counts =
            Counts { train: split.train.len(), validation: split.validation.len(), test: split.test.len() };
        let mut marks = BTreeSet::new();
        for &number in split.train.iter().chain(&split.validation) {
            marks.insert(twins::mark(data, number)?);
            if marks.len() > MARKS {
                marks.pop_last();
            }
        }
        Ok(Self {
            name: data.name.clone(),
            scene_sha256: data.scene.as_ref().map(|scene| scene.sha256.clone()),
            simulator: data.scene.as_ref().and_then(|scene| scene.simulator),
            groups: data.groups.len(),
            examples: counts,
            seen: groups(part, split.train.iter().chain(&split.validation)),
            marks: marks.into_iter().map(shown).collect(),
        })
    }

    /// Whether it is of the same recordings: of the same scene, or, where there is none, or the simulator is another one,
    /// which tells the same scene by another hash, of the same name.
    fn is_of(&self, part: &Part) -> bool {
        match (&self.scene_sha256, &part.data.scene) {
            (Some(own), Some(other)) if self.simulator == other.simulator => *own == other.sha256,
            (Some(_), Some(_)) => self.name == part.data.name,
            (None, None) => self.name == part.data.name,
            _ => false,
        }
    }

    /// A group of the part's test that was seen: itself, or what it is a part of.
    fn seen_of_test(&self, part: &Part) -> Option<String> {
        let within = |whole: &str, part: &str| {
            part.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        groups(part, part.split.test.iter())
            .into_iter()
            .find(|group| self.seen.iter().any(|seen| within(seen, group) || within(group, seen)))
    }
}

fn groups<'a>(part: &Part, examples: impl Iterator<Item = &'a u32>) -> BTreeSet<String> {
    let group = |&number: &u32| {
        let example = part.data.examples.get(number as usize)?;
        part.data.groups.get(example.group as usize)
    };
    let numbers: BTreeSet<&String> = examples.filter_map(group).collect();
    numbers.into_iter().cloned().collect()
}

/// What the run in a folder has learned from; nothing where it did not say.
///
/// # Errors
/// When the file is broken.
pub fn read(run: &Path) -> Result<Vec<Learned>, TrainError> {
    let file = run.join(FILE);
    if !file.is_file() {
        return Ok(Vec::new());
    }
    let text = std::fs::read(&file).map_err(|source| TrainError::Io { file: file.clone(), source })?;
    serde_json::from_slice(&text)
        .map_err(|error| TrainError::State { file: Some(file), reason: error.to_string() })
}

/// Says in the folder of a run what it learns from, after what it began with.
///
/// # Errors
/// When the file cannot be written, or a reading of the data looked up.
pub fn write(run: &Path, parts: &[Part], before: &[Learned]) -> Result<(), TrainError> {
    let mut all: Vec<Learned> = parts.iter().map(Learned::of).collect::<Result<_, _>>()?;
    for earlier in before {
        let same = all.iter_mut().zip(parts).find(|(_, part)| earlier.is_of(part));
        match same {
            Some((learned, _)) => {
                learned.seen.extend(earlier.seen.iter().cloned());
                learned.marks.extend(earlier.marks.iter().cloned());
            }
            None => all.push(earlier.clone()),
        }
    }
    let file = run.join(FILE);
    let text = serde_json::to_vec_pretty(&all).unwrap_or_default();
    std::fs::write(&file, text).map_err(|source| TrainError::Io { file, source })
}

fn shown(mark: u64) -> String {
    format!("{mark:016x}")
}

/// Of the examples that a run has learned from and kept the marks of, the share that is among `examples`; `None` where it kept
/// none.
///
/// # Errors
/// When a reading of the data cannot be looked up.
pub fn repeated(learned: &[Learned], data: &DataSet, examples: &[u32]) -> Result<Option<f64>, TrainError> {
    let marks: BTreeSet<&String> = learned.iter().flat_map(|learned| &learned.marks).collect();
    if marks.is_empty() {
        return Ok(None);
    }
    let mut asked = BTreeSet::new();
    for &number in examples {
        asked.insert(shown(twins::mark(data, number)?));
    }
    let found = marks.iter().filter(|mark| asked.contains(**mark)).count();
    Ok(Some(found as f64 / marks.len() as f64))
}

/// Of all that is learned from, chooses and is asked, a hash: a run goes on with the same alone.
#[must_use]
pub fn hash(parts: &[Part]) -> String {
    let mut hash = Sha256::new();
    for Part { data, split, tasks } in parts {
        let DataSet { name, shape, groups, examples, reports, .. } = data;
        hash.update(format!("{name} {shape:?} {tasks:?} {groups:?} {split:?}"));
        for example in examples {
            hash.update(format!("{} {} {:?} {:?}", example.group, example.link, example.time, example.truth));
            for place in &example.places {
                let age = place.map(|place| place.age_s.to_bits());
                hash.update(age.unwrap_or(u32::MAX).to_le_bytes());
            }
        }
        for power in reports.iter().flat_map(|report| &report.linear) {
            hash.update(power.to_bits().to_le_bytes());
        }
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Refuses a test that asks about what was seen before.
///
/// # Errors
/// [`TrainError::Data`] names the group and the run.
pub fn check(run: &Path, before: &[Learned], parts: &[Part]) -> Result<(), TrainError> {
    for part in parts {
        let same = before.iter().filter(|earlier| earlier.is_of(part));
        if let Some(group) = same.filter_map(|earlier| earlier.seen_of_test(part)).next() {
            return Err(TrainError::Data(format!(
                "from: {} has learned from `{group}` of `{}`, which is a test here: allowed are runs that never saw it",
                run.display(),
                part.data.name
            )));
        }
    }
    Ok(())
}
