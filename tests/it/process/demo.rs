//! `knockx demo`: ready with one command, gone without a trace.

use super::{Process, knockx};
use crate::support::body;
use crate::support::http_client::Call;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A demo on free ports, whose temporary files go to `temporary`.
fn demo(temporary: &TempDir) -> Command {
    let mut command = knockx();
    command.args(["demo", "--listen", "127.0.0.1:0"]).env("TMPDIR", temporary.path());
    command.stdout(Stdio::piped());
    command
}

/// The address in `http://ADDRESS/…`.
fn addr(url: &Value) -> std::net::SocketAddr {
    let url = url.as_str().unwrap().strip_prefix("http://").unwrap();
    url.split('/').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn json_output_is_one_line_for_scripts() {
    let temporary = TempDir::new().unwrap();
    let mut process = Process::spawn(demo(&temporary).arg("--json"));
    let (line, rest) = process.first_line();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let names: BTreeSet<_> = ready.as_object().unwrap().keys().map(String::as_str).collect();
    let promised =
        "admin_api_key admin_email admin_password api_key base_url metrics_url pid simulator_url";
    assert_eq!(names, promised.split(' ').collect());
    assert_eq!(ready["pid"], process.0.id());

    let public = addr(&ready["base_url"]);
    assert!(ready["base_url"].as_str().unwrap().ends_with("/v1"), "{line}");
    for key in ["api_key", "admin_api_key"] {
        let call = Call::post(public, "/v1/chat/completions").key(ready[key].as_str().unwrap());
        let reply = call.body(body("hello", "")).send().await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let metrics = Call::get(addr(&ready["metrics_url"]), "/metrics").send().await;
    assert!(metrics.text().contains("knockx_requests_total"), "{}", metrics.text());
    let stats = Call::get(addr(&ready["simulator_url"]), "/sim/stats").send().await;
    assert_eq!(stats.json()["answers"], 2, "{}", stats.text());

    process.signal("TERM");
    assert!(process.exit().await.success());
    assert_eq!(rest.recv().unwrap(), "", "nothing but the line");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "the folder is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_prints_a_curl_command_and_keeps_its_folder() {
    let temporary = TempDir::new().unwrap();
    let kept = temporary.path().join("kept");
    let mut process = Process::spawn(demo(&temporary).arg("--data-dir").arg(&kept));
    process.first_line();
    process.signal("INT");
    assert!(process.exit().await.success());
    assert!(kept.join("knockx.db").exists());

    let mut process = Process::spawn(demo(&temporary).arg("--data-dir").arg(&kept));
    let (_, rest) = process.first_line();
    process.signal("TERM");
    assert!(process.exit().await.success());
    let told = rest.recv().unwrap();
    for words in ["curl -N http://127.0.0.1:", "export KNOCKX_KEY=sk-kx-", "from openai import"] {
        assert!(told.contains(words), "{told}");
    }
}
