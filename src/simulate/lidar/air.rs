//! What fog and rain do to a beam of light: they take its power, and throw some of it back.

use std::f64::consts::PI;

use super::super::scene::Weather;

/// Nearest range that the sensor tells, metres (OS1, generation 1).
pub const NEAREST_M: f64 = 0.8;
/// Width of the beam where it leaves the sensor, metres.
const BEAM_M: f64 = 0.0095;
/// Half the length of a light pulse of 5 ns, metres: echoes closer than this are one. (A common length for a time-of-flight
/// LiDAR; Ouster's is not published.)
pub const PULSE_M: f32 = 0.75;
/// Ranges at which the tables are filled: up to 20 m in steps that grow.
const STEPS: usize = 48;

/// The air along a beam.
#[derive(Clone, Debug)]
pub struct Air {
    /// Extinction, 1/m.
    pub extinction: f32,
    /// Of the fog's echo: signal against the sum up to a range, which falls with it; empty in clear air.
    fog: Vec<Step>,
    /// Of rain drops: number of those that can be seen up to a range.
    rain: Vec<Step>,
    /// Drops grow larger than need be to be seen by this, times an exponential number, mm.
    excess_mm: f64,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    range: f64,
    /// Grows from 0: what a random number is looked up in.
    sum: f64,
    /// Signal of the fog's echo from this range, or the smallest drop that is seen at it, mm.
    value: f64,
}

impl Air {
    /// The air of a weather, for a sensor whose echo from a surface of reflectivity 1 at 1 m has the signal `scale`.
    ///
    /// Extinction: Koschmieder's law for fog, and for rain π·N₀/Λ³, which is ∫ 2·(πD²/4)·N(D) dD over drops much larger
    /// than the wavelength (extinction efficiency 2), with Marshall and Palmer's (1948) number of drops per volume and
    /// diameter, N(D) = N₀·e^{−ΛD}, N₀ = 8000 m⁻³mm⁻¹, Λ = 4.1·R^{−0.21} mm⁻¹ for R mm/h.
    pub fn new(weather: &Weather, scale: f64, divergence_deg: f64) -> Self {
        let rain = weather.rain_mm_h;
        let slope = 4.1 * rain.max(1e-6).powf(-0.21);
        let of_rain = if rain > 0.0 { PI * N0 * 1e-6 / slope.powi(3) } else { 0.0 };
        let extinction = weather.extinction() + of_rain;
        let width = |range: f64| BEAM_M + range * divergence_deg.to_radians();
        // Where the receiver sees the beam: not yet at 0.9 m, wholly from 1.0 m (Hahner et al. 2021, equation 9).
        let overlap = |range: f64| ((range - 0.9) / 0.1).clamp(0.0, 1.0);
        let range = |at: usize| NEAREST_M * (20.0f64 / NEAREST_M).powf(at as f64 / (STEPS - 1) as f64);
        let table = |weight: &dyn Fn(f64) -> (f64, f64)| {
            let mut sum = 0.0;
            let step = |at: usize| {
                let (here, width) = (range(at), range(at + 1) - range(at));
                let (density, value) = weight(here);
                sum += density * width;
                Step { range: here, sum, value }
            };
            (0..STEPS).map(step).collect::<Vec<Step>>()
        };
        // Backscatter of fog, 1/(m·sr), by Rasshofer et al. (2011) as Hahner et al. have it; an echo collects it over the
        // length of a pulse, and a surface of reflectivity ρ has ρ/π. Air that is clearer than fog has no such echo.
        let backscatter = if weather.visibility_m < FOG_M { 0.046 / weather.visibility_m } else { 0.0 };
        let fog = |range: f64| {
            let signal = scale * PI * backscatter * f64::from(PULSE_M) * overlap(range) / range.powi(2)
                * (-2.0 * extinction * range).exp();
            (signal, signal)
        };
        // A drop covers (D/width)² of the beam and reflects like ρ = ((n − 1)/(n + 1))² (Kilic et al. 2021).
        let drops = |range: f64| {
            let seen = width(range) * 1e3 * range * (extinction * range).exp() / (scale * DROP).sqrt();
            let smallest = seen / overlap(range).max(1e-3).sqrt();
            (PI / 4.0 * width(range).powi(2) * N0 / slope * (-slope * smallest).exp(), smallest)
        };
        Self {
            extinction: extinction as f32,
            fog: if backscatter > 0.0 { table(&fog) } else { Vec::new() },
            rain: if rain > 0.0 { table(&drops) } else { Vec::new() },
            excess_mm: 1.0 / slope,
        }
    }

