//! What the gateway itself sends: refusals, heads, the numbers in them.

pub mod refusal;
pub mod rejection;
pub mod writer;
pub mod budget;
pub mod quota_numbers;
