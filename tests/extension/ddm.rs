//! DDM: watches the rate of errors and compares it with the lowest that it has had.
//!
//! Gama, Medas, Castillo and Rodrigues, *Learning with Drift Detection*, SBIA 2004: errors are a coin of rate p, whose
//! deviation after n of them is s = √(p (1 − p) / n). Where p + s was lowest it is remembered; a warning is said two
//! deviations above that, an alarm three. After an alarm the rate begins anew. Values between 0 and 1 (shares of a
//! loss) vary less than a coin of their mean: the detector is then slower, never rasher.

use driftmill_config::{Component, Field, Kind as Holds, Need, Problems, Section};

use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{BuildContext, DriftStatus, Kind, StreamDetector, Verdict};
use crate::detectors::Detector;
use crate::state::{ChunkSource, ChunkVisitor, State, StateError, open};

/// Checked parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Params {
    rows_min: u64,
    warning: f64,
    drift: f64,
}

/// The detector: a handful of numbers.
#[derive(Debug, Clone, PartialEq)]
struct Ddm {
    params: Params,
    /// Values ever taken: the stamp of the state.
    taken: u64,
    /// Values since the last alarm, and their mean.
    count: u64,
    rate: f64,
    /// Rate and deviation where their sum was lowest; a rate above 1 while there is none.
    lowest: (f64, f64),
}

/// No rate is so high.
const NONE: (f64, f64) = (2.0, 0.0);

impl Ddm {
    fn new(params: Params) -> Self {
        Self {
            params,
            taken: 0,
            count: 0,
            rate: 0.0,
            lowest: NONE,
        }
    }

    fn verdict(&self, status: DriftStatus, sum: f64) -> Verdict {
        let known = status != DriftStatus::InsufficientData;
        let (rate, deviation) = self.lowest;
        Verdict {
            status,
            score: if known { sum } else { 0.0 },
            effect: if known { self.rate - rate } else { 0.0 },
            threshold: if known {
                rate + self.params.drift * deviation
            } else {
                0.0
            },
            rows: self.count,
        }
    }

    /// What the numbers as they are amount to.
    fn judge(&mut self) -> Verdict {
        if self.count <= self.params.rows_min {
            return self.verdict(DriftStatus::InsufficientData, 0.0);
        }
        let deviation = (self.rate * (1.0 - self.rate) / self.count as f64).max(0.0).sqrt();
        let sum = self.rate + deviation;
        if sum < self.lowest.0 + self.lowest.1 {
            self.lowest = (self.rate, deviation);
        }
        let (rate, lowest) = self.lowest;
        let status = if sum > rate + self.params.drift * lowest {
            DriftStatus::Drift
        } else if sum > rate + self.params.warning * lowest {
            DriftStatus::Warning
        } else {
            DriftStatus::Stable
        };
        self.verdict(status, sum)
    }
}

impl StreamDetector for Ddm {
    /// Takes the next error, 0 or 1, or a share between; others count as the nearer of the two. `score` is the rate and
    /// its deviation, `effect` how far the rate lies above the lowest.
    fn update(&mut self, value: f64) -> Verdict {
        if !value.is_finite() {
            // Nothing was taken: what was known still is, but an alarm is said once.
            let mut verdict = self.clone().judge();
            if verdict.status == DriftStatus::Drift {
                verdict.status = DriftStatus::Stable;
            }
            return verdict;
        }
        self.taken += 1;
        self.count += 1;
        self.rate += (value.clamp(0.0, 1.0) - self.rate) / self.count as f64;
        let verdict = self.judge();
        if verdict.status == DriftStatus::Drift {
            (self.count, self.rate, self.lowest) = (0, 0.0, NONE);
        }
        verdict
    }

    /// All that came before an alarm is forgotten: a warning may have held for long before it.
    fn since_change(&self) -> u64 {
        self.count
    }
}

/// The one chunk.
const CHUNK: &str = "ddm";

impl State for Ddm {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(CHUNK, self.taken, &mut |out| {
            for number in [self.taken, self.count] {
                out.put_u64(number);
            }
            for number in [self.rate, self.lowest.0, self.lowest.1] {
                out.put_f64(number);
            }
        });
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        *self = read(open(chunks, CHUNK)?, self.params).map_err(|error| StateError::of(CHUNK, error))?;
        Ok(())
    }
}

