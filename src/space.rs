//! Where things are: sensor poses, the unit frame, and positions on Earth.
//!
//! The unit frame has x right, y along boresight and z up, in metres.

use nalgebra::{Isometry3, Matrix3, Rotation3, Translation3, UnitQuaternion, Vector3};

use crate::config::{Axes, Pose, Site};

/// Speed of light in vacuum, m/s.
pub const LIGHT_MPS: f64 = 299_792_458.0;

/// From the axes in which a sensor counts its points to the unit frame.
#[must_use]
pub fn sensor_to_unit(pose: &Pose) -> Isometry3<f64> {
    let axes = match pose.axes {
        Axes::RightForwardUp => Matrix3::identity(),
        // x' = −y, y' = x, z' = z
        Axes::ForwardLeftUp => Matrix3::new(0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0),
        // x' = x, y' = z, z' = −y
        Axes::RightDownForward => Matrix3::new(1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0),
    };
    mount_to_unit(pose) * UnitQuaternion::from_rotation_matrix(&Rotation3::from_matrix_unchecked(axes))
}

/// From a sensor's mount (x right, y along the sensor's own boresight, z up) to the unit frame, whatever axes the
/// sensor's points have: R = R_z(yaw) R_x(pitch) R_y(roll), then the position.
#[must_use]
pub fn mount_to_unit(pose: &Pose) -> Isometry3<f64> {
    let turn = |axis, degrees: f64| UnitQuaternion::from_axis_angle(&axis, degrees.to_radians());
    let rotation = turn(Vector3::z_axis(), pose.yaw_deg)
        * turn(Vector3::x_axis(), pose.pitch_deg)
        * turn(Vector3::y_axis(), pose.roll_deg);
    Isometry3::from_parts(Translation3::from(Vector3::from(pose.position_m)), rotation)
}

/// WGS 84 semi-major axis, metres.
const SEMI_MAJOR_M: f64 = 6_378_137.0;
/// WGS 84 flattening.
const FLATTENING: f64 = 1.0 / 298.257_223_563;

/// The unit frame of a site, as seen from a satellite receiver.
#[derive(Clone, Copy, Debug)]
pub struct LocalFrame {
    origin: Vector3<f64>,
    /// Rows: east, north, up in Earth-centred coordinates.
    enu: Matrix3<f64>,
    altitude_m: f64,
    heading: f64,
}

impl LocalFrame {
    /// The frame of a site.
    #[must_use]
    pub fn new(site: &Site) -> Self {
        let (sin_lat, cos_lat) = site.latitude.to_radians().sin_cos();
        let (sin_lon, cos_lon) = site.longitude.to_radians().sin_cos();
        Self {
            origin: earth_centred(site.latitude, site.longitude, site.altitude_m),
            #[rustfmt::skip]
            enu: Matrix3::new(
                -sin_lon,           cos_lon,            0.0,
                -sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat,
                cos_lat * cos_lon,  cos_lat * sin_lon,  sin_lat,
            ),
            altitude_m: site.altitude_m,
            heading: site.heading_deg.to_radians(),
        }
    }

    /// A place in the unit frame, metres; without an altitude it stands as high as the site.
    ///
    /// Both places go to Earth-centred coordinates, their difference to east, north, up (e, n, u) at the site, and
    /// with the heading h clockwise from north: x = e cos h − n sin h, y = e sin h + n cos h, z = u.
    #[must_use]
    pub fn locate(&self, latitude: f64, longitude: f64, altitude_m: Option<f64>) -> [f64; 3] {
        let place = earth_centred(latitude, longitude, altitude_m.unwrap_or(self.altitude_m));
        let enu = self.enu * (place - self.origin);
        let (sin, cos) = self.heading.sin_cos();
        [enu.x * cos - enu.y * sin, enu.x * sin + enu.y * cos, enu.z]
    }

    /// Latitude and longitude in degrees and altitude in metres of a place in the unit frame: the inverse of
    /// [`LocalFrame::locate`].
    #[must_use]
    pub fn geodetic(&self, [x, y, z]: [f64; 3]) -> [f64; 3] {
        let (sin, cos) = self.heading.sin_cos();
        let enu = Vector3::new(x * cos + y * sin, -x * sin + y * cos, z);
        geodetic(self.origin + self.enu.transpose() * enu)
    }
}

/// Earth-centred, Earth-fixed coordinates to latitude, longitude (WGS 84, degrees) and altitude (metres): the latitude
/// by fixed-point iteration, whose error shrinks by e² = 0.0067 per step.
fn geodetic(place: Vector3<f64>) -> [f64; 3] {
    let eccentricity2 = FLATTENING * (2.0 - FLATTENING);
    let axis_distance = place.x.hypot(place.y);
    let mut latitude = place.z.atan2(axis_distance * (1.0 - eccentricity2));
    let mut altitude = 0.0;
    for _ in 0..6 {
        let (sin, cos) = latitude.sin_cos();
        let normal = SEMI_MAJOR_M / (1.0 - eccentricity2 * sin * sin).sqrt();
        // p cos φ + z sin φ = N (1 − e² sin² φ) + h, without the poles' division by zero.
        altitude = axis_distance * cos + place.z * sin - normal * (1.0 - eccentricity2 * sin * sin);
        latitude = place.z.atan2(axis_distance * (1.0 - eccentricity2 * normal / (normal + altitude)));
    }
    [latitude.to_degrees(), place.y.atan2(place.x).to_degrees(), altitude]
}

