//! What vehicles and people are built of, in their own axes: x ahead, y to the left, z up from the ground, their middle
//! at the origin.

use parry3d::math::{Pose, Rotation, Vector};

use super::super::scene::Look;
use super::super::solid::{Shape, Surface};
use super::super::traffic::Sample;

/// A shape in its owner's axes, and how it moves in them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub shape: Shape,
    pub pose: Pose,
    pub surface: Surface,
    /// m/s.
    pub velocity: Vector,
    /// rad/s.
    pub spin: Vector,
}

impl Part {
    fn still(shape: Shape, pose: Pose, surface: Surface) -> Self {
        Self { shape, pose, surface, velocity: Vector::ZERO, spin: Vector::ZERO }
    }

    /// A box: from, to along x; half its width; from, to along z.
    fn block(from: f32, to: f32, half: f32, low: f32, high: f32, surface: Surface) -> Self {
        let shape = Shape::Cuboid(Vector::new((to - from) / 2.0, half, (high - low) / 2.0));
        let middle = Vector::new(f32::midpoint(from, to), 0.0, f32::midpoint(low, high));
        Self::still(shape, Pose::from_translation(middle), surface)
    }

    /// A board that leans: the middle line of its upper face goes from one [x, z] to another.
    fn board(from: [f32; 2], to: [f32; 2], half: f32, thick: f32, surface: Surface) -> Self {
        let along = Vector::new(to[0] - from[0], 0.0, to[1] - from[1]);
        let rotation = Rotation::from_rotation_y(-along.z.atan2(along.x));
        let shape = Shape::Cuboid(Vector::new(along.length() / 2.0, half, thick / 2.0));
        let middle = Vector::new(f32::midpoint(from[0], to[0]), 0.0, f32::midpoint(from[1], to[1]));
        let middle = middle - rotation * Vector::Z * (thick / 2.0);
        Self::still(shape, Pose::from_parts(middle, rotation), surface)
    }

    /// The two wheels of an axle, which reach from side to side and roll at this speed.
    fn axle(x: f32, radius: f32, half: f32, speed: f32) -> Self {
        let pose = Pose::from_parts(
            Vector::new(x, 0.0, radius),
            Rotation::from_rotation_x(std::f32::consts::FRAC_PI_2),
        );
        let shape = Shape::Cylinder { half_length: half, radius };
        Self { spin: Vector::Y * (speed / radius), ..Self::still(shape, pose, Surface::Wheel) }
    }

    /// A limb between two joints that move.
    fn limb(from: Joint, to: Joint, radius: f32, surface: Surface) -> Self {
        let along = to.at - from.at;
        let rotation = Rotation::from_rotation_arc(Vector::Z, along.normalize_or(Vector::Z));
        let shape = Shape::Capsule { half_length: along.length() / 2.0, radius };
        Self {
            velocity: (from.velocity + to.velocity) / 2.0,
            spin: along.cross(to.velocity - from.velocity) / along.length_squared().max(1e-6),
            ..Self::still(shape, Pose::from_parts((from.at + to.at) / 2.0, rotation), surface)
        }
    }

    fn egg(at: Joint, radii: Vector, surface: Surface) -> Self {
        let pose = Pose::from_translation(at.at);
        Self { velocity: at.velocity, ..Self::still(Shape::Ellipsoid(radii), pose, surface) }
    }
}

/// The parts of one; `paint` is its colour, linear, `salt` picks what else differs.
pub(super) fn parts(sample: &Sample, paint: [f32; 3], salt: u32) -> Vec<Part> {
    let [length, width, height] = sample.who.size;
    let body =
        Body { front: length / 2.0, half: width / 2.0, height, speed: sample.speed as f32, paint, salt };
    match sample.who.look {
        Look::Saloon | Look::Hatchback | Look::Estate | Look::Suv => body.car(sample.who.look),
        Look::Pickup => body.pickup(),
        Look::Panel | Look::Minibus => body.van(sample.who.look == Look::Minibus),
        Look::Box | Look::Tanker | Look::Flatbed => body.truck(sample.who.look),
        Look::City => body.bus(1.05),
        Look::Coach => body.bus(1.55),
        Look::Bicycle => body.cyclist(sample.travelled as f32),
        Look::Walker => body.walker(sample.travelled as f32),
        Look::Mast => body.mast(),
    }
}

