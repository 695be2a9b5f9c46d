//! What several processes want, and one makes.

use std::fs::{File, TryLockError};
use std::io::Result;
use std::path::Path;
use std::time::Duration;

/// Time between two tries to hold a file that another process holds.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// Waits until no other process holds `file`, and says so; holds it until what comes back is let go of, or the process ends,
/// however it ends. `None`: `go_on` said no while it waited. Where the file system has no locks, nobody waits.
///
/// # Errors
/// When the file cannot be made.
pub fn hold(file: &Path, go_on: impl Fn() -> bool) -> Result<Option<File>> {
    let held = File::create(file)?;
    let mut waits = false;
    while let Err(TryLockError::WouldBlock) = held.try_lock() {
        if !waits {
            tracing::info!("waiting for another process, which holds {}", file.display());
            waits = true;
        }
        if !go_on() {
            return Ok(None);
        }
        std::thread::sleep(TRY_EVERY);
    }
    Ok(Some(held))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn who_waits_may_be_told_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lock");
        let first = hold(&file, || false).unwrap();
        assert!(first.is_some());
        let asked = Cell::new(0);
        let second = hold(&file, || {
            asked.set(asked.get() + 1);
            asked.get() < 3
        });
        assert!(second.unwrap().is_none() && asked.get() == 3);
        drop(first);
        assert!(hold(&file, || false).unwrap().is_some());
    }
}
