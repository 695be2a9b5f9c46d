//! Networks on this machine's GPU, or CPU where there is none.
//!
//! `network`: `edge` per stage of one frame, a 960×540 image, 512 radar and 18,000 LiDAR points, 16 reports of 64 beams; then a
//! whole frame with one new sample of each modality and four kept ones. On a GPU the same of `base`.
//!
//! `units`: frames of 1, 4, 16 and 64 units in one forward pass, everything kept. On a GPU also of `base` and of the 11B's
//! shape with random weights (drawn on the host: some minutes), of which one pass reads 16.1 GB.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group};
use mmsense::align::Windower;
use mmsense::config::{self, Align, Codebook};
use mmsense::frame::{Frame, Window};
use mmsense::infer::device::{DeviceChoice, open};
use mmsense::infer::{NetworkPredictor, Predictor};
use mmsense::model::{NetworkConfig, Sizes, Task};
use mmsense::sample::UnitId;

#[path = "scene/frame.rs"]
mod scene;

use scene::{ALL, frame};

fn has_gpu() -> bool {
    open(DeviceChoice::Auto).unwrap().name != "cpu"
}

/// A configuration that ships; its backbone's weights are drawn, where a checkpoint would have them.
fn shipped(name: &str) -> NetworkConfig {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/models");
    let mut config = config::load_network(&folder.join(format!("{name}.toml"))).unwrap();
    if let Some(backbone) = &mut config.backbone {
        backbone.checkpoint = None;
        backbone.tokenizer.get_or_insert_with(|| folder.join("edge/tokenizer.json"));
    }
    config
}

fn network(config: &NetworkConfig) -> NetworkPredictor {
    let sizes = Sizes::new(5, 64, 4);
    let tasks = [Task::Beam, Task::Blockage];
    NetworkPredictor::fresh(config, sizes, &tasks, &Codebook::default(), DeviceChoice::Auto).unwrap()
}

/// A window of this one frame.
fn alone(frame: Frame) -> Window {
    Windower::new(&Align::default()).push(Arc::new(frame))
}

fn stages(criterion: &mut Criterion) {
    stages_of(criterion, "network", "edge");
    if has_gpu() {
        stages_of(criterion, "network base", "base");
    }
}

fn stages_of(criterion: &mut Criterion, group: &str, config: &str) {
    let mut network = network(&shipped(config));
    let mut group = criterion.benchmark_group(group);
    group.sample_size(20);
    // One new sample of one kind, and the forward pass over a window that holds nothing else.
    for (name, sensors, ue) in [
        ("image alone", &ALL[..1], false),
        ("radar alone", &ALL[1..2], false),
        ("lidar alone", &ALL[2..], false),
        ("link and position alone", &[][..], true),
    ] {
        group.bench_function(name, |bench| {
            let make = || [alone(frame(0, sensors, ue))];
            bench.iter_batched(
                make,
                |window| black_box(network.predict(&window).unwrap()),
                BatchSize::PerIteration,
            );
        });
    }
    let kept = [alone(frame(0, &ALL, true))];
    group.bench_function("forward, everything kept", |bench| {
        bench.iter(|| black_box(network.predict(&kept).unwrap()));
    });
    let mut windower = Windower::new(&Align::default());
    let mut ms = 0;
    group.bench_function("whole frame", |bench| {
        let make = || {
            ms += 100;
            [windower.push(Arc::new(frame(ms, &ALL, true)))]
        };
        bench.iter_batched(
            make,
            |window| black_box(network.predict(&window).unwrap()),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// So many units, each with a whole frame that is kept.
fn units(criterion: &mut Criterion) {
    let (configs, counts): (&[&str], &[usize]) = match has_gpu() {
        true => (&["edge", "base", "llama-3.2-11b"], &[1, 4, 16, 64]),
        false => (&["edge"], &[1, 4, 16]),
    };
    for config in configs {
        let mut network = network(&shipped(config));
        let mut group = criterion.benchmark_group(format!("units {config}"));
        group.sample_size(10);
        for &count in counts {
            let of_unit = |number: usize| {
                let unit = UnitId::new(&format!("u{number}")).unwrap();
                alone(Frame { unit, ..frame(0, &ALL, true) })
            };
            let kept: Vec<Window> = (0..count).map(of_unit).collect();
            group.throughput(Throughput::Elements(count as u64));
            group.bench_function(count.to_string(), |bench| {
                bench.iter(|| black_box(network.predict(&kept).unwrap()));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, stages, units);

fn main() {
    mmsense::threads::settle();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
