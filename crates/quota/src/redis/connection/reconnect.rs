//! A connection to a primary: opened on first use, and reopened when the server is lost or reports that it
//! is no longer the primary.
//!
//! Only one attempt runs at a time and all commands wait for it, so a failover costs the servers a few
//! connections a second, however many calls there are.

use super::sentinel;
use super::urls::SentinelGroup;
use super::{COMMAND_TIMEOUT, tcp_settings, timed_out};
use futures_util::future::{BoxFuture, FutureExt, Shared};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, FromRedisValue};
use redis::{Pipeline, RedisError, RedisResult, ServerErrorKind};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{error::Elapsed, sleep, timeout};

/// Time limit of a connection attempt. It may outlast the commands that wait for it; later commands then use it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two connection attempts through sentinels, and to a single address.
const SENTINEL_RETRY_INTERVAL: Duration = Duration::from_millis(50);
const SERVER_RETRY_INTERVAL: Duration = Duration::from_millis(100);

const IS_REPLICA: &str = "the server in REDIS_URL is a read-only replica; set the address of the \
    primary, or of the sentinels (redis+sentinel://)";

/// A handle to the connection; clones share it.
#[derive(Clone)]
pub struct Reconnecting {
    target: Arc<Target>,
    attempt: Arc<Mutex<Attempt>>,
}

/// The server to connect to.
pub(super) enum Target {
    /// The one at this address.
    Server(Box<ConnectionInfo>),
    /// The primary that the sentinels report.
    Sentinels(SentinelGroup),
}

/// A running connection attempt, or its result.
#[derive(Clone)]
struct Attempt {
    /// Distinguishes it from earlier and later attempts.
    number: u64,
    primary: Shared<BoxFuture<'static, RedisResult<MultiplexedConnection>>>,
}

impl Reconnecting {
    /// Connects when the first command is sent.
    pub(super) fn new(target: Arc<Target>) -> Self {
        let primary = primary(Arc::clone(&target)).boxed().shared();
        Self { target, attempt: Arc::new(Mutex::new(Attempt { number: 0, primary })) }
    }

    /// Sends a command, and returns its reply.
    pub(super) async fn send<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let attempt = self.attempt.lock().clone();
        let sent = async { command.query_async(&mut attempt.primary.clone().await?).await };
        self.conclude(&attempt, timeout(COMMAND_TIMEOUT, sent).await)
    }

    /// Sends a pipeline of commands.
    pub(super) async fn send_all(&self, commands: &Pipeline) -> RedisResult<()> {
        let attempt = self.attempt.lock().clone();
        let sent = async { commands.query_async(&mut attempt.primary.clone().await?).await };
        self.conclude(&attempt, timeout(COMMAND_TIMEOUT, sent).await)
    }

    /// Returns the result of a command; its failure may call for a new connection.
    fn conclude<T>(
        &self,
        attempt: &Attempt,
        sent: Result<RedisResult<T>, Elapsed>,
    ) -> RedisResult<T> {
        let done = sent.unwrap_or_else(|_| Err(timed_out()));
        let is_over = match (attempt.primary.peek(), &done) {
            // Still running, so it may succeed.
            (None, _) | (Some(Ok(_)), Ok(_)) => false,
            (Some(Ok(_)), Err(e)) => self.target.is_lost_by(e),
            (Some(Err(_)), _) => true,
        };
        if is_over {
            self.connect_again(attempt.number);
        }
        done
    }

    /// Begins the attempt after `last`, unless another command has.
    fn connect_again(&self, last: u64) {
        let mut attempt = self.attempt.lock();
        if attempt.number == last {
            let target = Arc::clone(&self.target);
            let primary = async move {
                sleep(target.pause()).await;
                primary(target).await
            };
            *attempt = Attempt { number: last + 1, primary: primary.boxed().shared() };
        }
    }
}

