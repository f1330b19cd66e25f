//! What compression changes in the head of a response.

use ringward_http::ResponseHead;
use smallvec::SmallVec;

/// The changes in one head. At the least, that it depends on what the client accepts.
#[derive(Debug, Default)]
pub(crate) struct Recoded {
    /// The content coding that the body gets.
    coding: Option<&'static str>,
    /// `Vary` does not say it yet.
    adds_vary: bool,
    /// What the `ETag` becomes, if it is another one; nothing if it is left out.
    etag: Option<Box<[u8]>>,
    replaces_etag: bool,
}

impl Recoded {
    /// A head that says what it depends on.
    pub(super) fn varying(response: &ResponseHead) -> Recoded {
        let mut varies = response.fields().filter(|field| field.name.eq_ignore_ascii_case("vary"));
        let is_said = varies.any(|field| {
            let mut names = field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            names.any(|name| name == b"*" || name.eq_ignore_ascii_case(ACCEPT_ENCODING))
        });
        Recoded { adds_vary: !is_said, ..Recoded::default() }
    }

    /// The body gets this coding.
    pub(super) fn encode(&mut self, coding: &'static str, response: &ResponseHead) {
        self.coding = Some(coding);
        self.weaken(response);
    }

    /// RFC 9110 §8.8.1: two bodies with one strong tag would be the same bytes. What is no tag is left out.
    pub(super) fn weaken(&mut self, response: &ResponseHead) {
        let mut tags = response.fields().filter(|field| field.name.eq_ignore_ascii_case("etag"));
        let Some(tag) = tags.next().map(|field| field.value) else { return };
        let is_only = tags.next().is_none();
        if is_only && is_quoted(tag.strip_prefix(b"W/").unwrap_or_default()) {
            return;
        }
        self.replaces_etag = true;
        self.etag = (is_only && is_quoted(tag)).then(|| [b"W/", tag].concat().into());
    }

    /// The body is sent in a coding that the upstream has not made.
    pub(crate) fn is_encoded(&self) -> bool {
        self.coding.is_some()
    }

    /// Whether a field of the upstream's head does not go on.
    pub(crate) fn drops(&self, name: &[u8]) -> bool {
        self.replaces_etag && name.eq_ignore_ascii_case(b"etag")
            || self.is_encoded()
                && (name.eq_ignore_ascii_case(b"accept-ranges")
                    || std::str::from_utf8(name).is_ok_and(is_digest))
    }

    /// Names and values of what stands there instead and besides.
    pub(crate) fn fields(&self) -> SmallVec<[(&str, &[u8]); 3]> {
        let vary = self.adds_vary.then_some(("vary", ACCEPT_ENCODING));
        let coding = self.coding.map(|coding| ("content-encoding", coding.as_bytes()));
        let etag = self.etag.as_deref().map(|etag| ("etag", etag));
        [vary, coding, etag].into_iter().flatten().collect()
    }
}

/// Whether a field, or a trailer, is a digest of the bytes as the upstream has sent them (RFC 9530, and what was before it).
pub(crate) fn is_digest(name: &str) -> bool {
    DIGESTS.iter().any(|digest| name.eq_ignore_ascii_case(digest))
}

/// RFC 9110 §8.8.3: `opaque-tag`.
fn is_quoted(tag: &[u8]) -> bool {
    matches!(tag, [b'"', inner @ .., b'"'] if inner.iter().all(|byte| *byte > b' ' && !matches!(byte, b'"' | 0x7f)))
}

const ACCEPT_ENCODING: &[u8] = b"accept-encoding";
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];
