//! Recordings that have part of what others have: labels without powers, links that nobody measures, places that mean nothing,
//! rows at odd times, codebooks that are a circle.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use mmsense::config;
use mmsense::model::{Input, MODALITIES, Task};
use mmsense::recording::{Options, Recording};
use mmsense::time::Span;
use mmsense::train::data::recording::{self, Request};
use mmsense::train::data::{Ahead, DataSet, Part, split::Split};
use mmsense::train::evaluate::{Answers, Row};
use mmsense::train::score::{self, Asked, Question};
use mmsense::train::simple::{self, Simple};

use super::learning::{ROWS, SEQUENCES, asking, make_rooms, open, prepare};

/// Puts other columns in the place of an index's: `row` says them of row and sequence.
fn rewrite(recording: &Path, header: &str, row: impl Fn(usize, usize) -> String) {
    let rows = (0..SEQUENCES * ROWS)
        .map(|number| format!("{},{},{}\n", number + 1, row(number, number / ROWS), number / ROWS + 1));
    let text = format!("index,{header},seq_index\n{}", rows.collect::<String>());
    fs::write(recording.join("scenario.csv"), text).unwrap();
}

fn questions(data: &DataSet, task: Task, scores: &dyn Fn(usize) -> Vec<f32>) -> Vec<Question> {
    let parts = [];
    let simple = Simple::learn(&parts);
    let row =
        |example| Row { example, scores: scores(example as usize), gate: Vec::new(), delay: Span::ZERO };
    let rows = (0..data.examples.len() as u32).map(row).collect();
    let answers = Answers { tasks: [(task, rows)].into(), losses: BTreeMap::new() };
    let scaling = BTreeMap::new();
    score::score(&Asked {
        data,
        answers: &answers,
        network: "network",
        simple: Some(&simple),
        scaling: &scaling,
    })
}

fn beam_of_label(number: usize) -> usize {
    number * 5 % 60
}

#[test]
fn beams_of_labels_are_learned_where_no_power_was_measured() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    // As published: they count from 1.
    rewrite(&recording, "unit1_loc,unit2_loc,unit1_beam_index", |number, _| {
        format!("./place/unit1.txt,./place/{number}.txt,{}", beam_of_label(number) + 1)
    });
    let data = open(folder.path(), &recording, &pipeline);
    assert_eq!((data.examples.len(), data.shape.sizes.beams), (SEQUENCES * ROWS, 64));
    assert!(data.notes.iter().any(|note| note.contains("count from 1")), "{:?}", data.notes);
    for (number, example) in data.examples.iter().enumerate() {
        assert_eq!(data.measured(example, 0).unwrap().best as usize, beam_of_label(number));
        let known: Vec<usize> =
            example.past.iter().map(|&at| data.reports[at as usize].best as usize).collect();
        let before = number.saturating_sub(2).max(number / ROWS * ROWS)..number;
        assert_eq!(known, before.map(beam_of_label).collect::<Vec<usize>>());
        let link = example.places.iter().skip(Input::Link.place()).step_by(MODALITIES);
        assert!(link.flatten().next().is_none(), "no label is an input");
    }
    // What a wrong choice loses is not known, and that of a right one not said.
    let scores = |number: usize| {
        let instants =
            (0..2).flat_map(|_| (0..64).map(|beam| f32::from(u8::from(beam == beam_of_label(number)))));
        instants.collect()
    };
    let now = questions(&data, Task::Beam, &scores).remove(0);
    assert_eq!(now.worth[0].figures["top-1"].value, 1.0);
    assert!(now.worth.iter().all(|worth| !worth.figures.keys().any(|name| name.contains("loss"))));
    assert!(now.worth.iter().any(|worth| worth.predictor == "persistence"));
    // A label 0 says that they count from there.
    rewrite(&recording, "unit1_loc,unit2_loc,unit1_beam_index", |number, _| {
        format!("./place/unit1.txt,./place/{number}.txt,{}", beam_of_label(number))
    });
    let data = open(folder.path(), &recording, &pipeline);
    assert_eq!(data.measured(&data.examples[3], 0).unwrap().best as usize, beam_of_label(3));
    // Of a recording that shows nothing but sensors, and has labels, nothing of a link is known; its rows are asked all the same.
    let camera = recording.join("camera");
    fs::create_dir(&camera).unwrap();
    for number in 0..SEQUENCES * ROWS {
        image::RgbImage::new(16, 16).save(camera.join(format!("{number}.png"))).unwrap();
    }
    rewrite(&recording, "unit1_rgb,unit1_beam_index", |number, _| {
        format!("./camera/{number}.png,{}", beam_of_label(number) + 1)
    });
    let text = fs::read_to_string(&pipeline).unwrap();
    fs::write(&pipeline, text.replace("[\"link\", \"position\"]", "[\"camera\"]")).unwrap();
    let data = open(folder.path(), &recording, &pipeline);
    assert_eq!(data.examples.len(), SEQUENCES * ROWS);
}

