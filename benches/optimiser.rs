//! One step of AdamW on 11 M parameters, as a ResNet-18 has them, and the norm that clipping goes by.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use criterion::{Criterion, criterion_group};
use mmsense::train::clip::grad_norm;
use mmsense::train::optimiser::{AdamW, AdamWConfig, Factors, Rates};

/// (output, input channels, kernel side) of ResNet-18's convolutions, with how often each occurs.
const CONVOLUTIONS: [(usize, usize, usize, usize); 11] = [
    (64, 3, 7, 1),
    (64, 64, 3, 4),
    (128, 64, 3, 1),
    (128, 128, 3, 3),
    (128, 64, 1, 1),
    (256, 128, 3, 1),
    (256, 256, 3, 3),
    (256, 128, 1, 1),
    (512, 256, 3, 1),
    (512, 512, 3, 3),
    (512, 256, 1, 1),
];

fn parameters() -> (Vec<(String, Var)>, GradStore) {
    let (mut named, mut gradients) = (Vec::new(), GradStore::default());
    let mut add = |shape: &[usize]| {
        let var = Var::from_tensor(&Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()).unwrap();
        gradients.insert(&var, (var.ones_like().unwrap() * 1e-2).unwrap());
        named.push((format!("{}", named.len()), var));
    };
    for (outputs, inputs, side, count) in CONVOLUTIONS {
        for _ in 0..count {
            add(&[outputs, inputs, side, side]);
            add(&[outputs]);
            add(&[outputs]);
        }
    }
    (named, gradients)
}

fn steps(criterion: &mut Criterion) {
    let (named, gradients) = parameters();
    let count: usize = named.iter().map(|(_, var)| var.elem_count()).sum();
    let rates = Rates::default();
    let mut optimiser = AdamW::new(named.clone(), AdamWConfig::default(), |name, var| rates.group(name, var));
    criterion.bench_function(&format!("adamw step, {:.1} M parameters", count as f64 / 1e6), |bench| {
        bench.iter(|| optimiser.step(&gradients, Factors::default()).unwrap());
    });
    criterion.bench_function("norm of their gradients", |bench| {
        bench.iter(|| black_box(grad_norm(&named, &gradients).unwrap()));
    });
}

criterion_group!(benches, steps);

fn main() {
    mmsense::threads::settle();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
