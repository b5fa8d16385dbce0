//! The arrows between the crates: which may depend on which. Cargo refuses a cycle; it does not refuse the first step
//! from a library that knows nothing of its neighbours towards a ball of mud. This does.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

/// Every allowed arrow, from the crate that depends to the one it depends on.
pub const ALLOWED: &[(&str, &str)] = &[
    ("driftmill-connectors", "driftmill-config"),
    ("driftmill-models", "driftmill-config"),
    ("driftmill", "driftmill-config"),
    ("driftmill", "driftmill-connectors"),
    ("driftmill", "driftmill-models"),
    ("driftmill-benches", "driftmill"),
    ("driftmill-tests", "driftmill"),
];

/// The folder of each crate, and the only place where each may lie.
pub const FOLDERS: &[(&str, &str)] = &[
    ("driftmill-config", "config"),
    ("driftmill-connectors", "connectors"),
    ("driftmill-models", "models"),
    ("driftmill", "engine"),
    ("driftmill-benches", "benches"),
    ("driftmill-tests", "tests"),
];

/// Outside crates that only the engine may name: with them in a connector or a model its build and its contract would
/// hang on the query engine's.
const ENGINE_ONLY: &[&str] = &["datafusion"];

/// What `cargo metadata` says of this workspace.
pub fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(crate::root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

/// Every breach of the rules above in the metadata of a workspace, one sentence each. Dependencies for tests and build
/// scripts count like all others.
pub fn breaches(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let members: BTreeSet<&str> = packages.iter().map(|package| text(&package["name"])).collect();
    let mut found = Vec::new();
    for package in packages {
        found.extend(misplaced(package, text(&metadata["workspace_root"])));
        found.extend(forbidden(package, &members));
    }
    found
}

fn misplaced(package: &Value, root: &str) -> Option<String> {
    let (name, manifest) = (text(&package["name"]), text(&package["manifest_path"]));
    let Some((_, folder)) = FOLDERS.iter().find(|(known, _)| *known == name) else {
        return Some(format!(
            "crate {name} is not one of the workspace's: say in tests/src/arrows.rs where it stands"
        ));
    };
    let wanted = format!("{root}/{folder}/Cargo.toml");
    (manifest != wanted).then(|| format!("crate {name} lies at {manifest}, not at {wanted}"))
}

fn forbidden(package: &Value, members: &BTreeSet<&str>) -> Vec<String> {
    let from = text(&package["name"]);
    let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
    let mut found = Vec::new();
    for dependency in dependencies {
        let to = text(&dependency["name"]);
        if members.contains(to) && !ALLOWED.contains(&(from, to)) {
            found.push(format!("{from} depends on {to}: that arrow is not allowed"));
        }
        let query_engine = ENGINE_ONLY
            .iter()
            .any(|only| to == *only || to.starts_with(&format!("{only}-")));
        if query_engine && from != "driftmill" {
            found.push(format!("{from} depends on {to}, which only the engine may"));
        }
    }
    found
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}
