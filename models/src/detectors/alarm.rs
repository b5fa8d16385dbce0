//! From verdicts to alarms: persistence, cooldown, and 'no data' kept apart. Pure: the caller gives the place.

use crate::codec::{CodecError, Put, Reader};
use crate::contracts::DriftStatus;
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, open};

/// Checked parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlarmParams {
    /// Verdicts of drift among the last `of` that raise an alarm, at least 1.
    pub needed: u32,
    /// Verdicts that are remembered, from `needed` to 64. Verdicts on insufficient data are not among them.
    pub of: u32,
    /// Rows, or ms of event time, after an alarm during which no other is raised.
    pub cooldown: i64,
}

/// What the verdicts so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmState {
    /// The last verdict rests on too little data to say anything.
    InsufficientData,
    /// Nothing found.
    Quiet,
    /// Warnings, or drift that has not persisted yet.
    Pending,
    /// An alarm, now: said once.
    Raised,
    /// Drift goes on after an alarm, within its cooldown.
    Cooling,
}

/// The state machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    params: AlarmParams,
    /// The last verdicts, the newest in the lowest bit; 1 is drift.
    history: u64,
    /// Place of the last alarm.
    raised_at: Option<i64>,
    seen: u64,
}

impl Alarm {
    /// No verdict yet.
    #[must_use]
    pub fn new(params: AlarmParams) -> Self {
        Self {
            params,
            history: 0,
            raised_at: None,
            seen: 0,
        }
    }

    /// Takes the next verdict, made at `at` (rows so far, or ms of event time; never falling).
    pub fn update(&mut self, status: DriftStatus, at: i64) -> AlarmState {
        self.seen += 1;
        if status == DriftStatus::InsufficientData {
            return AlarmState::InsufficientData;
        }
        let mask = u64::MAX >> (64 - self.params.of.clamp(1, 64));
        self.history = (self.history << 1 | u64::from(status == DriftStatus::Drift)) & mask;
        let hits = self.history.count_ones();
        if hits < self.params.needed.max(1) {
            let calm = hits == 0 && status == DriftStatus::Stable;
            return if calm { AlarmState::Quiet } else { AlarmState::Pending };
        }
        if self
            .raised_at
            .is_some_and(|last| at.saturating_sub(last) < self.params.cooldown)
        {
            return AlarmState::Cooling;
        }
        self.raised_at = Some(at);
        // The next alarm needs its own evidence.
        self.history = 0;
        AlarmState::Raised
    }

    /// Place of the last alarm.
    #[must_use]
    pub fn raised_at(&self) -> Option<i64> {
        self.raised_at
    }

    fn read(mut reader: Reader<'_>, params: AlarmParams) -> Result<Self, CodecError> {
        let (seen, history) = (reader.u64()?, reader.u64()?);
        let raised = reader.u8()? == 1;
        let at = reader.u64()?.cast_signed();
        reader.finish()?;
        Ok(Self {
            params,
            history,
            raised_at: raised.then_some(at),
            seen,
        })
    }
}

const CHUNK: &str = "alarm";

impl State for Alarm {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(CHUNK, self.seen, &mut |out| {
            out.put_u64(self.seen);
            out.put_u64(self.history);
            out.put_u8(u8::from(self.raised_at.is_some()));
            out.put_u64(self.raised_at.unwrap_or(0).cast_unsigned());
        });
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        *self = Self::read(open(chunks, CHUNK)?, self.params).map_err(|error| StateError::of(CHUNK, error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::AlarmState::{Cooling, InsufficientData, Pending, Quiet, Raised};
    use super::*;
    use crate::detectors::memory::{Memory, snapshot, survives_damage};

    const PARAMS: AlarmParams = AlarmParams {
        needed: 2,
        of: 3,
        cooldown: 50,
    };

    /// d drift, w warning, s stable, i insufficient; ten rows a verdict.
    fn run(alarm: &mut Alarm, from: i64, verdicts: &str) -> Vec<AlarmState> {
        let status = |c| match c {
            'd' => DriftStatus::Drift,
            'w' => DriftStatus::Warning,
            's' => DriftStatus::Stable,
            _ => DriftStatus::InsufficientData,
        };
        verdicts
            .chars()
            .zip(from..)
            .map(|(c, i)| alarm.update(status(c), 10 * i))
            .collect()
    }

    #[test]
    fn persistence_and_cooldown() {
        let mut alarm = Alarm::new(PARAMS);
        assert_eq!(
            run(&mut alarm, 0, "sdssswdwd"),
            [
                Quiet, Pending, Pending, Pending, Quiet, Pending, Pending, Pending, Raised
            ]
        );
        assert_eq!(
            run(&mut alarm, 9, "ddddd"),
            [Pending, Cooling, Cooling, Cooling, Raised]
        );
        assert_eq!(alarm.raised_at(), Some(130));
    }

    #[test]
    fn no_data_is_neither_drift_nor_calm() {
        let mut alarm = Alarm::new(PARAMS);
        assert_eq!(
            run(&mut alarm, 0, "idiid"),
            [InsufficientData, Pending, InsufficientData, InsufficientData, Raised]
        );
        let mut once = Alarm::new(AlarmParams {
            needed: 1,
            of: 1,
            cooldown: 0,
        });
        assert_eq!(run(&mut once, 0, "dsdi"), [Raised, Quiet, Raised, InsufficientData]);
    }

    #[test]
    fn state_comes_back_bit_for_bit() {
        let verdicts = "sdwdiddsdsdd";
        let mut whole = Alarm::new(PARAMS);
        let expected = run(&mut whole, 0, verdicts);
        for cut in 0..verdicts.len() {
            let mut first = Alarm::new(PARAMS);
            run(&mut first, 0, &verdicts[..cut]);
            let mut memory = Memory::default();
            memory.save(&first);
            let mut second = Alarm::new(PARAMS);
            second.restore(&memory).unwrap();
            assert_eq!(run(&mut second, cut as i64, &verdicts[cut..]), expected[cut..]);
            assert_eq!(snapshot(&second), snapshot(&whole));
        }
        survives_damage(&whole, || Alarm::new(PARAMS));
    }
}
