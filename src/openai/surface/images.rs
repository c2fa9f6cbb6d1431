//! `POST /v1/images/generations`: paid by the image, or by what the upstream says it cost.

use super::{Description, Output, never_streams, no_id, no_ties, openai_error};
use crate::openai::follow::Listener;
use crate::openai::json::{self, each_element};
use crate::openai::names::IMAGE_COUNTS;
use crate::openai::usage::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

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

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

fn hear(body: &[u8], to: &mut dyn Listener) {
    let Some(reply) = json::object::<Reply<'_>>(body) else { return };
    if let Some(data) = reply.data {
        let _ = each_element(data.get(), |_| to.image());
    }
    if let Some(usage) = reply.usage.and_then(|raw| Usage::of_images(raw.get().as_bytes())) {
        to.usage(usage);
    }
}
