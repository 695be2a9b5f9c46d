//! What objects in the way of a path take: screens, and crowns of trees.
//!
//! An object is a screen across the path: the outline of its parts, seen along the path. 3GPP TR 38.901, clause 7.6.4.2
//! (blockage model B), gives a screen with four edges
//!
//! ```text
//! L = −20·log10(1 − (F_h1 + F_h2)·(F_w1 + F_w2)),   F = ±atan(π/2·√(π/λ·(D1 + D2 − r)))/π
//! ```
//!
//! with + in the shadow of an edge and − outside of it: the share of the wave that the rectangle hides. An outline of
//! several rectangles hides the sum of what disjoint pieces of it hide. With one edge alone it is ITU-R P.526's knife
//! edge to within half a decibel in the shadow: 6.02 dB where the edge touches the line.

use std::f64::consts::{FRAC_PI_2, PI};

use parry3d::math::Vector;

use crate::simulate::caster::Caster;
use crate::simulate::solid::{ObjectId, Solid, Surface};
use crate::space::LIGHT_MPS;

/// Nothing takes more than this, dB: what goes through and around by ways that are not modelled.
const MOST_DB: f64 = 60.0;
/// An object further than this from a path is left out, metres: its screen would take less than 0.1 dB.
const REACH_M: f32 = 3.0;
/// What stands this near to an end of a leg is not in its way, metres.
const END_M: f32 = 0.05;

/// A straight piece of a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leg {
    from: Vector,
    /// Along the leg; to its side, level; up from it: each of length 1.
    axes: [Vector; 3],
    length: f32,
}

impl Leg {
    /// `None` when it is too short to hold anything.
    pub(super) fn new(from: Vector, to: Vector) -> Option<Self> {
        let length = (to - from).length();
        if length < 4.0 * END_M {
            return None;
        }
        let along = (to - from) / length;
        let side = along.cross(Vector::Z).normalize_or(Vector::X);
        Some(Self { from, axes: [along, side, side.cross(along)], length })
    }

    /// How far along, to the side and above a point is.
    fn local(&self, point: Vector) -> [f32; 3] {
        self.axes.map(|axis| axis.dot(point - self.from))
    }

    fn is_cut_by(&self, solid: &Solid) -> bool {
        let [along, ..] = self.axes;
        solid.cast(self.from, along, self.length - END_M).is_some()
    }
}

/// The parts of an object.
#[derive(Clone, Copy, Debug)]
struct Thing<'a> {
    object: ObjectId,
    parts: &'a [Solid],
    middle: Vector,
    radius: f32,
}

/// Everything that may stand in the way of a path.
#[derive(Debug)]
pub(super) struct Obstacles<'a> {
    things: Vec<Thing<'a>>,
    carrier_hz: f64,
    wavelength: f64,
    /// What carries the UE: it counts where it cuts the line, not where the antenna stands just above it.
    own: ObjectId,
}

impl<'a> Obstacles<'a> {
    pub(super) fn new(caster: &'a Caster, carrier_hz: f64, own: ObjectId) -> Self {
        let groups = [caster.still(), caster.moving()];
        let groups = groups.into_iter().flat_map(|solids| solids.chunk_by(|a, b| a.object == b.object));
        let things = groups.filter_map(|parts| {
            let bounds = parts
                .iter()
                .map(Solid::bounds)
                .reduce(|a, b| parry3d::bounding_volume::Aabb::new(a.mins.min(b.mins), a.maxs.max(b.maxs)))?;
            let object = parts.first()?.object;
            Some(Thing { object, parts, middle: bounds.center(), radius: bounds.half_extents().length() })
        });
        Self { things: things.collect(), carrier_hz, wavelength: LIGHT_MPS / carrier_hz, own }
    }

    /// What stands in the way takes, dB, 0…; `besides` are the objects that the leg begins or ends on.
    pub(super) fn loss_db(&self, leg: &Leg, besides: &[ObjectId]) -> f64 {
        let near = self.things.iter().filter(|thing| {
            let [along, side, up] = leg.local(thing.middle);
            let out = thing.radius;
            along > -out
                && along < leg.length + out
                && side.hypot(up) < out + REACH_M
                && !besides.contains(&thing.object)
        });
        let loss = near.map(|thing| {
            if thing.object == self.own && !thing.parts.iter().any(|part| leg.is_cut_by(part)) {
                return 0.0;
            }
            screen_db(leg, thing.parts, self.wavelength)
                + foliage_db(leg, thing.parts, self.carrier_hz, self.wavelength)
        });
        loss.sum::<f64>().min(MOST_DB)
    }

