//! Data sets in NumPy archives, made here by hand.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use mmsense::model::{Input, MODALITIES, Task};
use mmsense::train::data::archive::{self, ArchiveError, Layout, Request, Windowing};
use mmsense::train::data::split::{Shares, Split};
use mmsense::train::data::twins::{self, Divided};
use mmsense::train::data::{DataSet, Reading};
use npyz::WriterBuilder;
use zip::write::SimpleFileOptions;

/// An array of `f64`, whatever the layout's own type is.
struct Array<'a>(&'a str, &'a [u64], Vec<f64>);

fn write(path: &Path, arrays: &[Array<'_>]) {
    let mut file = zip::ZipWriter::new(fs::File::create(path).unwrap());
    for Array(name, shape, values) in arrays {
        let mut bytes = Vec::new();
        let options = npyz::WriteOptions::new().default_dtype().shape(shape).writer(&mut bytes);
        let mut writer = options.begin_nd().unwrap();
        writer.extend(values.iter().copied()).unwrap();
        writer.finish().unwrap();
        file.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
        file.write_all(&bytes).unwrap();
    }
    file.finish().unwrap();
}

fn request<'a>(path: &'a Path, layout: Layout, tasks: &'a [Task], windowing: Windowing) -> Request<'a> {
    Request { name: "set", path, files: &[], layout, tasks, windowing, points: 64 }
}

/// MARS: frame f has two points at height f and f + 0.5, its joints are all at f; `times` in seconds.
fn mars(path: &Path, times: &[f64], movement: impl Fn(usize) -> f64) {
    let count = times.len();
    let points = (0..count).flat_map(|frame| {
        let height = frame as f64;
        [0.25, 2.0, height, 0.5, 100.0, -0.25, 2.0, height + 0.5, -0.5, 10.0]
    });
    let joints = (0..count).flat_map(|frame| vec![frame as f64; 75]);
    write(
        path,
        &[
            Array("points", &[2 * count as u64, 5], points.collect()),
            Array("frame_start", &[count as u64], (0..count).map(|frame| 2.0 * frame as f64).collect()),
            Array("abs_time", &[count as u64], times.to_vec()),
            Array("joints", &[count as u64, 25, 3], joints.collect()),
            Array("movement", &[count as u64], (0..count).map(movement).collect()),
        ],
    );
}

fn heights(data: &DataSet, example: usize, slot: usize) -> Vec<f32> {
    let place = data.examples[example].places[slot * MODALITIES + Input::Radar.place()];
    let Some(place) = place else { return Vec::new() };
    let Reading::Cloud(cloud) = data.reading(place.reading).unwrap() else { panic!("no cloud") };
    let mut heights: Vec<f32> =
        cloud.positions.iter().map(|place| (place[2] * 50.0 * 8.0).round() / 8.0).collect();
    heights.sort_by(f32::total_cmp);
    heights
}

#[test]
fn frames_of_mars_are_merged_within_a_run_and_keep_their_joints() {
    let folder = tempfile::tempdir().unwrap();
    // A gap after the third frame.
    mars(&folder.path().join("subject9_train.npz"), &[0.0, 0.1, 0.2, 5.0, 5.1], |frame| {
        1.0 + (frame / 3) as f64
    });
    fs::write(folder.path().join("notes.txt"), "no archive").unwrap();
    let windowing = Windowing { slots: 1, frames: 3, every: 1 };
    let data = archive::open(&request(folder.path(), Layout::Mars, &[Task::Pose, Task::Activity], windowing))
        .unwrap();
    assert_eq!(data.examples.len(), 5);
    assert_eq!(data.groups, ["set/subject9/movement 1", "set/subject9/movement 2"]);
    assert_eq!((data.shape.sizes.joints, data.shape.sizes.activities), (25, 10));
    assert_eq!(heights(&data, 2, 0), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]);
    assert_eq!(heights(&data, 3, 0), [3.0, 3.5], "nothing from before the gap");
    let truth = &data.examples[4].truth;
    assert_eq!((truth.activity, truth.pose.as_ref().unwrap()[24]), (Some(1), [4.0; 3]));
    // Points as a unit's radar gives them: metres in the network's unit, power in dB.
    let place = data.examples[0].places[Input::Radar.place()].unwrap();
    let Reading::Cloud(cloud) = data.reading(place.reading).unwrap() else { panic!("no cloud") };
    let [x, y, _] = cloud.positions[0];
    assert!((x - 0.005).abs() < 1e-6 && (y - 0.04).abs() < 1e-6);
    assert!((cloud.features[4] - 0.2).abs() < 1e-6, "100 is 20 dB: {:?}", cloud.features);
}

