//! Replies of the other surfaces.

use super::*;

pub(super) fn responses() -> Vec<Case> {
    let usage = r#"{"input_tokens":700,"output_tokens":300,"total_tokens":1000}"#;
    let item = |text: &str| {
        format!(
            r#"{{"type":"message","type":"message","content":[{{"type":"output_text","text":"{text}"}}]}}"#
        )
    };
    let whole = |text: &str, usage: &str| {
        json(
            200,
            &format!(
                r#"{{"id":"r","status":"x","status":"completed","output":[{}],"usage":{usage}}}"#,
                item(text)
            ),
        )
    };
    let streamed = |text: &str, usage: &str| {
        let delta = format!(
            r#"{{"type":"response.output_text.delta","type":"response.output_text.delta","output_index":0,"delta":"{text}"}}"#
        );
        let done = format!(
            r#"{{"type":"response.completed","type":"response.completed","response":{{"id":"r","id":"r","output":[],"usage":{usage}}}}}"#
        );
        events(&[
            r#"{"type":"response.created","response":{"id":"r","usage":null}}"#,
            &delta,
            &done,
        ])
    };
    let none = r#"{"input_tokens":0,"output_tokens":0,"total_tokens":0}"#;
    vec![
        case("responses: keys twice", RESPONSES, whole("hi", usage)),
        case("responses stream: keys twice", RESPONSES, streamed("hi", usage)),
        counted(case("responses: zero", RESPONSES, whole(&words(), none)), None, Some(500)),
        counted(
            case("responses stream: zero", RESPONSES, streamed(&words(), none)),
            None,
            Some(500),
        ),
    ]
}

pub(super) fn messages() -> Vec<Case> {
    let usage = r#"{"input_tokens":600,"cache_read_input_tokens":60,"cache_creation_input_tokens":40,"output_tokens":300}"#;
    let whole = |text: &str, usage: &str| {
        json(
            200,
            &format!(
                r#"{{"type":"m","type":"message","content":[{{"type":"text","text":"{text}"}}],"usage":{usage}}}"#
            ),
        )
    };
    let streamed = |text: &str, begin: &str, end: &str| {
        let begin = format!(
            r#"{{"type":"message_start","message":{{"id":"m","id":"m","usage":{begin}}}}}"#
        );
        let delta = format!(
            r#"{{"type":"content_block_delta","index":0,"index":0,"delta":{{"type":"text_delta","text":"{text}"}}}}"#
        );
        let end = format!(
            r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn"}},"usage":{end}}}"#
        );
        events(&[&begin, &delta, &end, r#"{"type":"message_stop"}"#])
    };
    vec![
        case("messages: keys twice", MESSAGES, whole("hi", usage)),
        case("messages: OpenAI's names", MESSAGES, whole("hi", USAGE)),
        case(
            "messages stream: keys twice",
            MESSAGES,
            streamed("hi", usage, r#"{"output_tokens":300}"#),
        ),
        case(
            "messages stream: no input at the end",
            MESSAGES,
            streamed("hi", usage, r#"{"input_tokens":0,"output_tokens":300}"#),
        ),
        counted(
            case(
                "messages stream: no usage at the end",
                MESSAGES,
                streamed(&words(), usage, "null"),
            ),
            Some(700),
            Some(500),
        ),
        counted(
            case(
                "messages: zero",
                MESSAGES,
                whole(&words(), r#"{"input_tokens":0,"output_tokens":0}"#),
            ),
            None,
            Some(500),
        ),
    ]
}

pub(super) fn others() -> Vec<Case> {
    let text =
        format!(r#"{{"choices":[{{"index":0,"index":0,"text":"{}"}}],"usage":{USAGE}}}"#, words());
    let embedding = r#"{"object":"list","object":"list","data":[],"usage":{"prompt_tokens":"700","total_tokens":700}}"#;
    let image = r#"{"data":[{"url":"u"}],"data":[{"url":"u"}],"usage":{"input_tokens":700,"output_tokens":300}}"#;
    let prompt_alone =
        r#"{"data":[{"url":"u"},{"url":"v"}],"usage":{"input_tokens":700,"output_tokens":0}}"#;
    vec![
        case("completions: keys twice", "/v1/completions", json(200, &text)),
        Case {
            output: Some(0),
            ..case("embeddings: keys twice", "/v1/embeddings", json(200, embedding))
        },
        case("images: keys twice", "/v1/images/generations", json(200, image)),
        counted(
            case("images: no output", "/v1/images/generations", json(200, prompt_alone)),
            Some(700),
            Some(2_000),
        ),
    ]
}
