//! What surfaces look like, by procedure and in the axes of the thing itself: asphalt and markings, windows, wheels,
//! clothes.
//!
//! Every pattern is averaged over the width of a pixel where it lands, so that distance makes it even instead of noisy.

use parry3d::math::Vector;

use super::ground::{Ground, Patch};
use super::random::grain;
use super::scene::Scene;
use super::solid::Surface;

/// Height of a storey, metres.
const STOREY_M: f32 = 3.2;
/// Height of the ground floor, metres.
const SHOP_M: f32 = 3.6;
/// Light of 3,000 K.
const WARM: Vector = Vector::new(1.3, 0.95, 0.55);

/// A place on a surface, and how it is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// What is seen.
    pub surface: Surface,
    /// In the unit frame, metres.
    pub point: Vector,
    /// On the shape, in its own axes from its middle, metres.
    pub local: Vector,
    /// Normal in the shape's own axes.
    pub local_normal: Vector,
    /// Half sides of the shape, metres.
    pub half: Vector,
    /// Cosine of the angle between the normal and the way back to the camera.
    pub facing: f32,
    /// Width of a pixel at this distance, metres.
    pub width: f32,
}

/// How a place takes light.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Finish {
    /// Diffuse reflectance, red, green, blue, 0…1.
    pub colour: Vector,
    /// Reflectance of its smooth top, straight on: 0 matte, 0.04 varnish, 0.08 a pane.
    pub gloss: f32,
    /// What it shines by itself, cd/m².
    pub glow: Vector,
}

impl Finish {
    const fn matte(colour: Vector) -> Self {
        Self { colour, gloss: 0.0, glow: Vector::ZERO }
    }

    const fn smooth(colour: Vector, gloss: f32) -> Self {
        Self { colour, gloss, glow: Vector::ZERO }
    }

    fn mix(self, other: Self, share: f32) -> Self {
        Self {
            colour: self.colour.lerp(other.colour, share),
            gloss: self.gloss + (other.gloss - self.gloss) * share,
            glow: self.glow.lerp(other.glow, share),
        }
    }
}

/// Finishes by place.
#[derive(Clone, Debug)]
pub(super) struct Texture {
    /// Without it the ground is a plain floor.
    ground: Option<Ground>,
    is_dark: bool,
    /// Whether street lamps burn and windows are lit.
    is_lit: bool,
    /// 0 dry, 1 wet.
    wet: f32,
}

const PANE: Finish = Finish::smooth(Vector::new(0.012, 0.016, 0.02), 0.08);

impl Texture {
    /// Of a street; `is_dark` lights windows and lamps, rain (mm/h) makes the ground wet.
    pub(super) fn street(scene: &Scene, is_dark: bool, rain_mm_h: f32) -> Self {
        Self { ground: Some(Ground::new(scene)), is_dark, is_lit: is_dark, wet: (rain_mm_h / 1.5).min(1.0) }
    }

    /// The same in a power cut.
    pub(super) fn unlit(self) -> Self {
        Self { is_lit: false, ..self }
    }

    /// Of a room.
    pub(super) const fn room() -> Self {
        Self { ground: None, is_dark: false, is_lit: false, wet: 0.0 }
    }

    /// The finish at a place.
    pub(super) fn finish(&self, spot: &Spot) -> Finish {
        match spot.surface {
            Surface::Ground => self.ground(spot),
            Surface::Facade { colour, number } => self.facade(Vector::from(colour), number, spot),
            Surface::Paint(colour) => sheet(Vector::from(colour), spot),
            Surface::Windows { colour, from_z } => self.coach(Vector::from(colour), from_z, spot),
            Surface::Glass => PANE,
            Surface::Wheel => wheel(spot),
            Surface::Chassis => Finish::matte(Vector::splat(0.025)),
            Surface::Lamp => self.head_lamp(spot),
            Surface::TailLamp => self.tail_lamp(spot),
            Surface::Bark => Finish::matte(Vector::new(0.16, 0.11, 0.07) * speckle(spot, 12.0, 0.6)),
            Surface::Leaves => {
                let depth = speckle(spot, 2.2, 0.8) * speckle(spot, 5.0, 0.8) * speckle(spot, 11.0, 0.7);
                Finish::matte(Vector::new(0.09, 0.17, 0.035) * depth)
            }
            Surface::Pole => Finish::smooth(Vector::new(0.22, 0.23, 0.24), 0.02),
            Surface::StreetLamp => self.street_lamp(spot),
            Surface::Cloth(colour) => Finish::matte(Vector::from(colour) * speckle(spot, 40.0, 0.25)),
            Surface::Skin(colour) => Finish::smooth(Vector::from(colour), 0.015),
            Surface::Hair(colour) => Finish::smooth(Vector::from(colour) * speckle(spot, 60.0, 0.4), 0.02),
        }
    }

