//! Radar cubes: numbers computed elsewhere, a target computed by hand, and real cubes with known targets.

use std::f64::consts::TAU;
use std::path::{Path, PathBuf};

use mmsense::config::{Pipeline, Pose, Radar};
use mmsense::decode::Decoder;
use mmsense::decode::npy::{self, NpyArray};
use mmsense::decode::radar::CubeProcessor;
use mmsense::sample::{Data, RadarPoint, Stream};
use ndarray::{Array2, Array3, Ix3, Ix4};
use num_complex::Complex32;
use safetensors::SafeTensors;

fn cube_of(bytes: &[u8]) -> Array3<Complex32> {
    match npy::read("cube", bytes).unwrap() {
        NpyArray::Complex(cube) => cube.into_dimensionality::<Ix3>().unwrap(),
        other => panic!("{other:?}"),
    }
}

fn golden(tensors: &SafeTensors<'_>, name: &str) -> Array2<f32> {
    let view = tensors.tensor(name).unwrap();
    let values = match view.dtype() {
        safetensors::Dtype::F32 => {
            view.data().chunks_exact(4).map(|v| f32::from_le_bytes(v.try_into().unwrap())).collect()
        }
        safetensors::Dtype::F64 => {
            view.data().chunks_exact(8).map(|v| f64::from_le_bytes(v.try_into().unwrap()) as f32).collect()
        }
        other => panic!("{other:?}"),
    };
    Array2::from_shape_vec((view.shape()[0], view.shape()[1]), values).unwrap()
}

fn check_near(found: &Array2<f32>, expected: &Array2<f32>) {
    assert_eq!(found.dim(), expected.dim());
    let largest = expected.iter().fold(0.0f32, |a, &b| a.max(b));
    let error = found.iter().zip(expected).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs()));
    assert!(error <= 1e-4 * largest, "{error} of {largest}");
}

fn strongest(map: &Array2<f32>) -> (usize, usize) {
    map.indexed_iter().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0
}

fn check_goldens(folder: &Path) {
    let cube = cube_of(&std::fs::read(folder.join("cube.npy")).unwrap());
    let maps = std::fs::read(folder.join("maps.safetensors")).unwrap();
    let maps = SafeTensors::deserialize(&maps).unwrap();
    let mut processor = CubeProcessor::new(Radar { angle_bins: 64, ..Radar::default() });
    let found = processor.maps(cube.view()).moving;
    check_near(&found, &golden(&maps, "range_angle"));
    assert_eq!(strongest(&found), (26, 40));
    check_near(&processor.range_doppler(cube.view()), &golden(&maps, "range_doppler"));
}

