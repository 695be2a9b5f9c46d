//! Gradients, the slow way.

use candle_core::{Device, Tensor, Var};

/// Numbers that look random and are the same each time, within ±`range`.
pub fn numbers(count: usize, seed: u64, range: f64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0) * range
    };
    (0..count).map(|_| next()).collect()
}

/// Checks the gradient of a scalar function at `x` against central differences in f64.
pub fn check_gradient(x: &Tensor, f: impl Fn(&Tensor) -> Tensor) {
    const STEP: f64 = 1e-5;
    let var = Var::from_tensor(x).unwrap();
    let found = f(&var).backward().unwrap();
    let found = found.get(&var).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let at = x.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    for (index, found) in found.iter().enumerate() {
        let value = |step: f64| {
            let mut moved = at.clone();
            moved[index] += step;
            let moved = Tensor::from_vec(moved, x.shape(), &Device::Cpu).unwrap();
            f(&moved).to_scalar::<f64>().unwrap()
        };
        let expected = (value(STEP) - value(-STEP)) / (2.0 * STEP);
        let apart = (found - expected).abs();
        assert!(apart <= 1e-7 * (1.0 + expected.abs()), "number {index}: {found} instead of {expected}");
    }
}
