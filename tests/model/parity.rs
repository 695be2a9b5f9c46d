//! The image encoder against numbers that torchvision and timm computed on the same weights.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use mmsense::model::resnet::{ResNet, ResNetConfig};

fn goldens(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/parity").join(folder);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there", path.display());
    None
}

fn tensors(path: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn weights(path: &Path) -> VarBuilder<'static> {
    VarBuilder::from_tensors(tensors(path), DType::F32, &Device::Cpu)
}

fn farthest_apart(found: &Tensor, golden: &Tensor) -> f32 {
    assert_eq!(found.dims(), golden.dims());
    let apart = (found - golden).unwrap().abs().unwrap().flatten_all().unwrap();
    apart.max(0).unwrap().to_scalar().unwrap()
}

/// The mean over the feature map, which the golden calls `features`.
fn features(network: &ResNet, input: &Tensor) -> Tensor {
    network.forward(input).unwrap().mean((2, 3)).unwrap()
}

#[test]
fn a_narrow_resnet_is_that_of_timm() {
    let Some(folder) = goldens("resnet") else { return };
    for (name, channels, layers, bottleneck) in [
        ("narrow_basic", [8, 16, 24, 32], [2, 2, 2, 2], false),
        ("narrow_bottleneck", [8, 12, 16, 20], [1, 2, 1, 1], true),
    ] {
        let config = ResNetConfig { stem: 64, channels, layers, bottleneck };
        let vb = weights(&folder.join(format!("{name}.model.safetensors")));
        let network = ResNet::load(&config, &vb).unwrap();
        let golden = tensors(&folder.join(format!("{name}.golden.safetensors")));
        let apart = farthest_apart(&features(&network, &golden["input"]), &golden["features"]);
        assert!(apart <= 5e-5, "{name}: {apart}");
        if let Some(map) = golden.get("layer4") {
            let apart = farthest_apart(&network.forward(&golden["input"]).unwrap(), map);
            assert!(apart <= 5e-5, "{name}: {apart}");
        }
    }
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

#[test]
fn the_whole_resnet_18_is_that_of_torchvision() {
    let Some(folder) = goldens("resnet") else { return };
    let golden = tensors(&folder.join("resnet18_full.safetensors"));
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
    assert_eq!(
        made["conv1.weight"].flatten_all().unwrap().narrow(0, 0, 16).unwrap().to_vec1::<f32>().unwrap(),
        golden["sample.conv1.weight.first16"].to_vec1::<f32>().unwrap()
    );
    let vb = VarBuilder::from_tensors(made, DType::F32, &Device::Cpu);
    let network = ResNet::load(&ResNetConfig::RESNET_18, &vb).unwrap();
    let apart = farthest_apart(&features(&network, &golden["input"]), &golden["features"]);
    let largest: f32 =
        golden["features"].abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap();
    assert!(apart <= 1e-5 * largest, "{apart} of {largest}");
}
