//! The gate: a pure decision whether a candidate goes live. First mechanics, then evidence, then bounds and
//! slices; every answer is a sentence with its numbers.

use super::BLOCKS_MIN;
use super::sequence::Bounds;

/// What is compared with a limit: fine when `value` is at most `max`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Limit {
    /// What it is, with its unit: "calibration error", "latency p99 in µs", "size in bytes".
    pub what: String,
    /// Measured.
    pub value: f64,
    /// Allowed.
    pub max: f64,
}

impl Limit {
    fn holds(&self) -> bool {
        self.value <= self.max
    }

    fn broken(limits: &[Self]) -> Option<String> {
        let limit = limits.iter().find(|limit| !limit.holds())?;
        Some(format!(
            "{} is {}, at most {} is allowed",
            limit.what,
            number(limit.value),
            number(limit.max)
        ))
    }
}

/// What a candidate must do at all, before its quality is looked at.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Mechanics {
    /// Why the artifact does not load; `None` when it does.
    pub load_error: Option<String>,
    /// Golden rows whose answer is not the recorded one.
    pub golden_rows_unequal: u64,
    /// Outputs that are not finite.
    pub outputs_not_finite: u64,
    /// Size and latency against their budgets.
    pub budgets: Vec<Limit>,
}

/// A part of the rows that must not be served badly.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Slice {
    /// Column and value, `origin = JFK`.
    pub name: String,
    /// Mean loss of the candidate there.
    pub loss: f64,
    /// Highest loss allowed.
    pub loss_max: f64,
    /// Rows that the loss rests on.
    pub rows: u64,
}

/// The evidence on one pair of models.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Evidence {
    /// Bounds of the gain (loss of the champion less loss of the candidate) at [`alpha_share`].
    pub bounds: Bounds,
    /// Mean losses of champion and candidate; 0 before the first block.
    pub losses: (f64, f64),
    /// Rows and rows with a positive label in the blocks.
    pub rows: u64,
    /// Rows with a positive label in the blocks.
    pub positives: u64,
    /// Blocks since the candidate entered the gate, empty ones too: its age.
    pub age_blocks: u64,
}

/// What is asked of the evidence.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GateParams {
    /// Gain that must be shown, in the unit of the loss, at least 0.
    pub gain_min: f64,
    /// Blocks before anything is decided; never less than [`BLOCKS_MIN`].
    pub blocks_min: u64,
    /// Rows with a positive label before anything is decided.
    pub positives_min: u64,
    /// Rows below which a slice is not judged, and a promotion waits.
    pub slice_rows_min: u64,
    /// Age in blocks at which a candidate without a verdict is rejected.
    pub age_blocks_max: u64,
}

/// With whom the candidate is compared.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Baseline {
    /// The live version of this name.
    Champion(String),
    /// Nobody is live: with always predicting the share of positives of the candidate's training rows.
    ClassPrior,
}

/// All that the decision rests on.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GateInput {
    /// Name of the candidate.
    pub candidate: String,
    /// Name of the loss, `Brier`.
    pub loss: String,
    /// With whom it is compared.
    pub baseline: Baseline,
    /// Mechanics.
    pub mechanics: Mechanics,
    /// Evidence.
    pub evidence: Evidence,
    /// Error of each bound.
    pub alpha: f64,
    /// Calibration and alert rate of the candidate against their bounds.
    pub limits: Vec<Limit>,
    /// Slices.
    pub slices: Vec<Slice>,
    /// What is asked.
    pub params: GateParams,
}

/// The three answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateAnswer {
    /// The candidate goes live.
    Promote,
    /// The candidate is dropped.
    Reject,
    /// Not decided yet.
    Hold,
}

/// The answer, why, and the numbers.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct GateVerdict {
    /// The answer.
    pub answer: GateAnswer,
    /// A sentence with its numbers.
    pub reason: String,
    /// Lower bound of the gain.
    pub gain_low: f64,
    /// Mean gain over the blocks.
    pub gain: f64,
    /// Upper bound of the gain.
    pub gain_high: f64,
    /// Blocks.
    pub blocks: u64,
}

