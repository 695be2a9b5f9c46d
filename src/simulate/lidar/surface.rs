//! What surfaces send back of a beam of near-infrared light.

use parry3d::math::Vector;

use super::super::caster::{Caster, Hit};
use super::super::ground::{Ground, Patch};
use super::super::random::grain;
use super::super::solid::Surface;

/// Of light: reflectivity of a white wall seen straight on is 1; that of something that sends it back where it came from
/// can be far more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Echo {
    /// Along the beam, metres.
    pub range: f32,
    /// The ρ of the radar equation.
    pub reflectivity: f32,
}

/// Refractive index of window glass and of water.
const GLASS: f32 = 1.5;
const WATER: f32 = 1.33;
/// Share of light from all sides that water reflects from outside.
const DIFFUSE_OUTSIDE: f32 = 0.066;
/// Widest incidence at which a retro-reflector works, as cosine: 45°.
const RETRO_COSINE: f32 = 0.7;
/// A number plate returns 45 cd/(lx·m²) (ISO 7591, white sheeting); π times that is its ρ.
const PLATE: f32 = 141.0;
/// A lamp with its reflector: its class returns as much as a plate, but covers a part of the lamp.
const LAMP: f32 = 20.0;

/// What can be asked about surfaces.
#[derive(Clone, Copy, Debug)]
pub struct Optics<'a> {
    /// What to cast a mirrored beam at.
    pub caster: &'a Caster,
    /// What lies on the ground; a floor without lanes where there is none.
    pub ground: Option<&'a Ground>,
    /// How wet the ground is, 0…1.
    pub wetness: f32,
}

impl Optics<'_> {
    /// The strongest echo of a beam (length 1) that hits a surface, of one ray.
    pub fn echo(&self, hit: &Hit, ray: Vector, max: f32) -> Echo {
        let cosine = hit.normal.dot(-ray).clamp(0.0, 1.0);
        let reflectivity = match hit.surface {
            Surface::Glass => return self.pane(hit, ray, cosine, max),
            Surface::Windows { from_z, .. }
                if hit.local_normal.y.abs() > 0.5 && hit.local.z + hit.half.z > from_z =>
            {
                return self.pane(hit, ray, cosine, max);
            }
            Surface::Lamp | Surface::TailLamp if cosine > RETRO_COSINE => LAMP,
            _ if is_plate(hit) && cosine > RETRO_COSINE => PLATE,
            Surface::Ground => self.ground(hit.point, cosine),
            _ => albedo(hit) * cosine,
        };
        Echo { range: hit.distance, reflectivity }
    }

    /// A pane: dust on it, what is behind it, or what is mirrored in it, whichever sends back most.
    fn pane(&self, hit: &Hit, ray: Vector, cosine: f32, max: f32) -> Echo {
        let mirrored = fresnel(cosine, GLASS);
        let through = 1.0 - mirrored;
        let dust = Echo { range: hit.distance, reflectivity: 0.02 * cosine };
        // Seats, people, shelves: somewhere behind it, fixed for a place of the pane (cells of 20 cm).
        let cell = |axis: f32| (axis * 5.0).floor() as i32;
        let deep = grain(cell(hit.local.x) ^ (cell(hit.local.y) << 8), cell(hit.local.z), 11);
        let behind = Echo {
            range: hit.distance + 0.3 + 1.2 * deep,
            reflectivity: 0.3 * deep * through.powi(2) * cosine,
        };
        let mut best = if behind.reflectivity / behind.range.powi(2) > dust.reflectivity / dust.range.powi(2)
        {
            behind
        } else {
            dust
        };
        // A mirror takes its share on the way there and on the way back; below 1 % nobody sees it.
        if mirrored * mirrored > 0.01 {
            let away = ray + hit.normal * (2.0 * cosine);
            let from = hit.point + hit.normal * 0.01;
            if let Some(image) = self.caster.cast(from, away, max - hit.distance) {
                let range = hit.distance + image.distance;
                let reflectivity =
                    albedo(&image) * image.normal.dot(-away).clamp(0.0, 1.0) * mirrored.powi(2);
                if reflectivity / range.powi(2) > best.reflectivity / best.range.powi(2) {
                    best = Echo { range, reflectivity };
                }
            }
        }
        best
    }

    /// The ground, dry or wet.
    fn ground(&self, point: Vector, cosine: f32) -> f32 {
        let patch = self.ground.map_or(Patch::Slab, |ground| ground.at(point.x, point.y));
        // ECOSTRESS spectral library (Meerdink et al. 2019) at 0.85 µm, rounded: asphalt, paint, concrete, grass.
        let dry = match patch {
            Patch::Asphalt => 0.15,
            Patch::Marking => 0.5,
            Patch::Grass => 0.45,
            _ => 0.3,
        };
        let dry = dry + 0.05 * grain((point.x * 4.0).floor() as i32, (point.y * 4.0).floor() as i32, 3);
        dry * cosine * (1.0 - self.wetness) + wet(dry, cosine) * cosine * self.wetness
    }
}

