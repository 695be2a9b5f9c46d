//! A folder that gets its name when it is whole.
//!
//! Files are written into `.NAME.part` beside the target: a run that was cut off never looks like a recording, and the
//! next run of the same scene finds there what this one made.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::SimulateError;

/// What the recording is made from.
pub(super) const IDENTITY: &str = "scene.toml";
/// Held while a process writes.
const LOCK: &str = "lock";

/// Writes the files of one recording.
#[derive(Debug)]
pub(super) struct Staging {
    target: PathBuf,
    /// Where it is written until it is whole.
    folder: PathBuf,
    /// Held as long as this process writes there.
    _lock: File,
}

impl Staging {
    /// Makes the folder, or finds that of a run of the same `identity` that was cut off.
    pub(super) fn new(target: &Path, identity: &str) -> Result<Self, SimulateError> {
        let name = target.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(name) = name else { return Err(SimulateError::NoName { path: target.to_owned() }) };
        if let Ok(found) = fs::symlink_metadata(target) {
            if !found.is_dir() || fs::read_dir(target).map_err(io(target))?.next().is_some() {
                return Err(SimulateError::NotEmpty { path: target.to_owned() });
            }
            // It will be replaced, which not everything lets itself be: told now rather than in the end.
            fs::remove_dir(target)
                .and_then(|()| fs::create_dir(target))
                .map_err(|source| SimulateError::Stays { path: target.to_owned(), source })?;
        }
        let folder = target.with_file_name(format!(".{name}.part"));
        fs::create_dir_all(&folder).map_err(io(&folder))?;
        let mut entries = fs::read_dir(&folder).map_err(io(&folder))?.flatten();
        if entries.next().is_some() && [LOCK, IDENTITY].iter().all(|own| !folder.join(own).exists()) {
            return Err(SimulateError::NotEmpty { path: folder });
        }
        let path = folder.join(LOCK);
        let lock = File::create(&path).map_err(io(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SimulateError::Busy { path: folder }),
            Err(TryLockError::Error(source)) => return Err(SimulateError::Io { path, source }),
        }
        if fs::read(folder.join(IDENTITY)).ok().as_deref() != Some(identity.as_bytes()) {
            // Of another scene, or of an older version.
            for entry in fs::read_dir(&folder).map_err(io(&folder))?.flatten() {
                let path = entry.path();
                if path.is_dir() {
                    fs::remove_dir_all(&path).map_err(io(&path))?;
                } else if entry.file_name() != LOCK {
                    fs::remove_file(&path).map_err(io(&path))?;
                }
            }
        }
        let staging = Self { target: target.to_owned(), folder, _lock: lock };
        staging.put(IDENTITY, identity.as_bytes())?;
        Ok(staging)
    }

    /// Writes a file, all of it or nothing, and the folders that lead to it; returns its bytes.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) -> Result<u64, SimulateError> {
        let (path, part) = (self.folder.join(name), self.folder.join(format!("{name}.part")));
        match fs::write(&part, bytes) {
            // The first file of its folder.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent).map_err(io(parent))?;
                }
                fs::write(&part, bytes).map_err(io(&part))?;
            }
            written => written.map_err(io(&part))?,
        }
        fs::rename(&part, &path).map_err(io(&path))?;
        Ok(bytes.len() as u64)
    }

    /// The size of a file, where it is there already.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        fs::metadata(self.folder.join(name)).ok().map(|found| found.len())
    }

    /// Begins a file that is written piece by piece.
    pub(super) fn stream(&self, name: &str) -> Result<Stream, SimulateError> {
        let path = self.folder.join(name);
        let file = File::create(&path).map_err(io(&path))?;
        Ok(Stream { path, file: std::io::BufWriter::new(file), bytes: 0 })
    }

    /// Gives the folder its name.
    pub(super) fn finish(self) -> Result<(), SimulateError> {
        let lock = self.folder.join(LOCK);
        fs::remove_file(&lock).map_err(io(&lock))?;
        // An empty folder may stand where the recording goes.
        if self.target.exists() {
            fs::remove_dir(&self.target).map_err(io(&self.target))?;
        }
        fs::rename(&self.folder, &self.target).map_err(io(&self.target))
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> SimulateError {
    let path = path.to_owned();
    move |source| SimulateError::Io { path, source }
}

/// A file that grows.
#[derive(Debug)]
pub(super) struct Stream {
    path: PathBuf,
    file: std::io::BufWriter<File>,
    bytes: u64,
}

impl Stream {
    /// Adds to it.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), SimulateError> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(io(&self.path))
    }

    /// Ends it; returns its size.
    pub(super) fn finish(mut self) -> Result<u64, SimulateError> {
        self.file.flush().map_err(io(&self.path))?;
        Ok(self.bytes)
    }
}
