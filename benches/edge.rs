//! What `tools/yardstick_edge.py` times beside PyTorch and ONNX Runtime: a whole frame of the shipped `edge` network and its
//! stages, a step of training of each stage (forward and all gradients), backbones of 8 layers of 512 channels, and single
//! operations at the sizes that they have in `edge`.
//!
//! Where `YARDSTICK` names a folder, their weights, inputs and outputs are written into it as safetensors.
#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::LazyCell;
use std::collections::HashMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::VarBuilder;
use criterion::{BatchSize, Criterion, criterion_group};
use mmsense::align::Windower;
use mmsense::config::{self, Align, Codebook};
use mmsense::frame::{Frame, LinkReport, Window};
use mmsense::infer::device::DeviceChoice;
use mmsense::infer::network::features;
use mmsense::infer::{NetworkPredictor, Predictor};
use mmsense::model::backbone::ops::Frozen;
use mmsense::model::backbone::{Backbone, BackboneConfig, Inputs, Prompts, RmsNorm, RopeConfig, Taps};
use mmsense::model::config::EncodersConfig;
use mmsense::model::encoders::EncodedBatch;
use mmsense::model::fusion::Tokens;
use mmsense::model::heads::softmax;
use mmsense::model::layers::{Dense, LayerNorm, Mode, Statistics};
use mmsense::model::parameters::Parameters;
use mmsense::model::point_transformer::{Hierarchy, PointTransformer, PointTransformerConfig};
use mmsense::model::seeded::fresh_weights;
use mmsense::model::tasks::Asked;
use mmsense::model::tokenizer::Tokenizer;
use mmsense::model::{
    Cloud, Input, LIDAR_FEATURES, MODALITIES, Network, NetworkConfig, Purpose, RADAR_FEATURES, Sizes, Task,
    ops,
};
use mmsense::sample::{Data, Modality, UeId};

#[path = "scene/frame.rs"]
mod scene;

use scene::{ALL, frame};

type Named = HashMap<String, Tensor>;

/// Slots of the window.
const SLOTS: usize = 5;
const ASKED: [Task; 2] = [Task::Beam, Task::Blockage];
const SIZES: Sizes = Sizes::new(SLOTS, 64, 4);

fn write<'a>(name: &str, tensors: impl IntoIterator<Item = (&'a str, Tensor)>) {
    let Some(folder) = std::env::var_os("YARDSTICK").map(PathBuf::from) else { return };
    let named: Named = tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
    candle_core::safetensors::save(&named, folder.join(format!("{name}.safetensors"))).unwrap();
}

fn write_weights(name: &str, weights: &Named) {
    write(name, weights.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())));
}

fn ours<T>(criterion: &mut Criterion, name: &str, mut run: impl FnMut() -> T) {
    criterion.benchmark_group(name).bench_function("ours", |bench| bench.iter(|| black_box(run())));
}

fn numbers(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|i| ((i * 7919) % 2003) as f32 / 1001.5 - 1.0).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// How far `found` is from `wanted`, of the largest of these.
fn apart(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    let most = wanted.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    found.iter().zip(wanted).fold(0.0f32, |far, (a, b)| far.max((a - b).abs())) / most
}