#[derive(Clone, Copy, Debug)]
struct Body {
    front: f32,
    half: f32,
    height: f32,
    speed: f32,
    paint: [f32; 3],
    salt: u32,
}

impl Body {
    fn paint(&self) -> Surface {
        Surface::Paint(self.paint)
    }

    /// A wheel stands 2 cm out of the body, so that it is what is seen.
    fn wheels(&self, places: &[f32], radius: f32) -> Vec<Part> {
        places.iter().map(|&x| Part::axle(x, radius, self.half + 0.02, self.speed)).collect()
    }

    /// Head lights and tail lights, left and right.
    fn lamps(&self, low: f32, rear: [f32; 2]) -> [Part; 4] {
        let side = |part: Part, left: f32| {
            let mut part = part;
            part.pose.translation.y = left * (self.half - 0.28);
            part
        };
        let head = Part::block(self.front - 0.06, self.front + 0.02, 0.2, low, low + 0.15, Surface::Lamp);
        let tail =
            Part::block(-self.front - 0.02, -self.front + 0.06, 0.2, rear[0], rear[1], Surface::TailLamp);
        [side(head, 1.0), side(head, -1.0), side(tail, 1.0), side(tail, -1.0)]
    }

    fn car(&self, look: Look) -> Vec<Part> {
        let Self { front, half, height, .. } = *self;
        let (radius, sill) = if look == Look::Suv { (0.37, 0.36) } else { (0.33, 0.28) };
        let belt = if look == Look::Suv { 1.05 } else { 0.88 };
        let mut parts = self.wheels(&[-front + 0.85, front - 0.85], radius);
        parts.push(Part::block(-front, front, half, sill, belt, self.paint()));
        // Along the cabin: foot of the rear window, roof, foot of the windscreen.
        let (foot, roof, screen) = match look {
            Look::Saloon => (-front + 0.65, [-front + 1.25, 0.4], 1.0),
            Look::Hatchback => (-front + 0.06, [-front + 0.4, 0.35], 0.95),
            _ => (-front + 0.06, [-front + 0.22, 0.5], 1.05),
        };
        let (inner, top) = (half - 0.12, height - 0.06);
        parts.push(Part::block(roof[0], roof[1], inner, belt, top, Surface::Glass));
        parts.push(Part::block(roof[0] - 0.05, roof[1] + 0.05, inner, top, height, self.paint()));
        parts.push(Part::board([roof[1], top], [screen, belt], inner - 0.04, 0.12, Surface::Glass));
        parts.push(Part::board([foot, belt], [roof[0], top], inner - 0.04, 0.12, Surface::Glass));
        // The pillars between the windows.
        let pillar = (roof[0] + roof[1]) / 2.0;
        parts.push(Part::block(pillar - 0.06, pillar + 0.06, inner + 0.01, belt, top, self.paint()));
        if look == Look::Estate || look == Look::Suv {
            parts.push(Part::block(roof[0] + 0.55, roof[0] + 0.65, inner + 0.01, belt, top, self.paint()));
        }
        parts.extend(self.lamps(belt - 0.28, [belt - 0.28, belt - 0.1]));
        parts
    }

