//! `mmsense parity`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::SafeTensors;
use serde_json::Value;

fn parity(arguments: &[&str], golden: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mmsense"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("parity").arg("--golden").arg(golden);
    command.args(arguments).output().unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn small() -> PathBuf {
    root().join("tests/data/parity")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Copies the families named of the small set.
fn copy(families: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for family in families {
        let to = folder.path().join(family);
        std::fs::create_dir(&to).unwrap();
        for entry in std::fs::read_dir(small().join(family)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    folder
}

/// Where a tensor's bytes lie in a file.
fn place(bytes: &[u8], tensor: &str) -> usize {
    let (header, metadata) = SafeTensors::read_metadata(bytes).unwrap();
    8 + header + metadata.info(tensor).unwrap().data_offsets.0
}

/// Changes the first number (f32) of a tensor by 1 % and a little.
fn spoil(file: &Path, tensor: &str) {
    let mut bytes = std::fs::read(file).unwrap();
    let at = place(&bytes, tensor);
    let number = f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    bytes[at..at + 4].copy_from_slice(&(number * 1.01 + 1e-3).to_le_bytes());
    std::fs::write(file, bytes).unwrap();
}

/// The report's rows that did not pass: (case, tensor, reason).
fn misses(output: &Output) -> Vec<(String, String, String)> {
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["rows"].as_array().unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    rows.iter()
        .filter(|row| row["pass"] == false)
        .map(|row| (text(row, "case"), text(row, "tensor"), text(row, "reason")))
        .collect()
}

fn missed(folder: &Path) -> Vec<(String, String, String)> {
    let output = parity(&["--format", "json"], folder);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("comparisons missed"));
    misses(&output)
}

#[test]
fn everything_here_is_within_its_tolerance() {
    let output = parity(&[], &small());
    assert!(output.status.success(), "{}", text(&output));
    let table = text(&output);
    assert!(table.starts_with("case "), "{table}");
    assert!(table.ends_with(" 0 missed\n"), "{table}");
    for family in ["blocks/", "metrics/", "mllama/", "peft_lora/", "resnet/", "tokenizer/"] {
        assert!(table.lines().any(|line| line.starts_with(family) && line.ends_with("  yes")), "{table}");
    }
}

#[test]
fn the_whole_public_set_is_within_its_tolerance() {
    let folder = root().join("../shared/parity");
    if !folder.is_dir() {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    }
    let output = parity(&[], &folder);
    assert!(output.status.success(), "{}", text(&output));
    for family in ["blocks", "metrics", "radar", "resnet", "point", "mllama", "peft_lora", "tokenizer"] {
        assert!(text(&output).contains(&format!("\n{family}/")), "{family} has no case");
    }
}

#[test]
fn one_number_that_is_off_is_named() {
    for (file, tensor) in [
        ("blocks/adamw", "a.5"),
        ("blocks/clip", "b.clipped"),
        ("blocks/layernorm", "grad.weight"),
        ("blocks/losses", "bce_pos_weight4.grad"),
        ("blocks/mha_h4", "grad.w.in_proj_weight"),
        ("blocks/uncertainty", "stationary_log_var"),
    ] {
        let folder = copy(&["blocks"]);
        spoil(&folder.path().join(format!("{file}.safetensors")), tensor);
        let missed = missed(folder.path());
        assert_eq!(missed, [(file.to_owned(), tensor.to_owned(), String::new())]);
    }
}

#[test]
fn a_weight_that_is_off_shows_in_what_it_makes() {
    let folder = copy(&["resnet"]);
    spoil(&folder.path().join("resnet/narrow_bottleneck.model.safetensors"), "layer3.0.bn2.running_mean");
    let missed = missed(folder.path());
    assert!(missed.iter().any(|row| row.0 == "resnet/narrow_bottleneck" && row.1 == "logits"), "{missed:?}");
}

#[test]
fn a_measure_that_is_off_or_unknown_is_named() {
    let folder = copy(&["metrics"]);
    let file = folder.path().join("metrics/expected.json");
    let mut expected: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    expected["pose"]["mpjpe"] = (expected["pose"]["mpjpe"].as_f64().unwrap() + 2e-6).into();
    expected["beam"]["true_first10"][3] = 62.into();
    expected["blockage"]["brier"] = 0.1.into();
    expected["walking"] = serde_json::json!({ "speed": 1.0 });
    std::fs::write(&file, expected.to_string()).unwrap();
    let missed = missed(folder.path());
    let names: Vec<(&str, &str)> = missed.iter().map(|row| (row.0.as_str(), row.1.as_str())).collect();
    assert_eq!(names.len(), 4, "{missed:?}");
    for name in [
        ("metrics/beam", "true_first10"),
        ("metrics/blockage", "brier"),
        ("metrics/pose", "mpjpe"),
        ("metrics/walking", "-"),
    ] {
        assert!(names.contains(&name), "{name:?} in {missed:?}");
    }
}

#[test]
fn a_token_that_is_off_is_named() {
    let folder = copy(&["tokenizer"]);
    let file = folder.path().join("tokenizer/encodings.json");
    let mut encodings: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    encodings[1]["ids"][2] = 7.into();
    std::fs::write(&file, encodings.to_string()).unwrap();
    let missed = missed(folder.path());
    assert_eq!(missed.len(), 1, "{missed:?}");
    assert_eq!((missed[0].0.as_str(), missed[0].1.as_str()), ("tokenizer/encodings", "1.ids"));
}

#[test]
fn what_no_case_knows_is_a_miss() {
    let unknown = "no case is known by this name";
    for (name, content) in [
        ("blocks/gelu.safetensors", true),
        ("blocks/notes.txt", true),
        ("wave/table.safetensors", true),
        ("wave_noise.json", true),
        ("blocks/more", false),
    ] {
        let folder = copy(&["blocks"]);
        let path = folder.path().join(name);
        std::fs::create_dir_all(if content { path.parent().unwrap() } else { &path }).unwrap();
        if content {
            std::fs::copy(folder.path().join("blocks/clip.safetensors"), &path).unwrap();
        }
        let missed = missed(folder.path());
        let name = name.replace("wave/table.safetensors", "wave");
        assert_eq!(missed, [(name, "-".to_owned(), unknown.to_owned())]);
    }
}

#[test]
fn a_golden_tensor_that_nothing_looks_at_is_a_miss() {
    let folder = copy(&["blocks"]);
    let file = folder.path().join("blocks/losses.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut all: HashMap<String, _> = tensors.tensors().into_iter().collect();
    all.insert("huber.loss".to_owned(), tensors.tensor("mse.loss").unwrap());
    std::fs::write(&file, safetensors::serialize(all, None).unwrap()).unwrap();
    let missed = missed(folder.path());
    let reason = "was compared with nothing".to_owned();
    assert_eq!(missed, [("blocks/losses".to_owned(), "huber.loss".to_owned(), reason)]);
}

#[test]
fn a_file_that_is_missing_or_broken_is_a_miss() {
    let folder = copy(&["blocks", "metrics", "resnet", "tokenizer"]);
    let path = |name: &str| folder.path().join(name);
    std::fs::remove_file(path("metrics/pose.safetensors")).unwrap();
    std::fs::remove_file(path("resnet/narrow_bottleneck.model.safetensors")).unwrap();
    std::fs::remove_file(path("tokenizer/encodings.json")).unwrap();
    std::fs::write(path("blocks/clip.safetensors"), b"not a safetensors file").unwrap();
    let missed = missed(folder.path());
    let cases: Vec<&str> = missed.iter().map(|row| row.0.as_str()).collect();
    assert_eq!(cases, ["blocks/clip", "metrics/pose", "resnet/narrow_bottleneck", "tokenizer/encodings"]);
    assert!(missed.iter().all(|row| row.2.contains("cannot be read")), "{missed:?}");
}

#[test]
fn an_empty_folder_proves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(missed(folder.path())[0].2, "found no case");
    std::fs::create_dir(folder.path().join("blocks")).unwrap();
    assert_eq!(missed(folder.path()), [("blocks".to_owned(), "-".to_owned(), "found no case".to_owned())]);
}

#[test]
fn wrong_usage_has_exit_code_2() {
    let output = parity(&[], Path::new("nowhere/at/all"));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere/at/all: "));
    let output = parity(&["--device", "cuda:99"], &small());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cuda:99"));
    let output = parity(&["--device", "abacus"], &small());
    assert_eq!(output.status.code(), Some(2));
}
