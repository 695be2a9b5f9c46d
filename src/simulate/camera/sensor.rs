//! The sensor: exposure, and the noise of light and of reading, in electrons.

use std::sync::LazyLock;

use super::super::random::Random;
use super::light::{Light, Rgb};

/// What an exposure can be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sensor {
    /// Exposure in daylight, seconds.
    pub exposure_s: f32,
    /// Longest exposure, seconds.
    pub longest_s: f32,
    /// Electrons that make a pixel white at the lowest gain.
    pub full_well_e: f32,
    /// Standard deviation of a reading, electrons.
    pub read_noise_e: f32,
}

impl Default for Sensor {
    fn default() -> Self {
        Self { exposure_s: 0.002, longest_s: 0.02, full_well_e: 10_000.0, read_noise_e: 3.0 }
    }
}

/// Mean luminance that the daylight exposure is made for, cd/m²: an 18 % grey at 60 klx.
const DAY_CD_M2: f32 = 3400.0;
/// Where the mean of the image comes to lie, 1 being white.
const KEY: f32 = 0.17;
/// The iris opens this much, f/8 to f/2.
const IRIS: f32 = 16.0;
/// Highest gain of the amplifier.
const GAIN: f32 = 32.0;

/// An automatic exposure: what the light of an image is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Exposure {
    /// Per cd/m², 1 being white.
    pub scale: Rgb,
    /// For how long the light is gathered, seconds.
    pub seconds: f32,
    /// Electrons of a white pixel.
    pub white_e: f32,
    pub read_noise_e: f32,
}

impl Exposure {
    /// For a mean luminance, cd/m²: time and iris share what is wanted until one is at its end, then the gain rises; what
    /// is darker than that stays dark. White balance goes half of the way to the colour of the light.
    pub fn new(sensor: &Sensor, light: &Light, mean: f32) -> Self {
        let wanted = DAY_CD_M2 / mean.max(1e-6);
        let longest = sensor.longest_s / sensor.exposure_s;
        let iris = wanted.sqrt().clamp(1.0, IRIS);
        let time = (wanted / iris).min(longest);
        let iris = (wanted / time).clamp(1.0, IRIS);
        let gain = (wanted / (time * iris)).clamp(1.0, GAIN);
        let lamps = if light.lamps.is_empty() { Rgb::ZERO } else { light.lamp_cd * (1.0 / 100.0) };
        let seen = light.global() + lamps + Rgb::splat(1e-6);
        let balance = |part: f32| (seen.y / part).powf(0.5);
        let scale = KEY / DAY_CD_M2 * time * iris * gain;
        Self {
            scale: Rgb::new(balance(seen.x), 1.0, balance(seen.z)) * scale,
            seconds: sensor.exposure_s * time,
            white_e: sensor.full_well_e / gain,
            read_noise_e: sensor.read_noise_e,
        }
    }
}

impl Exposure {
    /// Standard deviation of the noise of a pixel, 1 being white: √e of its e electrons, and that of reading.
    pub fn noise(&self, light: f32) -> f32 {
        ((light * self.white_e).max(0.0) + self.read_noise_e * self.read_noise_e).sqrt() / self.white_e
    }
}

/// Cells of equal probability of the normal distribution.
const CELLS: usize = 4096;

/// The middle of each cell of a normal distribution of mean 0 and standard deviation 1.
static NORMALS: LazyLock<Vec<f32>> =
    LazyLock::new(|| (0..CELLS).map(|cell| quantile((cell as f64 + 0.5) / CELLS as f64) as f32).collect());

