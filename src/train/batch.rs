//! Batches: which examples, what of them is seen, and their numbers on the device.
//!
//! A batch is a pure function of (seed, stage, step): a run that was stopped goes on with the same ones, and the number of
//! threads that prepare them changes nothing. It is made of runs of examples that follow each other, because their windows
//! share readings, each of which is encoded once. It holds runs of every data set of the step: batch norms, which are asked
//! about all of them with one running mean, must not learn from one at a time.

use std::borrow::Cow;
use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};
use rand_pcg::Pcg64;

use super::data::store::StoreError;
use super::data::{DataSet, Example, Reading, Report};
use super::recipe::{Augment, Losses, See};
use crate::infer::network::features::{self, BeamGrid};
use crate::model::encoders::EncodedBatch;
use crate::model::fusion::Tokens;
use crate::model::layers::Mode;
use crate::model::seeded;
use crate::model::tasks::{Asked, Task};
use crate::model::ue::{LINK_FEATURES, POSITION_FEATURES};
use crate::model::{Cloud, Input, MODALITIES, Network, NetworkConfig};

mod augment;
mod course;

pub use augment::Mirror;

use augment::{Body, Changed, forget, recolour, turn_image};
use course::{Course, Line};

/// The order in which the examples of one data set are shown.
#[derive(Clone, Debug)]
pub struct Order {
    runs: Vec<Vec<u32>>,
    seed: u64,
    name: String,
    shuffled: Option<(u64, Vec<u32>)>,
}

impl Order {
    /// Runs of at most `run` of `examples` that follow each other in a group.
    #[must_use]
    pub fn new(data: &DataSet, examples: &[u32], run: usize, seed: u64, stage: usize) -> Self {
        let mut runs: Vec<Vec<u32>> = Vec::new();
        let group = |number: u32| data.examples.get(number as usize).map(|example| example.group);
        for &number in examples {
            match runs.last_mut() {
                Some(last)
                    if last.len() < run
                        && last.last().is_some_and(|&before| {
                            before + 1 == number && group(before) == group(number)
                        }) =>
                {
                    last.push(number);
                }
                _ => runs.push(vec![number]),
            }
        }
        Self { runs, seed, name: format!("order {stage} {}", data.name), shuffled: None }
    }

    /// Runs of one pass.
    #[must_use]
    pub const fn runs(&self) -> usize {
        self.runs.len()
    }

    /// The examples of run `number`, counted over all passes; each pass has an order of its own.
    pub fn run(&mut self, number: u64) -> Vec<u32> {
        let count = self.runs.len() as u64;
        if count == 0 {
            return Vec::new();
        }
        let pass = number / count;
        if self.shuffled.as_ref().is_none_or(|(of, _)| *of != pass) {
            let mut order: Vec<u32> = (0..count as u32).collect();
            let mut random = seeded::stream(self.seed, &format!("{} {pass}", self.name));
            for last in (1..order.len()).rev() {
                order.swap(last, below(&mut random, last + 1));
            }
            self.shuffled = Some((pass, order));
        }
        let order = self.shuffled.as_ref().map(|(_, order)| order.as_slice()).unwrap_or_default();
        let at = order.get((number % count) as usize).copied().unwrap_or_default();
        self.runs.get(at as usize).cloned().unwrap_or_default()
    }
}

fn below(random: &mut Pcg64, count: usize) -> usize {
    ((seeded::uniform(random) * count as f64) as usize).min(count.saturating_sub(1))
}

/// How rows are made of examples.
#[derive(Clone, Copy, Debug)]
pub struct Making<'a> {
    /// What a row sees.
    pub see: See,
    /// Newest slots that are looked at.
    pub slots: usize,
    /// What is changed at random; `None`: nothing is, and nothing is dropped.
    pub augment: Option<&'a Augment>,
    /// Modalities that are never seen, in the order of [`Input::ALL`]: to ask what is lost without them.
    pub without: [bool; MODALITIES],
    /// How targets are made.
    pub losses: &'a Losses,
    /// What is asked.
    pub tasks: &'a [Task],
    /// Who is asked.
    pub network: &'a NetworkConfig,
}

/// Runs of examples of a data set, and how rows are made of them.
#[derive(Clone, Debug)]
pub struct Shown<'a> {
    /// Whose examples they are.
    pub data: &'a DataSet,
    /// The examples.
    pub runs: Vec<Vec<u32>>,
    /// How rows are made.
    pub making: Making<'a>,
}

