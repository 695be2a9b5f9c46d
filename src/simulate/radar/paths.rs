//! Ways that are not the straight one: off the ground, and off walls.

use std::f64::consts::PI;

use num_complex::Complex64;
use parry3d::math::Vector;

use super::super::caster::{Caster, Hit};

/// Relative permittivity of concrete, ITU-R P.2040-3 table 3 (its real part; asphalt is of the same order).
const PERMITTIVITY: f64 = 5.24;
/// Root mean square height of asphalt and of plaster with windows, metres.
const GROUND_ROUGH_M: f64 = 1e-3;
const WALL_ROUGH_M: f64 = 0.3e-3;
/// Most walls that mirror.
const WALLS: usize = 8;

/// Amplitude that is left of a mirrored wave on a rough surface (Ament 1953): e^{−2(2πh·sin ψ/λ)²}, ψ from the surface.
fn roughness(height: f64, sine: f64, wavelength: f64) -> f64 {
    (-2.0 * (2.0 * PI * height * sine / wavelength).powi(2)).exp()
}

/// Factor on the amplitude of an echo from `height` at `distance` (level) that the way over the ground makes: there and back
/// each (1 + Γ·e^{jkδ}), with δ how much longer that way is, and Γ Fresnel's for vertical polarisation (the patches of the
/// board are fed upright).
pub fn ground(mast: f64, height: f64, distance: f64, wavelength: f64) -> Complex64 {
    if height <= 0.0 || mast <= 0.0 {
        return Complex64::new(1.0, 0.0);
    }
    let direct = distance.hypot(mast - height);
    let indirect = distance.hypot(mast + height);
    let sine = (mast + height) / indirect;
    let inside = (PERMITTIVITY - (1.0 - sine * sine)).sqrt();
    let fresnel = (PERMITTIVITY * sine - inside) / (PERMITTIVITY * sine + inside);
    let reflection = fresnel * roughness(GROUND_ROUGH_M, sine, wavelength);
    let turn = 2.0 * PI * ((indirect - direct) / wavelength).fract();
    (1.0 + Complex64::from_polar(1.0, turn) * reflection).powi(2)
}

/// A flat upright wall, endless here; whether a way meets it is asked of the caster.
#[derive(Clone, Copy, Debug)]
pub struct Wall {
    normal: Vector,
    /// Distance of its plane from the origin along the normal, metres.
    offset: f32,
}

/// A mirrored way.
#[derive(Clone, Copy, Debug)]
pub struct Bounce {
    /// The image's distance from the radar, metres.
    pub length: f64,
    /// Direction in which it seems to lie, length 1.
    pub ray: Vector,
    /// How fast that way grows, m/s.
    pub speed: f64,
    /// Amplitude that the wall leaves.
    pub reflection: f64,
}

impl Wall {
    /// Remembers the wall that was hit, if it is not known yet.
    pub fn note(walls: &mut Vec<Self>, hit: &Hit) {
        if hit.normal.z.abs() > 0.05 || walls.len() >= WALLS {
            return;
        }
        let wall = Self { normal: hit.normal, offset: hit.normal.dot(hit.point) };
        let is_same =
            |other: &Self| other.normal.dot(wall.normal) > 0.999 && (other.offset - wall.offset).abs() < 0.05;
        if !walls.iter().any(is_same) {
            walls.push(wall);
        }
    }

