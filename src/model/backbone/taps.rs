//! The layers whose hidden states are taken (H^{l_k} of Eq. 12–13).

use super::config::BackboneConfig;

/// Layers whose outputs are taken, rising; all see the sensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taps(Vec<usize>);

/// What is wrong with a choice of layers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "found taps {found:?}, allowed is a rising list of layers from {first} (the first cross layer) to {last}"
)]
pub struct TapsError {
    /// The layers chosen.
    pub found: Vec<usize>,
    /// The first that may be.
    pub first: usize,
    /// The last that may be.
    pub last: usize,
}

impl Taps {
    /// K where nothing else is said.
    pub const DEFAULT: usize = 4;

    /// These layers.
    ///
    /// # Errors
    /// When there is none, they do not rise, or one lies before the first cross layer or behind the last.
    pub fn new(config: &BackboneConfig, layers: Vec<usize>) -> Result<Self, TapsError> {
        let (first, last) = (config.prefix(), config.layers - 1);
        let fit = layers.iter().all(|layer| (first..=last).contains(layer));
        if layers.is_empty() || !fit || !layers.is_sorted_by(|a, b| a < b) {
            return Err(TapsError { found: layers, first, last });
        }
        Ok(Self(layers))
    }

    /// `count` layers: the last, and cross layers spread evenly before it, the last cross layer among them. Where there
    /// are too few cross layers, self layers behind the first one are added, the deepest first; where there are too few
    /// of these as well, all layers from the first cross layer.
    #[must_use]
    pub fn spread(config: &BackboneConfig, count: usize) -> Self {
        let last = config.layers - 1;
        let cross: Vec<usize> = config.cross_layers.iter().copied().filter(|&layer| layer != last).collect();
        let wanted = count.max(1) - 1;
        let mut taps: Vec<usize> = if cross.len() >= wanted {
            (1..=wanted).filter_map(|k| cross.get((k * cross.len()).div_ceil(wanted) - 1).copied()).collect()
        } else {
            let more = (config.prefix()..last).rev().filter(|layer| !cross.contains(layer));
            cross.iter().copied().chain(more).take(wanted).collect()
        };
        taps.push(last);
        taps.sort_unstable();
        Self(taps)
    }

    /// The layers.
    #[must_use]
    pub fn layers(&self) -> &[usize] {
        &self.0
    }

    /// The last of them.
    #[must_use]
    pub fn last(&self) -> usize {
        self.0.last().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::RopeConfig;
    use super::*;

    fn config(layers: usize, cross_layers: &[usize]) -> BackboneConfig {
        BackboneConfig {
            embeddings: 16,
            hidden_size: 8,
            intermediate_size: 8,
            layers,
            cross_layers: cross_layers.to_vec(),
            heads: 2,
            kv_heads: 1,
            rms_norm_eps: 1e-5,
            rope: RopeConfig { theta: 1e4, scaling: None },
        }
    }

    #[test]
    fn they_spread_over_the_cross_layers_and_end_in_the_last_layer() {
        let large = config(40, &[3, 8, 13, 18, 23, 28, 33, 38]);
        assert_eq!(Taps::spread(&large, 4).layers(), [13, 28, 38, 39]);
        assert_eq!(Taps::spread(&large, 1).layers(), [39]);
        assert_eq!(Taps::spread(&large, 9).layers(), [3, 8, 13, 18, 23, 28, 33, 38, 39]);
        assert_eq!(Taps::spread(&config(6, &[1, 4]), 4).layers(), [1, 3, 4, 5]);
        assert_eq!(Taps::spread(&config(3, &[2]), 4).layers(), [2]);
        assert_eq!(Taps::spread(&config(4, &[1, 3]), 3).layers(), [1, 2, 3]);
    }

    #[test]
    fn those_that_see_no_sensor_are_refused() {
        let config = config(6, &[2, 4]);
        assert!(Taps::new(&config, vec![2, 5]).is_ok());
        for wrong in [vec![], vec![1, 5], vec![4, 4], vec![5, 2], vec![6]] {
            let error = Taps::new(&config, wrong.clone()).unwrap_err();
            assert_eq!(error, TapsError { found: wrong, first: 2, last: 5 });
        }
    }
}
