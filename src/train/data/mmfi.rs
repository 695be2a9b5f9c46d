//! The protocols and splits that results on MM-Fi are published for (Yang et al., MM-Fi: multi-modal non-intrusive 4D human
//! dataset, NeurIPS 2023). What it calls validation is what results are stated of: the test here.
//!
//! | protocol | activities |
//! |---|---|
//! | 1, daily | A02 A03 A04 A05 A13 A14 A17 A18 A19 A20 A21 A22 A23 A27 |
//! | 2, rehabilitation | the other 13 |
//! | 3 | all 27 |
//!
//! | split | test |
//! |---|---|
//! | `random` | of each activity eight subjects, drawn once by the authors: a subject stands on both sides, a sequence never |
//! | `cross-subject` | S05, S10 … S40 |
//! | `cross-scene` | E04: S31 to S40 |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::split::Split;
use super::{DataSet, Example, Sides};

/// How a data set of MM-Fi's kind is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MmFi {
    /// 1, 2 or 3.
    #[serde(default = "all")]
    pub protocol: u8,
    /// Who is the test.
    pub split: Held,
}

const fn all() -> u8 {
    3
}

/// Who is held out as the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Held {
    /// Eight subjects per activity.
    Random,
    /// Every fifth subject.
    CrossSubject,
    /// The fourth environment.
    CrossScene,
}

/// Left and right of the 27 activities, and of the joints in Human3.6M's order: legs 1 to 6, arms 11 to 16.
pub const SIDES: Sides = Sides {
    activities: &[(3, 4), (6, 7), (8, 9), (12, 13), (14, 15), (16, 17), (19, 20), (21, 22), (23, 24)],
    joints: &[(1, 4), (2, 5), (3, 6), (11, 14), (12, 15), (13, 16)],
};

/// Actions of protocol 1.
const DAILY: [u32; 14] = [2, 3, 4, 5, 13, 14, 17, 18, 19, 20, 21, 22, 23, 27];
/// First subject of the fourth environment.
const FOURTH: u32 = 31;
/// Subjects that the authors' random split holds out of the first, second, … action of a protocol (MM-Fi's `random_split`,
/// ratio 0.8, seed 0).
const RANDOM: [[u32; 8]; 27] = [
    [1, 4, 7, 10, 20, 22, 24, 39],
    [1, 6, 9, 10, 12, 13, 16, 38],
    [8, 9, 12, 16, 19, 23, 32, 36],
    [1, 4, 9, 11, 20, 22, 25, 34],
    [1, 2, 4, 6, 9, 10, 24, 31],
    [9, 10, 15, 17, 28, 31, 36, 38],
    [2, 10, 11, 16, 17, 21, 26, 36],
    [4, 5, 15, 20, 24, 26, 29, 36],
    [4, 6, 9, 11, 20, 21, 22, 27],
    [2, 23, 28, 29, 30, 34, 39, 40],
    [1, 10, 16, 26, 29, 30, 34, 37],
    [8, 13, 14, 17, 18, 26, 28, 34],
    [3, 4, 7, 12, 13, 23, 28, 36],
    [3, 11, 14, 17, 19, 26, 27, 35],
    [8, 11, 13, 17, 23, 25, 27, 29],
    [1, 6, 8, 9, 12, 13, 28, 29],
    [2, 5, 6, 17, 31, 32, 33, 38],
    [5, 7, 8, 16, 21, 23, 32, 38],
    [3, 6, 9, 18, 20, 25, 35, 39],
    [3, 6, 11, 20, 23, 30, 32, 35],
    [10, 16, 21, 27, 29, 32, 36, 39],
    [5, 9, 10, 11, 16, 21, 35, 36],
    [1, 5, 9, 19, 21, 30, 32, 37],
    [10, 13, 20, 26, 27, 28, 32, 39],
    [1, 2, 4, 16, 18, 24, 35, 36],
    [5, 9, 16, 24, 26, 27, 29, 40],
    [2, 5, 7, 14, 18, 20, 27, 33],
];

impl MmFi {
    /// Protocols there are.
    pub const PROTOCOLS: std::ops::RangeInclusive<u8> = 1..=3;

    /// Place of an action (1…27) in the protocol's order; `None` when it is not of the protocol.
    #[must_use]
    pub fn place(self, action: u32) -> Option<usize> {
        let is_in = |action: &u32| match self.protocol {
            1 => DAILY.contains(action),
            2 => !DAILY.contains(action),
            _ => true,
        };
        (1..=27).filter(is_in).position(|other| other == action)
    }

    /// Whether what a subject (1…40) does in an action (1…27) is the test.
    #[must_use]
    pub fn is_test(self, subject: u32, action: u32) -> bool {
        match self.split {
            Held::Random => {
                let held = self.place(action).and_then(|place| RANDOM.get(place));
                held.is_some_and(|held| held.contains(&subject))
            }
            Held::CrossSubject => subject.is_multiple_of(5),
            Held::CrossScene => subject >= FOURTH,
        }
    }

