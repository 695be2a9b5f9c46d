//! What the decoder tests share.
#![allow(dead_code, reason = "the bench and each test binary use their own part")]

use std::path::PathBuf;
use std::sync::Arc;

use mmsense::sample::{CaptureSource, Format, RawSample, Stamps, Stream, UnitId};
use mmsense::time::{CaptureTime, Moment};

/// A folder of `../shared`; `None`, with a word about it, where that does not stand beside the project.
pub fn shared(folder: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared").join(folder);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there", path.display());
    None
}

pub fn raw(stream: Stream, format: Option<Format>, payload: Vec<u8>) -> RawSample {
    let capture = CaptureTime::from_nanos(0);
    RawSample {
        unit: UnitId::new("rsu").unwrap(),
        stream,
        stamps: Stamps {
            capture,
            capture_source: CaptureSource::Arrival,
            sequence: None,
            arrival: Moment::at(capture),
            transport_ns: None,
        },
        format,
        payload: Arc::new(payload),
    }
}

/// An `.npy` file in C order; `descr` like `<f4`, `values` the bytes of all elements.
pub fn npy(descr: &str, shape: &[usize], values: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let shape: String = shape.iter().map(|dimension| format!("{dimension},")).collect();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    bytes
}

pub fn npy_f32(shape: &[usize], values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    npy("<f4", shape, values.into_iter().flat_map(f32::to_le_bytes))
}

/// Complex64.
pub fn npy_c64(shape: &[usize], values: impl IntoIterator<Item = (f32, f32)>) -> Vec<u8> {
    npy("<c8", shape, values.into_iter().flat_map(|(re, im)| [re, im]).flat_map(f32::to_le_bytes))
}

/// A PCD file of x, y, z, intensity (f32).
pub fn pcd(points: &[[f32; 4]], data: &str) -> Vec<u8> {
    let mut bytes = format!(
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\n\
         TYPE F F F F\nCOUNT 1 1 1 1\nWIDTH {n}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {n}\nDATA {data}\n",
        n = points.len()
    )
    .into_bytes();
    match data {
        "ascii" => {
            for [x, y, z, i] in points {
                bytes.extend(format!("{x} {y} {z} {i}\n").into_bytes());
            }
        }
        "binary" => bytes.extend(points.iter().flatten().flat_map(|value| value.to_le_bytes())),
        _ => {
            let columns: Vec<u8> = (0..4)
                .flat_map(|axis| points.iter().flat_map(move |point| point[axis].to_le_bytes()))
                .collect();
            // LZF: literal runs of up to 32 bytes.
            let lzf: Vec<u8> = columns
                .chunks(32)
                .flat_map(|run| std::iter::once(run.len() as u8 - 1).chain(run.iter().copied()))
                .collect();
            bytes.extend((lzf.len() as u32).to_le_bytes());
            bytes.extend((columns.len() as u32).to_le_bytes());
            bytes.extend(lzf);
        }
    }
    bytes
}

/// A PLY file of x, y, z (f32) with a face list behind them.
pub fn ply(points: &[[f32; 3]], format: &str) -> Vec<u8> {
    let mut bytes = format!(
        "ply\nformat {format} 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\n\
         element face 1\nproperty list uchar int vertex_indices\nend_header\n",
        points.len()
    )
    .into_bytes();
    match format {
        "ascii" => {
            for [x, y, z] in points {
                bytes.extend(format!("{x} {y} {z}\n").into_bytes());
            }
            bytes.extend(b"3 0 1 2\n");
        }
        "binary_little_endian" => {
            bytes.extend(points.iter().flatten().flat_map(|value| value.to_le_bytes()));
            bytes.extend([3, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0]);
        }
        _ => {
            bytes.extend(points.iter().flatten().flat_map(|value| value.to_be_bytes()));
            bytes.extend([3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2]);
        }
    }
    bytes
}
