//! What every entry of every list must keep: whoever adds one gets these tests.
//!
//! Each contract has a file with its properties: a name and a function that panics where an entry does not keep it. A
//! suite can be asked about one entry ([`broken`]), which is how `toys.rs` shows that an entry that is broken on purpose
//! is found, in the expected place.

mod artifacts;
mod batch;
mod detectors;
mod encoders;
mod learners;
mod metrics;
pub(crate) mod plain;
mod scorers;
mod toys;
mod vectors;
pub(crate) mod world;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use driftmill_config::{Component, check_example};

/// A property by its name, and what panics where an entry does not have it.
type Property<E> = (&'static str, fn(&E));

/// The properties that an entry does not have, each with what was found.
fn broken<E>(properties: &[Property<E>], entry: &E) -> Vec<(&'static str, String)> {
    let check = |(name, property): &Property<E>| {
        let panic = catch_unwind(AssertUnwindSafe(|| property(entry))).err()?;
        let found = panic.downcast_ref::<String>().cloned();
        let found = found.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Some((*name, found.unwrap_or_default()))
    };
    properties.iter().filter_map(check).collect()
}

/// Fails with all that the entries of a list do not keep, by name.
fn all_hold<E>(properties: &[Property<E>], entries: impl IntoIterator<Item = (String, E)>) {
    let mut failures = String::new();
    for (name, entry) in entries {
        for (property, found) in broken(properties, &entry) {
            failures.push_str(&format!("`{name}` breaks '{property}': {found}\n"));
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// What every component of a list must have: documentation, an example that passes, a name of its own.
fn are_documented<'a>(list: impl IntoIterator<Item = &'a dyn Component>) {
    let mut names = BTreeSet::new();
    for component in list {
        let name = component.name();
        let example = check_example(component);
        assert!(example.is_ok(), "{name}: {:?}", example.err());
        assert!(component.summary().ends_with('.'), "{name}: its summary is no sentence");
        let fields = component.fields();
        assert!(
            fields.iter().all(|field| field.doc.ends_with('.')),
            "{name}: a field is not documented"
        );
        assert!(names.insert(name), "{name} is there twice");
    }
}