fn flat(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

/// What `build` asks for, drawn once: as fixed tensors, so that everything is laid out as in a deployed network.
fn drawn(seed: u64, build: impl FnOnce(&VarBuilder<'static>)) -> Named {
    let (vb, parameters) = Parameters::watch(fresh_weights(seed, &Device::Cpu), |_| true);
    build(&vb);
    parameters.all().into_iter().map(|(name, tensor)| (name, tensor.copy().unwrap().detach())).collect()
}

fn builder(weights: &Named) -> VarBuilder<'static> {
    VarBuilder::from_tensors(weights.clone(), DType::F32, &Device::Cpu)
}

/// A point encoder of the network whose neighbours are known beforehand.
struct Points {
    config: PointTransformerConfig,
    network: PointTransformer,
    projection: Dense,
    norm: LayerNorm,
}

impl Points {
    fn load(
        config: &PointTransformerConfig,
        features: usize,
        width: usize,
        name: &str,
        vb: &VarBuilder<'_>,
    ) -> Self {
        let (own, last) = (vb.pp(name), *config.widths.last().unwrap());
        Self {
            config: config.clone(),
            network: PointTransformer::load(features, config, &own).unwrap(),
            projection: Dense::load(last, width, true, &own.pp("projection")).unwrap(),
            norm: LayerNorm::load(width, &vb.pp("norm").pp(name)).unwrap(),
        }
    }

    fn hierarchy(&self, cloud: &Cloud) -> Hierarchy {
        let size = |level: usize, _: usize| self.config.points[level];
        let levels = self.config.widths.len();
        Hierarchy::new(&[&cloud.positions], levels, size, self.config.neighbours, &Device::Cpu).unwrap()
    }

    /// `[n_f, d]`
    fn forward(&self, scan: &Scan) -> Result<Tensor> {
        let found = self.network.forward(&scan.hierarchy, &scan.features, Mode::Infer)?;
        self.norm.forward(&self.projection.forward(&found)?)
    }
}

/// A cloud whose neighbours are known.
struct Scan {
    hierarchy: Hierarchy,
    features: Tensor,
}

impl Scan {
    fn new(encoder: &Points, cloud: &Cloud) -> Self {
        let points = cloud.positions.len();
        let shape = (points, cloud.features.len() / points);
        let features = Tensor::from_vec(cloud.features.clone(), shape, &Device::Cpu).unwrap();
        Self { hierarchy: encoder.hierarchy(cloud), features }
    }

    fn tensors(&self, name: &str) -> Vec<(String, Tensor)> {
        let mut tensors = vec![(format!("{name}.features"), self.features.clone())];
        for (number, level) in self.hierarchy.levels().iter().enumerate() {
            let index = |x: &Tensor| x.to_dtype(DType::I64).unwrap();
            tensors.push((format!("{name}.{number}.positions"), level.positions().clone()));
            tensors.push((format!("{name}.{number}.within"), index(level.within())));
            tensors.extend(level.before().map(|before| (format!("{name}.{number}.before"), index(before))));
        }
        tensors
    }
}

/// The `edge` network and a frame of everything that it takes.
struct Edge {
    network: Network,
    config: NetworkConfig,
    radar_encoder: Points,
    lidar_encoder: Points,
    frame: Frame,
    image: Tensor,
    radar: Scan,
    lidar: Scan,
    link: Tensor,
    position: Tensor,
    /// Of the slots before this one, `[W − 1, D, n_f, d]`.
    kept: Tensor,
    /// `[1, W, D, n_f]`
    mask: Tensor,
    /// `[1, W, D]`
    ages: Tensor,
    asked: Asked,
}

impl Edge {
    fn load() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/models/edge.toml");
        let mut config = config::load_network(&file).unwrap();
        // All frames of the window, as others have it; what ships looks at the present one (`benches/network.rs`).
        config.slots.clear();
        let weights = drawn(config.seed, |vb| {
            Network::build(&config, SIZES, Purpose::Inference, vb).unwrap();
        });
        write_weights("edge", &weights);
        let vb = builder(&weights);
        let network = Network::build(&config, SIZES, Purpose::Inference, &vb).unwrap();
        let EncodersConfig::Points(points) = &config.encoders else { unreachable!() };
        let radar_encoder = Points::load(&points.radar, RADAR_FEATURES, config.width, "radar", &vb);
        let lidar_encoder = Points::load(&points.lidar, LIDAR_FEATURES, config.width, "lidar", &vb);

        let frame = frame(0, &ALL, true);
        let image = image_of(&frame, &config);
        let (radar, lidar) = clouds_of(&frame, &network);
        let view = frame.ues.get(&UeId::new("0").unwrap()).unwrap();
        let reports: Vec<&LinkReport> = view.link.iter().map(Arc::as_ref).collect();
        let grid = features::BeamGrid::new(&features::beam_directions(&Codebook::default(), SIZES.beams));
        let link = features::link(&reports, frame.time, &grid);
        let Data::Position(position) = view.position.as_ref().unwrap().sample.data else { unreachable!() };
        let age = |place: usize| {
            // Reports are as old as the last slot but one.
            let late = if place % MODALITIES == Input::Link.place() { 0.1 } else { 0.0 };
            (0.1 * (SLOTS - 1 - place / MODALITIES) as f64 + late) as f32
        };
        let ages: Vec<f32> = (0..SLOTS * MODALITIES).map(age).collect();
        let (width, tokens) = (config.width, config.tokens());
        let mut edge = Self {
            image,
            radar: Scan::new(&radar_encoder, &radar),
            lidar: Scan::new(&lidar_encoder, &lidar),
            link: features::links(&[link], &Device::Cpu).unwrap(),
            position: features::positions(
                &[features::position(&position, position.local.unwrap())],
                &Device::Cpu,
            )
            .unwrap(),
            kept: Tensor::zeros((SLOTS - 1, MODALITIES, tokens, width), DType::F32, &Device::Cpu).unwrap(),
            mask: Tensor::ones((1, SLOTS, MODALITIES, tokens), DType::F32, &Device::Cpu).unwrap(),
            ages: Tensor::from_vec(ages, (1, SLOTS, MODALITIES), &Device::Cpu).unwrap(),
            asked: ASKED.iter().map(|&task| (task, vec![0])).collect(),
            network,
            config,
            radar_encoder,
            lidar_encoder,
            frame,
        };
        // Every frame is alike.
        edge.kept = edge.encode().unwrap().unsqueeze(0).unwrap().repeat((SLOTS - 1, 1, 1, 1)).unwrap();
        for (input, cloud, scan, encoder) in [
            (Input::Radar, radar, &edge.radar, &edge.radar_encoder),
            (Input::Lidar, lidar, &edge.lidar, &edge.lidar_encoder),
        ] {
            let whole = edge.network.encoders().clouds(input, &[cloud], Mode::Infer).unwrap();
            assert_eq!(apart(&flat(&encoder.forward(scan).unwrap()), &flat(&whole.tokens)), 0.0);
        }
        edge.report();
        edge
    }

    /// The tokens of the new frame, `[D, n_f, d]`.
    fn encode(&self) -> Result<Tensor> {
        let encoders = self.network.encoders();
        let first = |encoded: EncodedBatch| encoded.tokens.get(0);
        let parts = [
            first(encoders.images(&self.image, Mode::Infer)?)?,
            self.radar_encoder.forward(&self.radar)?,
            self.lidar_encoder.forward(&self.lidar)?,
            first(encoders.links(&self.link, Mode::Infer)?)?,
            first(encoders.positions(&self.position)?)?,
        ];
        Tensor::stack(&parts, 0)
    }

    fn tokens(&self, new: &Tensor) -> Result<Tokens> {
        let values = Tensor::cat(&[&self.kept, &new.unsqueeze(0)?], 0)?.unsqueeze(0)?;
        Ok(Tokens {
            values,
            mask: self.mask.clone(),
            ages: self.ages.clone(),
            reports: Some(self.link.clone()),
        })
    }

    /// Writes what goes in and comes out, and looks whether the predictor says the same.
    fn report(&self) {
        let tokens = self.tokens(&self.encode().unwrap()).unwrap();
        let said = self.network.forward(&tokens, &self.asked).unwrap();
        let mut windower = Windower::new(&Align::default());
        let mut predictor = predictor(&self.config);
        let mut predictions = Vec::new();
        for slot in 0..SLOTS as i64 {
            let window = windower.push(Arc::new(frame(100 * slot, &ALL, true)));
            predictions = predictor.predict(&[window]).unwrap();
        }
        let predicted = predictions[0].ues.values().next().unwrap().beam.clone().unwrap();
        let scores = &said.tasks[&Task::Beam][0];
        assert!(apart(&softmax(scores), &predicted) < 1e-5, "the predictor says the same");

        let points = |points: Vec<[f32; 3]>| {
            let shape = (points.len(), 3);
            Tensor::from_vec(points.into_flattened(), shape, &Device::Cpu).unwrap()
        };
        let row = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let choice = self.config.backbone.as_ref().unwrap();
        let tokenizer = Tokenizer::load(choice.tokenizer.as_ref().unwrap()).unwrap();
        let ids = self.config.tasks.iter().map(|task| tokenizer.encode(&choice.prompts[task], true).unwrap());
        let prompts = Prompts::new(&ids.collect::<Vec<_>>(), usize::MAX).unwrap();
        let taps = Taps::spread(choice.size.as_ref().unwrap(), Taps::DEFAULT);
        let Data::Image(image) = &self.frame.sensors[&Modality::Camera].sample.data else { unreachable!() };
        let (width, height) = image.dimensions();
        let shape = (height as usize, width as usize, 3);
        let (radar, lidar) = positions_of(&self.frame);
        let scans = [self.radar.tensors("radar"), self.lidar.tensors("lidar")].concat();
        let named = [
            ("raw.image", Tensor::from_slice(image.as_raw(), shape, &Device::Cpu).unwrap()),
            ("raw.radar", points(radar)),
            ("raw.lidar", points(lidar)),
            ("image", self.image.clone()),
            ("link", self.link.clone()),
            ("position", self.position.clone()),
            ("kept", self.kept.clone()),
            ("mask", self.mask.clone()),
            ("ages", self.ages.clone()),
            ("out.tokens", tokens.values),
            ("out.beam", row(scores)),
            ("out.blockage", row(&said.tasks[&Task::Blockage][0])),
            ("out.gate", row(&said.gate[0])),
        ];
        let named = named.into_iter().chain(text(&prompts, &taps));
        write("edge-frame", named.chain(scans.iter().map(|(name, tensor)| (name.as_str(), tensor.clone()))));
    }
}

