//! What surfaces look like, by procedure: asphalt and lane markings, windows, wheels, leaves.

use parry3d::math::Vector;

use super::camera::sky;
use super::caster::Hit;
use super::ground::{Ground, Patch};
use super::random::grain;
use super::scene::Scene;
use super::solid::Surface;

/// Height of a storey, metres.
const STOREY_M: f32 = 3.2;

/// Reflectances by place.
#[derive(Clone, Debug)]
pub(super) struct Texture {
    ground: Ground,
}

impl Texture {
    pub(super) fn new(scene: &Scene) -> Self {
        Self { ground: Ground::new(scene) }
    }

    /// Reflectance at a hit, red, green, blue, 0…1, linear.
    pub(super) fn colour(&self, hit: &Hit, ray: Vector) -> [f32; 3] {
        let point = hit.point;
        match hit.surface {
            Surface::Ground => self.ground(point),
            Surface::Facade { colour, number } => facade(colour, number, hit, ray),
            Surface::Paint(colour) => sheet(colour, hit, ray),
            Surface::Windows { colour, from_z } => {
                let (along, up) = (hit.local.x + hit.half.x, hit.local.z + hit.half.z);
                let is_pane = (from_z..from_z + 1.05).contains(&up) && hit.local_normal.z.abs() < 0.5;
                match is_pane && (along.rem_euclid(1.5) > 0.12 || hit.local_normal.x.abs() > 0.5) {
                    true => pane(hit, ray),
                    false if up < 0.45 => sheet(colour.map(|part| part * 0.35), hit, ray),
                    false => sheet(colour, hit, ray),
                }
            }
            Surface::Glass => pane(hit, ray),
            Surface::Wheel => wheel(hit),
            Surface::Chassis => [0.035; 3],
            Surface::Lamp => [0.95, 0.95, 0.9],
            Surface::TailLamp => [0.65, 0.03, 0.03],
            Surface::Bark => shade([0.16, 0.11, 0.07], speckle(point, 12.0, 0.4)),
            Surface::Leaves => {
                shade([0.10, 0.24, 0.05], speckle(point, 5.0, 0.7) * speckle(point, 11.0, 0.6))
            }
            Surface::Pole => [0.25, 0.26, 0.27],
            Surface::Cloth(colour) | Surface::Skin(colour) | Surface::Hair(colour) => colour,
        }
    }

    fn ground(&self, point: Vector) -> [f32; 3] {
        let y = point.y;
        let wear = || speckle(point, 30.0, 0.35);
        match self.ground.at(point.x, y) {
            Patch::Slab => {
                let joint = point.x.rem_euclid(1.0) < 0.03 || y.rem_euclid(1.0) < 0.03;
                let slab = 0.85 + 0.3 * grain(point.x.floor() as i32, y.floor() as i32, 1);
                shade([0.34, 0.33, 0.31], if joint { 0.55 } else { slab * speckle(point, 20.0, 0.12) })
            }
            Patch::Kerb => shade([0.46, 0.45, 0.43], if point.x.rem_euclid(1.2) < 0.03 { 0.6 } else { 1.0 }),
            Patch::Marking => shade([0.62, 0.62, 0.60], wear().min(1.0)),
            // Large patches, and darker tracks of tyres.
            Patch::Asphalt => {
                let patch = 0.9 + 0.2 * grain((point.x / 7.0).floor() as i32, (y / 3.5).floor() as i32, 2);
                shade([0.085, 0.087, 0.092], patch * wear())
            }
            Patch::Grass => shade([0.07, 0.16, 0.03], speckle(point, 25.0, 0.6) * speckle(point, 3.0, 0.3)),
        }
    }
}

fn shade(colour: [f32; 3], by: f32) -> [f32; 3] {
    colour.map(|part| part * by)
}

/// Around 1, by ± half of `depth`, in cells of 1/`per_metre`.
fn speckle(point: Vector, per_metre: f32, depth: f32) -> f32 {
    let cell = point * per_metre;
    let salt = cell.z.floor() as i32 as u32;
    1.0 + depth * (grain(cell.x.floor() as i32, cell.y.floor() as i32, salt) - 0.5)
}

