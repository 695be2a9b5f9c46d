//! AdamW and clipping.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use mmsense::train::TrainError;
use mmsense::train::clip::{clip_grad_norm, factor, grad_norm};
use mmsense::train::optimiser::{AdamW, AdamWConfig, Factors, Group, Rates, follow};

use crate::support::numbers;

const GROUP: Group = Group { rate: 0.02, weight_decay: 0.1 };

fn tensor(shape: &[usize], seed: u64, dtype: DType) -> Tensor {
    let count = shape.iter().product();
    let tensor = Tensor::from_vec(numbers(count, seed, 1.0), shape, &Device::Cpu).unwrap();
    tensor.to_dtype(dtype).unwrap()
}

fn named(dtype: DType) -> Vec<(String, Var)> {
    // The second is longer than one chunk of the fused pass, the third has a rank of its own.
    [("a", vec![3, 4]), ("b", vec![40_001]), ("c", vec![1])]
        .into_iter()
        .zip(1..)
        .map(|((name, shape), seed)| {
            (name.to_owned(), Var::from_tensor(&tensor(&shape, seed, dtype)).unwrap())
        })
        .collect()
}

/// `b` has none in every third step.
fn gradients(named: &[(String, Var)], step: u64, dtype: DType) -> GradStore {
    let mut gradients = GradStore::default();
    for (index, (name, var)) in (0u64..).zip(named) {
        if name != "b" || !step.is_multiple_of(3) {
            gradients.insert(var, tensor(var.dims(), 100 + 10 * step + index, dtype));
        }
    }
    gradients
}

fn values(named: &[(String, Var)]) -> Vec<Vec<f64>> {
    let flat = |(_, var): &(String, Var)| {
        var.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    };
    named.iter().map(flat).collect()
}

#[test]
fn steps_are_those_of_the_formula() {
    let named = named(DType::F64);
    let config = AdamWConfig { beta1: 0.8, beta2: 0.95, eps: 1e-6 };
    let mut optimiser = AdamW::new(named.clone(), config, |_, _| GROUP);
    let mut plain = values(&named);
    let mut moments: Vec<(i32, Vec<f64>, Vec<f64>)> =
        plain.iter().map(|w| (0, vec![0.0; w.len()], vec![0.0; w.len()])).collect();
    for step in 0..7 {
        let gradients = gradients(&named, step, DType::F64);
        optimiser.step(&gradients, Factors { rate: 0.5, gradient: 0.3 }).unwrap();
        for (index, (_, var)) in named.iter().enumerate() {
            let Some(gradient) = gradients.get(var) else { continue };
            let gradient: Vec<f64> = gradient.flatten_all().unwrap().to_vec1().unwrap();
            let (steps, mean, square) = &mut moments[index];
            *steps += 1;
            let rate = GROUP.rate * 0.5;
            for (i, g) in gradient.iter().enumerate() {
                let g = g * 0.3;
                mean[i] = 0.8 * mean[i] + 0.2 * g;
                square[i] = 0.95 * square[i] + 0.05 * g * g;
                let (m, s) =
                    (mean[i] / (1.0 - 0.8f64.powi(*steps)), square[i] / (1.0 - 0.95f64.powi(*steps)));
                let w = &mut plain[index][i];
                *w = *w * (1.0 - rate * GROUP.weight_decay) - rate * m / (s.sqrt() + 1e-6);
            }
        }
        for (found, expected) in values(&named).iter().flatten().zip(plain.iter().flatten()) {
            assert!((found - expected).abs() < 1e-12, "step {step}: {found} instead of {expected}");
        }
    }
}

