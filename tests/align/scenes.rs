//! Scenes with known frames: who settles, who takes over, who is forgotten.

use crate::support::*;
use mmsense::align::{Aligner, DropReason, PushOutcome};
use mmsense::config;
use mmsense::config::StreamRules;
use mmsense::frame::{CloseReason, Frame, FrameReference};
use mmsense::sample::{Modality, Sample, Stream, UeId};
use mmsense::time::{CaptureTime, Moment, Span};

fn ms_of(frame: &Frame) -> i64 {
    (since_start_ms(frame.time)).round() as i64
}

fn camera_first() -> config::Align {
    config::Align { reference: vec![Modality::Camera], ..config::Align::default() }
}

#[test]
fn a_phase_shifted_lidar_at_10_hz_does_not_push_frames_to_the_deadline() {
    for shift in [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9] {
        let sources = [steady(Stream::Camera, 10.0, 0.0), steady(Stream::Lidar, 10.0, shift)];
        let (frames, _) = run(&camera_first(), &log(&sources, 3000));
        let regular: Vec<&Frame> = frames.iter().filter(|frame| frame.time >= at(300)).collect();
        assert!(regular.len() > 25);
        for frame in &regular[..regular.len() - 1] {
            assert_eq!(frame.close, CloseReason::Settled, "shift {shift} at {}", ms_of(frame));
            let lidar = &frame.sensors[&Modality::Lidar];
            // 60 ms before the frame is out of tolerance, and the next one, 40 ms after it, comes after the deadline.
            assert_eq!(lidar.fresh, shift != 0.4, "shift {shift}: {}", lidar.skew);
        }
    }
}

#[test]
fn a_tick_takes_over_two_periods_after_the_reference_in_its_phase_until_it_returns() {
    let mut log = log(&[steady(Stream::Camera, 10.0, 0.37), steady(Stream::Lidar, 10.0, 0.4)], 4000);
    let lost = |sample: &Sample| {
        sample.stream == Stream::Camera && (at(1000)..at(2500)).contains(&sample.stamps.capture)
    };
    log.retain(|sample| !lost(sample));
    let (frames, _) = run(&camera_first(), &log);
    let around: Vec<(i64, FrameReference)> = frames
        .iter()
        .map(|frame| (ms_of(frame), frame.reference))
        .filter(|(time, _)| (900..1400).contains(time) || (2300..2700).contains(time))
        .collect();
    use FrameReference::{Camera, Tick};
    let expected = [
        (937, Camera),
        (1137, Tick),
        (1237, Tick),
        (1337, Tick),
        (2337, Tick),
        (2437, Tick),
        (2537, Camera),
        (2637, Camera),
    ];
    assert_eq!(around, expected);
    for frame in frames.iter().filter(|frame| frame.reference == Tick) {
        assert_eq!((frame.close, frame.wait()), (CloseReason::Deadline, Span::from_millis(30)));
        assert!(frame.sensors[&Modality::Lidar].fresh);
        assert!(!frame.after_gap);
    }
}

#[test]
fn the_next_reference_of_the_list_takes_over_and_gives_way_again() {
    let mut log = log(&[steady(Stream::Camera, 10.0, 0.0), steady(Stream::Radar, 5.0, 0.3)], 4000);
    log.retain(|sample| {
        sample.stream != Stream::Camera || !(at(1000)..at(2500)).contains(&sample.stamps.capture)
    });
    let config =
        config::Align { reference: vec![Modality::Camera, Modality::Radar], ..config::Align::default() };
    let (frames, _) = run(&config, &log);
    for frame in &frames {
        let camera = frame.time < at(1000) || frame.time >= at(2500);
        let expected = if camera { FrameReference::Camera } else { FrameReference::Radar };
        assert_eq!(frame.reference, expected, "{}", ms_of(frame));
    }
    assert_eq!(frames.iter().filter(|frame| frame.reference == FrameReference::Radar).count(), 7);
}

#[test]
fn a_unit_that_hears_nothing_ticks() {
    let mut aligner = Aligner::new(unit(), &camera_first());
    let mut frames = Vec::new();
    assert_eq!(aligner.next_deadline(), None);
    assert!(aligner.poll(Moment::at(at(0))).is_none());
    deadlines(&mut aligner, Moment::at(at(1000)).monotonic, &mut frames, &mut |_, _| ());
    assert_eq!(frames.iter().map(ms_of).collect::<Vec<_>>(), [200, 300, 400, 500, 600, 700, 800, 900]);
    for frame in &frames {
        assert!(!frame.is_usable() && !frame.ues_known);
        assert!(frame.ues.keys().eq([&UeId::implied()]));
        assert_eq!(frame.last_arrival, frame.opened);
    }
}

