//! The fast kernels against candle's own parts, forwards and backwards, and those against differences in f64.

use candle_core::{D, DType, Device, Tensor, Var};
use mmsense::model::ops;

/// Numbers in [−1, 1), of a fixed sequence.
fn numbers(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed;
    let count = shape.iter().product();
    let draw = (0..count).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    });
    Tensor::from_vec(draw.collect::<Vec<f32>>(), shape, &Device::Cpu).unwrap()
}

fn largest(x: &Tensor) -> f64 {
    x.to_dtype(DType::F64).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

type Op<'a> = &'a dyn Fn(&[Tensor]) -> Tensor;

/// y of the inputs, and the gradients of Σ y · probe, all in the type.
fn run(op: Op<'_>, inputs: &[Tensor], dtype: DType) -> (Tensor, Vec<Tensor>) {
    let vars: Vec<Var> =
        inputs.iter().map(|input| Var::from_tensor(&input.to_dtype(dtype).unwrap()).unwrap()).collect();
    let args: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let y = op(&args);
    let probe = numbers(y.dims(), 77).to_dtype(dtype).unwrap();
    let grads = (&y * probe).unwrap().sum_all().unwrap().backward().unwrap();
    (y, vars.iter().map(|var| grads.get(var).unwrap().clone()).collect())
}

/// The kernels (f32) against the composition (f64), and that against differences.
fn check(what: &str, op: Op<'_>, inputs: &[Tensor], tolerance: f64) {
    let (fast, fast_grads) = run(op, inputs, DType::F32);
    let (slow, slow_grads) = run(op, inputs, DType::F64);
    let apart = |left: &Tensor, right: &Tensor| {
        assert_eq!(left.dims(), right.dims(), "{what}");
        largest(&(left.to_dtype(DType::F64).unwrap() - right).unwrap()) / largest(right).max(1e-3)
    };
    assert!(apart(&fast, &slow) <= tolerance, "{what}: {} apart", apart(&fast, &slow));
    for (index, (fast, slow)) in fast_grads.iter().zip(&slow_grads).enumerate() {
        assert!(apart(fast, slow) <= tolerance, "{what}, gradient {index}: {} apart", apart(fast, slow));
    }
    // Σ y · probe along a direction.
    let probe = numbers(slow.dims(), 77).to_dtype(DType::F64).unwrap();
    for (index, gradient) in slow_grads.iter().enumerate() {
        let direction = numbers(gradient.dims(), 99).to_dtype(DType::F64).unwrap();
        let at = |step: f64| -> f64 {
            let args: Vec<Tensor> = inputs
                .iter()
                .enumerate()
                .map(|(place, input)| {
                    let input = input.to_dtype(DType::F64).unwrap();
                    if place == index { (input + (&direction * step).unwrap()).unwrap() } else { input }
                })
                .collect();
            (op(&args) * &probe).unwrap().sum_all().unwrap().to_scalar().unwrap()
        };
        let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
        let expected: f64 = (gradient * &direction).unwrap().sum_all().unwrap().to_scalar().unwrap();
        assert!(
            (slope - expected).abs() <= 1e-5 * expected.abs().max(1.0),
            "{what} {index}: {slope} {expected}"
        );
    }
}

#[test]
fn convolutions_agree_with_candle_and_with_differences() {
    // (B, C, H, W, O, taps, stride, padding)
    for (b, c, h, w, o, taps, stride, padding) in [
        (2, 3, 13, 18, 20, (7, 7), 2, 3),
        (1, 16, 9, 7, 32, (3, 3), 1, 1),
        (2, 21, 10, 15, 5, (3, 3), 2, 1),
        (1, 40, 7, 6, 48, (1, 1), 2, 0),
        (3, 18, 5, 4, 17, (1, 1), 1, 0),
        (1, 2, 6, 9, 3, (3, 5), 1, 0),
        (1, 4, 8, 8, 4, (2, 2), 2, 0),
        (1, 17, 4, 4, 2, (3, 3), 1, 2),
        (1, 3, 9, 9, 16, (3, 3), 3, 1),
    ] {
        let inputs = [numbers(&[b, c, h, w], 1), numbers(&[o, c, taps.0, taps.1], 2)];
        let op = |args: &[Tensor]| ops::conv2d(&args[0], &args[1], stride, padding).unwrap();
        let what = format!("{b} x {c} x {h} x {w} to {o}, {taps:?}, stride {stride}, padding {padding}");
        check(&what, &op, &inputs, 1e-5);
        let candle = inputs[0].conv2d(&inputs[1], padding, stride, 1, 1).unwrap();
        assert!(largest(&(op(&inputs) - candle).unwrap()) < 5e-5, "{what}");
    }
}

#[test]
fn an_input_with_gaps_is_convolved_like_its_copy() {
    let x = numbers(&[2, 9, 8, 20], 1).transpose(1, 3).unwrap().narrow(2, 1, 6).unwrap();
    let weight = numbers(&[20, 16, 3, 3], 2).transpose(0, 1).unwrap();
    let copy = ops::conv2d(&x.contiguous().unwrap(), &weight.contiguous().unwrap(), 1, 1).unwrap();
    let found = ops::conv2d(&x, &weight, 1, 1).unwrap();
    assert_eq!(largest(&(found - copy).unwrap()), 0.0);
}

#[test]
fn a_gradient_that_is_not_wanted_is_not_computed() {
    let x = Var::from_tensor(&numbers(&[1, 3, 8, 8], 1)).unwrap();
    let weight = numbers(&[4, 3, 3, 3], 2);
    let y = ops::conv2d(&x, &weight, 1, 1).unwrap();
    let grads = y.sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&x).is_some() && grads.get(&weight).is_none());
    let row = Var::from_tensor(&numbers(&[5, 8], 3)).unwrap();
    let weight = numbers(&[6, 8], 4);
    let grads = ops::linear(&row, &weight, None, false).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(grads.get(&row).is_some() && grads.get(&weight).is_none());
}

