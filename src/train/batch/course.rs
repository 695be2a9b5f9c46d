//! Another course of a UE: what the beams of a link would have been, had it gone slower, back the way that it came, or past
//! other beams.
//!
//! Recordings of a site tell of few courses: at some of DeepSense 6G's all cars pass from left to right, two beams from row
//! to row, and who learned from them alone is lost where cars crawl. Powers between two reports are interpolated.

use rand_pcg::Pcg64;

use crate::infer::network::features::Heard;
use crate::model::seeded;
use crate::time::CaptureTime;
use crate::train::data::{DataSet, Example, Report};
use crate::train::measures::argmax;
use crate::train::recipe::Courses;

/// Reports that stand farther apart tell nothing of what was between them, seconds.
const FARTHEST_S: f64 = 0.35;
/// A report this near is taken as it is, seconds.
const NEAR_S: f64 = 1e-3;

/// How a course differs from the one that was recorded, about the instant of an example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Course {
    /// Seconds of the recording that pass in a second; below 0 they pass backwards.
    pace: f64,
    /// By how many beams all powers are moved.
    beams: i64,
}

impl Course {
    /// One of those of a recipe; `None` where the recorded one is kept.
    pub(super) fn draw(courses: &Courses, random: &mut Pcg64) -> Option<Self> {
        if courses.share <= 0.0 {
            return None;
        }
        // All are drawn, whether they are used or not.
        let [takes, slower, back, beams] = [(); 4].map(|()| seeded::uniform(random));
        let pace = courses.slowest + (1.0 - courses.slowest) * slower;
        let pace = if back < courses.back { -pace } else { pace };
        let beams = (f64::from(courses.beams) * (2.0 * beams - 1.0)).round() as i64;
        (takes < courses.share).then_some(Self { pace, beams })
    }
}

/// The reports about an example, along another course.
#[derive(Clone, Debug)]
pub(super) struct Line<'a> {
    course: Course,
    instant: CaptureTime,
    /// Seconds after the instant, and what was reported; in order.
    known: Vec<(f64, &'a Report)>,
}

impl<'a> Line<'a> {
    /// Of an example that sees the reports of `reading`.
    pub(super) fn new(course: Course, data: &'a DataSet, example: &Example, reading: u32) -> Self {
        let heard = data.reports_of(reading).iter().filter_map(|&report| data.reports.get(report as usize));
        let instants = 0..example.truth.beams.len();
        let measured = instants.filter_map(|instant| data.measured(example, instant));
        Self::of(course, example.time, heard.chain(measured))
    }

    fn of(course: Course, instant: CaptureTime, reports: impl Iterator<Item = &'a Report>) -> Self {
        let after = |report: &Report| (report.capture - instant).as_secs_f64();
        let mut known: Vec<(f64, &Report)> = reports.map(|report| (after(report), report)).collect();
        known.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        known.dedup_by_key(|(after, _)| *after);
        Self { course, instant, known }
    }

    /// Linear powers `after` seconds after the instant, and the report beside them; `None` where nothing near was reported.
    fn powers(&self, after: f64) -> Option<(Vec<f64>, &'a Report)> {
        let recorded = after * self.course.pace;
        let next = self.known.partition_point(|(at, _)| *at < recorded - NEAR_S);
        let &(at, later) = self.known.get(next)?;
        if at - recorded <= NEAR_S {
            return Some((later.linear.clone(), later));
        }
        let &(before, earlier) = self.known.get(next.checked_sub(1)?)?;
        if at - before > FARTHEST_S || earlier.linear.len() != later.linear.len() {
            return None;
        }
        let share = (recorded - before) / (at - before);
        let between = |(a, b): (&f64, &f64)| a + share * (b - a);
        Some((earlier.linear.iter().zip(&later.linear).map(between).collect(), later))
    }

    /// Where a beam is moved to; `None`: beyond the codebook.
    fn moved_to(&self, beam: u32, beams: usize) -> Option<u32> {
        let to = u32::try_from(i64::from(beam) + self.course.beams).ok()?;
        ((to as usize) < beams).then_some(to)
    }

    /// The report `after` seconds after the instant; beams that none is moved to are not measured.
    fn at(&self, after: f64) -> Option<Report> {
        let (linear, beside) = self.powers(after)?;
        let mut moved = vec![f64::NAN; linear.len()];
        for (beam, power) in (0u32..).zip(&linear) {
            if let Some(place) = self.moved_to(beam, linear.len()).and_then(|to| moved.get_mut(to as usize)) {
                *place = *power;
            }
        }
        let report = Report::new(beside.capture, moved)?;
        Some(Report { reference_db: beside.reference_db, ..report })
    }

    /// Past reports, each as old as it was.
    pub(super) fn heard(&self, heard: &[Heard]) -> Vec<Heard> {
        let along = heard.iter().filter_map(|Heard { age_s, .. }| {
            let Report { linear, best_db, reference_db, .. } = self.at(-f64::from(*age_s))?;
            Some(Heard::new(*age_s, &linear, best_db, reference_db))
        });
        along.collect()
    }

