//! Radar: a cube, a range-angle map or a point list to points in the unit frame.
//!
//! | `.npy` | shape | what it is |
//! |---|---|---|
//! | complex64, complex128 | (rx, samples, chirps) | FMCW cube, see [`CubeProcessor`] |
//! | float32, float64 | (n, 5) | point list: x, y, z in m, radial speed in m/s (positive away), intensity in dB |
//! | float32, float64 | (range, angle), angle ≠ 5 | linear magnitude, on the axes of `[radar]` |
//!
//! A cube or a map with a value that is not finite is refused, because one NaN spreads over every cell of an FFT; a
//! point list loses only the points that are not finite.
//!
//! Points of cubes and maps lie in the plane of the array, (r sin α, r cos α, 0) in the radar's mount, whatever
//! `pose.radar.axes` say; those of a point list come in `pose.radar.axes`.

mod axes;
mod cube;
mod peaks;

use std::fmt;
use std::sync::{Mutex, PoisonError};

use nalgebra::{Isometry3, Point3};
use ndarray::{Array2, ArrayD, Ix2, Ix3};

use super::{DecodeError, npy};
use crate::config::{AngleAxis, Pose, Radar};
use crate::sample::{RadarPoint, RadarReading, RangeAngleMap};
use crate::space;
use npy::NpyArray;

pub use axes::RangeAngleAxes;
pub use cube::{CubeMaps, CubeProcessor};
pub use peaks::{PeakRule, find_peaks};

/// Longest axis of a cube.
const MAX_CUBE_AXIS: usize = 4096;

/// Decodes radar readings; keeps FFT plans and buffers.
pub struct RadarDecoder {
    config: Radar,
    mount: Isometry3<f64>,
    sensor: Isometry3<f64>,
    max_points: usize,
    /// Processors at rest: as many as threads have decoded cubes at the same time.
    processors: Mutex<Vec<CubeProcessor>>,
}

impl fmt::Debug for RadarDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RadarDecoder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl RadarDecoder {
    /// A decoder for one radar.
    #[must_use]
    pub fn new(config: Radar, pose: &Pose, max_points: usize) -> Self {
        Self {
            config,
            mount: space::mount_to_unit(pose),
            sensor: space::sensor_to_unit(pose),
            max_points,
            processors: Mutex::new(Vec::new()),
        }
    }

    /// Decodes an `.npy` file.
    ///
    /// # Errors
    /// `wrong_dtype`, `wrong_shape`, `truncated`, `oversize`, `not_finite`, `out_of_range` (a negative magnitude).
    pub fn decode(&self, bytes: &[u8]) -> Result<RadarReading, DecodeError> {
        match npy::read("radar", bytes)? {
            NpyArray::Complex(cube) => self.cube(cube),
            NpyArray::F32(array) => self.floats(array, |value| value),
            NpyArray::F64(array) => self.floats(array, |value| value as f32),
        }
    }

    fn cube(&self, cube: ArrayD<num_complex::Complex32>) -> Result<RadarReading, DecodeError> {
        let wrong_shape = |shape: &[usize]| DecodeError::WrongShape {
            what: "radar cube",
            found: format!("{shape:?}"),
            allowed: format!(
                "(rx, samples, chirps), rx 1 to {}, the others 1 to {MAX_CUBE_AXIS}",
                self.config.angle_bins.min(MAX_CUBE_AXIS)
            ),
        };
        let found = cube.shape().to_vec();
        let cube = cube.into_dimensionality::<Ix3>().map_err(|_| wrong_shape(&found))?;
        let (receivers, samples, chirps) = cube.dim();
        let within = |length: usize, most: usize| (1..=most).contains(&length);
        if !within(receivers, self.config.angle_bins.min(MAX_CUBE_AXIS))
            || !within(samples, MAX_CUBE_AXIS)
            || !within(chirps, MAX_CUBE_AXIS)
        {
            return Err(wrong_shape(&found));
        }
        if let Some(index) = cube.iter().position(|value| !(value.re.is_finite() && value.im.is_finite())) {
            return Err(DecodeError::NotFinite { what: "radar cube", index });
        }
        let processor = self.processors.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut processor = processor.unwrap_or_else(|| CubeProcessor::new(self.config));
        let maps = processor.maps(cube.view());
        // Finite input can still overflow in the sums.
        if let Some(index) = maps.fixed.iter().position(|value| !value.is_finite()) {
            return Err(DecodeError::NotFinite { what: "radar range-angle map", index });
        }
        let points = processor.points(&maps, &self.mount);
        self.processors.lock().unwrap_or_else(PoisonError::into_inner).push(processor);
        Ok(RadarReading { points, map: Some(RangeAngleMap { magnitude: maps.moving }) })
    }

