//! Mirrors: flat sides of buildings and vehicles, and the ground.
//!
//! A mirror throws back Fresnel's share of the wave, less what its roughness scatters, and of that what falls on it: a
//! side that is not large against the Fresnel zone is the opening that TR 38.901's screen is the stopper of.

use num_complex::Complex64;
use parry3d::math::Vector;

use super::diffraction::Edge;
use crate::simulate::solid::Surface;
use crate::simulate::world::Reflector;
use crate::space::LIGHT_MPS;

impl Reflector {
    /// The mirror image of a point.
    pub(super) fn image(&self, point: Vector) -> Vector {
        point - self.normal * (2.0 * self.height_of(point))
    }

    /// How far in front of it a point is, metres.
    pub(super) fn height_of(&self, point: Vector) -> f32 {
        (point - self.centre).dot(self.normal)
    }

    pub(super) const fn is_building(&self) -> bool {
        matches!(self.surface, Surface::Facade { .. })
    }

    /// Where the way from `from` to the mirror image `image` meets its plane; `None` when `from` is not in front of it or
    /// `image` not behind.
    pub(super) fn meets(&self, from: Vector, image: Vector) -> Option<Vector> {
        let (front, behind) = (self.height_of(from), self.height_of(image));
        (front > 0.01 && behind < -0.01).then(|| from + (image - from) * (front / (front - behind)))
    }

    /// Amplitude of the share of a path that falls on it, 0…1: the path meets its plane in `at`, `d1` metres from one end
    /// and `d2` from the other, with direction `towards`.
    pub(super) fn share(&self, at: Vector, towards: Vector, [d1, d2]: [f64; 2], wavelength: f64) -> f64 {
        let edge = Edge::new(d1, d2, wavelength);
        let (out, up) = ((at - self.centre).dot(self.along), at.z - self.centre.z);
        // Seen along the path, a side is foreshortened.
        let across = f64::from((1.0 - towards.dot(self.along).powi(2)).max(0.0)).sqrt();
        let upright = f64::from((1.0 - towards.z * towards.z).max(0.0)).sqrt();
        let opening = |half: f32, at: f32, by: f64| {
            edge.between(f64::from(-half - at) * by, f64::from(half - at) * by).clamp(0.0, 1.0)
        };
        opening(self.half_width, out, across) * opening(self.half_height, up, upright)
    }

    /// Its reflection coefficient for vertical polarisation and a path that meets it in `at` with direction `towards`.
    pub(super) fn coefficient(
        &self,
        at: Vector,
        towards: Vector,
        carrier_hz: f64,
        roughness_m: f64,
    ) -> Complex64 {
        let material = self.material(at);
        let cosine = f64::from(towards.dot(self.normal)).abs().min(1.0);
        let rough = if material.is_smooth() { 1.0 } else { roughness(roughness_m, cosine, carrier_hz) };
        material.perpendicular(carrier_hz, cosine) * rough
    }

    fn material(&self, at: Vector) -> Material {
        match self.surface {
            Surface::Glass => Material::Glass,
            // The band of panes of a bus.
            Surface::Windows { from_z, .. } if at.z > self.centre.z - self.half_height + from_z => {
                Material::Glass
            }
            Surface::Facade { .. } => Material::Concrete,
            Surface::Bark => Material::Wood,
            _ => Material::Metal,
        }
    }
}

/// What a mirror is made of: Recommendation ITU-R P.2040-3, table 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Material {
    /// 1…100 GHz; walls under plaster, and the ground, for which the table has nothing at 60 GHz.
    Concrete,
    /// 0.1…100 GHz.
    Glass,
    /// 0.001…100 GHz.
    Wood,
    /// 1…100 GHz.
    Metal,
}

impl Material {
    const fn is_smooth(self) -> bool {
        matches!(self, Self::Glass | Self::Metal)
    }

    /// Complex relative permittivity: ε′ = a·f^b, σ = c·f^d in S/m, ε″ = 17.98·σ/f, f in GHz.
    pub(super) fn permittivity(self, carrier_hz: f64) -> Complex64 {
        let [a, b, c, d] = match self {
            Self::Concrete => [5.24, 0.0, 0.0462, 0.7822],
            Self::Glass => [6.31, 0.0, 0.0036, 1.3394],
            Self::Wood => [1.99, 0.0, 0.0047, 1.0718],
            Self::Metal => [1.0, 0.0, 1e7, 0.0],
        };
        let f = carrier_hz / 1e9;
        Complex64::new(a * f.powf(b), -17.98 * c * f.powf(d) / f)
    }

    /// Fresnel's coefficient of the field across the plane of incidence (a vertical field on an upright wall), `cosine`
    /// that of the angle from the normal: P.2040-3, clause 2.2, from air.
    pub(super) fn perpendicular(self, carrier_hz: f64, cosine: f64) -> Complex64 {
        let inside = (self.permittivity(carrier_hz) - (1.0 - cosine * cosine)).sqrt();
        (cosine - inside) / (cosine + inside)
    }

    /// The same of the field in the plane of incidence (a vertical field on the ground).
    pub(super) fn parallel(self, carrier_hz: f64, cosine: f64) -> Complex64 {
        let epsilon = self.permittivity(carrier_hz);
        let inside = (epsilon - (1.0 - cosine * cosine)).sqrt();
        (epsilon * cosine - inside) / (epsilon * cosine + inside)
    }
}

