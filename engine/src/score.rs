//! The score half: decode → SQL → score → encode, for one epoch at a time. It needs no label, reads no clock, and
//! gives every record exactly one outcome: prediction, filtered, or dead letter.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, StringBuilder, TimestampMillisecondArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Field, Float32Type, Float64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType,
};
use driftmill_connectors::{BadRecord, ConnectError, Decoder, Encoded, Encoder, Header};
use driftmill_models::dictionary::Dictionaries;
use driftmill_models::frame::{Column, ColumnKind, Frame, MISSING};
use driftmill_models::model::{Model, Scratch};

use crate::example::{Examples, Keys, VersionId};
use crate::intake::{EpochInput, LaneId, RowRef, Stream};
use crate::learn::{EpochLabels, LabelReader, labels_in_record};
use crate::settings::{Columns, LabelsFrom, Plan, Role};

/// What an epoch is scored with. Immutable; pinned by the epoch.
#[derive(Clone)]
pub struct Deployment {
    /// Name of the version, such as `v3`; empty while no model is live.
    pub version: String,
    /// Its place in the table of versions.
    pub id: VersionId,
    /// The model; `None` before the first.
    pub model: Option<Arc<Model>>,
}

impl Deployment {
    /// No model is live.
    #[must_use]
    pub fn none() -> Self {
        Self {
            version: String::new(),
            id: VersionId::default(),
            model: None,
        }
    }

    /// Whether the same model serves as the same version.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let same = match (&self.model, &other.model) {
            (Some(model), Some(other)) => Arc::ptr_eq(model, other),
            (None, None) => true,
            _ => false,
        };
        same && self.id == other.id
    }
}

/// What an epoch stamps on its outputs.
#[derive(Debug, Clone, Copy)]
pub struct Stamp<'a> {
    /// The epoch.
    pub epoch: u64,
    /// Hash of the plan.
    pub plan: &'a str,
}

/// What became of an epoch's records.
pub struct Scored {
    /// Predictions.
    pub predictions: Encoded,
    /// Records that could not be processed, as they were.
    pub dead_letters: Encoded,
    /// Number of dead letters by kind, in order of first appearance.
    pub dead_kinds: Vec<(&'static str, u64)>,
    /// Records that the WHERE left out.
    pub filtered: u64,
    /// The rows as served; `None` in a pipeline without a model.
    pub examples: Option<Examples>,
    /// Labels that came in this epoch.
    pub labels: EpochLabels,
    /// Label records among them that are good.
    pub label_records: u64,
}

/// Names of the topics of both streams, in the order that partitions index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// Topics of the source.
    pub source: Arc<[String]>,
    /// Topics of the labels.
    pub labels: Arc<[String]>,
}

impl Topics {
    /// The stream and index of a topic.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<(Stream, u16)> {
        let at = |topics: &[String]| {
            topics
                .iter()
                .position(|topic| topic == name)
                .and_then(|at| u16::try_from(at).ok())
        };
        let source = at(&self.source).map(|at| (Stream::Source, at));
        source.or_else(|| at(&self.labels).map(|at| (Stream::Labels, at)))
    }

    /// Name of a lane's topic.
    #[must_use]
    pub fn name(&self, lane: LaneId) -> &str {
        let topics = match lane.stream {
            Stream::Source => &self.source,
            Stream::Labels => &self.labels,
        };
        topics.get(lane.partition.topic as usize).map_or("", String::as_str)
    }
}

/// The epoch cannot be scored.
#[derive(Debug, thiserror::Error)]
pub enum ScoreError {
    /// A connector failed.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// A record cannot be processed and there is no place for it.
    #[error(
        "{at}: {reason}; set `dead_letters` in [source] to a topic for such records, then start again: nothing is lost, the record will be read again"
    )]
    NoDeadLetters {
        /// Topic, partition, offset.
        at: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A bug.
    #[error("internal error while scoring: {0}; please report it with the configuration")]
    Internal(String),
}

impl From<datafusion::arrow::error::ArrowError> for ScoreError {
    fn from(error: datafusion::arrow::error::ArrowError) -> Self {
        Self::Internal(error.to_string())
    }
}

