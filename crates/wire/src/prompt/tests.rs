use super::*;
use crate::request::Request;
use crate::surface::Surface;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

fn size(surface: Surface, body: &Value) -> PromptSize {
    Request::parse(surface, body.to_string().as_bytes()).unwrap().prompt.size
}

fn responses(items: &Value) -> PromptSize {
    size(Surface::Responses, &json!({ "model": "m", "input": items }))
}

fn chat(message: &Value) -> PromptSize {
    size(Surface::ChatCompletions, &json!({ "model": "m", "messages": [message] }))
}

fn messages(content: &Value) -> PromptSize {
    let message = json!({ "role": "user", "content": content });
    size(Surface::Messages, &json!({ "model": "m", "max_tokens": 1, "messages": [message] }))
}

/// 300 KB that begin as a picture does.
fn picture() -> String {
    let noise = (0..300_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]);
    STANDARD.encode([&b"\x89PNG\r\n\x1a\n"[..], &noise.collect::<Vec<_>>()].concat())
}

fn picture_url() -> String {
    format!("data:image/png;base64,{}", picture())
}

#[test]
fn a_picture_is_a_picture_wherever_it_stands() {
    let (url, bare) = (picture_url(), picture());
    let part = json!({ "type": "input_image", "image_url": url });
    for item in [
        json!({ "type": "function_call_output", "call_id": "c", "output": [part] }),
        json!({ "type": "custom_tool_call_output", "call_id": "c", "output": [part] }),
        json!({ "type": "computer_call_output", "call_id": "c",
            "output": { "type": "computer_screenshot", "image_url": url } }),
        json!({ "type": "image_generation_call", "id": "ig_1", "result": bare }),
        json!({ "type": "code_interpreter_call", "code": "x",
            "outputs": [{ "type": "image", "url": url }] }),
        json!({ "type": "mcp_call", "output": [{ "type": "image", "data": bare, "mimeType": "image/png" }] }),
        json!({ "role": "user", "content": [part] }),
        json!({ "role": "user", "content": [[[part]]] }),
    ] {
        let size = responses(&json!([item]));
        assert_eq!((size.images, size.media_bytes), (1, 0), "{}", &item.to_string()[..80]);
        assert!(size.text_bytes < 100, "{size:?}");
    }
    for message in [
        json!({ "role": "tool", "content": [{ "type": "image_url", "image_url": { "url": url } }] }),
        json!({ "role": "user", "content": [{ "type": "image_url", "image_url": url }] }),
        json!({ "role": "user", "content": [{ "type": "file", "file": { "filename": "a.png", "file_data": url } }] }),
        json!({ "role": "user", "content": "Hi", "images": [bare] }),
        json!({ "role": "user", "content": "Hi", "images": [{ "type": "image_url", "image_url": { "url": url } }] }),
        json!({ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "https://a.example/b.png" } }] }),
    ] {
        let size = chat(&message);
        assert_eq!((size.images, size.media_bytes), (1, 0), "{}", &message.to_string()[..80]);
        assert!(size.text_bytes < 100, "{size:?}");
    }
    let source = json!({ "type": "base64", "media_type": "image/png", "data": bare });
    let image = json!({ "type": "image", "source": source });
    for content in [
        json!([image]),
        json!([{ "type": "tool_result", "tool_use_id": "t", "content": [image] }]),
        json!([{ "type": "tool_result", "content": [{ "type": "search_result", "content": [image] }] }]),
        json!([{ "type": "document", "source": { "type": "content", "content": [image] } }]),
    ] {
        let size = messages(&content);
        assert_eq!((size.images, size.media_bytes), (1, 0));
        assert!(size.text_bytes < 100, "{size:?}");
    }
}

#[test]
fn a_picture_that_the_model_reads_as_text_is_text() {
    let url = picture_url();
    let long = url.len() as u64;
    let item = json!({ "type": "function_call_output", "call_id": "c", "output": url });
    assert!(responses(&json!([item])).text_bytes >= long);
    let item = json!({ "type": "function_call", "call_id": "c", "name": "f", "arguments": url });
    assert!(responses(&json!([item])).text_bytes >= long);
    assert!(chat(&json!({ "role": "user", "content": url })).text_bytes >= long);
    let part =
        json!([{ "type": "tool_use", "id": "t", "name": "f", "input": { "image_url": url } }]);
    assert!(messages(&part).text_bytes >= long);
}

