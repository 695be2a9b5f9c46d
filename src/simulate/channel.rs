//! The 60 GHz link: an antenna on each UE transmits, the unit's array receives with one beam after the other.
//!
//! A path is a complex gain and a direction. There are the line of sight, a reflection off the ground, one off each
//! [`Reflector`] (the image method) and one off each two of them of which one is a building. Every path loses power
//!
//! * with its length (Friis), to oxygen and water vapour (`gases`, P.676) and rain (`rain`, P.838);
//! * to what stands in its way, each leg of it (`diffraction`, TR 38.901 and P.526), smoothly and not only when the
//!   line is cut;
//! * in its mirrors ([`reflection`], P.2040).
//!
//! The power of beam b is |Σ_paths gain·field_b(direction)|², fields from the [`codebook`], as the `receiver` reads it.
//! Paths add with their phases, so a UE that moves by a part of the wavelength sees another sum: small-scale fading.

use num_complex::Complex64;
use parry3d::math::Vector;

use super::caster::Caster;
use super::rain;
use super::random::{Purpose, Random};
use super::scene::Scene;
use super::solid::ObjectId;
use super::world::Reflector;
use crate::space::LIGHT_MPS;

pub mod codebook;
mod diffraction;
mod gases;
mod receiver;
pub mod reflection;

use codebook::Beams;
use diffraction::{Leg, Obstacles};
use reflection::{Material, roughness};

/// Range at which [`Link::power_at_10_m`](super::scene::Link::power_at_10_m) is stated, metres.
const REFERENCE_M: f64 = 10.0;
/// A mirror that throws back less than this amplitude of what an endless one would is left out: −40 dB.
const FAINTEST: f64 = 0.01;

/// What the link does at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkState {
    /// What the receiver reads: linear power per beam, in the unit of
    /// [`Link::power_at_10_m`](super::scene::Link::power_at_10_m), the floor included.
    pub power: Vec<f64>,
    /// The beam that would be strongest without measurement noise, from 0, and what would be read of it.
    pub best_clean: (usize, f64),
    /// Whether [`LinkState::excess_db`] reaches [`Link::blocked_db`](super::scene::Link::blocked_db).
    pub is_blocked: bool,
    /// What vehicles, people, buildings and trees take from the line of sight, dB: its loss beyond that of free space
    /// and air, 0…60.
    pub excess_db: f64,
    /// Whether nothing opaque cuts the straight line.
    pub is_line_of_sight: bool,
}

impl LinkState {
    /// The beam of the strongest reading, from 0, and that reading.
    #[must_use]
    pub fn best(&self) -> (usize, f64) {
        strongest(&self.power)
    }
}

fn strongest(power: &[f64]) -> (usize, f64) {
    power.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0))
}

/// Where a path has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Straight.
    Direct,
    /// Off the ground.
    Ground,
    /// Off a side of this object.
    Mirror(ObjectId),
    /// Off two, the one nearer to the unit first.
    Mirrors(ObjectId, ObjectId),
}

/// One way of the wave between the unit and the UE.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Path {
    /// Where it has been.
    way: Way,
    /// Its length, metres.
    length_m: f64,
    /// From the unit, length 1.
    direction: Vector,
    /// Amplitude and phase without the beam: |gain|² = 1 is a free line of sight at 10 m.
    gain: Complex64,
}

/// How the wave reaches an antenna.
struct Traced {
    /// Its ways, the line of sight first.
    paths: Vec<Path>,
    /// See [`LinkState::excess_db`].
    excess_db: f64,
    is_line_of_sight: bool,
}

/// Follows the wave between the unit and the antenna at `ue`, in the unit frame, which `object` carries.
fn trace(
    scene: &Scene,
    caster: &Caster,
    reflectors: &[Reflector],
    ue: Vector,
    object: ObjectId,
    sequence: usize,
) -> Traced {
    let tracer = Tracer::new(scene, caster, ue, object, sequence);
    let straight = Leg::new(tracer.unit, ue);
    let excess_db = straight.map_or(0.0, |leg| tracer.obstacles.loss_db(&leg, &[]));
    let mut paths = vec![tracer.direct(excess_db)];
    paths.extend(tracer.ground());
    paths.extend(reflectors.iter().filter_map(|mirror| tracer.mirror(mirror)));
    let facing = |place: Vector| reflectors.iter().filter(move |mirror| mirror.height_of(place) > 0.0);
    let last: Vec<&Reflector> = facing(ue).collect();
    for first in facing(tracer.unit) {
        paths.extend(last.iter().filter_map(|second| tracer.mirrors(first, second)));
    }
    Traced { paths, excess_db, is_line_of_sight: straight.is_none_or(|leg| !tracer.obstacles.cut(&leg)) }
}

