//! One sequence of traffic: simulated in steps of 50 ms, kept as knots every 100 ms.

use std::collections::VecDeque;

use super::Track;
use super::idm::{Ahead, Driver, HARDEST, step};
use super::mobil;
use super::path::Place;
use super::start::{self, Who};
use crate::simulate::random::{Purpose, Random};
use crate::simulate::scene::traffic::size;
use crate::simulate::scene::{Flow, LaneKind, Scene, Stop, Traffic, Vehicle, VehicleKind};
use crate::simulate::solid::ObjectId;

/// Step of the simulation, seconds.
const STEP_S: f64 = 0.05;
/// Steps between two knots.
const STEPS_PER_KNOT: i64 = 2;
/// Time between two knots, seconds.
const KNOT_S: f64 = STEP_S * STEPS_PER_KNOT as f64;
/// The street fills for this long before a sequence begins, seconds.
const WARM_UP_S: f64 = 90.0;
/// Most who wait to enter a lane; who comes then goes another way.
const QUEUE: usize = 10;
/// Hardest braking for the sake of someone who waits at a crossing, or of a light that turns red, m/s².
const COMFORT: f64 = 2.5;

/// Someone at an instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::simulate) struct Sample {
    pub who: Who,
    /// x and y of its middle, metres.
    pub at: [f64; 2],
    /// Counter-clockwise from the x axis, radians.
    pub heading: f64,
    /// Of its middle, m/s.
    pub velocity: [f64; 2],
    /// rad/s, counter-clockwise.
    pub turning: f64,
    /// Along its lane, metres.
    pub travelled: f64,
    /// Along its lane, m/s.
    pub speed: f64,
}

impl Sample {
    /// Someone who stands.
    pub fn standing(who: Who, place: Place) -> Self {
        sample(&who, place, None, 0.0, 0.0)
    }
}

/// A change of lane, by arc length: who stands still does not slide.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Slide {
    /// Where it begins, metres along the new lane.
    from: f64,
    /// Over which length, metres.
    length: f64,
    /// To the left of the new lane at its beginning, metres.
    offset: f64,
}

impl Slide {
    /// Metres to the left, and its first and second derivative by arc length: offset·(1 − (10u³ − 15u⁴ + 6u⁵)), which
    /// has no jump of curvature.
    fn left(&self, along: f64) -> [f64; 3] {
        let u = ((along - self.from) / self.length).clamp(0.0, 1.0);
        let done = u * u * u * (10.0 + u * (6.0 * u - 15.0));
        let first = 30.0 * u * u * (1.0 - u) * (1.0 - u) / self.length;
        let second = 60.0 * u * (1.0 - u) * (1.0 - 2.0 * u) / (self.length * self.length);
        [self.offset * (1.0 - done), -self.offset * first, -self.offset * second]
    }

    fn is_over(&self, along: f64) -> bool {
        along >= self.from + self.length
    }
}

/// What one did on one lane.
#[derive(Clone, Debug)]
struct Leg {
    track: usize,
    slide: Option<Slide>,
    /// Knot at which it begins.
    first: usize,
    /// Arc length, metres, and speed, m/s.
    knots: Vec<[f32; 2]>,
}

/// Someone, and everything that it did.
#[derive(Clone, Debug)]
struct Log {
    who: Who,
    legs: Vec<Leg>,
}

/// One sequence of traffic.
#[derive(Clone, Debug)]
pub(in crate::simulate) struct Run {
    logs: Vec<Log>,
    standing: Vec<Sample>,
    /// Knots before the sequence begins.
    lead: usize,
}

