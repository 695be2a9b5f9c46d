//! How a person stands: turns of the trunk, angles of the arms, places of the feet.

/// Place of the left arm and leg in [`Posture`].
pub const LEFT: usize = 0;
/// Place of the right arm and leg in [`Posture`].
pub const RIGHT: usize = 1;

/// A turn, in radians: about z first, then x, then y.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Turn {
    /// Leaning forward.
    pub forward: f32,
    /// Leaning to the right.
    pub right: f32,
    /// Turning to the left.
    pub left: f32,
}

/// An arm, in radians, in the terms of the International Society of Biomechanics (Wu et al., 2005).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Arm {
    /// Plane of elevation: 0 to the side (abduction), π/2 to the front (flexion).
    pub plane: f32,
    /// Elevation of the upper arm: 0 hanging, π overhead; negative to the back when the plane is in front.
    pub elevation: f32,
    /// Rotation of the upper arm about itself, outwards.
    pub external: f32,
    /// Flexion of the elbow.
    pub elbow: f32,
}

/// A leg: a foot that stands somewhere, or a leg that swings in the hip, or a mixture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Leg {
    /// Place of the standing foot to the person's right, statures.
    pub right: f32,
    /// Place of the standing foot to the front, statures.
    pub forward: f32,
    /// Height of the sole above the floor, statures.
    pub lift: f32,
    /// The heel is raised by this turn about the ball of the foot, radians.
    pub heel: f32,
    /// The toes look outwards by this angle, radians.
    pub turnout: f32,
    /// Share of the swinging leg, 0…1; the following angles are its own.
    pub swing: f32,
    /// Flexion of the hip, radians.
    pub flexion: f32,
    /// Abduction of the hip, radians.
    pub abduction: f32,
    /// Flexion of the knee, radians.
    pub knee: f32,
    /// Plantar flexion of the ankle (the toes pointing), radians.
    pub point: f32,
}

/// A posture. Lengths are in statures, so that one posture fits all people; angles are in radians.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Posture {
    /// The pelvis to the right and to the front of its place at rest, statures.
    pub shift: [f32; 2],
    /// The pelvis below that of a standing person, statures; reach of the standing legs may take it lower still.
    pub crouch: f32,
    /// The whole person above the floor, metres.
    pub flight: f32,
    /// Turn of the pelvis against the person's frame.
    pub pelvis: Turn,
    /// Turn of the thorax against the pelvis, half of it at the spine's joint.
    pub spine: Turn,
    /// Turn of the head against the thorax.
    pub neck: Turn,
    /// Left and right.
    pub arms: [Arm; 2],
    /// Left and right.
    pub legs: [Leg; 2],
}

/// Numbers in a [`Posture`].
pub const NUMBERS: usize = 41;

impl Posture {
    /// Upright, arms hanging, feet a little apart.
    #[must_use]
    pub fn standing() -> Self {
        let leg = |right: f32| Leg { right, turnout: 0.17, ..Leg::default() };
        let arm = Arm { elevation: 0.12, elbow: 0.2, ..Arm::default() };
        Self { arms: [arm; 2], legs: [leg(-0.065), leg(0.065)], ..Self::default() }
    }

    /// The posture of the person's mirror image.
    #[must_use]
    pub fn mirrored(&self) -> Self {
        let turn = |turn: Turn| Turn { forward: turn.forward, right: -turn.right, left: -turn.left };
        let leg = |leg: Leg| Leg { right: -leg.right, ..leg };
        Self {
            shift: [-self.shift[0], self.shift[1]],
            pelvis: turn(self.pelvis),
            spine: turn(self.spine),
            neck: turn(self.neck),
            arms: [self.arms[RIGHT], self.arms[LEFT]],
            legs: [leg(self.legs[RIGHT]), leg(self.legs[LEFT])],
            ..*self
        }
    }

    /// All its numbers, in the order of its fields.
    #[must_use]
    pub fn numbers(&self) -> [f32; NUMBERS] {
        let turns = [self.pelvis, self.spine, self.neck].map(|turn| [turn.forward, turn.right, turn.left]);
        let arms = self.arms.map(|arm| [arm.plane, arm.elevation, arm.external, arm.elbow]);
        let legs = self.legs.map(|leg| {
            let stands = [leg.right, leg.forward, leg.lift, leg.heel, leg.turnout];
            let swings = [leg.swing, leg.flexion, leg.abduction, leg.knee, leg.point];
            [stands, swings]
        });
        let root = [self.shift[0], self.shift[1], self.crouch, self.flight];
        let mut all = [0.0; NUMBERS];
        let parts = root.into_iter().chain(turns.into_iter().flatten()).chain(arms.into_iter().flatten());
        for (number, part) in all.iter_mut().zip(parts.chain(legs.into_iter().flatten().flatten())) {
            *number = part;
        }
        all
    }

    /// The posture of these numbers: the inverse of [`Posture::numbers`].
    #[must_use]
    pub fn of(numbers: &[f32; NUMBERS]) -> Self {
        let mut rest = numbers.iter().copied();
        let mut next = || rest.next().unwrap_or(0.0);
        let mut posture = Self { shift: [next(), next()], crouch: next(), flight: next(), ..Self::default() };
        for turn in [&mut posture.pelvis, &mut posture.spine, &mut posture.neck] {
            *turn = Turn { forward: next(), right: next(), left: next() };
        }
        for arm in &mut posture.arms {
            *arm = Arm { plane: next(), elevation: next(), external: next(), elbow: next() };
        }
        for leg in &mut posture.legs {
            *leg = Leg {
                right: next(),
                forward: next(),
                lift: next(),
                heel: next(),
                turnout: next(),
                swing: next(),
                flexion: next(),
                abduction: next(),
                knee: next(),
                point: next(),
            };
        }
        posture
    }

    /// The posture `share` of the way from this one to another; a share above 1 exaggerates it.
    #[must_use]
    pub fn towards(&self, other: &Self, share: f32) -> Self {
        let (from, to) = (self.numbers(), other.numbers());
        Self::of(&std::array::from_fn(|at| from[at] + (to[at] - from[at]) * share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_posture_are_inverse_and_mirroring_undoes_itself() {
        let numbers: [f32; NUMBERS] = std::array::from_fn(|at| at as f32 + 1.0);
        let posture = Posture::of(&numbers);
        assert_eq!(posture.numbers(), numbers);
        assert_eq!(posture.legs[RIGHT].point, NUMBERS as f32);
        assert_ne!(posture.mirrored(), posture);
        assert_eq!(posture.mirrored().mirrored(), posture);
        assert_eq!(posture.towards(&Posture::default(), 1.0), Posture::default());
    }
}
