//! From a recording to a checkpoint.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use mmsense::config;
use mmsense::model::checkpoint::Checkpoint;
use mmsense::model::{Input, MODALITIES, NetworkConfig, Task, deployed};
use mmsense::simulate::room;
use mmsense::train::batch::{Batch, Making, Shown};
use mmsense::train::data::recording::{self, Request, Resolution};
use mmsense::train::data::split::{Shares, Split};
use mmsense::train::data::{Ahead, DataSet, Example, Part, Reading};
use mmsense::train::evaluate::{self, Asking};
use mmsense::train::learned;
use mmsense::train::recipe::{self, Augment, Losses, Recipe, See};
use mmsense::train::score::{self, Asked};
use mmsense::train::simple::Simple;
use mmsense::train::trainer::{Ended, Event, Trainer};
use rand_pcg::Pcg64;

const BEAMS: usize = 8;
pub(crate) const SEQUENCES: usize = 12;
pub(crate) const ROWS: usize = 10;

/// The beam of a row: it walks over the codebook and back.
fn best(sequence: usize, row: usize) -> usize {
    let at = (sequence + row) % (2 * BEAMS - 2);
    if at < BEAMS { at } else { 2 * BEAMS - 2 - at }
}

fn power(best: usize) -> String {
    let line = |beam: usize| format!("{:.5}\n", 0.5f64.powi(beam.abs_diff(best) as i32));
    (0..BEAMS).map(line).collect()
}

/// A recording of powers, positions and blockage, and a pipeline and a recipe for it.
pub(crate) fn prepare(folder: &Path) -> (PathBuf, PathBuf) {
    let recording = folder.join("scenario");
    for part in ["power", "blocked", "place"] {
        fs::create_dir_all(recording.join(part)).unwrap();
    }
    let mut index = "index,unit1_pwr_60ghz,unit1_blockage,unit1_loc,unit2_loc,seq_index\n".to_owned();
    fs::write(recording.join("place/unit1.txt"), "33.42\n-111.93\n").unwrap();
    for sequence in 0..SEQUENCES {
        for row in 0..ROWS {
            let number = sequence * ROWS + row;
            fs::write(recording.join(format!("power/{number}.txt")), power(best(sequence, row))).unwrap();
            let blocked = u8::from(row == 6 || row == 7);
            fs::write(recording.join(format!("blocked/{number}.txt")), format!("{blocked}\n")).unwrap();
            let longitude = -111.93 + 1e-5 * best(sequence, row) as f64;
            fs::write(recording.join(format!("place/{number}.txt")), format!("33.4202\n{longitude}\n"))
                .unwrap();
            index += &format!(
                "{},./power/{number}.txt,./blocked/{number}.txt,./place/unit1.txt,./place/{number}.txt,{}\n",
                number + 1,
                sequence + 1
            );
        }
    }
    fs::write(recording.join("scenario.csv"), index).unwrap();
    let pipeline = folder.join("pipeline.toml");
    fs::write(
        &pipeline,
        "[input]\nzenoh = false\n[align]\nreference = [\"link\", \"position\"]\nwindow = 2\n[decide]\nhorizons_ms = [0, 200]\n",
    )
    .unwrap();
    (recording, pipeline)
}

pub(crate) fn tiny() -> NetworkConfig {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/networks/tiny.toml");
    config::load_network(&file).unwrap()
}

/// A simulated recording of people, without images.
pub(crate) fn make_rooms(
    folder: &Path,
    subjects: Vec<usize>,
    actions: Vec<usize>,
    (frames, stride): (usize, usize),
) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut scene = room::load(&root.join("config/recipes/paper/room.toml")).unwrap();
    (scene.mmfi.subjects, scene.mmfi.actions) = (subjects, actions);
    (scene.mmfi.frames, scene.mmfi.stride) = (room::Frames(frames), stride);
    scene.mmfi.image = room::Written(false);
    let recording = folder.join("rooms");
    mmsense::simulate::mmfi::make(&scene, &recording, &|_, _| true, None).unwrap();
    recording
}

