//! Redis client for scripts: runs them, retries them once if the outcome is unknown, and measures them.

use super::scripts::{Script, Scripts};
use crate::backend::QuotaUnavailable;
use crate::redis::connection::RedisConn;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, ToRedisArgs, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use system::clock;
use telemetry::labels::RedisOp;
use telemetry::metrics::Metrics;
use telemetry::outage::{Outage, OutageSummary};

/// For scripts without arguments.
pub(super) const NO_ARGUMENTS: &[&str] = &[];
pub(super) const RETRY_MIN_INTERVAL: Duration = Duration::from_millis(20);
pub(super) const RETRY_MAX_INTERVAL: Duration = Duration::from_secs(1);
/// Time without failures after which an outage is over, so that a flapping one is logged once.
const OUTAGE_QUIET_INTERVAL: Duration = Duration::from_secs(1);

/// Runs scripts and commands of one gateway.
pub(super) struct ScriptClient {
    connection: RedisConn,
    /// Connection for bulk work, so that its replies delay no take.
    bulk: RedisConn,
    pub(super) scripts: Scripts,
    pub(super) metrics: Arc<Metrics>,
    /// True if the latest poll got no reply. Polling continues.
    away: AtomicBool,
    /// Open from the first failed command until Redis accepts writes again.
    outage: Outage,
}

/// Reason for which a command failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommandError {
    /// Redis rejected the command: it was not executed.
    Rejected,
    /// No reply: the command may or may not have been executed.
    Unknown,
}

impl From<CommandError> for QuotaUnavailable {
    fn from(_: CommandError) -> Self {
        Self
    }
}

impl ScriptClient {
    pub(super) fn new(connection: RedisConn, metrics: Arc<Metrics>) -> Self {
        let (away, outage) = (AtomicBool::new(false), Outage::default());
        let bulk = connection.bulk();
        Self { connection, bulk, scripts: Scripts::new(), metrics, away, outage }
    }

