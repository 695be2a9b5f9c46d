//! Rain before the lens: drops near the camera, each a streak as long as it falls while the shutter is open.
//!
//! Sizes and numbers are those of Marshall and Palmer (1948), N(D) = 8,000 exp(−ΛD) per m³ and mm with Λ = 4.1 R^−0.21
//! per mm; a drop of D mm falls with 9.65 − 10.3 exp(−0.6 D) m/s (Atlas, Srivastava and Sekhon 1973). Drops further away
//! are not seen one by one: they are part of the air's extinction.

use parry3d::math::Vector;

use super::super::random::Random;
use super::lens::View;
use super::light::{Light, Rgb};

/// Smallest drop that is drawn, mm.
const SMALLEST_MM: f32 = 0.8;
/// Nearest and furthest drop that is drawn, metres before the camera.
const NEAR_M: f32 = 0.4;
const FAR_M: f32 = 4.0;
/// Most drops of an image.
const MOST: f32 = 15_000.0;

/// Drops of at least [`SMALLEST_MM`] per m³.
fn density(rain_mm_h: f32) -> f32 {
    let slope = 4.1 * rain_mm_h.powf(-0.21);
    8000.0 / slope * (-slope * SMALLEST_MM).exp()
}

/// Speed of a falling drop, m/s.
fn fall_mps(diameter_mm: f32) -> f32 {
    9.65 - 10.3 * (-0.6 * diameter_mm).exp()
}

/// Draws the drops of an exposure into the light of an image.
pub(super) fn rain(view: &View, light: &Light, seconds: f32, image: &mut [Rgb], random: &mut Random) {
    if light.rain_mm_h <= 0.0 {
        return;
    }
    let (width, height) = (view.width() as f32, view.height() as f32);
    let focal = 1.0 / view.pixel();
    let volume = width * height / (focal * focal) * (FAR_M.powi(3) - NEAR_M.powi(3)) / 3.0;
    let count = (density(light.rain_mm_h) * volume).min(MOST) as usize;
    let slope = 4.1 * light.rain_mm_h.powf(-0.21);
    // A drop bends light of a wide part of the sky into the camera.
    let bright =
        light.sky / std::f32::consts::PI * 0.8 + light.lamp_cd * (light.lamps.len().min(1) as f32 * 0.004);
    let slant = 0.12 * random.normal();
    for _ in 0..count {
        let (x, y) = (random.uniform() * width, random.between(-0.1, 1.0) * height);
        let cube = random.uniform();
        let distance = (NEAR_M.powi(3) + cube * (FAR_M.powi(3) - NEAR_M.powi(3))).cbrt();
        let diameter = (SMALLEST_MM - (1.0 - random.uniform()).ln() / slope).min(6.0);
        let wide = diameter * 1e-3 / distance * focal;
        let long = (fall_mps(diameter) * seconds / distance * focal).max(wide);
        // Spread over its way, each place is behind the drop for a part of the time.
        let cover = (wide / long).min(1.0) * wide.min(1.0);
        let steps = long.ceil().min(200.0);
        let columns = wide.ceil().max(1.0) as usize;
        for step in 0..steps as usize {
            let down = step as f32 / steps * long;
            let (row, column) = (y + down, x + down * slant);
            if row < 0.0 || row >= height || column < 0.0 {
                continue;
            }
            for aside in 0..columns {
                let column = column as usize + aside;
                if column < view.width() {
                    let pixel = &mut image[row as usize * view.width() + column];
                    *pixel += (bright - *pixel) * cover.max(0.06);
                }
            }
        }
    }
}

/// The share of light that lens and air scatter forward on its last way; in fog lamps get halos.
pub(super) fn scatter(light: &Light) -> f32 {
    let fog = 1.0 - light.clear(25.0);
    0.012 + 0.25 * fog
}

/// The veil that a sun before the lens lays over the image, cd/m², by the disability glare of Stiles and Holladay, c E /
/// θ² (θ in degrees, at least 1), with c = 1.5 for a coated lens in place of the eye's 10.
pub(super) fn veil(light: &Light, ray: Vector) -> Rgb {
    let angle = ray.dot(light.to_sun).clamp(-1.0, 1.0).acos().to_degrees();
    if angle > 75.0 { Rgb::ZERO } else { light.sun * (1.5 / angle.max(1.0).powi(2)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::camera::lens::Lens;
    use crate::simulate::random::Purpose;
    use crate::simulate::scene::Weather;
    use nalgebra::Isometry3;

    #[test]
    fn drops_are_as_many_and_as_fast_as_measured() {
        // R = 10 mm/h: Λ = 4.1·10^−0.21 = 2.528; 8000 / 2.528 · exp(−2.022) = 419 per m³.
        assert!((density(10.0) - 418.9).abs() < 2.0, "{}", density(10.0));
        // 2 mm: 9.65 − 10.3·0.3012 = 6.55 m/s.
        assert!((fall_mps(2.0) - 6.55).abs() < 0.01);
    }

    #[test]
    fn rain_changes_an_image_and_its_absence_does_not() {
        let view = View::new(Lens::pinhole(160, 90, 90.0), Isometry3::identity());
        let changed = |rain_mm_h: f64| {
            let light = Light::outdoors(&Weather { rain_mm_h, ..Weather::default() }, &[]);
            let mut image = vec![Rgb::splat(100.0); 160 * 90];
            let mut random = Random::new(1, 0, 0, Purpose::Camera);
            rain(&view, &light, 0.01, &mut image, &mut random);
            image.iter().filter(|pixel| pixel.x != 100.0).count()
        };
        let [none, light, heavy] = [0.0, 2.0, 20.0].map(changed);
        assert!(none == 0 && light > 100 && heavy > light, "{none} {light} {heavy}");
    }

    #[test]
    fn the_veil_falls_with_the_square_of_the_angle() {
        let weather = Weather { sun_elevation_deg: 5.0, sun_azimuth_deg: 0.0, ..Weather::default() };
        let light = Light::outdoors(&weather, &[]);
        let at = |degrees: f32| {
            let up = (5.0 + degrees).to_radians();
            veil(&light, Vector::new(0.0, up.cos(), up.sin())).y
        };
        assert!((at(10.0) / at(20.0) - 4.0).abs() < 0.01 && at(80.0) == 0.0, "{} {}", at(10.0), at(20.0));
    }
}
