use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const MESSAGES: &str = r#""messages":[{"role":"user","content":"Hi"}]"#;

/// A body with these members beside `messages`.
fn with(members: &str) -> String {
    format!("{{{members},{MESSAGES}}}")
}

fn refusal(body: impl AsRef<[u8]>) -> BadBody {
    Request::parse(Surface::ChatCompletions, body.as_ref()).unwrap_err()
}

#[test]
fn reads_the_fields_it_needs() {
    let body = with(
        r#""model":"grok-4.3","stream":true,"n":2,"max_tokens":50,"max_completion_tokens":40,
           "stream_options":{"include_usage":true,"x":1},"user":{"id":7},"unknown":[1e999]"#,
    );
    let request = Request::parse(Surface::ChatCompletions, body.as_bytes()).unwrap();
    assert_eq!(request.model, "grok-4.3");
    assert!(request.stream && request.include_usage);
    assert_eq!((request.n, request.max_output), (2, Some(40)));
}

#[test]
fn null_is_as_good_as_absent() {
    let body = with(
        r#""model":"m","stream":null,"n":null,"max_tokens":null,"max_completion_tokens":null,
           "stream_options":null,"tools":null"#,
    );
    let request = Request::parse(Surface::ChatCompletions, body.as_bytes()).unwrap();
    assert!(!request.stream && !request.include_usage);
    assert_eq!((request.n, request.max_output), (1, None));
    let body = with(r#""model":"m","stream_options":{"include_usage":null}"#);
    assert!(!Request::parse(Surface::ChatCompletions, body.as_bytes()).unwrap().include_usage);
}

#[test]
fn refuses_what_is_not_a_json_object() {
    for body in [
        &b""[..],
        b" ",
        b"null",
        b"[]",
        b"\"a\"",
        b"{",
        b"{}}",
        b"{\"a\":1,}",
        b"{'a':1}",
        b"nul",
        b"{\"model\":\"m\"} x",
        b"\xEF\xBB\xBF",
        b"\xEF\xBB\xBF\xEF\xBB\xBF{}",
        b"{\"a\":\"\xff\"}",
        b"{\"a\":\"\x00\"}",
        b"\x00",
        b"{\"a\":01}",
        b"{\"a\":\"\\x\"}",
        b"{\"a\":\"\\u12\"}",
        b"{\"a\":NaN}",
    ] {
        let bad = refusal(body);
        assert_eq!((&bad.param, bad.code), (&None, None), "{body:?}: {bad}");
        assert!(bad.message.len() < 200, "{bad}");
    }
}

#[test]
fn a_byte_order_mark_is_left_out() {
    for surface in [Surface::ChatCompletions, Surface::Messages] {
        let body = with(r#""model":"m","max_tokens":5"#);
        let marked = [b"\xEF\xBB\xBF", body.as_bytes()].concat();
        let request = Request::parse(surface, &marked).unwrap();
        assert_eq!(request.rewrite(Rewrite::default()), body.as_bytes());
        let rewrite = Rewrite { max_output: Some(1), ..Rewrite::default() };
        let sent = String::from_utf8(request.rewrite(rewrite).to_vec()).unwrap();
        assert!(sent.starts_with('{') && sent.contains("\"max_tokens\":1"), "{sent}");
    }
}

#[test]
fn names_that_look_like_others_are_refused() {
    for (members, param) in [
        ("\"\u{430}pi_key\":\"x\"", "\u{430}pi_key"),
        (r#""\u0430pi_key":"x""#, "\u{430}pi_key"),
        ("\"max_t\u{43e}kens\":5", "max_t\u{43e}kens"),
        ("\"\u{ff4d}odels\":[]", "\u{ff4d}odels"),
        ("\"t\u{200b}ools\":[]", "t\u{200b}ools"),
        ("\"stream_options\":{\"includ\u{435}_usage\":true}", "stream_options.includ\u{435}_usage"),
        ("\"options\":{\"num_pr\u{435}dict\":9}", "options.num_pr\u{435}dict"),
        ("\"tools\":[{\"typ\u{435}\":\"web_search\"}]", "tools[0].typ\u{435}"),
    ] {
        let bad = refusal(with(&format!("\"model\":\"m\",{members}")));
        assert_eq!(bad.param.as_deref(), Some(param), "{bad}");
        assert!(bad.message.contains("ASCII"), "{bad}");
    }
    // The caller's own names may be in any script.
    for members in [
        "\"metadata\":{\"\u{430}\":1}",
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"properties\":{\"\u{430}\":{}}}}}]",
    ] {
        let body = with(&format!("\"model\":\"m\",{members}"));
        assert!(Request::parse(Surface::ChatCompletions, body.as_bytes()).is_ok(), "{members}");
    }
}

#[test]
fn every_member_with_text_is_weighed() {
    let words = "All the world's a stage. ".repeat(40);
    let least = words.len() as u64;
    let base = |surface| match surface {
        Surface::Responses => json!({ "model": "m", "input": "hi" }),
        Surface::Completions => json!({ "model": "m", "prompt": "hi" }),
        Surface::Embeddings => json!({ "model": "m", "input": "hi" }),
        _ => {
            json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "hi" }] })
        }
    };
    let size = |body: &Value, surface| {
        let body = body.to_string();
        Request::parse(surface, body.as_bytes()).unwrap().prompt.size
    };
    for surface in [
        Surface::ChatCompletions,
        Surface::Responses,
        Surface::Completions,
        Surface::Embeddings,
        Surface::Messages,
        Surface::CountTokens,
    ] {
        let plain = size(&base(surface), surface);
        for (name, value) in [
            ("documents", json!([{ "title": "t", "text": words }])),
            ("chat_template", json!(words)),
            ("chat_template_kwargs", json!({ "preamble": words })),
            ("guided_json", json!({ "description": words })),
            ("guided_grammar", json!(words)),
            ("grammar", json!(words)),
            ("structured_outputs", json!({ "json": { "description": words } })),
            (
                "response_format",
                json!({ "type": "json_schema", "json_schema": { "schema": { "description": words } } }),
            ),
            ("prediction", json!({ "type": "content", "content": words })),
            ("system", json!(words)),
            ("instructions", json!(words)),
            ("prefix", json!(words)),
            ("suffix", json!(words)),
            ("template", json!(words)),
            ("tool_choice", json!({ "type": "function", "name": words })),
            ("reasoning", json!({ "effort": words })),
            ("anything", json!([[words]])),
        ] {
            let mut body = base(surface);
            body[name] = value;
            let found = size(&body, surface);
            assert!(found.text_bytes >= plain.text_bytes + least, "{surface:?} {name}: {found:?}");
        }
        for (name, value) in [
            ("user", json!(words)),
            ("metadata", json!({ "a": words })),
            ("prompt_cache_key", json!("a-key")),
            ("temperature", json!(0.7)),
            ("reasoning_effort", json!("high")),
            ("stop", json!(["\n\n", "END"])),
            ("seed", json!(7)),
            ("tool_choice", json!("auto")),
            ("logit_bias", json!({ "50256": -100 })),
        ] {
            let mut body = base(surface);
            body[name] = value;
            assert_eq!(size(&body, surface), plain, "{surface:?} {name}");
        }
    }
    let mut chat = base(Surface::ChatCompletions);
    for name in ["prompt", "input"] {
        chat[name] = json!(words);
    }
    assert!(size(&chat, Surface::ChatCompletions).text_bytes >= 2 * least);
}

