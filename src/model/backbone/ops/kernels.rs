//! Loops over f32 on the CPU. Branch-free where it counts, so that the compiler makes vector code of them.

use rayon::prelude::*;

/// Lanes of a sum: so many partial sums, which the compiler keeps in vector registers.
const LANES: usize = 16;
/// Numbers below which a second thread costs more than it saves.
const SERIAL: usize = 1 << 14;

/// Runs over rows of `width` numbers of `out`, on several threads where there is enough to do.
fn rows(out: &mut [f32], width: usize, run: impl Fn(usize, &mut [f32]) + Sync) {
    if width == 0 {
        return;
    }
    if out.len() < SERIAL {
        out.chunks_exact_mut(width).enumerate().for_each(|(row, out)| run(row, out));
        return;
    }
    let per_task = (SERIAL / 2 / width).max(1);
    out.par_chunks_mut(width * per_task).enumerate().for_each(|(task, out)| {
        for (row, out) in out.chunks_exact_mut(width).enumerate() {
            run(task * per_task + row, out);
        }
    });
}

/// Row `row` of `width` numbers.
fn row(all: &[f32], row: usize, width: usize) -> &[f32] {
    all.get(row * width..(row + 1) * width).unwrap_or_default()
}

/// Σ f(a, b).
fn sum(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(&a, &b)| f(a, b)).sum();
    for (a, b) in a.zip(b) {
        for (lane, (&a, &b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += f(a, b);
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// eˣ to 2e-7 of its value, 0 below −87 and e⁸⁸ above 88 (Cephes' polynomial).
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2²³ leaves the nearest whole number in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let limited = x.clamp(-87.0, 88.0);
    let shifted = limited * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // x − n ln 2, with ln 2 in two parts, the first of few bits.
    let r = limited - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 0.166_666_66;
    let p = p * r + 0.5;
    let y = p * r * r + r + 1.0;
    // × 2ⁿ
    let y = f32::from_bits(y.to_bits().wrapping_add(shifted.to_bits() << 23));
    if x < -87.0 { 0.0 } else { y }
}

/// A row whose largest number is below this is masked as a whole: masks are −1e9.
const MASKED: f32 = -5e8;

/// Per row of `keys` numbers: softmax(scale · x + mask), where row i goes with row `of_row(i)` of the mask; 0 where all is
/// masked.
pub(super) fn softmax(
    x: &[f32],
    keys: usize,
    scale: f32,
    mask: Option<&[f32]>,
    of_row: &(dyn Fn(usize) -> usize + Sync),
) -> Vec<f32> {
    let mut y = vec![0f32; x.len()];
    rows(&mut y, keys, |index, y| {
        let x = row(x, index, keys);
        match mask {
            Some(mask) => {
                for (y, (&x, &m)) in y.iter_mut().zip(x.iter().zip(row(mask, of_row(index), keys))) {
                    *y = x * scale + m;
                }
            }
            None => y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * scale),
        }
        let mut most = [f32::NEG_INFINITY; LANES];
        for chunk in y.chunks(LANES) {
            for (most, &y) in most.iter_mut().zip(chunk) {
                *most = if y > *most { y } else { *most };
            }
        }
        let most = most.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if most < MASKED {
            y.fill(0.0);
            return;
        }
        y.iter_mut().for_each(|y| *y = exp(*y - most));
        let total = 1.0 / sum(y, y, |y, _| y);
        y.iter_mut().for_each(|y| *y *= total);
    });
    y
}

/// Gradient of x: scale · y · (g − Σ g · y).
pub(super) fn softmax_backward(y: &[f32], grad: &[f32], keys: usize, scale: f32) -> Vec<f32> {
    let mut of_x = vec![0f32; y.len()];
    rows(&mut of_x, keys, |index, of_x| {
        let (y, grad) = (row(y, index, keys), row(grad, index, keys));
        let share = sum(y, grad, |y, g| y * g);
        for (out, (&y, &g)) in of_x.iter_mut().zip(y.iter().zip(grad)) {
            *out = scale * y * (g - share);
        }
    });
    of_x
}

/// silu(a) · b of rows [a, b], each of n numbers.
pub(super) fn swiglu(x: &[f32], n: usize) -> Vec<f32> {
    let mut y = vec![0f32; x.len() / 2];
    rows(&mut y, n, |index, y| {
        let (gate, up) = row(x, index, 2 * n).split_at(n);
        for (y, (&gate, &up)) in y.iter_mut().zip(gate.iter().zip(up)) {
            *y = gate / (1.0 + exp(-gate)) * up;
        }
    });
    y
}

/// Gradient of [a, b].
pub(super) fn swiglu_backward(x: &[f32], grad: &[f32], n: usize) -> Vec<f32> {
    let mut of_x = vec![0f32; x.len()];
    rows(&mut of_x, 2 * n, |index, of_x| {
        let (gate, up) = row(x, index, 2 * n).split_at(n);
        let (of_gate, of_up) = of_x.split_at_mut(n);
        let given = gate.iter().zip(up).zip(row(grad, index, n));
        for ((of_gate, of_up), ((&gate, &up), &g)) in of_gate.iter_mut().zip(of_up).zip(given) {
            let sigmoid = 1.0 / (1.0 + exp(-gate));
            *of_up = g * gate * sigmoid;
            *of_gate = g * up * sigmoid * (1.0 + gate * (1.0 - sigmoid));
        }
    });
    of_x
}

/// Sizes of a split of heads.
#[derive(Debug)]
pub(super) struct Heads {
    pub(super) batch: usize,
    pub(super) length: usize,
    /// Heads of the joined tensor.
    pub(super) heads: usize,
    pub(super) dim: usize,
    /// The first head of the split one.
    pub(super) from: usize,
    /// Heads of the split one.
    pub(super) count: usize,
    /// Whether each head of the split one is [dim, length].
    pub(super) transposed: bool,
}

impl Heads {
    /// Where head `head` of the split at (`batch`, `time`) begins in the joined tensor.
    const fn joined(&self, batch: usize, head: usize, time: usize) -> usize {
        ((batch * self.length + time) * self.heads + self.from + head) * self.dim
    }
}

/// Cosines and sines `[batch or 1, length, dim/2]`.
pub(super) struct Turn<'a> {
    pub(super) cos: &'a [f32],
    pub(super) sin: &'a [f32],
    pub(super) shared: bool,
}

