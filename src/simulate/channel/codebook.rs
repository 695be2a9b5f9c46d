//! The beams of the unit: an analytic stand-in for a real phased array, or a measured table.
//!
//! The stand-in is a uniform linear array along x whose beams are steered by phase shifters of finite steps, on an array
//! with errors: a phase error of each element, a smaller one of each element and beam, and a defocus (a phase that grows
//! with the square of the distance from the middle). With the defaults of [`Link`] its main lobes are 10.5° wide, the
//! highest lobes 10…20° beside them −4.7 dB, and the second best beam 0.18 dB below the best (medians); the codebook that
//! DeepSense 6G measured has 11.1°, −4.5 dB and 0.18 dB, an array without errors 6.8°, −12.7 dB and 0.23 dB.
//!
//! The measured one is a table in CSV: a first row of azimuths in degrees from boresight, ascending, positive to the right,
//! and a row of linear powers for each beam; the first field of each row is a name and is not read. The tables that
//! DeepSense 6G publishes (64 beams × 211 directions over 180…0°) become one by
//!
//! ```python
//! import numpy
//! p = numpy.load("codebook_pattern.npy")[:, ::-1]
//! head = ",".join(["beam", *map(str, numpy.linspace(-90, 90, p.shape[1]))])
//! rows = numpy.column_stack([numpy.arange(len(p)), p])
//! numpy.savetxt("codebook.csv", rows, delimiter=",", header=head, comments="")
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use num_complex::Complex64;
use parry3d::math::Vector;
use serde::{Deserialize, Serialize};

use crate::simulate::hex;
use crate::simulate::random::{Purpose, Random};
use crate::simulate::scene::{Link, Scene};

/// Why a measured codebook cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CodebookError {
    /// Its path is empty.
    #[error("found an empty path, allowed is that of a CSV file")]
    Unnamed,
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A field is not a number, or not one that is allowed there.
    #[error("{}: line {line}, field {field}: found `{found}`, allowed is {allowed}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        field: usize,
        /// What stands there.
        found: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// A row is longer or shorter than the first one.
    #[error("{}: line {line}: found {found} fields, allowed are {allowed}", path.display())]
    Width {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// Its fields.
        found: usize,
        /// Those of the first row.
        allowed: usize,
    },
    /// It is not the table that the scene was made with.
    #[error("{}: found a table of SHA-256 {found}, allowed is {allowed}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// Its hash.
        found: String,
        /// That of the scene.
        allowed: String,
    },
    /// There is nothing in it to tell beams by.
    #[error(
        "{}: found {beams} beams and {directions} directions, allowed are at least 2 of each, with powers that differ",
        path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
        /// Rows of powers.
        beams: usize,
        /// Azimuths.
        directions: usize,
    },
}

/// A measured codebook, read where a scene names its file.
///
/// A scene names it by its path alone, relative to the folder of the scene. A recording holds a copy of the table. In the
/// scene that stands in a recording it is one of `{ path, sha256 }`, so that
/// another table under that path is another scene.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Named", into = "Named")]
pub struct Measured {
    path: PathBuf,
    sha256: String,
    text: Arc<str>,
    table: Arc<Table>,
}

/// How a scene names a measured codebook.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected the path of a CSV file, or { path, sha256 }")]
enum Named {
    Path(PathBuf),
    Checked { path: PathBuf, sha256: String },
}

#[derive(Debug, PartialEq)]
struct Table {
    azimuths_deg: Vec<f64>,
    /// Amplitudes, 1 at the highest peak: a row for each beam.
    beams: Vec<Vec<f64>>,
}

impl TryFrom<Named> for Measured {
    type Error = CodebookError;

    fn try_from(named: Named) -> Result<Self, CodebookError> {
        let (path, wanted) = match named {
            Named::Path(path) => (path, None),
            Named::Checked { path, sha256 } => (path, Some(sha256)),
        };
        if path.as_os_str().is_empty() {
            return Err(CodebookError::Unnamed);
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|source| CodebookError::Io { path: path.clone(), source })?;
        let found = hex(&text);
        match wanted {
            Some(allowed) if allowed != found => Err(CodebookError::Other { path, found, allowed }),
            _ => Ok(Self { table: Arc::new(parse(&path, &text)?), path, sha256: found, text: text.into() }),
        }
    }
}

