//! One shared connection to Redis, whatever its kind.
//!
//! Calls at the same time share it and travel together (pipelined), so there is nothing to wait for
//! and nothing to check out. It reconnects by itself, also when the server says that it is no primary any
//! more. To one server, and to one that sentinels name, it never sends a command twice; to a cluster the driver does, once, when a node drops the connection or
//! says that it cannot serve it now. So every command has to be safe to repeat.

mod urls;
mod reconnect;
mod sentinel;

pub use urls::RedisUrls;

use reconnect::{Reconnecting, Target};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{Cmd, FromRedisValue, IntoConnectionInfo, Pipeline, RedisError, RedisResult};
use std::io;
use std::time::Duration;
use tokio::time::timeout;
use urls::Place;

/// What was sent must be acknowledged by the other machine within this time.
const SILENCE: Duration = Duration::from_secs(2);
/// How long one command may take, connecting included.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(400);

/// A handle to the connection; clones share it.
#[derive(Clone)]
pub enum RedisConn {
    /// The server at one address, or the one that sentinels name at the time.
    Single(Reconnecting),
    /// A cluster, each command sent to the node that has its keys.
    Cluster(ClusterConnection),
}

impl RedisConn {
    /// A connection that is made when it is first needed.
    ///
    /// # Errors
    /// An address that cannot be read, or a cluster of which no node answers.
    pub async fn open(urls: &RedisUrls) -> RedisResult<Self> {
        match &urls.0 {
            Place::Single(url) => {
                let server = Box::new(url.as_str().into_connection_info()?);
                Ok(Self::Single(Reconnecting::new(Target::Server(server))))
            }
            Place::Cluster(urls) => Self::open_nodes(urls).await,
            Place::Sentinel(watched) => {
                Ok(Self::Single(Reconnecting::new(Target::Watched(watched.clone()))))
            }
        }
    }

    /// A connection to a cluster, known by some of its nodes: also by a single one.
    ///
    /// # Errors
    /// An address that cannot be read, or no node that answers.
    pub async fn open_cluster(urls: &RedisUrls) -> RedisResult<Self> {
        match &urls.0 {
            Place::Single(url) => Self::open_nodes(std::slice::from_ref(url)).await,
            Place::Cluster(_) | Place::Sentinel(_) => Self::open(urls).await,
        }
    }

    async fn open_nodes(urls: &[String]) -> RedisResult<Self> {
        let client = ClusterClientBuilder::new(urls.to_vec())
            .connection_timeout(COMMAND_TIMEOUT)
            .response_timeout(COMMAND_TIMEOUT)
            .retries(1)
            .tcp_settings(tcp())
            .build()?;
        Ok(Self::Cluster(client.get_async_connection().await?))
    }

    /// Whether each command goes to the node that has its keys; the driver then repeats some.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }

    /// Sends commands to be carried out together.
    ///
    /// # Errors
    /// As [`RedisConn::send`].
    pub async fn send_all(&self, commands: &Pipeline) -> RedisResult<()> {
        match self {
            Self::Single(connection) => connection.send_all(commands).await,
            Self::Cluster(connection) => {
                in_time(commands.query_async(&mut connection.clone())).await
            }
        }
    }

    /// Sends a command.
    ///
    /// # Errors
    /// No answer in time, or an error as the answer. The command may have been carried out.
    pub async fn send<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Single(connection) => connection.send(command).await,
            Self::Cluster(connection) => {
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
    let settings = settings.set_user_timeout(SILENCE);
    let idle = TcpKeepalive::new().with_time(SILENCE).with_interval(SILENCE);
    settings.set_keepalive(idle)
}

fn timed_out() -> RedisError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}
