//! What a recording holds: its rows, and in each row which streams were captured, and when.

use serde::Serialize;

use super::random::{Purpose, Random};
use super::scene::{Clock, Scene};

/// One row: its place in the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instance {
    /// From 0.
    pub sequence: usize,
    /// Within its sequence, from 0.
    pub frame: usize,
}

/// When the streams of a row look, seconds since its sequence began; `None` where there is no file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Captures {
    /// The camera.
    pub camera: Option<f64>,
    /// The radar.
    pub radar: Option<f64>,
    /// The LiDAR.
    pub lidar: Option<f64>,
    /// The power reports.
    pub link: Option<f64>,
    /// The satellite receivers.
    pub position: Option<f64>,
}

/// The rows of the scene, in order.
#[must_use]
pub fn rows(scene: &Scene) -> Vec<Instance> {
    let rows = |sequence: usize| scene.traffic(sequence).map_or(0, |traffic| scene.rows(traffic));
    (0..scene.sequences())
        .flat_map(|sequence| (0..rows(sequence)).map(move |frame| Instance { sequence, frame }))
        .collect()
}

/// When the streams of a row look.
#[must_use]
pub fn captures(scene: &Scene, at: Instance) -> Captures {
    let faults = scene.faults(at.sequence);
    let mut random = Random::new(scene.seed, at.sequence, at.frame, Purpose::Timing);
    let mut capture = |clock: &Clock, fault: f64| {
        // Drawn whether they are needed or not: one clock does not change the others.
        let (noise, fate) = (f64::from(random.normal()).clamp(-3.0, 3.0), f64::from(random.uniform()));
        let is_there = at.frame.is_multiple_of(clock.every) && fate >= clock.lost(fault);
        let seconds = at.frame as f64 / scene.rate_hz;
        is_there.then(|| seconds + (clock.offset_ms + clock.jitter_ms * noise) / 1e3)
    };
    let timing = &scene.timing;
    Captures {
        camera: capture(&timing.camera, faults.camera_drop),
        radar: capture(&timing.radar, faults.radar_drop),
        lidar: capture(&timing.lidar, faults.lidar_drop),
        link: capture(&timing.link, faults.link_drop),
        position: capture(&timing.position, faults.position_drop),
    }
}
