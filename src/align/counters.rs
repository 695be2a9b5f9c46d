//! What became of every sample: counted per modality, so that nothing is lost without a reason.

use crate::sample::Modality;

/// Why a sample was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// It belongs to another unit, or its reading is not of its stream's kind.
    Mismatched,
    /// Its capture time lies more than 100 ms after now.
    Future,
    /// The unit already serves as many UEs as it may.
    UeLimit,
    /// A sample of the same capture time is already kept.
    Duplicate,
    /// Its sensor's clock went back by more than a second: the first sample of a quarantine.
    BackwardClock,
    /// Its sensor's clock went ahead by more than a second: the first sample of a quarantine.
    ClockStep,
    /// Its sensor's clock has stepped and is not trusted yet.
    Quarantined,
    /// No open or future frame can use it any more.
    Late,
    /// It alone is larger than its stream's capacity in bytes.
    Oversize,
}

impl DropReason {
    /// Every reason, in the order in which they are listed everywhere.
    pub const ALL: [Self; 9] = [
        Self::Mismatched,
        Self::Future,
        Self::UeLimit,
        Self::Duplicate,
        Self::BackwardClock,
        Self::ClockStep,
        Self::Quarantined,
        Self::Late,
        Self::Oversize,
    ];

    /// Snake-case name as it stands in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mismatched => "mismatched",
            Self::Future => "future",
            Self::UeLimit => "ue_limit",
            Self::Duplicate => "duplicate",
            Self::BackwardClock => "backward_clock",
            Self::ClockStep => "clock_step",
            Self::Quarantined => "quarantined",
            Self::Late => "late",
            Self::Oversize => "oversize",
        }
    }
}

/// What [`Aligner::push`](super::Aligner::push) did with a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushOutcome {
    /// It waits for its frame.
    Kept,
    /// It is no input of a frame: blockage truth, or a report in which no beam was measured.
    Passed,
    /// It was refused.
    Dropped(DropReason),
}

/// The samples of one modality, over all UEs. At any time
/// `received = used + expired + capacity + passed + Σ dropped + retained`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounters {
    /// Samples pushed.
    pub received: u64,
    /// Samples that stood in at least one frame, fresh or held, or in a link history.
    pub used: u64,
    /// Samples that no frame wanted: passed over, forgotten with their UE, or cut off by a clock step.
    pub expired: u64,
    /// Samples that a newer one replaced because the buffer was full, before any frame used them.
    pub capacity: u64,
    /// Samples that are no input of a frame.
    pub passed: u64,
    /// Samples that wait and that no frame has used yet.
    pub retained: u64,
    dropped: [u64; DropReason::ALL.len()],
}

impl StreamCounters {
    /// Samples refused for one reason.
    #[must_use]
    pub const fn dropped(&self, reason: DropReason) -> u64 {
        self.dropped[reason as usize]
    }

    /// Samples refused for any reason.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Samples whose fate is known or that still wait; equals `received`.
    #[must_use]
    pub fn accounted(&self) -> u64 {
        self.used + self.expired + self.capacity + self.passed + self.retained + self.dropped_total()
    }

    pub(super) const fn count_dropped(&mut self, reason: DropReason) {
        self.dropped[reason as usize] += 1;
    }

    /// A kept sample leaves the buffer, or is used for the first time.
    pub(super) const fn settle(&mut self, used_before: bool, fate: Fate) {
        if used_before {
            return;
        }
        self.retained -= 1;
        match fate {
            Fate::Used => self.used += 1,
            Fate::Expired => self.expired += 1,
            Fate::Capacity => self.capacity += 1,
        }
    }
}

/// How a kept sample ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Used,
    Expired,
    Capacity,
}

/// Counters of one unit since its start. Their size does not depend on the number of UEs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    streams: [StreamCounters; Modality::ALL.len()],
    /// Frames that left.
    pub frames: u64,
    /// Open frames thrown away because nobody polled.
    pub frames_skipped: u64,
    /// Quarantines begun after a clock step.
    pub quarantines: u64,
    /// UEs forgotten after their time to live.
    pub ues_forgotten: u64,
}

impl Counters {
    /// Counters of one modality.
    #[must_use]
    pub const fn of(&self, modality: Modality) -> &StreamCounters {
        &self.streams[modality as usize]
    }

    /// Every drop that happened, as (modality, reason, number), in a fixed order, without zeros.
    pub fn drops(&self) -> impl Iterator<Item = (Modality, DropReason, u64)> + '_ {
        Modality::ALL.into_iter().flat_map(move |modality| {
            DropReason::ALL
                .into_iter()
                .map(move |reason| (modality, reason, self.of(modality).dropped(reason)))
                .filter(|&(_, _, count)| count > 0)
        })
    }

    pub(super) const fn of_mut(&mut self, modality: Modality) -> &mut StreamCounters {
        &mut self.streams[modality as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_and_modalities_index_their_arrays() {
        for (index, reason) in DropReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        for (index, modality) in Modality::ALL.into_iter().enumerate() {
            assert_eq!(modality as usize, index);
        }
    }

    #[test]
    fn a_used_sample_is_counted_once() {
        let mut counters = StreamCounters { received: 2, retained: 2, ..StreamCounters::default() };
        counters.settle(false, Fate::Used);
        counters.settle(true, Fate::Expired);
        counters.settle(false, Fate::Capacity);
        assert_eq!((counters.used, counters.expired, counters.capacity, counters.retained), (1, 0, 1, 0));
        assert_eq!(counters.accounted(), counters.received);
    }

    #[test]
    fn drops_lists_only_what_happened() {
        let mut counters = Counters::default();
        counters.of_mut(Modality::Lidar).count_dropped(DropReason::Late);
        assert_eq!(counters.drops().collect::<Vec<_>>(), [(Modality::Lidar, DropReason::Late, 1)]);
    }
}
