//! What admins see of the gateway itself: configuration, upstreams, the audit log.

use super::*;
use crate::upstream::recent_calls::Failure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const UPSTREAMS: &str = "/api/v1/admin/upstreams";
const AUDIT: &str = "/api/v1/admin/audit";

#[tokio::test]
async fn the_configuration_is_shown_without_secrets() {
    let more = format!(
        "secret_key = \"hunter2-hunter2-hunter2-hunter2-hunter2\"\n{}\
         [admin]\nemail = \"first@example.com\"\npassword = \"hunter2-hunter2\"\n",
        configured_upstream("http://127.0.0.1:9/v1")
    );
    let control = control_with(&more, None).await;
    let root = control.admin().await;
    let reply = control.get("/api/v1/admin/config", Some(&root.token)).await;
    assert!(!reply.text.contains("hunter2"), "{}", reply.text);
    let shown = reply.ok();
    let sections = shown["sections"].as_array().unwrap();
    let section = |name: &str| sections.iter().find(|one| one["name"] == name).unwrap();
    let value = |name: &str, key: &str| {
        let settings = section(name)["settings"].as_array().unwrap().clone();
        settings.into_iter().find(|one| one["key"] == key).unwrap()["value"].clone()
    };
    assert_eq!(value("general", "secret_key"), "***");
    assert_eq!(value("upstreams.mine", "api_key"), "***");
    assert_eq!(value("limits", "body_bytes"), "33554432");
}

/// An upstream that answers every request with this status, and what it was asked for.
async fn upstream_with(status: u16) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, heads) = tokio::sync::mpsc::unbounded_channel();
    tokio_util::task::TaskTracker::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap_or_default();
            let _ = asked.send(String::from_utf8_lossy(&head[..length]).into_owned());
            let reply = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\n\r\n{{}}");
            let _ = stream.write_all(reply.as_bytes()).await;
        }
    });
    (format!("http://{address}/v1"), heads)
}

#[tokio::test]
async fn an_upstream_is_tested_with_the_operators_key() {
    for (status, ok) in [(200, true), (404, true), (401, false), (429, false), (503, false)] {
        let (base_url, mut heads) = upstream_with(status).await;
        let control = control_with(&configured_upstream(&base_url), None).await;
        let root = control.admin().await;
        let admin = Some(&*root.token);
        let reply = control.post(&format!("{UPSTREAMS}/mine/test"), admin, json!({})).await;
        assert!(!reply.text.contains("hunter2"), "{}", reply.text);
        let tested = reply.ok();
        assert_eq!((&tested["ok"], &tested["status"]), (&json!(ok), &json!(status)), "{tested}");
        assert!(tested["latency_ms"].as_f64().unwrap() >= 0.0);
        assert!(tested["message"].as_str().unwrap().len() > 20);
        let head = heads.recv().await.unwrap().to_lowercase();
        assert!(head.starts_with("get /v1/models http/1.1"), "{head}");
        assert!(head.contains("authorization: bearer hunter2-key"), "{head}");
        let state = control.get(UPSTREAMS, admin).await.ok();
        assert_eq!(state["data"][0]["recent_calls"], 0, "a test is no call");
    }
}

#[tokio::test]
async fn an_upstream_that_is_away_fails_its_test() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let control = control_with(&configured_upstream(&format!("http://{address}/v1")), None).await;
    let root = control.admin().await;
    let admin = Some(&*root.token);
    let tested = control.post(&format!("{UPSTREAMS}/mine/test"), admin, json!({})).await.ok();
    assert_eq!((&tested["ok"], &tested["status"]), (&json!(false), &Value::Null), "{tested}");
    assert!(tested["message"].as_str().unwrap().starts_with("No response: "), "{tested}");
    for name in ["other", "..", "mine%00"] {
        let reply = control.post(&format!("{UPSTREAMS}/{name}/test"), admin, json!({})).await;
        reply.refused(404, "not_found");
    }
}

#[tokio::test]
async fn one_upstream_is_tested_at_a_time() {
    let control = control_with(&configured_upstream("http://127.0.0.1:9/v1"), None).await;
    let root = control.admin().await;
    let running = control.instance.upstream_test.lock().await;
    let reply = control.post(&format!("{UPSTREAMS}/mine/test"), Some(&root.token), json!({})).await;
    reply.refused(409, "test_running");
    drop(running);
}

#[tokio::test]
async fn upstreams_show_their_latest_failures() {
    let control = control_with(&configured_upstream("http://127.0.0.1:9/v1"), None).await;
    let root = control.admin().await;
    let upstreams = control.instance.upstreams.load_full();
    let recent = &upstreams.client("mine").unwrap().recent;
    let now = clock::now();
    for _ in 0..3 {
        recent.succeeded(now);
    }
    recent.failed(Failure { at: now, reason: "rate", status: Some(429) });
    let shown = control.get(UPSTREAMS, Some(&root.token)).await.ok();
    let mine = &shown["data"][0];
    assert_eq!(mine["name"], "mine");
    assert_eq!(mine["base_url"], "http://127.0.0.1:9/v1");
    assert_eq!(mine["breaker"], "closed");
    assert_eq!((&mine["recent_calls"], &mine["error_share"]), (&json!(4), &json!(0.25)));
    assert_eq!(mine["last_errors"][0]["reason"], "rate");
    assert_eq!(mine["last_errors"][0]["status"], 429);
    assert_eq!(mine["last_errors"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_audit_log_is_filtered_by_user_action_and_day() {
    let control = control().await;
    let (ada, root) = (control.user().await, control.admin().await);
    let admin = Some(&*root.token);
    let path = format!("/api/v1/admin/users/{}", ada.user.id);
    control.patch(&path, admin, json!({ "username": "ada" })).await.ok();
    let actions = async |query: &str| {
        let page = control.get(&format!("{AUDIT}?{query}"), admin).await.ok();
        let rows = page["data"].as_array().unwrap().clone();
        rows.iter().map(|row| row["action"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let user = format!("user={}", ada.user.id);
    assert_eq!(actions(&user).await, ["user.change", "user.add"]);
    assert_eq!(actions(&format!("{user}&action=user.add")).await, ["user.add"]);
    assert_eq!(actions(&format!("actor=user:{}", root.user.id)).await, ["user.change"]);
    let today = Day::at(clock::now(), &TimeZone::UTC);
    assert_eq!(actions(&format!("{user}&from={today}&to={today}")).await.len(), 2);
    assert_eq!(actions(&format!("{user}&to=2020-01-01")).await, [""; 0]);
    assert_eq!(actions(&format!("{user}&from=9998-01-01")).await, [""; 0]);
    for (query, param) in [
        ("user=me", "user"),
        (&*format!("{user}&subject=config"), "user"),
        ("from=yesterday", "from"),
        ("to=2026-02-30", "to"),
        ("action=%00", "action"),
    ] {
        control.get(&format!("{AUDIT}?{query}"), admin).await.invalid(param);
    }
}

#[tokio::test]
async fn the_system_shows_counters_and_journal() {
    let control = control().await;
    let root = control.admin().await;
    control.instance.metrics.quota_drift.increment(3);
    control.instance.metrics.journal_behind.set(4096.0);
    let shown = control.get("/api/v1/admin/system/health", Some(&root.token)).await.ok();
    assert_eq!(shown["counters"], json!({ "drift_repaired": 3, "lost_writes": 0 }));
    assert_eq!(shown["usage"]["journal_behind_bytes"], 4096);
    assert_eq!(shown["build"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(shown["calls"]["admitted"], 0);
    assert_eq!(shown["version"], env!("CARGO_PKG_VERSION"));
}
