//! Beam-power reports: a full vector or the beams of a partial sweep.

use serde::Deserialize;

use super::{DecodeError, npy};
use crate::sample::{BeamPower, Format};

/// Most beams of a codebook whose length the configuration leaves open.
const MAX_BEAMS: usize = 4096;

/// Decodes linear powers. NaN (in JSON null) is a beam that was not measured; infinite and negative powers are refused.
///
/// `.npy` and JSON `{"power":[…]}` hold every beam; JSON `{"beams":[…],"power":[…]}` holds the beams of a sweep, each
/// at most once, and the others are NaN.
pub fn decode(format: Format, bytes: &[u8], beams: Option<usize>) -> Result<BeamPower, DecodeError> {
    let linear = match format {
        Format::Npy => full(from_npy(bytes)?, beams)?,
        _ => from_json(bytes, beams)?,
    };
    for (index, &power) in linear.iter().enumerate() {
        if power.is_infinite() {
            return Err(DecodeError::NotFinite { what: "link power", index });
        }
        if power < 0.0 {
            return Err(DecodeError::OutOfRange {
                what: "link power",
                found: format!("{power} at beam {index}"),
                allowed: "0 or more (linear)",
            });
        }
    }
    Ok(BeamPower { linear })
}

fn from_npy(bytes: &[u8]) -> Result<Vec<f64>, DecodeError> {
    let array = npy::read("link power", bytes)?.into_f64().ok_or_else(|| DecodeError::WrongDtype {
        what: "link power",
        found: "complex".to_owned(),
        allowed: "float32 or float64",
    })?;
    if array.ndim() != 1 {
        return Err(wrong_shape(format!("{:?}", array.shape()), "(beams,)".to_owned()));
    }
    Ok(array.into_iter().collect())
}

#[derive(Deserialize)]
struct Report {
    power: Vec<Option<f64>>,
    beams: Option<Vec<u64>>,
}

fn from_json(bytes: &[u8], codebook: Option<usize>) -> Result<Vec<f64>, DecodeError> {
    let report: Report =
        serde_json::from_slice(bytes).map_err(|error| DecodeError::malformed("link power JSON", error))?;
    let power = report.power.into_iter().map(|power| power.unwrap_or(f64::NAN));
    let Some(beams) = report.beams else { return full(power.collect(), codebook) };
    let length = codebook.ok_or(DecodeError::NoCodebook)?;
    if beams.len() != power.len() {
        return Err(wrong_shape(
            format!("{} beams with {} powers", beams.len(), power.len()),
            "as many powers as beams".to_owned(),
        ));
    }
    let mut linear = vec![f64::NAN; length];
    let mut seen = vec![false; length];
    for (beam, power) in beams.into_iter().zip(power) {
        let position = usize::try_from(beam).ok().filter(|&position| position < length);
        let Some((slot, seen)) = position.and_then(|at| linear.get_mut(at).zip(seen.get_mut(at))) else {
            return Err(DecodeError::OutOfRange {
                what: "beam index",
                found: format!("{beam} of a codebook of {length}"),
                allowed: "0 to the last beam",
            });
        };
        if std::mem::replace(seen, true) {
            return Err(DecodeError::OutOfRange {
                what: "beam index",
                found: format!("{beam} twice"),
                allowed: "each beam once",
            });
        }
        *slot = power;
    }
    Ok(linear)
}

/// A vector of the whole codebook.
fn full(power: Vec<f64>, codebook: Option<usize>) -> Result<Vec<f64>, DecodeError> {
    let allowed = match codebook {
        Some(length) if power.len() == length => return Ok(power),
        None if (1..=MAX_BEAMS).contains(&power.len()) => return Ok(power),
        Some(length) => format!("({length},)"),
        None => format!("(1,) to ({MAX_BEAMS},)"),
    };
    Err(wrong_shape(format!("({},)", power.len()), allowed))
}

const fn wrong_shape(found: String, allowed: String) -> DecodeError {
    DecodeError::WrongShape { what: "link power", found, allowed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str, beams: Option<usize>) -> Result<Vec<Option<f64>>, &'static str> {
        decode(Format::Json, text.as_bytes(), beams)
            .map(|power| power.linear.into_iter().map(|value| (!value.is_nan()).then_some(value)).collect())
            .map_err(|error| error.reason())
    }

    #[test]
    fn full_and_partial_reports() {
        assert_eq!(json(r#"{"power":[1,null,0.5]}"#, Some(3)), Ok(vec![Some(1.0), None, Some(0.5)]));
        assert_eq!(json(r#"{"power":[null]}"#, None), Ok(vec![None]));
        let sweep = r#"{"beams":[3,1],"power":[2,null]}"#;
        assert_eq!(json(sweep, Some(4)), Ok(vec![None, None, None, Some(2.0)]));
        assert_eq!(json(sweep, None), Err("no_codebook"));
    }

    #[test]
    fn what_is_not_a_report_is_refused() {
        assert_eq!(json(r#"{"power":[1,2]}"#, Some(3)), Err("wrong_shape"));
        assert_eq!(json(r#"{"power":[]}"#, None), Err("wrong_shape"));
        assert_eq!(json(r#"{"power":[-1]}"#, None), Err("out_of_range"));
        assert_eq!(json(r#"{"power":[1e999]}"#, None), Err("malformed"));
        assert_eq!(json(r#"{"power":1}"#, None), Err("malformed"));
        assert_eq!(json(r#"{"beams":[1,1],"power":[2,2]}"#, Some(4)), Err("out_of_range"));
        assert_eq!(json(r#"{"beams":[4],"power":[2]}"#, Some(4)), Err("out_of_range"));
        assert_eq!(json(r#"{"beams":[-1],"power":[2]}"#, Some(4)), Err("malformed"));
        assert_eq!(json(r#"{"beams":[0,1],"power":[2]}"#, Some(4)), Err("wrong_shape"));
    }
}
