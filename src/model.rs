//! The network: MMSense of arXiv 2511.12305, as far as it stands.
//!
//! ```text
//!  image ──▶ ResNet ─────────────┐ z_m          f_m = w_m z_m
//!  radar ──▶ Point Transformer ──┤ [n_f, d] ──▶ gate ──▶ cross-modal attention ──▶ heads ──▶ beam, blockage
//!  LiDAR ──▶ Point Transformer ──┤ per sample            over all slots and modalities
//!  link  ──▶ set encoder ────────┤
//!  position ──▶ vector encoder ──┘
//! ```
//!
//! Each sample is encoded once, to n_f tokens of width d ([`Encoded`]), which its owner keeps; [`Network::forward`] takes
//! the tokens of a window for every (frame, UE) and gives scores. Encoders: [`resnet`], [`point_transformer`],
//! [`sets`]; Eq. 8: [`gate`]; Eq. 9–11: [`fusion`]; [`heads`]. The Vision-LLM backbone with its task-specific attention
//! (Eq. 12–13) will stand between fusion and heads, where [`heads::mean_token`] is now.
//!
//! Nothing here knows frames or files: tensors in, tensors out.

use candle_core::{Device, Result, Tensor};
use candle_nn::{Init, VarBuilder};

pub mod backbone;
pub mod checkpoint;
pub mod config;
pub mod fusion;
pub mod gate;
pub mod heads;
pub mod layers;
pub mod lora;
pub mod neighbours;
pub mod parameters;
pub mod point_transformer;
pub mod resnet;
pub mod seeded;
pub mod sets;
pub mod tasks;
pub mod tokenizer;

pub use config::NetworkConfig;

use fusion::{Fusion, Tokens};
use gate::Gate;
use heads::{Head, mean_token};
use layers::{Dense, LayerNorm, Mode};
use point_transformer::{Hierarchy, PointTransformer, PointTransformerConfig};
use resnet::{ResNet, pool_to_tokens};
use sets::{LINK_FEATURES, POSITION_FEATURES, SetEncoder, VectorEncoder};

/// Modalities that the network takes, in the order of its tokens: camera, radar, LiDAR, link, position.
pub const MODALITIES: usize = 5;
/// Numbers that describe a radar point: x, y, z in units of 50 m; Doppler in units of 10 m/s; power in units of 100 dB;
/// whether there is Doppler; whether it stands.
pub const RADAR_FEATURES: usize = 7;
/// Numbers that describe a LiDAR point: x, y, z in units of 50 m.
pub const LIDAR_FEATURES: usize = 3;

/// What the network has to fit: the unit's window, beams and horizons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// W, slots of a window.
    pub slots: usize,
    /// Beams of the codebook.
    pub beams: usize,
    /// Blockage horizons.
    pub horizons: usize,
}

/// The tokens of one sample.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// `[n_f, d]`, normalised.
    pub tokens: Tensor,
    /// The first so many of them stand for something; the rest are zero.
    pub valid: usize,
}

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
            network: PointTransformer::load(features, &config.widths, config.share, vb)?,
            projection: Dense::load(last, width, true, &vb.pp("projection"))?,
            empty: vb.get_with_hints((1, width), "empty", Init::Randn { mean: 0.0, stdev: 1.0 })?,
        })
    }

    /// Tokens `[Σ counts, d]`, cloud after cloud, and how many each has; an empty cloud has its one token.
    fn forward(&self, clouds: &[Cloud], device: &Device) -> Result<(Tensor, Vec<usize>)> {
        let full: Vec<&Cloud> = clouds.iter().filter(|cloud| !cloud.positions.is_empty()).collect();
        let positions: Vec<&[[f32; 3]]> = full.iter().map(|cloud| cloud.positions.as_slice()).collect();
        let empty = self.empty.clone();
        if full.is_empty() {
            return Ok((empty.repeat((clouds.len(), 1))?, vec![1; clouds.len()]));
        }
        let size =
            |level: usize, before: usize| self.config.points.get(level).map_or(before, |&n| n.min(before));
        let levels = self.config.widths.len();
        let hierarchy = Hierarchy::new(&positions, levels, size, self.config.neighbours, device)?;
        let features: Vec<f32> = full.iter().flat_map(|cloud| cloud.features.iter().copied()).collect();
        let rows: usize = positions.iter().map(|positions| positions.len()).sum();
        let width = features.len() / rows;
        let features = Tensor::from_vec(features, (rows, width), device)?;
        let found = self.projection.forward(&self.network.forward(&hierarchy, &features, Mode::Infer)?)?;
        let (mut parts, mut counts, mut from) = (Vec::new(), Vec::new(), 0);
        let mut of_full = hierarchy.counts().iter().copied();
        for cloud in clouds {
            let count = if cloud.positions.is_empty() { None } else { of_full.next() };
            match count {
                Some(count) => {
                    parts.push(found.narrow(0, from, count)?);
                    from += count;
                }
                None => parts.push(empty.clone()),
            }
            counts.push(count.unwrap_or(1));
        }
        Ok((Tensor::cat(&parts, 0)?, counts))
    }
}

