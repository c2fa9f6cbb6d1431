//! Identifiers. Each is its own type, so that one can never stand where another belongs.

use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use uuid::Uuid;

/// A user, as a `UUIDv7`: sorted by the time of registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub Uuid);

/// One call, as a `UUIDv7`. Written `req_` and 32 hex digits on the wire (`x-request-id`) and in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub Uuid);

/// The public part of an API key: 12 base62 characters, safe to log and to look up by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub Arc<str>);

/// A plan's stable name, such as `baby-free`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanId(pub Arc<str>);

/// One log-in, as a `UUIDv7`. Not a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub Uuid);

/// A one-time link, as a `UUIDv7`. Not a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkId(pub Uuid);

/// A request for another plan, as a `UUIDv7`: sorted by the time of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UpgradeId(pub Uuid);

/// A map by ids and names that no caller can choose, or only few at a time. Its hash is fast, and seeded per
/// process, but does not withstand keys that are chosen by one who knows the seed.
pub type IdMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// An identifier that does not read as one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a valid id")]
pub struct BadId(pub String);

/// A new `UUIDv7`: it sorts after the ones made before it.
pub fn sorted_by_time() -> Uuid {
    Uuid::now_v7()
}

impl UserId {
    /// A new id that sorts after the ones made before it.
    #[must_use]
    pub fn new() -> Self {
        Self(sorted_by_time())
    }
}

impl Default for UserId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for UserId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        Uuid::try_parse(text).map(Self).map_err(|_| BadId(text.to_owned()))
    }
}

impl RequestId {
    /// A new id that sorts after the ones made before it.
    #[must_use]
    pub fn new() -> Self {
        Self(sorted_by_time())
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "req_{}", self.0.simple())
    }
}

impl FromStr for RequestId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let hex = text.strip_prefix("req_").ok_or_else(|| BadId(text.to_owned()))?;
        Uuid::try_parse(hex).map(Self).map_err(|_| BadId(text.to_owned()))
    }
}

impl KeyId {
    /// Returns the id in the form that is stored and shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for KeyId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PlanId {
    /// Returns the id in the form that is stored and shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for PlanId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SessionId {
    /// Creates an id that is unique and sorts by time of creation.
    #[must_use]
    pub fn new() -> Self {
        Self(sorted_by_time())
    }
}

impl LinkId {
    /// A new id.
    #[must_use]
    pub fn new() -> Self {
        Self(sorted_by_time())
    }
}

impl Default for LinkId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for SessionId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        Uuid::try_parse(text).map(Self).map_err(|_| BadId(text.to_owned()))
    }
}

impl Default for SessionId {
    fn default() -> Self {
        Self::new()
    }
}

impl UpgradeId {
    /// A new id that sorts after the ones made before it.
    #[must_use]
    pub fn new() -> Self {
        Self(sorted_by_time())
    }
}

impl Default for UpgradeId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for UpgradeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for UpgradeId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        Uuid::try_parse(text).map(Self).map_err(|_| BadId(text.to_owned()))
    }
}
