//! What the commands print, and how they end.

use super::{Host, KNOCKX, knockx, refused, stdout};
use crate::support::today;
use clap::CommandFactory;
use domain::charge::Charge;
use domain::day::Day;
use domain::id::RequestId;
use jiff::civil::date;
use knockx::cli::Cli;
use std::fs;
use std::process::Command;
use store::Entry;
use store::audit::AuditFilter;

#[test]
fn the_help_of_every_command_has_an_example() {
    fn check(command: &clap::Command, words: &[&str]) {
        let output = Command::new(KNOCKX).args(words).arg("--help").output().unwrap();
        let help = stdout(&output);
        assert!(output.status.success(), "{words:?}");
        let call = format!("knockx {}", words.join(" "));
        let example = help.split("Example").nth(1).unwrap_or_default();
        // Written as in a shell, or as the words of a Dockerfile.
        let example = example.replace("\", \"", " ");
        assert!(example.contains(call.trim()), "no example of `{call}`:\n{help}");
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            check(inner, &[words, &[inner.get_name()]].concat());
        }
    }
    check(&Cli::command(), &[]);
}

#[test]
fn the_default_config_is_printed_and_is_a_config() {
    let output = knockx().arg("default-config").output().unwrap();
    assert!(output.status.success());
    assert_eq!(stdout(&output), fs::read_to_string("config/default.toml").unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("default.toml");
    fs::write(&file, output.stdout).unwrap();
    let loaded = knockx().current_dir(&folder).args(["serve", "--config"]).arg(file).output();
    let told = refused(&loaded.unwrap());
    assert!(told.contains("GROK_API_KEY") && told.contains("knockx demo"), "{told}");
}

#[test]
fn a_config_error_names_file_line_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    for (text, line, key, form) in [
        ("port = 0\n\n[limits]\nbody_byte = 3\n", "line 4", "body_byte", "body_bytes"),
        ("port = \"x\"\n", "line 1", "port", "whole number from 0 to 65535"),
        ("[limits]\nslice_tokens = 1\n", "line 2", "slice_tokens", "16"),
        ("[database]\nurl = \"mysql:x\"\n", "line 2", "database.url", "sqlite:PATH"),
    ] {
        fs::write(&file, text).unwrap();
        // No command means `serve`.
        for command in [&[][..], &["serve"], &["check"], &["healthcheck"]] {
            let mut run = knockx();
            run.current_dir(&folder).args(command).arg("--config").arg(&file);
            let told = refused(&run.output().unwrap());
            for word in ["mine.toml", line, key, form] {
                assert!(told.contains(word), "{command:?}: no `{word}` in: {told}");
            }
        }
    }
}

