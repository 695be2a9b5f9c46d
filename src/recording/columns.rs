//! What the columns of a DeepSense 6G index mean, whatever the scenario.

use std::collections::BTreeMap;

use crate::sample::Modality;

/// Columns that are read, for the message of an index that has none of them.
pub(super) const KNOWN: &str = "unit1_rgb, unit1_pwr_60ghz, unit1_pwr, unit1_lidar, unit1_radar, unit1_blockage, \
                                unit2_loc, unit2_gps1 (also numbered, as in unit1_rgb_5 or unit1_pwr1); of further UEs \
                                unit3_loc, unit3_pwr_60ghz, unit3_blockage, unit4_loc, …";

/// One reading of a row: a modality at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub modality: Modality,
    /// Whose it is, where it is of a UE: 0 is unit 2, 1 is unit 3, …
    pub ue: u32,
    /// Periods before the row's instant: numbered columns run up to it.
    pub back: u32,
    /// Columns to take it from, best first; each is a list of columns whose files are joined.
    pub alternatives: Vec<Vec<usize>>,
}

/// The columns of one index file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Columns {
    pub index: Option<usize>,
    pub sequence: Option<usize>,
    pub time: Option<(usize, String)>,
    pub label: Option<(usize, String)>,
    pub site: Option<usize>,
    pub readings: Vec<Reading>,
    /// Named columns that nothing is read from.
    pub unread: Vec<String>,
}

/// What one column name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Index,
    Sequence,
    Time,
    Label { instant: Option<u32> },
    Site,
    Reading { of: Of, rank: u32, device: Option<u32>, instant: Option<u32> },
}

/// Modality and UE.
type Of = (Modality, u32);

/// The number at the end of a name: `_3` counts instants, `3` counts devices.
fn suffix(rest: &str) -> Option<(Option<u32>, Option<u32>)> {
    let number = |text: &str| (text.len() <= 3).then(|| text.parse::<u32>().ok()).flatten();
    match rest.strip_prefix('_') {
        _ if rest.is_empty() => Some((None, None)),
        Some(instant) => Some((None, Some(number(instant)?))),
        None => Some((Some(number(rest)?), None)),
    }
}

fn role(name: &str) -> Option<Role> {
    match name {
        "index" | "abs_index" => return Some(Role::Index),
        "seq_index" => return Some(Role::Sequence),
        "timestamp" => return Some(Role::Time),
        "unit1_loc" => return Some(Role::Site),
        "unit1_beam_index" | "unit1_beam" | "unit1_overall-beam" => {
            return Some(Role::Label { instant: None });
        }
        _ if name.starts_with("time_stamp") => return Some(Role::Time),
        _ => {}
    }
    for prefix in ["unit1_beam_index", "unit1_beam", "beam_index"] {
        if let Some((None, instant @ Some(_))) = name.strip_prefix(prefix).and_then(suffix) {
            return Some(Role::Label { instant });
        }
    }
    let (unit, rest) = name.strip_prefix("unit")?.split_once('_')?;
    let unit: u32 = unit.parse().ok().filter(|unit| (1..=999).contains(unit) && !unit_is_padded(name))?;
    // (prefix, modality, rank among alternatives); a longer prefix stands before the one it extends. What unit 1 measures
    // of unit 2 is named after unit 1, that of a further UE after the UE.
    const OF_UNIT: [(&str, Modality, u32); 6] = [
        ("rgb", Modality::Camera, 0),
        ("radar", Modality::Radar, 0),
        ("lidar", Modality::Lidar, 0),
        ("pwr_60ghz", Modality::Link, 0),
        ("pwr", Modality::Link, 1),
        ("blockage", Modality::Blocked, 0),
    ];
    const OF_UE: [(&str, Modality, u32); 3] =
        [("loc_cal", Modality::Position, 1), ("loc", Modality::Position, 0), ("gps", Modality::Position, 2)];
    const OF_FURTHER: [(&str, Modality, u32); 5] = [
        ("loc_cal", Modality::Position, 1),
        ("loc", Modality::Position, 0),
        ("gps", Modality::Position, 2),
        ("pwr_60ghz", Modality::Link, 0),
        ("blockage", Modality::Blocked, 0),
    ];
    let prefixes = match unit {
        1 => &OF_UNIT[..],
        2 => &OF_UE,
        _ => &OF_FURTHER,
    };
    prefixes.iter().find_map(|&(prefix, modality, rank)| {
        let (device, instant) = suffix(rest.strip_prefix(prefix)?)?;
        Some(Role::Reading { of: (modality, unit.saturating_sub(2)), rank, device, instant })
    })
}

