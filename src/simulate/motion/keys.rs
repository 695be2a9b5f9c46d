//! The key postures of one repetition of each activity, of the left version where there are two.

use super::super::body::{Arm, LEFT, Posture, RIGHT};
use super::Activity;

/// A posture and when in its repetition it is passed, 0…1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Key {
    pub at: f32,
    pub posture: Posture,
}

/// One repetition.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Performance {
    /// Its length, seconds.
    pub seconds: f32,
    /// What a smaller reach stays nearer to.
    pub base: Posture,
    /// In order of time. The first stands at 0; the next repetition's first ends this one.
    pub keys: Vec<Key>,
    /// When the feet are in the air.
    pub flight: Option<[f32; 2]>,
}

/// Degrees in radians.
const fn deg(degrees: f32) -> f32 {
    degrees * (std::f32::consts::PI / 180.0)
}

/// An arm by plane, elevation, outward rotation and elbow, degrees.
const fn arm(plane: f32, elevation: f32, external: f32, elbow: f32) -> Arm {
    Arm { plane: deg(plane), elevation: deg(elevation), external: deg(external), elbow: deg(elbow) }
}

/// The hand on the hip.
const ON_HIP: Arm = arm(-18.0, 42.0, -62.0, 98.0);

/// Collects keys that are told as changes of a base posture.
struct Keys {
    base: Posture,
    keys: Vec<Key>,
}

impl Keys {
    fn new(base: Posture) -> Self {
        Self { base, keys: Vec::new() }
    }

    /// A key at a time: the base, changed.
    fn key(mut self, at: f32, change: impl Fn(&mut Posture)) -> Self {
        let mut posture = self.base;
        change(&mut posture);
        self.keys.push(Key { at, posture });
        self
    }

    /// The base itself at a time.
    fn rest(self, at: f32) -> Self {
        self.key(at, |_| {})
    }

    /// One posture from a time to another.
    fn hold(self, from: f32, to: f32, change: impl Fn(&mut Posture)) -> Self {
        self.key(from, &change).key(to, &change)
    }

    fn lasting(self, seconds: f32) -> Performance {
        Performance { seconds, base: self.base, keys: self.keys, flight: None }
    }
}

