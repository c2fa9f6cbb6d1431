//! One caller does not take what others need: memory for bodies, connections, time.

use crate::support::http_client::{Call, Shared};
use crate::support::raw_socket::{self, RawSocket, statuses};
use crate::support::{Plan, WIDE, body, gateway, soon, today};
use domain::id::{PlanId, RequestId};
use quota::backend::Reset;
use std::net::SocketAddr;
use std::time::Duration;
use store::UserChange;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const TINY: Plan = Plan { id: "tiny", requests: 1, ..WIDE };

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_bodies_of_one_user_do_not_block_others() {
    let gw = gateway().listener("buffered_bytes = 8388608").start().await;
    let (greedy, other) = (gw.key("wide").await, gw.key("wide").await);
    let part = "a".repeat(1 << 20);
    let mut held = Vec::new();
    for _ in 0..21 {
        let mut raw = RawSocket::connect(gw.addr()).await;
        raw.send(raw_socket::head(&greedy.text, "Content-Length: 33000000\r\n\r\n")).await;
        raw.send(&part).await;
        held.push(raw);
    }
    assert!(refused(&mut held).await >= 15, "its bodies take a quarter together");
    let small = gw.ask(&greedy, &body("hi", "")).await;
    assert_eq!(small.status, 200, "its small calls find room: {}", small.text());
    let large = gw.ask(&other, &body(&"a".repeat(600_000), "")).await;
    assert_eq!(large.status, 200, "{}", large.text());
    let login =
        Call::post(gw.addr(), "/api/v1/users/login").header("content-type", "application/json");
    let login =
        login.body(r#"{"email":"a@test.example","password":"wrong password"}"#).send().await;
    assert_eq!(login.status, 401, "{}", login.text());
    drop(held);
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_quota_is_rejected_before_the_body() {
    let gw = gateway().plan(TINY).start().await;
    let key = gw.key("tiny").await;
    let fresh = gw.key("tiny").await;
    assert_eq!(gw.ask(&key, &body("hi", "")).await.status, 200);
    let large = "Content-Length: 33000000\r\n\r\n";
    // Large: known at once. Small: once a call was refused.
    for fields in [large, "Content-Length: 5000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"] {
        let mut raw = RawSocket::connect(gw.addr()).await;
        let said = raw.send(raw_socket::head(&key.text, fields)).await.everything().await;
        assert_eq!(statuses(&said), [429], "{fields}: {said}");
        assert!(said.contains("insufficient_quota") && said.contains("retry-after:"), "{said}");
    }
    let mut asked = RawSocket::connect(gw.addr()).await;
    let fields = format!("Expect: 100-continue\r\n{large}");
    let said = asked.send(raw_socket::head(&fresh.text, &fields)).await.until("\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 100"), "who has quota is asked for the body: {said}");
    drop(asked);
    // What brings quota back is seen by the next call.
    let reset = Reset {
        id: RequestId::new(),
        user: key.user,
        keys: vec![key.id.clone()],
        day: today(),
        at: jiff::Timestamp::now(),
        by: "operator".to_owned(),
    };
    gw.running.quota.reset(&reset).await.unwrap();
    assert_eq!(gw.ask(&key, &body("hi", "")).await.status, 200, "after a reset");
    assert_eq!(gw.ask(&key, &body("hi", "")).await.status, 429);
    let plan = Some(PlanId::from("wide"));
    gw.change_user(key.user, UserChange { plan, ..UserChange::default() }).await;
    assert_eq!(gw.ask(&key, &body("hi", "")).await.status, 200, "on a better plan");
    gw.settled().await;
    gw.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_window_is_rejected_before_the_body() {
    let gw = gateway().plan(Plan { id: "slow", window: 1, ..WIDE }).start().await;
    let key = gw.key("slow").await;
    assert_eq!(gw.ask(&key, &body("hi", "")).await.status, 200);
    let head = raw_socket::head(&key.text, "Content-Length: 33000000\r\n\r\n");
    let said = RawSocket::connect(gw.addr()).await.send(head).await.everything().await;
    assert_eq!(statuses(&said), [429], "{said}");
    assert!(said.contains("rate_limit_exceeded"), "{said}");
    let wait = said.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap();
    assert!((1..=60).contains(&wait.trim().parse::<u32>().unwrap()), "{wait}");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_does_not_take_all_connections() {
    let gw = gateway().listener("connections_per_address = 3").start().await;
    let mut mine = Vec::new();
    for _ in 0..3 {
        let mut raw = RawSocket::connect(gw.addr()).await;
        raw.send(PING).await.until("200 OK").await;
        mine.push(raw);
    }
    assert_eq!(RawSocket::connect(gw.addr()).await.everything().await, "", "closed at once");
    let mut other = from("127.0.0.2", gw.addr()).await;
    assert!(answers(&mut other).await, "another address has its own");
    drop(mine);
    soon("places are free again", || async {
        answers(&mut from("127.0.0.1", gw.addr()).await).await
    })
    .await;
    // Requests of HTTP/2 count as connections of their address.
    let key = gw.key("wide").await;
    soon("none is left", || async {
        let Ok(stream) = TcpStream::connect(gw.addr()).await else { return false };
        let shared = Shared::over(stream).await;
        let slow =
            || gw.chat(&key, &body("slow", r#","stream":true"#)).header("x-sim-token-ms", "1000");
        let open = [shared.try_open(slow()).await, shared.try_open(slow()).await];
        let refused = shared.try_open(slow()).await;
        open.iter().all(Option::is_some) && refused.is_none()
    })
    .await;
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_addresses_are_bounded_behind_a_proxy() {
    let gw = gateway()
        .listener("connections_per_address = 2\ntrusted_proxies = [\"127.0.0.0/8\"]")
        .start()
        .await;
    let key = gw.key("wide").await;
    let chat = |address: &str, members: &str| {
        gw.chat(&key, &body("hi", members)).header("x-forwarded-for", address)
    };
    let slow = |address| chat(address, r#","stream":true"#).header("x-sim-token-ms", "1000");
    let open = [slow("203.0.113.1").open().await, slow("203.0.113.1").open().await];
    let refused = chat("203.0.113.1", "").send().await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "too_many_connections"));
    let control = Call::get(gw.addr(), "/health/ping").header("x-forwarded-for", "203.0.113.1");
    assert_eq!(control.send().await.status, 429, "on both planes");
    for address in ["203.0.113.2", "198.51.100.1, 203.0.113.3", "2001:db8::1"] {
        assert_eq!(chat(address, "").send().await.status, 200, "{address}");
    }
    assert_eq!(gw.ask(&key, &body("hi", "")).await.status, 200, "the proxy itself is not bounded");
    drop(open);
    soon("it may ask again", || async { chat("203.0.113.1", "").send().await.status == 200 }).await;
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_heads_count_as_bodies_do() {
    let gw = gateway().listener("buffered_bytes = 1048576").start().await;
    let mut held = Vec::new();
    for _ in 0..40 {
        let mut raw = RawSocket::connect(gw.addr()).await;
        raw.send(format!("GET /health/ping HTTP/1.1\r\nx: {}", "a".repeat(40_000))).await;
        held.push(raw);
    }
    assert!(refused(&mut held).await >= 30, "of 40");
    assert_eq!(Call::get(gw.addr(), "/health/ping").send().await.status, 200);
    drop(held);
    gw.finish().await;
}

/// How many of these were answered 429 by now.
async fn refused(all: &mut [RawSocket]) -> usize {
    let mut refused = 0;
    for raw in all {
        let mut said = [0; 64];
        let read = tokio::time::timeout(Duration::from_millis(300), raw.stream.read(&mut said));
        if let Ok(Ok(1..)) = read.await {
            refused += usize::from(String::from_utf8_lossy(&said).contains(" 429 "));
        }
    }
    refused
}

const PING: &str = "GET /health/ping HTTP/1.1\r\nHost: g\r\n\r\n";

async fn from(address: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
    socket.connect(to).await.unwrap()
}

async fn answers(stream: &mut TcpStream) -> bool {
    let _ = stream.write_all(PING.as_bytes()).await;
    stream.read(&mut [0]).await.is_ok_and(|read| read > 0)
}
