//! `streaming-random-patches`: Hoeffding trees, each over a random subset of the inputs, that see each row a random number
//! of times; each watches its errors, grows another one over other inputs in the background when they may be rising, and is
//! replaced by it when they are.
//!
//! Gomes, Read and Bifet, "Streaming random patches for evolving data stream classification", ICDM 2019: a tree looks at
//! 60 % of the inputs, a row counts Poisson(6) times in each, and trees speak with the weight of their accuracy. As in MOA
//! leaves try to split every 50 rows at a confidence of 0.01, a tree is judged by what it says once it has learned the row,
//! looks at two inputs at least, and the first ones look at different inputs where there are enough ways to choose them.
//!
//! What differs from MOA, besides what stands in `watched`: the weight is not the accuracy itself but the logarithm of its odds
//! against guessing (Zhu et al., "Multi-class AdaBoost", Statistics and Its Interface 2009), since a tree whose inputs say
//! nothing is still right half of the time; ADWIN warns at 0.01 and finds drift at 0.001 (there 0.0001 and 0.00001); a tree
//! that replaced another learns each row once (there it is trained as the one in the background too, that is twice).

use driftmill_config::{Component, Field, Problems, Section};

use super::hoeffding_tree::LEAF;
use super::tree::TreeLearner;
use super::watched::{Manner, WatchedTrees, fields, read_settings};
use crate::contracts::{Learner, LearnerContext, LearnerKind};

/// Inputs that a tree looks at, if there are as many: of a single one little can be asked.
const INPUTS_MIN: usize = 2;
/// The weight of a tree that is not better than guessing: if none is, they speak nevertheless.
const SAY_MIN: f64 = 1e-3;

/// The logarithm of the odds of an accuracy, against guessing among so many classes.
fn say(accuracy: f64, classes: f64) -> f64 {
    (accuracy / (1.0 - accuracy) * (classes - 1.0)).ln().max(SAY_MIN)
}

/// The entry of the list.
pub(crate) struct StreamingRandomPatchesKind;

impl Component for StreamingRandomPatchesKind {
    fn name(&self) -> &'static str {
        "streaming-random-patches"
    }

    fn summary(&self) -> &'static str {
        "Several Hoeffding trees that differ by chance: each looks at a random subset of the inputs and sees every row a \
         random number of times, 6 on average. A tree whose errors rise is replaced by one over other inputs that began \
         to grow in the background when that was first suspected. Binary and multiclass tasks; takes missing values and \
         categories."
    }

    fn fields(&self) -> &'static [Field] {
        const { &fields(&["streaming-random-patches"], LEAF) }
    }

    fn example(&self) -> &'static str {
        "learner = \"streaming-random-patches\"\ntrees = 5\ninputs_share = 0.5\ngrace = 50\ndelta = 0.01\ntie = 0.05\n\
         leaf = \"adaptive\"\nmemory_max = \"16 MiB\"\n"
    }
}

impl LearnerKind<dyn Learner> for StreamingRandomPatchesKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        TreeLearner::build(section, context, problems, |mut settings, problems| {
            let (trees, inputs) = read_settings(section, &mut settings, problems);
            let manner = Manner {
                patch: Some(inputs.max(INPUTS_MIN)),
                judged_after: true,
                say,
            };
            WatchedTrees::new(settings, trees, manner)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_the_more_to_say_the_better_it_is_and_hardly_anything_when_it_guesses() {
        assert_eq!((say(0.5, 2.0), say(0.1, 5.0)), (SAY_MIN, SAY_MIN));
        assert!((say(0.9, 2.0) - 9.0_f64.ln()).abs() < 1e-12 && (say(0.5, 5.0) - 4.0_f64.ln()).abs() < 1e-12);
        // The most that an accuracy can be after 2^32 rows.
        let most = say(1.0 - 2.0_f64.powi(-32), 65_536.0);
        assert!(most.is_finite() && most > say(0.99, 65_536.0));
    }
}
