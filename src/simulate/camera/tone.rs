//! From light to bytes: light scattered in the lens, and the curve of the image.

use std::sync::LazyLock;

use super::lens::View;
use super::light::Rgb;

/// A pixel of the glow is this many of the image wide.
const CELL: usize = 4;
/// Shares of the scattered light, from narrow (some pixels) to wide (a good part of the image).
const SHARES: [f32; 5] = [0.42, 0.26, 0.16, 0.1, 0.06];

/// An image of a fourth of the size.
#[derive(Clone, Debug)]
pub(super) struct Small {
    width: usize,
    height: usize,
    pixels: Vec<Rgb>,
}

impl Small {
    /// Of the size that the glow of an image has.
    pub fn of(width: usize, height: usize, pixel: impl Fn(f64, f64) -> Rgb) -> Self {
        let (width, height) = (width.div_ceil(CELL), height.div_ceil(CELL));
        let middle = |cell: usize| (cell as f64 + 0.5) * CELL as f64;
        let pixels = (0..width * height).map(|at| pixel(middle(at % width), middle(at / width))).collect();
        Self { width, height, pixels }
    }

    /// Its pixels, row by row.
    pub fn pixels(&self) -> &[Rgb] {
        &self.pixels
    }

    /// The same, to be changed.
    pub fn pixels_mut(&mut self) -> &mut [Rgb] {
        &mut self.pixels
    }

    /// The directions that its pixels look in.
    pub fn rays<'a>(&'a self, view: &'a View) -> impl Iterator<Item = Rgb> + 'a {
        let middle = |cell: usize| (cell as f64 + 0.5) * CELL as f64;
        (0..self.pixels.len()).map(move |at| view.ray(middle(at % self.width), middle(at / self.width)))
    }

    /// Linearly between the pixels of a line that [`Small::row`] gave.
    pub fn between(line: &[Rgb], column: usize) -> Rgb {
        let (cell, last) = (column / CELL, line.len() - 1);
        let off = ((column % CELL) as f32 + 0.5) / CELL as f32 - 0.5;
        let middle = line[cell.min(last)];
        let next = if off < 0.0 { cell.saturating_sub(1) } else { cell + 1 };
        middle + (line[next.min(last)] - middle) * off.abs()
    }

    /// At a pixel of the image of full size: of the cell that it lies in.
    pub fn at(&self, column: usize, row: usize) -> Rgb {
        let (x, y) = ((column / CELL).min(self.width - 1), (row / CELL).min(self.height - 1));
        self.pixels[y * self.width + x]
    }

    fn shrunk(image: &[Rgb], width: usize, by: usize) -> Self {
        let height = image.len() / width;
        let (columns, rows) = (width.div_ceil(by), height.div_ceil(by));
        let mut pixels = vec![Rgb::ZERO; columns * rows];
        let mut counts = vec![0.0f32; columns];
        for (sums, lines) in pixels.chunks_exact_mut(columns).zip(image.chunks(width * by)) {
            counts.fill(0.0);
            for line in lines.chunks_exact(width) {
                for ((sum, count), cell) in sums.iter_mut().zip(&mut counts).zip(line.chunks(by)) {
                    *sum += cell.iter().copied().fold(Rgb::ZERO, |a, b| a + b);
                    *count += cell.len() as f32;
                }
            }
            for (sum, count) in sums.iter_mut().zip(&counts) {
                *sum /= *count;
            }
        }
        Self { width: columns, height: rows, pixels }
    }

    /// By binomial weights 1 4 6 4 1, both ways; beyond the edges the image goes on.
    fn blurred(&self) -> Self {
        let (width, height) = (self.width, self.height);
        let five = |at: usize, size: usize| {
            [at.saturating_sub(2), at.saturating_sub(1), at, (at + 1).min(size - 1), (at + 2).min(size - 1)]
        };
        let sum = |[a, b, c, d, e]: [Rgb; 5]| (a + e + (b + d) * 4.0 + c * 6.0) * (1.0 / 16.0);
        let mut level = Vec::with_capacity(self.pixels.len());
        for row in self.pixels.chunks_exact(width) {
            level.extend((0..width).map(|x| sum(five(x, width).map(|at| row[at]))));
        }
        let mut pixels = Vec::with_capacity(self.pixels.len());
        for y in 0..height {
            let rows = five(y, height).map(|at| at * width);
            pixels.extend((0..width).map(|x| sum(rows.map(|row| level[row + x]))));
        }
        Self { width, height, pixels }
    }

    /// Adds an image of half the size, linearly between its pixels.
    fn add_half(&mut self, half: &Self) {
        let place = |at: usize, size: usize| {
            let near = (at / 2).min(size - 1);
            let far = if at.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(size - 1) };
            (near, far)
        };
        for y in 0..self.height {
            let (near_y, far_y) = place(y, half.height);
            for x in 0..self.width {
                let (near_x, far_x) = place(x, half.width);
                let row = |y: usize| {
                    half.pixels[y * half.width + near_x] * 0.75 + half.pixels[y * half.width + far_x] * 0.25
                };
                self.pixels[y * self.width + x] += row(near_y) * 0.75 + row(far_y) * 0.25;
            }
        }
    }

    /// A row of the image of full size, linearly between the pixels.
    pub fn row(&self, y: usize, line: &mut Vec<Rgb>) {
        let at = ((y as f32 + 0.5) / CELL as f32 - 0.5).max(0.0);
        let (top, share) = ((at as usize).min(self.height - 1), at.fract());
        let below = (top + 1).min(self.height - 1);
        let row = |y: usize| self.pixels[y * self.width..(y + 1) * self.width].iter();
        line.clear();
        line.extend(row(top).zip(row(below)).map(|(a, b)| *a + (*b - *a) * share));
    }
}