#[test]
fn a_link_that_nobody_measures_was_blocked_as_the_row_before() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    rewrite(&recording, "unit1_blockage,unit1_loc,unit2_loc", |number, _| {
        format!("./blocked/{number}.txt,./place/unit1.txt,./place/{number}.txt")
    });
    let mut data = open(folder.path(), &recording, &pipeline);
    for own in data.examples.chunks(ROWS) {
        let was: Vec<Option<bool>> = own.iter().map(|example| example.was_blocked).collect();
        let truth = |row: usize| Some(row == 6 || row == 7);
        assert_eq!(was, (0..ROWS).map(|row| truth(row.checked_sub(1)?)).collect::<Vec<_>>());
    }
    // Nothing says how many beams it has: as many as others.
    assert_eq!(data.shape.sizes.beams, 1);
    let codebook = config::Codebook { id: "eight".to_owned(), beams: Some(8), ..config::Codebook::default() };
    let before = data.shape.clone();
    data.take_beams(8, &codebook);
    assert_eq!((data.shape.sizes.beams, data.shape.codebook.id.as_str()), (8, "eight"));
    assert_eq!(before.unlike(&data.shape), ["found 1 beams, allowed are 8"]);
    data.take_beams(9, &codebook);
    assert_eq!(data.shape.sizes.beams, 8);
}

#[test]
fn positions_that_mean_nothing_are_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    rewrite(&recording, "unit1_pwr_60ghz,unit2_loc", |number, _| {
        format!("./power/{number}.txt,./place/{number}.txt")
    });
    let data = open(folder.path(), &recording, &pipeline);
    let lost: Vec<String> = data.lost.iter().map(ToString::to_string).collect();
    assert!(lost.iter().any(|lost| lost.starts_with("120 positions are not shown")), "{lost:?}");
    assert!(data.lost.iter().all(|lost| !lost.is_broken));
}

#[test]
fn a_row_is_asked_about_its_own_beam_however_near_another_one_is() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    let index = recording.join("scenario.csv");
    let mut stamped = String::new();
    for (number, line) in fs::read_to_string(&index).unwrap().lines().enumerate() {
        // Every fifth row comes 40 ms after the one before it.
        let row = number.saturating_sub(1);
        let ms = row % ROWS * 100 + row / ROWS * 10_000 - if row % 5 == 4 { 60 } else { 0 };
        let time = format!("10:{:02}:{:02}.{:03}", ms / 60_000, ms / 1000 % 60, ms % 1000);
        stamped += &format!("{line},{}\n", if number == 0 { "time_stamp" } else { &time });
    }
    fs::write(&index, stamped).unwrap();
    let cache = folder.path().join("cache");
    let request = Request { instants_ms: &[0], ahead: Ahead::Rows, ..asking(&recording, &pipeline, &cache) };
    let data = recording::open(&request, &|_, _| true).unwrap();
    assert_eq!(data.examples.len(), SEQUENCES * ROWS);
    for example in &data.examples {
        assert_eq!(data.measured(example, 0).unwrap().capture, example.time);
    }
}

