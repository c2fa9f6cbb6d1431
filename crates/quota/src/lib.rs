//! Quotas: tokens are taken before a call, extended while it runs, and settled when it ends.
//!
//! Policy is [`rules`]: caller, demand and `now` become debits. A back end ([`backend::QuotaBackend`])
//! only takes all debits or none, and stores the lease: [`memory`] stores the usage of
//! one process in a [`model`] and makes them durable through the journal. [`transferable`] lets another process
//! take those over while calls run; [`remote`] is how the old process then reaches them.
//!
//! Invariants: at every grant, used + reserved <= limit for each user-day and key-day; reserved is
//! the sum of the open leases; an admitted call ends in exactly one charge. Exposure, the tokens that
//! running calls have reserved and are expected to use, is counted too: at every admission used + exposure
//! <= limit, so that concurrent calls do not exhaust one another's quota in the middle of a response.

pub mod rules;
pub mod remaining;
pub mod backend;
pub mod model;
pub mod user_versions;
pub mod memory;
pub mod remote;
pub mod transferable;
pub mod redis;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
