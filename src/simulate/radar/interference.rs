//! Another radar whose chirps cross ours.

use std::f64::consts::PI;

use super::super::random::Random;
use super::super::scene::Scene;
use super::budget::{Budget, pattern};
use super::synthesis::Planes;

/// How far away it is, metres.
const DISTANCE_M: [f32; 2] = [15.0, 60.0];
/// How much its slope differs from ours, MHz/µs: what sweeps through our band in a few samples.
const SLOPE: [f32; 2] = [1.0, 12.0];
/// Share of the frame that it disturbs.
const SHARE: [f32; 2] = [0.1, 0.6];

/// Adds its bursts: in each disturbed chirp a sweep e^{jπ·Δμ·(t − t₀)²} while its beat lies within ±fs/2 (Brooker 2007),
/// with t₀ wandering from chirp to chirp since the two are not synchronised. Returns the disturbed chirps, from and to.
pub fn add(scene: &Scene, budget: &Budget, planes: &mut Planes, random: &mut Random) -> [usize; 2] {
    let (cube, radar) = (&scene.cube, &scene.radar);
    let chirps = cube.chirps as f32;
    let count = (random.between(SHARE[0], SHARE[1]) * chirps).ceil();
    let first = random.between(0.0, chirps - count + 1.0) as usize;
    let last = (first + count as usize).min(cube.chirps);
    let azimuth = f64::from(random.between(-0.9, 0.9));
    let distance = f64::from(random.between(DISTANCE_M[0], DISTANCE_M[1]));
    let sign = if random.uniform() < 0.5 { -1.0 } else { 1.0 };
    let slope = sign * f64::from(random.between(SLOPE[0], SLOPE[1])) * 1e12;
    let (begin, drift) = (f64::from(random.uniform()), f64::from(random.between(-0.05, 0.05)));
    let amplitude = budget.stranger(pattern(azimuth, 0.0), distance);
    let right = if radar.phase_grows_right { 1.0 } else { -1.0 };
    let step = 2.0 * PI * right * radar.rx_spacing_m / radar.wavelength_m * azimuth.sin();
    let half = cube.sample_hz / 2.0 / slope.abs();
    for chirp in first..last {
        let middle = (begin + drift * (chirp - first) as f64).rem_euclid(1.0) * cube.samples as f64;
        let start = 2.0 * PI * f64::from(random.uniform());
        for sample in 0..cube.samples {
            let time = (sample as f64 - middle) / cube.sample_hz;
            if time.abs() > half {
                continue;
            }
            let phase = PI * slope * time * time + start;
            for receiver in 0..cube.receivers {
                let at = (receiver * cube.samples + sample) * cube.chirps + chirp;
                let (sin, cos) = (phase + step * receiver as f64).sin_cos();
                if let (Some(real), Some(imaginary)) = (planes.real.get_mut(at), planes.imaginary.get_mut(at))
                {
                    *real += (amplitude * cos) as f32;
                    *imaginary += (amplitude * sin) as f32;
                }
            }
        }
    }
    [first, last]
}
