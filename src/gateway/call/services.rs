//! What every call shares, from its admission to its settlement.

use crate::gateway::call::admission_queue::AdmissionQueue;
use crate::gateway::call::length_estimate::LengthEstimator;
use crate::gateway::call::reasoning_estimate::ReasoningEstimator;
use quota::backend::QuotaBackend;
use std::sync::Arc;
use telemetry::metrics::Metrics;
use tokio_util::task::TaskTracker;

/// The services that admit and settle calls. A reservation holds them, because it may outlive its connection.
pub struct CallServices {
    pub quota: Arc<dyn QuotaBackend>,
    pub metrics: Arc<Metrics>,
    /// Tasks that outlive a connection, but not the process.
    pub tasks: TaskTracker,
    pub reasoning: Arc<ReasoningEstimator>,
    pub lengths: Arc<LengthEstimator>,
    /// Notified of every call that returns its reservation.
    pub admission_queue: Arc<AdmissionQueue>,
}