    /// Whether anything opaque cuts the line.
    pub(super) fn cut(&self, leg: &Leg) -> bool {
        self.things.iter().any(|thing| {
            let [along, side, up] = leg.local(thing.middle);
            let is_near =
                along > -thing.radius && along < leg.length + thing.radius && side.hypot(up) < thing.radius;
            is_near && thing.parts.iter().any(|part| part.surface != Surface::Leaves && leg.is_cut_by(part))
        })
    }
}

/// A rectangle across a leg: from, to, to the side; from, to, above.
type Outline = [f32; 4];

/// Loss L of 3GPP TR 38.901, clause 7.6.4.2, of the outline of some parts; the nearer and the farther side of the object are
/// each tried as the place of the screen, and the worse counts.
fn screen_db(leg: &Leg, parts: &[Solid], wavelength: f64) -> f64 {
    let mut outlines: Vec<Outline> = Vec::new();
    let (mut first, mut last) = (leg.length, 0.0f32);
    for part in parts.iter().filter(|part| part.surface != Surface::Leaves) {
        if let Some((outline, [begin, end])) = outline(leg, part) {
            outlines.push(outline);
            (first, last) = (first.min(begin), last.max(end));
        }
    }
    if outlines.is_empty() {
        return 0.0;
    }
    let at = |place: f32| {
        let edge = Edge::new(f64::from(place), f64::from(leg.length - place), wavelength);
        hidden(&outlines, &edge)
    };
    let hidden = at(first).max(at(last));
    (-20.0 * (1.0 - hidden).max(1e-6).log10()).clamp(0.0, MOST_DB)
}

/// Edges at one place of a leg.
pub(super) struct Edge {
    d1: f64,
    d2: f64,
    wavelength: f64,
}

impl Edge {
    /// `d1` and `d2` metres from the ends.
    pub(super) fn new(d1: f64, d2: f64, wavelength: f64) -> Self {
        Self { d1, d2, wavelength }
    }

    /// F of TR 38.901, clause 7.6.4.2, of an edge `out` metres to one side of the line: −½…½, its sign that of `out`.
    pub(super) fn share(&self, out: f64) -> f64 {
        // D1 + D2 − r without the loss of digits: √(d² + h²) − d = h²/(√(d² + h²) + d).
        let detour = |d: f64| out * out / (d.hypot(out) + d);
        let detour = detour(self.d1) + detour(self.d2);
        if detour.is_nan() {
            return 0.0;
        }
        (FRAC_PI_2 * (PI / self.wavelength * detour).sqrt()).atan().copysign(out) / PI
    }

    /// F_1 + F_2 of a strip from `from` to `to`.
    pub(super) fn between(&self, from: f64, to: f64) -> f64 {
        self.share(to) - self.share(from)
    }
}

/// The share of the wave that the union of the outlines hides: the sum over disjoint upright strips.
fn hidden(outlines: &[Outline], edge: &Edge) -> f64 {
    let mut sides: Vec<f32> = outlines.iter().flat_map(|&[from, to, ..]| [from, to]).collect();
    sides.sort_by(f32::total_cmp);
    sides.dedup();
    let mut pieces: Vec<[f32; 2]> = Vec::new();
    let mut sum = 0.0;
    for (from, to) in sides.iter().zip(sides.iter().skip(1)) {
        pieces.clear();
        let over = outlines.iter().filter(|[left, right, ..]| left <= from && right >= to);
        pieces.extend(over.map(|&[_, _, low, high]| [low, high]));
        sum += edge.between(f64::from(*from), f64::from(*to))
            * union(&mut pieces, |low, high| edge.between(low, high));
    }
    sum
}

/// Σ measure(from, to) over the union of intervals.
fn union(pieces: &mut [[f32; 2]], measure: impl Fn(f64, f64) -> f64) -> f64 {
    pieces.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let mut sum = 0.0;
    let mut open: Option<[f32; 2]> = None;
    for &[from, to] in pieces.iter() {
        match &mut open {
            Some([_, end]) if from <= *end => *end = end.max(to),
            _ => {
                sum += open.map_or(0.0, |[a, b]| measure(f64::from(a), f64::from(b)));
                open = Some([from, to]);
            }
        }
    }
    sum + open.map_or(0.0, |[a, b]| measure(f64::from(a), f64::from(b)))
}

