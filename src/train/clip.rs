//! Gradients that are too long are shortened, all by the same factor (Pascanu, Mikolov and Bengio, ICML 2013).

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Storage, Tensor, Var};
use rayon::prelude::*;

use super::TrainError;

/// torch's guard against a division by zero.
const EPS: f64 = 1e-6;
/// Numbers that one task of the thread pool sums: 256 kB of f32.
const CHUNK: usize = 1 << 16;

/// Euclidean norm of all gradients of these parameters together, 0 when none has one.
///
/// # Errors
/// [`TrainError::NotFinite`] with the first parameter whose gradient is not finite.
pub fn grad_norm(parameters: &[(String, Var)], gradients: &GradStore) -> Result<f64, TrainError> {
    let mut sum = 0.0;
    for (name, var) in parameters {
        let Some(gradient) = gradients.get(var) else { continue };
        let squares = sum_of_squares(gradient)?;
        if !squares.is_finite() {
            return Err(TrainError::NotFinite { name: name.clone() });
        }
        sum += squares;
    }
    Ok(sum.sqrt())
}

/// What gradients of norm `norm` are multiplied by so that it is at most `max`: min(1, max / (norm + 1e-6)), as torch has
/// it.
#[must_use]
pub fn factor(norm: f64, max: f64) -> f64 {
    (max / (norm + EPS)).min(1.0)
}

/// torch's `clip_grad_norm_`: multiplies the gradients of these parameters by [`factor`] and gives the norm that they had
/// before. Where an optimiser takes the factor ([`super::optimiser::AdamW::step`]) this pass over memory is not needed.
///
/// # Errors
/// [`TrainError::NotFinite`]; the gradients are then as they were.
pub fn clip_grad_norm(
    parameters: &[(String, Var)],
    gradients: &mut GradStore,
    max: f64,
) -> Result<f64, TrainError> {
    let norm = grad_norm(parameters, gradients)?;
    let factor = factor(norm, max);
    if factor < 1.0 {
        for (_, var) in parameters {
            // Not in place: two parameters may have the same tensor for a gradient.
            let Some(gradient) = gradients.get(var) else { continue };
            let shorter = (gradient * factor)?;
            gradients.insert(var, shorter);
        }
    }
    Ok(norm)
}

/// In 64 bits; on the CPU one pass without a copy.
fn sum_of_squares(x: &Tensor) -> Result<f64, candle_core::Error> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    if let (Storage::Cpu(storage), Some((from, to))) = (&*storage, layout.contiguous_offsets()) {
        match storage {
            CpuStorage::F32(numbers) => {
                let of = |chunk: &[f32]| chunk.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
                return Ok(in_order(numbers.get(from..to).unwrap_or_default(), of));
            }
            CpuStorage::F64(numbers) => {
                let of = |chunk: &[f64]| chunk.iter().map(|x| x * x).sum::<f64>();
                return Ok(in_order(numbers.get(from..to).unwrap_or_default(), of));
            }
            _ => {}
        }
    }
    drop(storage);
    let wide = if x.dtype() == DType::F64 { x } else { x.to_dtype(DType::F32)? };
    // Summed in 64 bits: a million squares in 32 lose the last digits.
    wide.sqr()?.to_dtype(DType::F64)?.sum_all()?.to_scalar()
}

/// Sums of chunks, added in order, so that the same numbers give the same sum whatever thread comes first.
fn in_order<T: Sync>(numbers: &[T], of: impl Fn(&[T]) -> f64 + Send + Sync) -> f64 {
    if numbers.len() <= CHUNK {
        return of(numbers);
    }
    let sums: Vec<f64> = numbers.par_chunks(CHUNK).map(of).collect();
    sums.iter().sum()
}
