//! Whether the story can be learned: a linear model is good before the change, fails after it, and is good again when
//! it is fitted on a few thousand rows since.

use driftmill_config::{Document, Problems, Section};
use driftmill_models::contracts::{FitStart, Labelled, LearnerContext, Task};
use driftmill_models::dictionary::Dictionaries;
use driftmill_models::encoders::ColumnsEncoder;
use driftmill_models::frame::{Column, ColumnKind, ColumnSpec, Frame, MISSING};
use driftmill_models::learners::{BATCH_LEARNERS, LEARNERS};
use driftmill_models::metrics::{BinaryMetrics, BinaryTally, CohortParams, Tally};
use driftmill_models::model::{Model, Scratch};

use super::world::{CATEGORIES, COUNTRIES, Payment, World};
use super::{Pattern, PaymentsConfig};

/// Rows that the first model is fitted on.
const BOOTSTRAP: u64 = 20_000;
/// Rows that each is judged on.
const JUDGED: u64 = 40_000;

/// Score from which a payment is checked: a fraud costs as much as nine needless checks.
const ALERT: f64 = 0.1;

/// What a model was worth on rows that it has not seen.
#[derive(Debug, Clone, Copy)]
struct Worth {
    pr_auc: f64,
    log_loss: f64,
    brier: f64,
    /// Share of the euros of fraud in payments scored below [`ALERT`].
    missed: f64,
}

/// The story of one seed.
#[derive(Debug, Clone, Copy)]
struct Learnability {
    /// The first model, before the change.
    before: Worth,
    /// The first model, after it.
    frozen: Worth,
    /// A model fitted since the change, after it.
    refit: Worth,
}

/// Fits and judges `learner` in the world of `seed`; since the change it is fitted on `refit` rows.
fn learnability(seed: u64, learner: &str, refit: u64) -> Learnability {
    let still = PaymentsConfig {
        seed,
        drift_at: None,
        bad_feed: None,
        ..PaymentsConfig::default()
    };
    let changed = PaymentsConfig {
        drift_at: Some(std::time::Duration::ZERO),
        ..still.clone()
    };
    let (still, changed) = (World::new(still), World::new(changed));
    let mut dictionaries = Dictionaries::new(&columns(), 1 << 16);
    let first = fit(
        learner,
        &rows(&still, 0, BOOTSTRAP, &mut dictionaries),
        &dictionaries,
        seed,
    );
    // Other payments than those before: numbers that were not used.
    let start = BOOTSTRAP + JUDGED;
    let second = fit(
        learner,
        &rows(&changed, start, refit, &mut dictionaries),
        &dictionaries,
        seed,
    );
    let before = rows(&still, BOOTSTRAP, JUDGED, &mut dictionaries);
    let after = rows(&changed, start + refit, JUDGED, &mut dictionaries);
    Learnability {
        before: judge(&first, &before, &dictionaries),
        frozen: judge(&first, &after, &dictionaries),
        refit: judge(&second, &after, &dictionaries),
    }
}

/// The features that quickstart.toml makes.
pub(super) fn columns() -> Vec<ColumnSpec> {
    let number = |name: &str| ColumnSpec {
        name: name.to_owned(),
        kind: ColumnKind::Number,
    };
    let category = |name: &str| ColumnSpec {
        name: name.to_owned(),
        kind: ColumnKind::Category,
    };
    vec![
        category("category"),
        category("country"),
        number("log_amount"),
        number("abroad"),
        number("is_online"),
        number("night"),
        number("card_age"),
        number("payments_last_hour"),
    ]
}

/// Rows and their labels.
struct Rows {
    frame: Frame,
    labels: Vec<f64>,
    euros: Vec<f64>,
}