/// Scores epochs under one plan. Holds scratch space only: no state.
pub struct ScoreHalf {
    plan: Arc<Plan>,
    topics: Topics,
    label_reader: Option<LabelReader>,
    decoder: Box<dyn Decoder>,
    encoder: Box<dyn Encoder>,
    output: SchemaRef,
    scratch: Scratch,
}

impl ScoreHalf {
    /// Prepares for `plan`.
    ///
    /// # Errors
    /// A type that a codec has no form for.
    pub fn new(plan: Arc<Plan>, topics: &Topics) -> Result<Self, ConnectError> {
        let decoder = plan.source_codec.decoder(Arc::clone(plan.transform.read_schema()))?;
        let mut fields: Vec<Field> = plan
            .transform
            .output_schema()
            .fields()
            .iter()
            .map(|field| field.as_ref().clone())
            .collect();
        if plan.model.is_some() {
            fields.push(Field::new("prediction", DataType::Float64, true));
        }
        fields.push(Field::new("driftmill_at", DataType::Utf8, false));
        let output: SchemaRef = Arc::new(Schema::new(fields));
        let encoder = plan.sink_codec.encoder(Arc::clone(&output))?;
        let label_reader = match &plan.learn {
            Some(learn) => LabelReader::new(&learn.labels.from)?,
            None => None,
        };
        Ok(Self {
            plan,
            topics: topics.clone(),
            label_reader,
            decoder,
            encoder,
            output,
            scratch: Scratch::default(),
        })
    }

    /// Gives every source record of `input` its outcome.
    ///
    /// # Errors
    /// A dead letter without a place to go, or a fault of a connector; never because of one record otherwise.
    pub fn score(
        &mut self,
        input: &EpochInput,
        deployment: &Deployment,
        dictionaries: &mut Dictionaries,
        stamp: Stamp<'_>,
    ) -> Result<Scored, ScoreError> {
        let payloads: Vec<Option<&[u8]>> = input.source.iter().map(|row| record(input, row).payload).collect();
        let decoded = self.decoder.decode(&payloads)?;
        let (plan, topics) = (Arc::clone(&self.plan), self.topics.clone());
        let mut dead = DeadLetters::new(&plan, &topics);
        for (row, bad) in &decoded.bad {
            dead.push(input, &input.source[*row], bad)?;
        }
        let good = good_rows(payloads.len(), &decoded.bad);
        let transformed = self.plan.transform.apply(&decoded.batch);
        for (row, reason) in transformed.failed {
            let bad = BadRecord {
                kind: "sql",
                column: None,
                detail: reason,
            };
            dead.push(input, &input.source[original(good.as_deref(), row)], &bad)?;
        }
        let kept: Vec<RowRef> = match &transformed.rows {
            None => (0..decoded.batch.num_rows())
                .map(|row| input.source[original(good.as_deref(), row)])
                .collect(),
            Some(rows) => rows
                .iter()
                .map(|row| input.source[original(good.as_deref(), *row as usize)])
                .collect(),
        };
        let batch = transformed.batch;
        let (frame, scores) = self.predict(&batch, deployment, dictionaries)?;
        let ids = self
            .plan
            .columns
            .position(Role::Id)
            .map(|column| text(batch.column(column)))
            .transpose()?;
        let mut predictions = Encoded::default();
        let output = self.output_batch(input, &batch, &kept, &scores)?;
        self.encoder
            .encode(&output, &self.suffix(deployment, stamp)?, &mut predictions)?;
        for (row, source) in kept.iter().enumerate() {
            let record = record(input, source);
            let key = ids
                .as_ref()
                .map_or(record.key, |ids| ids.is_valid(row).then(|| ids.value(row).as_bytes()));
            predictions.set(row, key, record.timestamp_ms);
        }
        let predictions = self.leave_out_oversized(input, &kept, predictions, &mut dead)?;
        let examples = match frame {
            Some(frame) => Some(self.examples(&batch, &kept, ids.as_ref(), frame, scores, deployment)?),
            None => None,
        };
        let mut labels = EpochLabels::default();
        if let (Some(learn), Some(examples)) = (&plan.learn, &examples)
            && let LabelsFrom::Columns { label, available_at } = &learn.labels.from
        {
            labels.in_record = Some(labels_in_record(&batch, *label, *available_at, &examples.time_ms)?);
        }
        let mut label_records = 0;
        if let Some(reader) = &mut self.label_reader {
            for outcome in reader.read(input)? {
                match outcome {
                    Ok(label) => {
                        label_records += 1;
                        labels.by_key.push(label);
                    }
                    Err((row, bad)) => dead.push(input, &row, &bad)?,
                }
            }
        }
        Ok(Scored {
            labels,
            label_records,
            predictions,
            dead_letters: dead.letters,
            dead_kinds: dead.kinds,
            filtered: transformed.filtered as u64,
            examples,
        })
    }