#[test]
fn pools_agree_with_differences() {
    for (h, w, size, stride, padding) in [(9, 12, 3, 2, 1), (8, 5, 3, 2, 1), (6, 6, 2, 2, 0), (7, 8, 3, 1, 1)]
    {
        let inputs = [numbers(&[2, 3, h, w], 5)];
        let op = |args: &[Tensor]| ops::max_pool(&args[0], size, stride, padding).unwrap();
        check(&format!("{h} x {w}, {size}/{stride}"), &op, &inputs, 1e-6);
    }
    let x = numbers(&[1, 2, 8, 8], 6);
    let candle = x.max_pool2d(2).unwrap();
    assert_eq!(largest(&(ops::max_pool(&x, 2, 2, 0).unwrap() - candle).unwrap()), 0.0);
}

#[test]
fn batch_norms_of_maps_agree_with_differences() {
    for (rectify, of_batch) in [(false, false), (true, false), (false, true), (true, true)] {
        let inputs = [numbers(&[3, 5, 7, 3], 1), numbers(&[5], 2), numbers(&[5], 3)];
        let (mean, variance) = (numbers(&[5], 4), numbers(&[5], 5).sqr().unwrap());
        let op = |args: &[Tensor]| {
            let dtype = args[0].dtype();
            let (mean, variance) = if of_batch {
                ops::channels::moments(&args[0]).unwrap()
            } else {
                (mean.to_dtype(dtype).unwrap(), variance.to_dtype(dtype).unwrap())
            };
            let moments = ops::channels::Moments { mean: &mean, variance: &variance, of_batch };
            ops::norm_maps(&args[0], &args[1], &args[2], moments, 1e-5, rectify).unwrap()
        };
        check(&format!("rectify {rectify}, of the batch {of_batch}"), &op, &inputs, 1e-4);
    }
}

