//! `hash`: categories share a fixed number of inputs, by their hash.
//!
//! Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009 (with the sign).

use std::ops::Range;

use driftmill_config::{Component, Field, Kind, Need, Problems, Section};

use super::{ENCODE, ROLE};
use crate::codec::{CodecError, Put, Reader};
use crate::contracts::{Encoder, EncoderKind};
use crate::dictionary::fingerprint;
use crate::frame::{Category, ColumnKind, ColumnSpec, ColumnView};

/// Inputs that one column may have.
const BUCKETS_MAX: u64 = 65_536;
/// Stands for all categories that did not fit into the dictionary.
const UNKNOWN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The entry of the list.
pub(crate) struct HashKind;

impl Component for HashKind {
    fn name(&self) -> &'static str {
        "hash"
    }

    fn summary(&self) -> &'static str {
        "Each category sets one of `buckets` inputs, chosen by a hash of the column's name and the category: no list \
         of categories is kept, new ones need none, and some share an input. A missing value sets none; categories \
         that did not fit into the dictionary count as one."
    }

    fn fields(&self) -> &'static [Field] {
        &[
            ENCODE,
            ROLE,
            Field {
                name: "buckets",
                kind: Kind::Integer,
                need: Need::Optional("64"),
                doc: "Number of inputs, from 2 to 65536.",
            },
            Field {
                name: "signed",
                kind: Kind::Bool,
                need: Need::Optional("`false`"),
                doc: "Whether the hash also chooses between 1 and -1, so that categories that share an input tend to \
                      cancel out.",
            },
        ]
    }

    fn example(&self) -> &'static str {
        "encode = \"hash\"\nbuckets = 256\nsigned = true\n"
    }
}

impl EncoderKind for HashKind {
    fn column_kind(&self) -> ColumnKind {
        ColumnKind::Category
    }

    fn build(
        &self,
        column: &ColumnSpec,
        section: &Section<'_>,
        seed: u64,
        problems: &mut Problems,
    ) -> Option<Box<dyn Encoder>> {
        let buckets = section.get_or("buckets", 64_u64, problems);
        let signed = section.get_or("signed", false, problems);
        if !(2..=BUCKETS_MAX).contains(&buckets) {
            problems.push(
                section.key_span("buckets"),
                "`buckets` must be from 2 to 65536".to_owned(),
                None,
            );
            return None;
        }
        Some(Box::new(Buckets {
            buckets,
            signed,
            salt: mix(fingerprint(&column.name) ^ seed),
        }))
    }

    fn read(&self, reader: &mut Reader<'_>) -> Result<Box<dyn Encoder>, CodecError> {
        let (buckets, signed, salt) = (reader.u64()?, reader.u8()?, reader.u64()?);
        if !(2..=BUCKETS_MAX).contains(&buckets) || signed > 1 {
            return Err(reader.error("these are no settings of `hash`"));
        }
        Ok(Box::new(Buckets {
            buckets,
            signed: signed == 1,
            salt,
        }))
    }
}

/// Learns nothing.
#[derive(Clone)]
struct Buckets {
    buckets: u64,
    signed: bool,
    salt: u64,
}

/// Spreads every bit over all (the finaliser of SplitMix64; Steele, Lea and Flood, OOPSLA 2014).
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Buckets {
    /// The input that a category sets and the value that it sets it to.
    fn bucket(&self, fingerprint: u64) -> (usize, f64) {
        let hash = mix(fingerprint ^ self.salt);
        let bucket = ((u128::from(hash) * u128::from(self.buckets)) >> 64) as usize;
        (bucket, if self.signed && hash & 1 == 1 { -1.0 } else { 1.0 })
    }
}

impl Encoder for Buckets {
    fn format(&self) -> &'static str {
        HashKind.name()
    }

    fn width(&self) -> usize {
        self.buckets as usize
    }

    fn observe(&mut self, _column: ColumnView<'_>, _row: usize, _label: f64) {}

    fn encode(&self, column: ColumnView<'_>, rows: Range<usize>, out: &mut [f64], stride: usize) {
        let mut places = out.chunks_mut(stride.max(1));
        column.categories(rows, |_, category| {
            let Some(place) = places.next() else { return };
            let (bucket, value) = match category {
                Category::Missing => return,
                Category::Unknown => self.bucket(UNKNOWN),
                Category::Known(fingerprint) => self.bucket(fingerprint),
            };
            if let Some(input) = place.get_mut(bucket) {
                *input = value;
            }
        });
    }

    fn stamp(&self) -> u64 {
        0
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_u64(self.buckets);
        out.put_u8(u8::from(self.signed));
        out.put_u64(self.salt);
    }

    fn copy(&self) -> Box<dyn Encoder> {
        Box::new(self.clone())
    }

    fn bytes_max(&self) -> usize {
        size_of::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_and_signs_are_used_evenly() {
        let buckets = Buckets {
            buckets: 10,
            signed: true,
            salt: mix(fingerprint("carrier") ^ 7),
        };
        let mut counts = [[0; 2]; 10];
        for i in 0..10_000 {
            let (bucket, value) = buckets.bucket(fingerprint(&format!("c{i}")));
            counts[bucket][usize::from(value < 0.0)] += 1;
        }
        assert!(
            counts.iter().flatten().all(|&count| (400..600).contains(&count)),
            "{counts:?}"
        );
    }

    #[test]
    fn another_column_or_seed_hashes_otherwise() {
        let bucket = |name: &str, seed: u64| {
            let salt = mix(fingerprint(name) ^ seed);
            (0..8)
                .map(|i| {
                    Buckets {
                        buckets: 1000,
                        signed: false,
                        salt,
                    }
                    .bucket(i)
                    .0
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(bucket("a", 1), bucket("a", 1));
        assert_ne!(bucket("a", 1), bucket("b", 1));
        assert_ne!(bucket("a", 1), bucket("a", 2));
    }
}
