//! `POST /v1/responses`.
//!
//! An upstream stores these replies by default, for all users of its account. A reference
//! to a stored object other than `previous_response_id`, whose owner the gateway knows, is allowed
//! only by the user's plan: see [`Request::permit`](crate::request::Request::permit).

use super::counted_output::CountedOutput;
use super::partial_output::PartialOutput;
use super::{Description, Output, openai_error};
use crate::error::{ErrorBody, UpstreamError};
use crate::fields::Fields;
use crate::json::{self, each_element, each_member};
use crate::output::{self, OutputKind, OutputPiece};
use crate::prompt::Prompt;
use crate::request::{BadBody, Dependencies};
use crate::sse::Event;
use crate::stream_reader::{EventVerdict, StreamReader, UsageSink};
use crate::usage::Usage;
use bytes::Bytes;
use domain::charge::TokenCount;
use serde_json::value::RawValue;
use serde_json::{Value, json};

pub(super) static DESCRIPTION: Description = Description {
    path: "/responses",
    output: Output::Tokens(&["max_output_tokens"]),
    streams: true,
    usage_needs_option: false,
    bills_prompt: true,
    choices: |fields| fields.one_answer(),
    prompt,
    dependencies,
    stream_reader: |_| Box::new(ResponseStream::default()),
    read_reply,
    id_of,
    error: openai_error,
};

/// The largest response, in bytes of JSON, that is stored as a template for the closing event.
const MAX_BEGUN_BYTES: usize = 16 * 1024;

fn prompt<'a>(fields: &Fields<'a>) -> Result<Prompt<'a>, BadBody> {
    let Some(input) = fields.given("input") else {
        // A previous response or a stored prompt can take the place of the input.
        let earlier = ["previous_response_id", "conversation", "prompt"];
        let earlier = earlier.iter().find_map(|name| fields.given(name));
        earlier.ok_or_else(|| BadBody::missing("input"))?;
        return Ok(Prompt::of_extras(fields.extras("input")));
    };
    if input.get().starts_with('"') {
        return Ok(Prompt::of_text(input, fields.extras("input")));
    }
    fields.messages("input")
}

fn dependencies(fields: &Fields<'_>) -> Result<Dependencies, BadBody> {
    let is_stored = fields.given("store").is_none() || fields.flag("store")?;
    let previous_response = fields.name("previous_response_id")?;
    Ok(Dependencies { previous_response, is_stored, is_deferred: false })
}

fn id_of(body: &[u8]) -> Option<String> {
    let [id] = json::members(body, ["id"])?;
    text_of(id)
}

fn read_reply(body: &[u8], to: &mut dyn UsageSink) -> bool {
    let Some(response) = json::object_text(body) else { return false };
    if read_response(response, true, &mut CountedOutput::default(), to) {
        to.on_finish();
    }
    if let Some(usage) = Usage::find(body) {
        to.on_usage(usage);
    }
    json::is_object(body)
}

/// Members of a response that repeat the request.
const ECHOES: [&str; 13] = [
    "billing",
    "instructions",
    "tools",
    "tool_choice",
    "text",
    "reasoning",
    "prompt",
    "prompt_cache_key",
    "safety_identifier",
    "input",
    "user",
    "truncation",
    "previous_response_id",
];

/// Counts the output of a response that was not `counted` yet; returns whether it has an output. Only one that
/// `is_final` can have output under other names.
fn read_response(
    response: &str,
    is_final: bool,
    counted: &mut CountedOutput,
    to: &mut dyn UsageSink,
) -> bool {
    let (mut has_output, mut joined) = (false, None);
    // Output that this response repeats within itself counts each time.
    let before = counted.of_all();
    let _ = each_member(response, |name, value| match &*name {
        "output" => {
            has_output = true;
            let mut lane = 0;
            let walked = each_element(value.get(), |item| {
                let [id] = json::members(item.get().as_bytes(), ["id"]).unwrap_or_default();
                let before = text_of(id).and_then(|id| counted.of_item(&id)).unwrap_or(before);
                read_item(item, lane, before, counted, to);
                lane += 1;
            });
            if walked.is_err() {
                counted.add_rest(0, before, ("output", OutputKind::Content), value.get(), to);
            }
        }
        // The texts of all messages once more, as SDKs join them.
        "output_text" => joined = Some(value),
        name if is_final && !ECHOES.contains(&name) => {
            counted.add_rest(0, before, (name, OutputKind::Content), value.get(), to);
        }
        _ => {}
    });
    if let Some(joined) = joined {
        counted.add_rest(
            0,
            counted.of_all(),
            ("output_text", OutputKind::Content),
            joined.get(),
            to,
        );
    }
    has_output
}

