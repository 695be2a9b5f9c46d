//! Each loss: its gradient, its extremes, its rows without labels.

use candle_core::{DType, Device, Tensor, Var};
use mmsense::train::losses::{
    Interval, binary_cross_entropy, blocked_within, cross_entropy, hazard_loss, intervals, joint_distance,
    mean_squared_error,
};
use proptest::prelude::*;

use crate::support::{check_gradient, numbers};

fn tensor(shape: &[usize], seed: u64, range: f64) -> Tensor {
    let count = shape.iter().product();
    Tensor::from_vec(numbers(count, seed, range), shape, &Device::Cpu).unwrap()
}

fn scalar(tensor: &Tensor) -> f64 {
    tensor.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

#[test]
fn cross_entropy_has_the_gradient_of_its_labelled_rows() {
    let labels = [Some(0), None, Some(4), Some(2)];
    check_gradient(&tensor(&[4, 5], 1, 8.0), |x| cross_entropy(x, &labels).unwrap().unwrap());
}

#[test]
fn rows_without_a_label_do_not_count() {
    let x = tensor(&[3, 5], 2, 5.0);
    let some = cross_entropy(&x, &[Some(1), None, Some(3)]).unwrap().unwrap();
    let kept = Tensor::cat(&[x.narrow(0, 0, 1).unwrap(), x.narrow(0, 2, 1).unwrap()], 0).unwrap();
    let alone = cross_entropy(&kept, &[Some(1), Some(3)]).unwrap().unwrap();
    assert_eq!(scalar(&some), scalar(&alone));
    assert!(cross_entropy(&x, &[None; 3]).unwrap().is_none());
}

#[test]
fn cross_entropy_is_finite_at_large_scores_and_names_a_wrong_label() {
    let x = Var::from_tensor(&Tensor::new(&[[1e4f32, -1e4, 0.0]], &Device::Cpu).unwrap()).unwrap();
    let loss = cross_entropy(&x, &[Some(1)]).unwrap().unwrap();
    assert!((scalar(&loss) - 2e4).abs() < 1.0);
    let gradient = loss.backward().unwrap().get(&x).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(gradient, [[1.0, -1.0, 0.0]]);
    let error = cross_entropy(&x, &[Some(3)]).unwrap_err().to_string();
    assert!(error.starts_with("cross entropy: found label 3, allowed are 0 to 2"), "{error}");
    let error = cross_entropy(&x, &[]).unwrap_err().to_string();
    assert!(error.starts_with("cross entropy: found 0 labels, allowed are 1"), "{error}");
}

#[test]
fn binary_cross_entropy_has_its_gradient() {
    let targets = Tensor::new(&[1.0f64, 0.0, 0.3, 1.0, 0.0, 1.0], &Device::Cpu).unwrap();
    for weight in [1.0, 4.0] {
        check_gradient(&tensor(&[6], 3, 6.0), |x| binary_cross_entropy(x, &targets, weight).unwrap());
    }
}

#[test]
fn it_stays_finite_at_scores_of_120() {
    let x =
        Var::from_tensor(&Tensor::new(&[120f32, -120.0, 120.0, -120.0, 0.0], &Device::Cpu).unwrap()).unwrap();
    let targets = Tensor::new(&[0f32, 1.0, 1.0, 0.0, 1.0], &Device::Cpu).unwrap();
    let loss = binary_cross_entropy(&x, &targets, 1.0).unwrap();
    assert!((scalar(&loss) - (240.0 + 2f64.ln()) / 5.0).abs() < 1e-5);
    let gradient = loss.backward().unwrap().get(&x).unwrap().to_vec1::<f32>().unwrap();
    for (found, expected) in gradient.iter().zip([0.2, -0.2, 0.0, 0.0, -0.1]) {
        assert!((found - expected).abs() < 1e-7, "{gradient:?}");
    }
}

#[test]
fn labels_of_horizons_become_intervals() {
    use Interval::{Among, Blocked, Clear, Uncounted};
    let (yes, no) = (Some(true), Some(false));
    for (labels, expected) in [
        ([no, no, no, no], [Clear, Clear, Clear, Clear]),
        ([yes, yes, yes, yes], [Blocked, Uncounted, Uncounted, Uncounted]),
        ([no, no, yes, yes], [Clear, Clear, Blocked, Uncounted]),
        // Clear within the third horizon is clear within the shorter ones.
        ([None, None, no, None], [Clear, Clear, Clear, Uncounted]),
        // It came in the second or the third interval.
        ([no, None, yes, yes], [Clear, Among, Among, Uncounted]),
        ([None, yes, yes, None], [Among, Among, Uncounted, Uncounted]),
        ([None; 4], [Uncounted; 4]),
    ] {
        assert_eq!(intervals(&labels).unwrap(), expected, "{labels:?}");
    }
    let error = intervals(&[yes, None, no]).unwrap_err();
    assert_eq!((error.earlier, error.later), (0, 2));
}

#[test]
fn the_hazard_loss_is_the_likelihood_of_the_interval() {
    let x = [0.3, -0.7, 1.1];
    let scores = Tensor::new(&[x; 3], &Device::Cpu).unwrap();
    let hazard = x.map(|x: f64| 1.0 / (1.0 + (-x).exp()));
    let rows = [
        intervals(&[Some(false), Some(true), Some(true)]).unwrap(),
        intervals(&[Some(false), Some(false), None]).unwrap(),
        // Does not count, not even in the mean.
        intervals(&[None, None, None]).unwrap(),
    ];
    let blocked_in_second = -(hazard[1].ln() + (1.0 - hazard[0]).ln());
    let clear_up_to_second = -((1.0 - hazard[0]).ln() + (1.0 - hazard[1]).ln());
    let found = hazard_loss(&scores, &rows, 1.0).unwrap().unwrap();
    assert!((scalar(&found) - (blocked_in_second + clear_up_to_second) / 2.0).abs() < 1e-12);
    check_gradient(&tensor(&[3, 3], 4, 3.0), |x| hazard_loss(x, &rows, 2.0).unwrap().unwrap());
    assert!(
        hazard_loss(&scores.narrow(0, 0, 1).unwrap(), &[vec![Interval::Uncounted; 3]], 1.0)
            .unwrap()
            .is_none()
    );
    assert!(hazard_loss(&scores, &rows[..2], 1.0).is_err());
}

#[test]
fn a_blockage_between_two_looks_came_in_one_of_the_intervals() {
    let x = [0.3, -0.7, 1.1];
    let scores = Tensor::new(&[x; 2], &Device::Cpu).unwrap();
    let clear = x.map(|x: f64| 1.0 / (1.0 + x.exp()));
    let rows = [
        intervals(&[Some(false), None, Some(true)]).unwrap(),
        intervals(&[None, Some(true), Some(true)]).unwrap(),
    ];
    let second_or_third = -((1.0 - clear[1] * clear[2]).ln() + clear[0].ln());
    let first_or_second = -(1.0 - clear[0] * clear[1]).ln();
    let found = hazard_loss(&scores, &rows, 1.0).unwrap().unwrap();
    assert!((scalar(&found) - (second_or_third + first_or_second) / 2.0).abs() < 1e-5);
    check_gradient(&tensor(&[2, 3], 4, 3.0), |x| hazard_loss(x, &rows, 2.0).unwrap().unwrap());
    // Sure that nothing comes, and wrong: finite, in single precision too.
    let sure = Tensor::new(&[[-60f32; 3]; 2], &Device::Cpu).unwrap();
    let found = hazard_loss(&sure, &rows, 1.0).unwrap().unwrap().to_scalar::<f32>().unwrap();
    assert!(found.is_finite() && found > 10.0, "{found}");
}

#[test]
fn the_hazard_loss_tells_the_true_chances() {
    // Of eight rows one is blocked in the first interval, two in the second, five are clear: at the optimum
    // P(blocked within) is 1/8 and 3/8.
    let rows: Vec<Vec<Interval>> =
        [(1, [Some(true), Some(true)]), (2, [Some(false), Some(true)]), (5, [Some(false); 2])]
            .into_iter()
            .flat_map(|(count, labels)| std::iter::repeat_n(intervals(&labels).unwrap(), count))
            .collect();
    let mut x = Tensor::zeros((1, 2), DType::F64, &Device::Cpu).unwrap();
    for _ in 0..2000 {
        let var = Var::from_tensor(&x).unwrap();
        let scores = var.as_tensor().repeat((8, 1)).unwrap();
        let gradients = hazard_loss(&scores, &rows, 1.0).unwrap().unwrap().backward().unwrap();
        x = (&x - gradients.get(&var).unwrap()).unwrap().detach();
    }
    let found = blocked_within(&x).unwrap().to_vec2::<f64>().unwrap();
    assert!((found[0][0] - 0.125).abs() < 1e-6 && (found[0][1] - 0.375).abs() < 1e-6, "{found:?}");
}

#[test]
fn distances_have_their_gradient_where_they_are_zero_too() {
    let truth = tensor(&[2, 3, 3], 5, 1.0);
    check_gradient(&tensor(&[2, 3, 3], 6, 1.0), |x| mean_squared_error(x, &truth).unwrap());
    check_gradient(&tensor(&[2, 3, 3], 6, 1.0), |x| joint_distance(x, &truth).unwrap());
    let hit = Var::from_tensor(&truth).unwrap();
    let gradients = joint_distance(&hit, &truth).unwrap().backward().unwrap();
    let gradient = gradients.get(&hit).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    assert!(gradient.iter().all(|x| *x == 0.0), "{gradient:?}");
}

proptest! {
    #[test]
    fn chances_never_fall_with_the_horizon(scores in proptest::collection::vec(-130.0f32..130.0, 12)) {
        let scores = Tensor::from_vec(scores, (3, 4), &Device::Cpu).unwrap();
        for row in blocked_within(&scores).unwrap().to_vec2::<f32>().unwrap() {
            prop_assert!(row.iter().all(|chance| (0.0..=1.0).contains(chance)), "{:?}", row);
            prop_assert!(row.windows(2).all(|pair| pair[0] <= pair[1]), "{:?}", row);
        }
    }
}
