//! The words of the label join: settings, outcomes, counts. What each means stands in [`super::join`].

/// What becomes of rows that never get a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// They are dropped and counted.
    Drop,
    /// No label within the horizon means label 0.
    Negative,
}

/// Checked settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinConfig {
    /// How long after its own time a row may get its label, ms; and how long a label waits for its row.
    pub horizon_ms: i64,
    /// Bytes of waiting and labelled rows; beyond it the oldest segment leaves.
    pub bytes_max: usize,
    /// Bytes of labels that came before their row; beyond it those known for longest become orphans.
    pub early_bytes_max: usize,
    /// Bytes for the keys of rows that left.
    pub late_bytes_max: usize,
    /// What becomes of rows that never get a label.
    pub missing: Missing,
}

/// What became of a label at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelOutcome {
    /// It found its row.
    Matched,
    /// It replaced another label of its row.
    Revised,
    /// It said nothing new, or its row was handed out with a label.
    Duplicate,
    /// Its row's horizon had ended.
    Late,
    /// It waits for its row.
    Early,
    /// There is no row for it and no room to wait.
    Orphan,
}

/// What a call of [`LabelJoin::expire`](super::LabelJoin::expire) found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// Rows dropped.
    pub dropped: u64,
    /// Rows that got label 0.
    pub negatives: u64,
    /// Early labels for which no row came.
    pub orphans: u64,
}

/// Counts since the pipeline began, and what waits now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JoinCounts {
    /// Rows that came.
    pub inserted: u64,
    /// Labels that found their row.
    pub matched: u64,
    /// Labels that replaced another one.
    pub revised: u64,
    /// Labels that said nothing new.
    pub duplicate: u64,
    /// Labels after the horizon of their row.
    pub late: u64,
    /// Labels for nobody.
    pub orphan: u64,
    /// Labels that came before their row: each is counted as matched or orphan too, later.
    pub early: u64,
    /// Rows whose horizon ended and that were dropped.
    pub expired: u64,
    /// Rows whose horizon ended and that got label 0.
    pub negative: u64,
    /// Rows that left because memory ended, or because the columns of the features changed.
    pub evicted: u64,
    /// Rows that left because another one came under their key.
    pub replaced: u64,
    /// Rows handed out with their label.
    pub matured: u64,
    /// Rows here now, labelled or not.
    pub waiting_rows: u64,
    /// Bytes of these rows.
    pub waiting_bytes: u64,
    /// Rows here now that have a label which is not available yet.
    pub labelled_rows: u64,
    /// Labels that wait for their row now.
    pub early_rows: u64,
    /// Bytes of these labels.
    pub early_bytes: u64,
}
