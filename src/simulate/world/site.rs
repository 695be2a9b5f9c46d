//! What stands: buildings, trees, poles, lamps, parked vehicles.

use parry3d::bounding_volume::Aabb;
use parry3d::math::{Pose, Rotation, Vector};

use super::super::random::{Purpose, Random};
use super::super::scene::{Bays, Building, Parked, Pole, Scene, Street, Tree, VehicleKind};
use super::super::solid::{ObjectId, Shape, Solid, Surface};
use super::super::traffic::path::Place;
use super::super::traffic::{Sample, Track, Who, body};
use super::{ObjectState, Reflector, linear, solids, state};

/// Plaster and brick.
const PLASTERS: [[f32; 3]; 6] = [
    [0.62, 0.55, 0.42],
    [0.50, 0.24, 0.16],
    [0.66, 0.64, 0.60],
    [0.55, 0.42, 0.30],
    [0.40, 0.45, 0.48],
    [0.68, 0.58, 0.36],
];

/// What was built.
#[derive(Debug, Default)]
pub(super) struct Site {
    next: u32,
    pub solids: Vec<Solid>,
    pub reflectors: Vec<Reflector>,
    pub lamps: Vec<Vector>,
    pub parked: Vec<ObjectState>,
    /// The houses of the street: from, to, front, back, metres.
    pub row: Vec<[f32; 4]>,
}

impl Site {
    pub fn new(scene: &Scene, tracks: &[Track]) -> Self {
        // Number 0 is the ground.
        let mut site = Self { next: 1, ..Self::default() };
        if scene.street.facade_y_m > 0.0 {
            site.houses(&scene.street, scene.seed);
        }
        site.trees_and_lamps(&scene.street, scene.seed);
        for building in &scene.building {
            site.building(building, scene.seed);
        }
        for tree in &scene.tree {
            let [x, y] = tree.at_m.map(|metres| metres as f32);
            site.tree(x, y, tree);
        }
        for pole in &scene.pole {
            site.pole(pole);
        }
        for track in tracks {
            site.signal(track);
        }
        for parked in &scene.parked {
            site.park(parked, scene.seed);
        }
        for (number, bays) in scene.bays.iter().enumerate() {
            site.fill(number, bays, scene.seed);
        }
        site
    }

    /// The trunks and posts that rise from the ground: what each is, and how far it reaches.
    pub fn stems(&self) -> impl Iterator<Item = (&'static str, Aabb)> {
        self.solids.iter().filter_map(|solid| {
            let name = match solid.surface {
                Surface::Bark => "a tree",
                Surface::Pole => "a post",
                _ => return None,
            };
            let bounds = solid.bounds();
            (bounds.mins.z <= 0.0).then_some((name, bounds))
        })
    }

    fn object(&mut self) -> ObjectId {
        self.next += 1;
        ObjectId(self.next - 1)
    }

    fn push(&mut self, object: ObjectId, mins: [f32; 3], maxs: [f32; 3], surface: Surface) {
        let bounds = Aabb::new(Vector::from(mins), Vector::from(maxs));
        self.solids.push(Solid::upright(bounds, object, surface));
    }

    /// A row of houses, wall to wall but for an alley now and then.
    fn houses(&mut self, street: &Street, seed: u64) {
        let mut random = Random::new(seed, 0, 0, Purpose::Buildings);
        let (end, front) = (street.half_length_m as f32, street.facade_y_m as f32);
        let (mut x, mut last) = (-end, usize::MAX);
        while x < end {
            let to = x + random.between(9.0, 17.0);
            let height = 3.2 * random.between(2.0, 5.0).floor() + 1.6;
            let mut style = (random.uniform() * PLASTERS.len() as f32) as usize;
            if style == last {
                style = (style + 1) % PLASTERS.len();
            }
            last = style;
            let colour = PLASTERS.get(style).copied().unwrap_or([0.5; 3]);
            let y = front + if random.uniform() < 0.3 { 1.0 } else { 0.0 };
            let object = self.object();
            let surface = Surface::Facade { colour, number: object.0 };
            self.row.push([x, to, y, y + 12.0]);
            self.push(object, [x, y, 0.0], [to, y + 12.0, height], surface);
            // The cornice.
            let trim = Surface::Paint(colour.map(|part| part * 0.7));
            self.push(object, [x, y - 0.25, height], [to, y + 12.0, height + 0.35], trim);
            // Its sides count where an alley lies beside it; in a closed row no wave comes to them.
            let body = Pose::from_translation(Vector::new((x + to) / 2.0, y + 6.0, height / 2.0));
            let half = Vector::new((to - x) / 2.0, 6.0, height / 2.0);
            self.reflectors.extend(Reflector::sides(body, half, object, surface));
            x = to + if random.uniform() < 0.25 { random.between(2.0, 4.0) } else { 0.0 };
        }
    }

