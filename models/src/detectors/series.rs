//! What a monitor sees of the columns of a frame: series of single values.
//!
//! A column of numbers or categories is one series. A vector of at most [`DIRECTIONS_MAX`] numbers is one for each of
//! them, a wider one the same number of projections onto fixed directions of +1 and -1: a change of a distribution shows
//! in nearly every projection of it (Cuesta-Albertos, Fraiman & Ransford, "A sharp form of the Cramér–Wold theorem",
//! Journal of Theoretical Probability 2007), and a test for each of 384 numbers would cost the others their power. The
//! length of a vector would be no series to rely on: embeddings often have length 1. A change of few among many numbers is
//! diluted by the others.

use crate::contracts::Aspect;
use crate::frame::{Column, ColumnKind, ColumnSpec, Frame, MISSING};
use crate::random::of_row;
use rand_pcg::rand_core::Rng;

/// Series of a vector, at most.
pub(super) const DIRECTIONS_MAX: u32 = 8;
/// The directions are the same in every process and for every detector.
const SEED: u64 = 0;

/// One series of values.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// The column's name; of a vector which of its numbers or projections.
    name: String,
    /// The column's name, where the series is the one that tells which rows miss it.
    missing: Option<String>,
    /// Place of the column in the frame.
    column: usize,
    of: Of,
}

#[derive(Debug, Clone)]
enum Of {
    Number,
    Category,
    /// One of the numbers of a vector.
    Component(usize),
    /// A projection: for each number of the vector 1 or -1.
    Direction(Vec<i8>),
}

/// The series of `columns`, in their order.
pub(super) fn series(columns: &[ColumnSpec]) -> Vec<Series> {
    let of_column = |(place, column): (usize, &ColumnSpec)| match column.kind {
        ColumnKind::Number => vec![Series::whole(place, column, Of::Number)],
        ColumnKind::Category => vec![Series::whole(place, column, Of::Category)],
        ColumnKind::Vector { width } => vector(place, column, width),
    };
    columns.iter().enumerate().flat_map(of_column).collect()
}

fn vector(place: usize, column: &ColumnSpec, width: u32) -> Vec<Series> {
    let one = |index: u32| {
        let (name, of) = if width <= DIRECTIONS_MAX {
            (format!("{}[{index}]", column.name), Of::Component(index as usize))
        } else {
            let name = format!("{}[direction {index}]", column.name);
            (name, Of::Direction(direction(index, width)))
        };
        Series {
            name,
            missing: (index == 0).then(|| column.name.clone()),
            column: place,
            of,
        }
    };
    (0..width.min(DIRECTIONS_MAX)).map(one).collect()
}

fn direction(index: u32, width: u32) -> Vec<i8> {
    let mut random = of_row(SEED, u64::from(index));
    (0..width)
        .map(|_| if random.next_u64() >> 63 == 0 { 1 } else { -1 })
        .collect()
}

impl Series {
    fn whole(column: usize, spec: &ColumnSpec, of: Of) -> Self {
        Self {
            name: spec.name.clone(),
            missing: Some(spec.name.clone()),
            column,
            of,
        }
    }

    /// What is tested of it, and as what feature.
    pub(super) fn tests(&self) -> impl Iterator<Item = (Aspect, &str)> {
        let missing = self.missing.as_deref().map(|name| (Aspect::Missing, name));
        std::iter::once((Aspect::Values, self.name.as_str())).chain(missing)
    }

    /// Whether its values are numbers, not codes.
    pub(super) fn is_numeric(&self) -> bool {
        !matches!(self.of, Of::Category)
    }

    /// Its value in a row: a number, or the code of a category; NaN when it is missing.
    pub(super) fn value(&self, frame: &Frame, row: usize) -> f64 {
        match (frame.columns().get(self.column), &self.of) {
            (Some(Column::F64(values)), _) => values.get(row).copied().unwrap_or(f64::NAN),
            (Some(Column::F32(values)), _) => values.get(row).map_or(f64::NAN, |&value| f64::from(value)),
            (Some(Column::Code(codes)), _) => codes
                .get(row)
                .filter(|&&code| code != MISSING)
                .map_or(f64::NAN, |&code| f64::from(code)),
            (Some(column @ Column::Vector { .. }), of) => of.of_vector(column, row),
            (None, _) => f64::NAN,
        }
    }
}

impl Of {
    fn of_vector(&self, column: &Column, row: usize) -> f64 {
        let Some(vector) = column.vector(row) else {
            return f64::NAN;
        };
        match self {
            Self::Component(index) => vector.get(*index).map_or(f64::NAN, |&value| f64::from(value)),
            Self::Direction(signs) if signs.len() == vector.len() => {
                let parts = vector.iter().zip(signs);
                parts.map(|(&value, &sign)| f64::from(value) * f64::from(sign)).sum()
            }
            _ => f64::NAN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(width: u32) -> Vec<Series> {
        let kind = ColumnKind::Vector { width };
        let name = "v".to_owned();
        series(&[ColumnSpec { name, kind }])
    }

    #[test]
    fn a_narrow_vector_is_its_numbers_and_a_wide_one_eight_projections() {
        let values = vec![1.0, 2.0, 3.0, f32::NAN, 5.0, 6.0];
        let frame = Frame::new(2, vec![Column::Vector { width: 3, values }]);
        let narrow = of(3);
        let first: Vec<f64> = narrow.iter().map(|series| series.value(&frame, 0)).collect();
        assert_eq!(first, [1.0, 2.0, 3.0]);
        assert!(narrow.iter().all(|series| series.value(&frame, 1).is_nan()));
        let tests: Vec<_> = narrow.iter().flat_map(Series::tests).collect();
        let (values, missing) = (Aspect::Values, Aspect::Missing);
        assert_eq!(
            tests,
            [(values, "v[0]"), (missing, "v"), (values, "v[1]"), (values, "v[2]")]
        );
        let wide = of(384);
        assert_eq!(wide.len(), 8);
        assert_eq!(wide[7].tests().collect::<Vec<_>>(), [(values, "v[direction 7]")]);
        let frame = Frame::new(
            1,
            vec![Column::Vector {
                width: 384,
                values: vec![1.0; 384],
            }],
        );
        let sums: Vec<f64> = wide.iter().map(|series| series.value(&frame, 0)).collect();
        assert!(
            sums.iter().all(|sum| sum.abs() < 100.0 && *sum % 2.0 == 0.0),
            "{sums:?}"
        );
        assert!(sums.windows(2).any(|pair| pair[0] != pair[1]), "{sums:?}");
    }
}
