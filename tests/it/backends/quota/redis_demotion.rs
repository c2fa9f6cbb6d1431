//! One address whose server becomes a replica while the connections to it stay open.

use crate::support::redis::Redis;
use crate::support::soon;
use crate::support::tcp_forward::TcpForward;
use quota::redis::connection::preflight;
use quota::redis::connection::{RedisConn, RedisUrls};

/// A primary and its replica, which is in step.
fn pair() -> (Redis, Redis) {
    let primary = Redis::start_with(&["--repl-diskless-sync-delay", "0"]);
    let replica = Redis::start();
    replica.follow(&primary);
    (primary, replica)
}

async fn connection(forward: &TcpForward) -> RedisConn {
    let url = format!("redis://{}", forward.addr);
    RedisConn::open(&RedisUrls::parse(&url).unwrap()).await.unwrap()
}

async fn add(connection: &RedisConn) -> redis::RedisResult<u64> {
    connection.send(redis::cmd("INCR").arg("sum")).await
}

#[tokio::test]
async fn connections_to_a_demoted_primary_are_replaced() {
    let (primary, replica) = pair();
    let forward = TcpForward::to(primary.port()).await;
    let connection = connection(&forward).await;
    assert_eq!(add(&connection).await.unwrap(), 1);
    let copied = || async { replica.command(&["get", "sum"]) == "bulk-string('\"1\"')" };
    soon("the replica has it", copied).await;
    replica.command(&["replicaof", "no", "one"]);
    primary.command(&["replicaof", "127.0.0.1", &replica.port().to_string()]);
    forward.switch(replica.port());
    soon("writes go to the new primary", || async { add(&connection).await.is_ok() }).await;
    assert_eq!(replica.command(&["get", "sum"]), "bulk-string('\"2\"')");
    let mut pipe = redis::pipe();
    connection.send_all(pipe.atomic().set("a", 1).set("b", 2)).await.unwrap();
}

#[tokio::test]
async fn a_replica_is_rejected_until_it_is_promoted() {
    let (primary, replica) = pair();
    let forward = TcpForward::to(primary.port()).await;
    let connection = connection(&forward).await;
    add(&connection).await.unwrap();
    preflight::takes_writes(&connection).await.unwrap();
    replica.command(&["replicaof", "no", "one"]);
    replica.follow(&primary);
    forward.switch(replica.port());
    primary.command(&["replicaof", "127.0.0.1", &replica.port().to_string()]);
    soon("the replica is recognised", || async {
        add(&connection).await.is_err_and(|e| e.to_string().contains("read-only replica"))
    })
    .await;
    let told = preflight::takes_writes(&connection).await.unwrap_err();
    assert!(
        told.contains("read-only replica") && told.contains("address of the primary"),
        "{told}"
    );
    // Nothing was told to the gateway: it finds out by itself.
    replica.command(&["replicaof", "no", "one"]);
    soon("writes are taken again", || async { add(&connection).await.is_ok() }).await;
}

#[tokio::test]
async fn a_primary_that_rejects_writes_is_detected() {
    let primary = Redis::start();
    let forward = TcpForward::to(primary.port()).await;
    let connection = connection(&forward).await;
    preflight::takes_writes(&connection).await.unwrap();
    primary.command(&["config", "set", "min-replicas-to-write", "1"]);
    let told = preflight::takes_writes(&connection).await.unwrap_err();
    assert!(told.contains("NOREPLICAS"), "{told}");
    primary.command(&["config", "set", "min-replicas-to-write", "0"]);
    preflight::takes_writes(&connection).await.unwrap();
}