/// A cloud as the network takes it, thinned to the encoder's first level ([`Network::thin`]).
#[derive(Clone, Debug, Default)]
pub struct Cloud {
    /// Unit frame, metres.
    pub positions: Vec<[f32; 3]>,
    /// [`RADAR_FEATURES`] or [`LIDAR_FEATURES`] numbers per point.
    pub features: Vec<f32>,
}

/// What the network says of a batch of rows.
#[derive(Clone, Debug)]
pub struct Output {
    /// Beam scores `[R][beams]`.
    pub beam: Vec<Vec<f32>>,
    /// Hazard scores `[R][horizons]`.
    pub blockage: Vec<Vec<f32>>,
    /// Gate weights of the present slot `[R][D]`.
    pub gate: Vec<Vec<f32>>,
}

/// The network on a device.
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
    sizes: Sizes,
    device: Device,
    image: ResNet,
    image_projection: Dense,
    radar: PointEncoder,
    lidar: PointEncoder,
    link: SetEncoder,
    position: VectorEncoder,
    norms: Vec<LayerNorm>,
    gate: Gate,
    fusion: Fusion,
    beam: Head,
    blockage: Head,
}

/// A kind of input, as a place among the [`MODALITIES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Input {
    /// Camera image.
    Camera,
    /// Radar points.
    Radar,
    /// LiDAR points.
    Lidar,
    /// Beam-power reports.
    Link,
    /// Position.
    Position,
}

impl Input {
    /// All of them, in the order of the network's tokens.
    pub const ALL: [Self; MODALITIES] = [Self::Camera, Self::Radar, Self::Lidar, Self::Link, Self::Position];

    /// Its place.
    #[must_use]
    pub const fn place(self) -> usize {
        self as usize
    }
}

