//! Rows that are in a data set twice. Recordings are cut and published in pieces, and a row that stands in two of them must
//! not be learned from on one side of a split and asked about on the other.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::split::Split;
use super::store::StoreError;
use super::{DataSet, Example, Reading};
use crate::model::MODALITIES;

type Print = [u8; 32];

impl Split {
    /// Without the examples of training and validation that an example of the test repeats, and those of training that one of
    /// validation repeats: the same readings now, and the same truth. Also how many those were.
    ///
    /// # Errors
    /// When a reading cannot be looked up.
    pub fn without_twins(mut self, data: &DataSet) -> Result<(Self, usize), StoreError> {
        let before = self.train.len() + self.validation.len();
        keep_others(&mut self.validation, &self.test, data)?;
        keep_others(&mut self.train, &[self.test.as_slice(), &self.validation].concat(), data)?;
        let gone = before - self.train.len() - self.validation.len();
        Ok((self, gone))
    }
}

/// Keeps of `own` what none of `others` is the same as.
fn keep_others(own: &mut Vec<u32>, others: &[u32], data: &DataSet) -> Result<(), StoreError> {
    let truth_of = |number: &u32| data.examples.get(*number as usize).map(|example| truth(data, example));
    let of_own: BTreeSet<Print> = own.iter().filter_map(truth_of).collect();
    // Readings are large: they are looked up where the truth is the same.
    let alike: Vec<u32> = others
        .iter()
        .copied()
        .filter(|other| truth_of(other).is_some_and(|print| of_own.contains(&print)))
        .collect();
    if alike.is_empty() {
        return Ok(());
    }
    let of_others: BTreeSet<Print> = alike.iter().filter_map(truth_of).collect();
    let alike: BTreeSet<Print> = alike.iter().map(|&other| whole(data, other)).collect::<Result<_, _>>()?;
    let mut kept = Vec::with_capacity(own.len());
    for &number in own.iter() {
        let is_twin = truth_of(&number).is_some_and(|print| of_others.contains(&print))
            && alike.contains(&whole(data, number)?);
        if !is_twin {
            kept.push(number);
        }
    }
    *own = kept;
    Ok(())
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
    let mut floats = |numbers: &mut dyn Iterator<Item = f32>| {
        numbers.for_each(|number| hash.update(number.to_bits().to_le_bytes()));
    };
    let now = example.places.len().saturating_sub(MODALITIES);
    for place in example.places.iter().skip(now) {
        // What stands in this place, and that there is anything.
        floats(&mut [f32::from(u8::from(place.is_some()))].into_iter());
        let Some(place) = place else { continue };
        match data.reading(place.reading)? {
            Reading::Image(pixels) => floats(&mut pixels.iter().map(|&pixel| f32::from(pixel))),
            Reading::Cloud(cloud) => {
                floats(&mut cloud.positions.iter().flatten().copied().chain(cloud.features.iter().copied()));
            }
            Reading::Link(heard) => heard.iter().for_each(|report| floats(&mut report.db.iter().copied())),
            Reading::Position(position) => floats(&mut position.into_iter()),
        }
    }
    Ok(hash.finalize().into())
}
