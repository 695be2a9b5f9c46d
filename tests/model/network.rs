//! The core of MMSense: what changes its answers, what does not, and gradients.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use mmsense::model::config::{CoreConfig, EncodersConfig};
use mmsense::model::fusion::Tokens;
use mmsense::model::input::InputError;
use mmsense::model::layers::{Mode, Statistics};
use mmsense::model::parameters::Parameters;
use mmsense::model::seeded::fresh_weights;
use mmsense::model::task_attention::TaskAttention;
use mmsense::model::tasks::Asked;
use mmsense::model::ue::{LINK_FEATURES, POSITION_FEATURES};
use mmsense::model::{
    Cloud, Input, LIDAR_FEATURES, MODALITIES, Network, NetworkConfig, Purpose, RADAR_FEATURES, Task,
};

use crate::scenes::{sizes, tiny};

const TRAIN: Mode = Mode::Train { seed: 5, statistics: Statistics::Running };

fn random(name: &str, shape: &[usize], vb: &VarBuilder<'_>) -> Tensor {
    vb.get_with_hints(shape, name, candle_nn::Init::Randn { mean: 0.0, stdev: 1.0 }).unwrap()
}

/// Tokens of `rows` rows for the tiny network; the LiDAR of row 0 is missing throughout.
fn tokens(rows: usize, vb: &VarBuilder<'_>) -> Tokens {
    let config = tiny();
    let (slots, count) = (sizes().slots, config.tokens());
    let mask = (0..rows * slots * MODALITIES * count).map(|index| {
        let (place, row) = (index / count % MODALITIES, index / (count * MODALITIES * slots));
        f64::from(u8::from(!(row == 0 && place == 2)))
    });
    let shape = (rows, slots, MODALITIES, count);
    let mask = Tensor::from_iter(mask, vb.device()).unwrap().reshape(shape).unwrap();
    let ages = random("ages", &[rows, slots, MODALITIES], vb).abs().unwrap();
    Tokens {
        values: random("values", &[rows, slots, MODALITIES, count, config.width], vb),
        mask: mask.to_dtype(vb.dtype()).unwrap(),
        ages,
        reports: Some(random("reports", &[rows, LINK_FEATURES], vb)),
    }
}

