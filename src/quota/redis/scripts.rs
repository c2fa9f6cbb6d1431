//! The scripts, and how they are sent.

use crate::redis_conn::RedisConn;
use redis::{Cmd, ErrorKind, RedisResult, ServerErrorKind, Value};

/// Stands before each script.
const BOOK: &str = include_str!("book.lua");

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
        // Out of memory refuses new calls; those that run must still be ended.
        let frees = "#!lua flags=allow-oom";
        Self {
            take: Script::new("#!lua", include_str!("take.lua")),
            extend: Script::new("#!lua", include_str!("extend.lua")),
            settle: Script::new(frees, include_str!("settle.lua")),
            withdraw: Script::new(frees, include_str!("withdraw.lua")),
            standing: Script::new("#!lua flags=no-writes", include_str!("standing.lua")),
            reset: Script::new("#!lua", include_str!("reset.lua")),
            correct: Script::new("#!lua", include_str!("correct.lua")),
            overdue: Script::new("#!lua flags=no-writes", include_str!("overdue.lua")),
            unlist: Script::new(frees, include_str!("unlist.lua")),
            renew: Script::new(frees, include_str!("renew.lua")),
            restore: Script::new(frees, include_str!("restore.lua")),
            load: Script::new(frees, include_str!("load.lua")),
            state: Script::new("#!lua flags=no-writes", include_str!("state.lua")),
            bring: Script::new(frees, include_str!("bring.lua")),
            begin: Script::new(frees, include_str!("begin.lua")),
            written: Script::new(frees, include_str!("written.lua")),
            own: Script::new(frees, include_str!("own.lua")),
            version: Script::new(frees, include_str!("version.lua")),
        }
    }
}

impl Script {
    fn new(head: &str, body: &str) -> Self {
        let text = format!("{head}\n{BOOK}\n{body}");
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
