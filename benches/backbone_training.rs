//! Training adapters of a frozen backbone: peak memory and time of a step, each way in a process of its own.
//!
//! 12 layers of width 512 (cross layers 1, 5, 9), 8 rows of 16 tokens that look at 80 sensor tokens each, LoRA of rank 8
//! on the attention's four projections. A step is a forward and a backward pass; the sensors' tokens want their gradient
//! too, as their encoders are trained.
//!
//! * `stock`: candle's own operations, one graph. Each frozen weight gets a gradient, which is kept.
//! * `stock, by layer`: forward without a graph, keeping each layer's input; then from the last layer to the first the
//!   layer is run again with a graph, and its gradients are taken (detach, re-run, vector-Jacobian product).
//! * `frozen product`: as `stock`, with `ops::Frozen` for every frozen weight.
//! * `frozen product, by layer`: both.
//! * `backbone`: this crate's, with the frozen product and its fused operations.
//!
//! `cargo bench --bench backbone_training`
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::process::Command;
use std::time::Instant;

use candle_core::backprop::GradStore;
use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::{Init, VarBuilder};
use mmsense::model::backbone::ops::Frozen;
use mmsense::model::backbone::{Backbone, BackboneConfig, Prompts, RopeConfig};
use mmsense::model::layers::{Mode, Statistics};
use mmsense::model::lora::{Adapters, LoraConfig};
use mmsense::model::parameters::Parameters;
use mmsense::model::seeded::fresh_weights;

const WIDTH: usize = 512;
const INSIDE: usize = 1536;
const HEADS: usize = 8;
const LAYERS: usize = 12;
const CROSS: [usize; 3] = [1, 5, 9];
const RANK: usize = 8;
const ROWS: usize = 8;
const TOKENS: usize = 16;
const SENSORS: usize = 80;
const STEPS: usize = 7;

const VARIANTS: [&str; 5] =
    ["stock", "stock, by layer", "frozen product", "frozen product, by layer", "backbone"];

fn noise(name: &str, shape: &[usize], stdev: f64) -> Tensor {
    fresh_weights(3, &Device::Cpu).get_with_hints(shape, name, Init::Randn { mean: 0.0, stdev }).unwrap()
}

/// A frozen weight, with an adapter where it has one.
enum Weight {
    Stock(Tensor),
    Frozen(Frozen),
}

struct Linear {
    weight: Weight,
    lora: Option<(Var, Var)>,
}

impl Linear {
    fn new(outputs: usize, inputs: usize, name: &str, adapted: bool, frozen: bool) -> Self {
        let weight = noise(name, &[outputs, inputs], 0.02);
        let weight = if frozen {
            Weight::Frozen(Frozen::new(&weight).unwrap())
        } else {
            Weight::Stock(weight.t().unwrap().contiguous().unwrap())
        };
        let var = |part: &str, shape: &[usize]| {
            Var::from_tensor(&noise(&format!("{name}.{part}"), shape, 0.04)).unwrap()
        };
        let lora = adapted.then(|| (var("a", &[RANK, inputs]), var("b", &[outputs, RANK])));
        Self { weight, lora }
    }

    /// With `graph` off nothing of the adapter is followed.
    fn forward(&self, x: &Tensor, graph: bool) -> Tensor {
        let mut shape = x.dims().to_vec();
        let x = x.reshape(((), shape.pop().unwrap())).unwrap();
        let mut y = match &self.weight {
            Weight::Stock(weight) => x.matmul(weight).unwrap(),
            Weight::Frozen(frozen) => frozen.forward(&x).unwrap(),
        };
        if let Some((a, b)) = &self.lora {
            let own = |var: &Var| if graph { var.as_tensor().clone() } else { var.as_tensor().detach() };
            let narrow = x.matmul(&own(a).t().unwrap()).unwrap();
            y = (y + narrow.matmul(&own(b).t().unwrap()).unwrap()).unwrap();
        }
        shape.push(y.dim(1).unwrap());
        y.reshape(shape).unwrap()
    }
}

/// A layer of candle's own operations.
struct Layer {
    norms: [Tensor; 2],
    heads: [Tensor; 2],
    /// q, k, v, o
    attention: [Linear; 4],
    /// gate, up, down
    mlp: [Linear; 3],
    cross: bool,
}

fn split(x: &Tensor) -> Tensor {
    let (rows, tokens, _) = x.dims3().unwrap();
    let x = x.reshape((rows, tokens, HEADS, WIDTH / HEADS)).unwrap();
    x.transpose(1, 2).unwrap().contiguous().unwrap()
}

