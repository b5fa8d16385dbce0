//! Values that are never shown.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use crate::problems::Problems;
use crate::section::Section;
use crate::value::{Fault, FromValue, Value};

/// Bytes of a secret's file; the largest, a chain of certificates with its key, has some ten thousand.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Text that `Debug` and `Display` show as `***`, and that cannot be serialised.
///
/// In a document it is given as `NAME = "${VARIABLE}"`, or as `NAME_file = "path"`: the content of that file, without
/// the line break at its end. The file must belong to its owner alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret that does not come from a document.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself, for the one who must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The key that names the file of a secret.
pub(crate) fn file_key(key: &str) -> String {
    format!("{key}_file")
}

impl FromValue for Secret {
    fn from_value(value: Value<'_>) -> Result<Secret, Fault> {
        String::from_value(value).map(Secret)
    }

    fn from_section(section: Section<'_>, key: &str, problems: &mut Problems) -> Option<Secret> {
        let file_key = file_key(key);
        let (inline, file) = (section.value(key), section.value(&file_key));
        if let Some(value) = inline {
            problems.hide(value.span());
        }
        let read = match (inline, file) {
            (None, None) => return None,
            (Some(_), Some(_)) => {
                problems.push(
                    section.name_span(&file_key),
                    format!("`{key}` and `{file_key}` contradict each other; give one"),
                    None,
                );
                return None;
            }
            (Some(value), None) => Secret::from_value(value),
            (None, Some(value)) => from_file(value),
        };
        read.map_err(|fault| problems.push(fault.span, fault.message, fault.help))
            .ok()
    }

    fn is_given(section: Section<'_>, key: &str) -> bool {
        section.has(key) || section.has(&file_key(key))
    }
}

fn from_file(value: Value<'_>) -> Result<Secret, Fault> {
    let path = value
        .as_str()
        .ok_or_else(|| value.wrong_type("the path of a file, a string"))?;
    let shown = if value.is_substituted() {
        "the file of the secret".to_string()
    } else {
        format!("`{path}`")
    };
    read(&value.document.resolve(path)).map_err(|(why, help)| Fault {
        span: value.span(),
        message: format!("{shown} {why}"),
        help,
    })
}

/// Why a file cannot be used ("cannot be read: ..."), and what to do about it.
type Refusal = (String, Option<String>);

fn read(path: &Path) -> Result<Secret, Refusal> {
    let unreadable = |error: std::io::Error| (format!("cannot be read: {error}"), None);
    // Asked before opening, which would wait for ever at a pipe.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(("is no file".to_string(), None));
    }
    let file = File::open(path).map_err(unreadable)?;
    private(&file.metadata().map_err(unreadable)?)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err((format!("is larger than {} KiB", FILE_BYTES_MAX >> 10), None));
    }
    let text = String::from_utf8(bytes).map_err(|_| ("is no UTF-8 text".to_string(), None))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    match text.strip_suffix('\r').unwrap_or(text) {
        "" => Err(("is empty".to_string(), None)),
        text => Ok(Secret::new(text)),
    }
}

#[cfg(unix)]
fn private(metadata: &std::fs::Metadata) -> Result<(), Refusal> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err((
        format!("is open to others than its owner (mode {mode:04o}); run `chmod 0600` on it"),
        None,
    ))
}

#[cfg(not(unix))]
fn private(_: &std::fs::Metadata) -> Result<(), Refusal> {
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;
    use crate::document::Document;
    use std::os::unix::fs::PermissionsExt as _;

    /// The secret of a document whose `key_file` has this content and mode, or the problems.
    fn check(content: &[u8], mode: u32) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let file = folder.path().join("flights.toml");
        let document = Document::parse(file.to_str().unwrap(), "key_file = \"key\"", &|_| None).unwrap();
        let mut problems = document.problems();
        let secret = document.root().require::<Secret>("key", &mut problems);
        secret
            .map(|secret| secret.expose().to_string())
            .ok_or_else(|| problems.sorted()[0].message.clone())
    }

    #[test]
    fn a_secret_comes_from_its_file() {
        assert_eq!(check(b"hunter2\n", 0o600).as_deref(), Ok("hunter2"));
        assert_eq!(check(b"hunter2\r\n", 0o400).as_deref(), Ok("hunter2"));
        assert_eq!(check(b" two\n\n", 0o600).as_deref(), Ok(" two\n"));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        for mode in [0o640, 0o604, 0o660, 0o644, 0o601] {
            let message = check(b"hunter2", mode).unwrap_err();
            assert_eq!(
                message,
                format!("`key` is open to others than its owner (mode {mode:04o}); run `chmod 0600` on it")
            );
        }
    }

    #[test]
    fn a_file_without_a_secret_is_refused() {
        assert_eq!(check(b"\n", 0o600).unwrap_err(), "`key` is empty");
        assert_eq!(check(&[0xff], 0o600).unwrap_err(), "`key` is no UTF-8 text");
        assert_eq!(
            check(&vec![b'x'; 300 << 10], 0o600).unwrap_err(),
            "`key` is larger than 256 KiB"
        );
    }

    #[test]
    fn a_folder_or_nothing_is_no_secret() {
        for (text, message) in [
            ("key_file = '/'", "`/` is no file"),
            (
                "key_file = '/no/such'",
                "`/no/such` cannot be read: No such file or directory (os error 2)",
            ),
            ("key_file = 1", "expected the path of a file, a string, found integer"),
            (
                "key_file = ''\nkey = ''",
                "`key` and `key_file` contradict each other; give one",
            ),
        ] {
            let document = Document::parse("f", text, &|_| None).unwrap();
            let mut problems = document.problems();
            assert_eq!(document.root().get::<Secret>("key", &mut problems), None);
            assert_eq!(problems.sorted()[0].message, message);
        }
    }
}
