//! Active health checks (`GET /models`) of upstreams, if configured: the breaker of an upstream that is down
//! opens before a user request fails, and closes again when the upstream is back. Also closes idle
//! connections that will not be used again.

use super::Upstreams;
use super::breaker::Phase;
use super::client::{CallError, SendError, UpstreamClient, UpstreamRequest};
use super::recent_calls::Failure;
use arc_swap::ArcSwap;
use futures_util::future::join_all;
use http::Method;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use system::clock;
use tokio_util::sync::CancellationToken;

/// Time between two checks for upstreams whose probe is due.
const SCHEDULE_INTERVAL: Duration = Duration::from_millis(250);
/// Idle connections are swept every so many intervals: every 5 s.
const SWEEP_EVERY: u32 = 20;
/// A healthy upstream lists its models within this time.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Probes upstreams and sweeps idle connections until `stop` is cancelled.
pub async fn run(upstreams: Arc<ArcSwap<Upstreams>>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(SCHEDULE_INTERVAL);
    let mut probed: HashMap<Arc<str>, Instant> = HashMap::new();
    let mut tick = 0_u32;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let (now, upstreams) = (clock::instant(), upstreams.load_full());
        tick = (tick + 1) % SWEEP_EVERY;
        if tick == 0 {
            upstreams.clients().for_each(|client| client.sweep_idle());
        }
        let is_due = |client: &&Arc<UpstreamClient>| {
            let upstream = client.upstream();
            let last = probed.get(&upstream.name);
            upstream.probe.is_some_and(|interval| {
                last.is_none_or(|last| now.saturating_duration_since(*last) >= interval)
            })
        };
        let due: Vec<_> = upstreams.clients().filter(is_due).cloned().collect();
        probed.extend(due.iter().map(|client| (Arc::clone(&client.upstream().name), now)));
        let probing = join_all(due.iter().map(probe));
        if stop.run_until_cancelled(probing).await.is_none() {
            return;
        }
    }
}

/// Probes one upstream and reports to its breaker. While the breaker is closed a success is not reported: an
/// upstream that lists its models may still fail every call.
async fn probe(client: &Arc<UpstreamClient>) {
    let was_closed = client.breaker.phase(clock::instant()) == Phase::Closed;
    let Ok(call_permit) = client.breaker.try_acquire(clock::instant(), None) else { return };
    let request = UpstreamRequest {
        send_once: true,
        ..UpstreamRequest::without_body(Method::GET, "/models")
    };
    let problem = match client.try_call(request, tokio::time::sleep(PROBE_TIMEOUT)).await {
        Ok(exchange) if exchange.status().is_server_error() => {
            Some(("probe", Some(exchange.status().as_u16())))
        }
        Ok(_) => None,
        // An upstream at its concurrency limit is being used anyway.
        Err(CallError::Failed(SendError::Busy)) => return,
        Err(CallError::Failed(error)) => Some((error.as_str(), None)),
        Err(CallError::Cancelled { .. }) => Some(("probe_timeout", None)),
    };
    let now = clock::instant();
    match (problem, was_closed) {
        (Some((reason, status)), _) => {
            tracing::warn!(upstream = &*client.upstream().name, "upstream probe failed");
            client.recent.failed(Failure { at: clock::now(), reason, status });
            call_permit.failed(now, clock::chance(), None);
        }
        (None, false) => call_permit.succeeded(now),
        (None, true) => {}
    }
}
