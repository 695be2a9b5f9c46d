//! Gate and cross-modal attention.

use candle_core::{Device, Tensor};
use mmsense::model::fusion::{Fusion, Tokens};
use mmsense::model::gate::Gate;
use mmsense::model::seeded::fresh_weights;
use mmsense::model::tasks::TokenShape;

fn random(name: &str, shape: &[usize]) -> Tensor {
    let init = candle_nn::Init::Randn { mean: 0.0, stdev: 1.0 };
    fresh_weights(5, &Device::Cpu).get_with_hints(shape, name, init).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn weights_sum_to_one_and_a_missing_modality_has_none() {
    let gate = Gate::load(3, 8, &fresh_weights(1, &Device::Cpu)).unwrap();
    let means = random("means", &[3, 3, 8]);
    let ages = Tensor::zeros((3, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
    let present = Tensor::new(&[[1f32, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]], &Device::Cpu).unwrap();
    let weights = gate.forward(&means, &ages, &present).unwrap().to_vec2::<f32>().unwrap();
    for row in &weights[..2] {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{row:?}");
    }
    assert_eq!(weights[1][1], 0.0);
    assert_eq!(weights[2], [0.0; 3]);
}

#[test]
fn the_gate_sees_ages_but_not_what_is_missing() {
    let gate = Gate::load(2, 4, &fresh_weights(1, &Device::Cpu)).unwrap();
    let weigh = |means: &Tensor, ages: [[f32; 2]; 1], present: [[f32; 2]; 1]| {
        let new = |rows| Tensor::new(&rows, &Device::Cpu).unwrap();
        numbers(&gate.forward(means, &new(ages), &new(present)).unwrap())
    };
    let means = random("means", &[1, 2, 4]);
    assert_ne!(weigh(&means, [[0.0, 0.0]], [[1.0, 1.0]]), weigh(&means, [[0.0, 1.0]], [[1.0, 1.0]]));
    let other = Tensor::cat(&[&means.narrow(1, 0, 1).unwrap(), &random("other", &[1, 1, 4])], 1).unwrap();
    assert_eq!(weigh(&means, [[0.0, 9.0]], [[1.0, 0.0]]), weigh(&other, [[0.0, 0.0]], [[1.0, 0.0]]));
}

fn tokens(values: Tensor, mask: [[[[f32; 2]; 2]; 1]; 1]) -> Tokens {
    let mask = Tensor::new(&mask, &Device::Cpu).unwrap();
    let ages = Tensor::zeros((1, 1, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
    Tokens { values, mask, ages, reports: None }
}

/// Of two tokens each: the first modality's are in an order.
fn fusion(heads: usize) -> Fusion {
    let shape = TokenShape { slots: 1, modalities: 2, tokens: 2, width: 8 };
    Fusion::load(shape, &[true, false], heads, &fresh_weights(2, &Device::Cpu)).unwrap()
}

#[test]
fn tokens_in_an_order_are_told_apart_by_their_places_and_points_are_not() {
    let fusion = fusion(2);
    let weights = Tensor::new(&[[[0.5f32, 0.5]]], &Device::Cpu).unwrap();
    let z = random("z", &[1, 1, 2, 2, 8]);
    // What the other modality's first token makes of it.
    let seen = |turned: usize| {
        let own = z.narrow(2, turned, 1).unwrap();
        let other = z.narrow(2, 1 - turned, 1).unwrap();
        let own = Tensor::cat(&[&own.narrow(3, 1, 1).unwrap(), &own.narrow(3, 0, 1).unwrap()], 3).unwrap();
        let parts = if turned == 0 { [&own, &other] } else { [&other, &own] };
        let all = tokens(Tensor::cat(&parts, 2).unwrap(), [[[[1.0; 2]; 2]]]);
        let (fused, _) = fusion.forward(&all, &weights).unwrap();
        fused.narrow(1, 2 * (1 - turned), 1).unwrap()
    };
    let (plain, _) = fusion.forward(&tokens(z.clone(), [[[[1.0; 2]; 2]]]), &weights).unwrap();
    let apart = |fused: Tensor, at: usize| {
        let plain = numbers(&plain.narrow(1, at, 1).unwrap());
        plain.iter().zip(numbers(&fused)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(apart(seen(0), 2) > 1e-3 && apart(seen(1), 0) < 1e-6);
}

#[test]
fn changing_one_gate_weight_alone_changes_the_attention() {
    let fusion = fusion(2);
    let fuse = |weights: [f32; 2]| {
        let weights = Tensor::new(&[[weights]], &Device::Cpu).unwrap();
        let (fused, _) =
            fusion.forward(&tokens(random("z", &[1, 1, 2, 2, 8]), [[[[1.0; 2]; 2]]]), &weights).unwrap();
        numbers(&fused.narrow(1, 0, 2).unwrap())
    };
    // Tokens of the first modality, whose own weight stays.
    assert_ne!(fuse([0.5, 0.5]), fuse([0.5, 0.25]));
}

#[test]
fn masked_tokens_are_not_looked_at() {
    let fusion = fusion(1);
    let fuse = |values: Tensor| {
        let weights = Tensor::new(&[[[1f32, 0.0]]], &Device::Cpu).unwrap();
        let (fused, _) = fusion.forward(&tokens(values, [[[[1.0, 1.0], [0.0, 0.0]]]]), &weights).unwrap();
        numbers(&fused.narrow(1, 0, 2).unwrap())
    };
    let z = random("z", &[1, 1, 2, 2, 8]);
    let other = Tensor::cat(&[&z.narrow(2, 0, 1).unwrap(), &random("other", &[1, 1, 1, 2, 8])], 2).unwrap();
    assert_eq!(fuse(z), fuse(other));
}
