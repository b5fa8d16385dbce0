//! Whether the user may do what the sink will do, as far as the brokers tell beforehand. Nothing is tried out: a write
//! that is allowed would be a record, and taking a transactional id would fence its owner.

use rdkafka::error::KafkaResult;

use super::admin::Admin;
use super::native_rights::{cluster_operations, topic_operations, transactional_id_acls};
use crate::check::Finding;

/// What a user may do to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    All,
    Read,
    Write,
    Create,
    Delete,
    Describe,
    /// What brokers do among themselves.
    ClusterAction,
    /// One that the sink does not need.
    Other,
}

impl Operation {
    /// The operation of a number of the protocol.
    pub(super) fn from_code(code: u32) -> Self {
        match code {
            2 => Self::All,
            3 => Self::Read,
            4 => Self::Write,
            5 => Self::Create,
            6 => Self::Delete,
            8 => Self::Describe,
            9 => Self::ClusterAction,
            _ => Self::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Create => "CREATE",
            Self::Delete => "DELETE",
            Self::Describe => "DESCRIBE",
            Self::ClusterAction => "CLUSTER_ACTION",
            Self::Other => "another right",
        }
    }
}

/// An entry of an access control list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acl {
    /// `User:NAME`; `User:*` is everybody.
    pub(super) principal: String,
    /// An address; `*` is every one.
    pub(super) host: String,
    pub(super) operation: Operation,
    /// Otherwise it denies.
    pub(super) allows: bool,
}

/// Whether a right is there.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Right {
    Given,
    Missing(String),
    /// Why that cannot be told.
    Unknown(String),
}

/// Finds missing rights on a topic that exists.
pub(super) fn of_topic(admin: &Admin, topic: &str, needed: &[Operation]) -> Option<Finding> {
    let right = decide_topic(topic_operations(admin.client(), topic), needed);
    let remedy = "give the user these rights on the topic";
    finding(right, |what| admin.fault(topic, what, remedy).to_string())
}

/// Finds whether a topic that does not exist may be made.
pub(super) fn of_creation(admin: &Admin, topic: &str) -> Option<Finding> {
    let right = decide_creation(cluster_operations(admin.client()));
    let remedy = "give the user CREATE on this topic or on the cluster, or have the topic made beforehand with one \
                  partition, cleanup.policy=delete, retention.ms=-1 and retention.bytes=-1";
    finding(right, |what| admin.fault(topic, what, remedy).to_string())
}

/// Finds missing rights on the transactional id; `principal` is who we are, where that is known.
pub(super) fn of_transactional_id(admin: &Admin, id: &str, principal: Option<&str>) -> Option<Finding> {
    let acls = transactional_id_acls(admin.client(), id);
    let right = decide_transactional_id(acls, cluster_operations(admin.client()), principal);
    let remedy = format!("see that the user has WRITE and DESCRIBE on the transactional id `{id}`");
    finding(right, |what| {
        admin
            .fault_at(&format!("transactional id `{id}`"), what, &remedy)
            .to_string()
    })
}

fn finding(right: Right, text: impl Fn(String) -> String) -> Option<Finding> {
    match right {
        Right::Given => None,
        Right::Missing(what) => Some(Finding::Error(text(what))),
        Right::Unknown(what) => Some(Finding::Warning(text(what))),
    }
}

fn decide_topic(answer: KafkaResult<Option<Vec<Operation>>>, needed: &[Operation]) -> Right {
    let allowed = match answer {
        Ok(Some(allowed)) => allowed,
        Ok(None) => return Right::Unknown("the brokers do not tell what the user may do: not checked".to_owned()),
        Err(error) => return Right::Unknown(format!("what the user may do could not be checked: {error}")),
    };
    let missing = needed.iter().filter(|&needed| !allowed.contains(needed));
    let missing: Vec<_> = missing.map(|operation| operation.name()).collect();
    if missing.is_empty() {
        Right::Given
    } else {
        Right::Missing(format!("the user has no right to {}", missing.join(", ")))
    }
}

/// The rights on the cluster do not tell all: a topic may be made by a right on its name, too.
fn decide_creation(answer: KafkaResult<Option<Vec<Operation>>>) -> Right {
    match answer {
        Ok(Some(allowed)) if allowed.contains(&Operation::Create) => Right::Given,
        Ok(_) => Right::Unknown("whether the user may make this topic could not be checked".to_owned()),
        Err(error) => Right::Unknown(format!(
            "whether the user may make this topic could not be checked: {error}"
        )),
    }
}

