//! What crosses the gateway and what does not, and how its connections to upstreams are used.

use crate::support::faulty_upstream::FaultyUpstream;
use crate::support::http_client::Call;
use crate::support::recording_upstream::{RecordingUpstream, Then};
use crate::support::{body, by, gateway};
use std::collections::BTreeSet;

#[tokio::test(flavor = "multi_thread")]
async fn only_the_operators_credentials_and_safe_headers_are_forwarded() {
    let recorder = RecordingUpstream::start(Then::Goes).await;
    let gw = gateway().upstreams(&recorder.table()).start().await;
    let key = gw.key("wide").await;
    let mut call = gw
        .chat(&key, &body("hi", ""))
        .header("connection", "x-nominated, content-type, authorization, x-request-id")
        .header("connection", "x-second");
    for (name, value) in [
        ("x-nominated", "1"),
        ("x-second", "1"),
        ("x-kx-anything", "1"),
        ("x-api-key", &key.text),
        ("api-key", &key.text),
        ("x-copy-of-key", &format!("Bearer {}", key.text)),
        ("cookie", "session=1"),
        ("proxy-authorization", "Basic x"),
        ("proxy-connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("trailer", "x-t"),
        ("upgrade", "websocket"),
        ("forwarded", "for=10.0.0.1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-host", "evil"),
        ("x-real-ip", "10.0.0.1"),
        ("x-request-id", "mine"),
        ("origin", "https://a"),
        ("referer", "https://a/secret"),
        ("content-encoding", "identity"),
        ("accept-encoding", "gzip, br"),
        ("x-original-url", "/admin"),
        ("x-rewrite-url", "/admin"),
        ("x-http-method-override", "DELETE"),
        ("idempotency-key", "1"),
        ("content_length", "3"),
        ("transfer_encoding", "chunked"),
        ("x-stainless-lang", "python"),
        ("x-codex-turn-metadata", "/home/me"),
        ("user-agent", "curl/8"),
        ("accept", "text/html"),
        ("session_id", "1"),
        ("openai-organization", "org-callers"),
        ("openai-beta", &format!("copy={}", key.text)),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "one"),
        ("anthropic-beta", "two"),
        ("x-grok-conv-id", "kept"),
    ] {
        call = call.header(name, value);
    }
    let reply = call.send().await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let received = &recorder.received()[0];
    let names: BTreeSet<&str> = received.names().into_iter().collect();
    let expected = [
        "accept",
        "accept-encoding",
        "anthropic-beta",
        "anthropic-version",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "x-grok-conv-id",
        "x-request-id",
    ];
    assert_eq!(names, expected.into(), "{:?}", received.lines);
    assert_eq!(received.header("anthropic-beta"), ["one", "two"]);
    assert_eq!(received.names().len(), expected.len() + 1, "each once: {:?}", received.lines);
    assert_eq!(received.header("accept"), ["application/json"]);
    assert!(received.header("user-agent")[0].starts_with("knockx/"));
    assert_eq!(received.lines[0], "POST /v1/chat/completions HTTP/1.1");
    assert_eq!(received.header("authorization"), ["Bearer operators-own"]);
    assert_eq!(received.header("host"), [recorder.addr.to_string()]);
    assert_eq!(received.header("content-type"), ["application/json"]);
    let id: domain::id::RequestId = reply.header("x-request-id").parse().unwrap();
    assert_eq!(received.header("x-request-id"), [id.0.to_string()], "a bare UUID");
    assert!(!reply.headers.contains_key("x-internal"), "nominated by the upstream");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_safe_upstream_headers_reach_the_caller() {
    let (recorder, trouble) =
        (RecordingUpstream::start(Then::Goes).await, FaultyUpstream::start().await);
    let streams = format!("http://{}/golden-stream.sse/headers/v1", trouble.addr);
    for (table, members) in [
        (recorder.table(), ""),
        (
            format!(
                "[[upstreams]]\nname = \"stream\"\nbase_url = {streams:?}\napi_key = \"operators-own\"\n"
            ),
            r#","stream":true"#,
        ),
    ] {
        let gw = gateway().upstreams(&table).start().await;
        let key = gw.key("wide").await;
        let reply = gw.ask(&key, &body("hi", members)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let said = format!("{:?}", reply.headers);
        for leak in ["secret", "31337", "operators-own", "12.5", "anthropic", "10.0.0.1"] {
            assert!(!said.contains(leak), "{leak}: {said}");
        }
        assert_eq!(reply.header("openai-processing-ms"), "17");
        assert_eq!(reply.header("openai-version"), "2020-10-01");
        assert_eq!(reply.header("x-metrics-ttft-ms"), "8.5");
        assert_eq!(reply.header("x-upstream-request-id"), "up-1");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        gw.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_data_plane_response_has_security_headers() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let chat = |members: &str| gw.chat(&key, &body("hi", members));
    let post = |path: &str| Call::post(gw.addr(), path).key(&key.text);
    for (call, expected) in [
        (chat(""), "no-store"),
        (chat(r#","stream":true"#), "no-cache"),
        (chat(r#","n":"x""#), "no-store"),
        (chat("").header("x-sim-fault", "500"), "no-store"),
        (post("/v1/nothing"), "no-store"),
        (post("/v1/models"), "no-store"),
        (post("/v1/messages").body("{}"), "no-store"),
        (Call::get(gw.addr(), "/v1/models").key(&key.text), "private, no-cache"),
        (Call::get(gw.addr(), "/v1/models"), "no-store"),
        (Call::get(gw.addr(), "/v1/responses/none").key(&key.text), "no-store"),
        (Call::new(gw.addr(), "OPTIONS", "/v1/models"), "no-store"),
        (Call::get(gw.addr(), "/v1/models").header("x-large", &"x".repeat(70_000)), "no-store"),
    ] {
        let reply = call.send().await;
        let said = format!("{} {:?}", reply.status, reply.headers);
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{said}");
        assert_eq!(reply.header("cache-control"), expected, "{said}");
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_never_echoed() {
    let gw = gateway().start().await;
    let (key, plan) = (gw.key("wide").await, "wide");
    let other = gw.key(plan).await;
    gw.running.store.revoke_key(&other.id, &by()).await.unwrap().unwrap();
    let mistyped = format!("{}xx", &key.text[..key.text.len() - 1]);
    let text = body("hi", "");
    let mut replies = Vec::new();
    for presented in [&key.text, &other.text, &mistyped] {
        let query = format!("/v1/unknown?key={presented}");
        replies.push(Call::get(gw.addr(), &query).key(presented).send().await);
        replies.push(Call::get(gw.addr(), "/v1/models").key(presented).send().await);
        for sent in [text.as_str(), "{", &text.replace("grok-4.3", "none")] {
            let call = Call::post(gw.addr(), "/v1/chat/completions").key(presented);
            replies.push(call.body(sent.to_owned()).send().await);
        }
    }
    for fault in ["500", "wrong-key", "garbage", "error-200", "429"] {
        replies.push(gw.chat(&key, &text).header("x-sim-fault", fault).send().await);
    }
    for reply in replies {
        let headers = format!("{:?}", reply.headers);
        let said = format!("{headers} {}", String::from_utf8_lossy(&reply.body));
        for key in [&key, &other] {
            assert!(!said.contains(&key.text[..20]), "{said}");
        }
        assert!(!said.contains("sim-test-key"), "{said}");
        assert!(!reply.header("x-request-id").is_empty(), "{said}");
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sequential_calls_reuse_a_connection() {
    let recorder = RecordingUpstream::start(Then::Goes).await;
    let gw = gateway().upstreams(&recorder.table()).start().await;
    let key = gw.key("wide").await;
    for _ in 0..5 {
        assert_eq!(gw.ask(&key, &body("hi", "")).await.status, 200);
    }
    let connections: Vec<_> = recorder.received().iter().map(|one| one.connection).collect();
    assert_eq!(connections, [0; 5]);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_reused_connection_is_replaced() {
    let recorder = RecordingUpstream::start(Then::Dies).await;
    let gw = gateway().upstreams(&recorder.table()).start().await;
    let key = gw.key("wide").await;
    for _ in 0..3 {
        let reply = gw.ask(&key, &body("hi", "")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let connections: Vec<_> = recorder.received().iter().map(|one| one.connection).collect();
    assert_eq!(connections, [0, 0, 1, 1, 2]);
    assert_eq!(gw.used(key.user).await, (12, 3), "each call is charged once");
    gw.finish().await;
}