/// What the right beam is.
#[derive(Clone, Debug, PartialEq)]
pub struct BeamTarget {
    /// The best beam.
    pub best: u32,
    /// Share of each beam, where targets are soft.
    pub shares: Vec<f32>,
}

/// What is right, in the order of the rows that each task is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets {
    /// Per row and instant.
    pub beam: Vec<Vec<Option<BeamTarget>>>,
    /// Per row and horizon.
    pub blockage: Vec<Vec<Option<bool>>>,
    /// Per row.
    pub activity: Vec<Option<u32>>,
    /// Per row.
    pub pose: Vec<Option<Vec<[f32; 3]>>>,
}

/// What stands in a place of a row.
#[derive(Clone, Copy, Debug)]
struct Seen {
    input: Input,
    /// Position in the batch's readings of this input.
    at: u32,
    age_s: f32,
}

/// A batch on the host.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    images: Vec<Vec<u8>>,
    radar: Vec<Cloud>,
    lidar: Vec<Cloud>,
    links: Vec<Vec<f32>>,
    positions: Vec<[f32; POSITION_FEATURES]>,
    /// `[R · W · D]`
    places: Vec<Option<Seen>>,
    rows: usize,
    slots: usize,
    /// Which rows each task is asked for.
    pub asked: Asked,
    /// The example of each row, by its number in its data set.
    pub examples: Vec<u32>,
    /// What is right.
    pub targets: Targets,
}

/// Rows of one example: tasks that look at the same window.
fn subjects(tasks: &[Task]) -> Vec<Vec<Task>> {
    let of_ue: Vec<Task> = tasks.iter().copied().filter(|task| !task.is_of_unit()).collect();
    let mut subjects = Vec::new();
    if !of_ue.is_empty() {
        subjects.push(of_ue);
    }
    subjects.extend(tasks.iter().filter(|task| task.is_of_unit()).map(|&task| vec![task]));
    subjects
}

