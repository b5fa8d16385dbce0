//! The list of codecs. A new one is a file and a line here; the reference, the example checks and the conformance
//! tests walk the list.

use crate::codec::Codec;
use crate::json::JSON;

/// All codecs, in the order of the reference.
pub static CODECS: &[&dyn Codec] = &[&JSON];

/// The codec that `format = "name"` asks for.
#[must_use]
pub fn codec_by_name(name: &str) -> Option<&'static dyn Codec> {
    CODECS.iter().copied().find(|codec| codec.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use arrow::array::RecordBatch;
    use arrow::datatypes::{DataType, Field, Schema};

    use crate::encoded::Encoded;
    use crate::schema::TYPES;

    #[test]
    fn names_are_unique_and_lead_back() {
        for codec in CODECS {
            let found = codec_by_name(codec.name()).unwrap();
            assert!(std::ptr::addr_eq(found, *codec), "{} is there twice", codec.name());
        }
        assert!(codec_by_name("").is_none());
    }

    #[test]
    fn examples_pass_their_own_checks() {
        for codec in CODECS {
            assert!(!codec.summary().is_empty());
            if let Err(problems) = driftmill_config::check_example(*codec) {
                panic!("{}: {}", codec.name(), problems.render());
            }
        }
    }

    #[test]
    fn every_codec_carries_every_declarable_type_and_refuses_tombstones() {
        let field = |(name, kind): &(&str, DataType)| Field::new(*name, kind.clone(), true);
        let schema = Arc::new(Schema::new(TYPES.iter().map(field).collect::<Vec<_>>()));
        for codec in CODECS {
            let mut decoder = codec.decoder(Arc::clone(&schema)).unwrap();
            assert_eq!(decoder.schema(), &schema);
            let decoded = decoder.decode(&[None, Some(b""), Some(b"\xff\xfe")]).unwrap();
            assert_eq!(decoded.batch.num_rows(), 0);
            assert_eq!(
                decoded.bad.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
                [0, 1, 2]
            );
            assert_eq!(decoded.bad[0].1.kind, "tombstone");
            assert_eq!(decoded.bad[1].1.kind, "empty");
            let mut out = Encoded::default();
            let empty = RecordBatch::new_empty(Arc::clone(&schema));
            codec
                .encoder(Arc::clone(&schema))
                .unwrap()
                .encode(&empty, b"", &mut out)
                .unwrap();
            assert!(out.is_empty());
        }
    }
}