impl Run {
    /// Simulates a sequence of a scene, and as much before its beginning and after its end as a clock may be off.
    pub fn new(scene: &Scene, tracks: &[Track], sequence: usize) -> Self {
        let Some(traffic) = scene.traffic(sequence) else {
            return Self { logs: Vec::new(), standing: Vec::new(), lead: 0 };
        };
        let reach = scene.timing.reach_s();
        let lead = (reach / KNOT_S).ceil() as usize;
        let mut street = Street::new(scene, tracks, traffic, sequence, lead);
        let standing = street.place(scene.ues(traffic).as_slice(), &traffic.vehicles);
        let knots = ((traffic.seconds + reach) / KNOT_S).ceil() as i64 + 1;
        for tick in 0..=knots * STEPS_PER_KNOT {
            if tick % STEPS_PER_KNOT == 0 {
                street.record(lead + (tick / STEPS_PER_KNOT) as usize);
            }
            street.step(tick);
        }
        let left = street.agents.into_iter().map(|agent| agent.log);
        let mut logs: Vec<Log> = street.gone.into_iter().chain(left).collect();
        logs.retain(|log| !log.legs.is_empty());
        logs.sort_by_key(|log| log.who.id);
        for leg in logs.iter_mut().flat_map(|log| &mut log.legs) {
            leg.knots.shrink_to_fit();
        }
        Self { logs, standing, lead }
    }

    /// Everyone who is there, `seconds` after the beginning (before it when negative), in the order of their numbers.
    pub fn at<'a>(&'a self, tracks: &'a [Track], seconds: f64) -> impl Iterator<Item = Sample> + 'a {
        let knot = (seconds / KNOT_S).max(-(self.lead as f64));
        // The part is that of the time itself, whatever is kept before the beginning.
        let (number, part) = ((knot.floor() + self.lead as f64) as usize, knot - knot.floor());
        let moving = self.logs.iter().filter_map(move |log| log.at(tracks, number, part));
        self.standing.iter().copied().chain(moving)
    }

    /// What it takes to keep, bytes.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let legs = self.logs.iter().flat_map(|log| &log.legs);
        legs.map(|leg| leg.knots.capacity() * 8 + size_of::<Leg>()).sum::<usize>()
            + self.logs.len() * size_of::<Log>()
    }
}

impl Log {
    /// `f` of the way from a knot to the next.
    fn at(&self, tracks: &[Track], number: usize, f: f64) -> Option<Sample> {
        let leg =
            self.legs.iter().find(|leg| leg.first <= number && number + 1 < leg.first + leg.knots.len())?;
        let track = tracks.get(leg.track)?;
        let ([s0, v0], [s1, v1]) = match leg.knots.get(number - leg.first..) {
            Some([a, b, ..]) => (a.map(f64::from), b.map(f64::from)),
            _ => return None,
        };
        // Cubic Hermite: places and speeds of the knots are met.
        let way = s1 - s0;
        let along = s0
            + KNOT_S * v0 * f * (1.0 - f) * (1.0 - f)
            + way * f * f * (3.0 - 2.0 * f)
            + KNOT_S * v1 * f * f * (f - 1.0);
        let speed =
            v0 * (1.0 - f) * (1.0 - 3.0 * f) + way / KNOT_S * 6.0 * f * (1.0 - f) + v1 * f * (3.0 * f - 2.0);
        Some(sample(&self.who, track.path.place(along), leg.slide.as_ref(), along, speed))
    }
}

fn sample(who: &Who, place: Place, slide: Option<&Slide>, along: f64, speed: f64) -> Sample {
    let [left, first, second] = slide.map_or([0.0; 3], |slide| slide.left(along));
    let left = left + f64::from(who.aside);
    let (sin, cos) = place.heading.sin_cos();
    let (ahead, side) = (speed * (1.0 - place.curvature * left), speed * first);
    Sample {
        who: *who,
        at: place.beside(left),
        heading: place.heading + first.atan(),
        velocity: [ahead * cos - side * sin, ahead * sin + side * cos],
        turning: speed * (place.curvature + second / (1.0 + first * first)),
        travelled: along,
        speed,
    }
}

/// A stop that is still to come: arc length, seconds.
#[derive(Clone, Copy, Debug)]
struct Halt {
    at: f64,
    left: f64,
}

