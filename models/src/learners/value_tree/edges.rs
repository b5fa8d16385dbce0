//! Where the bins of each input lie.

use crate::codec::{CodecError, Put, Reader};
use crate::contracts::Input;

/// Codes of a category that have a bin of their own; the others share one.
const CODES_MAX: usize = 64;
/// No bin.
pub(super) const NOWHERE: u32 = u32::MAX;

/// The bins of all inputs, numbered one input after the other. A number has one up to each of its edges, one for what is
/// above them; a category one for each code, one for the other codes; each one more for missing values, the last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Edges {
    /// Strictly increasing for each input; none of a category.
    edges: Vec<f64>,
    /// For each input the place of its first edge, and behind them how many there are.
    first_edges: Vec<u32>,
    /// For each input its first bin, and behind them how many there are.
    first_bins: Vec<u32>,
}

/// Codes of an input that have bins of their own.
fn codes_of(input: Input) -> usize {
    match input {
        Input::Number => 0,
        Input::Category { codes } => (codes as usize).min(CODES_MAX),
    }
}

/// Bins of all inputs at most, where each number has up to `bins_max` besides those for what was never seen.
pub(super) fn bins_at_most(inputs: &[Input], bins_max: usize) -> usize {
    let of_one = |input: &Input| match input {
        Input::Number => bins_max + 3,
        Input::Category { .. } => codes_of(*input) + 2,
    };
    inputs.iter().map(of_one).sum()
}

/// Bytes of the edges of so many inputs at most; vectors may hold twice what they need.
pub(super) fn bytes_at_most(width: usize, bins_max: usize) -> usize {
    16 * (width + 1) + 16 * width * (bins_max + 1)
}

impl Edges {
    /// Those of inputs of which nothing was seen: all numbers in one bin.
    pub(super) fn unseen(inputs: &[Input]) -> Self {
        Self::of(inputs, inputs.iter().map(|_| Vec::new()))
    }

    /// Bins with these edges for each input.
    fn of(inputs: &[Input], each: impl Iterator<Item = Vec<f64>>) -> Self {
        let (mut edges, mut first_edges, mut first_bins, mut bins) = (Vec::new(), vec![0], vec![0], 0);
        for (input, own) in inputs.iter().zip(each) {
            bins += own.len().max(codes_of(*input)) + 2;
            edges.extend(own);
            first_edges.push(edges.len() as u32);
            first_bins.push(bins as u32);
        }
        Self {
            edges,
            first_edges,
            first_bins,
        }
    }

    /// Number of all bins.
    pub(super) fn bins(&self) -> usize {
        self.first_bins.last().map_or(0, |bins| *bins as usize)
    }

    /// The edges of an input.
    pub(super) fn edges(&self, input: usize) -> &[f64] {
        &self.edges[self.first_edges[input] as usize..self.first_edges[input + 1] as usize]
    }

    /// The bins of an input, that of missing values last.
    pub(super) fn range(&self, input: usize) -> std::ops::Range<usize> {
        self.first_bins[input] as usize..self.first_bins[input + 1] as usize
    }

    /// The bin of a value.
    #[inline]
    pub(super) fn bin(&self, kind: Input, input: usize, x: f64) -> u32 {
        let (first, end) = (self.first_bins[input], self.first_bins[input + 1]);
        if x.is_nan() {
            return end - 1;
        }
        match kind {
            Input::Number => first + below(self.edges(input), x),
            // Not below 0; what is too large has the bin of other codes.
            Input::Category { .. } => (first + (x as u32).min(CODES_MAX as u32)).min(end - 2),
        }
    }

    /// Whether a number lies outside of all that was seen when the edges were drawn.
    pub(super) fn is_outside(&self, input: usize, x: f64) -> bool {
        match self.edges(input) {
            [first, .., last] => x <= *first || x > *last,
            _ => false,
        }
    }

    /// The edges with other ones for some of the inputs, and to which bin each of these goes.
    pub(super) fn redrawn(&self, inputs: &[Input], drawn: Vec<Option<Vec<f64>>>) -> (Self, Vec<u32>) {
        let each = drawn.into_iter().enumerate();
        let each = each.map(|(input, own)| own.unwrap_or_else(|| self.edges(input).to_vec()));
        let next = Self::of(inputs, each);
        let mut moves = Vec::with_capacity(self.bins());
        for input in 0..inputs.len() {
            self.moves(&next, input, &mut moves);
        }
        (next, moves)
    }

