//! Plots, as SVG that is read on light and on dark ground: ink is the colour of the text around it.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use super::ReportError;
use crate::simulate::body::BONES;
use crate::train::score::{Bin, Figure, PoseSample};

/// A picture.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plot {
    /// What it shows, in a few words.
    pub title: String,
    /// The picture: an `<svg>` element.
    pub svg: String,
}

/// What stands for the colour of the text around the picture.
const INK: RGBColor = RGBColor(1, 2, 3);
/// The same in the file.
const INK_WRITTEN: &str = "#010203";
/// Colours that stand out from white and from black, and from each other also without red or green.
const COLOURS: [RGBColor; 8] = [
    RGBColor(54, 131, 204),
    RGBColor(224, 122, 48),
    RGBColor(40, 160, 120),
    RGBColor(196, 90, 170),
    RGBColor(168, 148, 30),
    RGBColor(130, 130, 140),
    RGBColor(214, 76, 76),
    RGBColor(40, 165, 190),
];
/// Size of letters: a font of 16 is written as 13 pixels.
const LETTERS: i32 = 16;
/// Width of a letter, pixels, at most on average.
const LETTER_WIDTH: f64 = 7.6;
/// Width of a picture of curves or dots, pixels.
const WIDTH: u32 = 640;
/// Height of a line of the legend, pixels.
const LINE: i32 = 20;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'b, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// How a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// A line.
    Line,
    /// A line with a dot at each point.
    Dotted,
    /// A dashed line, of what stands beside for comparison, with a dot at each point.
    Dashed,
}

/// Points under one name; an interval is drawn as a bar.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub name: String,
    pub look: Look,
    pub points: Vec<(f64, Figure)>,
}

impl Series {
    /// Points without intervals.
    pub fn of(name: &str, look: Look, points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let points = points.into_iter().map(|(x, value)| (x, Figure { value, interval: None }));
        Self { name: name.to_owned(), look, points: points.collect() }
    }
}

/// Names of the axes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axes<'a> {
    pub x: &'a str,
    pub y: &'a str,
}

fn colour(at: usize) -> RGBColor {
    COLOURS.get(at % COLOURS.len()).copied().unwrap_or(INK)
}

fn letters(at: HPos, above: VPos) -> TextStyle<'static> {
    ("sans-serif", LETTERS).into_font().color(&INK).pos(Pos::new(at, above))
}

/// Numbers of an axis that goes over `span`: as many decimals as it needs.
fn number(value: f64, span: f64) -> String {
    let decimals =
        if span >= 8.0 { 0 } else { (1.3 - span.max(1e-9).log10()).ceil().clamp(0.0, 6.0) as usize };
    let text = format!("{value:.decimals$}");
    if text.trim_start_matches(['-', '0', '.']).is_empty() { "0".to_owned() } else { text }
}

/// What lies beyond is no figure of anything, and steps of an axis would not reach it.
const LARGEST: f64 = 1e12;

/// Room around values, so that none lies on the frame; `from_zero` where 0 belongs to them.
fn range(values: impl Iterator<Item = f64>, from_zero: bool) -> std::ops::Range<f64> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|value| value.abs() <= LARGEST) {
        (low, high) = (low.min(value), high.max(value));
    }
    if low > high {
        return 0.0..1.0;
    }
    if from_zero {
        (low, high) = (low.min(0.0), high.max(0.0));
    }
    // Steps have to be told from each other where the axis stands.
    let apart = high - low > 1e-6 * low.abs().max(high.abs());
    let room = if apart { 0.06 * (high - low) } else { 0.1 * high.abs().max(low.abs()).max(1e-3) };
    (if from_zero && low == 0.0 { 0.0 } else { low - room })..(high + room)
}

