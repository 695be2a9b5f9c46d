//! What was seen, with what is true of it: examples.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::super::shared::Shared;
use super::super::{
    Ahead, DataSet, Example, Origin, Place, Report, RowsAhead, Shape, Source, Truth, condition, lose,
    mmfi as people,
};
use super::collector::{FrameSeen, Kept, UeSeen};
use super::{CollectError, Request, SCENE};
use crate::config::{Codebook, Pipeline};
use crate::model::MODALITIES;
use crate::model::tasks::{Sizes, Task};
use crate::percentile::LinkReference;
use crate::recording::mmfi::Labels;
use crate::recording::{LoadError, Recording, mmfi};
use crate::sample::{Stream, UeId};
use crate::simulate;
use crate::time::{CaptureTime, Span};

/// The condition of each sequence of a recording that has its scene beside it; none of others.
fn conditions(recording: &Recording) -> Result<Vec<String>, CollectError> {
    let path = recording.path().join(SCENE);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(Vec::new()) };
    let told = condition::of_scene(&text)
        .map_err(|error| CollectError::Scene { path, reason: error.message().to_owned() })?;
    // The index counts sequences from 1.
    let of = |id: &str| told.get(id.parse::<usize>().ok()?.checked_sub(1)?).cloned();
    let each = recording.sequences().iter().map(|sequence| of(sequence.id.as_deref()?));
    // All, or none.
    Ok(each.collect::<Option<Vec<String>>>().unwrap_or_default())
}

/// What one UE is known to have measured.
#[derive(Default)]
struct Known {
    /// Capture and position in the data set's reports.
    reports: Vec<(CaptureTime, u32)>,
    /// Whether the link was blocked.
    blocked: Vec<(CaptureTime, bool)>,
}

/// Frames on their way to examples.
pub(super) struct Labelled<'a> {
    recording: &'a Recording,
    frames: Vec<FrameSeen>,
    /// Per frame the sequence that it lies in.
    sequences: Vec<Option<usize>>,
    /// Per sequence, until when what was captured is of an earlier one.
    begins: Vec<Option<CaptureTime>>,
    known: BTreeMap<UeId, Known>,
    pub(super) data: DataSet,
    /// Positions among the data set's sources of a frame's readings: sensors, and link and position per UE.
    sensor_sources: HashMap<(usize, u32), u32>,
    ue_sources: HashMap<(u32, UeId), [Option<Kept>; 2]>,
    poses: BTreeMap<usize, Labels>,
    /// Per row the best beam, where labels alone say it; else nothing.
    labelled_beams: &'a [Option<u32>],
    /// How far from a row a frame may be that shows it: half of what a frame number counts, where rows are further apart.
    reach: Span,
}

