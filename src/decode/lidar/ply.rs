//! PLY files: ascii, binary little and big endian; the `vertex` element with x, y, z and, if it is there, intensity.
//!
//! The header is parsed and its counts checked here. Binary elements are read by `ply-rs-bw`. Ascii ones are read
//! here: `ply-rs-bw` 4.0 refuses `nan`, `inf` and `.5`, which writers of real clouds write, and takes about a
//! microsecond per number.
//!
//! Read leniently: CRLF or CR line ends, spaces before `ply` and around ascii lines, any case of names, elements and
//! lists before and after the vertices, ascii lines that end after the values of interest.

mod header;

use ply_rs_bw::parser::{ParseError, Parser};
use ply_rs_bw::ply::{ElementDef, PropertyAccess, PropertyAccessResult};

use super::{PointTable, Row, Slot, slots};
use crate::decode::DecodeError;
use header::{Element, Encoding, Header};

/// Reads a PLY file.
///
/// # Errors
/// See [`super::read_table`]; `missing_fields` without a vertex element.
pub fn read(bytes: &[u8], max_points: usize) -> Result<PointTable, DecodeError> {
    let header = Header::parse(bytes)?;
    let body = bytes.get(header.body..).unwrap_or_default();
    let is_vertex = |element: &&Element| element.name.eq_ignore_ascii_case("vertex");
    let Some(vertex) = header.elements.iter().find(is_vertex) else {
        let names: Vec<_> = header.elements.iter().map(|element| element.name.as_str()).collect();
        return Err(DecodeError::MissingFields {
            found: crate::decode::error::printable(&format!(
                "no vertex among the elements: {}",
                names.join(" ")
            )),
        });
    };
    if vertex.count > max_points as u64 {
        return Err(DecodeError::Oversize {
            what: "points",
            found: vertex.count,
            allowed: max_points as u64,
        });
    }
    let before: Vec<_> = header.elements.iter().take_while(|element| !is_vertex(element)).collect();
    // A list is no coordinate: it takes no slot.
    let slots = slots(vertex.properties.iter().map(|property| match property.list {
        Some(_) => "",
        None => property.name.as_str(),
    }));
    let needed = before
        .iter()
        .copied()
        .chain([vertex])
        .map(|element| element.count.saturating_mul(element.least_bytes(header.encoding)))
        .fold(0, u64::saturating_add);
    // The last ascii line may lack its end.
    let there = body.len() as u64 + u64::from(header.encoding == Encoding::Ascii);
    if needed > there {
        return Err(DecodeError::truncated("PLY elements", body.len(), needed));
    }
    let names = vertex.properties.iter().map(|property| property.name.clone()).collect();
    let mut table = PointTable::new(names, &slots, vertex.count as usize);
    match header.encoding {
        Encoding::Ascii => read_ascii(body, &before, vertex, &slots, &mut table)?,
        Encoding::LittleEndian | Encoding::BigEndian => {
            read_binary(header.encoding, body, &before, vertex, &slots, &mut table)
                .map_err(|error| DecodeError::malformed("PLY", error))?;
        }
    }
    Ok(table)
}

/// The values of interest of one element, as `ply-rs-bw` sets them.
struct Record(Row);

impl Record {
    fn put(&mut self, name: &str, value: f64) -> PropertyAccessResult {
        match Slot::of_letter(name).and_then(|slot| self.0.get_mut(slot as usize)) {
            Some(place) => {
                *place = value;
                PropertyAccessResult::Set
            }
            None => PropertyAccessResult::Ignored,
        }
    }
}

macro_rules! setters {
    ($($setter:ident: $kind:ty),*) => {
        $(fn $setter(&mut self, name: &str, value: $kind) -> PropertyAccessResult {
            self.put(name, f64::from(value))
        })*
    };
}

impl PropertyAccess for Record {
    fn new() -> Self {
        Self(Row::default())
    }

