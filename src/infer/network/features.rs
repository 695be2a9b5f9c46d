//! Readings as the numbers that the network takes.

use candle_core::{Device, Result, Tensor};

use crate::config::Codebook;
use crate::frame::LinkReport;
use crate::model::Cloud;
use crate::model::encoders::thin;
use crate::model::resnet::IMAGENET;
use crate::model::sets::{LINK_FEATURES, POSITION_FEATURES};
use crate::sample::{PointCloud, Position, RadarReading};
use crate::time::CaptureTime;

/// Places are given in units of this, metres.
pub(crate) const PLACE_M: f32 = 50.0;
/// Speeds are given in units of this, m/s.
const SPEED_MPS: f32 = 10.0;
/// Numbers from a sensor are kept within this many units: one reading gone wild must not drive the network to infinity.
const MOST_UNITS: f32 = 20.0;
/// Radar power is given in units of this, dB.
const RADAR_DB: f32 = 100.0;
/// Beam power is given in units of this, dB, ...
pub(crate) const LINK_DB: f64 = 10.0;
/// ... and no lower than this.
const LINK_FLOOR_DB: f64 = -60.0;

/// An image resized to a square, which keeps left and right, up and down in order: side × side × RGB.
#[must_use]
pub fn thumbnail(image: &image::RgbImage, side: usize) -> Vec<u8> {
    image::imageops::thumbnail(image, side as u32, side as u32).into_raw()
}

/// Squares of [`thumbnail`] as `[B, 3, side, side]` in 0…1, normalised like ImageNet's.
pub fn images(squares: &[impl AsRef<[u8]>], side: usize, device: &Device) -> Result<Tensor> {
    let (mean, deviation) = IMAGENET;
    let mut numbers = vec![0f32; squares.len() * 3 * side * side];
    for (square, numbers) in squares.iter().zip(numbers.chunks_exact_mut(3 * side * side)) {
        let (pixels, _) = square.as_ref().as_chunks::<3>();
        let channels = numbers.chunks_exact_mut(side * side).zip(mean.iter().zip(&deviation)).enumerate();
        for (channel, (plane, (mean, deviation))) in channels {
            for (number, pixel) in plane.iter_mut().zip(pixels) {
                let value = pixel.get(channel).copied().unwrap_or_default();
                *number = (f32::from(value) / 255.0 - mean) / deviation;
            }
        }
    }
    Tensor::from_vec(numbers, (squares.len(), 3, side, side), device)
}

/// Points of a radar reading, `most` at most.
#[must_use]
pub fn radar(reading: &RadarReading, most: usize) -> Cloud {
    let positions: Vec<[f32; 3]> = reading.points.iter().map(|point| scaled(point.position)).collect();
    let mut cloud = Cloud::default();
    for index in thin(&positions, most) {
        let (Some(point), Some(&position)) =
            (reading.points.get(index as usize), positions.get(index as usize))
        else {
            continue;
        };
        let flag = |flag: bool| f32::from(u8::from(flag));
        cloud.positions.push(position);
        cloud.features.extend(position);
        cloud.features.extend([
            bounded(point.doppler_mps / SPEED_MPS),
            bounded(point.power_db / RADAR_DB),
            flag(point.has_doppler),
            flag(point.is_static),
        ]);
    }
    cloud
}

/// Points of a LiDAR scan, `most` at most.
#[must_use]
pub fn lidar(scan: &PointCloud, most: usize) -> Cloud {
    let mut cloud = Cloud::default();
    let positions: Vec<[f32; 3]> = scan.points.iter().copied().map(scaled).collect();
    for index in thin(&positions, most) {
        if let Some(&position) = positions.get(index as usize) {
            cloud.positions.push(position);
            cloud.features.extend(position);
        }
    }
    cloud
}

fn scaled(position: [f32; 3]) -> [f32; 3] {
    position.map(|metres| bounded(metres / PLACE_M))
}

const fn bounded(units: f32) -> f32 {
    units.clamp(-MOST_UNITS, MOST_UNITS)
}

/// A position whose place in the unit frame is known.
#[must_use]
pub fn position(position: &Position, [x, y, z]: [f32; 3]) -> [f32; POSITION_FEATURES] {
    let range = (x * x + y * y + z * z).sqrt();
    let azimuth = x.atan2(y);
    let speed = position.speed_mps.map(|speed| bounded(speed as f32 / SPEED_MPS));
    [
        bounded(x / PLACE_M),
        bounded(y / PLACE_M),
        bounded(z / PLACE_M),
        range.ln_1p(),
        azimuth.sin(),
        azimuth.cos(),
        speed.unwrap_or_default(),
        f32::from(u8::from(speed.is_some())),
    ]
}

/// `[B, POSITION_FEATURES]`.
pub fn positions(positions: &[[f32; POSITION_FEATURES]], device: &Device) -> Result<Tensor> {
    Tensor::from_vec(positions.concat(), (positions.len(), POSITION_FEATURES), device)
}

