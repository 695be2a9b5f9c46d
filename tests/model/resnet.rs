//! ResNets against numbers that torchvision and timm computed on the same weights, in inference and in training.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;
use mmsense::model::layers::{Mode, Statistics};
use mmsense::model::parameters::Parameters;
use mmsense::model::resnet::{Classifier, ResNet, ResNetConfig};
use mmsense::model::seeded::fresh_weights;

const BATCH: Mode = Mode::Train { seed: 0, statistics: Statistics::Batch };
const RUNNING: Mode = Mode::Train { seed: 0, statistics: Statistics::Running };

fn goldens() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/parity/resnet");
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there", path.display());
    None
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn largest(x: &Tensor) -> f32 {
    x.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

fn apart(found: &Tensor, golden: &Tensor) -> f32 {
    assert_eq!(found.dims(), golden.dims());
    largest(&(found - golden).unwrap())
}

fn near(what: &str, found: &Tensor, golden: &Tensor) {
    let apart = apart(found, golden);
    eprintln!("{what}: {apart:.1e}");
    assert!(apart <= 5e-5, "{what}: {apart}");
}

fn near_gradient(what: &str, found: &Tensor, golden: &Tensor) {
    let (apart, scale) = (apart(found, golden), largest(golden));
    eprintln!("{what}: {:.1e} of the largest", apart / scale);
    assert!(apart <= 1e-4 * scale, "{what}: {apart} of {scale}");
}

struct Narrow {
    name: &'static str,
    config: ResNetConfig,
    golden: HashMap<String, Tensor>,
    weights: PathBuf,
}

/// The two narrow networks of timm, with 7 classes.
fn narrow() -> Vec<Narrow> {
    let Some(folder) = goldens() else { return Vec::new() };
    [
        ("narrow_basic", [8, 16, 24, 32], [2, 2, 2, 2], false),
        ("narrow_bottleneck", [8, 12, 16, 20], [1, 2, 1, 1], true),
    ]
    .into_iter()
    .map(|(name, channels, layers, bottleneck)| Narrow {
        name,
        config: ResNetConfig { stem: 64, channels, layers, bottleneck },
        golden: tensors(&folder.join(format!("{name}.golden.safetensors"))),
        weights: folder.join(format!("{name}.model.safetensors")),
    })
    .collect()
}

impl Narrow {
    fn builder(&self) -> VarBuilder<'static> {
        VarBuilder::from_tensors(tensors(&self.weights), DType::F32, &Device::Cpu)
    }

    fn trained(&self) -> (Classifier, Parameters) {
        let (vb, parameters) = Parameters::watch(self.builder(), |_| true);
        (Classifier::load(&self.config, 7, &vb).unwrap(), parameters)
    }
}

fn parameter(parameters: &Parameters, name: &str) -> Var {
    let mut all = parameters.trained();
    all.extend(parameters.statistics());
    all.into_iter().find(|(found, _)| found == name).unwrap().1
}

/// Σ logits · probe, backwards.
fn gradients(network: &Classifier, input: &Tensor, probe: &Tensor, mode: Mode) -> (Tensor, GradStore) {
    let logits = network.logits(input, mode).unwrap();
    let loss = (&logits * probe).unwrap().sum_all().unwrap();
    (logits, loss.backward().unwrap())
}

#[test]
fn a_narrow_resnet_is_that_of_timm() {
    for narrow in narrow() {
        let Narrow { name, config, golden, .. } = &narrow;
        let network = Classifier::load(config, 7, &narrow.builder()).unwrap();
        let input = &golden["input"];
        let map = network.network().forward(input, Mode::Infer).unwrap();
        near(name, &map.mean((2, 3)).unwrap(), &golden["features"]);
        near(name, &network.logits(input, Mode::Infer).unwrap(), &golden["logits"]);
        if let Some(layer) = golden.get("layer4") {
            near(name, &map, layer);
        }
        // The same through the parts that are trained.
        let (network, _) = narrow.trained();
        near(name, &network.logits(input, Mode::Infer).unwrap(), &golden["logits"]);
    }
}