    /// The report that would tell the beam where `recorded` does; `None` where the strongest beam is moved out of the
    /// codebook, too.
    pub(super) fn measured(&self, recorded: &Report) -> Option<Report> {
        let after = (recorded.capture - self.instant).as_secs_f64();
        let (linear, _) = self.powers(after)?;
        self.moved_to(argmax(&linear)? as u32, linear.len())?;
        self.at(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAMS: usize = 16;

    /// Every 100 ms from 800 ms before the instant to 600 ms after it; the strongest beam is the next one each time, the
    /// eighth at the instant.
    fn passing() -> Vec<Report> {
        let reports = (-8i64..=6).map(|step| {
            let best = (8 + step) as f64;
            let linear = (0..BEAMS).map(|beam| 1.0 / (1.0 + (beam as f64 - best).powi(2))).collect();
            Report::new(CaptureTime::from_nanos(step * 100_000_000), linear).unwrap()
        });
        reports.collect()
    }

    fn line(reports: &[Report], pace: f64, beams: i64) -> Line<'_> {
        Line::of(Course { pace, beams }, CaptureTime::from_nanos(0), reports.iter())
    }

    fn best(db: &[f32]) -> usize {
        argmax(&db.iter().map(|db| f64::from(*db)).collect::<Vec<_>>()).unwrap()
    }

    /// The strongest beam of the past reports, each 100 ms older than the one before.
    fn past(line: &Line<'_>, recorded: &[Report]) -> Vec<usize> {
        let ages = (1u8..=8).map(|slot| f32::from(slot) / 10.0);
        let linear = &recorded.first().unwrap().linear;
        let heard: Vec<Heard> = ages.map(|age| Heard::new(age, linear, 0.0, 0.0)).collect();
        let along = line.heard(&heard);
        assert!(along.iter().zip(&heard).all(|(along, heard)| along.age_s == heard.age_s));
        along.iter().map(|report| best(&report.db)).collect()
    }

    fn ahead(line: &Line<'_>, recorded: &[Report]) -> Vec<Option<u32>> {
        recorded.iter().skip(8).map(|report| Some(line.measured(report)?.best)).collect()
    }

    #[test]
    fn the_recorded_course_is_as_it_was() {
        let recorded = passing();
        let line = line(&recorded, 1.0, 0);
        assert_eq!(past(&line, &recorded), [7, 6, 5, 4, 3, 2, 1, 0]);
        for report in recorded.iter().skip(8) {
            assert_eq!(line.measured(report).unwrap().linear, report.linear);
        }
    }

    #[test]
    fn half_as_fast_a_beam_takes_two_reports() {
        let recorded = passing();
        let line = line(&recorded, 0.5, 0);
        // Between two reports, powers are between theirs.
        let past = past(&line, &recorded);
        assert_eq!([1, 3, 5, 7].map(|at| past[at]), [7, 6, 5, 4]);
        assert!([7, 8].contains(&past[0]) && [6, 7].contains(&past[2]), "{past:?}");
        let ahead = ahead(&line, &recorded);
        assert_eq!([0, 2, 4, 6].map(|at| ahead[at]), [8, 9, 10, 11].map(Some));
        let between = line.measured(&recorded[9]).unwrap();
        let mean = (recorded[8].linear[9] + recorded[9].linear[9]) / 2.0;
        assert!((between.linear[9] - mean).abs() < 1e-12);
    }

    #[test]
    fn back_it_comes_from_where_it_went() {
        let recorded = passing();
        let line = line(&recorded, -1.0, 0);
        // What would be older than what was recorded after the instant is not there.
        assert_eq!(past(&line, &recorded), [9, 10, 11, 12, 13, 14]);
        assert_eq!(ahead(&line, &recorded), [8, 7, 6, 5, 4, 3, 2].map(Some));
    }

    #[test]
    fn past_other_beams_all_powers_are_moved() {
        let recorded = passing();
        let line = line(&recorded, 1.0, 3);
        assert_eq!(past(&line, &recorded), [10, 9, 8, 7, 6, 5, 4, 3]);
        // Beams 16 and 17 are none: nobody knows which would be chosen.
        assert_eq!(ahead(&line, &recorded), [Some(11), Some(12), Some(13), Some(14), Some(15), None, None]);
        let moved = line.measured(&recorded[8]).unwrap();
        assert!(moved.linear[..3].iter().all(|power| power.is_nan()));
        assert_eq!(moved.linear[3..], recorded[8].linear[..13]);
    }

    #[test]
    fn nothing_is_made_up_across_a_gap() {
        let mut recorded = passing();
        recorded.drain(2..7);
        let line = line(&recorded, 0.75, 0);
        // Of 75, 150, …, 600 ms before: from 100 to 700 ms nothing was recorded.
        assert_eq!(past(&line, &recorded).len(), 1);
    }

    #[test]
    fn courses_are_drawn_as_often_as_asked_and_never_unasked() {
        let mut random = Pcg64::new(1, 1);
        let before = random.clone();
        assert_eq!(Course::draw(&Courses::default(), &mut random), None);
        assert_eq!(random, before, "a recipe that asks for none draws what it drew");
        let courses = Courses { share: 0.5, slowest: 0.25, back: 0.5, beams: 4 };
        let drawn: Vec<Course> = (0..2000).filter_map(|_| Course::draw(&courses, &mut random)).collect();
        assert!((900..1100).contains(&drawn.len()), "{}", drawn.len());
        let back = drawn.iter().filter(|course| course.pace < 0.0).count();
        assert!((400..600).contains(&back), "{back}");
        assert!(
            drawn.iter().all(|course| (0.25..=1.0).contains(&course.pace.abs()) && course.beams.abs() <= 4)
        );
    }
}