impl<'a> Labelled<'a> {
    /// Of what was seen, with what the recording says is true.
    pub(super) fn new(
        request: &Request<'_>,
        pipeline: &Pipeline,
        recording: &'a Recording,
        frames: Vec<FrameSeen>,
        labelled_beams: &'a [Option<u32>],
    ) -> Result<Self, CollectError> {
        let codebook: Codebook = pipeline.codebook.clone();
        let beams = codebook.beams.unwrap_or(1);
        let horizons_ms = pipeline.decide.horizons_ms.clone();
        let mut sizes = Sizes::new(pipeline.align.window, beams, horizons_ms.len());
        sizes.instants = request.instants_ms.len();
        let half = recording.period().half();
        let sequences = sequences(recording, &frames, half);
        let end = |sequence: &crate::recording::Sequence| {
            Some(recording.rows().get(sequence.rows.clone())?.last()?.capture + half)
        };
        let ends = recording.sequences().iter().map(end);
        let begins = std::iter::once(None).chain(ends).take(recording.sequences().len()).collect();
        let rate_hz = pipeline.input.recording.rate_hz;
        let rows = |&ms: &u32| (f64::from(ms) * rate_hz / 1e3).round() as usize;
        let rows_ahead = (request.ahead == Ahead::Rows).then(|| RowsAhead {
            rows: request.instants_ms.iter().map(rows).collect(),
            period: recording.period(),
        });
        // Rows of their own that name the same file, as those of windows that overlap do, are one group.
        let mut shared: Shared<&Path> = Shared::new();
        recording.sequences().iter().for_each(|_| _ = shared.add());
        for sample in recording.samples() {
            let Some(row) = recording.rows().get(sample.row) else { continue };
            if recording.sequences().get(row.sequence).is_some_and(|sequence| sequence.id.is_none()) {
                sample.paths().iter().for_each(|path| shared.join(row.sequence as u32, path));
            }
        }
        let groups = recording.sequences().iter().enumerate().map(|(number, sequence)| {
            let person = recording.people().get(number);
            match (person, &sequence.id) {
                (Some(person), _) => format!("{}/S{:02}", request.name, person.subject),
                (None, Some(id)) => format!("{}/{id}", request.name),
                (None, None) => format!("{}/row {}", request.name, shared.root(number as u32)),
            }
        });
        let groups: Vec<String> = groups.collect();
        let shape = Shape {
            sizes,
            stride_ms: pipeline.align.stride_ms,
            codebook,
            horizons_ms,
            instants_ms: request.instants_ms.to_vec(),
        };
        let mut labelled = Self {
            recording,
            frames,
            sequences,
            begins,
            known: BTreeMap::new(),
            labelled_beams,
            data: DataSet {
                scene: origin(request.path),
                groups,
                conditions: conditions(recording)?,
                subjects: recording.people().iter().map(|person| person.subject as u32).collect(),
                sides: (!recording.people().is_empty()).then_some(people::SIDES),
                rows_ahead,
                ..DataSet::of_shape(request.name, request.tasks, shape)
            },
            sensor_sources: HashMap::new(),
            ue_sources: HashMap::new(),
            poses: BTreeMap::new(),
            reach: half.min(Span::from_secs_f64(0.5 / pipeline.input.recording.rate_hz)),
        };
        labelled.learn_truth()?;
        Ok(labelled)
    }

    /// Reads what the radio measured, and what people did.
    fn learn_truth(&mut self) -> Result<(), CollectError> {
        let noise_free = noise_free(self.recording.path())?;
        for (row, &beam) in self.recording.rows().iter().zip(self.labelled_beams) {
            // As one who measured that beam alone.
            let mut linear = vec![f64::NAN; self.data.shape.sizes.beams];
            let named = beam.and_then(|beam| linear.get_mut(beam as usize)).map(|power| *power = 1.0);
            let Some(report) = named.and_then(|()| Report::new(row.capture, linear)) else { continue };
            let known = self.known.entry(UeId::implied()).or_default();
            known.reports.push((row.capture, self.data.reports.len() as u32));
            self.data.reports.push(report);
        }
        for row in self.recording.malformed() {
            let first = || format!("{}:{}: {}", row.file, row.line, row.reason);
            lose(&mut self.data.lost, "rows of the index cannot be read", true, first);
        }
        for sample in self.recording.samples() {
            match &sample.stream {
                Stream::Link(ue) => {
                    let linear = match self.recording.powers(sample) {
                        Ok(linear) => linear,
                        // A file that is missing or broken is a report that was not made.
                        Err(LoadError::Absent { path }) => {
                            let first = || path.display().to_string();
                            lose(&mut self.data.lost, "power files are not there", false, first);
                            continue;
                        }
                        Err(error) => {
                            let first = || error.to_string();
                            lose(&mut self.data.lost, "power files cannot be read", true, first);
                            continue;
                        }
                    };
                    let number = self.data.reports.len() as u32;
                    let report = Report::new(sample.capture, linear);
                    if report.is_none() {
                        let first = || sample.path().display().to_string();
                        lose(&mut self.data.lost, "power files have no power above 0", false, first);
                    }
                    if let Some(report) = report {
                        self.data.reports.push(report);
                        let row = self.recording.rows().get(sample.row).and_then(|row| row.index);
                        let best = row.and_then(|row| noise_free.get(&(row, ue.clone())));
                        if !noise_free.is_empty() {
                            self.data.noise_free.push(best.copied());
                        }
                        self.known.entry(ue.clone()).or_default().reports.push((sample.capture, number));
                    }
                }
                Stream::Blocked(ue) => {
                    #[derive(Deserialize)]
                    struct Told {
                        blocked: bool,
                    }
                    let told = match self.recording.load(sample) {
                        Ok((_, bytes)) => serde_json::from_slice::<Told>(&bytes)
                            .map_err(|error| format!("{}: {error}", sample.path().display())),
                        Err(LoadError::Absent { path }) => {
                            let first = || path.display().to_string();
                            lose(&mut self.data.lost, "blockage labels are not there", false, first);
                            continue;
                        }
                        Err(error) => Err(error.to_string()),
                    };
                    match told {
                        Ok(Told { blocked }) => {
                            self.known.entry(ue.clone()).or_default().blocked.push((sample.capture, blocked));
                        }
                        Err(error) => {
                            lose(&mut self.data.lost, "blockage labels cannot be read", true, || error);
                        }
                    }
                }
                _ => {}
            }
        }
        self.data.links = self.known.keys().cloned().collect();
        for known in self.known.values_mut() {
            known.reports.sort_unstable();
            known.blocked.sort_unstable();
            let mut reference = LinkReference::default();
            for &(capture, number) in &known.reports {
                if let Some(report) = self.data.reports.get_mut(number as usize) {
                    report.reference_db = reference.push(capture, report.best_db);
                }
            }
        }
        self.learn_people();
        Ok(())
    }

