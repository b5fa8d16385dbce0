//! Numbers of JSON for the fast path: read while they are checked against the grammar of RFC 8259. Anything that
//! is valid but unusual (19 digits or more, a fraction where an integer is due) makes the fast path give up.

/// Skips digits; `None` when there is none.
#[inline]
fn digits(bytes: &[u8], mut at: usize) -> Option<usize> {
    let start = at;
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    (at > start).then_some(at)
}

/// Skips the integer part: one zero, or digits without a leading zero.
#[inline]
fn whole(bytes: &[u8], at: usize) -> Option<usize> {
    let end = digits(bytes, at)?;
    (end == at + 1 || bytes.get(at) != Some(&b'0')).then_some(end)
}

/// Position after the number that begins at `at`, whatever it is; `None` when it is not JSON's grammar.
#[inline]
pub(super) fn skip(bytes: &[u8], at: usize) -> Option<usize> {
    let mut end = whole(bytes, at + usize::from(bytes.get(at) == Some(&b'-')))?;
    if bytes.get(end) == Some(&b'.') {
        end = digits(bytes, end + 1)?;
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        end = digits(bytes, end + 1 + sign)?;
    }
    Some(end)
}

/// The plain integer literal at `at` and the position after it; `None` for anything else, and for more than 18
/// digits, which might not fit.
#[inline]
pub(super) fn integer(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let negative = bytes.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    let (value, end) = accumulate(bytes, start, 0);
    let count = end - start;
    let odd = count == 0 || count > 18 || (count > 1 && bytes.get(start) == Some(&b'0'));
    if odd || matches!(bytes.get(end), Some(b'.' | b'e' | b'E')) {
        return None;
    }
    let value = i64::try_from(value).ok()?;
    Some((if negative { -value } else { value }, end))
}

/// Appends the digits from `at` on to `value`; wraps beyond 19 digits, which callers count.
#[inline]
fn accumulate(bytes: &[u8], mut at: usize, mut value: u64) -> (u64, usize) {
    while let Some(digit) = bytes
        .get(at)
        .map(|byte| byte.wrapping_sub(b'0'))
        .filter(|&digit| digit < 10)
    {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    (value, at)
}

/// Powers of ten that a double holds exactly.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The number at `at`, correctly rounded, and the position after it; `None` when it is not a JSON number or not
/// finite. Up to 15 digits and no exponent, one exactly rounded division gives the value (Clinger, "How to read
/// floating point numbers accurately", 1990); the rest is left to `fast_float2`.
#[inline]
pub(super) fn float64(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    let negative = bytes.get(at) == Some(&b'-');
    let start = at + usize::from(negative);
    let (mut value, whole_end) = accumulate(bytes, start, 0);
    let (mut end, mut fraction) = (whole_end, 0);
    if bytes.get(whole_end) == Some(&b'.') {
        (value, end) = accumulate(bytes, whole_end + 1, value);
        fraction = end - whole_end - 1;
        if fraction == 0 {
            return None;
        }
    }
    let count = whole_end - start;
    if count == 0 || (count > 1 && bytes.get(start) == Some(&b'0')) {
        return None;
    }
    if count + fraction > 15 || matches!(bytes.get(end), Some(b'e' | b'E')) {
        return general64(bytes, at);
    }
    // Below 10^15 the conversion is exact.
    let value = value as f64 / TENS.get(fraction)?;
    Some((if negative { -value } else { value }, end))
}

#[cold]
fn general64(bytes: &[u8], at: usize) -> Option<(f64, usize)> {
    let end = skip(bytes, at)?;
    let value: f64 = fast_float2::parse(bytes.get(at..end)?).ok()?;
    value.is_finite().then_some((value, end))
}

/// As [`float64`], rounded once, to single precision.
#[inline]
pub(super) fn float32(bytes: &[u8], at: usize) -> Option<(f32, usize)> {
    let end = skip(bytes, at)?;
    let value: f32 = fast_float2::parse(bytes.get(at..end)?).ok()?;
    value.is_finite().then_some((value, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    fn literal(random: &mut impl RngExt) -> String {
        let alphabet = b"0123456789012345678900--..eE+";
        (0..random.random_range(1..24))
            .map(|_| alphabet[random.random_range(0..alphabet.len())] as char)
            .collect()
    }

    #[test]
    fn accepted_numbers_equal_those_of_the_standard_library() {
        let mut random = rand_pcg::Pcg64::seed_from_u64(2);
        let mut accepted = 0;
        for round in 0..200_000 {
            let text = if round % 2 == 0 {
                literal(&mut random)
            } else {
                format!("{}", random.random::<f32>())
            };
            let valid = |end: usize| serde_json::from_str::<serde::de::IgnoredAny>(&text[..end]).is_ok();
            if let Some((value, end)) = float64(text.as_bytes(), 0) {
                accepted += 1;
                assert!(valid(end), "{text}");
                assert_eq!(
                    value.to_bits(),
                    text[..end].parse::<f64>().unwrap().to_bits(),
                    "{text}, seed 2"
                );
            }
            if let Some((value, end)) = float32(text.as_bytes(), 0) {
                assert_eq!(
                    value.to_bits(),
                    text[..end].parse::<f32>().unwrap().to_bits(),
                    "{text}, seed 2"
                );
            }
            if let Some((value, end)) = integer(text.as_bytes(), 0) {
                assert!(valid(end), "{text}");
                assert_eq!(Ok(value), text[..end].parse(), "{text}, seed 2");
            }
        }
        assert!(accepted > 100_000, "only {accepted} were accepted");
    }

    #[test]
    fn refuses_what_the_grammar_refuses() {
        for text in [
            "", "-", "+1", ".5", "5.", "01", "-01", "1e", "1e+", "NaN", "inf", "1.e5", "--1",
        ] {
            assert_eq!(float64(text.as_bytes(), 0), None, "{text}");
            assert_eq!(float32(text.as_bytes(), 0), None, "{text}");
            assert_eq!(skip(text.as_bytes(), 0), None, "{text}");
        }
        for text in ["1.0", "1e3", "01", "-", "", "9999999999999999999"] {
            assert_eq!(integer(text.as_bytes(), 0), None, "{text}");
        }
        assert_eq!(float64(b"1e999", 0), None);
        assert_eq!(integer(b"-0,", 0), Some((0, 2)));
    }
}
