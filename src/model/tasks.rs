//! The four tasks, and the interface that every core behind the encoders has: MMSense and its baselines alike.

use std::collections::BTreeMap;
use std::fmt;

use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

use super::fusion::Tokens;
use super::layers::Mode;

/// What is concluded from a row of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// BP (Eq. 1): scores of the beams of the codebook, instant after instant, per UE.
    Beam,
    /// FBP (Eq. 4): hazard scores of the horizons' intervals, per UE.
    Blockage,
    /// HAR (Eq. 2): scores of the activities, per unit.
    Activity,
    /// HPE (Eq. 3): joints × (x, y, z) in metres, per unit.
    Pose,
}

impl Task {
    /// All of them, in the paper's order of sections.
    pub const ALL: [Self; 4] = [Self::Beam, Self::Blockage, Self::Activity, Self::Pose];

    /// Whether it is about the unit itself, and not about a UE.
    #[must_use]
    pub const fn is_of_unit(self) -> bool {
        matches!(self, Self::Activity | Self::Pose)
    }

    /// Its name in files and tensors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Beam => "beam",
            Self::Blockage => "blockage",
            Self::Activity => "activity",
            Self::Pose => "pose",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|task| task.name() == name)
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a network has to fit: the unit's window, beams and horizons, and the classes of the human tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// W, slots of a window.
    pub slots: usize,
    /// Beams of the codebook.
    pub beams: usize,
    /// Instants for which a beam is chosen: the frame's own, and later ones that a recipe asks for.
    #[serde(default = "one")]
    pub instants: usize,
    /// Blockage horizons.
    pub horizons: usize,
    /// Human activities.
    pub activities: usize,
    /// Joints of a body.
    pub joints: usize,
}

const fn one() -> usize {
    1
}

impl Sizes {
    /// Activities of MM-Fi.
    pub const ACTIVITIES: usize = 27;
    /// Joints of Human3.6M, as MM-Fi has them.
    pub const JOINTS: usize = 17;
    /// Joints of a Kinect V2, as MARS has them.
    pub const KINECT_JOINTS: usize = 25;
    /// Movements of MARS.
    pub const MOVEMENTS: usize = 10;

    /// A window of `slots`, for a codebook of `beams` beams and `horizons` blockage horizons.
    #[must_use]
    pub const fn new(slots: usize, beams: usize, horizons: usize) -> Self {
        let (activities, joints) = (Self::ACTIVITIES, Self::JOINTS);
        Self { slots, beams, instants: 1, horizons, activities, joints }
    }

    /// Numbers that a task gives per row.
    #[must_use]
    pub const fn outputs(&self, task: Task) -> usize {
        match task {
            Task::Beam => self.instants * self.beams,
            Task::Blockage => self.horizons,
            Task::Activity => self.activities,
            Task::Pose => 3 * self.joints,
        }
    }
}

/// Which rows of a batch of [`Tokens`] each task is to conclude from.
pub type Asked = BTreeMap<Task, Vec<u32>>;

/// What a core says of a batch.
#[derive(Clone, Debug)]
pub struct Said {
    /// Per task `[rows asked, outputs]`, in the order asked: scores, for a pose joint after joint x, y, z in metres.
    pub tasks: BTreeMap<Task, Tensor>,
    /// Gate weights `[R, W, D]`, of a core that has a gate.
    pub gate: Option<Tensor>,
}

/// The tokens that a core is built for, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenShape {
    /// W, slots of a window.
    pub slots: usize,
    /// D, modalities.
    pub modalities: usize,
    /// n_f, tokens of each modality.
    pub tokens: usize,
    /// d, width of a token.
    pub width: usize,
}

impl TokenShape {
    /// W · D, samples of a window.
    #[must_use]
    pub const fn samples(&self) -> usize {
        self.slots * self.modalities
    }

    /// W · D · n_f, tokens of a window.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.samples() * self.tokens
    }

    /// R, the rows of a batch of such tokens.
    ///
    /// # Errors
    /// When values, mask or ages have another shape: what was found and what is allowed.
    pub fn rows(&self, tokens: &Tokens) -> Result<usize> {
        let rows = tokens.values.dim(0)?;
        let (slots, modalities, count) = (self.slots, self.modalities, self.tokens);
        for (name, found, allowed) in [
            ("tokens", tokens.values.dims(), &[rows, slots, modalities, count, self.width][..]),
            ("their mask", tokens.mask.dims(), &[rows, slots, modalities, count]),
            ("their ages", tokens.ages.dims(), &[rows, slots, modalities]),
        ] {
            if found != allowed {
                candle_core::bail!("{name}: found {found:?}, allowed is {allowed:?}");
            }
        }
        Ok(rows)
    }
}

/// What stands behind the encoders: the tokens of a window in, scores of the tasks out.
pub trait Core: fmt::Debug + Send + Sync {
    /// One pass over a batch of rows. Tokens may have fewer slots than the core was built for: those before them are empty.
    ///
    /// # Errors
    /// When shapes disagree, a row is asked for that is not there, or the core was not built for a task.
    fn forward(&self, tokens: &Tokens, asked: &Asked, mode: Mode) -> Result<Said>;
}