#[test]
fn refuses_what_two_readers_could_read_differently() {
    for (members, param) in [
        (r#""model":"a","model":"b""#, "model"),
        (r#""model":"a","mod\u0065l":"b""#, "model"),
        (r#""model":"a","x":1,"x":1"#, "x"),
        (r#""model":"a","stream_options":{"a":1,"a":2}"#, "stream_options.a"),
        (
            r#""model":"a","stream_options":{"include_usage":false,"include_us\u0061ge":true}"#,
            "stream_options.include_usage",
        ),
        (r#""model":"a","messages":[]"#, "messages"),
    ] {
        assert_eq!(refusal(with(members)).param.as_deref(), Some(param));
    }
    for text in [r"\ud800", r"\udc00", r"\ud83d\u0041"] {
        assert_eq!(refusal(with(&format!(r#""model":"m","x":"{text}""#))).param, None);
    }
}

#[test]
fn refuses_wrong_types_by_name() {
    for (members, param) in [
        (r#""x":1"#, "model"),
        (r#""model":null"#, "model"),
        (r#""model":5"#, "model"),
        (r#""model":"""#, "model"),
        (r#""model":"a\u0000b""#, "model"),
        (r#""model":"a\nb""#, "model"),
        (r#""model":"m","stream":1"#, "stream"),
        (r#""model":"m","stream":"true""#, "stream"),
        (r#""model":"m","n":0"#, "n"),
        (r#""model":"m","n":129"#, "n"),
        (r#""model":"m","n":1.5"#, "n"),
        (r#""model":"m","n":"1""#, "n"),
        (r#""model":"m","max_tokens":0"#, "max_tokens"),
        (r#""model":"m","max_tokens":-1"#, "max_tokens"),
        (r#""model":"m","max_tokens":99999999999999999999999"#, "max_tokens"),
        (r#""model":"m","max_completion_tokens":1e3"#, "max_completion_tokens"),
        (r#""model":"m","max_completion_tokens":"9""#, "max_completion_tokens"),
        (r#""model":"m","stream_options":true"#, "stream_options"),
        (r#""model":"m","stream_options":[]"#, "stream_options"),
        (r#""model":"m","stream_options":{"include_usage":1}"#, "stream_options.include_usage"),
    ] {
        let bad = refusal(with(members));
        assert_eq!(bad.param.as_deref(), Some(param), "{members}: {bad}");
        assert!(bad.code.is_some());
    }
    let long = format!(r#""model":"{}""#, "m".repeat(257));
    assert_eq!(refusal(with(&long)).param.as_deref(), Some("model"));
}

#[test]
fn refuses_messages_that_are_none() {
    for (messages, param) in [
        ("null", "messages"),
        ("{}", "messages"),
        ("\"Hi\"", "messages"),
        ("[]", "messages"),
        ("[{},1]", "messages[1]"),
        ("[null]", "messages[0]"),
        ("[[]]", "messages[0]"),
    ] {
        let bad = refusal(format!(r#"{{"model":"m","messages":{messages}}}"#));
        assert_eq!(bad.param.as_deref(), Some(param), "{messages}");
    }
    assert_eq!(refusal(r#"{"model":"m"}"#).param.as_deref(), Some("messages"));
}

#[test]
fn bounds_depth_and_members() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let bomb = |levels: usize| {
            let value = format!("{}1{}", open.repeat(levels), close.repeat(levels));
            with(&format!(r#""model":"m","x":{value}"#))
        };
        assert!(Request::parse(Surface::ChatCompletions, bomb(127).as_bytes()).is_ok());
        for levels in [128, 1_000_000] {
            assert!(refusal(bomb(levels)).message.contains("128 levels"));
        }
    }
    assert_eq!(refusal("[".repeat(1_000_000)).param, None);
    assert_eq!(refusal(format!("{{\"a\":{}", "[".repeat(1_000_000))).param, None);
    let in_content = format!(r#"{{"model":"m","messages":[{{"content":{}"#, "[".repeat(500_000));
    assert_eq!(refusal(in_content).param, None);
    let many: Vec<String> = (0..300).map(|at| format!("\"k{at}\":1")).collect();
    assert!(refusal(with(&many.join(","))).message.contains("256 fields"));
}

#[test]
fn sizes_the_prompt() {
    let body = r#"{"model":"m","tools":[1],"messages":[
        {"role":"system","content":"ab"},
        {"role":"user","name":"Ann","content":[{"type":"text","text":"c\u0064"},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="}},
            {"type":"input_audio","input_audio":{"data":"SUQzBAAA","format":"mp3"}},
            {"type":"video","video":{"url":"data:video/mp4;base64,AAAAIGZ0eXBpc29t"}}, "ef"]},
        {"role":"assistant","content":null,"tool_calls":[]}]}"#;
    let size = Request::parse(Surface::ChatCompletions, body.as_bytes()).unwrap().prompt.size;
    assert_eq!((size.messages, size.names, size.images), (3, 1, 1));
    let texts = ["system", "ab", "user", "Ann", "c\\u0064", "ef", "assistant", "[]", "[1]"];
    assert_eq!(size.text_bytes, texts.iter().map(|text| text.len() as u64).sum::<u64>());
    let media = ["SUQzBAAA", "data:video/mp4;base64,AAAAIGZ0eXBpc29t"];
    assert_eq!(size.media_bytes, media.iter().map(|text| text.len() as u64).sum::<u64>());
}

/// The body after `changes`, as text.
fn rewritten(body: &str, rewrite: Rewrite<'_>) -> String {
    let bytes = Request::parse(Surface::ChatCompletions, body.as_bytes()).unwrap().rewrite(rewrite);
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn changes_just_those_bytes() {
    let model = Rewrite { model: Some("up\"stream"), ..Rewrite::default() };
    let usage = Rewrite { include_usage: true, ..Rewrite::default() };
    let limit = Rewrite { max_output: Some(9), ..Rewrite::default() };
    let old_limit = Rewrite { limit_field: LimitField::MaxTokens, ..limit };
    for (before, rewrite, after) in [
        (r#" "model" : "m" "#, model, r#"{ "model" : "up\"stream" ,"#),
        (r#""mod\u0065l":"m""#, model, r#"{"mod\u0065l":"up\"stream","#),
        (r#""model":"m""#, usage, r#"{"stream_options":{"include_usage":true},"model":"m","#),
        (
            r#""model":"m","stream_options":null"#,
            usage,
            r#"{"model":"m","stream_options":{"include_usage":true},"#,
        ),
        (
            r#""model":"m","stream_options":{ }"#,
            usage,
            r#"{"model":"m","stream_options":{"include_usage":true },"#,
        ),
        (
            r#""model":"m","stream_options":{ "a":1}"#,
            usage,
            r#"{"model":"m","stream_options":{"include_usage":true, "a":1},"#,
        ),
        (
            r#""model":"m","stream_options":{"include_usage": false }"#,
            usage,
            r#"{"model":"m","stream_options":{"include_usage": true },"#,
        ),
        (
            r#""model":"m","stream_options":{"include_usage":null}"#,
            usage,
            r#"{"model":"m","stream_options":{"include_usage":true},"#,
        ),
        (
            r#""model":"m","stream_options":{"include_usage":true}"#,
            usage,
            r#"{"model":"m","stream_options":{"include_usage":true},"#,
        ),
        (r#""model":"m""#, limit, r#"{"max_completion_tokens":9,"model":"m","#),
        (r#""model":"m""#, old_limit, r#"{"max_tokens":9,"model":"m","#),
        (r#""model":"m","max_tokens":50"#, limit, r#"{"model":"m","max_tokens":9,"#),
        (
            r#""model":"m","max_tokens":50,"max_completion_tokens":60"#,
            limit,
            r#"{"model":"m","max_tokens":9,"max_completion_tokens":9,"#,
        ),
        (
            r#""model":"m","max_tokens":null,"max_completion_tokens":60"#,
            old_limit,
            r#"{"model":"m","max_tokens":9,"max_completion_tokens":9,"#,
        ),
        (r#""model":"m","max_tokens":null"#, old_limit, r#"{"model":"m","max_tokens":9,"#),
        (
            r#""model":"m","max_completion_tokens":60"#,
            Rewrite { max_output: None, ..old_limit },
            r#"{"max_tokens":60,"model":"m","max_completion_tokens":60,"#,
        ),
        (
            r#""model":"m","max_completion_tokens":60"#,
            old_limit,
            r#"{"max_tokens":9,"model":"m","max_completion_tokens":9,"#,
        ),
        (
            r#""model":"m","max_tokens":60"#,
            Rewrite { max_output: None, ..limit },
            r#"{"model":"m","max_tokens":60,"#,
        ),
        (
            r#""model":"m","max_tokens":1,"max_completion_tokens":60"#,
            Rewrite { max_output: None, ..limit },
            r#"{"model":"m","max_tokens":1,"max_completion_tokens":1,"#,
        ),
        (
            r#""model":"m","max_tokens":60,"max_completion_tokens":5"#,
            Rewrite { max_output: None, ..old_limit },
            r#"{"model":"m","max_tokens":5,"max_completion_tokens":5,"#,
        ),
        (
            r#""model":"m","max_tokens":null"#,
            limit,
            r#"{"max_completion_tokens":9,"model":"m","max_tokens":null,"#,
        ),
    ] {
        assert_eq!(rewritten(&with(before), rewrite), format!("{after}{MESSAGES}}}"));
    }
}

#[test]
fn white_space_around_the_object_stays() {
    let body = format!("\r\n\t {} \n", with(r#""model":"m""#));
    assert_eq!(rewritten(&body, Rewrite::default()), body);
    let rewrite = Rewrite { max_output: Some(1), ..Rewrite::default() };
    assert_eq!(rewritten(&body, rewrite), body.replacen('{', "{\"max_completion_tokens\":1,", 1));
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-zé\"\\\\ ]{0,6}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn limits() -> impl Strategy<Value = Option<Value>> {
    prop::option::of(prop_oneof![Just(Value::Null), (1_u64..1 << 40).prop_map(Value::from)])
}

fn body() -> impl Strategy<Value = Value> {
    let options = prop::option::of(prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!({ "a": [1], "z": {} })),
        any::<bool>().prop_map(|on| json!({ "b": "}", "include_usage": on, "x": null })),
    ]);
    let message = anything().prop_map(|content| json!({ "role": "user", "content": content }));
    let messages = prop::collection::vec(message, 1..4);
    let unknown = prop::collection::btree_map("[a-l]{1,3}", anything(), 0..5);
    (messages, limits(), limits(), options, unknown).prop_map(
        |(messages, max_tokens, max_completion_tokens, options, unknown)| {
            let mut body: Value = unknown.into_iter().collect();
            body["model"] = "grok".into();
            body["messages"] = messages.into();
            let given = [
                ("max_tokens", max_tokens),
                ("max_completion_tokens", max_completion_tokens),
                ("stream_options", options),
            ];
            for (name, value) in given {
                if let Some(value) = value {
                    body[name] = value;
                }
            }
            body
        },
    )
}

/// Applies the changes to the parsed JSON, for comparison.
fn expected(mut body: Value, rewrite: &Rewrite<'_>) -> Value {
    if let Some(model) = rewrite.model {
        body["model"] = model.into();
    }
    let is_given = |body: &Value, name: &str| body.get(name).is_some_and(Value::is_number);
    let overlooked = rewrite.limit_field == LimitField::MaxTokens
        && is_given(&body, "max_completion_tokens")
        && !is_given(&body, "max_tokens");
    let limits = ["max_tokens", "max_completion_tokens"].map(|name| body[name].as_u64());
    let differ = matches!(limits, [Some(older), Some(newer)] if older != newer);
    let own = limits.into_iter().flatten().min().filter(|_| overlooked || differ);
    if let Some(limit) = rewrite.max_output.or(own) {
        let given = ["max_tokens", "max_completion_tokens"].into_iter();
        let given: Vec<_> = given.filter(|name| is_given(&body, name)).collect();
        for name in &given {
            body[*name] = limit.into();
        }
        if given.is_empty() || overlooked {
            body[rewrite.limit_field.as_str()] = limit.into();
        }
    }
    if rewrite.include_usage {
        body["stream_options"]["include_usage"] = true.into();
    }
    body
}

proptest! {
    #[test]
    fn a_spliced_body_reads_as_the_changes_say(
        body in body(),
        pretty in any::<bool>(),
        model in prop::option::of("\\PC{1,10}"),
        max_output in prop::option::of(any::<u64>()),
        old_field in any::<bool>(),
        include_usage in any::<bool>(),
    ) {
        let text = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) };
        let text = text.unwrap();
        let limit_field = if old_field { LimitField::MaxTokens } else { LimitField::MaxCompletionTokens };
        let model = model.as_deref();
        let rewrite = Rewrite { model, max_output, limit_field, include_usage, ..Rewrite::default() };
        let request = Request::parse(Surface::ChatCompletions, text.as_bytes()).unwrap();
        let bytes = request.rewrite(rewrite);
        let read: Value = serde_json::from_slice(&bytes).unwrap();
        let limits = ["max_tokens", "max_completion_tokens"].map(|name| body[name].as_u64());
        let differ = matches!(limits, [Some(older), Some(newer)] if older != newer);
        prop_assert_eq!(read, expected(body, &rewrite));
        if !differ {
            prop_assert_eq!(&request.rewrite(Rewrite::default())[..], text.as_bytes());
        }
        // What was made must be acceptable again: no key is there twice.
        if max_output != Some(0) && rewrite.model.is_none() {
            prop_assert!(Request::parse(Surface::ChatCompletions, &bytes).is_ok());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(
        prop::sample::select(br#"{}[]",:\u0d8ntrue1e-.model sg"#.to_vec()), 0..80)) {
        let _ = Request::parse(Surface::ChatCompletions, &bytes);
    }
}
