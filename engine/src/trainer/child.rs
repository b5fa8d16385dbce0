//! What the process of a trainer does: reads a job, fits, writes the artifact, says in one line of JSON how it went.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use driftmill_models::artifact::Artifact;
use serde::{Deserialize, Serialize};

use super::fit::{Fault, TrainError, fit};
use super::job::Job;
use crate::disk::{Disk, LocalDisk, write_atomic};

/// Steps by which a trainer is nicer than the engine: beside a busy engine it gets a tenth of a core.
const NICE: i32 = 10;
/// Exit code: nothing can be learned from the rows.
const EXIT_DATA: u8 = 2;
/// Exit code: the job or the machine.
const EXIT_FAILED: u8 = 1;
/// Exit code: whoever started the trainer is gone.
const EXIT_ORPHANED: i32 = 3;

/// The last line that a trainer writes to its output.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub(super) enum Report {
    /// The artifact is there.
    Trained {
        /// Id of the job.
        job: String,
        /// Id of the artifact.
        artifact: String,
        /// Length of the artifact.
        bytes: u64,
    },
    /// It could not be made.
    Failed {
        /// Whose fault it is.
        fault: Fault,
        /// Why, in a sentence.
        reason: String,
    },
}

/// Carries out the job in `job_file` with the segments in `segments_dir` (files named by their hashes), and writes
/// the artifact to `out`, which is there whole or not at all. Prints one line of JSON. Runs at low priority, is the
/// first to go when memory runs out, and ends when its standard input, if that is a pipe, is closed.
///
/// Exit codes: 0 trained, 1 the job or the machine failed, 2 nothing can be learned from the rows, 3 orphaned.
#[must_use]
pub fn run_job(job_file: &Path, segments_dir: &Path, out: &Path) -> ExitCode {
    ExitCode::from(run(job_file, segments_dir, out))
}

/// [`run_job`] with its exit code as a number.
pub(super) fn run(job_file: &Path, segments_dir: &Path, out: &Path) -> u8 {
    step_back();
    end_with_parent();
    let (report, code) = match carry_out(job_file, segments_dir, out) {
        Ok(report) => (report, 0),
        Err(error) => {
            let fault = error.fault();
            let reason = error.to_string();
            let code = if fault == Fault::Data { EXIT_DATA } else { EXIT_FAILED };
            (Report::Failed { fault, reason }, code)
        }
    };
    match print(&report) {
        Ok(()) => code,
        Err(_) => EXIT_FAILED,
    }
}

/// From the job file to the artifact.
pub(super) fn carry_out(job_file: &Path, segments_dir: &Path, out: &Path) -> Result<Report, TrainError> {
    let disk = LocalDisk;
    let job = Job::from_bytes(&disk.read(job_file)?)?;
    // `Job::check` has made sure that a hash is nothing but a hash.
    let read = |hash: &str| disk.read(&segments_dir.join(hash)).map_err(|error| error.to_string());
    let artifact = fit(&job, &read)?;
    write_atomic(&disk, out, &artifact)?;
    Ok(Report::Trained {
        job: job.id()?,
        artifact: Artifact::id(&artifact),
        bytes: artifact.len() as u64,
    })
}

fn print(report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// Makes way for everything else on this machine, as far as the system lets it: a trainer that runs at the engine's
/// priority harms the engine's latency and not its answers, so a refusal does not stop the job. Linux keeps the
/// priority by thread: this is called by the one that fits, before it starts others.
fn step_back() {
    #[expect(
        unsafe_code,
        reason = "the standard library has no call for the priority of a process"
    )]
    // SAFETY: `nice` takes a number and touches no memory of ours.
    let _refused_or_new = unsafe { libc::nice(NICE) };
    // Linux: when memory runs out this process goes, and not the engine. Elsewhere there is no such file.
    let _refused = std::fs::write("/proc/self/oom_score_adj", "1000");
}

/// Ends this process when the other end of its standard input is closed, which the system does for an engine that
/// was killed as well. A terminal or a file as input means that somebody started it by hand.
fn end_with_parent() {
    let Ok(mut input) = io::stdin().as_fd().try_clone_to_owned().map(File::from) else {
        return;
    };
    if !input.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) {
        return;
    }
    let watch = move || {
        let mut ignored = [0; 64];
        loop {
            match input.read(&mut ignored) {
                Ok(0) => std::process::exit(EXIT_ORPHANED),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => std::process::exit(EXIT_ORPHANED),
            }
        }
    };
    // Without a thread to watch, an orphan would only run to its end.
    let _detached = thread::Builder::new().name("parent".to_owned()).spawn(watch);
}
