//! What the aligner costs per sample: one push and the polls that follow it.
//!
//! Throughput (samples per second) is the figure to read; the time is that of a whole minute of samples.
#![allow(clippy::expect_used)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mmsense::align::{Aligner, Windower};
use mmsense::config;
use mmsense::sample::{
    BeamPower, CaptureSource, Data, Modality, PointCloud, Position, RadarReading, Sample, Stamps, Stream,
    UeId, UnitId,
};
use mmsense::time::{CaptureTime, Moment, Span};

fn reading(stream: &Stream) -> Data {
    match stream {
        Stream::Camera => Data::Image(Arc::new(image::RgbImage::new(8, 8))),
        Stream::Radar => Data::Radar(Arc::new(RadarReading::default())),
        Stream::Lidar => Data::Cloud(Arc::new(PointCloud::default())),
        Stream::Link(_) => Data::Power(Arc::new(BeamPower { linear: vec![1.0; 64] })),
        Stream::Position(_) => Data::Position(Position {
            latitude: 33.4,
            longitude: -111.9,
            altitude_m: None,
            speed_mps: None,
            local: None,
        }),
        Stream::Blocked(_) => Data::Blocked(false),
    }
}

/// A minute of streams at their rates, each a little out of phase, 5 ms on the way.
fn minute(streams: &[(Stream, i64)]) -> Vec<Sample> {
    let unit = UnitId::new("unit1").expect("a name");
    let mut samples = Vec::new();
    for (number, (stream, rate)) in streams.iter().enumerate() {
        let data = reading(stream);
        for row in 0..rate * 60 {
            let nanos = 1_700_000_000_000_000_000 + row * 1_000_000_000 / rate + number as i64 * 7_000_000;
            let capture = CaptureTime::from_nanos(nanos);
            let stamps = Stamps {
                capture,
                capture_source: CaptureSource::Attachment,
                sequence: Some(row as u64),
                arrival: Moment::at(capture + Span::from_millis(5)),
                transport_ns: None,
            };
            samples.push(Sample { unit: unit.clone(), stream: stream.clone(), stamps, data: data.clone() });
        }
    }
    samples.sort_by_key(|sample| sample.stamps.arrival.monotonic);
    samples
}

fn push_and_poll(criterion: &mut Criterion) {
    let ue = |index: usize| UeId::new(&format!("ue{index}")).expect("a name");
    let sensors = [(Stream::Camera, 10), (Stream::Radar, 10), (Stream::Lidar, 10)];
    let with_ues = |ues: usize| {
        let of_ue = |index| [(Stream::Link(ue(index)), 10), (Stream::Position(ue(index)), 10)];
        sensors.iter().cloned().chain((0..ues).flat_map(of_ue)).collect::<Vec<_>>()
    };
    let scenes = [
        ("three_sensors", sensors.to_vec()),
        ("three_sensors_one_ue", with_ues(1)),
        ("three_sensors_16_ues", with_ues(16)),
        ("camera_30_radar_20_lidar_10", vec![(Stream::Camera, 30), (Stream::Radar, 20), (Stream::Lidar, 10)]),
    ];
    let mut group = criterion.benchmark_group("align_minute");
    group.sample_size(20).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    for (name, streams) in scenes {
        let samples = minute(&streams);
        let config = config::Align { reference: vec![Modality::Camera], ..config::Align::default() };
        group.throughput(Throughput::Elements(samples.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || (Aligner::new(samples[0].unit.clone(), &config), samples.clone()),
                |(mut aligner, samples)| {
                    let mut frames = 0u64;
                    for sample in samples {
                        let now = sample.stamps.arrival;
                        while let Some(due) = aligner.next_deadline().filter(|&due| due < now.monotonic) {
                            let due = Moment::at(CaptureTime::from_nanos(due.as_nanos()));
                            while let Some(frame) = aligner.poll(due) {
                                black_box(frame);
                                frames += 1;
                            }
                        }
                        aligner.push(sample, now);
                        while let Some(frame) = aligner.poll(now) {
                            black_box(frame);
                            frames += 1;
                        }
                    }
                    (aligner, frames)
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

fn windows(criterion: &mut Criterion) {
    let samples = minute(&[(Stream::Camera, 10)]);
    let config = config::Align::default();
    let mut aligner = Aligner::new(samples[0].unit.clone(), &config);
    let mut frames = Vec::new();
    for sample in samples {
        let now = sample.stamps.arrival;
        aligner.push(sample, now);
        frames.extend(std::iter::from_fn(|| aligner.poll(now)).map(Arc::new));
    }
    let mut group = criterion.benchmark_group("window_minute");
    group.throughput(Throughput::Elements(frames.len() as u64));
    group.bench_function("five_slots", |bencher| {
        bencher.iter(|| {
            let mut windower = Windower::new(&config);
            for frame in &frames {
                black_box(windower.push(Arc::clone(frame)));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, push_and_poll, windows);
criterion_main!(benches);
