//! The list of codecs. A new one is a file and a line here; the reference, the example checks and the conformance
//! tests walk the list.

use std::sync::Arc;

use driftmill_config::{Field, Kind, Need, Problems, Section, find};

use crate::codec::{Codec, CodecKind};
use crate::json::JSON;

/// All codecs, in the order of the reference.
pub static CODECS: &[&dyn CodecKind] = &[&JSON];

/// The codec that `format` in `section` asks for, JSON where it says nothing, with the options in its table there.
pub fn open_codec(section: &Section<'_>, problems: &mut Problems) -> Option<Arc<dyn Codec>> {
    let name = section.get_or("format", "json".to_owned(), problems);
    match find(CODECS, &name) {
        Ok(kind) => kind.open(&section.table(kind.name(), problems), problems),
        Err(message) => {
            problems.push(section.key_span("format"), message, None);
            None
        }
    }
}

/// The keys of the codecs' own tables, for the sections that have a `format`.
pub fn codec_tables() -> impl Iterator<Item = Field> {
    let with_options = CODECS.iter().filter(|kind| !kind.fields().is_empty());
    with_options.map(|kind| Field {
        name: kind.name(),
        kind: Kind::Table(kind.fields()),
        need: Need::Optional("the codec's defaults"),
        doc: "Options of the codec of this name.",
    })
}
