//! The registry: artifacts by their content, and the history of what was live.
//!
//! A folder with `objects/<2 hex>/<BLAKE3 in hex>` and `deployments.jsonl`. The history is a projection of the
//! epoch log that outlives its trimming: a replay appends the same deployments again, and they are not doubled.

mod deployments;
mod location;

pub use deployments::Deployment;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskError, write_atomic};

/// The registry could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The system refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A place that this version cannot use.
    #[error("registry `{url}`: {why}")]
    Location {
        /// As configured.
        url: String,
        /// Why not, and what to write instead.
        why: String,
    },
    /// Not the hash of an artifact.
    #[error("`{hash}` is not the hash of an artifact: 64 digits of lower-case hex")]
    NotAHash {
        /// What was asked for.
        hash: String,
    },
    /// There is no such artifact.
    #[error("artifact {hash} is not in the registry `{}`; is it the registry that the pipeline wrote to?", dir.display())]
    Missing {
        /// Its hash.
        hash: String,
        /// The folder of the registry.
        dir: PathBuf,
    },
    /// An artifact is not what it was.
    #[error("artifact `{}` is damaged: its content has the hash {found}; restore it from a copy", file.display())]
    Damaged {
        /// Its file.
        file: PathBuf,
        /// The hash of what is there.
        found: String,
    },
    /// A line of the history is not what it was.
    #[error("`{}` line {line} is damaged: {why}; restore the file from a copy, or remove the line", file.display())]
    DamagedHistory {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// A registry in a local folder.
#[derive(Debug, Clone)]
pub struct Registry {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Registry {
    /// Opens the registry in a folder (see [`Registry::folder`]), which is made when it is missing.
    ///
    /// # Errors
    /// The system.
    pub fn open(disk: Arc<dyn Disk>, dir: impl Into<PathBuf>) -> Result<Self, RegistryError> {
        let dir = dir.into();
        disk.create_dir(&dir)?;
        Ok(Self { disk, dir })
    }

    /// The folder that `url` (`file:///path` or a path) stands for; touches nothing.
    ///
    /// # Errors
    /// A place that is not supported, by name.
    pub fn folder(url: &str) -> Result<PathBuf, RegistryError> {
        location::folder(url).map_err(|why| RegistryError::Location {
            url: url.to_owned(),
            why,
        })
    }

    /// Keeps an artifact and returns its hash; when it returns, the artifact is durable. Putting it again does
    /// nothing but repair it.
    ///
    /// # Errors
    /// The system.
    pub fn put(&self, artifact: &[u8]) -> Result<String, RegistryError> {
        let hash = blake3::hash(artifact).to_hex().to_string();
        let path = self.object(&hash)?;
        let parent = path.parent().unwrap_or(&self.dir);
        if self.disk.read(&path).is_ok_and(|there| there == artifact) {
            self.disk.sync_dir(parent)?;
        } else {
            self.disk.create_dir(parent)?;
            write_atomic(&*self.disk, &path, artifact)?;
        }
        Ok(hash)
    }

    /// An artifact, whose hash was checked.
    ///
    /// # Errors
    /// There is none, it is damaged, or the system.
    pub fn get(&self, hash: &str) -> Result<Vec<u8>, RegistryError> {
        let file = self.object(hash)?;
        let artifact = self.disk.read(&file).map_err(|error| match error.is_missing() {
            true => RegistryError::Missing {
                hash: hash.to_owned(),
                dir: self.dir.clone(),
            },
            false => error.into(),
        })?;
        let found = blake3::hash(&artifact).to_hex().to_string();
        if found != hash {
            return Err(RegistryError::Damaged { file, found });
        }
        Ok(artifact)
    }

    /// The file of an artifact. Only hashes become paths.
    fn object(&self, hash: &str) -> Result<PathBuf, RegistryError> {
        let is_hex = hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match hash.split_at_checked(2).filter(|_| is_hex && hash.len() == 64) {
            Some((folder, _)) => Ok(self.dir.join("objects").join(folder).join(hash)),
            None => Err(RegistryError::NotAHash { hash: hash.to_owned() }),
        }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand_pcg::Pcg64Mcg;

    use super::*;
    use crate::disk::LocalDisk;
    use crate::disk::faulty::FaultyDisk;

    fn open(dir: &Path) -> Registry {
        Registry::open(Arc::new(LocalDisk), dir).unwrap()
    }

    #[test]
    fn an_artifact_is_kept_once_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let registry = open(dir.path());
        let hash = registry.put(b"a model").unwrap();
        assert_eq!(registry.put(b"a model").unwrap(), hash);
        assert_eq!(registry.get(&hash).unwrap(), b"a model");
        assert!(dir.path().join("objects").join(&hash[..2]).join(&hash).is_file());
    }

    #[test]
    fn no_name_but_a_hash_reaches_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let registry = open(dir.path());
        let upper = "A".repeat(64);
        for wrong in [
            "",
            "é",
            "../../../../etc/passwd",
            &upper,
            &"a".repeat(63),
            &format!("../{}", "a".repeat(61)),
        ] {
            assert!(
                matches!(registry.get(wrong), Err(RegistryError::NotAHash { .. })),
                "{wrong}"
            );
        }
        assert!(matches!(
            registry.get(&"a".repeat(64)),
            Err(RegistryError::Missing { .. })
        ));
    }

    #[test]
    fn a_changed_artifact_is_refused_and_put_repairs_it() {
        let dir = tempfile::tempdir().unwrap();
        let registry = open(dir.path());
        let artifact: Vec<u8> = (0..200).collect();
        let hash = registry.put(&artifact).unwrap();
        let path = registry.object(&hash).unwrap();
        for seed in 0..200 {
            let mut random = Pcg64Mcg::new(seed);
            let mut bytes = artifact.clone();
            let at = random.random_range(0..bytes.len());
            if random.random() {
                bytes.truncate(at)
            } else {
                bytes[at] ^= 1 << random.random_range(0..8)
            }
            LocalDisk.write(&path, &bytes).unwrap();
            assert!(
                matches!(registry.get(&hash), Err(RegistryError::Damaged { .. })),
                "seed {seed}"
            );
            registry.put(&artifact).unwrap();
            assert_eq!(registry.get(&hash).unwrap(), artifact, "seed {seed}");
        }
    }

    #[test]
    fn what_was_put_is_there_whenever_the_process_dies() {
        for seed in 0..40 {
            let dir = tempfile::tempdir().unwrap();
            let disk = Arc::new(FaultyDisk::stopping_at(seed as usize % 4, seed));
            let put = Registry::open(disk, dir.path()).unwrap().put(b"a model");
            let hash = blake3::hash(b"a model").to_hex().to_string();
            match open(dir.path()).get(&hash) {
                Ok(artifact) => assert_eq!(artifact, b"a model", "seed {seed}"),
                Err(error) => assert!(
                    put.is_err() && matches!(error, RegistryError::Missing { .. }),
                    "seed {seed}"
                ),
            }
        }
    }
}