    /// What people did, and where their joints were.
    fn learn_people(&mut self) {
        if !self.data.tasks.iter().any(|task| task.is_of_unit()) {
            return;
        }
        for (sequence, performance) in self.recording.people().iter().enumerate() {
            // A truth that is missing or broken takes the poses, not what was done.
            let mut labels = Labels { performance: performance.clone(), poses: Vec::new(), broken: 0 };
            if self.data.tasks.contains(&Task::Pose) {
                let lost = &mut self.data.lost;
                match mmfi::labels(self.recording, sequence) {
                    Ok(known) => labels = known,
                    Err(LoadError::Absent { path }) => {
                        lose(lost, "files of true joints are not there", false, || {
                            path.display().to_string()
                        });
                    }
                    Err(error) => {
                        lose(lost, "files of true joints cannot be read", true, || error.to_string());
                    }
                }
                for _ in 0..labels.broken {
                    let first = || labels.performance.truth().display().to_string();
                    lose(lost, "frames have joints that are no numbers", true, first);
                }
            }
            self.poses.insert(sequence, labels);
        }
    }

    /// Makes an example of every frame and link, or of every frame, of which anything is known.
    pub(super) fn examples(&mut self) -> Result<(), CollectError> {
        let of_ue = self.data.tasks.iter().any(|task| !task.is_of_unit());
        let of_unit = self.data.tasks.iter().any(|task| task.is_of_unit());
        let mut examples = Vec::new();
        for position in 0..self.frames.len() {
            let (Some(frame), Some(Some(sequence))) =
                (self.frames.get(position).cloned(), self.sequences.get(position).copied())
            else {
                continue;
            };
            if of_ue {
                for seen in &self.links_of(&frame) {
                    let truth = self.truth_of_ue(&frame, sequence, seen);
                    if truth.beams.iter().any(Option::is_some) || truth.blocked.iter().any(Option::is_some) {
                        examples.push(Example {
                            group: sequence as u32,
                            link: self.known.keys().take_while(|ue| **ue != seen.ue).count() as u32,
                            time: frame.time,
                            places: self.places(&frame, sequence, Some(&seen.ue)),
                            past: self.told_before(&frame, seen, sequence),
                            was_blocked: self.was_blocked(&frame, seen, sequence),
                            truth,
                        });
                    }
                }
            }
            if of_unit && let Some(truth) = self.truth_of_unit(&frame, sequence) {
                examples.push(Example {
                    group: sequence as u32,
                    link: 0,
                    time: frame.time,
                    places: self.places(&frame, sequence, None),
                    past: Vec::new(),
                    was_blocked: None,
                    truth,
                });
            }
        }
        // Nothing in the present slot: nothing to conclude from.
        examples.retain(|example| example.places.iter().rev().take(MODALITIES).any(Option::is_some));
        self.data.examples = examples;
        self.merge_groups();
        Ok(())
    }

