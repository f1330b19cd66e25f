//! The bytes by which decisions are found again: everything that a projection names, taken straight from the request.
//!
//! Two requests have the same key if and only if they agree in every part of the projection (or are taken apart needlessly,
//! which only costs a hit). A policy has one list of parts, so a part needs no name, but it must be clear where it ends: texts
//! have their length in front, lists a mark in front of each item and another behind the last.

use std::rc::Rc;

use regorus::Value;
use smallvec::SmallVec;

use super::projection::{Accessor, Projection};
use crate::input::document::{decode_form, is_hidden, query_pairs};
use crate::input::subject::Subject;
use crate::input::view::RequestView;

/// Longest key. What is longer is a path or header made to fill memory, or too rare to be seen again.
pub(crate) const KEY_BYTES_MAX: usize = 512;

/// Most bytes that the subject's part of a key may come from; certificates of ordinary clients have a tenth.
pub(crate) const SUBJECT_BYTES_MAX: usize = 16 * 1024;

/// Where keys are written; one per cache, so that writing one allocates nothing.
#[derive(Debug)]
pub(super) struct KeyBuffer {
    bytes: Vec<u8>,
    overflow: bool,
}

impl KeyBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::with_capacity(KEY_BYTES_MAX), overflow: false }
    }

    /// The key of a request by the subject of this number; `None` if it would be longer than [`KEY_BYTES_MAX`].
    pub(super) fn write(
        &mut self,
        projection: &Projection,
        subject: u64,
        request: &RequestView<'_>,
    ) -> Option<&[u8]> {
        self.bytes.clear();
        self.overflow = false;
        self.raw(&subject.to_le_bytes());
        for field in &projection.fields {
            self.field(field, request);
        }
        (!self.overflow).then_some(self.bytes.as_slice())
    }

    /// The key that was written last.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn field(&mut self, field: &Accessor, request: &RequestView<'_>) {
        let route = &request.route;
        match field {
            Accessor::Method => self.text(request.method),
            Accessor::Path => self.text(request.path),
            Accessor::RawPath => self.text(request.raw_path),
            // A query that is there and empty decides like none; apart they cost nothing.
            Accessor::Query => self.list(|list| list.extend(request.query)),
            Accessor::QueryValues(name) => self.list(|list| {
                let pairs = request.query.into_iter().flat_map(query_pairs);
                // Decoding allocates for an escaped name only. Values may stay encoded: what they mean follows from it.
                list.extend(pairs.filter(|(other, _)| decode_form(other) == **name).map(|(_, value)| value));
            }),
            Accessor::Host => self.text(request.host),
            Accessor::Scheme => self.text(request.scheme),
            Accessor::Protocol => self.text(request.protocol),
            // Missing is no item, empty is an empty one.
            Accessor::Header(name) => self.list(|list| {
                if !is_hidden(name) {
                    request.headers.values(name, &mut |value| list.item(value));
                }
            }),
            Accessor::RouteId => self.text(route.id),
            Accessor::RouteTemplate => self.text(route.template),
            Accessor::RouteUpstream => self.text(route.upstream),
            Accessor::RouteParams => self.list(|list| {
                list.extend(route.params.iter().flat_map(|(name, value)| [*name, *value]));
            }),
            Accessor::RouteParam(name) => self.list(|list| {
                list.extend(
                    route.params.iter().filter(|(other, _)| *other == &**name).map(|(_, value)| *value),
                );
            }),
            Accessor::RouteLabels => self.list(|list| {
                list.extend(route.labels.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
            }),
            Accessor::RouteLabel(name) => self.list(|list| {
                let labels = route.labels.iter().filter(|(other, _)| **other == **name);
                list.extend(labels.map(|(_, value)| value.as_str()));
            }),
            Accessor::Second => self.raw(&request.now_unix.to_le_bytes()),
        }
    }

    fn text(&mut self, text: &str) {
        // Longer ones overflow below, whatever their length is cut to.
        self.raw(&(text.len() as u16).to_le_bytes());
        self.raw(text.as_bytes());
    }

    fn list(&mut self, write: impl FnOnce(&mut List<'_>)) {
        write(&mut List(self));
        self.raw(&[END]);
    }

    fn raw(&mut self, bytes: &[u8]) {
        if self.bytes.len() + bytes.len() > KEY_BYTES_MAX {
            self.overflow = true;
        } else {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

/// A list that is being written.
struct List<'b>(&'b mut KeyBuffer);

impl List<'_> {
    fn item(&mut self, item: &str) {
        self.0.raw(&[ITEM]);
        self.0.text(item);
    }

    fn extend<'t>(&mut self, items: impl IntoIterator<Item = &'t str>) {
        items.into_iter().for_each(|item| self.item(item));
    }
}

