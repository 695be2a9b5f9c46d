//! Beams: what each of them returns.

use nalgebra::Isometry3;
use parry3d::math::Vector;

use super::super::caster::Caster;
use super::super::ground::Ground;
use super::super::place;
use super::super::random::Random;
use super::super::scene::{Lidar, Weather};
use super::super::solid::ObjectId;
use super::air::{Air, NEAREST_M, PULSE_M};
use super::surface::Optics;
use super::window::Window;

/// Signal-to-noise ratio of an echo that is detected half of the time, and that at which the range's variance is twice
/// that of a strong echo: with it, 1.5 cm becomes 2.6, 3.7 and 10 cm at the data sheet's 250, 100 and 12.
const SNR: f32 = 12.0;
const NOISY_SNR: f32 = 521.0;
/// Weaker echoes are never detected.
const FAINTEST: f32 = 0.3;
/// Rain from which on the ground is wet all over, mm/h.
const WET_MM_H: f64 = 1.0;
/// Random numbers of a beam: two for a normal one, and four.
const DRAWS: usize = 6;
/// Neighbours whose ranges differ by more than this have an edge between them, metres.
const EDGE_M: f32 = 0.3;

/// An echo of a surface.
#[derive(Clone, Copy, Debug)]
struct Seen {
    range: f32,
    /// 1 is detected half of the time.
    signal: f32,
    object: ObjectId,
    velocity: Vector,
}

/// One turn of the sensor.
pub struct Sweep<'a> {
    lidar: &'a Lidar,
    optics: Optics<'a>,
    air: Air,
    window: Window,
    scale: f32,
    origin: Vector,
    /// Right, forward, up of the mount.
    axes: [Vector; 3],
}

impl<'a> Sweep<'a> {
    /// A sensor in its place.
    pub fn new(
        caster: &'a Caster,
        mount: &Isometry3<f64>,
        lidar: &'a Lidar,
        weather: &Weather,
        window: Window,
        ground: Option<&'a Ground>,
    ) -> Self {
        let scale = lidar.max_range_m.powi(2) / 0.8;
        let axis = |at: usize| {
            let mut unit = nalgebra::Vector3::zeros();
            if let Some(value) = unit.get_mut(at) {
                *value = 1.0;
            }
            place(&(mount.rotation * unit).into())
        };
        Self {
            lidar,
            optics: Optics { caster, ground, wetness: (weather.rain_mm_h / WET_MM_H).min(1.0) as f32 },
            air: Air::new(weather, scale, lidar.divergence_deg),
            window,
            scale: scale as f32,
            origin: place(&mount.translation.vector.into()),
            axes: [axis(0), axis(1), axis(2)],
        }
    }

    /// Returns in the unit frame, and their intensity against a wall of 80 % at 10 m; ring by ring from the lowest, left to
    /// right.
    pub fn returns(&self, random: &mut Random) -> Vec<(Vector, f32)> {
        self.sweep(random, |_| true).into_iter().map(|(_, point, intensity)| (point, intensity)).collect()
    }

    /// How many of them come back from an object that lies within `reach` of `middle`, metres.
    pub fn returns_on(&self, object: ObjectId, middle: Vector, reach: f32, random: &mut Random) -> usize {
        let away = middle - self.origin;
        let distance = away.length().max(1e-3);
        let lidar = self.lidar;
        // Beams beside it are looked at as well: what lies beside a beam says whether it straddles an edge.
        let rise = (lidar.highest_deg - lidar.lowest_deg) / (lidar.rings.max(2) - 1) as f64;
        let step = rise.max(lidar.fov_deg / lidar.columns as f64).to_radians() as f32;
        let half = (reach / distance).min(1.0).asin() + 2.0 * step;
        let (to, least) = (away / distance, half.min(std::f32::consts::PI).cos());
        let found = self.sweep(random, |ray| ray.dot(to) >= least);
        found.iter().filter(|(of, ..)| *of == object).count()
    }

    /// Returns of the beams that are asked for, and what they come from; each is what it is in a whole turn.
    fn sweep(&self, random: &mut Random, is_asked: impl Fn(Vector) -> bool) -> Vec<(ObjectId, Vector, f32)> {
        let lidar = self.lidar;
        let rays = Rays::new(lidar, self.axes);
        let seen: Vec<Option<Seen>> = (rays.all())
            .map(|ray| if is_asked(ray.direction) { self.look(ray.direction) } else { None })
            .collect();
        let mut returns = Vec::new();
        for (at, ray) in rays.all().enumerate() {
            if !is_asked(ray.direction) {
                random.skip(DRAWS);
                continue;
            }
            // Drawn whether they are needed or not: one lost return does not change the noise of the next.
            let [noise, _] = random.normals();
            let [fate, lost, place, strength] = std::array::from_fn(|_| random.uniform());
            let mut echo = seen.get(at).copied().flatten();
            if lidar.divergence_deg > 0.0 && is_edge(&seen, at, lidar.columns) {
                echo = self.spread(&ray, echo);
            }
            let air =
                self.air.echo(place, strength).filter(|air| echo.is_none_or(|echo| air.1 > echo.signal));
            let air = air.filter(|air| echo.is_none_or(|echo| air.0 < echo.range));
            let still =
                |(range, signal)| Seen { range, signal, object: ObjectId::GROUND, velocity: Vector::ZERO };
            let Some(Seen { range, signal, velocity, object }) = air.map(still).or(echo) else { continue };
            let signal = signal * self.window.keeps(at % lidar.columns);
            if fate > detection(signal) || lost < lidar.dropout as f32 || range < NEAREST_M as f32 {
                continue;
            }
            let deviation = lidar.range_noise_m as f32 * (1.0 + NOISY_SNR / (SNR * signal)).sqrt();
            let moved = velocity * (ray.turned * lidar.turn_s as f32);
            let point = self.origin + ray.direction * (range + noise * deviation) + moved;
            returns.push((object, point, signal * 100.0 / (0.8 * self.scale)));
        }
        returns
    }