    fn ground(&self, spot: &Spot) -> Finish {
        let Some(ground) = &self.ground else {
            return Finish::matte(Vector::new(0.42, 0.38, 0.33) * speckle(spot, 8.0, 0.1));
        };
        let (x, y) = (spot.point.x, spot.point.y);
        let patch = ground.at(x, y);
        let colour = match patch {
            Patch::Slab => {
                let joint = line(x, 1.0, 0.03, spot.width).max(line(y, 1.0, 0.03, spot.width));
                let stone = 0.85 + 0.3 * grain(x.floor() as i32, y.floor() as i32, 1);
                let stone = fade(stone, 1.0, spot.width) * speckle(spot, 20.0, 0.12);
                Vector::new(0.34, 0.33, 0.31) * (stone + (0.55 - stone) * joint)
            }
            Patch::Kerb => Vector::new(0.46, 0.45, 0.43) * (1.0 - 0.4 * line(x, 1.2, 0.03, spot.width)),
            Patch::Marking => Vector::new(0.62, 0.62, 0.60) * speckle(spot, 30.0, 0.3).min(1.0),
            Patch::Asphalt => {
                // Mended places, seen by their tone.
                let patch = 0.9 + 0.2 * grain((x / 7.0).floor() as i32, (y / 3.5).floor() as i32, 2);
                Vector::new(0.098, 0.099, 0.102)
                    * (patch * speckle(spot, 30.0, 0.4) * speckle(spot, 4.0, 0.12))
            }
            Patch::Grass => {
                Vector::new(0.07, 0.13, 0.03) * speckle(spot, 25.0, 0.7) * speckle(spot, 2.0, 0.3)
            }
        };
        match patch {
            Patch::Grass => Finish::matte(colour),
            // Water in the pores makes a stone about half as bright (Lekner and Dorf 1988), and its film is smooth.
            _ => Finish::smooth(colour * (1.0 - 0.5 * self.wet), 0.02 * self.wet),
        }
    }

    /// A body with a band of windows.
    fn coach(&self, colour: Vector, from_z: f32, spot: &Spot) -> Finish {
        let (along, up) = (spot.local.x + spot.half.x, spot.local.z + spot.half.z);
        let body = sheet(colour, spot);
        if spot.local_normal.z.abs() > 0.5 {
            return body;
        }
        let is_end = spot.local_normal.x.abs() > 0.5;
        let skirt = inside(up, -1.0, 0.45, spot.width);
        let body = body.mix(sheet(colour * 0.3, spot), skirt);
        // At its ends the panes are whole and lower, along the sides posts stand between them.
        let from = if is_end { from_z - 0.2 } else { from_z };
        let band = inside(up, from, from_z + 1.05, spot.width);
        let pillar = if is_end { 0.0 } else { line(along, 1.5, 0.11, spot.width) };
        let edge = if is_end { inside(spot.local.y.abs(), spot.half.y - 0.12, 9.0, spot.width) } else { 0.0 };
        let mut pane = PANE;
        if self.is_dark {
            pane.glow = Vector::new(1.1, 1.0, 0.8) * 8.0 * (0.7 + 0.5 * grain((along / 1.5) as i32, 0, 5));
        }
        body.mix(pane, band * (1.0 - pillar) * (1.0 - edge))
    }

    /// Two lamps at the ends of a bar, a grille between them.
    fn head_lamp(&self, spot: &Spot) -> Finish {
        let grille = 0.05 + 0.12 * line(spot.local.z, 0.05, 0.02, spot.width);
        let grille = Finish::smooth(Vector::splat(grille), 0.04);
        let lamp = lamp_share(spot);
        let glow = if self.is_dark {
            self.lamp_glow(spot.facing, Vector::new(0.95, 1.0, 1.1), 60_000.0)
        } else {
            Vector::ZERO
        };
        grille.mix(Finish { colour: Vector::new(0.6, 0.62, 0.65), gloss: 0.08, glow }, lamp)
    }

