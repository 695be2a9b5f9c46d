//! How long one sample of each kind takes to decode, on one core.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // made by macros; a bench may stop

use std::hint::black_box;
use std::io::Cursor;

use criterion::{Criterion, criterion_group, criterion_main};
use mmsense::config::{Codebook, Pipeline, Site};
use mmsense::decode::Decoder;
use mmsense::sample::{Stream, UeId};

#[path = "../tests/decode/support.rs"]
mod support;

/// Repeatable noise in −1…1.
fn noise(count: usize) -> impl Iterator<Item = f32> {
    let mut state = 1u64;
    (0..count).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    })
}

fn picture(format: image::ImageFormat) -> Vec<u8> {
    let mut grain = noise(960 * 540);
    let image = image::RgbImage::from_fn(960, 540, |x, y| {
        let grain = (grain.next().unwrap_or(0.0) * 6.0) as i32;
        let at = |value: u32| (value as i32 % 200 + 20 + grain) as u8;
        image::Rgb([at(x / 4), at(y / 2), at((x + y) / 8)])
    });
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("an image encodes");
    bytes.into_inner()
}

fn points(count: usize) -> Vec<[f32; 4]> {
    let mut noise = noise(count * 4);
    let mut next = || noise.next().unwrap_or(0.0);
    (0..count).map(|_| [next() * 50.0, next() * 50.0, next() * 3.0, (next() * 100.0).abs()]).collect()
}

fn decode(c: &mut Criterion) {
    let site = Site { latitude: 33.42, longitude: -111.93, altitude_m: 350.0, heading_deg: 20.0 };
    let codebook = Codebook { beams: Some(64), ..Codebook::default() };
    let pipeline = Pipeline { site: Some(site), codebook, ..Pipeline::default() };
    let decoder = Decoder::new(&pipeline);
    let ue = UeId::implied;
    let cube = noise(4 * 256 * 250).zip(noise(4 * 256 * 250).map(|v| v * 0.7));
    let cloud = points(60_000);
    let xyz: Vec<[f32; 3]> = points(18_000).iter().map(|p| [p[0], p[1], p[2]]).collect();
    let powers: Vec<String> = noise(64).map(|value| value.abs().to_string()).collect();
    let cases = [
        ("camera/jpeg 960x540", Stream::Camera, picture(image::ImageFormat::Jpeg)),
        ("camera/png 960x540", Stream::Camera, picture(image::ImageFormat::Png)),
        ("radar/npy cube (4,256,250) to points", Stream::Radar, support::npy_c64(&[4, 256, 250], cube)),
        (
            "radar/npy map (256,64)",
            Stream::Radar,
            support::npy_f32(&[256, 64], noise(256 * 64).map(f32::abs)),
        ),
        ("radar/npy list (256,5)", Stream::Radar, support::npy_f32(&[256, 5], noise(256 * 5))),
        ("lidar/pcd binary 60k", Stream::Lidar, support::pcd(&cloud, "binary")),
        ("lidar/pcd binary_compressed 60k", Stream::Lidar, support::pcd(&cloud, "binary_compressed")),
        ("lidar/pcd ascii 1k", Stream::Lidar, support::pcd(&points(1000), "ascii")),
        ("lidar/ply ascii 18k", Stream::Lidar, support::ply(&xyz, "ascii")),
        ("lidar/ply binary 18k", Stream::Lidar, support::ply(&xyz, "binary_little_endian")),
        ("link/npy 64", Stream::Link(ue()), support::npy_f32(&[64], noise(64).map(f32::abs))),
        ("link/json 64", Stream::Link(ue()), format!("{{\"power\":[{}]}}", powers.join(",")).into_bytes()),
        (
            "position/json",
            Stream::Position(ue()),
            br#"{"lat":33.4201,"lon":-111.9302,"speed_mps":9.5}"#.to_vec(),
        ),
        ("blocked/json", Stream::Blocked(ue()), br#"{"blocked":false}"#.to_vec()),
    ];
    for (name, stream, payload) in cases {
        let raw = support::raw(stream, None, payload);
        c.bench_function(name, |bencher| {
            bencher.iter(|| decoder.decode(black_box(&raw)).expect("it decodes"))
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(std::time::Duration::from_secs(3));
    targets = decode
}
criterion_main!(benches);
