//! Running sums behind a score.

use crate::message::{BeamScore, BlockageScore, BlockageTruth, ReportCounts};
use crate::sample::{BeamIndex, BeamPower};

/// Sums of one beam predictor.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BeamTally {
    count: u64,
    top1: u64,
    top3: u64,
    loss_sum_db: f64,
    loss_count: u64,
}

impl BeamTally {
    /// Scores a choice (its first three beams, best first) against what was measured, of which `best` with
    /// `best_power` > 0 was the strongest.
    pub fn add(&mut self, choice: &[BeamIndex], power: &BeamPower, best: BeamIndex, best_power: f64) {
        let Some(&first) = choice.first() else { return };
        self.count += 1;
        self.top1 += u64::from(first == best);
        self.top3 += u64::from(choice.iter().take(3).any(|&beam| beam == best));
        // A zero power would be an infinite loss: it is left out, and the two counts differ by it.
        if let Some(chosen) = power.of(first).filter(|&chosen| chosen > 0.0) {
            self.loss_sum_db += 10.0 * (best_power / chosen).log10();
            self.loss_count += 1;
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.top1 += other.top1;
        self.top3 += other.top3;
        self.loss_sum_db += other.loss_sum_db;
        self.loss_count += other.loss_count;
    }

    pub fn score(&self) -> BeamScore {
        BeamScore {
            count: self.count,
            top1: ratio(self.top1 as f64, self.count),
            top3: ratio(self.top3 as f64, self.count),
            power_loss_db: ratio(self.loss_sum_db, self.loss_count),
            loss_count: self.loss_count,
        }
    }
}

/// What always naming the beams that were most often the best would have scored: known only afterwards, and a floor
/// that a predictor has to beat.
#[derive(Clone, Debug, Default)]
pub(super) struct MajorityTally {
    /// Per beam: how often it was the best, and its power below the best one.
    beams: Vec<(u64, BeamTally)>,
}

impl MajorityTally {
    /// Takes in a report as [`BeamTally::add`] does.
    pub fn add(&mut self, power: &BeamPower, best: BeamIndex, best_power: f64) {
        let beams = power.linear.len().max(self.beams.len());
        self.beams.resize(beams, Default::default());
        for ((times, tally), beam) in self.beams.iter_mut().zip((0u16..).map(BeamIndex)) {
            *times += u64::from(beam == best);
            tally.add(&[beam], power, best, best_power);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        let beams = other.beams.len().max(self.beams.len());
        self.beams.resize(beams, Default::default());
        for (ours, theirs) in self.beams.iter_mut().zip(&other.beams) {
            ours.0 += theirs.0;
            ours.1.merge(&theirs.1);
        }
    }

    pub fn score(&self) -> BeamScore {
        let mut ranked: Vec<&(u64, BeamTally)> = self.beams.iter().collect();
        ranked.sort_by_key(|(times, _)| std::cmp::Reverse(*times));
        let Some((_, first)) = ranked.first() else { return BeamScore::default() };
        let top3: u64 = ranked.iter().take(3).map(|(times, _)| times).sum();
        BeamScore { top3: ratio(top3 as f64, first.count), ..first.score() }
    }
}

/// Sums of the blockage warnings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BlockageTally {
    pub truth: Option<BlockageTruth>,
    pub count: u64,
    pub blocked: u64,
    pub hits: u64,
    pub late_hits: u64,
    pub misses: u64,
    pub false_alarms: u64,
    pub lead_sum_ms: f64,
}

impl BlockageTally {
    /// Adds the sums of another UE. Two kinds of truth have no common name: a mixture says none.
    pub fn merge(&mut self, other: &Self) {
        if other.count > 0 {
            let same = self.count == 0 || self.truth == other.truth;
            self.truth = other.truth.filter(|_| same);
        }
        self.count += other.count;
        self.blocked += other.blocked;
        self.hits += other.hits;
        self.misses += other.misses;
        self.false_alarms += other.false_alarms;
        self.late_hits += other.late_hits;
        self.lead_sum_ms += other.lead_sum_ms;
    }

    pub fn score(&self) -> BlockageScore {
        BlockageScore {
            truth: self.truth,
            count: self.count,
            prevalence: ratio(self.blocked as f64, self.count),
            hits: self.hits,
            late_hits: self.late_hits,
            misses: self.misses,
            false_alarms: self.false_alarms,
            lead_time_ms: ratio(self.lead_sum_ms, self.hits),
        }
    }
}

/// All sums of one UE, or of several.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub reports: ReportCounts,
    pub beam: BeamTally,
    pub persistence: BeamTally,
    pub extrapolation: BeamTally,
    pub majority: MajorityTally,
}

impl Tally {
    pub fn merge(&mut self, other: &Self) {
        let (ours, theirs) = (&mut self.reports, &other.reports);
        ours.seen += theirs.seen;
        ours.scored += theirs.scored;
        ours.undecided += theirs.undecided;
        ours.incomparable += theirs.incomparable;
        ours.unmatched += theirs.unmatched;
        ours.silent += theirs.silent;
        ours.late += theirs.late;
        self.beam.merge(&other.beam);
        self.persistence.merge(&other.persistence);
        self.extrapolation.merge(&other.extrapolation);
        self.majority.merge(&other.majority);
    }
}

fn ratio(sum: f64, count: u64) -> Option<f64> {
    (count > 0).then(|| sum / count as f64)
}
