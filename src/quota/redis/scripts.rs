//! The scripts, and how they are sent.

use crate::redis_conn::RedisConn;
use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value};

/// What scripts have in common. Each gets the parts that it uses and no others: Redis builds all functions of a
/// script again each time it runs.
const NUMBERS: &str = include_str!("numbers.lua");
const ACCOUNT: &str = include_str!("account.lua");
const BUCKET: &str = include_str!("bucket.lua");
const DEBITS: &str = include_str!("debits.lua");
const LEAST: &str = include_str!("least.lua");
const RELEASE: &str = include_str!("release.lua");

/// What scripts say of themselves. Out of memory refuses new calls; those that run must still be ended.
const TAKES: &str = "#!lua";
const FREES: &str = "#!lua flags=allow-oom";
const READS: &str = "#!lua flags=no-writes";

/// One script: sent by its hash, and by its text to a server that has not seen it.
pub(super) struct Script {
    text: String,
    hash: String,
}

/// All of them.
pub(super) struct Scripts {
    pub take: Script,
    pub extend: Script,
    pub settle: Script,
    pub withdraw: Script,
    pub standing: Script,
    pub reset: Script,
    pub correct: Script,
    pub renew: Script,
    pub overdue: Script,
    pub unlist: Script,
    pub restore: Script,
    pub load: Script,
    pub state: Script,
    pub bring: Script,
    pub begin: Script,
    pub written: Script,
    pub own: Script,
    pub version: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            take: Script::new(TAKES, &[ACCOUNT, BUCKET, DEBITS], include_str!("take.lua")),
            extend: Script::new(TAKES, &[ACCOUNT, DEBITS, LEAST], include_str!("extend.lua")),
            settle: Script::new(FREES, &[ACCOUNT, DEBITS, RELEASE], include_str!("settle.lua")),
            withdraw: Script::new(
                FREES,
                &[ACCOUNT, BUCKET, DEBITS, RELEASE],
                include_str!("withdraw.lua"),
            ),
            standing: Script::new(READS, &[ACCOUNT, BUCKET], include_str!("standing.lua")),
            reset: Script::new(TAKES, &[ACCOUNT], include_str!("reset.lua")),
            correct: Script::new(TAKES, &[ACCOUNT], include_str!("correct.lua")),
            overdue: Script::new(READS, &[], include_str!("overdue.lua")),
            unlist: Script::new(FREES, &[], include_str!("unlist.lua")),
            renew: Script::new(FREES, &[], include_str!("renew.lua")),
            restore: Script::new(FREES, &[ACCOUNT, DEBITS, LEAST], include_str!("restore.lua")),
            load: Script::new(FREES, &[ACCOUNT], include_str!("load.lua")),
            state: Script::new(READS, &[], include_str!("state.lua")),
            bring: Script::new(FREES, &[], include_str!("bring.lua")),
            begin: Script::new(FREES, &[], include_str!("begin.lua")),
            written: Script::new(FREES, &[], include_str!("written.lua")),
            own: Script::new(FREES, &[], include_str!("own.lua")),
            version: Script::new(FREES, &[], include_str!("version.lua")),
        }
    }
}

impl Script {
    fn new(head: &str, parts: &[&str], body: &str) -> Self {
        let text = format!("{head}\n{NUMBERS}\n{}\n{body}", parts.concat());
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }

    pub(super) async fn run(
        &self,
        connection: &RedisConn,
        keys: &[String],
        arguments: &[String],
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

fn command(verb: &str, script: &str, keys: &[String], arguments: &[String]) -> Cmd {
    let mut command = redis::cmd(verb);
    command.arg(script).arg(keys.len()).arg(keys).arg(arguments);
    command
}
