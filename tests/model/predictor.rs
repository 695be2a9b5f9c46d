//! The network as a predictor: what is computed once, what is batched, what is missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use mmsense::config::Codebook;
use mmsense::frame::{UeView, Window};
use mmsense::infer::check::check;
use mmsense::infer::device::DeviceChoice;
use mmsense::infer::{NetworkPredictor, Prediction, Predictor};
use mmsense::model::config::{CoreConfig, EncodersConfig};
use mmsense::model::{Sizes, Task};
use mmsense::sample::{Data, Modality, PointCloud, RadarPoint, RadarReading};

use crate::scenes::{
    BEAMS, asked, frame, frame_at, lidar, predictor, radar, sizes, tiny, ue, windower, windows,
};

fn told(prediction: &Prediction, name: &str) -> Vec<f32> {
    let said = &prediction.ues[&ue(name)];
    [said.beam.clone().unwrap(), said.blockage.clone().unwrap()].concat()
}

#[track_caller]
fn assert_near(one: &[f32], other: &[f32]) {
    assert_eq!(one.len(), other.len());
    let apart = one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart < 1e-5, "{apart}: {one:?} {other:?}");
}

#[test]
fn every_sample_is_encoded_once() {
    let mut predictor = predictor();
    for (done, window) in (1..).zip(windows((0..10).map(|sequence| frame("u", sequence)))) {
        predictor.predict(&[window]).unwrap();
        let work = predictor.work();
        let wanted = [
            (Modality::Camera, done),
            (Modality::Radar, done),
            (Modality::Lidar, done),
            (Modality::Link, done),
            (Modality::Position, 2 * done),
        ];
        assert_eq!(work.encoded, BTreeMap::from(wanted));
        assert_eq!((work.passes, work.rows), (done, 2 * done));
        // Three sensors, one link and two positions in each of at most three slots.
        assert_eq!(predictor.kept(), 6 * (done as usize).min(3));
    }
}

#[test]
fn frames_faster_than_the_stride_are_encoded_once_too() {
    let (mut predictor, mut windower) = (predictor(), windower());
    for sequence in 0..30 {
        let window = windower.push(Arc::new(frame_at("u", sequence, 33 * sequence as i64)));
        predictor.predict(&[window]).unwrap();
        assert_eq!(predictor.work().encoded[&Modality::Camera], sequence + 1);
        assert_eq!(predictor.work().encoded[&Modality::Link], sequence + 1);
        // Seven to eight frames fit into the window, and the last eviction is one frame ago.
        assert!(predictor.kept() <= 6 * 10, "{}", predictor.kept());
    }
}

#[test]
fn a_window_too_long_for_the_network_is_refused() {
    let mut long = tiny();
    long.grid = 16;
    let (sizes, book) = (Sizes::new(64, 8, 4), Codebook::default());
    let refused = NetworkPredictor::fresh(&long, sizes, &[Task::Beam], &book, DeviceChoice::Cpu).unwrap_err();
    assert!(refused.to_string().contains("found 81920, allowed is at most 4096"), "{refused}");
}

#[test]
fn kept_tokens_say_the_same_as_fresh_ones() {
    let windows = windows((0..6).map(|sequence| frame("u", sequence)));
    let mut keeping = predictor();
    for window in &windows {
        let kept = keeping.predict(std::slice::from_ref(window)).unwrap();
        let fresh = predictor().predict(std::slice::from_ref(window)).unwrap();
        assert_near(&told(&kept[0], "a"), &told(&fresh[0], "a"));
    }
}

#[test]
fn units_and_ues_share_one_forward_pass() {
    let of = |unit: &'static str| windows((0..4).map(move |sequence| frame(unit, sequence)));
    let (one, other) = (of("u"), of("other"));
    let pair: Vec<Window> = [&one[3], &other[3]].into_iter().cloned().collect();
    let mut together = predictor();
    let both = together.predict(&pair).unwrap();
    assert_eq!((together.work().passes, together.work().rows), (1, 4));
    for (window, prediction) in pair.iter().zip(&both) {
        let alone = predictor().predict(std::slice::from_ref(window)).unwrap();
        for name in ["a", "b"] {
            assert_near(&told(prediction, name), &told(&alone[0], name));
        }
        check(prediction, &window.frame, Some(BEAMS), 4).unwrap();
    }
    assert_ne!(told(&both[0], "a"), told(&both[1], "a"));
    assert_ne!(told(&both[0], "a"), told(&both[0], "b"));
}