impl From<Measured> for Named {
    fn from(Measured { path, sha256, .. }: Measured) -> Self {
        Self::Checked { path, sha256 }
    }
}

impl Measured {
    /// Number of its beams.
    #[must_use]
    pub fn beams(&self) -> usize {
        self.table.beams.len()
    }

    /// Its file's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same in another file.
    #[must_use]
    pub fn moved(&self, path: &Path) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }
}

fn parse(path: &Path, text: &str) -> Result<Table, CodebookError> {
    let mut lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let numbers = |line: usize, row: &str, allowed: &'static str, is_allowed: fn(f64) -> bool| {
        let fields = (1..).zip(row.split(',')).skip(1);
        let numbers = fields.map(|(field, found)| match found.trim().parse::<f64>() {
            Ok(value) if is_allowed(value) => Ok(value),
            _ => {
                let found = found.trim().to_owned();
                Err(CodebookError::Field { path: path.to_owned(), line, field, found, allowed })
            }
        });
        numbers.collect::<Result<Vec<f64>, CodebookError>>()
    };
    let empty = |beams, directions| CodebookError::Empty { path: path.to_owned(), beams, directions };
    let (line, head) = lines.next().ok_or_else(|| empty(0, 0))?;
    let azimuths_deg =
        numbers(line, head, "an azimuth of −180 to 180", |value| (-180.0..=180.0).contains(&value))?;
    if let Some(at) = azimuths_deg.windows(2).position(|pair| matches!(pair, [a, b] if a >= b)) {
        let found = head.split(',').nth(at + 2).unwrap_or_default().trim().to_owned();
        let allowed = "more than the azimuth before";
        return Err(CodebookError::Field { path: path.to_owned(), line, field: at + 3, found, allowed });
    }
    let mut beams = Vec::new();
    for (line, row) in lines {
        let powers = numbers(line, row, "a power from 0", |value| value.is_finite() && value >= 0.0)?;
        if powers.len() != azimuths_deg.len() {
            let (found, allowed) = (powers.len() + 1, azimuths_deg.len() + 1);
            return Err(CodebookError::Width { path: path.to_owned(), line, found, allowed });
        }
        beams.push(powers);
    }
    // What the receiver read where nothing arrived is its floor, which a link adds by itself.
    let floor = beams.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let highest = beams.iter().flatten().copied().fold(0.0, f64::max);
    if beams.len() < 2 || azimuths_deg.len() < 2 || highest <= floor {
        return Err(empty(beams.len(), azimuths_deg.len()));
    }
    for power in beams.iter_mut().flatten() {
        *power = ((*power - floor) / (highest - floor)).sqrt();
    }
    Ok(Table { azimuths_deg, beams })
}

/// The beams of a scene's unit.
#[derive(Debug)]
pub enum Beams<'a> {
    /// The stand-in: weights of the elements, a row for each beam.
    Array(Vec<Vec<Complex64>>),
    /// A table.
    Measured(&'a Measured),
}

impl<'a> Beams<'a> {
    /// Those of a scene.
    #[must_use]
    pub fn new(scene: &'a Scene) -> Self {
        match &scene.link.codebook {
            Some(measured) => Self::Measured(measured),
            None => Self::Array(weights(&scene.link, scene.beams())),
        }
    }

    /// What each beam receives from a direction (length 1, in the unit frame), as an amplitude and a phase: 1 is an ideal
    /// array straight ahead. The phases of a measured one are not known and taken to be equal.
    #[must_use]
    pub fn fields(&self, direction: Vector) -> Vec<Complex64> {
        match self {
            Self::Array(weights) => {
                // The pattern of one element: power cos²θ from boresight, nothing to the back.
                let element = f64::from(direction.y.max(0.0));
                let sine = f64::from(direction.x);
                let elements = weights.first().map_or(0, Vec::len);
                let arrival: Vec<Complex64> = (0..elements)
                    .map(|number| {
                        Complex64::from_polar(element, std::f64::consts::PI * place(number, elements) * sine)
                    })
                    .collect();
                let sum = |beam: &Vec<Complex64>| beam.iter().zip(&arrival).map(|(a, b)| a * b).sum();
                weights.iter().map(sum).collect()
            }
            Self::Measured(measured) => {
                let azimuth = f64::from(direction.x.atan2(direction.y)).to_degrees();
                measured.table.beams.iter().map(|beam| measured.table.at(beam, azimuth).into()).collect()
            }
        }
    }