/// Amplitude that a rough surface leaves in the mirror's direction: exp(−½·(4π·σ·cosθ/λ)²), W. S. Ament, "Toward a theory
/// of reflection by a rough surface", Proc. IRE 41, 1953; the exponent is half the square of Rayleigh's phase.
pub(super) fn roughness(rms_m: f64, cosine: f64, carrier_hz: f64) -> f64 {
    let phase = 4.0 * std::f64::consts::PI * rms_m * cosine * carrier_hz / LIGHT_MPS;
    (-phase * phase / 2.0).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::solid::ObjectId;

    #[test]
    fn materials_are_those_of_the_recommendation() {
        // Concrete at 60 GHz: σ = 0.0462·60^0.7822 = 1.137 S/m, ε″ = 17.98·1.137/60 = 0.3406.
        let concrete = Material::Concrete.permittivity(60e9);
        assert!((concrete.re - 5.24).abs() < 1e-12 && (concrete.im + 0.3406).abs() < 1e-3, "{concrete}");
        let glass = Material::Glass.permittivity(60e9);
        // σ = 0.0036·60^1.3394 = 0.8669 S/m.
        assert!((glass.re - 6.31).abs() < 1e-12 && (glass.im + 0.2598).abs() < 1e-3, "{glass}");
    }

    #[test]
    fn fresnel_is_right_where_the_answer_is_known() {
        // Straight on: (1 − √ε)/(1 + √ε); √5.24 = 2.289, 0.392 or 8.1 dB; the loss moves the third digit.
        let straight = Material::Concrete.perpendicular(60e9, 1.0);
        assert!((straight.norm() - 0.392).abs() < 0.002 && straight.re < 0.0, "{straight}");
        assert!((Material::Concrete.parallel(60e9, 1.0) + straight).norm() < 1e-12);
        // Grazing, everything is thrown back, upside down; metal always does so.
        assert!((Material::Concrete.perpendicular(60e9, 1e-6) + 1.0).norm() < 1e-5);
        assert!((Material::Concrete.parallel(60e9, 1e-6) + 1.0).norm() < 1e-4);
        assert!((Material::Metal.perpendicular(60e9, 0.5) + 1.0).norm() < 1e-3);
        // Brewster's angle: tan θ = √ε; nothing but the loss is left.
        let brewster = 1.0 / (1.0f64 + 5.24).sqrt();
        assert!(Material::Concrete.parallel(60e9, brewster).norm() < 0.03);
    }

    #[test]
    fn roughness_scatters_most_straight_on() {
        // σ = 0.3 mm, λ = 5 mm: 4π·0.06 = 0.754, exp(−0.2842) = 0.7526.
        let hz = LIGHT_MPS / 0.005;
        assert!((roughness(3e-4, 1.0, hz) - 0.7526).abs() < 1e-4);
        assert!(roughness(3e-4, 0.2, hz) > 0.98);
        assert_eq!(roughness(0.0, 1.0, hz), 1.0);
    }

    fn wall(half_width: f32) -> Reflector {
        Reflector {
            centre: Vector::new(0.0, 10.0, 5.0),
            normal: -Vector::Y,
            along: Vector::X,
            half_width,
            half_height: 5.0,
            object: ObjectId(1),
            surface: Surface::Facade { colour: [0.5; 3], number: 1 },
        }
    }

    #[test]
    fn the_mirror_point_is_where_angles_are_equal() {
        let (from, to) = (Vector::new(-5.0, 0.0, 3.0), Vector::new(5.0, 5.0, 3.0));
        let wall = wall(20.0);
        let image = wall.image(to);
        assert_eq!(image, Vector::new(5.0, 15.0, 3.0));
        let at = wall.meets(from, image).unwrap();
        // 10 and 5 m from the wall: two thirds of the way.
        assert!((at - Vector::new(5.0 / 3.0, 10.0, 3.0)).length() < 1e-5, "{at}");
        assert_eq!(wall.meets(Vector::new(0.0, 11.0, 3.0), image), None);
        assert_eq!(wall.meets(from, wall.image(Vector::new(0.0, 12.0, 3.0))), None);
    }

    #[test]
    fn a_mirror_throws_back_what_falls_on_it() {
        let share =
            |half: f32, x: f32| wall(half).share(Vector::new(x, 10.0, 5.0), Vector::Y, [10.0, 10.0], 0.005);
        assert!(share(20.0, 0.0) > 0.95);
        assert!((share(20.0, 20.0) / share(20.0, 0.0) - 0.5).abs() < 0.02, "its edge throws back half");
        assert!(share(20.0, 22.0) < 0.02 && share(0.01, 0.0) < 0.1);
    }

    #[test]
    fn the_side_of_a_bus_is_metal_with_a_band_of_panes() {
        let near = Reflector {
            centre: Vector::new(3.0, 6.75, 1.7),
            half_height: 1.4,
            surface: Surface::Windows { colour: [0.5; 3], from_z: 1.0 },
            ..wall(6.0)
        };
        assert_eq!(near.material(Vector::new(3.0, 6.75, 1.0)), Material::Metal);
        assert_eq!(near.material(Vector::new(3.0, 6.75, 2.0)), Material::Glass);
    }
}