/// The light that a lens scatters: `share` of all light, and a veil beside it.
#[derive(Debug)]
pub(super) struct Glow {
    small: Small,
    share: f32,
}

impl Glow {
    /// Gathers the glow of an image.
    pub fn new(image: &[Rgb], width: usize, share: f32, veil: Option<&Small>) -> Self {
        let mut levels = vec![Small::shrunk(image, width, CELL).blurred()];
        for _ in 1..SHARES.len() {
            let Some(last) = levels.last() else { break };
            levels.push(Small::shrunk(&last.pixels, last.width, 2).blurred());
        }
        let mut sum: Option<Small> = None;
        for (mut level, weight) in levels.into_iter().zip(SHARES).rev() {
            level.pixels.iter_mut().for_each(|pixel| *pixel *= weight * share);
            if let Some(wider) = &sum {
                level.add_half(wider);
            }
            sum = Some(level);
        }
        let mut small = sum.unwrap_or(Small { width: 1, height: 1, pixels: vec![Rgb::ZERO] });
        if let Some(veil) = veil {
            small.pixels.iter_mut().zip(&veil.pixels).for_each(|(pixel, veil)| *pixel += *veil);
        }
        Self { small, share }
    }

    /// A pixel of the image with what is scattered to it.
    pub fn on(&self, light: Rgb, column: usize, row: usize) -> Rgb {
        light * (1.0 - self.share) + self.small.at(column, row)
    }

    /// Adds it to a row of the image; `line` is room to work in.
    pub fn add(&self, y: usize, row: &mut [Rgb], line: &mut Vec<Rgb>) {
        self.small.row(y, line);
        let kept = 1.0 - self.share;
        let last = line.len() - 1;
        for (cell, pixels) in row.chunks_mut(CELL).enumerate() {
            let middle = line[cell.min(last)];
            let (left, right) = (line[cell.saturating_sub(1).min(last)], line[(cell + 1).min(last)]);
            for (at, pixel) in pixels.iter_mut().enumerate() {
                let off = (at as f32 + 0.5) / CELL as f32 - 0.5;
                let next = if off < 0.0 { left } else { right };
                *pixel = *pixel * kept + middle + (next - middle) * off.abs();
            }
        }
    }
}

/// Entries of the curve, over the square root of light.
const STEPS: usize = 4096;
/// Light from which on everything is the same white.
const TOP: f32 = 6.0;

/// The curve of the image: film's 1 − exp(−1.7 x), then sRGB's transfer function (IEC 61966-2-1), in steps of 1/255.
static CURVE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    (0..STEPS)
        .map(|step| {
            let root = (step as f32 + 0.5) / STEPS as f32;
            (255.0 * srgb(film(root * root * TOP)) + 0.5) as u8
        })
        .collect()
});

fn film(light: f32) -> f32 {
    1.0 - (-1.7 * light).exp()
}

fn srgb(linear: f32) -> f32 {
    if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 }
}

/// The byte of light, of which 1 is about white.
pub(super) fn level(light: f32) -> u8 {
    let root = (light.max(0.0) * (1.0 / TOP)).sqrt();
    CURVE[((root * STEPS as f32) as usize).min(STEPS - 1)]
}

/// Bytes of light, of which 1 is about white.
pub(super) fn develop(row: &[Rgb], bytes: &mut [u8]) {
    let curve: &[u8] = &CURVE;
    for (pixel, bytes) in row.iter().zip(bytes.chunks_exact_mut(3)) {
        for (byte, light) in bytes.iter_mut().zip(pixel.to_array()) {
            let root = (light.max(0.0) * (1.0 / TOP)).sqrt();
            *byte = curve[((root * STEPS as f32) as usize).min(STEPS - 1)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_is_that_of_the_standard() {
        // sRGB 0.5 is 0.735 of full, 0.002 is 0.02584.
        assert!((srgb(0.5) - 0.7354).abs() < 1e-4 && (srgb(0.002) - 0.025_84).abs() < 1e-6);
        let mut bytes = [0u8; 9];
        // 1 − exp(−1.7·0.2) = 0.2882 is 0.5733 of full: 146.
        develop(&[Rgb::ZERO, Rgb::splat(0.2), Rgb::splat(100.0)], &mut bytes);
        assert_eq!((bytes[0], bytes[3], bytes[6]), (0, 146, 255));
    }

    #[test]
    fn scattered_light_is_not_lost_and_spreads_around_its_source() {
        let (width, height) = (256, 128);
        let mut image = vec![Rgb::ZERO; width * height];
        image[64 * width + 128] = Rgb::splat(1000.0);
        let glow = Glow::new(&image, width, 0.1, None);
        let mut line = Vec::new();
        let mut sum = 0.0;
        for (y, row) in image.chunks_exact_mut(width).enumerate() {
            glow.add(y, row, &mut line);
            sum += row.iter().map(|pixel| pixel.x).sum::<f32>();
        }
        assert!((sum - 1000.0).abs() < 20.0, "{sum}");
        let at = |x: usize, y: usize| image[y * width + x].x;
        assert!(at(132, 64) > at(150, 64) && at(150, 64) > at(200, 64) && at(200, 64) > 0.0);
        let even = vec![Rgb::splat(0.5); width * height];
        let mut row = even[..width].to_vec();
        Glow::new(&even, width, 0.1, None).add(3, &mut row, &mut line);
        assert!(row.iter().all(|pixel| (pixel.x - 0.5).abs() < 1e-4), "an even image stays even");
    }
}
