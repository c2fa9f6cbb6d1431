//! Writes server-sent events.

use super::json_writer::JsonWriter;

/// Writes a named event with an object as its data.
pub(super) fn event(out: &mut Vec<u8>, name: &str, members: impl FnOnce(&mut JsonWriter<'_>)) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
    data(out, |object| {
        object.text("type", name);
        members(object);
    });
}

/// Writes an event without a name.
pub(super) fn data(out: &mut Vec<u8>, members: impl FnOnce(&mut JsonWriter<'_>)) {
    out.extend_from_slice(b"data: ");
    JsonWriter::object(out, members);
    out.extend_from_slice(b"\n\n");
}
