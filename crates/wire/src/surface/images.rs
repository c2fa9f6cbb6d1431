//! `POST /v1/images/generations`: paid by the image, or by what the upstream says it cost.

use super::{Description, Output, never_streams, no_id, no_ties, openai_error};
use crate::follow::Listener;
use crate::json::{self, each_element};
use crate::names::IMAGE_COUNTS;
use crate::usage::Usage;

pub(super) static DESCRIPTION: Description = Description {
    path: "/images/generations",
    output: Output::Images,
    streams: false,
    usage_is_asked_for: false,
    bills_prompt: false,
    choices: |fields| fields.largest_count(&IMAGE_COUNTS),
    prompt: |fields| fields.texts("prompt"),
    ties: no_ties,
    follow: never_streams,
    hear,
    id_of: no_id,
    error: openai_error,
};

fn hear(body: &[u8], to: &mut dyn Listener) -> bool {
    if let Some([Some(data)]) = json::members(body, ["data"]) {
        let _ = each_element(data.get(), |_| to.image());
    }
    if let Some(usage) = Usage::find(body) {
        to.usage(usage);
    }
    json::is_object(body)
}