    fn predict(
        &mut self,
        batch: &RecordBatch,
        deployment: &Deployment,
        dictionaries: &mut Dictionaries,
    ) -> Result<(Option<Frame>, Vec<f64>), ScoreError> {
        if self.plan.model.is_none() {
            return Ok((None, Vec::new()));
        }
        let frame = features(&self.plan.columns, batch, dictionaries)?;
        let mut scores = Vec::with_capacity(batch.num_rows());
        match &deployment.model {
            Some(model) => model.score(&frame, dictionaries, &mut self.scratch, &mut scores),
            None => scores.resize(batch.num_rows(), f64::NAN),
        }
        Ok((Some(frame), scores))
    }

    fn output_batch(
        &self,
        input: &EpochInput,
        batch: &RecordBatch,
        kept: &[RowRef],
        scores: &[f64],
    ) -> Result<RecordBatch, ScoreError> {
        let mut columns = batch.columns().to_vec();
        if self.plan.model.is_some() {
            let values = scores.iter().map(|score| score.is_finite().then_some(*score));
            columns.push(Arc::new(Float64Array::from_iter(values)));
        }
        columns.push(self.places(input, kept));
        Ok(RecordBatch::try_new(Arc::clone(&self.output), columns)?)
    }

    /// `topic/partition/offset` of each record.
    fn places(&self, input: &EpochInput, kept: &[RowRef]) -> ArrayRef {
        let prefixes: Vec<String> = input
            .chunks
            .iter()
            .map(|(lane, _)| format!("{}/{}/", self.topics.name(*lane), lane.partition.partition))
            .collect();
        let mut places = StringBuilder::with_capacity(kept.len(), kept.len() * 24);
        let mut place = String::with_capacity(64);
        for row in kept {
            place.clear();
            place.push_str(&prefixes[row.chunk as usize]);
            place.push_str(itoa::Buffer::new().format(input.chunks[row.chunk as usize].1.offset(row.row as usize)));
            places.append_value(&place);
        }
        Arc::new(places.finish())
    }

    fn suffix(&self, deployment: &Deployment, stamp: Stamp<'_>) -> Result<Vec<u8>, ConnectError> {
        let model = (!deployment.version.is_empty()).then_some(deployment.version.as_str());
        let lineage = serde_json::json!({ "model": model, "plan": stamp.plan, "epoch": stamp.epoch });
        self.encoder.fragment(&[("driftmill", lineage)])
    }

    /// Turns predictions that are larger than their topic takes into dead letters.
    fn leave_out_oversized(
        &self,
        input: &EpochInput,
        kept: &[RowRef],
        predictions: Encoded,
        dead: &mut DeadLetters<'_>,
    ) -> Result<Encoded, ScoreError> {
        let limit = self.plan.prediction_bytes_max;
        let size = |row: usize| {
            let record = predictions.get(row);
            record.payload.len() + record.key.map_or(0, <[u8]>::len)
        };
        // Only a whole output larger than the limit can hold a record that is.
        if predictions.position() <= limit || (0..predictions.len()).all(|row| size(row) <= limit) {
            return Ok(predictions);
        }
        let mut fitting = Encoded::default();
        for (row, source) in kept.iter().enumerate() {
            let record = predictions.get(row);
            if size(row) <= limit {
                fitting.push(record.key, record.payload, record.timestamp_ms, record.headers.to_vec());
                continue;
            }
            let detail = format!("the prediction has {} bytes, its topic takes {limit}", size(row));
            dead.push(
                input,
                source,
                &BadRecord {
                    kind: "too-large",
                    column: None,
                    detail,
                },
            )?;
        }
        Ok(fitting)
    }