    /// It shines down.
    fn street_lamp(&self, spot: &Spot) -> Finish {
        let is_under = spot.local_normal.z < -0.5;
        let glow = if self.is_lit && is_under { WARM * 8_000.0 } else { Vector::ZERO };
        Finish { colour: Vector::splat(0.55), gloss: 0.04, glow }
    }

    /// Two red lamps at the ends of a bar, a plate between them.
    fn tail_lamp(&self, spot: &Spot) -> Finish {
        let plate = inside(spot.local.y.abs(), -1.0, 0.26, spot.width);
        let sheet = Finish::smooth(Vector::splat(0.06), 0.04).mix(Finish::matte(Vector::splat(0.6)), plate);
        let lamp = lamp_share(spot);
        let glow = if self.is_dark {
            self.lamp_glow(spot.facing, Vector::new(1.9, 0.06, 0.03), 500.0)
        } else {
            Vector::ZERO
        };
        sheet.mix(Finish { colour: Vector::new(0.38, 0.012, 0.012), gloss: 0.06, glow }, lamp)
    }

    /// A lens sends most of its light straight out.
    fn lamp_glow(&self, facing: f32, tint: Vector, straight: f32) -> Vector {
        let square = facing.max(0.0) * facing.max(0.0);
        tint * straight * (0.08 * facing.max(0.0) + 0.92 * square * square)
    }

    /// Plaster, windows in storeys, shops on the ground floor.
    fn facade(&self, colour: Vector, number: u32, spot: &Spot) -> Finish {
        let (local, half, normal) = (spot.local, spot.half, spot.local_normal);
        let plaster = Finish::matte(colour * speckle(spot, 3.0, 0.14));
        if normal.z.abs() > 0.5 {
            return Finish::matte(Vector::splat(0.12));
        }
        // Along the side that is looked at; windows stand on the long sides.
        let (along, reach) = if normal.y.abs() > 0.5 { (local.x, half.x) } else { (local.y, half.y) };
        if normal.y > 0.5 || normal.x.abs() > 0.5 && half.y < 4.0 {
            return plaster;
        }
        let (along, width, z) = (along + reach, 2.0 * reach, local.z + half.z);
        let (pixel, slant) = (spot.width, spot.width / spot.facing.abs().max(0.15));
        if z < SHOP_M && 2.0 * half.z > SHOP_M {
            return self.shop(plaster, number, along, width, z, [slant, pixel]);
        }
        let columns = (width / 2.3).floor().max(1.0);
        let column = along / width * columns;
        let across = (column.fract() - 0.5).abs() * width / columns;
        let from = if 2.0 * half.z > SHOP_M { SHOP_M } else { 0.0 };
        let storey = ((z - from) / STOREY_M).floor();
        let up = z - from - storey * STOREY_M;
        if 2.0 * half.z - (from + storey * STOREY_M) < 2.6 {
            return plaster;
        }
        let frame = inside(across, -1.0, 0.62, slant) * inside(up, 0.7, 2.4, pixel);
        let glass = inside(across, 0.035, 0.55, slant) * inside(up, 0.77, 2.33, pixel);
        let sill = inside(across, -1.0, 0.75, slant) * inside(up, 0.56, 0.7, pixel);
        let mood = grain(column as i32, storey as i32, number);
        let mut pane = PANE;
        if mood > 0.72 {
            // A blind, drawn to some height.
            let blind = inside(up, 1.2 + 2.4 * (mood - 0.72), 2.4, pixel);
            pane = pane.mix(Finish::smooth(Vector::new(0.42, 0.39, 0.33), 0.03), blind);
        }
        let lit = grain(column as i32, storey as i32, number ^ 0x51);
        if self.is_lit && lit > 0.62 {
            let curtain = 0.6 + 0.8 * grain((across * 6.0) as i32, (up * 2.0) as i32, number);
            pane.glow = WARM * (2.0 + 14.0 * (lit - 0.62)) * curtain;
        }
        plaster
            .mix(Finish::matte(colour * 1.25), sill)
            .mix(Finish::matte(Vector::splat(0.58)), frame)
            .mix(pane, glass)
    }

