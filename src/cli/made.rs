//! Recordings of simulated streets and rooms, made on first use.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use super::{Failure, simulate, text};
use crate::model::Input;
use crate::simulate::room::{self, RoomScene};
use crate::simulate::{Scene as StreetScene, identity, scene};
use crate::train::data::once;

/// What a scene file says.
enum Scene {
    Street(Box<StreetScene>),
    Room(Box<RoomScene>),
}

/// What of a scene is made otherwise than it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variation {
    /// Seed in place of its own.
    pub seed: Option<u64>,
    /// How many times over each sequence of a street is made.
    pub repeat: usize,
    /// Inputs of a street that are left out.
    pub without: Vec<Input>,
}

impl Default for Variation {
    fn default() -> Self {
        Self { seed: None, repeat: 1, without: Vec::new() }
    }
}

impl Variation {
    fn apply(&self, file: &Path, scene: &mut Scene) -> Result<(), Failure> {
        match scene {
            Scene::Room(scene) => {
                if self.repeat != 1 || !self.without.is_empty() {
                    let file = file.display();
                    return Err(Failure::Usage(format!(
                        "{file}: `repeat` and `without` are allowed for streets, it is a scene of rooms"
                    )));
                }
                scene.seed = self.seed.unwrap_or(scene.seed);
            }
            Scene::Street(scene) => {
                scene.seed = self.seed.unwrap_or(scene.seed);
                scene
                    .repeat(self.repeat)
                    .map_err(|problem| Failure::Usage(format!("{}: {problem}", file.display())))?;
                scene.leave_out(&self.without);
            }
        }
        Ok(())
    }
}

/// The recording of a scene: made when it is not there yet, in `folder`. Its own folder carries the scene file's name and the
/// first eight digits of the name by which `simulate` calls the scene as it is made (the SHA-256 of the recording's
/// `scene.toml`), so that a changed scene is made anew.
pub(super) fn recording(
    file: &Path,
    variation: &Variation,
    folder: &Path,
    stopped: &AtomicBool,
) -> Result<PathBuf, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
    let mut scene = if room::is_one(&text) {
        Scene::Room(Box::new(room::load(file).map_err(Failure::usage)?))
    } else {
        Scene::Street(Box::new(scene::load(file).map_err(Failure::usage)?))
    };
    variation.apply(file, &mut scene)?;
    let identity = match &scene {
        Scene::Street(scene) => identity(&scene.recorded()),
        Scene::Room(scene) => identity(scene),
    };
    let identity = identity.map_err(Failure::failed)?;
    let hash: String = Sha256::digest(&identity).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let name = file.file_stem().map_or_else(|| "scene".into(), |stem| stem.to_string_lossy());
    let made = folder.join(format!("{name}-{hash}"));
    if !made.is_dir() {
        let failed = |path: &Path, error| Failure::Failed(format!("{}: {error}", path.display()));
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
        // Of two who want the same, one makes it and the other waits.
        let guard = made.with_extension("lock");
        let held =
            once::hold(&guard, || !stopped.load(Ordering::Relaxed)).map_err(|error| failed(&guard, error))?;
        if held.is_none() {
            return Err(Failure::Failed(format!("stopped before {} was made", made.display())));
        }
        if made.is_dir() {
            return Ok(made);
        }
        text::progress(format!("making the recording {} (once)", made.display()));
        let (count, seconds) = match &scene {
            Scene::Room(scene) => {
                let report = simulate::make_rooms(scene, &made, None, stopped)?;
                (report.frames, report.seconds)
            }
            Scene::Street(scene) => {
                let report = simulate::make(scene, &made, None, stopped)?;
                (report.rows, report.seconds)
            }
        };
        text::progress(format!("made {count} rows in {seconds:.0} s"));
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scene_is_made_otherwise_under_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("street.toml");
        std::fs::write(&file, "[[sequence]]\nseconds = 0.3\n").unwrap();
        let stopped = AtomicBool::new(false);
        let make = |variation: &Variation| recording(&file, variation, folder.path(), &stopped);
        let plain = make(&Variation::default()).unwrap();
        let without = vec![Input::Camera, Input::Radar, Input::Lidar];
        let other = make(&Variation { seed: Some(2), repeat: 3, without: without.clone() }).unwrap();
        assert_ne!(plain, other);
        let index = |made: &Path| std::fs::read_to_string(made.join("recording.csv")).unwrap();
        assert_eq!(index(&plain).lines().count(), 1 + 3);
        assert_eq!(index(&other).lines().count(), 1 + 3 * 3);
        assert!(plain.join("unit1/camera_data").is_dir() && !other.join("unit1/camera_data").exists());
        assert!(other.join("unit1/mmWave_data").is_dir());
        // A room is made as it says.
        std::fs::write(&file, "[mmfi]\nsubjects = [1]\n").unwrap();
        let error = make(&Variation { without, ..Variation::default() }).unwrap_err();
        assert!(matches!(error, Failure::Usage(_)), "{error:?}");
    }
}
