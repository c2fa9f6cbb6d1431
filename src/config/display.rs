//! The configuration in force as `key=value`, with every secret masked.
//!
//! Most of it is read from the types' own `Debug`, so that a new key cannot be forgotten; secrets print
//! as `***` by their type ([`domain::secret::Secret`]).

use super::{Config, Cors, Database, Journal, PostgresServer};
use crate::upstream::catalog::Upstream;
use std::fmt;

/// The keys of one section of the config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub name: &'static str,
    /// `key=value`, with one space between two.
    pub values: String,
}

impl Config {
    /// The effective configuration, section by section.
    #[must_use]
    pub fn sections(&self) -> Vec<Section> {
        let admin = self.admin_addr.map_or_else(|| "off".to_owned(), |addr| addr.to_string());
        let secret_key = self.secret_key.as_ref().map_or("generated", |_| "***");
        let environment = format!("{:?}", self.environment).to_lowercase();
        let public_url = self.public_url.as_deref().unwrap_or("none");
        let general = format!(
            "environment={environment} public_url={public_url} admin={admin} secret_key={secret_key}"
        );
        let mail = self.mail.as_ref().map_or_else(|| "host=none".to_owned(), written);
        let oidc = self.oidc.as_ref().map_or_else(|| "issuer=none".to_owned(), written);
        let redis = self.redis.as_ref().map_or_else(|| "redis=none".to_owned(), written);
        let first_admin = self.first_admin.as_ref().map_or("none", |admin| &admin.email);
        let upstreams = self.catalog.upstreams.iter().map(|upstream| shown(upstream));
        let missing = self.missing_keys.iter().map(|m| format!("{}=key-missing", m.upstream));
        let upstreams: Vec<String> = upstreams.chain(missing).collect();
        let ids = |ids: Vec<&str>| format!("ids={}", ids.join(","));
        let models = self.catalog.models.iter().map(|model| &*model.id);
        let plans = self.plans.iter().map(|plan| plan.id.as_str());
        let section = |name, values| Section { name, values };
        vec![
            section("general", general),
            // Any page may call `/v1` where no origins are named.
            section("listener", written(&self.listener).replace("data_cors=none", "data_cors=*")),
            section("database", database(&self.database, &self.journal)),
            section("redis", redis),
            section("limits", written(&self.limits)),
            section("cors", format!("origins={}", origins(&self.cors))),
            section("accounts", written(&self.accounts)),
            section("accounts.oidc", oidc),
            section("mail", mail),
            section("billing", format!("mode={:?}", self.billing).to_lowercase()),
            section("telemetry", format!("log_filter={}", quoted(&self.log.filter))),
            section("admin", format!("email={first_admin}")),
            section("upstreams", upstreams.join(" ")),
            section("models", ids(models.collect())),
            section("plans", ids(plans.collect())),
        ]
    }
}

impl fmt::Display for Config {
    /// Writes one section per line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sections = self.sections();
        sections.iter().try_for_each(|Section { name, values }| writeln!(f, "[{name}] {values}"))
    }
}

fn database(database: &Database, journal: &Journal) -> String {
    let store = match database {
        Database::Sqlite { path, .. } => {
            format!("url={}", quoted(&format!("sqlite:{}", path.display())))
        }
        Database::Postgres(PostgresServer { place, connections, .. }) => {
            format!("url=postgres://***@{place} connections={connections}")
        }
    };
    let Journal { folder, durability, max_backlog_bytes } = journal;
    let durability = format!("{durability:?}").to_lowercase();
    let folder = quoted(&folder.display().to_string());
    format!("{store} durability={durability} journal={folder} journal_bytes={max_backlog_bytes}")
}

fn origins(cors: &Cors) -> String {
    match cors {
        Cors::SameOrigin => "same-origin".to_owned(),
        Cors::Any => "*".to_owned(),
        Cors::Origins(origins) => origins.join(","),
    }
}

fn shown(upstream: &Upstream) -> String {
    let Upstream { name, tls, host, port, base_path, .. } = upstream;
    let scheme = if *tls { "https" } else { "http" };
    let key = upstream.api_key.as_ref().map_or("none", |_| "***");
    format!("{name}={scheme}://{host}:{port}{base_path} {name}.api_key={key}")
}

/// Quotes a value that contains spaces.
fn quoted(value: &str) -> String {
    if value.is_empty() || value.contains([' ', '"', '=']) {
        format!("{value:?}")
    } else {
        value.to_owned()
    }
}

/// The fields of a struct as `key=value`, those of a struct in it as `key.key=value`.
pub(super) fn written<T: fmt::Debug>(value: &T) -> String {
    let text = format!("{value:?}");
    let mut pairs = Vec::new();
    Debugged { rest: &text }.value("", &mut pairs);
    pairs.join(" ")
}

/// Parser of the `Debug` output of structs, options, lists and plain values.
struct Debugged<'a> {
    rest: &'a str,
}

