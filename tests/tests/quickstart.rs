//! The first command of the README: it tells its story, loses nothing, and promotes nothing where nothing changes. A binary
//! of its own, and one run at a time: a job that is trained beside twenty other tests outlasts the story.
#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::process::Command;
use std::sync::{Mutex, PoisonError};

use driftmill_tests::daemon::binary;
use serde_json::Value;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn quickstart(arguments: &[&str]) -> Value {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(binary())
        .args(["quickstart", "--json"])
        .args(arguments)
        .output()
        .unwrap();
    let (told, wrong) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{}: {told}\n{wrong}", output.status);
    serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"))
}

fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"))
}

#[test]
fn a_change_is_found_and_a_better_model_goes_live() {
    let report = quickstart(&["--for", "60s", "--seed", "1"]);
    eprintln!("{report}");
    assert_eq!(report["lost"], 0);
    let parts = ["scored", "filtered", "dead", "labels"].map(|part| number(&report, part));
    assert_eq!(parts.iter().sum::<u64>(), number(&report, "written"));
    assert!(number(&report, "filtered") > 0 && number(&report, "dead") > 0);
    assert!(number(&report, "quarantined") > 0, "the bad feed was not caught");
    assert!(
        number(&report, "alarms") > 0 && number(&report, "promoted") > 0,
        "{report}"
    );
}

#[test]
fn without_a_change_nothing_is_promoted() {
    let report = quickstart(&["--for", "40s", "--no-drift", "--seed", "2"]);
    eprintln!("{report}");
    assert_eq!(report["lost"], 0);
    assert_eq!(report["promoted"], 0);
}
