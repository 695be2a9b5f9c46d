//! The camera: a lens, a light, and a picture of what they show.
//!
//! What stands still looks the same in every frame of a weather: a [`Renderer`] looks at it once, with many rays at its
//! edges, and a frame adds only what moves, what that hides, shades and lights. Light is reckoned in lux and cd/m² up to
//! the sensor, which has an automatic exposure and the noise of light and of reading. The exposure sees what the sensor
//! sees: the veil of a sun before the lens, and the dirt on its window.
//!
//! For a street the parts come from a scene ([`Background`]). Anything else that can be cast rays at is rendered by its
//! parts: a [`View`] (lens and place), a [`Light`], a [`Sensor`]:
//!
//! * [`render`] makes one RGB image,
//! * a [`Renderer`] makes many of the same room at a fraction of the cost,
//! * [`depth`] makes the image of a depth camera.

use std::io::Cursor;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use image::codecs::jpeg::JpegEncoder;
use image::{ImageBuffer, ImageError, Luma, RgbImage};
use parry3d::math::Vector;

use super::caster::{Caster, Solids};
use super::random::{Purpose, Random};
use super::scene::{Camera, Scene, Weather};
use super::solid::ObjectId;
use super::texture::Texture;
use crate::space;

mod background;
mod dirt;
mod lens;
mod light;
mod objects;
mod sensor;
mod shadow;
mod sight;
mod tone;
mod weather;

use background::{FAR_M, Plate, Shader};
use dirt::Dirt;
pub use lens::{Lens, View};
pub use light::Light;
use objects::Movers;
use sensor::Exposure;
pub use sensor::Sensor;
use tone::Glow;

/// Where a picture's random numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shot {
    /// Of the scene.
    pub seed: u64,
    /// Sequence.
    pub sequence: usize,
    /// Frame of the sequence.
    pub frame: usize,
}

/// A camera before one world that stands still, in one light.
#[derive(Debug)]
pub struct Renderer {
    view: Arc<View>,
    shader: Arc<Shader>,
    plate: Plate,
    sensor: Sensor,
    exposure: Exposure,
    rays: u32,
    /// Cells of the shadows of what moves, metres.
    shadow_m: f32,
    /// What the lens scatters of what stands still, when it has been asked for.
    glow: OnceLock<Glow>,
}

/// Dirt before a lens, and the exposure that it makes.
#[derive(Debug)]
struct Window {
    dirt: Dirt,
    exposure: Exposure,
}

/// Cells of the shadows of what moves, metres.
const SHADOW_M: f32 = 0.05;

impl Renderer {
    /// Looks at a room: what stands still in `still`, on a plain floor where nothing lies on the ground. `rays` squared
    /// rays make the edges smooth.
    #[must_use]
    pub fn room(view: Arc<View>, light: Light, sensor: Sensor, still: &Caster, rays: u32) -> Self {
        Self::new(view, Shader::new(light, Texture::room()), sensor, still, rays, false)
    }

    fn new(
        view: Arc<View>,
        shader: Shader,
        sensor: Sensor,
        still: &Caster,
        rays: u32,
        is_parallel: bool,
    ) -> Self {
        let plate = Plate::new(&view, &shader, still, rays, is_parallel);
        let exposure = Exposure::new(&sensor, &shader.light, plate.mean);
        let shader = Arc::new(shader);
        Self { view, shader, plate, sensor, exposure, rays, shadow_m: SHADOW_M, glow: OnceLock::new() }
    }

    /// The picture of what moves in `caster`, before what stood still when this was made.
    #[must_use]
    pub fn image(&self, caster: &Caster, shot: Shot) -> RgbImage {
        self.image_through(caster, shot, None)
    }

    fn image_through(&self, caster: &Caster, shot: Shot, window: Option<&Window>) -> RgbImage {
        let mut random = Random::new(shot.seed, shot.sequence, shot.frame, Purpose::Camera);
        let seconds = window.map_or(self.exposure, |window| window.exposure).seconds;
        let (mut image, _) = self.look(caster, seconds, None);
        weather::rain(&self.view, &self.shader.light, seconds, &mut image, &mut random);
        self.develop(&mut image, window, &mut random)
    }

