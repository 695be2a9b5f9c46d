//! Points as a range–angle map, as radar gives one: what the baselines that want an image-like input take of radar and LiDAR.

use candle_core::{Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use super::{Cloud, LIDAR_FEATURES, RADAR_FEATURES};

/// Positions of a [`Cloud`] that is made for the network are in units of this, metres.
pub const PLACE_M: f32 = 50.0;

/// Heights are in units of this, metres.
const HEIGHT_M: f32 = 2.0;

/// Place of the Doppler among the [`RADAR_FEATURES`].
const DOPPLER: usize = 3;
/// Place of the power.
const POWER: usize = 4;
/// Place of "there is Doppler".
const HAS_DOPPLER: usize = 5;

/// The sector of ground that is seen, and how finely: rows are equal steps of the logarithm of the range, so that a person in
/// a room and a car across a street are of a like size, columns equal steps of the sine of the azimuth, as beams are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GridConfig {
    /// Cells along each side.
    pub side: usize,
    /// The range at which it begins, metres.
    pub nearest_m: u32,
    /// The range at which it ends, metres.
    pub farthest_m: u32,
    /// How far it reaches to the left and to the right of where the unit looks, degrees.
    pub sector_deg: u32,
}

impl Default for GridConfig {
    fn default() -> Self {
        Self { side: 64, nearest_m: 1, farthest_m: 100, sector_deg: 90 }
    }
}

impl GridConfig {
    /// What is wrong with it: key and what was found and allowed.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut within = |key: &str, value: usize, low: usize, high: usize| {
            if !(low..=high).contains(&value) {
                problems.push((key.to_owned(), format!("found {value}, allowed is {low} to {high}")));
            }
        };
        within("side", self.side, 1, 1024);
        within("nearest_m", self.nearest_m as usize, 1, 1000);
        within("farthest_m", self.farthest_m as usize, self.nearest_m as usize + 1, 10_000);
        within("sector_deg", self.sector_deg as usize, 1, 90);
        problems
    }

    /// Row and column of a place: row 0 is the farthest away, column 0 the leftmost. None where the grid does not reach,
    /// behind the unit, and where a coordinate is not a number.
    fn cell(&self, [x, y, _]: [f32; 3]) -> Option<(usize, usize)> {
        let range = x.hypot(y);
        let (nearest, farthest) = (self.nearest_m as f32, self.farthest_m as f32);
        let half = (self.sector_deg as f32).to_radians().sin();
        let side = self.side as f32;
        let row = (farthest / (range * PLACE_M)).ln() / (farthest / nearest).ln() * side;
        let column = (x / range + half) / (2.0 * half) * side;
        let inside = |place: f32| (0.0..side).contains(&place).then_some(place as usize);
        if y > 0.0 { Some((inside(row)?, inside(column)?)) } else { None }
    }
}

/// Channels of a grid of points of so many features: ln(1 + points) and the greatest height (units of 2 m); of radar also the
/// mean Doppler of the points that have one (units of 10 m/s) and the greatest power (units of 100 dB).
///
/// # Errors
/// When the points are neither radar's nor LiDAR's.
pub fn channels(features: usize) -> Result<usize> {
    match features {
        RADAR_FEATURES => Ok(4),
        LIDAR_FEATURES => Ok(2),
        found => candle_core::bail!(
            "features: found {found}, allowed are {RADAR_FEATURES} (radar) and {LIDAR_FEATURES} (LiDAR)"
        ),
    }
}

/// What is known of a cell.
#[derive(Clone, Copy, Default)]
struct Cell {
    points: u32,
    height: f32,
    with_doppler: u32,
    doppler: f32,
    power: f32,
}

impl Cell {
    fn add(&mut self, height: f32, features: &[f32]) {
        let at = |place: usize| features.get(place).copied().unwrap_or_default();
        let first = self.points == 0;
        self.points += 1;
        self.height = if first { height } else { self.height.max(height) };
        self.power = if first { at(POWER) } else { self.power.max(at(POWER)) };
        if at(HAS_DOPPLER) > 0.0 {
            self.with_doppler += 1;
            self.doppler += at(DOPPLER);
        }
    }

    fn channels(self) -> [f32; 4] {
        let doppler = self.doppler / self.with_doppler.max(1) as f32;
        [(self.points as f32).ln_1p(), self.height * (PLACE_M / HEIGHT_M), doppler, self.power]
    }
}

