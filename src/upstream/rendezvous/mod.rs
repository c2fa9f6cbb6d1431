//! The order in which a call tries the upstreams of its model: weighted rendezvous hashing.
//!
//! Without weights the order is the configured one. With weights, an upstream comes first for a share of the
//! keys that is proportional to its weight, and a key always ranks the upstreams in the same way, so that
//! later prompts of a conversation reach the upstream that has its beginning cached (xAI's prompt-caching
//! page). Adding or removing an upstream moves only the keys that it ranks first for.

use super::catalog::Route;
use sha2::{Digest, Sha256};

/// Ranks the routes for the calls of one key, best first.
#[must_use]
pub fn rank<'a>(routes: &'a [Route], key: &[u8]) -> Vec<&'a Route> {
    let mut ranked: Vec<&Route> = routes.iter().collect();
    if routes.iter().any(|route| route.weight.is_some()) {
        ranked.sort_by(|a, b| score(b, key).total_cmp(&score(a, key)));
    }
    ranked
}

/// Score of a route; the probability of the highest is proportional to the weight.
fn score(route: &Route, key: &[u8]) -> f64 {
    let mut hash = Sha256::new();
    hash.update(route.upstream.name.as_bytes());
    hash.update([0]);
    hash.update(key);
    let bytes = hash.finalize();
    let [a, b, c, d, ..] = *bytes else { return 0.0 };
    let draw = (f64::from(u32::from_be_bytes([a, b, c, d])) + 0.5) / (f64::from(u32::MAX) + 1.0);
    -f64::from(route.weight.unwrap_or(1)) / draw.ln()
}

#[cfg(test)]
mod tests;