    /// A window of which dirt covers `share`, other dirt in every sequence.
    fn window(&self, seed: u64, sequence: usize, share: f64) -> Window {
        let mut random = Random::new(seed, sequence, 0, Purpose::Dirt);
        let (view, light) = (&self.view, &self.shader.light);
        let dirt = Dirt::new(view, light, self.plate.veil.is_some(), share, &mut random);
        let seen = |pixel: usize| {
            let (column, row) = (pixel % view.width(), pixel / view.width());
            let veil = self.plate.veil.as_ref().map_or(Vector::ZERO, |veil| veil.at(column, row));
            self.plate.light[pixel] + veil
        };
        let exposure = Exposure::new(&self.sensor, light, dirt.mean(view, seen));
        Window { dirt, exposure }
    }

    /// What a depth camera at the same place measures; see [`depth`].
    #[must_use]
    pub fn depth(&self, caster: &Caster) -> ImageBuffer<Luma<u16>, Vec<u16>> {
        let movers = Movers::new(&self.view, &self.shader, &self.plate, caster, self.shadow_m);
        millimetres(&self.view, movers.depth().iter().copied())
    }

    /// How long the shutter is open, seconds.
    #[must_use]
    pub const fn exposure_s(&self) -> f32 {
        self.exposure.seconds
    }

    /// Light of every pixel over an exposure, cd/m², and which of them see an object.
    fn look(&self, caster: &Caster, seconds: f32, object: Option<ObjectId>) -> (Vec<Vector>, Vec<usize>) {
        let mut image = self.plate.light.clone();
        if caster.moving().is_empty() {
            return (image, Vec::new());
        }
        let mut movers = Movers::new(&self.view, &self.shader, &self.plate, caster, self.shadow_m);
        movers.touch_background(&mut image);
        let background = image.clone();
        movers.paint(&mut image, &background, self.rays);
        if movers.is_blurred(seconds) {
            movers.blur(&mut image, &background, seconds);
        }
        let shown =
            object.map(|object| (0..image.len()).filter(|&pixel| movers.shows(pixel, object)).collect());
        (image, shown.unwrap_or_default())
    }

    /// The light that the lens scatters of an image.
    fn scattered(&self, image: &[Vector]) -> Glow {
        let share = weather::scatter(&self.shader.light);
        Glow::new(image, self.view.width(), share, self.plate.veil.as_ref())
    }

    /// Lens, window, sensor and curve.
    fn develop(&self, image: &mut [Vector], window: Option<&Window>, random: &mut Random) -> RgbImage {
        let width = self.view.width();
        let glow = self.scattered(image);
        let exposure = window.map_or(&self.exposure, |window| &window.exposure);
        let mut picture = RgbImage::new(self.view.width() as u32, self.view.height() as u32);
        let rows = image.chunks_exact_mut(width).zip(self.view.gain().chunks_exact(width));
        let mut line = Vec::new();
        let mut lines = [Vec::new(), Vec::new()];
        for (y, ((row, gain), bytes)) in rows.zip(picture.chunks_exact_mut(3 * width)).enumerate() {
            glow.add(y, row, &mut line);
            if let Some(window) = window {
                window.dirt.cover(y, row, &mut lines);
            }
            for (pixel, gain) in row.iter_mut().zip(gain) {
                *pixel *= exposure.scale * *gain;
            }
            sensor::expose(exposure, row, random);
            tone::develop(row, bytes);
        }
        picture
    }
}

/// One picture of a room; see [`Renderer::room`] for many.
#[must_use]
pub fn render(
    caster: &Caster,
    view: &View,
    light: &Light,
    sensor: Sensor,
    rays: u32,
    shot: Shot,
) -> RgbImage {
    let view = Arc::new(view.clone());
    Renderer::room(view, light.clone(), sensor, caster, rays).image(caster, shot)
}

/// What a depth camera measures: distance along the optical axis, millimetres, 0 where there is nothing within 65.535 m
/// (as the depth images of RealSense and Kinect cameras are written).
#[must_use]
pub fn depth(caster: &Caster, view: &View) -> ImageBuffer<Luma<u16>, Vec<u16>> {
    let far =
        |ray: &Vector| caster.cast(view.origin(), *ray, FAR_M).map_or(f32::INFINITY, |hit| hit.distance);
    millimetres(view, view.rays().iter().map(far))
}

