//! What stands in the four rooms, and what it looks like.

use std::sync::Arc;

use parry3d::bounding_volume::Aabb;
use parry3d::math::{Pose, Vector};

use super::Environment;
use crate::simulate::caster::{Hit, Solids};
use crate::simulate::random::{Purpose, Random, grain};
use crate::simulate::solid::{ObjectId, Shape, Solid, Surface};

/// What the floor is covered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Covering {
    Parquet,
    Carpet,
    Tiles,
    Concrete,
}

/// How a room is laid out around the sensors, metres.
struct Plan {
    /// Walls to the left, to the right, ahead and behind.
    walls: [f32; 4],
    height: f32,
    plaster: [f32; 3],
    floor: ([f32; 3], Covering),
    lamps: &'static [[f32; 2]],
}

fn plan(environment: Environment) -> Plan {
    match environment.number() {
        // An office.
        1 => Plan {
            walls: [-2.6, 3.1, 5.2, -1.6],
            height: 2.7,
            plaster: [0.66, 0.65, 0.60],
            floor: ([0.36, 0.22, 0.11], Covering::Parquet),
            lamps: &[[-0.6, 1.2], [0.8, 3.6]],
        },
        // A meeting room, the platform in a corner of it.
        2 => Plan {
            walls: [-1.7, 4.6, 6.3, -0.9],
            height: 2.9,
            plaster: [0.38, 0.48, 0.58],
            floor: ([0.12, 0.14, 0.20], Covering::Carpet),
            lamps: &[[0.6, 2.0], [2.2, 4.4]],
        },
        // A hall.
        3 => Plan {
            walls: [-4.8, 3.4, 8.6, -3.0],
            height: 3.6,
            plaster: [0.70, 0.56, 0.36],
            floor: ([0.55, 0.53, 0.50], Covering::Tiles),
            lamps: &[[-2.0, 2.4], [1.2, 2.4], [-0.5, 6.0]],
        },
        // A narrow laboratory.
        _ => Plan {
            walls: [-2.0, 1.9, 4.6, -2.2],
            height: 2.6,
            plaster: [0.50, 0.60, 0.46],
            floor: ([0.28, 0.28, 0.27], Covering::Concrete),
            lamps: &[[0.0, 1.8], [0.0, 3.9]],
        },
    }
}

/// What stands in a room, and its lamps.
#[derive(Clone, Debug)]
pub struct Room {
    solids: Arc<Solids>,
    lamps: Vec<Vector>,
    floor: ObjectId,
    covering: Covering,
    /// Walls as left, right, ahead, behind, and the ceiling's height, metres.
    walls: [f32; 4],
    height: f32,
}

/// The floor's slab stands out of the ground plane by this, metres.
const SLAB_M: f32 = 0.001;

impl Room {
    /// Builds a room; the seed draws the colours of its furniture.
    #[must_use]
    pub fn new(seed: u64, environment: Environment) -> Self {
        let Plan { walls, height, plaster, floor: (floor_colour, covering), lamps } = plan(environment);
        let mut builder = Builder {
            next: 1,
            solids: Vec::new(),
            random: Random::new(seed, environment.number(), 0, Purpose::Furniture),
        };
        let [left, right, ahead, behind] = walls;
        let (thick, wall) = (0.2, Surface::Cloth(plaster));
        let floor = builder.boxed([left, behind, -0.1], [right, ahead, SLAB_M], Surface::Cloth(floor_colour));
        builder.boxed([left - thick, behind, 0.0], [left, ahead, height], wall);
        builder.boxed([right, behind, 0.0], [right + thick, ahead, height], wall);
        builder.boxed([left, ahead, 0.0], [right, ahead + thick, height], wall);
        builder.boxed([left, behind - thick, 0.0], [right, behind, height], wall);
        builder.boxed([left, behind, height], [right, ahead, height + thick], Surface::Cloth([0.75; 3]));
        builder.furnish(environment, walls, height);
        Self {
            solids: Arc::new(Solids::new(builder.solids)),
            lamps: lamps.iter().map(|&[x, y]| Vector::new(x, y, height - 0.1)).collect(),
            floor,
            covering,
            walls,
            height,
        }
    }

    /// What stands in it.
    #[must_use]
    pub fn solids(&self) -> Arc<Solids> {
        self.solids.clone()
    }

    /// Its lamps, metres.
    #[must_use]
    pub fn lamps(&self) -> &[Vector] {
        &self.lamps
    }

    /// Walls to the left, to the right, ahead and behind, and the height of the ceiling, metres.
    #[must_use]
    pub const fn size(&self) -> ([f32; 4], f32) {
        (self.walls, self.height)
    }

