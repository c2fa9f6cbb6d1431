//! `POST /v1/images/generations`: billed by the image, or by the cost that the upstream reports.

use super::{Description, Output, no_dependencies, no_id, openai_error, unsupported_stream};
use crate::cursor::Cursor;
use crate::field_names::{IMAGE_COUNTS, OTHER_IMAGE_COUNTS, folded};
use crate::fields::Fields;
use crate::json::{self, each_element};
use crate::request::BadBody;
use crate::stream_reader::UsageSink;
use crate::usage::Usage;

pub(super) static DESCRIPTION: Description = Description {
    path: "/images/generations",
    output: Output::Images,
    streams: false,
    usage_needs_option: false,
    bills_prompt: false,
    choices,
    prompt: |fields| fields.texts("prompt"),
    dependencies: no_dependencies,
    stream_reader: unsupported_stream,
    read_reply,
    id_of: no_id,
    error: openai_error,
};

/// Members under which some servers take a list of prompts, and make images for each.
const PROMPTS: [&str; 5] = ["prompt", "prompts", "input", "inputs", "instances"];

/// The largest number of images under a name that is read at the top level. A number under another name, or within
/// an object, may be read by the upstream as well: it is refused, because it is not reserved.
fn choices(fields: &Fields<'_>) -> Result<u64, BadBody> {
    for name in PROMPTS {
        if fields.given(name).is_some_and(|prompts| prompts.get().starts_with('[')) {
            let why = "only one prompt per request is supported on this endpoint";
            return Err(BadBody::wrong_value(name, why));
        }
    }
    for (name, value) in fields.each_given() {
        if is_count(name) && !IMAGE_COUNTS.contains(&&**name) {
            refuse_several(name, value.get())?;
        }
        refuse_several_within(name, &mut Cursor::new(value.get()))?;
    }
    fields.largest_count(&IMAGE_COUNTS)
}

/// Checks every member within the value that comes next; `top` is the member of the body that it is in.
fn refuse_several_within(top: &str, cursor: &mut Cursor<'_>) -> Result<(), BadBody> {
    if cursor.enter(b'{') {
        while let Some(name) = cursor.next_member() {
            if is_count(&name) {
                refuse_several(&format!("{top}.{}", shortened(&name)), cursor.clone().skip())?;
            }
            refuse_several_within(top, cursor)?;
        }
    } else if cursor.enter(b'[') {
        while cursor.next_element() {
            refuse_several_within(top, cursor)?;
        }
    } else {
        cursor.skip();
    }
    Ok(())
}

fn refuse_several(path: &str, value: &str) -> Result<(), BadBody> {
    if !matches!(value, "1" | "null" | "false") {
        return Err(BadBody::wrong_value(path, "use the top-level `n` instead"));
    }
    Ok(())
}

/// True for a name of a number of images, in any capitalization, with or without underscores.
fn is_count(name: &str) -> bool {
    let is_letter = |c: &char| !matches!(c, '_' | '-');
    let plain: String = folded(shortened(name)).filter(is_letter).collect();
    let names = IMAGE_COUNTS.iter().chain(&OTHER_IMAGE_COUNTS);
    names.into_iter().any(|known| folded(known).filter(is_letter).eq(plain.chars()))
}

/// The beginning of a name, which is all that a name of a number has.
fn shortened(name: &str) -> &str {
    name.char_indices().nth(64).map_or(name, |(end, _)| &name[..end])
}

fn read_reply(body: &[u8], to: &mut dyn UsageSink) -> bool {
    if let Some([Some(data)]) = json::members(body, ["data"]) {
        let _ = each_element(data.get(), |_| to.on_image());
    }
    if let Some(usage) = Usage::find(body) {
        to.on_usage(usage);
    }
    json::is_object(body)
}
