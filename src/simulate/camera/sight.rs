//! Whether a picture shows an object: what of it can be told from what is behind it.
//!
//! The part of the picture in which the object lies is made twice, with it and without it, by the very steps that make the
//! picture: the same light, shadows, air, lens, dirt and exposure. A pixel tells the object when it sees a part of it, and
//! its byte differs from that of the background by [`LEVELS`] of 255, and by [`DEVIATIONS`] of the noise of the sensor. So
//! one number knows of night, fog, glare, dirt, what hides the object, and its size. Of a large object every n-th pixel is
//! looked at, and then all of them where few were found. Drops before the lens, which hide a pixel here and there, and the
//! glow of moving lamps are left out.

use parry3d::math::Vector;

use super::super::caster::{Caster, Solids};
use super::super::solid::{ObjectId, Solid};
use super::lens::{Rect, View};
use super::tone::{Glow, level};
use super::{Renderer, Window};

/// Least difference of a byte.
const LEVELS: u8 = 10;
/// Least difference, in standard deviations of a pixel's noise.
const DEVIATIONS: f32 = 2.0;
/// Pixels of the place of an object that are looked at first, about so many.
const SAMPLES: usize = 300;
/// Every so many-th of a column and a row at least: what tells an object may be its lamps alone.
const COARSEST: usize = 4;
/// Up to this number every pixel is counted.
const EXACT: usize = 256;
/// Cells of the shadows of moving things, metres.
const SHADOW_M: f32 = 0.2;

/// Where an object can be in the image.
fn place(view: &View, solids: &[&Solid]) -> Option<Rect> {
    let rects = solids.iter().filter_map(|solid| view.seen_box(&solid.pose, solid.shape.half(), 0.0));
    rects.reduce(|a, b| Rect {
        left: a.left.min(b.left),
        right: a.right.max(b.right),
        top: a.top.min(b.top),
        bottom: a.bottom.max(b.bottom),
    })
}

impl Renderer {
    /// A renderer of a part of the picture, one of `step` × `step` pixels of it, and which those are.
    fn part(&self, rect: Rect, step: usize) -> (Self, Vec<usize>) {
        let (view, kept) = self.view.part(rect, step);
        let part = Self {
            view: view.into(),
            shader: self.shader.clone(),
            plate: self.plate.part(&kept),
            sensor: self.sensor,
            exposure: self.exposure,
            rays: 1,
            shadow_m: SHADOW_M,
            glow: std::sync::OnceLock::new(),
        };
        (part, kept)
    }

    /// How many pixels of the picture tell an object that moves or may move; about how many where they are more than
    /// [`EXACT`].
    pub(super) fn sight(&self, caster: &Caster, object: ObjectId, window: Option<&Window>) -> usize {
        let (own, others): (Vec<&Solid>, Vec<&Solid>) =
            caster.moving().iter().partition(|solid| solid.object == object);
        let Some(rect) = place(&self.view, &own) else { return 0 };
        let others = Solids::new(others.into_iter().copied().collect());
        let without = Caster::new(caster.still_solids(), others);
        let count = |step: usize| self.count([caster, &without], object, window, rect, step) * step * step;
        let area = (rect.right - rect.left) * (rect.bottom - rect.top);
        let step = ((area as f64 / SAMPLES as f64).sqrt() as usize).clamp(1, COARSEST);
        let found = count(step);
        if step > 1 && (1..=EXACT).contains(&found) { count(1) } else { found }
    }

    /// Of every `step`-th pixel of a column and a row of a part of the picture, how many tell an object that is in the
    /// first of two worlds and not in the other.
    fn count(
        &self,
        [with, without]: [&Caster; 2],
        object: ObjectId,
        window: Option<&Window>,
        rect: Rect,
        step: usize,
    ) -> usize {
        let (part, kept) = self.part(rect, step);
        let exposure = window.map_or(&self.exposure, |window| &window.exposure);
        let (with, shown) = part.look(with, exposure.seconds, Some(object));
        if shown.is_empty() {
            return 0;
        }
        let (without, _) = part.look(without, exposure.seconds, None);
        let glow = self.glow.get_or_init(|| self.scattered(&self.plate.light));
        let gathered = |light: Vector, pixel: usize| self.gathered(glow, window, light, pixel);
        let tells = |&&at: &&usize| {
            let (Some(&pixel), Some(&a), Some(&b)) = (kept.get(at), with.get(at), without.get(at)) else {
                return false;
            };
            let (a, b) = (gathered(a, pixel).to_array(), gathered(b, pixel).to_array());
            a.into_iter().zip(b).any(|(a, b)| {
                level(a).abs_diff(level(b)) >= LEVELS
                    && (a - b).abs() >= DEVIATIONS * exposure.noise(a.max(b))
            })
        };
        shown.iter().filter(tells).count()
    }

    /// What the sensor gathers of a pixel's light, 1 being white.
    fn gathered(&self, glow: &Glow, window: Option<&Window>, light: Vector, pixel: usize) -> Vector {
        let (column, row) = (pixel % self.view.width(), pixel / self.view.width());
        let light = glow.on(light, column, row);
        let light = window.map_or(light, |window| window.dirt.on(light, column, row));
        let exposure = window.map_or(&self.exposure, |window| &window.exposure);
        light * exposure.scale * self.view.gain()[pixel]
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Background, tests::street};
    use super::*;
    use crate::simulate::scene::{Vehicle, VehicleKind, Weather};
    use crate::simulate::world::World;

    /// Pixels that tell the car on lane 1 (10 m away), behind a vehicle of this kind.
    fn seen(weather: Weather, before: Option<VehicleKind>, soiling: f64) -> usize {
        let mut scene = street(VehicleKind::Car, 0.0, weather);
        scene.sequence[0].faults.camera_soiling = soiling;
        scene.sequence[0].vehicles.extend(before.map(|kind| Vehicle {
            kind,
            lane: 0,
            at_m: 1.0,
            ..Vehicle::default()
        }));
        let world = World::new(&scene);
        let background = Background::new(&scene, &world.empty(), world.lamps());
        background.sight(&scene, &world.at(&scene, 0, 0.0), 0, ObjectId::vehicle(0))
    }

    #[test]
    fn what_hides_dims_or_blurs_an_object_takes_it_from_sight() {
        let day = Weather::default();
        let clear = seen(day, None, 0.0);
        // 4.4 × 1.45 m at 10 m, 4.4° of a sixth of a degree per pixel each: some 60 × 20 pixels.
        assert!((300..3000).contains(&clear), "{clear}");
        let hidden = seen(day, Some(VehicleKind::Bus), 0.0);
        assert!(hidden < clear / 10, "{hidden} of {clear}");
        let night = Weather { sun_elevation_deg: -25.0, ..day };
        let [lit, unlit] = [true, false].map(|lamps| seen(Weather { lamps, ..night }, None, 0.0));
        assert!(unlit < 64 && lit > 2 * unlit.max(32), "{lit} {unlit}");
        let [thin, thick] =
            [100.0, 5.0].map(|visibility_m| seen(Weather { visibility_m, cloud: 1.0, ..day }, None, 0.0));
        assert!(thin > clear / 8 && thick < 16, "{thin} {thick} of {clear}");
        let [half, all] = [0.5, 1.0].map(|share| seen(day, None, share));
        assert!(all < 64 && half <= clear, "{half} {all} of {clear}");
    }
}