impl Turn<'_> {
    fn at(&self, heads: &Heads, batch: usize, time: usize) -> (&[f32], &[f32]) {
        let place = if self.shared { time } else { batch * heads.length + time };
        (row(self.cos, place, heads.dim / 2), row(self.sin, place, heads.dim / 2))
    }
}

/// `[batch, length, heads, dim]` to `[batch, count, length, dim]` (or `[.., dim, length]`), turned.
pub(super) fn split_heads(x: &[f32], heads: &Heads, turn: Option<Turn<'_>>) -> Vec<f32> {
    let Heads { batch, length, dim, count, transposed, .. } = *heads;
    let mut y = vec![0f32; batch * count * length * dim];
    rows(&mut y, length * dim, |index, y| {
        let (b, h) = (index / count, index % count);
        let mut turned = vec![0f32; if transposed { dim } else { 0 }];
        for t in 0..length {
            let x = x.get(heads.joined(b, h, t)..).unwrap_or_default().get(..dim).unwrap_or_default();
            let out = if transposed { turned.as_mut_slice() } else { &mut y[t * dim..(t + 1) * dim] };
            match &turn {
                Some(turn) => {
                    let (cos, sin) = turn.at(heads, b, t);
                    let (first, second) = x.split_at(dim / 2);
                    let (out_first, out_second) = out.split_at_mut(dim / 2);
                    let given = first.iter().zip(second).zip(cos.iter().zip(sin));
                    for ((out_a, out_b), ((&a, &b), (&c, &s))) in
                        out_first.iter_mut().zip(out_second).zip(given)
                    {
                        *out_a = a * c - b * s;
                        *out_b = b * c + a * s;
                    }
                }
                None => out.copy_from_slice(x),
            }
            if transposed {
                for (&value, column) in turned.iter().zip(y.iter_mut().skip(t).step_by(length)) {
                    *column = value;
                }
            }
        }
    });
    y
}

/// The gradient of [`split_heads`]: turned back, 0 in heads that were not split off.
pub(super) fn join_heads(grad: &[f32], heads: &Heads, turn: Option<Turn<'_>>) -> Vec<f32> {
    let Heads { batch, length, dim, count, transposed, .. } = *heads;
    let mut of_x = vec![0f32; batch * length * heads.heads * dim];
    rows(&mut of_x, heads.heads * dim, |index, of_x| {
        let (b, t) = (index / length, index % length);
        let own = of_x.iter_mut().skip(heads.from * dim).take(count * dim);
        for (place, out) in own.enumerate() {
            let (h, d) = (place / dim, place % dim);
            let at = if transposed { d * length + t } else { t * dim + d };
            *out = grad.get((b * count + h) * length * dim + at).copied().unwrap_or_default();
        }
        let Some(turn) = &turn else { return };
        let (cos, sin) = turn.at(heads, b, t);
        for head in of_x.chunks_exact_mut(dim).skip(heads.from).take(count) {
            let (first, second) = head.split_at_mut(dim / 2);
            for ((a, b), (&c, &s)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
                (*a, *b) = (*a * c + *b * s, *b * c - *a * s);
            }
        }
    });
    of_x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_that_of_the_library() {
        for step in -8700..8800 {
            let x = step as f32 * 0.01 + 0.003;
            let (found, exact) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(((found - exact) / exact).abs() < 3e-7, "{x}: {found} for {exact}");
        }
        assert_eq!(exp(-88.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert!(exp(0.0) == 1.0 && exp(1000.0) > 1e38);
    }

    #[test]
    fn a_number_that_is_none_stays_one() {
        assert!(exp(f32::NAN).is_nan());
    }
}
