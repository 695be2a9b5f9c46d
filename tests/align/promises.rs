//! The promises of the aligner, one property each, on random multi-sensor logs.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::support::*;
use mmsense::align::{Aligner, DropReason, PushOutcome};
use mmsense::config;
use mmsense::frame::{CloseReason, Frame};
use mmsense::sample::{BeamPower, Data, Modality, Sample, Stream};
use mmsense::time::{CaptureTime, Moment, Span};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const LENGTH_MS: i64 = 2500;

fn check_conservation(aligner: &Aligner) {
    for modality in Modality::ALL {
        let counters = aligner.counters().of(modality);
        assert_eq!(counters.accounted(), counters.received, "{modality}: {counters:?}");
    }
}

/// Distinct samples that stood in frames, counted from the frames alone.
fn used_in(frames: &[Frame], modality: Modality) -> u64 {
    let mut seen = BTreeSet::new();
    for frame in frames {
        if let Some(placed) = frame.sensors.get(&modality) {
            seen.insert((String::new(), placed.sample.stamps.sequence, placed.capture));
        }
        for (ue, view) in &frame.ues {
            if modality == Modality::Position {
                let position = view.position.iter();
                seen.extend(position.map(|p| (ue.to_string(), p.sample.stamps.sequence, p.capture)));
            }
            if modality == Modality::Link {
                seen.extend(view.link.iter().map(|report| (ue.to_string(), None, report.capture)));
            }
        }
    }
    seen.len() as u64
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn every_sample_is_used_expired_replaced_dropped_with_a_reason_or_waits(
        sources in sources(true),
        config in settings(),
        max_ues in 0usize..3,
    ) {
        let config = config::Align { max_ues, ue_ttl_s: 2.5, ..config };
        let log = log(&sources, LENGTH_MS);
        let mut aligner = Aligner::new(unit(), &config);
        let mut frames = drive(&mut aligner, &log, |aligner, _| check_conservation(aligner));
        if let Some(last) = log.last() {
            frames.extend(std::iter::from_fn(|| aligner.flush(last.stamps.arrival)));
        }
        check_conservation(&aligner);
        for modality in Modality::ALL {
            let counters = aligner.counters().of(modality);
            let sent = log.iter().filter(|sample| sample.stream.modality() == modality).count();
            prop_assert_eq!(counters.received, sent as u64);
            prop_assert_eq!(counters.retained, 0, "nothing waits after the end");
            prop_assert_eq!(counters.used, used_in(&frames, modality), "{}", modality);
        }
        prop_assert_eq!(aligner.counters().frames, frames.len() as u64);
        prop_assert_eq!(aligner.counters().frames_skipped, 0);
    }

    #[test]
    fn frame_times_strictly_increase(sources in sources(true), config in settings()) {
        let (frames, _) = run(&config, &log(&sources, LENGTH_MS));
        for (frame, next) in frames.iter().zip(frames.iter().skip(1)) {
            prop_assert!(frame.time < next.time, "{} then {}", frame.time, next.time);
            prop_assert_eq!(frame.sequence + 1, next.sequence);
            prop_assert!(frame.closed.monotonic <= next.closed.monotonic);
        }
    }

    #[test]
    fn no_frame_waits_longer_than_max_wait(sources in sources(true), config in settings()) {
        let max_wait = config::millis(config.max_wait_ms);
        let (frames, _) = run(&config, &log(&sources, LENGTH_MS));
        for frame in &frames {
            prop_assert!(frame.wait() >= Span::ZERO && frame.wait() <= max_wait, "{:?}", frame.wait());
            prop_assert!(frame.close != CloseReason::Deadline || frame.wait() == max_wait);
            prop_assert!(frame.last_arrival.monotonic <= frame.closed.monotonic);
        }
    }

    #[test]
    fn memory_stays_below_its_cap(sources in sources(true), config in settings(), polled in any::<bool>()) {
        let log = log(&sources, LENGTH_MS);
        let check = |aligner: &Aligner, open: usize| {
            for stream in streams() {
                let held = aligner.buffered(&stream);
                if let Some(rules) = config.rules(stream.modality()) {
                    assert!(held.items <= rules.capacity_items && held.bytes <= rules.capacity_bytes);
                }
                assert!(held.items <= 512 && held.bytes <= 4 << 20, "{stream}: {held:?}");
            }
            assert!(aligner.open_frames() <= open);
        };
        let mut aligner = Aligner::new(unit(), &config);
        if polled {
            drive(&mut aligner, &log, |aligner, step| {
                check(aligner, if matches!(step, Step::Polled) { 32 } else { 64 });
            });
        } else {
            // Nobody polls for the whole log.
            for sample in &log {
                aligner.push(sample.clone(), sample.stamps.arrival);
                check(&aligner, 64);
                check_conservation(&aligner);
            }
        }
    }

    #[test]
    fn order_within_a_batch_and_duplicates_do_not_change_a_frame(
        sources in sources(false),
        config in settings(),
        seed in any::<u64>(),
    ) {
        let config = config::Align { ues: vec![ue("a"), ue("b")], ..config };
        let config = ample(config);
        // Copies are made below: one of a later arrival would tell the tick another latency.
        let sources: Vec<Source> = sources.into_iter().map(|source| Source { twice: 0.0, ..source }).collect();
        let log = log(&sources, LENGTH_MS);
        let batches = |shuffled: bool| {
            let mut dice = Dice(seed);
            let mut aligner = Aligner::new(unit(), &config);
            let mut frames = Vec::new();
            let mut rest = log.as_slice();
            for end in (1..).map(|batch| at(batch * 20)).take_while(|&end| end < at(LENGTH_MS + 300)) {
                let count = rest.partition_point(|sample| sample.stamps.arrival.unix <= end);
                let (batch, others) = rest.split_at(count);
                rest = others;
                let mut batch = batch.to_vec();
                if shuffled {
                    let again = batch.clone();
                    batch.extend(again.into_iter().filter(|_| dice.unit() < 0.3));
                    let mut keyed: Vec<_> = batch.into_iter().map(|sample| (dice.next(), sample)).collect();
                    keyed.sort_by_key(|&(key, _)| key);
                    batch = keyed.into_iter().map(|(_, sample)| sample).collect();
                }
                deadlines(&mut aligner, Moment::at(end).monotonic, &mut frames, &mut |_, _| ());
                for sample in batch {
                    aligner.push(sample, Moment::at(end));
                }
                frames.extend(std::iter::from_fn(|| aligner.poll(Moment::at(end))));
            }
            frames
        };
        let (plain, shuffled) = (batches(false), batches(true));
        prop_assert_eq!(plain.len(), shuffled.len());
        for (plain, shuffled) in plain.iter().zip(&shuffled) {
            prop_assert_eq!(content(plain), content(shuffled));
        }
    }

    #[test]
    fn the_same_log_twice_gives_the_same_frames_byte_for_byte(
        sources in sources(true),
        config in settings(),
    ) {
        let log = log(&sources, LENGTH_MS);
        let (first, second) = (run(&config, &log), run(&config, &log));
        prop_assert_eq!(format!("{:?}", first.0), format!("{:?}", second.0));
        prop_assert_eq!(first.1.counters(), second.1.counters());
    }

    #[test]
    fn a_silent_sensor_never_stops_the_others(
        rates in proptest::collection::vec((4.0..30.0f64, 0.0..1.0f64), 3),
        silent in 0usize..3,
        reference in 0usize..4,
        since in 500i64..1500,
    ) {
        let sensors = [Stream::Camera, Stream::Radar, Stream::Lidar];
        let sources: Vec<Source> = sensors
            .iter()
            .zip(&rates)
            .map(|(stream, &(rate, phase))| steady(stream.clone(), rate, phase))
            .collect();
        let mut log = log(&sources, 4000);
        log.retain(|sample| sample.stream != sensors[silent] || sample.stamps.capture < at(since));
        let reference = sensors.iter().map(Stream::modality).filter(|_| reference < 3).collect();
        let config = config::Align { reference, ..config::Align::default() };
        let (frames, _) = run(&config, &log);
        // Two of the slowest periods until the stream counts as dead, max_wait for that and for the frame, a period.
        let longest = Span::from_millis(3 * 250 + 2 * 30);
        for (frame, next) in frames.iter().zip(frames.iter().skip(1)) {
            let pause = next.closed.monotonic - frame.closed.monotonic;
            prop_assert!(pause <= longest, "nothing for {} after {}", pause, since_start_ms(frame.time));
        }
        for (index, stream) in sensors.iter().enumerate() {
            let later = frames.iter().filter(|frame| frame.time > at(since + 300));
            // At equal rates a sensor may always come too late to be fresh; then its last sample stands in.
            let present = later.filter(|frame| frame.sensors.contains_key(&stream.modality()));
            prop_assert_eq!(present.count() > 0, index != silent, "{}", stream);
        }
    }

    #[test]
    fn stamps_from_the_future_or_the_past_never_enter_a_frame(
        sources in sources(false),
        config in settings(),
        lies in proptest::collection::vec((0i64..LENGTH_MS, 0usize..7, prop_oneof![
            101i64..400, 1101i64..100_000_000, -100_000_000i64..-2000,
        ]), 1..12),
    ) {
        const LIE: u64 = u64::MAX;
        let mut honest = log(&sources, LENGTH_MS);
        for &(ms, stream, by) in &lies {
            honest.push(sample(&streams()[stream], at(ms + by), at(ms), LIE));
        }
        sort(&mut honest);
        let mut aligner = Aligner::new(unit(), &config);
        // A stream must have shown its clock once before a step back can be told from an odd clock.
        for (index, stream) in streams().iter().take(7).enumerate() {
            aligner.push(sample(stream, at(-50), at(-50), index as u64), Moment::at(at(-50)));
        }
        let frames = drive(&mut aligner, &honest, |_, _| ());
        for frame in &frames {
            let positions = frame.ues.values().filter_map(|ue| ue.position.as_ref());
            for placed in frame.sensors.values().chain(positions) {
                prop_assert!(placed.sample.stamps.sequence != Some(LIE), "{}", placed.sample.stream);
            }
            let lied: Vec<CaptureTime> = lies.iter().map(|&(ms, _, by)| at(ms + by)).collect();
            for report in frame.ues.values().flat_map(|ue| &ue.link) {
                prop_assert!(!lied.contains(&report.capture));
            }
        }
        let count = |reason| -> u64 {
            Modality::ALL.iter().map(|&modality| aligner.counters().of(modality).dropped(reason)).sum()
        };
        let ahead = lies.iter().filter(|&&(_, _, by)| by > 0).count() as u64;
        prop_assert!(count(DropReason::Future) >= ahead);
        let back = lies.len() as u64 - ahead;
        let refused = count(DropReason::BackwardClock)
            + count(DropReason::Quarantined)
            + count(DropReason::Duplicate)
            + count(DropReason::Late);
        prop_assert!(refused >= back);
    }

    #[test]
    fn a_stepped_clock_is_quarantined_until_ten_consistent_samples(
        // A step back shows as captures that go back, so it is more than a second and what passed since the last one.
        step_ms in prop_oneof![1101i64..1_000_000, -1_000_000i64..-1300],
        rate_hz in 4.0..30.0f64,
        before in 3u64..20,
        jitter in 0i64..40,
    ) {
        let config = config::Align { reference: vec![], ..config::Align::default() };
        let mut aligner = Aligner::new(unit(), &config);
        let period = (1e9 / rate_hz) as i64;
        // A clock that steps ahead must come from behind: ahead of ours it would be from the future.
        let behind = if step_ms > 0 { -step_ms } else { 0 };
        let outcomes: Vec<PushOutcome> = (0..before + 12)
            .map(|row| {
                let now = at(0) + Span::from_nanos(period * row as i64);
                let step = if row >= before { step_ms } else { 0 };
                let shake = jitter * (row as i64 % 3 - 1) / 2 - 25;
                let capture = now + Span::from_millis(behind + step + shake);
                aligner.push(sample(&Stream::Lidar, capture, now, row), Moment::at(now))
            })
            .collect();
        let (_, after) = outcomes.split_at(before as usize);
        let first = if step_ms < 0 { DropReason::BackwardClock } else { DropReason::ClockStep };
        prop_assert_eq!(after[0], PushOutcome::Dropped(first));
        for &outcome in &after[1..10] {
            prop_assert_eq!(outcome, PushOutcome::Dropped(DropReason::Quarantined));
        }
        prop_assert_eq!(&after[10..], &[PushOutcome::Kept; 2]);
        prop_assert_eq!(aligner.counters().of(Modality::Lidar).dropped(DropReason::Quarantined), 9);
        prop_assert_eq!(aligner.counters().quarantines, 1);
    }

    #[test]
    fn next_deadline_is_exact(sources in sources(true), config in settings()) {
        let log = log(&sources, LENGTH_MS);
        let mut aligner = Aligner::new(unit(), &config);
        let mut surprises = Vec::new();
        let mut open = 0;
        drive(&mut aligner, &log, |aligner, step| match step {
            Step::Before(deadline) => {
                open = aligner.open_frames();
                let before = Moment::at(CaptureTime::from_nanos(deadline.as_nanos() - 1));
                if aligner.poll(before).is_some() || aligner.open_frames() != open {
                    surprises.push(format!("a frame before {deadline}"));
                }
            }
            // Without a reference a tick opens a frame that waits like any other.
            Step::Deadline(frames) => {
                if frames == 0 && !(config.reference.is_empty() && aligner.open_frames() == open + 1) {
                    surprises.push("no frame at its deadline".to_owned());
                }
            }
            Step::Pushed | Step::Polled => {}
        });
        prop_assert!(surprises.is_empty(), "{:?}", surprises);
    }
}

