//! `mmsense report` on a run and evaluations made by hand.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

/// A folder as `train` leaves it.
fn run(folder: &Path) {
    fs::write(
        folder.join("recipe.toml"),
        r#"
        name = "walk"
        network = "tiny.toml"
        tasks = ["beam", "pose"]
        output = "."
        cache = "cache"
        [[data]]
        name = "street"
        recording = "street"
        pipeline = "pipeline.toml"
        [[stage]]
        name = "alone"
        epochs = 2
        [[stage]]
        name = "joint"
        epochs = 3
        [batch]
        rows = 12
        run = 3
        [optimiser]
        rate = 0.01
        "#,
    )
    .unwrap();
    let mut log = String::new();
    for (stage, name) in ["alone", "joint"].into_iter().enumerate() {
        for step in [10, 20, 30] {
            let loss = 4.0 - stage as f64 - 0.02 * f64::from(step);
            let train = json!({
                "type": "train", "stage_number": stage, "step": step, "stage": name, "steps": 30,
                "losses": { "beam": loss, "pose": 0.1 * loss }, "sigma": { "beam": 1.1, "pose": 0.4 },
                "gradient": 0.7, "rows_per_s": 55.0 + loss, "waiting": 0.02, "left_s": 3.0,
            });
            let validation = json!({
                "type": "validation", "stage_number": stage, "step": step, "stage": name,
                "losses": { "beam": loss + 0.1, "pose": 0.1 * loss }, "top1": { "beam": 0.1 * f64::from(step) / 10.0 },
                "best": step == 20,
            });
            log += &format!("{train}\n{validation}\n");
        }
    }
    fs::write(folder.join("log.jsonl"), log).unwrap();
    let learned = json!([{
        "name": "street", "scene_sha256": SCENE, "groups": 2, "examples": { "train": 1, "validation": 1, "test": 0 },
    }]);
    fs::write(folder.join("data.json"), learned.to_string()).unwrap();
}

const SCENE: &str = "ab12";

fn figure(value: f64) -> Value {
    json!({ "value": value, "interval": [value - 0.05, value + 0.05] })
}

/// What `eval -o` writes: beams now and in 500 ms, blockage, poses; by day and by night, and without the camera.
fn evaluation(network: &str, top1: f64) -> Value {
    let beam = |ms: u32, top1: f64| {
        json!({
            "task": "beam", "what": if ms == 0 { "now".to_owned() } else { format!("in {ms} ms") },
            "ahead_ms": ms, "clear_now": false, "rows": 40, "groups": 4,
            "worth": [
                { "predictor": network, "figures": {
                    "top-1": figure(top1), "mean power loss, dB": figure(0.3),
                    "calibration error": figure(0.04), "calibration error before scaling": figure(0.11),
                } },
                { "predictor": "persistence", "figures": {
                    "top-1": figure(0.5 - 0.0002 * f64::from(ms)), "mean power loss, dB": figure(0.4),
                } },
            ],
            "confusion": [[9, 1, 0], [2, 18, 0], [0, 3, 7]],
            "reliability": [[0.3, 0.25, 10], [0.8, 0.82, 30]],
            "reliability_before": [[0.4, 0.25, 10], [0.95, 0.82, 30]],
        })
    };
    let blockage = json!({
        "task": "blockage", "what": "within 500 ms, of those clear now", "ahead_ms": 500, "clear_now": true,
        "rows": 36, "groups": 4,
        "worth": [
            { "predictor": network, "figures": {
                "AP": figure(0.4), "accuracy": figure(0.93), "majority rate": figure(0.9),
                "lead time, ms": { "value": 350.0, "interval": [200.0, 500.0] },
                "onsets warned": figure(0.75), "false alarms per minute": figure(0.5),
            } },
            { "predictor": "persistence", "figures": {
                "AP": figure(0.1), "accuracy": figure(0.9), "majority rate": figure(0.9),
            } },
        ],
    });
    let joints: Vec<[f64; 3]> =
        (0..17).map(|joint| [0.1 * f64::from(joint % 5), 2.0, 0.1 * f64::from(joint)]).collect();
    let pose = json!({
        "task": "pose", "what": "now", "ahead_ms": 0, "clear_now": false, "rows": 9, "groups": 1,
        "worth": [
            { "predictor": network, "figures": { "MPJPE, mm": { "value": 81.24, "interval": null } } },
            { "predictor": "mean pose", "figures": { "MPJPE, mm": { "value": 230.0, "interval": null } } },
        ],
        "poses": [{ "group": "S07", "time_ns": 5, "truth": joints, "predicted": joints }],
    });
    let gate = |camera: f64| json!({ "camera": figure(camera), "lidar": figure(1.0 - camera) });
    let result = |condition: Value, hidden: &[&str], camera: f64, questions: Vec<Value>| json!({ "data": "street", "hidden": hidden, "learned": null, "condition": condition, "gate": gate(camera), "questions": questions });
    json!({
        "version": 2, "network": network, "checkpoint": "runs/walk/model.safetensors", "parameters": 1234567,
        "results": [
            result(Value::Null, &[], 0.6, vec![beam(0, top1), beam(500, top1 - 0.1), blockage, pose]),
            result(json!("day"), &[], 0.7, vec![beam(0, top1 + 0.02)]),
            result(json!("night"), &[], 0.1, vec![beam(0, top1 - 0.02)]),
            result(Value::Null, &["camera"], 0.0, vec![beam(0, top1 - 0.2)]),
        ],
    })
}