/// Whether a column is called `unit01_…`, which is no name of a unit.
fn unit_is_padded(name: &str) -> bool {
    name.starts_with("unit0")
}

impl Columns {
    /// Reads a header line.
    pub(super) fn parse<'a>(header: impl Iterator<Item = &'a str>) -> Self {
        let mut columns = Self::default();
        let mut labels: Vec<(Option<u32>, usize, String)> = Vec::new();
        // modality and UE → instant → rank → device → column
        type Devices = BTreeMap<Option<u32>, usize>;
        let mut found: BTreeMap<Of, BTreeMap<Option<u32>, BTreeMap<u32, Devices>>> = BTreeMap::new();
        for (position, raw) in header.enumerate() {
            let original = raw.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
            if original.is_empty() {
                continue;
            }
            match role(&original.to_ascii_lowercase()) {
                // An index that was written twice (pandas) keeps the first of each.
                Some(Role::Index) => columns.index = columns.index.or(Some(position)),
                Some(Role::Sequence) => columns.sequence = columns.sequence.or(Some(position)),
                Some(Role::Time) if columns.time.is_none() => {
                    columns.time = Some((position, original.to_owned()))
                }
                Some(Role::Site) => columns.site = columns.site.or(Some(position)),
                Some(Role::Label { instant }) => labels.push((instant, position, original.to_owned())),
                Some(Role::Reading { of, rank, device, instant }) => {
                    let devices = found.entry(of).or_default().entry(instant).or_default().entry(rank);
                    devices.or_default().entry(device).or_insert(position);
                }
                Some(Role::Time) | None => columns.unread.push(original.to_owned()),
            }
        }
        let newest = found.values().flat_map(BTreeMap::keys).flatten().copied().max().unwrap_or(0);
        for ((modality, ue), instants) in found {
            for (instant, ranks) in instants {
                let back = instant.map_or(0, |instant| newest - instant);
                let alternatives = ranks.into_values().map(|devices| choose(modality, &devices)).collect();
                columns.readings.push(Reading { modality, ue, back, alternatives });
            }
        }
        // The label of the row's own instant: the column without a number, else the newest.
        labels.sort_by_key(|(instant, position, _)| (instant.map_or(u32::MAX, |instant| instant), *position));
        columns.label = labels.pop().map(|(_, position, name)| (position, name));
        columns
    }

    /// The highest column that is read, plus one: a row with fewer cells is cut.
    pub(super) fn needed(&self) -> usize {
        let readings = self.readings.iter().flat_map(|reading| reading.alternatives.iter().flatten());
        let single = [self.index, self.sequence, self.site];
        let named = [&self.time, &self.label].into_iter().flatten().map(|(position, _)| position);
        readings.chain(single.iter().flatten()).chain(named).map(|position| position + 1).max().unwrap_or(0)
    }
}