    /// Reflectance at a hit, red, green, blue, 0…1, linear.
    #[must_use]
    pub fn colour(&self, hit: &Hit) -> [f32; 3] {
        let base = match hit.surface {
            Surface::Cloth(colour)
            | Surface::Skin(colour)
            | Surface::Hair(colour)
            | Surface::Paint(colour) => colour,
            Surface::Glass => [0.05, 0.07, 0.08],
            Surface::Pole => [0.30, 0.31, 0.32],
            Surface::Leaves => [0.08, 0.22, 0.05],
            _ => [0.3; 3],
        };
        let by = if hit.object == self.floor || hit.object == ObjectId::GROUND {
            self.floor(hit.point)
        } else if hit.velocity != Vector::ZERO || hit.object == super::Performer::OBJECT {
            weave(hit)
        } else {
            1.0
        };
        base.map(|part| part * by)
    }

    fn floor(&self, point: Vector) -> f32 {
        let (x, y) = (point.x, point.y);
        match self.covering {
            Covering::Parquet => {
                // Planks of 12 cm × 1.2 m, every row shifted.
                let row = (x / 0.12).floor();
                let along = y / 1.2 + 0.37 * row;
                let joint = (x / 0.12 - row) < 0.04 || along.rem_euclid(1.0) < 0.006;
                let plank = 0.75 + 0.5 * grain(row as i32, along.floor() as i32, 11);
                if joint { plank * 0.55 } else { plank }
            }
            Covering::Carpet => 0.85 + 0.3 * grain((x * 60.0) as i32, (y * 60.0) as i32, 12),
            Covering::Tiles => {
                let (across, along) = ((x / 0.6).rem_euclid(1.0), (y / 0.6).rem_euclid(1.0));
                let tile = 0.92 + 0.16 * grain((x / 0.6).floor() as i32, (y / 0.6).floor() as i32, 13);
                if across < 0.015 || along < 0.015 { 0.5 } else { tile }
            }
            Covering::Concrete => 0.85 + 0.3 * grain((x * 6.0).floor() as i32, (y * 6.0).floor() as i32, 14),
        }
    }
}

/// Folds and weave of cloth: what makes a limb's turning visible.
fn weave(hit: &Hit) -> f32 {
    match hit.surface {
        Surface::Cloth(_) => {
            let at = hit.local * 45.0;
            let cell = grain(at.x.floor() as i32, at.y.floor() as i32, at.z.floor() as i32 as u32);
            0.9 + 0.2 * cell
        }
        _ => 1.0,
    }
}

struct Builder {
    next: u32,
    solids: Vec<Solid>,
    random: Random,
}

impl Builder {
    fn push(&mut self, shape: Shape, at: Vector, surface: Surface) -> ObjectId {
        let object = ObjectId(self.next);
        self.next += 1;
        self.solids.push(Solid::still(shape, Pose::from_translation(at), object, surface));
        object
    }

    fn boxed(&mut self, mins: [f32; 3], maxs: [f32; 3], surface: Surface) -> ObjectId {
        let bounds = Aabb::new(Vector::from(mins), Vector::from(maxs));
        self.push(Shape::Cuboid(bounds.half_extents()), bounds.center(), surface)
    }

    fn post(&mut self, [x, y]: [f32; 2], from: f32, to: f32, radius: f32, surface: Surface) {
        let shape = Shape::Cylinder { half_length: (to - from) / 2.0, radius };
        self.push(shape, Vector::new(x, y, (from + to) / 2.0), surface);
    }

    /// A reflectance around this one.
    fn tone(&mut self, colour: [f32; 3]) -> Surface {
        let by = self.random.between(0.75, 1.25);
        Surface::Paint(colour.map(|part| (part * by).min(0.9)))
    }

    /// A table top on four legs.
    fn table(&mut self, [x, y]: [f32; 2], [wide, deep]: [f32; 2], height: f32, top: Surface) {
        let (half_x, half_y) = (wide / 2.0, deep / 2.0);
        self.boxed([x - half_x, y - half_y, height - 0.035], [x + half_x, y + half_y, height], top);
        for (dx, dy) in [(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)] {
            let at = [x + dx * (half_x - 0.05), y + dy * (half_y - 0.05)];
            self.post(at, 0.0, height - 0.035, 0.022, Surface::Pole);
        }
    }

    fn chair(&mut self, [x, y]: [f32; 2], seat: Surface) {
        self.boxed([x - 0.22, y - 0.22, 0.43], [x + 0.22, y + 0.22, 0.48], seat);
        self.boxed([x - 0.22, y + 0.18, 0.48], [x + 0.22, y + 0.22, 0.92], seat);
        self.post([x, y], 0.0, 0.43, 0.03, Surface::Pole);
    }

    fn screen(&mut self, [x, y]: [f32; 2], z: f32, wide: f32) {
        let high = wide * 0.56;
        self.boxed([x - wide / 2.0, y - 0.025, z], [x + wide / 2.0, y + 0.025, z + high], Surface::Glass);
    }

    fn plant(&mut self, [x, y]: [f32; 2]) {
        self.post([x, y], 0.0, 0.35, 0.16, Surface::Paint([0.40, 0.16, 0.08]));
        for (dx, dy, z, radius) in [(0.0, 0.0, 0.75, 0.26), (0.12, 0.05, 1.05, 0.2), (-0.1, 0.04, 0.95, 0.18)]
        {
            let at = Vector::new(x + dx, y + dy, z);
            self.push(Shape::Ellipsoid(Vector::new(radius, radius, radius * 1.2)), at, Surface::Leaves);
        }
    }

