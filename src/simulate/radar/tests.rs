//! The cube against the numbers that it was made from.

use std::sync::Arc;

use ndarray::{Array2, ArrayView3};
use parry3d::bounding_volume::Aabb;

use super::*;
use crate::decode::radar::{CubeProcessor, RangeAngleAxes};
use crate::simulate::caster::Solids;
use crate::simulate::scene::{Traffic, Vehicle, Weather};
use crate::simulate::solid::{ObjectId, Surface};
use crate::simulate::world::World;

fn cube_of(scene: &Scene, planes: &Planes) -> Vec<Complex32> {
    assert_eq!(planes.chirps, scene.cube.chirps);
    planes.real.iter().zip(&planes.imaginary).map(|(&re, &im)| Complex32::new(re, im)).collect()
}

fn view<'a>(scene: &Scene, cube: &'a [Complex32]) -> ArrayView3<'a, Complex32> {
    let shape = (scene.cube.receivers, scene.cube.samples, scene.cube.chirps);
    ArrayView3::from_shape(shape, cube).unwrap()
}

fn strongest(map: &Array2<f32>) -> (usize, usize) {
    map.indexed_iter().max_by(|a, b| a.1.total_cmp(b.1)).map(|(at, _)| at).unwrap()
}

fn quiet(scene: &Scene, scatterers: &[Scatterer]) -> Vec<Complex32> {
    let synthesis = Synthesis::new(scene);
    let cells = synthesis.rows() * scene.cube.chirps;
    let mut planes =
        Planes { chirps: scene.cube.chirps, real: vec![0.0; cells], imaginary: vec![0.0; cells] };
    synthesis.add_moving(&mut planes, scatterers);
    cube_of(scene, &planes)
}

fn scene(chirps: usize) -> Scene {
    let mut scene = Scene::default();
    scene.cube.chirps = chirps;
    scene.radar.angle_bins = 64;
    scene
}

#[test]
fn a_scatterer_lands_in_the_cells_of_its_numbers() {
    let scene = scene(64);
    // Bin 60, sin α = 0.25 (8 bins of 64 to the right), 5 Doppler bins away.
    let bin = scene.radar.wavelength_m / (2.0 * 64.0 * scene.radar.chirp_period_s);
    let scatterer =
        Scatterer { range: 60.0 * 0.195, sine: 0.25, speed: 5.0 * bin, amplitude: 1.0, phase: 0.0 };
    let cube = quiet(&scene, &[scatterer]);
    let mut processor = CubeProcessor::new(scene.radar);
    assert_eq!(strongest(&processor.maps(view(&scene, &cube)).moving), (60, 40));
    assert_eq!(strongest(&processor.range_doppler(view(&scene, &cube))), (60, 37));
}

#[test]
fn a_fast_target_moves_through_range_bins_within_a_frame() {
    let scene = scene(250);
    // 14 m/s for 16.25 ms are 0.23 m, and the range-Doppler coupling adds 2·v·N/(λ·fs) = 0.37 bins.
    let scatterer = Scatterer { range: 20.0, sine: 0.0, speed: 14.0, amplitude: 1.0, phase: 0.0 };
    let cube = quiet(&scene, &[scatterer]);
    let cube = view(&scene, &cube);
    let mean_bin = |first: usize| {
        let part = cube.slice(ndarray::s![.., .., first..first + 40]);
        let map = CubeProcessor::new(scene.radar).maps(part).fixed;
        let column: Vec<f64> = (95..112).map(|bin| f64::from(map[[bin, 32]]).powi(4)).collect();
        let sum: f64 = column.iter().sum();
        (95..112).zip(&column).map(|(bin, weight)| f64::from(bin) * weight).sum::<f64>() / sum
    };
    let (begin, end) = (mean_bin(0), mean_bin(200));
    assert!((begin - (20.0 / 0.195 + 0.37)).abs() < 0.5, "{begin}");
    assert!((end - begin - 200.0 * 65e-6 * 14.0 / 0.195).abs() < 0.3, "{begin} to {end}");
}

