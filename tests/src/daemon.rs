//! The daemon as its users run it: a process, a file, an HTTP port, a log.

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::metrics::Metrics;
use crate::outcomes::Balance;

/// How often the harness looks again while it waits.
const PAUSE: Duration = Duration::from_millis(20);
/// How long an outcome may be missing after the daemon has shown no lag.
const SETTLED_MAX: Duration = Duration::from_secs(30);

/// A running `driftmill run`.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    http: String,
    log: PathBuf,
    /// Bytes of the log that earlier runs wrote.
    log_before: usize,
    started: Instant,
}

/// The binary: the one that `DRIFTMILL_BIN` names, or the one beside the tests, brought up to date once a process.
///
/// # Panics
/// When it does not build.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("DRIFTMILL_BIN") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

/// All members at once: with other members' features left out cargo would compile the query engine a second time.
fn build() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    // target/PROFILE/deps/TEST
    let folder = test
        .ancestors()
        .nth(2)
        .expect("a test lies two folders deep")
        .to_owned();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["build", "--quiet", "--workspace", "--bins"])
        .current_dir(crate::root());
    if folder.file_name() == Some(OsStr::new("release")) {
        command.arg("--release");
    }
    command
        .arg("--target-dir")
        .arg(folder.parent().expect("the target folder"));
    let status = command.status().expect("cargo runs");
    assert!(status.success(), "the daemon does not build: {status}");
    folder.join(format!("driftmill{}", std::env::consts::EXE_SUFFIX))
}

/// A free port on loopback. Between here and its use somebody else may take it, so ask late.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("a bound address").port()
}

/// Runs a command of the binary to its end.
pub fn run_to_end<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    Command::new(binary())
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

impl Daemon {
    /// Writes `config` to `dir/pipeline.toml` and runs it. `http` is the address that the file's `[http] listen` names.
    /// The log goes on in `dir/driftmill.log` over restarts.
    pub fn start(dir: &Path, config: &str, http: &str) -> Self {
        Self::start_with(dir, config, http, &[])
    }

    /// [`Daemon::start`] with environment variables.
    pub fn start_with(dir: &Path, config: &str, http: &str, env: &[(&str, &str)]) -> Self {
        let file = dir.join("pipeline.toml");
        std::fs::write(&file, config).expect("the test's folder takes a file");
        let log = dir.join("driftmill.log");
        let stderr = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("the test's folder takes a log");
        let stdout = stderr.try_clone().expect("a second handle of the log");
        let mut command = Command::new(binary());
        command.arg("run").arg(&file).envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let log_before = std::fs::read(&log).unwrap_or_default().len();
        let child = command.spawn().expect("the binary starts");
        Self {
            child,
            http: http.to_owned(),
            log,
            log_before,
            started: Instant::now(),
        }
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that the daemon has written, over restarts too.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// What this run of the daemon has written.
    pub fn log_of_run(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(log.get(self.log_before..).unwrap_or_default()).into_owned()
    }

    /// How long ago it was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// The last line of the log.
    pub fn last_line(&self) -> String {
        self.log().lines().last().unwrap_or_default().to_owned()
    }

    /// Status and body of a GET; `None` when nobody answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(5)));
        let agent = config.build().new_agent();
        let mut response = agent.get(format!("http://{}{path}", self.http)).call().ok()?;
        let body = response.body_mut().read_to_string().ok()?;
        Some((response.status().as_u16(), body))
    }

    /// Whether `/readyz` says 200.
    pub fn is_ready(&self) -> bool {
        self.get("/readyz").is_some_and(|(status, _)| status == 200)
    }

    /// Waits until the daemon is ready, and says how long that took since its start.
    ///
    /// # Panics
    /// When it ends before, or `limit` passes; with the log's end.
    pub fn wait_ready(&mut self, limit: Duration) -> Duration {
        self.wait_for("ready", limit, |daemon| daemon.is_ready().then_some(()));
        self.started.elapsed()
    }