/// Prompts and taps, for the file.
fn text(prompts: &Prompts, taps: &Taps) -> [(&'static str, Tensor); 3] {
    let index = |x: Tensor| x.to_dtype(DType::I64).unwrap();
    let taps: Vec<u32> = taps.layers().iter().map(|&layer| layer as u32).collect();
    [
        ("prompts.ids", index(prompts.ids(&Device::Cpu).unwrap())),
        ("prompts.mask", index(prompts.mask(&Device::Cpu).unwrap())),
        ("taps", index(Tensor::new(taps, &Device::Cpu).unwrap())),
    ]
}

fn image_of(frame: &Frame, config: &NetworkConfig) -> Tensor {
    let Data::Image(image) = &frame.sensors[&Modality::Camera].sample.data else { unreachable!() };
    let square = features::thumbnail(image, config.image_side());
    features::images(&[square], config.image_side(), &Device::Cpu).unwrap()
}

/// Radar and LiDAR, thinned to what their encoders take.
fn clouds_of(frame: &Frame, network: &Network) -> (Cloud, Cloud) {
    let Data::Radar(radar) = &frame.sensors[&Modality::Radar].sample.data else { unreachable!() };
    let Data::Cloud(lidar) = &frame.sensors[&Modality::Lidar].sample.data else { unreachable!() };
    (
        features::radar(radar, network.config().most_points(Input::Radar)),
        features::lidar(lidar, network.config().most_points(Input::Lidar)),
    )
}

/// All points of radar and LiDAR, metres.
fn positions_of(frame: &Frame) -> (Vec<[f32; 3]>, Vec<[f32; 3]>) {
    let Data::Radar(radar) = &frame.sensors[&Modality::Radar].sample.data else { unreachable!() };
    let Data::Cloud(lidar) = &frame.sensors[&Modality::Lidar].sample.data else { unreachable!() };
    (radar.points.iter().map(|point| point.position).collect(), lidar.points.clone())
}

fn predictor(config: &NetworkConfig) -> NetworkPredictor {
    NetworkPredictor::fresh(config, SIZES, &ASKED, &Codebook::default(), DeviceChoice::Cpu).unwrap()
}

fn whole(criterion: &mut Criterion) {
    let edge = LazyCell::new(Edge::load);
    // As `benches/network.rs`: from readings to probabilities, four slots kept.
    criterion.benchmark_group("edge-frame").bench_function("ours", |bench| {
        let mut predictor = predictor(&edge.config);
        let mut windower = Windower::new(&Align::default());
        let mut ms = 0;
        let mut next = || {
            ms += 100;
            [windower.push(Arc::new(frame(ms, &ALL, true)))]
        };
        for _ in 0..SLOTS {
            predictor.predict(&next()).unwrap();
        }
        let predict = |window: [Window; 1]| black_box(predictor.predict(&window).unwrap());
        bench.iter_batched(next, predict, BatchSize::PerIteration);
    });
    ours(criterion, "edge-resize", || image_of(&edge.frame, &edge.config));
    ours(criterion, "edge-search", || {
        let (radar, lidar) = clouds_of(&edge.frame, &edge.network);
        (edge.radar_encoder.hierarchy(&radar), edge.lidar_encoder.hierarchy(&lidar))
    });
    ours(criterion, "edge-network", || {
        edge.network.forward(&edge.tokens(&edge.encode().unwrap()).unwrap(), &edge.asked).unwrap()
    });
    ours(criterion, "edge-image", || edge.network.encoders().images(&edge.image, Mode::Infer).unwrap());
    ours(criterion, "edge-radar", || edge.radar_encoder.forward(&edge.radar).unwrap());
    ours(criterion, "edge-lidar", || edge.lidar_encoder.forward(&edge.lidar).unwrap());
    ours(criterion, "edge-link", || edge.network.encoders().links(&edge.link, Mode::Infer).unwrap());
    ours(criterion, "edge-position", || edge.network.encoders().positions(&edge.position).unwrap());
    let tokens = LazyCell::new(|| edge.tokens(&edge.encode().unwrap()).unwrap());
    ours(criterion, "edge-core", || edge.network.forward(&tokens, &edge.asked).unwrap());
}

/// Readings of a batch of training.
const BATCH: usize = 8;
const TRAIN: Mode = Mode::Train { seed: 1, statistics: Statistics::Batch };

/// Parts of the network on a batch of [`BATCH`] readings (behind the encoders, of one row), with weights that are trained.
struct Training {
    network: Network,
    parameters: Vec<(String, Var)>,
    images: Tensor,
    radar: Vec<Cloud>,
    lidar: Vec<Cloud>,
    tokens: Tokens,
    asked: Asked,
}

impl Training {
    fn load() -> Self {
        let edge = Edge::load();
        let weights = drawn(edge.config.seed, |vb| {
            Network::build(&edge.config, SIZES, Purpose::Training, vb).unwrap();
        });
        write_weights("training", &weights);
        let (vb, parameters) = Parameters::watch(builder(&weights), |_| true);
        let network = Network::build(&edge.config, SIZES, Purpose::Training, &vb).unwrap();
        let (radar, lidar) = clouds_of(&edge.frame, &edge.network);
        // Turned about the mast, each a little further: no two of a batch are alike.
        let turned = |cloud: &Cloud| -> Vec<Cloud> {
            let turn = |number: usize| {
                let (sin, cos) = (0.05 * number as f32).sin_cos();
                let mut cloud = cloud.clone();
                let width = cloud.features.len() / cloud.positions.len();
                for (place, features) in cloud.positions.iter_mut().zip(cloud.features.chunks_mut(width)) {
                    let [x, y, z] = *place;
                    *place = [cos * x - sin * y, sin * x + cos * y, z];
                    features[..3].copy_from_slice(place);
                }
                cloud
            };
            (0..BATCH).map(turn).collect()
        };
        let brighter = |number: usize| (&edge.image * (1.0 + 0.05 * number as f64)).unwrap();
        let images: Vec<Tensor> = (0..BATCH).map(brighter).collect();
        let (radar, lidar) = (turned(&radar), turned(&lidar));
        let training = Self {
            network,
            parameters: parameters.trained(),
            images: Tensor::cat(&images, 0).unwrap(),
            tokens: edge.tokens(&edge.encode().unwrap()).unwrap(),
            asked: edge.asked.clone(),
            radar,
            lidar,
        };
        training.report(&edge);
        training
    }

    /// What a part says.
    fn say(&self, part: &str) -> Tensor {
        let encoders = self.network.encoders();
        let encoded = match part {
            "image" => encoders.images(&self.images, TRAIN),
            "radar" => encoders.clouds(Input::Radar, &self.radar, TRAIN),
            "lidar" => encoders.clouds(Input::Lidar, &self.lidar, TRAIN),
            _ => {
                let said = self.network.scores(&self.tokens, &self.asked, TRAIN).unwrap();
                let tasks: Vec<&Tensor> = ASKED.iter().map(|task| &said.tasks[task]).collect();
                return Tensor::cat(&tasks, 1).unwrap();
            }
        };
        encoded.unwrap().tokens.flatten(0, 1).unwrap()
    }

    /// Forward and back: what is said, and the gradients of Σ said · [`numbers`].
    fn step(&self, part: &str) -> (Tensor, GradStore) {
        let said = self.say(part);
        let loss = (&said * numbers(said.dims())).unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        (said, gradients)
    }

    /// Writes what goes in, and what comes out with its gradients.
    fn report(&self, edge: &Edge) {
        for part in TRAINED {
            let (said, gradients) = self.step(part);
            let mut named = vec![("out".to_owned(), said.detach())];
            for (name, var) in &self.parameters {
                named.extend(gradients.get(var).map(|gradient| (format!("grad.{name}"), gradient.clone())));
            }
            let scan = |name: &str, encoder: &Points, clouds: &[Cloud]| {
                let clouds: Vec<Scan> = clouds.iter().map(|cloud| Scan::new(encoder, cloud)).collect();
                let each = clouds.iter().enumerate();
                each.flat_map(|(number, scan)| scan.tensors(&format!("{number}.{name}"))).collect::<Vec<_>>()
            };
            match part {
                "image" => named.push(("image".to_owned(), self.images.clone())),
                "radar" => named.extend(scan("radar", &edge.radar_encoder, &self.radar)),
                "lidar" => named.extend(scan("lidar", &edge.lidar_encoder, &self.lidar)),
                _ => {
                    let Tokens { values, mask, ages, .. } = self.tokens.clone();
                    named.extend(
                        [("values", values), ("mask", mask), ("ages", ages)]
                            .map(|(name, x)| (name.to_owned(), x)),
                    );
                }
            }
            let named = named.iter().map(|(name, tensor)| (name.as_str(), tensor.clone()));
            write(&format!("training-{part}"), named.collect::<Vec<_>>());
        }
    }
}

const TRAINED: [&str; 4] = ["image", "radar", "lidar", "core"];

fn training(criterion: &mut Criterion) {
    let training = LazyCell::new(Training::load);
    for part in TRAINED {
        ours(criterion, &format!("training-{part}"), || training.step(part));
    }
}

/// Rows of the large backbones.
const ROWS: usize = 4;
/// Tokens of each row.
const LENGTH: usize = 16;
/// Tokens of the sensors: those of a window of `edge`.
const SENSED: usize = 400;

/// Eight layers of the proportions of `edge`.
fn large(cross_layers: Vec<usize>) -> BackboneConfig {
    BackboneConfig {
        embeddings: 432,
        hidden_size: 512,
        intermediate_size: 1024,
        layers: 8,
        cross_layers,
        heads: 8,
        kv_heads: 2,
        rms_norm_eps: 1e-5,
        rope: RopeConfig { theta: 10_000.0, scaling: None },
    }
}

fn load_backbone(name: &str, config: &BackboneConfig) -> Backbone {
    let weights = drawn(2, |vb| {
        Backbone::load(config, vb, None).unwrap();
    });
    write_weights(name, &weights);
    Backbone::load(config, &builder(&weights), None).unwrap()
}

fn backbones(criterion: &mut Criterion) {
    // Every layer over every token of the text.
    let text_only = LazyCell::new(|| {
        let backbone = load_backbone("backbone-text", &large(Vec::new()));
        let embeddings = numbers(&[ROWS, LENGTH, 512]);
        let last = run(&backbone, &embeddings);
        write("backbone-text-pass", [("embeddings", embeddings.clone()), ("out", last)]);
        (backbone, embeddings)
    });
    ours(criterion, "backbone-text", || run(&text_only.0, &text_only.1));

    // As it runs: four prompts about one sample.
    let sensing = LazyCell::new(|| {
        let config = large(vec![1, 3, 5, 7]);
        let backbone = load_backbone("backbone-cross", &config);
        let ids = (0..ROWS as u32).map(|row| (0..LENGTH as u32).map(|i| 1 + 100 * row + i).collect());
        let prompts = Prompts::new(&ids.collect::<Vec<_>>(), config.embeddings).unwrap();
        let prepared = backbone.prepare(&prompts).unwrap();
        let tokens = numbers(&[1, SENSED, 512]);
        let mask = Tensor::ones((1, SENSED), DType::F32, &Device::Cpu).unwrap();
        let rows: Vec<(u32, u32)> = (0..ROWS as u32).map(|prompt| (0, prompt)).collect();
        let pass = move || {
            let states = backbone.states(&tokens, Some(&mask), Mode::Infer).unwrap();
            Tensor::stack(&backbone.taps(&prepared, &states, &rows, Mode::Infer).unwrap(), 0).unwrap()
        };
        let taps = text(&prompts, &Taps::spread(&config, Taps::DEFAULT));
        let named = [("tokens", numbers(&[1, SENSED, 512])), ("out", pass())];
        write("backbone-cross-pass", named.into_iter().chain(taps));
        pass
    });
    ours(criterion, "backbone-cross", || {
        let pass = LazyCell::force(&sensing);
        pass()
    });
}

fn run(backbone: &Backbone, embeddings: &Tensor) -> Tensor {
    let inputs = Inputs { embeddings, mask: None, positions: None, states: None };
    backbone.forward(&inputs, Mode::Infer).unwrap().last
}

/// An operation on its own; its operands are written under the names that the script reads.
fn operation(
    criterion: &mut Criterion,
    name: &str,
    operands: &[(&'static str, &Tensor)],
    run: impl Fn() -> Result<Tensor>,
) {
    let out = LazyCell::new(|| {
        let out = run().unwrap();
        write(name, operands.iter().map(|&(name, x)| (name, x.clone())).chain([("out", out.clone())]));
        out
    });
    ours(criterion, name, || {
        LazyCell::force(&out);
        run().unwrap()
    });
}

fn operations(criterion: &mut Criterion) {
    for (rows, width) in [(16, 128), (400, 128)] {
        let (x, weight, bias) = (numbers(&[rows, width]), numbers(&[width]), numbers(&[width]));
        let operands = [("x", &x), ("weight", &weight), ("bias", &bias)];
        operation(criterion, &format!("layer-norm-{rows}x{width}"), &operands, || {
            ops::layer_norm(&x, &weight, &bias, 1e-5)
        });
    }
    for (rows, width) in [(22, 256), (800, 64)] {
        let (x, weight) = (numbers(&[rows, width]), numbers(&[width]));
        let named = HashMap::from([("weight".to_owned(), weight.clone())]);
        let norm = RmsNorm::load(width, 1e-5, &builder(&named)).unwrap();
        let operands = [("x", &x), ("weight", &weight)];
        operation(criterion, &format!("rms-norm-{rows}x{width}"), &operands, || norm.forward(&x));
    }
    for shape in [[1, 4, 400, 400], [1, 2, 44, 400]] {
        let (x, name) = (numbers(&shape), format!("softmax-{}x{}x{}", shape[1], shape[2], shape[3]));
        operation(criterion, &name, &[("x", &x)], || ops::softmax_last(&x));
    }
    // `edge` has no GELU; its baselines have, at this size.
    let x = numbers(&[400, 512]);
    operation(criterion, "gelu-400x512", &[("x", &x)], || ops::gelu(&x));
    operation(criterion, "gelu-tanh-400x512", &[("x", &x)], || ops::gelu_tanh(&x));
    for (rows, inputs, outputs) in [(400, 128, 128), (400, 128, 256), (1024, 128, 128)] {
        let (x, weight, bias) = (numbers(&[rows, inputs]), numbers(&[outputs, inputs]), numbers(&[outputs]));
        let dense = Dense::new(weight.clone(), Some(bias.clone())).unwrap();
        let operands = [("x", &x), ("weight", &weight), ("bias", &bias)];
        operation(criterion, &format!("linear-{rows}x{inputs}x{outputs}"), &operands, || dense.forward(&x));
    }
    for (rows, inputs, outputs) in [(22, 256, 512), (22, 256, 1024), (22, 512, 256), (400, 256, 256)] {
        let (x, weight) = (numbers(&[rows, inputs]), numbers(&[outputs, inputs]));
        let frozen = Frozen::new(&weight).unwrap();
        let operands = [("x", &x), ("weight", &weight)];
        operation(criterion, &format!("linear-{rows}x{inputs}x{outputs}"), &operands, || frozen.forward(&x));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(1500)).sample_size(20);
    targets = whole, training, backbones, operations
}

fn main() {
    mmsense::threads::settle();
    // As the `train` command does; a unit does not.
    if std::env::args().any(|argument| argument.starts_with("^training-")) {
        mmsense::train::memory::keep_for_reuse();
    }
    // Gradients are followed back by recursion.
    let run = || {
        benches();
        Criterion::default().configure_from_args().final_summary();
    };
    std::thread::Builder::new().stack_size(256 << 20).spawn(run).unwrap().join().unwrap();
}
