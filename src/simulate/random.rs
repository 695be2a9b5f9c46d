//! Random numbers that depend on what they are for, and never on which thread asks first.

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng;

/// What a stream of random numbers is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Camera,
    Lidar,
    Radar,
    Link,
    Position,
    Buildings,
    Paint,
    Traffic,
    /// Errors of the unit's array.
    Array,
    /// Pattern of a UE's antenna.
    Antenna,
    Body,
    Style,
    Motion,
    Placing,
    Furniture,
    /// Jitter and losses.
    Timing,
    /// Other radars.
    Interference,
    /// Dirt on windows.
    Dirt,
}

impl Purpose {
    /// What a stream is told apart by. An array's errors go by a seed of their own, and by the number that the default of
    /// that seed was chosen with.
    const fn number(self) -> u64 {
        match self {
            Self::Array => 7,
            other => other as u64,
        }
    }
}

/// The random numbers of one sensor at one instant: PCG64 seeded by (scene seed, sequence, frame, purpose).
#[derive(Clone, Debug)]
pub(super) struct Random(Pcg64Mcg);

impl Random {
    pub(super) fn new(seed: u64, sequence: usize, frame: usize, purpose: Purpose) -> Self {
        let mut high = mix(seed);
        for part in [sequence as u64, frame as u64, purpose.number()] {
            high = mix(high ^ part);
        }
        Self(Pcg64Mcg::new((u128::from(high) << 64) | u128::from(mix(high))))
    }

    /// The same for one of several UEs.
    pub(super) fn of_ue(seed: u64, sequence: usize, frame: usize, purpose: Purpose, ue: usize) -> Self {
        let seed = if ue == 0 { seed } else { mix(seed ^ mix(ue as u64)) };
        Self::new(seed, sequence, frame, purpose)
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Leaves out so many draws: one of [`Random::uniform`] is one, [`Random::normals`] are two.
    pub(super) fn skip(&mut self, draws: usize) {
        for _ in 0..draws {
            self.bits();
        }
    }

    /// Uniform in [0, 1).
    pub(super) fn uniform(&mut self) -> f32 {
        (self.0.next_u64() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Uniform in [low, high).
    pub(super) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.uniform()
    }

    /// Two independent numbers of mean 0 and standard deviation 1 (Box and Muller).
    pub(super) fn normals(&mut self) -> [f32; 2] {
        // (0, 1], so that the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let (sin, cos) = (std::f32::consts::TAU * self.uniform()).sin_cos();
        [radius * cos, radius * sin]
    }

    /// Mean 0, standard deviation 1.
    pub(super) fn normal(&mut self) -> f32 {
        self.normals()[0]
    }
}

/// SplitMix64's output function: every bit of the result depends on every bit of the input.
pub(super) const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Uniform in [0, 1), fixed for a cell: the grain of a texture.
pub(super) fn grain(x: i32, y: i32, salt: u32) -> f32 {
    let cell = (u64::from(x as u32) << 32) | u64::from(y as u32);
    (mix(cell ^ (u64::from(salt) << 17)) >> 40) as f32 / (1u64 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_fixed_and_apart() {
        let first = |sequence, frame, purpose| Random::new(7, sequence, frame, purpose).uniform();
        assert_eq!(first(1, 2, Purpose::Lidar), first(1, 2, Purpose::Lidar));
        assert_ne!(first(1, 2, Purpose::Lidar), first(2, 1, Purpose::Lidar));
        assert_ne!(first(1, 2, Purpose::Lidar), first(1, 2, Purpose::Radar));
    }

    #[test]
    fn normal_numbers_are_normal() {
        let mut random = Random::new(1, 0, 0, Purpose::Radar);
        let values: Vec<f32> = (0..20_000).flat_map(|_| random.normals()).collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
    }
}
