//! Two sides, measured in turn.

use crate::Failure;
use crate::runs::Cost;
use crate::table::{Table, grouped, two};

/// What the two sides cost in one pair.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Cost of ours.
    pub ours: f64,
    /// Cost of the other.
    pub other: f64,
}

impl Pair {
    /// Cost of ours in costs of the other: below 1 ours is cheaper.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.ours / self.other
    }
}

/// Measures both sides `count` times. Which of them goes first changes from pair to pair, so that a drift of the
/// machine's speed favours neither.
///
/// # Errors
/// The first failure of a side.
pub fn interleave<E>(
    count: usize,
    mut ours: impl FnMut() -> Result<f64, E>,
    mut other: impl FnMut() -> Result<f64, E>,
) -> Result<Vec<Pair>, E> {
    let mut pairs = Vec::with_capacity(count);
    for turn in 0..count {
        pairs.push(if turn % 2 == 0 {
            let first = ours()?;
            Pair {
                ours: first,
                other: other()?,
            }
        } else {
            let first = other()?;
            Pair {
                ours: ours()?,
                other: first,
            }
        });
    }
    Ok(pairs)
}

/// Measures both sides `count` times, `ours` and `other` with the number of their turn, and fills the table: pair, cost
/// of each, ratio, rate of each; last the medians, with the smallest and the largest ratio. The costs of both.
///
/// # Errors
/// The first failure of a side.
pub fn against(
    count: usize,
    table: &mut Table,
    mut ours: impl FnMut(usize) -> Result<Cost, Failure>,
    mut other: impl FnMut(usize) -> Result<Cost, Failure>,
) -> Result<(Vec<Cost>, Vec<Cost>), Failure> {
    let (mut our_costs, mut other_costs) = (Vec::new(), Vec::new());
    let pairs = interleave(
        count,
        || {
            our_costs.push(ours(our_costs.len() + 1)?);
            Ok::<_, Failure>(our_costs.last().map_or(f64::NAN, |cost| cost.cpu_s))
        },
        || {
            other_costs.push(other(other_costs.len() + 1)?);
            Ok(other_costs.last().map_or(f64::NAN, |cost| cost.cpu_s))
        },
    )?;
    for (number, pair) in pairs.iter().enumerate() {
        table.row(&[
            (number + 1).to_string(),
            two(pair.ours),
            two(pair.other),
            two(pair.ratio()),
            grouped(our_costs[number].rate),
            grouped(other_costs[number].rate),
        ]);
    }
    let ratios = || pairs.iter().map(Pair::ratio);
    let rate = |costs: &[Cost]| grouped(median(costs.iter().map(|cost| cost.rate)));
    table.row(&[
        "**median**".to_owned(),
        two(median(pairs.iter().map(|pair| pair.ours))),
        two(median(pairs.iter().map(|pair| pair.other))),
        format!(
            "**{}** ({} to {})",
            two(median(ratios())),
            two(ratios().fold(f64::INFINITY, f64::min)),
            two(ratios().fold(f64::NEG_INFINITY, f64::max))
        ),
        rate(&our_costs),
        rate(&other_costs),
    ]);
    Ok((our_costs, other_costs))
}

/// The middle value; of an even number the mean of the two in the middle, and NaN of none.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        count if count % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

/// The smallest value that at least `percent` of the values do not exceed; NaN of none.
#[must_use]
pub fn percentile(percent: usize, values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn the_middle() {
        assert!(median([]).is_nan());
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn percentiles_are_values_that_occur() {
        assert!(percentile(99, []).is_nan());
        assert_eq!(percentile(99, [5.0]), 5.0);
        let hundred = || (1..=100).map(f64::from);
        assert_eq!((percentile(99, hundred()), percentile(50, hundred())), (99.0, 50.0));
        assert_eq!(percentile(100, hundred()), 100.0);
    }

    #[test]
    fn a_table_ends_with_the_medians() {
        let cost = |cpu_s: f64| {
            Ok(Cost {
                cpu_s,
                rate: 1e6 / cpu_s,
                threads_s: Default::default(),
                ends: Default::default(),
                pages: None,
            })
        };
        let mut table = Table::new(&["pair", "ours", "other", "ratio", "a", "b"]);
        let (ours, other) = against(3, &mut table, |turn| cost(turn as f64), |_| cost(2.0)).unwrap();
        assert_eq!((ours.len(), other.len()), (3, 3));
        let rows: Vec<&str> = table.text().lines().skip(2).collect();
        assert_eq!(rows[0], "| 1 | 1.00 | 2.00 | 0.50 | 1,000,000 | 500,000 |");
        assert_eq!(
            rows[3],
            "| **median** | 2.00 | 2.00 | **1.00** (0.50 to 1.50) | 500,000 | 500,000 |"
        );
    }

    #[test]
    fn sides_take_turns_at_going_first() {
        let order = RefCell::new(String::new());
        let side = |name: char, cost: f64| {
            let order = &order;
            move || {
                order.borrow_mut().push(name);
                Ok::<_, ()>(cost)
            }
        };
        let pairs = interleave(3, side('a', 3.0), side('b', 2.0)).unwrap();
        assert_eq!(*order.borrow(), "abbaab");
        assert!(pairs.iter().all(|pair| pair.ratio() == 1.5), "{pairs:?}");
    }
}