/// Measures the link between the unit and the antenna at `ue`, in the unit frame, which `object` carries.
///
/// `random` is the stream of the measurement noise: see [`noise`].
pub(super) fn measure(
    scene: &Scene,
    caster: &Caster,
    reflectors: &[Reflector],
    ue: Vector,
    object: ObjectId,
    sequence: usize,
    random: &mut Random,
) -> LinkState {
    let link = &scene.link;
    let Traced { paths, excess_db, is_line_of_sight } =
        trace(scene, caster, reflectors, ue, object, sequence);
    let mut fields = vec![Complex64::ZERO; scene.beams()];
    let beams = Beams::new(scene);
    for path in &paths {
        for (sum, field) in fields.iter_mut().zip(beams.fields(path.direction)) {
            *sum += path.gain * field;
        }
    }
    let signals: Vec<f64> = fields.iter().map(|field| link.power_at_10_m * field.norm_sqr()).collect();
    let clean: Vec<f64> = signals.iter().map(|&signal| receiver::expected(link, signal)).collect();
    LinkState {
        power: signals.iter().map(|&signal| receiver::read(link, signal, random)).collect(),
        best_clean: strongest(&clean),
        is_blocked: excess_db >= link.blocked_db,
        excess_db,
        is_line_of_sight,
    }
}

/// The stream of a link's measurement noise.
pub(super) fn noise(scene: &Scene, sequence: usize, frame: usize, ue: usize) -> Random {
    Random::of_ue(scene.seed, sequence, frame, Purpose::Link, ue)
}

/// Free-space loss, dB: 20·log10(4π·d/λ), Recommendation ITU-R P.525, equation (4).
#[cfg(test)]
fn free_space_db(metres: f64, carrier_hz: f64) -> f64 {
    20.0 * (4.0 * std::f64::consts::PI * metres * carrier_hz / LIGHT_MPS).log10()
}

/// Finds the ways between the unit and a UE.
struct Tracer<'a> {
    unit: Vector,
    ue: Vector,
    obstacles: Obstacles<'a>,
    antenna: Antenna,
    carrier_hz: f64,
    wavelength: f64,
    roughness_m: f64,
    /// Of gases and rain.
    air_db_per_m: f64,
}

impl<'a> Tracer<'a> {
    fn new(scene: &Scene, caster: &'a Caster, ue: Vector, object: ObjectId, sequence: usize) -> Self {
        let link = &scene.link;
        let weather = scene.weather(sequence);
        let ghz = link.carrier_hz / 1e9;
        let [oxygen, vapour] = gases::specific_db_per_km(ghz, weather);
        let rain = rain::specific_db_per_km(ghz, weather.rain_mm_h);
        let carrier = caster.moving().iter().find(|solid| solid.object == object);
        let heading = carrier.map_or(Vector::X, |solid| solid.pose.rotation * Vector::X);
        Self {
            unit: Vector::from(link.position_m.map(|metres| metres as f32)),
            ue,
            obstacles: Obstacles::new(caster, link.carrier_hz, object),
            antenna: Antenna::new(scene, sequence, object, heading),
            carrier_hz: link.carrier_hz,
            wavelength: LIGHT_MPS / link.carrier_hz,
            roughness_m: link.roughness_mm / 1e3,
            air_db_per_m: (oxygen + vapour + rain) / 1e3,
        }
    }

