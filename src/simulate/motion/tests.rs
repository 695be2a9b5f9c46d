use super::super::body::limits;
use super::super::body::{Body, JOINTS, Joint, LEFT, RIGHT, Skeleton};
use super::*;
use parry3d::math::Vector;

/// Instants of a sequence: twice the frames.
fn instants() -> impl Iterator<Item = f32> {
    (0..2 * FRAMES).map(|half| half as f32 / (2.0 * RATE_HZ))
}

struct Subject {
    body: Body,
    style: Style,
}

fn subject(number: usize) -> Subject {
    Subject {
        body: Body::draw(&mut Random::new(1, number, 0, Purpose::Body)),
        style: Style::draw(&mut Random::new(1, number, 0, Purpose::Style)),
    }
}

fn skeletons(number: usize, activity: Activity) -> Vec<(Posture, Skeleton)> {
    let Subject { body, style } = subject(number);
    let motion = perform(1, number, activity, &style);
    instants()
        .map(|seconds| {
            let posture = motion.at(seconds);
            (posture, body.skeleton(&posture))
        })
        .collect()
}

#[test]
fn numbers_names_and_mirrors_agree() {
    assert_eq!(Activity::new(0), None);
    assert_eq!(Activity::new(28), None);
    for activity in Activity::all() {
        let twin = activity.mirrored();
        assert_eq!(twin.mirrored(), activity);
        let other = |name: &str| match name.contains("left") {
            true => name.replace("left", "right"),
            false => name.replace("right", "left"),
        };
        assert_eq!(other(activity.name()), twin.name());
    }
    assert_eq!(Activity::all().filter(|activity| activity.is_right()).count(), 9);
    assert_eq!(Activity::new(23).unwrap().to_string(), "A23 kicking (toward right side)");
}

#[test]
fn no_joint_goes_beyond_what_people_can_do() {
    for activity in Activity::all() {
        for number in 1..=8 {
            for (at, (posture, skeleton)) in skeletons(number, activity).iter().enumerate() {
                let excess = limits::check(posture, skeleton);
                assert!(excess.is_empty(), "{activity}, subject {number}, instant {at}: {excess:?}");
            }
        }
    }
}

#[test]
fn limbs_keep_their_lengths() {
    use Joint::*;
    let bones = [
        (Pelvis, RightHip),
        (Pelvis, LeftHip),
        (RightHip, RightKnee),
        (RightKnee, RightAnkle),
        (LeftHip, LeftKnee),
        (LeftKnee, LeftAnkle),
        (Pelvis, Spine),
        (Spine, Thorax),
        (Thorax, Neck),
        (Neck, Head),
        (Thorax, LeftShoulder),
        (LeftShoulder, LeftElbow),
        (LeftElbow, LeftWrist),
        (RightShoulder, RightElbow),
        (RightElbow, RightWrist),
    ];
    for activity in Activity::all() {
        let frames = skeletons(3, activity);
        for (from, to) in bones {
            let length = |skeleton: &Skeleton| (skeleton.joint(to) - skeleton.joint(from)).length();
            let first = length(&frames[0].1);
            for (_, skeleton) in &frames {
                assert!((length(skeleton) - first).abs() < 1e-4, "{activity}: {from:?}–{to:?}");
            }
        }
    }
}

/// Height of the lowest of heel, ball and toe of a foot, metres, and the place of the ball.
fn sole(body: &Body, skeleton: &Skeleton, side: usize) -> (f32, Vector) {
    use super::super::body::Frame;
    let foot = skeleton.frame(if side == LEFT { Frame::LeftFoot } else { Frame::RightFoot });
    let at =
        |share: f32| foot.transform_point(Vector::new(0.0, share * body.lengths.foot, -body.lengths.ankle));
    (at(-0.2).z.min(at(0.45).z), at(0.45))
}

#[test]
fn feet_stand_on_the_floor_and_do_not_slide() {
    for activity in Activity::all() {
        for number in [1, 4, 7] {
            let body = subject(number).body;
            let frames = skeletons(number, activity);
            let mut before: Option<[(f32, Vector); 2]> = None;
            let mut compared = 0;
            for (at, (posture, skeleton)) in frames.iter().enumerate() {
                let soles = [LEFT, RIGHT].map(|side| sole(&body, skeleton, side));
                let name = || format!("{activity}, subject {number}, instant {at}: {soles:?}");
                assert!(soles.iter().all(|(height, _)| *height > -4e-3), "{}", name());
                let lowest = soles[LEFT].0.min(soles[RIGHT].0);
                if activity == Activity::JUMP {
                    assert!((lowest - posture.flight).abs() < 6e-3, "{}", name());
                } else {
                    assert!(lowest < 6e-3, "{}", name());
                }
                // The foot that stood and stands is where it was.
                if let Some(before) = before
                    && activity != Activity::JUMP
                {
                    let slid = [LEFT, RIGHT].map(|side| {
                        let (was, is) = (before[side], soles[side]);
                        let stood = was.0.abs() < 2e-3 && is.0.abs() < 2e-3;
                        if stood { (was.1 - is.1).length() } else { f32::MAX }
                    });
                    // From one foot to the other, none of them stands at both instants.
                    let slid = slid[LEFT].min(slid[RIGHT]);
                    assert!(slid < 4e-3 || slid == f32::MAX, "{slid} {}", name());
                    compared += usize::from(slid < f32::MAX);
                }
                before = Some(soles);
            }
            assert!(compared > 500 || activity == Activity::JUMP, "{activity}: {compared}");
        }
    }
}