    fn pickup(&self) -> Vec<Part> {
        let Self { front, half, height, .. } = *self;
        let mut parts = self.wheels(&[-front + 1.05, front - 0.95], 0.38);
        parts.push(Part::block(-front, front, half, 0.42, 0.95, self.paint()));
        // The walls of the bed.
        for side in [-1.0, 1.0] {
            let mut wall = Part::block(-front, -0.35, 0.05, 0.95, 1.22, self.paint());
            wall.pose.translation.y = side * (half - 0.05);
            parts.push(wall);
        }
        parts.push(Part::block(-front, -front + 0.08, half, 0.95, 1.22, self.paint()));
        parts.push(Part::block(-0.35, 0.85, half - 0.1, 0.95, height - 0.07, Surface::Glass));
        parts.push(Part::block(-0.4, 0.75, half - 0.1, height - 0.07, height, self.paint()));
        parts.push(Part::block(0.18, 0.3, half - 0.09, 0.95, height - 0.07, self.paint()));
        parts.push(Part::board([0.85, height - 0.1], [1.3, 0.95], half - 0.14, 0.1, Surface::Glass));
        parts.extend(self.lamps(0.7, [0.75, 0.95]));
        parts
    }

    fn van(&self, has_windows: bool) -> Vec<Part> {
        let Self { front, half, height, .. } = *self;
        let mut parts = self.wheels(&[-front + 1.0, front - 1.0], 0.36);
        let side =
            if has_windows { Surface::Windows { colour: self.paint, from_z: 0.95 } } else { self.paint() };
        parts.push(Part::block(-front, front - 1.0, half, 0.32, height, side));
        parts.push(Part::block(front - 1.0, front, half, 0.32, 1.25, self.paint()));
        parts.push(Part::board(
            [front - 1.0, height - 0.1],
            [front - 0.4, 1.25],
            half - 0.1,
            0.5,
            Surface::Glass,
        ));
        if !has_windows {
            parts.push(Part::block(
                front - 1.9,
                front - 1.0,
                half + 0.01,
                1.3,
                height - 0.35,
                Surface::Glass,
            ));
        }
        parts.extend(self.lamps(0.75, [0.8, 1.2]));
        parts
    }

    fn truck(&self, look: Look) -> Vec<Part> {
        let Self { front, half, height, .. } = *self;
        let cab = front - 2.2;
        let cab_paint = match look {
            Look::Box => [0.42, 0.04, 0.03],
            _ => self.paint,
        };
        let mut places = vec![-front + 1.2, front - 1.4];
        if front > 4.3 {
            places.push(-front + 2.5);
        }
        let mut parts = self.wheels(&places, 0.5);
        parts.push(Part::block(-front, front - 0.2, half - 0.2, 0.5, 1.05, Surface::Chassis));
        let roof = 3.0f32.min(height);
        parts.push(Part::block(cab, front, half - 0.05, 0.5, roof, Surface::Paint(cab_paint)));
        parts.push(Part::block(cab + 0.9, front - 0.25, half - 0.03, 1.7, roof - 0.4, Surface::Glass));
        parts.push(Part::block(front - 0.2, front + 0.02, half - 0.2, 1.7, roof - 0.3, Surface::Glass));
        match look {
            Look::Tanker => {
                let radius = (height - 1.05) / 2.0;
                let pose = Pose::from_parts(
                    Vector::new((-front + cab - 0.3) / 2.0, 0.0, 1.05 + radius),
                    Rotation::from_rotation_y(std::f32::consts::FRAC_PI_2),
                );
                let shape =
                    Shape::Cylinder { half_length: (cab - 0.3 + front) / 2.0, radius: radius.min(half) };
                parts.push(Part::still(shape, pose, Surface::Paint([0.62, 0.63, 0.65])));
            }
            Look::Flatbed => {
                parts.push(Part::block(-front, cab - 0.2, half, 1.05, 1.2, Surface::Chassis));
                // Its load: crates of three sizes.
                let bed = cab - 0.2 + front;
                let wood = Surface::Paint([0.36, 0.25, 0.14]);
                for (number, (share, tall)) in [(0.05, 0.9), (0.37, 1.35), (0.7, 1.0)].into_iter().enumerate()
                {
                    let from = -front + share * bed;
                    let wide = half - 0.1 - 0.05 * ((self.salt as usize + number) % 3) as f32;
                    parts.push(Part::block(from, from + 0.27 * bed, wide, 1.2, 1.2 + tall, wood));
                }
            }
            _ => parts.push(Part::block(-front, cab - 0.3, half, 1.05, height, self.paint())),
        }
        parts.extend(self.lamps(0.75, [0.85, 1.05]));
        parts
    }