fn asked(rows: &[u32]) -> Asked {
    Task::ALL.iter().map(|&task| (task, rows.to_vec())).collect()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The paper's network and its ablations.
fn variants() -> Vec<(&'static str, NetworkConfig)> {
    let of = |change: &dyn Fn(&mut NetworkConfig)| {
        let mut config = tiny();
        change(&mut config);
        config
    };
    let core = |config: &mut NetworkConfig, gate: bool, width: usize| {
        let CoreConfig::Mmsense(core) = &mut config.core else { panic!("{:?}", config.core) };
        (core.gate, core.task_width) = (gate, width);
    };
    vec![
        ("whole", of(&|_| {})),
        ("without gate", of(&|config| core(config, false, 8))),
        ("without task attention", of(&|config| core(config, true, 0))),
        ("without backbone", of(&|config| config.backbone = None)),
    ]
}

#[test]
fn every_task_reads_every_row_that_it_is_asked_for() {
    let vb = fresh_weights(3, &Device::Cpu);
    let tokens = tokens(3, &vb);
    for (name, config) in variants() {
        let network = Network::fresh(&config, sizes(), &Device::Cpu).unwrap();
        let all = network.forward(&tokens, &asked(&[0, 1, 2])).unwrap();
        for task in Task::ALL {
            assert_eq!(all.tasks[&task].len(), 3, "{name}");
            assert!(all.tasks[&task].iter().all(|row| row.len() == sizes().outputs(task)), "{name}");
            // One row of one task, alone.
            let one = network.forward(&tokens, &BTreeMap::from([(task, vec![2])])).unwrap();
            for (a, b) in one.tasks[&task][0].iter().zip(&all.tasks[&task][2]) {
                assert!((a - b).abs() < 1e-4, "{name} {task}: {a} {b}");
            }
        }
        assert_eq!(all.gate.is_empty(), name == "without gate");
    }
}

#[test]
fn what_is_not_there_is_an_error() {
    let vb = fresh_weights(3, &Device::Cpu);
    let network = Network::fresh(&tiny(), sizes(), &Device::Cpu).unwrap();
    let some = tokens(2, &vb);
    assert!(network.forward(&some, &asked(&[2])).is_err());
    let blind = Tokens { mask: some.mask.zeros_like().unwrap(), ..some.clone() };
    let error = network.forward(&blind, &asked(&[0])).unwrap_err();
    assert_eq!(InputError::of(&error), Some(&InputError::Blind { row: 0, rows: 2 }), "{error}");
    assert!(error.to_string().contains("row 0 of 2 has no token that counts"), "{error}");
    let nothing = (some.values.zeros_like().unwrap() / 0.0).unwrap();
    let error = network.forward(&Tokens { values: nothing, ..some.clone() }, &asked(&[0])).unwrap_err();
    assert_eq!(InputError::of(&error), Some(&InputError::NotFinite { what: "tokens" }), "{error}");
    let nowhere = Cloud { positions: vec![[0.0, f32::NAN, 0.0]], features: vec![0.0; LIDAR_FEATURES] };
    let error = network.encoders().clouds(Input::Lidar, &[nowhere], Mode::Infer).unwrap_err();
    let found = "[0.0, NaN, 0.0]".to_owned();
    assert_eq!(InputError::of(&error), Some(&InputError::Point { cloud: 0, point: 0, found }), "{error}");
    let mut only = tiny();
    only.tasks = vec![Task::Beam];
    let network = Network::fresh(&only, sizes(), &Device::Cpu).unwrap();
    let error = network.forward(&some, &asked(&[0])).unwrap_err().to_string();
    assert!(error.contains("without the task `blockage`"), "{error}");
}

#[test]
fn tokens_that_are_masked_change_nothing() {
    let vb = fresh_weights(3, &Device::Cpu);
    let seen = tokens(1, &vb);
    // The LiDAR of row 0 is masked: other numbers there say the same.
    let keep = seen.mask.unsqueeze(4).unwrap();
    let noise = random("noise", seen.values.dims(), &vb);
    let noise = noise.broadcast_mul(&(1.0 - &keep).unwrap()).unwrap();
    let other = Tokens { values: (&seen.values + noise).unwrap(), ..seen.clone() };
    assert_ne!(numbers(&seen.values), numbers(&other.values));
    for (name, config) in variants() {
        let network = Network::fresh(&config, sizes(), &Device::Cpu).unwrap();
        let say = |tokens| network.forward(tokens, &asked(&[0])).unwrap().tasks;
        assert_eq!(say(&seen), say(&other), "{name}");
    }
}

#[test]
fn slots_of_which_no_row_has_anything_change_nothing() {
    let vb = fresh_weights(3, &Device::Cpu);
    let whole = tokens(2, &vb);
    let slots = sizes().slots;
    assert!(slots > 1);
    // Row 1 knows its last slot only: beside row 0 the others stand empty, alone they are left out.
    let none = whole.mask.narrow(0, 1, 1).unwrap().narrow(1, 0, slots - 1).unwrap().zeros_like().unwrap();
    let last = whole.mask.narrow(0, 1, 1).unwrap().narrow(1, slots - 1, 1).unwrap();
    let one = Tensor::cat(&[none, last], 1).unwrap();
    let mask = Tensor::cat(&[whole.mask.narrow(0, 0, 1).unwrap(), one], 0).unwrap();
    let beside = Tokens { mask, ..whole };
    let of = |x: &Tensor| x.narrow(0, 1, 1).unwrap().contiguous().unwrap();
    let alone = Tokens {
        values: of(&beside.values),
        mask: of(&beside.mask),
        ages: of(&beside.ages),
        reports: beside.reports.as_ref().map(of),
    };
    for (name, config) in variants() {
        let network = Network::fresh(&config, sizes(), &Device::Cpu).unwrap();
        let both = network.scores(&beside, &asked(&[1]), Mode::Infer).unwrap();
        let one = network.scores(&alone, &asked(&[0]), Mode::Infer).unwrap();
        for (task, scores) in &one.tasks {
            for (a, b) in numbers(scores).into_iter().zip(numbers(&both.tasks[task])) {
                assert!((a - b).abs() < 1e-4, "{name} {task}: {a} {b}");
            }
        }
        let gates = one.gate.map(|gate| gate.to_vec3::<f32>().unwrap().remove(0));
        for gate in gates.iter().flat_map(|gate| &gate[..slots - 1]) {
            assert!(gate.iter().all(|weight| *weight == 0.0), "{name}: {gate:?}");
        }
    }
}

#[test]
fn places_that_are_magnified_are_those_of_a_cloud_that_is_as_much_larger() {
    let cloud = |factor: f32| {
        let place =
            |number: usize| [0.7, 0.4, 0.3].map(|step: f32| factor * 0.01 * (number as f32 * step).fract());
        let positions: Vec<[f32; 3]> = (0..20).map(place).collect();
        Cloud { features: positions.iter().flatten().copied().collect(), positions }
    };
    let tokens = |magnify: usize, cloud: Cloud| {
        let mut config = tiny();
        let EncodersConfig::Points(points) = &mut config.encoders else { panic!("{:?}", config.encoders) };
        points.lidar.magnify = magnify;
        let network = Network::fresh(&config, sizes(), &Device::Cpu).unwrap();
        let encoded = network.encoders().clouds(Input::Lidar, &[cloud], Mode::Infer).unwrap();
        numbers(&encoded.tokens)
    };
    assert_eq!(tokens(4, cloud(1.0)), tokens(1, cloud(4.0)));
    assert_ne!(tokens(4, cloud(1.0)), tokens(1, cloud(1.0)));
}

/// A loss that every output of every task has a share in.
fn loss(network: &Network, tokens: &Tokens, vb: &VarBuilder<'_>) -> Tensor {
    let said = network.scores(tokens, &asked(&[0, 1]), TRAIN).unwrap();
    let parts = said.tasks.iter().map(|(task, scores)| {
        (scores * random(&format!("probe.{task}"), scores.dims(), vb)).unwrap().sum_all().unwrap()
    });
    parts.reduce(|a, b| (a + b).unwrap()).unwrap()
}

#[test]
fn every_trained_tensor_of_the_core_gets_a_gradient() {
    let vb = fresh_weights(3, &Device::Cpu);
    for (name, config) in variants() {
        let core = |name: &str| {
            ["gate", "fusion", "projector", "backbone", "tasks"].iter().any(|part| name.starts_with(part))
        };
        let (watched, parameters) = Parameters::watch(fresh_weights(config.seed, &Device::Cpu), core);
        let network = Network::build(&config, sizes(), Purpose::Training, &watched).unwrap();
        let gradients = loss(&network, &tokens(2, &vb), &vb).backward().unwrap();
        let trained = parameters.trained();
        assert!(trained.len() > 20, "{name}: {}", trained.len());
        for (tensor, var) in trained {
            let found = gradients.get(var.as_tensor()).map(numbers).unwrap_or_default();
            let reached = found.iter().all(|x| x.is_finite()) && found.iter().any(|x| *x != 0.0);
            assert!(reached, "{name}: {tensor}");
        }
    }
}

#[test]
fn gradients_of_the_core_are_those_of_finite_differences() {
    let fresh = |seed| fresh_weights(seed, &Device::Cpu).to_dtype(DType::F64);
    for (name, config) in variants() {
        let (watched, parameters) = Parameters::watch(fresh(config.seed), |name| {
            ["gate", "fusion", "projector", "tasks"].iter().any(|part| name.starts_with(part))
        });
        let network = Network::build(&config, sizes(), Purpose::Training, &watched).unwrap();
        let (vb, step) = (fresh(3), 1e-5);
        let tokens = tokens(2, &vb);
        let at = || numbers(&loss(&network, &tokens, &vb))[0];
        let gradients = loss(&network, &tokens, &vb).backward().unwrap();
        for (tensor, var) in parameters.trained() {
            let gradient = numbers(gradients.get(var.as_tensor()).unwrap());
            let values = numbers(&var);
            // The largest gradient and one in the middle.
            let largest =
                (0..gradient.len()).max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs()));
            for place in [largest.unwrap(), gradient.len() / 2] {
                let moved = |by: f64| {
                    let mut values = values.clone();
                    values[place] += by;
                    var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
                    at()
                };
                let found = (moved(step) - moved(-step)) / (2.0 * step);
                moved(0.0);
                let apart = (found - gradient[place]).abs();
                assert!(
                    apart <= 1e-5 * (1.0 + gradient[place].abs()),
                    "{name}: {tensor}[{place}]: {found} and {}",
                    gradient[place]
                );
            }
        }
    }
}

