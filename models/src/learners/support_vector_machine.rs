//! `support-vector-machine`: Cortes and Vapnik, "Support-vector networks", Machine Learning 1995; for values Drucker et
//! al., "Support vector regression machines", NIPS 1996. Scored by the [`SupportVectors`] scorer.
//!
//! smartcore's machines are not used: they know no weights; a kernel is computed anew for every pair of every step,
//! cached or not; the classifier looks at each row twice and not until it is done; of fewer rows than inputs both cut
//! rows off; the regression takes the diagonal of a kernel from the wrong rows, which harms all but this one. What is
//! solved here is the same problem, both kinds as one: a coefficient for each row, between bounds that its weight
//! stretches, by sequential minimal optimisation with second-order choice of pairs (Platt 1998; Fan, Chen and Lin,
//! "Working set selection using second order information for training support vector machines", Journal of Machine
//! Learning Research 2005). The tests compare both.
//!
//! Several classes are as many machines, each a class against all others. Decisions become probabilities by Platt
//! scaling of what machines fitted on two thirds of the rows say of the others.

use std::sync::Arc;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::calibrated::{CALIBRATION, CALIBRATION_SHARE, CLASS_WEIGHT, around};
use super::random_forest::platt;
use super::rows::TrainingSet;
use super::settings::{named, number, refuse_task, rows_max, whole};
use crate::contracts::{BatchLearner, FitError, FitStart, Form, Labelled, LearnerContext, LearnerKind, Task};
use crate::encoders::ColumnsEncoder;
use crate::matrix::Matrix;
use crate::model::Model;
use crate::scorers::support_vectors::{Answer, Machine, SupportVectors, nearness};

/// Rows at most: the nearness of each to each is kept, 4 bytes for a pair.
const ROWS_MAX: u64 = 8_000;
/// Parts of the rows; machines fitted on all but one say something of its rows.
const FOLDS: usize = 3;
/// It is done when no pair of coefficients is farther than this from what is best.
const GAP: f64 = 1e-3;
/// It ends after so many steps for a row in any case. Each of them comes nearer.
const STEPS_OF_ROW: usize = 100;
/// The least that two rows are taken to differ.
const CURVATURE_MIN: f64 = 1e-12;

/// The entry of the list.
pub(crate) struct SupportVectorMachineKind;

impl Component for SupportVectorMachineKind {
    fn name(&self) -> &'static str {
        "support-vector-machine"
    }

    fn summary(&self) -> &'static str {
        "A support vector machine with radial basis functions: the widest margin between classes, or a band around \
         values, that few rows violate. Binary, multiclass and regression tasks; probabilities by Platt scaling on parts \
         of the rows that were left out. Rows count by their weights. The time of a fit grows with the square of the rows, \
         that of an answer with the rows on the margin."
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: &[Field] = &[
            named(&["support-vector-machine"]),
            Field {
                name: "c",
                kind: Kind::Float,
                need: Need::Optional("1"),
                doc: "What a violation of the margin costs, for a row of mean weight, from 0.0001 to 10000: the larger, the \
                      closer the fit to the rows.",
            },
            Field {
                name: "gamma",
                kind: Kind::Float,
                need: Need::Optional("one over the inputs' number and mean variance"),
                doc: "How quickly nearness falls: rows are `exp(-gamma d²)` near to each other at a distance of `d`; from \
                      1e-9 to 1e9.",
            },
            Field {
                name: "epsilon",
                kind: Kind::Float,
                need: Need::Optional("0.1"),
                doc: "Regression: errors that cost nothing, in standard deviations of the label, from 0 to 10.",
            },
            rows_max("2000"),
            CLASS_WEIGHT,
            CALIBRATION,
            CALIBRATION_SHARE,
        ];
        FIELDS
    }

    fn example(&self) -> &'static str {
        "learner = \"support-vector-machine\"\nc = 1.0\ngamma = 0.05\nepsilon = 0.1\nrows_max = 1_000\n"
    }
}

impl LearnerKind<dyn BatchLearner> for SupportVectorMachineKind {
    fn build(
        &self,
        section: &Section<'_>,
        context: &LearnerContext<'_>,
        problems: &mut Problems,
    ) -> Option<Box<dyn BatchLearner>> {
        let before = problems.len();
        if context.task == Task::Anomaly {
            let help = "`support-vector-machine` learns binary, multiclass and regression tasks";
            refuse_task(section, help, problems);
            return None;
        }
        let fit = Fit {
            task: context.task,
            encoder: context.encoder(Form::Scaled, section, problems)?,
            rows_max: whole(section, "rows_max", 2_000, 2..=ROWS_MAX, problems) as usize,
            c: number(section, "c", 1.0, 1e-4..=1e4, problems),
            epsilon: number(section, "epsilon", 0.1, 0.0..=10.0, problems),
            gamma: section
                .has("gamma")
                .then(|| number(section, "gamma", 1.0, 1e-9..=1e9, problems)),
        };
        let fit = around(Box::new(fit), section, context, problems);
        (problems.len() == before).then_some(fit)
    }
}