/// Payments `from..from + count` as features.
fn rows(world: &World, from: u64, count: u64, dictionaries: &mut Dictionaries) -> Rows {
    let payments: Vec<Payment> = (from..from + count).map(|number| world.payment(number)).collect();
    let numbers = |value: &dyn Fn(&Payment) -> f64| Column::F64(payments.iter().map(value).collect());
    let mut codes = |column: usize, value: &dyn Fn(&Payment) -> &'static str| {
        let dictionary = dictionaries.get_mut(column);
        let intern = |d: &mut driftmill_models::dictionary::Dictionary| {
            payments.iter().map(|payment| d.intern(value(payment))).collect()
        };
        Column::Code(dictionary.map_or_else(|| vec![MISSING; payments.len()], intern))
    };
    let columns = vec![
        codes(0, &|p| CATEGORIES[p.category]),
        codes(1, &|p| COUNTRIES[p.country]),
        numbers(&|p| (1.0 + p.amount_cents as f64 / 100.0).ln()),
        numbers(&|p| p.card_country.map_or(f64::NAN, |card| f64::from(card != p.country))),
        numbers(&|p| f64::from(p.online)),
        numbers(&|p| f64::from(p.hour < 6)),
        numbers(&|p| p.card_age_days.map_or(f64::NAN, |days| (1.0 + days as f64).ln())),
        numbers(&|p| p.last_hour.map_or(f64::NAN, |count| count as f64)),
    ];
    let labels = payments
        .iter()
        .map(|payment| f64::from(payment.pattern != Pattern::Honest))
        .collect();
    Rows {
        frame: Frame::new(payments.len(), columns),
        labels,
        euros: payments
            .iter()
            .map(|payment| payment.amount_cents as f64 / 100.0)
            .collect(),
    }
}

fn with_section<T>(text: &str, read: impl FnOnce(&Section<'_>, &mut Problems) -> Option<T>) -> T {
    let document = Document::parse("test.toml", text, &|_| None).unwrap();
    let mut problems = document.problems();
    let value = read(&document.root(), &mut problems);
    value.unwrap_or_else(|| panic!("{}", problems.render()))
}

fn fit(learner: &str, rows: &Rows, dictionaries: &Dictionaries, seed: u64) -> Model {
    let encoders = "category = { encode = \"one-hot\", categories_max = 16 }\n\
                    country = { encode = \"one-hot\", categories_max = 16 }\n";
    let encoder = with_section(encoders, |section, problems| {
        ColumnsEncoder::from_config(section, &columns(), 0, problems)
    });
    let context = LearnerContext::new(Task::Binary, &encoder, seed);
    let weights = vec![1.0; rows.labels.len()];
    let labelled = Labelled {
        frame: &rows.frame,
        dictionaries,
        labels: &rows.labels,
        weights: &weights,
    };
    if let Some(kind) = BATCH_LEARNERS.iter().find(|kind| kind.name() == learner) {
        return with_section("", |section, problems| kind.build(section, &context, problems))
            .fit(labelled, FitStart::anew(seed))
            .unwrap();
    }
    let kind = LEARNERS.iter().find(|kind| kind.name() == learner).unwrap();
    let mut learner = with_section("", |section, problems| kind.build(section, &context, problems));
    learner.learn(labelled, None);
    Model::clone(&learner.publish().unwrap())
}

fn judge(model: &Model, rows: &Rows, dictionaries: &Dictionaries) -> Worth {
    let mut scores = Vec::new();
    model.score(&rows.frame, dictionaries, &mut Scratch::default(), &mut scores);
    let params = CohortParams {
        cohort_ms: 1_000,
        cohorts_max: 1,
    };
    let mut metrics = BinaryMetrics::new(params, &BinaryTally::new(0.5));
    for (&score, &label) in scores.iter().zip(&rows.labels) {
        metrics.update(0, &[score], label, 1.0);
    }
    let report = metrics.total().report();
    let lost = |is: &dyn Fn(usize) -> bool| -> f64 {
        let frauds = (0..scores.len()).filter(|&row| rows.labels[row] > 0.5 && is(row));
        frauds.map(|row| rows.euros[row]).sum()
    };
    Worth {
        pr_auc: report.pr_auc,
        log_loss: report.log_loss,
        brier: report.brier,
        missed: lost(&|row| scores[row] < ALERT) / lost(&|_| true),
    }
}

fn check(learner: &str, refit_rows: u64, refit_min: f64) {
    for seed in 0..5 {
        let found = learnability(seed, learner, refit_rows);
        println!("{learner}, seed {seed}: {found:.4?}");
        let Learnability { before, frozen, refit } = found;
        let told = before.pr_auc >= 0.5 && frozen.pr_auc <= 0.45 && refit.pr_auc >= refit_min;
        let paid = refit.log_loss < frozen.log_loss && refit.brier < frozen.brier && refit.missed < frozen.missed;
        assert!(told && paid, "{learner}, seed {seed}: {found:?}");
    }
}

#[test]
fn a_model_is_good_fails_at_the_change_and_is_good_again_when_refitted() {
    check("logistic-regression", 5_000, 0.58);
}

#[test]
fn a_learner_that_sees_each_row_once_tells_the_same_story_with_more_rows() {
    check("sgd-logistic", 40_000, 0.54);
}
