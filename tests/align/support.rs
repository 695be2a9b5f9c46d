//! Random multi-sensor logs, and the loop that drives an aligner through one exactly as a virtual clock does.

use std::sync::Arc;

use mmsense::align::Aligner;
use mmsense::config;
use mmsense::frame::{Frame, Placed};
use mmsense::sample::{
    BeamPower, CaptureSource, Data, Modality, PointCloud, Position, RadarPoint, RadarReading, Sample, Stamps,
    Stream, UeId, UnitId,
};
use mmsense::time::{CaptureTime, Moment, Span};
use proptest::prelude::*;

/// Start of every log, nanoseconds since the Unix epoch.
pub const START: i64 = 1_700_000_000_000_000_000;
pub const MS: i64 = 1_000_000;

pub fn unit() -> UnitId {
    UnitId::new("unit1").unwrap()
}

pub fn ue(name: &str) -> UeId {
    UeId::new(name).unwrap()
}

/// `ms` milliseconds after the start.
pub fn at(ms: i64) -> CaptureTime {
    CaptureTime::from_nanos(START + ms * MS)
}

pub fn since_start_ms(time: CaptureTime) -> f64 {
    (time - CaptureTime::from_nanos(START)).as_millis_f64()
}

pub fn reading(stream: &Stream, value: u64) -> Data {
    let value = value as f64;
    match stream {
        Stream::Camera => {
            Data::Image(Arc::new(image::RgbImage::from_pixel(4, 2, image::Rgb([value as u8; 3]))))
        }
        Stream::Radar => {
            Data::Radar(Arc::new(RadarReading { points: vec![RadarPoint::default(); 3], map: None }))
        }
        Stream::Lidar => {
            let cloud =
                PointCloud { points: vec![[value as f32, 0.0, 0.0]; 5], intensity: vec![], dropped: 0 };
            Data::Cloud(Arc::new(cloud))
        }
        Stream::Link(_) => {
            let linear = (0..8).map(|beam| 1.0 + ((value * 7.0 + f64::from(beam) * 3.0) % 11.0)).collect();
            Data::Power(Arc::new(BeamPower { linear }))
        }
        Stream::Position(_) => Data::Position(Position {
            latitude: value,
            longitude: 0.0,
            altitude_m: None,
            speed_mps: None,
            local: None,
        }),
        Stream::Blocked(_) => Data::Blocked((value as u64).is_multiple_of(2)),
    }
}

pub fn sample(stream: &Stream, capture: CaptureTime, arrival: CaptureTime, id: u64) -> Sample {
    Sample {
        unit: unit(),
        stream: stream.clone(),
        stamps: Stamps {
            capture,
            capture_source: CaptureSource::Attachment,
            sequence: Some(id),
            arrival: Moment::at(arrival),
            transport_ns: None,
        },
        data: reading(stream, id),
    }
}

/// One sensor or UE stream of a random log.
#[derive(Clone, Debug)]
pub struct Source {
    pub stream: Stream,
    pub rate_hz: f64,
    pub phase: f64,
    /// Largest jitter of a capture, as a share of the period.
    pub jitter: f64,
    pub drop: f64,
    pub latency_ms: f64,
    /// Largest extra latency, which turns the order of arrival round when above a period.
    pub latency_jitter_ms: f64,
    /// Sensor clock minus ours.
    pub clock_ms: f64,
    /// (when, by how much) the sensor clock steps, ms.
    pub step: Option<(i64, i64)>,
    /// Share of samples that are sent twice.
    pub twice: f64,
    pub seed: u64,
}

/// Small deterministic generator (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0…1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

pub type Log = Vec<Sample>;

/// The samples of all sources over `duration_ms`, in order of arrival; an id names one reading, also where it comes twice.
pub fn log(sources: &[Source], duration_ms: i64) -> Log {
    let mut log = Vec::new();
    for (number, source) in sources.iter().enumerate() {
        let mut dice = Dice(source.seed);
        let period = 1000.0 / source.rate_hz;
        for row in 0.. {
            let jitter = (dice.unit() * 2.0 - 1.0) * source.jitter * period;
            let truth = (row as f64 + source.phase) * period + jitter;
            let (lost, late, twice) = (dice.unit() < source.drop, dice.unit(), dice.unit() < source.twice);
            if truth > duration_ms as f64 {
                break;
            }
            if lost {
                continue;
            }
            let stepped = source.step.map_or(0, |(when, by)| if truth >= when as f64 { by } else { 0 });
            let nanos = |ms: f64| CaptureTime::from_nanos(START + (ms * 1e6) as i64);
            let capture = nanos(truth + source.clock_ms + stepped as f64);
            let arrival = nanos(truth + source.latency_ms + late * source.latency_jitter_ms);
            let id = number as u64 * 1_000_000 + row;
            log.push(sample(&source.stream, capture, arrival, id));
            if twice {
                log.push(sample(&source.stream, capture, arrival + Span::from_millis(3), id));
            }
        }
    }
    sort(&mut log);
    log
}

pub fn sort(log: &mut Log) {
    log.sort_by_key(|sample| {
        (sample.stamps.arrival.monotonic, sample.stream.clone(), sample.stamps.sequence)
    });
}

pub fn streams() -> Vec<Stream> {
    vec![
        Stream::Camera,
        Stream::Radar,
        Stream::Lidar,
        Stream::Position(ue("a")),
        Stream::Position(ue("b")),
        Stream::Link(ue("a")),
        Stream::Link(ue("b")),
        Stream::Blocked(ue("a")),
    ]
}