/// From metres along the rays to millimetres along the axis.
fn millimetres(view: &View, distances: impl Iterator<Item = f32>) -> ImageBuffer<Luma<u16>, Vec<u16>> {
    let mut image = ImageBuffer::new(view.lens().width, view.lens().height);
    for ((pixel, ray), distance) in image.pixels_mut().zip(view.rays()).zip(distances) {
        let millimetres = 1000.0 * distance * ray.dot(view.forward());
        // Written so that what is infinite gives 0.
        *pixel = Luma([if millimetres < 65_535.0 { millimetres.round() as u16 } else { 0 }]);
    }
    image
}

/// The lens of a scene's camera, at its place.
fn view(scene: &Scene) -> View {
    View::new(scene.camera.lens(), space::mount_to_unit(&scene.pose.camera))
}

/// Where a place of the unit frame is in the image, in pixels from the upper left corner; `None` behind the camera.
#[must_use]
pub fn project(scene: &Scene, point: [f64; 3]) -> Option<[f64; 2]> {
    lens::project(&scene.camera.lens(), &space::mount_to_unit(&scene.pose.camera), point)
}

/// A weather's renderer, made when it is first asked for.
type Slot = Arc<OnceLock<Renderer>>;

/// The camera of a scene before its street, in every weather of its sequences.
#[derive(Debug)]
pub struct Background {
    view: Arc<View>,
    still: Caster,
    lamps: Vec<Vector>,
    /// Used last comes last.
    renderers: Mutex<Vec<(Weather, Slot)>>,
    /// The windows of sequences with dirt on them, used last comes last.
    windows: Mutex<Vec<(usize, Arc<Window>)>>,
    most: usize,
}

impl Background {
    /// Looks at the street without traffic in the weather of the first sequence; others follow when they are needed.
    /// `lamps` are the heads of its street lamps.
    ///
    /// One weather takes at most 52 bytes per pixel (27 MB at 960×540), and the rays 16 for all of them; those of as many
    /// sequences as there are threads are kept, and one.
    #[must_use]
    pub fn new(scene: &Scene, empty: &Caster, lamps: &[Vector]) -> Self {
        let new = Self {
            view: Arc::new(view(scene)),
            still: Caster::new(empty.still_solids(), Solids::default()),
            lamps: lamps.to_vec(),
            renderers: Mutex::default(),
            windows: Mutex::default(),
            most: rayon::current_num_threads() + 1,
        };
        // Here, and not in the middle of a frame, all threads can help: no frame waits for this one.
        new.slot(scene.weather(0)).get_or_init(|| new.renderer(scene, scene.weather(0), true));
        new
    }

    fn slot(&self, weather: &Weather) -> Slot {
        let mut renderers = self.renderers.lock().unwrap_or_else(PoisonError::into_inner);
        let at = renderers.iter().position(|(of, _)| of == weather);
        let slot = at.map_or_else(Slot::default, |at| renderers.remove(at).1);
        if renderers.len() >= self.most {
            renderers.remove(0);
        }
        renderers.push((*weather, slot.clone()));
        slot
    }

    /// With all threads only where no frame is in work: a thread that waits in here could take on another frame, which
    /// would wait for this one.
    fn renderer(&self, scene: &Scene, weather: &Weather, is_parallel: bool) -> Renderer {
        let light = Light::outdoors(weather, &self.lamps);
        let texture = Texture::street(scene, light.is_dark, light.rain_mm_h);
        let texture = if weather.lamps { texture } else { texture.unlit() };
        let (shader, sensor) = (Shader::new(light, texture), scene.camera.sensor());
        Renderer::new(self.view.clone(), shader, sensor, &self.still, scene.camera.rays, is_parallel)
    }

    /// The image of a frame.
    #[must_use]
    pub fn observe(&self, scene: &Scene, caster: &Caster, sequence: usize, frame: usize) -> RgbImage {
        let weather = scene.weather(sequence);
        let slot = self.slot(weather);
        let renderer = slot.get_or_init(|| self.renderer(scene, weather, false));
        let window = self.window(scene, renderer, sequence);
        renderer.image_through(caster, Shot { seed: scene.seed, sequence, frame }, window.as_deref())
    }

    /// How many pixels of an image of a sequence tell an object: see the module `sight`.
    #[must_use]
    pub(super) fn sight(&self, scene: &Scene, caster: &Caster, sequence: usize, object: ObjectId) -> usize {
        let weather = scene.weather(sequence);
        let slot = self.slot(weather);
        let renderer = slot.get_or_init(|| self.renderer(scene, weather, false));
        renderer.sight(caster, object, self.window(scene, renderer, sequence).as_deref())
    }

