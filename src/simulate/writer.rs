//! The recording on disk, in the layout of DeepSense 6G's scenarios 31–34 with a blockage label besides.
//!
//! ```text
//! NAME.csv                                          one row per instant, paths relative to this folder
//! scene.toml                                        what it was made from
//! codebook.csv                                      the measured codebook, where the scene names one
//! truth.jsonl                                       one line per row: what no sensor says
//! unit1/camera_data/image_1.jpg                     unit1/radar_data/data_1.npy
//! unit1/lidar_data/lidar_1.ply                      unit1/mmWave_data/mmWave_power_1.txt
//! unit1/GPS_data/gps_location.txt                   unit1/blockage_label/label_1.txt
//! unit2/GPS_data/gps_location_1.txt
//! unit3/…                                           a second UE: its GPS_data, mmWave_data, blockage_label
//! ```
//!
//! A file whose capture is not the row's instant carries its time of day: `image_1_09-00-00.012500.jpg`. Where a stream
//! has no sample the cell is blank.

use std::fmt::Write as _;
use std::path::Path;

use super::SimulateError;
use super::scene::{CODEBOOK, CloudFormat};
use super::staging::{Staging, Stream};

/// The unit's place.
const SITE: &str = "unit1/GPS_data/gps_location.txt";

/// What does not change from row to row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Served UEs.
    pub ues: usize,
    /// Of the LiDAR's files.
    pub clouds: CloudFormat,
}

/// The files of one row; `None` where a stream has no sample.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub camera: Option<Vec<u8>>,
    pub lidar: Option<Vec<u8>>,
    pub radar: Option<Vec<u8>>,
    /// Power, position and blockage label per UE.
    pub ues: Vec<UeFiles>,
}

/// What is known of one UE.
#[derive(Debug)]
pub(super) struct UeFiles {
    pub power: Option<Vec<u8>>,
    pub position: Option<Vec<u8>>,
    pub is_blocked: bool,
}

/// A row of the index.
#[derive(Debug)]
pub(super) struct IndexRow {
    pub sequence: usize,
    /// Microseconds since midnight.
    pub time_us: u64,
    /// Its strongest beam, from 0, and the power there, of the first UE, where there is a report.
    pub best: Option<(usize, f64)>,
    pub names: Names,
}

/// Paths of a row's files, relative to the recording; empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    camera: String,
    lidar: String,
    radar: String,
    /// Power, position, label.
    ues: Vec<[String; 3]>,
}

/// When the files of a row were captured, where that is not the row's instant; `None` without a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamps {
    pub camera: Option<Option<u64>>,
    pub lidar: Option<Option<u64>>,
    pub radar: Option<Option<u64>>,
    pub link: Option<Option<u64>>,
    pub position: Option<Option<u64>>,
}

impl Names {
    /// Of row `row`, from 0; `present` says which UEs are there.
    pub(super) fn new(row: usize, stamps: &Stamps, present: &[bool], layout: Layout) -> Self {
        let number = row + 1;
        let name = |folder: &str, stem: &str, stamp: Option<Option<u64>>, extension: &str| match stamp {
            None => String::new(),
            Some(None) => format!("{folder}/{stem}_{number}.{extension}"),
            Some(Some(time)) => format!("{folder}/{stem}_{number}_{}.{extension}", file_time(time)),
        };
        let of_ue = |ue: usize| {
            let (unit, own) = (ue + 2, if ue == 0 { 1 } else { ue + 2 });
            let is_there = |stamp: &Option<Option<u64>>| stamp.filter(|_| present.get(ue) == Some(&true));
            [
                name(&format!("unit{own}/mmWave_data"), "mmWave_power", is_there(&stamps.link), "txt"),
                name(&format!("unit{unit}/GPS_data"), "gps_location", is_there(&stamps.position), "txt"),
                name(&format!("unit{own}/blockage_label"), "label", Some(None), "txt"),
            ]
        };
        let clouds = layout.clouds.extension();
        Self {
            camera: name("unit1/camera_data", "image", stamps.camera, "jpg"),
            lidar: name("unit1/lidar_data", "lidar", stamps.lidar, clouds),
            radar: name("unit1/radar_data", "data", stamps.radar, "npy"),
            ues: (0..layout.ues).map(of_ue).collect(),
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        let sensors = [&self.camera, &self.lidar, &self.radar];
        sensors.into_iter().chain(self.ues.iter().flatten()).filter(|name| !name.is_empty()).count()
    }

    /// Written last of all: where it is, the row is whole.
    fn mark(&self) -> &str {
        self.ues.first().map_or("", |[_, _, label]| label)
    }
}

/// Writes one recording.
#[derive(Debug)]
pub(super) struct Writer {
    staging: Staging,
    layout: Layout,
}

impl Writer {
    /// Begins a recording, or goes on with one of the same `identity` that was cut off.
    pub(super) fn new(target: &Path, identity: &str, layout: Layout) -> Result<Self, SimulateError> {
        Ok(Self { staging: Staging::new(target, identity)?, layout })
    }

