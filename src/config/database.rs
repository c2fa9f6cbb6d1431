//! `DATABASE_URL`: which dialect, which server, and how safe the way to it has to be.

use super::error::ConfigError;
use super::layers::Layers;
use super::{Config, Database, Environment, Journal, PostgresServer};
use domain::secret::Secret;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

const SECRET_BYTES: usize = 32;

/// The store that is configured.
pub fn resolve(
    layers: &Layers,
    environment: Environment,
    has_neon_api: bool,
) -> Result<Database, ConfigError> {
    let url = layers.find(|raw| &raw.database.url)?;
    let durability = layers.value(|raw| &raw.database.durability)?;
    let text = url.value.expose();
    let scheme = ["postgres://", "postgresql://"].iter().find_map(|it| text.strip_prefix(it));
    if let Some(rest) = scheme {
        let address = Address::read(rest).ok_or_else(|| {
            url.error("`database.url`: expected postgres://USER:PASSWORD@HOST/DATABASE")
        })?;
        let connections = layers.value(|raw| &raw.database.connections)?.0;
        let server = address.server(environment, connections);
        return server.map(Database::Postgres).map_err(|problem| url.error(problem));
    }
    if has_neon_api {
        let sentence = "NEON_API_URL is set, but Neon's REST Data API has no transactions: \
                        set DATABASE_URL to the Postgres connection string of the same project";
        return Err(ConfigError::NotBuilt(sentence.to_owned()));
    }
    let path = text.strip_prefix("sqlite:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
    match path {
        Some(path) if !path.is_empty() && !path.contains([':', '?']) => {
            Ok(Database::Sqlite { path: PathBuf::from(path), durability })
        }
        _ => {
            Err(url
                .error("`database.url`: expected sqlite:PATH with a file path, or postgres://..."))
        }
    }
}

/// The journal of a gateway that keeps counters of its own; beside the database file unless it is named.
pub fn journal(layers: &Layers, database: &Database) -> Result<Journal, ConfigError> {
    let beside = database.folder().unwrap_or_else(|| Path::new("data"));
    let named = layers.value(|raw| &raw.database.journal)?;
    Ok(Journal {
        folder: named.map_or_else(|| beside.join("journal"), PathBuf::from),
        durability: layers.value(|raw| &raw.database.durability)?,
        max_backlog_bytes: layers.value(|raw| &raw.database.journal_bytes)?.0,
    })
}

/// A file's folder keeps a secret of its own; a server has no place for one.
pub fn check_secret(config: &Config, layers: &Layers) -> Result<(), ConfigError> {
    let is_long = |secret: &Secret| secret.expose().len() >= SECRET_BYTES;
    if matches!(config.database, Database::Sqlite { .. })
        || config.secret_key.as_ref().is_some_and(is_long)
    {
        return Ok(());
    }
    Err(layers.find(|raw| &raw.secret_key)?.error(
        "`secret_key`: with Postgres, set SECRET_KEY to at least 32 bytes, the same for all gateways and restarts; \
generate it with `openssl rand -hex 32`",
    ))
}

/// A Postgres URL after its scheme, in parts.
struct Address<'a> {
    /// User and password with their `@`, as written.
    login: &'a str,
    /// Host and port, as written.
    host_and_port: &'a str,
    database: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Address<'a> {
    fn read(rest: &'a str) -> Option<Self> {
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = place.split_once('/').unwrap_or((place, ""));
        let after_login = authority.rfind('@').map_or(0, |at| at + 1);
        let (login, host_and_port) = authority.split_at(after_login);
        let pair = |pair: &'a str| pair.split_once('=');
        let parameters: Option<Vec<_>> =
            query.split('&').filter(|text| !text.is_empty()).map(pair).collect();
        let address = Self { login, host_and_port, database, parameters: parameters? };
        (!address.host().is_empty()).then_some(address)
    }

    fn parameter(&self, names: &[&str]) -> Option<&'a str> {
        // As for the driver, the last one counts.
        self.parameters.iter().rev().find(|(name, _)| names.contains(name)).map(|(_, value)| *value)
    }

    fn host(&self) -> &'a str {
        if let Some(host) = self.parameter(&["host", "hostaddr"]) {
            return host;
        }
        match self.host_and_port.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or_default(),
            None => self.host_and_port.split(':').next().unwrap_or_default(),
        }
    }

    fn server(
        &self,
        environment: Environment,
        connections: u32,
    ) -> Result<PostgresServer, &'static str> {
        if self.parameter(&["statement-cache-capacity"]).is_some() {
            return Err(
                "statement-cache-capacity is not supported: without prepared statements a \
                        pooler can mix up answers",
            );
        }
        let mode = self.parameter(&["sslmode", "ssl-mode"]);
        let is_weak = mode.is_some_and(|mode| mode != "verify-full");
        if is_weak && environment == Environment::Production && !self.is_local() {
            return Err("in production, Postgres on another machine needs sslmode=verify-full");
        }
        let mode = mode.unwrap_or(if self.is_local() { "prefer" } else { "verify-full" });
        Ok(PostgresServer {
            url: Secret::new(&self.url(mode)),
            place: format!("{}/{}", self.host(), self.database),
            pooled: self.is_pooled(),
            connections,
        })
    }

    /// The URL that the driver is given: the driver cannot bind TLS channels, and warns about
    /// `channel_binding` with every connection.
    fn url(&self, mode: &str) -> String {
        let own = ["sslmode", "ssl-mode", "channel_binding"];
        let Self { login, host_and_port, database, .. } = self;
        // Without an authority there is no URL; `host` in the query stands above it.
        let host = if host_and_port.is_empty() { "localhost" } else { host_and_port };
        let mut url = format!("postgres://{login}{host}/{database}?sslmode={mode}");
        for (name, value) in self.parameters.iter().filter(|(name, _)| !own.contains(name)) {
            url.extend(["&", name, "=", value]);
        }
        url
    }

    /// A socket, or an address of this machine.
    fn is_local(&self) -> bool {
        let host = self.host();
        let is_socket = host.starts_with('/') || host.to_ascii_lowercase().starts_with("%2f");
        is_socket
            || host == "localhost"
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Neon calls the host of its pooler `ENDPOINT-pooler.REGION...`.
    fn is_pooled(&self) -> bool {
        self.host().split('.').next().is_some_and(|label| label.ends_with("-pooler"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(rest: &str, environment: Environment) -> Result<PostgresServer, &'static str> {
        Address::read(rest).expect("an address").server(environment, 8)
    }

    #[test]
    fn another_machine_is_reached_by_verified_tls_or_not_in_production() {
        for (rest, mode) in [
            ("u:p@db.example/d", "verify-full"),
            ("u:p@db.example/d?sslmode=require&channel_binding=require", "require"),
            ("u:p@127.0.0.1:5433/d", "prefer"),
            ("u:p@[::1]/d", "prefer"),
            ("u@localhost/d?sslmode=disable", "disable"),
            ("/d?host=/run/postgresql", "prefer"),
            ("u@%2Frun%2Fpostgresql/d", "prefer"),
        ] {
            let server = server(rest, Environment::Development).unwrap();
            let url = server.url.expose();
            assert!(url.contains(&format!("?sslmode={mode}")), "{rest}: {url}");
            assert!(!url.contains("channel_binding"), "{url}");
        }
        for mode in ["disable", "prefer", "require", "verify-ca"] {
            let rest = format!("u:p@db.example/d?sslmode={mode}");
            let refused = server(&rest, Environment::Production).unwrap_err();
            assert!(refused.contains("sslmode=verify-full"), "{refused}");
        }
        server("u:p@db.example/d?sslmode=verify-full", Environment::Production).unwrap();
        server("u:p@localhost/d?sslmode=disable", Environment::Production).unwrap();
    }

    #[test]
    fn a_pooler_is_known_by_its_name() {
        for (rest, pooled) in [
            ("u:p@ep-x-123-pooler.eu-central-1.aws.neon.tech/d", true),
            ("u:p@ep-x-123.eu-central-1.aws.neon.tech/d", false),
            ("u-pooler:p@ep-x.pooler.example/d-pooler", false),
        ] {
            assert_eq!(server(rest, Environment::Development).unwrap().pooled, pooled, "{rest}");
        }
    }

    #[test]
    fn the_place_tells_no_secret() {
        let server = server("user:p@ss@db.example:5/d?password=x", Environment::Development);
        let server = server.unwrap();
        assert_eq!(server.place, "db.example/d");
        assert!(!format!("{server:?}").contains("p@ss"));
    }

    #[test]
    fn what_is_no_address_or_turns_off_prepared_statements_is_refused() {
        assert!(Address::read("").is_none());
        assert!(Address::read("u:p@/d").is_none());
        assert!(Address::read("h/d?sslmode").is_none());
        let refused = server("h/d?statement-cache-capacity=0", Environment::Development);
        assert!(refused.unwrap_err().contains("prepared statements"));
    }
}
