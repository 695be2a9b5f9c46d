//! Adapters against PEFT's on the same weights, and folders that are not to be taken.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::Init;
use mmsense::model::backbone::{Backbone, BackboneConfig, Inputs, Outputs, Prompts, RopeConfig};
use mmsense::model::build::{LORA_PREFIX, fresh_source};
use mmsense::model::checkpoint::CheckpointError;
use mmsense::model::layers::{Mode, Statistics};
use mmsense::model::lora::{
    ADAPTER_CONFIG, ADAPTER_WEIGHTS, Adapters, LoraConfig, LoraError, PeftAdapter, complete, modules,
    save_peft,
};
use mmsense::model::parameters::Parameters;
use mmsense::model::seeded::fresh_weights;
use mmsense::model::{Network, Purpose};
use serde_json::{Value, json};

use crate::backbone::{TRAIN, apart, check_layers, golden_backbone, goldens, largest, tensors};
use crate::scenes::{sizes, tiny};

fn run(backbone: &Backbone, inputs: &HashMap<String, Tensor>, sensors: &Tensor, mode: Mode) -> Outputs {
    let states = backbone.states(sensors, None, mode).unwrap();
    let embeddings = backbone.embed(&inputs["input_ids"]).unwrap();
    let all = Inputs { embeddings: &embeddings, mask: None, positions: None, states: Some(&states) };
    backbone.forward(&all, mode).unwrap()
}

#[test]
fn an_adapted_backbone_is_that_of_peft() {
    let (base, folder) = (goldens("mllama"), goldens("peft_lora"));
    let (config, vb) = golden_backbone(&base);
    let adapter = PeftAdapter::open(&folder, &config).unwrap();
    assert_eq!((adapter.config.rank, adapter.config.alpha), (4, 8.0));
    assert_eq!(adapter.config.targets.len(), 24);
    let inputs = tensors(&base.join("inputs.safetensors"));
    let sensors = &inputs["cross_attention_states"];
    let golden = tensors(&folder.join("golden.safetensors"));
    let beside = Backbone::load(&config, &vb, Some(&adapter.beside(DType::F32, &Device::Cpu))).unwrap();
    adapter.weights.finish(|_| false).unwrap();
    for mode in [Mode::Infer, TRAIN] {
        check_layers(&run(&beside, &inputs, sensors, mode), &golden, "beside");
    }
    let merged = Backbone::load(&config, &vb, Some(&adapter.merged(DType::F32, &Device::Cpu))).unwrap();
    let last = run(&merged, &inputs, sensors, Mode::Infer).last;
    assert!(apart(&last, &golden["merged.last_hidden_state"]) <= 5e-5);
    let plain = Backbone::load(&config, &vb, None).unwrap();
    let last = run(&plain, &inputs, sensors, Mode::Infer).last;
    assert!(apart(&last, &golden["base.last_hidden_state"]) <= 5e-5);
}