impl<'a> Debugged<'a> {
    /// Reads one value, and adds its pairs under `key`.
    fn value(&mut self, key: &str, pairs: &mut Vec<String>) {
        let word = self.word();
        // `Some(…)`, or a type around one value.
        if word.starts_with(|c: char| c.is_ascii_uppercase()) && self.take("(") {
            self.value(key, pairs);
            self.take(")");
        } else if self.take(" { ") {
            self.fields(key, pairs);
        } else {
            let value = self.rest_of(word);
            let value = if value == "None" { "none" } else { &value };
            pairs.push(format!("{key}={value}"));
        }
    }

    /// The whole of a plain value that begins with `word`: an address has brackets in its middle.
    fn rest_of(&mut self, word: &str) -> String {
        let mut value = word.to_owned();
        loop {
            let inside = self.inside();
            if inside.is_empty() {
                return value;
            }
            value.push_str(&inside);
            value.push_str(self.word());
        }
    }

    fn fields(&mut self, key: &str, pairs: &mut Vec<String>) {
        while !self.take(" }") && !self.rest.is_empty() {
            let Some((name, rest)) = self.rest.split_once(": ") else { return };
            self.rest = rest;
            let name = if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
            self.value(&name, pairs);
            self.take(", ");
        }
    }

    /// A text in quotes, or all up to what ends a value or begins its inside.
    fn word(&mut self) -> &'a str {
        let end = match self.rest.strip_prefix('"') {
            Some(text) => end_of_text(text).map(|end| end + 2),
            None => self.rest.find([',', ' ', '(', ')', '[', ']', '}', '{']),
        };
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    /// The bracketed text that follows, with its brackets and without spaces.
    fn inside(&mut self) -> String {
        let (mut depth, mut end) = (0_usize, 0);
        for (at, letter) in self.rest.char_indices() {
            match letter {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' if depth > 0 => depth -= 1,
                _ if depth == 0 => break,
                _ => {}
            }
            end = at + letter.len_utf8();
            if depth == 0 {
                break;
            }
        }
        let (inside, rest) = self.rest.split_at(end);
        self.rest = rest;
        inside.replace(", ", ",")
    }

    fn take(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}

/// Index of the quote that ends a text.
fn end_of_text(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.char_indices().find_map(|(at, letter)| {
        let ends = letter == '"' && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        ends.then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_from;
    use domain::secret::Secret;
    use std::collections::BTreeMap;
    use std::time::Duration;

    #[derive(Debug)]
    #[expect(dead_code, reason = "read by Debug")]
    struct Outer {
        bytes: usize,
        pause: Option<Duration>,
        none: Option<u32>,
        text: &'static str,
        secret: Secret,
        list: Vec<&'static str>,
        inner: Option<Inner>,
        place: std::net::SocketAddr,
        last: Inner,
    }

    #[derive(Debug)]
    #[expect(dead_code, reason = "read by Debug")]
    struct Inner {
        capacity: u32,
        empty: Vec<u8>,
    }

    #[test]
    fn a_struct_is_written_as_keys_and_values() {
        let inner = || Inner { capacity: 100, empty: Vec::new() };
        let outer = Outer {
            bytes: 65536,
            pause: Some(Duration::from_millis(500)),
            none: None,
            text: "a \"quoted\", { odd } text",
            secret: Secret::new("hunter2"),
            list: vec!["a", "b c"],
            inner: Some(inner()),
            place: "[::1]:8000".parse().unwrap(),
            last: inner(),
        };
        let expected = r#"bytes=65536 pause=500ms none=none text="a \"quoted\", { odd } text" secret=*** list=["a","b c"] inner.capacity=100 inner.empty=[] place=[::1]:8000 last.capacity=100 last.empty=[]"#;
        assert_eq!(written(&outer), expected);
    }

    #[test]
    fn every_section_is_keys_and_values_without_secrets() {
        let variables = [
            ("SECRET_KEY", "hunter2-hunter2-hunter2-hunter2-hunter2"),
            ("REDIS_URL", "redis://u:hunter2@127.0.0.1:6379/0"),
            ("DATABASE_URL", "postgres://u:hunter2@127.0.0.1/d"),
            ("ADMIN_EMAIL", "root@example.com"),
            ("ADMIN_PASSWORD", "hunter2-hunter2"),
            ("GROK_API_KEY", "hunter2"),
        ];
        let variables: BTreeMap<_, _> =
            variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let config = load_from(None, &variables).unwrap();
        for Section { name, values } in config.sections() {
            assert!(!values.contains("hunter2"), "{name}: {values}");
            assert!(!values.contains(" { ") && !values.contains("Some("), "{name}: {values}");
            for pair in values.split(' ') {
                assert!(pair.contains('='), "{name}: `{pair}` in {values}");
            }
        }
        let text = config.to_string();
        for pair in [
            "[limits] body_bytes=33554432 ",
            " window.capacity=100 ",
            " keepalive=75s ",
            "url=postgres://***@127.0.0.1/d",
            "xai=https://api.x.ai:443/v1 xai.api_key=***",
        ] {
            assert!(text.contains(pair), "no {pair:?} in {text}");
        }
    }
}
