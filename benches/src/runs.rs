//! A program that reads a topic which is full already and writes another: what it costs between two points of its
//! output.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::broker::Broker;
use crate::pipelines::Place;
use crate::process::Pinned;
use crate::scrape::Page;

/// The broker, a trainer, and the harness, which looks at the output topic every 50 ms.
pub const BROKER_CORE: usize = 0;
/// The program that is measured.
pub const PROGRAM_CORE: usize = 1;
const LOOK: Duration = Duration::from_millis(50);
/// When every record is written, the daemon's gauges need so long to say so: it refreshes them twice a second.
const SETTLE: Duration = Duration::from_secs(1);
/// A run that writes nothing for so long has failed.
const STALL: Duration = Duration::from_secs(60);

/// Where programs run.
pub struct Ground<'a> {
    /// The cluster.
    pub broker: &'a Broker,
    /// The full topic.
    pub input: &'a str,
    /// Its records.
    pub records: u64,
    /// Records of them that the pipelines keep.
    pub kept: u64,
    /// Whether they tell when their label became known.
    pub labelled: bool,
    /// A folder for configurations, states and logs.
    pub scratch: &'a Path,
    /// Percent of the output before and after which nothing counts.
    pub window: (u64, u64),
}

/// A daemon that was configured.
pub struct Daemon {
    /// Its name and output topic.
    pub name: String,
    /// Its configuration.
    pub file: PathBuf,
    /// Its state.
    pub state: PathBuf,
    /// Where it listens.
    pub listen: String,
    command: Vec<String>,
}

impl Daemon {
    /// Lets it log as `filter` says.
    #[must_use]
    pub fn logging(mut self, filter: &str) -> Self {
        // `env` becomes the program.
        self.command
            .splice(0..0, ["env".to_owned(), format!("DRIFTMILL_LOG={filter}")]);
        self
    }
}

/// A look at a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Seconds since the program was started.
    pub seconds: f64,
    /// Records that it has written.
    pub written: u64,
    /// CPU-seconds of the process.
    pub cpu_s: f64,
    /// CPU-seconds of its threads by name.
    pub threads_s: BTreeMap<String, f64>,
}

/// What a run cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// CPU-seconds of the process for a million input records.
    pub cpu_s: f64,
    /// The same for its threads, by name.
    pub threads_s: BTreeMap<String, f64>,
    /// Input records in a second.
    pub rate: f64,
    /// The looks at which the window began and ended.
    pub ends: [Sample; 2],
    /// Its metrics when the window began and when all was done, of a program that has some.
    pub pages: Option<[Page; 2]>,
}

/// What was seen of a run.
struct Watched {
    ends: [Sample; 2],
    pages: Option<[Page; 2]>,
}

