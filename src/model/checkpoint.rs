//! Weights in files: safetensors, memory-mapped, in one file or in shards.
//!
//! [`Checkpoint::open`] checks every header before a number is read. A [`Checkpoint::builder`] is strict: a tensor that is
//! missing, has another shape or holds integers is a [`CheckpointError`] that names it, and [`Checkpoint::finish`] names
//! the tensors that no part of the model asked for. Numbers are read when a part asks for them, so that opening the 11B
//! costs nothing; a narrower or wider float than the builder's is converted.
//!
//! A number that is NaN or infinite is refused as it is read: a rectifier would make 0 of it, and nobody would see.
//!
//! A builder's errors are [`candle_core::Error`]s; [`CheckpointError::of`] gives the typed one back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use safetensors::SafeTensors;
use safetensors::tensor::{Metadata, SafeTensorError};

mod error;
mod map;
mod write;

pub use error::CheckpointError;
pub(crate) use error::inside;
use map::Map;
pub use write::save;

/// Name of a model's only weight file in its folder.
const SINGLE: &str = "model.safetensors";
/// Name of the list of a model's weight files in its folder.
const INDEX: &str = "model.safetensors.index.json";

/// One mapped file.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    map: Map,
    metadata: Metadata,
    /// Where the numbers begin.
    data: usize,
}

/// Where a header says that a file ends, whatever it has.
fn claimed_length(bytes: &[u8]) -> Option<u64> {
    let header = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let end = 8u64.checked_add(header)?;
    let Some(json) = bytes.get(8..usize::try_from(end).ok()?) else { return Some(end) };
    let tensors: BTreeMap<String, serde_json::Value> = serde_json::from_slice(json).ok()?;
    let ends = tensors.values().filter_map(|tensor| tensor.get("data_offsets")?.get(1)?.as_u64());
    end.checked_add(ends.max().unwrap_or(0))
}

impl Shard {
    fn open(path: &Path) -> Result<Self, CheckpointError> {
        let map =
            Map::open(path).map_err(|source| CheckpointError::Read { file: path.to_path_buf(), source })?;
        let bytes = map.bytes();
        match SafeTensors::read_metadata(bytes) {
            Ok((header, metadata)) => Ok(Self { path: path.to_path_buf(), metadata, data: 8 + header, map }),
            Err(
                error @ (SafeTensorError::HeaderTooSmall
                | SafeTensorError::InvalidHeaderLength
                | SafeTensorError::HeaderTooLarge
                | SafeTensorError::MetadataIncompleteBuffer),
            ) => Err(match claimed_length(bytes) {
                Some(claimed) if claimed != bytes.len() as u64 => {
                    CheckpointError::Length { file: path.to_path_buf(), found: bytes.len() as u64, claimed }
                }
                _ => CheckpointError::Header { file: path.to_path_buf(), reason: error.to_string() },
            }),
            Err(error) => {
                Err(CheckpointError::Header { file: path.to_path_buf(), reason: error.to_string() })
            }
        }
    }

    /// The numbers of a tensor; the header was checked against the file's length.
    fn bytes(&self, (from, to): (usize, usize)) -> &[u8] {
        self.map.bytes().get(self.data + from..self.data + to).unwrap_or_default()
    }
}

/// The files of a model's weights, opened and checked.
#[derive(Debug)]
struct Files {
    /// What was opened: a weight file or an index.
    path: PathBuf,
    shards: Vec<Shard>,
    /// Name of a tensor to the shard that has it.
    owner: BTreeMap<String, usize>,
    /// Names that were asked for and found.
    taken: Mutex<BTreeSet<String>>,
}

/// The weights of a model, memory-mapped. Copies share what was asked for.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    files: Arc<Files>,
}

/// A shard's file name out of an index: a name alone, nothing that leaves the folder.
fn is_file_name(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|only| only == name)
}

