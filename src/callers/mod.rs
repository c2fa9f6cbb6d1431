//! Who may call: the record behind a presented key, from this process's cache.
//!
//! The cache never waits for the store twice for the same key at once, remembers absent keys for
//! a short while, and drops a user's records when the user changes. Whether a record is still *current* is
//! decided where a reservation is taken: by `quota::user_versions`, or by the script in Redis.

pub mod cache;
pub mod open;
pub mod watch;
#[cfg(test)]
mod tests;