pub(crate) fn open_rooms(folder: &Path, recording: &Path) -> DataSet {
    let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/simulated-room.toml");
    let cache = folder.join("cache");
    let tasks = &[Task::Activity, Task::Pose];
    let request = Request { name: "rooms", tasks, instants_ms: &[0], ..asking(recording, &pipeline, &cache) };
    recording::open(&request, &|_, _| true).unwrap()
}

/// What tests ask of [`prepare`]'s recording.
pub(crate) fn asking<'a>(path: &'a Path, pipeline: &'a Path, cache: &'a Path) -> Request<'a> {
    Request {
        name: "walk",
        path,
        pipeline,
        tasks: &[Task::Beam, Task::Blockage],
        resolution: Resolution::of(&tiny()),
        instants_ms: &[0, 100],
        ahead: Ahead::Time,
        cache,
    }
}

pub(crate) fn open(folder: &Path, recording: &Path, pipeline: &Path) -> DataSet {
    recording::open(&asking(recording, pipeline, &folder.join("cache")), &|_, _| true).unwrap()
}

#[test]
fn labels_are_those_of_the_recording() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    let data = open(folder.path(), &recording, &pipeline);
    assert_eq!(data.groups.len(), SEQUENCES);
    assert_eq!(data.examples.len(), SEQUENCES * ROWS);
    for sequence in 0..SEQUENCES {
        // Groups go by name: walk/1, walk/10, walk/11, …
        let group = data.groups.iter().position(|name| *name == format!("walk/{}", sequence + 1)).unwrap();
        let own: Vec<_> = data.examples.iter().filter(|example| example.group as usize == group).collect();
        assert_eq!(own.len(), ROWS);
        for (row, example) in own.into_iter().enumerate() {
            assert_eq!(data.measured(example, 0).unwrap().best as usize, best(sequence, row));
            let later = data.measured(example, 1).map(|report| report.best as usize);
            assert_eq!(later, (row + 1 < ROWS).then(|| best(sequence, row + 1)), "row {row}");
            let blocked = |row: usize| row == 6 || row == 7;
            assert_eq!(example.truth.blocked[0], Some(blocked(row)));
            let soon = (row..=row + 2).any(blocked);
            let told = if soon || row + 2 < ROWS { Some(soon) } else { None };
            assert_eq!(example.truth.blocked[1], told, "row {row}");
        }
    }
    // Kept, and read again, it is the same.
    let again = open(folder.path(), &recording, &pipeline);
    assert_eq!(data.examples, again.examples);
}

#[test]
fn decoding_says_how_far_it_is_and_stops_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    let cache = folder.path().join("cache");
    let request = asking(&recording, &pipeline, &cache);
    let error = recording::open(&request, &|_, _| false).unwrap_err().to_string();
    assert!(error.contains("scenario: stopped before all of it was decoded"), "{error}");
    let kept = fs::read_dir(folder.path().join("cache/decoded")).unwrap();
    assert!(kept.flatten().all(|entry| entry.path().is_file()), "of what is decoded only the lock stays");
    // Of each row the powers, the blockage, and the place.
    let all = SEQUENCES * ROWS * 3;
    let last = Cell::new(0);
    let watch = |done, of| {
        assert!(last.get() <= done && done <= of && of == all, "{done} of {of}");
        last.set(done);
        true
    };
    let data = recording::open(&request, &watch).unwrap();
    assert!(last.get() == all && !data.examples.is_empty());
    // What is decoded is not decoded again.
    assert!(recording::open(&request, &|_, _| false).is_ok());
}

#[test]
fn sensors_of_a_simulated_recording_stand_as_its_scene_says() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    let place = |data: &DataSet| {
        let positions =
            data.examples[0].places.iter().flatten().map(|place| data.reading(place.reading).unwrap());
        positions
            .filter_map(|reading| match reading {
                Reading::Position([x, y, ..]) => Some([50.0 * x, 50.0 * y]),
                _ => None,
            })
            .next_back()
            .unwrap()
    };
    let before = place(&open(folder.path(), &recording, &pipeline));
    // 0.0002 degrees north of the unit: 22 m ahead of one that looks north, 22 m to the right of one that looks west.
    assert!((before[1] - 22.2).abs() < 0.2, "{before:?}");
    let scene = "[site]\nlatitude = 33.42\nlongitude = -111.93\nheading_deg = 270.0\n";
    fs::write(recording.join("scene.toml"), scene).unwrap();
    let after = place(&open(folder.path(), &recording, &pipeline));
    assert!(
        (after[0] - before[1]).abs() < 0.01 && (after[1] + before[0]).abs() < 0.01,
        "{before:?} {after:?}"
    );
}

