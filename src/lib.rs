//! MMSense: streaming ISAC sensor fusion for mmWave roadside units.
pub mod align;
pub mod config;
pub mod decide;
pub mod decode;
pub mod frame;
pub mod infer;
pub mod message;
pub mod recording;
pub mod sample;
pub mod space;
pub mod time;
