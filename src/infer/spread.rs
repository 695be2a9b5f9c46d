//! How a rule that names one beam becomes probabilities over all of them.
//!
//! A rule is as good as it has lately been: the mean absolute error m (in beams) that it would have made on the UE's
//! own history, together with a prior of [`PRIOR_ERRORS`] errors of mean [`PRIOR_BEAMS`], gives a two-sided geometric
//! (discrete Laplace) law around the named beam b̂,
//!
//! ```text
//! m = (8·1.25 + Σ|e_i|) / (8 + n) · max(1, age of the last report / mean report interval)
//! q = (√(1 + m²) − 1) / m            so that E|δ| = 2q / (1 − q²) = m on an unbounded codebook
//! p(b) = (1 − ε) · q^|b − b̂| / Σ q^|·| + ε / N,   ε = 0.02
//! ```
//!
//! where |b − b̂| goes around a circular codebook. ε pays for the jumps to a reflection that no neighbourhood law
//! expects. q < 1, so b̂ itself is always the single most probable beam.

/// Errors that the prior counts for.
pub const PRIOR_ERRORS: f64 = 8.0;
/// Mean absolute error of the prior, beams: what persistence errs by from report to report with 64 over-sampled beams
/// at 10 Hz (0.97 to 1.71 on scenarios 1, 6, 8 and 9 of DeepSense 6G).
pub const PRIOR_BEAMS: f64 = 1.25;
/// Share of probability spread evenly over the codebook.
pub const UNIFORM_SHARE: f64 = 0.02;

/// Steps from one beam to another: plain difference, or the shorter way around a circular codebook (the positive one
/// when both are as long).
#[must_use]
pub fn steps(from: usize, to: usize, beams: usize, circular: bool) -> i64 {
    let plain = to as i64 - from as i64;
    if !circular || beams == 0 {
        return plain;
    }
    let beams = beams as i64;
    let around = plain.rem_euclid(beams);
    if around * 2 > beams { around - beams } else { around }
}

/// The beam at a fractional place: rounded (half away from zero), then clamped to the codebook or wrapped around it.
#[must_use]
pub fn settle(place: f64, beams: usize, circular: bool) -> usize {
    let last = beams.saturating_sub(1);
    if circular && beams > 0 {
        (place.round().rem_euclid(beams as f64) as usize).min(last)
    } else {
        (place.round().max(0.0) as usize).min(last)
    }
}

/// Mean absolute error of a rule, in beams, from its errors on the history and the prior, stretched for a report that
/// is older than usual (`staleness` = its age in mean report intervals; less than 1 counts as 1).
#[must_use]
pub fn mean_error(errors: impl Iterator<Item = i64>, staleness: f64) -> f64 {
    let (sum, count) = errors.fold((0.0, 0.0), |(sum, count), error| (sum + error.abs() as f64, count + 1.0));
    let mean = (PRIOR_ERRORS * PRIOR_BEAMS + sum) / (PRIOR_ERRORS + count);
    mean * if staleness.is_finite() { staleness.max(1.0) } else { 1.0 }
}

/// The law around `centre` for a mean absolute error of `mean` > 0 beams: `beams` probabilities that sum to 1.
#[must_use]
pub fn law(centre: usize, mean: f64, beams: usize, circular: bool) -> Vec<f32> {
    let mean = mean.clamp(1e-3, 1e3);
    let ratio = (mean.mul_add(mean, 1.0).sqrt() - 1.0) / mean;
    let weights: Vec<f64> = (0..beams)
        .map(|beam| ratio.powi(steps(centre, beam, beams, circular).unsigned_abs().min(1 << 20) as i32))
        .collect();
    let total: f64 = weights.iter().sum();
    let even = UNIFORM_SHARE / beams.max(1) as f64;
    weights.iter().map(|weight| ((1.0 - UNIFORM_SHARE) * weight / total + even) as f32).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_circular_codebook_wraps() {
        assert_eq!(steps(255, 1, 256, true), 2);
        assert_eq!(steps(1, 255, 256, true), -2);
        assert_eq!(steps(0, 128, 256, true), 128);
        assert_eq!(steps(62, 1, 64, false), -61);
        assert_eq!(settle(-1.6, 64, false), 0);
        assert_eq!(settle(70.0, 64, false), 63);
        assert_eq!(settle(-1.6, 64, true), 62);
        assert_eq!(settle(64.4, 64, true), 0);
        assert_eq!(settle(f64::NAN, 64, true), 0);
    }

    #[test]
    fn law_by_hand() {
        // m = 0.75 gives q = (1.25 − 1) / 0.75 = 1/3; weights 1/3, 1, 1/3 sum to 5/3.
        let law = law(1, 0.75, 3, false);
        let even = 0.02 / 3.0;
        assert!((f64::from(law[1]) - (0.98 * 0.6 + even)).abs() < 1e-6);
        assert!((f64::from(law[0]) - (0.98 * 0.2 + even)).abs() < 1e-6);
    }

    #[test]
    fn the_prior_gives_way_to_errors() {
        assert!((mean_error(std::iter::empty(), 1.0) - 1.25).abs() < 1e-12);
        assert!((mean_error([0, 0].into_iter(), 1.0) - 1.0).abs() < 1e-12);
        assert!((mean_error([-5, 5].into_iter(), 2.0) - 4.0).abs() < 1e-12);
        assert!((mean_error(std::iter::empty(), f64::NAN) - 1.25).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn the_centre_is_most_probable_and_all_sum_to_one(
            beams in 1..300usize, place in 0.0..1.0f64, mean in 0.0..5000.0f64, circular: bool,
        ) {
            let centre = ((beams as f64 * place) as usize).min(beams - 1);
            let law = law(centre, mean, beams, circular);
            prop_assert_eq!(law.len(), beams);
            let sum: f64 = law.iter().map(|&p| f64::from(p)).sum();
            prop_assert!((sum - 1.0).abs() < 1e-4);
            for (beam, &p) in law.iter().enumerate() {
                prop_assert!(p.is_finite() && p >= 0.0);
                prop_assert!(beam == centre || p < law[centre]);
            }
        }
    }
}
