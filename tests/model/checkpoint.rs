//! Weight files: what is read, and what is refused by name.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use mmsense::model::checkpoint::{Checkpoint, CheckpointError, save};
use proptest::prelude::*;

fn ramp(shape: &[usize], dtype: DType) -> Tensor {
    let count: usize = shape.iter().product();
    let ramp = Tensor::arange(0f32, count as f32, &Device::Cpu).unwrap();
    ramp.reshape(shape).unwrap().to_dtype(dtype).unwrap()
}

fn write(file: &Path, tensors: &[(&str, Tensor)]) {
    save(file, tensors.iter().map(|(name, tensor)| (*name, tensor)), &BTreeMap::new()).unwrap();
}

fn two_shards(folder: &Path) {
    write(&folder.join("a.safetensors"), &[("x.weight", ramp(&[2, 3], DType::F32))]);
    write(&folder.join("b.safetensors"), &[("y.weight", ramp(&[4], DType::F32))]);
    index(folder, r#""x.weight": "a.safetensors", "y.weight": "b.safetensors""#);
}

fn index(folder: &Path, map: &str) {
    let text = format!(r#"{{"metadata": {{}}, "weight_map": {{{map}}}}}"#);
    fs::write(folder.join("model.safetensors.index.json"), text).unwrap();
}

fn builder(checkpoint: &Checkpoint) -> VarBuilder<'static> {
    checkpoint.builder(DType::F32, &Device::Cpu)
}

fn numbers(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn shards_are_read_as_one_file_is() {
    let folder = tempfile::tempdir().unwrap();
    two_shards(folder.path());
    let single = folder.path().join("single.safetensors");
    let both = [("x.weight", ramp(&[2, 3], DType::F32)), ("y.weight", ramp(&[4], DType::F32))];
    write(&single, &both);
    let sharded = Checkpoint::open(folder.path()).unwrap();
    let single = Checkpoint::open(&single).unwrap();
    assert!(sharded.tensors().eq(single.tensors()));
    for checkpoint in [&sharded, &single] {
        let vb = builder(checkpoint);
        assert_eq!(numbers(&vb.pp("x").get((2, 3), "weight").unwrap()), [0., 1., 2., 3., 4., 5.]);
        let error = checkpoint.finish(|_| false).unwrap_err();
        assert!(
            matches!(&error, CheckpointError::Extra { name, others: 0, .. } if name == "y.weight"),
            "{error}"
        );
        checkpoint.finish(|name| name.starts_with('y')).unwrap();
        assert_eq!(numbers(&vb.pp("y").get(4, "weight").unwrap()), [0., 1., 2., 3.]);
        checkpoint.finish(|_| false).unwrap();
    }
    let unused = Checkpoint::open(folder.path()).unwrap().unused(|_| false);
    let files: Vec<&str> =
        unused.iter().map(|(_, file)| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(files, ["a.safetensors", "b.safetensors"]);
}

#[test]
fn a_tensor_that_does_not_fit_is_named_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.safetensors");
    write(
        &file,
        &[
            ("a.weight", ramp(&[2, 3], DType::F32)),
            ("count", ramp(&[2], DType::I64)),
            ("half", ramp(&[2], DType::BF16)),
        ],
    );
    let checkpoint = Checkpoint::open(&file).unwrap();
    let vb = builder(&checkpoint);
    let path = file.display();
    for (asked, says) in [
        (vb.get((2, 3), "b.weight"), format!("{path}: tensor `b.weight` is missing")),
        (
            vb.pp("a").get((3, 2), "weight"),
            format!("{path}: tensor `a.weight` has shape [2, 3], the model needs [3, 2]"),
        ),
        (vb.get(2, "count"), format!("{path}: tensor `count` holds I64, allowed are BF16, F16, F32 and F64")),
    ] {
        let error = asked.unwrap_err();
        assert_eq!(CheckpointError::of(&error).unwrap().to_string(), says);
        // candle shows it as it is: one line (and its own trace of calls where that is asked for).
        assert_eq!(error.to_string().lines().next().unwrap(), says);
    }
    assert_eq!(numbers(&vb.get(2, "half").unwrap()), [0.0, 1.0]);
    let wide = checkpoint.builder(DType::F64, &Device::Cpu).get((2, 3), "a.weight").unwrap();
    assert_eq!(wide.dtype(), DType::F64);
    // What was refused was not taken.
    assert_eq!(
        checkpoint.unused(|_| false).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["count"]
    );
    assert_eq!(checkpoint.load_all(&Device::Cpu).unwrap()["count"].dtype(), DType::I64);
}

#[test]
fn a_number_that_is_not_finite_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    for (dtype, at, wrong) in [
        (DType::F32, 5000, f32::NAN),
        (DType::F16, 0, f32::INFINITY),
        (DType::BF16, 4095, f32::NEG_INFINITY),
        (DType::F64, 4096, f32::NAN),
    ] {
        let mut numbers = vec![1.5f32; 6000];
        numbers[at] = wrong;
        let tensor = Tensor::from_vec(numbers, (2, 3000), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        write(&file, &[("x", tensor)]);
        let checkpoint = Checkpoint::open(&file).unwrap();
        let error = CheckpointError::take(builder(&checkpoint).get((2, 3000), "x").unwrap_err()).unwrap();
        assert!(
            matches!(&error, CheckpointError::NotFinite { name, at: found, .. } if name == "x" && *found == at),
            "{error}"
        );
        assert!(error.to_string().contains("model.safetensors: tensor `x` holds"), "{error}");
        // As it is, for those who ask for all as it is.
        assert!(checkpoint.load_all(&Device::Cpu).is_ok());
    }
}

#[test]
fn a_name_is_looked_up_under_every_spelling() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.safetensors");
    write(&file, &[("old.x", ramp(&[1], DType::F32)), ("new.y", ramp(&[2], DType::F32))]);
    let checkpoint = Checkpoint::open(&file).unwrap();
    let vb = checkpoint.builder_spelled(DType::F32, &Device::Cpu, &["new.", "old."]);
    assert!(vb.contains_tensor("x") && vb.contains_tensor("y") && !vb.contains_tensor("z"));
    vb.get(1, "x").unwrap();
    vb.get(2, "y").unwrap();
    let error = vb.get(2, "z").unwrap_err().to_string();
    assert!(error.contains("`new.z` is missing"), "{error}");
    checkpoint.finish(|_| false).unwrap();
}

#[test]
fn files_that_are_not_whole_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.safetensors");
    write(&file, &[("x", ramp(&[64], DType::F32))]);
    let good = fs::read(&file).unwrap();
    let length = good.len() as u64;
    let open = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        Checkpoint::open(&file).unwrap_err()
    };
    // Cut in its numbers: its length and what it should be.
    let error = open(&good[..good.len() - 100]);
    assert!(
        matches!(error, CheckpointError::Length { found, claimed, .. } if found == length - 100 && claimed == length),
        "{error}"
    );
    // Cut in its header; a header that claims more than the file has; more than the header tells.
    assert!(matches!(open(&good[..40]), CheckpointError::Length { found: 40, .. }));
    let mut long = good.clone();
    long[..8].copy_from_slice(&1_000_000u64.to_le_bytes());
    assert!(matches!(open(&long), CheckpointError::Length { claimed: 1_000_008, .. }));
    long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(open(&long), CheckpointError::Header { .. }));
    let error = open(&[good.as_slice(), &[0; 7]].concat());
    assert!(matches!(error, CheckpointError::Length { found, .. } if found == length + 7), "{error}");
    for nothing in [&[][..], &good[..5], &[0; 8], b"PK\x03\x04 is no safetensors file at all"] {
        let error = open(nothing);
        assert!(
            matches!(error, CheckpointError::Header { .. } | CheckpointError::Length { .. }),
            "{nothing:?}: {error}"
        );
        assert!(error.to_string().contains("w.safetensors"), "{error}");
    }
    fs::remove_file(&file).unwrap();
    assert!(matches!(Checkpoint::open(&file), Err(CheckpointError::Read { .. })));
    assert!(matches!(Checkpoint::open(folder.path()), Err(CheckpointError::Read { .. })));
}

