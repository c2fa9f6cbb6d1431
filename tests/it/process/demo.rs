//! `knockx demo`: ready with one command, gone without a trace.

use super::{Process, knockx};
use crate::support::http_client::Call;
use crate::support::{body, soon, today};
use domain::day::Day;
use jiff::ToSpan;
use knockx::config::{Database, Durability};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use store::Store;
use store::reports::Sums;
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
    let promised = "admin_api_key admin_email admin_password api_key base_url caller_email caller_password \
        console_url metrics_url pid simulator_url";
    assert_eq!(names, promised.split_whitespace().collect());
    assert_eq!(ready["pid"], process.0.id());

    let public = addr(&ready["base_url"]);
    assert!(ready["base_url"].as_str().unwrap().ends_with("/v1"), "{line}");
    assert_eq!(ready["console_url"], format!("http://{public}/console/"));
    for person in ["caller", "admin"] {
        let (email, password) = (format!("{person}_email"), format!("{person}_password"));
        let login = Call::post(public, "/api/v1/users/login");
        let form = json!({"email": ready[&email], "password": ready[&password]});
        let reply = login.body(form.to_string()).send().await;
        assert_eq!(reply.status, 200, "{person}: {}", reply.text());
    }
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
    let console = told.lines().find(|line| !line.is_empty()).unwrap();
    assert!(console.trim().ends_with("/console/"), "the address comes first: {told}");
    assert!(told.contains("made up") && told.contains("`demo`"), "{told}");
}

/// The days before today, which the demo fills.
fn days_before() -> Vec<Day> {
    let day = |before: i64| Day(today().0.saturating_sub(before.days()));
    (1..=30).map(day).collect()
}

async fn store_in(folder: &Path) -> Arc<dyn Store> {
    let path = folder.join("knockx.db");
    store::open(&Database::Sqlite { path, durability: Durability::Process }).await.unwrap()
}

/// The sums of all users, after it was checked that rollups and ledger agree on every day.
async fn checked_sums(folder: &Path) -> Sums {
    let store = store_in(folder).await;
    for day in days_before() {
        assert_eq!(store.rollup_drift(day).await.unwrap(), [], "{day}");
        let totals = store.ledger_totals(day).await.unwrap();
        assert!(totals.iter().filter(|used| used.key.is_none()).count() > 4, "{day}: {totals:?}");
    }
    assert_eq!(store.ledger_totals(today()).await.unwrap(), [], "nothing today");
    let days = days_before();
    let by_model = store.totals_by_model(days[29], today()).await.unwrap();
    assert!(by_model.len() > 2, "{by_model:?}");
    store.close().await;
    by_model.iter().map(|(_, sums)| sums).sum()
}

/// `knockx usage verify` on the store in `folder`.
fn verify(folder: &Path, day: Day) -> Value {
    let mut command = knockx();
    command.args(["usage", "verify", "--json", "--day", &day.to_string()]);
    command.env("DATABASE_URL", format!("sqlite:{}", folder.join("knockx.db").display()));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn live_usage(public: SocketAddr, key: &Value) -> Value {
    let call = Call::get(public, "/api/v1/chat/usage").key(key.as_str().unwrap());
    call.send().await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_usage_agrees_with_the_rollups_and_is_added_once() {
    let temporary = TempDir::new().unwrap();
    let kept = temporary.path().join("kept");
    let start = || {
        let mut process =
            Process::spawn(demo(&temporary).arg("--json").arg("--data-dir").arg(&kept));
        let (line, _) = process.first_line();
        (process, serde_json::from_str::<Value>(&line).unwrap())
    };
    let (mut process, ready) = start();
    let usage = live_usage(addr(&ready["base_url"]), &ready["api_key"]).await;
    for (limit, number) in [("tokens", "used"), ("tokens", "reserved"), ("requests", "used")] {
        assert_eq!(usage[limit][number], json!(0), "{usage}");
    }
    let yesterday = days_before()[0];
    for day in [yesterday, today()] {
        let found = verify(&kept, day);
        assert_eq!(found["counters"], json!([]), "compared with the running gateway: {found}");
    }
    process.signal("TERM");
    assert!(process.exit().await.success());
    let first = checked_sums(&kept).await;
    assert!(first.calls > 1_000 && first.failed > 0 && first.cost_micro_dollars > 0, "{first:?}");

    let (mut process, _) = start();
    process.signal("TERM");
    assert!(process.exit().await.success());
    assert_eq!(checked_sums(&kept).await, first, "not added again");
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_usage_stays_out_of_a_store_with_other_users() {
    let temporary = TempDir::new().unwrap();
    let kept = temporary.path().join("kept");
    fs::create_dir(&kept).unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o700)).unwrap();
    let database = format!("sqlite:{}", kept.join("knockx.db").display());
    let mut add = knockx();
    add.args(["user", "add", "real@a.example"]).env("DATABASE_URL", database);
    let output = add.output().unwrap();
    assert!(output.status.success(), "{output:?}");

    let mut process = Process::spawn(demo(&temporary).arg("--data-dir").arg(&kept));
    process.first_line();
    process.signal("TERM");
    assert!(process.exit().await.success());
    let store = store_in(&kept).await;
    let by_model = store.totals_by_model(days_before()[29], today()).await.unwrap();
    assert_eq!(by_model, []);
    assert!(store.user_by_email("maya@sample.example").await.unwrap().is_none());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_starts_a_browser_and_a_missing_one_is_only_logged() {
    let temporary = TempDir::new().unwrap();
    let opened = temporary.path().join("opened");
    let folder = temporary.path().join("bin");
    fs::create_dir(&folder).unwrap();
    let opener = folder.join(if cfg!(target_os = "macos") { "open" } else { "xdg-open" });
    fs::write(&opener, format!("#!/bin/sh\nprintf %s \"$1\" > {}\n", opened.display())).unwrap();
    fs::set_permissions(&opener, fs::Permissions::from_mode(0o755)).unwrap();
    for has_browser in [true, false] {
        let mut command = demo(&temporary);
        command.args(["--json", "--open"]);
        command.env("PATH", if has_browser { &folder } else { temporary.path() });
        let log = temporary.path().join("log");
        let mut process = Process::spawn(command.stderr(File::create(&log).unwrap()));
        let (line, _) = process.first_line();
        let ready: Value = serde_json::from_str(&line).unwrap();
        if has_browser {
            let console = ready["console_url"].as_str().unwrap();
            soon("the console is opened", || async {
                fs::read_to_string(&opened).is_ok_and(|url| url == console)
            })
            .await;
        }
        process.signal("TERM");
        assert!(process.exit().await.success());
        let log = fs::read_to_string(&log).unwrap();
        assert_eq!(log.contains("failed to open a browser"), !has_browser, "{log}");
    }
}
