//! Readings as the numbers that the network takes.

use candle_core::{Device, Result, Tensor};

use crate::config::Codebook;
use crate::frame::LinkReport;
use crate::model::Cloud;
use crate::model::encoders::thin;
use crate::model::grid::PLACE_M;
use crate::model::resnet::IMAGENET;
use crate::model::ue::{LINK_BINS, LINK_CHANNELS, LINK_FEATURES, LINK_SLOT_S, LINK_SLOTS, POSITION_FEATURES};
use crate::sample::{PointCloud, Position, RadarReading};
use crate::time::CaptureTime;

/// Speeds are given in units of this, m/s.
const SPEED_MPS: f32 = 10.0;
/// Numbers from a sensor are kept within this many units: one reading gone wild must not drive the network to infinity.
const MOST_UNITS: f32 = 20.0;
/// Radar power is given in units of this, dB.
const RADAR_DB: f32 = 100.0;
/// Beam power below a report's strongest beam is no lower than this, dB.
const LINK_FLOOR_DB: f32 = -60.0;
/// The level of a link is given in units of this, dB.
const LEVEL_DB: f32 = 5.0;
/// Changes of a beam's power count no more than this, dB: a null of the pattern swings by any amount.
const MOST_CHANGE_DB: f32 = 10.0;
/// Changes are told apart down to this, dB.
const LEAST_CHANGE_DB: f32 = 0.05;
/// What beams change by from report to report while nothing moves but noise, dB.
const USUAL_CHANGE_DB: f32 = 0.4;

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

/// One past report, as it is seen at an instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// How old it is, seconds.
    pub age_s: f32,
    /// Its strongest beam against what the link reaches when nothing stands in its way, dB.
    pub level_db: f32,
    /// Power per beam, dB; NaN where not measured.
    pub db: Vec<f32>,
}

impl Heard {
    /// Of linear powers, and what the link reaches ([`LinkReference`](crate::percentile::LinkReference)), dB.
    #[must_use]
    pub fn new(age_s: f32, linear: &[f64], best_db: f64, reference_db: f64) -> Self {
        // No maximum with 0: it would make a number of what was not measured.
        let db = |power: &f64| if *power <= 0.0 { f32::NEG_INFINITY } else { (10.0 * power.log10()) as f32 };
        let level_db = (best_db - reference_db) as f32;
        Self { age_s, level_db, db: linear.iter().map(db).collect() }
    }

    /// Mean change of the beams since an older report, dB; `None` where no beam was measured in both.
    fn change_since(&self, older: &Self) -> Option<f32> {
        let of = |report: &Self| report.strongest().map(|most| most + LINK_FLOOR_DB);
        let (floor, older_floor) = (of(self)?, of(older)?);
        let changes = self.db.iter().zip(&older.db).filter(|(now, then)| !now.is_nan() && !then.is_nan());
        let changes =
            changes.map(|(now, then)| (now.max(floor) - then.max(older_floor)).abs().min(MOST_CHANGE_DB));
        let (sum, count) = changes.fold((0.0, 0u16), |(sum, count), change| (sum + change, count + 1));
        (count > 0).then(|| sum / f32::from(count))
    }

    /// Power of the strongest beam, dB; `None` where none was measured above nothing.
    fn strongest(&self) -> Option<f32> {
        let most = self.db.iter().copied().fold(f32::NAN, f32::max);
        most.is_finite().then_some(most)
    }
}

/// Lays the powers of any number of beams on a fixed number of bins, in two views: by the beam's index, and by the sine of
/// its peak angle.
///
/// A bin's number is the mean over the measured beams, weighed by kernels of their distance: a narrow one, which is all
/// that counts where a beam is near, and two wide and weak ones, which fill gaps.
#[derive(Clone, Debug)]
pub struct BeamGrid {
    beams: usize,
    /// `[2 · LINK_BINS][beams]`
    weights: Vec<Vec<f32>>,
}

impl BeamGrid {
    /// Of beams that look in these directions, (sin, cos) of their peak angles.
    #[must_use]
    pub fn new(directions: &[[f32; 2]]) -> Self {
        let beams = directions.len();
        let kernel = |distance: f64, [near, far, farther]: [f64; 3]| {
            let bell = |width: f64| (-0.5 * (distance / width).powi(2)).exp();
            (bell(near) + 1e-4 * bell(far) + 1e-7 * bell(farther)) as f32
        };
        let step = 1.0 / (LINK_BINS - 1) as f64;
        let of_beams = 1.0 / (beams.max(2) - 1) as f64;
        let widest = directions.iter().map(|[sin, _]| f64::from(sin.abs())).fold(0.75, f64::max);
        let by_index = (0..LINK_BINS).map(|bin| {
            let place = bin as f64 * step;
            let distances = (0..beams).map(|beam| (place - beam as f64 * of_beams) / step.max(of_beams));
            distances.map(|distance| kernel(distance, [0.25, 2.0, 8.0])).collect()
        });
        let by_angle = (0..LINK_BINS).map(|bin| {
            let place = widest * (2.0 * bin as f64 * step - 1.0);
            let scale = widest / 0.75;
            let distances = directions.iter().map(|[sin, _]| (place - f64::from(*sin)) / scale);
            distances.map(|distance| kernel(distance, [0.012, 0.06, 0.3])).collect()
        });
        Self { beams, weights: by_index.chain(by_angle).collect() }
    }