impl Checkpoint {
    /// Opens a weight file, an index of shards (`*.json`), or a folder with `model.safetensors.index.json` or
    /// `model.safetensors`.
    ///
    /// # Errors
    /// When a file cannot be read, is shorter or longer than its header claims, its header is not one of safetensors,
    /// or a shard or a tensor that the index names is not there.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let path = match path {
            folder if folder.is_dir() && folder.join(INDEX).is_file() => folder.join(INDEX),
            folder if folder.is_dir() => folder.join(SINGLE),
            file => file.to_path_buf(),
        };
        let is_index = path.extension().is_some_and(|extension| extension == "json");
        let shards = if is_index { Self::shards(&path)? } else { vec![Shard::open(&path)?] };
        let mut owner = BTreeMap::new();
        for (place, shard) in shards.iter().enumerate() {
            for name in shard.metadata.offset_keys() {
                if owner.insert(name.clone(), place).is_some() {
                    let reason = format!("`{name}` is in two of its shards, one is {}", shard.path.display());
                    return Err(CheckpointError::Index { file: path, reason });
                }
            }
        }
        Ok(Self { files: Arc::new(Files { path, shards, owner, taken: Mutex::default() }) })
    }

    fn shards(index: &Path) -> Result<Vec<Shard>, CheckpointError> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let fail = |reason: String| CheckpointError::Index { file: index.to_path_buf(), reason };
        let text = std::fs::read(index)
            .map_err(|source| CheckpointError::Read { file: index.to_path_buf(), source })?;
        let Index { weight_map } = serde_json::from_slice(&text).map_err(|error| fail(error.to_string()))?;
        let folder = index.parent().unwrap_or(Path::new(""));
        let names: BTreeSet<&String> = weight_map.values().collect();
        let mut shards = BTreeMap::new();
        for name in names {
            if !is_file_name(name) {
                return Err(fail(format!("found shard `{name}`, allowed are names of files beside it")));
            }
            let file = folder.join(name);
            if !file.is_file() {
                return Err(CheckpointError::ShardMissing { index: index.to_path_buf(), shard: file });
            }
            shards.insert(name.clone(), Shard::open(&file)?);
        }
        for (tensor, name) in &weight_map {
            if shards.get(name).is_none_or(|shard| shard.metadata.info(tensor).is_none()) {
                return Err(fail(format!("`{tensor}` is said to be in {name}, which does not have it")));
            }
        }
        Ok(shards.into_values().collect())
    }

    /// What was opened: the weight file, or the index of its shards.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.files.path
    }

    /// Names, shapes and bytes of all tensors, in the order of names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], usize)> {
        self.files.owner.iter().filter_map(|(name, &place)| {
            let info = self.files.shards.get(place)?.metadata.info(name)?;
            Some((name.as_str(), info.shape.as_slice(), info.data_offsets.1 - info.data_offsets.0))
        })
    }

    /// The bytes of a tensor, little endian, read from the disk when they are looked at.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        let shard = self.files.shards.get(*self.files.owner.get(name)?)?;
        Some(shard.bytes(shard.metadata.info(name)?.data_offsets))
    }

    /// What a file's header says of itself beside its tensors; of shards, all of them together.
    #[must_use]
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let own = self.files.shards.iter().filter_map(|shard| shard.metadata.metadata().as_ref());
        own.flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// A strict source of the tensors under their names.
    #[must_use]
    pub fn builder(&self, dtype: DType, device: &Device) -> VarBuilder<'static> {
        self.builder_spelled(dtype, device, &[""])
    }

    /// A strict source of tensors that files spell in several ways: `name` is looked up as prefix + `name`, prefix
    /// after prefix.
    #[must_use]
    pub fn builder_spelled(
        &self,
        dtype: DType,
        device: &Device,
        prefixes: &'static [&'static str],
    ) -> VarBuilder<'static> {
        let source = Strict { files: Arc::clone(&self.files), prefixes };
        VarBuilder::from_backend(Box::new(source), dtype, device.clone())
    }

    /// The tensors that nothing has asked for, each with its file, but for those that `ignore` accepts.
    #[must_use]
    pub fn unused(&self, ignore: impl Fn(&str) -> bool) -> Vec<(String, PathBuf)> {
        let taken = self.files.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.files.owner.iter().filter(|(name, _)| !taken.contains(*name) && !ignore(name));
        left.filter_map(|(name, &place)| Some((name.clone(), self.files.shards.get(place)?.path.clone())))
            .collect()
    }

    /// Checks that the model took every tensor but for those that `ignore` accepts.
    ///
    /// # Errors
    /// [`CheckpointError::Extra`], which names the first of them.
    pub fn finish(&self, ignore: impl Fn(&str) -> bool) -> Result<(), CheckpointError> {
        let mut unused = self.unused(ignore).into_iter();
        match unused.next() {
            Some((name, file)) => Err(CheckpointError::Extra { name, file, others: unused.len() }),
            None => Ok(()),
        }
    }

    /// All tensors as they are.
    ///
    /// # Errors
    /// When a tensor has a type that is not known, or the device refuses memory.
    pub fn load_all(&self, device: &Device) -> candle_core::Result<BTreeMap<String, Tensor>> {
        let names = self.files.owner.keys();
        names.map(|name| Ok((name.clone(), self.files.load(name, None, device)?))).collect()
    }
}

