//! Satellite receivers: places in the unit frame as latitude and longitude.

use parry3d::math::Vector;

use super::random::Random;
use super::scene::Scene;
use crate::space::LocalFrame;

/// Latitude and longitude that the UE's receiver reports, degrees.
pub(super) fn observe(scene: &Scene, frame: &LocalFrame, ue: Vector, random: &mut Random) -> [f64; 2] {
    let [east, north] = random.normals().map(|value| f64::from(value) * scene.gps.noise_m);
    let [latitude, longitude, _] =
        frame.geodetic([f64::from(ue.x) + east, f64::from(ue.y) + north, f64::from(ue.z)]);
    [latitude, longitude]
}

/// A file of DeepSense 6G: two lines, to about a millimetre.
pub(super) fn text([latitude, longitude]: [f64; 2]) -> String {
    format!("{latitude:.8}\n{longitude:.8}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Site;
    use crate::simulate::random::Purpose;

    #[test]
    fn a_position_comes_back_within_its_noise() {
        let site = Site { latitude: 33.42, longitude: -111.93, altitude_m: 350.0, heading_deg: 30.0 };
        let scene = Scene { site, ..Scene::default() };
        let frame = LocalFrame::new(&site);
        let mut random = Random::new(1, 0, 0, Purpose::Position);
        let mut errors = 0.0;
        for _ in 0..200 {
            let [lat, lon] = observe(&scene, &frame, Vector::new(4.0, 17.0, 1.6), &mut random);
            let [x, y, _] = frame.locate(lat, lon, None);
            errors += ((x - 4.0).powi(2) + (y - 17.0).powi(2)) / 400.0;
        }
        assert!((errors.sqrt() - 0.5).abs() < 0.1, "{errors}");
    }
}
