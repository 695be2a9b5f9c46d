//! Reading a pipeline file, or another one of the kind (a scene): every problem at once.
//!
//! serde stops at the first wrong value. Here the value it stopped at is noted, cut out of the document (its default
//! takes its place) and the rest is read again, until nothing is wrong any more; the ranges are checked last.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::{AngleAxis, Codebook, Pipeline, Pose, Poses, Radar, Site};
use crate::model::NetworkConfig;
use crate::sample::Modality;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted key, e.g. `align.camera.tolerance_ms`; empty for the file as a whole.
    pub key: String,
    /// What was found and what is allowed.
    pub message: String,
}

/// A file that cannot be used: one line per problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Everything that is wrong with it.
    pub problems: Vec<Problem>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}: ", self.file.display())?;
            if !problem.key.is_empty() {
                write!(f, "{}: ", problem.key)?;
            }
            write!(f, "{}", problem.message)?;
        }
        Ok(())
    }
}

/// Reads and checks a pipeline file. Paths in it are taken relative to its folder.
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn load(path: &Path) -> Result<Pipeline, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
        file: path.to_owned(),
        problems: vec![Problem { key: String::new(), message: format!("cannot read the pipeline: {error}") }],
    })?;
    let mut pipeline = parse(path, &text)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let files =
        [&mut pipeline.output.zenoh_config, &mut pipeline.output.decision_log, &mut pipeline.model.network];
    for file in files.into_iter().flatten() {
        *file = folder.join(&*file);
    }
    if let Some(demo) = &mut pipeline.demo {
        demo.scene = folder.join(&demo.scene);
        demo.folder = folder.join(&demo.folder);
    }
    Ok(pipeline)
}

/// Reads and checks a network's configuration file.
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn load_network(path: &Path) -> Result<NetworkConfig, ConfigError> {
    let text = read_extending(path, "the network's configuration", &|folder, table| {
        let mut of = |section: &[&str], keys: &[&str]| {
            let inner =
                section.iter().try_fold(&mut *table, |table, &key| table.get_mut(key)?.as_table_mut());
            let Some(inner) = inner else { return };
            keys.iter().for_each(|&key| place(folder, inner.get_mut(key)));
        };
        of(&["backbone"], &["checkpoint", "tokenizer", "adapter"]);
        of(&["encoders", "image"], &["weights"]);
        of(&["core"], &["gpt2"]);
    })?;
    parse_checked(path, &text, |network: &NetworkConfig, problems| {
        problems.extend(network.problems().into_iter().map(|(key, message)| Problem { key, message }));
    })
}

/// Files that extend one another at most.
const DEPTH: usize = 8;

/// The text of a file that may extend another one of its kind (`extends = "FILE"`), of which it states only what differs:
/// tables are merged, but for one that states another `kind`, and `false` in the place of a table leaves it out; everything
/// else is replaced. `paths` puts the paths in a
/// table that are relative to its file behind that file's folder, see [`place`].
pub(crate) fn read_extending(
    path: &Path,
    what: &str,
    paths: &dyn Fn(&Path, &mut toml::Table),
) -> Result<String, ConfigError> {
    let table = read_layers(path, what, paths, DEPTH)?;
    toml::to_string(&table).map_err(|error| fail(path, "", error.to_string()))
}

/// Puts a path behind a folder; an empty one stays what it is, which no file is.
pub(crate) fn place(folder: &Path, value: Option<&mut toml::Value>) {
    if let Some(toml::Value::String(path)) = value.filter(|value| value.as_str() != Some("")) {
        *path = folder.join(&*path).to_string_lossy().into_owned();
    }
}

fn fail(path: &Path, key: &str, message: String) -> ConfigError {
    ConfigError { file: path.to_owned(), problems: vec![Problem { key: key.to_owned(), message }] }
}