    fn examples(
        &self,
        batch: &RecordBatch,
        kept: &[RowRef],
        ids: Option<&StringArray>,
        frame: Frame,
        scores: Vec<f64>,
        deployment: &Deployment,
    ) -> Result<Examples, ScoreError> {
        let mut keys = Keys::default();
        if let Some(ids) = ids {
            ids.iter().for_each(|id| keys.push(id.unwrap_or_default().as_bytes()));
        }
        let mut time_ms: Vec<i64> = kept.iter().map(|row| row.time_ms).collect();
        if let Some(times) = event_times(&self.plan.columns, batch)? {
            for (row, time) in time_ms.iter_mut().enumerate() {
                if times.is_valid(row) {
                    *time = times.value(row);
                }
            }
        }
        let weights = weights(&self.plan.columns, batch)?;
        Ok(Examples {
            keys,
            time_ms,
            frame,
            scores,
            version: deployment.id,
            weights,
            shadow: Vec::new(),
        })
    }
}

/// The features of a batch of the SQL, category codes of `dictionaries`, which learn the strings they lack.
pub(crate) fn features(
    columns: &Columns,
    batch: &RecordBatch,
    dictionaries: &mut Dictionaries,
) -> Result<Frame, ScoreError> {
    let mut features = Vec::with_capacity(columns.features.len());
    for (index, (&column, spec)) in columns.features.iter().zip(&columns.specs).enumerate() {
        features.push(match spec.kind {
            ColumnKind::Number => Column::F64(numbers(batch.column(column))?),
            ColumnKind::Category => Column::Code(codes(batch.column(column), index, dictionaries)?),
            ColumnKind::Vector { width } => vectors(batch.column(column), width as usize)?,
        });
    }
    Ok(Frame::new(batch.num_rows(), features))
}

/// The rows' own times in milliseconds, where a column has them.
pub(crate) fn event_times(
    columns: &Columns,
    batch: &RecordBatch,
) -> Result<Option<TimestampMillisecondArray>, ScoreError> {
    let Some(column) = columns.position(Role::Time) else {
        return Ok(None);
    };
    let times = cast(batch.column(column), &DataType::Timestamp(TimeUnit::Millisecond, None))?;
    Ok(Some(times.as_primitive::<TimestampMillisecondType>().clone()))
}

/// A weight for each row, above 0.
pub(crate) fn weights(columns: &Columns, batch: &RecordBatch) -> Result<Vec<f64>, ScoreError> {
    Ok(match columns.position(Role::Weight) {
        Some(column) => numbers(batch.column(column))?.into_iter().map(usable_weight).collect(),
        None => vec![1.0; batch.num_rows()],
    })
}

/// A weight that learners may rely on: missing, negative or infinite ones count as 1.
fn usable_weight(weight: f64) -> f64 {
    if weight.is_finite() && weight > 0.0 {
        weight
    } else {
        1.0
    }
}

fn record<'a>(input: &'a EpochInput, row: &RowRef) -> driftmill_connectors::Record<'a> {
    input.chunks[row.chunk as usize].1.get(row.row as usize)
}

/// Input rows that were decoded; `None` when all were.
pub(crate) fn good_rows(rows: usize, bad: &[(usize, BadRecord)]) -> Option<Vec<u32>> {
    if bad.is_empty() {
        return None;
    }
    let mut bad = bad.iter().map(|(row, _)| *row).peekable();
    Some(
        (0..rows)
            .filter(|row| bad.next_if_eq(row).is_none())
            .map(|row| row as u32)
            .collect(),
    )
}

/// The input row of a decoded one.
pub(crate) fn original(good: Option<&[u32]>, row: usize) -> usize {
    good.map_or(row, |good| good[row] as usize)
}

fn text(column: &ArrayRef) -> Result<StringArray, ScoreError> {
    Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
}

/// Values as f64; missing ones are NaN.
fn numbers(column: &ArrayRef) -> Result<Vec<f64>, ScoreError> {
    let values = cast(column, &DataType::Float64)?;
    let values = values.as_primitive::<Float64Type>();
    if values.null_count() == 0 {
        return Ok(values.values().to_vec());
    }
    Ok(values.iter().map(|value| value.unwrap_or(f64::NAN)).collect())
}