#[test]
fn an_index_that_is_wrong_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    two_shards(folder.path());
    let open = |map: &str| {
        index(folder.path(), map);
        Checkpoint::open(folder.path()).unwrap_err()
    };
    let error = open(r#""x.weight": "a.safetensors", "y.weight": "c.safetensors""#);
    assert!(
        matches!(&error, CheckpointError::ShardMissing { shard, .. } if shard.ends_with("c.safetensors")),
        "{error}"
    );
    let error = open(r#""x.weight": "a.safetensors", "z.weight": "b.safetensors""#).to_string();
    assert!(error.contains("`z.weight` is said to be in b.safetensors"), "{error}");
    for outside in ["../a.safetensors", "/etc/passwd", "", ".."] {
        let error = open(&format!(r#""x.weight": "{outside}""#)).to_string();
        assert!(error.contains("allowed are names of files beside it"), "{error}");
    }
    fs::write(folder.path().join("model.safetensors.index.json"), "[]").unwrap();
    assert!(matches!(Checkpoint::open(folder.path()), Err(CheckpointError::Index { .. })));
}

#[test]
fn two_shards_with_the_same_tensor_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let x = ("x", ramp(&[2], DType::F32));
    write(&folder.path().join("a.safetensors"), std::slice::from_ref(&x));
    write(&folder.path().join("b.safetensors"), &[x, ("y", ramp(&[2], DType::F32))]);
    index(folder.path(), r#""x": "a.safetensors", "y": "b.safetensors""#);
    let error = Checkpoint::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("`x` is in two of its shards"), "{error}");
}

#[test]
fn saving_is_all_or_nothing_and_the_same_bytes_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.safetensors");
    let tensors = [
        ("half", ramp(&[3], DType::F16)),
        ("a", ramp(&[2, 2], DType::F32)),
        ("ids", ramp(&[5], DType::U32)),
        ("wide", ramp(&[1], DType::F64)),
    ];
    let metadata: BTreeMap<String, String> =
        [("format", "pt"), ("step", "7")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    let save = |tensors: &[(&str, Tensor)]| {
        save(&file, tensors.iter().map(|(name, tensor)| (*name, tensor)), &metadata)
    };
    save(&tensors).unwrap();
    let first = fs::read(&file).unwrap();
    let mut reversed = tensors.clone();
    reversed.reverse();
    save(&reversed).unwrap();
    assert_eq!(first, fs::read(&file).unwrap());
    // The library of the format reads it.
    let read = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    for (name, tensor) in &tensors {
        assert_eq!((read[*name].dtype(), read[*name].dims()), (tensor.dtype(), tensor.dims()));
        assert_eq!(
            numbers(&read[*name].to_dtype(DType::F32).unwrap()),
            numbers(&tensor.to_dtype(DType::F32).unwrap())
        );
    }
    assert_eq!(Checkpoint::open(&file).unwrap().metadata(), metadata);

    // A mapped file stays what it was when another takes its name.
    let mapped = Checkpoint::open(&file).unwrap();
    save(&[("a", ramp(&[4, 4], DType::F32))]).unwrap();
    assert_eq!(numbers(&builder(&mapped).get((2, 2), "a").unwrap()), [0., 1., 2., 3.]);
    // A failed attempt leaves the file as it was, and nothing beside it.
    let before = fs::read(&file).unwrap();
    let twice = [("a", ramp(&[1], DType::F32)), ("a", ramp(&[1], DType::F32))];
    assert!(matches!(save(&twice), Err(CheckpointError::Write { .. })));
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever bytes a file has: an error or a checkpoint, and what it gives has the size that it says.
    #[test]
    fn no_bytes_make_it_panic(flips in prop::collection::vec((0usize..400, any::<u8>()), 0..6), cut in 0usize..400) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("w.safetensors");
        write(&file, &[("x.weight", ramp(&[3, 5], DType::F32)), ("y", ramp(&[4], DType::I64))]);
        let mut bytes = fs::read(&file).unwrap();
        for (place, value) in flips {
            let place = place % bytes.len();
            bytes[place] = value;
        }
        bytes.truncate(bytes.len().saturating_sub(cut.saturating_sub(300)));
        fs::write(&file, &bytes).unwrap();
        if let Ok(checkpoint) = Checkpoint::open(&file) {
            for (_, tensor) in checkpoint.load_all(&Device::Cpu).into_iter().flatten() {
                prop_assert!(tensor.flatten_all().is_ok());
            }
            let _ = builder(&checkpoint).get((3, 5), "x.weight");
        }
    }
}
