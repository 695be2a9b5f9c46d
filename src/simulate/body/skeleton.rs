//! Kinematics: from a posture to the places of joints and the axes of parts.
//!
//! Trunk and arms by forward kinematics; a standing leg by the two-bone inverse: hip and ankle are given, the knee lies
//! in the plane across the hinge's axis. A leg that is on its way between standing and swinging has its ankle between
//! the places of both.

use parry3d::math::{Pose, Rotation, Vector};

use super::posture::{Arm, LEFT, Leg, Posture, RIGHT, Turn};
use super::{Body, JOINTS, KEYPOINTS};

/// Joints in Human3.6M's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs, reason = "their names are what they are")]
pub enum Joint {
    Pelvis,
    RightHip,
    RightKnee,
    RightAnkle,
    LeftHip,
    LeftKnee,
    LeftAnkle,
    Spine,
    Thorax,
    /// Neck and nose.
    Neck,
    /// Top of the head.
    Head,
    LeftShoulder,
    LeftElbow,
    LeftWrist,
    RightShoulder,
    RightElbow,
    RightWrist,
}

/// Bones between the joints, from the pelvis outwards.
pub const BONES: [(usize, usize); 16] = [
    (0, 1),
    (1, 2),
    (2, 3),
    (0, 4),
    (4, 5),
    (5, 6),
    (0, 7),
    (7, 8),
    (8, 9),
    (9, 10),
    (8, 11),
    (11, 12),
    (12, 13),
    (8, 14),
    (14, 15),
    (15, 16),
];

/// Parts that move as one; their axes are those of the person's frame when it stands upright with hanging arms. The
/// origin is the joint nearer to the pelvis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs, reason = "their names are what they are")]
pub enum Frame {
    Pelvis,
    Abdomen,
    Chest,
    Head,
    LeftUpperArm,
    RightUpperArm,
    LeftForearm,
    RightForearm,
    LeftThigh,
    RightThigh,
    LeftShank,
    RightShank,
    LeftFoot,
    RightFoot,
}

/// Parts of a skeleton.
const FRAMES: usize = 14;

/// A person's joints and parts, in the person's frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Skeleton {
    joints: [Vector; JOINTS],
    frames: [Pose; FRAMES],
    keypoints: [Vector; KEYPOINTS],
}

impl Skeleton {
    /// A joint's place, metres.
    #[must_use]
    pub const fn joint(&self, joint: Joint) -> Vector {
        self.joints[joint as usize]
    }

    /// All joints, in Human3.6M's order, metres.
    #[must_use]
    pub const fn joints(&self) -> &[Vector; JOINTS] {
        &self.joints
    }

    /// A part's axes.
    #[must_use]
    pub const fn frame(&self, frame: Frame) -> Pose {
        self.frames[frame as usize]
    }

    /// COCO's 17 keypoints, metres: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles, left before right.
    #[must_use]
    pub const fn keypoints(&self) -> &[Vector; KEYPOINTS] {
        &self.keypoints
    }
}

/// A leg never quite straightens: beyond this share of its length the knee's direction is lost.
const STRAIGHT: f32 = 0.9985;
/// Share of the leg's length at which a standing person's hip is.
const STANDING: f32 = 0.992;

fn rotation(turn: Turn) -> Rotation {
    Rotation::from_rotation_z(turn.left)
        * Rotation::from_rotation_x(-turn.forward)
        * Rotation::from_rotation_y(turn.right)
}

/// −1 for the left, 1 for the right.
const fn sign(side: usize) -> f32 {
    if side == LEFT { -1.0 } else { 1.0 }
}

/// Axes of an upper arm in those of the thorax.
fn upper_arm(arm: &Arm, side: usize) -> Rotation {
    let to = Vector::new(sign(side) * arm.plane.cos(), arm.plane.sin(), 0.0);
    // From hanging (−z) towards that direction.
    let axis = Vector::new(to.y, -to.x, 0.0);
    Rotation::from_axis_angle(axis, arm.elevation) * Rotation::from_rotation_z(-sign(side) * arm.external)
}

