//! References generated from fields, so that documentation cannot differ from what is checked.

use std::fmt::Write as _;

use crate::component::{Component, Field, Kind, Need, listed};

/// A section of Markdown: the title, a table of the keys, and a section for each table inside.
pub fn markdown(title: &str, fields: &[Field]) -> String {
    let mut out = String::new();
    section(title, 2, fields, &mut out);
    out
}

/// The reference of a component: what it is, its keys, and its example.
pub fn component(component: &dyn Component) -> String {
    let mut out = format!("## `{}`\n\n{}\n", component.name(), component.summary().trim());
    keys("", 2, component.fields(), &mut out);
    let example = component.example().trim();
    if !example.is_empty() {
        let _ = write!(out, "\n```toml\n{example}\n```\n");
    }
    out
}

fn section(title: &str, level: usize, fields: &[Field], out: &mut String) {
    let _ = writeln!(out, "{} {title}", "#".repeat(level.min(6)));
    keys(title, level, fields, out);
}

fn keys(title: &str, level: usize, fields: &[Field], out: &mut String) {
    if fields.is_empty() {
        out.push_str("\nIt has no keys of its own.\n");
        return;
    }
    out.push_str("\n| key | type | when absent | meaning |\n|---|---|---|---|\n");
    for field in fields {
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            field.name,
            cell(&type_of(&field.kind)),
            cell(&absence(&field.need)),
            cell(field.doc)
        );
    }
    let path = |name: &str| {
        if title.is_empty() {
            name.to_string()
        } else {
            format!("{title}.{name}")
        }
    };
    for field in fields {
        if let Kind::Table(inner) | Kind::Tables(inner) = field.kind {
            out.push('\n');
            section(&path(field.name), level + 1, inner, out);
        }
    }
}

fn type_of(kind: &Kind) -> String {
    match kind {
        Kind::String => "string".into(),
        Kind::Bool => "`true` or `false`".into(),
        Kind::Integer => "integer".into(),
        Kind::Float => "number".into(),
        Kind::Duration => "duration, `\"30 s\"`".into(),
        Kind::Bytes => "size, `\"64 MiB\"`".into(),
        Kind::Secret => "secret; or the same key with `_file`, the path of a file of mode 0600".into(),
        Kind::Strings => "list of strings".into(),
        Kind::Floats => "list of numbers".into(),
        Kind::OneOf(words) => format!("one of {}", listed(words)),
        Kind::Table(_) => "table, see below".into(),
        Kind::Tables(_) => "array of tables, see below".into(),
        Kind::Map => "table with free keys".into(),
        Kind::Any => "see the meaning".into(),
    }
}

fn absence(need: &Need) -> String {
    match need {
        Need::Required => "**required**".into(),
        Need::Optional(meaning) => (*meaning).into(),
        Need::NotYet => "not yet supported".into(),
    }
}

/// Text that fits a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    const FIELDS: &[Field] = &[
        Field {
            name: "brokers",
            kind: Kind::String,
            need: Need::Required,
            doc: "Addresses,\n    a | b.",
        },
        Field {
            name: "mode",
            kind: Kind::OneOf(&["a", "b"]),
            need: Need::Optional("`a`"),
            doc: "How.",
        },
        Field {
            name: "tls",
            kind: Kind::Table(&[Field {
                name: "key",
                kind: Kind::Secret,
                need: Need::NotYet,
                doc: "The private key.",
            }]),
            need: Need::Optional("no TLS"),
            doc: "Encryption.",
        },
    ];

    #[test]
    fn fields_become_tables() {
        expect![[r#"
            ## source

            | key | type | when absent | meaning |
            |---|---|---|---|
            | `brokers` | string | **required** | Addresses, a \| b. |
            | `mode` | one of `a`, `b` | `a` | How. |
            | `tls` | table, see below | no TLS | Encryption. |

            ### source.tls

            | key | type | when absent | meaning |
            |---|---|---|---|
            | `key` | secret; or the same key with `_file`, the path of a file of mode 0600 | not yet supported | The private key. |
        "#]]
        .assert_eq(&markdown("source", FIELDS));
    }

    struct Toy;

    impl Component for Toy {
        fn name(&self) -> &'static str {
            "toy"
        }
        fn summary(&self) -> &'static str {
            "A toy."
        }
        fn fields(&self) -> &'static [Field] {
            &[]
        }
        fn example(&self) -> &'static str {
            "connector = \"toy\"\n"
        }
    }

    #[test]
    fn a_component_shows_its_example() {
        expect![[r#"
            ## `toy`

            A toy.

            It has no keys of its own.

            ```toml
            connector = "toy"
            ```
        "#]]
        .assert_eq(&component(&Toy));
    }
}
