//! What a run has learned from, beside its checkpoint: how many examples of which scene, and the groups whose rows it has
//! seen, its own and those of the runs that it began with. A group that was seen is never a test again.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use sha2::{Digest, Sha256};

use super::TrainError;
use super::data::{DataSet, Example, Part, twins};

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
    /// By them whoever asks the network about another recording is told that it has learned from it; `None` of a run that
    /// kept none.
    #[serde(default)]
    pub marks: Option<Marks>,
}

/// Marks ([`twins::marks`]) of examples that were learned from, or chose: the smallest ones, which are a fair sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The largest mark that would have been kept, hexadecimal as all.
    pub to: String,
    /// Those up to it.
    pub of: BTreeSet<String>,
}

/// Marks that are kept of a data set.
const MARKS: usize = 4096;

impl Marks {
    fn of(part: &Part) -> Result<Self, TrainError> {
        let mut marks = BTreeSet::new();
        let mut to = u64::MAX;
        for &number in part.split.train.iter().chain(&part.split.validation) {
            marks.extend(twins::marks(&part.data, number)?);
            while marks.len() > MARKS {
                marks.pop_last();
                to = marks.last().copied().unwrap_or_default();
            }
        }
        Ok(Self { to: shown(to), of: marks.into_iter().map(shown).collect() })
    }

    /// Those of two runs, as far as both kept all.
    fn join(&mut self, other: &Self) {
        self.to = self.to.clone().min(other.to.clone());
        self.of.extend(other.of.iter().cloned());
        self.of.retain(|mark| *mark <= self.to);
    }

    /// The share of what is asked, by its marks, that is among these; `None` where none of it could be.
    fn share(&self, asked: &BTreeSet<String>) -> Option<f64> {
        let (mut all, mut found) = (0usize, 0usize);
        for mark in asked.iter().filter(|mark| **mark <= self.to) {
            all += 1;
            found += usize::from(self.of.contains(mark));
        }
        (all > 0).then(|| found as f64 / all as f64)
    }
}

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
        Ok(Self {
            name: data.name.clone(),
            scene_sha256: data.scene.as_ref().map(|scene| scene.sha256.clone()),
            simulator: data.scene.as_ref().and_then(|scene| scene.simulator),
            groups: data.groups.len(),
            examples: counts,
            seen: groups(part, split.train.iter().chain(&split.validation)),
            marks: Some(Marks::of(part)?),
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
                learned.marks = match (learned.marks.take(), &earlier.marks) {
                    (Some(mut own), Some(earlier)) => {
                        own.join(earlier);
                        Some(own)
                    }
                    // Of what an earlier run saw nothing is known.
                    _ => None,
                };
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

/// The share of `examples` that a run has learned from, as the marks that it kept tell; `None` where they do not. Asked about are
/// the examples that are marked by what is true of them where `by_truth` says so: their readings are not those of training.
///
/// # Errors
/// When a reading of the data cannot be looked up.
pub fn repeated(
    learned: &[Learned],
    data: &DataSet,
    examples: &[u32],
    by_truth: bool,
) -> Result<Option<f64>, TrainError> {
    let kept: Option<Vec<&Marks>> = learned.iter().map(|learned| learned.marks.as_ref()).collect();
    let Some(kept) = kept.filter(|kept| !kept.is_empty()) else { return Ok(None) };
    let mut asked = BTreeSet::new();
    for &number in examples.iter().filter(|&&number| !by_truth || twins::is_told_by_truth(data, number)) {
        asked.extend(twins::marks(data, number)?.into_iter().map(shown));
    }
    Ok(kept.into_iter().filter_map(|marks| marks.share(&asked)).reduce(f64::max))
}

/// A hash of what is learned from, chooses and is asked, with which a run goes on alone: the split, what is true, and which
/// readings stand where; not what is in images and clouds.
#[must_use]
pub fn hash(parts: &[Part]) -> String {
    let mut hash = Sha256::new();
    for Part { data, split, tasks } in parts {
        let DataSet { name, shape, groups, examples, reports, .. } = data;
        hash.update(format!("{name} {shape:?} {tasks:?} {groups:?} {split:?}"));
        for example in examples {
            let Example { group, link, time, past, truth, .. } = example;
            hash.update(format!("{group} {link} {time:?} {past:?} {truth:?}"));
            for place in &example.places {
                let place = place.map(|place| (place.reading, place.age_s.to_bits()));
                let (reading, age) = place.unwrap_or((u32::MAX, u32::MAX));
                hash.update([reading.to_le_bytes(), age.to_le_bytes()].concat());
            }
        }
        for power in reports.iter().flat_map(|report| &report.linear) {
            hash.update(power.to_bits().to_le_bytes());
        }
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Refuses a test that asks about what was seen before: about its rows, whatever the data set was called, as marks tell; and
/// about its groups, of the same scene, of people, who are the same in other rows, and of a run that kept no marks.
///
/// # Errors
/// [`TrainError::Data`] names the group, or the share of rows, and the run.
pub fn check(run: &Path, before: &[Learned], parts: &[Part]) -> Result<(), TrainError> {
    for part in parts {
        if let Some(share) =
            repeated(before, &part.data, &part.split.test, false)?.filter(|share| *share > 0.0)
        {
            return Err(TrainError::Data(format!(
                "from: {} has learned from {:.1} % of the rows of `{}` that are a test here: allowed are runs that never \
                 saw them",
                run.display(),
                100.0 * share,
                part.data.name
            )));
        }
        let same = before.iter().filter(|earlier| {
            let by_name = earlier.scene_sha256.is_none() && part.data.subjects.is_empty();
            earlier.is_of(part) && !(by_name && earlier.marks.is_some())
        });
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
