//! Point clouds on this machine's CPU: neighbours and farthest points at 1,024 and 16,384 points, beside looking at every
//! pair; the encoder at both sizes and at a radar's, beside the same network step by step. Neighbours are found
//! beforehand where the encoder alone is measured.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::hint::black_box;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use criterion::{Criterion, criterion_group};
use mmsense::model::layers::Mode;
use mmsense::model::neighbours::{farthest, nearest};
use mmsense::model::point_transformer::{Form, Hierarchy, PointTransformer, PointTransformerConfig};
use mmsense::model::seeded::fresh_weights;

/// Numbers in 0…1 that fill space evenly.
fn spread(index: usize, axis: usize) -> f32 {
    let steps = [0.754_877_7, 0.569_840_3, 0.324_717_95];
    (index as f64 * steps[axis % 3]).fract() as f32
}

/// A scan: dense near the sensor and thin far away.
fn scan(points: usize) -> Vec<[f32; 3]> {
    let point = |i: usize| {
        let (range, angle) = (2.0 * (20.0f32).powf(spread(i, 0)), std::f32::consts::TAU * spread(i, 1));
        [range * angle.cos(), range * angle.sin(), 3.0 * spread(i, 2)]
    };
    (0..points).map(point).collect()
}

fn distance(a: &[f32; 3], b: &[f32; 3]) -> f32 {
    let (x, y, z) = (a[0] - b[0], a[1] - b[1], a[2] - b[2]);
    x * x + y * y + z * z
}

/// Looks at every pair.
fn plain_nearest(points: &[[f32; 3]], k: usize) -> Vec<u32> {
    let mut out = Vec::with_capacity(points.len() * k);
    let mut best: Vec<(f32, u32)> = Vec::with_capacity(k + 1);
    for query in points {
        best.clear();
        for (index, point) in (0u32..).zip(points) {
            let found = distance(query, point);
            if best.len() == k && best.last().is_some_and(|worst| found >= worst.0) {
                continue;
            }
            let place = best.partition_point(|other| other.0 <= found);
            best.insert(place, (found, index));
            best.truncate(k);
        }
        out.extend(best.iter().map(|(_, index)| *index));
    }
    out
}

/// Looks at every point for every sample.
fn plain_farthest(points: &[[f32; 3]], count: usize) -> Vec<u32> {
    let mut near = vec![f32::INFINITY; points.len()];
    let (mut chosen, mut next) = (Vec::with_capacity(count), 0);
    for _ in 0..count {
        chosen.push(next as u32);
        let mut far = (f32::NEG_INFINITY, 0);
        for (index, (point, near)) in points.iter().zip(&mut near).enumerate() {
            *near = near.min(distance(point, &points[next]));
            if *near > far.0 {
                far = (*near, index);
            }
        }
        next = far.1;
    }
    chosen
}

fn neighbours(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("points");
    group.sample_size(10);
    for n in [1_024, 16_384] {
        let points = scan(n);
        let ours = || {
            let mut out = Vec::new();
            nearest(&points, &points, 16, 0, &mut out);
            out
        };
        assert_eq!(ours(), plain_nearest(&points, 16));
        assert_eq!(farthest(&points, n / 4), plain_farthest(&points, n / 4));
        group.bench_function(format!("16 nearest of {n}"), |bench| bench.iter(|| black_box(ours())));
        group.bench_function(format!("16 nearest of {n}, plain"), |bench| {
            bench.iter(|| black_box(plain_nearest(&points, 16)));
        });
        group.bench_function(format!("farthest quarter of {n}"), |bench| {
            bench.iter(|| black_box(farthest(&points, n / 4)));
        });
        group.bench_function(format!("farthest quarter of {n}, plain"), |bench| {
            bench.iter(|| black_box(plain_farthest(&points, n / 4)));
        });
    }
    group.finish();
}

/// Weights, clouds and outputs that `tools/yardstick_points.py` left where `MMSENSE_POINTS_WEIGHTS` says.
fn yardstick() -> Option<HashMap<String, Tensor>> {
    let path = std::env::var_os("MMSENSE_POINTS_WEIGHTS")?;
    Some(candle_core::safetensors::load(path, &Device::Cpu).unwrap())
}

fn encoder(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("point encoder");
    group.sample_size(10);
    let device = Device::Cpu;
    let yardstick = yardstick();
    for (name, n, inputs, widths, points) in [
        ("1024 points", 1_024, 6, vec![32, 64, 128, 256, 512], vec![1_024, 256, 64, 16, 4]),
        ("16384 points", 16_384, 6, vec![32, 64, 128, 256, 512], vec![16_384, 4_096, 1_024, 256, 64]),
        ("small lidar, 512 points", 512, 3, vec![32, 64, 128, 128], vec![512, 128, 32, 16]),
        ("small radar, 128 points", 128, 7, vec![32, 64, 128], vec![128, 32, 16]),
    ] {
        let config = PointTransformerConfig {
            magnify: 1,
            points: points.clone(),
            widths,
            neighbours: 16,
            share: 8,
            attention: Form::Postech,
        };
        let given = yardstick.as_ref().filter(|_| inputs == 6);
        let vb = given.map_or_else(
            || fresh_weights(1, &device),
            |tensors| VarBuilder::from_tensors(tensors.clone(), DType::F32, &device),
        );
        let network = PointTransformer::load(inputs, &config, &vb).unwrap();
        let cloud: Vec<[f32; 3]> = match given {
            Some(tensors) => {
                let rows = tensors[&format!("cloud.{n}")].to_vec2::<f32>().unwrap();
                rows.into_iter().map(|row| [row[0], row[1], row[2]]).collect()
            }
            None => scan(n),
        };
        let size = |level: usize, _: usize| points.get(level).copied().unwrap_or(1);
        let prepare = || Hierarchy::new(&[&cloud], config.widths.len(), size, 16, &device).unwrap();
        let row = |index: usize| {
            let point = cloud.get(index).copied().unwrap_or_default();
            (0..inputs).map(move |i| point.get(i).copied().unwrap_or_else(|| spread(index, i)))
        };
        let features: Vec<f32> = (0..n).flat_map(row).collect();
        let features = Tensor::from_vec(features, (n, inputs), &device).unwrap();
        let features = given.map_or(features, |tensors| tensors[&format!("features.{n}")].clone());
        let hierarchy = prepare();
        if let Some(tensors) = given {
            let out = network.forward(&hierarchy, &features, Mode::Infer).unwrap();
            let wanted = &tensors[&format!("out.{n}")];
            let largest = |x: &Tensor| -> f32 {
                x.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
            };
            let (apart, most) = (largest(&(out - wanted).unwrap()), largest(wanted));
            assert!(apart <= 1e-5 * most.max(1.0), "{n} points: {apart} of {most}");
        }
        group.bench_function(format!("{name}, hierarchy"), |bench| bench.iter(|| black_box(prepare())));
        group.bench_function(format!("{name}, encoder"), |bench| {
            bench.iter(|| black_box(network.forward(&hierarchy, &features, Mode::Infer).unwrap()));
        });
        group.bench_function(format!("{name}, step by step"), |bench| {
            bench.iter(|| black_box(network.stages(&hierarchy, &features, Mode::Infer).unwrap()));
        });
    }
    group.finish();
}

criterion_group!(benches, neighbours, encoder);

fn main() {
    mmsense::threads::settle();
    benches();
    Criterion::default().configure_from_args().final_summary();
}