#[test]
fn maps_match_numbers_computed_elsewhere() {
    check_goldens(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/radar"));
    if let Some(folder) = crate::support::shared("parity/radar") {
        check_goldens(&folder);
    }
}

/// A point target: amplitude, range bin, angle bin of 64, Doppler bin.
struct Target(f32, f64, f64, f64);

const SHAPE: [usize; 3] = [4, 256, 128];

fn cube_bytes(targets: &[Target]) -> Vec<u8> {
    let [receivers, samples, chirps] = SHAPE;
    let cube = Array3::from_shape_fn((receivers, samples, chirps), |(rx, sample, chirp)| {
        targets
            .iter()
            .map(|Target(amplitude, range, angle, doppler)| {
                let turns = range * sample as f64 / samples as f64
                    + angle * rx as f64 / 64.0
                    + doppler * chirp as f64 / chirps as f64;
                let (sin, cos) = (TAU * turns).sin_cos();
                Complex32::new(cos as f32, sin as f32) * amplitude
            })
            .sum::<Complex32>()
    });
    crate::support::npy_c64(&SHAPE, cube.iter().map(|value| (value.re, value.im)))
}

fn points(pipeline: &Pipeline, bytes: Vec<u8>) -> Vec<RadarPoint> {
    match Decoder::new(pipeline).decode(&crate::support::raw(Stream::Radar, None, bytes)).unwrap() {
        Data::Radar(reading) => reading.points.clone(),
        other => panic!("{other:?}"),
    }
}

fn near(found: f32, expected: f64, within: f64) {
    assert!((f64::from(found) - expected).abs() <= within, "{found} instead of {expected}");
}

#[test]
fn a_single_target_lands_where_it_is() {
    let pipeline = Pipeline::default();
    // Range 40.3 bins of 0.195 m = 7.86 m; sin α = 2·12/64 = 0.375 to the right; Doppler bin 9 of
    // λ/(2·128·65 µs) = 0.23398 m/s, away: 2.106 m/s.
    let found = points(&pipeline, cube_bytes(&[Target(1.0, 40.3, 12.0, 9.0)]));
    let [x, y, z] = found[0].position;
    near(x.hypot(y), 40.3 * 0.195, 0.195 / 2.0);
    near(x / x.hypot(y), 0.375, 1.0 / 64.0);
    near(z, 0.0, 1e-6);
    near(found[0].doppler_mps, 9.0 * 0.233_98, 0.01);
    assert!(found[0].has_doppler && !found[0].is_static && y > 0.0);
    // On its bins exactly, nothing leaks: one target, one point, of 20 log10(4 · 256 · 128) dB.
    let found = points(&pipeline, cube_bytes(&[Target(1.0, 40.0, 12.0, -9.0)]));
    assert_eq!(found.len(), 1, "{found:?}");
    near(found[0].doppler_mps, -9.0 * 0.233_98, 0.01);
    near(found[0].power_db, 20.0 * f64::from(4 * 256 * 128).log10(), 0.01);
}

#[test]
fn direction_and_pose_are_obeyed() {
    let mut pipeline = Pipeline::default();
    let bytes = cube_bytes(&[Target(1.0, 40.0, 12.0, 9.0)]);
    let straight = points(&pipeline, bytes.clone())[0].position;
    pipeline.radar.phase_grows_right = false;
    let mirrored = points(&pipeline, bytes.clone())[0].position;
    near(mirrored[0], f64::from(-straight[0]), 1e-5);
    pipeline.radar.phase_grows_right = true;
    // Turned left by 90° and raised: what was to the right (+x) is ahead (+y), what was ahead is to the left.
    pipeline.pose.radar = Pose { yaw_deg: 90.0, position_m: [0.0, 0.0, 3.0], ..Pose::default() };
    let turned = points(&pipeline, bytes)[0].position;
    near(turned[0], f64::from(-straight[1]), 1e-5);
    near(turned[1], f64::from(straight[0]), 1e-5);
    near(turned[2], 3.0, 1e-6);
}

#[test]
fn what_stands_and_what_moves_come_apart() {
    // A strong standing target, a mover elsewhere, and a mover in front of a standing wall in one and the same cell.
    let found = points(
        &Pipeline::default(),
        cube_bytes(&[
            Target(50.0, 60.0, -8.0, 0.0),
            Target(1.0, 90.0, 4.0, 20.0),
            Target(10.0, 120.0, 16.0, 0.0),
            Target(2.0, 120.0, 16.0, -5.0),
        ]),
    );
    let ranges = |is_static: bool| -> Vec<(i64, i64)> {
        found
            .iter()
            .filter(|point| point.is_static == is_static)
            .map(|point| {
                let range = f64::from(point.position[0]).hypot(f64::from(point.position[1])) / 0.195;
                (range.round() as i64, (f64::from(point.doppler_mps) / 0.233_98).round() as i64)
            })
            .collect()
    };
    assert_eq!(ranges(false), [(120, -5), (90, 20)]);
    assert_eq!(ranges(true), [(60, 0), (120, 0)]);
}

#[test]
fn one_nan_refuses_a_cube_and_drops_a_point() {
    let decoder = Decoder::new(&Pipeline::default());
    let decode = |bytes| decoder.decode(&crate::support::raw(Stream::Radar, None, bytes));
    let mut values = vec![(1.0f32, 0.0f32); 4 * 8 * 8];
    values[77].1 = f32::NAN;
    assert_eq!(decode(crate::support::npy_c64(&[4, 8, 8], values)).unwrap_err().reason(), "not_finite");
    let mut map = vec![1.0f32; 64];
    map[3] = f32::INFINITY;
    assert_eq!(decode(crate::support::npy_f32(&[8, 8], map)).unwrap_err().reason(), "not_finite");
    assert_eq!(
        decode(crate::support::npy_f32(&[2, 2], [0.0, 1.0, -1.0, 0.0])).unwrap_err().reason(),
        "out_of_range"
    );
    let list = [1.0, 2.0, 3.0, -4.0, 5.0, 1.0, f32::NAN, 3.0, 4.0, 5.0];
    let Data::Radar(reading) = decode(crate::support::npy_f32(&[2, 5], list)).unwrap() else { panic!() };
    assert_eq!(reading.points.len(), 1);
    assert_eq!(reading.points[0].position, [1.0, 2.0, 3.0]);
    assert_eq!((reading.points[0].doppler_mps, reading.points[0].power_db), (-4.0, 5.0));
    assert!(reading.map.is_none());
    let Data::Radar(reading) = decode(crate::support::npy_f32(&[0, 5], [])).unwrap() else { panic!() };
    assert!(reading.points.is_empty());
    for shape in [&[2, 2, 2, 2][..], &[4, 4], &[0, 4, 4], &[65, 1, 1], &[1, 5000, 1]] {
        let count = shape.iter().product();
        let error = decode(crate::support::npy_c64(shape, vec![(1.0, 1.0); count])).unwrap_err();
        assert_eq!(error.reason(), "wrong_shape", "{shape:?}");
    }
    assert_eq!(decode(crate::support::npy("<i4", &[2, 2], [0; 16])).unwrap_err().reason(), "wrong_dtype");
    assert_eq!(
        decode(crate::support::npy("<c8", &[4, 256, 250], [0; 64])).unwrap_err().reason(),
        "truncated"
    );
}

#[test]
fn a_map_of_an_fft_gives_points_without_doppler() {
    let mut map = vec![1.0f32; 64 * 64];
    map[20 * 64 + 48] = 100.0;
    let found = points(&Pipeline::default(), crate::support::npy_f32(&[64, 64], map));
    assert_eq!(found.len(), 1);
    // sin α = (48 − 32)·2/64 = 0.5
    near(found[0].position[0], 20.0 * 0.195 * 0.5, 1e-5);
    near(found[0].position[1], 20.0 * 0.195 * 0.75f64.sqrt(), 1e-5);
    near(found[0].power_db, 40.0, 1e-5);
    assert!(!found[0].has_doppler);
}

fn hann(n: usize, length: usize) -> f32 {
    (0.5 - 0.5 * (TAU * n as f64 / (length - 1) as f64).cos()) as f32
}

#[test]
fn the_ti_cube_shows_a_wall_and_a_hand() {
    let Some(folder) = crate::support::shared("data/sensors/radar_cubes/openradar_awr1642") else { return };
    // As stored: (chirps, antennas, samples), each part a signed 16-bit number stored as unsigned.
    let stored = cube_of(&std::fs::read(folder.join("doppler_example_1.npy")).unwrap());
    let signed = |value: f32| f32::from(value as u16 as i16);
    let (chirps, _, samples) = stored.dim();
    let cube = stored
        .permuted_axes([1, 2, 0])
        .as_standard_layout()
        .mapv(|v| Complex32::new(signed(v.re), signed(v.im)));
    let windowed = Array3::from_shape_fn(cube.dim(), |(rx, sample, chirp)| {
        cube[(rx, sample, chirp)] * hann(sample, samples) * hann(chirp, chirps)
    });
    let mut processor =
        CubeProcessor::new(Radar { range_bin_m: 0.0488, chirp_period_s: 2.0 * 92e-6, ..Radar::default() });
    let maps = processor.maps(windowed.view());
    assert_eq!(strongest(&maps.fixed).0, 107);
    let mut doppler = processor.range_doppler(windowed.view());
    // The window spreads what stands over two bins on each side of 0.
    doppler.slice_mut(ndarray::s![.., 64 - 2..=64 + 2]).fill(0.0);
    assert_eq!(strongest(&doppler), (60, 64 + 7));

    // The same through the decoder, without windows.
    let mut pipeline = Pipeline::default();
    pipeline.radar.range_bin_m = 0.0488;
    pipeline.radar.chirp_period_s = 2.0 * 92e-6;
    let found = points(&pipeline, crate::support::npy_c64(&[8, 128, 128], cube.iter().map(|v| (v.re, v.im))));
    let range = |point: &RadarPoint| f64::from(point.position[0]).hypot(f64::from(point.position[1]));
    // Below bin 5 the transmitter leaks into the receivers.
    let wall = found.iter().find(|point| point.is_static && range(point) > 5.5 * 0.0488).unwrap();
    near(range(wall) as f32, 107.0 * 0.0488, 0.01);
    let bin = pipeline.radar.wavelength_m / (2.0 * 128.0 * 2.0 * 92e-6);
    assert!(
        found.iter().any(|point| !point.is_static
            && (range(point) / 0.0488 - 60.0).abs() < 1.5
            && (f64::from(point.doppler_mps) / bin - 7.0).abs() < 1.5),
        "{:?}",
        &found[..found.len().min(10)]
    );
}

#[test]
fn the_infineon_cube_shows_its_target() {
    let Some(folder) = crate::support::shared("data/sensors/radar_cubes/infineon_bgt60_zharfanw") else {
        return;
    };
    // Real 16-bit samples (frames, rx, chirps, samples); the decoder takes complex cubes, so the test converts.
    let bytes = std::fs::read(folder.join("radar.npy")).unwrap();
    let data = bytes.len() - 256 * 3 * 8 * 64 * 2;
    let counts = bytes[data..].chunks_exact(2).map(|v| f32::from(u16::from_le_bytes([v[0], v[1]]))).collect();
    let frames = ndarray::Array::from_shape_vec((256, 3, 8, 64), counts)
        .unwrap()
        .into_dimensionality::<Ix4>()
        .unwrap();
    let mean = frames.mean().unwrap();
    let mut processor = CubeProcessor::new(Radar::default());
    let mut profile = vec![0.0f32; 32];
    for frame in frames.outer_iter() {
        let cube = Array3::from_shape_fn((3, 64, 8), |(rx, sample, chirp)| {
            Complex32::new((frame[(rx, chirp, sample)] - mean) * hann(sample, 64), 0.0)
        });
        let map = processor.maps(cube.view()).fixed;
        for (sum, row) in profile.iter_mut().zip(map.outer_iter()) {
            *sum += row.sum();
        }
    }
    // The first bins hold the leakage from transmitter to receiver.
    let best = (4..32).max_by(|&a, &b| profile[a].total_cmp(&profile[b])).unwrap();
    assert_eq!(best, 12, "{profile:?}");
}