impl Batch {
    /// Makes the rows of what is shown, as many slots each as the longest window has; what is random is drawn from `random`.
    ///
    /// # Errors
    /// [`StoreError`] when a reading cannot be looked up.
    pub fn make(shown: &[Shown<'_>], random: &mut Pcg64) -> std::result::Result<Self, StoreError> {
        let slots = shown.iter().map(|shown| shown.data.slots()).max().unwrap_or_default();
        let mut batch = Self { slots, ..Self::default() };
        let augments = shown.iter().filter_map(|shown| shown.making.augment);
        let slot_drop = augments.map(|augment| augment.slot_drop).fold(0.0, f64::max);
        let drawn = if slot_drop > 0.0 { slots.saturating_sub(1) } else { 0 };
        let dropped: Vec<bool> = (0..drawn).map(|_| seeded::uniform(random) < slot_drop).collect();
        shown.iter().try_for_each(|shown| batch.show(shown, &dropped, random))?;
        Ok(batch)
    }

    fn show(
        &mut self,
        shown: &Shown<'_>,
        dropped: &[bool],
        random: &mut Pcg64,
    ) -> std::result::Result<(), StoreError> {
        let Shown { data, runs, making } = shown;
        let mirror = making.augment.filter(|augment| augment.mirror > 0.0).and_then(|_| Mirror::of(data));
        let mut known: BTreeMap<u32, Option<Seen>> = BTreeMap::new();
        for run in runs {
            let share = making.augment.map_or(0.0, |augment| augment.mirror);
            let mirror = mirror.as_ref().filter(|_| seeded::uniform(random) < share);
            let first = run.first().and_then(|&number| data.examples.get(number as usize));
            let body = first.zip(making.augment);
            let body = body.and_then(|(example, augment)| Body::draw(example, mirror, augment, random));
            let course = making.augment.and_then(|augment| Course::draw(&augment.course, random));
            let changed = Changed { mirror, body, course };
            // A changed reading is another one.
            known.clear();
            for &number in run {
                let Some(example) = data.examples.get(number as usize) else { continue };
                for tasks in subjects(making.tasks) {
                    self.add(data, number, example, &tasks, making, (&changed, dropped), &mut known, random)?;
                }
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one row, each of its own kind")]
    fn add(
        &mut self,
        data: &DataSet,
        number: u32,
        example: &Example,
        tasks: &[Task],
        making: &Making<'_>,
        (changed, dropped): (&Changed<'_>, &[bool]),
        known: &mut BTreeMap<u32, Option<Seen>>,
        random: &mut Pcg64,
    ) -> std::result::Result<(), StoreError> {
        let slots = making.network.slots_of(tasks, data.slots()).min(making.slots);
        let hidden = (data.slots() - slots) * MODALITIES;
        let mut sees = sees(example, making, random);
        let line = changed.course.and_then(|course| along(course, data, example, slots, &sees));
        if line.is_some() {
            // Where the UE would be, nobody knows.
            sees = Input::ALL.map(|input| input == Input::Link);
        }
        let mut places = vec![None; self.slots * MODALITIES];
        // A shorter window stands at the end.
        let begin = (self.slots - data.slots()) * MODALITIES;
        for (at, place) in (begin..).zip(&example.places).skip(hidden) {
            let (Some(place), Some(&input)) = (place, Input::ALL.get(at % MODALITIES)) else { continue };
            if dropped.get(at / MODALITIES) == Some(&true) {
                continue;
            }
            if !sees.get(input.place()).copied().unwrap_or_default() {
                continue;
            }
            let seen = match known.get(&place.reading) {
                // Of another course it is another one for each example.
                Some(seen) if line.is_none() => *seen,
                _ => {
                    let mut reading = data.reading(place.reading)?;
                    if let (Some(line), Reading::Link(heard)) = (&line, &mut reading) {
                        *heard = line.heard(heard);
                    }
                    let seen = self.keep(reading, input, &data.grid, making.augment, changed, random);
                    if line.is_none() {
                        known.insert(place.reading, seen);
                    }
                    seen
                }
            };
            let jitter = making.augment.map_or(0.0, |augment| augment.time_jitter_ms / 1e3);
            let jitter = if jitter > 0.0 { jitter * (2.0 * seeded::uniform(random) - 1.0) } else { 0.0 };
            if let Some(slot) = places.get_mut(at) {
                *slot = seen.map(|seen| Seen { age_s: place.age_s + jitter as f32, ..seen });
            }
        }
        // Nothing to look at: an empty link report, say.
        if places.iter().rev().take(MODALITIES).all(Option::is_none) {
            return Ok(());
        }
        self.places.extend(places);
        let row = self.rows as u32;
        self.rows += 1;
        self.examples.push(number);
        for &task in tasks {
            self.asked.entry(task).or_default().push(row);
            match task {
                Task::Beam => {
                    let instants = 0..data.shape.sizes.instants;
                    let measured = |instant| match &line {
                        Some(line) => line.measured(data.measured(example, instant)?).map(Cow::Owned),
                        None => data.measured(example, instant).map(Cow::Borrowed),
                    };
                    let target = |instant| beam_target(&*measured(instant)?, making.losses, changed.mirror);
                    self.targets.beam.push(instants.map(target).collect());
                }
                Task::Blockage => {
                    let mut blocked = example.truth.blocked.clone();
                    if line.is_some() {
                        // When it would have come, nobody knows.
                        blocked.fill(None);
                    }
                    self.targets.blockage.push(blocked);
                }
                Task::Activity => {
                    let activity = example.truth.activity;
                    self.targets.activity.push(activity.map(|activity| changed.activity(activity)));
                }
                Task::Pose => {
                    let pose = example.truth.pose.as_ref();
                    self.targets.pose.push(pose.map(|pose| changed.pose(pose)));
                }
            }
        }
        Ok(())
    }

    /// Takes a reading in, changed at random; `None`: there is nothing in it.
    fn keep(
        &mut self,
        reading: Reading,
        input: Input,
        grid: &BeamGrid,
        augment: Option<&Augment>,
        changed: &Changed<'_>,
        random: &mut Pcg64,
    ) -> Option<Seen> {
        let mirrored = changed.mirror.is_some();
        let at = match reading {
            Reading::Image(mut pixels) => {
                if mirrored {
                    turn_image(&mut pixels);
                }
                if let Some(augment) = augment.filter(|augment| augment.colour > 0.0) {
                    recolour(&mut pixels, augment.colour, random);
                }
                self.images.push(pixels);
                self.images.len()
            }
            Reading::Cloud(mut cloud) => {
                let jitter = augment.map_or(0.0, |augment| augment.point_jitter_m) as f32;
                changed.points(&mut cloud, jitter, random);
                let clouds = if input == Input::Radar { &mut self.radar } else { &mut self.lidar };
                clouds.push(cloud);
                clouds.len()
            }
            Reading::Link(mut heard) => {
                if let Some(mirror) = changed.mirror {
                    heard.iter_mut().for_each(|report| mirror.turn(report));
                }
                if let Some(augment) = augment {
                    forget(&mut heard, augment, random);
                }
                if heard.is_empty() {
                    return None;
                }
                self.links.push(grid.features(&heard));
                self.links.len()
            }
            Reading::Position(mut position) => {
                if mirrored && let [x, _, _, _, sin, ..] = &mut position {
                    (*x, *sin) = (-*x, -*sin);
                }
                self.positions.push(position);
                self.positions.len()
            }
        };
        Some(Seen { input, at: at as u32 - 1, age_s: 0.0 })
    }

    /// Rows.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// The tokens of all rows, through the encoders of a network: of the newest slots, from the first one in which any row
    /// sees something.
    ///
    /// # Errors
    /// When the device fails.
    pub fn encode(&self, network: &Network, mode: Mode) -> Result<Tokens> {
        let (encoders, device) = (network.encoders(), network.device());
        let (count, width) = (network.config().tokens(), network.config().width);
        let mut bank: Vec<EncodedBatch> = Vec::new();
        let mut begins = [0u32; MODALITIES];
        let mut next = 1;
        for input in Input::ALL {
            let encoded = match input {
                Input::Camera if !self.images.is_empty() => {
                    let side = network.config().image_side();
                    encoders.images(&features::images(&self.images, side, device)?, mode)?
                }
                Input::Radar if !self.radar.is_empty() => encoders.clouds(input, &self.radar, mode)?,
                Input::Lidar if !self.lidar.is_empty() => encoders.clouds(input, &self.lidar, mode)?,
                Input::Link if !self.links.is_empty() => {
                    encoders.links(&features::links(&self.links, device)?, mode)?
                }
                Input::Position if !self.positions.is_empty() => {
                    encoders.positions(&features::positions(&self.positions, device)?)?
                }
                _ => continue,
            };
            if let Some(begin) = begins.get_mut(input.place()) {
                *begin = next;
            }
            next += encoded.valid.len() as u32;
            bank.push(encoded);
        }
        let valid: Vec<usize> = bank.iter().flat_map(|encoded| encoded.valid.iter().copied()).collect();
        let of_row = self.slots * MODALITIES;
        let empty =
            |row: &[Option<Seen>]| row.iter().take_while(|place| place.is_none()).count() / MODALITIES;
        let empty = self.places.chunks(of_row).map(empty).min().unwrap_or(0);
        let slots = self.slots - empty;
        let (mut picks, mut mask, mut ages) = (Vec::new(), Vec::new(), Vec::new());
        for place in self.places.chunks(of_row).flat_map(|row| row.iter().skip(empty * MODALITIES)) {
            let pick =
                place.map_or(0, |seen| begins.get(seen.input.place()).copied().unwrap_or_default() + seen.at);
            let valid = (pick as usize).checked_sub(1).and_then(|at| valid.get(at)).copied().unwrap_or(0);
            picks.push(pick);
            mask.extend((0..count).map(|token| f32::from(u8::from(token < valid))));
            ages.push(place.map_or(0.0, |seen| seen.age_s));
        }
        let dtype = bank.first().map_or(DType::F32, |encoded| encoded.tokens.dtype());
        // Place 0 is what is missing.
        let mut tokens = vec![Tensor::zeros((1, count, width), dtype, device)?];
        tokens.extend(bank.into_iter().map(|encoded| encoded.tokens));
        let shape = (self.rows, slots, MODALITIES);
        let total = picks.len();
        let values = Tensor::cat(&tokens, 0)?.index_select(&Tensor::from_vec(picks, total, device)?, 0)?;
        Ok(Tokens {
            values: values.reshape((self.rows, slots, MODALITIES, count, width))?,
            mask: Tensor::from_vec(mask, (self.rows, slots, MODALITIES, count), device)?,
            ages: Tensor::from_vec(ages, shape, device)?,
            reports: if network.config().report_prior { self.reports(device)? } else { None },
        })
    }

    /// What the reports of the present slot are made of, row by row; `None` where no row sees any.
    fn reports(&self, device: &Device) -> Result<Option<Tensor>> {
        if self.links.is_empty() {
            return Ok(None);
        }
        let of_row = self.slots * MODALITIES;
        let present = of_row - MODALITIES + Input::Link.place();
        let seen = self.places.chunks(of_row).map(|row| row.get(present).copied().flatten());
        let reports: Vec<&[f32]> = seen
            .map(|seen| {
                seen.and_then(|seen| self.links.get(seen.at as usize))
                    .map_or(&[0.0; LINK_FEATURES][..], Vec::as_slice)
            })
            .collect();
        features::links(&reports, device).map(Some)
    }
}

/// Which modalities a row sees: at least one of those that are there now.
fn sees(example: &Example, making: &Making<'_>, random: &mut Pcg64) -> [bool; MODALITIES] {
    let mut there = [false; MODALITIES];
    let present = example.places.len().saturating_sub(MODALITIES);
    for (there, place) in there.iter_mut().zip(example.places.iter().skip(present)) {
        *there = place.is_some();
    }
    let drops = making.augment.map(|augment| augment.drop.all()).unwrap_or_default();
    let mut sees: [bool; MODALITIES] = making.without.map(|without| !without);
    let candidates: Vec<usize> = (0..MODALITIES)
        .filter(|&input| sees.get(input) == Some(&true) && there.get(input) == Some(&true))
        .collect();
    let Some(augment) = making.augment else { return sees };
    // One that is never dropped for good is kept.
    let kept = |random: &mut Pcg64| {
        let usual: Vec<usize> = candidates
            .iter()
            .copied()
            .filter(|&input| augment.drop.all().get(input).is_some_and(|drop| *drop < 1.0))
            .collect();
        let from = if usual.is_empty() { &candidates } else { &usual };
        from.get(below(random, from.len())).copied()
    };
    match making.see {
        See::One => {
            let one = kept(random);
            sees = [false; MODALITIES];
            if let Some(sees) = one.and_then(|one| sees.get_mut(one)) {
                *sees = true;
            }
        }
        See::All => {
            for (sees, drop) in sees.iter_mut().zip(drops) {
                // Drawn for each, so that what is there changes nothing of the others.
                *sees &= seeded::uniform(random) >= drop;
            }
            let blind = candidates.iter().all(|&input| sees.get(input) != Some(&true));
            if blind && let Some(sees) = kept(random).and_then(|one| sees.get_mut(one)) {
                *sees = true;
            }
        }
    }
    sees
}

/// An example along another course, where reports and a position are all that is seen, of the present slot alone.
fn along<'a>(
    course: Course,
    data: &'a DataSet,
    example: &Example,
    slots: usize,
    sees: &[bool; MODALITIES],
) -> Option<Line<'a>> {
    let present = example.places.len().checked_sub(MODALITIES)?;
    let place = |input: Input| {
        let is_seen = sees.get(input.place()) == Some(&true);
        example.places.get(present + input.place()).copied().flatten().filter(|_| is_seen)
    };
    let is_more_seen =
        [Input::Camera, Input::Radar, Input::Lidar].into_iter().any(|input| place(input).is_some());
    let link = place(Input::Link).filter(|_| slots == 1 && !is_more_seen)?;
    Some(Line::new(course, data, example, link.reading))
}

fn beam_target(report: &Report, losses: &Losses, mirror: Option<&Mirror>) -> Option<BeamTarget> {
    let best = match mirror {
        Some(mirror) => mirror.beam(report.best)?,
        None => report.best,
    };
    let mut shares = Vec::new();
    if losses.beam_softness_db > 0.0 {
        shares = vec![0.0; report.linear.len()];
        for (beam, power) in (0u32..).zip(&report.linear) {
            let to = mirror.map_or(Some(beam), |mirror| mirror.beam(beam));
            let loss = report.best_db - 10.0 * power.log10();
            if let Some(share) = to.and_then(|to| shares.get_mut(to as usize))
                && loss.is_finite()
            {
                *share += (-loss / losses.beam_softness_db).exp() as f32;
            }
        }
        let sum: f32 = shares.iter().sum();
        shares.iter_mut().for_each(|share| *share /= sum);
    }
    Some(BeamTarget { best, shares })
}
