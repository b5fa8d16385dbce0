//! The false discovery rate over many tests made together (Benjamini and Hochberg 1995).

/// The adjusted p-values, in the order of `p_values`: a test is a discovery at rate `q` when its adjusted value
/// is at most `q`. If nothing has changed anywhere, `q` is also the probability of any discovery at all.
#[must_use]
pub fn adjusted(p_values: &[f64]) -> Vec<f64> {
    let count = p_values.len() as f64;
    let mut order: Vec<(usize, f64)> = p_values.iter().copied().enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut adjusted = vec![1.0; p_values.len()];
    let mut lowest = 1.0_f64;
    for (above, (place, p)) in order.into_iter().enumerate() {
        let rank = count - above as f64;
        lowest = lowest.min(p * count / rank);
        if let Some(slot) = adjusted.get_mut(place) {
            *slot = lowest;
        }
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.false_discovery_control` of scipy 1.17.1.
    #[test]
    fn equals_scipy() {
        let found = adjusted(&[0.01, 0.04, 0.03, 0.005, 0.5, 0.02]);
        for (a, b) in found.iter().zip([0.03, 0.048, 0.045, 0.03, 0.5, 0.04]) {
            assert!((a - b).abs() < 1e-12, "{found:?}");
        }
        assert!(adjusted(&[]).is_empty());
        assert_eq!(adjusted(&[1.0, 1.0]), [1.0, 1.0]);
    }
}