#[derive(Clone, Debug)]
struct Agent {
    driver: Driver,
    track: usize,
    along: f64,
    speed: f64,
    slide: Option<Slide>,
    /// The lane that it is leaving, and where it is on it.
    leaving: Option<(usize, f64)>,
    changes_lanes: bool,
    /// Does not change lanes before this step.
    patient_until: i64,
    halts: VecDeque<Halt>,
    is_placed: bool,
    log: Log,
}

impl Agent {
    fn half(&self) -> f64 {
        f64::from(self.log.who.size[0]) / 2.0
    }
}

/// Where one of a flow comes from.
struct Source {
    flow: Flow,
    track: usize,
    random: Random,
    next: f64,
    waiting: VecDeque<Agent>,
}

/// Someone in a lane, in the order of the lane.
#[derive(Clone, Copy, Debug)]
struct Entry {
    along: f64,
    agent: usize,
}

struct Street<'a> {
    tracks: &'a [Track],
    agents: Vec<Agent>,
    gone: Vec<Log>,
    sources: Vec<Source>,
    lanes: Vec<Vec<Entry>>,
    /// Share of its cycle that a light without a stated offset has behind it at the beginning.
    phase: f64,
    random: Random,
    next_id: u32,
    /// Knots that are kept of the time before the sequence begins.
    lead: usize,
}

impl<'a> Street<'a> {
    /// A street that has filled.
    fn new(scene: &Scene, tracks: &'a [Track], traffic: &Traffic, sequence: usize, lead: usize) -> Self {
        let stream = |number: usize| Random::new(scene.seed, sequence, number, Purpose::Traffic);
        let mut random = stream(0);
        let phase = f64::from(random.uniform());
        let mut sources = Vec::new();
        for flow in scene.flows(traffic) {
            for &track in &flow.lanes {
                let mut random = stream(1 + sources.len());
                let next = -WARM_UP_S + start::pause(&mut random, flow.per_minute);
                sources.push(Source { flow: flow.clone(), track, random, next, waiting: VecDeque::new() });
            }
        }
        let mut street = Self {
            tracks,
            agents: Vec::new(),
            gone: Vec::new(),
            sources,
            lanes: vec![Vec::new(); tracks.len()],
            phase,
            random,
            next_id: ObjectId::FLOW.0,
            lead,
        };
        if !street.sources.is_empty() {
            street.scatter();
            for tick in -((WARM_UP_S / STEP_S) as i64)..0 {
                let knot = lead as i64 + tick.div_euclid(STEPS_PER_KNOT);
                if tick.rem_euclid(STEPS_PER_KNOT) == 0 && knot >= 0 {
                    street.record(knot as usize);
                }
                street.step(tick);
            }
        }
        street
    }

    /// People on foot are too slow to fill the street from its ends: some are there from the beginning.
    fn scatter(&mut self) {
        for number in 0..self.sources.len() {
            let Some(source) = self.sources.get_mut(number) else { continue };
            let Some(track) = self.tracks.get(source.track).filter(|track| track.kind == LaneKind::Walk)
            else {
                continue;
            };
            let crowd = source.flow.per_minute / 60.0 * track.path.length() / 1.34;
            let count = (crowd + f64::from(source.random.uniform())) as usize;
            for _ in 0..count {
                let Some(source) = self.sources.get_mut(number) else { continue };
                let mut agent = draw(source, track, &mut self.next_id);
                agent.along = f64::from(source.random.uniform()) * track.path.length();
                agent.speed = agent.driver.desired;
                let is_free = |other: &Agent| {
                    other.track != agent.track
                        || (other.along - agent.along).abs() > 1.0
                        || (other.log.who.aside - agent.log.who.aside).abs() > 0.7
                };
                if self.agents.iter().all(is_free) {
                    self.agents.push(agent);
                }
            }
        }
    }

