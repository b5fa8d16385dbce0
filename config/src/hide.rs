//! Which parts of a document must never be printed, even when a problem stands on their line: the values of keys
//! that are named like secrets. (Values of `Secret` fields with other names are added where they are checked.)

use toml_parser::Source;
use toml_parser::lexer::{Token, TokenKind};

use crate::env;
use crate::span::Span;

const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "credential",
    "private",
    "jaas",
    "key_pem",
    "api_key",
];

/// The values of keys that are named like secrets, found by tokens so that a broken document is covered too.
pub(crate) fn secrets(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut key_is_secret = false;
    let mut tokens = Source::new(text).lex().peekable();
    while let Some(token) = tokens.next() {
        match token.kind() {
            TokenKind::Equals if key_is_secret => {
                key_is_secret = false;
                while tokens.next_if(|next| next.kind() == TokenKind::Whitespace).is_some() {}
                if let Some(value) = tokens.next() {
                    let rest = if is_open(&value) {
                        rest_of_line(text, &value)
                    } else {
                        token_span(&value)
                    };
                    if rest.start < rest.end && !is_reference(text.get(rest.start..rest.end).unwrap_or("")) {
                        spans.push(rest);
                    }
                }
            }
            TokenKind::Atom | TokenKind::BasicString | TokenKind::LiteralString => {
                key_is_secret |= is_secret_name(text.get(token.span().start()..token.span().end()).unwrap_or(""));
            }
            TokenKind::Newline | TokenKind::Comma | TokenKind::LeftCurlyBracket | TokenKind::RightCurlyBracket => {
                key_is_secret = false;
            }
            _ => {}
        }
    }
    spans
}

/// A value that is no string, or one that never ends: where it ends is anybody's guess.
fn is_open(value: &Token) -> bool {
    use TokenKind::{BasicString, LiteralString, MlBasicString, MlLiteralString};
    !matches!(
        value.kind(),
        BasicString | LiteralString | MlBasicString | MlLiteralString
    )
}

fn rest_of_line(text: &str, value: &Token) -> Span {
    let start = value.span().start();
    let length = text
        .get(start..)
        .and_then(|rest| rest.find('\n'))
        .unwrap_or(text.len() - start.min(text.len()));
    Span::new(start, start + length)
}

fn token_span(token: &Token) -> Span {
    Span::new(token.span().start(), token.span().end())
}

fn is_secret_name(key: &str) -> bool {
    let key = key.trim_matches(['"', '\'']).to_lowercase().replace(['.', '-'], "_");
    !key.ends_with("_file") && SECRET_WORDS.iter().any(|word| key.contains(word))
}

/// Whether a quoted value is nothing but `${NAME}`: then it shows no secret, only where it comes from.
pub(crate) fn is_reference(quoted: &str) -> bool {
    let inner = quoted.trim_matches(['"', '\'']);
    inner
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .is_some_and(env::is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(text: &str) -> Vec<&str> {
        secrets(text)
            .into_iter()
            .map(|span| &text[span.start..span.end])
            .collect()
    }

    #[test]
    fn values_of_keys_named_like_secrets_are_hidden() {
        assert_eq!(hidden("password = \"hunter2\" # c\nuser = \"u\""), ["\"hunter2\""]);
        assert_eq!(hidden("a = { \"sasl.password\" = 'x', user = 'y' }"), ["'x'"]);
        assert_eq!(hidden("a.api-token.b = 1"), ["1"]);
        assert_eq!(hidden("password = hunter2, too\nx = 1"), ["hunter2, too"]);
        assert_eq!(hidden("client_secret = \"never ends"), ["\"never ends"]);
        assert_eq!(hidden("secret = '''a\nb'''"), ["'''a\nb'''"]);
        assert_eq!(hidden("secret = ["), ["["]);
    }

    #[test]
    fn references_and_paths_are_shown() {
        assert!(hidden("password = \"${PW}\"\npassword_file = \"/run/pw\"\nx = \"password = 'y'\"").is_empty());
        assert_eq!(hidden("password = \"a${PW}\""), ["\"a${PW}\""]);
        assert!(hidden("password =").is_empty());
    }
}
