//! `report [--short] [--out FILE]`: runs every benchmark, one after the other, on one Kafka, and writes their tables into
//! the regions of FILE that are marked for them; without FILE it prints them. `--short` only shows that they run.
#![expect(clippy::print_stdout, reason = "the tables are what this program is for")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use driftmill_benches::Failure;
use driftmill_benches::broker::Broker;
use driftmill_benches::process::pin_self;
use driftmill_benches::runs::{BROKER_CORE, PROGRAM_CORE, tell};
use driftmill_benches::table::replace_region;

/// A benchmark: its name, which is its region's too; its options in full and in short; whether it is to be pinned as a
/// whole to the programs' core; and how long it may take.
struct Bench {
    name: &'static str,
    full: &'static [&'static str],
    short: &'static [&'static str],
    is_pinned: bool,
    patience: Duration,
}

const fn bench(
    name: &'static str,
    full: &'static [&'static str],
    short: &'static [&'static str],
    is_pinned: bool,
    minutes: u64,
) -> Bench {
    Bench {
        name,
        full,
        short,
        is_pinned,
        patience: Duration::from_secs(60 * minutes),
    }
}

const BENCHES: &[Bench] = &[
    bench("decode", &["400000"], &["40000"], true, 2),
    bench(
        "w1",
        &["--records", "1000000", "--pairs", "5"],
        &["--records", "400000", "--pairs", "1"],
        false,
        6,
    ),
    bench(
        "whole",
        &["--records", "1000000", "--pairs", "5", "--rounds", "3"],
        &["--records", "800000", "--pairs", "1", "--rounds", "1"],
        false,
        10,
    ),
    bench("swap", &["--records", "2000000"], &["--records", "1200000"], false, 3),
    bench(
        "retrain",
        &["--records", "1000000", "--seconds", "120"],
        &["--records", "600000", "--seconds", "25"],
        false,
        5,
    ),
    bench("transaction", &["--commits", "200"], &["--commits", "20"], true, 3),
];

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut words = words.iter().map(String::as_str);
    let (mut is_short, mut out) = (false, None);
    while let Some(word) = words.next() {
        match word {
            "--short" => is_short = true,
            "--out" => out = Some(PathBuf::from(words.next().ok_or("--out needs a file")?)),
            _ => return Err("usage: report [--short] [--out FILE]".into()),
        }
    }
    pin_self(BROKER_CORE)?;
    let scratch = tempfile::Builder::new().prefix("driftmill-report-").tempdir()?;
    let broker = Broker::open(&scratch.path().join("kafka"))?;
    let mut regions = vec![("machine", machine())];
    let mut failed = Vec::new();
    for bench in BENCHES {
        let begin = Instant::now();
        tell(&format!("== {}", bench.name));
        match run(bench, is_short, &broker.bootstrap, scratch.path()) {
            Ok(text) => regions.push((bench.name, text)),
            Err(error) => {
                tell(&format!("{} failed: {error}", bench.name));
                failed.push(bench.name);
            }
        }
        tell(&format!(
            "== {} took {:.0} s",
            bench.name,
            begin.elapsed().as_secs_f64()
        ));
    }
    match out {
        Some(file) => write(&file, &regions)?,
        None => regions.iter().for_each(|(name, text)| println!("## {name}\n\n{text}")),
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("failed: {}; their tables were left as they were", failed.join(", ")).into())
}

/// Runs a benchmark, whose binary lies beside this one; its tables.
fn run(bench: &Bench, is_short: bool, bootstrap: &str, scratch: &Path) -> Result<String, Failure> {
    let binary = std::env::current_exe()?.with_file_name(bench.name);
    let table = scratch.join(bench.name);
    let core = if bench.is_pinned { PROGRAM_CORE } else { BROKER_CORE };
    // What a benchmark starts ends with it, and it ends with this process.
    let child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "taskset", "-c", &core.to_string()])
        .arg(&binary)
        .args(if is_short { bench.short } else { bench.full })
        .env("DRIFTMILL_KAFKA", bootstrap)
        .stdin(Stdio::null())
        .stdout(File::create(&table)?)
        .spawn()
        .map_err(|error| format!("setpriv (Debian: apt-get install util-linux): {error}"))?;
    finish(child, bench.patience)?;
    Ok(std::fs::read_to_string(&table)?)
}

fn finish(mut child: Child, patience: Duration) -> Result<(), Failure> {
    let begin = Instant::now();
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("it ended with {status}").into()),
            None if begin.elapsed() > patience => {
                child.kill()?;
                child.wait()?;
                return Err(format!("it was not done within {patience:?}").into());
            }
            None => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// The machine, and how busy it was when the benchmarks began.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = rustc.map_or(String::new(), |output| {
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    });
    let load = read("/proc/loadavg");
    format!(
        "Machine: {cores} cores, {}, Linux {}, {rustc}. Load average when it began: {} (1 minute).",
        model.map_or("of an unknown model", |(_, model)| model.trim()),
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or_default()
    )
}

fn write(file: &Path, regions: &[(&str, String)]) -> Result<(), Failure> {
    let mut document = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    for (name, text) in regions {
        document = replace_region(&document, name, text)
            .ok_or_else(|| format!("{} has no region <!-- {name} -->", file.display()))?;
    }
    std::fs::write(file, document)?;
    tell(&format!("written into {}", file.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_file_has_a_region_for_each() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/results/loop.md");
        let document = std::fs::read_to_string(file).unwrap();
        for name in BENCHES.iter().map(|bench| bench.name).chain(["machine"]) {
            assert!(replace_region(&document, name, "").is_some(), "{name}");
        }
    }
}
