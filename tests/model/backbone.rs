//! The backbone against Hugging Face's on the same weights, and its fast pass over rows against its plain one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use mmsense::model::backbone::{
    Backbone, BackboneConfig, BackboneConfigError, CrossStates, Held, Inputs, Prepared, Prompts,
    PromptsError, RopeConfig, RopeScaling, SPELLINGS, Taps, inverse_frequencies, is_foreign,
};
use mmsense::model::checkpoint::Checkpoint;
use mmsense::model::layers::{Mode, Statistics};
use mmsense::model::parameters::Parameters;
use mmsense::model::seeded::fresh_weights;

pub const TRAIN: Mode = Mode::Train { seed: 1, statistics: Statistics::Running };
const FORWARD: f32 = 5e-5;
const GRADIENT: f32 = 1e-4;
/// Of the scalar gates, whose gradients are sums with cancellation.
const GATE_GRADIENT: f32 = 1e-3;

pub fn goldens(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/parity").join(folder)
}

pub fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

pub fn largest(x: &Tensor) -> f32 {
    let x = x.to_dtype(DType::F32).unwrap().abs().unwrap().flatten_all().unwrap();
    let values = x.to_vec1::<f32>().unwrap();
    assert!(values.iter().all(|value| value.is_finite()));
    values.into_iter().fold(0.0, f32::max)
}

pub fn apart(found: &Tensor, golden: &Tensor) -> f32 {
    assert_eq!(found.dims(), golden.dims());
    largest(&(found - golden).unwrap())
}

/// The golden backbone's configuration and source of weights.
pub fn golden_backbone(folder: &Path) -> (BackboneConfig, VarBuilder<'static>) {
    let config = BackboneConfig::load(&folder.join("config.json")).unwrap();
    let checkpoint = Checkpoint::open(&folder.join("model.safetensors")).unwrap();
    (config, checkpoint.builder_spelled(DType::F32, &Device::Cpu, &SPELLINGS))
}

pub fn check_layers(found: &mmsense::model::backbone::Outputs, golden: &HashMap<String, Tensor>, case: &str) {
    let wanted = golden.keys().filter(|name| name.starts_with("layer_out.")).count();
    assert_eq!(found.layers.len(), wanted, "{case}");
    for (number, layer) in &found.layers {
        let apart = apart(layer, &golden[&format!("layer_out.{number}")]);
        assert!(apart <= FORWARD, "{case}, layer {number}: {apart}");
    }
    let apart = apart(&found.last, &golden["last_hidden_state"]);
    assert!(apart <= FORWARD, "{case}, last: {apart}");
}

#[test]
fn every_layer_is_that_of_hugging_face() {
    let folder = goldens("mllama");
    let (config, vb) = golden_backbone(&folder);
    let backbone = Backbone::load(&config, &vb, None).unwrap();
    let inputs = tensors(&folder.join("inputs.safetensors"));
    let sensors = &inputs["cross_attention_states"];
    let states = backbone.states(sensors, None, Mode::Infer).unwrap();
    let embeddings = backbone.embed(&inputs["input_ids"]).unwrap();
    let case = |name: &str| tensors(&folder.join(format!("{name}.safetensors")));
    let plain = Inputs { embeddings: &embeddings, mask: None, positions: None, states: Some(&states) };

    for mode in [Mode::Infer, TRAIN] {
        let golden = case("case1_plain");
        assert_eq!(apart(&embeddings, &golden["hf_hidden_states.0"]), 0.0);
        let found = backbone.forward(&plain, mode).unwrap();
        check_layers(&found, &golden, "case 1");
        let head = &tensors(&folder.join("model.safetensors"))["language_model.lm_head.weight"];
        let logits = found.last.broadcast_matmul(&head.t().unwrap()).unwrap();
        assert!(apart(&logits, &golden["logits"]) <= 5e-5);
        if let Some(index) = golden.get("hf_hidden_states.1") {
            assert!(apart(&found.layers[0].1, index) <= FORWARD);
        }

        let golden = case("case2_rightpad");
        let padded = backbone.embed(&golden["input_ids"]).unwrap();
        let mask = Some(&golden["attention_mask"]);
        let found = backbone.forward(&Inputs { embeddings: &padded, mask, ..plain }, mode).unwrap();
        check_layers(&found, &golden, "case 2");

        let golden = case("case3_sensormask");
        let masked = backbone.states(sensors, Some(&golden["sensor_keep"]), mode).unwrap();
        let found = backbone.forward(&Inputs { states: Some(&masked), ..plain }, mode).unwrap();
        check_layers(&found, &golden, "case 3");

        let found = backbone.forward(&Inputs { states: None, ..plain }, mode).unwrap();
        check_layers(&found, &case("case4_textonly"), "case 4");

        let golden = case("case5_positions");
        let positions = Some(&golden["position_ids"]);
        let found = backbone.forward(&Inputs { positions, ..plain }, mode).unwrap();
        let apart = apart(&found.last, &golden["last_hidden_state"]);
        assert!(apart <= FORWARD, "case 5: {apart}");
    }
}

