//! Finds the primary through its sentinels, again after each failover.

use super::reconnect::connect;
use super::urls::SentinelGroup;
use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::aio::MultiplexedConnection;
use redis::{ConnectionInfo, ErrorKind, RedisError, RedisResult, Role};
use std::collections::HashMap;

/// Connects to the server that a majority of the sentinels reports. One sentinel alone may be isolated together
/// with a master that the others have replaced, and writes to that master are lost.
pub(super) async fn connect_to_primary(
    group: &SentinelGroup,
) -> RedisResult<MultiplexedConnection> {
    let queries = group.sentinels.iter().map(|sentinel| master_by(group, sentinel));
    let mut answers: FuturesUnordered<_> = queries.collect();
    let needed = group.sentinels.len() / 2 + 1;
    let mut votes: HashMap<(String, u16), usize> = HashMap::new();
    let mut problem = RedisError::from((ErrorKind::Io, "the sentinels disagree about the master"));
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(master) => {
                let count = votes.entry(master.clone()).or_default();
                *count += 1;
                if *count == needed {
                    return connect_to_master(group, &master).await;
                }
            }
            Err(e) => problem = e,
        }
    }
    Err(problem)
}

/// Returns the host and port of the master that one sentinel reports.
async fn master_by(group: &SentinelGroup, sentinel: &(String, u16)) -> RedisResult<(String, u16)> {
    let [open, with_login] = group.sentinel(sentinel).map_err(unreadable)?;
    match query_master(open, &group.name).await {
        // Sentinels need no login unless they are configured to.
        Err(e) if e.code() == Some("NOAUTH") => query_master(with_login, &group.name).await,
        result => result,
    }
}

async fn query_master(sentinel: ConnectionInfo, name: &str) -> RedisResult<(String, u16)> {
    let mut command = redis::cmd("SENTINEL");
    command.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let master: Option<(String, u16)> = command.query_async(&mut connect(sentinel).await?).await?;
    master.ok_or_else(|| {
        let problem = "the sentinels do not know the master name in REDIS_URL";
        RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, problem))
    })
}

async fn connect_to_master(
    group: &SentinelGroup,
    master: &(String, u16),
) -> RedisResult<MultiplexedConnection> {
    let mut connection = connect(group.master(master).map_err(unreadable)?).await?;
    match redis::cmd("ROLE").query_async(&mut connection).await? {
        Role::Primary { .. } => Ok(connection),
        // A failover is running, and the sentinels do not agree yet.
        _ => Err((ErrorKind::Io, "the server that the sentinels report is not a master").into()),
    }
}

fn unreadable(problem: String) -> RedisError {
    (ErrorKind::InvalidClientConfig, "a Redis address is not valid", problem).into()
}
