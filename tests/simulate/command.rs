//! `mmsense simulate`.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mmsense"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("simulate").args(arguments).output().unwrap()
}

#[test]
fn wrong_usage_is_told_with_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.toml");
    std::fs::write(&bad, "[lidar]\nrings = 0\n[[sequence]]\nseconds = 1\nvehicles = [{ kind = \"tram\" }]\n")
        .unwrap();
    let bad = bad.to_str().unwrap();
    let room = "recordings/scenes/room.toml";
    let empty = folder.path().join("empty.toml");
    std::fs::write(&empty, "seed = 4\n").unwrap();
    let cases: [(&[&str], &[&str]); 13] = [
        (
            &[bad, "-o", "x"],
            &["lidar.rings: found 0, allowed is 1 to 256", "vehicles.0.kind: unknown variant `tram`"],
        ),
        (&["recordings/street.toml", "-o", "src"], &["src: exists and is not an empty folder"]),
        (&[empty.to_str().unwrap(), "-o", "x"], &["sequence: found 0, allowed is 1 to 1000"]),
        // Before anything is made.
        (
            &["recordings/street.toml", "-o", "x", "--preview", "x.png", "--sequence", "9"],
            &["--sequence: found 9, allowed is 0 to"],
        ),
        (
            &["recordings/street.toml", "-o", "x", "--preview", "/nowhere/x.png"],
            &["--preview: /nowhere/x.png: its folder is not there"],
        ),
        (&["/nowhere.toml", "-o", "x"], &["/nowhere.toml: cannot read the scene"]),
        (&["recordings/street.toml"], &["--output"]),
        (
            &["recordings/street.toml", "-o", "x", "--layout", "mmfi"],
            &["recordings/street.toml: a street: found --layout mmfi, allowed is deepsense"],
        ),
        (&[room, "-o", "x"], &["people in rooms: found --layout deepsense, allowed is mmfi"]),
        (
            &[room, "-o", "x", "--layout", "mmfi", "--without", "radar"],
            &["people in rooms: found --repeat or --without, allowed for streets alone"],
        ),
        (
            &["recordings/street.toml", "-o", "x", "--without", "camera,sonar"],
            &["found `sonar`, allowed are camera, radar, lidar, link, position"],
        ),
        (&["recordings/street.toml", "-o", "x", "--repeat", "0"], &["--repeat", "0 is not in 1..=1000"]),
        (
            &["recordings/scenes/two-way-street.toml", "-o", "x", "--repeat", "100"],
            &["sequence.0: found repeat = 18 made 100 times over, allowed is 1 to 1000 in all"],
        ),
    ];
    for (arguments, wanted) in cases {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        for wanted in wanted {
            assert!(said.contains(wanted), "{arguments:?} does not say {wanted}: {said}");
        }
    }
}

#[test]
fn a_small_scene_becomes_a_recording_and_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let scene = folder.path().join("small.toml");
    std::fs::write(
        &scene,
        "[camera]\nwidth = 64\nheight = 36\nrays = 1\n[cube]\nchirps = 8\n[lidar]\ncolumns = 40\n\
         [[sequence]]\nseconds = 0.2\nue = { lane = 3 }\n",
    )
    .unwrap();
    let (out, png) = (folder.path().join("out"), folder.path().join("out.png"));
    let output = run(&[
        scene.to_str().unwrap(),
        "-o",
        out.to_str().unwrap(),
        "--preview",
        png.to_str().unwrap(),
        "--format",
        "json",
    ]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((report["rows"].as_u64(), report["blocked_share"].as_f64()), (Some(2), Some(0.0)));
    let link = folder.path().join("link");
    let (scene, link_path) = (scene.to_str().unwrap(), link.to_str().unwrap());
    let output = run(&[scene, "-o", link_path, "--repeat", "3", "--without", "camera,radar,lidar"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_to_string(link.join("recording.csv")).unwrap().lines().count(), 1 + 3 * 2);
    assert!(link.join("unit1/mmWave_data").is_dir() && !link.join("unit1/camera_data").exists());
    assert!(out.join("recording.csv").is_file());
    assert_eq!(image::image_dimensions(&png).unwrap(), (1440, 1080));
}
