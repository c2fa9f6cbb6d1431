//! What upstreams differ in: encrypted reasoning, stream options, compression, surfaces.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_reasoning_is_routed_to_the_upstream_that_made_it() {
    const SEALED: [&str; 3] = [
        r#"{"error":{"message":"The encrypted content could not be verified.","type":"invalid_request_error","param":null,"code":"invalid_encrypted_content"}}"#,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages.1.content.0: Invalid `signature` in `thinking` block"}}"#,
        r#"{"code":"invalid-argument","error":"Could not decrypt encrypted_content of item 2"}"#,
    ];
    let replies =
        SEALED.iter().enumerate().map(|(number, said)| (number.to_string(), json(400, said)));
    let (troubled, sound) = pair(replies.collect()).await;
    let first = troubled.table("a", OPERATORS_KEY, "");
    let gw = gateway().upstreams(&format!("{first}{}", sound.table("b", "k", ""))).start().await;
    let alone = gateway().upstreams(&first).start().await;
    let (key, lone) = (gw.key("wide").await, alone.key("wide").await);
    for path in ["/v1/responses", "/v1/messages", "/v1/chat/completions"] {
        for number in 0..SEALED.len() {
            for stream in ["", r#","stream":true"#] {
                let reply = ask(&gw, &key, path, &number.to_string(), stream).await;
                assert_eq!(reply.status, 200, "{path}: {}", reply.text());
                let reply = ask(&alone, &lone, path, &number.to_string(), stream).await;
                assert_eq!(reply.status, 400, "{path}: {}", reply.text());
            }
        }
    }
    let statuses = gw.running.upstreams().statuses(std::time::Instant::now());
    assert_eq!(statuses[0].failures, 0, "no fault of the upstream");
    gw.finish().await;
    alone.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_options_are_removed_for_upstreams_that_reject_them() {
    let refuse = |asked: &crate::support::scripted_upstream::Asked| match asked
        .body
        .contains("stream_options")
    {
        true => json(
            400,
            r#"{"detail":[{"loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}"#,
        ),
        false => events(&[
            word_event("/v1/chat/completions"),
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            "[DONE]",
        ]),
    };
    for lines in ["", "stream_options = false"] {
        let upstream = ScriptedUpstream::start(refuse).await;
        let gw = gateway().upstreams(&upstream.table("a", "k", lines)).start().await;
        let key = gw.key("wide").await;
        for members in
            [r#","stream":true"#, r#","stream":true,"stream_options":{"include_usage":true}"#]
        {
            for _ in 0..2 {
                let reply = ask(&gw, &key, SURFACES[0], "u", members).await;
                assert!(reply.status == 200 && reply.is_done(), "{}", reply.text());
                let charge = gw.charge(reply.header("x-request-id")).await;
                assert_eq!(charge.source, Source::Estimated);
            }
        }
        let refused = upstream.asked().iter().filter(|a| a.body.contains("stream_options")).count();
        assert_eq!(refused, usize::from(lines.is_empty()), "once, and never again");
        assert!(upstream.asked().iter().all(|a| serde_json::from_str::<Value>(&a.body).is_ok()));
        gw.finish().await;
    }
}

/// One caller's own members are refused; every other caller's usage is still asked for and reported.
#[tokio::test(flavor = "multi_thread")]
async fn a_callers_stream_options_do_not_affect_others() {
    const USAGE: &str =
        r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":600,"total_tokens":605}}"#;
    let strict = |asked: &crate::support::scripted_upstream::Asked| {
        let is_asked = asked.body.contains("include_usage");
        match asked.body.contains("foo") || (is_asked && !asked.body.contains(r#""stream":true"#)) {
            true => json(
                400,
                r#"{"error":{"message":"Unknown parameter: 'stream_options.foo'","code":"unknown_parameter"}}"#,
            ),
            false if is_asked => events(&[word_event(SURFACES[0]), USAGE, "[DONE]"]),
            false => events(&[word_event(SURFACES[0]), "[DONE]"]),
        }
    };
    let upstream = ScriptedUpstream::start(strict).await;
    let gw = gateway().upstreams(&upstream.table("a", "k", "")).start().await;
    let (hostile, other) = (gw.key("wide").await, gw.key("wide").await);
    let members = r#","stream":true,"stream_options":{"include_usage":true,"foo":1}"#;
    for _ in 0..2 {
        let refused = ask(&gw, &hostile, SURFACES[0], "u", members).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
    }
    // Some refuse them where there is no stream at all.
    let whole =
        ask(&gw, &hostile, SURFACES[0], "whole", r#","stream_options":{"include_usage":true}"#);
    assert_eq!(whole.await.status, 400);
    let reply = ask(&gw, &other, SURFACES[0], "u", r#","stream":true"#).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let charge = gw.charge(reply.header("x-request-id")).await;
    assert_eq!((charge.source, charge.tokens.total()), (Source::Reported, 605));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_reply_is_a_failure_before_the_head() {
    let lines = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
    let zipped = ScriptedUpstream::start(move |_| with_headers(200, lines, b"\x1f\x8b\x08")).await;
    let sound = pair(HashMap::new()).await.1;
    let first = zipped.table("a", "k", "");
    let alone = gateway().upstreams(&first).start().await;
    let gw = gateway().upstreams(&format!("{first}{}", sound.table("b", "k", ""))).start().await;
    let (lone, key) = (alone.key("wide").await, gw.key("wide").await);
    for stream in ["", r#","stream":true"#] {
        let reply = ask(&alone, &lone, SURFACES[0], "u", stream).await;
        assert_eq!((reply.status, reply.code()), (502, "upstream_bad_reply".to_owned()));
        assert_eq!(ask(&gw, &key, SURFACES[0], "u", stream).await.status, 200);
    }
    assert_eq!(alone.used(lone.user).await, (0, 0));
    gw.finish().await;
    alone.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_surface_that_a_model_lacks_is_named() {
    let only = "[[upstreams]]\nname = \"plain\"\nbase_url = \"{simulator}/v1\"\napi_key = \"k\"\nsurfaces = [\"completions\", \"embeddings\"]\n";
    let gw = gateway().upstreams(only).start().await;
    let key = gw.key("wide").await;
    let reply = ask(&gw, &key, "/v1/responses", "u", "").await;
    assert_eq!((reply.status, reply.code()), (404, "model_not_found".to_owned()));
    let text = "is not available on /v1/responses; use /v1/completions, /v1/embeddings.";
    assert!(reply.text().contains(text), "{}", reply.text());
    gw.finish().await;
}
