//! The learn half as state: every part under its own prefix. Parts that begin anew get another prefix, because change
//! stamps never go back under one name.

use driftmill_models::codec::{CodecError, Put, Reader};
use driftmill_models::state::{ChunkSource, ChunkVisitor, State, StateError, Within, WithinSource, open};

use super::{Candidate, Former, LearnHalf, Prior, Started, Trigger, WatchKind};
use crate::trainer::Job;

/// Format of the head.
const FORMAT: u32 = 2;
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

impl LearnHalf {
    fn watch_prefix(&self, index: usize) -> String {
        match self.watches[index].kind() {
            WatchKind::Loss { .. } => format!("watch/{index}/{}/", self.generation),
            WatchKind::Features { .. } => format!("watch/{index}/"),
        }
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        out.put_u32(FORMAT);
        for number in [self.stamp, self.generation, self.passed, self.bootstrap_at] {
            out.put_u64(number);
        }
        for number in [self.champion_rows, self.contests] {
            out.put_u64(number);
        }
        out.put_u32(self.attempts);
        out.put_u32(self.returns);
        put_optional(out, self.last_job_ms);
        put_optional(out, self.champion_ms);
        out.put_f64(self.prior.weight);
        out.put_f64(self.prior.positives);
        put_part(out, self.trigger.as_ref(), |trigger, out| trigger.write(out));
        put_part(out, self.job.as_ref(), |started, out| started.write(out));
        put_part(out, self.candidate.as_ref(), |candidate, out| candidate.write(out));
        put_part(out, self.former.as_ref(), |former, out| former.write(out));
        if let Some(online) = &self.online {
            online.write(out);
        }
    }

    /// Reads the head; whether the online learner has a snapshot in shadow.
    fn read_head(&mut self, mut reader: Reader<'_>) -> Result<bool, CodecError> {
        let format = reader.u32()?;
        if format != FORMAT {
            return Err(reader.error(format!("format {format}, and this version reads {FORMAT}")));
        }
        for number in [
            &mut self.stamp,
            &mut self.generation,
            &mut self.passed,
            &mut self.bootstrap_at,
            &mut self.champion_rows,
            &mut self.contests,
        ] {
            *number = reader.u64()?;
        }
        self.attempts = reader.u32()?;
        self.returns = reader.u32()?;
        self.last_job_ms = optional(&mut reader)?;
        self.champion_ms = optional(&mut reader)?;
        self.prior = Prior {
            weight: reader.finite()?,
            positives: reader.finite()?,
        };
        let gate = self.settings.gate;
        self.trigger = part(&mut reader, Trigger::read)?;
        self.job = part(&mut reader, Started::read)?;
        self.candidate = part(&mut reader, |reader| Candidate::read(reader, &gate))?;
        self.former = part(&mut reader, |reader| Former::read(reader, &gate))?;
        let has_shadow = match &mut self.online {
            Some(online) => online.read(&mut reader, &gate)?,
            None => false,
        };
        reader.finish()?;
        Ok(has_shadow)
    }
}

fn put_part<T>(out: &mut Vec<u8>, part: Option<&T>, write: impl FnOnce(&T, &mut Vec<u8>)) {
    out.put_u8(u8::from(part.is_some()));
    if let Some(part) = part {
        write(part, out);
    }
}

fn part<T>(
    reader: &mut Reader<'_>,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, CodecError>,
) -> Result<Option<T>, CodecError> {
    match reader.u8()? {
        1 => read(reader).map(Some),
        _ => Ok(None),
    }
}

impl Trigger {
    fn write(&self, out: &mut Vec<u8>) {
        out.put_str(&self.name);
        out.put_u64(self.rows);
        out.put_u64(self.needed);
        out.put_u64(self.changed_at);
        out.put_u8(u8::from(self.is_fresh));
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            name: reader.str()?.to_owned(),
            rows: reader.u64()?,
            needed: reader.u64()?,
            changed_at: reader.u64()?,
            is_fresh: reader.u8()? == 1,
        })
    }
}

impl Started {
    fn write(&self, out: &mut Vec<u8>) {
        out.put_str(&self.id);
        out.put_str(&self.cause);
        // A job that was begun has been serialised once already, for its id.
        out.put_bytes(&self.job.to_bytes().unwrap_or_default());
        out.put_u64(self.cut_rows);
        out.put_u64(self.middle_row);
        out.put_f64(self.prior);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (id, cause) = (reader.str()?.to_owned(), reader.str()?.to_owned());
        let job = Job::from_bytes(reader.bytes()?).map_err(|error| reader.error(error.to_string()))?;
        Ok(Self {
            id,
            cause,
            job,
            cut_rows: reader.u64()?,
            middle_row: reader.u64()?,
            prior: reader.finite()?,
        })
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
            candidate.contest.save_pairs(chunks);
        }
        if let Some(former) = &self.former {
            former.standing.save_pairs(chunks);
        }
        if let Some(online) = &self.online {
            online.save_chunks(chunks);
        }
    }

    fn restore(&mut self, chunks: &dyn ChunkSource) -> Result<(), StateError> {
        let reader = open(chunks, HEAD)?;
        let has_shadow = self.read_head(reader).map_err(|error| StateError::of(HEAD, error))?;
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
            candidate.contest.restore_pairs(chunks)?;
        }
        if let Some(former) = &mut self.former {
            former.standing.restore_pairs(chunks)?;
        }
        match &mut self.online {
            Some(online) => online.restore_chunks(chunks, has_shadow),
            None => Ok(()),
        }
    }
}
