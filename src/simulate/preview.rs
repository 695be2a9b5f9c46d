//! A picture of a recording, or a film: what the camera, the radar, the LiDAR and the link see of a street; [`draw_rooms`]: of a
//! person in a room.
//!
//! The files go through the project's own decoder, with the poses and axes of the scene: the picture shows what a
//! pipeline sees. Boxes around vehicles and people come from the truth: those of served users are red while their line of
//! sight is blocked and green while it is not. A picture shows the middle of the shortest blockage of a sequence, a
//! film the whole of it.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use image::codecs::gif::{GifEncoder, Repeat};
use image::imageops::FilterType;
use image::{Delay, Frame, RgbImage};
use nalgebra::Point3;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};
use rayon::prelude::*;

use super::camera::Background;
use super::channel::LinkState;
use super::world::ObjectState;
use super::{Instance, Progress, Scene, SimulateError, Twin, plan, pool, truth};
use crate::config::{AngleAxis, Pipeline};
use crate::decode::Decoder;
use crate::decode::radar::RangeAngleAxes;
use crate::sample::{CaptureSource, Data, PointCloud, RangeAngleMap, RawSample, Stamps, Stream, UnitId};
use crate::space;
use crate::time::{CaptureTime, Moment};

mod rooms;

pub use rooms::draw as draw_rooms;

/// Size of the picture, pixels.
const SIZE: (u32, u32) = (1440, 1080);
/// What the maps show: metres along x and y.
const ACROSS: std::ops::Range<f64> = -30.0..30.0;
const AHEAD: std::ops::Range<f64> = 0.0..36.0;
const ALONG: &str = "y along boresight, m";

type Area<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;

/// What the decoder made of one row.
struct Seen {
    row: usize,
    image: RgbImage,
    map: RangeAngleMap,
    cloud: PointCloud,
    boxes: Vec<Boxed>,
}

/// A rectangle of the camera's image: left, top, right, bottom.
struct Boxed {
    place: [f64; 4],
    name: String,
    colour: RGBColor,
}

/// Looks at the rows of a sequence.
struct Looker<'a> {
    scene: &'a Scene,
    sequence: usize,
    twin: Twin<'a>,
    decoder: Decoder,
    background: Background,
    /// Of the first UE; `None` while it is not there.
    links: Vec<Option<LinkState>>,
}

/// Draws a sequence of a scene, counted from 0: a picture as a PNG file, or the whole of it as an animated GIF file, by the name
/// of the file. `progress` is told (pictures done, pictures in all) and says whether to go on.
///
/// # Errors
/// [`SimulateError`] when the file cannot be written, or `progress` says no.
pub fn draw(
    scene: &Scene,
    sequence: usize,
    file: &Path,
    threads: Option<usize>,
    progress: Progress<'_>,
) -> Result<(), SimulateError> {
    let is_film = is_film(file);
    pool(threads)?.install(|| {
        let looker = Looker::new(scene, sequence);
        if is_film {
            let rows: Vec<usize> = (0..looker.links.len()).step_by(2).collect();
            return film(file, scene.rate_hz / 2.0, &rows, |row| looker.picture(row), progress);
        }
        still(file, &looker.picture(looker.interesting())?)
    })
}

fn is_film(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gif"))
}

/// Writes a picture.
fn still(file: &Path, picture: &RgbImage) -> Result<(), SimulateError> {
    Ok(picture.write_to(&mut create(file)?, image::ImageFormat::Png)?)
}

/// Writes pictures at half their size, so many per second.
fn film(
    file: &Path,
    rate_hz: f64,
    frames: &[usize],
    picture: impl Fn(usize) -> Result<RgbImage, SimulateError> + Sync,
    progress: Progress<'_>,
) -> Result<(), SimulateError> {
    let mut encoder = GifEncoder::new_with_speed(create(file)?, 20);
    encoder.set_repeat(Repeat::Infinite)?;
    let delay = Delay::from_numer_denom_ms((1000.0 / rate_hz).round() as u32, 1);
    let mut done = 0;
    for some in frames.chunks(2 * rayon::current_num_threads()) {
        if !progress(done, frames.len()) {
            // Half a film is none.
            let _ = std::fs::remove_file(file);
            return Err(SimulateError::Stopped);
        }
        let small = |frame: &usize| {
            let picture = picture(*frame)?;
            Ok(image::imageops::resize(&picture, SIZE.0 / 2, SIZE.1 / 2, FilterType::Triangle))
        };
        let pictures: Result<Vec<RgbImage>, SimulateError> = some.par_iter().map(small).collect();
        for picture in pictures? {
            let picture = image::DynamicImage::ImageRgb8(picture).into_rgba8();
            encoder.encode_frame(Frame::from_parts(picture, 0, 0, delay))?;
        }
        done += some.len();
    }
    Ok(())
}

