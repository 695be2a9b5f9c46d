//! One point, as `pcd-rs` reads it behind our header.

use std::io::{BufRead, Error, ErrorKind};

use pcd_rs::{FieldDef, PcdDeserialize, Schema, ValueKind};

use super::super::{Row, Slot};

/// The values of interest of one point, all in 64 bits.
pub struct Record(pub Row);

impl Record {
    fn put(&mut self, slot: Slot, value: f64) {
        if let Some(place) = self.0.get_mut(slot as usize) {
            *place = value;
        }
    }
}

impl PcdDeserialize for Record {
    fn is_dynamic() -> bool {
        true
    }

    fn read_spec() -> Vec<(Option<String>, ValueKind, Option<usize>)> {
        Vec::new()
    }

    fn read_chunk<R: BufRead>(reader: &mut R, fields: &Schema) -> pcd_rs::Result<Self> {
        let mut record = Self(Row::default());
        for FieldDef { name, kind, count } in fields {
            let mut skip = kind.byte_size() as u64 * count;
            if let Some(slot) = Slot::of_letter(name) {
                record.put(slot, number(reader, *kind)?);
                skip -= kind.byte_size() as u64;
            }
            skip_bytes(reader, skip)?;
        }
        Ok(record)
    }

    fn read_line<R: BufRead>(reader: &mut R, fields: &Schema) -> pcd_rs::Result<Self> {
        let mut line = String::new();
        while line.trim_ascii().is_empty() {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err(end_of_file());
            }
        }
        let mut values = values(&line);
        let mut record = Self(Row::default());
        let mut found = 0;
        for FieldDef { name, count, .. } in fields {
            let slot = Slot::of_letter(name);
            for index in 0..*count {
                let Some(value) = values.next() else {
                    let expect = fields.iter().map(|field| field.count as usize).sum();
                    return Err(pcd_rs::Error::TextTokenMismatchError { expect, found });
                };
                found += 1;
                if let (Some(slot), 0) = (slot, index) {
                    record.put(slot, value.parse()?);
                }
            }
        }
        Ok(record)
    }
}

/// The values of an ascii line; some writers put commas or semicolons between them.
pub fn values(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| c.is_ascii_whitespace() || c == ',' || c == ';').filter(|value| !value.is_empty())
}

fn end_of_file() -> pcd_rs::Error {
    Error::new(ErrorKind::UnexpectedEof, "fewer points than POINTS says").into()
}

fn number<R: BufRead>(reader: &mut R, kind: ValueKind) -> pcd_rs::Result<f64> {
    fn bytes<const N: usize>(reader: &mut impl BufRead) -> std::io::Result<[u8; N]> {
        let mut bytes = [0; N];
        reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }
    Ok(match kind {
        ValueKind::U8 => f64::from(u8::from_le_bytes(bytes(reader)?)),
        ValueKind::U16 => f64::from(u16::from_le_bytes(bytes(reader)?)),
        ValueKind::U32 => f64::from(u32::from_le_bytes(bytes(reader)?)),
        ValueKind::U64 => u64::from_le_bytes(bytes(reader)?) as f64,
        ValueKind::I8 => f64::from(i8::from_le_bytes(bytes(reader)?)),
        ValueKind::I16 => f64::from(i16::from_le_bytes(bytes(reader)?)),
        ValueKind::I32 => f64::from(i32::from_le_bytes(bytes(reader)?)),
        ValueKind::I64 => i64::from_le_bytes(bytes(reader)?) as f64,
        ValueKind::F32 => f64::from(f32::from_le_bytes(bytes(reader)?)),
        ValueKind::F64 => f64::from_le_bytes(bytes(reader)?),
    })
}

fn skip_bytes<R: BufRead>(reader: &mut R, mut bytes: u64) -> pcd_rs::Result<()> {
    while bytes > 0 {
        let there = reader.fill_buf()?.len();
        if there == 0 {
            return Err(end_of_file());
        }
        let step = there.min(usize::try_from(bytes).unwrap_or(usize::MAX));
        reader.consume(step);
        bytes -= step as u64;
    }
    Ok(())
}
