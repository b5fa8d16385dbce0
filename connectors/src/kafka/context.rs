//! What the clients tell us besides records: log lines, errors, failed deliveries; and how a client is closed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, ProducerContext};

/// A consumer that reports to a [`Context`].
pub(super) type Consumer = BaseConsumer<Context>;
/// A producer that reports to a [`Context`].
pub(super) type Producer = BaseProducer<Context>;

/// The same kind of line is logged at most once in this time.
const QUIET: Duration = Duration::from_secs(10);
/// How long closing a client may keep its owner.
pub(super) const CLOSE: Duration = Duration::from_secs(2);

/// A record that could not be delivered.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// Why.
    pub(super) code: RDKafkaErrorCode,
    /// Its topic.
    pub(super) topic: String,
    /// Size of key and payload.
    pub(super) size: usize,
}

#[derive(Default)]
struct Shared {
    who: String,
    troubles: AtomicU64,
    last_error: Mutex<Option<String>>,
    lines: Mutex<HashMap<String, (Instant, u64)>>,
    failure: Mutex<Option<Failure>>,
}

/// Receives what a client has to tell; clones share it.
#[derive(Clone)]
pub(super) struct Context(Arc<Shared>);

impl Context {
    /// A context for the client that `who` names in the log.
    pub(super) fn new(who: impl Into<String>) -> Self {
        Self(Arc::new(Shared {
            who: who.into(),
            ..Shared::default()
        }))
    }

    /// Temporary troubles so far.
    pub(super) fn troubles(&self) -> u64 {
        self.0.troubles.load(Ordering::Relaxed)
    }

    /// The last error that the client told of.
    pub(super) fn last_error(&self) -> Option<String> {
        lock(&self.0.last_error).clone()
    }

    /// Takes the first failed delivery since the last call; that nothing failed is `None`.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        lock(&self.0.failure).take()
    }

    /// A log line of librdkafka; `level` is that of syslog.
    pub(super) fn line(&self, level: i32, facility: &str, line: &str) {
        if level >= 5 {
            tracing::debug!(client = %self.0.who, facility, "{line}");
            return;
        }
        self.trouble(facility, line);
    }

    /// Counts a temporary trouble and logs it, unless one of its kind was logged a moment ago.
    pub(super) fn trouble(&self, kind: &str, line: &str) {
        self.0.troubles.fetch_add(1, Ordering::Relaxed);
        *lock(&self.0.last_error) = Some(line.to_owned());
        let Some(hidden) = self.due(kind) else { return };
        tracing::warn!(client = %self.0.who, kind, hidden, "{line}");
    }

    /// Whether a line of this kind may be logged now, and how many were not since the last one.
    fn due(&self, kind: &str) -> Option<u64> {
        let mut lines = lock(&self.0.lines);
        match lines.get_mut(kind) {
            Some((last, hidden)) if last.elapsed() < QUIET => {
                *hidden += 1;
                None
            }
            Some(entry) => Some(std::mem::replace(entry, (Instant::now(), 0)).1),
            None => {
                lines.insert(kind.to_owned(), (Instant::now(), 0));
                Some(0)
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.line(level as i32, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let kind = error
            .rdkafka_error_code()
            .map_or_else(|| "error".to_owned(), |code| format!("{code:?}"));
        self.trouble(&kind, reason);
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        let Err((error, message)) = result else { return };
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        let size = message.payload_len() + message.key_len();
        let failure = Failure {
            code,
            topic: message.topic().to_owned(),
            size,
        };
        let mut kept = lock(&self.0.failure);
        // A purge follows another error, whose reason says more.
        if kept
            .as_ref()
            .is_none_or(|kept| is_purged(kept.code) && !is_purged(code))
        {
            *kept = Some(failure);
        }
    }
}

/// Whether the client itself has given a record up, after another error.
pub(super) fn is_purged(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
}

/// Drops `client` on another thread and waits a moment: a client can hang in its destructor while its broker is away.
pub(super) fn close<T: Send + 'static>(client: T) {
    let (done, wait) = mpsc::channel();
    let closer = thread::Builder::new().name("kafka-close".to_owned()).spawn(move || {
        drop(client);
        // The owner may have stopped waiting.
        let _ = done.send(());
    });
    if closer.is_ok() && wait.recv_timeout(CLOSE).is_err() {
        tracing::warn!("a Kafka client did not close within {CLOSE:?}; it is left to itself");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_kind_are_logged_once_and_counted() {
        let context = Context::new("t");
        assert_eq!(context.due("FAIL"), Some(0));
        assert_eq!(context.due("FAIL"), None);
        assert_eq!(context.due("OTHER"), Some(0));
        context.line(3, "FAIL", "broker away");
        context.line(6, "INFO", "connected");
        assert_eq!(context.troubles(), 1);
        assert_eq!(context.last_error().as_deref(), Some("broker away"));
    }
}
