//! Bodies: which are refused and at what cost, and that the others reach the upstream whole.

use crate::support::http_client::Call;
use crate::support::raw_socket::{self, RawSocket, statuses};
use crate::support::recording_upstream::{RecordingUpstream, Then};
use crate::support::{body, gateway};
use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_cannot_be_read_are_400_and_cost_nothing() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    let messages = r#""messages":[{"role":"user","content":"hi"}]"#;
    let model = r#""model":"grok-4.3""#;
    let with = |members: &str| format!("{{{model},{messages},{members}}}");
    let deep = "[".repeat(200) + &"]".repeat(200);
    let deeper = "[".repeat(200_000);
    let wide = (0..300).map(|n| format!("\"k{n}\":0")).collect::<Vec<_>>().join(",");
    for (text, param) in [
        (String::new(), ""),
        ("nonsense".to_owned(), ""),
        ("null".to_owned(), ""),
        ("[]".to_owned(), ""),
        ("\"{}\"".to_owned(), ""),
        ("{".to_owned(), ""),
        (format!("{} trailing", with("\"a\":1")), ""),
        (format!("\u{feff}\u{feff}{}", with("\"a\":1")), ""),
        ("{}".to_owned(), "model"),
        (format!("{{{model}}}"), "messages"),
        (format!("{{{messages}}}"), "model"),
        (format!("{{{model},\"messages\":{{}}}}"), "messages"),
        (format!("{{{model},\"messages\":[]}}"), "messages"),
        (format!("{{{model},\"messages\":[1]}}"), "messages[0]"),
        (format!("{{\"model\":7,{messages}}}"), "model"),
        (format!("{{\"model\":\"\",{messages}}}"), "model"),
        (format!("{{\"model\":\"a\\u0000\",{messages}}}"), "model"),
        (with(model), "model"),
        (with(r#""mod\u0065l":"grok-4.20-0309-reasoning""#), "model"),
        (with(messages), "messages"),
        (with(r#""unknown":1,"unknown":1"#), "unknown"),
        (with(r#""stream":"true""#), "stream"),
        (with(r#""stream":1"#), "stream"),
        (with(r#""n":0"#), "n"),
        (with(r#""n":1.0"#), "n"),
        (with(r#""n":1000000"#), "n"),
        (with(r#""max_tokens":"5""#), "max_tokens"),
        (with(r#""max_tokens":-1"#), "max_tokens"),
        (with(r#""max_tokens":1e999"#), "max_tokens"),
        (with(r#""max_completion_tokens":99999999999999999999"#), "max_completion_tokens"),
        (with(r#""max_tokens":1,"max_tokens":1000000"#), "max_tokens"),
        (with(r#""stream_options":[]"#), "stream_options"),
        (
            with(r#""stream_options":{"include_usage":true,"include_usage":false}"#),
            "stream_options.include_usage",
        ),
        (with(r#""user":"\ud800""#), ""),
        (with(r#""user":"\udc00\ud800""#), ""),
        (with(&format!("\"a\":{deep}")), ""),
        (with(&format!("\"a\":{deeper}")), ""),
        (with(&wide), ""),
        (with(r#""a":01"#), ""),
        (with("\"a\":\"\u{1}\""), ""),
    ] {
        let reply = gw.ask(&key, &text).await;
        let shown: String = text.chars().take(200).collect();
        assert_eq!(reply.status, 400, "{shown}: {}", reply.text());
        let error = &reply.json()["error"];
        assert_eq!(error["type"], "invalid_request_error", "{shown}");
        assert_eq!(error["param"].as_str().unwrap_or(""), param, "{shown}: {}", reply.text());
    }
    let not_utf8 = raw_socket::head(&key.text, "Content-Length: 3\r\nConnection: close\r\n\r\n");
    let mut raw = RawSocket::connect(gw.addr()).await;
    let reply = raw.send(not_utf8).await.send([b'{', 0xff, b'}']).await.everything().await;
    assert_eq!(statuses(&reply), [400], "{reply}");
    assert_eq!(gw.used(key.user).await, (0, 0));
    assert_eq!(gw.simulator.log.totals().requests, 0);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_values_are_forwarded_unchanged() {
    let recorder = RecordingUpstream::start(Then::Goes).await;
    let gw = gateway().upstreams(&recorder.table()).start().await;
    let key = gw.key("wide").await;
    let members = concat!(
        r#", "temperature" : 1e999,"a":0.10,"b":[1E+2,-0],"c":{"x":1,"x":2},"#,
        r#""d":"\u00e9\/ é","max_tokens":10,"e":123456789012345678901234567890"#
    );
    let text = body("bytes \u{1f600}", members);
    assert_eq!(gw.ask(&key, &text).await.status, 200);
    assert_eq!(String::from_utf8_lossy(&recorder.received()[0].body), text);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_any_size_are_forwarded_byte_for_byte() {
    let recorder = RecordingUpstream::start(Then::Goes).await;
    let gw = gateway().upstreams(&recorder.table()).start().await;
    let key = gw.key("wide").await;
    let least = sized(0).len();
    for size in [least, 4095, 4096, 4097, 65_535, 65_536, 65_537, 1 << 20, 8 << 20] {
        let text = sized(size - least);
        assert_eq!(text.len(), size);
        for piece in [0, 1000, 65_536, size] {
            if piece == 1000 && size > 1 << 17 {
                continue;
            }
            let reply = send(&gw.addr(), &key.text, &text, piece).await;
            assert_eq!(statuses(&reply), [200], "{size} in pieces of {piece}: {reply}");
            let received = recorder.received().pop().unwrap();
            assert!(received.body == text.as_bytes(), "{size} in pieces of {piece}");
        }
    }
    let empty = send(&gw.addr(), &key.text, "", 0).await;
    assert_eq!(statuses(&empty), [400], "{empty}");
    let empty = send(&gw.addr(), &key.text, "", 10).await;
    assert_eq!(statuses(&empty), [400], "{empty}");
    gw.finish().await;
}

/// A body that the gateway leaves as it is, with `filling` bytes that no tokenizer need read.
fn sized(filling: usize) -> String {
    let filling: String =
        (0..filling).map(|at| char::from(b'a' + u8::try_from(at * 7 % 26).unwrap())).collect();
    body("hi", &format!(r#","max_tokens":10,"filling":"{filling}""#))
}

/// Sends by `Content-Length`, or in chunks of `piece` bytes.
async fn send(addr: &std::net::SocketAddr, key: &str, text: &str, piece: usize) -> String {
    let mut raw = RawSocket::connect(*addr).await;
    if piece == 0 {
        return raw
            .send(raw_socket::chat(key, "Connection: close\r\n", text))
            .await
            .everything()
            .await;
    }
    raw.send(raw_socket::head(key, "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"))
        .await;
    for chunk in text.as_bytes().chunks(piece) {
        raw.send(format!("{:x}\r\n", chunk.len())).await.send(chunk).await.send("\r\n").await;
    }
    raw.send("0\r\n\r\n").await.everything().await
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_over_the_limit_are_413_and_not_read() {
    let gw = gateway().limits("body_bytes = 100000").start().await;
    let key = gw.key("wide").await;
    // Declared: answered before a byte of it is sent.
    for length in ["100001", "9999999999999999999"] {
        let head = raw_socket::head(&key.text, &format!("Content-Length: {length}\r\n\r\n"));
        let mut raw = RawSocket::connect(gw.addr()).await;
        let reply = raw.send(head).await.until("}").await;
        assert_eq!(statuses(&reply), [413], "{reply}");
        assert!(reply.to_lowercase().contains("connection: close"), "{reply}");
    }
    // Declared, and its sender waits to be asked for it.
    let fields = "Expect: 100-continue\r\nContent-Length: 100001\r\n\r\n";
    let reply = RawSocket::connect(gw.addr())
        .await
        .send(raw_socket::head(&key.text, fields))
        .await
        .until("}")
        .await;
    assert_eq!(statuses(&reply), [413], "{reply}");
    // Undeclared: an endless one is cut off, and its sender can read why.
    let mut raw = RawSocket::connect(gw.addr()).await;
    raw.send(raw_socket::head(&key.text, "Transfer-Encoding: chunked\r\n\r\n")).await;
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(0x10000));
    let mut sent = 0_usize;
    while raw.stream.write_all(chunk.as_bytes()).await.is_ok() && sent < 1 << 30 {
        sent += chunk.len();
    }
    assert!(sent < 64 << 20, "{sent} bytes were taken in");
    assert_eq!(statuses(&raw.everything().await), [413]);
    // One at the limit is fine, a small one sent in too large a hurry as well.
    let least = sized(0).len();
    assert_eq!(statuses(&send(&gw.addr(), &key.text, &sized(100_000 - least), 0).await), [200]);
    assert_eq!(statuses(&send(&gw.addr(), &key.text, &sized(100_000 - least), 999).await), [200]);
    assert_eq!(statuses(&send(&gw.addr(), &key.text, &sized(100_001 - least), 999).await), [413]);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_can_be_read_while_the_body_is_still_being_sent() {
    let gw = gateway().start().await;
    let text = sized(2 << 20);
    let mut raw = RawSocket::connect(gw.addr()).await;
    let head = raw_socket::head("sk-kx-wrong", &format!("Content-Length: {}\r\n\r\n", text.len()));
    raw.send(head).await;
    raw.stream.write_all(text.as_bytes()).await.expect("the rest is taken in for a moment");
    assert_eq!(statuses(&raw.everything().await), [401]);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_for_bodies_is_bounded() {
    let gw = gateway().listener("buffered_bytes = 1048576").start().await;
    let key = gw.key("wide").await;
    let large = body(&"a".repeat(2_000_000), "");
    let refused = gw.ask(&key, &large).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "gateway_busy"));
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(gw.ask(&key, &body("hi", "")).await.status, 200, "what was refused holds nothing");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_bodies_are_refused_on_both_planes() {
    let gw = gateway().start().await;
    let key = gw.key("wide").await;
    for path in ["/v1/chat/completions", "/v1/messages", "/v1/embeddings", "/api/v1/users/login"] {
        for encoding in ["gzip", "x-gzip", "deflate", "br", "zstd", "gzip, br", "GZIP", "unknown"] {
            let call =
                Call::post(gw.addr(), path).key(&key.text).header("content-encoding", encoding);
            let reply = call.body(body("hi", "")).send().await;
            assert_eq!(reply.status, 415, "{path} {encoding}: {}", reply.text());
            assert_eq!(reply.header("accept-encoding"), "identity");
        }
    }
    let plain = gw.chat(&key, &body("hi", "")).header("content-encoding", "identity").send().await;
    assert_eq!(plain.status, 200);
    gw.finish().await;
}
