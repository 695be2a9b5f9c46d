//! The rules that every later model has to beat, and that stay as the fallback.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    ModelError, ModelInfo, Prediction, Predictor, UePrediction, extrapolation, persistence, power_trend,
};
use crate::config::{BeamRule, Codebook, Decide, Model};
use crate::frame::{LinkReport, UeView, Window};
use crate::time::CaptureTime;

/// [`persistence`] or [`extrapolation`] for beams, [`power_trend`] for blockage.
///
/// Stateless: what it says is a function of the window alone.
#[derive(Clone, Debug)]
pub struct Baseline {
    rule: BeamRule,
    beams: Option<usize>,
    circular: bool,
    horizons_ms: Vec<u32>,
    blockage_db: f64,
}

impl Baseline {
    /// The rules that `model` names, for the beams of `codebook` and the horizons and threshold of `decide`.
    #[must_use]
    pub fn new(model: &Model, codebook: &Codebook, decide: &Decide) -> Self {
        Self {
            rule: model.beam,
            beams: codebook.beams,
            circular: codebook.circular,
            horizons_ms: decide.horizons_ms.clone(),
            blockage_db: decide.blockage_db,
        }
    }

    fn conclude(&self, view: &UeView, t: CaptureTime) -> UePrediction {
        // A report on another codebook than the configured one says nothing about our beams.
        let ours = |report: &&Arc<LinkReport>| {
            self.beams.is_none_or(|beams| report.power.linear.len() == beams) && report.capture <= t
        };
        let history: Vec<Arc<LinkReport>> = view.link.iter().filter(ours).cloned().collect();
        UePrediction {
            beam: match self.rule {
                BeamRule::Persistence => persistence::predict(&history, t, self.circular),
                BeamRule::Extrapolation => extrapolation::predict(&history, t, self.circular),
            },
            blockage: power_trend::predict(&history, t, &self.horizons_ms, self.blockage_db),
            gate: BTreeMap::new(),
        }
    }
}

impl Predictor for Baseline {
    fn info(&self) -> ModelInfo {
        let beam = match self.rule {
            BeamRule::Persistence => "persistence",
            BeamRule::Extrapolation => "extrapolation",
        };
        ModelInfo { id: format!("{beam}+power-trend"), trained: true }
    }

    fn predict(&mut self, windows: &[Window]) -> Result<Vec<Prediction>, ModelError> {
        let predict = |window: &Window| {
            let frame = &window.frame;
            let ues = frame.ues.iter().map(|(ue, view)| (ue.clone(), self.conclude(view, frame.time)));
            Prediction { ues: ues.collect(), ..Prediction::default() }
        };
        Ok(windows.iter().map(predict).collect())
    }
}
