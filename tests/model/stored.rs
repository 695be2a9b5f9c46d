//! Networks in files, and what a network is made of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use mmsense::config::{Codebook, load_network};
use mmsense::infer::device::DeviceChoice;
use mmsense::infer::{NetworkPredictor, Predictor};
use mmsense::model::checkpoint::{self, Checkpoint};
use mmsense::model::config::{CoreConfig, EncodersConfig, MapsConfig};
use mmsense::model::deployed::{self, Fit, Scaling};
use mmsense::model::lora::LoraConfig;
use mmsense::model::parameters::Parameters;
use mmsense::model::seeded::fresh_weights;
use mmsense::model::{Input, Network, NetworkConfig, Purpose, Sizes, Task};
use mmsense::sample::Modality;

use crate::scenes::{BEAMS, SLOTS, asked, frame, sizes, tiny, ue, windows};

const HORIZONS: [u32; 4] = [0, 100, 500, 1000];

fn fit() -> Fit {
    let codebook = Codebook { beams: Some(BEAMS), ..Codebook::default() };
    Fit {
        sizes: sizes(),
        codebook,
        horizons_ms: HORIZONS.to_vec(),
        instants_ms: vec![0],
        stride_ms: 100.0,
        without: Vec::new(),
        scaling: [(Task::Beam, Scaling { temperature: 1.5, shift: 0.25, later: vec![1.25] })].into(),
        trained: true,
    }
}

fn store(folder: &Path, config: &NetworkConfig) -> PathBuf {
    let file = folder.join("network.safetensors");
    deployed::save(&file, config, &fit(), &fresh_weights(config.seed, &Device::Cpu)).unwrap();
    file
}

fn open(file: &Path, tasks: &[Task], codebook: &Codebook) -> Result<NetworkPredictor, String> {
    let window = (SLOTS, 100.0);
    NetworkPredictor::stored(file, tasks, window, &HORIZONS, codebook, DeviceChoice::Cpu)
        .map_err(|error| error.to_string())
}

#[test]
fn a_stored_network_says_what_it_said_before() {
    let folder = tempfile::tempdir().unwrap();
    for lora in [
        None,
        Some(LoraConfig {
            rank: 2,
            alpha: 4.0,
            dropout: 0.0,
            rank_stabilised: false,
            targets: vec!["q_proj".to_owned(), "v_proj".to_owned()],
        }),
    ] {
        let mut config = tiny();
        config.backbone.as_mut().unwrap().lora = lora;
        let file = store(folder.path(), &config);
        let mut stored = open(&file, &Task::ALL, &fit().codebook).unwrap();
        assert!(stored.info().trained && stored.info().id.starts_with("tiny@"));
        let window = windows([frame("u", 0), frame("u", 1)]).remove(1);
        let before = asked(&Task::ALL).predict(std::slice::from_ref(&window)).unwrap().remove(0);
        let after = stored.predict(std::slice::from_ref(&window)).unwrap().remove(0);
        let numbers = |said: &mmsense::infer::Prediction| {
            let of_ue = &said.ues[&ue("a")];
            let pose = said.pose.clone().unwrap().concat();
            [
                of_ue.beam.clone().unwrap(),
                of_ue.blockage.clone().unwrap(),
                said.activity.clone().unwrap(),
                pose,
            ]
            .concat()
        };
        for (a, b) in numbers(&before).iter().zip(numbers(&after)) {
            // Weights are stored in f16: 11 bits.
            assert!((a - b).abs() < 5e-3, "{a} {b}");
        }
    }
}

#[test]
fn a_stored_network_needs_neither_tokenizer_nor_vocabulary() {
    let folder = tempfile::tempdir().unwrap();
    let file = store(folder.path(), &tiny());
    let stored = Checkpoint::open(&file).unwrap();
    let names: Vec<String> = stored.tensors().map(|(name, ..)| name.to_owned()).collect();
    assert!(names.iter().any(|name| name == "prompts.states"), "{names:?}");
    for needless in ["backbone.embed_tokens.", "backbone.layers.0."] {
        assert!(!names.iter().any(|name| name.starts_with(needless)), "{names:?}");
    }
    // What it is says nothing of the folders that it was made in.
    let (network, told) = deployed::describe(&file).unwrap();
    let tokenizer = network.backbone.unwrap().tokenizer.unwrap();
    assert_eq!((tokenizer, told), (PathBuf::from("tokenizer.json"), fit()));
    // The same network gives the same bytes.
    let once = std::fs::read(&file).unwrap();
    assert_eq!(once, std::fs::read(store(folder.path(), &tiny())).unwrap());
}