    /// Puts those of the scene file where they are to be; who is in their way is taken out. Returns those who stand off
    /// the lanes.
    fn place(&mut self, ues: &[Vehicle], vehicles: &[Vehicle]) -> Vec<Sample> {
        let mut standing = Vec::new();
        let ues = ues.iter().enumerate().map(|(at, one)| (ObjectId::ue(at), one));
        let vehicles = vehicles.iter().enumerate().map(|(at, one)| (ObjectId::vehicle(at), one));
        for (id, vehicle) in ues.chain(vehicles) {
            let look = vehicle.look.or_else(|| vehicle.kind.looks().first().map(|(look, _)| *look));
            let Some(look) = look else { continue };
            let size = size(vehicle).map(|metres| metres as f32);
            let who = Who { id, kind: vehicle.kind, look, size, colour: vehicle.colour, aside: 0.0 };
            if let Some([x, y]) = vehicle.place_m {
                let place = Place { at: [x, y], heading: vehicle.yaw_deg.to_radians(), curvature: 0.0 };
                standing.push(Sample::standing(who, place));
                continue;
            }
            let Some(track) = self.tracks.get(vehicle.lane) else { continue };
            let speed = vehicle.speed_mps.abs();
            let agent = Agent {
                driver: start::driver_of(vehicle.kind, vehicle.desired_mps.unwrap_or(speed), 1.1),
                track: vehicle.lane,
                along: track.along(vehicle.at_m),
                speed,
                slide: None,
                leaving: None,
                changes_lanes: vehicle.lane_changes,
                patient_until: 0,
                halts: halts(&vehicle.stops, track, &mut self.random),
                is_placed: true,
                log: Log { who, legs: lead_in(vehicle.lane, track.along(vehicle.at_m), speed, self.lead) },
            };
            self.make_room(&agent);
            self.agents.push(agent);
        }
        standing
    }

    /// Takes out of the traffic whoever could not keep clear of one that appears.
    fn make_room(&mut self, new: &Agent) {
        let tracks = self.tracks;
        let braking = |speed: f64, ahead: f64| ((speed * speed - ahead * ahead) / 6.0).max(0.0);
        let is_clear = |other: &Agent, along: f64| {
            let gap = (along - new.along).abs() - other.half() - new.half();
            let (behind, ahead) =
                if along > new.along { (new.speed, other.speed) } else { (other.speed, new.speed) };
            gap > 2.0 + 0.8 * behind + braking(behind, ahead)
        };
        let crossings = || tracks.get(new.track).into_iter().flat_map(|track| &track.conflicts);
        let walks_into_it = |other: &Agent| {
            crossings().any(|conflict| {
                let ahead = conflict.here - new.along;
                other.track == conflict.other && ahead > -15.0 && ahead < 15.0 + new.speed * new.speed / 4.0
            })
        };
        self.agents.retain(|other| {
            other.is_placed
                || ((other.track != new.track || is_clear(other, other.along))
                    && other
                        .leaving
                        .is_none_or(|(track, along)| track != new.track || is_clear(other, along))
                    && !walks_into_it(other))
        });
    }

    /// Everyone into the order of their lanes.
    fn sort(&mut self) {
        for lane in &mut self.lanes {
            lane.clear();
        }
        for (number, agent) in self.agents.iter().enumerate() {
            let on = std::iter::once((agent.track, agent.along)).chain(agent.leaving);
            for (track, along) in on {
                if let Some(lane) = self.lanes.get_mut(track) {
                    lane.push(Entry { along, agent: number });
                }
            }
        }
        for lane in &mut self.lanes {
            lane.sort_by(|a, b| a.along.total_cmp(&b.along).then(a.agent.cmp(&b.agent)));
        }
    }

    /// Who is directly ahead of a place of a lane.
    fn ahead(&self, track: usize, along: f64, of: usize) -> Option<(&Agent, f64)> {
        let lane = self.lanes.get(track)?;
        let from = lane.partition_point(|entry| entry.along < along);
        let one = self.agents.get(of)?;
        let walks = one.log.who.kind == VehicleKind::Pedestrian;
        lane.iter().skip(from).filter(|entry| entry.agent != of).find_map(|entry| {
            let other = self.agents.get(entry.agent)?;
            // Two exactly abreast cannot both be ahead of the other.
            let is_ahead = entry.along > along || entry.agent > of;
            // People pass each other.
            let is_beside = walks && (other.log.who.aside - one.log.who.aside).abs() > 0.65;
            (is_ahead && !is_beside).then_some((other, entry.along))
        })
    }