#[test]
fn rotary_frequencies_are_those_of_hugging_face() {
    let folder = goldens("mllama");
    let found =
        |rope: &RopeConfig, dim: usize| Tensor::new(inverse_frequencies(rope, dim), &Device::Cpu).unwrap();
    let (config, _) = golden_backbone(&folder);
    let golden = &tensors(&folder.join("rope.safetensors"))["inv_freq"];
    assert!(apart(&found(&config.rope, config.head_dim()), golden) <= 1e-6);
    // The published parameters of Llama-3.2-11B-Vision.
    let scaling = RopeScaling {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192.0,
    };
    let rope = RopeConfig { theta: 500_000.0, scaling: Some(scaling) };
    let golden = tensors(&folder.join("rope_11b.safetensors"))["inv_freq"].to_vec1::<f32>().unwrap();
    for (found, golden) in inverse_frequencies(&rope, 128).into_iter().zip(golden) {
        assert!((found - golden).abs() <= 1e-6 * golden, "{found} for {golden}");
    }
}

/// Gradients of loss = Σ(last · probe)/B on case 1, with everything a variable.
#[test]
fn every_gradient_is_that_of_hugging_face() {
    let folder = goldens("mllama");
    let (config, vb) = golden_backbone(&folder);
    let (watched, parameters) = Parameters::watch(vb, |_| true);
    let backbone = Backbone::load(&config, &watched, None).unwrap();
    let inputs = tensors(&folder.join("inputs.safetensors"));
    let sensors = Var::from_tensor(&inputs["cross_attention_states"]).unwrap();
    let states = backbone.states(&sensors, None, TRAIN).unwrap();
    let embeddings = backbone.embed(&inputs["input_ids"]).unwrap();
    let all = Inputs { embeddings: &embeddings, mask: None, positions: None, states: Some(&states) };
    let last = backbone.forward(&all, TRAIN).unwrap().last;
    let loss = ((last * &inputs["probe"]).unwrap().sum_all().unwrap() / 2.0).unwrap();
    let grads = loss.backward().unwrap();

    let golden = tensors(&folder.join("grads.safetensors"));
    let wanted = golden["loss"].to_vec1::<f32>().unwrap()[0];
    let found = loss.to_scalar::<f32>().unwrap();
    assert!((found - wanted).abs() <= 1e-4 * wanted.abs().max(1.0), "{found} for {wanted}");
    let check = |name: &str, found: &Tensor, golden: &Tensor| {
        let tolerance = if name.ends_with("_gate") { GATE_GRADIENT } else { GRADIENT };
        let (apart, size) = (apart(found, golden), largest(golden));
        assert!(apart <= tolerance * size, "{name}: {apart} of {size}");
    };
    check("sensors", grads.get(&sensors).unwrap(), &golden["grad.cross_attention_states"]);
    let named: HashMap<String, Var> = parameters.trained().into_iter().collect();
    let mut seen = 0;
    for (name, golden) in &golden {
        let Some(name) = name.strip_prefix("grad.model.language_model.") else { continue };
        check(name, grads.get(&named[name]).unwrap(), golden);
        seen += 1;
    }
    assert!(seen >= 40, "{seen}");
    // Nothing is cut: those that the golden leaves out have one too.
    for (name, var) in &named {
        assert!(largest(grads.get(var).expect(name)) > 0.0, "{name}");
    }
}

