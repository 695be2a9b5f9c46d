//! Rain at millimetre waves: what it takes from an echo, and what it throws back itself.

use std::f64::consts::PI;

/// Specific attenuation of rain, dB/km, ITU-R P.838-3 for vertical polarisation and level paths: k·R^α with log₁₀ k and α by
/// the recommendation's equations (2) and (3), 1 to 1000 GHz.
pub fn attenuation_db_km(ghz: f64, rain_mm_h: f64) -> f64 {
    if rain_mm_h <= 0.0 {
        return 0.0;
    }
    let log = ghz.log10();
    let bell = |terms: &[[f64; 3]]| -> f64 {
        terms.iter().map(|[a, b, c]| a * (-((log - b) / c).powi(2)).exp()).sum()
    };
    // Tables 2 and 4 of the recommendation.
    let factor = bell(&[
        [-3.80595, 0.56934, 0.81061],
        [-3.44965, -0.22911, 0.51059],
        [-0.39902, 0.73042, 0.11899],
        [0.50167, 1.07319, 0.27195],
    ]) - 0.16398 * log
        + 0.63297;
    let exponent = bell(&[
        [-0.07771, 2.33840, -0.76284],
        [0.56727, 0.95545, 0.54039],
        [-0.20238, 1.14520, 0.26809],
        [-48.2991, 0.791669, 0.116226],
        [48.5833, 0.791459, 0.116479],
    ]) - 0.053739 * log
        + 0.83433;
    10f64.powf(factor) * rain_mm_h.powf(exponent)
}

/// Radar cross section of the rain in a volume, m²/m³.
///
/// Marshall and Palmer's (1948) drops N(D) = 8000·e^{−4.1·R^−0.21·D} m⁻³mm⁻¹; each has the smaller of Rayleigh's
/// π⁵·|K|²·D⁶/λ⁴ and what a large ball of water reflects, |(m − 1)/(m + 1)|²·πD²/4.
pub fn reflectivity(wavelength_m: f64, rain_mm_h: f64) -> f64 {
    /// |K|² and |(m − 1)/(m + 1)|² of water near 77 GHz, m = 3.2 + 1.8j (Liebe et al. 1991, 10 °C).
    const RAYLEIGH: f64 = 0.82;
    const LARGE: f64 = 0.387;
    const STEP_MM: f64 = 0.02;
    if rain_mm_h <= 0.0 {
        return 0.0;
    }
    let slope = 4.1 * rain_mm_h.powf(-0.21);
    let drop = |step: u32| {
        let mm = (f64::from(step) + 0.5) * STEP_MM;
        let metres = mm * 1e-3;
        let small = PI.powi(5) * RAYLEIGH * metres.powi(6) / wavelength_m.powi(4);
        let large = LARGE * PI * metres.powi(2) / 4.0;
        8000.0 * (-slope * mm).exp() * STEP_MM * small.min(large)
    };
    (0..350).map(drop).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attenuation_is_that_of_the_recommendation() {
        // Table 5 of P.838-3; at 1 mm/h the attenuation is k itself.
        for (ghz, k, alpha) in [(60.0, 0.8515, 0.7486), (70.0, 1.0253, 0.7215), (80.0, 1.1668, 0.7021)] {
            let found = attenuation_db_km(ghz, 1.0);
            assert!((found - k).abs() < 2e-3, "{ghz} GHz: k {found}");
            let found = (attenuation_db_km(ghz, 10.0) / found).log10();
            assert!((found - alpha).abs() < 1e-3, "{ghz} GHz: α {found}");
        }
        assert_eq!(attenuation_db_km(77.0, 0.0), 0.0);
    }

    #[test]
    fn reflectivity_grows_with_rain_and_has_the_right_order() {
        let at = |rain: f64| reflectivity(3.893e-3, rain);
        assert!(at(0.0) == 0.0 && at(1.0) < at(10.0) && at(10.0) < at(50.0));
        // By hand for 10 mm/h (Λ = 2.528 mm⁻¹), drops above the crossing at 1.2 mm alone: 1.2e-4 m²/m³; those below add.
        assert!((2.0e-4..3.0e-4).contains(&at(10.0)), "{}", at(10.0));
    }
}