impl Network {
    /// Builds the network from named weights.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, or the device refuses memory.
    pub fn load(config: &NetworkConfig, sizes: Sizes, vb: &VarBuilder<'_>) -> Result<Self> {
        let (width, tokens) = (config.width, config.tokens());
        let norms = ["camera", "radar", "lidar", "link", "position"];
        let norms = norms.iter().map(|name| LayerNorm::load(width, &vb.pp("norm").pp(name)));
        Ok(Self {
            config: config.clone(),
            sizes,
            device: vb.device().clone(),
            image: ResNet::load(&config.image.network, &vb.pp("image"))?,
            image_projection: Dense::load(
                config.image.network.outputs(),
                width,
                true,
                &vb.pp("image.projection"),
            )?,
            radar: PointEncoder::load(&config.radar, RADAR_FEATURES, width, &vb.pp("radar"))?,
            lidar: PointEncoder::load(&config.lidar, LIDAR_FEATURES, width, &vb.pp("lidar"))?,
            link: SetEncoder::load(LINK_FEATURES, tokens, width, &vb.pp("link"))?,
            position: VectorEncoder::load(POSITION_FEATURES, tokens, width, &vb.pp("position"))?,
            norms: norms.collect::<Result<_>>()?,
            gate: Gate::load(MODALITIES, width, &vb.pp("gate"))?,
            fusion: Fusion::load(sizes.slots, MODALITIES, width, config.heads, &vb.pp("fusion"))?,
            beam: Head::load(width, sizes.beams, &vb.pp("beam"))?,
            blockage: Head::load(width, sizes.horizons, &vb.pp("blockage"))?,
        })
    }

    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// What it was built to fit.
    #[must_use]
    pub const fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Where it runs.
    #[must_use]
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// Thins points to what the encoder of `input` takes at most.
    #[must_use]
    pub fn thin(&self, input: Input, points: &[[f32; 3]]) -> Vec<u32> {
        let config = if input == Input::Radar { &self.config.radar } else { &self.config.lidar };
        let most = config.points.first().copied().unwrap_or(points.len());
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

    /// Images, normalised, `[B, 3, side, side]`.
    ///
    /// # Errors
    /// [`candle_core::Error`] of the device or of a wrong shape.
    pub fn encode_images(&self, images: &Tensor) -> Result<Vec<Encoded>> {
        let map = self.image.forward(images)?;
        let tokens = pool_to_tokens(&map, self.config.image.grid)?;
        self.finish(Input::Camera, &self.image_projection.forward(&tokens)?)
    }

    /// Clouds of radar or LiDAR points.
    ///
    /// # Errors
    /// [`candle_core::Error`] of the device or of a wrong number of features.
    pub fn encode_clouds(&self, input: Input, clouds: &[Cloud]) -> Result<Vec<Encoded>> {
        let encoder = if input == Input::Radar { &self.radar } else { &self.lidar };
        let (tokens, counts) = encoder.forward(clouds, &self.device)?;
        let tokens = self.norm(input, &tokens)?;
        let wanted = self.config.tokens();
        let mut from = 0;
        let encoded = counts.into_iter().map(|count| {
            let own = tokens.narrow(0, from, count)?;
            from += count;
            Ok(Encoded { tokens: own.pad_with_zeros(0, 0, wanted.saturating_sub(count))?, valid: count })
        });
        encoded.collect()
    }

    /// Sets of beam powers: elements `[B, S, LINK_FEATURES]`, those counting where `mask` `[B, S]` is 1.
    ///
    /// # Errors
    /// [`candle_core::Error`] of the device or of a wrong shape.
    pub fn encode_links(&self, elements: &Tensor, mask: &Tensor) -> Result<Vec<Encoded>> {
        self.finish(Input::Link, &self.link.forward(elements, mask)?)
    }

    /// Positions `[B, POSITION_FEATURES]`.
    ///
    /// # Errors
    /// [`candle_core::Error`] of the device or of a wrong shape.
    pub fn encode_positions(&self, positions: &Tensor) -> Result<Vec<Encoded>> {
        self.finish(Input::Position, &self.position.forward(positions)?)
    }

    /// z_m of Eq. 7, normalised before the gate.
    fn norm(&self, input: Input, tokens: &Tensor) -> Result<Tensor> {
        match self.norms.get(input.place()) {
            Some(norm) => norm.forward(tokens),
            None => Ok(tokens.clone()),
        }
    }

    /// `[B, n_f, d]` to one set of tokens each.
    fn finish(&self, input: Input, tokens: &Tensor) -> Result<Vec<Encoded>> {
        let tokens = self.norm(input, tokens)?;
        let valid = self.config.tokens();
        (0..tokens.dim(0)?).map(|row| Ok(Encoded { tokens: tokens.get(row)?, valid })).collect()
    }

    /// One forward pass over all rows.
    ///
    /// # Errors
    /// [`candle_core::Error`] of the device or of a wrong shape.
    pub fn forward(&self, tokens: &Tokens) -> Result<Output> {
        let (rows, slots, modalities, count, width) = tokens.values.dims5()?;
        // The gate works per frame: [R·W, D, …]
        let mask = tokens.mask.reshape((rows * slots * modalities, count))?;
        let flat = tokens.values.reshape((rows * slots * modalities, count, width))?;
        let means = mean_token(&flat, &mask)?.reshape((rows * slots, modalities, width))?;
        let present = mask.max(1)?.reshape((rows * slots, modalities))?;
        let ages = tokens.ages.reshape((rows * slots, modalities))?;
        let weights = self.gate.forward(&means, &ages, &present)?.reshape((rows, slots, modalities))?;
        let (fused, mask) = self.fusion.forward(tokens, &weights)?;
        let state = mean_token(&fused, &mask)?;
        Ok(Output {
            beam: self.beam.forward(&state)?.to_vec2()?,
            blockage: self.blockage.forward(&state)?.to_vec2()?,
            gate: weights.narrow(1, slots - 1, 1)?.squeeze(1)?.to_vec2()?,
        })
    }
}
