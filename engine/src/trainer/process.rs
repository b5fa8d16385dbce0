//! The seam between the engine and its trainers: [`Process`] starts them, [`Training`] is one that runs.
//! [`LocalProcess`] runs the same binary in a process of its own, [`InProcess`] on the calling thread.
//!
//! Whatever happens to a trainer becomes a [`TrainResult`]; nothing of it reaches the engine in another way. Its
//! artifact is taken only when its hash, its job, its task and its columns are right.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use driftmill_models::artifact::Artifact;

use super::child::Report;
use super::fit::{Fault, TrainError, fit};
use super::job::Job;
use crate::buffer::{FeatureBuffer, SegmentHash};
use crate::disk::{Disk, DiskError, LocalDisk};

/// What the folders of jobs are called first: nothing else in the work folder is ever removed.
const FOLDER: &str = "job-";
/// Bytes of a trainer's last words that are kept.
const LAST_WORDS_BYTES: u64 = 4096;
/// Lines of them.
const LAST_WORDS_LINES: usize = 5;
/// Bytes at the end of a trainer's output in which its report must stand.
const REPORT_BYTES: u64 = 1 << 20;
/// Variables that a trainer inherits; all others, and the secrets among them, are none of its business.
const ENVIRONMENT: [&str; 3] = ["LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "RUST_BACKTRACE"];

/// Bytes of segments by their hashes, shared with the buffer.
pub type Segments = BTreeMap<String, Arc<[u8]>>;

/// The segments of a job, out of the feature buffer; cheap, since bytes are shared.
///
/// # Errors
/// A segment that the buffer no longer has.
pub fn collect_segments(job: &Job, buffer: &FeatureBuffer) -> Result<Segments, TrainError> {
    let find = |hash: &String| {
        let name = blake3::Hash::from_hex(hash)
            .ok()
            .map(|name| SegmentHash(*name.as_bytes()));
        let bytes = name.and_then(|name| buffer.segment_bytes(&name));
        let bytes = bytes.ok_or_else(|| TrainError::Segment {
            hash: hash.clone(),
            what: "it has left the feature buffer; choose the rows anew".to_owned(),
        });
        Ok((hash.clone(), bytes?))
    };
    job.segments.iter().map(|segment| find(&segment.hash)).collect()
}

/// Writes the segments of a job to `folder`, each as a file named by its hash.
///
/// # Errors
/// A segment that is not among `segments`, or a file that cannot be written.
pub fn export_segments(job: &Job, segments: &Segments, folder: &Path) -> Result<(), TrainError> {
    job.check()?;
    for hash in job.segments.iter().map(|segment| &segment.hash) {
        write_scratch(&folder.join(hash), find_segment(segments, hash)?)?;
    }
    Ok(())
}

fn find_segment<'a>(segments: &'a Segments, hash: &str) -> Result<&'a Arc<[u8]>, TrainError> {
    segments.get(hash).ok_or_else(|| TrainError::Segment {
        hash: hash.to_owned(),
        what: "it was not handed over with the job".to_owned(),
    })
}

/// Starts trainers.
pub trait Process: Send + Sync {
    /// Starts a job whose segments are among `segments`. Does I/O: not for the thread that serves.
    ///
    /// # Errors
    /// The job cannot be started; see [`TrainError::fault`].
    fn start(&self, job: &Job, segments: &Segments) -> Result<Box<dyn Training>, TrainError>;
}

/// A job that was started. Dropping it stops it.
pub trait Training: Send {
    /// Id of the job.
    fn job_id(&self) -> &str;
    /// The result, once: `None` before, and after. Reads and checks the artifact when there is one: not for the
    /// thread that serves.
    fn poll(&mut self) -> Option<TrainResult>;
    /// Stops it, at any moment. The next poll says so.
    fn kill(&mut self);
}