impl Layer {
    fn new(number: usize, frozen: bool) -> Self {
        let linear = |outputs, inputs, name: &str, adapted| {
            Linear::new(outputs, inputs, &format!("{number}.{name}"), adapted, frozen)
        };
        let ones = |width: usize| Tensor::ones(width, DType::F32, &Device::Cpu).unwrap();
        Self {
            norms: [ones(WIDTH), ones(WIDTH)],
            heads: [ones(WIDTH / HEADS), ones(WIDTH / HEADS)],
            attention: ["q", "k", "v", "o"].map(|name| linear(WIDTH, WIDTH, name, true)),
            mlp: [
                linear(INSIDE, WIDTH, "gate", false),
                linear(INSIDE, WIDTH, "up", false),
                linear(WIDTH, INSIDE, "down", false),
            ],
            cross: CROSS.contains(&number),
        }
    }

    fn forward(&self, x: &Tensor, sensors: &Tensor, common: &Common, graph: bool) -> Tensor {
        let norm = |x: &Tensor, w: &Tensor| candle_nn::ops::rms_norm_slow(x, w, 1e-5).unwrap();
        let [q, k, v, o] = &self.attention;
        let normal = norm(x, &self.norms[0]);
        let seen = if self.cross { sensors } else { &normal };
        let (mut queries, mut keys) = (split(&q.forward(&normal, graph)), split(&k.forward(seen, graph)));
        if self.cross {
            (queries, keys) = (norm(&queries, &self.heads[0]), norm(&keys, &self.heads[1]));
        } else {
            let turn = |x: &Tensor| candle_nn::rotary_emb::rope_slow(x, &common.cos, &common.sin).unwrap();
            (queries, keys) = (turn(&queries), turn(&keys));
        }
        let mut scores = (queries.matmul(&keys.t().unwrap()).unwrap() * 0.125).unwrap();
        if !self.cross {
            scores = scores.broadcast_add(&common.mask).unwrap();
        }
        let weights = candle_nn::ops::softmax(&scores, D::Minus1).unwrap();
        let mixed = weights.matmul(&split(&v.forward(seen, graph))).unwrap();
        let mixed = mixed.transpose(1, 2).unwrap().contiguous().unwrap().reshape(x.shape()).unwrap();
        let gate = if self.cross { 0.5f64.tanh() } else { 1.0 };
        let x = (x + (o.forward(&mixed, graph) * gate).unwrap()).unwrap();
        let normal = norm(&x, &self.norms[1]);
        let [gate_proj, up, down] = &self.mlp;
        let inside = gate_proj.forward(&normal, graph).silu().unwrap();
        let inside = (inside * up.forward(&normal, graph)).unwrap();
        (x + (down.forward(&inside, graph) * gate).unwrap()).unwrap()
    }
}

/// Constants of all layers.
struct Common {
    cos: Tensor,
    sin: Tensor,
    mask: Tensor,
}

impl Common {
    fn new() -> Self {
        let half = WIDTH / HEADS / 2;
        let turn = |place: usize| (place / half) as f32 * 1e4f32.powf(-((place % half) as f32) / half as f32);
        let angles: Vec<f32> = (0..TOKENS * half).map(turn).collect();
        let angles = Tensor::from_vec(angles, (TOKENS, half), &Device::Cpu).unwrap();
        let ahead = |place: usize| if place % TOKENS > place / TOKENS { -1e9f32 } else { 0.0 };
        let mask: Vec<f32> = (0..TOKENS * TOKENS).map(ahead).collect();
        let mask = Tensor::from_vec(mask, (1, 1, TOKENS, TOKENS), &Device::Cpu).unwrap();
        Self { cos: angles.cos().unwrap(), sin: angles.sin().unwrap(), mask }
    }
}

fn loss(x: &Tensor) -> Tensor {
    x.narrow(1, TOKENS - 1, 1).unwrap().sqr().unwrap().sum_all().unwrap()
}

/// One graph over all layers.
fn whole(layers: &[Layer], x: &Tensor, sensors: &Var, common: &Common) -> Vec<GradStore> {
    let last = layers.iter().fold(x.clone(), |x, layer| layer.forward(&x, sensors, common, true));
    vec![loss(&last).backward().unwrap()]
}

/// One graph per layer, from the last to the first.
fn by_layer(layers: &[Layer], x: &Tensor, sensors: &Var, common: &Common) -> Vec<GradStore> {
    let unseen = sensors.as_tensor().detach();
    let mut inputs = vec![x.clone()];
    for layer in layers {
        inputs.push(layer.forward(inputs.last().unwrap(), &unseen, common, false));
    }
    let last = Var::from_tensor(&inputs.pop().unwrap()).unwrap();
    let mut grad = loss(&last).backward().unwrap().remove(&last).unwrap();
    let mut kept: Vec<GradStore> = Vec::new();
    for (layer, input) in layers.iter().zip(inputs).rev() {
        let input = Var::from_tensor(&input).unwrap();
        let y = layer.forward(&input, sensors, common, true);
        let mut grads = (y * &grad).unwrap().sum_all().unwrap().backward().unwrap();
        grad = grads.remove(&input).unwrap();
        let mut own = loss(&input.as_tensor().detach()).backward().unwrap();
        // Only what is trained is kept.
        for linear in &layer.attention {
            for var in linear.lora.iter().flat_map(|(a, b)| [a, b]) {
                own.insert(var, grads.remove(var).unwrap());
            }
        }
        if let Some(of_sensors) = grads.remove(sensors) {
            own.insert(sensors, of_sensors);
        }
        kept.push(own);
    }
    kept
}