/// What is to be fitted, and how.
struct Fit {
    task: Task,
    encoder: ColumnsEncoder,
    rows_max: usize,
    c: f64,
    epsilon: f64,
    gamma: Option<f64>,
}

impl BatchLearner for Fit {
    fn fit(&self, rows: Labelled<'_>, start: FitStart<'_>) -> Result<Model, FitError> {
        let set = TrainingSet::weighted(rows, &self.encoder, self.task, self.rows_max, start.seed)?;
        let scorer = self.vectors(&set)?;
        Model::new(self.task, Arc::new(set.encoder), Arc::new(scorer)).map_err(FitError)
    }
}

impl Fit {
    /// The machines of a training set, over the rows that any of them needs.
    fn vectors(&self, set: &TrainingSet) -> Result<SupportVectors, FitError> {
        let gamma = self.gamma.unwrap_or_else(|| usual_gamma(&set.x));
        let near = Nearness::of(&set.x, gamma);
        let (answer, machines) = match self.task {
            Task::Regression => (Answer::Value, vec![self.values(set, &near)]),
            Task::Multiclass { classes } => {
                let each = (0..classes.max(2)).map(|class| self.against_others(class, set, &near));
                (Answer::Classes, each.collect())
            }
            Task::Binary | Task::Anomaly => (Answer::Binary, vec![self.against_others(1, set, &near)]),
        };
        let is_needed = |row: usize| machines.iter().any(|machine| machine.coefficients[row] != 0.0);
        let needed: Vec<usize> = (0..set.x.rows()).filter(|row| is_needed(*row)).collect();
        let width = set.x.width();
        let vectors = needed
            .iter()
            .flat_map(|row| &set.x.values()[row * width..(row + 1) * width]);
        let vectors = vectors.copied().collect();
        let kept = machines.iter().map(|machine| Machine {
            coefficients: needed.iter().map(|row| machine.coefficients[*row]).collect(),
            ..*machine
        });
        SupportVectors::new(answer, width, gamma, vectors, kept.collect()).map_err(FitError)
    }

    /// The machine that tells a class from all others.
    fn against_others(&self, class: u32, set: &TrainingSet, near: &Nearness) -> Machine {
        let sign = |row: usize| if set.y[row] == class { 1.0 } else { -1.0 };
        let solve = |rows: &mut dyn Iterator<Item = usize>| {
            let variable = |row: usize| {
                let bound = self.c * set.weights[row];
                let is_class = set.y[row] == class;
                Variable {
                    row,
                    left: sign(row),
                    low: if is_class { 0.0 } else { -bound },
                    high: if is_class { bound } else { 0.0 },
                    value: 0.0,
                }
            };
            solve(rows.map(variable).collect(), near)
        };
        let mut points = Vec::with_capacity(set.y.len());
        for fold in 0..FOLDS {
            let (coefficients, intercept) = solve(&mut (0..set.y.len()).filter(|row| row % FOLDS != fold));
            for row in (fold..set.y.len()).step_by(FOLDS) {
                let decision = near.sum(row, &coefficients) + intercept;
                // A decision is some 1 at the margin, where log-odds are larger.
                points.push((
                    2.0 * decision,
                    f64::from(u8::from(set.y[row] == class)),
                    set.weights[row],
                ));
            }
        }
        let (slope, offset) = platt(&points);
        let (coefficients, intercept) = solve(&mut (0..set.y.len()));
        Machine {
            coefficients,
            intercept,
            slope: 2.0 * slope,
            offset,
        }
    }

    /// The machine for values.
    fn values(&self, set: &TrainingSet, near: &Nearness) -> Machine {
        let total: f64 = set.weights.iter().sum();
        let pairs = || set.values.iter().zip(&set.weights);
        let mean: f64 = pairs().map(|(y, weight)| y * (weight / total)).sum();
        let variance: f64 = pairs()
            .map(|(y, weight)| (y - mean) * (y - mean) * (weight / total))
            .sum();
        let deviation = variance.sqrt();
        let scale = if deviation > 0.0 { 1.0 / deviation } else { 0.0 };
        let sides = (0..set.values.len()).flat_map(|row| {
            let (y, bound) = ((set.values[row] - mean) * scale, self.c * set.weights[row]);
            let above = Variable {
                row,
                left: y - self.epsilon,
                low: 0.0,
                high: bound,
                value: 0.0,
            };
            let below = Variable {
                left: y + self.epsilon,
                low: -bound,
                high: 0.0,
                ..above
            };
            [above, below]
        });
        let (coefficients, intercept) = solve(sides.collect(), near);
        Machine {
            coefficients,
            intercept,
            slope: deviation,
            offset: mean,
        }
    }
}