    pub(super) fn is_unreachable(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Records if the latest poll got no reply.
    pub(super) fn set_unreachable(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// True while commands fail, and until Redis accepts writes again.
    pub(super) fn has_outage(&self) -> bool {
        self.outage.is_open()
    }

    /// Ends the outage, because Redis accepts writes, once no command has failed for a moment.
    pub(super) fn end_outage(&self) {
        if let Some(OutageSummary { lasted, failures }) =
            self.outage.end(clock::instant(), OUTAGE_QUIET_INTERVAL)
        {
            let seconds = lasted.as_secs_f64();
            tracing::info!(seconds, failures, "redis recovered");
        }
    }

    /// Runs a script, and retries it once if the outcome is unknown.
    pub(super) async fn run(
        &self,
        op: RedisOp,
        script: &Script,
        keys: &[String],
        arguments: &[impl ToRedisArgs + Sync],
    ) -> Result<Vec<Value>, CommandError> {
        self.run_with_outcome(op, script, keys, arguments).await.0
    }

    /// Like `run`; also returns true if the first attempt got no reply, so that a server that is still reading the
    /// closed connection may execute it later.
    pub(super) async fn run_with_outcome(
        &self,
        op: RedisOp,
        script: &Script,
        keys: &[String],
        arguments: &[impl ToRedisArgs + Sync],
    ) -> (Result<Vec<Value>, CommandError>, bool) {
        self.run_over(&self.connection, op, script, keys, arguments).await
    }

    /// Like `run`, on the connection for bulk work.
    pub(super) async fn run_bulk(
        &self,
        script: &Script,
        keys: &[String],
        arguments: &[impl ToRedisArgs + Sync],
    ) -> Result<Vec<Value>, CommandError> {
        self.run_over(&self.bulk, RedisOp::Flush, script, keys, arguments).await.0
    }

    async fn run_over(
        &self,
        connection: &RedisConn,
        op: RedisOp,
        script: &Script,
        keys: &[String],
        arguments: &[impl ToRedisArgs + Sync],
    ) -> (Result<Vec<Value>, CommandError>, bool) {
        let began = clock::instant();
        let mut done = script.run(connection, keys, arguments).await;
        let outcome_unknown = done.as_ref().is_err_and(|e| self.is_outcome_unknown(e));
        if outcome_unknown {
            done = script.run(connection, keys, arguments).await;
        }
        self.metrics.redis_seconds(op).record(clock::instant().duration_since(began));
        // The rejection of a retry, for example by a server that is starting, proves nothing about the first attempt.
        let cause = |e| if outcome_unknown { CommandError::Unknown } else { e };
        (done.map_err(|e| cause(self.command_error(&e))), outcome_unknown)
    }

    /// Sends one command without a retry.
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, CommandError> {
        self.connection.send(command).await.map_err(|e| self.command_error(&e))
    }

    /// Sends one command without a retry, on the connection for bulk work.
    pub(super) async fn query_bulk<T: FromRedisValue>(
        &self,
        command: &Cmd,
    ) -> Result<T, CommandError> {
        self.bulk.send(command).await.map_err(|e| self.command_error(&e))
    }

    /// Sends one command that servers may reject; `None` if one does.
    pub(super) async fn query_if_allowed<T: FromRedisValue>(
        &self,
        command: &Cmd,
    ) -> Result<Option<T>, CommandError> {
        match self.connection.send(command).await {
            Ok(answer) => Ok(Some(answer)),
            Err(e) if !self.is_outcome_unknown(&e) => Ok(None),
            Err(e) => Err(self.command_error(&e)),
        }
    }

    /// Logs the cause, at error level once per outage; callers only learn that the quota store is unreachable.
    fn command_error(&self, error: &RedisError) -> CommandError {
        if self.outage.fail(clock::instant()) {
            tracing::error!(%error, "redis failed; refusing requests that need it until it recovers");
        } else {
            tracing::debug!(%error, "redis command failed");
        }
        if self.is_outcome_unknown(error) { CommandError::Unknown } else { CommandError::Rejected }
    }

    /// True if there are several masters.
    pub(super) fn is_cluster(&self) -> bool {
        self.connection.is_cluster()
    }

    fn is_outcome_unknown(&self, error: &RedisError) -> bool {
        outcome_is_unknown(error, self.connection.is_cluster())
    }
}

/// True if the command may have been executed. Where the driver retries commands (`is_repeated`), the error may
/// belong to the second attempt; then only errors that the first would have met too prove that nothing was executed.
fn outcome_is_unknown(error: &RedisError, is_repeated: bool) -> bool {
    let is_outcome_unknown =
        error.is_io_error() || error.is_timeout() || error.is_connection_dropped();
    let is_lasting = error.code() == Some("OOM")
        || matches!(
            error.kind(),
            ErrorKind::Server(
                ServerErrorKind::ResponseError
                    | ServerErrorKind::NoScript
                    | ServerErrorKind::NoPerm
                    | ServerErrorKind::CrossSlot
            )
        );
    is_outcome_unknown || is_repeated && !is_lasting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::connection::RedisUrls;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Closes the first connection that sends a script, then answers that it is loading.
    async fn restarts(listener: TcpListener) {
        let mut outcome_unknown = false;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 65536];
            while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                let text = String::from_utf8_lossy(&bytes[..length]);
                let reply = if !text.contains("EVALSHA") {
                    let role =
                        if text.contains("INFO\r\n$11\r\nrepl") { "+role:master\r\n" } else { "" };
                    "+OK\r\n".repeat(text.matches("SETINFO").count()) + role
                } else if outcome_unknown {
                    "-LOADING Redis is loading the dataset in memory\r\n".to_owned()
                } else {
                    outcome_unknown = true;
                    break;
                };
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
        }
    }

    #[test]
    fn more_outcomes_are_unknown_where_the_driver_retries() {
        let server = |kind| RedisError::from((ErrorKind::Server(kind), "reason"));
        let dropped = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        for (error, once, repeated) in [
            (RedisError::from(dropped), true, true),
            (server(ServerErrorKind::BusyLoading), false, true),
            (server(ServerErrorKind::ClusterDown), false, true),
            (server(ServerErrorKind::ReadOnly), false, true),
            (server(ServerErrorKind::NoScript), false, false),
            (server(ServerErrorKind::ResponseError), false, false),
            (redis::make_extension_error("OOM".into(), None), false, false),
        ] {
            assert_eq!(outcome_is_unknown(&error, false), once, "{error}");
            assert_eq!(outcome_is_unknown(&error, true), repeated, "{error}");
        }
    }

    #[tokio::test]
    async fn a_rejected_retry_leaves_the_outcome_unknown() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let asked = async {
            let connection = RedisConn::open(&RedisUrls::new(vec![url])).await.unwrap();
            let client = ScriptClient::new(connection, Arc::new(Metrics::new(&[], &[])));
            let run =
                async || client.run(RedisOp::Take, &client.scripts.take, &[], NO_ARGUMENTS).await;
            assert_eq!(run().await.unwrap_err(), CommandError::Unknown);
            assert_eq!(run().await.unwrap_err(), CommandError::Rejected);
        };
        tokio::select! {
            () = restarts(listener) => panic!("it serves for ever"),
            () = asked => {}
        }
    }
}
