//! What a run begins with, and that the number of its workers changes nothing.

use std::fs;
use std::path::Path;

use candle_core::Device;
use mmsense::config;
use mmsense::model::checkpoint::Checkpoint;
use mmsense::model::{NetworkConfig, Task};
use mmsense::train::data::Part;
use mmsense::train::data::split::{Shares, Split};
use mmsense::train::learned;
use mmsense::train::recipe::Recipe;
use mmsense::train::trainer::{Began, Event, Trainer};

use crate::learning::{open, prepare, recipe, tiny, train, with_stack};

const TASKS: [Task; 2] = [Task::Beam, Task::Blockage];

fn part(folder: &Path, name: &str, seed: u64) -> Part {
    let (recording, pipeline) = prepare(folder);
    let mut data = open(folder, &recording, &pipeline);
    data.name = name.to_owned();
    let split = Split::by_group(&data, Shares { validation: 0.25, test: 0.25 }, seed);
    Part { data, split, tasks: TASKS.to_vec() }
}

/// The same walk, on which other powers were measured.
fn elsewhere(folder: &Path, name: &str, seed: u64) -> Part {
    let folder = folder.join("elsewhere");
    let (recording, pipeline) = prepare(&folder);
    for file in fs::read_dir(recording.join("power")).unwrap().flatten() {
        let powers = fs::read_to_string(file.path()).unwrap();
        let halved = powers.lines().map(|power| format!("{}\n", 0.5 * power.parse::<f64>().unwrap()));
        fs::write(file.path(), halved.collect::<String>()).unwrap();
    }
    let mut data = open(&folder, &recording, &pipeline);
    data.name = name.to_owned();
    let split = Split::by_group(&data, Shares { validation: 0.25, test: 0.25 }, seed);
    Part { data, split, tasks: TASKS.to_vec() }
}

/// A recipe of one short stage.
fn short(folder: &Path, output: &str) -> Recipe {
    let mut recipe = recipe(folder, output);
    recipe.stage.drain(..1);
    recipe.stage[0].epochs = 2.0;
    recipe
}

#[test]
fn workers_change_no_bit() {
    with_stack(|| {
        let folder = tempfile::tempdir().unwrap();
        let parts = [part(folder.path(), "a", 1), part(folder.path(), "b", 2), part(folder.path(), "c", 3)];
        let trained = |threads: usize| {
            let recipe = short(folder.path(), &format!("with-{threads}"));
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(256 << 20);
            fs::read(pool.build().unwrap().install(|| train(&recipe, &parts, 0))).unwrap()
        };
        assert_eq!(trained(1), trained(3));
    });
}

/// Trains a network by a recipe that begins with another run; what it has told of that.
fn begin(recipe: &Recipe, config: &NetworkConfig, parts: &[Part]) -> Began {
    let mut began = None;
    let mut tell = |event: &Event| {
        if let Event::Began(event) = event {
            began = Some(event.clone());
        }
        true
    };
    Trainer::new(recipe, config, parts, Device::Cpu).unwrap().run(&mut tell).unwrap();
    began.unwrap()
}

#[test]
fn another_network_takes_what_it_has_in_common() {
    with_stack(|| {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let parts = [part(folder, "walk", 1)];
        let first = short(folder, "first");
        train(&first, &parts, 0);
        // The groups that were learned from or chose are written down: three quarters of twelve.
        let told = learned::read(&first.output).unwrap();
        assert_eq!((told.len(), told[0].seen.len(), told[0].examples.test), (1, 9, 30));

        let mut second = short(folder, "second");
        second.from = Some(first.output.clone());
        // What is never moved is what was taken.
        second.stage[0].freeze = vec!["link.".to_owned()];
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/networks/tiny.toml");
        let text = format!("extends = {file:?}\nbackbone = false\n[core]\nkind = \"transformer\"\n");
        fs::write(folder.join("other.toml"), text).unwrap();
        let other = config::load_network(&folder.join("other.toml")).unwrap();
        assert_ne!(other.core, tiny().core);
        let began = begin(&second, &other, &parts);
        let weights = |recipe: &Recipe| {
            let file = Checkpoint::open(&recipe.output.join("last/weights.safetensors")).unwrap();
            file.load_all(&Device::Cpu).unwrap()
        };
        let (own, others) = (weights(&second), weights(&first));
        let taken = own.keys().filter(|name| others.contains_key(*name)).count();
        assert_eq!((began.taken, began.drawn), (taken, own.len() - taken));
        assert!(began.taken > 0 && began.drawn > 0);
        for (name, tensor) in own.iter().filter(|(name, _)| name.starts_with("link.")) {
            let before = &others[name];
            let numbers =
                |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(numbers(tensor), numbers(before), "{name}");
        }

        // What has another shape there is drawn, too: without a task attention, heads are as wide as the backbone.
        let mut third = short(folder, "third");
        third.from = Some(first.output.clone());
        let text = format!("extends = {file:?}\n[core]\ntask_width = 0\n");
        fs::write(folder.join("wide.toml"), text).unwrap();
        let wide = config::load_network(&folder.join("wide.toml")).unwrap();
        let began = begin(&third, &wide, &parts);
        let (own, others) = (weights(&third), weights(&first));
        let same =
            |name: &String| others.get(name).map(candle_core::Tensor::shape) == Some(own[name].shape());
        let differs = own.keys().filter(|name| others.contains_key(*name) && !same(name)).count();
        let taken = own.keys().filter(|name| same(name)).count();
        assert!(differs > 0 && taken > 0);
        assert_eq!((began.taken, began.drawn), (taken, own.len() - taken));

        // Another split asks about what the first run has learned from, whatever the data set is called there.
        let refusal =
            |leaking: &[Part]| Trainer::new(&second, &other, leaking, Device::Cpu).err().unwrap().to_string();
        for name in ["walk", "run"] {
            let refused = refusal(&[part(folder, name, 5)]);
            let told = format!("% of the rows of `{name}` that are a test here");
            assert!(refused.contains("has learned from") && refused.contains(&told), "{refused}");
        }
        // Of a run that kept no marks the names of its groups tell.
        let file = first.output.join(learned::FILE);
        let kept = fs::read(&file).unwrap();
        let mut unmarked: serde_json::Value = serde_json::from_slice(&kept).unwrap();
        unmarked[0]["marks"] = serde_json::Value::Null;
        fs::write(&file, unmarked.to_string()).unwrap();
        let leaking = [part(folder, "walk", 5)];
        let refused = refusal(&leaking);
        assert!(
            refused.contains("has learned from `walk/") && refused.contains("which is a test here"),
            "{refused}"
        );
        fs::write(&file, kept).unwrap();
        // Other rows are no leak, though their groups have the same names. What was learned is handed on: a run that begins
        // with the second one must not ask about the first one's rows.
        let others = [elsewhere(folder, "walk", 5)];
        Trainer::new(&second, &other, &others, Device::Cpu).unwrap();
        let mut between = short(folder, "between");
        between.from = Some(first.output.clone());
        train(&between, &others, 0);
        let mut third = short(folder, "third");
        third.from = Some(between.output.clone());
        let refused = Trainer::new(&third, &tiny(), &leaking, Device::Cpu).err().unwrap().to_string();
        assert!(refused.contains("% of the rows of `walk`"), "{refused}");
    });
}
