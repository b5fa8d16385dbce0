//! The Kafka source: one consumer, polled by its owner's thread, partitions assigned by hand.
//!
//! Offsets follow the consumer's own bookkeeping nowhere: each partition has a [`Cursor`] here, and pausing gives a
//! partition back and takes it again at the cursor. (librdkafka's own pause goes on at its idea of the application's
//! position, which an end-of-partition event moves one too far when messages are taken in batches.)

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::CString;
use std::thread;
use std::time::{Duration, Instant};

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};
use rdkafka::Offset;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::admin::Admin;
use super::context::{Consumer, close};
use super::native::Intake;
use super::options::{Connection, OPTIONS, SASL, TLS};
use super::retention::{self, now_ms};
use super::sorter::{Cursor, Sorter, State};
use super::watch::{self, Notice, Watcher};
use super::{ANSWER, explain};
use crate::check::{Finding, SourceCheck};
use crate::error::{ConnectError, Fault};
use crate::records::Partition;
use crate::source::{OpenSource, Source, SourceEvent, SourceKind, Start};

/// How often log lines of the client are collected.
const LOGS: Duration = Duration::from_millis(200);
/// A topic that was made a moment ago is unknown to some brokers for so long.
const SPREAD: Duration = Duration::from_secs(1);

const FIELDS: &[Field] = &[
    Field {
        name: "brokers",
        kind: Kind::String,
        need: Need::Required,
        doc: "Some of the brokers, as host:port with commas between; the others are found through them.",
    },
    Field {
        name: "topics",
        kind: Kind::Strings,
        need: Need::Required,
        doc: "The topics to read, all their partitions; new partitions join while the pipeline runs.",
    },
    Field {
        name: "start",
        kind: Kind::OneOf(&["oldest", "newest"]),
        need: Need::Optional("oldest"),
        doc: "Where the first run begins. Later runs go on where the epoch log ends.",
    },
    TLS,
    SASL,
    OPTIONS,
];

/// Kafka as an entry of the list of sources.
pub struct KafkaSourceKind;

impl Component for KafkaSourceKind {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn summary(&self) -> &'static str {
        "Reads topics of Apache Kafka 2.5 or later, committed records only. All partitions are read by this one \
         process; consumer groups are not used."
    }

    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn example(&self) -> &'static str {
        "brokers = \"localhost:9092\"\ntopics = [\"flights.departures\"]\nstart = \"oldest\"\n"
    }
}

impl SourceKind for KafkaSourceKind {
    fn open(
        &self,
        section: &Section<'_>,
        defaults: &Section<'_>,
        purpose: &str,
        problems: &mut Problems,
    ) -> Option<Box<dyn OpenSource>> {
        let connection = Connection::read_or_inherit(section, defaults, problems);
        let topics = topics(section, problems);
        let start = match section.get::<String>("start", problems).as_deref() {
            Some("newest") => Start::Newest,
            _ => Start::Oldest,
        };
        Some(Box::new(OpenKafka {
            connection: connection?,
            topics: topics?,
            start,
            purpose: purpose.to_owned(),
        }))
    }
}

fn topics(section: &Section<'_>, problems: &mut Problems) -> Option<Vec<String>> {
    let topics: Vec<String> = section.require("topics", problems)?;
    let mut fault = None;
    if topics.is_empty() || topics.len() > usize::from(u16::MAX) {
        fault = Some("`topics` must name at least one topic, and at most 65535".to_owned());
    }
    for (index, topic) in topics.iter().enumerate() {
        if topic.is_empty() || topic.contains('\0') || topic.starts_with('^') {
            fault = Some(format!(
                "`{topic}` is not the name of a topic (patterns are not supported)"
            ));
        } else if topics[..index].contains(topic) {
            fault = Some(format!("topic `{topic}` is named twice"));
        }
    }
    match fault {
        Some(message) => {
            problems.push(section.key_span("topics"), message, None);
            None
        }
        None => Some(topics),
    }
}

/// A position and the end of its partition; or the bounds that it is out of.
type Resolved = Result<(i64, i64), (i64, i64)>;