#[test]
fn batch_norms_of_rows_agree_with_differences() {
    // More rows than a task takes, and few.
    for (rows, channels) in [(1030, 3), (40, 5), (7, 32)] {
        for rectify in [false, true] {
            let inputs = [numbers(&[rows, channels], 1), numbers(&[channels], 2), numbers(&[channels], 3)];
            let op = |args: &[Tensor]| {
                let (y, moments) = ops::norm_rows(&args[0], &args[1], &args[2], 1e-5, rectify).unwrap();
                let mean = args[0].mean(0).unwrap();
                assert!(largest(&(moments.mean - mean).unwrap()) < 1e-5);
                y
            };
            check(&format!("{rows} x {channels}, rectify {rectify}"), &op, &inputs, 1e-4);
        }
    }
    // Of any rank.
    let inputs = [numbers(&[4, 5, 6], 1), numbers(&[6], 2), numbers(&[6], 3)];
    let op = |args: &[Tensor]| ops::norm_rows(&args[0], &args[1], &args[2], 1e-5, true).unwrap().0;
    check("4 x 5 x 6", &op, &inputs, 1e-4);
    let (x, one) = (numbers(&[4, 3], 1), numbers(&[2], 2));
    assert!(ops::norm_rows(&x, &one, &one, 1e-5, false).is_err());
}

#[test]
fn vector_attention_agrees_with_differences() {
    // More points than a task takes; groups below, at and above the width of what is taken at a time.
    for (n, k, width, groups) in [(70, 3, 6, 2), (5, 16, 16, 16), (3, 4, 33, 11), (4, 1, 8, 8)] {
        let inputs = [numbers(&[n, k, width], 1), (numbers(&[n, k, groups], 2) * 3.0).unwrap()];
        let op = |args: &[Tensor]| ops::vector_attention(&args[0], &args[1]).unwrap();
        check(&format!("{n} x {k} x {width}, {groups} groups"), &op, &inputs, 1e-5);
    }
    // A score far above the others takes all; equal ones share.
    let values = Tensor::new(&[[[1f32, 2.0], [3.0, 6.0]]], &Device::Cpu).unwrap();
    let scores = Tensor::new(&[[[1e30f32, 5.0], [0.0, 5.0]]], &Device::Cpu).unwrap();
    let y: Vec<Vec<f32>> = ops::vector_attention(&values, &scores).unwrap().to_vec2().unwrap();
    assert_eq!(y, [[1.0, 4.0]]);
    let wrong = numbers(&[1, 2, 3], 1);
    assert!(ops::vector_attention(&values, &wrong).is_err());
}

#[test]
fn sums_that_end_a_block_agree_with_differences() {
    let inputs = [numbers(&[2, 3, 5, 7], 1), numbers(&[2, 3, 5, 7], 2)];
    check("add and rectify", &|args| ops::add_rectify(&args[0], &args[1]).unwrap(), &inputs, 1e-6);
}

#[test]
fn gelus_agree_with_differences() {
    for count in [7, 16, 255, 256, 1000] {
        let inputs = [(numbers(&[count], 1) * 6.0).unwrap()];
        check("gelu", &|args| ops::gelu(&args[0]).unwrap(), &inputs, 5e-6);
        check("gelu with tanh", &|args| ops::gelu_tanh(&args[0]).unwrap(), &inputs, 5e-6);
    }
    // Far from 0 it is 0 or x; NaN is seen.
    let far = Tensor::new(&[-1e30f32, -20.0, 20.0, 1e30, f32::NAN], &Device::Cpu).unwrap();
    for y in [ops::gelu(&far).unwrap(), ops::gelu_tanh(&far).unwrap()] {
        let y: Vec<f32> = y.to_vec1().unwrap();
        assert!(y[0].abs() < 1e24 && y[1].abs() < 1e-5 && y[4].is_nan(), "{y:?}");
        assert!((y[2] - 20.0).abs() < 1e-4 && (y[3] / 1e30 - 1.0).abs() < 1e-5, "{y:?}");
    }
}

