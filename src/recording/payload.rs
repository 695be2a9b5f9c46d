//! From the files of a recording to the payloads of the wire.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use npyz::WriterBuilder;
use num_complex::Complex32;

use super::mat::{self, MatArray};
use super::structure;
use crate::sample::{Format, Modality};

/// Largest file that is read.
pub(super) const FILE_LIMIT: u64 = 64 << 20;
/// Most beams of one unit.
const BEAM_LIMIT: usize = 4096;

/// Why the payload of a sample is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The recording names a file that is not there: the normal case when only some modalities were downloaded.
    #[error("{}: no such file", path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// The file is there, but not whole or not what it should be.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was found and what was allowed.
        reason: String,
    },
}

impl LoadError {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Absent { path } | Self::Unreadable { path, .. } => path,
        }
    }

    /// Whether the file is simply not there.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    fn unreadable(path: &Path, reason: impl Into<String>) -> Self {
        Self::Unreadable { path: path.to_owned(), reason: reason.into() }
    }
}

/// Reads the file of one sample of a sensor, a position or a label, and turns it into wire format.
pub(super) fn load(modality: Modality, paths: &[PathBuf]) -> Result<(Format, Vec<u8>), LoadError> {
    let Some(path) = paths.first() else {
        return Err(LoadError::Absent { path: PathBuf::new() });
    };
    let bytes = read_file(path)?;
    convert(modality, &extension(path), bytes).map_err(|reason| LoadError::unreadable(path, reason))
}

/// Powers in wire format.
pub(super) fn power_payload(path: &Path, powers: &[f64]) -> Result<(Format, Vec<u8>), LoadError> {
    let bytes = write_npy(&[powers.len()], powers);
    bytes.map(|bytes| (Format::Npy, bytes)).map_err(|reason| LoadError::unreadable(path, reason))
}

/// Linear power per beam; the arrays of several files follow each other.
pub(super) fn power(paths: &[PathBuf]) -> Result<Vec<f64>, LoadError> {
    let mut powers = Vec::new();
    for path in paths {
        let bytes = read_file(path)?;
        let part = match extension(path).as_str() {
            "npy" => npy_power(&bytes),
            _ => text_power(&bytes),
        };
        powers.extend(part.map_err(|reason| LoadError::unreadable(path, reason))?);
    }
    match paths.first() {
        None => Err(LoadError::Absent { path: PathBuf::new() }),
        Some(path) if powers.len() > BEAM_LIMIT => Err(LoadError::unreadable(
            path,
            format!("{} beams; at most {BEAM_LIMIT} are allowed", powers.len()),
        )),
        Some(_) => Ok(powers),
    }
}

fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

/// Opens a file of a recording. What is none, but a pipe or a device, would be waited for without end.
pub(super) fn open_file(path: &Path) -> std::io::Result<File> {
    let kind = std::fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        let message = "found a pipe, socket or device, allowed is a file";
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, message));
    }
    File::open(path)
}

/// Reads a whole file of at most [`FILE_LIMIT`] bytes.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, LoadError> {
    let file = open_file(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
            LoadError::Absent { path: path.to_owned() }
        }
        _ => LoadError::unreadable(path, error.to_string()),
    })?;
    let mut bytes = Vec::new();
    let read = file.take(FILE_LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| LoadError::unreadable(path, error.to_string()))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(LoadError::unreadable(
            path,
            format!("more than the {FILE_LIMIT} bytes that are allowed"),
        ));
    }
    Ok(bytes)
}

fn convert(modality: Modality, extension: &str, bytes: Vec<u8>) -> Result<(Format, Vec<u8>), String> {
    let (format, bytes) = match (modality, extension) {
        (Modality::Camera, "jpg" | "jpeg") => (Format::Jpeg, bytes),
        (Modality::Camera, "png") => (Format::Png, bytes),
        (Modality::Radar, "npy") => (Format::Npy, bytes),
        (Modality::Radar, "bin") => return Ok((Format::Npy, radar_points(&bytes)?)),
        (Modality::Radar, "mat") => return Ok((Format::Npy, radar_cube(&bytes)?)),
        (Modality::Lidar, "ply") => (Format::Ply, bytes),
        (Modality::Lidar, "pcd") => (Format::Pcd, bytes),
        (Modality::Lidar, "bin") => return Ok((Format::Pcd, lidar_points(&bytes)?)),
        (Modality::Lidar, "mat") => return Ok((Format::Pcd, lidar_scan(&bytes)?)),
        (Modality::Position, "txt") => return Ok((Format::Json, position(&bytes)?)),
        (Modality::Blocked, "txt") => return Ok((Format::Json, blocked(&bytes)?)),
        (Modality::Position | Modality::Blocked, "json") => (Format::Json, bytes),
        _ => {
            return Err(format!(
                "a {modality} file cannot be `.{extension}`; allowed: {}",
                allowed(modality)
            ));
        }
    };
    structure::check(format, &bytes)?;
    Ok((format, bytes))
}

