//! Undoes a dialect in replies: calls get back the names that the client knows.

use super::members::{Edit, edit_array, edit_object};
use super::xai::text;
use crate::sse::{Event, Scanner};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;

/// The largest event that is read, in bytes.
const MAX_EVENT_BYTES: usize = 32 * 1024 * 1024;

/// Functions of namespaces by the names that the upstream knows.
#[derive(Debug, Default)]
pub(super) struct FlatNames(Vec<FlatName>);

#[derive(Debug)]
struct FlatName {
    flat: String,
    namespace: String,
    name: String,
}

impl FlatNames {
    pub fn flat(namespace: &str, name: &str) -> String {
        format!("{namespace}__{name}")
    }

    /// Adds a function; returns its name at the upstream.
    pub fn add(&mut self, namespace: &str, name: &str) -> String {
        let flat = Self::flat(namespace, name);
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.0.push(FlatName { flat: flat.clone(), namespace, name });
        flat
    }
}

/// Restores names in the replies to one request.
#[derive(Debug, Clone)]
pub struct DialectReply(Arc<FlatNames>);

impl DialectReply {
    pub(super) fn new(names: FlatNames) -> Self {
        Self(Arc::new(names))
    }

    /// True if replies pass as they are.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.0.0.is_empty()
    }

    /// A whole reply with the names of the client; the same bytes where there is none to restore.
    #[must_use]
    pub fn reply<'a>(&self, body: &'a [u8]) -> Cow<'a, [u8]> {
        match std::str::from_utf8(body).ok().and_then(|text| self.restore(text)) {
            Some(restored) => Cow::Owned(restored.into_bytes()),
            None => Cow::Borrowed(body),
        }
    }

    /// The restoring of names in a stream.
    #[must_use]
    pub fn into_stream(self) -> DialectStream {
        DialectStream { reply: self, scanner: Scanner::new(MAX_EVENT_BYTES), is_broken: false }
    }

    /// The object with names restored; `None` where there is none.
    fn restore(&self, object: &str) -> Option<String> {
        let is_named = self.0.0.iter().any(|name| object.contains(&name.flat));
        if !is_named {
            return None;
        }
        edit_object(object, |member, value| match member {
            "item" => self.restore_item(value),
            "output" => Edit::of(edit_array(value.get(), |item| self.restore_item(item))),
            "response" => Edit::of(self.restore(value.get())),
            "name" => Edit::of(self.find(value).map(|known| Value::from(&*known.name).to_string())),
            _ => Edit::Keep,
        })
    }

    fn restore_item(&self, item: &RawValue) -> Edit {
        if text(item, "type") != "function_call" {
            return Edit::Keep;
        }
        Edit::of(edit_object(item.get(), |member, value| {
            let Some(known) = self.find(value).filter(|_| member == "name") else {
                return Edit::Keep;
            };
            let [name, namespace] =
                [&known.name, &known.namespace].map(|text| Value::from(&**text));
            Edit::Replace(format!("{name},\"namespace\":{namespace}"))
        }))
    }

    fn find(&self, name: &RawValue) -> Option<&FlatName> {
        let name = crate::json::text(name);
        self.0.0.iter().find(|known| known.flat == name)
    }
}

/// Restores names in one stream, whatever its chunking.
pub struct DialectStream {
    reply: DialectReply,
    scanner: Scanner,
    is_broken: bool,
}

impl DialectStream {
    /// Takes the next bytes of the stream; appends what follows for the caller to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.is_broken || self.reply.is_identity() {
            out.extend_from_slice(bytes);
            return;
        }
        self.scanner.push(bytes);
        loop {
            match self.scanner.next_event() {
                Ok(Some(event)) => self.write(&event, out),
                Ok(None) => return,
                Err(_) => {
                    // Too large to be read: it passes as it is, and so does the rest.
                    self.is_broken = true;
                    out.extend_from_slice(&self.scanner.rest());
                    return;
                }
            }
        }
    }

    /// Writes what is left at the end of the stream.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.scanner.rest());
    }

    fn write(&self, event: &Event, out: &mut Vec<u8>) {
        let data = event.data.as_deref().and_then(|data| std::str::from_utf8(data).ok());
        let Some((data, restored)) =
            data.and_then(|data| self.reply.restore(data).map(|restored| (data, restored)))
        else {
            out.extend_from_slice(&event.raw);
            return;
        };
        let raw = &event.raw;
        match memchr::memmem::find(raw, data.as_bytes()) {
            Some(at) => {
                out.extend_from_slice(raw.get(..at).unwrap_or_default());
                out.extend_from_slice(restored.as_bytes());
                out.extend_from_slice(raw.get(at + data.len()..).unwrap_or_default());
            }
            // Data of several lines.
            None => out
                .extend_from_slice(format!("data: {}\n\n", restored.replace('\n', " ")).as_bytes()),
        }
    }
}
