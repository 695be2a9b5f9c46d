//! `train`, `eval` and `report` as they are called: other data in a recipe's place, another folder, another layout.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use mmsense::model::{Input, deployed};

use crate::learning::{make_rooms, prepare};

fn mmsense(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmsense")).args(arguments).output().unwrap()
}

fn done(arguments: &[&str]) -> String {
    let output = mmsense(arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {told}");
    String::from_utf8_lossy(&output.stdout).into_owned() + &told
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Two recipes on links and people, the second of which begins with the first; both would simulate streets.
fn recipes(folder: &Path) {
    let root = env!("CARGO_MANIFEST_DIR");
    fs::copy(format!("{root}/tests/networks/tiny.toml"), folder.join("tiny.toml")).unwrap();
    let tiny = fs::read_to_string(folder.join("tiny.toml")).unwrap();
    let tokenizer = format!("{root}/config/models/edge/tokenizer.json");
    fs::write(folder.join("tiny.toml"), tiny.replace("../../config/models/edge/tokenizer.json", &tokenizer))
        .unwrap();
    let first = format!(
        r#"
        name = "first"
        network = "tiny.toml"
        output = "runs/first"
        cache = "cache"
        device = "cpu"
        without = ["camera"]
        [[data]]
        name = "street"
        scene = "{root}/recordings/scenes/two-way-street.toml"
        files = ["*ario.csv"]
        seed = 401
        repeat = 3
        without = ["camera", "radar", "lidar"]
        pipeline = "pipeline.toml"
        tasks = ["beam", "blockage"]
        shares = {{ validation = 0.25, test = 0.25 }}
        [[data]]
        name = "rooms"
        scene = "{root}/config/recipes/paper/room.toml"
        pipeline = "room.toml"
        tasks = ["activity", "pose"]
        mmfi = {{ protocol = 3, split = "random" }}
        shares = {{ validation = 0.3, test = 0.0 }}
        [[stage]]
        name = "joint"
        epochs = 1
        [batch]
        rows = 8
        "#
    );
    fs::write(folder.join("first.toml"), first).unwrap();
    let second =
        "extends = \"first.toml\"\nname = \"second\"\noutput = \"runs/second\"\nfrom = \"first.toml\"\n";
    fs::write(folder.join("second.toml"), second).unwrap();
}

#[test]
fn a_recipe_learns_from_other_data_and_is_asked_about_recordings_of_both_layouts() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (links, _) = prepare(folder);
    // The roads of both have the same window, beams and horizons.
    let road = fs::read_to_string(folder.join("pipeline.toml")).unwrap();
    let room = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/simulated-room.toml");
    let room = fs::read_to_string(room).unwrap();
    let narrow = room
        .replace("id = \"street-64\"\nbeams = 64", "id = \"walk\"\nbeams = 8")
        .replace("window = 5", "window = 2")
        .replace("horizons_ms = [0, 100, 500, 1000]", "horizons_ms = [0, 200]");
    fs::write(folder.join("room.toml"), narrow).unwrap();
    fs::write(folder.join("pipeline.toml"), road + "[codebook]\nid = \"walk\"\nbeams = 8\n").unwrap();
    // Of each activity ten subjects, of whom two are the test.
    let people = make_rooms(folder, (1..=10).collect(), vec![1, 22], (3, 1));
    recipes(folder);
    let data = [format!("street={}", text(&links)), format!("rooms={}", text(&people))];
    let data: Vec<&str> = data.iter().flat_map(|named| ["--data", named]).collect();
    let (recipe, output) = (folder.join("second.toml"), folder.join("elsewhere"));
    done(&[&["train", text(&recipe), "-o", text(&output)], data.as_slice()].concat());
    // What it begins with lies in its folder, and the recipe's own folders are left alone.
    assert!(output.join("first/model.safetensors").is_file() && output.join("model.safetensors").is_file());
    assert!(!folder.join("runs").exists());

    let file = folder.join("eval.json");
    let said = done(&["eval", text(&output), "-o", text(&file)]);
    assert!(said.contains("beam, now") && said.contains("activity, now"), "{said}");
    let said = done(&["eval", text(&output.join("model.safetensors")), text(&people)]);
    assert!(said.contains("activity, now") && !said.contains("beam, now"), "{said}");
    assert!(said.contains("not held out"), "{said}");
    let said = done(&["eval", text(&output), text(&links)]);
    assert!(said.contains("beam, now") && !said.contains("activity, now"), "{said}");
    let page = folder.join("page.html");
    done(&["report", text(&output), text(&file), "-o", text(&page)]);
    assert!(page.is_file());

    // One task alone, from the data that has labels for it, beside what the recipe makes.
    let said = done(&[&["train", text(&recipe), "--task", "beam"], data.as_slice()].concat());
    assert!(said.contains("street: ") && !said.contains("rooms: "), "{said}");
    assert!(folder.join("runs/first-beam/model.safetensors").is_file(), "{said}");
    let said = done(&["eval", text(&folder.join("runs/second-beam"))]);
    assert!(said.contains("beam, now") && !said.contains("blockage, now"), "{said}");
    // A unit does not show it what it has never seen.
    let (_, fit) = deployed::describe(&folder.join("runs/second-beam/model.safetensors")).unwrap();
    assert_eq!(fit.without, [Input::Camera, Input::Radar, Input::Lidar]);

    // Links of which nobody says whether they are blocked: the rest is learned.
    let index = links.join("scenario.csv");
    let whole = fs::read_to_string(&index).unwrap();
    fs::write(&index, whole.replace("unit1_blockage", "other")).unwrap();
    let part = folder.join("part");
    let said =
        done(&[&["train", text(&folder.join("first.toml")), "-o", text(&part)], data.as_slice()].concat());
    assert!(
        said.contains("has a label for blockage: the network is made for beam, activity, pose alone"),
        "{said}"
    );
    let said = done(&["eval", text(&part)]);
    assert!(said.contains("beam, now") && !said.contains("blockage, now"), "{said}");
    fs::write(&index, whole).unwrap();

    let output_of =
        |task: &str| mmsense(&[&["train", text(&recipe), "--task", task], data.as_slice()].concat());
    let wrong = output_of("sleep");
    let told = String::from_utf8_lossy(&wrong.stderr);
    assert!(wrong.status.code() == Some(2) && told.contains("beam, blockage, activity, pose"), "{told}");

    // A file that cannot be written is said before anything is measured.
    let output = mmsense(&["eval", text(&output), "-o", text(&folder.join("nowhere/eval.json"))]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("nowhere") && output.stdout.is_empty(), "{told}");

    // A run that has not ended, and a folder that is none.
    let asked = |run: &Path| {
        let output = mmsense(&["eval", text(run)]);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    fs::remove_file(part.join("model.safetensors")).unwrap();
    let told = asked(&part);
    assert!(told.contains("the same `mmsense train` goes on"), "{told}");
    let told = asked(folder);
    assert!(told.contains("allowed is the folder of a run"), "{told}");
}

#[test]
fn a_recipe_that_learns_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    prepare(folder);
    recipes(folder);
    let file = folder.join("first.toml");
    let whole = fs::read_to_string(&file).unwrap();
    for (wrong, key) in [
        ("epochs = 0", "stage[0].epochs"),
        ("epochs = 1\nslots = 0", "stage[0].slots"),
        ("epochs = 1\nfreeze = [\"\"]", "stage[0].freeze"),
    ] {
        fs::write(&file, whole.replace("epochs = 1", wrong)).unwrap();
        let output = mmsense(&["train", text(&file)]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && told.contains(key), "{told}");
    }
}
