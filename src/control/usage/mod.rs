//! What was used: live from the counters, and from the rollups what has been.

pub mod live;
pub mod period;
pub mod sums;
pub mod daily;
pub mod monthly;
pub mod history;
pub mod stats;
