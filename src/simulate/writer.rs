//! The recording on disk, in the layout of DeepSense 6G's scenarios 31–34 with a blockage label besides.
//!
//! ```text
//! street.csv                                        one row per instant, paths relative to this folder
//! scene.toml                                        what it was made from
//! unit1/camera_data/image_1.jpg                     unit1/radar_data/data_1.npy
//! unit1/lidar_data/lidar_1.ply                      unit1/mmWave_data/mmWave_power_1.txt
//! unit1/GPS_data/gps_location.txt                   unit1/blockage_label/label_1.txt
//! unit2/GPS_data/gps_location_1.txt
//! ```
//!
//! Everything is written into a folder beside the target that gets its name at the end: a run that was cut off never
//! looks like a recording.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::SimulateError;

const FOLDERS: [&str; 7] = [
    "unit1/camera_data",
    "unit1/lidar_data",
    "unit1/radar_data",
    "unit1/mmWave_data",
    "unit1/GPS_data",
    "unit1/blockage_label",
    "unit2/GPS_data",
];
const SITE: &str = "unit1/GPS_data/gps_location.txt";

/// The files of one row, as bytes.
pub(super) struct Files {
    pub camera: Vec<u8>,
    pub lidar: Vec<u8>,
    pub radar: Vec<u8>,
    pub power: String,
    pub position: String,
    pub is_blocked: bool,
}

/// A row of the index.
pub(super) struct IndexRow {
    pub sequence: usize,
    /// Microseconds since midnight.
    pub time_us: u64,
    /// From 0.
    pub beam: usize,
    pub max_power: f64,
}

/// Writes one recording.
#[derive(Debug)]
pub(super) struct Writer {
    target: PathBuf,
    /// Where it is written until it is whole.
    folder: PathBuf,
    is_whole: bool,
}

impl Writer {
    /// Makes the folders.
    pub(super) fn new(target: &Path) -> Result<Self, SimulateError> {
        if let Ok(mut entries) = fs::read_dir(target) {
            if entries.next().is_some() {
                return Err(SimulateError::NotEmpty { path: target.to_owned() });
            }
        } else if target.exists() {
            return Err(SimulateError::NotEmpty { path: target.to_owned() });
        }
        let name = target.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(name) = name else { return Err(SimulateError::NoName { path: target.to_owned() }) };
        let folder = target.with_file_name(format!(".{name}.{}.part", std::process::id()));
        // What a killed process of this number may have left.
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .map_err(|source| SimulateError::Io { path: folder.clone(), source })?;
        }
        let writer = Self { target: target.to_owned(), folder, is_whole: false };
        for sub in FOLDERS {
            let path = writer.folder.join(sub);
            fs::create_dir_all(&path).map_err(|source| SimulateError::Io { path, source })?;
        }
        Ok(writer)
    }

    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> Result<u64, SimulateError> {
        let path = self.folder.join(name);
        fs::write(&path, bytes).map_err(|source| SimulateError::Io { path, source })?;
        Ok(bytes.len() as u64)
    }

    pub(super) fn put_site(&self, text: &str) -> Result<u64, SimulateError> {
        self.put(SITE, text.as_bytes())
    }

    /// Writes the files of row `row`, from 0; returns their bytes.
    pub(super) fn put_row(&self, row: usize, files: &Files) -> Result<u64, SimulateError> {
        let [camera, power, lidar, radar, position, blocked] = names(row);
        Ok(self.put(&camera, &files.camera)?
            + self.put(&power, files.power.as_bytes())?
            + self.put(&lidar, &files.lidar)?
            + self.put(&radar, &files.radar)?
            + self.put(&position, files.position.as_bytes())?
            + self.put(&blocked, if files.is_blocked { b"1\n" } else { b"0\n" })?)
    }

    /// Writes the index and gives the folder its name.
    pub(super) fn finish(mut self, name: &str, rows: &[IndexRow]) -> Result<u64, SimulateError> {
        let mut index = String::from(
            "index,unit1_rgb,unit1_pwr_60ghz,unit1_lidar,unit1_radar,unit1_loc,unit2_loc,unit1_beam,unit1_max_pwr,\
             time_stamp,seq_index,unit1_blockage\n",
        );
        for (at, row) in rows.iter().enumerate() {
            let [camera, power, lidar, radar, position, blocked] = names(at);
            // Writing into a string does not fail.
            let _ = writeln!(
                index,
                "{},./{camera},./{power},./{lidar},./{radar},./{SITE},./{position},{},{:.9},{},{},./{blocked}",
                at + 1,
                row.beam + 1,
                row.max_power,
                time_stamp(row.time_us),
                row.sequence + 1,
            );
        }
        let bytes = self.put(&format!("{name}.csv"), index.as_bytes())?;
        let io = |source| SimulateError::Io { path: self.target.clone(), source };
        // An empty folder may stand where the recording goes.
        if self.target.exists() {
            fs::remove_dir(&self.target).map_err(io)?;
        }
        fs::rename(&self.folder, &self.target).map_err(io)?;
        self.is_whole = true;
        Ok(bytes)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Camera, power, LiDAR, radar, position, label.
fn names(row: usize) -> [String; 6] {
    let number = row + 1;
    [
        format!("unit1/camera_data/image_{number}.jpg"),
        format!("unit1/mmWave_data/mmWave_power_{number}.txt"),
        format!("unit1/lidar_data/lidar_{number}.ply"),
        format!("unit1/radar_data/data_{number}.npy"),
        format!("unit2/GPS_data/gps_location_{number}.txt"),
        format!("unit1/blockage_label/label_{number}.txt"),
    ]
}

/// `HH:MM:SS-µs`, as scenarios 31–34 have it.
fn time_stamp(time_us: u64) -> String {
    let seconds = time_us / 1_000_000 % 86_400;
    format!("{:02}:{:02}:{:02}-{:06}", seconds / 3600, seconds / 60 % 60, seconds % 60, time_us % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_times_of_day() {
        assert_eq!(time_stamp(0), "00:00:00-000000");
        assert_eq!(time_stamp(36_061_200_000), "10:01:01-200000");
        assert_eq!(time_stamp(86_400_000_005), "00:00:00-000005");
    }

    #[test]
    fn what_was_cut_off_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("recording");
        let writer = Writer::new(&target).unwrap();
        writer.put_site("1\n2\n").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(writer);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::create_dir(&target).unwrap();
        Writer::new(&target).unwrap().finish("street", &[]).unwrap();
        assert!(target.join("street.csv").is_file());
        assert!(matches!(Writer::new(&target), Err(SimulateError::NotEmpty { .. })));
    }
}
