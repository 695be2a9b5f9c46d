//! NumPy arrays (`.npy`) of floats and complex numbers.
//!
//! `npyz` reads header and values. Its header reader trusts what it is given (a 4 GiB length field, nesting that
//! overflows the stack, dimensions whose product overflows), so the header is bounded here before it sees it.

use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use npyz::{DType, Deserialize, NpyFile, NpyHeader, Order, TypeChar};
use num_complex::Complex;

use super::DecodeError;

/// First bytes of every `.npy` file.
pub const MAGIC: &[u8] = b"\x93NUMPY";

/// Longest header; NumPy itself writes 118 bytes for our arrays.
pub(crate) const MAX_HEADER: usize = 4096;

/// An array in standard (C) order; 64-bit files are rounded to 32 bits where that is what the reading needs.
#[derive(Clone, Debug, PartialEq)]
pub enum NpyArray {
    /// `<f4`, `>f4`
    F32(ArrayD<f32>),
    /// `<f8`, `>f8`
    F64(ArrayD<f64>),
    /// `<c8`, `>c8`, `<c16`, `>c16`
    Complex(ArrayD<Complex<f32>>),
}

impl NpyArray {
    /// The array as 64-bit floats; `None` for complex numbers.
    #[must_use]
    pub fn into_f64(self) -> Option<ArrayD<f64>> {
        match self {
            Self::F32(array) => Some(array.mapv(f64::from)),
            Self::F64(array) => Some(array),
            Self::Complex(_) => None,
        }
    }
}

/// Reads an array; `what` names it in errors.
///
/// # Errors
/// `malformed` for a broken header, `wrong_dtype`, `truncated` when the values do not fill the shape. Bytes after the
/// values are ignored.
pub fn read(what: &'static str, bytes: &[u8]) -> Result<NpyArray, DecodeError> {
    check_header(bytes)?;
    let mut rest = bytes;
    let header = NpyHeader::from_reader(&mut rest).map_err(|error| DecodeError::malformed("npy", error))?;
    let wrong_dtype = |found: String| DecodeError::WrongDtype {
        what,
        found,
        allowed: "float32, float64, complex64 or complex128",
    };
    let DType::Plain(kind) = header.dtype() else {
        return Err(wrong_dtype("of a structured array".to_owned()));
    };
    let item = match (kind.type_char(), kind.num_bytes()) {
        (TypeChar::Float, Some(size @ (4 | 8))) | (TypeChar::Complex, Some(size @ (8 | 16))) => size,
        _ => return Err(wrong_dtype(kind.to_string())),
    };
    let needed = header
        .shape()
        .iter()
        .try_fold(item as u64, |size, &dimension| size.checked_mul(dimension))
        .ok_or_else(|| DecodeError::oversize("npy shape", usize::MAX, bytes.len()))?;
    if needed > rest.len() as u64 {
        return Err(DecodeError::truncated(what, rest.len(), needed));
    }
    match (kind.type_char(), item) {
        (TypeChar::Float, 4) => values(header, rest).map(NpyArray::F32),
        (TypeChar::Float, _) => values(header, rest).map(NpyArray::F64),
        (_, 8) => values(header, rest).map(NpyArray::Complex),
        _ => values::<Complex<f64>>(header, rest).map(|array| {
            NpyArray::Complex(array.mapv(|value| Complex::new(value.re as f32, value.im as f32)))
        }),
    }
}

/// Reads the values, of which the caller has checked that they are all there.
fn values<T: Deserialize + Clone>(header: NpyHeader, bytes: &[u8]) -> Result<ArrayD<T>, DecodeError> {
    let shape: Vec<usize> = header.shape().iter().map(|&dimension| dimension as usize).collect();
    let order = header.order();
    let reader = NpyFile::with_header(header, bytes)
        .data::<T>()
        .map_err(|error| DecodeError::malformed("npy", error))?;
    let mut flat = Vec::with_capacity(shape.iter().product());
    for value in reader {
        flat.push(value.map_err(|error| DecodeError::malformed("npy", error))?);
    }
    let array = match order {
        Order::C => ArrayD::from_shape_vec(IxDyn(&shape), flat),
        Order::Fortran => ArrayD::from_shape_vec(IxDyn(&shape).f(), flat)
            .map(|array| array.as_standard_layout().into_owned()),
    };
    array.map_err(|error| DecodeError::malformed("npy", error))
}