fn draw(title: &str, size: (u32, u32), paint: impl FnOnce(&Area<'_>) -> Drawn) -> Result<Plot, ReportError> {
    let failed = |reason: String| ReportError::Plot { title: title.to_owned(), reason };
    register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::HACK_REGULAR)
        .map_err(|_| failed("the font cannot be read".to_owned()))?;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        paint(&area).and_then(|()| Ok(area.present()?)).map_err(|error| failed(error.to_string()))?;
    }
    Ok(Plot { title: title.to_owned(), svg: svg.replace(INK_WRITTEN, "currentColor") })
}

/// A name of a legend, its colour, and whether its line is dashed.
type Entry = (String, RGBColor, bool);

/// Where the names of a legend stand in a picture that is `width` wide: x in pixels, and the line.
fn layout(names: &[Entry], width: u32) -> Vec<(i32, i32)> {
    let (mut x, mut line) = (12, 0);
    let place = |(name, ..): &Entry| {
        let wide = 42 + (LETTER_WIDTH * name.chars().count() as f64) as i32;
        if x > 12 && x + wide > width as i32 {
            (x, line) = (12, line + 1);
        }
        let place = (x, line);
        x += wide;
        place
    };
    names.iter().map(place).collect()
}

/// Height of a legend in a picture that is `width` wide, pixels.
fn legend_height(names: &[Entry], width: u32) -> u32 {
    layout(names, width).last().map_or(0, |place| (LINE * (place.1 + 1) + 6) as u32)
}

/// Draws a legend along the lower edge, and gives what is left.
fn with_legend<'a>(area: &Area<'a>, names: &[Entry]) -> Result<Area<'a>, Box<dyn std::error::Error>> {
    let (width, height) = area.dim_in_pixel();
    let places = layout(names, width);
    let (chart, legend) = area.split_vertically((height - legend_height(names, width)) as i32);
    for ((name, colour, dashed), (x, line)) in names.iter().zip(places) {
        let y = LINE * line + LINE / 2;
        let bars: &[(i32, i32)] = if *dashed { &[(0, 5), (8, 13), (16, 21)] } else { &[(0, 21)] };
        for (from, to) in bars {
            legend.draw(&PathElement::new([(x + from, y), (x + to, y)], colour.stroke_width(3)))?;
        }
        legend.draw(&Text::new(name.clone(), (x + 26, y), letters(HPos::Left, VPos::Center)))?;
    }
    Ok(chart)
}

/// A frame with its title, axes and grid.
fn chart<'a, 'b>(
    area: &'b Area<'a>,
    title: &str,
    axes: Axes<'_>,
    x: std::ops::Range<f64>,
    y: std::ops::Range<f64>,
) -> Result<Chart<'a, 'b>, Box<dyn std::error::Error>> {
    area.draw(&Text::new(title.to_owned(), (12, 8), letters(HPos::Left, VPos::Top)))?;
    let (x_span, y_span) = (x.end - x.start, y.end - y.start);
    let mut chart = ChartBuilder::on(area)
        .margin_top(34)
        .margin_right(18)
        .x_label_area_size(46)
        .y_label_area_size(72)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .bold_line_style(INK.mix(0.16))
        .light_line_style(TRANSPARENT)
        .axis_style(INK.mix(0.5))
        .x_labels(7)
        .y_labels(6)
        .x_label_formatter(&|value| number(*value, x_span))
        .y_label_formatter(&|value| number(*value, y_span))
        .label_style(("sans-serif", LETTERS).into_font().color(&INK))
        .axis_desc_style(("sans-serif", LETTERS).into_font().color(&INK))
        .x_desc(axes.x)
        .y_desc(axes.y)
        .draw()?;
    Ok(chart)
}

