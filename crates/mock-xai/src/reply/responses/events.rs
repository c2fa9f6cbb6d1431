//! An [`Answer`] as the events of a stream of `/v1/responses`.

use super::{call, message, object, reasoning, summary_part, text_part};
use crate::answer::{Answer, FinishReason};
use crate::pacing::{Emitted, EventSource};
use crate::reply::chat::Envelope;
use crate::words::{Words, escaped};
use serde_json::{Value, json};
use std::collections::VecDeque;

/// The answer as events: some that are ready, and words, each of which becomes one.
#[derive(Debug)]
pub struct ResponsesEvents {
    parts: VecDeque<Part>,
    number: u64,
}

#[derive(Debug)]
enum Part {
    /// An event with the tokens that go with it.
    Event(Value, u64),
    Words(WordEvents),
}

/// The words of a text or of a summary, each the delta of an event.
#[derive(Debug)]
struct WordEvents {
    words: Words,
    left: u64,
    /// Tokens of the output in a word; none in reasoning, which is counted apart.
    tokens: u64,
    kind: &'static str,
    /// The members of the event around its number and its word.
    members: String,
}

impl ResponsesEvents {
    pub fn new(answer: &Answer, envelope: &Envelope) -> Self {
        let mut own = Self { parts: VecDeque::new(), number: 0 };
        let start = object(answer, envelope, false);
        own.add(json!({"type": "response.created", "response": start}));
        own.add(json!({"type": "response.in_progress", "response": start}));
        own.add_reasoning(answer, envelope);
        let place = u64::from(answer.has_reasoned);
        match call(answer, envelope) {
            Some(call) => own.add_call(answer, &call, place),
            None => own.add_message(answer, envelope, place),
        }
        let last = if answer.finish == FinishReason::Length {
            "response.incomplete"
        } else {
            "response.completed"
        };
        own.add(json!({"type": last, "response": object(answer, envelope, true)}));
        own
    }

    fn add(&mut self, event: Value) {
        self.parts.push_back(Part::Event(event, 0));
    }

    fn add_item(&mut self, kind: &str, place: u64, item: &Value) {
        self.add(json!({"type": kind, "output_index": place, "item": item}));
    }

    fn add_reasoning(&mut self, answer: &Answer, envelope: &Envelope) {
        let begun = reasoning(answer, envelope, false);
        let Some((begun, whole)) = begun.zip(reasoning(answer, envelope, true)) else { return };
        let id = &begun["id"];
        self.add_item("response.output_item.added", 0, &begun);
        if answer.shown_reasoning > 0 {
            let text = answer.reasoning_text();
            let at = json!({"item_id": id, "output_index": 0, "summary_index": 0});
            let part = |kind: &str, text: &str| {
                merge(&at, &json!({"type": kind, "part": summary_part(text)}))
            };
            self.add(part("response.reasoning_summary_part.added", ""));
            self.parts.push_back(Part::Words(WordEvents {
                words: answer.reasoning_words(),
                left: answer.shown_reasoning,
                tokens: 0,
                kind: "response.reasoning_summary_text.delta",
                members: format!(r#""item_id":{id},"output_index":0,"summary_index":0"#),
            }));
            let done = json!({"type": "response.reasoning_summary_text.done", "text": text});
            self.add(merge(&at, &done));
            self.add(part("response.reasoning_summary_part.done", &text));
        }
        self.add_item("response.output_item.done", 0, &whole);
    }

    fn add_message(&mut self, answer: &Answer, envelope: &Envelope, place: u64) {
        let text = answer.text_of(0);
        let begun = message("", envelope, "in_progress");
        let id = &begun["id"];
        let at = json!({"item_id": id, "output_index": place, "content_index": 0});
        let part =
            |kind: &str, text: &str| merge(&at, &json!({"type": kind, "part": text_part(text)}));
        self.add_item("response.output_item.added", place, &begun);
        self.add(part("response.content_part.added", ""));
        if answer.words > 0 {
            self.parts.push_back(Part::Words(WordEvents {
                words: answer.words_of(0),
                left: answer.words,
                tokens: 1,
                kind: "response.output_text.delta",
                members: format!(
                    r#""item_id":{id},"output_index":{place},"content_index":0,"logprobs":[]"#
                ),
            }));
        }
        let done = json!({"type": "response.output_text.done", "text": text, "logprobs": []});
        self.add(merge(&at, &done));
        self.add(part("response.content_part.done", &text));
        self.add_item("response.output_item.done", place, &message(&text, envelope, "completed"));
    }

    /// xAI sends a call's arguments in one piece; all tokens of the call go with its first event.
    fn add_call(&mut self, answer: &Answer, call: &Value, place: u64) {
        let (id, arguments) = (&call["id"], &call["arguments"]);
        let mut begun = call.clone();
        begun["arguments"] = "".into();
        begun["status"] = "in_progress".into();
        let tokens = answer.call.as_ref().map_or(0, |call| call.tokens);
        let added =
            json!({"type": "response.output_item.added", "output_index": place, "item": begun});
        self.parts.push_back(Part::Event(added, tokens));
        let at = json!({"item_id": id, "output_index": place});
        let delta = json!({"type": "response.function_call_arguments.delta", "delta": arguments});
        let done = json!({"type": "response.function_call_arguments.done", "arguments": arguments, "name": call["name"]});
        self.add(merge(&at, &delta));
        self.add(merge(&at, &done));
        self.add_item("response.output_item.done", place, call);
    }
}

impl WordEvents {
    fn write(&mut self, number: u64, out: &mut Vec<u8>) {
        let word = self.words.next().unwrap_or_default();
        let (word, Self { kind, members, .. }) = (escaped(&word), &*self);
        let event = format!(
            "event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{number},{members},\"delta\":\"{word}\"}}\n\n"
        );
        out.extend_from_slice(event.as_bytes());
        self.left -= 1;
    }
}

impl EventSource for ResponsesEvents {
    fn token_is_next(&self) -> bool {
        match self.parts.front() {
            Some(Part::Words(_)) => true,
            Some(Part::Event(_, tokens)) => *tokens > 0,
            None => false,
        }
    }

    fn next(&mut self, out: &mut Vec<u8>) -> Emitted {
        let number = self.number;
        self.number += 1;
        let (tokens, is_done) = match self.parts.front_mut() {
            Some(Part::Words(words)) => {
                words.write(number, out);
                (words.tokens, words.left == 0)
            }
            Some(Part::Event(event, tokens)) => {
                event["sequence_number"] = number.into();
                let kind = event["type"].as_str().unwrap_or_default();
                out.extend_from_slice(format!("event: {kind}\ndata: {event}\n\n").as_bytes());
                (*tokens, true)
            }
            None => (0, true),
        };
        if is_done {
            self.parts.pop_front();
        }
        Emitted { tokens }
    }

    fn is_over(&self) -> bool {
        self.parts.is_empty()
    }

    fn error(&self) -> String {
        let number = self.number;
        format!(
            "event: error\ndata: {{\"type\":\"error\",\"code\":\"internal\",\"message\":\"An internal error occurred.\",\
             \"param\":null,\"sequence_number\":{number}}}\n\n"
        )
    }
}

fn merge(left: &Value, right: &Value) -> Value {
    let members = [left, right].into_iter().filter_map(Value::as_object).flatten();
    Value::Object(members.map(|(name, value)| (name.clone(), value.clone())).collect())
}