/// Counts the output of a whole item (a message, reasoning or a call), except of the kinds in `before`.
fn read_item(
    item: &RawValue,
    lane: u64,
    before: u8,
    counted: &mut CountedOutput,
    to: &mut dyn UsageSink,
) {
    let kind = json::members(item.get().as_bytes(), ["type"]).and_then(|[kind]| text_of(kind));
    let kind = match kind.as_deref().unwrap_or_default() {
        kind if kind.contains("reasoning") => OutputKind::Reasoning,
        kind if kind.contains("call") => OutputKind::ToolArguments,
        _ => OutputKind::Content,
    };
    counted.add_rest(lane, before, ("item", kind), item.get(), to);
}

fn text_of(raw: Option<&RawValue>) -> Option<String> {
    raw.filter(|raw| raw.get().starts_with('"')).map(|raw| json::text(raw).into_owned())
}

/// The members of an event that are read.
struct ResponseEvent<'a> {
    kind: Option<&'a RawValue>,
    sequence_number: Option<&'a RawValue>,
    output_index: Option<&'a RawValue>,
    delta: Option<&'a RawValue>,
    item_id: Option<&'a RawValue>,
    item: Option<&'a RawValue>,
    response: Option<&'a RawValue>,
}

impl<'a> ResponseEvent<'a> {
    fn read(data: &'a [u8]) -> Option<Self> {
        let names =
            ["type", "sequence_number", "output_index", "delta", "item_id", "item", "response"];
        let [kind, sequence_number, output_index, delta, item_id, item, response] =
            json::members(data, names)?;
        Some(Self { kind, sequence_number, output_index, delta, item_id, item, response })
    }
}

/// A stream of numbered events that ends with the response as it then is.
#[derive(Default)]
struct ResponseStream {
    id: Option<String>,
    /// The response as it was when it began, if it is not too large.
    begun: Option<Value>,
    /// The number of the next event, should the gateway write it.
    next: u64,
    partial_output: PartialOutput,
    counted: CountedOutput,
}

impl StreamReader for ResponseStream {
    fn on_event(&mut self, event: &Event, to: &mut dyn UsageSink) -> EventVerdict {
        self.partial_output.next_event();
        let data = event.data.as_deref();
        let Some(parsed) = data.and_then(ResponseEvent::read) else {
            if data.is_some_and(|data| !data.trim_ascii().is_empty() && !event.is_done()) {
                to.on_unreadable();
            }
            return EventVerdict::Relay;
        };
        let number = parsed.sequence_number.and_then(|raw| raw.get().parse().ok());
        let number = number.unwrap_or(self.next);
        self.next = number + 1;
        let verdict = self.read_event(&parsed, data.unwrap_or_default(), to);
        if matches!(verdict, EventVerdict::ReplaceError(_)) {
            self.next = number;
        }
        verdict
    }

    fn is_finished(&self) -> bool {
        false
    }

    fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    fn length_cut(&mut self, tokens: &TokenCount) -> Bytes {
        let mut response = self.begun.take().unwrap_or_else(|| json!({}));
        let defaults = json!({
            "id": self.id.as_deref().unwrap_or("resp_cut"), "object": "response", "created_at": 0, "model": "", "error": null,
            "instructions": null, "metadata": {}, "parallel_tool_calls": true, "temperature": null,
            "tool_choice": "auto", "tools": [], "top_p": null,
        });
        let ending = json!({
            "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"},
            "output": self.partial_output.output(), "usage": usage_object(tokens),
        });
        merge(&mut response, defaults, false);
        merge(&mut response, ending, true);
        // The event that did not pass had the number before.
        let number = self.next.saturating_sub(1);
        let data = json!({
            "type": "response.incomplete", "sequence_number": number, "response": response,
        });
        format!("event: response.incomplete\ndata: {data}\n\n").into()
    }

    fn error(&mut self, error: &ErrorBody) -> Bytes {
        let data = json!({
            "type": "error", "code": error.code, "message": error.message, "param": error.param,
            "sequence_number": self.next,
        });
        format!("event: error\ndata: {data}\n\n").into()
    }
}

impl ResponseStream {
    fn read_event(
        &mut self,
        parsed: &ResponseEvent<'_>,
        data: &[u8],
        to: &mut dyn UsageSink,
    ) -> EventVerdict {
        let kind = parsed.kind.map(json::text).unwrap_or_default();
        let lane = parsed.output_index.and_then(|raw| raw.get().parse().ok()).unwrap_or(0);
        if let (Some(delta), true) = (parsed.delta, kind.ends_with(".delta")) {
            self.read_delta(&kind, lane, (delta, parsed.item_id), to);
            return EventVerdict::Relay;
        }
        if let Some(item) = parsed.item {
            let [id] = json::members(item.get().as_bytes(), ["id"]).unwrap_or_default();
            self.counted.set_id(lane, || text_of(id));
            read_item(item, lane, self.counted.of_lane(lane), &mut self.counted, to);
            if kind == "response.output_item.done" {
                self.partial_output.set_item(lane, item);
            }
        }
        if kind == "error" {
            return EventVerdict::ReplaceError(Box::new(UpstreamError::of_event(data)));
        }
        if let Some(response) = parsed.response {
            return self.read_whole(&kind, response, data, to);
        }
        // In the shape of chat, which some servers fall back to.
        if kind.is_empty()
            && let Some(error) = UpstreamError::in_band(data)
        {
            return EventVerdict::ReplaceError(Box::new(error));
        }
        if parsed.item.is_none() {
            self.read_other_event(&kind, data, lane, to);
        }
        EventVerdict::Relay
    }