    /// Sequences of one name (a subject's) are one group.
    fn merge_groups(&mut self) {
        let mut names: Vec<String> = self.data.groups.clone();
        names.sort();
        names.dedup();
        if !self.data.conditions.is_empty() {
            let told: BTreeMap<&String, &String> =
                self.data.groups.iter().zip(&self.data.conditions).rev().collect();
            self.data.conditions = names
                .iter()
                .map(|name| told.get(name).map_or_else(String::new, |told| (*told).clone()))
                .collect();
        }
        if !self.data.subjects.is_empty() {
            let told: BTreeMap<&String, u32> =
                self.data.groups.iter().zip(self.data.subjects.iter().copied()).collect();
            self.data.subjects = names.iter().filter_map(|name| told.get(name).copied()).collect();
        }
        for example in &mut self.data.examples {
            let name = self.data.groups.get(example.group as usize);
            let at = name.and_then(|name| names.binary_search(name).ok());
            example.group = at.unwrap_or_default() as u32;
        }
        self.data.groups = names;
    }

    /// Whether something was captured after the sequences before this one. A unit hears of those, too, where they are no
    /// further back than its pipeline looks; what is learned and measured keeps to one sequence.
    fn is_of(&self, sequence: usize, capture: CaptureTime) -> bool {
        let begin = self.begins.get(sequence).copied().flatten();
        begin.is_none_or(|begin| capture > begin)
    }

    /// The links of a frame: those that it shows something of, and the one that labels speak of, which may show nothing.
    fn links_of(&self, frame: &FrameSeen) -> Vec<UeSeen> {
        let mut ues = frame.ues.clone();
        let labelled = UeId::implied();
        if !self.labelled_beams.is_empty() && ues.iter().all(|seen| seen.ue != labelled) {
            ues.push(UeSeen { ue: labelled, position: None, reports: Vec::new() });
        }
        ues
    }

    /// What simple predictors go by: the reports that a frame shows; where labels alone are known, those of the two rows before.
    fn told_before(&self, frame: &FrameSeen, seen: &UeSeen, sequence: usize) -> Vec<u32> {
        let Some(known) = self.known.get(&seen.ue).filter(|_| !self.labelled_beams.is_empty()) else {
            return self.past(seen, sequence);
        };
        let half = self.recording.period().half();
        let before = known.reports.partition_point(|(capture, _)| *capture < frame.time - half);
        let before = known.reports.get(before.saturating_sub(2)..before).unwrap_or_default();
        before.iter().filter(|(capture, _)| self.is_of(sequence, *capture)).map(|report| report.1).collect()
    }

    fn past(&self, seen: &UeSeen, sequence: usize) -> Vec<u32> {
        let reports = self.known.get(&seen.ue).map(|known| known.reports.as_slice()).unwrap_or_default();
        let find = |capture: &CaptureTime| {
            let at = reports.binary_search_by_key(capture, |report| report.0).ok()?;
            reports.get(at).map(|report| report.1)
        };
        seen.reports.iter().filter(|capture| self.is_of(sequence, **capture)).filter_map(find).collect()
    }

    /// Whether a link was blocked when its last report was made; one that is never measured, at the last row before.
    fn was_blocked(&self, frame: &FrameSeen, seen: &UeSeen, sequence: usize) -> Option<bool> {
        let Known { reports, blocked } = self.known.get(&seen.ue)?;
        let half = self.recording.period().half();
        if reports.is_empty() {
            let before = blocked.partition_point(|(capture, _)| *capture < frame.time - half);
            let (capture, blocked) = blocked.get(before.checked_sub(1)?)?;
            return self.is_of(sequence, *capture).then_some(*blocked);
        }
        let last = seen.reports.last().filter(|capture| self.is_of(sequence, **capture))?;
        nearest(blocked, *last, half).map(|(_, blocked)| blocked)
    }

    /// `[W · D]`
    fn places(&mut self, frame: &FrameSeen, sequence: usize, ue: Option<&UeId>) -> Vec<Option<Place>> {
        let mut places = Vec::with_capacity(frame.slots.len() * MODALITIES);
        for slot in &frame.slots {
            let Some(position) = *slot else {
                places.resize(places.len() + MODALITIES, None);
                continue;
            };
            let Some(seen) = self.frames.get(position as usize).cloned() else { continue };
            if !self.is_of(sequence, seen.time) {
                places.resize(places.len() + MODALITIES, None);
                continue;
            }
            let age = |capture: CaptureTime| (frame.time - capture).as_secs_f64() as f32;
            for (kind, kept) in seen.sensors.iter().enumerate() {
                let kept = kept.filter(|&(_, capture)| self.is_of(sequence, capture));
                places.push(kept.map(|(number, capture)| {
                    let sources = &mut self.data.sources;
                    let reading = *self.sensor_sources.entry((kind, number)).or_insert_with(|| {
                        sources.push(match kind {
                            0 => Source::Image(number),
                            1 => Source::Radar(number),
                            _ => Source::Lidar(number),
                        });
                        sources.len() as u32 - 1
                    });
                    Place { reading, age_s: age(capture) }
                }));
            }
            let of_ue = ue.map(|ue| self.of_ue(position, &seen, sequence, ue)).unwrap_or_default();
            places.extend(
                of_ue.map(|found| found.map(|(reading, capture)| Place { reading, age_s: age(capture) })),
            );
        }
        places
    }