    /// Where each beam peaks, degrees from boresight, positive to the right: what a pipeline's `codebook.peaks_deg` says.
    #[must_use]
    pub fn peaks_deg(&self) -> Vec<f64> {
        let mut best: Vec<(f64, f64)> = Vec::new();
        for step in -900..=900 {
            let degrees = f64::from(step) / 10.0;
            let radians = degrees.to_radians();
            let powers = self.fields(Vector::new(radians.sin() as f32, radians.cos() as f32, 0.0));
            best.resize(powers.len(), (degrees, 0.0));
            for (best, field) in best.iter_mut().zip(powers) {
                if field.norm_sqr() > best.1 {
                    *best = (degrees, field.norm_sqr());
                }
            }
        }
        best.into_iter().map(|(degrees, _)| degrees).collect()
    }
}

impl Table {
    /// Linear between directions, nothing beyond them.
    fn at(&self, beam: &[f64], azimuth_deg: f64) -> f64 {
        let after = self.azimuths_deg.partition_point(|&azimuth| azimuth < azimuth_deg);
        let known = |at: usize| Some((*self.azimuths_deg.get(at)?, *beam.get(at)?));
        match (after.checked_sub(1).and_then(known), known(after)) {
            (Some((a, low)), Some((b, high))) => low + (high - low) * (azimuth_deg - a) / (b - a),
            (None, Some((a, low))) if a == azimuth_deg => low,
            _ => 0.0,
        }
    }
}

/// Where an element stands, half wavelengths from the middle of the array.
fn place(number: usize, elements: usize) -> f64 {
    number as f64 - (elements as f64 - 1.0) / 2.0
}

/// Share of [`Link::phase_error_deg`] that differs from beam to beam: cross-talk between the phase shifters.
const BEAM_SHARE: f64 = 0.25;

fn weights(link: &Link, beams: usize) -> Vec<Vec<Complex64>> {
    let elements = link.elements;
    let mut random = Random::new(link.array_seed, 0, 0, Purpose::Array);
    let mut error = |scale: f64| link.phase_error_deg.to_radians() * scale * f64::from(random.normal());
    let own: Vec<f64> = (0..elements).map(|_| error(1.0)).collect();
    let edge = (elements as f64 - 1.0).max(1.0) / 2.0;
    let step = 2.0 * link.sector_deg / (beams.max(2) - 1) as f64;
    let mut beam = |number: usize| {
        let sine = (-link.sector_deg + step * number as f64).to_radians().sin();
        let weight = |(number, own): (usize, &f64)| {
            let out = place(number, elements);
            let wanted =
                -std::f64::consts::PI * out * sine + link.defocus_deg.to_radians() * (out / edge).powi(2);
            let phase = quantised(wanted, link.phase_bits) + own + error(BEAM_SHARE);
            Complex64::from_polar(1.0 / elements as f64, phase)
        };
        own.iter().enumerate().map(weight).collect::<Vec<_>>()
    };
    (0..beams).map(&mut beam).collect()
}