fn read_layers(
    path: &Path,
    what: &str,
    paths: &dyn Fn(&Path, &mut toml::Table),
    depth: usize,
) -> Result<toml::Table, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| fail(path, "", format!("cannot read {what}: {error}")))?;
    let mut own = read_table(&text).map_err(|message| fail(path, "", message))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    paths(folder, &mut own);
    let Some(extends) = own.remove("extends") else { return Ok(own) };
    let Some(base) = extends.as_str() else {
        return Err(fail(path, "extends", format!("found {extends}, allowed is a path")));
    };
    if depth == 0 {
        return Err(fail(path, "extends", format!("found more than {DEPTH} files that extend one another")));
    }
    let mut table = read_layers(&folder.join(base), what, paths, depth - 1)?;
    lay_over(&mut table, own);
    Ok(table)
}

fn lay_over(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over))
                if over.get("kind").is_none_or(|kind| base.get("kind") == Some(kind)) =>
            {
                lay_over(base, over);
            }
            (Some(toml::Value::Table(_)), toml::Value::Boolean(false)) => {
                base.remove(&key);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn read_table(text: &str) -> Result<toml::Table, String> {
    text.parse().map_err(|error: toml::de::Error| {
        // The excerpt in the middle is for a terminal of its own; where and what fit in one line.
        let text = error.to_string();
        let mut lines = text.lines();
        let place = lines.next().unwrap_or_default();
        format!("{place}: {}", lines.next_back().unwrap_or_default())
    })
}

/// Parses and checks the text of a pipeline file; `path` only names it in errors.
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn parse(path: &Path, text: &str) -> Result<Pipeline, ConfigError> {
    parse_checked(path, text, check_ranges)
}

/// Parses the text of a file and then checks its ranges; `path` only names it in errors.
pub(crate) fn parse_checked<T: DeserializeOwned>(
    path: &Path,
    text: &str,
    check_ranges: impl FnOnce(&T, &mut Vec<Problem>),
) -> Result<T, ConfigError> {
    let fail = |problems| Err(ConfigError { file: path.to_owned(), problems });
    let table = match read_table(text) {
        Ok(table) => table,
        Err(message) => return fail(vec![Problem { key: String::new(), message }]),
    };
    let (value, mut problems) = read_tolerantly::<T>(table);
    let Some(value) = value else { return fail(problems) };
    check_ranges(&value, &mut problems);
    if problems.is_empty() { Ok(value) } else { fail(problems) }
}

/// Reads a value, cutting out and noting whatever does not fit. `None` when what is left cannot be read at all.
fn read_tolerantly<T: DeserializeOwned>(mut table: toml::Table) -> (Option<T>, Vec<Problem>) {
    let mut problems = Vec::new();
    loop {
        match serde_path_to_error::deserialize::<_, T>(toml::Value::Table(table.clone())) {
            Ok(value) => return (Some(value), problems),
            Err(error) => {
                let path: Vec<String> = error
                    .path()
                    .iter()
                    .filter_map(|segment| match segment {
                        Segment::Map { key } => Some(key.clone()),
                        Segment::Seq { index } => Some(index.to_string()),
                        Segment::Enum { .. } | Segment::Unknown => None,
                    })
                    .collect();
                let message =
                    error.inner().to_string().lines().next().unwrap_or_default().trim_end().to_owned();
                let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
                let cut = match unknown {
                    Some(field) if path.last().map(String::as_str) != Some(field) => {
                        let mut whole = path.clone();
                        whole.push(field.to_owned());
                        cut_out(&mut table, &whole).or_else(|| cut_out(&mut table, &path))
                    }
                    _ => cut_out(&mut table, &path),
                };
                problems.push(Problem { key: cut.clone().unwrap_or_else(|| path.join(".")), message });
                if cut.is_none() {
                    return (None, problems);
                }
            }
        }
    }
}

/// Removes the deepest table entry on `path`; returns its dotted key. Elements of an array are counted from 0.
fn cut_out(table: &mut toml::Table, path: &[String]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    if let Some(key) = table.get_mut(first).and_then(|inner| cut_inside(inner, rest)) {
        return Some(format!("{first}.{key}"));
    }
    table.remove(first).map(|_| first.clone())
}

fn cut_inside(value: &mut toml::Value, path: &[String]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    match value {
        toml::Value::Table(table) => cut_out(table, path),
        toml::Value::Array(array) => {
            let key = cut_inside(array.get_mut(first.parse::<usize>().ok()?)?, rest)?;
            Some(format!("{first}.{key}"))
        }
        _ => None,
    }
}

/// A value that must lie between two others.
pub(crate) fn within<T: PartialOrd + fmt::Display>(
    problems: &mut Vec<Problem>,
    key: &str,
    value: T,
    low: T,
    high: T,
) {
    // Written so that NaN is out of range.
    if !(value >= low && value <= high) {
        let message = format!("found {value}, allowed is {low} to {high}");
        problems.push(Problem { key: key.to_owned(), message });
    }
}

/// Whether a key is known to be wrong already, so that its default stands in and nothing follows from it.
/// The angles of a codebook.
pub(crate) fn check_peaks(codebook: &Codebook, problems: &mut Vec<Problem>) {
    let Some(peaks) = &codebook.peaks_deg else { return };
    for &degrees in peaks {
        within(problems, "codebook.peaks_deg", degrees, -360.0, 360.0);
    }
    if let Some(beams) = codebook.beams.filter(|&beams| beams != peaks.len()) {
        let message = format!("found {} angles, allowed are {beams} (codebook.beams)", peaks.len());
        problems.push(Problem { key: "codebook.peaks_deg".to_owned(), message });
    }
}

fn is_told(problems: &[Problem], key: &str) -> bool {
    problems.iter().any(|problem| key.starts_with(&problem.key))
}

fn check_ranges(pipeline: &Pipeline, problems: &mut Vec<Problem>) {
    check_input(pipeline, problems);
    check_space(pipeline.site.as_ref(), &pipeline.pose, &pipeline.radar, problems);
    check_align(pipeline, problems);
    check_decide(pipeline, problems);
}

fn check_input(pipeline: &Pipeline, problems: &mut Vec<Problem>) {
    let input = &pipeline.input;
    let units_ok = input.units == "*" || crate::sample::UnitId::new(&input.units).is_ok();
    if !units_ok {
        let message = format!(
            "found `{}`, allowed is one unit name (letters, digits, `-`, `_`) or `*` for every unit",
            input.units
        );
        problems.push(Problem { key: "input.units".to_owned(), message });
    }
    within(problems, "input.max_units", input.max_units, 1, 1024);
    within(problems, "input.decode_threads", input.decode_threads, 1, 64);
    within(problems, "input.mailbox_items", input.mailbox_items, 1, 4096);
    within(problems, "input.mailbox_bytes", input.mailbox_bytes, 1 << 16, 4 << 30);
    within(problems, "input.recording.rate_hz", input.recording.rate_hz, 0.01, 1000.0);
    within(problems, "input.recording.latency_ms", input.recording.latency_ms, 0.0, 10_000.0);
    let limits = &pipeline.limits;
    for (key, value) in [
        ("limits.camera_bytes", limits.camera_bytes),
        ("limits.radar_bytes", limits.radar_bytes),
        ("limits.lidar_bytes", limits.lidar_bytes),
        ("limits.ue_bytes", limits.ue_bytes),
        ("limits.image_decoded_bytes", limits.image_decoded_bytes),
    ] {
        within(problems, key, value, 1, 1 << 30);
    }
    within(problems, "limits.image_side", limits.image_side, 1, 16_384);
    within(problems, "limits.points", limits.points, 1, 16 << 20);
    within(problems, "output.queue", pipeline.output.queue, 16, 1 << 20);
    if let Some(beams) = pipeline.codebook.beams {
        within(problems, "codebook.beams", beams, 1, 4096);
    } else if input.zenoh && !is_told(problems, "input.zenoh") && !is_told(problems, "codebook.beams") {
        problems.push(Problem {
            key: "codebook.beams".to_owned(),
            message: "not given, but samples come from zenoh: say how many beams the unit has (1 to 4096)"
                .to_owned(),
        });
    }
    check_peaks(&pipeline.codebook, problems);
    if let Some(demo) = &pipeline.demo {
        within(problems, "demo.rate", demo.rate, 0.01, 10.0);
        if !input.zenoh && !is_told(problems, "input.zenoh") {
            let message =
                "found beside input.zenoh = false, allowed with true: it publishes to zenoh".to_owned();
            problems.push(Problem { key: "demo".to_owned(), message });
        }
    }
    let missing = input.zenoh && pipeline.output.zenoh_config.is_none();
    if missing && !is_told(problems, "input.zenoh") && !is_told(problems, "output.zenoh_config") {
        problems.push(Problem {
            key: "output.zenoh_config".to_owned(),
            message: "not given, but samples come from zenoh: name the zenoh configuration file".to_owned(),
        });
    }
}

/// The ranges of `[site]`, `[pose.*]` and `[radar]`, which a pipeline and a scene say in the same words.
pub(crate) fn check_space(site: Option<&Site>, pose: &Poses, radar: &Radar, problems: &mut Vec<Problem>) {
    if let Some(site) = site {
        within(problems, "site.latitude", site.latitude, -90.0, 90.0);
        within(problems, "site.longitude", site.longitude, -180.0, 180.0);
        within(problems, "site.altitude_m", site.altitude_m, -500.0, 10_000.0);
        within(problems, "site.heading_deg", site.heading_deg, -360.0, 360.0);
    }
    let poses: [(&str, &Pose); 3] =
        [("pose.camera", &pose.camera), ("pose.radar", &pose.radar), ("pose.lidar", &pose.lidar)];
    for (name, pose) in poses {
        for metres in pose.position_m {
            within(problems, &format!("{name}.position_m"), metres, -1000.0, 1000.0);
        }
        for (key, degrees) in
            [("yaw_deg", pose.yaw_deg), ("pitch_deg", pose.pitch_deg), ("roll_deg", pose.roll_deg)]
        {
            within(problems, &format!("{name}.{key}"), degrees, -360.0, 360.0);
        }
    }
    within(problems, "radar.wavelength_m", radar.wavelength_m, 1e-4, 1.0);
    within(problems, "radar.rx_spacing_m", radar.rx_spacing_m, 1e-5, 1.0);
    within(problems, "radar.range_bin_m", radar.range_bin_m, 1e-4, 100.0);
    within(problems, "radar.chirp_period_s", radar.chirp_period_s, 1e-7, 1.0);
    within(problems, "radar.angle_bins", radar.angle_bins, 2, 4096);
    within(problems, "radar.max_peaks", radar.max_peaks, 1, 65_536);
    if let AngleAxis::Degrees { first, step } = radar.map_angle {
        within(problems, "radar.map_angle.degrees.first", first, -360.0, 360.0);
        within(problems, "radar.map_angle.degrees.step", step.abs(), 1e-3, 180.0);
    }
}

fn check_align(pipeline: &Pipeline, problems: &mut Vec<Problem>) {
    let align = &pipeline.align;
    for modality in &align.reference {
        if *modality == Modality::Blocked {
            problems.push(Problem {
                key: "align.reference".to_owned(),
                message:
                    "found `blocked`, allowed are camera, radar, lidar, position, link: truth opens no frame"
                        .to_owned(),
            });
        }
    }
    within(problems, "align.tick_ms", align.tick_ms, 1.0, 60_000.0);
    within(problems, "align.max_wait_ms", align.max_wait_ms, 0.0, 10_000.0);
    if let Some(lag) = align.link_lag_ms {
        within(problems, "align.link_lag_ms", lag, 0.0, 60_000.0);
    }
    within(problems, "align.link_reports", align.link_reports, 1, 256);
    within(problems, "align.link_max_age_ms", align.link_max_age_ms, 1.0, 600_000.0);
    within(problems, "align.max_ues", align.max_ues, 1, 4096);
    if align.ues.len() > align.max_ues {
        problems.push(Problem {
            key: "align.ues".to_owned(),
            message: format!("found {} UEs, allowed are {} (align.max_ues)", align.ues.len(), align.max_ues),
        });
    }
    within(problems, "align.ue_ttl_s", align.ue_ttl_s, 0.1, 86_400.0);
    within(problems, "align.window", align.window, 1, 64);
    within(problems, "align.stride_ms", align.stride_ms, 1.0, 60_000.0);
    within(problems, "align.gap_ms", align.gap_ms, 1.0, 600_000.0);
    for modality in [Modality::Camera, Modality::Radar, Modality::Lidar, Modality::Position] {
        let Some(rules) = align.rules(modality) else { continue };
        let key = |name: &str| format!("align.{modality}.{name}");
        within(problems, &key("offset_ms"), rules.offset_ms, -10_000.0, 10_000.0);
        within(problems, &key("tolerance_ms"), rules.tolerance_ms, 0.0, 10_000.0);
        within(problems, &key("max_age_ms"), rules.max_age_ms, 0.0, 60_000.0);
        within(problems, &key("capacity_items"), rules.capacity_items, 2, 4096);
        within(problems, &key("capacity_bytes"), rules.capacity_bytes, 1 << 16, 16 << 30);
    }
}

fn check_decide(pipeline: &Pipeline, problems: &mut Vec<Problem>) {
    let decide = &pipeline.decide;
    let horizons = &decide.horizons_ms;
    if horizons.is_empty() || horizons.len() > 32 || !horizons.is_sorted_by(|a, b| a < b) {
        problems.push(Problem {
            key: "decide.horizons_ms".to_owned(),
            message: format!("found {horizons:?}, allowed are 1 to 32 horizons in ascending order, 0 = now"),
        });
    }
    within(problems, "decide.sweep", decide.sweep, 1, 4096);
    within(problems, "decide.hold_ttl_ms", decide.hold_ttl_ms, 0.0, 600_000.0);
    within(problems, "decide.recover_frames", decide.recover_frames, 1, 1000);
    within(problems, "decide.raise_at", decide.raise_at, 0.0, 1.0);
    if (0.0..=1.0).contains(&decide.raise_at) {
        within(problems, "decide.clear_at", decide.clear_at, 0.0, decide.raise_at);
    }
    within(problems, "decide.raise_frames", decide.raise_frames, 1, 1000);
    within(problems, "decide.clear_frames", decide.clear_frames, 1, 1000);
    within(problems, "decide.blockage_db", decide.blockage_db, 0.1, 100.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<(String, String)> {
        let error = parse(Path::new("p.toml"), text).unwrap_err();
        error.problems.into_iter().map(|problem| (problem.key, problem.message)).collect()
    }

    #[test]
    fn an_empty_file_lacks_only_what_has_no_default() {
        let keys: Vec<String> = problems("").into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["codebook.beams", "output.zenoh_config"]);
        assert_eq!(parse(Path::new("p.toml"), "[input]\nzenoh = false").unwrap().align.window, 5);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let found = problems(
            "[input]\nzenoh = false\nclock = \"sundial\"\nunits = \"a/b\"\nsped = 1\n\
             [align]\nmax_wait_ms = -1\nreference = [\"camera\", \"sonar\"]\n\
             [align.camera]\ntolerance_ms = \"wide\"\n[nonsense]\nx = 1\n\
             [decide]\nhorizons_ms = [100, 0]\nraise_at = nan\n",
        );
        let key = |key: &str| {
            found
                .iter()
                .find(|(found, _)| found == key)
                .unwrap_or_else(|| panic!("{key} is not among {found:#?}"))
                .1
                .clone()
        };
        assert!(key("input.clock").contains("`system` or `recorded`"), "{}", key("input.clock"));
        assert!(key("input.units").contains("a/b"));
        assert!(key("input.sped").contains("unknown field `sped`, expected one of"));
        assert!(key("align.max_wait_ms").contains("allowed is 0 to 10000"));
        assert!(key("align.reference").contains("sonar"));
        assert!(key("align.camera.tolerance_ms").contains("expected f64"));
        assert!(key("nonsense").contains("unknown field"));
        assert!(key("decide.horizons_ms").contains("ascending"));
        assert!(key("decide.raise_at").contains("NaN"));
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let found = problems("[input]\nzenoh = maybe\n");
        assert!(found[0].1.contains("line 2"), "{found:?}");
    }

    #[test]
    fn the_file_is_named_in_every_line() {
        let error = parse(Path::new("dir/p.toml"), "a = 1\nb = 2\n").unwrap_err();
        assert!(error.to_string().lines().all(|line| line.starts_with("dir/p.toml: ")), "{error}");
    }
}