/// Lines over x; a thin upright line at each of `marks`.
pub(super) fn lines(
    title: &str,
    axes: Axes<'_>,
    series: &[Series],
    marks: &[f64],
    from_zero: bool,
) -> Result<Plot, ReportError> {
    let all = || series.iter().flat_map(|series| &series.points);
    let ends = |figure: &Figure| {
        let [low, high] = figure.interval.unwrap_or([figure.value; 2]);
        [low, figure.value, high]
    };
    let y = range(all().flat_map(|(_, figure)| ends(figure)), from_zero);
    let with_bars = all().any(|(_, figure)| figure.interval.is_some());
    let mut x = range(all().map(|(x, _)| *x), false);
    if !with_bars {
        // Curves go from frame to frame.
        let (low, high) =
            all().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), (x, _)| (low.min(*x), high.max(*x)));
        if low < high && low.abs().max(high.abs()) <= LARGEST {
            x = low..high;
        }
    }
    let (step, series_count) = (0.008 * (x.end - x.start), series.len() as f64);
    // What is alone is what the title says.
    let named = if series.len() > 1 { series } else { &[] };
    let legend: Vec<Entry> = named
        .iter()
        .enumerate()
        .map(|(at, series)| (series.name.clone(), colour(at), series.look == Look::Dashed))
        .collect();
    draw(title, (WIDTH, 330 + legend_height(&legend, WIDTH)), |area| {
        let area = with_legend(area, &legend)?;
        let mut chart = chart(&area, title, axes, x, y.clone())?;
        for mark in marks {
            let line = [(*mark, y.start), (*mark, y.end)];
            chart.draw_series([PathElement::new(line, INK.mix(0.5).stroke_width(1))])?;
        }
        for (at, series) in series.iter().enumerate() {
            // Side by side, so that no bar hides another.
            let aside = if with_bars { step * (at as f64 - (series_count - 1.0) / 2.0) } else { 0.0 };
            let points: Vec<(f64, Figure)> = series
                .points
                .iter()
                .filter(|(_, figure)| figure.value.is_finite())
                .map(|(x, figure)| (x + aside, *figure))
                .collect();
            let path = points.iter().map(|(x, figure)| (*x, figure.value));
            let colour = colour(at);
            if series.look == Look::Dashed {
                chart.draw_series(DashedLineSeries::new(path, 6, 4, colour.stroke_width(2)))?;
            } else {
                chart.draw_series(LineSeries::new(path, colour.stroke_width(2)))?;
            }
            for (x, Figure { value, interval }) in &points {
                if let Some([low, high]) = interval {
                    let bar = ErrorBar::new_vertical(*x, *low, *value, *high, colour.filled(), 6);
                    chart.draw_series([bar])?;
                } else if series.look != Look::Line {
                    chart.draw_series([Circle::new((*x, *value), 3, colour.filled())])?;
                }
            }
        }
        Ok(())
    })
}

