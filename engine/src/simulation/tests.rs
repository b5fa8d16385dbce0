//! The short form: a few seeds, at a rate that a build without optimisation works off quickly.

use super::*;

/// A tenth of the quickstart's rate: fewer rows, so the first model comes later and evidence takes longer.
fn options(first_seed: u64, seeds: u64, drift: bool) -> Options {
    Options {
        first_seed,
        seeds,
        drift,
        rate_per_s: 4_000,
        training: Duration::from_secs(1),
        at_once: 2,
    }
}

#[test]
fn a_change_is_found_and_a_better_version_goes_live() {
    let totals = run(&options(1, 4, true), &mut |report| tell_seed(report, false)).expect("it runs");
    tell(&totals, false);
    assert_eq!((totals.promoted, totals.seeds), (4, 4));
    assert_eq!(totals.lost, 0);
    assert!(totals.holds());
}

#[test]
fn without_a_change_nobody_is_promoted() {
    let totals = run(&options(11, 2, false), &mut |report| tell_seed(report, false)).expect("it runs");
    tell(&totals, false);
    assert_eq!(totals.promoted, 0);
    assert_eq!(totals.false_promotions, 0);
    assert_eq!(totals.lost, 0);
}