    /// Who is directly behind a place of a lane.
    fn behind(&self, track: usize, along: f64, of: usize) -> Option<(&Agent, f64)> {
        let lane = self.lanes.get(track)?;
        let to = lane.partition_point(|entry| entry.along < along);
        let mut before = lane.iter().take(to).rev().filter(|entry| entry.agent != of);
        before.find_map(|entry| Some((self.agents.get(entry.agent)?, entry.along)))
    }

    fn acceleration(&self, number: usize, seconds: f64, wishes: &[Wish]) -> f64 {
        let (Some(agent), Some(track)) =
            (self.agents.get(number), self.agents.get(number).and_then(|agent| self.tracks.get(agent.track)))
        else {
            return 0.0;
        };
        let limit = track.bend_limit(agent.along);
        let driver = Driver { desired: agent.driver.desired.min(limit), ..agent.driver };
        // Half a second to come down to what a bend allows, as the model's own way down is too slow for one.
        let before_bend = ((limit - agent.speed) / 0.5).max(-2.0 * agent.driver.braking);
        let mut lowest = driver.free(agent.speed).min(before_bend);
        let mut behind = |gap: f64, speed: f64| {
            lowest = lowest.min(driver.behind(agent.speed, Ahead { gap, speed }));
        };
        let on = std::iter::once((agent.track, agent.along)).chain(agent.leaving);
        for (lane, along) in on {
            if let Some((other, ahead)) = self.ahead(lane, along, number) {
                behind(ahead - along - other.half() - agent.half(), other.speed);
            }
        }
        let front = agent.along + agent.half();
        let needed = |gap: f64| agent.speed * agent.speed / (2.0 * gap.max(0.05));
        if let Some(signal) = track.signal.filter(|signal| signal.is_red(seconds, self.phase)) {
            let gap = signal.at - front;
            // Who cannot stop any more drives on.
            if gap > -0.5 && needed(gap) < 1.6 * COMFORT {
                behind(gap + agent.driver.gap - 0.5, 0.0);
            }
        }
        if let Some(halt) = agent.halts.front() {
            behind(halt.at - agent.along + agent.driver.gap, 0.0);
        }
        for conflict in &track.conflicts {
            let Some(crossing) = self.tracks.get(conflict.other) else { continue };
            if track.kind == LaneKind::Crossing {
                // Someone on foot waits at the kerb until everyone lets him.
                let gate = track.gate(self.tracks);
                let gap = gate - agent.along;
                if gap > -0.05 && !wishes.get(agent.track).is_some_and(|wish| wish.is_safe) {
                    behind(gap + agent.driver.gap, 0.0);
                }
                break;
            }
            let line = conflict.here - crossing.width / 2.0 - 1.0;
            let gap = line - front;
            let Some(wish) = wishes.get(conflict.other) else { continue };
            let is_walked =
                wish.walking.is_some_and(|slowest| slowest < conflict.there + track.width / 2.0 + 0.4);
            if gap > -1.0 && (is_walked || (wish.is_waited && gap > 0.0 && needed(gap) < COMFORT)) {
                behind(gap + agent.driver.gap, 0.0);
            }
        }
        lowest
    }

    /// What goes on at each crossing.
    fn wishes(&self) -> Vec<Wish> {
        let of = |(number, track): (usize, &Track)| {
            if track.kind != LaneKind::Crossing || self.lanes.get(number).is_none_or(Vec::is_empty) {
                return Wish::default();
            }
            let gate = track.gate(self.tracks);
            let end = track.path.length();
            let walkers = self.lanes.get(number).into_iter().flatten().map(|entry| entry.along);
            let walking = walkers.clone().filter(|along| (gate + 0.05..end).contains(along)).reduce(f64::min);
            let is_waited = walkers.clone().any(|along| (gate - 2.5..=gate + 0.05).contains(&along));
            Wish { walking, is_waited, is_safe: is_waited && self.all_can_stop(track) }
        };
        self.tracks.iter().enumerate().map(of).collect()
    }

