//! The encoders of a network (Eq. 7): one sample in, n_f tokens of width d out.

use std::borrow::Cow;

use candle_core::{Device, Result, Tensor};
use candle_nn::{Init, VarBuilder};

use super::baselines::encoders::MapEncoder;
use super::config::{EncodersConfig, MapsConfig, NetworkConfig};
use super::layers::{Dense, LayerNorm, Mode};
use super::neighbours;
use super::point_transformer::{Hierarchy, PointTransformer, PointTransformerConfig};
use super::resnet::{ResNet, pool_to_tokens};
use super::ue::{POSITION_FEATURES, ReportEncoder, VectorEncoder};
use super::{Cloud, Encoded, Input, LIDAR_FEATURES, RADAR_FEATURES, grid};

/// A point encoder with its projection to the common width and the token of an empty cloud.
#[derive(Debug)]
struct PointEncoder {
    config: PointTransformerConfig,
    network: PointTransformer,
    projection: Dense,
    /// `[1, d]`
    empty: Tensor,
}

impl PointEncoder {
    fn load(
        config: &PointTransformerConfig,
        features: usize,
        width: usize,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let last = config.widths.last().copied().unwrap_or(features);
        Ok(Self {
            config: config.clone(),
            network: PointTransformer::load(features, config, vb)?,
            projection: Dense::load(last, width, true, &vb.pp("projection"))?,
            empty: vb.get_with_hints((1, width), "empty", Init::Randn { mean: 0.0, stdev: 1.0 })?,
        })
    }

    /// Tokens `[Σ counts, d]` of the clouds that are not empty, one after the other, and how many each cloud has.
    fn forward(&self, clouds: &[Cloud], device: &Device, mode: Mode) -> Result<(Option<Tensor>, Vec<usize>)> {
        let magnified = magnified(clouds, self.config.magnify as f32);
        let full: Vec<&Cloud> = magnified.iter().filter(|cloud| !cloud.positions.is_empty()).collect();
        let positions: Vec<&[[f32; 3]]> = full.iter().map(|cloud| cloud.positions.as_slice()).collect();
        if full.is_empty() {
            return Ok((None, vec![0; clouds.len()]));
        }
        let size =
            |level: usize, before: usize| self.config.points.get(level).map_or(before, |&n| n.min(before));
        let levels = self.config.widths.len();
        let hierarchy = Hierarchy::new(&positions, levels, size, self.config.neighbours, device)?;
        let features: Vec<f32> = full.iter().flat_map(|cloud| cloud.features.iter().copied()).collect();
        let rows: usize = positions.iter().map(|positions| positions.len()).sum();
        let width = features.len() / rows;
        let features = Tensor::from_vec(features, (rows, width), device)?.to_dtype(self.empty.dtype())?;
        let found = self.projection.forward(&self.network.forward(&hierarchy, &features, mode)?)?;
        let mut of_full = hierarchy.counts().iter().copied();
        let counts = clouds
            .iter()
            .map(|cloud| if cloud.positions.is_empty() { Some(0) } else { of_full.next() })
            .map(Option::unwrap_or_default)
            .collect();
        Ok((Some(found), counts))
    }
}

/// Clouds whose places, also as the first of their features, are `factor` times as far out.
fn magnified(clouds: &[Cloud], factor: f32) -> Cow<'_, [Cloud]> {
    if factor == 1.0 {
        return Cow::Borrowed(clouds);
    }
    let mut clouds = clouds.to_vec();
    for cloud in &mut clouds {
        let width = (cloud.features.len() / cloud.positions.len().max(1)).max(1);
        for (place, features) in cloud.positions.iter_mut().zip(cloud.features.chunks_exact_mut(width)) {
            *place = place.map(|axis| factor * axis);
            for (feature, axis) in features.iter_mut().zip(*place) {
                *feature = axis;
            }
        }
    }
    Cow::Owned(clouds)
}

/// The ResNet with its projection to the common width.
#[derive(Debug)]
struct ImageEncoder {
    network: ResNet,
    projection: Dense,
    grid: usize,
}

