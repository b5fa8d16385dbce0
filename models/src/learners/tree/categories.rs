//! What a leaf knows of one column of categories: how often each class came with each code.

use super::numbers::Product;
use crate::codec::{CodecError, Put, Reader};

/// Codes that a leaf counts: the first that come; of others it knows nothing.
const CODES_MAX: usize = 128;

/// Weights of the classes for each code.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Categories {
    classes: usize,
    /// Sorted.
    codes: Vec<u32>,
    /// `classes` weights for each code, and for all codes together.
    weights: Vec<f64>,
    sums: Vec<f64>,
}

impl Categories {
    pub(crate) fn new(classes: usize) -> Self {
        Self {
            classes,
            codes: Vec::new(),
            weights: Vec::new(),
            sums: vec![0.0; classes],
        }
    }

    /// Bytes that a column of so many codes may come to use.
    pub(crate) fn bytes_max(classes: usize, codes: u32) -> usize {
        // A vector may hold twice what it needs.
        let codes = (codes as usize).min(CODES_MAX);
        size_of::<Self>() + classes * 8 + 2 * codes * (4 + classes * 8)
    }

    /// Counts a row. A value that is no code, or one code too many, is left out.
    pub(crate) fn observe(&mut self, value: f64, class: usize, weight: f64) {
        if value.is_nan() {
            return;
        }
        let code = value as u32;
        let place = match self.codes.binary_search(&code) {
            Ok(place) => place,
            Err(_) if self.codes.len() == CODES_MAX => return,
            Err(place) => {
                self.codes.insert(place, code);
                let at = place * self.classes;
                self.weights.splice(at..at, std::iter::repeat_n(0.0, self.classes));
                place
            }
        };
        self.weights[place * self.classes + class] += weight;
        self.sums[class] += weight;
    }

    /// Multiplies the probability of this value in each class into `products`; as if each code, and one that is not
    /// there, had come once before (Laplace).
    pub(crate) fn multiply(&self, value: f64, products: &mut [Product]) {
        if value.is_nan() {
            return;
        }
        let found = self.codes.binary_search(&(value as u32));
        let weights = found.ok().map(|place| &self.weights[place * self.classes..]);
        let before = self.codes.len() as f64 + 1.0;
        for (class, product) in products.iter_mut().enumerate() {
            let weight = weights.map_or(0.0, |weights| weights[class]);
            product.times((weight + 1.0) / (self.sums[class] + before));
        }
    }

    /// Weight of each class over all codes.
    pub(crate) fn sums(&self) -> &[f64] {
        &self.sums
    }

    /// Each code with the weights of the classes.
    pub(crate) fn each(&self) -> impl Iterator<Item = (u32, &[f64])> {
        self.codes.iter().copied().zip(self.weights.chunks(self.classes))
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.codes.len() as u64);
        for (code, weights) in self.each() {
            out.put_u32(code);
            weights.iter().for_each(|weight| out.put_f64(*weight));
        }
        self.sums.iter().for_each(|sum| out.put_f64(*sum));
    }

    pub(crate) fn read(reader: &mut Reader<'_>, classes: usize) -> Result<Self, CodecError> {
        let count = reader.count(4 + 8 * classes)?;
        if count > CODES_MAX {
            return Err(reader.error(format!("{count} codes in a leaf")));
        }
        let mut read = Self::new(classes);
        for _ in 0..count {
            let code = reader.u32()?;
            if read.codes.last().is_some_and(|last| *last >= code) {
                return Err(reader.error("codes of a leaf are not in order"));
            }
            read.codes.push(code);
            for _ in 0..classes {
                read.weights.push(weight(reader)?);
            }
        }
        for sum in &mut read.sums {
            *sum = weight(reader)?;
        }
        Ok(read)
    }
}

/// A weight: finite, not below 0.
pub(crate) fn weight(reader: &mut Reader<'_>) -> Result<f64, CodecError> {
    let weight = reader.finite()?;
    if (0.0..1e30).contains(&weight) {
        Ok(weight)
    } else {
        Err(reader.error(format!("{weight} is no weight")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_shares_with_one_row_of_each_beforehand() {
        let mut column = Categories::new(2);
        for (code, class) in [(3.0, 0), (3.0, 0), (1.0, 0), (3.0, 1), (f64::NAN, 1)] {
            column.observe(code, class, 1.0);
        }
        let probabilities = |value| {
            let mut products = [Product::ONE; 2];
            column.multiply(value, &mut products);
            products.map(|product| product.ln().exp())
        };
        let close = |found: [f64; 2], expected: [f64; 2]| {
            let pairs = found.iter().zip(expected);
            assert!(pairs.clone().all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        };
        close(probabilities(3.0), [3.0 / 6.0, 2.0 / 4.0]);
        close(probabilities(1.0), [2.0 / 6.0, 1.0 / 4.0]);
        close(probabilities(9.0), [1.0 / 6.0, 1.0 / 4.0]);
        close(probabilities(f64::NAN), [1.0, 1.0]);
    }

    #[test]
    fn a_leaf_counts_only_so_many_codes() {
        let mut column = Categories::new(2);
        (0..1_000).for_each(|code| column.observe(f64::from(code), 1, 1.0));
        assert_eq!((column.codes.len(), column.sums[1]), (CODES_MAX, CODES_MAX as f64));
        column.observe(5.0, 1, 1.0);
        assert_eq!(column.sums[1], CODES_MAX as f64 + 1.0);
    }
}