/// A picture of four quarters.
fn quartered(paint: impl FnOnce([&Area<'_>; 4]) -> Drawn) -> Result<RgbImage, SimulateError> {
    let mut pixels = vec![255u8; SIZE.0 as usize * SIZE.1 as usize * 3];
    let drawn = || {
        register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::HACK_REGULAR)
            .map_err(|_| "the font cannot be read")?;
        let root = BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let quarters = root.split_evenly((2, 2));
        let [a, b, c, d] = quarters.as_slice() else { return Err("no quarters".into()) };
        paint([a, b, c, d])?;
        root.present()?;
        Ok(())
    };
    let drawn: Drawn = drawn();
    drawn.map_err(|error| SimulateError::Draw(error.to_string()))?;
    let picture = RgbImage::from_raw(SIZE.0, SIZE.1, pixels);
    picture.ok_or_else(|| SimulateError::Draw("no picture".to_owned()))
}

fn create(file: &Path) -> Result<BufWriter<File>, SimulateError> {
    let made = File::create(file).map_err(|source| SimulateError::Io { path: file.to_owned(), source });
    made.map(BufWriter::new)
}

impl<'a> Looker<'a> {
    fn new(scene: &'a Scene, sequence: usize) -> Self {
        let twin = Twin::new(scene);
        let rows: Vec<Instance> =
            plan::rows(scene).into_iter().filter(|at| at.sequence == sequence).collect();
        let links = rows.par_iter().map(|&at| twin.links(at, twin.seconds(at)).into_iter().next().flatten());
        let links = links.collect();
        let pipeline = Pipeline {
            site: Some(scene.site),
            pose: scene.pose,
            radar: scene.radar,
            codebook: scene.codebook.clone(),
            ..Pipeline::default()
        };
        let background = twin.background();
        Self { scene, sequence, twin, decoder: Decoder::new(&pipeline), background, links }
    }

    /// A short blockage is that of something further away, which leaves more of the street to see.
    fn interesting(&self) -> usize {
        let runs = runs(&self.links).into_iter().filter(|(from, to)| to - from > 2);
        runs.min_by_key(|(from, to)| to - from)
            .map_or(self.links.len() / 2, |(from, to)| usize::midpoint(from, to))
    }

    fn picture(&self, row: usize) -> Result<RgbImage, SimulateError> {
        let seen = self.look(row)?;
        let second = seen.row as f64 / self.scene.rate_hz;
        quartered(|[camera, map, cloud, powers]| {
            paint_camera(&titled(camera, &format!("camera, {second:.1} s"))?, &seen.image, &seen.boxes)?;
            paint_map(self.scene, map, &seen.map)?;
            paint_cloud(cloud, &seen.cloud)?;
            paint_powers(self.scene, powers, seen.row, &self.links)
        })
    }

    fn look(&self, row: usize) -> Result<Seen, SimulateError> {
        let at = Instance { sequence: self.sequence, frame: row };
        let caster = self.twin.caster(at);
        let camera = self.twin.camera(at, &caster, &self.background)?;
        let camera = decode(&self.decoder, Stream::Camera, camera)?;
        let radar = decode(&self.decoder, Stream::Radar, self.twin.radar(at, &caster))?;
        let lidar = decode(&self.decoder, Stream::Lidar, self.twin.lidar(at, &caster))?;
        let (Data::Image(image), Data::Radar(reading), Data::Cloud(cloud)) = (camera, radar, lidar) else {
            return Err(SimulateError::Draw("a decoder gave something else".to_owned()));
        };
        let map = reading.map.clone();
        let map = map.ok_or_else(|| SimulateError::Draw("a radar cube without a map".to_owned()))?;
        let (image, cloud) = (Arc::unwrap_or_clone(image), Arc::unwrap_or_clone(cloud));
        Ok(Seen { row, image, map, cloud, boxes: self.boxes(at) })
    }

    fn boxes(&self, at: Instance) -> Vec<Boxed> {
        let seconds = self.twin.seconds(at);
        let links = self.twin.links(at, seconds);
        let world = self.twin.world();
        let antennas = world.antennas(at.sequence, seconds);
        let boxed = |state: ObjectState| {
            let ue = antennas.iter().find(|antenna| antenna.object == state.id).map(|antenna| antenna.ue);
            let link = ue.and_then(|ue| links.get(ue)).and_then(Option::as_ref);
            let colour = match link {
                Some(link) if link.is_blocked => RED,
                Some(_) => RGBColor(60, 220, 60),
                None => RGBColor(250, 220, 60),
            };
            let name = ue.map_or_else(|| state.kind.name().to_owned(), |ue| format!("UE {ue}"));
            Some(Boxed { place: truth::image_box(self.scene, &state)?, name, colour })
        };
        world.traffic(at.sequence, seconds).filter_map(boxed).collect()
    }
}

/// Stretches of rows with the line of sight cut: first row, row after the last.
fn runs(links: &[Option<LinkState>]) -> Vec<(usize, usize)> {
    let is_blocked = |link: &Option<LinkState>| link.as_ref().is_some_and(|link| link.is_blocked);
    let mut at = 0;
    let mut runs = Vec::new();
    for run in links.chunk_by(|a, b| is_blocked(a) == is_blocked(b)) {
        if run.first().is_some_and(is_blocked) {
            runs.push((at, at + run.len()));
        }
        at += run.len();
    }
    runs
}

fn decode(decoder: &Decoder, stream: Stream, bytes: Vec<u8>) -> Result<Data, SimulateError> {
    let capture = CaptureTime::from_nanos(0);
    let raw = RawSample {
        unit: UnitId::new("preview").map_err(|error| SimulateError::Draw(error.to_string()))?,
        stream,
        stamps: Stamps {
            capture,
            capture_source: CaptureSource::Synthetic,
            sequence: None,
            arrival: Moment::at(capture),
            transport_ns: None,
        },
        format: None,
        payload: Arc::new(bytes),
    };
    decoder.decode(&raw).map_err(|error| SimulateError::Draw(error.to_string()))
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn titled<'a>(area: &Area<'a>, title: &str) -> Result<Area<'a>, Box<dyn std::error::Error>> {
    Ok(area.margin(10, 10, 10, 10).titled(title, ("sans-serif", 20))?)
}

