//! Is a payload whole? Headers and sizes only; what the bytes mean is for the decoders.

use crate::decode;
use crate::sample::Format;

/// Checks that `bytes` begin and end as a file of this format does.
///
/// # Errors
/// What is missing, for a person.
pub fn check(format: Format, bytes: &[u8]) -> Result<(), String> {
    if bytes.is_empty() {
        return Err("empty file".to_owned());
    }
    match format {
        Format::Jpeg => jpeg(bytes),
        Format::Png => png(bytes),
        Format::Npy => npy(bytes).map(|_| ()),
        Format::Pcd => pcd(bytes),
        Format::Ply => ply(bytes),
        Format::Json => serde_json::from_slice::<serde::de::IgnoredAny>(bytes)
            .map(|_| ())
            .map_err(|error| format!("no JSON: {error}")),
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn jpeg(bytes: &[u8]) -> Result<(), String> {
    if !bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        return Err("no JPEG: it does not begin with FF D8 FF".to_owned());
    }
    // Cameras pad; the end marker stands near the end of a whole file.
    let tail = bytes.get(bytes.len().saturating_sub(4096)..).unwrap_or(bytes);
    match find(tail, &[0xff, 0xd9]) {
        Some(_) => Ok(()),
        None => Err(format!("truncated JPEG: no end marker in {} bytes", bytes.len())),
    }
}

fn png(bytes: &[u8]) -> Result<(), String> {
    if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Err("no PNG: wrong signature".to_owned());
    }
    let tail = bytes.get(bytes.len().saturating_sub(4096)..).unwrap_or(bytes);
    match find(tail, b"IEND") {
        Some(_) => Ok(()),
        None => Err(format!("truncated PNG: no end chunk in {} bytes", bytes.len())),
    }
}

/// Header of a NumPy file and the values behind it, once it is clear that all of them are there.
pub(super) fn npy(bytes: &[u8]) -> Result<(npyz::NpyHeader, &[u8]), String> {
    let (header, start) = npy_header(bytes, bytes.len() as u64)?;
    Ok((header, bytes.get(start..).unwrap_or_default()))
}

/// Header of a NumPy file of `whole` bytes that begins with `bytes`, and where its values begin: so many that the file holds
/// them all.
pub(super) fn npy_header(bytes: &[u8], whole: u64) -> Result<(npyz::NpyHeader, usize), String> {
    if !bytes.starts_with(b"\x93NUMPY") {
        return Err("no NumPy file: wrong signature".to_owned());
    }
    let start = decode::npy::check_header(bytes).map_err(|error| error.to_string())?;
    let header =
        npyz::NpyHeader::from_reader(bytes).map_err(|error| format!("its header cannot be read: {error}"))?;
    let there = whole.saturating_sub(start as u64);
    let cells = header.shape().iter().try_fold(1u64, |product, &side| product.checked_mul(side));
    let width = header.dtype().num_bytes().and_then(|width| u64::try_from(width).ok());
    match cells.zip(width).and_then(|(cells, width)| cells.checked_mul(width)) {
        None => {
            let (shape, kind) = (header.shape(), header.dtype().descr());
            Err(format!("found shape {shape:?} of {kind}, allowed are numbers, as many as there can be"))
        }
        Some(needed) if needed > there => Err(format!(
            "truncated: shape {:?} of {} takes {needed} bytes, {there} are there",
            header.shape(),
            header.dtype().descr(),
        )),
        Some(_) => Ok((header, start)),
    }
}

/// The text header of a PCD or PLY file: its lines, and where the data begins.
fn text_header<'a>(bytes: &'a [u8], last_line: &str) -> Result<(Vec<&'a str>, usize), String> {
    const LIMIT: usize = 1 << 16;
    let mut lines = Vec::new();
    let mut at = 0;
    let head = bytes.get(..bytes.len().min(LIMIT)).unwrap_or(bytes);
    while let Some(end) = head.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == b'\n')) {
        let line = head.get(at..at + end).and_then(|line| std::str::from_utf8(line).ok());
        let line = line.ok_or("its header is no text")?.trim();
        lines.push(line);
        at += end + 1;
        if line.starts_with(last_line) {
            return Ok((lines, at));
        }
    }
    Err(format!("truncated: no `{last_line}` in the header"))
}

fn pcd(bytes: &[u8]) -> Result<(), String> {
    let (lines, start) = text_header(bytes, "DATA")?;
    let value = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    let numbers = |key: &str| -> Vec<u64> {
        value(key)
            .map(|text| text.split_whitespace().filter_map(|word| word.parse().ok()).collect())
            .unwrap_or_default()
    };
    let sizes = numbers("SIZE");
    let counts = numbers("COUNT");
    let side = |key: &str| numbers(key).first().copied();
    let points = side("POINTS").or_else(|| side("WIDTH")?.checked_mul(side("HEIGHT").unwrap_or(1)));
    if value("DATA") != Some("binary") {
        return Ok(());
    }
    let width = sizes.iter().enumerate().try_fold(0u64, |sum, (n, size)| {
        sum.checked_add(size.checked_mul(counts.get(n).copied().unwrap_or(1))?)
    });
    let left = bytes.len().saturating_sub(start) as u64;
    match points.zip(width).and_then(|(points, width)| points.checked_mul(width)) {
        Some(needed) if needed <= left => Ok(()),
        Some(needed) => Err(format!("truncated: the points take {needed} bytes, {left} are there")),
        None => Err("its header names no number of points".to_owned()),
    }
}