struct OpenKafka {
    connection: Connection,
    topics: Vec<String>,
    start: Start,
    purpose: String,
}

impl OpenKafka {
    fn open(&self) -> Result<KafkaSource, ConnectError> {
        let place = format!("kafka {} ({})", self.purpose, self.connection.brokers());
        let name = format!("driftmill-{}", self.purpose);
        let consumer = consumer(&self.connection, &name).map_err(|error| explain(&place, &error, None))?;
        let intake = Intake::new(consumer).map_err(|error| explain(&place, &error, None))?;
        KafkaSource::new(intake, self.topics.clone(), place)
    }
}

/// A consumer with the settings on which delivery depends.
pub(super) fn consumer(connection: &Connection, name: &str) -> Result<Consumer, KafkaError> {
    let config = connection.client(
        name,
        &[
            ("group.id", name),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            ("check.crcs", "true"),
            // One queue for all partitions, so this bounds the whole client.
            ("queued.max.messages.kbytes", "65536"),
            // A consumer that has emptied a full queue stalls that long; the default is a second.
            ("fetch.queue.backoff.ms", "5"),
            ("fetch.wait.max.ms", "100"),
            ("fetch.error.backoff.ms", "100"),
        ],
    );
    config.create_with_context(connection.context(name))
}

impl OpenKafka {
    /// Finds what may remove records before they are read; `oldest` has the timestamp of each topic's oldest record.
    fn check_retention(&self, oldest: &BTreeMap<u16, i64>) -> Result<Vec<Finding>, ConnectError> {
        let admin = Admin::connect(&self.connection, &self.purpose)?;
        let mut findings = Vec::new();
        for (index, name) in (0_u16..).zip(&self.topics) {
            let topic = match admin.topic(name) {
                Ok(Some(topic)) => topic,
                // A topic that is missing or hidden was found already.
                Ok(None) => continue,
                Err(error) if error.fault == Fault::Operator => continue,
                Err(error) => return Err(error),
            };
            let doubts = retention::of_input(&topic, oldest.get(&index).copied(), now_ms());
            let warning = |(what, remedy)| Finding::Warning(admin.fault(name, what, remedy).to_string());
            findings.extend(doubts.into_iter().map(warning));
        }
        Ok(findings)
    }
}

impl OpenSource for OpenKafka {
    fn connect(&self) -> Result<Box<dyn Source>, ConnectError> {
        Ok(Box::new(self.open()?))
    }

    fn topics(&self) -> &[String] {
        &self.topics
    }

    fn start(&self) -> Start {
        self.start
    }

    fn check(&self) -> Result<SourceCheck, ConnectError> {
        let mut source = self.open()?;
        let mut findings = Vec::new();
        let (mut first, mut all) = (Vec::new(), Vec::new());
        for topic in 0..self.topics.len() {
            match source.topic_partitions(topic) {
                Ok(partitions) => {
                    first.extend(partitions.first().map(|&partition| (partition, Start::Newest)));
                    all.extend(partitions);
                }
                Err(error) if error.fault == Fault::Operator => findings.push(Finding::Error(error.to_string())),
                Err(error) => return Err(error),
            }
        }
        let unreadable = source.try_reading(&first)?;
        let readable = unreadable.is_empty() && self.start == Start::Oldest;
        findings.extend(unreadable.into_iter().map(Finding::Error));
        let oldest = if readable {
            retention::oldest(&mut source, &all)?
        } else {
            BTreeMap::new()
        };
        findings.extend(self.check_retention(&oldest)?);
        Ok(SourceCheck {
            findings,
            oldest_ms: oldest.into_values().min(),
        })
    }
}

struct KafkaSource {
    place: String,
    topics: Vec<String>,
    names: Vec<CString>,
    /// `None` only while it is being closed.
    intake: Option<Intake>,
    watcher: Watcher,
    cursors: BTreeMap<Partition, Cursor>,
    known: BTreeSet<Partition>,
    ready: VecDeque<SourceEvent>,
    logs_due: Instant,
}

