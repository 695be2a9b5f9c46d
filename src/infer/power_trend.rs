//! Blockage from the trend of the received power.
//!
//! The deficit d_i = reference − best power (dB) of a report tells how far the link has sunk below its running 90th
//! percentile; the link counts as blocked from D = `blockage_db`. With τ_i the capture times in seconds before the
//! newest report (τ ≤ 0), over the last [`SLOPE_REPORTS`] reports:
//!
//! ```text
//! ŝ   = median of (d_j − d_i) / (τ_j − τ_i) over all pairs                     (Theil–Sen)
//! v   = (4·1 dB² + n·(1.4826·median|d_i − ŝτ_i − median(d − ŝτ)|)²) / (4 + n)  (spread, prior of 4 reports of 1 dB)
//! σ_s²= v / Σ(τ_i − mean τ)²                                                   (slope's uncertainty)
//! s   = ŝ·5² / (5² + σ_s²),   v_s = 5²·σ_s² / (5² + σ_s²)                      (prior: slopes of 5 dB/s about 0)
//! a   = median of d_i − s·τ_i over the last 3 reports                          (level now)
//! e   = (t − newest capture) + horizon
//! ẽ   = 0.5·(1 − exp(−e / 0.5))                                                (a trend fades within half a second)
//! P(blocked at the horizon) = Φ((a + s·ẽ − D) / √(v + v_s·ẽ² + 3²·e))          (fading walks 3 dB per √s)
//! ```
//!
//! and P(blocked within a horizon) is the largest over the horizons up to it. Two of the last three reports have to
//! agree before the level believes a drop: one report lost to noise raises nothing.

use std::sync::Arc;

use crate::frame::LinkReport;
use crate::time::CaptureTime;

/// Reports that the slope rests on.
pub const SLOPE_REPORTS: usize = 8;
/// Reports that the level rests on.
pub const LEVEL_REPORTS: usize = 3;
/// Deficits are cut to this much either way, dB: a report of zero power lies infinitely low.
pub const MOST_DEFICIT_DB: f64 = 60.0;

const PRIOR_REPORTS: f64 = 4.0;
const PRIOR_SPREAD_DB: f64 = 1.0;
const PRIOR_SLOPE_DB_PER_S: f64 = 5.0;
/// How long a trend lasts, s. A line drawn on for a whole second raised six warnings a minute on scenario 8 of
/// DeepSense 6G, where nothing is ever blocked; a fading one raises one in three minutes.
const TREND_LASTS_S: f64 = 0.5;
const WALK_DB_PER_SQRT_S: f64 = 3.0;
/// Makes the median absolute deviation of a normal law its standard deviation.
const MAD_TO_SIGMA: f64 = 1.4826;

/// How far a report lies below its reference, dB, finite; `None` when there never was a power to refer to.
fn deficit_db(report: &LinkReport) -> Option<f64> {
    let deficit = report.reference_db - report.best_db;
    (report.reference_db.is_finite() && !deficit.is_nan())
        .then(|| deficit.clamp(-MOST_DEFICIT_DB, MOST_DEFICIT_DB))
}

/// Probability that the link is blocked within each horizon (ms ahead of `t`, ascending), from the last reports of
/// one UE, oldest first; non-decreasing. `None` without a report.
#[must_use]
pub fn predict(
    history: &[Arc<LinkReport>],
    t: CaptureTime,
    horizons_ms: &[u32],
    blockage_db: f64,
) -> Option<Vec<f32>> {
    let newest = history.last()?.capture;
    let points: Vec<(f64, f64)> = history
        .iter()
        .skip(history.len().saturating_sub(SLOPE_REPORTS))
        .filter_map(|report| Some(((report.capture - newest).as_secs_f64(), deficit_db(report)?)))
        .collect();
    let trend = Trend::fit(&points)?;
    let age = (t - newest).as_secs_f64().max(0.0);
    let mut within = 0f32;
    let probabilities = horizons_ms.iter().map(|&horizon| {
        let probability = trend.reaches(blockage_db, age + f64::from(horizon) / 1e3);
        within = within.max(probability as f32);
        within
    });
    Some(probabilities.collect())
}

