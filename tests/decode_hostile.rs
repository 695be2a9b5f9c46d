//! Hostile bytes: random ones, valid files with a few bytes changed, and bombs. Nothing panics, and nothing takes more
//! memory than its payload justifies.
// A counting allocator is the only way to see what was allocated; it forwards to the system's and touches no memory.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used)] // helpers outside #[test] functions

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Cursor;

use mmsense::config::Pipeline;
use mmsense::decode::{DecodeError, Decoder};
use mmsense::sample::{Data, Format, RawSample, Stream, UeId};
use proptest::prelude::*;

#[path = "decode/support.rs"]
mod support;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: isize) {
    // Not there any more while a thread ends.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `pointer` came from the system allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that a decode held at most beyond what was held before, and its result.
fn peak_of(decoder: &Decoder, raw: &RawSample) -> (usize, Result<Data, DecodeError>) {
    let before = NOW.get();
    PEAK.set(before);
    let result = decoder.decode(raw);
    ((PEAK.get() - before) as usize, result)
}

/// A small payload may take FFT plans and buffers of the libraries, and 64 bytes for each of its own.
fn allowed(payload: usize) -> usize {
    (4 << 20) + 64 * payload
}

fn decoder() -> Decoder {
    let mut pipeline = Pipeline::default();
    pipeline.codebook.beams = Some(8);
    // Images may be as large as the limits say, whatever the payload: keep that small here.
    pipeline.limits.image_side = 512;
    pipeline.limits.image_decoded_bytes = 1 << 20;
    Decoder::new(&pipeline)
}

fn check(
    decoder: &Decoder,
    stream: Stream,
    format: Option<Format>,
    payload: Vec<u8>,
) -> Result<Data, DecodeError> {
    let length = payload.len();
    let (peak, result) = peak_of(decoder, &support::raw(stream, format, payload));
    if let Err(error) = &result {
        assert_ne!(error.reason(), "panicked", "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
    assert!(peak <= allowed(length), "{peak} bytes for a payload of {length}: {result:?}");
    result
}

fn image(format: image::ImageFormat) -> Vec<u8> {
    let picture =
        image::RgbImage::from_fn(24, 16, |x, y| image::Rgb([x as u8 * 9, y as u8 * 7, (x * y) as u8]));
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Valid files of every kind.
fn valid() -> Vec<(Stream, Format, Vec<u8>)> {
    let points: Vec<[f32; 4]> = (0..12).map(|i| [i as f32, 0.5 - i as f32, 2.0, 10.0 * i as f32]).collect();
    let xyz: Vec<[f32; 3]> = points.iter().map(|p| [p[0], p[1], p[2]]).collect();
    let ue = UeId::implied;
    let cube = (0..2 * 16 * 8).map(|i| ((i % 7) as f32, (i % 5) as f32));
    let mut files = vec![
        (Stream::Camera, Format::Jpeg, image(image::ImageFormat::Jpeg)),
        (Stream::Camera, Format::Png, image(image::ImageFormat::Png)),
        (Stream::Radar, Format::Npy, support::npy_c64(&[2, 16, 8], cube)),
        (Stream::Radar, Format::Npy, support::npy_f32(&[12, 8], (0..96).map(|i| (i % 11) as f32))),
        (Stream::Radar, Format::Npy, support::npy_f32(&[3, 5], (0..15).map(|i| i as f32))),
        (Stream::Link(ue()), Format::Npy, support::npy_f32(&[8], (0..8).map(|i| i as f32))),
        (Stream::Link(ue()), Format::Json, br#"{"power":[1,2,3,null,5,6,7,8]}"#.to_vec()),
        (Stream::Link(ue()), Format::Json, br#"{"beams":[3,5],"power":[0.25,1e-3]}"#.to_vec()),
        (Stream::Position(ue()), Format::Json, br#"{"lat":33.42,"lon":-111.93,"alt":350.0}"#.to_vec()),
        (Stream::Blocked(ue()), Format::Json, br#"{"blocked":false}"#.to_vec()),
    ];
    for data in ["ascii", "binary", "binary_compressed"] {
        files.push((Stream::Lidar, Format::Pcd, support::pcd(&points, data)));
    }
    for format in ["ascii", "binary_little_endian", "binary_big_endian"] {
        files.push((Stream::Lidar, Format::Ply, support::ply(&xyz, format)));
    }
    files
}

#[test]
fn every_valid_file_decodes_by_its_word_and_by_its_first_bytes() {
    let decoder = decoder();
    for (stream, format, payload) in valid() {
        for declared in [Some(format), None] {
            let result = check(&decoder, stream.clone(), declared, payload.clone());
            assert!(result.is_ok(), "{stream} {format:?}: {result:?}");
            if let Ok(Data::Cloud(cloud)) = result {
                assert_eq!(cloud.points.len(), 12);
                assert_eq!(cloud.points[3], [3.0, -2.5, 2.0]);
                assert_eq!(cloud.intensity.get(3).copied(), (format == Format::Pcd).then_some(30.0));
            }
        }
    }
}

#[test]
fn cut_files_cost_their_sample_and_nothing_else() {
    let decoder = decoder();
    for (stream, format, payload) in valid() {
        for length in 0..payload.len() {
            let _ = check(&decoder, stream.clone(), Some(format), payload[..length].to_vec());
        }
    }
}

#[test]
fn bombs_take_no_memory() {
    let decoder = decoder();
    let pcd = |points: &str, tail: &[u8]| {
        let mut bytes = format!(
            "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {points}\nHEIGHT 1\n\
             POINTS {points}\nDATA binary_compressed\n"
        )
        .into_bytes();
        bytes.extend(tail);
        bytes
    };
    let four_gib = [4u32.to_le_bytes(), u32::MAX.to_le_bytes(), [0; 4]].concat();
    let both = [[0xff; 8].as_slice(), &[0; 16]].concat();
    let small = [5u32.to_le_bytes().as_slice(), &12u32.to_le_bytes(), &[3, 1, 2, 3, 4]].concat();
    let bombs = [
        (Format::Pcd, pcd("1", &four_gib), "malformed"),
        (Format::Pcd, pcd("357913941", &four_gib), "oversize"),
        (Format::Pcd, pcd("1000000", &both), "truncated"),
        (Format::Pcd, pcd("2", &small), "malformed"),
        (Format::Pcd, pcd("1", &small), "malformed"),
        (
            Format::Ply,
            b"ply\nformat ascii 1.0\nelement face 4000000000\nelement vertex 9\nproperty float x\nend_header\n".to_vec(),
            "truncated",
        ),
        (
            Format::Ply,
            b"ply\nformat ascii 1.0\nelement vertex 1000000\nproperty float x\nend_header\n".to_vec(),
            "truncated",
        ),
    ];
    for (format, payload, reason) in bombs {
        let (peak, result) = peak_of(&decoder, &support::raw(Stream::Lidar, Some(format), payload));
        let error = result.unwrap_err();
        assert_eq!(error.reason(), reason, "{error}");
        assert!(peak < 64 << 10, "{peak} bytes: {error}");
    }
    // The measure itself works: a real cloud takes at least its points.
    let cloud = support::pcd(&[[1.0; 4]; 4000], "binary");
    let (peak, result) = peak_of(&decoder, &support::raw(Stream::Lidar, None, cloud));
    assert!(result.is_ok() && peak >= 4000 * 12, "{peak}");
    // A PNG that says 65535 × 65535 and an .npy that says 4 GiB.
    let mut png = image(image::ImageFormat::Png);
    png[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    assert!(check(&decoder, Stream::Camera, None, png).is_err());
    let npy = support::npy("<c8", &[4, 16384, 8192], [0; 64]);
    assert_eq!(check(&decoder, Stream::Radar, None, npy).unwrap_err().reason(), "truncated");
}

fn streams() -> impl Strategy<Value = (Stream, Option<Format>)> {
    let ue = UeId::implied;
    let streams = [
        Stream::Camera,
        Stream::Radar,
        Stream::Lidar,
        Stream::Link(ue()),
        Stream::Position(ue()),
        Stream::Blocked(ue()),
    ];
    let formats = [
        None,
        Some(Format::Jpeg),
        Some(Format::Png),
        Some(Format::Npy),
        Some(Format::Pcd),
        Some(Format::Ply),
        Some(Format::Json),
    ];
    (prop::sample::select(streams.to_vec()), prop::sample::select(formats.to_vec()))
}

/// A change of a file: bytes put over others, taken out, or digits of its header replaced.
#[derive(Clone, Debug)]
enum Change {
    Overwrite(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Number(prop::sample::Index, u64),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    let bytes = || prop::collection::vec(any::<u8>(), 1..6);
    prop_oneof![
        (at(), bytes()).prop_map(|(at, bytes)| Change::Overwrite(at, bytes)),
        (at(), 1..40usize).prop_map(|(at, length)| Change::Remove(at, length)),
        (at(), bytes()).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at(), prop_oneof![any::<u64>(), 0..100u64, Just(1 << 20), Just(u64::from(u32::MAX))])
            .prop_map(|(at, number)| Change::Number(at, number)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    match change {
        Change::Overwrite(at, with) => {
            let start = at.index(bytes.len());
            for (place, byte) in bytes[start..].iter_mut().zip(with) {
                *place = *byte;
            }
        }
        Change::Remove(at, length) => {
            let start = at.index(bytes.len());
            bytes.drain(start..(start + length).min(bytes.len()));
        }
        Change::Insert(at, with) => {
            let start = at.index(bytes.len());
            bytes.splice(start..start, with.iter().copied());
        }
        Change::Number(at, number) => {
            let digits: Vec<usize> = (0..bytes.len()).filter(|&i| bytes[i].is_ascii_digit()).collect();
            if !digits.is_empty() {
                let start = digits[at.index(digits.len())];
                let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                bytes.splice(start..start + length, number.to_string().into_bytes());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(
        (stream, format) in streams(),
        magic in prop::sample::select(vec![
            &b""[..], b"\x93NUMPY\x01\x00", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"ply\nformat ascii 1.0\n", b"FIELDS x y z\n", b"{",
        ]),
        tail in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let _ = check(&decoder(), stream, format, [magic, &tail].concat());
    }

    #[test]
    fn changed_files_never_panic(
        file in 0..16usize,
        changes in prop::collection::vec(change(), 1..4),
    ) {
        let (stream, format, mut payload) = valid().swap_remove(file);
        for change in &changes {
            apply(&mut payload, change);
        }
        let _ = check(&decoder(), stream, Some(format), payload);
    }

    #[test]
    fn clouds_round_trip(points in prop::collection::vec(prop::array::uniform4(-1e4f32..1e4), 0..40)) {
        for data in ["ascii", "binary", "binary_compressed"] {
            let bytes = support::pcd(&points, data);
            let Ok(Data::Cloud(cloud)) = check(&decoder(), Stream::Lidar, None, bytes) else { panic!() };
            let expected: Vec<[f32; 3]> = points.iter().map(|p| [p[0], p[1], p[2]]).collect();
            prop_assert_eq!(&cloud.points, &expected);
            let intensity: Vec<f32> = points.iter().map(|p| p[3]).collect();
            prop_assert_eq!(&cloud.intensity, &intensity);
            for format in ["ascii", "binary_little_endian", "binary_big_endian"] {
                let bytes = support::ply(&expected, format);
                let Ok(Data::Cloud(cloud)) = check(&decoder(), Stream::Lidar, None, bytes) else { panic!() };
                prop_assert_eq!(&cloud.points, &expected);
            }
        }
    }
}
