//! Paired losses of champion and candidate, gathered into time blocks by prediction time.
//!
//! Labels come in correlated bunches, so the unit of evidence is the mean over a block of time, not a row. A
//! block closes when the caller's watermark, the prediction time up to which labels have matured or timed out,
//! passes its end. A block of too few rows is joined to the next one, so that a quiet night does not count as much
//! as a day.

use std::collections::BTreeMap;

use super::sequence::Sequence;
use crate::codec::{CodecError, Put, Reader};
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, open};

/// Checked parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairParams {
    /// Length of a block of prediction time, ms, at least 1.
    pub block_ms: i64,
    /// Rows that a block needs; a smaller one is joined to the next.
    pub block_rows_min: u64,
    /// Prediction time, ms, up to which the candidate has seen labelled rows: earlier rows are refused.
    pub train_cut_ms: i64,
    /// Blocks that may be open at once; a row of one more is refused.
    pub open_max: usize,
}

/// A row on which both were scored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// Prediction time, ms.
    pub at_ms: i64,
    /// Loss of the champion, or of the class prior when there is none; finite.
    pub champion: f64,
    /// Loss of the candidate; finite.
    pub candidate: f64,
    /// Whether the label is positive.
    pub positive: bool,
    /// Weight above 0.
    pub weight: f64,
}

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It counts.
    Counted,
    /// It is not after the candidate's training cut.
    BeforeCut,
    /// Its block was closed already.
    Late,
    /// Too many blocks are open: the watermark stands still.
    Overflow,
    /// A loss or weight is not a usable number.
    Invalid,
}

/// Sums over rows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Sums {
    rows: u64,
    positives: u64,
    weight: f64,
    champion: f64,
    candidate: f64,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.positives += other.positives;
        self.weight += other.weight;
        self.champion += other.champion;
        self.candidate += other.candidate;
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.rows);
        out.put_u64(self.positives);
        out.put_f64(self.weight);
        out.put_f64(self.champion);
        out.put_f64(self.candidate);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            rows: reader.u64()?,
            positives: reader.u64()?,
            weight: reader.finite()?,
            champion: reader.finite()?,
            candidate: reader.finite()?,
        })
    }
}

/// The evidence on one pair of models. Its size is bounded by the open blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs {
    params: PairParams,
    open: BTreeMap<i64, Sums>,
    /// Closed blocks with too few rows, waiting for the next.
    joined: Sums,
    /// Rows of all closed blocks.
    closed: Sums,
    /// First block that is not closed.
    next: i64,
    sequence: Sequence,
    refused: u64,
    stamp: u64,
}

impl Pairs {
    /// No evidence.
    #[must_use]
    pub fn new(params: PairParams) -> Self {
        Self {
            params,
            open: BTreeMap::new(),
            joined: Sums::default(),
            closed: Sums::default(),
            next: i64::MIN,
            sequence: Sequence::new(),
            refused: 0,
            stamp: 0,
        }
    }

    /// Takes a row whose label has become available.
    pub fn push(&mut self, pair: &Pair) -> Taken {
        let taken = self.place(pair);
        self.stamp += 1;
        self.refused += u64::from(taken != Taken::Counted);
        taken
    }

    fn place(&mut self, pair: &Pair) -> Taken {
        let usable = pair.champion.is_finite() && pair.candidate.is_finite() && pair.weight.is_finite();
        if !usable || pair.weight <= 0.0 {
            return Taken::Invalid;
        }
        if pair.at_ms <= self.params.train_cut_ms {
            return Taken::BeforeCut;
        }
        let block = pair.at_ms.div_euclid(self.params.block_ms.max(1));
        if block < self.next {
            return Taken::Late;
        }
        if self.open.len() >= self.params.open_max && !self.open.contains_key(&block) {
            return Taken::Overflow;
        }
        self.open.entry(block).or_default().add(&Sums {
            rows: 1,
            positives: u64::from(pair.positive),
            weight: pair.weight,
            champion: pair.weight * pair.champion,
            candidate: pair.weight * pair.candidate,
        });
        Taken::Counted
    }

    /// Closes every block that ends at or before the watermark; returns how many entered the evidence.
    pub fn advance(&mut self, watermark_ms: i64) -> u64 {
        let end = watermark_ms.div_euclid(self.params.block_ms.max(1));
        if end <= self.next {
            return 0;
        }
        self.next = end;
        self.stamp += 1;
        let before = self.sequence.blocks();
        while let Some(entry) = self.open.first_entry().filter(|entry| *entry.key() < end) {
            let block = entry.remove();
            self.joined.add(&block);
            if self.joined.rows >= self.params.block_rows_min {
                let sums = std::mem::take(&mut self.joined);
                self.sequence.push((sums.champion - sums.candidate) / sums.weight);
                self.closed.add(&sums);
            }
        }
        self.sequence.blocks() - before
    }

