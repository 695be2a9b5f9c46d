//! The kernels of `model::ops` and the ResNet, each beside stock candle in the same run.
//!
//! `tools/yardstick.py` runs this beside PyTorch and ONNX Runtime on the same weights: where `YARDSTICK` names a folder,
//! the ResNet-18 is that of its `resnet18.safetensors`, and `features.safetensors` is written for its `images`.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::VarBuilder;
use criterion::{Criterion, criterion_group, criterion_main};
use mmsense::model::layers::{Mode, Statistics};
use mmsense::model::ops;
use mmsense::model::parameters::Parameters;
use mmsense::model::resnet::{ResNet, ResNetConfig};
use mmsense::model::seeded::fresh_weights;

fn numbers(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| ((i * 7919) % 2003) as f32 / 1001.5 - 1.0).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// What a bench compares.
fn pair(
    criterion: &mut Criterion,
    name: &str,
    mut ours: impl FnMut() -> Result<Tensor>,
    mut stock: impl FnMut() -> Result<Tensor>,
) {
    let mut group = criterion.benchmark_group(name);
    group.bench_function("ours", |bencher| bencher.iter(|| ours().unwrap()));
    group.bench_function("candle", |bencher| bencher.iter(|| stock().unwrap()));
}

fn parts(criterion: &mut Criterion) {
    let (x, weight) = (numbers(&[1, 64, 56, 56]), numbers(&[64, 64, 3, 3]));
    pair(criterion, "conv3x3-64-56", || ops::conv2d(&x, &weight, 1, 1), || x.conv2d(&weight, 1, 1, 1, 1));
    let x = numbers(&[4096, 512]);
    pair(criterion, "gelu-4096x512", || ops::gelu(&x), || x.gelu_erf());
    pair(criterion, "gelu-tanh-4096x512", || ops::gelu_tanh(&x), || x.gelu());
    let (weight, bias) = (numbers(&[512]), numbers(&[512]));
    pair(
        criterion,
        "layer-norm-4096x512",
        || ops::layer_norm(&x, &weight, &bias, 1e-5),
        || candle_nn::ops::layer_norm_slow(&x, &weight, &bias, 1e-5),
    );
    pair(
        criterion,
        "rms-norm-4096x512",
        || ops::rms_norm(&x, &weight, 1e-5),
        || candle_nn::ops::rms_norm_slow(&x, &weight, 1e-5),
    );
    let scores = numbers(&[8, 1024, 1024]);
    pair(
        criterion,
        "softmax-8x1024x1024",
        || ops::softmax_last(&scores),
        || candle_nn::ops::softmax(&scores, D::Minus1),
    );
    let (x, weight, bias) = (numbers(&[64, 512]), numbers(&[512, 512]), numbers(&[512]));
    let turned = weight.t().unwrap().contiguous().unwrap();
    pair(
        criterion,
        "dense-64x512x512",
        || ops::linear(&x, &turned, Some(&bias), true),
        || x.matmul(&weight.t()?)?.broadcast_add(&bias),
    );
}

/// A ResNet of basic blocks as candle alone makes it.
struct Stock {
    /// Weight, and scale and shift `[1, C, 1, 1]` of the norm after it; in the order of the forward pass.
    convs: HashMap<String, (Tensor, Tensor, Tensor)>,
    layers: [usize; 4],
}

impl Stock {
    /// With `folded`, the norm is in the weight, and only its shift is left.
    fn load(config: &ResNetConfig, folded: bool, vb: &VarBuilder<'_>) -> Self {
        let mut convs = HashMap::new();
        let mut load = |conv: String, norm: String, shape: (usize, usize, usize, usize)| {
            let weight = vb.get(shape, &format!("{conv}.weight")).unwrap();
            let part = |name: &str| {
                vb.get(shape.0, &format!("{norm}.{name}")).unwrap().reshape((1, shape.0, 1, 1)).unwrap()
            };
            let (scale, shift) = (part("weight"), part("bias"));
            if folded {
                let deviation = (part("running_var") + 1e-5).unwrap().sqrt().unwrap();
                let scale = (scale / deviation).unwrap();
                let shift = (shift - (part("running_mean") * &scale).unwrap()).unwrap();
                let weight = weight.broadcast_mul(&scale.reshape((shape.0, 1, 1, 1)).unwrap()).unwrap();
                convs.insert(conv, (weight, scale, shift));
            } else {
                convs.insert(conv, (weight, scale, shift));
            }
        };
        load("conv1".into(), "bn1".into(), (config.stem, 3, 7, 7));
        let mut inputs = config.stem;
        for (stage, (&outputs, &layers)) in config.channels.iter().zip(&config.layers).enumerate() {
            for layer in 0..layers {
                let at = format!("layer{}.{layer}", stage + 1);
                load(format!("{at}.conv1"), format!("{at}.bn1"), (outputs, inputs, 3, 3));
                load(format!("{at}.conv2"), format!("{at}.bn2"), (outputs, outputs, 3, 3));
                if inputs != outputs {
                    let shape = (outputs, inputs, 1, 1);
                    load(format!("{at}.downsample.0"), format!("{at}.downsample.1"), shape);
                }
                inputs = outputs;
            }
        }
        Self { convs, layers: config.layers }
    }

