//! A smooth curve through postures at given times.

use super::super::body::Posture;

/// Numbers of a posture.
type Numbers = [f32; NUMBERS];
const NUMBERS: usize = 41;

/// Monotone cubic pieces between knots (Fritsch and Carlson, 1980; slopes as the harmonic means of Fritsch and
/// Butland, 1984): continuous in value and slope, and between two knots never outside of their values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spline {
    times: Vec<f32>,
    values: Vec<Numbers>,
    slopes: Vec<Numbers>,
}

impl Spline {
    /// A curve through knots in order of time; of knots closer than 1 ms the first one counts.
    pub(super) fn new(knots: &[(f32, Posture)]) -> Self {
        let mut times: Vec<f32> = Vec::with_capacity(knots.len());
        let mut values: Vec<Numbers> = Vec::with_capacity(knots.len());
        for (time, posture) in knots {
            if times.last().is_none_or(|last| time - last > 1e-3) {
                times.push(*time);
                values.push(posture.numbers());
            }
        }
        let mut slopes = vec![[0.0; NUMBERS]; values.len()];
        for at in 1..values.len().saturating_sub(1) {
            let (before, after) = (times[at] - times[at - 1], times[at + 1] - times[at]);
            for number in 0..NUMBERS {
                let left = (values[at][number] - values[at - 1][number]) / before;
                let right = (values[at + 1][number] - values[at][number]) / after;
                if left * right > 0.0 {
                    let (a, b) = (2.0 * after + before, after + 2.0 * before);
                    slopes[at][number] = (a + b) / (a / left + b / right);
                }
            }
        }
        Self { times, values, slopes }
    }

    /// The numbers at a time; before the first and after the last knot those of the knot.
    pub(super) fn at(&self, time: f32) -> Numbers {
        let next = self.times.partition_point(|&knot| knot <= time);
        let Some(before) = next.checked_sub(1) else {
            return self.values.first().copied().unwrap_or([0.0; NUMBERS]);
        };
        let Some(&end) = self.times.get(next) else { return self.values[before] };
        let length = end - self.times[before];
        let t = (time - self.times[before]) / length;
        // Hermite's basis.
        let from = (1.0 + 2.0 * t) * (1.0 - t) * (1.0 - t);
        let to = t * t * (3.0 - 2.0 * t);
        let (rise, fall) = (t * (1.0 - t) * (1.0 - t) * length, t * t * (t - 1.0) * length);
        let (values, slopes) = (&self.values, &self.slopes);
        std::array::from_fn(|number| {
            from * values[before][number]
                + to * values[next][number]
                + rise * slopes[before][number]
                + fall * slopes[next][number]
        })
    }

    /// The curve of a linear map of the numbers.
    pub(super) fn map(self, map: impl Fn(&Numbers) -> Numbers) -> Self {
        Self {
            values: self.values.iter().map(&map).collect(),
            slopes: self.slopes.iter().map(&map).collect(),
            times: self.times,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spline(values: &[(f32, f32)]) -> Spline {
        let knots: Vec<(f32, Posture)> =
            values.iter().map(|&(time, crouch)| (time, Posture { crouch, ..Posture::default() })).collect();
        Spline::new(&knots)
    }

    #[test]
    fn the_curve_passes_through_its_knots_without_overshoot() {
        let knots = [(0.0, 0.0), (1.0, 1.0), (1.2, 1.0), (2.0, -3.0), (2.1, -3.5), (4.0, 0.0)];
        let spline = spline(&knots);
        let at = |time: f32| Posture::of(&spline.at(time)).crouch;
        for (time, value) in knots {
            assert!((at(time) - value).abs() < 1e-5, "{time}");
        }
        for pair in knots.windows(2) {
            let [(from, low), (to, high)] = [pair[0], pair[1]];
            for step in 0..=50 {
                let value = at(from + (to - from) * step as f32 / 50.0);
                assert!(value >= low.min(high) - 1e-5 && value <= low.max(high) + 1e-5, "{value}");
            }
        }
        assert_eq!((at(-1.0), at(9.0)), (0.0, 0.0));
    }

    #[test]
    fn the_slope_has_no_step_at_a_knot() {
        let spline = spline(&[(0.0, 0.0), (1.0, 1.0), (1.5, 3.0), (3.0, 4.0)]);
        let at = |time: f32| Posture::of(&spline.at(time)).crouch;
        let slope = |time: f32| (at(time + 1e-3) - at(time - 1e-3)) / 2e-3;
        for knot in [1.0, 1.5] {
            assert!((slope(knot - 3e-3) - slope(knot + 3e-3)).abs() < 0.2, "{knot}");
            assert!(slope(knot) > 0.5);
        }
    }
}
