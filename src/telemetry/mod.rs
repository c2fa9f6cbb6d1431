//! What operators see: metrics and logs.

pub mod labels;
pub mod backlog;
pub mod outage;
pub mod metrics;
pub mod log;
mod masking;
