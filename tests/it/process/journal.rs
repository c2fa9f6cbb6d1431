//! The journal as an operator sees it: shown, verified, damaged.

use super::{Host, refused, stdout};
use crate::support::http_client::Call;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

impl Host {
    /// The only file of the journal.
    fn segment(&self) -> PathBuf {
        let folder = fs::read_dir(self.folder.path().join("data/journal")).unwrap();
        let mut files = folder.map(|file| file.unwrap().path());
        files.find(|file| file.extension().is_some_and(|kind| kind == "journal")).unwrap()
    }

    fn verify_journal(&self) -> Value {
        serde_json::from_str(&stdout(&self.run(&["journal", "verify", "--json"]))).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_is_reported_and_stops_the_start() {
    let host = Host::new();
    let key = host.key();
    assert!(stdout(&host.run(&["journal", "verify"])).starts_with("there is no journal in "));
    let shown = host.run(&["journal", "show"]);
    assert!(shown.status.success() && shown.stdout.is_empty());
    assert!(String::from_utf8_lossy(&shown.stderr).starts_with("there is no journal in "));
    let serving = host.serve().await;
    for _ in 0..3 {
        assert_eq!(serving.chat(&key, "").send().await.status, 200);
    }
    let found = host.verify_journal();
    assert_eq!((&found["records"], &found["open_leases"]), (&Value::from(6), &Value::from(0)));
    serving.process.signal("KILL");
    drop(serving);

    let shown = stdout(&host.run(&["journal", "show", "--json"]));
    let lines: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let position = |n: usize| lines[n]["record"]["position"].as_u64().unwrap();
    assert_eq!((lines.len(), position(0)), (6, 40));
    let (open, settle) = (&lines[0]["record"]["record"], &lines[1]["record"]["record"]);
    assert_eq!(open["open"]["request"], settle["settle"]["request"]);
    let from = position(4).to_string();
    let shown = stdout(&host.run(&["journal", "show", "--from", &from]));
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(shown.contains("  open      req_") && shown.contains(" tokens, complete"), "{shown}");

    let segment = host.segment();
    let whole = fs::read(&segment).unwrap();
    let mut damaged = whole.clone();
    let at = usize::try_from(position(2)).unwrap();
    damaged[at + 20] ^= 1;
    fs::write(&segment, &damaged).unwrap();
    let verified = host.run(&["journal", "verify"]);
    let told = stdout(&verified);
    assert_eq!(verified.status.code(), Some(1));
    assert!(told.contains(&format!("at byte {at} of ")) && told.contains("is corrupt"), "{told}");
    let shown = stdout(&host.run(&["journal", "show"]));
    assert_eq!((shown.lines().count(), shown.matches("BAD ").count()), (6, 1), "{shown}");
    let told = refused(&host.command(&["serve"]).env("RUST_LOG", "off").output().unwrap());
    let name = segment.file_name().unwrap().to_str().unwrap();
    let next = position(3);
    for word in
        [name, &format!("at byte {at} of "), &format!("byte {next};"), "`knockx journal show`"]
    {
        assert!(told.contains(word), "{word}: {told}");
    }

    // Torn at the end: cut off, said, and the call charged as its lease says.
    fs::write(&segment, &whole[..whole.len() - 5]).unwrap();
    assert_eq!(host.verify_journal()["open_leases"], 1);
    let serving = host.serve().await;
    assert!(host.log().contains("truncated the journal"), "{}", host.log());
    assert!(host.run(&["usage", "verify"]).status.success());
    serving.ends_well().await;
    assert_eq!(host.ledger().await.len(), 3);
    let found = host.verify_journal();
    assert_eq!((&found["open_leases"], &found["torn_bytes"]), (&Value::from(0), &Value::from(0)));
}

/// A command on the same data directory has changed a user: the next call knows.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_a_command_applies_from_the_next_call() {
    let host = Host::new();
    let key = host.key();
    let serving = host.serve().await;
    let chat = || serving.chat(&key, "").send();
    for _ in 0..10 {
        assert_eq!(chat().await.status, 200);
        assert!(host.run(&["user", "suspend", "ada@example.com"]).status.success());
        let refused = chat().await;
        assert!(matches!(refused.status, 401 | 403), "{} {}", refused.status, refused.text());
        assert!(host.run(&["user", "resume", "ada@example.com"]).status.success());
    }
    let health = Call::get(serving.addr, "/health/ready").send().await;
    assert_eq!(health.status, 200);
    serving.ends_well().await;
}
