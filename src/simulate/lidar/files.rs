//! ASCII PLY and binary PCD.

use super::Return;

/// ASCII PLY as DeepSense 6G's scenarios 31–34 have it: x y z in metres (double, to the millimetre), intensity (ushort).
pub fn ply(returns: &[Return]) -> Vec<u8> {
    let mut file = format!(
        "ply\nformat ascii 1.0\nelement vertex {}\nproperty double x\nproperty double y\nproperty double z\n\
         property ushort intensity\nend_header\n",
        returns.len()
    )
    .into_bytes();
    file.reserve(returns.len() * 28);
    for ([x, y, z], intensity) in returns {
        for metres in [x, y, z] {
            put_metres(&mut file, *metres);
            file.push(b' ');
        }
        put_digits(&mut file, u64::from(*intensity), 1);
        file.push(b'\n');
    }
    file
}

/// Binary PCD 0.7: x y z intensity, 32-bit floats, little-endian.
pub fn pcd(returns: &[Return]) -> Vec<u8> {
    let count = returns.len();
    let mut file = format!(
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z intensity\nSIZE 4 4 4 4\n\
         TYPE F F F F\nCOUNT 1 1 1 1\nWIDTH {count}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\n\
         DATA binary\n"
    )
    .into_bytes();
    file.reserve(count * 16);
    for ([x, y, z], intensity) in returns {
        for value in [*x as f32, *y as f32, *z as f32, f32::from(*intensity)] {
            file.extend_from_slice(&value.to_le_bytes());
        }
    }
    file
}

/// A length to the millimetre: a third of the time that the standard formatting of floats takes.
fn put_metres(file: &mut Vec<u8>, metres: f64) {
    let millimetres = (metres * 1000.0).round() as i64;
    if millimetres < 0 {
        file.push(b'-');
    }
    let size = millimetres.unsigned_abs();
    put_digits(file, size / 1000, 1);
    file.push(b'.');
    put_digits(file, size % 1000, 3);
}

/// A number in at least so many decimal digits.
fn put_digits(file: &mut Vec<u8>, mut number: u64, at_least: usize) {
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        if number == 0 && used >= at_least {
            break;
        }
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        used += 1;
    }
    file.extend(digits.iter().skip(20 - used));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::lidar::read_table;
    use crate::sample::Format;

    #[test]
    fn lengths_are_written_as_the_standard_library_does() {
        for metres in [0.0, 0.0004, 0.0006, -0.0006, 1.0, -1.2344, 9.9996, -12.05, 119.999, 1234.5, -0.05] {
            let mut text = Vec::new();
            put_metres(&mut text, metres);
            let expected = format!("{metres:.3}").replace("-0.000", "0.000");
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
        let mut text = Vec::new();
        put_digits(&mut text, u64::MAX, 1);
        assert_eq!(text, u64::MAX.to_string().into_bytes());
    }

    #[test]
    fn both_files_decode_to_the_same_returns() {
        let returns: Vec<Return> =
            vec![([1.234, -5.678, 0.001], 7), ([-0.25, 100.0, -3.999], 65_535), ([0.0, 0.0, 1.0], 0)];
        for (bytes, format) in [(ply(&returns), Format::Ply), (pcd(&returns), Format::Pcd)] {
            let table = read_table(format, &bytes, 10, 10_000).unwrap();
            let columns = table.coordinates.map(Option::unwrap);
            for (at, (point, intensity)) in returns.iter().enumerate() {
                for (axis, column) in point.iter().zip(&columns) {
                    assert!((column[at] - axis).abs() < 1e-5, "{format:?}");
                }
                assert_eq!(table.intensity.as_ref().unwrap()[at], f64::from(*intensity));
            }
            assert_eq!(table.points, returns.len());
        }
    }
}
