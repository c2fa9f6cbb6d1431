//! A master that sentinels replace, while commands go on.

use crate::support::redis::{Redis, Watched};
use quota::redis::connection::{RedisConn, RedisUrls};
use std::time::{Duration, Instant};

/// Sentinels take two seconds and more to agree; a busy machine needs longer.
const FAILOVER: Duration = Duration::from_secs(60);
/// What a command may take: 400 ms, and what a busy machine adds.
const AT_MOST: Duration = Duration::from_millis(1_500);
const WRITERS: u64 = 20;

async fn open(watched: &Watched) -> RedisConn {
    RedisConn::open(&RedisUrls::parse(&watched.url()).unwrap()).await.unwrap()
}

/// Adds one.
async fn add(connection: &RedisConn) -> redis::RedisResult<()> {
    let began = Instant::now();
    let done = connection.send(redis::cmd("INCR").arg("sum")).await;
    assert!(began.elapsed() < AT_MOST, "{:?}: {done:?}", began.elapsed());
    done
}

/// Whether commands go to this server.
async fn serves(redis: &Redis, connection: &RedisConn) -> bool {
    let info: redis::RedisResult<String> = connection.send(redis::cmd("INFO").arg("server")).await;
    info.is_ok_and(|info| info.contains(&format!("tcp_port:{}\r\n", redis.port())))
}

/// Adds from many tasks at once until the former replica takes it; says how often in all.
async fn add_until_moved(connection: &RedisConn, watched: &Watched) -> u64 {
    let writers = (0..WRITERS).map(|_| async {
        let mut tries = 0;
        loop {
            tries += 1;
            if add(connection).await.is_ok() && serves(&watched.replica, connection).await {
                return tries;
            }
        }
    });
    let all = tokio::time::timeout(FAILOVER, futures_util::future::join_all(writers));
    all.await.expect("commands work again").into_iter().sum()
}

/// Connections that were ever made to a server.
fn connections(redis: &Redis) -> u64 {
    let stats = redis.command(&["info", "stats"]);
    let (_, after) = stats.split_once("total_connections_received:").unwrap();
    after.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn commands_follow_a_failover() {
    let watched = Watched::start("");
    let connection = open(&watched).await;
    add(&connection).await.unwrap();
    assert!(serves(&watched.master, &connection).await);
    watched.sentinels[0].command(&["sentinel", "failover", "main"]);
    add_until_moved(&connection, &watched).await;
    add(&connection).await.unwrap();
    let mut pipe = redis::pipe();
    pipe.atomic().set("a", 1).set("b", 2);
    connection.send_all(&pipe).await.unwrap();
    assert_eq!(watched.replica.command(&["exists", "a", "b"]), "int(2)");
}

/// Else it goes on taking writes for some seconds, which are lost when it becomes a replica.
#[tokio::test]
async fn a_replaced_master_that_requires_a_replica_is_left_at_once() {
    let watched = Watched::start("");
    watched.master.command(&["config", "set", "min-replicas-to-write", "1"]);
    let connection = open(&watched).await;
    add(&connection).await.unwrap();
    watched.sentinels[0].command(&["sentinel", "failover", "main"]);
    add_until_moved(&connection, &watched).await;
}

#[tokio::test]
async fn commands_follow_when_the_master_dies_with_few_sentinel_queries() {
    let mut watched = Watched::start("hunter2");
    let connection = open(&watched).await;
    add(&connection).await.unwrap();
    watched.master.kill();
    let before = connections(&watched.sentinels[0]);
    let began = Instant::now();
    let tries = add_until_moved(&connection, &watched).await;
    let asked = connections(&watched.sentinels[0]) - before;
    // Two connections a search, since a login is needed, and 50 ms between searches; and the
    // sentinels' own.
    let searches = u64::try_from(began.elapsed().as_millis()).unwrap() / 50 + 1;
    assert!(asked <= 2 * searches + 20, "{asked} connections for {tries} commands");
}

#[tokio::test]
async fn commands_follow_when_the_master_stops_responding() {
    let watched = Watched::start("");
    let connection = open(&watched).await;
    add(&connection).await.unwrap();
    watched.master.freeze();
    add_until_moved(&connection, &watched).await;
}

#[tokio::test]
async fn a_master_without_a_sentinel_majority_is_not_followed() {
    let mut watched = Watched::start("");
    let elsewhere = watched.url().replace("/main", "/other");
    let elsewhere = RedisConn::open(&RedisUrls::parse(&elsewhere).unwrap()).await.unwrap();
    let told = add(&elsewhere).await.unwrap_err().to_string();
    assert!(told.contains("do not know the master name"), "{told}");

    watched.sentinels[1].kill();
    watched.sentinels[2].freeze();
    let connection = open(&watched).await;
    assert!(add(&connection).await.unwrap_err().is_io_error());
}
