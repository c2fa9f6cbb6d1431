use super::*;
use crate::sse::Scanner;
use crate::usage::Usage;

fn chunk(json: &str) -> Chunk<'_> {
    Chunk::parse(json.as_bytes()).unwrap()
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
fn a_recorded_stream_is_seen_and_cut() {
    let events_of_stream = events(include_bytes!("../../../../tests/golden/stream.sse"));
    let mut summary = StreamSummary::default();
    for data in &events_of_stream[..3] {
        summary.observe(&Chunk::parse(data).unwrap());
    }
    assert!(!summary.is_finished());
    let tokens = TokenCount { prompt: 9, cached: 2, completion: 5, reasoning: 6 };
    let cut = json_of(&events(&length_cut(&summary, Some(&tokens))));
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
        summary.observe(&Chunk::parse(data).unwrap());
    }
    assert!(summary.is_finished());
    assert!(length_cut(&summary, None).is_empty());
}

#[test]
fn every_running_choice_is_cut() {
    let mut summary = StreamSummary::default();
    for json in [
        r#"{"id":"a","choices":[{"index":0,"delta":{}},{"index":2,"delta":{}}]}"#,
        r#"{"id":"b","choices":[{"index":1,"finish_reason":"stop"}]}"#,
        r#"{"id":"b","choices":[{"index":2,"finish_reason":"stop"}]}"#,
        r#"{"id":"b","choices":[{"index":5,"finish_reason":null}]}"#,
    ] {
        summary.observe(&chunk(json));
    }
    let cut = json_of(&events(&length_cut(&summary, None)));
    let indexes: Vec<_> = cut.iter().map(|event| &event["choices"][0]["index"]).collect();
    assert_eq!(indexes, [0, 5]);
    assert_eq!(cut[0]["id"], "a");
}

#[test]
fn a_cut_before_the_first_chunk_is_still_valid() {
    let hostile = format!(r#"{{"id":"{}","created":[{}1],"model":null}}"#, "x".repeat(300), "\n");
    let mut summary = StreamSummary::default();
    for json in ["{}", &hostile] {
        summary.observe(&chunk(json));
        let cut = json_of(&events(&length_cut(&summary, None)));
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
        details: None,
    };
    let event = error_event(&body);
    assert_eq!(
        &event[..],
        b"data: {\"error\":{\"message\":\"two\\nlines \\\"quoted\\\"\",\"type\":\"server_error\",\
          \"param\":null,\"code\":\"upstream_cut\"}}\n\n"
    );
}