fn write(file: &Path, evaluation: &Value) {
    fs::write(file, serde_json::to_vec(evaluation).unwrap()).unwrap();
}

fn report(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mmsense")).arg("report").args(arguments).output().unwrap()
}

/// What it says when it refuses: exit code 2.
fn refused(arguments: &[&Path]) -> String {
    let output = report(arguments);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_page_has_the_tables_and_plots_of_a_run_and_of_evaluations() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    run(folder);
    let [own, other] = ["own.json", "other.json"].map(|name| folder.join(name));
    write(&own, &evaluation("mmsense", 0.7));
    write(&other, &evaluation("mlp", 0.6));
    let output = report(&[folder, &own, &other]);
    assert!(output.status.success(), "{output:?}");
    let html = fs::read_to_string(folder.join("report.html")).unwrap();
    let markdown = fs::read_to_string(folder.join("report.md")).unwrap();
    for text in [&html, &markdown] {
        for told in [
            "walk",
            "mmsense",
            "mlp",
            "70.0 %",
            "60.0 %",
            "persistence",
            "50.0 %",
            "within 500 ms, of those clear now",
            "lead time, ms",
            "false alarms per minute",
            "majority rate",
            "calibration error before scaling",
            "night",
            "without camera",
            "mean pose",
            "81.2",
            "1,234,567",
            SCENE,
        ] {
            assert!(text.contains(told), "`{told}` is missing");
        }
    }
    // The better of two networks, above persistence, is the one that is marked.
    assert!(
        markdown.contains("| **70.0 %** (65.0–75.0) | 60.0 % (55.0–65.0) | 50.0 % (45.0–55.0) persistence |"),
        "{markdown}"
    );
    for plot in [
        "Loss of beam",
        "Loss of pose",
        "Uncertainty of each task (Eq. 14)",
        "Throughput",
        "top-1 of beam on street",
        "Gate weights on street",
        "Confusion: beam, now, on street",
        "Reliability: beam",
        "Poses on street: from the front, from the side",
    ] {
        assert!(html.contains(&format!("<title>{plot}</title>")), "`{plot}` is missing");
    }
    assert!(!html.contains("<script") && !html.contains("http-equiv") && !html.contains("<img"));
    // Every plot of the Markdown is a file, and the page has as many.
    let files: Vec<&str> = markdown
        .lines()
        .filter_map(|line| Some(line.strip_prefix("![")?.split_once("](<")?.1.trim_end_matches(">)")))
        .collect();
    assert_eq!(files.len(), html.matches("<svg").count());
    for file in files {
        assert!(fs::read_to_string(folder.join(file)).unwrap().starts_with("<svg"), "{file}");
    }
}

