//! The history of what was live: one line of JSON for each deployment, in the order of epochs.
//!
//! Each line ends with `sum`, the BLAKE3 hash of the deployment's own JSON, so that a changed line is found.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Registry, RegistryError};
use crate::disk::write_atomic;

/// The format of lines that this version writes, and the only one it reads.
const VERSION: u32 = 1;
/// Name of the file.
const FILE: &str = "deployments.jsonl";

/// A version that went live, or came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The version, such as `v3@182204`.
    pub version: String,
    /// Hash of its artifact.
    pub artifact: String,
    /// The first epoch that it scored.
    pub epoch: u64,
    /// The time that this epoch was given, in milliseconds since 1970 (UTC).
    pub time_ms: i64,
    /// Why it went live.
    pub reason: String,
    /// What the gate said; empty when it was not asked (the first version, an operator's rollback).
    pub verdict: String,
    /// What it was made of: names such as `job`, `data`, `code`, `plan`, `parent`, and their hashes or versions.
    pub lineage: BTreeMap<String, String>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
struct Line {
    v: u32,
    #[serde(flatten)]
    deployment: Deployment,
    sum: String,
}

#[derive(Deserialize)]
struct Probe {
    v: u64,
}

impl Registry {
    /// All deployments in the order of epochs. An unfinished last line (a process died while it wrote, or writes
    /// just now) is left out.
    ///
    /// # Errors
    /// A damaged line before the last one, or the system.
    pub fn list(&self) -> Result<Vec<Deployment>, RegistryError> {
        Ok(self.history()?.0)
    }

    /// Adds a deployment, durably. One of the same epoch and version is there already after a replay: then
    /// nothing is done, and the answer is false.
    ///
    /// # Errors
    /// A damaged history, or the system; afterwards the deployment may be there or not.
    pub fn append(&self, deployment: &Deployment) -> Result<bool, RegistryError> {
        let (mut history, is_torn) = self.history()?;
        let is_same = |there: &Deployment| there.epoch == deployment.epoch && there.version == deployment.version;
        let is_new = !history.iter().any(is_same);
        if is_new {
            // A later epoch is there already only when the log was cut and goes on: keep the order of epochs.
            let at = history.partition_point(|there| there.epoch <= deployment.epoch);
            history.insert(at, deployment.clone());
        }
        if is_new || is_torn {
            // Deployments are rare and few: a whole new file is simpler than repairing the end of the old one.
            let text: String = history.iter().map(render).collect();
            write_atomic(&*self.disk, &self.history_file(), text.as_bytes())?;
        }
        Ok(is_new)
    }

    /// The deployment that was live at a time (in milliseconds since 1970, UTC, as epochs were stamped); `None`
    /// before the first.
    ///
    /// # Errors
    /// As [`Registry::list`].
    pub fn what_served_at(&self, time_ms: i64) -> Result<Option<Deployment>, RegistryError> {
        let history = self.list()?;
        Ok(history
            .into_iter()
            .rev()
            .find(|deployment| deployment.time_ms <= time_ms))
    }

    fn history_file(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// All deployments, and whether the last line is unfinished.
    fn history(&self) -> Result<(Vec<Deployment>, bool), RegistryError> {
        let file = self.history_file();
        let text = match self.disk.read(&file) {
            Err(error) if error.is_missing() => return Ok((Vec::new(), false)),
            other => other?,
        };
        let mut lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
        let is_torn = lines.pop().is_some_and(|rest| !rest.is_empty());
        let mut history = Vec::with_capacity(lines.len());
        for (index, line) in lines.iter().enumerate() {
            let deployment = parse(line).map_err(|why| RegistryError::DamagedHistory {
                file: file.clone(),
                line: index + 1,
                why,
            })?;
            history.push(deployment);
        }
        Ok((history, is_torn))
    }
}

/// The line of a deployment, with its line feed.
#[expect(
    clippy::expect_used,
    reason = "structs of strings, numbers and maps by name always have a JSON form"
)]
fn render(deployment: &Deployment) -> String {
    let body = serde_json::to_vec(deployment).expect("plain data");
    let line = Line {
        v: VERSION,
        deployment: deployment.clone(),
        sum: blake3::hash(&body).to_hex().to_string(),
    };
    serde_json::to_string(&line).expect("plain data") + "\n"
}

