//! The merge of lanes into epochs, live and in replay.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftmill_connectors::Records;

use super::{EpochInput, Lane, LaneId, LaneRange, RowRef, Stream};

/// Where an epoch ends.
#[derive(Debug, Clone, Copy)]
pub struct IntakeBounds {
    /// Most records.
    pub rows_max: usize,
    /// Most bytes of keys and payloads.
    pub bytes_max: usize,
    /// How long the oldest waiting record waits for company.
    pub linger: Duration,
    /// Most event time between first and last record, in milliseconds.
    pub event_span_max_ms: i64,
    /// How long an idle lane holds the others back.
    pub skew: Duration,
}

/// How long a lane that is known to have more, but delivers nothing, holds the others back: a broker that is away
/// must not stop the partitions of the others for ever.
const BEHIND_MAX: Duration = Duration::from_secs(10);

/// What may be cut now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// An epoch is due.
    Now,
    /// Nothing is due before this long, unless records arrive.
    Wait(Duration),
}

/// All lanes of a pipeline.
pub struct Intake {
    lanes: BTreeMap<LaneId, Lane>,
    bounds: IntakeBounds,
}

impl Intake {
    /// An intake without lanes.
    #[must_use]
    pub fn new(bounds: IntakeBounds) -> Self {
        Self {
            lanes: BTreeMap::new(),
            bounds,
        }
    }

    /// Adds a lane that goes on at `next`.
    pub fn add(&mut self, id: LaneId, next: i64, now: Instant) {
        self.lanes.insert(id, Lane::new(next, now));
    }

    /// Where every lane goes on.
    pub fn positions(&self) -> impl Iterator<Item = (LaneId, i64)> {
        self.lanes.iter().map(|(id, lane)| (*id, lane.next()))
    }

    /// The lanes.
    pub fn lanes(&self) -> impl Iterator<Item = (LaneId, &Lane)> {
        self.lanes.iter().map(|(id, lane)| (*id, lane))
    }