    setters! {
        set_char: i8, set_uchar: u8, set_short: i16, set_ushort: u16,
        set_int: i32, set_uint: u32, set_float: f32, set_double: f64
    }
}

fn read_binary(
    encoding: Encoding,
    mut body: &[u8],
    before: &[&Element],
    vertex: &Element,
    slots: &[Option<Slot>],
    table: &mut PointTable,
) -> Result<(), ParseError> {
    let parser = Parser::<Record>::new();
    let mut read = |definition: &ElementDef| match encoding {
        Encoding::BigEndian => parser.read_big_endian_element(&mut body, definition),
        _ => parser.read_little_endian_element(&mut body, definition),
    };
    for element in before {
        // An element without properties takes no bytes, however many there are.
        if element.properties.is_empty() {
            continue;
        }
        let definition = element.definition(&[]);
        for _ in 0..element.count {
            read(&definition)?;
        }
    }
    let definition = vertex.definition(slots);
    for _ in 0..vertex.count {
        table.push(read(&definition)?.0);
    }
    Ok(())
}

fn read_ascii(
    body: &[u8],
    before: &[&Element],
    vertex: &Element,
    slots: &[Option<Slot>],
    table: &mut PointTable,
) -> Result<(), DecodeError> {
    let mut lines = body
        .split(|&byte| byte == b'\n' || byte == b'\r')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty());
    let missing = || DecodeError::malformed("PLY", "fewer lines than elements");
    for element in before.iter().filter(|element| !element.properties.is_empty()) {
        for _ in 0..element.count {
            lines.next().ok_or_else(missing)?;
        }
    }
    let last = slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    for _ in 0..vertex.count {
        let line = lines.next().ok_or_else(missing)?;
        let row = ascii_row(line, vertex, slots, last)
            .ok_or_else(|| DecodeError::malformed("PLY", format!("vertex line `{}`", line.escape_ascii())))?;
        table.push(row);
    }
    Ok(())
}

