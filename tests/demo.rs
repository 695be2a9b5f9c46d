//! The demo as a newcomer runs it: one command makes the recording, publishes it over zenoh, decides with the network and
//! says what came of it. A short scene and a tiny network stand in for the shipped ones.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const SCENE: &str = r#"
seed = 4
[camera]
width = 96
height = 54
rays = 1
[lidar]
rings = 8
columns = 60
[cube]
samples = 64
chirps = 8
[[sequence]]
seconds = 2.0
ue = { kind = "car", lane = 3, at_m = 6.0, speed_mps = -4.0 }
vehicles = [{ kind = "truck", lane = 0, at_m = -4.0, speed_mps = 9.0 }]
"#;

const NETWORK: &str = include_str!("networks/tiny.toml");

/// The shipped pipeline, with other files and a free port.
fn prepare(folder: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(root.join(file)).unwrap();
    let write = |file: &str, text: &str| std::fs::write(folder.join(file), text).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    write("zenoh.json5", &read("config/zenoh-demo.json5").replace("7449", &port.to_string()));
    write("scene.toml", SCENE);
    let network = NETWORK.replace("../..", root.to_str().unwrap());
    write("network.toml", &network);
    let pipeline = read("pipelines/demo.toml")
        .replace("../recordings/street.toml", "scene.toml")
        .replace("../recordings/made", "made")
        .replace("../config/models/edge/model.safetensors", "network.toml")
        .replace("../config/zenoh-demo.json5", "zenoh.json5");
    assert!(!pipeline.contains("../"), "{pipeline}");
    write("demo.toml", &pipeline);
}

fn run(folder: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmsense"))
        .current_dir(folder)
        .args(["run", "demo.toml", "--format", "json", "--log", "log.jsonl"])
        .args(more)
        .output()
        .unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn one_command_shows_the_whole_road() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    for made in [true, false] {
        let output = run(folder.path(), &[]);
        let (results, progress) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(matches!(output.status.code(), Some(0 | 3)), "{:?}: {progress}", output.status);
        // The recording is made once.
        assert_eq!(progress.contains("making the recording"), made, "{progress}");
        let made = std::fs::read_dir(folder.path().join("made")).unwrap();
        assert_eq!(made.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count(), 1);

        let results = lines(&results);
        let summary = &results.last().unwrap()["summary"];
        for modality in ["camera", "radar", "lidar", "link", "position", "blocked"] {
            assert_eq!(summary["received"][modality], 20, "{summary:#}");
        }
        let unit = &summary["units"]["unit1"];
        assert_eq!(unit["model"]["trained"], false);
        assert_eq!(summary["device"], "cpu");
        assert_eq!(unit["fallback"]["model"]["id"], "persistence+power-trend");
        assert!(unit["fallback"]["score"]["beam"]["count"].as_u64().unwrap() > 0, "{unit:#}");
        assert!(unit["score"]["majority"]["count"].as_u64().unwrap() > 0, "{unit:#}");

        let log = lines(&std::fs::read_to_string(folder.path().join("log.jsonl")).unwrap());
        let decisions: Vec<&Value> = log.iter().filter(|message| message["model"].is_object()).collect();
        assert!(!decisions.is_empty());
        for decision in &decisions {
            assert_eq!(
                (&decision["model"]["trained"], &decision["actionable"]),
                (&false.into(), &false.into())
            );
        }
        let decided_by_all = log.iter().any(|message| {
            let weight = |name: &str| message["modalities"][name]["gate_weight"].as_f64();
            let weights: Option<Vec<f64>> = ["camera", "radar", "lidar"].map(weight).into_iter().collect();
            weights.is_some_and(|weights| weights.iter().all(|&weight| weight > 0.0))
        });
        assert!(decided_by_all, "no frame in which every sensor counted");
    }
}

#[test]
fn what_is_wrong_is_told_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let edit = |file: &str, from: &str, to: &str| {
        let path = folder.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file}: {from}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    };
    let fails = |wanted: &str| {
        let output = run(folder.path(), &[]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(wanted), "{told}");
        assert!(!folder.path().join("made").exists());
    };
    edit("network.toml", "heads = 2\ntask_width", "heads = 3\ntask_width");
    fails("network.toml: core.heads: found 3, allowed are divisors of width = 16");
    edit("network.toml", "heads = 3", "heads = 2");
    edit("demo.toml", "device = \"auto\"", "device = \"cuda:77\"");
    fails("model.device = \"cuda:77\": ");
    edit("demo.toml", "device = \"cuda:77\"", "device = \"gpu\"");
    fails("demo.toml: model.device: found `gpu`, allowed are `auto`, `cpu` and `cuda:N`");
    edit("demo.toml", "device = \"gpu\"", "device = \"cpu\"");
    edit("scene.toml", "seconds = 2.0", "seconds = -2.0");
    fails("scene.toml: sequence.0.seconds: ");
}