#[test]
fn simple_predictors_go_around_a_circle() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    // One beam on per row, around and around.
    for number in 0..SEQUENCES * ROWS {
        let best = (number / ROWS + number % ROWS) % 8;
        let powers = (0..8usize).map(|beam| {
            let off = beam.abs_diff(best);
            format!("{:.5}\n", 0.5f64.powi(off.min(8 - off) as i32))
        });
        fs::write(recording.join(format!("power/{number}.txt")), powers.collect::<String>()).unwrap();
    }
    let text = fs::read_to_string(&pipeline).unwrap();
    fs::write(&pipeline, text + "[codebook]\nid = \"ring\"\nbeams = 8\ncircular = true\n").unwrap();
    let data = open(folder.path(), &recording, &pipeline);
    let first =
        |scores: Vec<f64>| (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
    let all: Vec<u32> = (0..data.examples.len() as u32).collect();
    let split = Split { train: all, ..Split::default() };
    let part = [Part { data, split, tasks: vec![Task::Beam] }];
    let simple = Simple::learn(&part);
    let data = &part[0].data;
    let mut asked = 0;
    for example in data.examples.iter().filter(|example| example.past.len() > 1) {
        let best = data.measured(example, 0).unwrap().best as usize;
        let line = simple::extrapolation(data, example, Span::ZERO).unwrap();
        assert_eq!(first(line), best);
        assert_eq!(first(simple.by_past(data, example, 0).unwrap()), best);
        asked += 1;
    }
    assert!(asked > SEQUENCES * (ROWS - 3));
}

#[test]
fn a_predictor_with_nothing_to_go_by_says_what_a_simpler_one_would() {
    let folder = tempfile::tempdir().unwrap();
    let (recording, pipeline) = prepare(folder.path());
    let data = open(folder.path(), &recording, &pipeline);
    let all: Vec<u32> = (0..data.examples.len() as u32).collect();
    let part = [Part { data, split: Split { train: all, ..Split::default() }, tasks: vec![Task::Beam] }];
    let (simple, data) = (Simple::learn(&part), &part[0].data);
    // Rows without a report before them get the commonest beam, which is right somewhere.
    let row = |example| Row { example, scores: vec![0.0; 16], gate: Vec::new(), delay: Span::ZERO };
    let answers = Answers {
        tasks: [(Task::Beam, (0..data.examples.len() as u32).map(row).collect())].into(),
        losses: BTreeMap::new(),
    };
    let scaling = BTreeMap::new();
    let asked =
        Asked { data, answers: &answers, network: "network", simple: Some(&simple), scaling: &scaling };
    let now = score::score(&asked).remove(0);
    let commonest = simple.common_beams(8, 0).unwrap();
    let commonest = (0..8).max_by(|a, b| commonest[*a].total_cmp(&commonest[*b])).unwrap();
    let right = data.examples.iter().filter(|example| {
        let last = example.past.last().map_or(commonest, |&at| data.reports[at as usize].best as usize);
        last == data.measured(example, 0).unwrap().best as usize
    });
    let expected = right.count() as f64 / data.examples.len() as f64;
    let persistence = now.worth.iter().find(|worth| worth.predictor == "persistence").unwrap();
    assert!((persistence.figures["top-1"].value - expected).abs() < 1e-9);
    let first = |example: &&mmsense::train::data::Example| example.past.is_empty();
    assert!(
        data.examples.iter().filter(first).any(|of| data.measured(of, 0).unwrap().best as usize == commonest)
    );
}

/// A folder within itself, and what no file is, by names that files have.
#[cfg(unix)]
#[test]
fn neither_a_loop_of_folders_nor_a_pipe_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let people: PathBuf = make_rooms(folder.path(), vec![1, 2], vec![1], (2, 1));
    let options = Options::of(&config::Pipeline::default().input.recording);
    let sequences = |path: &Path| Recording::open(path, &options).unwrap().sequences().len();
    let before = sequences(&people);
    let room = people.join("E01");
    for name in ["E01", "E02"] {
        std::os::unix::fs::symlink(".", room.join(name)).unwrap();
    }
    assert_eq!((before, sequences(&people)), (2, 2));
    let (recording, pipeline) = prepare(folder.path());
    let pipe = recording.join("power/7.txt");
    fs::remove_file(&pipe).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let data = open(folder.path(), &recording, &pipeline);
    let lost: Vec<String> = data.lost.iter().map(ToString::to_string).collect();
    assert!(lost.iter().any(|lost| lost.contains("found a pipe")), "{lost:?}");
}