#[test]
fn conditions_of_a_simulated_recording_are_those_of_its_scene() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    assert!(open(folder.path(), &recording, &pipeline).conditions.is_empty(), "no scene, no conditions");
    let site = "[site]\nlatitude = 33.42\nlongitude = -111.93\n";
    let night = "[[sequence]]\nseconds = 1.0\nweather = { sun_elevation_deg = -20.0 }\n";
    let scene = |days: usize| format!("{site}[[sequence]]\nseconds = 1.0\nrepeat = {days}\n{night}");
    fs::write(recording.join("scene.toml"), scene(SEQUENCES - 1)).unwrap();
    let data = open(folder.path(), &recording, &pipeline);
    // Groups go by name: the last sequence of the scene is not the last group.
    let last = format!("walk/{SEQUENCES}");
    for (group, condition) in data.groups.iter().zip(&data.conditions) {
        assert_eq!(condition, if *group == last { "night" } else { "day" }, "{group}");
    }
    let by_night = data.examples.iter().filter(|example| data.condition(example) == Some("night"));
    assert_eq!(by_night.count(), ROWS);
    // A scene of fewer sequences is not that of the recording.
    fs::write(recording.join("scene.toml"), scene(2)).unwrap();
    assert!(open(folder.path(), &recording, &pipeline).conditions.is_empty());
}

#[test]
fn no_report_of_the_instant_or_later_is_an_input() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    let before = open(folder.path(), &recording, &pipeline);
    for example in &before.examples {
        for &report in &example.past {
            assert!(before.reports[report as usize].capture < example.time);
        }
    }
    // The truth of one row is another one: its own inputs do not know.
    let number = 3 * ROWS + 5;
    fs::write(recording.join(format!("power/{number}.txt")), power((best(3, 5) + 4) % BEAMS)).unwrap();
    let after = open(folder.path(), &recording, &pipeline);
    let inputs = |data: &DataSet, at: usize| {
        let example = &data.examples[at];
        let places = example.places.iter().flatten();
        places.map(|place| format!("{:?}", data.reading(place.reading).unwrap())).collect::<Vec<_>>()
    };
    let time = before.reports[number].capture;
    let mut seen_later = false;
    for at in 0..before.examples.len() {
        let same = inputs(&before, at) == inputs(&after, at);
        if before.examples[at].time <= time {
            assert!(same, "example {at} knows of what was measured at its instant or later");
        }
        seen_later |= !same;
    }
    assert!(seen_later, "the report is nobody's input: the test tests nothing");
}

#[test]
fn a_split_goes_through_no_group() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    let data = open(folder.path(), &recording, &pipeline);
    let shares = Shares { validation: 0.25, test: 0.25 };
    let split = Split::by_group(&data, shares, 7);
    assert!(split.shared_groups(&data).is_empty());
    assert_eq!([split.train.len(), split.validation.len(), split.test.len()], [60, 30, 30]);
    assert_eq!(split, Split::by_group(&data, shares, 7));
    assert_ne!(split, Split::by_group(&data, shares, 8));
    // One row on the wrong side is found.
    let mut leaking = split.clone();
    let row = leaking.test.pop().unwrap();
    leaking.train.push(row);
    assert_eq!(leaking.shared_groups(&data).len(), 1);
}

