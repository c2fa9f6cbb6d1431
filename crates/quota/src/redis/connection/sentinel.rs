//! A primary that sentinels watch: found by asking them, again after another has taken its place.

use super::reconnect::connect;
use super::urls::Watched;
use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::aio::MultiplexedConnection;
use redis::{ConnectionInfo, ErrorKind, RedisError, RedisResult, Role};
use std::collections::HashMap;

/// The server that most of the sentinels name. One sentinel alone may have been cut off together
/// with a master that the others have replaced: what is written there is lost.
pub(super) async fn connect_to_primary(watched: &Watched) -> RedisResult<MultiplexedConnection> {
    let asked = watched.sentinels.iter().map(|sentinel| master_by(watched, sentinel));
    let mut answers: FuturesUnordered<_> = asked.collect();
    let needed = watched.sentinels.len() / 2 + 1;
    let mut votes: HashMap<(String, u16), usize> = HashMap::new();
    let mut problem = RedisError::from((ErrorKind::Io, "the sentinels disagree about the master"));
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(master) => {
                let votes = votes.entry(master.clone()).or_default();
                *votes += 1;
                if *votes == needed {
                    return connect_to_master(watched, &master).await;
                }
            }
            Err(e) => problem = e,
        }
    }
    Err(problem)
}

/// Host and port of the master as one sentinel knows it.
async fn master_by(watched: &Watched, sentinel: &(String, u16)) -> RedisResult<(String, u16)> {
    let [open, with_login] = watched.sentinel(sentinel).map_err(unreadable)?;
    match ask(open, &watched.name).await {
        // Sentinels need no login unless they are configured to.
        Err(e) if e.code() == Some("NOAUTH") => ask(with_login, &watched.name).await,
        answered => answered,
    }
}

async fn ask(sentinel: ConnectionInfo, name: &str) -> RedisResult<(String, u16)> {
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let master: Option<(String, u16)> = question.query_async(&mut connect(sentinel).await?).await?;
    master.ok_or_else(|| {
        let problem = "the sentinels do not know the master name in REDIS_URL";
        RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, problem))
    })
}

async fn connect_to_master(
    watched: &Watched,
    master: &(String, u16),
) -> RedisResult<MultiplexedConnection> {
    let mut connection = connect(watched.master(master).map_err(unreadable)?).await?;
    match redis::cmd("ROLE").query_async(&mut connection).await? {
        Role::Primary { .. } => Ok(connection),
        // A failover is under way and the sentinels have not told each other yet.
        _ => Err((ErrorKind::Io, "the server that the sentinels report is not a master").into()),
    }
}

fn unreadable(problem: String) -> RedisError {
    (ErrorKind::InvalidClientConfig, "a Redis address is not valid", problem).into()
}
