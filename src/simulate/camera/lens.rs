//! The lens: from directions to places of the image and back.
//!
//! A pinhole with radial distortion by Brown (1966) and Conrady (1919): a direction at x, z right and up of the optical
//! axis at distance 1 (r² = x² + z²) lands at x·(1 + k₁r² + k₂r⁴), z·(1 + k₁r² + k₂r⁴), times the focal length, from
//! the middle of the image. Light falls off to the corners by cos⁴ of the angle to the axis, to the power `vignetting`.

use nalgebra::{Isometry3, Point3, Vector3};
use parry3d::math::{Pose, Vector};

use super::super::place;

/// What is written on a lens and its sensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lens {
    /// Columns, pixels.
    pub width: u32,
    /// Rows, pixels.
    pub height: u32,
    /// Horizontal field of view between the middles of the left and the right edge, distortion included, degrees.
    pub fov_deg: f64,
    /// Radial distortion of the third order; negative is a barrel.
    pub k1: f64,
    /// Radial distortion of the fifth order.
    pub k2: f64,
    /// 0 for even light, 1 for the cos⁴ law.
    pub vignetting: f64,
}

impl Lens {
    /// A pinhole without distortion and vignetting.
    #[must_use]
    pub const fn pinhole(width: u32, height: u32, fov_deg: f64) -> Self {
        Self { width, height, fov_deg, k1: 0.0, k2: 0.0, vignetting: 0.0 }
    }

    fn distort(&self, radius: f64) -> f64 {
        let square = radius * radius;
        radius * (1.0 + square * (self.k1 + square * self.k2))
    }

    fn slope(&self, radius: f64) -> f64 {
        let square = radius * radius;
        1.0 + square * (3.0 * self.k1 + 5.0 * square * self.k2)
    }

    /// The undistorted radius of a distorted one, by Newton's method from within the fold.
    fn undistort(&self, distorted: f64) -> f64 {
        let mut radius = distorted;
        for _ in 0..12 {
            let step = (self.distort(radius) - distorted) / self.slope(radius).max(MIN_SLOPE);
            radius -= step;
            if step.abs() < 1e-12 {
                break;
            }
        }
        radius
    }

    /// Pixels per tangent on the axis.
    #[must_use]
    pub fn focal_px(&self) -> f64 {
        f64::from(self.width) / 2.0 / self.distort((self.fov_deg / 2.0).to_radians().tan())
    }

    /// From tangents right and up of the axis to pixels right of it and below it; beyond `corner` the image goes on along
    /// a straight line.
    fn land(&self, x: f64, z: f64, focal: f64, corner: f64) -> [f64; 2] {
        let radius = x.hypot(z);
        let distorted = if radius > corner {
            self.distort(corner) + (radius - corner) * self.slope(corner).max(MIN_SLOPE)
        } else {
            self.distort(radius)
        };
        let scale = focal * if radius > 1e-12 { distorted / radius } else { 1.0 };
        [x * scale, -z * scale]
    }

    /// The middle of the image, pixels.
    fn middle(&self) -> [f64; 2] {
        [self.width, self.height].map(|pixels| f64::from(pixels) / 2.0)
    }

    /// The undistorted radius of the image's corners; `None` when the distortion folds the image before that.
    #[must_use]
    pub fn corner(&self) -> Option<f64> {
        let focal = self.focal_px();
        let corner = f64::from(self.width).hypot(f64::from(self.height)) / 2.0 / focal;
        let mut radius = 0.0;
        while self.distort(radius) < corner {
            if self.slope(radius) < MIN_SLOPE || radius > 50.0 {
                return None;
            }
            radius += 0.005;
        }
        (focal > 0.0 && self.slope(radius) >= MIN_SLOPE).then(|| self.undistort(corner))
    }
}

