//! One pass over weight, gradient and moments, on the CPU.

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, WithDType};
use rayon::prelude::*;

use super::Scalars;

/// Numbers that one task of the thread pool takes: 4 arrays of 64 kB of f32 stay in the second cache.
const CHUNK: usize = 1 << 14;

/// f32 or f64.
pub(super) trait Number: WithDType + Send + Sync {
    fn of(number: f64) -> Self;
    fn root(self) -> Self;
    fn of_storage(storage: &CpuStorage) -> Option<&[Self]>;
    fn of_storage_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
}

macro_rules! number {
    ($type:ty, $variant:ident) => {
        impl Number for $type {
            fn of(number: f64) -> Self {
                number as $type
            }

            fn root(self) -> Self {
                self.sqrt()
            }

            fn of_storage(storage: &CpuStorage) -> Option<&[Self]> {
                match storage {
                    CpuStorage::$variant(numbers) => Some(numbers),
                    _ => None,
                }
            }

            fn of_storage_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                match storage {
                    CpuStorage::$variant(numbers) => Some(numbers),
                    _ => None,
                }
            }
        }
    };
}

number!(f32, F32);
number!(f64, F64);

/// The op that candle runs on a weight and its gradient.
pub(super) struct Fused<'a, T> {
    moments: RefCell<(&'a mut [T], &'a mut [T])>,
    scalars: Scalars,
}

impl<'a, T: Number> Fused<'a, T> {
    pub(super) fn new(mean: &'a mut [T], square: &'a mut [T], scalars: Scalars) -> Self {
        Self { moments: RefCell::new((mean, square)), scalars }
    }
}

impl<T: Number> InplaceOp2 for Fused<'_, T> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        weight_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<()> {
        let (weight, gradient) =
            numbers::<T>(self.name(), (weight, weight_layout), (gradient, gradient_layout))?;
        let mut moments = self.moments.borrow_mut();
        let (mean, square) = &mut *moments;
        let scalars = &self.scalars;
        if weight.len() <= CHUNK {
            step(weight, gradient, mean, square, scalars);
            return Ok(());
        }
        (weight.par_chunks_mut(CHUNK))
            .zip(gradient.par_chunks(CHUNK))
            .zip(mean.par_chunks_mut(CHUNK))
            .zip(square.par_chunks_mut(CHUNK))
            .for_each(|(((weight, gradient), mean), square)| {
                step(weight, gradient, mean, square, scalars);
            });
        Ok(())
    }
}

/// The op that candle runs on a running mean and the weight that it follows: m ← k·m + (1 − k)·w.
pub(super) struct Follow<T> {
    keep: T,
    rest: T,
}

impl<T: Number> Follow<T> {
    pub(super) fn new(keep: f64) -> Self {
        Self { keep: T::of(keep), rest: T::of(1.0 - keep) }
    }
}

impl<T: Number> InplaceOp2 for Follow<T> {
    fn name(&self) -> &'static str {
        "running mean"
    }

    fn cpu_fwd(
        &self,
        mean: &mut CpuStorage,
        mean_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<()> {
        let (mean, weight) = numbers::<T>(self.name(), (mean, mean_layout), (weight, weight_layout))?;
        (mean.par_chunks_mut(CHUNK)).zip(weight.par_chunks(CHUNK)).for_each(|(mean, weight)| {
            for (mean, &weight) in mean.iter_mut().zip(weight) {
                *mean = self.keep * *mean + self.rest * weight;
            }
        });
        Ok(())
    }
}

/// The numbers of two contiguous tensors, the first of which is moved.
fn numbers<'a, T: Number>(
    op: &str,
    (moved, moved_layout): (&'a mut CpuStorage, &Layout),
    (other, other_layout): (&'a CpuStorage, &Layout),
) -> Result<(&'a mut [T], &'a [T])> {
    let found = (moved.dtype_name(), other.dtype_name());
    let moved = T::of_storage_mut(moved)
        .zip(moved_layout.contiguous_offsets())
        .and_then(|(numbers, (from, to))| numbers.get_mut(from..to));
    let other = T::of_storage(other)
        .zip(other_layout.contiguous_offsets())
        .and_then(|(numbers, (from, to))| numbers.get(from..to));
    match (moved, other) {
        (Some(moved), Some(other)) if moved.len() == other.len() => Ok((moved, other)),
        _ => candle_core::bail!(
            "{op}: found {} and {}, allowed are two contiguous {:?} of one length",
            found.0,
            found.1,
            T::DTYPE
        ),
    }
}

fn step<T: Number>(weight: &mut [T], gradient: &[T], mean: &mut [T], square: &mut [T], scalars: &Scalars) {
    let (keep, rate) = (T::of(scalars.keep), T::of(scalars.rate));
    let (correction, eps) = (T::of(scalars.root_correction), T::of(scalars.config.eps));
    let (beta2, factor) = (T::of(scalars.config.beta2), T::of(scalars.gradient));
    let (rest1, rest2) = (T::of(1.0 - scalars.config.beta1), T::of(1.0 - scalars.config.beta2));
    let numbers = weight.iter_mut().zip(gradient).zip(mean).zip(square);
    for (((weight, &gradient), mean), square) in numbers {
        let gradient = gradient * factor;
        let (new_mean, new_square) =
            (*mean + rest1 * (gradient - *mean), beta2 * *square + rest2 * (gradient * gradient));
        *mean = new_mean;
        *square = new_square;
        *weight = keep * *weight - rate * new_mean / (new_square.root() / correction + eps);
    }
}

/// The name of a storage's type, for messages.
trait Named {
    fn dtype_name(&self) -> String;
}

impl Named for CpuStorage {
    fn dtype_name(&self) -> String {
        use candle_core::backend::BackendStorage;
        format!("{:?}", self.dtype())
    }
}
