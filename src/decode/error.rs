//! Why a payload was refused.

/// A payload that was not decoded: what was found, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A format, version or feature that is not read.
    #[error("{what}: found {found}, allowed is {allowed}")]
    Unsupported {
        /// The stream or part.
        what: &'static str,
        /// What was found.
        found: String,
        /// What is allowed.
        allowed: String,
    },
    /// An array of the wrong element type.
    #[error("{what}: found elements {found}, allowed are {allowed}")]
    WrongDtype {
        /// The array.
        what: &'static str,
        /// Its type as the file says.
        found: String,
        /// The types that are read.
        allowed: &'static str,
    },
    /// An array of the wrong shape, or a vector of the wrong length.
    #[error("{what}: found shape {found}, allowed is {allowed}")]
    WrongShape {
        /// The array.
        what: &'static str,
        /// Its shape.
        found: String,
        /// The shape that is read.
        allowed: String,
    },
    /// Fewer bytes than the header or the format promises.
    #[error("{what}: truncated, found {found} bytes, {needed} are needed")]
    Truncated {
        /// What is cut short.
        what: &'static str,
        /// Bytes that are there.
        found: u64,
        /// Bytes that it takes at least.
        needed: u64,
    },
    /// More than a limit allows; nothing was allocated.
    #[error("{what}: found {found}, allowed are at most {allowed}")]
    Oversize {
        /// What is too large.
        what: &'static str,
        /// Its size.
        found: u64,
        /// The limit.
        allowed: u64,
    },
    /// NaN or infinity where only numbers are allowed.
    #[error("{what}: element {index} is not finite")]
    NotFinite {
        /// The array.
        what: &'static str,
        /// Index of the first such element in the order of the file.
        index: usize,
    },
    /// A number outside its range.
    #[error("{what}: found {found}, allowed is {allowed}")]
    OutOfRange {
        /// The number.
        what: &'static str,
        /// Its value.
        found: String,
        /// Its range.
        allowed: &'static str,
    },
    /// A point cloud without the columns that make a point.
    #[error("point cloud: found fields [{found}], needed are x, y and z")]
    MissingFields {
        /// The fields it has.
        found: String,
    },
    /// A partial sweep while the length of the codebook is not known.
    #[error("link power: a partial sweep needs the length of the codebook, and `codebook.beams` is not set")]
    NoCodebook,
    /// Bytes that break the rules of their format.
    #[error("{format}: {detail}")]
    Malformed {
        /// The format.
        format: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// A decoder panicked; the panic was contained.
    #[error("{decoder} decoder panicked: {message}")]
    Panicked {
        /// The stream.
        decoder: &'static str,
        /// The panic's message.
        message: String,
    },
}

impl DecodeError {
    /// A short stable name of the reason, by which drops are counted.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unsupported { .. } => "unsupported",
            Self::WrongDtype { .. } => "wrong_dtype",
            Self::WrongShape { .. } => "wrong_shape",
            Self::Truncated { .. } => "truncated",
            Self::Oversize { .. } => "oversize",
            Self::NotFinite { .. } => "not_finite",
            Self::OutOfRange { .. } => "out_of_range",
            Self::MissingFields { .. } => "missing_fields",
            Self::NoCodebook => "no_codebook",
            Self::Malformed { .. } => "malformed",
            Self::Panicked { .. } => "panicked",
        }
    }

    /// Bytes that break the rules of `format`; the detail may quote hostile bytes and is cut and escaped.
    pub(crate) fn malformed(format: &'static str, detail: impl ToString) -> Self {
        Self::Malformed { format, detail: printable(&detail.to_string()) }
    }

    pub(crate) const fn oversize(what: &'static str, found: usize, allowed: usize) -> Self {
        Self::Oversize { what, found: found as u64, allowed: allowed as u64 }
    }

    pub(crate) const fn truncated(what: &'static str, found: usize, needed: u64) -> Self {
        Self::Truncated { what, found: found as u64, needed }
    }
}

/// One line of at most 160 characters, control characters escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut line = String::new();
    for character in text.chars().take(160) {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_on_one_line() {
        let error = DecodeError::malformed("PCD", format!("a\nb\u{1b}[2J{}", "x".repeat(500)));
        let text = error.to_string();
        assert!(!text.contains('\n') && !text.contains('\u{1b}') && text.len() < 200, "{text}");
    }
}
