//! Processes pinned to a core, and the CPU time they take.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;

/// Ticks of `/proc` in a second: part of Linux's interface to programs, 100 on every architecture.
const TICKS_PER_S: f64 = 100.0;

/// A program on one core. It is stopped when this is dropped.
#[derive(Debug)]
pub struct Pinned {
    child: Child,
}

impl Pinned {
    /// Runs `command` on `core`; what it says goes to the file `log`. `taskset` becomes the program, so the process id
    /// is the program's own.
    ///
    /// # Errors
    /// No `taskset`, no such core, or a file that cannot be written.
    pub fn spawn(core: usize, command: &[&str], log: &Path) -> Result<Self, Failure> {
        let log = File::create(log)?;
        let child = Command::new("taskset")
            .args(["-c", &core.to_string()])
            .args(command)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("taskset: {error}"))?;
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
    let output = Command::new("taskset")
        .args(["-acp", &core.to_string(), &std::process::id().to_string()])
        .output()
        .map_err(|error| format!("taskset (Debian: apt-get install util-linux): {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into())
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
    }
}