/// The error that one of `candidates` (at least 1) may spend at attempt `attempt` (from 1): the whole is divided
/// equally over candidates, and over attempts by 1/(k (k + 1)), which sums to 1 however many follow.
#[must_use]
pub fn alpha_share(alpha: f64, candidates: u32, attempt: u32) -> f64 {
    let attempt = f64::from(attempt.max(1));
    alpha / f64::from(candidates.max(1)) / (attempt * (attempt + 1.0))
}

/// Brier loss of always predicting `prior`: the champion's loss where there is no champion.
#[must_use]
pub fn prior_loss(prior: f64, label: f64) -> f64 {
    (prior - label).powi(2)
}

/// Decides. Pure: the same input gives the same verdict.
#[must_use]
pub fn decide(input: &GateInput) -> GateVerdict {
    let (answer, reason) = mechanics(input)
        .or_else(|| evidence_open(input))
        .or_else(|| limits(input))
        .or_else(|| slices(input))
        .unwrap_or_else(|| (GateAnswer::Promote, promoted(input)));
    let (answer, reason) = aged(input, answer, reason);
    let bounds = input.evidence.bounds;
    GateVerdict {
        answer,
        reason,
        gain_low: bounds.low,
        gain: bounds.mean,
        gain_high: bounds.high,
        blocks: bounds.blocks,
    }
}

type Answer = Option<(GateAnswer, String)>;

fn reject(reason: String) -> Answer {
    Some((GateAnswer::Reject, reason))
}

fn hold(reason: String) -> Answer {
    Some((GateAnswer::Hold, reason))
}

fn mechanics(input: &GateInput) -> Answer {
    let (name, mechanics) = (&input.candidate, &input.mechanics);
    if let Some(error) = &mechanics.load_error {
        return reject(format!("{name} does not load: {error}."));
    }
    if mechanics.outputs_not_finite > 0 {
        return reject(format!(
            "{name} gave {} outputs that are not finite.",
            mechanics.outputs_not_finite
        ));
    }
    if mechanics.golden_rows_unequal > 0 {
        return reject(format!(
            "{name} answers {} golden rows otherwise than when it was trained.",
            mechanics.golden_rows_unequal
        ));
    }
    Limit::broken(&mechanics.budgets).and_then(|broken| reject(format!("{name} is out of its budget: {broken}.")))
}

/// What keeps the evidence from being a proof of the gain.
fn evidence_open(input: &GateInput) -> Answer {
    let (evidence, params) = (&input.evidence, &input.params);
    let bounds = evidence.bounds;
    let blocks_min = params.blocks_min.max(BLOCKS_MIN);
    if bounds.blocks < blocks_min {
        return hold(format!(
            "{} has {} of the {blocks_min} blocks that it needs.",
            input.candidate, bounds.blocks
        ));
    }
    if evidence.positives < params.positives_min {
        return hold(format!(
            "{} has {} of the {} positive labels that it needs.",
            input.candidate, evidence.positives, params.positives_min
        ));
    }
    if bounds.high < params.gain_min {
        return reject(format!(
            "{}: a gain of {} is out of reach, it is at most {} ({}).",
            losses(input),
            number(params.gain_min),
            number(bounds.high),
            confidence(input)
        ));
    }
    // A bound of exactly 0 shows nothing; a bound at a positive gain_min does.
    if bounds.low <= 0.0 || bounds.low < params.gain_min {
        return hold(format!(
            "{}: gain not shown yet, it lies between {} and {} where {} is asked ({}).",
            losses(input),
            number(bounds.low),
            number(bounds.high),
            number(params.gain_min),
            confidence(input)
        ));
    }
    None
}

fn limits(input: &GateInput) -> Answer {
    Limit::broken(&input.limits).and_then(|broken| {
        reject(format!(
            "{} is better by at least {}, but its {broken}.",
            input.candidate,
            number(input.evidence.bounds.low)
        ))
    })
}

