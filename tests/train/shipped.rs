//! The checkpoint that ships: what it fits, and what it was made of.

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::Device;
use mmsense::config;
use mmsense::model::{Task, deployed};
use mmsense::simulate::{self, scene};
use mmsense::train::recipe::{self, DataEntry, Recipe};
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
    let [recipe, start] =
        ["recipe.toml", "recipe-start.toml"].map(|file| recipe::load(&shipped(file)).unwrap());
    // What it began with was learned from other data sets, too.
    let is_new = |entry: &&DataEntry| recipe.data.iter().all(|other| other.name != entry.name);
    let entries: Vec<&DataEntry> = recipe.data.iter().chain(start.data.iter().filter(is_new)).collect();
    let told: Vec<Value> = serde_json::from_slice(&fs::read(shipped("data.json")).unwrap()).unwrap();
    assert_eq!(entries.len(), told.len());
    for (entry, told) in entries.into_iter().zip(&told) {
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
}

#[test]
fn the_recipes_beside_it_are_those_that_are_shipped_as_recipes() {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/recipes");
    let settings = |recipe: &Recipe| {
        let network = fs::canonicalize(&recipe.network).unwrap();
        let data: Vec<String> = recipe.data.iter().map(|entry| entry.name.clone()).collect();
        let learned =
            (recipe.seed, recipe.stage.clone(), recipe.batch, recipe.loss, recipe.augment, recipe.optimiser);
        (recipe.name.clone(), network, data, learned)
    };
    for (beside, file) in [("recipe.toml", "edge.toml"), ("recipe-start.toml", "edge-start.toml")] {
        let [beside, file] = [shipped(beside), recipes.join(file)].map(|path| recipe::load(&path).unwrap());
        assert_eq!(settings(&beside), settings(&file));
        let from = |recipe: &Recipe| recipe.from.as_ref().map(|from| fs::canonicalize(from).unwrap());
        assert_eq!(from(&beside), from(&file));
    }
}