#[test]
fn a_state_restored_half_way_gives_the_same_steps_to_the_bit() {
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        let whole = named(dtype);
        let mut optimiser = AdamW::new(whole.clone(), AdamWConfig::default(), |_, _| GROUP);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("optimiser.safetensors");
        let mut half = Vec::new();
        for step in 0..8 {
            if step == 1 {
                // `b` has not moved yet.
                optimiser.save(&file).unwrap();
                half = whole
                    .iter()
                    .map(|(name, var)| {
                        (name.clone(), Var::from_tensor(&var.as_tensor().copy().unwrap()).unwrap())
                    })
                    .collect();
            }
            optimiser.step(&gradients(&whole, step, dtype), Factors::default()).unwrap();
        }
        let mut again = AdamW::new(half.clone(), AdamWConfig::default(), |_, _| GROUP);
        again.load(&file).unwrap();
        for step in 1..8 {
            again.step(&gradients(&half, step, dtype), Factors::default()).unwrap();
        }
        assert_ne!(values(&half), values(&named(dtype)), "{dtype:?}: nothing moved");
        assert_eq!(values(&half), values(&whole), "{dtype:?}");
    }
}

#[test]
fn a_parameter_without_gradient_is_left_alone() {
    let named = named(DType::F32);
    let before = values(&named);
    let mut optimiser = AdamW::new(named.clone(), AdamWConfig::default(), |_, _| GROUP);
    optimiser.step(&gradients(&named, 0, DType::F32), Factors::default()).unwrap();
    let after = values(&named);
    assert_eq!(after[1], before[1]);
    assert_ne!(after[0], before[0]);
    let state = optimiser.state().unwrap();
    assert_eq!(state["b.step"].to_vec1::<i64>().unwrap(), [0]);
    assert_eq!(state["a.step"].to_vec1::<i64>().unwrap(), [1]);
    assert!(!state.contains_key("b.exp_avg"));
}

#[test]
fn a_state_of_other_parameters_is_refused_by_name_and_changes_nothing() {
    let named = named(DType::F32);
    let mut optimiser = AdamW::new(named.clone(), AdamWConfig::default(), |_, _| GROUP);
    optimiser.step(&gradients(&named, 1, DType::F32), Factors::default()).unwrap();
    let good = optimiser.state().unwrap();
    let refused = |optimiser: &mut AdamW, state: &std::collections::HashMap<String, Tensor>| {
        let error = optimiser.restore(state).unwrap_err();
        assert!(matches!(error, TrainError::State { .. }), "{error:?}");
        error.to_string()
    };
    let mut state = good.clone();
    state.remove("a.exp_avg");
    assert_eq!(refused(&mut optimiser, &state), "state: `a.exp_avg` is missing");
    let mut state = good.clone();
    state.insert("z.step".to_owned(), good["a.step"].clone());
    assert_eq!(refused(&mut optimiser, &state), "state: `z.step` belongs to no parameter");
    let mut state = good.clone();
    state.insert("a.exp_avg_sq".to_owned(), Tensor::zeros((4, 3), DType::F32, &Device::Cpu).unwrap());
    assert_eq!(
        refused(&mut optimiser, &state),
        "state: `a.exp_avg_sq`: found F32 [4, 3], allowed is F32 [3, 4]"
    );
    let mut state = good.clone();
    state.insert("a.step".to_owned(), Tensor::new(&[-1i64], &Device::Cpu).unwrap());
    assert_eq!(refused(&mut optimiser, &state), "state: `a.step`: found -1, allowed are 0 and more");
    let error = optimiser.load(std::path::Path::new("nowhere.safetensors")).unwrap_err().to_string();
    assert!(error.starts_with("state nowhere.safetensors: "), "{error}");
    // Still what it was.
    let same = optimiser.state().unwrap();
    assert_eq!(same["a.step"].to_vec1::<i64>().unwrap(), good["a.step"].to_vec1::<i64>().unwrap());
    optimiser.restore(&good).unwrap();
}

#[test]
fn a_gradient_of_another_shape_moves_nothing() {
    let named = named(DType::F32);
    let before = values(&named);
    let mut optimiser = AdamW::new(named.clone(), AdamWConfig::default(), |_, _| GROUP);
    let mut gradients = gradients(&named, 1, DType::F32);
    gradients.insert(&named[2].1, tensor(&[2], 1, DType::F32));
    let error = optimiser.step(&gradients, Factors::default()).unwrap_err();
    assert_eq!(error.to_string(), "gradient of `c`: found shape [2], allowed is [1]");
    assert_eq!(values(&named), before);
}

