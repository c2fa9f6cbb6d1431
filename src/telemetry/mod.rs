//! What operators see: metrics and logs.

pub mod labels;
pub mod metrics;
pub mod log;