#[test]
fn task_attention_is_the_chain_of_the_paper() {
    // One tap of width 2 to a vector of width 1, by hand.
    let of = |numbers: &[f32], shape: &[usize]| Tensor::from_slice(numbers, shape, &Device::Cpu).unwrap();
    let named = [
        ("0.norm.weight", of(&[1.0, 2.0], &[2])),
        ("0.norm.bias", of(&[0.0, 0.5], &[2])),
        ("0.norm.running_mean", of(&[1.0, 2.0], &[2])),
        ("0.norm.running_var", of(&[4.0, 16.0], &[2])),
        ("0.weigh.0.weight", of(&[1.0, 0.0], &[1, 2])),
        ("0.weigh.0.bias", of(&[0.5], &[1])),
        ("0.weigh.2.weight", of(&[1.0, -1.0], &[2, 1])),
        ("0.weigh.2.bias", of(&[0.0, 0.25], &[2])),
        ("0.mix.weight", of(&[3.0, -1.0], &[1, 2])),
        ("0.mix.bias", of(&[0.125], &[1])),
    ];
    let named = named.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
    let vb = VarBuilder::from_tensors(named, DType::F32, &Device::Cpu);
    let attention = TaskAttention::load(1, 2, 1, &vb).unwrap();
    let found = numbers(&attention.forward(&[of(&[3.0, 4.0], &[1, 2])], Mode::Infer).unwrap())[0];
    let x = [2.0 / (4.0f64 + 1e-5).sqrt(), 2.0 * 2.0 / (16.0f64 + 1e-5).sqrt() + 0.5];
    let inner = (x[0] + 0.5).max(0.0);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let wanted = 3.0 * sigmoid(inner) * x[0] - sigmoid(0.25 - inner) * x[1] + 0.125;
    assert!((found - wanted).abs() < 1e-5, "{found} {wanted}");
    assert!(attention.forward(&[], Mode::Infer).is_err());
}