    fn building(&mut self, building: &Building, seed: u64) {
        let object = self.object();
        let mut random = Random::new(seed, 2, object.0 as usize, Purpose::Buildings);
        let drawn = PLASTERS.get((random.uniform() * PLASTERS.len() as f32) as usize).copied();
        let colour = building.colour.map_or(drawn.unwrap_or([0.5; 3]), linear);
        let [x, y] = building.at_m.map(|metres| metres as f32);
        let [width, depth, height] = building.size_m.map(|metres| metres as f32);
        let surface = Surface::Facade { colour, number: object.0 };
        let rotation = Rotation::from_rotation_z(building.yaw_deg.to_radians() as f32);
        let pose = |z: f32| Pose::from_parts(Vector::new(x, y, z), rotation);
        let half = Vector::new(width / 2.0, depth / 2.0, height / 2.0);
        self.solids.push(Solid::still(Shape::Cuboid(half), pose(height / 2.0), object, surface));
        let trim = Surface::Paint(colour.map(|part| part * 0.7));
        let cornice = Shape::Cuboid(Vector::new(half.x + 0.15, half.y + 0.15, 0.175));
        self.solids.push(Solid::still(cornice, pose(height + 0.175), object, trim));
        self.reflectors.extend(Reflector::sides(pose(height / 2.0), half, object, surface));
    }

    fn trees_and_lamps(&mut self, street: &Street, seed: u64) {
        let mut random = Random::new(seed, 1, 0, Purpose::Buildings);
        let Some(last) = street.lanes_y_m.last() else { return };
        let kerb = last + street.lane_width_m / 2.0;
        let (end, spacing) = (street.half_length_m, street.tree_spacing_m);
        let y = kerb + 1.3;
        let mut x = -end;
        while spacing > 0.0 && x < end {
            let place = x + f64::from(random.between(-1.0, 1.0));
            let (trunk, crown) = (random.between(2.4, 3.0), random.between(1.2, 1.6));
            let tree = Tree { at_m: [place, y], height_m: f64::from(trunk + 2.6), crown_m: f64::from(crown) };
            self.tree(place as f32, y as f32, &tree);
            let at_m = [place + spacing / 2.0, y - 0.5];
            self.pole(&Pole { at_m, ..Pole::default() });
            x += spacing;
        }
    }

    fn tree(&mut self, x: f32, y: f32, tree: &Tree) {
        let object = self.object();
        let (crown, height) = (tree.crown_m as f32, tree.height_m as f32);
        let low = (height - 1.9 * crown).max(0.3);
        let trunk = Shape::Cylinder { half_length: (low + 0.5) / 2.0, radius: 0.05 + 0.06 * crown };
        let pose = Pose::from_translation(Vector::new(x, y, (low + 0.5) / 2.0));
        self.solids.push(Solid::still(trunk, pose, object, Surface::Bark));
        // A crown of three balls looks grown.
        let mut ball = |dx: f32, dy: f32, z: f32, radii: [f32; 3]| {
            let pose = Pose::from_translation(Vector::new(x + dx * crown, y + dy * crown, low + z * crown));
            let shape = Shape::Ellipsoid(Vector::from(radii) * crown);
            self.solids.push(Solid::still(shape, pose, object, Surface::Leaves));
        };
        ball(0.0, 0.0, 0.85, [0.85, 0.85, 0.8]);
        ball(0.28, -0.15, 0.6, [0.7, 0.65, 0.5]);
        ball(-0.25, 0.2, 1.25, [0.6, 0.6, 0.65]);
    }