impl Target {
    fn pause(&self) -> Duration {
        match self {
            Self::Server(_) => SERVER_RETRY_INTERVAL,
            Self::Sentinels(_) => SENTINEL_RETRY_INTERVAL,
        }
    }

    /// True for an error after which the connection must be reopened. At one address a command that
    /// is slow does not mean another server; a connection that is dead is ended by the system.
    fn is_lost_by(&self, error: &RedisError) -> bool {
        match self {
            Self::Server(_) if error.is_timeout() => false,
            _ => is_lost(error),
        }
    }
}

/// True for an error of a connection that broke, or of a server that is not the primary.
fn is_lost(error: &RedisError) -> bool {
    let is_demoted = matches!(
        error.kind(),
        ErrorKind::Server(
            // Replies of a replica to a write, alone and in a transaction.
            ServerErrorKind::ReadOnly | ServerErrorKind::ExecAbort | ServerErrorKind::MasterDown
        )
    );
    // Reply of a primary that was cut off from its replicas and must not accept writes alone.
    let is_isolated = error.code() == Some("NOREPLICAS");
    error.is_io_error() || error.is_unrecoverable_error() || is_demoted || is_isolated
}

async fn primary(target: Arc<Target>) -> RedisResult<MultiplexedConnection> {
    let found = async {
        match &*target {
            Target::Server(server) => connect_to_primary(server).await,
            Target::Sentinels(group) => sentinel::connect_to_primary(group).await,
        }
    };
    timeout(CONNECT_TIMEOUT, found).await.unwrap_or_else(|_| Err(timed_out()))
}

/// Connects to the server at one address. Behind a name or a load balancer it may be another server than before.
async fn connect_to_primary(server: &ConnectionInfo) -> RedisResult<MultiplexedConnection> {
    let mut connection = connect(server.clone()).await?;
    let mut info = redis::cmd("INFO");
    match info.arg("replication").query_async::<String>(&mut connection).await {
        Ok(info) if is_replica(&info) => Err((ErrorKind::Io, IS_REPLICA).into()),
        Err(e) if is_lost(&e) || e.is_timeout() => Err(e),
        // If the role is not known, because the account may not query it, writes reveal it later.
        Ok(_) | Err(_) => Ok(connection),
    }
}

fn is_replica(info: &str) -> bool {
    info.lines().any(|line| matches!(line.trim_end(), "role:slave" | "role:replica"))
}

pub(super) async fn connect(server: ConnectionInfo) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(COMMAND_TIMEOUT))
        .set_response_timeout(Some(COMMAND_TIMEOUT));
    Client::open(server.set_tcp_settings(tcp_settings()))?
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_role_is_read_from_the_info_reply() {
        for (info, replica) in [
            ("# Replication\r\nrole:master\r\nconnected_slaves:1\r\n", false),
            ("# Replication\r\nrole:slave\r\nmaster_host:h\r\n", true),
            ("role:replica\n", true),
            ("slave_role:slave\r\n", false),
            ("", false),
        ] {
            assert_eq!(is_replica(info), replica, "{info}");
        }
    }

    #[test]
    fn a_slow_reply_does_not_close_the_connection_to_one_address() {
        let server = |text: &str| {
            Target::Server(Box::new(redis::IntoConnectionInfo::into_connection_info(text).unwrap()))
        };
        let target = server("redis://h");
        let of = |kind| RedisError::from((ErrorKind::Server(kind), "reason"));
        assert!(!target.is_lost_by(&timed_out()));
        assert!(target.is_lost_by(&of(ServerErrorKind::ReadOnly)));
        assert!(target.is_lost_by(&of(ServerErrorKind::MasterDown)));
        assert!(target.is_lost_by(&redis::make_extension_error("NOREPLICAS".into(), None)));
        assert!(!target.is_lost_by(&of(ServerErrorKind::ResponseError)));
        assert!(!target.is_lost_by(&of(ServerErrorKind::NoScript)));
    }
}