    /// Reports a delta of an item: text, or the bytes of media.
    fn read_delta(
        &mut self,
        event: &str,
        lane: u64,
        (delta, item_id): (&RawValue, Option<&RawValue>),
        to: &mut dyn UsageSink,
    ) {
        self.counted.set_id(lane, || text_of(item_id));
        match kind_of(event) {
            Some(kind) if json::text_len(delta) > 0 && !json::is_null(delta) => {
                self.counted.add_piece(lane, OutputPiece::Text(kind, delta.get()), to);
            }
            Some(_) => {}
            None => {
                let bytes = json::text_len(delta) as u64;
                self.counted.add_piece(lane, OutputPiece::Media(bytes), to);
            }
        }
        if event == "response.output_text.delta" {
            self.partial_output.add_delta(lane, text_of(item_id), delta);
        }
    }

    /// Reports the output and usage of the response that an event carries as a whole.
    fn read_whole(
        &mut self,
        event: &str,
        response: &RawValue,
        data: &[u8],
        to: &mut dyn UsageSink,
    ) -> EventVerdict {
        self.observe(response);
        let is_final = event.ends_with("completed") || event.ends_with("incomplete");
        read_response(response.get(), is_final, &mut self.counted, to);
        if let Some(usage) = Usage::find(data) {
            to.on_usage(usage);
        }
        match event {
            "response.completed" | "response.incomplete" => {
                to.on_finish();
                EventVerdict::Last
            }
            "response.failed" => failure(response),
            _ => EventVerdict::Relay,
        }
    }

    /// Reports the output of an event without a delta: the end of a text, a part, an image.
    fn read_other_event(&mut self, event: &str, data: &[u8], lane: u64, to: &mut dyn UsageSink) {
        let Some(data) = json::object_text(data) else { return };
        let kind = kind_of(event).unwrap_or(OutputKind::Content);
        if event.ends_with("partial_image") {
            // Each is another image.
            let counted = &mut self.counted;
            let mut report = |piece: OutputPiece<'_>| counted.add_piece(lane, piece, to);
            return output::each_in(kind, data, |_| true, &mut report);
        }
        self.counted.add_rest(lane, self.counted.of_lane(lane), ("event data", kind), data, to);
    }

    /// Stores the response's id, and the response as a template.
    fn observe(&mut self, raw: &RawValue) {
        if self.id.is_none() {
            self.id = id_of(raw.get().as_bytes());
        }
        if self.begun.is_none() && raw.get().len() <= MAX_BEGUN_BYTES {
            self.begun = serde_json::from_str(raw.get()).ok();
        }
    }
}

/// The kind of an output delta, by the type of its event; `None` if it is not text.
fn kind_of(event: &str) -> Option<OutputKind> {
    let says = |word| event.contains(word);
    if says("audio.delta") || says("image") {
        None
    } else if says("arguments") || says("tool_call_input") || says("code") {
        Some(OutputKind::ToolArguments)
    } else if says("reasoning") {
        Some(OutputKind::Reasoning)
    } else if says("refusal") {
        Some(OutputKind::Refusal)
    } else {
        Some(OutputKind::Content)
    }
}

/// Relays a failed response unless its message is about the operator's account.
fn failure(raw: &RawValue) -> EventVerdict {
    let error = Box::new(UpstreamError::of_event(raw.get().as_bytes()));
    let response: Value = serde_json::from_str(raw.get()).unwrap_or_default();
    let message = response["error"]["message"].as_str().unwrap_or_default();
    if error.can_relay(message) {
        EventVerdict::RelayError(error)
    } else {
        EventVerdict::ReplaceError(error)
    }
}

/// A usage object of this surface; reasoning is part of the output.
fn usage_object(tokens: &TokenCount) -> Value {
    json!({
        "input_tokens": tokens.prompt,
        "input_tokens_details": {"cached_tokens": tokens.cached, "cache_write_tokens": 0},
        "output_tokens": tokens.completion.saturating_add(tokens.reasoning),
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.total(),
    })
}

/// Adds members to an object; those that are there stay unless `replaces`.
fn merge(object: &mut Value, members: Value, replaces: bool) {
    let (Value::Object(object), Value::Object(members)) = (object, members) else { return };
    for (name, value) in members {
        if replaces || !object.contains_key(&name) {
            object.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests;
