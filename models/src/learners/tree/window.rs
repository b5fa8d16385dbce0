//! A window over what a node got right and wrong, which drops its old part when the rate of errors has changed.
//!
//! ADWIN (Bifet and Gavaldà, SDM 2007) for values that are 0 or 1: a bucket is a number of errors, since their variance
//! follows from it; a window takes half a kilobyte and an update some 20 ns. As the detector `adwin` it drops all that
//! lies before the most significant cut.

use crate::codec::{CodecError, Put, Reader};

/// Buckets of one size; one more merges the two oldest into one of double size.
const BUCKETS: usize = 5;
/// Sizes of buckets: up to 2^23 rows in one. The oldest are forgotten where that is not enough.
const LEVELS: usize = 24;
/// Rows between tests, rows that each side of a cut needs, and rows before the first test.
const CLOCK: u32 = 32;
const SIDE_MIN: u32 = 5;
const GRACE: u32 = 10;
/// Bound on the probability of a false cut at a test.
const DELTA: f64 = 0.002;

/// Errors in up to [`BUCKETS`] runs of `2^level` rows, the oldest first, and one more for a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Level {
    count: u32,
    errors: [u32; BUCKETS + 1],
}

/// The window.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ErrorWindow {
    levels: Vec<Level>,
    rows: u32,
    errors: u32,
    /// Rows until the next test.
    wait: u32,
}

impl ErrorWindow {
    /// Bytes that a window may come to use; vectors grow to powers of two.
    pub(crate) const BYTES_MAX: usize = size_of::<Self>() + LEVELS.next_power_of_two() * size_of::<Level>();

    /// Rows in the window.
    pub(crate) fn rows(&self) -> f64 {
        f64::from(self.rows)
    }

    /// The share of errors; 0 when it is empty.
    pub(crate) fn rate(&self) -> f64 {
        if self.rows == 0 {
            0.0
        } else {
            f64::from(self.errors) / f64::from(self.rows)
        }
    }

    /// Takes the next row; whether the window was cut because there are more errors now.
    #[inline]
    pub(crate) fn update(&mut self, error: bool) -> bool {
        self.update_at(error, DELTA)
    }

    /// The same with another bound on the probability of a false cut at a test, always the same one for a window.
    #[inline]
    pub(crate) fn update_at(&mut self, error: bool, delta: f64) -> bool {
        self.insert(u32::from(error));
        if self.wait > 0 {
            self.wait -= 1;
            return false;
        }
        self.wait = CLOCK - 1;
        self.rows > GRACE && self.check(delta)
    }

    fn insert(&mut self, error: u32) {
        (self.rows, self.errors) = (self.rows + 1, self.errors + error);
        let mut carried = error;
        for level in 0..LEVELS {
            if level == self.levels.len() {
                self.levels.push(Level::default());
            }
            let buckets = &mut self.levels[level];
            buckets.errors[buckets.count as usize] = carried;
            buckets.count += 1;
            if buckets.count as usize <= BUCKETS {
                return;
            }
            carried = buckets.errors[0] + buckets.errors[1];
            buckets.errors.copy_within(2.., 0);
            buckets.count -= 2;
        }
        // More than fits: the oldest rows go.
        self.rows -= 1 << LEVELS;
        self.errors -= carried;
    }

    /// The cut whose difference exceeds what chance allows most: rows before it, errors before it, and by which factor.
    fn best_cut(&self, delta: f64) -> Option<(u32, u32, f64)> {
        let (rows, rate) = (self.rows(), self.rate());
        let log = (2.0 * rows.ln() / delta).ln();
        let spread = 2.0 * rate * (1.0 - rate) * log;
        let mut best: Option<(u32, u32, f64)> = None;
        let (mut old, mut errors) = (0, 0);
        for (level, buckets) in self.levels.iter().enumerate().rev() {
            for bucket in &buckets.errors[..buckets.count as usize] {
                old += 1 << level;
                errors += bucket;
                let recent = self.rows - old;
                if old < SIDE_MIN || recent < SIDE_MIN {
                    continue;
                }
                let before = f64::from(errors) / f64::from(old);
                let after = f64::from(self.errors - errors) / f64::from(recent);
                let inverse = 1.0 / f64::from(old - SIDE_MIN + 1) + 1.0 / f64::from(recent - SIDE_MIN + 1);
                let threshold = (spread * inverse).sqrt() + 2.0 / 3.0 * log * inverse;
                let factor = (after - before).abs() / threshold;
                if factor > best.map_or(1.0, |(_, _, factor)| factor) {
                    best = Some((old, errors, factor));
                }
            }
        }
        best
    }