/// Clouds of points with `features` numbers each as maps: `[B, channels, side, side]` ([`channels`]). What is in a cell without points is 0; points that the grid does not reach are left out.
///
/// # Errors
/// When a cloud has another number of features, or the device refuses memory.
pub fn rasterise(clouds: &[Cloud], features: usize, config: &GridConfig, device: &Device) -> Result<Tensor> {
    let (channels, side) = (channels(features)?, config.side);
    let plane = side * side;
    let mut numbers = vec![0f32; clouds.len() * channels * plane];
    for (cloud, numbers) in clouds.iter().zip(numbers.chunks_exact_mut((channels * plane).max(1))) {
        if cloud.features.len() != cloud.positions.len() * features {
            let (points, found) = (cloud.positions.len(), cloud.features.len());
            candle_core::bail!(
                "a cloud of {points} points: found {found} features, allowed is {features} each"
            );
        }
        let mut cells = vec![Cell::default(); plane];
        for (&position, features) in cloud.positions.iter().zip(cloud.features.chunks_exact(features)) {
            if let Some((row, column)) = config.cell(position)
                && let Some(cell) = cells.get_mut(row * side + column)
            {
                cell.add(position[2], features);
            }
        }
        let of_cells = cells.into_iter().map(Cell::channels).collect::<Vec<_>>();
        for (channel, numbers) in numbers.chunks_exact_mut(plane.max(1)).enumerate() {
            for (number, cell) in numbers.iter_mut().zip(&of_cells) {
                *number = cell.get(channel).copied().unwrap_or_default();
            }
        }
    }
    Tensor::from_vec(numbers, (clouds.len(), channels, side, side), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Ranges from 1 to 10 and from 10 to 100 m, to the left and to the right.
    fn small() -> GridConfig {
        GridConfig { side: 2, ..GridConfig::default() }
    }

    #[test]
    fn the_top_is_far_away_and_the_left_is_left() {
        let place = |x: f32, y: f32| small().cell([x / PLACE_M, y / PLACE_M, 0.0]);
        assert_eq!(place(-10.0, 90.0), Some((0, 0)));
        assert_eq!(place(10.0, 90.0), Some((0, 1)));
        assert_eq!(place(-1.0, 9.0), Some((1, 0)));
        assert_eq!(place(1.0, 9.0), Some((1, 1)));
        for outside in
            [place(0.1, 0.9), place(70.0, 80.0), place(0.0, -5.0), place(0.0, 0.0), place(f32::NAN, 5.0)]
        {
            assert_eq!(outside, None);
        }
        // Sines of −30 to 30 degrees in quarters; 30 m lie in the second of four rows, from 31.6 to 10 m.
        let narrow = GridConfig { side: 4, sector_deg: 30, ..small() };
        let at = |degrees: f32| {
            let (sine, cosine) = degrees.to_radians().sin_cos();
            narrow.cell([0.6 * sine, 0.6 * cosine, 0.0])
        };
        assert_eq!([at(-29.0), at(-5.0), at(5.0), at(29.0)], [0, 1, 2, 3].map(|column| Some((1, column))));
        assert_eq!([at(-31.0), at(31.0)], [None, None]);
    }

    #[test]
    fn a_cell_of_radar_has_count_height_doppler_and_power() {
        let at = [0.2, 0.5, 0.0];
        let point =
            |z: f32, doppler: f32, power: f32, has: f32| [0.2, 0.5, z, doppler, power, has, 1.0 - has];
        // The third has no Doppler, so its 9 says nothing; the fourth is behind the unit.
        let points = [point(-0.1, 1.0, -0.3, 1.0), point(-0.2, 2.0, -0.1, 1.0), point(-0.3, 9.0, -0.2, 0.0)];
        let mut cloud = Cloud::default();
        for point in points {
            cloud.positions.push([at[0], at[1], point[2]]);
            cloud.features.extend(point);
        }
        cloud.positions.push([0.2, -0.5, 0.0]);
        cloud.features.extend(point(5.0, 5.0, 5.0, 1.0));
        let clouds = [Cloud::default(), cloud];
        let grid = rasterise(&clouds, RADAR_FEATURES, &small(), &Device::Cpu).unwrap();
        assert_eq!(grid.dims(), [2, 4, 2, 2]);
        assert!(numbers(&grid.get(0).unwrap()).iter().all(|&number| number == 0.0));
        let expected = [4f32.ln(), -0.1 * PLACE_M / HEIGHT_M, 1.5, -0.1];
        for (channel, expected) in numbers(&grid.get(1).unwrap()).chunks(4).zip(expected) {
            assert_eq!([channel[0], channel[2], channel[3]], [0.0; 3]);
            assert!((channel[1] - expected).abs() < 1e-6, "{channel:?} {expected}");
        }
    }

    #[test]
    fn lidar_has_no_doppler_and_a_cloud_of_other_points_is_refused() {
        let cloud = Cloud { positions: vec![[-0.2, 1.9, 0.1]], features: vec![-0.2, 1.9, 0.1] };
        let grid = rasterise(std::slice::from_ref(&cloud), LIDAR_FEATURES, &small(), &Device::Cpu).unwrap();
        assert_eq!(numbers(&grid), [2f32.ln(), 0.0, 0.0, 0.0, 2.5, 0.0, 0.0, 0.0]);
        let error = rasterise(&[cloud], RADAR_FEATURES, &small(), &Device::Cpu).unwrap_err().to_string();
        assert!(error.contains("found 3 features, allowed is 7 each"), "{error}");
        let error = channels(4).unwrap_err().to_string();
        assert!(error.contains("found 4, allowed are 7 (radar) and 3 (LiDAR)"), "{error}");
    }

    #[test]
    fn a_grid_without_cells_is_a_problem() {
        assert!(GridConfig::default().problems().is_empty());
        let keys = GridConfig { side: 0, nearest_m: 100, ..small() }.problems();
        assert_eq!(keys.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["side", "farthest_m"]);
    }
}