    /// Panes between pillars, a board above them in its own colour.
    fn shop(&self, plaster: Finish, number: u32, along: f32, width: f32, z: f32, pixel: [f32; 2]) -> Finish {
        const BOARDS: [Vector; 5] = [
            Vector::new(0.35, 0.06, 0.05),
            Vector::new(0.05, 0.2, 0.12),
            Vector::new(0.06, 0.1, 0.3),
            Vector::new(0.5, 0.4, 0.1),
            Vector::new(0.5, 0.5, 0.48),
        ];
        let bays = (width / 3.6).floor().max(1.0);
        let bay = along / width * bays;
        let (across, wide) = (bay.fract() * width / bays, width / bays);
        let mood = grain(bay as i32, number as i32, 7);
        let board = inside(across, 0.2, wide - 0.2, pixel[0]) * inside(z, 2.75, 3.35, pixel[1]);
        let glass = inside(across, 0.3, wide - 0.3, pixel[0]) * inside(z, 0.45, 2.65, pixel[1]);
        let door = inside(across, wide / 2.0 - 0.04, wide / 2.0 + 0.04, pixel[0]) * glass;
        let plinth = inside(z, -1.0, 0.45, pixel[1]);
        let mut sign = Finish::smooth(BOARDS[((mood * 5.0) as usize).min(4)], 0.03);
        let goods = grain((across * 3.0) as i32, (z * 2.0) as i32, number);
        let mut pane = Finish { colour: Vector::new(0.06, 0.05, 0.04) * (0.3 + goods), ..PANE };
        if self.is_lit && mood > 0.3 {
            pane.glow = WARM.lerp(Vector::ONE, mood) * (3.0 + 9.0 * goods * mood);
            sign.glow = BOARDS[((mood * 5.0) as usize).min(4)] * 14.0;
        }
        plaster
            .mix(Finish::matte(plaster.colour * 0.7), plinth)
            .mix(sign, board)
            .mix(pane, glass)
            .mix(Finish::matte(Vector::splat(0.1)), door)
    }
}

/// Painted metal: a varnish, seams in large sheets, dirt on the sill.
fn sheet(colour: Vector, spot: &Spot) -> Finish {
    let (local, half) = (spot.local, spot.half);
    let mut tone = 1.0;
    if spot.local_normal.y.abs() > 0.5 && half.x > 0.9 {
        let (along, up) = (local.x + half.x, local.z + half.z);
        if half.x > 3.0 {
            // A box body has ribs, and a darker rail below.
            tone -= 0.35 * line(along, 1.22, 0.05, spot.width);
            tone -= 0.45 * inside(up, -1.0, 0.18, spot.width);
        } else {
            // Doors, and a fold below their handles.
            let door = inside((local.x - 0.12).abs(), -1.0, 0.012, spot.width)
                + inside((local.x + 0.95).abs(), -1.0, 0.012, spot.width)
                + inside((local.x - 1.1).abs(), -1.0, 0.012, spot.width);
            tone -= 0.6 * door.min(1.0) * inside(up, 0.1, 9.0, spot.width);
            tone -= 0.25 * inside(up, 0.0, 0.16, spot.width);
        }
    }
    Finish::smooth(colour * tone, 0.045)
}

/// A tyre and a rim with five spokes; the axle is the axis along which the shape is not round.
fn wheel(spot: &Spot) -> Finish {
    let (local, half, normal) = (spot.local, spot.half, spot.local_normal);
    let is_upright = (half.x - half.z).abs() < 1e-3 * half.x;
    let (a, b, out, radius) =
        if is_upright { (local.x, local.z, normal.y, half.x) } else { (local.x, local.y, normal.z, half.x) };
    let tyre = Finish::matte(Vector::splat(0.018));
    if out.abs() < 0.5 {
        return tyre;
    }
    let from_hub = a.hypot(b) / radius;
    let width = spot.width / radius;
    let angle = b.atan2(a) * 5.0 / std::f32::consts::TAU;
    let spoke = line(angle, 1.0, 0.45, width / from_hub.max(0.1));
    let rim = Finish::smooth(Vector::splat(0.36), 0.05);
    let gap = inside(from_hub, 0.2, 0.52, width) * (1.0 - spoke);
    tyre.mix(rim.mix(tyre, gap), inside(from_hub, -1.0, 0.62, width))
}

/// How much of a pixel lies on the lamps at the ends of a bar that is wide along y.
fn lamp_share(spot: &Spot) -> f32 {
    if spot.half.y < 0.35 {
        return 1.0; // a lamp by itself
    }
    let size = (0.36 * spot.half.y).min(0.32);
    inside(spot.local.y.abs(), spot.half.y - size, 9.0, spot.width)
}

/// The share of `width` around `at` that lies between two places.
fn inside(at: f32, from: f32, to: f32, width: f32) -> f32 {
    let width = width.max(1e-4);
    (((at + width / 2.0).min(to) - (at - width / 2.0).max(from)) / width).clamp(0.0, 1.0)
}

