//! What a check before the start finds.

use std::fmt;

/// One finding, as a sentence that says where, what, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The pipeline cannot run so.
    Error(String),
    /// It can run; what may hurt it later, or what could not be checked.
    Warning(String),
}

impl Finding {
    /// Whether the pipeline cannot run so.
    #[must_use]
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }

    /// The sentence.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Error(text) | Self::Warning(text) => text,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error(text) => f.write_str(text),
            Self::Warning(text) => write!(f, "warning: {text}"),
        }
    }
}

/// What the check of a source finds.
#[derive(Debug, Default)]
pub struct SourceCheck {
    /// Its findings.
    pub findings: Vec<Finding>,
    /// Timestamp in milliseconds of the oldest record that the first run would read; `None` when there is none, or it
    /// could not be read in a moment. Outputs carry the timestamps of their inputs.
    pub oldest_ms: Option<i64>,
}
