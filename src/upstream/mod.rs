//! The upstreams of the gateway: their catalog, and a client for each.

pub mod breaker;
pub mod caller_rests;
pub mod catalog;
pub mod client;
pub mod concurrency;
pub mod cooldown;
pub mod drains;
pub mod exchange;
mod idle_pool;
pub mod probe;
pub mod recent_calls;
pub mod rendezvous;
pub mod retry_budget;
mod tap;

use breaker::Phase;
use catalog::Catalog;
use client::UpstreamClient;
use domain::id::IdMap;
use retry_budget::RetryBudget;
use std::sync::Arc;
use std::time::Instant;

/// A catalog with a client for each of its upstreams. Replaced whole on reload.
pub struct Upstreams {
    pub catalog: Catalog,
    clients: IdMap<Arc<str>, Arc<UpstreamClient>>,
    pub retry_budget: Arc<RetryBudget>,
}

/// Health and load of one upstream, as the admin API and metrics report it.
#[derive(Debug, Clone)]
pub struct UpstreamStatus {
    pub name: Arc<str>,
    pub phase: Phase,
    /// Consecutive failures.
    pub failures: u32,
    pub in_flight: u32,
    pub queued: usize,
}

impl Upstreams {
    /// Clients for every upstream of `catalog`; nothing is connected yet.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        let client = |upstream: &Arc<catalog::Upstream>| {
            (Arc::clone(&upstream.name), Arc::new(UpstreamClient::new(Arc::clone(upstream))))
        };
        let clients = catalog.upstreams.iter().map(client).collect();
        Self { catalog, clients, retry_budget: Arc::default() }
    }

    /// The upstreams of another catalog. An upstream whose settings are the same keeps its client: its
    /// connections, breaker, cooldowns and calls in flight.
    #[must_use]
    pub fn replaced_by(&self, catalog: Catalog) -> Self {
        let mut next = Self::new(catalog);
        for (name, client) in &mut next.clients {
            let current = self.clients.get(name);
            if let Some(current) = current.filter(|c| c.upstream() == client.upstream()) {
                *client = Arc::clone(current);
            }
        }
        next.retry_budget = Arc::clone(&self.retry_budget);
        next
    }

    /// Status of each upstream, in the order of the catalog.
    #[must_use]
    pub fn statuses(&self, now: Instant) -> Vec<UpstreamStatus> {
        let status = |client: &Arc<UpstreamClient>| {
            let (in_flight, queued) = client.limiter.count();
            let name = Arc::clone(&client.upstream().name);
            let (phase, failures) = (client.breaker.phase(now), client.breaker.failures());
            UpstreamStatus { name, phase, failures, in_flight, queued }
        };
        self.clients().map(status).collect()
    }

    /// The clients of all upstreams, in the order of the catalog.
    pub fn clients(&self) -> impl Iterator<Item = &Arc<UpstreamClient>> {
        self.catalog.upstreams.iter().filter_map(|upstream| self.client(&upstream.name))
    }

    /// The client of an upstream of the catalog.
    #[must_use]
    pub fn client(&self, upstream: &str) -> Option<&Arc<UpstreamClient>> {
        self.clients.get(upstream)
    }
}