#[test]
fn windows_of_radhar_are_whole_and_share_their_readings() {
    let folder = tempfile::tempdir().unwrap();
    let count = 13u64;
    let points = (0..count).flat_map(|frame| [2.0, 0.5, frame as f64, 2.0, 0.0, 8.0, 0.0, 25.0]);
    let column = |value: &dyn Fn(u64) -> f64| (0..count).map(value).collect::<Vec<f64>>();
    write(
        &folder.path().join("Train_jump.npz"),
        &[
            Array("points", &[count, 8], points.collect()),
            Array("frame_start", &[count], column(&|frame| frame as f64)),
            Array("stamp", &[count], column(&|frame| 1.5e9 + frame as f64 / 30.0)),
            // The last four frames are of another file.
            Array("file_index", &[count], column(&|frame| if frame < 9 { 0.0 } else { 1.0 })),
        ],
    );
    let windowing = Windowing { slots: 2, frames: 2, every: 2 };
    let data = archive::open(&request(folder.path(), Layout::Radhar, &[Task::Activity], windowing)).unwrap();
    // Frames 4, 6, 8 of the first file (4 has four frames before it); none of the second, which has four frames: 0…3.
    let seen: Vec<[Vec<f32>; 2]> =
        (0..data.examples.len()).map(|at| [heights(&data, at, 0), heights(&data, at, 1)]).collect();
    assert_eq!(seen[0], [vec![1.0, 2.0], vec![3.0, 4.0]]);
    assert_eq!(seen[1], [vec![3.0, 4.0], vec![5.0, 6.0]]);
    assert_eq!(seen.len(), 3);
    assert!(data.examples.iter().all(|example| example.truth.activity == Some(2)));
    let radar = |example: usize, slot: usize| {
        data.examples[example].places[slot * MODALITIES + Input::Radar.place()].unwrap()
    };
    assert_eq!(radar(0, 1).reading, radar(1, 0).reading);
    assert!((radar(0, 0).age_s - 2.0 / 30.0).abs() < 1e-3);
    // y ahead of the sensor, x to its right.
    let Reading::Cloud(cloud) = data.reading(radar(0, 0).reading).unwrap() else { panic!("no cloud") };
    assert!((cloud.positions[0][0] + 0.01).abs() < 1e-6 && (cloud.positions[0][1] - 0.04).abs() < 1e-6);
}

/// Windows of frames that are known by a number each.
fn windows(path: &Path, windows: &[[u32; 3]], labels: &[f64]) {
    let power =
        |frame: u32, beam: usize| f64::from(frame) + if beam == 30 { 1e4 } else { beam as f64 / 100.0 };
    let features = windows.iter().flatten().flat_map(|&frame| (0..54).map(move |beam| power(frame, beam)));
    let count = windows.len() as u64;
    write(
        path,
        &[Array("features", &[count, 3, 54], features.collect()), Array("labels", &[count], labels.to_vec())],
    );
}

