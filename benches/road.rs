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
use mmsense::ingest::Attachment;
use mmsense::ingest::clock::system_time;
use mmsense::publish::DecisionLog;
use mmsense::runtime::{self, Parts, Source};
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

fn main() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let unit = session(&format!("mode: \"peer\", listen: {{ endpoints: [\"tcp/127.0.0.1:{port}\"] }}"));
    let mut pipeline = config::parse(
        Path::new("bench"),
        "[input]\nunits = \"u\"\n[codebook]\nbeams = 64\n[align]\nreference = [\"position\"]\n[output]\nzenoh_config = \"-\"",
    )
    .unwrap();
    pipeline.output.zenoh_config = None;
    let running = runtime::start(Parts {
        predictor: Box::new(Baseline::new(&pipeline.model, &pipeline.codebook, &pipeline.decide)),
        pipeline,
        source: Source::Network(unit.clone()),
        session: Some(unit.clone()),
        log: DecisionLog::hash_only(),
        metrics: Arc::default(),
        on_snapshot: Box::new(|_| {}),
    })
    .unwrap();

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
    for sequence in 0..FRAMES {
        let attachment = Attachment { capture: system_time(), sequence }.to_bytes();
        let put = |key: &str, payload: Vec<u8>, encoding: &'static str| {
            client
                .put(format!("mmsense/u/v1/{key}"), payload)
                .encoding(Encoding::from(encoding))
                .attachment(attachment.as_slice())
                .express(true)
                .wait()
                .unwrap();
        };
        put("ue/0/link/power", power(sequence as usize / 10 % 64), "application/x-npy");
        std::thread::sleep(Duration::from_millis(10));
        heard.try_iter().for_each(drop);
        let sent = Instant::now();
        put("ue/0/position", br#"{"lat": 33.4, "lon": -111.9}"#.to_vec(), "application/json");
        if let Ok(at) = heard.recv_timeout(Duration::from_secs(1)) {
            loopback.record((at - sent).as_nanos() as u64).unwrap();
        }
    }
    running.stop_handle().stop();
    let summary = running.join().unwrap();
    println!("pipeline with the persistence predictor, {FRAMES} frames at about 100 Hz, milliseconds");
    println!("  {:<44} {:>8} {:>8}", "", "p50", "p99");
    for (stage, latency) in &summary.stages {
        let what = if stage == "total" { "last arrival to wire, inside one process" } else { stage };
        println!("  {what:<44} {:>8.3} {:>8.3}", latency.p50_ms, latency.p99_ms);
    }
    let at = |quantile| loopback.value_at_quantile(quantile) as f64 / 1e6;
    println!("  {:<44} {:>8.3} {:>8.3}", "put to callback, over zenoh's TCP loopback", at(0.5), at(0.99));
}
