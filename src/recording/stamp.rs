//! Times of day as DeepSense 6G writes them, in columns and in file names.

/// Nanoseconds of one second.
pub(super) const SECOND: i64 = 1_000_000_000;

/// A time of day on the recording computer's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DayTime {
    /// Nanoseconds since midnight.
    pub nanos: i64,
    /// Whether the writer cut it to whole seconds.
    pub coarse: bool,
}

fn day_time(hour: &str, minute: &str, second: &str) -> Option<i64> {
    let part = |text: &str, below: i64| {
        if text.is_empty() || text.len() > 2 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        text.parse::<i64>().ok().filter(|&value| value < below)
    };
    // 60 is a leap second.
    Some(((part(hour, 24)? * 60 + part(minute, 60)?) * 60 + part(second, 61)?) * SECOND)
}

fn digits(text: &str) -> Option<i64> {
    (!text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Decimal digits behind a point, as nanoseconds.
fn fraction(text: &str) -> Option<i64> {
    let value = digits(text)?;
    Some((text.len()..9).fold(value, |value, _| value * 10))
}

/// Reads a cell of a time column: `['16-45-05-799']` (milliseconds), `11:46:31-214536` (microseconds),
/// `11-46-31.214536` or `11:46:31.2` (a fraction), or whole seconds.
pub(super) fn parse_cell(cell: &str) -> Option<DayTime> {
    let text = cell.trim_matches(|c: char| c.is_whitespace() || matches!(c, '[' | ']' | '\'' | '"'));
    let colons = text.contains(':');
    let (whole, decimal) = match text.split_once('.') {
        Some((whole, decimal)) => (whole, Some(decimal)),
        None => (text, None),
    };
    let mut parts = whole.split(['-', ':']);
    let nanos = day_time(parts.next()?, parts.next()?, parts.next()?)?;
    let extra = parts.next();
    if parts.next().is_some() {
        return None;
    }
    match (extra, decimal) {
        (None, None) => Some(DayTime { nanos, coarse: true }),
        (None, Some(decimal)) => Some(DayTime { nanos: nanos + fraction(decimal)?, coarse: false }),
        (Some(extra), None) => {
            let value = digits(extra)?;
            // The fourth number is a count, not a fraction: `-22` is 22 ms. A thousand or more can only be microseconds.
            let unit = if colons || value >= 1000 { 1_000 } else { 1_000_000 };
            let sub = value * unit;
            (sub < SECOND).then_some(DayTime { nanos: nanos + sub, coarse: false })
        }
        (Some(_), Some(_)) => None,
    }
}

/// Reads the time in a file name: `image_BS1_1506_03_23_11.jpg` (whole seconds), `frame_11-46-31.214536.jpg`.
pub(super) fn parse_file_name(name: &str) -> Option<DayTime> {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    if let Some(found) = stem.rsplit('_').next().filter(|last| last.contains('-')).and_then(parse_cell) {
        return Some(found);
    }
    let mut parts = stem.rsplit('_');
    let (second, minute, hour) = (parts.next()?, parts.next()?, parts.next()?);
    // A running number stands before the time; without it the three numbers could mean anything.
    parts.next()?;
    Some(DayTime { nanos: day_time(hour, minute, second)?, coarse: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64, minute: i64, second: i64, nanos: i64) -> i64 {
        ((hour * 60 + minute) * 60 + second) * SECOND + nanos
    }

    #[test]
    fn column_stamps_of_every_scenario() {
        let fine = |nanos| Some(DayTime { nanos, coarse: false });
        assert_eq!(parse_cell("['16-45-05-799']"), fine(at(16, 45, 5, 799_000_000)));
        assert_eq!(parse_cell("['16-45-06-022']"), fine(at(16, 45, 6, 22_000_000)));
        assert_eq!(parse_cell("16-45-06-22"), fine(at(16, 45, 6, 22_000_000)));
        assert_eq!(parse_cell("11:46:31-214536"), fine(at(11, 46, 31, 214_536_000)));
        assert_eq!(parse_cell("11:46:31-536"), fine(at(11, 46, 31, 536_000)));
        assert_eq!(parse_cell("11-46-31.214536"), fine(at(11, 46, 31, 214_536_000)));
        assert_eq!(parse_cell("11-46-31.2"), fine(at(11, 46, 31, 200_000_000)));
        assert_eq!(parse_cell(" 3:5:7 "), Some(DayTime { nanos: at(3, 5, 7, 0), coarse: true }));
        for bad in ["", "nan", "25-00-00-000", "12-60-00", "12-00", "1-2-3-4-5", "a-b-c", "12:00:00-1000000"]
        {
            assert_eq!(parse_cell(bad), None, "{bad}");
        }
    }

    #[test]
    fn file_names_of_every_scenario() {
        let coarse = |nanos| Some(DayTime { nanos, coarse: true });
        assert_eq!(parse_file_name("image_BS1_1506_03_23_11.jpg"), coarse(at(3, 23, 11, 0)));
        assert_eq!(parse_file_name("data_44859_0_52_12.mat"), coarse(at(0, 52, 12, 0)));
        assert_eq!(
            parse_file_name("frame_11-46-31.214536.jpg"),
            Some(DayTime { nanos: at(11, 46, 31, 214_536_000), coarse: false })
        );
        for bad in ["image_17.jpg", "mmWave_power_0.txt", "Lidar_data_2680.mat", "gps_location.txt", ""] {
            assert_eq!(parse_file_name(bad), None, "{bad}");
        }
    }
}
