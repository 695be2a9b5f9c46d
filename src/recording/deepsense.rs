//! DeepSense 6G: index files whose columns name the files of each instant, and bare folders of camera frames.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use csv::ByteRecord;

use super::columns::{Columns, Reading};
use super::payload;
use super::stamp::{self, DayTime};
use super::timeline::{self, Rules};
use super::{
    MalformedRow, Options, RecordedSample, Recording, RecordingError, Row, Sequence, StampSource, Stamps,
    order, slot, stream,
};
use crate::sample::{CaptureSource, Modality, Stream, UeId};
use crate::time::{CaptureTime, Span};

/// Largest index file.
const INDEX_LIMIT: u64 = 256 << 20;
/// Frames of a bare folder that are further apart belong to different sequences.
const FRAME_GAP: i64 = 2 * stamp::SECOND;
/// Where the place of a unit that stands still is written.
const UNIT_PLACE: &str = "unit1/GPS_data/gps_location.txt";
/// A file's own stamp counts when it is this close to its row's.
const OWN_STAMP: i64 = 2 * stamp::SECOND;

/// A row as the index says it.
#[derive(Clone, Debug, Default)]
struct RawRow {
    index: Option<u64>,
    /// Its place among the rows of its index file, from 0, malformed ones counted too.
    ordinal: u64,
    /// Index file and name of the sequence; without a name the row is its own sequence.
    sequence: (usize, Option<String>),
    stamp: Option<DayTime>,
    label: Option<i64>,
    files: Vec<RawReading>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RawReading {
    modality: Modality,
    /// Whose it is, where it is of a UE.
    ue: u32,
    back: u32,
    paths: Vec<PathBuf>,
}

/// What the index files say.
#[derive(Default)]
struct Raw {
    rows: Vec<RawRow>,
    malformed: Vec<MalformedRow>,
    notes: Vec<String>,
    unread_columns: Vec<String>,
    label_column: Option<String>,
    time_column: Option<String>,
    site_paths: Vec<PathBuf>,
}

/// Opens a folder or an index file.
pub(super) fn open(path: &Path, options: &Options) -> Result<Recording, RecordingError> {
    if !(options.rate_hz > 0.0 && options.rate_hz <= 1e5) {
        return Err(RecordingError::Rate { found: options.rate_hz });
    }
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => RecordingError::Missing { path: path.to_owned() },
        _ => RecordingError::Io { path: path.to_owned(), source },
    };
    if fs::metadata(path).map_err(io)?.is_file() {
        return open_indices(path, vec![path.to_owned()], options);
    }
    let files = list(path)?;
    let of_kind = |kinds: &[&str]| -> Vec<PathBuf> {
        files.iter().filter(|file| kinds.contains(&extension(file).as_str())).cloned().collect()
    };
    let indices = of_kind(&["csv"]);
    if !indices.is_empty() {
        return open_indices(path, main_index(indices), options);
    }
    let frames = of_kind(&["jpg", "jpeg", "png"]);
    if !frames.is_empty() {
        return build(path, Vec::new(), frame_rows(frames), options);
    }
    Err(RecordingError::NoIndex { path: path.to_owned(), found: kinds(&files) })
}

/// The files of a folder, by name.
pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>, RecordingError> {
    let io = |source| RecordingError::Io { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        files.push(entry.map_err(io)?.path());
    }
    files.sort();
    Ok(files)
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

/// How many files of which kind there are, for a message.
pub(super) fn kinds(files: &[PathBuf]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        let kind = match extension(file) {
            _ if file.is_dir() => "folders".to_owned(),
            kind if kind.is_empty() => "files without an extension".to_owned(),
            kind => format!(".{kind}"),
        };
        *counts.entry(kind).or_default() += 1;
    }
    let list: Vec<String> = counts.iter().take(8).map(|(kind, count)| format!("{count} {kind}")).collect();
    if list.is_empty() { "nothing".to_owned() } else { list.join(", ") }
}

