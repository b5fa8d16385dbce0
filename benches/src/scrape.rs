//! What a daemon tells over HTTP: a page of metrics, and commands to it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::Failure;

/// A daemon that says nothing for so long is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// A page in Prometheus' text format.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page(String);

impl Page {
    /// Reads the page of the daemon that listens at `address`.
    ///
    /// # Errors
    /// Nobody there, or another answer than a page.
    pub fn of(address: &str) -> Result<Self, Failure> {
        request(address, "GET", "/metrics", &[]).map(Self)
    }

    /// A page that was read before.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The values of the series of this name whose labels, as they are written, contain all of `labels`.
    pub fn values<'a>(&'a self, name: &'a str, labels: &'a [&'a str]) -> impl Iterator<Item = f64> + 'a {
        self.0.lines().filter_map(move |line| {
            let (series, value) = line.rsplit_once(' ')?;
            let rest = series.strip_prefix(name)?;
            let is_it = rest.is_empty() || rest.starts_with('{');
            (is_it && labels.iter().all(|label| rest.contains(label))).then(|| value.parse().ok())?
        })
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        // The sum of no floats is -0.
        self.values(name, labels).fold(0.0, |sum, value| sum + value)
    }
}

/// Asks the daemon that listens at `address`; the body of its answer.
///
/// # Errors
/// Nobody there, or an answer other than success.
pub fn request(address: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<String, Failure> {
    let failed = |error: std::io::Error| format!("{method} {path} at {address}: {error}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 0\r\n");
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    stream.write_all(text.as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    body(&answer).map_err(|what| format!("{method} {path} at {address}: {what}").into())
}

fn body(answer: &str) -> Result<String, String> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    if head.split_ascii_whitespace().nth(1) == Some("200") {
        return Ok(body.to_owned());
    }
    Err(format!(
        "{} {}",
        head.lines().next().unwrap_or("no answer"),
        body.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_by_name_and_labels() {
        let page = Page::from_text(
            "# HELP rows Rows.\nrows{kind=\"a\",pipeline=\"p\"} 3\nrows{kind=\"b\",pipeline=\"p\"} 4\nrows_total 9\nrows 2\n",
        );
        assert_eq!(page.sum("rows", &[]), 9.0);
        assert_eq!(page.sum("rows", &["kind=\"b\"", "pipeline=\"p\""]), 4.0);
        assert_eq!(page.values("rows", &["kind=\"c\""]).count(), 0);
        assert!(page.sum("nothing", &[]).is_sign_positive());
    }

    #[test]
    fn an_answer_is_its_body_or_a_failure() {
        assert_eq!(
            body("HTTP/1.1 200 OK\r\nserver: x\r\n\r\none\ntwo\n"),
            Ok("one\ntwo\n".to_owned())
        );
        assert_eq!(
            body("HTTP/1.1 409 Conflict\r\n\r\nno version\n"),
            Err("HTTP/1.1 409 Conflict no version".to_owned())
        );
        assert_eq!(body(""), Err("no answer ".to_owned()));
    }
}