    /// Writes the copy of a measured codebook.
    pub(super) fn put_codebook(&self, text: &str) -> Result<u64, SimulateError> {
        self.staging.put(CODEBOOK, text.as_bytes())
    }

    pub(super) fn put_site(&self, text: &str) -> Result<u64, SimulateError> {
        self.staging.put(SITE, text.as_bytes())
    }

    /// The size of a row's files, where they are all there already.
    pub(super) fn found(&self, names: &Names) -> Option<u64> {
        let size = |name: &str| match name {
            "" => Some(0),
            name => self.staging.size(name),
        };
        let sensors = size(names.mark()).filter(|_| !names.mark().is_empty())?
            + size(&names.camera)?
            + size(&names.lidar)?
            + size(&names.radar)?;
        let ues = names.ues.iter().flatten().map(|name| size(name)).sum::<Option<u64>>()?;
        Some(sensors + ues - size(names.mark())?)
    }

    /// Writes the files of a row; returns their bytes.
    pub(super) fn put_row(&self, names: &Names, files: &Files) -> Result<u64, SimulateError> {
        let put = |name: &str, payload: &Option<Vec<u8>>| match payload {
            Some(bytes) if !name.is_empty() => self.staging.put(name, bytes),
            _ => Ok(0),
        };
        let mut bytes = put(&names.camera, &files.camera)?
            + put(&names.lidar, &files.lidar)?
            + put(&names.radar, &files.radar)?;
        // The first UE's label comes last: it marks the row as whole.
        for ([power, position, label], ue) in names.ues.iter().zip(&files.ues).rev() {
            bytes += put(power, &ue.power)? + put(position, &ue.position)?;
            bytes += self.staging.put(label, if ue.is_blocked { b"1\n" } else { b"0\n" })?;
        }
        Ok(bytes)
    }

    /// Begins a file that is written piece by piece.
    pub(super) fn stream(&self, name: &str) -> Result<Stream, SimulateError> {
        self.staging.stream(name)
    }

    /// Writes the index and gives the folder its name.
    pub(super) fn finish(self, name: &str, rows: &[IndexRow]) -> Result<u64, SimulateError> {
        let mut index = self.header();
        for (at, row) in rows.iter().enumerate() {
            let cell = |name: &str| if name.is_empty() { String::new() } else { format!("./{name}") };
            let Names { camera, lidar, radar, ues } = &row.names;
            let (beam, power) = row.best.map_or((String::new(), String::new()), |(beam, power)| {
                ((beam + 1).to_string(), format!("{power:.9}"))
            });
            let [first_power, first_position, first_label] =
                ues.first().map_or(["", "", ""], |names| names.each_ref().map(String::as_str));
            let further: String =
                ues.iter().skip(1).flatten().map(|name| format!(",{}", cell(name))).collect();
            // Writing into a string does not fail.
            let _ = writeln!(
                index,
                "{},{},{},{},{},./{SITE},{},{beam},{power},{},{},{}{further}",
                at + 1,
                cell(camera),
                cell(first_power),
                cell(lidar),
                cell(radar),
                cell(first_position),
                time_stamp(row.time_us),
                row.sequence + 1,
                cell(first_label),
            );
        }
        let bytes = self.staging.put(&format!("{name}.csv"), index.as_bytes())?;
        self.staging.finish()?;
        Ok(bytes)
    }

