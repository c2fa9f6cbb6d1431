//! An [`Answer`] in the format of `/v1/responses`, and the responses stored for a later `GET`.

use crate::answer::{Answer, FinishReason, Words};
use crate::pacing::{Emitted, EventSource};
use crate::reply::chat::Envelope;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Instant;

/// The most responses that are stored; the oldest are deleted first.
const MAX_STORED: usize = 10_000;

/// The whole response as one JSON object.
pub fn response(answer: &Answer, envelope: &Envelope) -> String {
    object(answer, envelope, true).to_string()
}

/// The response object: finished, or in its state at the beginning of a stream.
fn object(answer: &Answer, envelope: &Envelope, finished: bool) -> Value {
    let cut = answer.finish == FinishReason::Length;
    let status = if !finished {
        "in_progress"
    } else if cut {
        "incomplete"
    } else {
        "completed"
    };
    let usage = answer.reported_usage.filter(|_| finished).map(|usage| usage.responses_json());
    let usage = usage.and_then(|usage| serde_json::from_str::<Value>(&usage).ok());
    json!({
        "id": response_id(envelope), "object": "response", "created_at": envelope.created, "model": answer.model,
        "status": status, "output": if finished { output(answer, envelope) } else { json!([]) }, "usage": usage,
        "incomplete_details": (finished && cut).then(|| json!({"reason": "max_output_tokens"})),
        "error": null, "instructions": null, "metadata": {}, "parallel_tool_calls": true,
        "previous_response_id": null, "reasoning": {"effort": null, "summary": null}, "store": true,
        "temperature": null, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": null,
    })
}

fn response_id(envelope: &Envelope) -> String {
    format!("resp_{}", envelope.id)
}

fn output(answer: &Answer, envelope: &Envelope) -> Value {
    let mut items: Vec<_> = reasoning(answer, envelope).into_iter().collect();
    items.push(match call(answer, envelope) {
        Some(call) => call,
        None => message(&answer.text_of(0), envelope, "completed"),
    });
    Value::from(items)
}

/// The prefix of reasoning that was sealed under a seed.
pub fn seal(seed: u64) -> String {
    format!("sealed-{seed:016x}-")
}

/// The item of shown or sealed reasoning.
fn reasoning(answer: &Answer, envelope: &Envelope) -> Option<Value> {
    let mut item = json!({"id": format!("rs_{}", envelope.id), "type": "reasoning", "summary": []});
    if answer.shown_reasoning > 0 {
        item["summary"] = json!([{"type": "summary_text", "text": answer.reasoning_text()}]);
    } else {
        answer.sealed.as_ref()?;
    }
    if let Some(sealed) = &answer.sealed {
        item["encrypted_content"] = sealed.as_str().into();
    }
    Some(item)
}