    fn bus(&self, from_z: f32) -> Vec<Part> {
        let Self { front, half, height, .. } = *self;
        let mut parts = self.wheels(&[-front + 3.0, front - 2.6], 0.48);
        parts.push(Part::block(
            -front,
            front,
            half,
            0.3,
            height,
            Surface::Windows { colour: self.paint, from_z },
        ));
        parts.push(Part::block(front - 0.05, front + 0.015, half - 0.12, 1.1, height - 0.5, Surface::Glass));
        parts.extend(self.lamps(0.6, [0.8, 1.1]));
        parts
    }

    fn mast(&self) -> Vec<Part> {
        let hub = Vector::Z * (self.height * 0.6);
        let joint = |at: Vector| Joint { at, velocity: Vector::ZERO };
        let foot = |turn: f32| {
            let (sin, cos) = (turn * std::f32::consts::TAU / 3.0).sin_cos();
            Part::limb(joint(Vector::new(0.28 * cos, 0.28 * sin, 0.02)), joint(hub), 0.015, Surface::Pole)
        };
        let mut parts: Vec<Part> = [0.0, 1.0, 2.0].map(foot).to_vec();
        parts.push(Part::limb(joint(hub), joint(Vector::Z * (self.height - 0.02)), 0.02, Surface::Pole));
        parts
    }
}

/// A joint and its velocity, in the axes of its owner.
#[derive(Clone, Copy, Debug)]
struct Joint {
    at: Vector,
    velocity: Vector,
}

/// A person's colours.
struct Clothes {
    coat: Surface,
    trousers: Surface,
    skin: Surface,
    hair: Surface,
}

const TROUSERS: [[f32; 3]; 4] = [[0.03, 0.04, 0.09], [0.02, 0.02, 0.02], [0.18, 0.15, 0.1], [0.1, 0.1, 0.11]];
const SKINS: [[f32; 3]; 3] = [[0.55, 0.36, 0.27], [0.32, 0.19, 0.12], [0.12, 0.07, 0.05]];
const HAIRS: [[f32; 3]; 4] = [[0.02, 0.015, 0.01], [0.09, 0.05, 0.02], [0.3, 0.2, 0.08], [0.35, 0.35, 0.34]];

fn clothes(paint: [f32; 3], salt: u32) -> Clothes {
    let of = |colours: &[[f32; 3]], by: u32| {
        colours.get((salt / by) as usize % colours.len()).copied().unwrap_or([0.3; 3])
    };
    Clothes {
        coat: Surface::Cloth(paint),
        trousers: Surface::Cloth(of(&TROUSERS, 1)),
        skin: Surface::Skin(of(&SKINS, 5)),
        hair: Surface::Hair(of(&HAIRS, 17)),
    }
}

/// Half the time over which a joint's velocity is taken, seconds.
const DELTA_S: f32 = 0.004;

impl Body {
    /// A joint that depends on the way travelled.
    fn joint(&self, travelled: f32, place: impl Fn(f32) -> Vector) -> Joint {
        let by = self.speed * DELTA_S;
        let velocity = (place(travelled + by) - place(travelled - by)) / (2.0 * DELTA_S);
        Joint { at: place(travelled), velocity }
    }

