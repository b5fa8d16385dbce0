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

/// Numbers that a vector may have: a record that lacks its vector takes as much memory as one that has it.
pub const VECTOR_WIDTH_MAX: u32 = 4_096;

/// The type of vectors of `width` numbers, `float32[width]`; `None` beyond 1 to [`VECTOR_WIDTH_MAX`].
#[must_use]
pub fn vector_type(width: u32) -> Option<DataType> {
    let numbers = Arc::new(Field::new_list_field(DataType::Float32, true));
    let width = (1..=VECTOR_WIDTH_MAX).contains(&width).then_some(width)?;
    Some(DataType::FixedSizeList(numbers, i32::try_from(width).ok()?))
}

/// Numbers of each vector of a type; `None` when it is no type of vectors.
#[must_use]
pub fn vector_width(kind: &DataType) -> Option<u32> {
    match kind {
        DataType::FixedSizeList(numbers, width) if *numbers.data_type() == DataType::Float32 => {
            u32::try_from(*width).ok().filter(|width| *width > 0)
        }
        _ => None,
    }
}

/// Splits `float32[384]` into what stands before the brackets and the number inside.
fn bracketed(name: &str) -> Option<(&str, u32)> {
    let (base, width) = name.strip_suffix(']')?.split_once('[')?;
    let is_plain = !width.is_empty() && width.bytes().all(|byte| byte.is_ascii_digit());
    Some((base, is_plain.then(|| width.parse().unwrap_or(u32::MAX))?))
}

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
    let known = TYPES.into_iter().find(|(known, _)| *known == name);
    let vector = || bracketed(name).filter(|(base, _)| *base == "float32");
    known.map(|(_, kind)| kind).or_else(|| vector_type(vector()?.1))
}

/// The configuration's name of a type; Arrow's where the configuration has none.
#[must_use]
pub fn type_name(kind: &DataType) -> String {
    let known = TYPES.iter().find(|(_, known)| known == kind);
    match (known, vector_width(kind)) {
        (Some((name, _)), _) => (*name).to_owned(),
        (None, Some(width)) => format!("float32[{width}]"),
        (None, None) => kind.to_string(),
    }
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
    if let Some((base, width)) = bracketed(&lower).filter(|(base, _)| *base != "timestamp") {
        let message = match base {
            "float32" => format!("`{declared}`: a vector has 1 to {VECTOR_WIDTH_MAX} numbers"),
            _ => format!("unknown type `{declared}`; did you mean `float32[{width}]`?"),
        };
        return (message, "a vector of N numbers is `float32[N]`".to_owned());
    }
    let habit = HABITS
        .iter()
        .find(|(habit, _)| *habit == lower)
        .map(|(_, meant)| *meant);
    let names = TYPES.each_ref().map(|(name, _)| *name);
    let message = match habit.or_else(|| nearest(declared, names)) {
        Some(near) => format!("unknown type `{declared}`; did you mean `{near}`?"),
        None => format!("unknown type `{declared}`"),
    };
    let help = format!(
        "the types are {}, and float32[N] for vectors of N numbers",
        names.join(", ")
    );
    (message, help)
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
    fn a_vector_is_declared_with_its_width() {
        for width in [1, 384, VECTOR_WIDTH_MAX] {
            let kind = vector_type(width).unwrap();
            let name = format!("float32[{width}]");
            assert_eq!((type_name(&kind), vector_width(&kind)), (name.clone(), Some(width)));
            assert_eq!(type_by_name(&name), Some(kind));
        }
        for (name, expected) in [
            ("float32[0]", "a vector has 1 to 4096 numbers"),
            ("float32[99999999999]", "a vector has 1 to 4096 numbers"),
            ("Vector[384]", "did you mean `float32[384]`?"),
            ("float64[3]", "did you mean `float32[3]`?"),
            ("float32[]", "unknown type"),
            ("float32[-3]", "unknown type"),
            ("float32[+3]", "unknown type"),
        ] {
            let (schema, problems) = parse(&format!("[schema]\na = \"{name}\"\n"));
            assert!(schema.is_none() && problems.contains(expected), "{name}: {problems}");
            assert!(
                problems.contains("test.toml:2:5") && problems.contains("float32[N]"),
                "{problems}"
            );
        }
        assert_eq!(vector_width(&DataType::Float32), None);
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
