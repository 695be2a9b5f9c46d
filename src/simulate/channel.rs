//! The 60 GHz link: a uniform linear array at the unit, one antenna on the roof of a car.
//!
//! A path is a complex gain and a direction. The line of sight loses power with distance (Friis), and by knife-edge
//! diffraction when an object stands in it; each facade gives one reflection (image method) that is there when nothing
//! cuts it. The power of beam b is |Σ_paths g·a_b(path)|² plus a floor.

use num_complex::Complex64;
use parry3d::bounding_volume::Aabb;
use parry3d::math::Vector;

use super::caster::Caster;
use super::random::{Purpose, Random};
use super::scene::{Link, Scene};
use super::world::Facade;

/// Speed of light, m/s.
const LIGHT: f64 = 299_792_458.0;
/// Range at which [`Link::power_at_10_m`] is stated, metres.
const REFERENCE_M: f64 = 10.0;

/// What the link does at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkState {
    /// Linear power per beam, in the unit of [`Link::power_at_10_m`].
    pub power: Vec<f64>,
    /// Whether an object cuts the line of sight.
    pub is_blocked: bool,
    /// What the objects in the line of sight take, dB; 0 when it is free.
    pub blockage_db: f64,
}

impl LinkState {
    /// The strongest beam, from 0, and its power.
    #[must_use]
    pub fn best(&self) -> (usize, f64) {
        self.power.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0))
    }
}

/// One way of the wave from the unit to the UE.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Path {
    /// Amplitude and phase; |gain|² = 1 is a free line of sight at 10 m.
    gain: Complex64,
    /// Sine of the angle from boresight towards +x: the direction's x component.
    sine: f64,
}

/// Measures the link between the unit and an antenna at `ue`.
pub(super) fn measure(
    scene: &Scene,
    caster: &Caster,
    facades: &[Facade],
    ue: Vector,
    random: &mut Random,
) -> LinkState {
    let link = &scene.link;
    let wavelength = LIGHT / link.carrier_hz;
    let unit = Vector::from(link.position_m.map(|metres| metres as f32));
    let in_the_way = caster.between(unit, ue);
    let blockage_db: f64 = in_the_way
        .iter()
        .filter_map(|&object| caster.bounds(object))
        .map(|bounds| diffraction_db(unit, ue, &bounds, wavelength))
        .sum();
    let mut paths = vec![path(unit, ue, distance(unit, ue), blockage_db, wavelength)];
    paths.extend(facades.iter().filter_map(|facade| reflection(link, caster, facade, unit, ue, wavelength)));
    let power = (0..scene.beams())
        .map(|beam| {
            let steered = steering_sine(link, scene.beams(), beam);
            let sum: Complex64 =
                paths.iter().map(|path| path.gain * array_factor(link.elements, path.sine - steered)).sum();
            let clean = link.power_at_10_m * sum.norm_sqr() + link.floor;
            clean * 10f64.powf(link.noise_db * f64::from(random.normal()) / 10.0)
        })
        .collect();
    LinkState { power, is_blocked: !in_the_way.is_empty(), blockage_db }
}

/// The stream of a link's measurement noise.
pub(super) fn noise(scene: &Scene, sequence: usize, frame: usize) -> Random {
    Random::new(scene.seed, sequence, frame, Purpose::Link)
}

/// Sine of the angle at which a beam has its peak: angles are uniform over the sector, beam 0 leftmost.
fn steering_sine(link: &Link, beams: usize, beam: usize) -> f64 {
    let step = 2.0 * link.sector_deg / (beams - 1) as f64;
    (-link.sector_deg + step * beam as f64).to_radians().sin()
}

/// Σ_m e^{jπm·Δ}/N of N elements half a wavelength apart, Δ the difference of the sines: 1 on the peak.
fn array_factor(elements: usize, difference: f64) -> Complex64 {
    (0..elements)
        .map(|element| Complex64::from_polar(1.0, std::f64::consts::PI * element as f64 * difference))
        .sum::<Complex64>()
        / elements as f64
}

fn distance(a: Vector, b: Vector) -> f64 {
    [a.x - b.x, a.y - b.y, a.z - b.z].into_iter().map(|part| f64::from(part).powi(2)).sum::<f64>().sqrt()
}

/// Leaving `unit` towards `towards`, `length` metres long: Friis, and `loss_db` besides.
fn path(unit: Vector, towards: Vector, length: f64, loss_db: f64, wavelength: f64) -> Path {
    let amplitude = REFERENCE_M / length * 10f64.powf(-loss_db / 20.0);
    let direction = (towards - unit).normalize();
    // The pattern of one element: cosine of the angle from boresight, nothing to the back.
    let element = f64::from(direction.y.max(0.0)).sqrt();
    let phase = -std::f64::consts::TAU * length / wavelength;
    Path { gain: Complex64::from_polar(amplitude * element, phase), sine: f64::from(direction.x) }
}

