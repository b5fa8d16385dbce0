//! A table of the configuration as TOML again, in one canonical form, so that a job carries what decides about its
//! model and neither comments, spaces nor the order of keys change its id.

use driftmill_config::{FromValue, Section, Value};

/// The keys of `section` for which `keep` holds, sorted, one a line, environment variables already in their places.
/// What it writes parses, and reads as the section did. Empty for an absent section.
#[must_use]
pub fn toml_of(section: &Section<'_>, keep: &dyn Fn(&str) -> bool) -> String {
    let mut lines: Vec<String> = pairs(section, keep);
    lines.sort_unstable();
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// `key = value` for every key that is kept.
fn pairs(section: &Section<'_>, keep: &dyn Fn(&str) -> bool) -> Vec<String> {
    let kept = section.entries().into_iter().filter(|(key, _)| keep(key));
    kept.filter_map(|(key, _)| Some(format!("{} = {}", quoted(key), value_text(section.value(key)?))))
        .collect()
}

/// A value in one line.
fn value_text(value: Value<'_>) -> String {
    if let Some(text) = value.as_str() {
        // `$${` stands for `${`: the text must not be looked up in the environment a second time.
        return quoted(&text.replace("${", "$${"));
    }
    if let Some(section) = value.as_section() {
        let mut inner = pairs(&section, &|_| true);
        inner.sort_unstable();
        return format!("{{ {} }}", inner.join(", "));
    }
    if let Some(items) = value.as_array() {
        let items: Vec<String> = items.map(value_text).collect();
        return format!("[{}]", items.join(", "));
    }
    number_text(value)
}

/// A number or truth value; an integer stays one.
fn number_text(value: Value<'_>) -> String {
    let integer = i64::from_value(value).map(|integer| integer.to_string());
    let integer = integer.or_else(|_| u64::from_value(value).map(|integer| integer.to_string()));
    let number = integer.or_else(|_| f64::from_value(value).map(|number| format!("{number:?}").to_lowercase()));
    number
        .or_else(|_| bool::from_value(value).map(|truth| truth.to_string()))
        .unwrap_or_else(|_| "\"\"".to_owned())
}

/// A basic string of TOML: one of JSON, in which TOML forbids one character more.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

#[cfg(test)]
mod tests {
    use driftmill_config::Document;

    use super::*;

    fn canonical(text: &str) -> String {
        let document = Document::parse("t", text, &|name| Some(format!("<{name} ${{X}}>"))).unwrap();
        toml_of(&document.root(), &|key| key != "left_out")
    }

    #[test]
    fn order_comments_and_spelling_do_not_matter() {
        let one = canonical("b = 1_000 # why\na = { y = [1, 2.50], x = 'q' }\nleft_out = 3\n");
        let other = canonical(
            "[a]\nx = \"q\"\ny = [ 1,\n 2.5 ]\n[left_out]\n"
                .replacen("[a]", "b=1000\n[a]", 1)
                .as_str(),
        );
        assert_eq!(one, other);
        assert_eq!(one, "\"a\" = { \"x\" = \"q\", \"y\" = [1, 2.5] }\n\"b\" = 1000\n");
    }

    #[test]
    fn what_it_writes_is_read_back_as_it_was() {
        let text = "s = \"a\\\"\\n\\u007f ü ${E} $${N}\"\nt = true\nn = -3\nf = 1e300\ng = 2.0\n\"odd key.\" = []\n";
        let once = canonical(text);
        assert_eq!(canonical(&once), once, "{once}");
        let document = Document::parse("t", &once, &|_| None).unwrap();
        let mut problems = document.problems();
        let root = document.root();
        assert_eq!(
            root.get::<String>("s", &mut problems).unwrap(),
            "a\"\n\u{7f} ü <E ${X}> ${N}"
        );
        assert_eq!(root.get::<bool>("t", &mut problems), Some(true));
        assert_eq!(root.get::<i64>("n", &mut problems), Some(-3));
        assert_eq!(root.get::<f64>("f", &mut problems), Some(1e300));
        assert!(problems.is_empty() && root.has("odd key."), "{}", problems.render());
    }
}
