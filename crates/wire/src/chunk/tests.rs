use super::*;

fn chunk(json: &str) -> Chunk<'_> {
    Chunk::parse(json.as_bytes()).unwrap()
}

fn texts(json: &str) -> Vec<(OutputKind, String)> {
    let mut texts = Vec::new();
    for choice in chunk(json).choices() {
        choice.each_piece(&mut |piece| match piece {
            OutputPiece::Text(kind, json) => texts.push((kind, json::text_in(json).into_owned())),
            other => panic!("{other:?}"),
        });
    }
    texts
}

#[test]
fn reads_the_output_of_each_kind() {
    for (delta, expected) in [
        (r#"{"content":"Hi"}"#, vec![(OutputKind::Content, "Hi")]),
        (r#"{"role":"assistant","content":"","refusal":null}"#, vec![]),
        (r#"{"reasoning_content":"hm","content":null}"#, vec![(OutputKind::Reasoning, "hm")]),
        (r#"{"reasoning":"hm","reasoning_content":"hm"}"#, vec![(OutputKind::Reasoning, "hm")]),
        (r#"{"refusal":"no\n"}"#, vec![(OutputKind::Refusal, "no\n")]),
        (
            r#"{"tool_calls":[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"}},
            {"index":1,"function":{"arguments":"1"}}]}"#,
            vec![
                (OutputKind::ToolName, "f"),
                (OutputKind::ToolArguments, "{}"),
                (OutputKind::ToolArguments, "1"),
            ],
        ),
        (r#"{"function_call":{"name":"g"},"tool_calls":null}"#, vec![(OutputKind::ToolName, "g")]),
        ("null", vec![]),
    ] {
        let json = format!(r#"{{"choices":[{{"index":0,"delta":{delta}}}]}}"#);
        let expected: Vec<_> =
            expected.into_iter().map(|(kind, text)| (kind, text.to_owned())).collect();
        assert_eq!(texts(&json), expected, "{delta}");
    }
    assert_eq!(
        texts(r#"{"choices":[{"index":0,"text":"old"}]}"#),
        [(OutputKind::Content, "old".to_owned())]
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
