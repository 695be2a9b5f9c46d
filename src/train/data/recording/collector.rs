//! Stands where the network would, and writes down what it would be shown.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::store::{StoreError, Writer};
use super::{CollectError, INDEX, Resolution, Watch};
use crate::config::{self, Pipeline};
use crate::frame::{Placed, Window};
use crate::infer::network::features;
use crate::infer::{ModelError, ModelInfo, Prediction, Predictor};
use crate::model::ue::POSITION_FEATURES;
use crate::observe::{self, Loss, Metrics};
use crate::recording::{Feed, Recording};
use crate::runtime::{self, Parts};
use crate::sample::{Data, Modality, UeId};
use crate::time::CaptureTime;

/// A reading in a frame: its number (in the store; of a UE's, among the data set's sources), and when it was captured.
pub(super) type Kept = (u32, CaptureTime);

/// What a frame showed of one UE.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct UeSeen {
    /// Who.
    pub(super) ue: UeId,
    /// Features of its position, and when it was captured.
    pub(super) position: Option<([f32; POSITION_FEATURES], CaptureTime)>,
    /// Captures of its reports, oldest first.
    pub(super) reports: Vec<CaptureTime>,
}

/// What a frame showed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct FrameSeen {
    /// Its instant.
    pub(super) time: CaptureTime,
    /// Positions of the frames in the slots of its window, oldest first; the last is its own.
    pub(super) slots: Vec<Option<u32>>,
    /// Camera, radar, LiDAR.
    pub(super) sensors: [Option<Kept>; 3],
    /// UEs that are known.
    pub(super) ues: Vec<UeSeen>,
}

/// What is kept of a recording beside its readings.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Index {
    /// What each frame showed.
    pub(super) frames: Vec<FrameSeen>,
    /// Parts of the store.
    pub(super) parts: usize,
    /// Samples of sensors and of positions that could not be read or decoded, with the reason.
    #[serde(default)]
    pub(super) lost: Vec<(Modality, String, u64)>,
}

/// The samples that were lost on the road; the truth is read beside it, and what is lost of that counted there.
fn lost_on_the_road(metrics: &Metrics) -> Vec<(Modality, String, u64)> {
    let of = |(loss, count): (Loss, u64)| match loss {
        Loss {
            place: observe::Place::Recording | observe::Place::Decode,
            modality: Some(modality),
            reason,
        } if !matches!(modality, Modality::Link | Modality::Blocked) => {
            Some((modality, reason.to_owned(), count))
        }
        _ => None,
    };
    metrics.losses().into_iter().filter_map(of).collect()
}

/// Stands where the network would, and writes down what it would be shown.
struct Collector {
    resolution: Resolution,
    collected: Arc<Mutex<Collected>>,
}

struct Collected {
    writer: Writer,
    frames: Vec<FrameSeen>,
    /// Position of a frame by its running number.
    positions: HashMap<u64, u32>,
    /// Numbers of readings that later frames may hold.
    held: BTreeMap<Modality, Kept>,
    failed: Option<StoreError>,
}

impl Collector {
    fn see(&self, collected: &mut Collected, window: &Window) -> Result<(), StoreError> {
        let frame = &window.frame;
        let position = collected.frames.len() as u32;
        collected.positions.insert(frame.sequence, position);
        let slots = window.slots.iter();
        let slots = slots
            .map(|slot| slot.as_ref().and_then(|slot| collected.positions.get(&slot.sequence).copied()))
            .collect();
        let mut sensors = [None; 3];
        for (kept, modality) in sensors.iter_mut().zip([Modality::Camera, Modality::Radar, Modality::Lidar]) {
            if let Some(placed) = frame.sensors.get(&modality) {
                *kept = Some(self.keep(collected, modality, placed)?);
            }
        }
        let ues = frame.ues.iter().map(|(ue, view)| UeSeen {
            ue: ue.clone(),
            position: view.position.as_ref().and_then(|placed| match &placed.sample.data {
                Data::Position(position) => {
                    Some((features::position(position, position.local?), placed.capture))
                }
                _ => None,
            }),
            reports: view.link.iter().map(|report| report.capture).collect(),
        });
        let ues = ues.collect();
        collected.frames.push(FrameSeen { time: frame.time, slots, sensors, ues });
        Ok(())
    }