/// `scenarioN.csv` alone where it stands beside others, else all of them.
fn main_index(indices: Vec<PathBuf>) -> Vec<PathBuf> {
    let main = indices.iter().find(|path| {
        let stem =
            path.file_stem().map(|stem| stem.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        stem.strip_prefix("scenario").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    });
    match main {
        Some(main) => vec![main.clone()],
        None => indices,
    }
}

/// The number behind `scenario` in a file name.
fn scenario(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
    let digits: String = name.strip_prefix("scenario")?.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn open_indices(path: &Path, indices: Vec<PathBuf>, options: &Options) -> Result<Recording, RecordingError> {
    if let Some(index) = indices.iter().find(|index| scenario(index) == Some(22)) {
        let reason = "scenario 22 repeats scenario 21 with NaN in place of powers: read scenario 21";
        return Err(RecordingError::Refused { path: index.clone(), reason });
    }
    let mut raw = Raw::default();
    let mut read = Vec::new();
    let mut unknown = None;
    for index in indices {
        match read_index(&index, read.len(), &mut raw) {
            Ok(()) => read.push(index),
            // Other tables may lie beside the index; without any index the first one is reported.
            Err(error @ RecordingError::NoKnownColumn { .. }) => {
                let name = file_name(&index);
                raw.notes.push(format!("{name} is no index: none of its columns is known"));
                unknown = unknown.or(Some(error));
            }
            Err(error) => return Err(error),
        }
    }
    match unknown {
        Some(error) if read.is_empty() => Err(error),
        _ => {
            if raw.site_paths.is_empty() {
                // Development indices have no column of the unit's own place; the file lies where the others name it.
                let beside = read.first().and_then(|index| index.parent()).map(|root| root.join(UNIT_PLACE));
                raw.site_paths.extend(beside.filter(|file| file.is_file()));
            }
            build(path, read, raw, options)
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn first_line_ends_in_crlf(text: &[u8]) -> bool {
    text.split_inclusive(|&byte| byte == b'\n').next().is_some_and(|line| line.ends_with(b"\r\n"))
}

fn read_index(path: &Path, number: usize, raw: &mut Raw) -> Result<(), RecordingError> {
    let io = |source| RecordingError::Io { path: path.to_owned(), source };
    let csv_error = |source| RecordingError::Csv { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(io)?.len();
    if size > INDEX_LIMIT {
        return Err(RecordingError::TooLarge { path: path.to_owned(), found: size, allowed: INDEX_LIMIT });
    }
    let mut text = BufReader::new(payload::open_file(path).map_err(io)?);
    // Of lines that end in "\r\n" the reader is through with the first character when it says where the next record begins.
    let behind = u64::from(first_line_ends_in_crlf(text.fill_buf().map_err(io)?));
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text);
    let header = reader.byte_headers().map_err(csv_error)?.clone();
    let names: Vec<String> = header.iter().map(|cell| String::from_utf8_lossy(cell).into_owned()).collect();
    let columns = Columns::parse(names.iter().map(String::as_str));
    if columns.readings.is_empty() {
        // Of a file in another encoding they are no text.
        let shown = |name: String| name.escape_debug().take(60).collect();
        let found = names.into_iter().filter(|name| !name.trim().is_empty()).take(20).map(shown).collect();
        return Err(RecordingError::NoKnownColumn { path: path.to_owned(), found });
    }
    let root = path.parent().unwrap_or(Path::new(""));
    let needed = columns.needed();
    let mut record = ByteRecord::new();
    let mut ordinal = 0;
    while reader.read_byte_record(&mut record).map_err(csv_error)? {
        if record.iter().all(|cell| cell.trim_ascii().is_empty()) {
            continue;
        }
        let line = record.position().map_or(0, |position| position.line() + behind);
        match read_row(&record, root, number, &columns, needed, names.len(), raw) {
            Ok(row) => raw.rows.push(RawRow { ordinal, ..row }),
            Err(reason) => raw.malformed.push(MalformedRow { file: file_name(path), line, reason }),
        }
        ordinal += 1;
    }
    raw.unread_columns.extend(columns.unread);
    raw.label_column = raw.label_column.take().or(columns.label.map(|(_, name)| name));
    raw.time_column = raw.time_column.take().or(columns.time.map(|(_, name)| name));
    Ok(())
}

fn read_row(
    record: &ByteRecord,
    root: &Path,
    number: usize,
    columns: &Columns,
    needed: usize,
    width: usize,
    raw: &mut Raw,
) -> Result<RawRow, String> {
    if record.len() < needed {
        return Err(format!("{} cells; the columns that are read need {needed}", record.len()));
    }
    if record.iter().skip(width).any(|cell| !cell.trim_ascii().is_empty()) {
        return Err(format!("{} cells under {width} columns", record.len()));
    }
    let cell = |position: usize| -> Result<Option<&str>, String> {
        let bytes = record.get(position).unwrap_or_default().trim_ascii();
        let text = std::str::from_utf8(bytes).map_err(|_| format!("cell {} is no text", position + 1))?;
        Ok(Some(text).filter(|text| !text.is_empty() && !text.eq_ignore_ascii_case("nan")))
    };
    let optional = |position: Option<usize>| position.map_or(Ok(None), cell);
    let whole = |text: &str| text.parse::<f64>().ok().filter(|v| v.fract() == 0.0 && v.abs() < 1e15);

    let mut row = RawRow {
        index: optional(columns.index)?.and_then(whole).filter(|&v| v >= 0.0).map(|value| value as u64),
        sequence: (number, optional(columns.sequence)?.map(str::to_owned)),
        stamp: optional(columns.time.as_ref().map(|(position, _)| *position))?.and_then(stamp::parse_cell),
        ordinal: 0,
        label: match optional(columns.label.as_ref().map(|(position, _)| *position))? {
            Some(text) => Some(whole(text).ok_or_else(|| format!("`{text}` is no beam"))? as i64),
            None => None,
        },
        files: Vec::new(),
    };
    for Reading { modality, ue, back, alternatives } in &columns.readings {
        let mut chosen: Option<Vec<PathBuf>> = None;
        for alternative in alternatives {
            let mut paths = Vec::with_capacity(alternative.len());
            for &position in alternative {
                if let Some(text) = cell(position)? {
                    paths.push(resolve(root, text)?);
                }
            }
            if paths.len() < alternative.len() {
                continue;
            }
            // Only a choice between columns makes it worth looking whether the files are there.
            if alternatives.len() == 1 || paths.iter().all(|path| path.is_file()) {
                chosen = Some(paths);
                break;
            }
            chosen = chosen.or(Some(paths));
        }
        if let Some(paths) = chosen {
            row.files.push(RawReading { modality: *modality, ue: *ue, back: *back, paths });
        }
    }
    if let Some(text) = optional(columns.site)? {
        let path = resolve(root, text)?;
        // The unit stands still: its place is the same file over and over, or a few equal ones.
        if raw.site_paths.len() < 8 && raw.site_paths.last() != Some(&path) {
            raw.site_paths.push(path);
        }
    }
    if row.files.is_empty() {
        return Err("it names no file".to_owned());
    }
    Ok(row)
}

/// A path of the index, which must stay within the recording.
fn resolve(root: &Path, text: &str) -> Result<PathBuf, String> {
    let text = text.replace('\\', "/");
    let mut path = root.to_owned();
    for component in Path::new(text.trim_start_matches('/')).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return Err(format!("`{text}` leaves the recording")),
        }
    }
    Ok(path)
}

/// The last number in a file name that is not a time.
fn file_number(path: &Path) -> Option<(String, u64, String)> {
    let name = file_name(path);
    let end = name.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = name.get(..end)?.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    let number = name.get(start..end)?.parse().ok()?;
    Some((name.get(..start)?.to_owned(), number, name.get(end..)?.to_owned()))
}

/// Rows of a bare folder of frames: by time and running number, a new sequence where they are far apart.
fn frame_rows(frames: Vec<PathBuf>) -> Raw {
    let mut rows: Vec<RawRow> = frames
        .into_iter()
        .map(|path| {
            let name = file_name(&path);
            let stamp = stamp::parse_file_name(&name);
            let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
            let mut words = stem.rsplit('_');
            // `<n>_<HH>_<MM>_<SS>` or `<n>`.
            let number = if stamp.is_some_and(|stamp| stamp.coarse) { words.nth(3) } else { words.next() };
            let files = vec![RawReading { modality: Modality::Camera, ue: 0, back: 0, paths: vec![path] }];
            let index = number.and_then(|number| number.parse().ok());
            RawRow { index, stamp, files, ..RawRow::default() }
        })
        .collect();
    // Running numbers tell the order, also over midnight; names without one go by their stamp.
    rows.sort_by_key(|row| (row.index, row.stamp.map(|stamp| stamp.nanos)));
    let mut sequence = 1u64;
    let mut last: Option<DayTime> = None;
    for row in &mut rows {
        if let (Some(last), Some(now)) = (last, row.stamp) {
            let apart = (now.nanos - last.nanos).rem_euclid(86_400 * stamp::SECOND);
            sequence += u64::from(apart > FRAME_GAP);
        }
        last = row.stamp.or(last);
        row.sequence = (0, Some(sequence.to_string()));
    }
    Raw { rows, ..Raw::default() }
}

/// Where blockage labels are numbered by row while the index jumps, the index names files that do not exist or belong
/// to other rows (scenario 20): takes them by row.
fn renumber_labels(raw: &mut Raw) {
    let mut first: Option<u64> = None;
    let mut renamed: Vec<(usize, usize, PathBuf)> = Vec::new();
    let (mut named, mut by_row) = (0usize, 0usize);
    for (position, row) in raw.rows.iter().enumerate() {
        let blocked = row.files.iter().position(|file| file.modality == Modality::Blocked && file.ue == 0);
        let Some(at) = blocked else { continue };
        let Some(path) = row.files.get(at).and_then(|file| file.paths.first()) else { continue };
        let Some((prefix, number, suffix)) = file_number(path) else { return };
        // Before the jump both numberings agree, so the first row tells where the rows start to count.
        let offset = *first.get_or_insert_with(|| number.saturating_sub(row.ordinal));
        let expected = offset.saturating_add(row.ordinal);
        if number == expected {
            continue;
        }
        let candidate = path.with_file_name(format!("{prefix}{expected}{suffix}"));
        named += usize::from(path.is_file());
        by_row += usize::from(candidate.is_file());
        renamed.push((position, at, candidate));
    }
    if by_row <= named {
        return;
    }
    let count = renamed.len();
    for (position, at, candidate) in renamed {
        if let Some(file) = raw.rows.get_mut(position).and_then(|row| row.files.get_mut(at)) {
            file.paths = vec![candidate];
        }
    }
    raw.notes
        .push(format!("blockage labels are numbered by row while the index jumps: {count} taken by row"));
}

/// Whole hours by which the radar files' names are ahead of the stamps, where all of the first rows agree.
fn hours_ahead(rows: &[RawRow]) -> Option<i64> {
    let hour = 3600 * stamp::SECOND;
    let differences = rows.iter().filter_map(|row| {
        let radar = row.files.iter().find(|file| file.modality == Modality::Radar)?;
        let named = stamp::parse_file_name(&file_name(radar.paths.first()?))?;
        let apart = (named.nanos - row.stamp?.nanos).rem_euclid(24 * hour);
        Some(((apart + hour / 2) / hour).rem_euclid(24))
    });
    let hours: Vec<i64> = differences.take(1000).collect();
    let first = hours.first().copied().filter(|&hours| hours != 0)?;
    hours.iter().all(|&hours| hours == first).then_some(if first > 12 { first - 24 } else { first })
}

/// Gives every row its stamp and says where it comes from.
fn choose_stamps(raw: &mut Raw) -> StampSource {
    if raw.rows.iter().any(|row| row.stamp.is_some()) {
        return raw.time_column.clone().map_or(StampSource::CameraNames, StampSource::Column);
    }
    let mut any = false;
    for row in &mut raw.rows {
        let camera = row.files.iter().find(|file| file.modality == Modality::Camera && file.back == 0);
        row.stamp = camera.and_then(|file| stamp::parse_file_name(&file_name(file.paths.first()?)));
        any |= row.stamp.is_some();
    }
    if let Some(column) = &raw.time_column {
        let used = if any { "the names of the camera files" } else { "row numbers" };
        raw.notes.push(format!("`{column}` holds no time of day that can be read: times are from {used}"));
    }
    if any { StampSource::CameraNames } else { StampSource::Synthetic }
}

/// Leaves out rows that name the files of an earlier one of their sequence, powers among them: what such a row is asked, its past
/// would tell. Those of another sequence are told.
fn leave_out_repeated(raw: &mut Raw) {
    let is_power = |file: &RawReading| file.modality == Modality::Link && file.back == 0;
    let mut known: HashMap<Vec<RawReading>, HashSet<(usize, Option<String>)>> = HashMap::new();
    let (before, mut elsewhere) = (raw.rows.len(), 0);
    raw.rows.retain(|row| {
        if !row.files.iter().any(is_power) {
            return true;
        }
        let sequences = known.entry(row.files.clone()).or_default();
        let (is_known, is_new) = (!sequences.is_empty(), sequences.insert(row.sequence.clone()));
        elsewhere += usize::from(is_known && is_new);
        is_new
    });
    let repeated = before - raw.rows.len();
    if repeated > 0 {
        raw.notes
            .push(format!("{repeated} rows name the files of an earlier one of their sequence: left out"));
    }
    if elsewhere > 0 {
        raw.notes
            .push(format!("{elsewhere} rows name the files of a row of another sequence: they count twice"));
    }
}

/// Rows of one sequence stand together. Where they do not, or do not go up, the order of `index` is taken, if every row has an
/// index of its own and no sequence comes apart by it; what is still in pieces is told.
fn bring_into_order(raw: &mut Raw) {
    let key = |row: &RawRow| Some((row.sequence.0, row.index?));
    let keys: Option<Vec<(usize, u64)>> = raw.rows.iter().map(key).collect();
    let distinct = keys.iter().flatten().collect::<HashSet<_>>().len();
    if keys.is_some_and(|keys| distinct == keys.len() && !keys.is_sorted()) {
        let mut ordered = raw.rows.clone();
        ordered.sort_by_key(key);
        if split_sequences(&ordered).len() <= split_sequences(&raw.rows).len() {
            raw.rows = ordered;
            raw.notes.push("the rows are not in the order of their `index`: taken in that order".to_owned());
        }
    }
    let mut pieces: HashMap<&(usize, Option<String>), usize> = HashMap::new();
    let runs = raw.rows.chunk_by(|one, next| one.sequence == next.sequence).filter_map(|run| run.first());
    runs.for_each(|row| *pieces.entry(&row.sequence).or_default() += 1);
    let named = pieces.iter().filter(|((_, name), _)| name.is_some());
    let (broken, all) =
        named.fold((0, 0), |(broken, all), (_, &pieces)| (broken + usize::from(pieces > 1), all + 1));
    let unnamed = raw.rows.iter().filter(|row| row.sequence.1.is_none()).count();
    if broken > 0 {
        raw.notes.push(format!(
            "{broken} of {all} sequences lie in several pieces: each piece is taken for a sequence of its own, and knows \
             nothing of the others"
        ));
    }
    if all > 0 && unnamed > 0 {
        raw.notes.push(format!(
            "{unnamed} of {} rows name no sequence: each is taken for one of its own, and knows nothing of the others",
            raw.rows.len()
        ));
    }
}

/// Runs of rows of one sequence.
fn split_sequences(rows: &[RawRow]) -> Vec<Sequence> {
    let mut sequences: Vec<Sequence> = Vec::new();
    let mut last: Option<&(usize, Option<String>)> = None;
    for (position, row) in rows.iter().enumerate() {
        let joins = row.sequence.1.is_some() && last == Some(&row.sequence);
        match sequences.last_mut().filter(|_| joins) {
            Some(sequence) => sequence.rows.end = position + 1,
            None => sequences.push(Sequence { id: row.sequence.1.clone(), rows: position..position + 1 }),
        }
        last = Some(&row.sequence);
    }
    sequences
}

fn build(
    path: &Path,
    files: Vec<PathBuf>,
    mut raw: Raw,
    options: &Options,
) -> Result<Recording, RecordingError> {
    if raw.rows.is_empty() {
        return Err(RecordingError::NoRows {
            path: path.to_owned(),
            malformed: raw.malformed.len(),
            first: raw.malformed.into_iter().next(),
        });
    }
    leave_out_repeated(&mut raw);
    bring_into_order(&mut raw);
    renumber_labels(&mut raw);
    let source = choose_stamps(&mut raw);
    let hours_behind_radar_names = hours_ahead(&raw.rows);
    let sequences = split_sequences(&raw.rows);
    let stamps: Vec<Option<DayTime>> = raw.rows.iter().map(|row| row.stamp).collect();
    let runs: Vec<&[Option<DayTime>]> =
        sequences.iter().filter_map(|sequence| stamps.get(sequence.rows.clone())).collect();
    let lead = raw.rows.iter().flat_map(|row| &row.files).map(|file| file.back).max().unwrap_or(0);
    let rules = Rules {
        base: options.base,
        period: Span::from_secs_f64(1.0 / options.rate_hz),
        lead: i64::from(lead),
    };
    let placed = timeline::place(&runs, rules);

    let mut rows = Vec::with_capacity(raw.rows.len());
    let mut samples = Vec::new();
    let mut sequence_of =
        sequences.iter().enumerate().flat_map(|(n, sequence)| sequence.rows.clone().map(move |_| n));
    for ((position, row), &(capture, capture_source)) in raw.rows.iter().enumerate().zip(&placed.captures) {
        let sequence = sequence_of.next().unwrap_or(0);
        rows.push(Row { index: row.index, sequence, capture, capture_source, label: row.label });
        for file in &row.files {
            let at = if file.back == 0 {
                own_capture(file, row.stamp, capture)
            } else {
                capture - placed.period * i64::from(file.back)
            };
            // Only the row's own instant was stamped.
            let capture_source = if file.back == 0 { capture_source } else { CaptureSource::Synthetic };
            samples.push(RecordedSample {
                row: position,
                stream: stream(file.modality, &ue_of(file.ue)),
                capture: at,
                capture_source,
                paths: file.paths.clone(),
            });
        }
    }
    samples.sort_by_key(|sample| (sample.capture, order(sample.stream.modality()), sample.row));
    let mut at_row = vec![[None; Modality::ALL.len()]; rows.len()];
    // The newest reading of a row is the one of its own instant; a modality that ends earlier has none.
    let newest_back = |row: usize, modality: Modality| {
        let files = raw.rows.get(row).map(|row| row.files.iter());
        files.into_iter().flatten().any(|file| file.modality == modality && file.ue == 0 && file.back == 0)
    };
    let is_of_first = |stream: &Stream| stream.ue().is_none_or(|ue| *ue == UeId::implied());
    for (position, sample) in samples.iter().enumerate().filter(|(_, sample)| is_of_first(&sample.stream)) {
        let modality = sample.stream.modality();
        let cell = at_row.get_mut(sample.row).and_then(|cells| cells.get_mut(slot(modality)));
        if let Some(cell) = cell.filter(|_| newest_back(sample.row, modality)) {
            *cell = Some(position);
        }
    }
    let labels_may_be_shifted = files.iter().any(|file| scenario(file) == Some(21));
    Ok(Recording {
        path: path.to_owned(),
        files,
        unit: options.unit.clone(),
        rows,
        sequences,
        samples,
        at_row,
        period: placed.period,
        stamps: Stamps {
            source,
            backward: placed.backward,
            unstamped: placed.unstamped,
            moved_sequences: placed.moved,
            hours_behind_radar_names,
        },
        malformed: raw.malformed,
        notes: raw.notes,
        unread_columns: raw.unread_columns,
        label_column: raw.label_column,
        site_paths: raw.site_paths,
        labels_may_be_shifted,
        blockage_shift: OnceLock::new(),
        beams: OnceLock::new(),
        people: Vec::new(),
    })
}

/// The name of a recording's UE by its place: `0` is unit 2, as for one that is implied.
fn ue_of(place: u32) -> UeId {
    UeId::new(&place.to_string()).unwrap_or_else(|_| UeId::implied())
}

/// A file whose name carries a time finer than seconds was captured then, not at its row's instant.
fn own_capture(file: &RawReading, row: Option<DayTime>, capture: CaptureTime) -> CaptureTime {
    let named = file.paths.first().and_then(|path| stamp::parse_file_name(&file_name(path)));
    let (Some(named), Some(row)) = (named.filter(|named| !named.coarse), row) else { return capture };
    let day = 86_400 * stamp::SECOND;
    let apart = (named.nanos - row.nanos + day / 2).rem_euclid(day) - day / 2;
    if apart.abs() <= OWN_STAMP { capture + Span::from_nanos(apart) } else { capture }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_within_the_recording() {
        let root = Path::new("/data/scenario1");
        let expected = root.join("unit1/a.txt");
        for text in ["./unit1/a.txt", "unit1/a.txt", "/unit1/a.txt", ".\\unit1\\a.txt"] {
            assert_eq!(resolve(root, text), Ok(expected.clone()), "{text}");
        }
        assert!(resolve(root, "../secret.txt").is_err());
        assert!(resolve(root, "./unit1/../../secret.txt").is_err());
    }

    #[test]
    fn file_numbers_are_the_last_ones() {
        let (prefix, number, suffix) = file_number(Path::new("a1/label_17.txt")).unwrap();
        assert_eq!((prefix.as_str(), number, suffix.as_str()), ("label_", 17, ".txt"));
        assert_eq!(file_number(Path::new("label.txt")), None);
    }

    #[test]
    fn scenario_numbers_come_from_the_index() {
        assert_eq!(scenario(Path::new("x/scenario21.csv")), Some(21));
        assert_eq!(scenario(Path::new("Scenario5_dev_train.csv")), Some(5));
        assert_eq!(scenario(Path::new("index.csv")), None);
    }
}
