//! `POST /v1/embeddings`: tokens go in, none come out. What comes out is passed unread.

use super::{Description, Output, never_streams, no_id, no_ties, openai_error};
use crate::follow::Listener;
use crate::json;
use crate::usage::Usage;

pub(super) static DESCRIPTION: Description = Description {
    path: "/embeddings",
    output: Output::None,
    streams: false,
    usage_is_asked_for: false,
    bills_prompt: true,
    choices: |_| Ok(1),
    prompt: |fields| fields.texts("input"),
    ties: no_ties,
    follow: never_streams,
    hear,
    id_of: no_id,
    error: openai_error,
};

fn hear(body: &[u8], to: &mut dyn Listener) -> bool {
    if let Some(usage) = Usage::find(body) {
        to.usage(usage);
    }
    json::is_object(body)
}
