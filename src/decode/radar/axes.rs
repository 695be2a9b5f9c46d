//! What the rows and columns of a range-angle map mean.

use nalgebra::{Isometry3, Point3};

use crate::config::{AngleAxis, Radar};

/// The axes of a range-angle map of a given shape. α counts from boresight, positive to the right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RangeAngleAxes {
    rows: usize,
    columns: usize,
    range_bin_m: f64,
    angle: Angle,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Angle {
    /// sin α = (column − zero) · step
    Sin { zero: f64, step: f64 },
    /// α = first + column · step, in degrees
    Degrees { first: f64, step: f64, circular: bool },
}

impl RangeAngleAxes {
    /// The axes of a map with `rows` ranges and `columns` angles.
    ///
    /// A shifted angle FFT of N bins has sin α = k·λ/(N·d) for bin k = column − ⌊N/2⌋, or its negative where the
    /// configuration says that phase falls to the right. A degree axis that comes round to 360° is circular.
    #[must_use]
    pub fn new(radar: &Radar, axis: AngleAxis, rows: usize, columns: usize) -> Self {
        let angle = match axis {
            AngleAxis::SinFft => {
                let sign = if radar.phase_grows_right { 1.0 } else { -1.0 };
                let step = sign * radar.wavelength_m / (columns as f64 * radar.rx_spacing_m);
                Angle::Sin { zero: (columns / 2) as f64, step }
            }
            AngleAxis::Degrees { first, step } => {
                let circular = (columns as f64 * step.abs() - 360.0).abs() < step.abs() / 2.0;
                Angle::Degrees { first, step, circular }
            }
        };
        Self { rows, columns, range_bin_m: radar.range_bin_m, angle }
    }

    /// Whether the last column is next to the first.
    #[must_use]
    pub const fn is_circular(&self) -> bool {
        matches!(self.angle, Angle::Degrees { circular: true, .. })
    }

    /// Range of a row in metres.
    #[must_use]
    pub fn range_of(&self, row: usize) -> f64 {
        row as f64 * self.range_bin_m
    }

    /// α of a column in radians; `None` where |sin α| > 1, which no target can give.
    #[must_use]
    pub fn angle_of(&self, column: usize) -> Option<f64> {
        match self.angle {
            Angle::Sin { zero, step } => {
                let sine = (column as f64 - zero) * step;
                // λ/(N·d) is not a binary fraction: the outermost bin may land a rounding error outside.
                (sine.abs() <= 1.0 + 1e-9).then(|| sine.clamp(-1.0, 1.0).asin())
            }
            Angle::Degrees { first, step, .. } => Some((first + column as f64 * step).to_radians()),
        }
    }

    /// The place of a cell in the radar's mount, in the plane of the array: (r sin α, r cos α, 0).
    #[must_use]
    pub fn point(&self, row: usize, column: usize) -> Option<Point3<f64>> {
        let (sin, cos) = self.angle_of(column)?.sin_cos();
        let range = self.range_of(row);
        Some(Point3::new(range * sin, range * cos, 0.0))
    }

    /// The cell nearest to a point of the unit frame, seen from a radar whose mount stands at `mount`
    /// ([`crate::space::mount_to_unit`]); `None` outside the map.
    ///
    /// An array along x measures the cone angle, sin α = x/|p|, and only looks forward; a turning radar measures the
    /// azimuth atan2(x, y).
    #[must_use]
    pub fn cell_of(&self, point: &Point3<f64>, mount: &Isometry3<f64>) -> Option<(usize, usize)> {
        let seen = mount.inverse_transform_point(point);
        let range = seen.coords.norm();
        let row = index(range / self.range_bin_m, self.rows)?;
        let column = match self.angle {
            Angle::Sin { zero, step } => {
                if seen.y < 0.0 || range == 0.0 {
                    return None;
                }
                let bin = (seen.x / range / step).round();
                // Bins +N/2 and −N/2 are one.
                let half = if self.columns.is_multiple_of(2) { zero } else { zero + 1.0 };
                index(if bin == half { 0.0 } else { bin + zero }, self.columns)?
            }
            Angle::Degrees { first, step, circular } => {
                let turn = seen.x.atan2(seen.y).to_degrees() - first;
                // The column counted upwards from `first`, in whichever direction the columns run.
                let column = (turn * step.signum()).rem_euclid(360.0) / step.abs();
                let last_half = column.round() as usize == self.columns && circular;
                // Just before the first column is still nearest to it.
                let before_first = column - 360.0 / step.abs() >= -0.5;
                if last_half || (!circular && before_first) { 0 } else { index(column, self.columns)? }
            }
        };
        Some((row, column))
    }
}