#[test]
fn both_layouts_of_the_configuration_give_the_same_model() {
    let folder = goldens("mllama");
    let newer = BackboneConfig::load(&folder.join("config.json")).unwrap();
    let older = BackboneConfig::load(&folder.join("config.legacy.json")).unwrap();
    assert_eq!(newer, older);
    assert_eq!((newer.embeddings, newer.hidden_size, newer.layers), (328, 64, 6));
    assert_eq!(newer.cross_layers, [1, 4]);
    assert!(newer.rope.scaling.is_some());
}

fn small() -> BackboneConfig {
    BackboneConfig {
        embeddings: 40,
        hidden_size: 32,
        intermediate_size: 48,
        layers: 7,
        cross_layers: vec![2, 5],
        heads: 4,
        kv_heads: 2,
        rms_norm_eps: 1e-5,
        rope: RopeConfig { theta: 1e4, scaling: None },
    }
}

/// N(0, 0.02²) hardly moves anything in a network this small: the same weights, ten times as large.
fn loud(seed: u64, dtype: DType) -> VarBuilder<'static> {
    struct Loud(VarBuilder<'static>);
    impl candle_nn::var_builder::SimpleBackend for Loud {
        fn get(
            &self,
            shape: candle_core::Shape,
            name: &str,
            init: candle_nn::Init,
            dtype: DType,
            _: &Device,
        ) -> candle_core::Result<Tensor> {
            let x = self.0.get_with_hints(shape, name, init)?;
            let factor = if name.contains("proj") || name.contains("embed") { 10.0 } else { 1.0 };
            (x * factor)?.to_dtype(dtype)
        }
        fn get_unchecked(&self, _: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
            panic!("every part asks with a shape")
        }
        fn contains_tensor(&self, _: &str) -> bool {
            true
        }
    }
    VarBuilder::from_backend(Box::new(Loud(fresh_weights(seed, &Device::Cpu))), dtype, Device::Cpu)
}

fn noise(name: &str, shape: &[usize], dtype: DType) -> Tensor {
    let init = candle_nn::Init::Randn { mean: 0.0, stdev: 1.0 };
    let vb = fresh_weights(9, &Device::Cpu);
    vb.get_with_hints(shape, name, init).unwrap().to_dtype(dtype).unwrap()
}

fn prompts() -> Prompts {
    Prompts::new(&[vec![1, 7, 9, 30, 2], vec![1, 8], vec![1, 5, 6, 39]], 40).unwrap()
}

/// Sensors of 4 samples, of which one has none that counts.
fn sensor_mask() -> Tensor {
    let mask = [[1f32, 1., 1., 1., 1.], [1., 0., 1., 1., 0.], [0.; 5], [0., 0., 0., 0., 1.]];
    Tensor::new(&mask, &Device::Cpu).unwrap()
}

/// The taps of one row by the plain whole, on that row alone, without padding.
fn plainly(backbone: &Backbone, ids: &[u32], sensors: &Tensor, mask: &Tensor, sample: usize) -> Vec<Tensor> {
    let sensors = sensors.narrow(0, sample, 1).unwrap();
    let mask = mask.narrow(0, sample, 1).unwrap();
    let states = backbone.states(&sensors, Some(&mask), Mode::Infer).unwrap();
    let embeddings = backbone.embed(&Tensor::new(ids, &Device::Cpu).unwrap().unsqueeze(0).unwrap()).unwrap();
    let all = Inputs { embeddings: &embeddings, mask: None, positions: None, states: Some(&states) };
    let found = backbone.forward(&all, Mode::Infer).unwrap();
    let last = ids.len() - 1;
    let layers = backbone.tapped().layers().iter().map(|&number| {
        let x = if number + 1 == backbone.config().layers { &found.last } else { &found.layers[number].1 };
        x.narrow(1, last, 1).unwrap().squeeze(1).unwrap()
    });
    layers.collect()
}