impl KafkaSource {
    fn new(intake: Intake, topics: Vec<String>, place: String) -> Result<Self, ConnectError> {
        let internal = |what: String| ConnectError::new(Fault::Internal, &place, what, "report this as a bug");
        let names = topics
            .iter()
            .map(|topic| CString::new(topic.as_str()))
            .collect::<Result<_, _>>();
        let names = names.map_err(|error| internal(error.to_string()))?;
        let watcher = Watcher::start(intake.consumer().clone(), topics.clone());
        let watcher = watcher.map_err(|error| internal(format!("no thread could be started: {error}")))?;
        Ok(Self {
            place,
            topics,
            names,
            intake: Some(intake),
            watcher,
            cursors: BTreeMap::new(),
            known: BTreeSet::new(),
            ready: VecDeque::new(),
            logs_due: Instant::now(),
        })
    }

    fn intake(&self) -> Result<&Intake, ConnectError> {
        self.intake.as_ref().ok_or_else(|| closed(&self.place))
    }

    fn explain(&self, place: &str, error: &KafkaError) -> ConnectError {
        let hint = self.intake.as_ref().and_then(|intake| {
            intake.drain_logs();
            intake.consumer().context().last_error()
        });
        explain(&format!("{}, {place}", self.place), error, hint)
    }

    fn name(&self, partition: Partition) -> String {
        format!(
            "topic `{}` partition {}",
            self.topics[usize::from(partition.topic)],
            partition.partition
        )
    }

    fn topic_partitions(&self, index: usize) -> Result<Vec<Partition>, ConnectError> {
        let topic = &self.topics[index];
        let place = format!("topic `{topic}`");
        let asked = Instant::now();
        let numbers = loop {
            let left = ANSWER.saturating_sub(asked.elapsed());
            match watch::partitions(self.intake()?.consumer(), topic, left) {
                Ok(Some(numbers)) if !numbers.is_empty() => break numbers,
                Ok(_) if asked.elapsed() < SPREAD => {}
                Ok(_) => {
                    let error = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
                    return Err(explain(&format!("{}, {place}", self.place), &error, None));
                }
                Err(KafkaError::MetadataFetch(RDKafkaErrorCode::LeaderNotAvailable)) if left > SPREAD => {}
                Err(error) => return Err(self.explain(&place, &error)),
            }
            thread::sleep(Duration::from_millis(100));
        };
        let topic = u16::try_from(index).unwrap_or(u16::MAX);
        Ok(numbers
            .into_iter()
            .map(|partition| Partition { topic, partition })
            .collect())
    }

    /// Reads for a moment at the given places and tells what was refused.
    fn try_reading(&mut self, places: &[(Partition, Start)]) -> Result<Vec<String>, ConnectError> {
        let mut findings = Vec::new();
        for place in places {
            let asked = Instant::now();
            let mut result = self.assign(std::slice::from_ref(place));
            while result.is_ok() && asked.elapsed() < Duration::from_secs(3) {
                match self.poll(Duration::from_millis(100)) {
                    Ok(None) => {}
                    Ok(Some(_)) => break,
                    Err(error) => result = Err(error),
                }
            }
            match result {
                Err(error) if error.fault == Fault::Operator => findings.push(error.to_string()),
                other => other?,
            }
        }
        Ok(findings)
    }