    /// A post; with a lamp, an arm over the street with the lamp's head at its end.
    fn pole(&mut self, pole: &Pole) {
        let object = self.object();
        let [x, y] = pole.at_m.map(|metres| metres as f32);
        let (height, arm) = (pole.height_m as f32, pole.arm_m as f32);
        let post = Shape::Cylinder { half_length: height / 2.0, radius: 0.07 };
        let pose = Pose::from_translation(Vector::new(x, y, height / 2.0));
        self.solids.push(Solid::still(post, pose, object, Surface::Pole));
        if !pole.lamp {
            return;
        }
        let (sin, cos) = (pole.yaw_deg.to_radians() as f32).sin_cos();
        let out = Vector::new(cos, sin, 0.0);
        let top = Vector::new(x, y, height - 0.03);
        let end = top + out * arm;
        self.solids.push(Solid::between(top, end, 0.05, object, Surface::Pole));
        let rotation = Rotation::from_rotation_z(pole.yaw_deg.to_radians() as f32);
        let head = Shape::Cuboid(Vector::new(0.32, 0.14, 0.06));
        let pose = Pose::from_parts(end - Vector::Z * 0.08, rotation);
        self.solids.push(Solid::still(head, pose, object, Surface::StreetLamp));
        self.lamps.push(end - Vector::Z * 0.14);
    }

    /// The post of a traffic light, to the right of its lane.
    fn signal(&mut self, track: &Track) {
        let Some(signal) = track.signal else { return };
        // A lane beside it to the right has the post.
        if track.beside.get(1).is_some_and(Option::is_some) {
            return;
        }
        let object = self.object();
        let place = track.path.place(signal.at + 1.0);
        let [x, y] = place.beside(-track.width / 2.0 - 0.7).map(|metres| metres as f32);
        let post = Shape::Cylinder { half_length: 1.6, radius: 0.06 };
        let pose = Pose::from_translation(Vector::new(x, y, 1.6));
        self.solids.push(Solid::still(post, pose, object, Surface::Pole));
        let rotation = Rotation::from_rotation_z(place.heading as f32);
        let head = Shape::Cuboid(Vector::new(0.12, 0.16, 0.45));
        let pose = Pose::from_parts(Vector::new(x, y, 3.2), rotation);
        self.solids.push(Solid::still(head, pose, object, Surface::Chassis));
    }

    fn park(&mut self, parked: &Parked, seed: u64) {
        let id = self.object();
        let drawn = parked.kind.looks();
        let found = drawn.iter().find(|(look, _)| Some(*look) == parked.look).or_else(|| drawn.first());
        let Some((look, size)) = found.copied() else { return };
        let size = size.map(|metres| metres as f32);
        let who = Who { id, kind: parked.kind, look, size, colour: parked.colour, aside: 0.0 };
        self.stand(who, parked.at_m, parked.yaw_deg, seed);
    }

    fn stand(&mut self, who: Who, at: [f64; 2], yaw_deg: f64, seed: u64) {
        let place = Place { at, heading: yaw_deg.to_radians(), curvature: 0.0 };
        let sample = Sample::standing(who, place);
        let first = self.solids.len();
        solids(&sample, seed, 0, &mut self.solids);
        let parts = self.solids.get(first..).unwrap_or_default();
        let reflectors: Vec<Reflector> = parts.iter().flat_map(Reflector::of_vehicle).collect();
        self.reflectors.extend(reflectors);
        self.parked.push(state(&sample));
    }

    /// Parks cars, and a van now and then, in the bays that are taken.
    fn fill(&mut self, number: usize, bays: &Bays, seed: u64) {
        let mut random = Random::new(seed, 3 + number, 0, Purpose::Buildings);
        let (sin, cos) = bays.yaw_deg.to_radians().sin_cos();
        for bay in 0..bays.count {
            let is_taken = f64::from(random.uniform()) < bays.taken;
            let kind = if random.uniform() < 0.12 { VehicleKind::Van } else { VehicleKind::Car };
            let (look, size) = body(&mut random, kind);
            let is_backed_in = random.uniform() < 0.3;
            let (dx, dy) = (random.between(-0.15, 0.15), random.between(-0.2, 0.2));
            let id = self.object();
            let is_too_long = f64::from(size[0]) > bays.depth_m + 0.6;
            if !is_taken || is_too_long {
                continue;
            }
            let along = bays.width_m * bay as f64 + f64::from(dx);
            let across = f64::from(dy);
            let at = [bays.at_m[0] + along * cos - across * sin, bays.at_m[1] + along * sin + across * cos];
            let yaw =
                bays.yaw_deg + if is_backed_in { -90.0 } else { 90.0 } + f64::from(random.between(-2.0, 2.0));
            let who = Who { id, kind, look, size, colour: None, aside: 0.0 };
            self.stand(who, at, yaw, seed);
        }
    }
}
