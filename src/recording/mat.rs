//! MATLAB files (version 5 to 7.2), as far as recordings need them: one numeric array by name.
//!
//! The parser is the crate `matfile`. It inflates without a limit, so compressed variables are inflated here first, up
//! to [`LIMIT`]; it may panic on hostile sizes, so it runs contained.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use flate2::read::ZlibDecoder;
use matfile::{MatFile, NumericData};

/// Most bytes of one variable.
const LIMIT: usize = 256 << 20;
const HEADER: usize = 128;
const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

/// A numeric array in MATLAB's order: the first index runs fastest.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MatArray {
    pub shape: Vec<usize>,
    pub real: Vec<f64>,
    pub imaginary: Option<Vec<f64>>,
}

/// Why a MATLAB file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum MatError {
    #[error("a MATLAB 7.3 (HDF5) file; versions 5 to 7.2 are read (save it with `-v7`)")]
    Hdf5,
    #[error("no MATLAB file: {0}")]
    NotMat(&'static str),
    #[error("truncated: {needed} bytes are announced at byte {at}, {left} are left")]
    Truncated { at: usize, needed: usize, left: usize },
    #[error("a compressed variable does not inflate: {0}")]
    Inflate(String),
    #[error("a variable takes more than {LIMIT} bytes")]
    TooLarge,
    #[error("variable `{wanted}` cannot be read: {reason}")]
    Broken { wanted: String, reason: String },
    #[error("no numeric variable `{wanted}`; there are: {}", found.join(", "))]
    NoVariable { wanted: String, found: Vec<String> },
}

/// Reads the numeric array called `wanted`.
pub(super) fn read(bytes: &[u8], wanted: &str) -> Result<MatArray, MatError> {
    const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";
    if bytes.starts_with(HDF5) || bytes.get(512..).is_some_and(|rest| rest.starts_with(HDF5)) {
        return Err(MatError::Hdf5);
    }
    let Some(header) = bytes.get(..HEADER) else { return Err(MatError::NotMat("shorter than its header")) };
    let little = match header.get(126..) {
        Some(b"IM") => true,
        Some(b"MI") => false,
        _ => return Err(MatError::NotMat("no byte order mark")),
    };
    let mut found = Vec::new();
    let mut broken = None;
    let mut at = HEADER;
    while at + 8 <= bytes.len() {
        let (kind, size) = tag(bytes, at, little).ok_or(MatError::NotMat("no element tag"))?;
        let start = at + 8;
        let element = start.checked_add(size).and_then(|end| bytes.get(start..end));
        let Some(element) = element else {
            return Err(MatError::Truncated { at, needed: size, left: bytes.len() - start });
        };
        let variable = match kind {
            COMPRESSED => {
                let variable = inflate(element)?;
                tag(&variable, 0, little).is_some_and(|(kind, _)| kind == MATRIX).then_some(variable)
            }
            MATRIX => bytes.get(at..start + size).map(<[u8]>::to_vec),
            _ => None,
        };
        if let Some(variable) = variable {
            match parse(header, variable, wanted) {
                Ok(Found::Wanted(array)) => return Ok(array),
                Ok(Found::Other(name)) => found.extend(name),
                // It may be another variable of a kind that is not supported.
                Err(reason) => broken = Some(reason),
            }
        }
        // Uncompressed elements are padded to 8 bytes.
        at = start + if kind == COMPRESSED { size } else { size.next_multiple_of(8) };
    }
    let wanted = wanted.to_owned();
    Err(match broken {
        Some(reason) => MatError::Broken { wanted, reason },
        None => MatError::NoVariable { wanted, found },
    })
}

fn tag(bytes: &[u8], at: usize, little: bool) -> Option<(u32, usize)> {
    let word = |at: usize| {
        let raw: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(raw) } else { u32::from_be_bytes(raw) })
    };
    Some((word(at)?, usize::try_from(word(at + 4)?).ok()?))
}

fn inflate(element: &[u8]) -> Result<Vec<u8>, MatError> {
    let mut variable = Vec::new();
    let limit = u64::try_from(LIMIT).unwrap_or(u64::MAX);
    ZlibDecoder::new(element)
        .take(limit + 1)
        .read_to_end(&mut variable)
        .map_err(|error| MatError::Inflate(error.to_string()))?;
    if variable.len() > LIMIT { Err(MatError::TooLarge) } else { Ok(variable) }
}

enum Found {
    Wanted(MatArray),
    Other(Option<String>),
}

fn parse(header: &[u8], mut variable: Vec<u8>, wanted: &str) -> Result<Found, String> {
    variable.resize(variable.len().next_multiple_of(8), 0);
    let mut file = header.to_vec();
    file.append(&mut variable);
    let parsed = catch_unwind(AssertUnwindSafe(|| MatFile::parse(file.as_slice())))
        .map_err(|_| "its sizes contradict each other".to_owned())?
        .map_err(|error| error.to_string())?;
    let Some(array) = parsed.arrays().first() else { return Ok(Found::Other(None)) };
    if array.name() != wanted {
        return Ok(Found::Other(Some(array.name().to_owned())));
    }
    let (real, imaginary) = widen(array.data());
    let cells = array.size().iter().try_fold(1usize, |product, &side| product.checked_mul(side));
    if cells != Some(real.len()) || imaginary.as_ref().is_some_and(|part| part.len() != real.len()) {
        return Err(format!("{} values do not fill shape {:?}", real.len(), array.size()));
    }
    Ok(Found::Wanted(MatArray { shape: array.size().clone(), real, imaginary }))
}

fn widen(data: &NumericData) -> (Vec<f64>, Option<Vec<f64>>) {
    macro_rules! widen {
        ($real:expr, $imag:expr) => {{
            let part = |values: &[_]| values.iter().map(|&value| value as f64).collect::<Vec<f64>>();
            (part($real), $imag.as_deref().map(part))
        }};
    }
    match data {
        NumericData::Int8 { real, imag } => widen!(real, imag),
        NumericData::UInt8 { real, imag } => widen!(real, imag),
        NumericData::Int16 { real, imag } => widen!(real, imag),
        NumericData::UInt16 { real, imag } => widen!(real, imag),
        NumericData::Int32 { real, imag } => widen!(real, imag),
        NumericData::UInt32 { real, imag } => widen!(real, imag),
        NumericData::Int64 { real, imag } => widen!(real, imag),
        NumericData::UInt64 { real, imag } => widen!(real, imag),
        NumericData::Single { real, imag } => widen!(real, imag),
        NumericData::Double { real, imag } => widen!(real, imag),
    }
}
