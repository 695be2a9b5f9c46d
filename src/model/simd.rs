//! Which vector instructions this machine has.

use pulp::WithSimd;

/// Runs `op` with the widest vector instructions that this machine has. What `op` calls must be `#[inline(always)]`,
/// else it is compiled without them.
#[inline]
pub fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    let arch = pulp::Arch::new();
    #[cfg(target_arch = "x86_64")]
    {
        use pulp::Simd;
        // pulp knows AVX2 in any case, but its `Arch` only with a feature that candle does not turn on.
        if matches!(arch, pulp::Arch::Scalar)
            && let Some(simd) = pulp::x86::V3::try_new()
        {
            return Simd::vectorize(simd, op);
        }
    }
    arch.dispatch(op)
}
