//! The program as its users run it: arguments, exit codes, signals, two processes.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::replay::small_recording;
use crate::support::{Client, free_port};

fn mmsense() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mmsense"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("RUST_LOG");
    command
}

fn run(arguments: &[&str]) -> Output {
    mmsense().args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Waits at most 20 s.
fn wait(mut child: Child) -> (ExitStatus, String) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            let mut out = String::new();
            if let Some(stdout) = &mut child.stdout {
                stdout.read_to_string(&mut out).unwrap();
            }
            return (status, out);
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it did not end within 20 s");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A copy of the roadside pipeline on a free port.
fn roadside(folder: &Path) -> (PathBuf, u16) {
    let port = free_port();
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let zenoh = std::fs::read_to_string(top.join("config/zenoh-peer.json5")).unwrap();
    std::fs::write(folder.join("peer.json5"), zenoh.replace("7447", &port.to_string())).unwrap();
    let pipeline = std::fs::read_to_string(top.join("pipelines/roadside.toml")).unwrap();
    let pipeline =
        pipeline.replace("../config/zenoh-peer.json5", "peer.json5").replace("beams = 64", "beams = 8");
    let file = folder.join("roadside.toml");
    std::fs::write(&file, pipeline).unwrap();
    (file, port)
}

fn start_unit(folder: &Path) -> (Child, u16) {
    let (pipeline, port) = roadside(folder);
    let child = mmsense()
        .args(["--format", "json", "run", pipeline.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < deadline, "the unit does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    (child, port)
}

#[test]
fn what_the_user_got_wrong_is_one_clear_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.toml");
    std::fs::write(&bad, "[align]\nmax_wait_ms = -5\nspeed = 3\n[decide]\nsweep = 0\n").unwrap();
    let bad = bad.to_str().unwrap();
    let cases: [(&[&str], &[&str]); 6] = [
        (
            &["run", bad],
            &["align.max_wait_ms: found -5, allowed is 0 to 10000", "align.speed", "decide.sweep"],
        ),
        (&["validate", bad], &["align.max_wait_ms"]),
        (&["run", "pipelines/nowhere.toml"], &["pipelines/nowhere.toml"]),
        (&["run", "pipelines/replay.toml", "--recording", "/nowhere"], &["/nowhere"]),
        (&["run", "pipelines/replay.toml"], &["--recording"]),
        (&["info", "/nowhere"], &["/nowhere"]),
    ];
    for (arguments, wanted) in cases {
        let output = run(arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        for wanted in wanted {
            assert!(said.contains(wanted), "{arguments:?} does not say {wanted}: {said}");
        }
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_port_in_use_is_one_clear_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let (pipeline, port) = roadside(folder.path());
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let output = run(&["run", pipeline.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains(&port.to_string()), "{}", stderr(&output));
    let errors: Vec<String> =
        stderr(&output).lines().filter(|line| line.starts_with("error:")).map(str::to_owned).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
}

#[test]
fn every_shipped_pipeline_is_valid() {
    for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")).unwrap() {
        let file = file.unwrap().path();
        let output = run(&["validate", file.to_str().unwrap()]);
        assert!(output.status.success(), "{}", stderr(&output));
    }
}

#[test]
fn the_first_interrupt_finishes_and_prints_the_summary() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["-INT", "-TERM"] {
        let (child, _) = start_unit(folder.path());
        std::thread::sleep(Duration::from_millis(500));
        signal(&child, name);
        let (status, out) = wait(child);
        assert_eq!(status.code(), Some(0), "{out}");
        let last: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        assert_eq!(last["type"], "summary");
    }
}

#[test]
fn a_log_that_nobody_reads_costs_the_unit_nothing() {
    // stderr: once a pipe whose reader is gone, once a pipe that is never read.
    for keep_reader in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (pipeline, port) = roadside(folder.path());
        let mut child = mmsense()
            .args(["--format", "json", "run", pipeline.to_str().unwrap()])
            .env("RUST_LOG", "trace")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().filter(|_| keep_reader);
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the unit does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        let client = Client::connect(port);
        let health = client.subscribe("mmsense/unit1/v1/health");
        for _ in 0..3 {
            health.next("health");
        }
        signal(&child, "-INT");
        let (status, out) = wait(child);
        assert_eq!(status.code(), Some(0), "{keep_reader}: {out}");
        drop(stderr);
    }
}

#[test]
fn a_slow_replay_ends_on_interrupt_with_its_summary() {
    let folder = tempfile::tempdir().unwrap();
    small_recording(&folder.path().join("recording"));
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pipeline = std::fs::read_to_string(top.join("pipelines/replay.toml")).unwrap();
    let file = folder.path().join("replay.toml");
    let quiet = pipeline.replace("zenoh_config = \"../config/zenoh-replay.json5\"", "");
    std::fs::write(&file, quiet).unwrap();
    let child = mmsense()
        .args(["run", file.to_str().unwrap(), "--rate", "0.001"])
        .args(["--recording", folder.path().join("recording").to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    signal(&child, "-INT");
    let (status, out) = wait(child);
    assert_eq!(status.code(), Some(0), "{out}");
    assert!(out.contains("sha256"), "{out}");
}

#[test]
fn a_recording_replayed_from_another_process_is_decided() {
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("recording");
    small_recording(&recording);
    let (unit, port) = start_unit(folder.path());
    let client =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/zenoh-client.json5"))
            .unwrap();
    let client_file = folder.path().join("client.json5");
    std::fs::write(&client_file, client.replace("7447", &port.to_string())).unwrap();
    let output = mmsense()
        .args(["--format", "json", "replay", recording.to_str().unwrap(), "--duration", "3"])
        .args(["--zenoh", client_file.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let replayed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(replayed["published"]["link"], 20, "{replayed}");
    assert_eq!((&replayed["published"]["camera"], &replayed["absent"]["camera"]), (&19.into(), &1.into()));
    signal(&unit, "-INT");
    let (status, out) = wait(unit);
    assert_eq!(status.code(), Some(0), "{out}");
    let summary: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    let received = &summary["summary"]["received"];
    assert_eq!((&received["link"], &received["camera"]), (&20.into(), &19.into()), "{summary}");
    let scored = summary["summary"]["units"]["unit1"]["score"]["beam"]["count"].as_u64().unwrap();
    assert!(scored >= 12, "{summary}");
}

#[test]
fn replay_waits_for_a_unit_and_ends_on_interrupt() {
    let folder = tempfile::tempdir().unwrap();
    let recording = folder.path().join("recording");
    small_recording(&recording);
    let config = folder.path().join("client.json5");
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/zenoh-client.json5"))
            .unwrap();
    std::fs::write(&config, text.replace("7447", &free_port().to_string())).unwrap();
    let mut child = mmsense()
        .args(["replay", recording.to_str().unwrap(), "--zenoh", config.to_str().unwrap()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let said = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("waiting for a unit")));
    assert!(said.is_some());
    signal(&child, "-INT");
    let (status, _) = wait(child);
    assert_eq!(status.code(), Some(3));
}