/// One row per name: a dot per series, with its interval as a bar.
pub(super) fn dots(
    title: &str,
    x_name: &str,
    series: &[String],
    rows: &[(String, Vec<Option<Figure>>)],
    from_zero: bool,
) -> Result<Plot, ReportError> {
    let all = || rows.iter().flat_map(|(_, figures)| figures.iter().flatten());
    let x = range(
        all().flat_map(|figure| {
            let [low, high] = figure.interval.unwrap_or([figure.value; 2]);
            [low, figure.value, high]
        }),
        from_zero,
    );
    let legend: Vec<Entry> =
        series.iter().enumerate().map(|(at, name)| (name.clone(), colour(at), false)).collect();
    let longest = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let left = (24.0 + LETTER_WIDTH * longest as f64).min(260.0) as i32;
    let each = 18 + 9 * series.len();
    let height = 84 + legend_height(&legend, WIDTH) + (each * rows.len()) as u32;
    draw(title, (WIDTH, height), |area| {
        let area = with_legend(area, &legend)?;
        area.draw(&Text::new(title.to_owned(), (12, 8), letters(HPos::Left, VPos::Top)))?;
        let span = x.end - x.start;
        let mut chart = ChartBuilder::on(&area)
            .margin_top(34)
            .margin_right(18)
            .x_label_area_size(46)
            .y_label_area_size(left)
            .build_cartesian_2d(x.clone(), 0.0..rows.len() as f64)?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .bold_line_style(INK.mix(0.16))
            .light_line_style(TRANSPARENT)
            .axis_style(INK.mix(0.5))
            .x_labels(7)
            .y_labels(0)
            .x_label_formatter(&|value| number(*value, span))
            .label_style(("sans-serif", LETTERS).into_font().color(&INK))
            .axis_desc_style(("sans-serif", LETTERS).into_font().color(&INK))
            .x_desc(x_name)
            .draw()?;
        for (row, (name, figures)) in rows.iter().enumerate() {
            // The first one on top.
            let middle = rows.len() as f64 - row as f64 - 0.5;
            let (_, y) = chart.plotting_area().map_coordinate(&(x.start, middle));
            area.draw(&Text::new(name.clone(), (left - 8, y), letters(HPos::Right, VPos::Center)))?;
            if row > 0 {
                let line = [(x.start, middle + 0.5), (x.end, middle + 0.5)];
                chart.draw_series([PathElement::new(line, INK.mix(0.16))])?;
            }
            for (at, figure) in figures.iter().enumerate() {
                let Some(figure) = figure else { continue };
                let y = middle - 0.7 * ((at as f64 + 0.5) / series.len().max(1) as f64 - 0.5);
                if let Some([low, high]) = figure.interval {
                    let line = [(low, y), (high, y)];
                    chart.draw_series([PathElement::new(line, colour(at).stroke_width(2))])?;
                }
                chart.draw_series([Circle::new((figure.value, y), 4, colour(at).filled())])?;
            }
        }
        Ok(())
    })
}

/// How far probabilities can be believed; `before` its scores were scaled.
pub(super) fn reliability(title: &str, after: &[Bin], before: &[Bin]) -> Result<Plot, ReportError> {
    let mut legend = vec![("as deployed".to_owned(), colour(0), false)];
    if !before.is_empty() {
        legend.push(("before scaling".to_owned(), colour(1), true));
    }
    let most = after.iter().chain(before).map(|(.., rows)| *rows).max().unwrap_or(1).max(1) as f64;
    draw(title, (400, 420), |area| {
        let area = with_legend(area, &legend)?;
        let axes = Axes { x: "mean probability (area: rows)", y: "share that was right" };
        let mut chart = chart(&area, title, axes, 0.0..1.0, 0.0..1.0)?;
        chart.draw_series([PathElement::new([(0.0, 0.0), (1.0, 1.0)], INK.mix(0.5))])?;
        for (bins, colour, dashed) in [(before, colour(1), true), (after, colour(0), false)] {
            let path = bins.iter().map(|(probability, share, _)| (*probability, *share));
            if dashed {
                chart.draw_series(DashedLineSeries::new(path, 6, 4, colour.stroke_width(2)))?;
            } else {
                chart.draw_series(LineSeries::new(path, colour.stroke_width(2)))?;
            }
            for (probability, share, rows) in bins {
                let radius = (2.0 + 7.0 * (*rows as f64 / most).sqrt()) as i32;
                chart.draw_series([Circle::new(
                    (*probability, *share),
                    radius,
                    colour.mix(0.75).filled(),
                )])?;
            }
        }
        Ok(())
    })
}