/// Image method: the UE mirrored in the front of a building; `None` when the mirror point is not on the building or
/// one of the two legs is cut.
fn reflection(
    link: &Link,
    caster: &Caster,
    facade: &Facade,
    unit: Vector,
    ue: Vector,
    wavelength: f64,
) -> Option<Path> {
    let image = Vector::new(ue.x, 2.0 * facade.y - ue.y, ue.z);
    let share = (facade.y - unit.y) / (image.y - unit.y);
    let mirror = unit + (image - unit) * share;
    let on_it = (facade.from_x..facade.to_x).contains(&mirror.x) && (0.0..facade.height).contains(&mirror.z);
    if !on_it || ue.y >= facade.y || !caster.is_free(unit, mirror) || !caster.is_free(ue, mirror) {
        return None;
    }
    Some(path(unit, mirror, distance(unit, image), link.reflection_db, wavelength))
}

/// Loss of an object in a line of sight, dB: the best of the ways over its top and around its two sides, each a single
/// knife edge.
fn diffraction_db(from: Vector, to: Vector, bounds: &Aabb, wavelength: f64) -> f64 {
    let length = distance(from, to);
    // Of an edge that stands `height` metres out of the line, `share` of the way along it.
    let loss = |height: f64, share: f64| {
        let (d1, d2) = (share * length, (1.0 - share) * length);
        if d1 <= 0.0 || d2 <= 0.0 { 0.0 } else { knife_edge_db(fresnel(height, d1, d2, wavelength)) }
    };
    let share_of = |y: f32| f64::from((y - from.y) / (to.y - from.y)).clamp(0.0, 1.0);
    let at = |share: f64| from + (to - from) * share as f32;
    // A thick object has a front and a back edge: the worse of the two counts.
    let worst = |height: &dyn Fn(Vector) -> f64| {
        [bounds.mins.y, bounds.maxs.y]
            .into_iter()
            .map(|y| loss(height(at(share_of(y))), share_of(y)))
            .fold(0.0f64, f64::max)
    };
    // Across the line, not across the street.
    let lean = f64::from((to.y - from.y).abs()) / f64::from((to.x - from.x).hypot(to.y - from.y)).max(1e-6);
    let over = worst(&|place| f64::from(bounds.maxs.z - place.z));
    let left = worst(&|place| f64::from(place.x - bounds.mins.x) * lean);
    let right = worst(&|place| f64::from(bounds.maxs.x - place.x) * lean);
    over.min(left).min(right)
}

/// ν of ITU-R P.526: h·√(2/λ·(1/d1 + 1/d2)).
fn fresnel(height: f64, d1: f64, d2: f64, wavelength: f64) -> f64 {
    height * (2.0 / wavelength * (1.0 / d1 + 1.0 / d2)).sqrt()
}

/// J(ν) of ITU-R P.526, dB: 6.9 + 20 log10(√((ν − 0.1)² + 1) + ν − 0.1) above ν = −0.78, nothing below.
fn knife_edge_db(nu: f64) -> f64 {
    if nu <= -0.78 {
        return 0.0;
    }
    let shifted = nu - 0.1;
    (6.9 + 20.0 * (shifted.hypot(1.0) + shifted).log10()).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knife_edges_match_the_recommendation() {
        // P.526, figure 9: 6.0 dB where the edge touches the line, 13.9 dB at ν = 1, 19.0 at 2, 32.9 at 10.
        for (nu, expected) in [(-1.0, 0.0), (0.0, 6.0), (1.0, 13.9), (2.0, 19.0), (10.0, 32.9)] {
            let found = knife_edge_db(nu);
            assert!((found - expected).abs() < 0.15, "J({nu}) = {found} instead of {expected}");
        }
    }

    #[test]
    fn beams_peak_where_they_point_in_index_order() {
        let link = Link::default();
        let gain = |beam: usize, degrees: f64| {
            array_factor(link.elements, degrees.to_radians().sin() - steering_sine(&link, 64, beam)).norm()
        };
        assert!((gain(0, -45.0) - 1.0).abs() < 1e-12 && (gain(63, 45.0) - 1.0).abs() < 1e-12);
        let best =
            |degrees: f64| (0..64).max_by(|&a, &b| gain(a, degrees).total_cmp(&gain(b, degrees))).unwrap();
        assert_eq!((best(-45.0), best(-20.0), best(0.5), best(30.5)), (0, 17, 32, 53));
    }

    #[test]
    fn an_object_takes_more_the_deeper_the_shadow() {
        let (from, to) = (Vector::new(0.0, 0.0, 3.5), Vector::new(0.0, 17.0, 1.6));
        let loss = |x: f32, top: f32| {
            let bounds = Aabb::new(Vector::new(x - 5.0, 5.0, 0.0), Vector::new(x + 5.0, 8.0, top));
            diffraction_db(from, to, &bounds, 0.005)
        };
        assert!((loss(0.0, 3.8) - 33.0).abs() < 4.0, "{}", loss(0.0, 3.8));
        assert!(loss(0.0, 2.9) < loss(0.0, 3.8));
        assert!(loss(4.7, 3.8) < loss(0.0, 3.8));
        assert!(loss(0.0, 3.8) == loss(1.0, 3.8), "over its top, wherever it stands");
    }
}