#[test]
fn merged_weights_are_those_of_peft() {
    let (base, folder) = (goldens("mllama"), goldens("peft_lora"));
    let (config, vb) = golden_backbone(&base);
    let adapter = PeftAdapter::open(&folder, &config).unwrap();
    let adapters = adapter.beside(DType::F32, &Device::Cpu);
    let mut seen = 0;
    for (name, golden) in tensors(&folder.join("golden.safetensors")) {
        let Some(name) = name.strip_prefix("merged.weight.model.language_model.") else { continue };
        let module = name.strip_suffix(".weight").unwrap();
        let (outputs, inputs) = golden.dims2().unwrap();
        let weight = vb.get((outputs, inputs), name).unwrap();
        let lora = adapters.load(module, inputs, outputs).unwrap().unwrap();
        assert!(apart(&lora.merge(&weight).unwrap(), &golden) <= 1e-6);
        assert!(apart(&weight, &golden) > 1e-2);
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn gradients_of_adapters_are_those_of_peft() {
    let (base, folder) = (goldens("mllama"), goldens("peft_lora"));
    let (config, vb) = golden_backbone(&base);
    let adapter = PeftAdapter::open(&folder, &config).unwrap();
    let (watched, parameters) = Parameters::watch(adapter.builder(DType::F32, &Device::Cpu), |_| true);
    let adapters = Adapters::beside(adapter.config.clone(), watched);
    let backbone = Backbone::load(&config, &vb, Some(&adapters)).unwrap();
    let inputs = tensors(&base.join("inputs.safetensors"));
    let sensors = Var::from_tensor(&inputs["cross_attention_states"]).unwrap();
    let last = run(&backbone, &inputs, &sensors, TRAIN).last;
    let loss = ((last * &inputs["probe"]).unwrap().sum_all().unwrap() / 2.0).unwrap();
    let grads = loss.backward().unwrap();
    let golden = tensors(&folder.join("grads.safetensors"));
    let named: HashMap<String, Var> = parameters.trained().into_iter().collect();
    assert_eq!(named.len(), 48);
    let mut seen = 0;
    for (name, golden) in &golden {
        let found = match name.strip_prefix("grad.base_model.model.model.language_model.") {
            Some(name) => grads.get(&named[name]).unwrap(),
            None if name == "grad.cross_attention_states" => grads.get(&sensors).unwrap(),
            None => continue,
        };
        let (apart, size) = (apart(found, golden), largest(golden));
        assert!(apart <= 1e-4 * size, "{name}: {apart} of {size}");
        seen += 1;
    }
    assert_eq!(seen, 49);
}

fn small() -> BackboneConfig {
    BackboneConfig {
        embeddings: 40,
        hidden_size: 32,
        intermediate_size: 48,
        layers: 4,
        cross_layers: vec![1, 3],
        heads: 4,
        kv_heads: 2,
        rms_norm_eps: 1e-5,
        rope: RopeConfig { theta: 1e4, scaling: None },
    }
}

fn lora(targets: &[&str]) -> LoraConfig {
    let targets = targets.iter().map(|&target| target.to_owned()).collect();
    LoraConfig { rank: 3, alpha: 6.0, dropout: 0.0, rank_stabilised: false, targets }
}

#[test]
fn a_fresh_adapter_changes_nothing_and_every_part_of_it_can_be_trained() {
    let config = small();
    let vb = fresh_weights(1, &Device::Cpu);
    let targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    let (watched, parameters) = Parameters::watch(fresh_weights(2, &Device::Cpu), |_| true);
    let adapters = Adapters::beside(lora(&targets), watched);
    let adapted = Backbone::load(&config, &vb, Some(&adapters)).unwrap();
    let plain = Backbone::load(&config, &vb, None).unwrap();
    let prompts = Prompts::new(&[vec![1, 7, 9], vec![1, 8]], 40).unwrap();
    let sensors = candle_core::Tensor::rand(-1f32, 1.0, (2, 6, 32), &Device::Cpu).unwrap();
    let say = |backbone: &Backbone, mode| {
        let prepared = backbone.prepare(&prompts).unwrap();
        let states = backbone.states(&sensors, None, mode).unwrap();
        backbone.taps(&prepared, &states, &[(0, 0), (0, 1), (1, 1)], mode).unwrap()
    };
    for (a, b) in say(&adapted, Mode::Infer).iter().zip(say(&plain, Mode::Infer)) {
        assert!(apart(a, &b) <= 1e-6);
    }
    let named = parameters.trained();
    assert_eq!(named.len(), 2 * modules(&config).len());
    let grads_of = || {
        let found = say(&adapted, TRAIN).pop().unwrap();
        let probe = found.ones_like().unwrap().cumsum(1).unwrap();
        (found * probe).unwrap().sum_all().unwrap().backward().unwrap()
    };
    // B = 0, so only B has a gradient at first; after one step both have.
    let grads = grads_of();
    for (name, var) in &named {
        let size = largest(grads.get(var).expect(name));
        assert_eq!(size > 0.0, name.ends_with("lora_B.weight"), "{name}: {size}");
        if name.ends_with("lora_B.weight") {
            var.set(&(grads.get(var).unwrap() * (0.1 / f64::from(size))).unwrap()).unwrap();
        }
    }
    let grads = grads_of();
    for (name, var) in &named {
        assert!(largest(grads.get(var).unwrap()) > 0.0, "{name}");
    }
}

#[test]
fn a_network_begins_with_the_adapters_of_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut network = tiny();
    let choice = network.backbone.as_mut().unwrap();
    choice.lora = Some(lora(&["q_proj", "v_proj"]));
    choice.taps = Some(vec![2]);
    let size = choice.size.clone().unwrap();
    // What training would have: of the layers up to the last tap, under the network's names.
    let (watched, parameters) = Parameters::watch(fresh_weights(network.seed, &Device::Cpu), |_| true);
    Network::build(&network, sizes(), Purpose::Training, &watched).unwrap();
    let random = fresh_weights(9, &Device::Cpu);
    let mut own: BTreeMap<String, Tensor> = BTreeMap::new();
    for (name, tensor) in parameters.all() {
        if let Some(name) = name.strip_prefix(LORA_PREFIX) {
            let hint = Init::Randn { mean: 0.0, stdev: 0.3 };
            own.insert(name.to_owned(), random.get_with_hints(tensor.shape(), name, hint).unwrap());
        }
    }
    assert_eq!(own.len(), 3 * 4, "two layers of three before the last tap and itself, A and B");
    let learned = own.clone();
    complete(&mut own, &lora(&["q_proj", "v_proj"]), &size).unwrap();
    assert_eq!(own.len(), size.layers * 4);
    let named = own.iter().map(|(name, tensor)| (name.as_str(), tensor));
    save_peft(folder.path(), &lora(&["q_proj", "v_proj"]), &size, named).unwrap();

    network.backbone.as_mut().unwrap().adapter = Some(folder.path().to_path_buf());
    let source = fresh_source(&network, &Device::Cpu).unwrap();
    for (name, tensor) in &learned {
        let found = source.get(tensor.shape(), &format!("{LORA_PREFIX}{name}")).unwrap();
        assert!(apart(&found, tensor) <= 0.0, "{name}");
    }
    Network::fresh(&network, sizes(), &Device::Cpu).unwrap();
    // Another kind of adapter is refused with what both are.
    network.backbone.as_mut().unwrap().lora = Some(LoraConfig { rank: 5, ..lora(&["q_proj"]) });
    let error = Network::fresh(&network, sizes(), &Device::Cpu).unwrap_err().to_string();
    assert!(
        error.contains("of rank 3, alpha 6, on 8 layers") && error.contains("says of rank 5, alpha 6, on 4"),
        "{error}"
    );
    network.backbone.as_mut().unwrap().lora = None;
    assert!(network.problems().iter().any(|(key, _)| key == "backbone.adapter"));
}

#[test]
fn dropout_draws_from_its_seed_and_in_training_alone() {
    let config = small();
    let vb = fresh_weights(1, &Device::Cpu);
    let mut dropping = lora(&["q_proj", "v_proj"]);
    dropping.dropout = 0.5;
    let (watched, parameters) = Parameters::watch(fresh_weights(2, &Device::Cpu), |_| true);
    let backbone = Backbone::load(&config, &vb, Some(&Adapters::beside(dropping, watched))).unwrap();
    for (_, var) in parameters.trained().iter().filter(|(name, _)| name.ends_with("lora_B.weight")) {
        var.set(&(var.ones_like().unwrap() * 0.3).unwrap()).unwrap();
    }
    let prompts = Prompts::new(&[vec![1, 7, 9]], 40).unwrap();
    let prepared = backbone.prepare(&prompts).unwrap();
    let sensors = Tensor::rand(-1f32, 1.0, (1, 6, 32), &Device::Cpu).unwrap();
    let say = |mode| {
        let states = backbone.states(&sensors, None, mode).unwrap();
        backbone.taps(&prepared, &states, &[(0, 0)], mode).unwrap().pop().unwrap()
    };
    let train = |seed| say(Mode::Train { seed, statistics: Statistics::Running });
    assert_eq!(apart(&train(1), &train(1)), 0.0);
    assert!(apart(&train(1), &train(2)) > 1e-4);
    assert!(apart(&train(1), &say(Mode::Infer)) > 1e-4);
    assert_eq!(apart(&say(Mode::Infer), &say(Mode::Infer)), 0.0);
}

/// Writes an adapter of the small backbone and gives its folder.
fn written(config: &LoraConfig) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (watched, parameters) = Parameters::watch(fresh_weights(2, &Device::Cpu), |_| true);
    let adapters = Adapters::beside(config.clone(), watched);
    Backbone::load(&small(), &fresh_weights(1, &Device::Cpu), Some(&adapters)).unwrap();
    let named = parameters.trained();
    let named = named.iter().map(|(name, var)| (name.as_str(), var.as_tensor()));
    save_peft(folder.path(), config, &small(), named).unwrap();
    folder
}