fn slices(input: &GateInput) -> Answer {
    let judged = |slice: &&Slice| slice.rows >= input.params.slice_rows_min;
    let name = &input.candidate;
    // A loss that is not a number is a bad one.
    if let Some(bad) = input
        .slices
        .iter()
        .filter(judged)
        .find(|slice| slice.loss > slice.loss_max || slice.loss.is_nan())
    {
        return reject(format!(
            "{name} is better as a whole, but where {} its {} is {} over {} rows, at most {} is allowed.",
            bad.name,
            input.loss,
            number(bad.loss),
            bad.rows,
            number(bad.loss_max)
        ));
    }
    let few = input.slices.iter().find(|slice| !judged(slice))?;
    hold(format!(
        "{name} is better, but where {} only {} of {} rows were seen.",
        few.name, few.rows, input.params.slice_rows_min
    ))
}

/// A candidate that is not decided in time is rejected.
fn aged(input: &GateInput, answer: GateAnswer, reason: String) -> (GateAnswer, String) {
    let age = input.evidence.age_blocks;
    if answer == GateAnswer::Hold && age >= input.params.age_blocks_max {
        return (GateAnswer::Reject, format!("Not decided within {age} blocks. {reason}"));
    }
    (answer, reason)
}

fn promoted(input: &GateInput) -> String {
    format!(
        "{}, gain ≥ {} ({}).",
        losses(input),
        number(input.evidence.bounds.low),
        confidence(input)
    )
}

fn losses(input: &GateInput) -> String {
    let (champion, candidate) = input.evidence.losses;
    let against = match &input.baseline {
        Baseline::Champion(name) => format!("{} against {name}", input.candidate),
        Baseline::ClassPrior => format!("{} against the class prior", input.candidate),
    };
    format!("{against}: {} {} → {}", input.loss, number(champion), number(candidate))
}

fn confidence(input: &GateInput) -> String {
    let percent = 100.0 * (1.0 - input.alpha);
    format!(
        "anytime {percent:.4} %, {} blocks, {} rows",
        input.evidence.bounds.blocks, input.evidence.rows
    )
    .replacen(".0000 %", " %", 1)
}

