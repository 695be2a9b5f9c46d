//! One loss per task, each a scalar tensor that can be differentiated.
//!
//! Rows without a label are left out before anything is computed; a batch without any label has no loss (`None`), which
//! is not a loss of zero: Eq. 14 then leaves the task out.

use candle_core::{D, Result, Tensor};

/// ln Σ exp over the last dimension, kept.
fn log_sum_exp(x: &Tensor) -> Result<Tensor> {
    // The shift cancels, so its gradient is not wanted.
    let shift = x.max_keepdim(D::Minus1)?.detach();
    x.broadcast_sub(&shift)?.exp()?.sum_keepdim(D::Minus1)?.log()? + shift
}

/// ln(1 + e^x), finite for any finite x. Its gradient is σ(x), at 0 too: candle's relu'(0) = 1 and |·|'(0) = 1 make ½.
fn softplus(x: &Tensor) -> Result<Tensor> {
    x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?
}

/// Cross entropy in nats of scores `[R, classes]`, mean over the rows that have a label: Eq. 1 (beam) and Eq. 2
/// (activity).
///
/// # Errors
/// When the number of labels is not R, or a label is not below `classes`.
pub fn cross_entropy(scores: &Tensor, labels: &[Option<u32>]) -> Result<Option<Tensor>> {
    let (rows, classes) = scores.dims2()?;
    if labels.len() != rows {
        candle_core::bail!("cross entropy: found {} labels, allowed are {rows}, one per row", labels.len());
    }
    let labelled = (0u32..).zip(labels).filter_map(|(row, label)| label.map(|label| (row, label)));
    let (rows, labels): (Vec<u32>, Vec<u32>) = labelled.unzip();
    if let Some(label) = labels.iter().find(|&&label| label as usize >= classes) {
        candle_core::bail!(
            "cross entropy: found label {label}, allowed are 0 to {}",
            classes.saturating_sub(1)
        );
    }
    if rows.is_empty() {
        return Ok(None);
    }
    let count = rows.len();
    let scores = scores.index_select(&Tensor::from_vec(rows, count, scores.device())?, 0)?;
    let labels = Tensor::from_vec(labels, (count, 1), scores.device())?;
    let chosen = scores.gather(&labels, 1)?;
    (log_sum_exp(&scores)? - chosen)?.mean_all().map(Some)
}

/// Cross entropy in nats of scores `[R, classes]` against shares `[R, classes]` that add up to 1 in each row, mean over the
/// rows.
///
/// # Errors
/// When the shapes differ.
pub fn soft_cross_entropy(scores: &Tensor, shares: &Tensor) -> Result<Tensor> {
    let log = scores.broadcast_sub(&log_sum_exp(scores)?)?;
    (log * shares)?.sum(D::Minus1)?.neg()?.mean_all()
}

/// Binary cross entropy in nats of scores of any shape against targets 0…1 of the same shape, mean over all; a positive
/// counts `positive_weight` times. Finite, with the right gradient, at any finite score.
///
/// # Errors
/// When the shapes differ.
pub fn binary_cross_entropy(scores: &Tensor, targets: &Tensor, positive_weight: f64) -> Result<Tensor> {
    binary_terms(scores, targets, positive_weight)?.mean_all()
}

/// w·y·softplus(−x) + (1 − y)·softplus(x)
fn binary_terms(scores: &Tensor, targets: &Tensor, positive_weight: f64) -> Result<Tensor> {
    let positive = ((softplus(&scores.neg()?)? * targets)? * positive_weight)?;
    positive + (softplus(scores)? * (1.0 - targets)?)?
}

/// What is known of one interval of a row's future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// No blockage in it, nor before it.
    Clear,
    /// The blockage came in it.
    Blocked,
    /// The blockage came in it, or in another one of the row that is so marked: nobody looked in between.
    Among,
    /// It does not count: the blockage came before it, or nobody knows.
    Uncounted,
}

/// Labels of the horizons that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "blockage labels: found clear within horizon {later} and blocked within the shorter horizon {earlier}"
)]
pub struct Contradiction {
    /// The shorter horizon, by number.
    pub earlier: usize,
    /// The longer one.
    pub later: usize,
}

/// Labels "blocked within (t, t + Δ_k]" of rising horizons, `None` where unlabelled, to what is known of the intervals
/// between the horizons. Clear within a horizon means clear in every interval up to it; a blockage before which labels are
/// missing came in one of the intervals since the last clear one.
///
/// # Errors
/// [`Contradiction`] when a link that was blocked within a horizon is clear within a longer one.
pub fn intervals(within: &[Option<bool>]) -> std::result::Result<Vec<Interval>, Contradiction> {
    let clear_until = within.iter().rposition(|label| *label == Some(false)).map_or(0, |last| last + 1);
    let first_blocked = within.iter().position(|label| *label == Some(true));
    if let Some(earlier) = first_blocked
        && earlier < clear_until
    {
        return Err(Contradiction { earlier, later: clear_until - 1 });
    }
    let interval = |k: usize| match first_blocked {
        _ if k < clear_until => Interval::Clear,
        Some(blocked) if blocked == k && k == clear_until => Interval::Blocked,
        Some(blocked) if k <= blocked => Interval::Among,
        _ => Interval::Uncounted,
    };
    Ok((0..within.len()).map(interval).collect())
}

