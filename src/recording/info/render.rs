//! The report for a person's terminal.

use std::fmt;

use super::{BlockageInfo, Info, InfoReport, LISTED, ModalityInfo, PeopleInfo, TimeInfo};
use crate::recording::StampSource;

impl fmt::Display for InfoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Recording(info) => info.fmt(f),
            Self::Arrays { path, files } => {
                writeln!(f, "{}: arrays, no recording", path.display())?;
                let width = files.iter().map(|file| file.file.len()).max().unwrap_or(0);
                for file in files {
                    let name = &file.file;
                    if let Some(reason) = &file.unreadable {
                        writeln!(f, "  {name:width$}  unreadable: {reason}")?;
                    } else if let Some(windows) = &file.windows {
                        writeln!(
                            f,
                            "  {name:width$}  {} windows of {} frames × {} beams, {} positive (majority rate {})",
                            windows.windows,
                            windows.frames,
                            windows.beams,
                            percent(windows.positive_share),
                            percent(windows.positive_share.max(1.0 - windows.positive_share)),
                        )?;
                    } else {
                        let arrays: Vec<String> = file
                            .arrays
                            .iter()
                            .map(|array| {
                                format!("{} {} {:?}", array.name, array.dtype, array.shape).trim().to_owned()
                            })
                            .collect();
                        writeln!(f, "  {name:width$}  {}", arrays.join("; "))?;
                    }
                }
                Ok(())
            }
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// The first few of a list of rows.
fn first_rows(rows: &[usize]) -> String {
    let listed: Vec<String> = rows.iter().take(LISTED).map(ToString::to_string).collect();
    let more = if rows.len() > LISTED { ", …" } else { "" };
    format!("{}{more}", listed.join(", "))
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.path.display())?;
        if !self.index.is_empty() {
            line(f, "index", &self.index.join(", "))?;
        }
        let (shortest, longest) = self.sequence_rows;
        line(
            f,
            "rows",
            &format!("{} in {} sequences of {shortest} to {longest}", self.rows, self.sequences),
        )?;
        if self.malformed_rows > 0 {
            line(f, "malformed", &format!("{} rows left out", self.malformed_rows))?;
            for row in &self.malformed {
                line(f, "", &format!("{} line {}: {}", row.file, row.line, row.reason))?;
            }
        }
        time(f, &self.time)?;
        if let Some((latitude, longitude)) = self.site {
            line(f, "site", &format!("{latitude:.6}°, {longitude:.6}°"))?;
        }
        line(
            f,
            "files",
            &format!("{:<9}{:>8}{:>9}{:>9}{:>12}", "", "named", "present", "absent", "unreadable"),
        )?;
        for ModalityInfo { modality, named, present, absent, unreadable, problems } in &self.modalities {
            let name = modality.name();
            line(f, "", &format!("{name:<9}{named:>8}{present:>9}{absent:>9}{unreadable:>12}"))?;
            for problem in problems {
                let path = problem.path.strip_prefix(&self.path).unwrap_or(&problem.path);
                line(f, "", &format!("  {}: {}", path.display(), problem.reason))?;
            }
        }
        power(f, self)?;
        if let Some(blockage) = &self.blockage {
            blocked(f, blockage)?;
        }
        if let Some(people) = &self.people {
            let PeopleInfo { environments, subjects, actions, with_truth, poses } = people;
            line(f, "people", &format!("{subjects} subjects, {actions} actions, {environments} rooms"))?;
            let truth = format!("ground truth of {with_truth} sequences: a pose in {poses} rows (no input)");
            line(f, "", &truth)?;
        }
        for note in &self.notes {
            line(f, "note", note)?;
        }
        if !self.unread_columns.is_empty() {
            line(f, "not read", &self.unread_columns.join(", "))?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, key: &str, value: &str) -> fmt::Result {
    writeln!(f, "  {key:<10} {value}")
}

