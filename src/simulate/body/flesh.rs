//! What sensors see of a person: ellipsoids and capsules on the bones, in clothes, skin and hair.

use parry3d::math::{Pose, Rotation, Vector};

use super::super::random::Random;
use super::super::solid::{Shape, Surface};
use super::Body;
use super::skeleton::Frame;

/// A person's colours: reflectance, red, green, blue, 0…1, linear.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Shirt.
    pub shirt: [f32; 3],
    /// Trousers.
    pub trousers: [f32; 3],
    /// Shoes.
    pub shoes: [f32; 3],
    /// Face and hands.
    pub skin: [f32; 3],
    /// Hair.
    pub hair: [f32; 3],
    /// Whether the sleeves are short.
    pub short_sleeves: bool,
}

const SHIRTS: [[f32; 3]; 10] = [
    [0.72, 0.72, 0.70],
    [0.04, 0.04, 0.05],
    [0.45, 0.05, 0.05],
    [0.05, 0.12, 0.42],
    [0.07, 0.30, 0.12],
    [0.60, 0.42, 0.05],
    [0.25, 0.26, 0.28],
    [0.35, 0.10, 0.35],
    [0.15, 0.45, 0.50],
    [0.65, 0.35, 0.30],
];
const TROUSERS: [[f32; 3]; 6] = [
    [0.03, 0.04, 0.09],
    [0.02, 0.02, 0.02],
    [0.10, 0.14, 0.26],
    [0.22, 0.20, 0.17],
    [0.35, 0.28, 0.18],
    [0.12, 0.12, 0.13],
];
const SHOES: [[f32; 3]; 4] = [[0.03, 0.03, 0.03], [0.65, 0.65, 0.65], [0.12, 0.06, 0.03], [0.30, 0.05, 0.05]];
const SKINS: [[f32; 3]; 5] =
    [[0.60, 0.38, 0.28], [0.50, 0.30, 0.20], [0.38, 0.21, 0.13], [0.24, 0.12, 0.07], [0.12, 0.06, 0.04]];
const HAIRS: [[f32; 3]; 5] =
    [[0.012, 0.010, 0.010], [0.04, 0.025, 0.015], [0.10, 0.06, 0.03], [0.28, 0.18, 0.07], [0.25, 0.25, 0.25]];

impl Look {
    pub(super) fn draw(random: &mut Random) -> Self {
        let mut pick = |palette: &[[f32; 3]]| {
            let at = (random.uniform() * palette.len() as f32) as usize;
            palette.get(at).copied().unwrap_or([0.3; 3])
        };
        let (shirt, trousers, shoes) = (pick(&SHIRTS), pick(&TROUSERS), pick(&SHOES));
        let (skin, hair) = (pick(&SKINS), pick(&HAIRS));
        Self { shirt, trousers, shoes, skin, hair, short_sleeves: random.uniform() < 0.6 }
    }

    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        let grey = [0.3; 3];
        Self { shirt: grey, trousers: grey, shoes: grey, skin: grey, hair: grey, short_sleeves: false }
    }
}

/// A shape on a part.
pub(super) struct Part {
    pub frame: Frame,
    /// Its middle and axes in those of the part.
    pub pose: Pose,
    pub shape: Shape,
    pub surface: Surface,
}