#[test]
fn windows_that_share_a_frame_are_one_group_whatever_their_horizon() {
    let folder = tempfile::tempdir().unwrap();
    windows(&folder.path().join("val_Tp1.npz"), &[[1, 2, 3], [7, 8, 9]], &[1.0, 0.0]);
    windows(&folder.path().join("val_Tp10.npz"), &[[3, 4, 5], [11, 12, 13]], &[0.0, 1.0]);
    let data = archive::open(&request(
        folder.path(),
        Layout::BlockageWindows,
        &[Task::Blockage],
        Windowing::default(),
    ))
    .unwrap();
    assert_eq!((data.examples.len(), data.groups.len()), (4, 3));
    assert_eq!(data.shape.horizons_ms, (1..=10).map(|frame| 100 * frame).collect::<Vec<u32>>());
    let labels: Vec<(usize, bool)> = data
        .examples
        .iter()
        .map(|example| {
            let told: Vec<(usize, bool)> =
                (0..).zip(&example.truth.blocked).filter_map(|(at, label)| Some((at, (*label)?))).collect();
            assert_eq!(told.len(), 1);
            told[0]
        })
        .collect();
    assert!(labels.contains(&(0, true)) && labels.contains(&(9, false)) && labels.contains(&(9, true)));
    // The strongest of the 54 is the 41st of 64: ten are left out before it.
    let report = &data.reports[data.examples[0].past[2] as usize];
    assert_eq!(report.best, 40);
    assert!((27..37).all(|beam| report.linear[beam].is_nan()));
    for seed in 0..20 {
        let split = Split::by_group(&data, Shares { validation: 0.3, test: 0.3 }, seed);
        assert!(split.shared_groups(&data).is_empty());
        assert_eq!(split.train.len() + split.validation.len() + split.test.len(), 4);
    }
}

#[test]
fn what_is_wrong_with_an_archive_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let open = |layout, tasks: &[Task]| {
        archive::open(&request(folder.path(), layout, tasks, Windowing::default())).unwrap_err().to_string()
    };
    let error = open(Layout::Mars, &[Task::Pose]);
    assert!(error.contains("no .npz file"), "{error}");
    let ahead = folder.path().join("val_Tp1.npz");
    windows(&ahead, &[[1, 2, 3], [4, 5, 6]], &[1.0, f64::NAN]);
    let error = open(Layout::BlockageWindows, &[Task::Blockage]);
    assert!(error.contains("found NaN in row 1, allowed are 0 and 1"), "{error}");
    write(&ahead, &[Array("features", &[1, 0, 54], Vec::new()), Array("labels", &[1], vec![0.0])]);
    let error = open(Layout::BlockageWindows, &[Task::Blockage]);
    assert!(error.contains("found shape [1, 0, 54]"), "{error}");
    fs::remove_file(ahead).unwrap();
    mars(&folder.path().join("subject1.npz"), &[0.0, 0.1], |frame| 7.0 + 4.0 * frame as f64);
    let error = open(Layout::Mars, &[Task::Pose]);
    assert!(error.contains("`movement`: found 11 in frame 1, allowed are 1 to 10"), "{error}");
    fs::write(folder.path().join("subject1.npz"), b"PK nothing").unwrap();
    let error = open(Layout::Mars, &[Task::Pose]);
    assert!(error.contains("subject1.npz") && error.contains("no .npz file"), "{error}");
    write(
        &folder.path().join("subject1.npz"),
        &[
            Array("points", &[2, 4], vec![0.0; 8]),
            Array("frame_start", &[2], vec![0.0, 1.0]),
            Array("abs_time", &[2], vec![0.0, 0.1]),
        ],
    );
    let error = open(Layout::Mars, &[Task::Pose]);
    assert!(error.contains("`points`") && error.contains("[2, 4]") && error.contains("[any, 5]"), "{error}");
    mars(&folder.path().join("subject1.npz"), &[0.0, 0.1], |_| 1.0);
    let error = open(Layout::Radhar, &[Task::Activity]);
    assert!(error.contains("[4, 5]") && error.contains("[any, 8]"), "{error}");
    let error = open(Layout::BlockageWindows, &[Task::Blockage]);
    assert!(error.contains("labels"), "{error}");
    let refused = archive::open(&request(folder.path(), Layout::Mars, &[Task::Beam], Windowing::default()));
    assert!(matches!(refused, Err(ArchiveError::Task { task: Task::Beam, .. })));
    // Starts beyond the points.
    write(
        &folder.path().join("Train_walk.npz"),
        &[
            Array("points", &[2, 8], vec![0.0; 16]),
            Array("frame_start", &[2], vec![0.0, 9.0]),
            Array("stamp", &[2], vec![0.0, 0.1]),
            Array("file_index", &[2], vec![0.0; 2]),
        ],
    );
    fs::remove_file(folder.path().join("subject1.npz")).unwrap();
    let error = open(Layout::Radhar, &[Task::Activity]);
    assert!(
        error.contains("`frame_start`: found 9 in frame 1, allowed are numbers of points, 0 to 2"),
        "{error}"
    );
}

