//! The one place that maps a file into memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

/// A file's bytes, read from the disk when they are looked at.
#[derive(Debug)]
pub(super) struct Map(Option<Mmap>);

impl Map {
    /// Maps a whole file, read-only.
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        // A map of nothing is refused by some systems.
        if file.metadata()?.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: The map is read-only and private to this process, and lives as long as `Map`, so that no slice of it
        // outlives it. What it needs of others is that the file is not cut or changed in place meanwhile: `save` never
        // does so (it writes a new file and renames it, which leaves the mapped one as it is), and weight files are
        // documented as not to be edited in place while a program uses them. Any bytes are valid `u8`s, and what they
        // say is checked (`Shard::open`) before it is used.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self(Some(map)))
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}
