//! How `run` shows what it does: a live line per second, a summary at the end.

use std::fmt;

use crate::message::{BeamScore, BeamSource, BlockageScore, BlockageTruth, WarningState};
use crate::recording::Absent;
use crate::runtime::{self, Snapshot, UeStatus, UnitStatus, UnitSummary};

/// One line per unit.
pub(super) struct Live<'a>(pub(super) &'a Snapshot);

impl fmt::Display for Live<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.units.is_empty() {
            return write!(f, "no frame yet");
        }
        for (index, (unit, status)) in self.0.units.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{unit} {:<8} {:>6} frames", status.mode.name(), self.0.frames)?;
            write_person(f, status)?;
            // Who asks for people only, of links that nobody has, hears nothing of links.
            let silent = |ue: &UeStatus| {
                ue.beam.as_ref().is_none_or(|beam| beam.best.is_none())
                    && ue.blockage.as_ref().is_none_or(|blockage| !blockage.known)
            };
            let of_people = status.activity.is_some() || status.pose.is_some();
            let ue = status.ues.first_key_value();
            if let Some((ue, last)) = ue.filter(|_| !(of_people && status.ues.values().all(silent))) {
                write!(f, " | ue {ue}")?;
                if status.ues.len() > 1 {
                    write!(f, " (+{})", status.ues.len() - 1)?;
                }
                write_ue(f, last)?;
            }
            let shown = ["decode", "align", "infer", "decide", "publish", "total"];
            let latencies: Vec<String> = shown
                .iter()
                .filter_map(|stage| {
                    let latency = self.0.stages.get(*stage)?;
                    Some(format!("{stage} {:.2}/{:.2}", latency.p50_ms, latency.p99_ms))
                })
                .collect();
            if !latencies.is_empty() {
                write!(f, " | ms p50/p99: {}", latencies.join(" "))?;
            }
            let dropped: u64 = self.0.drops.values().sum();
            if dropped > 0 {
                write!(f, " | dropped {dropped}")?;
            }
        }
        Ok(())
    }
}

fn write_person(f: &mut fmt::Formatter<'_>, status: &UnitStatus) -> fmt::Result {
    if let Some(activity) = &status.activity {
        match activity.ranked.first() {
            Some(best) => write!(f, " | activity {:>2} {:>3.0} %", best.index, best.probability * 100.0)?,
            None => write!(f, " | activity unknown")?,
        }
    }
    match status.pose.as_ref().map(|pose| pose.joints_m.as_slice()) {
        // The pelvis comes first; the third number is what lies between it and the camera.
        Some([[.., ahead], ..]) => write!(f, " | pose of somebody {ahead:.1} m away"),
        Some([]) => write!(f, " | pose unknown"),
        None => Ok(()),
    }
}

fn write_ue(f: &mut fmt::Formatter<'_>, ue: &UeStatus) -> fmt::Result {
    match ue.beam.as_ref().map(|beam| (beam, beam.best)) {
        Some((beam, Some(best))) => {
            write!(f, " beam {:>2} {:>3.0} %", best.index.0, best.probability * 100.0)?;
            if beam.source == BeamSource::Hold {
                write!(f, " held {:.0} ms", beam.age_ms.unwrap_or_default())?;
            }
        }
        Some((_, None)) | None => write!(f, " beam unknown")?,
    }
    let Some(blockage) = &ue.blockage else { return Ok(()) };
    if !blockage.known {
        return write!(f, " blockage unknown");
    }
    write!(f, " blocked")?;
    for horizon in &blockage.horizons {
        let percent = horizon.probability * 100.0;
        match horizon.horizon_ms {
            0 => write!(f, " now {percent:.0} %")?,
            millis => write!(f, ", {millis} ms {percent:.0} %")?,
        }
    }
    match blockage.warning.state {
        WarningState::None => Ok(()),
        WarningState::Raised => write!(f, " WARNING"),
        WarningState::Active => write!(f, " BLOCKED"),
        WarningState::Cleared => write!(f, " cleared"),
    }
}