    fn keep(
        &self,
        collected: &mut Collected,
        modality: Modality,
        placed: &Placed,
    ) -> Result<Kept, StoreError> {
        if let Some(held) = collected.held.get(&modality).filter(|held| held.1 == placed.capture) {
            return Ok(*held);
        }
        let Resolution { side, radar, lidar } = self.resolution;
        let writer = &mut collected.writer;
        let number = match &placed.sample.data {
            Data::Image(image) => writer.image(&features::thumbnail(image, side))?,
            Data::Radar(reading) => writer.radar(&features::radar(reading, radar))?,
            Data::Cloud(scan) => writer.lidar(&features::lidar(scan, lidar))?,
            _ => return Err(StoreError::NoReading { number: 0, data: modality.to_string() }),
        };
        collected.held.insert(modality, (number, placed.capture));
        Ok((number, placed.capture))
    }
}

impl Predictor for Collector {
    fn info(&self) -> ModelInfo {
        ModelInfo { id: "collector".to_owned(), trained: true }
    }

    fn predict(&mut self, windows: &[Window]) -> Result<Vec<Prediction>, ModelError> {
        let mut collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        for window in windows {
            if let Err(error) = self.see(&mut collected, window) {
                let message = error.to_string();
                collected.failed.get_or_insert(error);
                return Err(ModelError::Failed(message));
            }
        }
        Ok(vec![Prediction::default(); windows.len()])
    }
}

/// Time between two looks at how far decoding has come.
const WATCH_EVERY: Duration = Duration::from_millis(20);

/// Takes the recording down the road, into `folder`.
pub(super) fn collect(
    recording: Recording,
    pipeline: &Pipeline,
    resolution: Resolution,
    folder: &Path,
    watch: Watch<'_>,
) -> Result<(), CollectError> {
    let path = recording.path().to_owned();
    let captures: Vec<CaptureTime> = recording.samples().iter().map(|sample| sample.capture).collect();
    let collected = Arc::new(Mutex::new(Collected {
        writer: Writer::new(folder, resolution.side),
        frames: Vec::new(),
        positions: HashMap::new(),
        held: BTreeMap::new(),
        failed: None,
    }));
    let metrics = Arc::new(Metrics::default());
    let counted = Arc::clone(&metrics);
    let latency = config::millis(pipeline.input.recording.latency_ms);
    let samples = Box::new(Feed::new(recording, latency, Arc::clone(&metrics)));
    let running = runtime::start(Parts {
        pipeline: Pipeline { model: config::Model::default(), ..pipeline.clone() },
        predictor: Box::new(Collector { resolution, collected: Arc::clone(&collected) }),
        fallback: None,
        source: runtime::Source::Feed { samples, rate: 0.0 },
        session: None,
        log: None,
        metrics,
        on_snapshot: Box::new(|_| {}),
        on_decided: None,
    })?;
    let goes_on = || {
        let seen =
            collected.lock().unwrap_or_else(PoisonError::into_inner).frames.last().map(|frame| frame.time);
        let done = seen.map_or(0, |seen| captures.partition_point(|capture| *capture <= seen));
        watch(done, captures.len())
    };
    let mut stopped = !goes_on();
    while !(stopped || running.has_ended()) {
        std::thread::sleep(WATCH_EVERY);
        stopped = !goes_on();
    }
    if stopped {
        running.stop_handle().stop();
    }
    running.join()?;
    if stopped {
        return Err(CollectError::Stopped { path });
    }
    let _ = watch(captures.len(), captures.len());
    let collected = Arc::into_inner(collected)
        .map(|collected| collected.into_inner().unwrap_or_else(PoisonError::into_inner));
    let Some(Collected { writer, frames, failed, .. }) = collected else {
        unreachable!("the road has ended, and with it the collector");
    };
    if let Some(error) = failed {
        return Err(error.into());
    }
    let index = Index { frames, parts: writer.finish()?, lost: lost_on_the_road(&counted) };
    let path = folder.join(INDEX);
    let text =
        serde_json::to_vec(&index).map_err(|source| CollectError::Index { path: path.clone(), source })?;
    fs::write(&path, text).map_err(|source| CollectError::Io { path, source })
}