/// Bounds the length, the nesting and the numbers of a header; gives the place of the first value.
///
/// # Errors
/// What [`read`] says of a header.
pub(crate) fn check_header(bytes: &[u8]) -> Result<usize, DecodeError> {
    let malformed = |detail: &str| Err(DecodeError::malformed("npy", detail));
    if !bytes.starts_with(MAGIC) {
        return malformed("the file does not begin with \\x93NUMPY");
    }
    let (start, length) = match bytes.get(MAGIC.len()..).unwrap_or_default() {
        [1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([*a, *b]))),
        [2 | 3, _, a, b, c, d, ..] => (12, u32::from_le_bytes([*a, *b, *c, *d]) as usize),
        [1..=3, ..] | [] => return Err(DecodeError::truncated("npy header", bytes.len(), 12)),
        [version, ..] => return malformed(&format!("found version {version}, allowed are 1 to 3")),
    };
    if length > MAX_HEADER {
        return Err(DecodeError::oversize("npy header bytes", length, MAX_HEADER));
    }
    let Some(text) = bytes.get(start..start + length) else {
        return Err(DecodeError::truncated("npy header", bytes.len(), (start + length) as u64));
    };
    let (mut depth, mut digits) = (0i32, 0);
    for byte in text {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b'0'..=b'9' => digits += 1,
            _ => {}
        }
        // The dictionary and the shape in it make two levels.
        if depth > 4 {
            return malformed("the header is nested deeper than 4 levels");
        }
    }
    // The product of numbers with 19 digits in all is below 10^19 and fits in 64 bits.
    if digits > 19 {
        return malformed("the header holds more than 19 digits: no array of this size fits in a message");
    }
    Ok(start + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use npyz::WriterBuilder;

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn both_orders_and_both_endians_give_the_same_array() {
        let expected = ndarray::arr2(&[[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]).into_dyn();
        let c: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let fortran: Vec<u8> =
            [1.0f32, 4.0, 2.0, 5.0, 3.0, 6.0].iter().flat_map(|v| v.to_be_bytes()).collect();
        let c = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", &c);
        let fortran = npy("{'descr': '>f4', 'fortran_order': True, 'shape': (2, 3), }\n", &fortran);
        assert_eq!(read("a", &c), Ok(NpyArray::F32(expected.clone())));
        assert_eq!(read("a", &fortran), Ok(NpyArray::F32(expected)));
    }

    #[test]
    fn complex128_is_rounded() {
        let mut bytes = Vec::new();
        let mut writer = npyz::WriteOptions::new()
            .dtype(DType::Plain("<c16".parse().unwrap()))
            .shape(&[1])
            .writer(&mut bytes)
            .begin_nd()
            .unwrap();
        writer.push(&Complex::new(1.5f64, -2.0)).unwrap();
        writer.finish().unwrap();
        let expected = ndarray::arr1(&[Complex::new(1.5f32, -2.0)]).into_dyn();
        assert_eq!(read("a", &bytes), Ok(NpyArray::Complex(expected)));
    }

    #[test]
    fn headers_promise_nothing_that_is_not_there() {
        let reason = |header: &str, data: &[u8]| read("a", &npy(header, data)).unwrap_err().reason();
        let with_shape =
            |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
        assert_eq!(reason(&with_shape("3,"), &[0; 11]), "truncated");
        assert_eq!(reason(&with_shape("9999999999, 99999999"), &[0; 11]), "truncated");
        assert_eq!(reason(&with_shape("4294967296, 4294967296"), &[0; 11]), "malformed");
        assert_eq!(reason(&format!("{}1", "(".repeat(4000)), &[]), "malformed");
        assert_eq!(
            reason("{'descr': '<i2', 'fortran_order': False, 'shape': (1,), }", &[0; 2]),
            "wrong_dtype"
        );
        assert_eq!(
            reason("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", &[0; 2]),
            "wrong_dtype"
        );
        assert_eq!(reason("{'descr': '<f4'}", &[0; 2]), "malformed");
        let mut long = MAGIC.to_vec();
        long.extend([2, 0, 0xff, 0xff, 0xff, 0xff, b'{']);
        assert_eq!(read("a", &long).unwrap_err().reason(), "oversize");
        assert_eq!(read("a", MAGIC).unwrap_err().reason(), "truncated");
        assert_eq!(read("a", b"PK\x03\x04").unwrap_err().reason(), "malformed");
    }
}
