//! Labelled examples, whatever they come from, behind one type.
//!
//! A [`DataSet`] is a list of [`Example`]s, light enough to stand in memory: which readings stand in which place of a
//! window, and what is true at its instant. The readings themselves (images, clouds) are looked up one by one; of a
//! recording they lie in a file that is mapped ([`store`]), so that what was looked at lately is in memory and the rest is
//! not. [`recording`] makes one from a recording by the same road that a unit's samples take, so that what is learned from
//! is what will be seen.
//!
//! An example belongs to a group: a sequence, a subject. Groups are what [`split`] splits.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::Codebook;
use crate::infer::network::features::{self, BeamGrid, Heard};
use crate::model::deployed;
use crate::model::tasks::{Sizes, Task};
use crate::model::ue::POSITION_FEATURES;
use crate::model::{Cloud, MODALITIES};
use crate::sample::UeId;
use crate::time::{CaptureTime, Span};

pub mod archive;
pub mod condition;
pub mod mmfi;
pub mod once;
pub mod recording;
mod shared;
pub mod split;
pub mod store;
pub mod twins;

use split::Split;
use store::{Store, StoreError};

/// What a simulated recording was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The SHA-256 of its `scene.toml`, hexadecimal.
    pub sha256: String,
    /// The version of the simulator that made it.
    pub simulator: Option<u32>,
}

/// What stands in a place of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    /// Its reading, a position in [`DataSet`]'s.
    pub reading: u32,
    /// How long before the example's instant it was captured, seconds.
    pub age_s: f32,
}

/// Beam powers that were measured once.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// When.
    pub capture: CaptureTime,
    /// Linear power per beam, NaN where not measured.
    pub linear: Vec<f64>,
    /// The strongest measured beam.
    pub best: u32,
    /// Its power in dB.
    pub best_db: f64,
    /// What the link had reached until then ([`LinkReference`](crate::percentile::LinkReference)), dB.
    pub reference_db: f64,
}

impl Report {
    /// A report of at least one measured, positive power, of a link that never reached more; `None` of others.
    #[must_use]
    pub fn new(capture: CaptureTime, linear: Vec<f64>) -> Option<Self> {
        let best = super::measures::argmax(&linear)?;
        let best_db = 10.0 * linear.get(best)?.log10();
        let best = best as u32;
        best_db.is_finite().then_some(Self { capture, linear, best, best_db, reference_db: best_db })
    }
}

/// What is true at an example's instant; what is not known is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Truth {
    /// Per instant asked for ([`Sizes::instants`]) the report measured there, a position in [`DataSet::reports`].
    pub beams: Vec<Option<u32>>,
    /// Per horizon, whether the link is blocked at the instant or until then. Of a horizon that reaches beyond what was
    /// recorded it is known only where it is: learned from, but not measured on, or blockages would be too many.
    pub blocked: Vec<Option<bool>>,
    /// How many of the horizons, the first ones, lie within what was recorded.
    pub watched: usize,
    /// Class of the activity.
    pub activity: Option<u32>,
    /// Joints, metres, in the unit frame.
    pub pose: Option<Vec<[f32; 3]>>,
}

impl Truth {
    /// Whether it has a label for a task.
    #[must_use]
    pub fn tells(&self, task: Task) -> bool {
        match task {
            Task::Beam => self.beams.iter().any(Option::is_some),
            Task::Blockage => self.blocked.iter().any(Option::is_some),
            Task::Activity => self.activity.is_some(),
            Task::Pose => self.pose.is_some(),
        }
    }
}

/// What the instants for which a beam is chosen count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ahead {
    /// Time: the report nearest to the instant, half a period away at most.
    #[default]
    Time,
    /// Rows, as published figures count them: of 300 ms, where the pipeline has ten rows per second (`[input.recording]
    /// rate_hz`), the third row from the present one, however long after it was recorded.
    Rows,
}