#[test]
fn what_is_written_is_read_again() {
    for targets in [&["q_proj", "v_proj"][..], &["layers.1.cross_attn.k_proj", "down_proj"]] {
        let config = LoraConfig { dropout: 0.1, rank_stabilised: true, ..lora(targets) };
        let folder = written(&config);
        let read = PeftAdapter::open(folder.path(), &small()).unwrap();
        let whole: Vec<String> = modules(&small()).into_iter().filter(|name| config.adapts(name)).collect();
        assert_eq!(read.config, LoraConfig { targets: whole, ..config });
        let golden = Adapters::beside(read.config.clone(), fresh_weights(2, &Device::Cpu));
        let again = read.beside(DType::F32, &Device::Cpu);
        let module = &read.config.targets[0];
        let narrow = module.contains("k_proj") || module.contains("v_proj");
        let inputs = if module.contains("down_proj") { 48 } else { 32 };
        let outputs = if narrow { 16 } else { 32 };
        let zero = Tensor::zeros((outputs, inputs), DType::F32, &Device::Cpu).unwrap();
        let merge = |adapters: &Adapters| {
            adapters.load(module, inputs, outputs).unwrap().unwrap().merge(&zero).unwrap()
        };
        assert_eq!(apart(&merge(&golden), &merge(&again)), 0.0);
    }
}