/// Where a normal distribution has this share below, for shares within (0, 1): bisection of Φ(x) = erfc(−x/√2)/2, with
/// the erfc of Abramowitz and Stegun 7.1.26 (|error| < 1.5e−7).
fn quantile(share: f64) -> f64 {
    let below = |x: f64| {
        let z = x.abs() / std::f64::consts::SQRT_2;
        let t = 1.0 / (1.0 + 0.327_591_1 * z);
        let series = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
        let tail = series.iter().fold(0.0, |sum, part| (sum + part) * t) * (-z * z).exp() / 2.0;
        if x < 0.0 { tail } else { 1.0 - tail }
    };
    let (mut low, mut high) = (-6.0, 6.0);
    for _ in 0..50 {
        let middle = (low + high) / 2.0;
        if below(middle) < share { low = middle } else { high = middle }
    }
    low
}

/// Adds the noise of a sensor to light of which 1 is white: of a pixel's e electrons √e (shot noise), and the noise of
/// reading. Three random numbers per pixel come from one draw.
pub(super) fn expose(exposure: &Exposure, row: &mut [Rgb], random: &mut Random) {
    let normals: &[f32] = &NORMALS;
    let (white, read) = (exposure.white_e, exposure.read_noise_e * exposure.read_noise_e);
    let per = 1.0 / white;
    for pixel in row {
        let bits = random.bits();
        let normal = |at: u32| normals[(bits >> (12 * at)) as usize & (CELLS - 1)];
        let noise = Rgb::new(normal(0), normal(1), normal(2));
        let electrons = (*pixel * white).max(Rgb::ZERO);
        let deviation = electrons + Rgb::splat(read);
        let deviation = Rgb::new(deviation.x.sqrt(), deviation.y.sqrt(), deviation.z.sqrt());
        *pixel = (electrons + deviation * noise) * per;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::random::Purpose;
    use crate::simulate::scene::Weather;

    #[test]
    fn noise_is_that_of_light_and_of_reading() {
        assert!((quantile(0.975) - 1.959_96).abs() < 1e-4 && quantile(0.5).abs() < 1e-6);
        let exposure = Exposure { scale: Rgb::ONE, seconds: 0.01, white_e: 900.0, read_noise_e: 3.0 };
        let mut random = Random::new(1, 0, 0, Purpose::Camera);
        // 0.16 of 900 electrons are 144: σ = √(144 + 9) = 12.37 electrons.
        let mut row = vec![Rgb::splat(0.16); 40_000];
        expose(&exposure, &mut row, &mut random);
        let values: Vec<f32> =
            row.iter().flat_map(|pixel| pixel.to_array()).map(|part| part * 900.0).collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / values.len() as f32;
        assert!((mean - 144.0).abs() < 0.2 && (variance - 153.0).abs() < 3.0, "{mean} {variance}");
    }

    #[test]
    fn less_light_takes_longer_and_a_wider_iris_and_then_gain() {
        let sensor = Sensor::default();
        let light = Light::outdoors(&Weather::default(), &[]);
        let of = |mean: f32| Exposure::new(&sensor, &light, mean);
        let (bright, day) = (of(2.0 * DAY_CD_M2), of(DAY_CD_M2));
        assert!((bright.seconds - 0.001).abs() < 1e-6 && (day.seconds - 0.002).abs() < 1e-6);
        assert!((day.scale.y * DAY_CD_M2 - KEY).abs() < 1e-4 && day.white_e == 10_000.0);
        // A hundredth: ten times the time, ten times the iris; a tenth: √10 times each.
        let dusk = of(DAY_CD_M2 / 100.0);
        assert!((dusk.seconds - 0.02).abs() < 1e-6 && dusk.white_e == 10_000.0);
        assert!((dusk.scale.y * DAY_CD_M2 / 100.0 - KEY).abs() < 1e-4);
        assert!((of(DAY_CD_M2 / 10.0).seconds - 0.002 * 10f32.sqrt()).abs() < 1e-5);
        // At last the gain is at its end, and the image gets dark.
        let night = of(DAY_CD_M2 / 1e6);
        assert!((night.white_e - 10_000.0 / GAIN).abs() < 1e-3);
        assert!(night.scale.y * DAY_CD_M2 / 1e6 < 0.2 * KEY);
    }
}
