//! NumPy files that are no recording: arrays by name and shape, and sets of labelled windows.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use serde::{Deserialize, Serialize};

use super::payload;
use super::structure;
use crate::decode::npy;

/// Most arrays of one `.npz` file.
const ARRAY_LIMIT: usize = 1000;
/// Most bytes of one of them: what is packed is small whatever it unpacks to.
const BYTE_LIMIT: u64 = 1 << 29;
/// Enough of an array to read its header.
const HEAD: u64 = npy::MAX_HEADER as u64 + 16;

/// One array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayInfo {
    /// Name within its file; empty for a `.npy` file.
    pub name: String,
    /// NumPy's name of its type, e.g. `<f4`.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<u64>,
}

/// Windows with one label each: `features` (N, frames, beams) and `labels` (N).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowInfo {
    /// Windows.
    pub windows: u64,
    /// Frames of each.
    pub frames: u64,
    /// Beams of each frame.
    pub beams: u64,
    /// Share of windows with a label that is not 0.
    pub positive_share: f64,
}

/// One file of arrays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArrayFile {
    /// Its name.
    pub file: String,
    /// What it holds, in the order of the file.
    pub arrays: Vec<ArrayInfo>,
    /// The same read as labelled windows, if it is that.
    pub windows: Option<WindowInfo>,
    /// Why it cannot be read.
    pub unreadable: Option<String>,
}

/// Looks into every `.npy` and `.npz` file given.
pub(super) fn describe(paths: &[PathBuf]) -> Vec<ArrayFile> {
    paths.iter().map(|path| describe_file(path)).collect()
}

fn describe_file(path: &Path) -> ArrayFile {
    let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_npz = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npz"));
    let read = if is_npz { read_npz(path) } else { read_npy(path).map(|array| (vec![array], None)) };
    match read {
        Ok((arrays, windows)) => ArrayFile { file, arrays, windows, unreadable: None },
        Err(reason) => ArrayFile { file, arrays: Vec::new(), windows: None, unreadable: Some(reason) },
    }
}

/// What an array of `whole` bytes is that begins with `bytes`.
fn array_info(name: &str, bytes: &[u8], whole: u64) -> Result<ArrayInfo, String> {
    let (header, _) = structure::npy_header(bytes, whole)?;
    let dtype = header.dtype().descr().trim_matches('\'').to_owned();
    Ok(ArrayInfo { name: name.to_owned(), dtype, shape: header.shape().to_vec() })
}

fn read_npy(path: &Path) -> Result<ArrayInfo, String> {
    let bytes = payload::read_file(path).map_err(|error| error.to_string())?;
    array_info("", &bytes, bytes.len() as u64)
}

/// A `.npz` file: `.npy` files by name, of which each is unpacked when it is asked for.
#[derive(Debug)]
pub(crate) struct Npz(zip::ZipArchive<File>);

impl Npz {
    /// Reads what it holds, not the arrays.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let file = payload::open_file(path).map_err(|error| error.to_string())?;
        let archive = zip::ZipArchive::new(file).map_err(|error| format!("no .npz file: {error}"))?;
        if archive.len() > ARRAY_LIMIT {
            return Err(format!("found {} arrays, allowed are {ARRAY_LIMIT} at most", archive.len()));
        }
        Ok(Self(archive))
    }

    /// Names of its arrays, in its order.
    pub(crate) fn names(&self) -> Vec<String> {
        let names = (0..self.0.len()).filter_map(|at| self.0.name_for_index(at));
        names.map(|name| name.trim_end_matches(".npy").to_owned()).collect()
    }

    /// The array at a place of [`Npz::names`], or of it only the first `most` bytes, as a `.npy` file; and how many bytes it says
    /// that it has.
    fn unpack(&mut self, at: usize, most: u64) -> Result<(Vec<u8>, u64), String> {
        let entry = self.0.by_index(at).map_err(|error| error.to_string())?;
        let whole = entry.size();
        let mut bytes = Vec::new();
        entry.take(most).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        Ok((bytes, whole))
    }

    /// An array; `None` when there is none of this name.
    pub(crate) fn array(&mut self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(at) = self.names().iter().position(|known| known == name) else { return Ok(None) };
        let (bytes, _) = self.unpack(at, BYTE_LIMIT + 1)?;
        if bytes.len() as u64 > BYTE_LIMIT {
            return Err(format!("found more than {BYTE_LIMIT} bytes, allowed are as many"));
        }
        Ok(Some(bytes))
    }
}