#[test]
fn groups_go_by_name_and_rank() {
    let rates = Rates::default();
    let var = |shape: &[usize]| Var::from_tensor(&tensor(shape, 1, DType::F32)).unwrap();
    let of = |name: &str, shape: &[usize]| rates.group(name, &var(shape));
    assert_eq!(of("q_proj.lora_A.weight", &[4, 8]), Group { rate: 1e-4, weight_decay: 0.01 });
    assert_eq!(of("heads.beam.weight", &[8, 4]), Group { rate: 3e-4, weight_decay: 0.01 });
    for name in ["heads.beam.bias", "norm.weight", "layers.3.cross_attn_attn_gate", "uncertainty.beam"] {
        assert_eq!(of(name, &[1]), Group { rate: 3e-4, weight_decay: 0.0 });
    }
}

#[test]
fn clipping_shortens_to_the_length_and_no_further() {
    for dtype in [DType::F32, DType::F64, DType::BF16] {
        let named = named(dtype);
        let mut gradients = gradients(&named, 1, dtype);
        let squares: f64 = named
            .iter()
            .map(|(_, var)| gradients.get(var).unwrap().to_dtype(DType::F64).unwrap())
            .map(|gradient| gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap())
            .sum();
        let norm = clip_grad_norm(&named, &mut gradients, 2.0).unwrap();
        assert!((norm - squares.sqrt()).abs() < 1e-6 * norm, "{norm} {}", squares.sqrt());
        let after = grad_norm(&named, &gradients).unwrap();
        let rounding = if dtype == DType::BF16 { 1e-2 } else { 1e-5 };
        assert!((after - 2.0).abs() < 2.0 * rounding, "{dtype:?}: {after}");
        assert_eq!(clip_grad_norm(&named, &mut gradients, 5.0).unwrap(), after);
        assert_eq!(grad_norm(&named, &gradients).unwrap(), after);
    }
    assert_eq!(factor(0.5, 1.0), 1.0);
    assert_eq!(grad_norm(&named(DType::F32), &GradStore::default()).unwrap(), 0.0);
}

#[test]
fn a_gradient_that_is_not_finite_is_named_and_nothing_is_changed() {
    let named = named(DType::F32);
    let mut gradients = gradients(&named, 1, DType::F32);
    gradients.insert(&named[2].1, Tensor::new(&[f32::NAN], &Device::Cpu).unwrap());
    let error = clip_grad_norm(&named, &mut gradients, 0.1).unwrap_err();
    assert_eq!(error.to_string(), "gradient of `c`: found a number that is not finite");
    let first = gradients.get(&named[0].1).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(first, tensor(&[3, 4], 110, DType::F32).to_vec2::<f32>().unwrap());
}

#[test]
fn a_running_mean_moves_in_place_as_it_would_by_tensors() {
    for dtype in [DType::F32, DType::F64, DType::F16] {
        let weight = tensor(&[130, 257], 1, dtype);
        let (mut mean, before) = (tensor(&[130, 257], 2, dtype), weight.copy().unwrap());
        for keep in [0.99, 0.0, 0.5] {
            let expected = ((&mean * keep).unwrap() + (&weight * (1.0 - keep)).unwrap()).unwrap();
            follow(&mut mean, &weight, keep).unwrap();
            let bits = |tensor: &Tensor| {
                let wide = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
                wide.to_vec1::<f64>().unwrap().into_iter().map(f64::to_bits).collect::<Vec<_>>()
            };
            assert_eq!(bits(&mean), bits(&expected), "{dtype:?} {keep}");
            assert_eq!(bits(&weight), bits(&before));
        }
    }
    let mut mean = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
    assert!(follow(&mut mean, &Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap(), 0.9).is_err());
}