const END: u8 = 0;
const ITEM: u8 = 1;

/// The subject's parts as bytes; `None` if they are more than [`SUBJECT_BYTES_MAX`].
///
/// Validity of the certificate needs no care beyond its two times: a connection ends with the certificate, and so does what
/// its requests could be given.
pub(super) fn subject_bytes(projection: &Projection, subject: &Subject) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for path in &projection.subject {
        let (root, names) = path.split_first()?;
        let mut value = match root.as_str() {
            "client" => &subject.client,
            "connection" => &subject.connection,
            _ => return None,
        };
        for name in names {
            // Below anything but an object nothing can be named: then all of it counts.
            let Value::Object(fields) = value else { break };
            value = fields.get(&Value::from(name.as_str())).unwrap_or(&Value::Undefined);
        }
        write_value(&mut bytes, value);
        if bytes.len() > SUBJECT_BYTES_MAX {
            return None;
        }
    }
    Some(bytes)
}

/// A value so that none is the beginning of another: its kind, then its length or number of items, then these.
fn write_value(bytes: &mut Vec<u8>, value: &Value) {
    let counted = |bytes: &mut Vec<u8>, kind: u8, count: usize| {
        bytes.push(kind);
        bytes.extend_from_slice(&(count as u64).to_le_bytes());
    };
    match value {
        Value::Undefined => bytes.push(0),
        Value::Null => bytes.push(1),
        Value::Bool(false) => bytes.push(2),
        Value::Bool(true) => bytes.push(3),
        Value::Number(_) => {
            let number = value.to_string();
            counted(bytes, 4, number.len());
            bytes.extend_from_slice(number.as_bytes());
        }
        Value::String(text) => {
            counted(bytes, 5, text.len());
            bytes.extend_from_slice(text.as_bytes());
        }
        Value::Array(items) => {
            counted(bytes, 6, items.len());
            items.iter().for_each(|item| write_value(bytes, item));
        }
        Value::Set(items) => {
            counted(bytes, 7, items.len());
            items.iter().for_each(|item| write_value(bytes, item));
        }
        Value::Object(fields) => {
            counted(bytes, 8, fields.len());
            for (name, value) in fields.iter_sorted() {
                write_value(bytes, name);
                write_value(bytes, value);
            }
        }
    }
}

/// Which subject of a cache a connection's client is, remembered by the connection, so that its claims are looked at once and
/// not for each request.
///
/// Belongs to one [`Subject`]; another subject must have a mark of its own.
#[derive(Debug, Clone, Default)]
pub struct SubjectMark {
    /// For the policies that were asked last, oldest first: most connections meet one.
    marks: SmallVec<[Mark; 2]>,
}

#[derive(Debug, Clone)]
struct Mark {
    /// Held, so that its address means this very table for as long as it is compared.
    table: Rc<TableId>,
    subject: u64,
}

/// One cache's table of subjects. Their numbers mean nothing to another.
#[derive(Debug)]
pub(super) struct TableId;

impl SubjectMark {
    pub(super) fn subject_in(&self, table: &Rc<TableId>) -> Option<u64> {
        let mark = self.marks.iter().find(|mark| Rc::ptr_eq(&mark.table, table))?;
        Some(mark.subject)
    }

    pub(super) fn remember(&mut self, table: &Rc<TableId>, subject: u64) {
        self.marks.retain(|mark| !Rc::ptr_eq(&mark.table, table));
        if self.marks.len() == MARKS_MAX {
            self.marks.remove(0);
        }
        self.marks.push(Mark { table: Rc::clone(table), subject });
    }
}

/// As many policies as a route may have, with a global one.
const MARKS_MAX: usize = 9;

#[cfg(test)]
mod tests;