#[test]
fn rows_are_what_the_plain_whole_says_of_each() {
    let config = small();
    let ids = [vec![1, 7, 9, 30, 2], vec![1, 8], vec![1, 5, 6, 39]];
    let mask = sensor_mask();
    for dtype in [DType::F32, DType::F64] {
        let vb = loud(3, dtype);
        let sensors = noise("sensors", &[4, 5, 32], dtype);
        let whole = Backbone::load(&config, &vb, None).unwrap();
        assert_eq!(whole.tapped().layers(), [2, 4, 5, 6]);
        let uneven = vec![(2, 0), (0, 1), (1, 2), (0, 0), (3, 1)];
        let even = vec![(0, 0), (0, 1), (1, 0), (1, 2), (2, 1), (2, 2), (3, 0), (3, 1)];
        let shuffled = vec![(3, 2), (1, 0), (3, 0), (1, 1)];
        for taps in [vec![2, 4, 5, 6], vec![2, 5], vec![4], vec![6]] {
            let chosen = Taps::new(&config, taps.clone()).unwrap();
            let part = Backbone::load_part(&config, &chosen, Held::ToLastTap, &vb, None).unwrap();
            let prepared = part.prepare(&prompts()).unwrap();
            let states = part.states(&sensors, Some(&mask), Mode::Infer).unwrap();
            let plain = Backbone::load_part(&config, &chosen, Held::Whole, &vb, None).unwrap();
            for rows in [&uneven, &even, &shuffled, &vec![(1, 1)]] {
                let found = part.taps(&prepared, &states, rows, Mode::Infer).unwrap();
                assert_eq!(found.len(), taps.len());
                for (place, &(sample, prompt)) in rows.iter().enumerate() {
                    let golden = plainly(&plain, &ids[prompt as usize], &sensors, &mask, sample as usize);
                    for (found, golden) in found.iter().zip(golden) {
                        assert!(largest(&golden) > 0.1);
                        let apart = apart(&found.narrow(0, place, 1).unwrap(), &golden);
                        assert!(apart <= 2e-5, "taps {taps:?}, row {sample} {prompt}: {apart}");
                    }
                }
            }
        }
    }
}

#[test]
fn sensors_that_do_not_count_change_nothing_and_the_others_do() {
    let config = small();
    let backbone = Backbone::load(&config, &loud(3, DType::F32), None).unwrap();
    let prepared = backbone.prepare(&prompts()).unwrap();
    let say = |sensors: &Tensor| {
        let states = backbone.states(sensors, Some(&sensor_mask()), Mode::Infer).unwrap();
        backbone.taps(&prepared, &states, &[(1, 0)], Mode::Infer).unwrap().pop().unwrap()
    };
    let sensors = noise("sensors", &[4, 5, 32], DType::F32);
    // Sample 1 has tokens 1 and 4 masked.
    let nudge = |token: usize| {
        let mut change = vec![0f32; 4 * 5 * 32];
        change[(5 + token) * 32..(6 + token) * 32].fill(1.0);
        (&sensors + Tensor::from_vec(change, (4, 5, 32), &Device::Cpu).unwrap()).unwrap()
    };
    assert_eq!(apart(&say(&sensors), &say(&nudge(1))), 0.0);
    assert_eq!(apart(&say(&sensors), &say(&nudge(4))), 0.0);
    assert!(apart(&say(&sensors), &say(&nudge(0))) > 1e-3);
}

