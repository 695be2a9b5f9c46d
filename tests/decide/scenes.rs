//! Frames, reports and whole runs for the tests of `decide`, built in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use mmsense::config::{self, Codebook};
use mmsense::decide::Decider;
use mmsense::frame::{CloseReason, Frame, FrameReference, LinkReport, Placed, UeView, Window};
use mmsense::infer::{Baseline, ModelError, ModelInfo, Prediction, Predictor, UePrediction};
use mmsense::message::{BeamMessage, BlockageMessage, Message, ScoreMessage};
use mmsense::percentile::RunningPercentile;
use mmsense::sample::{
    BeamPower, CaptureSource, Data, Modality, Position, Sample, Stamps, Stream, UeId, UnitId,
};
use mmsense::time::{CaptureTime, Moment, Span};
use proptest::prelude::*;

/// Start of every scene: late enough that nothing fits into a double exactly.
pub const START_MS: i64 = 1_700_000_000_000;

pub fn at(ms: i64) -> CaptureTime {
    CaptureTime::from_nanos(0) + Span::from_millis(START_MS + ms)
}

pub fn ue(name: &str) -> UeId {
    UeId::new(name).unwrap()
}

pub fn unit() -> UnitId {
    UnitId::new("unit1").unwrap()
}

pub fn rule() -> ModelInfo {
    ModelInfo { id: "rule".to_owned(), trained: true }
}

pub fn sample(stream: Stream, ms: i64, data: Data) -> Sample {
    let stamps = Stamps {
        capture: at(ms),
        capture_source: CaptureSource::Recording,
        sequence: None,
        arrival: Moment::at(at(ms)),
        transport_ns: None,
    };
    Sample { unit: unit(), stream, stamps, data }
}

pub fn power(name: &str, ms: i64, linear: &[f64]) -> Sample {
    let data = Data::Power(Arc::new(BeamPower { linear: linear.to_vec() }));
    sample(Stream::Link(ue(name)), ms, data)
}

pub fn label(name: &str, ms: i64, blocked: bool) -> Sample {
    sample(Stream::Blocked(ue(name)), ms, Data::Blocked(blocked))
}

pub fn placed(stream: Stream, ms: i64, skew_ms: i64, data: Data) -> Placed {
    Placed {
        sample: Arc::new(sample(stream, ms + skew_ms, data)),
        capture: at(ms + skew_ms),
        skew: Span::from_millis(skew_ms),
        fresh: skew_ms.abs() <= 50,
    }
}

pub fn report(ms: i64, linear: &[f64]) -> Arc<LinkReport> {
    let power = BeamPower { linear: linear.to_vec() };
    let (best, strength) = power.best().unwrap();
    let best_db = 10.0 * strength.log10();
    let power = Arc::new(power);
    Arc::new(LinkReport { capture: at(ms), power, best, best_db, reference_db: best_db })
}

/// A UE with these reports and, if asked for, a position.
pub fn view(ms: i64, link: &[Arc<LinkReport>], located: bool) -> UeView {
    let position =
        Position { latitude: 33.4, longitude: -111.9, altitude_m: None, speed_mps: None, local: None };
    let position = located.then(|| placed(Stream::Position(ue("p")), ms, -20, Data::Position(position)));
    UeView { position, link: link.to_vec() }
}

/// A frame with a camera image 3 ms after its instant.
pub fn frame(sequence: u64, ms: i64, ues: &[(&str, UeView)]) -> Frame {
    let image = Data::Image(Arc::default());
    Frame {
        unit: unit(),
        time: at(ms),
        sequence,
        reference: FrameReference::Camera,
        sensors: BTreeMap::from([(Modality::Camera, placed(Stream::Camera, ms, 3, image))]),
        missing_required: Vec::new(),
        ues: ues.iter().map(|(name, view)| (ue(name), view.clone())).collect(),
        ues_known: true,
        after_gap: false,
        close: CloseReason::Settled,
        opened: Moment::at(at(ms)),
        closed: Moment::at(at(ms + 5)),
        last_arrival: Moment::at(at(ms + 4)),
    }
}

/// The same frame without anything sensed.
pub fn blind(mut frame: Frame) -> Frame {
    frame.sensors.clear();
    frame.missing_required = vec![Modality::Camera];
    for view in frame.ues.values_mut() {
        *view = UeView::default();
    }
    frame
}

/// A UE's name, and what a model says of its beams and of blockage.
pub type Said<'a> = (&'a str, Option<Vec<f32>>, Option<Vec<f32>>);

/// What a model says of each named UE.
pub fn says(ues: &[Said]) -> Prediction {
    let ues = ues.iter().map(|(name, beam, blockage)| {
        (ue(name), UePrediction { beam: beam.clone(), blockage: blockage.clone(), ..UePrediction::default() })
    });
    Prediction { ues: ues.collect(), ..Prediction::default() }
}

pub fn failed() -> ModelError {
    ModelError::Failed("no device".to_owned())
}

pub fn decider(rules: &config::Decide) -> Decider {
    Decider::new(unit(), rules, &Codebook::default(), rule())
}

pub fn beams(messages: &[Message]) -> Vec<&BeamMessage> {
    let mut found = Vec::new();
    for message in messages {
        if let Message::Beam(beam) = message {
            found.push(beam);
        }
    }
    found
}

pub fn blockages(messages: &[Message]) -> Vec<&BlockageMessage> {
    let mut found = Vec::new();
    for message in messages {
        if let Message::Blockage(blockage) = message {
            found.push(blockage);
        }
    }
    found
}

