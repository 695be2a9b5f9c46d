//! What it was like when a sequence was recorded: the light, the weather, what failed. Figures are told apart by it.
//!
//! A simulated recording says so in the `scene.toml` beside it. The light is one of `day`, `low sun`, `dusk` and `night`; behind
//! it stands, comma by comma, what else there was: `power cut`, `fog`, `rain`, `soiled camera`, `soiled LiDAR`, `interference`,
//! `losses`, `reports lost`, `positions lost`.
//!
//! | word | when |
//! |---|---|
//! | `night` | the sun stands below −6°: civil twilight is over |
//! | `dusk` | the sun stands from −6° to 0° |
//! | `low sun` | the sun stands up to 25° high, within 30° of where the unit looks, and no cloud covers half of the sky |
//! | `day` | else |
//! | `power cut` | the sun is down, and no lamp of the street burns |
//! | `fog` | visibility below 1000 m, as meteorology has it |
//! | `rain` | at least 0.5 mm/h |
//! | `interference` | another radar disturbs at least one frame of ten |
//! | `soiled camera`, `soiled LiDAR` | at least a tenth of its window is under dirt |
//! | `losses` | one sensor loses at least one frame of five |
//! | `reports lost`, `positions lost` | at least one of five |

use serde::Deserialize;

use crate::simulate::scene::{Faults, Timing, Weather};

/// What a scene says of its sequences; the rest of it is not looked at.
#[derive(Default, Deserialize)]
struct Scene {
    #[serde(default)]
    weather: Weather,
    #[serde(default)]
    timing: Timing,
    #[serde(default)]
    sequence: Vec<Sequence>,
}

#[derive(Deserialize)]
struct Sequence {
    #[serde(default = "once")]
    repeat: usize,
    weather: Option<Weather>,
    #[serde(default)]
    faults: Faults,
}

const fn once() -> usize {
    1
}

/// The condition of each sequence of a street scene, repetitions counted; none of another kind of scene.
///
/// # Errors
/// When it is no TOML, or a value in it cannot be.
pub fn of_scene(text: &str) -> Result<Vec<String>, toml::de::Error> {
    let scene: Scene = toml::from_str(text)?;
    let each = scene.sequence.iter().flat_map(|sequence| {
        let weather = sequence.weather.unwrap_or(scene.weather);
        std::iter::repeat_n(condition(&weather, &scene.timing, &sequence.faults), sequence.repeat)
    });
    Ok(each.collect())
}

/// What a sequence of this weather, these clocks and these faults is like.
#[must_use]
pub fn condition(weather: &Weather, timing: &Timing, faults: &Faults) -> String {
    let azimuth = (weather.sun_azimuth_deg + 180.0).rem_euclid(360.0) - 180.0;
    let light = match weather.sun_elevation_deg {
        elevation if elevation < -6.0 => "night",
        elevation if elevation <= 0.0 => "dusk",
        elevation if elevation <= 25.0 && azimuth.abs() <= 30.0 && weather.cloud < 0.5 => "low sun",
        _ => "day",
    };
    let lost = [
        timing.camera.lost(faults.camera_drop),
        timing.radar.lost(faults.radar_drop),
        timing.lidar.lost(faults.lidar_drop),
    ];
    let more = [
        ("power cut", weather.is_dark() && !weather.lamps),
        ("fog", weather.visibility_m < 1000.0),
        ("rain", weather.rain_mm_h >= 0.5),
        ("soiled camera", faults.camera_soiling >= 0.1),
        ("soiled LiDAR", faults.lidar_soiling >= 0.1),
        ("interference", faults.radar_interference >= 0.1),
        ("losses", lost.iter().any(|&share| share >= 0.2)),
        ("reports lost", timing.link.lost(faults.link_drop) >= 0.2),
        ("positions lost", timing.position.lost(faults.position_drop) >= 0.2),
    ];
    let more = more.into_iter().filter(|(_, is)| *is).map(|(name, _)| name);
    std::iter::once(light).chain(more).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_scenes_are_told_apart() {
        let conditions = of_scene(include_str!("../../../recordings/scenes/adverse-weather.toml")).unwrap();
        let mut told = conditions.clone();
        told.dedup();
        assert_eq!(
            told,
            [
                "day",
                "night, power cut, soiled camera",
                "day, fog",
                "low sun, soiled camera",
                "day, soiled camera",
                "day, rain, soiled LiDAR",
                "day, soiled LiDAR",
                "day, interference",
                "day, losses",
                "day, reports lost, positions lost",
            ]
        );
        // Five repetitions of the first, four of most others.
        assert_eq!(conditions.len(), 41);
        assert_eq!(
            (conditions[4].as_str(), conditions[5].as_str()),
            ("day", "night, power cut, soiled camera")
        );
    }

    #[test]
    fn a_scene_that_says_nothing_has_no_conditions() {
        assert_eq!(of_scene("[site]\nlatitude = 1.0\n"), Ok(Vec::new()));
        assert!(of_scene("sequence = 3").is_err());
    }

    #[test]
    fn the_weather_of_the_scene_is_that_of_sequences_without_one() {
        let scene = "[weather]\nsun_elevation_deg = -3.0\n[[sequence]]\nseconds = 1.0\nrepeat = 2\n[[sequence]]\nseconds = 1.0\nweather = { rain_mm_h = 2.0 }\n";
        assert_eq!(of_scene(scene).unwrap(), ["dusk", "dusk", "day, rain"]);
    }

    #[test]
    fn clocks_that_lose_samples_add_to_the_faults_of_a_sequence() {
        let scene = "[timing]\nradar = { drop = 0.15 }\nlink = { drop = 0.3 }\n[[sequence]]\nseconds = 1.0\n[[sequence]]\nseconds = 1.0\nfaults = { radar_drop = 0.1 }\n";
        assert_eq!(of_scene(scene).unwrap(), ["day, reports lost", "day, losses, reports lost"]);
    }
}
