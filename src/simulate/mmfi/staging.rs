//! A folder that gets its name when it is whole.

use std::fs;
use std::path::{Path, PathBuf};

use crate::simulate::SimulateError;

/// Files are written into a folder beside the target; a run that was cut off never looks like a recording.
#[derive(Debug)]
pub(super) struct Staging {
    target: PathBuf,
    folder: PathBuf,
    is_whole: bool,
}

impl Staging {
    /// # Errors
    /// When the target is there and not empty, or the folder beside it cannot be made.
    pub(super) fn new(target: &Path) -> Result<Self, SimulateError> {
        let is_free = match fs::read_dir(target) {
            Ok(mut entries) => entries.next().is_none(),
            Err(_) => !target.exists(),
        };
        if !is_free {
            return Err(SimulateError::NotEmpty { path: target.to_owned() });
        }
        let name = target.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(name) = name else { return Err(SimulateError::NoName { path: target.to_owned() }) };
        let folder = target.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let io = |source| SimulateError::Io { path: folder.clone(), source };
        // What a killed process of this number may have left.
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(io)?;
        }
        fs::create_dir_all(&folder).map_err(io)?;
        Ok(Self { target: target.to_owned(), folder, is_whole: false })
    }

    /// Writes a file, and the folders that lead to it; returns its bytes.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> Result<u64, SimulateError> {
        let path = self.folder.join(name);
        let io = |source| SimulateError::Io { path: path.clone(), source };
        match fs::write(&path, bytes) {
            // The first file of its folder.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).map_err(io)?;
                }
                fs::write(&path, bytes).map_err(io)?;
            }
            written => written.map_err(io)?,
        }
        Ok(bytes.len() as u64)
    }

    /// Gives the folder its name.
    pub(super) fn finish(mut self) -> Result<(), SimulateError> {
        let io = |source| SimulateError::Io { path: self.target.clone(), source };
        // An empty folder may stand where the recording goes.
        if self.target.exists() {
            fs::remove_dir(&self.target).map_err(io)?;
        }
        fs::rename(&self.folder, &self.target).map_err(io)?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
