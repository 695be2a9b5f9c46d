//! Images and clouds of a data set in files that are mapped: what is looked at is read, and the system forgets what was
//! not looked at for long.
//!
//! A store is a folder of parts `part-0000.safetensors`, each with some hundred readings: images `[N, side, side, 3]` of
//! bytes, the points of all radar clouds `[P, RADAR_FEATURES]` and of all LiDAR clouds `[P, LIDAR_FEATURES]` one after the
//! other, and where each begins.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use crate::model::checkpoint::{self, Checkpoint, CheckpointError};
use crate::model::{Cloud, LIDAR_FEATURES, RADAR_FEATURES};

/// Bytes of a part, about.
const PART_BYTES: usize = 64 << 20;

/// A store that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file of it.
    #[error(transparent)]
    File(#[from] CheckpointError),
    /// The tensor library.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A part lacks something, or has it in another shape.
    #[error("{}: {reason}", file.display())]
    Part {
        /// The part.
        file: PathBuf,
        /// What was found and what is allowed.
        reason: String,
    },
    /// A number that stands for no reading.
    #[error("data set `{data}`: there is no reading {number}")]
    NoReading {
        /// The number.
        number: u32,
        /// The data set.
        data: String,
    },
}

/// Clouds one after the other.
#[derive(Debug, Default)]
struct Clouds {
    points: Vec<f32>,
    /// Where each cloud ends, in numbers.
    ends: Vec<u32>,
}

impl Clouds {
    fn add(&mut self, cloud: &Cloud) {
        self.points.extend(&cloud.features);
        self.ends.push(self.points.len() as u32);
    }
}

/// Writes a store, part after part.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    side: usize,
    parts: usize,
    images: Vec<u8>,
    radar: Clouds,
    lidar: Clouds,
    written: [u32; 3],
}

impl Writer {
    /// A store in `folder`, which is there, of images of `side` pixels.
    #[must_use]
    pub fn new(folder: &Path, side: usize) -> Self {
        let (radar, lidar) = (Clouds::default(), Clouds::default());
        Self { folder: folder.to_owned(), side, parts: 0, images: Vec::new(), radar, lidar, written: [0; 3] }
    }

    /// Adds an image, side × side × RGB: its number.
    ///
    /// # Errors
    /// [`StoreError`] when the disk refuses.
    pub fn image(&mut self, pixels: &[u8]) -> Result<u32, StoreError> {
        self.images.extend(pixels);
        self.added(0)
    }

    /// Adds a radar cloud: its number.
    ///
    /// # Errors
    /// [`StoreError`] when the disk refuses.
    pub fn radar(&mut self, cloud: &Cloud) -> Result<u32, StoreError> {
        self.radar.add(cloud);
        self.added(1)
    }

    /// Adds a LiDAR cloud: its number.
    ///
    /// # Errors
    /// [`StoreError`] when the disk refuses.
    pub fn lidar(&mut self, cloud: &Cloud) -> Result<u32, StoreError> {
        self.lidar.add(cloud);
        self.added(2)
    }

    fn added(&mut self, kind: usize) -> Result<u32, StoreError> {
        let number = self.written.get(kind).copied().unwrap_or_default();
        if let Some(written) = self.written.get_mut(kind) {
            *written += 1;
        }
        let bytes = self.images.len() + 4 * (self.radar.points.len() + self.lidar.points.len());
        if bytes >= PART_BYTES {
            self.flush()?;
        }
        Ok(number)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let image = 3 * self.side * self.side;
        let images = std::mem::take(&mut self.images);
        let (count, side) = (images.len() / image.max(1), self.side);
        let mut tensors = vec![("images", Tensor::from_vec(images, (count, side, side, 3), &Device::Cpu)?)];
        for (name, ends, features, clouds) in [
            ("radar", "radar.ends", RADAR_FEATURES, std::mem::take(&mut self.radar)),
            ("lidar", "lidar.ends", LIDAR_FEATURES, std::mem::take(&mut self.lidar)),
        ] {
            let rows = clouds.points.len() / features;
            tensors.push((name, Tensor::from_vec(clouds.points, (rows, features), &Device::Cpu)?));
            let count = clouds.ends.len();
            tensors.push((ends, Tensor::from_vec(clouds.ends, count, &Device::Cpu)?));
        }
        let file = self.folder.join(format!("part-{:04}.safetensors", self.parts));
        self.parts += 1;
        checkpoint::save(&file, tensors.iter().map(|(name, tensor)| (*name, tensor)), &BTreeMap::new())?;
        Ok(())
    }

    /// Writes what is left: the number of parts.
    ///
    /// # Errors
    /// [`StoreError`] when the disk refuses.
    pub fn finish(mut self) -> Result<usize, StoreError> {
        self.flush()?;
        Ok(self.parts)
    }
}

/// One part.
#[derive(Debug)]
struct Part {
    file: Checkpoint,
    image_bytes: usize,
    /// Numbers of its first reading of each kind, and of the one behind its last.
    images: (u32, u32),
    radar: (u32, Vec<u32>),
    lidar: (u32, Vec<u32>),
}

/// A store that is open.
#[derive(Debug)]
pub struct Store {
    parts: Vec<Part>,
}