    /// The evidence so far.
    #[must_use]
    pub fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    /// Rows in the evidence.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.closed.rows
    }

    /// Rows with a positive label in the evidence.
    #[must_use]
    pub fn positives(&self) -> u64 {
        self.closed.positives
    }

    /// Rows that were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Mean losses of champion and candidate over the rows in the evidence; `None` before the first block.
    #[must_use]
    pub fn losses(&self) -> Option<(f64, f64)> {
        let sums = &self.closed;
        (sums.weight > 0.0).then(|| (sums.champion / sums.weight, sums.candidate / sums.weight))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.stamp);
        out.put_u64(self.refused);
        out.put_u64(self.next.cast_unsigned());
        self.sequence.write(out);
        self.joined.write(out);
        self.closed.write(out);
        out.put_u64(self.open.len() as u64);
        for (block, sums) in &self.open {
            out.put_u64(block.cast_unsigned());
            sums.write(out);
        }
    }

    fn read(mut reader: Reader<'_>, params: PairParams) -> Result<Self, CodecError> {
        let mut pairs = Self::new(params);
        pairs.stamp = reader.u64()?;
        pairs.refused = reader.u64()?;
        pairs.next = reader.u64()?.cast_signed();
        pairs.sequence = Sequence::read(&mut reader)?;
        pairs.joined = Sums::read(&mut reader)?;
        pairs.closed = Sums::read(&mut reader)?;
        for _ in 0..reader.count(48)? {
            let block = reader.u64()?.cast_signed();
            pairs.open.insert(block, Sums::read(&mut reader)?);
        }
        if pairs.open.len() > params.open_max || pairs.open.first_key_value().is_some_and(|(b, _)| *b < pairs.next) {
            return Err(reader.error("open blocks that cannot be"));
        }
        reader.finish()?;
        Ok(pairs)
    }
}

/// The one chunk: some hundred bytes and the open blocks, nearly all of which change between snapshots.
const CHUNK: &str = "pairs";

impl State for Pairs {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(CHUNK, self.stamp, &mut |out| self.write(out));
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        *self = Self::read(open(chunks, CHUNK)?, self.params).map_err(|error| StateError::of(CHUNK, error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detectors::memory::{Memory, snapshot, survives_damage};

    const PARAMS: PairParams = PairParams {
        block_ms: 100,
        block_rows_min: 2,
        train_cut_ms: 1_000,
        open_max: 4,
    };

    fn pair(at_ms: i64, gain: f64) -> Pair {
        Pair {
            at_ms,
            champion: 0.3 + gain,
            candidate: 0.3,
            positive: at_ms % 2 == 0,
            weight: 1.0,
        }
    }

    #[test]
    fn blocks_close_behind_the_watermark_and_small_ones_are_joined() {
        let mut pairs = Pairs::new(PARAMS);
        for (at, gain) in [(1_101, 0.1), (1_150, 0.3), (1_210, 0.5), (1_320, 0.1), (1_350, 0.0)] {
            assert_eq!(pairs.push(&pair(at, gain)), Taken::Counted);
        }
        assert_eq!(pairs.advance(1_199), 0);
        assert_eq!(pairs.advance(1_200), 1);
        assert!((pairs.sequence().bounds(0.05).mean - 0.2).abs() < 1e-12);
        assert_eq!((pairs.advance(1_300), pairs.rows()), (0, 2));
        assert_eq!((pairs.advance(1_400), pairs.rows(), pairs.positives()), (1, 5, 4));
        assert!((pairs.sequence().bounds(0.05).mean - 0.2).abs() < 1e-12);
        let (champion, candidate) = pairs.losses().unwrap();
        assert!((champion - 0.5).abs() < 1e-12 && (candidate - 0.3).abs() < 1e-12);
        assert_eq!(pairs.advance(1_300), 0, "a watermark never goes back");
    }

    #[test]
    fn weights_count() {
        let mut pairs = Pairs::new(PARAMS);
        pairs.push(&Pair {
            weight: 3.0,
            ..pair(1_101, 0.1)
        });
        pairs.push(&pair(1_102, 0.5));
        pairs.advance(1_200);
        assert!((pairs.sequence().bounds(0.05).mean - 0.2).abs() < 1e-12);
    }

    #[test]
    fn rows_that_may_not_count_are_refused() {
        let mut pairs = Pairs::new(PARAMS);
        assert_eq!(pairs.push(&pair(1_000, 0.1)), Taken::BeforeCut);
        assert_eq!(pairs.push(&pair(1_001, f64::NAN)), Taken::Invalid);
        assert_eq!(
            pairs.push(&Pair {
                weight: 0.0,
                ..pair(1_001, 0.1)
            }),
            Taken::Invalid
        );
        pairs.advance(1_200);
        assert_eq!(pairs.push(&pair(1_199, 0.1)), Taken::Late);
        for block in 0..4 {
            assert_eq!(pairs.push(&pair(1_200 + 100 * block, 0.1)), Taken::Counted);
        }
        assert_eq!(pairs.push(&pair(9_000, 0.1)), Taken::Overflow);
        assert_eq!(pairs.push(&pair(1_201, 0.1)), Taken::Counted);
        assert_eq!(pairs.refused(), 5);
    }

    #[test]
    fn state_comes_back_bit_for_bit() {
        let run = |pairs: &mut Pairs, from: i64, to: i64| {
            for i in from..to {
                pairs.push(&pair(1_001 + i * 7, (i % 13) as f64 / 100.0));
                pairs.advance(1_001 + i * 7 - 150);
            }
        };
        let mut whole = Pairs::new(PARAMS);
        run(&mut whole, 0, 900);
        assert!(whole.sequence().blocks() > 50);
        for cut in [0, 1, 450, 899] {
            let mut first = Pairs::new(PARAMS);
            run(&mut first, 0, cut);
            let mut memory = Memory::default();
            memory.save(&first);
            let mut second = Pairs::new(PARAMS);
            second.restore(&memory).unwrap();
            run(&mut second, cut, 900);
            assert_eq!(snapshot(&second), snapshot(&whole));
        }
        survives_damage(&whole, || Pairs::new(PARAMS));
    }
}
