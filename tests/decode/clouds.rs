//! Point clouds of many writers decode as an independent reader says, or fail cleanly.

use std::path::{Path, PathBuf};

use mmsense::decode::DecodeError;
use mmsense::decode::lidar::{PointTable, read_table};
use mmsense::sample::Format;
use nalgebra::Isometry3;
use serde_json::Value;

fn read(format: Format, path: &Path) -> Result<PointTable, DecodeError> {
    read_table(format, &std::fs::read(path).unwrap(), 1 << 20, 32 << 20)
}

/// Lowest and highest finite value.
fn bounds(column: &[f64]) -> Option<[f64; 2]> {
    column.iter().filter(|value| value.is_finite()).fold(None, |bounds, &value| match bounds {
        None => Some([value, value]),
        Some([low, high]) => Some([low.min(value), high.max(value)]),
    })
}

fn check_bounds(name: &str, column: Option<&[f64]>, expected: &Value) -> Result<(), String> {
    let found = column.and_then(bounds);
    let matches = match (expected.as_array(), found) {
        // The expected file rounds to three decimals.
        (Some(expected), Some(found)) => expected.iter().zip(found).all(|(expected, found)| {
            expected.as_f64().is_some_and(|expected| (expected - found).abs() <= 5.1e-4)
        }),
        (None, None) => true,
        _ => false,
    };
    if matches { Ok(()) } else { Err(format!("{name}: found {found:?}, expected {expected}")) }
}

fn check(expected: &Value, found: Result<PointTable, DecodeError>) -> Result<(), String> {
    let expected = expected.as_object().ok_or("not an object")?;
    if expected.contains_key("error") {
        return match found {
            Ok(table) => Err(format!("decoded {} points instead of an error", table.points)),
            Err(error) if error.reason() == "panicked" => Err(error.to_string()),
            Err(_) => Ok(()),
        };
    }
    let table = found.map_err(|error| error.to_string())?;
    if Some(table.points as u64) != expected["n"].as_u64() {
        return Err(format!("{} points instead of {}", table.points, expected["n"]));
    }
    for (name, column) in ["x", "y", "z"].into_iter().zip(&table.coordinates) {
        check_bounds(name, column.as_deref(), expected.get(name).unwrap_or(&Value::Null))?;
    }
    check_bounds("intensity", table.intensity.as_deref(), expected.get("intensity").unwrap_or(&Value::Null))?;
    let has_xyz = table.coordinates.iter().all(Option::is_some);
    let fields = table.fields.clone();
    match table.into_cloud(&Isometry3::identity()) {
        Ok(cloud) if has_xyz => {
            let finite = expected.get("finite").and_then(Value::as_u64);
            if Some(cloud.points.len() as u64) == finite {
                Ok(())
            } else {
                Err(format!("{} finite points instead of {finite:?}", cloud.points.len()))
            }
        }
        Err(DecodeError::MissingFields { .. }) if !has_xyz => Ok(()),
        other => Err(format!("fields {fields:?}: {other:?}")),
    }
}

#[test]
fn every_pcd_decodes_as_expected() {
    let Some(folder) = crate::support::shared("data/sensors") else { return };
    let text = std::fs::read_to_string(folder.join("pcd_expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let mut wrong = Vec::new();
    let files = expected.as_object().unwrap();
    for (name, expected) in files {
        if let Err(error) = check(expected, read(Format::Pcd, &folder.join(name))) {
            wrong.push(format!("{name}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} files:\n{}", wrong.len(), files.len(), wrong.join("\n"));
    assert!(files.len() >= 80);
}

/// Vertices with x, y and z that a PLY header promises.
fn promised(bytes: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().map(str::trim);
    let count = lines.find_map(|line| line.strip_prefix("element vertex "))?.trim().parse().ok()?;
    let names: Vec<&str> = lines
        .take_while(|line| !line.starts_with("element") && *line != "end_header")
        .filter(|line| line.starts_with("property"))
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    ["x", "y", "z"].iter().all(|axis| names.contains(axis)).then_some(count)
}

fn files(folder: PathBuf, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(path, extension));
        } else if path.extension().is_some_and(|end| end == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn every_ply_decodes_or_fails_cleanly() {
    let Some(folder) = crate::support::shared("data/sensors") else { return };
    let mut wrong = Vec::new();
    let mut decoded = 0;
    for path in [files(folder.join("ply"), "ply"), files(folder.join("roadside_ply"), "ply")].concat() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let expected = if name.contains("_err_") || name.starts_with("crash") {
            None
        } else {
            promised(&std::fs::read(&path).unwrap())
        };
        let cloud = read(Format::Ply, &path).and_then(|table| table.into_cloud(&Isometry3::identity()));
        match (expected, &cloud) {
            (Some(count), Ok(cloud)) if cloud.points.len() == count => decoded += 1,
            (None, Err(error)) if error.reason() != "panicked" => {}
            _ => wrong
                .push(format!("{name}: expected {expected:?}, found {:?}", cloud.map(|c| c.points.len()))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(decoded >= 15, "{decoded}");
}

#[test]
fn roadside_scans_keep_their_intensity() {
    let Some(folder) = crate::support::shared("data/sensors/roadside_ply") else { return };
    for (name, count) in [
        ("2021-10-20-15-30-35_frame_600.ply", 16_729),
        ("CFTA_frame_600.ply", 7146),
        ("ReferenceModel_frame_600.ply", 8160),
    ] {
        let table = read(Format::Ply, &folder.join(name)).unwrap();
        let cloud = table.into_cloud(&Isometry3::identity()).unwrap();
        assert_eq!((cloud.points.len(), cloud.intensity.len()), (count, count), "{name}");
        assert!(cloud.intensity.iter().all(|intensity| (0.0..=255.0).contains(intensity)));
        assert!(cloud.intensity.iter().any(|&intensity| intensity > 20.0));
    }
}