impl Files {
    /// The tensor `name`, as it is; of shape `wanted` where one is.
    fn load(&self, name: &str, wanted: Option<&Shape>, device: &Device) -> candle_core::Result<Tensor> {
        let found = self.owner.get(name).and_then(|&place| self.shards.get(place));
        let Some((shard, info)) = found.and_then(|shard| Some((shard, shard.metadata.info(name)?))) else {
            let file = self.path.clone();
            return Err(CheckpointError::Missing { name: name.to_owned(), file }.into());
        };
        if let Some(wanted) = wanted
            && wanted.dims() != info.shape
        {
            let (found, wanted) = (info.shape.clone(), wanted.dims().to_vec());
            let file = shard.path.clone();
            return Err(CheckpointError::Shape { name: name.to_owned(), file, found, wanted }.into());
        }
        let dtype = DType::try_from(info.dtype).ok().filter(|dtype| {
            wanted.is_none() || matches!(dtype, DType::BF16 | DType::F16 | DType::F32 | DType::F64)
        });
        let Some(dtype) = dtype else {
            let found = format!("{:?}", info.dtype);
            return Err(
                CheckpointError::Dtype { name: name.to_owned(), file: shard.path.clone(), found }.into()
            );
        };
        let bytes = shard.bytes(info.data_offsets);
        if wanted.is_some()
            && let Some((at, found)) = not_finite(bytes, dtype)
        {
            let file = shard.path.clone();
            return Err(CheckpointError::NotFinite { name: name.to_owned(), file, at, found }.into());
        }
        let tensor = Tensor::from_raw_buffer(bytes, dtype, &info.shape, device)?;
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        Ok(tensor)
    }
}

/// The first number that is NaN or infinite, and where it is.
fn not_finite(bytes: &[u8], dtype: DType) -> Option<(usize, f32)> {
    fn first<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Option<(usize, f32)> {
        let (numbers, _) = bytes.as_chunks::<N>();
        // In blocks, without a branch inside: the 11B has as many numbers.
        let wrong =
            |block: &[[u8; N]]| block.iter().fold(false, |any, number| any | !read(*number).is_finite());
        let (block, numbers) = numbers.chunks(4096).enumerate().find(|(_, block)| wrong(block))?;
        let at = numbers.iter().position(|number| !read(*number).is_finite())?;
        Some((block * 4096 + at, read(*numbers.get(at)?)))
    }
    match dtype {
        DType::BF16 => first(bytes, |number| f32::from_bits(u32::from(u16::from_le_bytes(number)) << 16)),
        DType::F16 => first(bytes, |number| match u16::from_le_bytes(number) & 0x7fff {
            0x7c00 => f32::INFINITY,
            bits if bits > 0x7c00 => f32::NAN,
            _ => 0.0,
        }),
        DType::F32 => first(bytes, f32::from_le_bytes),
        DType::F64 => first(bytes, |number| f64::from_le_bytes(number) as f32),
        _ => None,
    }
}

/// A builder's source.
struct Strict {
    files: Arc<Files>,
    prefixes: &'static [&'static str],
}

impl Strict {
    /// The spelling under which the files have `name`; where they do not have it, the first.
    fn spelling(&self, name: &str) -> String {
        let mut spellings = self.prefixes.iter().map(|prefix| format!("{prefix}{name}"));
        let found = spellings.clone().find(|spelling| self.files.owner.contains_key(spelling));
        found.or_else(|| spellings.next()).unwrap_or_else(|| name.to_owned())
    }
}

impl SimpleBackend for Strict {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        self.files.load(&self.spelling(name), Some(&shape), device)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        self.files.load(&self.spelling(name), None, device)?.to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.files.owner.contains_key(&self.spelling(name))
    }
}
