//! Dropout whose draws follow from the seed of the step and the name of the place.

use candle_core::{Result, Tensor};

use crate::model::layers::Mode;
use crate::model::seeded::{stream, uniform};

/// `x` with each number zero with probability `share` and the rest 1/(1 − share) as large, while the network
/// is trained; else `x`.
///
/// # Errors
/// When the device refuses memory.
pub(crate) fn dropout(x: &Tensor, share: f64, mode: Mode, name: &str) -> Result<Tensor> {
    let Mode::Train { seed, .. } = mode else { return Ok(x.clone()) };
    if share == 0.0 {
        return Ok(x.clone());
    }
    let mut random = stream(seed, name);
    let kept = (1.0 / (1.0 - share)) as f32;
    let numbers = (0..x.elem_count()).map(|_| if uniform(&mut random) < share { 0.0 } else { kept });
    let keep = Tensor::from_vec(numbers.collect::<Vec<f32>>(), x.shape(), x.device())?;
    x * keep.to_dtype(x.dtype())?
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::model::layers::Statistics;

    #[test]
    fn it_keeps_the_mean_and_follows_the_seed_and_the_name() {
        let ones = Tensor::ones((100, 100), DType::F32, &Device::Cpu).unwrap();
        let drop = |seed: u64, name: &str| {
            let mode = Mode::Train { seed, statistics: Statistics::Batch };
            dropout(&ones, 0.1, mode, name).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let kept = drop(1, "a");
        let zeros = kept.iter().filter(|&&number| number == 0.0).count();
        // 1,000 expected, of standard deviation 30
        assert!((850..1150).contains(&zeros), "{zeros}");
        assert!(kept.iter().all(|&number| number == 0.0 || (number - 1.0 / 0.9).abs() < 1e-6));
        assert_eq!(kept, drop(1, "a"));
        assert_ne!(kept, drop(2, "a"));
        assert_ne!(kept, drop(1, "b"));
        let same = dropout(&ones, 0.1, Mode::Infer, "a").unwrap();
        assert_eq!(same.sum_all().unwrap().to_scalar::<f32>().unwrap(), 10_000.0);
    }
}