    /// The way from the radar over this wall to a thing that moves, if it is free.
    pub fn bounce(
        &self,
        caster: &Caster,
        origin: Vector,
        point: Vector,
        velocity: Vector,
        wavelength: f64,
    ) -> Option<Bounce> {
        let depth = self.normal.dot(point) - self.offset;
        let own_depth = self.normal.dot(origin) - self.offset;
        if depth < 0.2 || own_depth < 0.2 {
            return None;
        }
        let image = point - self.normal * (2.0 * depth);
        let length = (image - origin).length();
        let ray = (image - origin) / length;
        // On this wall, and on nothing before it.
        let to_wall = length * own_depth / (own_depth + depth);
        let hit = caster.cast(origin, ray, to_wall + 0.1)?;
        if (hit.distance - to_wall).abs() > 0.1 || hit.normal.dot(self.normal) < 0.99 {
            return None;
        }
        // From the wall to the thing; its own surface lies before its middle.
        let leg = point - hit.point;
        let from = hit.point + self.normal * 0.02;
        if caster.cast_still(from, leg.normalize(), leg.length() - 0.1).is_some() {
            return None;
        }
        let mirrored = velocity - self.normal * (2.0 * self.normal.dot(velocity));
        let cosine = f64::from(-ray.dot(self.normal));
        // The wave's field stands upright, along the wall: across the plane of incidence.
        let inside = (PERMITTIVITY - (1.0 - cosine * cosine)).sqrt();
        let fresnel = ((inside - cosine) / (inside + cosine)).abs();
        let reflection = fresnel * roughness(WALL_ROUGH_M, cosine, wavelength);
        Some(Bounce { length: f64::from(length), ray, speed: f64::from(mirrored.dot(ray)), reflection })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use super::super::super::caster::Solids;
    use super::super::super::solid::{ObjectId, Solid, Surface};
    use parry3d::bounding_volume::Aabb;

    #[test]
    fn the_way_over_the_ground_makes_lobes() {
        let wavelength = 3.893e-3;
        let power = |height: f64| ground(2.5, height, 30.0, wavelength).norm();
        let heights: Vec<f64> = (0..2000).map(|at| power(0.3 + 1e-4 * f64::from(at))).collect();
        let (low, high) = heights.iter().fold((f64::MAX, 0.0f64), |(a, b), &v| (a.min(v), b.max(v)));
        // ψ = 5.5°: Γ = −0.59 by Fresnel, 0.95 of it left by roughness: (1 ± 0.56)², maxima every λ·d/(2·2.5 m) = 23 mm.
        assert!((low - 0.19).abs() < 0.04 && (high - 2.43).abs() < 0.12, "{low} {high}");
        let peaks = heights.windows(3).filter(|w| w[1] > w[0] && w[1] > w[2]).count();
        assert!((8..=10).contains(&peaks), "{peaks} over 200 mm");
        assert_eq!(ground(2.5, 0.0, 30.0, wavelength).norm(), 1.0);
    }

    #[test]
    fn a_wall_mirrors_a_thing_where_geometry_says() {
        let bounds = |mins: [f32; 3], maxs: [f32; 3]| Aabb::new(Vector::from(mins), Vector::from(maxs));
        let facade = Surface::Facade { colour: [0.5; 3], number: 1 };
        let wall = Solid::upright(bounds([-30.0, 25.0, 0.0], [30.0, 30.0, 9.0]), ObjectId(1), facade);
        let caster = Caster::new(Arc::new(Solids::new(vec![wall])), Solids::new(Vec::new()));
        let origin = Vector::new(0.0, 0.0, 2.5);
        let hit = caster.cast(origin, Vector::Y, 50.0).unwrap();
        let mut walls = Vec::new();
        Wall::note(&mut walls, &hit);
        Wall::note(&mut walls, &hit);
        assert_eq!(walls.len(), 1);
        // At (10, 10), 15 m before the wall: its image is at (10, 40), and with 5 m/s to the right moves to the right too.
        let point = Vector::new(10.0, 10.0, 2.5);
        let bounce = walls[0].bounce(&caster, origin, point, Vector::X * 5.0, 3.893e-3).unwrap();
        let length = 1700f64.sqrt();
        assert!((bounce.length - length).abs() < 1e-3);
        assert!((f64::from(bounce.ray.x) - 10.0 / length).abs() < 1e-5);
        assert!((bounce.speed - 50.0 / length).abs() < 1e-4, "{}", bounce.speed);
        // Straight on, concrete reflects (√5.24 − 1)/(√5.24 + 1) = 0.392 of a field; roughness leaves 0.626 of it.
        let ahead = Vector::new(0.1, 10.0, 2.5);
        let bounce = walls[0].bounce(&caster, origin, ahead, Vector::ZERO, 3.893e-3).unwrap();
        assert!((bounce.reflection - 0.392 * 0.626).abs() < 0.003, "{}", bounce.reflection);
        // Beside the wall's end there is no mirror.
        let aside = Vector::new(150.0, 10.0, 2.5);
        assert!(walls[0].bounce(&caster, origin, aside, Vector::ZERO, 3.893e-3).is_none());
    }
}
