//! `POST /v1/images/generations`: billed by the image, or by the cost that the upstream reports.

use super::{Description, Output, no_dependencies, no_id, openai_error, unsupported_stream};
use crate::field_names::IMAGE_COUNTS;
use crate::json::{self, each_element};
use crate::stream_reader::UsageSink;
use crate::usage::Usage;

pub(super) static DESCRIPTION: Description = Description {
    path: "/images/generations",
    output: Output::Images,
    streams: false,
    usage_needs_option: false,
    bills_prompt: false,
    choices: |fields| fields.largest_count(&IMAGE_COUNTS),
    prompt: |fields| fields.texts("prompt"),
    dependencies: no_dependencies,
    stream_reader: unsupported_stream,
    read_reply,
    id_of: no_id,
    error: openai_error,
};

fn read_reply(body: &[u8], to: &mut dyn UsageSink) -> bool {
    if let Some([Some(data)]) = json::members(body, ["data"]) {
        let _ = each_element(data.get(), |_| to.on_image());
    }
    if let Some(usage) = Usage::find(body) {
        to.on_usage(usage);
    }
    json::is_object(body)
}
