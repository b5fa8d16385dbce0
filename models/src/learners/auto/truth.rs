//! What a row turned out to be, and what it costs to have said something else.

use crate::scorers::mixture::{Kind, PROBABILITY_MIN};

/// A loss of values, in units of what is usual, is taken for this at most.
const LOSS_MAX: f64 = 1e3;

/// What a row turned out to be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Truth {
    Class(usize),
    /// In deviations from the center, and the squared error that is usual.
    Value {
        deviation: f64,
        usual: f64,
    },
}

impl Truth {
    pub(super) fn of(kind: Kind, label: f64, usual: f64) -> Self {
        match kind {
            Kind::Values { center, spread } => Self::Value {
                deviation: ((label - center) / spread).clamp(-1e6, 1e6),
                usual,
            },
            Kind::Binary | Kind::Classes(_) => Self::Class(label as usize),
        }
    }

    /// The loss of what was said of each place.
    pub(super) fn loss(self, said: &[f64]) -> f64 {
        match self {
            Self::Class(class) => -said.get(class).copied().unwrap_or_default().max(PROBABILITY_MIN).ln(),
            Self::Value { usual, .. } => {
                let miss = self.miss(0, said.first().copied().unwrap_or_default());
                (miss * miss / (2.0 * usual)).min(LOSS_MAX)
            }
        }
    }

    /// By how much what was said of a place was too little.
    pub(super) fn miss(self, place: usize, said: f64) -> f64 {
        match self {
            Self::Class(class) => f64::from(u8::from(place == class)) - said,
            Self::Value { deviation, .. } => deviation - said,
        }
    }
}