#[test]
fn gradients_with_frozen_statistics_are_those_of_timm() {
    for narrow in narrow() {
        let golden = &narrow.golden;
        for (prefix, image) in [("evalbn", "input"), ("square", "square.input")] {
            let Some(image) = golden.get(image) else { continue };
            let input = Var::from_tensor(image).unwrap();
            let (network, parameters) = narrow.trained();
            let (logits, grads) = gradients(&network, &input, &golden["probe"], RUNNING);
            if let Some(golden) = golden.get(&format!("{prefix}.logits")) {
                near(prefix, &logits, golden);
            }
            let mut compared = 0;
            for (key, golden) in golden.iter() {
                let Some(name) = key.strip_prefix(&format!("{prefix}.grad.")) else { continue };
                let found = if name == "input.mean_c" {
                    grads.get(&input).unwrap().mean(1).unwrap()
                } else {
                    grads.get(&parameter(&parameters, name)).unwrap().clone()
                };
                near_gradient(key, &found, golden);
                compared += 1;
            }
            assert!(compared >= 2, "{}: {prefix}", narrow.name);
            for (name, var) in parameters.trained() {
                assert!(largest(grads.get(&var).unwrap()) > 0.0, "{name} has a gradient");
            }
        }
    }
}

#[test]
fn batch_statistics_are_those_of_timm() {
    for narrow in narrow() {
        let golden = &narrow.golden;
        let (network, parameters) = narrow.trained();
        let (logits, grads) = gradients(&network, &golden["input"], &golden["probe"], BATCH);
        near(narrow.name, &logits, &golden["trainbn.logits"]);
        if let Some(of_stem) = golden.get("trainbn.grad.conv1.weight") {
            near_gradient("conv1", grads.get(&parameter(&parameters, "conv1.weight")).unwrap(), of_stem);
        }
        for moment in ["running_mean", "running_var"] {
            let found = parameter(&parameters, &format!("bn1.{moment}"));
            near(moment, &found, &golden[&format!("trainbn.{moment}.bn1")]);
        }
        let last = format!("layer4.{}.bn2", narrow.config.layers[3] - 1);
        let found = parameter(&parameters, &format!("{last}.running_var"));
        near(&last, &found, &golden["trainbn.running_var.layer4"]);
    }
}

#[test]
fn the_pool_after_the_stem_is_that_of_timm() {
    let Some(folder) = goldens() else { return };
    let golden = tensors(&folder.join("narrow_basic.golden.safetensors"));
    // The first stage of a network whose blocks add nothing is the pool itself.
    let mut weights = tensors(&folder.join("narrow_basic.model.safetensors"));
    let stem = weights["conv1.weight"].clone();
    let input = golden["input"].narrow(0, 0, 1).unwrap();
    let conv = mmsense::model::ops::conv2d(&input, &stem, 2, 3).unwrap();
    let part = |weights: &mut HashMap<String, Tensor>, name: &str| {
        weights.remove(&format!("bn1.{name}")).unwrap().reshape((1, 64, 1, 1)).unwrap()
    };
    let deviation = (part(&mut weights, "running_var") + 1e-5).unwrap().sqrt().unwrap();
    let y = conv.broadcast_sub(&part(&mut weights, "running_mean")).unwrap();
    let y = y.broadcast_div(&deviation).unwrap().broadcast_mul(&part(&mut weights, "weight")).unwrap();
    let y = y.broadcast_add(&part(&mut weights, "bias")).unwrap().relu().unwrap();
    let pooled = mmsense::model::ops::max_pool(&y, 3, 2, 1).unwrap();
    let golden = &golden["maxpool.sample0"];
    let pooled = pooled.squeeze(0).unwrap().narrow(0, 0, golden.dim(0).unwrap()).unwrap();
    near("maxpool.sample0", &pooled, golden);
}

