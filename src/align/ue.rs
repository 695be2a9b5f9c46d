//! The UEs of a unit: they appear with their first sample, stay while they speak, and are bounded in number.

use crate::config;
use crate::sample::{Modality, UeId};
use crate::time::{CaptureTime, Moment, Span};

use super::counters::Counters;
use super::link::{LinkRules, LinkTrack};
use super::pace::Timing;
use super::track::{Rules, Track};

/// One UE.
#[derive(Debug)]
pub(super) struct Ue {
    pub(super) id: UeId,
    pub(super) position: Track,
    pub(super) link: LinkTrack,
    declared: bool,
    /// When it last said anything, on our monotonic clock.
    heard: Span,
}

impl Ue {
    fn clear(&mut self, counters: &mut Counters) {
        self.position.clear(counters.of_mut(Modality::Position));
        self.link.clear(counters.of_mut(Modality::Link));
    }
}

/// The UEs of one unit, sorted by name.
#[derive(Debug)]
pub(super) struct Ues {
    list: Vec<Ue>,
    most: usize,
    position: Rules,
    link: LinkRules,
    timing: Timing,
}

impl Ues {
    /// The declared UEs are there from the start and stay, even if they are more than `max_ues`.
    pub(super) fn new(config: &config::Align, timing: Timing) -> Self {
        let mut declared = config.ues.clone();
        declared.sort();
        declared.dedup();
        let mut ues = Self {
            list: Vec::new(),
            most: config.max_ues,
            position: Rules::new(&config.position),
            link: LinkRules::new(config, timing),
            timing,
        };
        for (index, id) in declared.into_iter().enumerate() {
            ues.insert(index, id, Span::ZERO, true);
        }
        ues
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, Ue> {
        self.list.iter()
    }

    pub(super) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Ue> {
        self.list.iter_mut()
    }

    /// Calibrated difference that is added to every capture time of a position.
    pub(super) const fn position_offset(&self) -> Span {
        self.position.offset()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn get(&self, id: &UeId) -> Option<&Ue> {
        let index = self.list.binary_search_by(|ue| ue.id.cmp(id)).ok()?;
        self.list.get(index)
    }

    /// The UE that speaks now, new if need be; `None` when there are as many as may be.
    pub(super) fn speak(&mut self, id: &UeId, now: Moment) -> Option<&mut Ue> {
        let index = match self.list.binary_search_by(|ue| ue.id.cmp(id)) {
            Ok(index) => index,
            Err(_) if self.list.len() >= self.most => return None,
            Err(index) => {
                self.insert(index, id.clone(), now.monotonic, false);
                index
            }
        };
        let ue = self.list.get_mut(index)?;
        ue.heard = now.monotonic;
        Some(ue)
    }

    /// Forgets the UEs that have been silent for longer than their time to live.
    pub(super) fn forget(&mut self, now: Moment, counters: &mut Counters) {
        let ttl = self.timing.ue_ttl;
        self.list.retain_mut(|ue| {
            let stays = ue.declared || now.monotonic - ue.heard <= ttl;
            if !stays {
                ue.clear(counters);
                counters.ues_forgotten += 1;
            }
            stays
        });
    }

    /// Lets go of what no frame after `floor` can use.
    pub(super) fn prune(&mut self, floor: CaptureTime, counters: &mut Counters) {
        for ue in &mut self.list {
            ue.position.prune(floor, counters.of_mut(Modality::Position));
            ue.link.prune(floor, counters.of_mut(Modality::Link));
        }
    }

    /// Lets go of every sample.
    pub(super) fn clear(&mut self, counters: &mut Counters) {
        for ue in &mut self.list {
            ue.clear(counters);
        }
    }

    fn insert(&mut self, index: usize, id: UeId, heard: Span, declared: bool) {
        let position = Track::new(self.position, self.timing);
        let link = LinkTrack::new(self.link, self.timing);
        self.list.insert(index, Ue { id, position, link, declared, heard });
    }
}
