//! Who is learned from, who chooses, who is tested on: whole groups, never a part of one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{DataSet, Example};
use crate::model::seeded;
use crate::time::{CaptureTime, Span};

/// Shares of the groups, adding up to 1 at most; what is left goes to training.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// Of validation.
    pub validation: f64,
    /// Of the test.
    pub test: f64,
}

impl Default for Shares {
    fn default() -> Self {
        Self { validation: 0.15, test: 0.15 }
    }
}

/// Positions of examples by what they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Learned from.
    pub train: Vec<u32>,
    /// Chooses.
    pub validation: Vec<u32>,
    /// Touched once.
    pub test: Vec<u32>,
}

impl Split {
    /// Splits by groups: they are put in an order that follows from the seed, and the first ones are the test, the next
    /// ones validation, until each has its share of the examples.
    #[must_use]
    pub fn by_group(data: &DataSet, shares: Shares, seed: u64) -> Self {
        let all = data.examples.len() as f64;
        let mut split = Self::default();
        for own in shuffled(data, seed) {
            let into = if (split.test.len() as f64) < (shares.test * all).round() {
                &mut split.test
            } else if (split.validation.len() as f64) < (shares.validation * all).round() {
                &mut split.validation
            } else {
                &mut split.train
            };
            into.extend(own);
        }
        split.sorted()
    }

    /// Splits by instants, each of which is a group of its own from then on, in an order that follows from the seed.
    #[must_use]
    pub fn at_random(data: &mut DataSet, shares: Shares, seed: u64) -> Self {
        let mut instants: BTreeMap<(u32, CaptureTime), u32> = BTreeMap::new();
        for example in &data.examples {
            let next = instants.len() as u32;
            instants.entry((example.group, example.time)).or_insert(next);
        }
        let mut instants: Vec<((u32, CaptureTime), u32)> = instants.into_iter().collect();
        instants.sort_by_key(|&(_, number)| number);
        let of = |all: &[String], group: u32| all.get(group as usize).cloned().unwrap_or_default();
        let named = |&((group, time), _): &((u32, CaptureTime), u32)| {
            format!("{}/{:.6} s", of(&data.groups, group), time.as_nanos() as f64 / 1e9)
        };
        let groups = instants.iter().map(named).collect();
        if !data.conditions.is_empty() {
            data.conditions = instants.iter().map(|&((group, _), _)| of(&data.conditions, group)).collect();
        }
        let subject =
            |&((group, _), _): &((u32, CaptureTime), u32)| data.subjects.get(group as usize).copied();
        data.subjects = instants.iter().filter_map(subject).collect();
        data.groups = groups;
        let numbers: BTreeMap<(u32, CaptureTime), u32> = instants.into_iter().collect();
        for example in &mut data.examples {
            example.group = numbers.get(&(example.group, example.time)).copied().unwrap_or_default();
        }
        Self::by_group(data, shares, seed)
    }

    /// A test that is given, by an answer that is the same for all of a group; of the other groups, in an order that follows
    /// from the seed, the first ones validate until they have the share `validation` of those examples.
    #[must_use]
    pub fn held_out(data: &DataSet, is_test: &dyn Fn(&Example) -> bool, validation: f64, seed: u64) -> Self {
        let is_test = |number: &u32| data.examples.get(*number as usize).is_some_and(is_test);
        let mut split = Self::default();
        let (test, rest): (Vec<_>, Vec<_>) =
            shuffled(data, seed).into_iter().partition(|own| own.first().is_some_and(is_test));
        split.test = test.concat();
        let wanted = validation * rest.iter().map(Vec::len).sum::<usize>() as f64;
        for own in rest {
            let chooses = (split.validation.len() as f64) < wanted.round();
            if chooses { &mut split.validation } else { &mut split.train }.extend(own);
        }
        split.sorted()
    }

    /// Few labels of those who are the test: the first `share` of each of their sequences is all that is learned from, and
    /// what the test asks begins a window later. Who was learned from before is not shown again.
    #[must_use]
    pub fn few_shot(self, data: &mut DataSet, share: f64) -> Self {
        let window = Span::from_secs_f64(data.shape.stride_ms / 1e3 * data.slots() as f64);
        let mut sequences: BTreeMap<(u32, u32, Option<u32>), Vec<u32>> = BTreeMap::new();
        for number in self.test {
            let Some(example) = data.examples.get(number as usize) else { continue };
            let sequence = (example.group, example.link, example.truth.activity);
            sequences.entry(sequence).or_default().push(number);
        }
        let (mut few, mut test) = (Vec::new(), Vec::new());
        for own in sequences.into_values() {
            let time = |number: u32| data.examples.get(number as usize).map(|example| example.time);
            let count = ((share * own.len() as f64).ceil() as usize).min(own.len());
            let (first, rest) = own.split_at(count);
            let until = first.last().and_then(|&number| time(number)).map(|time| time + window);
            few.extend(first);
            test.extend(rest.iter().filter(|&&number| time(number) > until));
        }
        let is_few: BTreeSet<u32> = few.iter().copied().collect();
        let names = data.groups.clone();
        let mut moved: BTreeMap<u32, u32> = BTreeMap::new();
        for number in &is_few {
            let Some(example) = data.examples.get_mut(*number as usize) else { continue };
            let (old, next) = (example.group, data.groups.len() as u32);
            example.group = *moved.entry(old).or_insert_with(|| {
                let name = names.get(old as usize).map(String::as_str).unwrap_or_default();
                data.groups.push(format!("{name}/first {:.0} %", 100.0 * share));
                data.conditions.extend(data.conditions.get(old as usize).cloned());
                data.subjects.extend(data.subjects.get(old as usize).copied());
                next
            });
        }
        Self { train: few, validation: self.validation, test }.sorted()
    }

    fn sorted(mut self) -> Self {
        for part in [&mut self.train, &mut self.validation, &mut self.test] {
            part.sort_unstable();
        }
        self
    }

    /// Groups that stand on two sides.
    #[must_use]
    pub fn shared_groups(&self, data: &DataSet) -> BTreeSet<u32> {
        let groups = |part: &[u32]| -> BTreeSet<u32> {
            part.iter().filter_map(|&number| Some(data.examples.get(number as usize)?.group)).collect()
        };
        let (train, validation, test) = (groups(&self.train), groups(&self.validation), groups(&self.test));
        let mut shared: BTreeSet<u32> = train.intersection(&validation).copied().collect();
        shared.extend(train.union(&validation).filter(|group| test.contains(group)));
        shared
    }
}

/// The examples of each group, the groups in an order that follows from the seed.
fn shuffled(data: &DataSet, seed: u64) -> Vec<Vec<u32>> {
    let mut order: Vec<usize> = (0..data.groups.len()).collect();
    let mut random = seeded::stream(seed, "split");
    for last in (1..order.len()).rev() {
        let other = (seeded::uniform(&mut random) * (last + 1) as f64) as usize;
        order.swap(last, other.min(last));
    }
    let mut of_group: Vec<Vec<u32>> = vec![Vec::new(); data.groups.len()];
    for (number, example) in (0u32..).zip(&data.examples) {
        if let Some(own) = of_group.get_mut(example.group as usize) {
            own.push(number);
        }
    }
    order.into_iter().filter_map(|group| of_group.get_mut(group).map(std::mem::take)).collect()
}
