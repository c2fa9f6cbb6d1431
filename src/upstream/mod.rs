//! Models and the servers that run them.

pub mod catalog;
pub mod connect;
pub mod idle;

use catalog::Catalog;
use connect::Connections;
use std::collections::HashMap;
use std::sync::Arc;

/// A catalog with a connection pool for each of its upstreams. Replaced whole on reload.
pub struct Upstreams {
    pub catalog: Catalog,
    pools: HashMap<Arc<str>, Arc<Connections>>,
}

impl Upstreams {
    /// Pools for every upstream of `catalog`; nothing is connected yet.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        let pool = |upstream: &Arc<catalog::Upstream>| {
            (Arc::clone(&upstream.name), Arc::new(Connections::new(Arc::clone(upstream))))
        };
        let pools = catalog.upstreams.iter().map(pool).collect();
        Self { catalog, pools }
    }

    /// The same for another catalog: an upstream that stays as it is keeps its connections, and
    /// its calls in flight stay counted.
    #[must_use]
    pub fn replaced_by(&self, catalog: Catalog) -> Self {
        let mut next = Self::new(catalog);
        for (name, pool) in &mut next.pools {
            if let Some(old) = self.pools.get(name).filter(|old| old.upstream() == pool.upstream())
            {
                *pool = Arc::clone(old);
            }
        }
        next
    }

    /// The pool of an upstream of the catalog.
    #[must_use]
    pub fn pool(&self, upstream: &str) -> Option<&Arc<Connections>> {
        self.pools.get(upstream)
    }
}