#[test]
fn documents_and_sound_weigh_by_their_bytes() {
    let noise: Vec<u8> =
        (0..90_000_u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let pdf = STANDARD.encode([&b"%PDF-1.7\n"[..], &noise].concat());
    let long = pdf.len() as u64;
    let source = json!({ "type": "base64", "media_type": "application/pdf", "data": pdf });
    let size = messages(&json!([{ "type": "document", "title": "T", "source": source }]));
    assert_eq!((size.images, size.media_bytes), (0, long));
    let url = format!("data:application/pdf;base64,{pdf}");
    let file = json!({ "type": "input_file", "filename": "a.pdf", "file_data": url });
    let item = json!({ "type": "function_call_output", "call_id": "c", "output": [file] });
    assert_eq!(responses(&json!([item])).media_bytes, url.len() as u64);
    let sound = STANDARD.encode([&b"RIFF\x24\x08\0\0WAVEfmt "[..], &noise].concat());
    let part = json!({ "type": "input_audio", "input_audio": { "data": sound, "format": "wav" } });
    assert_eq!(chat(&json!({ "role": "user", "content": [part] })).media_bytes, sound.len() as u64);
}

#[test]
fn what_is_sealed_is_light_and_has_no_spaces() {
    let seal = format!("gAAAAAB{}", picture());
    let long = seal.len() as u64;
    let words = "All the world's a stage. ".repeat(100);
    for name in ["reasoning", "compaction"] {
        let item =
            |sealed: &str| json!([{ "type": name, "encrypted_content": sealed, "summary": [] }]);
        let size = responses(&item(&seal));
        assert_eq!((size.sealed_bytes, size.text_bytes), (long, 0));
        let size = responses(&item(&words));
        assert_eq!((size.sealed_bytes, size.text_bytes), (0, words.len() as u64));
    }
    let thinking = json!([{ "type": "thinking", "thinking": "abc", "signature": seal },
        { "type": "redacted_thinking", "data": seal }]);
    let size = messages(&thinking);
    assert_eq!((size.sealed_bytes, size.text_bytes), (2 * long, 7));
    let call = json!({ "id": "c", "function": { "name": "f", "arguments": "{}" },
        "extra_content": { "google": { "thought_signature": seal } } });
    let size = chat(&json!({ "role": "assistant", "content": null, "tool_calls": [call] }));
    assert_eq!(size.sealed_bytes, long);
    assert!(size.text_bytes < 150, "{size:?}");
    let details = json!([{ "type": "reasoning.encrypted", "data": seal }]);
    let size = chat(&json!({ "role": "assistant", "content": null, "reasoning_details": details }));
    assert_eq!(size.sealed_bytes, long);
}

#[test]
fn hostile_nesting_costs_one_pass() {
    // Read again at each of the levels, this would be 12 GB.
    let part = json!({ "type": "text", "text": "x".repeat(1 << 20) }).to_string();
    let nested = format!("{}{}{}", "[".repeat(100), vec![part; 100].join(","), "]".repeat(100));
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":{nested}}}]}}"#);
    let request = Request::parse(Surface::ChatCompletions, body.as_bytes()).unwrap();
    assert_eq!(request.prompt.size.text_bytes, 100 * (1 << 20) + 4);
}

fn part() -> impl Strategy<Value = Value> {
    let text = "\\PC{0,200}|[a-z ]{0,400}";
    prop_oneof![
        text.prop_map(|text| json!({ "type": "text", "text": text })),
        text.prop_map(|text| json!({ "type": "input_image", "image_url": text })),
        text.prop_map(
            |text| json!({ "type": "file", "file": { "file_data": text, "odd": [text] } })
        ),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| {
            let url = format!("data:image/jpeg;base64,{}", STANDARD.encode(bytes));
            json!({ "type": "image_url", "image_url": { "url": url } })
        }),
        text.prop_map(|text| {
            let url = format!("data:text/plain;base64,{}", STANDARD.encode(text));
            json!({ "type": "input_file", "file_data": url })
        }),
    ]
}

proptest! {
    #[test]
    fn a_part_weighs_the_same_in_every_place(part in part()) {
        let bare = |size: PromptSize| PromptSize { text_bytes: 0, names: 0, ..size };
        let in_message = responses(&json!([{ "content": [part] }]));
        for item in [
            json!({ "output": [part] }),
            json!({ "output": part }),
            json!({ "content": [{ "type": "tool_result", "content": [part] }] }),
            json!({ "outputs": [[part]] }),
        ] {
            let size = responses(&json!([item]));
            prop_assert_eq!(bare(size), bare(in_message));
            prop_assert_eq!(size.text_bytes, in_message.text_bytes);
        }
    }

    #[test]
    fn text_is_never_lighter_than_text(text in "[a-zA-Z]{1,8}( [a-zA-Z.,]{1,8}){3,60}") {
        let plain = json!([{ "content": [{ "type": "text", "text": text }] }]);
        let plain = responses(&plain).text_bytes;
        for part in [
            json!({ "type": "input_image", "image_url": text }),
            json!({ "type": "input_image", "image_url": format!("data:image/png;base64,{text}") }),
            json!({ "type": "input_image", "image_url": format!("https://a.example/{text}") }),
            json!({ "type": "input_file", "file_data": format!("data:text/plain,{text}") }),
            json!({ "type": "input_file",
                "file_data": format!("data:text/plain;base64,{}", STANDARD.encode(&text)) }),
            json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": text } }),
            json!({ "type": "input_audio", "input_audio": { "data": text, "format": "wav" } }),
            json!({ "type": "reasoning", "encrypted_content": text }),
            json!({ "type": "thinking", "signature": text }),
            json!({ "type": "redacted_thinking", "data": text }),
            json!({ "type": text }),
            json!({ "image_url": { (text.clone()): 1 } }),
        ] {
            let item = responses(&json!([{ "content": [part] }]));
            let least = if part.get("type").is_some_and(|kind| *kind == text) && text.len() <= 62 { 0 } else { plain };
            let found = item.text_bytes + 3 * item.tokens;
            prop_assert!(found >= least, "{found} of {plain}: {part}");
        }
    }
}
