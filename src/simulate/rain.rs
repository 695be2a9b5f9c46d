//! What rain takes from millimetre waves, those of the link and those of the radar: Recommendation ITU-R P.838-3.

/// Specific attenuation of rain with vertical polarisation on a level path, dB/km: equation (1), γ = k·R^α.
pub(super) fn specific_db_per_km(carrier_ghz: f64, rain_mm_h: f64) -> f64 {
    if rain_mm_h <= 0.0 {
        return 0.0;
    }
    let [k, alpha] = VERTICAL.at(carrier_ghz);
    k * rain_mm_h.powf(alpha)
}

/// The curves of one polarisation: (a, b, c) of each bell, then slope m and offset c over log10 f.
struct Curves {
    k: [[f64; 3]; 4],
    k_line: [f64; 2],
    alpha: [[f64; 3]; 5],
    alpha_line: [f64; 2],
}

impl Curves {
    /// k and α: equations (2) and (3), f in GHz, 1…1000.
    fn at(&self, carrier_ghz: f64) -> [f64; 2] {
        let x = carrier_ghz.log10();
        let k = sum(&self.k, self.k_line, x);
        [10f64.powf(k), sum(&self.alpha, self.alpha_line, x)]
    }
}

/// Σ a·exp(−((x − b)/c)²) + m·x + n.
fn sum(bells: &[[f64; 3]], [m, n]: [f64; 2], x: f64) -> f64 {
    bells.iter().map(|[a, b, c]| a * (-((x - b) / c).powi(2)).exp()).sum::<f64>() + m * x + n
}

/// Tables 2 and 4.
const VERTICAL: Curves = Curves {
    k: [
        [-3.80595, 0.56934, 0.81061],
        [-3.44965, -0.22911, 0.51059],
        [-0.39902, 0.73042, 0.11899],
        [0.50167, 1.07319, 0.27195],
    ],
    k_line: [-0.16398, 0.63297],
    alpha: [
        [-0.07771, 2.3384, -0.76284],
        [0.56727, 0.95545, 0.54039],
        [-0.20238, 1.1452, 0.26809],
        [-48.2991, 0.791_669, 0.116_226],
        [48.5833, 0.791_459, 0.116_479],
    ],
    alpha_line: [-0.053_739, 0.83433],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_recommendation_comes_out() {
        // Table 5: kV, αV.
        for (ghz, k, alpha) in [
            (10.0, 0.01129, 1.2156),
            (28.0, 0.1964, 0.9277),
            (60.0, 0.8515, 0.7486),
            (70.0, 1.0253, 0.7215),
            (80.0, 1.1668, 0.7021),
        ] {
            let found = VERTICAL.at(ghz);
            assert!(
                (found[0] / k - 1.0).abs() < 1e-3 && (found[1] - alpha).abs() < 1e-4,
                "{ghz} GHz: {found:?}"
            );
        }
    }

    #[test]
    fn heavy_rain_takes_a_tenth_of_a_decibel_on_a_street() {
        // 0.8515 · 50^0.7486 = 15.92 dB/km.
        assert!((specific_db_per_km(60.0, 50.0) - 15.92).abs() < 0.02, "{}", specific_db_per_km(60.0, 50.0));
        assert_eq!(specific_db_per_km(60.0, 0.0), 0.0);
    }
}
