//! Running 90th percentile of a link's power: what the link reaches when nothing stands in its way.

use std::collections::VecDeque;

/// Reports that the percentile looks back on: half a minute at 10 Hz.
const REPORTS: usize = 300;

/// 90th percentile (nearest rank) of the last 300 values.
#[derive(Clone, Debug, Default)]
pub(super) struct Level {
    order: VecDeque<f64>,
    sorted: Vec<f64>,
}

impl Level {
    /// Adds a finite value and gives the percentile with it.
    pub(super) fn add(&mut self, value: f64) -> f64 {
        if self.order.len() == REPORTS
            && let Some(oldest) = self.order.pop_front()
            && let Ok(index) = self.sorted.binary_search_by(|known| known.total_cmp(&oldest))
        {
            self.sorted.remove(index);
        }
        self.order.push_back(value);
        let index = self.sorted.partition_point(|known| known.total_cmp(&value).is_lt());
        self.sorted.insert(index, value);
        let rank = (self.sorted.len() * 9).div_ceil(10);
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_nearest_rank_of_the_last_300() {
        let mut level = Level::default();
        let values: Vec<f64> = (0..700).map(|i| f64::from((i * 7919) % 1009)).collect();
        for (index, &value) in values.iter().enumerate() {
            let found = level.add(value);
            let mut last = values[(index + 1).saturating_sub(300)..=index].to_vec();
            last.sort_by(f64::total_cmp);
            let rank = (0.9 * last.len() as f64 - 1e-9).ceil() as usize;
            assert_eq!(found, last[rank.max(1) - 1], "after {index}");
        }
        assert_eq!(level.sorted.len(), 300);
    }
}
