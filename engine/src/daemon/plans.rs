//! Plans by hash. A replay runs each epoch under the plan of its time; therefore every plan that was ever in force is
//! kept, as the text of its configuration, in a file that only the owner reads.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{Disk, DiskError, write_atomic};
use crate::settings::{Plan, Settings};

/// A plan of the past is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file.
    #[error("{0}")]
    Disk(#[from] DiskError),
    /// It is not what it was.
    #[error("{path}: {what}; restore this file from a backup: epochs that are to be replayed ran under it", path = path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// The plans of one pipeline.
pub(super) struct PlanBook {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// The configuration in force, by whose folder relative paths in old ones are resolved.
    config: PathBuf,
    known: HashMap<String, Arc<Plan>>,
}

impl PlanBook {
    /// Opens the folder `dir`; `config` is the path of the configuration in force.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: PathBuf, config: PathBuf) -> Result<Self, DiskError> {
        disk.create_dir(&dir)?;
        Ok(Self {
            disk,
            dir,
            config,
            known: HashMap::new(),
        })
    }

    fn path(&self, hash: &str) -> PathBuf {
        self.dir.join(format!("{hash}.toml"))
    }

    /// Keeps the plan in force and the text that it was made of.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(super) fn keep(&mut self, plan: Arc<Plan>, text: &str) -> Result<(), DiskError> {
        let path = self.path(&plan.hash);
        write_atomic(&*self.disk, &path, text.as_bytes())?;
        self.known.insert(plan.hash.clone(), plan);
        Ok(())
    }

    /// The plan with this hash.
    ///
    /// # Errors
    /// A file that is missing or does not make this plan any more.
    pub(super) fn get(&mut self, hash: &str) -> Result<Arc<Plan>, PlanError> {
        if let Some(plan) = self.known.get(hash) {
            return Ok(Arc::clone(plan));
        }
        let path = self.path(hash);
        let changed = |what: String| PlanError::Changed {
            path: path.clone(),
            what,
        };
        let bytes = self.disk.read(&path)?;
        let text = String::from_utf8(bytes).map_err(|error| changed(error.to_string()))?;
        let shown = self.config.with_file_name(format!("kept plan {hash}"));
        let settings = Settings::parse(&shown.display().to_string(), &text)
            .map_err(|problems| changed(format!("it is not valid any more\n{}", problems.render())))?;
        let plan = settings.plan;
        if plan.hash != hash {
            return Err(changed(format!("it makes the plan {}, not {hash}", plan.hash)));
        }
        self.known.insert(hash.to_owned(), Arc::clone(&plan));
        Ok(plan)
    }
}
