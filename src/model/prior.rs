//! Scores of beams straight from the last reports, beam by beam.
//!
//! The next beam follows from the powers of the last ones beside it, wherever on the codebook that is. Dense layers would have
//! to learn this for each beam, and at a site where others are passed they would know nothing; convolutions along the beams
//! know it from the start. What they say is added to the scores of the head, which knows the site and the other sensors.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::layers::Dense;
use super::ops;
use super::ue::{LINK_BINS, LINK_CHANNELS, LINK_SLOTS, LINK_WHOLE};

/// Width of the layers.
pub(super) const WIDTH: usize = 48;
/// Bins that a layer sees at once.
pub(super) const TAPS: usize = 9;
/// How far apart they are, layer by layer: a beam is seen from 28 away, farther than links move in 600 ms.
pub(super) const APART: [usize; 3] = [1, 2, 4];
/// Numbers per bin.
pub(super) const CHANNELS: usize = LINK_SLOTS * LINK_CHANNELS;
/// Numbers that describe the reports as a whole.
pub(super) const WHOLE: usize = LINK_SLOTS * LINK_WHOLE;

/// Convolutions along the bins of [`LINK_FEATURES`](super::ue::LINK_FEATURES) numbers, by beam index.
#[derive(Clone, Debug)]
pub struct ReportPrior {
    layers: Vec<Dense>,
    /// What the reports are as a whole, to the first layer.
    whole: Dense,
    last: Dense,
    /// `[LINK_BINS, beams]`, where there is not a bin for each beam.
    to_beams: Option<Tensor>,
}

impl ReportPrior {
    /// Loads it for a codebook of `beams` beams at `instants` instants.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(beams: usize, instants: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let inputs = [CHANNELS, WIDTH, WIDTH];
        let layers = inputs
            .iter()
            .enumerate()
            .map(|(layer, inputs)| Dense::load(TAPS * inputs, WIDTH, true, &vb.pp("layers").pp(layer)));
        let to_beams = (beams != LINK_BINS)
            .then(|| Tensor::from_vec(between(beams), (LINK_BINS, beams), vb.device())?.to_dtype(vb.dtype()));
        Ok(Self {
            layers: layers.collect::<Result<_>>()?,
            whole: Dense::load(WHOLE, WIDTH, false, &vb.pp("whole"))?,
            last: Dense::load(WIDTH, instants, true, &vb.pp("last"))?,
            to_beams: to_beams.transpose()?,
        })
    }

    /// Numbers of reports `[R, LINK_FEATURES]` to scores `[R, instants · beams]`, 0 of rows without a report.
    ///
    /// # Errors
    /// When shapes disagree.
    pub fn forward(&self, reports: &Tensor) -> Result<Tensor> {
        let rows = reports.dim(0)?;
        let whole = reports.narrow(1, 2 * CHANNELS * LINK_BINS, WHOLE)?.contiguous()?;
        // [R, bins, channels], the view by index of the two.
        let mut x =
            reports.narrow(1, 0, 2 * CHANNELS * LINK_BINS)?.reshape((rows, CHANNELS, 2, LINK_BINS))?;
        x = x.narrow(2, 0, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous()?;
        for (number, (layer, apart)) in self.layers.iter().zip(APART).enumerate() {
            let mut said = layer.forward(&beside(&x, apart)?)?;
            if number == 0 {
                said = said.broadcast_add(&self.whole.forward(&whole)?.unsqueeze(1)?)?;
                x = ops::gelu_tanh(&said)?;
            } else {
                x = (x + ops::gelu_tanh(&said)?)?;
            }
        }
        let mut scores = self.last.forward(&x)?.transpose(1, 2)?.contiguous()?;
        if let Some(to_beams) = &self.to_beams {
            scores = scores.broadcast_matmul(to_beams)?;
        }
        let there = whole.narrow(1, 0, LINK_SLOTS)?.max_keepdim(1)?;
        scores.flatten_from(1)?.broadcast_mul(&there)
    }
}

