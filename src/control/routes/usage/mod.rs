//! What was used: live from the counters, and from the rollups what has been.

pub mod live;
pub mod daily;
pub mod monthly;
pub mod history;
pub mod stats;
