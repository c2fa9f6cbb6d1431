use super::*;
use crate::settings::{Overrides, Settings};
use crate::{model, request};
use http::HeaderMap;
use serde_json::Value;

fn envelope() -> Envelope {
    Envelope { id: "id-1".to_owned(), created: 7, completed: 8 }
}

fn answer(members: &str, text: &str) -> (Answer, Faults) {
    let body = format!(
        r#"{{"model":"grok-4.3","messages":[{{"role":"user","content":"{text}"}}]{members}}}"#
    );
    let request = request::chat::read(body.as_bytes()).expect("a good body");
    let settings = Settings::default();
    let overrides =
        Overrides::new(&settings, Faults::default(), &HeaderMap::new(), &request.last_user_text);
    let overrides = overrides.expect("good words");
    let models = model::all(&[]);
    let model = model::find(&models, &request.model).expect("a model");
    (Answer::new(&request, model, &overrides, 0, 0), overrides.faults)
}

/// The events as JSON, without `[DONE]`, and the tokens they count.
fn said(members: &str, text: &str, include_usage: bool) -> (Vec<Value>, u64) {
    let (answer, faults) = answer(members, text);
    let mut events = ChatEvents::new(answer, &envelope(), include_usage, &faults);
    let (mut bytes, mut tokens) = (Vec::new(), 0);
    while !events.is_over() {
        tokens += events.next(&mut bytes).tokens;
    }
    let text = String::from_utf8(bytes).expect("text");
    let text = text.strip_suffix("data: [DONE]\n\n").expect("an end");
    let data =
        text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").expect("data"));
    (data.map(|json| serde_json::from_str(json).expect("json")).collect(), tokens)
}

fn content(events: &[Value], choice: u64) -> String {
    let own = events.iter().filter(|event| event["choices"][0]["index"] == choice);
    own.filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

#[test]
fn a_stream_and_a_body_say_the_same() {
    let (events, tokens) = said("", "hello", true);
    let (answer, _) = answer("", "hello");
    let body: Value = serde_json::from_str(&completion(&answer, &envelope())).expect("json");
    assert_eq!(body["choices"][0]["message"]["content"], content(&events, 0));
    assert_eq!(body["usage"], events.last().expect("usage")["usage"]);
    assert_eq!((tokens, &body["usage"]["completion_tokens"]), (24, &Value::from(24)));
}

#[test]
fn usage_comes_once_at_the_end_and_only_when_asked() {
    let (events, _) = said("", "hello", true);
    let with: Vec<_> = events.iter().filter(|event| event.get("usage").is_some()).collect();
    assert_eq!(with.len(), 1);
    assert_eq!(with[0]["choices"], Value::from(Vec::<Value>::new()));
    let (events, _) = said("", "hello", false);
    assert_eq!(events.iter().filter(|event| event.get("usage").is_some()).count(), 0);
    assert_eq!(events.last().expect("an event")["choices"][0]["finish_reason"], "stop");
}

#[test]
fn usage_can_come_twice_or_on_every_chunk() {
    let (events, _) = said("", "[sim fault=usage-twice]", true);
    assert_eq!(events.iter().filter(|event| event.get("usage").is_some()).count(), 2);
    let (events, _) = said("", "[sim fault=usage-every-chunk]", true);
    let running: Vec<_> =
        events.iter().filter_map(|e| e["usage"]["completion_tokens"].as_u64()).collect();
    assert_eq!(running.len(), events.len());
    assert_eq!(running[..3], [1, 2, 3]);
    assert_eq!(running.last(), Some(&24));
}

#[test]
fn choices_take_turns() {
    let (events, tokens) = said(r#","n":2"#, "hello", false);
    assert_eq!(tokens, 48);
    assert_eq!(events[0]["choices"][0]["index"], 0);
    assert_eq!(events[1]["choices"][0]["index"], 1);
    assert_ne!(content(&events, 0), content(&events, 1));
    let finished = events.iter().filter(|e| e["choices"][0]["finish_reason"] == "stop").count();
    assert_eq!(finished, 2);
}

#[test]
fn a_tool_call_is_one_chunk() {
    let tools = r#","tools":[{"type":"function","function":{"name":"weather","parameters":{"properties":{"city":{"type":"string"}}}}}]"#;
    let (events, tokens) = said(tools, "use a tool", false);
    let call = &events[0]["choices"][0]["delta"]["tool_calls"][0];
    assert_eq!(call["index"], 0);
    assert_eq!(call["function"]["arguments"], r#"{"city":"Paris"}"#);
    assert_eq!(events[1]["choices"][0]["finish_reason"], "tool_calls");
    let (answer, _) = answer(tools, "use a tool");
    assert_eq!(tokens, answer.billed_usage.completion);
}

#[test]
fn reasoning_is_shown_when_asked_for() {
    let members = r#","reasoning_effort":"low""#;
    let (mut answer, faults) = answer(members, "hello");
    answer.shown_reasoning = 4;
    let mut events = ChatEvents::new(answer, &envelope(), false, &faults);
    let mut bytes = Vec::new();
    let tokens: u64 = (0..5).map(|_| events.next(&mut bytes).tokens).sum();
    assert_eq!(tokens, 1);
    assert_eq!(String::from_utf8(bytes).expect("text").matches("reasoning_content").count(), 4);
}

#[test]
fn an_answer_of_no_tokens_is_still_an_answer() {
    let (events, tokens) = said(r#","max_tokens":0"#, "hello", false);
    assert_eq!((events.len(), tokens), (2, 0));
    assert_eq!(events[1]["choices"][0]["finish_reason"], "length");
}
