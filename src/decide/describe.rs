//! What a frame was made of, as a message.

use crate::frame::{Frame, Placed};
use crate::infer::Prediction;
use crate::message::{FrameMessage, FrameModality, FrameUe, Header, Mode, Nanos, Presence};
use crate::sample::Modality;
use crate::time::Span;

/// The sensors of a unit.
const SENSORS: [Modality; 3] = [Modality::Camera, Modality::Radar, Modality::Lidar];

/// The `frame` message of a frame of which a model said `prediction` and after which the mode is `mode`.
pub(super) fn describe(
    frame: &Frame,
    header: Header,
    mode: Mode,
    prediction: Option<&Prediction>,
) -> FrameMessage {
    let gates = || frame.ues.keys().filter_map(|ue| Some(&prediction?.ues.get(ue)?.gate));
    let modalities = SENSORS.into_iter().map(|sensor| {
        // A sensor is the unit's, its weight each UE's: the message says their mean.
        let weights: Vec<f64> =
            gates().filter_map(|gate| gate.get(&sensor).copied().map(f64::from)).collect();
        let mean = (!weights.is_empty()).then(|| weights.iter().sum::<f64>() / weights.len() as f64);
        (sensor, presence(frame.sensors.get(&sensor), mean))
    });
    let ues = frame.ues.iter().map(|(ue, view)| {
        let weight = |modality| {
            let gate = &prediction?.ues.get(ue)?.gate;
            gate.get(&modality).copied().map(f64::from)
        };
        let said = FrameUe {
            link_reports: u32::try_from(view.link.len()).unwrap_or(u32::MAX),
            link_gate_weight: weight(Modality::Link),
            position: presence(view.position.as_ref(), weight(Modality::Position)),
        };
        (ue.clone(), said)
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

fn presence(placed: Option<&Placed>, gate_weight: Option<f64>) -> FrameModality {
    let Some(placed) = placed else {
        return FrameModality {
            state: Presence::Missing,
            capture_ns: None,
            capture_source: None,
            age_ms: None,
            skew_ms: None,
            gate_weight,
        };
    };
    FrameModality {
        state: if placed.fresh { Presence::Fresh } else { Presence::Held },
        capture_ns: Some(Nanos(placed.sample.stamps.capture.as_nanos())),
        capture_source: Some(placed.sample.stamps.capture_source),
        // A sample taken after the instant is not negatively old; its skew says the rest.
        age_ms: Some((-placed.skew).max(Span::ZERO).as_millis_f64()),
        skew_ms: Some(placed.skew.as_millis_f64()),
        gate_weight,
    }
}
