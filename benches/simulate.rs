//! How long each observer takes per frame of the shipped scene, on one core, and how many whole frames come per second.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // made by macros; a bench may stop

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mmsense::simulate::{Instance, Scene, Twin, make, scene};

fn shipped() -> Scene {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/street.toml");
    scene::load(&path).expect("the shipped scene is whole")
}

fn observers(c: &mut Criterion) {
    let scene = shipped();
    let twin = Twin::new(&scene);
    let at = Instance { sequence: 0, frame: 50 };
    let caster = twin.caster(at);
    let background = twin.background();
    c.bench_function("world", |b| b.iter(|| twin.caster(black_box(at))));
    c.bench_function("camera/jpeg", |b| {
        b.iter(|| twin.camera(at, &caster, &background).expect("it encodes"))
    });
    c.bench_function("radar/npy", |b| b.iter(|| twin.radar(at, &caster)));
    c.bench_function("lidar/ply", |b| b.iter(|| twin.lidar(at, &caster)));
    c.bench_function("link/powers", |b| b.iter(|| twin.links(at, 5.0)));
    c.bench_function("position", |b| b.iter(|| twin.position(at, 5.0, 0)));
}

fn frames(c: &mut Criterion) {
    let mut scene = shipped();
    scene.sequence.truncate(1);
    scene.sequence.iter_mut().for_each(|traffic| traffic.seconds = 2.0);
    let folder = tempfile::tempdir().expect("a folder");
    let mut group = c.benchmark_group("frames");
    group.throughput(Throughput::Elements(20)).sample_size(10);
    let mut number = 0;
    group.bench_function("all observers, written, every core", |b| {
        b.iter(|| {
            number += 1;
            let path = folder.path().join(number.to_string());
            let report = make(&scene, &path, &|_, _| true, None).expect("it is made");
            std::fs::remove_dir_all(path).expect("it goes");
            report
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(3));
    targets = observers, frames
}
criterion_main!(benches);