#[test]
fn a_deployed_backbone_needs_neither_vocabulary_nor_prefix() {
    let config = small();
    let vb = loud(3, DType::F32);
    let taps = Taps::spread(&config, 4);
    let whole = Backbone::load(&config, &vb, None).unwrap();
    let states = whole.prepare(&prompts()).unwrap().states().unwrap().clone();
    assert_eq!(states.dims(), [3, 5, 32]);
    let deployed = Backbone::load_part(&config, &taps, Held::AfterPrefix, &vb, None).unwrap();
    assert!(deployed.prepare(&prompts()).is_err());
    let sensors = noise("sensors", &[2, 5, 32], DType::F32);
    let say = |backbone: &Backbone, prepared: &Prepared| {
        let seen: CrossStates = backbone.states(&sensors, None, Mode::Infer).unwrap();
        backbone.taps(prepared, &seen, &[(0, 0), (1, 2)], Mode::Infer).unwrap()
    };
    let given = Prepared::from_states(&deployed, prompts(), &states).unwrap();
    let all = whole.prepare(&prompts()).unwrap();
    for (a, b) in say(&whole, &all).iter().zip(say(&deployed, &given)) {
        assert_eq!(apart(a, &b), 0.0);
    }
    assert!(Prepared::from_states(&deployed, prompts(), &states.narrow(1, 0, 4).unwrap()).is_err());
}

#[test]
fn bf16_agrees_with_f32() {
    let config = small();
    let say = |dtype| {
        let backbone = Backbone::load(&config, &loud(3, dtype), None).unwrap();
        let prepared = backbone.prepare(&prompts()).unwrap();
        let sensors = noise("sensors", &[4, 5, 32], DType::F32);
        let states = backbone.states(&sensors, Some(&sensor_mask()), Mode::Infer).unwrap();
        backbone.taps(&prepared, &states, &[(0, 0), (1, 1), (2, 2)], Mode::Infer).unwrap().pop().unwrap()
    };
    let (exact, rough) = (say(DType::F32), say(DType::BF16));
    assert_eq!(rough.dtype(), DType::F32);
    let (apart, size) = (apart(&exact, &rough), largest(&exact));
    assert!(apart > 0.0 && apart <= 0.05 * size, "{apart} of {size}");
}

#[test]
fn in_training_every_tensor_gets_a_gradient_through_the_taps() {
    let config = small();
    let (watched, parameters) = Parameters::watch(loud(3, DType::F32), |_| true);
    let taps = Taps::spread(&config, 4);
    let backbone = Backbone::load_part(&config, &taps, Held::ToLastTap, &watched, None).unwrap();
    let prepared = backbone.prepare(&prompts()).unwrap();
    assert!(prepared.states().is_none(), "a trained prefix is computed in each pass");
    let sensors = Var::from_tensor(&noise("sensors", &[4, 5, 32], DType::F32)).unwrap();
    let states = backbone.states(&sensors, Some(&sensor_mask()), TRAIN).unwrap();
    let rows = [(3, 2), (1, 0), (3, 0), (1, 1)];
    let found = backbone.taps(&prepared, &states, &rows, TRAIN).unwrap();
    let loss = found.iter().enumerate().map(|(tap, x)| {
        (x * noise(&format!("probe {tap}"), &[4, 32], DType::F32)).unwrap().sum_all().unwrap()
    });
    let loss = loss.reduce(|a, b| (a + b).unwrap()).unwrap();
    let grads = loss.backward().unwrap();
    assert!(parameters.trained().len() > 60);
    for (name, var) in parameters.trained() {
        assert!(largest(grads.get(&var).unwrap_or_else(|| panic!("{name}"))) > 0.0, "{name}");
    }
    assert!(largest(grads.get(&sensors).unwrap()) > 0.0);
}

/// The gradient of a frozen backbone's input and what is kept besides: nothing.
#[test]
fn a_frozen_backbone_keeps_no_gradient_of_its_weights() {
    let config = small();
    let backbone = Backbone::load(&config, &loud(3, DType::F32), None).unwrap();
    let prepared = backbone.prepare(&prompts()).unwrap();
    let given = noise("sensors", &[2, 5, 32], DType::F32);
    let sensors = Var::from_tensor(&given).unwrap();
    let loss = |sensors: &Tensor| {
        let states = backbone.states(sensors, None, TRAIN).unwrap();
        let found = backbone.taps(&prepared, &states, &[(0, 0), (1, 2)], TRAIN).unwrap();
        found.iter().map(|x| x.sqr().unwrap().sum_all().unwrap()).reduce(|a, b| (a + b).unwrap()).unwrap()
    };
    let grads = loss(&sensors).backward().unwrap();
    let kept: usize = grads.get_ids().map(|id| grads.get_id(*id).unwrap().elem_count()).sum();
    // The sensors' own, and those of the first cross layer's constants: its input and its queries, both [2, 5, 32].
    assert!(kept <= given.elem_count() + 2 * 2 * 5 * 32, "{kept} numbers are kept");
    // By finite differences along the gradient itself.
    let gradient = grads.get(&sensors).unwrap();
    let size = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
    let step = 1e-2 / size.sqrt();
    let at = |step: f32| {
        loss(&(&given + (gradient * f64::from(step)).unwrap()).unwrap()).to_scalar::<f32>().unwrap()
    };
    let slope = (at(step) - at(-step)) / (2.0 * step);
    assert!((slope - size).abs() <= 0.01 * size, "{slope} for {size}");
}