    /// Leaves of a data set what the protocol has, and splits it; `validation` is the share of the examples that chooses.
    /// Groups are subjects, in the random split sequences.
    ///
    /// # Errors
    /// When it is not a data set of people.
    pub fn split(self, data: &mut DataSet, validation: f64, seed: u64) -> Result<Split, String> {
        if data.subjects.len() != data.groups.len() {
            return Err(format!("`{}`: allowed with [mmfi] is a recording of MM-Fi's layout", data.name));
        }
        let action = |example: &Example| example.truth.activity.map(|activity| activity + 1);
        data.examples.retain(|example| action(example).is_some_and(|action| self.place(action).is_some()));
        if self.split == Held::Random {
            data.regroup(|example| action(example).map(|action| format!("A{action:02}")));
        }
        let subjects = data.subjects.clone();
        let is_test = |example: &Example| {
            let subject = subjects.get(example.group as usize);
            subject.zip(action(example)).is_some_and(|(&subject, action)| self.is_test(subject, action))
        };
        Ok(Split::held_out(data, &is_test, validation, seed))
    }
}

impl DataSet {
    /// Parts each group by what `part` names: an example stays in the group of its name and its part.
    pub fn regroup(&mut self, part: impl Fn(&Example) -> Option<String>) {
        let mut known: BTreeMap<(u32, Option<String>), u32> = BTreeMap::new();
        let (mut groups, mut conditions, mut subjects) = (Vec::new(), Vec::new(), Vec::new());
        for example in &mut self.examples {
            let (old, name) = (example.group, part(example));
            let count = known.len() as u32;
            example.group = *known.entry((old, name.clone())).or_insert_with(|| {
                let group = self.groups.get(old as usize).cloned().unwrap_or_default();
                groups.push(name.map_or_else(|| group.clone(), |name| format!("{group}/{name}")));
                conditions.extend(self.conditions.get(old as usize).cloned());
                subjects.extend(self.subjects.get(old as usize).copied());
                count
            });
        }
        (self.groups, self.conditions, self.subjects) = (groups, conditions, subjects);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::body::Joint;
    use crate::simulate::motion::Activity;

    #[test]
    fn a_mirror_turns_left_into_right() {
        for activity in Activity::all() {
            let class = |activity: Activity| activity.number() as u32 - 1;
            assert_eq!(SIDES.activity(class(activity)), class(activity.mirrored()), "{}", activity.name());
            let turned = activity.name().replace("left", "R").replace("right", "left").replace('R', "right");
            assert_eq!(activity.mirrored().name(), turned);
        }
        let pose: Vec<[f32; 3]> = (0..17u8).map(|joint| [f32::from(joint), 1.0, 2.0]).collect();
        let mirrored = SIDES.pose(&pose);
        for (joint, of) in [
            (Joint::Head, Joint::Head),
            (Joint::LeftWrist, Joint::RightWrist),
            (Joint::RightElbow, Joint::LeftElbow),
            (Joint::LeftShoulder, Joint::RightShoulder),
            (Joint::LeftHip, Joint::RightHip),
            (Joint::RightKnee, Joint::LeftKnee),
            (Joint::RightAnkle, Joint::LeftAnkle),
        ] {
            assert_eq!(mirrored[joint as usize], [-(of as u8 as f32), 1.0, 2.0], "{joint:?}");
        }
        assert_eq!(SIDES.pose(&mirrored), pose);
    }

    #[test]
    fn protocols_and_splits_are_those_of_the_authors() {
        let of = |protocol, split| MmFi { protocol, split };
        let count =
            |protocol| (1..=27).filter(|&action| of(protocol, Held::Random).place(action).is_some()).count();
        assert_eq!((count(1), count(2), count(3)), (14, 13, 27));
        // A02 is the first action of protocol 1, the second of all; A01 the first of protocol 2.
        let held = |protocol, action| {
            (1..=40)
                .filter(|&subject| of(protocol, Held::Random).is_test(subject, action))
                .collect::<Vec<u32>>()
        };
        assert_eq!(held(1, 2), [1, 4, 7, 10, 20, 22, 24, 39]);
        assert_eq!(held(3, 2), [1, 6, 9, 10, 12, 13, 16, 38]);
        assert_eq!(held(2, 1), held(1, 2));
        assert_eq!(held(3, 27), [2, 5, 7, 14, 18, 20, 27, 33]);
        let subjects =
            |split| (1..=40).filter(|&subject| of(3, split).is_test(subject, 1)).collect::<Vec<u32>>();
        assert_eq!(subjects(Held::CrossSubject), [5, 10, 15, 20, 25, 30, 35, 40]);
        assert_eq!(subjects(Held::CrossScene), (31..=40).collect::<Vec<u32>>());
    }
}