/// How often each class was taken for each other: the darker a cell, the larger its share of the row.
pub(super) fn confusion(title: &str, what: &str, counts: &[Vec<u64>]) -> Result<Plot, ReportError> {
    let classes = counts.len() as f64;
    let side = 560;
    draw(title, (side, side), |area| {
        let (x, y) = (format!("chosen {what}"), format!("true {what}"));
        area.draw(&Text::new(title.to_owned(), (12, 8), letters(HPos::Left, VPos::Top)))?;
        let mut chart = ChartBuilder::on(area)
            .margin_top(34)
            .margin_right(18)
            .x_label_area_size(46)
            .y_label_area_size(72)
            .build_cartesian_2d(0.0..classes, 0.0..classes)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(INK.mix(0.5))
            .x_labels(0)
            .y_labels(0)
            .axis_desc_style(("sans-serif", LETTERS).into_font().color(&INK))
            .x_desc(x)
            .y_desc(y)
            .draw()?;
        for (truth, row) in counts.iter().enumerate() {
            let total: u64 = row.iter().sum();
            // The first one on top.
            let top = classes - truth as f64;
            for (chosen, &count) in row.iter().enumerate().filter(|(_, count)| **count > 0) {
                let share = count as f64 / total as f64;
                let (left, ink) = (chosen as f64, colour(0).mix(0.12 + 0.88 * share));
                chart.draw_series([Rectangle::new([(left, top - 1.0), (left + 1.0, top)], ink.filled())])?;
                if counts.len() <= 12 {
                    let (x, y) = chart.plotting_area().map_coordinate(&(left + 0.5, top - 0.5));
                    area.draw(&Text::new(count.to_string(), (x, y), letters(HPos::Center, VPos::Center)))?;
                }
            }
        }
        // Each class, or as many as there is room for.
        let every = counts.len().div_ceil(16).max(1);
        for class in (0..counts.len()).step_by(every) {
            let middle = class as f64 + 0.5;
            let (x, bottom) = chart.plotting_area().map_coordinate(&(middle, 0.0));
            area.draw(&Text::new(class.to_string(), (x, bottom + 5), letters(HPos::Center, VPos::Top)))?;
            let (left, y) = chart.plotting_area().map_coordinate(&(0.0, classes - middle));
            area.draw(&Text::new(class.to_string(), (left - 6, y), letters(HPos::Right, VPos::Center)))?;
        }
        Ok(())
    })
}

/// Bones between the joints of a Kinect (version 2), as MARS has them.
const KINECT: [(usize, usize); 24] = [
    (0, 1),
    (1, 20),
    (20, 2),
    (2, 3),
    (20, 4),
    (4, 5),
    (5, 6),
    (6, 7),
    (7, 21),
    (7, 22),
    (20, 8),
    (8, 9),
    (9, 10),
    (10, 11),
    (11, 23),
    (11, 24),
    (0, 12),
    (12, 13),
    (13, 14),
    (14, 15),
    (0, 16),
    (16, 17),
    (17, 18),
    (18, 19),
];

/// Estimated poses over true ones, each from the front and from the side, at one scale.
pub(super) fn poses(title: &str, samples: &[PoseSample]) -> Result<Plot, ReportError> {
    const CELL: (u32, u32) = (300, 230);
    let columns = samples.len().clamp(1, 3);
    let rows = samples.len().div_ceil(columns).max(1);
    let legend = [("true".to_owned(), INK, false), ("estimated".to_owned(), colour(1), false)];
    let width = CELL.0 * columns as u32;
    let size = (width, 36 + CELL.1 * rows as u32 + legend_height(&legend, width));
    draw(title, size, |area| {
        let area = with_legend(area, &legend)?;
        area.draw(&Text::new(title.to_owned(), (12, 8), letters(HPos::Left, VPos::Top)))?;
        let (_, area) = area.split_vertically(36);
        for (cell, sample) in area.split_evenly((rows, columns)).iter().zip(samples) {
            pose(cell, sample)?;
        }
        Ok(())
    })
}