#[test]
fn softmax_agrees_with_candle_and_with_differences() {
    for width in [1, 5, 8, 31, 64, 1000] {
        let inputs = [(numbers(&[3, 4, width], 1) * 5.0).unwrap()];
        check(&format!("softmax {width}"), &|args| ops::softmax_last(&args[0]).unwrap(), &inputs, 2e-6);
    }
    let gaps = numbers(&[6, 9], 2).t().unwrap();
    let expected = candle_nn::ops::softmax(&gaps, D::Minus1).unwrap();
    assert!(largest(&(ops::softmax_last(&gaps).unwrap() - expected).unwrap()) < 1e-6);
    // What is masked counts nothing, and NaN is seen.
    let x = [0.0, -1e9, f32::NEG_INFINITY, 0.0];
    let y: Vec<f32> = ops::softmax_last(&Tensor::new(&x, &Device::Cpu).unwrap()).unwrap().to_vec1().unwrap();
    assert_eq!(y, [0.5, 0.0, 0.0, 0.5]);
    for x in [[f32::NAN, 0.0], [0.0, f32::NAN], [f32::NEG_INFINITY; 2]] {
        let y: Vec<f32> =
            ops::softmax_last(&Tensor::new(&x, &Device::Cpu).unwrap()).unwrap().to_vec1().unwrap();
        assert!(y.iter().all(|y| y.is_nan()), "{x:?}: {y:?}");
    }
}

#[test]
fn norms_agree_with_differences() {
    for width in [2, 7, 16, 33, 257] {
        let inputs = [numbers(&[5, 3, width], 1), numbers(&[width], 2), numbers(&[width], 3)];
        let op = |args: &[Tensor]| ops::layer_norm(&args[0], &args[1], &args[2], 1e-5).unwrap();
        check(&format!("layer norm {width}"), &op, &inputs, 1e-4);
        let op = |args: &[Tensor]| ops::rms_norm(&args[0], &args[1], 1e-5).unwrap();
        check(&format!("RMS norm {width}"), &op, &inputs[..2], 1e-4);
    }
    // Enough rows for several parts of the weight's gradient.
    let inputs = [numbers(&[300, 40], 1), numbers(&[40], 2), numbers(&[40], 3)];
    let op = |args: &[Tensor]| ops::layer_norm(&args[0], &args[1], &args[2], 1e-5).unwrap();
    check("layer norm of 300 rows", &op, &inputs, 1e-4);
}

#[test]
fn dense_products_agree_with_differences() {
    let inputs = [numbers(&[2, 5, 7], 1), numbers(&[9, 7], 2), numbers(&[9], 3)];
    let op = |args: &[Tensor]| ops::linear(&args[0], &args[1], Some(&args[2]), false).unwrap();
    check("dense", &op, &inputs, 1e-5);
    let turned = |args: &[Tensor]| {
        ops::linear(&args[0], &args[1].t().unwrap().contiguous().unwrap(), Some(&args[2]), true).unwrap()
    };
    check("dense, turned", &turned, &inputs, 1e-5);
}

