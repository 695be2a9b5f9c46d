//! Writing a checkpoint: whole, or not at all.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use safetensors::View;
use serde_json::{Map, Value, json};

use super::CheckpointError;

/// Writes tensors and metadata as a safetensors file: to a file beside it first, which then takes its name, so that a
/// reader finds the old file or the new one and never a part. The same content gives the same bytes.
///
/// # Errors
/// [`CheckpointError::Write`] when the disk refuses, or a tensor cannot be brought from its device.
pub fn save<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), CheckpointError> {
    let fail = |source| CheckpointError::Write { file: path.to_path_buf(), source };
    let partial = partial(path);
    let written = write(&partial, tensors, metadata).and_then(|()| fs::rename(&partial, path));
    written.map_err(|source| {
        // What is left of the attempt is of no use; that it cannot be removed is no second error.
        let _ = fs::remove_file(&partial);
        fail(source)
    })
}

/// Beside the file, so that the rename stays on one file system.
fn partial(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{}.partial", std::process::id()))
}

fn write<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = (&'a str, &'a Tensor)>,
    metadata: &BTreeMap<String, String>,
) -> io::Result<()> {
    let mut tensors: Vec<(&str, &Tensor)> = tensors.into_iter().collect();
    // Wide types first, so that every tensor is aligned to its type; then by name.
    tensors.sort_by_key(|(name, tensor)| (Reverse(Tensor::dtype(tensor).size_in_bytes()), *name));
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut end = 0;
    for (name, tensor) in &tensors {
        let from = end;
        end += tensor.data_len();
        let dtype = View::dtype(tensor);
        let info = json!({ "dtype": dtype, "shape": tensor.dims(), "data_offsets": [from, end] });
        if header.insert((*name).to_owned(), info).is_some() {
            return Err(io::Error::other(format!("tensor `{name}` is given twice")));
        }
    }
    let mut header = serde_json::to_vec(&Value::Object(header))?;
    header.resize(header.len().next_multiple_of(8), b' ');

    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    for (_, tensor) in &tensors {
        let tensor = tensor.to_device(&Device::Cpu).map_err(io::Error::other)?;
        file.write_all(&View::data(&tensor))?;
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}