/// The nearest index, if it is one of `length`.
fn index(value: f64, length: usize) -> Option<usize> {
    let nearest = value.round();
    (nearest >= 0.0 && nearest < length as f64).then_some(nearest as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Pose;
    use crate::space::mount_to_unit;

    fn radar(range_bin_m: f64) -> Radar {
        Radar { range_bin_m, ..Radar::default() }
    }

    fn cells_come_back(axes: &RangeAngleAxes, columns: usize) {
        let mount = mount_to_unit(&Pose { position_m: [3.0, -2.0, 4.0], yaw_deg: 25.0, ..Pose::default() });
        for column in 0..columns {
            for row in [1, 17, 99] {
                if let Some(point) = axes.point(row, column) {
                    assert_eq!(axes.cell_of(&(mount * point), &mount), Some((row, column)));
                }
            }
        }
    }

    #[test]
    fn cells_and_points_are_inverse() {
        for columns in [63, 64] {
            cells_come_back(&RangeAngleAxes::new(&radar(0.5), AngleAxis::SinFft, 100, columns), columns);
        }
        for (first, step, columns) in
            [(-4.0, 0.9, 400), (170.0, -0.9, 400), (-45.0, 1.0, 91), (45.0, -1.0, 91)]
        {
            let axis = AngleAxis::Degrees { first, step };
            cells_come_back(&RangeAngleAxes::new(&radar(0.5), axis, 100, columns), columns);
        }
    }

    #[test]
    fn right_is_right() {
        let identity = Isometry3::identity();
        let point = Point3::new(5.0, 75f64.sqrt(), 0.0); // 10 m, 30° to the right
        let axes = RangeAngleAxes::new(&radar(1.0), AngleAxis::SinFft, 20, 64);
        assert_eq!(axes.cell_of(&point, &identity), Some((10, 48)));
        let mirrored = Radar { phase_grows_right: false, ..radar(1.0) };
        let axes = RangeAngleAxes::new(&mirrored, AngleAxis::SinFft, 20, 64);
        assert_eq!(axes.cell_of(&point, &identity), Some((10, 16)));
        let turning = AngleAxis::Degrees { first: -4.0, step: 0.9 };
        let axes = RangeAngleAxes::new(&radar(1.0), turning, 20, 400);
        assert_eq!(axes.cell_of(&point, &identity), Some((10, 38)));
        // −4.4° is nearer to −4° (column 0) than to −4.9° (column 399); behind is seen as well.
        let at = |degrees: f64| {
            let (sin, cos) = degrees.to_radians().sin_cos();
            axes.cell_of(&Point3::new(9.0 * sin, 9.0 * cos, 0.0), &identity)
        };
        assert_eq!((at(-4.4), at(-4.5), at(180.0)), (Some((9, 0)), Some((9, 399)), Some((9, 204))));
    }

    #[test]
    fn outside_is_nowhere() {
        let identity = Isometry3::identity();
        let axes = RangeAngleAxes::new(&radar(1.0), AngleAxis::SinFft, 20, 64);
        assert_eq!(axes.cell_of(&Point3::new(0.0, -5.0, 0.0), &identity), None);
        assert_eq!(axes.cell_of(&Point3::new(0.0, 25.0, 0.0), &identity), None);
        let sector = AngleAxis::Degrees { first: -45.0, step: 1.0 };
        let axes = RangeAngleAxes::new(&radar(1.0), sector, 20, 91);
        assert_eq!(axes.cell_of(&Point3::new(9.0, 1.0, 0.0), &identity), None);
        assert_eq!(axes.cell_of(&Point3::new(-9.0, 1.0, 0.0), &identity), None);
        // Antennas closer than half a wavelength: the outer bins are no angles.
        let close = Radar { rx_spacing_m: radar(1.0).wavelength_m / 4.0, ..radar(1.0) };
        let axes = RangeAngleAxes::new(&close, AngleAxis::SinFft, 20, 64);
        assert_eq!(axes.angle_of(0), None);
        assert!(axes.angle_of(16).is_some() && axes.angle_of(15).is_none());
    }
}
