//! The JSON that several routes share: field types of requests, and objects of replies.

pub mod announcement;
pub mod fields;
pub mod limits;
pub mod user;
pub mod plan;
pub mod upgrade;
pub mod key;
pub mod period;
pub mod usage;
pub mod qr_code;