/// `[R, bins, C]` to `[R, bins, TAPS · C]`: each bin beside those `apart`, 2 · `apart` … bins away; 0 beyond the ends.
fn beside(x: &Tensor, apart: usize) -> Result<Tensor> {
    let reach = TAPS / 2 * apart;
    let padded = x.pad_with_zeros(1, reach, reach)?;
    let taps = (0..TAPS).map(|tap| padded.narrow(1, tap * apart, LINK_BINS));
    Tensor::cat(&taps.collect::<Result<Vec<_>>>()?, 2)
}

/// `[bins][beams]`: each beam is said what the two bins about its place are.
fn between(beams: usize) -> Vec<f32> {
    let mut weights = vec![0.0; LINK_BINS * beams];
    for beam in 0..beams {
        let place = beam as f32 * (LINK_BINS - 1) as f32 / (beams.max(2) - 1) as f32;
        let (low, share) = (place.floor() as usize, place.fract());
        for (bin, weight) in [(low, 1.0 - share), (low + 1, share)] {
            if bin < LINK_BINS
                && let Some(place) = weights.get_mut(bin * beams + beam)
            {
                *place += weight;
            }
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;
    use crate::config::Codebook;
    use crate::infer::network::features::{BeamGrid, Heard, beam_directions};
    use crate::model::seeded::fresh_weights;
    use crate::model::ue::LINK_FEATURES;

    fn prior(beams: usize) -> ReportPrior {
        ReportPrior::load(beams, 2, &fresh_weights(1, &Device::Cpu)).unwrap()
    }

    /// Two reports of a link whose strongest beam is `best`, then the one before it.
    fn reports(best: f64, beams: usize) -> Vec<f32> {
        let linear = |best: f64| -> Vec<f64> {
            (0..beams).map(|beam| (-0.1 * (beam as f64 - best).powi(2)).exp() + 1e-3).collect()
        };
        let grid = BeamGrid::new(&beam_directions(&Codebook::default(), beams));
        grid.features(&[
            Heard::new(0.2, &linear(best - 1.0), 0.0, 0.0),
            Heard::new(0.1, &linear(best), 0.0, 0.0),
        ])
    }

    fn scores(prior: &ReportPrior, rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let numbers = Tensor::from_vec(rows.concat(), (rows.len(), LINK_FEATURES), &Device::Cpu).unwrap();
        prior.forward(&numbers).unwrap().to_dtype(DType::F32).unwrap().to_vec2().unwrap()
    }

    #[test]
    fn what_is_said_moves_with_the_beams() {
        let prior = prior(64);
        let said = scores(&prior, &[reports(32.0, 64), reports(35.0, 64)]);
        // Away from the ends, where there is nothing beyond.
        for instant in [0, 64] {
            let here = &said[0][instant + 28..instant + 36];
            let there = &said[1][instant + 31..instant + 39];
            let still = &said[1][instant + 28..instant + 36];
            let apart =
                |other: &[f32]| here.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart(there) < 0.05 * apart(still), "{} {}", apart(there), apart(still));
        }
    }

    #[test]
    fn who_has_not_reported_is_said_nothing() {
        let said = scores(&prior(64), &[vec![0.0; LINK_FEATURES], reports(20.0, 64)]);
        assert!(said[0].iter().all(|score| *score == 0.0));
        assert!(said[1].iter().any(|score| *score != 0.0));
    }

    #[test]
    fn codebooks_of_any_size_have_scores() {
        for beams in [1, 16, 64, 100] {
            let said = scores(&prior(beams), &[reports(beams as f64 / 2.0, beams)]);
            assert_eq!(said[0].len(), 2 * beams);
            assert!(said[0].iter().all(|score| score.is_finite()));
        }
        let weights = between(16);
        for beam in 0..16 {
            let sum: f32 = (0..LINK_BINS).map(|bin| weights[bin * 16 + beam]).sum();
            assert!((sum - 1.0).abs() < 1e-5);
        }
    }
}
