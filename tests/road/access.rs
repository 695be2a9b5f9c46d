//! The shipped router configuration: mutual TLS, and access by certificate name with default deny.

use std::path::Path;
use std::time::Duration;

use mmsense::sample::Format;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use zenoh::{Session, Wait};

use crate::support::{Client, Unit, free_port, jpeg, live};

/// A certificate authority and certificates of the given names, as PEM files in `folder`.
fn certificates(folder: &Path, names: &[&str]) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "test authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    for name in names {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, *name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// A router with the shipped configuration, but for port and folder.
fn router(folder: &Path, port: u16) -> Session {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/zenoh-router.json5");
    let text = std::fs::read_to_string(file).unwrap();
    let text = text.replace("/etc/mmsense", folder.to_str().unwrap());
    let text = text.replace("tls/[::]:7447", &format!("tls/127.0.0.1:{port}"));
    zenoh::open(zenoh::Config::from_json5(&text).unwrap()).wait().unwrap()
}

/// A client that shows the certificate of `name`.
fn client(folder: &Path, port: u16, name: &str) -> zenoh::Result<Session> {
    let folder = folder.display();
    let text = format!(
        "{{ mode: \"client\", connect: {{ endpoints: [\"tls/localhost:{port}\"], timeout_ms: 5000, exit_on_failure: true }}, \
         scouting: {{ multicast: {{ enabled: false }}, gossip: {{ enabled: false }} }}, \
         transport: {{ link: {{ tls: {{ root_ca_certificate: \"{folder}/ca.pem\", enable_mtls: true, \
         connect_certificate: \"{folder}/{name}.pem\", connect_private_key: \"{folder}/{name}.key\" }} }} }} }}"
    );
    zenoh::open(zenoh::Config::from_json5(&text).unwrap()).wait()
}

#[test]
fn who_may_do_what_goes_by_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let names = ["router", "mmsense-unit", "mmsense-sensor", "mmsense-bs", "mmsense-viewer", "stranger"];
    certificates(folder, &names);
    let port = free_port();
    let _router = router(folder, port);

    let unit = Unit::start_on(live(""), client(folder, port, "mmsense-unit").unwrap());
    let sensor = Client::of(client(folder, port, "mmsense-sensor").unwrap());
    let viewer = Client::of(client(folder, port, "mmsense-viewer").unwrap());
    let other_unit = Client::of(client(folder, port, "mmsense-unit").unwrap());
    let stranger = Client::of(client(folder, port, "stranger").unwrap());
    let seen = viewer.subscribe("mmsense/u/v1/frame");
    let seen_by_stranger = stranger.subscribe("mmsense/u/v1/frame");
    let spied = viewer.subscribe("mmsense/u/v1/sensor/camera");

    for _ in 0..5 {
        sensor.put("sensor/camera", Format::Jpeg, &jpeg(16, 16));
        // Nobody else may say what a sensor sees, nor a sensor or a unit what a radio measures.
        viewer.put("sensor/radar", Format::Npy, &crate::support::radar_points());
        other_unit.put("ue/0/position", Format::Json, br#"{"lat": 0, "lon": 0}"#);
        stranger.put("sensor/lidar", Format::Pcd, &crate::support::pcd());
        sensor.put("ue/0/link/power", Format::Npy, &crate::support::power(1, 1.0));
        std::thread::sleep(Duration::from_millis(100));
    }
    seen.wait_for("a camera frame", |_, frame| frame["modalities"]["camera"]["state"] == "fresh");
    assert!(viewer.get("mmsense/u/v1/frame").contains_key("mmsense/u/v1/frame"), "a late viewer is answered");
    assert!(seen_by_stranger.drain().is_empty());
    assert!(spied.drain().is_empty());
    let summary = unit.finish();
    let received: Vec<&str> = summary.received.keys().map(|modality| modality.name()).collect();
    assert_eq!(received, ["camera"], "{:?}", summary.received);
}

#[test]
fn nobody_comes_in_without_a_certificate_of_our_authority() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certificates(ours.path(), &["router"]);
    certificates(theirs.path(), &["mmsense-unit"]);
    // They trust our router, but bring a certificate of their own authority.
    std::fs::copy(ours.path().join("ca.pem"), theirs.path().join("ca.pem")).unwrap();
    let port = free_port();
    let _router = router(ours.path(), port);
    assert!(client(theirs.path(), port, "mmsense-unit").is_err());
}
