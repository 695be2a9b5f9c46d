//! The learning rate over a run.

use std::f64::consts::PI;

/// A linear warm-up, then half a cosine down to a floor (Loshchilov and Hutter, SGDR, ICLR 2017, without restarts).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmupCosine {
    /// Steps until the full rate is reached; 0 for none.
    pub warmup: u64,
    /// Steps of the whole run.
    pub total: u64,
    /// Share of the full rate that is left at the end, 0 to 1.
    pub floor: f64,
}

impl WarmupCosine {
    /// What the learning rate is multiplied by in step `step` (the first is 0): (step + 1) / warm-up at first, 1 in the
    /// last step of the warm-up, then floor + (1 − floor)·½(1 + cos π·t), t from 0 to 1 at the last step, the floor after
    /// it.
    #[must_use]
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup {
            return (step + 1) as f64 / self.warmup as f64;
        }
        let length = self.total.saturating_sub(self.warmup);
        let done = step - self.warmup + u64::from(self.warmup > 0);
        let share = if length == 0 { 1.0 } else { (done as f64 / length as f64).min(1.0) };
        self.floor + (1.0 - self.floor) * 0.5 * (1.0 + (PI * share).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_climbs_then_falls_to_the_floor() {
        let schedule = WarmupCosine { warmup: 4, total: 12, floor: 0.1 };
        let factors: Vec<f64> = (0..14).map(|step| schedule.factor(step)).collect();
        assert_eq!(factors[..4], [0.25, 0.5, 0.75, 1.0]);
        assert!(factors[3..12].windows(2).all(|pair| pair[1] < pair[0]), "{factors:?}");
        // Half way down: floor + (1 − floor)/2.
        assert!((factors[7] - 0.55).abs() < 1e-12, "{factors:?}");
        for end in &factors[11..] {
            assert!((end - 0.1).abs() < 1e-12, "{factors:?}");
        }
    }

    #[test]
    fn without_warm_up_the_first_step_has_the_full_rate() {
        let schedule = WarmupCosine { warmup: 0, total: 10, floor: 0.0 };
        assert_eq!(schedule.factor(0), 1.0);
        assert!(schedule.factor(10).abs() < 1e-12);
        // A warm-up that is as long as the run ends it at the full rate.
        assert_eq!(WarmupCosine { warmup: 5, total: 5, floor: 0.0 }.factor(4), 1.0);
    }
}