    /// Someone walking: thighs swing as a sine of the way, knees bend while the leg comes forward, arms swing against
    /// the legs. A step is as long as people of that size take at that speed: cadence grows with the root of speed.
    fn walker(&self, travelled: f32) -> Vec<Part> {
        let tall = self.height;
        // Two steps: 1.4 m at 1.34 m/s for 1.75 m (Grieve and Gear 1966: step length grows with the root of speed).
        let stride = 1.4 * tall / 1.75 * (self.speed.max(0.1) / 1.34).sqrt().clamp(0.4, 1.4);
        let swing = (self.speed / 1.34).sqrt().clamp(0.0, 1.3);
        let turn = std::f32::consts::TAU / stride;
        let start = self.salt as f32;
        let (thigh, shin, hip) = (0.245 * tall, 0.246 * tall, 0.53 * tall);
        let (upper, fore, shoulder) = (0.172 * tall, 0.157 * tall, 0.815 * tall);
        let clothes = clothes(self.paint, self.salt);
        let mut parts = Vec::with_capacity(12);
        for (side, phase) in [(1.0, 0.0), (-1.0, std::f32::consts::PI)] {
            let y = side * 0.052 * tall;
            let angles = move |way: f32| {
                let at = way * turn + phase + start;
                let knee = swing * (0.12 + 0.75 * at.cos().max(0.0).powi(2));
                (swing * 0.42 * at.sin() + 0.04, knee)
            };
            let below = |from: Vector, angle: f32, length: f32| {
                from + Vector::new(angle.sin() * length, 0.0, -angle.cos() * length)
            };
            let at_hip = Vector::new(0.0, y, hip);
            let knee = self.joint(travelled, |way| below(at_hip, angles(way).0, thigh));
            let ankle = self.joint(travelled, |way| {
                let (angle, bend) = angles(way);
                below(below(at_hip, angle, thigh), angle - bend, shin)
            });
            let toe = Joint { at: ankle.at + Vector::new(0.1 * tall, 0.0, -0.012 * tall), ..ankle };
            let still = |at: Vector| Joint { at, velocity: Vector::ZERO };
            parts.push(Part::limb(still(at_hip), knee, 0.046 * tall, clothes.trousers));
            parts.push(Part::limb(knee, ankle, 0.034 * tall, clothes.trousers));
            parts.push(Part::limb(ankle, toe, 0.024 * tall, Surface::Cloth([0.02; 3])));
            // The arm swings with the other leg.
            let at_shoulder = Vector::new(0.0, side * 0.115 * tall, shoulder);
            let elbow = self.joint(travelled, |way| below(at_shoulder, -0.8 * angles(way).0, upper));
            let hand = self.joint(travelled, |way| {
                let angle = -0.8 * angles(way).0;
                below(below(at_shoulder, angle, upper), angle + 0.25 + 0.2 * swing, fore)
            });
            parts.push(Part::limb(still(at_shoulder), elbow, 0.028 * tall, clothes.coat));
            parts.push(Part::limb(elbow, hand, 0.022 * tall, clothes.coat));
        }
        let still = |x: f32, z: f32| Joint { at: Vector::new(x, 0.0, z * tall), velocity: Vector::ZERO };
        let chest = Vector::new(0.068 * tall, 0.112 * tall, 0.17 * tall);
        parts.push(Part::egg(still(0.0, 0.68), chest, clothes.coat));
        parts.push(Part::egg(still(0.0, 0.54), Vector::new(0.07, 0.095, 0.08) * tall, clothes.trousers));
        parts.push(Part::egg(
            still(0.012 * tall, 0.925),
            Vector::new(0.05, 0.044, 0.07) * tall,
            clothes.skin,
        ));
        parts.push(Part::egg(
            still(-0.008 * tall, 0.945),
            Vector::new(0.05, 0.048, 0.055) * tall,
            clothes.hair,
        ));
        parts
    }

