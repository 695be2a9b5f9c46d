//! PCD files of versions .4 to .7: ascii, binary, binary_compressed.
//!
//! `pcd-rs` trusts counts and sizes of the header, panics where they disagree with the data, and refuses headers that
//! real writers write. So the header is parsed and checked here, and `pcd-rs` reads the body behind a header
//! rewritten in the one form that it takes: fields of interest with one-letter names, everything else as padding.
//!
//! Read leniently: a missing VERSION, COUNT, VIEWPOINT, HEIGHT or POINTS, any case of names, repeated names (the first
//! wins), `_` fields of any size, COUNT 0, CRLF, commas or tabs between ascii values, bytes after the data. POINTS
//! counts, whatever WIDTH × HEIGHT say. VIEWPOINT is ignored: the pose of the sensor is the pipeline's to say.

mod header;
mod record;

use std::io::Cursor;

use pcd_rs::Reader;

use super::{PointTable, slots};
use crate::decode::DecodeError;
use header::{Encoding, Header};
use record::Record;

/// Reads a PCD file.
///
/// # Errors
/// See [`super::read_table`].
pub fn read(bytes: &[u8], max_points: usize, max_bytes: usize) -> Result<PointTable, DecodeError> {
    let mut header = Header::parse(bytes)?;
    if header.points > max_points as u64 {
        return Err(DecodeError::Oversize {
            what: "points",
            found: header.points,
            allowed: max_points as u64,
        });
    }
    let body = bytes.get(header.body..).unwrap_or_default();
    let slots = slots(header.fields.iter().map(|field| field.name.as_str()));
    let names = header.fields.iter().map(|field| field.name.clone()).collect();
    let points = header.points as usize;
    if points == 0 {
        return Ok(PointTable::new(names, &slots, 0));
    }
    header.resolve_zero_counts(body);
    check_body(&header, body, max_bytes)?;

    let canonical = header.canonical(&slots)?;
    let mut table = PointTable::new(names, &slots, points);
    let file = std::io::Read::chain(Cursor::new(canonical), body);
    for record in Reader::<Record, _>::from_reader(file).map_err(library_error)? {
        table.push(record.map_err(library_error)?.0);
    }
    Ok(table)
}

fn library_error(error: pcd_rs::Error) -> DecodeError {
    DecodeError::malformed("PCD", error)
}

