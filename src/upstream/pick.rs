//! In which order a call tries the upstreams of its model.
//!
//! Without weights: as configured. With weights each call draws an order by which an upstream comes
//! first in proportion to its weight, and the same key always draws the same one: an upstream that has
//! read a conversation before has its prompt cached (xAI's prompt-caching page). An upstream that comes
//! or goes moves only the keys that are its own (weighted rendezvous hashing).

use super::catalog::Route;
use sha2::{Digest, Sha256};

/// The routes in the order in which a call with this key tries them.
#[must_use]
pub fn order<'a>(routes: &'a [Route], key: &[u8]) -> Vec<&'a Route> {
    let mut order: Vec<&Route> = routes.iter().collect();
    if routes.iter().any(|route| route.weight.is_some()) {
        order.sort_by(|a, b| score(b, key).total_cmp(&score(a, key)));
    }
    order
}

/// The highest wins; the chance of that is in proportion to the weight.
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
#[path = "tests/pick.rs"]
mod tests;
