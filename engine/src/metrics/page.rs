//! The page for operators: every metric as it is registered, every rule as it stands in the file for Prometheus, and
//! which alert looks at which metric.

use std::fmt::Write as _;

use super::{Definition, Kind, Metrics};

/// The rules for Prometheus.
const RULES: &str = include_str!("../../../deploy/prometheus/driftmill.rules.yml");

/// A recording or an alerting rule.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Rule {
    name: String,
    is_alert: bool,
    expr: String,
    hold: String,
    severity: String,
    description: String,
    runbook: String,
}

impl Rule {
    /// The key's text; nothing for keys that the page does not show.
    fn value(&mut self, key: &str) -> Option<&mut String> {
        match key {
            "expr" => Some(&mut self.expr),
            "for" => Some(&mut self.hold),
            "severity" => Some(&mut self.severity),
            "description" => Some(&mut self.description),
            "runbook" => Some(&mut self.runbook),
            _ => None,
        }
    }

    /// The names that its expression reads: of metrics and of other rules.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.expr
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
            .filter(|word| word.starts_with("driftmill_") || word.starts_with("driftmill:"))
    }
}

/// Reads the rules. The file is this project's own and plainly written: a key and its value on a line, or the value
/// folded (`>`) over the lines below it. Whether it is right is promtool's to say.
fn rules(text: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut open: Option<String> = None;
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (key, value) = line
            .split_once(':')
            .map_or((line, ""), |(key, value)| (key, value.trim()));
        match key {
            "- alert" | "- record" => {
                open = None;
                rules.push(Rule {
                    name: value.to_owned(),
                    is_alert: key == "- alert",
                    ..Rule::default()
                });
            }
            "expr" | "for" | "keep_firing_for" | "labels" | "severity" | "annotations" | "summary" | "description"
            | "runbook" | "- name" => {
                open = (value == ">").then(|| key.to_owned());
                if let Some(slot) = rules.last_mut().and_then(|rule| rule.value(key)) {
                    slot.push_str(value.trim_start_matches('>').trim_matches('"'));
                }
            }
            _ => {
                let slot = open.as_deref().and_then(|key| rules.last_mut()?.value(key));
                if let Some(slot) = slot {
                    let space = if slot.is_empty() { "" } else { " " };
                    slot.push_str(space);
                    slot.push_str(line);
                }
            }
        }
    }
    rules
}

/// The metric that a name in an expression belongs to: a histogram is read by the names of its parts.
fn metric<'a>(name: &str, definitions: &'a [Definition]) -> Option<&'a Definition> {
    let part_of = |definition: &Definition| {
        let rest = name.strip_prefix(definition.name.as_str());
        match definition.kind {
            Kind::Histogram => matches!(rest, Some("_bucket" | "_sum" | "_count")),
            _ => rest == Some(""),
        }
    };
    definitions.iter().find(|definition| part_of(definition))
}

/// Whether a rule reads a metric, itself or by another rule.
fn reads(rule: &Rule, definition: &Definition, rules: &[Rule], definitions: &[Definition]) -> bool {
    rule.names().any(|name| {
        let recorded = rules
            .iter()
            .find(|other| !other.is_alert && other.name == name && other != &rule);
        match recorded {
            Some(recorded) => reads(recorded, definition, rules, definitions),
            None => metric(name, definitions) == Some(definition),
        }
    })
}

/// A text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The page, in Markdown.
#[must_use]
pub fn render() -> String {
    // Registering fails only when a name is there twice, which a test finds.
    let metrics = Metrics::new("page").ok();
    let definitions = metrics.as_ref().map_or(&[][..], Metrics::definitions);
    let rules = rules(RULES);
    let mut text = String::from(HEAD);
    for definition in definitions {
        let alerts: Vec<&str> = rules
            .iter()
            .filter(|rule| rule.is_alert && reads(rule, definition, &rules, definitions))
            .map(|rule| rule.name.as_str())
            .collect();
        let labels: Vec<String> = definition
            .labels
            .iter()
            .map(|(name, values)| format!("`{name}` ({values})"))
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {} |",
            definition.name,
            definition.kind.name(),
            cell(definition.unit),
            cell(&labels.join("; ")),
            cell(&definition.help),
            alerts.join(", ")
        );
    }
    let _ = write!(text, "{ALERTS_HEAD}");
    for rule in rules.iter().filter(|rule| rule.is_alert) {
        let _ = writeln!(
            text,
            "### {}\n\nSeverity {}, after {}. {}\n\n**What to do:** {}\n\n```promql\n{}\n```\n",
            rule.name, rule.severity, rule.hold, rule.description, rule.runbook, rule.expr
        );
    }
    let _ = writeln!(text, "## Recording rules\n");
    for rule in rules.iter().filter(|rule| !rule.is_alert) {
        let _ = writeln!(text, "- `{}` = `{}`", rule.name, rule.expr);
    }
    text
}