#[test]
fn prompts_that_cannot_be_are_refused() {
    assert_eq!(Prompts::new(&[], 40), Err(PromptsError::None));
    assert_eq!(Prompts::new(&[vec![1], vec![]], 40), Err(PromptsError::Empty { prompt: 1 }));
    let unknown = PromptsError::Unknown { prompt: 0, id: 40, embeddings: 40 };
    assert_eq!(unknown.to_string(), "prompt 0 has token id 40, the backbone's are 0 to 39");
    assert_eq!(Prompts::new(&[vec![3, 40]], 40), Err(unknown));
    let prompts = prompts();
    assert_eq!((prompts.count(), prompts.longest()), (3, 5));
    let mask = prompts.mask(&Device::Cpu).unwrap().to_vec2::<u32>().unwrap();
    assert_eq!(mask, [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]);
}

#[test]
fn prompts_that_would_look_alike_are_refused() {
    let same_end = Prompts::new(&[vec![1, 2], vec![3], vec![4, 5, 2]], 40).unwrap();
    let sees_sensors_alone = BackboneConfig { layers: 3, cross_layers: vec![0, 1, 2], ..small() };
    assert_eq!(same_end.check_apart(&sees_sensors_alone), Err(PromptsError::Alike { one: 0, other: 2 }));
    // A self layer too late changes nothing.
    let late = BackboneConfig { layers: 3, cross_layers: vec![0, 1], ..small() };
    assert_eq!(same_end.check_apart(&late), Err(PromptsError::Alike { one: 0, other: 2 }));
    for cross_layers in [vec![0, 2], vec![1, 2]] {
        let between = BackboneConfig { layers: 3, cross_layers, ..small() };
        assert_eq!(same_end.check_apart(&between), Ok(()));
    }
    let other_ends = Prompts::new(&[vec![1, 2], vec![3]], 40).unwrap();
    assert_eq!(other_ends.check_apart(&sees_sensors_alone), Ok(()));
}

#[test]
fn rows_that_are_not_there_are_refused() {
    let backbone = Backbone::load(&small(), &loud(3, DType::F32), None).unwrap();
    let prepared = backbone.prepare(&prompts()).unwrap();
    let sensors = noise("sensors", &[2, 5, 32], DType::F32);
    let states = backbone.states(&sensors, None, Mode::Infer).unwrap();
    for rows in [&[][..], &[(2, 0)], &[(0, 3)]] {
        assert!(backbone.taps(&prepared, &states, rows, Mode::Infer).is_err(), "{rows:?}");
    }
    let narrow = noise("sensors", &[2, 5, 16], DType::F32);
    let error = backbone.states(&narrow, None, Mode::Infer).unwrap_err().to_string();
    assert!(error.contains("[2, 5, 16]") && error.contains("[S, N, 32]"), "{error}");
    let ids = Tensor::new(&[[1u32, 40]], &Device::Cpu).unwrap();
    let error = backbone.embed(&ids).unwrap_err().to_string();
    assert!(error.contains("found token id 40, allowed are 0 to 39"), "{error}");
}

const CONFIG: &str = r#"{"model_type": "mllama", "text_config": {
    "model_type": "mllama_text_model", "vocab_size": 32, "hidden_size": 32, "intermediate_size": 48,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
    "hidden_act": "silu", "cross_attention_layers": [1, 3], "rope_theta": 10000.0, "rope_scaling": null}}"#;