#[test]
fn shipped_recipes_name_what_is_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/recipes");
    let mut count = 0;
    let folders = ["", "paper", "paper/full"].map(|name| fs::read_dir(folder.join(name)).unwrap());
    for entry in folders.into_iter().flatten() {
        let path = entry.unwrap().path();
        // A scene of a recipe stands beside it, and what they came to.
        if path.is_dir() || path.ends_with("room.toml") || path.ends_with("MEASURED.md") {
            continue;
        }
        let recipe = recipe::load(&path).unwrap_or_else(|error| panic!("{error}"));
        let network = config::load_network(&recipe.network).unwrap();
        assert!(recipe.tasks.iter().all(|task| network.tasks.contains(task)), "{}", path.display());
        for entry in &recipe.data {
            if let Some(pipeline) = &entry.pipeline {
                config::load(pipeline).unwrap_or_else(|error| panic!("{error}"));
            }
            assert!(entry.scene.as_ref().is_none_or(|scene| scene.is_file()), "{}", entry.name);
        }
        count += 1;
    }
    assert!(count > 0);
}

/// The road of the paper's second data set, on four sequences of three frames.
#[test]
fn people_of_a_simulated_room_stand_where_its_scene_says() {
    let folder = tempfile::tempdir().unwrap();
    let recording = make_rooms(folder.path(), vec![2, 12], vec![1, 22], (3, 1));
    let data = open_rooms(folder.path(), &recording);
    assert_eq!(data.groups, ["rooms/S02", "rooms/S12"]);
    assert_eq!(data.examples.len(), 12);
    assert!(data.scene.is_some());
    let activities: BTreeSet<_> = data.examples.iter().map(|example| example.truth.activity).collect();
    assert_eq!(activities, BTreeSet::from([Some(0), Some(21)]));
    for example in &data.examples {
        // Three metres ahead, feet near the floor; what the radar's and the LiDAR's poses are decides where points lie.
        let pose = example.truth.pose.as_ref().unwrap();
        let [x, y, _] = pose[0];
        assert!(x.abs() < 1.0 && (2.0..4.0).contains(&y), "{:?}", pose[0]);
        let place = example.places[example.places.len() - MODALITIES + Input::Lidar.place()].unwrap();
        let Reading::Cloud(cloud) = data.reading(place.reading).unwrap() else { panic!("no cloud") };
        let middle = |axis: usize| {
            50.0 * cloud.positions.iter().map(|place| place[axis]).sum::<f32>() / cloud.positions.len() as f32
        };
        assert!(
            (middle(1) - y).abs() < 1.0 && (0.3..1.7).contains(&middle(2)),
            "{} {}",
            middle(1),
            middle(2)
        );
    }
    // Mirrored, the other side does it, where the points are.
    let whole = |mirror: f64| {
        let augment = Augment { mirror, ..Augment::default() };
        let making = Making {
            see: See::All,
            slots: 1,
            augment: Some(&augment),
            without: [false; MODALITIES],
            losses: &Losses::default(),
            tasks: &data.tasks,
            network: &tiny(),
        };
        let all = (0..data.examples.len() as u32).collect();
        Batch::make(&[Shown { data: &data, runs: vec![all], making }], &mut Pcg64::new(1, 1)).unwrap().targets
    };
    let (plain, mirrored) = (whole(0.0), whole(1.0));
    assert_eq!(plain.activity.iter().filter(|activity| **activity == Some(21)).count(), 6);
    assert_eq!(mirrored.activity.iter().filter(|activity| **activity == Some(22)).count(), 6);
    for (plain, mirrored) in plain.pose.iter().zip(&mirrored.pose) {
        let (plain, mirrored) = (plain.as_ref().unwrap(), mirrored.as_ref().unwrap());
        // The nose, and a wrist.
        for (of, joint) in [(9, 9), (13, 16)] {
            let [x, y, z] = plain[of];
            assert_eq!(mirrored[joint], [-x, y, z]);
        }
    }

    // A head that has hardly learned yet says the mean pose.
    let mut recipe = recipe(folder.path(), "people");
    recipe.tasks = vec![Task::Pose];
    recipe.stage.drain(..1);
    recipe.stage[0].epochs = 1.0;
    let examples: Vec<u32> = (0..data.examples.len() as u32).collect();
    let place = |example: &Example| f64::from(example.truth.pose.as_ref().unwrap()[0][1]);
    let mean = data.examples.iter().map(place).sum::<f64>() / examples.len() as f64;
    let split = Split { train: examples, ..Split::default() };
    with_stack(move || {
        let parts = [Part { data, split, tasks: vec![Task::Pose] }];
        Trainer::new(&recipe, &tiny(), &parts, Device::Cpu).unwrap().run(&mut |_| true).unwrap();
        let weights = Checkpoint::open(&recipe.output.join("last/weights.safetensors")).unwrap();
        let weights: BTreeMap<String, Tensor> = weights.load_all(&Device::Cpu).unwrap().into_iter().collect();
        let bias = weights["tasks.pose.head.mlp.2.bias"].to_vec1::<f32>().unwrap();
        assert!((f64::from(bias[1]) - mean).abs() < 0.3, "{} {mean}", bias[1]);
    });
}