/// The shapes of a body. Radii are those of an average person of 1.70 m, by stature and girth.
pub(super) fn parts(body: &Body) -> Vec<Part> {
    let (lengths, look) = (&body.lengths, &body.look);
    let thick = body.stature / 1.7 * body.girth;
    let size = body.stature / 1.7;
    let (shirt, trousers) = (Surface::Cloth(look.shirt), Surface::Cloth(look.trousers));
    let skin = Surface::Skin(look.skin);
    let mut parts = Vec::with_capacity(24);
    let mut ball = |frame: Frame, at: [f32; 3], radii: [f32; 3], surface: Surface| {
        let (pose, shape) = (Pose::from_translation(Vector::from(at)), Shape::Ellipsoid(Vector::from(radii)));
        parts.push(Part { frame, pose, shape, surface });
    };
    // The trunk: pelvis, belly, chest.
    let (lumbar, thoracic) = (lengths.lumbar, lengths.thoracic);
    ball(Frame::Pelvis, [0.0, 0.0, 0.02], [0.168 * thick, 0.118 * thick, 0.13 * size], trousers);
    ball(Frame::Abdomen, [0.0, 0.005, -0.15 * lumbar], [0.155 * thick, 0.112 * thick, 0.7 * lumbar], shirt);
    let chest = [0.0, 0.015, -0.48 * thoracic];
    ball(Frame::Chest, chest, [0.168 * thick, 0.122 * thick, 0.66 * thoracic], shirt);
    // The head is an egg, the hair a cap that leaves the face free.
    let head = lengths.head;
    ball(Frame::Head, [0.0, 0.17 * head, 0.62 * head], [0.076 * size, 0.094 * size, 0.37 * head], skin);
    ball(
        Frame::Head,
        [0.0, 0.06 * head, 0.70 * head],
        [0.083 * size, 0.092 * size, 0.335 * head],
        Surface::Hair(look.hair),
    );
    ball(Frame::Head, [0.0, 0.48 * head, 0.56 * head], [0.014 * size, 0.02 * size, 0.025 * size], skin);
    let hand = [0.042 * size, 0.024 * size, lengths.hand * 0.52];
    for (frame, side) in [(Frame::LeftForearm, 1.0f32), (Frame::RightForearm, -1.0)] {
        let middle = -lengths.forearm - lengths.hand * 0.45;
        ball(frame, [0.0, 0.0, middle], [hand[1], hand[0], hand[2]], skin);
        // The thumb.
        ball(
            frame,
            [side * 0.01, 0.035 * size, middle + 0.02],
            [0.013, 0.014, 0.032].map(|r| r * size),
            skin,
        );
    }
    let mut limb = |frame: Frame, length: f32, radius: f32, surface: Surface| {
        let pose = Pose::from_translation(Vector::Z * (-length / 2.0));
        parts.push(Part {
            frame,
            pose,
            shape: Shape::Capsule { half_length: length / 2.0, radius },
            surface,
        });
    };
    limb(Frame::LeftThigh, lengths.thigh, 0.074 * thick, trousers);
    limb(Frame::RightThigh, lengths.thigh, 0.074 * thick, trousers);
    limb(Frame::LeftShank, lengths.shank, 0.052 * thick, trousers);
    limb(Frame::RightShank, lengths.shank, 0.052 * thick, trousers);
    limb(Frame::LeftUpperArm, lengths.upper_arm, 0.045 * thick, shirt);
    limb(Frame::RightUpperArm, lengths.upper_arm, 0.045 * thick, shirt);
    let sleeve = if look.short_sleeves { skin } else { shirt };
    limb(Frame::LeftForearm, lengths.forearm, 0.035 * thick, sleeve);
    limb(Frame::RightForearm, lengths.forearm, 0.035 * thick, sleeve);
    // The trunk's core fills the waists between its eggs.
    let (low, high) = (-0.75 * lumbar, 0.75 * thoracic);
    for side in [-1.0f32, 1.0] {
        let at = Vector::new(side * 0.052 * thick, 0.004, (low + high) / 2.0);
        let shape = Shape::Capsule { half_length: (high - low) / 2.0, radius: 0.098 * thick };
        parts.push(Part { frame: Frame::Abdomen, pose: Pose::from_translation(at), shape, surface: shirt });
    }
    // The neck goes up into the head, the shoulders across the chest.
    let neck = Pose::from_translation(Vector::new(0.0, 0.06 * head, 0.16 * head));
    let shape = Shape::Capsule { half_length: 0.15 * head, radius: 0.052 * thick };
    parts.push(Part { frame: Frame::Head, pose: neck, shape, surface: skin });
    let across = Rotation::from_rotation_y(std::f32::consts::FRAC_PI_2);
    let shape = Shape::Capsule { half_length: lengths.shoulder * 0.92, radius: 0.055 * thick };
    let pose = Pose::from_parts(Vector::Z * -0.012, across);
    parts.push(Part { frame: Frame::Chest, pose, shape, surface: shirt });
    // A shoe stands on its sole: a box with round ends would roll, a flat egg does not.
    let length = lengths.foot;
    for frame in [Frame::LeftFoot, Frame::RightFoot] {
        let half = Vector::new(0.043 * size, length / 2.0, 0.6 * lengths.ankle);
        let pose = Pose::from_translation(Vector::new(0.0, 0.24 * length, half.z - lengths.ankle));
        parts.push(Part { frame, pose, shape: Shape::Ellipsoid(half), surface: Surface::Cloth(look.shoes) });
    }
    parts
}