    /// Rows go to where the upper edge of their bin lies; those of which no edge was known are nowhere.
    fn moves(&self, next: &Self, input: usize, moves: &mut Vec<u32>) {
        let (from, to) = (self.range(input), next.range(input));
        let (old, new) = (self.edges(input), next.edges(input));
        if old == new {
            moves.extend(from.zip(to).map(|(_, bin)| bin as u32));
            return;
        }
        let first = to.start as u32;
        if old.is_empty() {
            moves.push(NOWHERE);
        } else {
            moves.extend(old.iter().map(|edge| first + below(new, *edge)));
            let last = old.last().map_or(0, |edge| below(new, *edge));
            moves.push(first + (last + 1).min(new.len() as u32));
        }
        moves.push(to.end as u32 - 1);
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for input in 0..self.first_bins.len() - 1 {
            let own = self.edges(input);
            out.put_u32(own.len() as u32);
            super::put_numbers(own, out);
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>, inputs: &[Input], bins_max: usize) -> Result<Self, CodecError> {
        let mut each = Vec::with_capacity(inputs.len());
        for input in inputs {
            let count = reader.u32()? as usize;
            let most = if codes_of(*input) == 0 { bins_max + 1 } else { 0 };
            if count > most {
                return Err(reader.error(format!("an input has {count} edges, at most {most} are possible")));
            }
            let own = super::numbers(reader, count)?;
            if own.windows(2).any(|pair| pair[0] >= pair[1]) {
                return Err(reader.error("edges are not in order"));
            }
            each.push(own.into_vec());
        }
        Ok(Self::of(inputs, each.into_iter()))
    }
}

/// How many edges lie below a number.
#[inline]
fn below(edges: &[f64], x: f64) -> u32 {
    let (mut from, mut left) = (0, edges.len());
    // Halves without a branch that would be guessed.
    while left > 1 {
        let half = left / 2;
        from += if edges[from + half - 1] < x { half } else { 0 };
        left -= half;
    }
    (from + usize::from(left == 1 && edges[from] < x)) as u32
}

/// Edges so that about equally many of the values lie in each of `bins_max` bins, and one below them all: a value that was
/// never seen before is then told from all that were. `values` are sorted.
pub(super) fn draw(values: &[f64], bins_max: usize) -> Vec<f64> {
    let Some(first) = values.first() else {
        return Vec::new();
    };
    let mut distinct = values.to_vec();
    distinct.dedup();
    let mut edges = vec![first.next_down()];
    if distinct.len() <= bins_max {
        edges.extend(distinct);
    } else {
        edges.extend((1..=bins_max).map(|part| values[part * values.len() / bins_max - 1]));
        edges.dedup();
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUTS: [Input; 3] = [Input::Number, Input::Category { codes: 3 }, Input::Number];

    fn with(edges: &[f64]) -> Edges {
        Edges::of(&INPUTS, [edges.to_vec(), vec![], vec![]].into_iter())
    }

    #[test]
    fn a_value_lies_in_the_bin_up_to_the_next_edge() {
        let edges = with(&[1.0, 2.0, 5.0]);
        let bin = |input: usize, x| edges.bin(INPUTS[input], input, x);
        assert_eq!(
            [0.5, 1.0, 1.5, 2.0, 5.0, 9.0, f64::NAN].map(|x| bin(0, x)),
            [0, 0, 1, 1, 2, 3, 4]
        );
        assert_eq!([0.0, 2.0, 3.0, 1e30, f64::NAN].map(|x| bin(1, x)), [5, 7, 8, 8, 9]);
        assert_eq!([-1e30, 7.0, f64::NAN].map(|x| bin(2, x)), [10, 10, 11]);
        assert_eq!(edges.bins(), 12);
        for count in 0..20 {
            let own: Vec<f64> = (0..count).map(f64::from).collect();
            for x in -1..2 * count + 2 {
                let x = f64::from(x) / 2.0;
                assert_eq!(below(&own, x) as usize, own.iter().filter(|edge| **edge < x).count());
            }
        }
    }

    #[test]
    fn equally_many_values_lie_in_each_bin() {
        let values: Vec<f64> = (0..1_000).map(|x| f64::from(x * x)).collect();
        let edges = draw(&values, 8);
        assert_eq!(edges.len(), 9);
        let edges = with(&edges);
        let mut counts = [0; 16];
        values
            .iter()
            .for_each(|x| counts[edges.bin(INPUTS[0], 0, *x) as usize] += 1);
        assert_eq!(counts[..11], [0, 125, 125, 125, 125, 125, 125, 125, 125, 0, 0]);
        assert_eq!(draw(&[0.0, 0.0, 1.0], 8), [0.0_f64.next_down(), 0.0, 1.0]);
        assert!(draw(&[], 8).is_empty());
    }

    #[test]
    fn what_was_counted_moves_to_where_its_edge_lies() {
        let (next, moves) = with(&[1.0, 2.0, 5.0]).redrawn(&INPUTS, vec![Some(vec![0.0, 2.0, 3.0, 7.0]), None, None]);
        assert_eq!(next.edges(0), [0.0, 2.0, 3.0, 7.0]);
        assert_eq!(moves, [1, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        let (_, moves) = next.redrawn(&INPUTS, vec![None, None, Some(vec![4.0])]);
        assert_eq!(moves[10..], [10, NOWHERE, 13], "the first edges of an input");
    }
}
