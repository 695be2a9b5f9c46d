//! Feature maps in blocks of channels: `[B, ⌈C/block⌉, H, W, block]` with a border of zeros around each map.
//!
//! A pixel's channels lie side by side, so a convolution reads them at fixed distances and writes a whole vector of
//! outputs at once; the border stands in for the padding, so that nothing is tested inside the loops.

use rayon::prelude::*;

/// Channels side by side in a block; channels beyond the last are 0.
pub const BLOCK: usize = 16;

/// Channels of a block of images: padding three channels to [`BLOCK`] would waste four fifths of the first convolution.
pub const IMAGE_BLOCK: usize = 3;

/// Zeros around a map, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Border {
    /// Above.
    pub top: usize,
    /// Left.
    pub left: usize,
    /// Below.
    pub bottom: usize,
    /// Right.
    pub right: usize,
}

impl Border {
    /// The same on all sides.
    #[must_use]
    pub const fn even(width: usize) -> Self {
        Self { top: width, left: width, bottom: width, right: width }
    }
}

/// What maps there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapShape {
    /// B
    pub batch: usize,
    /// C
    pub channels: usize,
    /// H, without the border.
    pub height: usize,
    /// W, without the border.
    pub width: usize,
}

impl MapShape {
    /// Numbers of one channel of one sample.
    #[must_use]
    pub const fn area(&self) -> usize {
        self.height * self.width
    }
}

/// Feature maps in blocks of channels.
#[derive(Clone, Debug)]
pub struct Blocked {
    /// What maps.
    pub shape: MapShape,
    /// Channels of a block.
    pub block: usize,
    /// Zeros around each map.
    pub border: Border,
    /// `[B, ⌈C/block⌉, top + H + bottom, left + W + right, block]`
    pub data: Vec<f32>,
}

impl Blocked {
    /// Maps of zeros.
    #[must_use]
    pub fn zeros(shape: MapShape, block: usize, border: Border) -> Self {
        let mut maps = Self { shape, block, border, data: Vec::new() };
        maps.data = vec![0.0; shape.batch * maps.blocks() * maps.plane()];
        maps
    }

    /// Blocks of channels of one sample.
    #[must_use]
    pub const fn blocks(&self) -> usize {
        self.shape.channels.div_ceil(self.block)
    }

    /// Rows of a map with its border.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.border.top + self.shape.height + self.border.bottom
    }

    /// Numbers of a row of a block with its border.
    #[must_use]
    pub const fn row(&self) -> usize {
        (self.border.left + self.shape.width + self.border.right) * self.block
    }

    /// Numbers of a block of one sample.
    #[must_use]
    pub const fn plane(&self) -> usize {
        self.rows() * self.row()
    }

    /// All blocks of a sample.
    #[must_use]
    pub fn sample(&self, index: usize) -> &[f32] {
        let size = self.blocks() * self.plane();
        &self.data[index * size..][..size]
    }

    /// From `[B, C, H, W]`, contiguous.
    #[must_use]
    pub fn pack(values: &[f32], shape: MapShape, block: usize, border: Border) -> Self {
        let mut maps = Self::zeros(shape, block, border);
        maps.fill(values);
        maps
    }

    /// Overwrites all but the border with `[B, C, H, W]`, contiguous.
    pub fn fill(&mut self, values: &[f32]) {
        let (shape, block, border) = (self.shape, self.block, self.border);
        let (blocks, plane, row) = (self.blocks(), self.plane(), self.row());
        self.data.par_chunks_mut(plane.max(1)).enumerate().for_each(|(index, into)| {
            let (sample, first) = (index / blocks, index % blocks * block);
            let channels = block.min(shape.channels - first);
            let from = &values[(sample * shape.channels + first) * shape.area()..];
            for y in 0..shape.height {
                let into = &mut into[(border.top + y) * row + border.left * block..];
                let line = |channel: usize| &from[channel * shape.area() + y * shape.width..][..shape.width];
                if block == BLOCK && channels == BLOCK {
                    interleave::<BLOCK>(std::array::from_fn(line), into);
                } else if block == IMAGE_BLOCK && channels == IMAGE_BLOCK {
                    interleave::<IMAGE_BLOCK>(std::array::from_fn(line), into);
                } else {
                    for channel in 0..channels {
                        for (x, &value) in line(channel).iter().enumerate() {
                            into[x * block + channel] = value;
                        }
                    }
                }
            }
        });
    }

    /// To `[B, C, H, W]`, written into the pixels (`first` + `step` · i) of larger maps, `[B, C, height, width]`.
    pub fn scatter(&self, into: &mut [f32], size: (usize, usize), first: (usize, usize), step: usize) {
        let (shape, block, border) = (self.shape, self.block, self.border);
        let (blocks, plane, row) = (self.blocks(), self.plane(), self.row());
        into.par_chunks_mut((size.0 * size.1).max(1)).enumerate().for_each(|(index, into)| {
            let (sample, channel) = (index / shape.channels, index % shape.channels);
            let from = &self.data[(sample * blocks + channel / block) * plane..][..plane];
            for y in 0..shape.height {
                let from = &from[(border.top + y) * row + border.left * block..][..shape.width * block];
                let into = &mut into[(first.0 + y * step) * size.1 + first.1..];
                if step == 1 {
                    for (value, pixel) in into.iter_mut().zip(from.chunks_exact(block)) {
                        *value = pixel[channel % block];
                    }
                } else {
                    for (value, pixel) in into.iter_mut().step_by(step).zip(from.chunks_exact(block)) {
                        *value = pixel[channel % block];
                    }
                }
            }
        });
    }

    /// To `[B, C, H, W]`.
    #[must_use]
    pub fn unpack(&self) -> Vec<f32> {
        let shape = self.shape;
        let mut values = vec![0.0; shape.batch * shape.channels * shape.area()];
        self.scatter(&mut values, (shape.height, shape.width), (0, 0), 1);
        values
    }
}

/// Lines of N channels to pixels of N numbers.
fn interleave<const N: usize>(lines: [&[f32]; N], into: &mut [f32]) {
    let (pixels, _) = into.as_chunks_mut::<N>();
    let width = lines.first().map_or(0, |line| line.len());
    let lines = lines.map(|line| &line[..width]);
    for (x, pixel) in pixels.iter_mut().take(width).enumerate() {
        for (value, line) in pixel.iter_mut().zip(&lines) {
            *value = line[x];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_and_unpacking_give_the_maps_back() {
        for (channels, block) in [(3, IMAGE_BLOCK), (16, BLOCK), (21, BLOCK), (1, BLOCK)] {
            let shape = MapShape { batch: 2, channels, height: 3, width: 5 };
            let values: Vec<f32> = (0..2 * channels * 15).map(|value| value as f32).collect();
            let border = Border { top: 1, left: 2, bottom: 0, right: 3 };
            let maps = Blocked::pack(&values, shape, block, border);
            assert_eq!(maps.data.len(), 2 * channels.div_ceil(block) * 4 * 10 * block);
            assert_eq!(maps.unpack(), values);
            assert_eq!(maps.data.iter().sum::<f32>(), values.iter().sum::<f32>(), "the border is zero");
        }
    }
}
