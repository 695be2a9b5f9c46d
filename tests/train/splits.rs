//! Who is learned from and who is the test, where it is not simply by groups; what a unit decides live, by the measures of
//! held-out examples.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use candle_core::{Device, Tensor};
use mmsense::model::layers::Mode;
use mmsense::model::{MODALITIES, Network, NetworkConfig, Task, deployed};
use mmsense::train::batch::{Batch, Making, Shown};
use mmsense::train::data::DataSet;
use mmsense::train::data::mmfi::{Held, MmFi};
use mmsense::train::data::split::{Shares, Split};
use mmsense::train::recipe::{Augment, Losses, See};
use mmsense::train::trainer::{Part, Trainer};
use rand_pcg::Pcg64;

use super::learning::{
    ROWS, SEQUENCES, make_rooms, open, open_rooms, prepare, recipe, tiny, train, with_stack,
};

fn groups(data: &DataSet, part: &[u32]) -> BTreeSet<String> {
    part.iter().map(|&number| data.groups[data.examples[number as usize].group as usize].clone()).collect()
}

#[test]
fn few_labels_are_the_first_of_each_sequence_and_the_test_begins_a_window_later() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    let mut data = open(folder.path(), &recording, &pipeline);
    let whole = Split::by_group(&data, Shares { validation: 0.25, test: 0.5 }, 3);
    let sequences = groups(&data, &whole.test);
    let few = whole.clone().few_shot(&mut data, 0.25);
    assert_eq!(few.validation, whole.validation);
    assert!(few.shared_groups(&data).is_empty());
    // Three of ten rows 100 ms apart; two slots of 100 ms after the last of them are left out.
    assert_eq!(few.train.len(), 3 * sequences.len());
    assert_eq!(few.test.len(), (ROWS - 3 - 2) * sequences.len());
    assert_eq!(groups(&data, &few.test), sequences);
    assert!(groups(&data, &few.train).iter().all(|name| name.ends_with(", first 25 %")));
    // What was learned from stands on neither side.
    let before: BTreeSet<u32> = whole.train.into_iter().collect();
    assert!(few.train.iter().chain(&few.test).all(|number| !before.contains(number)));
    assert_eq!(data.groups.len(), SEQUENCES + sequences.len());
}

#[test]
fn a_row_that_stands_twice_is_on_one_side() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    // The last sequence is the first one again.
    let index = recording.join("scenario.csv");
    let mut lines: Vec<String> = fs::read_to_string(&index).unwrap().lines().map(str::to_owned).collect();
    for row in 0..ROWS {
        let (first, last) = (1 + row, 1 + (SEQUENCES - 1) * ROWS + row);
        let (_, files) = lines[first].split_once(',').unwrap();
        let (files, _) = files.rsplit_once(',').unwrap();
        lines[last] = format!("{last},{files},{SEQUENCES}");
    }
    fs::write(&index, lines.join("\n")).unwrap();
    let data = open(folder.path(), &recording, &pipeline);
    let group = |name: usize| {
        let name = format!("walk/{name}");
        let is_of = |&number: &u32| data.groups[data.examples[number as usize].group as usize] == name;
        (0..data.examples.len() as u32).filter(is_of).collect::<Vec<u32>>()
    };
    let others = |range: std::ops::Range<usize>| range.flat_map(group).collect::<Vec<u32>>();
    let split = Split { test: group(1), validation: others(2..4), train: others(4..SEQUENCES + 1) };
    let look = |number: &u32| {
        let example = &data.examples[*number as usize];
        let now = example.places.iter().skip(example.places.len() - MODALITIES);
        let sees: Vec<String> =
            now.flatten().map(|place| format!("{:?}", data.reading(place.reading).unwrap())).collect();
        let truth: Vec<_> =
            example.truth.beams.iter().map(|at| at.map(|at| &data.reports[at as usize].linear)).collect();
        format!("{sees:?} {truth:?} {:?}", example.truth.blocked)
    };
    let looks = |part: &[u32]| part.iter().map(look).collect::<BTreeSet<String>>();
    let (clean, gone) = split.clone().without_twins(&data).unwrap();
    assert_eq!(clean.test, split.test);
    let others_than = |part: &[u32], looks: &BTreeSet<String>| {
        part.iter().copied().filter(|number| !looks.contains(&look(number))).collect::<Vec<u32>>()
    };
    assert_eq!(clean.validation, others_than(&split.validation, &looks(&split.test)));
    let seen: BTreeSet<String> = looks(&split.test).union(&looks(&clean.validation)).cloned().collect();
    assert_eq!(clean.train, others_than(&split.train, &seen));
    let left: BTreeSet<u32> = clean.train.iter().copied().collect();
    let twins = group(SEQUENCES).iter().filter(|number| !left.contains(number)).count();
    assert_eq!(twins, ROWS, "the repeated sequence is gone");
    let rows = |split: &Split| split.train.len() + split.validation.len();
    assert_eq!(gone, rows(&split) - rows(&clean));
    assert_eq!(clean.clone().without_twins(&data).unwrap(), (clean, 0));
}

