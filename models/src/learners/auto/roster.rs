//! Who may be a member of `auto`.

use std::sync::Arc;

use driftmill_config::{Document, Problems, find};

use crate::contracts::{Form, Learner, LearnerContext, Task};
use crate::learners::LEARNERS;
use crate::model::Model;

/// Someone who may be a member.
pub(super) struct Candidate {
    /// By which name a file asks for it and it is reported.
    pub(super) name: &'static str,
    /// The learner, by task where the family has one for each.
    learner: fn(Task) -> &'static str,
    /// The learner's own settings.
    config: &'static str,
    /// Parts of the memory that it may use: ensembles grow, windows are of fixed size.
    memory: usize,
    /// Whether it is worth the trouble to let it rest where it is of no use.
    pub(super) may_rest: bool,
}

/// A learner that every task has under one name.
macro_rules! always {
    ($name:literal) => {
        |_| $name
    };
}

/// All of them, in the order in which they stand in a model.
///
/// Families that err in different ways: linear, Bayes, a tree, two ensembles of trees, boosted trees, neighbours in windows each twice
/// as long as the one before (that the best window is found among halved ones is from Losing, Hammer and Wersing, "KNN
/// classifier with self adjusting memory for heterogeneous concept drift", ICDM 2016), and the last label.
pub(super) const CANDIDATES: &[Candidate] = &[
    Candidate {
        name: "sgd",
        learner: |task| match task {
            Task::Multiclass { .. } => "sgd-softmax",
            Task::Regression => "sgd-linear",
            Task::Binary | Task::Anomaly => "sgd-logistic",
        },
        config: "",
        memory: 2,
        may_rest: false,
    },
    Candidate {
        name: "naive-bayes",
        learner: always!("naive-bayes"),
        config: "",
        memory: 2,
        may_rest: true,
    },
    Candidate {
        name: "hoeffding-adaptive-tree",
        learner: always!("hoeffding-adaptive-tree"),
        config: "",
        memory: 4,
        may_rest: true,
    },
    Candidate {
        name: "leveraging-bagging",
        learner: always!("leveraging-bagging"),
        config: "",
        memory: 8,
        may_rest: true,
    },
    Candidate {
        name: "adaptive-random-forest",
        learner: always!("adaptive-random-forest"),
        config: "",
        memory: 16,
        may_rest: true,
    },
    Candidate {
        name: "streaming-gradient-boosting",
        learner: always!("streaming-gradient-boosting"),
        config: "",
        memory: 8,
        may_rest: true,
    },
    Candidate {
        name: "knn-250",
        learner: always!("knn"),
        config: "window_rows = 250",
        memory: 1,
        may_rest: true,
    },
    Candidate {
        name: "knn-500",
        learner: always!("knn"),
        config: "window_rows = 500",
        memory: 1,
        may_rest: true,
    },
    Candidate {
        name: "knn-1000",
        learner: always!("knn"),
        config: "window_rows = 1000",
        memory: 1,
        may_rest: true,
    },
    Candidate {
        name: "knn-2000",
        learner: always!("knn"),
        config: "window_rows = 2000",
        memory: 2,
        may_rest: true,
    },
    Candidate {
        name: "no-change",
        learner: always!("no-change"),
        config: "",
        memory: 1,
        may_rest: false,
    },
];

/// The names of all of them.
pub(super) const NAMES: &[&str] = &{
    let mut names = [""; CANDIDATES.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = CANDIDATES[index].name;
        index += 1;
    }
    names
};

/// What a member is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    /// It learns and has a say since this round.
    Active(u64),
    /// It learns, without a say, until it is active in the next round.
    Training,
    /// It neither learns nor has a say before this round.
    Resting(u64),
}

/// A member.
pub(super) struct Member {
    pub(super) candidate: &'static Candidate,
    pub(super) learner: Box<dyn Learner>,
    pub(super) duty: Duty,
    /// Rounds that it rests when it is sent to rest next.
    pub(super) nap: u64,
    /// What it said of the rows at hand.
    pub(super) said: Vec<f64>,
}

impl Member {
    /// Whether it has a say.
    pub(super) fn is_active(&self) -> bool {
        matches!(self.duty, Duty::Active(_))
    }

    pub(super) fn publish(&mut self) -> Option<Arc<Model>> {
        self.learner.publish()
    }
}

/// Builds those of the candidates named that can learn this task from these columns within their part of `memory_max`
/// bytes. Otherwise gives what the first of them that cannot says.
pub(super) fn gather(names: &[String], memory_max: usize, context: &LearnerContext<'_>) -> Result<Vec<Member>, String> {
    let chosen = CANDIDATES.iter().enumerate();
    let chosen = chosen.filter(|(_, candidate)| names.iter().any(|name| name == candidate.name));
    let parts: usize = chosen.clone().map(|(_, candidate)| candidate.memory).sum();
    let (mut members, mut refused) = (Vec::new(), None);
    for (index, candidate) in chosen {
        let mut own = context.member(index, 1);
        own.memory_max = memory_max / parts.max(1) * candidate.memory;
        match build(candidate, &own).or_else(|why| build_spread(candidate, &own).ok_or(why)) {
            Ok(learner) => members.push(Member {
                candidate,
                learner,
                duty: Duty::Active(0),
                nap: 1,
                said: Vec::new(),
            }),
            Err(why) => refused = refused.or(Some(format!("{}: {why}", candidate.name))),
        }
    }
    // The last label alone is no answer to features.
    match members.iter().any(|member| member.candidate.name != "no-change") {
        true => Ok(members),
        false => Err(refused.unwrap_or_else(|| "name at least one that looks at features".to_owned())),
    }
}

fn build(candidate: &Candidate, context: &LearnerContext<'_>) -> Result<Box<dyn Learner>, String> {
    let kind = find(LEARNERS, (candidate.learner)(context.task))?;
    let document = Document::parse(candidate.name, candidate.config, &|_| None).map_err(|problems| first(&problems))?;
    let mut problems = document.problems();
    let learner = kind.build(&document.root(), context, &mut problems);
    learner.filter(|_| problems.is_empty()).ok_or_else(|| first(&problems))
}

/// One that adds inputs up takes codes spread over inputs: the file's word was for those that take codes.
fn build_spread(candidate: &Candidate, context: &LearnerContext<'_>) -> Option<Box<dyn Learner>> {
    context.columns.columns_unlike(Form::Scaled).next()?;
    let columns = context.columns.spread().ok()?;
    let context = LearnerContext {
        columns: &columns,
        ..*context
    };
    build(candidate, &context).ok()
}

/// The first of some problems.
fn first(problems: &Problems) -> String {
    let first = problems.sorted().first().map(|problem| problem.message.clone());
    first.unwrap_or_else(|| "cannot be built".to_owned())
}