#[test]
fn a_run_without_evaluations_has_its_curves_and_says_how_to_make_one() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path());
    let html = folder.path().join("curves.html");
    let output = report(&[folder.path(), Path::new("-o"), &html]);
    assert!(output.status.success(), "{output:?}");
    let page = fs::read_to_string(&html).unwrap();
    assert!(page.contains("<title>Loss of beam</title>") && page.contains("No evaluation was named"));
    // The best validation of each stage is that at step 20 of 30.
    assert!(page.contains("<th scope=\"row\">joint</th><td class=\"number\">50</td>"), "{page}");
}

#[test]
fn columns_of_one_network_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("walk");
    fs::create_dir_all(&run).unwrap();
    self::run(&run);
    let files = ["a", "b"].map(|name| folder.path().join(name).join("eval.json"));
    for (file, top1) in files.iter().zip([0.6, 0.7]) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let mut evaluation = evaluation("walker", top1);
        evaluation["results"][0]["learned"] = json!(0.0);
        write(file, &evaluation);
    }
    let page = folder.path().join("page.html");
    let output = report(&[&run, &files[0], &files[1], Path::new("-o"), &page]);
    assert!(output.status.success(), "{output:?}");
    let page = fs::read_to_string(&page).unwrap();
    for file in &files {
        assert!(page.contains(&format!("walker ({})", file.display())), "{}", file.display());
    }
    // Of some results nobody knows whether they are held out.
    assert!(page.contains("Whether all rows are held out is not known") && !page.contains("Held-out rows."));
}

#[test]
fn what_cannot_be_read_is_said_where_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(refused(&[folder]).contains("found no recipe.toml, allowed is the folder of a run"));
    run(folder);
    let file = folder.join("eval.json");
    let missing = refused(&[folder, &file]);
    assert!(missing.contains("eval.json") && missing.contains("No such file"), "{missing}");
    fs::write(&file, "{\"version\": 1,").unwrap();
    assert!(refused(&[folder, &file]).contains("eval.json: EOF while parsing"), "broken JSON");
    let mut newer = evaluation("mmsense", 0.7);
    newer["version"] = json!(3);
    write(&file, &newer);
    assert!(refused(&[folder, &file]).contains("eval.json: version: found 3, allowed is 2"));
    newer["version"] = json!(2);
    for wrong in [json!([1e308, -1e308]), json!([0.9, 0.8]), json!([0.0, 1e30])] {
        let mut far = newer.clone();
        far["results"][0]["questions"][0]["worth"][0]["figures"]["top-1"]["interval"] = wrong;
        write(&file, &far);
        let wrong = refused(&[folder, &file]);
        assert!(wrong.contains("`top-1` of 0.7, ") && wrong.contains("the lower end first"), "{wrong}");
    }
    newer["results"][0]["questions"][0]["rows"] = json!("many");
    write(&file, &newer);
    let wrong = refused(&[folder, &file]);
    assert!(wrong.contains("results[0].questions[0].rows: invalid type: string \"many\""), "{wrong}");
    newer["results"] = json!([]);
    write(&file, &newer);
    assert!(refused(&[folder, &file]).contains("results: found none, allowed are 1 and more"));
    let named = refused(&[folder, Path::new("-o"), Path::new("page.md")]);
    assert!(named.contains("found `page.md`, allowed is a name that ends with .html"), "{named}");

    let log = folder.join("log.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replace("\"rows_per_s\"", "\"rows\"")).unwrap();
    let broken = refused(&[folder]);
    assert!(broken.contains("log.jsonl:1: missing field `rows_per_s`"), "{broken}");
    fs::remove_file(&log).unwrap();
    // A network may be shipped without it.
    let page = folder.join("report.html");
    let _ = fs::remove_file(&page);
    let made = report(&[folder]);
    assert!(
        made.status.success() && fs::read_to_string(page).unwrap().contains("No log.jsonl lies here"),
        "{made:?}"
    );
}