#[test]
fn the_same_seed_says_the_same_bits() {
    let window = windows([frame("u", 0)]);
    let say = || predictor().predict(&window).unwrap();
    assert_eq!(say(), say());
    assert_eq!(predictor().info(), predictor().info());
    assert!(!predictor().info().trained);
}

#[test]
fn every_modality_counts_and_a_missing_one_weighs_nothing() {
    let whole = frame("u", 0);
    let say = |frame| predictor().predict(&windows([frame])).unwrap().remove(0);
    let full = say(whole.clone());
    let gate = &full.ues[&ue("a")].gate;
    assert_eq!(gate.len(), 5);
    assert!((gate.values().sum::<f32>() - 1.0).abs() < 1e-5 && gate.values().all(|&w| w > 0.0), "{gate:?}");
    for sensor in [Modality::Camera, Modality::Radar, Modality::Lidar] {
        let mut poorer = whole.clone();
        poorer.sensors.remove(&sensor);
        let said = say(poorer);
        assert_eq!(said.ues[&ue("a")].gate[&sensor], 0.0);
        assert!((said.ues[&ue("a")].gate.values().sum::<f32>() - 1.0).abs() < 1e-5);
        assert_ne!(told(&said, "a"), told(&full, "a"), "{sensor}");
    }
}

#[test]
fn an_empty_radar_is_fresh_and_a_small_one_is_padded() {
    let say = |data: Data, modality: Modality| {
        let mut frame = frame("u", 0);
        let placed = frame.sensors.get_mut(&modality).unwrap();
        let mut sample = (*placed.sample).clone();
        sample.data = data;
        placed.sample = Arc::new(sample);
        let window = windows([frame]).remove(0);
        let said = predictor().predict(std::slice::from_ref(&window)).unwrap().remove(0);
        check(&said, &window.frame, Some(BEAMS), 4).unwrap();
        assert!(said.ues[&ue("a")].gate[&modality] > 0.0);
        told(&said, "a")
    };
    let empty = say(radar(1, 0), Modality::Radar);
    assert_ne!(empty, say(radar(1, 1), Modality::Radar));
    say(radar(1, 3), Modality::Radar);
    say(lidar(1, 0), Modality::Lidar);
    say(lidar(1, 5), Modality::Lidar);
}

#[test]
fn a_sensor_gone_wild_drives_nothing_to_infinity() {
    let wild = |x: f32| {
        let mut frame = frame("u", 0);
        let point =
            RadarPoint { position: [x; 3], doppler_mps: x, power_db: x, has_doppler: true, is_static: false };
        let cloud = PointCloud { points: vec![[x, -x, x], [-x, x, 0.0]], intensity: Vec::new(), dropped: 0 };
        for (modality, data) in [
            (Modality::Radar, Data::Radar(Arc::new(RadarReading { points: vec![point; 3], map: None }))),
            (Modality::Lidar, Data::Cloud(Arc::new(cloud))),
        ] {
            let placed = frame.sensors.get_mut(&modality).unwrap();
            let mut sample = (*placed.sample).clone();
            sample.data = data;
            placed.sample = Arc::new(sample);
        }
        windows([frame]).remove(0)
    };
    for x in [f32::MAX, f32::MIN, 1e30, f32::MIN_POSITIVE] {
        let window = wild(x);
        let said = predictor().predict(std::slice::from_ref(&window)).unwrap().remove(0);
        check(&said, &window.frame, Some(BEAMS), 4).unwrap();
    }
}

#[test]
fn nothing_sensed_is_nothing_said() {
    let mut blind = frame("u", 0);
    blind.sensors.clear();
    blind.ues.values_mut().for_each(|view| *view = UeView::default());
    let said = predictor().predict(&windows([blind])).unwrap().remove(0);
    assert!(said.ues.is_empty());
    assert!(predictor().predict(&[]).unwrap().is_empty());
}

