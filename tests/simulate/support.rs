//! Small scenes.

use std::path::Path;
use std::sync::Arc;

use mmsense::config::Pipeline;
use mmsense::decode::Decoder;
use mmsense::sample::{CaptureSource, Data, RawSample, Stamps, Stream, UnitId};
use mmsense::simulate::scene::{Scene, parse};
use mmsense::time::{CaptureTime, Moment};

/// Two sequences of three rows, every sensor small; `vehicles` drive in the first one.
pub fn scene(vehicles: &str) -> Scene {
    let text = format!(
        "seed = 5\n[site]\nlatitude = 33.4\nlongitude = -111.9\nheading_deg = 20\n\
         [camera]\nwidth = 160\nheight = 90\nrays = 1\n[lidar]\ncolumns = 160\nfov_deg = 120.0\n[cube]\nchirps = 64\n\
         [[sequence]]\nseconds = 0.3\nue = {{ lane = 3 }}\nvehicles = [{vehicles}]\n\
         [[sequence]]\nseconds = 0.3\nue = {{ lane = 2, at_m = 4.0, speed_mps = -5.0 }}\n"
    );
    parse(Path::new("test.toml"), &text).unwrap()
}

pub fn pipeline(scene: &Scene) -> Pipeline {
    Pipeline {
        site: Some(scene.site),
        pose: scene.pose,
        radar: scene.radar,
        codebook: scene.codebook.clone(),
        ..Pipeline::default()
    }
}

pub fn decode(scene: &Scene, stream: Stream, payload: Vec<u8>) -> Data {
    let capture = CaptureTime::from_nanos(0);
    let raw = RawSample {
        unit: UnitId::new("unit1").unwrap(),
        stream,
        stamps: Stamps {
            capture,
            capture_source: CaptureSource::Synthetic,
            sequence: None,
            arrival: Moment::at(capture),
            transport_ns: None,
        },
        format: None,
        payload: Arc::new(payload),
    };
    Decoder::new(&pipeline(scene)).decode(&raw).unwrap()
}