    fn window(&self, scene: &Scene, renderer: &Renderer, sequence: usize) -> Option<Arc<Window>> {
        let share = scene.faults(sequence).camera_soiling;
        if share <= 0.0 {
            return None;
        }
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = windows.iter().position(|(of, _)| *of == sequence) {
            let found = windows.remove(at);
            windows.push(found);
        } else {
            if windows.len() >= self.most {
                windows.remove(0);
            }
            windows.push((sequence, Arc::new(renderer.window(scene.seed, sequence, share))));
        }
        windows.last().map(|(_, window)| window.clone())
    }
}

impl Camera {
    /// Its lens.
    #[must_use]
    pub const fn lens(&self) -> Lens {
        Lens {
            width: self.width,
            height: self.height,
            fov_deg: self.fov_deg,
            k1: self.k1,
            k2: self.k2,
            vignetting: self.vignetting,
        }
    }

    /// Its sensor.
    #[must_use]
    pub const fn sensor(&self) -> Sensor {
        Sensor {
            exposure_s: self.exposure_ms as f32 / 1000.0,
            longest_s: self.longest_exposure_ms as f32 / 1000.0,
            full_well_e: self.full_well_e as f32,
            read_noise_e: self.read_noise_e as f32,
        }
    }
}

/// The JPEG file of an image.
pub(super) fn jpeg(scene: &Scene, image: &RgbImage) -> Result<Vec<u8>, ImageError> {
    let mut file = Cursor::new(Vec::with_capacity(1 << 17));
    JpegEncoder::new_with_quality(&mut file, scene.camera.quality).encode_image(image)?;
    Ok(file.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::scene::{Traffic, Vehicle, VehicleKind};
    use crate::simulate::solid::{ObjectId, Shape, Solid, Surface};
    use crate::simulate::world::World;
    use nalgebra::{Isometry3, Translation3};
    use parry3d::bounding_volume::Aabb;
    use parry3d::math::Pose;

    const SHOT: Shot = Shot { seed: 1, sequence: 0, frame: 0 };

    fn cuboid(low: [f32; 3], high: [f32; 3], colour: [f32; 3]) -> Solid {
        let bounds = Aabb::new(Vector::from(low), Vector::from(high));
        Solid::upright(bounds, ObjectId(1), Surface::Cloth(colour))
    }

    /// A room of 6 × 6 × 3 m whose far wall is 4 m before the camera, and a person's trunk 2.5 m before it.
    fn room() -> (Arc<Solids>, Solid) {
        let grey = [0.5; 3];
        let still = vec![
            cuboid([-3.0, 4.0, 0.0], [3.0, 4.2, 3.0], grey),
            cuboid([-3.2, -2.0, 0.0], [-3.0, 4.0, 3.0], grey),
            cuboid([3.0, -2.0, 0.0], [3.2, 4.0, 3.0], grey),
            cuboid([-3.0, -2.0, 3.0], [3.0, 4.0, 3.2], grey),
        ];
        let trunk = Shape::Capsule { half_length: 0.3, radius: 0.2 };
        let at = Pose::from_translation(Vector::new(0.0, 2.7, 1.5));
        let person = Solid::still(trunk, at, ObjectId(2), Surface::Cloth([0.6, 0.05, 0.05]));
        (Arc::new(Solids::new(still)), person)
    }

    fn room_view() -> View {
        let lens = Lens { k1: -0.05, ..Lens::pinhole(96, 128, 60.0) };
        View::new(
            lens,
            Isometry3::from_parts(Translation3::new(0.0, 0.0, 1.5), nalgebra::UnitQuaternion::identity()),
        )
    }

    #[test]
    fn depth_is_that_of_geometry_along_the_axis() {
        let (still, person) = room();
        let view = room_view();
        let caster = Caster::new(still.clone(), Solids::new(vec![person]));
        let image = depth(&caster, &view);
        let at = |point: [f64; 3]| {
            let [x, y] = view.project(point).unwrap();
            i32::from(image.get_pixel(x as u32, y as u32).0[0])
        };
        assert!((at([0.0, 2.5, 1.5]) - 2500).abs() <= 2, "{}", at([0.0, 2.5, 1.5]));
        // All of the far wall is 4 m away along the axis, whatever the angle.
        assert_eq!((at([1.5, 4.0, 1.5]), at([-1.5, 4.0, 2.6])), (4000, 4000));
        assert!((at([0.0, 3.0, 0.0]) - 3000).abs() < 40, "the floor: {}", at([0.0, 3.0, 0.0]));
        // Through the parts of a renderer it is the same.
        let empty = Caster::new(still, Solids::default());
        let light = Light::indoors(300.0, &[], 0.0);
        let renderer = Renderer::room(Arc::new(view.clone()), light, Sensor::default(), &empty, 2);
        let fast = renderer.depth(&caster);
        let off = fast.pixels().zip(image.pixels()).filter(|(a, b)| a.0[0].abs_diff(b.0[0]) > 2).count();
        assert_eq!(off, 0);
        let open = Caster::new(Arc::default(), Solids::default());
        assert_eq!(depth(&open, &view).get_pixel(48, 5).0, [0], "nothing above the horizon");
    }

    #[test]
    fn a_room_shows_its_person_where_it_stands() {
        let (still, person) = room();
        let view = room_view();
        let light = Light::indoors(300.0, &[Vector::new(0.0, 1.0, 2.9)], 200.0);
        let caster = Caster::new(still, Solids::new(vec![person]));
        let image = render(&caster, &view, &light, Sensor::default(), 2, SHOT);
        let of = |point: [f64; 3]| {
            let [x, y] = view.project(point).unwrap();
            image.get_pixel(x as u32, y as u32).0.map(i32::from)
        };
        let ([red, green, _], [wall_red, wall_green, _]) = (of([0.0, 2.5, 1.5]), of([1.5, 4.0, 1.5]));
        assert!(
            red > green + 50 && (wall_red - wall_green).abs() < 40,
            "{red} {green} {wall_red} {wall_green}"
        );
        assert!((60..250).contains(&wall_red), "{wall_red}");
    }

    pub(super) fn street(kind: VehicleKind, speed_mps: f64, weather: Weather) -> Scene {
        let vehicle = Vehicle { kind, lane: 1, at_m: 1.0, speed_mps, ..Vehicle::default() };
        let traffic = Traffic {
            seconds: 1.0,
            ue: vec![Vehicle { lane: 3, at_m: -12.0, ..Vehicle::default() }],
            vehicles: vec![vehicle],
            ..Traffic::default()
        };
        let mut scene = Scene { sequence: vec![traffic], weather, ..Scene::default() };
        (scene.camera.width, scene.camera.height) = (240, 135);
        scene
    }

    /// Luminance with and without traffic.
    fn looks(scene: &Scene) -> (View, [Vec<Vector>; 2]) {
        let world = World::new(scene);
        let background = Background::new(scene, &world.empty(), world.lamps());
        let renderer = background.renderer(scene, scene.weather(0), false);
        let both = [world.at(scene, 0, 0.0), world.empty()]
            .map(|caster| renderer.look(&caster, renderer.exposure.seconds, None).0);
        (view(scene), both)
    }

    fn brighter(scene: &Scene, point: [f64; 3]) -> f32 {
        let (view, [with, without]) = looks(scene);
        let [x, y] = view.project(point).unwrap();
        let pixel = y as usize * view.width() + x as usize;
        with[pixel].y / without[pixel].y
    }

    #[test]
    fn pixels_see_what_rays_hit() {
        let scene = street(VehicleKind::Car, 0.0, Weather::default());
        let world = World::new(&scene);
        let caster = world.at(&scene, 0, 0.0);
        let background = Background::new(&scene, &world.empty(), world.lamps());
        let renderer = background.renderer(&scene, scene.weather(0), false);
        let movers = Movers::new(&renderer.view, &renderer.shader, &renderer.plate, &caster, SHADOW_M);
        let hits = renderer.view.rays().iter().zip(movers.depth()).filter(|(ray, depth)| {
            let hit = caster.cast(renderer.view.origin(), **ray, FAR_M);
            // Wheels are discs to the camera and boxes to rays.
            let is_wheel = hit.is_some_and(|hit| hit.surface == Surface::Wheel);
            let distance = hit.map_or(f32::INFINITY, |hit| hit.distance);
            !is_wheel && distance != **depth && (distance - **depth).abs() > 0.01
        });
        assert_eq!(hits.count(), 0);
    }

    #[test]
    fn a_car_throws_a_shadow_by_day_and_light_by_night() {
        let day = street(VehicleKind::Truck, 0.0, Weather::default());
        // The sun is behind the camera to the right: the shadow falls to the left and away.
        let [shadow, clear] = [[-6.0, 11.0, 0.0], [9.0, 9.0, 0.0]].map(|place| brighter(&day, place));
        assert!(shadow < 0.5 && (clear - 1.0).abs() < 0.02, "{shadow} {clear}");
        let cloudy = Weather { cloud: 1.0, ..Weather::default() };
        let soft = brighter(&street(VehicleKind::Truck, 0.0, cloudy), [-6.0, 11.0, 0.0]);
        assert!(soft > 0.6, "{soft}");
        let night = Weather { sun_elevation_deg: -20.0, ..Weather::default() };
        let ahead = brighter(&street(VehicleKind::Car, 0.0, night), [9.0, 10.0, 0.0]);
        assert!(ahead > 1.5, "{ahead}");
    }

    #[test]
    fn fog_takes_contrast_by_distance() {
        let fog = Weather { visibility_m: 60.0, cloud: 1.0, ..Weather::default() };
        let thick = street(VehicleKind::Car, 0.0, fog);
        let thin = street(VehicleKind::Car, 0.0, Weather { visibility_m: 100_000.0, ..fog });
        // A black window of the car against the white of its roof, about 11 m away.
        let contrast = |scene: &Scene| {
            let (view, [image, _]) = looks(scene);
            let at = |point: [f64; 3]| {
                let [x, y] = view.project(point).unwrap();
                image[y as usize * view.width() + x as usize]
            };
            (at([0.0, 10.0, 1.45]) - at([-0.7, 9.22, 1.1])).y
        };
        let distance = (10.0f32 * 10.0 + 2.6 * 2.6).sqrt();
        let expected = (-(20f32.ln()) / 60.0 * distance).exp();
        let found = contrast(&thick) / contrast(&thin);
        assert!((found / expected - 1.0).abs() < 0.15, "{found} instead of {expected}");
    }

    #[test]
    fn what_moves_is_smeared_and_what_stands_is_not() {
        let dusk = Weather { sun_elevation_deg: -3.0, ..Weather::default() };
        // The share of pixels that have changed by traffic: a smear covers more of them.
        let covered = |speed_mps: f64| {
            let (_, [with, without]) = looks(&street(VehicleKind::Bus, speed_mps, dusk));
            with.iter().zip(&without).filter(|(a, b)| (**a - **b).abs().max_element() > 0.02 * b.y).count()
        };
        assert!(covered(60.0) > covered(0.0) + 200, "{} {}", covered(60.0), covered(0.0));
    }

    #[test]
    fn a_picture_does_not_depend_on_threads() {
        let rain = Weather { rain_mm_h: 8.0, sun_elevation_deg: -3.0, ..Weather::default() };
        let scene = street(VehicleKind::Bus, 9.0, rain);
        let picture = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let world = World::new(&scene);
                let background = Background::new(&scene, &world.empty(), world.lamps());
                background.observe(&scene, &world.at(&scene, 0, 0.0), 0, 0)
            })
        };
        let one = picture(1);
        assert!(one == picture(3));
        let reds = || one.pixels().map(|pixel| pixel.0[0]);
        assert!(reds().max() > reds().min().map(|least| least + 80), "{:?} {:?}", reds().min(), reds().max());
    }

    #[test]
    fn as_many_weathers_are_kept_as_threads_need() {
        let mut scene = street(VehicleKind::Car, 0.0, Weather::default());
        (scene.camera.width, scene.camera.height) = (32, 18);
        let world = World::new(&scene);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let background = pool.install(|| Background::new(&scene, &world.empty(), world.lamps()));
        for cloud in [0.0, 0.2, 0.4, 0.0, 0.6] {
            scene.weather.cloud = cloud;
            let _ = background.observe(&scene, &world.empty(), 0, 0);
        }
        let kept: Vec<f64> = background.renderers.lock().unwrap().iter().map(|(of, _)| of.cloud).collect();
        assert_eq!(kept, [0.0, 0.6]);
    }

    #[test]
    fn lamps_hang_at_the_ends_of_arms() {
        let scene = Scene::default();
        let world = World::new(&scene);
        let lamps = world.lamps();
        // A pole between every two trees, 13 m apart over 180 m; the arms reach towards the street.
        assert_eq!(lamps.len(), 14);
        assert!(lamps.iter().all(|lamp| (6.0..6.6).contains(&lamp.z) && lamp.y < 18.75), "{lamps:?}");
    }
}
