//! What several processes want, and one makes.

use std::fs::File;
use std::io::{ErrorKind, Result};
use std::path::Path;

/// Waits until no other process holds `file`, and holds it until what comes back is let go of, or the process ends, however it
/// ends. Where the file system has no locks, nobody waits.
///
/// # Errors
/// When the file cannot be made.
pub fn hold(file: &Path) -> Result<File> {
    let held = File::create(file)?;
    match held.lock() {
        Err(error) if error.kind() != ErrorKind::Unsupported => Err(error),
        _ => Ok(held),
    }
}
