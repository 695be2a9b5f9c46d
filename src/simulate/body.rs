//! A person: bones of fixed lengths between 17 joints, and flesh on them.
//!
//! A [`Body`] is drawn per subject: stature, and each segment as its share of the stature. A [`Posture`] says how it
//! stands, in anatomical angles; [`Body::skeleton`] gives the places of the joints and the axes of the parts, and
//! [`Body::solids`] the shapes that sensors see, with the velocities that they have in a motion.
//!
//! The person's own frame has x to the person's right, y forward, z up, its origin on the floor between the feet of a
//! person at rest; metres.

use parry3d::math::{Pose, Rotation, Vector};

use super::random::Random;
use super::solid::{ObjectId, Solid};

mod flesh;
pub mod limits;
mod posture;
mod skeleton;

pub use flesh::Look;
pub use posture::{Arm, LEFT, Leg, Posture, RIGHT, Turn};
pub use skeleton::{BONES, Frame, Joint, Skeleton};

/// Joints of a skeleton, in Human3.6M's order (see [`Joint`]).
pub const JOINTS: usize = 17;
/// Places that image annotators of COCO mark.
pub const KEYPOINTS: usize = 17;

/// Lengths of the segments, metres.
///
/// Shares of the stature H are those of Drillis and Contini (1966), as in Winter, *Biomechanics and Motor Control of
/// Human Movement* (4th edition, 2009), figure 4.1: the lateral malleolus at 0.039 H, the knee at 0.285 H, the hip at
/// 0.530 H, the shoulder at 0.818 H, upper arm 0.186 H, forearm 0.146 H, hand 0.108 H, foot 0.152 H. That figure's
/// breadths (hip 0.191 H, shoulders 0.259 H) are outer ones; joint centres lie within.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lengths {
    /// Ankle above the sole.
    pub ankle: f32,
    /// Knee to ankle.
    pub shank: f32,
    /// Hip to knee.
    pub thigh: f32,
    /// Pelvis (the middle between the hips) to either hip.
    pub hip: f32,
    /// Pelvis to the spine's joint.
    pub lumbar: f32,
    /// The spine's joint to the thorax (the middle between the shoulders).
    pub thoracic: f32,
    /// Thorax to either shoulder.
    pub shoulder: f32,
    /// Shoulder to elbow.
    pub upper_arm: f32,
    /// Elbow to wrist.
    pub forearm: f32,
    /// Wrist to the finger tips.
    pub hand: f32,
    /// Heel to toe.
    pub foot: f32,
    /// Thorax to the top of the head.
    pub head: f32,
}

impl Lengths {
    /// Of an average person of this stature, metres.
    #[must_use]
    pub fn average(stature: f32) -> Self {
        let share = |part: f32| part * stature;
        let trunk = share(0.818 - 0.530);
        Self {
            ankle: share(0.039),
            shank: share(0.285 - 0.039),
            thigh: share(0.530 - 0.285),
            hip: share(0.191 / 2.0 * 0.65),
            lumbar: trunk * 0.45,
            thoracic: trunk * 0.55,
            shoulder: share(0.259 / 2.0 * 0.82),
            upper_arm: share(0.186),
            forearm: share(0.146),
            hand: share(0.108),
            foot: share(0.152),
            head: share(1.0 - 0.818),
        }
    }
}

/// A person's bones and looks; fixed for a subject.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Body {
    /// Height of the standing person, metres.
    pub stature: f32,
    /// Of the segments.
    pub lengths: Lengths,
    /// Thickness of the flesh against that of an average person.
    pub girth: f32,
    /// Colours.
    pub look: Look,
}

impl Body {
    /// Draws a subject: stature N(1.70, 0.09) m within 1.48…1.95 m, each segment's share N(1, 0.03) of the average,
    /// girth N(1, 0.10); both within two and a half standard deviations.
    pub(super) fn draw(random: &mut Random) -> Self {
        let stature = (1.70 + 0.09 * random.normal()).clamp(1.48, 1.95);
        let mut vary = |deviation: f32| 1.0 + deviation * random.normal().clamp(-2.5, 2.5);
        let mean = Lengths::average(stature);
        let (legs, arms, trunk) = (vary(0.03), vary(0.03), vary(0.03));
        let lengths = Lengths {
            ankle: mean.ankle,
            shank: mean.shank * legs * vary(0.01),
            thigh: mean.thigh * legs * vary(0.01),
            hip: mean.hip * vary(0.03),
            lumbar: mean.lumbar * trunk,
            thoracic: mean.thoracic * trunk,
            shoulder: mean.shoulder * vary(0.03),
            upper_arm: mean.upper_arm * arms,
            forearm: mean.forearm * arms * vary(0.01),
            hand: mean.hand * arms,
            foot: mean.foot * vary(0.03),
            head: mean.head * vary(0.02),
        };
        let girth = vary(0.10);
        // The legs and the trunk that were drawn make the height.
        let Lengths { ankle, shank, thigh, lumbar, thoracic, head, .. } = lengths;
        let stature = ankle + shank + thigh + lumbar + thoracic + head;
        Self { stature, lengths, girth, look: Look::draw(random) }
    }

