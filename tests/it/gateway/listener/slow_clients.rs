//! Peers that take their time: each costs a bounded time, a bounded buffer and one connection.

use crate::support::http_client::Call;
use crate::support::raw_socket::{self, RawSocket, statuses, with_small_buffers};
use crate::support::{SOON, body, by, gateway, soon};
use domain::charge::Status;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than any bound these tests set, shorter than any default.
const QUICK: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_slow_head_is_408() {
    let gw = gateway().listener("header_timeout = 0.3\nkeepalive = 0.3").start().await;
    let started = Instant::now();
    for begun in ["", "POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\n"] {
        let reply = RawSocket::connect(gw.addr()).await.send(begun).await.everything().await;
        assert_eq!(statuses(&reply), [408], "{reply}");
    }
    let mut dripping = TcpStream::connect(gw.addr()).await.unwrap();
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    while dripping.write_all(b"x").await.is_ok() && started.elapsed() < QUICK {
        pace.tick().await;
    }
    assert!(started.elapsed() < QUICK, "{:?}", started.elapsed());
    // Between two requests an idle connection is closed without a word, a begun head is answered.
    for (begun, expected) in [("", vec![200]), ("GET /health", vec![200, 408])] {
        let mut raw = RawSocket::connect(gw.addr()).await;
        let ping = format!("GET /health/ping HTTP/1.1\r\nHost: g\r\n\r\n{begun}");
        let replies = raw.send(ping).await.everything().await;
        assert_eq!(statuses(&replies), expected, "{replies}");
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_or_slow_body_is_408() {
    let gw = gateway().listener("body_timeout = 0.3").start().await;
    let key = gw.key("wide").await;
    for framing in
        ["Content-Length: 100\r\n\r\n{\"model\"", "Transfer-Encoding: chunked\r\n\r\n8\r\n{\"mo"]
    {
        let mut raw = RawSocket::connect(gw.addr()).await;
        let reply = raw.send(raw_socket::head(&key.text, framing)).await.everything().await;
        assert_eq!(statuses(&reply), [408], "{reply}");
    }
    assert_eq!(gw.used(key.user).await, (0, 0));
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_bound_are_closed_and_the_others_served() {
    let gw = gateway().listener("max_connections = 2").start().await;
    let key = gw.key("wide").await;
    let ping = "GET /health/ping HTTP/1.1\r\nHost: g\r\n\r\n";
    let mut first = RawSocket::connect(gw.addr()).await;
    let mut second = RawSocket::connect(gw.addr()).await;
    first.send(ping).await.until("200 OK").await;
    second.send(ping).await.until("200 OK").await;
    assert_eq!(RawSocket::connect(gw.addr()).await.everything().await, "", "closed at once");
    first.send(ping).await.until("200 OK").await;
    drop(first);
    soon("a place is free again", || async {
        let mut third = RawSocket::connect(gw.addr()).await;
        third.send(ping).await;
        let mut byte = [0];
        third.stream.read(&mut byte).await.is_ok_and(|read| read > 0)
    })
    .await;
    drop(second);
    soon("calls are served", || async {
        let Ok(mut stream) = TcpStream::connect(gw.addr()).await else { return false };
        let close = "Connection: close\r\n";
        let _ =
            stream.write_all(raw_socket::chat(&key.text, close, &body("hi", "")).as_bytes()).await;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.is_ok() && statuses(&reply) == [200]
    })
    .await;
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_reads_nothing_counts_as_disconnected() {
    let gw =
        gateway().listener("write_timeout = 0.4").simulator(|s| s.tokens = 400_000).start().await;
    let key = gw.key("wide").await;
    let mut stream = with_small_buffers(gw.addr()).await;
    let call = raw_socket::chat(&key.text, "", &body("talk", r#","stream":true"#));
    stream.write_all(call.as_bytes()).await.unwrap();
    soon("the call is admitted", || async { gw.running.quota.open_leases() == 1 }).await;
    soon("the upstream is cancelled", || async {
        gw.simulator.log.entries().iter().any(|entry| entry.aborted_by_client)
    })
    .await;
    gw.settled().await;
    let charges = crate::support::recent_charges(&gw.running.store).await;
    let charge = gw.charge(&charges[0].request.to_string()).await;
    assert_eq!(charge.status, Status::CutByClient);
    assert!(charge.tokens.completion > 0, "never free: {charge:?}");
    drop(stream);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_reads_nothing_loses_its_connection() {
    let gw = gateway().listener("write_timeout = 0.4\nmax_connections = 1").start().await;
    let preflight =
        "OPTIONS /v1/models HTTP/1.1\r\nHost: g\r\nOrigin: https://a\r\n\r\n".repeat(64);
    let mut stream = with_small_buffers(gw.addr()).await;
    let flooded = async { while stream.write_all(preflight.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(SOON, flooded).await.expect("the gateway gives up on it");
    soon("its place is free", || async {
        let mut raw = RawSocket::connect(gw.addr()).await;
        raw.send("GET /health/ping HTTP/1.1\r\nHost: g\r\n\r\n").await;
        let mut byte = [0];
        raw.stream.read(&mut byte).await.is_ok_and(|read| read > 0)
    })
    .await;
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_ends_an_unread_stream() {
    let gw = gateway().simulator(|s| s.tokens = 400_000).start().await;
    let key = gw.key("wide").await;
    let mut stream = with_small_buffers(gw.addr()).await;
    let call = raw_socket::chat(&key.text, "", &body("talk", r#","stream":true"#));
    stream.write_all(call.as_bytes()).await.unwrap();
    soon("the call is admitted", || async { gw.running.quota.open_leases() == 1 }).await;
    gw.running.store.revoke_key(&key.id, &by()).await.unwrap().unwrap();
    let revoked = Instant::now();
    soon("the call is settled", || async { gw.running.quota.open_leases() == 0 }).await;
    assert!(revoked.elapsed() < Duration::from_secs(2), "{:?}", revoked.elapsed());
    drop(stream);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_sent_request_is_not_a_call() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let whole = raw_socket::chat(&key.text, "", &body("hi", ""));
    for cut in [1, 20, whole.len() / 2, whole.len() - 1] {
        let mut raw = RawSocket::connect(gw.addr()).await;
        raw.send(&whole.as_bytes()[..cut]).await;
        raw.stream.shutdown().await.unwrap();
        let reply = raw.everything().await;
        assert!(matches!(statuses(&reply)[..], [] | [400]), "{cut}: {reply}");
    }
    assert_eq!(gw.simulator.log.totals().requests, 0);
    assert_eq!(Call::get(gw.addr(), "/health/ping").send().await.status, 200);
    gw.finish().await;
}
