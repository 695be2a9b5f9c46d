//! How dirt lies on a window: in blotches of several sizes, drawn by smooth noise, of which as much lies under dirt as is
//! said.

use super::random::grain;

/// Half the width of a blotch's edge, in units of the noise that draws it.
const EDGE: f32 = 0.03;

/// Blotches of one size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Octave {
    /// Cells of the noise along the width of the window.
    pub cells: f32,
    /// Its part of the sum, where all parts make 1.
    pub weight: f32,
}

const fn smooth(share: f32) -> f32 {
    share * share * (3.0 - 2.0 * share)
}

impl Octave {
    /// Its part at a place of the window, whose width is 1. A window that closes around the sensor is alike at 0 and 1.
    pub fn at(&self, x: f32, y: f32, closes: bool, salt: u32) -> f32 {
        let (x, y, salt) = (x * self.cells, y * self.cells, salt ^ self.cells as u32);
        let (column, row) = (x.floor(), y.floor());
        let (right, down) = (smooth(x - column), smooth(y - row));
        let around = |column: f32| if closes { column.rem_euclid(self.cells) } else { column };
        let at = |dx: f32, dy: f32| grain(around(column + dx) as i32, (row + dy) as i32, salt);
        let top = at(0.0, 0.0) + (at(1.0, 0.0) - at(0.0, 0.0)) * right;
        let bottom = at(0.0, 1.0) + (at(1.0, 1.0) - at(0.0, 1.0)) * right;
        self.weight * (top + (bottom - top) * down)
    }
}

/// Above which level of the noise dirt lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level(f32);

impl Level {
    /// That of a noise of which `share` lies above it.
    pub fn of(mut noise: Vec<f32>, share: f64) -> Self {
        noise.sort_by(f32::total_cmp);
        let below = ((1.0 - share) * noise.len() as f64) as usize;
        let level = noise.get(below).copied().unwrap_or(f32::MAX);
        Self(if share >= 1.0 { level - EDGE } else { level })
    }

    /// How much of a place lies under dirt, 0 to 1.
    pub fn cover(self, noise: f32) -> f32 {
        smooth(((noise - self.0) / (2.0 * EDGE) + 0.5).clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_around_a_sensor_closes_and_another_one_ends() {
        let octave = Octave { cells: 24.0, weight: 1.0 };
        let jump = |closes| (octave.at(1.0 - 1e-6, 0.0, closes, 5) - octave.at(0.0, 0.0, closes, 5)).abs();
        assert!(jump(true) < 1e-3 && jump(false) > 0.01, "{} {}", jump(true), jump(false));
    }

    #[test]
    fn the_level_has_its_share_above_it() {
        let noise: Vec<f32> = (0..1000).map(|at| at as f32 / 1000.0).collect();
        for share in [0.1, 0.5, 1.0] {
            let level = Level::of(noise.clone(), share);
            let covered = noise.iter().filter(|noise| level.cover(**noise) >= 0.5).count();
            assert_eq!(covered, (share * 1000.0) as usize);
        }
    }
}
