//! The JSON that several routes share: field types of requests, and objects of replies.

pub mod fields;
pub mod period;
pub mod usage;
