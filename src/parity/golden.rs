//! A golden file: tensors, metadata, and which of them a case has looked at.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::str::FromStr;

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;

use super::{CaseError, GATE_GRADIENT, GRADIENT, Tolerance};

/// A safetensors file.
pub(super) struct Golden {
    tensors: BTreeMap<String, Tensor>,
    metadata: HashMap<String, String>,
    looked_at: RefCell<BTreeSet<String>>,
}

/// A tensor as numbers of a type, flat; converted on the CPU, as GPUs do not know every pair of types.
fn flat(tensor: &Tensor, dtype: DType) -> candle_core::Result<Tensor> {
    tensor.to_device(&Device::Cpu)?.to_dtype(dtype)?.flatten_all()
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> CaseError {
    CaseError::File { file: path.to_owned(), reason: error.to_string() }
}

impl Golden {
    /// Reads a file onto a device.
    pub(super) fn open(path: &Path, device: &Device) -> Result<Self, CaseError> {
        let bytes = std::fs::read(path).map_err(|error| unreadable(path, error))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| unreadable(path, error))?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, device)
            .map_err(|error| unreadable(path, error))?
            .into_iter()
            .collect();
        let metadata = header.metadata().clone().unwrap_or_default();
        Ok(Self { tensors, metadata, looked_at: RefCell::default() })
    }

    /// A tensor that has to be there.
    pub(super) fn get(&self, name: &str) -> Result<&Tensor, CaseError> {
        self.find(name).ok_or_else(|| CaseError::Missing(name.to_owned()))
    }

    /// A tensor that may be there.
    pub(super) fn find(&self, name: &str) -> Option<&Tensor> {
        let tensor = self.tensors.get(name)?;
        self.looked_at.borrow_mut().insert(name.to_owned());
        Some(tensor)
    }

    /// Whether a tensor is there; it is not looked at.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// All names, sorted; none of them is looked at.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Names that start so, without the start, sorted; none of them is looked at.
    pub(super) fn after(&self, start: &str) -> Vec<String> {
        self.names().filter_map(|name| name.strip_prefix(start)).map(str::to_owned).collect()
    }

    /// All tensors under a name that starts so, without the start; all are looked at.
    pub(super) fn take_after(&self, start: &str) -> HashMap<String, Tensor> {
        let named = |rest: String| {
            let tensor = self.find(&format!("{start}{rest}"))?.clone();
            Some((rest, tensor))
        };
        self.after(start).into_iter().filter_map(named).collect()
    }

    /// A tensor of integers, flat.
    pub(super) fn integers(&self, name: &str) -> Result<Vec<i64>, CaseError> {
        Ok(flat(self.get(name)?, DType::I64)?.to_vec1()?)
    }

    /// A tensor of any type as 64-bit floats, flat.
    pub(super) fn floats(&self, name: &str) -> Result<Vec<f64>, CaseError> {
        Ok(flat(self.get(name)?, DType::F64)?.to_vec1()?)
    }

    /// An entry of the metadata.
    pub(super) fn metadata(&self, key: &str) -> Result<&str, CaseError> {
        self.metadata
            .get(key)
            .map(String::as_str)
            .ok_or_else(|| CaseError::Missing(format!("metadata `{key}`")))
    }

    /// An entry of the metadata that is a number.
    pub(super) fn parsed<T: FromStr>(&self, key: &str) -> Result<T, CaseError> {
        let text = self.metadata(key)?;
        let wrong = || CaseError::Other(format!("metadata `{key}`: found `{text}`, allowed is a number"));
        text.parse().map_err(|_| wrong())
    }

    /// An entry of the metadata that is a list of numbers, `(8, 16)` or `0,1,4`.
    pub(super) fn list(&self, key: &str) -> Result<Vec<usize>, CaseError> {
        let text = self.metadata(key)?;
        let wrong = || CaseError::Other(format!("metadata `{key}`: found `{text}`, allowed are numbers"));
        let inner = text.trim_matches(['(', ')', '[', ']', ' ']);
        let parts = inner.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| part.parse().map_err(|_| wrong())).collect()
    }

    /// How far a gradient may be off: 1e-4 of its largest number, 1e-3 for the one number of a gate, which is a sum with
    /// cancellation. Where the golden one is 0 but for rounding (a bias that adds to all logits of a softmax), below 1e-6
    /// of the largest number of all gradients in the file, that much.
    pub(super) fn gradient_tolerance(&self, name: &str) -> Result<Tolerance, CaseError> {
        const ROUNDING: f64 = 1e-6;
        let largest = |tensor: &Tensor| -> Result<f64, CaseError> {
            let numbers: Vec<f64> = flat(tensor, DType::F64)?.to_vec1()?;
            Ok(numbers.iter().fold(0.0, |most, number| number.abs().max(most)))
        };
        let tensor = self.get(name)?;
        let mut most = 0.0f64;
        for (_, tensor) in self.tensors.iter().filter(|(name, _)| name.split('.').any(|part| part == "grad"))
        {
            most = most.max(largest(tensor)?);
        }
        if largest(tensor)? < ROUNDING * most {
            return Ok(Tolerance::Absolute(ROUNDING * most));
        }
        let is_gate = tensor.elem_count() == 1 && name.ends_with("gate");
        Ok(if is_gate { GATE_GRADIENT } else { GRADIENT })
    }

    /// Names that nobody looked at.
    pub(super) fn unused(&self) -> Vec<String> {
        let looked_at = self.looked_at.borrow();
        self.names().filter(|name| !looked_at.contains(*name)).map(str::to_owned).collect()
    }
}
