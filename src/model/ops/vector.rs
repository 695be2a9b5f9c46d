//! Functions of vectors of f32, and what they are applied with.
//!
//! Closures handed to these must be `#[inline(always)]`: outside of the function that has the instruction set, each vector
//! operation is a call (measured: ten times slower).

use pulp::{Simd, WithSimd};

/// The vectors of this machine. ([`pulp::Arch`] does not know AVX2 with the features that candle's [`gemm`] builds it with.)
#[derive(Clone, Copy)]
pub enum Arch {
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    V4(pulp::x86::V4),
    /// AVX2 and fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    V3(pulp::x86::V3),
    /// What the target always has.
    Base(pulp::Arch),
}

impl Arch {
    /// The widest there are.
    pub fn new() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(simd) = pulp::x86::V4::try_new() {
                return Self::V4(simd);
            }
            if let Some(simd) = pulp::x86::V3::try_new() {
                return Self::V3(simd);
            }
        }
        Self::Base(pulp::Arch::new())
    }

    /// Runs with them.
    #[inline(always)]
    pub fn dispatch<Op: WithSimd>(self, op: Op) -> Op::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::V4(simd) => Simd::vectorize(simd, op),
            #[cfg(target_arch = "x86_64")]
            Self::V3(simd) => Simd::vectorize(simd, op),
            Self::Base(arch) => arch.dispatch(op),
        }
    }
}

/// eˣ to 2 units in the last place; x is limited to [−87.3, 88.3], so that it neither overflows nor becomes subnormal.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let constant = |value: f32| simd.splat_f32s(value);
    // In this order, NaN stays NaN.
    let x = simd.min_f32s(constant(88.3), simd.max_f32s(constant(-87.3), x));
    // Adding 1.5 · 2²³ rounds to an integer n, which then stands in the lowest bits.
    let magic = constant(12_582_912.0);
    let shifted = simd.mul_add_e_f32s(x, constant(std::f32::consts::LOG2_E), magic);
    let n = simd.sub_f32s(shifted, magic);
    // ln 2 in two parts, of which n times the first is exact.
    let r = simd.mul_add_e_f32s(n, constant(-0.693_359_4), x);
    let r = simd.mul_add_e_f32s(n, constant(2.121_944_4e-4), r);
    // Cephes' polynomial of eʳ on |r| ≤ ln 2 / 2.
    let mut y = constant(1.987_569_1e-4);
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        y = simd.mul_add_e_f32s(y, r, constant(coefficient));
    }
    let y = simd.add_f32s(simd.mul_add_e_f32s(y, simd.mul_f32s(r, r), r), constant(1.0));
    // 2ⁿ: n + 127 in the exponent's place.
    let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    let scale = simd.transmute_f32s_u32s(simd.add_u32s(bits, simd.splat_u32s(127 << 23)));
    simd.mul_f32s(y, scale)
}

/// The error function to 4e-7: the rational approximation of Eigen and XLA on [−4, 4].
#[inline(always)]
pub fn erf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let constant = |value: f32| simd.splat_f32s(value);
    let x = simd.min_f32s(constant(4.0), simd.max_f32s(constant(-4.0), x));
    let square = simd.mul_f32s(x, x);
    let mut above = constant(-2.726_142_3e-10);
    for coefficient in
        [2.770_681_4e-8, -2.101_024e-6, -5.692_506_5e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2]
    {
        above = simd.mul_add_e_f32s(above, square, constant(coefficient));
    }
    let mut below = constant(-1.456_607_2e-5);
    for coefficient in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2] {
        below = simd.mul_add_e_f32s(below, square, constant(coefficient));
    }
    simd.div_f32s(simd.mul_f32s(x, above), below)
}

/// The hyperbolic tangent, 1 − 2 / (1 + e²ˣ).
#[inline(always)]
pub fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let below = simd.add_f32s(one, exp(simd, simd.add_f32s(x, x)));
    simd.sub_f32s(one, simd.div_f32s(simd.splat_f32s(2.0), below))
}

/// A row as vectors: the rest that fills no vector comes as one padded with `pad`.
#[inline(always)]
pub fn each<S: Simd>(simd: S, row: &[f32], pad: f32, mut see: impl FnMut(S::f32s)) {
    let (vectors, rest) = S::as_simd_f32s(row);
    for &vector in vectors {
        see(vector);
    }
    if !rest.is_empty() {
        see(padded(simd, rest, pad));
    }
}

/// Two rows of one length as vectors, as [`each`], padded with 0.
#[inline(always)]
pub fn each_pair<S: Simd>(simd: S, left: &[f32], right: &[f32], mut see: impl FnMut(S::f32s, S::f32s)) {
    let (left, left_rest) = S::as_simd_f32s(left);
    let (right, right_rest) = S::as_simd_f32s(right);
    for (&left, &right) in left.iter().zip(right) {
        see(left, right);
    }
    if !left_rest.is_empty() {
        see(padded(simd, left_rest, 0.0), padded(simd, right_rest, 0.0));
    }
}

/// Writes f(inputs) over rows of one length, vector by vector.
#[inline(always)]
pub fn map<S: Simd, const N: usize>(
    simd: S,
    inputs: [&[f32]; N],
    out: &mut [f32],
    mut f: impl FnMut([S::f32s; N]) -> S::f32s,
) {
    let (outs, out_rest) = S::as_mut_simd_f32s(out);
    let whole = outs.len();
    let vectors = inputs.map(|row| &S::as_simd_f32s(row).0[..whole]);
    for (index, out) in outs.iter_mut().enumerate() {
        *out = f(std::array::from_fn(|n| vectors[n][index]));
    }
    if !out_rest.is_empty() {
        let y = f(inputs.map(|row| padded(simd, S::as_simd_f32s(row).1, 0.0)));
        for (lane, out) in out_rest.iter_mut().enumerate() {
            *out = lane_of::<S>(y, lane);
        }
    }
}

#[inline(always)]
fn padded<S: Simd>(simd: S, rest: &[f32], pad: f32) -> S::f32s {
    let mut lanes = [pad; 16];
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = value;
    }
    S::as_simd_f32s(&lanes).0.first().copied().unwrap_or_else(|| simd.splat_f32s(pad))
}

#[inline(always)]
fn lane_of<S: Simd>(vector: S::f32s, lane: usize) -> f32 {
    let mut lanes = [0.0; 16];
    if let Some(first) = S::as_mut_simd_f32s(&mut lanes).0.first_mut() {
        *first = vector;
    }
    lanes.get(lane).copied().unwrap_or(0.0)
}
