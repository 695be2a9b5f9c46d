//! What people do: the 27 activities of MM-Fi as motions, repeated with a subject's style.
//!
//! An [`Activity`] is a short list of key postures of one repetition (see `keys`). A [`Motion`] strings repetitions
//! together, each with an own length and reach, and runs a smooth curve through the keys: every number of the posture
//! is interpolated by monotone cubic pieces (Fritsch and Carlson, 1980), which pass through the keys without
//! overshooting them, with a continuous velocity. So joints stay within their ranges when the keys do.
//!
//! MM-Fi names its activities but does not describe how they are done; what is done here is a plain reading of the names.
//! Left and right are the performer's own, and the right version of an activity is the exact mirror image of the left.

use std::fmt;

use super::body::Posture;
use super::random::{Purpose, Random};

mod keys;
mod spline;

use keys::Key;
use spline::Spline;

/// Frames of a sequence of MM-Fi.
pub const FRAMES: usize = 297;
/// Frames per second.
pub const RATE_HZ: f32 = 10.0;

/// One of the 27 activities of MM-Fi, 1…27.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Activity(u8);

/// Their names, as the data set gives them.
const NAMES: [&str; 27] = [
    "stretching and relaxing",
    "chest expansion (horizontal)",
    "chest expansion (vertical)",
    "twist (left)",
    "twist (right)",
    "mark time",
    "limb extension (left)",
    "limb extension (right)",
    "lunge (toward left-front)",
    "lunge (toward right-front)",
    "limb extension (both)",
    "squat",
    "raising hand (left)",
    "raising hand (right)",
    "lunge (toward left side)",
    "lunge (toward right side)",
    "waving hand (left)",
    "waving hand (right)",
    "picking up things",
    "throwing (toward left side)",
    "throwing (toward right side)",
    "kicking (toward left side)",
    "kicking (toward right side)",
    "body extension (left)",
    "body extension (right)",
    "jumping up",
    "bowing",
];

impl Activity {
    /// How many there are.
    pub const COUNT: usize = NAMES.len();
    /// Jumping up: the only one in which both feet leave the floor.
    pub const JUMP: Self = Self(26);

    /// The activity of a number, 1…27.
    #[must_use]
    pub fn new(number: usize) -> Option<Self> {
        (1..=Self::COUNT).contains(&number).then_some(Self(number as u8))
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=Self::COUNT as u8).map(Self)
    }

    /// 1…27.
    #[must_use]
    pub const fn number(self) -> usize {
        self.0 as usize
    }

    /// What the data set calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES.get(self.number() - 1).copied().unwrap_or_default()
    }

    /// The activity done to the other side; itself where there is none.
    #[must_use]
    pub const fn mirrored(self) -> Self {
        match self.0 {
            4 | 7 | 9 | 13 | 15 | 17 | 20 | 22 | 24 => Self(self.0 + 1),
            5 | 8 | 10 | 14 | 16 | 18 | 21 | 23 | 25 => Self(self.0 - 1),
            _ => self,
        }
    }

    /// Whether it is the right version of a pair.
    const fn is_right(self) -> bool {
        self.mirrored().0 < self.0
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "A{:02} {}", self.0, self.name())
    }
}

/// How a subject does everything that it does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Style {
    /// Seconds of a repetition against those of the average subject, 0.75…1.35.
    pub tempo: f32,
    /// How far movements go against those of the average subject, 0.78…1.06.
    pub reach: f32,
    /// Leaning forward at rest, radians.
    pub lean: f32,
    /// Half the distance between the feet at rest, statures.
    pub stance: f32,
    /// Toes outwards at rest, radians.
    pub turnout: f32,
    /// Elevation of the arms at rest, radians.
    pub arms: f32,
    /// Flexion of the elbows at rest, radians.
    pub elbows: f32,
    /// The left arm goes this share further, and the right one less far, than both would.
    pub asymmetry: f32,
    /// Standing people sway: amplitude, statures.
    pub sway: f32,
    /// How much repetitions differ: standard deviation of their lengths and reaches, shares.
    pub unevenness: f32,
}

impl Style {
    /// The average subject, the same in every repetition.
    pub const PLAIN: Self = Self {
        tempo: 1.0,
        reach: 0.95,
        lean: 0.02,
        stance: 0.068,
        turnout: 0.17,
        arms: 0.13,
        elbows: 0.25,
        asymmetry: 0.0,
        sway: 0.0,
        unevenness: 0.0,
    };

    pub(super) fn draw(random: &mut Random) -> Self {
        let mut around = |mean: f32, deviation: f32, low: f32, high: f32| {
            (mean + deviation * random.normal()).clamp(low, high)
        };
        Self {
            tempo: around(1.0, 0.14, 0.75, 1.35),
            reach: around(0.93, 0.07, 0.78, 1.03),
            lean: around(0.02, 0.04, -0.05, 0.11),
            stance: around(0.068, 0.014, 0.045, 0.10),
            turnout: around(0.17, 0.07, 0.03, 0.32),
            arms: around(0.13, 0.05, 0.05, 0.26),
            elbows: around(0.25, 0.1, 0.08, 0.5),
            asymmetry: around(0.0, 0.04, -0.08, 0.08),
            sway: around(0.0025, 0.0008, 0.001, 0.0045),
            unevenness: around(0.05, 0.02, 0.02, 0.09),
        }
    }

    /// The style of the subject's mirror image.
    #[must_use]
    pub fn mirrored(&self) -> Self {
        Self { asymmetry: -self.asymmetry, ..*self }
    }

