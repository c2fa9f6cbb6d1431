use super::*;
use crate::openai::sse::Scanner;

fn chunk(json: &str) -> Chunk<'_> {
    Chunk::parse(json.as_bytes()).unwrap()
}

fn texts(json: &str) -> Vec<(Kind, String)> {
    let mut texts = Vec::new();
    for choice in chunk(json).choices() {
        choice.each_text(&mut |kind, raw| texts.push((kind, json::text(raw).into_owned())));
    }
    texts
}

/// The data of every event of a recorded stream.
fn events(stream: &[u8]) -> Vec<Bytes> {
    let mut scanner = Scanner::new(1 << 20);
    scanner.push(stream);
    let events = std::iter::from_fn(|| scanner.next_event().unwrap());
    events.filter_map(|event| event.data).collect()
}

/// The JSON of every event, without the end marker.
fn json_of(events: &[Bytes]) -> Vec<serde_json::Value> {
    events.iter().map(|data| serde_json::from_slice(data).unwrap()).collect()
}

#[test]
fn reads_the_output_of_each_kind() {
    for (delta, expected) in [
        (r#"{"content":"Hi"}"#, vec![(Kind::Content, "Hi")]),
        (r#"{"role":"assistant","content":"","refusal":null}"#, vec![]),
        (r#"{"reasoning_content":"hm","content":null}"#, vec![(Kind::Reasoning, "hm")]),
        (r#"{"reasoning":"hm","reasoning_content":"hm"}"#, vec![(Kind::Reasoning, "hm")]),
        (r#"{"refusal":"no\n"}"#, vec![(Kind::Refusal, "no\n")]),
        (
            r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"}},
            {"index":1,"function":{"arguments":"1"}}]}"#,
            vec![(Kind::ToolName, "f"), (Kind::ToolArguments, "{}"), (Kind::ToolArguments, "1")],
        ),
        (r#"{"function_call":{"name":"g"},"tool_calls":null}"#, vec![(Kind::ToolName, "g")]),
        ("null", vec![]),
    ] {
        let json = format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#);
        let expected: Vec<_> =
            expected.into_iter().map(|(kind, text)| (kind, text.to_owned())).collect();
        assert_eq!(texts(&json), expected, "{delta}");
    }
    assert_eq!(
        texts(r#"{"choices":[{"index":0,"text":"old"}]}"#),
        [(Kind::Content, "old".to_owned())]
    );
}

#[test]
fn knows_the_usage_chunk() {
    const USAGE: &str = r#""usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}"#;
    for (json, usage_only) in [
        (format!(r#"{{"choices":[],{USAGE}}}"#), true),
        (format!(r#"{{"choices":[{{"index":0,"delta":{{}}}}],{USAGE}}}"#), false),
        (r#"{"choices":[],"usage":null}"#.to_owned(), false),
        (r#"{"choices":[]}"#.to_owned(), false),
        (format!("{{{USAGE}}}"), false),
    ] {
        assert_eq!(chunk(&json).is_usage_only(), usage_only, "{json}");
        assert_eq!(chunk(&json).usage.is_some(), json.contains("prompt_tokens"));
    }
}

#[test]
fn an_empty_finish_reason_is_none() {
    for (reason, expected) in
        [("null", None), (r#""""#, None), (r#""stop""#, Some("stop")), ("7", None)]
    {
        let json = format!(r#"{{"choices":[{{"index":0,"finish_reason":{reason}}}]}}"#);
        assert_eq!(chunk(&json).choices()[0].finish().as_deref(), expected);
    }
}

#[test]
fn garbage_is_not_understood() {
    for data in [
        "[DONE]",
        "",
        "null!",
        "[]",
        "[1,2,3]",
        "{",
        "7",
        r#"{"choices":7}"#,
        r#"{"choices":[{"index":"a"}]}"#,
        r#"{"choices":[{"index":0,"delta":7}]}"#,
    ] {
        assert!(Chunk::parse(data.as_bytes()).is_none(), "{data}");
    }
    assert!(Chunk::parse(&b"[".repeat(100_000)).is_none());
}

#[test]
fn an_error_in_the_stream_is_translated() {
    for (data, code) in [
        (r#"{"error":{"message":"boom","type":"server_error"}}"#, "upstream_error"),
        (r#"{"code":"resource-exhausted","error":"too fast"}"#, "rate_limit_exceeded"),
        (r#"{"error":"The service is currently unavailable"}"#, "upstream_unavailable"),
    ] {
        assert_eq!(chunk(data).error.unwrap().body.code.unwrap(), code, "{data}");
    }
    assert_eq!(chunk(r#"{"choices":[],"error":null}"#).error, None);
}

#[test]
fn a_recorded_stream_is_seen_and_cut() {
    let events_of_stream = events(include_bytes!("../../../tests/golden/stream.sse"));
    let mut seen = Seen::default();
    for data in &events_of_stream[..3] {
        seen.note(&Chunk::parse(data).unwrap());
    }
    assert!(!seen.is_finished());
    let tokens = TokenCount { prompt: 9, cached: 2, completion: 5, reasoning: 6 };
    let cut = json_of(&events(&length_cut(&seen, Some(&tokens))));
    assert_eq!(cut.len(), 2);
    let first: serde_json::Value = serde_json::from_slice(&events_of_stream[0]).unwrap();
    for event in &cut {
        for name in ["id", "object", "created", "model"] {
            assert_eq!(event[name], first[name]);
        }
    }
    assert_eq!(cut[0]["choices"][0]["finish_reason"], "length");
    assert_eq!(cut[0]["choices"][0]["delta"], serde_json::json!({}));
    assert_eq!(cut[1]["choices"], serde_json::json!([]));
    let usage = Usage::parse(cut[1]["usage"].to_string().as_bytes()).unwrap();
    assert_eq!(usage.tokens, tokens);

    for data in events_of_stream.iter().filter(|data| &data[..] != b"[DONE]") {
        seen.note(&Chunk::parse(data).unwrap());
    }
    assert!(seen.is_finished());
    assert!(length_cut(&seen, None).is_empty());
}

#[test]
fn every_running_choice_is_cut() {
    let mut seen = Seen::default();
    for json in [
        r#"{"id":"a","choices":[{"index":0,"delta":{}},{"index":2,"delta":{}}]}"#,
        r#"{"id":"b","choices":[{"index":1,"finish_reason":"stop"}]}"#,
        r#"{"id":"b","choices":[{"index":2,"finish_reason":"stop"}]}"#,
        r#"{"id":"b","choices":[{"index":5,"finish_reason":null}]}"#,
    ] {
        seen.note(&chunk(json));
    }
    let cut = json_of(&events(&length_cut(&seen, None)));
    let indexes: Vec<_> = cut.iter().map(|event| &event["choices"][0]["index"]).collect();
    assert_eq!(indexes, [0, 5]);
    assert_eq!(cut[0]["id"], "a");
}

#[test]
fn a_cut_before_the_first_chunk_is_still_valid() {
    let hostile = format!(r#"{{"id":"{}","created":[{}1],"model":null}}"#, "x".repeat(300), "\n");
    let mut seen = Seen::default();
    for json in ["{}", &hostile] {
        seen.note(&chunk(json));
        let cut = json_of(&events(&length_cut(&seen, None)));
        assert_eq!(cut[0]["choices"][0]["index"], 0);
    }
}

#[test]
fn an_error_event_is_one_line() {
    let body = ErrorBody {
        message: "two\nlines \"quoted\"".to_owned(),
        kind: "server_error",
        param: None,
        code: Some("upstream_cut".into()),
    };
    let event = error_event(&body);
    assert_eq!(
        &event[..],
        b"data: {\"error\":{\"message\":\"two\\nlines \\\"quoted\\\"\",\"type\":\"server_error\",\
          \"param\":null,\"code\":\"upstream_cut\"}}\n\n"
    );
}