/// The encoders of camera, radar and LiDAR.
#[derive(Debug)]
enum Sensors {
    Points { image: Box<ImageEncoder>, radar: PointEncoder, lidar: PointEncoder },
    Maps { config: MapsConfig, image: MapEncoder, radar: MapEncoder, lidar: MapEncoder },
}

/// Thins points to `most` that lie as far apart as can be: their indices.
#[must_use]
pub fn thin(points: &[[f32; 3]], most: usize) -> Vec<u32> {
    let most = most.max(1);
    // Farthest point sampling of everything costs points × most distances: from a dense cloud, every so-manyth
    // point (in the order of the scan) is a candidate.
    let step = points.len().div_ceil(4 * most).max(1);
    let candidates: Vec<u32> = (0..points.len() as u32).step_by(step).collect();
    if candidates.len() <= most {
        return candidates;
    }
    let chosen: Vec<[f32; 3]> =
        candidates.iter().filter_map(|&index| points.get(index as usize).copied()).collect();
    let kept = neighbours::farthest(&chosen, most);
    kept.iter().filter_map(|&index| candidates.get(index as usize).copied()).collect()
}

/// The tokens of samples of one input.
#[derive(Clone, Debug)]
pub struct EncodedBatch {
    /// `[B, n_f, d]`, normalised.
    pub tokens: Tensor,
    /// Of each sample, how many of its tokens stand for something, the first ones; the rest are zero.
    pub valid: Vec<usize>,
}

impl EncodedBatch {
    /// One by one, for an owner who keeps them; in training a batch stays together, since the gradient of one of B parts
    /// is as large as that of all.
    ///
    /// # Errors
    /// When the device fails.
    pub fn samples(&self) -> Result<Vec<Encoded>> {
        let sample = |(row, &valid): (usize, &usize)| Ok(Encoded { tokens: self.tokens.get(row)?, valid });
        self.valid.iter().enumerate().map(sample).collect()
    }
}

/// One encoder per input, and the norm of each one's tokens before the gate.
#[derive(Debug)]
pub struct Encoders {
    tokens: usize,
    device: Device,
    sensors: Sensors,
    link: ReportEncoder,
    position: VectorEncoder,
    norms: Vec<LayerNorm>,
}