fn message(text: &str, envelope: &Envelope, status: &str) -> Value {
    let content = if status == "completed" { vec![text_part(text)] } else { Vec::new() };
    let id = format!("msg_{}", envelope.id);
    json!({"id": id, "type": "message", "role": "assistant", "status": status, "content": content})
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn call(answer: &Answer, envelope: &Envelope) -> Option<Value> {
    let function = &answer.call.as_ref()?.function;
    Some(json!({
        "id": format!("fc_{}", envelope.id), "type": "function_call", "status": "completed",
        "call_id": "call_00000000", "name": function.name, "arguments": function.arguments,
    }))
}

/// The answer as events: some before the words, one for each word, some after.
#[derive(Debug)]
pub struct ResponsesEvents {
    before: VecDeque<Value>,
    words: Words,
    words_left: u64,
    /// Tokens of a function call; they go with the event that carries its arguments.
    call_tokens: u64,
    after: VecDeque<Value>,
    /// Around a word: the delta event without its number and text.
    item: String,
    /// The item's place in the output.
    place: u64,
    number: u64,
}

impl ResponsesEvents {
    pub fn new(answer: &Answer, envelope: &Envelope) -> Self {
        let start = object(answer, envelope, false);
        let mut before = VecDeque::from([
            json!({"type": "response.created", "response": start}),
            json!({"type": "response.in_progress", "response": start}),
        ]);
        let mut after = VecDeque::new();
        let reasoning = reasoning(answer, envelope);
        let place = u64::from(reasoning.is_some());
        if let Some(item) = &reasoning {
            before.push_back(item_event("response.output_item.added", 0, item));
            before.push_back(item_event("response.output_item.done", 0, item));
        }
        match call(answer, envelope) {
            Some(call) => call_events(&call, place, &mut after),
            None => {
                let text = answer.text_of(0);
                message_events(&text, envelope, place, (&mut before, &mut after));
            }
        }
        let last = if answer.finish == FinishReason::Length {
            "response.incomplete"
        } else {
            "response.completed"
        };
        after.push_back(json!({"type": last, "response": object(answer, envelope, true)}));
        Self {
            before,
            words: answer.words_of(0),
            words_left: answer.words,
            call_tokens: answer.call.as_ref().map_or(0, |call| call.tokens),
            after,
            item: format!("msg_{}", envelope.id),
            place,
            number: 0,
        }
    }

    fn write_event(&mut self, out: &mut Vec<u8>, event: &Value) {
        let mut event = event.clone();
        event["sequence_number"] = self.number.into();
        self.number += 1;
        let kind = event["type"].as_str().unwrap_or_default();
        out.extend_from_slice(format!("event: {kind}\ndata: {event}\n\n").as_bytes());
    }

    fn write_word(&mut self, out: &mut Vec<u8>) {
        let word = self.words.next().unwrap_or_default();
        let Self { number, item, place, .. } = &*self;
        let data = format!(
            r#"{{"type":"response.output_text.delta","sequence_number":{number},"item_id":"{item}","output_index":{place},"content_index":0,"logprobs":[],"delta":"{word}"}}"#
        );
        out.extend_from_slice(b"event: response.output_text.delta\ndata: ");
        out.extend_from_slice(data.as_bytes());
        out.extend_from_slice(b"\n\n");
        self.number += 1;
        self.words_left -= 1;
    }
}

impl EventSource for ResponsesEvents {
    fn token_is_next(&self) -> bool {
        self.before.is_empty() && (self.words_left > 0 || self.call_tokens > 0)
    }

    fn next(&mut self, out: &mut Vec<u8>) -> Emitted {
        if let Some(event) = self.before.pop_front() {
            self.write_event(out, &event);
            return Emitted { tokens: 0 };
        }
        if self.words_left > 0 {
            self.write_word(out);
            return Emitted { tokens: 1 };
        }
        if let Some(event) = self.after.pop_front() {
            self.write_event(out, &event);
        }
        Emitted { tokens: std::mem::take(&mut self.call_tokens) }
    }

    fn is_over(&self) -> bool {
        self.before.is_empty() && self.words_left == 0 && self.after.is_empty()
    }

    fn error(&self) -> String {
        let number = self.number;
        format!(
            "event: error\ndata: {{\"type\":\"error\",\"code\":\"internal\",\"message\":\"An internal error occurred.\",\
             \"param\":null,\"sequence_number\":{number}}}\n\n"
        )
    }
}

fn item_event(kind: &str, place: u64, item: &Value) -> Value {
    json!({"type": kind, "output_index": place, "item": item})
}

/// The events before and after the words of a message.
fn message_events(
    text: &str,
    envelope: &Envelope,
    place: u64,
    (before, after): (&mut VecDeque<Value>, &mut VecDeque<Value>),
) {
    let item = format!("msg_{}", envelope.id);
    let at = json!({"item_id": item, "output_index": place, "content_index": 0});
    let part = |kind: &str, text: &str| merge(&at, &json!({"type": kind, "part": text_part(text)}));
    let begun = message("", envelope, "in_progress");
    before.push_back(item_event("response.output_item.added", place, &begun));
    before.push_back(part("response.content_part.added", ""));
    let done = json!({"type": "response.output_text.done", "text": text, "logprobs": []});
    after.push_back(merge(&at, &done));
    after.push_back(part("response.content_part.done", text));
    let whole = message(text, envelope, "completed");
    after.push_back(item_event("response.output_item.done", place, &whole));
}

/// xAI sends a call's arguments in one piece.
fn call_events(call: &Value, place: u64, events: &mut VecDeque<Value>) {
    let (id, arguments) = (&call["id"], &call["arguments"]);
    let mut begun = call.clone();
    begun["arguments"] = "".into();
    begun["status"] = "in_progress".into();
    let at = json!({"item_id": id, "output_index": place});
    let delta = json!({"type": "response.function_call_arguments.delta", "delta": arguments});
    let done = json!({"type": "response.function_call_arguments.done", "arguments": arguments, "name": call["name"]});
    events.push_back(item_event("response.output_item.added", place, &begun));
    events.push_back(merge(&at, &delta));
    events.push_back(merge(&at, &done));
    events.push_back(item_event("response.output_item.done", place, call));
}

fn merge(left: &Value, right: &Value) -> Value {
    let members = [left, right].into_iter().filter_map(Value::as_object).flatten();
    Value::Object(members.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// The empty list of input items: the input of a response is not stored.
pub fn no_items() -> Bytes {
    Bytes::from_static(
        br#"{"object":"list","data":[],"first_id":null,"last_id":null,"has_more":false}"#,
    )
}

/// Stored responses by id. xAI stores them for all keys of a team.
#[derive(Debug, Default)]
pub struct StoredResponses(Mutex<VecDeque<StoredResponse>>);

/// A response that is generated to its end even after its client has disconnected.
#[derive(Debug)]
struct StoredResponse {
    id: String,
    in_progress: Bytes,
    whole: Bytes,
    done_at: Instant,
    /// Tokens that it adds to the prompt of a request that continues it.
    context: u64,
}

impl StoredResponses {
    /// Stores an answer that is complete at `done_at`.
    pub fn insert(&self, envelope: &Envelope, answer: &Answer, done_at: Instant) {
        let stored_response = StoredResponse {
            id: response_id(envelope),
            in_progress: object(answer, envelope, false).to_string().into(),
            whole: response(answer, envelope).into(),
            done_at,
            context: answer.billed_usage.prompt + answer.billed_usage.completion,
        };
        let mut all = self.0.lock();
        all.retain(|other| other.id != stored_response.id);
        if all.len() == MAX_STORED {
            all.pop_front();
        }
        all.push_back(stored_response);
    }

    /// Returns the response in its state at `now`.
    pub fn get(&self, id: &str, now: Instant) -> Option<Bytes> {
        let all = self.0.lock();
        let stored_response = all.iter().find(|stored_response| stored_response.id == id)?;
        Some(if now < stored_response.done_at {
            stored_response.in_progress.clone()
        } else {
            stored_response.whole.clone()
        })
    }

    /// Tokens that this response adds to the prompt of a request that continues it.
    pub fn context(&self, id: &str) -> Option<u64> {
        self.0
            .lock()
            .iter()
            .find(|stored_response| stored_response.id == id)
            .map(|stored_response| stored_response.context)
    }

    pub fn delete(&self, id: &str) -> Option<Bytes> {
        let mut all = self.0.lock();
        let at = all.iter().position(|stored_response| stored_response.id == id)?;
        all.remove(at)?;
        Some(json!({"id": id, "object": "response", "deleted": true}).to_string().into())
    }
}