#[test]
fn a_jump_is_a_throw() {
    let frames = skeletons(2, Activity::JUMP);
    let highest = frames.iter().map(|(posture, _)| posture.flight).fold(0.0, f32::max);
    assert!((0.12..0.45).contains(&highest), "{highest} m");
    // Half the height is passed for 1/√2 of the flight's time.
    let flight = Flight { from: 1.0, to: 1.4 };
    assert!((flight.height(1.2) - 9.806_65 * 0.4 * 0.4 / 8.0).abs() < 1e-5);
    assert!((flight.height(1.2 - 0.2 / 2f32.sqrt()) - flight.height(1.2) / 2.0).abs() < 1e-5);
    assert_eq!(flight.height(1.5), 0.0);
}

#[test]
fn the_right_version_is_the_left_one_in_a_mirror() {
    let Subject { style, .. } = subject(5);
    for activity in Activity::all().filter(|activity| activity.is_right()) {
        let random = || Random::new(1, 5, 0, Purpose::Motion);
        let right = Motion::new(activity, &style, &mut random());
        let left = Motion::new(activity.mirrored(), &style.mirrored(), &mut random());
        for seconds in [0.0, 0.7, 3.3, 12.9, 29.6] {
            let (one, other) = (right.at(seconds).numbers(), left.at(seconds).mirrored().numbers());
            for (one, other) in one.iter().zip(other) {
                assert!((one - other).abs() < 1e-5, "{activity} at {seconds} s");
            }
        }
    }
}

#[test]
fn motions_are_smooth() {
    // Nothing of a person moves faster than a thrower's hand, and nothing jumps.
    for activity in Activity::all() {
        let Subject { body, style } = subject(6);
        let motion = perform(1, 6, activity, &style);
        let joints = |seconds: f32| *body.skeleton(&motion.at(seconds)).joints();
        for step in 0..5000 {
            let seconds = step as f32 * 0.005;
            for (joint, (a, b)) in joints(seconds).iter().zip(joints(seconds + 0.005)).enumerate() {
                let speed = (b - a).length() / 0.005;
                assert!(speed < 12.0, "{activity} at {seconds} s: joint {joint} has {speed} m/s");
            }
        }
    }
}

/// What a sequence's joints do: mean and standard deviation of each against the pelvis, over strided frames.
fn features(number: usize, activity: Activity) -> Vec<f32> {
    let Subject { body, style } = subject(number);
    let motion = perform(1, number, activity, &style);
    let frames: Vec<[Vector; JOINTS]> =
        (0..30).map(|frame| *body.skeleton(&motion.at((frame * 9) as f32 / RATE_HZ)).joints()).collect();
    let mut features = Vec::new();
    for joint in 0..JOINTS {
        for axis in 0..3 {
            let value = |frame: &[Vector; JOINTS]| {
                // Against the pelvis' place on the floor, so that crouching shows.
                let base = if axis == 2 { 0.0 } else { frame[0][axis] };
                (frame[joint][axis] - base) / body.stature
            };
            let mean = frames.iter().map(value).sum::<f32>() / 30.0;
            let spread = frames.iter().map(|frame| (value(frame) - mean).powi(2)).sum::<f32>() / 30.0;
            features.extend([mean, spread.sqrt()]);
        }
    }
    features
}

#[test]
fn every_activity_is_told_from_the_others() {
    // The mean of subjects 1–20 that is nearest names the activity of subjects 21–40.
    let means: Vec<Vec<f32>> = Activity::all()
        .map(|activity| {
            let all: Vec<Vec<f32>> = (1..=20).map(|number| features(number, activity)).collect();
            (0..all[0].len()).map(|at| all.iter().map(|one| one[at]).sum::<f32>() / 20.0).collect()
        })
        .collect();
    let mut right = [0usize; Activity::COUNT];
    for activity in Activity::all() {
        for number in 21..=40 {
            let found = features(number, activity);
            let distance = |mean: &[f32]| mean.iter().zip(&found).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
            let nearest =
                (0..means.len()).min_by(|&a, &b| distance(&means[a]).total_cmp(&distance(&means[b])));
            right[activity.number() - 1] += usize::from(nearest == Some(activity.number() - 1));
        }
    }
    let accuracy = right.iter().sum::<usize>() as f32 / (20 * Activity::COUNT) as f32;
    // All 540 were right when this was written.
    assert!(accuracy > 0.97, "{accuracy}: {right:?}");
    assert!(right.iter().all(|&right| right >= 16), "{right:?}");
}
