//! The header of a PCD file.

use std::fmt::Write as _;

use super::super::Slot;
use crate::decode::DecodeError;

/// Longest header that is looked through for its DATA line.
const MAX_HEADER: usize = 64 << 10;
/// Most fields of a file.
const MAX_FIELDS: usize = 256;
/// Most bytes of one point's field.
const MAX_FIELD_BYTES: u64 = 1 << 20;

/// How the body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Ascii,
    Binary,
    BinaryCompressed,
}

/// One field of a point.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    /// I, U or F.
    kind: String,
    /// Bytes of one value.
    size: u64,
    /// Values.
    count: u64,
}

/// What a header says, as far as it matters here.
#[derive(Clone, Debug)]
pub struct Header {
    pub fields: Vec<Field>,
    pub points: u64,
    pub encoding: Encoding,
    /// Where the body begins.
    pub body: usize,
}

fn malformed(detail: impl ToString) -> DecodeError {
    DecodeError::malformed("PCD", detail)
}

impl Header {
    /// Parses the lines up to and with DATA.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut body = 0;
        let mut lines: Vec<(String, Vec<String>)> = Vec::new();
        let head = bytes.get(..MAX_HEADER).unwrap_or(bytes);
        let encoding = loop {
            let rest = head.get(body..).unwrap_or_default();
            if rest.is_empty() {
                return Err(malformed("no DATA line"));
            }
            let end = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
            let line = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned();
            body += (end + 1).min(rest.len());
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(key) = words.next() else { continue };
            let key = key.to_ascii_uppercase();
            if key == "DATA" {
                break words.next().unwrap_or_default().to_ascii_lowercase();
            }
            if lines.len() < 64 {
                lines.push((key, words.map(str::to_owned).collect()));
            }
        };
        let encoding = match encoding.as_str() {
            "ascii" => Encoding::Ascii,
            "binary" => Encoding::Binary,
            "binary_compressed" => Encoding::BinaryCompressed,
            other => {
                return Err(DecodeError::Unsupported {
                    what: "PCD DATA",
                    found: crate::decode::error::printable(other),
                    allowed: "ascii, binary or binary_compressed".to_owned(),
                });
            }
        };
        let entry = |key: &str| lines.iter().find(|(name, _)| name == key).map(|(_, words)| words.as_slice());
        if let Some([version, ..]) = entry("VERSION")
            && !["4", "5", "6", "7"].contains(&version.trim_start_matches('0').trim_start_matches('.'))
        {
            return Err(DecodeError::Unsupported {
                what: "PCD VERSION",
                found: crate::decode::error::printable(version),
                allowed: ".4 to .7".to_owned(),
            });
        }
        let fields = parse_fields(&entry)?;
        let number = |key: &'static str| match entry(key) {
            None => Ok(None),
            Some(words) => match words.first().map(|word| word.parse::<u64>()) {
                Some(Ok(number)) => Ok(Some(number)),
                _ => Err(malformed(format!("{key} is not a number"))),
            },
        };
        let points = match (number("POINTS")?, number("WIDTH")?, number("HEIGHT")?) {
            (Some(points), _, _) => points,
            (None, Some(width), height) => width.saturating_mul(height.unwrap_or(1)),
            (None, None, _) => return Err(malformed("neither POINTS nor WIDTH")),
        };
        Ok(Self { fields, points, encoding, body })
    }

    /// Bytes of one point in a binary body.
    pub fn record_bytes(&self) -> u64 {
        self.fields.iter().map(|field| field.size * field.count).sum()
    }

    /// Values of one point in an ascii body.
    pub fn record_values(&self) -> u64 {
        self.fields.iter().map(|field| field.count).sum()
    }

    /// Some writers mean "nothing" by COUNT 0 and some mean 1 (as PCL reads it): take 1 where only that fits the body.
    pub fn resolve_zero_counts(&mut self, body: &[u8]) {
        if self.fields.iter().all(|field| field.count > 0) {
            return;
        }
        let mut as_one = self.clone();
        for field in &mut as_one.fields {
            field.count = field.count.max(1);
        }
        let fits = |header: &Self| match header.encoding {
            Encoding::Ascii => {
                let line = body.split(|&byte| byte == b'\n').find(|line| !line.trim_ascii().is_empty());
                let line = String::from_utf8_lossy(line.unwrap_or_default());
                super::record::values(&line).count() as u64 == header.record_values()
            }
            Encoding::Binary => body.len() as u64 == header.points.saturating_mul(header.record_bytes()),
            Encoding::BinaryCompressed => {
                let data = header.points.saturating_mul(header.record_bytes());
                compressed_sizes(body).is_some_and(|(_, decompressed)| decompressed == data)
            }
        };
        if !fits(self) && fits(&as_one) {
            *self = as_one;
        }
    }

    /// The header that `pcd-rs` gets: columns of interest under one letter, the rest as `_`.
    pub fn canonical(&self, slots: &[Option<Slot>]) -> Result<Vec<u8>, DecodeError> {
        let [mut names, mut sizes, mut kinds, mut counts] =
            ["FIELDS", "SIZE", "TYPE", "COUNT"].map(str::to_owned);
        for (field, slot) in self.fields.iter().zip(slots) {
            if field.count == 0 {
                continue;
            }
            let (name, kind, size, count) = match slot {
                Some(slot) => {
                    field.check_type()?;
                    (slot.letter(), field.kind.as_str(), field.size, field.count)
                }
                // Padding in an ascii file is counted in values, in a binary one in bytes.
                None if self.encoding == Encoding::Ascii => ("_", "U", 1, field.count),
                None => ("_", "U", 1, field.size * field.count),
            };
            // Writing to a string does not fail.
            let _ = write!(names, " {name}");
            let _ = write!(kinds, " {kind}");
            let _ = write!(sizes, " {size}");
            let _ = write!(counts, " {count}");
        }
        let data = match self.encoding {
            Encoding::Ascii => "ascii",
            Encoding::Binary => "binary",
            Encoding::BinaryCompressed => "binary_compressed",
        };
        let points = self.points;
        Ok(format!(
            "VERSION 0.7\n{names}\n{sizes}\n{kinds}\n{counts}\nWIDTH {points}\nHEIGHT 1\n\
             VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {points}\nDATA {data}\n"
        )
        .into_bytes())
    }
}

