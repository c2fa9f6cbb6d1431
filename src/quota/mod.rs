//! What a caller may still use: reserve before the call, extend while it runs, settle when it ends.
//!
//! Policy is [`rules`]: plan, key limits, need and `now` become debits. A back end
//! ([`counters::Counters`]) only knows "take all of these or none, remember the lease".

pub mod rules;
pub mod counters;
pub mod memory;
