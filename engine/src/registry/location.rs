//! Where a registry is: what may stand in `url`.

use std::path::PathBuf;

/// Schemes of object stores that are known and not supported yet.
const NOT_YET: [&str; 6] = ["s3", "gs", "az", "abfs", "abfss", "s3a"];

/// The local folder that `url` names, or why it does not name one.
pub(super) fn folder(url: &str) -> Result<PathBuf, String> {
    if url.is_empty() {
        return Err("it is empty; write a folder, such as \"file:///var/lib/driftmill/registry\"".to_owned());
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Ok(PathBuf::from(url));
    };
    let scheme = scheme.to_ascii_lowercase();
    if NOT_YET.contains(&scheme.as_str()) {
        return Err(format!(
            "{scheme}:// is not supported yet; use a local folder, \"file:///path\""
        ));
    }
    if scheme != "file" {
        return Err(format!(
            "{scheme}:// is not known; use a local folder, \"file:///path\""
        ));
    }
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        return Err("a file URL has three slashes before an absolute path, \"file:///path\"".to_owned());
    }
    decode(path).map(PathBuf::from)
}

/// Replaces `%41` by `A` (RFC 3986, section 2.1).
fn decode(path: &str) -> Result<String, String> {
    let mut parts = path.split('%');
    let mut decoded = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part
            .split_at_checked(2)
            .filter(|(code, _)| code.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|(code, rest)| Some((u8::from_str_radix(code, 16).ok()?, rest)));
        let Some((byte, rest)) = code else {
            return Err("a percent sign in a URL is written %25".to_owned());
        };
        decoded.push(byte);
        decoded.extend_from_slice(rest.as_bytes());
    }
    let path = String::from_utf8(decoded).map_err(|_| "its path is not UTF-8".to_owned())?;
    if path.contains('\0') {
        return Err("its path contains a zero byte".to_owned());
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_named_by_url_or_path() {
        for (url, path) in [
            ("file:///var/lib/x", "/var/lib/x"),
            ("FILE:///a", "/a"),
            ("file://localhost/a", "/a"),
            ("file:///a%20b%25", "/a b%"),
            ("state/registry", "state/registry"),
            ("/a%20b", "/a%20b"),
        ] {
            assert_eq!(folder(url), Ok(PathBuf::from(path)), "{url}");
        }
    }

    #[test]
    fn other_places_are_refused_by_name() {
        for (url, why) in [
            ("s3://bucket/x", "not supported yet"),
            ("gs://bucket/x", "not supported yet"),
            ("az://c/x", "not supported yet"),
            ("http://x", "http:// is not known"),
            ("file://host/a", "three slashes"),
            ("file:///a%2", "%25"),
            ("file:///a%+1", "%25"),
            ("file:///%00", "zero byte"),
            ("file:///%ff", "UTF-8"),
            ("", "empty"),
        ] {
            let refused = folder(url).unwrap_err();
            assert!(refused.contains(why), "{url}: {refused}");
        }
    }
}
