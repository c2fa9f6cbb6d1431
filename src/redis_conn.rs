//! One shared connection to Redis, whatever its kind.
//!
//! Calls at the same time share it and travel together (pipelined), so there is nothing to wait for
//! and nothing to check out. It reconnects by itself, and never sends a command twice: whoever
//! repeats one has to know that it is safe.

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, FromRedisValue, Pipeline, RedisResult};
use std::fmt;
use std::time::Duration;

/// How long one command may take, connecting included.
const PATIENCE: Duration = Duration::from_millis(400);

/// A handle to the connection; clones share it.
#[derive(Clone)]
pub enum RedisConn {
    /// One server.
    Single(ConnectionManager),
    /// A cluster, each command sent to the node that has its keys.
    Cluster(ClusterConnection),
}

/// Where Redis is. Prints nothing but hosts: the addresses may hold passwords.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrls(Vec<String>);

impl RedisUrls {
    /// One address is a server, several are nodes of a cluster.
    #[must_use]
    pub fn new(urls: Vec<String>) -> Self {
        Self(urls)
    }
}

impl RedisUrls {
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::new(text.split(',').map(str::to_owned).collect()))
    }
}

impl fmt::Debug for RedisUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host =
            |url: &String| url.rsplit(['@', '/']).find(|p| p.contains(':')).map(str::to_owned);
        f.debug_list().entries(self.0.iter().map(host)).finish()
    }
}

impl RedisConn {
    /// A connection that is made when it is first needed.
    ///
    /// # Errors
    /// An address that cannot be read, or a cluster of which no node answers.
    pub async fn open(urls: &RedisUrls) -> RedisResult<Self> {
        if let [url] = &urls.0[..] {
            let config = ConnectionManagerConfig::new()
                .set_connection_timeout(Some(PATIENCE))
                .set_response_timeout(Some(PATIENCE))
                .set_number_of_retries(1)
                .set_max_delay(Duration::from_millis(250));
            let client = Client::open(url.as_str())?;
            return Ok(Self::Single(ConnectionManager::new_lazy_with_config(client, config)?));
        }
        let client = ClusterClientBuilder::new(urls.0.clone())
            .connection_timeout(PATIENCE)
            .response_timeout(PATIENCE)
            .retries(1)
            .build()?;
        Ok(Self::Cluster(client.get_async_connection().await?))
    }

    /// A connection to a cluster, known by some of its nodes.
    ///
    /// # Errors
    /// An address that cannot be read, or no node that answers.
    pub async fn open_cluster(urls: &RedisUrls) -> RedisResult<Self> {
        let client = ClusterClientBuilder::new(urls.0.clone())
            .connection_timeout(PATIENCE)
            .response_timeout(PATIENCE)
            .retries(1)
            .build()?;
        Ok(Self::Cluster(client.get_async_connection().await?))
    }

    /// Sends commands to be carried out together.
    ///
    /// # Errors
    /// As [`RedisConn::send`].
    pub async fn send_all(&self, commands: &Pipeline) -> RedisResult<()> {
        match self {
            Self::Single(connection) => commands.query_async(&mut connection.clone()).await,
            Self::Cluster(connection) => commands.query_async(&mut connection.clone()).await,
        }
    }

    /// Sends a command.
    ///
    /// # Errors
    /// No answer in time, or an error as the answer. The command may have been carried out.
    pub async fn send<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Single(connection) => command.query_async(&mut connection.clone()).await,
            Self::Cluster(connection) => command.query_async(&mut connection.clone()).await,
        }
    }
}
