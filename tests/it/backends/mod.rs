//! Conformance: what every back end of the quota and of the store must do.

pub mod quota;
pub mod store;
