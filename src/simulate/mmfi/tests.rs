use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::preview::draw_rooms;
use super::super::room::parse;
use super::*;

const SMALL: &str = "seed = 4\n[mmfi]\nsubjects = [3, 35]\nactions = [12, 22]\nframes = 3\n\
                     [camera]\nwidth = 64\nheight = 48\n[lidar]\ncolumns = 512\n";

fn scene(more: &str) -> RoomScene {
    parse(Path::new("room.toml"), &format!("{SMALL}{more}")).unwrap()
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn the_layout_is_that_of_the_data_set_and_bytes_do_not_depend_on_threads() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene("");
    let [one, two] = [1, 3].map(|threads| {
        let path = folder.path().join(threads.to_string());
        let report = make(&scene, &path, &|_, _| true, Some(threads)).unwrap();
        let files = files(&path);
        assert_eq!((report.sequences, report.frames, report.files), (4, 12, files.len()));
        assert_eq!(report.bytes, files.values().map(|bytes| bytes.len() as u64).sum::<u64>());
        files
    });
    for (name, bytes) in &one {
        assert!(two.get(name) == Some(bytes), "{} differs", name.display());
    }
    // Of every sequence the truth and five files per frame, and the scene.
    assert_eq!(one.len(), 4 * (1 + 5 * 3) + 1);
    for folder in ["E01/S03/A12", "E01/S03/A22", "E04/S35/A12", "E04/S35/A22"] {
        let truth =
            npyz::NpyFile::new(&one[&PathBuf::from(format!("{folder}/ground_truth.npy"))][..]).unwrap();
        assert_eq!((truth.shape(), truth.dtype().descr().as_str()), (&[297, 17, 3][..], "'<f8'"));
        let truth = truth.into_vec::<f64>().unwrap();
        // Camera frame: 3 m ahead, the head above the ankles (y down), the person's right hip at the image's left.
        let joint = |joint: usize| &truth[joint * 3..joint * 3 + 3];
        assert!(
            (joint(0)[2] - 3.0).abs() < 0.6 && joint(10)[1] < joint(3)[1] - 1.0 && joint(1)[0] < joint(4)[0]
        );
        for number in ["001", "100", "199"] {
            let file = |rest: &str| &one[&PathBuf::from(format!("{folder}/{rest}"))];
            assert_eq!(file(&format!("lidar/frame{number}.bin")).len() % 24, 0);
            assert_eq!(file(&format!("mmwave/frame{number}.bin")).len() % 40, 0);
            let image = image::load_from_memory(file(&format!("rgb_img/frame{number}.png"))).unwrap();
            assert_eq!((image.width(), image.height()), (64, 48));
            let depth = image::load_from_memory(file(&format!("depth/frame{number}.png"))).unwrap();
            assert_eq!(depth.color(), image::ColorType::L16);
            let keypoints = npyz::NpyFile::new(&file(&format!("rgb/frame{number}.npy"))[..]).unwrap();
            assert_eq!(keypoints.shape(), [17, 2]);
        }
    }
    // Another seed makes other people.
    let other = RoomScene { seed: 5, ..scene };
    make(&other, &folder.path().join("other"), &|_, _| true, None).unwrap();
    let other = files(&folder.path().join("other"));
    let name = Path::new("E01/S03/A12/ground_truth.npy");
    assert_ne!(other.get(name), one.get(name));
}

#[test]
fn files_that_are_not_wanted_are_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people");
    let scene = parse(
        Path::new("room.toml"),
        "[mmfi]\nsubjects = [11]\nactions = [26]\nframes = 2\nimage = false\ndepth = false\nlidar = false\n",
    )
    .unwrap();
    let report = make(&scene, &path, &|_, _| true, None).unwrap();
    let names: Vec<String> = files(&path).keys().map(|name| name.display().to_string()).collect();
    assert_eq!(
        names,
        [
            "E02/S11/A26/ground_truth.npy",
            "E02/S11/A26/mmwave/frame001.bin",
            "E02/S11/A26/mmwave/frame149.bin",
            "E02/S11/A26/rgb/frame001.npy",
            "E02/S11/A26/rgb/frame149.npy",
            "scene.toml"
        ]
    );
    assert_eq!((report.lidar_points, report.files), (0.0, 6));
    // The scene that lies beside the recording is the one that it was made from.
    let text = std::fs::read_to_string(path.join("scene.toml")).unwrap();
    assert_eq!(parse(Path::new("scene.toml"), &text).unwrap(), scene);
}

#[test]
fn what_was_stopped_goes_on_and_gives_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("people");
    assert!(matches!(make(&scene(""), &path, &|done, _| done < 5, Some(1)), Err(SimulateError::Stopped)));
    assert!(!path.exists());
    let report = make(&scene(""), &path, &|_, _| true, None).unwrap();
    assert_eq!((report.found, report.frames), (5, 12));
    let whole = folder.path().join("whole");
    let at_once = make(&scene(""), &whole, &|_, _| true, None).unwrap();
    assert!(files(&whole) == files(&path));
    assert_eq!(at_once, Report { found: 0, seconds: at_once.seconds, ..report });
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    assert!(matches!(make(&scene(""), &path, &|_, _| true, None), Err(SimulateError::NotEmpty { .. })));
}

#[test]
fn a_scene_is_named_by_what_its_recording_was_made_from() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene("");
    let path = folder.path().join("people");
    let report = make(&scene, &path, &|_, _| true, None).unwrap();
    let text = std::fs::read_to_string(path.join("scene.toml")).unwrap();
    assert_eq!((identity(&scene).unwrap(), hex(&text)), (text, report.scene));
}

#[test]
fn a_sequence_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene("");
    let pictures: Vec<image::RgbImage> = sequences(&scene)
        .into_iter()
        .take(2)
        .map(|sequence| {
            let file = folder.path().join("picture.png");
            draw_rooms(&scene, sequence, &file, Some(1), &|_, _| true).unwrap();
            image::open(file).unwrap().into_rgb8()
        })
        .collect();
    // The same person in the same room, who does something else.
    let [first, second] = pictures.as_slice() else { unreachable!("two were taken") };
    assert_eq!(first.dimensions(), second.dimensions());
    let differ = first.pixels().zip(second.pixels()).filter(|(one, other)| one != other).count();
    let share = differ as f64 / (first.width() * first.height()) as f64;
    assert!((0.001..0.9).contains(&share), "{share}");
    let film = folder.path().join("film.gif");
    let stopped = draw_rooms(&scene, sequences(&scene)[0], &film, Some(1), &|_, _| false);
    assert!(matches!(stopped, Err(SimulateError::Stopped)), "{stopped:?}");
}