/// Which of several devices of one kind is read.
fn choose(modality: Modality, devices: &BTreeMap<Option<u32>, usize>) -> Vec<usize> {
    if modality == Modality::Link {
        // Four arrays of a vehicle are one circular codebook.
        return devices.values().copied().collect();
    }
    // Views 5 and 6 of the vehicles' camera are front and back; views 1 to 4 are cut from the same image.
    let front = devices.get(&Some(5)).filter(|_| modality == Modality::Camera);
    front.or_else(|| devices.values().next()).copied().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(header: &str) -> Columns {
        Columns::parse(header.split(','))
    }

    fn reading(columns: &Columns, modality: Modality) -> Vec<(u32, Vec<Vec<usize>>)> {
        let of = columns.readings.iter().filter(|reading| reading.modality == modality);
        of.map(|reading| (reading.back, reading.alternatives.clone())).collect()
    }

    #[test]
    fn scenario_9_has_alternatives_and_a_blank_column() {
        let columns = parse(
            "\u{feff}index,unit1_rgb,unit1_pwr_60ghz,unit1_loc,unit1_lidar,unit1_lidar_SCR,unit1_radar,unit2_loc,\
             unit2_loc_cal,,unit1_beam_index,seq_index,time_stamp[UTC],unit2_direction",
        );
        assert_eq!(columns.index, Some(0));
        assert_eq!(columns.site, Some(3));
        assert_eq!(columns.sequence, Some(11));
        assert_eq!(columns.time, Some((12, "time_stamp[UTC]".to_owned())));
        assert_eq!(columns.label, Some((10, "unit1_beam_index".to_owned())));
        assert_eq!(reading(&columns, Modality::Position), [(0, vec![vec![7], vec![8]])]);
        assert_eq!(reading(&columns, Modality::Lidar), [(0, vec![vec![4]])]);
        assert_eq!(columns.unread, ["unit1_lidar_SCR", "unit2_direction"]);
        assert_eq!(columns.needed(), 13);
    }

    #[test]
    fn numbered_columns_run_up_to_the_row() {
        let columns = parse(
            "index,unit1_rgb_1,unit1_rgb_2,unit1_rgb_5,unit2_loc_1,unit2_loc_2,unit1_pwr_60ghz,unit1_beam",
        );
        assert_eq!(
            reading(&columns, Modality::Camera),
            [(4, vec![vec![1]]), (3, vec![vec![2]]), (0, vec![vec![3]])]
        );
        assert_eq!(reading(&columns, Modality::Position), [(4, vec![vec![4]]), (3, vec![vec![5]])]);
        assert_eq!(reading(&columns, Modality::Link), [(0, vec![vec![6]])]);
    }

    #[test]
    fn development_columns_are_of_the_row() {
        let columns = parse("index,unit2_loc_1,unit1_pwr_1,beam_index_1");
        assert_eq!(reading(&columns, Modality::Link), [(0, vec![vec![2]])]);
        assert_eq!(columns.label, Some((3, "beam_index_1".to_owned())));
        assert_eq!(columns.sequence, None);
    }

    #[test]
    fn vehicles_have_four_arrays_and_a_front_camera() {
        let columns = parse(
            "abs_index,timestamp,unit1_pwr1,unit1_pwr2,unit1_pwr3,unit1_pwr4,unit1_rgb1,unit1_rgb5,unit1_rgb6,\
             unit1_radar1,unit1_radar2,unit1_lidar1,unit1_overall-beam,unit2_gps1",
        );
        assert_eq!(reading(&columns, Modality::Link), [(0, vec![vec![2, 3, 4, 5]])]);
        assert_eq!(reading(&columns, Modality::Camera), [(0, vec![vec![7]])]);
        assert_eq!(reading(&columns, Modality::Radar), [(0, vec![vec![9]])]);
        assert_eq!(reading(&columns, Modality::Position), [(0, vec![vec![13]])]);
        assert_eq!(columns.label, Some((12, "unit1_overall-beam".to_owned())));
    }

    #[test]
    fn further_ues_have_columns_of_their_own() {
        let columns = parse(
            "index,unit1_rgb,unit1_pwr_60ghz,unit2_loc,unit1_blockage,unit3_pwr_60ghz,unit3_loc,unit3_blockage,unit4_loc,\
             unit2_pwr_60ghz,unit03_loc,unit3_rgb",
        );
        let of: Vec<(Modality, u32, usize)> = columns
            .readings
            .iter()
            .map(|reading| (reading.modality, reading.ue, reading.alternatives[0][0]))
            .collect();
        assert_eq!(
            of,
            [
                (Modality::Camera, 0, 1),
                (Modality::Link, 0, 2),
                (Modality::Link, 1, 5),
                (Modality::Position, 0, 3),
                (Modality::Position, 1, 6),
                (Modality::Position, 2, 8),
                (Modality::Blocked, 0, 4),
                (Modality::Blocked, 1, 7),
            ]
        );
        assert_eq!(columns.unread, ["unit2_pwr_60ghz", "unit03_loc", "unit3_rgb"]);
    }

    #[test]
    fn unknown_columns_are_named() {
        let columns = parse("a,b,unit1_rgbx");
        assert!(columns.readings.is_empty());
        assert_eq!(columns.unread, ["a", "b", "unit1_rgbx"]);
    }
}