/// Names, shapes and values of a small archive of MARS, two points in each of three frames.
fn small_mars() -> Vec<Array<'static>> {
    vec![
        Array("points", &[6, 5], vec![0.5; 30]),
        Array("frame_start", &[3], vec![0.0, 2.0, 4.0]),
        Array("abs_time", &[3], vec![0.0, 0.1, 0.2]),
        Array("joints", &[3, 25, 3], vec![0.5; 225]),
        Array("movement", &[3], vec![1.0; 3]),
    ]
}

#[test]
fn numbers_that_no_radar_measured_are_refused_where_they_stand() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("subject1.npz");
    let open = || archive::open(&request(&path, Layout::Mars, &[Task::Pose], Windowing::default()));
    write(&path, &small_mars());
    assert_eq!(open().unwrap().examples.len(), 3);
    let wrong = [
        (
            "frame_start",
            1,
            f64::NAN,
            "`frame_start`: found NaN in frame 1, allowed are numbers of points, 0 to 6",
        ),
        ("frame_start", 0, -1.0, "`frame_start`: found -1 in frame 0"),
        ("frame_start", 2, 2.5, "`frame_start`: found 2.5 in frame 2"),
        (
            "frame_start",
            1,
            5.0,
            "`frame_start`: found frame 1 from point 5 to 4, allowed is an order that goes up",
        ),
        ("abs_time", 1, f64::NAN, "`abs_time`: found NaN in frame 1, allowed are seconds"),
        (
            "joints",
            76,
            1.5e3,
            "`joints`: found 1500 in row 25, allowed are places of people in metres, -100 to 100",
        ),
        ("points", 6, 3e38, "`points`: found 3"),
    ];
    for (name, at, value, reason) in wrong {
        let mut arrays = small_mars();
        arrays.iter_mut().find(|array| array.0 == name).unwrap().2[at] = value;
        write(&path, &arrays);
        let error = open().unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("subject1.npz"), "{error}");
    }
}

#[test]
fn frames_without_points_are_counted_and_times_that_are_no_seconds_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("subject1.npz");
    let open = || archive::open(&request(&path, Layout::Mars, &[Task::Pose], Windowing::default())).unwrap();
    let mut arrays = small_mars();
    arrays[1].2 = vec![0.0, 2.0, 2.0];
    write(&path, &arrays);
    let data = open();
    assert_eq!((data.examples.len(), data.notes.len()), (2, 0));
    assert_eq!((data.lost[0].count, data.lost[0].is_broken), (1, false));
    assert!(data.lost[0].to_string().contains("1 frames have no points; the first: "), "{}", data.lost[0]);
    // Milliseconds.
    arrays[2].2 = vec![0.0, 100.0, 200.0];
    write(&path, &arrays);
    assert!(open().notes[0].contains("3 runs in 3 frames: most frames stand alone"));
}

#[test]
fn files_of_an_epoch_clock_follow_each_other() {
    let folder = tempfile::tempdir().unwrap();
    for file in 0..12 {
        let mut arrays = small_mars();
        arrays[2].2.iter_mut().for_each(|time| *time += 1.7e9);
        write(&folder.path().join(format!("subject{file}.npz")), &arrays);
    }
    let data =
        archive::open(&request(folder.path(), Layout::Mars, &[Task::Pose], Windowing::default())).unwrap();
    let mut times: Vec<i64> = data.examples.iter().map(|example| example.time.as_nanos()).collect();
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), 36);
    assert!(times[35] < 12 * 11_000_000_000, "{}", times[35]);
}