fn pose(cell: &Area<'_>, sample: &PoseSample) -> Drawn {
    let bones: &[(usize, usize)] = match sample.truth.len() {
        17 => &BONES,
        25 => &KINECT,
        _ => &[],
    };
    let pairs = sample.truth.iter().zip(&sample.predicted);
    let apart: f32 =
        pairs.map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()).sum();
    let apart = 1e3 * apart / sample.truth.len().max(1) as f32;
    cell.draw(&Text::new(
        format!("{}: {apart:.0} mm off", sample.group),
        (12, 2),
        letters(HPos::Left, VPos::Top),
    ))?;
    let (width, height) = cell.dim_in_pixel();
    let joints = || sample.truth.iter().chain(&sample.predicted);
    let ends = |axis: usize| {
        let all = joints().filter_map(move |joint| joint.get(axis).copied());
        all.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let half = width as f32 / 2.0;
    let room = (half - 24.0, height as f32 - 40.0);
    let (bottom, top) = ends(2);
    let widest = [0, 1].map(|axis| ends(axis).1 - ends(axis).0).into_iter().fold(0.1, f32::max);
    let scale = (room.0 / widest).min(room.1 / (top - bottom).max(0.1));
    for (view, axis) in [0usize, 1].into_iter().enumerate() {
        let (low, high) = ends(axis);
        let middle = half * (view as f32 + 0.5);
        let place = |joint: &[f32; 3]| {
            let across = joint.get(axis).copied().unwrap_or_default();
            let x = middle + scale * (across - (low + high) / 2.0);
            (x as i32, (height as f32 - 8.0 - scale * (joint[2] - bottom)) as i32)
        };
        for (pose, colour) in [(&sample.truth, INK), (&sample.predicted, colour(1))] {
            for &(from, to) in bones {
                if let (Some(from), Some(to)) = (pose.get(from), pose.get(to)) {
                    cell.draw(&PathElement::new([place(from), place(to)], colour.stroke_width(2)))?;
                }
            }
            for joint in pose {
                cell.draw(&Circle::new(place(joint), 2, colour.filled()))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_decimals_that_an_axis_needs() {
        assert_eq!(number(20.0, 100.0), "20");
        assert_eq!(number(0.5, 1.0), "0.50");
        assert_eq!(number(0.013, 0.05), "0.013");
        assert_eq!(number(-0.0001, 10.0), "0");
    }

    #[test]
    fn a_range_leaves_room_and_begins_at_zero_where_it_should() {
        assert_eq!(range([].into_iter(), false), 0.0..1.0);
        let all = range([1.0, f64::NAN, 3.0].into_iter(), false);
        assert!(all.start < 1.0 && all.end > 3.0 && all.start > 0.0, "{all:?}");
        assert_eq!(range([2.0, 3.0].into_iter(), true).start, 0.0);
        let one = range([5.0].into_iter(), false);
        assert!(one.start < 5.0 && one.end > 5.0);
        // An axis through these would never end.
        assert_eq!(range([2.0, 1e308, -1e308].into_iter(), false), range([2.0].into_iter(), false));
        let close = range([1e9, 1e9 + 1e-6].into_iter(), false);
        assert!(close.end - close.start > 1e6, "{close:?}");
    }

    #[test]
    fn a_legend_takes_as_many_lines_as_it_needs() {
        let names = |count: usize| vec![("fifteen letters".to_owned(), INK, false); count];
        assert_eq!(layout(&names(3), 640).last().map(|place| place.1), Some(0));
        let places = layout(&names(9), 640);
        assert_eq!(places.last().map(|place| place.1), Some(2));
        assert!(places.iter().all(|(x, _)| x + 42 + 114 <= 640), "{places:?}");
        assert_eq!((legend_height(&[], 640), legend_height(&names(9), 640)), (0, 66));
    }

    #[test]
    fn ink_is_the_colour_of_the_text() {
        let series = [Series::of("a", Look::Dotted, [(0.0, 1.0), (1.0, 2.0)])];
        let plot = lines("title", Axes { x: "step", y: "loss" }, &series, &[0.5], true).unwrap();
        assert!(plot.svg.contains("currentColor") && !plot.svg.contains(INK_WRITTEN));
        for text in ["title", "step", "loss"] {
            assert!(plot.svg.contains(text), "{text}");
        }
        assert_eq!(plot.svg.matches("<circle").count(), 2);
    }
}
