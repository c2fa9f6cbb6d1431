//! Who may call: the record behind a presented key, from this process's cache.
//!
//! The cache never waits for the store twice for the same key at once, remembers absent keys for
//! a short while, and forgets a user when told to. It is never asked whether a record is still
//! *current*: that is checked where a reservation is taken (`quota::versions`, or the script in Redis).

pub mod cache;
pub mod open;
pub mod watch;
#[cfg(test)]
mod tests;