/// One labelled instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Position in [`DataSet::groups`].
    pub group: u32,
    /// Which of its group's links it is of, by any number that tells them apart (a position in [`DataSet::links`], where they
    /// have names); of a task of the unit, 0.
    pub link: u32,
    /// Its instant.
    pub time: CaptureTime,
    /// `[W · D]`: what stands in each place of the window, oldest slot first.
    pub places: Vec<Option<Place>>,
    /// What the link had reported before: positions in [`DataSet::reports`], oldest first. Never the truth's.
    pub past: Vec<u32>,
    /// Whether the link was blocked when it reported last: what persistence goes by, never an input.
    pub was_blocked: Option<bool>,
    /// What is true.
    pub truth: Truth,
}

/// A reading as the network takes it.
#[derive(Clone, Debug)]
pub enum Reading {
    /// Side × side × RGB.
    Image(Vec<u8>),
    /// Radar or LiDAR.
    Cloud(Cloud),
    /// Past reports.
    Link(Vec<Heard>),
    /// A position.
    Position([f32; POSITION_FEATURES]),
}

/// Where a reading is.
#[derive(Clone, Debug)]
pub enum Source {
    /// In the store.
    Image(u32),
    /// In the store.
    Radar(u32),
    /// In the store.
    Lidar(u32),
    /// Here.
    Cloud(Arc<Cloud>),
    /// Made of reports as they are seen at an instant.
    Link {
        /// Positions in [`DataSet::reports`].
        reports: Vec<u32>,
        /// The instant.
        seen: CaptureTime,
    },
    /// Here.
    Position([f32; POSITION_FEATURES]),
}

/// What of a data set could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// What it is, in words that follow a count.
    pub what: Cow<'static, str>,
    /// How many.
    pub count: usize,
    /// The first of them, and what is wrong with it; `None` where that was said when the recording was decoded.
    pub first: Option<String>,
    /// Whether it is broken; else it is not there, as users download modality by modality.
    pub is_broken: bool,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.count, self.what)?;
        self.first.iter().try_for_each(|first| write!(f, "; the first: {first}"))
    }
}

/// Counts one more that could not be had.
fn lose(lost: &mut Vec<Lost>, what: &'static str, is_broken: bool, first: impl FnOnce() -> String) {
    match lost.iter_mut().find(|lost| lost.what == what) {
        Some(known) => known.count += 1,
        None => lost.push(Lost { what: what.into(), count: 1, first: Some(first()), is_broken }),
    }
}

/// What a network has to be to learn from a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Window, beams, horizons and classes.
    pub sizes: Sizes,
    /// Time between the slots of a window, ms.
    pub stride_ms: f64,
    /// The beams.
    pub codebook: Codebook,
    /// Blockage horizons, ms.
    pub horizons_ms: Vec<u32>,
    /// Instants for which a beam is chosen, ms after the example's, the first 0.
    pub instants_ms: Vec<u32>,
}

impl Shape {
    /// In what it differs from another one: what was found, and what is allowed.
    #[must_use]
    pub fn unlike(&self, other: &Self) -> Vec<String> {
        let (own, sizes) = (&self.sizes, &other.sizes);
        let counts = [
            ("slots", own.slots, sizes.slots),
            ("beams", own.beams, sizes.beams),
            ("instants", own.instants, sizes.instants),
            ("horizons", own.horizons, sizes.horizons),
            ("activities", own.activities, sizes.activities),
            ("joints", own.joints, sizes.joints),
        ];
        let differ = counts.into_iter().filter(|(_, found, allowed)| found != allowed);
        let mut told: Vec<String> = differ
            .map(|(what, found, allowed)| format!("found {found} {what}, allowed are {allowed}"))
            .collect();
        if self.stride_ms != other.stride_ms {
            told.push(format!("found slots {} ms apart, allowed is {} ms", self.stride_ms, other.stride_ms));
        }
        for (what, found, allowed) in [
            ("horizons", &self.horizons_ms, &other.horizons_ms),
            ("instants", &self.instants_ms, &other.instants_ms),
        ] {
            if found != allowed && found.len() == allowed.len() {
                told.push(format!("found {what} of {found:?} ms, allowed are {allowed:?}"));
            }
        }
        if self.codebook != other.codebook && own.beams == sizes.beams {
            let (found, allowed) = (deployed::told(&self.codebook), deployed::told(&other.codebook));
            told.push(format!("found the codebook {found}, allowed is {allowed}"));
        }
        told
    }
}

