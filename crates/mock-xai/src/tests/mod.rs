//! The simulator over real sockets.

mod bills;
mod dialect;
mod faults;
mod likeness;
mod refusals;

use super::{RunningSimulator, Simulator};
use crate::request_log::LogEntry;
use crate::settings::Settings;
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

async fn start(settings: Settings) -> RunningSimulator {
    let listener = TcpListener::bind(settings.listen).await.expect("a free port");
    Simulator::start(settings, listener, &TaskTracker::new(), CancellationToken::new())
        .expect("it starts")
}

/// A reply as it came: head, body with chunks joined, and whether its end was reached.
#[derive(Debug)]
struct RawReply {
    head: String,
    body: Vec<u8>,
    whole: bool,
}

impl RawReply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("json")
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }
}

async fn open(
    running: &RunningSimulator,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> TcpStream {
    let mut stream = TcpStream::connect(running.addr).await.expect("a connection");
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: sim\r\nauthorization: Bearer xai-1\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("written");
    stream
}

async fn send(
    running: &RunningSimulator,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> RawReply {
    let mut stream = open(running, method, path, headers, body).await;
    let mut bytes = Vec::new();
    // A reset shows as an error after the bytes that came before it.
    let _ = stream.read_to_end(&mut bytes).await;
    let end =
        bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let rest = bytes.split_off(end);
    let head = String::from_utf8(bytes).expect("a text head");
    if !head.contains("transfer-encoding: chunked") {
        return RawReply { head, body: rest, whole: true };
    }
    let (body, whole) = unchunk(&rest);
    RawReply { head, body, whole }
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = std::str::from_utf8(&rest[..line]).expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a hex size");
        if size == 0 {
            return (body, true);
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 4 + size..];
    }
    (body, false)
}

fn chat_body(text: &str, members: &str) -> String {
    format!(r#"{{"model":"grok-4.3","messages":[{{"role":"user","content":"{text}"}}]{members}}}"#)
}

async fn chat(running: &RunningSimulator, text: &str, members: &str) -> RawReply {
    send(
        running,
        "POST",
        "/v1/chat/completions",
        "x-request-id: gw-1\r\n",
        &chat_body(text, members),
    )
    .await
}

const STREAM: &str = r#","stream":true,"stream_options":{"include_usage":true}"#;

/// The one entry, once it is there.
async fn entry(running: &RunningSimulator) -> LogEntry {
    loop {
        if let Some(entry) = running.log.entries().pop() {
            return entry;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_completion_and_its_truth() {
    let running = start(Settings::default()).await;
    let reply = chat(&running, "hello", "").await;
    assert!(reply.head.starts_with("HTTP/1.1 200 OK"), "{}", reply.head);
    assert!(
        reply.head.contains("content-type: application/json\r\n")
            && reply.head.contains("set-cookie: ")
    );
    assert_eq!(reply.json()["usage"]["completion_tokens"], 24);
    let entry = entry(&running).await;
    assert_eq!(
        (entry.request.as_deref(), entry.produced, entry.finished),
        (Some("gw-1"), 24, true)
    );
    assert!(reply.head.contains(&format!("x-request-id: {}", entry.sim_id)));
}

#[tokio::test]
async fn a_stream_and_its_truth() {
    let running = start(Settings::default()).await;
    let reply = chat(&running, "hello", STREAM).await;
    assert!(reply.head.contains("content-type: text/event-stream\r\n"), "{}", reply.head);
    assert!(reply.whole && reply.text().ends_with("\n\ndata: [DONE]\n\n"));
    let entry = entry(&running).await;
    assert_eq!((entry.produced, entry.finished, entry.stream), (24, true, true));
}

#[tokio::test]
async fn refusals_have_xais_shape() {
    let running = start(Settings { key: Some("xai-2".to_owned()), ..Settings::default() }).await;
    let reply = send(&running, "GET", "/v1/models", "", "").await;
    assert!(reply.head.starts_with("HTTP/1.1 400 "), "{}", reply.head);
    assert!(!reply.head.contains("x-request-id"));
    let error = reply.json();
    assert_eq!(error["code"], "invalid-argument");
    assert!(
        error["error"].as_str().expect("text").starts_with("Incorrect API key provided: xa***-1")
    );

    let running = start(Settings::default()).await;
    for (body, status, code) in [
        (r#"{"model":"grok-4.3"}"#, 422, "invalid-argument"),
        (r#"{"model":"nope","messages":[]}"#, 404, "not-found"),
    ] {
        let reply = send(&running, "POST", "/v1/chat/completions", "", body).await;
        assert!(reply.head.starts_with(&format!("HTTP/1.1 {status} ")), "{}", reply.head);
        assert_eq!(reply.json()["code"], code);
    }
    assert!(running.log.entries().is_empty());
}

#[tokio::test]
async fn models_are_listed_and_found() {
    let running = start(Settings::default()).await;
    let list = send(&running, "GET", "/v1/models", "", "").await.json();
    assert_eq!(list["data"][0]["id"], "grok-4.7");
    let model = send(&running, "GET", "/v1/models/grok-4.3", "", "").await.json();
    assert_eq!(model["object"], "model");
    let priced = send(&running, "GET", "/v1/language-models", "", "").await.json();
    assert_eq!(priced["models"][3]["prompt_text_token_price"], 12_500);
}

#[tokio::test]
async fn statuses_are_ordered_by_fault() {
    let running = start(Settings::default()).await;
    for (fault, status) in [
        ("429=7", 429),
        ("500", 500),
        ("503", 503),
        ("410", 410),
        ("422", 422),
        ("html", 502),
        ("wrong-key", 400),
        ("error-200", 200),
    ] {
        let reply = chat(&running, &format!("[sim fault={fault}]"), STREAM).await;
        assert!(reply.head.starts_with(&format!("HTTP/1.1 {status} ")), "{fault}: {}", reply.head);
        assert_eq!(reply.head.contains("retry-after: 7"), fault == "429=7");
    }
    assert_eq!(chat(&running, "[sim fault=refuse-headers]", "").await.head, "");
    assert_eq!(chat(&running, "[sim fault=empty]", "").await.body, b"");
    assert!(
        serde_json::from_slice::<Value>(&chat(&running, "[sim fault=garbage]", "").await.body)
            .is_err()
    );
}

#[tokio::test]
async fn replies_break_where_the_fault_says() {
    let running = start(Settings::default()).await;
    for (fault, whole) in [("cut=5", false), ("reset=5", false), ("close=5", true)] {
        let reply = chat(&running, &format!("[sim fault={fault}]"), STREAM).await;
        assert_eq!(reply.whole, whole, "{fault}");
        assert_eq!(reply.text().matches("data: ").count(), 5, "{fault}");
        let entry = running.log.entries().pop().expect("an entry");
        assert_eq!((entry.produced, entry.finished, entry.aborted_by_client), (5, false, false));
    }
    let reply = chat(&running, "[sim fault=error-event=2]", STREAM).await;
    assert!(
        reply.text().ends_with(
            "data: {\"code\":\"internal\",\"error\":\"An internal error occurred.\"}\n\n"
        )
    );
    let reply = chat(&running, "[sim fault=cut]", "").await;
    assert!(!reply.whole && !reply.body.is_empty());
}

#[tokio::test]
async fn shapes_change_bytes_and_not_words() {
    let running = start(Settings::default()).await;
    let said = |reply: &RawReply| {
        let text = reply.text().replace("\r\n", "\n").replace("\ndata: \"", "\"");
        let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned);
        let json = data.filter_map(|data| serde_json::from_str::<Value>(&data).ok());
        json.filter_map(|v| Some(v["choices"][0]["delta"]["content"].as_str()?.to_owned()))
            .collect::<String>()
    };
    let reference = said(&chat(&running, "hi", r#","stream":true"#).await);
    assert!(!reference.is_empty());
    for fault in ["drip", "split", "split,crlf", "comments", "multiline"] {
        let headers = format!("x-sim-fault: {fault}\r\n");
        let body = chat_body("hi", r#","stream":true"#);
        let reply = send(&running, "POST", "/v1/chat/completions", &headers, &body).await;
        assert!(reply.whole, "{fault}");
        assert_eq!(said(&reply), reference, "{fault}");
    }
}

#[tokio::test]
async fn big_late_and_broken_replies() {
    let running = start(Settings::default()).await;
    let big = chat(&running, "[sim fault=oversize]", STREAM).await;
    assert!(big.body.len() > 8 << 20 && big.text().ends_with("data: [DONE]\n\n"));
    let began = system::clock::instant();
    let late = chat(&running, "[sim fault=slow-first-byte=60,503]", "").await;
    assert!(late.head.starts_with("HTTP/1.1 503 ") && began.elapsed() >= Duration::from_millis(60));
    let broken = chat(&running, "[sim fault=bad-utf8]", STREAM).await;
    assert!(broken.whole && String::from_utf8(broken.body).is_err());
    let garbage = chat(&running, "[sim fault=garbage]", STREAM).await;
    assert!(garbage.head.starts_with("HTTP/1.1 200 ") && garbage.text().contains("no json"));
}

#[tokio::test]
async fn the_log_file_has_every_answer() {
    let file = std::env::temp_dir().join(format!("knockx-sim-{}.log", std::process::id()));
    let running = start(Settings { log: Some(file.clone()), ..Settings::default() }).await;
    chat(&running, "hello", "").await;
    entry(&running).await;
    running.log.flush();
    let lines = std::fs::read_to_string(&file).expect("the log");
    std::fs::remove_file(&file).expect("removed");
    assert_eq!(lines.as_bytes(), running.log.json_lines(usize::MAX));
    assert_eq!(lines.lines().count(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let running = start(Settings::default()).await;
    let body = chat_body("[sim fault=stall=4]", STREAM);
    let mut stream = open(&running, "POST", "/v1/chat/completions", "", &body).await;
    let mut bytes = vec![0; 512];
    stream.read_exact(&mut bytes).await.expect("the beginning");
    assert_eq!(running.log.totals().open, 1);
    drop(stream);
    let entry =
        tokio::time::timeout(Duration::from_secs(5), entry(&running)).await.expect("noticed");
    assert_eq!((entry.produced, entry.finished, entry.aborted_by_client), (4, false, true));
    assert_eq!(running.log.totals().open, 0);
}

#[tokio::test]
async fn faults_can_be_set_while_running() {
    let running = start(Settings::default()).await;
    let fault = send(&running, "POST", "/sim/fault", "", "500").await;
    assert_eq!(fault.text(), "500\n");
    assert!(chat(&running, "hi", "").await.head.starts_with("HTTP/1.1 500 "));
    assert!(send(&running, "GET", "/v1/models", "", "").await.head.starts_with("HTTP/1.1 500 "));
    assert!(
        send(&running, "POST", "/sim/fault", "", "explode").await.head.starts_with("HTTP/1.1 400 ")
    );
    running.set_faults("none".parse().expect("no fault"));
    assert!(chat(&running, "hi", "").await.head.starts_with("HTTP/1.1 200 "));
    let stats = send(&running, "GET", "/sim/stats", "", "").await.json();
    assert_eq!((&stats["requests"], &stats["finished"]), (&Value::from(3), &Value::from(1)));
    assert_eq!(send(&running, "GET", "/sim/log?last=1", "", "").await.text().lines().count(), 1);
}

#[tokio::test]
async fn responses_are_returned_streamed_and_stored() {
    let running = start(Settings::default()).await;
    let body = r#"{"model":"grok-4.20-0309-reasoning","input":"hello [sim reasoning=30]"}"#;
    let response = send(&running, "POST", "/v1/responses", "", body).await.json();
    assert_eq!(response["usage"]["output_tokens"], 54);
    assert_eq!(response["status"], "completed");
    let path = format!("/v1/responses/{}", response["id"].as_str().expect("an id"));
    assert_eq!(send(&running, "GET", &path, "", "").await.json(), response);
    assert_eq!(send(&running, "DELETE", &path, "", "").await.json()["deleted"], true);
    assert!(send(&running, "GET", &path, "", "").await.head.starts_with("HTTP/1.1 404 "));

    let body = r#"{"model":"grok-4.3","input":"hello","stream":true,"max_output_tokens":9}"#;
    let reply = send(&running, "POST", "/v1/responses", "", body).await.text();
    assert!(reply.starts_with("event: response.created\ndata: {") && !reply.contains("[DONE]"));
    assert_eq!(reply.matches("event: response.output_text.delta").count(), 9);
    let (_, last) = reply.rsplit_once("event: response.incomplete\ndata: ").expect("an end");
    let last: Value = serde_json::from_str(last).expect("json");
    assert_eq!(last["response"]["usage"]["output_tokens"], 9);
}

#[tokio::test(start_paused = true)]
async fn tokens_come_at_their_pace() {
    let running = start(Settings::default()).await;
    let body = chat_body("[sim tokens=5 token-ms=100 first-token-ms=1000]", STREAM);
    let mut stream = open(&running, "POST", "/v1/chat/completions", "", &body).await;
    let mut seen = String::new();
    while seen.matches("\"content\"").count() < 2 {
        let mut bytes = [0; 4096];
        let n = stream.read(&mut bytes).await.expect("bytes");
        seen.push_str(&String::from_utf8_lossy(&bytes[..n]));
    }
    assert_eq!(seen.matches("\"content\"").count(), 2, "one token a write");
}
