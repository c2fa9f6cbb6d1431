//! The OpenAI wire format, as far as the gateway reads or writes it. Pure: no I/O, no clock.

pub mod surface;
pub mod request;
mod names;
mod bounds;
mod inspect;
mod tools;
pub mod prompt;
mod part;
pub mod media;
pub mod cursor;
mod splice;
pub mod sse;
pub mod follow;
pub mod chunk;
pub mod usage;
pub mod error;
mod complaint;
mod wording;
pub mod redact;
pub mod json;