/// The weights that the golden was made with: a hash of name and place.
fn made_weight(name: &str, shape: &[usize], key: u64) -> Vec<f32> {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let fan_in: usize = shape.iter().skip(1).product();
    (0..shape.iter().product::<usize>() as u64)
        .map(|index| {
            let mut x = (hash ^ key).wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            x ^= x >> 31;
            let u = (x >> 40) as f64 / f64::from(1 << 24) - 0.5;
            let number = if name.ends_with("running_var") || (shape.len() == 1 && name.ends_with("weight")) {
                1.0 + 0.5 * u
            } else if shape.len() == 1 {
                0.25 * u
            } else {
                u * 2.0 * 3f64.sqrt() * (2.0 / fan_in as f64).sqrt()
            };
            number as f32
        })
        .collect()
}

/// All tensors of a ResNet-18 with 10 classes.
fn made_weights() -> HashMap<String, Tensor> {
    let mut made = HashMap::new();
    let mut make = |name: String, shape: &[usize]| {
        let tensor = Tensor::from_vec(made_weight(&name, shape, 0x5eed_0001), shape, &Device::Cpu).unwrap();
        made.insert(name, tensor);
    };
    let mut layer = |conv: &str, norm: &str, shape: [usize; 4]| {
        make(format!("{conv}.weight"), &shape);
        for part in ["weight", "bias", "running_mean", "running_var"] {
            make(format!("{norm}.{part}"), &shape[..1]);
        }
    };
    layer("conv1", "bn1", [64, 3, 7, 7]);
    let mut inputs = 64;
    for (stage, outputs) in [64, 128, 256, 512].into_iter().enumerate() {
        for block in 0..2 {
            let at = format!("layer{}.{block}", stage + 1);
            layer(&format!("{at}.conv1"), &format!("{at}.bn1"), [outputs, inputs, 3, 3]);
            layer(&format!("{at}.conv2"), &format!("{at}.bn2"), [outputs, outputs, 3, 3]);
            if inputs != outputs {
                layer(&format!("{at}.downsample.0"), &format!("{at}.downsample.1"), [outputs, inputs, 1, 1]);
            }
            inputs = outputs;
        }
    }
    let fc = made_weight("fc.weight", &[10, 512], 0x5eed_0001);
    made.insert("fc.weight".to_owned(), Tensor::from_vec(fc, (10, 512), &Device::Cpu).unwrap());
    let fc = made_weight("fc.bias", &[10], 0x5eed_0001);
    made.insert("fc.bias".to_owned(), Tensor::from_vec(fc, 10, &Device::Cpu).unwrap());
    made
}

#[test]
fn the_whole_resnet_18_is_that_of_torchvision() {
    let Some(folder) = goldens() else { return };
    let golden = tensors(&folder.join("resnet18_full.safetensors"));
    let made = made_weights();
    assert_eq!(
        made["conv1.weight"].flatten_all().unwrap().narrow(0, 0, 16).unwrap().to_vec1::<f32>().unwrap(),
        golden["sample.conv1.weight.first16"].to_vec1::<f32>().unwrap()
    );
    let vb = VarBuilder::from_tensors(made, DType::F32, &Device::Cpu);
    let network = Classifier::load(&ResNetConfig::RESNET_18, 10, &vb).unwrap();
    let map = network.network().forward(&golden["input"], Mode::Infer).unwrap();
    for (name, found) in [
        ("features", map.mean((2, 3)).unwrap()),
        ("logits", network.logits(&golden["input"], Mode::Infer).unwrap()),
    ] {
        let (apart, scale) = (apart(&found, &golden[name]), largest(&golden[name]));
        eprintln!("{name}: {:.1e} of the largest", apart / scale);
        assert!(apart <= 1e-5 * scale, "{name}: {apart} of {scale}");
    }
}

