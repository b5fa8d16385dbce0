//! The arrows between the crates.

use driftmill_tests::arrows::{breaches, metadata};
use serde_json::{Value, json};

#[test]
fn every_arrow_between_crates_is_an_allowed_one() {
    let found = breaches(&metadata());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The real workspace with one more dependency.
fn with(from: &str, dependency: Value) -> Vec<String> {
    let mut metadata = metadata();
    let packages = metadata["packages"].as_array_mut().unwrap();
    let package = packages.iter_mut().find(|package| package["name"] == from).unwrap();
    package["dependencies"].as_array_mut().unwrap().push(dependency);
    breaches(&metadata)
}

#[test]
fn each_other_arrow_is_found() {
    let crates = ["config", "connectors", "models", "benches", "tests"].map(|name| format!("driftmill-{name}"));
    let crates: Vec<_> = crates.iter().map(String::as_str).chain(["driftmill"]).collect();
    let mut refused = 0;
    for from in &crates {
        for to in &crates {
            let allowed = driftmill_tests::arrows::ALLOWED.contains(&(from, to));
            let found = with(from, json!({"name": to, "kind": null}));
            assert_eq!(found.is_empty(), allowed, "{from} to {to}: {found:?}");
            refused += usize::from(!allowed);
        }
    }
    assert_eq!(refused, 36 - 7);
}

#[test]
fn a_dependency_for_tests_alone_counts_too() {
    let found = with(
        "driftmill-models",
        json!({"name": "driftmill-connectors", "kind": "dev"}),
    );
    assert_eq!(
        found,
        ["driftmill-models depends on driftmill-connectors: that arrow is not allowed"]
    );
}

#[test]
fn only_the_engine_names_the_query_engine() {
    let found = with(
        "driftmill-connectors",
        json!({"name": "datafusion-common", "kind": null}),
    );
    assert_eq!(
        found,
        ["driftmill-connectors depends on datafusion-common, which only the engine may"]
    );
    assert!(with("driftmill", json!({"name": "datafusion-common", "kind": null})).is_empty());
}

#[test]
fn a_crate_that_nobody_placed_is_found() {
    let mut metadata = metadata();
    metadata["packages"].as_array_mut().unwrap().push(json!({
        "name": "driftmill-extra", "manifest_path": "/x/Cargo.toml", "dependencies": [],
    }));
    let found = breaches(&metadata);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("crate driftmill-extra is not one of the workspace's"),
        "{found:?}"
    );
}
