//! Gateways restarted one after the other behind the balancer that the deployment ships.

use super::cluster::{Cluster, User};
use super::{LOOK, Process, Serving};
use crate::support::http_client::Call;
use crate::support::redis::free_port;
use crate::support::{body, soon};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Callers that call without a pause.
const CALLERS: usize = 12;
/// Between two calls of one caller, so that two cores can follow.
const PAUSE: Duration = Duration::from_millis(20);

/// HAProxy with `deploy/haproxy.cfg`, in which only addresses are changed, and the number of connections that
/// its process may not be allowed to have here.
fn balancer(folder: &Path, gateways: [SocketAddr; 2]) -> (Process, SocketAddr) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("deploy/haproxy.cfg")).unwrap();
    let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut own = text
        .replace("maxconn 20000", "maxconn 500")
        .replace("bind :8000", &format!("bind {addr}"))
        .replace("bind 127.0.0.1:8404", &format!("bind 127.0.0.1:{}", free_port()));
    for (number, gateway) in gateways.iter().enumerate() {
        let name = format!("gateway-{}", number + 1);
        let line = format!("server {name} {name}:8000");
        assert!(own.contains(&line), "{own}");
        own = own.replace(&line, &format!("server {name} {gateway}"));
    }
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, own).unwrap();
    let log = std::fs::File::create(folder.join("haproxy.log")).unwrap();
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f"]).arg(&file).stdout(log.try_clone().unwrap()).stderr(log);
    let spawned = command.spawn().expect("haproxy is needed: apt-get install haproxy");
    (Process(spawned), addr)
}

/// Calls through the balancer until `done`: streams and whole ones by turns. Returns how many were answered
/// in full, and what was said to the others.
async fn keep_calling(
    addr: SocketAddr,
    user: User,
    number: usize,
    done: Arc<AtomicBool>,
) -> (usize, Vec<String>) {
    let (mut answered, mut failed) = (0, Vec::new());
    while !done.load(Ordering::Acquire) {
        let is_stream = (answered + number).is_multiple_of(2);
        let members = if is_stream { r#","stream":true"# } else { "" };
        let call = Call::post(addr, "/v1/chat/completions").key(&user.key);
        let call = call.header("x-sim-tokens", "20").header("x-sim-token-ms", "5");
        match call.body(body("hello", members)).try_send().await {
            Some(reply)
                if reply.status == 200 && reply.whole && (!is_stream || reply.is_done()) =>
            {
                answered += 1;
            }
            Some(reply) => failed.push(format!("{} {}", reply.status, reply.text())),
            None => failed.push("no reply".to_owned()),
        }
        tokio::time::sleep(PAUSE).await;
    }
    (answered, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rolling_restart_behind_the_shipped_balancer_fails_no_call() {
    let cluster = Cluster::new().await;
    let mut gateways = vec![cluster.serve().await, cluster.serve().await];
    let addrs = [gateways[0].addr, gateways[1].addr];
    let user = cluster.user("ada", "wide");
    let (_balancer, addr) = balancer(cluster.host.folder.path(), addrs);
    soon("the balancer finds the gateways", || async {
        let reply = Call::get(addr, "/health/ready").try_send().await;
        reply.is_some_and(|reply| reply.status == 200)
    })
    .await;

    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| tokio::spawn(keep_calling(addr, user.clone(), number, Arc::clone(&done))))
        .collect();
    for _ in 0..2 {
        let leaving = gateways.remove(0);
        is_called(&leaving).await;
        is_called(&gateways[0]).await;
        let (public, admin) = (leaving.addr, leaving.admin);
        leaving.ends_well().await;
        gateways.push(cluster.serve_at(public, admin).await);
        is_called(&gateways[1]).await;
    }
    done.store(true, Ordering::Release);
    let mut answered = 0;
    for caller in callers {
        let (calls, failed) = caller.await.unwrap();
        let said = std::fs::read_to_string(cluster.host.folder.path().join("haproxy.log"));
        assert!(failed.is_empty(), "{failed:?}\n{}", said.unwrap_or_default());
        answered += calls;
    }
    assert!(answered > 100, "{answered} calls");
    cluster.rows(answered).await;
    cluster.books_agree();
    for gateway in gateways {
        gateway.ends_well().await;
    }
}

/// Waits until the balancer sends calls here.
async fn is_called(gateway: &Serving) {
    let before = gateway.metric("knockx_usage_admitted_total").await;
    soon("the balancer sends calls to it", || async {
        tokio::time::sleep(LOOK).await;
        gateway.metric("knockx_usage_admitted_total").await > before + 5.0
    })
    .await;
}
