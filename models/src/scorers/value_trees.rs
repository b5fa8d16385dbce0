//! `value-trees`: trees that grow row by row and whose leaves hold values or linear models; their weighted sum, as it is or
//! through the logistic or softmax function.
//!
//! It serves regression by one tree or a forest as well as streaming boosting. The trees share nodes and leaves with the
//! learner that published them.

use std::sync::Arc;

use super::linear::{Link, logistic, softmax};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Input, Scorer};
use crate::encoders::WIDTH_MAX;
use crate::learners::value_tree::{Inputs, LeafRule, Pull, Scales, ValueSettings, ValueTree, View, published_settings};
use crate::matrix::Matrix;

/// The name in artifacts.
pub const FORMAT: &str = "value-trees";

/// Outputs that a scorer may have.
pub(crate) const OUTPUTS_MAX: usize = 65_536;
/// Sums beyond are taken for it.
const SUM_MAX: f64 = 1e200;

/// Turns the sums over trees into scores, in place.
#[inline]
pub(crate) fn finish(link: Link, sums: &mut [f64]) {
    for sum in sums.iter_mut() {
        *sum = if sum.is_nan() {
            0.0
        } else {
            sum.clamp(-SUM_MAX, SUM_MAX)
        };
    }
    match link {
        Link::Identity => {}
        Link::Logistic => sums.iter_mut().for_each(|sum| *sum = logistic(*sum)),
        Link::Softmax => softmax(sums),
    }
}

/// Adds what one tree says to the sums of all.
#[inline]
pub(crate) fn add(weight: f64, said: &[f64], sums: &mut [f64]) {
    sums.iter_mut().zip(said).for_each(|(sum, said)| *sum += weight * said);
}

/// Trees, each with its weight.
pub(crate) struct ValueTrees {
    link: Link,
    /// What each output is without a tree.
    base: Vec<f64>,
    /// Mean and spread of the inputs, where leaves have linear models.
    scales: Option<Arc<Scales>>,
    members: Vec<(f64, Arc<View>)>,
}

impl ValueTrees {
    /// Trees, all of the same settings, added to `base`.
    ///
    /// # Errors
    /// No tree; trees of other outputs; outputs that the link does not have; numbers that are not finite.
    pub(crate) fn new(
        link: Link,
        base: Vec<f64>,
        scales: Option<Arc<Scales>>,
        members: Vec<(f64, Arc<View>)>,
    ) -> Result<Self, String> {
        let outputs = base.len();
        let fits = match link {
            Link::Softmax => (2..=OUTPUTS_MAX).contains(&outputs),
            Link::Identity | Link::Logistic => outputs == 1,
        };
        if !fits || members.is_empty() || members.iter().any(|(_, tree)| tree.settings().outputs != outputs) {
            return Err(format!("{} trees do not fit {outputs} outputs", members.len()));
        }
        let weights = members.iter().map(|(weight, _)| weight);
        if weights.chain(&base).any(|number| !(-1e200..=1e200).contains(number)) {
            return Err("the weight of a tree or what is added to them is not a number up to 1e200".to_owned());
        }
        Ok(Self {
            link,
            base,
            scales,
            members,
        })
    }

    /// What all trees have in common.
    fn settings(&self) -> Option<&ValueSettings> {
        self.members.first().map(|(_, tree)| tree.settings())
    }
}

impl Scorer for ValueTrees {
    fn format(&self) -> &'static str {
        FORMAT
    }

    fn width(&self) -> usize {
        self.settings().map_or(0, |settings| settings.inputs.len())
    }

    fn outputs(&self) -> usize {
        self.base.len()
    }

    fn score(&self, x: &Matrix, out: &mut Vec<f64>) {
        let outputs = self.base.len();
        let start = out.len();
        out.extend(self.base.iter().cycle().take(outputs * x.rows()));
        let sums = &mut out[start..];
        let (mut said, mut scaled) = (vec![0.0; outputs], Vec::new());
        for (row, sums) in x.iter().zip(sums.chunks_mut(outputs)) {
            if let Some(scales) = &self.scales {
                scales.apply(row, &mut scaled);
            }
            for (weight, tree) in &self.members {
                tree.predict_into(row, &scaled, &mut said);
                add(*weight, &said, sums);
            }
            finish(self.link, sums);
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(match self.link {
            Link::Identity => 0,
            Link::Logistic => 1,
            Link::Softmax => 2,
        });
        out.put_u64(self.width() as u64);
        out.put_f64s(&self.base);
        let settings = self.settings();
        let leaf = settings.map_or(LeafRule::Mean, |settings| settings.leaf);
        let (ridge, reach) = settings.map_or((0.0, 0.0), |settings| (settings.ridge, settings.reach));
        out.put_u8(match leaf {
            LeafRule::Mean => 0,
            LeafRule::Linear => 1,
            LeafRule::Adaptive => 2,
            LeafRule::Recent => 3,
        });
        out.put_f64(ridge);
        out.put_f64(reach);
        out.put_u8(u8::from(self.scales.is_some()));
        if let Some(scales) = &self.scales {
            scales.write(out);
        }
        out.put_u64(self.members.len() as u64);
        for (weight, tree) in &self.members {
            out.put_f64(*weight);
            tree.write(out);
        }
    }

    fn bytes(&self) -> usize {
        let scales = self.scales.as_ref().map_or(0, |scales| scales.bytes());
        let members = self.members.iter().map(|(_, tree)| 16 + tree.bytes());
        size_of::<Self>() + 8 * self.base.len() + scales + members.sum::<usize>()
    }
}