#[test]
fn what_people_do_between_two_rows_is_not_known() {
    let folder = tempfile::tempdir().unwrap();
    let recording = make_rooms(folder.path(), vec![1], vec![1, 2], (4, 9));
    let data = open_rooms(folder.path(), &recording);
    // Before the road knows that frames come every 900 ms, it opens some by itself.
    assert_eq!(data.examples.len(), 8);
}

#[test]
fn a_pose_beside_other_tasks_begins_as_uncertain_as_the_mean_pose() {
    let folder = tempfile::tempdir().unwrap();
    let recording = make_rooms(folder.path(), vec![1], vec![1, 2], (2, 1));
    let data = open_rooms(folder.path(), &recording);
    let mut recipe = recipe(folder.path(), "people");
    recipe.tasks = vec![Task::Activity, Task::Pose];
    recipe.stage.drain(..1);
    recipe.stage[0].epochs = 0.0;
    let examples: Vec<u32> = (0..data.examples.len() as u32).collect();
    let poses: Vec<Vec<f64>> = data
        .examples
        .iter()
        .map(|example| {
            example.truth.pose.iter().flatten().flatten().map(|&metres| f64::from(metres)).collect()
        })
        .collect();
    let spread = |at: usize| {
        let mean = poses.iter().map(|pose| pose[at]).sum::<f64>() / poses.len() as f64;
        poses.iter().map(|pose| (pose[at] - mean).powi(2)).sum::<f64>() / poses.len() as f64
    };
    let spread = (0..poses[0].len()).map(spread).sum::<f64>() / poses[0].len() as f64;
    let split = Split { train: examples, ..Split::default() };
    with_stack(move || {
        let parts = [Part { data, split, tasks: vec![Task::Activity, Task::Pose] }];
        Trainer::new(&recipe, &tiny(), &parts, Device::Cpu).unwrap().run(&mut |_| true).unwrap();
        let weights = Checkpoint::open(&recipe.output.join("last/weights.safetensors")).unwrap();
        let weights: BTreeMap<String, Tensor> = weights.load_all(&Device::Cpu).unwrap().into_iter().collect();
        let v = |task: &str| f64::from(weights[&format!("uncertainty.{task}")].to_vec1::<f32>().unwrap()[0]);
        assert_eq!(v("activity"), 0.0);
        assert!((v("pose") - spread.ln()).abs() < 1e-3, "{} {}", v("pose"), spread.ln());
    });
}

pub(crate) fn recipe(folder: &Path, output: &str) -> Recipe {
    let file = folder.join(format!("{output}.toml"));
    let text = format!(
        r#"
        name = "walk"
        network = "tiny.toml"
        tasks = ["beam", "blockage"]
        output = "{output}"
        cache = "cache"
        instants_ms = [0, 100]
        device = "cpu"
        [[data]]
        name = "walk"
        recording = "scenario"
        pipeline = "pipeline.toml"
        shares = {{ validation = 0.25, test = 0.25 }}
        [[stage]]
        name = "alone"
        epochs = 2
        see = "one"
        slots = 1
        [[stage]]
        name = "joint"
        epochs = 40
        [batch]
        rows = 24
        run = 1
        [augment]
        drop = {{ position = 0.3 }}
        beam_drop = 0.1
        report_drop = 0.1
        time_jitter_ms = 5.0
        [optimiser]
        rate = 0.01
        ema = 0.8
        "#
    );
    fs::write(&file, text).unwrap();
    recipe::load(&file).unwrap()
}

