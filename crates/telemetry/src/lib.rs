//! Metrics: the handles and their labels; outages, each logged once.

pub mod labels;
pub mod backlog;
pub mod outage;
pub mod metrics;
