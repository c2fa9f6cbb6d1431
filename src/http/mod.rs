//! Request headers that both planes read in the same way.

pub mod bearer;
pub mod client_ip;