impl Ground<'_> {
    /// Configures a daemon, whose binary lies beside this one: `config` makes its configuration.
    ///
    /// # Errors
    /// No such binary, or a file that cannot be written.
    pub fn daemon(&self, name: &str, config: impl FnOnce(&Place<'_>) -> String) -> Result<Daemon, Failure> {
        let binary = std::env::current_exe()?.with_file_name("driftmill");
        if !binary.exists() {
            return Err(format!("{} is not there: build the package driftmill, too", binary.display()).into());
        }
        let name = format!("{}-{name}", self.input);
        let file = self.scratch.join(format!("{name}.toml"));
        let state = self.scratch.join(&name);
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let place = Place {
            brokers: &self.broker.bootstrap,
            input: self.input,
            output: &name,
            state: &state,
            listen: &listen,
        };
        std::fs::write(&file, config(&place))?;
        let words = [binary.to_string_lossy(), "run".into(), file.to_string_lossy()];
        Ok(Daemon {
            command: words.iter().map(|word| word.clone().into_owned()).collect(),
            name,
            file,
            state,
            listen,
        })
    }

    /// Starts a daemon after having made its output topic.
    ///
    /// # Errors
    /// No topic or no process.
    pub fn start(&self, daemon: &Daemon) -> Result<Pinned, Failure> {
        self.broker.create(&daemon.name)?;
        self.spawn(&daemon.name, &daemon.command)
    }

    /// What a daemon said.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.scratch.join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Measures a daemon.
    ///
    /// # Errors
    /// It ends, stands still or writes too much; or the run is over too soon to be measured.
    pub fn measure(&self, daemon: &Daemon) -> Result<Cost, Failure> {
        let program = self.start(daemon)?;
        self.judge(&daemon.name, program, self.kept, Some(&daemon.listen))
    }

    /// Measures the bare loop, which this program is when its first word is `bare`.
    ///
    /// # Errors
    /// As of a daemon.
    pub fn bare(&self, turn: usize) -> Result<Cost, Failure> {
        let name = format!("{}-bare-{turn}", self.input);
        self.broker.create(&name)?;
        let this = std::env::current_exe()?.to_string_lossy().into_owned();
        let labelled = if self.labelled { "labelled" } else { "plain" };
        let words = ["bare", &self.broker.bootstrap, self.input, &name, labelled];
        let command: Vec<String> = std::iter::once(this).chain(words.map(str::to_owned)).collect();
        let program = self.spawn(&name, &command)?;
        self.judge(&name, program, self.records, None)
    }

    fn spawn(&self, name: &str, command: &[String]) -> Result<Pinned, Failure> {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        Pinned::spawn(PROGRAM_CORE, &words, &self.scratch.join(format!("{name}.log")))
    }

    fn judge(&self, name: &str, mut program: Pinned, outputs: u64, listen: Option<&str>) -> Result<Cost, Failure> {
        let run = self.watch(&mut program, name, outputs, listen);
        program.stop(Duration::from_secs(10));
        let watched = run.map_err(|error| format!("{name}: {error}\n{}", self.log(name)))?;
        let cost = self.cost(watched, outputs);
        tell(&format!(
            "{name}: {:.2} CPU-seconds per million records, {:.0} records/s",
            cost.cpu_s, cost.rate
        ));
        Ok(cost)
    }

    fn cost(&self, Watched { ends, pages }: Watched, outputs: u64) -> Cost {
        let [first, last] = &ends;
        let written = (last.written - first.written) as f64;
        let millions = written / outputs as f64 * self.records as f64 / 1e6;
        let thread = |(name, after): (&String, &f64)| {
            let before = first.threads_s.get(name).copied().unwrap_or_default();
            (name.clone(), (after - before) / millions)
        };
        Cost {
            cpu_s: (last.cpu_s - first.cpu_s) / millions,
            threads_s: last.threads_s.iter().map(thread).collect(),
            rate: millions * 1e6 / (last.seconds - first.seconds),
            ends,
            pages,
        }
    }

    /// The looks at which the window began and ended, and a last one when everything is written.
    fn watch(
        &self,
        program: &mut Pinned,
        output: &str,
        outputs: u64,
        listen: Option<&str>,
    ) -> Result<Watched, Failure> {
        let start = Instant::now();
        let (mut ends, mut before, mut changed) = (Ends::new(self.window), 0, start);
        let mut first = None;
        loop {
            std::thread::sleep(LOOK);
            program.check()?;
            let written = self.broker.records(output)?;
            if written > outputs {
                return Err(format!("{written} records written, {outputs} expected").into());
            }
            if ends.wants(written, outputs) {
                ends.found.push(Sample {
                    seconds: start.elapsed().as_secs_f64(),
                    written,
                    cpu_s: program.cpu_s()?,
                    threads_s: program.threads_s()?,
                });
                if let (None, Some(listen)) = (&first, listen) {
                    first = Some(Page::of(listen)?);
                }
            }
            if written == outputs {
                let ends = ends.both()?;
                let Some((first, listen)) = first.zip(listen) else {
                    return Ok(Watched { ends, pages: None });
                };
                std::thread::sleep(SETTLE);
                let pages = Some([first, Page::of(listen)?]);
                return Ok(Watched { ends, pages });
            }
            if written != before {
                (before, changed) = (written, Instant::now());
            } else if changed.elapsed() > STALL {
                return Err(format!("stands still after {written} of {outputs} records").into());
            }
        }
    }
}

/// Says how a benchmark gets on.
#[expect(
    clippy::print_stderr,
    reason = "a benchmark's progress; its tables go to standard output"
)]
pub fn tell(what: &str) {
    eprintln!("{what}");
}

/// The looks that count, as they are found.
struct Ends {
    percents: [u64; 2],
    found: Vec<Sample>,
}

impl Ends {
    fn new(window: (u64, u64)) -> Self {
        Self {
            percents: [window.0, window.1],
            found: Vec::new(),
        }
    }

    /// Whether this is the first look behind the next end.
    fn wants(&self, written: u64, outputs: u64) -> bool {
        let next = self.percents.get(self.found.len());
        let before = self.found.last().map_or(0, |last| last.written);
        next.is_some_and(|percent| written * 100 >= outputs * percent && written > before)
    }

    fn both(self) -> Result<[Sample; 2], Failure> {
        self.found
            .try_into()
            .map_err(|_| "the run was over too soon: take more records".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was written at the ends of the window of 10 % to 90 % of 100 records.
    fn ends(looks: impl IntoIterator<Item = u64>) -> Option<Vec<u64>> {
        let mut ends = Ends::new((10, 90));
        for written in looks {
            if ends.wants(written, 100) {
                ends.found.push(Sample {
                    written,
                    ..Sample::default()
                });
            }
        }
        Some(ends.both().ok()?.map(|sample| sample.written).to_vec())
    }

    #[test]
    fn start_and_end_do_not_count() {
        assert_eq!(ends((0..=20).map(|step| step * 5)), Some(vec![10, 90]));
        assert_eq!(ends([0, 12, 12, 95, 100]), Some(vec![12, 95]));
        assert_eq!(ends([0, 100]), None);
        assert_eq!(ends([0, 95, 95]), None);
    }
}