/// Four significant digits, without an exponent where people would not write one.
fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let before = value.abs().log10().floor();
    if !(-7.0..15.0).contains(&before) {
        return format!("{value:.3e}");
    }
    let digits = (3.0 - before).max(0.0) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> GateInput {
        GateInput {
            candidate: "c01d77".to_owned(),
            loss: "Brier".to_owned(),
            baseline: Baseline::Champion("v1".to_owned()),
            mechanics: Mechanics::default(),
            evidence: Evidence {
                bounds: Bounds {
                    low: 0.0021,
                    mean: 0.0039,
                    high: 0.0057,
                    blocks: 40,
                },
                losses: (0.0101, 0.0062),
                rows: 5_200,
                positives: 80,
                age_blocks: 41,
            },
            alpha: 0.05,
            limits: vec![Limit {
                what: "calibration error".to_owned(),
                value: 0.01,
                max: 0.05,
            }],
            slices: vec![Slice {
                name: "origin = JFK".to_owned(),
                loss: 0.2,
                loss_max: 0.25,
                rows: 500,
            }],
            params: GateParams {
                gain_min: 0.002,
                blocks_min: 0,
                positives_min: 50,
                slice_rows_min: 100,
                age_blocks_max: 400,
            },
        }
    }

    fn check(change: impl FnOnce(&mut GateInput), answer: GateAnswer, reason: &str) {
        let mut input = input();
        change(&mut input);
        let verdict = decide(&input);
        assert_eq!((verdict.answer, verdict.reason.as_str()), (answer, reason));
        assert_eq!(verdict.blocks, input.evidence.bounds.blocks);
    }

    #[test]
    fn a_shown_gain_is_promoted() {
        check(
            |_| {},
            GateAnswer::Promote,
            "c01d77 against v1: Brier 0.0101 → 0.0062, gain ≥ 0.0021 (anytime 95 %, 40 blocks, 5200 rows).",
        );
        check(
            |i| i.baseline = Baseline::ClassPrior,
            GateAnswer::Promote,
            "c01d77 against the class prior: Brier 0.0101 → 0.0062, gain ≥ 0.0021 (anytime 95 %, 40 blocks, 5200 rows).",
        );
    }

    #[test]
    fn mechanics_come_first() {
        let broken = |i: &mut GateInput| i.mechanics.load_error = Some("hash differs".to_owned());
        check(broken, GateAnswer::Reject, "c01d77 does not load: hash differs.");
        check(
            |i| i.mechanics.outputs_not_finite = 2,
            GateAnswer::Reject,
            "c01d77 gave 2 outputs that are not finite.",
        );
        check(
            |i| i.mechanics.golden_rows_unequal = 3,
            GateAnswer::Reject,
            "c01d77 answers 3 golden rows otherwise than when it was trained.",
        );
        let slow = Limit {
            what: "latency p99 in µs".to_owned(),
            value: 1_250.0,
            max: 1_000.0,
        };
        check(
            |i| i.mechanics.budgets.push(slow),
            GateAnswer::Reject,
            "c01d77 is out of its budget: latency p99 in µs is 1250, at most 1000 is allowed.",
        );
    }

    #[test]
    fn too_little_is_held_and_what_is_out_of_reach_is_rejected() {
        check(
            |i| i.evidence.bounds.blocks = 19,
            GateAnswer::Hold,
            "c01d77 has 19 of the 20 blocks that it needs.",
        );
        check(
            |i| i.evidence.positives = 49,
            GateAnswer::Hold,
            "c01d77 has 49 of the 50 positive labels that it needs.",
        );
        check(
            |i| i.evidence.bounds.low = 0.0019,
            GateAnswer::Hold,
            "c01d77 against v1: Brier 0.0101 → 0.0062: gain not shown yet, it lies between 0.0019 and 0.0057 \
             where 0.002 is asked (anytime 95 %, 40 blocks, 5200 rows).",
        );
        check(
            |i| {
                i.evidence.bounds = Bounds {
                    low: -0.01,
                    mean: -0.004,
                    high: 0.0015,
                    blocks: 90,
                }
            },
            GateAnswer::Reject,
            "c01d77 against v1: Brier 0.0101 → 0.0062: a gain of 0.002 is out of reach, it is at most 0.0015 \
             (anytime 95 %, 90 blocks, 5200 rows).",
        );
        let undecided = |i: &mut GateInput| {
            i.evidence.positives = 1;
            i.evidence.age_blocks = 400;
        };
        check(
            undecided,
            GateAnswer::Reject,
            "Not decided within 400 blocks. c01d77 has 1 of the 50 positive labels that it needs.",
        );
    }

    #[test]
    fn without_a_minimum_gain_a_bound_of_zero_shows_nothing() {
        let mut input = input();
        input.params.gain_min = 0.0;
        input.evidence.bounds.low = 0.0;
        assert_eq!(decide(&input).answer, GateAnswer::Hold);
        input.evidence.bounds.low = 1e-9;
        assert_eq!(decide(&input).answer, GateAnswer::Promote);
    }

    #[test]
    fn limits_and_slices_stop_a_better_candidate() {
        check(
            |i| i.limits[0].value = f64::NAN,
            GateAnswer::Reject,
            "c01d77 is better by at least 0.0021, but its calibration error is NaN, at most 0.05 is allowed.",
        );
        check(
            |i| i.slices[0].loss = 0.3,
            GateAnswer::Reject,
            "c01d77 is better as a whole, but where origin = JFK its Brier is 0.3 over 500 rows, at most 0.25 is allowed.",
        );
        check(
            |i| i.slices[0].rows = 99,
            GateAnswer::Hold,
            "c01d77 is better, but where origin = JFK only 99 of 100 rows were seen.",
        );
    }

    #[test]
    fn alpha_is_divided_and_its_shares_sum_to_it() {
        assert!((alpha_share(0.05, 2, 1) - 0.0125).abs() < 1e-15);
        let all: f64 = (1..10_000).map(|k| alpha_share(0.05, 1, k)).sum();
        assert!(all < 0.05 && all > 0.0499, "{all}");
    }

    #[test]
    fn numbers_are_written_for_people() {
        for (value, text) in [
            (0.00214, "0.00214"),
            (12_345.6, "12346"),
            (0.5, "0.5"),
            (-0.000_012_3, "-0.0000123"),
            (1e-12, "1.000e-12"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
