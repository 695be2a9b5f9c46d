//! Eq. 14.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use mmsense::model::parameters::Parameters;
use mmsense::model::tasks::Task;
use mmsense::train::optimiser::{AdamW, AdamWConfig, Factors, Group};
use mmsense::train::uncertainty::{LIMITS, Uncertainty, weighted_sum};

use crate::support::{check_gradient, numbers};

fn one(number: f64) -> Tensor {
    Tensor::new(number, &Device::Cpu).unwrap()
}

#[test]
fn the_gradient_is_that_of_the_formula() {
    let losses = [3.1, 0.02, 1.9];
    let v = Tensor::from_vec(numbers(3, 1, 2.0), 3, &Device::Cpu).unwrap();
    check_gradient(&v, |v| {
        let losses: Vec<Tensor> = losses.iter().map(|&loss| one(loss)).collect();
        let parts: Vec<Tensor> = (0..3).map(|task| v.narrow(0, task, 1).unwrap()).collect();
        weighted_sum(losses.iter().zip(&parts)).unwrap().unwrap()
    });
    // And in the losses: ½ e^{−v} each.
    check_gradient(&one(0.7), |loss| weighted_sum([(loss, &one(-1.3))]).unwrap().unwrap());
    assert!(weighted_sum([]).unwrap().is_none());
}

fn fresh(tasks: &[Task]) -> (Uncertainty, Parameters) {
    let zeros = VarBuilder::zeros(DType::F64, &Device::Cpu);
    let (vb, parameters) = Parameters::watch(zeros, |_| true);
    (Uncertainty::load(tasks, &vb.pp("uncertainty")).unwrap(), parameters)
}

#[test]
fn v_goes_to_the_logarithm_of_the_loss_and_an_absent_task_stays() {
    let (uncertainty, parameters) = fresh(&[Task::Beam, Task::Pose]);
    let group = |_: &str, _: &candle_core::Var| Group { rate: 0.05, weight_decay: 0.0 };
    let mut optimiser = AdamW::new(parameters.trained(), AdamWConfig::default(), group);
    // 47 mm, in m².
    let losses = BTreeMap::from([(Task::Pose, one(0.047 * 0.047))]);
    for _ in 0..1500 {
        let total = uncertainty.joint_loss(&losses).unwrap().unwrap();
        optimiser.step(&total.backward().unwrap(), Factors::default()).unwrap();
        uncertainty.limit().unwrap();
    }
    let v = uncertainty.log_variances().unwrap();
    assert!((v[&Task::Pose] - (0.047f64 * 0.047).ln()).abs() < 1e-2, "{v:?}");
    assert_eq!(v[&Task::Beam], 0.0);
}

#[test]
fn limits_hold_after_a_step_and_let_go_again() {
    let (uncertainty, parameters) = fresh(&[Task::Beam]);
    let (name, var) = parameters.trained().remove(0);
    assert_eq!(name, "uncertainty.beam");
    for (set, limited) in [(-40.0, LIMITS.0), (40.0, LIMITS.1), (1.5, 1.5)] {
        var.set(&Tensor::new(&[set], &Device::Cpu).unwrap()).unwrap();
        uncertainty.limit().unwrap();
        assert_eq!(uncertainty.log_variances().unwrap()[&Task::Beam], limited);
    }
    // At the limit there is a gradient still.
    var.set(&Tensor::new(&[LIMITS.1], &Device::Cpu).unwrap()).unwrap();
    let losses = BTreeMap::from([(Task::Beam, one(1.0))]);
    let gradients = uncertainty.joint_loss(&losses).unwrap().unwrap().backward().unwrap();
    let slope = gradients.get(&var).unwrap().to_vec1::<f64>().unwrap()[0];
    assert!((slope - 0.5 * (1.0 - (-LIMITS.1).exp())).abs() < 1e-12, "{slope}");
}

#[test]
fn a_task_that_it_was_not_loaded_for_is_refused() {
    let (uncertainty, _) = fresh(&[Task::Beam]);
    let error = uncertainty.joint_loss(&BTreeMap::from([(Task::Pose, one(1.0))])).unwrap_err().to_string();
    assert!(error.starts_with("joint loss: found task `pose`, allowed are [\"beam\"]"), "{error}");
    assert!(uncertainty.joint_loss(&BTreeMap::new()).unwrap().is_none());
}