/// The share of `width` around `at` that lies on lines of a thickness which stand once per period.
fn line(at: f32, period: f32, thick: f32, width: f32) -> f32 {
    let share = thick / period;
    if width > period {
        return share;
    }
    let from_line = (at.rem_euclid(period) - period / 2.0).abs();
    inside(period / 2.0 - from_line, -thick / 2.0, thick / 2.0, width)
}

/// A value around 1 that a wide pixel evens out.
fn fade(value: f32, cell: f32, width: f32) -> f32 {
    1.0 + (value - 1.0) * (cell / width.max(1e-4)).min(1.0)
}

/// Around 1, by ± half of `depth`, in cells of 1/`per_metre`, fixed to the shape.
fn speckle(spot: &Spot, per_metre: f32, depth: f32) -> f32 {
    let cell = spot.local * per_metre;
    // Rounds down without a call of a function, which `floor` is on old processors.
    let whole = |value: f32| value as i32 - i32::from(value < 0.0);
    let value = 1.0 + depth * (grain(whole(cell.x), whole(cell.y), whole(cell.z) as u32) - 0.5);
    fade(value, 1.0 / per_metre, spot.width)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(surface: Surface, local: Vector, half: Vector, local_normal: Vector) -> Spot {
        Spot { surface, point: local, local, local_normal, half, facing: 1.0, width: 0.01 }
    }

    fn texture(is_dark: bool, rain: f32) -> Texture {
        Texture::street(&Scene::default(), is_dark, rain)
    }

    #[test]
    fn patterns_are_averaged_over_a_pixel() {
        assert_eq!(inside(0.5, 0.0, 1.0, 0.1), 1.0);
        assert!((inside(1.0, 0.0, 1.0, 0.1) - 0.5).abs() < 1e-6);
        assert!((inside(0.5, 0.0, 1.0, 4.0) - 0.25).abs() < 1e-6);
        assert!((line(3.0, 1.0, 0.1, 0.2) - 0.5).abs() < 1e-5);
        assert_eq!(line(0.5, 1.0, 0.1, 0.2), 0.0);
        assert!((line(0.3, 1.0, 0.1, 5.0) - 0.1).abs() < 1e-6);
    }

    #[test]
    fn a_bus_has_a_band_of_windows_that_moves_with_it() {
        let bus = |x: f32, z: f32| {
            let half = Vector::new(6.0, 1.3, 1.4);
            let surface = Surface::Windows { colour: [0.5, 0.1, 0.1], from_z: 1.05 };
            let place = spot(surface, Vector::new(x, -1.3, z), half, -Vector::Y);
            let far = Spot { point: place.point + Vector::X * 20.0, ..place };
            assert_eq!(texture(false, 0.0).finish(&place), texture(false, 0.0).finish(&far));
            texture(false, 0.0).finish(&place)
        };
        // The band is 1.05 to 2.1 m above the lower edge, a post every 1.5 m.
        assert!((bus(0.75, 0.2).colour - PANE.colour).length() < 1e-4);
        assert!(bus(0.0, 0.2).colour.x > 0.4 && bus(0.75, 1.0).colour.x > 0.4);
    }

    #[test]
    fn lamps_and_windows_shine_in_the_dark_alone() {
        let lamp = spot(Surface::Lamp, Vector::new(0.0, 0.75, 0.0), Vector::new(0.04, 0.8, 0.07), Vector::X);
        assert_eq!(texture(false, 0.0).finish(&lamp).glow, Vector::ZERO);
        let lit = texture(true, 0.0).finish(&lamp).glow;
        let aside = texture(true, 0.0).finish(&Spot { facing: 0.3, ..lamp }).glow;
        assert!(lit.y > 10.0 * aside.y && aside.y > 0.0, "{lit} {aside}");
        let middle = texture(true, 0.0).finish(&Spot { local: Vector::ZERO, ..lamp }).glow;
        assert_eq!(middle, Vector::ZERO);
    }

    #[test]
    fn a_wet_road_is_darker_and_smooth() {
        let road = spot(Surface::Ground, Vector::new(3.1, 10.1, 0.0), Vector::ZERO, Vector::Z);
        let (dry, wet) = (texture(false, 0.0).finish(&road), texture(false, 10.0).finish(&road));
        assert!((wet.colour.x / dry.colour.x - 0.5).abs() < 1e-5 && dry.gloss == 0.0 && wet.gloss > 0.0);
    }
}