    /// Number of beams.
    #[must_use]
    pub const fn beams(&self) -> usize {
        self.beams
    }

    /// The [`LINK_FEATURES`] numbers of past reports. Each slot of [`LINK_SLOT_S`] takes the report that is nearest to
    /// its age, half a slot away at most (the first slot also what is newer); a report of which no beam was measured is
    /// none.
    #[must_use]
    pub fn features(&self, reports: &[Heard]) -> Vec<f32> {
        let bins = self.weights.len();
        let mut features = vec![0.0; LINK_FEATURES];
        let (of_bins, of_slots) = features.split_at_mut(LINK_SLOTS * LINK_CHANNELS * bins);
        let (there, rest) = of_slots.split_at_mut(LINK_SLOTS);
        let (ages, rest) = rest.split_at_mut(LINK_SLOTS);
        let (levels, changes) = rest.split_at_mut(LINK_SLOTS);
        let of_slots = there.iter_mut().zip(ages).zip(levels.iter_mut().zip(changes));
        let slots = of_bins.chunks_exact_mut(LINK_CHANNELS * bins).zip(of_slots);
        // From the oldest to the newest: a report has changed since the one before it.
        let mut before: Option<&Heard> = None;
        for (slot, (of_bins, ((there, age), (level, change)))) in slots.enumerate().rev() {
            let due = (slot + 1) as f32 * LINK_SLOT_S;
            let off = |report: &Heard| report.age_s - due;
            let belongs = |report: &&Heard| {
                let nearest = (report.age_s / LINK_SLOT_S).round().max(1.0) as usize;
                nearest == slot + 1 && report.db.len() == self.beams
            };
            let found =
                reports.iter().filter(belongs).filter_map(|report| Some((report, report.strongest()?)));
            let Some((report, most)) = found.min_by(|(a, _), (b, _)| off(a).abs().total_cmp(&off(b).abs()))
            else {
                continue;
            };
            *there = 1.0;
            *age = (report.age_s - due) / 0.2;
            // No maximum with a bound: a level that is not known counts as undisturbed.
            *level =
                if report.level_db.is_nan() { 0.0 } else { (report.level_db / LEVEL_DB).clamp(-4.0, 1.0) };
            *change = before
                .and_then(|before| report.change_since(before))
                .map_or(0.0, |change| 2.0 * ((change + LEAST_CHANGE_DB) / USUAL_CHANGE_DB).ln());
            before = Some(report);
            let (linear, exponential) = of_bins.split_at_mut(bins);
            for ((linear, exponential), weights) in linear.iter_mut().zip(exponential).zip(&self.weights) {
                let (mut sums, mut total) = ([0f32; LINK_CHANNELS], 1e-9);
                for (weight, db) in weights.iter().zip(&report.db).filter(|(_, db)| !db.is_nan()) {
                    let below = (db - most).clamp(LINK_FLOOR_DB, 0.0);
                    sums[0] += weight * (below / 5.0 + 0.5).max(-3.0);
                    sums[1] += weight * below.exp();
                    total += weight;
                }
                (*linear, *exponential) = (sums[0] / total, sums[1] / total);
            }
        }
        features
    }
}

/// The last reports of a UE, seen at t, as [`LINK_FEATURES`] numbers. Reports on another number of beams say nothing.
#[must_use]
pub fn link(reports: &[&LinkReport], t: CaptureTime, grid: &BeamGrid) -> Vec<f32> {
    let heard = reports.iter().map(|LinkReport { capture, power, best_db, reference_db, .. }| {
        Heard::new((t - *capture).as_secs_f64() as f32, &power.linear, *best_db, *reference_db)
    });
    grid.features(&heard.collect::<Vec<_>>())
}