/// Readings of every input through the encoders of a network: `[R, W, D]` samples, one cloud of each sensor empty.
fn encoded(network: &Network, rows: usize, vb: &VarBuilder<'_>) -> Tokens {
    let (slots, config) = (sizes().slots, network.config());
    let samples = rows * slots;
    let encoders = network.encoders();
    let cloud = |sensor: &str, features: usize| {
        let of = |number: usize| {
            let count = if number == 0 { 0 } else { 40 };
            let places = numbers(&random(&format!("{sensor}.{number}"), &[40, features], vb));
            let rows: Vec<Vec<f32>> = places
                .chunks(features)
                .take(count)
                .map(|row| row.iter().map(|&x| x as f32).collect())
                .collect();
            Cloud {
                positions: rows.iter().map(|row| [row[0], row[1], row[2]]).collect(),
                features: rows.concat(),
            }
        };
        (0..samples).map(of).collect::<Vec<Cloud>>()
    };
    let side = config.image_side();
    let reports = random("reports", &[samples, LINK_FEATURES], vb);
    let of_inputs = [
        encoders.images(&random("images", &[samples, 3, side, side], vb), TRAIN).unwrap(),
        encoders.clouds(Input::Radar, &cloud("radar", RADAR_FEATURES), TRAIN).unwrap(),
        encoders.clouds(Input::Lidar, &cloud("lidar", LIDAR_FEATURES), TRAIN).unwrap(),
        encoders.links(&reports, TRAIN).unwrap(),
        encoders.positions(&random("positions", &[samples, POSITION_FEATURES], vb)).unwrap(),
    ];
    let (count, width) = (config.tokens(), config.width);
    let values: Vec<Tensor> = of_inputs.iter().map(|encoded| encoded.tokens.unsqueeze(1).unwrap()).collect();
    let mask = (0..samples).flat_map(|sample| {
        let valid = of_inputs.iter().map(move |encoded| encoded.valid[sample]);
        valid.flat_map(move |valid| (0..count).map(move |token| f32::from(u8::from(token < valid))))
    });
    let shape = (rows, slots, MODALITIES, count);
    Tokens {
        values: Tensor::cat(&values, 1).unwrap().reshape((rows, slots, MODALITIES, count, width)).unwrap(),
        mask: Tensor::from_iter(mask, vb.device()).unwrap().reshape(shape).unwrap(),
        ages: random("ages", &[rows, slots, MODALITIES], vb).abs().unwrap(),
        // Of the present slot.
        reports: Some(
            reports.reshape((rows, slots, LINK_FEATURES)).unwrap().get_on_dim(1, slots - 1).unwrap(),
        ),
    }
}