/// Sine and cosine of each beam's peak angle, as the codebook says them; where it does not, beams stand evenly over ±45°,
/// or all around where they go round.
pub fn beam_directions(codebook: &Codebook, beams: usize) -> Vec<[f32; 2]> {
    let even = |beam: usize| {
        if codebook.circular {
            360.0 * beam as f64 / beams as f64
        } else {
            -45.0 + 90.0 * (beam as f64 + 0.5) / beams as f64
        }
    };
    let told = codebook.peaks_deg.as_ref().filter(|peaks| peaks.len() == beams);
    let degrees =
        (0..beams).map(|beam| told.and_then(|peaks| peaks.get(beam).copied()).unwrap_or_else(|| even(beam)));
    degrees.map(|angle| angle.to_radians().sin_cos()).map(|(sin, cos)| [sin as f32, cos as f32]).collect()
}

/// The last reports of a UE, seen at t, as a set of [`LINK_FEATURES`] numbers per beam and report. Reports on another
/// number of beams say nothing.
pub fn link(reports: &[&LinkReport], t: CaptureTime, directions: &[[f32; 2]]) -> Vec<f32> {
    let mut elements = Vec::with_capacity(reports.len() * directions.len() * LINK_FEATURES);
    for report in reports {
        let age = (t - report.capture).as_secs_f64() as f32;
        extend_with_report(&mut elements, &report.power.linear, report.best_db, age, directions);
    }
    elements
}

/// One report of linear powers per beam, of which the strongest is `best_db`, `age` seconds old.
pub fn extend_with_report(
    elements: &mut Vec<f32>,
    linear: &[f64],
    best_db: f64,
    age: f32,
    directions: &[[f32; 2]],
) {
    for ([sin, cos], &power) in directions.iter().zip(linear) {
        let measured = !power.is_nan();
        let below = (10.0 * power.max(0.0).log10() - best_db).clamp(LINK_FLOOR_DB, 0.0);
        let below = if measured { (below / LINK_DB) as f32 } else { 0.0 };
        elements.extend([*sin, *cos, below, age, f32::from(u8::from(measured))]);
    }
}

/// Sets of different sizes as one batch `[B, S, LINK_FEATURES]` and its mask `[B, S]`.
pub fn sets(sets: &[Vec<f32>], device: &Device) -> Result<(Tensor, Tensor)> {
    let longest = sets.iter().map(Vec::len).max().unwrap_or_default();
    let size = longest / LINK_FEATURES;
    let (mut elements, mut mask) = (Vec::with_capacity(sets.len() * longest), Vec::new());
    for set in sets {
        elements.extend(set);
        elements.resize(elements.len() + longest - set.len(), 0.0);
        let own = set.len() / LINK_FEATURES;
        mask.extend((0..size).map(|element| f32::from(u8::from(element < own))));
    }
    let elements = Tensor::from_vec(elements, (sets.len(), size, LINK_FEATURES), device)?;
    Ok((elements, Tensor::from_vec(mask, (sets.len(), size), device)?))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sample::{BeamIndex, BeamPower};

    #[test]
    fn beams_without_angles_stand_evenly() {
        let book = Codebook::default();
        let line = beam_directions(&book, 4);
        let degrees: Vec<f32> = line.iter().map(|[sin, cos]| sin.atan2(*cos).to_degrees()).collect();
        for (found, wanted) in degrees.iter().zip([-33.75, -11.25, 11.25, 33.75]) {
            assert!((found - wanted).abs() < 1e-4, "{degrees:?}");
        }
        let told = Codebook { peaks_deg: Some(vec![90.0, 0.0]), ..book };
        assert!((beam_directions(&told, 2)[0][0] - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_report_becomes_one_element_per_beam() {
        let report = LinkReport {
            capture: CaptureTime::from_nanos(500_000_000),
            power: Arc::new(BeamPower { linear: vec![0.1, f64::NAN, 0.0] }),
            best: BeamIndex(0),
            best_db: -10.0,
            reference_db: -10.0,
        };
        let directions = [[0.0, 1.0]; 3];
        let elements = link(&[&report], CaptureTime::from_nanos(750_000_000), &directions);
        let wanted = [[0.0, 1.0, 0.0, 0.25, 1.0], [0.0, 1.0, 0.0, 0.25, 0.0], [0.0, 1.0, -6.0, 0.25, 1.0]];
        assert_eq!(elements, wanted.concat());
        let (batch, mask) = sets(&[elements, Vec::new()], &Device::Cpu).unwrap();
        assert_eq!(batch.dims(), [2, 3, LINK_FEATURES]);
        assert_eq!(mask.to_vec2::<f32>().unwrap(), [[1.0; 3], [0.0; 3]]);
    }
}
