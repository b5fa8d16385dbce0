//! Strings of JSON: finding their end eight bytes at a time, escaping, and cutting for messages.

const ONES: u64 = u64::from_le_bytes([0x01; 8]);
const HIGHS: u64 = u64::from_le_bytes([0x80; 8]);
const QUOTES: u64 = u64::from_le_bytes([b'"'; 8]);
const BACKSLASHES: u64 = u64::from_le_bytes([b'\\'; 8]);
const SPACES: u64 = u64::from_le_bytes([0x20; 8]);

/// Marks (by its high bit) each byte of `word` that may not stand as it is inside a JSON string. A borrow can
/// mark wrongly, but only bytes behind a rightly marked one: the first mark is exact.
fn marks(word: u64) -> u64 {
    let zero = |x: u64| x.wrapping_sub(ONES) & !x & HIGHS;
    let control = word.wrapping_sub(SPACES) & !word & HIGHS;
    zero(word ^ QUOTES) | zero(word ^ BACKSLASHES) | control
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Position of the first quote, backslash or control character at or after `at`; the length when there is none.
#[inline]
pub(super) fn special(bytes: &[u8], at: usize) -> usize {
    let mut rest = bytes.get(at..).unwrap_or_default();
    while let Some((chunk, tail)) = rest.split_first_chunk::<8>() {
        let found = marks(u64::from_le_bytes(*chunk));
        if found != 0 {
            return bytes.len() - rest.len() + (found.trailing_zeros() / 8) as usize;
        }
        rest = tail;
    }
    bytes.len() - rest.len() + rest.iter().position(|&byte| is_special(byte)).unwrap_or(rest.len())
}

/// Position of the first byte at or after `at` that is not white space.
#[inline]
pub(super) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(at) {
        at += 1;
    }
    at
}

/// Appends `text` as a JSON string with its quotes.
#[inline]
pub(super) fn write(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    loop {
        let to = special(bytes, from);
        out.extend_from_slice(bytes.get(from..to).unwrap_or_default());
        let Some(&byte) = bytes.get(to) else { break };
        escape(byte, out);
        from = to + 1;
    }
    out.push(b'"');
}

#[cold]
fn escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).map_or(b'0', |c| c as u8);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// The longest prefix of `text` that has at most `bytes` bytes and ends between two characters.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn special_agrees_with_a_byte_loop() {
        let mut random = rand_pcg::Pcg64::seed_from_u64(1);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..random.random_range(0..40)).map(|_| random.random()).collect();
            let at = random.random_range(0..=bytes.len());
            let expected = (at..bytes.len()).find(|&i| is_special(bytes[i])).unwrap_or(bytes.len());
            assert_eq!(special(&bytes, at), expected, "{bytes:?} from {at}, seed 1");
        }
    }

    #[test]
    fn every_character_survives_a_round_trip() {
        let all: String = (0..0x500u32)
            .chain(0x1_f600..0x1_f610)
            .filter_map(char::from_u32)
            .collect();
        let mut out = Vec::new();
        write(&all, &mut out);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), all);
    }

    #[test]
    fn cuts_between_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("aé", 99), "aé");
    }
}
