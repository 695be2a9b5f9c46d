//! Who is learned from and who is the test, where it is not simply by groups; what a unit decides live, by the measures of
//! held-out examples.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use candle_core::{Device, Tensor};
use mmsense::model::layers::Mode;
use mmsense::model::{MODALITIES, Network, NetworkConfig, Task, deployed};
use mmsense::train::batch::{Batch, Making, Shown};
use mmsense::train::data::mmfi::{Held, MmFi};
use mmsense::train::data::split::{Shares, Split};
use mmsense::train::data::twins::{self, Divided};
use mmsense::train::data::{DataSet, Part};
use mmsense::train::recipe::{Augment, Losses, See};
use mmsense::train::trainer::Trainer;
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
    assert!(groups(&data, &few.train).iter().all(|name| name.ends_with("/first 25 %")));
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
    let without_twins = |mut split: Split| {
        let sides = &mut [Divided { data: &data, split: &mut split, by_rows: false }];
        let gone = twins::leave_out(sides).unwrap();
        (split, gone[0])
    };
    let (clean, gone) = without_twins(split.clone());
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
    assert_eq!(without_twins(clean.clone()), (clean, 0));
    // Nor does it stand in the test of another data set.
    let all = || (0..data.examples.len() as u32).collect::<Vec<u32>>();
    let mut learned = Split { train: all(), ..Split::default() };
    let mut asked = Split { test: group(2), ..Split::default() };
    let sides = [&mut learned, &mut asked].map(|split| Divided { data: &data, split, by_rows: false });
    let gone = twins::leave_out(&mut Vec::from(sides)).unwrap();
    assert!(gone[0] >= ROWS && gone[1] == 0, "{gone:?}");
    assert!(group(2).iter().all(|number| !learned.train.contains(number)));
    assert_eq!(asked.test, group(2));
}

/// Powers of 20 beams that no other row has.
fn unlike(row: usize) -> String {
    (0..20).map(|beam| format!("{:.6}\n", 1.0 + row as f64 / 1e3 + f64::from(beam * 7 % 20))).collect()
}

#[test]
fn a_row_that_stands_twice_is_known_by_its_powers_whatever_is_around_it() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    for row in 0..SEQUENCES * ROWS {
        fs::write(recording.join(format!("power/{row}.txt")), unlike(row)).unwrap();
    }
    // Every fourth row of each sequence again, as a sequence of its own.
    let index = recording.join("scenario.csv");
    let mut lines: Vec<String> = fs::read_to_string(&index).unwrap().lines().map(str::to_owned).collect();
    for (number, line) in lines.clone().iter().skip(1).enumerate() {
        let (_, files) = line.split_once(',').unwrap();
        let (files, sequence) = files.rsplit_once(',').unwrap();
        if (number % ROWS).is_multiple_of(4) {
            lines.push(format!("{},{files},10{sequence}", lines.len()));
        }
    }
    fs::write(&index, lines.join("\n")).unwrap();
    let data = open(folder.path(), &recording, &pipeline);
    assert_eq!(data.examples.len(), SEQUENCES * (ROWS + 3));
    let again = |number: &u32| {
        data.groups[data.examples[*number as usize].group as usize].starts_with("walk/10") && {
            let group = &data.groups[data.examples[*number as usize].group as usize];
            group.len() > "walk/10".len()
        }
    };
    let all: Vec<u32> = (0..data.examples.len() as u32).collect();
    let (few, whole): (Vec<u32>, Vec<u32>) = all.into_iter().partition(again);
    let now = |number: &u32| data.measured(&data.examples[*number as usize], 0).unwrap().linear.clone();
    let mut split = Split { train: whole.clone(), test: few.clone(), ..Split::default() };
    let mut sides = [Divided { data: &data, split: &mut split, by_rows: true }];
    let gone = twins::leave_out(&mut sides).unwrap()[0];
    assert_eq!(gone, few.len(), "each is there once more, and no neighbour goes with it");
    let asked: Vec<Vec<f64>> = few.iter().map(now).collect();
    assert!(split.train.iter().all(|number| !asked.contains(&now(number))));
    // Nor is any of them what is to be said of a later instant.
    let mut split = Split { train: whole, test: few, ..Split::default() };
    twins::leave_out(&mut [Divided { data: &data, split: &mut split, by_rows: false }]).unwrap();
    let told = |number: &u32| {
        let example = &data.examples[*number as usize];
        (0..2)
            .filter_map(|instant| data.measured(example, instant))
            .map(|report| report.linear.clone())
            .collect()
    };
    assert!(
        split
            .train
            .iter()
            .flat_map(|number| -> Vec<Vec<f64>> { told(number) })
            .all(|told| !asked.contains(&told))
    );
    assert!(!split.train.is_empty());
}

