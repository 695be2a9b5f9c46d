//! One test per trap of the layout, on small folders made here.

use std::fs;
use std::path::Path;

use mmsense::recording::info::{Info, InfoReport, info, info_path, structure_only};
use mmsense::recording::{LoadError, Options, RecordedSample, Recording, RecordingError, StampSource};
use mmsense::sample::{CaptureSource, Format, Modality, UnitId};
use tempfile::TempDir;

/// A folder that files are put into.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn try_open(&self) -> Result<Recording, RecordingError> {
        Recording::open(self.path(), &options())
    }

    fn open(&self) -> Recording {
        self.try_open().unwrap()
    }
}

fn options() -> Options {
    Options::new(UnitId::new("unit1").unwrap())
}

fn look(recording: &Recording) -> Info {
    info(recording, &structure_only)
}

/// Power text of `beams` beams in which `best` is the strongest.
fn power(beams: usize, best: usize) -> String {
    (0..beams).map(|beam| if beam == best { "1.0\n" } else { "0.1\n" }).collect()
}

fn seconds(recording: &Recording) -> Vec<f64> {
    recording.rows().iter().map(|row| (row.capture.as_nanos() as f64 / 1e6).round() / 1e3).collect()
}

fn json(recording: &Recording, sample: &RecordedSample) -> serde_json::Value {
    let (format, bytes) = recording.load(sample).unwrap();
    assert_eq!(format, Format::Json);
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn file_numbers_are_not_row_numbers_and_lines_end_in_crlf() {
    let folder = Folder::new();
    folder
        .put(
            "scenario8.csv",
            "index,unit1_pwr_60ghz,,unit2_loc,unit1_beam_index,seq_index\r\n\
             1,./unit1/p_7.txt,,./unit2/g_9.txt,4,1\r\n2,./unit1/p_3.txt,,./unit2/g_8.txt,2,1\r\n,,,,,\r\n",
        )
        .put("unit1/p_7.txt", power(8, 3))
        .put("unit1/p_3.txt", power(8, 1))
        .put("unit2/g_9.txt", "33.5\r\n-111.9\r\n\r\n")
        .put("unit2/g_8.txt", "33.6\n-111.8\n");
    let recording = folder.open();
    assert_eq!(recording.rows().len(), 2);
    assert!(recording.malformed().is_empty());
    let best: Vec<u16> = (0..2).map(|row| recording.power(row).unwrap().best().unwrap().0.0).collect();
    assert_eq!(best, [3, 1]);
    let position = recording.sample(0, Modality::Position).unwrap();
    assert_eq!(json(&recording, position), serde_json::json!({"lat": 33.5, "lon": -111.9}));
    let labels = look(&recording).labels.unwrap();
    assert_eq!((labels.first_beam, labels.share), (1, 1.0));
}

#[test]
fn samples_come_in_capture_order() {
    let folder = Folder::new();
    folder.put(
        "scenario9.csv",
        "index,unit1_blockage,unit1_pwr_60ghz,unit2_loc,unit1_rgb,unit1_radar,unit1_lidar,seq_index\n\
         1,b1.txt,p1.txt,g1.txt,c1.jpg,r1.mat,l1.mat,1\n2,b2.txt,p2.txt,g2.txt,c2.jpg,r2.mat,l2.mat,1\n",
    );
    let recording = folder.open();
    let order: Vec<(usize, &str)> =
        recording.samples().iter().map(|sample| (sample.row, sample.stream.modality().name())).collect();
    let one = |row| ["lidar", "radar", "camera", "position", "link", "blocked"].map(|name| (row, name));
    assert_eq!(order, [one(0), one(1)].concat());
    for sample in recording.samples() {
        assert!(recording.load(sample).unwrap_err().is_absent());
    }
    let report = look(&recording);
    assert!(report.modalities.iter().all(|m| (m.named, m.present, m.absent, m.unreadable) == (2, 0, 2, 0)));
}

#[test]
fn without_a_sequence_column_every_row_stands_alone() {
    let folder = Folder::new();
    folder
        .put("scenario5_dev_val.csv", "index,unit1_pwr_1,beam_index_1\n1,p2.txt,1\n")
        .put("scenario5_dev_train.csv", "index,unit1_pwr_1,beam_index_1\n1,p0.txt,1\n2,p1.txt,1\n")
        .put("unit1/GPS_data/gps_location.txt", "33.5\n-111.25\n")
        .put("notes.csv", "who,what\nme,nothing\n");
    let recording = folder.open();
    assert_eq!(recording.sequences().len(), 3);
    // No column says where the unit stands; its file does.
    assert_eq!(recording.site(), Some((33.5, -111.25)));
    assert_eq!(seconds(&recording), [0.0, 2.0, 4.0]);
    let names: Vec<_> = recording.samples().iter().map(|sample| sample.path().file_name().unwrap()).collect();
    assert_eq!(names, ["p0.txt", "p1.txt", "p2.txt"]);
    assert_eq!(recording.stamps().source, StampSource::Synthetic);
    let report = look(&recording);
    assert_eq!(report.time.rate_hz, None);
    assert!(report.notes[0].contains("notes.csv"));
}

#[test]
fn the_main_index_stands_for_its_parts() {
    let folder = Folder::new();
    folder
        .put("scenario9.csv", "index,unit1_pwr_60ghz,seq_index\n1,a.txt,1\n")
        .put("scenario9_dev_train.csv", "index,unit1_pwr_1\n1,b.txt\n2,c.txt\n");
    assert_eq!(folder.open().rows().len(), 1);
    let part = Recording::open(&folder.path().join("scenario9_dev_train.csv"), &options()).unwrap();
    assert_eq!(part.rows().len(), 2);
}

#[test]
fn stamps_of_scenarios_9_and_31() {
    let folder = Folder::new();
    folder.put(
        "scenario9.csv",
        "index,unit1_rgb,unit1_radar,seq_index,time_stamp[UTC]\n\
         1,image_BS2_1_16_59_59.jpg,data_5_23_59_59.mat,1,['16-59-59-950']\n\
         2,image_BS2_2_17_00_00.jpg,data_6_0_00_00.mat,1,['17-00-00-061']\n",
    );
    let recording = folder.open();
    assert_eq!(seconds(&recording), [61_199.95, 61_200.061]);
    assert_eq!(recording.stamps().hours_behind_radar_names, Some(7));
    assert!(recording.samples().iter().all(|sample| sample.capture_source == CaptureSource::Recording));

    let folder = Folder::new();
    folder.put(
        "scenario31.csv",
        "index,unit1_rgb,seq_index,time_stamp\n1,image_1.jpg,1,23:59:59-950000\n2,image_2.jpg,1,00:00:00-50000\n",
    );
    assert_eq!(seconds(&folder.open()), [86_399.95, 86_400.05]);
}

#[test]
fn camera_names_stamp_rows_where_no_column_does() {
    let folder = Folder::new();
    folder.put(
        "scenario2.csv",
        "index,unit1_rgb,unit1_pwr_60ghz,seq_index\n\
         1,./image_BS1_10_03_23_11.jpg,p1.txt,1\n2,./image_BS1_11_03_23_11.jpg,p2.txt,1\n\
         3,./image_BS1_12_03_23_11.jpg,p3.txt,1\n4,./image_BS1_13_03_23_11.jpg,p4.txt,1\n",
    );
    let recording = folder.open();
    assert_eq!(seconds(&recording), [12_191.0, 12_191.25, 12_191.5, 12_191.75]);
    assert_eq!(recording.stamps().source, StampSource::CameraNames);
    assert_eq!(recording.rows()[1].capture_source, CaptureSource::Recording);
}

#[test]
fn backward_stamps_are_mended_and_told() {
    let folder = Folder::new();
    folder.put(
        "scenario3.csv",
        "index,unit1_pwr_60ghz,seq_index,time_stamp[UTC]\n1,a.txt,1,['10-00-00-000']\n2,b.txt,1,['10-00-00-100']\n\
         3,c.txt,1,['09-59-58-000']\n4,d.txt,1,['10-00-00-300']\n5,e.txt,2,['10-00-00-400']\n6,f.txt,2,oops\n",
    );
    let recording = folder.open();
    assert_eq!(seconds(&recording), [36_000.0, 36_000.1, 36_000.2, 36_000.3, 36_002.3, 36_002.4]);
    let sources: Vec<bool> =
        recording.rows().iter().map(|row| row.capture_source == CaptureSource::Synthetic).collect();
    assert_eq!(sources, [false, false, true, false, false, true]);
    let stamps = recording.stamps();
    assert_eq!((stamps.backward.as_slice(), stamps.unstamped, stamps.moved_sequences), (&[2][..], 1, 1));
    assert!(look(&recording).to_string().contains("1 stamps not after the one before (rows 2)"));
}

#[test]
fn a_challenge_row_is_a_window_of_its_own() {
    let folder = Folder::new();
    folder
        .put(
            "challenge.csv",
            "index,unit1_rgb_1,unit1_rgb_2,unit1_rgb_3,unit1_rgb_4,unit1_rgb_5,unit1_loc,unit2_loc_1,unit2_loc_2,\
             unit1_pwr_60ghz,unit1_beam\n\
             1,c1.jpg,c2.jpg,c3.jpg,c4.jpg,c5.jpg,u.txt,g1.txt,g2.txt,p.txt,8\n\
             2,d1.jpg,d2.jpg,d3.jpg,d4.jpg,d5.jpg,u.txt,h1.txt,h2.txt,q.txt,2\n",
        )
        .put("u.txt", "33.1\n-111.2\n")
        .put("p.txt", power(8, 7))
        .put("q.txt", power(8, 1));
    let recording = folder.open();
    assert_eq!(recording.site(), Some((33.1, -111.2)));
    assert_eq!(seconds(&recording), [0.4, 2.8]);
    let first: Vec<(String, i64)> = recording.samples()[..8]
        .iter()
        .map(|s| {
            (s.path().file_name().unwrap().to_string_lossy().into_owned(), s.capture.as_nanos() / 1_000_000)
        })
        .collect();
    let expected =
        [("c1.jpg", 0), ("g1.txt", 0), ("c2.jpg", 100), ("g2.txt", 100), ("c3.jpg", 200), ("c4.jpg", 300)]
            .into_iter()
            .chain([("c5.jpg", 400), ("p.txt", 400)]);
    assert_eq!(first, expected.map(|(name, at)| (name.to_owned(), at)).collect::<Vec<_>>());
    assert!(recording.sample(0, Modality::Camera).unwrap().path().ends_with("c5.jpg"));
    assert_eq!(recording.sample(0, Modality::Position), None);
    assert_eq!(look(&recording).labels.unwrap().first_beam, 1);
}

#[test]
fn vehicles_join_four_arrays_and_stamp_each_file() {
    let folder = Folder::new();
    folder.put(
        "scenario36.csv",
        "abs_index,timestamp,seq_index,unit1_pwr1,unit1_pwr2,unit1_pwr3,unit1_pwr4,unit1_rgb1,unit1_rgb5,unit1_rgb6,\
         unit1_overall-beam\n\
         2674,11-46-31.214536,1,a/pwr_11-46-31.214536.txt,b.txt,c.txt,d.txt,x.jpg,f/frame_11-46-31.256536.jpg,z.jpg,162\n",
    );
    for (file, best) in [("a/pwr_11-46-31.214536.txt", 1), ("b.txt", 2), ("c.txt", 34), ("d.txt", 4)] {
        let text = power(64, best).replace("1.0", if file == "c.txt" { "5.0" } else { "1.0" });
        folder.put(file, text);
    }
    let recording = folder.open();
    assert_eq!(recording.rows()[0].index, Some(2674));
    assert_eq!(recording.beams(), Some(256));
    assert_eq!(recording.power(0).unwrap().best().unwrap().0.0, 162);
    let labels = look(&recording).labels.unwrap();
    assert_eq!((labels.first_beam, labels.share), (0, 1.0));
    let camera = recording.sample(0, Modality::Camera).unwrap();
    let link = recording.sample(0, Modality::Link).unwrap();
    assert_eq!((camera.capture - link.capture).as_nanos(), 42_000_000);
    assert!(camera.path().ends_with("f/frame_11-46-31.256536.jpg"));
    fs::remove_file(folder.path().join("c.txt")).unwrap();
    assert!(recording.load(link).unwrap_err().is_absent());
}

#[test]
fn powers_keep_nan_and_short_ones_are_unreadable() {
    let folder = Folder::new();
    folder
        .put(
            "scenario31.csv",
            "index,unit1_pwr_60ghz,unit1_beam,seq_index\n1,a.txt,3,1\n2,b.txt,2,1\n3,c.txt,1,1\n4,d.txt,1,1\n5,e.txt,1,1\n",
        )
        .put("a.txt", "[nan, 0.5, 0.7, 0.1]")
        .put("b.txt", "0.1\n0.9\nNaN\nNaN\n")
        .put("c.txt", "0.5\n0.4\n0.3\n0.2\n")
        .put("d.txt", "0.5\n0.4\n")
        .put("e.txt", "0.5\nabc\n");
    let recording = folder.open();
    let (format, bytes) = recording.load(recording.sample(0, Modality::Link).unwrap()).unwrap();
    assert_eq!(format, Format::Npy);
    let powers = npyz::NpyFile::new(bytes.as_slice()).unwrap().into_vec::<f64>().unwrap();
    assert!(powers[0].is_nan());
    assert_eq!(powers[1..], [0.5, 0.7, 0.1]);
    let report = look(&recording);
    let link = &report.modalities[0];
    assert_eq!((link.present, link.absent, link.unreadable), (3, 0, 2));
    assert!(link.problems[0].reason.contains("2 powers where the recording has 4 beams"));
    assert!(link.problems[1].reason.contains("`abc` is no number"));
    let power = report.power.unwrap();
    assert_eq!((power.rows_with_nan, power.nan_cells, power.beams), (2, 3, 4));
    assert_eq!(report.labels.unwrap().share, 1.0);
}

#[test]
fn scenario_20_labels_are_numbered_by_row() {
    let folder = Folder::new();
    let mut csv = "index,unit1_pwr_60ghz,unit1_blockage,seq_index\n".to_owned();
    for row in 1..=10 {
        let index = if row > 6 { row + 2 } else { row };
        csv += &format!("{index},p_{row}.txt,./unit1/label_data/label_{index}.txt,{}\n", 1 + row / 7);
        folder.put(&format!("unit1/label_data/label_{row}.txt"), if row == 7 { "1" } else { "0" });
    }
    folder.put("scenario20.csv", csv);
    let recording = folder.open();
    let blocked: Vec<bool> = (0..10)
        .map(|row| json(&recording, recording.sample(row, Modality::Blocked).unwrap())["blocked"] == true)
        .collect();
    assert_eq!(blocked.iter().position(|&blocked| blocked), Some(6));
    assert!(look(&recording).notes[0].contains("4 taken by row"));
}

/// Ten rows of which 4, 5 and 6 are blocked by power, labelled `shift` rows late.
fn blocked_rows(name: &str, shift: usize) -> Folder {
    let folder = Folder::new();
    let mut csv = "index,unit1_pwr_60ghz,unit1_blockage,seq_index\n".to_owned();
    let blocked = |row: usize| (4..7).contains(&row);
    for row in 0..10 {
        csv += &format!("{row},p_{row}.txt,l_{row}.txt,1\n");
        folder.put(&format!("p_{row}.txt"), if blocked(row) { "0.01\n0.01\n" } else { "0.5\n1.0\n" });
        folder.put(&format!("l_{row}.txt"), if row >= shift && blocked(row - shift) { "1\n" } else { "0\n" });
    }
    folder.put(name, csv);
    folder
}

#[test]
fn scenario_21_labels_are_taken_from_the_row_they_fit() {
    let labels = |recording: &Recording| -> Vec<Option<bool>> {
        let truth = |row| recording.load(recording.sample(row, Modality::Blocked).unwrap());
        (0..10).map(|row| truth(row).ok().map(|(_, bytes)| bytes == br#"{"blocked":true}"#)).collect()
    };
    let right: Vec<Option<bool>> = (0..9).map(|row| Some((4..7).contains(&row))).chain([None]).collect();
    assert_eq!(labels(&blocked_rows("scenario21.csv", 1).open()), right);
    // Elsewhere labels stay where they are, and the report says what fits.
    let folder = blocked_rows("scenario17.csv", 1);
    let recording = folder.open();
    assert_eq!(labels(&recording)[7], Some(true));
    let report = look(&recording);
    let blockage = report.blockage.clone().unwrap();
    assert_eq!((blockage.shift.best(), blockage.applied_shift, blockage.blocked_share), (1, 0, 0.3));
    assert!(report.to_string().contains("labels fit best from row +1"), "{report}");
    let aligned = look(&blocked_rows("scenario18.csv", 0).open()).blockage.unwrap();
    assert_eq!((aligned.shift.best(), aligned.shift.same), (0, Some(1.0)));
}

#[test]
fn what_cannot_be_opened_says_why() {
    let message = |folder: &Folder| folder.try_open().unwrap_err().to_string();
    let repeated = Folder::new();
    repeated.put("scenario22.csv", "index,unit1_pwr_60ghz,seq_index\n1,a.txt,1\n");
    assert!(message(&repeated).contains("scenario 22 repeats scenario 21"), "{}", message(&repeated));

    let strange = Folder::new();
    strange.put("table.csv", "who,,what\nme,,nothing\n");
    let text = message(&strange);
    assert!(text.contains("who, what") && text.contains("unit1_pwr_60ghz"), "{text}");

    let empty = Folder::new();
    empty.put("a.bin", "x").put("b.bin", "x");
    assert!(message(&empty).contains("2 .bin"), "{}", message(&empty));
    let missing = Recording::open(&empty.path().join("nowhere"), &options()).unwrap_err();
    assert!(matches!(missing, RecordingError::Missing { .. }));
    let rate = Recording::open(empty.path(), &Options { rate_hz: 0.0, ..options() }).unwrap_err();
    assert!(matches!(rate, RecordingError::Rate { .. }));
    let hollow = Folder::new();
    hollow.put("scenario1.csv", "index,unit1_pwr_60ghz,seq_index\n1,../a.txt,1\n");
    let text = message(&hollow);
    assert!(text.contains("1 malformed, the first: scenario1.csv, line 2: `../a.txt` leaves"), "{text}");
    hollow.put("scenario1.csv", "index,unit1_pwr_60ghz,seq_index\n");
    assert!(matches!(hollow.try_open(), Err(RecordingError::NoRows { malformed: 0, first: None, .. })));
}

#[test]
fn rows_that_repeat_an_earlier_one_are_left_out() {
    let folder = Folder::new();
    let rows = "1,a.txt,1\n2,b.txt,1\n2,b.txt,1\n3,c.txt,1\n1,a.txt,2\n4,a.txt,2\n5,,2\n";
    folder.put("scenario1.csv", format!("index,unit1_pwr_60ghz,seq_index\n{rows}"));
    let recording = folder.open();
    let indices: Vec<_> = recording.rows().iter().map(|row| row.index).collect();
    assert_eq!(indices, [Some(1), Some(2), Some(3), Some(1)]);
    assert_eq!(
        recording.notes(),
        [
            "2 rows name the files of an earlier one of their sequence: left out",
            "1 rows name the files of a row of another sequence: they count twice"
        ]
    );
    assert_eq!(recording.malformed().len(), 1, "a row without a file");
}

#[test]
fn rows_are_taken_in_the_order_of_their_index_where_it_tells() {
    let open = |rows: &str| {
        let folder = Folder::new();
        folder.put("scenario1.csv", format!("index,unit1_pwr_60ghz,seq_index\n{rows}"));
        folder.open()
    };
    let order =
        |recording: &Recording| recording.rows().iter().filter_map(|row| row.index).collect::<Vec<_>>();
    let shuffled = open("4,d.txt,2\n1,a.txt,1\n3,c.txt,2\n2,b.txt,1\n");
    assert_eq!((order(&shuffled), shuffled.sequences().len()), (vec![1, 2, 3, 4], 2));
    assert!(shuffled.notes()[0].contains("taken in that order"), "{:?}", shuffled.notes());
    // An index that begins anew in each sequence tells nothing of their order.
    let anew = open("1,a.txt,1\n2,b.txt,1\n1,c.txt,2\n2,d.txt,2\n");
    assert_eq!((order(&anew), anew.notes().len()), (vec![1, 2, 1, 2], 0));
    let pieces = open("1,a.txt,1\n2,b.txt,2\n3,c.txt,1\n4,d.txt,\n");
    assert_eq!((order(&pieces), pieces.sequences().len()), (vec![1, 2, 3, 4], 4));
    assert!(pieces.notes()[0].contains("1 of 2 sequences lie in several pieces"), "{:?}", pieces.notes());
    assert!(pieces.notes()[1].contains("1 of 4 rows name no sequence"), "{:?}", pieces.notes());
}

#[test]
fn lines_count_the_same_whatever_ends_them() {
    for end in ["\n", "\r\n"] {
        let folder = Folder::new();
        let rows = [
            "index,unit1_pwr_60ghz,seq_index",
            "1,a.txt,1",
            "broken",
            "",
            "2,b.txt,1",
            "broken",
            "3,c.txt,1",
        ];
        folder.put("scenario1.csv", rows.join(end));
        let lines: Vec<u64> = folder.open().malformed().iter().map(|row| row.line).collect();
        assert_eq!(lines, [3, 6], "{end:?}");
    }
}

#[test]
fn malformed_rows_are_left_out_and_named() {
    let folder = Folder::new();
    let mut csv = b"index,unit1_pwr_60ghz,unit1_beam_index,seq_index\n1,a.txt,1,1\n2,b.txt\n".to_vec();
    csv.extend(
        b"3,../../etc/passwd,1,1\n4,d.txt,twelve,1\n5,e\xff.txt,1,1\n6,f.txt,1,1,,extra\n7,g.txt,nan,1,,\n",
    );
    folder.put("scenario1.csv", csv);
    let recording = folder.open();
    assert_eq!(recording.rows().iter().map(|row| row.index).collect::<Vec<_>>(), [Some(1), Some(7)]);
    assert_eq!(recording.rows()[1].label, None);
    let lines: Vec<u64> = recording.malformed().iter().map(|row| row.line).collect();
    assert_eq!(lines, [3, 4, 5, 6, 7]);
    let reasons = ["need 4", "leaves the recording", "`twelve` is no beam", "no text", "6 cells under 4"];
    for (row, reason) in recording.malformed().iter().zip(reasons) {
        assert!(row.reason.contains(reason), "{}", row.reason);
    }
}

#[test]
fn sensor_files_turn_into_wire_payloads() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mat");
    let file = |name: &str| fs::read(data.join(name)).unwrap();
    let mut hdf5 = file("radar_plain.mat");
    hdf5[..8].copy_from_slice(b"\x89HDF\r\n\x1a\n");
    let plain = file("radar_plain.mat");
    let folder = Folder::new();
    folder
        .put(
            "scenario9.csv",
            "index,unit1_radar,unit1_lidar,unit1_rgb,seq_index\n1,r1.mat,l1.mat,c1.jpg,1\n2,r2.mat,l2.mat,c2.jpg,1\n\
             3,r3.mat,,,1\n4,r4.mat,,,1\n5,r5.mat,,,1\n6,r6.npy,,,1\n7,r7.mat,,,1\n",
        )
        .put("r1.mat", &plain)
        .put("r2.mat", file("radar_compressed.mat"))
        .put("r3.mat", &plain[..plain.len() - 20])
        .put("r4.mat", hdf5)
        .put("r5.mat", file("lidar_compressed.mat"))
        .put("r6.npy", file("radar.npy"))
        .put("l1.mat", file("lidar_compressed.mat"))
        .put("l2.mat", "not a mat file")
        .put("c1.jpg", [0xff, 0xd8, 0xff, 0xe0, 1, 2, 0xff, 0xd9])
        .put("c2.jpg", [0xff, 0xd8, 0xff, 0xe0, 1, 2]);
    let recording = folder.open();
    let load = |row, modality| recording.load(recording.sample(row, modality).unwrap());
    let expected = file("radar.npy");
    let values = |bytes: &[u8]| {
        let file = npyz::NpyFile::new(bytes).unwrap();
        (file.shape().to_vec(), file.into_vec::<num_complex::Complex32>().unwrap())
    };
    for row in [0, 1, 5] {
        let (format, bytes) = load(row, Modality::Radar).unwrap();
        assert_eq!(format, Format::Npy);
        assert_eq!(values(&bytes), values(&expected), "row {row}");
    }
    let (format, cloud) = load(0, Modality::Lidar).unwrap();
    assert_eq!(format, Format::Pcd);
    let data = cloud.windows(12).position(|window| window == b"DATA binary\n").unwrap() + 12;
    let points: Vec<f32> =
        cloud[data..].chunks_exact(4).map(|raw| f32::from_le_bytes(raw.try_into().unwrap())).collect();
    // Nine beams of which one has no return: −90° is to the left, 0° ahead, +90° to the right.
    assert_eq!(points.len(), 8 * 4);
    let near =
        |found: f32, wanted: f64| assert!((f64::from(found) - wanted).abs() < 1e-5, "{found} {wanted}");
    near(points[0], -1.552_568_22);
    near(points[1], 0.0);
    near(points[3], 19.0);
    near(points[3 * 4], 0.0);
    near(points[3 * 4 + 1], 19.062_174_51);
    near(points[7 * 4], 0.847_923_75);

    let report = look(&recording);
    let of = |modality| report.modalities.iter().find(|entry| entry.modality == modality).unwrap();
    let radar = of(Modality::Radar);
    assert_eq!((radar.named, radar.present, radar.absent, radar.unreadable), (7, 3, 1, 3));
    let reasons: Vec<&str> = radar.problems.iter().map(|problem| problem.reason.as_str()).collect();
    assert!(reasons[0].contains("truncated"), "{}", reasons[0]);
    assert!(reasons[1].contains("7.3"), "{}", reasons[1]);
    assert!(reasons[2].contains("[9, 2] is real"), "{}", reasons[2]);
    assert_eq!((of(Modality::Lidar).unreadable, of(Modality::Camera).unreadable), (1, 1));
    assert_eq!(report.unreadable(), 5);
}

#[test]
fn a_calibrated_position_stands_in_and_a_decoder_may_object() {
    let folder = Folder::new();
    folder
        .put(
            "scenario4.csv",
            "index,unit2_loc,unit2_loc_cal,seq_index\n1,a.txt,b.txt,1\n2,c.txt,d.txt,1\n3,e.txt,f.txt,1\n",
        )
        .put("a.txt", "1\n2\n")
        .put("b.txt", "3\n4\n")
        .put("d.txt", "5\n6\n");
    let recording = folder.open();
    let position = |row| recording.sample(row, Modality::Position).unwrap();
    assert_eq!(json(&recording, position(0))["lat"], 1.0);
    assert_eq!(json(&recording, position(1))["lat"], 5.0);
    assert!(
        matches!(recording.load(position(2)), Err(LoadError::Absent { path }) if path.ends_with("e.txt"))
    );
    let report =
        info(&recording, &|sample, _, _| if sample.row == 0 { Err("no".to_owned()) } else { Ok(()) });
    let counts = &report.modalities[0];
    assert_eq!((counts.present, counts.absent, counts.unreadable), (1, 1, 1));
    assert_eq!(counts.problems[0].reason, "no");
}

#[test]
fn frames_without_an_index_are_a_recording() {
    let folder = Folder::new();
    for name in [
        "image_BS1_999_23_59_59",
        "image_BS1_1000_23_59_59",
        "image_BS1_1001_00_00_00",
        "image_BS1_1500_00_09_00",
    ] {
        folder.put(&format!("{name}.jpg"), [0xff, 0xd8, 0xff, 0xe0, 0xff, 0xd9]);
    }
    let recording = folder.open();
    assert_eq!(
        recording.rows().iter().map(|row| row.index.unwrap()).collect::<Vec<_>>(),
        [999, 1000, 1001, 1500]
    );
    let sizes: Vec<usize> = recording.sequences().iter().map(|sequence| sequence.rows.len()).collect();
    assert_eq!(sizes, [3, 1]);
    assert_eq!(seconds(&recording), [86_399.0, 86_399.5, 86_400.0, 86_940.0]);
}

#[test]
fn a_report_survives_json() {
    let folder = blocked_rows("scenario17.csv", 0);
    let report = info_path(folder.path(), &options(), &structure_only).unwrap();
    let text = serde_json::to_string(&report).unwrap();
    assert!(text.starts_with(r#"{"kind":"recording""#), "{text}");
    assert_eq!(serde_json::from_str::<InfoReport>(&text).unwrap(), report);
}
