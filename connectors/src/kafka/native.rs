//! The few calls into librdkafka that the safe client does not offer: messages handed out by the thousand instead of
//! one by one, records produced without an allocation each, and a flush that wakes up when the last record is
//! acknowledged. All unsafe code of this crate is here and in `native_rights.rs`.
#![expect(
    unsafe_code,
    reason = "polling and producing one record at a time through the safe client costs a third of the loop, in clock \
              readings and allocations"
)]

use std::ffi::{CStr, CString, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings::{self as c, rd_kafka_vtype_t as tag};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;
use rdkafka::types::RDKafkaRespErr;

use super::context::{Consumer, Context, Producer};
use crate::encoded::{Header, OutRecord};

/// Messages taken from librdkafka's queue at once.
const BATCH: usize = 4096;

/// The receiving end of a consumer.
pub(super) struct Intake {
    queue: NonNull<c::rd_kafka_queue_t>,
    logs: NonNull<c::rd_kafka_queue_t>,
    slots: Vec<*mut c::rd_kafka_message_t>,
    /// Last, because the queues above must be given back before the client dies.
    consumer: Arc<Consumer>,
}

// SAFETY: librdkafka's queues and messages may be used from any thread; the raw pointers are only reached through
// `&mut self`, and `slots` holds no message between two calls.
unsafe impl Send for Intake {}

impl Intake {
    /// Takes over the queue of `consumer`, which must have a `group.id`.
    pub(super) fn new(consumer: Consumer) -> KafkaResult<Self> {
        let client = consumer.client().native_ptr();
        // SAFETY: `client` is alive; both functions return a counted reference or null.
        let (queue, logs) = unsafe { (c::rd_kafka_queue_get_consumer(client), c::rd_kafka_queue_new(client)) };
        let (Some(queue), Some(logs)) = (NonNull::new(queue), NonNull::new(logs)) else {
            return Err(KafkaError::ClientCreation("the consumer has no queue".to_owned()));
        };
        // SAFETY: both are alive. Log lines would be printed to stderr if they arrived at the consumer's queue.
        unsafe { c::rd_kafka_set_log_queue(client, logs.as_ptr()) };
        // What was logged before went to the consumer's queue; nothing is assigned, so there are no messages in it.
        while consumer.poll(Duration::ZERO).is_some() {}
        Ok(Self {
            queue,
            logs,
            slots: vec![ptr::null_mut(); BATCH],
            consumer: Arc::new(consumer),
        })
    }

    /// The consumer, for everything but polling.
    pub(super) fn consumer(&self) -> &Arc<Consumer> {
        &self.consumer
    }

    /// What is there; waits up to `wait` when there is nothing, but not for more once there is something.
    pub(super) fn fetch(&mut self, wait: Duration) -> Batch<'_> {
        let mut count = self.take(0, BATCH, 0);
        if count == 0 && wait >= Duration::from_millis(1) {
            let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
            // librdkafka waits until the whole array is full: so wait for one, then take the others.
            count = self.take(0, 1, wait_ms);
            if count == 1 {
                count += self.take(1, BATCH, 0);
            }
        }
        Batch {
            messages: &self.slots[..count],
        }
    }

    fn take(&mut self, from: usize, to: usize, wait_ms: i32) -> usize {
        let free = &mut self.slots[from..to];
        // SAFETY: the queue is alive, and at most `free.len()` pointers are written to `free`.
        let count =
            unsafe { c::rd_kafka_consume_batch_queue(self.queue.as_ptr(), wait_ms, free.as_mut_ptr(), free.len()) };
        usize::try_from(count).unwrap_or(0)
    }

    /// Hands the log lines of the client to its context.
    pub(super) fn drain_logs(&self) {
        // SAFETY: the queue is alive; an event is destroyed once, after its strings were copied.
        unsafe {
            while let Some(event) = NonNull::new(c::rd_kafka_queue_poll(self.logs.as_ptr(), 0)) {
                let (mut facility, mut line, mut level): (*const c_char, *const c_char, i32) =
                    (ptr::null(), ptr::null(), 0);
                if c::rd_kafka_event_log(event.as_ptr(), &mut facility, &mut line, &mut level) == 0 {
                    let text = |p: *const c_char| {
                        if p.is_null() {
                            String::new()
                        } else {
                            CStr::from_ptr(p).to_string_lossy().into_owned()
                        }
                    };
                    self.consumer.context().line(level, &text(facility), text(line).trim());
                }
                c::rd_kafka_event_destroy(event.as_ptr());
            }
        }
    }

    /// The end of a partition as the last fetch told, or `None` before the first.
    pub(super) fn end(&self, topic: &CStr, partition: i32) -> Option<i64> {
        let (mut low, mut high) = (-1, -1);
        let client = self.consumer.client().native_ptr();
        // SAFETY: the client is alive, the name ends with a zero, and both positions are written by the callee.
        let answer =
            unsafe { c::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition, &mut low, &mut high) };
        (answer == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        // SAFETY: the references were taken in `new`, and the client outlives them: it is dropped after this.
        unsafe {
            c::rd_kafka_set_log_queue(self.consumer.client().native_ptr(), ptr::null_mut());
            c::rd_kafka_queue_destroy(self.logs.as_ptr());
            c::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

/// Messages that librdkafka handed out; they go back when this is dropped.
pub(super) struct Batch<'a> {
    messages: &'a [*mut c::rd_kafka_message_t],
}

impl Batch<'_> {
    /// The messages in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Fetched<'_>> {
        // SAFETY: every pointer comes from librdkafka, is not null, and lives until `self` is dropped.
        self.messages.iter().map(|&message| Fetched {
            message: unsafe { &*message },
            lives: PhantomData,
        })
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        for &message in self.messages {
            // SAFETY: each message is owned by this batch and given back once.
            unsafe { c::rd_kafka_message_destroy(message) };
        }
    }
}