/// How a job ended.
#[derive(Debug, Clone)]
pub struct TrainResult {
    /// Id of the job.
    pub job_id: String,
    /// The artifact, or why there is none.
    pub outcome: Result<Trained, TrainFailure>,
}

/// An artifact that was checked: hash, job, task and columns are right.
#[derive(Debug, Clone)]
pub struct Trained {
    /// Id of the artifact.
    pub id: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What the bytes say.
    pub artifact: Artifact,
}

/// Why there is no artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainFailure {
    /// Whose fault it is.
    pub fault: Fault,
    /// In a sentence; after a crash with the trainer's last words.
    pub reason: String,
}

impl fmt::Display for TrainFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.reason)
    }
}

impl std::error::Error for TrainFailure {}

impl TrainFailure {
    fn machine(reason: impl Into<String>) -> Self {
        Self {
            fault: Fault::Machine,
            reason: reason.into(),
        }
    }
}

impl From<TrainError> for TrainFailure {
    fn from(error: TrainError) -> Self {
        Self {
            fault: error.fault(),
            reason: error.to_string(),
        }
    }
}

/// Takes bytes for the artifact of a job, if they are.
fn accept(job: &Job, bytes: Vec<u8>) -> Result<Trained, TrainFailure> {
    let artifact = Artifact::read(&bytes).map_err(|error| TrainFailure::machine(format!("not taken: {error}")))?;
    if artifact.lineage.get("job").and_then(|id| id.as_str()) != Some(job.id()?.as_str()) {
        return Err(TrainFailure::machine("not taken: the artifact is of another job"));
    }
    if artifact.model.task() != job.task {
        return Err(TrainFailure::machine("not taken: the artifact is for another task"));
    }
    let accepts = artifact.model.accepts(&job.columns);
    accepts.map_err(|what| TrainFailure::machine(format!("not taken: {what}")))?;
    Ok(Trained {
        id: Artifact::id(&bytes),
        bytes,
        artifact,
    })
}

/// Trainers as processes of the same binary, each with a folder of its own in the work folder.
#[derive(Debug)]
pub struct LocalProcess {
    exe: PathBuf,
    /// Arguments before the three paths.
    arguments: Vec<OsString>,
    work_dir: PathBuf,
    started: AtomicU64,
}

impl LocalProcess {
    /// Runs `exe train JOB_FILE SEGMENTS_DIR OUT`. Removes what jobs of an earlier engine left in `work_dir`.
    ///
    /// # Errors
    /// The work folder cannot be made or cleared.
    pub fn new(exe: &Path, work_dir: &Path) -> Result<Self, TrainError> {
        LocalDisk.create_dir(work_dir)?;
        remove_leftovers(work_dir).map_err(io_error("clear", work_dir))?;
        Ok(Self {
            exe: exe.to_owned(),
            arguments: vec!["train".into()],
            work_dir: work_dir.to_owned(),
            started: AtomicU64::new(0),
        })
    }

    /// Runs the binary that runs now, even when its file was replaced by a newer one since.
    ///
    /// # Errors
    /// As [`LocalProcess::new`], or the system does not say which binary that is.
    pub fn of_this_binary(work_dir: &Path) -> Result<Self, TrainError> {
        let linux = Path::new("/proc/self/exe");
        let exe = if linux.exists() {
            linux.to_owned()
        } else {
            std::env::current_exe()
                .map_err(|error| TrainError::Process(format!("cannot find the binary of this process: {error}")))?
        };
        Self::new(&exe, work_dir)
    }

    /// The same with other arguments before the paths.
    #[cfg(test)]
    pub(super) fn with_arguments(self, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(OsString::from).collect();
        Self { arguments, ..self }
    }