    /// A path of legs through `places`, from the unit on; `mirrors` is what its mirrors leave.
    fn path(&self, way: Way, places: &[Vector], loss_db: f64, mirrors: Complex64) -> Path {
        let legs = || places.iter().zip(places.iter().skip(1));
        let length_m: f64 = legs().map(|(&a, &b)| distance(a, b)).sum();
        let towards = |leg: Option<(&Vector, &Vector)>| {
            leg.map_or(Vector::Y, |(&a, &b)| (b - a).normalize_or(Vector::Y))
        };
        let (direction, last) = (towards(legs().next()), towards(legs().next_back()));
        let lost = loss_db + self.air_db_per_m * length_m;
        let amplitude =
            REFERENCE_M / length_m.max(0.01) * 10f64.powf(-lost / 20.0) * self.antenna.field(-last);
        let phase = Complex64::from_polar(amplitude, -std::f64::consts::TAU * length_m / self.wavelength);
        Path { way, length_m, direction, gain: phase * mirrors }
    }

    fn blocked_db(&self, from: Vector, to: Vector, besides: &[ObjectId]) -> f64 {
        Leg::new(from, to).map_or(0.0, |leg| self.obstacles.loss_db(&leg, besides))
    }

    fn direct(&self, excess_db: f64) -> Path {
        self.path(Way::Direct, &[self.unit, self.ue], excess_db, Complex64::ONE)
    }

    fn ground(&self) -> Option<Path> {
        let (up, down) = (self.unit.z, self.ue.z);
        if up <= 0.0 || down <= 0.0 {
            return None;
        }
        let at = self.unit + (self.ue - self.unit) * (up / (up + down));
        let at = Vector::new(at.x, at.y, 0.0);
        let cosine = f64::from((self.unit - at).normalize_or(Vector::Z).z);
        let coefficient = Material::Concrete.parallel(self.carrier_hz, cosine)
            * roughness(self.roughness_m, cosine, self.carrier_hz);
        let loss_db = self.blocked_db(self.unit, at, &[]) + self.blocked_db(at, self.ue, &[]);
        Some(self.path(Way::Ground, &[self.unit, at, self.ue], loss_db, coefficient))
    }

    fn mirror(&self, mirror: &Reflector) -> Option<Path> {
        let image = mirror.image(self.ue);
        let at = mirror.meets(self.unit, image)?;
        let left = self.reflected(mirror, at, self.unit, [distance(self.unit, at), distance(at, self.ue)])?;
        let own = [mirror.object];
        let loss_db = self.blocked_db(self.unit, at, &own) + self.blocked_db(at, self.ue, &own);
        Some(self.path(Way::Mirror(mirror.object), &[self.unit, at, self.ue], loss_db, left))
    }

    /// Off two, one of them a building: between two vehicles there is mostly another, and they are small.
    fn mirrors(&self, first: &Reflector, second: &Reflector) -> Option<Path> {
        if first.object == second.object || !(first.is_building() || second.is_building()) {
            return None;
        }
        let image = second.image(self.ue);
        let at = first.meets(self.unit, first.image(image))?;
        let then = second.meets(at, image)?;
        // The way from the first to the second leaves the first's front.
        if first.height_of(then) <= 0.0 {
            return None;
        }
        let lengths = [distance(self.unit, at), distance(at, then), distance(then, self.ue)];
        let [one, two, three] = lengths;
        let left = self.reflected(first, at, self.unit, [one, two + three])?
            * self.reflected(second, then, at, [one + two, three])?;
        let loss_db = self.blocked_db(self.unit, at, &[first.object])
            + self.blocked_db(at, then, &[first.object, second.object])
            + self.blocked_db(then, self.ue, &[second.object]);
        let way = Way::Mirrors(first.object, second.object);
        Some(self.path(way, &[self.unit, at, then, self.ue], loss_db, left))
    }

    /// What a mirror leaves of a path that comes from `from` and meets its plane in `at`.
    fn reflected(&self, mirror: &Reflector, at: Vector, from: Vector, legs: [f64; 2]) -> Option<Complex64> {
        let towards = (at - from).normalize_or(Vector::Y);
        let share = mirror.share(at, towards, legs, self.wavelength);
        let coefficient = || mirror.coefficient(at, towards, self.carrier_hz, self.roughness_m);
        (share > FAINTEST).then(|| coefficient() * share)
    }
}