    /// The position of `start` and the end of the partition, or the bounds that it is out of.
    fn resolve(&mut self, partition: Partition, start: Start) -> Result<Resolved, ConnectError> {
        let asked = Instant::now();
        loop {
            let (oldest, newest) = self.bounds(partition)?;
            let next = match start {
                Start::Oldest => oldest,
                Start::Newest => newest,
                Start::Offset(next) => next,
            };
            if (oldest..=newest).contains(&next) {
                return Ok(Ok((next, newest)));
            }
            // After a change of leader the end may be told too low for a moment.
            if next < oldest || asked.elapsed() >= SPREAD {
                return Ok(Err((oldest, newest)));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn list(&self, partitions: impl IntoIterator<Item = (Partition, i64)>) -> Result<TopicPartitionList, ConnectError> {
        let mut list = TopicPartitionList::new();
        for (partition, next) in partitions {
            let topic = &self.topics[usize::from(partition.topic)];
            list.add_partition_offset(topic, partition.partition, Offset::Offset(next))
                .map_err(|error| explain(&self.place, &error, None))?;
        }
        Ok(list)
    }

    /// Gives partitions back to the client; what was fetched of them is thrown away.
    fn give_back(&mut self, partitions: &[Partition]) -> Result<(), ConnectError> {
        if partitions.is_empty() {
            return Ok(());
        }
        let list = self.list(partitions.iter().map(|&partition| (partition, 0)))?;
        let done = self.intake()?.consumer().incremental_unassign(&list);
        done.map_err(|error| explain(&self.place, &error, None))?;
        self.forget(partitions);
        Ok(())
    }

    /// Throws away what is ready of these partitions; it comes again from their cursors on.
    fn forget(&mut self, partitions: &[Partition]) {
        self.ready.retain(|event| match event {
            SourceEvent::Records(records) => !partitions.contains(&records.partition()),
            SourceEvent::End { partition, .. } => !partitions.contains(partition),
            SourceEvent::Added(_) | SourceEvent::Gap { .. } => true,
        });
    }

    /// Reads partitions from their cursors on.
    fn take(&mut self, partitions: &[Partition]) -> Result<(), ConnectError> {
        if partitions.is_empty() {
            return Ok(());
        }
        let places = partitions.iter().filter_map(|p| Some((*p, self.cursors.get(p)?.next)));
        let list = self.list(places)?;
        let done = self.intake()?.consumer().incremental_assign(&list);
        done.map_err(|error| explain(&self.place, &error, None))?;
        for partition in partitions {
            if let Some(cursor) = self.cursors.get_mut(partition) {
                cursor.fetched = cursor.next;
                cursor.state = State::Reading;
            }
        }
        Ok(())
    }

    /// The next event that is ready; moves the cursor of its partition.
    fn pop(&mut self) -> Option<SourceEvent> {
        let event = self.ready.pop_front()?;
        let (partition, next) = match &event {
            SourceEvent::Records(records) => (records.partition(), records.offset(records.len() - 1) + 1),
            SourceEvent::End { partition, next } => (*partition, *next),
            SourceEvent::Added(_) | SourceEvent::Gap { .. } => return Some(event),
        };
        if let Some(cursor) = self.cursors.get_mut(&partition) {
            cursor.next = cursor.next.max(next);
        }
        Some(event)
    }

    fn notices(&mut self) -> Result<(), ConnectError> {
        while let Some(notice) = self.watcher.next() {
            match notice {
                Notice::Partitions(partitions) => {
                    for partition in partitions {
                        if self.known.insert(partition) {
                            self.ready.push_back(SourceEvent::Added(partition));
                        }
                    }
                }
                Notice::Missing(topic) => {
                    let place = format!("{}, topic `{}`", self.place, self.topics[usize::from(topic)]);
                    let remedy = "a topic of this name made anew holds other records: start the pipeline anew with it";
                    return Err(ConnectError::new(
                        Fault::Operator,
                        place,
                        "the topic was deleted",
                        remedy,
                    ));
                }
                Notice::Bounds(partition, oldest, newest) => self.judge(partition, oldest, newest)?,
            }
        }
        Ok(())
    }

    /// Decides what a refused position means.
    fn judge(&mut self, partition: Partition, oldest: i64, newest: i64) -> Result<(), ConnectError> {
        let Some(cursor) = self.cursors.get_mut(&partition) else {
            return Ok(());
        };
        if cursor.state != State::Doubtful {
            return Ok(());
        }
        if (oldest..=newest).contains(&cursor.fetched) {
            // What was fetched up to here is still to be handed over or was: go on where the broker refused.
            let next = cursor.fetched;
            let list = self.list([(partition, next)])?;
            let done = self.intake()?.consumer().incremental_assign(&list);
            done.map_err(|error| explain(&self.place, &error, None))?;
            if let Some(cursor) = self.cursors.get_mut(&partition) {
                cursor.state = State::Reading;
            }
            return Ok(());
        }
        cursor.state = State::Gone;
        let expected = cursor.fetched;
        self.ready.push_back(SourceEvent::Gap {
            partition,
            expected,
            oldest,
            newest,
        });
        Ok(())
    }

    /// Takes what the client holds and sorts it by partition.
    fn gather(&mut self, wait: Duration) -> Result<(), ConnectError> {
        let Some(intake) = self.intake.as_mut() else {
            return Err(closed(&self.place));
        };
        let mut sorter = Sorter::new(&self.topics, &mut self.cursors, &self.place);
        for message in intake.fetch(wait).iter() {
            sorter.put(&message);
        }
        let Sorter {
            open,
            ends,
            doubtful,
            trouble,
            ..
        } = sorter;
        self.ready.extend(
            open.into_iter()
                .filter(|records| !records.is_empty())
                .map(SourceEvent::Records),
        );
        for (partition, next) in ends {
            // Records that came after it make it old.
            if self
                .cursors
                .get(&partition)
                .is_some_and(|cursor| cursor.fetched == next)
            {
                self.ready.push_back(SourceEvent::End { partition, next });
            }
        }
        for partition in doubtful {
            let list = self.list([(partition, 0)])?;
            let done = self.intake()?.consumer().incremental_unassign(&list);
            done.map_err(|error| explain(&self.place, &error, None))?;
            self.watcher.ask(partition);
        }
        trouble.map_or(Ok(()), Err)
    }
}

fn closed(place: &str) -> ConnectError {
    ConnectError::new(
        Fault::Internal,
        place,
        "the source was used after it was closed",
        "report this as a bug",
    )
}

impl Source for KafkaSource {
    fn topics(&self) -> &[String] {
        &self.topics
    }

    fn partitions(&mut self) -> Result<Vec<Partition>, ConnectError> {
        let mut all = Vec::new();
        for topic in 0..self.topics.len() {
            all.extend(self.topic_partitions(topic)?);
        }
        self.known.extend(all.iter().copied());
        Ok(all)
    }

    fn bounds(&mut self, partition: Partition) -> Result<(i64, i64), ConnectError> {
        let topic = &self.topics[usize::from(partition.topic)];
        let answer = self
            .intake()?
            .consumer()
            .fetch_watermarks(topic, partition.partition, ANSWER);
        answer.map_err(|error| self.explain(&self.name(partition), &error))
    }

    fn assign(&mut self, positions: &[(Partition, Start)]) -> Result<(), ConnectError> {
        let stays = |cursors: &BTreeMap<Partition, Cursor>, partition: Partition, start: Start| {
            let cursor = cursors.get(&partition);
            cursor.is_some_and(|c| c.state == State::Reading && start == Start::Offset(c.next))
        };
        let mut resolved = Vec::new();
        for &(partition, start) in positions {
            if !stays(&self.cursors, partition, start) {
                resolved.push((partition, self.resolve(partition, start)?));
            }
        }
        let kept: BTreeSet<Partition> = positions
            .iter()
            .filter(|(p, start)| stays(&self.cursors, *p, *start))
            .map(|(p, _)| *p)
            .collect();
        let reading = self.cursors.iter().filter(|(_, cursor)| cursor.state == State::Reading);
        let left: Vec<Partition> = reading.map(|(p, _)| *p).filter(|p| !kept.contains(p)).collect();
        self.give_back(&left)?;
        let dropped: Vec<Partition> = self.cursors.keys().filter(|p| !kept.contains(p)).copied().collect();
        self.forget(&dropped);
        self.cursors.retain(|partition, _| kept.contains(partition));
        self.ready.retain(|event| !matches!(event, SourceEvent::Gap { .. }));
        let mut taken = Vec::new();
        for (partition, place) in resolved {
            let (next, end, state) = match place {
                Ok((next, end)) => (next, end, State::Reading),
                Err((oldest, newest)) => {
                    let Some((_, Start::Offset(expected))) = positions.iter().find(|(p, _)| *p == partition) else {
                        continue;
                    };
                    self.ready.push_back(SourceEvent::Gap {
                        partition,
                        expected: *expected,
                        oldest,
                        newest,
                    });
                    (*expected, newest, State::Gone)
                }
            };
            self.cursors.insert(
                partition,
                Cursor {
                    next,
                    fetched: next,
                    end,
                    state,
                },
            );
            if state == State::Reading {
                taken.push(partition);
            }
        }
        self.known.extend(positions.iter().map(|(partition, _)| *partition));
        self.take(&taken)
    }

    fn poll(&mut self, wait: Duration) -> Result<Option<SourceEvent>, ConnectError> {
        if let Some(event) = self.pop() {
            return Ok(Some(event));
        }
        let now = Instant::now();
        if now >= self.logs_due {
            self.intake()?.drain_logs();
            self.logs_due = now + LOGS;
        }
        self.notices()?;
        if self.ready.is_empty() {
            self.gather(wait)?;
        }
        Ok(self.pop())
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<(), ConnectError> {
        let mut held = Vec::new();
        for partition in partitions {
            let Some(cursor) = self.cursors.get_mut(partition) else {
                continue;
            };
            match cursor.state {
                State::Reading => held.push(*partition),
                // Given back already; the doubt comes again after `resume` if it is justified.
                State::Doubtful => {}
                State::Paused | State::Gone => continue,
            }
            cursor.state = State::Paused;
        }
        self.forget(partitions);
        self.give_back(&held)
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<(), ConnectError> {
        let paused = |partition: &&Partition| self.cursors.get(partition).is_some_and(|c| c.state == State::Paused);
        let paused: Vec<Partition> = partitions.iter().filter(paused).copied().collect();
        self.take(&paused)
    }

    fn lag(&self) -> Vec<(Partition, i64)> {
        let Some(intake) = self.intake.as_ref() else {
            return Vec::new();
        };
        let lag = self.cursors.iter().map(|(partition, cursor)| {
            let name = &self.names[usize::from(partition.topic)];
            // Before its first fetch the client knows of no end; that is not the same as being there.
            let end = intake.end(name, partition.partition).unwrap_or(cursor.end);
            (*partition, (end - cursor.next).max(0))
        });
        lag.collect()
    }

    fn troubles(&self) -> u64 {
        self.intake
            .as_ref()
            .map_or(0, |intake| intake.consumer().context().troubles())
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        close(self.intake.take());
    }
}

#[cfg(test)]
mod tests {
    use driftmill_config::{Document, check_example};

    use super::*;

    #[test]
    fn the_example_passes_its_own_check() {
        assert!(check_example(&KafkaSourceKind).is_ok());
    }

    #[test]
    fn wrong_topics_are_reported_at_their_line() {
        for (topics, expected) in [
            ("[]", "at least one"),
            ("[\"a\", \"a\"]", "named twice"),
            ("[\"^a.*\"]", "patterns are not supported"),
        ] {
            let text = format!("brokers = \"b:1\"\ntopics = {topics}\n");
            let document = Document::parse("t.toml", &text, &|_| None).unwrap();
            let mut problems = document.problems();
            assert!(
                KafkaSourceKind
                    .open(&document.root(), &document.root(), "p-source", &mut problems)
                    .is_none()
            );
            let rendered = problems.render();
            assert!(
                rendered.contains("t.toml:2:") && rendered.contains(expected),
                "{rendered}"
            );
        }
    }

    #[test]
    fn brokers_that_do_not_answer_are_an_error_that_says_where() {
        let connection = Connection::plain("127.0.0.1:1");
        let consumer = consumer(&connection, "driftmill-test").unwrap();
        let source = KafkaSource::new(
            Intake::new(consumer).unwrap(),
            vec!["t".to_owned()],
            "kafka x".to_owned(),
        );
        let error = source.unwrap().partitions().unwrap_err();
        assert_eq!(error.fault, Fault::Environment);
        assert!(error.to_string().contains("kafka x, topic `t`"), "{error}");
        assert!(error.to_string().contains("brokers"), "{error}");
    }
}
