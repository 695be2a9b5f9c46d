//! Lane changes by MOBIL: Kesting, Treiber, Helbing, "General lane-changing model MOBIL for car-following models",
//! Transportation Research Record 1999 (2007), 86–94; the symmetric rules, equations (2) and (3).

/// p, politeness.
const POLITENESS: f64 = 0.3;
/// Δa_th, the least advantage, m/s².
const THRESHOLD: f64 = 0.15;
/// b_safe, the hardest braking that the follower may be put to, m/s².
const SAFE: f64 = 3.0;

/// Accelerations before and after a change, m/s², of the one who changes and of who is behind; `None` where nobody is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::simulate) struct Change {
    /// Of the one who changes.
    pub own: [f64; 2],
    /// Of the follower in the lane that is left.
    pub old_follower: Option<[f64; 2]>,
    /// Of the follower in the lane that is entered.
    pub new_follower: Option<[f64; 2]>,
}

impl Change {
    /// Whether the change is safe for the new follower and for oneself, and worth it:
    /// ã_c − a_c + p·(ã_n − a_n + ã_o − a_o) > Δa_th.
    pub fn is_wanted(&self) -> bool {
        let [before, after] = self.own;
        let is_safe = self.new_follower.is_none_or(|[_, after]| after > -SAFE) && after > -SAFE;
        let gain = |one: Option<[f64; 2]>| one.map_or(0.0, |[before, after]| after - before);
        let others = gain(self.old_follower) + gain(self.new_follower);
        is_safe && after - before + POLITENESS * others > THRESHOLD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_must_be_worth_it_and_safe() {
        let alone = |before, after| Change { own: [before, after], old_follower: None, new_follower: None };
        assert!(alone(0.0, 0.2).is_wanted() && !alone(0.0, 0.1).is_wanted());
        let behind = |after| Change { new_follower: Some([0.0, after]), ..alone(-1.0, 1.0) };
        // 2 + 0.3·(−2.9) = 1.13 is worth it, but −3.1 is not safe.
        assert!(behind(-2.9).is_wanted() && !behind(-3.1).is_wanted());
        // 0.5 + 0.3·(−1.5) = 0.05 is not worth it; a follower left behind who gains 1 makes it 0.35.
        let polite = Change { new_follower: Some([0.0, -1.5]), ..alone(0.0, 0.5) };
        assert!(!polite.is_wanted() && Change { old_follower: Some([-1.0, 0.0]), ..polite }.is_wanted());
        assert!(!alone(-9.0, -3.5).is_wanted(), "nor into a gap that is none");
    }
}