#[test]
fn errors_are_one_plain_sentence() {
    let host = Host::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    host.key();
    let named = ["user", "add", "eve@example.com", "--plan", "wide", "--username", "Ada", "--json"];
    assert!(stdout(&host.run(&named)).contains("\"username\":\"ada\""));
    let planless = stdout(&host.run(&["user", "add", "zoe@example.com", "--json"]));
    assert!(
        planless.contains("\"plan\":\"wide\""),
        "the first plan of its configuration: {planless}"
    );
    for (words, word) in [
        (&["user", "add", "ada@example.com", "--plan", "wide"][..], "e-mail exists"),
        (&["user", "add", "nonsense"], "nonsense"),
        (&["user", "add", "bob@example.com", "--plan", "none"], "wide"),
        (&["user", "add", "bob@example.com", "--username", "b"], "not a username"),
        (
            &["user", "add", "bob@example.com", "--plan", "wide", "--username", "ADA"],
            "username exists",
        ),
        (&["user", "show", "nobody@example.com"], "nobody@example.com"),
        (&["key", "add", "nobody@example.com"], "nobody@example.com"),
        (&["key", "revoke", "nothing"], "nothing"),
    ] {
        let told = refused(&host.run(words));
        assert!(told.contains(word), "{words:?}: {told}");
    }
    for words in [&["simulate", "--listen", &addr][..], &["demo", "--listen", &addr]] {
        let told = refused(&knockx().args(words).output().unwrap());
        assert!(told.contains(&addr) && told.contains("--listen"), "{words:?}: {told}");
    }
    for (words, form) in [
        (&["demo", "--listen", "8000"][..], "127.0.0.1:8000"),
        (&["simulate", "--listen", "localhost"], "127.0.0.1:8000"),
        (&["usage", "prune", "--before", "tomorrow"], "2026-01-31"),
        (&["key", "add", "ada", "--expires", "2027"], "2027-01-01T00:00:00Z"),
    ] {
        let output = knockx().args(words).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.contains(form), "{words:?}: {told}");
    }
    let told = refused(&knockx().args(["serve", "--config", "/none.toml"]).output().unwrap());
    assert_eq!(told.matches("No such file").count(), 1, "{told}");
    let nowhere =
        knockx().args(["user", "list"]).env("DATABASE_URL", "sqlite:/proc/x/y.db").output();
    assert!(refused(&nowhere.unwrap()).contains("/proc/x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_days_are_pruned_while_a_gateway_runs() {
    let host = Host::new();
    let key = host.key();
    let serving = host.serve().await;
    assert_eq!(serving.chat(&key, "").send().await.status, 200);
    let old = Charge {
        day: Day(date(2026, 1, 2)),
        request: RequestId::new(),
        ..host.ledger_now().await.remove(0)
    };
    host.store().await.write_batch(&[Entry::Settle(old)], None).await.unwrap();
    let verify = ["usage", "verify", "--day", "2026-01-02"];
    assert!(stdout(&host.run(&verify)).contains("ledger and rollups agree"));

    let told = refused(&host.run(&["usage", "prune", "--before", &today().to_string()]));
    assert!(told.contains("cannot prune") && told.contains("or an earlier day"), "{told}");
    let told = stdout(&host.run(&["usage", "prune", "--before", "2026-02-01", "--json"]));
    assert_eq!(told, "{\"before\":\"2026-02-01\",\"rows\":1}\n");
    let told = stdout(&host.run(&["usage", "prune", "--before", "2026-02-01"]));
    assert!(told.starts_with("deleted 0 ledger rows before 2026-02-01"), "{told}");
    let verified = host.run(&verify);
    assert!(verified.status.success() && stdout(&verified).contains("were pruned"), "{verified:?}");
    assert!(host.run(&["usage", "verify"]).status.success());
    let filter = AuditFilter { subject: Some("ledger".to_owned()), ..AuditFilter::default() };
    let audited = host.store().await.audit(&filter, None, 10).await.unwrap();
    assert!(audited.iter().all(|entry| entry.action == "ledger.prune"), "{audited:?}");
    assert_eq!(audited.len(), 2);
    serving.ends_well().await;
}

#[test]
fn commands_in_a_wrong_folder_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let run = |words: &[&str]| knockx().current_dir(&folder).args(words).output().unwrap();
    let is_untouched = || fs::read_dir(&folder).unwrap().next().is_none();
    for words in [
        &["user", "list"][..],
        &["user", "show", "ada@example.com"],
        &["user", "suspend", "ada@example.com"],
        &["key", "list", "ada@example.com"],
        &["key", "add", "ada@example.com"],
        &["usage", "verify"],
        &["usage", "verify", "--json"],
    ] {
        let told = refused(&run(words));
        assert!(
            told.contains("data/knockx.db does not exist; `knockx serve` creates it"),
            "{words:?}: {told}"
        );
        assert!(is_untouched(), "{words:?}");
    }
    let told = stdout(&run(&["check"]));
    let line = "ok    store sqlite:data/knockx.db: does not exist yet; `knockx serve` creates it";
    assert!(told.lines().any(|found| found == line), "{told}");
    assert!(is_untouched());
    assert!(run(&["user", "add", "ada@example.com"]).status.success());
    assert!(run(&["user", "show", "ada@example.com"]).status.success());
}