    fn conv(&self, name: &str, x: &Tensor, stride: usize, train: bool) -> Result<Tensor> {
        let (weight, scale, shift) = self.convs.get(name).unwrap();
        let y = x.conv2d(weight, weight.dim(3)? / 2, stride, 1, 1)?;
        if !train {
            return y.broadcast_add(shift);
        }
        let mean = y.mean_keepdim((0, 2, 3))?;
        let centred = y.broadcast_sub(&mean)?;
        let deviation = (centred.sqr()?.mean_keepdim((0, 2, 3))? + 1e-5)?.sqrt()?;
        centred.broadcast_mul(&(scale / deviation)?)?.broadcast_add(shift)
    }

    /// In training the pool is of 2 × 2 pixels: candle has no gradient of the right one.
    fn forward(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        let x = self.conv("conv1", images, 2, train)?.relu()?;
        let mut x = if train {
            x.max_pool2d(2)?
        } else {
            x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?.max_pool2d_with_stride(3, 2)?
        };
        for (stage, layers) in self.layers.into_iter().enumerate() {
            for layer in 0..layers {
                let at = format!("layer{}.{layer}", stage + 1);
                let stride = if layer == 0 && stage > 0 { 2 } else { 1 };
                let y = self.conv(&format!("{at}.conv1"), &x, stride, train)?.relu()?;
                let y = self.conv(&format!("{at}.conv2"), &y, 1, train)?;
                let shortcut = format!("{at}.downsample.0");
                x = if self.convs.contains_key(&shortcut) {
                    (y + self.conv(&shortcut, &x, stride, train)?)?.relu()?
                } else {
                    (y + x)?.relu()?
                };
            }
        }
        Ok(x)
    }
}

fn folder() -> Option<PathBuf> {
    std::env::var_os("YARDSTICK").map(PathBuf::from)
}

fn weights(config: &ResNetConfig) -> VarBuilder<'static> {
    match folder() {
        Some(folder) if *config == ResNetConfig::RESNET_18 => {
            let weights = candle_core::safetensors::load(folder.join("resnet18.safetensors"), &Device::Cpu);
            VarBuilder::from_tensors(weights.unwrap(), DType::F32, &Device::Cpu)
        }
        _ => {
            // Named as they are asked for, so that both networks get the same.
            let (vb, parameters) = Parameters::watch(fresh_weights(1, &Device::Cpu), |_| true);
            ResNet::load(config, &vb).unwrap();
            let all = parameters.trained().into_iter().chain(parameters.statistics());
            let all = all.map(|(name, var)| (name, var.as_tensor().copy().unwrap().detach()));
            VarBuilder::from_tensors(all.collect(), DType::F32, &Device::Cpu)
        }
    }
}

fn resnet(criterion: &mut Criterion) {
    for (name, config, side) in [
        ("resnet18-224", ResNetConfig::RESNET_18, 224),
        ("half-resnet18-224", ResNetConfig::HALF_RESNET_18, 224),
        ("half-resnet18-128", ResNetConfig::HALF_RESNET_18, 128),
    ] {
        let images = numbers(&[1, 3, side, side]);
        let ours = ResNet::load(&config, &weights(&config)).unwrap();
        let stock = Stock::load(&config, true, &weights(&config));
        let (found, wanted) =
            (ours.forward(&images, Mode::Infer).unwrap(), stock.forward(&images, false).unwrap());
        let largest = |x: &Tensor| x.abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        let largest = |x: &Tensor| largest(x).to_scalar::<f32>().unwrap();
        assert!(
            largest(&(&found - &wanted).unwrap()) <= 1e-4 * largest(&wanted),
            "{name}: both say the same"
        );
        if let Some(folder) = folder()
            && name == "resnet18-224"
        {
            let images = candle_core::safetensors::load(folder.join("images.safetensors"), &Device::Cpu);
            let features = ours.forward(images.unwrap().get("images").unwrap(), Mode::Infer).unwrap();
            let features = HashMap::from([("features", features.mean((2, 3)).unwrap())]);
            candle_core::safetensors::save(&features, folder.join("features.safetensors")).unwrap();
        }
        pair(criterion, name, || ours.forward(&images, Mode::Infer), || stock.forward(&images, false));
    }
}

/// Forward and backward with batch statistics of eight images of 112 × 112.
fn training(criterion: &mut Criterion) {
    let config = ResNetConfig::RESNET_18;
    let images = numbers(&[8, 3, 112, 112]);
    let (vb, parameters) = Parameters::watch(weights(&config), |_| true);
    let ours = ResNet::load(&config, &vb).unwrap();
    let (stock_vb, stock_parameters) = Parameters::watch(weights(&config), |_| true);
    let stock = Stock::load(&config, false, &stock_vb);
    let mode = Mode::Train { seed: 0, statistics: Statistics::Batch };
    let step = |map: Tensor, parameters: &[(String, Var)]| -> Result<Tensor> {
        let grads = map.mean((2, 3))?.sqr()?.mean_all()?.backward()?;
        let (_, first) = parameters.first().unwrap();
        Ok(grads.get(first).unwrap().clone())
    };
    let (trained, stock_trained) = (parameters.trained(), stock_parameters.trained());
    pair(
        criterion,
        "train-resnet18-112x8",
        || step(ours.forward(&images, mode)?, &trained),
        || step(stock.forward(&images, true)?, &stock_trained),
    );
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(3)).sample_size(20);
    targets = parts, resnet, training
}
criterion_main!(benches);