/// Geodetic (WGS 84, degrees, metres) to Earth-centred, Earth-fixed coordinates.
fn earth_centred(latitude: f64, longitude: f64, altitude_m: f64) -> Vector3<f64> {
    let eccentricity2 = FLATTENING * (2.0 - FLATTENING);
    let (sin_lat, cos_lat) = latitude.to_radians().sin_cos();
    let (sin_lon, cos_lon) = longitude.to_radians().sin_cos();
    let normal = SEMI_MAJOR_M / (1.0 - eccentricity2 * sin_lat * sin_lat).sqrt();
    Vector3::new(
        (normal + altitude_m) * cos_lat * cos_lon,
        (normal + altitude_m) * cos_lat * sin_lon,
        (normal * (1.0 - eccentricity2) + altitude_m) * sin_lat,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use nalgebra::Point3;

    fn near(found: Point3<f64>, expected: [f64; 3]) {
        assert!((found - Point3::from(expected)).norm() < 1e-9, "{found} instead of {expected:?}");
    }

    #[test]
    fn every_axes_convention_puts_forward_along_y() {
        let pose = |axes| sensor_to_unit(&Pose { axes, position_m: [10.0, 20.0, 5.0], ..Pose::default() });
        // 3 m forward, 2 m to the right, 1 m up, in each convention.
        near(pose(Axes::RightForwardUp) * Point3::new(2.0, 3.0, 1.0), [12.0, 23.0, 6.0]);
        near(pose(Axes::ForwardLeftUp) * Point3::new(3.0, -2.0, 1.0), [12.0, 23.0, 6.0]);
        near(pose(Axes::RightDownForward) * Point3::new(2.0, -1.0, 3.0), [12.0, 23.0, 6.0]);
    }

    #[test]
    fn turns_have_the_signs_of_their_description() {
        let forward = Point3::new(0.0, 1.0, 0.0);
        let half = 0.5f64.sqrt();
        near(mount_to_unit(&Pose { yaw_deg: 45.0, ..Pose::default() }) * forward, [-half, half, 0.0]);
        near(mount_to_unit(&Pose { pitch_deg: 45.0, ..Pose::default() }) * forward, [0.0, half, half]);
        let up = Point3::new(0.0, 0.0, 1.0);
        near(mount_to_unit(&Pose { roll_deg: 45.0, ..Pose::default() }) * up, [half, 0.0, half]);
        // Pitch is about the yawed x axis: looking left and down.
        let pose = Pose { yaw_deg: 90.0, pitch_deg: -30.0, ..Pose::default() };
        near(mount_to_unit(&pose) * forward, [-(30f64.to_radians().cos()), 0.0, -0.5]);
        // The mount of a camera does not depend on its axes, its points do.
        let camera = Pose { axes: Axes::RightDownForward, ..pose };
        near(mount_to_unit(&camera) * forward, [-(30f64.to_radians().cos()), 0.0, -0.5]);
        near(sensor_to_unit(&camera) * Point3::new(0.0, 0.0, 1.0), [-(30f64.to_radians().cos()), 0.0, -0.5]);
    }

    #[test]
    fn positions_match_hand_computed_metres() {
        // At the equator one degree of longitude is a·π/180 = 111,319.491 m and one of latitude a(1−e²)·π/180 =
        // 110,574.276 m; over 0.001° the curvature is below a millimetre.
        let site = Site { latitude: 0.0, longitude: 0.0, altitude_m: 0.0, heading_deg: 0.0 };
        let [x, y, z] = LocalFrame::new(&site).locate(0.001, 0.001, None);
        assert!((x - 111.319).abs() < 1e-3 && (y - 110.574).abs() < 1e-3 && z.abs() < 3e-3, "{x} {y} {z}");
        // Heading east: boresight is east, north lies to the left.
        let east = LocalFrame::new(&Site { heading_deg: 90.0, ..site });
        let [x, y, z] = east.locate(0.001, 0.001, Some(7.0));
        assert!(
            (x + 110.574).abs() < 1e-2 && (y - 111.319).abs() < 1e-2 && (z - 7.0).abs() < 3e-3,
            "{x} {y} {z}"
        );
        // At 33.42° N (Tempe): N cos φ · 1e-4° = 9.2987 m east for N = 6,384,622.6 m.
        let tempe = Site { latitude: 33.42, longitude: -111.93, altitude_m: 350.0, heading_deg: 0.0 };
        let [x, y, _] = LocalFrame::new(&tempe).locate(33.42, -111.9299, None);
        let normal = 6_378_137.0 / (1.0 - 0.006_694_379_990_14 * 33.42f64.to_radians().sin().powi(2)).sqrt();
        let expected = (normal + 350.0) * 33.42f64.to_radians().cos() * 1e-4f64.to_radians();
        assert!((x - expected).abs() < 1e-4 && y.abs() < 1e-4, "{x} {y} instead of {expected}");
    }

    #[test]
    fn geodetic_is_the_inverse_of_locate() {
        for (latitude, longitude, heading_deg) in
            [(33.42, -111.93, 20.0), (-77.0, 179.9, 300.0), (0.0, 0.0, 0.0)]
        {
            let site = Site { latitude, longitude, altitude_m: 350.0, heading_deg };
            let frame = LocalFrame::new(&site);
            let [lat, lon, altitude] = frame.geodetic([12.0, 34.0, -5.0]);
            let [x, y, z] = frame.locate(lat, lon, Some(altitude));
            assert!((x - 12.0).abs() + (y - 34.0).abs() + (z + 5.0).abs() < 1e-6, "{x} {y} {z}");
        }
    }
}