/// `[B, LINK_FEATURES]`
pub fn links(reports: &[impl AsRef<[f32]>], device: &Device) -> Result<Tensor> {
    let numbers: Vec<f32> = reports.iter().flat_map(|report| report.as_ref().iter().copied()).collect();
    Tensor::from_vec(numbers, (reports.len(), LINK_FEATURES), device)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn bins(features: &[f32], slot: usize, channel: usize) -> &[f32] {
        let from = (slot * LINK_CHANNELS + channel) * 2 * LINK_BINS;
        &features[from..from + 2 * LINK_BINS]
    }

    #[test]
    fn powers_of_any_number_of_beams_are_laid_on_bins() {
        let book = Codebook::default();
        for beams in [16usize, 64, 100] {
            let grid = BeamGrid::new(&beam_directions(&book, beams));
            // Falls by 6.3 dB from the first beam to the last, however many there are.
            let fall = |share: f64| 10f64.powf(-0.63 * share);
            let linear: Vec<f64> = (0..beams).map(|beam| fall(beam as f64 / (beams - 1) as f64)).collect();
            let mut holed = linear.clone();
            holed[beams / 2] = f64::NAN;
            // A bin goes by the nearest beam, beside the hole by the next one.
            let near = 0.03 + 1.3 / (beams - 1) as f32;
            for powers in [linear, holed] {
                let features = grid.features(&[Heard::new(0.1, &powers, 0.0, 0.0)]);
                assert_eq!(features.len(), LINK_FEATURES);
                for (bin, &found) in bins(&features, 0, 0)[..LINK_BINS].iter().enumerate() {
                    let wanted = 0.5 - 6.3 / 5.0 * bin as f32 / (LINK_BINS - 1) as f32;
                    assert!(
                        (found - wanted).abs() < near,
                        "{beams} beams, bin {bin}: {found}, wanted {wanted}"
                    );
                }
            }
        }
    }

    #[test]
    fn each_slot_takes_the_report_nearest_to_its_age() {
        let grid = BeamGrid::new(&beam_directions(&Codebook::default(), 4));
        let heard = |age_s: f32, best: usize| {
            let mut linear = [0.1; 4];
            linear[best] = 1.0;
            Heard::new(age_s, &linear, 0.0, 0.0)
        };
        let none = Heard::new(0.4, &[f64::NAN; 4], 0.0, 0.0);
        let features = grid.features(&[heard(0.32, 3), heard(0.29, 2), heard(0.01, 1), heard(2.0, 0), none]);
        let there = &features[LINK_SLOTS * LINK_CHANNELS * 2 * LINK_BINS..][..LINK_SLOTS];
        assert_eq!(there, [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let ages = &features[LINK_SLOTS * (LINK_CHANNELS * 2 * LINK_BINS + 1)..];
        assert!((ages[0] + 0.45).abs() < 1e-6 && (ages[2] + 0.05).abs() < 1e-6, "{ages:?}");
        let strongest = |slot: usize| {
            let own = &bins(&features, slot, 1)[..LINK_BINS];
            (0..LINK_BINS).max_by(|&a, &b| own[a].total_cmp(&own[b])).unwrap()
        };
        assert_eq!([strongest(0) / 21, strongest(2) / 21], [1, 2]);
        assert!(bins(&features, 1, 0).iter().all(|&number| number == 0.0));
    }

    /// Levels, then changes.
    fn whole(features: &[f32]) -> (&[f32], &[f32]) {
        features[LINK_FEATURES - 2 * LINK_SLOTS..].split_at(LINK_SLOTS)
    }

    #[test]
    fn a_report_is_told_from_the_one_before_and_from_a_clear_link() {
        let grid = BeamGrid::new(&beam_directions(&Codebook::default(), 4));
        let heard =
            |age_s: f32, linear: [f64; 4], level_db: f64| Heard::new(age_s, &linear, level_db - 40.0, -40.0);
        let nan = f64::NAN;
        let features = grid.features(&[
            // All beams 3 dB lower, one of them not measured; then one up and one down by 2 dB, two as they were.
            heard(0.1, [0.5 * 10f64.powf(0.2), 0.05 * 10f64.powf(-0.2), 0.005, 0.0005], -6.0),
            heard(0.4, [0.5, 0.05, 0.005, nan], -3.0),
            heard(0.6, [1.0, 0.1, 0.01, 0.001], 0.0),
        ]);
        let (levels, changes) = whole(&features);
        for (found, wanted) in levels.iter().zip([-1.2, 0.0, 0.0, -0.6, 0.0, 0.0, 0.0, 0.0]) {
            assert!((found - wanted).abs() < 1e-5, "{levels:?}");
        }
        let log = |change: f32| 2.0 * ((change + LEAST_CHANGE_DB) / USUAL_CHANGE_DB).ln();
        let wanted = [log(4.0 / 3.0), 0.0, 0.0, log(10.0 * 2f32.log10()), 0.0, 0.0, 0.0, 0.0];
        for (found, wanted) in changes.iter().zip(wanted) {
            assert!((found - wanted).abs() < 1e-4, "{changes:?}, wanted {wanted}");
        }
    }

    #[test]
    fn wild_powers_are_finite_numbers() {
        let grid = BeamGrid::new(&beam_directions(&Codebook::default(), 4));
        let tiny = f64::MIN_POSITIVE;
        for (best_db, reference_db) in
            [(f64::NEG_INFINITY, -40.0), (f64::NAN, 0.0), (0.0, f64::NEG_INFINITY), (f64::MAX, f64::MIN)]
        {
            let features = grid.features(&[
                Heard::new(0.1, &[0.0, 0.0, 1e300, f64::NAN], best_db, reference_db),
                Heard::new(0.2, &[tiny, 0.0, f64::NAN, f64::NAN], best_db, reference_db),
                Heard::new(0.3, &[f64::NAN, f64::NAN, f64::NAN, 1.0], best_db, reference_db),
            ]);
            assert!(features.iter().all(|number| number.is_finite()), "{best_db} {reference_db}");
        }
    }
}
