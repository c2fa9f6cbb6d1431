//! `POST /v1/tokenize-text`, of xAI: a text's tokens. Nothing is billed for it.

use super::{
    Description, Output, no_dependencies, no_id, openai_error, read_unmetered_reply,
    unsupported_stream,
};

pub(super) static DESCRIPTION: Description = Description {
    path: "/tokenize-text",
    output: Output::None,
    streams: false,
    usage_needs_option: false,
    bills_prompt: false,
    choices: |_| Ok(1),
    prompt: |fields| fields.texts("text"),
    dependencies: no_dependencies,
    stream_reader: unsupported_stream,
    read_reply: read_unmetered_reply,
    id_of: no_id,
    error: openai_error,
};