/// The pattern of a UE's antenna: the same in all directions, but for ripples over azimuth by what it is mounted on.
struct Antenna {
    heading: Vector,
    /// Ripples around the horizon: how many, how high (dB), where.
    ripples: [(f64, f64, f64); 3],
}

impl Antenna {
    fn new(scene: &Scene, sequence: usize, object: ObjectId, heading: Vector) -> Self {
        let mut random = Random::new(scene.seed, sequence, object.0 as usize, Purpose::Antenna);
        // Heights that add up to the ripple, so that it is never more.
        let ripples = [(2.0, 0.5), (5.0, 0.3), (9.0, 0.2)].map(|(count, share)| {
            (count, share * scene.link.ripple_db, std::f64::consts::TAU * f64::from(random.uniform()))
        });
        Self { heading, ripples }
    }

    /// Amplitude towards a direction of length 1, 1 in the mean over azimuth of its decibels.
    fn field(&self, towards: Vector) -> f64 {
        let cross = self.heading.x * towards.y - self.heading.y * towards.x;
        let along = self.heading.x * towards.x + self.heading.y * towards.y;
        let azimuth = f64::from(cross.atan2(along));
        let ripple = |&(count, height, phase): &(f64, f64, f64)| height * (count * azimuth + phase).cos();
        10f64.powf(self.ripples.iter().map(ripple).sum::<f64>() / 20.0)
    }
}

