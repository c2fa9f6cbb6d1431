//! Streams that begin with comments while their upstream has not begun.

use crate::gateway::quota::concurrent_calls::occupied;
use crate::support::http_client::{Call, Reply, Shared};
use crate::support::surfaces::{Surface, TEXT_SURFACES};
use crate::support::{Gateway, Key, body, gateway};
use domain::charge::Status;
use serde_json::json;
use tokio::net::TcpStream;

const STREAM: &str = r#","stream":true"#;
const COMMENT: &str = ": keep-alive\n\n";
const EARLY: &str = "early_keepalive = 0.05\nkeepalive_comment = 0.05";

fn call(gw: &Gateway, key: &Key, surface: &Surface) -> Call {
    surface.call(gw, key, &surface.body("hi", json!({"stream": true})))
}

/// The reply over HTTP/1.1 and over HTTP/2 to a call with `fault`.
async fn both(gw: &Gateway, key: &Key, surface: &Surface, fault: &str) -> [Reply; 2] {
    let shared = Shared::over(TcpStream::connect(gw.addr()).await.unwrap()).await;
    let call = || call(gw, key, surface).header("x-sim-fault", fault);
    [call().send().await, shared.send(call()).await]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_first_token_is_bridged_by_comments() {
    let gw = gateway().limits(EARLY).start().await;
    let key = gw.key("wide").await;
    for surface in &TEXT_SURFACES {
        let (path, end) = (surface.path, surface.end);
        for reply in both(&gw, &key, surface, "slow-first-byte=500").await {
            assert_eq!((reply.status, reply.whole), (200, true), "{path}");
            assert_eq!(reply.header("content-type"), "text/event-stream");
            assert_eq!(reply.header("x-accel-buffering"), "no");
            let text = reply.text();
            assert!(text.starts_with(&COMMENT.repeat(2)), "{path}: {text}");
            let rest = text.trim_start_matches(COMMENT);
            assert!(rest.starts_with("data: ") || rest.starts_with("event: "), "{path}: {text}");
            assert!(text.contains(end), "{path}: {text}");
            for missing in ["x-ratelimit-limit-requests", "x-upstream-request-id"] {
                assert!(!reply.headers.contains_key(missing), "{path}: {missing}");
            }
            let charge = gw.charge(reply.header("x-request-id")).await;
            assert_eq!(charge.status, Status::Complete, "{path}");
            assert!(charge.tokens.total() > 0, "{path}");
        }
    }
    let call = gw.chat(&key, &body("hi", STREAM)).header("x-sim-fault", "slow-first-byte=60000");
    let mut open = call.open().await;
    assert_eq!(open.next().await.unwrap(), COMMENT, "long before the upstream's head");
    let request = open.headers["x-request-id"].to_str().unwrap().to_owned();
    drop(open);
    let charge = gw.charge(&request).await;
    assert_eq!(charge.status, Status::CutByClient);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_after_comments_is_an_error_event() {
    let upstream = "[[upstreams]]\nname = \"simulator\"\nbase_url = \"{simulator}/v1\"\napi_key = \"sim-test-key\"\nfirst_byte_timeout = 0.4\n\
         surfaces = [\"chat/completions\", \"responses\", \"completions\", \"messages\"]\n";
    for (fault, status) in [
        ("slow-first-byte=5000", Status::CutByUpstream),
        ("slow-first-byte=200,500", Status::Failed),
    ] {
        let gw = gateway().upstreams(upstream).limits(EARLY).start().await;
        let key = gw.key("wide").await;
        for surface in &TEXT_SURFACES {
            let (path, end) = (surface.path, surface.end);
            for reply in both(&gw, &key, surface, fault).await {
                let text = reply.text();
                assert_eq!((reply.status, reply.whole), (200, false), "{path} {fault}: {text}");
                assert!(text.starts_with(COMMENT), "{path} {fault}: {text}");
                assert!(text.contains("error") && !text.contains(end), "{path} {fault}: {text}");
                assert_eq!(text.matches("data: ").count(), 1, "{path} {fault}: {text}");
                let charge = gw.charge(reply.header("x-request-id")).await;
                assert_eq!(charge.status, status, "{path}");
                assert_eq!(charge.tokens.prompt > 0, status == Status::CutByUpstream, "{path}");
            }
        }
        gw.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_after_comments_is_an_error_event() {
    let (gw, key, open) = occupied(&format!("admission_wait = 0.3\n{EARLY}")).await;
    for surface in &TEXT_SURFACES {
        let (path, end) = (surface.path, surface.end);
        let reply = call(&gw, &key, surface).send().await;
        let text = reply.text();
        assert_eq!((reply.status, reply.whole), (200, false), "{path}: {text}");
        assert!(text.starts_with(COMMENT), "{path}: {text}");
        assert!(text.contains("requests in flight") && !text.contains(end), "{path}: {text}");
    }
    let whole = gw.ask(&key, &body("hi", "")).await;
    assert_eq!(whole.status, 429, "a reply in one piece has no comments: {}", whole.text());
    drop(open);
    gw.settled().await;
    assert_eq!(gw.simulator.log.entries().len(), 1, "nothing else was sent upstream");
    assert_eq!(gw.used(key.user).await.1, 1, "the stream alone");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn early_comments_are_off_by_default() {
    let gw = gateway().limits("keepalive_comment = 0.05").start().await;
    let key = gw.key("wide").await;
    for surface in &TEXT_SURFACES {
        let (path, end) = (surface.path, surface.end);
        for reply in both(&gw, &key, surface, "slow-first-byte=300").await {
            assert!(!reply.text().starts_with(':') && reply.text().contains(end), "{path}");
            assert!(reply.headers.contains_key("x-ratelimit-limit-requests"), "{path}");
        }
        let failed = call(&gw, &key, surface).header("x-sim-fault", "slow-first-byte=200,503");
        assert_eq!(failed.send().await.status, 503, "{path}");
    }
    gw.finish().await;
}