/// An array of numbers, whatever their type was.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Numbers {
    /// Its shape.
    pub(crate) shape: Vec<usize>,
    /// Row by row (C order).
    pub(crate) values: Vec<f64>,
}

/// The numbers of a `.npy` file: integers, floats, truth values.
pub(crate) fn numbers(bytes: &[u8]) -> Result<Numbers, String> {
    let (header, values) = structure::npy(bytes)?;
    let shape: Vec<usize> = header.shape().iter().map(|&side| side as usize).collect();
    let order = header.order();
    let kind = header.dtype().descr();
    let file = npyz::NpyFile::with_header(header, values);
    let read = match kind.as_str() {
        "'|b1'" => {
            file.into_vec().map(|all| all.into_iter().map(|value: bool| f64::from(u8::from(value))).collect())
        }
        "'|u1'" => file.into_vec().map(|all| all.into_iter().map(|value: u8| f64::from(value)).collect()),
        "'<i2'" => file.into_vec().map(|all| all.into_iter().map(|value: i16| f64::from(value)).collect()),
        "'<i4'" => file.into_vec().map(|all| all.into_iter().map(|value: i32| f64::from(value)).collect()),
        "'<i8'" => file.into_vec().map(|all| all.into_iter().map(|value: i64| value as f64).collect()),
        "'<f4'" => file.into_vec().map(|all| all.into_iter().map(|value: f32| f64::from(value)).collect()),
        "'<f8'" => file.into_vec(),
        _ => return Err(format!("found numbers of type {kind}, allowed are b1, u1, i2, i4, i8, f4, f8")),
    };
    let values: Vec<f64> = read.map_err(|error| error.to_string())?;
    let values = match order {
        npyz::Order::C => values,
        npyz::Order::Fortran => {
            let array =
                ArrayD::from_shape_vec(IxDyn(&shape).f(), values).map_err(|error| error.to_string())?;
            array.iter().copied().collect()
        }
    };
    Ok(Numbers { shape, values })
}

fn read_npz(path: &Path) -> Result<(Vec<ArrayInfo>, Option<WindowInfo>), String> {
    let mut npz = Npz::open(path)?;
    let mut arrays = Vec::new();
    for (at, name) in npz.names().iter().enumerate() {
        let info = npz.unpack(at, HEAD).and_then(|(head, whole)| array_info(name, &head, whole));
        arrays.push(info.map_err(|error| format!("{name}: {error}"))?);
    }
    let labels = npz.array("labels").map_err(|error| format!("labels: {error}"))?;
    let labels = labels.as_deref().and_then(positive_share);
    let features = arrays.iter().find(|array| array.name == "features");
    let windows = match (features.map(|array| array.shape.as_slice()), labels) {
        (Some(&[windows, frames, beams]), Some((count, positive_share))) if count as u64 == windows => {
            Some(WindowInfo { windows, frames, beams, positive_share })
        }
        _ => None,
    };
    Ok((arrays, windows))
}

/// Number of labels and the share of those that are not 0.
fn positive_share(bytes: &[u8]) -> Option<(usize, f64)> {
    let labels = numbers(bytes).ok()?.values;
    let positive = labels.iter().filter(|&&label| label != 0.0).count();
    (!labels.is_empty()).then(|| (labels.len(), positive as f64 / labels.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_in_fortran_order_is_read_row_by_row() {
        let file = |order: &str| {
            let header = format!("{{'descr': '<f4', 'fortran_order': {order}, 'shape': (2, 3), }}");
            let padded = format!("{header:<117}\n");
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((padded.len() as u16).to_le_bytes());
            bytes.extend(padded.as_bytes());
            bytes.extend((0..6u8).flat_map(|value| f32::from(value).to_le_bytes()));
            numbers(&bytes).unwrap()
        };
        assert_eq!(file("False").values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(file("True"), Numbers { shape: vec![2, 3], values: vec![0.0, 2.0, 4.0, 1.0, 3.0, 5.0] });
    }
}
