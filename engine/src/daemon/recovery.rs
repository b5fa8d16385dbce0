//! How a pipeline starts, as a pure decision: what the newest snapshot and the epoch log say, and what follows.

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Epoch and chain hash of the newest valid snapshot.
    pub snapshot: Option<(u64, String)>,
    /// First and last epoch of the log.
    pub log: Option<(u64, u64)>,
    /// Chain hash that the log has for the snapshot's epoch, where it still holds that epoch.
    pub chain_at_snapshot: Option<String>,
    /// Chain hash before the first epoch that is to be replayed, as that epoch's record says.
    pub chain_before_replay: Option<String>,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recovery {
    /// The pipeline begins.
    Begin,
    /// Epochs after `after` up to `until` are replayed; none when they are equal.
    Replay {
        /// Epoch of the snapshot; 0 without one.
        after: u64,
        /// Last epoch of the log.
        until: u64,
    },
    /// It cannot go on as it is; why, and what to do.
    Refuse(String),
}

/// Decides.
#[must_use]
pub fn decide(found: &Found) -> Recovery {
    match (&found.snapshot, found.log) {
        (None, None) => Recovery::Begin,
        (None, Some((1, last))) => Recovery::Replay { after: 0, until: last },
        (None, Some((first, _))) => Recovery::Refuse(format!(
            "no valid snapshot is left and the epoch log begins at epoch {first}: the state cannot be rebuilt; \
             restore `snapshots` in the state folder from a backup, or give the pipeline another name and state \
             folder to begin anew"
        )),
        (Some((epoch, _)), None) => Recovery::Refuse(format!(
            "there is a snapshot of epoch {epoch} and no epoch log: where to go on cannot be known; restore the log, \
             or remove the state folder to begin anew"
        )),
        (Some((epoch, _)), Some((_, last))) if *epoch > last => Recovery::Refuse(format!(
            "the newest snapshot is of epoch {epoch}, the epoch log ends at {last}: the log was cut or belongs to \
             another pipeline; restore it, or remove the state folder to begin anew"
        )),
        (Some((epoch, _)), Some((first, _))) if first > epoch + 1 => Recovery::Refuse(format!(
            "the newest valid snapshot is of epoch {epoch}, the epoch log begins at {first}: the epochs between them \
             are lost; restore a newer snapshot from a backup"
        )),
        (Some((epoch, chain)), Some((_, last))) => {
            let linked = [&found.chain_at_snapshot, &found.chain_before_replay];
            match linked.into_iter().flatten().find(|known| *known != chain) {
                Some(_) => Recovery::Refuse(format!(
                    "the snapshot of epoch {epoch} and the epoch log tell different histories: they are of different \
                     pipelines, or one was restored without the other; restore both together"
                )),
                None => Recovery::Replay {
                    after: *epoch,
                    until: last,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(snapshot: Option<u64>, log: Option<(u64, u64)>) -> Found {
        Found {
            snapshot: snapshot.map(|epoch| (epoch, format!("chain{epoch}"))),
            log,
            chain_at_snapshot: snapshot.map(|epoch| format!("chain{epoch}")),
            chain_before_replay: None,
        }
    }

    #[test]
    fn every_combination_has_its_answer() {
        assert_eq!(decide(&found(None, None)), Recovery::Begin);
        assert_eq!(
            decide(&found(None, Some((1, 7)))),
            Recovery::Replay { after: 0, until: 7 }
        );
        assert_eq!(
            decide(&found(Some(5), Some((2, 7)))),
            Recovery::Replay { after: 5, until: 7 }
        );
        assert_eq!(
            decide(&found(Some(7), Some((7, 7)))),
            Recovery::Replay { after: 7, until: 7 }
        );
        for refused in [
            found(None, Some((2, 7))),
            found(Some(5), None),
            found(Some(8), Some((1, 7))),
            found(Some(3), Some((5, 7))),
        ] {
            assert!(matches!(decide(&refused), Recovery::Refuse(_)), "{refused:?}");
        }
    }

    #[test]
    fn histories_that_differ_are_refused() {
        let mut other = found(Some(5), Some((2, 7)));
        other.chain_at_snapshot = Some("another".to_owned());
        assert!(matches!(decide(&other), Recovery::Refuse(_)));
        let mut other = found(Some(5), Some((6, 7)));
        other.chain_at_snapshot = None;
        other.chain_before_replay = Some("another".to_owned());
        assert!(matches!(decide(&other), Recovery::Refuse(_)));
    }
}