    /// Hip to ankle of the straight leg, metres.
    #[must_use]
    pub fn leg(&self) -> f32 {
        self.lengths.thigh + self.lengths.shank
    }

    /// The joints and the parts' axes in a posture.
    #[must_use]
    pub fn skeleton(&self, posture: &Posture) -> Skeleton {
        skeleton::solve(self, posture)
    }

    /// The shapes of a person who stands at `place` and moves: `at(s)` is the posture `s` seconds from now.
    ///
    /// Velocity and spin of a part are central differences of its pose over ±5 ms: for a motion of 1 Hz the error is
    /// (2π·0.005)²/6, less than 0.02 %.
    #[must_use]
    pub fn solids(&self, place: &Pose, object: ObjectId, at: impl Fn(f32) -> Posture) -> Vec<Solid> {
        const STEP_S: f32 = 0.005;
        let [before, now, after] = [-STEP_S, 0.0, STEP_S].map(|step| self.skeleton(&at(step)));
        flesh::parts(self)
            .into_iter()
            .map(|part| {
                let pose = |skeleton: &Skeleton| *place * skeleton.frame(part.frame) * part.pose;
                let [before, now, after] = [&before, &now, &after].map(pose);
                Solid {
                    velocity: (after.translation - before.translation) / (2.0 * STEP_S),
                    spin: turn(before.rotation, after.rotation) / (2.0 * STEP_S),
                    ..Solid::still(part.shape, now, object, part.surface)
                }
            })
            .collect()
    }
}

/// The turn that leads from one orientation to another: axis times angle, radians.
fn turn(from: Rotation, to: Rotation) -> Vector {
    let turn = to * from.inverse();
    // Of the two quaternions of a turn, that of the smaller angle.
    let turn = if turn.w < 0.0 { -turn } else { turn };
    let sine = Vector::new(turn.x, turn.y, turn.z);
    let length = sine.length();
    if length < 1e-9 { Vector::ZERO } else { sine * (2.0 * length.atan2(turn.w) / length) }
}

#[cfg(test)]
mod tests {
    use super::super::random::Purpose;
    use super::*;

    fn body() -> Body {
        Body::draw(&mut Random::new(3, 1, 0, Purpose::Body))
    }

    #[test]
    fn an_average_person_has_winters_segments() {
        // Winter (2009), figure 4.1, for H = 1.70 m: thigh 0.4165 m, shank 0.4182 m, upper arm 0.3162 m, forearm 0.2482 m.
        let lengths = Lengths::average(1.70);
        let near = |found: f32, expected: f32| assert!((found - expected).abs() < 1e-4, "{found} {expected}");
        near(lengths.thigh, 0.4165);
        near(lengths.shank, 0.4182);
        near(lengths.upper_arm, 0.3162);
        near(lengths.forearm, 0.2482);
        near(lengths.ankle + lengths.shank + lengths.thigh, 0.901);
    }

    #[test]
    fn statures_are_those_of_people() {
        let statures: Vec<f32> = (0..400)
            .map(|subject| Body::draw(&mut Random::new(1, subject, 0, Purpose::Body)).stature)
            .collect();
        let mean = statures.iter().sum::<f32>() / 400.0;
        let deviation = (statures.iter().map(|h| (h - mean).powi(2)).sum::<f32>() / 400.0).sqrt();
        // ±3 standard errors of the mean and of the deviation, which the shares make somewhat larger.
        assert!((mean - 1.70).abs() < 0.016, "{mean}");
        assert!((0.075..0.115).contains(&deviation), "{deviation}");
    }

    #[test]
    fn velocities_are_those_of_the_motion() {
        let body = body();
        // The whole person turns at 2 rad/s about the vertical while it moves right at 1 m/s.
        let at = |seconds: f32| {
            let mut posture = Posture::standing();
            posture.pelvis.left = 2.0 * seconds;
            posture.arms[RIGHT].elevation = 1.5;
            posture.shift[0] = seconds / body.stature;
            posture
        };
        let place = Pose::new(Vector::new(0.0, 3.0, 0.0), Vector::Z * std::f32::consts::PI);
        let solids = body.solids(&place, ObjectId(1), at);
        let hand = solids.iter().max_by(|a, b| a.velocity.length().total_cmp(&b.velocity.length())).unwrap();
        let pelvis = place.transform_point(body.skeleton(&at(0.0)).joint(Joint::Pelvis));
        assert!((hand.spin - Vector::Z * 2.0).length() < 1e-2, "{}", hand.spin);
        let from_axis = hand.pose.translation - pelvis;
        // Half a turn of the place: the person's right is −x.
        let expected = -Vector::X + (Vector::Z * 2.0).cross(from_axis);
        assert!((hand.velocity - expected).length() < 1e-2, "{} {expected}", hand.velocity);
    }
}