/// Trains, stopped at each of the first `stops` validations and started again.
pub(crate) fn train(recipe: &Recipe, part: &[Part], stops: usize) -> PathBuf {
    train_stopped_at(recipe, part, stops, |event| matches!(event, Event::Validated(_)))
}

fn train_stopped_at(recipe: &Recipe, part: &[Part], stops: usize, is_stop: fn(&Event) -> bool) -> PathBuf {
    let config = tiny();
    let mut stops_left = stops;
    loop {
        let trainer = Trainer::new(recipe, &config, part, Device::Cpu).unwrap();
        let mut tell = |event: &Event| {
            let stops = is_stop(event) && stops_left > 0;
            stops_left -= usize::from(stops);
            !stops
        };
        match trainer.run(&mut tell).unwrap() {
            Ended::Done => {
                assert_eq!(stops_left, 0, "it was not stopped");
                return trainer.deploy().unwrap();
            }
            Ended::Stopped => {}
        }
    }
}

/// Gradients are followed back by recursion.
pub(crate) fn with_stack(body: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(256 << 20).spawn(body).unwrap();
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_run_that_was_stopped_comes_to_the_same_bytes_and_learns() {
    with_stack(|| {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let (recording, pipeline) = prepare(folder);
        let data = open(folder, &recording, &pipeline);
        let split = Split::by_group(&data, Shares { validation: 0.25, test: 0.25 }, 1);
        let parts = [Part { data, split, tasks: vec![Task::Beam, Task::Blockage] }];
        let whole = recipe(folder, "whole");
        let model = train(&whole, &parts, 0);
        let stopped = recipe(folder, "stopped");
        let again = train(&stopped, &parts, 3);
        assert_eq!(fs::read(&model).unwrap(), fs::read(again).unwrap());
        let validations = |recipe: &Recipe| {
            let log = fs::read_to_string(recipe.output.join("log.jsonl")).unwrap();
            let lines: Vec<serde_json::Value> =
                log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            lines.into_iter().filter(|line| line["type"] == "validation").collect::<Vec<_>>()
        };
        assert_eq!(validations(&whole), validations(&stopped));
        // Stopped right before the last validation of each stage, which is made all the same.
        let stopped = recipe(folder, "stopped before");
        let at_an_end = |event: &Event| matches!(event, Event::Standing(at) if at.step == at.steps);
        let again = train_stopped_at(&stopped, &parts, 2, at_an_end);
        assert_eq!(fs::read(&model).unwrap(), fs::read(again).unwrap());
        assert_eq!(validations(&whole), validations(&stopped));
        let losses = |stage: &str| -> Vec<f64> {
            let of_stage = validations(&whole).into_iter().filter(|line| line["stage"] == stage);
            of_stage.map(|line| line["losses"]["beam"].as_f64().unwrap()).collect()
        };
        // A network of a few thousand numbers and some passes over 60 examples: some of it.
        for stage in ["alone", "joint"] {
            let losses = losses(stage);
            assert!(losses.last().unwrap() + 0.02 < losses[0], "{stage} has learned nothing: {losses:?}");
        }
        // The heads of single inputs are not kept.
        let kept = Checkpoint::open(&whole.output.join("last/weights.safetensors"));
        let kept = kept.unwrap().load_all(&Device::Cpu).unwrap();
        assert!(kept.iter().all(|(name, _)| !mmsense::model::alone::is_of(name)));

        // What a unit would run, beside the simple predictors.
        let (network, fit) = deployed::load(&model, &Device::Cpu).unwrap();
        assert!(fit.trained);
        assert_eq!(fit.instants_ms, [0, 100]);
        // Each instant has a temperature of its own.
        assert_eq!(fit.scaling[&Task::Beam].later.len(), 1);
        let [part] = &parts;
        let asking = Asking {
            tasks: &part.tasks,
            batch: whole.batch,
            losses: &whole.loss,
            without: [false; mmsense::model::MODALITIES],
            slots: part.data.slots(),
        };
        let answers = evaluate::ask(&network, &part.data, &part.split.test, &asking).unwrap();
        let simple = Simple::learn(&parts);
        assert!(fit.scaling[&Task::Beam].temperature > 0.0);
        let questions = score::score(&Asked {
            data: &part.data,
            answers: &answers,
            network: "network",
            simple: Some(&simple),
            scaling: &fit.scaling,
        });
        let asked: Vec<(Task, &str)> =
            questions.iter().map(|question| (question.task, question.what.as_str())).collect();
        assert_eq!(
            asked,
            [
                (Task::Beam, "now"),
                (Task::Beam, "in 100 ms"),
                (Task::Blockage, "now"),
                (Task::Blockage, "within 200 ms"),
                (Task::Blockage, "within 200 ms, of those clear now"),
            ]
        );
        let now = &questions[0];
        let figure = |name: &str| {
            let worth = now.worth.iter().find(|worth| worth.predictor == name).unwrap();
            worth.figures["top-1"]
        };
        // The beam walks one step a row: the last one is never the present one, the line through two is but at the turns. Of
        // first rows, one in ten, they say the commonest.
        assert!(figure("persistence").value <= 0.1);
        assert!(figure("extrapolation").value > 0.5);
        for name in ["network", "persistence", "extrapolation"] {
            // Three sequences are too few for an interval.
            assert_eq!(figure(name).interval, None, "{name}");
        }
        // How early it warns: each sequence but its first rows has one onset, which persistence never warns of.
        let warned = &questions[4];
        assert!(warned.clear_now && warned.ahead_ms == 200);
        let persistence = warned.worth.iter().find(|worth| worth.predictor == "persistence").unwrap();
        assert_eq!(persistence.figures["onsets warned"].value, 0.0);
        assert!(!persistence.figures.contains_key("lead time, ms"));
        // Right after each blockage the last report still says blocked; what comes within 200 ms of that row, nobody knows.
        assert_eq!(persistence.figures["false alarms per minute"].value, 0.0);
        // What was scaled is told before it and after.
        let own = &questions[0].worth[0].figures;
        assert!(
            own.contains_key("calibration error") && own.contains_key("calibration error before scaling")
        );
        assert!(!questions[0].reliability_before.is_empty() && !questions[2].reliability_before.is_empty());
        // A folder of another recipe is left alone.
        let mut other = whole.clone();
        other.seed = 2;
        let config = tiny();
        let beside = || ["recipe.toml", "data.json"].map(|name| fs::read(whole.output.join(name)).unwrap());
        let before = beside();
        let refused = Trainer::new(&other, &config, &parts, Device::Cpu).unwrap().run(&mut |_| true);
        assert!(refused.unwrap_err().to_string().contains("another `output`"));
        // So is one of the same recipe and another split.
        let [Part { data, tasks, .. }] = parts;
        let examples: Vec<u32> = (0..data.examples.len() as u32).collect();
        let learned = learned::read(&whole.output).unwrap();
        assert_eq!(learned[0].marks.as_ref().unwrap().of.len(), 90, "of each example that is no test");
        let repeated =
            |examples: &[u32], by_truth| learned::repeated(&learned, &data, examples, by_truth).unwrap();
        assert_eq!(repeated(&examples, false), Some(0.75));
        // Eight beams are too few to tell a row.
        assert_eq!(repeated(&examples, true), None);
        let split = Split::by_group(&data, Shares { validation: 0.25, test: 0.25 }, 1);
        assert_eq!((repeated(&split.test, false), repeated(&split.train, false)), (Some(0.0), Some(1.0)));
        let split = Split::by_group(&data, Shares { validation: 0.25, test: 0.25 }, 2);
        let parts = [Part { data, split, tasks }];
        let refused = Trainer::new(&whole, &config, &parts, Device::Cpu).unwrap().run(&mut |_| true);
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("another split or other rows"), "{error}");
        assert_eq!(before, beside());
    });
}
