//! Softmax over neighbours.

use pulp::Simd;

/// e^x for x ≤ 0, to 2 units in the last place; 0 below −87.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding it rounds to a whole number, which then lies in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.max(-87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    // ln 2 in two parts, so that the rest is exact.
    let rest = (x - whole * 0.693_359_4) + whole * 2.121_944_4e-4;
    let mut series = 1.0 / 5040.0;
    for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series * rest + term;
    }
    f32::from_bits(series.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// Softmax down the first `groups` columns of `logits`, rows of `columns`; those that share a register with them are
/// changed too.
#[inline(always)]
pub(super) fn over_rows<S: Simd>(simd: S, logits: &mut [f32], columns: usize, groups: usize) {
    let one = simd.splat_f32s(1.0);
    for first in (0..groups).step_by(S::F32_LANES) {
        let here = first..first + S::F32_LANES;
        let mut most = simd.splat_f32s(f32::NEG_INFINITY);
        for row in logits.chunks_exact(columns) {
            most = simd.max_f32s(most, S::as_simd_f32s(&row[here.clone()]).0[0]);
        }
        let mut sum = simd.splat_f32s(0.0);
        for row in logits.chunks_exact_mut(columns) {
            let row = &mut row[here.clone()];
            let logit = &mut S::as_mut_simd_f32s(row).0[0];
            *logit = simd.sub_f32s(*logit, most);
            for logit in row.iter_mut() {
                *logit = exp(*logit);
            }
            sum = simd.add_f32s(sum, S::as_simd_f32s(row).0[0]);
        }
        let share = simd.div_f32s(one, sum);
        for row in logits.chunks_exact_mut(columns) {
            let part = &mut S::as_mut_simd_f32s(&mut row[here.clone()]).0[0];
            *part = simd.mul_f32s(*part, share);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_right_to_the_last_places() {
        for step in 0..87_000 {
            let x = -0.001 * step as f32;
            let wanted = f64::from(x).exp();
            assert!((f64::from(exp(x)) / wanted - 1.0).abs() < 3e-7, "{x} {} {wanted}", exp(x));
        }
        assert!(exp(-1e4) < 2e-38 && exp(f32::NEG_INFINITY) < 2e-38);
    }
}
