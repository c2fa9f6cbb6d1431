use super::*;
use crate::surface::Surface;
use crate::surface::tests::{RecordingSink, read_stream, tokens, written};

const STREAM: &[u8] = include_bytes!("../../../../../tests/golden/messages.sse");

fn begun(events: usize) -> Vec<u8> {
    let text = std::str::from_utf8(STREAM).unwrap();
    text.split_inclusive("\n\n").take(events).collect::<String>().into_bytes()
}

#[test]
fn usage_comes_in_two_halves() {
    let usage = read_stream(Surface::Messages, &begun(9), 7).sink.usage.unwrap();
    assert_eq!(usage.tokens, tokens(207, 192, 0, 0), "what the output begins with is no count");
    let usage = read_stream(Surface::Messages, &begun(10), 7).sink.usage.unwrap();
    assert_eq!(usage.tokens, tokens(207, 192, 40, 0));
}

#[test]
fn a_cut_closes_what_is_open_and_nothing_else() {
    // How many events have come, and the block that has to be closed; the last one did not pass.
    for (events, open) in [(1, None), (2, None), (3, Some(0)), (4, None), (6, None), (7, Some(1))] {
        let mut read = read_stream(Surface::Messages, &begun(events), 1000);
        let cut = written(&read.reader.length_cut(&tokens(9, 4, 3, 0)));
        let stops: Vec<_> = cut.iter().filter(|e| e["type"] == "content_block_stop").collect();
        assert_eq!(stops.first().map(|event| event["index"].as_u64().unwrap()), open, "{events}");
        let [.., delta, stop] = &cut[..] else { panic!("{cut:?}") };
        assert_eq!(delta["delta"]["stop_reason"], "max_tokens");
        assert_eq!(
            (&delta["usage"]["input_tokens"], &delta["usage"]["output_tokens"]),
            (&json!(5), &json!(3))
        );
        assert_eq!(*stop, json!({"type": "message_stop"}));
    }
}

#[test]
fn errors_are_in_anthropics_shape() {
    let told = ErrorBody {
        message: "No.".to_owned(),
        kind: "invalid_request_error",
        param: Some("model".to_owned()),
        code: Some("model_not_found".into()),
        details: None,
    };
    for (status, kind) in [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
    ] {
        let body: serde_json::Value = serde_json::from_str(&error(status, &told)).unwrap();
        assert_eq!(body, json!({"type": "error", "error": {"type": kind, "message": "No."}}));
    }
    let event = b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let verdicts = read_stream(Surface::Messages, event, 1000).verdicts;
    let [EventVerdict::ReplaceError(error)] = &verdicts[..] else { panic!("{verdicts:?}") };
    assert!(error.clone().in_stream().message.ends_with("Overloaded"));
}

#[test]
fn a_whole_message_is_heard_block_by_block() {
    let body = json!({
        "type": "message",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "Hi"},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        ],
        "usage": {"input_tokens": 3, "cache_read_input_tokens": null, "output_tokens": 12, "cost_in_usd_ticks": 5},
    });
    let mut sink = RecordingSink::default();
    read_reply(body.to_string().as_bytes(), &mut sink);
    let texts: Vec<_> = sink.texts.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["hm", "Hi", "{\"a\":1}", "f"]);
    let usage = sink.usage.unwrap();
    assert_eq!((usage.tokens, usage.cost_ticks), (tokens(3, 0, 12, 0), Some(5)));
}
