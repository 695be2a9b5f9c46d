//! Reading a pipeline file: every problem at once.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Pipeline;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Dotted key, e.g. `align.camera.tolerance_ms`; empty for the file as a whole.
    pub key: String,
    /// What was found and what is allowed.
    pub message: String,
}

/// A pipeline file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Everything that is wrong with it.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}: ", self.file.display())?;
            if !problem.key.is_empty() {
                write!(f, "{}: ", problem.key)?;
            }
            write!(f, "{}", problem.message)?;
        }
        Ok(())
    }
}

/// Reads and checks a pipeline file.
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn load(path: &Path) -> Result<Pipeline, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
        file: path.to_owned(),
        problems: vec![Problem { key: String::new(), message: error.to_string() }],
    })?;
    parse(path, &text)
}

/// Parses and checks the text of a pipeline file; `path` only names it in errors.
///
/// # Errors
/// [`ConfigError`] with every problem.
pub fn parse(path: &Path, text: &str) -> Result<Pipeline, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError {
        file: path.to_owned(),
        problems: vec![Problem { key: String::new(), message: error.to_string() }],
    })
}