/// Where a foot stands: its ankle, and the foot's axes.
fn stand(body: &Body, leg: &Leg, side: usize) -> (Vector, Rotation) {
    let (height, lengths) = (body.stature, &body.lengths);
    let flat = Rotation::from_rotation_z(-sign(side) * leg.turnout);
    let ankle = Vector::new(leg.right * height, leg.forward * height, leg.lift * height + lengths.ankle);
    // The ball of the foot stays where it is when the heel rises.
    let to_ball = Vector::new(0.0, lengths.foot * BALL, -lengths.ankle);
    let raised = flat * Rotation::from_rotation_x(-leg.heel);
    (ankle + flat * to_ball - raised * to_ball, raised)
}

/// The ball of the foot before the ankle, in lengths of the foot.
const BALL: f32 = 0.45;

/// How high a foot is picked up on its way between standing and swinging, statures.
const CLEARANCE: f32 = 0.03;

pub(super) fn solve(body: &Body, posture: &Posture) -> Skeleton {
    let lengths = &body.lengths;
    let up = Vector::Z;
    let hips = [LEFT, RIGHT].map(|side| rotation(posture.pelvis) * (Vector::X * (sign(side) * lengths.hip)));
    let stands = [LEFT, RIGHT].map(|side| stand(body, &posture.legs[side], side));

    // The pelvis is as high as the posture says, or as the standing legs reach.
    let mut pelvis = Vector::new(posture.shift[0], posture.shift[1], 0.0) * body.stature;
    let mut height = lengths.ankle + (STANDING * body.leg()) - posture.crouch * body.stature;
    for ((leg, hip), (ankle, _)) in posture.legs.iter().zip(&hips).zip(&stands) {
        let across = *ankle - (pelvis + *hip);
        let level = across.x * across.x + across.y * across.y;
        let reach = ((STRAIGHT * body.leg()).powi(2) - level).max(0.0).sqrt();
        // A leg that swings does not hold the pelvis down.
        height = height.min(ankle.z + reach - hip.z + leg.swing * body.stature);
    }
    pelvis.z = height;
    let lift = up * posture.flight;
    pelvis += lift;

    let pelvis_axes = rotation(posture.pelvis);
    let half = Turn {
        forward: posture.spine.forward / 2.0,
        right: posture.spine.right / 2.0,
        left: posture.spine.left / 2.0,
    };
    let spine_axes = pelvis_axes * rotation(half);
    let chest_axes = spine_axes * rotation(half);
    let head_axes = chest_axes * rotation(posture.neck);
    let spine = pelvis + pelvis_axes * (up * lengths.lumbar);
    let thorax = spine + spine_axes * (up * lengths.thoracic);
    let in_head = |x: f32, y: f32, z: f32| thorax + head_axes * (Vector::new(x, y, z) * lengths.head);

    let arms = [LEFT, RIGHT].map(|side| {
        let arm = &posture.arms[side];
        let shoulder = thorax + chest_axes * (Vector::X * (sign(side) * lengths.shoulder));
        let upper = chest_axes * upper_arm(arm, side);
        let elbow = shoulder - upper * (up * lengths.upper_arm);
        let fore = upper * Rotation::from_rotation_x(arm.elbow);
        let wrist = elbow - fore * (up * lengths.forearm);
        ([shoulder, elbow, wrist], [upper, fore])
    });
    let legs = [LEFT, RIGHT].map(|side| {
        let (ankle, foot) = stands[side];
        leg(body, &posture.legs[side], side, pelvis + hips[side], pelvis_axes, (ankle + lift, foot))
    });

    let [([left_shoulder, left_elbow, left_wrist], [left_upper, left_fore]), right_arm] = arms;
    let ([right_shoulder, right_elbow, right_wrist], [right_upper, right_fore]) = right_arm;
    let [([left_hip, left_knee, left_ankle], [left_thigh, left_shank, left_foot]), right_leg] = legs;
    let ([right_hip, right_knee, right_ankle], [right_thigh, right_shank, right_foot]) = right_leg;
    let nose = in_head(0.0, 0.52, 0.56);
    Skeleton {
        joints: [
            pelvis,
            right_hip,
            right_knee,
            right_ankle,
            left_hip,
            left_knee,
            left_ankle,
            spine,
            thorax,
            in_head(0.0, 0.25, 0.5),
            in_head(0.0, 0.08, 1.0),
            left_shoulder,
            left_elbow,
            left_wrist,
            right_shoulder,
            right_elbow,
            right_wrist,
        ],
        frames: [
            Pose::from_parts(pelvis, pelvis_axes),
            Pose::from_parts(spine, spine_axes),
            Pose::from_parts(thorax, chest_axes),
            Pose::from_parts(thorax, head_axes),
            Pose::from_parts(left_shoulder, left_upper),
            Pose::from_parts(right_shoulder, right_upper),
            Pose::from_parts(left_elbow, left_fore),
            Pose::from_parts(right_elbow, right_fore),
            Pose::from_parts(left_hip, left_thigh),
            Pose::from_parts(right_hip, right_thigh),
            Pose::from_parts(left_knee, left_shank),
            Pose::from_parts(right_knee, right_shank),
            Pose::from_parts(left_ankle, left_foot),
            Pose::from_parts(right_ankle, right_foot),
        ],
        keypoints: [
            nose,
            in_head(-0.1, 0.43, 0.66),
            in_head(0.1, 0.43, 0.66),
            in_head(-0.25, 0.1, 0.6),
            in_head(0.25, 0.1, 0.6),
            left_shoulder,
            right_shoulder,
            left_elbow,
            right_elbow,
            left_wrist,
            right_wrist,
            left_hip,
            right_hip,
            left_knee,
            right_knee,
            left_ankle,
            right_ankle,
        ],
    }
}