/// One over the number of the inputs and their mean variance; 1 where there is none.
fn usual_gamma(x: &Matrix) -> f64 {
    let (rows, width) = (x.rows() as f64, x.width());
    let variance = |place: usize| {
        let column = || x.iter().map(|x| x[place]);
        let mean = column().map(|x| x / rows).sum::<f64>();
        column().map(|x| (x - mean) * (x - mean) / rows).sum::<f64>()
    };
    let gamma = 1.0 / (0..width).map(variance).sum::<f64>();
    if gamma.is_finite() { gamma.clamp(1e-9, 1e9) } else { 1.0 }
}

/// How near each row of a training set is to each.
struct Nearness {
    rows: usize,
    values: Vec<f32>,
}

impl Nearness {
    fn of(x: &Matrix, gamma: f64) -> Self {
        let (rows, width) = (x.rows(), x.width());
        let mut values = vec![1.0; rows * rows];
        let row_of = |row: usize| &x.values()[row * width..(row + 1) * width];
        for row in 0..rows {
            for other in 0..row {
                let near = nearness(gamma, row_of(row), row_of(other)) as f32;
                values[row * rows + other] = near;
                values[other * rows + row] = near;
            }
        }
        Self { rows, values }
    }

    fn of_row(&self, row: usize) -> &[f32] {
        &self.values[row * self.rows..(row + 1) * self.rows]
    }

    /// The sum of coefficients, each by how near its row is.
    fn sum(&self, row: usize, coefficients: &[f64]) -> f64 {
        let pairs = self.of_row(row).iter().zip(coefficients);
        pairs.map(|(near, coefficient)| f64::from(*near) * coefficient).sum()
    }
}

/// A coefficient to be found, one side of a row.
#[derive(Debug, Clone, Copy)]
struct Variable {
    row: usize,
    /// What the sum over all coefficients still lacks of what the row wants.
    left: f64,
    low: f64,
    high: f64,
    value: f64,
}

/// The coefficient of each row, and the intercept.
fn solve(mut variables: Vec<Variable>, near: &Nearness) -> (Vec<f64>, f64) {
    for _ in 0..STEPS_OF_ROW * variables.len() {
        let Some((up, down)) = pair(&variables, near) else {
            break;
        };
        let (a, b) = (variables[up], variables[down]);
        let (of_a, of_b) = (near.of_row(a.row), near.of_row(b.row));
        let step = (a.left - b.left) / curvature(of_a[b.row]);
        let step = step.min(a.high - a.value).min(b.value - b.low);
        // At its bound exactly, whatever is lost in rounding.
        variables[up].value = (a.value + step).min(a.high);
        variables[down].value = (b.value - step).max(b.low);
        for variable in &mut variables {
            variable.left -= step * f64::from(of_a[variable.row] - of_b[variable.row]);
        }
    }
    let (most, least) = bounds(&variables);
    let mut coefficients = vec![0.0; near.rows];
    for variable in &variables {
        coefficients[variable.row] += variable.value;
    }
    let intercept = match (most.is_finite(), least.is_finite()) {
        (true, true) => (most + least) / 2.0,
        (true, false) => most,
        (false, true) => least,
        (false, false) => 0.0,
    };
    (coefficients, intercept)
}

/// How sharply the loss bends between two rows so near to each other.
fn curvature(near: f32) -> f64 {
    (2.0 - 2.0 * f64::from(near)).max(CURVATURE_MIN)
}

/// The most that a variable which can grow lacks, and the least that one which can shrink does.
fn bounds(variables: &[Variable]) -> (f64, f64) {
    let can_grow = variables.iter().filter(|variable| variable.value < variable.high);
    let can_shrink = variables.iter().filter(|variable| variable.value > variable.low);
    let most = can_grow.fold(f64::NEG_INFINITY, |most, variable| most.max(variable.left));
    let least = can_shrink.fold(f64::INFINITY, |least, variable| least.min(variable.left));
    (most, least)
}