#[test]
fn what_a_network_never_saw_a_unit_does_not_show_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut said = Vec::new();
    for without in [vec![], vec![Input::Link, Input::Position]] {
        let file = folder.path().join("network.safetensors");
        let fit = Fit { without, ..fit() };
        deployed::save(&file, &tiny(), &fit, &fresh_weights(1, &Device::Cpu)).unwrap();
        assert_eq!(deployed::describe(&file).unwrap().1, fit);
        let mut network = open(&file, &[Task::Beam], &fit.codebook).unwrap();
        let window = windows([frame("u", 0), frame("u", 1)]).remove(1);
        let shown = network.predict(std::slice::from_ref(&window)).unwrap().remove(0);
        let encoded = network.work().encoded.clone();
        for modality in [Modality::Link, Modality::Position] {
            assert_eq!(encoded.contains_key(&modality), fit.without.is_empty(), "{encoded:?}");
        }
        assert!(encoded.contains_key(&Modality::Camera), "{encoded:?}");
        let gate = &shown.ues[&ue("a")].gate;
        assert!(fit.without.is_empty() || gate[&Modality::Link] == 0.0, "{gate:?}");
        said.push(shown.ues[&ue("a")].beam.clone().unwrap());
    }
    assert_ne!(said[0], said[1]);
}

#[test]
fn what_does_not_fit_the_unit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = store(folder.path(), &tiny());
    let other = Codebook { id: "other".to_owned(), beams: Some(BEAMS), ..Codebook::default() };
    let refused = open(&file, &[Task::Beam], &other).unwrap_err();
    assert!(
        refused.contains("codebook: found `other` (8 beams)") && refused.contains("network.safetensors"),
        "{refused}"
    );
    // Blockages have nothing to do with which beam is which.
    assert!(open(&file, &[Task::Blockage], &other).is_ok());
    let fit = fit();
    let check = |window, horizons: &[u32]| fit.check(&[Task::Blockage], window, horizons, &fit.codebook);
    assert!(check((SLOTS, 100.0), &HORIZONS).is_ok());
    let window = check((SLOTS + 1, 100.0), &HORIZONS).unwrap_err().to_string();
    assert!(window.contains("found 4 slots of 100 ms, the network was built for 3 of 100 ms"), "{window}");
    let horizons = check((SLOTS, 100.0), &[0]).unwrap_err().to_string();
    assert!(horizons.contains("found [0], the network was built for [0, 100, 500, 1000]"), "{horizons}");
}

/// The stored tensors after a change, in a file of their own.
fn changed(file: &Path, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) -> PathBuf {
    let stored = Checkpoint::open(file).unwrap();
    let mut tensors = stored.load_all(&Device::Cpu).unwrap();
    change(&mut tensors);
    let other = file.with_file_name("changed.safetensors");
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    checkpoint::save(&other, named, &stored.metadata()).unwrap();
    other
}

#[test]
fn a_tensor_that_is_wrong_is_named_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = store(folder.path(), &tiny());
    let refused = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        open(&changed(&file, change), &[Task::Beam], &fit().codebook).unwrap_err()
    };
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let missing = refused(&|tensors| drop(tensors.remove("gate.0.weight")));
    assert!(
        missing.contains("changed.safetensors") && missing.contains("`gate.0.weight` is missing"),
        "{missing}"
    );
    let extra = refused(&|tensors| drop(tensors.insert("more".to_owned(), zeros(&[1]))));
    assert!(extra.contains("`more` belongs to no part"), "{extra}");
    let shape = refused(&|tensors| drop(tensors.insert("gate.0.bias".to_owned(), zeros(&[3]))));
    assert!(shape.contains("`gate.0.bias` has shape [3], the model needs [16]"), "{shape}");
    let nan = refused(&|tensors| {
        let mut numbers = vec![0f32; 16];
        numbers[5] = f32::NAN;
        drop(tensors.insert("gate.0.bias".to_owned(), Tensor::new(numbers, &Device::Cpu).unwrap()));
    });
    assert!(nan.contains("`gate.0.bias` holds NaN at number 5"), "{nan}");
    assert_eq!(nan.matches("changed.safetensors").count(), 1, "{nan}");
    let dtype = refused(&|tensors| {
        let whole = Tensor::zeros(16, DType::U32, &Device::Cpu).unwrap();
        drop(tensors.insert("gate.0.bias".to_owned(), whole));
    });
    assert!(dtype.contains("`gate.0.bias` holds U32"), "{dtype}");
    let other = folder.path().join("other.safetensors");
    checkpoint::save(&other, [("x", &zeros(&[1]))], &BTreeMap::new()).unwrap();
    let other = open(&other, &[Task::Beam], &fit().codebook).unwrap_err();
    assert!(other.contains("not a network's file"), "{other}");
}

fn shipped(name: &str) -> NetworkConfig {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/models");
    load_network(&folder.join(format!("{name}.toml"))).unwrap()
}