/// Where a place of the unit frame is in the image of a lens, in pixels from the upper left corner; `None` behind it.
pub(super) fn project(lens: &Lens, mount: &Isometry3<f64>, point: [f64; 3]) -> Option<[f64; 2]> {
    let seen = mount.inverse_transform_point(&point.into());
    let corner = lens.corner().unwrap_or(1.0);
    let [middle_x, middle_y] = lens.middle();
    (seen.y > 0.0).then(|| {
        let [x, y] = lens.land(seen.x / seen.y, seen.z / seen.y, lens.focal_px(), corner);
        [middle_x + x, middle_y + y]
    })
}

/// Below this slope of the distortion an image is taken for folded.
const MIN_SLOPE: f64 = 0.1;

/// A lens at its place: rays of every pixel, and the places of the image that points fall on.
#[derive(Clone, Debug)]
pub struct View {
    lens: Lens,
    mount: Isometry3<f64>,
    /// Pixels per tangent on the axis.
    focal: f64,
    /// Where the axis is in the image, pixels.
    middle: [f64; 2],
    /// Angle that a pixel spans on the axis, radians.
    pixel: f32,
    corner: f64,
    origin: Vector,
    /// Right, forward and up of the camera in the unit frame.
    axes: [Vector; 3],
    /// Through the middle of each pixel, row by row, length 1.
    rays: Vec<Vector>,
    /// Share of the light that reaches each pixel, 0…1.
    gain: Vec<f32>,
}

/// A part of the image, in pixels: from `left`, `top` to before `right`, `bottom`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rect {
    pub left: usize,
    pub right: usize,
    pub top: usize,
    pub bottom: usize,
}

impl Rect {
    /// Its pixels in an image of this many columns, row by row.
    pub fn pixels(self, width: usize) -> impl Iterator<Item = usize> {
        (self.top..self.bottom).flat_map(move |row| row * width + self.left..row * width + self.right)
    }
}

impl View {
    /// Puts a lens where `mount` says: x right, y along the optical axis, z up (see [`crate::space::mount_to_unit`]).
    /// Beyond where the distortion folds the image, it goes on along a straight line.
    #[must_use]
    pub fn new(lens: Lens, mount: Isometry3<f64>) -> Self {
        let axis = |axis: Vector3<f64>| place(&Point3::from(mount.rotation * axis));
        let mut view = Self {
            lens,
            mount,
            focal: lens.focal_px(),
            middle: lens.middle(),
            pixel: (1.0 / lens.focal_px()) as f32,
            corner: lens.corner().unwrap_or(1.0),
            origin: place(&mount.translation.vector.into()),
            axes: [axis(Vector3::x()), axis(Vector3::y()), axis(Vector3::z())],
            rays: Vec::new(),
            gain: Vec::new(),
        };
        let (width, height) = (lens.width as usize, lens.height as usize);
        view.rays.reserve_exact(width * height);
        for row in 0..height {
            for column in 0..width {
                let ray = view.ray(column as f64 + 0.5, row as f64 + 0.5);
                view.rays.push(ray);
                let cosine = f64::from(ray.dot(view.axes[1])).max(0.0);
                view.gain.push(cosine.powf(4.0 * lens.vignetting) as f32);
            }
        }
        view
    }

    /// The lens.
    #[must_use]
    pub const fn lens(&self) -> &Lens {
        &self.lens
    }

    /// Where the camera stands, in the unit frame, metres.
    #[must_use]
    pub const fn origin(&self) -> Vector {
        self.origin
    }

    /// Along the optical axis, in the unit frame, length 1.
    #[must_use]
    pub const fn forward(&self) -> Vector {
        self.axes[1]
    }

    /// Columns.
    pub(super) const fn width(&self) -> usize {
        self.lens.width as usize
    }

    /// Rows.
    pub(super) const fn height(&self) -> usize {
        self.lens.height as usize
    }

    /// Angle that a pixel spans on the axis, radians.
    pub(super) const fn pixel(&self) -> f32 {
        self.pixel
    }