    fn check(&mut self, delta: f64) -> bool {
        let before = self.rate();
        let mut was_cut = false;
        while let Some((old, _, _)) = self.best_cut(delta) {
            self.drop_rows(old);
            was_cut = true;
        }
        was_cut && self.rate() > before
    }

    /// Drops the oldest buckets until so many rows are gone.
    fn drop_rows(&mut self, rows: u32) {
        let keep = self.rows - rows;
        while self.rows > keep {
            let Some(buckets) = self.levels.last_mut() else { return };
            if buckets.count == 0 {
                self.levels.pop();
                continue;
            }
            let errors = buckets.errors[0];
            buckets.errors.copy_within(1.., 0);
            buckets.count -= 1;
            self.rows -= 1 << (self.levels.len() - 1);
            self.errors -= errors;
        }
        while self.levels.last().is_some_and(|level| level.count == 0) {
            self.levels.pop();
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_u32(self.wait);
        out.put_u32(self.levels.len() as u32);
        for level in &self.levels {
            out.put_u32(level.count);
            level.errors[..level.count as usize]
                .iter()
                .for_each(|errors| out.put_u32(*errors));
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (wait, levels) = (reader.u32()?, reader.u32()? as usize);
        let mut window = Self {
            wait,
            ..Self::default()
        };
        if levels > LEVELS || wait >= CLOCK {
            return Err(reader.error("no window of errors is so"));
        }
        for level in 0..levels {
            let mut buckets = Level {
                count: reader.u32()?,
                ..Level::default()
            };
            if buckets.count as usize > BUCKETS {
                return Err(reader.error(format!("{} buckets of one size", buckets.count)));
            }
            for errors in &mut buckets.errors[..buckets.count as usize] {
                *errors = reader.u32()?;
                if *errors > 1 << level {
                    return Err(reader.error("more errors than rows"));
                }
                window.rows += 1 << level;
                window.errors += *errors;
            }
            window.levels.push(buckets);
        }
        Ok(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{of_row, uniform};

    fn error(row: u64, rate: f64) -> bool {
        uniform(&mut of_row(31, row)) < rate
    }

    #[test]
    fn a_rise_of_the_rate_is_found_and_the_old_part_forgotten() {
        let mut window = ErrorWindow::default();
        let found = (0..20_000).find(|&row| window.update(error(row, if row < 10_000 { 0.2 } else { 0.4 })));
        let found = found.unwrap();
        assert!((10_000..10_500).contains(&found), "found at row {found}, seed 31");
        assert!(window.rows() < 600.0 && window.rate() > 0.3, "{} rows", window.rows());
    }

    #[test]
    fn a_fall_cuts_the_window_and_says_nothing() {
        let mut window = ErrorWindow::default();
        let found = (0..20_000).find(|&row| window.update(error(row, if row < 10_000 { 0.4 } else { 0.2 })));
        assert_eq!(found, None, "seed 31");
        assert!(window.rows() < 11_000.0 && window.rate() < 0.25);
    }

    #[test]
    fn nothing_is_found_where_nothing_changes_and_a_window_is_read_as_it_was_written() {
        let mut window = ErrorWindow::default();
        let mut errors = 0;
        for row in 0..50_000 {
            errors += u32::from(error(row, 0.3));
            assert!(!window.update(error(row, 0.3)), "row {row}, seed 31");
        }
        assert_eq!((window.rows, window.errors), (50_000, errors));
        assert!(size_of::<Level>() * window.levels.capacity() <= ErrorWindow::BYTES_MAX);
        let mut out = Vec::new();
        window.write(&mut out);
        let mut reader = Reader::new(&out);
        let mut read = ErrorWindow::read(&mut reader).unwrap();
        reader.finish().unwrap();
        for row in 50_000..60_000 {
            let error = error(row, if row < 55_000 { 0.3 } else { 0.7 });
            assert_eq!(read.update(error), window.update(error), "row {row}, seed 31");
        }
        assert_eq!((read.rows, read.errors), (window.rows, window.errors));
    }

    #[test]
    fn it_agrees_with_the_detector_of_the_same_name() {
        use crate::contracts::StreamDetector;
        let mut window = ErrorWindow::default();
        let mut adwin = crate::detectors::adwin::Adwin::new(Default::default());
        for row in 0..30_000 {
            let rate = [0.1, 0.3, 0.15][row as usize / 10_000];
            window.update(error(row, rate));
            adwin.update(f64::from(u8::from(error(row, rate))));
        }
        let apart = (window.rows() - adwin.width() as f64).abs();
        assert!(apart <= 64.0, "{} and {} rows, seed 31", window.rows(), adwin.width());
    }
}
