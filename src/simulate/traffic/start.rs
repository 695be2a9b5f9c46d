//! Who comes: kinds, sizes, wishes, and when.

use super::idm::Driver;
use crate::simulate::random::Random;
use crate::simulate::scene::{LaneKind, Look, Mix, VehicleKind};
use crate::simulate::solid::ObjectId;

/// Someone on the road, as far as it does not change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::simulate) struct Who {
    pub id: ObjectId,
    pub kind: VehicleKind,
    pub look: Look,
    /// Length, width and height, metres.
    pub size: [f32; 3],
    /// Paint or coat, where it is stated.
    pub colour: Option<[u8; 3]>,
    /// Metres to the left of the middle of its lane.
    pub aside: f32,
}

/// A number of this mean and deviation, at most two deviations off.
fn about(random: &mut Random, mean: f64, deviation: f64) -> f64 {
    mean + deviation * f64::from(random.normal().clamp(-2.0, 2.0))
}

/// Draws a kind by its share.
pub(super) fn kind(random: &mut Random, mix: &Mix, lane: LaneKind) -> VehicleKind {
    let shares = mix.shares(lane);
    let total: f64 = shares.iter().map(|(_, share)| share).sum();
    let mut left = f64::from(random.uniform()) * total;
    let hit = shares.iter().find(|(_, share)| {
        left -= share;
        left < 0.0
    });
    hit.map_or(VehicleKind::Car, |(kind, _)| *kind)
}

/// Draws what one of a kind looks like and how large it is.
pub(in crate::simulate) fn body(random: &mut Random, kind: VehicleKind) -> (Look, [f32; 3]) {
    let looks = kind.looks();
    // Every second one is of the plainest kind: most trucks are boxes.
    let draw = random.uniform();
    let number = if draw < 0.4 { 0 } else { ((draw - 0.4) / 0.6 * looks.len() as f32) as usize };
    let (look, [length, width, height]) =
        looks.get(number).copied().unwrap_or((Look::Saloon, VehicleKind::Car.size_m()));
    let size = match kind {
        // From the delivery truck to the lorry; what is longer is higher.
        VehicleKind::Truck => {
            let share = f64::from(random.uniform());
            [6.5 + (length - 6.5) * share, width, about(random, height - 0.5 + 0.5 * share, 0.08)]
        }
        VehicleKind::Pedestrian => {
            // Adults: 1.71 m on average, deviation 0.09 m.
            let tall = about(random, 1.71, 0.09);
            [length, width, tall]
        }
        VehicleKind::Cyclist => [length, width, about(random, height, 0.07)],
        _ => {
            let by = about(random, 1.0, 0.03);
            [length * by, width, about(random, height, 0.02 * height)]
        }
    };
    (look, size.map(|metres| metres as f32))
}

/// Draws what one of a kind wants on a lane with this limit; `desired` is the mean of its speed where that is stated.
pub(super) fn driver(random: &mut Random, kind: VehicleKind, limit: f64, desired: Option<f64>) -> Driver {
    // Share of the limit, or m/s for those without an engine: Weidmann (1993) for people on foot.
    let (mean, deviation) = match kind {
        VehicleKind::Car => (limit, 0.08 * limit),
        VehicleKind::Van => (0.97 * limit, 0.07 * limit),
        VehicleKind::Truck | VehicleKind::Bus => (0.9 * limit, 0.05 * limit),
        VehicleKind::Cyclist => (limit.min(4.9), 0.6),
        VehicleKind::Pedestrian | VehicleKind::Tripod => (1.34, 0.26),
    };
    let mean_speed = desired.unwrap_or(mean);
    let speed = about(random, mean_speed, deviation * mean_speed / mean).max(0.4);
    let headway = 1.0 + 0.3 * f64::from(random.normal().clamp(-1.0, 2.0)).abs();
    driver_of(kind, speed, headway)
}

/// The wishes of a kind.
pub(super) const fn driver_of(kind: VehicleKind, desired: f64, headway: f64) -> Driver {
    let (acceleration, braking, gap) = match kind {
        VehicleKind::Car => (1.6, 2.0, 2.0),
        VehicleKind::Van => (1.3, 2.0, 2.0),
        VehicleKind::Truck | VehicleKind::Bus => (0.9, 1.7, 2.5),
        VehicleKind::Cyclist => (0.8, 1.7, 1.5),
        VehicleKind::Pedestrian | VehicleKind::Tripod => (1.0, 2.0, 0.4),
    };
    let headway = match kind {
        VehicleKind::Truck | VehicleKind::Bus => headway + 0.4,
        VehicleKind::Pedestrian | VehicleKind::Tripod => 0.4,
        _ => headway,
    };
    Driver { desired, headway, acceleration, braking, gap }
}

/// Metres to the left of the middle of a lane that one of a kind keeps.
pub(super) fn aside(random: &mut Random, kind: VehicleKind, width: f64) -> f32 {
    let room = match kind {
        VehicleKind::Pedestrian => (width / 2.0 - 0.35).max(0.0),
        VehicleKind::Cyclist => (width / 2.0 - 0.5).clamp(0.0, 0.3),
        _ => 0.0,
    };
    random.between(-1.0, 1.0) * room as f32
}

/// Time to the next arrival of a Poisson process, seconds.
pub(super) fn pause(random: &mut Random, per_minute: f64) -> f64 {
    if per_minute <= 0.0 {
        return f64::INFINITY;
    }
    -(1.0 - f64::from(random.uniform())).ln() * 60.0 / per_minute
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::random::Purpose;

    #[test]
    fn what_is_drawn_has_the_shares_and_sizes_that_are_stated() {
        let mut random = Random::new(1, 0, 0, Purpose::Traffic);
        let mix = Mix { car: 3.0, truck: 1.0, ..Mix::default() };
        let kinds: Vec<VehicleKind> = (0..4000).map(|_| kind(&mut random, &mix, LaneKind::Road)).collect();
        let trucks = kinds.iter().filter(|kind| **kind == VehicleKind::Truck).count();
        assert!((900..1100).contains(&trucks) && !kinds.contains(&VehicleKind::Bus), "{trucks}");
        let mut looks = Vec::new();
        for _ in 0..500 {
            let (look, size) = body(&mut random, VehicleKind::Truck);
            assert!((6.4..11.1).contains(&size[0]) && (2.3..4.1).contains(&size[2]), "{size:?}");
            if !looks.contains(&look) {
                looks.push(look);
            }
        }
        assert_eq!(looks.len(), 3);
    }

    #[test]
    fn arrivals_come_at_their_rate() {
        let mut random = Random::new(2, 0, 0, Purpose::Traffic);
        let total: f64 = (0..5000).map(|_| pause(&mut random, 12.0)).sum();
        assert!((total / 5000.0 - 5.0).abs() < 0.2, "{total}");
        assert_eq!(pause(&mut random, 0.0), f64::INFINITY);
    }
}
