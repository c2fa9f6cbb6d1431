//! Metrics: the handles, their labels, and what logs one outage once.

pub mod labels;
pub mod backlog;
pub mod outage;
pub mod metrics;
