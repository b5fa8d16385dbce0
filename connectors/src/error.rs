//! The error of this crate: whose fault, where, what to do.

/// Whose fault a failure is; decides the exit code and whether waiting can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The configuration asks for something that is not there or not allowed.
    Operator,
    /// Brokers or files outside are at fault.
    Environment,
    /// A bug in Driftmill.
    Internal,
}

/// A connector could not do its work.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{place}: {what}; {remedy}")]
pub struct ConnectError {
    /// Whose fault.
    pub fault: Fault,
    /// Where: connector, topic, partition, offset.
    pub place: String,
    /// What happened.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl ConnectError {
    /// A new error.
    pub fn new(fault: Fault, place: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            fault,
            place: place.into(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}