#[test]
fn the_shipped_networks_are_sound() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/models");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        mmsense::config::load_network(&path).unwrap_or_else(|error| panic!("{error}"));
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn a_wrong_network_file_is_told_whole() {
    let mut wrong = tiny();
    let CoreConfig::Mmsense(core) = &mut wrong.core else { panic!("{:?}", wrong.core) };
    core.heads = 3;
    let backbone = wrong.backbone.as_mut().unwrap();
    backbone.prompts.remove(&Task::Pose);
    backbone.size.as_mut().unwrap().kv_heads = 5;
    backbone.taps = Some(vec![0, 9]);
    backbone.tokenizer = None;
    wrong.tasks = vec![Task::Beam, Task::Pose, Task::Beam];
    let EncodersConfig::Points(encoders) = &mut wrong.encoders else { panic!("{:?}", wrong.encoders) };
    encoders.image.side = 8;
    encoders.radar.share = 5;
    encoders.lidar.points = vec![4, 32];
    let keys: Vec<String> = wrong.problems().into_iter().map(|(key, _)| key).collect();
    for key in ["core.heads", "tasks", "backbone.prompts.pose", "backbone.taps", "backbone.tokenizer"] {
        assert!(keys.iter().any(|found| found == key), "{key} is not among {keys:?}");
    }
    assert!(keys.iter().any(|key| key.starts_with("backbone.size.")), "{keys:?}");
    for key in
        ["image.side", "radar.share", "lidar.points", "lidar.widths"].map(|key| format!("encoders.{key}"))
    {
        assert!(keys.contains(&key), "{key} is not among {keys:?}");
    }
}

#[test]
fn the_tasks_asked_for_are_the_tasks_answered() {
    let window = windows((0..3).map(|sequence| frame("u", sequence))).remove(2);
    let say = |tasks: &[Task]| {
        let mut predictor = asked(tasks);
        let said = predictor.predict(std::slice::from_ref(&window)).unwrap().remove(0);
        check(&said, &window.frame, Some(BEAMS), 4).unwrap();
        (said, predictor.work().clone())
    };
    let (all, work) = say(&Task::ALL);
    assert_eq!(all.activity.as_ref().unwrap().len(), 27);
    assert_eq!(all.pose.as_ref().unwrap().len(), 17);
    // Two UEs, an activity, a pose: four rows in one pass.
    assert_eq!((work.passes, work.rows), (1, 4));
    for task in Task::ALL {
        let (said, _) = say(&[task]);
        let of_ue = |said: &Prediction| said.ues.get(&ue("a")).cloned().unwrap_or_default();
        assert_eq!(of_ue(&said).beam.is_some(), task == Task::Beam);
        assert_eq!(of_ue(&said).blockage.is_some(), task == Task::Blockage);
        assert_eq!(
            (said.activity.is_some(), said.pose.is_some()),
            (task == Task::Activity, task == Task::Pose)
        );
        // Who else is asked changes nothing.
        let near = |one: &[f32], other: &[f32]| assert_near(one, other);
        match task {
            Task::Beam => near(&of_ue(&said).beam.unwrap(), &of_ue(&all).beam.unwrap()),
            Task::Blockage => near(&of_ue(&said).blockage.unwrap(), &of_ue(&all).blockage.unwrap()),
            Task::Activity => near(&said.activity.unwrap(), all.activity.as_ref().unwrap()),
            Task::Pose => near(&said.pose.unwrap().concat(), &all.pose.as_ref().unwrap().concat()),
        }
    }
}

#[test]
fn a_pose_is_that_of_the_instant_and_an_activity_that_of_the_window() {
    let say = |first: Vec<mmsense::frame::Frame>| {
        let window = windows(first.into_iter().chain([frame("u", 2)])).pop().unwrap();
        let mut said = asked(&[Task::Activity, Task::Pose]).predict(&[window]).unwrap();
        said.remove(0)
    };
    let (long, short) = (say(vec![frame("u", 0), frame("u", 1)]), say(vec![]));
    assert_near(&long.pose.unwrap().concat(), &short.pose.unwrap().concat());
    assert_ne!(long.activity, short.activity);
}

#[test]
fn a_unit_is_seen_without_its_ues() {
    let mut empty = frame("u", 0);
    empty.ues.clear();
    let said = asked(&Task::ALL).predict(&windows([empty])).unwrap().remove(0);
    assert!(said.ues.is_empty() && said.activity.is_some() && said.pose.is_some());
}

#[test]
fn a_task_that_it_was_not_built_for_is_refused_by_name() {
    let mut only = tiny();
    only.tasks = vec![Task::Beam];
    let book = Codebook::default();
    let refused =
        NetworkPredictor::fresh(&only, sizes(), &[Task::Pose], &book, DeviceChoice::Cpu).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "model.tasks: found `pose`, allowed are those that `tiny` was built for: [Beam]"
    );
}
