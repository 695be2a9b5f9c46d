//! Work on several batches at once, each on one core.
//!
//! A step has as many batches as data sets, whose gradients do not depend on one another. One batch gains nothing from a
//! second core: its products are small. What each gives is put together in the order of the batches, so that the number of
//! workers changes no bit of it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Stack of a thread that trains: gradients are followed back by recursion.
pub const STACK: usize = 512 << 20;

/// Threads, each of which is a pool of its own: what an operation would share out stays on it.
#[derive(Debug)]
pub struct Workers(Vec<ThreadPool>);

impl Workers {
    /// So many, or as many as can be had.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let pool = |number: usize| {
            let name = move |_| format!("train {number}");
            ThreadPoolBuilder::new().num_threads(1).stack_size(STACK).thread_name(name).build().ok()
        };
        Self((0..count).filter_map(pool).collect())
    }

    /// As many as rayon would use.
    #[must_use]
    pub fn of_machine() -> Self {
        Self::new(rayon::current_num_threads())
    }

    /// What `work` makes of each item, in the order of the items.
    pub fn map<T: Sync, R: Send>(&self, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
        if self.0.len() < 2 || items.len() < 2 {
            return items.iter().map(work).collect();
        }
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(items.len()));
        let work_off = || {
            while let Some((at, item)) = {
                let at = next.fetch_add(1, Ordering::Relaxed);
                items.get(at).map(|item| (at, item))
            } {
                let result = work(item);
                done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, result));
            }
        };
        thread::scope(|scope| {
            for pool in self.0.iter().take(items.len()) {
                scope.spawn(|| pool.install(work_off));
            }
        });
        let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        done.sort_unstable_by_key(|(at, _)| *at);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<u64> = (0..20).collect();
        let slow = |item: &u64| {
            thread::sleep(std::time::Duration::from_millis(if item.is_multiple_of(3) { 3 } else { 0 }));
            (item * item, rayon::current_num_threads())
        };
        for workers in [Workers::new(0), Workers::new(1), Workers::new(3)] {
            let squares: Vec<u64> = workers.map(&items, slow).into_iter().map(|(square, _)| square).collect();
            assert_eq!(squares, items.iter().map(|item| item * item).collect::<Vec<_>>());
        }
        // Nothing that is done within is shared out again.
        assert!(Workers::new(2).map(&items, slow).iter().all(|(_, threads)| *threads == 1));
        assert!(Workers::new(2).map(&[] as &[u64], slow).is_empty());
    }
}
