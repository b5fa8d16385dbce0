//! "Did you mean": the candidate nearest to a mistyped word.

/// Longer words are no typing mistakes, and comparing them costs their product.
const WORD_CHARS_MAX: usize = 64;

/// The candidate that `word` most likely means, or `None` when none is near.
///
/// Case and the difference between `-` and `_` do not count; a missing, a wrong, an additional or two swapped
/// characters count one (optimal string alignment). A short word must be nearer than a long one.
pub fn nearest<'a, S: AsRef<str> + ?Sized + 'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a S>,
) -> Option<&'a str> {
    let length = word.chars().take(WORD_CHARS_MAX + 1).count();
    if length > WORD_CHARS_MAX {
        return None;
    }
    let word = normal(word);
    candidates
        .into_iter()
        .map(S::as_ref)
        .filter_map(|candidate| Some((distance(&word, length, candidate)?, candidate)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn distance(word: &str, length: usize, candidate: &str) -> Option<usize> {
    let other = candidate.chars().take(WORD_CHARS_MAX + 1).count();
    let allowed = match length.min(other) {
        0..=2 => 0,
        3..=5 => 1,
        6..=8 => 2,
        _ => 3,
    };
    if other > WORD_CHARS_MAX || length.abs_diff(other) > allowed {
        return None;
    }
    Some(strsim::osa_distance(word, &normal(candidate))).filter(|distance| *distance <= allowed)
}

fn normal(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let columns = ["distance", "origin", "carrier", "one-hot", "id"];
        assert_eq!(nearest("distnace", columns), Some("distance"));
        assert_eq!(nearest("Origin", columns), Some("origin"));
        assert_eq!(nearest("onehot", columns), Some("one-hot"));
        assert_eq!(nearest("one_hot", columns), Some("one-hot"));
        assert_eq!(nearest("ID", columns), Some("id"));
        assert_eq!(nearest("ix", columns), None);
        assert_eq!(nearest("weather", columns), None);
        assert_eq!(nearest("", columns), None);
        assert_eq!(nearest(&"d".repeat(1 << 20), columns), None);
    }

    #[test]
    fn any_list_of_words_will_do() {
        let owned = vec!["alpha".to_string(), "beta".to_string()];
        assert_eq!(nearest("alpah", &owned), Some("alpha"));
        assert_eq!(nearest("bta", owned.iter().map(String::as_str)), Some("beta"));
        let slice: &[&str] = &["gamma"];
        assert_eq!(nearest("gama", slice.iter().copied()), Some("gamma"));
        assert_eq!(nearest("gama", slice), Some("gamma"));
    }
}