    fn header(&self) -> String {
        let further: String = (3..self.layout.ues + 2)
            .map(|unit| format!(",unit{unit}_pwr_60ghz,unit{unit}_loc,unit{unit}_blockage"))
            .collect();
        format!(
            "index,unit1_rgb,unit1_pwr_60ghz,unit1_lidar,unit1_radar,unit1_loc,unit2_loc,unit1_beam,unit1_max_pwr,\
             time_stamp,seq_index,unit1_blockage{further}\n"
        )
    }
}

/// (hours, minutes, seconds, microseconds) of a time of day.
fn parts(time_us: u64) -> (u64, u64, u64, u64) {
    let seconds = time_us / 1_000_000 % 86_400;
    (seconds / 3600, seconds / 60 % 60, seconds % 60, time_us % 1_000_000)
}

/// `HH:MM:SS-µs`, as scenarios 31–34 have it.
fn time_stamp(time_us: u64) -> String {
    let (hours, minutes, seconds, micros) = parts(time_us);
    format!("{hours:02}:{minutes:02}:{seconds:02}-{micros:06}")
}

/// `HH-MM-SS.µs`, as the camera files of scenarios 36–39 have it.
fn file_time(time_us: u64) -> String {
    let (hours, minutes, seconds, micros) = parts(time_us);
    format!("{hours:02}-{minutes:02}-{seconds:02}.{micros:06}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { ues: 2, clouds: CloudFormat::Ply };
    const STAMPS: Stamps = Stamps {
        camera: Some(Some(36_061_200_000)),
        lidar: Some(None),
        radar: None,
        link: Some(None),
        position: Some(None),
    };

    fn files() -> Files {
        let ue =
            || UeFiles { power: Some(b"1\n".to_vec()), position: Some(b"5\n".to_vec()), is_blocked: true };
        Files { camera: Some(vec![7]), lidar: Some(vec![1, 2]), radar: None, ues: vec![ue(), ue()] }
    }

    #[test]
    fn stamps_are_times_of_day() {
        assert_eq!(time_stamp(0), "00:00:00-000000");
        assert_eq!(time_stamp(36_061_200_000), "10:01:01-200000");
        assert_eq!(time_stamp(86_400_000_005), "00:00:00-000005");
        assert_eq!(file_time(36_061_200_000), "10-01-01.200000");
    }

    #[test]
    fn files_are_called_by_row_time_and_unit() {
        let names = Names::new(4, &STAMPS, &[true, true], LAYOUT);
        assert_eq!(names.camera, "unit1/camera_data/image_5_10-01-01.200000.jpg");
        assert_eq!(names.lidar, "unit1/lidar_data/lidar_5.ply");
        assert_eq!(names.radar, "");
        assert_eq!(names.ues[0][0], "unit1/mmWave_data/mmWave_power_5.txt");
        assert_eq!(names.ues[0][1], "unit2/GPS_data/gps_location_5.txt");
        assert_eq!(
            names.ues[1],
            [
                "unit3/mmWave_data/mmWave_power_5.txt",
                "unit3/GPS_data/gps_location_5.txt",
                "unit3/blockage_label/label_5.txt"
            ]
        );
    }

    #[test]
    fn what_was_cut_off_goes_on_and_never_looks_like_a_recording() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("recording");
        let names: Vec<Names> = (0..2).map(|row| Names::new(row, &STAMPS, &[true, false], LAYOUT)).collect();
        let writer = Writer::new(&target, "a", LAYOUT).unwrap();
        assert_eq!(writer.found(&names[0]), None);
        // 1 + 2 + "1\n" of power + "5\n" of the position, and two labels: the second user is not there.
        assert_eq!(writer.put_row(&names[0], &files()).unwrap(), 11);
        assert!(
            matches!(Writer::new(&target, "a", LAYOUT), Err(SimulateError::Busy { .. })),
            "while it is held"
        );
        drop(writer);
        assert!(!target.exists());
        let writer = Writer::new(&target, "a", LAYOUT).unwrap();
        assert_eq!((writer.found(&names[0]), writer.found(&names[1])), (Some(11), None));
        drop(writer);
        // Another scene begins anew.
        let writer = Writer::new(&target, "b", LAYOUT).unwrap();
        assert_eq!(writer.found(&names[0]), None);
        writer.put_row(&names[0], &files()).unwrap();
        let row = IndexRow { sequence: 0, time_us: 0, best: Some((3, 0.5)), names: names[0].clone() };
        writer.finish("street", &[row]).unwrap();
        let index = std::fs::read_to_string(target.join("street.csv")).unwrap();
        let line = index.lines().nth(1).unwrap();
        assert!(line.starts_with("1,./unit1/camera_data/image_1_10-01-01.200000.jpg,"), "{line}");
        assert!(line.contains(",,./unit1/GPS_data/gps_location.txt,"), "no radar: {line}");
        assert_eq!(line.split(',').count(), index.lines().next().unwrap().split(',').count());
        assert!(matches!(Writer::new(&target, "b", LAYOUT), Err(SimulateError::NotEmpty { .. })));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