    /// Whether everyone on the lanes of a crossing stands, has passed it or can stop before it.
    fn all_can_stop(&self, crossing: &Track) -> bool {
        crossing.conflicts.iter().all(|conflict| {
            let half = crossing.width / 2.0;
            let lane = self.lanes.get(conflict.other).into_iter().flatten();
            lane.filter_map(|entry| Some((entry.along, self.agents.get(entry.agent)?))).all(
                |(along, agent)| {
                    let (front, rear) = (along + agent.half(), along - agent.half());
                    let has_passed = rear > conflict.there + half + 0.5;
                    let gap = conflict.there - half - 1.0 - front;
                    let stops = agent.speed * agent.speed / (2.0 * gap.max(0.05)) < COMFORT;
                    has_passed || (gap > -0.5 && stops)
                },
            )
        })
    }

    fn step(&mut self, tick: i64) {
        let seconds = tick as f64 * STEP_S;
        self.arrive(seconds);
        self.sort();
        let wishes = self.wishes();
        let accelerations: Vec<f64> =
            (0..self.agents.len()).map(|number| self.acceleration(number, seconds, &wishes)).collect();
        for (agent, acceleration) in self.agents.iter_mut().zip(accelerations) {
            let [speed, way] = step(agent.speed, acceleration.max(-HARDEST), STEP_S);
            agent.speed = speed;
            agent.along += way;
            if agent.slide.is_some_and(|slide| slide.is_over(agent.along)) {
                agent.leaving = None;
            }
            if let Some(halt) = agent.halts.front_mut() {
                if speed < 0.2 && (halt.at - agent.along).abs() < 1.5 {
                    halt.left -= STEP_S;
                }
                if halt.left <= 0.0 {
                    agent.halts.pop_front();
                }
            }
        }
        self.follow_left_lanes();
        // A lane is changed on a knot, so that what is kept has no gap.
        if (tick + 1) % STEPS_PER_KNOT == 0 {
            self.sort();
            for number in 0..self.agents.len() {
                if (tick + 1).rem_euclid(10) == 2 * (number as i64 % 5) {
                    self.change_lane(number, tick + 1, seconds);
                }
            }
        }
        self.leave();
    }

    /// Where those who change lanes are on the lane that they leave.
    fn follow_left_lanes(&mut self) {
        let tracks = self.tracks;
        for agent in &mut self.agents {
            let Some((old, _)) = agent.leaving else { continue };
            let (Some(track), Some(old_track)) = (tracks.get(agent.track), tracks.get(old)) else { continue };
            let place = track.path.place(agent.along);
            let left = agent.slide.map_or(0.0, |slide| slide.left(agent.along)[0]);
            agent.leaving = Some((old, old_track.path.project(place.beside(left))[0]));
        }
    }

    fn change_lane(&mut self, number: usize, tick: i64, seconds: f64) {
        let Some((target, along, offset)) = self.wanted_lane(number, tick, seconds) else { return };
        let Some(agent) = self.agents.get_mut(number) else { return };
        agent.leaving = Some((agent.track, agent.along));
        let length = (4.0 * agent.speed).max(5.0 * 2.0 * agent.half()).max(15.0);
        agent.slide = Some(Slide { from: along, length, offset });
        agent.track = target;
        agent.along = along;
        agent.patient_until = tick + (8.0 / STEP_S) as i64;
        self.sort();
    }

