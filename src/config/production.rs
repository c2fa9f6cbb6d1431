//! What production refuses. Plain-HTTP upstreams are refused where upstreams are read.

use super::error::ConfigError;
use super::layers::Layers;
use super::{Config, Cors, Environment};
use std::collections::HashSet;

const SECRET_BYTES: usize = 32;
const PASSWORD_CHARS: usize = 12;

/// A secret of fewer different bytes is a pattern, not a secret.
const DIFFERENT_BYTES: usize = 8;

/// Parts of secrets that come from examples.
const WELL_KNOWN: [&str; 7] =
    ["change-me", "changeme", "change_me", "change-this", "your-secret", "your_secret", "example"];

/// Refuses what is fine on a laptop and not on the internet.
pub fn check(config: &Config, layers: &Layers) -> Result<(), ConfigError> {
    if config.environment == Environment::Development {
        return Ok(());
    }
    if config.secret_key.as_ref().is_some_and(|key| is_weak(key.expose())) {
        return Err(layers.find(|raw| &raw.secret_key)?.error(
            "`secret_key`: in production, SECRET_KEY must be at least 32 random bytes and not an \
example value; generate it with `openssl rand -hex 32`",
        ));
    }
    let password = config.first_admin.as_ref().map(|admin| admin.password.expose());
    if password.is_some_and(|p| p.chars().count() < PASSWORD_CHARS || is_well_known(p)) {
        return Err(layers.find(|raw| &raw.admin.password)?.error(
            "`admin.password`: in production, ADMIN_PASSWORD must have at least 12 characters and not be \
an example value",
        ));
    }
    if config.cors == Cors::Any {
        return Err(layers
            .find(|raw| &raw.cors.origins)?
            .error("`cors.origins`: in production, list the allowed origins instead of \"*\""));
    }
    Ok(())
}

fn is_weak(secret: &str) -> bool {
    let different: HashSet<u8> = secret.bytes().collect();
    secret.len() < SECRET_BYTES || different.len() < DIFFERENT_BYTES || is_well_known(secret)
}

fn is_well_known(secret: &str) -> bool {
    let secret = secret.to_lowercase();
    WELL_KNOWN.iter().any(|part| secret.contains(part))
}
