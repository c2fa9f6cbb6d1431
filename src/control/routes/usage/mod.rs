//! Usage: live from the quota counters, past days from the rollups.

pub mod live;
pub mod daily;
pub mod monthly;
pub mod history;
pub mod receipt;
pub mod stats;
