//! A person in a room: what camera, depth camera, radar and LiDAR see, with the joints of the truth.

use std::path::Path;

use image::RgbImage;
use nalgebra::Point3;
use parry3d::math::Vector;
use plotters::prelude::*;

use super::{Area, Boxed, Drawn, colour, film, is_film, mesh, paint_camera, quartered, still, titled};
use crate::simulate::body::{BONES, JOINTS};
use crate::simulate::caster::Caster;
use crate::simulate::mmfi::Sequence;
use crate::simulate::motion::{FRAMES, RATE_HZ};
use crate::simulate::room::view::{Lens, View};
use crate::simulate::room::{Environment, Performer, Room, RoomScene, cloud, points};
use crate::simulate::{Progress, SimulateError, pool};
use crate::space;

/// What the points are drawn in, from the front: metres to the right and up.
const ACROSS: std::ops::Range<f64> = -1.6..1.6;
const UP: std::ops::Range<f64> = -0.1..2.2;
/// Of a radar point's colour, m/s.
const FASTEST: f64 = 2.0;

/// Draws a sequence of a scene: a picture of the instant that is least like the others as a PNG file, or the whole of it as
/// an animated GIF file, by the name of the file. `progress` is told (pictures done, pictures in all) and says whether to go on.
///
/// # Errors
/// [`SimulateError`] when the file cannot be written, or `progress` says no.
pub fn draw(
    scene: &RoomScene,
    sequence: Sequence,
    file: &Path,
    threads: Option<usize>,
    progress: Progress<'_>,
) -> Result<(), SimulateError> {
    pool(threads)?.install(|| {
        let room = Room::new(scene.seed, Environment::of(sequence.subject));
        let view = View::new(scene, &room);
        let performer = Performer::new(scene, sequence.subject, sequence.activity);
        let looker = Looker { scene, sequence, room, view, lens: Lens::new(scene), performer };
        if is_film(file) {
            let frames: Vec<usize> = (1..=FRAMES).step_by(2).collect();
            return film(file, f64::from(RATE_HZ) / 2.0, &frames, |frame| looker.picture(frame), progress);
        }
        still(file, &looker.picture(looker.interesting())?)
    })
}

struct Looker<'a> {
    scene: &'a RoomScene,
    sequence: Sequence,
    room: Room,
    view: View,
    lens: Lens,
    performer: Performer,
}

/// When frame `number`, from 1, is taken.
fn seconds(number: usize) -> f32 {
    (number - 1) as f32 / RATE_HZ
}

/// A point of the unit frame, its colour, and its size in pixels.
type Spot = (Point3<f64>, RGBColor, i32);

impl Looker<'_> {
    /// The frame whose posture is farthest from the mean one.
    fn interesting(&self) -> usize {
        let postures: Vec<_> =
            (1..=FRAMES).map(|number| *self.performer.skeleton(seconds(number)).joints()).collect();
        let mean: Vec<_> = (0..JOINTS)
            .map(|joint| postures.iter().map(|joints| joints[joint]).sum::<Vector>() / FRAMES as f32)
            .collect();
        let apart = |joints: &[Vector; JOINTS]| -> f32 {
            joints.iter().zip(&mean).map(|(joint, mean)| (*joint - *mean).length()).sum()
        };
        let farthest = (1..).zip(&postures).max_by(|(_, a), (_, b)| apart(a).total_cmp(&apart(b)));
        farthest.map_or(1, |(number, _)| number)
    }

    fn picture(&self, number: usize) -> Result<RgbImage, SimulateError> {
        let Self { scene, sequence, .. } = self;
        let caster = self.performer.caster(&self.room, seconds(number));
        let seen = self.view.picture(scene, &caster, sequence.number(), number);
        let whole = |pixels| {
            let image = RgbImage::from_raw(scene.camera.width, scene.camera.height, pixels);
            image.ok_or_else(|| SimulateError::Draw("a camera gave another size".to_owned()))
        };
        let far = f64::from(seen.depth.iter().copied().max().unwrap_or(0).max(1));
        let tint = |&depth: &u16| match colour(1.0 - f64::from(depth) / far) {
            RGBColor(r, g, b) if depth > 0 => [r, g, b],
            _ => [0; 3],
        };
        let (image, depth) = (whole(seen.rgb)?, whole(seen.depth.iter().flat_map(tint).collect())?);
        let place = self.view.frame_of(caster.moving()).map(|at| at as f64);
        let name = format!("S{:02}: {}", sequence.subject, sequence.activity.name());
        let boxed = Boxed { place, name, colour: RGBColor(60, 220, 60) };
        let skeleton = self.performer.skeleton(seconds(number));
        let of_joint = |&joint| self.lens.pixel(self.performer.place().transform_point(joint));
        let joints: Vec<[f64; 2]> = skeleton.joints().iter().map(of_joint).collect();
        let (radar, lidar) = (self.radar(&caster, number), self.lidar(&caster, number));
        quartered(|[camera, range, of_radar, of_lidar]| {
            let camera = titled(camera, &format!("camera, frame {number}, with the joints of the truth"))?;
            let drawn = paint_camera(&camera, &image, &[boxed])?;
            for (from, to) in BONES {
                let ends = [joints.get(from), joints.get(to)].into_iter().flatten();
                let bone: Vec<(i32, i32)> = ends.map(|&joint| drawn.at(joint)).collect();
                camera.draw(&PathElement::new(bone, RGBColor(255, 120, 40).stroke_width(2)))?;
            }
            paint_camera(&titled(range, &format!("depth, 0 to {:.1} m", far / 1e3))?, &depth, &[])?;
            let title = format!("radar from the front, by speed (−{FASTEST} to {FASTEST} m/s)");
            paint_points(of_radar, &title, &radar)?;
            paint_points(of_lidar, "LiDAR from the front, by distance", &lidar)
        })
    }

    fn radar(&self, caster: &Caster, number: usize) -> Vec<Spot> {
        let to_unit = space::sensor_to_unit(&self.scene.pose.radar);
        let points = points::observe(self.scene, caster, self.sequence.number(), number).into_iter();
        let spot = |point: points::Point| {
            let tint = colour(0.5 + point.doppler_mps / (2.0 * FASTEST));
            (to_unit * Point3::from(point.position), tint, 5)
        };
        points.map(spot).collect()
    }

    fn lidar(&self, caster: &Caster, number: usize) -> Vec<Spot> {
        let to_unit = space::sensor_to_unit(&self.scene.pose.lidar);
        let points = cloud::observe(self.scene, caster, self.sequence.number(), number).into_iter();
        let places: Vec<Point3<f64>> = points.map(|point| to_unit * Point3::from(point)).collect();
        let nearest = places.iter().map(|place| place.y).fold(f64::INFINITY, f64::min);
        places.into_iter().map(|place| (place, colour(1.0 - (place.y - nearest) / 1.5), 1)).collect()
    }
}

fn paint_points(area: &Area<'_>, title: &str, points: &[Spot]) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .caption(title, ("sans-serif", 20))
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(ACROSS, UP)?;
    chart.plotting_area().fill(&RGBColor(18, 18, 24))?;
    for (place, tint, size) in points {
        if ACROSS.contains(&place.x) && UP.contains(&place.z) {
            chart.plotting_area().draw(&Circle::new((place.x, place.z), *size, tint.filled()))?;
        }
    }
    mesh(&mut chart, "z, m")
}
