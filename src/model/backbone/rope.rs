//! Rotary position embedding (Su et al., RoFormer), with the half-split rotation of the LLaMA family.

use std::f64::consts::TAU;

use candle_core::{DType, Device, Result, Tensor};

use super::config::{RopeConfig, RopeScaling};

/// What a pair of numbers turns by per position, `[head_dim/2]`, radians.
#[must_use]
pub fn inverse_frequencies(rope: &RopeConfig, head_dim: usize) -> Vec<f32> {
    let frequency = |pair: usize| {
        let frequency = rope.theta.powf(-(2.0 * pair as f64) / head_dim as f64);
        rope.scaling.map_or(frequency, |scaling| scaled(frequency, scaling)) as f32
    };
    (0..head_dim / 2).map(frequency).collect()
}

/// "llama3" scaling of one frequency.
fn scaled(frequency: f64, scaling: RopeScaling) -> f64 {
    let wavelength = TAU / frequency;
    let original = scaling.original_max_position_embeddings;
    let (low, high) = (scaling.low_freq_factor, scaling.high_freq_factor);
    if wavelength < original / high {
        frequency
    } else if wavelength > original / low {
        frequency / scaling.factor
    } else {
        let share = (original / wavelength - low) / (high - low);
        (1.0 - share) * frequency / scaling.factor + share * frequency
    }
}

/// Cosines and sines of the positions of a batch.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// `[B, T, head_dim/2]`; B is 1 where all rows have the same positions.
    pub cos: Tensor,
    /// As `cos`.
    pub sin: Tensor,
}

impl Rotation {
    /// Of positions `[B, T]`.
    ///
    /// # Errors
    /// When the device refuses memory.
    pub fn new(
        inverse_frequencies: &[f32],
        positions: &[u32],
        shape: (usize, usize),
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        // In f32 as the reference does: the angle's rounding is part of the model.
        let angles: Vec<f32> = positions
            .iter()
            .flat_map(|&position| inverse_frequencies.iter().map(move |turn| position as f32 * turn))
            .collect();
        let table = |of: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|&angle| of(angle)).collect();
            Tensor::from_vec(values, (shape.0, shape.1, inverse_frequencies.len()), device)?.to_dtype(dtype)
        };
        Ok(Self { cos: table(f32::cos)?, sin: table(f32::sin)? })
    }

    /// Of some of the places `[B·T]`, given as one index per row: `[rows, 1, head_dim/2]`.
    pub(super) fn pick(&self, places: &Tensor) -> Result<Self> {
        let pick = |table: &Tensor| {
            let (batch, length, pairs) = table.dims3()?;
            table.reshape((batch * length, pairs))?.index_select(places, 0)?.unsqueeze(1)
        };
        Ok(Self { cos: pick(&self.cos)?, sin: pick(&self.sin)? })
    }
}