/// Labelled examples.
#[derive(Debug)]
pub struct DataSet {
    /// Its name, in reports.
    pub name: String,
    /// Of a simulated recording, what it was made of.
    pub scene: Option<Origin>,
    /// Tasks that it has labels for.
    pub tasks: Vec<Task>,
    /// What it fits.
    pub shape: Shape,
    /// Names of sequences or subjects; no split goes through one.
    pub groups: Vec<String>,
    /// What it was like in each group, as [`condition`] says; empty where nobody knows.
    pub conditions: Vec<String>,
    /// The number of each group's person; empty where groups are no people.
    pub subjects: Vec<u32>,
    /// What a mirror makes of its people; `None` where it has none, or nobody knows which of their joints are left ones.
    pub sides: Option<Sides>,
    /// Names of links, by [`Example::link`]; empty where nobody named them.
    pub links: Vec<UeId>,
    /// Where the instants for which a beam is chosen count rows, how many each is ahead, and the time from row to row; else
    /// nothing.
    pub rows_ahead: Option<RowsAhead>,
    /// In the order of groups and time.
    pub examples: Vec<Example>,
    /// Beam powers.
    pub reports: Vec<Report>,
    /// Of a simulated recording, per report the beam that would be best if nothing were measured with noise: whoever knew
    /// all would name it. Elsewhere empty.
    pub noise_free: Vec<Option<u32>>,
    /// Where readings are.
    pub sources: Vec<Source>,
    /// Images and clouds.
    pub store: Option<Store>,
    /// The bins that beam powers are laid on.
    pub grid: BeamGrid,
    /// What of it could not be had.
    pub lost: Vec<Lost>,
    /// What is not known of it, and what is taken for it.
    pub notes: Vec<String>,
}

impl DataSet {
    /// What nothing is known of but what it fits.
    fn of_shape(name: &str, tasks: &[Task], shape: Shape) -> Self {
        Self {
            name: name.to_owned(),
            scene: None,
            tasks: tasks.to_vec(),
            grid: BeamGrid::new(&features::beam_directions(&shape.codebook, shape.sizes.beams)),
            shape,
            groups: Vec::new(),
            conditions: Vec::new(),
            subjects: Vec::new(),
            sides: None,
            links: Vec::new(),
            rows_ahead: None,
            examples: Vec::new(),
            reports: Vec::new(),
            noise_free: Vec::new(),
            sources: Vec::new(),
            store: None,
            lost: Vec::new(),
            notes: Vec::new(),
        }
    }
}

/// Instants that count rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowsAhead {
    /// Per instant, from the present row.
    pub rows: Vec<usize>,
    /// Time from row to row: the median.
    pub period: Span,
}

/// Left and right of people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sides {
    /// Activities, from 0, that a mirror turns into each other; the others stay what they are.
    pub activities: &'static [(u32, u32)],
    /// The same of joints.
    pub joints: &'static [(u32, u32)],
}

impl Sides {
    /// What an activity is in a mirror.
    #[must_use]
    pub fn activity(self, activity: u32) -> u32 {
        turned(self.activities, activity)
    }

    /// A pose in a mirror that stands at x = 0: x is to the right.
    #[must_use]
    pub fn pose(self, pose: &[[f32; 3]]) -> Vec<[f32; 3]> {
        let joint = |joint: u32| pose.get(turned(self.joints, joint) as usize).map(|&[x, y, z]| [-x, y, z]);
        (0..pose.len() as u32).filter_map(joint).collect()
    }
}

fn turned(pairs: &[(u32, u32)], of: u32) -> u32 {
    let other = pairs.iter().find_map(|&(left, right)| match of {
        _ if of == left => Some(right),
        _ if of == right => Some(left),
        _ => None,
    });
    other.unwrap_or(of)
}

/// A data set and what its examples are for.
#[derive(Debug)]
pub struct Part {
    /// Its examples.
    pub data: DataSet,
    /// What they are for.
    pub split: Split,
    /// What is learned from it.
    pub tasks: Vec<Task>,
}