    /// How the subject stands before it does anything.
    #[must_use]
    pub fn rest(&self) -> Posture {
        let mut rest = Posture::standing();
        rest.spine.forward = self.lean;
        rest.neck.forward = -self.lean;
        for arm in &mut rest.arms {
            (arm.elevation, arm.elbow) = (self.arms, self.elbows);
        }
        for leg in &mut rest.legs {
            leg.right = leg.right.signum() * self.stance;
            leg.turnout = self.turnout;
        }
        rest
    }
}

/// An activity as one subject does it over the 30 s of a sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Motion {
    spline: Spline,
    flights: Vec<Flight>,
    sway: Sway,
}

/// A jump's time in the air, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Flight {
    from: f32,
    to: f32,
}

/// Standard gravity, m/s².
const GRAVITY: f32 = 9.806_65;

impl Flight {
    /// Height over the take-off at an instant, metres: of a body thrown upwards that lands as high as it started,
    /// h(t) = g/2 · (t − from)·(to − t).
    fn height(&self, seconds: f32) -> f32 {
        (GRAVITY / 2.0 * (seconds - self.from) * (self.to - seconds)).max(0.0)
    }
}

/// Slow swinging of the pelvis: two sines in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sway {
    amplitude: f32,
    phases: [f32; 4],
}

/// Of the sway, Hz: quiet stance has most of its power below 0.5 Hz.
const SWAY_HZ: [f32; 4] = [0.19, 0.43, 0.23, 0.37];

impl Sway {
    fn at(&self, seconds: f32) -> [f32; 2] {
        let wave = |at: usize| (std::f32::consts::TAU * SWAY_HZ[at] * seconds + self.phases[at]).sin();
        [self.amplitude * (wave(0) + 0.5 * wave(1)), self.amplitude * (wave(2) + 0.5 * wave(3))]
    }
}

/// Repetitions go on this long after the sequence's end, seconds.
const MARGIN_S: f32 = 1.0;

impl Motion {
    /// The motion of an activity; `random` says where the first repetition stands when the sequence begins, and how
    /// repetitions differ.
    pub(super) fn new(activity: Activity, style: &Style, random: &mut Random) -> Self {
        // The right version is the left one in a mirror, also in a mirrored person's style.
        if activity.is_right() {
            return Self::new(activity.mirrored(), &style.mirrored(), random).mirrored();
        }
        let performance = keys::perform(activity, &style.rest());
        let length = performance.seconds * style.tempo;
        let end = FRAMES as f32 / RATE_HZ + MARGIN_S;
        let mut begin = -length * (1.0 + random.uniform());
        let (mut knots, mut flights) = (Vec::new(), Vec::new());
        while begin < end {
            let mut vary = || 1.0 + style.unevenness * random.normal().clamp(-2.5, 2.5);
            let (seconds, reach) = (length * vary(), (style.reach * vary()).clamp(0.72, 1.06));
            for Key { at, posture } in &performance.keys {
                knots.push((begin + at * seconds, reached(&performance.base, posture, reach, style)));
            }
            if let Some([from, to]) = performance.flight {
                flights.push(Flight { from: begin + from * seconds, to: begin + to * seconds });
            }
            begin += seconds;
        }
        let phases = std::array::from_fn(|_| std::f32::consts::TAU * random.uniform());
        Self { spline: Spline::new(&knots), flights, sway: Sway { amplitude: style.sway, phases } }
    }

    /// The posture `seconds` after the beginning of the sequence, 0…29.7 and a little beyond.
    #[must_use]
    pub fn at(&self, seconds: f32) -> Posture {
        let mut posture = Posture::of(&self.spline.at(seconds));
        let [right, forward] = self.sway.at(seconds);
        posture.shift[0] += right;
        posture.shift[1] += forward;
        posture.flight = self.flights.iter().map(|flight| flight.height(seconds)).fold(0.0, f32::max);
        posture
    }

    fn mirrored(self) -> Self {
        let [a, b, c, d] = self.sway.phases;
        // Mirrored left and right, not front and back.
        let half = std::f32::consts::PI;
        let sway = Sway { phases: [a + half, b + half, c, d], ..self.sway };
        Self { spline: self.spline.map(|numbers| Posture::of(numbers).mirrored().numbers()), sway, ..self }
    }
}

/// A key posture as far as this repetition goes. Where feet stand is not a matter of reach but of the stance; how far
/// they step is.
fn reached(base: &Posture, key: &Posture, reach: f32, style: &Style) -> Posture {
    let mut posture = base.towards(key, reach);
    for (at, (arm, from)) in posture.arms.iter_mut().zip(&base.arms).enumerate() {
        let share = if at == 0 { 1.0 + style.asymmetry } else { 1.0 - style.asymmetry };
        arm.elevation = (from.elevation + (arm.elevation - from.elevation) * share).clamp(-1.0, 3.1);
    }
    for (leg, to) in posture.legs.iter_mut().zip(&key.legs) {
        // A foot that stands is on the floor, and one that swings swings, however far the repetition goes.
        leg.swing = to.swing;
        leg.lift = to.lift;
    }
    posture
}

/// The motion of a subject's sequence.
pub(super) fn perform(seed: u64, subject: usize, activity: Activity, style: &Style) -> Motion {
    Motion::new(activity, style, &mut Random::new(seed, subject, activity.number(), Purpose::Motion))
}

#[cfg(test)]
mod tests;