#[test]
fn the_edge_network_is_as_small_as_it_has_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let (edge, sizes) = (shipped("edge"), Sizes::new(5, 64, 4));
    let (trained, statistics) = edge.describe(sizes).unwrap().parameters();
    assert!(trained + statistics <= 9_500_000, "{trained} {statistics}");
    // What is counted is what is there.
    let (watched, parameters) = Parameters::watch(fresh_weights(1, &Device::Cpu), |_| true);
    Network::build(&edge, sizes, Purpose::Training, &watched).unwrap();
    let count = |named: Vec<(String, candle_core::Var)>| -> u64 {
        named.iter().map(|(_, var)| var.elem_count() as u64).sum()
    };
    assert_eq!((count(parameters.trained()), count(parameters.statistics())), (trained, statistics));
    let file = folder.path().join("edge.safetensors");
    deployed::save(&file, &edge, &Fit { sizes, ..fit() }, &fresh_weights(1, &Device::Cpu)).unwrap();
    assert!(std::fs::metadata(&file).unwrap().len() <= 20_000_000);
}

#[test]
fn the_11b_is_described_without_its_weights() {
    let large = shipped("llama-3.2-11b");
    let choice = large.backbone.clone().unwrap();
    let size = choice.size.clone().unwrap();
    // 9.25 billion parameters of text stack, 17.0 million of adapters (model card, PEFT's count).
    let all: usize = mmsense::model::describe::backbone_tensors(&size, size.layers - 1)
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum();
    assert!((9.2e9..9.3e9).contains(&(all as f64)), "{all}");
    // The checkpoint is not there, and its size is stated: nothing of it is read.
    let told = large.describe(Sizes::new(5, 64, 4)).unwrap();
    let backbone = told.parts.iter().find(|part| part.name == "backbone").unwrap();
    assert!((16.5e6..17.5e6).contains(&(backbone.trained as f64)), "{}", backbone.trained);
    // What a frame streams: 37 layers of 40 in bf16.
    assert!((15.9e9..16.3e9).contains(&(backbone.bytes as f64)), "{}", backbone.bytes);
}

#[test]
fn the_baselines_are_networks_like_any_other() {
    let maps = |map: &str| -> MapsConfig {
        let text = format!("image_side = 16\npoints = 64\n[ground]\nside = 16\n[map]\n{map}");
        toml::from_str(&text).unwrap()
    };
    let core = |text: &str| -> CoreConfig { toml::from_str(text).unwrap() };
    let llm = "kind = \"llm4wm\"\nblocks = 1\n[backbone]\nwidth = 8\nlayers = 2\nheads = 2\npositions = 64\n\
               [lora]\nexperts = 2\nrank = 2\nscaling = 2.0\ndropout = 0.1\nembedding = 4";
    for (name, encoders, core) in [
        ("mlp", Some("kind = \"flat\"\nside = 4\nhidden = 8"), core("kind = \"mlp\"\nhidden = 8")),
        ("cnn", Some("kind = \"cnn\"\nside = 16\nchannels = [4, 8]"), core("kind = \"cnn\"\nchannels = [8]")),
        (
            "transformer",
            Some("kind = \"patches\"\nside = 8"),
            core("kind = \"transformer\"\nlayers = 1\nheads = 2\nhidden = 8"),
        ),
        ("llm4wm", None, core(llm)),
    ] {
        let mut config = tiny();
        config.core = core;
        config.backbone = None;
        if let Some(map) = encoders {
            config.encoders = EncodersConfig::Maps(maps(map));
        }
        assert_eq!(config.problems(), [], "{name}");
        let book = Codebook::default();
        let mut predictor =
            NetworkPredictor::fresh(&config, sizes(), &Task::ALL, &book, DeviceChoice::Cpu).unwrap();
        let window = windows([frame("u", 0), frame("u", 1)]).remove(1);
        let said = predictor.predict(std::slice::from_ref(&window)).unwrap().remove(0);
        mmsense::infer::check::check(&said, &window.frame, Some(BEAMS), 4).unwrap();
        assert!(said.ues[&ue("a")].beam.is_some() && said.pose.is_some(), "{name}");
        // None of them weighs modalities.
        assert!(said.ues[&ue("a")].gate.is_empty(), "{name}");
        // What is counted is what is there.
        let (trained, statistics) = config.describe(sizes()).unwrap().parameters();
        // LLM4WM's GPT-2 is never trained.
        let is_trained = |name: &str| !name.starts_with("core.gpt2.");
        let (watched, parameters) = Parameters::watch(fresh_weights(1, &Device::Cpu), is_trained);
        Network::build(&config, sizes(), Purpose::Training, &watched).unwrap();
        let found: u64 = parameters.all().iter().map(|(_, tensor)| tensor.elem_count() as u64).sum();
        assert_eq!(found, trained + statistics, "{name}");
        let moved: u64 = parameters.trained().iter().map(|(_, var)| var.elem_count() as u64).sum();
        assert_eq!(moved, trained, "{name}");
        let with_backbone = NetworkConfig { backbone: tiny().backbone, ..config };
        let problems = with_backbone.problems();
        assert!(problems.iter().any(|(key, _)| key == "backbone"), "{name}: {problems:?}");
    }
}