/// The nearest phase that a shifter of so many bits can make; 0 bits make every phase.
fn quantised(phase: f64, bits: u32) -> f64 {
    if bits == 0 {
        return phase;
    }
    let step = std::f64::consts::TAU / f64::from(1u32 << bits);
    (phase / step).round() * step
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ideal() -> Scene {
        let link = Link { phase_bits: 0, phase_error_deg: 0.0, defocus_deg: 0.0, ..Link::default() };
        Scene { link, ..Scene::default() }
    }

    fn towards(degrees: f64) -> Vector {
        let radians = degrees.to_radians();
        Vector::new(radians.sin() as f32, radians.cos() as f32, 0.0)
    }

    #[test]
    fn an_ideal_array_has_the_pattern_of_the_textbook() {
        let scene = ideal();
        let beams = Beams::new(&scene);
        // Steered to −45° in a field of cos θ: 1·cos 45°. Steered straight ahead (between beams 31 and 32): nearly 1.
        assert!((beams.fields(towards(-45.0))[0].norm() - 0.5f64.sqrt()).abs() < 1e-4);
        assert!(beams.fields(towards(0.0))[31].norm() > 0.97);
        // |AF| = |sin(Nψ/2)|/(N·sin(ψ/2)), ψ = π(sin θ − sin θ0): at ψ = 0.1 and N = 16, 0.7174/(16·0.04998) = 0.8971.
        let steered = (-45.0f64).to_radians().sin();
        let theta = (steered + 0.1 / std::f64::consts::PI).asin();
        let found = beams.fields(towards(theta.to_degrees()))[0].norm() / theta.cos();
        assert!((found - 0.8971).abs() < 1e-3, "{found}");
        // Its first side lobe, at ψ = 2.86·π/16, is 13.1 dB down.
        let theta = (steered + 2.86 / 16.0).asin();
        let found = beams.fields(towards(theta.to_degrees()))[0].norm() / theta.cos();
        assert!((20.0 * found.log10() + 13.1).abs() < 0.2, "{found}");
    }

    #[test]
    fn ideal_beams_peak_where_they_point_in_index_order() {
        let scene = ideal();
        let peaks = Beams::new(&scene).peaks_deg();
        for (beam, peak) in peaks.iter().enumerate() {
            // The element's pattern pulls a peak inwards, at the edge by 0.9°.
            let pointed = -45.0 + 90.0 / 63.0 * beam as f64;
            assert!((peak - pointed).abs() < 1.0, "beam {beam}: {peak} instead of {pointed}");
        }
        assert!(peaks.windows(2).all(|pair| pair[1] > pair[0]));
        assert!((peaks[31] + 0.7).abs() < 0.11 && (peaks[32] - 0.7).abs() < 0.11);
    }

    /// Medians over the beams 4…59: half-power width, degrees, and the highest side lobe 10…20° from the peak, dB.
    fn lobes(scene: &Scene) -> [f64; 2] {
        let beams = Beams::new(scene);
        let grid: Vec<Vec<f64>> = (-180..=180)
            .map(|step| {
                beams.fields(towards(f64::from(step) / 2.0)).iter().map(Complex64::norm_sqr).collect()
            })
            .collect();
        let of = |beam: usize| {
            let powers: Vec<f64> = grid.iter().map(|row| row[beam]).collect();
            let peak = (0..powers.len()).max_by(|&a, &b| powers[a].total_cmp(&powers[b])).unwrap();
            let near =
                (0..powers.len()).filter(|at| at.abs_diff(peak) < 20 && powers[*at] > powers[peak] / 2.0);
            let side = (0..powers.len()).filter(|at| (20..=40).contains(&at.abs_diff(peak)));
            let lobe = side.map(|at| powers[at]).fold(0.0, f64::max);
            (near.count() as f64 / 2.0, 10.0 * (lobe / powers[peak]).log10())
        };
        let (mut widths, mut lobes): (Vec<f64>, Vec<f64>) = (4..60).map(of).unzip();
        [&mut widths, &mut lobes].map(|values| {
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        })
    }

    #[test]
    fn the_stand_in_is_as_bad_as_a_real_array() {
        let scene = Scene::default();
        let [width, lobe] = lobes(&scene);
        assert!((10.0..11.0).contains(&width) && (-5.2..-4.2).contains(&lobe), "{width} {lobe}");
        let [width, lobe] = lobes(&ideal());
        assert!((6.0..7.5).contains(&width) && (-15.0..-12.0).contains(&lobe), "{width} {lobe}");
        let peaks = Beams::new(&scene).peaks_deg();
        assert_eq!(peaks.len(), 64);
        let off = |beam: usize| (peaks[beam] - (-45.0 + 90.0 / 63.0 * beam as f64)).abs();
        assert!((0..64).all(|beam| off(beam) < 2.0), "{peaks:?}");
    }

    #[test]
    fn another_array_has_other_errors() {
        let fields = |array_seed| {
            let scene = Scene { link: Link { array_seed, ..Link::default() }, ..Scene::default() };
            Beams::new(&scene).fields(towards(10.0))
        };
        assert_eq!(fields(1), fields(1));
        assert_ne!(fields(1), fields(2));
    }

    const TABLE: &str = "beam,-20,0,20\n0,0.9,0.3,0.1\n1,0.1,0.5,0.3\n";

    #[test]
    fn a_measured_table_is_read_and_its_floor_taken_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("beams.csv");
        std::fs::write(&path, TABLE).unwrap();
        let measured = Measured::try_from(Named::Path(path.clone())).unwrap();
        assert_eq!((measured.beams(), measured.path.clone()), (2, path));
        let beams = Beams::Measured(&measured);
        let at = |degrees: f64| {
            beams.fields(towards(degrees)).iter().map(|field| field.norm_sqr()).collect::<Vec<_>>()
        };
        let near = |found: Vec<f64>, wanted: [f64; 2]| {
            assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}");
        };
        near(at(0.0), [0.25, 0.5]);
        // Amplitudes are linear between directions: ((1 + 0.5)/2)², ((0 + 0.7071)/2)².
        near(at(-10.0), [0.5625, 0.125]);
        near(at(30.0), [0.0, 0.0]);
        let peaks = beams.peaks_deg();
        assert!((peaks[0] + 20.0).abs() < 0.11 && peaks[1].abs() < 0.11, "{peaks:?}");
    }

    #[test]
    fn a_scene_names_its_codebook_and_is_told_what_is_wrong_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("beams.csv");
        std::fs::write(&path, TABLE).unwrap();
        let scene = |beams: usize, path: &Path| {
            let text = format!(
                "[codebook]\nbeams = {beams}\n[link]\ncodebook = {:?}\n[[sequence]]\nseconds = 1\n",
                path.to_str().unwrap()
            );
            crate::simulate::scene::parse(Path::new("s.toml"), &text)
        };
        let read = scene(2, &path).unwrap();
        assert!(matches!(Beams::new(&read), Beams::Measured(_)));
        let again = toml::to_string(&read).unwrap();
        assert!(again.contains("beams.csv"), "the path is what is written, not the table");
        let said = scene(64, &path).unwrap_err().to_string();
        assert!(said.contains("link.codebook: found 2 beams, allowed are 64 (codebook.beams)"), "{said}");
        let said = scene(64, Path::new("/nowhere/b.csv")).unwrap_err().to_string();
        assert!(said.contains("link.codebook: /nowhere/b.csv: "), "{said}");
        let said = scene(2, Path::new("")).unwrap_err().to_string();
        assert!(said.contains("link.codebook: found an empty path, allowed is"), "{said}");
        let number = "[link]\ncodebook = 3\n[[sequence]]\nseconds = 1\n";
        let said = crate::simulate::scene::parse(Path::new("s.toml"), number).unwrap_err().to_string();
        assert!(said.contains("link.codebook: expected the path of a CSV file"), "{said}");
    }

    #[test]
    fn a_bad_table_is_refused_with_the_place() {
        let said = |text: &str| parse(Path::new("b.csv"), text).unwrap_err().to_string();
        assert_eq!(
            said(""),
            "b.csv: found 0 beams and 0 directions, allowed are at least 2 of each, with powers that differ"
        );
        assert_eq!(
            said("b,0,x\n0,1,1\n"),
            "b.csv: line 1, field 3: found `x`, allowed is an azimuth of −180 to 180"
        );
        assert_eq!(
            said("b,0,0\n"),
            "b.csv: line 1, field 3: found `0`, allowed is more than the azimuth before"
        );
        assert_eq!(said("b,0,9\n0,1\n"), "b.csv: line 2: found 2 fields, allowed are 3");
        assert_eq!(said("b,0,9\n0,1,-1\n"), "b.csv: line 2, field 3: found `-1`, allowed is a power from 0");
        assert_eq!(
            said("b,0,9\n0,NaN,1\n"),
            "b.csv: line 2, field 2: found `NaN`, allowed is a power from 0"
        );
        assert!(said("b,0,9\n0,1,1\n1,1,1\n").contains("found 2 beams and 2 directions"));
        assert!(said("b,0,9\n0,1,2\n").contains("found 1 beams"));
        let missing = Measured::try_from(Named::Path("/nowhere/b.csv".into())).unwrap_err();
        assert!(matches!(missing, CodebookError::Io { .. }));
    }
}