    /// Someone on a bicycle; the pedals turn once in 5 m.
    fn cyclist(&self, travelled: f32) -> Vec<Part> {
        let clothes = clothes(self.paint, self.salt);
        let frame = Surface::Paint([0.05, 0.05, 0.06]);
        let still = |x: f32, y: f32, z: f32| Joint { at: Vector::new(x, y, z), velocity: Vector::ZERO };
        let wheel = |x: f32| Part::axle(x, 0.34, 0.02, self.speed);
        let (rear, front) = (-self.front + 0.34, self.front - 0.34);
        let up = self.height - 1.75;
        let mut parts = vec![wheel(rear), wheel(front)];
        let (crank, saddle, head) =
            (still(-0.08, 0.0, 0.3), still(-0.22, 0.0, 0.92 + up), still(0.38, 0.0, 0.95));
        parts.push(Part::limb(still(rear, 0.0, 0.34), crank, 0.02, frame));
        parts.push(Part::limb(crank, saddle, 0.02, frame));
        parts.push(Part::limb(crank, still(0.34, 0.0, 0.8), 0.022, frame));
        parts.push(Part::limb(saddle, still(0.34, 0.0, 0.8), 0.02, frame));
        parts.push(Part::limb(head, still(front, 0.0, 0.34), 0.02, frame));
        parts.push(Part::limb(still(0.36, -0.26, 1.02), still(0.36, 0.26, 1.02), 0.016, frame));
        let hip = Vector::new(-0.2, 0.0, 0.98 + up);
        let shoulder = Vector::new(0.12, 0.0, 1.42 + up);
        for (side, phase) in [(1.0, 0.0), (-1.0, std::f32::consts::PI)] {
            let turn = std::f32::consts::TAU / 5.0;
            let start = self.salt as f32;
            let foot_at = move |way: f32| {
                let (sin, cos) = (way * turn + phase + start).sin_cos();
                Vector::new(-0.08 + 0.17 * cos, side * 0.11, 0.36 - 0.17 * sin)
            };
            let at_hip = hip + Vector::Y * (side * 0.09);
            let foot = self.joint(travelled, foot_at);
            let knee = self.joint(travelled, |way| knee(at_hip, foot_at(way), 0.44, 0.46));
            let still = |at: Vector| Joint { at, velocity: Vector::ZERO };
            parts.push(Part::limb(still(at_hip), knee, 0.075, clothes.trousers));
            parts.push(Part::limb(knee, foot, 0.055, clothes.trousers));
            let at_shoulder = shoulder + Vector::Y * (side * 0.19);
            parts.push(Part::limb(
                still(at_shoulder),
                still(Vector::new(0.36, side * 0.24, 1.05)),
                0.045,
                clothes.coat,
            ));
        }
        let body = |at: Vector| Joint { at, velocity: Vector::ZERO };
        parts.push(Part::limb(body(hip), body(shoulder), 0.15, clothes.coat));
        let head = Joint { at: shoulder + Vector::new(0.1, 0.0, 0.21), velocity: Vector::ZERO };
        parts.push(Part::egg(head, Vector::new(0.1, 0.08, 0.12), clothes.skin));
        let helmet = Joint { at: head.at + Vector::Z * 0.05, ..head };
        parts.push(Part::egg(helmet, Vector::new(0.13, 0.095, 0.085), Surface::Paint([0.5, 0.08, 0.05])));
        parts
    }
}

/// The knee between a hip and a foot, bent forward, in their vertical plane; both lengths in metres.
fn knee(hip: Vector, foot: Vector, thigh: f32, shin: f32) -> Vector {
    let between = foot - hip;
    let apart = between.length().clamp(0.05, thigh + shin - 1e-3);
    // Along the line from hip to foot, and off it: law of cosines.
    let along = (apart * apart + thigh * thigh - shin * shin) / (2.0 * apart);
    let off = (thigh * thigh - along * along).max(0.0).sqrt();
    let line = between / between.length().max(1e-6);
    let forward = (Vector::X - line * line.x).normalize_or(Vector::X);
    hip + line * along + forward * off
}