    fn look(&self, ray: Vector) -> Option<Seen> {
        let max = self.lidar.max_range_m as f32;
        let hit = self.optics.caster.cast(self.origin, ray, max)?;
        let echo = self.optics.echo(&hit, ray, max);
        let loss = (-2.0 * self.air.extinction * echo.range).exp();
        // Nearer than a metre the lens sees no more of it.
        let signal = self.scale * echo.reflectivity / echo.range.max(1.0).powi(2) * loss;
        Some(Seen { range: echo.range, signal, object: hit.object, velocity: hit.velocity })
    }

    /// A beam that straddles an edge: five parts of it, of which those that lie within one pulse melt into one echo, at the
    /// mean of their ranges by power. The strongest of these is the return.
    fn spread(&self, ray: &Ray, middle: Option<Seen>) -> Option<Seen> {
        // Four places at the corners of a square, and the middle: of a round beam the mean distance of its power from its
        // axis is about half its full width at half maximum.
        let off = self.lidar.divergence_deg.to_radians() as f32 * 0.35;
        let corner = |x: f32, y: f32| {
            self.look((ray.direction + ray.across * (x * off) + ray.upwards * (y * off)).normalize())
        };
        let mut parts: Vec<Seen> =
            [middle, corner(1.0, 1.0), corner(1.0, -1.0), corner(-1.0, 1.0), corner(-1.0, -1.0)]
                .into_iter()
                .flatten()
                .collect();
        parts.sort_by(|a, b| a.range.total_cmp(&b.range));
        let mut best: Option<Seen> = None;
        for group in parts.chunk_by(|a, b| b.range - a.range < PULSE_M) {
            let signal = group.iter().map(|part| part.signal).sum::<f32>();
            let Some(strongest) = group.iter().max_by(|a, b| a.signal.total_cmp(&b.signal)) else { continue };
            let range = group.iter().map(|part| part.range * part.signal).sum::<f32>() / signal.max(1e-30);
            let echo = Seen { range, signal: signal / 5.0, ..*strongest };
            if best.is_none_or(|best| echo.signal > best.signal) {
                best = Some(echo);
            }
        }
        best
    }
}

/// Whether a beam's neighbours to the left or right, above or below show something else than it does.
fn is_edge(seen: &[Option<Seen>], at: usize, columns: usize) -> bool {
    let here = seen.get(at).copied().flatten();
    let other = |at: Option<usize>| at.and_then(|at| seen.get(at)).copied();
    let differs = |there: Option<Option<Seen>>, is_beside: bool| match (here, there) {
        (_, None) | (None, Some(None)) => false,
        (Some(_), Some(None)) | (None, Some(Some(_))) => true,
        (Some(a), Some(Some(b))) => {
            (is_beside || a.object != b.object)
                && (a.range - b.range).abs() > EDGE_M.max(0.05 * a.range.min(b.range))
        }
    };
    let column = at % columns;
    let beside = [column.checked_sub(1).map(|_| at - 1), (column + 1 < columns).then_some(at + 1)];
    beside.into_iter().any(|at| differs(other(at), true))
        || [at.checked_sub(columns), Some(at + columns)].into_iter().any(|at| differs(other(at), false))
}

/// Probability that an echo is detected: Φ((S − 1)·√12), the normal distribution by a logistic one (to 0.01). The tail that
/// is cut off would be detections of noise, of which the data sheet has 1 in 10,000.
fn detection(signal: f32) -> f32 {
    if signal < FAINTEST {
        return 0.0;
    }
    1.0 / (1.0 + (-1.702 * (signal - 1.0) * SNR.sqrt()).exp())
}

/// A beam.
struct Ray {
    direction: Vector,
    /// To the right of it and upwards, both across it.
    across: Vector,
    upwards: Vector,
    /// Part of a turn from boresight, −0.5…0.5.
    turned: f32,
}

/// All beams of a turn.
struct Rays {
    /// Along the beam and across it, level.
    columns: Vec<(Vector, Vector, f32)>,
    /// Sine and cosine of the elevation.
    rings: Vec<(f32, f32)>,
    up: Vector,
}

impl Rays {
    fn new(lidar: &Lidar, [right, forward, up]: [Vector; 3]) -> Self {
        let column = |at: usize| {
            let turn = ((at as f64 + 0.5) / lidar.columns as f64 - 0.5) * lidar.fov_deg;
            let (sin, cos) = turn.to_radians().sin_cos();
            let (sin, cos) = (sin as f32, cos as f32);
            (right * sin + forward * cos, right * cos - forward * sin, (turn / 360.0) as f32)
        };
        let rise = (lidar.highest_deg - lidar.lowest_deg) / (lidar.rings.max(2) - 1) as f64;
        let ring = |at: usize| {
            let (sin, cos) = (lidar.lowest_deg + rise * at as f64).to_radians().sin_cos();
            (sin as f32, cos as f32)
        };
        Self {
            columns: (0..lidar.columns).map(column).collect(),
            rings: (0..lidar.rings).map(ring).collect(),
            up,
        }
    }

    fn all(&self) -> impl Iterator<Item = Ray> + '_ {
        self.rings.iter().flat_map(move |&(sin, cos)| {
            self.columns.iter().map(move |&(level, across, turned)| Ray {
                direction: level * cos + self.up * sin,
                across,
                upwards: self.up * cos - level * sin,
                turned,
            })
        })
    }
}
