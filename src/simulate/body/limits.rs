//! What joints can do: angles of a skeleton, and the ranges of healthy people.
//!
//! Ranges are those of the American Academy of Orthopaedic Surgeons (in Norkin and White, *Measurement of Joint
//! Motion*), widened where people under load do more: 45° of dorsiflexion in a deep squat and 40° of rotation of the
//! thoracolumbar spine.

use std::f32::consts::PI;

use super::posture::{LEFT, Posture, RIGHT};
use super::skeleton::{Frame, Joint, Skeleton};

/// An angle that is outside of its range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Excess {
    /// The movement.
    pub movement: &'static str,
    /// Degrees.
    pub found: f32,
    /// Degrees.
    pub allowed: [f32; 2],
}

/// Every angle of a posture that no healthy person reaches.
#[must_use]
pub fn check(posture: &Posture, skeleton: &Skeleton) -> Vec<Excess> {
    let mut excess = Vec::new();
    let mut within = |movement: &'static str, radians: f32, low: f32, high: f32| {
        let found = radians * 180.0 / PI;
        // NaN is out of range, too.
        if !(found >= low && found <= high) {
            excess.push(Excess { movement, found, allowed: [low, high] });
        }
    };
    within("spine flexion", posture.spine.forward, -25.0, 80.0);
    within("spine side bend", posture.spine.right, -35.0, 35.0);
    within("spine rotation", posture.spine.left, -45.0, 45.0);
    within("neck flexion", posture.neck.forward, -60.0, 45.0);
    within("neck rotation", posture.neck.left, -60.0, 60.0);
    for arm in &posture.arms {
        within("shoulder elevation", arm.elevation, -60.0, 180.0);
        within("shoulder plane", arm.plane, -45.0, 135.0);
        within("shoulder rotation", arm.external, -90.0, 100.0);
        within("elbow flexion", arm.elbow, 0.0, 150.0);
    }
    for side in [LEFT, RIGHT] {
        let Angles { flexion, abduction, knee, dorsiflexion } = angles(skeleton, side);
        within("hip flexion", flexion, -30.0, 125.0);
        within("hip abduction", abduction, -30.0, 50.0);
        within("knee flexion", knee, 0.0, 145.0);
        within("ankle dorsiflexion", dorsiflexion, -55.0, 45.0);
    }
    excess
}

/// Angles of a leg, radians.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Angles {
    /// Of the hip, forward.
    pub flexion: f32,
    /// Of the hip, outwards.
    pub abduction: f32,
    /// Of the knee.
    pub knee: f32,
    /// Of the ankle: the toes towards the shin.
    pub dorsiflexion: f32,
}

/// Measures a leg.
#[must_use]
pub fn angles(skeleton: &Skeleton, side: usize) -> Angles {
    let (hip, knee, ankle, shank, foot, outward) = if side == LEFT {
        (Joint::LeftHip, Joint::LeftKnee, Joint::LeftAnkle, Frame::LeftShank, Frame::LeftFoot, -1.0)
    } else {
        (Joint::RightHip, Joint::RightKnee, Joint::RightAnkle, Frame::RightShank, Frame::RightFoot, 1.0)
    };
    let [hip, knee, ankle] = [hip, knee, ankle].map(|joint| skeleton.joint(joint));
    let thigh = (knee - hip).normalize();
    let seen = skeleton.frame(Frame::Pelvis).inverse_transform_vector(thigh);
    let toes = skeleton.frame(foot).rotation * parry3d::math::Vector::Y;
    let seen_toes = skeleton.frame(shank).inverse_transform_vector(toes);
    Angles {
        flexion: seen.y.atan2(-seen.z),
        abduction: (outward * seen.x).clamp(-1.0, 1.0).asin(),
        knee: thigh.dot((ankle - knee).normalize()).clamp(-1.0, 1.0).acos(),
        dorsiflexion: seen_toes.z.atan2(seen_toes.y),
    }
}

#[cfg(test)]
mod tests {
    use super::super::flesh::Look;
    use super::super::{Body, Leg, Lengths};
    use super::*;

    #[test]
    fn what_is_too_much_is_named() {
        let body = Body { stature: 1.7, lengths: Lengths::average(1.7), girth: 1.0, look: Look::plain() };
        let mut posture = Posture::standing();
        assert_eq!(check(&posture, &body.skeleton(&posture)), []);
        posture.arms[LEFT].elbow = 2.8;
        posture.legs[RIGHT] = Leg { swing: 1.0, flexion: -0.8, ..Leg::default() };
        let excess = check(&posture, &body.skeleton(&posture));
        let named: Vec<&str> = excess.iter().map(|excess| excess.movement).collect();
        assert_eq!(named, ["elbow flexion", "hip flexion"], "{excess:?}");
        // A straight leg keeps a slack of 3° in the knee's hinge.
        assert!((excess[1].found + 45.8).abs() < 4.0, "{excess:?}");
    }
}
