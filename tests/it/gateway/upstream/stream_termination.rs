//! Every way a call can end: what the caller sees, what is charged, what is left.

use crate::support::http_client::{Reply, Shared};
use crate::support::raw_socket::RawSocket;
use crate::support::scripted_upstream::{self, ScriptedUpstream};
use crate::support::surfaces::TEXT_SURFACES;
use crate::support::{Gateway, body, gateway, soon};
use domain::charge::Status;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;

const STREAM: &str = r#","stream":true"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_cancels_the_upstream_and_charges_the_output() {
    let gw = gateway()
        .simulator(|s| (s.token_gap, s.tokens) = (Duration::from_millis(5), 100_000))
        .start()
        .await;
    let key = gw.key("wide").await;
    let mut open = gw.chat(&key, &body("talk for long", STREAM)).open().await;
    let request = open.headers["x-request-id"].to_str().unwrap().to_owned();
    for _ in 0..5 {
        open.next().await.expect("tokens flow");
    }
    drop(open);
    let hung_up = std::time::Instant::now();
    upstream_noticed(&gw).await;
    assert!(hung_up.elapsed() < Duration::from_secs(1), "{:?}", hung_up.elapsed());
    let charge = gw.charge(&request).await;
    assert_eq!(charge.status, Status::CutByClient);
    assert!(charge.tokens.completion >= 4, "{charge:?}");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_is_noticed_while_the_upstream_is_silent() {
    for members in [STREAM, ""] {
        let gw = gateway()
            .simulator(|s| s.first_token = Duration::from_secs(600))
            .limits("drain = 0.2")
            .start()
            .await;
        let key = gw.key("wide").await;
        let call = gw.chat(&key, &body("think", members));
        let waiting = tokio::spawn(call.open());
        soon("the call reaches the upstream", || async { gw.running.quota.open_leases() == 1 })
            .await;
        soon("the simulator has it", || async { gw.simulator.log.totals().requests == 1 }).await;
        waiting.abort();
        // A head that came first is kept in the handle, and its connection with it.
        drop(waiting);
        let request_charge = gw.only_charge().await;
        assert_eq!(request_charge.status, Status::CutByClient);
        assert!(request_charge.tokens.prompt > 0, "never free: {request_charge:?}");
        gw.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_stream_never_looks_complete() {
    for fault in ["cut=3", "close=3", "error-event=3", "oversize"] {
        let gw = gateway().limits("event_bytes = 1048576").start().await;
        let key = gw.key("wide").await;
        let reply = gw.chat(&key, &body("hi", STREAM)).header("x-sim-fault", fault).send().await;
        assert_eq!(reply.status, 200, "{fault}");
        assert!(!reply.is_done(), "{fault}: {}", reply.text());
        assert!(reply.text().contains(r#""error":{"#), "{fault}: {}", reply.text());
        let charge = gw.charge(reply.header("x-request-id")).await;
        assert_eq!(charge.status, Status::CutByUpstream, "{fault}");
        gw.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_stream_is_truncated_on_the_wire_too() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let shared = Shared::over(TcpStream::connect(gw.addr()).await.unwrap()).await;
    for surface in &TEXT_SURFACES {
        let (path, end) = (surface.path, surface.end);
        let body = surface.body("hi", json!({"stream": true}));
        for (fault, is_cut) in [("", false), ("x-sim-fault: cut=6\r\n", true)] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {}\r\nConnection: close\r\n{fault}",
                key.text
            );
            let call = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
            let reply = RawSocket::connect(gw.addr()).await.send(call).await.everything().await;
            assert_eq!(reply.ends_with("\r\n0\r\n\r\n"), !is_cut, "{path}: {reply}");
            assert_eq!(reply.contains("The response is incomplete"), is_cut, "{path}: {reply}");
            assert_eq!(reply.contains(end), !is_cut, "{path}: {reply}");
        }
        for fault in ["cut=6", "error-event=4"] {
            let call = format!(
                "POST {path} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {}\r\nx-sim-fault: {fault}\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                key.text,
                body.len()
            );
            let reply = RawSocket::connect(gw.addr()).await.send(call).await.everything().await;
            assert!(!reply.ends_with("\r\n0\r\n\r\n"), "{path}: {reply}");
            // With it Node's client accepts a truncated body as complete.
            assert!(!reply.to_ascii_lowercase().contains("connection: close"), "{path}: {reply}");
        }
        for is_cut in [false, true] {
            let call = surface.call(&gw, &key, &body);
            let call = if is_cut { call.header("x-sim-fault", "cut=6") } else { call };
            let reply = shared.send(call).await;
            assert_eq!(reply.whole, !is_cut, "{path}: {}", reply.text());
            let text = reply.text();
            assert_eq!(text.contains("The response is incomplete"), is_cut, "{path}: {text}");
        }
    }
    let after = shared.send(gw.chat(&key, &body("after", ""))).await;
    assert_eq!(after.status, 200, "the connection goes on");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_upstream_is_kept_alive_by_comments_and_then_cut() {
    let upstream = "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{simulator}/v1\"\napi_key = \"sim-test-key\"\nidle_timeout = 0.4\n";
    let gw = gateway().upstreams(upstream).limits("keepalive_comment = 0.1").start().await;
    let key = gw.key("wide").await;
    let reply = gw.chat(&key, &body("hi", STREAM)).header("x-sim-fault", "stall=2").send().await;
    assert!(reply.text().contains("\n\n: keep-alive\n\n"), "{}", reply.text());
    assert!(reply.text().contains("upstream_cut") && !reply.is_done());
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upstream_failures_before_the_first_byte_are_errors_and_cost_nothing() {
    let upstream = "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{simulator}/v1\"\napi_key = \"sim-test-key\"\nfirst_byte_timeout = 3\n";
    for (fault, status, code) in [
        ("500", 502, "upstream_error"),
        ("503", 503, "upstream_unavailable"),
        ("429", 429, "rate_limit_exceeded"),
        ("html", 502, "upstream_error"),
        ("error-200", 503, "upstream_unavailable"),
        ("wrong-key", 502, "upstream_auth"),
        ("refuse-headers", 502, "upstream_closed"),
    ] {
        for members in ["", STREAM] {
            let gw = gateway().upstreams(upstream).start().await;
            let key = gw.key("wide").await;
            let reply =
                gw.chat(&key, &body("hi", members)).header("x-sim-fault", fault).send().await;
            let seen = (reply.status, reply.code());
            assert_eq!(seen.0, status, "{fault} {members}: {}", reply.text());
            assert_eq!(seen.1, code, "{fault} {members}: {}", reply.text());
            let charge = gw.charge(reply.header("x-request-id")).await;
            assert_eq!((charge.status, charge.tokens.total()), (Status::Failed, 0), "{fault}");
            assert_eq!(gw.used(key.user).await.0, 0, "{fault}");
            gw.finish().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_response_is_an_error_and_costs_nothing() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    for fault in ["garbage", "empty", "cut"] {
        let reply = gw.chat(&key, &body("hi", "")).header("x-sim-fault", fault).send().await;
        assert_eq!((reply.status, reply.code().as_str()), (502, "upstream_bad_reply"), "{fault}");
        let charge = gw.charge(reply.header("x-request-id")).await;
        assert_eq!((charge.status, charge.tokens.total()), (Status::Failed, 0), "{fault}");
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_of_the_upstream_is_forwarded() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let reply = gw.chat(&key, &body("hi", "")).header("x-sim-fault", "429=7").send().await;
    assert_eq!((reply.status, reply.header("retry-after")), (429, "7"));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reply_to_a_known_caller_has_the_quota_headers() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let other = body("hi", "").replace("grok", "grak");
    let calls = [
        gw.chat(&key, "not json"),
        gw.chat(&key, &other),
        gw.chat(&key, &body("hi", "")).header("x-sim-fault", "500"),
    ];
    let mut left = Vec::new();
    for call in calls {
        let reply = call.send().await;
        assert!(reply.status >= 400, "{}", reply.status);
        let of = |name| reply.header(name).parse::<u64>().unwrap();
        left.push((of("x-kx-quota-day-tokens-remaining"), of("x-kx-quota-day-requests-remaining")));
    }
    assert!(left.iter().all(|then| *then == left[0]), "what failed gave everything back: {left:?}");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_upstream_is_tried_before_the_first_byte() {
    let upstreams = "[[upstreams]]\nname = \"dead\"\nbase_url = \"http://127.0.0.1:9/v1\"\napi_key = \"x\"\n\
        [[upstreams]]\nname = \"simulator\"\nbase_url = \"{simulator}/v1\"\napi_key = \"sim-test-key\"\n";
    let gw = gateway().upstreams(upstreams).start().await;
    let key = gw.key("wide").await;
    let reply = gw.ask(&key, &body("hi", STREAM)).await;
    assert!(reply.is_done());
    let charge = gw.charge(reply.header("x-request-id")).await;
    assert_eq!(&*charge.upstream, "simulator");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_usage_is_counted_by_the_gateway() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    for members in ["", STREAM] {
        let with = gw.ask(&key, &body("count me", members)).await;
        let without = gw
            .chat(&key, &body("count me", members))
            .header("x-sim-fault", "no-usage")
            .send()
            .await;
        let reported = gw.charge(with.header("x-request-id")).await;
        let counted = gw.charge(without.header("x-request-id")).await;
        assert_eq!(counted.source, domain::charge::Source::Estimated);
        assert_eq!(counted.status, Status::Complete);
        assert_eq!(counted.tokens, reported.tokens, "{members}");
        assert!(!without.text().contains("prompt_tokens"), "{}", without.text());
    }
    gw.finish().await;
}

/// The caller asked for usage, and gets what is charged.
#[tokio::test(flavor = "multi_thread")]
async fn a_requested_usage_chunk_that_the_upstream_does_not_send_is_supplied() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let asked = r#","stream":true,"stream_options":{"include_usage":true}"#;
    let usage = |reply: &Reply| {
        let events = reply.events();
        assert_eq!(events.last().unwrap(), "[DONE]");
        let mut chunk: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
        assert_eq!(chunk["choices"], json!([]));
        chunk["usage"].take()
    };
    let with = gw.ask(&key, &body("count me", asked)).await;
    let call = gw.chat(&key, &body("count me", asked)).header("x-sim-fault", "no-usage");
    let without = call.send().await;
    let charge = gw.charge(without.header("x-request-id")).await;
    assert_eq!(charge.source, domain::charge::Source::Estimated);
    let told = usage(&without);
    assert_eq!(told["prompt_tokens"], charge.tokens.prompt);
    assert_eq!(told["completion_tokens"], charge.tokens.completion + charge.tokens.reasoning);
    assert_eq!(told["total_tokens"], usage(&with)["total_tokens"]);
    gw.finish().await;
}

/// Clients of OpenAI wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_complete_stream_gets_the_end_marker_that_its_upstream_forgot() {
    let chunk = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}"#;
    let usage = r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}"#;
    let asked = r#","stream":true,"stream_options":{"include_usage":true}"#;
    for sent in [&[chunk, usage][..], &[chunk]] {
        let reply = scripted_upstream::events(sent);
        let upstream = ScriptedUpstream::start(move |_| reply.clone()).await;
        let gw = gateway().upstreams(&upstream.table("scripted", "k", "")).start().await;
        let key = gw.key("wide").await;
        let reply = gw.ask(&key, &body("hi", asked)).await;
        let events = reply.events();
        assert!(reply.whole && events.len() == 3, "{}", reply.text());
        assert_eq!((&*events[0], &*events[2]), (chunk, "[DONE]"));
        let charge = gw.charge(reply.header("x-request-id")).await;
        assert_eq!(charge.status, Status::Complete);
        let shown: Value = serde_json::from_str(&events[1]).unwrap();
        assert_eq!(shown["usage"]["total_tokens"], charge.tokens.total());
        gw.finish().await;
    }
}

async fn upstream_noticed(gw: &Gateway) {
    soon("the upstream is cancelled", || async {
        gw.simulator.log.entries().iter().any(|entry| entry.aborted_by_client)
    })
    .await;
}
