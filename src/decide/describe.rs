//! What a frame was made of, as a message.

use crate::frame::{Frame, Placed};
use crate::message::{FrameMessage, FrameModality, FrameUe, Header, Mode, Nanos, Presence};
use crate::sample::Modality;
use crate::time::Span;

/// The sensors of a unit.
const SENSORS: [Modality; 3] = [Modality::Camera, Modality::Radar, Modality::Lidar];

/// The `frame` message of a frame after which the mode is `mode`.
pub(super) fn describe(frame: &Frame, header: Header, mode: Mode) -> FrameMessage {
    let modalities = SENSORS.into_iter().map(|sensor| (sensor, presence(frame.sensors.get(&sensor))));
    let ues = frame.ues.iter().map(|(ue, view)| {
        let link_reports = u32::try_from(view.link.len()).unwrap_or(u32::MAX);
        (ue.clone(), FrameUe { link_reports, position: presence(view.position.as_ref()) })
    });
    FrameMessage {
        header,
        reference: frame.reference,
        modalities: modalities.collect(),
        ues: ues.collect(),
        close_reason: frame.close,
        wait_ms: frame.wait().as_millis_f64().max(0.0),
        mode,
    }
}

fn presence(placed: Option<&Placed>) -> FrameModality {
    let Some(placed) = placed else {
        return FrameModality {
            state: Presence::Missing,
            capture_ns: None,
            capture_source: None,
            age_ms: None,
            skew_ms: None,
            gate_weight: None,
        };
    };
    FrameModality {
        state: if placed.fresh { Presence::Fresh } else { Presence::Held },
        capture_ns: Some(Nanos(placed.sample.stamps.capture.as_nanos())),
        capture_source: Some(placed.sample.stamps.capture_source),
        // A sample taken after the instant is not negatively old; its skew says the rest.
        age_ms: Some((-placed.skew).max(Span::ZERO).as_millis_f64()),
        skew_ms: Some(placed.skew.as_millis_f64()),
        gate_weight: None,
    }
}