#[test]
fn a_header_that_is_nested_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("subject1.npz");
    let header = format!(
        "{{'descr': {}1{}, 'fortran_order': False, 'shape': (3,), }}\n",
        "(1,".repeat(60),
        ")".repeat(60)
    );
    let mut bytes = b"\x93NUMPY\x02\x00".to_vec();
    bytes.extend((header.len() as u32).to_le_bytes());
    bytes.extend(header.as_bytes());
    let mut file = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    file.start_file("points.npy", SimpleFileOptions::default()).unwrap();
    file.write_all(&bytes).unwrap();
    file.finish().unwrap();
    let request = request(&path, Layout::Mars, &[Task::Pose], Windowing::default());
    let error = archive::open(&request).unwrap_err().to_string();
    assert!(error.contains("`points`") && error.contains("nested deeper than 4 levels"), "{error}");
    assert!(error.len() < 300, "{error}");
}

#[test]
fn windows_of_two_data_sets_that_share_a_frame_stand_on_one_side() {
    let folder = tempfile::tempdir().unwrap();
    let (learned, asked) = (folder.path().join("a"), folder.path().join("b"));
    for folder in [&learned, &asked] {
        fs::create_dir(folder).unwrap();
    }
    windows(&learned.join("s17_val_Tp1.npz"), &[[1, 2, 3], [7, 8, 9]], &[1.0, 0.0]);
    windows(&asked.join("scenario18_Tp10.npz"), &[[3, 4, 5], [11, 12, 13]], &[0.0, 1.0]);
    let open = |path: &Path| {
        let request = request(path, Layout::BlockageWindows, &[Task::Blockage], Windowing::default());
        archive::open(&request).unwrap()
    };
    let (learned, asked) = (open(&learned), open(&asked));
    let mut train = Split { train: vec![0, 1], ..Split::default() };
    let mut test = Split { test: vec![0, 1], ..Split::default() };
    let sides = [(&learned, &mut train), (&asked, &mut test)];
    let mut sides = sides.map(|(data, split)| Divided { data, split, by_rows: false });
    assert_eq!(twins::leave_out(&mut sides).unwrap(), [1, 0]);
    assert_eq!((train.train.len(), test.test.len()), (1, 2));
    // Nor is that hidden from whoever asks a network about the other one.
    let marks = |data: &DataSet| -> BTreeSet<u64> {
        (0..2).flat_map(|number| twins::marks(data, number).unwrap()).collect()
    };
    assert_eq!(marks(&learned).len(), 6);
    assert_eq!(marks(&learned).intersection(&marks(&asked)).count(), 1);
}

#[test]
fn windows_in_which_nothing_was_measured_are_counted_and_refused_where_there_is_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("val_Tp1.npz");
    let mut arrays =
        [Array("features", &[2, 3, 54], vec![0.0; 2 * 3 * 54]), Array("labels", &[2], vec![0.0, 1.0])];
    write(&path, &arrays);
    let request = request(&path, Layout::BlockageWindows, &[Task::Blockage], Windowing::default());
    let error = archive::open(&request).unwrap_err().to_string();
    assert!(error.contains("any beam has a power above 0"), "{error}");
    // The first measures something.
    arrays[0].2[..3 * 54].fill(1.0);
    write(&path, &arrays);
    let data = archive::open(&request).unwrap();
    assert_eq!((data.examples.len(), data.groups.len()), (1, 1));
    assert_eq!((data.lost.len(), data.lost[0].count, data.lost[0].is_broken), (1, 1, false));
    let lost = data.lost[0].to_string();
    assert!(
        lost.starts_with("1 windows have no power above 0") && lost.contains("val_Tp1.npz: row 1"),
        "{lost}"
    );
}
