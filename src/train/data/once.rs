//! What several processes want, and one makes.

use std::fs::{File, TryLockError};
use std::io::Result;
use std::path::Path;

/// Waits until no other process holds `file`, and says so; holds it until what comes back is let go of, or the process ends,
/// however it ends. Where the file system has no locks, nobody waits.
///
/// # Errors
/// When the file cannot be made.
pub fn hold(file: &Path) -> Result<File> {
    let held = File::create(file)?;
    if let Err(TryLockError::WouldBlock) = held.try_lock() {
        tracing::info!("waiting for another process, which holds {}", file.display());
        let _ = held.lock();
    }
    Ok(held)
}
