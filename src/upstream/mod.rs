//! Models and the servers that run them.

pub mod breaker;
pub mod catalog;
pub mod connect;
pub mod drains;
pub mod exchange;
mod idle;
pub mod pick;
pub mod places;
pub mod probe;
pub mod rests;
pub mod retries;
mod tap;

use breaker::Phase;
use catalog::Catalog;
use connect::Connections;
use domain::id::IdMap;
use retries::Retries;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

/// A catalog with a connection pool for each of its upstreams. Replaced whole on reload.
pub struct Upstreams {
    pub catalog: Catalog,
    pools: IdMap<Arc<str>, Arc<Connections>>,
    pub retries: Arc<Retries>,
}

/// Those in force; clones share them.
#[derive(Clone)]
pub struct InForce(Arc<RwLock<Arc<Upstreams>>>);

impl InForce {
    /// Upstreams that the next call will use.
    #[must_use]
    pub fn new(upstreams: Upstreams) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(upstreams))))
    }

    /// Those that are in force now.
    #[must_use]
    pub fn get(&self) -> Arc<Upstreams> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts others in their place; returns these.
    pub fn replace(&self, catalog: Catalog) -> Arc<Upstreams> {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(held.replaced_by(catalog));
        Arc::clone(&held)
    }
}

/// How one upstream does.
#[derive(Debug, Clone)]
pub struct Condition {
    pub name: Arc<str>,
    pub phase: Phase,
    /// Failures one after the other, up to now.
    pub failures: u32,
    pub in_flight: u32,
    pub queued: usize,
}

impl Upstreams {
    /// Pools for every upstream of `catalog`; nothing is connected yet.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        let pool = |upstream: &Arc<catalog::Upstream>| {
            (Arc::clone(&upstream.name), Arc::new(Connections::new(Arc::clone(upstream))))
        };
        let pools = catalog.upstreams.iter().map(pool).collect();
        Self { catalog, pools, retries: Arc::default() }
    }

    /// The same for another catalog: an upstream that stays as it is keeps its connections, what is
    /// known of it, and its calls in flight stay counted.
    #[must_use]
    pub fn replaced_by(&self, catalog: Catalog) -> Self {
        let mut next = Self::new(catalog);
        for (name, pool) in &mut next.pools {
            if let Some(old) = self.pools.get(name).filter(|old| old.upstream() == pool.upstream())
            {
                *pool = Arc::clone(old);
            }
        }
        next.retries = Arc::clone(&self.retries);
        next
    }

    /// How each upstream does, in the order of the catalog.
    #[must_use]
    pub fn conditions(&self, now: Instant) -> Vec<Condition> {
        let condition = |pool: &Arc<Connections>| {
            let (in_flight, queued) = pool.places.count();
            let name = Arc::clone(&pool.upstream().name);
            let (phase, failures) = (pool.breaker.phase(now), pool.breaker.failures());
            Condition { name, phase, failures, in_flight, queued }
        };
        self.pools().map(condition).collect()
    }

    /// The pools of all upstreams, in the order of the catalog.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<Connections>> {
        self.catalog.upstreams.iter().filter_map(|upstream| self.pool(&upstream.name))
    }

    /// The pool of an upstream of the catalog.
    #[must_use]
    pub fn pool(&self, upstream: &str) -> Option<&Arc<Connections>> {
        self.pools.get(upstream)
    }
}