fn ply(bytes: &[u8]) -> Result<(), String> {
    if !bytes.starts_with(b"ply") {
        return Err("no PLY: it does not begin with `ply`".to_owned());
    }
    let (lines, start) = text_header(bytes, "end_header")?;
    let data = bytes.get(start..).unwrap_or_default();
    let ascii = lines.iter().any(|line| line.starts_with("format ascii"));
    // Bytes of one vertex, as far as vertices stand first and have no lists.
    let mut vertices: Option<u64> = None;
    let mut width = Some(0u64);
    for line in &lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["element", "vertex", count] if vertices.is_none() => {
                vertices = Some(count.parse().map_err(|_| format!("`{count}` is no number of vertices"))?);
            }
            ["element", ..] => {
                if vertices.is_some() {
                    break;
                }
                return Ok(());
            }
            ["property", "list", ..] => width = None,
            ["property", kind, _] => width = width.zip(scalar_bytes(kind)).map(|(sum, bytes)| sum + bytes),
            _ => {}
        }
    }
    let vertices = vertices.ok_or("its header names no vertices")?;
    if ascii {
        let ends = data.iter().filter(|&&byte| byte == b'\n').count();
        let unfinished = data.last().is_some_and(|&byte| byte != b'\n');
        let found = ends as u64 + u64::from(unfinished);
        if found < vertices {
            return Err(format!("truncated: {vertices} points are announced, {found} are there"));
        }
        // A file cut within its last line still has the right number of lines.
        let properties = lines.iter().filter(|line| line.starts_with("property")).count();
        if unfinished && found == vertices {
            let last = data.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
            let words = last.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty()).count();
            if words < properties {
                return Err(format!("truncated: the last point has {words} of {properties} values"));
            }
        }
        return Ok(());
    }
    match width.and_then(|width| width.checked_mul(vertices)) {
        Some(needed) if needed > data.len() as u64 => {
            Err(format!("truncated: the points take {needed} bytes, {} are there", data.len()))
        }
        _ => Ok(()),
    }
}

fn scalar_bytes(kind: &str) -> Option<u64> {
    match kind {
        "char" | "uchar" | "int8" | "uint8" => Some(1),
        "short" | "ushort" | "int16" | "uint16" => Some(2),
        "int" | "uint" | "int32" | "uint32" | "float" | "float32" => Some(4),
        "double" | "float64" => Some(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_files_are_noticed() {
        let jpeg = [0xff, 0xd8, 0xff, 0xe0, 1, 2, 3, 0xff, 0xd9, 0, 0];
        assert_eq!(check(Format::Jpeg, &jpeg), Ok(()));
        assert!(check(Format::Jpeg, &jpeg[..7]).unwrap_err().contains("no end marker in 7 bytes"));
        let ply = b"ply\nformat ascii 1.0\nelement vertex 2\nproperty double x\nproperty double y\nend_header\n1 2\n3 4";
        assert_eq!(check(Format::Ply, ply), Ok(()));
        assert!(check(Format::Ply, &ply[..ply.len() - 2]).unwrap_err().contains("1 of 2 values"));
        assert!(check(Format::Ply, &ply[..ply.len() - 4]).unwrap_err().contains("2 points are announced, 1"));
        assert!(check(Format::Ply, &ply[..30]).unwrap_err().contains("end_header"));
        let pcd =
            b"VERSION 0.7\nFIELDS x\nSIZE 4\nCOUNT 1\nWIDTH 2\nHEIGHT 1\nPOINTS 2\nDATA binary\n12345678";
        assert_eq!(check(Format::Pcd, pcd), Ok(()));
        assert!(check(Format::Pcd, &pcd[..pcd.len() - 1]).unwrap_err().contains("take 8 bytes, 7"));
        assert!(check(Format::Png, b"\x89PNG\r\n\x1a\nIEN").is_err());
        assert!(check(Format::Json, b"{\"a\":").is_err());
        assert!(check(Format::Jpeg, b"").is_err());
    }

    #[test]
    fn a_numpy_file_is_as_long_as_its_shape() {
        let mut file = b"\x93NUMPY\x01\x00\x46\x00".to_vec();
        let mut text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }".to_vec();
        text.resize(0x45, b' ');
        text.push(b'\n');
        file.extend(text);
        file.extend([0; 24]);
        let (header, values) = npy(&file).unwrap();
        assert_eq!((header.shape(), values.len()), (&[2, 3][..], 24));
        let cut = npy(&file[..file.len() - 1]).map(|_| ()).unwrap_err();
        assert!(cut.contains("takes 24 bytes, 23"), "{cut}");
        assert!(npy(&file[..40]).is_err());
        // 4 GiB of header in 12 bytes.
        assert!(npy(b"\x93NUMPY\x02\x00\xff\xff\xff\xff").is_err());
    }
}