    fn furnish(&mut self, environment: Environment, [left, right, ahead, _]: [f32; 4], height: f32) {
        let wood = self.tone([0.34, 0.20, 0.10]);
        let white = self.tone([0.62, 0.62, 0.60]);
        let seat = self.tone([0.06, 0.07, 0.09]);
        let steel = self.tone([0.30, 0.32, 0.36]);
        match environment.number() {
            1 => {
                self.table([right - 0.45, 3.2], [0.8, 1.8], 0.74, wood);
                self.screen([right - 0.35, 3.4], 0.82, 0.55);
                self.chair([right - 1.15, 3.3], seat);
                self.boxed([left, 3.4, 0.0], [left + 0.45, 5.2, 1.9], white);
                self.boxed([-1.1, ahead - 0.05, 0.95], [0.9, ahead - 0.01, 2.05], Surface::Paint([0.72; 3]));
                self.boxed([left + 0.8, ahead - 0.04, 0.0], [left + 1.65, ahead, 2.05], wood);
                self.plant([right - 0.4, ahead - 0.4]);
            }
            2 => {
                self.table([2.6, 4.3], [1.3, 2.6], 0.74, white);
                for y in [3.4, 4.3, 5.2] {
                    self.chair([1.7, y], seat);
                    self.chair([3.6, y], seat);
                }
                self.screen([0.4, ahead - 0.06], 1.1, 1.5);
                self.boxed([left, 5.0, 0.0], [left + 0.5, 6.2, 0.85], wood);
                let frame = self.tone([0.10, 0.25, 0.40]);
                self.boxed([2.4, ahead - 0.03, 1.1], [3.4, ahead - 0.01, 1.9], frame);
            }
            3 => {
                for x in [left + 1.0, right - 0.9] {
                    self.post([x, 6.4], 0.0, height, 0.22, white);
                }
                let bench = self.tone([0.45, 0.10, 0.08]);
                self.boxed([-3.6, 7.6, 0.0], [-1.2, 8.2, 0.45], bench);
                self.boxed([-0.4, ahead - 0.06, 0.0], [1.6, ahead - 0.01, 2.3], Surface::Glass);
                self.plant([right - 1.6, 7.9]);
                self.plant([-4.2, 7.9]);
                self.table([right - 0.8, 4.6], [0.9, 0.9], 1.05, wood);
            }
            _ => {
                self.boxed([left, 2.6, 0.0], [left + 0.6, 4.5, 0.9], white);
                self.boxed([right - 0.4, 2.3, 0.0], [right, 3.1, 2.1], steel);
                self.boxed([right - 0.4, 3.3, 0.0], [right, 4.2, 1.3], steel);
                self.screen([left + 0.35, 3.6], 1.0, 0.5);
                for z in [0.8, 1.2, 1.6] {
                    let shelf = self.tone([0.50, 0.35, 0.12]);
                    self.boxed([-0.9, ahead - 0.3, z], [1.0, ahead, z + 0.03], shelf);
                    for step in 0..5 {
                        let (at, tall) = (-0.75 + 0.36 * step as f32, self.random.between(0.12, 0.3));
                        let colour = [0.1, 0.1, 0.1].map(|low| low + self.random.between(0.0, 0.5));
                        let (from, to) =
                            ([at, ahead - 0.26, z + 0.03], [at + 0.2, ahead - 0.08, z + 0.03 + tall]);
                        self.boxed(from, to, Surface::Paint(colour));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::caster::Caster;

    #[test]
    fn rooms_are_closed_and_differ() {
        let mut sizes = Vec::new();
        for environment in Environment::ALL {
            let room = Room::new(1, environment);
            let caster = Caster::new(room.solids(), Solids::default());
            let eye = Vector::new(0.0, 0.0, 1.1);
            for step in 0..64 {
                let (sin, cos) = (std::f32::consts::TAU * step as f32 / 64.0).sin_cos();
                for rise in [-0.8, -0.2, 0.3, 0.9] {
                    let ray = Vector::new(sin, cos, rise).normalize();
                    let hit = caster.cast(eye, ray, 50.0).unwrap();
                    assert_ne!(hit.object, ObjectId::GROUND, "the slab lies on the ground: {ray}");
                }
            }
            // Nobody stands in furniture, and the sensors see the place where people stand.
            for x in [-0.6, 0.0, 0.6] {
                for y in [2.4, 3.0, 3.6] {
                    let head = Vector::new(x, y, 1.5);
                    assert!(caster.is_free(eye, head), "{environment:?}: {x} {y}");
                    assert!(caster.is_free(head, Vector::new(x, y, 0.05)), "{environment:?}: {x} {y}");
                }
            }
            assert!(room.lamps().iter().all(|lamp| lamp.z < room.size().1));
            sizes.push(room.size().0);
        }
        sizes.dedup();
        assert_eq!(sizes.len(), 4);
    }
}
