//! The way to Redis: scripts run, repeated when they go unanswered, and measured.

use super::scripts::{Script, Scripts};
use crate::clock;
use crate::quota::counters::CountersError;
use crate::redis_conn::RedisConn;
use crate::telemetry::labels::RedisOp;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::outage::{Ended, Outage};
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(20);
pub(super) const LAST_PAUSE: Duration = Duration::from_secs(1);
/// An outage is over when nothing has failed for this long: one that comes and goes is one.
const QUIET: Duration = Duration::from_secs(1);

/// One gateway's way to Redis.
pub(super) struct Link {
    connection: RedisConn,
    /// For work that may wait, so that its replies delay no take.
    bulk: RedisConn,
    pub(super) scripts: Scripts,
    pub(super) metrics: Arc<Metrics>,
    /// The latest poll got no reply; the keeper continues polling.
    away: AtomicBool,
    /// From the first command that failed until Redis takes writes again.
    outage: Outage,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// The command was refused: it was not carried out.
    Refused,
    /// Nothing came: it may have been carried out.
    Silent,
}

impl From<Unanswered> for CountersError {
    fn from(_: Unanswered) -> Self {
        Self
    }
}

impl Link {
    pub(super) fn new(connection: RedisConn, metrics: Arc<Metrics>) -> Self {
        let (away, outage) = (AtomicBool::new(false), Outage::default());
        let bulk = connection.bulk();
        Self { connection, bulk, scripts: Scripts::new(), metrics, away, outage }
    }

    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Records whether Redis answers.
    pub(super) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// True while commands fail, and until Redis is known to take writes again.
    pub(super) fn has_outage(&self) -> bool {
        self.outage.is_open()
    }

    /// Redis takes writes. Ends the outage, once no command has failed for a moment.
    pub(super) fn end_outage(&self) {
        if let Some(Ended { lasted, failures }) = self.outage.end(clock::instant(), QUIET) {
            let seconds = lasted.as_secs_f64();
            tracing::info!(seconds, failures, "redis recovered");
        }
    }

    /// Runs a script, once more when no answer came.
    pub(super) async fn run(
        &self,
        op: RedisOp,
        script: &Script,
        keys: &[String],
        arguments: &[String],
    ) -> Result<Vec<Value>, Unanswered> {
        self.run_told(op, script, keys, arguments).await.0
    }

    /// The same; and whether no answer came at first, so that the script may yet be carried out by a
    /// server that reads a dying connection to its end.
    pub(super) async fn run_told(
        &self,
        op: RedisOp,
        script: &Script,
        keys: &[String],
        arguments: &[String],
    ) -> (Result<Vec<Value>, Unanswered>, bool) {
        self.run_over(&self.connection, op, script, keys, arguments).await
    }

    /// Runs a script of bulk work, once more when no answer came.
    pub(super) async fn run_bulk(
        &self,
        script: &Script,
        keys: &[String],
        arguments: &[String],
    ) -> Result<Vec<Value>, Unanswered> {
        self.run_over(&self.bulk, RedisOp::Flush, script, keys, arguments).await.0
    }

    async fn run_over(
        &self,
        connection: &RedisConn,
        op: RedisOp,
        script: &Script,
        keys: &[String],
        arguments: &[String],
    ) -> (Result<Vec<Value>, Unanswered>, bool) {
        let began = clock::instant();
        let mut done = script.run(connection, keys, arguments).await;
        let fell_silent = done.as_ref().is_err_and(|e| self.is_silence(e));
        if fell_silent {
            done = script.run(connection, keys, arguments).await;
        }
        self.metrics.redis_seconds(op).record(clock::instant().duration_since(began));
        // A second try that is refused, as by a server that is starting, tells nothing of the first.
        let why = |e| if fell_silent { Unanswered::Silent } else { e };
        (done.map_err(|e| why(self.unanswered(&e))), fell_silent)
    }

    /// Sends one command, once.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Unanswered> {
        self.connection.send(command).await.map_err(|e| self.unanswered(&e))
    }

    /// Sends one command of bulk work, once.
    pub(super) async fn ask_bulk<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Unanswered> {
        self.bulk.send(command).await.map_err(|e| self.unanswered(&e))
    }

    /// Sends one command that servers may refuse to carry out: a refusal is no failure.
    pub(super) async fn ask_if_allowed<T: FromRedisValue>(
        &self,
        command: &Cmd,
    ) -> Result<Option<T>, Unanswered> {
        match self.connection.send(command).await {
            Ok(answer) => Ok(Some(answer)),
            Err(e) if !self.is_silence(&e) => Ok(None),
            Err(e) => Err(self.unanswered(&e)),
        }
    }

    /// The cause goes to the log here, once an outage; callers only learn that the quota store is
    /// away.
    fn unanswered(&self, error: &RedisError) -> Unanswered {
        if self.outage.fail(clock::instant()) {
            tracing::error!(%error, "redis failed; refusing requests that need it until it recovers");
        } else {
            tracing::debug!(%error, "redis command failed");
        }
        if self.is_silence(error) { Unanswered::Silent } else { Unanswered::Refused }
    }

    /// Whether there are several masters.
    pub(super) fn is_cluster(&self) -> bool {
        self.connection.is_cluster()
    }

    fn is_silence(&self, error: &RedisError) -> bool {
        may_have_been_done(error, self.connection.is_cluster())
    }
}

/// Whether a command may or may not have been carried out, so that only its repetition tells. Where
/// the driver repeats commands, an error may be the answer to the second try alone: then only those
/// that the first would have met as well tell that nothing was done.
fn may_have_been_done(error: &RedisError, is_repeated: bool) -> bool {
    let is_silence = error.is_io_error() || error.is_timeout() || error.is_connection_dropped();
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
    is_silence || is_repeated && !is_lasting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis_conn::RedisUrls;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Closes the first connection that brings a script, and then is still loading.
    async fn starts_again(listener: TcpListener) {
        let mut fell_silent = false;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 65536];
            while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                let text = String::from_utf8_lossy(&bytes[..length]);
                let reply = if !text.contains("EVALSHA") {
                    let role =
                        if text.contains("INFO\r\n$11\r\nrepl") { "+role:master\r\n" } else { "" };
                    "+OK\r\n".repeat(text.matches("SETINFO").count()) + role
                } else if fell_silent {
                    "-LOADING Redis is loading the dataset in memory\r\n".to_owned()
                } else {
                    fell_silent = true;
                    break;
                };
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
        }
    }

    #[test]
    fn a_driver_that_repeats_leaves_more_in_doubt() {
        let server = |kind| RedisError::from((ErrorKind::Server(kind), "told"));
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
            assert_eq!(may_have_been_done(&error, false), once, "{error}");
            assert_eq!(may_have_been_done(&error, true), repeated, "{error}");
        }
    }

    #[tokio::test]
    async fn a_refused_second_try_tells_nothing_of_the_first() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let asked = async {
            let connection = RedisConn::open(&RedisUrls::new(vec![url])).await.unwrap();
            let link = Link::new(connection, Arc::new(Metrics::new(&[], &[])));
            let run = async || link.run(RedisOp::Take, &link.scripts.take, &[], &[]).await;
            assert_eq!(run().await.unwrap_err(), Unanswered::Silent);
            assert_eq!(run().await.unwrap_err(), Unanswered::Refused);
        };
        tokio::select! {
            () = starts_again(listener) => panic!("it serves for ever"),
            () = asked => {}
        }
    }
}
