//! What a call costs, however it ends.

mod reported_usage;
mod missing_usage;
mod unusual_fields;
mod client_disconnects;
mod upstream_bill;