/// The line through the deficits, with its uncertainty.
struct Trend {
    level_db: f64,
    slope_db_per_s: f64,
    spread_var: f64,
    slope_var: f64,
}

impl Trend {
    /// Fits (seconds, dB) points; `None` when there is none.
    fn fit(points: &[(f64, f64)]) -> Option<Self> {
        let slopes: Vec<f64> = points
            .iter()
            .enumerate()
            .flat_map(|(i, a)| points.iter().skip(i + 1).map(move |b| (b.0 - a.0, b.1 - a.1)))
            .filter(|&(run, _)| run > 0.0)
            .map(|(run, rise)| rise / run)
            .collect();
        let raw_slope = median(slopes).unwrap_or(0.0);
        let count = points.len() as f64;
        let centre = median(points.iter().map(|(x, y)| y - raw_slope * x).collect())?;
        let deviation = median(points.iter().map(|(x, y)| (y - raw_slope * x - centre).abs()).collect())?;
        let spread_var = (PRIOR_REPORTS * PRIOR_SPREAD_DB.powi(2)
            + count * (MAD_TO_SIGMA * deviation).powi(2))
            / (PRIOR_REPORTS + count);
        let mean = points.iter().map(|point| point.0).sum::<f64>() / count;
        let lever: f64 = points.iter().map(|point| (point.0 - mean).powi(2)).sum();
        // v / 0 is infinite, and then the prior alone speaks.
        let precision = lever / spread_var;
        let prior_precision = PRIOR_SLOPE_DB_PER_S.powi(-2);
        let slope_db_per_s = raw_slope * precision / (precision + prior_precision);
        let slope_var = 1.0 / (precision + prior_precision);
        let newest = points.iter().rev().take(LEVEL_REPORTS);
        let level_db = median(newest.map(|(x, y)| y - slope_db_per_s * x).collect())?;
        Some(Self { level_db, slope_db_per_s, spread_var, slope_var })
    }

    /// Probability that the deficit reaches `limit` dB, `ahead` ≥ 0 seconds after the newest report.
    fn reaches(&self, limit: f64, ahead: f64) -> f64 {
        let lasting = TREND_LASTS_S * (1.0 - (-ahead / TREND_LASTS_S).exp());
        let expected = self.level_db + self.slope_db_per_s * lasting;
        let variance =
            self.spread_var + self.slope_var * lasting * lasting + WALK_DB_PER_SQRT_S.powi(2) * ahead;
        normal_cdf((expected - limit) / variance.sqrt())
    }
}

/// Middle value, or the mean of the two middle ones; `None` of nothing.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    values.get(values.len() / 2 - 1).map(|lower| f64::midpoint(*lower, upper))
}

