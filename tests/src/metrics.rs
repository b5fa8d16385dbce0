//! A scrape of `/metrics` in Prometheus' text format, as values to ask for by name and labels.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    series: Vec<Series>,
}

#[derive(Debug, Clone)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Reads a page. Errors name the line that is not of the format.
    pub fn parse(page: &str) -> Result<Self, String> {
        let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let series = lines.map(|line| Series::parse(line).ok_or_else(|| format!("not a sample: {line}")));
        Ok(Self {
            series: series.collect::<Result<_, _>>()?,
        })
    }

    /// The sum of all series of this name that have these labels (and maybe others); `None` when there is none.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut values = self.matching(name, labels).map(|series| series.value).peekable();
        values.peek()?;
        Some(values.sum())
    }

    /// The values of one label over all series of a name, sorted, each once.
    pub fn label_values(&self, name: &str, label: &str) -> Vec<String> {
        let mut values: Vec<_> = self
            .matching(name, &[])
            .filter_map(|series| series.labels.get(label).cloned())
            .collect();
        values.sort();
        values.dedup();
        values
    }

    fn matching<'m>(&'m self, name: &'m str, labels: &'m [(&str, &str)]) -> impl Iterator<Item = &'m Series> {
        self.series.iter().filter(move |series| {
            series.name == name
                && labels
                    .iter()
                    .all(|(key, value)| series.labels.get(*key).is_some_and(|v| v == value))
        })
    }
}

impl Series {
    /// `name value`, `name{label="value",…} value`, each maybe followed by a timestamp.
    fn parse(line: &str) -> Option<Self> {
        let end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => parse_labels(rest)?,
            None => (BTreeMap::new(), rest),
        };
        let value = rest.split_whitespace().next()?.parse().ok()?;
        Some(Self {
            name: name.to_owned(),
            labels,
            value,
        })
    }
}

/// The labels up to the closing brace, and what follows it.
fn parse_labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (key, after) = rest.split_once("=\"")?;
        let (value, after) = unquote(after)?;
        labels.insert(key.to_owned(), value);
        rest = after;
    }
}

/// A quoted value without its quotes and escapes, and what follows the closing quote.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP a_total Some.\n# TYPE a_total counter\n\
        a_total{outcome=\"x\",why=\"say \\\"no\\\", or {so}\"} 3\na_total{outcome=\"y\"} 4 1700000000\n\nb NaN\nc{} +Inf\n";

    #[test]
    fn series_are_summed_over_the_labels_not_asked_for() {
        let metrics = Metrics::parse(PAGE).unwrap();
        assert_eq!(metrics.get("a_total", &[]), Some(7.0));
        assert_eq!(metrics.get("a_total", &[("outcome", "y")]), Some(4.0));
        assert_eq!(metrics.get("a_total", &[("why", "say \"no\", or {so}")]), Some(3.0));
        assert_eq!(metrics.get("a_total", &[("outcome", "z")]), None);
        assert_eq!(metrics.label_values("a_total", "outcome"), ["x", "y"]);
        assert!(metrics.get("b", &[]).unwrap().is_nan());
        assert_eq!(metrics.get("c", &[]), Some(f64::INFINITY));
    }

    #[test]
    fn what_is_not_of_the_format_is_named() {
        assert_eq!(Metrics::parse("a 1\n<html>\n").unwrap_err(), "not a sample: <html>");
        assert!(Metrics::parse("a{b=\"c} 1").is_err());
        assert!(Metrics::parse("a one").is_err());
    }
}
