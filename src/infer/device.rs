//! Where the network runs.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use serde::{Deserialize, Serialize};

/// What the pipeline file asks for: `"auto"`, `"cpu"` or `"cuda:N"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// The first GPU where there is one and this program was built for it, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU of this number, and nothing else.
    Cuda(usize),
}

/// A device that no pipeline file can ask for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found `{0}`, allowed are `auto`, `cpu` and `cuda:N` (N = 0, 1, …)")]
pub struct UnknownDevice(String);

/// A device that was asked for by name is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("model.device = \"{choice}\": {reason}")]
pub struct DeviceError {
    /// What was asked for.
    pub choice: DeviceChoice,
    /// Why it cannot be had.
    pub reason: String,
}

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| UnknownDevice(text.to_owned())),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = UnknownDevice;
    fn try_from(text: String) -> Result<Self, UnknownDevice> {
        text.parse()
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

/// A device, and why this one.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The device.
    pub device: Device,
    /// Its name: `cpu` or `cuda:N`.
    pub name: String,
    /// Why it was taken.
    pub reason: String,
}

impl Opened {
    /// The CPU, and why.
    #[must_use]
    pub fn cpu(reason: String) -> Self {
        Self { device: Device::Cpu, name: "cpu".to_owned(), reason }
    }
}

/// Opens the device that was chosen.
///
/// # Errors
/// [`DeviceError`] when a GPU was asked for by number and cannot be had.
pub fn open(choice: DeviceChoice) -> Result<Opened, DeviceError> {
    match choice {
        DeviceChoice::Cpu => Ok(Opened::cpu("the pipeline asks for it".to_owned())),
        DeviceChoice::Cuda(number) => {
            let device = cuda(number).map_err(|reason| DeviceError { choice, reason })?;
            let reason = "the pipeline asks for it".to_owned();
            Ok(Opened { device, name: format!("cuda:{number}"), reason })
        }
        DeviceChoice::Auto => Ok(match cuda(0) {
            Ok(device) => Opened { device, name: "cuda:0".to_owned(), reason: "a GPU is there".to_owned() },
            Err(reason) => Opened::cpu(reason),
        }),
    }
}

/// Opens a GPU and runs a first sum on it: a driver that is too old fails here and not in the first frame.
fn cuda(number: usize) -> Result<Device, String> {
    if !cfg!(feature = "cuda") {
        return Err("this program was built without the `cuda` feature".to_owned());
    }
    let first_sum = |device: &Device| {
        candle_core::Tensor::ones(8, candle_core::DType::F32, device)?.sum_all()?.to_scalar::<f32>()
    };
    let one_line =
        |error: candle_core::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
    let device = Device::new_cuda(number).map_err(one_line)?;
    first_sum(&device).map_err(one_line)?;
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_written_as_they_are_read() {
        for (text, choice) in
            [("auto", DeviceChoice::Auto), ("cpu", DeviceChoice::Cpu), ("cuda:3", DeviceChoice::Cuda(3))]
        {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
        }
        for bad in ["gpu", "cuda", "cuda:", "cuda:-1", "CPU"] {
            assert!(bad.parse::<DeviceChoice>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_there_is_refused_by_name_and_passed_over_by_auto() {
        assert_eq!(open(DeviceChoice::Cpu).unwrap().name, "cpu");
        let far = open(DeviceChoice::Cuda(99)).unwrap_err().to_string();
        assert!(far.starts_with("model.device = \"cuda:99\": "), "{far}");
        let auto = open(DeviceChoice::Auto).unwrap();
        assert!(!auto.reason.is_empty() && (auto.name == "cpu" || auto.name == "cuda:0"));
    }
}