#[test]
fn rows_of_neighbours_agree_with_differences() {
    // More points than a task takes, and few; a row that is nobody's neighbour, one that is several's, and few that are any's.
    for (m, n, k, width) in [(50, 70, 3, 6), (4, 5, 16, 17), (3, 1, 1, 32), (100, 3, 1, 4)] {
        let indices: Vec<u32> = (0..n * k).map(|at| (at * 7 % (m - 1)) as u32).collect();
        let indices = Tensor::from_vec(indices, (n, k), &Device::Cpu).unwrap();
        let inputs = [numbers(&[m, width], 1), numbers(&[n, k, width], 2), numbers(&[n, width], 3)];
        let what = format!("{n} x {k} x {width} of {m}");
        let op = |args: &[Tensor]| ops::gather::shifted(&args[0], None, &indices, &args[1]).unwrap();
        check(&format!("offset, {what}"), &op, &inputs[..2], 1e-6);
        let op =
            |args: &[Tensor]| ops::gather::shifted(&args[0], Some(&args[2]), &indices, &args[1]).unwrap();
        check(&format!("offset and centre, {what}"), &op, &inputs, 1e-6);
        let offset = numbers(&[n, k, 3], 4);
        let op = |args: &[Tensor]| {
            let offset = offset.to_dtype(args[0].dtype()).unwrap();
            ops::gather::beside(&offset, &args[0], &indices).unwrap()
        };
        check(&format!("beside, {what}"), &op, &inputs[..1], 1e-6);
    }
    let (x, near) = (numbers(&[3, 2], 1), Tensor::new(&[[0u32, 3]], &Device::Cpu).unwrap());
    let error = ops::gather::shifted(&x, None, &near, &numbers(&[1, 2, 2], 2)).unwrap_err().to_string();
    assert!(error.contains("found row 3, allowed are those below 3"), "{error}");
    assert!(ops::gather::beside(&numbers(&[1, 2, 3], 2), &x, &near).is_err());
    assert!(ops::gather::shifted(&x, None, &near, &numbers(&[1, 2, 3], 2)).is_err());
    assert!(ops::gather::beside(&numbers(&[1, 1, 3], 2), &x, &near).is_err());
}

#[test]
fn the_largest_of_rows_agrees_with_differences() {
    for (n, k, width) in [(70, 3, 6), (2, 16, 33), (3, 1, 4)] {
        let op = |args: &[Tensor]| ops::max_rows(&args[0]).unwrap();
        check(&format!("{n} x {k} x {width}"), &op, &[numbers(&[n, k, width], 1)], 1e-6);
    }
    // The gradient goes to one of equals; NaN wins.
    let x =
        Var::from_tensor(&Tensor::new(&[[[1f32, 2.0], [1.0, f32::NAN], [0.0, 5.0]]], &Device::Cpu).unwrap());
    let x = x.unwrap();
    let y = ops::max_rows(&x).unwrap();
    let grads = y.sum_all().unwrap().backward().unwrap();
    let grad: Vec<f32> = grads.get(&x).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let y: Vec<f32> = y.flatten_all().unwrap().to_vec1().unwrap();
    assert_eq!((y[0], y[1].is_nan(), grad), (1.0, true, vec![1.0, 0.0, 0.0, 1.0, 0.0, 0.0]));
    assert!(ops::max_rows(&numbers(&[3, 2], 1)).is_err());
}

#[test]
fn what_does_not_fit_is_an_error() {
    let x = numbers(&[1, 3, 4, 4], 1);
    let error = ops::conv2d(&x, &numbers(&[2, 4, 3, 3], 2), 1, 1).unwrap_err().to_string();
    assert!(error.contains("found maps of 3 channels, allowed by the weights are 4"), "{error}");
    let error = ops::conv2d(&x, &numbers(&[2, 3, 7, 7], 2), 1, 1).unwrap_err().to_string();
    assert!(error.contains("found maps of 4 x 4"), "{error}");
    assert!(ops::conv2d(&x, &numbers(&[2, 3, 3, 3], 2), 0, 1).is_err());
    assert!(ops::max_pool(&x, 3, 2, 3).is_err());
    assert!(ops::layer_norm(&x, &numbers(&[5], 1), &numbers(&[5], 1), 1e-5).is_err());
    assert!(ops::rms_norm(&x, &numbers(&[5], 1), 1e-5).is_err());
    assert!(ops::linear(&x, &numbers(&[2, 5], 1), None, false).is_err());
}