/// Compares what the header promises with the body.
fn check_body(header: &Header, body: &[u8], max_bytes: usize) -> Result<(), DecodeError> {
    let found = body.len();
    // Points are below a limit that fits in 32 bits and records below 2^40 bytes, see `Header::parse`.
    let data = header.points.saturating_mul(header.record_bytes());
    match header.encoding {
        Encoding::Ascii => {
            // A value takes a character and a separator; the last separator may be missing.
            let needed = header.points.saturating_mul(header.record_values().max(1) * 2) - 1;
            if needed > found as u64 {
                return Err(DecodeError::truncated("PCD ascii data", found, needed));
            }
        }
        Encoding::Binary => {
            if data > found as u64 {
                return Err(DecodeError::truncated("PCD binary data", found, data));
            }
        }
        Encoding::BinaryCompressed => {
            let Some((compressed, decompressed)) = header::compressed_sizes(body) else {
                return Err(DecodeError::truncated("PCD compressed sizes", found, 8));
            };
            if compressed + 8 > found as u64 {
                return Err(DecodeError::truncated("PCD compressed data", found, compressed + 8));
            }
            if decompressed != data {
                return Err(DecodeError::malformed(
                    "PCD",
                    format!(
                        "{} points of {} bytes make {data} bytes, the decompressed size is given as {decompressed}",
                        header.points,
                        header.record_bytes()
                    ),
                ));
            }
            // The longest LZF reference makes 264 bytes of 3.
            let most = (compressed * 88).min(max_bytes as u64);
            if decompressed > most {
                return Err(DecodeError::Oversize {
                    what: "PCD decompressed bytes",
                    found: decompressed,
                    allowed: most,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(
        fields: &str,
        size: &str,
        kind: &str,
        count: &str,
        points: u64,
        data: &str,
        body: &[u8],
    ) -> Vec<u8> {
        let mut bytes = format!(
            "# .PCD v.7\nVERSION .7\nFIELDS {fields}\nSIZE {size}\nTYPE {kind}\nCOUNT {count}\nWIDTH {points}\n\
             HEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA {data}\n"
        )
        .into_bytes();
        bytes.extend(body);
        bytes
    }

    fn xyz(points: u64, data: &str, body: &[u8]) -> Vec<u8> {
        file("x y z", "4 4 4", "F F F", "1 1 1", points, data, body)
    }

    fn read_default(bytes: &[u8]) -> Result<PointTable, DecodeError> {
        read(bytes, 1 << 20, 32 << 20)
    }

    fn reason(bytes: &[u8]) -> &'static str {
        read_default(bytes).unwrap_err().reason()
    }

    fn column(table: &PointTable, axis: usize) -> &[f64] {
        table.coordinates[axis].as_deref().unwrap()
    }

    #[test]
    fn binary_with_padding_repeats_and_odd_types() {
        // X u16, two bytes of `_`, y f64, intensity i8, `_` again, z i32, x again (ignored), COUNT 0 of nothing.
        let mut body = Vec::new();
        for i in 0..3u8 {
            body.extend((u16::from(i) + 1).to_le_bytes());
            body.extend([9, 9]);
            body.extend((f64::from(i) + 0.5).to_le_bytes());
            body.extend((-(i as i8)).to_le_bytes());
            body.extend([9; 3]);
            body.extend((-i32::from(i)).to_le_bytes());
            body.extend([7; 4]);
        }
        body.extend([0; 100]);
        let bytes = file(
            "X _ y Intensity _ z x none",
            "2 1 8 1 3 4 4 4",
            "U U F I U I F F",
            "1 2 1 1 1 1 1 0",
            3,
            "binary",
            &body,
        );
        let table = read_default(&bytes).unwrap();
        assert_eq!(table.points, 3);
        assert_eq!(column(&table, 0), [1.0, 2.0, 3.0]);
        assert_eq!(column(&table, 1), [0.5, 1.5, 2.5]);
        assert_eq!(column(&table, 2), [0.0, -1.0, -2.0]);
        assert_eq!(table.intensity.as_deref().unwrap(), [0.0, -1.0, -2.0]);
    }

    #[test]
    fn a_count_of_zero_is_what_the_length_of_the_data_says() {
        let body: Vec<u8> = [1.0f32, 2.0, 3.0, 9.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let with = |body: &[u8]| file("x y z w", "4 4 4 4", "F F F F", "1 1 1 0", 1, "binary", body);
        for bytes in [with(&body), with(&body[..12])] {
            assert_eq!(column(&read_default(&bytes).unwrap(), 2), [3.0]);
        }
        let line = |line: &str| file("x w y z", "4 4 4 4", "F F F F", "1 0 1 1", 1, "ascii", line.as_bytes());
        assert_eq!(column(&read_default(&line("1 2 3")).unwrap(), 1), [2.0]);
        assert_eq!(column(&read_default(&line("1 9 2 3")).unwrap(), 1), [2.0]);
    }

    #[test]
    fn ascii_with_commas_crlf_and_nan() {
        let text = "VERSION 0.7\r\nFIELDS x y z\r\nSIZE 4 4 4\r\nTYPE F F F\r\nWIDTH 3\r\nDATA ascii\r\n\
                    1,2,3\r\n\r\nnan\t-inf 6\r\n 7, 8, 9.5e1";
        let table = read_default(text.as_bytes()).unwrap();
        assert_eq!(table.points, 3);
        assert!(column(&table, 0)[1].is_nan());
        assert_eq!(column(&table, 1), [2.0, f64::NEG_INFINITY, 8.0]);
        assert_eq!(column(&table, 2), [3.0, 6.0, 95.0]);
    }

    /// One literal run per 32 bytes: valid LZF without compression.
    fn lzf_literals(data: &[u8]) -> Vec<u8> {
        data.chunks(32)
            .flat_map(|run| std::iter::once(run.len() as u8 - 1).chain(run.iter().copied()))
            .collect()
    }

    fn compressed(points: u64, columns: &[u8], decompressed: u32) -> Vec<u8> {
        let lzf = lzf_literals(columns);
        let mut body = (lzf.len() as u32).to_le_bytes().to_vec();
        body.extend(decompressed.to_le_bytes());
        body.extend(lzf);
        xyz(points, "binary_compressed", &body)
    }

    #[test]
    fn compressed_columns() {
        let columns: Vec<u8> =
            [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        let table = read_default(&compressed(2, &columns, 24)).unwrap();
        assert_eq!(column(&table, 0), [1.0, 2.0]);
        assert_eq!(column(&table, 1), [3.0, 4.0]);
        assert_eq!(column(&table, 2), [5.0, 6.0]);
        // More points than the decompressed length holds, and a size field of 4 GiB.
        assert_eq!(reason(&compressed(1000, &columns, 24)), "malformed");
        assert_eq!(reason(&compressed(2, &columns, u32::MAX)), "malformed");
        assert_eq!(reason(&compressed(1_000_000, &columns, 12_000_000)), "oversize");
        // The size is right and the data is not.
        assert_eq!(reason(&compressed(4, &columns, 48)), "malformed");
        let mut cut = compressed(2, &columns, 24);
        cut.truncate(cut.len() - 1);
        assert_eq!(reason(&cut), "truncated");
    }

    #[test]
    fn promises_without_bytes_are_refused() {
        assert_eq!(reason(&xyz(2, "binary", &[0; 23])), "truncated");
        assert_eq!(reason(&xyz(u64::MAX, "binary", &[0; 24])), "oversize");
        assert_eq!(reason(&xyz(900_000, "ascii", b"1 2 3\n")), "truncated");
        assert_eq!(reason(&xyz(2, "ascii", b"1 2 3\n4 5        \n")), "malformed");
        assert_eq!(reason(&xyz(2, "ascii", b"1.0000 2.0000 3.0000\n")), "malformed");
        assert_eq!(reason(&xyz(1, "ascii", b"1 2 three\n")), "malformed");
        assert_eq!(reason(&xyz(1, "base64", b"")), "unsupported");
        assert_eq!(reason(&file("x y z", "4 4 3", "F F F", "1 1 1", 1, "binary", &[0; 40])), "unsupported");
        assert_eq!(reason(&file("x y z", "4 4", "F F F", "1 1 1", 1, "binary", &[0; 40])), "malformed");
        let huge = u64::MAX.to_string();
        assert_eq!(
            reason(&file("x y z", "4 4 4", "F F F", &format!("1 1 {huge}"), 1, "binary", &[0; 40])),
            "oversize"
        );
        assert_eq!(reason(b"VERSION .7\nFIELDS x y z\n"), "malformed");
        assert_eq!(reason(b""), "malformed");
    }

    #[test]
    fn no_points_is_a_cloud_without_points() {
        let table = read_default(&xyz(0, "binary", b"")).unwrap();
        assert_eq!((table.points, column(&table, 0).len()), (0, 0));
    }
}
