//! The OpenAI wire format, as far as the gateway reads or writes it. Pure: no I/O, no clock.

pub mod request;
pub mod sse;
pub mod usage;
pub mod error;
