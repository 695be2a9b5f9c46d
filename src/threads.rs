//! How many threads the products of a network are shared out to.

use std::env;
use std::thread;

/// What rayon and candle go by.
const OF_PRODUCTS: &str = "RAYON_NUM_THREADS";
/// What candle's own threads for sums go by.
const OF_SUMS: &str = "CANDLE_NUM_THREADS";

/// Settles on as many threads as this process has cores, unless the environment says how many.
///
/// candle counts the cores of the machine, though a container or `taskset` may leave fewer of them: its threads then wait for
/// each other in turns. It also counts them anew, from `/proc/cpuinfo`, before every product of two matrices. And it has
/// sums of large tensors done by threads that spin until all are through, one sum at a time: batches that are learned from
/// side by side take cores from each other so.
///
/// To be called before the first thread is started.
pub fn settle() {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    for (variable, threads) in settings(cores, |variable| env::var(variable).ok()) {
        // SAFETY: No other thread runs yet that could read the environment meanwhile.
        #[allow(unsafe_code)]
        unsafe {
            env::set_var(variable, threads.to_string());
        }
    }
}

/// The variables that are to be set, where `given` has no number of at least 1.
fn settings(cores: usize, given: impl Fn(&str) -> Option<String>) -> Vec<(&'static str, usize)> {
    let is_given =
        |variable: &str| given(variable).and_then(|text| text.parse().ok()).is_some_and(|n: usize| n > 0);
    [(OF_PRODUCTS, cores), (OF_SUMS, 1)].into_iter().filter(|(variable, _)| !is_given(variable)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_says_stays() {
        assert_eq!(settings(4, |_| None), [(OF_PRODUCTS, 4), (OF_SUMS, 1)]);
        assert_eq!(settings(4, |_| Some("3".to_owned())), []);
        // rayon and candle take these for nothing, too.
        for text in ["0", "many", ""] {
            assert_eq!(settings(4, |_| Some(text.to_owned())).len(), 2);
        }
        let sums = |variable: &str| (variable == OF_SUMS).then(|| "2".to_owned());
        assert_eq!(settings(4, sums), [(OF_PRODUCTS, 4)]);
    }
}
