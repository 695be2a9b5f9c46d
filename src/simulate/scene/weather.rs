//! Light, rain, fog and air, which every observer sees in its own way.

use serde::{Deserialize, Serialize};

use crate::config::Problem;
use crate::config::load::within;

/// `[weather]`, or `weather` of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weather {
    /// Elevation of the sun above the horizon, degrees; below −6 it is night, and from 0 down lamps burn.
    pub sun_elevation_deg: f64,
    /// Where the sun stands, degrees clockwise from the unit's y axis, seen from above.
    pub sun_azimuth_deg: f64,
    /// Whether street lamps and windows are lit when the sun is down: not in a power cut.
    #[serde(skip_serializing_if = "is_true")]
    pub lamps: bool,
    /// Share of the sky under cloud, 0…1: it takes the sun's light, and shadows.
    pub cloud: f64,
    /// Rain rate, mm/h: 2 light, 10 heavy, 50 violent.
    pub rain_mm_h: f64,
    /// Meteorological optical range: the distance at which contrast has fallen to 5 %, metres; clear air 20 km, fog
    /// below 1 km.
    pub visibility_m: f64,
    /// Temperature of the air, °C.
    pub temperature_c: f64,
    /// Pressure of the dry air, hPa.
    pub pressure_hpa: f64,
    /// Water vapour, g/m³.
    pub vapour_g_m3: f64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_true(value: &bool) -> bool {
    *value
}

impl Default for Weather {
    /// A clear summer noon, the sun behind the unit to its right; ITU-R P.676's standard air at the ground.
    fn default() -> Self {
        Self {
            sun_elevation_deg: 44.0,
            sun_azimuth_deg: 136.0,
            lamps: true,
            cloud: 0.0,
            rain_mm_h: 0.0,
            visibility_m: 20_000.0,
            temperature_c: 15.0,
            pressure_hpa: 1013.25,
            vapour_g_m3: 7.5,
        }
    }
}

impl Weather {
    /// Whether the sun is down: head lamps burn, and those of the street unless `lamps` says that they do not.
    #[must_use]
    pub fn is_dark(&self) -> bool {
        self.sun_elevation_deg <= 0.0
    }

    /// Extinction of light in the air, 1/m, by Koschmieder's law: 3.0 / visibility (ln 20).
    #[must_use]
    pub fn extinction(&self) -> f64 {
        20f64.ln() / self.visibility_m
    }

    pub(super) fn check(&self, key: &str, problems: &mut Vec<Problem>) {
        let mut check = |name: &str, value: f64, low: f64, high: f64| {
            within(problems, &format!("{key}.{name}"), value, low, high);
        };
        check("sun_elevation_deg", self.sun_elevation_deg, -90.0, 90.0);
        check("sun_azimuth_deg", self.sun_azimuth_deg, -360.0, 360.0);
        check("cloud", self.cloud, 0.0, 1.0);
        check("rain_mm_h", self.rain_mm_h, 0.0, 200.0);
        check("visibility_m", self.visibility_m, 10.0, 100_000.0);
        check("temperature_c", self.temperature_c, -40.0, 60.0);
        check("pressure_hpa", self.pressure_hpa, 500.0, 1100.0);
        check("vapour_g_m3", self.vapour_g_m3, 0.0, 50.0);
    }
}