/// The variable that grows, and the one that shrinks, in the next step; none where all is good enough.
fn pair(variables: &[Variable], near: &Nearness) -> Option<(usize, usize)> {
    let mut up: Option<(usize, f64)> = None;
    for (index, variable) in variables.iter().enumerate() {
        if variable.value < variable.high && up.is_none_or(|(_, most)| variable.left > most) {
            up = Some((index, variable.left));
        }
    }
    let (up, most) = up?;
    let of_up = near.of_row(variables[up].row);
    let (mut down, mut best, mut least) = (None, 0.0, f64::INFINITY);
    for (index, variable) in variables.iter().enumerate() {
        if variable.value > variable.low {
            least = least.min(variable.left);
            let apart = most - variable.left;
            let gain = apart * apart / curvature(of_up[variable.row]);
            if apart > 0.0 && gain > best {
                (down, best) = (Some(index), gain);
            }
        }
    }
    down.filter(|_| most - least > GAP).map(|down| (up, down))
}

#[cfg(test)]
mod tests {
    use smartcore::svm::Kernels;
    use smartcore::svm::svc::{SVC, SVCParameters};
    use smartcore::svm::svr::{SVR, SVRParameters};

    use super::*;
    use crate::contracts::Scorer;
    use crate::learners::least_squares::tests::{deviation, random, set};
    use crate::learners::rows::dense;

    fn fit(task: Task) -> Fit {
        Fit {
            task,
            encoder: ColumnsEncoder::new(Arc::new([]), vec![]),
            rows_max: 1_000,
            c: 2.0,
            epsilon: 0.1,
            gamma: Some(0.3),
        }
    }

    fn scores(task: Task, set: &TrainingSet) -> Vec<f64> {
        let mut out = Vec::new();
        fit(task).vectors(set).unwrap().score(&set.x, &mut out);
        out
    }

    #[test]
    fn values_are_smartcores() {
        let set = random(120, 2);
        let ours = scores(Task::Regression, &set);
        let scale = deviation(&set.values);
        let mean = set.values.iter().sum::<f64>() / 120.0;
        let x = dense(&set.x).unwrap();
        let y: Vec<f64> = set.values.iter().map(|y| (y - mean) / scale).collect();
        let parameters = SVRParameters::default()
            .with_c(2.0)
            .with_eps(0.1)
            .with_kernel(Kernels::rbf().with_gamma(0.3));
        let theirs = SVR::fit(&x, &y, &parameters).unwrap().predict(&x).unwrap();
        let apart = ours
            .iter()
            .zip(&theirs)
            .map(|(a, b)| (a - mean - scale * b).abs() / scale);
        let apart = apart.fold(0.0, f64::max);
        assert!(apart < 3e-3, "{apart} apart");
    }

    #[test]
    fn decisions_are_smartcores_up_to_where_it_stops() {
        let mut set = random(120, 3);
        set.y = set.values.iter().map(|y| u32::from(*y > 8.0)).collect();
        let near = Nearness::of(&set.x, 0.3);
        let machine = fit(Task::Binary).against_others(1, &set, &near);
        let x = dense(&set.x).unwrap();
        let parameters = SVCParameters::default()
            .with_c(2.0)
            .with_epoch(50)
            .with_seed(Some(1))
            .with_kernel(Kernels::rbf().with_gamma(0.3));
        let theirs = SVC::fit(&x, &set.y, &parameters)
            .unwrap()
            .decision_function(&x)
            .unwrap();
        for (row, theirs) in theirs.iter().enumerate() {
            let ours = near.sum(row, &machine.coefficients) + machine.intercept;
            assert!((ours - theirs).abs() < 0.02, "row {row}: {ours} and {theirs}");
        }
    }

    #[test]
    fn a_weight_counts_as_so_many_rows() {
        let mut one = random(40, 4);
        one.y = one.values.iter().map(|y| u32::from(*y > 8.0)).collect();
        let mut x = Matrix::new();
        x.reset(80, 4);
        let halves = x.values_mut().chunks_exact_mut(160);
        halves.for_each(|half| half.copy_from_slice(one.x.values()));
        let mut twice = set(x, one.values.repeat(2), vec![0.5; 80]);
        twice.y = one.y.repeat(2);
        // The classes of some rows are worth twice as much, once by weight and once by a second row.
        one.weights = (0..40).map(|row| if row < 20 { 1.0 } else { 0.5 }).collect();
        (60..80).for_each(|row| twice.weights[row] = 1e-9);
        let machine = |set: &TrainingSet| {
            let near = Nearness::of(&set.x, 0.3);
            let machine = fit(Task::Binary).against_others(1, set, &near);
            (0..40)
                .map(|row| near.sum(row, &machine.coefficients) + machine.intercept)
                .collect::<Vec<f64>>()
        };
        let (one, twice) = (machine(&one), machine(&twice));
        let apart = one.iter().zip(&twice).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(apart < 5e-3, "{apart} apart");
    }

    #[test]
    fn one_value_for_all_rows_is_answered() {
        let mut set = random(20, 5);
        set.values.fill(3.5);
        assert!(scores(Task::Regression, &set).iter().all(|y| *y == 3.5));
    }
}
