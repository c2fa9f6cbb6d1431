use super::*;
use crate::surface::Surface;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::json;

fn estimates(body: &serde_json::Value) -> (u64, u64) {
    let body = body.to_string();
    let request = Request::parse(Surface::ChatCompletions, body.as_bytes()).unwrap();
    (count_prompt(&request, 0), estimate_prompt(&request, 0))
}

fn ask(messages: &serde_json::Value) -> serde_json::Value {
    json!({ "model": "m", "messages": messages })
}

#[test]
fn counts_texts_and_the_template() {
    let body = ask(&json!([{ "role": "user", "content": "Hello world" }]));
    // "user" 1, "Hello world" 2, the message 3, the reply 3.
    assert_eq!(estimates(&body).0, 9);
    let body = ask(&json!([{ "role": "user", "name": "Ann", "content": "Hello world" }]));
    assert_eq!(estimates(&body).0, 9 + 1 + count("Ann"));
}

#[test]
fn adds_the_models_overhead() {
    let body = ask(&json!([{ "role": "user", "content": "Hi" }])).to_string();
    let request = Request::parse(Surface::ChatCompletions, body.as_bytes()).unwrap();
    assert_eq!(count_prompt(&request, 192), count_prompt(&request, 0) + 192);
    assert_eq!(estimate_prompt(&request, 192), estimate_prompt(&request, 0) + 192);
    assert_eq!(estimate_prompt(&request, u64::MAX), u64::MAX);
}

#[test]
fn never_tokenizes_encoded_media() {
    let noise = |head: &[u8], bytes: u32| {
        let noise = (0..bytes).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]);
        STANDARD.encode([head, &noise.collect::<Vec<_>>()].concat())
    };
    let image = |bytes| {
        let data = noise(b"\x89PNG\r\n\x1a\n", bytes);
        ask(&json!([{ "role": "user", "content": [
            { "type": "text", "text": "What is this?" },
            { "type": "image_url", "image_url": { "url": format!("data:image/png;base64,{data}") } },
        ]}]))
    };
    let (small, large) = (estimates(&image(90)), estimates(&image(150_000)));
    assert_eq!(small, large);
    assert_eq!(small.0, 3 + 3 + 1 + count("What is this?") + PER_IMAGE);

    let data = noise(b"ID3\x04", 48_000);
    let audio = ask(&json!([{ "role": "user", "content": [
        { "type": "input_audio", "input_audio": { "data": data, "format": "mp3" } },
    ]}]));
    assert!((1000..1100).contains(&estimates(&audio).0));
}

#[test]
fn counts_tools_and_calls() {
    let plain = ask(&json!([{ "role": "user", "content": "Hi" }]));
    let mut with_tools = plain.clone();
    let tools =
        json!([{ "type": "function", "function": { "name": "look_up", "parameters": {} } }]);
    with_tools["tools"] = tools.clone();
    assert_eq!(estimates(&with_tools).0, estimates(&plain).0 + count(&tools.to_string()));

    let calls = ask(&json!([{ "role": "assistant", "content": null, "tool_calls": [
        { "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{\"a\":1}" } },
    ]}]));
    assert!(estimates(&calls).0 > 6 + 1);
}

#[test]
fn decodes_escapes_before_counting() {
    let body = br#"{"model":"m","messages":[{"role":"user","content":"a\u0020b\nc"}]}"#;
    let request = Request::parse(Surface::ChatCompletions, body).unwrap();
    assert_eq!(count_prompt(&request, 0), 3 + 3 + 1 + count("a b\nc"));
}

#[test]
fn no_text_has_fewer_tokens_than_the_floor() {
    for unit in [" ", "\n", "-", "=", "a"] {
        let body = ask(&json!([{ "role": "user", "content": unit.repeat(100_000) }])).to_string();
        let request = Request::parse(Surface::ChatCompletions, body.as_bytes()).unwrap();
        let (floor, exact) = (min_prompt_tokens(&request), count_prompt(&request, 0));
        assert!(0 < floor && floor <= exact, "{unit:?}: {floor} of {exact}");
    }
}

#[test]
fn work_is_bounded_and_the_rest_is_taken_by_bytes() {
    let within = |text, left: &mut usize| count_within(text, left, u64::MAX).unwrap();
    let mut left = 10;
    assert_eq!(within("hello world and more", &mut left), count("hello worl") + 10);
    assert_eq!(within("abc", &mut left), 3);
    let mut left = 2;
    assert_eq!(within("今今", &mut left), 6, "a character is never cut");
}

#[test]
fn a_prompt_that_does_not_fit_is_not_counted_to_its_end() {
    // Counted whole, each of these takes as long as all of them may: they are eight megabytes together.
    for unit in ["\n", " ", "a ", "今"] {
        let body =
            ask(&json!([{ "role": "user", "content": unit.repeat((2 << 20) / unit.len()) }]));
        let body = body.to_string();
        let request = Request::parse(Surface::ChatCompletions, body.as_bytes()).unwrap();
        for most in [0, 10, 6_000] {
            assert_eq!(count_prompt_within(&request, 0, most), None, "{unit:?}");
        }
    }
    let texts = json!([{ "role": "user", "name": "Ann", "content": "Hello world. ".repeat(50) },
        { "role": "user", "content": [{ "type": "file", "file": {
            "file_data": format!("data:text/plain;base64,{}", "QUJD".repeat(90)) } }] }]);
    let body = ask(&texts).to_string();
    let request = Request::parse(Surface::ChatCompletions, body.as_bytes()).unwrap();
    let exact = count_prompt(&request, 7);
    assert_eq!(count_prompt_within(&request, 7, exact), Some(exact));
    assert_eq!(count_prompt_within(&request, 7, exact - 1), None);
}

#[test]
fn hostile_text_takes_linear_time() {
    // Superlinear work on any of these would take minutes.
    for unit in
        ["a", " ", "\n", " \n", "A", "'", "0", "!", "é", "今", "\u{300}", "aA", " !", "\t \r"]
    {
        assert!(count(&unit.repeat(300_000 / unit.len())) > 0);
    }
}

proptest! {
    #[test]
    fn cheap_is_a_ceiling_of_exact(
        contents in prop::collection::vec("\\PC{0,60}|[\\x00-\\x7f]{0,60}|[0-9a-f]{0,64}", 1..5),
        name in "\\PC{0,8}",
        overhead in 0_u64..500,
    ) {
        let messages: Vec<_> =
            contents.iter().map(|text| json!({ "role": "user", "name": name, "content": text })).collect();
        let body = ask(&json!(messages)).to_string();
        let request = Request::parse(Surface::ChatCompletions, body.as_bytes()).unwrap();
        let exact = count_prompt(&request, overhead);
        prop_assert!(min_prompt_tokens(&request) <= exact && exact <= estimate_prompt(&request, overhead));
    }
}
