//! How strong an echo is: the radar equation, the antennas, the receiver's noise and its high-pass filters.

use std::f64::consts::PI;

use super::super::rain;
use super::super::scene::{Scene, Weather};

/// Boltzmann's constant, J/K, and the standard noise temperature, K.
const BOLTZMANN: f64 = 1.380_649e-23;
const STANDARD_K: f64 = 290.0;
/// Half-power and quarter-power half widths of the antennas of TI's AWR boards (user guide of the AWR1243 BoosterPack),
/// degrees: across, and up and down.
const ACROSS_DEG: [f64; 2] = [28.0, 50.0];
const UPWARDS_DEG: [f64; 2] = [14.0, 20.0];
/// Lowest settings of the receiver's two high-pass filters, Hz.
const HIGH_PASS_HZ: [f64; 2] = [175e3, 350e3];

/// The link budget of a radar in a weather.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Pt·G²·λ²/(4π)³ in units of the power of amplitude 1.
    scale: f64,
    /// Pt in the same unit.
    transmitted: f64,
    /// One antenna along boresight, linear.
    gain: f64,
    wavelength: f64,
    /// Attenuation one way, dB/m.
    rain_db_m: f64,
    /// Beat frequency of a range, Hz per metre.
    beat_hz_m: f64,
    /// Standard deviation of the thermal noise, of each of the real and the imaginary part.
    pub noise: f64,
}

fn linear(db: f64) -> f64 {
    10f64.powf(db / 10.0)
}

impl Budget {
    /// The budget of a scene's radar.
    pub fn new(scene: &Scene, weather: &Weather) -> Self {
        let (cube, radar) = (&scene.cube, &scene.radar);
        let step_mw = linear(cube.step_dbm);
        let noise_mw = BOLTZMANN * STANDARD_K * 1e3 * cube.sample_hz * linear(cube.noise_figure_db);
        let transmitted = linear(cube.transmit_dbm) / step_mw;
        let gain = linear(cube.gain_dbi);
        let wavelength = radar.wavelength_m;
        Self {
            scale: transmitted * gain.powi(2) * wavelength.powi(2) / (4.0 * PI).powi(3),
            transmitted,
            gain,
            wavelength,
            rain_db_m: rain::specific_db_per_km(299.792_458e-3 / wavelength, weather.rain_mm_h) / 1e3,
            beat_hz_m: cube.sample_hz / cube.samples as f64 / radar.range_bin_m,
            noise: (noise_mw / step_mw / 2.0).sqrt(),
        }
    }

    /// Amplitude of an echo: radar cross section in m², gains of the transmit and the receive antenna against boresight,
    /// and the ranges there and back, metres. √(Pt·G²·λ²·σ / ((4π)³·R₁²·R₂²)), less rain and the high-pass filters.
    pub fn echo(&self, section: f64, pattern: f64, there: f64, back: f64) -> f64 {
        let rain = linear(-self.rain_db_m * (there + back));
        let power = self.scale * section * pattern * rain / (there * back).powi(2);
        power.sqrt() * self.high_pass((there + back) / 2.0)
    }

    /// Amplitude of what reaches the receiver past the antennas.
    pub fn leakage(&self, isolation_db: f64, range: f64) -> f64 {
        (self.transmitted * linear(-isolation_db)).sqrt() * self.high_pass(range)
    }

    /// Amplitude of another radar of the same kind that looks here, from a distance in metres, once (Friis).
    pub fn stranger(&self, pattern: f64, distance: f64) -> f64 {
        let rain = linear(-self.rain_db_m * distance);
        let spread = (self.wavelength / (4.0 * PI * distance)).powi(2);
        (self.transmitted * self.gain.powi(2) * pattern * spread * rain).sqrt()
    }

    /// Two first-order filters at the beat frequency of a range.
    fn high_pass(&self, range: f64) -> f64 {
        let beat = self.beat_hz_m * range;
        HIGH_PASS_HZ.iter().map(|corner| beat / beat.hypot(*corner)).product()
    }
}

/// Gain of an antenna against boresight, one way, from azimuth and elevation in radians: −3 dB and −6 dB at the angles of
/// the user guide, and by a power law between and beyond them.
pub fn pattern(azimuth: f64, elevation: f64) -> f64 {
    let loss = |angle: f64, [half, quarter]: [f64; 2]| {
        3.0 * (angle.to_degrees().abs() / half).powf(2f64.ln() / (quarter / half).ln())
    };
    linear(-(loss(azimuth, ACROSS_DEG) + loss(elevation, UPWARDS_DEG)).min(60.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corner_reflector_is_as_strong_as_the_radar_equation_says() {
        let scene = Scene::default();
        let budget = Budget::new(&scene, &Weather::default());
        // By hand, 10 m² at 20 m: 12 dBm + 2·10.5 dBi + 20·log10(3.8934 mm) (−48.194 dB) + 10 dBsm − 30·log10(4π)
        // (32.976 dB) − 40·log10(20) (52.041 dB) = −90.21 dBm; noise: −173.975 dBm/Hz + 66.990 dB Hz + 14 dB =
        // −92.985 dBm. SNR per sample: 2.77 dB.
        let amplitude = budget.echo(10.0, 1.0, 20.0, 20.0);
        let dbm = 20.0 * amplitude.log10() + scene.cube.step_dbm;
        // The filters take 0.16 dB at a beat of 2.0 MHz.
        assert!((dbm + 90.21 + 0.16).abs() < 0.02, "{dbm} dBm");
        let noise_dbm = 10.0 * (2.0 * budget.noise.powi(2)).log10() + scene.cube.step_dbm;
        assert!((noise_dbm + 92.985).abs() < 0.01, "{noise_dbm} dBm");
    }

    #[test]
    fn power_falls_with_the_fourth_power_of_range_and_with_rain() {
        let scene = Scene::default();
        let clear = Budget::new(&scene, &Weather::default());
        let db = |budget: &Budget, range: f64| 20.0 * budget.echo(1.0, 1.0, range, range).log10();
        // 12.04 dB, and 0.17 dB less for the filters, which hold back the nearer one more.
        assert!((db(&clear, 20.0) - db(&clear, 40.0) - 12.04 + 0.12).abs() < 0.02);
        let wet = Budget::new(&scene, &Weather { rain_mm_h: 25.0, ..Weather::default() });
        let loss = db(&clear, 40.0) - db(&wet, 40.0);
        let expected = rain::specific_db_per_km(77.0, 25.0) * 0.08;
        assert!((loss - expected).abs() < 1e-3 && loss > 0.5, "{loss} dB against {expected}");
    }

    #[test]
    fn the_pattern_has_the_widths_of_the_user_guide() {
        let db = |azimuth: f64, elevation: f64| {
            10.0 * pattern(azimuth.to_radians(), elevation.to_radians()).log10()
        };
        for (found, expected) in
            [(db(0.0, 0.0), 0.0), (db(28.0, 0.0), -3.0), (db(-50.0, 0.0), -6.0), (db(0.0, 14.0), -3.0)]
        {
            assert!((found - expected).abs() < 1e-9, "{found}");
        }
        assert!((db(28.0, -20.0) + 9.0).abs() < 1e-9);
    }
}