    fn floats<T: Copy>(
        &self,
        array: ArrayD<T>,
        to_f32: impl Fn(T) -> f32,
    ) -> Result<RadarReading, DecodeError> {
        let found = array.shape().to_vec();
        let array = array.into_dimensionality::<Ix2>().map_err(|_| wrong_float_shape(&found))?;
        if array.ncols() == 5 {
            return self.point_list(array.mapv(to_f32));
        }
        if array.is_empty() {
            return Err(wrong_float_shape(&found));
        }
        self.map(array.mapv(to_f32))
    }

    fn point_list(&self, list: Array2<f32>) -> Result<RadarReading, DecodeError> {
        if list.nrows() > self.max_points {
            return Err(DecodeError::oversize("radar points", list.nrows(), self.max_points));
        }
        let mut points = Vec::with_capacity(list.nrows());
        for row in list.rows() {
            let [x, y, z, doppler_mps, power_db] =
                std::array::from_fn(|column| row.get(column).copied().unwrap_or(0.0));
            let place = self.sensor * Point3::new(f64::from(x), f64::from(y), f64::from(z));
            let position = [place.x as f32, place.y as f32, place.z as f32];
            if position.iter().chain([&doppler_mps, &power_db]).all(|value| value.is_finite()) {
                points.push(RadarPoint {
                    position,
                    doppler_mps,
                    power_db,
                    has_doppler: true,
                    is_static: false,
                });
            }
        }
        Ok(RadarReading { points, map: None })
    }

    fn map(&self, magnitude: Array2<f32>) -> Result<RadarReading, DecodeError> {
        for (index, &value) in magnitude.iter().enumerate() {
            if !value.is_finite() {
                return Err(DecodeError::NotFinite { what: "radar range-angle map", index });
            }
            if value < 0.0 {
                return Err(DecodeError::OutOfRange {
                    what: "radar range-angle map",
                    found: format!("{value} at element {index}"),
                    allowed: "0 or more (linear magnitude)",
                });
            }
        }
        let (rows, columns) = magnitude.dim();
        let axes = RangeAngleAxes::new(&self.config, self.config.map_angle, rows, columns);
        let rule = PeakRule {
            wrap_columns: axes.is_circular() || self.config.map_angle == AngleAxis::SinFft,
            row_floor: 0.0,
            most: self.config.max_peaks,
        };
        let points = find_peaks(magnitude.view(), &rule)
            .into_iter()
            .filter_map(|(row, column)| {
                let place = self.mount * axes.point(row, column)?;
                Some(RadarPoint {
                    position: [place.x as f32, place.y as f32, place.z as f32],
                    power_db: decibel(*magnitude.get((row, column))?),
                    ..RadarPoint::default()
                })
            })
            .collect();
        Ok(RadarReading { points, map: Some(RangeAngleMap { magnitude }) })
    }
}

fn wrong_float_shape(found: &[usize]) -> DecodeError {
    DecodeError::WrongShape {
        what: "radar",
        found: format!("{found:?}"),
        allowed: "(n, 5) for points or (range, angle) for a map, or a complex cube".to_owned(),
    }
}

/// Power of a magnitude: 20 log10.
fn decibel(magnitude: f32) -> f32 {
    20.0 * magnitude.log10()
}
