//! How streams end: complete, cut by the quota, failed, broken off.

use super::{PAIRS, data, reply_translation, stream};
use crate::error::ErrorBody;
use crate::sse::Scanner;
use crate::surface::Surface;
use crate::surface::tests::RecordingSink;
use domain::charge::TokenCount;
use serde_json::{Value, json};

/// The beginning of a stream of each surface that upstreams offer: a text without its end.
pub(super) fn beginning(surface: Surface) -> &'static str {
    match surface {
        Surface::Responses => concat!(
            "data: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"model\":\"grok\"}}\n\n",
            "data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"Hel\"}\n\n",
        ),
        Surface::Messages => concat!(
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"content\":[]}}\n\n",
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hel\"}}\n\n",
        ),
        _ => {
            "data: {\"model\":\"grok\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"}}]}\n\n"
        }
    }
}

/// The endings that the gateway writes in the upstream's surface.
pub(super) fn gateway_ending(surface: Surface, is_cut: bool) -> String {
    let mut reader = surface.stream_reader(true);
    let mut scanner = Scanner::new(1 << 20);
    scanner.push(beginning(surface).as_bytes());
    while let Some(event) = scanner.next_event().unwrap() {
        reader.on_event(&event, &mut RecordingSink::default());
    }
    let tokens = TokenCount { prompt: 7, cached: 2, completion: 1, reasoning: 3 };
    let error = ErrorBody {
        message: "It broke.".to_owned(),
        kind: "server_error",
        param: None,
        code: Some("upstream_cut".into()),
        details: None,
    };
    let bytes = if is_cut { reader.length_cut(&tokens) } else { reader.error(&error) };
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn last(stream: &str) -> Value {
    data(stream).pop().unwrap()
}

#[test]
fn a_cut_by_the_quota_is_a_token_limit_with_usage() {
    for (from, to) in PAIRS {
        let upstream = beginning(to).to_owned() + &gateway_ending(to, true);
        let stream = stream(reply_translation(from, to), &upstream, 7);
        let events = data(&stream);
        let find = |kind: &str| events.iter().find(|event| event["type"] == kind).unwrap();
        match from {
            Surface::Messages => {
                assert_eq!(find("message_delta")["delta"]["stop_reason"], "max_tokens");
                assert_eq!(
                    find("message_delta")["usage"],
                    json!({"input_tokens": 5, "cache_read_input_tokens": 2,
                        "cache_creation_input_tokens": 0, "output_tokens": 4})
                );
                assert_eq!(last(&stream)["type"], "message_stop");
            }
            Surface::Responses => {
                let response = &find("response.incomplete")["response"];
                assert_eq!(response["incomplete_details"]["reason"], "max_output_tokens");
                assert_eq!(response["usage"]["output_tokens"], 4);
                assert_eq!(response["output"][0]["content"][0]["text"], "Hel");
                assert_eq!(response["output"][0]["status"], "incomplete");
            }
            _ => {
                assert!(stream.contains("\"finish_reason\":\"length\""));
                assert!(stream.contains("\"total_tokens\":11"), "{stream}");
                assert_eq!(last(&stream), "[DONE]");
            }
        }
    }
}

fn assert_failed(from: Surface, stream: &str, message: &str) {
    let last = last(stream);
    let error = match from {
        Surface::Responses => {
            assert_eq!(last["type"], "response.failed");
            &last["response"]["error"]
        }
        Surface::Messages => {
            assert_eq!(last["type"], "error");
            &last["error"]
        }
        _ => &last["error"],
    };
    assert!(error["message"].as_str().unwrap().contains(message), "{last}");
}

#[test]
fn an_error_of_the_gateway_is_an_error_in_the_callers_shape() {
    for (from, to) in PAIRS {
        let upstream = beginning(to).to_owned() + &gateway_ending(to, false);
        assert_failed(from, &stream(reply_translation(from, to), &upstream, 64), "It broke.");
    }
}

#[test]
fn a_stream_that_breaks_off_never_looks_complete() {
    for (from, to) in PAIRS {
        let stream = stream(reply_translation(from, to), beginning(to), 64);
        assert_failed(from, &stream, "the upstream ended the stream early");
        assert!(!stream.contains("[DONE]") && !stream.contains("message_stop"));
    }
}

#[test]
fn a_complete_stream_gets_the_end_marker_that_it_lacks() {
    let upstream = beginning(Surface::ChatCompletions).to_owned()
        + "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
        + "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1,\"total_tokens\":4}}";
    let of = |from| stream(reply_translation(from, Surface::ChatCompletions), &upstream, 5);
    let response = &last(&of(Surface::Responses))["response"];
    assert_eq!(response["status"], "completed");
    assert_eq!(response["usage"]["total_tokens"], 4);
    assert_eq!(last(&of(Surface::Messages))["type"], "message_stop");
}

#[test]
fn nothing_follows_the_end() {
    for (from, to) in PAIRS {
        let ending = gateway_ending(to, true);
        let upstream = beginning(to).to_owned() + &ending;
        let once = stream(reply_translation(from, to), &upstream, 64);
        let more = upstream.clone() + beginning(to) + &ending;
        assert_eq!(stream(reply_translation(from, to), &more, 64), once);
    }
}

#[test]
fn comments_pass() {
    for (from, to) in PAIRS {
        let upstream = ": processing\n\n".to_owned() + beginning(to);
        let stream = stream(reply_translation(from, to), &upstream, 3);
        assert!(stream.starts_with(": keep-alive\n\n"), "{stream}");
    }
}

#[test]
fn a_response_that_fails_at_once_is_created_first() {
    let stream =
        stream(reply_translation(Surface::Responses, Surface::ChatCompletions), GATEWAY_ERROR, 9);
    let kinds: Vec<_> = data(&stream).iter().map(|event| event["type"].clone()).collect();
    assert_eq!(kinds, ["response.created", "response.in_progress", "response.failed"]);
}

const GATEWAY_ERROR: &str =
    "data: {\"error\":{\"message\":\"It broke.\",\"type\":\"server_error\"}}\n\n";

#[test]
fn a_stop_of_chat_is_found_in_a_response() {
    let request = json!({"model": "m", "stream": true, "stop": ["</b>"], "messages": [{"role": "user", "content": "Hi"}]});
    let translated =
        super::translate(Surface::ChatCompletions, Surface::Responses, &request).unwrap();
    let delta = json!({"type": "response.output_text.delta", "output_index": 0, "delta": "yes</b>and more"});
    let completed = json!({"type": "response.completed", "response": {"output": []}});
    let stream = stream(translated.reply, &format!("data: {delta}\n\ndata: {completed}\n\n"), 11);
    let chunks = data(&stream);
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, "yes", "{stream}");
    assert!(stream.contains("\"finish_reason\":\"stop\""), "{stream}");
}