    /// Link and position of a UE in a frame.
    fn of_ue(&mut self, position: u32, frame: &FrameSeen, sequence: usize, ue: &UeId) -> [Option<Kept>; 2] {
        if let Some(found) = self.ue_sources.get(&(position, ue.clone())) {
            return *found;
        }
        let mut found = [None; 2];
        if let Some(seen) = frame.ues.iter().find(|seen| seen.ue == *ue) {
            let reports = self.past(seen, sequence);
            let located = seen.position.filter(|&(_, capture)| self.is_of(sequence, capture));
            let sources = &mut self.data.sources;
            if let Some(last) = reports.last().and_then(|&last| self.data.reports.get(last as usize)) {
                found[0] = Some((sources.len() as u32, last.capture));
                sources.push(Source::Link { reports, seen: frame.time });
            }
            if let Some((position, capture)) = located {
                found[1] = Some((sources.len() as u32, capture));
                sources.push(Source::Position(position));
            }
        }
        self.ue_sources.insert((position, ue.clone()), found);
        found
    }

    /// What is true of a UE: at each instant the report nearest to it within half a period, or that of the row so many rows
    /// ahead, of those that the frame has not seen; blocked now, and at any time until each horizon, as far as the sequence
    /// tells.
    fn truth_of_ue(&self, frame: &FrameSeen, sequence: usize, seen: &UeSeen) -> Truth {
        let Some(known) = self.known.get(&seen.ue) else { return Truth::default() };
        let newest = seen.reports.last();
        let unseen = known.reports.partition_point(|(capture, _)| newest.is_some_and(|seen| capture <= seen));
        let unseen = known.reports.get(unseen..).unwrap_or_default();
        let half = self.recording.period().half();
        let rows = self.recording.sequences().get(sequence).map(|sequence| sequence.rows.clone());
        let rows = rows.and_then(|rows| self.recording.rows().get(rows)).unwrap_or_default();
        let within = |time: CaptureTime| {
            let captures = rows.first().zip(rows.last());
            captures.is_some_and(|(first, last)| first.capture - half <= time && time <= last.capture + half)
        };
        let at = |ms: u32| frame.time + Span::from_millis(i64::from(ms));
        let beams: Vec<Option<u32>> = match &self.data.rows_ahead {
            None => {
                let beam = |&ms: &u32| {
                    nearest(unseen, at(ms), half)
                        .filter(|(capture, _)| within(*capture))
                        .map(|report| report.1)
                };
                self.data.shape.instants_ms.iter().map(beam).collect()
            }
            Some(RowsAhead { rows: ahead, .. }) => {
                let captures: Vec<(CaptureTime, usize)> =
                    rows.iter().zip(0..).map(|(row, at)| (row.capture, at)).collect();
                let own = nearest(&captures, frame.time, half).map(|(_, at)| at);
                let beam = |ahead: &usize| {
                    let row = rows.get(own? + ahead)?;
                    let found = unseen.binary_search_by_key(&row.capture, |report| report.0).ok()?;
                    unseen.get(found).map(|report| report.1)
                };
                ahead.iter().map(beam).collect()
            }
        };
        let mut any = false;
        let mut watched = 0;
        let mut blocked = Vec::with_capacity(self.data.shape.horizons_ms.len());
        for (horizon, &ms) in self.data.shape.horizons_ms.iter().enumerate() {
            let (from, to) = (frame.time - half, at(ms) + half);
            let begin = known.blocked.partition_point(|(capture, _)| *capture < from);
            let told = known.blocked.get(begin..).unwrap_or_default();
            let told = told.iter().take_while(|(capture, _)| *capture < to && within(*capture));
            let mut last = None;
            for (capture, blocked) in told {
                any |= blocked;
                last = Some(*capture);
            }
            let reaches = last.is_some_and(|last| last >= at(ms) - half);
            if reaches && watched == horizon {
                watched += 1;
            }
            blocked.push(if any { Some(true) } else { reaches.then_some(false) });
        }
        Truth { beams, blocked, watched, ..Truth::default() }
    }

