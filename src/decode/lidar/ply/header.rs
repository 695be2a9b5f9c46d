//! The header of a PLY file.

use ply_rs_bw::ply::{Addable, ElementDef, PropertyDef, PropertyType, ScalarType};

use super::super::Slot;
use crate::decode::DecodeError;

/// Longest header that is looked through for its end.
const MAX_HEADER: usize = 64 << 10;
/// Most elements, and most properties of an element.
const MAX_ENTRIES: usize = 256;

/// How the elements are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Ascii,
    LittleEndian,
    BigEndian,
}

/// One property of an element.
#[derive(Clone, Debug)]
pub struct Property {
    pub name: String,
    /// The type of its value, or of its list's values.
    kind: ScalarType,
    /// The type of a list's length.
    pub list: Option<ScalarType>,
}

/// A kind of element and how many there are.
#[derive(Clone, Debug)]
pub struct Element {
    pub name: String,
    pub count: u64,
    pub properties: Vec<Property>,
}

/// What a header says.
#[derive(Clone, Debug)]
pub struct Header {
    pub encoding: Encoding,
    pub elements: Vec<Element>,
    /// Where the elements begin.
    pub body: usize,
}

fn malformed(detail: impl ToString) -> DecodeError {
    DecodeError::malformed("PLY", detail)
}

impl Header {
    /// Parses the lines up to and with `end_header`.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let head = bytes.get(..MAX_HEADER).unwrap_or(bytes);
        let mut body = head.len() - head.trim_ascii_start().len();
        // Lines end with a CR alone only if the first one does: a binary body may begin with a LF of its own.
        let is_end = |byte: &u8| *byte == b'\n' || *byte == b'\r';
        let first = head.get(body..).unwrap_or_default();
        let end_byte = match first.iter().position(is_end).map(|end| first.get(end..end + 2)) {
            Some(Some([b'\r', next])) if *next != b'\n' => b'\r',
            _ => b'\n',
        };
        let mut is_first = true;
        let mut encoding = None;
        let mut elements: Vec<Element> = Vec::new();
        loop {
            let rest = head.get(body..).unwrap_or_default();
            if rest.is_empty() {
                return Err(malformed("no end_header line"));
            }
            let end = rest.iter().position(|&byte| byte == end_byte).unwrap_or(rest.len());
            let line = String::from_utf8_lossy(rest.get(..end).unwrap_or_default()).into_owned();
            body += (end + 1).min(rest.len());
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            if std::mem::take(&mut is_first) {
                if words.as_slice() != ["ply"] {
                    return Err(malformed("the first line is not `ply`"));
                }
                continue;
            }
            match words.as_slice() {
                [] | ["comment" | "obj_info", ..] => {}
                ["end_header"] => break,
                ["format", name, ..] => encoding = Some(parse_encoding(name)?),
                ["element", name, count] if elements.len() < MAX_ENTRIES => {
                    let count = count
                        .parse()
                        .map_err(|_| malformed(format!("element {name}: `{count}` is not a count")))?;
                    elements.push(Element { name: (*name).to_owned(), count, properties: Vec::new() });
                }
                ["property", rest @ ..] => match elements.last_mut() {
                    Some(element) if element.properties.len() < MAX_ENTRIES => {
                        element.properties.push(parse_property(rest)?);
                    }
                    _ => return Err(malformed("property without element, or too many")),
                },
                _ => return Err(malformed(format!("header line `{line}`"))),
            }
        }
        let encoding = encoding.ok_or_else(|| malformed("no format line"))?;
        Ok(Self { encoding, elements, body })
    }
}

impl Element {
    /// Fewest bytes that one such element takes: empty lists, and in ascii one character and one separator per value
    /// (a line may end early, after x, y and z, so only the line itself counts there).
    pub fn least_bytes(&self, encoding: Encoding) -> u64 {
        if encoding == Encoding::Ascii {
            return if self.properties.is_empty() { 0 } else { 2 };
        }
        self.properties.iter().map(|property| size(property.list.as_ref().unwrap_or(&property.kind))).sum()
    }

    /// The element as `ply-rs-bw` gets it: columns of interest under one letter, the others under a number, because
    /// names must differ.
    pub fn definition(&self, slots: &[Option<Slot>]) -> ElementDef {
        let mut definition = ElementDef::new(self.name.clone());
        for (index, property) in self.properties.iter().enumerate() {
            let name = match slots.get(index).copied().flatten() {
                Some(slot) => slot.letter().to_owned(),
                None => index.to_string(),
            };
            let kind = match &property.list {
                Some(length) => PropertyType::List(length.clone(), property.kind.clone()),
                None => PropertyType::Scalar(property.kind.clone()),
            };
            definition.properties.add(PropertyDef::new(name, kind));
        }
        definition
    }
}

fn parse_encoding(name: &str) -> Result<Encoding, DecodeError> {
    match name {
        "ascii" => Ok(Encoding::Ascii),
        "binary_little_endian" => Ok(Encoding::LittleEndian),
        "binary_big_endian" => Ok(Encoding::BigEndian),
        other => Err(DecodeError::Unsupported {
            what: "PLY format",
            found: crate::decode::error::printable(other),
            allowed: "ascii, binary_little_endian or binary_big_endian".to_owned(),
        }),
    }
}

/// `<type> <name>` or `list <type> <type> <name>`; a name may hold spaces.
fn parse_property(words: &[&str]) -> Result<Property, DecodeError> {
    match words {
        ["list", length, kind, name @ ..] if !name.is_empty() => Ok(Property {
            name: name.join(" "),
            kind: parse_scalar(kind)?,
            list: Some(parse_scalar(length)?),
        }),
        [kind, name @ ..] if !name.is_empty() => {
            Ok(Property { name: name.join(" "), kind: parse_scalar(kind)?, list: None })
        }
        _ => Err(malformed(format!("property `{}`", words.join(" ")))),
    }
}

fn parse_scalar(name: &str) -> Result<ScalarType, DecodeError> {
    Ok(match name {
        "char" | "int8" => ScalarType::Char,
        "uchar" | "uint8" => ScalarType::UChar,
        "short" | "int16" => ScalarType::Short,
        "ushort" | "uint16" => ScalarType::UShort,
        "int" | "int32" => ScalarType::Int,
        "uint" | "uint32" => ScalarType::UInt,
        "float" | "float32" => ScalarType::Float,
        "double" | "float64" => ScalarType::Double,
        other => return Err(malformed(format!("property type `{other}`"))),
    })
}

const fn size(kind: &ScalarType) -> u64 {
    match kind {
        ScalarType::Char | ScalarType::UChar => 1,
        ScalarType::Short | ScalarType::UShort => 2,
        ScalarType::Int | ScalarType::UInt | ScalarType::Float => 4,
        ScalarType::Double => 8,
    }
}