/// Reflectivity of a rough surface of this albedo A under a film of water, for a beam in and the same way out.
///
/// Lekner and Dorf (1988): the film lets 1 − F(θ) in (Fresnel) and mirrors the rest away; light that gets up from the
/// surface is thrown back by the film with probability p = 1 − (1 − r)/n², so that A/(1 − p·A) of it gets up in all; of its
/// radiance (1 − F(θ))/n² leaves the film in a direction.
fn wet(albedo: f32, cosine: f32) -> f32 {
    let kept = 1.0 - (1.0 - DIFFUSE_OUTSIDE) / (WATER * WATER);
    (1.0 - fresnel(cosine, WATER)).powi(2) * albedo / (WATER * WATER * (1.0 - kept * albedo))
}

/// Share of unpolarised light that a smooth surface of this refractive index reflects (Fresnel).
fn fresnel(cosine: f32, index: f32) -> f32 {
    let inside = (1.0 - (1.0 - cosine * cosine) / (index * index)).sqrt();
    let across = (cosine - index * inside) / (cosine + index * inside);
    let along = (index * cosine - inside) / (index * cosine + inside);
    (across * across + along * along) / 2.0
}

/// Diffuse reflectivity at 850 nm, 0…1. Near infrared cares little for colour; dark paint stays dark.
fn albedo(hit: &Hit) -> f32 {
    let mean = |colour: [f32; 3]| colour.iter().sum::<f32>() / 3.0;
    match hit.surface {
        Surface::Ground => 0.2,
        Surface::Facade { .. } => 0.45,
        Surface::Paint(colour) | Surface::Windows { colour, .. } => 0.1 + 0.7 * mean(colour),
        Surface::Glass => 0.02,
        Surface::Wheel | Surface::Chassis => 0.08,
        Surface::Lamp | Surface::TailLamp | Surface::StreetLamp => 0.3,
        Surface::Bark | Surface::Pole => 0.3,
        Surface::Leaves | Surface::Skin(_) => 0.5,
        Surface::Cloth(colour) => 0.2 + 0.5 * mean(colour),
        Surface::Hair(colour) => 0.1 + 0.4 * mean(colour),
    }
}

/// Whether a place is the number plate of a vehicle: 52 × 11 cm on the ends of its body.
fn is_plate(hit: &Hit) -> bool {
    let is_body = matches!(hit.surface, Surface::Paint(_) | Surface::Windows { .. } | Surface::Chassis)
        && hit.half.x > 1.0
        && hit.half.z < 2.0;
    is_body
        && hit.local_normal.x.abs() > 0.9
        && hit.local.y.abs() < 0.26
        && (hit.local.z + hit.half.z - 0.2).abs() < 0.055
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use super::super::super::caster::Solids;
    use super::super::super::solid::{ObjectId, Solid};
    use parry3d::bounding_volume::Aabb;

    #[test]
    fn fresnel_is_that_of_the_books() {
        // Straight on: ((n − 1)/(n + 1))², 4 % for glass and 2 % for water; at Brewster's angle half of the other
        // polarisation; along the surface all.
        assert!((fresnel(1.0, GLASS) - 0.04).abs() < 1e-4);
        assert!((fresnel(1.0, WATER) - 0.0201).abs() < 1e-4);
        let brewster = WATER.atan().cos();
        let across = ((WATER * WATER - 1.0) / (WATER * WATER + 1.0)).powi(2) / 2.0;
        assert!((fresnel(brewster, WATER) - across).abs() < 1e-5);
        assert!((fresnel(0.0, WATER) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_wet_road_is_darker_and_most_of_all_far_away() {
        let share = |cosine: f32| wet(0.17, cosine) / 0.17;
        // By hand: p = 1 − 0.934/1.7689 = 0.472, 0.9799²/(1.7689·(1 − 0.472·0.17)) = 0.590.
        assert!((share(1.0) - 0.590).abs() < 1e-3, "{}", share(1.0));
        // A sensor 4 m up sees the road at 40 m with a cosine of 0.1.
        assert!(share(0.1) < 0.5 * share(1.0) && share(0.1) > 0.0, "{}", share(0.1));
    }

    #[test]
    fn a_pane_shows_what_is_mirrored_in_it_when_seen_from_the_side() {
        let bounds = |mins: [f32; 3], maxs: [f32; 3]| Aabb::new(Vector::from(mins), Vector::from(maxs));
        let pane = Solid::upright(bounds([-9.0, 5.0, 0.0], [9.0, 6.0, 3.0]), ObjectId(1), Surface::Glass);
        let wall = Surface::Facade { colour: [0.9; 3], number: 1 };
        let wall = Solid::upright(bounds([12.0, -9.0, 0.0], [13.0, 9.0, 3.0]), ObjectId(2), wall);
        let caster = Caster::new(Arc::new(Solids::new(vec![pane, wall])), Solids::new(Vec::new()));
        let optics = Optics { caster: &caster, ground: None, wetness: 0.0 };
        let look = |x: f32| {
            let origin = Vector::new(x, 4.0, 1.0);
            let ray = (Vector::new(0.0, 5.0, 1.0) - origin).normalize();
            let hit = caster.cast(origin, ray, 100.0).unwrap();
            (hit.distance, optics.echo(&hit, ray, 100.0))
        };
        // Straight on: on the pane or at most 1.5 m behind it. From the side: the wall, at its mirrored distance.
        let (distance, echo) = look(0.0);
        assert!(echo.range - distance <= 1.5 && echo.range >= distance);
        let (distance, echo) = look(-8.0);
        assert!(
            (echo.range - distance - 12.0 * (65f32.sqrt() / 8.0)).abs() < 0.05,
            "{echo:?} behind {distance}"
        );
    }
}