#[test]
fn stop_sequences_end_the_answer_where_the_upstream_takes_none() {
    let request = json!({
        "model": "m", "max_tokens": 9, "stream": true, "stop_sequences": ["</b>"],
        "messages": [{"role": "user", "content": "Hi"}],
    });
    let translated = super::translate(Surface::Messages, Surface::Responses, &request).unwrap();
    let delta = |text: &str| {
        let delta = json!({"type": "response.output_text.delta", "output_index": 0, "delta": text});
        format!("data: {delta}\n\n")
    };
    let completed = json!({"type": "response.completed", "response": {"output": []}});
    let upstream =
        delta("yes<") + &delta("/b>and") + &delta(" more") + &format!("data: {completed}\n\n");
    let stream = stream(translated.reply, &upstream, 11);
    let events = data(&stream);
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, "yes");
    let delta = events.iter().find(|event| event["type"] == "message_delta").unwrap();
    assert_eq!(delta["delta"], json!({"stop_reason": "stop_sequence", "stop_sequence": "</b>"}));
}

/// All of it was held back as the possible beginning of a sequence.
#[test]
fn an_answer_that_begins_like_a_stop_sequence_is_shown() {
    let body = br#"{"model":"m","max_tokens":9,"stop_sequences":["AB"],"messages":[{"role":"user","content":"hi"}],"stream":true}"#;
    let options = crate::translation::TranslationOptions::default();
    let translated = crate::translation::Translation::of_request(
        Surface::Messages,
        Surface::Responses,
        body,
        &options,
    );
    let upstream = concat!(
        "data: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"delta\":\"A\"}\n\n",
        "data: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"status\":\"completed\",\"output\":[]}}\n\n",
    );
    let stream = stream(translated.unwrap().reply, upstream, 7);
    let texts = data(&stream)
        .into_iter()
        .filter_map(|event| event["delta"]["text"].as_str().map(str::to_owned));
    assert_eq!(texts.collect::<String>(), "A", "{stream}");
}

#[test]
fn calls_that_run_at_the_same_time_stay_apart() {
    let call = |index: u64, id: Option<&str>, arguments: &str| {
        let name = id.map(|_| "f");
        let call =
            json!({"index": index, "id": id, "function": {"name": name, "arguments": arguments}});
        format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}))
    };
    let upstream = call(0, Some("a"), "{\"x\":")
        + &call(1, Some("b"), "{")
        + &call(0, None, "1}")
        + &call(1, None, "}")
        + &call(2, Some("c"), "")
        + "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let stream = stream(
        reply_translation(Surface::Responses, Surface::ChatCompletions),
        &upstream,
        usize::MAX,
    );
    let response = &last(&stream)["response"];
    let arguments: Vec<_> =
        response["output"].as_array().unwrap().iter().map(|item| &item["arguments"]).collect();
    assert_eq!(arguments, ["{\"x\":1}", "{}", "{}"]);
}