/// One repetition of an activity by someone who rests like this.
pub(super) fn perform(activity: Activity, rest: &Posture) -> Performance {
    let start = || Keys::new(*rest).rest(0.0);
    match activity.number() {
        // Arms to the front and up on tiptoe, down by the sides, and slack.
        1 => start()
            .key(0.18, |p| {
                p.arms = [arm(85.0, 92.0, 0.0, 12.0); 2];
            })
            .hold(0.36, 0.5, |p| {
                p.arms = [arm(55.0, 172.0, 0.0, 6.0); 2];
                p.spine.forward = deg(-12.0);
                p.neck.forward = deg(-14.0);
                p.legs.iter_mut().for_each(|leg| leg.heel = deg(18.0));
            })
            .key(0.68, |p| p.arms = [arm(4.0, 88.0, 0.0, 10.0); 2])
            .key(0.86, |p| {
                p.spine.forward = deg(9.0);
                p.neck.forward = deg(8.0);
                p.crouch = 0.012;
            })
            .lasting(4.2),
        // Elbows back with bent arms, then with straight ones.
        2 => {
            let mut base = *rest;
            base.arms = [arm(85.0, 84.0, -78.0, 112.0); 2];
            Keys::new(base)
                .rest(0.0)
                .key(0.22, |p| {
                    p.arms = [arm(6.0, 84.0, -35.0, 112.0); 2];
                    p.spine.forward = deg(-6.0);
                })
                .rest(0.46)
                .key(0.74, |p| {
                    p.arms = [arm(-16.0, 88.0, 0.0, 8.0); 2];
                    p.spine.forward = deg(-9.0);
                })
                .lasting(2.6)
        }
        // One arm up, the other back and down, a pull, and the other way round.
        3 => {
            let swap = |p: &mut Posture| p.arms.swap(LEFT, RIGHT);
            let up = |p: &mut Posture| {
                p.arms = [arm(82.0, 168.0, 0.0, 6.0), arm(82.0, -30.0, 0.0, 6.0)];
                p.spine.forward = deg(-5.0);
            };
            let less = |p: &mut Posture| {
                p.arms = [arm(82.0, 140.0, 0.0, 10.0), arm(82.0, -8.0, 0.0, 10.0)];
            };
            Keys::new(*rest)
                .key(0.0, up)
                .key(0.12, less)
                .key(0.24, up)
                .key(0.5, |p| {
                    up(p);
                    swap(p);
                })
                .key(0.62, |p| {
                    less(p);
                    swap(p);
                })
                .key(0.74, |p| {
                    up(p);
                    swap(p);
                })
                .lasting(3.0)
        }
        // Forearms before the chest, the trunk turns and comes back.
        4 => {
            let mut base = *rest;
            base.arms = [arm(72.0, 80.0, -78.0, 105.0); 2];
            Keys::new(base)
                .rest(0.0)
                .hold(0.34, 0.48, |p| {
                    p.spine.left = deg(40.0);
                    p.pelvis.left = deg(16.0);
                    p.neck.left = deg(10.0);
                    p.arms[LEFT].plane = deg(35.0);
                    p.arms[RIGHT].plane = deg(95.0);
                })
                .rest(0.86)
                .lasting(2.4)
        }
        // Knee after knee up to the hip, arms against legs.
        6 => {
            let lift = |p: &mut Posture, up: usize| {
                let down = 1 - up;
                p.legs[up].swing = 1.0;
                p.legs[up].flexion = deg(82.0);
                p.legs[up].knee = deg(92.0);
                p.legs[up].point = deg(20.0);
                p.arms[down] = arm(86.0, 46.0, 0.0, 78.0);
                p.arms[up] = arm(86.0, -32.0, 0.0, 45.0);
                p.shift[0] = if up == LEFT { 0.03 } else { -0.03 };
            };
            start()
                .hold(0.22, 0.27, |p| lift(p, LEFT))
                .rest(0.5)
                .hold(0.72, 0.77, |p| lift(p, RIGHT))
                .lasting(1.9)
        }
        // The left arm and the left leg out to the side, the other hand on the hip.
        7 => start()
            .hold(0.34, 0.54, |p| {
                p.arms = [arm(4.0, 96.0, 0.0, 5.0), ON_HIP];
                let leg = &mut p.legs[LEFT];
                (leg.swing, leg.abduction, leg.flexion) = (1.0, deg(36.0), deg(4.0));
                (leg.knee, leg.point) = (deg(4.0), deg(28.0));
                p.shift[0] = 0.052;
                p.pelvis.right = deg(7.0);
                p.spine.right = deg(3.0);
            })
            .rest(0.9)
            .lasting(3.2),
        // A long step to the left front, hands on the hips.
        9 => start()
            .key(0.16, |p| {
                p.arms = [ON_HIP; 2];
                let leg = &mut p.legs[LEFT];
                (leg.right, leg.forward, leg.lift) = (leg.right - 0.06, 0.17, 0.05);
                p.shift = [-0.01, 0.03];
            })
            .hold(0.36, 0.52, |p| {
                p.arms = [ON_HIP; 2];
                let leg = &mut p.legs[LEFT];
                (leg.right, leg.forward, leg.turnout) = (leg.right - 0.15, 0.34, deg(28.0));
                p.legs[RIGHT].heel = deg(42.0);
                p.shift = [-0.095, 0.185];
                p.crouch = 0.15;
                p.spine.forward = deg(8.0);
            })
            .key(0.72, |p| {
                p.arms = [ON_HIP; 2];
                let leg = &mut p.legs[LEFT];
                (leg.right, leg.forward, leg.lift) = (leg.right - 0.06, 0.17, 0.05);
                p.shift = [-0.01, 0.03];
            })
            .rest(0.9)
            .lasting(3.4),
        // Curled up, then both arms and both legs straight, on tiptoe.
        11 => start()
            .key(0.24, |p| {
                p.arms = [arm(78.0, 48.0, -55.0, 138.0); 2];
                p.crouch = 0.085;
                p.shift[1] = -0.02;
                p.spine.forward = deg(24.0);
                p.neck.forward = deg(10.0);
            })
            .hold(0.5, 0.64, |p| {
                p.arms = [arm(6.0, 128.0, 0.0, 4.0); 2];
                p.spine.forward = deg(-8.0);
                p.legs.iter_mut().for_each(|leg| leg.heel = deg(20.0));
            })
            .rest(0.92)
            .lasting(3.4),
        // Thighs nearly level, arms to the front.
        12 => {
            let mut base = *rest;
            base.legs.iter_mut().for_each(|leg| {
                leg.right += leg.right.signum() * 0.03;
                leg.turnout += deg(12.0);
            });
            Keys::new(base)
                .rest(0.0)
                .hold(0.38, 0.5, |p| {
                    p.crouch = 0.235;
                    p.shift[1] = -0.085;
                    p.pelvis.forward = deg(32.0);
                    p.spine.forward = deg(10.0);
                    p.neck.forward = deg(-22.0);
                    p.arms = [arm(86.0, 124.0, 0.0, 6.0); 2];
                })
                .rest(0.9)
                .lasting(3.0)
        }
        // The left hand straight up.
        13 => start()
            .key(0.16, |p| p.arms[LEFT] = arm(70.0, 84.0, 0.0, 50.0))
            .hold(0.34, 0.56, |p| p.arms[LEFT] = arm(45.0, 170.0, 0.0, 6.0))
            .key(0.76, |p| p.arms[LEFT] = arm(60.0, 84.0, 0.0, 30.0))
            .rest(0.93)
            .lasting(2.8),
        // A wide step to the left, the right leg straight, hands before the chest.
        15 => {
            let hands = [arm(72.0, 58.0, -62.0, 122.0); 2];
            let step = move |p: &mut Posture| {
                p.arms = hands;
                p.legs[LEFT].right -= 0.18;
                p.legs[LEFT].lift = 0.035;
                p.shift[0] = -0.04;
            };
            start()
                .key(0.16, step)
                .hold(0.38, 0.54, |p| {
                    p.arms = hands;
                    p.legs[LEFT].right -= 0.36;
                    p.legs[LEFT].turnout = deg(24.0);
                    p.crouch = 0.15;
                    p.shift = [-0.26, -0.03];
                    p.pelvis.forward = deg(14.0);
                    p.spine.forward = deg(10.0);
                    p.neck.forward = deg(-10.0);
                })
                .key(0.74, step)
                .rest(0.92)
                .lasting(3.4)
        }
        // The left hand beside the head, to and fro.
        17 => {
            let mut base = *rest;
            base.arms[LEFT] = arm(26.0, 66.0, 78.0, 112.0);
            Keys::new(base)
                .key(0.0, |p| p.arms[LEFT] = arm(24.0, 64.0, 74.0, 82.0))
                .key(0.5, |p| p.arms[LEFT] = arm(30.0, 68.0, 92.0, 134.0))
                .lasting(0.95)
        }
        // Down to the floor with the right hand, up again with something held before the chest.
        19 => start()
            .hold(0.3, 0.4, |p| {
                p.crouch = 0.15;
                p.shift[1] = -0.07;
                p.pelvis.forward = deg(58.0);
                p.spine.forward = deg(42.0);
                p.neck.forward = deg(-25.0);
                p.arms = [arm(70.0, 62.0, 0.0, 60.0), arm(84.0, 96.0, 0.0, 5.0)];
            })
            .hold(0.68, 0.8, |p| p.arms[RIGHT] = arm(70.0, 30.0, -20.0, 105.0))
            .rest(0.96)
            .lasting(4.0),
        // The right hand swings back and throws across to the left.
        20 => start()
            .key(0.26, |p| {
                p.arms = [arm(70.0, 55.0, -30.0, 45.0), arm(-18.0, 96.0, 82.0, 98.0)];
                p.spine.left = deg(-28.0);
                p.pelvis.left = deg(-14.0);
                p.shift = [0.03, -0.01];
            })
            .key(0.44, |p| {
                p.arms = [arm(30.0, 28.0, 0.0, 50.0), arm(112.0, 92.0, 10.0, 12.0)];
                p.spine.left = deg(34.0);
                p.pelvis.left = deg(20.0);
                p.neck.left = deg(12.0);
                p.shift = [-0.03, 0.02];
                p.legs[RIGHT].heel = deg(24.0);
            })
            .key(0.56, |p| {
                p.arms = [arm(20.0, 22.0, 0.0, 40.0), arm(120.0, 56.0, -10.0, 25.0)];
                p.spine.left = deg(38.0);
                p.pelvis.left = deg(20.0);
                p.spine.forward = deg(14.0);
                p.shift = [-0.035, 0.025];
                p.legs[RIGHT].heel = deg(26.0);
            })
            .rest(0.84)
            .lasting(2.4),
        // The left leg: knee up, and out to the left front.
        22 => {
            let balance = [arm(-20.0, 48.0, 0.0, 35.0), arm(62.0, 62.0, -20.0, 50.0)];
            let chamber = move |p: &mut Posture| {
                let leg = &mut p.legs[LEFT];
                (leg.swing, leg.flexion, leg.abduction) = (1.0, deg(58.0), deg(14.0));
                (leg.knee, leg.point) = (deg(98.0), deg(20.0));
                p.shift[0] = 0.045;
                p.arms = balance;
            };
            start()
                .key(0.2, chamber)
                .hold(0.34, 0.4, |p| {
                    let leg = &mut p.legs[LEFT];
                    (leg.swing, leg.flexion, leg.abduction) = (1.0, deg(84.0), deg(28.0));
                    (leg.knee, leg.point) = (deg(8.0), deg(30.0));
                    p.shift = [0.05, -0.03];
                    p.pelvis.forward = deg(-14.0);
                    p.pelvis.right = deg(8.0);
                    p.neck.forward = deg(10.0);
                    p.arms = balance;
                })
                .key(0.54, chamber)
                .rest(0.78)
                .lasting(2.6)
        }
        // Feet apart, the trunk bends to the left under the raised right arm.
        24 => {
            let mut base = *rest;
            base.legs.iter_mut().for_each(|leg| leg.right += leg.right.signum() * 0.045);
            Keys::new(base)
                .rest(0.0)
                .hold(0.36, 0.52, |p| {
                    p.arms = [ON_HIP, arm(8.0, 164.0, 0.0, 24.0)];
                    p.spine.right = deg(-32.0);
                    p.pelvis.right = deg(-8.0);
                    p.neck.right = deg(-10.0);
                    p.shift[0] = 0.035;
                })
                .rest(0.9)
                .lasting(3.4)
        }
        // Down, up into the air with swinging arms, and caught by the knees.
        26 => {
            let air = |p: &mut Posture| {
                p.arms = [arm(84.0, 112.0, 0.0, 18.0); 2];
                p.legs.iter_mut().for_each(|leg| leg.heel = deg(34.0));
                p.spine.forward = deg(-4.0);
            };
            let performance = start()
                .key(0.2, |p| {
                    p.crouch = 0.12;
                    p.shift[1] = -0.025;
                    p.pelvis.forward = deg(26.0);
                    p.spine.forward = deg(12.0);
                    p.neck.forward = deg(-16.0);
                    p.arms = [arm(84.0, -40.0, 0.0, 22.0); 2];
                })
                .hold(0.4, 0.6, air)
                .key(0.78, |p| {
                    p.crouch = 0.09;
                    p.shift[1] = -0.02;
                    p.pelvis.forward = deg(20.0);
                    p.spine.forward = deg(8.0);
                    p.arms = [arm(80.0, 30.0, 0.0, 24.0); 2];
                })
                .rest(0.93)
                .lasting(2.2);
            Performance { flight: Some([0.4, 0.6]), ..performance }
        }
        // From the hips, hands to the thighs.
        _ => start()
            .hold(0.36, 0.54, |p| {
                p.pelvis.forward = deg(40.0);
                p.spine.forward = deg(30.0);
                p.neck.forward = deg(8.0);
                p.shift[1] = -0.06;
                p.arms = [arm(80.0, 40.0, -10.0, 14.0); 2];
            })
            .rest(0.9)
            .lasting(3.2),
    }
}