    /// A part of the image, of which one pixel of `step` × `step` is kept, and which those are. Its pixels look where
    /// those of the whole image look, and are as sharp.
    pub(super) fn part(&self, rect: Rect, step: usize) -> (Self, Vec<usize>) {
        let columns = (rect.right - rect.left).div_ceil(step);
        let rows = (rect.bottom - rect.top).div_ceil(step);
        // The middle one of a step, where the image has it.
        let place = |from: usize, at: usize, size: usize| (from + at * step + step / 2).min(size - 1);
        let kept: Vec<usize> = (0..columns * rows)
            .map(|at| {
                let column = place(rect.left, at % columns, self.width());
                place(rect.top, at / columns, self.height()) * self.width() + column
            })
            .collect();
        let [x, y] = self.middle;
        let middle = |of: f64, from: usize| (of - (from + step / 2) as f64 - 0.5) / step as f64 + 0.5;
        let part = Self {
            lens: Lens { width: columns as u32, height: rows as u32, ..self.lens },
            focal: self.focal / step as f64,
            middle: [middle(x, rect.left), middle(y, rect.top)],
            rays: kept.iter().map(|&pixel| self.rays[pixel]).collect(),
            gain: kept.iter().map(|&pixel| self.gain[pixel]).collect(),
            ..*self
        };
        (part, kept)
    }

    pub(super) fn rays(&self) -> &[Vector] {
        &self.rays
    }

    pub(super) fn gain(&self) -> &[f32] {
        &self.gain
    }

    /// Direction, in the unit frame and of length 1, through a place of the image, in pixels from its upper left corner.
    #[must_use]
    pub fn ray(&self, column: f64, row: f64) -> Vector {
        let [x, z] = [(column - self.middle[0]) / self.focal, (self.middle[1] - row) / self.focal];
        let distorted = x.hypot(z);
        let scale = if distorted > 1e-12 { self.lens.undistort(distorted) / distorted } else { 1.0 };
        let turned = (self.mount.rotation * Vector3::new(x * scale, 1.0, z * scale)).normalize();
        Vector::new(turned.x as f32, turned.y as f32, turned.z as f32)
    }

    /// Direction through a place near the middle of a pixel, `across` and `down` within ±0.5 pixels of it.
    pub(super) fn ray_near(&self, pixel: usize, across: f32, down: f32) -> Vector {
        let (width, height) = (self.width(), self.height());
        let (column, row) = (pixel % width, pixel / width);
        let middle = self.rays[pixel];
        // Differences of neighbours, inwards at the edges of the image.
        let right =
            if column + 1 < width { self.rays[pixel + 1] - middle } else { middle - self.rays[pixel - 1] };
        let below = if row + 1 < height {
            self.rays[pixel + width] - middle
        } else {
            middle - self.rays[pixel - width]
        };
        (middle + right * across + below * down).normalize()
    }

    /// Where a place of the unit frame is in the image, in pixels from the upper left corner, also outside of it;
    /// `None` behind the camera.
    #[must_use]
    pub fn project(&self, point: [f64; 3]) -> Option<[f64; 2]> {
        let seen = self.mount.inverse_transform_point(&point.into());
        (seen.y > 0.0).then(|| self.land(seen.x / seen.y, seen.z / seen.y))
    }

    fn land(&self, x: f64, z: f64) -> [f64; 2] {
        let [x, y] = self.lens.land(x, z, self.focal, self.corner);
        [self.middle[0] + x, self.middle[1] + y]
    }

    /// How fast a place moves in the image, pixels per second to the right and down, without the slope of the distortion.
    pub(super) fn motion(&self, point: Vector, velocity: Vector) -> [f32; 2] {
        let to = point - self.origin;
        let [right, forward, up] = self.axes;
        let (depth, closing) = (forward.dot(to).max(0.1), forward.dot(velocity));
        let across =
            |axis: Vector| (axis.dot(velocity) - axis.dot(to) * closing / depth) / depth * self.focal as f32;
        [across(right), -across(up)]
    }