/// A record, or an event about a partition.
pub(super) struct Fetched<'a> {
    message: &'a c::rd_kafka_message_t,
    lives: PhantomData<&'a [u8]>,
}

impl<'a> Fetched<'a> {
    /// What is to be told instead of a record.
    pub(super) fn error(&self) -> Option<RDKafkaErrorCode> {
        (self.message.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| self.message.err.into())
    }

    /// Identity of topic and partition, for comparison with that of the message before.
    pub(super) fn place(&self) -> (usize, i32) {
        (self.message.rkt as usize, self.message.partition)
    }

    /// Name of the topic; empty for events that are about none.
    pub(super) fn topic(&self) -> &'a str {
        if self.message.rkt.is_null() {
            return "";
        }
        // SAFETY: the topic is held by the message, its name by the topic.
        unsafe { CStr::from_ptr(c::rd_kafka_topic_name(self.message.rkt)) }
            .to_str()
            .unwrap_or("")
    }

    /// Partition number; -1 for events that are about none.
    pub(super) fn partition(&self) -> i32 {
        self.message.partition
    }

    /// Offset of the record, or the position that an event is about.
    pub(super) fn offset(&self) -> i64 {
        self.message.offset
    }

    /// Milliseconds since the epoch, -1 when there is none.
    pub(super) fn timestamp_ms(&self) -> i64 {
        let mut kind = c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive, and `kind` is written by the callee.
        unsafe { c::rd_kafka_message_timestamp(self.message, &mut kind) }
    }

    /// Key bytes.
    pub(super) fn key(&self) -> Option<&'a [u8]> {
        self.bytes(self.message.key, self.message.key_len)
    }

    /// Payload bytes, or the text of an event.
    pub(super) fn payload(&self) -> Option<&'a [u8]> {
        self.bytes(self.message.payload, self.message.len)
    }

    fn bytes(&self, start: *const c_void, len: usize) -> Option<&'a [u8]> {
        // SAFETY: librdkafka gives `len` readable bytes that live as long as the message.
        (!start.is_null()).then(|| unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) })
    }
}

/// The sending end of a producer, with a handle for each topic, so that no name is looked up for each record.
pub(super) struct Outlet {
    topics: Vec<NonNull<c::rd_kafka_topic_t>>,
    names: Vec<String>,
    /// After the handles, which must be given back before the client dies.
    producer: Producer,
}

// SAFETY: librdkafka's topic handles may be used from any thread.
unsafe impl Send for Outlet {}