pub fn score(message: Option<Message>) -> ScoreMessage {
    match message {
        Some(Message::Score(score)) => score,
        other => panic!("no score: {other:?}"),
    }
}

/// One thing that happens to a unit in a random run.
#[derive(Clone, Debug)]
pub enum Step {
    /// A frame some time after the last one.
    Frame { after_ms: i64, camera: bool, missing: bool, present: [bool; 3], located: bool, model: Answer },
    /// A link report some time after the last frame.
    Report { ue: usize, after_ms: i64, linear: Vec<f64> },
    /// A label.
    Label { ue: usize, after_ms: i64, blocked: bool },
}

/// What the model does in a frame of a random run.
#[derive(Clone, Debug)]
pub enum Answer {
    /// What the rules say.
    Rules,
    /// Blockage probabilities out of the blue, the same for all; sorted.
    Blockage([f32; 4]),
    /// It says nothing of anyone.
    Nothing,
    /// It breaks.
    Failed,
    /// It gives a NaN.
    NotANumber,
}

pub const NAMES: [&str; 3] = ["a", "b", "c"];

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let answer = prop_oneof![
        4 => Just(Answer::Rules),
        6 => prop::array::uniform4(0.0..=1f32).prop_map(|mut p| {
            p.sort_by(f32::total_cmp);
            Answer::Blockage(p)
        }),
        1 => Just(Answer::Nothing),
        1 => Just(Answer::Failed),
        1 => Just(Answer::NotANumber),
    ];
    let watts = prop_oneof![
        40 => 1e-9..1e3f64,
        1 => Just(0.0),
        5 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
    ];
    let after = prop_oneof![8 => Just(100i64), 2 => 1..300i64, 1 => 300..3000i64];
    let present = prop::array::uniform3(prop::bool::weighted(0.8));
    let camera = prop::bool::weighted(0.8);
    let missing = prop::bool::weighted(0.2);
    let step = prop_oneof![
        3 => (after, camera, missing, present, any::<bool>(), answer).prop_map(
            |(after_ms, camera, missing, present, located, model)| {
                Step::Frame { after_ms, camera, missing, present, located, model }
            }
        ),
        3 => (0..3usize, -200..300i64, prop::collection::vec(watts, 8)).prop_map(
            |(ue, after_ms, linear)| Step::Report { ue, after_ms, linear }
        ),
        1 => (0..3usize, -200..300i64, any::<bool>()).prop_map(
            |(ue, after_ms, blocked)| Step::Label { ue, after_ms, blocked }
        ),
    ];
    prop::collection::vec(step, 1..60)
}

/// Everything that a decider says in a random run.
pub fn run(rules: &config::Decide, steps: &[Step]) -> (Decider, Vec<Message>) {
    let mut baseline = Baseline::new(&config::Model::default(), &Codebook::default(), rules);
    let mut decider = Decider::new(unit(), rules, &Codebook::default(), baseline.info());
    let mut history: [(Vec<Arc<LinkReport>>, RunningPercentile); 3] =
        std::array::from_fn(|_| (Vec::new(), RunningPercentile::p90()));
    let (mut now, mut sequence, mut said) = (0, 0, Vec::new());
    for step in steps {
        match step {
            Step::Frame { after_ms, camera, missing, present, located, model } => {
                now += after_ms;
                let seen: Vec<(&str, UeView)> = (0..3)
                    .filter(|&index| present[index])
                    .map(|index| {
                        let old = |report: &&Arc<LinkReport>| {
                            report.capture < at(now - 50) && report.capture > at(now - 550)
                        };
                        let link: Vec<_> = history[index].0.iter().filter(old).cloned().collect();
                        (NAMES[index], view(now, &link, *located))
                    })
                    .collect();
                let mut frame = frame(sequence, now, &seen);
                sequence += 1;
                if !camera {
                    frame.sensors.clear();
                }
                if *missing {
                    frame.missing_required = vec![Modality::Radar];
                }
                let frame = Arc::new(frame);
                let windows = [Window { slots: vec![Some(frame.clone())], frame: frame.clone() }];
                let mut outcome = baseline.predict(&windows).map(|mut all| all.remove(0));
                match model {
                    Answer::Rules => {}
                    Answer::Failed => outcome = Err(failed()),
                    Answer::Nothing => outcome = Ok(Prediction::default()),
                    Answer::Blockage(p) => {
                        let ues = &mut outcome.as_mut().unwrap().ues;
                        ues.values_mut().for_each(|said| said.blockage = Some(p.to_vec()));
                    }
                    Answer::NotANumber => {
                        let ues = &mut outcome.as_mut().unwrap().ues;
                        ues.values_mut().for_each(|said| said.beam = Some(vec![f32::NAN; 8]));
                    }
                }
                said.extend(decider.decide(&frame, outcome.as_ref()));
            }
            Step::Report { ue, after_ms, linear } => {
                let capture = now + after_ms;
                said.extend(decider.observe(&power(NAMES[*ue], capture, linear)));
                let (reports, percentile) = &mut history[*ue];
                let newer = reports.last().is_none_or(|last| last.capture < at(capture));
                if newer && linear.iter().any(|watts| !watts.is_nan()) {
                    let mut report = (*report(capture, linear)).clone();
                    report.reference_db = percentile.push(report.best_db).unwrap();
                    reports.push(Arc::new(report));
                }
            }
            Step::Label { ue, after_ms, blocked } => {
                said.extend(decider.observe(&label(NAMES[*ue], now + after_ms, *blocked)));
            }
        }
    }
    decider.finish();
    (decider, said)
}
