//! Requests that two servers could read differently: refused, and nothing behind them is read.

use crate::support::http_client::{Call, Shared};
use crate::support::raw_socket::{self, RawSocket, statuses};
use crate::support::{Gateway, Key, body, gateway};
use tokio::net::TcpStream;

/// What stands behind a refused request: a call that would cost something.
fn smuggled(key: &Key) -> String {
    raw_socket::chat(&key.text, "", &body("smuggled", ""))
}

/// Sends `shape` with a good call behind it: there is one reply, and no call.
async fn refused(gw: &Gateway, key: &Key, shape: &str, status: u16) {
    let mut raw = RawSocket::connect(gw.addr()).await;
    let reply = raw.send(format!("{shape}{}", smuggled(key))).await.everything().await;
    assert_eq!(statuses(&reply), [status], "{shape:?}: {reply}");
    assert!(reply.to_lowercase().contains("\r\nconnection: close\r\n"), "{shape:?}: {reply}");
    assert!(reply.contains(r#""type":"invalid_request_error""#), "{shape:?}: {reply}");
    assert_eq!(gw.simulator.log.totals().requests, 0, "{shape:?}");
    assert_eq!(gw.used(key.user).await, (0, 0), "{shape:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_heads_end_the_connection() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let text = body("hi", "");
    let length = text.len();
    let chunked = format!("{length:x}\r\n{text}\r\n0\r\n\r\n");
    for fields in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}"),
        format!("Content-Length: {length}\r\nContent-Length: {length}"),
        format!("Content-Length: {length}\r\nContent-Length: 0"),
        format!("Content-Length: {length}, {length}"),
        format!("Content-Length: +{length}"),
        format!("Content-Length: -{length}"),
        format!("Content-Length: 0x{length:x}"),
        format!("Content-Length: {length} 0"),
        "Content-Length: 340282366920938463463374607431768211456".to_owned(),
        "Content-Length: ".to_owned(),
        format!("Content-Length : {length}"),
        format!("Content-Length\t: {length}"),
        format!("Content-Length: {length}\r\nx-folded: 1\r\n Transfer-Encoding: chunked"),
        format!("x-nul: a\0b\r\nContent-Length: {length}"),
        format!("x-cr: a\rTransfer-Encoding: chunked\r\nContent-Length: {length}"),
        format!("x-lf: a\nTransfer-Encoding: chunked\r\nContent-Length: {length}"),
        format!("Host: other\r\nContent-Length: {length}"),
        format!(": nameless\r\nContent-Length: {length}"),
        format!("no colon\r\nContent-Length: {length}"),
    ] {
        refused(
            &gw,
            &key,
            &format!("{}{fields}\r\n\r\n{text}", raw_socket::head(&key.text, "")),
            400,
        )
        .await;
    }
    for encoding in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: \"chunked\"",
    ] {
        let shape = format!("{}{encoding}\r\n\r\n{chunked}", raw_socket::head(&key.text, ""));
        refused(&gw, &key, &shape, 400).await;
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_request_lines_end_the_connection() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let text = body("hi", "");
    for line in [
        "POST http://gateway/v1/chat/completions HTTP/1.1",
        "POST http://other/v1/chat/completions HTTP/1.1",
        "POST gateway/v1/chat/completions HTTP/1.1",
        "POST  /v1/chat/completions HTTP/1.1",
        "POST /v1/chat/completions  HTTP/1.1",
        "POST /v1/chat completions HTTP/1.1",
        "POST\t/v1/chat/completions\tHTTP/1.1",
        "POST /v1/chat/completions HTTP/1.1 ",
        "POST /v1/chat/completions HTTP/2.0",
        "POST /v1/chat/completions HTTP/0.9",
        "POST /v1/chat/completions",
        "POST /v1/chat/\u{1}completions HTTP/1.1",
        "POST /v1/chat/c\u{f6}mpletions HTTP/1.1",
        "P\u{f6}ST /v1/chat/completions HTTP/1.1",
        "CONNECT gateway:443 HTTP/1.1",
        "CONNECT /v1/chat/completions:443 HTTP/1.1\r\nHost: again",
        "GET * HTTP/1.1",
        "PRI * HTTP/2.0",
        "\u{16}\u{3}\u{1} TLS",
    ] {
        let good = raw_socket::chat(&key.text, "", &text);
        let rest = good.split_once("\r\n").unwrap().1;
        refused(&gw, &key, &format!("{line}\r\n{rest}"), 400).await;
    }
    let no_host = raw_socket::chat(&key.text, "", &text).replace("Host: gateway\r\n", "");
    refused(&gw, &key, &no_host, 400).await;
    let all_bare = raw_socket::chat(&key.text, "", &text).replace("\r\n", "\n");
    refused(&gw, &key, &all_bare, 400).await;
    let old_and_chunked = format!(
        "{}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        raw_socket::head(&key.text, "").replace("HTTP/1.1", "HTTP/1.0")
    );
    refused(&gw, &key, &old_and_chunked, 400).await;
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_with_bad_chunks_end_the_connection() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let text = body("hi", "");
    let size = format!("{:x}", text.len());
    for chunks in [
        format!("-{size}\r\n{text}\r\n0\r\n\r\n"),
        format!("+{size}\r\n{text}\r\n0\r\n\r\n"),
        format!("0x{size}\r\n{text}\r\n0\r\n\r\n"),
        format!(" {size}\r\n{text}\r\n0\r\n\r\n"),
        format!("{size}g\r\n{text}\r\n0\r\n\r\n"),
        format!("\r\n{text}\r\n0\r\n\r\n"),
        format!(";ext\r\n{text}\r\n0\r\n\r\n"),
        format!("ffffffffffffffff\r\n{text}\r\n0\r\n\r\n"),
        format!("1ffffffffffffffff\r\n{text}\r\n0\r\n\r\n"),
        format!("{size}\n{text}\r\n0\r\n\r\n"),
        format!("{size};a\n{text}\r\n0\r\n\r\n"),
        format!("{size}\r{text}\r\n0\r\n\r\n"),
        format!("{size}\r\n{text}XX0\r\n\r\n"),
        format!("{size}\r\n{text}\n0\r\n\r\n"),
        format!("{size};{}\r\n{text}\r\n0\r\n\r\n", "e".repeat(100_000)),
    ] {
        let head = raw_socket::head(&key.text, "Transfer-Encoding: chunked\r\n\r\n");
        refused(&gw, &key, &format!("{head}{chunks}"), 400).await;
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn valid_chunks_are_one_body_followed_by_the_next_request() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let text = body("hi", "");
    let (first, second) = text.split_at(7);
    let chunked = format!(
        "7;ext=\"1\"\r\n{first}\r\n{:X}\r\n{second}\r\n0\r\nx-trailer: 1\r\nauthorization: Bearer no\r\n\r\n",
        second.len()
    );
    let head = raw_socket::head(&key.text, "Transfer-Encoding: chunked\r\n\r\n");
    let last = raw_socket::chat(&key.text, "Connection: close\r\n", "not json");
    let all = format!("\r\n{head}{chunked}{head}{chunked}{last}");
    for piece in [all.len(), 100, 7, 1] {
        let asked = gw.simulator.log.totals().requests;
        let mut raw = RawSocket::connect(gw.addr()).await;
        for bytes in all.as_bytes().chunks(piece) {
            raw.send(bytes).await;
        }
        let reply = raw.everything().await;
        assert_eq!(statuses(&reply), [200, 200, 400], "{piece}: {reply}");
        assert_eq!(gw.simulator.log.totals().requests, asked + 2);
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let model = |id: &str| {
        format!(
            "GET /v1/models/{id} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {}\r\n\r\n",
            key.text
        )
    };
    let streamed = raw_socket::chat(&key.text, "", &body("stream", r#","stream":true"#));
    let whole = raw_socket::chat(&key.text, "", &body("whole", ""));
    let last = raw_socket::chat(&key.text, "Connection: close\r\n", "not json");
    let all = [model("none-1"), streamed, model("none-2"), whole, model("none-3"), last].concat();
    for piece in [all.len(), 1000, 7] {
        let mut raw = RawSocket::connect(gw.addr()).await;
        for bytes in all.as_bytes().chunks(piece) {
            raw.send(bytes).await;
        }
        let replies = raw.everything().await;
        assert_eq!(statuses(&replies), [404, 200, 404, 200, 404, 400], "{piece}: {replies}");
        let order: Vec<_> = ["`none-1`", "[DONE]", "`none-2`", "chat.completion\"", "`none-3`"]
            .iter()
            .map(|mark| replies.find(mark).unwrap_or_else(|| panic!("{mark}: {replies}")))
            .collect();
        assert!(order.is_sorted(), "{order:?}");
    }
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_body_is_not_read_as_the_next_request() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let inner = smuggled(&key);
    let head = raw_socket::head("sk-kx-wrong", &format!("Content-Length: {}\r\n\r\n", inner.len()));
    let mut raw = RawSocket::connect(gw.addr()).await;
    let reply = raw.send(format!("{head}{inner}{inner}")).await.everything().await;
    assert_eq!(statuses(&reply), [401], "{reply}");
    assert_eq!(gw.simulator.log.totals().requests, 0);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expect_continue_is_answered_only_for_valid_callers() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let text = body("hi", "");
    let fields = format!(
        "Expect: 100-continue\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        text.len()
    );
    let mut stranger = RawSocket::connect(gw.addr()).await;
    let refused = stranger.send(raw_socket::head("sk-kx-wrong", &fields)).await.until("}").await;
    assert_eq!(statuses(&refused), [401], "{refused}");
    let mut caller = RawSocket::connect(gw.addr()).await;
    let asked = caller.send(raw_socket::head(&key.text, &fields)).await.until("\r\n\r\n").await;
    assert_eq!(statuses(&asked), [100], "{asked}");
    let reply = caller.send(&text).await.everything().await;
    assert_eq!(statuses(&reply), [200], "{reply}");
    let mut old = RawSocket::connect(gw.addr()).await;
    let head = raw_socket::head(&key.text, &fields).replace("HTTP/1.1", "HTTP/1.0");
    let reply = old.send(format!("{head}{text}")).await.everything().await;
    assert_eq!(statuses(&reply), [200], "no interim answer to HTTP/1.0: {reply}");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_over_the_bounds_are_431() {
    let gw = gateway().listener("header_bytes = 8192").start().await;
    let key = gw.key("wide").await;
    let text = body("hi", "");
    let long = format!("x-long: {}\r\n", "a".repeat(9000));
    let many = "x: 1\r\n".repeat(400);
    for fields in [long.as_str(), many.as_str()] {
        let mut raw = RawSocket::connect(gw.addr()).await;
        let reply = raw.send(raw_socket::chat(&key.text, fields, &text)).await.everything().await;
        assert_eq!(statuses(&reply), [431], "{reply}");
    }
    // A head without an end is refused at the bound, not at its end.
    let mut endless = RawSocket::connect(gw.addr()).await;
    let reply = endless.send("GET / HTTP/1.1\r\nx: ").await.send("a".repeat(9000)).await;
    assert_eq!(statuses(&reply.everything().await), [431]);
    let within = format!("x-long: {}\r\n", "a".repeat(7000));
    let reply = gw.chat(&key, &text).header("x-long", &within[8..7000]).send().await;
    assert_eq!(reply.status, 200);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrades_are_rejected() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let upgrade = "Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    let h2c = "Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    for fields in [upgrade, h2c] {
        let mut raw = RawSocket::connect(gw.addr()).await;
        let reply =
            raw.send(raw_socket::chat(&key.text, fields, &body("hi", ""))).await.everything().await;
        assert_eq!(statuses(&reply), [200], "{reply}");
    }
    let mut raw = RawSocket::connect(gw.addr()).await;
    let reply = raw
        .send("OPTIONS * HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
        .await
        .everything()
        .await;
    assert!(matches!(statuses(&reply)[..], [200..500]), "{reply}");
    assert_eq!(Call::get(gw.addr(), "/health/ping").send().await.status, 200);
    gw.finish().await;
}

/// A reply without a body is sent, and the next request on the connection is served.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_control_plane_response_is_delivered() {
    let gw = gateway().listener("[cors]\norigins = [\"https://a.example\"]").start().await;
    let origin = "Origin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n";
    let preflight = format!("OPTIONS /api/v1/plans HTTP/1.1\r\nHost: g\r\n{origin}\r\n");
    let ping = "GET /health/ping HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n";
    let both = format!("{preflight}{ping}");
    let reply = RawSocket::connect(gw.addr()).await.send(both).await.everything().await;
    assert_eq!(statuses(&reply), [200, 200], "{reply}");
    let shared = Shared::over(TcpStream::connect(gw.addr()).await.unwrap()).await;
    let preflight = Call::new(gw.addr(), "OPTIONS", "/api/v1/plans")
        .header("origin", "https://a.example")
        .header("access-control-request-method", "GET");
    let reply = shared.send(preflight).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("access-control-allow-origin"), "https://a.example");
    gw.finish().await;
}
