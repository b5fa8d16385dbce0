//! The records of one partition that wait for an epoch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use driftmill_connectors::Records;

/// A queue of records in order of offset.
pub struct Lane {
    queue: VecDeque<Arc<Records>>,
    /// First row of the front chunk that was not taken.
    front: usize,
    /// Next offset to be taken: the end of the last epoch's range.
    next: i64,
    /// Running maximum of the timestamps received; where the lane is known to be complete up to.
    seen_ms: i64,
    bytes: usize,
    rows: usize,
    /// When the lane last ran empty; `None` while it has records.
    empty_since: Option<Instant>,
    /// When the oldest waiting chunk arrived.
    waiting_since: Option<Instant>,
    /// Position up to which the partition was empty when the broker last said so.
    end: Option<i64>,
}

impl Lane {
    /// An empty lane that goes on at offset `next`.
    #[must_use]
    pub fn new(next: i64, now: Instant) -> Self {
        Self {
            queue: VecDeque::new(),
            front: 0,
            next,
            seen_ms: i64::MIN,
            bytes: 0,
            rows: 0,
            empty_since: Some(now),
            waiting_since: None,
            end: None,
        }
    }

    /// Takes records that follow those before.
    pub fn push(&mut self, records: Records, now: Instant) {
        if records.is_empty() {
            return;
        }
        let newest = (0..records.len()).map(|row| records.timestamp_ms(row)).max();
        self.seen_ms = self.seen_ms.max(newest.unwrap_or(i64::MIN));
        self.bytes += records.bytes();
        self.rows += records.len();
        self.empty_since = None;
        self.waiting_since.get_or_insert(now);
        self.queue.push_back(Arc::new(records));
    }

    /// Notes that the partition held nothing from `next` on.
    pub fn reached_end(&mut self, next: i64) {
        self.end = Some(next);
    }

    /// Whether everything that the partition held when the broker last answered was taken or waits here.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.end.is_some_and(|end| end >= self.received())
    }

    /// Position up to which the partition was empty when the broker last said so.
    #[must_use]
    pub fn end(&self) -> Option<i64> {
        self.end
    }

    /// Whether every record before offset `end` has arrived: a later one is here, or the partition ended there.
    #[must_use]
    pub fn covers(&self, end: i64) -> bool {
        self.received() >= end || self.end.is_some_and(|known| known >= end)
    }

    /// Offset after the last record received.
    #[must_use]
    pub fn received(&self) -> i64 {
        self.queue
            .back()
            .map_or(self.next, |last| last.offset(last.len() - 1) + 1)
    }

    /// The next offset that an epoch will begin with.
    #[must_use]
    pub fn next(&self) -> i64 {
        self.next
    }

    /// Sets where the next epoch begins, past offsets that hold no record (transaction markers).
    pub fn skip_to(&mut self, next: i64) {
        self.next = self.next.max(next);
    }

    /// Offset and timestamp of the first waiting record, and its size in bytes.
    #[must_use]
    pub fn head(&self) -> Option<(i64, i64, usize)> {
        let front = self.queue.front()?;
        Some((
            front.offset(self.front),
            front.timestamp_ms(self.front),
            front.size(self.front),
        ))
    }

    /// Takes the first record: its chunk and row.
    pub fn take(&mut self, now: Instant) -> Option<(Arc<Records>, u32)> {
        let chunk = Arc::clone(self.queue.front()?);
        let row = self.front;
        self.next = chunk.offset(row) + 1;
        self.front += 1;
        self.rows -= 1;
        if self.front == chunk.len() {
            self.queue.pop_front();
            self.front = 0;
            self.bytes = self.bytes.saturating_sub(chunk.bytes());
            self.waiting_since = if self.queue.is_empty() { None } else { Some(now) };
            if self.queue.is_empty() {
                self.empty_since = Some(now);
            }
        }
        // Rows never pass u32: a chunk's arena is bounded by 4 GiB.
        Some((chunk, row as u32))
    }

    /// Time up to which this lane is known: the newest timestamp received.
    #[must_use]
    pub fn seen_ms(&self) -> i64 {
        self.seen_ms
    }

    /// When the lane ran empty, if it is empty.
    #[must_use]
    pub fn empty_since(&self) -> Option<Instant> {
        self.empty_since
    }

    /// When the oldest waiting records arrived.
    #[must_use]
    pub fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since
    }

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records that wait.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }
}