const fn allowed(modality: Modality) -> &'static str {
    match modality {
        Modality::Camera => ".jpg, .jpeg, .png",
        Modality::Radar => ".mat, .npy, .bin",
        Modality::Lidar => ".mat, .ply, .pcd, .bin",
        Modality::Link => ".txt, .npy",
        Modality::Position | Modality::Blocked => ".txt, .json",
    }
}

/// Numbers in a text file: one per line, or printed as a Python list.
fn numbers(bytes: &[u8]) -> Result<Vec<f64>, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| format!("no text: {error}"))?;
    text.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '[' | ']' | '\u{feff}'))
        .filter(|word| !word.is_empty())
        .map(|word| {
            word.parse().map_err(|_| format!("`{}` is no number", word.chars().take(40).collect::<String>()))
        })
        .collect()
}

fn linear_power(powers: Vec<f64>) -> Result<Vec<f64>, String> {
    if powers.is_empty() {
        return Err("no powers".to_owned());
    }
    let wrong = |power: &f64| !power.is_nan() && !(0.0..f64::INFINITY).contains(power);
    match powers.iter().enumerate().find(|(_, power)| wrong(power)) {
        Some((beam, power)) => Err(format!("beam {beam} has power {power}; 0 or more, or NaN, is allowed")),
        None => Ok(powers),
    }
}

fn text_power(bytes: &[u8]) -> Result<Vec<f64>, String> {
    linear_power(numbers(bytes)?)
}

/// Powers of a `.npy` file of one dimension, float32 or float64.
fn npy_power(bytes: &[u8]) -> Result<Vec<f64>, String> {
    let (header, values) = structure::npy(bytes)?;
    if header.shape().len() != 1 {
        return Err(format!("shape {:?}; one dimension is allowed", header.shape()));
    }
    let kind = header.dtype().descr();
    let file = npyz::NpyFile::with_header(header, values);
    let powers = match kind.as_str() {
        "'<f8'" => file.into_vec::<f64>(),
        "'<f4'" => file.into_vec::<f32>().map(|values| values.into_iter().map(f64::from).collect()),
        other => return Err(format!("values {other}; '<f8' or '<f4' are allowed")),
    };
    linear_power(powers.map_err(|error| error.to_string())?)
}

fn write_npy<T: npyz::AutoSerialize + Copy>(shape: &[usize], values: &[T]) -> Result<Vec<u8>, String> {
    let shape: Vec<u64> = shape.iter().map(|&side| side as u64).collect();
    let mut bytes = Vec::new();
    let mut write = || -> std::io::Result<()> {
        let options = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut bytes);
        let mut writer = options.begin_nd()?;
        writer.extend(values.iter().copied())?;
        writer.finish()
    };
    write().map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Variable `data`, complex (rx, samples, chirps) → complex64 in C order.
fn radar_cube(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let MatArray { shape, real, imaginary } = mat::read(bytes, "data").map_err(|error| error.to_string())?;
    let Some(imaginary) = imaginary else {
        return Err(format!("`data` {shape:?} is real; a complex cube (rx, samples, chirps) is allowed"));
    };
    let &[rx, samples, chirps] = shape.as_slice() else {
        return Err(format!("`data` has shape {shape:?}; (rx, samples, chirps) is allowed"));
    };
    let cells = real.len();
    let mut cube = Vec::with_capacity(cells);
    for antenna in 0..rx {
        for sample in 0..samples {
            for chirp in 0..chirps {
                let at = antenna + rx * (sample + samples * chirp);
                let (re, im) = (real.get(at).copied(), imaginary.get(at).copied());
                cube.push(Complex32::new(re.unwrap_or(0.0) as f32, im.unwrap_or(0.0) as f32));
            }
        }
    }
    write_npy(&[rx, samples, chirps], &cube)
}

/// Variable `data`, (beams, 2): range in metres and intensity, over −90…+90° from boresight, to the right positive.
/// Beams without a return (range not above 0, or not finite) are left out.
fn lidar_scan(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let MatArray { shape, real, .. } = mat::read(bytes, "data").map_err(|error| error.to_string())?;
    let (beams, columns) = match shape.as_slice() {
        &[beams, columns @ 1..=2] if (2..=100_000).contains(&beams) => (beams, columns),
        _ => return Err(format!("`data` has shape {shape:?}; (460, 2) is allowed")),
    };
    let step = std::f64::consts::PI / (beams - 1) as f64;
    let intensity = |beam: usize| if columns == 2 { real.get(beams + beam).copied() } else { None };
    let mut points: Vec<u8> = Vec::new();
    let mut count = 0usize;
    for (beam, &range) in real.iter().take(beams).enumerate() {
        if !range.is_finite() || range <= 0.0 {
            continue;
        }
        let angle = -std::f64::consts::FRAC_PI_2 + step * beam as f64;
        let intensity = intensity(beam).filter(|value| value.is_finite()).unwrap_or(0.0);
        for value in [range * angle.sin(), range * angle.cos(), 0.0, intensity] {
            points.extend((value as f32).to_le_bytes());
        }
        count += 1;
    }
    Ok(pcd(&["x", "y", "z", "intensity"], count, &points))
}