/// The rectangle around what of a shape stands between the ends of a leg, and from where to where along it that is.
fn outline(leg: &Leg, part: &Solid) -> Option<(Outline, [f32; 2])> {
    let half = part.shape.half();
    let sides = [Vector::X * half.x, Vector::Y * half.y, Vector::Z * half.z];
    let sides = sides.map(|side| part.pose.rotation * side);
    let reach = leg.axes.map(|axis| sides.iter().map(|side| axis.dot(*side).abs()).sum::<f32>());
    let [along, side, up] = leg.local(part.pose.translation);
    let [deep, wide, high] = reach;
    let (low_end, high_end) = (END_M, leg.length - END_M);
    if along + deep <= low_end || along - deep >= high_end {
        return None;
    }
    if along - deep >= low_end && along + deep <= high_end {
        return Some(([side - wide, side + wide, up - high, up + high], [along - deep, along + deep]));
    }
    // It reaches beyond an end: only what stands between the ends counts, so its twelve edges are cut off there.
    let corner = |number: usize| {
        let sign = |bit: usize| if number >> bit & 1 == 0 { -1.0 } else { 1.0 };
        let [a, b, c] = sides;
        leg.local(part.pose.translation + a * sign(0) + b * sign(1) + c * sign(2))
    };
    let mut outline = [f32::INFINITY, f32::NEG_INFINITY, f32::INFINITY, f32::NEG_INFINITY];
    let mut depth = [f32::INFINITY, f32::NEG_INFINITY];
    let edges = (0..8).flat_map(|a| (0..3).map(move |bit| (a, a | 1 << bit))).filter(|(a, b)| a != b);
    for (a, b) in edges {
        let (a, b) = (corner(a), corner(b));
        let step = b[0] - a[0];
        let at = |end: f32| if step == 0.0 { f32::NAN } else { (end - a[0]) / step };
        let (t0, t1) = (at(low_end), at(high_end));
        let (begin, end) = if step == 0.0 {
            if a[0] < low_end || a[0] > high_end {
                continue;
            }
            (0.0, 1.0)
        } else {
            (t0.min(t1).max(0.0), t0.max(t1).min(1.0))
        };
        if begin > end {
            continue;
        }
        for t in [begin, end] {
            let [w, u, v] = [0, 1, 2].map(|axis| a[axis] + (b[axis] - a[axis]) * t);
            let [left, right, low, high] = outline;
            outline = [left.min(u), right.max(u), low.min(v), high.max(v)];
            depth = [depth[0].min(w), depth[1].max(w)];
        }
    }
    (depth[0] <= depth[1]).then_some((outline, depth))
}

/// What the crown of a tree takes, dB: A = 0.2·f^0.3·d^0.6 with f in MHz and d metres of leaves, the model of CCIR
/// Report 236-2 from which Recommendation ITU-R P.833 grew, for 200 MHz to 95 GHz and less than 400 m. P.833's own model
/// above 3 GHz (radiative transfer) wants numbers of a species, and has them for few.
///
/// The depth is the mean over five lines within the first Fresnel zone, so that a crown's edge is not sharp.
fn foliage_db(leg: &Leg, parts: &[Solid], carrier_hz: f64, wavelength: f64) -> f64 {
    let leaves = || parts.iter().filter(|part| part.surface == Surface::Leaves);
    let Some(one) = leaves().next() else { return 0.0 };
    let [along, side, up] = leg.axes;
    let place = leg.local(one.pose.translation)[0].clamp(0.0, leg.length);
    let zone = (wavelength * f64::from(place * (leg.length - place) / leg.length)).sqrt() as f32 / 2.0;
    let depth = |offset: Vector| {
        let (from, to) = (leg.from + offset, leg.from + along * leg.length + offset);
        let cut = |leaf: &Solid| {
            let enter = leaf.cast(from, along, leg.length)?;
            let leave = leg.length - leaf.cast(to, -along, leg.length)?;
            (leave > enter).then_some([enter, leave])
        };
        union(&mut leaves().filter_map(cut).collect::<Vec<_>>(), |from, to| to - from)
    };
    let lines = [Vector::ZERO, side * zone, side * -zone, up * zone, up * -zone];
    lines.map(|offset| crown_db(carrier_hz, depth(offset))).iter().sum::<f64>() / lines.len() as f64
}

