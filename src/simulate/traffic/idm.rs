//! The intelligent driver model: Treiber, Hennecke, Helbing, "Congested traffic states in empirical observations and
//! microscopic simulations", Physical Review E 62 (2000), 1805–1824, equations (2) and (3).

/// Hardest braking, m/s²: full braking on a dry road.
pub(in crate::simulate) const HARDEST: f64 = 9.0;

/// What a driver wants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::simulate) struct Driver {
    /// v₀, m/s.
    pub desired: f64,
    /// T, time headway, seconds.
    pub headway: f64,
    /// a, m/s².
    pub acceleration: f64,
    /// b, comfortable deceleration, m/s².
    pub braking: f64,
    /// s₀, gap when standing, metres.
    pub gap: f64,
}

/// What drives ahead.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::simulate) struct Ahead {
    /// From bumper to bumper, metres.
    pub gap: f64,
    /// Its speed, m/s.
    pub speed: f64,
}

impl Driver {
    /// Acceleration at a speed on a free road, m/s²: a·(1 − (v/v₀)⁴). Above v₀ it brakes with b at most.
    pub fn free(&self, speed: f64) -> f64 {
        // Who wants to stand does not creep.
        let share = speed / self.desired.max(1e-3);
        (self.acceleration * (1.0 - share.powi(4))).max(-self.braking)
    }

    /// Acceleration at a speed behind something, m/s²: a·(1 − (v/v₀)⁴ − (s*/s)²) with
    /// s* = s₀ + max(0, v·T + v·Δv/(2·√(a·b))).
    pub fn behind(&self, speed: f64, ahead: Ahead) -> f64 {
        if ahead.gap <= 0.05 {
            return -HARDEST;
        }
        let approach = speed * (speed - ahead.speed) / (2.0 * (self.acceleration * self.braking).sqrt());
        let wanted = self.gap + (speed * self.headway + approach).max(0.0);
        (self.free(speed) - self.acceleration * (wanted / ahead.gap).powi(2)).max(-HARDEST)
    }

    /// The gap that is kept behind one of the same speed, metres: (s₀ + v·T)/√(1 − (v/v₀)⁴).
    #[cfg(test)]
    pub fn equilibrium_gap(&self, speed: f64) -> f64 {
        (self.gap + speed * self.headway) / (1.0 - (speed / self.desired).powi(4)).sqrt()
    }
}

/// Speed and way after a step of constant acceleration; who comes to a stand stays there.
pub(in crate::simulate) fn step(speed: f64, acceleration: f64, seconds: f64) -> [f64; 2] {
    let after = speed + acceleration * seconds;
    if after <= 0.0 {
        let way = if acceleration < 0.0 { -speed * speed / (2.0 * acceleration) } else { 0.0 };
        return [0.0, way];
    }
    [after, (speed + after) / 2.0 * seconds]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table I of the paper: v₀ = 120 km/h, T = 1.6 s, a = 0.73 m/s², b = 1.67 m/s², s₀ = 2 m.
    const PAPER: Driver =
        Driver { desired: 120.0 / 3.6, headway: 1.6, acceleration: 0.73, braking: 1.67, gap: 2.0 };

    #[test]
    fn the_free_road_gives_the_accelerations_of_the_equation() {
        assert_eq!(PAPER.free(0.0), 0.73);
        assert!((PAPER.free(PAPER.desired / 2.0) - 0.73 * (1.0 - 1.0 / 16.0)).abs() < 1e-12);
        assert!(PAPER.free(PAPER.desired).abs() < 1e-12);
        assert_eq!(PAPER.free(2.0 * PAPER.desired), -1.67);
    }

    #[test]
    fn a_hand_computed_case() {
        // v = 20, Δv = 5, s = 50: s* = 2 + 32 + 100/(2·√1.2191) = 79.285; (20/33.333)⁴ = 0.1296.
        let found = PAPER.behind(20.0, Ahead { gap: 50.0, speed: 15.0 });
        assert!((found - 0.73 * (1.0 - 0.1296 - (79.285f64 / 50.0).powi(2))).abs() < 1e-4, "{found}");
    }

    #[test]
    fn followers_settle_at_the_equilibrium_gap() {
        let (mut gap, mut speed) = (80.0, 10.0);
        for _ in 0..20_000 {
            let [after, way] = step(speed, PAPER.behind(speed, Ahead { gap, speed: 20.0 }), 0.05);
            gap += 20.0 * 0.05 - way;
            speed = after;
        }
        // (2 + 32)/√(1 − 0.6⁴) = 36.44 m.
        assert!((PAPER.equilibrium_gap(20.0) - 36.44).abs() < 0.01);
        assert!((gap - 36.44).abs() < 0.05 && (speed - 20.0).abs() < 1e-3, "{gap} m, {speed} m/s");
    }

    #[test]
    fn before_a_wall_one_stops_short_of_it_without_a_crash() {
        let (mut gap, mut speed) = (150.0, 25.0);
        let mut hardest = 0.0f64;
        for _ in 0..2400 {
            let acceleration = PAPER.behind(speed, Ahead { gap, speed: 0.0 });
            hardest = hardest.min(acceleration);
            let [after, way] = step(speed, acceleration, 0.05);
            gap -= way;
            speed = after;
        }
        assert!((1.5..4.0).contains(&gap) && speed < 0.05, "{gap} m, {speed} m/s");
        assert!(hardest > -5.0, "{hardest}");
    }

    #[test]
    fn a_step_never_drives_backwards() {
        assert_eq!(step(1.0, -10.0, 0.5), [0.0, 0.05]);
        assert_eq!(step(2.0, 1.0, 0.5), [2.5, 1.125]);
        assert_eq!(step(0.0, -3.0, 0.5), [0.0, 0.0]);
    }
}
