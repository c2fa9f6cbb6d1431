//! What a caller may still use: take before the call, extend while it runs, settle when it ends.
//!
//! Policy is [`rules`]: caller, need and `now` become debits. A back end ([`backend::QuotaBackend`])
//! only knows "take all of these or none, remember the lease": [`memory`] keeps the numbers of
//! one process in a [`model`] and makes them durable through the journal. [`transferable`] lets another process
//! take those over while calls run; [`remote`] is how the old process then reaches them.
//!
//! Invariants: at every grant, used + reserved <= limit for each user-day and key-day; reserved is
//! the sum of the open leases; an admitted call ends in exactly one charge. Exposure, which is what
//! running calls hold and are likely to take yet, is counted too: at every admission used + exposure
//! <= limit, so that calls which run together do not starve one another in mid-answer.

pub mod rules;
pub mod remaining;
pub mod backend;
pub mod model;
pub mod versions;
pub mod memory;
pub mod remote;
pub mod transferable;
pub mod redis;