    /// Starts a trainer, as [`Process::start`] does.
    ///
    /// # Errors
    /// As there.
    pub fn start_trainer(&self, job: &Job, segments: &Segments) -> Result<TrainerProcess, TrainError> {
        let job_id = job.id()?;
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let name = format!("{FOLDER}{}-{}-{number}", &job_id[..16], std::process::id());
        let folder = Folder(self.work_dir.join(name));
        let segments_dir = folder.0.join("segments");
        LocalDisk.create_dir(&segments_dir)?;
        export_segments(job, segments, &segments_dir)?;
        write_scratch(&folder.0.join(JOB), &job.to_bytes()?)?;
        let child = self.spawn(&folder.0, &segments_dir)?;
        Ok(TrainerProcess {
            job: job.clone(),
            job_id,
            child,
            folder,
            stopped: false,
            answered: false,
        })
    }

    fn spawn(&self, folder: &Path, segments_dir: &Path) -> Result<Child, TrainError> {
        let create = |name: &str| {
            let path = folder.join(name);
            File::create(&path).map_err(io_error("write", &path))
        };
        let inherited = ENVIRONMENT
            .iter()
            .filter_map(|name| Some((name, std::env::var_os(name)?)));
        let mut command = Command::new(&self.exe);
        command
            .args(&self.arguments)
            .args([&folder.join(JOB), segments_dir, &folder.join(ARTIFACT)])
            .env_clear()
            .envs(inherited)
            // Closed by the system when this process ends, however it ends; then the trainer ends.
            .stdin(Stdio::piped())
            // Files, not pipes: nobody has to read them while it runs, and it never waits for a reader.
            .stdout(create(OUTPUT)?)
            .stderr(create(LAST_WORDS)?)
            // Ctrl-C on a terminal is for the engine, which then ends its trainers itself.
            .process_group(0);
        let failed = |error| TrainError::Process(format!("cannot start a trainer ({}): {error}", self.exe.display()));
        command.spawn().map_err(failed)
    }
}

/// Names of the files in a job's folder.
const JOB: &str = "job.json";
const ARTIFACT: &str = "artifact";
const OUTPUT: &str = "output";
const LAST_WORDS: &str = "errors";

impl Process for LocalProcess {
    fn start(&self, job: &Job, segments: &Segments) -> Result<Box<dyn Training>, TrainError> {
        Ok(Box::new(self.start_trainer(job, segments)?))
    }
}

/// The folder of a job; removed with all that is in it when it is dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now is removed when the next engine starts.
        let _left = fs::remove_dir_all(&self.0);
    }
}

/// A trainer that runs. Dropping it kills it and removes its folder.
#[derive(Debug)]
pub struct TrainerProcess {
    job: Job,
    job_id: String,
    pub(super) child: Child,
    folder: Folder,
    stopped: bool,
    answered: bool,
}

impl TrainerProcess {
    /// Number of the process.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    fn outcome(&self, status: ExitStatus) -> Result<Trained, TrainFailure> {
        if self.stopped {
            return Err(TrainFailure::machine("the engine stopped the trainer"));
        }
        match (status.success(), self.report()) {
            (true, Some(Report::Trained { job, artifact, bytes })) if job == self.job_id => self.take(&artifact, bytes),
            (false, Some(Report::Failed { fault, reason })) => Err(TrainFailure { fault, reason }),
            _ => Err(TrainFailure::machine(self.obituary(status))),
        }
    }

    /// The last line of its output that is a report.
    fn report(&self) -> Option<Report> {
        let output = tail(&self.folder.0.join(OUTPUT), REPORT_BYTES);
        output.lines().rev().find_map(|line| serde_json::from_str(line).ok())
    }

    /// Reads the artifact that a trainer says it has written.
    fn take(&self, id: &str, bytes_said: u64) -> Result<Trained, TrainFailure> {
        let path = self.folder.0.join(ARTIFACT);
        let bytes = LocalDisk.read(&path).map_err(TrainError::from)?;
        if bytes.len() as u64 != bytes_said || Artifact::id(&bytes) != id {
            return Err(TrainFailure::machine(
                "not taken: the artifact is not the one that the trainer says it has written; check the disk",
            ));
        }
        accept(&self.job, bytes)
    }

    /// How it died.
    fn obituary(&self, status: ExitStatus) -> String {
        let how = match (status.signal(), status.code()) {
            (Some(9), _) => "was killed (signal 9), as the system does when memory runs out".to_owned(),
            (Some(signal), _) => format!("died of signal {signal}"),
            (None, Some(code)) => format!("ended with code {code} and no result"),
            (None, None) => "ended".to_owned(),
        };
        let words = tail(&self.folder.0.join(LAST_WORDS), LAST_WORDS_BYTES);
        let lines: Vec<&str> = words.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines
            .get(lines.len().saturating_sub(LAST_WORDS_LINES)..)
            .unwrap_or_default();
        if last.is_empty() {
            return format!("the trainer {how}; the engine goes on without the job");
        }
        format!("the trainer {how}; its last words: {}", last.join(" | "))
    }
}

