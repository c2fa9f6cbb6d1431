//! The public keys that the provider signs its tokens with (RFC 7517).

use super::ProviderError;
use super::cache::Cached;
use super::http::{Client, Endpoint};
use http::StatusCode;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Shortest time between two fetches that unknown keys cause, however many tokens name one.
const REFRESH_INTERVAL: Duration = Duration::from_mins(1);
/// Keys of a set that are read; further ones are ignored.
const MAX_KEYS: usize = 100;

/// The keys of the provider, as they were last fetched.
#[derive(Default)]
pub(super) struct Keys {
    cached: Cached<KeySet>,
}

/// A set of keys that verify signatures.
struct KeySet(Vec<Key>);

struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    verifying: DecodingKey,
}

impl Keys {
    /// Checks that the provider publishes a key that can be used.
    pub async fn check(
        &self,
        client: &Client,
        endpoint: &Endpoint,
        now: Instant,
    ) -> Result<(), ProviderError> {
        let keys = self.cached.get(now, fetch(client, endpoint)).await?;
        let none = || ProviderError::Unavailable("the key set has no usable key".to_owned());
        if keys.0.is_empty() { Err(none()) } else { Ok(()) }
    }

    /// The key with this id for this algorithm. A set without it is fetched again, at most once a minute.
    pub async fn find(
        &self,
        client: &Client,
        endpoint: &Endpoint,
        (id, algorithm): (Option<&str>, Algorithm),
        now: Instant,
    ) -> Result<DecodingKey, ProviderError> {
        let keys = self.cached.get(now, fetch(client, endpoint)).await?;
        if let Some(key) = keys.find(id, algorithm) {
            return Ok(key);
        }
        let fetched = fetch(client, endpoint);
        let keys = self.cached.not_older_than(REFRESH_INTERVAL, now, fetched).await?;
        let unknown = || ProviderError::Rejected("the token names an unknown key".to_owned());
        keys.find(id, algorithm).ok_or_else(unknown)
    }
}

impl KeySet {
    /// Reads a set. Keys that cannot be used are left out.
    fn parse(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document = serde_json::from_slice(body).ok()?;
        let keys = document.keys.into_iter().take(MAX_KEYS);
        Some(Self(keys.filter_map(|key| Key::of(&serde_json::from_value(key).ok()?)).collect()))
    }

    /// The key with this id; without an id, the only one for the algorithm.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let mut suitable = self.0.iter().filter(|key| {
            key.algorithms.contains(&algorithm) && (id.is_none() || key.id.as_deref() == id)
        });
        let found = suitable.next()?;
        let is_clear = id.is_some() || suitable.next().is_none();
        is_clear.then(|| found.verifying.clone())
    }
}

impl Key {
    /// A key that verifies signatures; `None` for any other, such as a secret.
    fn of(jwk: &Jwk) -> Option<Self> {
        let usage = jwk.common.public_key_use.as_ref();
        if usage.is_some_and(|usage| *usage != PublicKeyUse::Signature) {
            return None;
        }
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa.algorithms().to_vec(),
            AlgorithmParameters::EllipticCurve(key) => match key.curve {
                EllipticCurve::P256 => vec![Algorithm::ES256],
                EllipticCurve::P384 => vec![Algorithm::ES384],
                _ => return None,
            },
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                vec![Algorithm::EdDSA]
            }
            _ => return None,
        };
        if let Some(named) = jwk.common.key_algorithm {
            let named = Algorithm::from_str(&named.to_string()).ok()?;
            algorithms.retain(|algorithm| *algorithm == named);
        }
        let verifying = DecodingKey::from_jwk(jwk).ok()?;
        (!algorithms.is_empty()).then(|| Self {
            id: jwk.common.key_id.clone(),
            algorithms,
            verifying,
        })
    }
}

async fn fetch(client: &Client, endpoint: &Endpoint) -> Result<KeySet, ProviderError> {
    let reply = client.get(endpoint, None).await?;
    let keys = (reply.status == StatusCode::OK).then(|| KeySet::parse(&reply.body)).flatten();
    let status = reply.status;
    keys.ok_or_else(|| ProviderError::Unavailable(format!("no key set, but a response {status}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(keys: &Value) -> KeySet {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    fn rsa(id: &str) -> Value {
        json!({ "kty": "RSA", "kid": id, "n": "sXch", "e": "AQAB" })
    }

    #[test]
    fn keys_are_found_by_id_and_algorithm() {
        let ec = json!({ "kty": "EC", "kid": "b", "crv": "P-256", "x": "AA", "y": "AA" });
        let keys = set(&json!([rsa("a"), ec]));
        assert!(keys.find(Some("a"), Algorithm::RS256).is_some());
        assert!(keys.find(Some("a"), Algorithm::ES256).is_none(), "another kind of key");
        assert!(keys.find(Some("b"), Algorithm::ES256).is_some());
        assert!(keys.find(Some("b"), Algorithm::ES384).is_none(), "another curve");
        assert!(keys.find(Some("c"), Algorithm::RS256).is_none());
        assert!(keys.find(None, Algorithm::RS256).is_some(), "the only one");
        assert!(set(&json!([rsa("a"), rsa("b")])).find(None, Algorithm::RS256).is_none());
    }

    #[test]
    fn what_verifies_no_signature_is_left_out() {
        let with = |key: &str, value: &str| {
            let mut rsa = rsa("a");
            rsa[key] = json!(value);
            rsa
        };
        let secret = json!({ "kty": "oct", "kid": "a", "k": "c2VjcmV0" });
        for other in [secret, with("use", "enc"), with("alg", "HS256"), with("kty", "x"), json!(7)]
        {
            assert!(set(&json!([other.clone()])).0.is_empty(), "{other}");
            let beside = set(&json!([other, rsa("good")]));
            assert!(beside.find(Some("good"), Algorithm::RS256).is_some());
        }
        for family in [Algorithm::HS256, Algorithm::HS512] {
            assert!(set(&json!([rsa("a")])).find(Some("a"), family).is_none());
        }
        let limited = set(&json!([with("alg", "RS512")]));
        assert!(limited.find(Some("a"), Algorithm::RS256).is_none());
        assert!(KeySet::parse(b"{}").is_none() && KeySet::parse(b"[]").is_none());
    }
}
