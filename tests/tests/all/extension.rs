//! A newcomer's first extension, as ARCHITECTURE.md tells it: one file with a detector and the lines that name it. The
//! suite of its contract walks it, the generated reference shows it, and a running daemon exports what it says.
//!
//! In a copy of the workspace, with the target folder of this one: only models and engine are compiled again, in about
//! five minutes on two cores. So it runs where `DRIFTMILL_EXTENSION=1` says so, as .ci/run does.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use driftmill_tests::metrics::Metrics;

/// The binary's name in the copy: beside the real one in the same folder, and not in its place.
const BINARY: &str = "driftmill-extension";

/// The files of a workspace by their paths within it.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Reads a folder, without what is built.
fn read(root: &Path, folder: &Path, files: &mut Files) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (name, path) = (entry.file_name(), entry.path());
        if name == "target" || name == ".git" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            read(root, &path, files);
        } else {
            files.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
        }
    }
}

/// Makes a folder hold these files. One that is as it should be is not touched, so that cargo need not build it again.
fn write(files: &Files, folder: &Path) {
    let mut there = Files::new();
    if folder.exists() {
        read(folder, folder, &mut there);
    }
    for path in there.keys().filter(|path| !files.contains_key(*path)) {
        fs::remove_file(folder.join(path)).unwrap();
    }
    for (path, content) in files
        .iter()
        .filter(|(path, content)| there.get(*path) != Some(*content))
    {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Puts `after` behind the only place where `before` stands in a file.
fn add(files: &mut Files, file: &str, before: &str, after: &str) {
    let content = files.get_mut(Path::new(file)).unwrap();
    let text = String::from_utf8(content.clone()).unwrap();
    assert_eq!(text.matches(before).count(), 1, "`{before}` in {file}");
    *content = text.replace(before, &format!("{before}{after}")).into_bytes();
}

/// The target folder that this test was built in.
fn target() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/PROFILE/deps/TEST
    test.ancestors().nth(3).unwrap().to_owned()
}

/// Runs cargo in the copy; what it and what it ran said.
fn cargo(workspace: &Path, arguments: &[&str]) -> String {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        // Compiled once and hardly run: the speed of the compiler is all that counts here.
        .args(["--config", "profile.dev.package.driftmill-models.opt-level=1"])
        .args(arguments)
        .env("CARGO_TARGET_DIR", target())
        .env("CARGO_NET_OFFLINE", "true")
        .current_dir(workspace)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "cargo {arguments:?}: {said}");
    said
}

/// The daemon, ended with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_new_detector_is_one_file_and_a_line_and_is_found_everywhere() {
    if std::env::var_os("DRIFTMILL_EXTENSION").is_none_or(|value| value != "1") {
        return driftmill_tests::left_out("it compiles the engine again; DRIFTMILL_EXTENSION=1 runs it");
    }
    let mut files = Files::new();
    read(&driftmill_tests::root(), &driftmill_tests::root(), &mut files);
    let binary = format!("\n[[bin]]\nname = \"{BINARY}\"\npath = \"src/main.rs\"\n");
    files
        .get_mut(Path::new("engine/Cargo.toml"))
        .unwrap()
        .extend(binary.bytes());

    // Another version: in one target folder cargo would take crates of one name, version and place in their workspace for
    // the same, and this one's for those of the copy.
    let version = concat!("version = \"", env!("CARGO_PKG_VERSION"));
    add(&mut files, "Cargo.toml", version, "-extension");

    // What ARCHITECTURE.md says: the file, its module, the line in the list. Nothing else.
    let template = files[Path::new("tests/extension/ddm.rs")].clone();
    files.insert(PathBuf::from("models/src/detectors/ddm.rs"), template);
    let list = "models/src/detectors/mod.rs";
    add(&mut files, list, "pub mod calibrate;\n", "pub mod ddm;\n");
    add(&mut files, list, "&monitor::KsKind", ", &ddm::DdmKind");

    // A pipeline names it: that of the quickstart.
    add(
        &mut files,
        "config/examples/quickstart.toml",
        "[[drift]]\nname     = \"inputs\"",
        "\non = \"features\"\n\n[[drift]]\nname = \"extension\"\non = \"log-loss\"\ndetector = \"ddm\"\ndrift = 3.5\n\n\
         [[drift]]\nname     = \"again\"",
    );
    // Always the same place: a second run builds only what changed.
    let workspace = target().join("extension");
    write(&files, &workspace);

    // Its contract's suite walks it, and holds; so do its own tests.
    let tests = [
        "test",
        "-p",
        "driftmill-models",
        "--lib",
        "--",
        "detectors",
        "--show-output",
    ];
    let said = cargo(&workspace, &tests);
    for expected in [
        "detectors::ddm::tests::warnings_and_alarms_are_those_of_river ... ok",
        "every_detector_keeps_its_contract ... ok",
        "ddm (its example), ddm (no keys)",
    ] {
        assert!(said.contains(expected), "no `{expected}` in {said}");
    }

    cargo(&workspace, &["build", "-p", "driftmill", "--bin", BINARY]);
    let binary = std::env::current_exe()
        .unwrap()
        .ancestors()
        .nth(2)
        .unwrap()
        .join(BINARY);

    // The generated reference shows it.
    let reference = Command::new(&binary).arg("reference").output().unwrap();
    let reference = String::from_utf8(reference.stdout).unwrap();
    assert!(
        reference.contains("The rate of errors against the lowest"),
        "{reference}"
    );
    assert!(reference.contains("Deviations above the lowest rate that are a warning"));

    // A running daemon exports what it says.
    let scratch = tempfile::tempdir().unwrap();
    let mut daemon = Command::new(&binary)
        .env("TMPDIR", scratch.path())
        .args(["quickstart", "--for", "60s", "--no-drift"])
        .stdout(Stdio::piped())
        .spawn()
        .map(Ended)
        .unwrap();
    let mut lines = BufReader::new(daemon.0.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let url = lines.by_ref().find_map(|line| {
        let at = line.find("http://")?;
        Some(line[at..].split_whitespace().next()?.to_owned())
    });
    let url = url.expect("quickstart says where its metrics are");
    let drain = std::thread::spawn(move || lines.count());
    let labels = [("detector", "extension"), ("feature", "loss")];
    let begun = Instant::now();
    let state = loop {
        let page = ureq::get(&url)
            .call()
            .ok()
            .and_then(|mut page| page.body_mut().read_to_string().ok());
        let metrics = page.and_then(|page| Metrics::parse(&page).ok()).unwrap_or_default();
        let is_in = |state: &&str| {
            let of_state = [labels[0], labels[1], ("state", *state)];
            metrics.get("driftmill_drift_state", &of_state) == Some(1.0)
        };
        if let Some(state) = ["stable", "warning", "drift"].into_iter().find(is_in) {
            assert!(
                metrics
                    .get("driftmill_drift_threshold", &labels)
                    .is_some_and(|threshold| threshold > 0.0)
            );
            break state;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(300),
            "no verdict of the new detector in {url}"
        );
        std::thread::sleep(Duration::from_millis(200));
    };
    println!("driftmill_drift_state{{detector=\"extension\",state=\"{state}\"}} 1");
    drop(daemon);
    drain.join().unwrap();
}