impl Part {
    /// The examples that are learned from.
    pub fn examples_to_learn(&self) -> impl Iterator<Item = &Example> {
        self.split.train.iter().filter_map(|&at| self.data.examples.get(at as usize))
    }
}

impl DataSet {
    /// Takes the beams of others where nothing says which ones it has: none of it was measured, and its pipeline names none.
    pub fn take_beams(&mut self, beams: usize, codebook: &Codebook) {
        if self.shape.codebook.beams.is_some() || !self.reports.is_empty() {
            return;
        }
        self.shape.sizes.beams = beams;
        self.shape.codebook = codebook.clone();
        self.grid = BeamGrid::new(&features::beam_directions(codebook, beams));
    }

    /// Which inputs any of its examples has a reading of, in the order of [`Input::ALL`](crate::model::Input::ALL).
    #[must_use]
    pub fn holds(&self) -> [bool; MODALITIES] {
        let mut holds = [false; MODALITIES];
        for example in &self.examples {
            for places in example.places.chunks(MODALITIES) {
                for (holds, place) in holds.iter_mut().zip(places) {
                    *holds |= place.is_some();
                }
            }
        }
        holds
    }

    /// Looks a reading up.
    ///
    /// # Errors
    /// [`StoreError`] when there is no such reading.
    pub fn reading(&self, number: u32) -> Result<Reading, StoreError> {
        let missing = || StoreError::NoReading { number, data: self.name.clone() };
        let source = self.sources.get(number as usize).ok_or_else(missing)?;
        let stored = || self.store.as_ref().ok_or_else(missing);
        Ok(match source {
            Source::Image(at) => Reading::Image(stored()?.image(*at).ok_or_else(missing)?),
            Source::Radar(at) => Reading::Cloud(stored()?.radar(*at).ok_or_else(missing)?),
            Source::Lidar(at) => Reading::Cloud(stored()?.lidar(*at).ok_or_else(missing)?),
            Source::Cloud(cloud) => Reading::Cloud(cloud.as_ref().clone()),
            Source::Link { reports, seen } => {
                let reports = reports.iter().filter_map(|&report| self.reports.get(report as usize));
                let heard = reports.map(|Report { capture, linear, best_db, reference_db, .. }| {
                    Heard::new((*seen - *capture).as_secs_f64() as f32, linear, *best_db, *reference_db)
                });
                Reading::Link(heard.collect())
            }
            Source::Position(position) => Reading::Position(*position),
        })
    }

    /// The reports that a reading is made of, positions in [`DataSet::reports`]; none of what is no link's.
    #[must_use]
    pub fn reports_of(&self, reading: u32) -> &[u32] {
        match self.sources.get(reading as usize) {
            Some(Source::Link { reports, .. }) => reports,
            _ => &[],
        }
    }

    /// The report that tells the beam of an example at an instant.
    #[must_use]
    pub fn measured(&self, example: &Example, instant: usize) -> Option<&Report> {
        let report = (*example.truth.beams.get(instant)?)?;
        self.reports.get(report as usize)
    }

    /// What it was like when an example was recorded; `None` where nobody knows.
    #[must_use]
    pub fn condition(&self, example: &Example) -> Option<&str> {
        self.conditions.get(example.group as usize).map(String::as_str)
    }

    /// The beam that whoever knew all would name for an instant: not always the one that was measured to be the best.
    #[must_use]
    pub fn known_best(&self, example: &Example, instant: usize) -> Option<u32> {
        let report = (*example.truth.beams.get(instant)?)?;
        *self.noise_free.get(report as usize)?
    }

    /// The true class of an example, of a task that chooses: the beam at an instant, the activity.
    #[must_use]
    pub fn class(&self, example: &Example, task: Task, instant: usize) -> Option<usize> {
        match task {
            Task::Beam => self.measured(example, instant).map(|report| report.best as usize),
            Task::Activity => example.truth.activity.map(|class| class as usize),
            Task::Blockage | Task::Pose => None,
        }
    }

    /// Slots of its windows.
    #[must_use]
    pub const fn slots(&self) -> usize {
        self.shape.sizes.slots
    }

    /// Places of its windows.
    #[must_use]
    pub const fn places(&self) -> usize {
        self.slots() * MODALITIES
    }
}
