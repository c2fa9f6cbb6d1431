//! `knockx serve`: one instance a folder, soft ends, reloads, metrics.

use super::{Host, MODEL, refused};
use crate::support::http_client::Call;
use crate::support::soon;
use domain::charge::Status;
use knockx::config::{Database, Durability};
use std::fs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Slow enough that what happens meanwhile happens in its middle.
const SLOW: [(&str, &str); 2] = [("x-sim-tokens", "150"), ("x-sim-token-ms", "20")];

#[tokio::test(flavor = "multi_thread")]
async fn a_second_instance_on_the_same_folder_is_refused() {
    let host = Host::new();
    let first = host.serve().await;
    // Without the log, which says before it with what configuration.
    let second = host.command(&["serve"]).env("RUST_LOG", "error").output();
    let told = refused(&second.unwrap());
    assert!(told.contains("another knockx") && told.contains("data"), "{told}");
    assert!(told.contains(&first.process.0.id().to_string()), "{told}");
    assert_eq!(Call::get(first.addr, "/health/ready").send().await.status, 200);
    first.ends_well().await;
    host.serve().await.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_stop_finishes_open_streams_and_rejects_new_calls() {
    let host = Host::new();
    let key = host.key();
    let mut serving = host.serve().await;
    let mut call = serving.chat(&key, r#","stream":true"#);
    for (name, value) in SLOW {
        call = call.header(name, value);
    }
    let mut open = call.open().await;
    open.next().await.expect("tokens flow");

    serving.process.signal("TERM");
    soon("new calls are refused", || async {
        let reply = serving.chat(&key, "").send().await;
        reply.status == 503 && reply.code() == "shutting_down"
    })
    .await;
    assert_eq!(Call::get(serving.addr, "/health/ready").send().await.status, 503);
    assert_eq!(Call::get(serving.addr, "/health/ping").send().await.status, 200);
    let told = refused(&host.run(&["healthcheck"]));
    assert!(told.contains("draining"), "{told}");

    let reply = open.rest().await;
    assert!(reply.is_done() && reply.whole, "{}", reply.text());
    assert!(serving.process.exit().await.success());
    let ledger = host.ledger().await;
    let row = ledger.iter().find(|row| row.request.to_string() == reply.header("x-request-id"));
    let row = row.expect("the stream's row");
    assert_eq!((row.status, row.tokens.completion), (Status::Complete, 150));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_applies_a_valid_file_and_ignores_an_invalid_one() {
    let host = Host::new();
    let key = host.key();
    let serving = host.serve().await;
    let models = || async {
        let reply = Call::get(serving.addr, "/v1/models").key(&key).send().await;
        let models = reply.json()["data"].as_array().unwrap().clone();
        models.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let good = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), good.replace("context_tokens", "context_token")).unwrap();
    serving.process.signal("HUP");
    soon("the bad file is told", || async { host.log().contains("context_token`") }).await;
    assert!(host.log().contains("keeping the previous one"), "{}", host.log());
    assert_eq!(models().await, [MODEL]);
    assert_eq!(serving.chat(&key, "").send().await.status, 200);

    let other = good
        .replace(MODEL, "grok-next")
        .replace("[limits]", "[billing]\nmode = \"open\"\n[limits]");
    fs::write(host.config(), other).unwrap();
    serving.process.signal("HUP");
    soon("the good file holds", || async { models().await == ["grok-next"] }).await;
    soon("what waits is named", || async { host.log().contains("some changes need a restart") })
        .await;
    assert!(host.log().contains(r#""waiting_for_restart":"[billing]""#), "{}", host.log());
    serving.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_served_only_on_the_admin_port() {
    let host = Host::new();
    let key = host.key();
    let serving = host.serve().await;
    assert_eq!(serving.chat(&key, "").send().await.status, 200);
    let metrics = Call::get(serving.admin, "/metrics").send().await;
    assert_eq!(metrics.status, 200);
    let counted = r#"knockx_requests_total{route="chat_completions",status="200",outcome="ok"} 1"#;
    assert!(metrics.text().contains(counted), "{}", metrics.text());
    // The row is durable before the answer, and counted a moment after.
    soon("the row is counted", || async {
        let metrics = Call::get(serving.admin, "/metrics").send().await;
        metrics.text().contains("knockx_usage_persisted_total 1")
    })
    .await;
    assert!(!metrics.text().contains("@example.com"), "labels tell of nobody");
    assert_eq!(Call::get(serving.addr, "/metrics").send().await.status, 404);
    serving.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_contains_neither_keys_nor_prompts() {
    let host = Host::new();
    let key = host.key();
    let serving = host.serve().await;
    let body = format!(
        r#"{{"model":"{MODEL}","messages":[{{"role":"user","content":"a secret of mine"}}]}}"#
    );
    let call = Call::post(serving.addr, "/v1/chat/completions").key(&key).body(body);
    let reply = call.header("x-request-id", "job-7/42").send().await;
    let said = reply.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    serving.ends_well().await;
    let log = host.log();
    assert!(log.contains("call settled") && log.contains("effective configuration"), "{log}");
    let settled = log.lines().find(|line| line.contains("call settled")).unwrap();
    assert!(settled.contains(r#""client_request_id":"job-7/42""#), "{settled}");
    for secret in [&*key, "a secret of mine", &*said, "sim-test-key"] {
        assert!(!log.contains(secret), "{log}");
    }
}

/// Asks on a connection that stays open; the whole answer in small letters.
async fn ping(connection: &mut TcpStream) -> String {
    let ask = b"GET /health/ping HTTP/1.1\r\nhost: x\r\n\r\n";
    connection.write_all(ask).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        assert!(connection.read_buf(&mut answer).await.unwrap() > 0, "it was closed");
    }
    String::from_utf8(answer).unwrap().to_lowercase()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_accepted_during_the_shutdown_delay() {
    let host = Host::new();
    let key = host.key();
    let long = "KNOCKX__LIMITS__SHUTDOWN_DELAY";
    let mut serving = host.serve_as(host.command(&["serve"]).env(long, "60")).await;
    let mut idle = TcpStream::connect(serving.addr).await.unwrap();
    assert!(ping(&mut idle).await.starts_with("http/1.1 200"));

    serving.process.signal("TERM");
    soon("it is not ready", || async {
        Call::get(serving.addr, "/health/ready").send().await.status == 503
    })
    .await;
    let reply = serving.chat(&key, "").send().await;
    assert_eq!((reply.status, reply.header("connection")), (200, "close"));
    // A balancer that does not know yet may be about to use it.
    let last = ping(&mut idle).await;
    assert!(last.starts_with("http/1.1 200") && last.contains("connection: close"), "{last}");

    let ended = std::time::Instant::now();
    serving.process.signal("TERM");
    assert!(serving.process.exit().await.success());
    assert!(ended.elapsed() < std::time::Duration::from_secs(10), "{:?}", ended.elapsed());
    assert_eq!(host.ledger().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed_once_calls_are_rejected() {
    let host = Host::new();
    let key = host.key();
    let mut serving = host.serve().await;
    let mut slow = serving.chat(&key, r#","stream":true"#);
    for (name, value) in SLOW {
        slow = slow.header(name, value);
    }
    let mut open = slow.open().await;
    open.next().await.unwrap();
    let mut idle = TcpStream::connect(serving.addr).await.unwrap();
    assert!(ping(&mut idle).await.starts_with("http/1.1 200"));
    serving.process.signal("TERM");
    assert_eq!(idle.read(&mut [0; 64]).await.unwrap(), 0, "closed, while the stream goes on");
    assert!(open.rest().await.is_done());
    assert!(serving.process.exit().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_file_is_complete_after_a_stop() {
    let host = Host::new();
    let key = host.key();
    let copied = |name: &str| {
        let to = host.folder.path().join(name);
        fs::create_dir(&to).unwrap();
        fs::copy(host.folder.path().join("data/knockx.db"), to.join("knockx.db")).unwrap();
        Database::Sqlite { path: to.join("knockx.db"), durability: Durability::Process }
    };
    let after_command = store::open(&copied("one")).await.unwrap();
    assert!(after_command.user_by_email("ada@example.com").await.unwrap().is_some());
    let serving = host.serve().await;
    for _ in 0..5 {
        assert_eq!(serving.chat(&key, "").send().await.status, 200);
    }
    serving.ends_well().await;
    let after_gateway = store::open(&copied("two")).await.unwrap();
    assert_eq!(crate::support::recent_charges(&after_gateway).await.len(), 5);
    for day in crate::support::recent_days() {
        assert_eq!(after_gateway.rollup_drift(day).await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_email_in_use_is_reported_and_changes_no_user() {
    let host = Host::new();
    let key = host.key();
    let mut command = host.command(&["serve"]);
    command
        .env("ADMIN_EMAIL", "ada@example.com")
        .env("ADMIN_PASSWORD", "correct horse battery staple");
    let serving = host.serve_as(&mut command).await;
    assert!(host.log().contains("knockx user set-role ada@example.com admin"), "{}", host.log());
    assert_eq!(serving.chat(&key, "").send().await.status, 200);
    let shown = host.run(&["user", "show", "ada@example.com", "--json"]);
    assert!(super::stdout(&shown).contains(r#""role":"user""#), "{shown:?}");
    serving.ends_well().await;
}