/// A small network with images that are not square.
fn small() -> (ResNetConfig, Tensor) {
    let config =
        ResNetConfig { stem: 16, channels: [16, 20, 32, 40], layers: [1, 2, 1, 1], bottleneck: false };
    let images: Vec<f32> = (0..2 * 3 * 61 * 45).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect();
    (config, Tensor::from_vec(images, (2, 3, 61, 45), &Device::Cpu).unwrap())
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let (config, images) = small();
    let (vb, parameters) = Parameters::watch(fresh_weights(5, &Device::Cpu), |_| true);
    let trained = ResNet::load(&config, &vb).unwrap();
    let fixed = ResNet::load(&config, &fresh_weights(5, &Device::Cpu)).unwrap();
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let infer = fixed.forward(&images, Mode::Infer).unwrap();
            let map = trained.forward(&images, RUNNING).unwrap();
            let grads = map.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let mut found = infer.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            for (_, var) in parameters.trained() {
                found.extend(grads.get(&var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap());
            }
            found.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
        })
    };
    let alone = with(1);
    assert_eq!(alone, with(2));
    assert_eq!(alone, with(5));
}

#[test]
fn buffers_left_over_from_other_images_do_not_show() {
    let (config, images) = small();
    let network = ResNet::load(&config, &fresh_weights(5, &Device::Cpu)).unwrap();
    let first = network.forward(&images, Mode::Infer).unwrap();
    let one = images.narrow(0, 1, 1).unwrap().narrow(2, 3, 40).unwrap();
    let small = network.forward(&one, Mode::Infer).unwrap();
    network.forward(&(&images * 3.0).unwrap(), Mode::Infer).unwrap();
    assert_eq!(apart(&first, &network.forward(&images, Mode::Infer).unwrap()), 0.0);
    assert_eq!(apart(&small, &network.forward(&one, Mode::Infer).unwrap()), 0.0);
}

#[test]
fn gradients_in_f64_are_the_differences() {
    let (config, images) = small();
    let images = images.narrow(0, 0, 1).unwrap().to_dtype(DType::F64).unwrap();
    let source = fresh_weights(5, &Device::Cpu);
    for (statistics, tolerance) in [(Statistics::Running, 1e-5), (Statistics::Batch, 1e-5)] {
        let mode = Mode::Train { seed: 0, statistics };
        let (vb, parameters) = Parameters::watch(source.clone().set_dtype(DType::F64), |_| true);
        let network = ResNet::load(&config, &vb).unwrap();
        let loss = || network.forward(&images, mode).unwrap().sqr().unwrap().mean_all().unwrap();
        let grads = loss().backward().unwrap();
        for name in ["conv1.weight", "bn1.weight", "layer2.0.downsample.0.weight", "layer4.0.bn2.bias"] {
            let var = parameter(&parameters, name);
            let gradient = grads.get(&var).unwrap();
            // Along the gradient itself.
            let norm = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
            let direction = (gradient / norm).unwrap();
            let start = var.as_tensor().copy().unwrap();
            let at = |step: f64| {
                var.set(&(&start + (&direction * step).unwrap()).unwrap()).unwrap();
                loss().to_scalar::<f64>().unwrap()
            };
            let step = 1e-6;
            let slope = (at(step) - at(-step)) / (2.0 * step);
            var.set(&start).unwrap();
            assert!((slope - norm).abs() <= tolerance * norm, "{name}: {slope} for {norm}");
        }
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let (config, images) = small();
    let network = ResNet::load(&config, &fresh_weights(5, &Device::Cpu)).unwrap();
    let grey = images.narrow(1, 0, 1).unwrap();
    let error = network.forward(&grey, Mode::Infer).unwrap_err().to_string();
    assert!(error.contains("[2, 1, 61, 45]"), "{error}");
    let (vb, _) = Parameters::watch(fresh_weights(5, &Device::Cpu), |_| true);
    let trained = ResNet::load(&config, &vb).unwrap();
    assert!(trained.forward(&grey, RUNNING).is_err());
    let pixel = images.narrow(0, 0, 1).unwrap().narrow(2, 0, 1).unwrap().narrow(3, 0, 1).unwrap();
    let error = trained.forward(&pixel, BATCH).unwrap_err().to_string();
    assert!(error.contains("batch statistics: found 1 row"), "{error}");
}
