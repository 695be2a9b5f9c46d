//! The whole road: from the last arrival of a frame to its messages on the wire, inside one process and across zenoh's
//! TCP loopback, with the persistence predictor. Prints medians and 99th percentiles; asserts nothing.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mmsense::config;
use mmsense::infer::Baseline;
use mmsense::ingest::clock::system_time;
use mmsense::ingest::{Attachment, Incoming};
use mmsense::runtime::{self, Parts, Running, Source, Summary};
use zenoh::bytes::Encoding;
use zenoh::{Session, Wait};

const FRAMES: u64 = 1000;

fn session(more: &str) -> Session {
    let text = format!(
        "{{ scouting: {{ multicast: {{ enabled: false }}, gossip: {{ enabled: false }} }}, {more} }}"
    );
    zenoh::open(zenoh::Config::from_json5(&text).unwrap()).wait().unwrap()
}

/// A float64 `.npy` of 64 beam powers.
fn power(best: usize) -> Vec<u8> {
    let mut header = "{'descr': '<f8', 'fortran_order': False, 'shape': (64,), }".to_owned();
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend((0..64).flat_map(|beam: usize| (1.0 / (1 + beam.abs_diff(best)) as f64).to_le_bytes()));
    bytes
}

/// A pipeline for unit `u`, 64 beams, whose frames are opened by positions.
fn start(session: Option<Session>) -> Running {
    let mut pipeline = config::parse(
        Path::new("bench"),
        "[input]\nunits = \"u\"\n[codebook]\nbeams = 64\n[align]\nreference = [\"position\"]\n[output]\nzenoh_config = \"-\"",
    )
    .unwrap();
    pipeline.output.zenoh_config = None;
    runtime::start(Parts {
        predictor: Box::new(Baseline::new(&pipeline.model, &pipeline.codebook, &pipeline.decide)),
        fallback: None,
        pipeline,
        source: Source::Live(session.clone()),
        session,
        log: None,
        metrics: Arc::default(),
        on_snapshot: Box::new(|_| {}),
        on_decided: None,
    })
    .unwrap()
}

fn stop(running: Running) -> Summary {
    running.stop_handle().stop();
    running.join().unwrap()
}

/// Frames at about 100 Hz: a link report, and 10 ms later the position that opens a frame.
fn drive(mut put: impl FnMut(&'static str, Vec<u8>, &'static str, [u8; 16])) {
    for sequence in 0..FRAMES {
        let attachment = Attachment { capture: system_time(), sequence }.to_bytes();
        put("ue/0/link/power", power(sequence as usize / 10 % 64), "application/x-npy", attachment);
        std::thread::sleep(Duration::from_millis(10));
        let attachment = Attachment { capture: system_time(), sequence }.to_bytes();
        put("ue/0/position", br#"{"lat": 33.4, "lon": -111.9}"#.to_vec(), "application/json", attachment);
    }
    std::thread::sleep(Duration::from_millis(100));
}

fn show(what: &str, p50_ms: f64, p99_ms: f64) {
    println!("  {what:<48} {p50_ms:>8.3} {p99_ms:>8.3}");
}

fn show_stages(summary: &Summary) {
    for (stage, latency) in &summary.stages {
        let what = if stage == "total" { "last arrival to published" } else { stage };
        show(what, latency.p50_ms, latency.p99_ms);
    }
}

/// What this machine takes to wake as many threads one after the other as the road has stages, with nothing to do in
/// any of them: the floor under the figures below.
fn show_floor() {
    const THREADS: usize = 4;
    let (first, mut last) = crossbeam_channel::bounded::<Instant>(64);
    for _ in 1..THREADS {
        let (next_in, next) = crossbeam_channel::bounded(64);
        let here = std::mem::replace(&mut last, next);
        std::thread::spawn(move || here.iter().all(|sent| next_in.send(sent).is_ok()));
    }
    let listener = std::thread::spawn(move || {
        let mut took = Histogram::<u64>::new(3).unwrap();
        last.iter().for_each(|sent| took.record(sent.elapsed().as_nanos() as u64).unwrap());
        took
    });
    for _ in 0..FRAMES {
        std::thread::sleep(Duration::from_millis(10));
        first.send(Instant::now()).unwrap();
    }
    drop(first);
    let took = listener.join().unwrap();
    let at = |quantile| took.value_at_quantile(quantile) as f64 / 1e6;
    show("waking 4 threads in a row, nothing else", at(0.5), at(0.99));
}

fn main() {
    println!("persistence predictor, {FRAMES} frames at about 100 Hz, milliseconds          p50      p99");

    show_floor();

    println!("without zenoh");
    let running = start(None);
    let gate = running.gate().unwrap();
    drive(|key, payload, media_type, attachment| {
        gate.take(Incoming {
            key: &format!("mmsense/u/v1/{key}"),
            media_type: Some(media_type.into()),
            payload: Arc::new(payload),
            attachment: Some(attachment.as_slice().into()),
            transport_ns: None,
        });
    });
    show_stages(&stop(running));

    println!("with zenoh over TCP loopback");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let unit = session(&format!("mode: \"peer\", listen: {{ endpoints: [\"tcp/127.0.0.1:{port}\"] }}"));
    let running = start(Some(unit));
    let client = session(&format!("mode: \"client\", connect: {{ endpoints: [\"tcp/127.0.0.1:{port}\"] }}"));
    let (heard_in, heard) = crossbeam_channel::bounded(64);
    let _beams = client
        .declare_subscriber("mmsense/u/v1/ue/0/beam")
        .callback(move |_| {
            let _ = heard_in.try_send(Instant::now());
        })
        .wait()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let mut loopback = Histogram::<u64>::new(3).unwrap();
    drive(|key, payload, encoding, attachment| {
        heard.try_iter().for_each(drop);
        let sent = Instant::now();
        client
            .put(format!("mmsense/u/v1/{key}"), payload)
            .encoding(Encoding::from(encoding))
            .attachment(attachment.as_slice())
            .express(true)
            .wait()
            .unwrap();
        if key.ends_with("position")
            && let Ok(at) = heard.recv_timeout(Duration::from_secs(1))
        {
            loopback.record((at - sent).as_nanos() as u64).unwrap();
        }
    });
    show_stages(&stop(running));
    let at = |quantile| loopback.value_at_quantile(quantile) as f64 / 1e6;
    show("a client's put to its beam callback", at(0.5), at(0.99));
}
