//! Upstreams that fail, refuse, stop or send what they should not.

mod upstream_fault_matrix;
mod upstream_errors;
mod upstream_failover;
mod upstream_tls;
mod stream_termination;
mod early_keepalive;
mod fallback_models;
mod unbounded_replies;