#[test]
fn configurations_that_cannot_be_built_are_refused_by_key() {
    let file = Path::new("config.json");
    let parse = |text: &str| BackboneConfig::parse(text, file);
    assert_eq!(parse(CONFIG).unwrap().cross_layers, [1, 3]);
    let llama3 = r#"{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0,
        "original_max_position_embeddings": 64}"#;
    for (from, to, key, says) in [
        ("\"silu\"", "\"gelu\"", "text_config.hidden_act", "silu"),
        ("\"num_attention_heads\": 4", "\"num_attention_heads\": 5", "text_config.num_attention_heads", "32"),
        ("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "text_config.num_key_value_heads", "4"),
        ("[1, 3]", "[1, 4]", "text_config.cross_attention_layers", "0 to 3"),
        ("[1, 3]", "[3, 1]", "text_config.cross_attention_layers", "rising"),
        ("[1, 3]", "[]", "text_config.cross_attention_layers", "one or more"),
        ("[1, 3]", "\"all\"", "text_config.cross_attention_layers", "a list of layers"),
        (
            "\"rope_scaling\": null",
            "\"rope_scaling\": {\"rope_type\": \"yarn\"}",
            "rope_scaling.rope_type",
            "llama3",
        ),
        (
            "\"rope_scaling\": null",
            &format!("\"rope_scaling\": {llama3}"),
            "text_config.rope.scaling.high_freq_factor",
            "more than low_freq_factor",
        ),
        (
            "\"rope_scaling\": null",
            "\"rope_parameters\": {\"rope_theta\": 5.0}",
            "text_config.rope_theta",
            "contradicts",
        ),
        (
            "\"rope_scaling\": null",
            "\"attention_bias\": true",
            "text_config.attention_bias",
            "not implemented",
        ),
        ("\"rope_scaling\": null", "\"tie_word_embeddings\": true", "tie_word_embeddings", "not implemented"),
        ("\"rope_scaling\": null", "\"head_dim\": 16", "text_config.head_dim", "found 16"),
        ("\"rope_theta\": 10000.0", "\"rope_theta\": \"x\"", "text_config.rope_theta", "numbers"),
        ("\"vocab_size\": 32, ", "", "text_config.vocab_size", "missing"),
        ("1e-5", "-1.0", "text_config.rms_norm_eps", "above 0"),
        ("\"hidden_size\": 32", "\"hidden_size\": -1", "text_config.hidden_size", "whole numbers"),
        ("\"mllama_text_model\"", "\"llama\"", "text_config.model_type", "mllama_text_model"),
        (
            "\"text_config\"",
            "\"quantization_config\": {\"bits\": 4}, \"text_config\"",
            "quantization_config",
            "bits",
        ),
    ] {
        assert!(CONFIG.contains(from), "{from}");
        let error = parse(&CONFIG.replacen(from, to, 1)).expect_err(key).to_string();
        assert!(error.starts_with("config.json: ") && error.contains(key) && error.contains(says), "{error}");
    }
    assert!(matches!(parse("{"), Err(BackboneConfigError::Json { .. })));
    assert!(matches!(parse("[]"), Err(BackboneConfigError::Key { .. })));
    let missing = BackboneConfig::load(Path::new("no/such/config.json")).unwrap_err();
    assert!(missing.to_string().starts_with("no/such/config.json: cannot read it"), "{missing}");
}

#[test]
fn a_published_checkpoint_is_taken_whole_but_for_its_foreign_parts() {
    let folder = goldens("mllama");
    let config = BackboneConfig::load(&folder.join("config.json")).unwrap();
    let checkpoint = Checkpoint::open(&folder).unwrap();
    Backbone::load(&config, &checkpoint.builder_spelled(DType::F32, &Device::Cpu, &SPELLINGS), None).unwrap();
    checkpoint.finish(is_foreign).unwrap();
    assert!(!checkpoint.unused(|_| false).is_empty(), "the vision tower is there, and unused");
}