    /// A scrape; `None` when nobody answers.
    ///
    /// # Panics
    /// When the page is not of Prometheus' format.
    pub fn metrics(&self) -> Option<Metrics> {
        let (status, page) = self.get("/metrics")?;
        assert_eq!(status, 200, "/metrics: {page}");
        Some(Metrics::parse(&page).unwrap_or_else(|error| panic!("/metrics: {error}")))
    }

    /// Looks again and again until `look` finds something.
    ///
    /// # Panics
    /// When the daemon ends before, or `limit` passes; with the log's end.
    pub fn wait_for<T>(&mut self, what: &str, limit: Duration, mut look: impl FnMut(&Self) -> Option<T>) -> T {
        let until = Instant::now() + limit;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            if let Some(status) = self.exited() {
                panic!("the daemon ended ({status}) before: {what}\n{}", self.log_end());
            }
            assert!(
                Instant::now() < until,
                "not within {limit:?}: {what}\n{}",
                self.log_end()
            );
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until the daemon has read and committed all of its source: no lag, and `records` outcomes counted since its
    /// start.
    pub fn wait_records(&mut self, records: u64, limit: Duration) {
        self.wait_for(&format!("{records} records done"), limit, |daemon| {
            let metrics = daemon.metrics()?;
            let done = metrics.get("driftmill_records_total", &[]).unwrap_or(0.0);
            let lag = metrics.get("driftmill_source_lag_records", &[])?;
            (done >= records as f64 && lag == 0.0).then_some(())
        });
    }

    /// Waits until nothing is left to read, whoever has read it: for a daemon that was started again.
    pub fn wait_no_lag(&mut self, limit: Duration) {
        self.wait_for("no lag", limit, |daemon| {
            let lag = daemon.metrics()?.get("driftmill_source_lag_records", &[])?;
            (daemon.is_ready() && lag == 0.0).then_some(())
        });
    }

    /// Waits until nothing is left to read and, by `balance`, no outcome is missing. A lag is what the daemon has heard of
    /// its topics, and a moment after a write it may not have heard of that. What is missing for good is the caller's to
    /// find: this gives up after a while.
    pub fn wait_settled(&mut self, limit: Duration, balance: impl Fn() -> Balance) {
        self.wait_no_lag(limit);
        let until = Instant::now() + SETTLED_MAX;
        while !balance().missing.is_empty() && Instant::now() < until {
            std::thread::sleep(PAUSE * 5);
            self.wait_no_lag(limit);
        }
    }

    /// The exit status, when the process has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the daemon is our child")
    }

    /// SIGTERM, then waits for the drain.
    ///
    /// # Panics
    /// When the daemon does not end within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal("TERM");
        self.wait_exit("SIGTERM", limit)
    }

    /// Waits until the daemon has ended because of `what`.
    ///
    /// # Panics
    /// When the daemon does not end within `limit`.
    pub fn wait_exit(&mut self, what: &str, limit: Duration) -> ExitStatus {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.exited() {
                return status;
            }
            assert!(
                Instant::now() < until,
                "{what} did not end the daemon within {limit:?}\n{}",
                self.log_end()
            );
            std::thread::sleep(PAUSE);
        }
    }

    /// SIGKILL: the process gets no chance to tidy up.
    pub fn kill(&mut self) -> ExitStatus {
        self.child.kill().expect("the daemon is our child");
        self.child.wait().expect("the daemon is our child")
    }

    /// Any signal, by its name without `SIG`. It goes through the shell's `kill`: a crate for it would give the engine's
    /// dependencies other features here than alone, and so a second build of all of them.
    pub fn signal(&self, name: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-c", "kill -s \"$1\" \"$2\"", "sh", name, &self.pid().to_string()]);
        let status = shell.status().expect("a shell");
        assert!(status.success(), "cannot send SIG{name} to the daemon: {status}");
    }

    fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