    fn truth_of_unit(&self, frame: &FrameSeen, sequence: usize) -> Option<Truth> {
        let labels = self.poses.get(&sequence)?;
        let rows = self.recording.sequences().get(sequence)?.rows.clone();
        let captures: Vec<(CaptureTime, usize)> =
            self.recording.rows().get(rows)?.iter().zip(0..).map(|(row, at)| (row.capture, at)).collect();
        let (_, at) = nearest(&captures, frame.time, self.reach)?;
        let pose = labels.poses.get(at).copied().flatten();
        Some(Truth {
            activity: Some(labels.performance.activity() as u32),
            // Camera axes (x right, y down, z forward) to the unit's.
            pose: pose.map(|pose| pose.iter().map(|[x, y, z]| [*x, *z, -y]).collect()),
            ..Truth::default()
        })
    }
}

/// Of each frame the sequence of its row, the nearest one within `half`; none of a frame whose row another one is nearer to:
/// what is true of a row is asked once.
fn sequences(recording: &Recording, frames: &[FrameSeen], half: Span) -> Vec<Option<usize>> {
    let mut rows: Vec<(CaptureTime, usize)> =
        recording.rows().iter().map(|row| (row.capture, row.sequence)).collect();
    rows.sort_unstable();
    let of_frame: Vec<_> = frames.iter().map(|frame| nearest(&rows, frame.time, half)).collect();
    let mut asked: HashMap<(CaptureTime, usize), (Span, usize)> = HashMap::new();
    for (position, (row, frame)) in of_frame.iter().zip(frames).enumerate() {
        let Some(row) = *row else { continue };
        let own = ((frame.time - row.0).abs(), position);
        asked.entry(row).and_modify(|known| *known = own.min(*known)).or_insert(own);
    }
    let is_asked = |position: usize, row: &(CaptureTime, usize)| {
        asked.get(row).is_some_and(|&(_, asked)| asked == position)
    };
    let of_frame = of_frame.into_iter().enumerate();
    of_frame.map(|(position, row)| Some(row.filter(|row| is_asked(position, row))?.1)).collect()
}

fn origin(recording: &Path) -> Option<Origin> {
    let text = fs::read_to_string(recording.join(SCENE)).ok()?;
    let sha256 = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    Some(Origin { sha256, simulator: simulate::version_of(&text) })
}

/// What the truth beside a simulated recording says of each row and user: the best beam without noise.
fn noise_free(recording: &Path) -> Result<HashMap<(u64, UeId), u32>, CollectError> {
    #[derive(Deserialize)]
    struct Row {
        row: u64,
        ues: Vec<Ue>,
    }
    #[derive(Deserialize)]
    struct Ue {
        unit: u32,
        best_beam: Option<u32>,
    }
    let path = recording.join("truth.jsonl");
    let Ok(text) = fs::read_to_string(&path) else { return Ok(HashMap::new()) };
    let mut known = HashMap::new();
    for line in text.lines() {
        let row: Row = serde_json::from_str(line)
            .map_err(|error| CollectError::Scene { path: path.clone(), reason: error.to_string() })?;
        for ue in row.ues {
            // `unit2` is the first.
            let name = UeId::new(&ue.unit.saturating_sub(2).to_string());
            if let (Ok(name), Some(best)) = (name, ue.best_beam) {
                known.insert((row.row, name), best);
            }
        }
    }
    Ok(known)
}

/// Of pairs in the order of time, the one nearest to `time`, `most` away at most; the earlier of two.
fn nearest<T: Copy>(pairs: &[(CaptureTime, T)], time: CaptureTime, most: Span) -> Option<(CaptureTime, T)> {
    let after = pairs.partition_point(|(capture, _)| *capture < time);
    let around = [after.checked_sub(1), Some(after)].into_iter().flatten();
    let found = around.filter_map(|at| pairs.get(at)).min_by_key(|(capture, _)| (time - *capture).abs())?;
    ((time - found.0).abs() <= most).then_some(*found)
}