impl Outlet {
    /// Handles for `topics` on `producer`.
    pub(super) fn new(producer: Producer, topics: &[String]) -> KafkaResult<Self> {
        let mut outlet = Self {
            topics: Vec::with_capacity(topics.len()),
            names: topics.to_vec(),
            producer,
        };
        for topic in topics {
            let name = CString::new(topic.as_str())?;
            let client = outlet.producer.client().native_ptr();
            // SAFETY: the client is alive and the name ends with a zero; a null configuration means the client's.
            let handle = unsafe { c::rd_kafka_topic_new(client, name.as_ptr(), ptr::null_mut()) };
            let handle = NonNull::new(handle)
                .ok_or_else(|| KafkaError::ClientCreation(format!("`{topic}` cannot be the name of a topic")))?;
            outlet.topics.push(handle);
        }
        Ok(outlet)
    }

    /// The producer, for everything but sending.
    pub(super) fn producer(&self) -> &Producer {
        &self.producer
    }

    /// Name of a topic by its index.
    pub(super) fn name(&self, topic: usize) -> &str {
        &self.names[topic]
    }

    /// The context of the producer.
    pub(super) fn context(&self) -> &Context {
        self.producer.client().context()
    }

    /// Copies a record into the producer's queue. `topic` is an index into the list given to [`Outlet::new`];
    /// without a partition the key decides.
    pub(super) fn send(
        &self,
        topic: usize,
        partition: Option<i32>,
        record: &OutRecord<'_>,
    ) -> Result<(), RDKafkaErrorCode> {
        let handle = self.topics[topic].as_ptr();
        let key = record.key.map_or((ptr::null(), 0), |key| (key.as_ptr(), key.len()));
        let (partition, timestamp_ms) = (partition.unwrap_or(-1), record.timestamp_ms.max(0));
        let headers = headers(record.headers);
        let client = self.producer.client().native_ptr();
        // SAFETY: the arguments follow their tags in the types that librdkafka documents; with F_COPY it keeps no
        // pointer to key or payload. A null list of headers means none; on success it belongs to the message.
        let answer = unsafe {
            let answer = c::rd_kafka_producev(
                client,
                tag::RD_KAFKA_VTYPE_RKT,
                handle,
                tag::RD_KAFKA_VTYPE_PARTITION,
                partition,
                tag::RD_KAFKA_VTYPE_MSGFLAGS,
                c::RD_KAFKA_MSG_F_COPY,
                tag::RD_KAFKA_VTYPE_VALUE,
                record.payload.as_ptr(),
                record.payload.len(),
                tag::RD_KAFKA_VTYPE_KEY,
                key.0,
                key.1,
                tag::RD_KAFKA_VTYPE_TIMESTAMP,
                timestamp_ms,
                tag::RD_KAFKA_VTYPE_HEADERS,
                headers,
                tag::RD_KAFKA_VTYPE_END,
            );
            if answer != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && !headers.is_null() {
                c::rd_kafka_headers_destroy(headers);
            }
            answer
        };
        match answer {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            error => Err(error.into()),
        }
    }

    /// Sends without lingering and waits up to `wait` until nothing is unacknowledged; whether that is so. Reports
    /// of failed records count as unacknowledged until the producer is polled.
    pub(super) fn flush(&self, wait: Duration) -> bool {
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the client is alive.
        let answer = unsafe { c::rd_kafka_flush(self.producer.client().native_ptr(), wait_ms) };
        answer == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR
    }
}

fn headers(list: &[Header]) -> *mut c::rd_kafka_headers_t {
    if list.is_empty() {
        return ptr::null_mut();
    }
    // SAFETY: name and value are copied by the callee; a slice is never longer than isize::MAX.
    unsafe {
        let headers = c::rd_kafka_headers_new(list.len());
        for (name, value) in list {
            c::rd_kafka_header_add(
                headers,
                name.as_ptr().cast(),
                name.len().cast_signed(),
                value.as_ptr().cast(),
                value.len().cast_signed(),
            );
        }
        headers
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        for topic in &self.topics {
            // SAFETY: each handle was taken in `new`, and the client outlives it: it is dropped after this.
            unsafe { c::rd_kafka_topic_destroy(topic.as_ptr()) };
        }
    }
}