    /// The lane that one changes to, where it is on it, and how far to its left.
    fn wanted_lane(&self, number: usize, tick: i64, seconds: f64) -> Option<(usize, f64, f64)> {
        let agent = self.agents.get(number)?;
        let track = self.tracks.get(agent.track)?;
        let is_free = agent.changes_lanes
            && agent.leaving.is_none()
            && agent.halts.is_empty()
            && tick >= agent.patient_until
            && agent.speed > 3.0;
        let near = |at: f64| (-5.0..60.0).contains(&(at - agent.along));
        let is_busy =
            track.signal.is_some_and(|signal| near(signal.at) && signal.is_red(seconds + 4.0, self.phase))
                || track.conflicts.iter().any(|conflict| near(conflict.here));
        if !is_free || is_busy {
            return None;
        }
        let place = track.path.place(agent.along);
        // The left one first: it is for overtaking.
        track.beside.into_iter().flatten().find_map(|target| {
            let other = self.tracks.get(target)?;
            let [along, offset] = other.path.project(place.at);
            let is_beside = offset.abs() < (track.width + other.width) / 2.0 + super::SIDE_BY_SIDE_M;
            let room = (20.0..other.path.length() - 60.0).contains(&along);
            (is_beside && room && self.is_worth_it(number, target, along)).then_some((target, along, offset))
        })
    }

    fn is_worth_it(&self, number: usize, target: usize, along: f64) -> bool {
        let Some(agent) = self.agents.get(number) else { return false };
        let follow = |one: &Agent, gap: f64, ahead: Option<f64>| {
            ahead.map_or_else(
                || one.driver.free(one.speed),
                |speed| one.driver.behind(one.speed, Ahead { gap, speed }),
            )
        };
        let gap = |front: &Agent, at: f64, rear: &Agent, from: f64| at - from - front.half() - rear.half();
        let (old_ahead, new_ahead) =
            (self.ahead(agent.track, agent.along, number), self.ahead(target, along, number));
        let after = |ahead: Option<(&Agent, f64)>, from: f64, one: &Agent| {
            let room = ahead.map_or(f64::MAX, |(other, at)| gap(other, at, one, from));
            (room, follow(one, room, ahead.map(|(other, _)| other.speed)))
        };
        let (_, own_before) = after(old_ahead, agent.along, agent);
        let (room_ahead, own_after) = after(new_ahead, along, agent);
        let new_behind = self.behind(target, along, number);
        let old_behind = self.behind(agent.track, agent.along, number);
        let room_behind = new_behind.map_or(f64::MAX, |(other, at)| gap(agent, along, other, at));
        if room_ahead.min(room_behind) < agent.driver.gap + 1.0 {
            return false;
        }
        let change = mobil::Change {
            own: [own_before, own_after],
            old_follower: old_behind.map(|(other, at)| {
                [
                    follow(other, gap(agent, agent.along, other, at), Some(agent.speed)),
                    after(old_ahead, at, other).1,
                ]
            }),
            new_follower: new_behind.map(|(other, at)| {
                [
                    after(new_ahead, at, other).1,
                    follow(other, gap(agent, along, other, at), Some(agent.speed)),
                ]
            }),
        };
        change.is_wanted()
    }

    fn arrive(&mut self, seconds: f64) {
        for number in 0..self.sources.len() {
            let Some(source) = self.sources.get_mut(number) else { continue };
            let Some(track) = self.tracks.get(source.track) else { continue };
            while source.next <= seconds {
                source.next += start::pause(&mut source.random, source.flow.per_minute);
                let agent = draw(source, track, &mut self.next_id);
                if source.waiting.len() < QUEUE {
                    source.waiting.push_back(agent);
                }
            }
            let speed = source.waiting.front().and_then(|agent| entry_speed(&self.agents, agent));
            if let Some((speed, agent)) = speed.and_then(|speed| Some((speed, source.waiting.pop_front()?))) {
                self.agents.push(Agent { speed, ..agent });
            }
        }
    }

    fn leave(&mut self) {
        let tracks = self.tracks;
        let gone = &mut self.gone;
        let mut kept = Vec::with_capacity(self.agents.len());
        for agent in self.agents.drain(..) {
            let is_on = tracks.get(agent.track).is_some_and(|track| agent.along < track.path.length());
            if is_on {
                kept.push(agent);
            } else {
                gone.push(agent.log);
            }
        }
        self.agents = kept;
    }

