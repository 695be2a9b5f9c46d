//! When each sensor looks, beside the rows of the recording.

use serde::{Deserialize, Serialize};

use crate::config::Problem;
use crate::config::load::within;

/// `[timing]`: one table per stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// The camera's.
    pub camera: Clock,
    /// The radar's.
    pub radar: Clock,
    /// The LiDAR's.
    pub lidar: Clock,
    /// The power reports'.
    pub link: Clock,
    /// The UEs' satellite receivers'.
    pub position: Clock,
}

/// `[timing.camera]` and the others: a sensor looks at a row's instant, plus `offset_ms`, plus a normal number of
/// `jitter_ms`. Where either is not 0 the file's name carries its own time, as in scenarios 36–39.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clock {
    /// It looks once in so many rows: 2 is half the rate of the rows.
    pub every: usize,
    /// Its capture after the row's instant, ms; negative before.
    pub offset_ms: f64,
    /// Standard deviation of its captures, ms; more than three of them do not occur.
    pub jitter_ms: f64,
    /// Share of its samples that get lost, 0…1.
    pub drop: f64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { every: 1, offset_ms: 0.0, jitter_ms: 0.0, drop: 0.0 }
    }
}

impl Clock {
    /// Share of its samples that get lost in a sequence in which this share of all gets lost as well.
    #[must_use]
    pub fn lost(&self, fault: f64) -> f64 {
        1.0 - (1.0 - self.drop) * (1.0 - fault)
    }

    /// Whether its captures are the rows' instants.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.offset_ms == 0.0 && self.jitter_ms == 0.0
    }
}

impl Timing {
    /// How long before the first row and after the last one a sensor may look at most, seconds.
    #[must_use]
    pub fn reach_s(&self) -> f64 {
        let Self { camera, radar, lidar, link, position } = self;
        let reach = |clock: &Clock| (clock.offset_ms.abs() + 3.0 * clock.jitter_ms) / 1e3;
        [camera, radar, lidar, link, position].map(reach).into_iter().fold(0.0, f64::max)
    }

    pub(super) fn check(&self, period_ms: f64, problems: &mut Vec<Problem>) {
        for (name, clock) in [
            ("camera", &self.camera),
            ("radar", &self.radar),
            ("lidar", &self.lidar),
            ("link", &self.link),
            ("position", &self.position),
        ] {
            let key = |key: &str| format!("timing.{name}.{key}");
            within(problems, &key("every"), clock.every, 1, 1000);
            // Captures of a stream keep their order, and stay with their row.
            within(problems, &key("offset_ms"), clock.offset_ms, -1000.0, 1000.0);
            within(problems, &key("jitter_ms"), clock.jitter_ms, 0.0, period_ms * clock.every as f64 / 7.0);
            within(problems, &key("drop"), clock.drop, 0.0, 1.0);
        }
    }
}
