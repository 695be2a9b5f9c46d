//! Positions and blockage truth of a UE: small JSON objects.

use serde::Deserialize;

use super::DecodeError;
use crate::sample::Position;
use crate::space::LocalFrame;

#[derive(Deserialize)]
struct Report {
    lat: f64,
    lon: f64,
    alt: Option<f64>,
    speed_mps: Option<f64>,
}

/// Decodes `{"lat":…,"lon":…}` with optional `"alt"` (metres above the ellipsoid) and `"speed_mps"`.
pub fn decode(bytes: &[u8], site: Option<&LocalFrame>) -> Result<Position, DecodeError> {
    let report: Report =
        serde_json::from_slice(bytes).map_err(|error| DecodeError::malformed("position JSON", error))?;
    within("lat", report.lat, -90.0..=90.0, "-90 to 90 degrees")?;
    within("lon", report.lon, -180.0..=180.0, "-180 to 180 degrees")?;
    if let Some(altitude) = report.alt {
        within("alt", altitude, -1000.0..=20_000.0, "-1000 to 20000 m")?;
    }
    if let Some(speed) = report.speed_mps {
        within("speed_mps", speed, 0.0..=500.0, "0 to 500 m/s")?;
    }
    Ok(Position {
        latitude: report.lat,
        longitude: report.lon,
        altitude_m: report.alt,
        speed_mps: report.speed_mps,
        local: site
            .map(|site| site.locate(report.lat, report.lon, report.alt).map(|coordinate| coordinate as f32)),
    })
}

fn within(
    what: &'static str,
    value: f64,
    range: std::ops::RangeInclusive<f64>,
    allowed: &'static str,
) -> Result<(), DecodeError> {
    // NaN lies in no range.
    if range.contains(&value) {
        return Ok(());
    }
    Err(DecodeError::OutOfRange { what, found: value.to_string(), allowed })
}

/// Decodes `{"blocked":bool}`.
pub fn decode_blocked(bytes: &[u8]) -> Result<bool, DecodeError> {
    #[derive(Deserialize)]
    struct Truth {
        blocked: bool,
    }
    serde_json::from_slice(bytes)
        .map(|Truth { blocked }| blocked)
        .map_err(|error| DecodeError::malformed("blocked JSON", error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Site;

    #[test]
    fn a_position_becomes_local_where_the_site_is_known() {
        let site =
            LocalFrame::new(&Site { latitude: 0.0, longitude: 0.0, altitude_m: 0.0, heading_deg: 0.0 });
        let bytes = br#"{"lat":0.001,"lon":0,"alt":2.5,"speed_mps":13,"fix":"rtk"}"#;
        let position = decode(bytes, Some(&site)).unwrap();
        assert_eq!((position.altitude_m, position.speed_mps), (Some(2.5), Some(13.0)));
        let [x, y, z] = position.local.unwrap();
        assert!(x.abs() < 1e-3 && (y - 110.574).abs() < 1e-2 && (z - 2.5).abs() < 1e-2, "{x} {y} {z}");
        assert_eq!(decode(bytes, None).unwrap().local, None);
    }

    #[test]
    fn places_off_the_earth_are_refused() {
        let reason = |text: &str| decode(text.as_bytes(), None).map(|_| ()).map_err(|error| error.reason());
        assert_eq!(reason(r#"{"lat":90,"lon":-180}"#), Ok(()));
        assert_eq!(reason(r#"{"lat":90.01,"lon":0}"#), Err("out_of_range"));
        assert_eq!(reason(r#"{"lat":0,"lon":-180.1}"#), Err("out_of_range"));
        assert_eq!(reason(r#"{"lat":0,"lon":0,"alt":1e9}"#), Err("out_of_range"));
        assert_eq!(reason(r#"{"lat":0,"lon":0,"speed_mps":-1}"#), Err("out_of_range"));
        assert_eq!(reason(r#"{"lat":1e999,"lon":0}"#), Err("malformed"));
        assert_eq!(reason(r#"{"lat":null,"lon":0}"#), Err("malformed"));
        assert_eq!(reason(r#"{"lat":1}"#), Err("malformed"));
    }

    #[test]
    fn blockage_truth_is_a_boolean() {
        assert_eq!(decode_blocked(br#"{"blocked":true}"#), Ok(true));
        assert_eq!(decode_blocked(br#"{"blocked":1}"#).unwrap_err().reason(), "malformed");
    }
}