/// A pane mirrors the sky, more so at a slant, and is dark behind.
fn pane(hit: &Hit, ray: Vector) -> [f32; 3] {
    let mirrored = ray - hit.normal * (2.0 * ray.dot(hit.normal));
    let slant = 1.0 - (-ray.dot(hit.normal)).clamp(0.0, 1.0);
    let share = 0.10 + 0.5 * slant.powi(3);
    let seen = if mirrored.z > 0.0 { sky(mirrored) } else { [0.12; 3] };
    std::array::from_fn(|at| [0.015, 0.02, 0.025][at] + seen[at] * share)
}

/// Painted metal: a little of the sky on top, darker to the sill.
fn sheet(colour: [f32; 3], hit: &Hit, ray: Vector) -> [f32; 3] {
    let mirrored = ray - hit.normal * (2.0 * ray.dot(hit.normal));
    let gloss = if mirrored.z > 0.0 { 0.06 } else { 0.0 };
    let sky = sky(mirrored);
    // A box body has seams, low parts are dirty.
    let is_box_body = hit.half.x > 3.0 && hit.local_normal.y.abs() > 0.5;
    let is_seam = || (hit.local.x + hit.half.x).rem_euclid(2.05) < 0.05 || hit.local.z + hit.half.z < 0.18;
    let fold = if is_box_body && is_seam() { 0.6 } else { 1.0 };
    std::array::from_fn(|at| colour[at] * fold + sky[at] * gloss)
}

fn wheel(hit: &Hit) -> [f32; 3] {
    let from_hub = hit.local.x.hypot(hit.local.z) / hit.half.z;
    match from_hub {
        _ if hit.local_normal.y.abs() < 0.5 => [0.02; 3],
        ..0.55 => [0.32, 0.32, 0.34],
        0.55..1.0 => [0.018; 3],
        _ => [0.006; 3],
    }
}

/// Plaster, windows in storeys, shops on the ground floor.
fn facade(colour: [f32; 3], number: u32, hit: &Hit, ray: Vector) -> [f32; 3] {
    let plaster = shade(colour, speckle(hit.point, 3.0, 0.12));
    if hit.local_normal.y > -0.5 {
        return plaster;
    }
    let width = 2.0 * hit.half.x;
    let (along, z) = (hit.local.x + hit.half.x, hit.local.z + hit.half.z);
    if z < 3.6 {
        // A shop: panes between pillars, a board above them in its own colour.
        let bays = (width / 3.6).floor().max(1.0);
        let bay = along / width * bays;
        let across = bay.fract() * width / bays;
        let mood = grain(bay as i32, number as i32, 7);
        return match z {
            2.75..3.35 if across > 0.2 && across < width / bays - 0.2 => {
                let board = [[0.35, 0.06, 0.05], [0.05, 0.2, 0.12], [0.06, 0.1, 0.3], [0.5, 0.4, 0.1]];
                board.get((mood * 4.0) as usize).copied().unwrap_or([0.2; 3])
            }
            0.45..2.65 if across > 0.3 && across < width / bays - 0.3 => {
                let inside = pane(hit, ray);
                let warm = 0.10 * grain((across * 3.0) as i32, (z * 2.0) as i32, number);
                [inside[0] + warm, inside[1] + warm * 0.8, inside[2] + warm * 0.5]
            }
            ..0.45 => shade(plaster, 0.55),
            _ => shade(plaster, 0.8),
        };
    }
    let columns = (width / 2.3).floor().max(1.0);
    let column = along / width * columns;
    let across = (column.fract() - 0.5).abs() * width / columns;
    let storey = ((z - 3.6) / STOREY_M).floor();
    let up = z - 3.6 - storey * STOREY_M;
    let is_whole = 2.0 * hit.half.z - (3.6 + storey * STOREY_M) > 2.6;
    match up {
        0.7..2.4 if across < 0.62 && is_whole => {
            let is_frame = !(0.035..=0.54).contains(&across) || !(0.78..2.32).contains(&up);
            let blind = grain(column as i32, storey as i32, number);
            if is_frame {
                [0.6; 3]
            } else if blind > 0.75 && up > 1.2 + blind {
                [0.5, 0.47, 0.4]
            } else {
                pane(hit, ray)
            }
        }
        0.58..0.7 if across < 0.75 && is_whole => shade(colour, 1.25),
        _ => plaster,
    }
}
