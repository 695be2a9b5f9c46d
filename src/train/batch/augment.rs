//! What is changed at random in what a batch shows.

use rand_pcg::Pcg64;

use super::course::Course;
use crate::infer::network::features::Heard;
use crate::model::grid::PLACE_M;
use crate::model::tasks::Task;
use crate::model::{Cloud, Input, MODALITIES, seeded};
use crate::train::data::{DataSet, Example, Sides};
use crate::train::recipe::Augment;

/// What is changed in the same way in all examples of a run, and in what is true of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Changed<'a> {
    /// What it stands in.
    pub(super) mirror: Option<&'a Mirror>,
    /// Another body at another place.
    pub(super) body: Option<Body>,
    /// Another course of its UE.
    pub(super) course: Option<Course>,
}

impl Changed<'_> {
    /// A pose, changed as the points are.
    pub(super) fn pose(&self, pose: &[[f32; 3]]) -> Vec<[f32; 3]> {
        let mut pose = pose.to_vec();
        if let Some(sides) = self.mirror.and_then(|mirror| mirror.sides) {
            pose = sides.pose(&pose);
        }
        if let Some(body) = &self.body {
            pose.iter_mut().for_each(|joint| *joint = body.moved(*joint));
        }
        pose
    }

    /// An activity, as it looks in the mirror.
    pub(super) fn activity(&self, activity: u32) -> u32 {
        let sides = self.mirror.and_then(|mirror| mirror.sides);
        sides.map_or(activity, |sides| sides.activity(activity))
    }

    /// Mirrors and moves the points of a cloud, and each by `jitter_m` more.
    pub(super) fn points(&self, cloud: &mut Cloud, jitter_m: f32, random: &mut Pcg64) {
        let (width, jitter) = (cloud.features.len() / cloud.positions.len().max(1), jitter_m / PLACE_M);
        let features = cloud.features.chunks_exact_mut(width.max(1));
        for (position, features) in cloud.positions.iter_mut().zip(features) {
            if let [x, ..] = position
                && self.mirror.is_some()
            {
                *x = -*x;
            }
            if let Some(body) = &self.body {
                *position = body.moved(position.map(|place| place * PLACE_M)).map(|metres| metres / PLACE_M);
            }
            if jitter > 0.0 {
                position.iter_mut().for_each(|place| *place += jitter * normal(random));
            }
            for (feature, place) in features.iter_mut().zip(position) {
                *feature = *place;
            }
        }
    }
}

/// A person of another size, who stands elsewhere: p ↦ c + s·(p − c) + t about the place c below the body on its ground.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Body {
    ground: [f32; 3],
    size: f32,
    shift: [f32; 3],
}

impl Body {
    /// One like that of an example, but for what is drawn; `None` where the recipe asks for none, nobody knows where the body
    /// is, or an image shows it as it is.
    pub(super) fn draw(
        example: &Example,
        mirror: Option<&Mirror>,
        augment: &Augment,
        random: &mut Pcg64,
    ) -> Option<Self> {
        let Augment { body_size, body_shift_m, .. } = *augment;
        let mut images = example.places.iter().skip(Input::Camera.place()).step_by(MODALITIES);
        if body_size <= 0.0 && body_shift_m <= 0.0 || images.any(Option::is_some) {
            return None;
        }
        let pose = Changed { mirror, ..Changed::default() }.pose(example.truth.pose.as_ref()?);
        let mean = |axis: usize| {
            let sum: f32 = pose.iter().filter_map(|joint| joint.get(axis)).sum();
            sum / pose.len().max(1) as f32
        };
        let lowest = pose.iter().map(|&[.., up]| up).min_by(f32::total_cmp)?;
        let mut drawn = |most: f64| (most * (2.0 * seeded::uniform(random) - 1.0)) as f32;
        Some(Self {
            ground: [mean(0), mean(1), lowest],
            size: 1.0 + drawn(body_size),
            shift: [drawn(body_shift_m), drawn(body_shift_m), 0.0],
        })
    }

    /// Where a point of the body is then; metres.
    fn moved(&self, point: [f32; 3]) -> [f32; 3] {
        let mut moved = point;
        for ((moved, ground), shift) in moved.iter_mut().zip(self.ground).zip(self.shift) {
            *moved = ground + self.size * (*moved - ground) + shift;
        }
        moved
    }
}

/// What stands in a mirror at x = 0, across the unit.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Per beam the one that looks where it would look in a mirror, and how far off that is, degrees.
    beams: Vec<(u32, f64)>,
    pub(super) sides: Option<Sides>,
}

impl Mirror {
    /// Farthest that a mirrored beam may be off, degrees.
    const OFF_DEG: f64 = 1.5;

