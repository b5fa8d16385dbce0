//! The declared schema of a topic: names and types of columns, as `[source.schema]` lists them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use driftmill_config::{Problems, Section, nearest};

/// The types that a schema can declare, by the name that the configuration gives them. Timestamps count ticks
/// since 1970-01-01 in UTC, `date32` days.
pub const TYPES: [(&str, DataType); 11] = [
    ("string", DataType::Utf8),
    ("bool", DataType::Boolean),
    ("int64", DataType::Int64),
    ("int32", DataType::Int32),
    ("float64", DataType::Float64),
    ("float32", DataType::Float32),
    ("timestamp[s]", DataType::Timestamp(TimeUnit::Second, None)),
    ("timestamp[ms]", DataType::Timestamp(TimeUnit::Millisecond, None)),
    ("timestamp[us]", DataType::Timestamp(TimeUnit::Microsecond, None)),
    ("timestamp[ns]", DataType::Timestamp(TimeUnit::Nanosecond, None)),
    ("date32", DataType::Date32),
];

/// Names of types that people bring along from elsewhere, and the type that they mean.
const HABITS: [(&str, &str); 20] = [
    ("str", "string"),
    ("text", "string"),
    ("utf8", "string"),
    ("varchar", "string"),
    ("boolean", "bool"),
    ("int", "int64"),
    ("integer", "int64"),
    ("long", "int64"),
    ("bigint", "int64"),
    ("short", "int32"),
    ("int16", "int32"),
    ("int8", "int32"),
    ("float", "float64"),
    ("double", "float64"),
    ("number", "float64"),
    ("real", "float32"),
    ("timestamp", "timestamp[ms]"),
    ("datetime", "timestamp[ms]"),
    ("time", "timestamp[ms]"),
    ("date", "date32"),
];

/// The type that the configuration calls `name`.
#[must_use]
pub fn type_by_name(name: &str) -> Option<DataType> {
    TYPES
        .into_iter()
        .find(|(known, _)| *known == name)
        .map(|(_, kind)| kind)
}

/// The configuration's name of a type; Arrow's where the configuration has none.
#[must_use]
pub fn type_name(kind: &DataType) -> String {
    let known = TYPES.iter().find(|(_, known)| known == kind);
    known.map_or_else(|| kind.to_string(), |(name, _)| (*name).to_owned())
}

/// Reads the columns of `section` (name = "type") in the order of the file; every column may be null. Problems are
/// reported at the entry, with the nearest type. `None` when there was one.
pub fn parse_schema(section: &Section<'_>, problems: &mut Problems) -> Option<SchemaRef> {
    let before = problems.len();
    let entries = section.entries();
    if entries.is_empty() {
        let help = "list the columns of the records, for example `amount = \"float64\"`".to_owned();
        problems.push(
            section.span(),
            format!("[{}] declares no column", section.path()),
            Some(help),
        );
    }
    let mut fields = Vec::with_capacity(entries.len());
    for (name, span) in entries {
        let Some(declared) = section.get::<String>(name, problems) else {
            continue;
        };
        match type_by_name(&declared) {
            Some(kind) => fields.push(Field::new(name, kind, true)),
            None => {
                let (message, help) = unknown_type(&declared);
                problems.push(span, message, Some(help));
            }
        }
    }
    (problems.len() == before).then(|| Arc::new(Schema::new(fields)))
}

fn unknown_type(declared: &str) -> (String, String) {
    let lower = declared.to_lowercase();
    let habit = HABITS
        .iter()
        .find(|(habit, _)| *habit == lower)
        .map(|(_, meant)| *meant);
    let names = TYPES.each_ref().map(|(name, _)| *name);
    let message = match habit.or_else(|| nearest(declared, names)) {
        Some(near) => format!("unknown type `{declared}`; did you mean `{near}`?"),
        None => format!("unknown type `{declared}`"),
    };
    (message, format!("the types are {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftmill_config::Document;

    fn parse(text: &str) -> (Option<SchemaRef>, String) {
        let document = Document::parse("test.toml", text, &|_| None).unwrap_or_else(|p| panic!("{}", p.render()));
        let mut problems = document.problems();
        let section = document.root().table("schema", &mut problems);
        let schema = parse_schema(&section, &mut problems);
        (schema, problems.render())
    }

    #[test]
    fn every_type_is_read_in_the_order_of_the_file() {
        let lines: String = TYPES
            .iter()
            .rev()
            .map(|(name, _)| format!("\"c {name}\" = \"{name}\"\n"))
            .collect();
        let (schema, problems) = parse(&format!("[schema]\n{lines}"));
        let schema = schema.unwrap_or_else(|| panic!("{problems}"));
        for (field, (name, kind)) in schema.fields().iter().zip(TYPES.iter().rev()) {
            assert_eq!(field.name(), &format!("c {name}"));
            assert_eq!(field.data_type(), kind);
            assert!(field.is_nullable());
            assert_eq!(type_name(kind), *name);
        }
        assert_eq!(schema.fields().len(), TYPES.len());
    }

    #[test]
    fn a_mistake_is_answered_at_its_line_with_the_nearest_type() {
        let (schema, problems) =
            parse("[schema]\na = \"int64\"\nb = \"flaot64\"\nc = \"timestamp\"\nd = 3\ne = \"?\"\n");
        assert!(schema.is_none());
        assert!(problems.contains("test.toml:3:5"), "{problems}");
        assert!(
            problems.contains("unknown type `flaot64`; did you mean `float64`?"),
            "{problems}"
        );
        assert!(
            problems.contains("unknown type `timestamp`; did you mean `timestamp[ms]`?"),
            "{problems}"
        );
        assert!(problems.contains("test.toml:5:5"), "{problems}");
        assert!(problems.contains("unknown type `?`"), "{problems}");
    }

    #[test]
    fn every_habit_means_a_type() {
        for (habit, meant) in HABITS {
            assert!(type_by_name(meant).is_some(), "{habit}");
            assert!(type_by_name(habit).is_none(), "{habit}");
        }
    }

    #[test]
    fn a_schema_without_columns_is_refused() {
        let (schema, problems) = parse("[schema]\n");
        assert!(schema.is_none());
        assert!(problems.contains("declares no column"), "{problems}");
    }
}
