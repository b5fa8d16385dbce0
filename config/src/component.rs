//! The contract of everything that a pipeline's file can name: connectors, codecs, encoders, learners, detectors.

use crate::document::Document;
use crate::nearest::nearest;
use crate::problems::Problems;

/// One key of a table: its name, what it holds, whether it must be there, and its documentation.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The key as it is written in the file; a unit or bound stands last in it.
    pub name: &'static str,
    /// What the value must be.
    pub kind: Kind,
    /// Whether the key must be there.
    pub need: Need,
    /// What the key does, in one or two sentences, for the generated reference.
    pub doc: &'static str,
}

/// What the value of a key must be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Text.
    String,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// A finite number; a whole one will do.
    Float,
    /// A duration with its unit, `"30 s"`.
    Duration,
    /// A size with its unit, `"64 MiB"`.
    Bytes,
    /// Text that is never shown. `NAME_file` instead of `NAME` names a file that holds it.
    Secret,
    /// A list of text.
    Strings,
    /// A list of finite numbers.
    Floats,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A table with these keys.
    Table(&'static [Field]),
    /// An array of tables, `[[name]]`, each with these keys.
    Tables(&'static [Field]),
    /// A table whose keys are free.
    Map,
    /// Anything; the component checks it itself.
    Any,
}

/// Whether a key must be there.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Its absence is an error.
    Required,
    /// It may be absent; the text says what that means.
    Optional(&'static str),
    /// Known, and refused as not yet supported.
    NotYet,
}

/// What can be named in a pipeline's file. Each stands in one visible, ordered list of its kind.
pub trait Component: Sync {
    /// The name by which a file asks for it.
    fn name(&self) -> &'static str;
    /// What it is, in one or two sentences.
    fn summary(&self) -> &'static str;
    /// The keys that it reads.
    fn fields(&self) -> &'static [Field];
    /// A fragment of TOML that passes its own checks.
    fn example(&self) -> &'static str;
}

/// The component of this name, or a message that says which names there are.
pub fn find<'a, K: Component + ?Sized>(list: &'a [&'a K], name: &str) -> Result<&'a K, String> {
    if let Some(found) = list.iter().find(|component| component.name() == name) {
        return Ok(found);
    }
    let names: Vec<&str> = list.iter().map(|component| component.name()).collect();
    Err(unknown_name("name", name, &names))
}

/// "unknown WHAT `word`", with the nearest of the names, or all of them.
#[must_use]
pub fn unknown_name(what: &str, word: &str, names: &[&str]) -> String {
    match nearest(word, names) {
        Some(near) => format!("unknown {what} `{word}`; did you mean `{near}`?"),
        None => format!("unknown {what} `{word}`; there are {}", listed(names)),
    }
}

/// "`a`, `b`", or "none".
pub(crate) fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        return "none".to_string();
    }
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Checks the example of a component against its own fields, as a conformance test does. Every environment variable
/// has a value there.
pub fn check_example<K: Component + ?Sized>(component: &K) -> Result<(), Problems> {
    let document = Document::parse(component.name(), component.example(), &|name| Some(name.to_lowercase()))?;
    let mut problems = document.problems();
    document.root().check(component.fields(), &mut problems);
    problems.into_result(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Toy(&'static str, &'static str);

    impl Component for Toy {
        fn name(&self) -> &'static str {
            self.0
        }
        fn summary(&self) -> &'static str {
            "A toy."
        }
        fn fields(&self) -> &'static [Field] {
            &[Field {
                name: "delta",
                kind: Kind::Float,
                need: Need::Required,
                doc: "Confidence.",
            }]
        }
        fn example(&self) -> &'static str {
            self.1
        }
    }

    #[test]
    fn a_name_is_found_or_the_nearest_is_offered() {
        let list: &[&dyn Component] = &[&Toy("adwin", "delta = 0.1"), &Toy("ks", "delta = 1")];
        assert_eq!(find(list, "ks").unwrap().name(), "ks");
        assert_eq!(
            find(list, "adwn").err().unwrap(),
            "unknown name `adwn`; did you mean `adwin`?"
        );
        assert_eq!(
            find(list, "psi").err().unwrap(),
            "unknown name `psi`; there are `adwin`, `ks`"
        );
        assert_eq!(
            find::<dyn Component>(&[], "psi").err().unwrap(),
            "unknown name `psi`; there are none"
        );
    }

    #[test]
    fn an_example_is_checked() {
        assert!(check_example(&Toy("adwin", "delta = 0.1")).is_ok());
        let text = check_example(&Toy("adwin", "dleta = 0.1")).unwrap_err().render();
        assert!(text.contains("did you mean `delta`?"), "{text}");
        assert!(text.contains("missing key `delta`"), "{text}");
    }
}
