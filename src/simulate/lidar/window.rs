//! Dirt on the LiDAR's window: azimuths through which next to nothing gets out and back.

use super::super::random::Random;
use super::super::soiling::{Level, Octave};

/// Share of an echo that dirt takes, on the way out and on the way back together.
const OPAQUE: f32 = 0.99;
/// Patches around the horizon.
const OCTAVES: [Octave; 2] = [Octave { cells: 24.0, weight: 0.7 }, Octave { cells: 60.0, weight: 0.3 }];

/// The share of an echo that gets through, by column of the sensor.
#[derive(Clone, Debug, Default)]
pub struct Window(Vec<f32>);

impl Window {
    /// A window of which dirt covers `share` of `columns` columns over `fov_deg`; a clean one for 0.
    pub fn new(share: f64, columns: usize, fov_deg: f64, random: &mut Random) -> Self {
        if share <= 0.0 {
            return Self::default();
        }
        let salt = random.bits() as u32;
        let draw = |column: usize| {
            let turn = ((column as f64 + 0.5) / columns as f64 * fov_deg / 360.0) as f32;
            OCTAVES.iter().map(|octave| octave.at(turn, 0.0, true, salt)).sum::<f32>()
        };
        let field: Vec<f32> = (0..columns).map(draw).collect();
        let level = Level::of(field.clone(), share);
        Self(field.into_iter().map(|value| 1.0 - OPAQUE * level.cover(value)).collect())
    }

    /// Of an echo in a column.
    pub fn keeps(&self, column: usize) -> f32 {
        self.0.get(column).copied().unwrap_or(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::random::Purpose;

    #[test]
    fn as_much_is_covered_as_is_said_and_in_patches() {
        let window = |share: f64| Window::new(share, 1024, 360.0, &mut Random::new(3, 1, 0, Purpose::Dirt));
        for share in [0.2, 0.6, 1.0] {
            let covered: Vec<bool> = (0..1024).map(|column| window(share).keeps(column) < 0.5).collect();
            let found = covered.iter().filter(|is| **is).count() as f64 / 1024.0;
            assert!((found - share).abs() < 0.02, "{found} of {share}");
            let edges = covered.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(edges < 60, "{edges}");
        }
        assert_eq!(window(0.0).keeps(3), 1.0);
    }
}
