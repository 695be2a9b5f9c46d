//! Dirt on the camera's window: blotches that next to nothing gets through, and a film of dust between them.
//!
//! The window lies far out of focus, so that a place of the image sees a mean over many grains: of the light that comes
//! from there a share is kept, and light from elsewhere is added. Blotches pass on a part of what falls on the window from
//! outside, in all directions alike. Dust scatters the sun's light forward, by the phase function of Henyey and Greenstein
//! (1941), (1 − g²) / (4π·(1 + g² − 2g·cos θ)^1.5) per steradian, with a g of 0.8 for grains much larger than the
//! wavelength: clear against a dull sky, worse against a low sun.

use std::f32::consts::PI;

use parry3d::math::Vector;

use super::background::LUMA;
use super::lens::View;
use super::light::{Light, Rgb, bounce};
use super::tone::Small;
use crate::simulate::random::Random;
use crate::simulate::soiling::{Level, Octave};

/// Share of the light that a blotch takes.
const OPAQUE: f32 = 0.99;
/// What falls on a blotch from outside comes out of it at this share.
const PASSES: f32 = 0.4;
/// Share of the light that the film between blotches takes, for a window all of blotches.
const FILM: f32 = 0.5;
/// Blotches over the width of the image.
const OCTAVES: [Octave; 3] = [
    Octave { cells: 5.0, weight: 0.55 },
    Octave { cells: 11.0, weight: 0.3 },
    Octave { cells: 23.0, weight: 0.15 },
];
/// Asymmetry of what dust scatters.
const FORWARD: f32 = 0.8;

/// A window, by place of the image.
#[derive(Debug)]
pub(super) struct Dirt {
    /// Share of the light that is kept.
    keeps: Small,
    /// Light that is added, cd/m².
    adds: Small,
}

/// Per steradian.
fn scattered(cosine: f32) -> f32 {
    let square = FORWARD * FORWARD;
    (1.0 - square) / (4.0 * PI * (1.0 + square - 2.0 * FORWARD * cosine).powf(1.5))
}

impl Dirt {
    /// A window of which blotches cover `share`; `sees_sun` says that nothing stands before the sun, which
    /// shines on the window where it is before it.
    pub fn new(view: &View, light: &Light, sees_sun: bool, share: f64, random: &mut Random) -> Self {
        let salt = random.bits() as u32;
        let (width, height) = (view.width(), view.height());
        let draw = |x: f64, y: f64| {
            let [x, y] = [x, y].map(|at| at as f32 / width as f32);
            Rgb::splat(OCTAVES.iter().map(|octave| octave.at(x, y, false, salt)).sum::<f32>())
        };
        let field = Small::of(width, height, draw);
        let level = Level::of(field.pixels().iter().map(|value| value.x).collect(), share);
        let around = (light.sky + bounce(light)) * 0.5;
        let on_window = if sees_sun { light.to_sun.dot(view.forward()).max(0.0) } else { 0.0 };
        let (mut keeps, mut adds) = (field.clone(), field.clone());
        let film = FILM * share as f32;
        let each = keeps.pixels_mut().iter_mut().zip(adds.pixels_mut());
        for ((keep, add), (value, ray)) in each.zip(field.pixels().iter().zip(field.rays(view))) {
            let cover = level.cover(value.x);
            let (blotch, dust) = (cover * OPAQUE, (1.0 - cover) * film);
            *keep = Rgb::splat(1.0 - blotch - dust);
            let diffuse = (around + light.sun * on_window) * (PASSES / PI);
            let sun = if on_window > 0.0 { light.sun * scattered(ray.dot(light.to_sun)) } else { Rgb::ZERO };
            *add = diffuse * blotch + (around * (PASSES / PI) + sun) * dust;
        }
        Self { keeps, adds }
    }

    /// A pixel of the image behind it.
    pub fn on(&self, light: Rgb, column: usize, row: usize) -> Rgb {
        light * self.keeps.at(column, row) + self.adds.at(column, row)
    }

    /// Puts a row of the image behind it; `lines` is room to work in.
    pub fn cover(&self, y: usize, row: &mut [Rgb], lines: &mut [Vec<Rgb>; 2]) {
        let [keeps, adds] = lines;
        self.keeps.row(y, keeps);
        self.adds.row(y, adds);
        for (x, pixel) in row.iter_mut().enumerate() {
            *pixel = *pixel * Small::between(keeps, x) + Small::between(adds, x);
        }
    }

    /// Mean of the logarithm of the luminance of an image behind it, as a luminance, cd/m²: of every fourth pixel of every
    /// fourth row of `image`, whose pixels are asked for by number.
    pub fn mean(&self, view: &View, image: impl Fn(usize) -> Vector) -> f32 {
        const STEP: usize = 4;
        let (mut sum, mut count) = (0.0, 0.0);
        for row in (0..view.height()).step_by(STEP) {
            for column in (0..view.width()).step_by(STEP) {
                let seen = self.on(image(row * view.width() + column), column, row);
                sum += seen.dot(LUMA).max(1e-4).ln();
                count += 1.0;
            }
        }
        (sum / f32::max(count, 1.0)).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::camera::lens::Lens;
    use crate::simulate::random::Purpose;
    use crate::simulate::scene::Weather;
    use nalgebra::Isometry3;

    fn dirt(share: f64, weather: &Weather, sees_sun: bool) -> Dirt {
        let view = View::new(Lens::pinhole(320, 180, 90.0), Isometry3::identity());
        let mut random = Random::new(1, 0, 0, Purpose::Dirt);
        Dirt::new(&view, &Light::outdoors(weather, &[]), sees_sun, share, &mut random)
    }

    #[test]
    fn as_much_is_covered_as_is_said_and_in_blotches() {
        for share in [0.2, 0.5, 0.8] {
            let dirt = dirt(share, &Weather::default(), false);
            // Halfway from the film to a blotch.
            let half = 0.5 - 0.25 * share as f32;
            let dark: Vec<bool> = dirt.keeps.pixels().iter().map(|keeps| keeps.x < half).collect();
            let found = dark.iter().filter(|is| **is).count() as f64 / dark.len() as f64;
            assert!((found - share).abs() < 0.03, "{found} of {share}");
            // Neighbours are mostly alike.
            let changes = dark.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!((changes as f64) < 0.12 * dark.len() as f64, "{changes} of {}", dark.len());
        }
        let all = dirt(1.0, &Weather::default(), false);
        assert!(all.keeps.pixels().iter().all(|keeps| keeps.x < 0.04));
    }

    #[test]
    fn dust_blinds_against_the_sun_and_not_beside_it() {
        // By hand, g = 0.8: at 0° 0.36 / (4π·0.2³) = 3.581, at 90° 0.36 / (4π·1.64^1.5) = 0.01364.
        assert!((scattered(1.0) - 3.581).abs() < 1e-3 && (scattered(0.0) - 0.013_64).abs() < 1e-5);
        let low = Weather { sun_elevation_deg: 5.0, sun_azimuth_deg: 0.0, ..Weather::default() };
        let [shone, shaded] = [true, false].map(|sees_sun| {
            let dirt = dirt(0.3, &low, sees_sun);
            dirt.on(Rgb::ZERO, 160, 90).y
        });
        assert!(shone > 5.0 * shaded && shaded > 0.0, "{shone} {shaded}");
    }
}
