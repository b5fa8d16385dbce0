//! `${NAME}` in a string stands for an environment variable, `$${` for `${` itself.

use std::ops::Range;

/// A place where the text of a string was replaced.
#[derive(Debug)]
pub(crate) struct Edit {
    /// Bytes in the string as the document has it.
    pub(crate) written: Range<usize>,
    /// Bytes in the string as it is used.
    pub(crate) used: Range<usize>,
    /// Whether the text came from the environment (otherwise it is an escape).
    pub(crate) foreign: bool,
}

/// A string after substitution, where it was changed, and what could not be substituted.
#[derive(Debug, Default)]
pub(crate) struct Substituted {
    pub(crate) value: String,
    pub(crate) edits: Vec<Edit>,
    /// Where in the string as written, and why.
    pub(crate) faults: Vec<(Range<usize>, String)>,
}

/// Whether this can be the name of a variable.
pub(crate) fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Replaces the variables of a string. Text that came from the environment is not looked at again.
pub(crate) fn substitute(written: &str, env: &dyn Fn(&str) -> Option<String>) -> Substituted {
    let mut out = Substituted::default();
    let mut at = 0;
    while let Some(found) = written.get(at..).and_then(|rest| rest.find("${")) {
        let open = at + found;
        let escaped = open > at && written.as_bytes().get(open - 1) == Some(&b'$');
        let copied = if escaped { open - 1 } else { open };
        out.value.push_str(written.get(at..copied).unwrap_or(""));
        at = if escaped {
            out.replace(copied..open + 2, "${", false)
        } else {
            out.variable(written, open, env)
        };
    }
    out.value.push_str(written.get(at..).unwrap_or(""));
    out
}

impl Substituted {
    /// Puts `text` in the place of `written`; answers where to go on.
    fn replace(&mut self, written: Range<usize>, text: &str, foreign: bool) -> usize {
        let start = self.value.len();
        self.value.push_str(text);
        let end = written.end;
        self.edits.push(Edit {
            written,
            used: start..self.value.len(),
            foreign,
        });
        end
    }

    fn variable(&mut self, written: &str, open: usize, env: &dyn Fn(&str) -> Option<String>) -> usize {
        let rest = written.get(open + 2..).unwrap_or("");
        let name = rest.split('}').next().unwrap_or("");
        if name.len() == rest.len() || !is_name(name) {
            let message =
                "`${` begins the name of an environment variable, as in `${NAME}`; for the text itself write `$${`";
            self.faults.push((open..open + 2, message.to_string()));
            self.value.push_str("${");
            return open + 2;
        }
        let whole = open..open + 2 + name.len() + 1;
        match env(name) {
            Some(text) => self.replace(whole, &text, true),
            None => {
                let end = whole.end;
                self.faults
                    .push((whole, format!("environment variable `{name}` is not set")));
                end
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Substituted {
        substitute(text, &|name| match name {
            "A" => Some("alpha".to_string()),
            "NESTED" => Some("${A}".to_string()),
            _ => None,
        })
    }

    #[test]
    fn variables_are_replaced_once() {
        assert_eq!(run("x ${A}-${A} é").value, "x alpha-alpha é");
        assert_eq!(run("${NESTED}").value, "${A}");
        assert_eq!(run("$ {A} $A }").value, "$ {A} $A }");
    }

    #[test]
    fn two_dollars_are_the_text_itself() {
        assert_eq!(run("$${A} ${A}").value, "${A} alpha");
        assert_eq!(run("$${").value, "${");
        assert!(run("$${").faults.is_empty());
    }

    #[test]
    fn what_cannot_be_replaced_is_reported_with_its_place() {
        assert_eq!(
            run("a ${GONE} b").faults,
            [(2..9, "environment variable `GONE` is not set".to_string())]
        );
        for bad in ["${", "a ${A", "${}", "${1}", "${A B}", "${é}"] {
            assert_eq!(run(bad).faults.len(), 1, "{bad}");
            assert_eq!(run(bad).value, bad);
        }
    }

    #[test]
    fn edits_know_both_places() {
        let out = run("x ${A} $${");
        let places: Vec<_> = out
            .edits
            .iter()
            .map(|edit| (edit.written.clone(), edit.used.clone()))
            .collect();
        assert_eq!(places, [(2..6, 2..7), (7..10, 8..10)]);
    }
}
