//! Models and the servers that run them.

pub mod catalog;
pub mod connect;
