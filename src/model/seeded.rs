//! Fresh weights from a seed: each tensor's numbers depend on the seed and its name alone, so that the same seed gives
//! the same network whatever order it is built in.

use candle_core::{DType, Device, Error, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// A source of fresh weights.
struct Seeded(u64);

/// A builder whose tensors are all fresh, drawn as their [`Init`] says.
#[must_use]
pub fn fresh_weights(seed: u64, device: &Device) -> VarBuilder<'static> {
    VarBuilder::from_backend(Box::new(Seeded(seed)), DType::F32, device.clone())
}

/// Known weights, and fresh ones in the place of those that may be missing.
struct Completed {
    known: VarBuilder<'static>,
    may_miss: fn(&str) -> bool,
    fresh: VarBuilder<'static>,
}

/// The weights of `known`, and of `fresh` where a name that `may_miss` is not among them, or has another shape there.
#[must_use]
pub fn completed(
    known: VarBuilder<'static>,
    may_miss: fn(&str) -> bool,
    fresh: VarBuilder<'static>,
) -> VarBuilder<'static> {
    let (dtype, device) = (known.dtype(), known.device().clone());
    VarBuilder::from_backend(Box::new(Completed { known, may_miss, fresh }), dtype, device)
}

impl SimpleBackend for Completed {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, _: &Device) -> Result<Tensor> {
        let is_missing = (self.may_miss)(name)
            && (!self.known.contains_tensor(name)
                || self.known.get_unchecked_dtype(name, dtype)?.shape() != &shape);
        let source = if is_missing { &self.fresh } else { &self.known };
        source.get_with_hints_dtype(shape, name, init, dtype)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, _: &Device) -> Result<Tensor> {
        self.known.get_unchecked_dtype(name, dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.known.contains_tensor(name) || (self.may_miss)(name)
    }
}

/// Weights, and others in the place of those that begin with a prefix.
struct Replaced {
    source: VarBuilder<'static>,
    prefix: &'static str,
    others: VarBuilder<'static>,
}

/// The weights of `source`, but where a name begins with `prefix`, those of `others` under the rest of it.
#[must_use]
pub fn replaced(
    source: VarBuilder<'static>,
    prefix: &'static str,
    others: VarBuilder<'static>,
) -> VarBuilder<'static> {
    let (dtype, device) = (source.dtype(), source.device().clone());
    VarBuilder::from_backend(Box::new(Replaced { source, prefix, others }), dtype, device)
}

impl Replaced {
    fn of<'a>(&self, name: &'a str) -> (&VarBuilder<'static>, &'a str) {
        name.strip_prefix(self.prefix).map_or((&self.source, name), |rest| (&self.others, rest))
    }
}

impl SimpleBackend for Replaced {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, _: &Device) -> Result<Tensor> {
        let (source, name) = self.of(name);
        source.get_with_hints_dtype(shape, name, init, dtype)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, _: &Device) -> Result<Tensor> {
        let (source, name) = self.of(name);
        source.get_unchecked_dtype(name, dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        let (source, name) = self.of(name);
        source.contains_tensor(name)
    }
}

/// A stream of random numbers of its own for every name.
pub(crate) fn stream(seed: u64, name: &str) -> Pcg64 {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(name).finalize();
    let mut key = [0; 32];
    key.copy_from_slice(&digest);
    Pcg64::from_seed(key)
}

/// Uniform in (0, 1), from 53 random bits.
pub(crate) fn uniform(random: &mut Pcg64) -> f64 {
    ((random.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Standard normal (Box and Muller).
fn normal(random: &mut Pcg64) -> f64 {
    (-2.0 * uniform(random).ln()).sqrt() * (std::f64::consts::TAU * uniform(random)).cos()
}

impl SimpleBackend for Seeded {
    fn get(&self, shape: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let mut random = stream(self.0, name);
        let mut draw: Box<dyn FnMut() -> f64> = match init {
            Init::Const(value) => Box::new(move || value),
            Init::Uniform { lo, up } => Box::new(move || lo + (up - lo) * uniform(&mut random)),
            Init::Randn { mean, stdev } => Box::new(move || mean + stdev * normal(&mut random)),
            Init::Kaiming { fan, non_linearity, .. } => {
                let stdev = non_linearity.gain() / (fan.for_shape(&shape) as f64).sqrt();
                Box::new(move || stdev * normal(&mut random))
            }
        };
        let numbers: Vec<f32> = (0..shape.elem_count()).map(|_| draw() as f32).collect();
        Tensor::from_vec(numbers, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        Err(Error::Msg(format!("fresh weights need a shape, and `{name}` was asked for without one")))
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(seed: u64, name: &str, init: Init) -> Vec<f32> {
        let vb = fresh_weights(seed, &Device::Cpu);
        vb.get_with_hints(4096, name, init).unwrap().to_vec1().unwrap()
    }

    #[test]
    fn numbers_depend_on_seed_and_name_alone() {
        let init = Init::Randn { mean: 0.0, stdev: 1.0 };
        assert_eq!(draw(1, "a", init), draw(1, "a", init));
        assert_ne!(draw(1, "a", init), draw(2, "a", init));
        assert_ne!(draw(1, "a", init), draw(1, "b", init));
    }

    #[test]
    fn they_follow_the_law_that_was_asked_for() {
        let moments = |numbers: Vec<f32>| {
            let mean = numbers.iter().sum::<f32>() / 4096.0;
            (mean, (numbers.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 4096.0).sqrt())
        };
        let (mean, deviation) = moments(draw(3, "n", Init::Randn { mean: 2.0, stdev: 0.5 }));
        assert!((mean - 2.0).abs() < 0.05 && (deviation - 0.5).abs() < 0.03, "{mean} {deviation}");
        let uniform = draw(3, "u", Init::Uniform { lo: -1.0, up: 3.0 });
        assert!(uniform.iter().all(|x| (-1.0..3.0).contains(x)));
        let (mean, deviation) = moments(uniform);
        assert!(
            (mean - 1.0).abs() < 0.1 && (deviation - 4.0 / 12f32.sqrt()).abs() < 0.05,
            "{mean} {deviation}"
        );
    }
}
