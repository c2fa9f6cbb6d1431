use super::*;
use crate::surface::Surface;
use crate::surface::tests::{RecordingSink, read_stream, tokens, written};

const STREAM: &[u8] = include_bytes!("../../../../../tests/golden/responses.sse");

/// The first events of the recorded stream.
fn begun(events: usize) -> Vec<u8> {
    let text = std::str::from_utf8(STREAM).unwrap();
    text.split_inclusive("\n\n").take(events).collect::<String>().into_bytes()
}

#[test]
fn the_name_is_known_with_the_first_event() {
    assert_eq!(read_stream(Surface::Responses, b"", 1).reader.id(), None);
    assert_eq!(read_stream(Surface::Responses, &begun(1), 7).reader.id(), Some("resp_68a1"));
    assert_eq!(id_of(br#"{"id":"resp_1","object":"response"}"#).as_deref(), Some("resp_1"));
    for none in ["{}", "[]", r#"{"id":7}"#, r#"{"id":null}"#] {
        assert_eq!(id_of(none.as_bytes()), None);
    }
}

#[test]
fn a_cut_is_an_incomplete_response_with_the_next_number() {
    // The ninth event, of number 8, did not pass.
    let mut read = read_stream(Surface::Responses, &begun(9), 1000);
    let cut = read.reader.length_cut(&tokens(10, 2, 3, 4));
    assert!(cut.starts_with(b"event: response.incomplete\n"));
    let [event] = &written(&cut)[..] else { panic!("one event: {cut:?}") };
    assert_eq!(
        (&event["type"], &event["sequence_number"]),
        (&json!("response.incomplete"), &json!(8))
    );
    let response = &event["response"];
    assert_eq!(response["id"], "resp_68a1");
    assert_eq!(
        (&response["model"], &response["created_at"]),
        (&json!("grok-4.3"), &json!(1_780_000_001))
    );
    assert_eq!((&response["status"], &response["store"]), (&json!("incomplete"), &json!(true)));
    assert_eq!(response["incomplete_details"], json!({"reason": "max_output_tokens"}));
    let output = json!([
        {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Greet them."}]},
        {"id": "msg_1", "type": "message", "status": "incomplete", "role": "assistant",
         "content": [{"type": "output_text", "text": "Hello", "annotations": []}]},
    ]);
    assert_eq!(response["output"], output);
    let expected = json!({
        "input_tokens": 10, "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 17,
    });
    assert_eq!(response["usage"], expected);
}

#[test]
fn an_error_takes_the_number_that_is_free() {
    let error = ErrorBody {
        message: "cut".to_owned(),
        kind: "server_error",
        param: None,
        code: Some("upstream_cut".into()),
        details: None,
    };
    let mut read = read_stream(Surface::Responses, &begun(3), 1000);
    let event = read.reader.error(&error);
    let expected = json!({
        "type": "error", "code": "upstream_cut", "message": "cut", "param": null, "sequence_number": 3,
    });
    assert_eq!(written(&event), [expected]);
    assert!(event.starts_with(b"event: error\n"));
    let mut stream = begun(3);
    stream.extend_from_slice(
        b"event: error\ndata: {\"type\":\"error\",\"code\":\"internal\",\"message\":\"no\",\"sequence_number\":3}\n\n",
    );
    let mut read = read_stream(Surface::Responses, &stream, 1000);
    assert!(matches!(read.verdicts.last(), Some(EventVerdict::ReplaceError(_))));
    assert_eq!(written(&read.reader.error(&error))[0]["sequence_number"], 3);
}

#[test]
fn a_failure_is_the_callers_to_read_unless_it_is_the_operators() {
    for (error, passes) in [
        (json!({"code": "server_error", "message": "The model failed to answer."}), true),
        (json!({"code": "invalid_prompt", "message": "The prompt is not allowed."}), true),
        (
            json!({"code": "invalid_api_key", "message": "Incorrect API key provided: xa***Zz."}),
            false,
        ),
        (
            json!({"code": "server_error", "message": "team 00000000-0000-4000-8000-000000000000"}),
            false,
        ),
        (
            json!({"code": "insufficient_quota", "message": "You have used all available credits"}),
            false,
        ),
    ] {
        let usage = json!({"input_tokens": 5, "output_tokens": 1, "total_tokens": 6});
        let response = json!({"id": "r", "status": "failed", "error": error, "usage": usage});
        let data = json!({"type": "response.failed", "sequence_number": 1, "response": response});
        let stream = format!("event: response.failed\ndata: {data}\n\n");
        let read = read_stream(Surface::Responses, stream.as_bytes(), 1000);
        assert_eq!(
            matches!(read.verdicts[..], [EventVerdict::RelayError(_)]),
            passes,
            "{error}: {:?}",
            read.verdicts
        );
        assert_eq!(read.sink.usage.unwrap().tokens.total(), 6);
    }
}

#[test]
fn a_whole_response_is_heard_item_by_item() {
    let body = json!({
        "id": "resp_1", "status": "completed", "error": null,
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "message", "content": [{"type": "output_text", "text": "Hi"}, {"type": "refusal", "refusal": "no"}]},
            {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"},
        ],
    });
    let mut sink = RecordingSink::default();
    read_reply(body.to_string().as_bytes(), &mut sink);
    let texts: Vec<_> = sink.texts.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["hm", "Hi", "no", "{}", "f"]);
    assert_eq!(sink.usage, None);
}

#[test]
fn sound_is_no_text() {
    let stream = b"data: {\"type\":\"response.audio.delta\",\"delta\":\"AAAA\"}\n\n";
    let read = read_stream(Surface::Responses, stream, 9);
    assert_eq!((read.sink.texts.len(), read.sink.media), (0, 4));
}
