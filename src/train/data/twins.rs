//! Rows that are there twice. Recordings are cut and published in pieces, and a row that stands in two of them must not be
//! learned from on one side of a split and asked about on the other, whatever data sets the two sides are of.
//!
//! Two examples are twins when they speak of the same measurement: a report of enough beams is no other one's to the last
//! bit, whatever stands around it. Where none was measured when it is asked about, it is told by the reports before: windows
//! that share a frame are twins, whatever their labels say and however far ahead. Where there is no report at all, they are
//! twins when the same is true of both, and they see the same now.

use std::collections::{BTreeSet, HashSet};

use sha2::{Digest, Sha256};

use super::split::Split;
use super::store::StoreError;
use super::{DataSet, Example, Reading};
use crate::model::MODALITIES;

type Print = [u8; 32];

/// So many different powers are no accident.
const ENOUGH: usize = 16;

/// A data set and what its examples are for.
#[derive(Debug)]
pub struct Divided<'a> {
    /// The data set.
    pub data: &'a DataSet,
    /// What its examples are for.
    pub split: &'a mut Split,
    /// Whether its own rows that follow each other may stand on two sides: among them only what is true now tells a row, else
    /// what is true at any instant that is asked for.
    pub by_rows: bool,
}

/// Leaves out the examples of training and validation that an example of any test repeats, and those of training that one of
/// any validation repeats; says how many those were of each data set.
///
/// # Errors
/// When a reading cannot be looked up.
pub fn leave_out(sets: &mut [Divided<'_>]) -> Result<Vec<usize>, StoreError> {
    let learned = |set: &Divided<'_>| set.split.train.len() + set.split.validation.len();
    let before: Vec<usize> = sets.iter().map(learned).collect();
    let mut others = Others { reports: vec![HashSet::new(); sets.len()], ..Others::default() };
    for (number, set) in sets.iter().enumerate() {
        others.add(number, set, &set.split.test);
    }
    for (number, set) in sets.iter_mut().enumerate() {
        let own = std::mem::take(&mut set.split.validation);
        set.split.validation = others.without(number, set, own)?;
    }
    for (number, set) in sets.iter().enumerate() {
        others.add(number, set, &set.split.validation);
    }
    for (number, set) in sets.iter_mut().enumerate() {
        let own = std::mem::take(&mut set.split.train);
        set.split.train = others.without(number, set, own)?;
    }
    Ok(before.into_iter().zip(sets.iter()).map(|(before, set)| before - learned(set)).collect())
}

/// What no example of another side may be.
#[derive(Default)]
struct Others<'a> {
    /// Of each data set the reports that tell what is true at any instant, and of all those that tell it now.
    reports: Vec<HashSet<Print>>,
    now: HashSet<(usize, Print)>,
    /// Of the examples of which nothing was measured: what is true of them, and which they are.
    truths: HashSet<Print>,
    unmeasured: Vec<(&'a DataSet, u32)>,
}

impl<'a> Others<'a> {
    fn add(&mut self, own: usize, set: &Divided<'a>, examples: &[u32]) {
        for &number in examples {
            let Some(example) = set.data.examples.get(number as usize) else { continue };
            let now = reports(set.data, example, true);
            let reports = reports(set.data, example, false);
            if reports.is_empty() {
                self.truths.insert(truth(set.data, example));
                self.unmeasured.push((set.data, number));
            }
            self.now.extend(now.into_iter().map(|report| (own, report)));
            if let Some(known) = self.reports.get_mut(own) {
                known.extend(reports);
            }
        }
    }

    /// Whether an example of a data set speaks of the same measurement as any of these.
    fn has(&self, own: usize, set: &Divided<'_>, example: &Example) -> bool {
        let now = reports(set.data, example, true);
        let reports = reports(set.data, example, false);
        self.reports.iter().enumerate().any(|(other, known)| {
            if other == own && set.by_rows {
                now.iter().any(|report| self.now.contains(&(own, *report)))
            } else {
                reports.iter().any(|report| known.contains(report))
            }
        })
    }

    /// The examples of `own` that are none of these.
    fn without(&self, own_set: usize, set: &Divided<'_>, own: Vec<u32>) -> Result<Vec<u32>, StoreError> {
        // Readings are large: they are looked up where the truth is the same.
        let mut alike: BTreeSet<Print> = BTreeSet::new();
        let mut kept = Vec::with_capacity(own.len());
        for number in own {
            let Some(example) = set.data.examples.get(number as usize) else { continue };
            if self.has(own_set, set, example) {
                continue;
            }
            kept.push(number);
            if !self.truths.is_empty() && reports(set.data, example, false).is_empty() {
                alike.extend(self.truths.get(&truth(set.data, example)));
            }
        }
        if alike.is_empty() {
            return Ok(kept);
        }
        let is_alike = |data: &DataSet, number: u32| {
            let example = data.examples.get(number as usize);
            example.is_some_and(|example| alike.contains(&truth(data, example)))
        };
        let found = self.unmeasured.iter().filter(|(data, number)| is_alike(data, *number));
        let found: BTreeSet<Print> =
            found.map(|(data, number)| whole(data, *number)).collect::<Result<_, _>>()?;
        let mut others = Vec::with_capacity(kept.len());
        for number in kept {
            let Some(example) = set.data.examples.get(number as usize) else { continue };
            let is_twin = reports(set.data, example, false).is_empty()
                && is_alike(set.data, number)
                && found.contains(&whole(set.data, number)?);
            if !is_twin {
                others.push(number);
            }
        }
        Ok(others)
    }
}

/// What tells an example from all others, in 64 bits: of one that is told by the reports before it, a mark of each.
///
/// # Errors
/// When a reading cannot be looked up.
pub fn marks(data: &DataSet, number: u32) -> Result<Vec<u64>, StoreError> {
    let Some(example) = data.examples.get(number as usize) else { return Ok(Vec::new()) };
    let now = instants(data, example, true);
    let prints = match (now.first(), &example.truth.pose) {
        (Some(report), _) => vec![*report],
        (None, Some(pose)) => vec![Sha256::digest(bytes(pose.iter().flatten().copied())).into()],
        (None, None) => {
            let reports = reports(data, example, false);
            if reports.is_empty() { vec![whole(data, number)?] } else { reports }
        }
    };
    let short = |print: Print| {
        let (first, _) = print.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        u64::from_le_bytes(*first)
    };
    Ok(prints.into_iter().map(short).collect())
}

/// Whether an example's [`marks`] are made of what was measured, or is true of it, alone, whatever its readings were made small
/// to.
#[must_use]
pub fn is_told_by_truth(data: &DataSet, number: u32) -> bool {
    let example = data.examples.get(number as usize);
    example.is_some_and(|example| example.truth.pose.is_some() || !reports(data, example, false).is_empty())
}

/// Prints of the reports that tell an example: what was measured now, or at any instant; where nothing was, what was before.
fn reports(data: &DataSet, example: &Example, now: bool) -> Vec<Print> {
    if example.truth.beams.iter().any(Option::is_some) {
        return instants(data, example, now);
    }
    let before: Vec<Print> = prints(data, example.past.iter().copied()).collect();
    if now && !before.is_empty() {
        // All of them: rows that follow each other share all but one.
        return vec![Sha256::digest(before.concat()).into()];
    }
    before
}

/// Prints of the reports at the instants that are asked about, or of the one of now.
fn instants(data: &DataSet, example: &Example, now: bool) -> Vec<Print> {
    let instants = example.truth.beams.iter().take(if now { 1 } else { usize::MAX }).flatten();
    prints(data, instants.copied()).collect()
}

/// Prints of those reports that no other one is the same as by accident.
fn prints(data: &DataSet, reports: impl Iterator<Item = u32>) -> impl Iterator<Item = Print> {
    let reports = reports.filter_map(|report| data.reports.get(report as usize));
    let reports = reports.filter(|report| {
        let measured = report.linear.iter().filter(|power| !power.is_nan());
        let different: BTreeSet<u64> = measured.map(|power| power.to_bits()).collect();
        different.len() >= ENOUGH
    });
    reports.map(|report| {
        let mut hash = Sha256::new();
        report.linear.iter().for_each(|power| hash.update(power.to_bits().to_le_bytes()));
        hash.finalize().into()
    })
}

/// What is true of an example.
fn truth(data: &DataSet, example: &Example) -> Print {
    let mut hash = Sha256::new();
    for report in example.truth.beams.iter().map(|report| data.reports.get((*report)? as usize)) {
        let linear = report.map(|report| report.linear.as_slice()).unwrap_or_default();
        hash.update((linear.len() as u64).to_le_bytes());
        linear.iter().for_each(|power| hash.update(power.to_bits().to_le_bytes()));
    }
    hash.update(format!("{:?} {:?}", example.truth.blocked, example.truth.activity));
    for place in example.truth.pose.iter().flatten().flatten() {
        hash.update(place.to_bits().to_le_bytes());
    }
    hash.finalize().into()
}

/// What is true of an example, and what it sees now.
fn whole(data: &DataSet, number: u32) -> Result<Print, StoreError> {
    let mut hash = Sha256::new();
    let Some(example) = data.examples.get(number as usize) else { return Ok(hash.finalize().into()) };
    hash.update(truth(data, example));
    let now = example.places.len().saturating_sub(MODALITIES);
    for place in example.places.iter().skip(now) {
        // What stands in this place, and that there is anything.
        hash.update([u8::from(place.is_some())]);
        let Some(place) = place else { continue };
        match data.reading(place.reading)? {
            Reading::Image(pixels) => hash.update(&pixels),
            Reading::Cloud(cloud) => {
                hash.update(bytes(cloud.positions.iter().flatten().copied()));
                hash.update(bytes(cloud.features.into_iter()));
            }
            Reading::Link(heard) => {
                heard.into_iter().for_each(|report| hash.update(bytes(report.db.into_iter())));
            }
            Reading::Position(position) => hash.update(bytes(position.into_iter())),
        }
    }
    Ok(hash.finalize().into())
}

fn bytes(numbers: impl Iterator<Item = f32>) -> Vec<u8> {
    numbers.flat_map(f32::to_le_bytes).collect()
}