    fn record(&mut self, knot: usize) {
        for agent in &mut self.agents {
            let value = [agent.along as f32, agent.speed as f32];
            match agent.log.legs.last_mut().filter(|leg| leg.track == agent.track && leg.slide == agent.slide)
            {
                Some(leg) => leg.knots.push(value),
                None => {
                    // The lane that was left ends where the new one begins.
                    if let Some((leg, (_, along))) = agent.log.legs.last_mut().zip(agent.leaving) {
                        leg.knots.push([along as f32, agent.speed as f32]);
                    }
                    agent.log.legs.push(Leg {
                        track: agent.track,
                        slide: agent.slide,
                        first: knot,
                        knots: vec![value],
                    });
                }
            }
        }
    }
}

/// What goes on at a crossing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Wish {
    /// Arc length of the last one who is on the carriageway or past it.
    walking: Option<f64>,
    /// Whether someone waits at the kerb, or comes to it.
    is_waited: bool,
    /// Whether he may go.
    is_safe: bool,
}

impl Track {
    /// Where one on foot waits on a crossing: before the first lane, metres along it.
    fn gate(&self, tracks: &[Track]) -> f64 {
        let first = self.conflicts.first();
        let width = first.and_then(|conflict| tracks.get(conflict.other)).map_or(0.0, |track| track.width);
        first.map_or(f64::MAX, |conflict| conflict.here - width / 2.0 - 0.7)
    }
}

/// The speed at which one can enter its lane now.
fn entry_speed(agents: &[Agent], new: &Agent) -> Option<f64> {
    let mut speed = new.driver.desired;
    let walks = new.log.who.kind == VehicleKind::Pedestrian;
    for other in agents {
        let on = std::iter::once((other.track, other.along)).chain(other.leaving);
        let is_beside = walks && (other.log.who.aside - new.log.who.aside).abs() > 0.65;
        for (_, along) in on.filter(|(track, _)| *track == new.track && !is_beside) {
            let gap = along - new.along - other.half() - new.half();
            if gap < new.driver.gap + new.driver.headway * other.speed.min(new.driver.desired) {
                return None;
            }
            // Room to brake comfortably behind it.
            let room = (gap - new.driver.gap - new.driver.headway * other.speed).max(0.0);
            speed = speed.min((other.speed * other.speed + 2.0 * new.driver.braking * room).sqrt());
        }
    }
    Some(speed)
}

/// How one comes to the place where the scene has it when the sequence begins: at the speed that it has there.
fn lead_in(track: usize, along: f64, speed: f64, lead: usize) -> Vec<Leg> {
    if lead == 0 {
        return Vec::new();
    }
    let knot = |at: usize| [(along - speed * KNOT_S * (lead - at) as f64) as f32, speed as f32];
    vec![Leg { track, slide: None, first: 0, knots: (0..lead).map(knot).collect() }]
}

fn halts(stops: &[Stop], track: &Track, random: &mut Random) -> VecDeque<Halt> {
    stops
        .iter()
        .filter(|stop| f64::from(random.uniform()) < stop.chance)
        .map(|stop| Halt { at: track.along(stop.at_m), left: stop.seconds })
        .collect()
}

/// Draws the next one of a flow, at the beginning of its lane.
fn draw(source: &mut Source, track: &Track, next_id: &mut u32) -> Agent {
    let Source { flow, random, .. } = source;
    let kind = start::kind(random, &flow.mix, track.kind);
    let (look, size) = start::body(random, kind);
    let driver = start::driver(random, kind, track.limit, flow.desired_mps);
    let who = Who {
        id: ObjectId(*next_id),
        kind,
        look,
        size,
        colour: None,
        aside: start::aside(random, kind, track.width),
    };
    *next_id += 1;
    Agent {
        driver,
        track: source.track,
        along: 0.0,
        speed: 0.0,
        slide: None,
        leaving: None,
        changes_lanes: flow.lane_changes,
        patient_until: i64::MIN,
        halts: halts(&flow.stops, track, random),
        is_placed: false,
        log: Log { who, legs: Vec::new() },
    }
}

#[cfg(test)]
mod tests;