/// Negative log-likelihood of the interval in which the blockage came, of hazard scores `[R, K]`: with h_k = σ(score_k)
/// the chance of blockage in interval k when there was none before, a row that is blocked in interval k costs
/// −ln h_k − Σ_{i<k} ln(1 − h_i), one that is blocked in one of the intervals j…k costs −ln(1 − Π_{j≤i≤k} (1 − h_i)) −
/// Σ_{i<j} ln(1 − h_i), and one that is clear up to interval k costs −Σ_{i≤k} ln(1 − h_i). Mean over the rows in which
/// anything counts; a blockage counts `positive_weight` times. (Kalbfleisch and Prentice, discrete-time hazards with
/// interval censoring.)
///
/// # Errors
/// When the number of rows or intervals is not that of the scores.
pub fn hazard_loss(scores: &Tensor, rows: &[Vec<Interval>], positive_weight: f64) -> Result<Option<Tensor>> {
    let (count, horizons) = scores.dims2()?;
    if rows.len() != count || rows.iter().any(|row| row.len() != horizons) {
        let found: Vec<usize> = rows.iter().map(Vec::len).collect();
        candle_core::bail!(
            "hazard loss: found rows of {found:?} intervals, allowed are {count} of {horizons}"
        );
    }
    let of = |wanted: fn(Interval) -> bool| -> Result<Tensor> {
        let numbers: Vec<f32> =
            rows.iter().flatten().map(|&interval| f32::from(u8::from(wanted(interval)))).collect();
        Tensor::from_vec(numbers, (count, horizons), scores.device())?.to_dtype(scores.dtype())
    };
    let counted =
        rows.iter().filter(|row| row.iter().any(|&interval| interval != Interval::Uncounted)).count();
    if counted == 0 {
        return Ok(None);
    }
    let blocked = of(|interval| interval == Interval::Blocked)?;
    let counts = of(|interval| matches!(interval, Interval::Clear | Interval::Blocked))?;
    let mut total = (binary_terms(scores, &blocked, positive_weight)? * counts)?.sum_all()?;
    let open: Vec<u32> =
        (0u32..).zip(rows).filter(|(_, row)| row.contains(&Interval::Among)).map(|(row, _)| row).collect();
    if !open.is_empty() {
        /// Keeps the logarithm finite where the network is sure that nothing comes.
        const EPS: f64 = 1e-6;
        let among = of(|interval| interval == Interval::Among)?;
        let open = Tensor::from_slice(&open, open.len(), scores.device())?;
        // −ln of the chance that none of them is hit.
        let survived = (softplus(scores)? * among)?.index_select(&open, 0)?.sum(D::Minus1)?;
        let hit = (1.0 - (survived + EPS)?.neg()?.exp()?)?;
        total = (total + (hit.log()?.neg()?.sum_all()? * positive_weight)?)?;
    }
    (total / counted as f64).map(Some)
}

/// Chances "blocked within (t, t + Δ_k]", `[R, K]`, of hazard scores `[R, K]`: 1 − Π_{i≤k} (1 − h_i), which never falls
/// from one horizon to the next.
///
/// # Errors
/// When the scores have another rank.
pub fn blocked_within(scores: &Tensor) -> Result<Tensor> {
    let (_, horizons) = scores.dims2()?;
    // ln(1 − σ(x)) = −softplus(x)
    let per_interval = softplus(scores)?;
    let mut sum = per_interval.narrow(1, 0, 1)?;
    let mut survived = Vec::with_capacity(horizons);
    for horizon in 0..horizons {
        if horizon > 0 {
            sum = (sum + per_interval.narrow(1, horizon, 1)?)?;
        }
        survived.push(sum.neg()?.exp()?);
    }
    1.0 - Tensor::cat(&survived, 1)?
}

/// Mean squared error of tensors of the same shape; of a pose in metres: Eq. 3, in m².
///
/// # Errors
/// When the shapes differ.
pub fn mean_squared_error(predicted: &Tensor, truth: &Tensor) -> Result<Tensor> {
    (predicted - truth)?.sqr()?.mean_all()
}

/// Mean distance of joints `[.., 3]` from the true ones, in their unit.
///
/// # Errors
/// When the shapes differ.
pub fn joint_distance(predicted: &Tensor, truth: &Tensor) -> Result<Tensor> {
    /// Keeps the gradient finite, and 0, where a joint is hit exactly; a micrometre in metres.
    const EPS: f64 = 1e-6;
    ((predicted - truth)?.sqr()?.sum(D::Minus1)? + EPS * EPS)?.sqrt()?.mean_all()
}