#[test]
fn people_are_split_as_the_authors_of_mm_fi_do() {
    let folder = tempfile::tempdir().unwrap();
    let recording = make_rooms(folder.path(), vec![1, 2, 5, 31], vec![1, 2], (2, 1));
    let split = |protocol, split| {
        let mut data = open_rooms(folder.path(), &recording);
        let found = MmFi { protocol, split }.split(&mut data, 0.0, 1).unwrap();
        assert!(found.shared_groups(&data).is_empty() && found.validation.is_empty());
        (found.train.len() + found.test.len(), groups(&data, &found.test))
    };
    let named = |names: &[&str]| names.iter().map(|name| format!("rooms/{name}")).collect::<BTreeSet<_>>();
    // Four subjects, two actions, two frames.
    assert_eq!(split(3, Held::CrossSubject), (16, named(&["S05"])));
    assert_eq!(split(3, Held::CrossScene), (16, named(&["S31"])));
    // A01 is the first action of all, A02 the second; A02 is the first of the daily ones.
    assert_eq!(split(3, Held::Random), (16, named(&["S01/A01", "S01/A02"])));
    assert_eq!(split(1, Held::Random), (8, named(&["S01/A02"])));
    assert_eq!(split(2, Held::CrossSubject), (8, named(&["S05"])));
}

#[test]
fn people_alone_have_the_splits_of_mm_fi() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    let mut data = open(folder.path(), &recording, &pipeline);
    let error = MmFi { protocol: 3, split: Held::Random }.split(&mut data, 0.1, 1).unwrap_err();
    assert!(error.contains("MM-Fi's layout"), "{error}");
}

#[test]
fn a_run_begins_with_the_weights_of_another() {
    with_stack(|| {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let (recording, pipeline) = prepare(folder);
        let parts = || {
            let data = open(folder, &recording, &pipeline);
            let split = Split::by_group(&data, Shares { validation: 0.25, test: 0.25 }, 1);
            [Part { data, split, tasks: vec![Task::Beam, Task::Blockage] }]
        };
        let mut first = recipe(folder, "first");
        first.stage.truncate(1);
        let trained = train(&first, &parts(), 0);
        // No step at all: what comes out is what went in.
        let mut second = recipe(folder, "second");
        second.stage.truncate(1);
        second.stage[0].epochs = 0.0;
        second.from = Some(first.output.clone());
        let same = train(&second, &parts(), 0);
        assert_eq!(fs::read(trained).unwrap(), fs::read(&same).unwrap());
        assert!(deployed::load(&same, &Device::Cpu).is_ok());
        second.from = Some(folder.join("nowhere"));
        second.output = folder.join("third");
        let (config, parts) = (tiny(), parts());
        let trainer = Trainer::new(&second, &config, &parts, Device::Cpu).unwrap();
        let error = trainer.run(&mut |_| true).unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
    });
}

#[test]
fn a_slot_that_is_dropped_is_dropped_from_the_whole_batch() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    let data = open(folder.path(), &recording, &pipeline);
    let config = tiny();
    let network = Network::fresh(&config, data.shape.sizes, &Device::Cpu).unwrap();
    let kept = |slot_drop: f64, config: &NetworkConfig| {
        let augment = Augment { slot_drop, ..Augment::default() };
        let making = Making {
            see: See::All,
            slots: data.slots(),
            augment: Some(&augment),
            without: [false; MODALITIES],
            losses: &Losses::default(),
            tasks: &data.tasks,
            network: config,
        };
        let batch =
            Batch::make(&[Shown { data: &data, runs: vec![vec![5, 6, 7]], making }], &mut Pcg64::new(1, 1))
                .unwrap();
        let mask = batch.encode(&network, Mode::Infer).unwrap().mask.sum((0, 2, 3)).unwrap();
        mask.to_vec1::<f32>().unwrap()
    };
    let (all, present) = (kept(0.0, &config), kept(1.0, &config));
    assert!(all.iter().all(|tokens| *tokens > 0.0), "{all:?}");
    // The present slot is never dropped; what nobody sees costs nothing.
    assert_eq!(present, [all[1]]);
    let one = [(Task::Beam, 1), (Task::Blockage, 1)].into();
    assert_eq!(kept(0.0, &NetworkConfig { slots: one, ..config.clone() }), [all[1]]);
}

