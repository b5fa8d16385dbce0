//! The short form: a few seeds at the real rate, which the detector and the gate need for their evidence. Models are
//! fitted on fewer rows: fitting is what takes the time.

use super::*;

/// Rows to train on.
const ROWS: usize = 25_000;

fn options(first_seed: u64, seeds: u64, drift: bool) -> Options {
    Options {
        first_seed,
        seeds,
        drift,
        rate_per_s: 20_000,
        training: Duration::from_secs(1),
        buffer_rows: Some(ROWS),
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

#[test]
fn the_line_that_the_short_form_replaces_is_in_the_file_once() {
    let text = configured("in-memory:9092", std::path::Path::new("/nowhere"), "127.0.0.1:9464");
    assert_eq!(text.matches(BUFFER_ROWS).count(), 1);
}
