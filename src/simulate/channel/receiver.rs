//! The receiver: what a power reading of a beam says.
//!
//! A reading is the mean of |s + n|² over N samples, s the signal and n complex noise whose power is the floor F. Its
//! mean is S + F and its variance (F² + 2·S·F)/N (Urkowitz, "Energy detection of unknown deterministic signals", Proc.
//! IEEE 55, 1967: a non-central χ² of 2·N degrees of freedom), which for the thousands of samples of a reading is normal.
//! So weak beams all read the floor, and not less: it is what bounds the spread between the best and the worst beam.

use crate::simulate::random::Random;
use crate::simulate::scene::Link;

/// Mean of a reading.
pub(super) fn expected(link: &Link, signal: f64) -> f64 {
    signal + link.floor
}

/// A reading of a beam that receives `signal`.
pub(super) fn read(link: &Link, signal: f64, random: &mut Random) -> f64 {
    let [estimate, gain] = random.normals().map(f64::from);
    let deviation = ((link.floor + 2.0 * signal) * link.floor / f64::from(link.samples)).sqrt();
    // A mean of squares is never below 0.
    let power = (expected(link, signal) + deviation * estimate).max(0.0);
    // The amplifiers settle a little differently after each change of the beam.
    as_printed(power * 10f64.powf(link.noise_db * gain / 10.0))
}

/// Seven digits, as DeepSense's power files have.
fn as_printed(power: f64) -> f64 {
    if power <= 0.0 {
        return 0.0;
    }
    let digits = 10f64.powi(6 - power.log10().floor() as i32);
    (power * digits).round() / digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::random::Purpose;

    #[test]
    fn readings_have_the_mean_and_spread_of_the_estimator() {
        let link = Link { floor: 0.01, samples: 400, noise_db: 0.0, ..Link::default() };
        let mut random = Random::new(1, 0, 0, Purpose::Link);
        // Without a signal F/√N = 0.01/20; with S = 0.1, √((0.01² + 2·0.001)/400) = 0.002291.
        for (signal, deviation) in [(0.0, 0.0005), (0.1, 0.002_291)] {
            let readings: Vec<f64> = (0..20_000).map(|_| read(&link, signal, &mut random)).collect();
            let mean = readings.iter().sum::<f64>() / readings.len() as f64;
            let variance = readings.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / readings.len() as f64;
            assert!((mean - signal - 0.01).abs() < 4.0 * deviation / 20_000f64.sqrt(), "{mean}");
            assert!((variance.sqrt() / deviation - 1.0).abs() < 0.02, "{} {deviation}", variance.sqrt());
        }
    }

    #[test]
    fn a_reading_has_seven_digits() {
        assert_eq!(as_printed(0.012_345_678_9), 0.012_345_68);
        assert_eq!(as_printed(12.345_678_9), 12.345_68);
        assert_eq!(as_printed(0.0), 0.0);
    }
}