fn refusal(folder: &Path) -> LoraError {
    PeftAdapter::open(folder, &small()).unwrap_err()
}

#[test]
fn options_that_are_not_implemented_are_refused_by_name() {
    let folder = written(&lora(&["q_proj"]));
    let file = folder.path().join(ADAPTER_CONFIG);
    let good: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    for (key, value, says) in [
        ("use_dora", json!(true), "not implemented"),
        ("bias", json!("all"), "\"none\""),
        ("modules_to_save", json!(["lm_head"]), "not implemented"),
        ("rank_pattern", json!({"q_proj": 8}), "not implemented"),
        ("alpha_pattern", json!({"q_proj": 8}), "not implemented"),
        ("layers_to_transform", json!([1]), "not implemented"),
        ("fan_in_fan_out", json!(true), "not implemented"),
        ("exclude_modules", json!(["q_proj"]), "not implemented"),
        ("init_lora_weights", json!("pissa"), "gaussian"),
        ("peft_type", json!("IA3"), "LORA"),
        ("an_option_of_tomorrow", json!(1), "not implemented"),
        ("target_modules", json!(["q_proj", "c_attn"]), "`c_attn`"),
        ("target_modules", json!("nothing"), "matches no linear layer"),
        ("target_modules", json!("("), "target_modules"),
        ("target_modules", json!(3), "a list and a pattern"),
        ("target_modules", Value::Null, "missing"),
        ("r", json!(0), "whole numbers from 1"),
        ("r", json!("4"), "numbers"),
        ("lora_alpha", json!(-1), "above 0"),
        ("lora_dropout", json!(1.0), "0 to below 1"),
        ("use_rslora", json!("yes"), "true and false"),
    ] {
        let mut options = good.clone();
        options[key] = value;
        std::fs::write(&file, options.to_string()).unwrap();
        let error = refusal(folder.path());
        assert!(matches!(&error, LoraError::Option { key: named, .. } if named == key), "{key}: {error}");
        let text = error.to_string();
        assert!(text.contains(ADAPTER_CONFIG) && text.contains(says), "{key}: {text}");
    }
    let mut options = good.clone();
    for key in ["use_dora", "layer_replication", "an_option_of_tomorrow"] {
        options[key] = json!(false);
    }
    std::fs::write(&file, options.to_string()).unwrap();
    PeftAdapter::open(folder.path(), &small()).unwrap();
    std::fs::write(&file, "{").unwrap();
    assert!(matches!(refusal(folder.path()), LoraError::Json { .. }));
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(refusal(folder.path()), LoraError::Read { .. }));
}

