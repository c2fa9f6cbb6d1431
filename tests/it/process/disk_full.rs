//! Bad weather that only a process can meet: a full disk, a kill.

use super::{Host, KNOCKX, bare, stdout};
use crate::support::http_client::Reply;
use crate::support::soon;
use domain::charge::Status;
use futures_util::future::join_all;
use std::process::Command;

/// Calls sent together, so that the disk is full before the stream ends.
const AT_ONCE: usize = 16;

/// `serve` that cannot make any file larger, as on a full disk: writes fail, nothing is killed.
fn on_a_full_disk(host: &Host) -> Command {
    let mut command = bare("bash");
    // In KiB: room for the database as it is made, not for a journal of many calls.
    let script = r#"ulimit -f 256; trap "" XFSZ; exec "$0" serve --config "$1""#;
    command.args(["-c", script, KNOCKX]).arg(host.config());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_rejects_new_calls_and_completes_accepted_ones() {
    let host = Host::new();
    let key = host.key();
    let mut serving = host.serve_as(&mut on_a_full_disk(&host)).await;
    // It has to last until the disk is full.
    let slow = serving.chat(&key, r#","stream":true"#).header("x-sim-tokens", "1000");
    let mut open = slow.header("x-sim-token-ms", "20").open().await;
    open.next().await.expect("tokens flow");
    let mut accepted: Vec<Reply> = Vec::new();
    let refused = loop {
        let calls = join_all((0..AT_ONCE).map(|_| serving.chat(&key, "").send())).await;
        let (answered, refused): (Vec<_>, Vec<_>) =
            calls.into_iter().partition(|reply| reply.status == 200);
        accepted.extend(answered);
        if let Some(refused) = refused.into_iter().next() {
            break refused;
        }
        assert!(accepted.len() < 10_000, "the disk does not fill up");
    };
    assert_eq!((refused.status, refused.code().as_str()), (503, "quota_store_unavailable"));
    assert!(!refused.header("retry-after").is_empty());
    let stream = open.rest().await;
    assert!(stream.is_done() && stream.whole, "{}", stream.text());

    // Its charge waits for room in memory. Killed before that, it pays what its lease holds.
    serving.process.0.kill().unwrap();
    serving.process.exit().await;
    drop(serving);
    let again = host.serve().await;
    soon("the disk has room again", || async { again.chat(&key, "").send().await.status == 200 })
        .await;
    again.ends_well().await;
    let ledger = host.ledger().await;
    let row = |id: &str| {
        let rows: Vec<_> = ledger.iter().filter(|row| row.request.to_string() == id).collect();
        assert_eq!(rows.len(), 1, "{id}");
        rows[0].status
    };
    // The last ones may have been answered before their charges were written, two seconds late.
    let written = accepted.len().checked_sub(2 * AT_ONCE).expect("calls before the disk is full");
    for reply in &accepted[..written] {
        assert_eq!(row(reply.header("x-request-id")), Status::Complete);
    }
    assert_eq!(row(stream.header("x-request-id")), Status::Abandoned);
}

/// A change that is not written is not reported as made.
#[tokio::test]
async fn a_full_disk_rejects_changes_of_users() {
    let host = Host::new();
    host.key();
    let before = stdout(&host.run(&["user", "show", "ada@example.com"]));
    for words in [
        "user suspend ada@example.com",
        "user set-plan ada@example.com high-max",
        "user set-role ada@example.com admin",
        "user add eve@example.com",
    ] {
        let mut command = bare("bash");
        // Not a byte more: the files that are there may be written again, none may grow.
        let script = r#"ulimit -f 0; trap "" XFSZ; exec "$0" "${@:2}" --config "$1""#;
        command.args(["-c", script, KNOCKX]).arg(host.config()).args(words.split(' '));
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{words}: {}", stdout(&output));
    }
    assert_eq!(stdout(&host.run(&["user", "show", "ada@example.com"])), before);
}