const HEAD: &str = "\
# Metrics and alerts

Generated by `driftmill reference --write`; do not edit. What a metric means stands where it is registered, in
`engine/src/metrics`; the alerts are those of `deploy/prometheus/driftmill.rules.yml`.

The daemon serves them at `/metrics` on the address of `[http] listen`. Every metric has the label `pipeline` besides.

**Counters** count what this process has committed, once: an epoch adds to them when it is durable, an epoch that is
replayed at a start adds nothing, and a restart begins at zero. So sums over processes, by `increase()`, are what the epoch
log holds. **Gauges** show the newest computed state, which may be ahead of the last commit by the epochs under way, and
are at most half a second old. A value that does not exist (a score before the first judgement, the log loss of no rows) is
no series, rather than a zero.

**How many series.** A detector shows at most 100 tests by themselves (two for each column: its values, and the share of
missing ones), eight series each; the worst of the rest is the feature `other`, so that a drift beyond the cap is seen, and
`driftmill_drift_tests` counts all of them by state. Four versions of the model are shown at a time. Labels hold names of
the configuration, never values of records.

**Quality** is by version and window. A cohort is a span of prediction time as long as `[gate] block`; it has matured when
the watermark is past its end by the `horizon` of the labels. `recent` are the newest matured cohorts that hold 1,000
labelled rows, at most 16 cohorts; `baseline` are the version's first ones by the same count, fixed once they are complete.

| metric | type | unit | labels | meaning | alerts |
|---|---|---|---|---|---|
";

const ALERTS_HEAD: &str = "
## Alerts

A `for` that does not suit a pipeline (labels once a day, one record an hour) is changed in the rules file; the tests beside
it say what each alert must and must not do.

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_by_line_and_by_fold() {
        let text = "groups:\n  - name: g\n    rules:\n      - record: driftmill:a:b\n        expr: rate(driftmill_x_total[5m])\n\
            # A remark: none of the rule's.\n      - alert: A\n        expr: >\n          driftmill:a:b{c=\"d\"}\n          > 1\n\
            \x20       for: 5m\n        labels:\n          severity: warning\n        annotations:\n          summary: \"S\"\n\
            \x20         description: >\n            Two\n            lines.\n          runbook: \"Do.\"\n";
        let found = rules(text);
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].is_alert, found[0].expr.as_str()),
            (false, "rate(driftmill_x_total[5m])")
        );
        let alert = &found[1];
        assert_eq!(
            (alert.name.as_str(), alert.expr.as_str()),
            ("A", "driftmill:a:b{c=\"d\"} > 1")
        );
        assert_eq!((alert.hold.as_str(), alert.severity.as_str()), ("5m", "warning"));
        assert_eq!(
            (alert.description.as_str(), alert.runbook.as_str()),
            ("Two lines.", "Do.")
        );
    }

    #[test]
    fn every_name_in_a_rule_is_a_metric_or_a_rule_before_it() {
        let metrics = Metrics::new("p").unwrap();
        let rules = rules(RULES);
        assert!(rules.len() > 10, "only {} rules were read", rules.len());
        for (place, rule) in rules.iter().enumerate() {
            for name in rule.names() {
                let known = metric(name, metrics.definitions()).is_some()
                    || rules[..place].iter().any(|before| before.name == name);
                assert!(known, "{}: {name} is no metric", rule.name);
            }
        }
    }

    #[test]
    fn every_alert_says_what_it_means_and_what_to_do() {
        for alert in rules(RULES).iter().filter(|rule| rule.is_alert) {
            for (key, text) in [("description", &alert.description), ("runbook", &alert.runbook)] {
                assert!(text.len() > 40 && text.ends_with('.'), "{}: {key}: {text}", alert.name);
            }
            assert!(!alert.hold.is_empty() && !alert.severity.is_empty(), "{}", alert.name);
        }
    }

    #[test]
    fn every_metric_is_explained_and_carries_its_unit() {
        let metrics = Metrics::new("p").unwrap();
        for definition in metrics.definitions() {
            let name = &definition.name;
            assert!(
                name.starts_with("driftmill_") && definition.help.ends_with('.'),
                "{name}"
            );
            assert_eq!(
                name.ends_with("_total"),
                definition.kind == Kind::Counter,
                "{name}: counters end so, and nothing else"
            );
            let unit = definition.unit.split(' ').next().unwrap_or_default();
            let carries = matches!(unit, "1" | "number" | "as") || definition.kind == Kind::Counter;
            assert!(carries || name.ends_with(unit), "{name} does not end with {unit}");
        }
    }
}
