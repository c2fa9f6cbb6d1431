//! Active health checks (`GET /models`) of upstreams, if configured: the breaker of one that is down opens
//! before a user request fails, and closes again when the upstream is back. Also closes idle
//! connections that will not be used again.

use super::InForce;
use super::breaker::Phase;
use super::connect::{Connections, Outgoing};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Method};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use system::clock;
use tokio_util::sync::CancellationToken;

/// How often it is looked whom to ask.
const ROUND: Duration = Duration::from_millis(250);
/// Rounds between two sweeps of idle connections: 5 s.
const SWEEP_ROUNDS: u32 = 20;
/// A sound upstream has its list of models sooner.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks, and sweeps idle connections, until `stop` is cancelled.
pub async fn run(upstreams: InForce, stop: CancellationToken) {
    let mut rounds = tokio::time::interval(ROUND);
    let mut asked: HashMap<Arc<str>, Instant> = HashMap::new();
    let mut round = 0_u32;
    while stop.run_until_cancelled(rounds.tick()).await.is_some() {
        let (now, upstreams) = (clock::instant(), upstreams.get());
        round = (round + 1) % SWEEP_ROUNDS;
        if round == 0 {
            upstreams.pools().for_each(|pool| pool.sweep_idle());
        }
        let is_due = |pool: &&Arc<Connections>| {
            let upstream = pool.upstream();
            let last = asked.get(&upstream.name);
            upstream.probe.is_some_and(|every| {
                last.is_none_or(|last| now.saturating_duration_since(*last) >= every)
            })
        };
        let due: Vec<_> = upstreams.pools().filter(is_due).cloned().collect();
        asked.extend(due.iter().map(|pool| (Arc::clone(&pool.upstream().name), now)));
        let probes = join_all(due.iter().map(probe));
        if stop.run_until_cancelled(probes).await.is_none() {
            return;
        }
    }
}

/// Asks one upstream and tells its breaker. That it has its list of models says nothing for one that is
/// asked anyway: its calls may fail all the same.
async fn probe(pool: &Arc<Connections>) {
    let is_asked = pool.breaker.phase(clock::instant()) == Phase::Closed;
    let Ok(trial) = pool.breaker.admit(clock::instant(), None) else { return };
    // One that is full is at work.
    let Some(place) = pool.places.take() else { return };
    let outgoing = Outgoing {
        method: Method::GET,
        path: "/models".into(),
        request: None,
        forwarded: HeaderMap::new(),
        body: Bytes::new(),
        sent: AtomicBool::new(false),
    };
    let answered = tokio::time::timeout(PATIENCE, pool.send_once(place, &outgoing)).await;
    let is_up = matches!(answered, Ok(Ok(exchange)) if !exchange.status().is_server_error());
    let now = clock::instant();
    match (is_up, is_asked) {
        (false, _) => {
            tracing::warn!(upstream = &*pool.upstream().name, "upstream probe failed");
            trial.failed(now, clock::chance(), None);
        }
        (true, false) => trial.succeeded(now),
        (true, true) => {}
    }
}
