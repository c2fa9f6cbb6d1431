//! A master that sentinels watch: found, followed, and found again when another has taken its place.
//!
//! One search is under way at a time and every command waits for the same one, so a failover costs
//! the sentinels a few questions a second however many calls there are.

use super::urls::Watched;
use super::{PATIENCE, tcp, timed_out};
use futures_util::future::{BoxFuture, FutureExt, Shared};
use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, FromRedisValue};
use redis::{Pipeline, RedisError, RedisResult, Role, ServerErrorKind};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{error::Elapsed, sleep, timeout};

/// A search may take longer than the commands that wait for it: those after them find it further on.
const SEARCH_PATIENCE: Duration = Duration::from_secs(2);
/// Between one search and the next.
const PAUSE: Duration = Duration::from_millis(50);

/// A handle to the connection; clones share it.
#[derive(Clone)]
pub struct Followed {
    watched: Arc<Watched>,
    search: Arc<Mutex<Search>>,
}

/// A search under way, or what it found.
#[derive(Clone)]
struct Search {
    /// Tells it from those before and after.
    number: u64,
    master: Shared<BoxFuture<'static, RedisResult<MultiplexedConnection>>>,
}

impl Followed {
    /// Searches when the first command asks.
    pub(super) fn new(watched: Watched) -> Self {
        let watched = Arc::new(watched);
        let master = find(Arc::clone(&watched)).boxed().shared();
        Self { watched, search: Arc::new(Mutex::new(Search { number: 0, master })) }
    }

    /// Sends a command.
    pub(super) async fn send<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let search = self.search().clone();
        let sent = async { command.query_async(&mut search.master.clone().await?).await };
        self.conclude(&search, timeout(PATIENCE, sent).await)
    }

    /// Sends commands to be carried out together.
    pub(super) async fn send_all(&self, commands: &Pipeline) -> RedisResult<()> {
        let search = self.search().clone();
        let sent = async { commands.query_async(&mut search.master.clone().await?).await };
        self.conclude(&search, timeout(PATIENCE, sent).await)
    }

    /// What became of a command; its failure may call for a new search.
    fn conclude<T>(
        &self,
        search: &Search,
        sent: Result<RedisResult<T>, Elapsed>,
    ) -> RedisResult<T> {
        let done = sent.unwrap_or_else(|_| Err(timed_out()));
        let is_over = match (search.master.peek(), &done) {
            // Still under way: it may yet find the master.
            (None, _) | (Some(Ok(_)), Ok(_)) => false,
            (Some(Ok(_)), Err(e)) => has_moved(e),
            (Some(Err(_)), _) => true,
        };
        if is_over {
            self.search_again(search.number);
        }
        done
    }

    /// Begins the search after `last`, unless somebody else has.
    fn search_again(&self, last: u64) {
        let mut search = self.search();
        if search.number == last {
            let watched = Arc::clone(&self.watched);
            let master = async move {
                sleep(PAUSE).await;
                find(watched).await
            };
            *search = Search { number: last + 1, master: master.boxed().shared() };
        }
    }

    fn search(&self) -> MutexGuard<'_, Search> {
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error is one that a server gives which is not the master any more.
fn has_moved(error: &RedisError) -> bool {
    let is_demoted = matches!(
        error.kind(),
        ErrorKind::Server(
            // What a replica says to a write, alone and in a transaction.
            ServerErrorKind::ReadOnly | ServerErrorKind::ExecAbort | ServerErrorKind::MasterDown
        )
    );
    // What a master says that was cut off from its replicas and told not to go on alone.
    let is_alone = error.code() == Some("NOREPLICAS");
    error.is_io_error() || error.is_unrecoverable_error() || is_demoted || is_alone
}

/// The server that most of the sentinels name. One sentinel alone may have been cut off together
/// with a master that the others have replaced: what is written there is lost.
async fn find(watched: Arc<Watched>) -> RedisResult<MultiplexedConnection> {
    let found = async {
        let asked = watched.sentinels.iter().map(|sentinel| master_by(&watched, sentinel));
        let mut answers: FuturesUnordered<_> = asked.collect();
        let needed = watched.sentinels.len() / 2 + 1;
        let mut votes: HashMap<(String, u16), usize> = HashMap::new();
        let mut problem = RedisError::from((ErrorKind::Io, "the sentinels name different masters"));
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(master) => {
                    let votes = votes.entry(master.clone()).or_default();
                    *votes += 1;
                    if *votes == needed {
                        return connect_to_master(&watched, &master).await;
                    }
                }
                Err(e) => problem = e,
            }
        }
        Err(problem)
    };
    timeout(SEARCH_PATIENCE, found).await.unwrap_or_else(|_| Err(timed_out()))
}

/// Host and port of the master as one sentinel knows it.
async fn master_by(watched: &Watched, sentinel: &(String, u16)) -> RedisResult<(String, u16)> {
    let [open, with_login] = watched.sentinel(sentinel).map_err(unreadable)?;
    match ask(open, &watched.name).await {
        // Sentinels need no login unless they are told to.
        Err(e) if e.code() == Some("NOAUTH") => ask(with_login, &watched.name).await,
        answered => answered,
    }
}

async fn ask(sentinel: ConnectionInfo, name: &str) -> RedisResult<(String, u16)> {
    let mut question = redis::cmd("SENTINEL");
    question.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
    let master: Option<(String, u16)> = question.query_async(&mut connect(sentinel).await?).await?;
    master.ok_or_else(|| {
        let problem = "a sentinel knows no master of the name in REDIS_URL";
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
        _ => Err((ErrorKind::Io, "the server the sentinels name is no master").into()),
    }
}

async fn connect(server: ConnectionInfo) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    Client::open(server.set_tcp_settings(tcp()))?
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

fn unreadable(problem: String) -> RedisError {
    (ErrorKind::InvalidClientConfig, "an address of Redis cannot be used", problem).into()
}
