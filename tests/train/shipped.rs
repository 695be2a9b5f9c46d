//! The checkpoint that ships: what it fits, and what it was made of.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use mmsense::config;
use mmsense::model::{Task, deployed};
use mmsense::simulate::{self, scene};
use mmsense::train::recipe;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/models/edge").join(file)
}

#[test]
fn the_demo_runs_a_trained_network_that_fits_it() {
    let file = shipped("model.safetensors");
    assert!(fs::metadata(&file).unwrap().len() <= 20_000_000);
    let (network, fit) = deployed::load(&file, &Device::Cpu).unwrap();
    assert!(fit.trained);
    assert_eq!(network.config().tasks, [Task::Beam, Task::Blockage]);
    let demo = config::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/demo.toml")).unwrap();
    assert_eq!(fs::canonicalize(demo.model.network.unwrap()).unwrap(), fs::canonicalize(&file).unwrap());
    let window = (demo.align.window, demo.align.stride_ms);
    fit.check(&network.config().tasks, window, &demo.decide.horizons_ms, &demo.codebook).unwrap();
}

#[test]
fn it_was_made_of_the_scenes_that_are_here() {
    let recipe = recipe::load(&shipped("recipe.toml")).unwrap();
    let told: Vec<Value> = serde_json::from_slice(&fs::read(shipped("data.json")).unwrap()).unwrap();
    assert_eq!(recipe.data.len(), told.len());
    for (entry, told) in recipe.data.iter().zip(&told) {
        assert_eq!(entry.name, told["name"]);
        let mut scene = scene::load(entry.scene.as_ref().unwrap()).unwrap();
        scene.seed = entry.seed.unwrap_or(scene.seed);
        scene.repeat(entry.repeat).unwrap();
        scene.leave_out(&entry.without);
        let version = told["simulator"].as_u64().unwrap() as u32;
        let hash = Sha256::digest(simulate::identity_in(version, &scene).unwrap().as_bytes());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, told["scene_sha256"], "{}: the network has to be trained anew", entry.name);
    }
    // The recipe beside it is the one that is shipped as a recipe.
    let of_folder =
        recipe::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config/recipes/edge.toml")).unwrap();
    let settings = |recipe: &recipe::Recipe| {
        (recipe.seed, recipe.stage.clone(), recipe.batch, recipe.loss, recipe.augment, recipe.optimiser)
    };
    assert_eq!(settings(&recipe), settings(&of_folder));
}
