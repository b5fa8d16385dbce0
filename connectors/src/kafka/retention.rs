//! What the configuration of a topic does to records before their time, and how old the inputs are. Kafka removes by
//! the timestamp of a record, and outputs carry the timestamps of their inputs: in a replay of old records they may
//! vanish within minutes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::admin::Topic;
use crate::error::ConnectError;
use crate::records::Partition;
use crate::source::{Source, SourceEvent, Start};

/// An input with shorter retention leaves no night to repair a pipeline in.
const SHORT_MS: i64 = 24 * 3_600_000;
/// How long the oldest inputs are waited for.
const READING: Duration = Duration::from_secs(5);

/// What is wrong, and what to do.
pub(super) type Doubt = (String, &'static str);

/// What may remove records of an output, or refuse them, because of their age. `oldest_ms` is the timestamp of the
/// oldest input, where it is known.
pub(super) fn of_output(topic: &Topic, oldest_ms: Option<i64>, now_ms: i64) -> Vec<Doubt> {
    let Some(limits) = Limits::of(topic) else {
        return vec![unreadable()];
    };
    let age_ms = oldest_ms
        .map(|oldest| now_ms - oldest)
        .filter(|_| limits.by_record_time);
    let mut found = Vec::new();
    if let (Some(keep), Some(age)) = (limits.keep_ms, age_ms)
        && age > keep
    {
        let what = format!(
            "retention.ms deletes records {} after their timestamp, outputs carry the timestamps of their inputs, and \
             the oldest input is {} old",
            time(keep),
            time(age)
        );
        found.push((
            what,
            "set retention.ms=-1 or message.timestamp.type=LogAppendTime on this topic before old records are replayed",
        ));
    }
    if let (Some(taken), Some(age)) = (limits.taken_ms, age_ms)
        && age > taken
    {
        let what = format!(
            "the topic refuses records whose timestamp is older than {}, and the oldest input is {} old",
            time(taken),
            time(age)
        );
        found.push((what, "raise message.timestamp.before.max.ms on this topic"));
    }
    found.extend(limits.by_size("its oldest records"));
    found
}

/// What may remove records of an input before they are read. `oldest_ms` is the timestamp of its oldest record.
pub(super) fn of_input(topic: &Topic, oldest_ms: Option<i64>, now_ms: i64) -> Vec<Doubt> {
    let Some(limits) = Limits::of(topic) else {
        return vec![unreadable()];
    };
    let age_ms = oldest_ms
        .map(|oldest| now_ms - oldest)
        .filter(|_| limits.by_record_time);
    let mut found = Vec::new();
    if let Some(keep) = limits.keep_ms {
        if let Some(age) = age_ms.filter(|age| *age > keep) {
            let what = format!(
                "the oldest record is {} old by its timestamp, and retention.ms deletes after {}, read or not",
                time(age),
                time(keep)
            );
            found.push((what, "set retention.ms=-1 on this topic until it is read"));
        } else if keep < SHORT_MS {
            let what = format!(
                "retention.ms deletes records after {}: a pipeline that stands still for longer finds a gap and stops",
                time(keep)
            );
            found.push((what, "raise retention.ms of this topic above the longest repair"));
        }
    }
    found.extend(limits.by_size("records, read or not,"));
    found
}

fn unreadable() -> Doubt {
    let what = "its configuration cannot be read, so retention was not checked".to_owned();
    (what, "give the user DESCRIBE_CONFIGS on this topic")
}

/// The settings of a topic that remove or refuse records; `None` where there is no limit.
struct Limits {
    keep_ms: Option<i64>,
    keep_bytes: Option<i64>,
    taken_ms: Option<i64>,
    /// Whether the time that counts is the record's own, not that of its arrival.
    by_record_time: bool,
}

impl Limits {
    fn of(topic: &Topic) -> Option<Self> {
        let config = topic.config.as_ref()?;
        let text = |name: &str| config.get(name).map(String::as_str);
        // A topic that is only compacted loses nothing by age or size.
        let deletes = text("cleanup.policy").is_none_or(|policy| policy.split(',').any(|part| part.trim() == "delete"));
        let limit = |name: &str| topic.number(name).filter(|limit| (0..i64::MAX).contains(limit));
        Some(Self {
            keep_ms: limit("retention.ms").filter(|_| deletes),
            keep_bytes: limit("retention.bytes").filter(|_| deletes),
            taken_ms: limit("message.timestamp.before.max.ms"),
            by_record_time: text("message.timestamp.type") != Some("LogAppendTime"),
        })
    }

    fn by_size(&self, whose: &str) -> Option<Doubt> {
        let bytes = self.keep_bytes?;
        let what = format!("retention.bytes deletes {whose} when a partition passes {bytes} bytes");
        Some((
            what,
            "set retention.bytes=-1 on this topic, or see that it is large enough",
        ))
    }
}

/// A time for people: in the largest unit of which there are at least two.
fn time(ms: i64) -> String {
    let units = [
        (86_400_000, "days"),
        (3_600_000, "hours"),
        (60_000, "minutes"),
        (1_000, "seconds"),
    ];
    let found = units.iter().find(|(unit, _)| ms >= 2 * unit);
    found.map_or_else(|| format!("{ms} ms"), |(unit, name)| format!("{} {name}", ms / unit))
}

/// Milliseconds since 1970, by the clock of this machine.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Timestamp of the oldest record of each topic, by its index: the smallest among the first records of its partitions.
/// Topics that are empty, or not read in a moment, are left out.
///
/// # Errors
/// Brokers that do not answer; missing rights.
pub(super) fn oldest(source: &mut dyn Source, partitions: &[Partition]) -> Result<BTreeMap<u16, i64>, ConnectError> {
    let mut open = Vec::new();
    for &partition in partitions {
        let (first, next) = source.bounds(partition)?;
        if first < next {
            open.push(partition);
        }
    }
    let starts: Vec<_> = open.iter().map(|&partition| (partition, Start::Oldest)).collect();
    source.assign(&starts)?;
    let mut found = BTreeMap::new();
    let asked = Instant::now();
    while !open.is_empty() && asked.elapsed() < READING {
        let done = match source.poll(Duration::from_millis(100))? {
            Some(SourceEvent::Records(records)) if !records.is_empty() => {
                let (partition, ms) = (records.partition(), records.timestamp_ms(0));
                if ms >= 0 && open.contains(&partition) {
                    let oldest = found.entry(partition.topic).or_insert(ms);
                    *oldest = ms.min(*oldest);
                }
                partition
            }
            Some(SourceEvent::End { partition, .. } | SourceEvent::Gap { partition, .. }) => partition,
            _ => continue,
        };
        if open.contains(&done) {
            open.retain(|partition| *partition != done);
            source.pause(&[done])?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;
    const NOW: i64 = 1_700_000_000_000;

    fn topic(config: &[(&str, &str)]) -> Topic {
        let config = config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Topic {
            partitions: 1,
            replicas: 1,
            config: Some(config),
        }
    }

    fn output(config: &[(&str, &str)], age_ms: Option<i64>) -> String {
        sentences(of_output(&topic(config), age_ms.map(|age| NOW - age), NOW))
    }

    fn input(config: &[(&str, &str)], age_ms: Option<i64>) -> String {
        sentences(of_input(&topic(config), age_ms.map(|age| NOW - age), NOW))
    }

    fn sentences(doubts: Vec<Doubt>) -> String {
        let sentences: Vec<String> = doubts.into_iter().map(|(what, _)| what).collect();
        sentences.join("\n")
    }

    const WEEK: [(&str, &str); 2] = [("cleanup.policy", "delete"), ("retention.ms", "604800000")];

    #[test]
    fn outputs_of_old_inputs_are_named_before_they_are_lost() {
        let found = output(&WEEK, Some(400 * DAY));
        assert!(found.contains("7 days") && found.contains("400 days"), "{found}");
        assert_eq!(output(&WEEK, Some(6 * DAY)), "");
        assert_eq!(output(&WEEK, None), "");
        assert_eq!(output(&[("retention.ms", "-1")], Some(400 * DAY)), "");
        let arrival = [WEEK[0], WEEK[1], ("message.timestamp.type", "LogAppendTime")];
        assert_eq!(output(&arrival, Some(400 * DAY)), "");
        let compacted = [("cleanup.policy", "compact"), WEEK[1]];
        assert_eq!(output(&compacted, Some(400 * DAY)), "");
        let both = [("cleanup.policy", "compact,delete"), WEEK[1]];
        assert!(output(&both, Some(400 * DAY)).contains("7 days"));
    }

    #[test]
    fn limits_by_size_and_on_old_timestamps_are_named() {
        let found = output(&[("retention.bytes", "1000")], None);
        assert!(found.contains("1000 bytes"), "{found}");
        let found = output(&[("message.timestamp.before.max.ms", "3600000")], Some(3 * DAY));
        assert!(found.contains("refuses") && found.contains("60 minutes"), "{found}");
        let no_limit = [("message.timestamp.before.max.ms", "9223372036854775807")];
        assert_eq!(output(&no_limit, Some(400 * DAY)), "");
    }

    #[test]
    fn inputs_that_go_before_they_are_read_are_named() {
        assert_eq!(input(&WEEK, Some(6 * DAY)), "");
        assert!(input(&WEEK, Some(8 * DAY)).contains("read or not"));
        let short = [("retention.ms", "7200000")];
        let found = input(&short, Some(1000));
        assert!(found.contains("2 hours") && found.contains("stands still"), "{found}");
        assert!(input(&[("retention.bytes", "1000")], None).contains("1000 bytes"));
    }

    #[test]
    fn a_configuration_that_cannot_be_read_is_said() {
        let hidden = Topic {
            partitions: 1,
            replicas: 1,
            config: None,
        };
        assert!(sentences(of_output(&hidden, None, NOW)).contains("not checked"));
        assert!(sentences(of_input(&hidden, None, NOW)).contains("not checked"));
    }
}
