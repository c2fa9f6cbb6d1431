//! The layers of a configuration, each over the one before: defaults, file, variables.
//!
//! A key's value is the one in the last layer that has it; arrays of tables are replaced whole.

use super::error::{ConfigError, Origin};
use super::raw::Raw;
use super::value::Field;
use std::collections::BTreeMap;

/// The variables of a process.
pub type Environment = BTreeMap<String, String>;

/// The file compiled in as the first layer.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// All layers; a later one overrides an earlier one.
pub struct Layers(Vec<Layer>);

/// Configuration from one source.
pub struct Layer {
    pub origin: Origin,
    pub raw: Raw,
}

/// An effective value and the layer that sets it.
pub struct Setting<'a, T> {
    pub value: &'a T,
    layer: &'a Layer,
    span: std::ops::Range<usize>,
}

/// Short names of variables, and the keys they set.
const SHORT_NAMES: [(&str, &str); 16] = [
    ("ENVIRONMENT", "environment"),
    ("HOST", "host"),
    ("PORT", "port"),
    ("ADMIN_PORT", "admin_port"),
    ("SECRET_KEY", "secret_key"),
    ("DATABASE_URL", "database.url"),
    ("REDIS_URL", "redis.url"),
    ("RATE_LIMIT_REQUESTS", "limits.rate_limit_requests"),
    ("RATE_LIMIT_WINDOW", "limits.rate_limit_window"),
    ("CORS_ORIGINS", "cors.origins"),
    ("OIDC_CLIENT_SECRET", "accounts.oidc.client_secret"),
    ("SMTP_PASSWORD", "mail.password"),
    ("LOG_FORMAT", "telemetry.log_format"),
    ("RUST_LOG", "telemetry.log_filter"),
    ("ADMIN_EMAIL", "admin.email"),
    ("ADMIN_PASSWORD", "admin.password"),
];

/// Prefix of variables that name a key in full.
const PREFIX: &str = "KNOCKX__";

impl Layers {
    /// Reads the defaults, the file (name and text) and the variables.
    pub fn read(
        file: Option<(&str, &str)>,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let mut layers = vec![Layer::from_file("config/default.toml", DEFAULTS)?];
        if let Some((name, text)) = file {
            layers.push(Layer::from_file(name, text)?);
        }
        let by_short_name = |(short, key): &(&str, &str)| {
            let value = environment.get(*short)?;
            Some(Layer::from_variable(short, key, value))
        };
        for layer in SHORT_NAMES.iter().filter_map(by_short_name) {
            layers.extend(layer?);
        }
        for (name, value) in environment.range(PREFIX.to_owned()..) {
            let Some(rest) = name.strip_prefix(PREFIX) else { break };
            let key = rest.to_ascii_lowercase().replace("__", ".");
            layers.extend(Layer::from_variable(name, &key, value)?);
        }
        Ok(Self(layers))
    }

    /// The effective value with its position.
    pub fn find<T>(
        &self,
        pick: impl Fn(&Raw) -> &Option<Field<T>>,
    ) -> Result<Setting<'_, T>, ConfigError> {
        let found = self.0.iter().rev().find_map(|layer| {
            let field = pick(&layer.raw).as_ref()?;
            Some(Setting { value: &field.value, layer, span: field.span.clone() })
        });
        found.ok_or(ConfigError::NoDefault)
    }

    /// The effective value.
    pub fn value<T: Clone>(
        &self,
        pick: impl Fn(&Raw) -> &Option<Field<T>>,
    ) -> Result<T, ConfigError> {
        self.find(pick).map(|found| found.value.clone())
    }

    /// The last layer's list of tables.
    pub fn list<T>(&self, pick: impl Fn(&Raw) -> &Option<Vec<T>>) -> (&[T], &Origin) {
        let last = self.0.iter().rev().find_map(|l| Some((pick(&l.raw).as_ref()?, &l.origin)));
        last.map_or((&[], &self.0[0].origin), |(list, origin)| (list.as_slice(), origin))
    }
}

impl Layer {
    fn from_file(name: &str, text: &str) -> Result<Self, ConfigError> {
        let origin = Origin::File { name: name.to_owned(), text: text.to_owned() };
        match toml::from_str(text) {
            Ok(raw) => Ok(Self { origin, raw }),
            Err(error) => Err(origin.unreadable(error)),
        }
    }

    /// A variable is a file with one key. An empty one counts as not set: that is what
    /// `NAME: ${NAME:-}` in a compose file leaves behind.
    fn from_variable(name: &str, key: &str, value: &str) -> Result<Option<Self>, ConfigError> {
        if value.is_empty() {
            return Ok(None);
        }
        let origin = Origin::Variable(name.to_owned());
        let is_key = key.bytes().all(|b| b.is_ascii_lowercase() || b"_.".contains(&b));
        if !is_key || ["upstreams", "models", "plans"].iter().any(|t| key.starts_with(t)) {
            let problem = "it does not name a config key; upstreams, models and plans can only be set in a file";
            return Err(origin.error(&(0..0), problem));
        }
        let text = format!("{key} = {}", toml::Value::from(value));
        match toml::from_str(&text) {
            Ok(raw) => Ok(Some(Self { origin, raw })),
            Err(error) => Err(origin.unreadable(error)),
        }
    }
}

impl<T> Setting<'_, T> {
    /// The error for this value.
    pub fn error(&self, problem: impl Into<String>) -> ConfigError {
        self.layer.origin.error(&self.span, problem)
    }
}