/// A stream with everything that can go wrong but clock steps.
pub fn source(stream: Stream) -> impl Strategy<Value = Source> {
    (
        (4.0..30.0f64, 0.0..1.0f64, 0.0..0.3f64, prop_oneof![Just(0.0), 0.0..0.4f64]),
        (0.0..60.0f64, prop_oneof![Just(0.0), 0.0..120.0f64], -150.0..40.0f64),
        (prop_oneof![Just(0.0), 0.0..0.5f64], any::<u64>()),
    )
        .prop_map(move |(capture, arrival, (twice, seed))| Source {
            stream: stream.clone(),
            rate_hz: capture.0,
            phase: capture.1,
            jitter: capture.2,
            drop: capture.3,
            latency_ms: arrival.0,
            latency_jitter_ms: arrival.1,
            clock_ms: arrival.2,
            step: None,
            twice,
            seed,
        })
}

/// Some of the streams, each with its own faults; `steps` lets their clocks step too.
pub fn sources(steps: bool) -> impl Strategy<Value = Vec<Source>> {
    let one = |stream: Stream| {
        let step = prop_oneof![
            3 => Just(None),
            1 => (300i64..1500, prop_oneof![-4000i64..-1300, 1300i64..4000]).prop_map(Some),
        ];
        let source = (source(stream), step)
            .prop_map(move |(source, step)| Source { step: step.filter(|_| steps), ..source });
        proptest::option::weighted(0.7, source)
    };
    let all: Vec<_> = streams().into_iter().map(one).collect();
    all.prop_map(|sources| sources.into_iter().flatten().collect())
}

/// A stream that does only what it should: steady rate, constant latency.
pub fn steady(stream: Stream, rate_hz: f64, phase: f64) -> Source {
    Source {
        stream,
        rate_hz,
        phase,
        jitter: 0.0,
        drop: 0.0,
        latency_ms: 5.0,
        latency_jitter_ms: 0.0,
        clock_ms: 0.0,
        step: None,
        twice: 0.0,
        seed: 1,
    }
}

pub fn settings() -> impl Strategy<Value = config::Align> {
    let orders = prop_oneof![
        Just(vec![Modality::Camera]),
        Just(vec![Modality::Radar, Modality::Camera, Modality::Lidar]),
        Just(vec![Modality::Position, Modality::Link]),
        Just(vec![Modality::Link]),
        Just(vec![]),
    ];
    (orders, 0.0..150.0f64, proptest::option::of(0.0..200.0f64), 30.0..200.0f64, 1usize..6).prop_map(
        |(reference, max_wait_ms, link_lag_ms, tick_ms, capacity)| {
            let mut config =
                config::Align { reference, max_wait_ms, link_lag_ms, tick_ms, ..config::Align::default() };
            config.radar.capacity_items = capacity;
            config.lidar.capacity_bytes = capacity * 5 * 12;
            config.position.capacity_items = capacity;
            config
        },
    )
}

/// What the driver is about to do, or has just done.
pub enum Step {
    /// Before a poll at a deadline that nothing preceded.
    Before(Span),
    /// The number of frames that a poll at a deadline gave.
    Deadline(usize),
    /// After a push.
    Pushed,
    /// After a poll.
    Polled,
}

/// Drives `aligner` through a log in order of arrival: every deadline exactly, every sample at its arrival.
pub fn drive(aligner: &mut Aligner, log: &[Sample], mut watch: impl FnMut(&mut Aligner, Step)) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut rest = log;
    while let Some(first) = rest.first() {
        let now = first.stamps.arrival;
        deadlines(aligner, now.monotonic, &mut frames, &mut watch);
        while let Some((next, others)) = rest.split_first()
            && next.stamps.arrival == now
        {
            aligner.push(next.clone(), now);
            watch(aligner, Step::Pushed);
            rest = others;
        }
        frames.extend(std::iter::from_fn(|| aligner.poll(now)));
        watch(aligner, Step::Polled);
    }
    frames
}

/// Polls at every deadline before `until`.
pub fn deadlines(
    aligner: &mut Aligner,
    until: Span,
    frames: &mut Vec<Frame>,
    watch: &mut impl FnMut(&mut Aligner, Step),
) {
    while let Some(deadline) = aligner.next_deadline().filter(|&deadline| deadline < until) {
        watch(aligner, Step::Before(deadline));
        let now = Moment::at(CaptureTime::from_nanos(deadline.as_nanos()));
        let before = frames.len();
        frames.extend(std::iter::from_fn(|| aligner.poll(now)));
        watch(aligner, Step::Deadline(frames.len() - before));
        watch(aligner, Step::Polled);
    }
}

/// All frames of a log, with those that stand open at its end.
pub fn run(config: &config::Align, log: &[Sample]) -> (Vec<Frame>, Aligner) {
    let mut aligner = Aligner::new(unit(), config);
    let mut frames = drive(&mut aligner, log, |_, _| ());
    if let Some(last) = log.last() {
        frames.extend(std::iter::from_fn(|| aligner.flush(last.stamps.arrival)));
    }
    (frames, aligner)
}

/// What a frame is made of, without when and why it closed and when its samples arrived.
pub fn content(frame: &Frame) -> String {
    let place = |placed: &Placed| {
        let Placed { sample, capture, skew, fresh } = placed;
        format!("{} {capture} {skew} {fresh} {:?} {:?}", sample.stream, sample.stamps.sequence, sample.data)
    };
    let sensors: Vec<_> = frame.sensors.values().map(place).collect();
    let ues: Vec<_> =
        frame.ues.iter().map(|(ue, view)| (ue, view.position.as_ref().map(place), &view.link)).collect();
    format!(
        "{} {:?} {sensors:?} {:?} {ues:?} {} {}",
        frame.time, frame.reference, frame.missing_required, frame.ues_known, frame.after_gap
    )
}
