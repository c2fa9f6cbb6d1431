//! Everything on the IPv6 loopback: what listens, what is asked, and what is printed.

use super::{Host, KNOCKX, Process, bare, stdout};
use crate::support::body;
use crate::support::http_client::Call;
use crate::support::postgres;
use crate::support::redis::Redis;
use crate::support::tcp_forward::TcpForward;
use quota::redis::connection::{RedisConn, RedisUrls};
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Stdio;

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_listens_on_ipv6() {
    let mut command = bare(KNOCKX);
    command.args(["demo", "--json", "--listen", "[::1]:0"]).env("RUST_LOG", "error");
    let mut demo = Process::spawn(command.stdout(Stdio::piped()));
    let (line, _) = demo.first_line();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let base = ready["base_url"].as_str().unwrap();
    let addr = base.strip_prefix("http://").unwrap().strip_suffix("/v1").unwrap();
    let addr: SocketAddr = addr.parse().unwrap();
    assert!(addr.is_ipv6(), "{base}");
    let call = Call::post(addr, "/v1/chat/completions").key(ready["api_key"].as_str().unwrap());
    assert_eq!(call.body(body("hello", "")).send().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_upstream_and_commands_runs_on_ipv6() {
    let host = Host::on("[::1]:0");
    host.configure("host = \"[::1]\"\nadmin_host = \"::1\"\nlistener.trusted_proxies = [\"[::1]\", \"fd00::/8\"]");
    let key = host.key();
    let serving = host.serve().await;
    assert!(serving.addr.is_ipv6() && serving.admin.is_ipv6());
    assert_eq!(serving.chat(&key, "").send().await.status, 200);
    assert!(host.run(&["healthcheck"]).status.success());
    let checked = host.run(&["check"]);
    let told = stdout(&checked);
    assert!(checked.status.success() && told.contains("([::1]:"), "{told}");
    let verified = host.run(&["usage", "verify"]);
    assert!(stdout(&verified).contains("counters, ledger and rollups agree"), "{verified:?}");
    serving.ends_well().await;
}

#[tokio::test]
async fn postgres_and_redis_are_reached_over_ipv6() {
    let fresh = postgres::fresh().await;
    let (server, database) = fresh.url.rsplit_once('/').unwrap();
    let port = server.rsplit_once(':').unwrap().1.parse().unwrap();
    let forward = TcpForward::from("[::1]:0", port).await;
    let url = format!("postgres://postgres@{}/{database}", forward.addr);
    assert!(url.contains("@[::1]:"), "{url}");
    let store = store::open(&postgres::database(&url)).await.unwrap();
    store.ping().await.unwrap();
    store.close().await;

    let redis = Redis::start();
    let forward = TcpForward::from("[::1]:0", redis.port()).await;
    let urls = RedisUrls::parse(&format!("redis://{}", forward.addr)).unwrap();
    let connection = RedisConn::open(&urls).await.unwrap();
    let pong: String = connection.send(&redis::cmd("PING")).await.unwrap();
    assert_eq!(pong, "PONG");
}