/// Φ, by formula 7.1.26 of Abramowitz and Stegun for erf (absolute error below 1.5·10⁻⁷); always in 0…1.
fn normal_cdf(z: f64) -> f64 {
    if z.is_nan() {
        return 0.0;
    }
    let x = z.abs() / std::f64::consts::SQRT_2;
    let k = 1.0 / (0.327_591_1 * x + 1.0);
    let series = k
        * (0.254_829_592
            + k * (-0.284_496_736 + k * (1.421_413_741 + k * (-1.453_152_027 + k * 1.061_405_429))));
    let tail = (0.5 * series * (-x * x).exp()).clamp(0.0, 0.5);
    if z > 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::infer::persistence::tests::{at, report};

    const HORIZONS: [u32; 4] = [0, 100, 500, 1000];

    fn sunk(ms: i64, deficit: f64) -> Arc<LinkReport> {
        let mut sunk = (*report(ms, 3, 64)).clone();
        sunk.reference_db = -10.0;
        sunk.best_db = -10.0 - deficit;
        Arc::new(sunk)
    }

    fn series(deficits: &[f64]) -> Vec<f32> {
        let history: Vec<_> = (0..).step_by(100).zip(deficits).map(|(ms, &d)| sunk(ms, d)).collect();
        let t = at(100 * deficits.len() as i64);
        predict(&history, t, &HORIZONS, 8.0).unwrap()
    }

    #[test]
    fn cdf_against_tables() {
        for (z, p) in [(0.0, 0.5), (1.0, 0.841_344_7), (-1.96, 0.024_997_9), (3.0, 0.998_650_1)] {
            assert!((normal_cdf(z) - p).abs() < 1e-6, "{z}");
        }
        assert_eq!((normal_cdf(f64::INFINITY), normal_cdf(f64::NEG_INFINITY)), (1.0, 0.0));
    }

    #[test]
    fn a_steady_link_is_open_and_a_sunken_one_blocked() {
        assert!(series(&[0.0; 8])[0] < 0.01);
        assert!(series(&[0.0; 8])[3] < 0.5);
        assert!(series(&[12.0; 8])[0] > 0.95);
    }

    #[test]
    fn a_falling_link_is_warned_of_before_it_is_blocked() {
        // The same level, once reached slowly and once at 10 dB/s.
        let (steady, falling) = (series(&[6.0; 7]), series(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        assert!(falling[0] < 0.5 && falling[2] > 0.5, "{falling:?}");
        assert!(steady[2] < 0.5, "{steady:?}");
    }

    #[test]
    fn one_outlier_raises_nothing_and_two_reports_do() {
        assert!(series(&[0.0, 0.0, 0.0, 0.0, 15.0])[0] < 0.3);
        assert!(series(&[0.0, 0.0, 0.0, 15.0, 15.0])[0] > 0.7);
    }

    #[test]
    fn one_report_by_hand() {
        // a = d = 8 = D: exactly even at every horizon.
        for p in series(&[8.0]) {
            assert!((p - 0.5).abs() < 1e-6);
        }
        // d = 2, age 0.1 s: v = 4/5, v_s = 25, ẽ = 0.090635, so the variance is 0.8 + 25·ẽ² + 9·0.1 = 1.905366.
        let expected = normal_cdf(-6.0 / 1.905_366f64.sqrt());
        assert!((f64::from(series(&[2.0])[0]) - expected).abs() < 1e-6);
    }

    #[test]
    fn silence_counts_as_far_below() {
        assert!(series(&[0.0, 0.0, f64::INFINITY, f64::INFINITY])[0] > 0.9);
        let mut never = (*report(0, 0, 4)).clone();
        never.best_db = f64::NEG_INFINITY;
        never.reference_db = f64::NEG_INFINITY;
        assert_eq!(predict(&[Arc::new(never)], at(100), &HORIZONS, 8.0), None);
        assert_eq!(predict(&[], at(100), &HORIZONS, 8.0), None);
    }

    proptest! {
        #[test]
        fn always_a_probability(
            reports in prop::collection::vec((0..3i64, prop::num::f64::ANY, prop::num::f64::ANY), 0..16),
            age in -500..5000i64, limit in 0.1..40.0f64,
        ) {
            let mut ms = 0;
            let history: Vec<_> = reports.into_iter().map(|(gap, reference, best)| {
                ms += gap * 50;
                let mut odd = (*sunk(ms, 0.0)).clone();
                odd.reference_db = reference;
                odd.best_db = best;
                Arc::new(odd)
            }).collect();
            if let Some(found) = predict(&history, at(ms + age), &HORIZONS, limit) {
                prop_assert_eq!(found.len(), HORIZONS.len());
                prop_assert!(found.iter().all(|p| (0.0..=1.0).contains(p)), "{:?}", found);
                prop_assert!(found.windows(2).all(|p| p[0] <= p[1]));
            }
        }
    }
}
