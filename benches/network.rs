//! The network on this machine's CPU, per stage of one frame: the shipped `edge` network, a 960×540 image, 512 radar and
//! 18,000 LiDAR points, 16 reports of 64 beams; then a whole frame with one new sample of each modality and four kept ones.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use mmsense::align::Windower;
use mmsense::config::{self, Align, Codebook};
use mmsense::frame::{Frame, Window};
use mmsense::infer::device::DeviceChoice;
use mmsense::infer::{NetworkPredictor, Predictor};
use mmsense::model::{Sizes, Task};

#[path = "scene/frame.rs"]
mod scene;

use scene::{ALL, frame};

fn network() -> NetworkPredictor {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/models/edge.toml");
    let sizes = Sizes::new(5, 64, 4);
    NetworkPredictor::fresh(
        &config::load_network(&file).unwrap(),
        sizes,
        &[Task::Beam, Task::Blockage],
        &Codebook::default(),
        DeviceChoice::Auto,
    )
    .unwrap()
}

/// A window of this one frame.
fn alone(frame: Frame) -> Window {
    Windower::new(&Align::default()).push(Arc::new(frame))
}

fn stages(criterion: &mut Criterion) {
    let mut network = network();
    let mut group = criterion.benchmark_group("network");
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

criterion_group!(benches, stages);
criterion_main!(benches);
