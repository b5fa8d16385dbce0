//! The harness of Driftmill's tests against real servers: a real Kafka, the daemon as a process, a proxy between the
//! two that can lose an answer, a hand that kills at random moments, and the count of every record's outcome.
//!
//! It speaks to the daemon only as its users do: command line, TOML, HTTP, topics. A fault of the harness is a panic:
//! nothing here runs outside a test.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a harness for tests: what fails here fails the test that called"
)]

pub mod arrows;
pub mod daemon;
pub mod hits;
pub mod kafka;
pub mod kill;
pub mod metrics;
pub mod outcomes;
pub mod prometheus;
pub mod proxy;

use std::io::Write;
use std::path::{Path, PathBuf};

/// The workspace's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests crate lies in the workspace")
        .to_owned()
}

/// Whether a missing server fails a test (CI, or `DRIFTMILL_REQUIRE_KAFKA`) or only leaves it out.
pub fn servers_required() -> bool {
    ["CI", "DRIFTMILL_REQUIRE_KAFKA"]
        .iter()
        .any(|name| std::env::var(name).is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false")))
}

/// Says that the current test could not run, on stderr and in the file that `DRIFTMILL_NOT_RUN` names: a passing test's
/// output is hidden, and a test that did not run must not look like one that passed.
///
/// # Panics
/// Where [`servers_required`].
pub fn not_run(reason: &str) {
    assert!(!servers_required(), "cannot run, and must: {reason}");
    left_out(reason);
}

/// The same for a test that runs only where it is asked for, whatever is required.
pub fn left_out(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("not run: {test}: {reason}\n");
    eprint!("{line}");
    if let Some(path) = std::env::var_os("DRIFTMILL_NOT_RUN") {
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}