#[cfg(test)]
mod tests {
    use super::super::super::scene::VehicleKind;
    use super::super::super::solid::ObjectId;
    use super::super::super::traffic::Who;
    use super::*;

    fn sample(kind: VehicleKind, number: usize, speed: f64, travelled: f64) -> Sample {
        let (look, size) = kind.looks()[number];
        let size = size.map(|metres| metres as f32);
        let who = Who { id: ObjectId(9), kind, look, size, colour: None, aside: 0.0 };
        Sample { who, at: [0.0; 2], heading: 0.0, velocity: [speed, 0.0], turning: 0.0, travelled, speed }
    }

    #[test]
    fn every_look_fills_its_size_and_stands_on_the_ground() {
        for kind in [
            VehicleKind::Car,
            VehicleKind::Van,
            VehicleKind::Truck,
            VehicleKind::Bus,
            VehicleKind::Cyclist,
            VehicleKind::Pedestrian,
        ] {
            for (number, (look, size)) in kind.looks().iter().enumerate() {
                let bounds = parts(&sample(kind, number, 0.0, 0.0), [0.5; 3], 3)
                    .iter()
                    .map(|part| {
                        super::super::Solid::still(part.shape, part.pose, ObjectId(1), part.surface).bounds()
                    })
                    .reduce(|a, b| {
                        parry3d::bounding_volume::Aabb::new(a.mins.min(b.mins), a.maxs.max(b.maxs))
                    })
                    .unwrap();
                let found = bounds.maxs - bounds.mins;
                // Arms and feet reach a little out of a person's box.
                assert!((found.x - size[0] as f32).abs() < 0.25, "{look:?}: {found}");
                assert!((found.y - size[1] as f32).abs() < 0.2, "{look:?}: {found}");
                assert!((found.z - size[2] as f32).abs() < 0.1, "{look:?}: {found}");
                assert!(bounds.mins.z.abs() < 0.06, "{look:?}: {}", bounds.mins.z);
            }
        }
    }

    #[test]
    fn a_walker_swings_legs_against_each_other_at_the_speed_of_the_way() {
        let at = |travelled| parts(&sample(VehicleKind::Pedestrian, 0, 1.34, travelled), [0.5; 3], 0);
        let (now, later) = (at(0.2), at(0.2 + 1.34 * 0.001));
        for (a, b) in now.iter().zip(&later) {
            let moved = (b.pose.translation - a.pose.translation) / 0.001;
            assert!((moved - a.velocity).length() < 0.08, "{moved} instead of {}", a.velocity);
        }
        // Left and right shin, of parts that come side by side.
        let (left, right) = (now[1].velocity.x, now[6].velocity.x);
        assert!(left * right < 0.0 && (left - right).abs() > 1.0, "{left} {right}");
        // Half a stride on, they have changed places.
        let half = at(0.2 + 0.7);
        assert!((half[1].pose.translation.x - now[6].pose.translation.x).abs() < 0.02);
    }

    #[test]
    fn a_knee_keeps_the_lengths() {
        let (hip, foot) = (Vector::new(0.0, 0.1, 1.0), Vector::new(0.2, 0.1, 0.3));
        let knee = knee(hip, foot, 0.44, 0.46);
        assert!(((knee - hip).length() - 0.44).abs() < 1e-5 && ((knee - foot).length() - 0.46).abs() < 1e-5);
        assert!(knee.x > 0.1);
    }

    #[test]
    fn a_wheel_rolls() {
        let wheel = Part::axle(0.0, 0.5, 1.0, 10.0);
        // At its top it moves at twice the speed, at its foot it rests.
        assert!((wheel.spin.cross(Vector::Z * 0.5) - Vector::X * 10.0).length() < 1e-5);
    }
}
