//! The learn half as state: every part under its own prefix. Parts that begin anew get another prefix, because change
//! stamps never go back under one name.

use driftmill_models::codec::{CodecError, Put, Reader};
use driftmill_models::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};

use super::{Candidate, LearnHalf, Started, Trigger, WatchKind};
use crate::trainer::Job;

const HEAD: &str = "head";
const PARTS: [&str; 4] = ["join/", "quarantine/", "buffer/", "quality/"];

fn put_optional(out: &mut Vec<u8>, value: Option<i64>) {
    out.put_u8(u8::from(value.is_some()));
    out.put_u64(value.unwrap_or_default() as u64);
}

fn optional(reader: &mut Reader<'_>) -> Result<Option<i64>, CodecError> {
    let known = reader.u8()? == 1;
    let value = reader.u64()? as i64;
    Ok(known.then_some(value))
}

fn pairs_prefix(job: &str) -> String {
    format!("pairs/{job}/")
}

impl LearnHalf {
    fn watch_prefix(&self, index: usize) -> String {
        match self.watches[index].kind() {
            WatchKind::Loss { .. } => format!("watch/{index}/{}/", self.generation),
            WatchKind::Features { .. } => format!("watch/{index}/"),
        }
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        out.put_u64(self.stamp);
        out.put_u64(self.generation);
        out.put_u64(self.passed);
        out.put_u32(self.attempts);
        put_optional(out, self.last_job_ms);
        out.put_u8(u8::from(self.trigger.is_some()));
        if let Some(trigger) = &self.trigger {
            out.put_str(&trigger.name);
            out.put_u64(trigger.rows);
            out.put_u64(trigger.needed);
        }
        out.put_u8(u8::from(self.job.is_some()));
        if let Some(started) = &self.job {
            out.put_str(&started.id);
            out.put_str(&started.cause);
            out.put_bytes_block(&started.job);
        }
        out.put_u8(u8::from(self.candidate.is_some()));
        if let Some(candidate) = &self.candidate {
            out.put_str(&candidate.job);
            out.put_str(&candidate.artifact);
            out.put_u64(candidate.cut_ms as u64);
            out.put_u32(candidate.attempt);
            out.put_u64(candidate.age_blocks);
            out.put_u64(candidate.not_finite);
            out.put_u64(candidate.counted_ms as u64);
        }
    }

    fn read_head(&mut self, mut reader: Reader<'_>) -> Result<(), CodecError> {
        self.stamp = reader.u64()?;
        self.generation = reader.u64()?;
        self.passed = reader.u64()?;
        self.attempts = reader.u32()?;
        self.last_job_ms = optional(&mut reader)?;
        self.trigger = match reader.u8()? {
            1 => Some(Trigger {
                name: reader.str()?.to_owned(),
                rows: reader.u64()?,
                needed: reader.u64()?,
            }),
            _ => None,
        };
        self.job = match reader.u8()? {
            1 => {
                let (id, cause) = (reader.str()?.to_owned(), reader.str()?.to_owned());
                let job = Job::from_bytes(reader.bytes()?).map_err(|error| reader.error(error.to_string()))?;
                Some(Started { id, cause, job })
            }
            _ => None,
        };
        self.candidate = match reader.u8()? {
            1 => {
                let (job, artifact) = (reader.str()?.to_owned(), reader.str()?.to_owned());
                let (cut_ms, attempt) = (reader.u64()? as i64, reader.u32()?);
                let mut candidate = Candidate::without_model(&job, &artifact, cut_ms, attempt, &self.settings.gate);
                candidate.age_blocks = reader.u64()?;
                candidate.not_finite = reader.u64()?;
                candidate.counted_ms = reader.u64()? as i64;
                Some(candidate)
            }
            _ => None,
        };
        reader.finish()
    }
}

trait PutJob {
    fn put_bytes_block(&mut self, job: &Job);
}

impl PutJob for Vec<u8> {
    fn put_bytes_block(&mut self, job: &Job) {
        // A job that was begun has been serialised once already, for its id.
        self.put_bytes(&job.to_bytes().unwrap_or_default());
    }
}

impl State for LearnHalf {
    fn save(&self, chunks: &mut dyn ChunkVisitor) {
        chunks.chunk(HEAD, self.stamp, &mut |out| self.write_head(out));
        let parts: [&dyn State; 4] = [&self.join, &self.quarantine, &self.buffer, &self.quality];
        for (prefix, part) in PARTS.iter().zip(parts) {
            part.save(&mut Within::new(prefix, chunks));
        }
        for (index, watch) in self.watches.iter().enumerate() {
            let prefix = self.watch_prefix(index);
            let mut within = Within::new(&prefix, chunks);
            match watch.kind() {
                WatchKind::Loss { detector, .. } => detector.save(&mut within),
                WatchKind::Features { monitor, .. } => monitor.save(&mut within),
            }
        }
        if let Some(candidate) = &self.candidate {
            candidate
                .pairs
                .save(&mut Within::new(&pairs_prefix(&candidate.job), chunks));
        }
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let reader = open(chunks, HEAD)?;
        self.read_head(reader).map_err(|error| StateError::of(HEAD, error))?;
        let parts: [&mut dyn State; 4] = [
            &mut self.join,
            &mut self.quarantine,
            &mut self.buffer,
            &mut self.quality,
        ];
        for (prefix, part) in PARTS.iter().zip(parts) {
            part.restore(&WithinSource::new(prefix, chunks))
                .map_err(|error| error.within(prefix))?;
        }
        for index in 0..self.watches.len() {
            let prefix = self.watch_prefix(index);
            let within = WithinSource::new(&prefix, chunks);
            match self.watches[index].kind_mut() {
                WatchKind::Loss { detector, .. } => detector.restore(&within),
                WatchKind::Features { monitor, .. } => monitor.restore(&within),
            }
            .map_err(|error| error.within(&prefix))?;
        }
        if let Some(candidate) = &mut self.candidate {
            let prefix = pairs_prefix(&candidate.job);
            candidate
                .pairs
                .restore(&WithinSource::new(&prefix, chunks))
                .map_err(|error| error.within(&prefix))?;
        }
        Ok(())
    }
}
