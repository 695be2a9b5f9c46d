//! Recordings of simulated streets and rooms, made on first use.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use sha2::{Digest, Sha256};

use super::{Failure, simulate, text};
use crate::simulate::room::{self, RoomScene};
use crate::simulate::{Scene as StreetScene, VERSION, scene};

/// What a scene file says.
enum Scene {
    Street(Box<StreetScene>),
    Room(Box<RoomScene>),
}

/// The recording of a scene: made when it is not there yet, in `folder`. Its own folder carries a hash of the scene, so
/// that a changed scene is made anew.
pub(super) fn recording(
    file: &Path,
    seed: Option<u64>,
    folder: &Path,
    stopped: &AtomicBool,
) -> Result<PathBuf, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
    let mut hash = Sha256::new().chain_update(VERSION.to_le_bytes()).chain_update(&text);
    if let Some(seed) = seed {
        hash.update(seed.to_le_bytes());
    }
    // People in rooms are another kind of scene: it says which of MM-Fi's subjects and activities it makes.
    let is_room = text.parse::<toml::Table>().is_ok_and(|table| table.contains_key("mmfi"));
    let mut scene = if is_room {
        Scene::Room(Box::new(room::load(file).map_err(Failure::usage)?))
    } else {
        Scene::Street(Box::new(scene::load(file).map_err(Failure::usage)?))
    };
    match (&mut scene, seed) {
        (Scene::Room(scene), Some(seed)) => scene.seed = seed,
        (Scene::Street(scene), Some(seed)) => scene.seed = seed,
        (_, None) => {}
    }
    let hash: String = hash.finalize().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let name = file.file_stem().map_or_else(|| "scene".into(), |stem| stem.to_string_lossy());
    let made = folder.join(format!("{name}-{hash}"));
    if !made.is_dir() {
        std::fs::create_dir_all(folder)
            .map_err(|error| Failure::Failed(format!("{}: {error}", folder.display())))?;
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