/// A line of /proc/self/status, KiB.
fn status(key: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Processor time of all threads so far, ms: it says what a step costs on a machine that does other things too.
fn processor_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    // Ticks of 10 ms in user and in kernel mode.
    10.0 * (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap())
}

fn measure(mut step: impl FnMut() -> usize) {
    let before = status("VmRSS");
    let started = processor_ms();
    let mut times = Vec::new();
    let mut kept = 0;
    for _ in 0..STEPS {
        let start = Instant::now();
        kept = step();
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let (peak, mib) = (status("VmHWM"), 1024.0);
    println!(
        "{:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>12.1}",
        times[STEPS / 2],
        (processor_ms() - started) / STEPS as f64,
        before / mib,
        (peak - before) / mib,
        kept as f64 * 4.0 / mib / mib
    );
}

fn stock(frozen: bool, layerwise: bool) {
    let layers: Vec<Layer> = (0..LAYERS).map(|number| Layer::new(number, frozen)).collect();
    let common = Common::new();
    let x = noise("x", &[ROWS, TOKENS, WIDTH], 1.0);
    let sensors = Var::from_tensor(&noise("sensors", &[ROWS, SENSORS, WIDTH], 1.0)).unwrap();
    let way = if layerwise { by_layer } else { whole };
    measure(|| {
        let stores = way(&layers, &x, &sensors, &common);
        stores
            .iter()
            .flat_map(|grads| grads.get_ids().map(|id| grads.get_id(*id).unwrap().elem_count()))
            .sum()
    });
}

fn backbone() {
    let config = BackboneConfig {
        embeddings: 320,
        hidden_size: WIDTH,
        intermediate_size: INSIDE,
        layers: LAYERS,
        cross_layers: CROSS.to_vec(),
        heads: HEADS,
        kv_heads: HEADS,
        rms_norm_eps: 1e-5,
        rope: RopeConfig { theta: 1e4, scaling: None },
    };
    let targets = ["q_proj", "k_proj", "v_proj", "o_proj"].map(str::to_owned).to_vec();
    let lora = LoraConfig { rank: RANK, alpha: 8.0, dropout: 0.0, rank_stabilised: false, targets };
    let vb: VarBuilder<'static> = fresh_weights(1, &Device::Cpu);
    let (watched, parameters) = Parameters::watch(fresh_weights(2, &Device::Cpu), |_| true);
    let backbone = Backbone::load(&config, &vb, Some(&Adapters::beside(lora, watched))).unwrap();
    for (_, var) in parameters.trained() {
        var.set(&noise("var", var.dims(), 0.04)).unwrap();
    }
    let prompts = Prompts::new(&[(0..TOKENS as u32).collect()], config.embeddings).unwrap();
    let prepared = backbone.prepare(&prompts).unwrap();
    let sensors = Var::from_tensor(&noise("sensors", &[ROWS, SENSORS, WIDTH], 1.0)).unwrap();
    let rows: Vec<(u32, u32)> = (0..ROWS as u32).map(|row| (row, 0)).collect();
    let mode = Mode::Train { seed: 1, statistics: Statistics::Running };
    measure(|| {
        let states = backbone.states(&sensors, None, mode).unwrap();
        let taps = backbone.taps(&prepared, &states, &rows, mode).unwrap();
        let grads = taps.last().unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();
        grads.get_ids().map(|id| grads.get_id(*id).unwrap().elem_count()).sum()
    });
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "--variant") {
        Some(place) => match arguments[place + 1].as_str() {
            "stock" => stock(false, false),
            "stock, by layer" => stock(false, true),
            "frozen product" => stock(true, false),
            "frozen product, by layer" => stock(true, true),
            "backbone" => backbone(),
            other => panic!("no variant {other}"),
        },
        None => {
            println!(
                "{:<26} {:>9} {:>9} {:>9} {:>9} {:>12}",
                "", "ms/step", "cpu ms", "MiB base", "MiB peak+", "MiB of grads"
            );
            for variant in VARIANTS {
                let child =
                    Command::new(std::env::current_exe().unwrap()).args(["--variant", variant]).output();
                let output = child.unwrap();
                assert!(output.status.success(), "{variant}: {}", String::from_utf8_lossy(&output.stderr));
                print!("{variant:<26} {}", String::from_utf8_lossy(&output.stdout));
            }
        }
    }
}