impl Training for TrainerProcess {
    fn job_id(&self) -> &str {
        &self.job_id
    }

    fn poll(&mut self) -> Option<TrainResult> {
        if self.answered {
            return None;
        }
        let outcome = match self.child.try_wait() {
            Ok(None) => return None,
            Ok(Some(status)) => self.outcome(status),
            Err(error) => {
                self.kill();
                Err(TrainFailure::machine(format!("the trainer was lost: {error}")))
            }
        };
        self.answered = true;
        Some(TrainResult {
            job_id: self.job_id.clone(),
            outcome,
        })
    }

    fn kill(&mut self) {
        self.stopped = true;
        // An error means that it has ended already.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Drop for TrainerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Carries jobs out on the thread that polls, for simulations and tests of everything around the trainer: no process,
/// no file, the same bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct InProcess;

struct InProcessTraining {
    job: Job,
    job_id: String,
    segments: Segments,
    stopped: bool,
    answered: bool,
}

impl Process for InProcess {
    fn start(&self, job: &Job, segments: &Segments) -> Result<Box<dyn Training>, TrainError> {
        job.check()?;
        for segment in &job.segments {
            find_segment(segments, &segment.hash)?;
        }
        Ok(Box::new(InProcessTraining {
            job: job.clone(),
            job_id: job.id()?,
            segments: segments.clone(),
            stopped: false,
            answered: false,
        }))
    }
}

impl InProcessTraining {
    fn outcome(&self) -> Result<Trained, TrainFailure> {
        if self.stopped {
            return Err(TrainFailure::machine("the engine stopped the trainer"));
        }
        let read = |hash: &str| {
            find_segment(&self.segments, hash)
                .map(|bytes| bytes.to_vec())
                .map_err(|e| e.to_string())
        };
        accept(&self.job, fit(&self.job, &read)?)
    }
}

impl Training for InProcessTraining {
    fn job_id(&self) -> &str {
        &self.job_id
    }

    fn poll(&mut self) -> Option<TrainResult> {
        if std::mem::replace(&mut self.answered, true) {
            return None;
        }
        let outcome = self.outcome();
        Some(TrainResult {
            job_id: self.job_id.clone(),
            outcome,
        })
    }

    fn kill(&mut self) {
        self.stopped = true;
    }
}

/// Removes the folders of jobs whose engine is gone.
fn remove_leftovers(work_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(work_dir)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_string_lossy().starts_with(FOLDER);
        if is_ours && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Writes a file that no machine failure has to survive: a job that is cut short is started anew.
fn write_scratch(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    fs::write(path, bytes).map_err(io_error("write", path))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TrainError {
    move |source| {
        let path = path.to_owned();
        TrainError::Disk(DiskError::Io { action, path, source })
    }
}

/// The end of a file as text; empty when it cannot be read.
fn tail(path: &Path, bytes_max: u64) -> String {
    let length = LocalDisk.len(path).unwrap_or_default();
    let bytes = LocalDisk.read_range(path, length.saturating_sub(bytes_max), bytes_max);
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}