/// Vectors of `width` numbers; the numbers of missing ones are NaN.
fn vectors(column: &ArrayRef, width: usize) -> Result<Column, ScoreError> {
    let other = || {
        ScoreError::Internal(format!(
            "vectors of {width} numbers in a column of type {}",
            column.data_type()
        ))
    };
    let vectors = column.as_fixed_size_list_opt().ok_or_else(other)?;
    let numbers = vectors.values().as_primitive_opt::<Float32Type>().ok_or_else(other)?;
    let mut values: Vec<f32> = match numbers.null_count() {
        0 => numbers.values().to_vec(),
        _ => numbers.iter().map(|number| number.unwrap_or(f32::NAN)).collect(),
    };
    if values.len() != column.len() * width {
        return Err(other());
    }
    if vectors.null_count() > 0 {
        let rows = values.chunks_mut(width).enumerate();
        rows.filter(|(row, _)| vectors.is_null(*row))
            .for_each(|(_, vector)| vector.fill(f32::NAN));
    }
    Ok(Column::Vector { width, values })
}

fn codes(column: &ArrayRef, index: usize, dictionaries: &mut Dictionaries) -> Result<Vec<u32>, ScoreError> {
    let values = text(column)?;
    let Some(dictionary) = dictionaries.get_mut(index) else {
        return Err(ScoreError::Internal(format!("feature {index} has no dictionary")));
    };
    Ok(values
        .iter()
        .map(|value| value.map_or(MISSING, |value| dictionary.intern(value)))
        .collect())
}

/// Dead letters of one epoch.
struct DeadLetters<'a> {
    plan: &'a Plan,
    topics: &'a Topics,
    letters: Encoded,
    kinds: Vec<(&'static str, u64)>,
}

impl<'a> DeadLetters<'a> {
    fn new(plan: &'a Plan, topics: &'a Topics) -> Self {
        Self {
            plan,
            topics,
            letters: Encoded::default(),
            kinds: Vec::new(),
        }
    }

    fn push(&mut self, input: &EpochInput, row: &RowRef, bad: &BadRecord) -> Result<(), ScoreError> {
        let (lane, _) = &input.chunks[row.chunk as usize];
        let record = record(input, row);
        let topic = self.topics.name(*lane);
        if !self.plan.dead_letters {
            let at = format!(
                "topic {topic}, partition {}, offset {}",
                lane.partition.partition, record.offset
            );
            return Err(ScoreError::NoDeadLetters {
                at,
                reason: bad.to_string(),
            });
        }
        match self.kinds.iter_mut().find(|(kind, _)| *kind == bad.kind) {
            Some((_, count)) => *count += 1,
            None => self.kinds.push((bad.kind, 1)),
        }
        let mut headers: Vec<Header> = vec![
            ("driftmill.reason", bad.to_string().into_bytes()),
            ("driftmill.kind", bad.kind.as_bytes().to_vec()),
            ("driftmill.topic", topic.as_bytes().to_vec()),
            ("driftmill.partition", lane.partition.partition.to_string().into_bytes()),
            ("driftmill.offset", record.offset.to_string().into_bytes()),
        ];
        let payload = record.payload.unwrap_or_default();
        if record.payload.is_none() {
            headers.push(("driftmill.tombstone", b"true".to_vec()));
        }
        // Room for headers and framing, which count against the same limit.
        let room = self.plan.dead_letter_bytes_max.saturating_sub(2048);
        let key = record.key.filter(|key| key.len() <= room / 2);
        let room = room - key.map_or(0, <[u8]>::len);
        let cut = payload.len().min(room);
        if cut < payload.len() || key.is_none() && record.key.is_some() {
            let mut hash = blake3::Hasher::new();
            hash.update(payload);
            headers.push(("driftmill.truncated_from_bytes", payload.len().to_string().into_bytes()));
            headers.push(("driftmill.blake3", hash.finalize().to_hex().as_bytes().to_vec()));
        }
        self.letters.push(key, &payload[..cut], record.timestamp_ms, headers);
        Ok(())
    }
}
