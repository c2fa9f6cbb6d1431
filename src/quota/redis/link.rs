//! The way to Redis: scripts run, repeated when they go unanswered, and measured.

use super::scripts::{Script, Scripts};
use crate::clock;
use crate::quota::counters::CountersError;
use crate::redis_conn::RedisConn;
use crate::telemetry::labels::RedisOp;
use crate::telemetry::metrics::Metrics;
use redis::{Cmd, FromRedisValue, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// One gateway's way to Redis.
pub(super) struct Link {
    connection: RedisConn,
    pub(super) scripts: Scripts,
    pub(super) metrics: Arc<Metrics>,
    /// The latest look found nobody; the keeper goes on looking.
    away: AtomicBool,
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
        Self { connection, scripts: Scripts::new(), metrics, away: AtomicBool::new(false) }
    }

    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Notes whether Redis answers. Returns whether that is news.
    pub(super) fn set_away(&self, away: bool) -> bool {
        self.away.swap(away, Ordering::Relaxed) != away
    }

    /// Runs a script, once more when no answer came.
    pub(super) async fn run(
        &self,
        op: RedisOp,
        script: &Script,
        keys: &[String],
        arguments: &[String],
    ) -> Result<Vec<Value>, Unanswered> {
        let began = clock::instant();
        let mut done = script.run(&self.connection, keys, arguments).await;
        let fell_silent = done.as_ref().is_err_and(is_silence);
        if fell_silent {
            done = script.run(&self.connection, keys, arguments).await;
        }
        self.metrics.redis_seconds(op).record(clock::instant().duration_since(began));
        // A second try that is refused, as by a server that is starting, tells nothing of the first.
        let why = |e| if fell_silent { Unanswered::Silent } else { e };
        done.map_err(|e| why(unanswered(&e)))
    }

    /// Runs a script until it is answered.
    pub(super) async fn run_to_end(
        &self,
        op: RedisOp,
        script: &Script,
        keys: &[String],
        arguments: &[String],
    ) -> Vec<Value> {
        let mut pause = FIRST_PAUSE;
        loop {
            if let Ok(reply) = self.run(op, script, keys, arguments).await {
                return reply;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Sends one command, once.
    pub(super) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Unanswered> {
        self.connection.send(command).await.map_err(|e| unanswered(&e))
    }
}

/// Whether a command may or may not have been carried out, so that only its repetition tells.
fn is_silence(error: &redis::RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
}

/// The cause goes to the log, here; callers only learn that the quota store is away.
fn unanswered(error: &redis::RedisError) -> Unanswered {
    tracing::warn!(%error, "redis did not do what it was asked");
    if is_silence(error) { Unanswered::Silent } else { Unanswered::Refused }
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
                    "+OK\r\n".repeat(text.matches("SETINFO").count())
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

    #[tokio::test]
    async fn a_refused_second_try_tells_nothing_of_the_first() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let tasks = tokio_util::task::TaskTracker::new();
        let server = tasks.spawn(starts_again(listener));
        let connection = RedisConn::open(&RedisUrls::new(vec![url])).await.unwrap();
        let link = Link::new(connection, Arc::new(Metrics::new(&[], &[])));
        let run = async || link.run(RedisOp::Take, &link.scripts.take, &[], &[]).await;
        assert_eq!(run().await.unwrap_err(), Unanswered::Silent);
        assert_eq!(run().await.unwrap_err(), Unanswered::Refused);
        server.abort();
    }
}