fn parse(line: &[u8]) -> Result<Deployment, String> {
    let unreadable = |error: serde_json::Error| format!("not a deployment: {error}");
    let found = serde_json::from_slice::<Probe>(line).map_err(unreadable)?.v;
    if found != u64::from(VERSION) {
        return Err(format!(
            "it has format {found}, this version of driftmill reads {VERSION}: start the version that wrote it"
        ));
    }
    let Line { deployment, .. } = serde_json::from_slice(line).map_err(unreadable)?;
    if render(&deployment).as_bytes().strip_suffix(b"\n") != Some(line) {
        return Err("its content does not have the hash in `sum`".to_owned());
    }
    Ok(deployment)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use rand::RngExt;
    use rand_pcg::Pcg64Mcg;

    use super::*;
    use crate::disk::faulty::FaultyDisk;
    use crate::disk::{Disk, LocalDisk};

    fn open(dir: &Path) -> Registry {
        Registry::open(Arc::new(LocalDisk), dir).unwrap()
    }

    fn deployment(epoch: u64) -> Deployment {
        Deployment {
            version: format!("v1@{epoch}"),
            artifact: "ab".repeat(32),
            epoch,
            time_ms: epoch as i64 * 1000,
            reason: "better by 0.03 \"Brier\"\n".to_owned(),
            verdict: "promote".to_owned(),
            lineage: [
                ("job".to_owned(), "j".to_owned()),
                ("code".to_owned(), "0.1.0".to_owned()),
            ]
            .into(),
        }
    }

    #[test]
    fn a_replay_doubles_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let registry = open(dir.path());
        assert_eq!(registry.list().unwrap(), []);
        let all = [deployment(3), deployment(7), deployment(9)];
        for deployment in &all {
            assert!(registry.append(deployment).unwrap());
        }
        for deployment in &all {
            assert!(!registry.append(deployment).unwrap());
        }
        assert_eq!(open(dir.path()).list().unwrap(), all);
        registry.append(&deployment(8)).unwrap();
        let epochs: Vec<u64> = registry
            .list()
            .unwrap()
            .iter()
            .map(|deployment| deployment.epoch)
            .collect();
        assert_eq!(epochs, [3, 7, 8, 9]);
    }

    #[test]
    fn history_answers_for_any_time() {
        let dir = tempfile::tempdir().unwrap();
        let registry = open(dir.path());
        [3, 7]
            .iter()
            .for_each(|epoch| assert!(registry.append(&deployment(*epoch)).unwrap()));
        let served = |time| {
            registry
                .what_served_at(time)
                .unwrap()
                .map(|deployment| deployment.epoch)
        };
        assert_eq!(
            [2_999, 3_000, 6_999, 7_000, i64::MAX].map(served),
            [None, Some(3), Some(3), Some(7), Some(7)]
        );
    }

    #[test]
    fn an_unfinished_line_is_left_out_and_then_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let registry = open(dir.path());
        [3, 7]
            .iter()
            .for_each(|epoch| assert!(registry.append(&deployment(*epoch)).unwrap()));
        let path = registry.history_file();
        let whole = LocalDisk.read(&path).unwrap();
        let first = render(&deployment(3)).len();
        for end in first..whole.len() {
            LocalDisk.write(&path, &whole[..end]).unwrap();
            assert_eq!(registry.list().unwrap(), [deployment(3)], "cut at {end}");
            assert!(registry.append(&deployment(7)).unwrap());
            assert_eq!(LocalDisk.read(&path).unwrap(), whole, "cut at {end}");
        }
    }

    #[test]
    fn changed_bytes_are_an_error_or_cut_never_another_history() {
        let dir = tempfile::tempdir().unwrap();
        let registry = open(dir.path());
        let all = [3, 7, 9].map(deployment);
        all.iter()
            .for_each(|deployment| assert!(registry.append(deployment).unwrap()));
        let path = registry.history_file();
        let whole = LocalDisk.read(&path).unwrap();
        for seed in 0..2000 {
            let mut random = Pcg64Mcg::new(seed);
            let mut bytes = whole.clone();
            let at = random.random_range(0..bytes.len());
            match random.random_range(0..3) {
                0 => bytes[at] ^= 1 << random.random_range(0..8),
                1 => bytes.truncate(at),
                _ => bytes.insert(at, random.random()),
            }
            LocalDisk.write(&path, &bytes).unwrap();
            match registry.list() {
                Ok(read) => assert_eq!(read, all[..read.len()], "seed {seed}"),
                Err(error) => assert!(
                    error.to_string().contains("deployments.jsonl` line"),
                    "seed {seed}: {error}"
                ),
            }
        }
    }

    #[test]
    fn another_format_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let registry = open(dir.path());
        LocalDisk
            .write(&registry.history_file(), b"{\"v\":4,\"future\":true}\n")
            .unwrap();
        let refused = registry.list().unwrap_err().to_string();
        assert!(refused.contains("line 1") && refused.contains("format 4"), "{refused}");
    }

    #[test]
    fn a_process_that_dies_anywhere_loses_nothing_that_was_there() {
        for seed in 0..60 {
            let dir = tempfile::tempdir().unwrap();
            let disk = Arc::new(FaultyDisk::stopping_at(seed as usize % 12, seed));
            let registry = Registry::open(disk, dir.path()).unwrap();
            let done = (1..=4)
                .take_while(|epoch| registry.append(&deployment(*epoch)).is_ok())
                .count();
            let read = open(dir.path()).list().unwrap();
            let expected: Vec<Deployment> = (1..=read.len() as u64).map(deployment).collect();
            assert!(read.len() >= done && read == expected, "seed {seed}");
        }
    }
}