fn crown_db(carrier_hz: f64, depth_m: f64) -> f64 {
    0.2 * (carrier_hz / 1e6).powf(0.3) * depth_m.powf(0.6)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parry3d::bounding_volume::Aabb;
    use parry3d::math::Pose;

    use super::*;
    use crate::simulate::caster::Solids;
    use crate::simulate::solid::Shape;

    const WAVELENGTH: f64 = 0.005;

    /// J(ν) of ITU-R P.526-15, equation (31), dB.
    fn knife_edge_db(nu: f64) -> f64 {
        6.9 + 20.0 * ((nu - 0.1).hypot(1.0) + nu - 0.1).log10()
    }

    fn leg(x: f32, z: f32) -> Leg {
        Leg::new(Vector::new(x, 0.0, z), Vector::new(x, 20.0, z)).unwrap()
    }

    fn cuboid(mins: [f32; 3], maxs: [f32; 3], surface: Surface) -> Solid {
        Solid::upright(Aabb::new(Vector::from(mins), Vector::from(maxs)), ObjectId(1), surface)
    }

    #[test]
    fn knife_edges_match_the_recommendation() {
        // P.526, figure 9: 6.0 dB where the edge touches the line, 13.9 dB at ν = 1, 19.0 at 2, 32.9 at 10.
        for (nu, expected) in [(0.0, 6.0), (1.0, 13.9), (2.0, 19.0), (10.0, 32.9)] {
            let found = knife_edge_db(nu);
            assert!((found - expected).abs() < 0.15, "J({nu}) = {found} instead of {expected}");
        }
    }

    #[test]
    fn a_half_plane_takes_what_p_526_says() {
        // ν = h·√(2/λ·(1/d1 + 1/d2)), equation (26); in the middle of 20 m, 1 m of h is ν = 8.94.
        let edge = Edge::new(10.0, 10.0, WAVELENGTH);
        for nu in [0.0, 0.5, 1.0, 2.0, 5.0, 10.0] {
            let high = nu / (2.0 / WAVELENGTH * 0.2f64).sqrt();
            let found = -20.0 * (1.0 - edge.between(-1e6, high)).log10();
            assert!(
                (found - knife_edge_db(nu)).abs() < 0.5,
                "ν = {nu}: {found} dB, {} dB",
                knife_edge_db(nu)
            );
        }
        let touching = -20.0 * (1.0 - edge.between(-1e6, 0.0)).log10();
        assert!((touching - 6.02).abs() < 0.01, "{touching}");
    }

    #[test]
    fn a_screen_with_four_edges_takes_what_38_901_says() {
        // By hand: h = ±0.5 m and w = ±0.25 m in the middle of 20 m of 5 mm waves. D1 + D2 − r = 2(√(100.25) − 10) =
        // 0.0249844, F_h = atan(π/2·√(π/0.005·0.0249844))/π = atan(6.22361)/π = 0.449290; D1 + D2 − r = 0.0062490,
        // F_w = atan(3.11254)/π = 0.401051; L = −20·log10(1 − 0.898580·0.802102) = 11.08.
        let (h, w) = ((6.22361f64).atan() / PI, (3.11254f64).atan() / PI);
        let expected = -20.0 * (1.0 - 4.0 * h * w).log10();
        let edge = Edge::new(10.0, 10.0, WAVELENGTH);
        let found = -20.0 * (1.0 - hidden(&[[-0.25, 0.25, -0.5, 0.5]], &edge)).log10();
        assert!((found - expected).abs() < 1e-3 && (found - 11.08).abs() < 0.01, "{found} {expected}");
        // Cut into pieces that overlap, it takes the same.
        let pieces = [[-0.25, 0.1, -0.5, 0.5], [0.0, 0.25, -0.5, 0.2], [0.05, 0.25, 0.1, 0.5]];
        assert!((hidden(&pieces, &edge) - hidden(&[[-0.25, 0.25, -0.5, 0.5]], &edge)).abs() < 1e-12);
    }

    #[test]
    fn loss_grows_smoothly_into_the_shadow() {
        let person = [cuboid([-0.25, 9.9, 0.0], [0.25, 10.1, 1.75], Surface::Chassis)];
        let losses: Vec<f64> = (0..=150)
            .map(|step| screen_db(&leg(1.5 - step as f32 * 0.01, 1.2), &person, WAVELENGTH))
            .collect();
        assert!(losses.windows(2).all(|pair| pair[1] > pair[0] && pair[1] - pair[0] < 1.0), "{losses:?}");
        let (clear, edge, middle) = (losses[0], losses[125], losses[150]);
        assert!(
            clear < 0.3 && (4.0..7.0).contains(&edge) && (9.0..16.0).contains(&middle),
            "{clear} {edge} {middle}"
        );
        let over = screen_db(&leg(0.0, 2.5), &person, WAVELENGTH);
        assert!(over < 0.3, "{over}");
    }

    #[test]
    fn a_turned_truck_hides_with_its_outline() {
        let half = Vector::new(5.5, 1.25, 1.9);
        let truck = |degrees: f32| {
            let pose = Pose::new(Vector::new(0.0, 10.0, 1.9), Vector::Z * degrees.to_radians());
            [Solid::still(Shape::Cuboid(half), pose, ObjectId(1), Surface::Chassis)]
        };
        // Its long side across the street reaches 5.5 m to each side, its front 1.25 m.
        let cut = |x: f32, degrees: f32| screen_db(&leg(x, 2.0), &truck(degrees), WAVELENGTH);
        assert!(cut(4.0, 0.0) > 20.0 && cut(4.0, 90.0) < 0.5, "{} {}", cut(4.0, 0.0), cut(4.0, 90.0));
        assert!(cut(0.0, 90.0) > 20.0);
    }

    #[test]
    fn what_stands_beyond_an_end_hides_nothing() {
        // A long wall beside which the leg ends, askew: its outline along the leg covers the line only beyond the end.
        let leg = Leg::new(Vector::new(0.0, 0.0, 2.0), Vector::new(40.0, 17.0, 2.0)).unwrap();
        let wall = [cuboid([35.0, 25.0, 0.0], [60.0, 37.0, 12.0], Surface::Chassis)];
        assert!(screen_db(&leg, &wall, WAVELENGTH) < 0.2, "{}", screen_db(&leg, &wall, WAVELENGTH));
        let behind = [cuboid([-9.0, -9.0, 0.0], [-1.0, -1.0, 12.0], Surface::Chassis)];
        assert_eq!(screen_db(&leg, &behind, WAVELENGTH), 0.0);
    }

    #[test]
    fn a_crown_takes_what_its_depth_says() {
        // 0.2·60000^0.3·3^0.6 = 0.2·27.13·1.933 = 10.49 dB.
        assert!((crown_db(60e9, 3.0) - 10.49).abs() < 0.01, "{}", crown_db(60e9, 3.0));
        let crown = [
            cuboid([-2.0, 9.0, 2.0], [2.0, 11.0, 5.0], Surface::Leaves),
            cuboid([-2.0, 10.0, 2.0], [2.0, 12.0, 5.0], Surface::Leaves),
        ];
        let found = foliage_db(&leg(0.0, 3.5), &crown, 60e9, WAVELENGTH);
        assert!((found - 10.49).abs() < 0.01, "{found}");
        assert_eq!(screen_db(&leg(0.0, 3.5), &crown, WAVELENGTH), 0.0);
        let edge = foliage_db(&leg(2.0, 3.5), &crown, 60e9, WAVELENGTH);
        assert!((3.0..9.0).contains(&edge), "{edge}");
        assert_eq!(foliage_db(&leg(3.0, 3.5), &crown, 60e9, WAVELENGTH), 0.0);
    }

    #[test]
    fn own_roof_counts_only_where_it_cuts_and_losses_add_up() {
        let part = |object: u32, y: f32, top: f32| Solid {
            object: ObjectId(object),
            ..cuboid([-1.0, y - 1.0, 0.0], [1.0, y + 1.0, top], Surface::Chassis)
        };
        let parts = [part(1, 18.8, 1.45), part(2, 5.0, 3.0), part(3, 10.0, 3.0)];
        let all = Caster::new(Arc::default(), Solids::new(parts.to_vec()));
        let (from, to) = (Vector::new(0.0, 0.0, 2.5), Vector::new(0.0, 18.8, 1.6));
        let leg = Leg::new(from, to).unwrap();
        let loss =
            |own: u32, besides: &[ObjectId]| Obstacles::new(&all, 60e9, ObjectId(own)).loss_db(&leg, besides);
        let (one, two) = (loss(1, &[ObjectId(2)]), loss(1, &[ObjectId(3)]));
        assert!(one > 10.0 && two > 10.0);
        assert!((loss(1, &[]) - one - two).abs() < 1e-9);
        assert!(loss(9, &[]) > loss(1, &[]), "another car's roof so near to the line takes a little");
        assert!(Obstacles::new(&all, 60e9, ObjectId(1)).cut(&leg));
    }
}
