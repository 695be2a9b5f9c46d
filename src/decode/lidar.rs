//! Point clouds: PCD and PLY files to a table of 64-bit columns, and the table to points in the unit frame.
//!
//! Headers are parsed and checked here, leniently where writers differ and strictly where memory is at stake; the
//! values are read by `pcd-rs` and `ply-rs-bw` as far as they can (see [`pcd`] and [`ply`]).

pub mod pcd;
pub mod ply;
mod table;

pub use table::PointTable;

use super::DecodeError;
use crate::sample::Format;

/// Reads a PCD or PLY file.
///
/// `max_points` bounds the number of points, `max_bytes` the size of a decompressed `binary_compressed` body.
///
/// # Errors
/// [`DecodeError`]; a header's counts are compared with the bytes that are there before memory is taken.
pub fn read_table(
    format: Format,
    bytes: &[u8],
    max_points: usize,
    max_bytes: usize,
) -> Result<PointTable, DecodeError> {
    match format {
        Format::Ply => ply::read(bytes, max_points),
        _ => pcd::read(bytes, max_points, max_bytes),
    }
}

/// Whether a file begins like a PCD header.
pub(crate) fn looks_like_pcd(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    start.starts_with(b"#")
        || [&b"VERSION"[..], b"FIELDS", b"COLUMNS"].iter().any(|word| start.starts_with(word))
}

/// Columns that are kept, in the order of [`Slot`]'s discriminants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    X,
    Y,
    Z,
    Intensity,
}

impl Slot {
    /// The column that a field name of a file means; names are compared without case.
    fn of(name: &str) -> Option<Self> {
        let is = |word: &str| name.eq_ignore_ascii_case(word);
        match name {
            _ if is("x") => Some(Self::X),
            _ if is("y") => Some(Self::Y),
            _ if is("z") => Some(Self::Z),
            // CloudCompare writes every scalar with this prefix.
            _ if is("intensity") || is("scalar_intensity") => Some(Self::Intensity),
            _ => None,
        }
    }

    /// One-letter name of the column in the rewritten headers that the libraries see.
    const fn letter(self) -> &'static str {
        match self {
            Self::X => "x",
            Self::Y => "y",
            Self::Z => "z",
            Self::Intensity => "i",
        }
    }

    /// The column of a one-letter name.
    fn of_letter(letter: &str) -> Option<Self> {
        match letter {
            "x" => Some(Self::X),
            "y" => Some(Self::Y),
            "z" => Some(Self::Z),
            "i" => Some(Self::Intensity),
            _ => None,
        }
    }
}

/// The kept values of one point; a column that the file lacks stays 0 and is not looked at.
type Row = [f64; 4];

/// The columns that a list of field names fills: the first of equal names wins.
fn slots<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Option<Slot>> {
    let mut taken = [false; 4];
    names
        .map(|name| {
            Slot::of(name).filter(|&slot| {
                taken.get_mut(slot as usize).is_some_and(|taken| !std::mem::replace(taken, true))
            })
        })
        .collect()
}