    /// The part of the image that a turned box can be in, `margin` pixels added; `None` outside the image.
    ///
    /// Straight edges land on curves, so points along them are looked at; what lies behind the camera is cut off.
    pub(super) fn seen_box(&self, pose: &Pose, half: Vector, margin: f32) -> Option<Rect> {
        let corner = |at: usize| {
            let sign = |bit: usize| if at >> bit & 1 == 0 { -1.0 } else { 1.0 };
            pose.transform_point(Vector::new(sign(0), sign(1), sign(2)) * half)
        };
        let corners: [Vector; 8] = std::array::from_fn(corner);
        let edges = (0..8usize).flat_map(|from| (0..3).map(move |bit| (from, from | 1 << bit)));
        self.seen_edges(edges.filter(|(a, b)| a != b).map(|(a, b)| (corners[a], corners[b])), margin)
    }

    /// The part of the image around straight edges.
    pub(super) fn seen_edges(
        &self,
        edges: impl Iterator<Item = (Vector, Vector)>,
        margin: f32,
    ) -> Option<Rect> {
        /// Nearest that is looked at, metres before the camera.
        const NEAR_M: f32 = 0.05;
        const POINTS: usize = 6;
        let mut bounds = [f64::MAX, f64::MIN, f64::MAX, f64::MIN];
        for (a, b) in edges {
            let camera = |point: Vector| self.axes.map(|axis| axis.dot(point - self.origin));
            let (mut a, mut b) = (Vector::from(camera(a)), Vector::from(camera(b)));
            if a.y < NEAR_M && b.y < NEAR_M {
                continue;
            }
            if a.y < NEAR_M {
                a = a + (b - a) * ((NEAR_M - a.y) / (b.y - a.y));
            } else if b.y < NEAR_M {
                b = b + (a - b) * ((NEAR_M - b.y) / (a.y - b.y));
            }
            for step in 0..=POINTS {
                let point = a + (b - a) * (step as f32 / POINTS as f32);
                let depth = f64::from(point.y.max(NEAR_M));
                let [x, y] = self.land(f64::from(point.x) / depth, f64::from(point.z) / depth);
                bounds = [bounds[0].min(x), bounds[1].max(x), bounds[2].min(y), bounds[3].max(y)];
            }
        }
        let margin = f64::from(margin);
        let side = |low: f64, high: f64, size: usize| {
            let from = (low - margin).floor().max(0.0);
            let to = (high + margin).ceil().min(size as f64);
            (from < to).then_some((from as usize, to as usize))
        };
        let (left, right) = side(bounds[0], bounds[1], self.width())?;
        let (top, bottom) = side(bounds[2], bounds[3], self.height())?;
        Some(Rect { left, right, top, bottom })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::space;

    fn view(k1: f64, k2: f64) -> View {
        let pose = config::Pose {
            position_m: [1.0, -2.0, 4.0],
            yaw_deg: 10.0,
            pitch_deg: -8.0,
            ..Default::default()
        };
        let lens = Lens { k1, k2, ..Lens::pinhole(960, 540, 95.0) };
        View::new(lens, space::mount_to_unit(&pose))
    }

    #[test]
    fn rays_and_projection_agree() {
        for (k1, k2) in [(0.0, 0.0), (-0.05, 0.0), (-0.1, 0.01), (0.08, 0.0)] {
            let view = view(k1, k2);
            for (column, row) in [(0.5, 0.5), (10.0, 520.0), (480.0, 270.0), (959.5, 539.5), (600.5, 300.25)]
            {
                let seen = view.origin + view.ray(column, row) * 20.0;
                let [x, y] = view.project([seen.x, seen.y, seen.z].map(f64::from)).unwrap();
                assert!((x - column).abs() < 0.01 && (y - row).abs() < 0.01, "{x} {y}, not {column} {row}");
            }
            assert_eq!(view.project([0.0, -15.0, 1.0]), None);
        }
    }

    #[test]
    fn the_field_of_view_and_the_distortion_are_as_written() {
        let lens = Lens::pinhole(960, 540, 90.0);
        assert!((lens.focal_px() - 480.0).abs() < 1e-9);
        let view = View::new(Lens { k1: -0.1, ..lens }, Isometry3::identity());
        // tan 45° = 1 lands on the edge; at 0.5, by hand: 480·0.5·(1 − 0.1·0.25) / (1 − 0.1) = 260.
        let [edge, _] = view.project([3.0, 3.0, 0.0]).unwrap();
        let [inner, middle] = view.project([1.0, 2.0, 0.0]).unwrap();
        assert!((edge - 960.0).abs() < 1e-9 && (inner - 740.0).abs() < 1e-9 && (middle - 270.0).abs() < 1e-9);
        // Points far outside stay outside, on their side.
        assert!(view.project([30.0, 1.0, 0.0]).unwrap()[0] > 1500.0);
    }

    #[test]
    fn a_part_of_an_image_looks_where_the_whole_does() {
        let whole = view(-0.06, 0.0);
        let (part, kept) = whole.part(Rect { left: 300, right: 421, top: 200, bottom: 240 }, 3);
        assert_eq!((part.width(), part.height(), kept[0]), (41, 14, 201 * 960 + 301));
        assert_eq!(part.pixel(), whole.pixel());
        for at in [0, 7, 100, 573] {
            let seen = part.origin + part.rays()[at] * 20.0;
            let [x, y] = part.project([seen.x, seen.y, seen.z].map(f64::from)).unwrap();
            let (column, row) = ((at % 41) as f64 + 0.5, (at / 41) as f64 + 0.5);
            assert!((x - column).abs() < 0.01 && (y - row).abs() < 0.01, "{x} {y}, not {column} {row}");
        }
    }

    #[test]
    fn a_lens_that_folds_the_image_is_known() {
        let lens = |fov_deg, k1| Lens { k1, ..Lens::pinhole(960, 540, fov_deg) };
        assert!(lens(95.0, -0.05).corner().is_some() && lens(150.0, 0.0).corner().is_some());
        assert!(lens(95.0, -0.4).corner().is_none());
        assert!(lens(140.0, -0.05).corner().is_none());
    }

    #[test]
    fn light_falls_off_by_the_fourth_power_of_the_cosine() {
        let lens = Lens { vignetting: 1.0, ..Lens::pinhole(2, 1, 90.0) };
        let view = View::new(lens, Isometry3::identity());
        // The middle of the pixel is at tan = 0.5, whose cos² is 1 / 1.25.
        assert!((view.gain()[0] - 0.64).abs() < 1e-5, "{}", view.gain()[0]);
    }

    #[test]
    fn a_box_is_seen_within_its_part_of_the_image() {
        let view = view(-0.08, 0.0);
        let pose = Pose::new(Vector::new(3.0, 8.0, 1.5), Vector::Z * 0.4);
        let half = Vector::new(4.0, 1.0, 1.5);
        let rect = view.seen_box(&pose, half, 0.0).unwrap();
        let mut random = 1u64;
        for _ in 0..2000 {
            let mut next = || {
                random = super::super::super::random::mix(random);
                (random >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            };
            let point = pose.transform_point(half * Vector::new(next(), next(), next()));
            let [x, y] = view.project([point.x, point.y, point.z].map(f64::from)).unwrap();
            let inside = |at: f64, from: usize, to: usize, size: usize| {
                at < 0.0 || at > size as f64 || (from as f64 - 1.0..=to as f64 + 1.0).contains(&at)
            };
            assert!(
                inside(x, rect.left, rect.right, 960) && inside(y, rect.top, rect.bottom, 540),
                "{x} {y} {rect:?}"
            );
        }
        assert_eq!(view.seen_box(&Pose::from_translation(Vector::new(0.0, -20.0, 0.0)), half, 2.0), None);
    }
}