/// A cube with nothing but one corner reflector of 10 m² at 20 m straight ahead, and the receiver.
#[test]
fn a_corner_reflector_has_the_signal_to_noise_ratio_of_the_radar_equation() {
    let scene = scene(250);
    let budget = Budget::new(&scene, &Weather::default());
    let speed = 10.0 * scene.radar.wavelength_m / (2.0 * 250.0 * scene.radar.chirp_period_s);
    // In the middle of a bin, so that nothing is lost between bins.
    let range = 0.195 * (102.0 - 2.0 * speed * 256.0 / (scene.radar.wavelength_m * 5e6));
    let amplitude = budget.echo(10.0, 1.0, range, range);
    let reflector = Scatterer { range, sine: 0.0, speed, amplitude, phase: 0.0 };
    let echoes = Echoes { still: Vec::new(), moving: vec![reflector] };
    let planes = signal(&scene, &echoes, &budget, &mut Normals::new(7));
    let cube = cube_of(&scene, &planes);
    // Antennas are summed straight ahead; then range and Doppler FFT at the reflector's cell and far from it.
    let cell = |range: f64, doppler: f64| -> f64 {
        let mut sum = num_complex::Complex64::default();
        for ((_, sample, chirp), value) in view(&scene, &cube).indexed_iter() {
            let turns = range * sample as f64 / 256.0 + doppler * chirp as f64 / 250.0;
            sum += num_complex::Complex64::new(f64::from(value.re), f64::from(value.im))
                * num_complex::Complex64::from_polar(1.0, -2.0 * PI * turns);
        }
        sum.norm_sqr()
    };
    let noise: f64 = (0..60).map(|at| cell(20.0 + f64::from(at), -40.0)).sum::<f64>() / 60.0;
    let snr_db = 10.0 * (cell(102.0, 10.0) / noise).log10();
    // By hand: 2.77 dB per sample (see the budget), 10·log10(4·256·250) = 54.08 dB of processing, 20 m against 19.9 m
    // +0.1 dB, filters −0.16 dB; the range moves by 0.2 bins within the frame, which costs 0.1 dB.
    assert!((snr_db - 56.7).abs() < 0.8, "{snr_db} dB");
}

#[test]
fn a_strong_echo_raises_the_floor_by_its_phase_noise() {
    let scene = scene(64);
    let budget = Budget::new(&scene, &Weather::default());
    let floor = |amplitude: f64, range: f64| {
        let echo = Scatterer { range, sine: 0.0, speed: 0.0, amplitude, phase: 0.0 };
        let echoes = Echoes { still: vec![echo], moving: Vec::new() };
        let cube = cube_of(&scene, &signal(&scene, &echoes, &budget, &mut Normals::new(7)));
        let map = CubeProcessor::new(scene.radar).range_doppler(view(&scene, &cube));
        map.slice(ndarray::s![150..250, 2..20]).mean().unwrap()
    };
    let (none, near, far) = (floor(0.0, 20.0), floor(1e4, 2.0), floor(1e4, 20.0));
    assert!(near / none < 2.0 && far / near > 2.0, "{none} {near} {far}");
    // Amplitude 1e4, −95 dBc/Hz over 5 MHz, (2π·1 MHz·133 ns)² = 0.70: 333 rms against 31.7 of thermal noise.
    let expected = (1e4f32 * 0.03976 * 0.838).hypot(31.7) / 31.7;
    assert!((far / none / expected - 1.0).abs() < 0.1, "{} instead of {expected}", far / none);
}

fn street(vehicles: Vec<Vehicle>, weather: Weather) -> (Scene, Caster) {
    let ue = Vehicle { lane: 3, at_m: 85.0, ..Vehicle::default() };
    let traffic = Traffic { seconds: 1.0, ue: vec![ue], vehicles, ..Traffic::default() };
    let scene = Scene { sequence: vec![traffic], weather, ..scene(128) };
    let caster = World::new(&scene).at(&scene, 0, 0.0);
    (scene, caster)
}

#[test]
fn a_car_is_where_it_is_and_its_ghost_is_mirrored_by_a_wall() {
    let facade = Surface::Facade { colour: [0.5; 3], number: 1 };
    let wall = Aabb::new(Vector::new(-30.0, 16.0, 0.0), Vector::new(30.0, 20.0, 12.0));
    let wall = Solid::upright(wall, ObjectId(1), facade);
    let body = Aabb::new(Vector::new(3.0, 8.1, 0.3), Vector::new(7.0, 9.9, 1.4));
    let car =
        Solid { velocity: Vector::X * 8.0, ..Solid::upright(body, ObjectId(7), Surface::Paint([0.5; 3])) };
    let caster = Caster::new(Arc::new(Solids::new(vec![wall])), Solids::new(vec![car]));
    let scene = scene(128);
    let mut random = Random::new(1, 0, 0, Purpose::Radar);
    let budget = Budget::new(&scene, &Weather::default());
    let echoes = echoes(&scene, &caster, 0, &budget, &mut random);
    // All of its own patches are nearer than the shortest way over the wall.
    let (direct, ghosts): (Vec<&Scatterer>, Vec<&Scatterer>) =
        echoes.moving.iter().partition(|one| one.range < 12.5);
    assert!(direct.len() >= 4 && ghosts.len() >= 6, "{} {}", direct.len(), ghosts.len());
    let loudest = |of: &[&Scatterer]| of.iter().map(|one| one.amplitude).fold(0.0, f64::max);
    assert!(loudest(&ghosts) < 0.5 * loudest(&direct) && loudest(&ghosts) > 0.01 * loudest(&direct));
    // The image of a patch (x, y) at the near side, y = 8.1, lies at y = 2·16 − 8.1 = 23.9; half of both ways together.
    for ghost in &ghosts {
        let is_near = |x: f64, y: f64, z: f64| {
            let way = |y: f64| (x * x + y * y + (z - 2.5).powi(2)).sqrt();
            let (straight, image) = (way(y), way(32.0 - y));
            let once = (straight + image) / 2.0;
            (ghost.range - once).abs() < 0.1 || (ghost.range - image).abs() < 0.1
        };
        let places =
            (0..45).flat_map(|x| (0..20).map(move |y| (3.0 + 0.1 * f64::from(x), 8.0 + 0.1 * f64::from(y))));
        assert!(
            places
                .flat_map(|(x, y)| [(x, y, 0.5), (x, y, 1.0), (x, y, 1.4)])
                .any(|(x, y, z)| is_near(x, y, z))
        );
    }
    // And in the map: behind the car there is something that moves, which is not there without the wall.
    let open = Caster::new(Arc::default(), Solids::new(vec![car]));
    let energy = |caster: &Caster| {
        let cube = observe(&scene, caster, 0, 0, 0.0);
        let map = CubeProcessor::new(scene.radar).maps(view(&scene, &cube)).moving;
        let rows = (15.0 / 0.195) as usize..(28.0 / 0.195) as usize;
        map.slice(ndarray::s![rows, ..]).iter().copied().fold(0.0, f32::max)
    };
    assert!(energy(&caster) > 1.2 * energy(&open), "{} {}", energy(&caster), energy(&open));
}

