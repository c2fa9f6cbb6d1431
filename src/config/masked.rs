//! The configuration in force as one line, with every secret masked.

use super::{Config, Cors, Database, PostgresServer};
use crate::upstream::catalog::Upstream;
use std::fmt;

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "environment={:?}", self.environment)?;
        match self.admin_addr {
            Some(addr) => write!(f, " admin={addr}")?,
            None => write!(f, " admin=off")?,
        }
        match &self.database {
            Database::Sqlite { path, durability } => {
                write!(f, " database=sqlite:{} durability={durability:?}", path.display())?;
            }
            Database::Postgres(server) => {
                let PostgresServer { place, connections, .. } = server;
                write!(f, " database=postgres://***@{place} connections={connections}")?;
            }
        }
        match &self.redis {
            Some(redis) => write!(f, " {redis:?}")?,
            None => write!(f, " redis=none")?,
        }
        let secret_key = self.secret_key.as_ref().map_or("generated", |_| "***");
        write!(f, " secret_key={secret_key} {:?} {:?}", self.listener, self.limits)?;
        match &self.cors {
            Cors::SameOrigin => write!(f, " cors=same-origin")?,
            Cors::Any => write!(f, " cors=*")?,
            Cors::Origins(origins) => write!(f, " cors={}", origins.join(","))?,
        }
        write!(f, " {:?} billing={:?}", self.accounts, self.billing)?;
        write!(f, " log_filter={:?}", self.log.filter)?;
        let upstreams = self.catalog.upstreams.iter().map(|u| upstream(u));
        let missing = self.missing_keys.iter().map(|m| format!("{} (key missing)", m.upstream));
        list(f, "upstreams", upstreams.chain(missing))?;
        list(f, "models", self.catalog.models.iter().map(|m| m.id.to_string()))?;
        list(f, "plans", self.plans.iter().map(|p| p.id.to_string()))?;
        let first_admin = self.first_admin.as_ref().map_or("none", |admin| &admin.email);
        write!(f, " first_admin={first_admin}")
    }
}

fn upstream(upstream: &Upstream) -> String {
    let Upstream { name, tls, host, port, base_path, .. } = upstream;
    let scheme = if *tls { "https" } else { "http" };
    let key = upstream.api_key.as_ref().map_or("none", |_| "***");
    format!("{name}={scheme}://{host}:{port}{base_path} key={key}")
}

fn list(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    items: impl Iterator<Item = String>,
) -> fmt::Result {
    write!(f, " {name}=[{}]", items.collect::<Vec<_>>().join(", "))
}