/// Two small trees over two numbers and a category, with linear models in their leaves.
pub(super) fn example() -> Arc<dyn Scorer> {
    let kinds = [Input::Number, Input::Number, Input::Category { codes: 3 }];
    let mut settings = ValueSettings::new(1, kinds.into(), 1, 1 << 20);
    settings.leaf_inputs = Some(2);
    let mut inputs = Inputs::new(&settings, 1 << 20);
    let settings = Arc::new(settings);
    let mut trees = [0, 1].map(|_| ValueTree::new(Arc::clone(&settings), &inputs, 0));
    for row in 0..1_500_u32 {
        let x = f64::from(row % 41) / 10.0 - 2.0;
        let code = if row % 29 == 0 { f64::NAN } else { f64::from(row % 3) };
        let x = [x, f64::from(row % 7), code];
        let value = if x[0] > 0.3 { 3.0 } else { x[1] };
        inputs.look_to_learn(&x);
        for (tree, h) in trees.iter_mut().zip([1.0, 2.0]) {
            let pull = Pull {
                weight: h,
                pulls: &[(h, h * value)],
            };
            tree.learn(inputs.seen(&x), pull, &inputs, u64::from(row));
        }
        if let Some(moves) = inputs.learn(&x) {
            trees.iter_mut().for_each(|tree| tree.move_bins(&moves, u64::from(row)));
        }
    }
    Arc::new(ValueTrees {
        link: Link::Identity,
        base: vec![0.25],
        scales: inputs.scales(),
        members: trees.iter().map(|tree| (0.5, tree.publish())).collect(),
    })
}

fn read_rule(reader: &mut Reader<'_>) -> Result<LeafRule, CodecError> {
    Ok(match reader.u8()? {
        0 => LeafRule::Mean,
        1 => LeafRule::Linear,
        2 => LeafRule::Adaptive,
        3 => LeafRule::Recent,
        other => return Err(reader.error(format!("{other} is no rule of leaves"))),
    })
}

/// Reads what the scorer wrote.
pub(super) fn read(reader: &mut Reader<'_>) -> Result<Arc<dyn Scorer>, CodecError> {
    let link = match reader.u8()? {
        0 => Link::Identity,
        1 => Link::Logistic,
        2 => Link::Softmax,
        other => return Err(reader.error(format!("{other} is not a link"))),
    };
    let width = usize::try_from(reader.u64()?).unwrap_or(usize::MAX);
    if width > WIDTH_MAX {
        return Err(reader.error(format!("{width} inputs are too many")));
    }
    let base = reader.f64s()?;
    let leaf = read_rule(reader)?;
    if base.len() > 1 && matches!(leaf, LeafRule::Linear | LeafRule::Adaptive) {
        return Err(reader.error("leaves of several values have no linear model"));
    }
    let (ridge, reach) = (reader.finite()?, reader.finite()?);
    if ridge < 0.0 || reach < 0.0 {
        return Err(reader.error("leaves are not drawn to 0 or bounded by less than nothing"));
    }
    let scales = match reader.flag()? {
        true => Some(Arc::new(Scales::read(reader, width)?)),
        false => None,
    };
    let count = reader.count(9)?;
    let settings = published_settings(base.len(), width, leaf, (ridge, reach));
    if settings.is_linear() != scales.is_some() {
        return Err(reader.error("linear models need means and spreads, and nothing else does"));
    }
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        members.push((reader.finite()?, Arc::new(View::read(reader, &settings)?)));
    }
    match ValueTrees::new(link, base, scales, members) {
        Ok(trees) => Ok(Arc::new(trees)),
        Err(what) => Err(reader.error(what)),
    }
}