#[test]
fn a_vehicle_is_strongest_at_its_place_with_its_speed() {
    let (scene, caster) = street(
        vec![Vehicle { lane: 1, at_m: 8.0, speed_mps: 9.0, ..Vehicle::default() }],
        Weather::default(),
    );
    let cube = observe(&scene, &caster, 0, 0, 0.0);
    let mut processor = CubeProcessor::new(scene.radar);
    let maps = processor.maps(view(&scene, &cube));
    let (row, column) = strongest(&maps.moving);
    let axes = RangeAngleAxes::new(&scene.radar, crate::config::AngleAxis::SinFft, maps.moving.nrows(), 64);
    let point = axes.point(row, column).unwrap();
    // Its body: x 5.8 to 10.2, y 9.1 to 10.9, 2.5 m below at most.
    assert!((5.0..11.5).contains(&point.x) && (8.5..11.8).contains(&point.y), "{point}");
    let bin = scene.radar.wavelength_m / (2.0 * 128.0 * scene.radar.chirp_period_s);
    let (_, doppler) = strongest(&processor.range_doppler(view(&scene, &cube)));
    let speed = (doppler as f64 - 64.0) * bin;
    // Radial: 9 m/s · x/r, x/r from 0.5 to 0.75.
    assert!((4.2..7.0).contains(&speed), "{speed}");
}

#[test]
fn another_radar_disturbs_some_chirps_only() {
    let (scene, caster) = street(Vec::new(), Weather::default());
    let budget = Budget::new(&scene, &Weather::default());
    let clean = observe(&scene, &caster, 0, 3, 0.0);
    let disturbed = observe(&scene, &caster, 0, 3, 1.0);
    let change: Vec<f32> = (0..128)
        .map(|chirp| {
            let of = |cube: &[Complex32]| view(&scene, cube).slice(ndarray::s![.., .., chirp]).to_owned();
            (of(&disturbed) - of(&clean)).iter().map(|value| value.norm_sqr()).sum::<f32>() / 1024.0
        })
        .collect();
    let hit = change.iter().filter(|power| **power > 0.0).count();
    assert!((1..128 * 7 / 10).contains(&hit), "{hit} chirps");
    assert!(change.iter().copied().fold(0.0, f32::max) > 2.0 * (budget.noise as f32).powi(2));
    assert_eq!(observe(&scene, &caster, 0, 3, 0.0), clean);
}

#[test]
fn rain_is_seen_near_and_takes_from_what_is_far() {
    let near = |weather: Weather| {
        let (scene, caster) = street(Vec::new(), weather);
        let cube = observe(&scene, &caster, 0, 0, 0.0);
        let map = CubeProcessor::new(scene.radar).maps(view(&scene, &cube)).moving;
        map.slice(ndarray::s![8..24, 16..48]).mean().unwrap()
    };
    let (dry, wet) = (near(Weather::default()), near(Weather { rain_mm_h: 30.0, ..Weather::default() }));
    assert!(wet > 1.3 * dry, "{wet} {dry}");
}

#[test]
fn the_file_is_what_numpy_writes() {
    let scene = scene(3);
    let cube: Vec<Complex32> =
        (0..4 * 256 * 3).map(|at| Complex32::new(at as f32, -0.5 * at as f32)).collect();
    let file = npy(&scene, &cube);
    let data = file.len() - cube.len() * 8;
    assert_eq!(data % 64, 0);
    let npyz = npyz::NpyFile::new(&file[..]).unwrap();
    assert_eq!((npyz.shape(), npyz.order()), (&[4u64, 256, 3][..], npyz::Order::C));
    assert_eq!(npyz.into_vec::<Complex32>().unwrap(), cube);
}