/// Hip, knee, ankle; axes of thigh, shank and foot.
fn leg(
    body: &Body,
    leg: &Leg,
    side: usize,
    hip: Vector,
    pelvis: Rotation,
    (stand_ankle, stand_foot): (Vector, Rotation),
) -> ([Vector; 3], [Rotation; 3]) {
    let (thigh, shank) = (body.lengths.thigh, body.lengths.shank);
    // The swinging leg, by forward kinematics.
    let swing_thigh = pelvis
        * Rotation::from_rotation_y(-sign(side) * leg.abduction)
        * Rotation::from_rotation_x(leg.flexion);
    let swing_shank = swing_thigh * Rotation::from_rotation_x(-leg.knee);
    let swing_ankle = hip - swing_thigh * (Vector::Z * thigh) - swing_shank * (Vector::Z * shank);
    let swing_foot = swing_shank * Rotation::from_rotation_x(-leg.point);

    let share = leg.swing.clamp(0.0, 1.0);
    // A foot that leaves the floor is picked up before it turns, so that toe and heel stay clear of the floor.
    let clear = Vector::Z * (CLEARANCE * body.stature * 4.0 * share * (1.0 - share));
    let goal = stand_ankle + (swing_ankle - stand_ankle) * share + clear;
    let knee_axis = |axes: Rotation| axes * Vector::X;
    // Knees look where the toes look, mostly.
    let level = Rotation::from_rotation_z(-sign(side) * leg.turnout * 0.8);
    let axis = knee_axis(level) * (1.0 - share) + knee_axis(swing_thigh) * share;

    let between = goal - hip;
    let length = between.length().clamp((thigh - shank).abs() + 1e-3, STRAIGHT * (thigh + shank));
    let along = between.normalize_or(-Vector::Z);
    let axis = (axis - along * axis.dot(along)).normalize_or(Vector::X);
    // The law of cosines: how far down the line from hip to ankle, and how far in front of it, the knee is.
    let down = (length * length + thigh * thigh - shank * shank) / (2.0 * length);
    let front = (thigh * thigh - down * down).max(0.0).sqrt();
    let knee = hip + along * down + axis.cross(along) * front;
    let ankle = hip + along * length;
    let thigh_axes = axes(axis, hip - knee);
    let shank_axes = axes(axis, knee - ankle);
    ([hip, knee, ankle], [thigh_axes, shank_axes, stand_foot.slerp(swing_foot, share)])
}