#[test]
fn weights_have_to_be_those_that_are_targeted() {
    let folder = written(&lora(&["q_proj"]));
    let file = folder.path().join(ADAPTER_CONFIG);
    let mut options: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    options["target_modules"] = json!(["q_proj", "v_proj"]);
    std::fs::write(&file, options.to_string()).unwrap();
    let error = refusal(folder.path());
    assert!(
        matches!(&error, LoraError::Weights(CheckpointError::Missing { name, .. })
        if name == "base_model.model.model.language_model.layers.0.self_attn.v_proj.lora_A.weight"),
        "{error}"
    );
    options["target_modules"] = json!(["layers.0.self_attn.q_proj"]);
    std::fs::write(&file, options.to_string()).unwrap();
    let error = refusal(folder.path());
    assert!(
        matches!(&error, LoraError::Stray { name, .. }
        if name.contains("layers.1.cross_attn.q_proj")),
        "{error}"
    );

    let folder = written(&lora(&["q_proj"]));
    let file = folder.path().join(ADAPTER_CONFIG);
    options["target_modules"] = json!(["q_proj"]);
    options["r"] = json!(5);
    std::fs::write(&file, options.to_string()).unwrap();
    let read = PeftAdapter::open(folder.path(), &small()).unwrap();
    let vb = fresh_weights(1, &Device::Cpu);
    let adapters = read.beside(DType::F32, &Device::Cpu);
    let error = Backbone::load(&small(), &vb, Some(&adapters)).unwrap_err();
    let error = CheckpointError::of(&error).unwrap().to_string();
    assert!(error.contains("lora_A") && error.contains("[3, 32]") && error.contains("[5, 32]"), "{error}");
    assert!(error.contains(ADAPTER_WEIGHTS), "{error}");
}

#[test]
fn targets_that_name_nothing_are_problems() {
    let config = small();
    assert!(lora(&["q_proj", "layers.0.mlp.up_proj"]).problems(&config).is_empty());
    let wrong = LoraConfig {
        rank: 0,
        alpha: f64::NAN,
        dropout: 1.0,
        ..lora(&["proj", "layers.0.cross_attn.q_proj"])
    };
    let keys: Vec<&str> = wrong.problems(&config).iter().map(|problem| problem.0).collect();
    assert_eq!(keys, ["rank", "alpha", "dropout", "targets", "targets"]);
    assert_eq!(lora(&[]).problems(&config).len(), 1);
}