/// Buffers large enough that nothing is replaced.
fn ample(mut config: config::Align) -> config::Align {
    for rules in [&mut config.camera, &mut config.radar, &mut config.lidar, &mut config.position] {
        rules.capacity_items = 1000;
        rules.capacity_bytes = 1 << 30;
    }
    config
}

/// What a frame holds, without what the running percentile says (it depends on what earlier frames knew).
fn places(frame: &Frame) -> String {
    let reports: Vec<_> = frame
        .ues
        .iter()
        .map(|(ue, view)| {
            let captures: Vec<_> = view.link.iter().map(|report| (report.capture, report.best)).collect();
            (ue, view.position.as_ref().map(|p| (p.capture, p.skew, p.fresh)), captures)
        })
        .collect();
    let sensors: Vec<_> =
        frame.sensors.iter().map(|(modality, p)| (modality, p.capture, p.skew, p.fresh)).collect();
    format!("{} {sensors:?} {reports:?}", frame.time)
}

/// The same samples, arriving otherwise: where both runs had everything of a frame before it closed, it is the same.
#[test]
fn arrival_order_across_polls_does_not_change_a_frame_that_has_its_samples() {
    let compared = Cell::new(0u32);
    let strategy = (sources(false), settings(), any::<u64>());
    let result = TestRunner::default().run(&strategy, |(sources, config, seed)| {
        let config = config::Align {
            ues: vec![ue("a"), ue("b")],
            max_wait_ms: 100.0,
            link_lag_ms: Some(config.link_lag_ms.unwrap_or(30.0)),
            ..ample(config)
        };
        let first = log(&sources, LENGTH_MS);
        let mut dice = Dice(seed);
        let mut second = first.clone();
        for sample in &mut second {
            // Up to 20 ms later: neighbours change places, across streams and within one.
            let later = Span::from_nanos((dice.unit() * 20e6) as i64);
            sample.stamps.arrival = Moment::at(sample.stamps.arrival.unix + later);
        }
        sort(&mut second);
        let tolerance = Span::from_millis(60);
        let complete = |log: &Log, frame: &Frame| {
            let relevant = log.iter().filter(|sample| sample.stamps.capture <= frame.time + tolerance);
            relevant.map(|sample| sample.stamps.arrival.monotonic).max() <= Some(frame.closed.monotonic)
        };
        let (a, b) = (run(&config, &first).0, run(&config, &second).0);
        for frame in a.iter().filter(|frame| complete(&first, frame)) {
            let other = b.iter().find(|other| other.time == frame.time);
            if let Some(other) = other.filter(|other| complete(&second, other)) {
                prop_assert_eq!(places(frame), places(other));
                compared.set(compared.get() + 1);
            }
        }
        Ok(())
    });
    result.unwrap();
    assert!(compared.get() > 200, "only {} frames could be compared", compared.get());
}

