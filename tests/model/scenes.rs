//! A tiny network and frames for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mmsense::align::Windower;
use mmsense::config::{Align, Codebook};
use mmsense::frame::{CloseReason, Frame, FrameReference, LinkReport, Placed, UeView, Window};
use mmsense::infer::NetworkPredictor;
use mmsense::infer::device::DeviceChoice;
use mmsense::model::{NetworkConfig, Sizes, Task};
use mmsense::sample::{
    BeamPower, CaptureSource, Data, Modality, PointCloud, Position, RadarPoint, RadarReading, Sample, Stamps,
    Stream, UeId, UnitId,
};
use mmsense::time::{CaptureTime, Moment, Span};

pub const BEAMS: usize = 8;
pub const SLOTS: usize = 3;

pub fn tiny() -> NetworkConfig {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/networks/tiny.toml");
    mmsense::config::load_network(&file).unwrap()
}

pub fn sizes() -> Sizes {
    Sizes::new(SLOTS, BEAMS, 4)
}

/// A predictor that is asked for `tasks`.
pub fn asked(tasks: &[Task]) -> NetworkPredictor {
    NetworkPredictor::fresh(&tiny(), sizes(), tasks, &Codebook::default(), DeviceChoice::Cpu).unwrap()
}

pub fn predictor() -> NetworkPredictor {
    asked(&[Task::Beam, Task::Blockage])
}

pub fn at(ms: i64) -> CaptureTime {
    CaptureTime::from_nanos(0) + Span::from_millis(ms)
}

pub fn windower() -> Windower {
    Windower::new(&Align { window: SLOTS, stride_ms: 100.0, ..Align::default() })
}

pub fn ue(name: &str) -> UeId {
    UeId::new(name).unwrap()
}

fn placed(unit: &UnitId, stream: Stream, ms: i64, data: Data) -> Placed {
    let stamps = Stamps {
        capture: at(ms),
        capture_source: CaptureSource::Recording,
        sequence: None,
        arrival: Moment::at(at(ms)),
        transport_ns: None,
    };
    let sample = Arc::new(Sample { unit: unit.clone(), stream, stamps, data });
    Placed { sample, capture: at(ms), skew: Span::ZERO, fresh: true }
}

/// A number in 0…1 that looks random and is not.
fn noise(seed: i64, place: usize) -> f32 {
    let x = (seed as f64 * 12.9898 + place as f64 * 78.233).sin() * 43_758.547;
    (x - x.floor()) as f32
}

pub fn image(seed: i64) -> Data {
    let pixel = |x: u32, y: u32| {
        image::Rgb([0, 1, 2].map(|c| (noise(seed, (3 * (64 * y + x) + c) as usize) * 255.0) as u8))
    };
    Data::Image(Arc::new(image::RgbImage::from_fn(64, 36, pixel)))
}

pub fn radar(seed: i64, points: usize) -> Data {
    let point = |index| RadarPoint {
        position: [20.0 * noise(seed, 4 * index) - 10.0, 30.0 * noise(seed, 4 * index + 1), 0.0],
        doppler_mps: noise(seed, 4 * index + 2),
        power_db: 50.0 * noise(seed, 4 * index + 3),
        has_doppler: true,
        is_static: false,
    };
    Data::Radar(Arc::new(RadarReading { points: (0..points).map(point).collect(), map: None }))
}

pub fn lidar(seed: i64, points: usize) -> Data {
    let point = |index| [0, 1, 2].map(|axis| 30.0 * noise(seed, 3 * index + axis));
    let points = (0..points).map(point).collect();
    Data::Cloud(Arc::new(PointCloud { points, intensity: Vec::new(), dropped: 0 }))
}

pub fn report(ms: i64) -> Arc<LinkReport> {
    let power = BeamPower { linear: (0..BEAMS).map(|beam| f64::from(0.1 + noise(ms, beam))).collect() };
    let (best, strength) = power.best().unwrap();
    let best_db = 10.0 * strength.log10();
    Arc::new(LinkReport { capture: at(ms), power: Arc::new(power), best, best_db, reference_db: best_db })
}

/// A frame of three sensors with two UEs: `a` with link and position, `b` with a position.
pub fn frame(unit: &str, sequence: u64) -> Frame {
    frame_at(unit, sequence, 100 * sequence as i64)
}

/// The same at another instant.
pub fn frame_at(unit: &str, sequence: u64, ms: i64) -> Frame {
    let unit = UnitId::new(unit).unwrap();
    let seed = ms + unit.as_str().len() as i64 * 7;
    let place = |name: &str, x: f32| {
        let position = Position {
            latitude: 0.0,
            longitude: 0.0,
            altitude_m: None,
            speed_mps: None,
            local: Some([x, 15.0, 1.5]),
        };
        Some(placed(&unit, Stream::Position(ue(name)), ms, Data::Position(position)))
    };
    let reports: Vec<Arc<LinkReport>> = (1..=4).rev().map(|back| report(ms - 100 * back)).collect();
    let ues = BTreeMap::from([
        (ue("a"), UeView { position: place("a", seed as f32 / 100.0), link: reports }),
        (ue("b"), UeView { position: place("b", -5.0), link: Vec::new() }),
    ]);
    let sensors = BTreeMap::from([
        (Modality::Camera, placed(&unit, Stream::Camera, ms, image(seed))),
        (Modality::Radar, placed(&unit, Stream::Radar, ms, radar(seed, 20))),
        (Modality::Lidar, placed(&unit, Stream::Lidar, ms, lidar(seed, 200))),
    ]);
    Frame {
        unit,
        time: at(ms),
        sequence,
        reference: FrameReference::Camera,
        sensors,
        missing_required: Vec::new(),
        ues,
        ues_known: true,
        after_gap: false,
        close: CloseReason::Settled,
        opened: Moment::at(at(ms)),
        closed: Moment::at(at(ms)),
        last_arrival: Moment::at(at(ms)),
    }
}

/// The windows that end with each of these frames.
pub fn windows(frames: impl IntoIterator<Item = Frame>) -> Vec<Window> {
    let mut windower = windower();
    frames.into_iter().map(|frame| windower.push(Arc::new(frame))).collect()
}