#[test]
fn windows_of_an_index_that_share_a_file_are_one_group() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    let mut index = "index,unit1_pwr_60ghz_1,unit1_pwr_60ghz_2,unit1_pwr_60ghz_3\n".to_owned();
    // Two runs of windows of three files, each one file on; and one that stands alone.
    let begins = (0..5).chain(40..46).chain([80]);
    for (row, begin) in (1..).zip(begins) {
        let files: Vec<String> = (begin..begin + 3).map(|number| format!("./power/{number}.txt")).collect();
        index += &format!("{row},{}\n", files.join(","));
    }
    fs::write(recording.join("scenario.csv"), index).unwrap();
    let data = open(folder.path(), &recording, &pipeline);
    assert_eq!(
        data.groups.iter().map(String::as_str).collect::<Vec<_>>(),
        ["walk/row 0", "walk/row 11", "walk/row 5"]
    );
    assert_eq!(data.examples.len(), 12);
    for seed in 0..10 {
        let split = Split::by_group(&data, Shares { validation: 0.0, test: 0.3 }, seed);
        assert!(split.shared_groups(&data).is_empty());
    }
}

#[test]
fn rows_are_split_at_random_where_a_recipe_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    let mut data = open(folder.path(), &recording, &pipeline);
    let sequences = data.groups.clone();
    let split = Split::at_random(&mut data, Shares { validation: 0.1, test: 0.25 }, 3);
    assert_eq!(data.groups.len(), SEQUENCES * ROWS);
    assert!(split.shared_groups(&data).is_empty());
    assert_eq!((split.test.len(), split.validation.len()), (SEQUENCES * ROWS / 4, SEQUENCES * ROWS / 10));
    // Of most sequences some rows are asked and others learned from.
    let of = |part: &[u32]| {
        let names = groups(&data, part).into_iter();
        names.map(|name| name.rsplit_once('/').unwrap().0.to_owned()).collect::<BTreeSet<String>>()
    };
    assert!(of(&split.train).intersection(&of(&split.test)).count() > SEQUENCES / 2);
    assert!(of(&split.train).iter().all(|name| sequences.contains(name)));
    let mut again = open(folder.path(), &recording, &pipeline);
    assert_eq!(split, Split::at_random(&mut again, Shares { validation: 0.1, test: 0.25 }, 3));
}

#[test]
fn what_is_true_of_a_row_is_asked_once_and_of_no_report_that_was_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    // Nothing of the reference is there: frames come ten times a second, rows nine times.
    let index = recording.join("scenario.csv");
    let stamp = |row: usize| format!("10:00:{:02}.{:03}", row * 111 / 1000, row * 111 % 1000);
    let lines = fs::read_to_string(&index).unwrap();
    let mut stamped = String::new();
    for (number, line) in lines.lines().enumerate().take(1 + ROWS) {
        let time = if number == 0 { "time_stamp".to_owned() } else { stamp(number - 1) };
        stamped += &format!("{line},{time}\n");
    }
    fs::write(&index, stamped).unwrap();
    let text = fs::read_to_string(&pipeline).unwrap();
    let camera = text.replace("[\"link\", \"position\"]", "[\"camera\"]");
    assert_ne!(text, camera);
    fs::write(&pipeline, &camera).unwrap();
    let data = open(folder.path(), &recording, &pipeline);
    let asked: Vec<u32> = data.examples.iter().filter_map(|example| example.truth.beams[0]).collect();
    let once: BTreeSet<u32> = asked.iter().copied().collect();
    assert_eq!(asked.len(), once.len(), "{asked:?}");
    assert!(asked.len() >= ROWS - 3, "{asked:?}");
    // Where a frame hears of the newest report at once, that one is no question any more.
    fs::write(&pipeline, camera.replace("window = 2", "window = 2\nlink_lag_ms = 0.0")).unwrap();
    let data = open(folder.path(), &recording, &pipeline);
    let mut heard = 0;
    for example in &data.examples {
        let newest = example.past.last().map(|&report| data.reports[report as usize].capture);
        for instant in 0..2 {
            let truth = data.measured(example, instant).map(|report| report.capture);
            assert!(truth.is_none() || truth > newest, "{truth:?} {newest:?}");
        }
        heard += usize::from(newest.is_some());
    }
    assert!(heard > 0);
}

#[test]
fn what_cannot_be_read_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    for (number, text) in [
        (3, Some("text\n")),
        (14, Some("text\n")),
        (5, None),
        (6, Some("nan\nnan\nnan\nnan\nnan\nnan\nnan\nnan\n")),
    ] {
        let file = recording.join(format!("power/{number}.txt"));
        match text {
            Some(text) => fs::write(file, text).unwrap(),
            None => fs::remove_file(file).unwrap(),
        }
    }
    fs::write(recording.join("place/8.txt"), "nowhere\n").unwrap();
    // The second time from what was kept of the first.
    let [data, again] = [(); 2].map(|()| open(folder.path(), &recording, &pipeline));
    assert_eq!(data.lost, again.lost);
    let lost: Vec<(&str, usize, bool)> =
        data.lost.iter().map(|lost| (lost.what.as_ref(), lost.count, lost.is_broken)).collect();
    assert_eq!(
        lost,
        [
            ("power files cannot be read", 2, true),
            ("power files are not there", 1, false),
            ("power files have no power above 0", 1, false),
            ("samples of position cannot be read (unreadable)", 1, true),
        ]
    );
    let first = data.lost[0].first.as_ref().unwrap();
    assert!(first.contains("power/3.txt"), "{first}");
    assert_eq!(data.notes.len(), 1, "{:?}", data.notes);
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
