//! `adaptive-random-forest`: Hoeffding trees whose leaves look at random subsets of the inputs; each tree watches its errors,
//! grows another one in the background when they may be rising, and is replaced by it when they are.
//!
//! Gomes et al., "Adaptive random forests for evolving data stream classification", Machine Learning 2017: 10 trees, a row
//! counts Poisson(6) times in each, trees speak with the weight of their accuracy. As in MOA leaves look at 60 % of the
//! inputs (the paper: the square root of their number, and one more, which fails where most inputs say nothing) and try
//! to split every 50 rows at a confidence of 0.01. What differs from MOA: a tree is judged by what it said before it learned
//! the row (there after), and what stands in `watched`.
//!
//! Values: Gomes et al., "Adaptive random forests for data stream regression", ESANN 2018; see `value_forest`.

use driftmill_config::{Component, Field, Problems, Section};

use super::hoeffding_tree::LEAF_ANY;
use super::tree::TreeLearner;
use super::value_forest::ValueForest;
use super::value_tree::ValueSettings;
use super::watched::{Manner, WatchedTrees, fields, read_settings, read_value_settings};
use crate::contracts::{Learner, LearnerContext, LearnerKind, Task};

/// The entry of the list.
pub(crate) struct AdaptiveRandomForestKind;

impl Component for AdaptiveRandomForestKind {
    fn name(&self) -> &'static str {
        "adaptive-random-forest"
    }

    fn summary(&self) -> &'static str {
        "Several Hoeffding trees that differ by chance: each sees every row a random number of times, 6 on average, and \
         each leaf looks at a random subset of the inputs. A tree whose errors rise is replaced by one that began to grow \
         in the background when that was first suspected. Binary and multiclass tasks, regression; takes missing values \
         and categories."
    }

    fn fields(&self) -> &'static [Field] {
        const { &fields(&["adaptive-random-forest"], LEAF_ANY) }
    }

    fn example(&self) -> &'static str {
        "learner = \"adaptive-random-forest\"\ntrees = 5\ninputs_share = 0.5\ngrace = 50\ndelta = 0.01\ntie = 0.05\n\
         leaf = \"adaptive\"\nmemory_max = \"16 MiB\"\n"
    }
}

impl LearnerKind<dyn Learner> for AdaptiveRandomForestKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn Learner>> {
        if context.task == Task::Regression {
            return TreeLearner::build_any(section, context, problems, |inputs, memory_max, problems| {
                let mut settings = ValueSettings::new(1, inputs, context.seed, memory_max);
                let (trees, inputs) = read_value_settings(section, &mut settings, problems);
                settings.leaf_inputs = Some(inputs);
                ValueForest::watched(settings, trees)
            });
        }
        TreeLearner::build(section, context, problems, |mut settings, problems| {
            let (trees, inputs) = read_settings(section, &mut settings, problems);
            settings.subspace = Some(inputs);
            let manner = Manner {
                patch: None,
                judged_after: false,
                say: |accuracy, _| accuracy,
            };
            WatchedTrees::new(settings, trees, manner)
        })
    }
}
