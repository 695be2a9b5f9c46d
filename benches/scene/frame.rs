//! A frame of a unit that hears everything: a 960×540 image, 512 radar and 18,000 LiDAR points, 16 reports of 64 beams and
//! the position of one UE.

use std::collections::BTreeMap;
use std::sync::Arc;

use mmsense::frame::{CloseReason, Frame, FrameReference, LinkReport, Placed, UeView};
use mmsense::sample::{
    BeamPower, CaptureSource, Data, Modality, PointCloud, Position, RadarPoint, RadarReading, Sample, Stamps,
    Stream, UeId, UnitId,
};
use mmsense::time::{CaptureTime, Moment, Span};

fn at(ms: i64) -> CaptureTime {
    CaptureTime::from_nanos(0) + Span::from_millis(ms)
}

fn placed(stream: Stream, ms: i64, data: Data) -> Placed {
    let stamps = Stamps {
        capture: at(ms),
        capture_source: CaptureSource::Recording,
        sequence: None,
        arrival: Moment::at(at(ms)),
        transport_ns: None,
    };
    let unit = UnitId::new("u").unwrap();
    let sample = Arc::new(Sample { unit, stream, stamps, data });
    Placed { sample, capture: at(ms), skew: Span::ZERO, fresh: true }
}

/// Numbers in 0…1 that fill space evenly.
fn spread(index: usize, axis: usize) -> f32 {
    let steps = [0.754_877_7, 0.569_840_3, 0.324_717_95];
    (index as f64 * steps[axis % 3]).fract() as f32
}

fn image() -> Data {
    let pixel = |x: u32, y: u32| image::Rgb([(x / 4) as u8, (y / 3) as u8, (x * y % 251) as u8]);
    Data::Image(Arc::new(image::RgbImage::from_fn(960, 540, pixel)))
}

fn radar() -> Data {
    let point = |index| RadarPoint {
        position: [40.0 * spread(index, 0) - 20.0, 40.0 * spread(index, 1), 0.0],
        doppler_mps: 10.0 * spread(index, 2),
        power_db: 60.0,
        has_doppler: true,
        is_static: index % 2 == 0,
    };
    Data::Radar(Arc::new(RadarReading { points: (0..512).map(point).collect(), map: None }))
}

fn lidar() -> Data {
    let point = |index| [60.0 * spread(index, 0) - 30.0, 40.0 * spread(index, 1), 6.0 * spread(index, 2)];
    let points = (0..18_000).map(point).collect();
    Data::Cloud(Arc::new(PointCloud { points, intensity: Vec::new(), dropped: 0 }))
}

fn reports(ms: i64) -> Vec<Arc<LinkReport>> {
    let report = |back: i64| {
        let power = BeamPower { linear: (0..64).map(|beam| f64::from(0.01 + spread(beam, 1))).collect() };
        let (best, strength) = power.best().unwrap();
        let best_db = 10.0 * strength.log10();
        let power = Arc::new(power);
        Arc::new(LinkReport { capture: at(ms - 100 * back), power, best, best_db, reference_db: best_db })
    };
    (1..=16).rev().map(report).collect()
}

/// A frame of the sensors that are asked for, and of a UE with link and position if asked for.
pub fn frame(ms: i64, sensors: &[Modality], ue: bool) -> Frame {
    let sensor = |modality: &Modality| {
        let (stream, data) = match modality {
            Modality::Camera => (Stream::Camera, image()),
            Modality::Radar => (Stream::Radar, radar()),
            _ => (Stream::Lidar, lidar()),
        };
        (*modality, placed(stream, ms, data))
    };
    let name = UeId::new("0").unwrap();
    let position = Position {
        latitude: 0.0,
        longitude: 0.0,
        altitude_m: None,
        speed_mps: None,
        local: Some([5.0, 15.0, 1.5]),
    };
    let view = ue.then(|| UeView {
        position: Some(placed(Stream::Position(name.clone()), ms, Data::Position(position))),
        link: reports(ms),
    });
    Frame {
        unit: UnitId::new("u").unwrap(),
        time: at(ms),
        sequence: 0,
        reference: FrameReference::Camera,
        sensors: sensors.iter().map(sensor).collect(),
        missing_required: Vec::new(),
        ues: BTreeMap::from([(name, view.unwrap_or_default())]),
        ues_known: true,
        after_gap: false,
        close: CloseReason::Settled,
        opened: Moment::at(at(ms)),
        closed: Moment::at(at(ms)),
        last_arrival: Moment::at(at(ms)),
    }
}

/// The sensors.
pub const ALL: [Modality; 3] = [Modality::Camera, Modality::Radar, Modality::Lidar];