#[test]
fn every_trained_tensor_of_every_network_gets_a_gradient_from_readings_to_scores() {
    let vb = fresh_weights(3, &Device::Cpu);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let baseline = |kind: &str, encoders: &str, core: &str| {
        let file = folder.path().join(format!("{kind}.toml"));
        let base = root.join("tests/networks/tiny.toml");
        let text =
            format!("extends = {base:?}\nbackbone = false\n{encoders}[core]\nkind = \"{kind}\"\n{core}");
        std::fs::write(&file, text).unwrap();
        mmsense::config::load_network(&file).unwrap()
    };
    let maps = |kind: &str| {
        format!(
            "[encoders]\nkind = \"maps\"\nimage_side = 32\npoints = 64\n[encoders.map]\nkind = \"{kind}\"\n"
        )
    };
    let small = "[core.backbone]\nwidth = 16\nlayers = 2\nheads = 2\n";
    let mut networks = variants();
    networks.push(("mlp", baseline("mlp", &maps("flat"), "")));
    networks.push(("cnn", baseline("cnn", &maps("cnn"), "")));
    networks.push(("transformer", baseline("transformer", &maps("patches"), "heads = 2\n")));
    networks.push(("llm4wm", baseline("llm4wm", "", small)));
    let mut missed = Vec::new();
    for (name, config) in networks {
        let is_trained = |name: &str| !name.starts_with("core.gpt2.");
        let (watched, parameters) = Parameters::watch(fresh_weights(config.seed, &Device::Cpu), is_trained);
        let network = Network::build(&config, sizes(), Purpose::Training, &watched).unwrap();
        let trained = parameters.trained();
        // Of an expert that adds nothing yet only the last matrix has a gradient.
        for (tensor, var) in trained.iter().filter(|(tensor, _)| tensor.starts_with("core.lora.")) {
            if numbers(var).iter().all(|x| *x == 0.0) {
                var.set(&(random(tensor, var.dims(), &vb) * 0.1).unwrap()).unwrap();
            }
        }
        let gradients = loss(&network, &encoded(&network, 2, &vb), &vb).backward().unwrap();
        for part in ["image.", "radar.", "lidar.", "link.", "position.", "norm."] {
            assert!(trained.iter().any(|(tensor, _)| tensor.starts_with(part)), "{name}: {part}");
        }
        for (tensor, var) in trained {
            let found = gradients.get(var.as_tensor()).map(numbers).unwrap_or_default();
            if !(found.iter().all(|x| x.is_finite()) && found.iter().any(|x| *x != 0.0)) {
                missed.push(format!("{name}: {tensor}"));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn a_row_looks_at_the_slots_of_its_tasks() {
    let mut config = tiny();
    config.slots = [(Task::Beam, 1), (Task::Activity, 3)].into();
    assert_eq!(config.slots_of(&[Task::Beam], 5), 1);
    assert_eq!(config.slots_of(&[Task::Activity], 5), 3);
    assert_eq!(config.slots_of(&[Task::Activity], 2), 2);
    // One row for both: as many as the one that looks farther back.
    assert_eq!(config.slots_of(&[Task::Beam, Task::Blockage], 5), 5);
    assert_eq!(config.slots_of(&[Task::Pose], 5), 1);
    assert!(config.problems().is_empty(), "{:?}", config.problems());
    // A task that the network does not have, and no slot at all.
    config.tasks.retain(|task| *task != Task::Activity);
    assert!(config.problems().iter().any(|(key, _)| key == "slots.activity"), "{:?}", config.problems());
    config.slots = [(Task::Beam, 0)].into();
    assert!(config.problems().iter().any(|(key, _)| key == "slots.beam"), "{:?}", config.problems());
}
