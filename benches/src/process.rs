//! Processes pinned to a core, and the CPU time they take.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;

/// Ticks of `/proc` in a second: part of Linux's interface to programs, 100 on every architecture.
const TICKS_PER_S: f64 = 100.0;

/// A program on one core. It is stopped when this is dropped, and killed by the system when the thread that started it
/// ends without.
#[derive(Debug)]
pub struct Pinned {
    child: Child,
}

impl Pinned {
    /// Runs `command` on `core`; what it says goes to the file `log`. `setpriv` and `taskset` become the program, so the
    /// process id is the program's own.
    ///
    /// # Errors
    /// No such tool, no such core, or a file that cannot be written.
    pub fn spawn(core: usize, command: &[&str], log: &Path) -> Result<Self, Failure> {
        let log = File::create(log)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "taskset", "-c", &core.to_string()])
            .args(command)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("setpriv (Debian: apt-get install util-linux): {error}"))?;
        Ok(Self { child })
    }

    /// Fails when the program has ended.
    ///
    /// # Errors
    /// That it has.
    pub fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait()? {
            Some(status) => Err(format!("the program ended too early: {status}").into()),
            None => Ok(()),
        }
    }

    /// CPU-seconds of all its threads so far, in user and kernel mode.
    ///
    /// # Errors
    /// A process that is gone.
    pub fn cpu_s(&self) -> Result<f64, Failure> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        cpu_ticks(&stat)
            .map(|ticks| ticks as f64 / TICKS_PER_S)
            .ok_or_else(|| format!("not the form of /proc/PID/stat: {stat}").into())
    }

    /// CPU-seconds of each of its threads so far, by the threads' names; those of one name are added up, and those of
    /// librdkafka's are.
    ///
    /// # Errors
    /// A process that is gone.
    pub fn threads_s(&self) -> Result<BTreeMap<String, f64>, Failure> {
        let mut threads = BTreeMap::new();
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // One that has ended meanwhile is no longer counted.
            let Ok(stat) = std::fs::read_to_string(thread?.path().join("stat")) else {
                continue;
            };
            if let (Some(name), Some(ticks)) = (thread_name(&stat), cpu_ticks(&stat)) {
                *threads.entry(name.to_owned()).or_default() += ticks as f64 / TICKS_PER_S;
            }
        }
        Ok(threads)
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Processes that it has started and that have not ended.
    #[must_use]
    pub fn children(&self) -> Vec<u32> {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.child.id())) else {
            return Vec::new();
        };
        let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok());
        lists
            .flat_map(|list| {
                list.split_ascii_whitespace()
                    .filter_map(|id| id.parse().ok())
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// Asks the program to end, and ends it when it needs longer than `patience`.
    pub fn stop(&mut self, patience: Duration) {
        // The standard library knows SIGKILL alone.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop(Duration::from_secs(5));
        }
    }
}

/// Binds this process, and all that it starts from now on, to `core`.
///
/// # Errors
/// No `taskset`, or no such core.
pub fn pin_self(core: usize) -> Result<(), Failure> {
    pin(std::process::id(), core)
}

/// Binds a process, with all its threads, to `core`.
///
/// # Errors
/// No `taskset`, no such core, or no such process.
pub fn pin(process: u32, core: usize) -> Result<(), Failure> {
    let output = Command::new("taskset")
        .args(["-acp", &core.to_string(), &process.to_string()])
        .output()
        .map_err(|error| format!("taskset (Debian: apt-get install util-linux): {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into())
}

/// The 2nd field without its brackets; `rdk:broker1` and its like are `librdkafka`.
fn thread_name(stat: &str) -> Option<&str> {
    let (start, end) = (stat.find('(')?, stat.rfind(')')?);
    let name = stat.get(start + 1..end)?;
    Some(if name.starts_with("rdk:") { "librdkafka" } else { name })
}

/// `utime + stime`, the 14th and 15th field. The 2nd, the program's name in brackets, may hold blanks and brackets.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_a_strange_name() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194304 100 0 0 0 250 31 7 9 20 0 4 0 100 1 2";
        assert_eq!(cpu_ticks(stat), Some(281));
        assert_eq!(cpu_ticks("42 (a) S 1"), None);
        assert_eq!(thread_name(stat), Some("a ) b"));
        assert_eq!(thread_name("42 (rdk:broker1) S 1"), Some("librdkafka"));
        assert_eq!(thread_name("42"), None);
    }

    #[test]
    fn the_threads_of_a_process_are_found_and_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let mut program = Pinned::spawn(0, &["sh", "-c", "sleep 60 & wait"], &log).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while program.children().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let children = program.children();
        assert_eq!(children.len(), 1, "{}", std::fs::read_to_string(&log).unwrap());
        assert_eq!(program.threads_s().unwrap().into_keys().collect::<Vec<_>>(), ["sh"]);
        program.stop(Duration::from_secs(10));
        assert!(program.check().is_err());
        // `sh` ended without it.
        assert!(
            Command::new("kill")
                .arg(children[0].to_string())
                .status()
                .unwrap()
                .success()
        );
    }
}
