//! An [`Answer`] in the format of `/v1/responses`: one JSON body, or a row of events.

mod events;

pub use events::ResponsesEvents;

use crate::answer::{Answer, FinishReason};
use crate::reply::chat::Envelope;
use serde_json::{Value, json};

/// The whole response as one JSON object.
pub fn response(answer: &Answer, envelope: &Envelope) -> String {
    object(answer, envelope, true).to_string()
}

/// The response in its state while it is generated.
pub fn in_progress(answer: &Answer, envelope: &Envelope) -> String {
    object(answer, envelope, false).to_string()
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
    let mut object = (*answer.echo).clone();
    let members = [
        ("id", envelope.id.as_str().into()),
        ("object", "response".into()),
        ("created_at", envelope.created.into()),
        ("completed_at", finished.then_some(envelope.completed).into()),
        ("model", answer.model.as_str().into()),
        ("status", status.into()),
        ("output", if finished { output(answer, envelope) } else { json!([]) }),
        ("usage", usage.into()),
        (
            "incomplete_details",
            (finished && cut).then(|| json!({"reason": "max_output_tokens"})).into(),
        ),
        ("error", Value::Null),
    ];
    object.extend(members.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(object)
}

fn output(answer: &Answer, envelope: &Envelope) -> Value {
    let mut items: Vec<_> = reasoning(answer, envelope, true).into_iter().collect();
    items.push(match call(answer, envelope) {
        Some(call) => call,
        None => message(&answer.text_of(0), envelope, "completed"),
    });
    Value::from(items)
}

/// The item of the reasoning; its summary is empty where the reasoning is hidden.
fn reasoning(answer: &Answer, envelope: &Envelope, finished: bool) -> Option<Value> {
    if !answer.has_reasoned {
        return None;
    }
    let status = if finished { "completed" } else { "in_progress" };
    let is_shown = finished && answer.shown_reasoning > 0;
    let summary =
        if is_shown { json!([summary_part(&answer.reasoning_text())]) } else { json!([]) };
    let id = format!("rs_{}", envelope.id);
    let mut item = json!({"id": id, "type": "reasoning", "summary": summary, "status": status});
    if let Some(sealed) = answer.sealed.as_ref().filter(|_| finished) {
        item["encrypted_content"] = sealed.as_str().into();
    }
    Some(item)
}

fn summary_part(text: &str) -> Value {
    json!({"type": "summary_text", "text": text})
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
        "call_id": envelope.call_id(0), "name": function.name, "arguments": function.arguments,
    }))
}
