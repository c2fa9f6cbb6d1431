//! What the gateway itself sends: refusals, heads, the numbers in them.

pub mod refusal;
pub mod writer;
pub mod quota_numbers;
