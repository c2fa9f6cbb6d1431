//! Shared connections to a Redis server, a primary behind sentinels, or a cluster: one for calls, one for bulk work.
//!
//! Concurrent commands are pipelined on one connection, so none waits for a connection. Replies arrive in the order of
//! the commands, so a large one delays those behind it: commands with large replies, and many commands at once, go
//! through [`RedisConn::bulk`].
//!
//! A connection is reopened when it is lost, or when the server reports that it is no longer the primary. A command is
//! never sent twice, except to a cluster: there the driver retries once if a node drops the connection or cannot serve
//! the command. So every command has to be safe to repeat.

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
use urls::Topology;

/// Time limit for the other machine to acknowledge sent data.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit of one command, including the connection.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(400);

/// A handle to the connections; clones share them.
#[derive(Clone)]
pub struct RedisConn {
    calls: Connection,
    bulk: Connection,
}

/// A connection to a server or to a cluster.
#[derive(Clone)]
enum Connection {
    /// The server at one address, or the primary that the sentinels report.
    Single(Reconnecting),
    /// A cluster; each command is sent to the node that has its keys.
    Cluster(ClusterConnection),
}

impl RedisConn {
    /// Creates connections, which are opened on first use.
    ///
    /// # Errors
    /// If an address is not valid, or no node of a cluster responds.
    pub async fn open(urls: &RedisUrls) -> RedisResult<Self> {
        match &urls.0 {
            Topology::Single(url) => {
                let server = Box::new(url.as_str().into_connection_info()?);
                Ok(Self::to(Target::Server(server)))
            }
            Topology::Cluster(urls) => Self::open_nodes(urls).await,
            Topology::Sentinel(group) => Ok(Self::to(Target::Sentinels(group.clone()))),
        }
    }

    /// Creates connections to a cluster from the addresses of one or more of its nodes.
    ///
    /// # Errors
    /// If an address is not valid, or no node responds.
    pub async fn open_cluster(urls: &RedisUrls) -> RedisResult<Self> {
        match &urls.0 {
            Topology::Single(url) => Self::open_nodes(std::slice::from_ref(url)).await,
            Topology::Cluster(_) | Topology::Sentinel(_) => Self::open(urls).await,
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
            .tcp_settings(tcp_settings())
            .build()?;
        let calls = Connection::Cluster(client.get_async_connection().await?);
        let bulk = Connection::Cluster(client.get_async_connection().await?);
        Ok(Self { calls, bulk })
    }

    /// Returns the connection for bulk work: outbox reads, rebuilds, comparisons and reports.
    #[must_use]
    pub fn bulk(&self) -> Self {
        Self { calls: self.bulk.clone(), bulk: self.bulk.clone() }
    }

    /// True for a cluster, in which case the driver retries some commands.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.calls, Connection::Cluster(_))
    }

    /// Sends a pipeline of commands.
    ///
    /// # Errors
    /// The errors of [`RedisConn::send`].
    pub async fn send_all(&self, commands: &Pipeline) -> RedisResult<()> {
        match &self.calls {
            Connection::Single(connection) => connection.send_all(commands).await,
            Connection::Cluster(connection) => {
                with_timeout(commands.query_async(&mut connection.clone())).await
            }
        }
    }

    /// Sends a command, and returns its reply.
    ///
    /// # Errors
    /// If there is no reply in time, or the reply is an error. The command may have been executed.
    pub async fn send<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        match &self.calls {
            Connection::Single(connection) => connection.send(command).await,
            Connection::Cluster(connection) => {
                with_timeout(command.query_async(&mut connection.clone())).await
            }
        }
    }
}

/// Applies [`COMMAND_TIMEOUT`]; the driver's own limits apply to the connection and to the reply separately.
async fn with_timeout<T>(sent: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    timeout(COMMAND_TIMEOUT, sent).await.unwrap_or_else(|_| Err(timed_out()))
}

/// The driver keeps a connection on which commands time out, so TCP has to detect a machine that vanished.
fn tcp_settings() -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(TCP_USER_TIMEOUT);
    let idle = TcpKeepalive::new().with_time(TCP_USER_TIMEOUT).with_interval(TCP_USER_TIMEOUT);
    settings.set_keepalive(idle)
}

fn timed_out() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}
