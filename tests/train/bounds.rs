//! What an example may know ends with its sequence; what is told of it, with what was recorded.

use std::collections::BTreeMap;
use std::fs;

use mmsense::model::Task;
use mmsense::time::Span;
use mmsense::train::data::recording::{self, Request};
use mmsense::train::data::{Ahead, DataSet};
use mmsense::train::evaluate::{Answers, Row};
use mmsense::train::score::{self, Asked};

use crate::learning::{ROWS, SEQUENCES, asking, make_rooms, open, open_rooms, prepare};

/// A road that looks further back than sequences stand apart.
const FAR: &str = "window = 2\nstride_ms = 2100.0\nlink_max_age_ms = 9000.0\ngap_ms = 9000.0\n[align.position]\n\
                   max_age_ms = 9000.0\n";

#[test]
fn nothing_of_a_sequence_is_an_input_of_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    let text = fs::read_to_string(&pipeline).unwrap().replace("window = 2\n", FAR);
    fs::write(&pipeline, text).unwrap();
    let data = open(folder.path(), &recording, &pipeline);
    assert_eq!(data.examples.len(), SEQUENCES * ROWS);
    let mut first_rows = 0;
    for group in 0..data.groups.len() {
        let own = || data.examples.iter().filter(|example| example.group as usize == group);
        let begin = own().map(|example| example.time).min().unwrap();
        for example in own() {
            let known = example.past.iter().map(|&report| data.reports[report as usize].capture);
            assert!(known.clone().all(|capture| capture >= begin), "{:?} knows {known:?}", example.time);
            // All that is in its window was captured since then, too.
            let age = (example.time - begin).as_secs_f64() as f32 + 1e-3;
            assert!(example.places.iter().flatten().all(|place| place.age_s <= age), "{example:?}");
            if example.time == begin {
                first_rows += 1;
                assert!(example.past.is_empty() && example.was_blocked.is_none());
            }
        }
    }
    assert_eq!(first_rows, SEQUENCES);
    // Rows that name no sequence stand alone, and that is said.
    let index = recording.join("scenario.csv");
    let unnamed = fs::read_to_string(&index).unwrap().replace("seq_index", "other");
    fs::write(&index, unnamed).unwrap();
    let data = open(folder.path(), &recording, &pipeline);
    assert!(data.examples.iter().all(|example| example.past.is_empty()));
    assert!(data.notes.iter().any(|note| note.contains("name no sequences")), "{:?}", data.notes);
}

#[test]
fn a_horizon_beyond_the_end_is_not_watched() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    // The last row is blocked: within 200 ms of the last three, of which only one saw all of them.
    for sequence in 0..SEQUENCES {
        fs::write(recording.join(format!("blocked/{}.txt", (sequence + 1) * ROWS - 1)), "1\n").unwrap();
    }
    let data = open(folder.path(), &recording, &pipeline);
    for own in data.examples.chunks(ROWS) {
        for (row, example) in own.iter().enumerate().skip(ROWS - 3) {
            assert_eq!(example.truth.blocked[1], Some(true));
            assert_eq!(example.truth.watched, if row + 2 < ROWS { 2 } else { 1 }, "row {row}");
        }
    }
}

#[test]
fn instants_count_rows_where_they_are_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    // Rows come every 140 ms: 100 ms ahead is nearest to the next one, 300 ms ahead to the second.
    let index = recording.join("scenario.csv");
    let mut stamped = String::new();
    for (number, line) in fs::read_to_string(&index).unwrap().lines().enumerate() {
        let row = number.saturating_sub(1);
        let ms = row % ROWS * 140 + row / ROWS * 10_000;
        let time = format!("10:{:02}:{:02}.{:03}", ms / 60_000, ms / 1000 % 60, ms % 1000);
        stamped += &format!("{line},{}\n", if number == 0 { "time_stamp" } else { &time });
    }
    fs::write(&index, stamped).unwrap();
    let open = |ahead: Ahead| -> DataSet {
        let cache = folder.path().join("cache");
        let instants_ms = &[0, 100, 300];
        let request = Request { instants_ms, ahead, ..asking(&recording, &pipeline, &cache) };
        recording::open(&request, &|_, _| true).unwrap()
    };
    let later = |data: &DataSet, instant: usize| -> Vec<i64> {
        let of = |example| {
            let found = data.measured(example, instant)?.capture;
            Some((found - example.time).as_nanos() / 1_000_000)
        };
        data.examples.iter().filter_map(of).collect()
    };
    let (time, rows) = (open(Ahead::Time), open(Ahead::Rows));
    let all =
        |later: &[i64], ms: i64, count: usize| later.len() == count && later.iter().all(|own| *own == ms);
    assert!(all(&later(&time, 1), 140, SEQUENCES * (ROWS - 1)), "{:?}", later(&time, 1));
    assert!(all(&later(&time, 2), 280, SEQUENCES * (ROWS - 2)), "{:?}", later(&time, 2));
    assert!(all(&later(&rows, 1), 140, SEQUENCES * (ROWS - 1)), "{:?}", later(&rows, 1));
    assert!(all(&later(&rows, 2), 420, SEQUENCES * (ROWS - 3)), "{:?}", later(&rows, 2));
}

#[test]
fn of_people_whose_joints_are_not_known_what_they_do_is() {
    let folder = tempfile::tempdir().unwrap();
    let recording = make_rooms(folder.path(), vec![2, 12], vec![1, 22], (3, 1));
    let whole = open_rooms(folder.path(), &recording);
    assert!(whole.lost.is_empty() && whole.examples.iter().all(|example| example.truth.pose.is_some()));
    let mut truths: Vec<_> =
        walk(&recording).into_iter().filter(|file| file.ends_with("ground_truth.npy")).collect();
    truths.sort();
    fs::remove_file(&truths[0]).unwrap();
    // The first number behind the header, of the first frame, is none: all ones, as float64 or float32.
    let mut bytes = fs::read(&truths[1]).unwrap();
    bytes[128..136].fill(0xff);
    fs::write(&truths[1], bytes).unwrap();
    let data = open_rooms(folder.path(), &recording);
    let lost: Vec<(&str, usize, bool)> =
        data.lost.iter().map(|lost| (lost.what.as_ref(), lost.count, lost.is_broken)).collect();
    assert_eq!(
        lost,
        [
            ("files of true joints are not there", 1, false),
            ("frames have joints that are no numbers", 1, true)
        ]
    );
    assert_eq!(data.examples.len(), whole.examples.len());
    assert!(data.examples.iter().all(|example| example.truth.activity.is_some()));
    assert_eq!(data.examples.iter().filter(|example| example.truth.pose.is_none()).count(), 3 + 1);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn who_is_clear_now_is_asked_where_that_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    let clear_now = || {
        let data = open(folder.path(), &recording, &pipeline);
        let row = |example| Row { example, scores: vec![0.0, 0.0], gate: Vec::new(), delay: Span::ZERO };
        let rows = (0..data.examples.len() as u32).map(row).collect();
        let answers = Answers { tasks: [(Task::Blockage, rows)].into(), losses: BTreeMap::new() };
        let scaling = BTreeMap::new();
        let asked =
            Asked { data: &data, answers: &answers, network: "network", simple: None, scaling: &scaling };
        score::score(&asked).iter().filter(|question| question.clear_now).count()
    };
    assert_eq!(clear_now(), 1);
    let text = fs::read_to_string(&pipeline).unwrap();
    fs::write(&pipeline, text.replace("horizons_ms = [0, 200]", "horizons_ms = [100, 200]")).unwrap();
    assert_eq!(clear_now(), 0);
}
