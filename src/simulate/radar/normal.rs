//! Normal numbers in bulk: a cube needs half a million of them per frame.

use std::sync::LazyLock;

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng;

/// Layers of the ziggurat.
const LAYERS: usize = 256;
/// Where its tail begins, and the area of each of its layers, for 256 layers.
const TAIL: f64 = 3.654_152_885_361_009;
const AREA: f64 = 0.004_928_673_233_974_655;

/// The ziggurat of Marsaglia and Tsang (2000): equal layers under e^{−x²/2}; 99 of 100 numbers cost one random word, one
/// multiplication and one comparison.
struct Tables {
    /// Right edges of the layers, from the widest.
    x: [f64; LAYERS + 1],
    /// e^{−x²/2} of them.
    y: [f64; LAYERS + 1],
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let density = |x: f64| (-0.5 * x * x).exp();
    let mut edges = vec![AREA / density(TAIL), TAIL];
    while edges.len() < LAYERS {
        let last = edges.last().copied().unwrap_or(TAIL);
        edges.push((-2.0 * (AREA / last + density(last)).ln()).sqrt());
    }
    let at = |layer: usize| edges.get(layer).copied().unwrap_or(0.0);
    Tables { x: std::array::from_fn(at), y: std::array::from_fn(|layer| density(at(layer))) }
});

/// Normal numbers of mean 0 and standard deviation 1.
pub struct Normals {
    words: Pcg64Mcg,
    tables: &'static Tables,
}

impl Normals {
    /// A stream of its own for every seed.
    pub fn new(seed: u128) -> Self {
        Self { words: Pcg64Mcg::new(seed), tables: &TABLES }
    }

    /// The next one.
    #[inline]
    pub fn next(&mut self) -> f32 {
        loop {
            let word = self.words.next_u64();
            // Eight bits choose the layer, 53 others the place, signed.
            let layer = (word & 0xff) as usize;
            let place = ((word >> 11) as i64 - (1 << 52)) as f64 / (1u64 << 52) as f64;
            let (Some(&wide), Some(&narrow)) = (self.tables.x.get(layer), self.tables.x.get(layer + 1))
            else {
                continue;
            };
            let x = place * wide;
            if x.abs() < narrow {
                return x as f32;
            }
            if let Some(x) = self.edge(layer, x) {
                return x as f32;
            }
        }
    }

    /// Beyond the part of a layer that lies wholly under the curve.
    #[cold]
    fn edge(&mut self, layer: usize, x: f64) -> Option<f64> {
        if layer == 0 {
            // The tail (Marsaglia 1964).
            loop {
                let beyond = -(1.0 - self.uniform()).ln() / TAIL;
                if -2.0 * (1.0 - self.uniform()).ln() > beyond * beyond {
                    return Some((TAIL + beyond).copysign(x));
                }
            }
        }
        let (low, high) = (self.tables.y.get(layer)?, self.tables.y.get(layer + 1)?);
        let height = low + (high - low) * self.uniform();
        (height < (-0.5 * x * x).exp()).then_some(x)
    }

    fn uniform(&mut self) -> f64 {
        (self.words.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_normal_to_the_fourth_moment_and_in_the_tails() {
        let mut normals = Normals::new(3);
        let values: Vec<f64> = (0..1_000_000).map(|_| f64::from(normals.next())).collect();
        let moment = |power: i32| values.iter().map(|v| v.powi(power)).sum::<f64>() / values.len() as f64;
        // Standard errors over a million: 0.001, 0.0014, 0.0039, 0.0098.
        for (power, expected, error) in [(1, 0.0, 0.004), (2, 1.0, 0.006), (3, 0.0, 0.016), (4, 3.0, 0.04)] {
            assert!((moment(power) - expected).abs() < error, "{power}: {}", moment(power));
        }
        let beyond = |limit: f64| values.iter().filter(|v| v.abs() > limit).count() as f64 / 1e6;
        // 4.55 % beyond 2, 0.0465 % beyond 3.5, 2.58e-4 beyond the tail's beginning.
        assert!((beyond(2.0) - 0.0455).abs() < 0.001, "{}", beyond(2.0));
        assert!((beyond(3.5) - 4.65e-4).abs() < 1e-4, "{}", beyond(3.5));
        assert!((beyond(TAIL) - 2.58e-4).abs() < 8e-5, "{}", beyond(TAIL));
    }
}