impl Encoders {
    /// Loads the encoders that a network's configuration names; the ResNet's weights from `image`, where they come from
    /// a file of their own.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(config: &NetworkConfig, image: Option<&VarBuilder<'_>>, vb: &VarBuilder<'_>) -> Result<Self> {
        let (width, tokens) = (config.width, config.tokens());
        let norms = ["camera", "radar", "lidar", "link", "position"];
        let norms = norms.iter().map(|name| LayerNorm::load(width, &vb.pp("norm").pp(name)));
        let own = vb.pp("image");
        let sensors = match &config.encoders {
            EncodersConfig::Points(points) => {
                let network = &points.image.network;
                let image = ImageEncoder {
                    network: ResNet::load(network, image.unwrap_or(&own))?,
                    projection: Dense::load(network.outputs(), width, true, &own.pp("projection"))?,
                    grid: config.grid,
                };
                Sensors::Points {
                    image: Box::new(image),
                    radar: PointEncoder::load(&points.radar, RADAR_FEATURES, width, &vb.pp("radar"))?,
                    lidar: PointEncoder::load(&points.lidar, LIDAR_FEATURES, width, &vb.pp("lidar"))?,
                }
            }
            EncodersConfig::Maps(maps) => {
                let load =
                    |channels, vb: &VarBuilder<'_>| MapEncoder::load(&maps.map, channels, tokens, width, vb);
                Sensors::Maps {
                    config: maps.clone(),
                    image: load(3, &own)?,
                    radar: load(grid::channels(RADAR_FEATURES)?, &vb.pp("radar"))?,
                    lidar: load(grid::channels(LIDAR_FEATURES)?, &vb.pp("lidar"))?,
                }
            }
        };
        Ok(Self {
            tokens,
            device: vb.device().clone(),
            sensors,
            link: ReportEncoder::load(tokens, width, &vb.pp("link"))?,
            position: VectorEncoder::load(POSITION_FEATURES, tokens, width, &vb.pp("position"))?,
            norms: norms.collect::<Result<_>>()?,
        })
    }

    /// Images, normalised, `[B, 3, side, side]`.
    ///
    /// # Errors
    /// [`candle_core::Error`] of the device or of a wrong shape.
    pub fn images(&self, images: &Tensor, mode: Mode) -> Result<EncodedBatch> {
        let tokens = match &self.sensors {
            Sensors::Points { image, .. } => {
                let map = image.network.forward(images, mode)?;
                image.projection.forward(&pool_to_tokens(&map, image.grid)?)?
            }
            Sensors::Maps { image, .. } => image.forward(images, mode)?,
        };
        self.finish(Input::Camera, &tokens)
    }

    /// Clouds of radar or LiDAR points; an empty one has one token, which stands for that.
    ///
    /// # Errors
    /// [`candle_core::Error`] of the device or of a wrong number of features.
    pub fn clouds(&self, input: Input, clouds: &[Cloud], mode: Mode) -> Result<EncodedBatch> {
        let is_radar = input == Input::Radar;
        let encoder = match &self.sensors {
            Sensors::Points { radar, lidar, .. } => {
                if is_radar {
                    radar
                } else {
                    lidar
                }
            }
            Sensors::Maps { config, radar, lidar, .. } => {
                let (encoder, features) =
                    if is_radar { (radar, RADAR_FEATURES) } else { (lidar, LIDAR_FEATURES) };
                let map = grid::rasterise(clouds, features, &config.ground, &self.device)?;
                return self.finish(input, &encoder.forward(&map, mode)?);
            }
        };
        let (found, counts) = encoder.forward(clouds, &self.device, mode)?;
        // Row 0 is what a cloud does not have, row 1 the token of an empty cloud.
        let mut rows = vec![encoder.empty.zeros_like()?, self.norm(input, &encoder.empty)?];
        rows.extend(found.map(|found| self.norm(input, &found)).transpose()?);
        let mut picks = vec![0u32; clouds.len() * self.tokens];
        let mut next = 2;
        for (picks, &count) in picks.chunks_mut(self.tokens).zip(&counts) {
            if let (0, [first, ..]) = (count, &mut *picks) {
                *first = 1;
            }
            for pick in picks.iter_mut().take(count) {
                *pick = next;
                next += 1;
            }
        }
        let picks = Tensor::from_vec(picks, clouds.len() * self.tokens, &self.device)?;
        let tokens = Tensor::cat(&rows, 0)?.index_select(&picks, 0)?;
        let tokens = tokens.reshape((clouds.len(), self.tokens, ()))?;
        Ok(EncodedBatch { tokens, valid: counts.into_iter().map(|count| count.max(1)).collect() })
    }

    /// Past reports `[B, LINK_FEATURES]`.
    ///
    /// # Errors
    /// [`candle_core::Error`] of the device or of a wrong shape.
    pub fn links(&self, reports: &Tensor, mode: Mode) -> Result<EncodedBatch> {
        self.finish(Input::Link, &self.link.forward(reports, mode)?)
    }

    /// Positions `[B, POSITION_FEATURES]`.
    ///
    /// # Errors
    /// [`candle_core::Error`] of the device or of a wrong shape.
    pub fn positions(&self, positions: &Tensor) -> Result<EncodedBatch> {
        self.finish(Input::Position, &self.position.forward(positions)?)
    }

    /// z_m of Eq. 7, normalised before the gate.
    fn norm(&self, input: Input, tokens: &Tensor) -> Result<Tensor> {
        match self.norms.get(input.place()) {
            Some(norm) => norm.forward(tokens),
            None => Ok(tokens.clone()),
        }
    }

    /// `[B, n_f, d]`, all of which counts.
    fn finish(&self, input: Input, tokens: &Tensor) -> Result<EncodedBatch> {
        Ok(EncodedBatch { tokens: self.norm(input, tokens)?, valid: vec![self.tokens; tokens.dim(0)?] })
    }
}
