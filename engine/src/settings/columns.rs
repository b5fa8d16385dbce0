//! What each column of the features SQL is for, and how features are encoded.

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use driftmill_config::{Problems, Section, Span, nearest};
use driftmill_connectors::schema::vector_width;
use driftmill_models::encoders::ColumnsEncoder;
use driftmill_models::frame::{ColumnKind, ColumnSpec};

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Names the row: key of the prediction, and what labels refer to.
    Id,
    /// Event time.
    Time,
    /// Weight in learning.
    Weight,
    /// Names a part of the population; not a feature.
    Segment,
    /// Written to the output only.
    Passthrough,
    /// Input of the model.
    Feature,
}

const ROLES: &[(&str, Role)] = &[
    ("id", Role::Id),
    ("time", Role::Time),
    ("weight", Role::Weight),
    ("segment", Role::Segment),
    ("passthrough", Role::Passthrough),
    ("feature", Role::Feature),
];

/// Names that the engine adds to every prediction.
pub(crate) const RESERVED: [&str; 3] = ["prediction", "driftmill", "driftmill_at"];

/// Roles of the SQL's columns; the encoder of the features.
pub struct Columns {
    /// Role of each column, in the SQL's order.
    pub roles: Vec<Role>,
    /// Position of each feature among the SQL's columns.
    pub features: Vec<usize>,
    /// Name and kind of each feature, in the same order.
    pub specs: Vec<ColumnSpec>,
    /// The encoder, unfitted; `None` in a pipeline that only transforms.
    pub encoder: Option<ColumnsEncoder>,
}

impl Columns {
    pub(super) fn read(
        section: &Section<'_>,
        output: &SchemaRef,
        sql: Span,
        time: Option<(String, Span)>,
        with_model: bool,
        labels: &[String],
        problems: &mut Problems,
    ) -> Option<Self> {
        let before = problems.len();
        check_names(section, output, sql, problems);
        let mut roles: Vec<Role> = output
            .fields()
            .iter()
            .map(|field| match labels.contains(field.name()) {
                // A label is what a model answers, never what it is asked with.
                true => Role::Passthrough,
                false => role_of(section, field.name(), field.data_type(), problems),
            })
            .collect();
        if let Some((name, span)) = time {
            set_time(&mut roles, &name, span, output, problems);
        }
        check_roles(section, &roles, output, problems);
        let features: Vec<usize> = (0..roles.len())
            .filter(|&column| with_model && roles[column] == Role::Feature)
            .collect();
        let mut specs = Vec::with_capacity(features.len());
        for &column in &features {
            let field = output.field(column);
            match kind_of(field.data_type()) {
                Some(kind) => specs.push(ColumnSpec {
                    name: field.name().clone(),
                    kind,
                }),
                None => problems.push(
                    section.key_span(field.name()),
                    format!(
                        "column `{}` of type {} cannot be a feature",
                        field.name(),
                        field.data_type()
                    ),
                    Some("give it another role, or CAST it in the SQL".to_owned()),
                ),
            }
        }
        if with_model && features.is_empty() && problems.len() == before {
            problems.push(sql, "no column of the SQL is a feature", None);
        }
        let encoder = if with_model && problems.len() == before {
            // Seed 0: the hash encoder must place categories alike in every pipeline that loads an artifact.
            Some(ColumnsEncoder::from_config(section, &specs, 0, problems)?)
        } else {
            None
        };
        (problems.len() == before).then_some(Self {
            roles,
            features,
            specs,
            encoder,
        })
    }

    /// Position of the column with `role`, if there is one.
    #[must_use]
    pub fn position(&self, role: Role) -> Option<usize> {
        self.roles.iter().position(|known| *known == role)
    }
}

fn check_names(section: &Section<'_>, output: &SchemaRef, sql: Span, problems: &mut Problems) {
    let names: Vec<&str> = output.fields().iter().map(|field| field.name().as_str()).collect();
    for (name, _) in section.entries() {
        if !names.contains(&name) {
            let help = nearest(name, names.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            problems.push(section.name_span(name), format!("the SQL has no column `{name}`"), help);
        }
    }
    for name in names {
        if RESERVED.contains(&name) {
            let help = format!("give it another name with AS: every prediction has a field `{name}`");
            problems.push(sql, format!("the name `{name}` is taken"), Some(help));
        }
    }
}

fn role_of(section: &Section<'_>, name: &str, kind: &DataType, problems: &mut Problems) -> Role {
    let table = section.table(name, problems);
    let Some(role) = table.get::<String>("role", problems) else {
        let encoded = table.has("encode");
        return match kind_of(kind) {
            Some(_) => Role::Feature,
            None if encoded => Role::Feature,
            None => Role::Passthrough,
        };
    };
    match ROLES.iter().find(|(known, _)| *known == role) {
        Some((_, role)) => *role,
        None => {
            let names: Vec<&str> = ROLES.iter().map(|(name, _)| *name).collect();
            let help = nearest(&role, names.iter().copied()).map_or_else(
                || format!("roles are {}", names.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            problems.push(table.key_span("role"), "unknown role", Some(help));
            Role::Passthrough
        }
    }
}

fn set_time(roles: &mut [Role], name: &str, span: Span, output: &SchemaRef, problems: &mut Problems) {
    match output.index_of(name) {
        Ok(column) => roles[column] = Role::Time,
        Err(_) => {
            let names = output.fields().iter().map(|field| field.name().as_str());
            let help = nearest(name, names).map(|near| format!("did you mean `{near}`?"));
            problems.push(span, format!("the SQL has no column `{name}`"), help);
        }
    }
}

fn check_roles(section: &Section<'_>, roles: &[Role], output: &SchemaRef, problems: &mut Problems) {
    for (only, name) in [(Role::Id, "id"), (Role::Time, "time"), (Role::Weight, "weight")] {
        let mut columns = (0..roles.len()).filter(|&column| roles[column] == only);
        let first = columns.next();
        if let Some(second) = columns.next() {
            problems.push(
                section.key_span(output.field(second).name()),
                format!("a second column has the role {name}"),
                None,
            );
        }
        let Some(column) = first else { continue };
        let kind = output.field(column).data_type();
        let fits = match only {
            Role::Id => matches!(kind, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8) || kind.is_integer(),
            Role::Time => matches!(kind, DataType::Timestamp(_, _)),
            _ => kind.is_numeric(),
        };
        if !fits {
            problems.push(
                section.key_span(output.field(column).name()),
                format!("a column of type {kind} cannot have the role {name}"),
                None,
            );
        }
    }
}

fn kind_of(kind: &DataType) -> Option<ColumnKind> {
    match kind {
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => Some(ColumnKind::Category),
        DataType::Boolean => Some(ColumnKind::Number),
        kind if kind.is_numeric() => Some(ColumnKind::Number),
        kind => vector_width(kind).map(|width| ColumnKind::Vector { width }),
    }
}
