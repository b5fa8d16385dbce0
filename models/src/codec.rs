//! Checked little-endian bytes: what every artifact and every state chunk of this crate is written with.
//!
//! A [`Reader`] never panics and never allocates by a length that it has not compared with the bytes that are there.

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {what}")]
pub struct CodecError {
    /// Offset from the beginning of what was read.
    pub at: usize,
    /// What is wrong.
    pub what: String,
}

/// Appending values to bytes.
pub trait Put {
    /// Appends one byte.
    fn put_u8(&mut self, value: u8);
    /// Appends four bytes.
    fn put_u32(&mut self, value: u32);
    /// Appends eight bytes.
    fn put_u64(&mut self, value: u64);
    /// Appends the eight bytes of the number's bits.
    fn put_f64(&mut self, value: f64);
    /// Appends a length of eight bytes and the bytes.
    fn put_bytes(&mut self, value: &[u8]);
    /// Appends text as [`Put::put_bytes`] does.
    fn put_str(&mut self, value: &str) {
        self.put_bytes(value.as_bytes());
    }
    /// Appends the number of values in eight bytes and the values.
    fn put_f64s(&mut self, values: &[f64]);
    /// Appends a block whose length is known only after it was written by `write`.
    fn put_block(&mut self, write: impl FnOnce(&mut Vec<u8>));
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_f64(&mut self, value: f64) {
        self.put_u64(value.to_bits());
    }

    fn put_bytes(&mut self, value: &[u8]) {
        self.put_u64(value.len() as u64);
        self.extend_from_slice(value);
    }

    fn put_f64s(&mut self, values: &[f64]) {
        self.put_u64(values.len() as u64);
        for &value in values {
            self.put_f64(value);
        }
    }

    fn put_block(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut block = Vec::new();
        write(&mut block);
        self.put_bytes(&block);
    }
}

/// Reads bytes from the front.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, at: 0 }
    }

    /// An error at the present place.
    #[must_use]
    pub fn error(&self, what: impl Into<String>) -> CodecError {
        CodecError {
            at: self.at,
            what: what.into(),
        }
    }

    /// Bytes that are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let Some((head, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.error(format!("{length} bytes expected, {} left", self.rest.len())));
        };
        self.rest = rest;
        self.at += length;
        Ok(head)
    }

    /// The next `N` bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.error(format!("{N} bytes expected, {} left", self.rest.len())));
        };
        self.rest = rest;
        self.at += N;
        Ok(*head)
    }

    /// One byte.
    ///
    /// # Errors
    /// Nothing is left.
    pub fn u8(&mut self) -> Result<u8, CodecError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A byte that is 0 or 1.
    ///
    /// # Errors
    /// Nothing is left, or it is another one.
    pub fn flag(&mut self) -> Result<bool, CodecError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.error(format!("{other} is neither yes nor no"))),
        }
    }

    /// Four bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn u64(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of any kind, NaN too.
    ///
    /// # Errors
    /// Fewer than eight bytes are left.
    pub fn f64(&mut self) -> Result<f64, CodecError> {
        self.u64().map(f64::from_bits)
    }

    /// A number that is neither NaN nor infinite.
    ///
    /// # Errors
    /// Fewer than eight bytes are left, or the number is not finite.
    pub fn finite(&mut self) -> Result<f64, CodecError> {
        let value = self.f64()?;
        if value.is_finite() {
            Ok(value)
        } else {
            Err(self.error("a number is not finite"))
        }
    }

    /// A number of items of at least `item_bytes` bytes each: no more than the bytes that are left can hold.
    ///
    /// # Errors
    /// Fewer than eight bytes are left, or the number is impossible.
    pub fn count(&mut self, item_bytes: usize) -> Result<usize, CodecError> {
        let count = self.u64()?;
        let possible = self.rest.len() / item_bytes.max(1);
        match usize::try_from(count) {
            Ok(count) if count <= possible => Ok(count),
            _ => Err(self.error(format!("{count} items announced, at most {possible} can follow"))),
        }
    }

    /// A length and as many bytes.
    ///
    /// # Errors
    /// Fewer bytes are left than announced.
    pub fn bytes(&mut self) -> Result<&'a [u8], CodecError> {
        let length = self.count(1)?;
        self.take(length)
    }

    /// A length and as many bytes of UTF-8.
    ///
    /// # Errors
    /// Fewer bytes are left than announced, or they are not UTF-8.
    pub fn str(&mut self) -> Result<&'a str, CodecError> {
        let at = self.at;
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| CodecError {
            at,
            what: "text is not UTF-8".to_owned(),
        })
    }

    /// A block, to be read on its own to its end.
    ///
    /// # Errors
    /// Fewer bytes are left than announced.
    pub fn block(&mut self) -> Result<Reader<'a>, CodecError> {
        let bytes = self.bytes()?;
        Ok(Reader {
            rest: bytes,
            at: self.at - bytes.len(),
        })
    }

    /// A number of finite values and the values.
    ///
    /// # Errors
    /// Fewer bytes are left than announced, or a value is not finite.
    pub fn f64s(&mut self) -> Result<Vec<f64>, CodecError> {
        let count = self.count(8)?;
        (0..count).map(|_| self.finite()).collect()
    }

    /// Says that all was read.
    ///
    /// # Errors
    /// Something is left.
    pub fn finish(self) -> Result<(), CodecError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.error(format!("{} bytes too many", self.rest.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        out.put_u8(7);
        out.put_u32(8);
        out.put_u64(9);
        out.put_f64(-0.5);
        out.put_str("ü");
        out.put_f64s(&[1.0, 2.0]);
        out.put_block(|block| block.put_u8(3));
        let mut reader = Reader::new(&out);
        assert_eq!(reader.u8(), Ok(7));
        assert_eq!(reader.u32(), Ok(8));
        assert_eq!(reader.u64(), Ok(9));
        assert_eq!(reader.finite(), Ok(-0.5));
        assert_eq!(reader.str(), Ok("ü"));
        assert_eq!(reader.f64s(), Ok(vec![1.0, 2.0]));
        let mut block = reader.block().unwrap();
        assert_eq!(block.u8(), Ok(3));
        block.finish().unwrap();
        reader.finish().unwrap();
    }

    #[test]
    fn impossible_lengths_are_refused_before_they_are_allocated() {
        let mut out = Vec::new();
        out.put_u64(u64::MAX);
        assert!(Reader::new(&out).bytes().is_err());
        assert!(Reader::new(&out).str().is_err());
        assert!(Reader::new(&out).f64s().is_err());
        assert!(Reader::new(&out).block().is_err());
        assert!(Reader::new(&out).count(0).is_err());
    }

    #[test]
    fn values_that_are_not_finite_and_bytes_too_many_are_refused() {
        let mut out = Vec::new();
        out.put_f64(f64::NAN);
        assert!(Reader::new(&out).finite().is_err());
        assert!(Reader::new(&out).f64().unwrap().is_nan());
        assert_eq!(Reader::new(&out).finish().unwrap_err().what, "8 bytes too many");
        assert!(Reader::new(&[2, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]).str().is_err());
    }
}