/// An empty list tells nothing by itself: the library keeps to itself that there is no access control, or that we may not
/// see the lists. What the cluster allows us tells these apart.
fn decide_transactional_id(
    acls: KafkaResult<Vec<Acl>>,
    cluster: KafkaResult<Option<Vec<Operation>>>,
    principal: Option<&str>,
) -> Right {
    let unknown = |why: &str| Right::Unknown(format!("the right to WRITE could not be checked: {why}"));
    let acls = match acls {
        Ok(acls) => acls,
        Err(error) => return unknown(&error.to_string()),
    };
    if acls.is_empty() {
        let allowed = cluster.ok().flatten().unwrap_or_default();
        // Only brokers may act as brokers: either everybody may do everything here, or this is a super user.
        if allowed.contains(&Operation::ClusterAction) {
            return Right::Given;
        }
        if !allowed.contains(&Operation::Describe) {
            return unknown("the user may not see access control lists (DESCRIBE on the cluster)");
        }
    }
    let Some(principal) = principal else {
        return unknown("the brokers make the user's name of its certificate");
    };
    let ours = acls
        .iter()
        .filter(|acl| acl.principal == principal || acl.principal == "User:*");
    let ours = ours.filter(|acl| matches!(acl.operation, Operation::Write | Operation::All));
    let (allow, deny): (Vec<_>, Vec<_>) = ours.partition(|acl| acl.allows);
    let everywhere = |acl: &&&Acl| acl.host == "*";
    if deny.iter().any(|acl| everywhere(&acl)) {
        Right::Missing(format!("WRITE is denied to `{principal}`"))
    } else if allow.iter().any(|acl| everywhere(&acl)) && deny.is_empty() {
        Right::Given
    } else if allow.is_empty() && deny.is_empty() {
        // A cluster that allows what no list mentions needs none.
        unknown(&format!("no access control list mentions `{principal}`"))
    } else {
        unknown(&format!("for `{principal}` it depends on the address"))
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::*;

    fn failed<T>(code: RDKafkaErrorCode) -> KafkaResult<T> {
        Err(KafkaError::AdminOp(code))
    }

    fn missing(right: &Right) -> &str {
        match right {
            Right::Missing(what) => what,
            other => panic!("{other:?}"),
        }
    }

    fn unknown(right: &Right) -> &str {
        match right {
            Right::Unknown(what) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_missing_right_on_a_topic_is_named() {
        use Operation::{Delete, Other, Read, Write};
        let needed = [Write, Read, Delete];
        assert_eq!(
            decide_topic(Ok(Some(vec![Read, Other, Write, Delete])), &needed),
            Right::Given
        );
        let some = decide_topic(Ok(Some(vec![Read, Other])), &needed);
        assert_eq!(missing(&some), "the user has no right to WRITE, DELETE");
        assert!(unknown(&decide_topic(Ok(None), &needed)).contains("not checked"));
        let old = decide_topic(failed(RDKafkaErrorCode::UnsupportedFeature), &needed);
        assert!(unknown(&old).contains("could not be checked"));
    }

    #[test]
    fn a_right_on_the_cluster_is_enough_to_make_a_topic_and_its_absence_proves_nothing() {
        assert_eq!(decide_creation(Ok(Some(vec![Operation::Create]))), Right::Given);
        for answer in [
            Ok(Some(Vec::new())),
            Ok(None),
            failed(RDKafkaErrorCode::UnsupportedFeature),
        ] {
            unknown(&decide_creation(answer));
        }
    }

    #[test]
    fn the_right_on_a_transactional_id_follows_its_list() {
        let me = "User:me";
        let acl = |principal: &str, host: &str, operation, allows| Acl {
            principal: principal.to_owned(),
            host: host.to_owned(),
            operation,
            allows,
        };
        let seeing = || Ok(Some(vec![Operation::Describe]));
        let decide = |acls: &[Acl]| decide_transactional_id(Ok(acls.to_vec()), seeing(), Some(me));
        let write = acl(me, "*", Operation::Write, true);
        let denied = acl("User:*", "*", Operation::All, false);
        let here = acl(me, "10.0.0.1", Operation::Write, true);
        assert_eq!(decide(std::slice::from_ref(&write)), Right::Given);
        assert_eq!(decide(&[acl("User:*", "*", Operation::All, true)]), Right::Given);
        assert!(missing(&decide(&[write.clone(), denied])).contains("denied"));
        assert!(unknown(&decide(&[acl("User:you", "*", Operation::Write, true)])).contains("no access control list"));
        assert!(unknown(&decide(&[acl(me, "*", Operation::Read, true)])).contains("no access control list"));
        assert!(unknown(&decide(&[here])).contains("address"));
        assert!(unknown(&decide(&[])).contains("no access control list"));
        let nameless = decide_transactional_id(Ok(vec![write]), seeing(), None);
        assert!(unknown(&nameless).contains("certificate"));
        let free = Ok(Some(vec![Operation::Describe, Operation::ClusterAction]));
        assert_eq!(decide_transactional_id(Ok(Vec::new()), free, None), Right::Given);
        for blind in [
            Ok(Some(Vec::new())),
            Ok(None),
            failed(RDKafkaErrorCode::UnsupportedFeature),
        ] {
            let right = decide_transactional_id(Ok(Vec::new()), blind, Some(me));
            assert!(unknown(&right).contains("DESCRIBE on the cluster"));
        }
        let away = decide_transactional_id(failed(RDKafkaErrorCode::OperationTimedOut), seeing(), Some(me));
        assert!(unknown(&away).contains("could not be checked"));
    }
}