    /// That of a codebook whose peak angles are known, and of people of whom it is known what is left and right.
    #[must_use]
    pub fn of(data: &DataSet) -> Option<Self> {
        let is_of_ue = |task: &Task| !task.is_of_unit();
        let beams = data.shape.sizes.beams;
        let peaks = data.shape.codebook.peaks_deg.as_ref().filter(|peaks| peaks.len() == beams);
        if data.tasks.iter().any(is_of_ue) && peaks.is_none()
            || !data.tasks.iter().all(is_of_ue) && data.sides.is_none()
        {
            return None;
        }
        let peaks = peaks.map(Vec::as_slice).unwrap_or_default();
        let nearest = |peak: &f64| {
            let off = peaks.iter().map(|other| (other + peak).abs()).zip(0u32..);
            off.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(off, beam)| (beam, off))
        };
        Some(Self { beams: peaks.iter().filter_map(nearest).collect(), sides: data.sides })
    }

    pub(super) fn beam(&self, beam: u32) -> Option<u32> {
        let &(other, off) = self.beams.get(beam as usize)?;
        (off <= Self::OFF_DEG).then_some(other)
    }

    /// Powers as the mirrored street would give them; beams that none mirrors are not measured.
    pub(super) fn turn(&self, report: &mut Heard) {
        let turned = (0u32..).zip(&report.db).map(|(beam, _)| {
            let from = self.beam(beam).and_then(|from| report.db.get(from as usize));
            from.copied().unwrap_or(f32::NAN)
        });
        report.db = turned.collect();
    }
}

/// Loses beams of each report, and whole reports but for the newest.
pub(super) fn forget(heard: &mut Vec<Heard>, augment: &Augment, random: &mut Pcg64) {
    let Augment { beam_drop, report_drop, .. } = *augment;
    if beam_drop > 0.0 {
        for report in heard.iter_mut() {
            for db in &mut report.db {
                if seeded::uniform(random) < beam_drop {
                    *db = f32::NAN;
                }
            }
        }
    }
    if report_drop > 0.0 {
        let newest = heard.len().saturating_sub(1);
        let mut at = 0;
        heard.retain(|_| {
            let kept = at == newest || seeded::uniform(random) >= report_drop;
            at += 1;
            kept
        });
    }
}

/// Left becomes right; a square of RGB.
pub(super) fn turn_image(pixels: &mut [u8]) {
    let side = ((pixels.len() / 3) as f64).sqrt() as usize;
    for row in pixels.chunks_exact_mut(3 * side) {
        let (pixels, _) = row.as_chunks_mut::<3>();
        pixels.reverse();
    }
}

/// Brightness and contrast, each changed by a factor of 1 ± `most`.
pub(super) fn recolour(pixels: &mut [u8], most: f64, random: &mut Pcg64) {
    let mut factor = || 1.0 + most * (2.0 * seeded::uniform(random) - 1.0);
    let (contrast, brightness) = (factor(), factor());
    let mean = pixels.iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / pixels.len().max(1) as f64;
    for pixel in pixels {
        let value = (f64::from(*pixel) - mean) * contrast + mean * brightness;
        *pixel = value.round().clamp(0.0, 255.0) as u8;
    }
}

/// Standard normal.
fn normal(random: &mut Pcg64) -> f32 {
    let (a, b) = (seeded::uniform(random), seeded::uniform(random));
    ((-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::CaptureTime;
    use crate::train::data::{Place, Truth};

    /// Feet, hips and head, in metres; up is last.
    const POSE: [[f32; 3]; 3] = [[0.9, 3.0, -0.5], [1.0, 3.1, 0.4], [1.1, 3.2, 1.2]];

    fn person(input: Input) -> Example {
        let mut places = vec![None; MODALITIES];
        if let Some(place) = places.get_mut(input.place()) {
            *place = Some(Place { reading: 0, age_s: 0.0 });
        }
        let truth = Truth { pose: Some(POSE.to_vec()), ..Truth::default() };
        let time = CaptureTime::from_nanos(0);
        Example { group: 0, link: 0, time, places, past: Vec::new(), was_blocked: None, truth }
    }

    fn near(found: [f32; 3], expected: [f32; 3]) {
        for (found, expected) in found.into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn a_body_and_its_points_grow_together_from_the_ground() {
        let augment = Augment { body_size: 0.2, body_shift_m: 0.5, ..Augment::default() };
        let mut random = Pcg64::new(1, 1);
        for _ in 0..20 {
            let body = Body::draw(&person(Input::Radar), None, &augment, &mut random).unwrap();
            assert!((0.8..=1.2).contains(&body.size), "{body:?}");
            assert!(body.shift.iter().all(|shift| shift.abs() <= 0.5) && body.shift[2] == 0.0, "{body:?}");
            let changed = Changed { body: Some(body), ..Changed::default() };
            let pose = changed.pose(&POSE);
            assert!((pose[0][2] - POSE[0][2]).abs() < 1e-6, "feet stay on the ground");
            assert!((pose[2][2] - pose[0][2] - 1.7 * body.size).abs() < 1e-5, "{pose:?}");
            let mut cloud = Cloud {
                positions: vec![POSE[2].map(|place| place / PLACE_M)],
                features: vec![9.0, 9.0, 9.0, 0.7],
            };
            changed.points(&mut cloud, 0.0, &mut random);
            near(cloud.positions[0].map(|place| place * PLACE_M), pose[2]);
            near([cloud.features[0], cloud.features[1], cloud.features[2]], cloud.positions[0]);
            assert_eq!(cloud.features[3], 0.7);
        }
    }

    #[test]
    fn a_body_stays_as_it_is_where_an_image_shows_it_or_nothing_asks() {
        let augment = Augment { body_size: 0.2, ..Augment::default() };
        let mut random = Pcg64::new(1, 1);
        assert_eq!(Body::draw(&person(Input::Camera), None, &augment, &mut random), None);
        assert_eq!(Body::draw(&person(Input::Radar), None, &Augment::default(), &mut random), None);
    }
}
