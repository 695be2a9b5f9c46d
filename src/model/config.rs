//! The size of the network, as a file.

use serde::{Deserialize, Serialize};

use super::point_transformer::PointTransformerConfig;
use super::resnet::ResNetConfig;

/// A network: everything that its weights' shapes follow from, beside the unit's window, beams and horizons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Its name on the wire, before the hash.
    pub name: String,
    /// Seed of fresh weights.
    pub seed: u64,
    /// d, width of a token.
    pub width: usize,
    /// Heads of the cross-modal attention.
    pub heads: usize,
    /// Encoder of images.
    pub image: ImageConfig,
    /// Encoder of radar points.
    pub radar: PointTransformerConfig,
    /// Encoder of LiDAR points.
    pub lidar: PointTransformerConfig,
}

/// Encoder of images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageConfig {
    /// Images are resized to a square of this side, pixels.
    pub side: usize,
    /// The feature map is pooled to grid × grid tokens.
    pub grid: usize,
    /// The ResNet.
    pub network: ResNetConfig,
}

impl NetworkConfig {
    /// n_f, tokens of each modality.
    #[must_use]
    pub const fn tokens(&self) -> usize {
        self.image.grid * self.image.grid
    }

    /// What is wrong with it: key and what was found and allowed.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut within = |key: &str, value: usize, low: usize, high: usize| {
            if !(low..=high).contains(&value) {
                problems.push((key.to_owned(), format!("found {value}, allowed is {low} to {high}")));
            }
        };
        within("width", self.width, 8, 8192);
        within("heads", self.heads, 1, 256);
        within("image.side", self.image.side, 32, 1024);
        within("image.grid", self.image.grid, 1, 16);
        within("image.network.stem", self.image.network.stem, 1, 1024);
        for channels in self.image.network.channels {
            within("image.network.channels", channels, 1, 4096);
        }
        for layers in self.image.network.layers {
            within("image.network.layers", layers, 1, 64);
        }
        for (name, points) in [("radar", &self.radar), ("lidar", &self.lidar)] {
            let key = |key: &str| format!("{name}.{key}");
            within(&key("neighbours"), points.neighbours, 1, 128);
            within(&key("points"), points.points.len(), 1, 8);
            within(&key("widths"), points.widths.len(), points.points.len(), points.points.len());
            for &count in &points.points {
                within(&key("points"), count, 1, 1 << 16);
            }
            for &width in &points.widths {
                within(&key("widths"), width, 8, 4096);
            }
        }
        if !self.width.is_multiple_of(self.heads.max(1)) {
            problems.push((
                "heads".to_owned(),
                format!("found {}, allowed are divisors of width = {}", self.heads, self.width),
            ));
        }
        for (name, points) in [("radar", &self.radar), ("lidar", &self.lidar)] {
            if points.share == 0
                || points.widths.iter().any(|width| !width.is_multiple_of(points.share.max(1)))
            {
                let message =
                    format!("found {}, allowed are divisors of widths = {:?}", points.share, points.widths);
                problems.push((format!("{name}.share"), message));
            }
            if !points.points.is_sorted_by(|a, b| a > b) {
                problems.push((
                    format!("{name}.points"),
                    format!("found {:?}, allowed are falling numbers", points.points),
                ));
            }
            if points.points.last().is_some_and(|&last| last > self.tokens()) {
                let message = format!(
                    "ends in {:?}, allowed is at most grid² = {} tokens",
                    points.points,
                    self.tokens()
                );
                problems.push((format!("{name}.points"), message));
            }
        }
        problems
    }
}