    /// The strongest echo of the air along one beam: range in metres and signal, from two random numbers in [0, 1).
    ///
    /// Fog gives one at a range drawn by the power that comes back from there, of exponentially spread strength (speckle);
    /// rain gives one when a drop that can be seen is in the beam.
    pub fn echo(&self, place: f32, strength: f32) -> Option<(f32, f32)> {
        let exponential = -f64::from(1.0 - strength).ln();
        let find = |table: &[Step], sum: f64| {
            let at = table.partition_point(|step| step.sum <= sum);
            table.get(at).copied()
        };
        let drop = self.rain.last().and_then(|last| {
            // Of a Poisson number of mean `last.sum`, the nearest: its place by the exponential law.
            let met = -f64::from(1.0 - place).ln();
            let step = if met < last.sum { find(&self.rain, met) } else { None }?;
            let signal = ((step.value + self.excess_mm * exponential) / step.value).powi(2);
            Some((step.range, signal))
        });
        let fog = self.fog.last().and_then(|last| {
            let step = find(&self.fog, f64::from(place) * last.sum)?;
            Some((step.range, step.value * exponential))
        });
        let stronger = match (drop, fog) {
            (Some(a), Some(b)) => Some(if a.1 > b.1 { a } else { b }),
            (a, b) => a.or(b),
        };
        stronger.map(|(range, signal)| (range as f32, signal as f32))
    }
}

/// Marshall and Palmer's N₀, m⁻³mm⁻¹, and below which visibility there is fog (WMO), metres.
const N0: f64 = 8000.0;
const FOG_M: f64 = 1000.0;
/// ((n − 1)/(n + 1))² of water at 850 nm, n = 1.328.
const DROP: f64 = 0.019_85;

#[cfg(test)]
mod tests {
    use super::*;

    /// (R₀)²/0.8.
    const SCALE: f64 = 120.0 * 120.0 / 0.8;

    fn air(rain_mm_h: f64, visibility_m: f64) -> Air {
        Air::new(&Weather { rain_mm_h, visibility_m, ..Weather::default() }, SCALE, 0.18)
    }

    /// Share of beams with an echo that is more often detected than not, and its mean range.
    fn seen(air: &Air) -> (f64, f64) {
        let grid = 200;
        let mut found: Vec<f32> = Vec::new();
        for place in 0..grid {
            for strength in 0..grid {
                let at = |step: i32| (step as f32 + 0.5) / grid as f32;
                found
                    .extend(air.echo(at(place), at(strength)).filter(|echo| echo.1 > 1.0).map(|echo| echo.0));
            }
        }
        let mean = found.iter().map(|&range| f64::from(range)).sum::<f64>() / found.len().max(1) as f64;
        (found.len() as f64 / f64::from(grid * grid), mean)
    }

    #[test]
    fn extinction_is_that_of_the_literature() {
        // 20 km: ln 20 / 20,000.
        assert!((f64::from(air(0.0, 20_000.0).extinction) - 1.498e-4).abs() < 1e-7);
        // ITU-R P.1814: 1.076·R^0.67 dB/km for rain (France); 1 dB/km is 2.303e-4 per metre.
        for rain in [2.0f64, 10.0, 25.0, 50.0] {
            let expected = 1.076 * rain.powf(0.67) * 2.303e-4;
            let found = f64::from(air(rain, 20_000.0).extinction) - 1.498e-4;
            assert!((0.7..1.5).contains(&(found / expected)), "{rain} mm/h: {found} against {expected}");
        }
        // By hand for 25 mm/h: Λ = 4.1·25^−0.21 = 2.0857 mm⁻¹, π·8e-3/Λ³ = 2.770e-3.
        let found = f64::from(air(25.0, 20_000.0).extinction) - 1.498e-4;
        assert!((found - 2.770e-3).abs() < 2e-5, "{found}");
    }

    #[test]
    fn fog_is_seen_near_the_sensor_and_the_denser_the_more() {
        let shares: Vec<(f64, f64)> =
            [20_000.0, 800.0, 200.0, 50.0, 20.0].map(|v| seen(&air(0.0, v))).to_vec();
        assert_eq!(shares[0].0, 0.0);
        assert!(shares.windows(2).all(|pair| pair[0].0 < pair[1].0), "{shares:?}");
        assert!(shares[1..].iter().all(|(_, range)| (1.0..4.0).contains(range)), "{shares:?}");
    }

    #[test]
    fn rain_drops_are_seen_near_the_sensor_and_the_more_it_rains_the_more() {
        let shares: Vec<(f64, f64)> = [0.0, 5.0, 20.0, 80.0].map(|rain| seen(&air(rain, 20_000.0))).to_vec();
        assert_eq!(shares[0].0, 0.0);
        assert!(shares.windows(2).all(|pair| pair[0].0 < pair[1].0), "{shares:?}");
        assert!(shares[3].0 < 0.3 && (0.8..6.0).contains(&shares[3].1), "{shares:?}");
    }
}