#[test]
fn a_batch_has_rows_of_several_data_sets_whose_windows_end_together() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    let walk = open(folder.path(), &recording, &pipeline);
    let rooms = open_rooms(folder.path(), &make_rooms(folder.path(), vec![1], vec![1], (3, 1)));
    assert_eq!((walk.slots(), rooms.slots()), (2, 5));
    let config = tiny();
    let network = Network::fresh(&config, walk.shape.sizes, &Device::Cpu).unwrap();
    let losses = Losses::default();
    let shown = |data, runs| Shown {
        data,
        runs,
        making: Making {
            see: See::All,
            slots: usize::MAX,
            augment: None,
            without: [false; MODALITIES],
            losses: &losses,
            tasks: &data.tasks,
            network: &config,
        },
    };
    let make = |shown: &[Shown<'_>]| {
        let batch = Batch::make(shown, &mut Pcg64::new(1, 1)).unwrap();
        let tokens = batch.encode(&network, Mode::Infer).unwrap();
        (batch, tokens)
    };
    // A walk, and the third frame of a sequence, for each of two tasks.
    let (street, room) = (shown(&walk, vec![vec![5, 6], vec![8]]), shown(&rooms, vec![vec![2]]));
    let (both, tokens) = make(&[street.clone(), room.clone()]);
    assert_eq!((both.rows(), both.examples.as_slice()), (5, [5, 6, 8, 2, 2].as_slice()));
    let asked = |task| both.asked[&task].as_slice();
    assert_eq!((asked(Task::Beam), asked(Task::Blockage)), ([0, 1, 2].as_slice(), [0, 1, 2].as_slice()));
    assert_eq!((asked(Task::Activity), asked(Task::Pose)), ([3].as_slice(), [4].as_slice()));
    assert_eq!(tokens.ages.dims()[1], 3);
    for (alone, first, slots) in [(street, 0, 2), (room, 3, 3)] {
        let (batch, alone) = make(&[alone]);
        let part = |tensor: &Tensor| {
            let rows = tensor.narrow(0, first, batch.rows()).unwrap().narrow(1, 3 - slots, slots).unwrap();
            rows.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let all = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(part(&tokens.ages), all(&alone.ages));
        assert_eq!(part(&tokens.mask), all(&alone.mask));
        let apart = part(&tokens.values)
            .iter()
            .zip(all(&alone.values))
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(apart < 1e-5, "{apart}");
    }
    let seen = tokens.mask.narrow(0, 0, 3).unwrap().narrow(1, 0, 1).unwrap().sum_all().unwrap();
    assert_eq!(seen.to_scalar::<f32>().unwrap(), 0.0, "before a shorter window there is nothing");
}

/// The figures of a predictor for a question.
fn figures(evaluation: &serde_json::Value, what: (&str, &str), predictor: &str) -> BTreeMap<String, f64> {
    let questions = evaluation["results"][0]["questions"].as_array().unwrap();
    let question = questions
        .iter()
        .find(|question| question["task"] == what.0 && question["what"] == what.1)
        .unwrap_or_else(|| panic!("no {what:?} in {questions:?}"));
    let worth = question["worth"].as_array().unwrap();
    let worth = worth.iter().find(|worth| worth["predictor"] == predictor).unwrap();
    let figures = worth["figures"].as_object().unwrap();
    figures.iter().map(|(name, figure)| (name.clone(), figure["value"].as_f64().unwrap())).collect()
}

#[test]
fn live_decisions_are_judged_by_the_measures_of_held_out_examples() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (recording, pipeline) = prepare(folder);
    let text = fs::read_to_string(&pipeline).unwrap() + "[model]\nbeam = \"extrapolation\"\n";
    fs::write(&pipeline, text).unwrap();
    let file = folder.join("evaluation.json");
    let run = Command::new(env!("CARGO_BIN_EXE_mmsense"))
        .args(["run".as_ref(), pipeline.as_os_str(), "--recording".as_ref(), recording.as_os_str()])
        .args(["--evaluation".as_ref(), file.as_os_str()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said} {}", String::from_utf8_lossy(&run.stderr));
    assert!(said.contains("beam, now") && said.contains("persistence"), "{said}");
    let evaluation: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let model = evaluation["network"].as_str().unwrap().to_owned();
    // What the unit decided by a rule is what the rule is worth offline, on the same rows.
    let beam = ("beam", "now");
    let (own, rule) = (figures(&evaluation, beam, &model), figures(&evaluation, beam, "extrapolation"));
    assert!((own["top-1"] - rule["top-1"]).abs() < 0.1 && own["top-1"] > 0.5, "{own:?} {rule:?}");
    assert!(own["top-1"] > figures(&evaluation, beam, "persistence")["top-1"]);
    let blockage = figures(&evaluation, ("blockage", "within 200 ms, of those clear now"), &model);
    assert!(blockage.contains_key("false alarms per minute"), "{blockage:?}");
}