fn distance(a: Vector, b: Vector) -> f64 {
    [a.x - b.x, a.y - b.y, a.z - b.z].into_iter().map(|part| f64::from(part).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parry3d::bounding_volume::Aabb;

    use super::*;
    use crate::simulate::caster::Solids;
    use crate::simulate::scene::{Link, Weather};
    use crate::simulate::solid::{Solid, Surface};

    const OWN: ObjectId = ObjectId::UE;

    fn quiet() -> Scene {
        let link = Link {
            phase_bits: 0,
            phase_error_deg: 0.0,
            defocus_deg: 0.0,
            ripple_db: 0.0,
            floor: 0.0,
            noise_db: 0.0,
            ..Link::default()
        };
        Scene { link, ..Scene::default() }
    }

    fn cuboid(object: u32, mins: [f32; 3], maxs: [f32; 3]) -> Solid {
        Solid::upright(
            Aabb::new(Vector::from(mins), Vector::from(maxs)),
            ObjectId(object),
            Surface::Paint([0.5; 3]),
        )
    }

    struct Found {
        state: LinkState,
        paths: Vec<Path>,
    }

    fn state(scene: &Scene, moving: Vec<Solid>, mirrors: &[Reflector], ue: Vector) -> Found {
        let caster = Caster::new(Arc::default(), Solids::new(moving));
        Found {
            state: measure(scene, &caster, mirrors, ue, OWN, 0, &mut noise(scene, 0, 0, 0)),
            paths: trace(scene, &caster, mirrors, ue, OWN, 0).paths,
        }
    }

    fn db(ratio: f64) -> f64 {
        10.0 * ratio.log10()
    }

    #[test]
    fn free_space_takes_88_db_over_10_m() {
        // 92.45 + 20·log10(60) + 20·log10(0.01) = 88.01 (P.525, equation (6)).
        assert!((free_space_db(10.0, 60e9) - 88.01).abs() < 0.01, "{}", free_space_db(10.0, 60e9));
        let scene = quiet();
        let at = |metres: f32| state(&scene, Vec::new(), &[], Vector::new(0.0, metres, 3.5)).paths[0];
        let lost = db(at(10.0).gain.norm_sqr() / at(40.0).gain.norm_sqr());
        // Twice 6.02 dB, and 30 m of air at 14.78 dB/km.
        assert!((lost - 12.041 - 0.443).abs() < 0.01, "{lost}");
        let expected = free_space_db(40.0, 60e9) - free_space_db(10.0, 60e9);
        assert!((expected - 12.041).abs() < 0.001);
    }

    #[test]
    fn rain_and_air_are_those_of_the_sequence() {
        let dry = quiet();
        let wet = Scene { weather: Weather { rain_mm_h: 50.0, ..Weather::default() }, ..quiet() };
        let gain = |scene: &Scene| state(scene, Vec::new(), &[], Vector::new(0.0, 100.0, 3.5)).paths[0].gain;
        // 15.92 dB/km over 100 m.
        let lost = db(gain(&dry).norm_sqr() / gain(&wet).norm_sqr());
        assert!((lost - 1.592).abs() < 0.005, "{lost}");
    }

    #[test]
    fn the_ground_mirrors_with_its_own_phase() {
        let scene = quiet();
        let state = state(&scene, Vec::new(), &[], Vector::new(0.0, 10.0, 3.5));
        let [direct, ground] = state.paths[..] else { panic!("{:?}", state.paths) };
        assert_eq!((direct.way, ground.way), (Way::Direct, Way::Ground));
        // Image method: √(10² + 7²).
        assert!((ground.length_m - 149f64.sqrt()).abs() < 1e-5);
        assert!((ground.direction - Vector::new(0.0, 5.0, -3.5).normalize()).length() < 1e-6);
        // 55° from the normal, near Brewster's angle of concrete (66.4°): little is left.
        assert!(db(ground.gain.norm_sqr()) < -15.0, "{}", db(ground.gain.norm_sqr()));
    }

    fn wall(y: f32, normal: f32, object: u32) -> Reflector {
        Reflector {
            centre: Vector::new(0.0, y, 5.0),
            normal: Vector::Y * normal,
            along: Vector::X,
            half_width: 30.0,
            half_height: 5.0,
            object: ObjectId(object),
            surface: Surface::Paint([0.5; 3]),
        }
    }

    #[test]
    fn walls_mirror_once_and_twice() {
        let scene = quiet();
        let building = Surface::Facade { colour: [0.5; 3], number: 2 };
        let mirrors = [wall(25.0, -1.0, 1), Reflector { surface: building, ..wall(12.0, 1.0, 2) }];
        let found = state(&scene, Vec::new(), &mirrors, Vector::new(6.0, 20.0, 3.5));
        let length = |way: Way| found.paths.iter().find(|path| path.way == way).map(|path| path.length_m);
        // The unit stands behind the near wall: it sees the far one only, and through it the near one.
        assert!((length(Way::Mirror(ObjectId(1))).unwrap() - 6f64.hypot(30.0)).abs() < 1e-4);
        assert_eq!(length(Way::Mirror(ObjectId(2))), None);
        // Image in the near wall at y = 4, of that in the far wall at y = 46.
        let twice = length(Way::Mirrors(ObjectId(1), ObjectId(2))).unwrap();
        assert!((twice - 6f64.hypot(46.0)).abs() < 1e-4, "{twice}");
        assert_eq!(length(Way::Mirrors(ObjectId(2), ObjectId(1))), None);
        // Metal keeps what falls on it.
        let gain = found.paths.iter().find(|path| path.way == Way::Mirror(ObjectId(1))).unwrap().gain;
        let free = 20.0 * (10.0 / 6f64.hypot(30.0)).log10() - 0.01478 * 6f64.hypot(30.0);
        assert!((db(gain.norm_sqr()) - free).abs() < 0.5, "{} {free}", db(gain.norm_sqr()));
    }

    #[test]
    fn both_legs_of_a_reflection_can_be_blocked() {
        let scene = quiet();
        let mirrors = [wall(25.0, -1.0, 1)];
        let ue = Vector::new(20.0, 5.0, 3.5);
        let reflected = |solids: Vec<Solid>| {
            let state = state(&scene, solids, &mirrors, ue);
            let path = state.paths.iter().find(|path| path.way == Way::Mirror(ObjectId(1)));
            (db(path.unwrap().gain.norm_sqr()), state.state.excess_db)
        };
        let (free, _) = reflected(Vec::new());
        // The mirror point is (11.1, 25).
        let first = reflected(vec![cuboid(7, [4.0, 12.0, 0.0], [7.0, 13.0, 6.0])]);
        let second = reflected(vec![cuboid(7, [14.0, 14.0, 0.0], [17.0, 15.0, 6.0])]);
        assert!(free - first.0 > 15.0 && free - second.0 > 15.0, "{free} {first:?} {second:?}");
        assert!(first.1 < 0.1 && second.1 < 0.1, "the line of sight is free");
    }

    #[test]
    fn blockage_is_labelled_by_the_loss() {
        let scene = quiet();
        let ue = Vector::new(0.0, 17.0, 1.6);
        let truck =
            |x: f32| state(&scene, vec![cuboid(7, [x - 5.0, 5.0, 0.0], [x + 5.0, 8.0, 3.8])], &[], ue);
        let (free, near, cut) = (truck(40.0), truck(5.1), truck(0.0));
        assert!(!free.state.is_blocked && free.state.is_line_of_sight && free.state.excess_db == 0.0);
        assert!(
            !near.state.is_blocked
                && near.state.is_line_of_sight
                && (0.5..6.0).contains(&near.state.excess_db),
            "{}",
            near.state.excess_db
        );
        assert!(
            cut.state.is_blocked && !cut.state.is_line_of_sight && cut.state.excess_db > 20.0,
            "{}",
            cut.state.excess_db
        );
        let lost = db(free.paths[0].gain.norm_sqr() / cut.paths[0].gain.norm_sqr());
        assert!((lost - cut.state.excess_db).abs() < 1e-6);
        let patient = Scene { link: Link { blocked_db: 60.0, ..quiet().link }, ..quiet() };
        let state = state(&patient, vec![cuboid(7, [-5.0, 5.0, 0.0], [5.0, 8.0, 3.8])], &[], ue);
        assert!(!state.state.is_blocked && !state.state.is_line_of_sight);
    }

    #[test]
    fn two_paths_fade_where_they_cancel() {
        // Over metal at y = 12 the way by the wall is 4 m longer for a UE at y = 10; moving it by λ/4 away from the wall
        // turns the sum by half a wave.
        let scene = quiet();
        let mirrors = [wall(12.0, -1.0, 1)];
        let powers: Vec<f64> = (0..40)
            .map(|step| {
                let ue = Vector::new(0.0, 10.0 + step as f32 * 2.5e-4, 3.5);
                state(&scene, Vec::new(), &mirrors, ue).state.best_clean.1
            })
            .collect();
        let (least, most) = powers.iter().fold((f64::MAX, 0.0f64), |(a, b), &p| (a.min(p), b.max(p)));
        // Amplitudes 1 and 10/14: (1 + 0.714)²/(1 − 0.714)² is 15.6 dB; the ground stirs it a little.
        assert!((12.0..22.0).contains(&db(most / least)), "{}", db(most / least));
    }

    #[test]
    fn readings_are_noisy_and_truth_is_not() {
        let scene = Scene::default();
        let ue = Vector::new(3.0, 17.0, 1.6);
        let at = |frame| {
            let caster = Caster::new(Arc::default(), Solids::new(Vec::new()));
            measure(&scene, &caster, &[], ue, OWN, 0, &mut noise(&scene, 0, frame, 0))
        };
        let (one, two) = (at(0), at(1));
        assert_eq!(one, at(0));
        assert_eq!(one.best_clean, two.best_clean);
        assert!(one.power.iter().zip(&two.power).all(|(a, b)| a != b && db(a / b).abs() < 1.5));
        assert!(one.best_clean.1 >= scene.link.floor);
    }

    #[test]
    fn an_antenna_ripples_by_what_the_scene_says() {
        let scene = Scene::default();
        let field = |object: ObjectId, degrees: f32, heading: Vector| {
            let towards = Vector::new(degrees.to_radians().cos(), degrees.to_radians().sin(), 0.0);
            20.0 * Antenna::new(&scene, 0, object, heading).field(towards).log10()
        };
        let all: Vec<f64> = (0..360).map(|degrees| field(OWN, degrees as f32, Vector::X)).collect();
        let (least, most) = all.iter().fold((f64::MAX, f64::MIN), |(a, b), &x| (a.min(x), b.max(x)));
        assert!(least >= -1.5 && most <= 1.5 && most - least > 1.5, "{least} {most}");
        // It turns with its car, and another car's is another.
        assert!((field(OWN, 120.0, Vector::Y) - field(OWN, 30.0, Vector::X)).abs() < 1e-3);
        assert!((field(ObjectId(9), 30.0, Vector::X) - field(OWN, 30.0, Vector::X)).abs() > 1e-3);
    }
}
