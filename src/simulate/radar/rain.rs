//! What rain throws back to the radar.

use std::f64::consts::PI;

use num_complex::Complex64;

use crate::space::LIGHT_MPS;

/// Permittivity of water, 0 to 1000 GHz: the double Debye model of Liebe, Hufford and Manabe (1991), equations (1), (2).
fn permittivity(ghz: f64, celsius: f64) -> Complex64 {
    let theta = 1.0 - 300.0 / (273.15 + celsius);
    let still = 77.66 - 103.3 * theta;
    let (first, second) = (0.0671 * still, 3.52);
    let slow = 20.20 + 146.4 * theta + 316.0 * theta * theta;
    let relaxed = |step: f64, pole: f64| step * ghz / Complex64::new(ghz, pole);
    still - relaxed(still - first, slow) - relaxed(first - second, 39.8 * slow)
}

/// Radar cross section of the rain in a volume, m²/m³, whose drops are as warm as the air.
///
/// Marshall and Palmer's (1948) drops N(D) = 8000·e^{−4.1·R^−0.21·D} m⁻³mm⁻¹; each has the smaller of Rayleigh's
/// π⁵·|K|²·D⁶/λ⁴, K = (m² − 1)/(m² + 2), and what a large ball of water reflects, |(m − 1)/(m + 1)|²·πD²/4.
pub fn reflectivity(wavelength_m: f64, rain_mm_h: f64, celsius: f64) -> f64 {
    const STEP_MM: f64 = 0.02;
    if rain_mm_h <= 0.0 {
        return 0.0;
    }
    let [rayleigh, straight] = dielectric(permittivity(LIGHT_MPS / wavelength_m / 1e9, celsius).sqrt());
    let slope = 4.1 * rain_mm_h.powf(-0.21);
    let drop = |step: u32| {
        let mm = (f64::from(step) + 0.5) * STEP_MM;
        let metres = mm * 1e-3;
        let small = PI.powi(5) * rayleigh * metres.powi(6) / wavelength_m.powi(4);
        let large = straight * PI * metres.powi(2) / 4.0;
        8000.0 * (-slope * mm).exp() * STEP_MM * small.min(large)
    };
    (0..350).map(drop).sum()
}

/// |K|² and |(m − 1)/(m + 1)|² of a refractive index m.
fn dielectric(index: Complex64) -> [f64; 2] {
    let square = index * index;
    [((square - 1.0) / (square + 2.0)).norm_sqr(), ((index - 1.0) / (index + 1.0)).norm_sqr()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn water_reflects_as_its_index_says() {
        // By hand for m = 3.2 + 1.8j: m² = 10.24 − 3.24 + 11.52j; |6 + 11.52j|² / |9 + 11.52j|² = 168.71 / 213.71 =
        // 0.7894, and |2.2 + 1.8j|² / |4.2 + 1.8j|² = 8.08 / 20.88 = 0.3870.
        let [rayleigh, straight] = dielectric(Complex64::new(3.2, 1.8));
        assert!(
            (rayleigh - 0.7894).abs() < 1e-4 && (straight - 0.3870).abs() < 1e-4,
            "{rayleigh} {straight}"
        );
    }

    #[test]
    fn water_at_rest_and_at_77_ghz_has_its_published_permittivity() {
        // The static one at 25 °C is 78.4 (CRC Handbook: 78.3); at 77 GHz and 5 °C the index is 3.20 + 1.76j.
        assert!((permittivity(0.0, 25.0).re - 78.4).abs() < 0.3);
        let index = permittivity(77.0, 5.0).sqrt();
        assert!((index - Complex64::new(3.20, 1.76)).norm() < 0.01, "{index}");
    }

    #[test]
    fn reflectivity_grows_with_rain_and_has_the_right_order() {
        let at = |rain: f64| reflectivity(3.893e-3, rain, 5.0);
        assert!(at(0.0) == 0.0 && at(1.0) < at(10.0) && at(10.0) < at(50.0));
        // By hand for 10 mm/h (Λ = 2.528 mm⁻¹), drops above the crossing at 1.2 mm alone: 1.2e-4 m²/m³; those below add.
        assert!((2.0e-4..3.0e-4).contains(&at(10.0)), "{}", at(10.0));
    }
}