#[test]
fn without_a_reference_the_tick_starts_at_once_and_its_frames_settle() {
    let config = config::Align { reference: vec![], tick_ms: 50.0, ..config::Align::default() };
    let (frames, _) = run(&config, &log(&[steady(Stream::Lidar, 20.0, 0.0)], 1000));
    assert_eq!(ms_of(&frames[0]), 5, "the first arrival");
    let settled = frames.iter().filter(|frame| frame.close == CloseReason::Settled).count();
    assert!(settled >= frames.len() - 2, "{settled} of {}", frames.len());
    assert!(frames.iter().all(|frame| frame.reference == FrameReference::Tick));
}

#[test]
fn every_row_of_a_recording_opens_a_frame_also_after_the_ticks_of_a_gap() {
    // Two sequences, 2 s apart, at exact multiples of the period; all streams of a row arrive at once.
    let rows = (0..20).map(|row| row * 100).chain((0..20).map(|row| 4000 + row * 100));
    let mut log: Log = Vec::new();
    for (id, ms) in rows.clone().enumerate() {
        for stream in [Stream::Link(ue("0")), Stream::Camera, Stream::Position(ue("0"))] {
            log.push(sample(&stream, at(ms), at(ms), id as u64));
        }
    }
    for reference in [Modality::Camera, Modality::Position, Modality::Link] {
        let config = config::Align { reference: vec![reference], ..config::Align::default() };
        let (frames, _) = run(&config, &log);
        let of_rows: Vec<&Frame> =
            frames.iter().filter(|frame| frame.reference != FrameReference::Tick).collect();
        assert_eq!(
            of_rows.iter().map(|frame| ms_of(frame)).collect::<Vec<_>>(),
            rows.clone().collect::<Vec<_>>()
        );
        for frame in &of_rows {
            assert!(frame.sensors[&Modality::Camera].fresh);
            let view = &frame.ues[&ue("0")];
            assert_eq!(view.position.as_ref().map(|placed| placed.skew), Some(Span::ZERO));
            // The row's own report is never among them, the last one always is.
            let last = view.link.last().map(|report| frame.time - report.capture);
            let first = [0, 4000].contains(&ms_of(frame));
            assert_eq!(last, if first { None } else { Some(Span::from_millis(100)) }, "{}", ms_of(frame));
        }
        let gaps: Vec<i64> = frames.iter().filter(|frame| frame.after_gap).map(ms_of).collect();
        assert_eq!(gaps, [4000]);
    }
}