    /// Takes records. Those of an unknown lane, and those before the position of their lane, are left out.
    pub fn push(&mut self, id: LaneId, records: Records, now: Instant) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.push(records, now);
        }
    }

    /// Notes that a lane's partition held nothing from `next` on.
    pub fn reached_end(&mut self, id: LaneId, next: i64) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.reached_end(next);
        }
    }

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lanes.values().map(Lane::bytes).sum()
    }

    /// Whether a lane that may hold the others back is empty while others wait.
    #[must_use]
    pub fn is_starving(&self) -> bool {
        let waiting = self.lanes.values().any(|lane| lane.rows() > 0);
        waiting && self.lanes.values().any(|lane| lane.rows() == 0 && !lane.is_at_end())
    }

    /// Time up to which records may be taken: an empty lane holds the others back at what it has shown, until it has
    /// been empty for so long that it counts as idle.
    fn frontier(&self, now: Instant) -> (i64, Option<Duration>) {
        let mut frontier = i64::MAX;
        let mut idle_in: Option<Duration> = None;
        for lane in self.lanes.values() {
            let Some(since) = lane.empty_since() else {
                frontier = frontier.min(lane.seen_ms());
                continue;
            };
            let patience = if lane.is_at_end() {
                self.bounds.skew
            } else {
                BEHIND_MAX.max(self.bounds.skew)
            };
            let waited = now.saturating_duration_since(since);
            if waited < patience && self.lanes.len() > 1 {
                frontier = frontier.min(lane.seen_ms());
                let left = patience - waited;
                idle_in = Some(idle_in.map_or(left, |known| known.min(left)));
            }
        }
        (frontier, idle_in)
    }

    /// Whether an epoch is due.
    #[must_use]
    pub fn due(&self, now: Instant) -> Cut {
        let (frontier, idle_in) = self.frontier(now);
        let ready = |lane: &&Lane| lane.head().is_some_and(|(_, time, _)| time <= frontier);
        let idle = idle_in.unwrap_or(Duration::from_secs(1));
        let Some(oldest) = self.lanes.values().filter(ready).filter_map(Lane::waiting_since).min() else {
            return Cut::Wait(idle);
        };
        let rows: usize = self.lanes.values().filter(ready).map(Lane::rows).sum();
        let bytes: usize = self.lanes.values().filter(ready).map(Lane::bytes).sum();
        let waited = now.saturating_duration_since(oldest);
        if rows >= self.bounds.rows_max || bytes >= self.bounds.bytes_max || waited >= self.bounds.linger {
            return Cut::Now;
        }
        Cut::Wait((self.bounds.linger - waited).min(idle))
    }

    /// Cuts the next epoch; empty when nothing may be taken.
    pub fn cut(&mut self, now: Instant) -> EpochInput {
        let (frontier, _) = self.frontier(now);
        self.merge(frontier, now, |_, _| true, Some(self.bounds))
    }

    /// Whether everything of these ranges has arrived.
    #[must_use]
    pub fn holds(&self, ranges: &[LaneRange]) -> bool {
        ranges.iter().all(|range| {
            let Some(lane) = self.lanes.get(&range.lane) else {
                return false;
            };
            lane.covers(range.end)
        })
    }

    /// Takes exactly these ranges, as a replay does. Call it when [`Intake::holds`] says so.
    pub fn take(&mut self, ranges: &[LaneRange], now: Instant) -> EpochInput {
        let end = |id: LaneId| {
            ranges
                .iter()
                .find(|range| range.lane == id)
                .map_or(i64::MIN, |range| range.end)
        };
        let mut input = self.merge(i64::MAX, now, |id, offset| offset < end(id), None);
        for range in ranges {
            if let Some(lane) = self.lanes.get_mut(&range.lane) {
                lane.skip_to(range.end);
            }
        }
        // Ranges may end beyond their last record, where the log has transaction markers.
        input.ranges = ranges.to_vec();
        input
    }

    fn merge(
        &mut self,
        frontier: i64,
        now: Instant,
        within: impl Fn(LaneId, i64) -> bool,
        bounds: Option<IntakeBounds>,
    ) -> EpochInput {
        let mut input = EpochInput::default();
        let mut ids: Vec<LaneId> = Vec::with_capacity(self.lanes.len());
        let mut lanes: Vec<&mut Lane> = Vec::with_capacity(self.lanes.len());
        for (id, lane) in &mut self.lanes {
            ids.push(*id);
            lanes.push(lane);
        }
        let starts: Vec<i64> = lanes.iter().map(|lane| lane.next()).collect();
        // Heads by (effective time, lane). The effective time of a lane never falls, so order by offset is kept.
        let mut heads: BinaryHeap<Reverse<(i64, usize)>> = BinaryHeap::with_capacity(lanes.len());
        let mut reached = vec![i64::MIN; lanes.len()];
        let mut last_chunk: Vec<Option<(*const Records, u32)>> = vec![None; lanes.len()];
        let head_of = |lane: &Lane, id: LaneId, reached: i64| {
            let (offset, time, _) = lane.head()?;
            let time = time.max(reached);
            (time <= frontier && within(id, offset)).then_some(time)
        };
        for (index, lane) in lanes.iter().enumerate() {
            if let Some(time) = head_of(lane, ids[index], i64::MIN) {
                heads.push(Reverse((time, index)));
            }
        }
        input.arrived = lanes.iter().filter_map(|lane| lane.waiting_since()).min();
        let (mut bytes, mut first) = (0, None);
        while let Some(Reverse((time, index))) = heads.pop() {
            let lane = &mut *lanes[index];
            let Some((_, _, size)) = lane.head() else { continue };
            if let Some(bounds) = bounds {
                let begun = *first.get_or_insert(time);
                let full = input.len() >= bounds.rows_max
                    || (bytes + size > bounds.bytes_max && bytes > 0)
                    || time.saturating_sub(begun) >= bounds.event_span_max_ms;
                if full && !input.is_empty() {
                    break;
                }
            }
            bytes += size;
            reached[index] = time;
            let Some((records, row)) = lane.take(now) else { continue };
            let pointer = Arc::as_ptr(&records);
            let chunk = match last_chunk[index] {
                Some((known, chunk)) if known == pointer => chunk,
                _ => {
                    let chunk = input.chunks.len() as u32;
                    input.chunks.push((ids[index], records));
                    last_chunk[index] = Some((pointer, chunk));
                    chunk
                }
            };
            let row = RowRef {
                chunk,
                row,
                time_ms: time,
            };
            match ids[index].stream {
                Stream::Source => input.source.push(row),
                Stream::Labels => input.labels.push(row),
            }
            if let Some(time) = head_of(lane, ids[index], time) {
                heads.push(Reverse((time, index)));
            }
        }
        for (index, lane) in lanes.iter().enumerate() {
            if lane.next() > starts[index] {
                input.ranges.push(LaneRange {
                    lane: ids[index],
                    start: starts[index],
                    end: lane.next(),
                });
            }
        }
        input
    }
}
