//! Which calls are admitted, and how far they may go.

mod limits;
pub mod concurrent_calls;
mod exactness;
mod plan_policies;
mod cached_tokens;
mod revocation;
