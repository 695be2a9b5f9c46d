//! The columns of a point file, and points from them.

use nalgebra::{Isometry3, Point3};

use super::{Row, Slot};
use crate::decode::DecodeError;
use crate::sample::PointCloud;

/// A point file's columns of interest, in the sensor's own axes and in 64 bits: UTM coordinates reach 5.4e6 m, where
/// 32 bits resolve half a metre.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PointTable {
    /// Number of points.
    pub points: usize,
    /// Names of the file's fields, in order.
    pub fields: Vec<String>,
    /// x, y and z in metres; `None` where the file has no such field.
    pub coordinates: [Option<Vec<f64>>; 3],
    /// Intensity in the sensor's unit, where the file has one.
    pub intensity: Option<Vec<f64>>,
}

impl PointTable {
    /// An empty table with the columns of `slots`, and room for `points`, which the caller has checked.
    pub(super) fn new(fields: Vec<String>, slots: &[Option<Slot>], points: usize) -> Self {
        let column = |slot: Slot| slots.contains(&Some(slot)).then(|| Vec::with_capacity(points));
        Self {
            points,
            fields,
            coordinates: [column(Slot::X), column(Slot::Y), column(Slot::Z)],
            intensity: column(Slot::Intensity),
        }
    }

    pub(super) fn push(&mut self, [x, y, z, intensity]: Row) {
        for (column, value) in self.coordinates.iter_mut().zip([x, y, z]) {
            if let Some(column) = column {
                column.push(value);
            }
        }
        if let Some(column) = &mut self.intensity {
            column.push(intensity);
        }
    }

    /// Points in the unit frame; those that are not finite (in 32 bits, after the pose) are dropped and counted.
    /// An intensity that is not finite becomes 0.
    ///
    /// # Errors
    /// `missing_fields` without x, y and z.
    pub fn into_cloud(self, sensor_to_unit: &Isometry3<f64>) -> Result<PointCloud, DecodeError> {
        let [Some(x), Some(y), Some(z)] = &self.coordinates else {
            return Err(DecodeError::MissingFields {
                found: crate::decode::error::printable(&self.fields.join(" ")),
            });
        };
        let mut cloud = PointCloud { points: Vec::with_capacity(x.len()), ..PointCloud::default() };
        if self.intensity.is_some() {
            cloud.intensity.reserve_exact(x.len());
        }
        for (index, ((&x, &y), &z)) in x.iter().zip(y).zip(z).enumerate() {
            let point = sensor_to_unit * Point3::new(x, y, z);
            let point = [point.x as f32, point.y as f32, point.z as f32];
            if !point.iter().all(|coordinate| coordinate.is_finite()) {
                cloud.dropped += 1;
                continue;
            }
            cloud.points.push(point);
            if let Some(&intensity) = self.intensity.as_ref().and_then(|column| column.get(index)) {
                let intensity = intensity as f32;
                cloud.intensity.push(if intensity.is_finite() { intensity } else { 0.0 });
            }
        }
        Ok(cloud)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nalgebra::Translation3;

    #[test]
    fn points_that_are_not_finite_are_dropped_with_their_intensity() {
        let table = PointTable {
            points: 4,
            fields: vec!["x".into(), "y".into(), "z".into(), "intensity".into()],
            coordinates: [
                Some(vec![1.0, f64::NAN, 1e300, 5e6]),
                Some(vec![2.0, 0.0, 0.0, 0.0]),
                Some(vec![3.0, 0.0, 0.0, 0.0]),
            ],
            intensity: Some(vec![7.0, 8.0, 9.0, f64::INFINITY]),
        };
        let shift = Isometry3::from(Translation3::new(-5e6 + 0.25, 0.0, 0.0));
        let cloud = table.into_cloud(&shift).unwrap();
        assert_eq!(cloud.points, [[-4_999_998.75f64 as f32, 2.0, 3.0], [0.25, 0.0, 0.0]]);
        assert_eq!(cloud.intensity, [7.0, 0.0]);
        assert_eq!(cloud.dropped, 2);
    }

    #[test]
    fn a_table_without_z_names_what_it_has() {
        let table = PointTable {
            fields: vec!["x".into(), "y".into(), "label".into()],
            coordinates: [Some(vec![]), Some(vec![]), None],
            ..PointTable::default()
        };
        let error = table.into_cloud(&Isometry3::identity()).unwrap_err();
        assert_eq!(error.to_string(), "point cloud: found fields [x y label], needed are x, y and z");
    }
}