fn time(f: &mut fmt::Formatter<'_>, time: &TimeInfo) -> fmt::Result {
    let rate =
        time.rate_hz.map_or("no rate: single rows".to_owned(), |rate| format!("{rate:.2} Hz (median)"));
    let source = match &time.stamps.source {
        StampSource::Column(name) => format!("stamps from `{name}`"),
        StampSource::CameraNames => "stamps from the names of the camera files".to_owned(),
        StampSource::Synthetic => "no stamps: times are synthetic (row / rate)".to_owned(),
    };
    line(f, "time", &format!("{rate}, {source}"))?;
    line(
        f,
        "",
        &format!("{:.1} s in sequences, {:.1} s from first to last", time.recorded_s, time.duration_s),
    )?;
    if let Some(hours) = time.stamps.hours_behind_radar_names {
        line(f, "", &format!("stamps are {hours} h behind the radar files' names: local time"))?;
    }
    if time.gaps > 0 {
        let longest = time.longest_step_s;
        line(f, "", &format!("{} gaps over 0.5 s within sequences, the longest {longest:.2} s", time.gaps))?;
    }
    let stamps = &time.stamps;
    if !stamps.backward.is_empty() {
        let rows = first_rows(&stamps.backward);
        line(
            f,
            "",
            &format!("{} stamps not after the one before (rows {rows}): mended", stamps.backward.len()),
        )?;
    }
    if stamps.unstamped > 0 {
        line(f, "", &format!("{} rows without a readable stamp: put in between", stamps.unstamped))?;
    }
    if stamps.moved_sequences > 0 {
        line(
            f,
            "",
            &format!("{} sequences moved to stand 2 s after the one before", stamps.moved_sequences),
        )?;
    }
    Ok(())
}

fn power(f: &mut fmt::Formatter<'_>, info: &Info) -> fmt::Result {
    let Some(power) = &info.power else {
        return match &info.label_column {
            Some(name) => line(f, "labels", &format!("`{name}` cannot be tested: no powers")),
            None => Ok(()),
        };
    };
    let nan = match power.rows_with_nan {
        0 => "none is NaN".to_owned(),
        rows => format!("{rows} rows with NaN ({} beams)", power.nan_cells),
    };
    line(f, "powers", &format!("{} beams, {} rows, {nan}", power.beams, power.rows))?;
    if let Some((spread, gap)) = power.spread_db.zip(power.gap_db) {
        line(f, "", &format!("median best over worst {spread:.2} dB, best over second {gap:.2} dB"))?;
    }
    if let Some((beam, share)) = power.majority_beam.zip(power.majority_share) {
        line(f, "", &format!("majority: beam {beam} is best in {} of the rows", percent(share)))?;
    }
    let Some(name) = &info.label_column else { return Ok(()) };
    let Some(fit) = &info.labels else {
        return line(f, "labels", &format!("`{name}` cannot be tested: no row has both label and powers"));
    };
    if fit.share < 0.5 {
        let text = format!(
            "`{name}` fits no known reading: at best the best beam in {} of {} rows",
            percent(fit.share),
            fit.compared
        );
        return line(f, "labels", &text);
    }
    let reversed = if fit.reversed { ", reversed" } else { "" };
    let shift = match fit.row_shift {
        0 => String::new(),
        shift => format!(", of the row {} it", if shift > 0 { "after" } else { "before" }),
    };
    let reading = format!("{}-based{reversed}{shift}", fit.first_beam);
    line(
        f,
        "labels",
        &format!("`{name}` is {reading}: the best beam in {} of {} rows", percent(fit.share), fit.compared),
    )?;
    if fit.first_beam != 0 || fit.reversed || fit.row_shift != 0 {
        line(f, "", &format!("(taken as 0-based beams of their row: {})", percent(fit.share_as_is)))?;
    }
    if !fit.mismatches.is_empty() {
        line(f, "", &format!("other beams in rows {}", first_rows(&fit.mismatches)))?;
    }
    Ok(())
}

fn blocked(f: &mut fmt::Formatter<'_>, blockage: &BlockageInfo) -> fmt::Result {
    let share = blockage.blocked_share;
    let never = percent(1.0 - share);
    line(
        f,
        "blockage",
        &format!("{} of {} labels blocked (\"never\" is right in {never})", percent(share), blockage.rows),
    )?;
    let (before, same, after) = (blockage.shift.before, blockage.shift.same, blockage.shift.after);
    let best = blockage.shift.best();
    if let (Some(before), Some(same), Some(after)) = (before, same, after)
        && (best != 0 || blockage.applied_shift != 0)
    {
        let applied = match blockage.applied_shift {
            0 => "left as they are".to_owned(),
            shift => format!("taken from row {shift:+}"),
        };
        let areas = format!("AUROC against power {before:.4} at −1, {same:.4} at 0, {after:.4} at +1");
        line(f, "", &format!("labels fit best from row {best:+}: {areas}; {applied}"))?;
    }
    Ok(())
}
