//! `POST /v1/embeddings`: tokens go in, none come out. What comes out is passed unread.

use super::{Description, Output, no_dependencies, no_id, openai_error, unsupported_stream};
use crate::json;
use crate::stream_reader::UsageSink;
use crate::usage::Usage;

pub(super) static DESCRIPTION: Description = Description {
    path: "/embeddings",
    output: Output::None,
    streams: false,
    usage_needs_option: false,
    bills_prompt: true,
    choices: |_| Ok(1),
    prompt: |fields| fields.texts("input"),
    dependencies: no_dependencies,
    stream_reader: unsupported_stream,
    read_reply,
    id_of: no_id,
    error: openai_error,
};

fn read_reply(body: &[u8], to: &mut dyn UsageSink) -> bool {
    if let Some(usage) = Usage::find(body) {
        to.on_usage(usage);
    }
    json::is_object(body)
}
