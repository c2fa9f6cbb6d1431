//! `knockx serve --hot-restart`: a new process takes over from the running one.

use super::cluster::Cluster;
use super::postgres::OnPostgres;
use super::{Host, Process, Serving, refused};
use crate::support::http_client::{Call, Open};
use crate::support::{body, soon};
use bytes::Bytes;
use domain::charge::Status;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Restarts under load; `KNOCKX_RESTARTS` sets another number.
const RESTARTS: usize = 4;
/// Callers of each kind.
const CALLERS: usize = 3;
/// Between two calls of one caller, so that two cores can follow.
const PAUSE: Duration = Duration::from_millis(20);
/// Tokens and milliseconds for each of a stream that outlives a restart.
const LONG: [(&str, &str); 2] = [("x-sim-tokens", "150"), ("x-sim-token-ms", "20")];

impl Host {
    async fn hot_restart(&self) -> Serving {
        self.serve_as(&mut self.command(&["serve", "--hot-restart"])).await
    }
}

async fn long_stream(serving: &Serving, key: &str) -> Open {
    let mut call = serving.chat(key, r#","stream":true"#);
    for (name, value) in LONG {
        call = call.header(name, value);
    }
    let mut open = call.open().await;
    assert_eq!(open.status, 200);
    open.next().await.expect("tokens flow");
    open
}

/// Calls until `done`, a connection for each. Returns the number of replies, and what was wrong with others.
async fn call_often(
    addr: SocketAddr,
    key: String,
    members: &str,
    done: Arc<AtomicBool>,
) -> (usize, Vec<String>) {
    let (mut answered, mut failed) = (0, Vec::new());
    while !done.load(Ordering::Acquire) {
        let call = Call::post(addr, "/v1/chat/completions").key(&key);
        let call = call.header("x-sim-tokens", "100").header("x-sim-token-ms", "5");
        match call.body(body("hello", members)).try_send().await {
            Some(reply) if reply.status == 200 && reply.whole => answered += 1,
            Some(reply) => failed.push(format!("{} {}", reply.status, reply.text())),
            None => failed.push("no reply".to_owned()),
        }
        tokio::time::sleep(PAUSE).await;
    }
    (answered, failed)
}

/// The same on connections that are kept for as long as the gateway does not announce their end.
async fn call_on_kept_connections(
    addr: SocketAddr,
    key: String,
    done: Arc<AtomicBool>,
) -> (usize, Vec<String>) {
    let (mut answered, mut failed) = (0, Vec::new());
    while !done.load(Ordering::Acquire) {
        let stream = TcpStream::connect(addr).await.expect("a connection is never refused");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut is_kept = true;
        while is_kept && !done.load(Ordering::Acquire) {
            let request = http::Request::post("/v1/chat/completions")
                .header("host", "x")
                .header("content-type", "application/json")
                .header("authorization", format!("Bearer {key}"))
                .header("x-sim-tokens", "5")
                .body(Full::<Bytes>::from(body("hello", "")))
                .unwrap();
            match sender.send_request(request).await {
                Ok(reply) if reply.status() == 200 => {
                    is_kept = reply.headers().get("connection").is_none_or(|v| v != "close");
                    reply.into_body().collect().await.expect("a whole reply");
                    answered += 1;
                }
                Ok(reply) => failed.push(reply.status().to_string()),
                Err(error) => {
                    failed.push(format!("{error:?}"));
                    is_kept = false;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        connection.abort();
    }
    (answered, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn restarts_under_load_fail_no_call() {
    let restarts = std::env::var("KNOCKX_RESTARTS").map_or(RESTARTS, |n| n.parse().unwrap());
    let host = Host::new();
    let key = host.key();
    let mut serving = host.serve().await;
    let (addr, done) = (serving.addr, Arc::new(AtomicBool::new(false)));
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let (key, done) = (key.clone(), Arc::clone(&done));
        let streams = call_often(addr, key.clone(), r#","stream":true"#, Arc::clone(&done));
        let wholes = call_often(addr, key.clone(), "", Arc::clone(&done));
        callers.push(tokio::spawn(streams));
        callers.push(tokio::spawn(wholes));
        callers.push(tokio::spawn(call_on_kept_connections(addr, key, done)));
    }
    let mut open = Vec::new();
    let mut retired = Vec::new();
    for _ in 0..restarts {
        open.push(long_stream(&serving, &key).await);
        let successor = host.hot_restart().await;
        assert_eq!(successor.addr, addr, "the same socket");
        retired.push(std::mem::replace(&mut serving, successor));
    }
    let streams = open.len();
    for stream in open {
        let reply = stream.rest().await;
        assert!(reply.is_done() && reply.whole, "{}", reply.text());
    }
    done.store(true, Ordering::Release);
    let mut answered = streams;
    for caller in callers {
        let (calls, failed) = caller.await.unwrap();
        assert!(failed.is_empty(), "{failed:?}\n{}", host.log());
        answered += calls;
    }
    for mut process in retired {
        assert!(process.process.exit().await.success(), "{}", host.log());
    }
    serving.ends_well().await;
    let ledger = host.ledger().await;
    assert_eq!(ledger.len(), answered);
    assert!(ledger.iter().all(|row| row.status == Status::Complete));
    let verified = host.run(&["usage", "verify"]);
    assert!(verified.status.success(), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_the_old_process_counts_in_the_new_one() {
    let host = Host::new();
    let one_stream = std::fs::read_to_string(host.config()).unwrap();
    let one_stream = one_stream.replace("concurrent_streams = 1000", "concurrent_streams = 1");
    std::fs::write(host.config(), one_stream).unwrap();
    let key = host.key();
    let mut old = host.serve().await;
    let open = long_stream(&old, &key).await;
    let new = host.hot_restart().await;
    let second = new.chat(&key, r#","stream":true"#).send().await;
    assert_eq!(second.status, 429, "{}", second.text());

    let reply = open.rest().await;
    assert!(reply.is_done() && reply.whole, "{}", reply.text());
    let verified = host.run(&["usage", "verify"]);
    assert!(verified.status.success(), "{verified:?}");
    let third = new.chat(&key, r#","stream":true"#).send().await;
    assert_eq!(third.status, 200, "{}", third.text());
    assert!(old.process.exit().await.success());
    new.ends_well().await;
    let rows = host.ledger().await;
    let long = rows.iter().find(|row| row.tokens.completion == 150).expect("the long stream's row");
    assert_eq!((rows.len(), long.status), (2, Status::Complete));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_ends_its_stream_in_the_old_process_too() {
    let host = Host::new();
    let key = host.key();
    let mut old = host.serve().await;
    let open = long_stream(&old, &key).await;
    let new = host.hot_restart().await;
    let (id, _) = key.trim_start_matches("sk-kx-").split_once('_').unwrap();
    assert!(host.run(&["key", "revoke", id]).status.success());
    let reply = open.rest().await;
    assert!(reply.text().contains("access_revoked") && !reply.is_done(), "{}", reply.text());
    assert_eq!(new.chat(&key, "").send().await.status, 401);
    assert!(old.process.exit().await.success());
    new.ends_well().await;
    assert_eq!(host.ledger().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_killed_old_process_are_charged_by_the_new_one() {
    let host = Host::new();
    let key = host.key();
    let mut old = host.serve().await;
    let open = long_stream(&old, &key).await;
    let new = host.hot_restart().await;
    old.process.0.kill().unwrap();
    assert!(!open.rest().await.whole);
    soon("the call is charged", || async {
        host.ledger().await.iter().any(|row| row.status == Status::Abandoned)
    })
    .await;
    new.ends_well().await;
    assert_eq!(host.ledger().await.len(), 1);
    let verified = host.run(&["usage", "verify"]);
    assert!(verified.status.success(), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_process_exits_when_the_new_one_is_killed() {
    let host = Host::new();
    let key = host.key();
    let mut old = host.serve().await;
    let open = long_stream(&old, &key).await;
    let mut new = host.hot_restart().await;
    new.process.0.kill().unwrap();
    assert!(!open.rest().await.is_done());
    assert!(!old.process.exit().await.success());
    new.process.exit().await;
    let third = host.serve().await;
    third.ends_well().await;
    let rows = host.ledger().await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0].status, Status::Abandoned);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_of_the_new_process_stops_the_old_one() {
    let host = Host::new();
    let text = std::fs::read_to_string(host.config()).unwrap();
    let text = text.replace("shutdown_delay = 0", "shutdown_delay = 0\nshutdown_grace = 1");
    std::fs::write(host.config(), text).unwrap();
    let key = host.key();
    let mut old = host.serve().await;
    let open = long_stream(&old, &key).await;
    let new = host.hot_restart().await;
    new.ends_well().await;
    drop(open);
    old.process.exit().await;
    let rows = host.ledger().await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_ne!(rows[0].status, Status::Abandoned, "the old process settled it");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_running_gateway_it_starts_as_usual() {
    let host = Host::new();
    let key = host.key();
    let serving = host.hot_restart().await;
    assert_eq!(serving.chat(&key, "").send().await.status, 200);
    serving.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_different_journal_is_rejected_and_the_old_process_serves_on() {
    let host = Host::new();
    let key = host.key();
    let serving = host.serve().await;
    let mut other = host.command(&["serve", "--hot-restart"]);
    other.env("KNOCKX__DATABASE__JOURNAL", host.folder.path().join("elsewhere"));
    let said = refused(&other.env("RUST_LOG", "error").output().unwrap());
    assert!(said.contains("journal folder") && said.contains("SIGTERM"), "{said}");
    assert_eq!(serving.chat(&key, "").send().await.status, 200);
    serving.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_different_secret_is_rejected_and_keys_stay_valid() {
    let host = Host::new();
    let key = host.key();
    let serving = host.serve().await;
    let mut other = host.command(&["serve", "--hot-restart"]);
    other.env("SECRET_KEY", "0123456789abcdef0123456789abcdef").env("RUST_LOG", "error");
    let said = refused(&other.output().unwrap());
    assert!(said.contains("SECRET_KEY differs"), "{said}");
    assert_eq!(serving.chat(&key, "").send().await.status, 200);
    serving.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_during_preparation_stops_only_the_new_process() {
    let host = Host::new();
    let key = host.key();
    let serving = host.serve().await;
    // It accepts the connection, and answers nothing.
    serving.process.signal("STOP");
    let mut new = Process::spawn(&mut host.command(&["serve", "--hot-restart"]));
    new.signal("INT");
    new.exit().await;
    serving.process.signal("CONT");
    assert_eq!(serving.chat(&key, "").send().await.status, 200);
    serving.ends_well().await;
}

/// A successor that speaks the protocol as far as a test wants.
struct Successor(UnixStream);

impl Successor {
    async fn connect(host: &Host) -> Self {
        let path = host.folder.path().join("data/restart.sock");
        Self(UnixStream::connect(path).await.unwrap())
    }

    async fn send(&mut self, message: Value) {
        let text = message.to_string();
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        self.0.write_all(&[&length, text.as_bytes()].concat()).await.unwrap();
    }

    async fn receive(&mut self) -> Value {
        let mut text = vec![0; self.0.read_u32().await.unwrap() as usize];
        self.0.read_exact(&mut text).await.unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

fn state_id(host: &Host) -> String {
    let config = knockx::config::load_from(
        Some(("knockx.toml", &std::fs::read_to_string(host.config()).unwrap())),
        &[].into(),
    );
    config.unwrap().state_id()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_fails_leaves_the_old_process_serving() {
    let host = Host::new();
    let key = host.key();
    let serving = host.serve().await;
    let open = long_stream(&serving, &key).await;
    for steps in 0..4 {
        let mut successor = Successor::connect(&host).await;
        if steps > 0 {
            let hello = json!({ "protocol": 1, "pid": 1, "state_id": state_id(&host) });
            successor.send(hello).await;
            assert_eq!(successor.receive().await["Offer"]["pid"], serving.process.0.id());
            // The byte that carries the descriptors, which are closed unread.
            assert_eq!(successor.0.read_u8().await.unwrap(), b'+');
        }
        if steps > 1 {
            successor.send(json!("Take")).await;
            let state = successor.receive().await;
            assert_eq!(state["leases"].as_array().unwrap().len(), 1, "{state}");
        }
        if steps > 2 {
            successor.send(json!({ "Ready": "no" })).await;
        }
        drop(successor);
        let reply = serving.chat(&key, "").send().await;
        assert_eq!(reply.status, 200, "{steps}: {}", reply.text());
    }
    let reply = open.rest().await;
    assert!(reply.is_done() && reply.whole, "{}", reply.text());
    serving.ends_well().await;
    assert_eq!(host.ledger().await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_version_is_rejected_with_instructions() {
    let host = Host::new();
    let serving = host.serve().await;
    let mut successor = Successor::connect(&host).await;
    successor.send(json!({ "protocol": 99, "pid": 1, "state_id": "" })).await;
    let refusal = successor.receive().await;
    let reason = refusal["Refusal"]["reason"].as_str().unwrap();
    assert!(reason.contains("99") && reason.contains("SIGTERM"), "{reason}");
    serving.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_on_postgres_is_replaced_while_a_stream_runs() {
    let on = OnPostgres::with_its_own_server().await;
    let added = on.run(&["user", "add", "ada@example.com", "--plan", "wide", "--json"]);
    let key: Value = serde_json::from_slice(&added.stdout).unwrap();
    let key = key["api_key"].as_str().unwrap();
    let call = |members: &str| {
        Call::post(on.addr, "/v1/chat/completions").key(key).body(body("hello", members))
    };
    let mut old = on.serve().await;
    let long = call(r#","stream":true"#).header(LONG[0].0, LONG[0].1).header(LONG[1].0, LONG[1].1);
    let mut open = long.open().await;
    open.next().await.expect("tokens flow");
    let new = Process::spawn(&mut on.command(&["serve", "--hot-restart"]));
    let reply = open.rest().await;
    assert!(reply.is_done() && reply.whole, "{}", reply.text());
    assert!(old.exit().await.success(), "{}", on.host.log());
    assert_eq!(call("").send().await.status, 200);
    let verified = on.run(&["usage", "verify"]);
    assert!(verified.status.success(), "{verified:?}");
    new.signal("TERM");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_of_a_cluster_is_replaced_while_a_stream_runs() {
    let cluster = Cluster::new().await;
    let user = cluster.user("ada", "wide");
    let mut old = cluster.serve().await;
    let open = long_stream(&old, &user.key).await;
    let mut command = cluster.command(&["serve", "--hot-restart"]);
    command.env("PORT", old.addr.port().to_string());
    command.env("ADMIN_PORT", old.admin.port().to_string());
    let new = Process::spawn(&mut command);
    let reply = open.rest().await;
    assert!(reply.is_done() && reply.whole, "{}", reply.text());
    assert!(old.process.exit().await.success(), "{}", cluster.host.log());
    assert_eq!(old.chat(&user.key, "").send().await.status, 200);
    cluster.rows(2).await;
    cluster.books_agree();
    new.signal("TERM");
}
