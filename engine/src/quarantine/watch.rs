//! What a rule on windows remembers of one group of rows.

use std::collections::VecDeque;

use driftmill_models::codec::{CodecError, Put, Reader};

use super::rules::Rule;

/// Windows of a share that must have been let through before the next is judged.
const SHARE_WINDOWS_MIN: u64 = 5;
/// Rows of which a share is remembered; then both numbers are halved, so that it follows slow changes.
const SHARE_ROWS_MAX: u64 = 100_000;
/// Windows whose values are remembered for the median.
const MEDIAN_WINDOWS: usize = 4;

/// The last window, whatever the verdict, and what was let through.
#[derive(Default)]
pub(super) struct Watch {
    recent: VecDeque<f64>,
    /// Of rows that were let through: how many, and how many of them had value 1. For shares.
    rows: u64,
    hits: u64,
    /// The last values that were let through. For medians.
    values: VecDeque<f64>,
    updates: u64,
}

/// Appends a value and forgets the oldest beyond `max`.
fn push(values: &mut VecDeque<f64>, value: f64, max: usize) {
    values.push_back(value);
    while values.len() > max {
        values.pop_front();
    }
}

/// The upper median.
fn median<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().copied().collect();
    let middle = values.len() / 2;
    if values.is_empty() {
        f64::NAN
    } else {
        *values.select_nth_unstable_by(middle, f64::total_cmp).1
    }
}

/// The divergence of two coins in nats.
fn divergence(now: f64, before: f64) -> f64 {
    let term = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    term(now, before) + term(1.0 - now, 1.0 - before)
}

impl Watch {
    /// Grows with every change.
    pub(super) fn stamp(&self) -> u64 {
        self.updates
    }

    /// Judges values, at most a window of them; learns from them when they are let through.
    pub(super) fn judge(&mut self, rule: &Rule, values: &[f64]) -> Option<String> {
        self.updates += 1;
        values
            .iter()
            .for_each(|&value| push(&mut self.recent, value, rule.rows()));
        let wrong = if self.recent.len() < rule.rows() {
            None
        } else {
            self.compare(rule, values)
        };
        if wrong.is_none() {
            self.learn(rule, values);
        }
        wrong
    }

    /// Takes values as right.
    pub(super) fn learn(&mut self, rule: &Rule, values: &[f64]) {
        self.updates += 1;
        if matches!(rule, Rule::Spike { .. }) {
            values
                .iter()
                .for_each(|&value| push(&mut self.values, value, MEDIAN_WINDOWS * rule.rows()));
            return;
        }
        self.rows += values.len() as u64;
        self.hits += values.iter().filter(|&&value| value > 0.5).count() as u64;
        while self.rows > SHARE_ROWS_MAX {
            (self.rows, self.hits) = (self.rows / 2, self.hits / 2);
        }
    }

    /// Forgets what was right until now.
    pub(super) fn forget(&mut self) {
        self.updates += 1;
        (self.rows, self.hits) = (0, 0);
        self.values.clear();
    }

    /// Compares the last window with what was let through.
    fn compare(&self, rule: &Rule, values: &[f64]) -> Option<String> {
        let ready = self.rows >= SHARE_WINDOWS_MIN * rule.rows() as u64;
        let share = self.recent.iter().sum::<f64>() / self.recent.len().max(1) as f64;
        let before = self.hits as f64 / self.rows.max(1) as f64;
        match rule {
            Rule::NullBurst { factor, floor, .. } if ready && share > (factor * before).max(*floor) => Some(format!(
                "{:.1} % of the rows have no value, {:.1} % before",
                100.0 * share,
                100.0 * before
            )),
            Rule::LabelRate { factor, chance, .. } if ready && self.is_implausible(share, *factor, *chance) => {
                Some(format!(
                    "{:.2} % of the labels are positive, {:.2} % before",
                    100.0 * share,
                    100.0 * before
                ))
            }
            Rule::Spike { rows, factor, .. } if self.values.len() >= *rows => {
                let (before, now) = (median(&self.values), median(&self.recent));
                let jumped = |now: f64, factor: f64| now > before * factor || now < before / factor;
                // The last window may still hold rows of a fault that has ended: these rows must speak for themselves.
                let own = jumped(median(values), factor.sqrt());
                (jumped(now, *factor) && own).then(|| format!("the median is {now:.4}, {before:.4} before"))
            }
            _ => None,
        }
    }

    fn is_implausible(&self, share: f64, factor: f64, chance: f64) -> bool {
        // Half a row of each kind more than were seen: a rate that was 0 until now is not impossible.
        let before = (self.hits as f64 + 0.5) / (self.rows as f64 + 1.0);
        let large = share > before * factor || share * factor < before;
        large && self.recent.len() as f64 * divergence(share, before) > -chance.ln()
    }

    /// Appends it.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for number in [self.updates, self.rows, self.hits] {
            out.put_u64(number);
        }
        for values in [&self.recent, &self.values] {
            out.put_u64(values.len() as u64);
            values.iter().for_each(|&value| out.put_f64(value));
        }
    }

    /// Reads what [`Watch::write`] wrote.
    pub(super) fn read(mut reader: Reader<'_>, rule: &Rule) -> Result<Self, CodecError> {
        let (updates, rows, hits) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (recent, values) = (reader.f64s()?, reader.f64s()?);
        let too_many = recent.len() > rule.rows() || values.len() > MEDIAN_WINDOWS * rule.rows();
        if too_many || hits > rows || rows > SHARE_ROWS_MAX {
            return Err(reader.error("more rows than a rule remembers"));
        }
        reader.finish()?;
        Ok(Self {
            recent: recent.into(),
            rows,
            hits,
            values: values.into(),
            updates,
        })
    }
}