fn read(mut reader: Reader<'_>, params: Params) -> Result<Ddm, CodecError> {
    let (taken, count) = (reader.u64()?, reader.u64()?);
    let (rate, lowest) = (reader.finite()?, (reader.finite()?, reader.finite()?));
    if count > taken || !(0.0..=1.0).contains(&rate) || lowest.1 < 0.0 {
        return Err(reader.error("these numbers are of no detector"));
    }
    reader.finish()?;
    Ok(Ddm {
        params,
        taken,
        count,
        rate,
        lowest,
    })
}

/// The entry of [`DETECTORS`](crate::detectors::DETECTORS).
#[derive(Debug)]
pub struct DdmKind;

impl Component for DdmKind {
    fn name(&self) -> &'static str {
        "ddm"
    }

    fn summary(&self) -> &'static str {
        "The rate of errors against the lowest that it has had (Gama et al. 2004)."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            Field {
                name: "rows_min",
                kind: Holds::Integer,
                need: Need::Optional("30"),
                doc: "Values up to which nothing is said.",
            },
            Field {
                name: "warning",
                kind: Holds::Float,
                need: Need::Optional("2"),
                doc: "Deviations above the lowest rate that are a warning.",
            },
            Field {
                name: "drift",
                kind: Holds::Float,
                need: Need::Optional("3"),
                doc: "Deviations above the lowest rate that are an alarm, more than `warning`.",
            },
        ]
    }

    fn example(&self) -> &'static str {
        "warning = 2.0\ndrift = 3.5\n"
    }
}

impl Kind<Detector> for DdmKind {
    fn build(&self, section: &Section<'_>, _: &BuildContext<'_>, problems: &mut Problems) -> Option<Box<Detector>> {
        let params = Params {
            rows_min: section.get_or("rows_min", 30, problems),
            warning: section.get_or("warning", 2.0, problems),
            drift: section.get_or("drift", 3.0, problems),
        };
        if params.rows_min >= 1 && params.warning > 0.0 && params.drift > params.warning {
            return Some(Box::new(Detector::Stream(Box::new(Ddm::new(params)))));
        }
        let message = "`rows_min` is at least 1, and `drift` above `warning`, which is above 0".to_owned();
        problems.push(section.span(), message, None);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMS: Params = Params {
        rows_min: 30,
        warning: 2.0,
        drift: 3.0,
    };

    /// `random.Random(42)`: `choices([0, 1], k=1000) + choices([0, 1], k=1000, weights=[0.3, 0.7])` in Python, four
    /// values a digit. `drift.binary.DDM` of river 0.26.1 warns first at 1084 and finds a change at 1334 on them.
    const ERRORS: &str = "\
        8e136c8fdf80874fc1a8b318f746b6f1cc65334459360e205be053cf74cb74931cfac5a61b1f1e35f5eb486ba8b57c980f46\
        19b8252c65fff1e0991f1dc10940b1be1b6c6b762ded9692595d2aa0c702eb0a4ae9bc826fde33c07e5b0d7178ed66cb6bd7\
        32c6bb9ea97ce79b47341c643b756ff993eb2fd5f1cc44e8237cfa535094fdbef93fbebba9fbfe9ffb3babf1babb457d3f3e\
        bf5f8effe675fff1e75f2fdffffcc5daeebffbe76ad96f363cbb4daff3fb7d87af7ffbdfbb7d9fff3cdbdeff17dfbfdc3f6e\
        bf3fde37ef0d7fbafffadbf67f6f7fbfba97e3dfe51f3f3aeddafdefaff57e27bd23d9fa8fe6d765f7f5affff70f5bc3657f";

    #[test]
    fn warnings_and_alarms_are_those_of_river() {
        let mut ddm = Ddm::new(PARAMS);
        let (mut warnings, mut drifts) = (Vec::new(), Vec::new());
        let digits = ERRORS.chars().filter_map(|digit| digit.to_digit(16));
        let errors = digits.flat_map(|digit| [8, 4, 2, 1].map(|bit| f64::from(u8::from(digit & bit != 0))));
        for (index, error) in errors.enumerate() {
            match ddm.update(error).status {
                DriftStatus::Warning => warnings.push(index),
                DriftStatus::Drift => drifts.push(index),
                _ => {}
            }
        }
        assert_eq!((ddm.taken, warnings[0], &drifts[..]), (2_000, 1_084, &[1_334][..]));
    }
}
