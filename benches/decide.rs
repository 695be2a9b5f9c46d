//! From a frame to its messages with the baseline rules: predict and decide, and one truth per UE.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use mmsense::config::{Codebook, Decide, Model};
use mmsense::decide::Decider;
use mmsense::frame::{CloseReason, Frame, FrameReference, LinkReport, UeView, Window};
use mmsense::infer::{Baseline, Predictor};
use mmsense::sample::{BeamIndex, BeamPower, CaptureSource, Data, Sample, Stamps, Stream, UeId, UnitId};
use mmsense::time::{CaptureTime, Moment, Span};

const BEAMS: u16 = 64;
/// Reports that a UE has at 10 Hz within the default 500 ms.
const REPORTS: i64 = 5;

fn at(ms: i64) -> CaptureTime {
    CaptureTime::from_nanos(0) + Span::from_millis(ms)
}

/// A user that passes by: the best beam moves on by one every 200 ms.
fn power(ms: i64) -> (Arc<BeamPower>, BeamIndex) {
    let best = u16::try_from((ms / 200).rem_euclid(i64::from(BEAMS))).unwrap_or(0);
    let linear = (0..BEAMS).map(|beam| 1.0 / (1.0 + f64::from(beam.abs_diff(best)))).collect();
    (Arc::new(BeamPower { linear }), BeamIndex(best))
}

fn report(ms: i64) -> Arc<LinkReport> {
    let (power, best) = power(ms);
    Arc::new(LinkReport { capture: at(ms), power, best, best_db: 0.0, reference_db: 0.0 })
}

fn window(unit: &UnitId, ues: &[UeId], ms: i64) -> Window {
    let link: Vec<_> = (1..=REPORTS).rev().map(|back| report(ms - 100 * back)).collect();
    let view = || UeView { position: None, link: link.clone() };
    let frame = Arc::new(Frame {
        unit: unit.clone(),
        time: at(ms),
        sequence: (ms / 100).unsigned_abs(),
        reference: FrameReference::Tick,
        sensors: BTreeMap::new(),
        missing_required: Vec::new(),
        ues: ues.iter().map(|ue| (ue.clone(), view())).collect(),
        ues_known: true,
        after_gap: false,
        close: CloseReason::Settled,
        opened: Moment::at(at(ms)),
        closed: Moment::at(at(ms)),
        last_arrival: Moment::at(at(ms)),
    });
    Window { slots: vec![Some(Arc::clone(&frame))], frame }
}

fn truth(unit: &UnitId, ue: &UeId, ms: i64) -> Sample {
    let stamps = Stamps {
        capture: at(ms),
        capture_source: CaptureSource::Recording,
        sequence: None,
        arrival: Moment::at(at(ms)),
        transport_ns: None,
    };
    Sample { unit: unit.clone(), stream: Stream::Link(ue.clone()), stamps, data: Data::Power(power(ms).0) }
}

fn benches(criterion: &mut Criterion) {
    let unit = UnitId::try_from("unit1".to_owned()).unwrap_or_else(|_| unreachable!());
    let mut group = criterion.benchmark_group("frame to messages");
    for count in [1, 16] {
        let ues: Vec<UeId> =
            (0..count).map(|ue| UeId::try_from(ue.to_string()).unwrap_or_else(|_| unreachable!())).collect();
        let rules = Decide::default();
        let codebook = Codebook { beams: Some(usize::from(BEAMS)), ..Codebook::default() };

        let mut baseline = Baseline::new(&Model::default(), &codebook, &rules);
        let mut decider = Decider::new(unit.clone(), &rules, &codebook, baseline.info());
        let mut ms = 0;
        group.bench_function(BenchmarkId::new("predict and decide", count), |bencher| {
            let next = || {
                ms += 100;
                window(&unit, &ues, ms)
            };
            let step = |window: Window| {
                let outcome =
                    baseline.predict(std::slice::from_ref(&window)).map(|mut all| all.swap_remove(0));
                black_box(decider.decide(&window.frame, outcome.as_ref()))
            };
            bencher.iter_batched(next, step, BatchSize::SmallInput);
        });

        let mut baseline = Baseline::new(&Model::default(), &codebook, &rules);
        let mut decider = Decider::new(unit.clone(), &rules, &codebook, baseline.info());
        let mut ms = 0;
        group.bench_function(BenchmarkId::new("predict, decide and score", count), |bencher| {
            let next = || {
                ms += 100;
                let truths: Vec<Sample> = ues.iter().map(|ue| truth(&unit, ue, ms)).collect();
                (window(&unit, &ues, ms), truths)
            };
            let step = |(window, truths): (Window, Vec<Sample>)| {
                let outcome =
                    baseline.predict(std::slice::from_ref(&window)).map(|mut all| all.swap_remove(0));
                let messages = decider.decide(&window.frame, outcome.as_ref());
                let scores: Vec<_> = truths.iter().map(|truth| decider.observe(truth)).collect();
                black_box((messages, scores))
            };
            bencher.iter_batched(next, step, BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(decide, benches);
criterion_main!(decide);