/// Changing or removing every report captured at or after t − link_lag leaves the frame of t as it was.
#[test]
fn link_input_never_reaches_the_frames_instant() {
    let compared = Cell::new(0u32);
    let lag = prop_oneof![Just(0.0), 0.0..200.0f64];
    let strategy = (sources(false), settings(), lag, any::<u64>(), any::<bool>());
    let result = TestRunner::default().run(&strategy, |(sources, config, lag_ms, seed, remove)| {
        let reference = match config.reference.first() {
            Some(Modality::Link | Modality::Position) => vec![Modality::Radar],
            _ => config.reference.clone(),
        };
        let config =
            config::Align { reference, link_lag_ms: Some(lag_ms), ues: vec![ue("a"), ue("b")], ..config };
        let mut log = log(&sources, LENGTH_MS);
        // Begin and end stay where they are, whatever is removed between them.
        for (id, ms) in [(0, -10), (1, LENGTH_MS + 500)] {
            log.push(sample(&Stream::Blocked(ue("b")), at(ms), at(ms), id));
        }
        sort(&mut log);
        let (frames, _) = run(&config, &log);
        let mut dice = Dice(seed);
        let Some(frame) = frames.get(dice.next() as usize % frames.len().max(1)) else { return Ok(()) };
        let cutoff = frame.time - config::millis(lag_ms);
        for report in frame.ues.values().flat_map(|ue| &ue.link) {
            prop_assert!(report.capture < cutoff);
        }
        let touched =
            |sample: &Sample| sample.stream.modality() == Modality::Link && sample.stamps.capture >= cutoff;
        let mut other = log.clone();
        if remove {
            other.retain(|sample| !touched(sample));
        }
        for sample in other.iter_mut().filter(|sample| touched(sample)) {
            let mut roll = || if dice.unit() < 0.2 { f64::NAN } else { dice.unit() * 1e9 };
            let linear = (0..8).map(|_| roll()).collect();
            sample.data = Data::Power(Arc::new(BeamPower { linear }));
        }
        let (others, _) = run(&config, &other);
        let same = others.iter().find(|other| other.time == frame.time);
        let Some(same) = same else { return Err(TestCaseError::fail("the frame is gone")) };
        prop_assert_eq!(content(same), content(frame));
        if frame.ues.values().any(|ue| !ue.link.is_empty()) {
            compared.set(compared.get() + 1);
        }
        Ok(())
    });
    result.unwrap();
    assert!(compared.get() > 50, "only {} frames had a history", compared.get());
}
