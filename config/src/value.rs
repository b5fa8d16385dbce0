//! Values taken out of a document with their types.

use std::time::Duration;

use crate::document::Document;
use crate::node::{Node, NodeKind};
use crate::problems::Problems;
use crate::section::Section;
use crate::span::Span;
use crate::units::{self, ByteSize};

/// A value of a document.
#[derive(Clone, Copy)]
pub struct Value<'d> {
    pub(crate) document: &'d Document,
    pub(crate) node: &'d Node,
}

/// Why a value could not be read.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Where: the value, or the element of it that is wrong.
    pub span: Span,
    /// What is wrong. It quotes nothing that came from the environment.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl<'d> Value<'d> {
    /// Where the value stands.
    pub fn span(self) -> Span {
        self.node.span
    }

    /// The text, if it is a string.
    pub fn as_str(self) -> Option<&'d str> {
        match &self.node.kind {
            NodeKind::Text(text) => Some(&text.value),
            _ => None,
        }
    }

    /// The elements, if it is an array.
    pub fn as_array(self) -> Option<impl Iterator<Item = Value<'d>>> {
        match &self.node.kind {
            NodeKind::Array(items) => Some(items.iter().map(move |node| Value { node, ..self })),
            _ => None,
        }
    }

    /// The table, if it is one.
    pub fn as_section(self) -> Option<Section<'d>> {
        match &self.node.kind {
            NodeKind::Table(table) => Some(Section::of(self.document, table, self.node.span)),
            _ => None,
        }
    }

    /// Whether some of the text came from the environment, so that no message may show it.
    pub fn is_substituted(self) -> bool {
        matches!(&self.node.kind, NodeKind::Text(text) if text.is_foreign())
    }

    /// A fault of this value.
    pub fn fault(self, message: impl Into<String>) -> Fault {
        Fault {
            span: self.span(),
            message: message.into(),
            help: None,
        }
    }

    /// "expected ..., found ...".
    pub fn wrong_type(self, expected: &str) -> Fault {
        self.fault(format!("expected {expected}, found {}", self.node.type_name()))
    }
}

/// What can be read from a value of a document.
pub trait FromValue: Sized {
    /// Reads a value that is there.
    fn from_value(value: Value<'_>) -> Result<Self, Fault>;

    /// Reads the value of a key. Only types that have another way to be given replace this.
    fn from_section(section: Section<'_>, key: &str, problems: &mut Problems) -> Option<Self> {
        match Self::from_value(section.value(key)?) {
            Ok(value) => Some(value),
            Err(fault) => {
                problems.push(fault.span, fault.message, fault.help);
                None
            }
        }
    }

    /// Whether the key, or another way to give it, is there.
    fn is_given(section: Section<'_>, key: &str) -> bool {
        section.has(key)
    }
}

impl FromValue for String {
    fn from_value(value: Value<'_>) -> Result<String, Fault> {
        value
            .as_str()
            .map(str::to_string)
            .ok_or_else(|| value.wrong_type("a string"))
    }
}

impl FromValue for bool {
    fn from_value(value: Value<'_>) -> Result<bool, Fault> {
        match value.node.kind {
            NodeKind::Bool(bool) => Ok(bool),
            _ => Err(value.wrong_type("true or false")),
        }
    }
}

fn integer<T: TryFrom<i128>>(value: Value<'_>, min: i128, max: i128) -> Result<T, Fault> {
    let NodeKind::Integer(integer) = value.node.kind else {
        return Err(value.wrong_type("an integer"));
    };
    T::try_from(integer).map_err(|_| match integer < 0 && min == 0 {
        true => value.fault("the number must not be negative"),
        false => value.fault(format!("the number must be from {min} to {max}")),
    })
}

impl FromValue for i64 {
    fn from_value(value: Value<'_>) -> Result<i64, Fault> {
        integer(value, i64::MIN.into(), i64::MAX.into())
    }
}

impl FromValue for u64 {
    fn from_value(value: Value<'_>) -> Result<u64, Fault> {
        integer(value, 0, u64::MAX.into())
    }
}

impl FromValue for u32 {
    fn from_value(value: Value<'_>) -> Result<u32, Fault> {
        integer(value, 0, u32::MAX.into())
    }
}

impl FromValue for usize {
    fn from_value(value: Value<'_>) -> Result<usize, Fault> {
        integer(value, 0, i128::try_from(usize::MAX).unwrap_or(i128::MAX))
    }
}

impl FromValue for f64 {
    fn from_value(value: Value<'_>) -> Result<f64, Fault> {
        match value.node.kind {
            NodeKind::Float(float) if float.is_finite() => Ok(float),
            NodeKind::Float(_) => Err(value.fault("the number must be finite")),
            // Every integer that a configuration sensibly holds is exact in 53 bits; others are rounded as TOML's
            // own floats are.
            NodeKind::Integer(integer) => Ok(integer as f64),
            _ => Err(value.wrong_type("a number")),
        }
    }
}

impl FromValue for Duration {
    fn from_value(value: Value<'_>) -> Result<Duration, Fault> {
        with_unit(value, "a duration such as \"30 s\"", "s", units::parse_duration)
    }
}

impl FromValue for ByteSize {
    fn from_value(value: Value<'_>) -> Result<ByteSize, Fault> {
        with_unit(value, "a size such as \"64 MiB\"", "MiB", units::parse_bytes)
    }
}

fn with_unit<T>(
    value: Value<'_>,
    expected: &str,
    unit: &str,
    parse: fn(&str) -> Result<T, String>,
) -> Result<T, Fault> {
    let Some(text) = value.as_str() else {
        let mut fault = value.wrong_type(expected);
        if let NodeKind::Integer(_) | NodeKind::Float(_) = value.node.kind {
            let number = value.document.source().slice(value.span());
            fault.help = Some(format!("missing unit: write \"{number} {unit}\""));
        }
        return Err(fault);
    };
    parse(text).map_err(|message| match value.is_substituted() {
        true => value.fault(format!("expected {expected}; what the environment says is none")),
        false => value.fault(message),
    })
}

fn list<T: FromValue>(value: Value<'_>, expected: &str) -> Result<Vec<T>, Fault> {
    value
        .as_array()
        .ok_or_else(|| value.wrong_type(expected))?
        .map(T::from_value)
        .collect()
}

impl FromValue for Vec<String> {
    fn from_value(value: Value<'_>) -> Result<Vec<String>, Fault> {
        list(value, "a list of strings such as [\"a\", \"b\"]")
    }
}

impl FromValue for Vec<f64> {
    fn from_value(value: Value<'_>) -> Result<Vec<f64>, Fault> {
        list(value, "a list of numbers such as [0.1, 0.5]")
    }
}