/// Where an image was drawn: what a pixel of it is in its area.
#[derive(Clone, Copy)]
struct Fitted {
    left: i32,
    top: i32,
    scale: f64,
}

impl Fitted {
    fn at(self, [x, y]: [f64; 2]) -> (i32, i32) {
        (self.left + (x * self.scale) as i32, self.top + (y * self.scale) as i32)
    }
}

/// Draws an image as large as it fits, and boxes on it.
fn paint_camera(
    area: &Area<'_>,
    image: &RgbImage,
    boxes: &[Boxed],
) -> Result<Fitted, Box<dyn std::error::Error>> {
    let (width, height) = area.dim_in_pixel();
    let scale =
        (f64::from(width) / f64::from(image.width())).min(f64::from(height) / f64::from(image.height()));
    let side = |length: u32| ((f64::from(length) * scale) as u32).max(1);
    let fitted =
        image::imageops::resize(image, side(image.width()), side(image.height()), FilterType::Triangle);
    let (left, top) = ((width - fitted.width()) / 2, (height - fitted.height()) / 2);
    for (x, y, pixel) in fitted.enumerate_pixels() {
        let [r, g, b] = pixel.0;
        area.draw_pixel(((left + x) as i32, (top + y) as i32), &RGBColor(r, g, b))?;
    }
    let drawn = Fitted { left: left as i32, top: top as i32, scale };
    for Boxed { place, name, colour } in boxes {
        let [from, to] = [[place[0], place[1]], [place[2], place[3]]].map(|corner| drawn.at(corner));
        area.draw(&Rectangle::new([from, to], colour.stroke_width(1)))?;
        area.draw(&Text::new(
            name.clone(),
            (from.0, from.1 - 13),
            ("sans-serif", 13).into_font().color(colour),
        ))?;
    }
    Ok(drawn)
}

/// Dark blue over green to yellow, for 0…1.
fn colour(value: f64) -> RGBColor {
    const STOPS: [[f64; 3]; 5] = [
        [26.0, 8.0, 52.0],
        [50.0, 80.0, 140.0],
        [32.0, 145.0, 140.0],
        [110.0, 205.0, 88.0],
        [253.0, 231.0, 37.0],
    ];
    let place = value.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let (at, share) =
        ((place as usize).min(STOPS.len() - 2), place - (place as usize).min(STOPS.len() - 2) as f64);
    let [r, g, b] = std::array::from_fn(|part| {
        let stop = |at: usize| STOPS.get(at).map_or(0.0, |stop| stop[part]);
        (stop(at) + (stop(at + 1) - stop(at)) * share) as u8
    });
    RGBColor(r, g, b)
}

