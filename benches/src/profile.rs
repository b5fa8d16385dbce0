//! Where a daemon spends its time, by function, as `perf` samples it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::runs::{Daemon, Ground};

/// Samples in a second; no round number, lest it goes in step with something.
const SAMPLES_PER_S: &str = "997";
const SECONDS: &str = "2";
/// The window's beginning must have been reached by then.
const PATIENCE: Duration = Duration::from_secs(60);

/// A function and its share of the samples.
#[derive(Debug, Clone, PartialEq)]
pub struct Spent {
    /// Percent of all samples of the process.
    pub percent: f64,
    /// Name of the thread.
    pub thread: String,
    /// Name of the function.
    pub function: String,
}

/// Runs a daemon and samples it from the beginning of the window on; functions, the most expensive first.
///
/// # Errors
/// No `perf`, or a system that does not let it look; a daemon that does not get there.
pub fn record(ground: &Ground<'_>, daemon: &Daemon) -> Result<Vec<Spent>, Failure> {
    let mut program = ground.start(daemon)?;
    let begin = Instant::now();
    while ground.broker.records(&daemon.name)? * 100 < ground.kept * ground.window.0 {
        program.check()?;
        if begin.elapsed() > PATIENCE {
            return Err("the daemon does not get so far".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let data = ground.scratch.join("perf.data");
    let recorded = Command::new("perf")
        .args(["record", "-F", SAMPLES_PER_S, "-p", &program.id().to_string(), "-o"])
        .arg(&data)
        .args(["--", "sleep", SECONDS])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    program.stop(Duration::from_secs(10));
    if !recorded.success() {
        return Err(format!("perf record: {recorded}").into());
    }
    let report = Command::new("perf")
        .args([
            "report",
            "--stdio",
            "--sort",
            "comm,symbol",
            "-F",
            "overhead,comm,symbol",
            "-t",
            ";",
            "-i",
        ])
        .arg(&data)
        .output()?;
    if !report.status.success() {
        return Err(format!("perf report: {}", String::from_utf8_lossy(&report.stderr)).into());
    }
    Ok(read(&String::from_utf8_lossy(&report.stdout)))
}

/// Lines such as `  12.34%;driftmill;[.] function`.
fn read(report: &str) -> Vec<Spent> {
    let lines = report.lines().filter(|line| !line.starts_with('#'));
    let spent = |line: &str| {
        // A column for the other side of branches, always empty here, comes last.
        let mut cells = line.trim_end_matches(['-', ' ', ';']).splitn(3, ';').map(str::trim);
        let percent = cells.next()?.trim_end_matches('%').parse().ok()?;
        let (thread, symbol) = (cells.next()?, cells.next()?);
        let function = symbol.trim_start_matches("[.] ");
        Some(Spent {
            percent,
            thread: thread.to_owned(),
            function: function.replace("[k] ", "kernel: "),
        })
    };
    let mut found: Vec<Spent> = lines.filter_map(spent).collect();
    found.sort_by(|a, b| b.percent.total_cmp(&a.percent));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read() {
        let report = "# Samples: 9\n#\n  1.05%;rdk:broker1    ;[k] copy_to_user   ;-      -      \n\
                      \n 41.20%;driftmill      ;[.] a::b<c; d>   \n\n";
        let found = read(report);
        let spent = |percent, thread: &str, function: &str| Spent {
            percent,
            thread: thread.to_owned(),
            function: function.to_owned(),
        };
        assert_eq!(
            found,
            [
                spent(41.2, "driftmill", "a::b<c; d>"),
                spent(1.05, "rdk:broker1", "kernel: copy_to_user")
            ]
        );
    }
}