/// The values of interest of a line: its first `last` properties.
fn ascii_row(line: &[u8], vertex: &Element, slots: &[Option<Slot>], last: usize) -> Option<Row> {
    let mut values = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let mut row = Row::default();
    for (property, slot) in vertex.properties.iter().zip(slots).take(last) {
        let value = values.next()?;
        if property.list.is_some() {
            for _ in 0..value.parse::<u64>().ok()? {
                values.next()?;
            }
        } else if let Some(slot) = slot {
            *row.get_mut(*slot as usize)? = value.parse().ok()?;
        }
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_default(bytes: &[u8]) -> Result<PointTable, DecodeError> {
        read(bytes, 1 << 20)
    }

    fn reason(bytes: &[u8]) -> &'static str {
        read_default(bytes).unwrap_err().reason()
    }

    fn column(table: &PointTable, axis: usize) -> &[f64] {
        table.coordinates[axis].as_deref().unwrap()
    }

    fn with_lists(format: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = format!(
            "ply\nformat {format} 1.0\ncomment c\nelement face 2\nproperty list uchar int vertex_indices\n\
             element none 7\nelement vertex 2\nproperty list uint8 uint16 strange name\nproperty double X\n\
             property float y\nproperty uchar scalar_Intensity\nproperty short z\nelement edge 900\n\
             property int a\nend_header\n"
        )
        .into_bytes();
        bytes.extend(body);
        bytes
    }

    fn check_lists(table: &PointTable) {
        assert_eq!(table.points, 2);
        assert_eq!(column(table, 0), [1.5, -1.5]);
        assert_eq!(column(table, 1), [2.0, 3.0]);
        assert_eq!(column(table, 2), [-4.0, 5.0]);
        assert_eq!(table.intensity.as_deref().unwrap(), [200.0, 0.0]);
    }

    #[test]
    fn lists_and_elements_around_the_vertices() {
        check_lists(
            &read_default(&with_lists("ascii", b"3 0 1 2\n0\n2 7 7 1.5 2 200 -4\n\n  0 -1.5\t3. 0 5 \n"))
                .unwrap(),
        );
        let mut big = Vec::new();
        let mut little = Vec::new();
        for (bytes, big) in [(&mut big, true), (&mut little, false)] {
            let order = |mut value: Vec<u8>| {
                if big {
                    value.reverse();
                }
                value
            };
            bytes.push(3);
            for index in 0..3i32 {
                bytes.extend(order(index.to_le_bytes().to_vec()));
            }
            bytes.push(0);
            for (list, x, y, intensity, z) in [(2u8, 1.5f64, 2.0f32, 200u8, -4i16), (0, -1.5, 3.0, 0, 5)] {
                bytes.push(list);
                bytes.extend(vec![7; usize::from(list) * 2]);
                bytes.extend(order(x.to_le_bytes().to_vec()));
                bytes.extend(order(y.to_le_bytes().to_vec()));
                bytes.push(intensity);
                bytes.extend(order(z.to_le_bytes().to_vec()));
            }
        }
        check_lists(&read_default(&with_lists("binary_little_endian", &little)).unwrap());
        check_lists(&read_default(&with_lists("binary_big_endian", &big)).unwrap());
        little.pop();
        assert_eq!(reason(&with_lists("binary_little_endian", &little)), "malformed");
    }

    fn xyz(newline: &str, format: &str, count: &str, body: &[u8]) -> Vec<u8> {
        let lines = [
            "ply",
            &format!("format {format} 1.0"),
            &format!("element vertex {count}"),
            "property float x",
            "property float y",
            "property float z",
            "end_header",
            "",
        ];
        let mut bytes = lines.join(newline).into_bytes();
        bytes.extend(body);
        bytes
    }

    #[test]
    fn every_line_end_and_data_that_begins_with_one() {
        // 0x40bef60a: the first data byte is a newline.
        let body: Vec<u8> =
            [0x40be_f60au32, 0x3f80_0000, 0].iter().flat_map(|value| value.to_le_bytes()).collect();
        for newline in ["\n", "\r\n", "\r"] {
            let table = read_default(&xyz(newline, "binary_little_endian", "1", &body)).unwrap();
            assert_eq!(column(&table, 1), [1.0], "{newline:?}");
            let table = read_default(&xyz(newline, "ascii", "2", b"nan .5 1e3\r\n4 5 -inf")).unwrap();
            assert_eq!(column(&table, 1), [0.5, 5.0], "{newline:?}");
        }
    }

    #[test]
    fn promises_without_bytes_are_refused() {
        assert_eq!(reason(&xyz("\n", "binary_little_endian", "2", &[0; 23])), "truncated");
        assert_eq!(reason(&xyz("\n", "binary_little_endian", "4294967296", &[0; 24])), "oversize");
        assert_eq!(reason(&xyz("\n", "binary_little_endian", "99999999999999999999", &[0; 24])), "malformed");
        assert_eq!(reason(&xyz("\n", "ascii", "1000000", b"1 2 3\n")), "truncated");
        assert_eq!(reason(&xyz("\n", "ascii", "2", b"1.000000 2.000000 3.000000\n")), "malformed");
        assert_eq!(reason(&xyz("\n", "ascii", "1", b"1 2 z       ")), "malformed");
        assert_eq!(reason(&xyz("\n", "utf8", "1", b"1 2 3")), "unsupported");
        assert_eq!(reason(b"ply\nformat ascii 1.0\nelement face 0\nend_header\n"), "missing_fields");
        assert_eq!(reason(b"ply\nformat ascii 1.0\nelement vertex 1\n"), "malformed");
        assert_eq!(reason(b"plywood"), "malformed");
        assert_eq!(reason(b""), "malformed");
        // A list that says 4 billion entries.
        let bytes = [
            &b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty list uint double l\n\
               property float x\nproperty float y\nproperty float z\nend_header\n"[..],
            &[0xff; 64],
        ]
        .concat();
        assert_eq!(reason(&bytes), "malformed");
    }
}