fn paint_map(scene: &Scene, area: &Area<'_>, map: &RangeAngleMap) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .caption("radar: what moves, from above", ("sans-serif", 20))
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(ACROSS, AHEAD)?;
    let (rows, columns) = map.magnitude.dim();
    let axes = RangeAngleAxes::new(&scene.radar, AngleAxis::SinFft, rows, columns);
    let mount = space::mount_to_unit(&scene.pose.radar);
    let decibel = |value: f32| 20.0 * f64::from(value.max(1e-9)).log10();
    let top = map.magnitude.iter().copied().map(decibel).fold(f64::NEG_INFINITY, f64::max);
    let mut values: Vec<f64> = map.magnitude.iter().copied().map(decibel).collect();
    values.sort_by(f64::total_cmp);
    let bottom = values.get(values.len() / 2).copied().unwrap_or(top - 30.0);
    let step = 0.15;
    let height = scene.pose.radar.position_m[2];
    let cells = |range: std::ops::Range<f64>| {
        let count = ((range.end - range.start) / step).round() as usize;
        (0..count).map(move |at| range.start + at as f64 * step)
    };
    for x in cells(ACROSS) {
        for y in cells(AHEAD) {
            let place = Point3::new(x + step / 2.0, y + step / 2.0, height);
            let magnitude = axes.cell_of(&place, &mount).and_then(|cell| map.magnitude.get(cell).copied());
            let Some(magnitude) = magnitude else { continue };
            let share = (decibel(magnitude) - bottom) / (top - bottom).max(1.0);
            chart
                .plotting_area()
                .draw(&Rectangle::new([(x, y), (x + step, y + step)], colour(share).filled()))?;
        }
    }
    mesh(&mut chart, ALONG)
}

type Chart<'a, 'b> = ChartContext<
    'b,
    BitMapBackend<'a>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

fn mesh(chart: &mut Chart<'_, '_>, upwards: &str) -> Drawn {
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc("x to the right, m")
        .y_desc(upwards)
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 15))
        .draw()?;
    Ok(())
}

fn paint_cloud(area: &Area<'_>, cloud: &PointCloud) -> Drawn {
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .caption("LiDAR from above, coloured by height (0 to 6 m)", ("sans-serif", 20))
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(ACROSS, AHEAD)?;
    chart.plotting_area().fill(&RGBColor(18, 18, 24))?;
    let mut points: Vec<&[f32; 3]> = cloud.points.iter().collect();
    points.sort_by(|a, b| a[2].total_cmp(&b[2]));
    for &&[x, y, z] in &points {
        let place = (f64::from(x), f64::from(y));
        if ACROSS.contains(&place.0) && AHEAD.contains(&place.1) {
            let tint = colour(0.12 + f64::from(z) / 6.0 * 0.88);
            chart.plotting_area().draw(&Circle::new(place, 1, tint.filled()))?;
        }
    }
    mesh(&mut chart, ALONG)
}

fn paint_powers(scene: &Scene, area: &Area<'_>, now: usize, links: &[Option<LinkState>]) -> Drawn {
    let seconds = links.len() as f64 / scene.rate_hz;
    let beams = scene.beams() as f64;
    let mut chart = ChartBuilder::on(area)
        .margin(10)
        .caption("beam powers, dB; line of sight cut: red bars", ("sans-serif", 20))
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..seconds, -4.0..beams)?;
    let decibel = |power: f64| 10.0 * power.max(1e-30).log10();
    let all = || links.iter().flatten().flat_map(|link| link.power.iter().copied().map(decibel));
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    let period = 1.0 / scene.rate_hz;
    let there = links.iter().enumerate().filter_map(|(row, link)| Some((row, link.as_ref()?)));
    for (row, link) in there {
        let time = row as f64 * period;
        for (beam, &power) in link.power.iter().enumerate() {
            let cell = [(time, beam as f64), (time + period, beam as f64 + 1.0)];
            let tint = colour((decibel(power) - low) / (high - low).max(1.0));
            chart.plotting_area().draw(&Rectangle::new(cell, tint.filled()))?;
        }
    }
    for (from, to) in runs(links) {
        let (from, to) = (from as f64 * period, to as f64 * period);
        chart.plotting_area().draw(&Rectangle::new([(from, 0.0), (to, beams)], RED.mix(0.22).filled()))?;
        chart.plotting_area().draw(&Rectangle::new([(from, -4.0), (to, -0.5)], RED.filled()))?;
    }
    let now = (now as f64 + 0.5) * period;
    chart.draw_series(LineSeries::new([(now, 0.0), (now, beams)], WHITE.stroke_width(1)))?;
    chart
        .configure_mesh()
        .disable_mesh()
        .x_desc(format!("time, s (colours: {low:.0} to {high:.0} dB)"))
        .y_desc("beam")
        .y_label_formatter(&|beam| if *beam < 0.0 { String::new() } else { format!("{beam:.0}") })
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 15))
        .draw()?;
    Ok(())
}
