//! Who is learned from, who chooses, who is tested on: whole groups, never a part of one.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::DataSet;
use crate::model::seeded;

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
        let all = data.examples.len() as f64;
        let mut split = Self::default();
        for group in order {
            let own = of_group.get(group).map(Vec::as_slice).unwrap_or_default();
            let into = if (split.test.len() as f64) < (shares.test * all).round() {
                &mut split.test
            } else if (split.validation.len() as f64) < (shares.validation * all).round() {
                &mut split.validation
            } else {
                &mut split.train
            };
            into.extend(own);
        }
        for part in [&mut split.train, &mut split.validation, &mut split.test] {
            part.sort_unstable();
        }
        split
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