#[test]
fn check_reports_a_folder_where_no_database_can_be_created() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let mut check = knockx();
    check.arg("check").current_dir(&folder).env("DATABASE_URL", "sqlite:file/below/knockx.db");
    let told = stdout(&check.output().unwrap());
    let store = told.lines().find(|line| line.contains("store")).unwrap();
    assert!(store.starts_with("FAIL ") && store.contains("DATABASE_URL"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_reports_what_is_fine_and_what_to_do() {
    let host = Host::new();
    let output = host.run(&["check"]);
    let told = stdout(&output);
    assert!(output.status.success(), "{told}");
    assert!(
        told.lines().all(|line| line.starts_with("ok ")) && told.lines().count() == 3,
        "{told}"
    );
    let text = fs::read_to_string(host.config()).unwrap();
    fs::write(host.config(), text.replace(&host.simulator, "http://127.0.0.1:9")).unwrap();
    let output = host.run(&["check"]);
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let failed: Vec<_> = told.lines().filter(|line| line.starts_with("FAIL ")).collect();
    assert!(failed.len() == 1 && failed[0].contains("check base_url"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_queries_the_running_instance() {
    let host = Host::new();
    assert!(!host.run(&["healthcheck"]).status.success());
    let serving = host.serve().await;
    let output = host.run(&["healthcheck"]);
    assert!(output.status.success(), "{output:?}");
    serving.ends_well().await;
    refused(&host.run(&["healthcheck"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn healthcheck_works_beside_a_tls_listener() {
    let host = Host::new();
    let at = |name: &str| host.folder.path().join(name);
    host.configure(&format!(
        "listener.tls_certificate = {:?}\nlistener.tls_key = {:?}",
        at("cert.pem"),
        at("key.pem")
    ));
    let told = refused(&host.command(&["serve"]).env("RUST_LOG", "error").output().unwrap());
    assert!(told.contains("cert.pem"), "{told}");
    let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (certificate, other) = (made("gateway.example"), made("other.example"));
    fs::write(at("cert.pem"), certificate.cert.pem()).unwrap();
    fs::write(at("key.pem"), other.signing_key.serialize_pem()).unwrap();
    let told = stdout(&host.run(&["check"]));
    assert!(told.contains("FAIL  certificate") && told.contains("do not match"), "{told}");
    fs::write(at("key.pem"), certificate.signing_key.serialize_pem()).unwrap();
    let told = stdout(&host.run(&["check"]));
    assert!(told.contains("ok    certificate"), "{told}");
    let serving = host.serve().await;
    let output = host.run(&["healthcheck"]);
    assert!(output.status.success(), "{output:?}");
    serving.ends_well().await;
}

#[test]
fn the_config_option_may_come_before_the_command() {
    let host = Host::new();
    host.key();
    let file = host.config();
    let run = |before: &[&str], words: &[&str], after: &[&str]| {
        let name = |words: &[&str]| -> Vec<std::ffi::OsString> {
            let word =
                |word: &&str| if *word == "FILE" { file.clone().into() } else { word.into() };
            words.iter().map(word).collect()
        };
        let mut command = knockx();
        command.current_dir(&host.folder).args(name(before)).args(words).args(name(after));
        command.output().unwrap()
    };
    let named = ["--config", "FILE"];
    for words in [
        &["user", "list"][..],
        &["user", "show", "ada@example.com", "--json"],
        &["key", "list", "ada@example.com"],
        &["usage", "verify"],
        &["migrate"],
        &["check"],
    ] {
        let (before, after) = (run(&named, words, &[]), run(&[], words, &named));
        assert!(before.status.success(), "{words:?}: {before:?}");
        let lines = |output| {
            stdout(output).lines().map(|l| l[..4.min(l.len())].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(lines(&before), lines(&after), "{words:?}");
    }
    let told = refused(&run(&named, &["healthcheck"], &[]));
    assert!(!told.contains("unexpected"), "{told}");
    let told = refused(&run(&named, &["user", "list"], &named));
    assert!(told.contains("--config is given twice"), "{told}");
    for words in [&["default-config"][..], &["simulate", "--listen", "127.0.0.1:0"], &["demo"]] {
        let told = refused(&run(&named, words, &[]));
        assert!(told.contains("does not read a config file"), "{words:?}: {told}");
    }
}

#[test]
fn names_with_invisible_characters_are_rejected() {
    let host = Host::new();
    host.key();
    for name in ["lap\u{202e}top", "laptop\u{200b}", ""] {
        let told = refused(&host.run(&["key", "add", "ada@example.com", "--name", name]));
        assert!(told.contains("--name"), "{told}");
    }
    for email in ["a\u{202e}da@example.com", "ada\u{200b}@example.com"] {
        refused(&host.run(&["user", "add", email, "--plan", "wide"]));
    }
    assert!(host.run(&["key", "add", "ada@example.com", "--name", "Ноутбук 💻"]).status.success());
}

#[test]
fn a_list_of_keys_shows_their_limits() {
    let host = Host::new();
    host.key();
    let limits = ["--tokens-per-day", "500", "--requests-per-day", "7", "--model", "grok-4.3"];
    let words = [&["key", "add", "ada@example.com", "--name", "small"][..], &limits].concat();
    assert!(host.run(&words).status.success());
    let listed = host.run(&["key", "list", "ada@example.com"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    let line = listed.lines().find(|line| line.contains("small")).unwrap();
    assert!(line.ends_with("valid  500 tokens/day  7 requests/day  models: grok-4.3"), "{listed}");
}

/// The last connection of each command's process closes between its change and the next call.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_refuses_the_next_call_of_a_key_that_a_command_revoked() {
    let host = Host::new();
    let keys = [host.key(), host.another_key("ada@example.com")];
    let gateway = host.serve().await;
    for key in &keys {
        assert_eq!(gateway.chat(key, "").send().await.status, 200);
    }
    for key in &keys {
        let (id, _) = key.trim_start_matches("sk-kx-").split_once('_').unwrap();
        assert!(host.run(&["key", "revoke", id]).status.success());
        assert_eq!(gateway.chat(key, "").send().await.status, 401);
    }
    gateway.ends_well().await;
}

#[cfg(unix)]
#[test]
fn a_data_folder_writable_by_others_is_rejected() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let host = Host::new();
    host.key();
    let data = host.folder.path().join("data");
    let chmod = |mode| fs::set_permissions(&data, fs::Permissions::from_mode(mode)).unwrap();
    for words in [&["serve"][..], &["user", "list"]] {
        for mode in [0o777, 0o775] {
            chmod(mode);
            let told = refused(&host.command(words).env("RUST_LOG", "error").output().unwrap());
            assert!(told.contains("chmod 700"), "{words:?}: {told}");
        }
    }
    chmod(0o755);
    assert!(host.run(&["user", "list"]).status.success());
    let victim = host.folder.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let _ = fs::remove_file(data.join("knockx.lock"));
    symlink(&victim, data.join("knockx.lock")).unwrap();
    let told = refused(&host.command(&["serve"]).env("RUST_LOG", "error").output().unwrap());
    assert!(told.contains("knockx.lock is a symbolic link"), "{told}");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}