impl Store {
    /// Opens `parts` parts in `folder`.
    ///
    /// # Errors
    /// [`StoreError`] when one is not there or not whole.
    pub fn open(folder: &Path, parts: usize) -> Result<Self, StoreError> {
        let mut opened: Vec<Part> = Vec::with_capacity(parts);
        let (mut images, mut radar, mut lidar) = (0, 0, 0);
        for number in 0..parts {
            let path = folder.join(format!("part-{number:04}.safetensors"));
            let file = Checkpoint::open(&path)?;
            let lacks = |what: &str| StoreError::Part { file: path.clone(), reason: format!("lacks {what}") };
            let shapes: BTreeMap<String, Vec<usize>> =
                file.tensors().map(|(name, shape, _)| (name.to_owned(), shape.to_vec())).collect();
            let Some(&[count, side, width, 3]) = shapes.get("images").map(Vec::as_slice) else {
                return Err(lacks("images (N, side, side, 3)"));
            };
            let ends = |name: &str| {
                numbers(file.bytes(name).ok_or_else(|| lacks(name))?, u32::from_le_bytes, name, &path)
            };
            let part = Part {
                image_bytes: 3 * side * width,
                images: (images, images + count as u32),
                radar: (radar, ends("radar.ends")?),
                lidar: (lidar, ends("lidar.ends")?),
                file: file.clone(),
            };
            images = part.images.1;
            radar += part.radar.1.len() as u32;
            lidar += part.lidar.1.len() as u32;
            opened.push(part);
        }
        Ok(Self { parts: opened })
    }

    /// An image, side × side × RGB.
    #[must_use]
    pub fn image(&self, number: u32) -> Option<Vec<u8>> {
        let part = self.parts.iter().find(|part| number < part.images.1)?;
        let from = (number - part.images.0) as usize * part.image_bytes;
        Some(part.file.bytes("images")?.get(from..from + part.image_bytes)?.to_vec())
    }

    /// A radar cloud.
    #[must_use]
    pub fn radar(&self, number: u32) -> Option<Cloud> {
        let part = self.parts.iter().find(|part| number < part.radar.0 + part.radar.1.len() as u32)?;
        cloud(&part.file, "radar", number - part.radar.0, &part.radar.1, RADAR_FEATURES)
    }

    /// A LiDAR cloud.
    #[must_use]
    pub fn lidar(&self, number: u32) -> Option<Cloud> {
        let part = self.parts.iter().find(|part| number < part.lidar.0 + part.lidar.1.len() as u32)?;
        cloud(&part.file, "lidar", number - part.lidar.0, &part.lidar.1, LIDAR_FEATURES)
    }
}

fn cloud(file: &Checkpoint, name: &str, number: u32, ends: &[u32], features: usize) -> Option<Cloud> {
    let number = number as usize;
    let from = if number == 0 { 0 } else { *ends.get(number - 1)? as usize };
    let to = *ends.get(number)? as usize;
    let (bytes, _) = file.bytes(name)?.get(4 * from..4 * to)?.as_chunks::<4>();
    let features_of_all: Vec<f32> = bytes.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let positions = features_of_all.chunks_exact(features).map(|point| match point {
        [x, y, z, ..] => [*x, *y, *z],
        _ => [0.0; 3],
    });
    Some(Cloud { positions: positions.collect(), features: features_of_all })
}

fn numbers<T>(
    bytes: &[u8],
    read: impl Fn([u8; 4]) -> T,
    name: &str,
    file: &Path,
) -> Result<Vec<T>, StoreError> {
    let (chunks, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        let reason = format!("{name}: {} bytes, allowed are multiples of 4", bytes.len());
        return Err(StoreError::Part { file: file.to_owned(), reason });
    }
    Ok(chunks.iter().map(|bytes| read(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cloud_of(points: usize, features: usize) -> Cloud {
        let features: Vec<f32> = (0..points * features).map(|number| number as f32).collect();
        let positions = features.chunks(features.len() / points.max(1)).map(|p| [p[0], p[1], p[2]]).collect();
        Cloud { positions, features }
    }

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(folder.path(), 2);
        let image: Vec<u8> = (0..12).collect();
        assert_eq!(writer.image(&image).unwrap(), 0);
        assert_eq!(writer.radar(&Cloud::default()).unwrap(), 0);
        let lidar = cloud_of(4, LIDAR_FEATURES);
        assert_eq!(writer.lidar(&lidar).unwrap(), 0);
        writer.flush().unwrap();
        let radar = cloud_of(3, RADAR_FEATURES);
        assert_eq!(writer.radar(&radar).unwrap(), 1);
        let turned: Vec<u8> = image.iter().rev().copied().collect();
        assert_eq!(writer.image(&turned).unwrap(), 1);
        let parts = writer.finish().unwrap();
        assert_eq!(parts, 2);
        let store = Store::open(folder.path(), parts).unwrap();
        assert_eq!(store.image(0).unwrap(), image);
        assert_eq!(store.image(1).unwrap(), turned);
        assert_eq!(store.image(2), None);
        assert!(store.radar(0).unwrap().positions.is_empty());
        assert_eq!(store.radar(1).unwrap().features, radar.features);
        assert_eq!(store.lidar(0).unwrap().positions, lidar.positions);
        assert!(Store::open(folder.path(), 3).is_err());
    }
}
