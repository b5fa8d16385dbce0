//! `trees`: decision trees whose leaves know the classes' weights or predict by naive Bayes, and a sum over them.
//!
//! It serves every family of trees that grow row by row, a single tree as well as an ensemble. The trees share nodes and
//! leaves with the learner that published them.

use std::sync::Arc;

use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Input, Scorer};
use crate::encoders::WIDTH_MAX;
use crate::learners::tree::{Scratch, Tree, TreeSettings, View, largest};
use crate::matrix::Matrix;

/// The name in artifacts.
pub const FORMAT: &str = "trees";

/// Classes that a scorer may tell apart.
const CLASSES_MAX: usize = 65_536;

/// What trees say, summed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Combination {
    /// The mean of their probabilities, by their weights.
    Mean,
    /// Each tree gives its weight to its most probable class.
    Votes,
}

impl Combination {
    /// Adds what one tree says, the probability of each class, to the sums of all.
    #[inline]
    pub(crate) fn add(self, weight: f64, probabilities: &[f64], sums: &mut [f64]) {
        match self {
            Self::Mean => {
                let pairs = sums.iter_mut().zip(probabilities);
                pairs.for_each(|(sum, probability)| *sum += weight * probability);
            }
            Self::Votes => sums[largest(probabilities)] += weight,
        }
    }

    /// Makes probabilities of the sums over trees of so much weight in all; classes are equally likely where that is
    /// nothing.
    #[inline]
    pub(crate) fn finish(sums: &mut [f64], weight: f64) {
        let classes = sums.len() as f64;
        for sum in sums {
            *sum = if weight > 0.0 { *sum / weight } else { 1.0 / classes };
        }
    }
}

/// Trees, each with its weight.
pub(crate) struct Trees {
    width: usize,
    classes: usize,
    /// Whether it says only the probability of class 1.
    binary: bool,
    combination: Combination,
    members: Vec<(f64, Arc<View>)>,
}

impl Trees {
    /// Trees over `width` inputs. With `binary`, of two classes, only the probability of class 1 is said.
    ///
    /// # Errors
    /// No tree, trees of another number of classes, weights that are not finite or below 0.
    pub(crate) fn new(
        width: usize,
        classes: usize,
        binary: bool,
        combination: Combination,
        members: Vec<(f64, Arc<View>)>,
    ) -> Result<Self, String> {
        if members.is_empty() || !(2..=CLASSES_MAX).contains(&classes) || (binary && classes != 2) {
            return Err(format!("{} trees for {classes} classes", members.len()));
        }
        if members.iter().any(|(_, tree)| tree.classes() != classes) {
            return Err("a tree is for another number of classes".to_owned());
        }
        if members.iter().any(|(weight, _)| !(0.0..1e100).contains(weight)) {
            return Err("the weight of a tree is not a number from 0 to 1e100".to_owned());
        }
        Ok(Self {
            width,
            classes,
            binary,
            combination,
            members,
        })
    }
}

impl Scorer for Trees {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn width(&self) -> usize {
        self.width
    }

    fn outputs(&self) -> usize {
        if self.binary { 1 } else { self.classes }
    }

    fn score(&self, x: &Matrix, out: &mut Vec<f64>) {
        let (mut one, mut scratch) = (vec![0.0; self.classes], Scratch::default());
        // Tree by tree over all rows of a block: a tree stays in the cache.
        let mut sums = vec![0.0; self.classes * x.rows()];
        for (weight, tree) in &self.members {
            for (row, sums) in x.iter().zip(sums.chunks_mut(self.classes)) {
                tree.predict_into(row, &mut one, &mut scratch);
                self.combination.add(*weight, &one, sums);
            }
        }
        let weight = self.members.iter().fold(0.0, |sum, (weight, _)| sum + weight);
        for sums in sums.chunks_mut(self.classes) {
            Combination::finish(sums, weight);
            out.extend_from_slice(if self.binary { &sums[1..] } else { sums });
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.width as u64);
        out.put_u64(self.classes as u64);
        out.put_u8(u8::from(self.binary));
        out.put_u8(match self.combination {
            Combination::Mean => 0,
            Combination::Votes => 1,
        });
        out.put_u64(self.members.len() as u64);
        for (weight, tree) in &self.members {
            out.put_f64(*weight);
            tree.write(out);
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.members.iter().map(|(_, tree)| 16 + tree.bytes()).sum::<usize>()
    }
}

/// Two small trees over two numbers and a category: one asks and predicts by naive Bayes, one has seen little.
pub(super) fn example() -> Arc<dyn Scorer> {
    let inputs = [Input::Number, Input::Number, Input::Category { codes: 3 }];
    let settings = Arc::new(TreeSettings::new(2, inputs.into(), 1, 1 << 20));
    let members = [1_200, 150].map(|rows| {
        let mut tree = Tree::new(Arc::clone(&settings));
        for row in 0..rows {
            let x = f64::from(row % 41) / 10.0 - 2.0;
            let code = if row % 29 == 0 { f64::NAN } else { f64::from(row % 3) };
            tree.learn(&[x, f64::from(row % 7), code], usize::from(x > 0.3), 1.0);
        }
        (f64::from(rows), tree.publish())
    });
    Arc::new(Trees {
        width: 3,
        classes: 2,
        binary: true,
        combination: Combination::Mean,
        members: members.into(),
    })
}

/// Reads what the scorer wrote.
pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Arc<dyn Scorer>, CodecError> {
    let (width, classes) = (reader.u64()?, reader.u64()?);
    if width > WIDTH_MAX as u64 || classes > CLASSES_MAX as u64 {
        return Err(reader.error(format!("{width} inputs and {classes} classes are too many")));
    }
    let (width, classes) = (width as usize, classes as usize);
    let binary = match reader.u8()? {
        marks @ (0 | 1) => marks == 1,
        other => return Err(reader.error(format!("{other} is no kind of output"))),
    };
    let combination = match reader.u8()? {
        0 => Combination::Mean,
        1 => Combination::Votes,
        other => return Err(reader.error(format!("{other} is no combination"))),
    };
    let count = reader.count(33)?;
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        members.push((reader.finite()?, Arc::new(View::read(reader, classes, width)?)));
    }
    match Trees::new(width, classes, binary, combination, members) {
        Ok(trees) => Ok(Arc::new(trees)),
        Err(what) => Err(reader.error(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_speak_by_their_weight() {
        let mut mean = [0.0; 3];
        Combination::Mean.add(3.0, &[0.5, 0.25, 0.25], &mut mean);
        Combination::Mean.add(1.0, &[0.1, 0.9, 0.0], &mut mean);
        Combination::finish(&mut mean, 4.0);
        assert!(
            mean.iter()
                .zip([0.4, 0.4125, 0.1875])
                .all(|(a, b)| (a - b).abs() < 1e-12),
            "{mean:?}"
        );
        let mut votes = [0.0; 3];
        Combination::Votes.add(3.0, &[0.5, 0.25, 0.25], &mut votes);
        Combination::Votes.add(1.0, &[0.1, 0.9, 0.0], &mut votes);
        Combination::finish(&mut votes, 4.0);
        assert_eq!(votes, [0.75, 0.25, 0.0]);
        let mut none = [0.0; 2];
        Combination::finish(&mut none, 0.0);
        assert_eq!(none, [0.5, 0.5]);
    }
}
