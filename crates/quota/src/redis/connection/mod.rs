//! Shared connections to Redis, whatever its kind: one for calls, one for bulk work.
//!
//! Commands at the same time share a connection and travel together (pipelined), so there is nothing to wait
//! for and nothing to check out. Replies come in the order of the commands, so a large one delays those behind
//! it: commands with large replies, and many commands at once, go through [`RedisConn::bulk`].
//!
//! A connection reconnects by itself, also when the server says that it is no primary any
//! more. To one server, and to one that sentinels name, it never sends a command twice; to a cluster the driver does, once, when a node drops the connection or
//! says that it cannot serve it now. So every command has to be safe to repeat.

mod urls;
mod reconnect;
mod sentinel;

pub mod preflight;

pub use urls::RedisUrls;

use reconnect::{Reconnecting, Target};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{Cmd, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError, RedisResult};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use urls::Place;

/// What was sent must be acknowledged by the other machine within this time.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long one command may take, connecting included.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(400);

/// A handle to the connections; clones share them.
#[derive(Clone)]
pub struct RedisConn {
    calls: Connection,
    bulk: Connection,
}

/// One connection.
#[derive(Clone)]
enum Connection {
    /// The server at one address, or the one that sentinels name at the time.
    Single(Reconnecting),
    /// A cluster, each command sent to the node that has its keys.
    Cluster(ClusterConnection),
}

impl RedisConn {
    /// Connections that are made when they are first needed.
    ///
    /// # Errors
    /// An address that cannot be read, or a cluster of which no node answers.
    pub async fn open(urls: &RedisUrls) -> RedisResult<Self> {
        match &urls.0 {
            Place::Single(url) => {
                let server = Box::new(url.as_str().into_connection_info()?);
                Ok(Self::to(Target::Server(server)))
            }
            Place::Cluster(urls) => Self::open_nodes(urls).await,
            Place::Sentinel(watched) => Ok(Self::to(Target::Watched(watched.clone()))),
        }
    }

    /// Connections to a cluster, known by some of its nodes: also by a single one.
    ///
    /// # Errors
    /// An address that cannot be read, or no node that answers.
    pub async fn open_cluster(urls: &RedisUrls) -> RedisResult<Self> {
        match &urls.0 {
            Place::Single(url) => Self::open_nodes(std::slice::from_ref(url)).await,
            Place::Cluster(_) | Place::Sentinel(_) => Self::open(urls).await,
        }
    }

    fn to(target: Target) -> Self {
        let target = Arc::new(target);
        let connection = || Connection::Single(Reconnecting::new(Arc::clone(&target)));
        Self { calls: connection(), bulk: connection() }
    }

    async fn open_nodes(urls: &[String]) -> RedisResult<Self> {
        let client = ClusterClientBuilder::new(urls.to_vec())
            .connection_timeout(COMMAND_TIMEOUT)
            .response_timeout(COMMAND_TIMEOUT)
            .retries(1)
            .tcp_settings(tcp())
            .build()?;
        let calls = Connection::Cluster(client.get_async_connection().await?);
        let bulk = Connection::Cluster(client.get_async_connection().await?);
        Ok(Self { calls, bulk })
    }

    /// The connection for work that may wait, as a handle of its own: outbox reads, rebuilds,
    /// comparisons and reports.
    #[must_use]
    pub fn bulk(&self) -> Self {
        Self { calls: self.bulk.clone(), bulk: self.bulk.clone() }
    }

    /// Whether each command goes to the node that has its keys; the driver then repeats some.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.calls, Connection::Cluster(_))
    }

    /// Sends commands to be carried out together.
    ///
    /// # Errors
    /// As [`RedisConn::send`].
    pub async fn send_all(&self, commands: &Pipeline) -> RedisResult<()> {
        match &self.calls {
            Connection::Single(connection) => connection.send_all(commands).await,
            Connection::Cluster(connection) => {
                in_time(commands.query_async(&mut connection.clone())).await
            }
        }
    }

    /// Sends a command.
    ///
    /// # Errors
    /// No answer in time, or an error as the answer. The command may have been carried out.
    pub async fn send<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        match &self.calls {
            Connection::Single(connection) => connection.send(command).await,
            Connection::Cluster(connection) => {
                in_time(command.query_async(&mut connection.clone())).await
            }
        }
    }
}

/// The driver's own limits are for connecting and for the answer, each by itself.
async fn in_time<T>(sent: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    timeout(COMMAND_TIMEOUT, sent).await.unwrap_or_else(|_| Err(timed_out()))
}

/// A server that vanished without a word is found by its silence: the driver keeps a connection on which
/// commands time out, so the system has to end it.
fn tcp() -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(TCP_USER_TIMEOUT);
    let idle = TcpKeepalive::new().with_time(TCP_USER_TIMEOUT).with_interval(TCP_USER_TIMEOUT);
    settings.set_keepalive(idle)
}

fn timed_out() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}