/// Axes of a bone: x the hinge's axis, z along the bone.
fn axes(hinge: Vector, along: Vector) -> Rotation {
    let z = along.normalize_or(Vector::Z);
    let x = (hinge - z * hinge.dot(z)).normalize_or(Vector::X);
    rotation_of(x, z.cross(x), z)
}

/// The rotation whose matrix has these columns (Shepperd's method).
fn rotation_of(x: Vector, y: Vector, z: Vector) -> Rotation {
    let trace = x.x + y.y + z.z;
    let quaternion = if trace > 0.0 {
        let s = 2.0 * (trace + 1.0).sqrt();
        [(y.z - z.y) / s, (z.x - x.z) / s, (x.y - y.x) / s, s / 4.0]
    } else if x.x > y.y && x.x > z.z {
        let s = 2.0 * (1.0 + x.x - y.y - z.z).sqrt();
        [s / 4.0, (y.x + x.y) / s, (z.x + x.z) / s, (y.z - z.y) / s]
    } else if y.y > z.z {
        let s = 2.0 * (1.0 + y.y - x.x - z.z).sqrt();
        [(y.x + x.y) / s, s / 4.0, (z.y + y.z) / s, (z.x - x.z) / s]
    } else {
        let s = 2.0 * (1.0 + z.z - x.x - y.y).sqrt();
        [(z.x + x.z) / s, (z.y + y.z) / s, s / 4.0, (x.y - y.x) / s]
    };
    let [x, y, z, w] = quaternion;
    Rotation::from_xyzw(x, y, z, w).normalize()
}

#[cfg(test)]
mod tests {
    use super::super::Lengths;
    use super::super::flesh::Look;
    use super::*;

    fn body() -> Body {
        Body { stature: 1.7, lengths: Lengths::average(1.7), girth: 1.0, look: Look::plain() }
    }

    fn near(found: Vector, expected: [f32; 3]) {
        assert!((found - Vector::from(expected)).length() < 2e-3, "{found} is not {expected:?}");
    }

    #[test]
    fn a_standing_person_has_its_joints_where_winter_has_them() {
        let mut posture = Posture::standing();
        for (arm, leg) in posture.arms.iter_mut().zip(&mut posture.legs) {
            *arm = Arm::default();
            leg.right = leg.right.signum() * body().lengths.hip / 1.7;
        }
        let skeleton = body().skeleton(&posture);
        // All but the slack of a standing leg (0.8 % of 0.491 H, 7 mm).
        let slack = body().leg() * (1.0 - STANDING);
        near(skeleton.joint(Joint::Pelvis), [0.0, 0.0, 0.530 * 1.7 - slack]);
        near(skeleton.joint(Joint::Thorax), [0.0, 0.0, 0.818 * 1.7 - slack]);
        near(skeleton.joint(Joint::RightAnkle), [body().lengths.hip, 0.0, 0.039 * 1.7]);
        let wrist = 0.818 - 0.186 - 0.146;
        near(skeleton.joint(Joint::LeftWrist), [-body().lengths.shoulder, 0.0, wrist * 1.7 - slack]);
        // The knee bends forward.
        assert!(skeleton.joint(Joint::RightKnee).y > 0.01);
    }

