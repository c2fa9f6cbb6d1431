//! The scripts, and how they are sent.

use crate::redis::connection::RedisConn;
use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, ToRedisArgs, Value};

/// Shared parts of the scripts. Each script includes only the parts that it uses, because Redis compiles all functions
/// of a script on each run.
const PRELUDE: &str = include_str!("prelude.lua");
const ACCOUNT: &str = include_str!("account.lua");
const BUCKET: &str = include_str!("bucket.lua");
const DEBITS: &str = include_str!("debits.lua");
const LEASE: &str = include_str!("lease.lua");
const OLD_LEASE: &str = include_str!("old_lease.lua");
const LEAST: &str = include_str!("least.lua");
const RELEASE: &str = include_str!("release.lua");

/// Script headers. Scripts without `allow-oom` are rejected when Redis is out of memory: new calls are refused, running
/// ones can still end.
const TAKES: &str = "#!lua";
const FREES: &str = "#!lua flags=allow-oom";
const READS: &str = "#!lua flags=no-writes";

/// One script, sent by its hash, or by its text to a server that does not have it.
pub(super) struct Script {
    text: String,
    hash: String,
}

/// All scripts of the gateway.
pub(super) struct Scripts {
    pub take: Script,
    pub extend: Script,
    pub settle: Script,
    pub rollback_take: Script,
    pub usage_snapshot: Script,
    pub reset_day: Script,
    pub correct: Script,
    pub renew_leases: Script,
    pub expired_leases: Script,
    pub lease_state: Script,
    pub drop_deadline: Script,
    pub restore_lease: Script,
    pub load_accounts: Script,
    pub day_usage: Script,
    pub partition_state: Script,
    pub restoring: Script,
    pub open_partition: Script,
    pub ack_outbox: Script,
    pub acquire_lock: Script,
    pub publish_user_version: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            take: Script::new(TAKES, &[ACCOUNT, BUCKET, DEBITS, LEASE], include_str!("take.lua")),
            extend: Script::new(
                TAKES,
                &[ACCOUNT, DEBITS, LEASE, LEAST],
                include_str!("extend.lua"),
            ),
            settle: Script::new(
                FREES,
                &[ACCOUNT, DEBITS, LEASE, OLD_LEASE, RELEASE],
                include_str!("settle.lua"),
            ),
            rollback_take: Script::new(
                FREES,
                &[ACCOUNT, BUCKET, DEBITS, LEASE, RELEASE],
                include_str!("rollback_take.lua"),
            ),
            usage_snapshot: Script::new(
                READS,
                &[ACCOUNT, BUCKET],
                include_str!("usage_snapshot.lua"),
            ),
            reset_day: Script::new(TAKES, &[ACCOUNT], include_str!("reset_day.lua")),
            correct: Script::new(TAKES, &[ACCOUNT], include_str!("correct.lua")),
            expired_leases: Script::new(READS, &[], include_str!("expired_leases.lua")),
            lease_state: Script::new(
                READS,
                &[DEBITS, LEASE, OLD_LEASE],
                include_str!("lease_state.lua"),
            ),
            drop_deadline: Script::new(FREES, &[LEASE], include_str!("drop_deadline.lua")),
            renew_leases: Script::new(FREES, &[LEASE], include_str!("renew_leases.lua")),
            restore_lease: Script::new(
                FREES,
                &[ACCOUNT, DEBITS, LEASE, LEAST],
                include_str!("restore_lease.lua"),
            ),
            load_accounts: Script::new(FREES, &[ACCOUNT], include_str!("load_accounts.lua")),
            day_usage: Script::new(READS, &[ACCOUNT], include_str!("day_usage.lua")),
            partition_state: Script::new(READS, &[], include_str!("partition_state.lua")),
            restoring: Script::new(FREES, &[], include_str!("restoring.lua")),
            open_partition: Script::new(FREES, &[], include_str!("open_partition.lua")),
            ack_outbox: Script::new(FREES, &[], include_str!("ack_outbox.lua")),
            acquire_lock: Script::new(FREES, &[], include_str!("acquire_lock.lua")),
            publish_user_version: Script::new(FREES, &[], include_str!("publish_user_version.lua")),
        }
    }
}

impl Script {
    fn new(head: &str, parts: &[&str], body: &str) -> Self {
        let text = format!("{head}\n{PRELUDE}\n{}\n{body}", parts.concat());
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }

    pub(super) async fn run(
        &self,
        connection: &RedisConn,
        keys: &[String],
        arguments: &[impl ToRedisArgs + Sync],
    ) -> RedisResult<Vec<Value>> {
        let by_hash = connection.send(&command("EVALSHA", &self.hash, keys, arguments)).await;
        match by_hash {
            Err(e) if e.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                connection.send(&command("EVAL", &self.text, keys, arguments)).await
            }
            done => done,
        }
    }
}

fn command(verb: &str, script: &str, keys: &[String], arguments: &[impl ToRedisArgs]) -> Cmd {
    let mut command = redis::cmd(verb);
    command.arg(script).arg(keys.len()).arg(keys).arg(arguments);
    command
}
