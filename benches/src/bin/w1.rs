//! `w1 [--records N] [--pairs N]`: the daemon with eight SQL expressions and a filter against a bare loop, both pinned
//! to core 1, on a Kafka on core 0. `w1 bare BROKERS INPUT OUTPUT` is the bare loop.
#![expect(clippy::print_stdout, reason = "the table is what this program is for")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use driftmill_benches::broker::Broker;
use driftmill_benches::flights::pipeline;
use driftmill_benches::pairs::{interleave, median};
use driftmill_benches::process::{Pinned, pin_self};
use driftmill_benches::{Failure, bare};

/// The broker and this program, which looks at the output topic every 50 ms.
const BROKER_CORE: usize = 0;
const PROGRAM_CORE: usize = 1;
const LOOK: Duration = Duration::from_millis(50);
/// A run that writes nothing for so long has failed.
const STALL: Duration = Duration::from_secs(60);

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["bare", brokers, input, output] = words[..] {
        return bare::run(brokers, input, output);
    }
    let (mut records, mut pairs) = (1_000_000, 5);
    for option in words.chunks(2) {
        match option {
            ["--records", count] => records = count.parse()?,
            ["--pairs", count] => pairs = count.parse()?,
            _ => return Err("usage: w1 [--records N] [--pairs N]".into()),
        }
    }
    compare(records, usize::max(1, pairs))
}

fn compare(records: u64, pairs: usize) -> Result<(), Failure> {
    pin_self(BROKER_CORE)?;
    let scratch = tempfile::Builder::new().prefix("driftmill-w1-").tempdir()?;
    let broker = Broker::open(&scratch.path().join("kafka"))?;
    let input = format!("w1-{}", std::process::id());
    broker.create(&input)?;
    let kept = broker.load(&input, records)?;
    println!("{records} records in, of which W1 keeps {kept}");
    println!("program     CPU-s per million   records/s");
    let bench = Bench {
        broker: &broker,
        input: &input,
        records,
        scratch: scratch.path(),
        this: std::env::current_exe()?,
    };
    let (mut daemons, mut bares) = (0, 0);
    let pairs = interleave(
        pairs,
        || {
            daemons += 1;
            bench.daemon(daemons, kept)
        },
        || {
            bares += 1;
            bench.bare(bares)
        },
    )?;
    println!("pair   driftmill   bare   ratio");
    for (number, pair) in pairs.iter().enumerate() {
        println!(
            "{:4}   {:9.2}   {:4.2}   {:5.2}",
            number + 1,
            pair.ours,
            pair.other,
            pair.ratio()
        );
    }
    println!(
        "median {:9.2}   {:4.2}   {:5.2}",
        median(pairs.iter().map(|pair| pair.ours)),
        median(pairs.iter().map(|pair| pair.other)),
        median(pairs.iter().map(|pair| pair.ratio()))
    );
    Ok(())
}

struct Bench<'a> {
    broker: &'a Broker,
    input: &'a str,
    records: u64,
    scratch: &'a Path,
    this: PathBuf,
}

impl Bench<'_> {
    /// The daemon's cost; the binary lies beside this one.
    fn daemon(&self, turn: usize, kept: u64) -> Result<f64, Failure> {
        let output = format!("{}-driftmill-{turn}", self.input);
        let binary = self.this.with_file_name("driftmill");
        if !binary.exists() {
            return Err(format!("{} is not there: build the package driftmill, too", binary.display()).into());
        }
        let file = self.scratch.join(format!("{output}.toml"));
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let state = self.scratch.join(&output);
        let text = pipeline(&self.broker.bootstrap, self.input, &output, &state, &listen);
        std::fs::write(&file, text)?;
        let words = [binary.to_string_lossy(), "run".into(), file.to_string_lossy()];
        self.measure("driftmill", &words.each_ref().map(AsRef::as_ref), &output, kept)
    }

    fn bare(&self, turn: usize) -> Result<f64, Failure> {
        let output = format!("{}-bare-{turn}", self.input);
        let this = self.this.to_string_lossy();
        let words = [&*this, "bare", &self.broker.bootstrap, self.input, &output];
        self.measure("bare", &words, &output, self.records)
    }

    /// CPU-seconds of the whole process for a million input records, between 10 % and 90 % of the output.
    fn measure(&self, name: &str, command: &[&str], output: &str, outputs: u64) -> Result<f64, Failure> {
        self.broker.create(output)?;
        let log = self.scratch.join(format!("{output}.log"));
        let run = Pinned::spawn(PROGRAM_CORE, command, &log).and_then(|mut program| {
            let samples = self.watch(&mut program, output, outputs);
            program.stop(Duration::from_secs(10));
            samples
        });
        let samples = run.map_err(|error| {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            format!("{name}: {error}\n{said}")
        })?;
        let window = window(&samples, outputs).ok_or("the run was over too soon: take more records")?;
        let share = window.written as f64 / outputs as f64;
        let millions = share * self.records as f64 / 1e6;
        let cost = window.cpu_s / millions;
        println!("{name:10} {cost:18.2} {:11.0}", millions * 1e6 / window.seconds);
        Ok(cost)
    }

    fn watch(&self, program: &mut Pinned, output: &str, outputs: u64) -> Result<Vec<Sample>, Failure> {
        let start = Instant::now();
        let (mut samples, mut changed) = (Vec::<Sample>::new(), start);
        loop {
            std::thread::sleep(LOOK);
            program.check()?;
            let written = self.broker.records(output)?;
            samples.push(Sample {
                seconds: start.elapsed().as_secs_f64(),
                written,
                cpu_s: program.cpu_s()?,
            });
            if written > outputs {
                return Err(format!("{written} records written, {outputs} expected").into());
            }
            if written == outputs {
                return Ok(samples);
            }
            let before = samples.len().checked_sub(2).map_or(0, |last| samples[last].written);
            if written != before {
                changed = Instant::now();
            } else if changed.elapsed() > STALL {
                return Err(format!("stands still after {written} of {outputs} records").into());
            }
        }
    }
}

/// A look at a run; of a window, the difference of two.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    seconds: f64,
    written: u64,
    cpu_s: f64,
}

/// What lies between 10 % and 90 % of the output: neither start nor end.
fn window(samples: &[Sample], outputs: u64) -> Option<Sample> {
    let at = |percent: u64| samples.iter().find(|sample| sample.written * 100 >= outputs * percent);
    let (first, last) = (at(10)?, at(90)?);
    (last.written > first.written).then(|| Sample {
        seconds: last.seconds - first.seconds,
        written: last.written - first.written,
        cpu_s: last.cpu_s - first.cpu_s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_and_end_do_not_count() {
        let sample = |written: u64| Sample {
            seconds: written as f64,
            written,
            cpu_s: written as f64 / 2.0,
        };
        let samples: Vec<Sample> = (0..=20).map(|step| sample(step * 5)).collect();
        let expected = Sample {
            seconds: 80.0,
            written: 80,
            cpu_s: 40.0,
        };
        assert_eq!(window(&samples, 100), Some(expected));
        assert_eq!(window(&samples[..1], 100), None);
        assert_eq!(window(&[sample(0), sample(100)], 100), None);
    }
}