/// What a run did, for a person.
pub(super) struct Summary<'a>(pub(super) &'a runtime::Summary, pub(super) &'a Absent);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = self.0;
        for (unit, unit_summary) in &summary.units {
            let total: u64 = unit_summary.frames.values().flat_map(|modes| modes.values()).sum();
            let model = &unit_summary.model;
            let untrained = if model.trained { "" } else { ", untrained: nothing to act on" };
            writeln!(f, "{unit}: {total} frames in {:.1} s", summary.seconds)?;
            writeln!(f, "  decided by {}{untrained}, on {}", model.id, summary.device)?;
            for (reference, modes) in &unit_summary.frames {
                let count: u64 = modes.values().sum();
                let by_mode: Vec<String> =
                    modes.iter().map(|(mode, count)| format!("{} {count}", mode.name())).collect();
                let reference = format!("{reference:?}").to_lowercase();
                writeln!(f, "  opened by {reference:<9} {count:>6}   {}", by_mode.join(", "))?;
            }
            write_score(f, unit_summary)?;
        }
        let received: Vec<String> =
            summary.received.iter().map(|(modality, count)| format!("{modality} {count}")).collect();
        writeln!(
            f,
            "samples       {}",
            if received.is_empty() { "none".to_owned() } else { received.join(", ") }
        )?;
        if !self.1.is_empty() {
            let absent: Vec<String> =
                self.1.iter().map(|(modality, count)| format!("{modality} {count}")).collect();
            writeln!(f, "absent files  {}", absent.join(", "))?;
        }
        if summary.drops.is_empty() {
            writeln!(f, "dropped       nothing")?;
        }
        for (index, (reason, count)) in summary.drops.iter().enumerate() {
            let title = if index == 0 { "dropped" } else { "" };
            writeln!(f, "{title:<13} {reason} {count}")?;
        }
        for (index, stage) in
            ["decode", "align", "infer", "decide", "publish", "total"].into_iter().enumerate()
        {
            let Some(latency) = summary.stages.get(stage) else { continue };
            let title = if index == 0 { "latency, ms" } else { "" };
            let (p50, p99) = (latency.p50_ms, latency.p99_ms);
            writeln!(f, "{title:<13} {stage:<8} p50 {p50:>8.3}   p99 {p99:>8.3}   n {}", latency.count)?;
        }
        if let Some(hash) = &summary.decisions_sha256 {
            writeln!(f, "decisions     sha256 {hash}")?;
        }
        Ok(())
    }
}

fn write_score(f: &mut fmt::Formatter<'_>, unit: &UnitSummary) -> fmt::Result {
    let score = &unit.score;
    let percent =
        |share: Option<f64>| share.map_or("  -   ".to_owned(), |share| format!("{:5.1} %", share * 100.0));
    let row = |f: &mut fmt::Formatter<'_>, name: &str, score: &BeamScore| {
        let loss = score.power_loss_db.map_or("   -".to_owned(), |loss| format!("{loss:.2} dB"));
        writeln!(
            f,
            "  {name:<26} top-1 {}   top-3 {}   power loss {loss}   n {}",
            percent(score.top1),
            percent(score.top3),
            score.count
        )
    };
    let reports = &score.reports;
    if reports.seen > 0 {
        let passed: Vec<String> = [
            ("without a decision", reports.undecided),
            ("without a frame", reports.unmatched),
            ("not comparable", reports.incomparable),
            ("silent", reports.silent),
            ("late", reports.late),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{what} {count}"))
        .collect();
        let passed = if passed.is_empty() { String::new() } else { format!(" ({})", passed.join(", ")) };
        writeln!(f, "  beams scored against {} of {} link reports{passed}", reports.scored, reports.seen)?;
    }
    if reports.seen == 0 {
        writeln!(f, "  no link report came: beams are not scored")?;
    } else {
        row(f, "beam, decided", &score.beam)?;
        if let Some(fallback) = &unit.fallback {
            row(f, "beam, fallback", &fallback.score.beam)?;
        }
        row(f, "beam, persistence", &score.persistence)?;
        row(f, "beam, extrapolation", &score.extrapolation)?;
        row(f, "beam, majority afterwards", &score.majority)?;
    }
    write_blockage(f, "blockage, decided", &score.blockage)?;
    if let Some(fallback) = &unit.fallback {
        write_blockage(f, "blockage, fallback", &fallback.score.blockage)?;
    }
    if let Some(blocked) = score.blockage.prevalence {
        let truth = match score.blockage.truth {
            Some(BlockageTruth::Label) => "by label",
            Some(BlockageTruth::Power) => "by power",
            None => "by either truth",
        };
        let majority = percent(Some(blocked.max(1.0 - blocked)));
        writeln!(
            f,
            "  blocked ({truth}) {} of {} readings: always saying the commoner one is right in {}",
            percent(Some(blocked)).trim(),
            score.blockage.count,
            majority.trim()
        )?;
    }
    Ok(())
}

fn write_blockage(f: &mut fmt::Formatter<'_>, name: &str, score: &BlockageScore) -> fmt::Result {
    if score.count == 0 {
        return Ok(());
    }
    let lead = score.lead_time_ms.map_or("-".to_owned(), |lead| format!("{lead:.0} ms"));
    let BlockageScore { hits, late_hits, misses, false_alarms, .. } = score;
    writeln!(
        f,
        "  {name:<26} hits {hits} ({late_hits} late)   misses {misses}   false alarms {false_alarms}   mean lead {lead}"
    )
}
