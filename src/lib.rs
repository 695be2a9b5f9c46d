//! MMSense: streaming ISAC sensor fusion for mmWave roadside units.
//!
//! # The story of one frame
//!
//! A camera driver publishes an image. [`ingest`] stamps it in the zenoh callback and puts it into a bounded mailbox.
//! A worker of [`decode`] turns the bytes into pixels, in the axes and units of [`space`]; anything wrong with them costs
//! this one [`sample`] and is counted by [`observe`]. [`align`] puts it beside the radar and LiDAR samples of the same
//! instant: a [`frame`], closed when every live sensor has spoken or its deadline has come. [`infer`] shows the last few
//! frames, a window, to a rule or to the network of [`model`] and gets probabilities. [`decide`] makes of them a beam
//! choice and a blockage warning, holds the last good one when the model or the sensors fail, and says "unknown" when
//! that has grown old. [`publish`] writes the [`message`]s to zenoh, where a basestation acts on them.
//!
//! A [`recording`] takes the place of the sensors in a replay; [`simulate`] makes one of a street that does not exist.
//! [`runtime`] knows the threads and queues between the stages, and nothing else does: each stage depends on the data
//! types between them only. [`config`] is the pipeline file, [`cli`] the commands.
//!
//! [`train`] is what the network learns with, and [`parity`] proves network and training against numbers of others.

pub mod align;
pub mod cli;
pub mod config;
pub mod decide;
pub mod decode;
pub mod frame;
pub mod infer;
pub mod ingest;
pub mod message;
pub mod model;
pub mod observe;
pub mod parity;
pub mod percentile;
pub mod publish;
pub mod recording;
pub mod runtime;
pub mod sample;
pub mod simulate;
pub mod space;
pub mod threads;
pub mod time;
pub mod train;