    #[test]
    fn arms_go_where_their_angles_say() {
        let quarter = std::f32::consts::FRAC_PI_2;
        let hand = |side: usize, arm: Arm| {
            let mut posture = Posture::standing();
            posture.arms[side] = arm;
            let skeleton = body().skeleton(&posture);
            let (shoulder, elbow, wrist) = match side {
                LEFT => (Joint::LeftShoulder, Joint::LeftElbow, Joint::LeftWrist),
                _ => (Joint::RightShoulder, Joint::RightElbow, Joint::RightWrist),
            };
            let [upper, fore] = [(shoulder, elbow), (elbow, wrist)]
                .map(|(from, to)| (skeleton.joint(to) - skeleton.joint(from)).normalize());
            (upper, fore)
        };
        let side_up = Arm { elevation: quarter, ..Arm::default() };
        near(hand(RIGHT, side_up).0, [1.0, 0.0, 0.0]);
        near(hand(LEFT, side_up).0, [-1.0, 0.0, 0.0]);
        let front = Arm { plane: quarter, elevation: quarter, ..Arm::default() };
        near(hand(LEFT, front).0, [0.0, 1.0, 0.0]);
        // The forearm of an arm held to the front goes up, inwards when the arm is turned inwards.
        near(hand(RIGHT, Arm { elbow: quarter, ..front }).1, [0.0, 0.0, 1.0]);
        near(hand(RIGHT, Arm { elbow: quarter, external: -quarter, ..front }).1, [-1.0, 0.0, 0.0]);
        near(hand(LEFT, Arm { elbow: quarter, external: -quarter, ..front }).1, [1.0, 0.0, 0.0]);
        // Of an arm held to the side it goes to the front, and up when the arm is turned outwards.
        near(hand(LEFT, Arm { elbow: quarter, ..side_up }).1, [0.0, 1.0, 0.0]);
        near(hand(LEFT, Arm { elbow: quarter, external: quarter, ..side_up }).1, [0.0, 0.0, 1.0]);
    }

    #[test]
    fn turns_have_the_signs_of_their_names() {
        let head = |turn: Turn| {
            let posture = Posture { pelvis: turn, ..Posture::standing() };
            let skeleton = body().skeleton(&posture);
            (
                skeleton.joint(Joint::Head) - skeleton.joint(Joint::Pelvis),
                skeleton.frame(Frame::Head).rotation,
            )
        };
        assert!(head(Turn { forward: 0.5, ..Turn::default() }).0.y > 0.3);
        assert!(head(Turn { right: 0.5, ..Turn::default() }).0.x > 0.3);
        let looks = head(Turn { left: 0.5, ..Turn::default() }).1 * Vector::Y;
        assert!(looks.x < -0.4 && looks.y > 0.8, "{looks}");
    }

    #[test]
    fn a_swinging_leg_has_its_angles_and_a_raised_heel_keeps_its_ball() {
        let mut posture = Posture::standing();
        posture.legs[RIGHT] = Leg { swing: 1.0, flexion: 1.2, knee: 0.4, ..posture.legs[RIGHT] };
        let skeleton = body().skeleton(&posture);
        let thigh = skeleton.joint(Joint::RightKnee) - skeleton.joint(Joint::RightHip);
        assert!((thigh.y.atan2(-thigh.z) - 1.2).abs() < 1e-2, "{thigh}");
        let shank = skeleton.joint(Joint::RightAnkle) - skeleton.joint(Joint::RightKnee);
        assert!((shank.y.atan2(-shank.z) - 0.8).abs() < 1e-2, "{shank}");

        let ball = |heel: f32| {
            let mut posture = Posture::standing();
            posture.legs[LEFT].heel = heel;
            let foot = body().skeleton(&posture).frame(Frame::LeftFoot);
            foot.transform_point(Vector::new(0.0, body().lengths.foot * BALL, -body().lengths.ankle))
        };
        near(ball(0.6), ball(0.0).into());
        assert!(ball(0.0).z.abs() < 1e-6);
    }

    #[test]
    fn the_mirrored_posture_has_the_mirrored_skeleton() {
        let numbers: [f32; super::super::posture::NUMBERS] =
            std::array::from_fn(|at| 0.25 * (at as f32 * 1.7).sin());
        let posture = Posture::standing().towards(&Posture::of(&numbers), 0.5);
        let (one, other) = (body().skeleton(&posture), body().skeleton(&posture.mirrored()));
        let pairs = [
            (Joint::Pelvis, Joint::Pelvis),
            (Joint::Head, Joint::Head),
            (Joint::LeftAnkle, Joint::RightAnkle),
            (Joint::RightKnee, Joint::LeftKnee),
            (Joint::LeftWrist, Joint::RightWrist),
            (Joint::RightElbow, Joint::LeftElbow),
        ];
        for (joint, twin) in pairs {
            let Vector { x, y, z, .. } = one.joint(joint);
            near(other.joint(twin), [-x, y, z]);
        }
    }
}