#[test]
fn ues_appear_leave_and_are_bounded() {
    let config = config::Align {
        max_ues: 2,
        ue_ttl_s: 1.0,
        ues: vec![ue("home")],
        reference: vec![],
        ..config::Align::default()
    };
    let mut aligner = Aligner::new(unit(), &config);
    let mut push = |name: &str, ms: i64| {
        let stream = Stream::Position(ue(name));
        let outcome = aligner.push(sample(&stream, at(ms), at(ms), 0), Moment::at(at(ms)));
        let frame = aligner
            .poll(Moment::at(at(ms)))
            .map(|frame| frame.ues.keys().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        (outcome, frame.unwrap_or_default())
    };
    assert_eq!(push("b", 0), (PushOutcome::Kept, "b home".to_owned()));
    assert_eq!(push("c", 100).0, PushOutcome::Dropped(DropReason::UeLimit));
    // Exactly the time to live is still within it; one millisecond more is not.
    assert_eq!(push("c", 1000).0, PushOutcome::Dropped(DropReason::UeLimit));
    assert_eq!(push("c", 1001).0, PushOutcome::Kept);
    assert_eq!(push("c", 1900).1, "c home");
    assert_eq!(aligner.counters().ues_forgotten, 1);
    assert_eq!(aligner.counters().of(Modality::Position).dropped(DropReason::UeLimit), 2);
}

#[test]
fn what_is_required_and_not_fresh_is_named() {
    let required = StreamRules { required: true, ..StreamRules::default() };
    let config = config::Align { camera: required, radar: required, position: required, ..camera_first() };
    let mut aligner = Aligner::new(unit(), &config);
    let mut frame = |streams: &[Stream], ms: i64| {
        for stream in streams {
            aligner.push(sample(stream, at(ms), at(ms), 0), Moment::at(at(ms)));
        }
        let frame = aligner.poll(Moment::at(at(ms))).or_else(|| aligner.poll(Moment::at(at(ms + 30))));
        frame.unwrap().missing_required
    };
    assert_eq!(frame(&[Stream::Camera], 0), [Modality::Radar, Modality::Position]);
    let a = Stream::Position(ue("a"));
    assert_eq!(frame(&[Stream::Camera, Stream::Radar, a.clone()], 100), []);
    // The radar of 100 ms ago is held, which is not fresh; ue b has said nothing of its place.
    assert_eq!(
        frame(&[Stream::Camera, a, Stream::Link(ue("b"))], 200),
        [Modality::Radar, Modality::Position]
    );
}

#[test]
fn truth_never_enters_a_frame_nor_makes_its_ue_known() {
    let mut aligner = Aligner::new(unit(), &camera_first());
    let now = Moment::at(at(0));
    assert_eq!(aligner.push(sample(&Stream::Blocked(ue("a")), at(0), at(0), 0), now), PushOutcome::Passed);
    aligner.push(sample(&Stream::Camera, at(0), at(0), 0), now);
    assert!(!aligner.poll(now).unwrap().ues_known);
    assert_eq!(aligner.counters().of(Modality::Blocked).passed, 1);
}

#[test]
fn a_sample_of_another_unit_or_kind_is_refused() {
    let mut aligner = Aligner::new(mmsense::sample::UnitId::new("other").unwrap(), &camera_first());
    let refused = PushOutcome::Dropped(DropReason::Mismatched);
    assert_eq!(aligner.push(sample(&Stream::Camera, at(0), at(0), 0), Moment::at(at(0))), refused);
    let mut aligner = Aligner::new(unit(), &camera_first());
    let mut wrong = sample(&Stream::Camera, at(0), at(0), 0);
    wrong.data = reading(&Stream::Lidar, 0);
    assert_eq!(aligner.push(wrong, Moment::at(at(0))), refused);
}

#[test]
fn a_calibrated_offset_moves_samples_onto_the_frame() {
    let mut config = camera_first();
    config.lidar.offset_ms = -40.0;
    let (frames, _) =
        run(&config, &log(&[steady(Stream::Camera, 10.0, 0.0), steady(Stream::Lidar, 10.0, 0.4)], 1000));
    for frame in &frames[3..frames.len() - 1] {
        let lidar = &frame.sensors[&Modality::Lidar];
        assert_eq!(lidar.skew.as_millis_f64().round() as i64, -100 * i64::from(!lidar.fresh));
        assert_eq!(lidar.capture, lidar.sample.stamps.capture - Span::from_millis(40));
    }
}

#[test]
fn a_reference_that_becomes_slow_to_arrive_opens_frames_again() {
    // 600 ms more on the way from 1 s on: silence, ticks, and then the camera again.
    let mut log = log(&[steady(Stream::Camera, 10.0, 0.0)], 4000);
    for sample in log.iter_mut().filter(|sample| sample.stamps.capture >= at(1000)) {
        sample.stamps.arrival = Moment::at(sample.stamps.arrival.unix + Span::from_millis(600));
    }
    let (frames, _) = run(&camera_first(), &log);
    let back =
        frames.iter().filter(|frame| frame.reference == FrameReference::Camera && frame.time > at(1000));
    assert!(back.count() > 20);
    assert!(frames.iter().any(|frame| frame.reference == FrameReference::Tick));
}

#[test]
fn months_of_silence_and_noise_leave_nothing_behind() {
    let mut aligner = Aligner::new(unit(), &config::Align { ue_ttl_s: 1.0, ..camera_first() });
    for step in 0..5_000i64 {
        let now = at(step * 700);
        for stream in [Stream::Link(ue(&format!("ue{step}"))), Stream::Position(ue(&format!("ue{step}")))] {
            aligner.push(sample(&stream, now, now, 0), Moment::at(now));
        }
        while aligner.poll(Moment::at(now)).is_some() {}
    }
    let now = at(5_000 * 700 + 60_000);
    while aligner.poll(Moment::at(now)).is_some() {}
    for modality in Modality::ALL {
        assert_eq!(aligner.counters().of(modality).retained, 0, "{modality}");
    }
    assert_eq!(aligner.counters().ues_forgotten, 5_000);
    assert_eq!(aligner.open_frames(), 0);
}

#[test]
fn a_clock_that_went_back_leaves_the_unit_saying_that_it_knows_nothing() {
    let mut source = steady(Stream::Camera, 10.0, 0.0);
    source.step = Some((1000, -3_600_000));
    let (frames, aligner) = run(&camera_first(), &log(&[source], 4000));
    let counters = aligner.counters().of(Modality::Camera);
    assert_eq!(counters.dropped(DropReason::BackwardClock), 1);
    assert_eq!(counters.dropped(DropReason::Quarantined), 9);
    assert!(counters.dropped(DropReason::Late) > 10);
    let ticks = frames.iter().filter(|frame| frame.reference == FrameReference::Tick).count();
    assert!(ticks > 25, "{ticks}");
    assert!(frames.iter().all(|frame| frame.time >= CaptureTime::from_nanos(START)));
}