impl Field {
    fn check_type(&self) -> Result<(), DecodeError> {
        match (self.kind.as_str(), self.size) {
            ("F", 4 | 8) | ("I" | "U", 1 | 2 | 4 | 8) => Ok(()),
            (kind, size) => Err(DecodeError::Unsupported {
                what: "PCD coordinate or intensity type",
                found: crate::decode::error::printable(&format!("TYPE {kind} SIZE {size}")),
                allowed: "F of 4 or 8 bytes, I or U of 1, 2, 4 or 8".to_owned(),
            }),
        }
    }
}

/// Compressed and decompressed size at the head of a `binary_compressed` body.
pub fn compressed_sizes(body: &[u8]) -> Option<(u64, u64)> {
    let [a, b, c, d, e, f, g, h] = *body.first_chunk::<8>()?;
    Some((u32::from_le_bytes([a, b, c, d]).into(), u32::from_le_bytes([e, f, g, h]).into()))
}

fn parse_fields<'a>(entry: &impl Fn(&str) -> Option<&'a [String]>) -> Result<Vec<Field>, DecodeError> {
    let names = entry("FIELDS").or_else(|| entry("COLUMNS")).ok_or_else(|| malformed("no FIELDS line"))?;
    if names.is_empty() || names.len() > MAX_FIELDS {
        return Err(malformed(format!("found {} fields, allowed are 1 to {MAX_FIELDS}", names.len())));
    }
    let list = |key: &'static str| {
        let words = entry(key).ok_or_else(|| malformed(format!("no {key} line")))?;
        if words.len() < names.len() {
            return Err(malformed(format!("{key} has {} entries for {} fields", words.len(), names.len())));
        }
        Ok(words)
    };
    let sizes = list("SIZE")?;
    let kinds = list("TYPE")?;
    let counts = if entry("COUNT").is_some() { Some(list("COUNT")?) } else { None };
    let number =
        |word: &String| word.parse::<u64>().map_err(|_| malformed(format!("`{word}` is not a number")));
    let mut fields = Vec::with_capacity(names.len());
    for (index, ((name, size), kind)) in names.iter().zip(sizes).zip(kinds).enumerate() {
        let size = number(size)?;
        let count = counts.and_then(|counts| counts.get(index)).map_or(Ok(1), number)?;
        let bytes = size.saturating_mul(count);
        if size == 0 || size > 8 || bytes > MAX_FIELD_BYTES {
            return Err(DecodeError::Oversize {
                what: "PCD field bytes (SIZE 1 to 8 times COUNT)",
                found: bytes,
                allowed: MAX_FIELD_BYTES,
            });
        }
        fields.push(Field { name: name.clone(), kind: kind.to_ascii_uppercase(), size, count });
    }
    Ok(fields)
}