/// A binary PCD file of `count` points, float32 fields.
fn pcd(fields: &[&str], count: usize, points: &[u8]) -> Vec<u8> {
    let all = |what: &str| vec![what; fields.len()].join(" ");
    let mut file = format!(
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS {}\nSIZE {}\nTYPE {}\nCOUNT {}\n\
         WIDTH {count}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\nDATA binary\n",
        fields.join(" "),
        all("4"),
        all("F"),
        all("1")
    )
    .into_bytes();
    file.extend_from_slice(points);
    file
}

/// Points of `columns` little-endian float64 each (MM-Fi), as float32.
fn doubles(bytes: &[u8], columns: usize) -> Result<Vec<f32>, String> {
    let point = columns * 8;
    match bytes.len() {
        0 => Err("empty file".to_owned()),
        length if length % point != 0 => Err(format!(
            "truncated: {length} bytes are no whole number of points of {columns} float64 ({point} bytes)"
        )),
        _ => Ok(bytes
            .chunks_exact(8)
            .map(|value| f64::from_le_bytes(value.try_into().unwrap_or_default()) as f32)
            .collect()),
    }
}

/// MM-Fi's radar points, float64 (n, 5): x, y, z, Doppler, intensity → the point list of the wire, float32 (n, 5).
fn radar_points(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let values = doubles(bytes, 5)?;
    write_npy(&[values.len() / 5, 5], &values)
}

/// MM-Fi's LiDAR points, float64 (n, 3): x, y, z → PCD.
fn lidar_points(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let values = doubles(bytes, 3)?;
    let points: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(pcd(&["x", "y", "z"], values.len() / 3, &points))
}

/// Two numbers, latitude and longitude in degrees.
pub(super) fn degrees(bytes: &[u8]) -> Result<(f64, f64), String> {
    match numbers(bytes)?.as_slice() {
        &[lat, lon, ..] if (-90.0..=90.0).contains(&lat) && (-180.0..=180.0).contains(&lon) => Ok((lat, lon)),
        [lat, lon, ..] => {
            Err(format!("latitude {lat}, longitude {lon}; −90…90 and −180…180 degrees are allowed"))
        }
        few => Err(format!("{} numbers; latitude and longitude are needed", few.len())),
    }
}

fn position(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let (lat, lon) = degrees(bytes)?;
    Ok(serde_json::json!({ "lat": lat, "lon": lon }).to_string().into_bytes())
}

/// The label of a blockage file: 0 or 1.
pub(super) fn is_blocked(bytes: &[u8]) -> Result<bool, String> {
    match numbers(bytes)?.as_slice() {
        [0.0] => Ok(false),
        [1.0] => Ok(true),
        other => Err(format!("{:?}; one number, 0 or 1, is allowed", other.get(..other.len().min(3)))),
    }
}

fn blocked(bytes: &[u8]) -> Result<Vec<u8>, String> {
    Ok(serde_json::json!({ "blocked": is_blocked(bytes)? }).to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_read_in_every_print() {
        for text in ["1\r\n2.5e-1\r\nnan\r\n", "[1, 0.25, nan]", "[1. 0.25\n NaN]\n"] {
            let powers = text_power(text.as_bytes()).unwrap();
            assert_eq!(powers[..2], [1.0, 0.25]);
            assert!(powers[2].is_nan() && powers.len() == 3);
        }
        assert!(text_power(b"1\nx\n").unwrap_err().contains("`x` is no number"));
        assert!(text_power(b"1\n-2\n").unwrap_err().contains("beam 1 has power -2"));
        assert!(text_power(b"1\ninf\n").is_err());
        assert!(text_power(b"\n").is_err());
    }

    #[test]
    fn written_powers_keep_nan() {
        let bytes = write_npy(&[3], &[1.0f64, f64::NAN, 3.0]).unwrap();
        let powers = npy_power(&bytes).unwrap();
        assert_eq!((powers[0], powers[2]), (1.0, 3.0));
        assert!(powers[1].is_nan());
    }

    #[test]
    fn positions_and_labels_are_judged() {
        assert_eq!(degrees(b"33.5\r\n-111.9\r\n\r\n"), Ok((33.5, -111.9)));
        assert!(degrees(b"133.5\n-111.9\n").unwrap_err().contains("latitude 133.5"));
        assert!(degrees(b"nan\nnan\n").is_err());
        assert!(degrees(b"33.5\n").unwrap_err().contains("1 numbers"));
        assert_eq!(is_blocked(b"1.0\r\n"), Ok(true));
        assert_eq!(is_blocked(b"0.000e+00\n"), Ok(false));
        assert!(is_blocked(b"2").is_err() && is_blocked(b"").is_err() && is_blocked(b"nan").is_err());
    }

    #[test]
    fn a_file_of_a_strange_kind_says_what_is_allowed() {
        let error = convert(Modality::Radar, "xyz", vec![1]).unwrap_err();
        assert!(error.contains("`.xyz`") && error.contains(".mat, .npy"), "{error}");
    }
}
